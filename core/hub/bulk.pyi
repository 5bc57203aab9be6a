from collections.abc import Sequence
from typing import Self, final

import numpy as np
import numpy.typing as npt

from core.hub.apply import Applier
from core.hub.imports import ImportColumns
from core.hub.record import RecordLayout
from core.hub.transaction import Transaction

@final
class Rows:
    """The columns of one mutation, checked, and the means to apply them to one transaction.

    ``identifiers`` are (namespace number, whether it is single, ends, texts), by the rank of their namespaces; ``columns`` are
    (place, shape, values, texts, labels), where place is an attribute's offset or an event field's index.
    """

    def __new__(
        cls,
        transaction: Transaction,
        rows: int,
        identifiers: Sequence[tuple[int, bool, bytes, bytes]],
        columns: Sequence[tuple[int, str, bytes, bytes, Sequence[bytes]]],
        next_customer: int,
    ) -> Self: ...
    @property
    def whose(self) -> npt.NDArray[np.uint64]:
        """[row] Its customer, or household; 0 while it is not applied, or where it is refused. Of one row at least."""

    @property
    def next_customer(self) -> int:
        """The id that the next new customer gets."""

    def consenting(self, consents: Sequence[tuple[int, int, bytes, bytes]], source: int) -> None:
        """Give the rows consents for `upsert`: (purpose, channel, granted, at) as in `ConsentColumn`, by numbers."""

    def upsert(self, layout: RecordLayout, at: int, clear_missing: bool) -> None:
        """Merge every row's values into its customer's record. Raises what LMDB's codes mean, and StoreCorrupt."""

    def record_events(
        self, layout: RecordLayout, type: int, field_count: int, at: bytes, keys: bytes, moments: bytes | None = ...
    ) -> None:
        """Add every row as an event to its customer's list, but those that retention does not keep.

        Raises what LMDB's codes mean, and StoreCorrupt.
        """

    def result(self) -> tuple[int, int, int, list[int], list[tuple[int, int]]]:
        """(created, changed, unchanged, contested, refused): contested holds a row for each identifier that another customer
        has, refused (row, cause) pairs."""

def apply_columns(
    applier: Applier, mutation: ImportColumns
) -> tuple[int, int, int, list[int], list[tuple[int, int]]]:
    """Apply an `ImportColumns` in the applier's transaction: (created, changed, unchanged, contested, refused)."""
