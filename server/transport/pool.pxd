"""Memory for the sessions of one loop, small blocks used again. See pool.pyx."""

from libc.stdint cimport uint32_t

from server.transport.nghttp2 cimport nghttp2_mem

cdef extern from *:
    """
    #ifndef RAPPORT_SANITIZE
    #define RAPPORT_SANITIZE 0
    #endif
    """
    enum:
        # 1 in a build with sanitizers: nothing is kept and buffers are no larger than what they hold, so that whoever uses a
        # call that has ended, or reads past its bytes, is seen.
        RAPPORT_SANITIZE

cdef enum:
    POOL_CLASSES = 8  # of 64, 128 ... 512 bytes

ctypedef void* Block

cdef struct Pool:
    Block[POOL_CLASSES] free_blocks  # owned: by class, each begins with the next
    uint32_t[POOL_CLASSES] free_counts  # blocks in each list

cdef nghttp2_mem pool_memory(Pool* pool) noexcept nogil
cdef void pool_empty(Pool* pool) noexcept nogil
