"""Render: a winner's content, field by field."""

from core.kernel.workspace cimport Winner, Work

cdef bint render_winner(Work* work, Winner* winner, unsigned char content_type) noexcept nogil
cdef bint reserve_output(Work* work, size_t more) noexcept nogil
