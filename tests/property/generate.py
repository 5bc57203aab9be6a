"""Random worlds: a program as YAML text, customers, and requests, all from one `random.Random`.

The program goes in by the front door, as a marketer's files, so that reader, checker, compiler and kernel are tested
together. Values are drawn from small pools that the rules' constants come from too: thresholds are hit exactly, and
window edges fall on contacts. Doubles are dyadic fractions: sums do not depend on their order, and ties are ties.

Every choice is made by the given source of randomness and nothing else. With hypothesis's ``randoms()`` it shrinks.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import yaml

from core.decision import DecideRequest, Event, ExplainLevel, Identifier, PlacementRequest
from core.schema import AnyValue, Money
from tests.oracle import Case, Contact, OracleCustomer
from tests.oracle_hub import OracleHub

# A mapping of a program's sources, as YAML writes it.
Document = dict[str, object]

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
# All histories are written around this moment; requests look at them from before and after it.
BASE = datetime(2025, 6, 15, 12, tzinfo=UTC)
BASE_US = int(BASE.timestamp()) * SECOND

# Consents and cases are older than any request, so that a decision as of an earlier time sees the same.
LONG_AGO_US = BASE_US - 300 * DAY

# --- the universe of names: each has one type in every world, as a store's catalog demands ----------------------

LABELS: Mapping[str, tuple[str, ...]] = {
    "country": ("PT", "ES", "DE", "FR"),
    "tier": ("bronze", "silver", "gold"),
    "page": ("home", "product", "cart"),
    "plan": ("single", "family", "crew"),
    "role": ("owner", "adult", "child"),
}
ATTRIBUTES: Mapping[str, str] = {
    "vip": "bool",
    "blocked": "bool",
    "newsletter": "bool",
    "age": "int",
    "points": "int",
    "children": "int",
    "risk": "double",
    "rate": "double",
    "balance": "money",
    "credit": "money",
    "since": "timestamp",
    "last_login": "timestamp",
    "country": "enum",
    "tier": "enum",
    "first_name": "string",
    "city": "string",
    "interests": "set",
}
SHARED: Mapping[str, str] = {
    "shielded": "bool", "lines": "int", "discount": "double", "spend": "money", "moved": "timestamp", "plan": "enum",
    "motto": "string", "services": "set",
}
FACTS: Mapping[str, str] = {
    "mobile": "bool",
    "items": "int",
    "temperature": "double",
    "cart": "money",
    "due": "timestamp",
    "page": "enum",
    "call_reason": "string",
    "labels": "set",
}
EVENTS: Mapping[str, Mapping[str, str]] = {
    "purchase": {"amount": "money", "items": "int", "category": "string", "weight": "double", "gift": "bool"},
    "view": {"product": "string", "seconds": "int"},
    "overdraft": {},
}
TEXTS = ("", "savings", "Ana", "Zoë", "a<b>&\"c'", "x y/z?=1", "Line\nbreak\ttab", "cards", "SAVINGS", "10%")
INTS = (-1, 0, 1, 2, 3, 5, 18, 30, 65, 100)
DOUBLES = (-2.5, -0.5, 0.0, 0.25, 0.5, 1.0, 1.5, 3.0, 10.0, 100.0)
MINORS = (-5_000, 0, 1, 99, 100, 1_999, 5_000, 10_000, 12_345, 1_000_000)
WINDOWS = (("30m", 30 * MINUTE), ("12h", 12 * HOUR), ("7d", 7 * DAY), ("30d", 30 * DAY), ("8w", 56 * DAY))
OUTCOMES = ("served", "shown", "clicked", "accepted", "rejected", "converted", "dismissed")
PURPOSES = ("marketing", "profiling")
CASES = ("complaint", "fault")
PRODUCTS = ("dsl", "mobile", "tv & film")
CONTENT_TYPES = ("text", "html", "json", "url")
CHANNELS: Mapping[str, tuple[str, ...]] = {
    "web": ("home", "product", "cart"),
    "email": ("offer",),
    "call": ("prompt", "closing"),
}
NAMESPACES: Mapping[str, tuple[str, int]] = {
    "crm": ("none", 40),
    "email": ("lower", 30),
    "phone": ("e164", 20),
    "cookie": ("none", 10),
}


@dataclass(frozen=True, slots=True)
class Home:
    """The household a person belongs to. ``early``: he joined before his contacts were told, not afterwards."""

    identifiers: tuple[Identifier, ...]
    attributes: Mapping[str, AnyValue]
    role: str
    since_us: int
    early: bool
    cases: tuple[Case, ...] = ()  # told of the household by this person


@dataclass(frozen=True, slots=True)
class Person:
    """A customer of the world under all identifiers it is known by, as stored."""

    identifiers: tuple[Identifier, ...]
    profile: OracleCustomer
    home: Home | None = None


@dataclass(frozen=True, slots=True)
class World:
    """A program's sources by file name, its customers, and what is asked."""

    sources: Mapping[str, bytes]
    people: tuple[Person, ...]
    requests: tuple[DecideRequest, ...]


