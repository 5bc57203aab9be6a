"""What an import's rows must be when another process made them: as if `core.importing` had made them here.

Columns go into records and lists as they are, so whatever would be damage there is refused before the store sees it. A
column that does not fit its rows is refused where it is applied.
"""

from __future__ import annotations

import msgspec
import numpy as np

from core import limits
from core.errors import BadValue, StoreCorrupt
from core.hub.catalog import AttributeEntry, Catalog, EventField
from core.hub.identifiers import RULES
from core.hub.imports import ConsentColumn, ImportColumns, ValueColumn
from core.hub.ingest import well_formed
from core.hub.mutations import ImportCases, ImportedCase, Mutation
from core.hub.record import members
from core.hub.shapes import SHAPES, WIDTHS
from core.instants import FIRST_US, LAST_US
from core.schema import ValueType

_MADE = "Use the rapport command of the server's version."


def accept(mutation: Mutation, catalog: Catalog, now_us: int) -> ImportColumns | ImportCases:
    """The mutation, when it is an import whose every value is one that a file could have brought.

    Raises BadValue, and UnknownName for a name that the store does not know.
    """
    if isinstance(mutation, ImportCases):
        if len(mutation.rows) > limits.IMPORT_ROWS:
            raise _wrong("rows", f"are {len(mutation.rows)}")
        # What is told of a case only yields to what is told later, so a date ahead could never be corrected.
        for place, row in enumerate(mutation.rows):
            if _latest(row) > now_us + limits.AHEAD_US:
                raise _wrong(f"rows[{place}]", "lies in the future")
        return ImportCases(rows=tuple(row if _latest(row) <= now_us else _case_by(row, now_us) for row in mutation.rows))
    if not isinstance(mutation, ImportColumns):
        raise BadValue("change", "is no import", _MADE)
    rows = mutation.rows
    if not 0 <= rows <= limits.IMPORT_ROWS:
        raise _wrong("rows", f"are {rows}")
    _dated(mutation.at_us, now_us)
    for each in mutation.identifiers:
        rule = RULES[catalog.namespace_entry(each.namespace).normaliser]
        if not well_formed(rule, rows, each.ends, each.texts, limits.IDENTIFIER_BYTES):
            raise _wrong(f"identifiers['{each.namespace}']", "are not normalised texts, one a row")
    # Who is made without one can never be found again, nor erased.
    named = np.zeros(rows, np.bool_)
    for each in mutation.identifiers:
        ends = np.frombuffer(each.ends, np.uint32)
        named |= np.diff(ends, prepend=np.uint32(0)) > 0
    if not named.all():
        raise _wrong("identifiers", "leave rows without any")
    shared = _households(mutation, catalog)
    attribute = catalog.shared if shared else catalog.attribute
    fields: dict[str, EventField] = {}
    if mutation.event:
        fields = {field.name: field for field in catalog.event(mutation.event).fields}
        _times("times", mutation.times, rows, now_us)
        if len(mutation.keys) != 8 * rows:
            raise _wrong("keys", "are not one a row")
    for column in mutation.columns:
        if mutation.event and column.name not in fields:
            raise _wrong(f"columns['{column.name}']", "is no field of the event")
        _values(column, fields[column.name] if mutation.event else attribute(column.name), rows)
    for consent in mutation.consents:
        path = f"consents['{consent.purpose}']"
        if len(consent.granted) != rows or (rows and max(consent.granted) > 2):
            raise _wrong(path, "are not one byte of 0 to 2 a row")
        _times(path, consent.at, rows, now_us, np.frombuffer(consent.granted, np.uint8) > 0)
    return msgspec.structs.replace(
        mutation, at_us=min(mutation.at_us, now_us), times=_by(mutation.times, now_us),
        consents=tuple(msgspec.structs.replace(each, at=_given_by(each, now_us)) for each in mutation.consents),
    )


def _latest(row: ImportedCase) -> int:
    return max(row.at_us, row.opened_us or 0, row.closed_us or 0)


def _case_by(row: ImportedCase, now_us: int) -> ImportedCase:
    """The row with no moment after now: the clock of its machine goes ahead (core.reports.happened)."""
    return msgspec.structs.replace(
        row, at_us=min(row.at_us, now_us),
        opened_us=None if row.opened_us is None else min(row.opened_us, now_us),
        closed_us=None if row.closed_us is None else min(row.closed_us, now_us),
    )


