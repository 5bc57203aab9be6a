"""The pool of `pool.pxd`. Each block begins with 16 bytes: its class, and the bytes asked for."""

from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset


cdef void* pool_take(size_t size, void* context) noexcept nogil:
    cdef Pool* pool = <Pool*>context
    cdef size_t total = size + 16
    cdef uint64_t kind = 0
    cdef uint64_t* block
    while kind < CLASSES and (<size_t>32 << kind) < total:
        kind += 1
    if kind < CLASSES and pool.free_blocks[kind] != NULL:
        block = <uint64_t*>pool.free_blocks[kind]
        pool.free_blocks[kind] = (<void**>block)[0]
    else:
        block = <uint64_t*>malloc((<size_t>32 << kind) if kind < CLASSES else total)
        if block == NULL:
            return NULL
        pool.allocations += 1
    block[0] = kind
    block[1] = size
    return block + 2


cdef void pool_give(void* pointer, void* context) noexcept nogil:
    cdef Pool* pool = <Pool*>context
    cdef uint64_t* block
    cdef uint64_t kind
    if pointer == NULL:
        return
    block = <uint64_t*>pointer - 2
    kind = block[0]
    if kind >= CLASSES:
        free(block)
        return
    (<void**>block)[0] = pool.free_blocks[kind]
    pool.free_blocks[kind] = block


cdef void* pool_clear(size_t count, size_t size, void* context) noexcept nogil:
    cdef void* taken = pool_take(count * size, context)
    if taken != NULL:
        memset(taken, 0, count * size)
    return taken


cdef void* pool_resize(void* pointer, size_t size, void* context) noexcept nogil:
    cdef uint64_t* block
    cdef void* taken
    if pointer == NULL:
        return pool_take(size, context)
    block = <uint64_t*>pointer - 2
    if block[0] < CLASSES and size + 16 <= (<size_t>32 << block[0]):
        block[1] = size
        return pointer
    taken = pool_take(size, context)
    if taken != NULL:
        memcpy(taken, pointer, block[1] if block[1] < size else size)
        pool_give(pointer, context)
    return taken


cdef void pool_empty(Pool* pool) noexcept nogil:
    cdef int kind
    cdef void* block
    for kind in range(CLASSES):
        while pool.free_blocks[kind] != NULL:
            block = pool.free_blocks[kind]
            pool.free_blocks[kind] = (<void**>block)[0]
            free(block)