def world(
    source: random.Random,
    *,
    offers: int = 40,
    people: int = 8,
    requests: int = 100,
    models: Sequence[str] = (),
) -> World:
    """One world with at most this many offers, so many customers and requests; offers may name these models."""
    writer = _Writer(source, offers, models)
    sources = writer.program()
    crowd = tuple(writer.person(number) for number in range(people))
    asked = tuple(writer.request(crowd) for _ in range(requests))
    return World(sources, crowd, asked)


def fill(hub: OracleHub, person: Person) -> None:
    """Make a person known to the oracle's hub."""
    who, profile, home = person.identifiers, person.profile, person.home
    hub.upsert(who, profile.attributes)
    if home is not None:
        hub.upsert(home.identifiers, home.attributes)
        hub.set_membership(who, home.identifiers, home.role, home.since_us)
        for case in home.cases:
            hub.open_case(who, case.kind, f"home {case.kind} {case.product}", case.opened_us, case.product, household=True)
    hub.tell(who, profile.events, BASE_US)
    for (purpose, channel), (at_us, granted) in profile.consents.items():
        hub.set_consent(who, purpose, channel, granted, at_us)
    for case in profile.cases:
        key = f"{case.kind} {case.product}"
        hub.open_case(who, case.kind, key, case.opened_us, case.product)
        if case.closed_us is not None:
            hub.close_case(who, case.kind, key, case.closed_us)
    for number, contact in enumerate(profile.contacts):
        hub.add_contact(who, contact, str(number))


def dump(document: object) -> bytes:
    """YAML as a person might keep it: declared order, one document."""
    return yaml.dump(document, sort_keys=False, allow_unicode=True, width=1_000).encode()


