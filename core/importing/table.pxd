"""Rows of a file as spans of text: for every wanted column and row where the cell's text begins in the table's own bytes
and how long it is. Works without the GIL.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

from core.hub.buffer cimport Buffer

cdef struct Span:
    uint32_t start  # offset in the table's bytes
    uint32_t length  # bytes; 0: the cell is empty

cdef struct Rejected:
    uint64_t line  # 1-based line of the source where the row begins
    int32_t place  # index of the identifier or target concerned, by the importer's numbering; -1: the whole row
    int32_t cause  # one of CAUSES
    int32_t count  # a number for the cause's text
    Span shown  # what to show of it, in the table's bytes

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
