"""Reads and writes the words of gRPC over HTTP/2 (the protocol's document, "PROTOCOL-HTTP2").

``grpc-timeout`` is up to eight digits and a unit; ``grpc-message`` is UTF-8 with everything but printable ASCII
percent-encoded; ``-bin`` fields are base64, sent without padding. Each has a Python door for the tests, which hold
them against what other libraries make of the same bytes.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport INT64_MAX, int64_t, uint8_t

cdef const char* _DIGITS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
cdef const char* _HEX = b"0123456789ABCDEF"


cdef int64_t timeout_ns(const uint8_t* text, size_t size) noexcept nogil:
    """Nanoseconds of a grpc-timeout value, cut at INT64_MAX; TIMEOUT_BAD when it is none."""
    cdef int64_t value = 0, unit
    cdef size_t i
    if size < 2 or size > 9:
        return TIMEOUT_BAD
    for i in range(size - 1):
        if text[i] < c'0' or text[i] > c'9':
            return TIMEOUT_BAD
        value = value * 10 + (text[i] - c'0')
    if text[size - 1] == c'n':
        unit = 1
    elif text[size - 1] == c'u':
        unit = 1_000
    elif text[size - 1] == c'm':
        unit = 1_000_000
    elif text[size - 1] == c'S':
        unit = 1_000_000_000
    elif text[size - 1] == c'M':
        unit = 60_000_000_000
    elif text[size - 1] == c'H':
        unit = 3_600_000_000_000
    else:
        return TIMEOUT_BAD
    if value > INT64_MAX // unit:
        return INT64_MAX
    return value * unit


cdef size_t percent_encoded(const uint8_t* text, size_t size, uint8_t* into, size_t room) noexcept nogil:
    """Writes ``text`` percent-encoded into ``room`` bytes, cut where it does not fit; the bytes written."""
    cdef size_t i, at = 0
    for i in range(size):
        if 0x20 <= text[i] <= 0x7E and text[i] != c'%':
            if at + 1 > room:
                break
            into[at] = text[i]
            at += 1
        else:
            if at + 3 > room:
                break
            into[at] = c'%'
            into[at + 1] = <uint8_t> _HEX[text[i] >> 4]
            into[at + 2] = <uint8_t> _HEX[text[i] & 15]
            at += 3
    return at


cdef size_t base64_encoded(const uint8_t* data, size_t size, uint8_t* into) noexcept nogil:
    """Writes ``data`` as base64 without padding into 4 * ceil(size / 3) bytes; the bytes written."""
    cdef size_t i = 0, at = 0
    cdef unsigned int group
    while i + 3 <= size:
        group = <unsigned int> data[i] << 16 | <unsigned int> data[i + 1] << 8 | data[i + 2]
        into[at] = <uint8_t> _DIGITS[group >> 18]
        into[at + 1] = <uint8_t> _DIGITS[group >> 12 & 63]
        into[at + 2] = <uint8_t> _DIGITS[group >> 6 & 63]
        into[at + 3] = <uint8_t> _DIGITS[group & 63]
        i += 3
        at += 4
    if size - i == 1:
        group = <unsigned int> data[i] << 16
        into[at] = <uint8_t> _DIGITS[group >> 18]
        into[at + 1] = <uint8_t> _DIGITS[group >> 12 & 63]
        at += 2
    elif size - i == 2:
        group = <unsigned int> data[i] << 16 | <unsigned int> data[i + 1] << 8
        into[at] = <uint8_t> _DIGITS[group >> 18]
        into[at + 1] = <uint8_t> _DIGITS[group >> 12 & 63]
        into[at + 2] = <uint8_t> _DIGITS[group >> 6 & 63]
        at += 3
    return at


cdef bint is_grpc(const uint8_t* text, size_t size) noexcept nogil:
    """Whether a content-type is application/grpc of protobuf messages: alone, with +proto, or with parameters."""
    cdef const char* wanted = b"application/grpc"
    cdef const char* proto = b"+proto"
    cdef size_t i
    if size < 16:
        return False
    for i in range(16):
        if text[i] != <uint8_t> wanted[i]:
            return False
    if size == 16 or text[16] == c';':
        return True
    if size < 22:
        return False
    for i in range(6):
        if text[16 + i] != <uint8_t> proto[i]:
            return False
    return size == 22 or text[22] == c';'


def read_timeout(bytes text not None):
    """`timeout_ns` for tests: nanoseconds, or None when the value is malformed."""
    cdef int64_t found = timeout_ns(<const uint8_t*> <const char*> text, len(text))
    return None if found == TIMEOUT_BAD else found


def percent(str text not None):
    """``text`` as a grpc-message field, whole."""
    raw = text.encode("utf-8", "replace")
    out = PyBytes_FromStringAndSize(NULL, 3 * len(raw))
    cdef uint8_t* into = <uint8_t*> <char*> out
    return out[:percent_encoded(<const uint8_t*> <const char*> raw, len(raw), into, 3 * len(raw))]


def base64(bytes data not None):
    """``data`` as a -bin field."""
    out = PyBytes_FromStringAndSize(NULL, 4 * (len(data) // 3 + 1))
    cdef uint8_t* into = <uint8_t*> <char*> out
    return out[:base64_encoded(<const uint8_t*> <const char*> data, len(data), into)]


def grpc_content(bytes text not None):
    """`is_grpc` for tests."""
    return bool(is_grpc(<const uint8_t*> <const char*> text, len(text)))
