"""Items of a feed: read from a message's bytes into packed events, and packed events into customers' lists.

A message object for each item, its values and its mutation would cost several times what its write does. `ItemReader`
therefore reads the wire's bytes (protos/rapport/v1/ingest.proto, whose field numbers a test compares with these) and
packs an event as the store keeps it, behind the keys of its identifiers. It understands what clients commonly send;
whatever is unusual or wrong (another kind of item, a name nobody declared, a field said twice) it leaves to its caller,
who goes through the protobuf library and the ordinary mutations, which also word every error: so there is one meaning.

`IngestBatch` is the mutation of a run of packed events, in the order in which they came. Its handler finds each item's
customer, then merges each customer's events into his list once. An item that is refused fails alone: then the batch is
done item by item. `IngestBatches` are several batches that share a commit, merged as one: a customer of many of them has his
list, which is rewritten whole, rewritten once.

Packed item: u32 bytes of all of it, u16 identifiers, then for each u16 bytes of its key and the key (namespace, value),
then the event's entry. Numbers are little-endian, and those of names never change, so that a packed item means the same
in a log. Memory: both sides borrow the bytes that they read for the length of the call.
"""

from libc.math cimport NAN, isfinite
from libc.stdint cimport INT64_MIN, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

from core.hub.apply cimport Applier, let_others
from core.hub.buffer cimport Buffer, buffer_append, buffer_free
from core.hub.contacts cimport MERGED_PAST
from core.hub.snapshot cimport IDENTIFIER_KEY_BYTES, identifier_key
from core.hub.events cimport (
    EVENT_HEADER_BYTES, EventBuilder, EventHeader, EVENT_BUILT, event_begin, event_clear_text, event_finish, event_set_f64,
    event_set_i64, event_set_text,
)
from core.hub.happenings cimport add_packed
from core.hub.identifiers cimport is_utf8, normalise
from core.hub.record cimport (
    VALUE_BOOL, VALUE_DOUBLE, VALUE_ENUM, VALUE_INT, VALUE_MONEY, VALUE_STRING, VALUE_TIMESTAMP, RecordLayout, RecordView,
    builder_begin, builder_finish, builder_touch, damaged, rapport_siphash, record_open,
)
from core.instants cimport FIRST_SECOND, LAST_SECOND

from core import limits
from core.errors import BadValue, EngineFault, HistoryFull, RapportError, TooLarge
from core.hub.apply import register
from core.hub.identifiers import RULES, ranked
from core.hub.mutations import IngestBatch, IngestBatches, IngestResult
from core.hub.record import KINDS
from core.hub.retention import since

cdef uint32_t KEY_BYTES = limits.KEY_BYTES
cdef uint32_t IDENTIFIERS = limits.IDENTIFIERS_PER_REQUEST
cdef int64_t AHEAD_US = limits.AHEAD_US

# Bytes of the lists that several batches may change as one: they are at hand together.
JOINED_BYTES = 64 << 20

# As in protos/rapport/v1/ingest.proto and values.proto.
cdef enum:
    REQUEST_ITEMS = 1
    ITEM_SEQ = 1
    ITEM_IDENTIFIERS = 2
    ITEM_EVENT = 3
    IDENTIFIER_NAMESPACE = 1
    IDENTIFIER_VALUE = 2
    EVENT_TYPE = 1
    EVENT_KEY = 2
    EVENT_AT = 3
    EVENT_FIELDS = 4
    ENTRY_KEY = 1
    ENTRY_VALUE = 2
    KIND_BOOL = 1
    KIND_INT = 2
    KIND_DOUBLE = 3
    KIND_STRING = 4
    KIND_MONEY = 5
    KIND_TIMESTAMP = 6
    MONEY_MINOR = 1
    MONEY_CURRENCY = 2
    MOMENT_SECONDS = 1
    MOMENT_NANOS = 2

