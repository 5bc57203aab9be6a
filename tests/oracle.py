"""The oracle: one whole decision, written to be read.

It takes the same values as the engine (`Program`, a customer, `DecideRequest`) and gives a comparable `DecideAnswer`.
One function a stage, in the order a decision goes through them: resolve, filter, contact policy, score, arbitrate,
price, render. Plain loops over plain values; no index, no cache across decisions, no vectors, nothing shared with
the kernel but the contracts. Where the specification leaves a choice, the choice is written here, beside the line
that makes it.

Ids are not decided here: ``decision`` and every ``token`` are empty, ``instance`` and ``took_ns`` are 0. Compare
with `tests.compare`.
"""

from __future__ import annotations

import calendar
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from msgspec.structs import replace

from core.decision import (
    Clamp,
    DecideAnswer,
    DecidedOffer,
    DecideRequest,
    Event,
    ExplainLevel,
    Factors,
    PlacementAnswer,
    PlacementRequest,
    QuotedPrice,
    Rejection,
)
from core.expressions import Expression
from core.expressions.expression import Call, Input, InputKind, Kind, Literal, Node, Read
from core.programs.program import (
    Cap,
    ConstantPropensity,
    ContentType,
    Group,
    Layer,
    ModelPropensity,
    Offer,
    Placement,
    Price,
    Program,
    Rounding,
    ScorecardPropensity,
    Suppression,
    Weight,
)
from core.reasons import Detail, Reason, SlotStatus
from core.schema import AggregateFunction, AnyValue, FilterTerm, Money, ValueType, currency_exponent
from tests.oracle_expressions import FAILED, MISSING, Value, evaluate

# --- what is known --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Contact:
    """One outcome in a customer's contact history."""

    offer: str
    outcome: str
    channel: str
    at_us: int


@dataclass(frozen=True, slots=True)
class Case:
    """A service matter; open until ``closed_us``. About a product, or ('') about the customer in general."""

    kind: str
    opened_us: int
    closed_us: int | None = None
    product: str = ""


@dataclass(frozen=True, slots=True)
class OracleHousehold:
    """What a member may know of his household. ``contacts`` are all members', each from when he joined; '' is no role."""

    attributes: Mapping[str, AnyValue] = field(default_factory=dict)
    role: str = ""
    size: int = 1
    contacts: tuple[Contact, ...] = ()
    cases: tuple[Case, ...] = ()


@dataclass(frozen=True, slots=True)
class OracleCustomer:
    """Everything the store knows about one customer, over all identifiers.

    ``consents`` by (purpose, channel), where channel '' is every channel: when, microseconds, and what was said. ``events``
    have their times filled in.
    """

    attributes: Mapping[str, AnyValue] = field(default_factory=dict)
    consents: Mapping[tuple[str, str], tuple[int, bool]] = field(default_factory=dict)
    cases: tuple[Case, ...] = ()
    contacts: tuple[Contact, ...] = ()
    events: tuple[Event, ...] = ()
    household: OracleHousehold | None = None


@dataclass(frozen=True, slots=True)
class ModelScore:
    """What a model said for one offer; ``fallback`` when its declared fallback value stood in for it."""

    value: float
    version: str = ""  # "<name>/<version>"
    fallback: bool = False


# A model as the oracle sees it: offer and moment in, a score out; None when it failed and has no fallback value.
OracleModel = Callable[[Offer, "Moment"], ModelScore | None]

# --- resolve --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Moment:
    """All that expressions may read in one decision."""

    program: Program
    request: DecideRequest
    customer: OracleCustomer
    known: bool
    now_us: int
    events: tuple[Event, ...]  # stored and sent along, each (type, key) once, sorted by time
    edges: Mapping[str, Sequence[float]] = field(default_factory=dict)  # of each band that has some
    # What was read and found in this decision. Conditions by identity: they live as long as the program.
    _values: dict[Input, Value] = field(default_factory=dict)
    _outcomes: dict[int, tuple[Detail, str]] = field(default_factory=dict)

    def read(self, source: Input) -> Value:
        """The value of an input, or MISSING."""
        if source not in self._values:
            self._values[source] = _read(self, source)
        return self._values[source]

    def outcome(self, condition: Expression) -> tuple[Detail, str]:
        """NONE when the condition holds; else why it does not, and the path of the missing value."""
        found = self._outcomes.get(id(condition))
        if found is None:
            found = self._outcomes[id(condition)] = outcome(condition, self.values(condition))
        return found

    def values(self, expression: Expression) -> dict[Input, Value]:
        """Values of everything an expression reads; what is missing is left out."""
        found = {source: self.read(source) for source in expression.inputs if source.kind is not InputKind.TERM}
        return {source: value for source, value in found.items() if value is not MISSING}


