"""From the bytes of a DecideRequest to the bytes of a DecideResponse, without the GIL and without a Python object.

*Decoding* reads the wire where it lies. A text that names something (channel, placement, namespace, fact, label) is
looked up in the plan's names and becomes a number; one that is a value is checked to be UTF-8 and stays where it is,
borrowed until the decision ends. Only what has to be written anew, normalised identifiers and sets in byte order, goes
to the desk's scratch, which is made large enough before the first byte is read. Fields that this version does not know
are skipped, as the protobuf library does. Whatever else is unusual (a field said twice, a submessage in two parts, a
wire type that is not the field's) or wrong stops the reading, and the caller takes the Python path, which knows every case
and words every error. So nothing here is ever half right: a property test holds the two ways against each other.

*Encoding* writes from the last byte to the first, so that a submessage's length is known when its turn comes and nothing
is measured or moved. What is the same for everybody is copied from the plan's names, tags included. Room is asked for
once an offer, with a bound for all it may take; after the first few answers the buffer is large enough. Texts are not
checked here: programs, the store and the decoding above let nothing in that is not UTF-8, and no expression cuts one.

Nothing is allocated once scratch and answer have grown, except where decoding or deciding meets a larger request than
ever before.

Measured for `shop` (one identifier and one placement in; three priced offers with two content fields each, 1,010 bytes,
out): 4,000 instructions beside the 74,500 of the decision itself, 0.42 us beside 6.3 us. Of it 0.04 us is decoding; a
request of six identifiers and five facts of all kinds takes 0.4 us. Clocks and the drawn seed are in it.
"""

from libc.stddef cimport size_t
from libc.stdint cimport INT64_MAX, INT64_MIN, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memmove, memset

import os

from core import limits
from core.errors import EngineFault

from core.hub.identifiers cimport IDENTIFIER_FINE, is_utf8, normalise
from core.instants cimport FIRST_SECOND, LAST_SECOND, LONGEST_SECONDS
from core.kernel.deciding cimport DECIDE_MEMORY, DECIDED, decide
from core.kernel.instance_token cimport mix64, siphash128
from core.kernel.names cimport (
    SCOPE_CHANNELS,
    SCOPE_FACTS,
    SCOPE_NAMESPACES,
    SCOPE_OTHERS,
    FactName,
    NamespaceName,
    PriceText,
    Segment,
    name_find,
)
from core.kernel.plan cimport (
    STORED_BOOL,
    STORED_DOUBLE,
    STORED_ENUM,
    STORED_INT,
    STORED_MONEY,
    STORED_SET,
    STORED_STRING,
    STORED_TIMESTAMP,
    TreatmentEntry,
)
from core.kernel.values cimport PRESENT, Value
from core.kernel.workspace cimport Contender, Filled, Span, Winner, give_back, take

cdef extern from "time.h" nogil:
    ctypedef int clockid_t
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(clockid_t clock, timespec* now)
    clockid_t CLOCK_MONOTONIC
    clockid_t CLOCK_REALTIME

cdef extern from *:
    int __builtin_clzll(unsigned long long number) nogil

assert IDENTIFIERS_PER_REQUEST == limits.IDENTIFIERS_PER_REQUEST
assert IDENTIFIER_BYTES == limits.IDENTIFIER_BYTES
assert PLACEMENTS_PER_REQUEST == limits.PLACEMENTS_PER_REQUEST
assert FACTS_PER_REQUEST == limits.FACTS_PER_REQUEST
assert SLOTS_PER_PLACEMENT == limits.SLOTS_PER_PLACEMENT
assert STRING_BYTES == limits.STRING_BYTES
assert SET_MEMBERS == limits.SET_MEMBERS

# --- the wire -----------------------------------------------------------------------------------------------------

cdef enum:
    VARINT = 0
    FIXED64 = 1
    BYTES = 2
    FIXED32 = 5

