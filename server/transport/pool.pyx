"""Memory for the sessions of one loop: nghttp2 takes and frees a dozen small blocks for each call.

A round reads many calls before it answers the first, so malloc's own short lists run dry in every round and it falls back to
its slow path: 8 % of a loop's time when it refuses much. Here a freed block goes to the list of its class, steps of 64
bytes, and the next of that class is taken from there. Before each block stand 16 bytes that tell its class; blocks beyond
the largest class, and those that a list has no room for, are malloc's. The loop's thread alone uses a pool, and its owner
once that has ended.
"""

from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from server.transport.nghttp2 cimport nghttp2_mem

cdef enum:
    HEAD_BYTES = 16  # keeps the alignment that malloc promises
    STEP_BYTES = 64
    KEPT_MOST = 16_384  # blocks of a class: four connections' streams and more, 8 MiB at most


cdef void* _take(size_t size, void* user) noexcept nogil:
    cdef Pool* pool = <Pool*> user
    cdef size_t kind = (size + HEAD_BYTES - 1) // STEP_BYTES
    cdef uint64_t* block
    if kind < POOL_CLASSES:
        if pool.free_blocks[kind] != NULL:
            block = <uint64_t*> pool.free_blocks[kind]
            pool.free_blocks[kind] = (<Block*> block)[0]
            pool.free_counts[kind] -= 1
        else:
            block = <uint64_t*> malloc((kind + 1) * STEP_BYTES)
    elif size > <size_t> -1 - HEAD_BYTES:
        return NULL
    else:
        block = <uint64_t*> malloc(size + HEAD_BYTES)
    if block == NULL:
        return NULL
    block[0] = kind
    block[1] = size
    return block + 2


cdef void _give(void* pointer, void* user) noexcept nogil:
    cdef Pool* pool = <Pool*> user
    cdef uint64_t* block
    cdef size_t kind
    if pointer == NULL:
        return
    block = <uint64_t*> pointer - 2
    kind = block[0]
    if RAPPORT_SANITIZE or kind >= POOL_CLASSES or pool.free_counts[kind] >= KEPT_MOST:
        free(block)
        return
    (<Block*> block)[0] = pool.free_blocks[kind]
    pool.free_blocks[kind] = block
    pool.free_counts[kind] += 1


cdef void* _clear(size_t count, size_t size, void* user) noexcept nogil:
    cdef void* taken
    if size and count > <size_t> -1 // size:
        return NULL
    taken = _take(count * size, user)
    if taken != NULL:
        memset(taken, 0, count * size)
    return taken


cdef void* _resize(void* pointer, size_t size, void* user) noexcept nogil:
    cdef uint64_t* block
    cdef void* taken
    if pointer == NULL:
        return _take(size, user)
    block = <uint64_t*> pointer - 2
    if block[0] < POOL_CLASSES and size + HEAD_BYTES <= (block[0] + 1) * STEP_BYTES:
        block[1] = size
        return pointer
    taken = _take(size, user)
    if taken != NULL:
        memcpy(taken, pointer, min(<size_t> block[1], size))
        _give(pointer, user)
    return taken


cdef nghttp2_mem pool_memory(Pool* pool) noexcept nogil:
    """What a session is made with, to take its memory from the pool, which must outlive it."""
    cdef nghttp2_mem memory
    memory.mem_user_data = pool
    memory.malloc = _take
    memory.free = _give
    memory.calloc = _clear
    memory.realloc = _resize
    return memory


cdef void pool_empty(Pool* pool) noexcept nogil:
    """Frees what is kept. No session may be left."""
    cdef int kind
    cdef void* block
    for kind in range(POOL_CLASSES):
        while pool.free_blocks[kind] != NULL:
            block = pool.free_blocks[kind]
            pool.free_blocks[kind] = (<Block*> block)[0]
            free(block)
        pool.free_counts[kind] = 0
