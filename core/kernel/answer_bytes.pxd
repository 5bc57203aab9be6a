"""From a decision to the bytes of a DecideResponse; how is told in the .pyx."""

from core.kernel.desk_state cimport Bytes, Desk

# Writes the answer that the desk's workspace holds; False when memory ran out.
cdef bint write_answer(Desk* desk, Bytes* out) noexcept nogil
