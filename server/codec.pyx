"""Decide's messages between bytes and the core's values, without a message object in between.

The protobuf library makes a Python object for every submessage touched: 20 us for a request of three facts and 95 us for
an answer of three priced offers, several times what the decision costs. Here a request costs about
4 us and the answer 10 to 20 us (measured beside other work on the same two cores; the ratios are what to trust).

*Requests* are read by `decode`, which understands what clients send and nothing else: whatever is unusual (a submessage sent
in two parts, a field this version does not know, more than a limit allows) or wrong makes it answer None, and the caller goes
through the library and `server.convert`, which also words every error. So there is one meaning, and a property test holds
the two ways against each other.

*Answers* are written by `encode` from the last byte to the first: a submessage's length is then known when it is its
turn to be written, and nothing is measured beforehand or moved afterwards. Values equal to proto3's default are left out,
as the library does.

Memory: `decode` borrows the request's bytes, which its caller holds; `encode` owns one buffer for the call, freed before it
returns. Everything runs under the GIL: it reads and makes Python objects throughout.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize, PyBytes_GET_SIZE, PyBytes_AS_STRING
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from core.instants cimport FIRST_SECOND, LAST_SECOND, LONGEST_SECONDS

from datetime import datetime, timedelta, timezone

from core import limits
from core.decision import DecideRequest, Event, ExplainLevel, Identifier, PlacementRequest
from core.schema import Money

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    object PyUnicode_DecodeUTF8(const char *text, Py_ssize_t size, const char *errors)

# --- reading ------------------------------------------------------------------------------------------------------


class _Unusual(Exception):
    """Raised inside and caught by `decode`: the library has to look at this one."""


cdef object _unusual = _Unusual()
cdef object _epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
cdef object _levels = [ExplainLevel.NONE, *ExplainLevel]
cdef Py_ssize_t _IDENTIFIERS = limits.IDENTIFIERS_PER_REQUEST
cdef Py_ssize_t _PLACEMENTS = limits.PLACEMENTS_PER_REQUEST
cdef Py_ssize_t _FACTS = limits.FACTS_PER_REQUEST
cdef Py_ssize_t _EVENTS = limits.EVENTS_PER_REQUEST
cdef Py_ssize_t _FIELDS = limits.EVENT_FIELDS

cdef enum:
    VARINT = 0
    FIXED64 = 1
    BYTES = 2

# A varint's last digit's shift: of a number, and of a tag or a length, which the library takes in five bytes at most.
cdef enum:
    NUMBER_SHIFT = 63
    PREFIX_SHIFT = 28


cdef struct Reader:
    const uint8_t *at  # the next byte; inside the request's bytes, which the caller holds
    const uint8_t *end  # one past the message's last byte


cdef inline int varint(Reader *reader, uint64_t *value, int most) except -1:
    """A number of at most 64 bits whose last digit's shift is at most ``most``."""
    cdef uint64_t result = 0
    cdef int shift = 0
    cdef uint8_t byte
    while shift <= most:
        if reader.at == reader.end:
            raise _unusual
        byte = reader.at[0]
        reader.at += 1
        if shift == NUMBER_SHIFT and byte > 1:
            raise _unusual
        result |= <uint64_t>(byte & 0x7F) << shift
        if byte < 0x80:
            value[0] = result
            return 0
        shift += 7
    raise _unusual


cdef inline int tag(Reader *reader, uint32_t *field, uint32_t *kind) except -1:
    cdef uint64_t value = 0
    varint(reader, &value, PREFIX_SHIFT)
    if value >> 32:
        raise _unusual
    field[0] = <uint32_t>value >> 3
    kind[0] = <uint32_t>value & 7
    return 0


cdef inline int sub(Reader *reader, uint32_t kind, Reader *inner) except -1:
    """A length-delimited field's bytes as a reader of their own."""
    cdef uint64_t size = 0
    if kind != BYTES:
        raise _unusual
    varint(reader, &size, PREFIX_SHIFT)
    if size > <uint64_t>(reader.end - reader.at):
        raise _unusual
    inner.at = reader.at
    inner.end = reader.at + size
    reader.at += size
    return 0


cdef inline object text(Reader *reader, uint32_t kind):
    cdef Reader inner
    sub(reader, kind, &inner)
    try:
        return PyUnicode_DecodeUTF8(<const char *>inner.at, inner.end - inner.at, NULL)
    except UnicodeDecodeError:
        raise _unusual


cdef inline uint64_t number(Reader *reader, uint32_t kind) except? 0xFFFFFFFFFFFFFFFF:
    cdef uint64_t value = 0
    if kind != VARINT:
        raise _unusual
    varint(reader, &value, NUMBER_SHIFT)
    return value


