"""Events of customers; see happenings.pyx."""

from libc.stdint cimport uint64_t

from core.hub.apply cimport Applier


# Merges the events in the applier's packer into the customer's list; what became of each: a Merged of contacts.pxd. `kept` is
# what `core.hub.retention.since` says.
cdef list add_packed(Applier applier, uint64_t customer, object kept)
