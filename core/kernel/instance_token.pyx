"""Instance tokens: what an outcome needs to be attributed, signed.

A token is base64url (RFC 4648, section 5, without padding) of: u8 version 1, u8 0, u16 flags, u16 channel, u16 rank,
u32 offer, u32 program, u64 customer, u64 instance, i64 decided, i64 expires, i64 price, f64 propensity, u16
namespace, u16 identifier length, the identifier's bytes, and 16 bytes of SipHash-2-4 over all before them, keyed with
the store's signing key (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012; 128 bit output). All
little-endian. A decision that was never logged can so still be reported on; a token altered anywhere is refused.
"""

from libc.stdint cimport INT64_MIN, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from core.errors import BadToken, EngineFault

cdef enum:
    FIXED = 68  # bytes before the identifier
    SIGNATURE = 16

cdef const char* ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


cdef inline uint64_t _rotate(uint64_t x, int bits) noexcept nogil:
    return (x << bits) | (x >> (64 - bits))


cdef inline void _round(uint64_t* v) noexcept nogil:
    v[0] += v[1]
    v[1] = _rotate(v[1], 13) ^ v[0]
    v[0] = _rotate(v[0], 32)
    v[2] += v[3]
    v[3] = _rotate(v[3], 16) ^ v[2]
    v[0] += v[3]
    v[3] = _rotate(v[3], 21) ^ v[0]
    v[2] += v[1]
    v[1] = _rotate(v[1], 17) ^ v[2]
    v[2] = _rotate(v[2], 32)


cdef void siphash128(const uint8_t* data, size_t length, const uint8_t* key, uint8_t* out) noexcept nogil:
    """SipHash-2-4 with 128 bits of output; ``key`` is 16 bytes, ``out`` 16."""
    cdef uint64_t k0, k1, m
    cdef uint64_t[4] v
    cdef size_t i, whole = length & ~(<size_t> 7)
    memcpy(&k0, key, 8)
    memcpy(&k1, key + 8, 8)
    v[0] = k0 ^ <uint64_t> 0x736F6D6570736575
    v[1] = k1 ^ <uint64_t> 0x646F72616E646F6D ^ 0xEE
    v[2] = k0 ^ <uint64_t> 0x6C7967656E657261
    v[3] = k1 ^ <uint64_t> 0x7465646279746573
    for i in range(0, whole, 8):
        memcpy(&m, data + i, 8)
        v[3] ^= m
        _round(v)
        _round(v)
        v[0] ^= m
    m = <uint64_t> (length & 0xFF) << 56
    for i in range(whole, length):
        m |= <uint64_t> data[i] << (8 * (i - whole))
    v[3] ^= m
    _round(v)
    _round(v)
    v[0] ^= m
    v[2] ^= 0xEE
    _round(v)
    _round(v)
    _round(v)
    _round(v)
    m = v[0] ^ v[1] ^ v[2] ^ v[3]
    memcpy(out, &m, 8)
    v[1] ^= 0xDD
    _round(v)
    _round(v)
    _round(v)
    _round(v)
    m = v[0] ^ v[1] ^ v[2] ^ v[3]
    memcpy(out + 8, &m, 8)


cdef uint64_t mix64(uint64_t a, uint64_t b) noexcept nogil:
    """A well-spread 64 bit number of two (the mixer of SplitMix64 over both)."""
    cdef uint64_t h = a + <uint64_t> 0x9E3779B97F4A7C15 * (b + 1)
    h = (h ^ (h >> 30)) * <uint64_t> 0xBF58476D1CE4E5B9
    h = (h ^ (h >> 27)) * <uint64_t> 0x94D049BB133111EB
    return h ^ (h >> 31)


cdef uint32_t token_write(const TokenFields* fields, const uint8_t* key, char* out) noexcept nogil:
    """Writes a token's text; returns its length, at most TOKEN_TEXT_MOST. ``out`` must hold that many."""
    cdef uint8_t[FIXED + 256 + SIGNATURE + 3] raw
    cdef uint32_t length = FIXED + fields.identifier_length, i, written = 0, group
    raw[0] = 1
    raw[1] = 0
    memcpy(raw + 2, &fields.flags, 2)
    memcpy(raw + 4, &fields.channel, 2)
    memcpy(raw + 6, &fields.rank, 2)
    memcpy(raw + 8, &fields.offer, 4)
    memcpy(raw + 12, &fields.program, 4)
    memcpy(raw + 16, &fields.customer, 8)
    memcpy(raw + 24, &fields.instance, 8)
    memcpy(raw + 32, &fields.decided_us, 8)
    memcpy(raw + 40, &fields.expires_us, 8)
    memcpy(raw + 48, &fields.price, 8)
    memcpy(raw + 56, &fields.propensity, 8)
    memcpy(raw + 64, &fields.namespace, 2)
    memcpy(raw + 66, &fields.identifier_length, 2)
    if fields.identifier_length:
        memcpy(raw + FIXED, fields.identifier, fields.identifier_length)
    siphash128(raw, length, key, raw + length)
    length += SIGNATURE
    raw[length] = 0
    raw[length + 1] = 0
    for i in range(0, length, 3):
        group = <uint32_t> raw[i] << 16 | <uint32_t> raw[i + 1] << 8 | raw[i + 2]
        out[written] = ALPHABET[group >> 18]
        out[written + 1] = ALPHABET[(group >> 12) & 63]
        out[written + 2] = ALPHABET[(group >> 6) & 63]
        out[written + 3] = ALPHABET[group & 63]
        written += 4
    return (length * 8 + 5) // 6


