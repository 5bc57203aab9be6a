"""Fills the table of texts that `words.pxd` looks things up in."""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy


cdef int make_words(Words* words, dict values) except -1:
    """Fill empty `words` from texts (bytes) and their values (0 or more)."""
    cdef uint32_t size = 4
    cdef uint32_t slot, at = 0
    cdef bytes text
    words.count = 0
    if not values:
        return 0
    while size < 2 * <uint32_t>len(values):
        size *= 2
    words.slots = <Word*>malloc(size * sizeof(Word))
    words.bytes = <uint8_t*>malloc(sum(map(len, values)) + 1)
    if words.slots == NULL or words.bytes == NULL:
        raise MemoryError("no memory for a column's words")
    for slot in range(size):
        words.slots[slot].value = -1
        words.slots[slot].length = 0
    words.mask = size - 1
    for text, value in values.items():
        slot = <uint32_t>hash_text(<const uint8_t*>PyBytes_AS_STRING(text), <uint32_t>len(text)) & words.mask
        while words.slots[slot].value >= 0:
            slot = (slot + 1) & words.mask
        memcpy(words.bytes + at, PyBytes_AS_STRING(text), len(text))
        words.slots[slot].start = at
        words.slots[slot].length = <uint32_t>len(text)
        words.slots[slot].value = value
        at += <uint32_t>len(text)
        words.count += 1
    return 0


cdef void free_words(Words* words) noexcept:
    """Give back what `words` owns."""
    free(words.slots)
    free(words.bytes)