# Every field of every message that is read or written here, in the order of their numbers. FIELDS tells Python of them.
cdef enum:
    IDENTIFIER_NAMESPACE = 1
    IDENTIFIER_VALUE = 2
    IDENTIFIER_LAST = 2

    MONEY_MINOR = 1
    MONEY_CURRENCY = 2
    MONEY_LAST = 2

    SET_MEMBER = 1
    SET_LAST = 1

    VALUE_BOOL = 1
    VALUE_INT = 2
    VALUE_DOUBLE = 3
    VALUE_STRING = 4
    VALUE_MONEY = 5
    VALUE_TIMESTAMP = 6
    VALUE_SET = 7
    VALUE_LAST = 7

    MOMENT_SECONDS = 1  # of Timestamp and of Duration
    MOMENT_NANOS = 2
    MOMENT_LAST = 2

    WANTED_NAME = 1
    WANTED_SLOTS = 2
    WANTED_LAST = 2

    ENTRY_KEY = 1  # of every map
    ENTRY_VALUE = 2

    REQUEST_IDENTIFIERS = 1
    REQUEST_CHANNEL = 2
    REQUEST_PLACEMENTS = 3
    REQUEST_FACTS = 4
    REQUEST_EVENTS = 5
    REQUEST_EXPLAIN = 6
    REQUEST_TIME_BUDGET = 7
    REQUEST_AS_OF = 8
    REQUEST_SEED = 9
    REQUEST_DEFERRED = 10
    REQUEST_LAST = 10

    FACTORS_PROPENSITY = 1
    FACTORS_CONTEXT = 2
    FACTORS_VALUE = 3
    FACTORS_LEVER = 4

    PRICE_AMOUNT = 1
    PRICE_LIST = 2
    PRICE_PERSONAL = 3
    PRICE_BASIS = 4
    PRICE_CLAMP = 5

    OFFER_NAME = 1
    OFFER_GROUP = 2
    OFFER_RANK = 3
    OFFER_PRIORITY = 4
    OFFER_FACTORS = 5
    OFFER_CONTENT = 6
    OFFER_TOKEN = 7
    OFFER_INSTANCE = 8
    OFFER_PRICE = 9
    OFFER_MODEL = 10

    ANSWER_NAME = 1
    ANSWER_STATUS = 2
    ANSWER_OFFERS = 3
    ANSWER_FALLBACK = 4
    ANSWER_REJECTIONS = 5
    ANSWER_SUMMARY = 6

    RESPONSE_DECISION = 1
    RESPONSE_PLACEMENTS = 2
    RESPONSE_KNOWN = 3
    RESPONSE_PROGRAM = 4
    RESPONSE_DIGEST = 5
    RESPONSE_MODELS = 6
    RESPONSE_AS_OF = 7
    RESPONSE_SEED = 8
    RESPONSE_TOOK_NS = 9

