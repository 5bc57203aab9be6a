from collections.abc import Container
from typing import final

from core.hub.catalog import Catalog
from core.hub.mutations import IngestBatch

# Field numbers that are read, by message, for the test that compares them with the protos.
NUMBERS: dict[str, dict[str, int]]

@final
class ItemReader:
    """Reads messages of a feed under one catalog. For one thread at a time."""

    def __new__(cls, catalog: Catalog) -> ItemReader: ...
    def read(self, data: bytes, now_us: int, most: int) -> tuple[list[int], list[IngestBatch | bytes]]:
        """(seq of each item, pieces) of an IngestRequest's bytes, in order.

        A piece is a batch of at most ``most`` items that were read, or the bytes of one IngestItem that the protobuf library
        has to look at, whose seq is given as 0. ``now_us`` is the server's clock: the time of events that have none. Raises
        BadValue when the bytes are no such message.
        """

def items_of(items: bytes) -> list[bytes]:
    """The packed items of a batch apart. Raises EngineFault when they are none."""

def named_in(items: bytes) -> list[bytes]:
    """The keys (namespace number and value) of every identifier in packed items, as often as they stand there."""

def without(items: bytes, keys: Container[bytes]) -> bytes:
    """Packed items without the identifiers of these keys."""

def well_formed(rule: int, rows: int, ends: bytes, texts: bytes, most: int) -> bool:
    """Whether ``ends`` and ``texts`` are ``rows`` texts of UTF-8 of at most ``most`` bytes each.

    With ``rule``, a number of `core.hub.identifiers.RULES`, they must be normalised by it; 0 asks for no more.
    """
