"""One decision as values: what is asked and what is answered, without any wire format.

The server converts its messages to these and back; the engine, the tests' oracle and batch runs speak nothing else.
Times are integer microseconds since 1970-01-01T00:00:00Z, durations too. Everything a decision depends on is in the request,
the plan and the store's snapshot: same three, same answer, bit for bit.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from core.reasons import Detail, Reason, SlotStatus
from core.schema import AnyValue, Money


class ExplainLevel(enum.IntEnum):
    """How much is said about offers that are not returned."""

    NONE = 1
    SUMMARY = 2  # how many offers for each reason
    FULL = 3  # exactly one reason for each offer, with scores and factors


@dataclass(frozen=True, slots=True)
class Identifier:
    """One identifier as the channel knows it; spelling is normalised by the namespace's rule."""

    namespace: str
    value: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to the customer.

    ``key`` makes it idempotent: the same type and key for the same customer count once, whenever and wherever sent again.
    ``at_us`` None means the decision's (or the server's) clock.
    """

    type: str
    key: str
    at_us: int | None = None
    fields: Mapping[str, AnyValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlacementRequest:
    """A placement to fill: its name inside the channel, and how many slots (None: the program's number)."""

    name: str
    slots: int | None = None


@dataclass(frozen=True, slots=True)
class DecideRequest:
    """Who, where, what is known of the moment.

    ``deadline_us`` is the time left, from the moment `Engine.decide` is called; None: no deadline. ``as_of_us`` None
    means now. ``seed`` None lets the engine draw one; it makes the decision's and its instances' ids. ``deferred`` instances count
    for nothing until an outcome is recorded for them.
    """

    channel: str
    placements: tuple[PlacementRequest, ...]
    identifiers: tuple[Identifier, ...] = ()
    facts: Mapping[str, AnyValue] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    explain: ExplainLevel = ExplainLevel.NONE
    deadline_us: int | None = None
    as_of_us: int | None = None
    seed: int | None = None
    deferred: bool = False


@dataclass(frozen=True, slots=True)
class Factors:
    """What made a priority: propensity x (1 + context_percent/100) x value x (1 + lever_percent/100), or the formula's result."""

    propensity: float
    context_percent: float
    value: float
    lever_percent: float


class Clamp(enum.IntEnum):
    """Whether a bound decided the price."""

    NONE = 1
    FLOOR = 2
    CEILING = 3


@dataclass(frozen=True, slots=True)
class QuotedPrice:
    """A price as decided. ``basis`` names the inputs a personal price was made from."""

    amount: Money
    list: Money
    personal: bool
    basis: tuple[str, ...]
    clamp: Clamp


@dataclass(frozen=True, slots=True)
class DecidedOffer:
    """An offer in a slot. ``rank`` counts from 1 inside its placement; ``token`` is what outcomes are reported with."""

    offer: str
    group: str
    rank: int
    priority: float
    factors: Factors
    content: Mapping[str, str]
    token: str
    instance: int  # 64 bit, unique for decision, placement and rank
    price: QuotedPrice | None = None
    model: str = ""  # "<name>/<version>" when a model gave the propensity


@dataclass(frozen=True, slots=True)
class Rejection:
    """The one reason an offer is not in a placement.

    ``rule`` is the id of the rule, cap or suppression that spoke; ``input`` the path of a missing value. For
    ARBITRATION_LOST, GROUP_LIMIT and DUPLICATE ``priority`` is the offer's own, and ``lowest_winner`` that of the last offer returned.
    """

    offer: str
    reason: Reason
    rule: str = ""
    detail: Detail = Detail.NONE
    input: str = ""
    priority: float | None = None
    lowest_winner: float | None = None
    factors: Factors | None = None


@dataclass(frozen=True, slots=True)
class PlacementAnswer:
    """One placement filled. ``fallback`` is the declared content when ``offers`` is empty."""

    name: str
    status: SlotStatus
    offers: tuple[DecidedOffer, ...]
    fallback: Mapping[str, str] = field(default_factory=dict)
    rejections: tuple[Rejection, ...] = ()  # FULL, sorted by offer name
    summary: Mapping[Reason, int] = field(default_factory=dict)  # SUMMARY and FULL


@dataclass(frozen=True, slots=True)
class DecideAnswer:
    """What was decided, with what, and how long it took."""

    decision: str  # 32 hex digits
    placements: tuple[PlacementAnswer, ...]
    known: bool  # whether an identifier was known
    program: str  # "<name>@<version>"
    digest: str  # of the program's sources
    models: tuple[str, ...]  # "<name>/<version>" of every model the plan holds
    as_of_us: int
    seed: int
    took_ns: int
