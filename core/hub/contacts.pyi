from collections.abc import Sequence

# at, dedup, instance, value, offer, outcome, channel
_Contact = tuple[int, int, int, int, int, int, int]

def unpack(data: bytes, what: str = ...) -> list[_Contact]:
    """The entries of a stored list, oldest first. Raises StoreCorrupt."""

def merge(existing: bytes | None, added: Sequence[_Contact]) -> tuple[bytes, list[bool]]:
    """The new list, and for each added entry whether it counted (False: duplicate). Raises StoreCorrupt."""