# For the test that compares them.
NUMBERS = {
    "IngestRequest": {"items": REQUEST_ITEMS},
    "IngestItem": {"seq": ITEM_SEQ, "identifiers": ITEM_IDENTIFIERS, "event": ITEM_EVENT},
    "Identifier": {"namespace": IDENTIFIER_NAMESPACE, "value": IDENTIFIER_VALUE},
    "Event": {"type": EVENT_TYPE, "key": EVENT_KEY, "at": EVENT_AT, "fields": EVENT_FIELDS},
    "Value": {
        "bool_value": KIND_BOOL, "int_value": KIND_INT, "double_value": KIND_DOUBLE, "string_value": KIND_STRING,
        "money_value": KIND_MONEY, "timestamp_value": KIND_TIMESTAMP,
    },
    "Money": {"minor": MONEY_MINOR, "currency": MONEY_CURRENCY},
    "Timestamp": {"seconds": MOMENT_SECONDS, "nanos": MOMENT_NANOS},
}

cdef enum Wire:
    VARINT = 0
    FIXED64 = 1
    BYTES = 2
    FIXED32 = 5

cdef struct Reader:
    const uint8_t* at  # the next byte, inside the message's bytes
    const uint8_t* end  # one past the last


cdef inline bint read_varint(Reader* reader, uint64_t* value) noexcept nogil:
    cdef uint64_t result = 0
    cdef uint32_t shift = 0
    cdef uint8_t byte
    while shift < 64 and reader.at < reader.end:
        byte = reader.at[0]
        reader.at += 1
        if shift == 63 and byte > 1:
            return False
        result |= <uint64_t>(byte & 0x7F) << shift
        if byte < 0x80:
            value[0] = result
            return True
        shift += 7
    return False


cdef inline bint read_tag(Reader* reader, uint32_t* field, uint32_t* wire) noexcept nogil:
    cdef uint64_t value = 0
    # No field has the number 0: such bytes are no message, and nothing behind them may be taken for one.
    if not read_varint(reader, &value) or value >> 32 or value < 8:
        return False
    field[0] = <uint32_t>value >> 3
    wire[0] = <uint32_t>value & 7
    return True


cdef inline bint read_inner(Reader* reader, uint32_t wire, Reader* inner) noexcept nogil:
    """A text or submessage as a reader of its own."""
    cdef uint64_t size = 0
    if wire != BYTES or not read_varint(reader, &size) or size > <uint64_t>(reader.end - reader.at):
        return False
    inner.at = reader.at
    inner.end = reader.at + size
    reader.at += size
    return True


cdef inline bint once(uint32_t* said, uint32_t field) noexcept nogil:
    """Whether a field below 32 is said for the first time, by the bits of `said`. The library looks at both, not at the last."""
    cdef uint32_t bit = <uint32_t>1 << field
    if said[0] & bit:
        return False
    said[0] |= bit
    return True


cdef bint read_moment(Reader* reader, int64_t* at) noexcept nogil:
    """Microseconds of a Timestamp in range."""
    cdef uint32_t field = 0, wire = 0
    cdef uint64_t value = 0
    cdef int64_t seconds = 0, nanos = 0
    while reader.at < reader.end:
        if not read_tag(reader, &field, &wire) or wire != VARINT or not read_varint(reader, &value):
            return False
        if field == MOMENT_SECONDS:
            seconds = <int64_t>value
        elif field == MOMENT_NANOS:
            nanos = <int32_t>value
        else:
            return False
    if not (FIRST_SECOND <= seconds <= LAST_SECOND and 0 <= nanos <= 999_999_999):
        return False
    at[0] = seconds * 1_000_000 + nanos // 1000
    return True


cdef bint skip(Reader* reader, uint32_t wire) noexcept nogil:
    """Over a field that nobody here knows; groups, which no sender of ours makes, are none."""
    cdef uint64_t unused = 0
    cdef Reader inner
    cdef int size = 8 if wire == FIXED64 else 4 if wire == FIXED32 else 0
    if wire == VARINT:
        return read_varint(reader, &unused)
    if wire == BYTES:
        return read_inner(reader, wire, &inner)
    if size == 0 or reader.end - reader.at < size:
        return False
    reader.at += size
    return True


cdef object unreadable():
    return BadValue(
        "request", "the bytes are not an IngestRequest message", "Generate the client from the protos of this version.")


cdef inline bytes text_of(Reader* reader):
    return PyBytes_FromStringAndSize(<const char*>reader.at, reader.end - reader.at)


