"""One open store folder, and snapshots of it for Python.

`core.hub.opening` says what a folder holds and what opening one takes; `open_environment` does it, under the locks that keep two
writers and a compaction apart.
"""

from libc.stdint cimport uint8_t, uint16_t, uint64_t
from libc.string cimport memcpy, memset
from posix.unistd cimport getpid

import fcntl
import os
import shutil

from core import limits
from core.errors import EngineFault, StoreCorrupt, StoreUnavailable
from core.hub.buffer cimport Buffer, buffer_free
from core.hub.databases import BY_CUSTOMER, DATABASES
from core.hub.lmdb cimport (
    MDB_CORRUPTED, MDB_NEXT, MDB_NOLOCK, MDB_NOMETASYNC, MDB_NOTFOUND, MDB_PANIC, MDB_RDONLY, MDB_SET_RANGE, MDB_cursor, MDB_dbi,
    MDB_env, MDB_envinfo, MDB_stat, MDB_txn, MDB_val, api, error_for,
)
from core.hub.opening import (
    FORMAT_VERSION, check_beginning, create, examine_folder, examine_pages, is_written, system_error, take_lock,
)
from core.hub.opening cimport check_format, handle, open_databases, open_env, upgrade
from core.hub.pages import examine
from core.hub.seal cimport broken_seal, sealing_of, unseal
from core.hub.snapshot cimport (
    SNAPSHOT_CLOSED, Handles, lies_within, rapport_counted, rapport_store, snapshot_close, snapshot_customer, snapshot_get,
    snapshot_open, snapshot_renew, snapshot_reset,
)
from core.hub.walking cimport walk

cdef enum:
    FREE_DATABASE = 0  # LMDB's own list of free pages

# Folders open in this process, by (device, inode): LMDB's locks do not survive a second open and close.
_open = {}


cdef int collect(const char* text, void* lines) noexcept:
    (<list>lines).append(text.decode(errors="replace"))
    return 0


cdef int number_databases(Environment environment) except -1:
    cdef MDB_dbi number
    for place, name in enumerate(DATABASES):
        number = handle(&environment.handles, name)[0]
        if number >= sizeof(environment.places):
            raise EngineFault(f"LMDB numbered the database {name} {number}")
        environment.places[number] = place
        environment.by_customer[number] = name in BY_CUSTOMER
        environment.sealing[number] = sealing_of(name)
    return 0


