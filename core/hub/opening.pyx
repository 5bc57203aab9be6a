"""Opens, creates and locks a store folder.

A folder holds `data.mdb` (all data), `lock.mdb` (LMDB's table of readers) and `rapport.lock`. The last is held with
flock by the process that writes, so a second server on the same folder is refused instead of writing beside the
first; other processes may read.

A store is created in a sub-folder `making` and moved into place when its first transaction is durable, so a folder
holds a whole store or none; leftovers of a creation that was cut off are removed by the next one. A folder with
anything else in it is never touched.

A store of an earlier format is brought to this one by its first writing open, in one transaction, so it is of one format or
the other whatever happens meanwhile; a process that only reads is told to have that done first.

LMDB is opened without WRITEMAP (a stray pointer cannot damage the file), with NOTLS (a snapshot belongs to its
owner, not to a thread) and without read-ahead (profiles are read at random).
"""

import errno
import fcntl
import os
import shutil
import stat as status
import time

import msgspec

from core import limits
from core.durable import sync_folder
from core.errors import EngineFault, StoreCorrupt, StoreUnavailable
from core.hub.databases import ADDED, BY_CUSTOMER, DATABASES
from core.hub.lmdb cimport (
    MDB_CREATE, MDB_INTEGERKEY, MDB_INVALID, MDB_NEXT, MDB_NORDAHEAD, MDB_NOTFOUND, MDB_NOTLS, MDB_RDONLY, MDB_cursor, MDB_dbi,
    MDB_env, MDB_stat, MDB_txn, MDB_val, api, error_for,
)
from core.hub.pages import examine
from core.hub.seal cimport SEAL_ALL, sealing_of, with_seal
from core.hub.snapshot cimport Handles

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
    MAIN_DATABASE = 1  # LMDB's own list of databases


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
        raise StoreCorrupt(f"data.mdb in {shown}", "it is not an LMDB file, or its first pages are damaged",
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


def check_beginning(path: str) -> None:
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


def is_written(path: str) -> bool:
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


def examine_pages(path: str, read_only: bool) -> None:
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


def system_error(error, doing, path):
    """What an error of the operating system is among the store's."""
    return error_for(error.errno or errno.EIO, doing, path, False)


def take_lock(path: str, create: bool) -> int:
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


def create(path: str, map_bytes: int, meta: dict[bytes, bytes]) -> None:
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


def examine_folder(path: str, read_only: bool) -> bool:
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
