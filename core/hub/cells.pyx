"""Reads rows out of a file's bytes and turns columns of cells into columns of values.

Why not a general CSV library: an import must say for every bad cell in which line of the source it stands, must go on
after a row of any kind of badness (too few cells, a quote that is never closed, a cell larger than any block), and
must not stop in the middle for one. Readers made for analysis count rows per block, end at a row longer than their
block, and lose the cell's text once it is typed. So rows are split here, in one pass over the bytes, into spans (start
and length) of the wanted columns only; a column's converter then runs down its spans. Values are read straight from
the source's bytes; nothing is copied but texts. Python's csv module is the tests' oracle for the splitting, Decimal,
float and datetime for the values.

CSV here is RFC 4180 with the delimiter and quote of the mapping: rows end with LF or CRLF, a quoted cell may hold
delimiters, line ends and doubled quotes, a quote inside an unquoted cell is an ordinary character, empty lines are
passed over.

A row that cannot be split is noted in `rejects` and does not enter the table; a row whose cell cannot be converted is
marked `bad` and noted. Every converter runs over every row, so that all bad cells of a row are reported.

Memory: a `Table` owns the block's bytes and the arrays over them; spans are valid until the next `fill`, `add` or
`clear`. A `Column` owns its values until its next run; `take` copies the good rows out.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport INT64_MAX, INT64_MIN, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memchr, memcmp, memcpy, memmove, memset

from core.hub.buffer cimport Buffer, buffer_append, buffer_free
from core.hub.identifiers cimport IDENTIFIER_EMPTY, IDENTIFIER_FINE, is_utf8, normalise
from core.hub.record cimport rapport_siphash

import numpy as np

from core import limits
from core.errors import EngineFault

cdef extern from * nogil:
    """
    #include <locale.h>
    #include <stdlib.h>
    #include <stdint.h>
    typedef __int128 rapport_wide;

    /* 0 and the product, or 1 when it has more than 127 bits. */
    static inline int rapport_wide_multiply(rapport_wide a, rapport_wide b, rapport_wide *product)
    {
        return __builtin_mul_overflow(a, b, product);
    }

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
    ctypedef long long rapport_wide
    int rapport_wide_multiply(rapport_wide a, rapport_wide b, rapport_wide* product) noexcept
    double rapport_text_to_double(const char* text) noexcept


# A quoted cell longer than this has lost its closing quote; no legal value comes near it.
cdef enum:
    QUOTED_BYTES = 65_536
    # A row longer than this is no row. Also bounds how much of a block waits for the next.
    ROW_BYTES = 1_048_576
    TEXT_BYTES = 1024  # limits.STRING_BYTES
    IDENTIFIER_BYTES = 256  # limits.IDENTIFIER_BYTES
    MEMBERS = 256  # limits.SET_MEMBERS
    JOINED = 0x1F  # between the texts of a key, and the members of a JSON array

if TEXT_BYTES != limits.STRING_BYTES or IDENTIFIER_BYTES != limits.IDENTIFIER_BYTES or MEMBERS != limits.SET_MEMBERS:
    raise EngineFault("core/hub/cells.pyx and core/limits.py disagree on the length of texts.")

# By number: a stable name for counting, and the reason as the rejects file gives it; {count} is the cause's number.
CAUSES = {
    RAGGED: ("ROW_LENGTH", "the row has {count} cells, the header has another number"),
    UNCLOSED: ("QUOTE_OPEN", "a quoted cell runs on for more than 65536 bytes or to the end: is a quote never closed?"),
    LONG_ROW: ("ROW_TOO_LONG", "the row is longer than 1048576 bytes"),
    AFTER_QUOTE: ("TEXT_AFTER_QUOTE", "text follows a cell's closing quote"),
    NUL_BYTE: ("NUL_BYTE", "the cell holds a NUL byte"),
    NOT_UTF8: ("NOT_UTF8", "the cell is not UTF-8: is the mapping's encoding right?"),
    NOT_A_NUMBER: ("NOT_A_NUMBER", "not a number"),
    NOT_WHOLE: ("NOT_WHOLE", "not a whole number, and the mapping does not say round: true"),
    TOO_PRECISE: ("TOO_PRECISE", "more decimals than the currency has, and the mapping does not say round: true"),
    OUT_OF_RANGE: ("OUT_OF_RANGE", "too large to be stored: whole numbers and amounts in minor units end at 64 bits"),
    NOT_A_BOOL: ("NOT_A_BOOL", "neither true nor false"),
    NOT_A_LABEL: ("NOT_A_LABEL", "not one of the attribute's labels"),
    NOT_A_TIME: ("NOT_A_TIME", "does not have the format that the mapping declares"),
    NO_SUCH_DATE: ("NO_SUCH_DATE", "no such date or time of day"),
    NO_SUCH_HOUR: ("NO_SUCH_LOCAL_TIME", "a local time that the clocks of the zone skipped"),
    LONG_TEXT: ("TEXT_TOO_LONG", "{count} bytes are more than a text may have"),
    MANY_MEMBERS: ("TOO_MANY_MEMBERS", "more members than a set may have"),
    REQUIRED: ("MISSING", "missing, and the mapping says required: true"),
    NO_IDENTIFIER: ("NO_IDENTIFIER", "no identifier: whose row it is cannot be told"),
    BAD_IDENTIFIER: ("BAD_IDENTIFIER", "not a valid identifier of its namespace"),
    NO_KEY: ("NO_KEY", "the columns of the key are all empty"),
    NOT_JSON: ("NOT_JSON", "not JSON"),
    NOT_OBJECT: ("NOT_AN_OBJECT", "JSON, but not an object"),
    NESTED: ("NOT_PLAIN", "an object or array where a plain value is expected"),
    NO_MEMORY: ("NO_MEMORY", "no memory for this row"),
    LARGE_RECORD: ("RECORD_TOO_LARGE", "the customer's record would be too large"),
    MANY_IDENTIFIERS: ("TOO_MANY_IDENTIFIERS", "the customer would have too many identifiers"),
    IN_FUTURE: ("IN_THE_FUTURE", "lies in the future: is the mapping's zone or format right?"),
    UNDATED: ("CONSENT_UNDATED", "a consent without its date: whether it is newer than another cannot be told"),
    DATED_AHEAD: ("CONSENT_AHEAD", "a consent dated in the future: nothing could withdraw it before"),
    MANY_CASES: ("TOO_MANY_CASES", "the customer would have too many open cases"),
    CASE_INVALID: (
        "CASE_INVALID",
        "key, product or owner is too long or has characters that it may not have, or its kind is never about a product"),
    FULL_HOUSEHOLD: ("HOUSEHOLD_FULL", "the household has as many members as it may"),
    PAST_RETENTION: ("PAST_RETENTION", "older than events of its type are kept: see retention in the program's schema"),
    SKIPPED: ("SKIPPED_WITHOUT_IDENTIFIER", "no identifier: skipped, as the mapping says"),
}

