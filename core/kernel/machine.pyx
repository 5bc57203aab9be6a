"""The bytecode machine. See ``machine.pxd`` for what it promises and `core.expressions.bytecode` for its operations.

A value on the stack is a whole `Value`, state included. An operation whose arguments are not all present gives the
state that speaks louder: missing before failed, whichever side it stands on. A missing value carries in ``i`` the
slot it came from, the leftmost winning, so that at the end it is known which input to ask for.

Texts made by operations lie in the arena and end at 64 KiB; an operation that would make a longer one fails, which
bounds what one rule can take however often it doubles a text. Times are UTC in the proleptic Gregorian calendar.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from libc.math cimport fabs, isnan
from libc.stdint cimport INT64_MIN, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free, strtod
from libc.string cimport memcmp, memcpy

from core.kernel.arena cimport Arena, arena_close, arena_open, arena_reset, arena_take
from core.kernel.values cimport FAILED, MISSING, PRESENT, Value

import enum

from core import limits
from core.errors import EngineFault
from core.expressions.bytecode import Code as CodeArrays
from core.expressions.bytecode import Opcode

cdef extern from *:
    """
    #include <stdbool.h>
    #include <locale.h>
    #include <stdlib.h>
    #include <string.h>
    #ifndef _GNU_SOURCE
    extern void *memmem(const void *, size_t, const void *, size_t);
    #endif
    static inline bool rapport_add(int64_t a, int64_t b, int64_t *r) { return __builtin_add_overflow(a, b, r); }
    static inline bool rapport_sub(int64_t a, int64_t b, int64_t *r) { return __builtin_sub_overflow(a, b, r); }
    static inline bool rapport_mul(int64_t a, int64_t b, int64_t *r) { return __builtin_mul_overflow(a, b, r); }
    """
    bint rapport_add(int64_t a, int64_t b, int64_t* r) nogil
    bint rapport_sub(int64_t a, int64_t b, int64_t* r) nogil
    bint rapport_mul(int64_t a, int64_t b, int64_t* r) nogil
    void* memmem(const void* text, size_t length, const void* part, size_t part_length) nogil

# The numbers of `core.expressions.bytecode.Opcode`; CodeHolder compares them when this module is imported.
cdef enum:
    OP_END = 0
    OP_CONSTANT
    OP_LOAD
    OP_HAS
    OP_JUMP
    OP_AND_FIRST
    OP_AND_NEXT
    OP_OR_FIRST
    OP_OR_NEXT
    OP_NOT
    OP_IF_UNKNOWN
    OP_IF_FALSE
    OP_ADD_I
    OP_SUB_I
    OP_MUL_I
    OP_DIV_I
    OP_MOD_I
    OP_NEG_I
    OP_ABS_I
    OP_MIN_I
    OP_MAX_I
    OP_ADD_F
    OP_SUB_F
    OP_MUL_F
    OP_DIV_F
    OP_NEG_F
    OP_ABS_F
    OP_MIN_F
    OP_MAX_F
    OP_EQ_I
    OP_NE_I
    OP_LT_I
    OP_LE_I
    OP_GT_I
    OP_GE_I
    OP_EQ_F
    OP_NE_F
    OP_LT_F
    OP_LE_F
    OP_GT_F
    OP_GE_F
    OP_EQ_T
    OP_NE_T
    OP_LT_T
    OP_LE_T
    OP_GT_T
    OP_GE_T
    OP_EQ_IC
    OP_NE_IC
    OP_LT_IC
    OP_LE_IC
    OP_GT_IC
    OP_GE_IC
    OP_EQ_FC
    OP_NE_FC
    OP_LT_FC
    OP_LE_FC
    OP_GT_FC
    OP_GE_FC
    OP_EQ_TC
    OP_NE_TC
    OP_LT_TC
    OP_LE_TC
    OP_GT_TC
    OP_GE_TC
    OP_IN_I
    OP_IN_F
    OP_IN_T
    OP_IN_SET
    OP_SIZE_T
    OP_SIZE_SET
    OP_STARTS
    OP_ENDS
    OP_CONTAINS
    OP_LOWER
    OP_UPPER
    OP_CONCAT
    OP_F_TO_I
    OP_T_TO_I
    OP_TIME_TO_I
    OP_I_TO_F
    OP_T_TO_F
    OP_BOOL_TO_T
    OP_I_TO_T
    OP_F_TO_T
    OP_MONEY_TO_T
    OP_TIME_TO_T
    OP_YEAR
    OP_MONTH
    OP_DAY_OF_MONTH
    OP_DAY_OF_WEEK
    OP_HOURS
    OP_MINUTES
    OP_KNOWN
    OP_COUNT

cdef enum:
    TEXT_MOST = 65_536  # bytes of a text an operation makes; limits.RENDERED_BYTES
    NUMBER_MOST = 64  # characters of a text read as a double; longer ones fail

cdef int64_t SECOND_US = 1_000_000
cdef int64_t DAY_US = 86_400_000_000
cdef double TWO_63 = 9223372036854775808.0


# --- parts of operations --------------------------------------------------------------------------------------


cdef inline bint _both(Value* left, const Value* right) noexcept nogil:
    """Whether both are present; else ``left`` becomes the louder state of the two."""
    if left.state == PRESENT and right.state == PRESENT:
        return True
    if left.state != MISSING:
        if right.state == MISSING:
            left.state = MISSING
            left.i = right.i
        else:
            left.state = FAILED
    return False


cdef inline int _order(const Value* left, const Value* right) noexcept nogil:
    """Below, at or above zero as the left text comes before, equals or comes after the right one, by bytes."""
    cdef uint32_t shorter = left.length if left.length < right.length else right.length
    cdef int order = memcmp(left.text, right.text, shorter) if shorter else 0
    if order:
        return order
    return <int> (left.length > right.length) - <int> (left.length < right.length)


cdef inline void _set_bool(Value* value, bint truth) noexcept nogil:
    value.i = truth
    value.state = PRESENT


cdef inline void _set_int(Value* value, int64_t number) noexcept nogil:
    value.i = number
    value.state = PRESENT


cdef inline void _set_double(Value* value, double number) noexcept nogil:
    value.f = number
    value.state = FAILED if isnan(number) else PRESENT


cdef inline bint _same_text(const Value* left, const Value* right) noexcept nogil:
    return left.length == right.length and (
        left.length == 0 or memcmp(left.text, right.text, left.length) == 0
    )


cdef inline int64_t _floor_div(int64_t a, int64_t b) noexcept nogil:
    """Quotient rounded down, for b > 0."""
    cdef int64_t quotient = a / b
    return quotient - 1 if a % b < 0 else quotient


cdef inline void _civil(int64_t days, int64_t* year, int64_t* month, int64_t* day) noexcept nogil:
    """Year, month (1 to 12) and day (1 to 31) of a day counted from 1970-01-01.

    Counts from 1 March of year 0, so that the leap day ends its year: 400 years are 146,097 days, and a month that
    begins the m-th from March begins on day (153 m + 2) / 5 of the year.
    """
    cdef int64_t shifted = days + 719_468
    cdef int64_t era = _floor_div(shifted, 146_097)
    cdef int64_t day_of_era = shifted - era * 146_097
    cdef int64_t year_of_era = (
        day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096
    ) / 365
    cdef int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100)
    cdef int64_t from_march = (5 * day_of_year + 2) / 153
    day[0] = day_of_year - (153 * from_march + 2) / 5 + 1
    month[0] = from_march + 3 if from_march < 10 else from_march - 9
    year[0] = year_of_era + era * 400 + (1 if month[0] <= 2 else 0)


cdef inline int64_t _calendar(int op, int64_t at_us) noexcept nogil:
    cdef int64_t days = _floor_div(at_us, DAY_US)
    cdef int64_t second = (at_us - days * DAY_US) / SECOND_US
    cdef int64_t year, month, day
    if op == OP_HOURS:
        return second / 3_600
    if op == OP_MINUTES:
        return second / 60 % 60
    if op == OP_DAY_OF_WEEK:  # 1970-01-01 was a Thursday, and Sunday is 0
        return (days + 4) - _floor_div(days + 4, 7) * 7
    _civil(days, &year, &month, &day)
    if op == OP_YEAR:
        return year
    return month - 1 if op == OP_MONTH else day - 1


cdef bint _in_range(const Value* wanted, const Value* members, uint32_t count, int op) noexcept nogil:
    """Whether a value is among sorted constants."""
    cdef uint32_t low = 0, high = count, middle
    cdef int order
    while low < high:
        middle = low + (high - low) / 2
        if op == OP_IN_T:
            order = _order(wanted, &members[middle])
        elif op == OP_IN_F:
            order = <int> (wanted.f > members[middle].f) - <int> (wanted.f < members[middle].f)
        else:
            order = <int> (wanted.i > members[middle].i) - <int> (wanted.i < members[middle].i)
        if order == 0:
            # NaN is neither below nor above anything, and equals nothing.
            return op != OP_IN_F or wanted.f == members[middle].f
        if order < 0:
            high = middle
        else:
            low = middle + 1
    return False


cdef inline uint16_t _u16(const char* at) noexcept nogil:
    cdef uint16_t number
    memcpy(&number, at, 2)
    return number


cdef int _in_set(const Value* wanted, const Value* members) noexcept nogil:
    """1 or 0; -1 when the set's encoding is damaged."""
    cdef uint32_t at = 2, _i, count
    cdef Value member
    cdef int order
    if members.length < 2:
        return -1
    count = _u16(members.text)
    for _i in range(count):
        if members.length - at < 2:
            return -1
        member.length = _u16(members.text + at)
        at += 2
        if members.length - at < member.length:
            return -1
        member.text = members.text + at
        at += member.length
        order = _order(wanted, &member)
        if order == 0:
            return 1
        if order < 0:
            return 0
    return 0


