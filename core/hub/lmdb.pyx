"""Opens the wheel's extension module, fills the function table, and turns LMDB's codes into errors.

The file is found beside the `lmdb` package without importing the package. It stays open for the life of the
process: function pointers go everywhere. Opening it a second time, as importing py-lmdb does in tests, gives the same
library, which is why an environment must not be opened by both in one process.
"""

from posix.dlfcn cimport RTLD_LOCAL, RTLD_NOW, dlerror, dlopen, dlsym

import errno
import os
import resource
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path

from core.errors import EngineFault, StoreCorrupt, StoreError, StoreFull, StoreReadOnly, StoreUnavailable

VERSION = (0, 9, 36)


# A disk or a file that can grow by less than this is full: LMDB writes up to 256 KiB at once.
LEAST_ROOM = 1 << 20


cdef object fullness(str path):
    """StoreFull when the disk has no room for the store at `path`, or its file may not grow; None when neither is so.

    Both leave LMDB in order: the transaction is undone, and the next one is taken as soon as there is room.
    """
    cdef object most = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    try:
        space = os.statvfs(path)
        there = os.stat(os.path.join(path, "data.mdb")).st_size
    except OSError:
        return None
    # What is reserved for root is room for root only.
    if (space.f_bfree if os.geteuid() == 0 else space.f_bavail) * space.f_frsize < LEAST_ROOM:
        return StoreFull("disk", f"Free space on the disk that holds {path}; writes are taken again then, reads go on meanwhile.")
    if most != resource.RLIM_INFINITY and there + LEAST_ROOM > most:
        return StoreFull(
            "store's file",
            f"This process may write files of {most} bytes at most: raise the limit (ulimit -f) and start again; reads go on "
            "meanwhile.",
        )
    return None


cdef object error_for(int code, str doing, str path, bint writing):
    """The one table from codes to exceptions; see lmdb.pxd."""
    cdef bytes text = api.strerror(code)
    cdef str cause = f"{text.decode(errors='replace')} ({code}), while {doing}"
    if code == MDB_MAP_FULL:
        return StoreFull(
            "store's map", "Raise store.map_bytes and start again; data stays as it is. Reads go on meanwhile."
        )
    if code == errno.ENOSPC or code == errno.EDQUOT:
        return StoreFull("disk", f"Free space on the disk that holds {path}; writes are taken again then, reads go on meanwhile.")
    if code == errno.EIO or code == errno.EFBIG:
        # LMDB does not say why a write came back short: it makes EIO of it.
        full = fullness(path)
        if full is not None:
            return full
    # A read transaction that met a damaged page answers nothing more, with a code of its own.
    if code in (MDB_CORRUPTED, MDB_PAGE_NOTFOUND, MDB_INVALID) or (code == MDB_BAD_TXN and not writing):
        return StoreCorrupt(f"The store at {path}", cause)
    if writing and (code in (MDB_PANIC, MDB_BAD_TXN) or (code > 0 and code != errno.ENOMEM)):
        return StoreReadOnly(cause, "Look for disk errors in the system's log, then start the server again.")
    if code == MDB_VERSION_MISMATCH:
        return StoreUnavailable(path, cause, "It was made by another release of LMDB; open it with that one.")
    if code == MDB_READERS_FULL:
        return StoreUnavailable(path, cause, "Too many readers: end tools that hold the store open.")
    if code == MDB_MAP_RESIZED:
        return StoreUnavailable(path, cause, "Its owner opened it with more map_bytes; open it with as many.")
    if code == errno.ENOMEM:
        return StoreUnavailable(
            path, cause, "Too little address space: raise the limit (ulimit -v) or lower map_bytes.")
    if code in (errno.EACCES, errno.EPERM):
        return StoreUnavailable(path, cause, "Let the server's user read and write the folder and its files.")
    if code == errno.EROFS:
        return StoreUnavailable(path, cause, "Its file system is read-only: choose another store.path.")
    if code > 0:
        return StoreUnavailable(path, cause, "See the cause; nothing was changed.")
    return StoreError(f"LMDB failed at {path}: {cause}.", path=path, code=code)


cdef void* symbol(void* library, str name) except NULL:
    cdef bytes exported = f"mdb09_{name}".encode()
    cdef void* found = dlsym(library, exported)
    if found == NULL:
        raise EngineFault(f"The lmdb package's extension module has no function {exported.decode()}. "
                          "Install the version that pyproject.toml pins: pip install lmdb==3.0.0.")
    return found


cdef str extension_file():
    """Path of py-lmdb's compiled module."""
    spec = find_spec("lmdb")
    if spec is None or not spec.submodule_search_locations:
        raise EngineFault("The lmdb package is not installed. Install it: pip install lmdb==3.0.0.")
    for folder in spec.submodule_search_locations:
        for suffix in EXTENSION_SUFFIXES:
            path = Path(folder, "cpython" + suffix)
            if path.is_file():
                return str(path)
    raise EngineFault("The lmdb package has no compiled module for this Python: a build from source without it? "
                      "Install the wheel: pip install --force-reinstall --only-binary lmdb lmdb==3.0.0.")