# The causes' numbers by their names.
CAUSE_NUMBERS = {name: number for number, (name, _) in CAUSES.items()}

# What Column.kind can be.
cdef enum Kind:
    BOOL = 1
    INT = 2
    DOUBLE = 3
    MONEY = 4
    TIMESTAMP = 5
    ENUM = 6
    STRING = 7
    STRING_SET = 8
    IDENTIFIER = 9
    KEY = 10
    STARTS_WITH = 11

KINDS = {
    "bool": BOOL, "int": INT, "double": DOUBLE, "money": MONEY, "timestamp": TIMESTAMP, "enum": ENUM, "string": STRING,
    "set": STRING_SET, "identifier": IDENTIFIER, "key": KEY, "starts_with": STARTS_WITH,
}

# What read_row tells.
cdef enum Found:
    FOUND_ROW = 0
    FOUND_NOTHING = 1  # an empty line, or a row that was noted as rejected
    FOUND_END = 2  # the rest of the bytes is no whole row yet


# --- words: a small hash table of texts ---------------------------------------------------------------------------

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


# --- texts --------------------------------------------------------------------------------------------------------

cdef inline int check_text(const uint8_t* text, uint32_t length) noexcept nogil:
    """0, NUL_BYTE or NOT_UTF8."""
    if length and memchr(text, 0, length) != NULL:
        return NUL_BYTE
    return 0 if is_utf8(text, length) else NOT_UTF8


cdef inline void trim(const uint8_t** text, uint32_t* length) noexcept nogil:
    """Without the blanks and tabs around it."""
    while length[0] and (text[0][0] == c' ' or text[0][0] == c'\t'):
        text[0] += 1
        length[0] -= 1
    while length[0] and (text[0][length[0] - 1] == c' ' or text[0][length[0] - 1] == c'\t'):
        length[0] -= 1


# --- numbers ------------------------------------------------------------------------------------------------------

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


cdef inline void without_zeros(Number* number) noexcept nogil:
    """The form in which equal numbers are equal field by field."""
    while number.mantissa and number.mantissa % 10 == 0:
        number.mantissa //= 10
        number.exponent += 1
    if number.mantissa == 0:
        number.exponent = 0
        number.negative = False


cdef bint stands_for_missing(const Buffer* absent, const Number* number) noexcept nogil:
    """Whether a number equals one that the mapping declares to mean missing: 999 is 999.0 and 9.99e2."""
    cdef Number plain
    cdef const Number* each = <const Number*>absent.data
    cdef size_t i
    if absent.size == 0 or number.inexact:
        return False
    plain = number[0]
    without_zeros(&plain)
    for i in range(absent.size // sizeof(Number)):
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


# --- times --------------------------------------------------------------------------------------------------------

cdef enum:
    SECOND = 1_000_000
    MINUTE = 60_000_000

cdef int64_t HOUR = 3_600_000_000
cdef int64_t DAY = 86_400_000_000
cdef int64_t FIRST_TIME = -62_135_596_800_000_000  # the year 1 begins
cdef int64_t LAST_TIME = 253_402_300_799_999_999  # the year 9999 ends
cdef const char* MONTHS = "janfebmaraprmayjunjulaugsepoctnovdec"
cdef int* MONTH_DAYS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]


cdef inline int64_t days_before(int64_t year, int64_t month, int64_t day) noexcept nogil:
    """Days from 1970-01-01 to the date, in the Gregorian calendar (Howard Hinnant's days_from_civil)."""
    cdef int64_t era, of_era, of_year
    year -= month <= 2
    era = (year if year >= 0 else year - 399) // 400
    of_era = year - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


cdef int to_time(
    int64_t year, int64_t month, int64_t day, int64_t hour, int64_t minute, int64_t second, int64_t micro,
    int64_t* value
) noexcept nogil:
    """Microseconds since 1970 as if in UTC; 0 or NO_SUCH_DATE."""
    cdef int64_t last
    if year < 1 or year > 9999 or month < 1 or month > 12 or hour > 23 or minute > 59 or second > 59:
        return NO_SUCH_DATE
    last = MONTH_DAYS[month - 1]
    if month == 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0):
        last = 29
    if day < 1 or day > last:
        return NO_SUCH_DATE
    value[0] = days_before(year, month, day) * DAY + hour * HOUR + minute * MINUTE + second * SECOND + micro
    return 0


cdef inline int take_digits(
    const uint8_t* text, uint32_t length, uint32_t* at, int least, int most, int64_t* value
) noexcept nogil:
    """Between `least` and `most` digits at `at`, as many as there are; their count, or 0."""
    cdef int count = 0
    value[0] = 0
    while at[0] < length and count < most and c'0' <= text[at[0]] <= c'9':
        value[0] = value[0] * 10 + (text[at[0]] - c'0')
        at[0] += 1
        count += 1
    return count if count >= least else 0


cdef inline int take_fraction(const uint8_t* text, uint32_t length, uint32_t* at, int64_t* micro) noexcept nogil:
    """Decimals of a second to microseconds; digits past the sixth are cut. Their count, or 0."""
    cdef int count = 0
    micro[0] = 0
    while at[0] < length and c'0' <= text[at[0]] <= c'9':
        if count < 6:
            micro[0] = micro[0] * 10 + (text[at[0]] - c'0')
        count += 1
        at[0] += 1
    if count:
        while count < 6:
            micro[0] *= 10
            count += 1
    return count


cdef int take_offset(const uint8_t* text, uint32_t length, uint32_t* at, int64_t* offset) noexcept nogil:
    """Z, +hh, +hhmm or +hh:mm to microseconds; 1, or 0 when it is none of these."""
    cdef int64_t hours, minutes = 0
    cdef bint west
    if at[0] < length and (text[at[0]] == c'Z' or text[at[0]] == c'z'):
        at[0] += 1
        offset[0] = 0
        return 1
    if at[0] >= length or (text[at[0]] != c'+' and text[at[0]] != c'-'):
        return 0
    west = text[at[0]] == c'-'
    at[0] += 1
    if not take_digits(text, length, at, 2, 2, &hours):
        return 0
    if at[0] < length and text[at[0]] == c':':
        at[0] += 1
        if not take_digits(text, length, at, 2, 2, &minutes):
            return 0
    elif at[0] < length and c'0' <= text[at[0]] <= c'9' and not take_digits(text, length, at, 2, 2, &minutes):
        return 0
    if hours > 23 or minutes > 59:
        return 0
    offset[0] = hours * HOUR + minutes * MINUTE
    if west:
        offset[0] = -offset[0]
    return 1


