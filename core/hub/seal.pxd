"""The seal of an entry: four bytes behind its value that say what it is, and whose.

Names, counters, what undo keeps and programs have no checksum of their own, so theirs is the CRC-32C of value and key: a flipped
bit is told and never read as another name or number. So is that of identifiers. Lists and memberships have a checksum, and do
not say whose they are, so theirs is that of the key: one that comes to lie under another's key is never read as his.
Transactions add seals where they write and readers take them off, so nobody else meets them, and neither does the journal.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from core.hub.lmdb cimport MDB_CORRUPTED, MDB_val
from core.hub.record cimport rapport_crc32c

cdef enum:
    SEAL_BYTES = 4

cdef enum Sealing:
    # Whether the entries of a database are sealed.
    SEAL_NONE = 0
    SEAL_ALL = 1  # except the format in `meta`, which every release must be able to read
    # What an earlier format wrote has none, as the size tells: it gets one when written anew, or by compaction.
    SEAL_LATER = 2  # values of 8 bytes have none
    SEAL_OWNER = 3  # of the key alone; values of a multiple of 8 bytes have none


cdef inline int sealing_of(str name) except -1:
    """How the entries of a database are sealed."""
    if name == "catalog" or name == "meta" or name == "programs":
        return SEAL_ALL
    if name == "contacts" or name == "events" or name == "memberships":
        return SEAL_OWNER
    return SEAL_LATER if name == "identifiers" else SEAL_NONE


cdef inline uint32_t seal_of(int sealing, const void* key, size_t length, const void* value, size_t size) noexcept nogil:
    """The seal of an entry."""
    cdef uint32_t name = rapport_crc32c(<const uint8_t*>key, length)
    if sealing == SEAL_OWNER:
        return name
    # Turned, so that key and value cannot change places.
    return rapport_crc32c(<const uint8_t*>value, size) ^ (name << 16 | name >> 16)


cdef inline bint is_bare(int sealing, size_t size) noexcept nogil:
    """Whether a value of so many bytes is one that an earlier format wrote without a seal."""
    return (sealing == SEAL_LATER and size == sizeof(uint64_t)) or (sealing == SEAL_OWNER and size % 8 == 0)


cdef inline bint is_format(const void* key, size_t length) noexcept nogil:
    """Whether a key of `meta` is that of the store's format."""
    return length == 6 and memcmp(key, b"format", 6) == 0


cdef inline int unseal(int sealing, const MDB_val* key, MDB_val* value) noexcept nogil:
    """Take the seal off a value; 0, or MDB_CORRUPTED where it does not fit."""
    cdef uint32_t seal
    if (
        sealing == SEAL_NONE or is_bare(sealing, value.mv_size)
        or (sealing == SEAL_ALL and is_format(key.mv_data, key.mv_size))
    ):
        return 0
    if value.mv_size < SEAL_BYTES:
        return MDB_CORRUPTED
    value.mv_size -= SEAL_BYTES
    memcpy(&seal, <const uint8_t*>value.mv_data + value.mv_size, SEAL_BYTES)
    return 0 if seal == seal_of(sealing, key.mv_data, key.mv_size, value.mv_data, value.mv_size) else MDB_CORRUPTED


# The value as it is stored in a sealed database.
cdef bytes with_seal(int sealing, bytes key, bytes value)
# What an entry is refused with whose seal does not fit.
cdef object broken_seal(str name)
