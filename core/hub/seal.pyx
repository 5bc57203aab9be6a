"""Seals as Python objects have them; see seal.pxd."""

import struct

from core.errors import StoreCorrupt


cdef bytes with_seal(int sealing, bytes key, bytes value):
    """The value as it is stored."""
    if sealing == SEAL_ALL and is_format(<const char*>key, len(key)):
        return value
    return value + struct.pack("<I", seal_of(sealing, <const char*>key, len(key), <const char*>value, len(value)))


cdef object broken_seal(str name):
    return StoreCorrupt(f"An entry of {name}", "its checksum does not match its bytes")
