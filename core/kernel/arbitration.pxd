"""Arbitrate: which contenders fill a placement's slots, and in which order."""

from libc.stdint cimport uint32_t

from core.kernel.workspace cimport Work

cdef void arbitrate(Work* work, uint32_t wanted) noexcept nogil
cdef void mark_returned(Work* work, uint32_t wanted) noexcept nogil
