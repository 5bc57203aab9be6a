"""Normalisers: a table of spellings, laws over any text, and the UTF-8 check against Python's own decoder."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

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
    (Normaliser.LOWER, "ÄB", "Äb".encode()),  # ASCII letters only
    (Normaliser.FOLD, "ÄB", "äb".encode()),
    (Normaliser.FOLD, "MU\u0308LLER@x.DE", "müller@x.de".encode()),  # an accent of its own, as macOS writes file names
    (Normaliser.FOLD, "ΟΔΥΣΣΕΎΣ", "οδυσσεύσ".encode()),
    (Normaliser.FOLD, "Жанна", "жанна".encode()),
    (Normaliser.FOLD, "a\u0323\u0302", "ậ".encode()),
    (Normaliser.FOLD, "\ufeffAnn\u200b@x.de\u00a0", b"ann@x.de"),
    (Normaliser.FOLD, "\u2003名前 \u3000", "名前".encode()),
    (Normaliser.FOLD, "\u2066ann\u00ad@\u202ex.de\u200e", b"ann@x.de"),  # marks of direction, as pages hold them
    (Normaliser.FOLD, "\u1f71\u212b", "άå".encode()),
    (Normaliser.FOLD, "\u0391\u0345", "ᾳ".encode()),
    (Normaliser.FOLD, "\u0301x", "\u0301x".encode()),
    (Normaliser.FOLD, "𝒜b", "𝒜b".encode()),
    (Normaliser.FOLD, "\u0130zmir", "i\u0307zmir".encode()),
    (Normaliser.FOLD, "I\u0307ZMIR", "i\u0307zmir".encode()),
    (Normaliser.FOLD, "Ä" * 128, "ä".encode() * 128),
    (Normaliser.LOWER, "a b", b"a b"),
    (Normaliser.E164, "+351 912 345 678", b"+351912345678"),
    (Normaliser.E164, "00351-912.345.678", b"+351912345678"),
    (Normaliser.E164, "(+351) 912345678", b"+351912345678"),
    (Normaliser.E164, "00 1 (212) 555-0100", b"+12125550100"),
    (Normaliser.E164, "+123456789012345", b"+123456789012345"),
    (Normaliser.E164, "+44 (020) 7946 0000", b"+4402079460000"),
]
REFUSED = [
    (Normaliser.NONE, "", BadValue),
    (Normaliser.NONE, "   ", BadValue),  # a padded cell: whoever has none would be one person
    (Normaliser.NONE, "\t\u00a0\u3000", BadValue),
    (Normaliser.LOWER, "\u00a0", BadValue),
    (Normaliser.LOWER, " \t ", BadValue),
    (Normaliser.FOLD, "\u200b\u00a0", BadValue),
    (Normaliser.FOLD, "Ⱥ" * 128, TooLarge),  # three bytes as a small letter
    (Normaliser.E164, "(0)20 7946 0000", BadValue),
    (Normaliser.E164, "+44 (0)20 7946 0000", BadValue),  # the zero is not dialled from abroad; of +39 (0)331 it is
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


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x36F), max_size=60))
def test_letter_case_and_the_spelling_of_accents_make_no_stranger(text: str) -> None:
    """However a system writes it: in capitals where they are one character, with accents apart, with what nobody sees."""
    plain = unicodedata.normalize("NFC", text)
    spellings = {
        plain,
        "".join(
            c.upper() if len(c.upper()) == 1 and c.upper().casefold() == c.casefold() and not unicodedata.combining(c) else c
            for c in plain),
        unicodedata.normalize("NFD", plain) if unicodedata.normalize("NFD", plain).isascii() or _stepwise(plain) else plain,
        "\u200b" + plain + "\u00a0",
    }
    found = set()
    for spelling in spellings:
        try:
            found.add(normalised(Normaliser.FOLD, spelling, "n"))
        except RapportError as error:
            found.add(type(error).__name__.encode())
    assert len(found) == 1, (spellings, found)


def test_every_letter_with_marks_and_its_parts_are_one() -> None:
    """Greek vowels with an accent are twice in Unicode, and the iota below one is a mark: both made strangers."""
    apart = []
    for code in (*range(0xC0, 0x590), *range(0x1E00, 0x2000)):
        letter = chr(code)
        if unicodedata.combining(letter):
            continue
        spellings = {letter, unicodedata.normalize("NFC", letter), unicodedata.normalize("NFD", letter)}
        if len({normalised(Normaliser.FOLD, each, "n") for each in spellings if each.strip()}) > 1:
            apart.append(f"{code:04x}")
    assert apart == []


def _stepwise(text: str) -> bool:
    """Whether each letter has one mark at most: of more the order may differ."""
    apart = unicodedata.normalize("NFD", text)
    return not any(unicodedata.combining(one) and unicodedata.combining(two) for one, two in pairwise(apart))


@given(st.sampled_from(list(Normaliser)), st.text(max_size=300))
def test_normalising_again_changes_nothing(rule: Normaliser, text: str) -> None:
    try:
        once = normalised(rule, text, "n")
    except RapportError:
        return
    assert 0 < len(once) <= limits.IDENTIFIER_BYTES
    assert normalised(rule, once.decode(), "n") == once
