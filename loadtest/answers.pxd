"""What is in the answers, and the reports that are made of it; told in the .pyx."""

from libc.stdint cimport uint8_t, uint64_t

from loadtest.state cimport Loop, Method, Slot

cdef bint look_at_decision(Loop* loop, const uint8_t* data, uint64_t size) noexcept nogil
cdef bint look_at_report(Loop* loop, const uint8_t* data, uint64_t size) noexcept nogil
cdef void write_report(Loop* loop, const Method* method, Slot* slot) noexcept nogil
