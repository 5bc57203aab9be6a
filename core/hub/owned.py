"""Entries whose checksum says whose they are: what sources said, and the texts of cases.

An entry is CRC-32C (u32, little-endian) of the owner's id (u64, little-endian) and the bytes, then the bytes. One that comes to
lie under another's key, by a flipped bit of the key say, is then told as damage and never read as his. What was written before
has the checksum of the bytes alone, and is taken, too, until it is written anew.
"""

from __future__ import annotations

import struct

from core.errors import StoreCorrupt
from core.hub.record import crc32c


def sealed(owner: int, data: bytes) -> bytes:
    """The entry of an owner (the id of a customer or a household)."""
    return struct.pack("<I", crc32c(struct.pack("<Q", owner) + data)) + data


def opened(owner: int, entry: bytes, what: str) -> bytes:
    """The bytes of an owner's entry. Raises StoreCorrupt, about ``what``, where they are not what was written, or not his."""
    data = entry[4:]
    told = int.from_bytes(entry[:4], "little")
    if len(entry) < 4 or told not in (crc32c(struct.pack("<Q", owner) + data), crc32c(data)):
        raise StoreCorrupt(what, "its checksum does not match its bytes")
    return data