class _Writer:
    """Draws everything; what is declared first bounds what later expressions may name."""

    def __init__(self, source: random.Random, offers: int, models: Sequence[str]) -> None:
        self.random = source
        self.models = models
        drawn = self.some(ATTRIBUTES, least=6)
        # The models read the age, so every world knows it.
        self.attributes = [name for name in ATTRIBUTES if name in drawn or name == "age"]
        self.facts = self.some(FACTS, least=3)
        self.shared = self.some(SHARED)
        self.groups = [f"group_{letter}" for letter in "abcde"[: self.upto(1, 5)]]
        self.offers = [f"offer_{number:02d}" for number in range(self.upto(1, offers))]
        source.shuffle(self.offers)
        self.channels = {
            channel: self.some(places, least=1)
            for channel, places in CHANNELS.items()
            if channel == "web" or self.chance(0.7)
        }
        self.placements = [f"{channel}.{place}" for channel, places in self.channels.items() for place in places]
        self.segments: dict[str, str] = {}
        self.derived: dict[str, object] = {}
        self.bands: dict[str, Document] = {}
        self.defined: dict[str, list[str]] = {}  # by type: derived values and bands as expressions name them
        self.fields: tuple[str, ...] = ()  # of the offer being written
        self.named_aggregates = self.declared_aggregates()
        self.told = 0  # events sent with requests so far: each has a key of its own

    def declared_aggregates(self) -> dict[str, tuple[str, Document]]:
        """Aggregates with a name, by name: the type of each and how schema.yaml has it. Some share a filter or a window."""
        filters = [self.filter() for _ in range(3)]
        found: dict[str, tuple[str, Document]] = {}
        for number in range(self.upto(0, 6)):
            kind, function, about = self.random.choice((
                ("int", "count", "purchase"), ("int", "sum", "purchase.items"), ("int", "distinct", "purchase.category"),
                ("int", "max", "purchase.items"), ("double", "sum", "purchase.weight"), ("double", "mean", "purchase.items"),
                ("double", "min", "purchase.weight"), ("money", "sum", "purchase.amount"),
                ("money", "last", "purchase.amount"),
                ("string", "first", "purchase.category"), ("timestamp", "last", "purchase"),
                ("timestamp", "first", "purchase.at"),
            ))
            document: Document = {function: about}
            if self.chance(0.8):
                document["where"] = self.one(filters)
            if self.chance(0.7):
                document["window"] = self.one(("1m", "12h", "7d", "30d", "8w", "2y"))
            found[f"named_{number}"] = (kind, document)
        return found

    def filter(self) -> str:
        """A filter over purchases."""
        compare = self.one(("==", "!=", "<", "<=", ">", ">="))
        terms = [
            f"amount {compare} {self.random.choice(MINORS) / 100:.2f}",
            f"{self.random.choice(INTS)} {compare} items",
            f"items in [{', '.join(str(each) for each in self.random.sample(INTS, 3))}]",
            f"items >= {self.random.choice(DOUBLES)}",
            f"weight {compare} {self.random.choice(DOUBLES)}",
            f"category {compare} {quoted(self.one(TEXTS))}",
            f"category in [{', '.join(quoted(text) for text in self.random.sample(TEXTS, 3))}]",
            self.one(("gift", "!gift", "gift == true", "gift != true")),
        ]
        return " && ".join(self.random.sample(terms, self.upto(1, 3)))

    # --- drawing ---

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def upto(self, least: int, most: int) -> int:
        return self.random.randint(least, most)

    def one(self, pool: Sequence[str]) -> str:
        return self.random.choice(pool)

    def some(self, pool: Mapping[str, object] | Sequence[str], least: int = 0, most: int = 99) -> list[str]:
        """Some members in the pool's order."""
        names = list(pool)
        count = self.upto(min(least, len(names)), min(most, len(names)))
        chosen = set(self.random.sample(names, count))
        return [name for name in names if name in chosen]

    def duration(self) -> tuple[str, int]:
        return self.random.choice(WINDOWS)

    # --- the program's files ---

    def program(self) -> dict[str, bytes]:
        for name in ("alpha", "beta"):
            if self.chance(0.5):
                self.segments[name] = self.condition(2)
        self.definitions()
        sources = {
            "program.yaml": dump(self.head()),
            "schema.yaml": dump(self.schema()),
            "channels.yaml": dump(self.channel_file()),
            "groups.yaml": dump({name: self.group() for name in self.groups}),
        }
        written = [self.offer(name) for name in self.offers]
        cut = self.upto(0, len(written))
        if written[:cut]:
            sources["offers/one.yaml"] = dump(written[:cut])
        if written[cut:]:
            # A file of several documents, the other way offers may be kept.
            sources["offers/two.yaml"] = b"---\n".join(dump(offer) for offer in written[cut:])
        return sources

    def definitions(self) -> None:
        """Bands of what is kept about customers, then derived values, which may use them and segments, then a segment more."""
        for name in ("low", "high"):
            if self.chance(0.5):
                self.bands[name] = {"of": self.banded(), "parts": self.upto(2, 6)}
                self.defined.setdefault("int", []).append(f"band.{name}")
        if self.chance(0.5):
            self.derived["worth"] = f"{self.double_input()} + {self.double(1)}"
            self.defined.setdefault("double", []).append("derived.worth")
        if self.chance(0.5):
            # The last is no constant: texts that a choice between constants cannot be are refused.
            cases: list[Document] = [
                {"when": self.condition(1), "then": quoted(self.one(TEXTS)) if self.chance(0.5) else self.plain_text(1)}
                for _ in range(self.upto(1, 3))
            ]
            self.derived["stage"] = [*cases, {"then": self.plain_text(1)}]
            self.defined.setdefault("string", []).append("derived.stage")
        if self.chance(0.3):
            self.derived["amount"] = [
                {"when": self.condition(1), "then": str(self.upto(0, 3))}, {"then": self.money(1)}
            ]
            self.defined.setdefault("money", []).append("derived.amount")
        if self.chance(0.5):
            self.segments["gamma"] = self.condition(2)

    def banded(self) -> str:
        """A number or a time that needs no request."""
        kind = self.one(("int", "double", "money", "timestamp"))
        held = [f"customer.{name}" for name in self.attributes if ATTRIBUTES[name] == kind]
        value = self.one(held) if held and self.chance(0.5) else self.aggregate(kind)
        return f"now - {value}" if kind == "timestamp" and self.chance(0.5) else value

    def head(self) -> Document:
        head: Document = {"program": "random", "currency": "EUR"}
        if self.segments:
            head["segments"] = dict(self.segments)
        if self.derived:
            head["derived"] = dict(self.derived)
        if self.bands:
            head["bands"] = dict(self.bands)
        arbitration: Document = {}
        with_formula = self.chance(0.25)
        if not with_formula and self.chance(0.3):
            arbitration |= dict.fromkeys(self.some(("propensity", "context_weight", "value", "levers")), False)
        if with_formula:
            arbitration["formula"] = self.formula()
        if self.chance(0.4):
            arbitration["repeats"] = self.chance(0.5)
        if self.chance(0.3):
            arbitration["at_most_per_group"] = self.upto(1, 4)
        if arbitration:
            head["arbitration"] = arbitration
        if self.chance(0.2):
            head["caps"] = [self.cap(most=12)]
        return head

    def schema(self) -> Document:
        def declared(name: str, kind: str) -> Document:
            field: Document = {"type": kind}
            if kind == "enum":
                field["labels"] = list(LABELS[name])
            if kind == "money":
                field["currency"] = "EUR"
            return field

        alike = self.chance(0.3)  # equally trusted, so that names and values rank them
        spaces: Document = {
            name: {"normaliser": rule, "trust": 10 if alike else trust, "single": self.chance(0.4)}
            for name, (rule, trust) in NAMESPACES.items()
        }
        return {
            "attributes": {name: declared(name, ATTRIBUTES[name]) for name in self.attributes},
            "household": {
                "attributes": {name: declared(name, SHARED[name]) for name in self.shared}, "roles": list(LABELS["role"]),
            },
            "facts": {name: declared(name, FACTS[name]) for name in self.facts},
            "events": {
                name: {field: declared(field, kind) for field, kind in fields.items()}
                for name, fields in EVENTS.items()
            },
            "namespaces": spaces | {"account": {"normaliser": "lower", "trust": 90, "of": "household"}},
            **({"retention": {"view": "8w"}} if self.chance(0.3) else {}),
            "aggregates": {name: document for name, (_, document) in self.named_aggregates.items()},
            "purposes": list(PURPOSES),
            "cases": list(CASES),
            "offer_fields": {"margin": "double", "family": "string"},
            "outcomes": ["dismissed"],
        }

    def channel_file(self) -> Document:
        file: Document = {}
        for channel, places in self.channels.items():
            content: Document = {}
            for place in places:
                declared: Document = {}
                if self.chance(0.7):
                    declared["content_type"] = self.one(CONTENT_TYPES)
                if self.chance(0.7):
                    declared["slots"] = self.upto(1, 5)
                if self.chance(0.5):
                    declared["fallback"] = {"title": "Nothing today", "link": "/"}
                if self.chance(0.3):
                    declared["at_most_per_group"] = self.upto(1, 3)
                content[place] = declared
            file[channel] = {"content_type": self.one(CONTENT_TYPES), "placements": content}
        return file

    def group(self) -> Document:
        group: Document = {}
        self.common(group, rules=0.15)
        return group

    def common(self, target: Document, rules: float) -> None:
        """What offers and groups have in common."""
        for layer in ("eligibility", "applicability", "suitability"):
            if self.chance(rules):
                target[layer] = [self.rule() for _ in range(self.upto(1, 3))]
        for weights in ("context_weights", "levers"):
            if self.chance(0.35):
                target[weights] = [self.weight() for _ in range(self.upto(1, 3))]
        if self.chance(0.12):
            target["consent"] = self.one(PURPOSES)
        if self.chance(0.12):
            pauses: list[object] = [*self.some(CASES, least=1)]
            if self.chance(0.5):
                pauses[-1] = {"kind": pauses[-1], "product": "offer"}
            target["paused_by_cases"] = pauses
        contact: Document = {}
        if self.chance(0.25):
            contact["caps"] = [self.cap() for _ in range(self.upto(1, 2))]
        if self.chance(0.2):
            contact["suppress"] = [self.suppression() for _ in range(self.upto(1, 2))]
        if contact:
            target["contact"] = contact

    def rule(self) -> str | Document:
        # Most rules are leaned towards holding: a world where nothing survives tests no arbitration.
        text = self.condition(self.upto(0, 3))
        if self.chance(0.35):
            text = f"({text}) || {self.condition(1)}"
        return text

    def weight(self) -> Document:
        weight: Document = {"percent": self.random.choice((-100, -50, -12.5, 0, 10, 25, 30, 37.5, 100, 250))}
        if self.chance(0.7):
            weight["when"] = self.condition(1)
        return weight

    def cap(self, most: int = 4) -> Document:
        cap: Document = {
            "outcome": self.one(OUTCOMES[:3]),
            "at_most": self.upto(1, most),
            "per": self.duration()[0],
        }
        if self.chance(0.3):
            cap["channel"] = self.one(list(self.channels))
        if self.chance(0.3):
            cap["of"] = "household"
        return cap

    def suppression(self) -> Document:
        suppression: Document = {
            "outcome": self.one(("rejected", "dismissed", "accepted")),
            "times": self.upto(1, 3),
            "within": self.duration()[0],
            "pause": self.duration()[0],
        }
        if self.chance(0.5):
            suppression["related"] = self.some(self.offers, least=1, most=3)
        if self.chance(0.3):
            suppression["related_groups"] = self.some(self.groups, least=1, most=2)
        return suppression

    def offer(self, name: str) -> Document:
        offer: Document = {"offer": name, "group": self.one(self.groups), "product": self.one(PRODUCTS)}
        fields: Document = {}
        if self.models or self.chance(0.6):  # a model that reads it is for offers that have it
            fields["margin"] = self.random.choice(DOUBLES[3:])
        if self.chance(0.3):
            fields["family"] = self.one(TEXTS)
        self.fields = tuple(fields)
        if fields:
            offer["fields"] = fields
        if self.chance(0.15):
            schedule: Document = {}
            if self.chance(0.6):
                schedule["from"] = self.moment_text(BASE + timedelta(days=self.upto(-40, 3)))
            if self.chance(0.6):
                schedule["until"] = self.moment_text(BASE + timedelta(days=self.upto(4, 60)))
            if schedule:
                offer["schedule"] = schedule
        if self.chance(0.03):
            offer["stopped"] = True
        self.common(offer, rules=0.2)
        offer["value"] = self.value()
        offer["propensity"] = self.propensity()
        if self.chance(0.6):
            offer["price"] = self.price()
        offer["treatments"] = {placement: self.treatment() for placement in self.placements if self.chance(0.75)}
        self.fields = ()
        return offer

    def moment_text(self, moment: datetime) -> str:
        if self.chance(0.3):
            return moment.date().isoformat()
        if self.chance(0.3):
            return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S+00:00")
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

    def value(self) -> object:
        # Few different constants, so that priorities tie and the name decides.
        if self.chance(0.6):
            return self.random.choice(("42.00 EUR", "10.00 EUR", "0.50 EUR", 1, 2.5, 100, 0, -3))
        number = self.one((self.number(1), self.money(1)))
        return number

    def propensity(self) -> object:
        if self.models and self.chance(0.2):
            return {"model": self.one(self.models)}
        if self.chance(0.5):
            return self.random.choice((0.0, 0.01, 0.1, 0.2, 0.5, 1.0))
        card: Document = {
            "intercept": self.random.choice(DOUBLES[:6]),
            "weights": {
                self.feature(): self.random.choice((-0.5, -0.02, 0.01, 0.25, 0.1)) for _ in range(self.upto(1, 11))
            },
        }
        if self.chance(0.4):
            card["missing"] = self.random.choice(DOUBLES)
        return {"scorecard": card}

    def feature(self) -> str:
        return self.condition(1) if self.chance(0.3) else self.number(1)

    def formula(self) -> str:
        terms = ["propensity", "context_weight", "value", "levers"]
        self.random.shuffle(terms)
        formula = " * ".join(terms[: self.upto(1, 4)])
        if self.chance(0.4):
            formula = f"({formula}) + {self.double(1)}"
        if self.chance(0.2):
            formula = f"({self.condition(1)}) ? ({formula}) : propensity"
        return formula

    def price(self) -> Document:
        listed = self.random.choice((0, 99, 100, 499, 1_000, 1_999, 2_500, 4_250, 10_001))
        price: Document = {"list": cents(listed)}
        if self.chance(0.8):
            adjustments = []
            for _ in range(self.upto(1, 4)):
                adjustment: Document = (
                    {"percent": self.random.choice((-33.3333, -25, -12.5, -10, 0.0001, 5, 7.75, 50))}
                    if self.chance(0.6)
                    else {"amount": cents(self.random.choice((-1_000, -150, -1, 1, 50, 325)))}
                )
                if self.chance(0.75):
                    adjustment["when"] = self.condition(1)
                adjustments.append(adjustment)
            price["adjustments"] = adjustments
        if self.chance(0.5):
            price["floor"] = cents(max(0, listed - self.random.choice((0, 1, 50, 300, 1_000))))
        if self.chance(0.5):
            price["ceiling"] = cents(listed + self.random.choice((0, 1, 50, 300, 1_000)))
        if self.chance(0.6):
            to = self.random.choice((1, 5, 10, 50, 100, 500))
            rounding: Document = {"to": cents(to)}
            if self.chance(0.5):
                rounding["ending"] = cents(self.upto(0, to - 1))
            if self.chance(0.7):
                rounding["mode"] = self.one(("nearest", "up", "down"))
            price["round"] = rounding
        return price

    def treatment(self) -> Document:
        treatment: Document = {}
        for name in self.some(("title", "body", "link"), least=1):
            pieces = []
            for _ in range(self.upto(0, 3)):
                pieces.append(self.one(("Hello ", "<b>5 & 6</b> ", "", ' say "x" ')))
                pieces.append("{{ " + self.anything() + " }}")
            treatment[name] = "".join(pieces) or "plain"
        return treatment

    # --- expressions: each method gives the text of one type, in brackets where precedence could matter ---

    def named(self, kind: str) -> str | None:
        """An input of this type, if one is declared."""
        inputs = ["customer." + name for name in self.attributes if ATTRIBUTES[name] == kind]
        inputs += ["facts." + name for name in self.facts if FACTS[name] == kind]
        inputs += ["household." + name for name in self.shared if SHARED[name] == kind]
        inputs += {"enum": ["household.role"], "int": ["household.size"]}.get(kind, [])
        inputs += self.defined.get(kind, [])
        return self.one(inputs) if inputs else None

    def condition(self, depth: int) -> str:
        if depth > 0 and self.chance(0.7):
            match self.upto(0, 5):
                case 0 | 1:
                    return f"({self.condition(depth - 1)} && {self.condition(depth - 1)})"
                case 2 | 3:
                    return f"({self.condition(depth - 1)} || {self.condition(depth - 1)})"
                case 4:
                    return f"!({self.condition(depth - 1)})"
                case _:
                    return f"({self.condition(0)} ? {self.condition(depth - 1)} : {self.condition(depth - 1)})"
        compare = self.one(("<", "<=", ">", ">=", "==", "!="))
        match self.upto(0, 13):
            case 0 | 1:
                known = self.named("int")
                if known and self.chance(0.6):
                    if self.chance(0.3):
                        return f"{known} in [{', '.join(str(self.random.choice(INTS)) for _ in range(3))}]"
                    return f"{known} {compare} {self.random.choice(INTS)}"
                return f"{self.whole(depth)} {compare} {self.whole(depth)}"
            case 2:
                known = self.named("double")
                if known and self.chance(0.6):
                    return f"{known} {compare} {self.random.choice(DOUBLES)}"
                return f"{self.double(depth)} {compare} {self.double(depth)}"
            case 3 | 4:
                known = self.named("money") or self.aggregate("money")
                if self.chance(0.6):
                    return f"{known} {compare} {self.random.choice(MINORS) / 100}"
                return f"{self.money(depth)} {compare} {self.money(depth)}"
            case 5:
                known = self.named("enum")
                if known:
                    labels = LABELS[known.split(".")[1]]
                    if self.chance(0.5):
                        chosen = ", ".join(f"'{one}'" for one in self.some(labels, least=1))
                        negated = self.chance(0.2)
                        return f"!({known} in [{chosen}])" if negated else f"{known} in [{chosen}]"
                    return f"{known} {self.one(('==', '!='))} '{self.one(labels)}'"
                return self.boolean()
            case 6:
                text = self.plain_text(depth)
                match self.upto(0, 3):
                    case 0:
                        return f"{text}.{self.one(('startsWith', 'endsWith', 'contains'))}({quoted(self.one(TEXTS))})"
                    case 1:
                        return f"{text} in [{quoted(self.one(TEXTS))}, {quoted(self.one(TEXTS))}]"
                    case _:
                        return f"{text} {self.one(('==', '!=', '<', '>='))} {quoted(self.one(TEXTS))}"
            case 7:
                known = self.named("set")
                if known:
                    return (
                        f"{quoted(self.one(TEXTS))} in {known}"
                        if self.chance(0.7)
                        else f"size({known}) {compare} {self.upto(0, 3)}"
                    )
                return self.boolean()
            case 8:
                return f"{self.time()} {self.one(('<', '<=', '>', '>='))} {self.time()}"
            case 9:
                window = self.one(("duration('720h')", "duration('90m')", "duration('3600s')"))
                return f"now - {self.time()} {compare} {window}"
            case 10:
                return f"{self.aggregate('int')} {compare} {self.upto(0, 3)}"
            case 11:
                kind = self.one(("bool", "int", "double", "money", "timestamp", "enum", "string", "set"))
                known = self.named(kind)
                return f"{self.one(('', '!'))}has({known})" if known else self.boolean()
            case 12:
                if self.segments:
                    return "segment." + self.one(list(self.segments))
                return self.boolean()
            case _:
                return self.boolean()

    def boolean(self) -> str:
        about = self.one(("", *(f"['{each}']" for each in PRODUCTS)))
        fixed = ["customer.known", *(f"cases.{kind}{about}" for kind in CASES), *("consent." + one for one in PURPOSES)]
        fixed.append(f"channel {self.one(('==', '!='))} '{self.one(list(self.channels))}'")
        known = self.named("bool")
        if known and self.chance(0.6):
            return known
        return self.one(fixed)

    def whole(self, depth: int) -> str:
        # What can never be calculated is refused at the door: a constant never divides as zero nor overflows here.
        if depth > 0 and self.chance(0.5):
            left, right = self.whole(depth - 1), self.whole(depth - 1)
            match self.upto(0, 6):
                case 0 | 1:
                    return f"({left} {self.one(('+', '-', '*'))} {right})"
                case 2:
                    return f"({left} {self.one(('/', '%'))} {self.whole_input()})"
                case 3:
                    return f"{self.one(('min', 'max'))}({left}, {right})"
                case 4:
                    return f"({self.condition(0)} ? {left} : {right})"
                case 5:
                    return f"({self.whole_input()} {self.one(('+', '*'))} {2**63 - 1})"
                case _:
                    return f"int({self.double(depth - 1)})"
        match self.upto(0, 4):
            case 0:
                return str(self.random.choice(INTS[1:]))
            case 1:
                return f"size({self.text(0)})"
            case 2:
                part = self.one(("FullYear", "Month", "DayOfMonth", "DayOfWeek", "Hours"))
                return f"{self.time()}.get{part}()"
            case _:
                return self.whole_input()

    def whole_input(self) -> str:
        known = self.named("int")
        return known if known and self.chance(0.7) else self.aggregate("int")

    def double(self, depth: int) -> str:
        if depth > 0 and self.chance(0.5):
            left, right = self.double(depth - 1), self.double(depth - 1)
            match self.upto(0, 4):
                case 0 | 1:
                    return f"({left} {self.one(('+', '-', '*'))} {right})"
                case 2:
                    return f"({left} / {self.double_input()})"
                case 3:
                    return f"{self.one(('min', 'max'))}({left}, {right})"
                case _:
                    return f"double({self.whole(depth - 1)})"
        match self.upto(0, 3):
            case 0:
                return str(self.random.choice(DOUBLES[2:]))
            case 1 if "margin" in self.fields:
                return "offer.margin"
            case _:
                return self.double_input()

    def double_input(self) -> str:
        known = self.named("double")
        return known if known and self.chance(0.7) else self.aggregate("double")

    def number(self, depth: int) -> str:
        return self.double(depth) if self.chance(0.5) else self.whole(depth)

    def money(self, depth: int) -> str:
        known = self.named("money")
        if depth > 0 and self.chance(0.4):
            left = self.money(depth - 1)
            match self.upto(0, 2):
                case 0:
                    return f"({left} {self.one(('+', '-'))} {self.money(depth - 1)})"
                case 1:
                    return f"({left} * {self.random.choice((0.5, 2.0, 1.25))})"
                case _:
                    return f"{self.one(('min', 'max'))}({left}, {self.money(depth - 1)})"
        return known if known and self.chance(0.7) else self.aggregate("money")

    def text(self, depth: int) -> str:
        """Any text; the channel is one that can be shown and measured, but compared with channels only."""
        return "channel" if self.chance(0.2) else self.plain_text(depth)

    def plain_text(self, depth: int) -> str:
        known = self.named("string")
        if known and depth > 0 and self.chance(0.2):
            return f"{known}.{self.one(('lowerAscii', 'upperAscii'))}()"
        if "family" in self.fields and self.chance(0.2):
            return "offer.family"
        return known if known and self.chance(0.7) else self.aggregate("string")

    def time(self) -> str:
        known = self.named("timestamp")
        match self.upto(0, 4):
            case 0:
                return "now"
            case 1:
                return f"timestamp('{(BASE + timedelta(days=self.upto(-40, 10))).strftime('%Y-%m-%dT%H:%M:%SZ')}')"
            case 2:
                return self.aggregate("timestamp")
            case _:
                return known or "now"

    def aggregate(self, kind: str) -> str:
        """An aggregate whose value has this type."""
        named = [name for name, (of, _) in self.named_aggregates.items() if of == kind]
        if named and self.chance(0.5):
            return f"aggregate.{self.one(named)}"
        window = self.random.choice(("", *("_" + text for text, _ in WINDOWS)))
        match kind:
            case "int":
                middle = self.one(
                    (
                        "purchase.count",
                        "view.count",
                        "overdraft.count",
                        "purchase.sum_items",
                        "purchase.max_items",
                        "view.min_seconds",
                        "purchase.last_items",
                        "purchase.distinct_category",
                        "view.distinct_product",
                        "view.sum_seconds",
                    )
                )
            case "double":
                middle = self.one(
                    (
                        "purchase.sum_weight",
                        "purchase.mean_items",
                        "purchase.last_weight",
                        "purchase.max_weight",
                        "view.mean_seconds",
                    )
                )
            case "money":
                middle = self.one(
                    (
                        "purchase.sum_amount",
                        "purchase.min_amount",
                        "purchase.max_amount",
                        "purchase.last_amount",
                        "purchase.first_amount",
                    )
                )
            case "string":
                middle = self.one(("purchase.last_category", "purchase.first_category", "view.last_product"))
            case _:
                middle = self.one(("purchase.last_at", "view.first_at", "overdraft.last_at"))
        return f"events.{middle}{window}"

    def anything(self) -> str:
        """An expression that can be shown."""
        match self.upto(0, 6):
            case 0:
                return self.condition(1)
            case 1:
                return self.whole(1)
            case 2:
                return self.double(1)
            case 3:
                return self.money(1)
            case 4:
                return self.time()
            case 5:
                return self.named("enum") or "channel"
            case _:
                return self.text(1)

    # --- customers and requests ---

    def typed(self, kind: str, name: str) -> AnyValue:
        match kind:
            case "bool":
                return self.chance(0.5)
            case "int":
                return self.random.choice(INTS)
            case "double":
                return self.random.choice(DOUBLES)
            case "money":
                return Money(self.random.choice(MINORS), "EUR")
            case "timestamp":
                return BASE + timedelta(days=self.upto(-60, 5), seconds=self.random.choice((0, 0, 1, -1)))
            case "enum":
                return self.one(LABELS[name])
            case "set":
                return frozenset(self.some(TEXTS, most=4))
            case _:
                return self.one(TEXTS)

    def past(self) -> int:
        """A time on or beside the edge of some window, seen from the base."""
        _, window = self.duration()
        return (
            BASE_US
            - self.random.choice((0, 1, 2)) * window // 2
            - self.random.choice((0, 0, 1, -1, HOUR)) * self.upto(0, 3)
        )

    def person(self, number: int) -> Person:
        pool = (
            Identifier("crm", f"C{number:05d}"),
            Identifier("email", f"person{number}@example.org"),
            Identifier("phone", f"+35191{number:07d}"),
            Identifier("cookie", f"Ck-{number:x}"),
        )
        identifiers = tuple(self.random.sample(pool, self.upto(1, len(pool))))
        attributes = {name: self.typed(ATTRIBUTES[name], name) for name in self.attributes if self.chance(0.85)}
        consents = {
            (purpose, channel): (LONG_AGO_US + self.upto(0, 2), self.chance(0.7))
            for purpose in PURPOSES
            for channel in ("", *self.channels)
            if self.chance(0.5)
        }
        cases = tuple(
            Case(kind, LONG_AGO_US, None if self.chance(0.6) else BASE_US - 200 * DAY, product)
            for kind in CASES
            for product in ("", *PRODUCTS)
            if self.chance(0.15)
        )
        contacts = []
        favourites = self.random.sample(self.offers, min(len(self.offers), 5))
        for _ in range(self.upto(0, 24)):
            contacts.append(
                Contact(self.one(favourites), self.one(OUTCOMES), self.one(list(self.channels)), self.past())
            )
        # No two events of one moment: which of them is the last is nobody's promise.
        times = sorted({self.past() for _ in range(self.upto(0, 12))})
        self.random.shuffle(times)
        events = tuple(self.event(f"e{i}", at_us) for i, at_us in enumerate(times))
        profile = OracleCustomer(attributes, consents, cases, tuple(contacts), events)
        return Person(identifiers, profile, self.home() if self.chance(0.7) else None)

    def home(self) -> Home:
        """One of two households, with whatever is said of it this time."""
        attributes = {name: self.typed(SHARED[name], name) for name in self.shared if self.chance(0.5)}
        number = self.upto(1, 2)
        known = (Identifier("account", f"A-{number}"), Identifier("account", f"a-0{number}"))
        role = self.one(("", *LABELS["role"]))
        kind, product = self.one(CASES), self.one(("", *PRODUCTS))
        cases = (Case(kind, LONG_AGO_US, None, product),) if self.chance(0.15) else ()
        return Home(known[: self.upto(1, 2)], attributes, role, self.past(), self.chance(0.5), cases)

    def event(self, key: str, at_us: int | None) -> Event:
        kind = self.one(list(EVENTS))
        fields = {name: self.typed(of, name) for name, of in EVENTS[kind].items() if self.chance(0.85)}
        return Event(kind, key, at_us, fields)

    def request(self, crowd: Sequence[Person]) -> DecideRequest:
        person = self.random.choice(crowd) if crowd and self.chance(0.9) else None
        identifiers: list[Identifier] = []
        if person:
            known = self.random.sample(person.identifiers, self.upto(1, len(person.identifiers)))
            identifiers += [self.spelled(one) for one in known]
        if self.chance(0.3):
            identifiers.append(Identifier(self.one(list(NAMESPACES)), "+351999999999"))  # nobody's
        if crowd and self.chance(0.1):
            identifiers.append(self.random.choice(self.random.choice(crowd).identifiers))  # whoever is trusted more
        self.random.shuffle(identifiers)
        channel = self.one(list(self.channels))
        asked = self.random.sample(self.channels[channel], self.upto(1, len(self.channels[channel])))
        now_us = BASE_US + self.random.choice((0, 0, 0, 1, -1, HOUR, -DAY, DAY, 7 * DAY, 30 * DAY, 56 * DAY, 59 * DAY))
        events: list[Event] = []
        taken = {event.at_us for one in crowd for event in one.profile.events}
        for _ in range(self.upto(0, 2) if self.chance(0.4) else 0):
            self.told += 1
            at_us = now_us - self.random.choice((0, 0, 1, HOUR, 2 * HOUR))
            if at_us not in taken:
                taken.add(at_us)
                events.append(self.event(f"now{self.told}", None if at_us == now_us else at_us))
        history = person.profile.events if person else ()
        earlier = [one for one in history if one.at_us is not None and one.at_us <= now_us]
        if earlier and self.chance(0.2):
            events.append(self.random.choice(earlier))  # sent again
        if events and self.chance(0.2):
            events.append(events[0])  # twice in one request
        return DecideRequest(
            channel=channel,
            placements=tuple(PlacementRequest(name, self.upto(1, 6) if self.chance(0.5) else None) for name in asked),
            identifiers=tuple(identifiers),
            facts={name: self.typed(FACTS[name], name) for name in self.facts if self.chance(0.85)},
            events=tuple(events),
            explain=ExplainLevel.FULL,
            as_of_us=now_us,
            seed=self.upto(1, 1 << 62),
        )

    def spelled(self, identifier: Identifier) -> Identifier:
        """The same identifier as a careless channel writes it."""
        value = identifier.value
        if identifier.namespace == "email" and self.chance(0.5):
            value = f" {value.upper()} "
        if identifier.namespace == "phone" and self.chance(0.5):
            value = f"00{value[1:4]} ({value[4:6]}) {value[6:9]}-{value[9:]}"
        return Identifier(identifier.namespace, value)


def cents(minor: int) -> str:
    """Minor units as a program writes money.

    >>> cents(-150), cents(99)
    ('-1.50 EUR', '0.99 EUR')
    """
    sign, rest = ("-" if minor < 0 else ""), abs(minor)
    return f"{sign}{rest // 100}.{rest % 100:02d} EUR"


def quoted(text: str) -> str:
    """A CEL string literal."""
    plain = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\t", "\\t")
    return f"'{plain}'"