def _given_by(consent: ConsentColumn, now_us: int) -> bytes:
    """The moments of consents, as `core.reports.consented`."""
    at = np.frombuffer(consent.at, np.int64)
    given = np.frombuffer(consent.granted, np.uint8) == 2
    return np.where(at > now_us, np.where(given, at - limits.AHEAD_US, now_us), at).astype(np.int64).tobytes()


def _by(at: bytes, now_us: int) -> bytes:
    """The moments, none of them after now."""
    return np.minimum(np.frombuffer(at, np.int64), now_us).tobytes()


def _households(mutation: ImportColumns, catalog: Catalog) -> bool:
    """Whether the rows are households', who have neither events nor consents nor a household."""
    kinds = {catalog.namespace_entry(each.namespace).household for each in mutation.identifiers}
    if len(kinds) > 1 or (True in kinds and (mutation.event or mutation.consents or mutation.household is not None)):
        raise _wrong("identifiers", "name households, where customers are meant")
    household = mutation.household
    if household is not None:
        entry = catalog.namespace_entry(household.namespace)
        if mutation.event or not entry.household:
            raise _wrong("household", "is none of a customer's rows, or its namespace names customers")
        if not well_formed(
            RULES[entry.normaliser], mutation.rows, household.ends, household.texts, limits.IDENTIFIER_BYTES
        ):
            raise _wrong("household", "are not normalised texts, one a row")
        roles = household.roles
        if len(roles) != 2 * mutation.rows or (roles and np.frombuffer(roles, np.uint16).max() > len(catalog.roles)):
            raise _wrong("household", "has a role that stands for nothing, or not one a row")
    return True in kinds


def _dated(at_us: int, now_us: int) -> None:
    if not FIRST_US <= at_us <= now_us + limits.AHEAD_US:
        raise BadValue("at", "lies in the future, or outside the calendar", "Set this machine's clock.")


def _times(path: str, at: bytes, rows: int, now_us: int, told: np.ndarray[tuple[int], np.dtype[np.bool_]] | None = None) -> None:
    if len(at) != 8 * rows:
        raise _wrong(path, "are not dated one a row")
    moments = np.frombuffer(at, np.int64)
    if told is not None:
        moments = moments[told]
    if len(moments) and not FIRST_US <= moments.min() <= moments.max() <= now_us + limits.AHEAD_US:
        raise _wrong(path, "lie in the future, or outside the calendar")


def _values(column: ValueColumn, declared: AttributeEntry | EventField, rows: int) -> None:
    """Raises BadValue unless every cell is one of the declared type, or missing."""
    shape = SHAPES[declared.type.value]
    path = f"columns['{column.name}']"
    if len(column.values) != rows * WIDTHS[shape]:
        raise _wrong(path, f"has {len(column.values)} bytes for {rows} rows")
    if shape == "t":
        if not well_formed(0, rows, column.values, column.texts, limits.STRING_BYTES):
            raise _wrong(path, "are not texts, one a row")
    elif shape == "s":
        start = 0
        for end in np.frombuffer(column.values, np.uint32).tolist():
            _set(path, column.texts[start:end])
            start = end
    elif rows:
        cells = np.frombuffer(column.values, {"b": np.uint8, "e": np.uint16, "i": np.int64, "f": np.float64}[shape])
        if (shape == "b" and cells.max() > 2) or (shape == "e" and cells.max() > len(declared.labels)):
            raise _wrong(path, "has a code that stands for nothing")
        if shape == "f" and np.isinf(cells).any():
            raise _wrong(path, "has a number that is not finite")
        if declared.type is ValueType.TIMESTAMP:
            dated = cells[cells != limits.NO_AMOUNT]
            if len(dated) and not FIRST_US <= dated.min() <= dated.max() <= LAST_US:
                raise _wrong(path, "has a time outside the calendar")


def _set(path: str, cell: bytes) -> None:
    try:
        found = members(cell) if cell else frozenset()
    except (StoreCorrupt, UnicodeDecodeError) as error:
        raise _wrong(path, "has a set that is damaged") from error
    if len(found) > limits.SET_MEMBERS or any(len(each.encode()) > limits.STRING_BYTES for each in found):
        raise _wrong(path, "has a set that is too large")
    # Decisions look a member up by its place.
    ordered = sorted(each.encode() for each in found)
    whole = len(ordered).to_bytes(2, "little") + b"".join(len(each).to_bytes(2, "little") + each for each in ordered)
    if cell and cell != whole:
        raise _wrong(path, "has a set whose members are not in order, each once")


def _wrong(path: str, problem: str) -> BadValue:
    return BadValue(path, problem, _MADE)
