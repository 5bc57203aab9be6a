"""Turns one column's cells (or two columns' product) into a run of values. Works without the GIL."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from core.hub.buffer cimport Buffer
from core.importing.table cimport Span, Table
from core.importing.words cimport Words

cdef class Column:
    cdef readonly int kind  # a Kind
    cdef readonly int place  # index in rejects
    cdef int first  # slot of the first column in the table
    cdef int second  # slot of the product's other column, or -1
    cdef Words missing  # texts that mean missing
    cdef Buffer absent  # Number array: those of them that are numbers, without zeros at the end
    cdef Words labels  # texts and what they stand for
    cdef bint required  # missing rejects the row
    cdef bint rounded  # round instead of rejecting
    cdef int64_t scale_mantissa  # of the scale, a decimal number
    cdef int32_t scale_exponent  # of the scale, with the currency's digits added
    cdef double scale  # the same for doubles; 1 when none
    cdef uint8_t decimal  # decimal mark
    cdef uint8_t thousands  # mark between groups of digits; 0: none
    cdef uint8_t separator  # of a set's members
    cdef int32_t* keyed  # slots of a key's columns; owned
    cdef int keyed_count  # of them; 0: the key is the row's number behind `prefix`
    cdef Buffer pattern  # a time's format
    cdef int32_t epoch  # power of ten from a count of time to microseconds; -1: `pattern`; -2: ISO 8601
    cdef Buffer suffix  # removed from identifiers and numbers; the text `starts_with` looks for
    cdef Buffer prefix  # put before identifiers and row numbers; removed from numbers
    cdef int normaliser  # of identifiers
    cdef int64_t latest  # a timestamp after it is taken for it, one ahead of it by more than AHEAD_US refused; INT64_MAX: none is
    cdef readonly object zone  # LocalZone for texts that name no offset; None: UTC
    cdef int64_t* values  # [row] int, money, timestamp, bool, label code, bits of a double, or key hash; owned
    cdef Span* spans  # [row] texts in heap; owned
    cdef uint8_t* local  # [row] what a timestamp still lacks of its zone (times.pxd); owned
    cdef Buffer heap  # texts and sets
    cdef Buffer scratch  # one text being made
    cdef uint32_t capacity  # rows the arrays hold

    cdef int run_rows(self, Table table) noexcept nogil
    cdef int refuse_later(self, Table table) except -1
    cdef int convert(self, Table table, uint32_t row, const Span* cell) noexcept nogil
    cdef int set_moment(self, uint32_t row, int64_t micro) noexcept nogil
    cdef int set_text(self, uint32_t row, const uint8_t* text, uint32_t length) noexcept nogil
    cdef int set_members(self, uint32_t row, const uint8_t* text, uint32_t length) noexcept nogil
    cdef int set_key(self, Table table, uint32_t row) noexcept nogil
    cdef int append_number(self, uint64_t number) noexcept nogil
    cdef void lay_bare(self, const uint8_t** text, uint32_t* length) noexcept nogil
    cdef bint is_missing(self, const uint8_t* text, uint32_t length) noexcept nogil
    cdef int set_identifier(self, Table table, uint32_t row, const uint8_t* text, uint32_t length) noexcept nogil
