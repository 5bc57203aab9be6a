"""Amounts, durations and moments as a program writes them: exact, or refused with the right way to write it.

Each function takes the text of a scalar and returns the value, or raises `QuantityError` with the problem and a
hint; the reader adds the place. Nothing is rounded: an amount with more decimals than its currency has is refused.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from core.schema import Money, currency_exponent

SECOND_US: Final = 1_000_000
DAY_US: Final = 86_400 * SECOND_US

# Ten billion in a currency of two decimals; a percentage exact to 0.0001 of it still fits 128 bit arithmetic.
MINOR_LIMIT: Final = 10**12
# Longer than any contact is kept.
DURATION_DAYS: Final = 3660

_UNITS_US: Final = {"s": SECOND_US, "m": 60 * SECOND_US, "h": 3600 * SECOND_US, "d": DAY_US, "w": 7 * DAY_US,
                    "y": 365 * DAY_US}
_UNIT_WORDS: Final = {
    "sec": "s", "secs": "s", "second": "s", "seconds": "s", "min": "m", "mins": "m", "minute": "m", "minutes": "m",
    "hour": "h", "hours": "h", "hr": "h", "hrs": "h", "day": "d", "days": "d", "week": "w", "weeks": "w",
    "year": "y", "years": "y", "yr": "y",
}
_DURATION: Final = re.compile(r"(\d{1,9})([smhdwy])")
_LOOSE_DURATION: Final = re.compile(r"(\d+)\s*([A-Za-z]+)")
_MONEY: Final = re.compile(r"([+-]?\d{1,18}(?:\.\d{1,9})?) ([A-Z]{3})")
_LARGE_MONEY: Final = re.compile(r"[+-]?\d{19,}(?:\.\d{1,9})? ([A-Z]{3})")
_LOOSE_MONEY: Final = re.compile(r"([A-Za-z]{3})?\s*([+-]?[\d.,]*\d)\s*([A-Za-z]{3})?")
_DATE: Final = re.compile(r"(\d{4})-(\d{2})-(\d{2})")
_INT: Final = re.compile(r"[+-]?\d{1,19}")
_NUMBER: Final = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class QuantityError(ValueError):
    """A text that is not what its key needs: the problem, and how to write it right."""

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint


def parse_int(text: str) -> int:
    """A whole number: 3, -10. No thousands separators, no other bases."""
    if not _INT.fullmatch(text):
        raise QuantityError(f"'{text}' is not a whole number.", "Write it in digits, such as 3.")
    return int(text)


def parse_number(text: str) -> float:
    """A finite number: 0.2, -3, 1e-4."""
    if not _NUMBER.fullmatch(text):
        hint = f"Write {text.replace(',', '.')}." if _NUMBER.fullmatch(text.replace(",", ".")) else ""
        if text.endswith("%") and _NUMBER.fullmatch(text[:-1].strip()):
            hint = f"Write {text[:-1].strip()} without the sign."
        raise QuantityError(f"'{text}' is not a number.", hint or "Write it with a point, such as 0.25.")
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise QuantityError(f"'{text}' is larger than any number kept.")
    return value


def looks_like_number(text: str) -> bool:
    """Whether a text that could also be an expression is meant as a number."""
    return _NUMBER.fullmatch(text) is not None


def looks_like_money(text: str) -> bool:
    """Whether a text that could also be an expression is meant as an amount, be it well written or not."""
    match = _LOOSE_MONEY.fullmatch(text)
    return match is not None and bool(match[1] or match[3])


def parse_bool(text: str) -> bool:
    """``true`` or ``false``; YAML 1.1's yes, no, on and off are refused, because they are other languages' words."""
    if text == "true":
        return True
    if text == "false":
        return False
    known = {"yes": "true", "on": "true", "no": "false", "off": "false"}
    right = known.get(text.lower(), text.lower() if text.lower() in ("true", "false") else "")
    raise QuantityError(f"'{text}' is neither true nor false.", f"Write {right}." if right else "Write true or false.")


def parse_duration(text: str) -> int:
    """Microseconds of a duration: a whole number and one of s m h d w y (365 days), such as 90m, 12h, 7d, 2w."""
    match = _DURATION.fullmatch(text)
    if not match:
        loose = _LOOSE_DURATION.fullmatch(text.strip())
        unit = ""
        if loose:
            word = loose[2].lower()
            unit = word if word in _UNITS_US else _UNIT_WORDS.get(word, "")
            if unit and int(loose[1][:20]) * _UNITS_US[unit] > DURATION_DAYS * DAY_US:
                raise _longer(text)
        hint = f"Write {loose[1]}{unit}." if loose and unit else "Write a number and s, m, h, d, w or y, such as 7d."
        raise QuantityError(f"'{text}' is not a duration.", hint)
    duration_us = int(match[1]) * _UNITS_US[match[2]]
    if duration_us == 0:
        raise QuantityError("A duration of nothing has no effect.", "Write at least 1s.")
    if duration_us > DURATION_DAYS * DAY_US:
        raise _longer(text)
    return duration_us


def _longer(text: str) -> QuantityError:
    return QuantityError(f"'{text}' is longer than {DURATION_DAYS} days.", "No history is kept that long.")


def parse_money(text: str) -> Money:
    """An exact amount and its ISO 4217 currency: 42.00 EUR."""
    match = _MONEY.fullmatch(text)
    if not match:
        if large := _LARGE_MONEY.fullmatch(text):
            raise _more(text, large[1])
        loose = _LOOSE_MONEY.fullmatch(text.strip())
        hint = "Write the amount, a blank and the currency, such as 42.00 EUR."
        if loose and (loose[1] or loose[3]) and "," not in loose[2] and _NUMBER.fullmatch(loose[2]):
            hint = f"Write {loose[2]} {(loose[3] or loose[1]).upper()}."
        elif _NUMBER.fullmatch(text):
            hint = f"Name the currency, such as {text} EUR."
        raise QuantityError(f"'{text}' is not an amount of money.", hint)
    exponent = currency_exponent(match[2])
    minor = Decimal(match[1]).scaleb(exponent)
    if minor != minor.to_integral_value():
        raise QuantityError(f"'{text}' has more decimals than {match[2]} has: {exponent}.")
    if abs(minor) > MINOR_LIMIT:
        raise _more(text, match[2])
    return Money(int(minor), match[2])


def _more(text: str, currency: str) -> QuantityError:
    return QuantityError(f"'{text}' is more than the limit of {show_money(MINOR_LIMIT, currency)}.")


def show_money(minor: int, currency: str) -> str:
    """An amount as it is written: show_money(4200, 'EUR') is '42.00 EUR'."""
    return f"{Decimal(minor).scaleb(-currency_exponent(currency)):f} {currency}"


def major_units(money: Money) -> float:
    """The nearest double to an amount in major units: what expressions and priorities reckon with."""
    return float(Decimal(money.minor).scaleb(-currency_exponent(money.currency)))


def parse_moment(text: str, *, whole_day: bool = False) -> int:
    """Microseconds since 1970 of a date or a timestamp; UTC where no zone is written.

    A date is its first microsecond; with ``whole_day`` the first microsecond after it, so that ``until: 2026-12-31``
    includes that day.
    """
    try:
        if _DATE.fullmatch(text):
            moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
            if whole_day:
                moment += timedelta(days=1)
        else:
            if len(text) < 16 or text[4:5] != "-":
                raise ValueError
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise QuantityError(f"'{text}' is not a date or a timestamp.",
                         "Write 2026-09-01, or 2026-09-01T08:00:00+02:00.") from None
    return (moment - _EPOCH) // timedelta(microseconds=1)
