"""Derived values and bands as declared: what they mean, and what is said of those that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.decision import DecideRequest, ExplainLevel, Identifier, PlacementRequest
from core.errors import ProgramError
from core.hub import mutations
from core.programs import image
from core.programs.source import check, read
from tests.engine_subject import EngineSubject

DAY = 86_400_000_000
NOW = 1_800_000_000_000_000

HEAD = """
program: p
currency: EUR
schema:
  namespaces: {crm: {trust: 1}}
  attributes: {age: int, spent: money, name: string, secret: {type: int, protected: true}}
  facts: {cart: money}
  events: {purchase: {amount: money}}
  purposes: [marketing]
channels: {web: {placements: {hero: {slots: 1}}}}
groups: {g: }
offers:
- offer: o
  group: g
  value: 1
  propensity: 0.5
  %s
  treatments: {web.hero: {a: "%s"}}
"""


def sources(definitions: str, text: str = "x", extra: str = "stopped: false") -> dict[str, bytes]:
    return {"program.yaml": (HEAD % (extra, text) + definitions).encode()}


def problems(definitions: str) -> list[tuple[str, str]]:
    """Every problem as (line:column: message, hint)."""
    with pytest.raises(ProgramError) as caught:
        check(read(sources(definitions)))
    first = HEAD.count("\n") + 1
    return [(f"{one.where.line - first}:{one.where.column}: {one.message}", one.hint) for one in caught.value.problems]


def test_wrong_definitions_are_told_with_place_and_nearest_name() -> None:
    assert problems("derived: {a: derived.b + 1, b: 'derived.a * 2'}\n") == [
        ("0:33: These are defined by each other: derived.a -> derived.b -> derived.a.", "Write one of them without the others.")
    ]
    assert problems("derived: {worth: customer.age * 2}\nsegments: {rich: derived.wort > 3}\n") == [
        ("1:18: There is no derived value 'derived.wort'.", "Did you mean 'derived.worth'?")
    ]
    assert problems("bands: {spend: {of: customer.spent, parts: 5}}\nsegments: {top: band.spent == 5}\n") == [
        ("1:17: There is no band 'band.spent'.", "Did you mean 'band.spend'?")
    ]
    assert problems("bands: {spend: {of: customer.spent}}\n") == [
        ("0:9: Band 'spend' has no number of parts.", "Write {of: events.purchase.count_365d, parts: 5}.")
    ]
    assert problems("bands: {spend: {of: customer.spent, parts: 1, off: 2}}\n") == [
        ("0:44: parts is 1; it must lie between 2 and 100.", ""),
        ("0:47: There is no key 'off' in band 'spend'.", "Did you mean 'of'?"),
    ]
    assert problems("bands: {a: {of: customer.name, parts: 3}}\n")[0][0].startswith("0:17: This is a text, where")
    hint = "Its edges are made over all customers: read customer., events., aggregate., derived. or now."
    assert problems("bands: {a: {of: facts.cart, parts: 3}}\n") == [
        ("0:17: Band 'a' reads facts.cart: what only a request has.", hint)
    ]
    assert problems("derived: {d: band.a * 2}\nbands: {a: {of: customer.age, parts: 3}, b: {of: derived.d, parts: 3}}\n") == [
        ("1:50: Band 'b' reads band.a: another band.", hint)
    ]
    assert problems("derived: {d: band.a * 2}\nbands: {a: {of: derived.d, parts: 3}}\n") == [
        ("1:17: These are defined by each other: derived.d -> band.a -> derived.d.", "Write one of them without the others.")
    ]
    assert problems("derived: {s: [{when: customer.age > 3, then: 1}]}\n") == [
        ("0:15: The last case of derived value 's' has a condition, and nothing says what holds when no case does.",
         "Add a last one: - {then: ...}.")
    ]
    assert problems("derived: {s: [{then: 1}, {then: 2}]}\n") == [
        ("0:15: A case of derived value 's' has no condition, so those after it never hold.",
         "Add when: and a condition, or make it the last.")
    ]
    assert problems("derived: {s: [{when: customer.age > 3, then: 1}, {then: \"'a'\"}]}\n") == [
        ("0:58: This is a text, and the values before it are a whole number (int).",
         "All cases of a derived value have one type.")
    ]
    stage = "derived: {stage: [{when: customer.age > 3, then: \"'new'\"}, {then: \"'old'\"}]}\n"
    assert problems(stage + "segments: {s: derived.stage == 'olt'}\n") == [
        ("1:32: 'olt' is not a value of derived.stage.", "Did you mean 'old'?")
    ]
    # One message, however many name what is wrong.
    assert len(problems("derived: {d: customer.agee}\nsegments: {s: derived.d > 1, t: derived.d > 2}\n")) == 1


def test_a_case_whose_condition_is_unknown_does_not_hold(tmp_path: Path) -> None:
    """CEL's c ? a : b is unknown where c is. A list of cases is read as rules are: unknown does not hold, the next is asked."""
    stages = """
derived:
  stage:
    - {when: "now - events.purchase.last_at > duration('180d')", then: "'lapsed'"}
    - {when: customer.age >= 18, then: "'adult'"}
    - {then: "'prospect'"}
  worth: [{when: has(customer.spent), then: customer.spent}, {then: 0}]
segments: {known_worth: has(derived.worth) && derived.worth >= 0}
"""
    with EngineSubject(tmp_path) as subject:
        subject.load(sources(stages, "{{ derived.stage }} {{ derived.worth }} {{ segment.known_worth }}"), NOW)
        age = {"1": None, "2": 20, "3": 3}
        for number, value in age.items():
            subject.upsert([Identifier("crm", number)], {} if value is None else {"age": value}, NOW)
        subject.store.apply(mutations.RecordEvents(
            identifiers=(Identifier("crm", "3"),),
            events=(mutations.RecordedEvent(type="purchase", key="k", at_us=NOW - 200 * DAY),),
        ))
        shown = {}
        for number in age:
            (answer,) = subject.decide(
                DecideRequest("web", (PlacementRequest("hero"),), (Identifier("crm", number),)), NOW
            ).placements
            shown[number] = answer.offers[0].content["a"]
        assert shown == {"1": "prospect 0.00 EUR true", "2": "adult 0.00 EUR true", "3": "lapsed 0.00 EUR true"}


