"""Import of CSV, JSON Lines and Parquet: customers' profiles or events, by a declared mapping.

A file goes through in blocks. The calling thread reads and unpacks bytes, splits them into rows and converts columns
(`core.importing`); good rows leave as `ImportColumns` mutations of some thousands of rows, which the committer applies
in its own thread (`core.hub.bulk`), each in one durable transaction, while the next block is being read. So two
processors are busy, other writers wait for one mutation at most, and memory holds two blocks, whatever the file's size.

What is promised: every problem of the whole file (mapping, header, encoding, a damaged archive, a Parquet file without
its end) is an `ImportRefused` before the first write; where damage shows only later, as inside a Parquet file or on a
failing disk, the error says how many rows are in the store by then. Every problem of a row goes into the rejects file
with line, column, value and reason, and that row is not applied at all; what a report counts as applied is durable;
importing the same file again changes nothing, so an import that was interrupted is resumed by running it again.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Protocol

import msgspec

from core.decision import Identifier as Named
from core.errors import ImportRefused, Overloaded, RapportError, nearest
from core.hub.catalog import AttributeEntry, Catalog, EventField, name_of
from core.hub.causes import CAUSE_NUMBERS, CAUSES
from core.hub.identifiers import RULES
from core.hub.imports import ConsentColumn, HouseholdColumn, IdentifierColumn, ImportColumns, ImportResult, ValueColumn
from core.hub.mutations import ImportCases, ImportedCase
from core.importing.column import KINDS, Column, prefer, require_date, require_identifier, require_order
from core.importing.files import BLOCK_BYTES, PACKED_ENDINGS, Packing, Source, is_parquet, is_zip
from core.importing.localtime import LocalZone
from core.importing.mapping import BOOLEAN_WORDS, Cell, FileMapping, Identifier, Row
from core.importing.table import Table
from core.schema import EventType, Field, Namespace, Schema, ValueType, currency_exponent

if TYPE_CHECKING:
    from core.importing.parquet import ParquetColumn, ParquetRows

# Rows in one mutation and transaction: other writers wait for it, a commit costs the same for any number, and the pages
# of the identifiers that it touches are copied (measured with 1M customers in random order: 404 bytes each on disk with
# 8192 rows, 388 with 4096, 376 with 2048 at half again the system time).
BATCH_ROWS: Final = 4096
# A line of JSON longer than this is rejected.
LINE_BYTES: Final = 1 << 20
# Lines of JSON held in one table, by their bytes: long lines make smaller tables, so that memory stays bounded.
LINES_BYTES: Final = 16 << 20
# A value is shown in the rejects file up to here.
SHOWN_CHARACTERS: Final = 80
# A last moment that no time of a file reaches.
_NEVER: Final = 2**63 - 1
# Rejected cells that a report shows as they stand in the rejects file.
EXAMPLES: Final = 10
PRODUCTS: Final = 1_000
# Between members of a JSON array or a list on its way to a set.
_JOIN: Final = "\x1f"


class Importing(Protocol):
    """What an import needs of a store."""

    @property
    def catalog(self) -> Catalog:
        """Numbers of names."""
        ...

    def submit(self, mutation: ImportColumns | ImportCases) -> Future[ImportResult]:
        """Hand a mutation to the committer; the future is done when it is durable."""
        ...


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an import is: rows whose fate is known, and bytes of the file as it lies on disk up to them."""

    bytes_done: int
    bytes_total: int
    rows: int


@dataclass(slots=True)
class ImportReport:
    """What an import did. ``rows = applied + rejected + skipped``."""

    file: str
    mapping: str
    rows: int = 0  # rows in the file
    applied: int = 0  # rows that are in the store now, by this import or before
    rejected: int = 0  # rows that are not, for the reasons in `reasons`
    skipped: int = 0  # rows without an identifier which the mapping skips
    created: int = 0  # customers made, or households
    made: str = "customer"  # which of the two
    changed: int = 0  # profiles changed beside those made; for events: events added
    unchanged: int = 0  # rows that the store had already
    contested: int = 0  # identifiers that another customer has, and keeps
    contested_lines: list[int] = field(default_factory=list)  # the first of those they stand in
    # Of which they can be, as (namespace, column): a row's most trusted one says who is meant, and is never among them.
    contestable: tuple[tuple[str, str], ...] = ()
    reasons: Counter[str] = field(default_factory=Counter)  # rows by the reason of their first bad cell
    unseen: tuple[str, ...] = ()  # columns of the mapping that no row had (JSON Lines)
    products: set[str] = field(default_factory=set)  # that cases are about; no more are noted from PRODUCTS on
    examples: list[tuple[int, str, str, str]] = field(default_factory=list)  # the first rejects: line, column, value, reason
    rejects: Path | None = None  # the rejects file, when there is one
    format: str = ""  # csv, jsonl or parquet
    packing: str = ""  # gzip, bzip2, xz or zstd; '' when not packed
    dry: bool = False  # nothing was written: what applied, created, changed and unchanged would have been
    bytes: int = 0  # of the file as it lies on disk
    seconds: float = 0.0


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in the middle of a file. ``report`` counts what is in the store."""

    def __init__(self, report: ImportReport) -> None:
        super().__init__(report.file)
        self.report = report


def schema_of(catalog: Catalog) -> Schema:
    """What a store's catalog declares, for checking a mapping against a store rather than a program."""
    return Schema(
        attributes={
            name: Field(name, entry.type, entry.labels, entry.currency) for name, entry in catalog.attributes.items()
        },
        events={
            name: EventType(
                name, tuple(Field(each.name, each.type, each.labels, each.currency) for each in entry.fields)
            )
            for name, entry in catalog.events.items()
        },
        namespaces={
            name: Namespace(name, entry.normaliser, entry.trust, household=entry.household)
            for name, entry in catalog.namespaces.items()
        },
        purposes=tuple(catalog.purposes),
        grantors={
            name: tuple(name_of(catalog.sources, each, "source") for each in entry.sources)
            for name, entry in catalog.grantors.items()
        },
        case_kinds=tuple(catalog.case_kinds),
        household_attributes={
            name: Field(name, entry.type, entry.labels, entry.currency) for name, entry in catalog.household_attributes.items()
        },
        roles=tuple(catalog.roles),
    )


