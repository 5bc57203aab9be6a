"""A checked program: what a marketer declared, with every name resolved and every expression type-checked.

`core.programs.source` makes it from YAML; the plan compiler turns it into the kernel's tables; the tests' oracle
decides from it directly, slowly and obviously. Values only, immutable, in declared order; offers and groups are
sorted by name, because the name is the last tie-break of arbitration and must not depend on file order.

They are msgspec's structs because a restart makes tens of thousands of them, and each costs half of what a frozen dataclass
does, as do their classes at import.

Times are microseconds; percentages are numbers (30 means 30 %); money is integer minor units with its currency beside
it.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping

import msgspec
from msgspec import field

from core.errors import Where
from core.expressions import Expression, Input, InputKind, Kind, Type
from core.schema import Schema


class Layer(enum.IntEnum):
    """The three questions asked of every offer; values equal those of `core.reasons.Reason`."""

    ELIGIBILITY = 4  # may we?
    APPLICABILITY = 5  # does it fit now?
    SUITABILITY = 6  # is it right for the customer?


class Rule(msgspec.Struct, frozen=True):
    """One condition. ``id`` is unique in the program: ``<offer or group>.<layer>.<1-based position>`` unless named."""

    id: str
    layer: Layer
    condition: Expression  # of type bool
    where: Where


class Cap(msgspec.Struct, frozen=True):
    """At most ``at_most`` contacts with ``outcome`` in any ``per_us``: once reached, the scope's offers are out.

    Counts contacts of the scope it is declared on (an offer, all offers of a group, or all offers of the program),
    over all identifiers and channels; with ``channel`` set only contacts of that channel count, and only decisions in
    that channel are bound. A contact counts when ``now - per_us < at <= now``. ``household`` counts those of all members
    of the customer's household, each since he joined; of a customer who is in none, his own.
    """

    id: str
    outcome: str
    at_most: int
    per_us: int
    channel: str = ""
    household: bool = False


class Suppression(msgspec.Struct, frozen=True):
    """``times`` contacts with ``outcome`` inside ``within_us`` pause the scope for ``pause_us``.

    The pause starts at the contact that completes the count: with contacts at sorted times t, it holds when for some
    i ``t[i] - t[i - times + 1] <= within_us`` and ``t[i] <= now < t[i] + pause_us``. ``related`` offers and groups
    pause with it.
    """

    id: str
    outcome: str
    times: int
    within_us: int
    pause_us: int
    related_offers: tuple[str, ...] = ()
    related_groups: tuple[str, ...] = ()


class Weight(msgspec.Struct, frozen=True):
    """A lever or context weight: ``percent`` is added when ``when`` holds (always, without it)."""

    id: str
    percent: float
    when: Expression | None = None


class ConstantPropensity(msgspec.Struct, frozen=True):
    """The same propensity for everybody, in [0, 1]."""

    value: float


class ScorecardPropensity(msgspec.Struct, frozen=True):
    """Logistic scorecard: ``1 / (1 + exp(-(intercept + sum(weight * feature))))``.

    A feature is a number, or a bool read as 0 or 1; one that is missing or failed contributes ``missing`` in its
    place. ``features`` and ``weights`` run in parallel.
    """

    intercept: float
    features: tuple[Expression, ...]
    weights: tuple[float, ...]
    missing: float = 0.0


class ModelPropensity(msgspec.Struct, frozen=True):
    """The output of the deployed ONNX model of this name (``core.inference`` binds its inputs)."""

    model: str
    where: Where


Propensity = ConstantPropensity | ScorecardPropensity | ModelPropensity


class Rounding(enum.Enum):
    """How a price is brought to its increment, inside floor and ceiling."""

    NEAREST = "nearest"  # halves away from zero
    UP = "up"
    DOWN = "down"


class Adjustment(msgspec.Struct, frozen=True):
    """Added to the list price when ``when`` holds: ``percent`` of the list price, or ``amount`` minor units."""

    id: str
    percent: float = 0.0
    amount: int = 0
    when: Expression | None = None


class Price(msgspec.Struct, frozen=True):
    """List price and what may change it.

    ``list + list * sum(percents) / 100 + sum(amounts)``, clamped to [floor, ceiling], then rounded to a multiple of
    ``increment`` (plus ``ending``: 1.00 with ending 0.99 gives 4.99) and, where rounding left the bounds, moved to
    the nearest multiple inside; to the bound itself if there is none. Percentages are exact to 0.0001 %. A price is
    personal when any adjustment's condition reads the customer; ``basis`` names what is read.
    """

    list: int
    currency: str
    adjustments: tuple[Adjustment, ...] = ()
    floor: int | None = None
    ceiling: int | None = None
    increment: int = 1
    ending: int = 0
    rounding: Rounding = Rounding.NEAREST
    basis: tuple[str, ...] = ()


class Text(msgspec.Struct, frozen=True):
    """A field of content: literal pieces and expressions in turn."""

    name: str
    pieces: tuple[str | Expression, ...]


class ContentType(enum.Enum):
    """What a rendered value is escaped for; literal pieces are the marketer's own and are left alone."""

    TEXT = "text"  # nothing is escaped; control characters other than tab and newline are dropped
    HTML = "html"  # & < > " ' become character references
    JSON = "json"  # the inside of a JSON string
    URL = "url"  # percent-encoded as a query component


class Treatment(msgspec.Struct, frozen=True):
    """An offer's content for one placement."""

    placement: str  # "<channel>.<placement>"
    fields: tuple[Text, ...]


