"""Mapping: how the columns of a file become customers' attributes, events or cases.

A mapping is a YAML file beside the data's owner: it names the columns as the file spells them and the attributes, event
fields and namespaces as the schema does, and says how a cell's text becomes a value. `load` reads and checks one in a
single pass over the YAML nodes, so that every problem is reported at once, at its line and column, with the nearest
right name. What it returns holds names only; `core.importing.importer` turns names into the catalog's numbers and the file's
column positions.

The keys (programs/real/ has whole examples)::

    mapping: shop_purchases              a name for reports
    source: web_shop                     who says so; part of an event's key where that is the row's number
    format: csv                          csv, jsonl or parquet; left out, the file's content tells. Packed files are unpacked
    delimiter: ","                       csv only; quote: '"' likewise
    encoding: utf-8                      any that Python knows
    decimal: "."                         the decimal mark of all numbers; thousands: "" marks groups of digits
    missing: [NA]                        texts that mean "not known" in every column; an empty cell always does
    zone: Europe/Lisbon                  of times that name no offset, where their cell names no zone
    row: event                           profile, event or case
    identifiers:                         namespace: column, or
      crm: {column: CustomerID, remove_suffix: ".0"}
      visit: {column: InvoiceNo, prefix: "v-", unless: crm}
    without_identifier: skip             skip or reject (the default) a row in which every identifier is missing
    attributes:                          for profiles; attribute: column, or a mapping with the keys of `Cell`
      age: age
      balance: {column: saldo, scale: 0.01, round: true}
      limit: {column: limit_cents, unit: cents}
      rate: {column: rate, remove_suffix: "%", unit: percent}    12.5 % is 0.125
      weight: {column: weight, unit: lb, as: kg}
      joined: {column: since, format: "%d.%m.%Y", zone: Europe/Lisbon}
      job: {column: job, labels: {admin.: clerk, unknown: null}}
    consents:                            for profiles; purpose: a boolean cell with its date, or a list of such by channel
      marketing: {column: optin, channel: email, at: {column: optin_date, format: "%d.%m.%Y"}}
    household:                           for profiles of customers: whose member a row makes him; an empty cell says nothing
      namespace: account
      column: account_no                 and missing, remove_suffix, prefix as of identifiers
      role: {column: relation, labels: {H: owner, S: adult}}
    when_missing: keep                   keep (the default) what the store has, or clear it
    event: purchase                      for events; then at, key and fields
    at: {column: InvoiceDate, format: "%Y-%m-%d %H:%M:%S", zone: Europe/London}
    key: row_number                      or a column, or a list of columns: what makes a second import change nothing
    fields:
      amount: {product: [Quantity, UnitPrice], round: true}
      cancelled: {column: InvoiceNo, starts_with: C}
    case: fault                          for cases: their kind, or a cell whose labels are kinds; then key, a column, and of
    opened: since                        opened, closed, product, owner, due and at what the file has. A row tells what its
    closed: {column: until, format: "%d.%m.%Y"}    system knows at ``at`` (without: when it is imported); rows may come in
    product: line                        any order, for the earliest opening, the earliest close and the newest of the rest hold
"""

from __future__ import annotations

import codecs
import enum
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import NoReturn, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import yaml

from core import limits
from core.errors import MappingError, Problem, Where, nearest
from core.schema import EventType, Field, Schema, ValueType, currency_exponent

# A mapping is a page or two of text; a larger one is another file given by mistake.
MAPPING_BYTES = 1 << 20

# The directives of date formats that can be read without a locale.
DIRECTIVES = "YmdHMSfyzb%"

# Words a boolean column may use when its cell declares no labels; compared in lower case.
BOOLEAN_WORDS: Mapping[str, bool] = {
    "true": True, "false": False, "yes": True, "no": False, "1": True, "0": False, "t": True, "f": False,
    "y": True, "n": False,
}

_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")


