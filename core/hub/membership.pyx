"""Packs and shows memberships; the layout and the readers are in membership.pxd."""

from libc.stdint cimport INT64_MIN
from libc.string cimport memcpy

import struct

from core.hub.record cimport damaged

from core.hub.record import crc32c

# The first household's id.
HOUSEHOLD_FIRST = (<uint64_t>1) << HOUSEHOLD_SHIFT


cdef str record_name(uint64_t id):
    return f"household {id - HOUSEHOLD_FIRST}" if is_household(id) else f"customer {id}"


def named(uint64_t id):
    """`record_name`, for Python."""
    return record_name(id)


def of_household(uint64_t id):
    """Whether an id is a household's."""
    return is_household(id)


def number_of(uint64_t household):
    """A household's number as people are told it, from 1."""
    return household - HOUSEHOLD_FIRST


def pack_membership(uint64_t household, int64_t since, uint16_t role, int64_t told, int64_t apart=INT64_MIN):
    """A customer's entry."""
    data = struct.pack("<HHQqqq", role, 0, household, since, told, apart)
    return struct.pack("<I", crc32c(data)) + data


def unpack_membership(bytes data not None, uint64_t customer):
    """(household, since, role, told, apart) of a customer's entry, household 0 when he left; StoreCorrupt when it is damaged."""
    cdef Membership membership
    cdef const uint8_t* start = data
    cdef int fault = membership_open(start, len(data), &membership)
    if fault:
        raise damaged(fault, f"Customer {customer}'s membership")
    return membership.household, membership.since, membership.role, membership.told, membership.apart


def pack_members(ids):
    """A household's entry, from ids in any order."""
    ordered = sorted(ids)
    data = struct.pack(f"<I{len(ordered)}Q", len(ordered), *ordered)
    return struct.pack("<I", crc32c(data)) + data


def unpack_members(data, uint64_t household):
    """The ids of a household's members, ascending; none for None. StoreCorrupt when the entry is damaged."""
    cdef Members members
    cdef const uint8_t* start
    cdef uint64_t id
    cdef int fault
    if data is None:
        return []
    start = <const uint8_t*><const char*>data
    fault = members_open(start, len(data), &members)
    if fault:
        raise damaged(fault, f"The members of {record_name(household)}")
    found = []
    for i in range(members.count):
        memcpy(&id, members.ids + <size_t>i * 8, 8)
        found.append(id)
    return found
