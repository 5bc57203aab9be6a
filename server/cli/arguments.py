"""What a person types for identifiers, values, placements and times, made into messages.

A value's kind is read from its looks: true, 42, 4.2, "19.99 EUR", 2026-09-01, 2026-09-01T12:00:00Z, [a, b]; all else is text,
and quotes make text of anything ("42"). The server refuses a value whose kind is not the declared one, and says which is.
"""

from __future__ import annotations

import json as json_text
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

import typer
from google.protobuf import json_format, timestamp_pb2

from core.schema import Money, currency_exponent
from protos.rapport.v1 import decision_pb2, values_pb2
from server import convert

_MONEY: Final = re.compile(r"([+-]?\d+(?:\.\d+)?) ([A-Z]{3})")
_DIGITS: Final = 40
_INT: Final = re.compile(r"[+-]?\d+")
_DOUBLE: Final = re.compile(r"[+-]?(\d+\.\d*|\.\d+|\d+)([eE][+-]?\d+)?")
# How JSON's values are said in an event; bool first, which is an int to Python.
_KINDS: Final[tuple[tuple[type, str], ...]] = (
    (bool, "bool_value"), (int, "int_value"), (float, "double_value"), (str, "string_value"), (list, "set_value"),
)
_INSTANT: Final = re.compile(r"\d{4}-\d{2}-\d{2}(T\S+| \d{2}:\S+)?")


def split(text: str, option: str) -> tuple[str, str]:
    """``name=value`` apart; a usage error when it is not."""
    name, equals, rest = text.partition("=")
    if not equals or not name:
        raise typer.BadParameter(f"'{text}' is not NAME=VALUE.", param_hint=option)
    return name, rest


def identifiers(texts: Iterable[str]) -> list[values_pb2.Identifier]:
    """``crm=42`` and its like."""
    found = []
    for text in texts:
        namespace, value = split(text, "--identifier")
        found.append(values_pb2.Identifier(namespace=namespace, value=value))
    return found


def value(text: str, option: str) -> values_pb2.Value:
    """A value by its looks."""
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        return values_pb2.Value(string_value=text[1:-1])
    if text in ("true", "false"):
        return values_pb2.Value(bool_value=text == "true")
    if _INT.fullmatch(text):
        # Of some thousand digits Python makes no number.
        if len(text) > _DIGITS or not -(2**63) <= int(text) < 2**63:
            raise typer.BadParameter(f"{text[:40]} does not fit 64 bits; quote it to send text.", param_hint=option)
        return values_pb2.Value(int_value=int(text))
    if _DOUBLE.fullmatch(text):
        return values_pb2.Value(double_value=float(text))
    if _MONEY.fullmatch(text):
        return values_pb2.Value(money_value=convert.money_to(money(text, option)))
    if _INSTANT.fullmatch(text):
        return values_pb2.Value(timestamp_value=instant(text, option, "; quote it to send text"))
    if text.startswith("[") and text.endswith("]"):
        members = sorted({each.strip() for each in text[1:-1].split(",")} - {""})
        return values_pb2.Value(set_value=values_pb2.StringSet(members=members))
    return values_pb2.Value(string_value=text)


def money(text: str, option: str) -> Money:
    """``19.99 EUR``; a usage error when it is no amount of whole minor units."""
    match = _MONEY.fullmatch(text)
    if match is None:
        raise typer.BadParameter(f"'{text}' is not an amount such as \"19.99 EUR\".", param_hint=option)
    minor = Decimal(match[1]).scaleb(currency_exponent(match[2]))
    if minor != minor.to_integral_value():
        raise typer.BadParameter(f"{text} has parts of the smallest unit of {match[2]}.", param_hint=option)
    if not -(2**63) <= minor < 2**63:
        raise typer.BadParameter(f"{text} does not fit 64 bits of the smallest unit.", param_hint=option)
    return Money(int(minor), match[2])


def values(texts: Iterable[str], option: str) -> dict[str, values_pb2.Value]:
    """``name=value`` pairs; naming one twice is a usage error. It tells of all that are wrong."""
    found: dict[str, values_pb2.Value] = {}
    wrong: list[str] = []
    for text in texts:
        try:
            name, rest = split(text, option)
            if name in found:
                raise typer.BadParameter(f"'{name}' is given twice.")
            found[name] = value(rest, option)
        except typer.BadParameter as error:
            wrong.append(error.message)
    if wrong:
        raise typer.BadParameter(" ".join(wrong), param_hint=option)
    return found


def placements(texts: Iterable[str]) -> list[decision_pb2.PlacementRequest]:
    """``home_hero`` or ``home_hero:3``."""
    found = []
    for text in texts:
        name, colon, slots = text.partition(":")
        if colon and (not slots.isascii() or not slots.isdecimal() or len(slots) > _DIGITS or not 1 <= int(slots) <= 0xFFFF):
            raise typer.BadParameter(f"'{text}': slots must be a number from 1.", param_hint="--placement")
        found.append(decision_pb2.PlacementRequest(name=name, slots=int(slots) if colon else 0))
    return found


def instant(text: str, option: str, otherwise: str = "") -> timestamp_pb2.Timestamp:
    """An ISO 8601 date or date-time; without a zone it is UTC. ``otherwise`` ends the usage error: what else it may be."""
    try:
        moment = datetime.fromisoformat(text)
        # To UTC here: at the ends of the calendar a zone leads out of it.
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"'{text}' is not a time such as 2026-09-01 or 2026-09-01T12:00:00Z{otherwise}.", param_hint=option
        ) from None
    made = timestamp_pb2.Timestamp()
    made.FromDatetime(moment)
    return made


def _typed(document: object) -> None:
    """A usage error for what is no event, or has values as JSON has them: they say their kind, which declares them."""
    if not isinstance(document, dict):
        raise typer.BadParameter(
            'is not an event: write an object such as {"type": "visit", "key": "v1"}.', param_hint="--event")
    fields = document.get("fields") or {}
    if not isinstance(fields, dict):
        raise typer.BadParameter(
            'its fields are no object: write {"fields": {"page": {"string_value": "/sale"}}}.', param_hint="--event")
    for name, given in fields.items():
        if given is None:
            raise typer.BadParameter(f"the field '{name}' is null: leave it out, or give it a value.", param_hint="--event")
        for kind, field in _KINDS:
            if isinstance(given, kind):
                typed = {name: {field: {"members": given} if field == "set_value" else given}}
                raise typer.BadParameter(
                    f"the field '{name}' does not say its kind: write {json_text.dumps(typed, ensure_ascii=False)}.",
                    param_hint="--event",
                )


def events(texts: Iterable[str]) -> list[values_pb2.Event]:
    """Events as JSON: {"type": "view", "key": "1", "fields": {"product": {"stringValue": "p1"}}}."""
    found = []
    for text in texts:
        try:
            _typed(json_text.loads(text))
            found.append(json_format.Parse(text, values_pb2.Event()))
        except (json_format.ParseError, ValueError, RecursionError) as error:
            raise typer.BadParameter(f"is not an event in JSON: {error}", param_hint="--event") from None
    return found
