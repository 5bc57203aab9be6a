"""What reads the store without the GIL: one thread's view of one committed state.

Each thread owns a `Snapshot` opened from the environment's `Handles`, renews it for a decision and resets it afterwards.
Pointers that `snapshot_get` gives point into the map and are valid until that snapshot is reset, renewed or closed. The
`Handles` live as long as the `Environment`, which cannot be closed while snapshots are open.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from core.hub.lmdb cimport MDB_CORRUPTED, MDB_PANIC, MDB_NOTFOUND, MDB_RDONLY, MDB_dbi, MDB_env, MDB_txn, MDB_val, api
from core.hub.seal cimport SEAL_BYTES, SEAL_OWNER, unseal

cdef enum:
    IDENTIFIER_KEY_BYTES = 258  # u16 namespace, big-endian, and limits.IDENTIFIER_BYTES

# A page's own header in LMDB, and its flag of the first of a run of pages that holds one long value.
cdef enum:
    PAGE_HEADER_BYTES = 16
    PAGE_OVERFLOW = 4

# A code of our own beside LMDB's: the snapshot has not been opened, or was closed.
cdef enum:
    SNAPSHOT_CLOSED = -1

cdef struct Handles:
    MDB_env* env  # owned by the Environment
    MDB_env* standby  # a read-only twin after a failed write made LMDB refuse `env`; NULL before
    MDB_dbi profiles  # customer id -> record
    MDB_dbi contacts  # customer id -> contact list
    MDB_dbi events  # customer id -> event list
    MDB_dbi identifiers  # namespace and value -> customer id
    MDB_dbi catalog  # text -> MessagePack
    MDB_dbi meta  # text -> MessagePack
    MDB_dbi programs  # text -> MessagePack
    MDB_dbi cases  # customer id -> details of cases
    MDB_dbi origins  # customer id -> who said what of attributes with sources, `core.hub.sources`
    MDB_dbi households  # household id -> record
    MDB_dbi memberships  # customer id -> his household; household id -> its members: `core.hub.membership`
    size_t page_bytes  # LMDB's pages, a power of two
    int snapshots  # open snapshots; changed atomically

cdef struct Snapshot:
    MDB_txn* txn  # owned; NULL while closed
    Handles* handles  # borrowed from the Environment, which outlives the snapshot
    bint live  # renewed and not yet reset: reads are allowed

cdef extern from *:
    """
    static inline void rapport_count(int *number, int by) { __atomic_add_fetch(number, by, __ATOMIC_SEQ_CST); }
    static inline int rapport_counted(const int *number) { return __atomic_load_n(number, __ATOMIC_SEQ_CST); }
    static inline void *rapport_load(void *const *from) { return __atomic_load_n(from, __ATOMIC_ACQUIRE); }
    static inline void rapport_store(void **to, void *what) { __atomic_store_n(to, what, __ATOMIC_RELEASE); }
    """
    void rapport_count(int* number, int by) noexcept nogil
    int rapport_counted(const int* number) noexcept nogil
    void* rapport_load(void** source) noexcept nogil
    void rapport_store(void** target, void* what) noexcept nogil


cdef inline int snapshot_open(Snapshot* snapshot, Handles* handles) noexcept nogil:
    """Open on the newest committed state, ready to read; 0 or a code (then the snapshot is closed)."""
    cdef MDB_env* standby = <MDB_env*>rapport_load(<void**>&handles.standby)
    cdef int code
    snapshot.handles = handles
    snapshot.live = False
    snapshot.txn = NULL
    rapport_count(&handles.snapshots, 1)
    if standby == NULL:
        code = api.txn_begin(handles.env, NULL, MDB_RDONLY, &snapshot.txn)
        if code == MDB_PANIC:
            standby = <MDB_env*>rapport_load(<void**>&handles.standby)
    if standby != NULL:
        code = api.txn_begin(standby, NULL, MDB_RDONLY, &snapshot.txn)
    if code:
        snapshot.txn = NULL
        rapport_count(&handles.snapshots, -1)
        return code
    snapshot.live = True
    return 0


cdef inline void snapshot_close(Snapshot* snapshot) noexcept nogil:
    """Free it; closing a closed snapshot does nothing."""
    if snapshot.txn != NULL:
        api.txn_abort(snapshot.txn)
        rapport_count(&snapshot.handles.snapshots, -1)
    snapshot.txn = NULL
    snapshot.live = False


cdef inline void snapshot_reset(Snapshot* snapshot) noexcept nogil:
    """Let go of the state read, so that its pages can be reused; pointers from it end here."""
    if snapshot.live:
        api.txn_reset(snapshot.txn)
        snapshot.live = False


cdef inline int snapshot_renew(Snapshot* snapshot) noexcept nogil:
    """Move to the newest committed state; 0, or a code with which the snapshot cannot be read."""
    cdef int code
    if snapshot.txn == NULL:
        return SNAPSHOT_CLOSED
    snapshot_reset(snapshot)
    code = api.txn_renew(snapshot.txn)
    if code == MDB_PANIC and rapport_load(<void**>&snapshot.handles.standby) != NULL:
        # A failed write made LMDB refuse this environment; reads go on in its twin.
        snapshot_close(snapshot)
        return snapshot_open(snapshot, snapshot.handles)
    snapshot.live = code == 0
    return code


cdef inline bint lies_within(const MDB_val* value, size_t page_bytes) noexcept nogil:
    """Whether a key or value that a read transaction gave lies in its page, or in the run of pages that it has.

    LMDB takes lengths as they stand. A damaged one led reads past the end of the file, which ends the process by a signal.
    """
    cdef const uint8_t* start = <const uint8_t*>value.mv_data
    cdef size_t offset = <size_t>start & (page_bytes - 1)
    cdef uint16_t flags
    cdef uint32_t pages
    if offset + value.mv_size <= page_bytes:
        return True
    if offset != PAGE_HEADER_BYTES:
        return False
    memcpy(&flags, start - 6, 2)
    memcpy(&pages, start - 4, 4)
    return flags & PAGE_OVERFLOW and value.mv_size + PAGE_HEADER_BYTES <= pages * page_bytes


cdef inline int snapshot_get(
    Snapshot* snapshot, MDB_dbi database, const void* key, size_t length, const uint8_t** bytes, size_t* size
) noexcept nogil:
    """0 with the value's place, MDB_NOTFOUND, MDB_CORRUPTED, or another code."""
    cdef MDB_val wanted, found
    cdef int code
    bytes[0] = NULL
    size[0] = 0
    if not snapshot.live:
        return SNAPSHOT_CLOSED
    wanted.mv_data = <void*>key
    wanted.mv_size = length
    code = api.get(snapshot.txn, database, &wanted, &found)
    if code == 0:
        if not lies_within(&found, snapshot.handles.page_bytes):
            return MDB_CORRUPTED
        bytes[0] = <const uint8_t*>found.mv_data
        size[0] = found.mv_size
    return code


