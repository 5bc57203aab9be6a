"""Filter: which offers pass every rule the index holds, then every other condition."""

from libc.stdint cimport uint32_t

from core.kernel.workspace cimport Work

cdef void filter_index(Work* work) noexcept nogil
cdef bint offer_passes(Work* work, uint32_t offer) noexcept nogil  # the conditions that the index does not hold
cdef void filter_conditions(Work* work) noexcept nogil
cdef bint condition_holds(Work* work, uint32_t condition) noexcept nogil
