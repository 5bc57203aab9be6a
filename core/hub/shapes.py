"""How a column's values lie in an import's mutation, by the schema's type, and how they are looked at one by one.

`b`: a byte, 0 missing, 1 false, 2 true. `e`: a u16 label's code, 0 missing. `i`: an i64, the lowest missing. `f`: a binary64, NaN
missing. `t`: a u32, where the row's text ends among the texts, no bytes missing. `s`: as `t`, the text in the heap form of a set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from core.errors import EngineFault
from core.hub.record import members

SHAPES: Final[Mapping[str, str]] = {
    "bool": "b", "enum": "e", "int": "i", "money": "i", "timestamp": "i", "double": "f", "string": "t", "set": "s",
}
WIDTHS: Final[Mapping[str, int]] = {"b": 1, "e": 2, "i": 8, "f": 8, "t": 4, "s": 4}

_LOWEST: Final = int(np.iinfo(np.int64).min)


def cells_of(shape: str, values: bytes, texts: bytes, *, text: bool = True) -> list[Any]:
    """A column's cells as Python values as a record holds them, None where missing; texts as bytes unless ``text``."""
    if shape == "i":
        return [None if each == _LOWEST else each for each in np.frombuffer(values, np.int64).tolist()]
    if shape == "f":
        return [None if each != each else each for each in np.frombuffer(values, np.float64).tolist()]  # noqa: PLR0124
    if shape == "b":
        return [None if each == 0 else each == 2 for each in values]
    if shape not in "ts":
        return [each or None for each in np.frombuffer(values, np.uint16).tolist()]
    found: list[Any] = []
    start = 0
    for end in np.frombuffer(values, np.uint32).tolist():
        cell = texts[start:end]
        start = end
        if not cell and text:
            found.append(None)
        elif shape == "s":
            found.append(members(cell))
        else:
            found.append(cell.decode() if text else cell)
    return found


def absent(shape: str, rows: int) -> bytes:
    """A column in which every value is missing."""
    if shape == "i":
        return np.full(rows, _LOWEST).tobytes()
    if shape == "f":
        return np.full(rows, np.nan).tobytes()
    return bytes(rows * WIDTHS[shape])


def check_ends(rows: int, ends: bytes, texts: bytes) -> None:
    """Raise EngineFault unless ``ends`` holds one u32 a row, never falling, and the last is the length of ``texts``."""
    fine = len(ends) == 4 * rows
    if fine:
        bounds = np.frombuffer(ends, np.uint32)
        fine = bool((bounds[1:] >= bounds[:-1]).all()) and (int(bounds[-1]) if rows else 0) == len(texts)
    if not fine:
        raise EngineFault("The texts of an imported column do not fit its rows.")