cdef inline int _digit(uint8_t c) noexcept nogil:
    """The value of a base64url digit (65 is 'A', 97 'a', 48 '0'), or -1."""
    if 65 <= c <= 90:
        return c - 65
    if 97 <= c <= 122:
        return c - 97 + 26
    if 48 <= c <= 57:
        return c - 48 + 52
    if c == 45:
        return 62
    if c == 95:
        return 63
    return -1


cdef int token_read(
    const char* text, size_t length, const uint8_t* key, TokenFields* fields, uint8_t* scratch
) noexcept nogil:
    """Reads and checks a token. ``scratch`` holds TOKEN_TEXT_MOST bytes; the identifier then points into it.

    Returns 0, 1 when it is not a token, 2 when its signature is wrong.
    """
    cdef size_t i, bytes = length * 6 // 8
    cdef uint32_t held = 0, bits = 0
    cdef int digit
    cdef uint8_t[SIGNATURE] expected
    cdef uint8_t different = 0
    if length > TOKEN_TEXT_MOST or bytes < FIXED + SIGNATURE:
        return 1
    bytes = 0
    for i in range(length):
        digit = _digit(<uint8_t> text[i])
        if digit < 0:
            return 1
        held = held << 6 | <uint32_t> digit
        bits += 6
        if bits >= 8:
            bits -= 8
            scratch[bytes] = <uint8_t> (held >> bits)
            bytes += 1
    # Bits left over after the last whole byte must be zero, or one token would have several spellings.
    if scratch[0] != 1 or held & ((<uint32_t> 1 << bits) - 1):
        return 1
    memcpy(&fields.identifier_length, scratch + 66, 2)
    if bytes != <size_t> FIXED + fields.identifier_length + SIGNATURE:
        return 1
    siphash128(scratch, bytes - SIGNATURE, key, expected)
    # All bytes are looked at, so that the time taken tells nothing about where they differ.
    for i in range(SIGNATURE):
        different |= expected[i] ^ scratch[bytes - SIGNATURE + i]
    if different:
        return 2
    memcpy(&fields.flags, scratch + 2, 2)
    memcpy(&fields.channel, scratch + 4, 2)
    memcpy(&fields.rank, scratch + 6, 2)
    memcpy(&fields.offer, scratch + 8, 4)
    memcpy(&fields.program, scratch + 12, 4)
    memcpy(&fields.customer, scratch + 16, 8)
    memcpy(&fields.instance, scratch + 24, 8)
    memcpy(&fields.decided_us, scratch + 32, 8)
    memcpy(&fields.expires_us, scratch + 40, 8)
    memcpy(&fields.price, scratch + 48, 8)
    memcpy(&fields.propensity, scratch + 56, 8)
    memcpy(&fields.namespace, scratch + 64, 2)
    fields.identifier = <const char*> scratch + FIXED
    return 0


class IssuedInstance:
    """What a token says: see the top of this file. Made by `read_token` only."""

    __slots__ = (
        "channel", "customer", "decided_us", "deferred", "expires_us", "identifier", "instance", "namespace", "offer",
        "price", "program", "propensity", "rank",
    )


def read_token(str text not None, bytes key not None):
    """Reads a token and checks its signature with the store's 16 byte key.

    Raises BadToken when it is not one, or was altered, or was signed by another store.
    """
    cdef uint8_t[TOKEN_TEXT_MOST] scratch
    cdef TokenFields fields
    cdef bytes raw
    cdef int code
    if len(key) < 16:
        raise EngineFault("a signing key has 16 bytes")
    try:
        raw = text.encode("ascii")
    except UnicodeEncodeError:
        raise BadToken("it holds characters that no token has") from None
    code = token_read(raw, len(raw), key, &fields, scratch)
    if code == 1:
        raise BadToken("it is cut short or is not a token")
    if code == 2:
        raise BadToken("it was altered, or issued by another installation")
    issued = IssuedInstance()
    issued.customer = fields.customer
    issued.instance = fields.instance
    issued.decided_us = fields.decided_us
    issued.expires_us = fields.expires_us
    issued.price = None if fields.price == INT64_MIN else fields.price
    issued.propensity = fields.propensity
    issued.offer = fields.offer
    issued.program = fields.program
    issued.channel = fields.channel
    issued.rank = fields.rank
    issued.deferred = bool(fields.flags & 1)
    issued.namespace = fields.namespace
    issued.identifier = fields.identifier[:fields.identifier_length] if fields.namespace else b""
    return issued


def siphash(bytes data not None, bytes key not None):
    """SipHash-2-4 with 128 bits of output, for comparison with the published test vectors."""
    cdef uint8_t[16] out
    siphash128(data, len(data), key, out)
    return <bytes> (<char*> out)[:16]
