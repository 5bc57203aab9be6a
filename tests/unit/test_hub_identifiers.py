"""Normalisers: a table of spellings, laws over any text, and the UTF-8 check against Python's own decoder."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import limits
from core.errors import BadValue, RapportError, TooLarge
from core.hub.identifiers import normalised
from core.schema import Normaliser

FINE = [
    (Normaliser.NONE, " Ann ", b" Ann "),
    (Normaliser.NONE, "Zoë", "Zoë".encode()),
    (Normaliser.LOWER, "  Ann@Example.COM\t\n", b"ann@example.com"),
    (Normaliser.LOWER, "ÄB", "Äb".encode()),  # ASCII letters only: other scripts' rules change over time
    (Normaliser.LOWER, "a b", b"a b"),
    (Normaliser.E164, "+351 912 345 678", b"+351912345678"),
    (Normaliser.E164, "00351-912.345.678", b"+351912345678"),
    (Normaliser.E164, "(+351) 912345678", b"+351912345678"),
    (Normaliser.E164, "00 1 (212) 555-0100", b"+12125550100"),
    (Normaliser.E164, "+123456789012345", b"+123456789012345"),
]
REFUSED = [
    (Normaliser.NONE, "", BadValue),
    (Normaliser.LOWER, " \t ", BadValue),
    (Normaliser.E164, " - ", BadValue),
    (Normaliser.E164, "912345678", BadValue),  # no country: nobody here can know it
    (Normaliser.E164, "+0351912345678", BadValue),
    (Normaliser.E164, "+1234567890123456", BadValue),
    (Normaliser.E164, "1+2", BadValue),
    (Normaliser.E164, "++1", BadValue),
    (Normaliser.E164, "+", BadValue),
    (Normaliser.E164, "+351 912 x", BadValue),
    (Normaliser.NONE, "x" * (limits.IDENTIFIER_BYTES + 1), TooLarge),
    (Normaliser.E164, "+" + "1" * 5000, BadValue),
    (Normaliser.NONE, "\ud800", BadValue),
]


@pytest.mark.parametrize(("rule", "text", "expected"), FINE)
def test_spellings_meet(rule: Normaliser, text: str, expected: bytes) -> None:
    assert normalised(rule, text, "n") == expected


@pytest.mark.parametrize(("rule", "text", "error"), REFUSED)
def test_what_cannot_be_an_identifier_is_refused(rule: Normaliser, text: str, error: type[RapportError]) -> None:
    with pytest.raises(error):
        normalised(rule, text, "n")


@given(st.sampled_from(list(Normaliser)), st.text(max_size=300))
def test_normalising_again_changes_nothing(rule: Normaliser, text: str) -> None:
    try:
        once = normalised(rule, text, "n")
    except RapportError:
        return
    assert 0 < len(once) <= limits.IDENTIFIER_BYTES
    assert normalised(rule, once.decode(), "n") == once
