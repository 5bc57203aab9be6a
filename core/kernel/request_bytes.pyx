"""Reads a DecideRequest where it lies, without the GIL and without a Python object.

A text that names something (channel, placement, namespace, fact, label) is looked up in the plan's names and becomes a
number; one that is a value is checked to be UTF-8 and stays where it is, borrowed until the decision ends. Only what has
to be written anew, normalised identifiers and sets in byte order, goes to the desk's scratch, which is made large enough
before the first byte is read. Fields that this version does not know are skipped, as the protobuf library does. Whatever
else is unusual (a field said twice, a submessage in two parts, a wire type that is not the field's) or wrong stops the
reading, and the caller takes the Python path, which knows every case and words every error. So nothing here is ever half
right: a property test holds the two ways against each other.
"""

from libc.stddef cimport size_t
from libc.stdint cimport INT64_MAX, INT64_MIN, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memmove, memset

from core import limits
from core.hub.identifiers cimport IDENTIFIER_FINE, is_utf8, normalise
from core.instants cimport FIRST_SECOND, LAST_SECOND, LONGEST_SECONDS
from core.kernel.desk_state cimport (
    FACTS_PER_REQUEST, IDENTIFIERS_PER_REQUEST, IDENTIFIER_BYTES, PLACEMENTS_PER_REQUEST, SET_MEMBERS,
    SLOTS_PER_PLACEMENT, STRING_BYTES, Desk, Spelled,
)
from core.kernel.names cimport (
    SCOPE_CHANNELS, SCOPE_FACTS, SCOPE_NAMESPACES, SCOPE_OTHERS, FactName, NamespaceName, name_find,
)
from core.kernel.plan cimport (
    STORED_BOOL, STORED_DOUBLE, STORED_ENUM, STORED_INT, STORED_MONEY, STORED_SET, STORED_STRING, STORED_TIMESTAMP,
)
from core.kernel.values cimport PRESENT, Value
from core.kernel.wire cimport (
    VARINT, FIXED64, BYTES, FIXED32, IDENTIFIER_NAMESPACE, IDENTIFIER_VALUE, IDENTIFIER_LAST, MONEY_MINOR,
    MONEY_CURRENCY, MONEY_LAST, SET_MEMBER, SET_LAST, VALUE_BOOL, VALUE_INT, VALUE_DOUBLE, VALUE_STRING, VALUE_MONEY,
    VALUE_TIMESTAMP, VALUE_SET, VALUE_LAST, MOMENT_SECONDS, MOMENT_NANOS, MOMENT_LAST, WANTED_NAME, WANTED_SLOTS,
    WANTED_LAST, ENTRY_KEY, ENTRY_VALUE, REQUEST_IDENTIFIERS, REQUEST_CHANNEL, REQUEST_PLACEMENTS, REQUEST_FACTS,
    REQUEST_EXPLAIN, REQUEST_TIME_BUDGET, REQUEST_AS_OF, REQUEST_SEED, REQUEST_DEFERRED, REQUEST_LAST,
)
from core.kernel.workspace cimport Fact, Identity, Request

assert IDENTIFIERS_PER_REQUEST == limits.IDENTIFIERS_PER_REQUEST
assert IDENTIFIER_BYTES == limits.IDENTIFIER_BYTES
assert PLACEMENTS_PER_REQUEST == limits.PLACEMENTS_PER_REQUEST
assert FACTS_PER_REQUEST == limits.FACTS_PER_REQUEST
assert SLOTS_PER_PLACEMENT == limits.SLOTS_PER_PLACEMENT
assert STRING_BYTES == limits.STRING_BYTES
assert SET_MEMBERS == limits.SET_MEMBERS

# Each function gives False where the Python path has to look.

cdef enum:
    EXPLAIN_NONE = 1
    NANOS_MOST = 999_999_999

cdef int64_t BUDGET_US_MOST = INT64_MAX // 4000  # some 73 years: longer ones are as good as none


cdef struct Reader:
    const uint8_t* at  # the next byte; inside the request's bytes
    const uint8_t* end  # one past the message's last byte


