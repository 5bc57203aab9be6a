"""A slow and obvious evaluator of checked expressions: what the bytecode machine must agree with, bit for bit.

It shares no code with the checker's constants nor with the machine. Values are Python's: bool, int, float (also money, in
major units), str, frozenset of str; timestamps and durations are int microseconds.

Missing and failed values: && is false when any side is false, || true when any side is true. Apart from that, and from
the branch of ?: that is not taken, an operation on something missing is missing; if nothing is missing and something
failed, it failed. So missing speaks louder, whichever side it stands on.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Mapping

from core.expressions import Call, Input, Kind, Literal, Node, Read
from core.schema import currency_exponent


class Unknown(enum.Enum):
    """Two ways of having no value."""

    MISSING = "missing"
    FAILED = "failed"


MISSING = Unknown.MISSING
FAILED = Unknown.FAILED

Present = bool | int | float | str | frozenset[str]
Value = Present | Unknown

_TEXT_MOST = 65_536  # bytes of a text that an operation makes
_DAY_US = 86_400_000_000
_REAL = (Kind.DOUBLE, Kind.MONEY)


def evaluate(node: Node, inputs: Mapping[Input, Value]) -> Value:
    """The value of an expression; an input that is not in ``inputs`` is missing."""
    match node:
        case Literal(value=value):
            assert not isinstance(value, tuple), "a list is no value"
            return value
        case Read(input=source):
            return inputs.get(source, MISSING)
        case Call(op="has", arguments=(asked,)):
            return not isinstance(evaluate(asked, inputs), Unknown)
        case Call(op="&&", arguments=arguments):
            return _together([evaluate(argument, inputs) for argument in arguments], absorbing=False)
        case Call(op="||", arguments=arguments):
            return _together([evaluate(argument, inputs) for argument in arguments], absorbing=True)
        case Call(op="?:", arguments=(condition, yes, no)):
            chosen = evaluate(condition, inputs)
            if isinstance(chosen, Unknown):
                return chosen
            return evaluate(yes if chosen else no, inputs)
        case Call(op="in", arguments=(wanted, Literal(value=members))):
            assert isinstance(members, tuple)
            sought = evaluate(wanted, inputs)
            return sought if isinstance(sought, Unknown) else any(sought == member for member in members)
        case Call(op=op, arguments=arguments):
            values = [evaluate(argument, inputs) for argument in arguments]
            if MISSING in values:
                return MISSING
            if FAILED in values:
                return FAILED
            return _apply(op, arguments[0].type.kind, arguments[0].type.currency, values)
    raise AssertionError(f"no rule for {node}")


def _together(values: list[Value], *, absorbing: bool) -> Value:
    if absorbing in [value for value in values if isinstance(value, bool)]:
        return absorbing
    for unknown in (MISSING, FAILED):
        if unknown in values:
            return unknown
    return not absorbing


def _apply(op: str, kind: Kind, currency: str, values: list[Value]) -> Value:
    a, b = values[0], values[-1]
    if isinstance(a, str):
        return _text(op, a, b)
    if op == "!":
        return not a
    if op in ("==", "!=", "<", "<=", ">", ">="):
        return _compare(op, a, b)
    if op == "size":
        assert isinstance(a, frozenset)
        return len(a)
    if op == "string":
        return as_text(a, kind, currency)
    if kind in _REAL:
        assert isinstance(a, float)
        assert isinstance(b, float)
        return _doubles(op, a, b)
    assert isinstance(a, int)
    assert isinstance(b, int)
    if op.startswith("get"):
        return _calendar(op, a)
    if op == "int":
        return a // 1_000_000  # of a timestamp: seconds
    if op == "double":
        return float(a)
    return _integers(op, a, b)


def _compare(op: str, a: Value, b: Value) -> bool:
    if isinstance(a, str) and isinstance(b, str):
        x, y = a.encode(), b.encode()
        return {"==": x == y, "!=": x != y, "<": x < y, "<=": x <= y, ">": x > y, ">=": x >= y}[op]
    assert isinstance(a, int | float)
    assert isinstance(b, int | float)
    return {"==": a == b, "!=": a != b, "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[op]


def _integers(op: str, a: int, b: int) -> Value:
    if op in ("/", "%"):
        # Towards zero, as in C. The least int by -1 overflows, and so does its remainder.
        if b == 0 or (a == -(2**63) and b == -1):
            return FAILED
        quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
        return quotient if op == "/" else a - b * quotient
    result = {"+": a + b, "-": a - b, "*": a * b, "neg": -a, "abs": abs(a), "min": min(a, b), "max": max(a, b)}[op]
    return result if -(2**63) <= result < 2**63 else FAILED


def _doubles(op: str, a: float, b: float) -> Value:
    if op == "int":
        return int(a) if -(2.0**63) < a < 2.0**63 else FAILED  # the least int is refused too, as in CEL
    if op == "double":
        return a
    if op == "/" and b == 0:
        return FAILED
    if op in ("min", "max") and (math.isnan(a) or math.isnan(b)):
        return FAILED
    match op:
        case "+":
            result = a + b
        case "-":
            result = a - b
        case "*":
            result = a * b
        case "/":
            result = a / b
        case "neg":
            result = -a
        case "abs":
            result = abs(a)
        case "min":
            result = b if b < a else a
        case "max":
            result = b if b > a else a
        case other:
            raise AssertionError(f"no rule for {other} of doubles")
    return FAILED if math.isnan(result) else result


def _text(op: str, a: str, b: Value) -> Value:
    if op in ("==", "!=", "<", "<=", ">", ">="):
        return _compare(op, a, b)
    if op == "in":
        assert isinstance(b, frozenset)
        return a in b
    if op == "size":
        return len(a)
    if op == "int":
        whole = re.fullmatch(r"-?[0-9]+", a)
        return int(a) if whole and len(a) < 4_000 and -(2**63) <= int(a) < 2**63 else FAILED
    if op == "double":
        number = re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", a)
        return float(a) if number and len(a) <= 64 and math.isfinite(float(a)) else FAILED
    if op in ("lowerAscii", "upperAscii"):
        changed = bytes(a.encode()).lower() if op == "lowerAscii" else bytes(a.encode()).upper()
        return changed.decode()
    assert isinstance(b, str)
    match op:
        case "+":
            return a + b if len((a + b).encode()) <= _TEXT_MOST else FAILED
        case "startsWith":
            return a.startswith(b)
        case "endsWith":
            return a.endswith(b)
        case "contains":
            return b in a
    raise AssertionError(f"no rule for {op} of texts")


def _calendar(op: str, at_us: int) -> int:
    days, rest = divmod(at_us, _DAY_US)
    year, month, day = _civil(days)
    return {
        "getFullYear": year, "getMonth": month - 1, "getDayOfMonth": day - 1, "getDayOfWeek": (days + 4) % 7,
        "getHours": rest // 3_600_000_000, "getMinutes": rest // 60_000_000 % 60,
    }[op]  # fmt: skip


def _civil(days: int) -> tuple[int, int, int]:
    """Year, month and day of a day counted from 1970-01-01, by walking years and months."""
    cycles, rest = divmod(days, 146_097)  # days in 400 years
    year = 1970 + 400 * cycles
    while rest >= 365 + _is_leap(year):
        rest -= 365 + _is_leap(year)
        year += 1
    month = 1
    for length in (31, 28 + _is_leap(year), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31):
        if rest < length:
            break
        rest -= length
        month += 1
    return year, month, rest + 1


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def as_text(value: Value, kind: Kind, currency: str = "") -> str:
    """A value as people read it; '' for one that is missing or failed."""
    if isinstance(value, Unknown):
        return ""
    match kind:
        case Kind.BOOL:
            return "true" if value else "false"
        case Kind.DOUBLE:
            assert isinstance(value, float)
            return next((text for text in (f"{value:.{n}g}" for n in (15, 16)) if float(text) == value), f"{value:.17g}")
        case Kind.MONEY:
            return f"{value:.{currency_exponent(currency)}f} {currency}".rstrip()
        case Kind.TIMESTAMP:
            assert isinstance(value, int)
            days, rest = divmod(value, _DAY_US)
            second, fraction = divmod(rest, 1_000_000)
            year, month, day = _civil(days)
            clock = f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
            return f"{year:04d}-{month:02d}-{day:02d}T{clock}" + (f".{fraction:06d}Z" if fraction else "Z")
        case _:
            return str(value)
