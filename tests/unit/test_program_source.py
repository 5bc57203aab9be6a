"""Goal: what a marketer writes becomes the program that is meant. Method: small programs, read whole."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from core.errors import ProgramError
from core.expressions import Call, Expression, InputKind, Read
from core.programs.program import (
    Adjustment,
    Cap,
    ConstantPropensity,
    ContentType,
    Layer,
    ModelPropensity,
    Offer,
    Program,
    Rounding,
    ScorecardPropensity,
    Suppression,
)
from core.programs.source import check, read
from core.schema import ValueType

PROGRAMS = Path(__file__).parent.parent.parent / "programs"
DAY_US = 86_400 * 1_000_000

BASE = """
program: small
currency: EUR
segments: {grown: customer.age >= 18, rich: segment.grown && customer.balance > 1000}
schema:
  attributes: {age: int, balance: money, first_name: string, vip: bool, country: {type: enum, labels: [PT, NO]}}
  facts: {call_reason: {type: enum, labels: [savings, other]}}
  events: {overdraft: {amount: money}}
  offer_fields: {margin: double, stock: int, new: bool, family: string}
  purposes: [marketing]
  outcomes: [called_back]
  cases: [complaint]
channels: {web: {content_type: html, placements: {hero: {slots: 2, fallback: {title: Hello}}}}, phone: }
groups: {savings: {consent: marketing, eligibility: [segment.grown]}, cards: }
offers:
"""


def load(offers: str, base: str = BASE) -> Program:
    return check(read({"program.yaml": (base + offers).encode()}))


def one(text: str) -> Offer:
    lines = "".join(f"    {line}\n" for line in text.strip().splitlines())
    return load(f"  - offer: o\n    group: savings\n    value: 1\n    propensity: 0.5\n{lines}").offers[0]


def us(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> int:
    return int(datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp()) * 1_000_000


def test_the_specification_s_own_example_reads_as_it_stands() -> None:
    # Word for word, the unquoted `!` included, which YAML itself takes for a tag.
    program = load("""
- offer: savings_plan
  group: savings
  value: 1
  propensity: 0.1
- offer: term_deposit_3y
  group: savings
  schedule: {from: 2026-09-01, until: 2026-12-31}
  eligibility:                                  # may we?
    - customer.age >= 18
    - customer.country in ['PT', 'NO']
  applicability:                                # does it fit now?
    - !has(customer.vip)
  suitability:                                  # is it right for the customer?
    - events.overdraft.count_90d < 5
  value: 42.00 EUR
  levers:
    - {percent: 30, when: "facts.call_reason == 'savings'"}
  propensity: {model: term_deposit_uptake}
  price:
    list: 0.00 EUR
  contact:
    caps: [{outcome: shown, at_most: 3, per: 7d}]
    suppress: [{outcome: rejected, times: 3, within: 30d, pause: 60d, related: [savings_plan]}]
  treatments:
    web.hero: {title: "A better rate for you, {{ customer.first_name }}", link: /deposits}
""")
    assert [offer.name for offer in program.offers] == ["savings_plan", "term_deposit_3y"]
    offer = program.offers[1]
    assert (offer.schedule_from_us, offer.schedule_until_us) == (us(2026, 9, 1), us(2027, 1, 1))
    assert [rule.id for rule in offer.rules] == [
        "term_deposit_3y.eligibility.1", "term_deposit_3y.eligibility.2", "term_deposit_3y.applicability.1",
        "term_deposit_3y.suitability.1",
    ]
    assert [rule.layer for rule in offer.rules] == [
        Layer.ELIGIBILITY, Layer.ELIGIBILITY, Layer.APPLICABILITY, Layer.SUITABILITY
    ]
    negation = offer.rules[2].condition.root
    assert isinstance(negation, Call)
    assert negation.op == "!"
    assert offer.rules[2].condition.text == "!has(customer.vip)"
    assert offer.value == 42.0
    assert offer.propensity == ModelPropensity("term_deposit_uptake", offer.propensity.where)  # type: ignore[union-attr]
    assert offer.caps == (Cap("term_deposit_3y.caps.1", "shown", 3, 7 * DAY_US),)
    assert offer.suppressions == (
        Suppression("term_deposit_3y.suppress.1", "rejected", 3, 30 * DAY_US, 60 * DAY_US, ("savings_plan",)),
    )
    assert offer.price is not None
    assert (offer.price.list, offer.price.currency, offer.price.basis) == (0, "EUR", ())
    title, link = offer.treatments["web.hero"].fields
    assert title.pieces[0] == "A better rate for you, "
    assert not isinstance(title.pieces[1], str)
    assert title.pieces[1].root == Read(title.pieces[1].inputs[0])
    assert (link.name, link.pieces) == ("link", ("/deposits",))


def test_labels_that_yaml_takes_for_bools_stay_texts() -> None:
    program = load("  []\n")
    assert program.schema.attributes["country"].labels == ("PT", "NO")


def test_schema_channels_and_groups_are_read() -> None:
    program = load("  []\n")
    assert program.schema.attributes["balance"].currency == "EUR"
    assert program.schema.facts["call_reason"].type is ValueType.ENUM
    assert program.schema.outcomes == ("served", "shown", "clicked", "accepted", "rejected", "converted", "called_back")
    assert program.channels == ("web", "phone")
    hero = program.placements["web.hero"]
    assert (hero.slots, hero.content_type, dict(hero.fallback)) == (2, ContentType.HTML, {"title": "Hello"})
    assert list(program.groups) == ["cards", "savings"]
    assert program.groups["savings"].consent == "marketing"
    assert program.instance_expiry_us == 30 * DAY_US


def test_schedule_until_a_date_includes_that_day_and_a_timestamp_does_not() -> None:
    offer = one("schedule: {from: 2026-09-01T08:00:00+02:00, until: 2026-09-30T12:00:00Z}")
    assert (offer.schedule_from_us, offer.schedule_until_us) == (us(2026, 9, 1, 6), us(2026, 9, 30, 12))
    offer = one("schedule: {until: 2026-09-30}")
    assert (offer.schedule_from_us, offer.schedule_until_us) == (None, us(2026, 10, 1))
    assert one("schedule: {from: 2026-09-01 10:30}").schedule_from_us == us(2026, 9, 1, 10, 30)


def test_a_price_without_a_floor_does_not_fall_below_nothing() -> None:
    """Each adjustment was bounded, their sum was not: 10 EUR less 25 EUR was quoted as -15 EUR."""
    price = one("price: {list: 10.00 EUR, adjustments: [{amount: -25.00 EUR}]}").price
    assert price is not None
    assert price.floor == 0


def test_price_is_read_exactly() -> None:
    price = one("""
