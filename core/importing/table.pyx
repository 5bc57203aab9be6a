"""Splits a file's bytes into rows of cells.

Why not a general CSV library: an import must say for every bad cell in which line of the source it stands, must go on
after a row of any kind of badness (too few cells, a quote that is never closed, a cell larger than any block), and
must not stop in the middle for one. Readers made for analysis count rows per block, end at a row longer than their
block, and lose the cell's text once it is typed. So rows are split here, in one pass over the bytes, into spans (start
and length) of the wanted columns only, and columns (`column.pyx`) run down the spans. Python's csv module is the tests'
oracle.

CSV here is RFC 4180 with the delimiter and quote of the mapping: rows end with LF or CRLF, a quoted cell may hold
delimiters, line ends and doubled quotes, a quote inside an unquoted cell is an ordinary character, empty lines are
passed over.

A row that cannot be split is noted in `rejects` and does not enter the table; a row whose cell cannot be converted is
marked `bad` and noted.

Memory: a `Table` owns the block's bytes and the arrays over them; spans are valid until the next `fill`, `add` or
`clear`.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memchr, memmove, memset

from core.hub.buffer cimport buffer_append, buffer_free
from core.hub.causes cimport RAGGED, UNCLOSED, LONG_ROW, AFTER_QUOTE

from core.errors import EngineFault

# A quoted cell longer than this has lost its closing quote; no legal value comes near it.
cdef enum:
    QUOTED_BYTES = 65_536
    # A row longer than this is no row. Also bounds how much of a block waits for the next.
    ROW_BYTES = 1_048_576

# What read_row tells.
cdef enum Found:
    FOUND_ROW = 0
    FOUND_NOTHING = 1  # an empty line, or a row that was noted as rejected
    FOUND_END = 2  # the rest of the bytes is no whole row yet


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

    def add_rejected(
        self, uint64_t line, int32_t place, int32_t cause, bytes shown not None, bint counts, int32_t count=0,
    ):
        """Note a row that is not to be read; ``counts`` says whether it takes a row's number, ``count`` is the cause's."""
        cdef Rejected entry
        self.number += counts
        entry.line = line
        entry.place = place
        entry.cause = cause
        entry.count = count
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

    def left(self):
        """Bytes given by `fill` that are in no row yet."""
        return self.text.size - self.at

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
