"""What lies in a models folder, and what a ``model.yaml`` says.

    models/<name>/<version>/model.onnx
    models/<name>/<version>/model.yaml

Versions are whole numbers from 1, without leading zeros; anything else in the folder is left alone and told. A
``model.yaml`` reads like this, everything but ``inputs`` being optional::

    scope: customer                     # one row serves all offers; or offer: a row an offer
    inputs:                             # every input of the file, by its name, with its columns in order
      age: customer.age
      job: {columns: [customer.job], missing: unknown}
      numbers: [customer.balance, {value: "facts.amount", missing: -1}]
    output: {name: probabilities, class: 1, kind: propensity}
    calibration: {platt: {a: -1.2, b: 0.1}}         # or {isotonic: [[0, 0], [0.4, 0.2], [1, 0.9]]}
    fallback: 0.05                      # competes with this when the model is late or fails; without it: offers leave
    budget_ms: 20                       # longest wait for a run; slower models are refused
    tolerance: 0.0001                   # of the golden rows
    golden:
      - {inputs: {age: 35, job: retired, numbers: [1200, 5]}, expect: 0.31}
    trained_on: what, when, by whom, how good

Columns are CEL texts in the program's scope; the plan compiler checks them, with their places in this file.
Everything wrong with the YAML is told at once, by file, line and column. Nothing here opens a model file's
insides.
"""

from __future__ import annotations

import enum
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from core import limits
from core.errors import ModelError, ProgramError, Where
from core.inference.tensor import TensorType
from core.programs.document import Document, Node, Problems
from core.programs.document import Mapping as MappingNode
from core.programs.document import Scalar as ScalarNode
from core.programs.document import Sequence as SequenceNode
from core.programs.model_binding import Column as BoundColumn
from core.programs.model_binding import ModelBinding
from core.programs.reading import Reader, Table

MODEL_FILE: Final = "model.onnx"
DESCRIPTION_FILE: Final = "model.yaml"
# A description is written by people; the longest seen, with 700 columns, has 60 KB.
DESCRIPTION_BYTES: Final = 1 << 20
# Longest wait for one run that may be declared; a caller waits for the whole answer.
BUDGET_MS: Final = 1000.0
# Golden rows of one model: they run at every load.
GOLDEN_ROWS: Final = 1000

_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
_VERSION: Final = re.compile(r"[1-9][0-9]{0,8}")
_KEYS: Final = ("scope", "inputs", "output", "calibration", "fallback", "budget_ms", "tolerance", "golden", "trained_on")


class Scope(enum.Enum):
    """What one row of input stands for."""

    CUSTOMER = "customer"  # one row; its score serves every offer that names the model
    OFFER = "offer"  # a row for each offer


@dataclass(frozen=True, slots=True)
class Column:
    """A column of an input: a CEL text, where it stands, and what replaces a missing value (None: row unscored)."""

    text: str
    where: Where
    missing: float | str | None = None


@dataclass(frozen=True, slots=True)
class Golden:
    """A row whose score is known: cells by input name, the propensity expected."""

    cells: Mapping[str, tuple[float | str, ...]]
    expect: float
    where: Where


@dataclass(frozen=True, slots=True)
class Description:
    """A checked ``model.yaml``.

    ``fallback`` None: offers leave with MODEL_FAILED. ``selected``: a tensor's column or a map's key. ``value``: any
    finite number is a score, not only a propensity in [0, 1].
    """

    inputs: Mapping[str, tuple[Column, ...]]
    scope: Scope = Scope.CUSTOMER
    output: str = ""
    selected: int | str | None = None
    value: bool = False
    platt: tuple[float, float] | None = None
    isotonic: tuple[tuple[float, float], ...] = ()
    fallback: float | None = None
    budget_ms: float = 20.0
    tolerance: float = 1e-4
    golden: tuple[Golden, ...] = ()
    trained_on: str = ""
    where: Where = field(default_factory=lambda: Where(DESCRIPTION_FILE, 1, 1))

    @property
    def widths(self) -> dict[str, int]:
        """Columns bound to each input."""
        return {name: len(columns) for name, columns in self.inputs.items()}

    def binding(self, inputs: Sequence[TensorType]) -> ModelBinding:
        """The columns by position among a file's ``inputs``, which must be those described."""
        positions = {tensor.name: number for number, tensor in enumerate(inputs)}
        columns = [
            BoundColumn(positions[name], position, column.text, column.where, column.missing)
            for name, listed in self.inputs.items()
            for position, column in enumerate(listed)
        ]
        return ModelBinding(tuple(columns), self.scope is Scope.CUSTOMER)


