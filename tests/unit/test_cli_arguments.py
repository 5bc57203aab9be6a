"""What is typed for a value becomes the value of the kind that it looks like."""

from __future__ import annotations

import pytest
import typer

from core.programs.quantity import QuantityError, parse_money
from server.cli import arguments


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("1970-12-31", "1970-12-31T00:00:00Z"),
        ("1970-12-31T10:30:00+02:00", "1970-12-31T08:30:00Z"),
        ("1970-12-31 10:30", "1970-12-31T10:30:00Z"),
    ],
)
def test_a_date_is_a_time_and_without_a_zone_of_utc(typed: str, meant: str) -> None:
    """A date alone was sent as text, which a timestamp refuses with "Give microseconds"."""
    found = arguments.value(typed, "NAME=VALUE")
    assert found.WhichOneof("kind") == "timestamp_value"
    assert found.timestamp_value.ToJsonString() == meant
    assert found.timestamp_value == arguments.instant(typed, "--due")
    assert arguments.value(f'"{typed}"', "NAME=VALUE").string_value == typed


@pytest.mark.parametrize("typed", ["1970-12-31 or so", "1970-12", "on 1970-12-31", "1970-12-310"])
def test_what_only_begins_as_a_date_is_text(typed: str) -> None:
    assert arguments.value(typed, "NAME=VALUE").string_value == typed


def test_a_date_that_there_is_not_is_told_with_how_to_send_text() -> None:
    with pytest.raises(typer.BadParameter, match=r"'1970-02-30' is not a time such as 2026-09-01 .*; quote it to send text"):
        arguments.value("1970-02-30", "NAME=VALUE")


@pytest.mark.parametrize("typed", ["99999999999999999999 EUR", "-1000000000000000000.00 EUR", "10000000000.01 EUR"])
def test_an_amount_of_a_program_that_is_too_large_is_told_with_the_most(typed: str) -> None:
    """From 19 digits on it was no amount, with the advice to write what was written."""
    with pytest.raises(QuantityError, match=r"is more than the limit of 10000000000\.00 EUR"):
        parse_money(typed)
