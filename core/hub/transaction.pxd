"""The write transaction, and what it notes for the journal."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from core.hub.environment cimport Environment
from core.hub.lmdb cimport MDB_dbi, MDB_txn, MDB_val

# What a transaction notes for the journal (core/hub/journal.py) of each put and delete, little-endian:
# a frame a commit: FrameHead, then a group for each mutation; a group: GroupHead, then its changes; a change: ChangeHead, its
# key, its value, zeros up to a multiple of 8.
cdef enum ChangeKind:
    CHANGE_PUT = 1  # the value
    CHANGE_DELETE = 2  # nothing
    CHANGE_PATCH = 3  # a PatchHead, the new beginning, the new middle: the value, told by the one before it
    CHANGE_SHED = 5  # a PatchHead, u64 bytes that the old value lost behind its beginning, the new beginning, the new middle
    CHANGE_ERASE = 4  # no key; u32 customers, u32 keys, the customers' ids, (u16 size, bytes) of each of their identifiers' keys

cdef enum:
    FRAME_MAGIC = 0x464A5052  # "RJPF"

cdef struct FrameHead:
    uint32_t checksum  # CRC-32C of everything behind it
    uint32_t magic  # FRAME_MAGIC
    uint64_t size  # of the frame with this head
    uint64_t first  # sequence number of its first mutation
    uint64_t last  # and of its last: there is a group for each
    int64_t committed_us  # when it was committed; never less than in the frame before

cdef struct GroupHead:
    uint64_t size  # of the group with this head
    uint64_t seq  # the mutation's sequence number
    uint64_t next_customer  # the id that the next new customer gets after it

cdef struct ChangeHead:
    uint32_t value_bytes  # of what stands for the value
    uint16_t key_bytes
    uint8_t kind  # ChangeKind
    uint8_t database  # its place in DATABASES, which the head of a journal's file spells out
    uint64_t subject  # the customer it is about, by whom an erasure finds it; 0: nobody

cdef struct PatchHead:
    uint32_t before  # bytes of the value it begins from
    uint32_t head  # bytes given for its beginning
    uint32_t front  # bytes behind those, and behind what was shed, that are as before
    uint32_t back  # bytes at the end that are as before


cdef class Transaction:
    """The write transaction. Begun, used and ended by one thread: LMDB's writer lock belongs to it."""

    cdef MDB_txn* txn  # owned; NULL when ended
    cdef Environment environment  # keeps the environment open
    cdef bint noting  # whether changes are noted
    cdef size_t group  # where the group at hand begins in what is noted; 0: outside of one, where nothing is noted
    cdef readonly uint64_t written  # bytes of the values put, which LMDB holds until the commit
    cdef bint whole  # values are noted whole in this group, whatever was there before
    cdef uint64_t first  # sequence number of the first group; 0 before it
    cdef uint64_t last  # and of the last one finished

    # Values are copied on put, and must not lie in the map; a pointer from get is valid until the next put or delete.
    cdef int get(self, MDB_dbi database, const void* key, size_t length, const uint8_t** bytes, size_t* size) except? -1
    cdef int put(self, MDB_dbi database, const void* key, size_t length, const void* bytes, size_t size,
                 unsigned int flags) except -1
    cdef int delete(self, MDB_dbi database, const void* key, size_t length) except -1
    # The same as `put` for loops without the GIL: LMDB's code.
    cdef int put_raw(self, MDB_dbi database, const void* key, size_t length, const void* bytes, size_t size,
                     unsigned int flags) noexcept nogil
    cdef int note(self, int kind, MDB_dbi database, uint64_t subject, const void* key, size_t length, const void* bytes,
                  size_t size) noexcept nogil
    cdef int note_put(self, MDB_dbi database, const void* key, size_t length, const void* bytes, size_t size,
                      bint appended) noexcept nogil
    cdef int note_patch(
        self, MDB_dbi database, uint64_t subject, const void* key, size_t length, const PatchHead* patch, uint64_t shed,
        const uint8_t* fresh, size_t middle) noexcept nogil
    # Notes that customers are erased, before their entries are deleted; `keys` are those of their identifiers.
    cdef int note_erasure(self, object customers, object keys) except -1