@dataclass(frozen=True, slots=True)
class Package:
    """One version as it lies in its folder, or was sent: the bytes, read once, and their digest."""

    name: str
    version: int
    model: bytes
    description: bytes
    file: str  # of the description, for messages
    digest: str  # SHA-256 over both, hex

    @property
    def label(self) -> str:
        return f"{self.name}/{self.version}"


@dataclass(frozen=True, slots=True)
class Found:
    """A version folder as a scan sees it. ``stamp`` changes whenever either file does."""

    name: str
    version: int
    folder: Path
    stamp: tuple[tuple[int, int, int], ...]  # inode, size, modification time in ns, of both files; empty when one is missing
    changed_ns: int = 0  # when either file's inode last changed, ns since 1970; 0 when one is missing


@dataclass(frozen=True, slots=True)
class Listing:
    """A scan: versions found, by name and number, and what was left alone, with the reason."""

    found: tuple[Found, ...]
    ignored: tuple[str, ...]


def package(name: str, version: int, model: bytes, description: bytes, file: str = "") -> Package:
    """A version from bytes. Raises ModelError for a name or size that cannot be."""
    label = f"{name}/{version}"
    check_name(name)
    if not 1 <= version <= 999_999_999:
        raise ModelError(label, f"version {version} is out of range", "Versions are whole numbers from 1.")
    if len(model) > limits.MODEL_BYTES:
        raise ModelError(label, f"{MODEL_FILE} has {len(model)} bytes; the limit is {limits.MODEL_BYTES}",
                         "Propensity models are far smaller; prune or quantise it.")
    if not model:
        raise ModelError(label, f"{MODEL_FILE} is empty", "Copy it again.")
    if len(description) > DESCRIPTION_BYTES:
        raise ModelError(label, f"{DESCRIPTION_FILE} has {len(description)} bytes; the limit is {DESCRIPTION_BYTES}",
                         "Shorten it; golden rows take most of a description.")
    digest = hashlib.sha256(len(model).to_bytes(8, "little") + model + description).hexdigest()
    return Package(name, version, model, description, file or f"{label}/{DESCRIPTION_FILE}", digest)


def check_name(name: str) -> None:
    """Raises ModelError for a name that is not ``[a-z][a-z0-9_]*`` or is too long."""
    if not _NAME.fullmatch(name) or len(name) > limits.NAME_LENGTH:
        raise ModelError(name[:80], "this cannot be a model's name",
                         f"It begins with a letter: a to z, 0 to 9 and _, at most {limits.NAME_LENGTH} characters.")


def scan(folder: Path) -> Listing:
    """Versions under a models folder, by name and number. A folder that is missing holds none."""
    found: list[Found] = []
    ignored: list[str] = []
    if not folder.is_dir():
        return Listing((), (f"{folder.name}: there is no such folder.",))
    for model in sorted(folder.iterdir()):
        if model.name.startswith((".", "__")) or not model.is_dir():
            continue
        if not _NAME.fullmatch(model.name) or len(model.name) > limits.NAME_LENGTH:
            ignored.append(f"{model.name}: not a model's name (a to z, 0 to 9 and _, beginning with a letter).")
            continue
        for version in sorted(model.iterdir(), key=lambda path: (len(path.name), path.name)):
            if version.name.startswith((".", "__")) or not version.is_dir():
                continue
            if not _VERSION.fullmatch(version.name):
                ignored.append(f"{model.name}/{version.name}: not a version (a whole number from 1).")
                continue
            found.append(Found(model.name, int(version.name), version, *_stamp(version)))
    return Listing(tuple(found), tuple(ignored))


