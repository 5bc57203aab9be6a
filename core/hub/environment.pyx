"""Opens, creates, locks and closes a store folder.

A folder holds `data.mdb` (all data), `lock.mdb` (LMDB's table of readers) and `rapport.lock`. The last is held with
flock by the process that writes, so a second server on the same folder is refused instead of writing beside the
first; other processes may read.

A store is created in a sub-folder `making` and moved into place when its first transaction is durable, so a folder
holds a whole store or none; leftovers of a creation that was cut off are removed by the next one. A folder with
anything else in it is never touched.

A store of an earlier format is brought to this one by its first writing open, in one transaction, so it is of one format or
the other whatever happens meanwhile; a process that only reads is told to have that done first.

LMDB is opened without WRITEMAP (a stray pointer cannot damage the file), with NOTLS (a snapshot belongs to its
owner, not to a thread) and without read-ahead (profiles are read at random). Commits are synchronous; beside a journal
(core/hub/journal.py), which then holds the last one, LMDB leaves the page that names it to the next commit's sync.

A transaction notes its changes in a buffer of the environment while it makes them, for the journal to write before they
are committed.
"""

from cpython.buffer cimport PyBUF_READ
from libc.errno cimport ENOMEM
from libc.string cimport memcmp, memset
from posix.unistd cimport getpid

import errno
import fcntl
import os
import shutil
import stat as status
import struct
import time

import msgspec

from core import limits
from core.durable import sync_folder
from core.errors import EngineFault, StoreCorrupt, StoreReadOnly, StoreUnavailable
from core.hub import case_details, sources
from core.hub.pages import examine
from core.hub.databases import ADDED, BY_CUSTOMER, DATABASES
from core.hub.lmdb cimport (
    MDB_APPEND, MDB_CORRUPTED, MDB_CREATE, MDB_INTEGERKEY, MDB_INVALID, MDB_NEXT, MDB_NOLOCK, MDB_NOMETASYNC, MDB_NORDAHEAD,
    MDB_NOTLS, MDB_SET_RANGE, MDB_envinfo, MDB_stat, error_for,
)
from core.hub.contacts cimport ContactList, contacts_open
from core.hub.membership cimport Members, Membership, is_household, members_open, membership_open, record_name
from core.hub.events cimport EventHeader, EventList, event_read, events_open
from core.hub.buffer cimport buffer_append, buffer_free, buffer_reserve
from core.hub.record cimport FAULT_BOUNDS, FAULT_NONE, RecordView, damaged, rapport_crc32c, record_open
from core.hub.seal cimport SEAL_ALL, SEAL_BYTES, SEAL_NONE, is_format, seal_of, sealing_of, unseal

cdef extern from "Python.h":
    object PyMemoryView_FromMemory(char* memory, Py_ssize_t size, int flags)

FORMAT_VERSION = 4
OLDEST_FORMAT = 1
# From this one on entries are sealed.
SEALED_FORMAT = 4
# LMDB begins with two pages that say what the file holds, in turn; no page is smaller than this.
BEGINNING_BYTES = 2 * 4096
# The pages of a file up to this are looked at before LMDB follows them: some 10 ms. Those of a larger one are after the start.
EXAMINED_BYTES = 64 << 20
# A process that looks whether anybody writes holds rapport.lock for microseconds; a server that starts tries so often.
LOCK_TRIES = 3

cdef enum:
    # A value of fewer bytes is noted whole; of larger ones the beginning is given anew, for it holds counts and a checksum.
    PATCH_FROM = 256
    PATCH_HEAD = 64
    # What is kept allocated for notes between transactions; an import's take more.
    NOTED_KEPT = 16 << 20

cdef enum:
    FREE_DATABASE = 0  # LMDB's own list of free pages
    MAIN_DATABASE = 1  # LMDB's own list of databases

# Folders open in this process, by (device, inode): LMDB's locks do not survive a second open and close.
_open = {}


cdef MDB_dbi* handle(Handles* handles, str name) except NULL:
    if name == "profiles":
        return &handles.profiles
    if name == "contacts":
        return &handles.contacts
    if name == "events":
        return &handles.events
    if name == "identifiers":
        return &handles.identifiers
    if name == "catalog":
        return &handles.catalog
    if name == "meta":
        return &handles.meta
    if name == "programs":
        return &handles.programs
    if name == "origins":
        return &handles.origins
    if name == "cases":
        return &handles.cases
    if name == "households":
        return &handles.households
    if name == "memberships":
        return &handles.memberships
    raise EngineFault(f"there is no database '{name}'")