cdef class ItemReader:
    """Reads messages of a feed under one catalog. For one thread at a time."""

    cdef dict namespaces  # name -> (number, rule)
    cdef dict types  # name -> (number, number of fields, {name -> (index, kind, currency, labels)}, kinds by index)
    cdef EventBuilder builder  # the entry being packed; freed with this object
    cdef Buffer packed  # items of the run being packed; freed with this object

    def __cinit__(self, catalog):
        memset(&self.builder, 0, sizeof(EventBuilder))
        memset(&self.packed, 0, sizeof(Buffer))
        self.namespaces = {
            name.encode(): (entry.number, RULES[entry.normaliser])
            for name, entry in catalog.namespaces.items() if not entry.household
        }
        self.types = {
            name.encode(): (
                entry.number, len(entry.fields),
                {
                    field.name.encode(): (
                        index, KINDS[field.type], field.currency.encode(), {label.encode() for label in field.labels}
                    )
                    for index, field in enumerate(entry.fields)
                },
                [KINDS[field.type] for field in entry.fields],
            )
            for name, entry in catalog.events.items()
        }

    def __dealloc__(self):
        buffer_free(&self.builder.entries)
        buffer_free(&self.packed)

    def read(self, bytes data not None, int64_t now_us, uint32_t most):
        """(seq of each item, pieces) of an IngestRequest; see the .pyi."""
        cdef Reader reader, inner
        cdef uint32_t field = 0, wire = 0
        cdef uint32_t run = 0
        cdef uint64_t seq
        cdef size_t before
        cdef const uint8_t* start
        reader.at = <const uint8_t*>PyBytes_AS_STRING(data)
        reader.end = reader.at + PyBytes_GET_SIZE(data)
        self.packed.size = 0
        seqs = []
        pieces = []
        while reader.at < reader.end:
            if not read_tag(&reader, &field, &wire):
                raise unreadable()
            if field != REQUEST_ITEMS:
                # Of a later version; what is an item to this one is never passed over.
                if not skip(&reader, wire):
                    raise unreadable()
                continue
            if not read_inner(&reader, wire, &inner):
                raise unreadable()
            before = self.packed.size
            start = inner.at
            seq = 0
            if self.pack(&inner, now_us, &seq):
                seqs.append(seq)
                run += 1
                if run < most:
                    continue
                before = self.packed.size
                start = NULL
            else:
                seqs.append(0)
            if run:
                pieces.append(IngestBatch(rows=run, items=self.packed.data[:before], received_us=now_us))
                self.packed.size = 0
                run = 0
            if start != NULL:
                self.packed.size = 0
                pieces.append(<bytes>(<const char*>start)[:inner.end - start])
        if run:
            pieces.append(IngestBatch(rows=run, items=self.packed.data[:self.packed.size], received_us=now_us))
        return seqs, pieces

    cdef bint pack(self, Reader* item, int64_t now_us, uint64_t* seq) except -1:
        """Pack an item behind those of the run; False, with something half packed, when the library has to look at it."""
        cdef Reader inner
        cdef uint32_t field = 0, wire = 0
        cdef size_t start = self.packed.size
        cdef uint32_t size = 0
        cdef uint16_t identifiers = 0
        cdef bint happened = False
        if buffer_append(&self.packed, &size, 4) or buffer_append(&self.packed, &identifiers, 2):
            raise MemoryError
        self.builder.entries.size = 0
        while item.at < item.end:
            if not read_tag(item, &field, &wire):
                return False
            if field == ITEM_SEQ:
                if wire != VARINT or not read_varint(item, seq):
                    return False
            elif field == ITEM_IDENTIFIERS:
                identifiers += 1
                if identifiers > IDENTIFIERS or not read_inner(item, wire, &inner) or not self.pack_identifier(&inner):
                    return False
            elif field == ITEM_EVENT and not happened:
                happened = True
                if not read_inner(item, wire, &inner) or not self.pack_event(&inner, now_us):
                    return False
            else:
                return False
        if not (seq[0] and identifiers and happened):
            return False
        if buffer_append(&self.packed, self.builder.entries.data, self.builder.entries.size):
            raise MemoryError
        size = <uint32_t>(self.packed.size - start)
        memcpy(self.packed.data + start, &size, 4)
        memcpy(self.packed.data + start + 4, &identifiers, 2)
        return True

    cdef bint pack_identifier(self, Reader* reader) except -1:
        cdef Reader namespace, value
        cdef uint32_t field = 0, wire = 0, said = 0
        cdef char normal[256]
        cdef uint8_t key[IDENTIFIER_KEY_BYTES]
        cdef size_t size = 0
        cdef uint16_t key_bytes
        namespace.at = namespace.end = value.at = value.end = reader.end
        while reader.at < reader.end:
            if not read_tag(reader, &field, &wire):
                return False
            if field == IDENTIFIER_NAMESPACE:
                if not once(&said, field) or not read_inner(reader, wire, &namespace):
                    return False
            elif field != IDENTIFIER_VALUE or not once(&said, field) or not read_inner(reader, wire, &value):
                return False
        known = self.namespaces.get(text_of(&namespace))
        if known is None or not is_utf8(value.at, value.end - value.at):
            return False
        number, rule = known
        if normalise(rule, <const char*>value.at, value.end - value.at, normal, &size):
            return False
        key_bytes = <uint16_t>identifier_key(number, normal, size, key)
        if buffer_append(&self.packed, &key_bytes, 2) or buffer_append(&self.packed, key, key_bytes):
            raise MemoryError
        return True

    cdef bint pack_event(self, Reader* reader, int64_t now_us) except -1:
        cdef Reader name, key, at, entries
        cdef Reader inner
        cdef uint32_t field = 0, wire = 0, said = 0, index
        cdef uint64_t given = 0
        cdef int64_t at_us = now_us
        cdef uint16_t number, count
        name.at = name.end = key.at = key.end = reader.end
        entries = reader[0]
        while reader.at < reader.end:
            if not read_tag(reader, &field, &wire) or not read_inner(reader, wire, &inner):
                return False
            if field == EVENT_FIELDS:
                continue
            if field > EVENT_AT or not once(&said, field):
                return False
            if field == EVENT_TYPE:
                name = inner
            elif field == EVENT_KEY:
                key = inner
            else:
                at = inner
                if not read_moment(&at, &at_us) or at_us > now_us + AHEAD_US:
                    return False
                at_us = min(at_us, now_us)  # as core.reports.happened
        described = self.types.get(text_of(&name))
        if described is None or key.at == key.end or <size_t>(key.end - key.at) > KEY_BYTES:
            return False
        if not is_utf8(key.at, key.end - key.at):
            return False
        number, count, fields, kinds = described
        if event_begin(&self.builder, number, at_us, rapport_siphash(key.at, key.end - key.at), count):
            raise MemoryError
        # Types and their fields may come in any order, so the fields are read in a second pass.
        while entries.at < entries.end:
            read_tag(&entries, &field, &wire)
            read_inner(&entries, wire, &inner)
            if field == EVENT_FIELDS and not self.pack_field(&inner, <dict>fields, &given):
                return False
        for index in range(count):
            if not (given >> index) & 1:
                if kinds[index] == VALUE_DOUBLE:
                    event_set_f64(&self.builder, index, NAN)
                elif kinds[index] in (VALUE_ENUM, VALUE_STRING):
                    event_clear_text(&self.builder, index)
                else:
                    event_set_i64(&self.builder, index, 0 if kinds[index] == VALUE_BOOL else INT64_MIN)
        # Whatever is too long here is so for the library's way, too, which says it.
        return event_finish(&self.builder) == EVENT_BUILT

    cdef bint pack_field(self, Reader* reader, dict fields, uint64_t* given) except -1:
        cdef Reader name, value, inner
        cdef uint32_t field = 0, wire = 0, said = 0, index
        cdef uint64_t number = 0
        cdef int64_t whole = 0
        cdef double real = 0
        cdef int kind
        name.at = name.end = value.at = value.end = reader.end
        while reader.at < reader.end:
            if not read_tag(reader, &field, &wire) or not read_inner(reader, wire, &inner):
                return False
            if field > ENTRY_VALUE or not once(&said, field):
                return False
            if field == ENTRY_KEY:
                name = inner
            else:
                value = inner
        described = fields.get(text_of(&name))
        if described is None or not said >> ENTRY_VALUE & 1 or not read_tag(&value, &field, &wire):
            return False
        index, kind, currency, labels = described
        if (given[0] >> index) & 1:
            return False
        given[0] |= <uint64_t>1 << index
        if field == KIND_BOOL or field == KIND_INT:
            if wire != VARINT or not read_varint(&value, &number):
                return False
            whole = <int64_t>number
            if field == KIND_BOOL:
                if kind != VALUE_BOOL:
                    return False
                event_set_i64(&self.builder, index, 2 if number else 1)
            elif kind == VALUE_INT and whole != INT64_MIN:
                event_set_i64(&self.builder, index, whole)
            elif kind == VALUE_DOUBLE:
                event_set_f64(&self.builder, index, <double>whole)
            else:
                return False
        elif field == KIND_DOUBLE:
            if wire != FIXED64 or value.end - value.at < 8 or kind != VALUE_DOUBLE:
                return False
            memcpy(&real, value.at, 8)
            value.at += 8
            if not isfinite(real):
                return False
            event_set_f64(&self.builder, index, real)
        elif not read_inner(&value, wire, &inner):
            return False
        elif field == KIND_STRING:
            if kind == VALUE_ENUM:
                if text_of(&inner) not in labels:
                    return False
            elif kind != VALUE_STRING or not is_utf8(inner.at, inner.end - inner.at):
                return False
            if event_set_text(&self.builder, index, inner.at, inner.end - inner.at):
                return False
        elif field == KIND_TIMESTAMP:
            if kind != VALUE_TIMESTAMP or not read_moment(&inner, &whole):
                return False
            event_set_i64(&self.builder, index, whole)
        elif field != KIND_MONEY or kind != VALUE_MONEY or not self.pack_money(&inner, index, currency):
            return False
        return value.at == value.end

    cdef bint pack_money(self, Reader* reader, uint32_t index, object currency) except -1:
        cdef Reader named
        cdef uint32_t field = 0, wire = 0, said = 0
        cdef uint64_t minor = 0
        named.at = named.end = reader.end
        while reader.at < reader.end:
            if not read_tag(reader, &field, &wire):
                return False
            if field == MONEY_MINOR:
                if wire != VARINT or not read_varint(reader, &minor):
                    return False
            elif field != MONEY_CURRENCY or not once(&said, field) or not read_inner(reader, wire, &named):
                return False
        if <int64_t>minor == INT64_MIN or text_of(&named) != currency:
            return False
        event_set_i64(&self.builder, index, <int64_t>minor)
        return True


