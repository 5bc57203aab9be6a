"""Times as people write them; what is understood is told in the .pyx.

Both give microseconds since 1970 and 0, or a cause. `local` says what the value still lacks of its zone.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t

cdef enum:
    PLACED = 0  # nothing: the text names an offset
    LOCAL_TIME = 1  # the zone's offset
    LOCAL_DAY = 2  # the same, and the text names no time of day
    REFUSED = 3  # it has none: the cell was rejected

cdef int read_iso(const uint8_t* text, uint32_t length, int64_t* value, uint8_t* local) noexcept nogil
cdef int read_pattern(
    const uint8_t* pattern, uint32_t size, const uint8_t* text, uint32_t length, int64_t* value,
    uint8_t* local) noexcept nogil
