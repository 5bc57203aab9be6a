"""Reads what program.yaml defines by expressions: segments, derived values, bands.

A segment and a derived value are expanded wherever they are named, so they are of the moment in every decision and take no
place in the store. A band is read as an input: the kernel finds its part by edges that the engine keeps (`core.sweep`).
All three may name each other, in any order but a circle.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from core import limits
from core.errors import EngineFault
from core.expressions import Expression, InputKind
from core.expressions.check import Unlike, choose, measure
from core.programs.checker import BANDED, CONDITION, DEFINED, DERIVED, Checker
from core.programs.document import Node, Scalar, Sequence
from core.programs.program import Band
from core.programs.reading import Reader, Table, is_empty

# The root that a definition is read under, and the key that it stands under.
_KEYS: Final = {"segment": "segments", "derived": "derived", "band": "bands"}
# A band is made over the whole store, where no request is; and bands of bands would need several walks over it.
_NOT_BANDED: Final = frozenset({InputKind.FACT, InputKind.CHANNEL, InputKind.CONSENT, InputKind.BAND})


@dataclass(frozen=True, slots=True)
class _Definition:
    """A segment, derived value or band as written: its cases (condition or None, value), of which most have one."""

    node: Node
    cases: tuple[tuple[Scalar | None, Scalar], ...]
    parts: int = 0

    def expressions(self) -> Iterator[Scalar]:
        for when, then in self.cases:
            if when is not None:
                yield when
            yield then


@dataclass(frozen=True, slots=True)
class Defined:
    """The definitions found right, in declared order."""

    segments: dict[str, Expression]
    derived: dict[str, Expression]
    bands: dict[str, Band]


def _scalar(node: Node) -> Scalar:
    """A node that has been read as a text."""
    if not isinstance(node, Scalar):
        raise EngineFault("A text was read from something else.")
    return node


def read_definitions(table: Table, reader: Reader, checker: Checker) -> Defined:
    """Segments, derived values and bands may use each other, in any order but a circle: each is checked after those
    that it names."""
    definitions = _read(table, reader)
    uses: dict[tuple[str, str], list[tuple[str, str]]] = {}
    misspelt: set[tuple[str, str]] = set()
    for key, found in definitions.items():
        named = dict.fromkeys(use for each in found.expressions() for use in DEFINED.findall(reader.document.value(each)))
        uses[key] = [each for each in named if each in definitions]
        if len(uses[key]) < len(named):
            misspelt.add(key)
    defined = Defined({}, {}, {})
    done: set[tuple[str, str]] = set()
    # Those that name what is not there come last, when all that they may have meant can be offered.
    for start in sorted(definitions, key=lambda key: key in misspelt):
        # Iterative depth-first walk: `path` is the chain of definitions that wait for the last one.
        path: list[tuple[tuple[str, str], Iterator[tuple[str, str]]]] = (
            [] if start in done else [(start, iter(uses[start]))]
        )
        while path:
            key, rest = path[-1]
            waiting = [each for each, _ in path]
            following = next((each for each in rest if each not in done), None)
            if following is None:
                done.add(key)
                path.pop()
                _define(reader, key, definitions[key], checker, defined)
            elif following in waiting:
                circle = [*waiting[waiting.index(following):], following]
                alike = all(root == "segment" for root, _ in circle)
                shown = " -> ".join(name if alike else f"{root}.{name}" for root, name in circle)
                what = "segments are" if alike else "are"
                reader.problem(definitions[key].node, f"These {what} defined by each other: {shown}.",
                               "Write one of them without the others.")
                for each in waiting:
                    checker.define(*each, None)
                done.update(waiting)
                path.clear()
            else:
                path.append((following, iter(uses[following])))
    return Defined(
        {name: defined.segments[name] for root, name in definitions if root == "segment" and name in defined.segments},
        {name: defined.derived[name] for root, name in definitions if root == "derived" and name in defined.derived},
        {name: defined.bands[name] for root, name in definitions if root == "band" and name in defined.bands},
    )


def _read(table: Table, reader: Reader) -> dict[tuple[str, str], _Definition]:
    """What the three keys hold, each read as far as its expressions."""
    definitions: dict[tuple[str, str], _Definition] = {}
    for root, key in _KEYS.items():
        noun = "derived value" if root == "derived" else root
        node = table.get(key)
        listed = None if node is None else reader.table(node, key)
        for _, at, value in () if listed is None else listed.items():
            name = reader.name(at, f"the name of a {noun}")
            if name is None:
                continue
            if is_empty(value):
                what = {"segment": "condition", "derived": "expression", "band": "value"}[root]
                reader.problem(at, f"{noun.capitalize()} '{name}' has no {what}.", "Write one after its name.")
                continue
            found: _Definition | None
            if root == "band":
                found = _band(reader, at, value, name)
            elif root == "derived" and isinstance(value, Sequence):
                found = _cases(reader, value, name)
            else:
                found = None
                if reader.text(value, f"{noun} '{name}'") is not None and isinstance(value, Scalar):
                    found = _Definition(value, ((None, value),))
            if found is not None:
                definitions[root, name] = found
    bands = [key for key in definitions if key[0] == "band"]
    if len(bands) > limits.BANDS:
        reader.problem(definitions[bands[limits.BANDS]].node, f"The program has {len(bands)} bands; the limit is "
                                                               f"{limits.BANDS}.", "Keep those that something reads.")
    return definitions


def _cases(reader: Reader, node: Sequence, name: str) -> _Definition | None:
    cases: list[tuple[Scalar | None, Scalar]] = []
    items = reader.items(node, f"derived value '{name}'")
    for position, item in enumerate(items, 1):
        case = reader.table(item, f"a case of derived value '{name}'", ("when", "then"))
        if case is None:
            return None
        when, then = case.get("when"), case.get("then")
        if then is None:
            reader.problem(item, f"A case of derived value '{name}' has no value.", "Add then: and an expression.")
            return None
        if position == len(items) and when is not None:
            reader.problem(item, f"The last case of derived value '{name}' has a condition, and nothing says what holds "
                                 "when no case does.", "Add a last one: - {then: ...}.")
            return None
        if position < len(items) and when is None:
            reader.problem(item, f"A case of derived value '{name}' has no condition, so those after it never hold.",
                           "Add when: and a condition, or make it the last.")
            return None
        texts = [each for each in (when, then) if each is not None]
        if any(reader.text(each, "A case's expression") is None for each in texts):
            return None
        cases.append((when if isinstance(when, Scalar) else None, _scalar(then)))
    if not cases:
        reader.problem(node, f"Derived value '{name}' has no case.",
                       "Write an expression, or cases: - {when: ..., then: ...}.")
        return None
    return _Definition(node, tuple(cases))


def _band(reader: Reader, at: Node, node: Node, name: str) -> _Definition | None:
    band = reader.table(node, f"band '{name}'", ("of", "parts"))
    if band is None:
        return None
    of, written = band.get("of"), band.get("parts")
    if of is None or written is None:
        missing = "value" if of is None else "number of parts"
        reader.problem(at, f"Band '{name}' has no {missing}.", "Write {of: events.purchase.count_365d, parts: 5}.")
        return None
    parts = reader.integer(written, "parts", 2, limits.BAND_PARTS)
    if reader.text(of, "of") is None or parts is None:
        return None
    return _Definition(of, ((None, _scalar(of)),), parts)


def _define(reader: Reader, key: tuple[str, str], found: _Definition, checker: Checker, defined: Defined) -> None:
    """Checks one definition, and makes it readable to those that follow."""
    root, name = key
    if root == "segment":
        made = checker.expression(reader, found.cases[0][1], CONDITION)
        if made is not None:
            defined.segments[name] = made
    elif root == "derived":
        made = _derived(reader, found, checker)
        if made is not None:
            defined.derived[name] = made
    else:
        made = checker.expression(reader, found.cases[0][1], BANDED)
        inputs = () if made is None else made.inputs
        wrong = next((read for read in inputs if read.kind in _NOT_BANDED), None)
        if wrong is not None:
            why = "another band" if wrong.kind is InputKind.BAND else "what only a request has"
            reader.problem(found.node, f"Band '{name}' reads {wrong.path}: {why}.",
                           "Its edges are made over all customers: read customer., events., aggregate., derived. or now.")
            made = None
        if made is not None:
            defined.bands[name] = Band(name, made, found.parts)
    checker.define(root, name, made)


def _derived(reader: Reader, found: _Definition, checker: Checker) -> Expression | None:
    if found.cases[0][0] is None and len(found.cases) == 1:
        return checker.expression(reader, found.cases[0][1], DERIVED)
    checked = [
        (None if when is None else checker.expression(reader, when, CONDITION), checker.expression(reader, then, DERIVED))
        for when, then in found.cases
    ]
    cases = [(when, then) for when, then in checked if when is not None and then is not None]
    otherwise = checked[-1][1]
    if otherwise is None or len(cases) < len(checked) - 1:
        return None
    try:
        made = choose(cases, otherwise)
    except Unlike as error:
        reader.problem(found.cases[error.position][1], error.message, "All cases of a derived value have one type.")
        return None
    depth, cost = measure(made.root)
    if depth > limits.EXPRESSION_DEPTH or cost > limits.EXPRESSION_COST:
        reader.problem(found.node, f"The cases together take {cost} steps and are nested {depth} deep; the limits are "
                                   f"{limits.EXPRESSION_COST} and {limits.EXPRESSION_DEPTH}.", "Divide them into several.")
        return None
    return made
