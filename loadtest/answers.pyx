"""Walks through answers field by field, and writes reports about them.

Tokens of decisions go to a ring in the loop, from which the reports of a mixed load are written, oldest first, each token
once. A client with the protobuf library would be slower than the server it measures.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from loadtest.state cimport TOKENS, TOKEN_BYTES, Loop, Method, Slot


cdef struct Reader:
    const uint8_t* at
    const uint8_t* end


cdef struct Field:
    uint64_t number
    int wire  # 0 varint, 1 eight bytes, 2 bytes, 5 four bytes
    uint64_t value  # of a varint; the length of bytes
    const uint8_t* bytes


cdef inline bint _varint(Reader* reader, uint64_t* value) noexcept nogil:
    cdef int shift = 0
    cdef uint8_t byte
    value[0] = 0
    while reader.at < reader.end and shift < 64:
        byte = reader.at[0]
        reader.at += 1
        value[0] |= <uint64_t>(byte & 0x7F) << shift
        if byte < 0x80:
            return True
        shift += 7
    return False


cdef bint _field(Reader* reader, Field* field) noexcept nogil:
    """The next field; false when the bytes are no protobuf message."""
    cdef uint64_t tag, left
    if not _varint(reader, &tag):
        return False
    field.number = tag >> 3
    field.wire = tag & 7
    field.value = 0
    field.bytes = reader.at
    left = reader.end - reader.at
    if field.number == 0:
        return False
    if field.wire == 0:
        return _varint(reader, &field.value)
    if field.wire == 2:
        if not _varint(reader, &field.value):
            return False
        field.bytes = reader.at
        left = reader.end - reader.at
    elif field.wire == 1:
        field.value = 8
    elif field.wire == 5:
        field.value = 4
    else:
        return False
    if field.value > left:
        return False
    reader.at += field.value
    return True


cdef inline void _open(Reader* reader, const Field* field) noexcept nogil:
    reader.at = field.bytes
    reader.end = field.bytes + field.value


cdef void _keep_token(Loop* loop, const uint8_t* token, uint64_t size) noexcept nogil:
    cdef uint64_t place
    # A full ring keeps what it has: the oldest tokens are next, and no report is made twice.
    if size == 0 or size > TOKEN_BYTES or loop.token_in - loop.token_out >= TOKENS:
        return
    place = loop.token_in % TOKENS
    memcpy(loop.tokens + place * TOKEN_BYTES, token, size)
    loop.token_bytes[place] = <uint32_t>size
    loop.token_in += 1


cdef bint look_at_decision(Loop* loop, const uint8_t* data, uint64_t size) noexcept nogil:
    """Counts a DecideResponse's placements and offers and takes each placement's first token; false when it is none."""
    cdef Reader answer, placement, offer
    cdef Field outer, middle, inner
    cdef uint64_t status, offers, in_all = 0
    answer.at, answer.end = data, data + size
    while answer.at < answer.end:
        if not _field(&answer, &outer):
            return False
        if outer.number != 2 or outer.wire != 2:
            continue
        _open(&placement, &outer)
        status = offers = 0
        while placement.at < placement.end:
            if not _field(&placement, &middle):
                return False
            if middle.number == 2 and middle.wire == 0:
                status = middle.value
            elif middle.number == 3 and middle.wire == 2:
                offers += 1
                _open(&offer, &middle)
                while offer.at < offer.end:
                    if not _field(&offer, &inner):
                        return False
                    if inner.number == 7 and inner.wire == 2 and offers == 1 and loop.takes_tokens:
                        _keep_token(loop, inner.bytes, inner.value)
        in_all += 1
        loop.offers += offers
        # SLOT_STATUS_OK and SLOT_STATUS_OK_MODEL_FALLBACK
        if offers and (status == 1 or status == 8):
            loop.filled += 1
    loop.placements += in_all
    loop.looked += 1
    return in_all > 0


cdef bint look_at_report(Loop* loop, const uint8_t* data, uint64_t size) noexcept nogil:
    """Counts a RecordResponse's results by status; false when it is none."""
    cdef Reader answer, result
    cdef Field outer, inner
    cdef uint64_t status, results = 0
    answer.at, answer.end = data, data + size
    while answer.at < answer.end:
        if not _field(&answer, &outer):
            return False
        if outer.number != 1 or outer.wire != 2:
            continue
        _open(&result, &outer)
        status = 0
        while result.at < result.end:
            if not _field(&result, &inner):
                return False
            if inner.number == 1 and inner.wire == 0:
                status = inner.value
        loop.outcomes[status if status < 5 else 5] += 1
        results += 1
    return results > 0


cdef inline uint8_t* _put_length(uint8_t* out, uint64_t value) noexcept nogil:
    while value > 0x7F:
        out[0] = <uint8_t>(value & 0x7F | 0x80)
        out += 1
        value >>= 7
    out[0] = <uint8_t>value
    return out + 1


cdef inline int _length_bytes(uint64_t value) noexcept nogil:
    cdef int count = 1
    while value > 0x7F:
        value >>= 7
        count += 1
    return count


cdef void write_report(Loop* loop, const Method* method, Slot* slot) noexcept nogil:
    """A RecordRequest of one outcome around the oldest token, into the slot's own room."""
    cdef uint64_t place = loop.token_out % TOKENS
    cdef uint32_t token = loop.token_bytes[place]
    cdef uint64_t inner = 2 + _length_bytes(token) - 1 + token + 2 + method.outcome_bytes
    cdef uint64_t size = 1 + _length_bytes(inner) + inner
    cdef uint8_t* out = slot.own
    loop.token_out += 1
    out[0] = 0
    out[1] = out[2] = 0
    out[3] = <uint8_t>(size >> 8)
    out[4] = <uint8_t>(size & 0xFF)
    out[5] = 0x0A
    out = _put_length(out + 6, inner)
    out[0] = 0x0A
    out = _put_length(out + 1, token)
    memcpy(out, loop.tokens + place * TOKEN_BYTES, token)
    out += token
    out[0] = 0x12
    out[1] = <uint8_t>method.outcome_bytes
    memcpy(out + 2, method.outcome, method.outcome_bytes)
    slot.body = slot.own
    slot.body_bytes = 5 + size