def resolve(
    program: Program,
    customer: OracleCustomer | None,
    request: DecideRequest,
    now_us: int,
    edges: Mapping[str, Sequence[float]] | None = None,
) -> Moment:
    """The customer with the events of the moment. None is nobody known: an empty profile."""
    known = customer is not None
    person = customer or OracleCustomer()
    events: dict[tuple[str, str], Event] = {}
    for event in person.events:
        events.setdefault((event.type, event.key), event)
    for event in request.events:
        # What is stored was there first: sending it again changes nothing, not even its fields.
        at_us = now_us if event.at_us is None else min(event.at_us, now_us)
        events.setdefault((event.type, event.key), Event(event.type, event.key, at_us, event.fields))
    ordered = tuple(sorted(events.values(), key=lambda event: event.at_us or 0))
    return Moment(program, request, person, known, now_us, ordered, edges or {})


def band_edges(
    program: Program, customers: Sequence[OracleCustomer], now_us: int
) -> dict[str, tuple[float, ...]]:
    """The quantiles of each band's value over all customers who have one; a band that nobody has a value of has none."""
    nobody = DecideRequest("", ())
    found: dict[str, tuple[float, ...]] = {}
    for name, band in program.bands.items():
        values = []
        for customer in customers:
            moment = resolve(program, customer, nobody, now_us)
            value = evaluate(band.of.root, moment.values(band.of))
            if isinstance(value, int | float) and math.isfinite(value):
                values.append(float(value))
        if values:
            found[name] = tuple(float(np.quantile(values, number / band.parts)) for number in range(1, band.parts))
    return found


def _read(moment: Moment, source: Input) -> Value:
    request, customer = moment.request, moment.customer
    match source.kind:
        case InputKind.ATTRIBUTE:
            return as_value(customer.attributes.get(source.name))
        case InputKind.FACT:
            return as_value(request.facts.get(source.name))
        case InputKind.AGGREGATE:
            return _aggregate(moment, source)
        case InputKind.NOW:
            return moment.now_us
        case InputKind.CHANNEL:
            return request.channel or MISSING  # nobody asks: a walk over all customers
        case InputKind.CONSENT:
            granted = consent(customer, source.name, request.channel)
            return MISSING if granted is None else granted
        case InputKind.CASE:
            return case_open(moment, source.name, source.product)
        case InputKind.KNOWN:
            return moment.known
        case InputKind.SHARED:
            return as_value(customer.household.attributes.get(source.name) if customer.household else None)
        case InputKind.HOUSEHOLD:
            home = customer.household or OracleHousehold(size=0)
            return home.size if source.name == "size" else home.role or MISSING
        case InputKind.BAND:
            return _band(moment, source.name)
        case InputKind.TERM | InputKind.FIELD:
            raise AssertionError(f"{source.path} is read outside an arbitration formula or a filter")


def _band(moment: Moment, name: str) -> Value:
    """1 and how many edges the value exceeds; MISSING without a value or edges."""
    band = moment.program.bands[name]
    value = evaluate(band.of.root, moment.values(band.of))
    if name not in moment.edges or not isinstance(value, int | float):
        return MISSING
    return 1 + sum(value > edge for edge in moment.edges[name])


def as_value(value: AnyValue | None) -> Value:
    """A value as expressions see it: money as a double in major units, a timestamp as microseconds."""
    if value is None:
        return MISSING
    if isinstance(value, Money):
        return value.minor / 10.0 ** currency_exponent(value.currency)
    if isinstance(value, bool | int | float | str | frozenset):
        return value
    return calendar.timegm(value.utctimetuple()) * 1_000_000 + value.microsecond