def test_what_a_band_is_of_decides_about_prices_as_if_it_stood_there() -> None:
    price = "price: {list: 10 EUR, floor: 1 EUR, adjustments: [{percent: -10, when: band.b == 5}]}"
    with pytest.raises(ProgramError) as caught:
        check(read(sources("bands: {b: {of: customer.secret + 1, parts: 5}}\n", extra=price)))
    assert "protected" in caught.value.problems[0].message
    program = check(read(sources("bands: {b: {of: customer.age, parts: 5}}\n", extra=price)))
    offer_price = program.offers[0].price
    assert offer_price is not None
    assert offer_price.basis == ("band.b",)


def test_image_keeps_definitions() -> None:
    text = """
derived: {worth: customer.spent * 2, stage: [{when: customer.age > 3, then: "'a'"}, {then: "'b'"}]}
bands: {b: {of: derived.worth, parts: 4}}
segments: {z: band.b > 2, a: derived.stage == 'a' && segment.z}
"""
    program = check(read(sources(text)))
    again = image.unpack(image.pack(program))
    assert again is not None
    assert repr(again) == repr(program)
    assert list(again.segments) == ["z", "a"]
    assert again.bands["b"].definition == program.bands["b"].definition


def test_a_band_without_edges_is_missing_and_said_to_be(tmp_path: Path) -> None:
    who = (Identifier("crm", "1"),)
    with EngineSubject(tmp_path) as subject:
        subject.load(
            sources("bands: {b: {of: customer.age, parts: 2}}\n", extra="eligibility: [{id: top, when: band.b == 2}]"), NOW
        )
        for number in range(1, 4):
            subject.upsert([Identifier("crm", str(number))], {"age": number}, NOW)
        request = DecideRequest("web", (PlacementRequest("hero"),), who, explain=ExplainLevel.FULL)
        (rejection,) = subject.decide(request, NOW).placements[0].rejections
        assert (rejection.rule, rejection.input) == ("top", "band.b (no edges yet)")
        subject.refresh(NOW)
        (rejection,) = subject.decide(request, NOW).placements[0].rejections
        assert (rejection.rule, rejection.input) == ("top", "")
        subject.upsert(who, {"age": 4}, NOW)
        assert subject.decide(request, NOW).placements[0].offers[0].offer == "o", "his own value counts at once"
