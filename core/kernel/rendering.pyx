"""Render: a winner's content, field by field.

Literal pieces are the marketer's own and copied; values are turned into text by the machine and escaped for the
placement's content type. Everything goes into one buffer of the workspace, a span a field; it grows to the largest
answer seen and stays.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport realloc
from libc.string cimport memcpy

from core.kernel.machine cimport format_text
from core.kernel.plan cimport ContentField, Piece, Tables, TreatmentEntry
from core.kernel.workspace cimport Span, Winner, Work

cdef enum:
    CONTENT_TEXT = 0
    CONTENT_HTML = 1
    CONTENT_JSON = 2
    CONTENT_URL = 3
    # The longest escape of one byte: &#39; and \u001f take 5 and 6.
    ESCAPE_MOST = 6

cdef const char* HEX = "0123456789ABCDEF"
cdef const char* HEX_LOWER = "0123456789abcdef"


cdef bint reserve_output(Work* work, size_t more) noexcept nogil:
    """Room for ``more`` bytes at the end of the output; False when memory ran out."""
    cdef size_t wanted = work.output_bytes + more
    cdef char* grown
    if wanted <= work.output_capacity:
        return True
    wanted = wanted * 2
    grown = <char*> realloc(work.output, wanted)
    if grown == NULL:
        work.out_of_memory = 1
        return False
    work.output = grown
    work.output_capacity = wanted
    return True


cdef inline uint32_t _put(char* out, const char* text, uint32_t length) noexcept nogil:
    memcpy(out, text, length)
    return length


cdef inline uint32_t _html(char* out, char byte) noexcept nogil:
    if byte == b'&':
        return _put(out, b"&amp;", 5)
    if byte == b'<':
        return _put(out, b"&lt;", 4)
    if byte == b'>':
        return _put(out, b"&gt;", 4)
    if byte == b'"':
        return _put(out, b"&#34;", 5)
    if byte == b"'":
        return _put(out, b"&#39;", 5)
    out[0] = byte
    return 1


cdef inline uint32_t _json(char* out, char byte) noexcept nogil:
    if byte == b'"' or byte == b'\\':
        out[0] = b'\\'
        out[1] = byte
        return 2
    if byte == b'\n':
        return _put(out, b"\\n", 2)
    if byte == b'\r':
        return _put(out, b"\\r", 2)
    if byte == b'\t':
        return _put(out, b"\\t", 2)
    if <uint8_t> byte < 0x20:
        memcpy(out, b"\\u00", 4)
        out[4] = HEX_LOWER[<uint8_t> byte >> 4]
        out[5] = HEX_LOWER[<uint8_t> byte & 15]
        return 6
    out[0] = byte
    return 1


cdef inline uint32_t _url(char* out, char byte) noexcept nogil:
    # Unreserved characters of RFC 3986, section 2.3.
    if (
        b'a' <= byte <= b'z' or b'A' <= byte <= b'Z' or b'0' <= byte <= b'9'
        or byte == b'-' or byte == b'.' or byte == b'_' or byte == b'~'
    ):
        out[0] = byte
        return 1
    out[0] = b'%'
    out[1] = HEX[<uint8_t> byte >> 4]
    out[2] = HEX[<uint8_t> byte & 15]
    return 3


cdef inline uint32_t _plain(char* out, char byte) noexcept nogil:
    if (<uint8_t> byte < 0x20 and byte != b'\n' and byte != b'\t') or <uint8_t> byte == 0x7F:
        return 0
    out[0] = byte
    return 1


cdef bint _append(Work* work, const char* text, uint32_t length, uint8_t content_type) noexcept nogil:
    cdef char* out
    cdef uint32_t i, used = 0
    if not reserve_output(work, <size_t> length * ESCAPE_MOST):
        return False
    out = work.output + work.output_bytes
    for i in range(length):
        if content_type == CONTENT_HTML:
            used += _html(out + used, text[i])
        elif content_type == CONTENT_JSON:
            used += _json(out + used, text[i])
        elif content_type == CONTENT_URL:
            used += _url(out + used, text[i])
        else:
            used += _plain(out + used, text[i])
    work.output_bytes += used
    return True


cdef bint _piece(Work* work, const Piece* piece, uint8_t content_type) noexcept nogil:
    cdef const char* text
    cdef uint32_t length
    if piece.expression < 0:
        if not reserve_output(work, piece.length):
            return False
        memcpy(work.output + work.output_bytes, piece.text, piece.length)
        work.output_bytes += piece.length
        return True
    # A missing value renders as nothing; formatting fails only for want of memory.
    if not format_text(work.plan.code, piece.expression, work.frame, &work.arena, &text, &length):
        work.out_of_memory = 1
        return False
    return _append(work, text, length, content_type)


cdef bint render_winner(Work* work, Winner* winner, unsigned char content_type) noexcept nogil:
    """Renders every field of the winner's treatment into spans; False when memory ran out."""
    cdef const Tables* plan = work.plan
    cdef const TreatmentEntry* treatment = &plan.treatments[winner.treatment]
    cdef const ContentField* field
    cdef uint32_t i, j
    cdef Span* grown
    cdef Span* span
    winner.content_start = work.span_count
    if work.span_count + treatment.field_count > work.span_capacity:
        grown = <Span*> realloc(
            work.spans, 2 * (work.span_count + treatment.field_count) * sizeof(Span)
        )
        if grown == NULL:
            work.out_of_memory = 1
            return False
        work.spans = grown
        work.span_capacity = 2 * (work.span_count + treatment.field_count)
    for i in range(treatment.field_count):
        field = &plan.fields[treatment.field_start + i]
        span = &work.spans[work.span_count]
        span.start = <uint32_t> work.output_bytes
        for j in range(field.piece_count):
            if not _piece(work, &plan.pieces[field.piece_start + j], content_type):
                return False
        span.length = <uint32_t> work.output_bytes - span.start
        work.span_count += 1
    return True