def _aggregate(moment: Moment, source: Input) -> Value:
    """The aggregate over the events in its window: ``now - window < at <= now``."""
    aggregate = source.aggregate
    assert aggregate is not None, f"{source.path} has no aggregate"
    inside: list[Event] = []
    for event in moment.events:
        at_us = event.at_us or 0
        late = aggregate.window_us and at_us <= moment.now_us - aggregate.window_us
        inside_window = event.type == aggregate.event and at_us <= moment.now_us and not late
        if inside_window and all(_meets(event, term) for term in aggregate.where):
            inside.append(event)
    if aggregate.function is AggregateFunction.COUNT:
        return len(inside)
    if aggregate.field in {"", "at"}:
        times = [event.at_us or 0 for event in inside]
        if not times:
            return MISSING
        oldest = aggregate.function in {AggregateFunction.FIRST, AggregateFunction.MIN}
        return min(times) if oldest else max(times)
    held = [event.fields[aggregate.field] for event in inside if aggregate.field in event.fields]
    if aggregate.function is AggregateFunction.DISTINCT:
        return len(set(held))
    if aggregate.function is AggregateFunction.LAST:
        return as_value(held[-1]) if held else MISSING
    if aggregate.function is AggregateFunction.FIRST:
        return as_value(held[0]) if held else MISSING
    declared = {one.name: one for one in moment.program.schema.events[aggregate.event].fields}[aggregate.field]
    if declared.type is ValueType.MONEY:
        # Money is added in minor units and made a double once, so that cents stay exact.
        minors = [one.minor for one in held if isinstance(one, Money)]
        return _number(aggregate.function, minors, 10.0 ** currency_exponent(declared.currency))
    numbers = [_as_number(as_value(one)) for one in held]
    if aggregate.function is AggregateFunction.SUM and declared.type is ValueType.DOUBLE:
        return sum(numbers, 0.0)
    return _number(aggregate.function, numbers, None)


def _meets(event: Event, term: FilterTerm) -> bool:
    """Whether an event meets a term of a filter; one without the field does not."""
    if term.field not in event.fields:
        return False
    value: Any = as_value(event.fields[term.field])
    if isinstance(value, str):
        value = value.encode()  # texts compare by their bytes, and labels only as equal or not
    literals = [each.encode() if isinstance(each, str) else each for each in (
        term.value if isinstance(term.value, tuple) else (term.value,)
    )]
    compare = {
        "==": operator.eq, "in": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt,
        ">=": operator.ge,
    }[term.op]
    return any(compare(value, literal) for literal in literals)


def _number(function: AggregateFunction, numbers: Sequence[int | float], unit: float | None) -> Value:
    """Sum, least, greatest or mean; divided by the money's unit where there is one."""
    if function is AggregateFunction.SUM:
        total: int | float = sum(numbers)
        return total / unit if unit else total
    if not numbers:
        return MISSING
    if function is AggregateFunction.MEAN:
        total = sum(numbers)
        return (total / unit if unit else float(total)) / len(numbers)
    best = min(numbers) if function is AggregateFunction.MIN else max(numbers)
    return best / unit if unit else best


def consent(customer: OracleCustomer, purpose: str, channel: str) -> bool | None:
    """Granted, refused, or never asked (None): what was said last of the channel or of every channel; at one moment, the no."""
    said = [customer.consents[purpose, where] for where in {channel, ""} if (purpose, where) in customer.consents]
    if not said:
        return None
    newest = max(at_us for at_us, _ in said)
    return all(granted for at_us, granted in said if at_us == newest)


def case_open(moment: Moment, kind: str, product: str = "") -> bool:
    """Whether a case of this kind is open at the decision's time; of a product: one about it, or about none in particular."""
    home = moment.customer.household
    for case in (*moment.customer.cases, *(home.cases if home else ())):
        still = case.closed_us is None or case.closed_us > moment.now_us
        about = not product or case.product in ("", product)
        if case.kind == kind and about and case.opened_us <= moment.now_us and still:
            return True
    return False


# --- conditions -----------------------------------------------------------------------------------------------


def outcome(expression: Expression, values: Mapping[Input, Value]) -> tuple[Detail, str]:
    """NONE when the condition holds; else why it does not, and the path of the missing value."""
    result = evaluate(expression.root, values)
    if result is True:
        return Detail.NONE, ""
    if result is False:
        return Detail.FALSE, ""
    if result is FAILED:
        return Detail.EXPRESSION_FAILED, ""
    return Detail.VALUE_MISSING, missing_input(expression.root, values)


