"""What joins need of cases; see matters.pyx."""

from libc.stdint cimport uint64_t

from core.hub.apply cimport Applier


# What each case is about, by its details, into the record in the builder.
cdef int set_products(Applier applier, dict details) except -1
# The details of a customer's cases among the changes, without those that his record no longer has. After finish_record.
cdef int keep_details(Applier applier, uint64_t customer, dict details) except -1