# By message: each field's name, number and type, "*" where it is repeated, "?" where its absence shows. A test compares
# them with the protos, so that a field added there is not skipped here as unknown.
FIELDS = {
    "rapport.v1.Identifier": (("namespace", IDENTIFIER_NAMESPACE, "string"), ("value", IDENTIFIER_VALUE, "string")),
    "rapport.v1.Money": (("minor", MONEY_MINOR, "int64"), ("currency", MONEY_CURRENCY, "string")),
    "rapport.v1.StringSet": (("members", SET_MEMBER, "string*"),),
    "rapport.v1.Value": (
        ("bool_value", VALUE_BOOL, "bool?"), ("int_value", VALUE_INT, "int64?"), ("double_value", VALUE_DOUBLE, "double?"),
        ("string_value", VALUE_STRING, "string?"), ("money_value", VALUE_MONEY, "rapport.v1.Money?"),
        ("timestamp_value", VALUE_TIMESTAMP, "google.protobuf.Timestamp?"), ("set_value", VALUE_SET, "rapport.v1.StringSet?"),
    ),
    "google.protobuf.Timestamp": (("seconds", MOMENT_SECONDS, "int64"), ("nanos", MOMENT_NANOS, "int32")),
    "google.protobuf.Duration": (("seconds", MOMENT_SECONDS, "int64"), ("nanos", MOMENT_NANOS, "int32")),
    "rapport.v1.PlacementRequest": (("name", WANTED_NAME, "string"), ("slots", WANTED_SLOTS, "uint32")),
    "rapport.v1.DecideRequest.FactsEntry": (("key", ENTRY_KEY, "string"), ("value", ENTRY_VALUE, "rapport.v1.Value?")),
    "rapport.v1.DecideRequest": (
        ("identifiers", REQUEST_IDENTIFIERS, "rapport.v1.Identifier*"), ("channel", REQUEST_CHANNEL, "string"),
        ("placements", REQUEST_PLACEMENTS, "rapport.v1.PlacementRequest*"),
        ("facts", REQUEST_FACTS, "rapport.v1.DecideRequest.FactsEntry*"), ("events", REQUEST_EVENTS, "rapport.v1.Event*"),
        ("explain", REQUEST_EXPLAIN, "enum"), ("time_budget", REQUEST_TIME_BUDGET, "google.protobuf.Duration?"),
        ("as_of", REQUEST_AS_OF, "google.protobuf.Timestamp?"), ("seed", REQUEST_SEED, "uint64?"),
        ("deferred", REQUEST_DEFERRED, "bool"),
    ),
    "rapport.v1.Factors": (
        ("propensity", FACTORS_PROPENSITY, "double"), ("context_percent", FACTORS_CONTEXT, "double"),
        ("value", FACTORS_VALUE, "double"), ("lever_percent", FACTORS_LEVER, "double"),
    ),
    "rapport.v1.QuotedPrice": (
        ("amount", PRICE_AMOUNT, "rapport.v1.Money?"), ("list", PRICE_LIST, "rapport.v1.Money?"),
        ("personal", PRICE_PERSONAL, "bool"), ("basis", PRICE_BASIS, "string*"), ("clamp", PRICE_CLAMP, "enum"),
    ),
    "rapport.v1.DecidedOffer.ContentEntry": (("key", ENTRY_KEY, "string"), ("value", ENTRY_VALUE, "string")),
    "rapport.v1.DecidedOffer": (
        ("offer", OFFER_NAME, "string"), ("group", OFFER_GROUP, "string"), ("rank", OFFER_RANK, "uint32"),
        ("priority", OFFER_PRIORITY, "double"), ("factors", OFFER_FACTORS, "rapport.v1.Factors?"),
        ("content", OFFER_CONTENT, "rapport.v1.DecidedOffer.ContentEntry*"), ("token", OFFER_TOKEN, "string"),
        ("instance", OFFER_INSTANCE, "uint64"), ("price", OFFER_PRICE, "rapport.v1.QuotedPrice?"),
        ("model", OFFER_MODEL, "string"),
    ),
    "rapport.v1.PlacementAnswer.FallbackEntry": (("key", ENTRY_KEY, "string"), ("value", ENTRY_VALUE, "string")),
    "rapport.v1.PlacementAnswer": (
        ("name", ANSWER_NAME, "string"), ("status", ANSWER_STATUS, "enum"),
        ("offers", ANSWER_OFFERS, "rapport.v1.DecidedOffer*"),
        ("fallback", ANSWER_FALLBACK, "rapport.v1.PlacementAnswer.FallbackEntry*"),
        ("rejections", ANSWER_REJECTIONS, "rapport.v1.Rejection*"), ("summary", ANSWER_SUMMARY, "rapport.v1.ReasonCount*"),
    ),
    "rapport.v1.DecideResponse": (
        ("decision", RESPONSE_DECISION, "string"), ("placements", RESPONSE_PLACEMENTS, "rapport.v1.PlacementAnswer*"),
        ("known", RESPONSE_KNOWN, "bool"), ("program", RESPONSE_PROGRAM, "string"), ("digest", RESPONSE_DIGEST, "string"),
        ("models", RESPONSE_MODELS, "string*"), ("as_of", RESPONSE_AS_OF, "google.protobuf.Timestamp?"),
        ("seed", RESPONSE_SEED, "uint64"), ("took_ns", RESPONSE_TOOK_NS, "uint64"),
    ),
}