cdef int load() except -1:
    cdef str path = extension_file()
    cdef bytes raw = os.fsencode(path)
    cdef void* library = dlopen(raw, RTLD_NOW | RTLD_LOCAL)
    cdef int major, minor, patch
    if library == NULL:
        cause = (<bytes>dlerror()).decode(errors="replace")
        raise EngineFault(f"Cannot load {path}: {cause}. Install the lmdb package again: pip install lmdb==3.0.0.")
    api.version = <char* (*)(int*, int*, int*) noexcept nogil>symbol(library, "version")
    api.version(&major, &minor, &patch)
    if (major, minor, patch) != VERSION:
        raise EngineFault(
            f"The lmdb package carries LMDB {major}.{minor}.{patch}; the store is written for "
            f"{'.'.join(map(str, VERSION))}. Install the version that pyproject.toml pins: pip install lmdb==3.0.0."
        )
    api.strerror = <char* (*)(int) noexcept nogil>symbol(library, "strerror")
    api.env_create = <int (*)(MDB_env**) noexcept nogil>symbol(library, "env_create")
    api.env_open = <int (*)(MDB_env*, const char*, unsigned int, unsigned int) noexcept nogil>symbol(
        library, "env_open")
    api.env_close = <void (*)(MDB_env*) noexcept nogil>symbol(library, "env_close")
    api.env_set_mapsize = <int (*)(MDB_env*, size_t) noexcept nogil>symbol(library, "env_set_mapsize")
    api.env_set_maxdbs = <int (*)(MDB_env*, MDB_dbi) noexcept nogil>symbol(library, "env_set_maxdbs")
    api.env_set_maxreaders = <int (*)(MDB_env*, unsigned int) noexcept nogil>symbol(library, "env_set_maxreaders")
    api.env_info = <int (*)(MDB_env*, MDB_envinfo*) noexcept nogil>symbol(library, "env_info")
    api.env_sync = <int (*)(MDB_env*, int) noexcept nogil>symbol(library, "env_sync")
    api.env_set_flags = <int (*)(MDB_env*, unsigned int, int) noexcept nogil>symbol(library, "env_set_flags")
    api.reader_check = <int (*)(MDB_env*, int*) noexcept nogil>symbol(library, "reader_check")
    api.txn_begin = <int (*)(MDB_env*, MDB_txn*, unsigned int, MDB_txn**) noexcept nogil>symbol(library, "txn_begin")
    api.txn_commit = <int (*)(MDB_txn*) noexcept nogil>symbol(library, "txn_commit")
    api.txn_abort = <void (*)(MDB_txn*) noexcept nogil>symbol(library, "txn_abort")
    api.txn_reset = <void (*)(MDB_txn*) noexcept nogil>symbol(library, "txn_reset")
    api.txn_renew = <int (*)(MDB_txn*) noexcept nogil>symbol(library, "txn_renew")
    api.txn_id = <size_t (*)(MDB_txn*) noexcept nogil>symbol(library, "txn_id")
    api.dbi_open = <int (*)(MDB_txn*, const char*, unsigned int, MDB_dbi*) noexcept nogil>symbol(library, "dbi_open")
    api.stat = <int (*)(MDB_txn*, MDB_dbi, MDB_stat*) noexcept nogil>symbol(library, "stat")
    api.get = <int (*)(MDB_txn*, MDB_dbi, MDB_val*, MDB_val*) noexcept nogil>symbol(library, "get")
    api.put = <int (*)(MDB_txn*, MDB_dbi, MDB_val*, MDB_val*, unsigned int) noexcept nogil>symbol(library, "put")
    api.delete = <int (*)(MDB_txn*, MDB_dbi, MDB_val*, MDB_val*) noexcept nogil>symbol(library, "del")
    api.cursor_open = <int (*)(MDB_txn*, MDB_dbi, MDB_cursor**) noexcept nogil>symbol(library, "cursor_open")
    api.cursor_close = <void (*)(MDB_cursor*) noexcept nogil>symbol(library, "cursor_close")
    api.cursor_get = <int (*)(MDB_cursor*, MDB_val*, MDB_val*, int) noexcept nogil>symbol(library, "cursor_get")
    api.cursor_put = <int (*)(MDB_cursor*, MDB_val*, MDB_val*, unsigned int) noexcept nogil>symbol(
        library, "cursor_put")
    api.reader_list = <int (*)(MDB_env*, int (*)(const char*, void*) noexcept, void*) noexcept>symbol(library, "reader_list")
    return 0


load()


def error_of(int code, str path, bint writing) -> Exception:
    """The exception a code of LMDB or the system becomes."""
    return error_for(code, "looking at data.mdb", path, writing)
