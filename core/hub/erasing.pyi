from collections.abc import Collection, Sequence
from typing import Self, final

from core.hub.catalog import Catalog
from core.hub.transaction import Transaction

JOINED: bytes  # how keys of joined customers' ids begin, in the database of identifiers

@final
class KeptJoins:
    """What is kept of joins in a store into which erasures are done again, and whom it names: read once, told of changes."""

    def __new__(cls) -> Self: ...

def erase_from(
    txn: Transaction,
    erasures: Sequence[tuple[list[int], list[bytes]]],
    joins: KeptJoins | None = None,
) -> tuple[int, list[int]]:
    """Take out of a store whom erasures took, each (ids, keys of identifiers), whatever is there of them; (how many of them found
    something, the ids that went).

    Who is one with one of them at this moment, or has one of these keys, goes too; a household that went with its last member
    stays where somebody else is in it at this moment. ``joins`` is for whoever calls again, and tells it of what he changes.
    """

def holds(catalog: Catalog, key: bytes, value: bytes, own: Collection[bytes], held: Collection[int]) -> bool:
    """Whether an entry of what is kept of joins is about one of these ids, or names one of these keys of identifiers."""

def entries(txn: Transaction, database: str, start: bytes) -> list[tuple[bytes, bytes]]:
    """(key, value) of all entries whose keys begin so, as the transaction sees them."""
