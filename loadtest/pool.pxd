"""Memory for HTTP/2 sessions without asking the system: blocks of 32, 64 ... bytes that go back to a list of their size.

One thread uses a pool. The functions are what nghttp2 asks of an allocator; `context` is the pool.
"""

from libc.stdint cimport uint64_t

cdef enum:
    CLASSES = 12  # sizes of pooled blocks, 32 bytes to 64 KiB

cdef struct Pool:
    void* free_blocks[CLASSES]  # singly linked through their first bytes
    uint64_t allocations  # blocks taken from the system

cdef void* pool_take(size_t size, void* context) noexcept nogil
cdef void pool_give(void* pointer, void* context) noexcept nogil
cdef void* pool_clear(size_t count, size_t size, void* context) noexcept nogil
cdef void* pool_resize(void* pointer, size_t size, void* context) noexcept nogil
# Gives everything in the lists back to the system.
cdef void pool_empty(Pool* pool) noexcept nogil
