"""Resolve: who the customer is, and the frame of everything the plan reads of them."""

from core.hub.snapshot cimport Snapshot
from core.kernel.workspace cimport Work

cdef int find_customer(Work* work, Snapshot* snapshot) noexcept nogil
cdef int read_customer(Work* work, Snapshot* snapshot) noexcept nogil
cdef void fill_frame(Work* work) noexcept nogil