# The last digit's shift: of a number, and of a tag or a length, which the library takes in five bytes at most.
cdef enum:
    NUMBER_SHIFT = 63
    PREFIX_SHIFT = 28


cdef bint _long_varint(Reader* reader, uint64_t* value, int most) noexcept nogil:
    cdef uint64_t result = 0
    cdef int shift = 0
    cdef uint8_t byte
    while reader.at < reader.end:
        byte = reader.at[0]
        reader.at += 1
        if shift == NUMBER_SHIFT and byte > 1:
            return False
        result |= <uint64_t> (byte & 0x7F) << shift
        if byte < 0x80:
            value[0] = result
            return True
        shift += 7
        if shift > most:
            return False
    return False


cdef inline bint _varint(Reader* reader, uint64_t* value) noexcept nogil:
    if reader.at < reader.end and reader.at[0] < 0x80:
        value[0] = reader.at[0]
        reader.at += 1
        return True
    return _long_varint(reader, value, NUMBER_SHIFT)


cdef inline bint _prefix(Reader* reader, uint64_t* value) noexcept nogil:
    """The number that a tag or a length is."""
    if reader.at < reader.end and reader.at[0] < 0x80:
        value[0] = reader.at[0]
        reader.at += 1
        return True
    return _long_varint(reader, value, PREFIX_SHIFT)


cdef inline bint _tag(Reader* reader, uint32_t* tag) noexcept nogil:
    """Field number and wire type in one; False also for a tag of more than 32 bits. The number 0 is no message's: see _skip."""
    cdef uint64_t value = 0
    if not _prefix(reader, &value) or value >> 32:
        return False
    tag[0] = <uint32_t> value
    return True


cdef inline bint _inside(Reader* reader, Reader* inner) noexcept nogil:
    """A length-delimited field's bytes as a reader of their own."""
    cdef uint64_t size = 0
    if not _prefix(reader, &size) or size > <uint64_t> (reader.end - reader.at):
        return False
    inner.at = reader.at
    inner.end = reader.at + size
    reader.at += size
    return True


cdef inline bint _text(Reader* reader, Spelled* text) noexcept nogil:
    """A string field's bytes, not yet known to be UTF-8. A second one for the same field is for the Python path: the library
    checks the first as well before it forgets it."""
    cdef Reader inner
    if text.text != NULL or not _inside(reader, &inner):
        return False
    text.text = <const char*> inner.at
    text.length = <uint32_t> (inner.end - inner.at)
    return True


cdef bint _skip(Reader* reader, uint32_t tag, uint32_t last) noexcept nogil:
    """Past a field of a number over ``last``, the message's last known one; False for a known field and for groups."""
    cdef uint32_t kind = tag & 7
    cdef uint64_t unused = 0
    cdef Reader inner
    if tag >> 3 <= last:
        return False
    if kind == VARINT:
        return _varint(reader, &unused)
    if kind == BYTES:
        return _inside(reader, &inner)
    if kind == FIXED64 and reader.end - reader.at >= 8:
        reader.at += 8
        return True
    if kind == FIXED32 and reader.end - reader.at >= 4:
        reader.at += 4
        return True
    return False


cdef bint _all_ascii(const char* text, size_t size) noexcept nogil:
    cdef uint64_t word, seen = 0
    cdef size_t i = 0
    while i + 8 <= size:
        memcpy(&word, text + i, 8)
        seen |= word
        i += 8
    while i < size:
        seen |= <uint8_t> text[i]
        i += 1
    return seen & <uint64_t> 0x8080808080808080 == 0


cdef inline bint _is_text(const char* text, size_t size) noexcept nogil:
    return _all_ascii(text, size) or is_utf8(<const uint8_t*> text, size)


cdef bint _moment(Reader* reader, int64_t* seconds, int64_t* nanos) noexcept nogil:
    """The two fields that Timestamp and Duration share."""
    cdef uint32_t tag = 0
    cdef uint64_t value = 0
    seconds[0] = nanos[0] = 0
    while reader.at < reader.end:
        if not _tag(reader, &tag):
            return False
        if tag == (MOMENT_SECONDS << 3 | VARINT):
            if not _varint(reader, &value):
                return False
            seconds[0] = <int64_t> value
        elif tag == (MOMENT_NANOS << 3 | VARINT):
            if not _varint(reader, &value):
                return False
            nanos[0] = <int32_t> value
        elif not _skip(reader, tag, MOMENT_LAST):
            return False
    return True