def _stamp(folder: Path) -> tuple[tuple[tuple[int, int, int], ...], int]:
    stamps: list[tuple[int, int, int]] = []
    changed_ns = 0
    for name in (MODEL_FILE, DESCRIPTION_FILE):
        try:
            status = (folder / name).stat()
        except OSError:
            return (), 0
        stamps.append((status.st_ino, status.st_size, status.st_mtime_ns))
        changed_ns = max(changed_ns, status.st_ctime_ns)
    return tuple(stamps), changed_ns


def load(found: Found) -> Package:
    """Reads a version's two files. Raises ModelError when one is missing, unreadable, too large, or lies outside the folder."""
    label = f"{found.name}/{found.version}"
    contents: list[bytes] = []
    for name, limit in ((MODEL_FILE, limits.MODEL_BYTES), (DESCRIPTION_FILE, DESCRIPTION_BYTES)):
        path = found.folder / name
        try:
            if path.resolve().parent != found.folder.resolve():
                raise ModelError(label, f"{name} is a link to a file outside the version's folder",
                                 "Copy the file itself there.")
            size = path.stat().st_size
            if size > limit:
                raise ModelError(label, f"{name} has {size} bytes; the limit is {limit}", "Deploy a smaller one.")
            contents.append(path.read_bytes())
        except FileNotFoundError:
            raise ModelError(label, f"{name} is missing", f"A version's folder holds {MODEL_FILE} and {DESCRIPTION_FILE}."
                             ) from None
        except OSError as error:
            raise ModelError(label, f"{name} cannot be read: {error.strerror}") from error
    return package(found.name, found.version, contents[0], contents[1], f"{label}/{DESCRIPTION_FILE}")


def describe(source: Package) -> Description:
    """Reads a package's ``model.yaml``. Raises ModelError with every problem, by file, line and column, as its cause."""
    problems = Problems()
    try:
        description = _describe(source, problems)
        problems.refuse_if_any()
    except ProgramError as error:
        told = "\n".join(str(problem) for problem in error.problems).rstrip(".")
        count = len(error.problems)
        raise ModelError(source.label, f"{DESCRIPTION_FILE} has {count} problem{'s' if count > 1 else ''}:\n{told}"
                         ) from error
    assert description is not None
    return description


# --- model.yaml -----------------------------------------------------------------------------------------------


def _describe(source: Package, problems: Problems) -> Description | None:
    document = Document.decode(source.file, source.description, problems)
    if document is None:
        return None
    roots = list(document.nodes(problems))
    if len(roots) != 1:
        if not len(problems):
            problems.add(Where(source.file, 1, 1), f"A description is one YAML document; here are {len(roots)}.",
                         "It has at least the key inputs.")
        return None
    reader = Reader(document, problems)
    table = reader.table(roots[0], "a model's description", _KEYS)
    if table is None:
        return None
    value, name, selected = _output(reader, table.get("output"))
    platt, isotonic = _calibration(reader, table.get("calibration"))
    inputs = _inputs(reader, table)
    bounds = (-math.inf, math.inf) if value else (0.0, 1.0)
    fallback = table.get("fallback")
    budget = table.get("budget_ms")
    tolerance = table.get("tolerance")
    trained_on = table.get("trained_on")
    budget_ms = reader.number(budget, "budget_ms", 0.01, BUDGET_MS) if budget is not None else None
    within = reader.number(tolerance, "tolerance", 0.0, 1.0) if tolerance is not None else None
    return Description(
        inputs=inputs,
        scope=_scope(reader, table.get("scope")),
        output=name,
        selected=selected,
        value=value,
        platt=platt,
        isotonic=isotonic,
        fallback=reader.number(fallback, "fallback", *bounds) if fallback is not None else None,
        budget_ms=20.0 if budget_ms is None else budget_ms,
        tolerance=1e-4 if within is None else within,
        golden=_golden(reader, table.get("golden"), inputs),
        trained_on=(reader.text(trained_on, "trained_on") or "") if trained_on is not None else "",
        where=table.where,
    )


