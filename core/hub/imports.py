"""The mutation that carries an import's rows.

One `ImportColumns` holds the good rows of one block of a file as columns: identifiers normalised, values converted,
and missing ones written as records write them. It is complete in itself: under the catalog it was made with, or any
later one, it means the same (numbers of labels never change), so it can be logged and replayed like every other
mutation.
"""

from __future__ import annotations

import msgspec

from core.hub.apply import Applier, register
from core.hub.mutations import Mutation


class IdentifierColumn(msgspec.Struct, frozen=True, array_like=True):
    """The rows' identifiers of one namespace. A row's text ends at ``ends[row]`` (u32); an empty one is missing."""

    namespace: str
    ends: bytes
    texts: bytes


class ValueColumn(msgspec.Struct, frozen=True, array_like=True):
    """The rows' values of one attribute or event field, as `core.importing.column.Column.take` lays them out."""

    name: str
    values: bytes
    texts: bytes = b""


class ConsentColumn(msgspec.Struct, frozen=True, array_like=True):
    """The rows' consents to one purpose in one channel ('': any).

    ``granted`` holds a byte a row (0 says nothing, 1 refused, 2 granted), ``at`` an i64 of microseconds, its date.
    """

    purpose: str
    channel: str
    granted: bytes
    at: bytes


class HouseholdColumn(msgspec.Struct, frozen=True, array_like=True):
    """The rows' households: identifiers as in `IdentifierColumn`, and a u16 a row of the role's number, 0 without."""

    namespace: str
    ends: bytes
    texts: bytes
    roles: bytes


class ImportColumns(Mutation, frozen=True, kw_only=True, tag="import_columns"):
    """Merges rows into profiles, or (with ``event``) records them as events. Result: `ImportResult`.

    Identifiers name the customer, or the household, as in `Upsert`; a row that a record has no room for is refused alone
    and whole.
    Again: a profile that says the same already is not written, nor is an event whose type and key its customer has.
    """

    source: str = ""
    at_us: int
    rows: int
    identifiers: tuple[IdentifierColumn, ...]
    columns: tuple[ValueColumn, ...]
    clear_missing: bool = False  # profiles: a missing value removes the stored one
    event: str = ""  # event type; empty for profiles
    times: bytes = b""  # events: i64 microseconds a row
    keys: bytes = b""  # events: u64 hash of the key a row
    consents: tuple[ConsentColumn, ...] = ()  # profiles: as `SetConsent`, so the newest wins
    household: HouseholdColumn | None = None  # profiles: as `SetMembership` at `at_us`; an empty text says nothing


class ImportResult(msgspec.Struct, frozen=True):
    """What one mutation did. ``contested`` holds a row for each identifier that another customer has, and keeps; ``refused``
    (row, cause) pairs, with the causes of `core.hub.causes.CAUSES`."""

    created: int  # customers
    changed: int  # profiles changed beside those made, or events added
    unchanged: int  # rows that the store had already
    contested: tuple[int, ...] = ()
    refused: tuple[tuple[int, int], ...] = ()


def _apply(applier: Applier, mutation: ImportColumns) -> ImportResult:
    from core.hub.bulk import apply_columns  # brings numpy, and a process that imports nothing needs none of it

    created, changed, unchanged, contested, refused = apply_columns(applier, mutation)
    return ImportResult(created, changed, unchanged, tuple(contested), tuple(refused))


def _again(applier: Applier, mutation: ImportColumns) -> None:
    from core.hub.row_by_row import apply_again

    apply_again(applier, mutation)


register(ImportColumns, _apply, _again)
