"""Reads a ``model.yaml``: the keys that `core.inference.package` lists, every problem with its file, line and column.

Apart from the package because it needs the readers of YAML, which a process that starts without models never loads.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

from core import limits
from core.errors import ModelError, ProgramError, Where
from core.inference.package import (
    BUDGET_MS,
    DESCRIPTION_FILE,
    GOLDEN_ROWS,
    Column,
    Description,
    Golden,
    Package,
    Scope,
)
from core.programs.document import Document, Node, Problems
from core.programs.document import Mapping as MappingNode
from core.programs.document import Scalar as ScalarNode
from core.programs.document import Sequence as SequenceNode
from core.programs.reading import Reader, Table

_KEYS: Final = ("scope", "inputs", "output", "calibration", "fallback", "budget_ms", "tolerance", "golden", "trained_on")


def describe(source: Package) -> Description:
    """Reads a package's ``model.yaml``. Raises ModelError with every problem, by file, line and column, as its cause."""
    problems = Problems()
    try:
        description = _read(source, problems)
        problems.refuse_if_any()
    except ProgramError as error:
        told = "\n".join(str(problem) for problem in error.problems).rstrip(".")
        count = len(error.problems)
        raise ModelError(source.label, f"{DESCRIPTION_FILE} has {count} problem{'s' if count > 1 else ''}:\n{told}"
                         ) from error
    assert description is not None
    return description


def _read(source: Package, problems: Problems) -> Description | None:
    """The description of a package; None, or one that is not whole, when problems were noted."""
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