cdef bint _instant(Reader* reader, int64_t* at_us) noexcept nogil:
    """Microseconds of a Timestamp in range."""
    cdef int64_t seconds = 0, nanos = 0
    if not _moment(reader, &seconds, &nanos):
        return False
    if seconds < FIRST_SECOND or seconds > LAST_SECOND or nanos < 0 or nanos > NANOS_MOST:
        return False
    at_us[0] = seconds * 1_000_000 + nanos // 1000
    return True


cdef bint _identifier(Desk* desk, Reader* reader) noexcept nogil:
    cdef uint32_t tag = 0
    cdef Spelled space, value
    cdef int32_t number
    cdef const NamespaceName* named
    cdef size_t size = 0
    cdef uint32_t place = desk.request.identity_count
    cdef char* normal
    space.text = value.text = NULL
    space.length = value.length = 0
    while reader.at < reader.end:
        if not _tag(reader, &tag):
            return False
        if tag == (IDENTIFIER_NAMESPACE << 3 | BYTES):
            if not _text(reader, &space):
                return False
        elif tag == (IDENTIFIER_VALUE << 3 | BYTES):
            if not _text(reader, &value):
                return False
        elif not _skip(reader, tag, IDENTIFIER_LAST):
            return False
    if space.text == NULL or value.text == NULL or place == IDENTIFIERS_PER_REQUEST:
        return False
    number = name_find(desk.names, SCOPE_NAMESPACES, space.text, space.length)
    if number < 0:
        return False
    named = &desk.names.namespaces[number]
    normal = desk.scratch + desk.scratch_used
    if normalise(named.rule, value.text, value.length, normal, &size) != IDENTIFIER_FINE:
        return False
    desk.scratch_used += size
    while place and _ranks_before(named, normal, size, desk.trusts[place - 1], &desk.identities[place - 1]):
        desk.trusts[place] = desk.trusts[place - 1]
        desk.identities[place] = desk.identities[place - 1]
        place -= 1
    desk.trusts[place] = named.trust
    desk.identities[place].namespace = named.number
    desk.identities[place].single = named.single
    desk.identities[place].text = normal
    desk.identities[place].length = <uint32_t> size
    desk.request.identity_count += 1
    return True


cdef inline bint _ranks_before(
    const NamespaceName* named, const char* text, size_t size, int32_t trust, const Identity* other
) noexcept nogil:
    """Whether an identifier is believed before another of `trust`: by `core.hub.identifiers.ranked`."""
    cdef int differs
    if named.trust != trust:
        return named.trust > trust
    if named.number != other.namespace:
        return named.number < other.namespace
    differs = memcmp(text, other.text, min(size, <size_t> other.length))
    return differs < 0 or (differs == 0 and size < other.length)


cdef bint _wanted(Desk* desk, Reader* reader) noexcept nogil:
    cdef uint32_t tag = 0, place = desk.request.wanted_count
    cdef uint64_t slots = 0
    if place == PLACEMENTS_PER_REQUEST:
        return False
    desk.sought[place].text = NULL
    while reader.at < reader.end:
        if not _tag(reader, &tag):
            return False
        if tag == (WANTED_NAME << 3 | BYTES):
            if not _text(reader, &desk.sought[place]):
                return False
        elif tag == (WANTED_SLOTS << 3 | VARINT):
            if not _varint(reader, &slots):
                return False
        elif not _skip(reader, tag, WANTED_LAST):
            return False
    # Like the library: 32 bits of what was sent.
    desk.wanted[place].slots = <uint32_t> slots
    desk.request.wanted_count += 1
    return desk.sought[place].text != NULL


