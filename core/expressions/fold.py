"""Constants worked out when a program is checked, so that a decision never repeats them.

The same rules as the machine's: 64 bit integers that fail on overflow, IEEE doubles that fail on NaN and on division by
zero, texts compared by their UTF-8 bytes, time in UTC. What is not worked out here stays a call.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from core.expressions.expression import Call, Kind, Literal, Node, Type

INT_LEAST, INT_MOST = -(2**63), 2**63 - 1
MICROSECONDS = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS_US = {
    "w": 7 * 86_400 * MICROSECONDS, "d": 86_400 * MICROSECONDS, "h": 3_600 * MICROSECONDS, "m": 60 * MICROSECONDS,
    "s": MICROSECONDS, "ms": 1_000, "us": 1,
}  # fmt: skip
_DURATION = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]+)?(?:ms|us|[wdhms]))+")
_DURATION_PART = re.compile(r"([0-9]+)(?:\.([0-9]+))?(ms|us|[wdhms])")

Scalar = bool | int | float | str


class AlwaysFails(Exception):
    """A constant operation that fails whatever the inputs are; its text is the reason. A verdict, not an error of ours."""


def duration_us(text: str) -> int | None:
    """Microseconds of a duration such as "7d", "168h", "1h30m" or "-90s"; None when it is none.

    Units are w d h m s ms us; a fraction finer than a microsecond is not a duration.
    """
    if not _DURATION.fullmatch(text):
        return None
    total = 0
    for whole, fraction, unit in _DURATION_PART.findall(text):
        part = _UNITS_US[unit] * int(whole + fraction)
        quotient, remainder = divmod(part, 10 ** len(fraction))
        if remainder:
            return None
        total += quotient
    total = -total if text[0] == "-" else total
    return total if INT_LEAST <= total <= INT_MOST else None


def timestamp_us(text: str) -> int | None:
    """Microseconds since 1970 of an ISO 8601 date (midnight UTC) or date and time with its zone; None when it is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        if "T" in text or ":" in text:
            return None
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1)


def fold(call: Call) -> Node:
    """The call, or the literal it always gives. Raises `AlwaysFails` when it can give nothing."""
    if not call.arguments or not all(isinstance(argument, Literal) for argument in call.arguments):
        return call
    values = [argument.value for argument in call.arguments if isinstance(argument, Literal)]
    worker = _WORKERS.get(call.op)
    if worker is None:
        return call
    result = worker(call, *values)
    return call if result is None else constant(result, call.type)


def constant(value: Scalar, type_: Type) -> Literal:
    """A literal. -0.0 is written 0.0: the two are equal, so equal trees must not differ in them."""
    return Literal(0.0 if isinstance(value, float) and value == 0.0 else value, type_)


def _whole(value: int) -> int:
    if not INT_LEAST <= value <= INT_MOST:
        raise AlwaysFails("the result does not fit 64 bits")
    return value


def _real(value: float) -> float:
    if math.isnan(value):
        raise AlwaysFails("the result is not a number")
    return value


def _is_real(call: Call) -> bool:
    return call.arguments[0].type.kind in (Kind.DOUBLE, Kind.MONEY)


def _add(call: Call, a: Scalar, b: Scalar) -> Scalar:
    if isinstance(a, str) and isinstance(b, str):
        return a + b
    return _real(float(a) + float(b)) if _is_real(call) else _whole(int(a) + int(b))


def _subtract(call: Call, a: Scalar, b: Scalar) -> Scalar:
    return _real(float(a) - float(b)) if _is_real(call) else _whole(int(a) - int(b))


def _multiply(call: Call, a: Scalar, b: Scalar) -> Scalar:
    return _real(float(a) * float(b)) if _is_real(call) else _whole(int(a) * int(b))


def _divide(call: Call, a: Scalar, b: Scalar) -> Scalar:
    if b == 0:
        raise AlwaysFails("it divides by zero")
    if _is_real(call):
        return _real(float(a) / float(b))
    quotient = abs(int(a)) // abs(int(b))
    return _whole(quotient if (int(a) < 0) == (int(b) < 0) else -quotient)