class CasePause(msgspec.Struct, frozen=True):
    """A kind of case that pauses offers while one is open; with ``of_product`` one about the offer's product, or about none."""

    kind: str
    of_product: bool = False


class Group(msgspec.Struct, frozen=True):
    """Offers that share rules. A group's rule that fails removes every offer of the group."""

    name: str
    rules: tuple[Rule, ...] = ()
    caps: tuple[Cap, ...] = ()
    suppressions: tuple[Suppression, ...] = ()
    context_weights: tuple[Weight, ...] = ()
    levers: tuple[Weight, ...] = ()
    consent: str = ""  # the purpose its offers need, unless an offer names its own
    paused_by_cases: tuple[CasePause, ...] = ()


class Offer(msgspec.Struct, frozen=True):
    """One offer. ``priority = propensity x (1 + sum(context)/100) x value x (1 + sum(levers)/100)`` by default."""

    name: str
    group: str
    propensity: Propensity
    value: float | Expression  # major units of the program's currency, or a plain number
    where: Where
    schedule_from_us: int | None = None  # the first microsecond it runs
    schedule_until_us: int | None = None  # the first microsecond it no longer runs
    rules: tuple[Rule, ...] = ()
    caps: tuple[Cap, ...] = ()
    suppressions: tuple[Suppression, ...] = ()
    context_weights: tuple[Weight, ...] = ()
    levers: tuple[Weight, ...] = ()
    consent: str = ""
    paused_by_cases: tuple[CasePause, ...] = ()  # added to the group's
    product: str = ""  # what a case must be about to pause it, where its pauses say so; '' when none does
    price: Price | None = None
    treatments: Mapping[str, Treatment] = field(default_factory=dict)  # by "<channel>.<placement>"
    fields: Mapping[str, float | str | bool | int] = field(default_factory=dict)  # readable as offer.<name>
    stopped: bool = False  # declared, kept in history, never returned: reason SCHEDULE


class Placement(msgspec.Struct, frozen=True):
    """A place in a channel. ``fallback`` is plain content returned when no offer is."""

    name: str  # "<channel>.<placement>"
    channel: str
    content_type: ContentType = ContentType.TEXT
    slots: int = 1  # when the request does not say
    fallback: Mapping[str, str] = field(default_factory=dict)
    at_most_per_group: int = 0  # 0: no limit


class Arbitration(msgspec.Struct, frozen=True):
    """How offers compete. ``formula`` replaces the product; factors switched off count as 1."""

    use_propensity: bool = True
    use_context_weight: bool = True
    use_value: bool = True
    use_levers: bool = True
    formula: Expression | None = None  # of type double, over propensity, context_weight, value, levers and any input
    repeats: bool = False  # whether one offer may be returned in several placements of a request
    at_most_per_group: int = 0  # over the whole request; 0: no limit


class Band(msgspec.Struct, frozen=True):
    """Where a customer's value lies among everybody's: in the lowest of ``parts`` equal shares (1) up to the highest.

    The edges are the quantiles i/parts of all customers who have a value; who has none has no band. ``of`` is a number, a
    time or a length of time, and reads nothing that only a request has.
    """

    name: str
    of: Expression
    parts: int

    @property
    def definition(self) -> str:
        """Equal for bands of the same value and parts, whatever they are called."""
        return hashlib.blake2b(f"{self.parts} {self.of.root!r}".encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class Score(msgspec.Struct, frozen=True):
    """A deployed model's output for every customer, kept in the attribute ``into`` and made anew as what it reads changes."""

    name: str
    model: str
    into: str
    where: Where


class Program(msgspec.Struct, frozen=True):
    """Everything declared, versioned as one. ``digest`` is the SHA-256 of its sources, in hex."""

    name: str
    digest: str
    schema: Schema
    channels: tuple[str, ...]
    placements: Mapping[str, Placement]
    groups: Mapping[str, Group]  # sorted by name
    offers: tuple[Offer, ...]  # sorted by name
    arbitration: Arbitration
    currency: str = ""
    caps: tuple[Cap, ...] = ()  # program-wide
    instance_expiry_us: int = 30 * 86_400 * 1_000_000  # how long a token can be reported on
    segments: Mapping[str, Expression] = field(default_factory=dict)  # of type bool, in declared order
    derived: Mapping[str, Expression] = field(default_factory=dict)
    bands: Mapping[str, Band] = field(default_factory=dict)
    scores: Mapping[str, Score] = field(default_factory=dict)


def products_of(program: Program) -> frozenset[str]:
    """The products that offers sell, and those that rules, segments and derived values ask cases about."""
    owners: list[Group | Offer] = [*program.groups.values(), *program.offers]
    asking = [rule.condition for owner in owners for rule in owner.rules]
    asking += [*program.segments.values(), *program.derived.values()]
    asked = {read.product for each in asking for read in each.inputs}
    return frozenset(asked | {offer.product for offer in program.offers}) - {""}


def consent_input(purpose: str) -> Input:
    """The consent for a purpose in the request's channel, as expressions read it too."""
    return Input(InputKind.CONSENT, purpose, Type(Kind.BOOL))


def case_inputs(group: Group, offer: Offer) -> tuple[Input, ...]:
    """The cases that pause an offer while they are open, as expressions read them too: its group's first, each once."""
    pauses = (*group.paused_by_cases, *offer.paused_by_cases)
    if not pauses:
        return ()
    read = Type(Kind.BOOL)
    asked = [Input(InputKind.CASE, each.kind, read, product=offer.product if each.of_product else "") for each in pauses]
    return tuple(dict.fromkeys(asked))