def well_formed(int rule, uint32_t rows, bytes ends not None, bytes texts not None, size_t most):
    """Whether these are `rows` texts of UTF-8 of at most `most` bytes, and with a rule (not 0) normalised ones; see the .pyi."""
    cdef const uint32_t* end = <const uint32_t*>PyBytes_AS_STRING(ends)
    cdef const char* text = PyBytes_AS_STRING(texts)
    cdef char normal[256]
    cdef size_t size = 0
    cdef uint32_t row, start = 0, length
    if len(ends) != 4 * <Py_ssize_t>rows or (rows and end[rows - 1] != <uint32_t>len(texts)) or (not rows and texts):
        return False
    for row in range(rows):
        if end[row] < start or end[row] > <uint32_t>len(texts):
            return False
        length = end[row] - start
        if length > most or not is_utf8(<const uint8_t*>text + start, length):
            return False
        if rule and length:
            if normalise(rule, text + start, length, normal, &size) or size != length:
                return False
            if memcmp(normal, text + start, size):
                return False
        start = end[row]
    return True


# --- applying -----------------------------------------------------------------------------------------------------


def _apply(Applier applier, mutation):
    """All together, or where one is refused each by itself."""
    inside = any(applier.all_tables())  # of an undo, whose changes must not be put back with ours
    if not inside or mutation.rows == 1:
        try:
            created, late = _run(applier, mutation.items, mutation.received_us)
            return IngestResult(len(created), _too_old(late))
        except RapportError as error:
            if inside:
                raise
            applier.put_back_tables()
            if mutation.rows == 1:
                return IngestResult(0, ((0, error),))
    created = 0
    failures = []
    for place, item in enumerate(items_of(mutation.items)):
        kept = applier.tables()
        try:
            made, late = _run(applier, item, mutation.received_us, place)
            created += len(made)
            failures += [(place, error) for _, error in _too_old(late)]
        except RapportError as error:
            applier.put_back_tables(kept)
            failures.append((place, error))
    return IngestResult(created, tuple(failures))


