from collections.abc import Sequence

# at, dedup, instance, value, offer, outcome, channel
_Contact = tuple[int, int, int, int, int, int, int]

def unpack(data: bytes, what: str = ...) -> list[_Contact]:
    """The entries of a stored list, oldest first. Raises StoreCorrupt."""

def merge(existing: bytes | None, added: Sequence[_Contact]) -> tuple[bytes, list[int]]:
    """The new list, and what became of each added entry: 1 counted, 0 duplicate, 2 older than everything a full list
    keeps. Raises StoreCorrupt."""