def _scope(reader: Reader, node: Node | None) -> Scope:
    if node is None:
        return Scope.CUSTOMER
    text = reader.known(node, "scope", [scope.value for scope in Scope])
    return Scope(text) if text is not None else Scope.CUSTOMER


def _inputs(reader: Reader, table: Table) -> dict[str, tuple[Column, ...]]:
    node = table.get("inputs")
    if node is None:
        reader.problem(table.node, "The description has no inputs.",
                       "Name every input of the model file and the expressions that fill its columns.")
        return {}
    names = reader.table(node, "inputs")
    inputs: dict[str, tuple[Column, ...]] = {}
    if names is None:
        return inputs
    total = 0
    for name, key, value in names.items():
        columns = _columns(reader, value, name)
        if not columns:
            reader.problem(key, f"Input '{name}' has no columns.", "Give an expression, such as customer.age, or a list of them.")
        total += len(columns)
        inputs[name] = columns
    if len(inputs) > limits.MODEL_INPUTS or total > limits.MODEL_INPUTS * 4:
        reader.problem(node, f"The description binds {total} columns of {len(inputs)} inputs; the limits are "
                             f"{limits.MODEL_INPUTS * 4} and {limits.MODEL_INPUTS}.")
    elif not inputs:
        reader.problem(node, "The description has no inputs.", "Name every input of the model file.")
    return inputs


def _columns(reader: Reader, node: Node, name: str) -> tuple[Column, ...]:
    shared: float | str | None = None
    if isinstance(node, MappingNode):
        table = reader.table(node, f"input '{name}'", ("columns", "missing"))
        if table is None:
            return ()
        missing = table.get("missing")
        shared = _cell(reader, missing, "missing") if missing is not None else None
        listed = table.get("columns")
        if listed is None:
            reader.problem(node, f"Input '{name}' has no columns.", "Write columns: [customer.age, ...].")
            return ()
        node = listed
    items = list(node.value) if isinstance(node, SequenceNode) else [node]
    columns = [_column(reader, item, name, shared) for item in items]
    return tuple(column for column in columns if column is not None)


def _column(reader: Reader, node: Node, name: str, shared: float | str | None) -> Column | None:
    missing = shared
    if isinstance(node, MappingNode):
        table = reader.table(node, f"a column of '{name}'", ("value", "missing"))
        if table is None:
            return None
        own = table.get("missing")
        if own is not None:
            missing = _cell(reader, own, "missing")
        value = table.get("value")
        if value is None:
            reader.problem(node, f"A column of '{name}' has no value.", "Write {value: customer.age, missing: 0}.")
            return None
        node = value
    text = reader.text(node, f"A column of '{name}'")
    if text is None:
        return None
    if not text.strip():
        reader.problem(node, f"A column of '{name}' is empty.", "Give an expression, such as customer.age.")
        return None
    if len(text.encode()) > limits.EXPRESSION_BYTES:
        reader.problem(node, f"The expression has {len(text.encode())} bytes; the limit is {limits.EXPRESSION_BYTES}.")
        return None
    return Column(text, reader.where(node), missing)


def _cell(reader: Reader, node: Node, what: str) -> float | str | None:
    """A number, or a text where quoted or not a number; ``nan`` is the number that trees take for missing."""
    text = reader.text(node, what)
    if text is None:
        return None
    quoted = isinstance(node, ScalarNode) and bool(node.style)
    if quoted:
        return text
    if text.lower() in ("nan", ".nan"):
        return math.nan
    if text in ("true", "false"):
        return float(text == "true")
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def _output(reader: Reader, node: Node | None) -> tuple[bool, str, int | str | None]:
    """Whether any number is a score, the output's name, the column or key."""
    if node is None:
        return False, "", None
    if isinstance(node, ScalarNode):
        return False, reader.text(node, "output") or "", None
    table = reader.table(node, "output", ("name", "class", "kind"))
    if table is None:
        return False, "", None
    named = table.get("name")
    chosen = table.get("class")
    kind = table.get("kind")
    told = reader.known(kind, "kind of output", ("propensity", "value")) if kind is not None else None
    selected: int | str | None = None
    if chosen is not None:
        text = reader.text(chosen, "output.class")
        if text is not None:
            plain = isinstance(chosen, ScalarNode) and not chosen.style
            selected = int(text) if plain and re.fullmatch(r"-?[0-9]{1,18}", text) else text
    return told == "value", (reader.text(named, "output.name") or "") if named is not None else "", selected