def missing_input(node: Node, values: Mapping[Input, Value]) -> str:
    """The path of the first input whose absence left this node unknown, reading from left to right."""
    match node:
        case Read(input=source):
            return source.path
        case Call(op="?:", arguments=(condition, yes, no)):
            chosen = evaluate(condition, values)
            return missing_input(condition if chosen is MISSING else yes if chosen is True else no, values)
        case Call(arguments=arguments):
            for argument in arguments:
                if evaluate(argument, values) is MISSING:
                    return missing_input(argument, values)
        case Literal():
            pass
    raise AssertionError("nothing is missing here")


def holds(moment: Moment, condition: Expression | None) -> bool:
    """Whether a condition holds; no condition always does, an unknown one does not."""
    return condition is None or moment.outcome(condition)[0] is Detail.NONE


# --- filter ---------------------------------------------------------------------------------------------------


def filter_offer(moment: Moment, offer: Offer, placement: Placement) -> Rejection | None:
    """Schedule, channel, placement, the three layers, consent and cases, in the order of `Reason`."""
    group = moment.program.groups.get(offer.group, Group(""))
    if offer.stopped:
        return Rejection(offer.name, Reason.SCHEDULE)
    if offer.schedule_from_us is not None and moment.now_us < offer.schedule_from_us:
        return Rejection(offer.name, Reason.SCHEDULE)
    if offer.schedule_until_us is not None and moment.now_us >= offer.schedule_until_us:
        return Rejection(offer.name, Reason.SCHEDULE)
    if not any(name.startswith(placement.channel + ".") for name in offer.treatments):
        return Rejection(offer.name, Reason.CHANNEL)
    if placement.name not in offer.treatments:
        return Rejection(offer.name, Reason.PLACEMENT)
    for layer in Layer:
        for rule in (*group.rules, *offer.rules):
            if rule.layer is layer:
                detail, missing = moment.outcome(rule.condition)
                if detail is not Detail.NONE:
                    return Rejection(offer.name, Reason(layer), rule.id, detail, missing)
    purpose = offer.consent or group.consent
    if purpose:
        granted = consent(moment.customer, purpose, moment.request.channel)
        if granted is None:
            return Rejection(offer.name, Reason.CONSENT, purpose, Detail.VALUE_MISSING, "consent." + purpose)
        if not granted:
            return Rejection(offer.name, Reason.CONSENT, purpose, Detail.FALSE)
    for pause in (*group.paused_by_cases, *offer.paused_by_cases):
        product = offer.product if pause.of_product else ""
        if case_open(moment, pause.kind, product):
            return Rejection(offer.name, Reason.CASE_OPEN, f"{pause.kind}['{product}']" if product else pause.kind)
    return None


# --- contact policy -------------------------------------------------------------------------------------------


def contact_policy(moment: Moment, offer: Offer) -> Rejection | None:
    """Caps (the offer's, its group's, the program's), then suppressions (its own, its group's, those that name it)."""
    program = moment.program
    group = program.groups.get(offer.group, Group(""))
    everything = {one.name for one in program.offers}
    family = {one.name for one in program.offers if one.group == offer.group and offer.group}
    for caps, scope in ((offer.caps, {offer.name}), (group.caps, family), (program.caps, everything)):
        for cap in caps:
            if cap_reached(moment, cap, scope):
                return Rejection(offer.name, Reason.CONTACT_CAP, cap.id)
    for suppression, scope in _suppressions(program, offer, group, family):
        if suppressed(moment, suppression, scope):
            return Rejection(offer.name, Reason.SUPPRESSED, suppression.id)
    return None


def cap_reached(moment: Moment, cap: Cap, scope: set[str]) -> bool:
    """Whether as many contacts as the cap allows lie in ``now - per < at <= now``."""
    if cap.channel and cap.channel != moment.request.channel:
        return False
    count = 0
    customer = moment.customer
    counted = customer.household.contacts if cap.household and customer.household else customer.contacts
    for contact in counted:
        meant = contact.offer in scope and contact.outcome == cap.outcome
        inside = moment.now_us - cap.per_us < contact.at_us <= moment.now_us
        if meant and inside and cap.channel in {"", contact.channel}:
            count += 1
    return count >= cap.at_most


