"""What gRPC says in headers, as functions over bytes. No state, no allocation, safe in any thread."""

from libc.stdint cimport int64_t, uint8_t

# grpc-timeout could not be read.
cdef enum:
    TIMEOUT_BAD = -1

cdef int64_t timeout_ns(const uint8_t* text, size_t size) noexcept nogil
cdef size_t percent_encoded(const uint8_t* text, size_t size, uint8_t* into, size_t room) noexcept nogil
cdef size_t base64_encoded(const uint8_t* data, size_t size, uint8_t* into) noexcept nogil
cdef bint is_grpc(const uint8_t* text, size_t size) noexcept nogil
