"""Contacts as handlers hold them, tuples (at, dedup, instance, value, offer, outcome, channel), packed as lists keep them."""

from core.hub.buffer cimport Buffer, buffer_append
from core.hub.contacts cimport CONTACT_BYTES, ContactEntry


cdef inline int pack_contacts(Buffer* entries, added) except -1:
    """Make them the content of `entries`, in the order given."""
    cdef ContactEntry entry
    entries.size = 0
    for at, dedup, instance, value, offer, outcome, channel in added:
        entry.at = at
        entry.dedup = dedup
        entry.instance = instance
        entry.value = value
        entry.offer = offer
        entry.outcome = outcome
        entry.channel = channel
        if buffer_append(entries, &entry, CONTACT_BYTES):
            raise MemoryError
    return 0
