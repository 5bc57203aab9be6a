"""Copies a snapshot, entry by entry, into a new data.mdb.

LMDB leaves what was deleted or overwritten in free pages and in the gaps of pages in use, and its own compacting copy
takes some of the gaps along. A page that is filled by inserting live entries into an empty file has neither, so this
is the one way in which erased bytes leave a store; backups and compaction go the same way, and check every record
while it passes.

The new file is written without syncs in transactions of bounded size, then synced once: until the caller moves it into
place nobody relies on it.
"""

import os

from core.errors import StoreCorrupt
from core.hub.databases import BY_CUSTOMER, DATABASES
from core.hub.pages import examine
from core.hub.environment cimport Reader
from core.hub.opening cimport handle, open_env
from core.hub.snapshot cimport Handles, lies_within
from core.hub.walking cimport check_value
from core.hub.lmdb cimport (
    MDB_APPEND, MDB_CORRUPTED, MDB_CREATE,
    MDB_INTEGERKEY, MDB_NEXT, MDB_NOLOCK, MDB_NOSYNC, MDB_NOTFOUND, MDB_cursor, MDB_env, MDB_txn,
    MDB_val, api, error_for,
)
from core.hub.seal cimport is_bare, sealing_of, with_seal

# Pages of a transaction stay in memory until it commits.
TRANSACTION_BYTES = 32 << 20
TOLD_EVERY = 100_000


def copy(Reader reader not None, str folder not None, progress=None) -> int:
    """Write the reader's state to `folder`/data.mdb; see the .pyi."""
    cdef MDB_env* env
    cdef Handles handles
    cdef int code
    # A damaged page may hide entries, and the copy would be without them.
    examine(reader.environment.path, values=True)
    os.mkdir(folder, 0o700)
    env = open_env(folder, folder, reader.environment.map_bytes, MDB_NOSYNC | MDB_NOLOCK)
    try:
        copied = _entries(reader, env, &handles, folder, progress)
        with nogil:
            code = api.env_sync(env, 1)
        if code:
            raise error_for(code, "syncing a copy", folder, False)
    finally:
        api.env_close(env)
    for path in (os.path.join(folder, "data.mdb"), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return copied


cdef object _entries(Reader reader, MDB_env* env, Handles* handles, str folder, object progress):
    cdef MDB_txn* txn = NULL
    cdef MDB_cursor* source = NULL
    cdef MDB_cursor* target = NULL
    cdef MDB_val key, value
    cdef size_t written = 0
    cdef size_t most = TRANSACTION_BYTES
    cdef size_t page_bytes = reader.environment.handles.page_bytes
    cdef long long copied = 0
    cdef int sealing
    cdef bytes sealed
    cdef int code
    code = api.txn_begin(env, NULL, 0, &txn)
    if code:
        raise error_for(code, "beginning a copy", folder, False)
    try:
        for name in DATABASES:
            raw = name.encode()
            code = api.dbi_open(txn, raw, MDB_CREATE | (MDB_INTEGERKEY if name in BY_CUSTOMER else 0), handle(handles, name))
            if code:
                raise error_for(code, f"making database {name} of a copy", folder, False)
        for name in DATABASES:
            reader.check(api.cursor_open(reader.snapshot.txn, handle(&reader.environment.handles, name)[0], &source))
            code = api.cursor_open(txn, handle(handles, name)[0], &target)
            sealing = sealing_of(name)
            if code:
                raise error_for(code, f"writing database {name} of a copy", folder, False)
            code = api.cursor_get(source, &key, &value, MDB_NEXT)
            while code == 0:
                if not lies_within(&key, page_bytes) or not lies_within(&value, page_bytes):
                    code = MDB_CORRUPTED
                    break
                check_value(name, &key, &value)
                if is_bare(sealing, value.mv_size):
                    # An entry of an earlier format gets its seal.
                    sealed = with_seal(
                        sealing, (<const char*>key.mv_data)[:key.mv_size], (<const char*>value.mv_data)[:value.mv_size])
                    value.mv_data = <void*><const char*>sealed
                    value.mv_size = len(sealed)
                if written >= most:
                    api.cursor_close(target)
                    target = NULL
                    with nogil:
                        code = api.txn_commit(txn)
                    txn = NULL
                    if not code:
                        code = api.txn_begin(env, NULL, 0, &txn)
                    if not code:
                        code = api.cursor_open(txn, handle(handles, name)[0], &target)
                    if code:
                        raise error_for(code, "writing a copy", folder, False)
                    written = 0
                written += key.mv_size + value.mv_size
                code = api.cursor_put(target, &key, &value, MDB_APPEND)
                if code:
                    raise error_for(code, "writing a copy", folder, False)
                copied += 1
                if progress is not None and copied % TOLD_EVERY == 0:
                    progress(copied)
                code = api.cursor_get(source, &key, &value, MDB_NEXT)
            if code != MDB_NOTFOUND:
                raise StoreCorrupt(f"Database {name} of the store at {reader.environment.path}",
                                   f"its pages cannot be followed ({code})")
            api.cursor_close(source)
            source = NULL
            api.cursor_close(target)
            target = NULL
        with nogil:
            code = api.txn_commit(txn)
        txn = NULL
        if code:
            raise error_for(code, "writing a copy", folder, False)
    finally:
        if source != NULL:
            api.cursor_close(source)
        if target != NULL:
            api.cursor_close(target)
        if txn != NULL:
            api.txn_abort(txn)
    return copied