class Row(enum.Enum):
    """What one row of the file is."""

    PROFILE = "profile"
    EVENT = "event"
    CASE = "case"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the file (a key of the objects, in JSON Lines; dots step into inner objects) and who names it."""

    name: str
    where: Where


@dataclass(frozen=True, slots=True)
class Cell:
    """How one value is made from a row.

    ``columns`` holds one column, or the two whose product is wanted (int, double and money only).
    """

    columns: tuple[Column, ...]
    missing: frozenset[str] = frozenset()  # texts that mean "not known", beside the mapping's own
    required: bool = False  # a missing value rejects the row
    scale: Decimal = Decimal(1)  # multiplies numbers and money
    round: bool = False  # to a whole number or minor unit, halves away from zero; else a remainder rejects the row
    format: str = "iso"  # timestamps: iso, epoch_s, epoch_ms, epoch_us, or %-directives
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))  # of texts that name no offset themselves
    labels: Mapping[str, str | None] = field(default_factory=dict)  # cell's text to label, true/false, or None
    starts_with: str | None = None  # bool: whether the cell begins with this
    separator: str = ","  # sets: between members
    remove_prefix: str = ""  # what stands before a number in the file, and is no part of it
    remove_suffix: str = ""  # and behind it


@dataclass(frozen=True, slots=True)
class Target:
    """An attribute or event field and the cell that fills it."""

    field: Field
    cell: Cell
    where: Where


@dataclass(frozen=True, slots=True)
class Consent:
    """A purpose, the channel ('': any), whether a row grants it, and since when; a row without the first says nothing."""

    purpose: str
    channel: str
    granted: Cell
    at: Cell
    where: Where


@dataclass(frozen=True, slots=True)
class Identifier:
    """A namespace and where its identifier stands: a column, or (``column`` None) the row's number.

    A row that has an identifier of the namespace ``unless`` has none of this one ('': it has both).
    """

    namespace: str
    column: Column | None
    where: Where
    missing: frozenset[str] = frozenset()
    remove_suffix: str = ""
    prefix: str = ""
    unless: str = ""


@dataclass(frozen=True, slots=True)
class Membership:
    """Where a row says to which household its customer belongs, and in which role; None: in none."""

    identifier: Identifier
    role: Cell | None


@dataclass(frozen=True, slots=True)
class FileMapping:
    """A checked mapping. Names only; immutable.

    ``key`` is the columns whose texts together identify an event; empty: the row's number.
    """

    name: str
    source: str
    format: str  # csv, jsonl or parquet; '': what the file's content says
    row: Row
    identifiers: tuple[Identifier, ...]
    where: Where
    delimiter: str = ","
    quote: str = '"'
    encoding: str = "utf-8"
    decimal: str = "."
    thousands: str = ""
    missing: frozenset[str] = frozenset()
    skip_without_identifier: bool = False
    clear_missing: bool = False
    targets: tuple[Target, ...] = ()
    event: EventType | None = None
    at: Cell | None = None
    key: tuple[Column, ...] = ()
    consents: tuple[Consent, ...] = ()
    case: str = ""  # the kind of all cases; '' where a target of this name has it
    household: Membership | None = None

    def columns(self) -> tuple[Column, ...]:
        """Every column the mapping reads, each once, in the order first named."""
        found: dict[str, Column] = {}
        for identifier in (*self.identifiers, *([] if self.household is None else [self.household.identifier])):
            if identifier.column is not None:
                found.setdefault(identifier.column.name, identifier.column)
        cells = ([self.at] if self.at is not None else []) + [target.cell for target in self.targets]
        cells += [cell for consent in self.consents for cell in (consent.granted, consent.at)]
        cells += [] if self.household is None or self.household.role is None else [self.household.role]
        for column in (*(column for cell in cells for column in cell.columns), *self.key):
            found.setdefault(column.name, column)
        return tuple(found.values())


def load(path: Path, schema: Schema) -> FileMapping:
    """The mapping in the file at ``path``, checked against ``schema``.

    Raises `MappingError` with all problems, each with file, line and column.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        problem = Problem(Where(str(path), 1, 1), f"The file cannot be read: {error.strerror or error}.")
        raise MappingError([problem]) from error
    return parse(data, str(path), schema)


def parse(data: bytes, file: str, schema: Schema) -> FileMapping:
    """As `load`, from bytes; ``file`` is the name used in problems."""
    return _Reader(file, schema).read(data)


_T = TypeVar("_T")

# Formats that are names rather than directives.
NAMED_FORMATS = ("iso", "epoch_s", "epoch_ms", "epoch_us")

# What the cell of `at` fills.
_AT = Field("at", ValueType.TIMESTAMP)


class _NodeError(Exception):
    """Nothing useful can be read below this node; its problem has been noted."""


