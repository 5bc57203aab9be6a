"""The tables of a program, as data: what `core.programs.plan` lays out and the kernel's `Plan` binds to a store.

Apart from the compiler so that a restart, which finds them kept beside the checked program, loads neither it nor numpy. An
array is a numpy array where it was compiled and a flat, typed view of kept bytes where it was restored; the kernel takes
its address, its length, and single numbers, which both give.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.expressions import Input
from core.expressions.bytecode import Code
from core.programs.model_binding import ModelBinding
from core.programs.program import Price, Program

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    U8 = NDArray[np.uint8]
    U32 = NDArray[np.uint32]
    U64 = NDArray[np.uint64]
    I32 = NDArray[np.int32]
    I64 = NDArray[np.int64]
    F64 = NDArray[np.float64]

NEVER = -1


@dataclass(slots=True)
class Thresholds:
    """One side of the intervals on one input: offers fail for value x when their key is below x (after ``flip``).

    ``flip`` negates (double) or complements (int) both keys and value, which turns lower bounds into upper ones.
    Every ``step`` entries the kernel keeps a bitmap that passes all but those before.
    """

    slot: int
    is_double: bool
    flip: bool
    step: int
    int_keys: I64
    double_keys: F64
    offers: U32


@dataclass(slots=True)
class Texts:
    """Allowed texts on one input: ``passes[i]`` for the i-th text in byte order, ``passes[-1]`` for any other text.

    For a bool input there are no texts: ``passes`` holds false, true.
    """

    slot: int
    is_bool: bool
    texts: list[bytes]
    passes: U64


@dataclass(slots=True)
class Presence:
    """Offers that need an input to be present, and offers that need it absent, as the bitmaps that pass."""

    slot: int
    passes_missing: U64
    passes_present: U64 | None


@dataclass(slots=True)
class ScoreTable:
    """Scorecards over one list of features. ``weights`` is rows x width, width a multiple of LANES."""

    features: list[int]  # expression numbers
    missing: float
    width: int
    weights: F64
    intercepts: F64


@dataclass(slots=True)
class ModelTable:
    """Offers scored by one model. A column is one expression, or one for each offer where it reads offer fields."""

    model: str
    binding: ModelBinding
    per_customer: bool
    columns: list[list[int]]  # for each column: one expression number, or one a row
    column_inputs: list[tuple[int, int]]  # for each column: input of the model, position inside it
    rows: int


@dataclass(slots=True)
class Tables:
    """Everything the kernel needs of a program. Arrays are C-contiguous; offers are numbered by name order."""

    program: Program
    inputs: list[Input]
    code: Code
    words: int
    offer_names: list[str]
    group_names: list[str]
    group_of: U32
    possible: U64  # offers that could be returned at all: not stopped, no contradiction
    placement_names: list[str]
    placement_masks: U64  # placements x words
    treatment_of: I32  # placements x offers, NEVER where there is none
    thresholds: list[Thresholds]
    texts: list[Texts]
    presences: list[Presence]
    conditions: I32  # expression number of each condition
    residual_starts: U32  # offers + 1
    residuals: U32  # condition numbers
    rules: list[tuple[str, int]]  # id, expression number
    group_rules: list[list[tuple[int, int]]]  # for each group: (layer, rule number), by layer, then declared order
    offer_rules: list[list[tuple[int, int]]]
    score_tables: list[ScoreTable]
    model_tables: list[ModelTable]
    propensity_kind: U8  # 0 constant, 1 scorecard, 2 model
    propensity_table: U32
    propensity_row: U32
    propensity_constant: F64
    value_constant: F64
    value_expression: I32
    formula: int
    context_fixed: F64
    lever_fixed: F64
    weight_starts: U32  # offers + 1; only offers with a conditional weight have entries
    weight_percents: F64
    weight_conditions: I32  # NEVER: always
    weight_is_lever: U8
    price_index: I32
    prices: list[Price]
    price_adjustments: list[list[tuple[int, int, int]]]  # condition or NEVER, percent in 1/10000, minor units
    treatments: list[list[tuple[str, list[bytes | int]]]]
    bands: list[tuple[int, int]]  # for each band that is read: its slot, and the number of the expression it is of
    asked: list[int]  # numbers of expressions asked for beside the program's own, for walks over the store
