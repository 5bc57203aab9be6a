"""A model's version as it was sent or lies in its folder, and what its ``model.yaml`` says.

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

Columns are CEL texts in the program's scope; the plan compiler checks them, with their places in this file. Nothing here opens
a model file's insides.
"""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from core import limits
from core.errors import ModelError, Where
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

NAME: Final = re.compile(r"[a-z][a-z0-9_]*")


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
    if not NAME.fullmatch(name) or len(name) > limits.NAME_LENGTH:
        raise ModelError(name[:80], "this cannot be a model's name",
                         f"It begins with a letter: a to z, 0 to 9 and _, at most {limits.NAME_LENGTH} characters.")