cdef int read_iso(const uint8_t* text, uint32_t length, int64_t* value, uint8_t* local) noexcept nogil:
    """A date, or a date and time, of ISO 8601's extended form; the offset may be left out. 0 or a cause."""
    cdef uint32_t at = 0
    cdef int64_t year, month, day, hour = 0, minute = 0, second = 0, micro = 0, offset = 0
    cdef int failed
    local[0] = 1
    if not take_digits(text, length, &at, 4, 4, &year) or at >= length or text[at] != c'-':
        return NOT_A_TIME
    at += 1
    if not take_digits(text, length, &at, 2, 2, &month) or at >= length or text[at] != c'-':
        return NOT_A_TIME
    at += 1
    if not take_digits(text, length, &at, 2, 2, &day):
        return NOT_A_TIME
    if at < length:
        if text[at] != c'T' and text[at] != c't' and text[at] != c' ':
            return NOT_A_TIME
        at += 1
        if not take_digits(text, length, &at, 2, 2, &hour) or at >= length or text[at] != c':':
            return NOT_A_TIME
        at += 1
        if not take_digits(text, length, &at, 2, 2, &minute):
            return NOT_A_TIME
        if at < length and text[at] == c':':
            at += 1
            if not take_digits(text, length, &at, 2, 2, &second):
                return NOT_A_TIME
            if at < length and (text[at] == c'.' or text[at] == c','):
                at += 1
                if not take_fraction(text, length, &at, &micro):
                    return NOT_A_TIME
        if at < length:
            if not take_offset(text, length, &at, &offset):
                return NOT_A_TIME
            local[0] = 0
    if at != length:
        return NOT_A_TIME
    failed = to_time(year, month, day, hour, minute, second, micro, value)
    value[0] -= offset
    return failed


cdef int read_pattern(
    const uint8_t* pattern, uint32_t size, const uint8_t* text, uint32_t length, int64_t* value, uint8_t* local
) noexcept nogil:
    """A time in a format of %-directives (see core/hub/mapping.py); 0 or a cause."""
    cdef uint32_t at = 0, i = 0, k
    cdef int64_t year = 1970, month = 1, day = 1, hour = 0, minute = 0, second = 0, micro = 0, offset = 0
    cdef int read, failed
    cdef uint8_t c
    local[0] = 1
    while i < size:
        if pattern[i] != c'%':
            if at >= length or text[at] != pattern[i]:
                return NOT_A_TIME
            at += 1
            i += 1
            continue
        c = pattern[i + 1]
        i += 2
        read = 1
        if c == c'Y':
            read = take_digits(text, length, &at, 4, 4, &year)
        elif c == c'y':
            read = take_digits(text, length, &at, 2, 2, &year)
            year += 2000 if year < 69 else 1900
        elif c == c'm':
            read = take_digits(text, length, &at, 1, 2, &month)
        elif c == c'd':
            read = take_digits(text, length, &at, 1, 2, &day)
        elif c == c'H':
            read = take_digits(text, length, &at, 1, 2, &hour)
        elif c == c'M':
            read = take_digits(text, length, &at, 1, 2, &minute)
        elif c == c'S':
            read = take_digits(text, length, &at, 1, 2, &second)
        elif c == c'f':
            read = take_fraction(text, length, &at, &micro)
        elif c == c'z':
            read = take_offset(text, length, &at, &offset)
            local[0] = 0
        elif c == c'b':
            read = 0
            for k in range(12):
                if at + 3 <= length and (text[at] | 32) == MONTHS[3 * k] and (text[at + 1] | 32) == MONTHS[3 * k + 1] \
                        and (text[at + 2] | 32) == MONTHS[3 * k + 2]:
                    month = k + 1
                    read = 3
            at += read
        else:  # %%
            read = at < length and text[at] == c'%'
            at += read
        if not read:
            return NOT_A_TIME
    if at != length:
        return NOT_A_TIME
    failed = to_time(year, month, day, hour, minute, second, micro, value)
    value[0] -= offset
    return failed


# --- rows ---------------------------------------------------------------------------------------------------------