cdef void _read_int(Value* value) noexcept nogil:
    """A text as an int: a sign or none, then digits; anything else fails."""
    cdef const char* text = value.text
    cdef uint32_t length = value.length, at = 0
    cdef int64_t number = 0
    cdef bint negative = False
    value.state = FAILED
    if length and text[0] == c'-':
        negative = True
        at = 1
    if at == length:
        return
    while at < length:
        if text[at] < c'0' or text[at] > c'9':
            return
        # Summed below zero, where there is room for one more.
        if rapport_mul(number, 10, &number) or rapport_sub(number, text[at] - c'0', &number):
            return
        at += 1
    if not negative and rapport_sub(0, number, &number):
        return
    _set_int(value, number)


cdef void _read_double(Value* value) noexcept nogil:
    """A text as a double: sign or none, digits with a point or none, exponent or none; anything else fails."""
    cdef char copy[NUMBER_MOST + 1]
    cdef const char* text = value.text
    cdef uint32_t length = value.length, at = 0, digits = 0, exponent = 0
    cdef double number
    cdef char point
    value.state = FAILED
    if length == 0 or length > NUMBER_MOST:
        return
    point = _decimal_point()
    memcpy(copy, text, length)
    copy[length] = 0
    if text[at] == c'-' or text[at] == c'+':
        at += 1
    while at < length and c'0' <= text[at] <= c'9':
        at += 1
        digits += 1
    if at < length and text[at] == c'.':
        copy[at] = point
        at += 1
        while at < length and c'0' <= text[at] <= c'9':
            at += 1
            digits += 1
    if digits == 0:
        return
    if at < length and (text[at] == c'e' or text[at] == c'E'):
        at += 1
        if at < length and (text[at] == c'-' or text[at] == c'+'):
            at += 1
        while at < length and c'0' <= text[at] <= c'9':
            at += 1
            exponent += 1
        if exponent == 0:
            return
    if at != length:
        return
    number = strtod(copy, NULL)
    if fabs(number) <= 1.7976931348623157e308:
        _set_double(value, number)


