"""Explain: exactly one reason for every offer that a placement did not return."""

from libc.stdint cimport uint32_t

from core.kernel.workspace cimport Work

cdef bint explain_placement(Work* work, uint32_t wanted) noexcept nogil