# --- reading ------------------------------------------------------------------------------------------------------
# Each function gives False where the Python path has to look.

cdef enum:
    EXPLAIN_NONE = 1
    # A request longer than this is no business of a desk; core.limits.MESSAGE_BYTES is far below.
    REQUEST_BYTES = 1 << 28
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
    # By falling trust; of two with the same trust the one sent first comes first.
    while place and desk.trusts[place - 1] < named.trust:
        desk.trusts[place] = desk.trusts[place - 1]
        desk.identities[place] = desk.identities[place - 1]
        place -= 1
    desk.trusts[place] = named.trust
    desk.identities[place].namespace = named.number
    desk.identities[place].text = normal
    desk.identities[place].length = <uint32_t> size
    desk.request.identity_count += 1
    return True


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
    # A member takes as many bytes here as on the wire or fewer, so that the scratch is large enough; see _decode.
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


cdef bint _decode(Desk* desk, const uint8_t* data, size_t size) noexcept nogil:
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


# --- writing ------------------------------------------------------------------------------------------------------
# Each function takes the place of the last byte written and gives the place of the new one; room has been asked for.

cdef enum:
    # What an offer takes beside its texts: rank 6, priority 9, factors 38, token 4, instance 11, price 70, itself 6.
    OFFER_BESIDE = 160
    ENTRY_BESIDE = 16  # a content entry's own tag and length, its value's
    ANSWER_BESIDE = 32  # a placement's tag and length, its status
    RESPONSE_BESIDE = 112  # took_ns, seed, as_of, known and the decision's id
    ANSWER_FIRST = 4096
    DIGITS = 32  # of the decision's id

cdef const char* HEX = "0123456789abcdef"


cdef struct Pen:
    uint8_t* at  # the last byte written; the answer's end before any is


cdef bint _room(Desk* desk, Pen* pen, size_t more) noexcept nogil:
    """Room for ``more`` bytes before those written; False when memory ran out."""
    cdef size_t used = desk.answer + desk.answer_size - pen.at
    cdef size_t size = desk.answer_size if desk.answer_size else ANSWER_FIRST
    cdef uint8_t* larger
    if more <= desk.answer_size - used:
        return True
    while size - used < more:
        size *= 2
    larger = <uint8_t*> malloc(size)
    if larger == NULL:
        return False
    if used:
        memcpy(larger + size - used, pen.at, used)
    free(desk.answer)
    desk.answer = larger
    desk.answer_size = size
    pen.at = larger + size - used
    return True


cdef inline uint8_t* _put_varint(uint8_t* at, uint64_t value) noexcept nogil:
    cdef uint32_t bytes, i
    if value < 0x80:
        at -= 1
        at[0] = <uint8_t> value
        return at
    # Seven bits a byte: 9/64 is 1/7 nearly enough for 64 bits.
    bytes = ((64 - <uint32_t> __builtin_clzll(value)) * 9 + 64) // 64
    at -= bytes
    for i in range(bytes - 1):
        at[i] = <uint8_t> (value & 0x7F) | 0x80
        value >>= 7
    at[bytes - 1] = <uint8_t> value
    return at


cdef inline uint8_t* _put_tag(uint8_t* at, uint32_t field, uint32_t kind) noexcept nogil:
    """The tag of a field; every number here is below 16, so it is one byte."""
    at -= 1
    at[0] = <uint8_t> (field << 3 | kind)
    return at


cdef inline uint8_t* _put_number(uint8_t* at, uint32_t field, uint64_t value) noexcept nogil:
    """A varint field, left out when 0."""
    if value == 0:
        return at
    return _put_tag(_put_varint(at, value), field, VARINT)


cdef inline uint8_t* _put_real(uint8_t* at, uint32_t field, double value) noexcept nogil:
    """A double field, left out when it is +0.0."""
    cdef uint64_t bits
    memcpy(&bits, &value, 8)
    if bits == 0:
        return at
    memcpy(at - 8, &bits, 8)
    return _put_tag(at - 8, field, FIXED64)


