"""Type-checks the expressions of a program's files, each distinct text once, and leads problems back into the YAML.

A large program repeats itself: a hundred thousand offers share a few thousand conditions. The cache is by text,
expected types and scope, so a repeated condition costs one dictionary look-up, and equal expressions are one object,
which the plan compiler profits from. An expression that reads ``offer.`` depends on its offer and is cached for that
offer's field values only.

The checker places problems relative to the expression's own text (line 1, column 1); `core.programs.document` knows
where each character of that text stands in the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from core.errors import Problem, ProgramError, Where
from core.expressions import Expression, Kind
from core.expressions.check import Scope, check
from core.programs.document import Scalar
from core.programs.reading import Reader
from core.schema import Schema

CONDITION: Final = frozenset({Kind.BOOL})
NUMBER: Final = frozenset({Kind.INT, Kind.DOUBLE, Kind.MONEY})
# What an arbitration reckons with; the checker makes int and money plain doubles where only these are wanted.
REAL: Final = frozenset({Kind.DOUBLE})
FEATURE: Final = frozenset({Kind.BOOL, Kind.INT, Kind.DOUBLE, Kind.MONEY})
SHOWN: Final = frozenset({Kind.BOOL, Kind.INT, Kind.DOUBLE, Kind.MONEY, Kind.STRING, Kind.TIMESTAMP})

# What a derived value may be: anything but a set.
DERIVED: Final = frozenset(Kind) - {Kind.SET, Kind.LIST}
# What has an order and a distance, and so quantiles.
BANDED: Final = frozenset({Kind.INT, Kind.DOUBLE, Kind.MONEY, Kind.TIMESTAMP, Kind.DURATION})

# A text's use of what program.yaml defines by expressions: its root and its name.
DEFINED: Final = re.compile(r"\b(segment|derived|band)\s*\.\s*([A-Za-z_][A-Za-z0-9_]*)")
OfferFields = Mapping[str, float | str | bool | int]
_RELATIVE: Final = Where("", 1, 1)
_NO_FIELDS: OfferFields = MappingProxyType({})


class Checker:
    """The expressions of one program being checked."""

    def __init__(self, schema: Schema, channels: tuple[str, ...]) -> None:
        self._schema = schema
        self._channels = channels
        self._segments: dict[str, Expression] = {}
        self._derived: dict[str, Expression] = {}
        self._bands: dict[str, bool] = {}
        self._broken: set[tuple[str, str]] = set()
        self._checked: dict[object, Expression | tuple[Problem, ...]] = {}
        self._plain = self._formula = Scope(schema)
        self._set_scopes()

    def _set_scopes(self) -> None:
        # A scope remembers what it resolved, so it is made anew whenever a definition joins.
        segments, derived, bands = dict(self._segments), dict(self._derived), dict(self._bands)
        self._plain = Scope(self._schema, segments=segments, channels=self._channels, derived=derived, bands=bands)
        self._formula = Scope(
            self._schema, segments=segments, channels=self._channels, formula_terms=True, derived=derived, bands=bands
        )

    def define(self, root: str, name: str, expression: Expression | None) -> None:
        """Makes ``<root>.<name>`` readable from here on; None for one whose own problems have been noted."""
        if expression is None:
            self._broken.add((root, name))
            return
        if root == "band":
            self._bands[name] = any(read.protected for read in expression.inputs)
        else:
            (self._segments if root == "segment" else self._derived)[name] = expression
        self._set_scopes()

    def expression(self, reader: Reader, node: Scalar, expect: frozenset[Kind], *, fields: OfferFields | None = None,
                   formula: bool = False, text: str | None = None, offset: int = 0) -> Expression | None:
        """The checked expression of a scalar, or of the piece ``text`` of it that begins at ``offset``.

        ``fields`` are the offer's; None outside of offers, where ``offer.`` cannot be read. Problems are noted and
        give None.
        """
        written = reader.document.value(node)
        source = written if text is None else text
        if self._broken and not self._broken.isdisjoint(DEFINED.findall(source)):
            return None
        key: object
        own = fields is not None and "offer." in source
        if own:
            key = (source, expect, tuple((fields or _NO_FIELDS).items()))
        elif formula:
            key = (source, expect, True)
        else:
            key = (source, expect)
        found = self._checked.get(key)
        if found is None:
            shared = self._formula if formula else self._plain
            scope = shared.with_offer(fields) if own else shared
            found = self._checked[key] = _check(source, scope, expect)
        if isinstance(found, Expression):
            return found
        for problem in found:
            inside = offset + offset_of(source, problem.where)
            reader.problems.add(reader.document.where_inside(node, inside), problem.message, problem.hint)
        return None


def _check(text: str, scope: Scope, expect: frozenset[Kind]) -> Expression | tuple[Problem, ...]:
    try:
        return check(text, scope, _RELATIVE, expect)
    except ProgramError as error:
        return error.problems


def offset_of(text: str, where: Where) -> int:
    """The index in ``text`` of a place told relative to its beginning."""
    lines = re.split("\r\n|[\n\r]", text)
    before = sum(len(line) + 1 for line in lines[: where.line - 1])
    return max(0, min(before + where.column - 1, len(text) - 1))
