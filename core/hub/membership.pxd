"""Who is in which household: the entries of the database `memberships`, version 1 (ARCHITECTURE.md).

Households have ids of their own, from HOUSEHOLD_FIRST on, so one number says whether it is a customer's or a
household's: their records lie in databases of their own, everything else kept by id in common ones. Under a customer's
id lies his `Membership`, also when he has left, so that what is told late changes nothing that is newer; under a
household's the ids of its members, ascending. Both are borrowed views of bytes that the
snapshot or transaction keeps; the checksum covers what follows it.
"""

from libc.stdint cimport INT64_MIN, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from core.hub.record cimport FAULT_BOUNDS, FAULT_CHECKSUM, FAULT_NONE, FAULT_SHORT, rapport_crc32c

cdef enum:
    HOUSEHOLD_SHIFT = 62  # a household's id has this bit; customers count up from 1 and never reach it
    MEMBERSHIP_BYTES = 40
    UNTOLD_BYTES = 24  # of entries written before `told` was kept; it is then `since`, and he was never apart
    MEMBERS_HEADER_BYTES = 8
    MEMBERS_CHECKED_FROM = 4  # both checksums cover everything from here

cdef struct Membership:
    uint64_t household  # id; 0: he is in none, for he left
    int64_t since  # microseconds: his contacts from then on count for the household
    int64_t told  # microseconds: of the newest statement of where he is; an older one changes nothing
    int64_t apart  # microseconds: the newest moment of which he was said to be elsewhere, or in none; INT64_MIN: never
    uint16_t role  # catalog number; 0: none was given

cdef struct Members:
    const uint8_t* ids  # u64 each, ascending; borrowed
    uint32_t count  # of them

cdef inline bint is_household(uint64_t id) noexcept nogil:
    """Whether an id is a household's."""
    return id >> HOUSEHOLD_SHIFT != 0


cdef inline int membership_open(const uint8_t* bytes, size_t size, Membership* membership) noexcept nogil:
    """Check and copy out a customer's entry: u32 checksum, u16 role, u16 0, u64 household, i64 since, i64 told, i64 apart."""
    cdef uint32_t checksum
    if size != MEMBERSHIP_BYTES and size != UNTOLD_BYTES:
        return FAULT_SHORT if size < MEMBERSHIP_BYTES else FAULT_BOUNDS
    memcpy(&checksum, bytes, 4)
    if rapport_crc32c(bytes + MEMBERS_CHECKED_FROM, size - MEMBERS_CHECKED_FROM) != checksum:
        return FAULT_CHECKSUM
    memcpy(&membership.role, bytes + 4, 2)
    memcpy(&membership.household, bytes + 8, 8)
    memcpy(&membership.since, bytes + 16, 8)
    membership.told = membership.since
    membership.apart = INT64_MIN
    if size == MEMBERSHIP_BYTES:
        memcpy(&membership.told, bytes + 24, 8)
        memcpy(&membership.apart, bytes + 32, 8)
    return FAULT_NONE


cdef inline int members_open(const uint8_t* bytes, size_t size, Members* members) noexcept nogil:
    """Check a household's entry: u32 checksum, u32 count, then the ids."""
    cdef uint32_t checksum
    members.count = 0
    members.ids = NULL
    if size < MEMBERS_HEADER_BYTES:
        return FAULT_SHORT
    memcpy(&checksum, bytes, 4)
    if rapport_crc32c(bytes + MEMBERS_CHECKED_FROM, size - MEMBERS_CHECKED_FROM) != checksum:
        return FAULT_CHECKSUM
    memcpy(&members.count, bytes + 4, 4)
    if MEMBERS_HEADER_BYTES + <size_t>members.count * 8 != size:
        members.count = 0
        return FAULT_BOUNDS
    members.ids = bytes + MEMBERS_HEADER_BYTES
    return FAULT_NONE


# "customer 7" or "household 3": ids as people are told them.
cdef str record_name(uint64_t id)