cdef int moment(Reader *reader, int64_t *seconds, int64_t *nanos) except -1:
    """The two fields that Timestamp and Duration share."""
    cdef uint32_t field = 0, kind = 0
    seconds[0] = nanos[0] = 0
    while reader.at < reader.end:
        tag(reader, &field, &kind)
        if field == 1:
            seconds[0] = <int64_t>number(reader, kind)
        elif field == 2:
            nanos[0] = <int32_t>number(reader, kind)
        else:
            raise _unusual
    return 0


cdef int64_t instant(Reader *reader) except? -1:
    """Microseconds of a Timestamp in range."""
    cdef int64_t seconds, nanos
    moment(reader, &seconds, &nanos)
    if not (FIRST_SECOND <= seconds <= LAST_SECOND and 0 <= nanos <= 999999999):
        raise _unusual
    return seconds * 1000000 + nanos // 1000


cdef object identifier(Reader *reader):
    cdef uint32_t field = 0, kind = 0
    cdef object namespace = "", value = ""
    while reader.at < reader.end:
        tag(reader, &field, &kind)
        if field == 1:
            namespace = text(reader, kind)
        elif field == 2:
            value = text(reader, kind)
        else:
            raise _unusual
    return Identifier(namespace, value)


cdef object placement(Reader *reader):
    cdef uint32_t field = 0, kind = 0
    cdef object name = ""
    cdef uint32_t slots = 0
    while reader.at < reader.end:
        tag(reader, &field, &kind)
        if field == 1:
            name = text(reader, kind)
        elif field == 2:
            slots = <uint32_t>number(reader, kind)
        else:
            raise _unusual
    return PlacementRequest(name, slots if slots else None)


cdef object money(Reader *reader):
    cdef uint32_t field = 0, kind = 0
    cdef object currency = ""
    cdef int64_t minor = 0
    while reader.at < reader.end:
        tag(reader, &field, &kind)
        if field == 1:
            minor = <int64_t>number(reader, kind)
        elif field == 2:
            currency = text(reader, kind)
        else:
            raise _unusual
    return Money(minor, currency)


cdef object members(Reader *reader):
    cdef uint32_t field = 0, kind = 0
    cdef set found = set()
    while reader.at < reader.end:
        tag(reader, &field, &kind)
        if field != 1:
            raise _unusual
        found.add(text(reader, kind))
    return frozenset(found)


cdef object value(Reader *reader):
    """A Value with exactly one kind set."""
    cdef uint32_t field = 0, kind = 0
    cdef double real
    cdef Reader inner
    cdef object found
    if reader.at == reader.end:
        raise _unusual
    tag(reader, &field, &kind)
    if field == 4:
        found = text(reader, kind)
    elif field == 2:
        found = <int64_t>number(reader, kind)
    elif field == 3:
        if kind != FIXED64 or reader.end - reader.at < 8:
            raise _unusual
        memcpy(&real, reader.at, 8)
        reader.at += 8
        found = real
    elif field == 1:
        found = number(reader, kind) != 0
    else:
        sub(reader, kind, &inner)
        if field == 5:
            found = money(&inner)
        elif field == 6:
            found = _epoch + timedelta(microseconds=instant(&inner))
        elif field == 7:
            found = members(&inner)
        else:
            raise _unusual
    if reader.at != reader.end:
        raise _unusual
    return found


cdef int entry(Reader *reader, dict into) except -1:
    """One entry of a map of Values; the key may be left out, the value not."""
    cdef uint32_t field = 0, kind = 0
    cdef object key = "", found = None
    cdef Reader inner
    while reader.at < reader.end:
        tag(reader, &field, &kind)
        if field == 1:
            key = text(reader, kind)
        elif field == 2 and found is None:
            sub(reader, kind, &inner)
            found = value(&inner)
        else:
            raise _unusual
    if found is None:
        raise _unusual
    into[key] = found
    return 0


cdef object event(Reader *reader):
    cdef uint32_t field = 0, kind = 0
    cdef object name = "", key = "", at = None
    cdef dict fields = {}
    cdef Reader inner
    while reader.at < reader.end:
        tag(reader, &field, &kind)
        if field == 1:
            name = text(reader, kind)
        elif field == 2:
            key = text(reader, kind)
        elif field == 3 and at is None:
            sub(reader, kind, &inner)
            at = instant(&inner)
        elif field == 4:
            sub(reader, kind, &inner)
            entry(&inner, fields)
        else:
            raise _unusual
    if len(fields) > _FIELDS:
        raise _unusual
    return Event(name, key, at, fields)


def decode(bytes data not None, remaining_us, waited_us=0):
    """The request in ``data``, or None when the library has to look at it.

    ``remaining_us`` is what the call's own deadline leaves, None without one; ``waited_us`` is how long ago the request
    reached the server, from when its time budget counts.
    """
    try:
        return _decode(data, remaining_us, waited_us)
    except _Unusual:
        return None


