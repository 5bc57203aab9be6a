"""How a model's inputs are bound to what is known: the part of ``model.yaml`` that a plan compiles.

Models are found and run by `core.inference`; a plan needs only which expressions fill which columns, and whether one row
serves all offers of a customer.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.errors import Where


@dataclass(frozen=True, slots=True)
class Column:
    """One column of one input. ``missing`` stands in for a missing value; None leaves the row unscored."""

    input: int  # position of the input among the model's inputs
    position: int  # column inside that input
    text: str  # CEL, in the program's scope
    where: Where  # of its first character in model.yaml
    missing: float | str | None = None


@dataclass(frozen=True, slots=True)
class ModelBinding:
    """The columns of a model in order; ``per_customer``: one row scores every offer that names the model."""

    columns: tuple[Column, ...]
    per_customer: bool