def open_environment(
    path: str, *, map_bytes: int = limits.MAP_BYTES, read_only: bool = False, meta: dict[bytes, bytes] | None = None
) -> Environment:
    """Open the store folder at `path`, creating it unless `read_only`; see the .pyi."""
    cdef Environment environment = Environment.__new__(Environment)
    cdef int dead = 0
    cdef MDB_env* probe
    environment.path = path
    if map_bytes < 1 << 16:
        raise StoreUnavailable(path, f"map_bytes {map_bytes} is less than 65536", "Leave it at its default.")
    map_bytes = -(-map_bytes // 4096) * 4096
    fresh = examine_folder(path, read_only)
    about = os.stat(path)
    identity = (about.st_dev, about.st_ino)
    if identity in _open:
        raise StoreUnavailable(path, "this process has it open already",
                               "Share the one Store; close it before opening it again.")
    if not read_only:
        environment.lock = take_lock(path, fresh)
    # A compaction exchanges data.mdb and lock.mdb in two steps under this lock: nobody may open one of each.
    guard = -1
    try:
        guard = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(guard, fcntl.LOCK_SH)
        if fresh and not os.path.exists(os.path.join(path, "data.mdb")):
            create(path, map_bytes, meta or {})
        # Looked at without a lock table first: a folder that is not ours is left as it was found. Not so beside a
        # live writer, who could reuse the pages being looked at.
        check_beginning(path)
        if environment.lock >= 0 or not is_written(path):
            examine_pages(path, True if environment.lock < 0 else read_only)
            probe = open_env(path, path, map_bytes, MDB_RDONLY | MDB_NOLOCK)
            try:
                check_format(probe, path, read_only)
            finally:
                api.env_close(probe)
        if not read_only and environment.lock < 0:
            environment.lock = take_lock(path, True)
        if not read_only:
            # Left by a compaction that was cut off: a second copy of everybody.
            shutil.rmtree(os.path.join(path, "making"), ignore_errors=True)
        environment.handles.env = open_env(path, path, map_bytes, MDB_RDONLY if read_only else 0)
        made_as = check_format(environment.handles.env, path, read_only)
        if made_as != FORMAT_VERSION:
            upgrade(environment.handles.env, path, made_as)
        if open_databases(environment.handles.env, &environment.handles, path, MDB_RDONLY, 0):
            raise StoreCorrupt(f"The store at {path}", "one of its databases is missing")
        number_databases(environment)
        if not read_only:
            environment.fill_table()
            # Slots of readers that were killed would keep old pages from being reused.
            api.reader_check(environment.handles.env, &dead)
    except BaseException:
        environment.abandon()
        raise
    finally:
        if guard >= 0:
            os.close(guard)
    environment.read_only = read_only
    environment.closed = False
    environment.pid = getpid()
    environment.identity = identity
    _open[identity] = path
    return environment


cdef class Environment:
    """One open store folder; see environment.pxd for what readers in C get from it."""

    def __cinit__(self):
        self.lock = -1
        self.table = -1
        self.closed = True
        memset(&self.noted, 0, sizeof(Buffer))

    def __dealloc__(self):
        buffer_free(&self.noted)

    def __init__(self):
        raise TypeError("open an Environment with open_environment()")

    cdef int check_usable(self) except -1:
        if self.closed:
            raise StoreUnavailable(self.path, "it was closed", "Open it again.")
        if self.pid != getpid():
            raise EngineFault("a store cannot be used in a forked child: open it there instead")
        return 0

    def abandon(self) -> None:
        """Free what was opened so far; for failures during opening."""
        if self.handles.env != NULL:
            api.env_close(self.handles.env)
            self.handles.env = NULL
        self.let_go()

    def let_go(self) -> None:
        """Close the files that LMDB does not know of; after it has closed its own."""
        if self.table >= 0:
            os.close(self.table)
            self.table = -1
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1

    def fill_table(self) -> None:
        """Give LMDB's table of readers its place on the disk now.

        It is a sparse file in memory: a reader whose slot lay in a part never touched ended the process by a signal when
        the disk was full.
        """
        try:
            self.table = os.open(os.path.join(self.path, "lock.mdb"), os.O_RDWR | os.O_CLOEXEC)
            os.posix_fallocate(self.table, 0, os.fstat(self.table).st_size)
        except OSError as error:
            raise system_error(error, "making room for lock.mdb", self.path) from error

    def verify(self) -> int:
        """Visit every key and value of the newest committed state; see the .pyi."""
        self.check_usable()
        if self.handles.standby != NULL:
            return walk(self.handles.standby, self.path)
        with self.reader():
            examine(self.path, values=True)
        return walk(self.handles.env, self.path)

    def reader(self) -> Reader:
        """A snapshot of the newest committed state."""
        return Reader(self)

    def leave_last(self, on: bool) -> None:
        """Whether LMDB leaves syncing the page that names the newest transaction to the next commit; see the .pyi."""
        self.check_usable()
        api.env_set_flags(self.handles.env, MDB_NOMETASYNC, on)

    def sync(self) -> None:
        """Make everything committed durable in data.mdb itself."""
        cdef int code
        self.check_usable()
        with nogil:
            code = api.env_sync(self.handles.env, 1)
        if code:
            raise error_for(code, "syncing it", self.path, True)

    def stop_writing(self) -> None:
        """After a failed write LMDB refuses its environment; open a read-only twin, into which snapshots move.

        Safe without a lock table: this process holds rapport.lock and writes no more, so no page is reused.
        """
        cdef Handles twin
        cdef MDB_env* standby
        self.check_usable()
        if self.handles.standby != NULL:
            return
        standby = open_env(self.path, self.path, self.map_bytes, MDB_RDONLY | MDB_NOLOCK)
        open_databases(standby, &twin, self.path, MDB_RDONLY, 0)
        for name in DATABASES:
            if handle(&twin, name)[0] != handle(&self.handles, name)[0]:
                api.env_close(standby)
                raise EngineFault("LMDB numbered the databases of the twin differently")
        rapport_store(<void**>&self.handles.standby, standby)

    @property
    def panicked(self) -> bool:
        """Whether LMDB refuses everything, reads too, because it could not write its meta page."""
        cdef MDB_txn* txn = NULL
        cdef int code
        self.check_usable()
        code = api.txn_begin(self.handles.env, NULL, MDB_RDONLY, &txn)
        if code == 0:
            api.txn_abort(txn)
        return code == MDB_PANIC

    @property
    def map_bytes(self) -> int:
        """Address space reserved, in bytes."""
        cdef MDB_envinfo info
        self.check_usable()
        api.env_info(self.handles.env, &info)
        return info.me_mapsize

    @property
    def snapshots(self) -> int:
        """Snapshots open now."""
        return rapport_counted(&self.handles.snapshots)

    def statistics(self) -> dict[str, int]:
        """Bytes in use, bytes of map, readers, the last transaction, and entries a database."""
        cdef MDB_envinfo info
        cdef MDB_stat pages
        cdef Reader reader
        self.check_usable()
        with self.reader() as opened:
            reader = opened
            api.env_info(self.handles.env, &info)
            found = {
                "map_bytes": info.me_mapsize, "used_bytes": 0, "readers": info.me_numreaders,
                "last_transaction": info.me_last_txnid, "page_bytes": 0,
            }
            for name in DATABASES:
                reader.check(api.stat(reader.snapshot.txn, handle(&self.handles, name)[0], &pages))
                found[f"{name}_entries"] = pages.ms_entries
            found["page_bytes"] = pages.ms_psize
            found["used_bytes"] = (info.me_last_pgno + 1) * pages.ms_psize
        return found

    def free_pages(self) -> int:
        """Pages that the next writes reuse once no reader needs them; see the .pyi."""
        cdef MDB_cursor* cursor
        cdef MDB_val key, value
        cdef size_t count
        cdef int code
        cdef Reader reader
        self.check_usable()
        total = 0
        with self.reader() as opened:
            reader = opened
            reader.check(api.cursor_open(reader.snapshot.txn, FREE_DATABASE, &cursor))
            try:
                code = api.cursor_get(cursor, &key, &value, MDB_NEXT)
                while code == 0:
                    # LMDB's list of pages begins with how many there are.
                    if value.mv_size >= sizeof(size_t):
                        memcpy(&count, value.mv_data, sizeof(size_t))
                        total += count
                    code = api.cursor_get(cursor, &key, &value, MDB_NEXT)
            finally:
                api.cursor_close(cursor)
        return total

    def clear_readers(self) -> int:
        """Free the slots of readers whose process ended without closing; how many there were."""
        cdef int dead = 0
        self.check_usable()
        api.reader_check(self.handles.env, &dead)
        return dead

    def readers(self) -> list:
        """(process, transaction read or None) of every slot in use."""
        lines = []
        self.check_usable()
        api.reader_list(self.handles.env, collect, <void*>lines)
        found = []
        for line in "".join(lines).splitlines():
            words = line.split()
            if len(words) == 3 and words[0].isdigit():
                found.append((int(words[0]), int(words[2]) if words[2].isdigit() else None))
        return found

    def close(self) -> None:
        """Close it. Every snapshot must be closed before; closing twice does nothing."""
        if self.closed:
            return
        if self.pid == getpid():
            if self.snapshots:
                raise EngineFault(f"{self.snapshots} snapshots of the store at {self.path} are still open")
            if self.handles.standby != NULL:
                api.env_close(self.handles.standby)
                self.handles.standby = NULL
            api.env_close(self.handles.env)
            self.handles.env = NULL
        self.closed = True
        _open.pop(self.identity, None)
        self.let_go()


cdef class Reader:
    """A snapshot for Python. Bytes that it returns are copies."""

    def __cinit__(self, Environment environment not None):
        environment.check_usable()
        self.environment = environment
        self.check(snapshot_open(&self.snapshot, &environment.handles))

    def __dealloc__(self):
        # In a forked child the slot in the table of readers is still the parent's.
        if self.environment is not None and self.environment.pid == getpid():
            snapshot_close(&self.snapshot)

    cdef int check(self, int code) except -1:
        if code == SNAPSHOT_CLOSED:
            raise EngineFault("this reader was closed or reset")
        if code:
            raise error_for(code, "reading", self.environment.path, False)
        return 0

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self) -> None:
        """Free the snapshot."""
        snapshot_close(&self.snapshot)

    def renew(self) -> None:
        """Move to the newest committed state."""
        self.check(snapshot_renew(&self.snapshot))

    def reset(self) -> None:
        """Let go of the state; `renew` before the next read."""
        snapshot_reset(&self.snapshot)

    def get(self, str database not None, bytes key not None):
        """The value's bytes, or None."""
        cdef MDB_val wanted, found
        cdef const uint8_t* data
        cdef const char* start = key
        cdef MDB_dbi number = handle(&self.environment.handles, database)[0]
        cdef int code = snapshot_get(&self.snapshot, number, start, len(key), &data, &found.mv_size)
        if code == MDB_NOTFOUND:
            return None
        self.check(code)
        wanted.mv_data = <void*>start
        wanted.mv_size = len(key)
        found.mv_data = <void*>data
        if unseal(self.environment.sealing[number], &wanted, &found):
            raise broken_seal(database)
        return data[:found.mv_size]

    def get_customer(self, str database not None, uint64_t customer):
        """The value of a customer id, or None."""
        return self.get(database, (<char*>&customer)[:8])

    def customer(self, uint16_t namespace, bytes value not None):
        """The customer id of a normalised identifier, or None."""
        cdef uint64_t found = 0
        cdef const char* start = value
        cdef int code = snapshot_customer(&self.snapshot, namespace, start, len(value), &found)
        if code == MDB_NOTFOUND:
            return None
        self.check(code)
        return found

    def items(self, str database not None, bytes start=b""):
        """(key, value) pairs in key order from `start`, one by one; the reader must stay open."""
        cdef bytes position = start
        cdef bint inclusive = True
        while True:
            page = self.page(database, position, inclusive, 256)
            yield from page
            if len(page) < 256:
                return
            position = page[len(page) - 1][0]
            inclusive = False

    def page(self, str database not None, bytes start not None, bint inclusive, int count):
        """Up to `count` (key, value) pairs from `start` on, with or without it."""
        cdef MDB_cursor* cursor
        cdef MDB_val key, value
        cdef int code
        cdef const char* first = start
        cdef MDB_dbi number = handle(&self.environment.handles, database)[0]
        if not self.snapshot.live:
            self.check(SNAPSHOT_CLOSED)
        self.check(api.cursor_open(self.snapshot.txn, number, &cursor))
        found = []
        try:
            key.mv_data = <void*>first
            key.mv_size = len(start)
            code = api.cursor_get(cursor, &key, &value, MDB_SET_RANGE if start else MDB_NEXT)
            while code == 0 and len(found) < count:
                if (
                    not lies_within(&key, self.environment.handles.page_bytes)
                    or not lies_within(&value, self.environment.handles.page_bytes)
                ):
                    code = MDB_CORRUPTED
                    break
                name = (<const char*>key.mv_data)[:key.mv_size]
                if unseal(self.environment.sealing[number], &key, &value):
                    raise broken_seal(database)
                if inclusive or name != start:
                    found.append((name, (<const char*>value.mv_data)[:value.mv_size]))
                code = api.cursor_get(cursor, &key, &value, MDB_NEXT)
            if code != MDB_NOTFOUND:
                self.check(code)
        finally:
            api.cursor_close(cursor)
        return found

    def count(self, str database not None):
        """Entries of a database."""
        cdef MDB_stat pages
        if not self.snapshot.live:
            self.check(SNAPSHOT_CLOSED)
        self.check(api.stat(self.snapshot.txn, handle(&self.environment.handles, database)[0], &pages))
        return pages.ms_entries