cdef object _decode(bytes data, object remaining_us, object waited_us):
    cdef Reader reader, inner
    cdef uint32_t field = 0, kind = 0
    cdef uint64_t level = 0
    cdef int64_t seconds, nanos
    cdef object channel = "", deadline = remaining_us, as_of = None, seed = None, budget = None
    cdef bint deferred = False
    cdef list identifiers = [], placements = [], events = []
    cdef dict facts = {}
    reader.at = <const uint8_t *>PyBytes_AS_STRING(data)
    reader.end = reader.at + PyBytes_GET_SIZE(data)
    while reader.at < reader.end:
        tag(&reader, &field, &kind)
        if field == 1:
            sub(&reader, kind, &inner)
            identifiers.append(identifier(&inner))
        elif field == 2:
            channel = text(&reader, kind)
        elif field == 3:
            sub(&reader, kind, &inner)
            placements.append(placement(&inner))
        elif field == 4:
            sub(&reader, kind, &inner)
            entry(&inner, facts)
        elif field == 5:
            sub(&reader, kind, &inner)
            events.append(event(&inner))
        elif field == 6:
            level = number(&reader, kind)
        elif field == 7 and budget is None:
            sub(&reader, kind, &inner)
            moment(&inner, &seconds, &nanos)
            if not (0 <= seconds <= LONGEST_SECONDS and 0 <= nanos <= 999999999):
                raise _unusual
            budget = seconds * 1000000 + nanos // 1000
            if budget <= 0:
                raise _unusual
        elif field == 8 and as_of is None:
            sub(&reader, kind, &inner)
            as_of = instant(&inner)
        elif field == 9:
            seed = number(&reader, kind)
        elif field == 10:
            deferred = number(&reader, kind) != 0
        else:
            raise _unusual
        if len(identifiers) > _IDENTIFIERS or len(placements) > _PLACEMENTS or len(facts) > _FACTS or len(events) > _EVENTS:
            raise _unusual
    if level > 3:
        raise _unusual
    if budget is not None:
        # Spent, it leaves a moment: the answer is the labelled fallback, as only the call's own deadline ends a call.
        budget = max(1, budget - waited_us)
        if deadline is None or budget < deadline:
            deadline = budget
    return DecideRequest(
        channel, tuple(placements), tuple(identifiers), facts, tuple(events), _levels[level], deadline, as_of, seed, deferred
    )


# --- writing ------------------------------------------------------------------------------------------------------