def _apply_all(Applier applier, mutation):
    """Batches as one, and what became of each."""
    whole = mutation.whole()
    created, late = _run(applier, whole.items, whole.received_us, 0, JOINED_BYTES)
    failures = _too_old(late)
    results = []
    begins = 0
    for batch in mutation.batches:
        ends = begins + batch.rows
        results.append(IngestResult(
            sum([begins <= place < ends for place in created]),
            tuple([(place - begins, error) for place, error in failures if begins <= place < ends]),
        ))
        begins = ends
    return results


def _too_old(late):
    return tuple([
        (place, HistoryFull("customer's event list", limits.EVENTS_PER_CUSTOMER, at)) for place, at in sorted(late)
    ])


def _again(Applier applier, mutation):
    """Inside another mutation, which takes back what a refused one has left."""
    _run(applier, mutation.items, mutation.received_us)


def items_of(bytes items not None):
    """The packed items apart."""
    cdef uint32_t size
    cdef Py_ssize_t at = 0
    found = []
    while at < len(items):
        size = item_size(items, at)
        found.append(items[at:at + size])
        at += size
    return found


def named_in(bytes items not None):
    """The keys (namespace number and value) of every identifier in packed items, as often as they stand there."""
    found = []
    for item in items_of(items):
        at = 6
        for _ in range(int.from_bytes(item[4:6], "little")):
            size = int.from_bytes(item[at:at + 2], "little")
            found.append(item[at + 2:at + 2 + size])
            at += 2 + size
    return found