cdef bytes with_seal(int sealing, bytes key, bytes value):
    """The value as it is stored."""
    if sealing == SEAL_ALL and is_format(<const char*>key, len(key)):
        return value
    return value + struct.pack("<I", seal_of(sealing, <const char*>key, len(key), <const char*>value, len(value)))


cdef object broken_seal(str name):
    return StoreCorrupt(f"An entry of {name}", "its checksum does not match its bytes")


cdef MDB_env* open_env(str folder, str shown, size_t map_bytes, unsigned int flags) except NULL:
    """LMDB's own open; `shown` is the path errors name."""
    cdef MDB_env* env
    cdef bytes raw = os.fsencode(folder)
    cdef int code = api.env_create(&env)
    if code:
        raise error_for(code, "making an environment", shown, False)
    code = api.env_set_mapsize(env, map_bytes)
    if not code:
        code = api.env_set_maxdbs(env, len(DATABASES))
    if not code:
        code = api.env_set_maxreaders(env, limits.READERS)
    if not code:
        code = api.env_open(env, raw, flags | MDB_NOTLS | MDB_NORDAHEAD, 0o600)
    if code == MDB_INVALID:
        api.env_close(env)
        raise StoreUnavailable(shown, "data.mdb is not an LMDB file, or its first pages are damaged",
                               "Restore the store from a backup, or choose another folder.")
    if code:
        api.env_close(env)
        raise error_for(code, "opening data.mdb", shown, False)
    return env


cdef int open_databases(
    MDB_env* env, Handles* handles, str shown, unsigned int txn_flags, unsigned int flags
) except -1:
    """Open every database by name; MDB_NOTFOUND is returned when one is not there, 0 otherwise."""
    cdef MDB_txn* txn
    cdef MDB_stat pages
    cdef bytes raw
    cdef int code = api.txn_begin(env, NULL, txn_flags, &txn)
    if code:
        raise error_for(code, "opening databases", shown, False)
    api.stat(txn, MAIN_DATABASE, &pages)
    handles.page_bytes = pages.ms_psize
    for name in DATABASES:
        raw = name.encode()
        code = api.dbi_open(txn, raw, flags | (MDB_INTEGERKEY if name in BY_CUSTOMER else 0), handle(handles, name))
        if code:
            api.txn_abort(txn)
            if code == MDB_NOTFOUND:
                return code
            raise error_for(code, f"opening database {name}", shown, False)
    code = api.txn_commit(txn)
    if code:
        raise error_for(code, "opening databases", shown, not txn_flags & MDB_RDONLY)
    return 0


cdef int check_format(MDB_env* env, str shown, bint read_only) except -1:
    """The format of this store of ours: this release's, or one that a writing open may bring to it."""
    cdef MDB_txn* txn
    cdef MDB_dbi meta
    cdef MDB_val key, value
    cdef object found = None
    cdef int code = api.txn_begin(env, NULL, MDB_RDONLY, &txn)
    if code:
        raise error_for(code, "reading its format", shown, False)
    try:
        code = api.dbi_open(txn, b"meta", 0, &meta)
        if code == 0:
            key.mv_data = <void*><const char*>b"format"
            key.mv_size = 6
            code = api.get(txn, meta, &key, &value)
            if code == 0 and value.mv_size <= 16:
                try:
                    found = msgspec.msgpack.decode((<const char*>value.mv_data)[:value.mv_size])
                except msgspec.DecodeError:
                    found = None
    finally:
        api.txn_abort(txn)
    if code and code != MDB_NOTFOUND:
        raise error_for(code, "reading its format", shown, False)
    if not isinstance(found, int):
        raise StoreUnavailable(shown, "it holds an LMDB environment that Rapport did not make",
                               "Choose an empty or new folder.")
    if not OLDEST_FORMAT <= found <= FORMAT_VERSION:
        raise StoreUnavailable(
            shown, f"its format is {found}; this Rapport reads formats {OLDEST_FORMAT} to {FORMAT_VERSION}",
            "Use the release that made it, or import the data into a new store.",
        )
    if found != FORMAT_VERSION and read_only:
        raise StoreUnavailable(
            shown, f"its format is {found}, and opened for reading only it cannot be brought to format {FORMAT_VERSION}",
            "Start the server on it once.",
        )
    return found


