"""A small hash table of texts and what each stands for: labels, and the texts that mean missing.

It is made once for a column and then only read. `Words` owns copies of its texts.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp

cdef struct Word:
    uint32_t start  # offset in the words' bytes
    uint32_t length  # bytes
    int32_t value  # what the word stands for

cdef struct Words:
    Word* slots  # open addressing, a power of two; length 0 with value -1 is free; owned
    uint8_t* bytes  # the words' texts; owned
    uint32_t mask  # number of slots - 1
    uint32_t count  # words


cdef inline uint64_t hash_text(const uint8_t* text, uint32_t length) noexcept nogil:
    """FNV-1a; the tables are small and their words come from the mapping, not from strangers."""
    cdef uint64_t hashed = 0xCBF29CE484222325ULL
    cdef uint32_t i
    for i in range(length):
        hashed = (hashed ^ text[i]) * 0x100000001B3ULL
    return hashed ^ (hashed >> 32)


cdef inline int32_t find_word(const Words* words, const uint8_t* text, uint32_t length) noexcept nogil:
    """The word's value, or -1."""
    cdef uint32_t slot
    cdef const Word* word
    if words.count == 0:
        return -1
    slot = <uint32_t>hash_text(text, length) & words.mask
    while True:
        word = &words.slots[slot]
        if word.value < 0:
            return -1
        if word.length == length and memcmp(words.bytes + word.start, text, length) == 0:
            return word.value
        slot = (slot + 1) & words.mask


cdef int make_words(Words* words, dict values) except -1
cdef void free_words(Words* words) noexcept