price:
  list: 19.90 EUR
  adjustments:
    - {percent: -12.5, when: customer.vip && facts.call_reason == 'savings'}
    - {id: welcome, amount: -2.05 EUR, when: segment.rich}
    - {percent: 3}
  floor: 15.00 EUR
  ceiling: 25.00 EUR
  round: {to: 1.00 EUR, ending: 0.99 EUR, mode: down}
""").price
    assert price is not None
    assert (price.list, price.floor, price.ceiling) == (1990, 1500, 2500)
    assert (price.increment, price.ending, price.rounding) == (100, 99, Rounding.DOWN)
    assert [(each.id, each.percent, each.amount) for each in price.adjustments] == [
        ("o.price.1", -12.5, 0), ("welcome", 0.0, -205), ("o.price.3", 3.0, 0)
    ]
    # What the price is personal by: facts of the moment say nothing of the customer.
    assert price.basis == ("customer.vip", "customer.age", "customer.balance")
    assert isinstance(price.adjustments[2], Adjustment)
    assert price.adjustments[2].when is None


def test_currencies_keep_their_own_decimals() -> None:
    yen = load("  - {offer: o, group: cards, value: 300 JPY, propensity: 1, price: {list: 300 JPY}}\n",
               BASE.replace("EUR", "JPY")).offers[0]
    assert yen.price is not None
    assert (yen.price.list, yen.value) == (300, 300.0)
    dinar = load("  - {offer: o, group: cards, value: 1.234 KWD, propensity: 1, price: {list: 1.234 KWD}}\n",
                 BASE.replace("EUR", "KWD")).offers[0]
    assert dinar.price is not None
    assert (dinar.price.list, dinar.value) == (1234, 1.234)


def test_propensities_of_each_kind() -> None:
    assert one("").propensity == ConstantPropensity(0.5)
    offer = load("""
  - offer: o
    group: cards
    value: customer.balance * offer.margin
    propensity:
      scorecard:
        {intercept: -2, weights: {customer.age: 0.02, !customer.vip: 1, offer.stock: 0.5}, missing: 0.1}
    fields: {margin: 1, stock: 3, new: true, family: "yes"}
""").offers[0]
    card = offer.propensity
    assert isinstance(card, ScorecardPropensity)
    assert (card.intercept, card.weights, card.missing) == (-2.0, (0.02, 1.0, 0.5), 0.1)
    assert [feature.text for feature in card.features] == ["customer.age", "!customer.vip", "offer.stock"]
    assert dict(offer.fields) == {"margin": 1.0, "stock": 3, "new": True, "family": "yes"}
    assert isinstance(offer.fields["margin"], float)
    assert isinstance(offer.value, Expression)
    assert [each.kind for each in offer.value.inputs] == [InputKind.ATTRIBUTE]


def test_offer_s_constant_is_its_own() -> None:
    # Texts are checked once and kept; one that reads `offer.` means something else in each offer.
    offers = load("".join(
        f"  - {{offer: o{i}, group: cards, value: offer.margin + customer.age, propensity: 1,"
        f" fields: {{margin: {i}}}, treatments: {{web.hero: {{t: 'm {{{{ offer.margin }}}}'}}}}}}\n" for i in range(3)
    )).offers
    assert len({offer.value for offer in offers}) == 3
    assert len({offer.treatments["web.hero"].fields for offer in offers}) == 3


def test_equal_texts_are_one_expression() -> None:
    offers = load("".join(
        f"  - {{offer: o{i}, group: cards, value: 1, propensity: 1, eligibility: [customer.age > 3]}}\n"
        for i in range(3)
    )).offers
    assert len({id(offer.rules[0].condition) for offer in offers}) == 1


def test_segments_may_be_used_before_they_stand() -> None:
    base = BASE.replace("{grown: customer.age >= 18, rich: segment.grown && customer.balance > 1000}",
                        "{rich: segment.grown && customer.balance > 1000, grown: customer.age >= 18}")
    assert load("  []\n", base).groups == load("  []\n").groups


def test_arbitration_and_program_caps() -> None:
    text = BASE.replace("currency: EUR", """currency: EUR