cdef inline uint8_t* _put_text(uint8_t* at, uint32_t field, const char* text, size_t size) noexcept nogil:
    """A string field, also when it is empty."""
    at -= size
    if size:
        memcpy(at, text, size)
    return _put_tag(_put_varint(at, size), field, BYTES)


cdef inline uint8_t* _put_segment(uint8_t* at, const Desk* desk, const Segment* segment) noexcept nogil:
    at -= segment.size
    memcpy(at, desk.names.bytes + segment.start, segment.size)
    return at


cdef inline uint8_t* _close(uint8_t* at, const uint8_t* end, uint32_t field) noexcept nogil:
    """Makes a submessage of all that was written since ``end`` was the place."""
    return _put_tag(_put_varint(at, end - at), field, BYTES)


cdef inline uint8_t* _put_money(
    uint8_t* at, const Desk* desk, uint32_t field, int64_t minor, const Segment* currency
) noexcept nogil:
    cdef const uint8_t* end = at
    at = _put_segment(at, desk, currency)
    at = _put_number(at, MONEY_MINOR, <uint64_t> minor)
    return _close(at, end, field)


cdef uint8_t* _put_price(uint8_t* at, const Desk* desk, const Winner* winner, const PriceText* text) noexcept nogil:
    cdef const uint8_t* end = at
    at = _put_number(at, PRICE_CLAMP, winner.clamp)
    at = _put_segment(at, desk, &text.basis)
    at = _put_money(at, desk, PRICE_LIST, desk.plan.prices[desk.plan.price_index[winner.offer]].list, &text.currency)
    at = _put_money(at, desk, PRICE_AMOUNT, winner.price, &text.currency)
    return _close(at, end, OFFER_PRICE)


cdef uint8_t* _put_factors(uint8_t* at, const Contender* contender) noexcept nogil:
    cdef const uint8_t* end = at
    at = _put_real(at, FACTORS_LEVER, contender.lever_percent)
    at = _put_real(at, FACTORS_VALUE, contender.value)
    at = _put_real(at, FACTORS_CONTEXT, contender.context_percent)
    at = _put_real(at, FACTORS_PROPENSITY, contender.propensity)
    return _close(at, end, OFFER_FACTORS)


cdef bint _put_offer(Desk* desk, Pen* pen, const Winner* winner, uint32_t rank) noexcept nogil:
    cdef const Work* work = desk.work
    cdef const Contender* contender = &work.contenders[winner.contender]
    cdef const TreatmentEntry* treatment = &desk.plan.treatments[winner.treatment]
    cdef const Span* spans = work.spans + winner.content_start
    cdef const Segment* group = &desk.names.groups[desk.plan.group_of[winner.offer]]
    cdef const Segment* model = NULL
    cdef const PriceText* price = NULL
    cdef Segment name
    cdef size_t needed
    cdef uint32_t i
    cdef uint8_t* at
    cdef const uint8_t* end
    cdef const uint8_t* inner
    name.start = desk.names.offer_starts[winner.offer]
    name.size = desk.names.offer_starts[winner.offer + 1] - name.start
    needed = OFFER_BESIDE + name.size + group.size + winner.token.length
    for i in range(treatment.field_count):
        needed += (
            ENTRY_BESIDE + spans[i].length
            + desk.names.fields[desk.plan.fields[treatment.field_start + i].name].size
        )
    if winner.priced:
        price = &desk.names.prices[desk.names.price_kinds[desk.plan.price_index[winner.offer]]]
        needed += price.basis.size + 2 * price.currency.size
    if contender.model_status == 0 and desk.plan.terms[winner.offer].kind == 2:
        model = &desk.names.models[desk.plan.terms[winner.offer].table]
        needed += model.size
    if not _room(desk, pen, needed):
        return False
    at = pen.at
    end = at
    if model != NULL:
        at = _put_segment(at, desk, model)
    if price != NULL:
        at = _put_price(at, desk, winner, price)
    at = _put_number(at, OFFER_INSTANCE, winner.instance)
    at = _put_text(at, OFFER_TOKEN, work.output + winner.token.start, winner.token.length)
    for i in range(treatment.field_count):
        # Entries of a map have no order; the last field is written first because the pen runs backwards.
        inner = at
        at = _put_text(
            at, ENTRY_VALUE, work.output + spans[treatment.field_count - 1 - i].start,
            spans[treatment.field_count - 1 - i].length
        )
        at = _put_segment(
            at, desk,
            &desk.names.fields[desk.plan.fields[treatment.field_start + treatment.field_count - 1 - i].name]
        )
        at = _close(at, inner, OFFER_CONTENT)
    at = _put_factors(at, contender)
    at = _put_real(at, OFFER_PRIORITY, contender.priority)
    at = _put_number(at, OFFER_RANK, rank)
    at = _put_segment(at, desk, group)
    at = _put_segment(at, desk, &name)
    pen.at = _close(at, end, ANSWER_OFFERS)
    return True