cdef bint _money(Reader* reader, const FactName* fact, Value* out) noexcept nogil:
    cdef uint32_t tag = 0
    cdef uint64_t minor = 0
    cdef Spelled currency
    currency.text = NULL
    while reader.at < reader.end:
        if not _tag(reader, &tag):
            return False
        if tag == (MONEY_MINOR << 3 | VARINT):
            if not _varint(reader, &minor):
                return False
        elif tag == (MONEY_CURRENCY << 3 | BYTES):
            if not _text(reader, &currency):
                return False
        elif not _skip(reader, tag, MONEY_LAST):
            return False
    if (
        currency.text == NULL or currency.length != fact.currency_length or minor == <uint64_t> 1 << 63
        or memcmp(currency.text, fact.currency, currency.length) != 0
    ):
        return False
    out.i = <int64_t> minor
    out.f = <double> out.i / fact.unit
    return True


cdef inline int _compared(const Spelled* a, const Spelled* b) noexcept nogil:
    """In byte order, a beginning before what it begins."""
    cdef uint32_t shorter = a.length if a.length < b.length else b.length
    cdef int order = memcmp(a.text, b.text, shorter)
    if order:
        return order
    return (a.length > b.length) - (a.length < b.length)


cdef bint _member(Desk* desk, uint32_t* count, Reader* reader) noexcept nogil:
    """Puts a member in its place among the set's, unless it is there."""
    cdef Spelled one
    cdef uint32_t low = 0, high = count[0], middle
    cdef int order
    one.text = NULL
    if not _text(reader, &one) or one.length > STRING_BYTES or not _is_text(one.text, one.length):
        return False
    while low < high:
        middle = (low + high) // 2
        order = _compared(&desk.members[middle], &one)
        if order == 0:
            return True
        if order < 0:
            low = middle + 1
        else:
            high = middle
    if count[0] == SET_MEMBERS:
        return False
    memmove(&desk.members[low + 1], &desk.members[low], (count[0] - low) * sizeof(Spelled))
    desk.members[low] = one
    count[0] += 1
    return True


cdef inline char* _put_length(char* out, uint32_t length) noexcept nogil:
    out[0] = <char> (length & 0xFF)
    out[1] = <char> (length >> 8)
    return out + 2


cdef bint _set(Desk* desk, Reader* reader, Value* out) noexcept nogil:
    """A set as a record's heap holds it: count, then each member's length and bytes, in byte order."""
    cdef uint32_t tag = 0, count = 0, i
    cdef char* at
    while reader.at < reader.end:
        if not _tag(reader, &tag):
            return False
        if tag == (SET_MEMBER << 3 | BYTES):
            if not _member(desk, &count, reader):
                return False
        elif not _skip(reader, tag, SET_LAST):
            return False
    # A member takes as many bytes here as on the wire or fewer, so that the scratch is large enough; see request_scratch.
    out.text = desk.scratch + desk.scratch_used
    at = _put_length(desk.scratch + desk.scratch_used, count)
    for i in range(count):
        at = _put_length(at, desk.members[i].length)
        memcpy(at, desk.members[i].text, desk.members[i].length)
        at += desk.members[i].length
    out.length = <uint32_t> (at - out.text)
    desk.scratch_used += out.length
    return True


cdef bint _real(Reader* reader, Value* out) noexcept nogil:
    if reader.end - reader.at < 8:
        return False
    memcpy(&out.f, reader.at, 8)
    reader.at += 8
    return out.f == out.f


cdef bint _whole(Reader* reader, const FactName* fact, Value* out) noexcept nogil:
    cdef uint64_t value = 0
    if not _varint(reader, &value):
        return False
    if fact.storage == STORED_INT:
        out.i = <int64_t> value
        return out.i != INT64_MIN
    out.f = <double> <int64_t> value
    return fact.storage == STORED_DOUBLE


cdef bint _said(Desk* desk, Reader* reader, const FactName* fact, Value* out) noexcept nogil:
    cdef Spelled text
    text.text = NULL
    if not _text(reader, &text) or text.length > STRING_BYTES:
        return False
    out.text = text.text
    out.length = text.length
    if fact.storage == STORED_ENUM:
        return name_find(desk.names, fact.labels, text.text, text.length) >= 0
    return fact.storage == STORED_STRING and _is_text(text.text, text.length)


