"""Contact policy: caps and suppressions from the customer's contact history."""

from libc.stdint cimport uint32_t

from core.kernel.workspace cimport Work

cdef void filter_contacts(Work* work) noexcept nogil
cdef bint cap_binds(const Work* work, uint32_t cap) noexcept nogil
cdef bint suppression_active(const Work* work, uint32_t suppression) noexcept nogil
