"""Goal: where Rapport's expressions are CEL, they mean what Google's C++ implementation says.

Method: random texts in the common subset over present values, through the checker and the machine, and through
cel-expr-python. Left out on purpose, because the meaning differs and is documented: missing values, division of doubles by
zero, doubles so large that they give NaN (which fails), numbers of mixed types, money, and d and w as units of duration.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import Problem, ProgramError
from core.expressions import Expression, Kind, Literal, Type
from core.expressions.check import Scope, check
from core.schema import Field, Schema, ValueType
from tests.expression_world import WHERE, Program
from tests.oracle_expressions import FAILED, Present, Unknown

cel = pytest.importorskip("cel_expr_python.cel", reason="cel-expr-python is not installed")

_TYPES = {Kind.INT: ValueType.INT, Kind.DOUBLE: ValueType.DOUBLE, Kind.STRING: ValueType.STRING, Kind.BOOL: ValueType.BOOL,
          Kind.TIMESTAMP: ValueType.TIMESTAMP}  # fmt: skip
_NAMES = {Kind.INT: ("i", "j"), Kind.DOUBLE: ("x", "y"), Kind.STRING: ("s", "t"), Kind.BOOL: ("p", "q"),
          Kind.TIMESTAMP: ("u", "v")}  # fmt: skip
_GETTERS = ("getFullYear", "getMonth", "getDayOfMonth", "getDate", "getDayOfWeek", "getHours", "getMinutes")
_CEL = {Kind.INT: "INT", Kind.DOUBLE: "DOUBLE", Kind.STRING: "STRING", Kind.BOOL: "BOOL", Kind.TIMESTAMP: "TIMESTAMP"}
SCOPE = Scope(Schema(facts={name: Field(name, _TYPES[kind]) for kind, names in _NAMES.items() for name in names}))
ENVIRONMENT = cel.NewEnv(
    variables={f"facts.{name}": getattr(cel.Type, _CEL[kind]) for kind, names in _NAMES.items() for name in names}
)


def _text(chance: random.Random, kind: Kind, depth: int) -> str:
    if depth <= 1 or chance.random() < 0.15:
        return f"facts.{chance.choice(_NAMES[kind])}" if chance.random() < 0.7 else _literal(chance, kind)
    down = depth - 1

    def two(op: str, inner: Kind) -> str:
        return f"({_text(chance, inner, down)} {op} {_text(chance, inner, down)})"

    match kind:
        case Kind.BOOL:
            roll = chance.randint(0, 8)
            if roll <= 1:
                return two(chance.choice(("&&", "||")), Kind.BOOL)
            if roll == 2:
                return f"!{_text(chance, Kind.BOOL, down)}"
            if roll == 3:
                method = chance.choice(("startsWith", "endsWith", "contains"))
                return f"{_text(chance, Kind.STRING, down)}.{method}({_text(chance, Kind.STRING, down)})"
            if roll == 4:
                return (
                    f"({_text(chance, Kind.INT, down)} in [{', '.join(str(chance.randint(-5, 5)) for _ in range(3))}])"
                )
            if roll == 5:
                between = two("-", Kind.TIMESTAMP)
                return f"({between} < duration('{chance.randint(0, 99)}h'))"
            return two(
                chance.choice(("<", "<=", ">", ">=", "==", "!=")),
                chance.choice((Kind.INT, Kind.DOUBLE, Kind.STRING, Kind.TIMESTAMP)),
            )
        case Kind.INT:
            roll = chance.randint(0, 6)
            if roll == 0:
                return f"size({_text(chance, Kind.STRING, down)})"
            if roll == 1:
                return f"{_text(chance, Kind.TIMESTAMP, down)}.{chance.choice(_GETTERS)}()"
            if roll == 2:
                return f"({_text(chance, Kind.BOOL, down)} ? {_text(chance, Kind.INT, down)} : {_text(chance, Kind.INT, down)})"
            if roll == 3:
                return f"int({_text(chance, chance.choice((Kind.DOUBLE, Kind.TIMESTAMP)), down)})"
            return two(chance.choice(("+", "-", "*", "/", "%")), Kind.INT)
        case Kind.DOUBLE:
            if chance.random() < 0.2:
                return f"double({_text(chance, Kind.INT, down)})"
            return two(chance.choice(("+", "-", "*")), Kind.DOUBLE)
        case Kind.STRING:
            if chance.random() < 0.3:
                return f"string({_text(chance, chance.choice((Kind.INT, Kind.BOOL)), down)})"
            return two("+", Kind.STRING)
        case _:
            return (
                f"({_text(chance, Kind.TIMESTAMP, down)} {chance.choice('+-')} duration('{chance.randint(0, 5000)}m'))"
            )


def _literal(chance: random.Random, kind: Kind) -> str:
    match kind:
        case Kind.INT:
            return str(chance.choice((0, 1, 2, 7, 100, 2**31, 2**62, 2**63 - 1)))
        case Kind.DOUBLE:
            return chance.choice(("0.0", "0.5", "1.25e3", "3.0", "1e9", "0.1"))
        case Kind.STRING:
            return chance.choice(("''", "'a'", '"ab"', "'é'", "'a\\nb'", "r'a\\b'", "'\\u00e9'", "'𝄞'"))
        case Kind.BOOL:
            return chance.choice(("true", "false"))
    return chance.choice(("timestamp('2024-02-29T12:34:56Z')", "timestamp('1969-12-31T23:59:59+02:00')"))


def _value(chance: random.Random, kind: Kind) -> tuple[Present, Any]:
    """A value for the machine, and for CEL."""
    match kind:
        case Kind.INT:
            number = chance.choice((0, 1, -1, 3, 18, 2**62, 2**63 - 1, -(2**63), chance.randint(-50, 50)))
            return number, number
        case Kind.DOUBLE:
            real = chance.choice((0.0, 1.5, -2.25, 1e9, 1e-9, 0.1, 9.2e18, chance.uniform(-9, 9)))
            return real, real
        case Kind.STRING:
            text = chance.choice(("", "a", "ab", "abc", "é", "𝄞", "\uff5e", "Z"))
            return text, text
        case Kind.BOOL:
            truth = chance.random() < 0.5
            return truth, truth
    us = chance.choice((0, -1_000_000, 1_709_210_096_000_000, chance.randint(-(10**9), 4 * 10**9) * 1_000_000))
    return us, datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)


def _same(mine: Present, theirs: Any) -> bool:
    if isinstance(theirs, datetime):
        return mine == (theirs - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return type(mine) is type(theirs) and mine == theirs


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**48))
def test_means_what_cel_means(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(4):
        kind = chance.choice(tuple(_NAMES))
        text = _text(chance, kind, chance.randint(2, 5))
        pairs = {name: _value(chance, one) for one, names in _NAMES.items() for name in names}
        problems: tuple[Problem, ...] = ()
        expression = Expression(Literal(False, Type(Kind.BOOL)), "")
        try:
            expression = check(text, SCOPE, WHERE)
        except ProgramError as error:
            problems = error.problems
        # Only what can never be calculated is refused; CEL finds that out when it gets there.
        assert all("can never be calculated" in one.message for one in problems), problems
        if problems:
            continue
        mine = Program([expression.root]).run(0, {read: pairs[read.name][0] for read in expression.inputs})[0]
        answer = ENVIRONMENT.compile(text).eval(data={f"facts.{name}": pair[1] for name, pair in pairs.items()})
        failed = answer.type() == cel.Type.ERROR
        assert (mine is FAILED) == failed, f"{text}\n{pairs}\nmachine {mine!r}, CEL {answer.value()!r}"
        if not isinstance(mine, Unknown):
            assert _same(mine, answer.value()), f"{text}\n{pairs}\nmachine {mine!r}, CEL {answer.value()!r}"
