"""Turns columns of cells into columns of values.

A converter runs down the spans of its column and reads values straight from the source's bytes; nothing is copied but
texts. Every converter runs over every row, so that all bad cells of a row are reported. Numbers are read by
`numerals.pyx`, times by `times.pyx`, labels and what means missing are looked up in `words.pxd`.

Memory: a `Column` owns its values until its next run; `take` copies the good rows out.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport INT64_MAX, INT64_MIN, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcmp, memcpy, memmove

from core.hub.buffer cimport Buffer, buffer_append, buffer_free
from core.hub.causes cimport (
    NUL_BYTE, NOT_UTF8, NOT_A_NUMBER, NOT_WHOLE, TOO_PRECISE, OUT_OF_RANGE, NOT_A_BOOL, NOT_A_LABEL, NO_SUCH_DATE,
    NO_SUCH_HOUR, LONG_TEXT, MANY_MEMBERS, REQUIRED, NO_IDENTIFIER, BAD_IDENTIFIER, NO_KEY, NO_MEMORY, SKIPPED,
    IN_FUTURE, UNDATED, DATED_AHEAD, BEFORE_OPENING
)
from core.hub.identifiers cimport IDENTIFIER_EMPTY, IDENTIFIER_FINE, is_utf8, normalise
from core.hub.record cimport rapport_siphash
from core.importing.numerals cimport (
    Number, is_among, rapport_wide, rapport_wide_multiply, read_number, to_double, to_whole, without_zeros
)
from core.importing.table cimport Span, Table
from core.importing.times cimport LOCAL_DAY, PLACED, REFUSED, read_iso, read_pattern
from core.importing.words cimport find_word, free_words, make_words
from core.instants cimport FIRST_US, LAST_US

import numpy as np

from core import limits
from core.errors import EngineFault

cdef enum:
    TEXT_BYTES = 1024  # limits.STRING_BYTES
    IDENTIFIER_BYTES = 256  # limits.IDENTIFIER_BYTES
    MEMBERS = 256  # limits.SET_MEMBERS
    JOINED = 0x1F  # between the texts of a key, and the members of a JSON array

cdef int64_t AHEAD_US = limits.AHEAD_US

if TEXT_BYTES != limits.STRING_BYTES or IDENTIFIER_BYTES != limits.IDENTIFIER_BYTES or MEMBERS != limits.SET_MEMBERS:
    raise EngineFault("core/importing/column.pyx and core/limits.py disagree on the length of texts.")

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


cdef inline int check_text(const uint8_t* text, uint32_t length) noexcept nogil:
    """0, NUL_BYTE or NOT_UTF8."""
    if length and memchr(text, 0, length) != NULL:
        return NUL_BYTE
    return 0 if is_utf8(text, length) else NOT_UTF8


cdef inline bint is_padded(const uint8_t* text, uint32_t length) noexcept nogil:
    return text[0] == c' ' or text[0] == c'\t' or text[length - 1] == c' ' or text[length - 1] == c'\t'


cdef inline void trim(const uint8_t** text, uint32_t* length) noexcept nogil:
    """Without the blanks and tabs around it."""
    while length[0] and (text[0][0] == c' ' or text[0][0] == c'\t'):
        text[0] += 1
        length[0] -= 1
    while length[0] and (text[0][length[0] - 1] == c' ' or text[0][length[0] - 1] == c'\t'):
        length[0] -= 1


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
        free_words(&self.missing)
        free_words(&self.labels)
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
        """Reject the rows whose time lies ahead of `latest`; a clock that goes ahead told of now, as core.reports.happened."""
        cdef uint32_t row
        cdef Span shown
        for row in range(table.rows):
            if self.values[row] <= self.latest:
                continue
            if self.values[row] <= self.latest + AHEAD_US:
                self.values[row] = self.latest
                continue
            self.values[row] = INT64_MIN
            self.local[row] = REFUSED
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
            self.local[row] = PLACED
            cause = self.convert(table, row, cell)
            if cause:
                if cause == NO_MEMORY:
                    return -1
                self.values[row] = missing_bits(self.kind)
                self.local[row] = REFUSED
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
        if self.is_missing(text, length):
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
        if self.kind == TIMESTAMP and self.epoch < 0:
            if self.epoch == -2:
                cause = read_iso(text, length, &micro, &self.local[row])
            else:
                cause = read_pattern(
                    self.pattern.data, <uint32_t>self.pattern.size, text, length, &micro, &self.local[row]
                )
            if cause:
                return cause
            return self.set_moment(row, micro)
        self.lay_bare(&text, &length)
        if read_number(text, length, self.decimal, self.thousands, &number):
            return NOT_A_NUMBER
        if is_among(&self.absent, &number):
            return REQUIRED if self.required else 0
        if self.kind == TIMESTAMP:
            product = number.mantissa
            if number.negative:
                product = -product
            # Past the microsecond nothing is kept, as in a format's fraction.
            cause = to_whole(product, number.exponent + self.epoch, number.inexact, number.half, True, &micro)
            if cause:
                return cause
            return self.set_moment(row, micro)

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
            self.lay_bare(&factor, &factor_length)
            if read_number(factor, factor_length, self.decimal, self.thousands, &second):
                return NOT_A_NUMBER
            if is_among(&self.absent, &second):
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

    cdef int set_moment(self, uint32_t row, int64_t micro) noexcept nogil:
        if micro < FIRST_US or micro > LAST_US:
            return NO_SUCH_DATE
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

    cdef void lay_bare(self, const uint8_t** text, uint32_t* length) noexcept nogil:
        """Takes off what stands before and behind a number, where it does."""
        cdef size_t size = self.suffix.size
        if size and length[0] >= size and memcmp(text[0] + length[0] - size, self.suffix.data, size) == 0:
            length[0] -= <uint32_t>size
            trim(text, length)
        size = self.prefix.size
        if size and length[0] >= size and memcmp(text[0], self.prefix.data, size) == 0:
            text[0] += size
            length[0] -= <uint32_t>size
            trim(text, length)

    cdef bint is_missing(self, const uint8_t* text, uint32_t length) noexcept nogil:
        """Whether a cell holds nothing, or what means nothing, whatever blanks are around it."""
        if length == 0 or find_word(&self.missing, text, length) >= 0:
            return True
        if not is_padded(text, length):
            return False
        trim(&text, &length)
        return length == 0 or find_word(&self.missing, text, length) >= 0

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
            if self.is_missing(text, length):
                return 0
            # A file pads: "7 " and "7" in it are one customer, whatever the namespace's normaliser.
            trim(&text, &length)
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
        local = np.asarray(<uint8_t[:table.rows]>self.local)
        rows = np.flatnonzero(local)
        if len(rows) == 0:
            return
        # A marked row's value may be INT64_MIN, which no calendar reaches.
        rows = rows[values[rows] != INT64_MIN]
        moved, skipped = self.zone.to_utc(values[rows], local[rows] == LOCAL_DAY)
        skipped = skipped | (moved < FIRST_US) | (moved > LAST_US)
        values[rows] = moved
        for i in np.flatnonzero(skipped):
            row = rows[i]
            self.values[row] = INT64_MIN
            self.local[row] = REFUSED
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


def require_identifier(Table table not None, list columns not None, bint skip):
    """Mark the rows for which no column of ``columns`` (identifiers that have run) has a text."""
    cdef uint32_t row
    cdef Column column
    cdef bint found
    cdef Span nothing
    nothing.start = 0
    nothing.length = 0
    for row in range(table.rows):
        if table.bad[row]:
            continue
        found = False
        for column in columns:
            found = found or column.spans[row].length != 0
        if not found and table.reject(row, -1, SKIPPED if skip else NO_IDENTIFIER, &nothing, 0):
            raise MemoryError("no memory for an import's rejects")


def prefer(Table table not None, Column first not None, Column second not None):
    """Take the text of ``second`` out of every row for which ``first`` has one (identifiers that have run)."""
    cdef uint32_t row
    for row in range(table.rows):
        if first.spans[row].length != 0:
            second.spans[row].length = 0


def require_date(Table table not None, Column granted not None, Column at not None, int64_t latest):
    """Reject the rows in which ``granted`` has a value and ``at`` has none, or one ahead of ``latest``, this moment.

    Rows that are rejected already are looked at too, so that all that is wrong with one is told at once.
    """
    cdef uint32_t row
    cdef Span shown
    for row in range(table.rows):
        if granted.values[row] == 0 or at.local[row] == REFUSED:
            continue
        if at.values[row] != INT64_MIN and at.values[row] <= latest + AHEAD_US:
            if at.values[row] > latest:
                # As core.reports.consented.
                at.values[row] = at.values[row] - AHEAD_US if granted.values[row] == 2 else latest
            continue
        shown = table.cells[<size_t>at.first * table.capacity + row]
        if table.reject(row, at.place, UNDATED if at.values[row] == INT64_MIN else DATED_AHEAD, &shown, 0):
            raise MemoryError("no memory for an import's rejects")


def require_order(Table table not None, Column first not None, Column second not None):
    """Reject the rows in which both columns have a time and the second's is before the first's."""
    cdef uint32_t row
    cdef Span shown
    for row in range(table.rows):
        if first.values[row] == INT64_MIN or second.values[row] == INT64_MIN:
            continue
        if second.values[row] >= first.values[row]:
            continue
        shown = table.cells[<size_t>second.first * table.capacity + row]
        if table.reject(row, second.place, BEFORE_OPENING, &shown, 0):
            raise MemoryError("no memory for an import's rejects")
