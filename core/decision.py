"""One decision as values: what is asked and what is answered, without any wire format.

The server converts its messages to these and back; the engine, the tests' oracle and batch runs speak nothing else.
Times are integer microseconds since 1970-01-01T00:00:00Z, durations too. Everything a decision depends on is in the
request, the plan and the store's snapshot: same three, same answer, bit for bit.

These are msgspec structs rather than dataclasses because a call makes dozens of them: a frozen dataclass sets each
field by a Python call, a struct in C. They hold no cycles, so the garbage collector need not know them.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

from core.reasons import Detail, Reason, SlotStatus
from core.schema import AnyValue, Money


class ExplainLevel(enum.IntEnum):
    """How much is said about offers that are not returned."""

    NONE = 1
    SUMMARY = 2  # how many offers for each reason
    FULL = 3  # exactly one reason for each offer, with scores and factors


class Identifier(msgspec.Struct, frozen=True, gc=False):
    """One identifier as the channel knows it; spelling is normalised by the namespace's rule."""

    namespace: str
    value: str


class Event(msgspec.Struct, frozen=True, gc=False):
    """Something that happened to the customer.

    ``key`` makes it idempotent: the same type and key for the same customer count once, whenever and wherever sent
    again. ``at_us`` None means the decision's (or the server's) clock.
    """

    type: str
    key: str
    at_us: int | None = None
    fields: Mapping[str, AnyValue] = {}


class PlacementRequest(msgspec.Struct, frozen=True, gc=False):
    """A placement to fill: its name inside the channel, and how many slots (None: the program's number)."""

    name: str
    slots: int | None = None


class DecideRequest(msgspec.Struct, frozen=True, gc=False):
    """Who, where, what is known of the moment.

    ``deadline_us`` is the time left, from the moment `Engine.decide` is called; None: no deadline. ``as_of_us`` None
    means now. ``seed`` None lets the engine draw one; it makes the decision's and its instances' ids. ``deferred``
    instances count for nothing until an outcome is recorded for them.
    """

    channel: str
    placements: tuple[PlacementRequest, ...]
    identifiers: tuple[Identifier, ...] = ()
    facts: Mapping[str, AnyValue] = {}
    events: tuple[Event, ...] = ()
    explain: ExplainLevel = ExplainLevel.NONE
    deadline_us: int | None = None
    as_of_us: int | None = None
    seed: int | None = None
    deferred: bool = False


class Factors(msgspec.Struct, frozen=True, gc=False):
    """What made a priority: propensity x (1 + context_percent/100) x value x (1 + lever_percent/100), or the formula's result.

    The percents are the sums as declared; a sum below -100 multiplies by 0.
    """

    propensity: float
    context_percent: float
    value: float
    lever_percent: float


class Clamp(enum.IntEnum):
    """Whether a bound decided the price."""

    NONE = 1
    FLOOR = 2
    CEILING = 3


class QuotedPrice(msgspec.Struct, frozen=True, gc=False):
    """A price as decided. ``basis`` names the inputs a personal price was made from."""

    amount: Money
    list: Money
    personal: bool
    basis: tuple[str, ...]
    clamp: Clamp


class DecidedOffer(msgspec.Struct, frozen=True, gc=False):
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


class Rejection(msgspec.Struct, frozen=True, gc=False):
    """The one reason an offer is not in a placement.

    ``rule`` is the id of the rule, cap or suppression that spoke; ``input`` the path of a missing value. For
    ARBITRATION_LOST, GROUP_LIMIT and DUPLICATE ``priority`` is the offer's own, and ``lowest_winner`` that of the
    last offer returned.
    """

    offer: str
    reason: Reason
    rule: str = ""
    detail: Detail = Detail.NONE
    input: str = ""
    priority: float | None = None
    lowest_winner: float | None = None
    factors: Factors | None = None


class PlacementAnswer(msgspec.Struct, frozen=True, gc=False):
    """One placement filled. ``fallback`` is the declared content when ``offers`` is empty."""

    name: str
    status: SlotStatus
    offers: tuple[DecidedOffer, ...]
    fallback: Mapping[str, str] = {}
    rejections: tuple[Rejection, ...] = ()  # FULL, sorted by offer name
    summary: Mapping[Reason, int] = {}  # SUMMARY and FULL


class DecideAnswer(msgspec.Struct, frozen=True, gc=False):
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