# The keys of a mapping file, and of the cells in it.
_KEYS = (
    "mapping", "source", "format", "delimiter", "quote", "encoding", "decimal", "thousands", "missing", "row",
    "zone", "identifiers", "without_identifier", "attributes", "consents", "household", "when_missing", "event", "at", "key",
    "fields", "case", "opened", "closed", "product", "owner", "due",
)
_PROFILE_KEYS = ("attributes", "consents", "household", "when_missing")
_EVENT_KEYS = ("event", "fields")
# The parts of a case beside its kind and key.
_CASE_PARTS = {
    name: Field(name, ValueType.STRING if name in ("product", "owner") else ValueType.TIMESTAMP)
    for name in ("opened", "closed", "product", "owner", "due")
}
# Which keys make no sense for which rows.
_UNFIT = {
    "profile": ("at", "key", *_EVENT_KEYS, "case", *_CASE_PARTS),
    "event": (*_PROFILE_KEYS, "case", *_CASE_PARTS),
    "case": (*_PROFILE_KEYS, *_EVENT_KEYS),
}
_IDENTIFIER_KEYS = ("column", "row_number", "missing", "remove_suffix", "prefix", "unless")
_CELL_KEYS = (
    "column", "product", "missing", "required", "remove_prefix", "remove_suffix", "scale", "unit", "as", "round", "format",
    "zone", "labels", "starts_with", "separator",
)
_NUMBERS = (ValueType.INT, ValueType.DOUBLE, ValueType.MONEY)
# Units that say by themselves what a number counts. Money has `minor` beside them, by its currency, and `cents` where
# that has two digits.
_COUNTS: Mapping[str, Decimal] = {
    "percent": Decimal("0.01"), "permille": Decimal("0.001"), "basis_points": Decimal("0.0001"),
    "thousands": Decimal(1_000), "millions": Decimal(1_000_000),
}
# Units of one kind, each in the kind's first; by definition, so all are exact.
_UNITS: tuple[Mapping[str, Fraction], ...] = tuple(
    {name: Fraction(size) for name, size in kind.items()}
    for kind in (
        {"g": "1", "mg": "0.001", "kg": "1000", "t": "1000000", "lb": "453.59237", "oz": "28.349523125"},
        {"m": "1", "mm": "0.001", "cm": "0.01", "km": "1000", "in": "0.0254", "ft": "0.3048", "yd": "0.9144", "mi": "1609.344"},
        {"s": "1", "ms": "0.001", "min": "60", "h": "3600", "d": "86400"},
        {"l": "1", "ml": "0.001", "cl": "0.01", "hl": "100"},
        {"kwh": "1", "wh": "0.001", "mwh": "1000"},
        {"bytes": "1", "kb": "1000", "mb": "1000000", "gb": "1000000000", "kib": "1024", "mib": "1048576", "gib": "1073741824"},
    )
)
# Which keys of a cell make sense for which types.
_KEY_TYPES: Mapping[str, tuple[ValueType, ...]] = {
    "product": _NUMBERS,
    "remove_prefix": _NUMBERS,
    "remove_suffix": _NUMBERS,
    "scale": _NUMBERS,
    "unit": _NUMBERS,
    "as": (ValueType.INT, ValueType.DOUBLE),
    "round": (ValueType.INT, ValueType.MONEY, ValueType.TIMESTAMP),
    "format": (ValueType.TIMESTAMP,),
    "zone": (ValueType.TIMESTAMP,),
    "labels": (ValueType.ENUM, ValueType.BOOL),
    "starts_with": (ValueType.BOOL,),
    "separator": (ValueType.STRING_SET,),
}


