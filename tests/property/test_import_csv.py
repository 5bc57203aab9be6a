"""Splitting CSV: whatever Python's csv module writes is read back, in blocks and tables of any size."""

from __future__ import annotations

import csv
import io
import itertools
import struct

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.hub.causes import CAUSES
from core.importing.column import KINDS, Column
from core.importing.table import Table

# Nothing here is about time, and a busy machine is no failure.
RELAXED = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])

CELL = st.text(st.sampled_from([*'ab,;"\n\té€', "\U0001f600"]), max_size=8)


def split(
    data: bytes, columns: int, block: int, capacity: int, delimiter: str = ",", quote: str = '"'
) -> tuple[list[tuple[int, list[bytes]]], list[tuple[int, str]]]:
    """(line, cells) of every row, and (line, cause) of every rejected one."""
    table = Table(range(columns), columns, capacity, delimiter, quote)
    readers = [Column(KINDS["string"], place, [place], capacity) for place in range(columns)]
    rows: list[tuple[int, list[bytes]]] = []
    rejects: list[tuple[int, str]] = []
    position = 0
    while True:
        piece = data[position : position + block]
        position += len(piece)
        final = position >= len(data)
        table.fill(piece)
        more = True
        while more:
            more = table.read(final)
            texts = []
            for reader in readers:
                reader.run(table)
            for reader in readers:
                ends, text = reader.take(table)
                stops = [0, *(end for (end,) in struct.iter_unpack("<I", ends))]
                texts.append([text[begin:end] for begin, end in itertools.pairwise(stops)])
            rejects += [(line, CAUSES[cause][0]) for line, _, cause, _, _ in table.taken()]
            lines = table.good_lines()
            rows += [(line, [column[row] for column in texts]) for row, line in enumerate(lines)]
        if final:
            return rows, sorted(rejects)


@RELAXED
@given(
    st.integers(1, 4).flatmap(
        lambda columns: st.lists(st.lists(CELL, min_size=columns, max_size=columns), min_size=1, max_size=8)
    ),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    st.booleans(),
    st.integers(1, 60),
    st.integers(1, 5),
)
def test_what_csv_writes_is_read_back(
    table: list[list[str]], end: str, delimiter: str, quoting: int, ended: bool, block: int, capacity: int
) -> None:
    file = io.StringIO()
    csv.writer(file, lineterminator=end, delimiter=delimiter, quoting=quoting).writerows(table)  # type: ignore[arg-type]
    text = file.getvalue() if ended else file.getvalue().removesuffix(end)
    rows, rejects = split(text.encode(), len(table[0]), block, capacity, delimiter)
    assert rejects == []
    # A cell of nothing but blanks is missing.
    kept = [[cell if cell.strip(" \t") else "" for cell in cells] for cells in table]
    assert [[cell.decode() for cell in cells] for _, cells in rows] == kept
    lines = [line for line, _ in rows]
    counted, expected = 1, []
    for row in table:
        expected.append(counted)
        counted += 1 + sum(cell.count("\n") for cell in row)
    assert lines == expected


@RELAXED
@given(
    st.text(st.sampled_from([*'ab,"\n\r\0', "é"]), max_size=80),
    st.integers(1, 3), st.integers(1, 40), st.integers(1, 5),
)
def test_the_outcome_does_not_depend_on_blocks_and_every_line_is_accounted_for(
    text: str, columns: int, block: int, capacity: int
) -> None:
    data = text.encode()
    whole = split(data, columns, len(data) + 1, 1000)
    assert split(data, columns, block, capacity) == whole
    rows, rejects = whole
    noted = [line for line, _ in rows] + [line for line, _ in rejects]
    assert all(1 <= line <= text.count("\n") + 1 for line in noted)
    # A first line that is not empty is a row or a reject; nothing is dropped without a word.
    if text.split("\n", 1)[0].strip("\r"):
        assert 1 in noted
