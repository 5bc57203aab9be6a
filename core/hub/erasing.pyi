from collections.abc import Collection

from core.hub.catalog import Catalog
from core.hub.transaction import Transaction

JOINED: bytes  # how keys of joined customers' ids begin, in the database of identifiers

def erase_from(txn: Transaction, customers: Collection[int], keys: Collection[bytes] = ...) -> bool:
    """Take customers out of a store as an erasure does, whatever is there of them; False when nothing was.

    Who is one with one of them at this moment, or has one of these keys of identifiers, goes too.
    """

def holds(catalog: Catalog, key: bytes, value: bytes, own: Collection[bytes], held: Collection[int]) -> bool:
    """Whether an entry of what is kept of joins is about one of these ids, or names one of these keys of identifiers."""

def entries(txn: Transaction, database: str, start: bytes) -> list[tuple[bytes, bytes]]:
    """(key, value) of all entries whose keys begin so, as the transaction sees them."""