cdef bint _put_placement(Desk* desk, Pen* pen, uint32_t wanted) noexcept nogil:
    cdef const Filled* filled = &desk.work.filled[wanted]
    cdef uint32_t row = desk.wanted[wanted].placement, i
    # Distances from the end, because asking for room may move what is written.
    cdef size_t behind = desk.answer + desk.answer_size - pen.at
    if not filled.count:
        if not _room(desk, pen, desk.names.placements[row].fallback.size):
            return False
        pen.at = _put_segment(pen.at, desk, &desk.names.placements[row].fallback)
    for i in range(filled.count):
        if not _put_offer(desk, pen, &desk.work.winners[filled.first + filled.count - 1 - i], filled.count - i):
            return False
    if not _room(desk, pen, ANSWER_BESIDE + desk.names.placements[row].name.size):
        return False
    pen.at = _put_number(pen.at, ANSWER_STATUS, filled.status)
    pen.at = _put_segment(pen.at, desk, &desk.names.placements[row].name)
    pen.at = _close(pen.at, desk.answer + desk.answer_size - behind, RESPONSE_PLACEMENTS)
    return True


cdef uint8_t* _put_instant(uint8_t* at, uint32_t field, int64_t at_us) noexcept nogil:
    cdef const uint8_t* end = at
    cdef int64_t seconds = at_us // 1_000_000, rest = at_us % 1_000_000
    # cdivision rounds towards zero; an instant before 1970 counts its fraction forwards.
    if rest < 0:
        seconds -= 1
        rest += 1_000_000
    at = _put_number(at, MOMENT_NANOS, <uint64_t> (rest * 1000))
    at = _put_number(at, MOMENT_SECONDS, <uint64_t> seconds)
    return _close(at, end, field)


cdef uint8_t* _put_decision(uint8_t* at, uint64_t seed, int64_t as_of_us) noexcept nogil:
    """The decision's id: 32 hexadecimal digits."""
    cdef uint64_t high = mix64(seed, <uint64_t> as_of_us), low = mix64(<uint64_t> as_of_us, ~seed)
    cdef uint32_t i
    at -= DIGITS
    for i in range(16):
        at[i] = <uint8_t> HEX[high >> (60 - 4 * i) & 15]
        at[16 + i] = <uint8_t> HEX[low >> (60 - 4 * i) & 15]
    return _put_tag(_put_varint(at, DIGITS), RESPONSE_DECISION, BYTES)


cdef bint _encode(Desk* desk, Bytes* out) noexcept nogil:
    """Writes the answer that the workspace holds; False when memory ran out."""
    cdef Pen pen
    cdef uint32_t i, count = desk.request.wanted_count
    pen.at = desk.answer + desk.answer_size
    if not _room(desk, &pen, RESPONSE_BESIDE + desk.names.trailer.size):
        return False
    pen.at = _put_number(pen.at, RESPONSE_TOOK_NS, <uint64_t> desk.work.took_ns)
    pen.at = _put_number(pen.at, RESPONSE_SEED, desk.request.seed)
    pen.at = _put_instant(pen.at, RESPONSE_AS_OF, desk.request.as_of_us)
    pen.at = _put_segment(pen.at, desk, &desk.names.trailer)
    pen.at = _put_number(pen.at, RESPONSE_KNOWN, desk.work.customer.id != 0)
    for i in range(count):
        if not _put_placement(desk, &pen, count - 1 - i):
            return False
    if not _room(desk, &pen, RESPONSE_BESIDE):
        return False
    pen.at = _put_decision(pen.at, desk.request.seed, desk.request.as_of_us)
    out.data = pen.at
    out.size = desk.answer + desk.answer_size - pen.at
    return True


