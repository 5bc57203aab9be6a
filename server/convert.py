"""Messages to the core's values and back. Protos stop here: services hold both sides, the core never sees a message.

Only what the wire itself can get wrong is checked here (a value of no kind, an instant out of range, a number that no
enum has) and the counts that would cost memory before the core could look at them; names, types and the other limits
belong to the core. The common Decide takes a shorter way, `server.codec`, which must mean the same; this file is what it
is measured by.

Core values carry instants as microseconds, except inside `AnyValue`, where they are datetimes with a zone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, cast

from google.protobuf import duration_pb2, timestamp_pb2

from core import limits
from core.decision import (
    DecideAnswer,
    DecidedOffer,
    DecideRequest,
    Event,
    ExplainLevel,
    Factors,
    Identifier,
    PlacementAnswer,
    PlacementRequest,
    QuotedPrice,
    Rejection,
)
from core.errors import BadValue, TooLarge, UnknownName
from core.instants import FIRST_SECOND, LAST_SECOND, LONGEST_SECONDS
from core.outcomes import Outcome, ProgramVersion
from core.schema import AnyValue, Money
from protos.rapport.v1 import decision_pb2, program_pb2, values_pb2

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EXPLAIN: Final[dict[int, ExplainLevel]] = {0: ExplainLevel.NONE, **{level.value: level for level in ExplainLevel}}
_SIGN_64: Final = (1 << 64) - 1

# --- instants ---------------------------------------------------------------------------------------------------


def micros(instant: timestamp_pb2.Timestamp, field: str) -> int:
    """Microseconds since 1970; finer digits are dropped. BadValue names ``field`` when it is out of range."""
    seconds, nanos = instant.seconds, instant.nanos
    if not (FIRST_SECOND <= seconds <= LAST_SECOND and 0 <= nanos <= 999_999_999):
        raise BadValue(field, "is not an instant between the years 1 and 9999", "Nanos run from 0 to 999,999,999.")
    return seconds * 1_000_000 + nanos // 1000


def duration(span_us: int) -> duration_pb2.Duration:
    """The message of a length of time in microseconds."""
    made = duration_pb2.Duration()
    made.FromMicroseconds(span_us)
    return made


def instant(at_us: int) -> timestamp_pb2.Timestamp:
    """The message of an instant in microseconds."""
    seconds, rest = divmod(at_us, 1_000_000)
    return timestamp_pb2.Timestamp(seconds=seconds, nanos=rest * 1000)


# --- values -----------------------------------------------------------------------------------------------------


def value_from(message: values_pb2.Value, field: str) -> AnyValue:
    """The core's value of a message; BadValue names ``field`` when no kind is set or an instant is out of range."""
    kind = message.WhichOneof("kind")
    if kind == "string_value":
        return message.string_value
    if kind == "int_value":
        return message.int_value
    if kind == "double_value":
        return message.double_value
    if kind == "bool_value":
        return message.bool_value
    if kind == "money_value":
        money = message.money_value
        return Money(money.minor, money.currency)
    if kind == "timestamp_value":
        return _EPOCH + timedelta(microseconds=micros(message.timestamp_value, field))
    if kind == "set_value":
        return frozenset(message.set_value.members)
    raise BadValue(
        field,
        "the value has no kind set",
        "Set one of bool_value, int_value...; leave the entry out when it is missing.",
    )


