"""Reads times as people write them: ISO 8601, or a format of %-directives as a mapping declares it.

The calendar is the Gregorian one, backwards too, from the year 1 to 9999; a date that it does not have is a cause of its
own, beside a text that is no time. Python's datetime is the tests' oracle.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t

from core.hub.causes cimport NO_SUCH_DATE, NOT_A_TIME

cdef enum:
    SECOND = 1_000_000
    MINUTE = 60_000_000

cdef int64_t HOUR = 3_600_000_000
cdef int64_t DAY = 86_400_000_000
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
    local[0] = LOCAL_DAY
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
        local[0] = LOCAL_TIME
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
            local[0] = PLACED
    if at != length:
        return NOT_A_TIME
    failed = to_time(year, month, day, hour, minute, second, micro, value)
    value[0] -= offset
    return failed


cdef int read_pattern(
    const uint8_t* pattern, uint32_t size, const uint8_t* text, uint32_t length, int64_t* value, uint8_t* local
) noexcept nogil:
    """A time in a format of %-directives (see core/importing/mapping.py); 0 or a cause."""
    cdef uint32_t at = 0, i = 0, k
    cdef int64_t year = 1970, month = 1, day = 1, hour = 0, minute = 0, second = 0, micro = 0, offset = 0
    cdef int read, failed
    cdef uint8_t c
    local[0] = LOCAL_DAY
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
            local[0] = PLACED
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
        if local[0] == LOCAL_DAY and (c == c'H' or c == c'M' or c == c'S' or c == c'f'):
            local[0] = LOCAL_TIME
    if at != length:
        return NOT_A_TIME
    failed = to_time(year, month, day, hour, minute, second, micro, value)
    value[0] -= offset
    return failed