class _Reader:
    """One pass over one file's nodes; problems collect in ``problems``."""

    def __init__(self, file: str, schema: Schema) -> None:
        self.file = file
        self.schema = schema
        self.problems: list[Problem] = []
        self.local = ZoneInfo("UTC")  # of times whose cell names no zone

    # --- nodes ---

    def where(self, node: yaml.Node) -> Where:
        mark = node.start_mark
        return Where(self.file, mark.line + 1, mark.column + 1)

    def problem(self, node: yaml.Node, message: str, hint: str = "") -> None:
        self.problems.append(Problem(self.where(node), message, hint))

    def entries(
        self, node: yaml.Node, what: str, known: Iterable[str] | None = None
    ) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """A mapping node's entries by key, each with its key's and its value's node; unknown keys are problems."""
        if not isinstance(node, yaml.MappingNode):
            self.problem(node, f"{what} must be a mapping of keys to values.")
            raise _NodeError
        names = None if known is None else tuple(known)
        found: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.problem(key, f"A key of {what} must be plain text.")
                continue
            name = key.value
            if name in found:
                first = found[name][0].start_mark.line + 1
                self.problem(key, f"'{name}' is given twice in {what}; the first is in line {first}.")
                continue
            if names is not None and name not in names:
                close = nearest(name, names)
                hint = f"Did you mean '{close}'?" if close else f"Known here: {', '.join(names)}."
                self.problem(key, f"There is no key '{name}' in {what}.", hint)
                continue
            found[name] = (key, value)
        return found

    def text(self, node: yaml.Node, what: str, *, empty: bool = False) -> str:
        if not isinstance(node, yaml.ScalarNode):
            self.problem(node, f"{what} must be a single text.")
            raise _NodeError
        if not node.value and not empty:
            self.problem(node, f"{what} is empty.")
            raise _NodeError
        return str(node.value)

    def missing(self, node: yaml.Node, what: str) -> frozenset[str]:
        """A list of texts; one text alone counts as a list of one."""
        items = node.value if isinstance(node, yaml.SequenceNode) else [node]
        return frozenset(self.text(item, f"An entry of {what}", empty=True) for item in items)

    def choice(self, node: yaml.Node, what: str, choices: tuple[str, ...]) -> str:
        text = self.text(node, what)
        if text not in choices:
            close = nearest(text, choices)
            hint = f"Did you mean '{close}'?" if close else ""
            self.problem(node, f"{what} is '{text}'; it must be {' or '.join(choices)}.", hint)
            raise _NodeError
        return text

    def flag(self, node: yaml.Node, what: str) -> bool:
        return self.choice(node, what, ("true", "false")) == "true"

    def single(self, node: yaml.Node, what: str) -> str:
        text = self.text(node, what)
        text = "\t" if text == "\\t" else text
        if len(text) != 1 or not (" " <= text <= "~" or text == "\t") or text.isalnum():
            self.problem(node, f"{what} must be one ASCII character that is no letter or digit, not '{text}'.")
            raise _NodeError
        return text

    def known(self, node: yaml.Node, kind: str, name: str, names: Iterable[str]) -> NoReturn:
        """Notes that ``name`` is not among ``names``, and gives up on this node."""
        known = list(names)
        close = nearest(name, known)
        hint = f"Did you mean '{close}'?" if close else f"Declare it in schema.yaml; there are {len(known)}."
        self.problem(node, f"There is no {kind} '{name}'.", hint)
        raise _NodeError

    def attempt(self, read: Callable[[], _T], otherwise: _T) -> _T:
        """What ``read`` gives, or ``otherwise`` once its problem has been noted."""
        try:
            return read()
        except _NodeError:
            return otherwise

    # --- the file ---

    def read(self, data: bytes) -> FileMapping:
        try:
            mapping = self.mapping(self.compose(data))
        except _NodeError:
            mapping = None
        if self.problems or mapping is None:
            ordered = sorted(self.problems, key=lambda problem: (problem.where.line, problem.where.column))
            raise MappingError(ordered)
        return mapping

    def refuse(self, line: int, column: int, message: str, hint: str = "") -> _NodeError:
        self.problems.append(Problem(Where(self.file, line, column), message, hint))
        return _NodeError()

    def compose(self, data: bytes) -> yaml.Node:
        if len(data) > MAPPING_BYTES:
            size = f"The file has {len(data)} bytes; a mapping has at most {MAPPING_BYTES}."
            raise self.refuse(1, 1, size, "Is this the data file?")
        try:
            node = yaml.compose(data, yaml.CSafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            raise self.refuse(line, column, f"This is not YAML: {error.problem or error}.") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise self.refuse(1, 1, f"This is not YAML in UTF-8: {' '.join(str(error).split())}.") from error
        if node is None:
            raise self.refuse(1, 1, "The file is empty.", "Begin with 'mapping: NAME'.")
        return node

    def mapping(self, root: yaml.Node) -> FileMapping | None:
        entries = self.entries(root, "a mapping", _KEYS)
        for key in ("mapping", "source", "row", "identifiers"):
            if key not in entries:
                self.problem(root, f"The key '{key}' is missing.")

        def of(key: str, read: Callable[[yaml.Node, str], _T], otherwise: _T) -> _T:
            if key not in entries:
                return otherwise
            return self.attempt(lambda: read(entries[key][1], f"'{key}'"), otherwise)

        form = of("format", lambda node, what: self.choice(node, what, ("csv", "jsonl", "parquet")), "")
        row = of("row", lambda node, what: self.choice(node, what, ("profile", "event", "case")), "")
        if form not in ("csv", ""):
            for key in ("delimiter", "quote"):
                if key in entries:
                    self.problem(entries[key][0], f"'{key}' is for csv; this file's format is {form}.")
        for key in _UNFIT.get(row, ()):
            if key in entries:
                self.problem(entries[key][0], f"'{key}' is not for rows that are {row}s.")
        # A file may tell of profiles nothing but consents, or who belongs to which household.
        profile = () if {"consents", "household"} & entries.keys() else ("attributes",)
        event_keys = ("event", "at", "key", "fields")
        wanted: tuple[str, ...] = {"profile": profile, "event": event_keys, "case": ("case", "key")}.get(row, ())
        for key in wanted:
            if key not in entries:
                self.problem(root, f"The key '{key}' is missing; rows that are {row}s need it.")

        delimiter = of("delimiter", self.single, ",")
        quote = of("quote", self.single, '"')
        if delimiter == quote:
            clash = entries["quote" if "quote" in entries else "delimiter"][1]
            self.problem(clash, "'delimiter' and 'quote' are the same.")
        decimal = of("decimal", lambda node, what: self.choice(node, what, (".", ",")), ".")
        thousands = of("thousands", self.single, "")
        if thousands == decimal:
            self.problem(entries["thousands"][1], f"'thousands' is '{thousands}', which is the decimal mark.")

        self.local = of("zone", self.zone, self.local)
        event: EventType | None = None
        targets: tuple[Target, ...] = ()
        case = ""
        identifiers: tuple[Identifier, ...] = of("identifiers", lambda node, _: self.identifiers(node), ())
        shared = self.of_households(identifiers)
        for key in ("event", "consents", "household"):
            if shared and key in entries:
                self.problem(entries[key][0], f"'{key}' is a customer's, and these identifiers name households.")
        if row == "profile":
            attributes = self.schema.household_attributes if shared else self.schema.attributes
            kind = "attribute of households" if shared else "attribute"
            targets = of("attributes", lambda node, _: self.targets(node, kind, attributes), ())
        elif row == "event":
            event = of("event", lambda node, _: self.event(node), None)
            if event is not None:
                fields = {one.name: one for one in event.fields}
                kind = f"field of event '{event.name}'"
                targets = of("fields", lambda node, _: self.targets(node, kind, fields), ())
        elif row == "case":
            nothing: tuple[tuple[Target, ...], str] = ((), "")
            targets, case = self.attempt(lambda: self.case_targets(entries), nothing)
        mapping = FileMapping(
            name=of("mapping", self.name, ""),
            source=of("source", self.name, ""),
            format=form,
            row=Row(row) if row else Row.PROFILE,
            identifiers=identifiers,
            where=self.where(root),
            delimiter=delimiter,
            quote=quote,
            encoding=of("encoding", self.encoding, "utf-8"),
            decimal=decimal,
            thousands=thousands,
            missing=of("missing", self.missing, frozenset()),
            skip_without_identifier=of("without_identifier", self.skips, False),
            clear_missing=of("when_missing", self.clears, False),
            targets=targets,
            event=event,
            at=of("at", lambda node, _: self.cell(node, _AT, "'at'"), None) if row == "event" else None,
            key=of("key", lambda node, _: self.key(node), ()) if row == "event" else (),
            consents=of("consents", lambda node, _: self.consents(node), ()) if row == "profile" else (),
            case=case,
            household=of("household", lambda node, _: self.household(node), None) if row == "profile" else None,
        )
        self.sources(mapping)
        return mapping

    def name(self, node: yaml.Node, what: str) -> str:
        text = self.text(node, what)
        if not _NAME.match(text) or len(text) > limits.NAME_LENGTH:
            self.problem(
                node, f"{what} is '{text}'; a name has small letters, digits and underscores, begins with a letter, "
                f"and has at most {limits.NAME_LENGTH} characters.",
            )
            raise _NodeError
        return text

    def encoding(self, node: yaml.Node, what: str) -> str:
        text = self.text(node, what)
        try:
            info = codecs.lookup(text)
            "".encode(text)  # codecs that are no text encodings (hex, zlib) are refused here
        except LookupError:
            self.problem(node, f"There is no encoding '{text}'.", "Common ones: utf-8, latin-1, cp1252, utf-16.")
            raise _NodeError from None
        return info.name

    def skips(self, node: yaml.Node, what: str) -> bool:
        return self.choice(node, what, ("reject", "skip")) == "skip"

    def clears(self, node: yaml.Node, what: str) -> bool:
        return self.choice(node, what, ("keep", "clear")) == "clear"

    def event(self, node: yaml.Node) -> EventType:
        name = self.text(node, "'event'")
        if name not in self.schema.events:
            self.known(node, "event", name, self.schema.events)
        return self.schema.events[name]

    def column(self, node: yaml.Node, what: str) -> Column:
        return Column(self.text(node, what), self.where(node))

    def key(self, node: yaml.Node) -> tuple[Column, ...]:
        if isinstance(node, yaml.SequenceNode):
            if not node.value:
                self.problem(node, "'key' names no column.", "Name columns, or write row_number.")
                raise _NodeError
            return tuple(self.column(item, "A column of 'key'") for item in node.value)
        column = self.column(node, "'key'")
        return () if column.name == "row_number" else (column,)

    def identifiers(self, node: yaml.Node) -> tuple[Identifier, ...]:
        found = []
        entries = self.entries(node, "'identifiers'")
        for name, (key, value) in entries.items():
            try:
                if name not in self.schema.namespaces:
                    self.known(key, "namespace", name, self.schema.namespaces)
                found.append(self.identifier(name, key, value, [each for each in entries if each != name]))
            except _NodeError:
                continue
        stood_in = {each.namespace for each in found if each.unless}
        for each in found:
            if each.unless in stood_in:
                self.problem(
                    entries[each.namespace][0],
                    f"Identifier '{each.namespace}' stands in for '{each.unless}', which stands in for another itself.",
                    "Let both name the identifier that goes before them.",
                )
        if not node.value:
            self.problem(node, "'identifiers' is empty; a row must say whose it is.")
        return tuple(found)

    def identifier(self, name: str, key: yaml.Node, node: yaml.Node, others: list[str]) -> Identifier:
        where = self.where(key)
        if isinstance(node, yaml.ScalarNode):
            return Identifier(name, self.column(node, f"The column of '{name}'"), where)
        entries = self.entries(node, f"identifier '{name}'", _IDENTIFIER_KEYS)

        def of(key: str) -> str:
            return self.text(entries[key][1], f"'{key}' of '{name}'") if key in entries else ""

        counted = "row_number" in entries and self.flag(entries["row_number"][1], f"'row_number' of '{name}'")
        if counted == ("column" in entries):
            self.problem(key, f"Identifier '{name}' needs either 'column' or 'row_number: true'.")
            raise _NodeError
        missing: frozenset[str] = frozenset()
        if "missing" in entries:
            missing = self.missing(entries["missing"][1], f"'missing' of '{name}'")
        column = None if counted else self.column(entries["column"][1], f"The column of '{name}'")
        unless = ""
        if "unless" in entries:
            unless = self.text(entries["unless"][1], f"'unless' of '{name}'")
            if unless not in others:
                close = nearest(unless, others)
                hint = f"Did you mean '{close}'?" if close else f"Beside '{name}' there are: {', '.join(others) or 'none'}."
                problem = f"'unless' of '{name}' is '{unless}', which is no other identifier here."
                self.problem(entries["unless"][1], problem, hint)
                raise _NodeError
        return Identifier(name, column, where, missing, of("remove_suffix"), of("prefix"), unless)

    def of_households(self, identifiers: tuple[Identifier, ...]) -> bool:
        """Whether a file's identifiers name households; a mix of both kinds is a problem."""
        spaces = self.schema.namespaces
        mixed = [each for each in identifiers if spaces[each.namespace].household != spaces[identifiers[0].namespace].household]
        for each in mixed:
            names = "households" if spaces[each.namespace].household else "customers"
            self.problems.append(Problem(
                each.where, f"'{each.namespace}' names {names}, and the file's other identifiers do not.",
                "A row of a customer says to which household he belongs under 'household'.",
            ))
        return bool(identifiers) and spaces[identifiers[0].namespace].household

    def household(self, node: yaml.Node) -> Membership:
        what = "'household'"
        known = ("namespace", "role", *(key for key in _IDENTIFIER_KEYS if key not in ("row_number", "unless")))
        entries = self.entries(node, what, known)
        if "namespace" not in entries:
            self.problem(node, "'household' needs 'namespace': the one that names households.")
            raise _NodeError
        key, value = entries["namespace"]
        name = self.text(value, "'namespace' of 'household'")
        households = [each.name for each in self.schema.namespaces.values() if each.household]
        if name not in households:
            if name in self.schema.namespaces:
                self.problem(value, f"'{name}' names customers, not households.",
                             f"Namespaces of households: {', '.join(households)}." if households
                             else "Declare one with 'of: household' in schema.yaml.")
                raise _NodeError
            self.known(value, "namespace of households", name, households)
        told = [pair for each, pair in entries.items() if each not in ("namespace", "role")]
        cell = yaml.MappingNode("tag:yaml.org,2002:map", told, node.start_mark, node.end_mark)
        role = None
        if "role" in entries:
            role = self.cell(entries["role"][1], Field("role", ValueType.ENUM, self.schema.roles), "'role' of 'household'")
        return Membership(self.identifier(name, key, cell, []), role)

    def targets(self, node: yaml.Node, kind: str, fields: Mapping[str, Field]) -> tuple[Target, ...]:
        found = []
        for name, (key, value) in self.entries(node, f"'{'fields' if 'event' in kind else 'attributes'}'").items():
            try:
                if name not in fields:
                    self.known(key, kind, name, fields)
                found.append(Target(fields[name], self.cell(value, fields[name], f"'{name}'"), self.where(key)))
            except _NodeError:
                continue
        return tuple(found)

    def case_targets(self, entries: dict[str, tuple[yaml.Node, yaml.Node]]) -> tuple[tuple[Target, ...], str]:
        """The cells of a case's parts, and the kind where it is the same for all rows."""
        kind = ""
        parts = {
            "case": Field("case", ValueType.ENUM, tuple(self.schema.case_kinds)), "key": Field("key", ValueType.STRING),
            **_CASE_PARTS, "at": _AT,
        }
        found = []
        for name, part in parts.items():
            if name not in entries:
                continue
            key, node = entries[name]
            if name == "case" and isinstance(node, yaml.ScalarNode):
                kind = self.text(node, "'case'")
                if kind not in self.schema.case_kinds:
                    self.known(node, "kind of case", kind, self.schema.case_kinds)
                continue
            try:
                cell = self.cell(node, part, f"'{name}'")
            except _NodeError:
                continue
            found.append(Target(part, replace(cell, required=cell.required or name in ("case", "key")), self.where(key)))
        if not {"opened", "closed"} & {target.field.name for target in found}:
            self.problem(entries["case"][0] if "case" in entries else next(iter(entries.values()))[0],
                         "Neither 'opened' nor 'closed' is given.", "Say at least since when a case has been open.")
        return tuple(found), kind

    def consents(self, node: yaml.Node) -> tuple[Consent, ...]:
        found: list[Consent] = []
        for purpose, (key, value) in self.entries(node, "'consents'").items():
            if purpose not in self.schema.purposes:
                close = nearest(purpose, self.schema.purposes)
                hint = f"Did you mean '{close}'?" if close else "Declare it in schema.yaml."
                self.problem(key, f"There is no purpose '{purpose}'.", hint)
                continue
            for each in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                try:
                    consent = self.consent(purpose, each)
                except _NodeError:
                    continue
                if any((one.purpose, one.channel) == (purpose, consent.channel) for one in found):
                    channel = f"channel '{consent.channel}'" if consent.channel else "no channel"
                    self.problem(each, f"Consent '{purpose}' is given twice with {channel}.")
                found.append(consent)
        return tuple(found)

    def consent(self, purpose: str, node: yaml.Node) -> Consent:
        what = f"consent '{purpose}'"
        known = ("column", "missing", "labels", "starts_with", "channel", "at")
        entries = self.entries(node, what, known)
        if "at" not in entries:
            self.problem(
                node, f"{what} needs 'at', the cell of its date.", "Without one a file could not be told from a newer answer."
            )
            raise _NodeError
        told = [pair for name, pair in entries.items() if name not in ("channel", "at")]
        granted = yaml.MappingNode("tag:yaml.org,2002:map", told, node.start_mark, node.end_mark)
        return Consent(
            purpose,
            self.text(entries["channel"][1], f"'channel' of {what}") if "channel" in entries else "",
            self.cell(granted, Field(purpose, ValueType.BOOL), what),
            self.cell(entries["at"][1], _AT, f"'at' of {what}"),
            self.where(node),
        )

    def cell(self, node: yaml.Node, target: Field, what: str) -> Cell:
        if isinstance(node, yaml.ScalarNode):
            return Cell((self.column(node, f"The column of {what}"),), zone=self.local)
        entries = self.entries(node, what, _CELL_KEYS)
        for key, types in _KEY_TYPES.items():
            if key in entries and target.type not in types:
                fit = " or ".join(each.value for each in types)
                self.problem(entries[key][0], f"'{key}' is for {fit}; {what} is of type {target.type.value}.")
                if key != "product":
                    del entries[key]
        if "as" in entries and "unit" not in entries:
            self.problem(entries["as"][0], f"'as' of {what} needs 'unit': the unit that the file has.")
        if "unit" in entries and "scale" in entries:
            self.problem(entries["scale"][0], f"{what} has both 'unit' and 'scale'; one says it all.")
        if "starts_with" in entries and "labels" in entries:
            self.problem(entries["labels"][0], f"{what} has both 'starts_with' and 'labels'; one says it all.")

        def of(key: str, read: Callable[[yaml.Node, str], _T], otherwise: _T) -> _T:
            if key not in entries:
                return otherwise
            return self.attempt(lambda: read(entries[key][1], f"'{key}' of {what}"), otherwise)

        columns: tuple[Column, ...] = ()
        if ("column" in entries) == ("product" in entries):
            self.problem(node, f"{what} needs either 'column' or 'product'.")
        elif "column" in entries:
            columns = of("column", lambda node, what: (self.column(node, what),), ())
        else:
            columns = of("product", self.product, ())
        return Cell(
            columns=columns,
            missing=of("missing", self.missing, frozenset()),
            required=of("required", self.flag, False),
            scale=self.factor(entries, target, what) if "unit" in entries else of("scale", self.scale, Decimal(1)),
            round=of("round", self.flag, False),
            format=of("format", self.date_format, "iso"),
            zone=of("zone", self.zone, self.local),
            labels=of("labels", lambda node, what: self.labels(node, what, target), {}),
            starts_with=of("starts_with", self.text, None) if "starts_with" in entries else None,
            separator=of("separator", self.single, ","),
            remove_prefix=of("remove_prefix", self.text, "").strip(),
            remove_suffix=of("remove_suffix", self.text, "").strip(),
        )

    def product(self, node: yaml.Node, what: str) -> tuple[Column, ...]:
        if not isinstance(node, yaml.SequenceNode) or len(node.value) != 2:
            self.problem(node, f"{what} must be a list of two columns.")
            raise _NodeError
        return tuple(self.column(item, f"A column of {what}") for item in node.value)

    def scale(self, node: yaml.Node, what: str) -> Decimal:
        text = self.text(node, what)
        try:
            value = Decimal(text)
        except InvalidOperation:
            value = Decimal(0)
        digits = value.as_tuple()
        if not value.is_finite() or value == 0 or len(digits.digits) > 15 or abs(int(digits.exponent)) > 15:
            self.problem(node, f"{what} is '{text}'; it must be a decimal number other than 0, of at most 15 digits.")
            raise _NodeError
        return value

    def factor(self, entries: dict[str, tuple[yaml.Node, yaml.Node]], target: Field, what: str) -> Decimal:
        """What the number in the file is to be multiplied with, by ``unit`` and ``as``; 1 once a problem is noted."""
        try:
            return self.unit(entries, target, what)
        except _NodeError:
            return Decimal(1)

    def unit(self, entries: dict[str, tuple[yaml.Node, yaml.Node]], target: Field, what: str) -> Decimal:
        node = entries["unit"][1]
        name = self.text(node, f"'unit' of {what}")
        if target.type is ValueType.MONEY:
            digits = currency_exponent(target.currency)
            minor = Decimal(1).scaleb(-digits)
            counts = {"minor": minor, **({"cents": minor} if digits == 2 else {}), **_COUNTS}
        else:
            counts = dict(_COUNTS)
        if name in counts:
            if "as" in entries:
                self.problem(entries["as"][0], f"'as' of {what} is not for '{name}', which says by itself what it counts.")
            return counts[name]
        kind = next((each for each in _UNITS if name in each), None) if target.type is not ValueType.MONEY else None
        if kind is None:
            measured = [] if target.type is ValueType.MONEY else [each for units in _UNITS for each in units]
            known = [*counts, *measured]
            close = nearest(name, known)
            hint = f"Did you mean '{close}'?" if close else f"Known for {target.type.value}: {', '.join(known)}."
            self.problem(node, f"'unit' of {what} is '{name}', which is no unit of {target.type.value}.", hint)
            raise _NodeError
        if "as" not in entries:
            others = ", ".join(each for each in kind if each != name)
            self.problem(node, f"{what} is in '{name}' in the file; 'as' must say in which unit it is kept.", f"One of {others}.")
            raise _NodeError
        into_node = entries["as"][1]
        into = self.text(into_node, f"'as' of {what}")
        if into not in kind:
            close = nearest(into, kind)
            hint = f"Did you mean '{close}'?" if close else f"'{name}' can be kept as {', '.join(kind)}."
            self.problem(into_node, f"'as' of {what} is '{into}', into which '{name}' cannot be converted.", hint)
            raise _NodeError
        factor = kind[name] / kind[into]
        exact = Decimal(factor.numerator) / Decimal(factor.denominator)
        if target.type is ValueType.INT and (Fraction(exact) != factor or len(exact.as_tuple().digits) > 15):
            self.problem(
                into_node, f"{what} is a whole number, and a '{name}' is no finite decimal of '{into}'.",
                "Keep it in the smaller unit, or declare the attribute as double.",
            )
            raise _NodeError
        return exact

    def zone(self, node: yaml.Node, what: str) -> ZoneInfo:
        text = self.text(node, what)
        try:
            return ZoneInfo(text)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            names = available_timezones()
            close = nearest(text, names)
            hint = f"Did you mean '{close}'?" if close else "Names are those of the IANA database, as Europe/Lisbon."
            self.problem(node, f"There is no time zone '{text}'.", hint)
            raise _NodeError from None

    def date_format(self, node: yaml.Node, what: str) -> str:
        text = self.text(node, what)
        if text in NAMED_FORMATS:
            return text
        if "%" not in text:
            close = nearest(text, NAMED_FORMATS)
            hint = f"Did you mean '{close}'?" if close else "As in %Y-%m-%d %H:%M:%S."
            named = ", ".join(NAMED_FORMATS)
            self.problem(node, f"{what} is '{text}', which is neither {named} nor made of %-directives.", hint)
            raise _NodeError
        used = re.findall(r"%(.?)", text, re.DOTALL)
        for directive in used:
            if not directive or directive not in DIRECTIVES:
                usable = " ".join("%" + each for each in DIRECTIVES)
                self.problem(node, f"{what} uses '%{directive}', which is not among {usable}.")
                raise _NodeError
        parts = ["Y" if each == "y" else "m" if each == "b" else each for each in used if each != "%"]
        if not {"Y", "m", "d"} <= set(parts):
            self.problem(node, f"{what} is '{text}'; a year, a month and a day are needed.")
            raise _NodeError
        if len(set(parts)) != len(parts):
            self.problem(node, f"{what} is '{text}', which reads some part twice.")
            raise _NodeError
        return text

    def labels(self, node: yaml.Node, what: str, target: Field) -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        known = ("true", "false") if target.type is ValueType.BOOL else target.labels
        for text, (_, value) in self.entries(node, what).items():
            label = self.text(value, f"The label for '{text}'", empty=True)
            plain = isinstance(value, yaml.ScalarNode) and not value.style
            if plain and label in ("", "~", "null"):
                found[text] = None
            elif label in known:
                found[text] = label
            else:
                close = nearest(label, known)
                hint = f"Did you mean '{close}'?" if close else f"Known here: {', '.join(known[:12])}."
                self.problem(value, f"There is no label '{label}' in {what}.", hint)
        return found

    def sources(self, mapping: FileMapping) -> None:
        """Notes attributes and consents which this mapping's source may not set or grant."""
        for consent in mapping.consents:
            grantors = self.schema.grantors.get(consent.purpose, ())
            labels = consent.granted.labels.values()
            # A list of withdrawals may come from anybody.
            if grantors and mapping.source not in grantors and ("true" in labels or not labels):
                self.problems.append(
                    Problem(
                        consent.where, f"Source '{mapping.source}' may not grant consent '{consent.purpose}'.",
                        f"Its sources are {', '.join(grantors)}.",
                    )
                )
        for target in mapping.targets:
            allowed = target.field.sources
            if mapping.row is Row.PROFILE and allowed and mapping.source not in allowed:
                self.problems.append(
                    Problem(
                        target.where,
                        f"Source '{mapping.source}' may not set attribute '{target.field.name}'."
                        if mapping.source else f"Attribute '{target.field.name}' needs a source, and the mapping names none.",
                        f"Its sources are {', '.join(allowed)}.",
                    )
                )