def _calibration(reader: Reader, node: Node | None) -> tuple[tuple[float, float] | None, tuple[tuple[float, float], ...]]:
    if node is None or (isinstance(node, ScalarNode) and node.value == "none"):
        return None, ()
    table = reader.table(node, "calibration", ("platt", "isotonic"))
    if table is None:
        return None, ()
    platt, isotonic = table.get("platt"), table.get("isotonic")
    if (platt is None) == (isotonic is None):
        reader.problem(node, "A calibration is either platt or isotonic.", "Leave calibration out for none.")
        return None, ()
    if platt is not None:
        numbers = reader.table(platt, "platt", ("a", "b"))
        if numbers is None:
            return None, ()
        pair = []
        for key in ("a", "b"):
            number = numbers.get(key)
            if number is None:
                reader.problem(platt, f"platt has no {key}.", "It is 1 / (1 + exp(a * score + b)).")
                return None, ()
            pair.append(reader.number(number, key))
        a, b = pair
        return (a, b) if a is not None and b is not None else None, ()
    assert isotonic is not None
    return None, _curve(reader, isotonic)


def _curve(reader: Reader, node: Node) -> tuple[tuple[float, float], ...]:
    points: list[tuple[float, float]] = []
    for item in reader.items(node, "isotonic"):
        if not isinstance(item, SequenceNode) or len(item.value) != 2:
            reader.problem(item, "A point of isotonic is a list of a score and a propensity.", "Write [0.4, 0.2].")
            return ()
        x, y = reader.number(item.value[0], "a score"), reader.number(item.value[1], "a propensity")
        if x is None or y is None:
            return ()
        if points and not (x > points[-1][0] and y >= points[-1][1]):
            reader.problem(item, f"The point ({x:g}, {y:g}) does not rise above the one before it.",
                           "Scores ascend strictly, propensities never fall.")
            return ()
        points.append((x, y))
    if len(points) < 2:
        reader.problem(node, "A curve needs two points at least.")
        return ()
    return tuple(points)


def _golden(reader: Reader, node: Node | None, inputs: Mapping[str, tuple[Column, ...]]) -> tuple[Golden, ...]:
    rows: list[Golden] = []
    items = reader.items(node, "golden")
    if len(items) > GOLDEN_ROWS:
        reader.problem(items[GOLDEN_ROWS], f"There are {len(items)} golden rows; the limit is {GOLDEN_ROWS}.")
        return ()
    for item in items:
        table = reader.table(item, "a golden row", ("inputs", "expect"))
        if table is None:
            continue
        expect, given = table.get("expect"), table.get("inputs")
        if expect is None or given is None:
            reader.problem(item, f"The golden row has no {'expect' if expect is None else 'inputs'}.",
                           "Write {inputs: {age: 35}, expect: 0.31}.")
            continue
        number = reader.number(expect, "expect")
        names = reader.table(given, "the golden row's inputs", inputs)
        if names is None or number is None:
            continue
        cells: dict[str, tuple[float | str, ...]] = {}
        for name, key, value in names.items():
            parts = list(value.value) if isinstance(value, SequenceNode) else [value]
            read = [_cell(reader, part, f"'{name}'") for part in parts]
            if len(read) != len(inputs[name]):
                reader.problem(key, f"The golden row has {len(read)} cells for '{name}', which has {len(inputs[name])} columns.")
            cells[name] = tuple(cell for cell in read if cell is not None)
        for name in inputs:
            if name not in cells:
                reader.problem(given, f"The golden row has nothing for input '{name}'.", "Give every input.")
        rows.append(Golden(cells, number, table.where))
    return tuple(rows)
