"""A growable run of bytes outside Python's heap: records and lists are built in it without the GIL.

A buffer of zeros is valid and empty. Its owner frees it once; growing moves it, so pointers into it do not outlive
the next reserve.
"""

from libc.stdint cimport uint8_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy


cdef struct Buffer:
    uint8_t* data  # owned; NULL while nothing was reserved
    size_t size  # bytes in use
    size_t capacity  # bytes allocated


cdef inline int buffer_reserve(Buffer* buffer, size_t more) noexcept nogil:
    """Make room for `more` bytes behind those in use; 0, or -1 without memory (the buffer is then unchanged)."""
    cdef size_t wanted = buffer.size + more
    cdef size_t capacity = buffer.capacity if buffer.capacity else 256
    cdef void* moved
    if wanted <= buffer.capacity:
        return 0
    while capacity < wanted:
        capacity *= 2
    moved = realloc(buffer.data, capacity)
    if moved == NULL:
        return -1
    buffer.data = <uint8_t*>moved
    buffer.capacity = capacity
    return 0


cdef inline int buffer_append(Buffer* buffer, const void* bytes, size_t size) noexcept nogil:
    """Append a copy; `bytes` must not lie inside the buffer. 0, or -1 without memory."""
    if buffer_reserve(buffer, size):
        return -1
    if size:
        memcpy(buffer.data + buffer.size, bytes, size)
    buffer.size += size
    return 0


cdef inline void buffer_free(Buffer* buffer) noexcept nogil:
    free(buffer.data)
    buffer.data = NULL
    buffer.size = 0
    buffer.capacity = 0