cdef inline char _decimal_point() noexcept nogil:
    """The C library's decimal point: a process that has set a locale may have another than '.'."""
    cdef char sample[8]
    snprintf(sample, 8, "%.1f", 0.5)
    return sample[1]


# --- texts ----------------------------------------------------------------------------------------------------


cdef inline bint _keep(Value* value, const char* text, uint32_t length, Arena* arena) noexcept nogil:
    """Makes ``value`` a copy of a text, in the arena; False when there is no memory."""
    cdef char* kept = arena_take(arena, length)
    if kept == NULL:
        value.state = FAILED
        return False
    memcpy(kept, text, length)
    value.text = kept
    value.length = length
    value.state = PRESENT
    return True


cdef bint _double_text(Value* value, Arena* arena) noexcept nogil:
    """The first of 15, 16 and 17 significant digits that reads back as the same double."""
    cdef char buffer[40]
    cdef int length = 0, digits, at
    if isnan(value.f):
        return _keep(value, "nan", 3, arena)
    for digits in range(15, 18):
        length = snprintf(buffer, sizeof(buffer), "%.*g", digits, value.f)
        if strtod(buffer, NULL) == value.f:
            break
    for at in range(length):
        if buffer[at] == c',':
            buffer[at] = c'.'
    return _keep(value, buffer, length, arena)


