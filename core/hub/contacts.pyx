"""Merges contact lists, and shows them to Python.

A history is short (a cap's window rarely holds a hundred), so duplicates are found by looking: each added contact is
compared with the whole list. The list is rewritten as a whole; sorted by time, and at equal times by the dedup
number, so the order of arrival leaves no trace.
"""

from libc.string cimport memset

from core.hub.buffer cimport buffer_append, buffer_free, buffer_reserve
from core.hub.contact_rows cimport pack_contacts
from core.hub.record cimport damaged

from core import limits

cdef uint32_t CONTACTS = limits.CONTACTS_PER_CUSTOMER

assert sizeof(ContactEntry) == CONTACT_BYTES


cdef inline bint before(const ContactEntry* a, const ContactEntry* b) noexcept nogil:
    return a.at < b.at or (a.at == b.at and a.dedup < b.dedup)


cdef uint32_t entries_before(const ContactEntry* entry, const ContactEntry* others, uint32_t count) noexcept nogil:
    """How many of `others` go before `entry`."""
    cdef uint32_t i, older = 0
    for i in range(count):
        older += before(&others[i], entry)
    return older


cdef uint32_t known_before(const ContactEntry* entry, const ContactList* known, uint32_t most) noexcept nogil:
    """How many of the list go before `entry`, counted up to `most`."""
    cdef uint32_t i
    for i in range(min(most, known.count)):
        if not before(&known.entries[i], entry):
            return i
    return min(most, known.count)


cdef int contacts_merge(
    const uint8_t* existing, size_t size, ContactEntry* added, uint32_t count, uint8_t* applied, Buffer* output
) noexcept nogil:
    cdef ContactList known
    cdef ContactEntry entry
    cdef uint32_t i, j, fresh, total, skip, older, checksum, next_known, next_added
    cdef uint16_t magic = CONTACTS_MAGIC
    cdef int fault
    cdef bint duplicate
    known.entries = NULL
    known.count = 0
    if existing != NULL:
        fault = contacts_open(existing, size, &known)
        if fault:
            return fault
    fresh = 0
    for i in range(count):
        entry = added[i]
        duplicate = False
        for j in range(fresh):
            if added[j].dedup == entry.dedup:
                duplicate = True
                break
        if not duplicate:
            for j in range(known.count):
                if known.entries[j].dedup == entry.dedup:
                    duplicate = True
                    break
        if applied != NULL:
            applied[i] = MERGED_DUPLICATE if duplicate else MERGED_COUNTED
        if not duplicate:
            added[fresh] = entry
            fresh += 1
    total = known.count + fresh
    skip = total - CONTACTS if total > CONTACTS else 0
    if skip and applied != NULL:
        # While those added still lie in the order given: one goes when fewer than `skip` of all others are older.
        j = 0
        for i in range(count):
            if applied[i] == MERGED_COUNTED:
                older = entries_before(&added[j], added, fresh) + known_before(&added[j], &known, skip)
                if older < skip:
                    applied[i] = MERGED_PAST
                j += 1
    # Insertion sort: few are added at once, mostly in order.
    for i in range(1, fresh):
        entry = added[i]
        j = i
        while j and before(&entry, &added[j - 1]):
            added[j] = added[j - 1]
            j -= 1
        added[j] = entry
    output.size = 0
    if buffer_reserve(output, LIST_HEADER_BYTES + <size_t>(total - skip) * CONTACT_BYTES):
        return -1
    memset(output.data, 0, LIST_HEADER_BYTES)
    output.size = LIST_HEADER_BYTES
    next_known = 0
    next_added = 0
    for i in range(total):
        if next_known < known.count:
            entry = known.entries[next_known]
        if next_known < known.count and (next_added == fresh or not before(&added[next_added], &entry)):
            next_known += 1
        else:
            entry = added[next_added]
            next_added += 1
        if i >= skip:
            buffer_append(output, &entry, CONTACT_BYTES)
    total -= skip
    memcpy(output.data, &magic, 2)
    output.data[2] = LIST_VERSION
    memcpy(output.data + 8, &total, 4)
    checksum = rapport_crc32c(output.data + LIST_CHECKED_FROM, output.size - LIST_CHECKED_FROM)
    memcpy(output.data + 4, &checksum, 4)
    return 0


def unpack(bytes data not None, str what="A contact history"):
    """The entries as (at, dedup, instance, value, offer, outcome, channel); StoreCorrupt when the list is damaged."""
    cdef ContactList contacts
    cdef ContactEntry entry
    cdef const uint8_t* start = data
    cdef int fault = contacts_open(start, len(data), &contacts)
    if fault:
        raise damaged(fault, what)
    found = []
    for i in range(contacts.count):
        entry = contacts.entries[i]
        found.append((entry.at, entry.dedup, entry.instance, entry.value, entry.offer, entry.outcome, entry.channel))
    return found


def merge(existing, added):
    """The list made from `existing` (bytes or None) and `added` tuples as `unpack` gives them; and what became of each."""
    cdef Buffer entries, flags, output
    cdef const uint8_t* start = NULL
    cdef size_t size = 0
    cdef int code
    memset(&entries, 0, sizeof(Buffer))
    memset(&flags, 0, sizeof(Buffer))
    memset(&output, 0, sizeof(Buffer))
    if existing is not None:
        start = <const uint8_t*><const char*>existing
        size = len(existing)
    try:
        pack_contacts(&entries, added)
        if buffer_reserve(&flags, len(added)):
            raise MemoryError
        code = contacts_merge(
            start, size, <ContactEntry*>entries.data, <uint32_t>len(added), flags.data, &output)
        if code < 0:
            raise MemoryError
        if code:
            raise damaged(code, "A contact history")
        return output.data[:output.size], [flags.data[i] for i in range(len(added))]
    finally:
        buffer_free(&entries)
        buffer_free(&flags)
        buffer_free(&output)
