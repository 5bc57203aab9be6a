"""A bump allocator for bytes that live as long as one decision.

One arena belongs to one thread's workspace. Taking memory moves a mark; `arena_reset` at the end of a decision moves
it back and frees nothing, so that after the first decisions the arena neither grows nor calls malloc. When a block is
full a larger one joins it: blocks never move, so pointers taken stay valid until the reset. A reset after growth
keeps the largest block only.
"""

from libc.stdlib cimport free, malloc
from libc.string cimport memset

cdef struct Block:
    Block* before  # the block that filled up before this one, or NULL
    size_t size  # usable bytes; they begin right after this struct

cdef struct Arena:
    Block* block  # the newest block, from which memory is taken; NULL until the first
    size_t used  # bytes taken of the newest block
    size_t first  # size of the first block
    size_t limit  # bytes all blocks together may have; past it arena_take gives NULL
    size_t held  # bytes all blocks have


cdef inline void arena_open(Arena* arena, size_t first, size_t limit) noexcept nogil:
    """Prepares an arena that takes its first block when something is asked of it. ``first`` and ``limit`` in bytes."""
    memset(arena, 0, sizeof(Arena))
    arena.first = first
    arena.limit = limit


cdef inline void arena_close(Arena* arena) noexcept nogil:
    """Frees everything; what was taken is gone. The arena may be opened again."""
    cdef Block* before
    while arena.block != NULL:
        before = arena.block.before
        free(arena.block)
        arena.block = before
    arena.used = 0
    arena.held = 0


cdef inline char* _arena_grow(Arena* arena, size_t bytes) noexcept nogil:
    cdef size_t size = arena.first if arena.block == NULL else 2 * arena.block.size
    cdef Block* block
    if size < bytes:
        size = bytes
    if size > arena.limit or arena.held > arena.limit - size:
        size = bytes  # what was asked for may still fit where doubling does not
        if size > arena.limit or arena.held > arena.limit - size:
            return NULL
    block = <Block*> malloc(sizeof(Block) + size)
    if block == NULL:
        return NULL
    block.before = arena.block
    block.size = size
    arena.block = block
    arena.held += size
    arena.used = bytes
    return <char*> (block + 1)


cdef inline char* arena_take(Arena* arena, size_t bytes) noexcept nogil:
    """``bytes`` bytes aligned to 16, valid until the reset; NULL when memory ran out or the limit is reached."""
    cdef size_t rounded = (bytes + 15) & ~(<size_t> 15)
    cdef char* taken
    if rounded < bytes:
        return NULL
    if arena.block == NULL or rounded > arena.block.size - arena.used:
        return _arena_grow(arena, rounded)
    taken = <char*> (arena.block + 1) + arena.used
    arena.used += rounded
    return taken


cdef inline void arena_reset(Arena* arena) noexcept nogil:
    """Forgets what was taken; the newest and largest block stays for the next decision."""
    cdef Block* before
    if arena.block == NULL:
        return
    while arena.block.before != NULL:
        before = arena.block.before
        arena.block.before = before.before
        arena.held -= before.size
        free(before)
    arena.used = 0


cdef inline Arena* arena_new() noexcept nogil:
    """An arena of a thread's workspace: 64 KiB at first, 256 MiB at most. NULL when memory ran out."""
    cdef Arena* arena = <Arena*> malloc(sizeof(Arena))
    if arena != NULL:
        arena_open(arena, 1 << 16, 1 << 28)
    return arena


cdef inline void arena_free(Arena* arena) noexcept nogil:
    """Frees an arena that `arena_new` gave, and everything taken from it. NULL is let pass."""
    if arena != NULL:
        arena_close(arena)
        free(arena)