def value_to(value: AnyValue) -> values_pb2.Value:
    """The message of a core value."""
    if isinstance(value, str):
        return values_pb2.Value(string_value=value)
    if isinstance(value, bool):
        return values_pb2.Value(bool_value=value)
    if isinstance(value, int):
        return values_pb2.Value(int_value=value)
    if isinstance(value, float):
        return values_pb2.Value(double_value=value)
    if isinstance(value, Money):
        return values_pb2.Value(money_value=money_to(value))
    if isinstance(value, datetime):
        return values_pb2.Value(timestamp_value=instant((value - _EPOCH) // timedelta(microseconds=1)))
    members = sorted(value, key=str.encode)
    return values_pb2.Value(set_value=values_pb2.StringSet(members=members))


def values_from(messages: Mapping[str, values_pb2.Value], field: str) -> dict[str, AnyValue]:
    """A map of values; errors name the entry as ``field['name']``."""
    return {name: value_from(messages[name], f"{field}['{name}']") for name in messages}


def values_to(values: Mapping[str, AnyValue]) -> dict[str, values_pb2.Value]:
    """The messages of a map of values."""
    return {name: value_to(value) for name, value in values.items()}


def money_to(money: Money) -> values_pb2.Money:
    """The message of an amount."""
    return values_pb2.Money(minor=money.minor, currency=money.currency)


def _bound(what: str, count: int, limit: int) -> None:
    if count > limit:
        raise TooLarge(what, count, limit, field=what)


def identifiers_from(messages: Sequence[values_pb2.Identifier], field: str = "identifiers") -> tuple[Identifier, ...]:
    """Identifiers in the order sent; TooLarge."""
    _bound(field, len(messages), limits.IDENTIFIERS_PER_REQUEST)
    return tuple([Identifier(each.namespace, each.value) for each in messages])


def events_from(messages: Sequence[values_pb2.Event], field: str = "events") -> tuple[Event, ...]:
    """Events in the order sent; errors name the event by its position from 0, as in ``events[2].at``."""
    _bound(field, len(messages), limits.EVENTS_PER_REQUEST)
    return tuple([event_from(each, f"{field}[{position}]") for position, each in enumerate(messages)])


def event_from(message: values_pb2.Event, field: str) -> Event:
    """The core's event; errors name its parts under ``field``."""
    _bound(f"{field}.fields", len(message.fields), limits.EVENT_FIELDS)
    return Event(
        message.type,
        message.key,
        micros(message.at, f"{field}.at") if message.HasField("at") else None,
        values_from(message.fields, f"{field}.fields"),
    )


# --- decisions --------------------------------------------------------------------------------------------------


def request_from(
    message: decision_pb2.DecideRequest, remaining_us: int | None, waited_us: int = 0
) -> DecideRequest:
    """The core's request. ``remaining_us`` is what the call's own deadline leaves, None without one; ``waited_us`` is how
    long ago the request reached the server, from when its time budget counts.
    """
    _bound("placements", len(message.placements), limits.PLACEMENTS_PER_REQUEST)
    _bound("facts", len(message.facts), limits.FACTS_PER_REQUEST)
    deadline_us = remaining_us
    if message.HasField("time_budget"):
        budget = message.time_budget
        budget_us = budget.seconds * 1_000_000 + budget.nanos // 1000
        if budget_us <= 0 or not 0 <= budget.nanos <= 999_999_999 or budget.seconds > LONGEST_SECONDS:
            raise BadValue(
                "time_budget",
                "must be from a microsecond to 10,000 years",
                "Leave it out to use the call's deadline.",
            )
        # Spent, it leaves a moment: the answer is the labelled fallback, as only the call's own deadline ends a call.
        left_us = max(1, budget_us - waited_us)
        deadline_us = left_us if deadline_us is None else min(deadline_us, left_us)
    explain = _EXPLAIN.get(message.explain)
    if explain is None:
        raise UnknownName("explain level", str(int(message.explain)), field="explain")
    return DecideRequest(
        message.channel,
        tuple([PlacementRequest(each.name, each.slots or None) for each in message.placements]),
        identifiers_from(message.identifiers),
        values_from(message.facts, "facts") if message.facts else {},
        events_from(message.events) if message.events else (),
        explain,
        deadline_us,
        micros(message.as_of, "as_of") if message.HasField("as_of") else None,
        message.seed if message.HasField("seed") else None,
        message.deferred,
    )


def answer_to(answer: DecideAnswer) -> decision_pb2.DecideResponse:
    """The message of an answer."""
    return decision_pb2.DecideResponse(
        decision=answer.decision,
        placements=[_placement(each) for each in answer.placements],
        known=answer.known,
        program=answer.program,
        digest=answer.digest,
        models=answer.models,
        as_of=instant(answer.as_of_us),
        seed=answer.seed & _SIGN_64,
        took_ns=answer.took_ns,
    )


def _placement(answer: PlacementAnswer) -> decision_pb2.PlacementAnswer:
    message = decision_pb2.PlacementAnswer(
        name=answer.name,
        status=cast("decision_pb2.SlotStatus", answer.status.value),
        offers=[_offer(each) for each in answer.offers],
    )
    if answer.fallback:
        message.fallback.update(answer.fallback)
    if answer.rejections:
        message.rejections.extend([_rejection(each) for each in answer.rejections])
    if answer.summary:
        message.summary.extend(
            [
                decision_pb2.ReasonCount(
                    reason=cast("decision_pb2.Reason", reason.value), count=answer.summary[reason]
                )
                for reason in sorted(answer.summary)
            ]
        )
    return message


def _offer(offer: DecidedOffer) -> decision_pb2.DecidedOffer:
    return decision_pb2.DecidedOffer(
        offer=offer.offer,
        group=offer.group,
        rank=offer.rank,
        priority=offer.priority,
        factors=_factors(offer.factors),
        content=offer.content,
        token=offer.token,
        instance=offer.instance & _SIGN_64,
        price=None if offer.price is None else _price(offer.price),
        model=offer.model,
    )


def _factors(factors: Factors) -> decision_pb2.Factors:
    return decision_pb2.Factors(
        propensity=factors.propensity,
        context_percent=factors.context_percent,
        value=factors.value,
        lever_percent=factors.lever_percent,
    )


def _price(price: QuotedPrice) -> decision_pb2.QuotedPrice:
    return decision_pb2.QuotedPrice(
        amount=money_to(price.amount),
        list=money_to(price.list),
        personal=price.personal,
        basis=price.basis,
        clamp=cast("decision_pb2.Clamp", price.clamp.value),
    )


def _rejection(rejection: Rejection) -> decision_pb2.Rejection:
    return decision_pb2.Rejection(
        offer=rejection.offer,
        reason=cast("decision_pb2.Reason", rejection.reason.value),
        rule=rejection.rule,
        detail=cast("decision_pb2.Detail", rejection.detail.value),
        input=rejection.input,
        priority=rejection.priority,
        lowest_winner=rejection.lowest_winner,
        factors=None if rejection.factors is None else _factors(rejection.factors),
    )


# --- outcomes ---------------------------------------------------------------------------------------------------


def outcome_from(message: decision_pb2.Outcome, field: str) -> Outcome:
    """The core's outcome; errors name its parts under ``field``."""
    return Outcome(
        message.token,
        message.outcome,
        micros(message.at, f"{field}.at") if message.HasField("at") else None,
        Money(message.value.minor, message.value.currency) if message.HasField("value") else None,
        message.key,
    )


# --- programs ---------------------------------------------------------------------------------------------------


def program_to(program: ProgramVersion) -> program_pb2.ProgramVersion:
    """The message of a program's version."""
    return program_pb2.ProgramVersion(
        version=program.version,
        digest=program.digest,
        loaded=instant(program.loaded_us),
        active=program.active,
    )