def lacking(known: Catalog, schema: Schema, channels: Sequence[str]) -> list[str]:
    """What a program declares that a mapping could name and a store does not know, as people read it.

    What the store declares otherwise (retention, sources, trust) is not among it: the store's own holds. Raises SchemaConflict
    where both contradict each other.
    """
    grown = known.declared(schema, channels=channels)
    lists: list[tuple[str, Iterable[str], Collection[str]]] = [
        ("namespace", grown.namespaces, known.namespaces),
        ("attribute", grown.attributes, known.attributes),
        ("attribute of households", grown.household_attributes, known.household_attributes),
        ("role", grown.roles, known.roles),
        ("event type", grown.events, known.events),
        ("purpose", grown.purposes, known.purposes),
        ("kind of case", grown.case_kinds, known.case_kinds),
        ("channel", grown.channels, known.channels),
    ]
    for of, wanted, stored in (
        ("attribute", grown.attributes, known.attributes),
        ("attribute of households", grown.household_attributes, known.household_attributes),
    ):
        lists += [
            (f"{of} '{name}': label", entry.labels, stored[name].labels) for name, entry in wanted.items() if name in stored
        ]
    for name, event in grown.events.items():
        if name not in known.events:
            continue
        fields = {each.name: each for each in known.events[name].fields}
        lists.append((f"event type '{name}': field", event.field_names, fields))
        lists += [
            (f"field '{name}.{each.name}': label", each.labels, fields[each.name].labels)
            for each in event.fields if each.name in fields
        ]
    return [f"{what} '{name}'" for what, wanted, stored in lists for name in wanted if name not in stored]


class Importer:
    """Brings files of one mapping into a store. Use from one thread."""

    def __init__(
        self, store: Importing, mapping: FileMapping, *, now: Callable[[], int] | None = None, batch_rows: int = BATCH_ROWS,
        ahead: int = 1,
    ) -> None:
        """``now`` gives the time of the import in microseconds, which profiles carry as their time of update; a mutation has at
        most ``batch_rows`` rows, and ``ahead`` of them are handed over before the first of them is durable.
        """
        self._batch_rows = batch_rows
        self._ahead = ahead
        self._store = store
        self._mapping = mapping
        self._now = now if now is not None else lambda: time.time_ns() // 1000

    def look(self, path: Path, *, rejects: Path | None = None) -> None:
        """Raise ImportRefused where `run` would before it writes anything: for who has no store yet, and would make one."""
        run = _Run(self._store, self._mapping, path, _beside(path, rejects), None, self._now(), None, self._batch_rows, 1)
        run.look()

    def run(
        self, path: Path, *, rejects: Path | None = None, progress: Callable[[Progress], None] | None = None,
        pace: Pace | None = None,
    ) -> ImportReport:
        """Import one file; returns when everything that it reports is durable.

        ``rejects`` is where rejected cells are written as CSV (line, column, value, reason), by default the file's name
        with ``.rejects.csv``; it exists afterwards only if something was rejected. It holds customers' data, and is
        readable by its owner only. With ``pace`` it takes no more rows a second than that allows.

        Raises ImportRefused before anything is written when the file as a whole cannot be imported, and what the store
        raises when it cannot write; then the rows before are in the store, and running the import again completes it.
        """
        run = _Run(
            self._store, self._mapping, path, _beside(path, rejects), progress, self._now(), pace, self._batch_rows, self._ahead)
        return run.run()

    def rehearse(
        self, path: Path, *, rejects: Path | None = None, progress: Callable[[Progress], None] | None = None,
        pace: Pace | None = None,
    ) -> ImportReport:
        """Read and convert one file as `run` does, and write nothing to the store; the report is marked ``dry``.

        The store only has to say which identifiers it knows, as `core.importing.rehearsal` does. Cells that would be rejected are
        written down only where ``rejects`` names a place; the report has the first ones. Raises as `run`.
        """
        run = _Run(self._store, self._mapping, path, rejects, progress, self._now(), pace, self._batch_rows, self._ahead)
        run.report.dry = True
        return run.run()


def _beside(path: Path, rejects: Path | None) -> Path:
    return rejects if rejects is not None else path.with_name(path.name + ".rejects.csv")