cdef int _whole_minor(char* out, double amount, int digits) noexcept nogil:
    """Writes an amount that is a whole number of minor units, as stored money is; 0 when it is not, or is too large.

    Far from a half, rounding cannot go two ways, so this gives the digits that printf would.
    """
    cdef double scale = 1.0, minor, nearest
    cdef char buffer[32]
    cdef uint64_t size
    cdef int _i, length, fraction
    for _i in range(digits):
        scale *= 10.0
    minor = (amount if amount >= 0.0 else -amount) * scale
    # Above 2^43 units the product's own error may reach the margin below.
    if not minor < 8.796e12 or digits > 6:
        return 0
    size = <uint64_t> (minor + 0.5)
    nearest = <double> size
    if minor - nearest > 0.01 or nearest - minor > 0.01:
        return 0
    # -0.0 and what rounds to it keep their sign in printf.
    if size == 0 and (amount < 0.0 or 1.0 / amount < 0.0):
        return 0
    fraction = _digits(buffer + 32, size % <uint64_t> scale, digits) if digits else 0
    length = fraction
    if digits:
        length += 1
        buffer[32 - length] = 46
    length += _digits(buffer + 32 - length, size // <uint64_t> scale, 1)
    if amount < 0.0:
        length += 1
        buffer[32 - length] = 45
    memcpy(out, buffer + 32 - length, length)
    return length


cdef bint _money_text(Value* value, const Value* currency, int digits, Arena* arena) noexcept nogil:
    """Major units with the currency's digits after the point, a blank, and the currency."""
    cdef char buffer[400]  # the largest double has 309 digits before its point
    cdef int length, at
    if isnan(value.f):
        length = snprintf(buffer, sizeof(buffer), "nan")
    else:
        length = _whole_minor(buffer, value.f, digits)
        if length == 0:
            length = snprintf(buffer, 330, "%.*f", digits, value.f)
    for at in range(length):
        if buffer[at] == c',':
            buffer[at] = c'.'
    if currency != NULL and currency.length and currency.length < 60:
        buffer[length] = c' '
        memcpy(buffer + length + 1, currency.text, currency.length)
        length += 1 + <int> currency.length
    return _keep(value, buffer, length, arena)


cdef bint _time_text(Value* value, Arena* arena) noexcept nogil:
    """ISO 8601 in UTC, with six digits of fraction only where there is one."""
    cdef char buffer[64]
    cdef int64_t days = _floor_div(value.i, DAY_US)
    cdef int64_t rest = value.i - days * DAY_US
    cdef int64_t second = rest / SECOND_US, fraction = rest % SECOND_US
    cdef int64_t year, month, day
    cdef int length
    _civil(days, &year, &month, &day)
    length = snprintf(
        buffer, sizeof(buffer), "%04lld-%02d-%02dT%02d:%02d:%02d", <long long> year, <int> month, <int> day,
        <int> (second / 3_600), <int> (second / 60 % 60), <int> (second % 60),
    )
    if fraction:
        length += snprintf(buffer + length, sizeof(buffer) - length, ".%06dZ", <int> fraction)
    else:
        length += snprintf(buffer + length, sizeof(buffer) - length, "Z")
    return _keep(value, buffer, length, arena)


cdef int _digits(char* end, uint64_t number, int least) noexcept nogil:
    """Writes decimal digits backwards, ending before ``end``, with leading zeros up to ``least`` digits; how many."""
    cdef int count = 0
    while number or count < least:
        count += 1
        end[-count] = <char> (48 + number % 10)
        number //= 10
    return count


cdef bint _int_text(Value* value, Arena* arena) noexcept nogil:
    # printf reads its format anew each time: 0.3 us for what takes 10 ns.
    cdef char buffer[24]
    cdef uint64_t size = <uint64_t> value.i if value.i >= 0 else 0 - <uint64_t> value.i
    cdef int length = _digits(buffer + 24, size, 1)
    if value.i < 0:
        length += 1
        buffer[24 - length] = 45
    return _keep(value, buffer + 24 - length, length, arena)


cdef inline void _bool_text(Value* value) noexcept nogil:
    value.text = "true" if value.i else "false"
    value.length = 4 if value.i else 5


cdef void _concatenate(Value* left, const Value* right, Arena* arena) noexcept nogil:
    cdef uint64_t length = <uint64_t> left.length + right.length
    cdef char* joined
    if length > TEXT_MOST:
        left.state = FAILED
        return
    if right.length == 0:
        return
    joined = arena_take(arena, length)
    if joined == NULL:
        left.state = FAILED
        return
    if left.length:
        memcpy(joined, left.text, left.length)
    memcpy(joined + left.length, right.text, right.length)
    left.text = joined
    left.length = <uint32_t> length


cdef void _change_case(Value* value, char first, char last, Arena* arena) noexcept nogil:
    """Flips the case bit of ASCII letters from ``first`` to ``last``."""
    cdef char* changed = arena_take(arena, value.length)
    cdef uint32_t i
    if changed == NULL:
        value.state = FAILED
        return
    for i in range(value.length):
        changed[i] = value.text[i] ^ 0x20 if first <= value.text[i] <= last else value.text[i]
    value.text = changed


# --- evaluation -----------------------------------------------------------------------------------------------


cdef inline void _int_arithmetic(int op, Value* left, const Value* right) noexcept nogil:
    cdef int64_t a = left.i, b = right.i, result = 0
    cdef bint failed = False
    if op == OP_ADD_I:
        failed = rapport_add(a, b, &result)
    elif op == OP_SUB_I:
        failed = rapport_sub(a, b, &result)
    elif op == OP_MUL_I:
        failed = rapport_mul(a, b, &result)
    elif op == OP_MIN_I:
        result = b if b < a else a
    elif op == OP_MAX_I:
        result = b if b > a else a
    elif b == 0 or (a == INT64_MIN and b == -1):
        failed = True
    elif op == OP_DIV_I:
        result = a / b
    else:
        result = a % b
    left.i = result
    if failed:
        left.state = FAILED


cdef inline void _double_arithmetic(int op, Value* left, const Value* right) noexcept nogil:
    cdef double a = left.f, b = right.f
    if op == OP_ADD_F:
        _set_double(left, a + b)
    elif op == OP_SUB_F:
        _set_double(left, a - b)
    elif op == OP_MUL_F:
        _set_double(left, a * b)
    elif op == OP_DIV_F:
        if b == 0.0:
            left.state = FAILED
        else:
            _set_double(left, a / b)
    elif isnan(a) or isnan(b):
        left.state = FAILED
    elif op == OP_MIN_F:
        left.f = b if b < a else a
    else:
        left.f = b if b > a else a


cdef inline bint _compare_int(int op, int64_t a, int64_t b) noexcept nogil:
    """``op`` counts from EQ: == != < <= > >=."""
    if op == 0:
        return a == b
    if op == 1:
        return a != b
    if op == 2:
        return a < b
    if op == 3:
        return a <= b
    if op == 4:
        return a > b
    return a >= b


cdef inline bint _compare_double(int op, double a, double b) noexcept nogil:
    if op == 0:
        return a == b
    if op == 1:
        return a != b
    if op == 2:
        return a < b
    if op == 3:
        return a <= b
    if op == 4:
        return a > b
    return a >= b


cdef inline bint _compare_text(int op, const Value* a, const Value* b) noexcept nogil:
    if op == 0:
        return _same_text(a, b)
    if op == 1:
        return not _same_text(a, b)
    return _compare_int(op, _order(a, b), 0)


cdef inline void _unary(const Code* code, const Instruction* at, Value* top, Arena* arena) noexcept nogil:
    """Operations of one present argument."""
    cdef int op = at.op
    cdef uint32_t i
    cdef int64_t count
    if op == OP_NOT:
        top.i = not top.i
    elif op == OP_NEG_I or op == OP_ABS_I:
        if op == OP_NEG_I or top.i < 0:
            if rapport_sub(0, top.i, &top.i):
                top.state = FAILED
    elif op == OP_NEG_F:
        _set_double(top, -top.f)
    elif op == OP_ABS_F:
        _set_double(top, fabs(top.f))
    elif op == OP_IN_I or op == OP_IN_F or op == OP_IN_T:
        _set_bool(top, _in_range(top, &code.constants[at.a], at.b, op))
    elif op == OP_SIZE_T:
        count = 0
        for i in range(top.length):
            count += (top.text[i] & 0xC0) != 0x80
        top.i = count
    elif op == OP_SIZE_SET:
        if top.length < 2:
            top.state = FAILED
        else:
            top.i = _u16(top.text)
    elif op == OP_LOWER:
        _change_case(top, c'A', c'Z', arena)
    elif op == OP_UPPER:
        _change_case(top, c'a', c'z', arena)
    elif op == OP_F_TO_I:
        if -TWO_63 < top.f < TWO_63:
            top.i = <int64_t> top.f
        else:
            top.state = FAILED
    elif op == OP_T_TO_I:
        _read_int(top)
    elif op == OP_TIME_TO_I:
        top.i = _floor_div(top.i, SECOND_US)
    elif op == OP_I_TO_F:
        top.f = <double> top.i
    elif op == OP_T_TO_F:
        _read_double(top)
    elif op == OP_BOOL_TO_T:
        _bool_text(top)
    elif op == OP_I_TO_T:
        _int_text(top, arena)
    elif op == OP_F_TO_T:
        _double_text(top, arena)
    elif op == OP_MONEY_TO_T:
        _money_text(top, &code.constants[at.a], at.b, arena)
    elif op == OP_TIME_TO_T:
        _time_text(top, arena)
    else:
        top.i = _calendar(op, top.i)


cdef inline void _binary(int op, Value* left, const Value* right, Arena* arena) noexcept nogil:
    """Operations of two present arguments, but comparisons."""
    cdef int found
    if op <= OP_MAX_I:
        _int_arithmetic(op, left, right)
    elif op <= OP_MAX_F:
        _double_arithmetic(op, left, right)
    elif op == OP_IN_SET:
        found = _in_set(left, right)
        if found < 0:
            left.state = FAILED
        else:
            left.i = found
    elif op == OP_STARTS:
        left.i = right.length == 0 or (
            left.length >= right.length and memcmp(left.text, right.text, right.length) == 0
        )
    elif op == OP_ENDS:
        left.i = right.length == 0 or (
            left.length >= right.length
            and memcmp(left.text + (left.length - right.length), right.text, right.length) == 0
        )
    elif op == OP_CONTAINS:
        left.i = right.length == 0 or (
            left.length >= right.length
            and memmem(left.text, left.length, right.text, right.length) != NULL
        )
    else:
        _concatenate(left, right, arena)


cdef Value* _run(
    const Code* code, uint32_t number, const Value* frame, Arena* arena, Value* stack
) noexcept nogil:
    """Where on ``stack`` the result is. The stack has STACK + 1 places, the first never used: empty is ``top ==
    stack``.

    A caller reads the fields it needs: copying the whole value at once would wait for the bytes just written one by
    one.
    """
    cdef Value* top = stack
    cdef const Instruction* at = code.instructions + code.starts[number]
    cdef const Value* read
    cdef int op
    while True:
        op = at.op
        if op >= OP_EQ_IC and op <= OP_GE_TC:
            top += 1
            read = &frame[at.b]
            if read.state != PRESENT:
                top.state = read.state
                top.i = at.b
            elif op <= OP_GE_IC:
                _set_bool(top, _compare_int(op - OP_EQ_IC, read.i, code.constants[at.a].i))
            elif op <= OP_GE_FC:
                _set_bool(top, _compare_double(op - OP_EQ_FC, read.f, code.constants[at.a].f))
            else:
                _set_bool(top, _compare_text(op - OP_EQ_TC, read, &code.constants[at.a]))
        elif op == OP_AND_FIRST:
            if top.state == PRESENT and not top.i:
                at = code.instructions + at.a
                continue
        elif op == OP_AND_NEXT:
            top -= 1
            if top[1].state == PRESENT and not top[1].i:
                top[0] = top[1]
                at = code.instructions + at.a
                continue
            _both(top, &top[1])
        elif op == OP_OR_FIRST:
            if top.state == PRESENT and top.i:
                at = code.instructions + at.a
                continue
        elif op == OP_OR_NEXT:
            top -= 1
            if top[1].state == PRESENT and top[1].i:
                top[0] = top[1]
                at = code.instructions + at.a
                continue
            _both(top, &top[1])
        elif op == OP_END:
            return top
        elif op == OP_LOAD:
            top += 1
            top[0] = frame[at.a]
            if top.state != PRESENT:
                top.i = at.a
        elif op == OP_CONSTANT:
            top += 1
            top[0] = code.constants[at.a]
        elif op == OP_HAS:
            top += 1
            _set_bool(top, frame[at.a].state == PRESENT)
        elif op == OP_KNOWN:
            _set_bool(top, top.state == PRESENT)
        elif op == OP_JUMP:
            at = code.instructions + at.a
            continue
        elif op == OP_IF_UNKNOWN:
            if top.state != PRESENT:
                at = code.instructions + at.a
                continue
        elif op == OP_IF_FALSE:
            top -= 1
            if not top[1].i:
                at = code.instructions + at.a
                continue
        elif op >= OP_EQ_I and op <= OP_GE_T:
            top -= 1
            if _both(top, &top[1]):
                if op <= OP_GE_I:
                    top.i = _compare_int(op - OP_EQ_I, top.i, top[1].i)
                elif op <= OP_GE_F:
                    top.i = _compare_double(op - OP_EQ_F, top.f, top[1].f)
                else:
                    top.i = _compare_text(op - OP_EQ_T, top, &top[1])
        elif _ARGUMENTS[op] == 2:
            top -= 1
            if _both(top, &top[1]):
                _binary(op, top, &top[1], arena)
        elif top.state == PRESENT:
            _unary(code, at, top, arena)
        at += 1


cdef void evaluate(
    const Code* code, uint32_t number, const Value* frame, Arena* arena, Value* result
) noexcept nogil:
    cdef Value stack[STACK + 1]
    cdef const Value* top = _run(code, number, frame, arena, stack)
    result.i = top.i
    result.f = top.f
    result.text = top.text
    result.length = top.length
    result.state = top.state


cdef int holds(const Code* code, uint32_t number, const Value* frame, Arena* arena) noexcept nogil:
    cdef Value stack[STACK + 1]
    cdef const Value* top = _run(code, number, frame, arena, stack)
    if top.state == PRESENT:
        return 1 if top.i else 0
    return 2 if top.state == MISSING else 3


cdef int32_t missing_slot(const Code* code, uint32_t number, const Value* frame, Arena* arena) noexcept nogil:
    cdef Value result
    evaluate(code, number, frame, arena, &result)
    return <int32_t> result.i if result.state == MISSING else -1


cdef bint format_value(
    const Code* code, uint32_t number, const Value* value, Arena* arena, const char** text, uint32_t* length
) noexcept nogil:
    cdef Value shown = value[0]
    cdef int kind = code.kinds[number]
    cdef bint fine = True
    text[0] = ""
    length[0] = 0
    if shown.state != PRESENT:
        return True
    if kind == RESULT_BOOL:
        _bool_text(&shown)
    elif kind == RESULT_INT:
        fine = _int_text(&shown, arena)
    elif kind == RESULT_DOUBLE:
        fine = _double_text(&shown, arena)
    elif kind == RESULT_MONEY:
        fine = _money_text(
            &shown, &code.constants[code.currencies[number]] if code.currencies[number] >= 0 else NULL,
            code.digits[number], arena,
        )
    elif kind == RESULT_TIMESTAMP:
        fine = _time_text(&shown, arena)
    elif kind != RESULT_STRING:
        return True
    if fine:
        text[0] = shown.text
        length[0] = shown.length
    return fine


cdef bint format_text(
    const Code* code, uint32_t number, const Value* frame, Arena* arena, const char** text, uint32_t* length
) noexcept nogil:
    cdef Value value
    evaluate(code, number, frame, arena, &value)
    return format_value(code, number, &value, arena, text, length)


# --- code from arrays -----------------------------------------------------------------------------------------

# How many values an operation takes off the stack: 0, 1 or 2. Each leaves one but jumps, which leave what they found.
cdef uint8_t _ARGUMENTS[OP_COUNT]


cdef void _fill_arguments() noexcept:
    cdef int op
    for op in range(OP_COUNT):
        _ARGUMENTS[op] = 1
        if OP_EQ_I <= op <= OP_GE_T or OP_ADD_F <= op <= OP_DIV_F or OP_ADD_I <= op <= OP_MOD_I:
            _ARGUMENTS[op] = 2
        if op in (OP_MIN_I, OP_MAX_I, OP_MIN_F, OP_MAX_F, OP_IN_SET, OP_STARTS, OP_ENDS, OP_CONTAINS, OP_CONCAT,
                  OP_AND_NEXT, OP_OR_NEXT):
            _ARGUMENTS[op] = 2
        if op in (OP_CONSTANT, OP_LOAD, OP_HAS, OP_JUMP) or OP_EQ_IC <= op <= OP_GE_TC:
            _ARGUMENTS[op] = 0


_fill_arguments()
assert len(Opcode) == OP_COUNT and Opcode.KNOWN == OP_KNOWN, "bytecode.Opcode and the machine disagree"
assert Opcode.GE_TC == OP_GE_TC and Opcode.CONCAT == OP_CONCAT and Opcode.MAX_F == OP_MAX_F
assert TEXT_MOST == limits.RENDERED_BYTES


class State(enum.IntEnum):
    """What a result is; the numbers of ``core/kernel/values.pxd``."""

    MISSING = 0
    PRESENT = 1
    FAILED = 2


@cython.final
cdef class CodeHolder:
    """Machine code made from the arrays of an `Assembler`, checked once so that evaluation checks nothing.

    Raises `EngineFault` for code that reads outside its arrays, jumps backwards, or needs more stack than there is.
    """

    def __cinit__(self, arrays):
        if not isinstance(arrays, CodeArrays):
            raise TypeError(f"CodeHolder takes core.expressions.bytecode.Code, not {type(arrays).__name__}")
        cdef uint32_t instructions = len(arrays.instructions)
        cdef uint32_t expressions = len(arrays.starts)
        cdef uint32_t constants = len(arrays.ints)
        self._heap = arrays.heap
        # One more than needed of each: calloc(0) may give NULL.
        self._instructions = <Instruction*> calloc(instructions + 1, sizeof(Instruction))
        self._starts = <uint32_t*> calloc(expressions + 1, sizeof(uint32_t))
        self._kinds = <uint8_t*> calloc(expressions + 1, sizeof(uint8_t))
        self._currencies = <int32_t*> calloc(expressions + 1, sizeof(int32_t))
        self._digits = <uint8_t*> calloc(expressions + 1, sizeof(uint8_t))
        self._constants = <Value*> calloc(constants + 1, sizeof(Value))
        if (
            self._instructions == NULL or self._starts == NULL or self._kinds == NULL or self._currencies == NULL
            or self._digits == NULL or self._constants == NULL
        ):
            raise MemoryError("no memory for machine code")
        cdef bytes raw = arrays.instructions.tobytes()
        if sizeof(Instruction) * <size_t> instructions != <size_t> len(raw):
            raise EngineFault("Instructions are not eight bytes each.")
        memcpy(self._instructions, PyBytes_AS_STRING(raw), len(raw))
        cdef uint32_t i
        for i in range(expressions):
            self._starts[i] = arrays.starts[i]
            self._kinds[i] = arrays.kinds[i]
            self._currencies[i] = arrays.currencies[i]
            self._digits[i] = arrays.digits[i]
        cdef const char* heap = PyBytes_AS_STRING(self._heap)
        cdef uint64_t start, length
        for i in range(constants):
            start = arrays.text_starts[i]
            length = arrays.text_lengths[i]
            if start + length > <uint64_t> len(self._heap):
                raise EngineFault(f"Constant {i} lies outside the heap.")
            self._constants[i].i = arrays.ints[i]
            self._constants[i].f = arrays.doubles[i]
            self._constants[i].text = heap + start
            self._constants[i].length = <uint32_t> length
            self._constants[i].state = PRESENT
        self.code.instructions = self._instructions
        self.code.starts = self._starts
        self.code.kinds = self._kinds
        self.code.currencies = self._currencies
        self.code.digits = self._digits
        self.code.constants = self._constants
        self.code.heap = heap
        self.code.expression_count = expressions
        self.code.instruction_count = instructions
        self.code.constant_count = constants
        self.code.slot_count = arrays.slots
        self._verify()

    def __dealloc__(self):
        free(self._instructions)
        free(self._starts)
        free(self._kinds)
        free(self._currencies)
        free(self._digits)
        free(self._constants)

    cdef const Code* view(self) noexcept:
        """The code, valid as long as this object."""
        return &self.code

    def __len__(self):
        return self.code.expression_count

    def _verify(self):
        """Follows every expression once: operations, operands, jumps forward inside it, and the stack's height."""
        cdef uint32_t number, at, end
        cdef int32_t height
        cdef const Instruction* one
        heights: dict[int, int] = {}
        for number in range(self.code.expression_count):
            at = self._starts[number]
            end = self._starts[number + 1] if number + 1 < self.code.expression_count else self.code.instruction_count
            if at >= end or end > self.code.instruction_count or self._instructions[end - 1].op != OP_END:
                raise EngineFault(f"Expression {number} has no end.")
            if not RESULT_BOOL <= self._kinds[number] <= RESULT_SET:
                raise EngineFault(f"Expression {number} has no kind.")
            if self._currencies[number] >= <int32_t> self.code.constant_count:
                raise EngineFault(f"Expression {number} has a currency outside the constants.")
            heights.clear()
            height = 0
            while at < end:
                one = &self._instructions[at]
                if at in heights:
                    if height >= 0 and heights[at] != height:
                        raise EngineFault(f"Instruction {at} is reached with two heights of the stack.")
                    height = heights[at]
                self._verify_operands(number, at, end)
                if height < _ARGUMENTS[one.op]:
                    raise EngineFault(f"Instruction {at} finds too little on the stack.")
                if one.op == OP_END:
                    if height != 1 or at != end - 1:
                        raise EngineFault(f"Expression {number} leaves {height} values.")
                elif one.op == OP_JUMP:
                    heights[one.a] = height
                    height = -1  # what follows is reached by a jump only, whose height is known by then
                elif one.op == OP_AND_NEXT or one.op == OP_OR_NEXT:
                    height -= 1
                    heights[one.a] = height
                elif one.op == OP_AND_FIRST or one.op == OP_OR_FIRST or one.op == OP_IF_UNKNOWN:
                    heights[one.a] = height
                elif one.op == OP_IF_FALSE:
                    height -= 1
                    heights[one.a] = height
                else:
                    height += 1 - _ARGUMENTS[one.op]
                if height > STACK:
                    raise EngineFault(f"Expression {number} needs more than {STACK} values on the stack.")
                at += 1

    def _verify_operands(self, uint32_t number, uint32_t at, uint32_t end):
        cdef const Instruction* one = &self._instructions[at]
        cdef int op = one.op
        cdef int64_t constants = 0, slot = -1
        if op >= OP_COUNT:
            raise EngineFault(f"Instruction {at} is no operation the machine knows.")
        if OP_EQ_IC <= op <= OP_GE_TC:
            constants, slot = <int64_t> one.a + 1, one.b
        elif op == OP_CONSTANT or op == OP_MONEY_TO_T:
            constants = <int64_t> one.a + 1
        elif OP_IN_I <= op <= OP_IN_T:
            constants = <int64_t> one.a + one.b
        elif op == OP_LOAD or op == OP_HAS:
            slot = one.a
            if slot < 0:
                raise EngineFault(f"Instruction {at} reads a slot below zero.")
        elif op in (OP_JUMP, OP_AND_FIRST, OP_AND_NEXT, OP_OR_FIRST, OP_OR_NEXT, OP_IF_UNKNOWN, OP_IF_FALSE) and not (
            <int64_t> at < one.a < <int64_t> end
        ):
            raise EngineFault(f"Instruction {at} of expression {number} jumps out of it.")
        if one.a < 0 or constants > self.code.constant_count or slot >= <int64_t> self.code.slot_count:
            raise EngineFault(f"Instruction {at} reads outside the constants or the frame.")

    # --- a door for tests and tools -----------------------------------------------------------------------

    def evaluate(self, number, values):
        """The result of an expression: its state, and its value when present (else None, or the missing slot).

        ``values[slot]`` is a bool, int, float, str, frozenset of str, or None for missing; shorter sequences are
        missing at the end. Timestamps and durations are int microseconds, money is float major units.
        """
        state, value, _, _ = self._run(number, values)
        return state, value

    def text(self, number, values):
        """The result as people read it; '' when missing or failed."""
        return self._run(number, values)[2]

    def holds(self, number, values):
        """Of a condition: 1 true, 0 false, 2 missing, 3 failed; and the slot to blame, or -1."""
        _, _, _, pair = self._run(number, values)
        return pair

    def _run(self, uint32_t number, values):
        if number >= self.code.expression_count:
            raise IndexError(f"there are {self.code.expression_count} expressions, and this is number {number}")
        cdef uint32_t slots = self.code.slot_count
        cdef Value* frame = <Value*> calloc(slots + 1, sizeof(Value))
        cdef Arena arena
        cdef Value result
        cdef const char* text
        cdef uint32_t length, i
        keep = []
        if frame == NULL:
            raise MemoryError("no memory for a frame")
        arena_open(&arena, 1024, 1 << 28)
        try:
            for i, value in enumerate(values):
                if i < slots and value is not None:
                    _fill(&frame[i], value, keep)
            evaluate(&self.code, number, frame, &arena, &result)
            held = None
            if self._kinds[number] == RESULT_BOOL:
                held = holds(&self.code, number, frame, &arena), missing_slot(&self.code, number, frame, &arena)
            if not format_value(&self.code, number, &result, &arena, &text, &length):
                raise MemoryError("the arena is full")
            shown = text[:length].decode()
            value = _python(&result, self._kinds[number])
            arena_reset(&arena)
            return State(result.state), value, shown, held
        finally:
            arena_close(&arena)
            free(frame)


cdef object _python(const Value* value, int kind):
    if value.state == MISSING:
        return value.i
    if value.state == FAILED:
        return None
    if kind == RESULT_BOOL:
        return value.i != 0
    if kind == RESULT_DOUBLE or kind == RESULT_MONEY:
        return value.f
    if kind == RESULT_STRING:
        return value.text[:value.length].decode()
    if kind == RESULT_SET:
        return _set_members(value.text[:value.length])
    return value.i


def _set_members(bytes encoded):
    members = []
    at = 2
    for _ in range(int.from_bytes(encoded[:2], "little")):
        length = int.from_bytes(encoded[at : at + 2], "little")
        members.append(encoded[at + 2 : at + 2 + length].decode())
        at += 2 + length
    return frozenset(members)


cdef int _fill(Value* value, object given, list keep) except -1:
    """Writes a Python value; what its text points to is put into ``keep``."""
    cdef bytes text
    value.state = PRESENT
    if isinstance(given, bool | int):
        value.i = given
        return 0
    if isinstance(given, float):
        value.f = given
        return 0
    if isinstance(given, str):
        text = given.encode()
    elif isinstance(given, frozenset):
        members = sorted(member.encode() for member in given)
        text = len(members).to_bytes(2, "little") + b"".join(
            len(member).to_bytes(2, "little") + member for member in members
        )
    else:
        raise TypeError(f"a frame holds no {type(given).__name__}")
    keep.append(text)
    value.text = PyBytes_AS_STRING(text)
    value.length = len(text)
    return 0
