from collections.abc import Sequence
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

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

    def add_rejected(self, line: int, place: int, cause: int, shown: bytes, counts: bool, count: int = 0) -> None:
        """Note a row that is not to be read; ``counts`` says whether it takes a row's number, ``count`` is the cause's."""

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

    def left(self) -> int:
        """Bytes given by `fill` that are in no row yet."""

    def good(self) -> int:
        """How many of the rows held are not marked."""

    def good_lines(self) -> list[int]:
        """The 1-based lines of the rows that are not marked, in order: the rows that `Column.take` gives."""

    def taken(self) -> list[tuple[int, int, int, int, bytes]]:
        """(line, place, cause, count, bytes shown) of everything noted since the rows were read."""
