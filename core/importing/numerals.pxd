"""Numbers as people write them; how they are read is told in the .pyx."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from core.hub.buffer cimport Buffer

cdef extern from * nogil:
    """
    typedef __int128 rapport_wide;

    /* 0 and the product, or 1 when it has more than 127 bits. */
    static inline int rapport_wide_multiply(rapport_wide a, rapport_wide b, rapport_wide *product)
    {
        return __builtin_mul_overflow(a, b, product);
    }
    """
    ctypedef long long rapport_wide
    int rapport_wide_multiply(rapport_wide a, rapport_wide b, rapport_wide* product) noexcept

cdef struct Number:
    uint64_t mantissa  # significant digits
    int32_t exponent  # power of ten to multiply the mantissa with
    bint negative  # sign
    bint inexact  # digits other than 0 were left out of the mantissa
    bint half  # the first of those left out is 5 or more

cdef int read_number(
    const uint8_t* text, uint32_t length, uint8_t decimal, uint8_t thousands, Number* number) noexcept nogil
cdef void without_zeros(Number* number) noexcept nogil
cdef bint is_among(const Buffer* numbers, const Number* number) noexcept nogil
cdef int to_whole(
    rapport_wide mantissa, int32_t exponent, bint inexact, bint half, bint rounded, int64_t* value) noexcept nogil
cdef int to_double(
    const uint8_t* text, uint32_t length, const Number* number, uint8_t decimal, uint8_t thousands,
    double* value) noexcept nogil