# --- deciding -----------------------------------------------------------------------------------------------------

cdef enum:
    # Twice the room core.inference.runner wants for a run on the caller's thread: time passes until it asks.
    INLINE_ROOM = 16
    # As long as all models of one decision may take on a thread that has other calls to serve.
    INLINE_NS = 1_000_000
    # As in core.kernel.scoring.
    ANSWER_NS = 2_000_000


cdef inline int64_t _clock_ns(clockid_t clock) noexcept nogil:
    cdef timespec now
    clock_gettime(clock, &now)
    return <int64_t> now.tv_sec * 1_000_000_000 + now.tv_nsec


cdef bint _may_wait(const Tables* plan, int64_t deadline_ns, int64_t now_ns) noexcept nogil:
    """Whether a decision over this plan could have to wait for a model, or hold its thread for long with one, if every
    offer survived to be scored."""
    cdef uint32_t i
    cdef int64_t left = INT64_MAX, shortest, reserve
    cdef double needed, together = 0.0
    if deadline_ns:
        # What core.kernel.scoring keeps for what comes after the models. With no time left for them they are late at once.
        reserve = (deadline_ns - now_ns) // 5
        reserve = ANSWER_NS if reserve < ANSWER_NS else reserve
        reserve = 10 * ANSWER_NS if reserve > 10 * ANSWER_NS else reserve
        left = deadline_ns - now_ns - reserve
        if left <= 0:
            return False
    for i in range(plan.model_table_count):
        if plan.model_tables[i].model.inline_base_ns < 0.0:
            return True
        needed = plan.model_tables[i].model.inline_base_ns
        needed += (1 if plan.model_tables[i].per_customer else plan.model_tables[i].rows) * (
            plan.model_tables[i].model.inline_row_ns
        )
        shortest = plan.model_tables[i].model.budget_ns
        if left < shortest:
            shortest = left
        together += needed
        if needed * INLINE_ROOM > <double> shortest or together > INLINE_NS:
            return True
    return False


cdef uint64_t _draw(Desk* desk) noexcept nogil:
    """A seed nobody can foretell from those before it: SipHash of a counter under the desk's own key."""
    cdef uint8_t[16] drawn
    cdef uint64_t seed
    desk.seeds += 1
    siphash128(<const uint8_t*> &desk.seeds, sizeof(uint64_t), desk.seed_key, drawn)
    memcpy(&seed, drawn, sizeof(uint64_t))
    return seed


cdef bint _scratch(Desk* desk, size_t size) noexcept nogil:
    """Room for all that ``size`` bytes of request can make necessary; what was in the scratch is gone."""
    # An identifier takes up to IDENTIFIER_BYTES whatever it says; a set has a count that the wire has not.
    cdef size_t needed = IDENTIFIERS_PER_REQUEST * IDENTIFIER_BYTES + 2 * FACTS_PER_REQUEST + size
    if needed <= desk.scratch_size:
        return True
    free(desk.scratch)
    desk.scratch = <char*> malloc(2 * needed)
    desk.scratch_size = 2 * needed if desk.scratch != NULL else 0
    return desk.scratch != NULL


cdef inline int _failed(Desk* desk, int fault) noexcept nogil:
    desk.fault = fault
    return DESK_FAILED


