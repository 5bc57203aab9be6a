"""The oracle is right where a person can work out the answer: every number here was computed by hand.

What checks the engine must be checked by something else than the engine. The programs are small values, built
without YAML, so that nothing but the oracle is under test.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

import pytest
from msgspec.structs import replace

from core.decision import Clamp, DecideAnswer, DecideRequest, Event, ExplainLevel, Factors, PlacementRequest
from core.errors import Where
from core.expressions import Call, Expression, Input, InputKind, Kind, Literal, Node, Read, Type
from core.programs.program import (
    Adjustment,
    Arbitration,
    Cap,
    CasePause,
    ConstantPropensity,
    ContentType,
    Group,
    Layer,
    ModelPropensity,
    Offer,
    Placement,
    Price,
    Program,
    Propensity,
    Rounding,
    Rule,
    ScorecardPropensity,
    Suppression,
    Text,
    Treatment,
    Weight,
)
from core.reasons import Detail, Reason, SlotStatus
from core.schema import Aggregate, AggregateFunction, EventType, Field, Money, Schema, ValueType
from tests.oracle import (
    Case,
    Contact,
    ModelScore,
    Moment,
    OracleCustomer,
    decide,
    escape,
    round_price,
    shortest,
    timestamp_text,
)

DAY = 86_400 * 1_000_000
NOW = 1_000 * DAY
HERE = Where("test", 1, 1)
BOOL, INT, DOUBLE, STRING = (Type(kind) for kind in (Kind.BOOL, Kind.INT, Kind.DOUBLE, Kind.STRING))
AGE = Input(InputKind.ATTRIBUTE, "age", INT)
VIP = Input(InputKind.ATTRIBUTE, "vip", BOOL)
BALANCE = Input(InputKind.ATTRIBUTE, "balance", Type(Kind.MONEY, "EUR"))
NAME = Input(InputKind.ATTRIBUTE, "first_name", STRING)
PURCHASES = Input(
    InputKind.AGGREGATE, "events.purchase.count_7d", INT, Aggregate("purchase", AggregateFunction.COUNT, "", 7 * DAY)
)
SPENT = Input(
    InputKind.AGGREGATE,
    "events.purchase.sum_amount_7d",
    Type(Kind.MONEY, "EUR"),
    Aggregate("purchase", AggregateFunction.SUM, "amount", 7 * DAY),
)
SCHEMA = Schema(events={"purchase": EventType("purchase", (Field("amount", ValueType.MONEY, currency="EUR"),))})


def call(op: str, kind: Type, *arguments: Node) -> Call:
    return Call(op, arguments, kind)


def expression(root: Node) -> Expression:
    return Expression(root, "")


def at_least(source: Input, bound: int) -> Expression:
    return expression(call(">=", BOOL, Read(source), Literal(bound, INT)))


ADULT = at_least(AGE, 18)
RICH = expression(call(">", BOOL, Read(BALANCE), Literal(100.0, BALANCE.type)))
RICH_OR_VIP = expression(call("||", BOOL, RICH.root, Read(VIP)))


def rule(identifier: str, layer: Layer, condition: Expression) -> Rule:
    return Rule(identifier, layer, condition, HERE)


TREATMENTS = {"web.home": Treatment("web.home", (Text("title", ("Hello ", expression(Read(NAME)))),))}


def offer(
    name: str = "card", value: float | Expression = 10.0, propensity: Propensity | float = 0.5, group: str = "cards"
) -> Offer:
    likely = ConstantPropensity(propensity) if isinstance(propensity, int | float) else propensity
    return Offer(name, group, likely, value, HERE, treatments=TREATMENTS)


def program(
    *offers: Offer,
    group: Group = Group("cards"),  # noqa: B008
    arbitration: Arbitration = Arbitration(),  # noqa: B008
    caps: tuple[Cap, ...] = (),
    home: Placement = Placement("web.home", "web", fallback={"title": "Welcome"}),  # noqa: B008
) -> Program:
    groups = {"cards": Group("cards"), "loans": Group("loans")} | {group.name: group}
    placements = {
        "web.home": home,
        "web.cart": Placement("web.cart", "web"),
        "call.prompt": Placement("call.prompt", "call"),
    }
    return Program(
        "test",
        "00",
        SCHEMA,
        ("web", "call"),
        placements,
        groups,
        tuple(sorted(offers, key=lambda one: one.name)),
        arbitration,
        "EUR",
        caps,
    )


def ask(
    *placements: str, channel: str = "web", slots: int | None = None, events: tuple[Event, ...] = ()
) -> DecideRequest:
    return DecideRequest(
        channel,
        tuple(PlacementRequest(name, slots) for name in placements or ("home",)),
        events=events,
        explain=ExplainLevel.FULL,
        as_of_us=NOW,
    )


def why(answer: DecideAnswer, placement: int = 0) -> dict[str, tuple[Reason, str, Detail, str]]:
    return {one.offer: (one.reason, one.rule, one.detail, one.input) for one in answer.placements[placement].rejections}


def returned(answer: DecideAnswer, placement: int = 0) -> list[str]:
    return [one.offer for one in answer.placements[placement].offers]


SOMEBODY = OracleCustomer()


# --- priority -------------------------------------------------------------------------------------------------


def test_priority_is_the_product_of_its_factors_and_each_shows() -> None:
    card = replace(
        offer(value=50.0, propensity=0.20),
        levers=(Weight("a", 30.0), Weight("b", 25.0)),
        context_weights=(Weight("c", 100.0),),
    )
    (won,) = decide(program(card), SOMEBODY, ask()).placements[0].offers
    assert won.priority == pytest.approx(31.0, rel=1e-15)
    assert won.factors == Factors(0.20, 100.0, 50.0, 55.0)
    (won,) = (
        decide(program(card, arbitration=Arbitration(use_context_weight=False)), SOMEBODY, ask()).placements[0].offers
    )
    assert won.priority == pytest.approx(15.5, rel=1e-15)


def test_group_weights_add_to_the_offers_and_unknown_ones_add_nothing() -> None:
    card = replace(offer(value=1.0, propensity=1.0), levers=(Weight("own", 10.0), Weight("rich", 500.0, RICH)))
    group = Group("cards", levers=(Weight("all", 40.0), Weight("adult", 1000.0, ADULT)))
    (won,) = decide(program(card, group=group), OracleCustomer({"age": 17}), ask()).placements[0].offers
    assert won.factors.lever_percent == 50.0
    assert won.priority == 1.5


def test_weights_past_minus_a_hundred_leave_a_priority_of_nothing_and_show_as_declared() -> None:
    """The factor turned negative, so of two offers held down the one worth less came first."""
    held = (Weight("a", -80.0), Weight("b", -70.0))
    poor, rich = (replace(offer(name, value=value), levers=held) for name, value in (("z", 1.0), ("y", 1000.0)))
    won = decide(program(poor, rich), SOMEBODY, ask(slots=2)).placements[0].offers
    assert [(one.offer, one.priority, one.factors.lever_percent) for one in won] == [("y", 0.0, -150.0), ("z", 0.0, -150.0)]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"age": 40, "vip": True}, 1 / (1 + math.exp(-(-1 + 0.05 * 40 + 0.5)))),
        ({}, 1 / (1 + math.exp(-(-1 + 0.55 * 2)))),
    ],
)
def test_scorecard_reads_bools_as_numbers_and_missing_as_declared(
    attributes: Mapping[str, int], expected: float
) -> None:
    card = ScorecardPropensity(-1.0, (expression(Read(AGE)), expression(Read(VIP))), (0.05, 0.5), missing=2.0)
    (won,) = decide(program(offer(propensity=card)), OracleCustomer(attributes), ask()).placements[0].offers
    assert won.factors.propensity == pytest.approx(expected, rel=1e-15)


def test_scorecard_adds_lanes_in_pairs() -> None:
    # In plain order 1e16 + 1 + 1 + ... loses every 1. In lanes, lane 0 holds 1e16 - 1e16, and each of the others a 1.
    weights = (1e16, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, -1e16)
    one = expression(Literal(1, INT))
    card = ScorecardPropensity(-7.0, (one,) * 9, weights)
    (won,) = decide(program(offer(propensity=card)), SOMEBODY, ask()).placements[0].offers
    assert won.factors.propensity == 0.5


def test_no_finite_number_is_no_score() -> None:
    poor = offer("poor", value=expression(Read(BALANCE)))
    huge = offer("huge", value=1e308)
    huge = replace(huge, levers=(Weight("x", 1e6),))
    answer = decide(program(poor, huge), SOMEBODY, ask())
    assert why(answer) == {
        "poor": (Reason.SCORE_UNDEFINED, "", Detail.VALUE_MISSING, "customer.balance"),
        "huge": (Reason.SCORE_UNDEFINED, "", Detail.EXPRESSION_FAILED, ""),
    }
    assert answer.placements[0].status is SlotStatus.FALLBACK_NO_ELIGIBLE_OFFER


def test_a_formula_replaces_the_product_and_reads_factors() -> None:
    term = {name: Input(InputKind.TERM, name, DOUBLE) for name in ("propensity", "levers")}
    formula = expression(call("+", DOUBLE, Read(term["propensity"]), Read(term["levers"])))
    card = replace(offer(propensity=0.25), levers=(Weight("a", 50.0),))
    (won,) = decide(program(card, arbitration=Arbitration(formula=formula)), SOMEBODY, ask()).placements[0].offers
    assert won.priority == 0.25 + 1.5


# --- filter ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        (
            {"age": 17, "vip": True, "balance": Money(1, "EUR")},
            (Reason.ELIGIBILITY, "card.eligibility.1", Detail.FALSE, ""),
        ),
        ({"vip": True}, (Reason.ELIGIBILITY, "card.eligibility.1", Detail.VALUE_MISSING, "customer.age")),
        ({"age": 18, "vip": False}, (Reason.APPLICABILITY, "card.applicability.1", Detail.FALSE, "")),
        (
            {"age": 18, "vip": True},
            (Reason.SUITABILITY, "card.suitability.1", Detail.VALUE_MISSING, "customer.balance"),
        ),
        (
            {"age": 18, "vip": True, "balance": Money(10_000, "EUR")},
            (Reason.SUITABILITY, "card.suitability.1", Detail.FALSE, ""),
        ),
        ({"age": 18, "vip": True, "balance": Money(10_001, "EUR")}, None),
    ],
)
def test_the_first_layer_that_fails_is_the_reason(
    attributes: Mapping[str, int], expected: tuple[Reason, str, Detail, str] | None
) -> None:
    card = replace(
        offer(),
        rules=(
            rule("card.suitability.1", Layer.SUITABILITY, RICH),
            rule("card.applicability.1", Layer.APPLICABILITY, expression(Read(VIP))),
            rule("card.eligibility.1", Layer.ELIGIBILITY, ADULT),
        ),
    )
    answer = decide(program(card), OracleCustomer(attributes), ask())
    assert why(answer).get("card") == expected
    assert returned(answer) == ([] if expected else ["card"])


def test_a_groups_rule_speaks_first_and_removes_every_offer_of_the_group() -> None:
    own = replace(offer("a"), rules=(rule("a.eligibility.1", Layer.ELIGIBILITY, ADULT),))
    group = Group("cards", rules=(rule("cards.eligibility.1", Layer.ELIGIBILITY, ADULT),))
    answer = decide(
        program(own, offer("b"), offer("c", group="loans"), group=group), OracleCustomer({"age": 17}), ask()
    )
    expected = (Reason.ELIGIBILITY, "cards.eligibility.1", Detail.FALSE, "")
    assert why(answer) == {"a": expected, "b": expected}
    assert returned(answer) == ["c"]


def test_unknown_does_not_hold_unless_the_other_side_does() -> None:
    card = replace(offer(), rules=(rule("r", Layer.ELIGIBILITY, RICH_OR_VIP),))
    assert returned(decide(program(card), OracleCustomer({"vip": True}), ask())) == ["card"]
    assert why(decide(program(card), OracleCustomer({"vip": False}), ask()))["card"][2:] == (
        Detail.VALUE_MISSING,
        "customer.balance",
    )


def test_schedule_channel_and_placement_come_before_rules() -> None:
    never = (rule("never", Layer.ELIGIBILITY, expression(Literal(False, BOOL))),)
    cart = {"web.cart": TREATMENTS["web.home"]}
    call_only = {"call.prompt": TREATMENTS["web.home"]}
    answer = decide(
        program(
            replace(offer("a"), schedule_from_us=NOW + 1, rules=never),
            replace(offer("b"), schedule_until_us=NOW, treatments=call_only),
            replace(offer("c"), stopped=True),
            replace(offer("d"), treatments=call_only, rules=never),
            replace(offer("e"), treatments=cart, rules=never),
            replace(offer("f"), rules=never),
            replace(offer("g"), schedule_from_us=NOW, schedule_until_us=NOW + 1),
        ),
        SOMEBODY, ask(),
    )  # fmt: skip
    assert {name: said[0] for name, said in why(answer).items()} == {
        "a": Reason.SCHEDULE, "b": Reason.SCHEDULE, "c": Reason.SCHEDULE, "d": Reason.CHANNEL, "e": Reason.PLACEMENT,
        "f": Reason.ELIGIBILITY,
    }  # fmt: skip
    assert returned(answer) == ["g"]


@pytest.mark.parametrize(
    ("consents", "detail"),
    [
        ({}, Detail.VALUE_MISSING),
        ({("ads", "call"): (1, True)}, Detail.VALUE_MISSING),
        ({("ads", ""): (1, False)}, Detail.FALSE),
        ({("ads", ""): (1, True), ("ads", "web"): (2, False)}, Detail.FALSE),
        ({("ads", ""): (2, False), ("ads", "web"): (1, True)}, Detail.FALSE),  # a withdrawal in every channel
        ({("ads", ""): (1, False), ("ads", "web"): (2, True)}, None),
        ({("ads", ""): (2, True), ("ads", "web"): (1, False)}, None),
        ({("ads", ""): (1, True), ("ads", "web"): (1, False)}, Detail.FALSE),  # of one moment: the no
        ({("ads", ""): (1, False), ("ads", "web"): (1, True)}, Detail.FALSE),
        ({("ads", ""): (1, True)}, None),
    ],
)
def test_of_the_channels_consent_and_that_for_every_channel_the_newer_decides(
    consents: Mapping[tuple[str, str], tuple[int, bool]], detail: Detail | None
) -> None:
    answer = decide(program(offer(), group=Group("cards", consent="ads")), OracleCustomer(consents=consents), ask())
    missing = "consent.ads" if detail is Detail.VALUE_MISSING else ""
    assert why(answer) == ({"card": (Reason.CONSENT, "ads", detail, missing)} if detail else {})


def test_an_open_case_pauses_and_a_closed_one_does_not() -> None:
    paused = replace(offer(), paused_by_cases=(CasePause("complaint"),))
    for closed_us, expected in ((None, Reason.CASE_OPEN), (NOW + 1, Reason.CASE_OPEN), (NOW, None)):
        answer = decide(program(paused), OracleCustomer(cases=(Case("complaint", NOW - DAY, closed_us),)), ask())
        assert why(answer).get("card", (None,))[0] is expected


# --- contact policy -------------------------------------------------------------------------------------------


def contacts(
    *days_ago: float, outcome: str = "shown", name: str = "card", channel: str = "call"
) -> tuple[Contact, ...]:
    return tuple(Contact(name, outcome, channel, NOW - int(days * DAY)) for days in days_ago)


@pytest.mark.parametrize(
    ("history", "out"),
    [
        (contacts(1, 2), True),
        (contacts(0, 6.999), True),
        (contacts(1, 7), False),  # the window is open at its old end
        (contacts(1, -0.1), False),  # not yet
        (contacts(1) + contacts(1, outcome="clicked"), False),
        (contacts(1) + contacts(1, name="other"), False),
    ],
)
def test_a_cap_counts_its_window(history: tuple[Contact, ...], out: bool) -> None:
    card = replace(offer(), caps=(Cap("card.cap", "shown", 2, 7 * DAY),))
    answer = decide(program(card, offer("other")), OracleCustomer(contacts=history), ask(slots=2))
    assert why(answer) == ({"card": (Reason.CONTACT_CAP, "card.cap", Detail.NONE, "")} if out else {})


def test_caps_of_channel_group_and_program() -> None:
    seen = OracleCustomer(contacts=contacts(1, name="a") + contacts(1, name="b", channel="web"))
    by_call = Cap("call", "shown", 1, 7 * DAY, channel="call")
    a, b, c = offer("a"), offer("b"), offer("c", group="loans")
    assert why(decide(program(replace(a, caps=(by_call,))), seen, ask())) == {}  # binds calls only
    group = Group("cards", caps=(Cap("g", "shown", 2, 7 * DAY),))
    assert {name: said[1] for name, said in why(decide(program(a, b, c, group=group), seen, ask())).items()} == {
        "a": "g",
        "b": "g",
    }
    everywhere = program(a, b, c, caps=(Cap("p", "shown", 2, 7 * DAY),))
    assert {name: said[1] for name, said in why(decide(everywhere, seen, ask())).items()} == {
        "a": "p",
        "b": "p",
        "c": "p",
    }


@pytest.mark.parametrize(("ago", "out"), [(0, True), (59, True), (60, False), (61, False)])
def test_three_rejects_pause_for_sixty_days_with_what_is_related(ago: int, out: bool) -> None:
    pause = Suppression("s", "rejected", 3, 30 * DAY, 60 * DAY, related_offers=("plan",), related_groups=("loans",))
    card = replace(offer(), suppressions=(pause,))
    seen = OracleCustomer(contacts=contacts(ago, ago + 10, ago + 30, outcome="rejected"))
    answer = decide(program(card, offer("plan"), offer("loan", group="loans"), offer("free")), seen, ask(slots=4))
    assert why(answer) == (
        dict.fromkeys(["card", "plan", "loan"], (Reason.SUPPRESSED, "s", Detail.NONE, "")) if out else {}
    )
    assert returned(answer) == (["free"] if out else ["card", "free", "loan", "plan"])


def test_rejects_too_far_apart_pause_nothing() -> None:
    card = replace(offer(), suppressions=(Suppression("s", "rejected", 3, 30 * DAY, 60 * DAY),))
    seen = OracleCustomer(contacts=contacts(0, 10, 30.001, outcome="rejected"))
    assert returned(decide(program(card), seen, ask())) == ["card"]


# --- arbitrate ------------------------------------------------------------------------------------------------


def test_ties_go_by_name_and_the_page_has_no_repeats() -> None:
    both = {"web.home": TREATMENTS["web.home"], "web.cart": TREATMENTS["web.home"]}
    offers = [
        replace(offer(name, value=value), treatments=both) for name, value in (("b", 1.0), ("a", 1.0), ("z", 9.0))
    ]
    answer = decide(program(*offers), SOMEBODY, ask("cart", "home"))
    assert (returned(answer, 0), returned(answer, 1)) == (["z"], ["a"])
    assert {name: said[0] for name, said in why(answer, 1).items()} == {
        "z": Reason.DUPLICATE,
        "b": Reason.ARBITRATION_LOST,
    }
    lost = {one.offer: one for one in answer.placements[1].rejections}
    assert (lost["z"].priority, lost["z"].lowest_winner) == (4.5, 0.5)
    assert (lost["b"].priority, lost["b"].lowest_winner) == (0.5, 0.5)
    assert answer.placements[1].summary == {Reason.DUPLICATE: 1, Reason.ARBITRATION_LOST: 1}
    repeated = decide(program(*offers, arbitration=Arbitration(repeats=True)), SOMEBODY, ask("cart", "home"))
    assert (returned(repeated, 0), returned(repeated, 1)) == (["z"], ["z"])


def test_a_full_group_is_skipped_only_while_slots_are_free() -> None:
    offers = [offer(name, value=value) for name, value in (("a", 9.0), ("b", 8.0), ("d", 1.0))]
    loan = offer("c", value=5.0, group="loans")
    answer = decide(program(*offers, loan, arbitration=Arbitration(at_most_per_group=1)), SOMEBODY, ask(slots=2))
    assert returned(answer) == ["a", "c"]
    assert {name: said[0] for name, said in why(answer).items()} == {
        "b": Reason.GROUP_LIMIT,
        "d": Reason.ARBITRATION_LOST,
    }
    home = Placement("web.home", "web", at_most_per_group=2)
    assert returned(decide(program(*offers, loan, home=home), SOMEBODY, ask(slots=4))) == ["a", "b", "c"]


def test_the_page_limit_counts_over_placements() -> None:
    both = {"web.home": TREATMENTS["web.home"], "web.cart": TREATMENTS["web.home"]}
    offers = [replace(offer(name), treatments=both) for name in "ab"]
    answer = decide(program(*offers, arbitration=Arbitration(at_most_per_group=1)), SOMEBODY, ask("home", "cart"))
    assert (returned(answer, 0), returned(answer, 1)) == (["a"], [])
    assert {name: said[0] for name, said in why(answer, 1).items()} == {"a": Reason.DUPLICATE, "b": Reason.GROUP_LIMIT}
    assert all(one.lowest_winner is None for one in answer.placements[1].rejections)


# --- statuses -------------------------------------------------------------------------------------------------


def nothing(offered: Offer, moment: Moment) -> ModelScore | None:
    return None


def stand_in(offered: Offer, moment: Moment) -> ModelScore | None:
    return ModelScore(0.125, "m/1", fallback=True)


def test_each_empty_slot_says_why() -> None:
    learned = offer("learned", propensity=ModelPropensity("m", HERE))
    barred = replace(offer("barred"), rules=(rule("r", Layer.ELIGIBILITY, ADULT),))
    for offers, customer, model, status in (
        ((barred,), SOMEBODY, nothing, SlotStatus.FALLBACK_NO_ELIGIBLE_OFFER),
        ((barred,), None, nothing, SlotStatus.FALLBACK_UNKNOWN_CUSTOMER),
        ((barred, learned), None, nothing, SlotStatus.FALLBACK_MODEL),
        ((offer(), learned), SOMEBODY, nothing, SlotStatus.OK_MODEL_FALLBACK),
        ((offer(), learned), SOMEBODY, stand_in, SlotStatus.OK_MODEL_FALLBACK),
        ((offer(),), None, nothing, SlotStatus.OK),
        ((replace(offer(), treatments={}),), SOMEBODY, nothing, SlotStatus.FALLBACK_EMPTY_CATALOGUE),
        ((), SOMEBODY, nothing, SlotStatus.FALLBACK_EMPTY_CATALOGUE),
    ):
        placement = decide(program(*offers), customer, ask(), {"m": model}).placements[0]
        assert placement.status is status
        assert placement.fallback == ({} if placement.offers else {"title": "Welcome"})
    (failed,) = decide(program(learned), SOMEBODY, ask(), {"m": nothing}).placements[0].rejections
    assert failed.reason is Reason.MODEL_FAILED


# --- events ---------------------------------------------------------------------------------------------------


def test_an_event_of_the_moment_counts_once() -> None:
    wants = replace(offer(), rules=(rule("two", Layer.ELIGIBILITY, at_least(PURCHASES, 2)),))
    stored = Event("purchase", "k1", NOW - DAY)
    again = Event("purchase", "k1", None)
    fresh = Event("purchase", "k2", None)
    old = Event("purchase", "k0", NOW - 7 * DAY)
    later = Event("purchase", "k3", NOW + 1)
    seen = OracleCustomer(events=(stored, old, later))
    assert returned(decide(program(wants), seen, ask(events=(again,)))) == []
    assert returned(decide(program(wants), seen, ask(events=(fresh,)))) == ["card"]
    assert returned(decide(program(wants), SOMEBODY, ask(events=(fresh, fresh)))) == []


def test_money_adds_up_in_cents() -> None:
    spent = offer(value=expression(Read(SPENT)), propensity=1.0)
    coins = tuple(Event("purchase", str(i), NOW - i, {"amount": Money(10, "EUR")}) for i in range(3))
    (won,) = decide(program(spent), OracleCustomer(events=coins), ask()).placements[0].offers
    assert won.factors.value == 0.3  # not 0.1 + 0.1 + 0.1, which is 0.30000000000000004


# --- price ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exact", "price", "expected"),
    [
        (Fraction(125), Price(0, "EUR", increment=10), 130),
        (Fraction(-125), Price(0, "EUR", increment=10), -130),
        (Fraction(1249, 10), Price(0, "EUR", increment=10), 120),
        (Fraction(121), Price(0, "EUR", increment=10, rounding=Rounding.UP), 130),
        (Fraction(129), Price(0, "EUR", increment=10, rounding=Rounding.DOWN), 120),
        (Fraction(120), Price(0, "EUR", increment=10, rounding=Rounding.UP), 120),
        (Fraction(512), Price(0, "EUR", increment=100, ending=99), 499),
        (Fraction(549), Price(0, "EUR", increment=100, ending=99), 599),
        (Fraction(49), Price(0, "EUR", increment=100, ending=99), 99),  # -1 and 99 are equally far; away from zero
        (Fraction(1_500), Price(0, "EUR", floor=1_500, ceiling=2_500, increment=100, ending=99), 1_599),
        (Fraction(2_500), Price(0, "EUR", floor=1_500, ceiling=2_500, increment=100, ending=99), 2_499),
        (Fraction(1_510), Price(0, "EUR", floor=1_505, ceiling=1_520, increment=100), 1_505),
        (Fraction(1_590), Price(0, "EUR", floor=1_505, ceiling=1_595, increment=100), 1_595),
    ],
)
def test_rounding_ends_inside_the_bounds(exact: Fraction, price: Price, expected: int) -> None:
    assert round_price(exact, price) == expected


def test_percentages_are_of_the_list_price_and_exact() -> None:
    adjustments = (
        Adjustment("a", percent=-33.3333),
        Adjustment("b", percent=10.0, when=ADULT),
        Adjustment("c", amount=-7),
    )
    listed = Price(10_001, "EUR", adjustments, floor=6_000, basis=("customer.age",))
    # 10001 x (1 - 0.333333 + 0.1) - 7 = 7660.4366..., 10001 x 0.666667 - 7 = 6660.3366...
    for age, minor in ((18, 7_660), (17, 6_660)):
        (won,) = (
            decide(program(replace(offer(), price=listed)), OracleCustomer({"age": age}), ask()).placements[0].offers
        )
        assert won.price is not None
        assert won.price.amount == Money(minor, "EUR")
        assert (won.price.clamp, won.price.personal, won.price.basis) == (Clamp.NONE, True, ("customer.age",))
    low = replace(listed, floor=9_000, basis=())
    (won,) = decide(program(replace(offer(), price=low)), SOMEBODY, ask()).placements[0].offers
    assert won.price is not None
    assert (won.price.amount.minor, won.price.clamp, won.price.personal) == (9_000, Clamp.FLOOR, False)


# --- render ---------------------------------------------------------------------------------------------------


def test_content_holds_values_and_nothing_where_they_are_missing() -> None:
    (won,) = decide(program(offer()), OracleCustomer({"first_name": "Ana"}), ask()).placements[0].offers
    assert won.content == {"title": "Hello Ana"}
    (won,) = decide(program(offer()), SOMEBODY, ask()).placements[0].offers
    assert won.content == {"title": "Hello "}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (ContentType.TEXT, "<a href=\"x\">é & 'y'\t\n"),
        (ContentType.HTML, "&lt;a href=&#34;x&#34;&gt;é &amp; &#39;y&#39;\t\n\x01"),
        (ContentType.JSON, "<a href=\\\"x\\\">é & 'y'\\t\\n\\u0001"),
        (ContentType.URL, "%3Ca%20href%3D%22x%22%3E%C3%A9%20%26%20%27y%27%09%0A%01"),
    ],
)
def test_values_are_escaped_for_their_content_type(kind: ContentType, expected: str) -> None:
    assert escape("<a href=\"x\">é & 'y'\t\n\x01", kind) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.1, "0.1"),
        (1e20, "1e+20"),
        (100000.0, "100000"),
        (1 / 3, "0.3333333333333333"),
        (0.1 + 0.2, "0.30000000000000004"),
        (-0.0, "-0"),
        (5e-324, "4.94065645841247e-324"),
    ],
)
def test_doubles_are_written_as_short_as_they_read_back(value: float, expected: str) -> None:
    assert shortest(value) == expected


@pytest.mark.parametrize(
    ("at_us", "expected"),
    [(0, "1970-01-01T00:00:00Z"), (-1, "1969-12-31T23:59:59.999999Z"), (951_782_400_000_000, "2000-02-29T00:00:00Z"),
     (1_781_524_800_000_001, "2026-06-15T12:00:00.000001Z")],
)  # fmt: skip
def test_times_are_iso_8601_in_utc(at_us: int, expected: str) -> None:
    assert timestamp_text(at_us) == expected