cdef inline int snapshot_get_customer(
    Snapshot* snapshot, MDB_dbi database, uint64_t customer, const uint8_t** bytes, size_t* size
) noexcept nogil:
    """`snapshot_get` for the databases keyed by customer id; seals of lists and memberships are taken off."""
    cdef Handles* handles = snapshot.handles
    cdef MDB_val key, value
    cdef int code = snapshot_get(snapshot, database, &customer, sizeof(uint64_t), bytes, size)
    if code == 0 and (database == handles.contacts or database == handles.events or database == handles.memberships):
        key.mv_data = &customer
        key.mv_size = sizeof(uint64_t)
        value.mv_data = <void*>bytes[0]
        value.mv_size = size[0]
        code = unseal(SEAL_OWNER, &key, &value)
        size[0] = value.mv_size
    return code


cdef inline size_t identifier_key(uint16_t namespace, const char* value, size_t length, uint8_t* key) noexcept nogil:
    """Write the key of a normalised identifier to `key` (IDENTIFIER_KEY_BYTES); its length, 0 when too long."""
    if length > IDENTIFIER_KEY_BYTES - 2:
        return 0
    key[0] = <uint8_t>(namespace >> 8)
    key[1] = <uint8_t>(namespace & 0xFF)
    memcpy(key + 2, value, length)
    return length + 2


cdef inline int snapshot_customer(
    Snapshot* snapshot, uint16_t namespace, const char* value, size_t length, uint64_t* customer
) noexcept nogil:
    """The customer of a normalised identifier: 0, MDB_NOTFOUND, or another code."""
    cdef uint8_t key[IDENTIFIER_KEY_BYTES]
    cdef const uint8_t* bytes
    cdef size_t size = 0
    cdef size_t key_bytes = identifier_key(namespace, value, length, key)
    cdef int code
    if key_bytes == 0:
        return MDB_NOTFOUND
    code = snapshot_get(snapshot, snapshot.handles.identifiers, key, key_bytes, &bytes, &size)
    # Not its seal: whoever it leads to must have the identifier in his record, which says more and is looked at anyway.
    if code == 0 and (size == sizeof(uint64_t) or size == sizeof(uint64_t) + SEAL_BYTES):
        memcpy(customer, bytes, sizeof(uint64_t))
        return 0
    return code if code else MDB_CORRUPTED