def _suppressions(program: Program, offer: Offer, group: Group, family: set[str]) -> list[tuple[Suppression, set[str]]]:
    """Every suppression that can pause this offer, in the order they speak, with the offers whose contacts count."""
    own = [(one, {offer.name}) for one in offer.suppressions]
    of_group = [(one, family) for one in group.suppressions]
    related: list[tuple[Suppression, set[str]]] = []
    for other in program.offers:
        if other.name != offer.name:
            for one in other.suppressions:
                if offer.name in one.related_offers or offer.group in one.related_groups:
                    related.append((one, {other.name}))
    for name, other_group in sorted(program.groups.items()):
        if name != offer.group:
            members = {one.name for one in program.offers if one.group == name}
            for one in other_group.suppressions:
                if offer.name in one.related_offers or offer.group in one.related_groups:
                    related.append((one, members))
    return own + of_group + related


def suppressed(moment: Moment, suppression: Suppression, scope: set[str]) -> bool:
    """Whether some contact completed the count inside ``within`` and its pause still lasts."""
    times: list[int] = []
    for contact in moment.customer.contacts:
        if contact.offer in scope and contact.outcome == suppression.outcome and contact.at_us <= moment.now_us:
            times.append(contact.at_us)
    times.sort()
    for i in range(suppression.times - 1, len(times)):
        close = times[i] - times[i - suppression.times + 1] <= suppression.within_us
        if close and moment.now_us < times[i] + suppression.pause_us:
            return True
    return False


# --- score ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scored:
    """An offer that competes."""

    offer: Offer
    priority: float
    factors: Factors
    model: str = ""
    model_fallback: bool = False


def score(moment: Moment, offer: Offer, models: Mapping[str, OracleModel]) -> Scored | Rejection:
    """Propensity, context weight, value and levers, and their product or the program's formula.

    A factor that is switched off counts as 1 and is not evaluated, so it can neither fail nor be undefined.
    """
    program, rules = moment.program, moment.program.arbitration
    group = program.groups.get(offer.group, Group(""))
    propensity, model, fallback = 1.0, "", False
    if rules.use_propensity:
        match offer.propensity:
            case ConstantPropensity(value=constant):
                propensity = constant
            case ScorecardPropensity() as card:
                propensity = scorecard(moment, card)
            case ModelPropensity(model=name):
                said = models[name](offer, moment)
                if said is None:
                    return Rejection(offer.name, Reason.MODEL_FAILED)
                propensity, model, fallback = said.value, "" if said.fallback else said.version, said.fallback
        if not math.isfinite(propensity):
            return Rejection(offer.name, Reason.SCORE_UNDEFINED)
    context = percents(moment, (*group.context_weights, *offer.context_weights)) if rules.use_context_weight else 0.0
    lever = percents(moment, (*group.levers, *offer.levers)) if rules.use_levers else 0.0
    value = 1.0
    if rules.use_value:
        if isinstance(offer.value, Expression):
            given = moment.values(offer.value)
            result = evaluate(offer.value.root, given)
            if result is MISSING:
                missing = missing_input(offer.value.root, given)
                return Rejection(offer.name, Reason.SCORE_UNDEFINED, "", Detail.VALUE_MISSING, missing)
            if result is FAILED:
                return Rejection(offer.name, Reason.SCORE_UNDEFINED, "", Detail.EXPRESSION_FAILED)
            assert isinstance(result, int | float)
            value = float(result)
        else:
            value = float(offer.value)
        if not math.isfinite(value):
            return Rejection(offer.name, Reason.SCORE_UNDEFINED, "", Detail.EXPRESSION_FAILED)
    factors = Factors(propensity, context, value, lever)
    if rules.formula is None:
        # This order of multiplication, so that the last bit is the same everywhere.
        priority = ((propensity * factor(context)) * value) * factor(lever)
    else:
        terms = {
            "propensity": propensity,
            "context_weight": factor(context),
            "value": value,
            "levers": factor(lever),
        }
        given = moment.values(rules.formula)
        given |= {one: terms[one.name] for one in rules.formula.inputs if one.kind is InputKind.TERM}
        result = evaluate(rules.formula.root, given)
        if result is MISSING:
            missing = missing_input(rules.formula.root, given)
            return Rejection(offer.name, Reason.SCORE_UNDEFINED, "", Detail.VALUE_MISSING, missing)
        if result is FAILED:
            return Rejection(offer.name, Reason.SCORE_UNDEFINED, "", Detail.EXPRESSION_FAILED)
        assert isinstance(result, int | float)
        priority = float(result)
    if not math.isfinite(priority):
        return Rejection(offer.name, Reason.SCORE_UNDEFINED, "", Detail.EXPRESSION_FAILED)
    return Scored(offer, priority, factors, model, fallback)


