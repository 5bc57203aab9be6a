"""Rows of a file as spans of text, and the columns of values made from them.

A `Table` holds the rows of one block of a file: for every wanted column and row where the cell's text begins in the
table's own bytes and how long it is. A `Column` turns one column's cells (or two columns' product) into a run of
values. Both work without the GIL.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from core.hub.buffer cimport Buffer

# Why a cell or row is rejected; texts in CAUSES.
cdef enum Cause:
    RAGGED = 1
    UNCLOSED = 2
    LONG_ROW = 3
    AFTER_QUOTE = 4
    NUL_BYTE = 5
    NOT_UTF8 = 6
    NOT_A_NUMBER = 7
    NOT_WHOLE = 8
    TOO_PRECISE = 9
    OUT_OF_RANGE = 10
    NOT_A_BOOL = 11
    NOT_A_LABEL = 12
    NOT_A_TIME = 13
    NO_SUCH_DATE = 14
    NO_SUCH_HOUR = 15
    LONG_TEXT = 16
    MANY_MEMBERS = 17
    REQUIRED = 18
    NO_IDENTIFIER = 19
    BAD_IDENTIFIER = 20
    NO_KEY = 21
    NOT_JSON = 22
    NOT_OBJECT = 23
    NESTED = 24
    NO_MEMORY = 25
    LARGE_RECORD = 26
    MANY_IDENTIFIERS = 27
    SKIPPED = 28
    IN_FUTURE = 29
    UNDATED = 30
    DATED_AHEAD = 31
    MANY_CASES = 32
    CASE_INVALID = 33
    PAST_RETENTION = 34
    FULL_HOUSEHOLD = 35

cdef struct Span:
    uint32_t start  # offset in the table's bytes
    uint32_t length  # bytes; 0: the cell is empty

cdef struct Rejected:
    uint64_t line  # 1-based line of the source where the row begins
    int32_t place  # index of the identifier or target concerned, by the importer's numbering; -1: the whole row
    int32_t cause  # one of CAUSES
    int32_t count  # a number for the cause's text
    Span shown  # what to show of it, in the table's bytes

cdef struct Number:
    uint64_t mantissa  # significant digits
    int32_t exponent  # power of ten to multiply the mantissa with
    bint negative  # sign
    bint inexact  # digits other than 0 were left out of the mantissa
    bint half  # the first of those left out is 5 or more

cdef struct Word:
    uint32_t start  # offset in the words' bytes
    uint32_t length  # bytes
    int32_t value  # what the word stands for

cdef struct Words:
    Word* slots  # open addressing, a power of two; length 0 with value -1 is free; owned
    uint8_t* bytes  # the words' texts; owned
    uint32_t mask  # number of slots - 1
    uint32_t count  # words

cdef class Table:
    cdef Buffer text  # unparsed and parsed bytes of the block
    cdef Buffer rejects  # Rejected array
    cdef Span* cells  # [slot * capacity + row]; owned
    cdef uint64_t* lines  # line of each row; owned
    cdef uint64_t* numbers  # 1-based number of each row among the file's rows; owned
    cdef uint8_t* bad  # 1: the row is rejected or skipped; owned
    cdef int32_t* wanted  # slot of each of the file's columns, or -1; owned
    cdef Span* raw  # cells of the row being read; owned
    cdef uint32_t* quoted  # columns of that row whose doubled quotes need undoing; owned
    cdef uint32_t at  # where the next row begins in text
    cdef uint32_t capacity  # rows the arrays hold
    cdef uint32_t columns  # the file's columns
    cdef uint64_t line  # 1-based line of `at`
    cdef uint64_t number  # rows read so far in the whole file
    cdef bint skipping  # the rest of a rejected row is being passed over
    cdef uint8_t delimiter  # between cells
    cdef uint8_t quote  # around cells
    cdef readonly int slots  # wanted columns
    cdef readonly uint32_t rows  # rows held now

    cdef int reject(self, uint32_t row, int32_t place, int32_t cause, Span* shown, int32_t count) noexcept nogil
    cdef int refuse(self, int32_t cause, uint32_t start, uint32_t length, int32_t count) noexcept nogil
    cdef int read_row(self, bint final) noexcept nogil
    cdef int read_rows(self, bint final) noexcept nogil
    cdef int wait(self, uint32_t begin, uint32_t end) noexcept nogil
    cdef int long_row(self, uint32_t begin, uint32_t end) noexcept nogil
    cdef int lost_quote(self, uint32_t begin, uint32_t end) noexcept nogil
    cdef int pass_over(self, int32_t cause, uint32_t begin, uint32_t end, int32_t count) noexcept nogil

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
    cdef Buffer suffix  # removed from identifiers; the text `starts_with` looks for
    cdef Buffer prefix  # put before identifiers and row numbers
    cdef int normaliser  # of identifiers
    cdef int64_t latest  # a timestamp after it is refused; INT64_MAX: none is
    cdef readonly object zone  # LocalZone for texts that name no offset; None: UTC
    cdef int64_t* values  # [row] int, money, timestamp, bool, label code, bits of a double, or key hash; owned
    cdef Span* spans  # [row] texts in heap; owned
    cdef uint8_t* local  # [row] 1: a timestamp that still lacks its zone's offset; owned
    cdef Buffer heap  # texts and sets
    cdef Buffer scratch  # one text being made
    cdef uint32_t capacity  # rows the arrays hold

    cdef int run_rows(self, Table table) noexcept nogil
    cdef int refuse_later(self, Table table) except -1
    cdef int convert(self, Table table, uint32_t row, const Span* cell) noexcept nogil
    cdef int set_text(self, uint32_t row, const uint8_t* text, uint32_t length) noexcept nogil
    cdef int set_members(self, uint32_t row, const uint8_t* text, uint32_t length) noexcept nogil
    cdef int set_key(self, Table table, uint32_t row) noexcept nogil
    cdef int append_number(self, uint64_t number) noexcept nogil
    cdef int set_identifier(self, Table table, uint32_t row, const uint8_t* text, uint32_t length) noexcept nogil