class Pace:
    """Bounds how many rows a second an import takes, so that others' writes and the disk keep their share."""

    def __init__(
        self, rows_per_second: int, *, clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``rows_per_second`` is 1 or more. ``clock`` gives seconds, ``sleep`` waits for so many."""
        if rows_per_second < 1:
            raise ValueError(f"an import of {rows_per_second} rows a second would never end")
        self.rows_per_second = rows_per_second
        self._clock = clock
        self._sleep = sleep
        self._free: float | None = None  # when the next rows may go

    @property
    def batch_rows(self) -> int:
        """Rows to be taken at once: ten times a second, so that the disk sees a stream rather than blows."""
        return max(1, min(BATCH_ROWS, self.rows_per_second // 10))

    def wait(self, rows: int) -> None:
        """Wait until the rows before have had their time, then count ``rows`` more. Time lost before is not made up."""
        now = self._clock()
        due = now if self._free is None else max(self._free, now)
        if due > now:
            self._sleep(due - now)
        self._free = due + rows / self.rows_per_second


_REJECTS_COLUMNS: Final = ("line", "column", "value", "reason")
_REJECTS_HEAD: Final = (",".join(_REJECTS_COLUMNS) + "\r\n").encode()


class _Rejects:
    """The rejects file: opened for the first reject, absent without one. Without a path it is none at all."""

    def __init__(self, path: Path | None, source: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None
        if path is None:
            return
        try:
            if os.path.lexists(path):
                if path.exists() and path.samefile(source):
                    raise ImportRefused(
                        str(path), "the rejects file would replace the file to be imported", "Name another: --rejects FILE.")
                if not self._ours(path):
                    raise ImportRefused(
                        str(path), "there is something else than rejects in it, which would be lost",
                        "Name another: --rejects FILE.")
                path.unlink()
            elif not path.parent.is_dir():
                raise FileNotFoundError(2, f"there is no folder {path.parent}")
            if not os.access(path.parent, os.W_OK):
                raise PermissionError(13, "no permission to write there")
        except OSError as error:
            raise ImportRefused(
                str(path), f"the rejects file cannot be written: {error.strerror}", "Name another place for it."
            ) from error

    @staticmethod
    def _ours(path: Path) -> bool:
        """Whether a file is the rejects of an import before, which this one's replace, or empty."""
        if not path.is_file() or path.is_symlink():
            return False
        with open(path, "rb") as file:
            head = file.read(len(_REJECTS_HEAD))
        return head in (b"", _REJECTS_HEAD)

    def write(self, rows: Sequence[tuple[int, str, str, str]]) -> None:
        if not rows or self.path is None:
            return
        try:
            if self._file is None:
                descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                self._file = os.fdopen(descriptor, "w", encoding="utf-8", newline="")
                csv.writer(self._file).writerow(_REJECTS_COLUMNS)
            csv.writer(self._file).writerows(rows)
            # Closing must not be what fails: by then nobody says how much is in the store.
            self._file.flush()
        except OSError as error:
            if self._file is not None:
                with contextlib.suppress(OSError):
                    self._file.close()
                self._file = None
            raise ImportRefused(
                str(self.path), f"the rejects file cannot be written: {error.strerror}",
                "Free space there, or name another place: --rejects FILE.",
            ) from error

    def close(self) -> Path | None:
        if self._file is None:
            return None
        self._file.close()
        return self.path


@dataclass(slots=True)
class _Waiting:
    """A mutation on its way, and where its rows came from."""

    future: Future[ImportResult]
    lines: list[int]
    reached: tuple[int, int]  # bytes of the file and rows up to its end


class _Run:
    """One import of one file."""

    def __init__(
        self, store: Importing, mapping: FileMapping, path: Path, rejects: Path | None,
        progress: Callable[[Progress], None] | None, at: int, pace: Pace | None, batch_rows: int, ahead: int,
    ) -> None:
        self.store = store
        self.mapping = mapping
        self.path = path
        self.progress = progress
        self.at = at
        self.catalog = store.catalog
        self.report = ImportReport(str(path), mapping.name)
        self.names: list[str] = []  # what to call each place in the rejects file
        self.formats: dict[int, str] = {}  # of each place of times
        self.waiting: deque[_Waiting] = deque()
        self.rejects_path = rejects
        self.pace = pace
        self.batch_rows = min(batch_rows, pace.batch_rows) if pace is not None else batch_rows
        self.ahead = ahead
        self.columns = [column.name for column in mapping.columns()]
        self.slots = {name: slot for slot, name in enumerate(self.columns)}
        self.width = 0  # cells of the header; of CSV only
        self.typed: list[ParquetColumn] = []  # by slot; of Parquet only
        self.parquet: ParquetRows | None = None
        self.given = 0  # bytes unpacked so far
        self.split = 0  # of these, in rows that were taken
        self.settled = (0, 0)  # bytes of the file and rows whose fate is known
        self.file = Source(path, mapping.encoding)
        try:
            self.report.format = self._recognise()
            self.report.packing = "" if self.file.packing is Packing.NONE else self.file.packing.value
            self._build()
        except BaseException:
            self._close()
            raise

    def look(self) -> None:
        try:
            next(self._tables(), None)
            _Rejects(self.rejects_path, self.path)
        finally:
            self._close()

    def run(self) -> ImportReport:
        began = time.monotonic()
        try:
            tables = self._tables()
            # The header is checked while the first table is made, which is before the first write.
            first = next(tables, None)
            self.rejects = _Rejects(self.rejects_path, self.path)
            try:
                if first is not None:
                    self._take(first)
                for table in tables:
                    self._take(table)
                while self.waiting:
                    self._settle()
            except ImportRefused as error:
                while self.waiting:
                    self._settle()
                raise self._broken_off(error) from error
            except KeyboardInterrupt:
                # What is on its way is durable in a moment, and then it is known how much there is.
                while self.waiting:
                    self._settle()
                raise Interrupted(self.report) from None
            except RapportError as error:
                while self.waiting:
                    with contextlib.suppress(RapportError):
                        self._settle()
                if not self.report.dry:
                    # A server that is gone may have kept more than it could tell.
                    error.hint = (
                        f"{error.hint} Of {self.path.name} {self.report.applied:,} rows are in the store for certain; once that "
                        "is mended, the same command adds the rest and changes nothing else.").lstrip()
                raise
            finally:
                self.report.rejects = self.rejects.close()
            self.report.bytes = self.file.size
        finally:
            self._close()
        self.report.seconds = time.monotonic() - began
        self.settled = (self.file.size, self.report.rows)
        self._tell()
        return self.report

    def _close(self) -> None:
        self.file.close()
        if self.parquet is not None:
            self.parquet.close()

    def _broken_off(self, error: ImportRefused) -> ImportRefused:
        """The error with what is in the store by now."""
        done, dry = self.report.applied, self.report.dry
        if not done or dry:
            what = "nothing was written: this was a rehearsal" if dry else "nothing of it was imported"
            return ImportRefused(error.metadata["where"], f"{error.metadata['problem']}; {what}", error.hint)
        return ImportRefused(
            error.metadata["where"],
            f"{error.metadata['problem']}; {done} rows before that are in the store ({self.report.rejected} were rejected)",
            f"{error.hint} Importing the whole file later adds the rest and changes nothing else.".strip(),
        )

    def _recognise(self) -> str:
        """The file's format: Parquet by its content whatever the mapping says, else the mapping's, else by content."""
        wanted = self.mapping.format
        if is_zip(self.file.head):
            raise ImportRefused(
                str(self.path), "it is a zip archive, or a workbook, which is one",
                "Import the file in it (unzip), or save the workbook's sheet as CSV.")
        if is_parquet(self.file.head):
            self._open_parquet()
            return "parquet"
        if wanted == "parquet":
            text = "it is no Parquet file, and the mapping says format: parquet"
            raise ImportRefused(str(self.path), text, "Leave 'format' out, and the file's content tells.")
        if self.file.looks_like_json():
            return wanted or "jsonl"
        return wanted or "csv"

    def _open_parquet(self) -> None:
        """Open the file and find the mapping's columns in it."""
        from core.importing.parquet import ParquetRows, unfit  # brings pyarrow's Parquet, and only such a file needs it

        self.parquet = parquet = ParquetRows(self.path)
        found = [parquet.find(column.name) for column in self.mapping.columns()]
        paths = [name for name, each in zip(self.columns, found, strict=True) if each is not None]
        self._check_header([*parquet.names, *(path for path in paths if path not in parquet.names)], str(self.path))
        self.typed = [each for each in found if each is not None]
        sets = {
            target.cell.columns[0].name for target in self.mapping.targets if target.field.type is ValueType.STRING_SET
        }
        for column, typed in zip(self.mapping.columns(), self.typed, strict=True):
            if problem := unfit(typed, to_set=column.name in sets):
                text = f"column '{column.name}' ({column.where}) cannot be read: {problem}"
                raise ImportRefused(str(self.path), text, "Leave it out of the mapping, or write the file without it.")

    # --- columns ---

    def _build(self) -> None:
        mapping, catalog = self.mapping, self.catalog
        source = mapping.source
        # The first that is known says who the customer is.
        ordered = sorted(mapping.identifiers, key=lambda each: catalog.namespace_entry(each.namespace).rank)
        self.identifiers = [(each.namespace, self._identifier(each)) for each in ordered]
        self.report.contestable = tuple((name, self.names[column.place]) for name, column in self.identifiers[1:])
        made = dict(self.identifiers)
        self.preferred = [(made[each.unless], made[each.namespace]) for each in ordered if each.unless]
        self.key: Column | None = None
        self.when: Column | None = None
        fields: Mapping[str, AttributeEntry | EventField]
        if mapping.row is Row.EVENT:
            assert mapping.event is not None
            assert mapping.at is not None
            fields = {each.name: each for each in catalog.event(mapping.event.name).fields}
            # As late as a call may date an event: one from the future would count in every window until its time has passed.
            self.when = self._column(
                Field("at", ValueType.TIMESTAMP), mapping.at, (), required=True, latest=self.at
            )
            packed = self.path.suffix in PACKED_ENDINGS
            name = self.path.name.removesuffix(self.path.suffix) if packed else self.path.name
            keyed = [each.name for each in mapping.key]
            self.key = Column(
                KINDS["key"], self._place(" + ".join(keyed)), [self.slots[each] for each in keyed], self.batch_rows,
                prefix=f"{source}{_JOIN}{name}{_JOIN}".encode(),
            )
        elif mapping.row is Row.PROFILE:
            shared = any(catalog.namespace_entry(each.namespace).household for each in mapping.identifiers)
            if shared:
                self.report.made = "household"
            entry_of = catalog.shared if shared else catalog.attribute
            fields = {each.field.name: entry_of(each.field.name) for each in mapping.targets}
        else:
            self._check_kinds()
            fields = {}
        self.targets = [
            (
                each.field,
                self._column(
                    each.field, each.cell, fields[each.field.name].labels if fields else each.field.labels,
                    # A case is opened and closed by now; only when it is due lies ahead.
                    latest=self.at if not fields and each.field.name != "due" else _NEVER,
                ),
            )
            for each in mapping.targets
        ]

        # Of a case: its opening, and what cannot be before it.
        times = {field.name: column for field, column in self.targets} if mapping.row is Row.CASE else {}
        self.ordered = [(times["opened"], times[end]) for end in ("closed", "due") if times.keys() >= {"opened", end}]
        self.consents = [
            (
                each, self._column(Field(each.purpose, ValueType.BOOL), each.granted, ()),
                self._column(Field("at", ValueType.TIMESTAMP), each.at, ()),
            )
            for each in mapping.consents
        ]
        self.household: Column | None = None
        self.role: Column | None = None
        if mapping.household is not None:
            self.household = self._identifier(mapping.household.identifier)
            if mapping.household.role is not None:
                role = Field("role", ValueType.ENUM, tuple(catalog.roles))
                self.role = self._column(role, mapping.household.role, role.labels)
        for each, *_ in self.consents:
            if each.channel and each.channel not in catalog.channels:
                close = nearest(each.channel, catalog.channels)
                raise ImportRefused(
                    str(each.where), f"consent '{each.purpose}' names channel '{each.channel}', which the store does not know",
                    f"Did you mean '{close}'?" if close else "Declare it in the program's channels.yaml.",
                )

    def _check_kinds(self) -> None:
        """Refuse a file of cases of a kind that the store does not know yet."""
        kinds = [label for each in self.mapping.targets for label in each.field.labels] or [self.mapping.case]
        for kind in kinds:
            if kind not in self.catalog.case_kinds:
                raise ImportRefused(
                    str(self.mapping.where), f"the store does not know cases of kind '{kind}' yet",
                    "Declare the program's schema to the store first.",
                )

    def _place(self, name: str) -> int:
        self.names.append(name)
        return len(self.names) - 1

    def _identifier(self, each: Identifier) -> Column:
        entry = self.catalog.namespace_entry(each.namespace)
        return Column(
            KINDS["identifier"],
            self._place(each.column.name if each.column is not None else each.namespace),
            [] if each.column is None else [self.slots[each.column.name]],
            self.batch_rows,
            missing=_encoded(self.mapping.missing | each.missing),
            suffix=each.remove_suffix.encode(),
            prefix=each.prefix.encode(),
            normaliser=RULES[entry.normaliser],
        )

    def _column(
        self, field: Field, cell: Cell, labels: Sequence[str], *, required: bool = False, latest: int = _NEVER
    ) -> Column:
        kind = field.type.value
        words: dict[str, int] = {}
        suffix = b""
        if cell.starts_with is not None:
            kind = "starts_with"
            suffix = cell.starts_with.encode()
        elif field.type is ValueType.ENUM:
            codes = {label: code for code, label in enumerate(labels, 1)}
            for label in cell.labels.values():
                if label is not None and label not in codes:
                    raise ImportRefused(
                        f"attribute '{field.name}'", f"the store does not know its label '{label}' yet",
                        "Declare the program's schema to the store first.",
                    )
            words = codes | {text: codes[label] if label is not None else 0 for text, label in cell.labels.items()}
        elif field.type is ValueType.BOOL and cell.labels:
            values = {None: 0, "false": 1, "true": 2}
            words = {text: values[label] for text, label in cell.labels.items()}
        elif field.type is ValueType.BOOL:
            for word, value in BOOLEAN_WORDS.items():
                words |= dict.fromkeys((word, word.upper(), word.capitalize()), 1 + value)
        typed = self.typed[self.slots[cell.columns[0].name]] if self.typed else None
        if typed is not None and typed.boolean and field.type is ValueType.BOOL:
            words = {"true": 2, "false": 1} | words
        listed = typed.listed if typed is not None else self.report.format == "jsonl"
        # A double is multiplied by `scale` alone, which then need not be a short decimal.
        decimal = Decimal(1) if field.type is ValueType.DOUBLE else cell.scale
        sign, digits, exponent = decimal.as_tuple()
        mantissa = int("".join(map(str, digits)))
        minor = currency_exponent(field.currency) if field.type is ValueType.MONEY else 0
        place = self._place(" x ".join(column.name for column in cell.columns))
        if field.type is ValueType.TIMESTAMP:
            self.formats[place] = cell.format
        return Column(
            KINDS[kind],
            place,
            [self.slots[column.name] for column in cell.columns],
            self.batch_rows,
            missing=_encoded(self.mapping.missing | cell.missing),
            labels={word.encode(): value for word, value in words.items()},
            required=required or cell.required,
            rounded=cell.round,
            scale_mantissa=-mantissa if sign else mantissa,
            scale_exponent=int(exponent) + minor,
            scale=float(cell.scale),
            decimal=self.mapping.decimal,
            thousands=self.mapping.thousands,
            separator=_JOIN if listed else cell.separator,
            format="iso" if typed is not None and typed.timed else cell.format,
            suffix=suffix or cell.remove_suffix.encode(),
            prefix=cell.remove_prefix.encode(),
            zone=None if cell.zone.key == "UTC" else LocalZone(cell.zone),
            latest=latest,
        )

    # --- rows ---

    def _tables(self) -> Iterator[Table]:
        if self.parquet is not None:
            return self.parquet.tables(self.typed, self.mapping.decimal, self.batch_rows)
        self.file.verify()
        blocks = self._counted(self.file.blocks())
        return self._csv(blocks) if self.report.format == "csv" else self._jsonl(blocks)

    def _counted(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        for block in blocks:
            self.given += len(block)
            yield block

    def _csv(self, blocks: Iterator[bytes]) -> Iterator[Table]:
        first = next(blocks, b"")
        header, rest, line = self._header(first)
        self.width = len(header)
        wanted = [self.slots.get(name, -1) for name in header]
        table = Table(wanted, len(self.slots), self.batch_rows, self.mapping.delimiter, self.mapping.quote)
        table.start(line)
        block: bytes | None = rest
        while block is not None:
            following = next(blocks, None)
            table.fill(block)
            while True:
                more = table.read(following is None)
                self.split = self.given - len(following or b"") - table.left()
                yield table
                if not more:
                    break
            block = following

    def _header(self, first: bytes) -> tuple[list[str], bytes, int]:
        """The header's columns, the bytes after it, and the 1-based line that these begin."""
        where = str(self.path)
        bare = first.removeprefix(codecs.BOM_UTF8)
        if not bare.strip(b"\r\n"):
            raise ImportRefused(where, "the file is empty", "A header with the columns' names is needed.")
        if b"\r" in bare and b"\n" not in bare:
            raise ImportRefused(
                where, "its lines end in CR alone", "Convert it first, as in: tr '\\r' '\\n' <old.csv >new.csv"
            )
        ends = 0
        line = 0
        header: list[str] = []
        # A quoted name may hold line ends: lines are added until the quotes are even.
        while not header:
            at = bare.find(b"\n", ends)
            if at < 0 and len(bare) >= BLOCK_BYTES:
                raise ImportRefused(where, "there is no line end in its first 4 MiB", "Is this a CSV file?")
            ends = len(bare) if at < 0 else at + 1
            line += 1
            try:
                text = bare[:ends].decode()
            except UnicodeDecodeError as error:
                raise ImportRefused(
                    where, f"its header is not UTF-8 (byte {error.start + 1})",
                    "It begins as UTF-16 does: say encoding: utf-16 in the mapping."
                    if bare[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else
                    "Without another encoding in the mapping, as in encoding: latin-1, a file is read as UTF-8.",
                ) from error
            if "\0" in text:
                raise ImportRefused(where, "its header holds a NUL byte", "Is it UTF-16? Then say encoding: utf-16.")
            if text.count(self.mapping.quote) % 2 and at >= 0:
                continue
            try:
                read = csv.reader(
                    text.splitlines(keepends=True), delimiter=self.mapping.delimiter, quotechar=self.mapping.quote,
                    strict=True,
                )
                header = next((row for row in read if row), [])
            except csv.Error as error:
                problem = f"its header is not CSV: {error}"
                raise ImportRefused(where, problem, "Are delimiter and quote right?") from error
        self._check_header(header, f"{where}:1")
        return header, bare[ends:], line + 1

    def _check_header(self, header: Sequence[str], where: str) -> None:
        counted = Counter(header)
        lost = [column for column in self.mapping.columns() if column.name not in counted]
        if lost:
            said = []
            for column in lost:
                close = nearest(column.name, header)
                said.append(f"'{column.name}' ({column.where})" + (f", perhaps '{close}'" if close else ""))
            hint = f"Its header has: {', '.join(header)[:400]}."
            others = [mark for mark in ",;\t|" if mark != self.mapping.delimiter and mark in "".join(header[:1])]
            if header[0][:4].lower() == "sep=" and len(header) <= 2:
                hint = "Line 1 may not be the header: it names the delimiter to Excel. Remove that line. " + hint
            elif len(header) == 1 and others:
                hint = f"Its header is one column with '{others[0]}' in it: is that the delimiter? " + hint
            raise ImportRefused(where, f"these columns are not in the file: {'; '.join(said)}", hint)
        twice = [name for name in self.slots if counted[name] > 1]
        if twice:
            problem = f"the header has column '{twice[0]}' {counted[twice[0]]} times"
            raise ImportRefused(where, problem, "Which one is meant? Rename the others.")

    def _jsonl(self, blocks: Iterator[bytes]) -> Iterator[Table]:
        decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
        sets = {
            self.slots[target.cell.columns[0].name]
            for target in self.mapping.targets if target.field.type is ValueType.STRING_SET
        }
        reading = _JsonRows(decoder, self.columns, sets)
        table = Table([], len(self.slots), self.batch_rows)
        objects = 0
        held = 0  # lines in the table
        size = 0  # bytes of them
        checked = False
        text: bytes | None = None
        for line, text in _lines(blocks):
            if held == 0:
                table.clear()
                size = 0
            if text is None:
                table.add_rejected(line, -1, CAUSE_NUMBERS["ROW_TOO_LONG"], b"", True)
            elif not text.strip():
                continue
            else:
                if not (held or checked) and text.lstrip()[:1] == b"[":
                    self._no_objects(text)
                cells = reading.cells(text)
                if isinstance(cells, str):
                    table.add_rejected(line, -1, CAUSE_NUMBERS[cells], text[:256], True, reading.deep)
                    # It may well be an object: this is no file of another format.
                    checked = checked or reading.deep
                else:
                    objects += 1
                    table.add(line, cells)
                    bad = reading.nested
                    if bad is not None:
                        table.mark(table.rows - 1, -1, CAUSE_NUMBERS["NOT_PLAIN"], bad)
            held += 1
            size += 0 if text is None else len(text)
            self.split += 0 if text is None else len(text) + 1
            if held == self.batch_rows or size >= LINES_BYTES:
                if not checked and not objects:
                    self._no_objects(text)
                checked = True
                held = 0
                yield table
        if held:
            if not checked and not objects:
                self._no_objects(text)
            yield table
        self.report.unseen = tuple(name for name in self.columns if name not in reading.seen) if objects else ()

    def _no_objects(self, text: bytes | None) -> None:
        shown = "" if text is None else text[:SHOWN_CHARACTERS].decode(errors="replace")
        raise ImportRefused(
            str(self.path), f"its first lines are no JSON objects (one begins '{shown}')",
            "JSON Lines has one object a line; an array over many lines is another format.",
        )

    # --- tables ---

    def _take(self, table: Table) -> None:
        """Convert a table's rows, note the bad ones, and send the good ones on their way."""
        for _, column in self.identifiers:
            column.run(table)
        for first, second in self.preferred:
            prefer(table, first, second)
        require_identifier(table, [column for _, column in self.identifiers], self.mapping.skip_without_identifier)
        for each in (self.when, self.key, self.household, self.role):
            if each is not None:
                each.run(table)
        for _, column in self.targets:
            column.run(table)
        for _, granted, at in self.consents:
            granted.run(table)
            at.run(table)
            require_date(table, granted, at, self.at)
        for opened, end in self.ordered:
            require_order(table, opened, end)
        noted = table.taken()
        rows = table.good()
        self._note(noted)
        self.report.rows += rows
        if self.pace is not None and table.rows:
            self.pace.wait(table.rows)
        if rows:
            made = self._cases(table, rows) if self.mapping.row is Row.CASE else self._mutation(table, rows)
            self._submit(made, table.good_lines())
        # Into a store of one's own one mutation is applied while the next is made; more would only take memory.
        while len(self.waiting) > self.ahead:
            self._settle()
        if not self.waiting:
            self.settled = self._reached()
        self._tell()

    def _submit(self, mutation: ImportColumns | ImportCases, lines: list[int]) -> None:
        """Hand over to the committer; when others fill its queue, come back as it says."""
        while True:
            try:
                self.waiting.append(_Waiting(self.store.submit(mutation), lines, self._reached()))
                return
            except Overloaded as error:
                time.sleep(error.retry_after_ms / 1000)

    def _mutation(self, table: Table, rows: int) -> ImportColumns:
        identifiers = tuple(
            IdentifierColumn(namespace, *column.take(table)) for namespace, column in self.identifiers
        )
        columns = tuple(ValueColumn(field.name, *column.take(table)) for field, column in self.targets)
        return ImportColumns(
            source=self.mapping.source,
            at_us=self.at,
            rows=rows,
            identifiers=identifiers,
            columns=columns,
            clear_missing=self.mapping.clear_missing,
            event=self.mapping.event.name if self.mapping.event is not None else "",
            times=self.when.take(table)[0] if self.when is not None else b"",
            keys=self.key.take(table)[0] if self.key is not None else b"",
            consents=tuple(
                ConsentColumn(each.purpose, each.channel, granted.take(table)[0], at.take(table)[0])
                for each, granted, at in self.consents
            ),
            household=self._households(table, rows),
        )

    def _cases(self, table: Table, rows: int) -> ImportCases:
        from core.hub.shapes import SHAPES, cells_of  # loaded by the first import

        named = [
            [None if text is None else Named(namespace, text) for text in cells_of("t", *column.take(table))]
            for namespace, column in self.identifiers
        ]
        cells: dict[str, Sequence[Any]] = {
            field.name: cells_of(SHAPES[field.type.value], *column.take(table)) for field, column in self.targets
        }
        nothing = [None] * rows
        opened, closed, due = (cells.get(name, nothing) for name in ("opened", "closed", "due"))
        product, owner, at = (cells.get(name, nothing) for name in ("product", "owner", "at"))
        if len(self.report.products) < PRODUCTS:
            self.report.products.update(each for each in product if each)
        kinds = self.mapping.case or next(each.field.labels for each in self.mapping.targets if each.field.name == "case")
        return ImportCases(
            rows=tuple(
                ImportedCase(
                    identifiers=tuple(one for one in (column[row] for column in named) if one is not None),
                    kind=kinds if isinstance(kinds, str) else kinds[cells["case"][row] - 1],
                    key=cells["key"][row],
                    opened_us=opened[row],
                    closed_us=closed[row],
                    product=product[row] or "",
                    owner=owner[row] or "",
                    due_us=due[row],
                    at_us=self.at if at[row] is None else at[row],
                )
                for row in range(rows)
            )
        )

    def _households(self, table: Table, rows: int) -> HouseholdColumn | None:
        if self.household is None:
            return None
        assert self.mapping.household is not None
        roles = bytes(2 * rows) if self.role is None else self.role.take(table)[0]
        return HouseholdColumn(self.mapping.household.identifier.namespace, *self.household.take(table), roles)

    def _note(self, noted: Sequence[tuple[int, int, int, int, bytes]]) -> None:
        """Count and write down what a table rejected. A row's first bad cell is the one it is counted under."""
        rows: dict[int, int] = {}
        written = []
        for line, place, cause, count, shown in noted:
            # A row that is skipped is nobody's, whatever else is wrong with it.
            if rows.setdefault(line, cause) == CAUSE_NUMBERS["SKIPPED_WITHOUT_IDENTIFIER"]:
                continue
            name = self.names[place] if place >= 0 else ""
            written.append((line, name, _shortened(shown), self._reason(place, cause, count)))
        for cause in rows.values():
            if cause == CAUSE_NUMBERS["SKIPPED_WITHOUT_IDENTIFIER"]:
                self.report.skipped += 1
            else:
                self.report.rejected += 1
                self.report.reasons[CAUSES[cause][0]] += 1
        self.report.rows += len(rows)
        # A column that several consents are dated by is told once.
        self._keep(sorted(dict.fromkeys(written), key=lambda row: row[0]))

    def _reason(self, place: int, cause: int, count: int) -> str:
        """Why a cell is rejected, in the words that fit its column."""
        match CAUSES[cause][0]:
            case "MISSING" if self.when is not None and place == self.when.place:
                return "missing: every event has a time"
            case "MISSING" if self.mapping.row is Row.CASE:
                return "missing: every case has a kind and a key"
            case "NOT_A_LABEL" if self.mapping.row is Row.CASE:
                return "not a kind of case, nor one of the mapping's labels for one"
            case "ROW_LENGTH":
                return f"the row has {count} {'cell' if count == 1 else 'cells'}, the header {self.width}"
            case "NOT_A_BOOL":
                return "neither true nor false: does the mapping say which is which, as in labels: {ja: true, nein: false}?"
            case "NOT_JSON" if count:
                return "objects and arrays are nested too deeply in it"
            case "NOT_A_TIME" if self.formats[place] != "iso":
                return f"does not have the format that the mapping declares, {self.formats[place]}"
        return CAUSES[cause][1].format(count=count)

    def _keep(self, written: list[tuple[int, str, str, str]]) -> None:
        """Write rejects down, and show the first of the file in the report."""
        self.report.examples += written[: EXAMPLES - len(self.report.examples)]
        self.rejects.write(written)

    def _settle(self) -> None:
        """Wait until the oldest mutation is durable, and count what it did."""
        waiting = self.waiting[0]
        try:
            result = waiting.future.result()
        except Exception:
            self.waiting.popleft()
            raise
        # Not before: an interruption leaves it to be waited for again, and counted.
        self.waiting.popleft()
        self.settled = waiting.reached
        self.report.created += result.created
        self.report.changed += result.changed
        self.report.unchanged += result.unchanged
        self.report.contested += len(result.contested)
        lines = dict.fromkeys(waiting.lines[row] for row in result.contested)
        self.report.contested_lines += list(lines)[: EXAMPLES - len(self.report.contested_lines)]
        self.report.applied += len(waiting.lines) - len(result.refused)
        self.report.rejected += len(result.refused)
        written = []
        for row, cause in result.refused:
            self.report.reasons[CAUSES[cause][0]] += 1
            written.append((waiting.lines[row], "", "", CAUSES[cause][1].format(count=0)))
        self._keep(written)

    def _reached(self) -> tuple[int, int]:
        """Bytes of the file and rows up to the end of what was taken last: blocks are read ahead of it."""
        if self.parquet is not None:
            done = self.file.size * self.parquet.read // max(1, self.parquet.rows)
        else:
            done = self.file.position() * self.split // max(1, self.given)
        return done, self.report.rows

    def _tell(self) -> None:
        if self.progress is not None:
            done, rows = self.settled
            self.progress(Progress(done, self.file.size, rows))


class _JsonRows:
    """Turns a line of JSON into cells: the text of each value, exactly as it is written there."""

    def __init__(
        self, decoder: msgspec.json.Decoder[dict[str, msgspec.Raw]], columns: Sequence[str], sets: set[int]
    ) -> None:
        self.decoder = decoder
        self.columns = tuple(enumerate(columns))
        self.sets = sets
        self.seen: set[str] = set()
        self.nested: bytes | None = None  # of the last row: a value that is no plain one
        self.deep = False  # of the last row: whether it is nested deeper than the decoder goes

    def cells(self, text: bytes) -> list[bytes | None] | str:
        """One cell a column, None where the value is missing; or the name of the cause that rejects the row."""
        self.nested = None
        self.deep = False
        try:
            found = self.decoder.decode(text)
            cells: list[bytes | None] = []
            for slot, name in self.columns:
                raw = found.get(name)
                if raw is None:
                    raw = self.inner(found, name) if "." in name else None
                    if raw is None:
                        cells.append(None)
                        continue
                if name not in self.seen:
                    self.seen.add(name)
                cells.append(self.cell(slot, bytes(raw)))
        except msgspec.ValidationError:
            return "NOT_AN_OBJECT"
        except (msgspec.DecodeError, UnicodeError):
            return "NOT_JSON"
        except RecursionError:
            self.deep = True
            return "NOT_JSON"
        return cells

    def inner(self, found: dict[str, msgspec.Raw], path: str) -> msgspec.Raw | None:
        """The value at a path of keys with dots between them."""
        *outer, last = path.split(".")
        for name in outer:
            raw = found.get(name)
            if raw is None or bytes(raw)[:1] != b"{":
                return None
            found = self.decoder.decode(raw)
        return found.get(last)

    def cell(self, slot: int, raw: bytes) -> bytes | None:
        first = raw[:1]
        if first == b'"':
            return raw[1:-1] if b"\\" not in raw else msgspec.json.decode(raw, type=str).encode()
        if first == b"n":
            return None
        if first == b"[" and slot in self.sets:
            try:
                return _JOIN.join(msgspec.json.decode(raw, type=list[str])).encode()
            except msgspec.ValidationError:
                self.nested = raw[:256]
                return None
        if first in (b"[", b"{"):
            self.nested = raw[:256]
            return None
        return raw


def _lines(blocks: Iterator[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """Lines with their 1-based numbers; None in place of one that is longer than LINE_BYTES."""
    rest = b""
    line = 0
    passing = False
    for block in blocks:
        pieces = (rest + block).split(b"\n")
        if line == 0:
            pieces[0] = pieces[0].removeprefix(codecs.BOM_UTF8)
        rest = pieces.pop()
        for piece in pieces:
            line += 1
            if passing:
                passing = False
                yield line, None
            else:
                yield line, piece if len(piece) <= LINE_BYTES else None
        if len(rest) > LINE_BYTES:
            rest = b""
            passing = True
    if rest or passing:
        yield line + 1, None if passing else rest


def _encoded(texts: frozenset[str]) -> tuple[bytes, ...]:
    return tuple(text.encode() for text in texts if text)


def _shortened(value: bytes) -> str:
    text = value.decode(errors="backslashreplace").replace("\0", "\\x00")
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."
