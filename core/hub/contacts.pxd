"""A customer's contact history, version 1: what was shown, clicked, accepted..., oldest first (ARCHITECTURE.md).

`contacts_open` checks a stored list once, after which its entries lie there as they are. A `ContactList` borrows the bytes under
it, like every view of the hub. `contacts_merge` makes a new list from an old one and what is added; neither needs the
GIL.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from core.hub.buffer cimport Buffer
from core.hub.record cimport FAULT_BOUNDS, FAULT_CHECKSUM, FAULT_MAGIC, FAULT_NONE, FAULT_SHORT, rapport_crc32c

cdef enum:
    CONTACTS_MAGIC = 0x5043
    LIST_VERSION = 1
    LIST_HEADER_BYTES = 16
    LIST_CHECKED_FROM = 8  # the checksum covers everything from here
    CONTACT_BYTES = 40

cdef enum Merged:
    # What a merge did with an added entry, of contacts and of events.
    MERGED_DUPLICATE = 0  # was there already, or earlier in what is added
    MERGED_COUNTED = 1  # is in the new list
    MERGED_PAST = 2  # the list is full, and this is older than everything kept: it is not in the new list

cdef packed struct ContactEntry:
    int64_t at  # microseconds; the sort key, then dedup
    uint64_t dedup  # SipHash that makes the contact count once
    uint64_t instance  # the offer instance; 0 unknown
    int64_t value  # minor units of the program's currency; 0 without
    uint32_t offer  # catalog number
    uint16_t outcome  # catalog number
    uint16_t channel  # catalog number; 0 unknown

cdef struct ContactList:
    const ContactEntry* entries  # the first, at any address, since the struct is packed; borrowed
    uint32_t count  # entries

cdef inline int contacts_open(const uint8_t* bytes, size_t size, ContactList* contacts) noexcept nogil:
    """Check a stored list; FAULT_NONE or what is wrong."""
    cdef uint16_t magic
    cdef uint32_t checksum
    contacts.entries = NULL
    contacts.count = 0
    if size < LIST_HEADER_BYTES:
        return FAULT_SHORT
    memcpy(&magic, bytes, 2)
    if magic != CONTACTS_MAGIC or bytes[2] != LIST_VERSION:
        return FAULT_MAGIC
    memcpy(&checksum, bytes + 4, 4)
    if rapport_crc32c(bytes + LIST_CHECKED_FROM, size - LIST_CHECKED_FROM) != checksum:
        return FAULT_CHECKSUM
    memcpy(&contacts.count, bytes + 8, 4)
    if <uint64_t>contacts.count * CONTACT_BYTES + LIST_HEADER_BYTES != size:
        return FAULT_BOUNDS
    contacts.entries = <const ContactEntry*> (bytes + LIST_HEADER_BYTES)
    return FAULT_NONE


cdef inline uint32_t contacts_after(const ContactList* contacts, int64_t at) noexcept nogil:
    """The first index whose time is later than `at`; count when none is.

    The half-open window now - w < at <= now is [contacts_after(now - w), contacts_after(now)).
    """
    cdef uint32_t low = 0
    cdef uint32_t high = contacts.count
    cdef uint32_t middle
    while low < high:
        middle = (low + high) // 2
        if contacts.entries[middle].at <= at:
            low = middle + 1
        else:
            high = middle
    return low


# Merge `added` entries (any order; scratch: reordered) into the stored list at `existing` (NULL: none) and write the
# new list to `output`. An entry whose dedup is in the list, or earlier in `added`, is a duplicate. The oldest go when
# there are too many, also of those added. `applied[i]`, when not NULL, tells for each entry in the order given: a Merged.
# Returns 0, -1 without memory, or a Fault of the existing list.
cdef int contacts_merge(
    const uint8_t* existing, size_t size, ContactEntry* added, uint32_t count, uint8_t* applied, Buffer* output
) noexcept nogil
