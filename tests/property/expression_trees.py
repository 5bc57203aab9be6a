"""Random typed expression trees and values for them, drawn from a seeded generator.

Trees are built as the checker leaves them, but may hold what it would have worked out or refused (constants under operators,
divisions by a constant zero), because the machine must be right about those too. Values sit on edges more often than not.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from core.expressions import Call, Input, InputKind, Kind, Literal, Node, Read, Type
from core.expressions.fold import constant
from tests.oracle_expressions import MISSING, Present, Value

BOOL, INT, DOUBLE, STRING = Type(Kind.BOOL), Type(Kind.INT), Type(Kind.DOUBLE), Type(Kind.STRING)
EURO, TIMESTAMP, DURATION, SET = Type(Kind.MONEY, "EUR"), Type(Kind.TIMESTAMP), Type(Kind.DURATION), Type(Kind.SET)
TYPES = (BOOL, INT, DOUBLE, STRING, EURO, TIMESTAMP, DURATION)

INPUTS = {
    type_: tuple(Input(InputKind.ATTRIBUTE, f"{type_.kind.value}_{number}", type_) for number in range(count))
    for type_, count in ((BOOL, 3), (INT, 3), (DOUBLE, 2), (STRING, 3), (EURO, 2), (TIMESTAMP, 2), (SET, 1))
}
_INTS = (0, 1, -1, 2, 3, 7, 18, 100, -7, 2**31, 2**53, 2**53 + 1, 2**62, 2**63 - 1, -(2**63), -(2**63) + 1)
_DOUBLES = (0.0, 0.5, 1.0, -1.0, 0.1, 0.2, 3.0, 17.5, 18.0, 1e-300, 1e300, 1.7976931348623157e308, 5e-324, 2.0**63,
            -(2.0**63), 9007199254740993.0, 123456.789, 1e21, 1 / 3)  # fmt: skip
_TEXTS = ("", "a", "b", "ab", "A", "gold", "silver", "é", "Zoë", "𝄞", "\uff5e", "12", "-9223372036854775808", "1.5", "1e5",
          "x" * 40, "9" * 30, "nan", "+1", "\x00", "a\x00b")  # fmt: skip
_DAY = 86_400_000_000
_TIMES = (0, -1, 1, _DAY, -_DAY, 1_709_208_000_000_000, 1_735_689_599_999_999, 951_827_696_123_456, -2_208_988_800_000_000,
          2**63 - 1, -(2**63), 253_402_300_799_999_999)  # fmt: skip


def value_of(chance: random.Random, type_: Type) -> Present:
    """A present value; -0.0 and infinities may be inputs."""
    match type_.kind:
        case Kind.BOOL:
            return chance.random() < 0.5
        case Kind.INT:
            return chance.choice(_INTS) if chance.random() < 0.7 else chance.randint(-1000, 1000)
        case Kind.DOUBLE | Kind.MONEY:
            return chance.choice((*_DOUBLES, -0.0, float("inf"), float("-inf"))) if chance.random() < 0.7 else (
                round(chance.uniform(-1000, 1000), chance.randint(0, 4))
            )
        case Kind.STRING:
            return chance.choice(_TEXTS)
        case Kind.TIMESTAMP | Kind.DURATION:
            return chance.choice(_TIMES) if chance.random() < 0.6 else chance.randint(-(10**17), 10**17)
        case Kind.SET:
            return frozenset(chance.sample(_TEXTS, chance.randint(0, 5)))
    raise AssertionError(type_)


def values_for(chance: random.Random, missing: float) -> dict[Input, Value]:
    """A value for every input; each missing with the given probability."""
    return {
        read: MISSING if chance.random() < missing else value_of(chance, read.type)
        for reads in INPUTS.values()
        for read in reads
    }


def literal(chance: random.Random, type_: Type) -> Literal:
    value = value_of(chance, type_)
    assert not isinstance(value, frozenset)
    if isinstance(value, float) and type_.kind is Kind.MONEY:
        type_ = DOUBLE  # no literal is money
    return constant(value, type_)


def tree(chance: random.Random, type_: Type, depth: int) -> Node:
    """A tree of the type, at most ``depth`` deep."""
    if depth <= 1 or chance.random() < 0.15:
        reads = INPUTS.get(type_)
        return Read(chance.choice(reads)) if reads and chance.random() < 0.75 else literal(chance, type_)
    return chance.choice(_MAKERS[type_.kind])(chance, depth - 1)


def _same_kind(op: str, argument: Type, result: Type, count: int = 2) -> Callable[[random.Random, int], Node]:
    def make(chance: random.Random, depth: int) -> Node:
        return Call(op, tuple(tree(chance, argument, depth) for _ in range(count)), result)

    return make


def _with(op: str, arguments: tuple[Type, ...], result: Type) -> Callable[[random.Random, int], Node]:
    def make(chance: random.Random, depth: int) -> Node:
        return Call(op, tuple(tree(chance, argument, depth) for argument in arguments), result)

    return make


def _choice(result: Type) -> Callable[[random.Random, int], Node]:
    return _with("?:", (BOOL, result, result), result)


def _chain(op: str) -> Callable[[random.Random, int], Node]:
    def make(chance: random.Random, depth: int) -> Node:
        return Call(op, tuple(tree(chance, BOOL, depth) for _ in range(chance.randint(2, 4))), BOOL)

    return make


def _comparison(chance: random.Random, depth: int) -> Node:
    type_ = chance.choice(TYPES)
    op = chance.choice(("==", "!=") if type_ is BOOL else ("==", "!=", "<", "<=", ">", ">="))
    return Call(op, (tree(chance, type_, depth), tree(chance, type_, depth)), BOOL)


def _against_constant(chance: random.Random, _: int) -> Node:
    """One input against one constant, either way round: what the index takes."""
    type_ = chance.choice((INT, INT, DOUBLE, EURO, STRING, STRING, TIMESTAMP))
    op = chance.choice(("==", "!=", "<", "<=", ">", ">="))
    sides: list[Node] = [Read(chance.choice(INPUTS[type_])), literal(chance, type_)]
    if type_ is INT and chance.random() < 0.3:
        sides = [Call("double", (sides[0],), DOUBLE), literal(chance, DOUBLE)]
    if chance.random() < 0.3:
        sides.reverse()
    return Call(op, tuple(sides), BOOL)


def _membership(chance: random.Random, depth: int) -> Node:
    type_ = chance.choice((INT, DOUBLE, STRING, STRING, TIMESTAMP))
    members = {value_of(chance, type_) for _ in range(chance.randint(2, 6))}
    among = Literal(tuple(sorted(members)), Type(Kind.LIST, element=type_.kind))  # type: ignore[arg-type]
    read = Read(chance.choice(INPUTS[type_]))
    return Call("in", (read if chance.random() < 0.6 else tree(chance, type_, depth), among), BOOL)


def _in_set(chance: random.Random, depth: int) -> Node:
    return Call("in", (tree(chance, STRING, depth), Read(INPUTS[SET][0])), BOOL)


def _has(chance: random.Random, depth: int) -> Node:
    if chance.random() < 0.3:
        return Call("has", (tree(chance, chance.choice((BOOL, INT, DOUBLE, STRING)), depth),), BOOL)
    return Call("has", (Read(chance.choice([read for reads in INPUTS.values() for read in reads])),), BOOL)


def _size(chance: random.Random, depth: int) -> Node:
    return Call("size", (tree(chance, STRING, depth) if chance.random() < 0.7 else Read(INPUTS[SET][0]),), INT)


_MAKERS: dict[Kind, tuple[Callable[[random.Random, int], Node], ...]] = {
    Kind.BOOL: (
        _chain("&&"), _chain("&&"), _chain("||"), _chain("||"), _same_kind("!", BOOL, BOOL, 1), _choice(BOOL), _comparison,
        _comparison, _against_constant, _against_constant, _against_constant, _membership, _in_set, _has,
        _same_kind("startsWith", STRING, BOOL), _same_kind("endsWith", STRING, BOOL), _same_kind("contains", STRING, BOOL),
    ),
    Kind.INT: (
        *(_same_kind(op, INT, INT) for op in ("+", "-", "*", "/", "%", "min", "max")), _same_kind("neg", INT, INT, 1),
        _same_kind("abs", INT, INT, 1), _choice(INT), _size, _with("int", (DOUBLE,), INT), _with("int", (STRING,), INT),
        _with("int", (TIMESTAMP,), INT),
        *(_with(op, (TIMESTAMP,), INT) for op in ("getFullYear", "getMonth", "getDayOfMonth", "getDayOfWeek", "getHours",
                                                  "getMinutes")),
    ),
    Kind.DOUBLE: (
        *(_same_kind(op, DOUBLE, DOUBLE) for op in ("+", "-", "*", "/", "min", "max")), _same_kind("neg", DOUBLE, DOUBLE, 1),
        _same_kind("abs", DOUBLE, DOUBLE, 1), _choice(DOUBLE), _with("double", (INT,), DOUBLE), _with("double", (EURO,), DOUBLE),
        _with("double", (STRING,), DOUBLE), _with("/", (EURO, EURO), DOUBLE),
    ),
    Kind.MONEY: (
        _with("+", (EURO, EURO), EURO), _with("-", (EURO, DOUBLE), EURO), _with("*", (EURO, DOUBLE), EURO),
        _with("/", (EURO, DOUBLE), EURO), _with("neg", (EURO,), EURO), _with("abs", (EURO,), EURO), _choice(EURO),
        _with("min", (EURO, DOUBLE), EURO), _with("max", (EURO, EURO), EURO),
    ),
    Kind.STRING: (
        _same_kind("+", STRING, STRING), _same_kind("+", STRING, STRING), _choice(STRING),
        _same_kind("lowerAscii", STRING, STRING, 1), _same_kind("upperAscii", STRING, STRING, 1),
        *(_with("string", (type_,), STRING) for type_ in (BOOL, INT, DOUBLE, EURO, TIMESTAMP)),
    ),
    Kind.TIMESTAMP: (
        _with("+", (TIMESTAMP, DURATION), TIMESTAMP), _with("-", (TIMESTAMP, DURATION), TIMESTAMP), _choice(TIMESTAMP),
    ),
    Kind.DURATION: (
        _with("-", (TIMESTAMP, TIMESTAMP), DURATION), _with("+", (DURATION, DURATION), DURATION), _choice(DURATION),
    ),
}  # fmt: skip
