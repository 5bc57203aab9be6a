"""What handlers of mutations check with; see values.pyx."""

from libc.stdint cimport uint64_t


# The text in UTF-8; BadValue or TooLarge, naming `path`, when it is none that the store takes.
cdef bytes text_bytes(str path, value)
# The stored form of an idempotency key.
cdef uint64_t hashed(str what, str key) except? 0
# Refuses what is no time between the years 1 and 9999.
cdef int check_time(str what, at_us) except -1
