"""From the bytes of a DecideRequest to a desk's request; how is told in the .pyx."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t

from core.kernel.desk_state cimport Desk

# Room for all that `size` bytes of request can make necessary; what was in the scratch is gone. False: memory ran out.
cdef bint request_scratch(Desk* desk, size_t size) noexcept nogil
# Fills the desk's request; False where the Python path has to look. The scratch must have been made.
cdef bint read_request(Desk* desk, const uint8_t* data, size_t size) noexcept nogil
