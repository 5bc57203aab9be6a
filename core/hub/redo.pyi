from collections.abc import Callable, Sequence

from core.hub.erasing import KeptJoins
from core.hub.transaction import Transaction

PUT: int  # a value
DELETE: int  # an entry goes
PATCH: int  # a value, told by the one before it
ERASE: int  # customers go; `erasure` reads its value
SHED: int  # as PATCH, of a list that lost its oldest entries

def frame(data: bytes, at: int) -> tuple[int, int, int, int] | None:
    """(size, first, last, committed_us) of the whole frame that begins at ``at``, or None."""

def changes(data: bytes, at: int) -> list[tuple[int, int, int, int, bytes, bytes]]:
    """(seq, kind, database's place, subject, key, value) of each change of the frame that begins at ``at``."""

def erasure(value: bytes) -> tuple[list[int], list[bytes]]:
    """(customers, keys of their identifiers) of a change that erases; no keys when they were blanked."""

def erasures(data: bytes, at: int) -> list[tuple[int, list[int], list[bytes]]]:
    """(seq, customers, keys of their identifiers) of each erasure in the frame that begins at ``at``."""

def redo(
    txn: Transaction, data: bytes, at: int, names: Sequence[str], after: int, until: int,
    joins: KeptJoins,
) -> int:
    """Do again the changes of the frame that begins at ``at``, from behind number ``after`` up to ``until``; the number reached.

    ``names`` are the databases of the journal's file; ``joins`` is new at first, and kept by whoever calls again.
    Raises StoreCorrupt when a change does not fit what is there.
    """

def put_meta(txn: Transaction, key: bytes, value: bytes) -> None:
    """Write an entry of the database `meta`."""

def without(
    data: bytes, at: int, names: Sequence[str], unwanted: Callable[[int, int, str, int, bytes, bytes], bool | bytes]
) -> bytes | None:
    """The frame that begins at ``at`` without the changes that ``unwanted(seq, kind, database, subject, key, value)`` names.

    It returns True, False, or the value to put in place of the change's, not a longer one. None when all stay as they are.
    """
