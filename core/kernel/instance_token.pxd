"""Instance tokens: what an outcome needs to be attributed, signed."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    TOKEN_BYTES = 84  # signed part without the identifier, then the signature
    TOKEN_TEXT_MOST = 512  # characters of a token with the longest identifier, base64url

cdef struct TokenFields:
    uint64_t customer  # 0: nobody known; the identifier is appended instead
    uint64_t instance  # id of the instance
    int64_t decided_us  # the decision's clock
    int64_t expires_us  # outcomes are taken until then
    int64_t price  # minor units; INT64_MIN: unpriced
    double propensity  # as it competed
    uint32_t offer  # catalog number
    uint32_t program  # version number
    uint16_t channel  # catalog number
    uint16_t rank  # from 1
    uint16_t flags  # 1: deferred
    uint16_t namespace  # of the identifier, 0 without
    const char* identifier  # normalised bytes
    uint16_t identifier_length  # bytes at identifier

cdef uint32_t token_write(const TokenFields* fields, const uint8_t* key, char* out) noexcept nogil
cdef int token_read(
    const char* text, size_t length, const uint8_t* key, TokenFields* fields, uint8_t* scratch
) noexcept nogil
cdef void siphash128(const uint8_t* data, size_t length, const uint8_t* key, uint8_t* out) noexcept nogil
cdef uint64_t mix64(uint64_t a, uint64_t b) noexcept nogil