def without(bytes items not None, keys):
    """Packed items without the identifiers of these keys."""
    kept = []
    for item in items_of(items):
        named = [key for key in named_in(item) if key not in keys]
        event = item[6 + sum([2 + len(key) for key in named_in(item)]):]
        rest = b"".join([len(key).to_bytes(2, "little") + key for key in named]) + event
        kept.append((6 + len(rest)).to_bytes(4, "little") + len(named).to_bytes(2, "little") + rest)
    return b"".join(kept)


cdef uint32_t item_size(bytes items, Py_ssize_t at) except 0:
    cdef uint32_t size
    if len(items) - at < 6:
        raise EngineFault("A packed item of a feed is cut off.")
    memcpy(&size, PyBytes_AS_STRING(items) + at, 4)
    if size < 6 + EVENT_HEADER_BYTES or size > len(items) - at:
        raise EngineFault("A packed item of a feed does not say its size.")
    return size


def _run(Applier applier, bytes items, int64_t received_us, Py_ssize_t begins=0, size_t most=0):
    """([position of each item that made a customer], [(position, time) of each event older than all that his full list keeps]).

    `begins` is the first item's place in the mutation at hand, by which it is remembered for an undo. Raises TooLarge when lists
    of more than `most` bytes (0: however many) change.
    """
    cdef const uint8_t* start = <const uint8_t*>PyBytes_AS_STRING(items)
    cdef Py_ssize_t at = 0, ends, place, offset, named
    cdef uint32_t size
    cdef uint16_t count, length
    cdef uint64_t customer, owner
    cdef size_t changed = 0
    cdef int64_t latest
    cdef EventHeader header
    cdef RecordView view
    cdef bytes key, record
    cdef bytes named_by = b""
    cdef int fault, trust, best
    trusts = {entry.number: entry.trust for entry in applier.catalog.namespaces.values()}
    kept = since(applier.catalog, received_us) if received_us else None
    by_customer = {}
    created = []
    place = 0
    while at < len(items):
        size = item_size(items, at)
        ends = at + size
        memcpy(&count, start + at + 4, 2)
        at += 6
        customer = 0
        best = -1
        named = at
        news = False
        for _ in range(count):
            if ends - at < 2:
                raise EngineFault("A packed item of a feed holds half of an identifier.")
            memcpy(&length, start + at, 2)
            if length < 3 or length > ends - at - 2:
                raise EngineFault("A packed item of a feed holds half of an identifier.")
            key = items[at + 2:at + 2 + length]
            at += 2 + length
            owner = applier.lookup(key)
            if owner == 0:
                news = True
            elif count == 1:
                customer = owner
            else:
                trust = trusts[<uint16_t>key[0] << 8 | <uint16_t>key[1]]
                # As `core.hub.identifiers.ranked`: a key is its namespace's number and the value.
                if trust > best or (trust == best and key < named_by):
                    customer = owner
                    best = trust
                    named_by = key
        if news:
            found = _named(applier, trusts, items[named:at])
            if applier.singles:
                customer = applier.meant(found)
            if customer == 0:
                customer = applier.new_customer()
                created.append(place)
            applier.begin_record(customer)
            applier.adopt(customer, found, True)
            applier.finish_record(customer)
        if ends - at < <Py_ssize_t>EVENT_HEADER_BYTES:
            raise EngineFault("A packed item of a feed holds no event.")
        by_customer.setdefault(customer, []).append((place, at, ends - at))
        at = ends
        place += 1
        let_others(place)
    late = []
    for done, (customer, places) in enumerate(by_customer.items(), 1):
        let_others(done)
        applier.packer.clear()
        for _, offset, ends in places:
            if buffer_append(&applier.packer.builder.entries, start + offset, ends):
                raise MemoryError
        applier.packer.count = <uint32_t>len(places)
        latest = INT64_MIN
        counted = add_packed(applier, customer, kept)
        if most:
            changed += len(applier.events.get(customer) or b"")
            if changed > most:
                raise TooLarge("batches: bytes of their customers' lists", changed, most)
        for (place, offset, ends), merged in zip(places, counted, strict=True):
            memcpy(&header, start + offset, EVENT_HEADER_BYTES)
            if merged == MERGED_PAST:
                late.append((place, header.at))
            else:
                latest = max(latest, header.at)
        if applier.undoable:
            applier.touched[customer] = [*applier.touched.get(customer, ()), *[begins + row[0] for row in places]]
        record = applier.record(customer)
        if record is None:
            raise damaged(1, f"Customer {customer}, to whom an identifier leads, has no record, so the store")
        fault = record_open(<const uint8_t*>PyBytes_AS_STRING(record), len(record), &view)
        if fault:
            raise damaged(fault, f"Customer {customer}'s record")
        if view.updated < latest:
            _touch(applier, customer, record, latest)
    return created, late


