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
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from core import limits
from core.errors import ModelError, ProgramError, Where
from core.inference.tensor import TensorType
from core.programs.model_binding import Column as BoundColumn
from core.programs.model_binding import ModelBinding

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
    from core.inference import description as reading
    from core.programs.document import Problems

    problems = Problems()
    try:
        description = reading.read(source, problems)
        problems.refuse_if_any()
    except ProgramError as error:
        told = "\n".join(str(problem) for problem in error.problems).rstrip(".")
        count = len(error.problems)
        raise ModelError(source.label, f"{DESCRIPTION_FILE} has {count} problem{'s' if count > 1 else ''}:\n{told}"
                         ) from error
    assert description is not None
    return description