def _remainder(_: Call, a: Scalar, b: Scalar) -> Scalar:
    if b == 0:
        raise AlwaysFails("it divides by zero")
    if (a, b) == (INT_LEAST, -1):
        raise AlwaysFails("the result does not fit 64 bits")
    rest = abs(int(a)) % abs(int(b))
    return -rest if int(a) < 0 else rest


def _negate(call: Call, a: Scalar) -> Scalar:
    return -float(a) if _is_real(call) else _whole(-int(a))


def _absolute(call: Call, a: Scalar) -> Scalar:
    return abs(float(a)) if _is_real(call) else _whole(abs(int(a)))


def _least(call: Call, a: Scalar, b: Scalar) -> Scalar:
    return (b if float(b) < float(a) else a) if _is_real(call) else min(int(a), int(b))


def _most(call: Call, a: Scalar, b: Scalar) -> Scalar:
    return (b if float(b) > float(a) else a) if _is_real(call) else max(int(a), int(b))


def _to_int(call: Call, a: Scalar) -> Scalar | None:
    match call.arguments[0].type.kind:
        case Kind.DOUBLE | Kind.MONEY:
            if not -(2.0**63) < float(a) < 2.0**63:
                raise AlwaysFails("the result does not fit 64 bits")
            return int(float(a))
        case Kind.TIMESTAMP:
            return int(a) // MICROSECONDS
    return None


def _to_double(call: Call, a: Scalar) -> Scalar | None:
    return None if call.arguments[0].type.kind is Kind.STRING else float(a)


def _ordered(compare: Callable[[Scalar, Scalar], bool]) -> Callable[[Call, Scalar, Scalar], Scalar]:
    def work(_: Call, a: Scalar, b: Scalar) -> Scalar:
        # Code points of Python strings order as their UTF-8 bytes do.
        return compare(a, b)

    return work


def _ascii(text: str, *, upper: bool) -> str:
    return "".join((c.upper() if upper else c.lower()) if c.isascii() else c for c in text)


def _civil(read: Callable[[datetime], int]) -> Callable[[Call, Scalar], Scalar | None]:
    def work(_: Call, at_us: Scalar) -> Scalar | None:
        try:
            return read(_EPOCH + timedelta(microseconds=int(at_us)))
        except OverflowError:
            return None  # outside Python's years; the machine has no such limit

    return work


_WORKERS: dict[str, Callable[..., Scalar | None]] = {
    "+": _add, "-": _subtract, "*": _multiply, "/": _divide, "%": _remainder, "neg": _negate, "abs": _absolute,
    "min": _least, "max": _most, "int": _to_int, "double": _to_double,
    "==": lambda _, a, b: a == b,
    "!=": lambda _, a, b: a != b,
    "<": _ordered(lambda a, b: a < b),  # type: ignore[operator]
    "<=": _ordered(lambda a, b: a <= b),  # type: ignore[operator]
    ">": _ordered(lambda a, b: a > b),  # type: ignore[operator]
    ">=": _ordered(lambda a, b: a >= b),  # type: ignore[operator]
    "in": lambda _, a, members: a in members,
    "!": lambda _, a: not a,
    "size": lambda _, a: len(a),
    "startsWith": lambda _, a, b: a.startswith(b),
    "endsWith": lambda _, a, b: a.endswith(b),
    "contains": lambda _, a, b: b in a,
    "lowerAscii": lambda _, a: _ascii(a, upper=False),
    "upperAscii": lambda _, a: _ascii(a, upper=True),
    "getFullYear": _civil(lambda moment: moment.year),
    "getMonth": _civil(lambda moment: moment.month - 1),
    "getDayOfMonth": _civil(lambda moment: moment.day - 1),
    "getDayOfWeek": _civil(lambda moment: moment.isoweekday() % 7),
    "getHours": _civil(lambda moment: moment.hour),
    "getMinutes": _civil(lambda moment: moment.minute),
}  # fmt: skip
