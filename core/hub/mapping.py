"""Mapping: how the columns of a file become customers' attributes or events.

A mapping is a YAML file beside the data's owner: it names the columns as the file spells them and the attributes, event
fields and namespaces as the schema does, and says how a cell's text becomes a value. `load` reads and checks one in a
single pass over the YAML nodes, so that every problem is reported at once, at its line and column, with the nearest
right name. What it returns holds names only; `core.hub.importer` turns names into the catalog's numbers and the file's
column positions.

The keys (programs/real/ has whole examples)::

    mapping: shop_purchases              a name for reports
    source: web_shop                     who says so; part of an event's key where that is the row's number
    format: csv                          csv or jsonl; .gz at the end of the file's name is unpacked
    delimiter: ","                       csv only; quote: '"' likewise
    encoding: utf-8                      any that Python knows
    decimal: "."                         the decimal mark of all numbers; thousands: "" marks groups of digits
    missing: [NA]                        texts that mean "not known" in every column; an empty cell always does
    row: event                           profile or event
    identifiers:                         namespace: column, or
      crm: {column: CustomerID, remove_suffix: ".0"}
      visit: {row_number: true, prefix: "v-"}
    without_identifier: skip             skip or reject (the default) a row in which every identifier is missing
    attributes:                          for profiles; attribute: column, or a mapping with the keys of `Cell`
      age: age
      balance: {column: saldo, scale: 0.01, round: true}
      joined: {column: since, format: "%d.%m.%Y", zone: Europe/Lisbon}
      job: {column: job, labels: {admin.: clerk, unknown: null}}
    when_missing: keep                   keep (the default) what the store has, or clear it
    event: purchase                      for events; then at, key and fields
    at: {column: InvoiceDate, format: "%Y-%m-%d %H:%M:%S", zone: Europe/London}
    key: row_number                      or a column, or a list of columns: what makes a second import change nothing
    fields:
      amount: {product: [Quantity, UnitPrice], round: true}
      cancelled: {column: InvoiceNo, starts_with: C}
"""

from __future__ import annotations

import codecs
import enum
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml

from core import limits
from core.errors import MappingError, Problem, Where, nearest
from core.schema import EventType, Field, Schema, ValueType

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


@dataclass(frozen=True, slots=True)
class Target:
    """An attribute or event field and the cell that fills it."""

    field: Field
    cell: Cell
    where: Where


@dataclass(frozen=True, slots=True)
class Identifier:
    """A namespace and where its identifier stands: a column, or (``column`` None) the row's number."""

    namespace: str
    column: Column | None
    where: Where
    missing: frozenset[str] = frozenset()
    remove_suffix: str = ""
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class FileMapping:
    """A checked mapping. Names only; immutable.

    ``key`` is the columns whose texts together identify an event; empty: the row's number.
    """

    name: str
    source: str
    format: str  # csv or jsonl
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

    def columns(self) -> tuple[Column, ...]:
        """Every column the mapping reads, each once, in the order first named."""
        found: dict[str, Column] = {}
        for identifier in self.identifiers:
            if identifier.column is not None:
                found.setdefault(identifier.column.name, identifier.column)
        cells = ([self.at] if self.at is not None else []) + [target.cell for target in self.targets]
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


class _Refused(Exception):
    """Nothing useful can be read below this node; its problem has been noted."""


# The keys of a mapping file, and of the cells in it.
_KEYS = (
    "mapping", "source", "format", "delimiter", "quote", "encoding", "decimal", "thousands", "missing", "row",
    "identifiers", "without_identifier", "attributes", "when_missing", "event", "at", "key", "fields",
)
_PROFILE_KEYS = ("attributes", "when_missing")
_EVENT_KEYS = ("event", "at", "key", "fields")
_IDENTIFIER_KEYS = ("column", "row_number", "missing", "remove_suffix", "prefix")
_CELL_KEYS = (
    "column", "product", "missing", "required", "scale", "round", "format", "zone", "labels", "starts_with", "separator",
)
_NUMBERS = (ValueType.INT, ValueType.DOUBLE, ValueType.MONEY)
# Which keys of a cell make sense for which types.
_KEY_TYPES: Mapping[str, tuple[ValueType, ...]] = {
    "product": _NUMBERS,
    "scale": _NUMBERS,
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

    # --- nodes ---

    def where(self, node: yaml.Node) -> Where:
        mark = node.start_mark
        return Where(self.file, mark.line + 1, mark.column + 1)

    def problem(self, node: yaml.Node, message: str, hint: str = "") -> None:
        self.problems.append(Problem(self.where(node), message, hint))

    def entries(self, node: yaml.Node, what: str, known: Iterable[str] | None = None) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """A mapping node's entries by key, each with its key's and its value's node; unknown keys are problems."""
        if not isinstance(node, yaml.MappingNode):
            self.problem(node, f"{what} must be a mapping of keys to values.")
            raise _Refused
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
            raise _Refused
        if not node.value and not empty:
            self.problem(node, f"{what} is empty.")
            raise _Refused
        return str(node.value)

    def texts(self, node: yaml.Node, what: str) -> tuple[str, ...]:
        """A list of texts; one text alone counts as a list of one."""
        if isinstance(node, yaml.SequenceNode):
            return tuple(self.text(item, f"An entry of {what}", empty=True) for item in node.value)
        return (self.text(node, what, empty=True),)

    def choice(self, node: yaml.Node, what: str, choices: tuple[str, ...]) -> str:
        text = self.text(node, what)
        if text not in choices:
            close = nearest(text, choices)
            self.problem(
                node, f"{what} is '{text}'; it must be {' or '.join(choices)}.", f"Did you mean '{close}'?" if close else "",
            )
            raise _Refused
        return text

    def flag(self, node: yaml.Node, what: str) -> bool:
        return self.choice(node, what, ("true", "false")) == "true"

    def single(self, node: yaml.Node, what: str) -> str:
        text = self.text(node, what)
        text = "\t" if text == "\\t" else text
        if len(text) != 1 or not " " <= text <= "~" and text != "\t" or text.isalnum():
            self.problem(node, f"{what} must be one ASCII character that is no letter or digit, not '{text}'.")
            raise _Refused
        return text

    def known(self, node: yaml.Node, kind: str, name: str, names: Iterable[str]) -> None:
        """Notes that ``name`` is not among ``names``, and gives up on this node."""
        known = list(names)
        close = nearest(name, known)
        hint = f"Did you mean '{close}'?" if close else f"Declare it in schema.yaml; there are {len(known)}."
        self.problem(node, f"There is no {kind} '{name}'.", hint)
        raise _Refused

    def attempt[T](self, read: Callable[[], T], otherwise: T) -> T:  # type: ignore[valid-type]
        try:
            return read()
        except _Refused:
            return otherwise

    # --- the file ---

    def read(self, data: bytes) -> FileMapping:
        raise AssertionError
