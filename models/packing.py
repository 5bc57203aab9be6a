"""Writes a trained pipeline as a version folder: ``model.onnx``, and ``model.yaml`` with golden rows.

Golden rows are made up from ranges, never taken from the training data; what they expect is scikit-learn's own
answer, so a deployment checks the export and not only the file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# Cells of one row by input name.
Row = Mapping[str, Sequence[float | str]]


def data_folder() -> Path:
    """Where real data lies when there is any: RAPPORT_SHARED_DATA, or ../shared/data beside the repository."""
    told = os.environ.get("RAPPORT_SHARED_DATA")
    return Path(told) if told else Path(__file__).resolve().parents[2] / "shared" / "data"


def write(folder: Path, model: bytes, head: str, rows: Sequence[Row], expect: Callable[[Row], float]) -> None:
    """Writes a version folder. ``head`` is the description down to its golden rows."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [head.rstrip(), "golden:"]
    for row in rows:
        cells = ", ".join(f"{name}: {_cells(values)}" for name, values in row.items())
        lines.append(f"  - {{inputs: {{{cells}}}, expect: {expect(row):.6f}}}")
    (folder / "model.onnx").write_bytes(model)
    (folder / "model.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _cells(values: Sequence[float | str]) -> str:
    shown = [f'"{value}"' if isinstance(value, str) else f"{value:g}" for value in values]
    return shown[0] if len(shown) == 1 else f"[{', '.join(shown)}]"
