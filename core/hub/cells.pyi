from collections.abc import Mapping, Sequence
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

from core.hub.localtime import LocalZone

CAUSES: dict[int, tuple[str, str]]
CAUSE_NUMBERS: dict[str, int]
KINDS: dict[str, int]

@final
class Table:
    """The rows of one block of a file.

    ``wanted`` gives for each of the file's columns the slot its cells go to, or -1; ``slots`` is the number of slots.
    At most ``capacity`` rows are held at once.
    """

    def __new__(
        cls, wanted: Sequence[int], slots: int, capacity: int, delimiter: str = ",", quote: str = '"'
    ) -> Self: ...
    @property
    def slots(self) -> int:
        """Wanted columns."""

    @property
    def rows(self) -> int:
        """Rows held now."""

    def start(self, line: int) -> None:
        """Say that the first byte given to `fill` begins this 1-based line."""

    def fill(self, data: bytes) -> None:
        """Append the file's next bytes behind those that were no whole row yet. Rows held before are gone."""

    def read(self, final: bool) -> bool:
        """Split rows until the table is full or the bytes run out; False when `fill` is wanted, or the file is done.

        ``final`` says that no more bytes come, so that a last row without a line end counts.
        """

    def add(self, line: int, cells: Sequence[bytes | None]) -> None:
        """Append one row of already separate cells (None: missing), one a slot."""

    def add_rejected(self, line: int, place: int, cause: int, shown: bytes, counts: bool) -> None:
        """Note a row that is not to be read; ``counts`` says whether it takes a row's number."""

    def hold(self, rows: int) -> None:
        """Hold ``rows`` rows whose cells come by `set_texts`; a row's line is its number. Rows held before are gone."""

    def set_texts(
        self,
        slot: int,
        ends: NDArray[np.int32],
        text: NDArray[np.uint8],
        valid: NDArray[np.uint8] | None,
        first: int,
    ) -> None:
        """Give the rows held their cells of one slot: row i's is text[ends[i]:ends[i + 1]], copied.

        Bit ``first + i`` of ``valid`` (None: all are) says whether there is one. Arrow lays texts out like this.
        """

    def mark(self, row: int, place: int, cause: int, shown: bytes) -> None:
        """Reject a row that was added."""

    def clear(self) -> None:
        """Forget all rows, rejects and bytes, to `add` anew."""

    def require_identifier(self, columns: Sequence[Column], skip: bool) -> None:
        """Mark the rows for which no column of ``columns`` (identifiers that have run) has a text."""

    def prefer(self, first: Column, second: Column) -> None:
        """Take the text of ``second`` out of every row for which ``first`` has one (identifiers that have run)."""

    def require_date(self, granted: Column, at: Column, latest: int) -> None:
        """Reject the rows in which ``granted`` has a value and ``at`` has none, or one after ``latest``."""

    def good(self) -> int:
        """How many of the rows held are not marked."""

    def good_lines(self) -> list[int]:
        """The 1-based lines of the rows that are not marked, in order: the rows that `Column.take` gives."""

    def taken(self) -> list[tuple[int, int, int, int, bytes]]:
        """(line, place, cause, count, bytes shown) of everything noted since the rows were read."""

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
