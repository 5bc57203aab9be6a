"""Resolve: who the customer is, and the frame of everything the plan reads of them."""

from core.kernel.workspace cimport Work, Workspace

cdef int find_customer(Workspace space) noexcept nogil
cdef void fill_frame(Work* work) noexcept nogil
