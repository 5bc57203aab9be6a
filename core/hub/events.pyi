from collections.abc import Callable, Sequence
from typing import Self, final

_Cell = bool | int | float | str | None

def unpack(
    data: bytes, fields: Callable[[int], str], what: str = ..., newest: int | None = ...
) -> list[tuple[int, int, int, tuple[_Cell, ...]]]:
    """The entries of a stored list, or the ``newest`` of them, oldest first: (type number, at in microseconds, key hash, cells).

    ``fields`` gives for a type number one letter a field: i (int, money, timestamp), b (bool), f (double), t (enum,
    string). Raises StoreCorrupt.
    """

def count(data: bytes, what: str = ...) -> int:
    """How many events a stored list says it holds. Raises StoreCorrupt."""

def has_past(data: bytes, since: bytes, what: str = ...) -> bool:
    """Whether a stored list holds an event before its type's moment in ``since`` (see `Packer.merge`). Raises StoreCorrupt."""

def count_past(data: bytes, since: bytes, counts: list[int], what: str = ...) -> None:
    """Adds to ``counts``, by type number, the events of a stored list before their type's moment in ``since``, which has as
    many moments. Raises StoreCorrupt."""

@final
class Packer:
    """Packs events and merges them into lists."""

    def __new__(cls) -> Self: ...
    def clear(self) -> None:
        """Forget what was packed."""

    def pack(self, type: int, at: int, key: int, cells: Sequence[tuple[str, _Cell]]) -> None:
        """Pack one event. ``cells`` are (letter, value) as `unpack` has them; None is missing. Raises TooLarge."""

    def merge(self, existing: bytes | None, what: str = ..., since: bytes | None = ...) -> tuple[bytes, list[int]]:
        """The new list, and what became of each packed event: 1 counted, 0 duplicate, 2 older than everything that
        retention or a full list keeps. ``since`` holds an i64 a type number, as `core.hub.retention.since` makes them;
        events before it go, stored ones too. Raises StoreCorrupt."""

    def unite(self, existing: bytes, other: bytes, what: str = ...) -> bytes:
        """One list of two lists' events, each type and key once. Raises StoreCorrupt."""