cdef bint _value(Desk* desk, Reader* reader, const FactName* fact, Value* out) noexcept nogil:
    """A Value with exactly one kind set, which is the fact's."""
    cdef uint32_t tag = 0
    cdef uint64_t flag = 0
    cdef Reader inner
    cdef bint fine
    memset(out, 0, sizeof(Value))
    while reader.at < reader.end:
        if not _tag(reader, &tag):
            return False
        if tag >> 3 > VALUE_LAST:
            if not _skip(reader, tag, VALUE_LAST):
                return False
            continue
        if out.state == PRESENT:
            return False
        out.state = PRESENT
        if tag == (VALUE_STRING << 3 | BYTES):
            fine = _said(desk, reader, fact, out)
        elif tag == (VALUE_INT << 3 | VARINT):
            fine = _whole(reader, fact, out)
        elif tag == (VALUE_DOUBLE << 3 | FIXED64):
            fine = fact.storage == STORED_DOUBLE and _real(reader, out)
        elif tag == (VALUE_BOOL << 3 | VARINT):
            fine = fact.storage == STORED_BOOL and _varint(reader, &flag)
            out.i = flag != 0
        elif tag == (VALUE_MONEY << 3 | BYTES):
            fine = fact.storage == STORED_MONEY and _inside(reader, &inner) and _money(&inner, fact, out)
        elif tag == (VALUE_TIMESTAMP << 3 | BYTES):
            fine = fact.storage == STORED_TIMESTAMP and _inside(reader, &inner) and _instant(&inner, &out.i)
        elif tag == (VALUE_SET << 3 | BYTES):
            fine = fact.storage == STORED_SET and _inside(reader, &inner) and _set(desk, &inner, out)
        else:
            fine = False
        if not fine:
            return False
    return out.state == PRESENT


cdef bint _fact(Desk* desk, Reader* reader) noexcept nogil:
    """One entry of the facts. Of two for one fact the later holds, because the frame is filled in their order."""
    cdef uint32_t tag = 0
    cdef Spelled key
    cdef Reader value
    cdef int32_t number
    cdef const FactName* named
    cdef Fact* fact = &desk.facts[desk.request.fact_count]
    key.text = NULL
    value.at = NULL
    while reader.at < reader.end:
        if not _tag(reader, &tag):
            return False
        if tag == (ENTRY_KEY << 3 | BYTES):
            if not _text(reader, &key):
                return False
        elif tag == (ENTRY_VALUE << 3 | BYTES) and value.at == NULL:
            if not _inside(reader, &value):
                return False
        else:
            # Also a foreign field: the library puts an entry that has one aside, as if it had not been sent.
            return False
    if key.text == NULL or value.at == NULL:
        return False
    number = name_find(desk.names, SCOPE_FACTS, key.text, key.length)
    if number < 0:
        return False
    named = &desk.names.facts[number]
    if not _value(desk, &value, named, &fact.value):
        return False
    # Declared, and read by nothing: checked all the same, so that a program that begins to read it finds it right.
    if named.slot >= 0:
        fact.slot = <uint32_t> named.slot
        desk.request.fact_count += 1
    return True


cdef bint _placements(Desk* desk, const Spelled* channel) noexcept nogil:
    """Turns the names asked for into rows, now that the channel is known."""
    cdef uint32_t i, j
    cdef int32_t row, number = -1
    if channel.text != NULL:
        number = name_find(desk.names, SCOPE_CHANNELS, channel.text, channel.length)
    if number < 0 or desk.request.wanted_count == 0:
        return False
    desk.channel = <uint32_t> number
    desk.request.channel = desk.names.channels[number].number
    desk.request.channel_text.text = desk.names.channels[number].text
    desk.request.channel_text.length = desk.names.channels[number].length
    desk.request.channel_text.state = PRESENT
    for i in range(desk.request.wanted_count):
        row = name_find(desk.names, SCOPE_OTHERS + desk.channel, desk.sought[i].text, desk.sought[i].length)
        if row < 0:
            return False
        for j in range(i):
            if desk.wanted[j].placement == <uint32_t> row:
                return False
        desk.wanted[i].placement = <uint32_t> row
        if desk.wanted[i].slots == 0:
            desk.wanted[i].slots = desk.plan.placements[row].slots
        elif desk.wanted[i].slots > SLOTS_PER_PLACEMENT:
            return False
    return True