cdef int seal_all(MDB_txn* txn, MDB_dbi database) except? -1:
    """Seal the entries of a database that have no seal yet; 0 or LMDB's code."""
    cdef MDB_cursor* cursor
    cdef MDB_val key, value
    cdef bytes name, data
    cdef int code = api.cursor_open(txn, database, &cursor)
    if code:
        return code
    names = []
    try:
        code = api.cursor_get(cursor, &key, &value, MDB_NEXT)
        while code == 0:
            names.append((<const char*>key.mv_data)[:key.mv_size])
            code = api.cursor_get(cursor, &key, &value, MDB_NEXT)
    finally:
        api.cursor_close(cursor)
    if code != MDB_NOTFOUND:
        return code
    for name in names:
        key.mv_data = <void*><const char*>name
        key.mv_size = len(name)
        code = api.get(txn, database, &key, &value)
        if code:
            return code
        data = with_seal(SEAL_ALL, name, (<const char*>value.mv_data)[:value.mv_size])
        value.mv_data = <void*><const char*>data
        value.mv_size = len(data)
        code = api.put(txn, database, &key, &value, 0)
        if code:
            return code
    return 0


cdef int upgrade(MDB_env* env, str shown, int found) except -1:
    """Bring a store of the format `found` to this one: what is missing is added, and the format noted, in one transaction.

    Nothing about customers is written anew, so it takes no time however many there are, and a failure leaves the store as it
    was. What undo keeps is, and so are programs.
    """
    cdef MDB_txn* txn
    cdef MDB_dbi database
    cdef MDB_dbi meta = 0
    cdef MDB_val key, value
    cdef bytes data = msgspec.msgpack.encode(FORMAT_VERSION)
    cdef int code = api.txn_begin(env, NULL, 0, &txn)
    if code:
        raise error_for(code, "bringing it to this format", shown, True)
    for name in DATABASES:
        raw = name.encode()
        code = api.dbi_open(
            txn, raw, (MDB_CREATE if name in ADDED else 0) | (MDB_INTEGERKEY if name in BY_CUSTOMER else 0), &database)
        if code:
            break
        if name == "meta":
            meta = database
        if found < SEALED_FORMAT and sealing_of(name) == SEAL_ALL:
            code = seal_all(txn, database)
            if code:
                break
    if not code:
        key.mv_data = <void*><const char*>b"format"
        key.mv_size = 6
        value.mv_data = <void*><const char*>data
        value.mv_size = len(data)
        code = api.put(txn, meta, &key, &value, 0)
    if code:
        api.txn_abort(txn)
    else:
        with nogil:
            code = api.txn_commit(txn)
    if code == MDB_NOTFOUND:
        raise StoreCorrupt(f"The store at {shown}", "one of its databases is missing")
    if code:
        raise error_for(code, "bringing it to this format", shown, True)
    return 0


def _check_beginning(path: str) -> None:
    """Refuse a data.mdb that is too short to say what it is: nothing in it, or not its first two pages."""
    file = os.path.join(path, "data.mdb")
    try:
        there = os.stat(file).st_size
    except OSError as error:
        raise system_error(error, "looking at data.mdb", path) from error
    if there >= BEGINNING_BYTES:
        return
    problem = "data.mdb is empty" if there == 0 else f"data.mdb has {there} bytes, and a store at least {BEGINNING_BYTES}"
    raise StoreCorrupt(
        f"The store at {path}", f"{problem}: it was cut off, or never written",
        "Restore the store from a backup. Where there never was one, remove data.mdb: the server then makes a new store.",
    )