def percents(moment: Moment, weights: Sequence[Weight]) -> float:
    """The sum of the percents whose condition holds: the group's first, then the offer's, in declared order."""
    total = 0.0
    for weight in weights:
        if holds(moment, weight.when):
            total += weight.percent
    return total


def factor(percent: float) -> float:
    """What a sum of percents multiplies a priority by; a sum below -100 % takes all of it, and no more.

    >>> [factor(percent) for percent in (55.0, -100.0, -150.0)]
    [1.55, 0.0, 0.0]
    """
    return max(1.0 + percent / 100.0, 0.0)


def scorecard(moment: Moment, card: ScorecardPropensity) -> float:
    """The logistic scorecard, added up in eight lanes as vector registers do, so that the sum has one value.

    Lane i % 8 takes weight[i] * feature[i] in order; the lanes are then added in pairs. No multiplication is fused.
    """
    lanes = [0.0] * 8
    for i, (feature, weight) in enumerate(zip(card.features, card.weights, strict=True)):
        result = evaluate(feature.root, moment.values(feature))
        value = card.missing if result is MISSING or result is FAILED else float(_as_number(result))
        lanes[i % 8] += weight * value
    pairs = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]))
    total = card.intercept + pairs
    try:
        return 1.0 / (1.0 + math.exp(-total))
    except OverflowError:
        return 0.0  # exp(-total) is infinite


def _as_number(value: Value) -> int | float:
    assert isinstance(value, int | float), f"a feature gave {value!r}"
    return value  # a bool is 0 or 1


# --- arbitrate ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Page:
    """What earlier placements of the request have taken, and what was found for offers already: it is the same for all."""

    returned: set[str] = field(default_factory=set)
    by_group: dict[str, int] = field(default_factory=dict)
    scored: dict[str, Scored | Rejection] = field(default_factory=dict)


def arbitrate(
    moment: Moment, placement: Placement, slots: int, competing: Sequence[Scored], page: Page
) -> tuple[list[Scored], list[Rejection]]:
    """Fill the slots from the highest priority down; ties go by the offer's name in byte order."""
    rules = moment.program.arbitration
    ranked = sorted(competing, key=lambda one: (-one.priority, one.offer.name.encode()))
    winners: list[Scored] = []
    skipped: list[tuple[Scored, Reason]] = []
    here: dict[str, int] = {}
    for one in ranked:
        name, group = one.offer.name, one.offer.group
        full_here = placement.at_most_per_group and here.get(group, 0) >= placement.at_most_per_group
        full_page = rules.at_most_per_group and page.by_group.get(group, 0) >= rules.at_most_per_group
        if name in page.returned and not rules.repeats:
            skipped.append((one, Reason.DUPLICATE))
        elif len(winners) == slots:
            skipped.append((one, Reason.ARBITRATION_LOST))
        elif group and (full_here or full_page):
            skipped.append((one, Reason.GROUP_LIMIT))
        else:
            winners.append(one)
            here[group] = here.get(group, 0) + 1
            page.by_group[group] = page.by_group.get(group, 0) + 1
    page.returned |= {one.offer.name for one in winners}
    lowest = winners[-1].priority if winners else None
    lost = [
        Rejection(one.offer.name, reason, priority=one.priority, lowest_winner=lowest, factors=one.factors)
        for one, reason in skipped
    ]
    return winners, lost


# --- price ----------------------------------------------------------------------------------------------------


