"""Figures for people: tables in plain text. The same figures go to JSON unrounded."""

from __future__ import annotations

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns aligned, the first to the left, numbers to the right; floats with three significant digits at least."""
    texts = [list(header), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(header))]
    lines = []
    for row in texts:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def significant(number: float) -> str:
    """Three significant digits at least; two of what is under a tenth."""
    size = abs(number)
    if size >= 10:
        return f"{number:,.0f}" if size >= 100 else f"{number:.1f}"
    return f"{number:.2f}" if size >= 0.1 or not size else f"{number:.2g}"


def _text(cell: object) -> str:
    if isinstance(cell, float):
        return significant(cell)
    return f"{cell:,}" if isinstance(cell, int) else str(cell)