cdef list _named(Applier applier, dict trusts, bytes identifiers):
    """Packed identifiers as `Applier.adopt` takes them: (trust, key, namespace number, value, owner or 0), `ranked`."""
    cdef Py_ssize_t at = 0
    cdef uint16_t length
    cdef bytes key
    found = []
    while at < len(identifiers):
        memcpy(&length, PyBytes_AS_STRING(identifiers) + at, 2)
        key = identifiers[at + 2:at + 2 + length]
        at += 2 + length
        number = <uint16_t>key[0] << 8 | <uint16_t>key[1]
        found.append((trusts[number], key, number, key[2:], applier.lookup(key)))
    return ranked(found)


cdef int _touch(Applier applier, uint64_t customer, bytes record, int64_t at) except -1:
    """Note in a customer's record, which is at hand, when he was last heard of: without looking for it again and again."""
    cdef RecordLayout layout = applier.layout
    cdef const uint8_t* data = NULL
    cdef size_t size = 0
    applier.answer(
        builder_begin(&applier.builder, &layout.layout, customer, <const uint8_t*>PyBytes_AS_STRING(record), len(record)),
        customer,
    )
    builder_touch(&applier.builder, at)
    applier.answer(builder_finish(&applier.builder, &data, &size), customer)
    applier.records[customer] = data[:size]
    return 0


register(IngestBatch, _apply, _again)
register(IngestBatches, _apply_all)