def quote(moment: Moment, price: Price) -> QuotedPrice:
    """The price in exact arithmetic: list, adjustments, clamp, rounding, and back inside the bounds."""
    percent, amount = Fraction(0), 0
    for adjustment in price.adjustments:
        if holds(moment, adjustment.when):
            percent += Fraction(round(adjustment.percent * 10_000), 10_000)
            amount += adjustment.amount
    exact = price.list + price.list * percent / 100 + amount
    clamp = Clamp.NONE
    if price.floor is not None and exact < price.floor:
        exact, clamp = Fraction(price.floor), Clamp.FLOOR
    elif price.ceiling is not None and exact > price.ceiling:
        exact, clamp = Fraction(price.ceiling), Clamp.CEILING
    minor = round_price(exact, price)
    return QuotedPrice(Money(minor, price.currency), Money(price.list, price.currency), bool(price.basis), price.basis, clamp)


def round_price(exact: Fraction, price: Price) -> int:
    """To ``k * increment + ending``: halves away from zero, or up, or down; then inside floor and ceiling."""
    below = math.floor((exact - price.ending) / price.increment) * price.increment + price.ending
    above = below if below == exact else below + price.increment
    match price.rounding:
        case Rounding.UP:
            minor = above
        case Rounding.DOWN:
            minor = below
        case Rounding.NEAREST:
            if above - exact == exact - below:
                minor = above if exact >= 0 else below
            else:
                minor = above if above - exact < exact - below else below
    if price.floor is not None and minor < price.floor:
        least = math.ceil(Fraction(price.floor - price.ending, price.increment)) * price.increment + price.ending
        inside = price.ceiling is None or least <= price.ceiling
        return least if inside else price.floor
    if price.ceiling is not None and minor > price.ceiling:
        most = math.floor(Fraction(price.ceiling - price.ending, price.increment)) * price.increment + price.ending
        inside = price.floor is None or most >= price.floor
        return most if inside else price.ceiling
    return minor


# --- render ---------------------------------------------------------------------------------------------------


def render(moment: Moment, offer: Offer, placement: Placement) -> dict[str, str]:
    """Every field of the treatment; the marketer's own text as it is, values escaped for the content type."""
    content = {}
    for text in offer.treatments[placement.name].fields:
        parts = []
        for piece in text.pieces:
            if isinstance(piece, str):
                parts.append(piece)
            else:
                value = evaluate(piece.root, moment.values(piece))
                parts.append(escape(as_text(value, piece), placement.content_type))
        content[text.name] = "".join(parts)
    return content


def as_text(value: Value, expression: Expression) -> str:
    """A value as people read it; nothing for what is missing or failed."""
    if value is MISSING or value is FAILED:
        return ""
    match expression.type.kind:
        case Kind.BOOL:
            return "true" if value else "false"
        case Kind.INT:
            return str(value)
        case Kind.DOUBLE:
            return shortest(float(_as_number(value)))
        case Kind.MONEY:
            digits = currency_exponent(expression.type.currency)
            return f"{_as_number(value):.{digits}f} {expression.type.currency}".rstrip()
        case Kind.STRING:
            assert isinstance(value, str)
            return value
        case Kind.TIMESTAMP:
            assert isinstance(value, int)
            return timestamp_text(value)
        case other:
            raise AssertionError(f"a {other.value} is not text")


def shortest(value: float) -> str:
    """The first of 15, 16 and 17 significant digits that reads back as the same double."""
    for digits in (15, 16, 17):
        text = f"{value:.{digits}g}"
        if float(text) == value:
            return text
    return f"{value:.17g}"


def timestamp_text(at_us: int) -> str:
    """ISO 8601 in UTC, with a fraction only where there is one."""
    seconds, fraction = divmod(at_us, 1_000_000)
    days, second = divmod(seconds, 86_400)
    year, month, day = civil(days)
    text = f"{year:04d}-{month:02d}-{day:02d}T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
    return text + (f".{fraction:06d}Z" if fraction else "Z")


def civil(days: int) -> tuple[int, int, int]:
    """Year, month and day of a day counted from 1970-01-01, by walking the Gregorian calendar."""
    cycles, rest = divmod(days, 146_097)  # 400 years
    year = 1970 + 400 * cycles
    while True:
        leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        if rest < 365 + leap:
            break
        rest -= 365 + leap
        year += 1
    for month, length in enumerate((31, 28 + leap, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31), start=1):
        if rest < length:
            return year, month, rest + 1
        rest -= length
    raise AssertionError("a year has no thirteenth month")