cdef class Table:
    """The rows of one block of a file.

    ``wanted`` gives for each of the file's columns the slot its cells go to, or -1; ``slots`` is the number of slots.
    At most ``capacity`` rows are held at once.
    """

    def __cinit__(self, wanted, int slots, uint32_t capacity, str delimiter=",", str quote='"'):
        cdef uint32_t i
        self.columns = <uint32_t>len(wanted)
        self.slots = slots
        self.capacity = capacity
        self.delimiter = ord(delimiter)
        self.quote = ord(quote)
        self.line = 1
        self.cells = <Span*>malloc((<size_t>slots * capacity + 1) * sizeof(Span))
        self.lines = <uint64_t*>malloc(capacity * sizeof(uint64_t))
        self.numbers = <uint64_t*>malloc(capacity * sizeof(uint64_t))
        self.bad = <uint8_t*>calloc(capacity, 1)
        self.wanted = <int32_t*>malloc((self.columns + 1) * sizeof(int32_t))
        self.raw = <Span*>malloc((self.columns + 1) * sizeof(Span))
        self.quoted = <uint32_t*>malloc((self.columns + 1) * sizeof(uint32_t))
        if self.cells == NULL or self.lines == NULL or self.numbers == NULL or self.bad == NULL \
                or self.wanted == NULL or self.raw == NULL or self.quoted == NULL:
            raise MemoryError("no memory for an import's rows")
        for i in range(self.columns):
            self.wanted[i] = wanted[i]

    def __dealloc__(self):
        free(self.cells)
        free(self.lines)
        free(self.numbers)
        free(self.bad)
        free(self.wanted)
        free(self.raw)
        free(self.quoted)
        buffer_free(&self.text)
        buffer_free(&self.rejects)

    def start(self, uint64_t line):
        """Say that the first byte given to `fill` begins this 1-based line."""
        self.line = line

    def fill(self, bytes data not None):
        """Append the file's next bytes behind those that were no whole row yet. Rows held before are gone."""
        cdef size_t rest = self.text.size - self.at
        self.rows = 0
        self.rejects.size = 0
        if rest and self.at:
            memmove(self.text.data, self.text.data + self.at, rest)
        self.text.size = rest
        self.at = 0
        if rest + len(data) > <size_t>0x7FFFFFFF:
            raise EngineFault("An import's block has more than 2 GiB.")
        if buffer_append(&self.text, PyBytes_AS_STRING(data), len(data)):
            raise MemoryError("no memory for an import's block")

    def read(self, bint final):
        """Split rows until the table is full or the bytes run out; the rows held then, rejected ones not counted.

        ``final`` says that no more bytes come, so that a last row without a line end counts. Returns False when the
        bytes have run out, so that `fill` is wanted (or the file is done).
        """
        cdef int found
        self.rows = 0
        self.rejects.size = 0
        with nogil:
            memset(self.bad, 0, self.capacity)
            found = self.read_rows(final)
        if found < 0:
            raise MemoryError("no memory for an import's rejects")
        return found != FOUND_END

    def add(self, uint64_t line, list cells not None):
        """Append one row of already separate cells (bytes, or None for missing), one a slot; for JSON Lines."""
        cdef Span* span
        cdef int slot
        cdef bytes cell
        if self.rows >= self.capacity:
            raise EngineFault("An import's table is full.")
        self.number += 1
        self.lines[self.rows] = line
        self.numbers[self.rows] = self.number
        self.bad[self.rows] = 0
        for slot in range(self.slots):
            span = &self.cells[<size_t>slot * self.capacity + self.rows]
            span.start = <uint32_t>self.text.size
            span.length = 0
            if cells[slot] is not None:
                cell = cells[slot]
                span.length = <uint32_t>len(cell)
                if buffer_append(&self.text, PyBytes_AS_STRING(cell), len(cell)):
                    raise MemoryError("no memory for an import's block")
        self.rows += 1

    def add_rejected(self, uint64_t line, int32_t place, int32_t cause, bytes shown not None, bint counts):
        """Note a row that is not to be read; ``counts`` says whether it takes a row's number."""
        cdef Rejected entry
        self.number += counts
        entry.line = line
        entry.place = place
        entry.cause = cause
        entry.count = 0
        entry.shown.start = <uint32_t>self.text.size
        entry.shown.length = <uint32_t>len(shown)
        if buffer_append(&self.text, PyBytes_AS_STRING(shown), len(shown)) \
                or buffer_append(&self.rejects, &entry, sizeof(entry)):
            raise MemoryError("no memory for an import's rejects")

    def hold(self, uint32_t rows):
        """Hold ``rows`` rows whose cells come by `set_texts`; a row's line is its number. Rows held before are gone."""
        cdef uint32_t row
        if rows > self.capacity:
            raise EngineFault("An import's table has room for fewer rows.")
        self.clear()
        for row in range(rows):
            self.number += 1
            self.lines[row] = self.number
            self.numbers[row] = self.number
            self.bad[row] = 0
        self.rows = rows

    def set_texts(
        self, int slot, const int32_t[::1] ends not None, const uint8_t[::1] text not None,
        const uint8_t[::1] valid, size_t first
    ):
        """Give the rows held their cells of one slot: row i's is text[ends[i]:ends[i + 1]], copied.

        Bit ``first + i`` of ``valid`` (None: all are) says whether there is one. Arrow lays texts out like this.
        """
        cdef uint32_t row
        cdef size_t base = self.text.size
        cdef Span* cells = self.cells + <size_t>slot * self.capacity
        cdef int32_t begin
        cdef size_t bit
        if slot < 0 or slot >= self.slots or ends.shape[0] != <Py_ssize_t>self.rows + 1:
            raise EngineFault("An import's column does not fit its table.")
        begin = ends[0]
        if begin < 0 or ends[self.rows] > text.shape[0]:
            raise EngineFault("An import's column ends behind its texts.")
        for row in range(self.rows):
            if ends[row + 1] < ends[row]:
                raise EngineFault("An import's column has texts that end before they begin.")
            cells[row].start = <uint32_t>(base + (ends[row] - begin))
            cells[row].length = <uint32_t>(ends[row + 1] - ends[row])
        if valid is not None:
            if <size_t>valid.shape[0] * 8 < first + self.rows:
                raise EngineFault("An import's column has fewer marks than rows.")
            for row in range(self.rows):
                bit = first + row
                if not (valid[bit >> 3] >> (bit & 7)) & 1:
                    cells[row].length = 0
        if ends[self.rows] > begin and buffer_append(&self.text, &text[begin], ends[self.rows] - begin):
            raise MemoryError("no memory for an import's block")

    def mark(self, uint32_t row, int32_t place, int32_t cause, bytes shown not None):
        """Reject a row that was added."""
        self.number -= 1
        self.add_rejected(self.lines[row], place, cause, shown, True)
        self.bad[row] = 1

    def clear(self):
        """Forget all rows, rejects and bytes, to `add` anew."""
        self.rows = 0
        self.at = 0
        self.text.size = 0
        self.rejects.size = 0

    def require_identifier(self, list columns not None, bint skip):
        """Mark the rows for which no column of ``columns`` (identifiers that have run) has a text."""
        cdef uint32_t row
        cdef Column column
        cdef bint found
        cdef Span nothing
        nothing.start = 0
        nothing.length = 0
        for row in range(self.rows):
            if self.bad[row]:
                continue
            found = False
            for column in columns:
                found = found or column.spans[row].length != 0
            if not found and self.reject(row, -1, SKIPPED if skip else NO_IDENTIFIER, &nothing, 0):
                raise MemoryError("no memory for an import's rejects")

    def prefer(self, Column first not None, Column second not None):
        """Take the text of ``second`` out of every row for which ``first`` has one (identifiers that have run)."""
        cdef uint32_t row
        for row in range(self.rows):
            if first.spans[row].length != 0:
                second.spans[row].length = 0

    def require_date(self, Column granted not None, Column at not None, int64_t latest):
        """Reject the rows in which ``granted`` has a value and ``at`` has none, or one after ``latest``."""
        cdef uint32_t row
        cdef Span shown
        for row in range(self.rows):
            if self.bad[row] or granted.values[row] == 0:
                continue
            if at.values[row] != INT64_MIN and at.values[row] <= latest:
                continue
            shown = self.cells[<size_t>at.first * self.capacity + row]
            if self.reject(row, at.place, UNDATED if at.values[row] == INT64_MIN else DATED_AHEAD, &shown, 0):
                raise MemoryError("no memory for an import's rejects")

    def good(self):
        """How many of the rows held are not marked."""
        cdef uint32_t row, count = 0
        for row in range(self.rows):
            count += not self.bad[row]
        return count

    def good_lines(self):
        """The 1-based lines of the rows that are not marked, in order: the rows that `Column.take` gives."""
        cdef uint32_t row
        return [self.lines[row] for row in range(self.rows) if not self.bad[row]]

    def taken(self):
        """(line, place, cause, count, bytes shown) of everything noted since the rows were read."""
        cdef const Rejected* entry = <const Rejected*>self.rejects.data
        cdef size_t i
        cdef list found = []
        for i in range(self.rejects.size // sizeof(Rejected)):
            found.append((
                entry[i].line, entry[i].place, entry[i].cause, entry[i].count,
                (<char*>self.text.data)[entry[i].shown.start:entry[i].shown.start + entry[i].shown.length],
            ))
        return found

    cdef int reject(self, uint32_t row, int32_t place, int32_t cause, Span* shown, int32_t count) noexcept nogil:
        """Note a held row's bad cell and mark the row; -1 without memory."""
        cdef Rejected entry
        entry.line = self.lines[row]
        entry.place = place
        entry.cause = cause
        entry.count = count
        entry.shown = shown[0]
        if entry.shown.length > 256:
            entry.shown.length = 256
        self.bad[row] = 1
        return buffer_append(&self.rejects, &entry, sizeof(entry))

    cdef int refuse(self, int32_t cause, uint32_t start, uint32_t length, int32_t count) noexcept nogil:
        """Note a row that cannot be split; FOUND_NOTHING, or -1 without memory."""
        cdef Rejected entry
        entry.line = self.line
        entry.place = -1
        entry.cause = cause
        entry.count = count
        entry.shown.start = start
        entry.shown.length = length if length < 256 else 256
        self.number += 1
        return -1 if buffer_append(&self.rejects, &entry, sizeof(entry)) else FOUND_NOTHING

    cdef int read_rows(self, bint final) noexcept nogil:
        """FOUND_ROW when the table is full, FOUND_END when the bytes ran out, -1 without memory."""
        cdef int found
        cdef uint8_t* newline
        while self.rows < self.capacity:
            if self.skipping:
                newline = <uint8_t*>memchr(self.text.data + self.at, c'\n', self.text.size - self.at)
                if newline == NULL:
                    self.at = <uint32_t>self.text.size
                    return FOUND_END
                self.at = <uint32_t>(newline - self.text.data) + 1
                self.line += 1
                self.skipping = False
            found = self.read_row(final)
            if found == FOUND_END or found < 0:
                return found
        return FOUND_ROW

    cdef int read_row(self, bint final) noexcept nogil:
        """One row from `at`; a Found, or -1 without memory. `at` moves past the row, or stays with FOUND_END."""
        cdef uint8_t* text = self.text.data
        cdef uint32_t end = <uint32_t>self.text.size
        cdef uint32_t begin = self.at
        cdef uint32_t p = begin
        cdef uint32_t column = 0, quoted = 0, inner_lines = 0, q, i, from_, to
        cdef uint8_t delimiter = self.delimiter, quote = self.quote, c = 0
        cdef uint8_t* close
        cdef bint doubled, stray = False, ended = False, in_quotes = False
        cdef Span* span
        cdef int32_t slot
        if begin >= end:
            return FOUND_END
        if text[begin] == c'\n' or (text[begin] == c'\r' and begin + 1 < end and text[begin + 1] == c'\n'):
            self.at = begin + (1 if text[begin] == c'\n' else 2)
            self.line += 1
            return FOUND_NOTHING
        while not ended:
            in_quotes = False
            if p < end and text[p] == quote:
                q = p + 1
                doubled = False
                in_quotes = True
                while True:
                    close = <uint8_t*>memchr(text + q, quote, end - q) if q < end else NULL
                    q = end if close == NULL else <uint32_t>(close - text)
                    if q - p > QUOTED_BYTES or (close == NULL and final):
                        return self.lost_quote(begin, end)
                    if close == NULL or (q + 1 == end and not final):
                        # The closing quote, or what follows it, lies in the next block.
                        return self.wait(begin, end)
                    if q + 1 < end and text[q + 1] == quote:
                        doubled = True
                        q += 2
                        continue
                    break
                for i in range(p + 1, q):
                    inner_lines += text[i] == c'\n'
                from_ = p + 1
                to = q
                p = q + 1
                if doubled and column < self.columns:
                    self.quoted[quoted] = column
                    quoted += 1
                c = 0
                if p < end and text[p] == c'\r' and p + 1 < end and text[p + 1] == c'\n':
                    p += 1
                while p < end:
                    c = text[p]
                    if c == delimiter or c == c'\n':
                        break
                    # A carriage return at the very end of the bytes is half of a line end.
                    if not (c == c'\r' and p + 1 == end):
                        stray = True
                    p += 1
            else:
                from_ = p
                while p < end:
                    c = text[p]
                    if c == delimiter or c == c'\n':
                        break
                    p += 1
                to = p
            if p >= end:
                if not final:
                    return self.wait(begin, end)
                ended = True
            elif c == c'\n':
                ended = True
            if ended and not in_quotes and to > from_ and text[to - 1] == c'\r':
                to -= 1
            if column < self.columns:
                self.raw[column].start = from_
                self.raw[column].length = to - from_
            column += 1
            p += 1
            if p - begin > ROW_BYTES:
                return self.long_row(begin, end)
        if p > end:
            p = end
        if stray or column != self.columns:
            to = p - begin
            while to and (text[begin + to - 1] == c'\n' or text[begin + to - 1] == c'\r'):
                to -= 1
            if to == 0:
                self.at = p
                self.line += 1
                return FOUND_NOTHING
            if inner_lines:
                # Most likely a quote was lost or gained in the first line, and the next lines are rows of their own.
                return self.pass_over(AFTER_QUOTE if stray else RAGGED, begin, end, <int32_t>column)
            i = self.refuse(AFTER_QUOTE if stray else RAGGED, begin, to, <int32_t>column)
            self.at = p
            self.line += inner_lines + 1
            return <int>i
        for i in range(quoted):
            span = &self.raw[self.quoted[i]]
            span.length = undouble(text + span.start, span.length, quote)
        for i in range(column):
            slot = self.wanted[i]
            if slot >= 0:
                self.cells[<size_t>slot * self.capacity + self.rows] = self.raw[i]
        self.number += 1
        self.lines[self.rows] = self.line
        self.numbers[self.rows] = self.number
        self.rows += 1
        self.at = p
        self.line += inner_lines + 1
        return FOUND_ROW

    cdef int wait(self, uint32_t begin, uint32_t end) noexcept nogil:
        """The row goes on in the next block, unless it is too long already."""
        return self.long_row(begin, end) if end - begin > ROW_BYTES else FOUND_END

    cdef int long_row(self, uint32_t begin, uint32_t end) noexcept nogil:
        return self.pass_over(LONG_ROW, begin, end, 0)

    cdef int lost_quote(self, uint32_t begin, uint32_t end) noexcept nogil:
        """The quote may stand anywhere in the row's first line: that line is lost, the next one is read afresh."""
        return self.pass_over(UNCLOSED, begin, end, 0)

    cdef int pass_over(self, int32_t cause, uint32_t begin, uint32_t end, int32_t count) noexcept nogil:
        """Reject the line at `begin` alone, whatever row it seemed to open."""
        cdef uint8_t* newline = <uint8_t*>memchr(self.text.data + begin, c'\n', end - begin)
        cdef uint32_t stop = end if newline == NULL else <uint32_t>(newline - self.text.data)
        cdef int found = self.refuse(cause, begin, stop - begin, count)
        self.at = stop
        self.skipping = True
        return FOUND_END if found >= 0 and stop == end else found


cdef uint32_t undouble(uint8_t* text, uint32_t length, uint8_t quote) noexcept nogil:
    """Make one quote of two, in place; the new length."""
    cdef uint32_t i = 0, size = 0
    while i < length:
        text[size] = text[i]
        i += 2 if text[i] == quote and i + 1 < length and text[i + 1] == quote else 1
        size += 1
    return size


# --- values -------------------------------------------------------------------------------------------------------

cdef inline int64_t missing_bits(int kind) noexcept nogil:
    """What a column's 64 bits hold for missing, by kind."""
    if kind == INT or kind == MONEY or kind == TIMESTAMP:
        return INT64_MIN
    if kind == DOUBLE:
        return 0x7FF8000000000000LL  # the quiet NaN that records use
    return 0


cdef int keep(Buffer* buffer, bytes text) except -1:
    """Make `text` the buffer's content."""
    buffer.size = 0
    if buffer_append(buffer, PyBytes_AS_STRING(text), len(text)):
        raise MemoryError("no memory for a column")
    return 0


cdef class Column:
    """Turns one column's cells into values.

    ``kind`` is one of `KINDS`; ``place`` names the column in rejects; ``slots`` are the table's slots to read: one, the
    two factors of a product, a key's columns, or none for the row's number.
    """

    def __cinit__(
        self, int kind, int place, slots, uint32_t capacity, *, missing=(), labels=None, bint required=False,
        bint rounded=False, int64_t scale_mantissa=1, int32_t scale_exponent=0, double scale=1.0, str decimal=".",
        str thousands="", str separator=",", str format="iso", bytes suffix=b"", bytes prefix=b"", int normaliser=0,
        zone=None, int64_t latest=INT64_MAX,
    ):
        cdef int i
        self.kind = kind
        self.place = place
        self.first = slots[0] if slots else -1
        self.second = slots[1] if len(slots) > 1 and kind != KEY else -1
        self.keyed_count = <int>len(slots)
        self.keyed = <int32_t*>malloc((len(slots) + 1) * sizeof(int32_t))
        self.values = <int64_t*>malloc(capacity * sizeof(int64_t))
        self.spans = <Span*>malloc(capacity * sizeof(Span))
        self.local = <uint8_t*>malloc(capacity)
        if self.keyed == NULL or self.values == NULL or self.spans == NULL or self.local == NULL:
            raise MemoryError("no memory for a column")
        for i in range(self.keyed_count):
            self.keyed[i] = slots[i]
        make_words(&self.missing, {text: 0 for text in missing})
        make_words(&self.labels, labels or {})
        self.required = required
        self.rounded = rounded
        self.decimal = ord(decimal)
        self.thousands = ord(thousands) if thousands else 0
        if kind in (INT, DOUBLE, MONEY, TIMESTAMP):
            self.know_absent(missing)
        self.scale_mantissa = scale_mantissa
        self.scale_exponent = scale_exponent
        self.scale = scale
        self.separator = ord(separator)
        self.epoch = {"iso": -2, "epoch_s": 6, "epoch_ms": 3, "epoch_us": 0}.get(format, -1)
        keep(&self.pattern, format.encode())
        keep(&self.suffix, suffix)
        keep(&self.prefix, prefix)
        self.normaliser = normaliser
        self.zone = zone
        self.latest = latest
        self.capacity = capacity

    def __dealloc__(self):
        free(self.keyed)
        free(self.values)
        free(self.spans)
        free(self.local)
        free(self.missing.slots)
        free(self.missing.bytes)
        free(self.labels.slots)
        free(self.labels.bytes)
        buffer_free(&self.absent)
        buffer_free(&self.pattern)
        buffer_free(&self.suffix)
        buffer_free(&self.prefix)
        buffer_free(&self.heap)
        buffer_free(&self.scratch)

    def know_absent(self, missing):
        """Keep the numbers among the texts that mean missing; for the constructor."""
        cdef Number number
        cdef const uint8_t* text
        cdef uint32_t length
        cdef bytes word
        for word in missing:
            text = <const uint8_t*>PyBytes_AS_STRING(word)
            length = <uint32_t>len(word)
            trim(&text, &length)
            if read_number(text, length, self.decimal, self.thousands, &number) or number.inexact:
                continue
            without_zeros(&number)
            if buffer_append(&self.absent, &number, sizeof(number)):
                raise MemoryError("no memory for a column")

    def run(self, Table table not None):
        """Convert every row the table holds; bad ones are marked and noted in it."""
        cdef int failed
        if table.rows > self.capacity:
            raise EngineFault("An import's column has fewer rows than its table.")
        with nogil:
            failed = self.run_rows(table)
        if failed:
            raise MemoryError("no memory for an import's column")
        if self.kind == TIMESTAMP and self.zone is not None:
            self.place_in_zone(table)
        if self.kind == TIMESTAMP and self.latest != INT64_MAX:
            self.refuse_later(table)

    cdef int refuse_later(self, Table table) except -1:
        """Reject the rows whose time lies after `latest`."""
        cdef uint32_t row
        cdef Span shown
        for row in range(table.rows):
            if self.values[row] <= self.latest:
                continue
            self.values[row] = INT64_MIN
            shown = table.cells[<size_t>self.first * table.capacity + row]
            if table.reject(row, self.place, IN_FUTURE, &shown, 0):
                raise MemoryError("no memory for an import's rejects")
        return 0

    cdef int run_rows(self, Table table) noexcept nogil:
        cdef uint32_t row
        cdef const Span* cell
        cdef Span nothing
        cdef Span shown
        cdef int cause
        nothing.start = 0
        nothing.length = 0
        self.heap.size = 0
        for row in range(table.rows):
            cell = &nothing if self.first < 0 else &table.cells[<size_t>self.first * table.capacity + row]
            self.values[row] = missing_bits(self.kind)
            self.spans[row].start = <uint32_t>self.heap.size
            self.spans[row].length = 0
            self.local[row] = 0
            cause = self.convert(table, row, cell)
            if cause:
                if cause == NO_MEMORY:
                    return -1
                self.values[row] = missing_bits(self.kind)
                self.local[row] = 0
                shown = cell[0]
                if table.reject(row, self.place, cause, &shown, <int32_t>cell.length):
                    return -1
        return 0

    cdef int convert(self, Table table, uint32_t row, const Span* cell) noexcept nogil:
        """One row's value; 0 or a cause."""
        cdef const uint8_t* text = table.text.data + cell.start
        cdef uint32_t length = cell.length
        cdef const Span* other
        cdef const uint8_t* factor
        cdef uint32_t factor_length
        cdef Number number, second
        cdef rapport_wide product
        cdef double value, times
        cdef int32_t word, exponent
        cdef int64_t micro, above
        cdef bint inexact, alone
        cdef int cause
        if self.kind == KEY:
            return self.set_key(table, row)
        if self.kind == IDENTIFIER:
            return self.set_identifier(table, row, text, length)
        if length == 0 or find_word(&self.missing, text, length) >= 0:
            return REQUIRED if self.required else 0
        if self.kind == STRING:
            if length > TEXT_BYTES:
                return LONG_TEXT
            cause = check_text(text, length)
            return cause if cause else self.set_text(row, text, length)
        if self.kind == STRING_SET:
            cause = check_text(text, length)
            return cause if cause else self.set_members(row, text, length)
        if self.kind == ENUM or self.kind == BOOL:
            word = find_word(&self.labels, text, length)
            if word < 0:
                trim(&text, &length)
                if length == 0:
                    return REQUIRED if self.required else 0
                word = find_word(&self.labels, text, length)
            if word < 0:
                return NOT_A_LABEL if self.kind == ENUM else NOT_A_BOOL
            if word == 0 and self.required:
                return REQUIRED
            self.values[row] = word
            return 0
        if self.kind == STARTS_WITH:
            self.values[row] = 1 + (
                length >= self.suffix.size and memcmp(text, self.suffix.data, self.suffix.size) == 0
            )
            return 0

        trim(&text, &length)
        if length == 0 or find_word(&self.missing, text, length) >= 0:
            return REQUIRED if self.required else 0
        if self.kind == TIMESTAMP and self.epoch < 0:
            if self.epoch == -2:
                cause = read_iso(text, length, &micro, &self.local[row])
            else:
                cause = read_pattern(
                    self.pattern.data, <uint32_t>self.pattern.size, text, length, &micro, &self.local[row]
                )
            if cause:
                return cause
            if micro < FIRST_TIME or micro > LAST_TIME:
                return NO_SUCH_DATE
            self.values[row] = micro
            return 0
        if read_number(text, length, self.decimal, self.thousands, &number):
            return NOT_A_NUMBER
        if stands_for_missing(&self.absent, &number):
            return REQUIRED if self.required else 0
        if self.kind == TIMESTAMP:
            product = number.mantissa
            if number.negative:
                product = -product
            # Past the microsecond nothing is kept, as in a format's fraction.
            cause = to_whole(product, number.exponent + self.epoch, number.inexact, number.half, True, &micro)
            if cause:
                return cause
            if micro < FIRST_TIME or micro > LAST_TIME:
                return NO_SUCH_DATE
            self.values[row] = micro
            return 0

        factor = NULL
        factor_length = 0
        second.mantissa = 1
        second.exponent = 0
        second.negative = False
        second.inexact = False
        second.half = False
        if self.second >= 0:
            other = &table.cells[<size_t>self.second * table.capacity + row]
            factor = table.text.data + other.start
            factor_length = other.length
            trim(&factor, &factor_length)
            if factor_length == 0 or find_word(&self.missing, factor, factor_length) >= 0:
                return REQUIRED if self.required else 0
            if read_number(factor, factor_length, self.decimal, self.thousands, &second):
                return NOT_A_NUMBER
            if stands_for_missing(&self.absent, &second):
                return REQUIRED if self.required else 0
        if self.kind == DOUBLE:
            cause = to_double(text, length, &number, self.decimal, self.thousands, &value)
            if not cause and factor != NULL:
                cause = to_double(factor, factor_length, &second, self.decimal, self.thousands, &times)
                value *= times
            if cause:
                return cause
            value *= self.scale
            if value - value != 0:
                return OUT_OF_RANGE
            memcpy(&self.values[row], &value, 8)
            return 0
        exponent = number.exponent + second.exponent + self.scale_exponent
        inexact = number.inexact or second.inexact
        alone = factor == NULL and (self.scale_mantissa == 1 or self.scale_mantissa == -1)
        product = number.mantissa
        if rapport_wide_multiply(product, <rapport_wide>second.mantissa, &product) \
                or rapport_wide_multiply(product, <rapport_wide>self.scale_mantissa, &product):
            return OUT_OF_RANGE
        if number.negative != second.negative:
            product = -product
        cause = to_whole(product, exponent, inexact, alone and number.half, self.rounded, &micro)
        if not cause and inexact and not alone:
            # What was left out was multiplied, too: the answer stands if its upper bound gives the same.
            product = number.mantissa
            product += number.inexact
            if rapport_wide_multiply(product, <rapport_wide>second.mantissa + second.inexact, &product) \
                    or rapport_wide_multiply(product, <rapport_wide>self.scale_mantissa, &product):
                return OUT_OF_RANGE
            if number.negative != second.negative:
                product = -product
            cause = to_whole(product, exponent, True, False, self.rounded, &above)
            if not cause and above != micro:
                cause = NOT_WHOLE
        if cause:
            return TOO_PRECISE if cause == NOT_WHOLE and self.kind == MONEY else cause
        self.values[row] = micro
        return 0

    cdef int set_text(self, uint32_t row, const uint8_t* text, uint32_t length) noexcept nogil:
        self.spans[row].start = <uint32_t>self.heap.size
        self.spans[row].length = length
        return NO_MEMORY if buffer_append(&self.heap, text, length) else 0

    cdef int set_members(self, uint32_t row, const uint8_t* text, uint32_t length) noexcept nogil:
        """A set in the record's heap form: u16 count, then by byte order u16 length and bytes of each member."""
        cdef const uint8_t* members[MEMBERS]
        cdef uint32_t lengths[MEMBERS]
        cdef const uint8_t* member
        cdef uint32_t size, i = 0, begin = 0, count = 0, k, at = 0
        cdef int order
        cdef uint16_t short
        while i <= length:
            if i < length and text[i] != self.separator:
                i += 1
                continue
            member = text + begin
            size = i - begin
            i += 1
            begin = i
            trim(&member, &size)
            if size == 0:
                continue
            if size > TEXT_BYTES:
                return LONG_TEXT
            # Insertion keeps them sorted and unique; sets are small.
            k = count
            order = 1
            while k > 0:
                order = memcmp(members[k - 1], member, min(lengths[k - 1], size))
                if order == 0:
                    order = <int>lengths[k - 1] - <int>size
                if order <= 0:
                    break
                k -= 1
            if k > 0 and order == 0:
                continue
            if count == MEMBERS:
                return MANY_MEMBERS
            memmove(&members[k + 1], &members[k], (count - k) * sizeof(members[0]))
            memmove(&lengths[k + 1], &lengths[k], (count - k) * sizeof(lengths[0]))
            members[k] = member
            lengths[k] = size
            count += 1
        if count == 0:
            return REQUIRED if self.required else 0
        self.spans[row].start = <uint32_t>self.heap.size
        short = <uint16_t>count
        if buffer_append(&self.heap, &short, 2):
            return NO_MEMORY
        at = 2
        for k in range(count):
            short = <uint16_t>lengths[k]
            if buffer_append(&self.heap, &short, 2) or buffer_append(&self.heap, members[k], lengths[k]):
                return NO_MEMORY
            at += 2 + lengths[k]
        if at >= 65_535:
            return LONG_TEXT
        self.spans[row].length = at
        return 0

    cdef int append_number(self, uint64_t number) noexcept nogil:
        """Decimal digits of `number` behind what `scratch` holds."""
        cdef uint8_t digits[20]
        cdef int at = 20
        while True:
            at -= 1
            digits[at] = <uint8_t>(c'0' + number % 10)
            number //= 10
            if number == 0:
                break
        return buffer_append(&self.scratch, &digits[at], 20 - at)

    cdef int set_identifier(
        self, Table table, uint32_t row, const uint8_t* text, uint32_t length
    ) noexcept nogil:
        cdef char normal[IDENTIFIER_BYTES]
        cdef size_t size = 0
        cdef int cause
        self.scratch.size = 0
        if buffer_append(&self.scratch, self.prefix.data, self.prefix.size):
            return NO_MEMORY
        if self.first < 0:
            if self.append_number(table.numbers[row]):
                return NO_MEMORY
        else:
            if find_word(&self.missing, text, length) >= 0:
                return 0
            if length >= self.suffix.size and self.suffix.size \
                    and memcmp(text + length - self.suffix.size, self.suffix.data, self.suffix.size) == 0:
                length -= <uint32_t>self.suffix.size
            if length == 0:
                return 0
            cause = check_text(text, length)
            if cause:
                return cause
            if buffer_append(&self.scratch, text, length):
                return NO_MEMORY
        cause = normalise(self.normaliser, <const char*>self.scratch.data, self.scratch.size, normal, &size)
        if cause == IDENTIFIER_EMPTY:
            return 0
        if cause != IDENTIFIER_FINE:
            return BAD_IDENTIFIER
        return self.set_text(row, <const uint8_t*>normal, <uint32_t>size)

    cdef int set_key(self, Table table, uint32_t row) noexcept nogil:
        """The key's hash, by the function that single events' keys go through."""
        cdef const Span* cell
        cdef int i
        cdef bint some = False
        cdef uint8_t between = JOINED
        self.scratch.size = 0
        if self.keyed_count == 0:
            if buffer_append(&self.scratch, self.prefix.data, self.prefix.size) \
                    or self.append_number(table.numbers[row]):
                return NO_MEMORY
        for i in range(self.keyed_count):
            cell = &table.cells[<size_t>self.keyed[i] * table.capacity + row]
            some = some or cell.length != 0
            if (i and buffer_append(&self.scratch, &between, 1)) \
                    or buffer_append(&self.scratch, table.text.data + cell.start, cell.length):
                return NO_MEMORY
        if self.keyed_count and not some:
            return NO_KEY
        self.values[row] = <int64_t>rapport_siphash(self.scratch.data, self.scratch.size)
        return 0

    def place_in_zone(self, Table table not None):
        """Turn local times into UTC by the column's zone."""
        cdef uint32_t row
        cdef Span shown
        cdef Py_ssize_t i
        if table.rows == 0:
            return
        values = np.asarray(<int64_t[:table.rows]>self.values)
        rows = np.flatnonzero(np.asarray(<uint8_t[:table.rows]>self.local))
        if len(rows) == 0:
            return
        # A marked row's value may be INT64_MIN, which no calendar reaches.
        rows = rows[values[rows] != INT64_MIN]
        moved, skipped = self.zone.to_utc(values[rows])
        skipped = skipped | (moved < FIRST_TIME) | (moved > LAST_TIME)
        values[rows] = moved
        for i in np.flatnonzero(skipped):
            row = rows[i]
            self.values[row] = INT64_MIN
            shown = table.cells[<size_t>self.first * table.capacity + row]
            if table.reject(row, self.place, NO_SUCH_HOUR, &shown, 0):
                raise MemoryError("no memory for an import's rejects")

    def take(self, Table table not None):
        """The good rows' values and texts as two byte strings.

        Values: bool 1 byte, label code 2, everything else 8; for texts, sets and identifiers 4, the end of the text in
        the second byte string, which for other kinds is empty.
        """
        cdef uint32_t row, count = table.good(), at = 0
        cdef uint32_t width = 8
        cdef size_t total = 0
        cdef bytes values, texts = b""
        cdef uint8_t* to
        cdef uint8_t* text_to
        cdef uint16_t code
        cdef uint32_t end = 0
        if self.kind == BOOL or self.kind == STARTS_WITH:
            width = 1
        elif self.kind == ENUM:
            width = 2
        elif self.kind == STRING or self.kind == STRING_SET or self.kind == IDENTIFIER:
            width = 4
            for row in range(table.rows):
                total += 0 if table.bad[row] else self.spans[row].length
            texts = PyBytes_FromStringAndSize(NULL, total)
        values = PyBytes_FromStringAndSize(NULL, <size_t>count * width)
        to = <uint8_t*>PyBytes_AS_STRING(values)
        text_to = <uint8_t*>PyBytes_AS_STRING(texts)
        with nogil:
            for row in range(table.rows):
                if table.bad[row]:
                    continue
                if width == 8:
                    memcpy(to + <size_t>at * 8, &self.values[row], 8)
                elif width == 1:
                    to[at] = <uint8_t>self.values[row]
                elif width == 2:
                    code = <uint16_t>self.values[row]
                    memcpy(to + <size_t>at * 2, &code, 2)
                else:
                    if self.spans[row].length:
                        memcpy(text_to + end, self.heap.data + self.spans[row].start, self.spans[row].length)
                    end += self.spans[row].length
                    memcpy(to + <size_t>at * 4, &end, 4)
                at += 1
        return values, texts