cdef int desk_decide(
    Desk* desk, const uint8_t* data, size_t size, int64_t arrived_ns, int64_t deadline_ns, Bytes* out
) noexcept nogil:
    cdef Request* request = &desk.request
    cdef int64_t now_ns = 0, until_ns = deadline_ns
    cdef int code
    if desk.work == NULL or size > REQUEST_BYTES:
        return DESK_ELSEWHERE
    if deadline_ns or desk.plan.model_table_count:
        now_ns = _clock_ns(CLOCK_MONOTONIC)
    if deadline_ns and now_ns >= deadline_ns:
        return DESK_EXPIRED
    if not _scratch(desk, size):
        return _failed(desk, DECIDE_MEMORY)
    if not _decode(desk, data, size):
        return DESK_ELSEWHERE
    if desk.budget_ns and (until_ns == 0 or arrived_ns + desk.budget_ns < until_ns):
        until_ns = arrived_ns + desk.budget_ns
    if desk.plan.model_table_count and not desk.may_wait and _may_wait(desk.plan, until_ns, now_ns):
        return DESK_SLOW
    request.deadline_ns = until_ns
    if not desk.has_as_of:
        request.as_of_us = _clock_ns(CLOCK_REALTIME) // 1000
    if not desk.has_seed:
        request.seed = _draw(desk)
    code = decide(desk.work, desk.snapshot, request)
    if code != DECIDED:
        return _failed(desk, code)
    if not _encode(desk, out):
        return _failed(desk, DECIDE_MEMORY)
    return DESK_DONE


cdef class DeskHolder:
    """A desk over a plan, with a workspace of its own. To be used by one thread at a time."""

    def __cinit__(self, Plan plan not None):
        cdef bytes key = os.urandom(16)
        memset(&self.desk, 0, sizeof(Desk))
        self.plan = plan
        self._space = take(plan)
        self.desk.plan = &plan.tables
        self.desk.names = plan.names
        self.desk.work = &self._space.work
        self.desk.snapshot = &self._space.snapshot
        memcpy(self.desk.seed_key, <const char*> key, 16)

    def __dealloc__(self):
        free(self.desk.scratch)
        free(self.desk.answer)

    cpdef close(self):
        if self._space is not None:
            # From now on every request is for the Python path; the plan stays, with all that was borrowed from it.
            self.desk.work = NULL
            self.desk.snapshot = NULL
            give_back(self.plan, self._space)
            self._space = None

    @property
    def may_wait(self):
        return bool(self.desk.may_wait)

    @may_wait.setter
    def may_wait(self, bint may):
        self.desk.may_wait = may

    def decide(self, bytes data not None, deadline_us=None):
        cdef Bytes out
        cdef size_t size = len(data)
        cdef int64_t arrived = _clock_ns(CLOCK_MONOTONIC)
        cdef int64_t deadline = 0
        # A copy without the zero that Python ends bytes with: a sanitizer then sees the first byte read past the end.
        cdef uint8_t* raw = <uint8_t*> malloc(size if size else 1)
        if raw == NULL:
            raise MemoryError("a request")
        memcpy(raw, <const char*> data, size)
        if deadline_us is not None:
            deadline = max(1, arrived + <int64_t> deadline_us * 1000)
        with nogil:
            self.code = desk_decide(&self.desk, raw, size, arrived, deadline, &out)
            free(raw)
        return (<const char*> out.data)[:out.size] if self.code == DESK_DONE else None

    def measure(self, requests, int rounds):
        import numpy as np  # only a benchmark needs it

        cdef Bytes out
        cdef bytes data
        cdef const uint8_t* raw
        cdef size_t size, at = 0
        cdef int64_t began = 0, ended = 0
        taken = np.empty((len(requests) * rounds, 2), np.int64)
        cdef int64_t[:, ::1] spent = taken
        for _ in range(rounds):
            for data in requests:
                raw = <const uint8_t*> <const char*> data
                size = len(data)
                with nogil:
                    began = _clock_ns(CLOCK_MONOTONIC)
                    self.code = desk_decide(&self.desk, raw, size, began, 0, &out)
                    ended = _clock_ns(CLOCK_MONOTONIC)
                if self.code != DESK_DONE:
                    raise EngineFault(f"a desk did not answer a request that is measured: {self.code}")
                spent[at, 0] = ended - began
                spent[at, 1] = self.desk.work.took_ns
                at += 1
        return taken
