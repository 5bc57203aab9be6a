"""Identifiers as they are looked up and stored: normalised, checked, without the GIL.

Channels spell one identifier in many ways; each namespace declares the rule (`core.schema.Normaliser`) that makes the
spellings meet. The rules are part of the stored data: a changed rule would no longer find what it stored.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t

# Rules, as core.schema.Normaliser, in its order.
cdef enum Rule:
    RULE_NONE = 1
    RULE_LOWER = 2
    RULE_E164 = 3
    RULE_FOLD = 4

# Why an identifier is refused.
cdef enum IdentifierFault:
    IDENTIFIER_FINE = 0
    IDENTIFIER_EMPTY = 1  # nothing, or nothing but what the rule removes
    IDENTIFIER_LONG = 2  # over limits.IDENTIFIER_BYTES
    IDENTIFIER_ENCODING = 3  # not UTF-8
    IDENTIFIER_NUMBER = 4  # not a telephone number with its country code

# Normalise `size` bytes at `value` into `normal`, which has limits.IDENTIFIER_BYTES; IDENTIFIER_FINE or a fault.
cdef int normalise(int rule, const char* value, size_t size, char* normal, size_t* normal_bytes) noexcept nogil
# Whether the bytes are well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms).
cdef bint is_utf8(const uint8_t* bytes, size_t size) noexcept nogil