def _is_written(path: str) -> bool:
    """Whether a process holds rapport.lock, as far as that can be seen without keeping it."""
    try:
        descriptor = os.open(os.path.join(path, "rapport.lock"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _examine_pages(path: str, read_only: bool) -> None:
    """Refuse a data.mdb whose pages LMDB cannot follow, before it does; lengthen one whose last pages were never written.

    The last pages of a file may be free, so a short file is not wrong yet, but LMDB takes it for as long as it says.
    """
    file = os.path.join(path, "data.mdb")
    there = os.stat(file).st_size
    wanted = examine(path, whole=there <= EXAMINED_BYTES)
    if there < wanted:
        if there > EXAMINED_BYTES:
            examine(path)
        if not read_only:
            os.truncate(file, wanted)


cdef int check_value(str name, MDB_val* key, MDB_val* value) except -1:
    """Raise StoreCorrupt unless the value passes its own checks, or fits its seal."""
    cdef RecordView record
    cdef ContactList contacts
    cdef EventList events
    cdef EventHeader header
    cdef Members members
    cdef Membership membership
    cdef uint64_t customer
    cdef size_t position = 0
    cdef int fault = FAULT_NONE
    cdef MDB_val plain
    plain = value[0]
    if unseal(sealing_of(name), key, &plain):
        raise broken_seal(name)
    if name not in BY_CUSTOMER:
        return 0
    value = &plain
    if key.mv_size != sizeof(uint64_t):
        raise StoreCorrupt(f"A key of {name}", f"it has {key.mv_size} bytes")
    memcpy(&customer, key.mv_data, sizeof(uint64_t))
    if name == "origins":
        sources.decode((<const char*>value.mv_data)[:value.mv_size], customer)
    elif name == "cases":
        case_details.decode((<const char*>value.mv_data)[:value.mv_size], customer)
    elif name == "profiles" or name == "households":
        fault = record_open(<const uint8_t*>value.mv_data, value.mv_size, &record)
        if fault == FAULT_NONE and record.customer != customer:
            raise StoreCorrupt(f"The record of {record_name(customer)}", f"it is that of {record_name(record.customer)}")
    elif name == "memberships":
        if is_household(customer):
            fault = members_open(<const uint8_t*>value.mv_data, value.mv_size, &members)
        else:
            fault = membership_open(<const uint8_t*>value.mv_data, value.mv_size, &membership)
    elif name == "contacts":
        fault = contacts_open(<const uint8_t*>value.mv_data, value.mv_size, &contacts)
    else:
        fault = events_open(<const uint8_t*>value.mv_data, value.mv_size, &events)
        if fault == FAULT_NONE:
            while event_read(&events, position, &header):
                position += header.size
            if position != events.size:
                fault = FAULT_BOUNDS
    if fault:
        raise damaged(fault, f"The entry of {record_name(customer)} in {name}")
    return 0


cdef bint ascends(const MDB_val* before, const MDB_val* key, bint numbers) noexcept nogil:
    """Whether a key stands after the one before it, in LMDB's order."""
    cdef uint64_t one, other
    cdef int order
    if numbers and before.mv_size == sizeof(uint64_t) and key.mv_size == sizeof(uint64_t):
        memcpy(&one, before.mv_data, sizeof(uint64_t))
        memcpy(&other, key.mv_data, sizeof(uint64_t))
        return one < other
    order = memcmp(before.mv_data, key.mv_data, before.mv_size if before.mv_size < key.mv_size else key.mv_size)
    return order < 0 or (order == 0 and before.mv_size < key.mv_size)


cdef object walk_one(MDB_txn* txn, MDB_dbi database, str name, str path):
    """Visit a database; how many entries it has.

    Each must stand after the one before it and be what a look-up of its key finds, and there must be as many as the database
    says: a page damaged between its entries leads look-ups astray, and no checksum tells.
    """
    cdef MDB_cursor* cursor
    cdef MDB_val key, value, found
    cdef MDB_val before
    cdef MDB_stat pages
    cdef uint8_t touched = 0
    cdef bint numbers = not name or name in BY_CUSTOMER
    cdef object what = f"Database {name or 'of free pages'} of the store at {path}"
    cdef int code = api.cursor_open(txn, database, &cursor)
    if code:
        raise StoreCorrupt(what, f"it cannot be opened ({code})")
    before.mv_data = NULL
    before.mv_size = 0
    count = 0
    try:
        api.stat(txn, database, &pages)
        code = api.cursor_get(cursor, &key, &value, MDB_NEXT)
        while code == 0:
            if not lies_within(&key, pages.ms_psize) or not lies_within(&value, pages.ms_psize):
                raise StoreCorrupt(what, "an entry does not lie within its page")
            if before.mv_data != NULL and not ascends(&before, &key, numbers):
                raise StoreCorrupt(what, "its entries are not in order")
            before = key
            if name:
                code = api.get(txn, database, &key, &found)
                if code or found.mv_data != value.mv_data:
                    raise StoreCorrupt(what, f"an entry is not found by its key ({code})")
            check_value(name, &key, &value)
            # A long value has the pages that it says it has, to the last.
            if value.mv_size:
                touched ^= (<const volatile uint8_t*>value.mv_data)[value.mv_size - 1]
            count += 1
            code = api.cursor_get(cursor, &key, &value, MDB_NEXT)
    finally:
        api.cursor_close(cursor)
    if code != MDB_NOTFOUND:
        raise StoreCorrupt(what, f"its pages cannot be followed ({code})")
    if count != pages.ms_entries:
        raise StoreCorrupt(what, f"it has {count} entries and should have {pages.ms_entries}")
    return count


cdef object walk(MDB_env* env, str path):
    """Visit every key and value and check what can be checked; how many there are. Raises StoreCorrupt."""
    cdef MDB_txn* txn
    cdef MDB_dbi database
    cdef int code = api.txn_begin(env, NULL, MDB_RDONLY, &txn)
    if code:
        raise error_for(code, "checking it", path, False)
    count = 0
    try:
        for name in ("", *DATABASES):
            # The unnamed database of free pages is walked as well: a damaged list would hand out pages in use.
            database = FREE_DATABASE
            if name:
                raw = name.encode()
                code = api.dbi_open(txn, raw, MDB_INTEGERKEY if name in BY_CUSTOMER else 0, &database)
            if code == MDB_NOTFOUND and name in ADDED:
                code = 0  # a store of an earlier format; that one of ours has it is seen when it is opened
                continue
            if code:
                raise StoreCorrupt(f"Database {name} of the store at {path}", f"it cannot be opened ({code})")
            count += walk_one(txn, database, name, path)
    finally:
        api.txn_abort(txn)
    return count


cdef int collect(const char* text, void* lines) noexcept:
    (<list>lines).append(text.decode(errors="replace"))
    return 0


cdef object system_error(object error, str doing, str path):
    return error_for(error.errno or errno.EIO, doing, path, False)


def _take_lock(path: str, create: bool) -> int:
    """Hold rapport.lock; its descriptor, or -1 when there is none and it is not to be made."""
    file = os.path.join(path, "rapport.lock")
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
    except FileNotFoundError:
        return -1
    except OSError as error:
        raise system_error(error, "opening rapport.lock", path) from error
    try:
        for tried in range(LOCK_TRIES):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if tried + 1 == LOCK_TRIES:
                    raise
                time.sleep(0.01)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError:
        owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise StoreUnavailable(path, f"process {owner} has it open for writing",
                               "Ask that server, or stop it first; reading beside it is possible.") from None
    except OSError as error:
        os.close(descriptor)
        raise system_error(error, "locking it", path) from error
    return descriptor


def _create(path: str, map_bytes: int, meta: dict[bytes, bytes]) -> None:
    """Make a whole store inside `making` and move it into place. The caller holds rapport.lock."""
    cdef MDB_env* env
    cdef Handles handles
    cdef MDB_txn* txn
    cdef MDB_val key, value
    cdef int code = 0
    making = os.path.join(path, "making")
    shutil.rmtree(making, ignore_errors=True)
    try:
        os.mkdir(making, 0o700)
        env = open_env(making, path, map_bytes, 0)
        try:
            code = api.txn_begin(env, NULL, 0, &txn)
            if code:
                raise error_for(code, "creating it", path, False)
            for name in DATABASES:
                raw = name.encode()
                code = api.dbi_open(
                    txn, raw, MDB_CREATE | (MDB_INTEGERKEY if name in BY_CUSTOMER else 0), handle(&handles, name)
                )
                if code:
                    break
            for name, data in {**meta, b"format": msgspec.msgpack.encode(FORMAT_VERSION)}.items():
                if code:
                    break
                data = with_seal(SEAL_ALL, name, data)
                key.mv_data = <void*><const char*>name
                key.mv_size = len(name)
                value.mv_data = <void*><const char*>data
                value.mv_size = len(data)
                code = api.put(txn, handles.meta, &key, &value, 0)
            if code:
                api.txn_abort(txn)
            else:
                with nogil:
                    code = api.txn_commit(txn)
            if code:
                raise error_for(code, "creating it", path, False)
        finally:
            api.env_close(env)
        os.rename(os.path.join(making, "data.mdb"), os.path.join(path, "data.mdb"))
        sync_folder(path)
    except OSError as error:
        raise system_error(error, "creating it", path) from error
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _examine(path: str, read_only: bool) -> bool:
    """Whether a store must be created at `path`; raises when the folder is not for us."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        if read_only:
            raise StoreUnavailable(path, "there is no such folder", "Check store.path.") from None
        parent = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(parent):
            raise StoreUnavailable(
                path, f"the folder {parent} does not exist", "Create it, or check store.path.") from None
        try:
            os.mkdir(path, 0o700)
            sync_folder(parent)
        except OSError as error:
            raise system_error(error, "creating the folder", path) from error
        return True
    except OSError as error:
        raise system_error(error, "looking at it", path) from error
    if not status.S_ISDIR(mode):
        raise StoreUnavailable(path, "it is not a folder", "Name a folder; the store makes its own files in it.")
    try:
        names = set(os.listdir(path))
    except OSError as error:
        raise system_error(error, "listing it", path) from error
    if "data.mdb" in names:
        return False
    strange = sorted(names - {"rapport.lock", "lock.mdb", "making", "lost+found"})
    if strange:
        raise StoreUnavailable(path, f"it holds '{strange[0]}' and no store", "Choose an empty or new folder.")
    if read_only:
        raise StoreUnavailable(path, "there is no store in it", "Check store.path, or start the server once.")
    return True


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
    fresh = _examine(path, read_only)
    about = os.stat(path)
    identity = (about.st_dev, about.st_ino)
    if identity in _open:
        raise StoreUnavailable(path, "this process has it open already",
                               "Share the one Store; close it before opening it again.")
    if not read_only:
        environment.lock = _take_lock(path, fresh)
    # A compaction exchanges data.mdb and lock.mdb in two steps under this lock: nobody may open one of each.
    guard = -1
    try:
        guard = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(guard, fcntl.LOCK_SH)
        if fresh and not os.path.exists(os.path.join(path, "data.mdb")):
            _create(path, map_bytes, meta or {})
        # Looked at without a lock table first: a folder that is not ours is left as it was found. Not so beside a
        # live writer, who could reuse the pages being looked at.
        _check_beginning(path)
        if environment.lock >= 0 or not _is_written(path):
            _examine_pages(path, True if environment.lock < 0 else read_only)
            probe = open_env(path, path, map_bytes, MDB_RDONLY | MDB_NOLOCK)
            try:
                check_format(probe, path, read_only)
            finally:
                api.env_close(probe)
        if not read_only and environment.lock < 0:
            environment.lock = _take_lock(path, True)
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
        memset(&self.sealed, 0, sizeof(Buffer))

    def __dealloc__(self):
        buffer_free(&self.noted)
        buffer_free(&self.sealed)

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

    def begin(self) -> Transaction:
        """The write transaction; waits for the one before it."""
        return Transaction(self)

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


cdef size_t as_before(const uint8_t* one, const uint8_t* other, size_t most) noexcept nogil:
    """How many bytes from here on are equal, of at most so many."""
    cdef size_t place = 0
    cdef uint64_t a, b
    while place + 8 <= most:
        memcpy(&a, one + place, 8)
        memcpy(&b, other + place, 8)
        if a != b:
            break
        place += 8
    while place < most and one[place] == other[place]:
        place += 1
    return place


cdef size_t as_before_backwards(const uint8_t* one, const uint8_t* other, size_t most) noexcept nogil:
    """The same for the bytes before these places."""
    cdef size_t place = 0
    cdef uint64_t a, b
    while place + 8 <= most:
        memcpy(&a, one - place - 8, 8)
        memcpy(&b, other - place - 8, 8)
        if a != b:
            break
        place += 8
    while place < most and (one - place - 1)[0] == (other - place - 1)[0]:
        place += 1
    return place


cdef class Transaction:
    """The write transaction; see environment.pxd. Ends by commit or abort."""

    def __cinit__(self, Environment environment not None):
        cdef int code
        environment.check_usable()
        self.environment = environment
        if environment.read_only:
            raise StoreReadOnly("it was opened for reading only", "Open it without read_only.")
        if environment.handles.standby != NULL:
            raise StoreReadOnly("an earlier write failed",
                                "Look for disk errors in the system's log, then start again.")
        with nogil:
            code = api.txn_begin(environment.handles.env, NULL, 0, &self.txn)
        if code:
            self.txn = NULL
            raise error_for(code, "beginning a transaction", environment.path, True)
        self.noting = environment.journalled
        if environment.noted.capacity > NOTED_KEPT:
            buffer_free(&environment.noted)
        environment.noted.size = 0
        if self.noting:
            if buffer_reserve(&environment.noted, sizeof(FrameHead)):
                raise MemoryError("no memory for the journal")
            memset(environment.noted.data, 0, sizeof(FrameHead))
            environment.noted.size = sizeof(FrameHead)

    # --- what the journal gets

    def begin_group(self) -> None:
        """What is put and deleted from here on belongs to one mutation."""
        cdef Buffer* noted = &self.environment.noted
        if not self.noting:
            return
        self.group = noted.size
        self.whole = False
        if buffer_reserve(noted, sizeof(GroupHead)):
            raise MemoryError("no memory for the journal")
        memset(noted.data + noted.size, 0, sizeof(GroupHead))
        noted.size += sizeof(GroupHead)

    def end_group(self, uint64_t seq, uint64_t next_customer) -> None:
        """The mutation succeeded, with this sequence number."""
        cdef GroupHead head
        if not self.group:
            return
        head.size = self.environment.noted.size - self.group
        head.seq = seq
        head.next_customer = next_customer
        memcpy(self.environment.noted.data + self.group, &head, sizeof(GroupHead))
        self.group = 0
        if not self.first:
            self.first = seq
        self.last = seq

    def drop_group(self) -> None:
        """The mutation was refused before it changed anything."""
        if self.group:
            self.environment.noted.size = self.group
            self.group = 0

    def frame(self, int64_t committed_us):
        """(the frame, first, last) of all groups, whole; the bytes are borrowed until the next transaction begins."""
        cdef Buffer* noted = &self.environment.noted
        cdef FrameHead head
        head.magic = FRAME_MAGIC
        head.size = noted.size
        head.first = self.first
        head.last = self.last
        head.committed_us = committed_us
        head.checksum = 0
        memcpy(noted.data, &head, sizeof(FrameHead))
        head.checksum = rapport_crc32c(noted.data + 4, noted.size - 4)
        memcpy(noted.data, &head.checksum, 4)
        return PyMemoryView_FromMemory(<char*>noted.data, <Py_ssize_t>noted.size, PyBUF_READ), self.first, self.last

    cdef int note(
        self, int kind, MDB_dbi database, uint64_t subject, const void* key, size_t length, const void* bytes, size_t size
    ) noexcept nogil:
        """Append a change; 0, or ENOMEM."""
        cdef ChangeHead head
        cdef Buffer* noted = &self.environment.noted
        cdef size_t padding = -(length + size) % 8
        cdef uint64_t nothing = 0
        head.value_bytes = <uint32_t>size
        head.key_bytes = <uint16_t>length
        head.kind = <uint8_t>kind
        head.database = self.environment.places[database]
        head.subject = subject
        if (
            buffer_append(noted, &head, sizeof(ChangeHead)) or buffer_append(noted, key, length)
            or (bytes != NULL and buffer_append(noted, bytes, size)) or buffer_append(noted, &nothing, padding)
        ):
            return ENOMEM
        return 0

    cdef int note_put(
        self, MDB_dbi database, const void* key, size_t length, const void* bytes, size_t size, bint appended
    ) noexcept nogil:
        """Note what is about to be put, of a long value only how it differs; 0, or a code of LMDB's."""
        cdef const uint8_t* fresh = <const uint8_t*>bytes
        cdef const uint8_t* stored
        cdef MDB_val name, found
        cdef PatchHead patch
        cdef uint64_t subject = 0
        cdef size_t common, most, middle
        cdef int code
        if database == self.environment.handles.identifiers and size >= sizeof(uint64_t):
            memcpy(&subject, bytes, sizeof(uint64_t))
        elif self.environment.by_customer[database]:
            memcpy(&subject, key, sizeof(uint64_t))
            if size >= PATCH_FROM and not appended and not self.whole:
                name.mv_data = <void*>key
                name.mv_size = length
                code = api.get(self.txn, database, &name, &found)
                if code == 0:
                    code = unseal(self.environment.sealing[database], &name, &found)
                if code and code != MDB_NOTFOUND:
                    return code
                if code == 0 and found.mv_size >= PATCH_FROM:
                    stored = <const uint8_t*>found.mv_data
                    most = (size if size < found.mv_size else found.mv_size) - PATCH_HEAD
                    common = as_before(fresh + PATCH_HEAD, stored + PATCH_HEAD, most)
                    patch.before = <uint32_t>found.mv_size
                    patch.head = PATCH_HEAD
                    patch.front = <uint32_t>common
                    patch.back = <uint32_t>as_before_backwards(fresh + size, stored + found.mv_size, most - common)
                    middle = size - PATCH_HEAD - patch.front - patch.back
                    if middle + sizeof(PatchHead) + PATCH_HEAD < size - size // 4:
                        code = self.note(
                            CHANGE_PATCH, database, subject, key, length, NULL, sizeof(PatchHead) + PATCH_HEAD + middle)
                        if code:
                            return code
                        return self.fill_patch(length, &patch, fresh, middle)
        return self.note(CHANGE_PUT, database, subject, key, length, bytes, size)

    cdef int fill_patch(self, size_t length, PatchHead* patch, const uint8_t* fresh, size_t middle) noexcept nogil:
        """Put the patch before the padding that `note` has just appended without a value."""
        cdef Buffer* noted = &self.environment.noted
        cdef size_t padding = -(length + sizeof(PatchHead) + PATCH_HEAD + middle) % 8
        cdef uint64_t nothing = 0
        noted.size -= padding
        if (
            buffer_append(noted, patch, sizeof(PatchHead)) or buffer_append(noted, fresh, PATCH_HEAD)
            or buffer_append(noted, fresh + PATCH_HEAD + patch.front, middle) or buffer_append(noted, &nothing, padding)
        ):
            return ENOMEM
        return 0

    cdef int note_erasure(self, object customers, object keys) except -1:
        cdef bytes data
        if not self.group:
            return 0
        # Doing the erasure again changes a household before what the mutation put there is put.
        self.whole = True
        data = struct.pack("<II", len(customers), len(keys)) + b"".join(
            [struct.pack("<Q", customer) for customer in customers] + [struct.pack("<H", len(key)) + key for key in keys])
        if self.note(CHANGE_ERASE, self.environment.handles.profiles, 0, NULL, 0, <const char*>data, len(data)):
            raise MemoryError("no memory for the journal")
        return 0

    # --- the changes

    cdef int get(
        self, MDB_dbi database, const void* key, size_t length, const uint8_t** bytes, size_t* size
    ) except? -1:
        cdef MDB_val wanted, found
        cdef int code
        wanted.mv_data = <void*>key
        wanted.mv_size = length
        code = api.get(self.txn, database, &wanted, &found)
        if code == 0:
            if unseal(self.environment.sealing[database], &wanted, &found):
                raise broken_seal(DATABASES[self.environment.places[database]])
            bytes[0] = <const uint8_t*>found.mv_data
            size[0] = found.mv_size
            return 0
        if code == MDB_NOTFOUND:
            return MDB_NOTFOUND
        raise error_for(code, "reading in a transaction", self.environment.path, True)

    cdef int put(
        self, MDB_dbi database, const void* key, size_t length, const void* bytes, size_t size, unsigned int flags
    ) except -1:
        cdef int code = self.put_raw(database, key, length, bytes, size, flags)
        if code:
            raise error_for(code, "writing", self.environment.path, True)
        return 0

    cdef int put_raw(
        self, MDB_dbi database, const void* key, size_t length, const void* bytes, size_t size, unsigned int flags
    ) noexcept nogil:
        cdef MDB_val name, value
        cdef int code
        if self.group:
            code = self.note_put(database, key, length, bytes, size, flags & MDB_APPEND)
            if code:
                return code
        name.mv_data = <void*>key
        name.mv_size = length
        value.mv_data = <void*>bytes
        value.mv_size = size
        if self.environment.sealing[database] != SEAL_NONE:
            code = self.seal(self.environment.sealing[database], &name, &value)
            if code:
                return code
        return api.put(self.txn, database, &name, &value, flags)

    cdef int seal(self, int sealing, const MDB_val* key, MDB_val* value) noexcept nogil:
        """Exchange a value for its sealed copy, which is good until the next; 0, or ENOMEM."""
        cdef Buffer* sealed = &self.environment.sealed
        cdef uint32_t seal = seal_of(sealing, key.mv_data, key.mv_size, value.mv_data, value.mv_size)
        sealed.size = 0
        if buffer_append(sealed, value.mv_data, value.mv_size) or buffer_append(sealed, &seal, SEAL_BYTES):
            return ENOMEM
        value.mv_data = sealed.data
        value.mv_size = sealed.size
        return 0

    cdef int delete(self, MDB_dbi database, const void* key, size_t length) except -1:
        cdef MDB_val name, found
        cdef uint64_t subject = 0
        cdef int code
        name.mv_data = <void*>key
        name.mv_size = length
        if self.group:
            if self.environment.by_customer[database]:
                memcpy(&subject, key, sizeof(uint64_t))
            elif database == self.environment.handles.identifiers:
                code = api.get(self.txn, database, &name, &found)
                if code == 0 and found.mv_size >= sizeof(uint64_t):
                    memcpy(&subject, found.mv_data, sizeof(uint64_t))
            if self.note(CHANGE_DELETE, database, subject, key, length, NULL, 0):
                raise MemoryError("no memory for the journal")
        code = api.delete(self.txn, database, &name, NULL)
        if code and code != MDB_NOTFOUND:
            raise error_for(code, "deleting", self.environment.path, True)
        return 0

    def commit(self) -> None:
        """Make it durable. On failure nothing of it was written."""
        cdef MDB_txn* txn = self.txn
        cdef int code
        if txn == NULL:
            raise EngineFault("the transaction has ended")
        self.txn = NULL
        with nogil:
            code = api.txn_commit(txn)
        if code:
            raise error_for(code, "committing", self.environment.path, True)

    def abort(self) -> None:
        """Undo it; ending twice does nothing."""
        if self.txn != NULL:
            api.txn_abort(self.txn)
            self.txn = NULL