instance_expiry: 2w
arbitration: {context_weight: false, repeats: true, at_most_per_group: 2}
caps: [{outcome: shown, at_most: 9, per: 1d}, {id: calls, outcome: called_back, at_most: 1, per: 1d, channel: phone}]""")
    program = load("  []\n", text)
    assert (program.arbitration.use_context_weight, program.arbitration.repeats) == (False, True)
    assert program.arbitration.at_most_per_group == 2
    assert program.instance_expiry_us == 14 * DAY_US
    assert [cap.id for cap in program.caps] == ["program.caps.1", "calls"]
    assert program.caps[1].channel == "phone"


def test_formula_says_which_factors_an_offer_needs() -> None:
    text = BASE.replace("currency: EUR", "currency: EUR\narbitration: {formula: propensity * (1 + levers / 100.0)}")
    offer = load("  - {offer: o, group: cards, propensity: 0.1}\n", text).offers[0]
    assert offer.value == 1.0


def test_offers_in_any_form_and_order_are_one_program() -> None:
    rng = random.Random(20261122)
    bodies = [f"offer: o{i:02}\ngroup: cards\nvalue: {i}\npropensity: 0.1\n" for i in range(12)]

    def listed(some: Iterable[str]) -> bytes:
        return "".join("- " + body.replace("\n", "\n  ").rstrip(" ") for body in some).encode()

    files = {
        "program.yaml": BASE.replace("offers:", "").encode(),
        "offers.yaml": listed(bodies[:3]),
        "offers/a.yaml": bodies[3].encode(),
        "offers/deep/er/b.yml": "---\n".join(bodies[4:8]).encode(),
        "offers/c.yaml": listed(bodies[8:]),
        "offers/empty.yaml": b"# nothing yet\n",
        "mapping_customers.yaml": b"not: [a program",
        "data/customers.yaml": b"neither",
        "notes.txt": b"nor this",
    }
    names = list(files)
    rng.shuffle(names)
    first, second = read(files), read({name: files[name] for name in names})
    assert first.digest == second.digest
    program = check(first)
    assert [offer.name for offer in program.offers] == [f"o{i:02}" for i in range(12)]
    assert replace(check(second), digest="") == replace(program, digest="")
    changed = read({**files, "offers/a.yaml": files["offers/a.yaml"] + b"\n"})
    assert changed.digest != first.digest


def test_anchors_and_merge_keys_spare_writing() -> None:
    program = load("""
- &first
  offer: a
  group: cards
  value: 1
  propensity: 0.1
  contact: &c {caps: [{outcome: shown, at_most: 1, per: 1d}]}
- <<: *first
  offer: b
  value: 2
""")
    first, second = program.offers
    assert (second.value, second.propensity) == (2.0, first.propensity)
    assert [first.caps[0].id, second.caps[0].id] == ["a.caps.1", "b.caps.1"]


def test_braces_in_a_template_s_strings_do_not_close_it() -> None:
    offer = one("""treatments: {web.hero: {t: "{{ '{{' }} and {{ customer.vip ? '}}' : \\"}\\" }}"}}""")
    pieces = offer.treatments["web.hero"].fields[0].pieces
    assert len(pieces) == 3
    assert pieces[1] == " and "


@pytest.mark.parametrize(("name", "offers"), [("bank", 25), ("shop", 55)])
def test_demonstration_programs_load(name: str, offers: int) -> None:
    program = check(read(PROGRAMS / name))
    assert (program.name, len(program.offers)) == (name, offers)
    shown = {placement for offer in program.offers for placement in offer.treatments}
    assert shown == set(program.placements)
    models = {offer.propensity.model for offer in program.offers if isinstance(offer.propensity, ModelPropensity)}
    assert models == {{"bank": "term_deposit_uptake", "shop": "shop_affinity"}[name]}


def test_collector_is_on_again_after_a_check_good_or_bad() -> None:
    assert gc.isenabled()
    load("  []\n")
    assert gc.isenabled()
    with pytest.raises(ProgramError):
        load("  - nothing\n")
    assert gc.isenabled()
    gc.disable()
    try:
        load("  []\n")
        assert not gc.isenabled()
    finally:
        gc.enable()