cdef class Writer:
    """A message being written from its end. `at` counts the bytes written so far, which lie at the buffer's end."""

    cdef uint8_t *buffer
    cdef Py_ssize_t size
    cdef Py_ssize_t used

    def __cinit__(self):
        self.size = 4096
        self.used = 0
        self.buffer = <uint8_t *>malloc(self.size)
        if self.buffer == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.buffer)

    cdef uint8_t *room(self, Py_ssize_t count) except NULL:
        """Room for ``count`` bytes before what is written; valid until the next call."""
        cdef Py_ssize_t size = self.size
        cdef uint8_t *larger
        if count > self.size - self.used:
            while count > size - self.used:
                size *= 2
            larger = <uint8_t *>malloc(size)
            if larger == NULL:
                raise MemoryError
            memcpy(larger + size - self.used, self.buffer + self.size - self.used, self.used)
            free(self.buffer)
            self.buffer, self.size = larger, size
        self.used += count
        return self.buffer + self.size - self.used

    cdef int varint(self, uint64_t value) except -1:
        cdef uint8_t digits[10]
        cdef int count = 0
        while True:
            digits[count] = <uint8_t>(value & 0x7F) | (0x80 if value > 0x7F else 0)
            count += 1
            value >>= 7
            if not value:
                break
        memcpy(self.room(count), digits, count)
        return 0

    cdef int number(self, uint32_t field, uint64_t value) except -1:
        """A varint field, left out when 0."""
        if value:
            self.varint(value)
            self.varint(field << 3 | VARINT)
        return 0

    cdef int real(self, uint32_t field, double value, bint always) except -1:
        """A double field, left out when it is +0.0 and not ``always``."""
        cdef uint64_t bits
        memcpy(&bits, &value, 8)
        if bits or always:
            memcpy(self.room(8), &bits, 8)
            self.varint(field << 3 | FIXED64)
        return 0

    cdef int text(self, uint32_t field, object value, bint always) except -1:
        """A string field, left out when empty and not ``always``."""
        cdef Py_ssize_t size = 0
        cdef const char *raw = PyUnicode_AsUTF8AndSize(value, &size)
        if size or always:
            memcpy(self.room(size), raw, size)
            self.varint(size)
            self.varint(field << 3 | BYTES)
        return 0

    cdef int close(self, uint32_t field, Py_ssize_t mark) except -1:
        """Make a submessage of all that was written since ``mark`` bytes were used."""
        self.varint(self.used - mark)
        self.varint(field << 3 | BYTES)
        return 0

    cdef int texts(self, uint32_t field, object mapping) except -1:
        """A map of strings."""
        cdef Py_ssize_t mark
        for key, value in mapping.items():
            mark = self.used
            self.text(2, value, True)
            self.text(1, key, True)
            self.close(field, mark)
        return 0

    cdef int money(self, uint32_t field, object amount) except -1:
        cdef Py_ssize_t mark = self.used
        self.text(2, amount.currency, False)
        self.number(1, <uint64_t><int64_t>amount.minor)
        return self.close(field, mark)

    cdef int factors(self, uint32_t field, object factors) except -1:
        cdef Py_ssize_t mark = self.used
        self.real(4, factors.lever_percent, False)
        self.real(3, factors.value, False)
        self.real(2, factors.context_percent, False)
        self.real(1, factors.propensity, False)
        return self.close(field, mark)

    cdef int price(self, uint32_t field, object price) except -1:
        cdef Py_ssize_t mark = self.used
        self.number(5, <uint64_t><int64_t>price.clamp)
        for name in reversed(price.basis):
            self.text(4, name, True)
        self.number(3, 1 if price.personal else 0)
        self.money(2, price.list)
        self.money(1, price.amount)
        return self.close(field, mark)

    cdef int offer(self, uint32_t field, object offer) except -1:
        cdef Py_ssize_t mark = self.used
        self.text(10, offer.model, False)
        if offer.price is not None:
            self.price(9, offer.price)
        self.number(8, _unsigned(offer.instance))
        self.text(7, offer.token, False)
        self.texts(6, offer.content)
        self.factors(5, offer.factors)
        self.real(4, offer.priority, False)
        self.number(3, <uint64_t>offer.rank)
        self.text(2, offer.group, False)
        self.text(1, offer.offer, False)
        return self.close(field, mark)

    cdef int rejection(self, uint32_t field, object rejection) except -1:
        cdef Py_ssize_t mark = self.used
        if rejection.factors is not None:
            self.factors(8, rejection.factors)
        if rejection.lowest_winner is not None:
            self.real(7, rejection.lowest_winner, True)
        if rejection.priority is not None:
            self.real(6, rejection.priority, True)
        self.text(5, rejection.input, False)
        self.number(4, <uint64_t><int64_t>rejection.detail)
        self.text(3, rejection.rule, False)
        self.number(2, <uint64_t><int64_t>rejection.reason)
        self.text(1, rejection.offer, False)
        return self.close(field, mark)

    cdef int placement(self, uint32_t field, object answer) except -1:
        cdef Py_ssize_t mark = self.used, inner
        if answer.summary:
            for reason in sorted(answer.summary, reverse=True):
                inner = self.used
                self.number(2, <uint64_t>answer.summary[reason])
                self.number(1, <uint64_t><int64_t>reason)
                self.close(6, inner)
        for rejection in reversed(answer.rejections):
            self.rejection(5, rejection)
        if answer.fallback:
            self.texts(4, answer.fallback)
        for offer in reversed(answer.offers):
            self.offer(3, offer)
        self.number(2, <uint64_t><int64_t>answer.status)
        self.text(1, answer.name, False)
        return self.close(field, mark)

    cdef int instant(self, uint32_t field, int64_t at_us) except -1:
        cdef Py_ssize_t mark = self.used
        cdef int64_t seconds = at_us // 1000000, rest = at_us % 1000000
        # cdivision rounds towards zero; an instant before 1970 counts its fraction forwards.
        if rest < 0:
            seconds -= 1
            rest += 1000000
        self.number(2, <uint64_t>(rest * 1000))
        self.number(1, <uint64_t>seconds)
        return self.close(field, mark)


cdef inline uint64_t _unsigned(object value) except? 0xFFFFFFFFFFFFFFFF:
    """A 64 bit number's bits, whether it was made signed or unsigned."""
    if value < 0:
        return <uint64_t><int64_t>value
    return <uint64_t>value


def encode(answer not None):
    """The bytes of a DecideResponse message saying ``answer``."""
    cdef Writer writer = Writer.__new__(Writer)
    writer.number(9, <uint64_t>answer.took_ns)
    writer.number(8, _unsigned(answer.seed))
    writer.instant(7, answer.as_of_us)
    for model in reversed(answer.models):
        writer.text(6, model, True)
    writer.text(5, answer.digest, False)
    writer.text(4, answer.program, False)
    writer.number(3, 1 if answer.known else 0)
    for placement in reversed(answer.placements):
        writer.placement(2, placement)
    writer.text(1, answer.decision, False)
    return PyBytes_FromStringAndSize(<const char *>writer.buffer + writer.size - writer.used, writer.used)