_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&#34;", "'": "&#39;"}
_JSON = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_URL_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def escape(text: str, content_type: ContentType) -> str:
    """A value made harmless for where it goes."""
    match content_type:
        case ContentType.TEXT:
            return "".join(one for one in text if (one >= " " and one != "\x7f") or one in "\t\n")
        case ContentType.HTML:
            return "".join(_HTML.get(one, one) for one in text)
        case ContentType.JSON:
            return "".join(_JSON.get(one, f"\\u{ord(one):04x}" if one < " " else one) for one in text)
        case ContentType.URL:
            return "".join(chr(byte) if byte in _URL_PLAIN else f"%{byte:02X}" for byte in text.encode())


# --- answer ---------------------------------------------------------------------------------------------------


def decide(
    program: Program,
    customer: OracleCustomer | None,
    request: DecideRequest,
    models: Mapping[str, OracleModel] | None = None,
    now_us: int | None = None,
    edges: Mapping[str, Sequence[float]] | None = None,
) -> DecideAnswer:
    """The whole decision. ``now_us`` is the clock where the request names no time of its own."""
    clock = request.as_of_us if request.as_of_us is not None else now_us
    assert clock is not None, "a decision needs a clock"
    moment = resolve(program, customer, request, clock, edges)
    page = Page()
    answers = tuple(_say_edges(moment, _fill(moment, asked, models or {}, page)) for asked in request.placements)
    return DecideAnswer(
        decision="",
        placements=answers,
        known=moment.known,
        program=program.name,
        digest=program.digest,
        models=(),
        as_of_us=clock,
        seed=request.seed or 0,
        took_ns=0,
    )


def _say_edges(moment: Moment, answer: PlacementAnswer) -> PlacementAnswer:
    """Reasons say it where a band is missing because nobody has edges of it yet."""
    unknown = {f"band.{name}" for name in moment.program.bands if name not in moment.edges}
    return replace(answer, rejections=tuple(
        replace(one, input=f"{one.input} (no edges yet)") if one.input in unknown else one
        for one in answer.rejections
    ))


def _fill(moment: Moment, asked: PlacementRequest, models: Mapping[str, OracleModel], page: Page) -> PlacementAnswer:
    program, request = moment.program, moment.request
    placement = program.placements[f"{request.channel}.{asked.name}"]
    slots = placement.slots if asked.slots is None else asked.slots
    rejections: list[Rejection] = []
    competing: list[Scored] = []
    for offer in program.offers:
        found = filter_offer(moment, offer, placement) or page.scored.get(offer.name)
        if found is None:
            found = contact_policy(moment, offer) or score(moment, offer, models)
            page.scored[offer.name] = found
        if isinstance(found, Rejection):
            rejections.append(found)
        else:
            competing.append(found)
    winners, lost = arbitrate(moment, placement, slots, competing, page)
    rejections += lost
    model_failed = any(one.reason is Reason.MODEL_FAILED for one in rejections)
    offers = tuple(
        DecidedOffer(
            offer=one.offer.name,
            group=one.offer.group,
            rank=rank,
            priority=one.priority,
            factors=one.factors,
            content=render(moment, one.offer, placement),
            token="",
            instance=0,
            price=quote(moment, one.offer.price) if one.offer.price else None,
            model=one.model,
        )
        for rank, one in enumerate(winners, start=1)
    )
    if offers:
        late = model_failed or any(one.model_fallback for one in competing)
        status = SlotStatus.OK_MODEL_FALLBACK if late else SlotStatus.OK
    elif not any(placement.name in offer.treatments for offer in program.offers):
        status = SlotStatus.FALLBACK_EMPTY_CATALOGUE
    elif model_failed:
        status = SlotStatus.FALLBACK_MODEL
    elif not moment.known:
        status = SlotStatus.FALLBACK_UNKNOWN_CUSTOMER
    else:
        status = SlotStatus.FALLBACK_NO_ELIGIBLE_OFFER
    summary: dict[Reason, int] = {}
    for rejection in rejections:
        summary[rejection.reason] = summary.get(rejection.reason, 0) + 1
    return PlacementAnswer(
        name=asked.name,
        status=status,
        offers=offers,
        fallback={} if offers else placement.fallback,
        rejections=tuple(sorted(rejections, key=lambda one: one.offer.encode())) if request.explain is ExplainLevel.FULL else (),
        summary={} if request.explain is ExplainLevel.NONE else summary,
    )
