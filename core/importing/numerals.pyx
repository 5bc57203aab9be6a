"""Reads numbers as people write them, exactly: a decimal mark of their choice, groups of digits, an exponent.

A text becomes a `Number`, 19 digits and a power of ten, with a note of what did not fit. From there it goes to 64 bits
in whole units, in 127 bits on the way so that a product and a scale are exact too, or to the nearest double. Python's
Decimal and float are the tests' oracle.
"""

from libc.stdint cimport INT64_MAX, INT64_MIN, int32_t, int64_t, uint8_t, uint32_t

from core.hub.buffer cimport Buffer
from core.hub.causes cimport NOT_A_NUMBER, NOT_WHOLE, OUT_OF_RANGE

cdef extern from * nogil:
    """
    #include <locale.h>
    #include <stdlib.h>

    static locale_t rapport_c_locale(void)
    {
        static locale_t made;
        if (made == (locale_t)0) {
            locale_t fresh = newlocale(LC_ALL_MASK, "C", (locale_t)0);
            locale_t none = (locale_t)0;
            if (!__atomic_compare_exchange_n(&made, &none, fresh, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
                freelocale(fresh);
        }
        return made;
    }

    /* strtod that knows only the dot, whatever locale the process has set. */
    static inline double rapport_text_to_double(const char *text)
    {
        return strtod_l(text, (char **)0, rapport_c_locale());
    }
    """
    double rapport_text_to_double(const char* text) noexcept


cdef int read_number(
    const uint8_t* text, uint32_t length, uint8_t decimal, uint8_t thousands, Number* number
) noexcept nogil:
    """A decimal number with optional sign, fraction and exponent; 0 or NOT_A_NUMBER.

    Groups of digits must be of three once one is marked.
    """
    cdef uint32_t i = 0
    cdef uint32_t digits = 0, group = 0
    cdef bint grouped = False, fraction = False, exponent_negative = False, full = False
    cdef int32_t exponent = 0
    cdef uint8_t c
    number.mantissa = 0
    number.exponent = 0
    number.negative = False
    number.inexact = False
    number.half = False
    if length and (text[0] == c'-' or text[0] == c'+'):
        number.negative = text[0] == c'-'
        i = 1
    while i < length:
        c = text[i]
        if c'0' <= c <= c'9':
            digits += 1
            group += 1
            if number.mantissa < 1844674407370955161ULL:
                number.mantissa = number.mantissa * 10 + (c - c'0')
                number.exponent -= fraction
            else:
                if not full:
                    number.half = c >= c'5'
                full = True
                number.inexact = number.inexact or c != c'0'
                number.exponent += not fraction
        elif c == decimal and not fraction:
            if grouped and group != 3:
                return NOT_A_NUMBER
            fraction = True
        elif thousands and c == thousands and not fraction and digits:
            if (grouped and group != 3) or group > 3:
                return NOT_A_NUMBER
            grouped = True
            group = 0
        else:
            break
        i += 1
    if digits == 0 or (grouped and not fraction and group != 3):
        return NOT_A_NUMBER
    if i < length and (text[i] == c'e' or text[i] == c'E'):
        i += 1
        if i < length and (text[i] == c'-' or text[i] == c'+'):
            exponent_negative = text[i] == c'-'
            i += 1
        digits = 0
        while i < length and c'0' <= text[i] <= c'9':
            if exponent < 100_000:
                exponent = exponent * 10 + (text[i] - c'0')
            digits += 1
            i += 1
        if digits == 0:
            return NOT_A_NUMBER
        number.exponent += -exponent if exponent_negative else exponent
    return 0 if i == length else NOT_A_NUMBER


cdef void without_zeros(Number* number) noexcept nogil:
    """The form in which equal numbers are equal field by field."""
    while number.mantissa and number.mantissa % 10 == 0:
        number.mantissa //= 10
        number.exponent += 1
    if number.mantissa == 0:
        number.exponent = 0
        number.negative = False


cdef bint is_among(const Buffer* numbers, const Number* number) noexcept nogil:
    """Whether a number equals one of an array of them, which have no zeros at their ends: 999 is 999.0 and 9.99e2."""
    cdef Number plain
    cdef const Number* each = <const Number*>numbers.data
    cdef size_t i
    if numbers.size == 0 or number.inexact:
        return False
    plain = number[0]
    without_zeros(&plain)
    for i in range(numbers.size // sizeof(Number)):
        if each[i].mantissa == plain.mantissa and each[i].exponent == plain.exponent \
                and each[i].negative == plain.negative:
            return True
    return False


cdef int to_whole(
    rapport_wide mantissa, int32_t exponent, bint inexact, bint half, bint rounded, int64_t* value
) noexcept nogil:
    """`mantissa` times ten to the `exponent` as 64 bits; 0, NOT_WHOLE or OUT_OF_RANGE. Halves go away from zero.

    ``inexact``: less than one is missing of the mantissa; ``half``: half of one or more. Beside a remainder neither changes
    how it is rounded.
    """
    cdef rapport_wide remainder
    cdef rapport_wide divisor = 1
    cdef int sign = -1 if mantissa < 0 else 1
    if mantissa == 0:
        exponent = 0
    while exponent > 0:
        if rapport_wide_multiply(mantissa, 10, &mantissa):
            return OUT_OF_RANGE
        exponent -= 1
    if exponent < -37:
        if not rounded:
            return NOT_WHOLE
        # Anything of 38 digits or fewer is below a half after so many steps, and none has more.
        mantissa = 0
    elif exponent < 0:
        while exponent < 0:
            divisor *= 10
            exponent += 1
        remainder = mantissa % divisor
        mantissa = mantissa // divisor
        if remainder < 0:
            remainder = -remainder
        if remainder or inexact:
            if not rounded:
                return NOT_WHOLE
            if remainder >= divisor - remainder:
                mantissa += sign
    elif inexact:
        if not rounded:
            # What was left out is a fraction; of a number beyond 64 bits it may be whole digits.
            if INT64_MIN < mantissa <= INT64_MAX:
                return NOT_WHOLE
        elif half:
            mantissa += sign
    if mantissa > <rapport_wide>INT64_MAX or mantissa <= <rapport_wide>INT64_MIN:
        return OUT_OF_RANGE
    value[0] = <int64_t>mantissa
    return 0


cdef double* POWERS = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
    1e20, 1e21, 1e22,
]


cdef int to_double(
    const uint8_t* text, uint32_t length, const Number* number, uint8_t decimal, uint8_t thousands, double* value
) noexcept nogil:
    """The nearest double; 0, NOT_A_NUMBER or OUT_OF_RANGE.

    A mantissa and a power of ten that are both exact doubles give the correctly rounded value in one operation; the
    rest goes to strtod.
    """
    cdef char plain[512]
    cdef uint32_t i, size = 0
    cdef double found
    if not number.inexact and number.mantissa <= 9007199254740992ULL and -22 <= number.exponent <= 22:
        found = <double>number.mantissa
        if number.exponent < 0:
            found /= POWERS[-number.exponent]
        else:
            found *= POWERS[number.exponent]
        value[0] = -found if number.negative else found
        return 0
    if length >= sizeof(plain):
        return NOT_A_NUMBER
    for i in range(length):
        if thousands and text[i] == thousands:
            continue
        plain[size] = c'.' if text[i] == decimal else text[i]
        size += 1
    plain[size] = 0
    found = rapport_text_to_double(plain)
    if found - found != 0:
        return OUT_OF_RANGE
    value[0] = found
    return 0