cdef bint _budget(Desk* desk, Reader* reader) noexcept nogil:
    """A time_budget of a microsecond or more, in whole microseconds."""
    cdef int64_t seconds = 0, nanos = 0, us
    if desk.budget_ns or not _moment(reader, &seconds, &nanos):
        return False
    if seconds < 0 or seconds > LONGEST_SECONDS or nanos < 0 or nanos > NANOS_MOST:
        return False
    us = seconds * 1_000_000 + nanos // 1000
    desk.budget_ns = (us if us < BUDGET_US_MOST else BUDGET_US_MOST) * 1000
    return us > 0


cdef bint request_scratch(Desk* desk, size_t size) noexcept nogil:
    """Room for all that ``size`` bytes of request can make necessary; what was in the scratch is gone."""
    # An identifier takes up to IDENTIFIER_BYTES whatever it says; a set has a count that the wire has not.
    cdef size_t needed = IDENTIFIERS_PER_REQUEST * IDENTIFIER_BYTES + 2 * FACTS_PER_REQUEST + size
    if needed <= desk.scratch_size:
        return True
    free(desk.scratch)
    desk.scratch = <char*> malloc(2 * needed)
    desk.scratch_size = 2 * needed if desk.scratch != NULL else 0
    return desk.scratch != NULL


cdef bint read_request(Desk* desk, const uint8_t* data, size_t size) noexcept nogil:
    """Fills the desk's request. The scratch has room for every identifier and every set that ``size`` bytes can hold."""
    cdef Request* request = &desk.request
    cdef Reader reader, inner
    cdef uint32_t tag = 0, facts = 0
    cdef uint64_t value = 0
    cdef Spelled channel
    cdef bint fine
    memset(request, 0, sizeof(Request))
    request.identities = desk.identities
    request.facts = desk.facts
    request.wanted = desk.wanted
    request.explain = EXPLAIN_NONE
    desk.scratch_used = 0
    desk.budget_ns = 0
    desk.has_as_of = desk.has_seed = 0
    channel.text = NULL
    reader.at = data
    reader.end = data + size
    while reader.at < reader.end:
        if not _tag(&reader, &tag):
            return False
        if tag == (REQUEST_IDENTIFIERS << 3 | BYTES):
            fine = _inside(&reader, &inner) and _identifier(desk, &inner)
        elif tag == (REQUEST_CHANNEL << 3 | BYTES):
            fine = _text(&reader, &channel)
        elif tag == (REQUEST_PLACEMENTS << 3 | BYTES):
            fine = _inside(&reader, &inner) and _wanted(desk, &inner)
        elif tag == (REQUEST_FACTS << 3 | BYTES):
            facts += 1
            fine = facts <= FACTS_PER_REQUEST and _inside(&reader, &inner) and _fact(desk, &inner)
        elif tag == (REQUEST_EXPLAIN << 3 | VARINT):
            # Reasons are told by the Python path.
            fine = _varint(&reader, &value) and value <= EXPLAIN_NONE
        elif tag == (REQUEST_TIME_BUDGET << 3 | BYTES):
            fine = _inside(&reader, &inner) and _budget(desk, &inner)
        elif tag == (REQUEST_AS_OF << 3 | BYTES):
            fine = not desk.has_as_of and _inside(&reader, &inner) and _instant(&inner, &request.as_of_us)
            desk.has_as_of = 1
        elif tag == (REQUEST_SEED << 3 | VARINT):
            fine = _varint(&reader, &request.seed)
            desk.has_seed = 1
        elif tag == (REQUEST_DEFERRED << 3 | VARINT):
            fine = _varint(&reader, &value)
            request.deferred = value != 0
        else:
            # Events among them: the store has to be handed them.
            fine = _skip(&reader, tag, REQUEST_LAST)
        if not fine:
            return False
    return _placements(desk, &channel)
