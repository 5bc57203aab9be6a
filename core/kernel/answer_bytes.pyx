"""Writes a DecideResponse, without the GIL and without a Python object.

From the last byte to the first, so that a submessage's length is known when its turn comes and nothing is measured or
moved. What is the same for everybody is copied from the plan's names, tags included. Room is asked for once an offer,
with a bound for all it may take; after the first few answers the buffer is large enough. Texts are not checked here:
programs, the store and `request_bytes` let nothing in that is not UTF-8, and no expression cuts one.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from core.kernel.desk_state cimport Bytes, Desk
from core.kernel.instance_token cimport mix64
from core.kernel.names cimport PriceText, Segment
from core.kernel.plan cimport TreatmentEntry
from core.kernel.wire cimport (
    VARINT, FIXED64, BYTES, MONEY_MINOR, MOMENT_SECONDS, MOMENT_NANOS, ENTRY_VALUE, FACTORS_PROPENSITY, FACTORS_CONTEXT,
    FACTORS_VALUE, FACTORS_LEVER, PRICE_AMOUNT, PRICE_LIST, PRICE_CLAMP, OFFER_RANK, OFFER_PRIORITY, OFFER_FACTORS,
    OFFER_CONTENT, OFFER_TOKEN, OFFER_INSTANCE, OFFER_PRICE, ANSWER_STATUS, ANSWER_OFFERS, RESPONSE_DECISION,
    RESPONSE_PLACEMENTS, RESPONSE_KNOWN, RESPONSE_AS_OF, RESPONSE_SEED, RESPONSE_TOOK_NS,
)
from core.kernel.workspace cimport Contender, Filled, Span, Winner, Work

cdef extern from *:
    int __builtin_clzll(unsigned long long number) nogil

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


cdef bint write_answer(Desk* desk, Bytes* out) noexcept nogil:
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
