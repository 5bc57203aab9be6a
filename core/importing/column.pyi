from collections.abc import Mapping, Sequence
from typing import Self, final

from core.importing.localtime import LocalZone
from core.importing.table import Table

KINDS: dict[str, int]

@final
class Column:
    """Turns one column's cells into values.

    ``kind`` is one of `KINDS`; ``place`` names the column in rejects; ``slots`` are the table's slots to read: one, the
    two factors of a product, a key's columns, or none for the row's number.
    """

    def __new__(
        cls,
        kind: int,
        place: int,
        slots: Sequence[int],
        capacity: int,
        *,
        missing: Sequence[bytes] = (),
        labels: Mapping[bytes, int] | None = None,
        required: bool = False,
        rounded: bool = False,
        scale_mantissa: int = 1,
        scale_exponent: int = 0,
        scale: float = 1.0,
        decimal: str = ".",
        thousands: str = "",
        separator: str = ",",
        format: str = "iso",
        suffix: bytes = b"",
        prefix: bytes = b"",
        normaliser: int = 0,
        zone: LocalZone | None = None,
        latest: int = ...,
    ) -> Self:
        """``latest`` is the last time, in microseconds since 1970, that a timestamp may say."""
    @property
    def kind(self) -> int:
        """What values it makes."""

    @property
    def place(self) -> int:
        """Its name in rejects."""

    @property
    def zone(self) -> LocalZone | None:
        """The zone of texts that name no offset; None: UTC."""

    def run(self, table: Table) -> None:
        """Convert every row the table holds; bad ones are marked and noted in it."""

    def place_in_zone(self, table: Table) -> None:
        """Turn local times into UTC by the column's zone."""

    def take(self, table: Table) -> tuple[bytes, bytes]:
        """The good rows' values and texts.

        Values: bool 1 byte, label code 2, everything else 8; for texts, sets and identifiers 4, the end of the text in
        the second byte string, which for other kinds is empty.
        """

def require_identifier(table: Table, columns: Sequence[Column], skip: bool) -> None:
    """Mark the rows for which no column of ``columns`` (identifiers that have run) has a text."""

def prefer(table: Table, first: Column, second: Column) -> None:
    """Take the text of ``second`` out of every row for which ``first`` has one (identifiers that have run)."""

def require_date(table: Table, granted: Column, at: Column, latest: int) -> None:
    """Reject the rows in which ``granted`` has a value and ``at`` has none, or one after ``latest``."""

def require_order(table: Table, first: Column, second: Column) -> None:
    """Reject the rows in which both columns have a time and the second's is before the first's."""
