"""Messages spoilt as bytes: damaged blindly, or altered field by field so that they stay well-formed.

A field is a pair of its tag and its bytes behind the tag. Altering keeps every length right, at any depth, so that what
is tested is what a reader makes of doubled, foreign, reordered and split fields, and not only that it notices damage.
"""

from __future__ import annotations

import random

Field = tuple[int, bytes]

VARINT, FIXED64, BYTES, GROUP, END, FIXED32 = range(6)


def varint(value: int) -> bytes:
    """A number as the wire has it.

    >>> varint(300).hex()
    'ac02'
    """
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def fields(data: bytes) -> list[Field] | None:
    """The fields of a message, or None when these bytes are none."""
    found = []
    at = 0
    while at < len(data):
        tag, at = _number(data, at)
        kind = tag & 7
        if kind == VARINT:
            _, end = _number(data, at)
        elif kind == BYTES:
            size, behind = _number(data, at)
            end = behind + size
        elif kind in (FIXED64, FIXED32):
            end = at + (8 if kind == FIXED64 else 4)
        else:
            return None
        if tag < 8 or end > len(data) or end < 0:
            return None
        found.append((tag, data[at:end]))
        at = end
    return found


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A varint and the place behind it; far beyond the end when there is none."""
    value = 0
    for digit, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << 7 * digit
        if byte < 0x80:
            return value, at + digit + 1
    return 0, 1 << 40


def joined(parts: list[Field]) -> bytes:
    """The bytes of a message with these fields."""
    return b"".join(varint(tag) + data for tag, data in parts)


def foreign(source: random.Random) -> Field:
    """A field that no message here has, of any wire type, groups among them."""
    number = source.choice((11, 12, 15, 16, 100, 2047, 2048, 1 << 20, (1 << 29) - 1))
    kind = source.choice((VARINT, VARINT, FIXED64, BYTES, BYTES, FIXED32, GROUP))
    data = {
        VARINT: varint(source.choice((0, 1, 127, 128, 1 << 31, (1 << 64) - 1))),
        FIXED64: source.randbytes(8),
        FIXED32: source.randbytes(4),
        GROUP: varint(number << 3 | END),
    }.get(kind)
    if data is None:
        inside = source.randbytes(source.choice((0, 1, 5, 200)))
        data = varint(len(inside)) + inside
    return number << 3 | kind, data


def altered(source: random.Random, data: bytes) -> bytes:
    """The message with one thing changed that leaves its lengths right, here or in a message inside it."""
    parts = fields(data)
    if parts is None:
        return data
    insides = [place for place, (tag, _) in enumerate(parts) if tag & 7 == BYTES]
    if insides and source.random() < 0.6:
        place = source.choice(insides)
        tag, raw = parts[place]
        _, behind = _number(raw, 0)
        inside = altered(source, raw[behind:])
        parts[place] = tag, varint(len(inside)) + inside
        return joined(parts)
    place = source.randrange(len(parts) + 1)
    match source.randrange(7):
        case 0 | 1:
            parts.insert(place, foreign(source))
        case 2 if parts:
            parts.insert(place, source.choice(parts))
        case 3 if parts:
            del parts[source.randrange(len(parts))]
        case 4:
            source.shuffle(parts)
        case 5 if insides:
            # One field in two parts, which a reader of messages would merge.
            tag, raw = parts[source.choice(insides)]
            _, behind = _number(raw, 0)
            cut = source.randint(behind, len(raw))
            parts += [(tag, varint(cut - behind) + raw[behind:cut]), (tag, varint(len(raw) - cut) + raw[cut:])]
        case _ if parts:
            # Another number in its place, or other bytes of the same length.
            place = source.randrange(len(parts))
            tag, raw = parts[place]
            match tag & 7:
                case 0:
                    parts[place] = tag, varint(source.choice((0, 1, 2, 100, 101, (1 << 32) + 1, 1 << 63, (1 << 64) - 1)))
                case 1 | 5:
                    parts[place] = tag, source.randbytes(len(raw))
                case _:
                    _, behind = _number(raw, 0)
                    parts[place] = tag, raw[:behind] + source.randbytes(len(raw) - behind)
    return joined(parts)


def damaged(source: random.Random, data: bytes) -> bytes:
    """The bytes with a few of them flipped, cut off, doubled, or put in."""
    raw = bytearray(data)
    for _ in range(source.randint(1, 4)):
        if not raw:
            break
        place = source.randrange(len(raw))
        match source.randrange(5):
            case 0 | 1:
                raw[place] ^= 1 << source.randrange(8)
            case 2:
                raw[place] = source.choice((0, 1, 0x7F, 0x80, 0xC3, 0xED, 0xFF))
            case 3:
                raw[place:place] = source.choice((source.randbytes(1), raw[place : place + source.randrange(12)], b"\xff" * 11))
            case _:
                del raw[place : source.choice((place + 1, len(raw)))]
    return bytes(raw)
