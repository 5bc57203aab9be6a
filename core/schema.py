"""What a company knows about its customers: types, attributes, facts, event types, identifiers.

A schema is declared by a program (``schema.yaml``). The store keeps a catalog of what was ever declared:
names map to numbers there, and numbers never change meaning, which is how old records stay readable. This
file holds the declared side: plain immutable values, shared by expressions, programs, hub and kernel.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

import msgspec

from core import limits
from core.errors import nearest


class Money(msgspec.Struct, frozen=True, gc=False):
    """An amount in integer minor units (cents) of an ISO 4217 currency."""

    minor: int
    currency: str


# What a value is in Python, by ValueType: bool, int, float, Money, datetime (with its zone), str for ENUM and STRING,
# frozenset of str for STRING_SET.
AnyValue = bool | int | float | str | Money | datetime | frozenset[str]


class ValueType(enum.Enum):
    """The types of attributes, facts and event fields.

    The comment is how a value lies in memory and in a record.
    """

    BOOL = "bool"  # 1 byte: 0 missing, 1 false, 2 true
    INT = "int"  # 64 bit signed; the smallest value (-2**63) means missing
    DOUBLE = "double"  # IEEE 754 binary64; NaN means missing, so NaN can never be stored
    MONEY = "money"  # 64 bit signed minor units (cents); the currency is the attribute's
    TIMESTAMP = "timestamp"  # 64 bit signed microseconds since 1970-01-01T00:00:00Z
    ENUM = "enum"  # 16 bit code from 1; 0 means missing; labels are in the catalog
    STRING = "string"  # 16 bit offset and 16 bit length into the record's heap
    STRING_SET = "set"  # as STRING; the heap holds a 16 bit count, then length-prefixed members, sorted


# ISO 4217 currencies whose minor unit is not a hundredth (three decimals, or none).
_EXPONENTS: Mapping[str, int] = MappingProxyType(
    {
        "BHD": 3, "IQD": 3, "JOD": 3, "KWD": 3, "LYD": 3, "OMR": 3, "TND": 3,
        "BIF": 0, "CLP": 0, "DJF": 0, "GNF": 0, "ISK": 0, "JPY": 0, "KMF": 0, "KRW": 0, "PYG": 0,
        "RWF": 0, "UGX": 0, "VND": 0, "VUV": 0, "XAF": 0, "XOF": 0, "XPF": 0,
    }
)


def currency_exponent(currency: str) -> int:
    """Decimal digits of a currency's minor unit, by ISO 4217: 2 for EUR, 0 for JPY, 3 for KWD."""
    return _EXPONENTS.get(currency, 2)


def as_written(kind: ValueType, currency: str = "") -> str:
    """How a value of a type is written: by people, and in brackets on the wire. For hints.

    >>> as_written(ValueType.MONEY, "EUR")
    'Write an amount in EUR, such as 19.99 EUR (money_value: 1999 minor units and EUR).'
    """
    match kind:
        case ValueType.BOOL:
            return "Write true or false (bool_value)."
        case ValueType.INT:
            return "Write a whole number, such as 42 (int_value)."
        case ValueType.DOUBLE:
            return "Write a number, such as 0.5 (double_value)."
        case ValueType.MONEY:
            named = currency or "EUR"
            digits = currency_exponent(named)
            kept = f"an amount in {currency}" if currency else "an amount with its currency"
            return f"Write {kept}, such as {1999 / 10**digits:.{digits}f} {named} (money_value: 1999 minor units and {named})."
        case ValueType.TIMESTAMP:
            return "Write an instant with its zone, such as 2026-09-01T12:00:00Z (timestamp_value)."
        case ValueType.STRING_SET:
            return "Write a list of texts (set_value)."
        case _:
            return "Write a text; one that could be a number goes into quotes (string_value)."


class SourceRule(enum.Enum):
    """Which of several sources' values an attribute has. Of each source the newest is kept, whatever order they came in."""

    LATEST = "latest"  # the newest of all; at one microsecond that of the source named first; cleared is missing
    PRECEDENCE = "precedence"  # of the source named first that has one
    MAX = "max"  # the greatest
    SUM = "sum"  # the total
    UNION = "union"  # a set's members from all


@dataclass(frozen=True, slots=True)
class Field:
    """A named, typed value: a customer's attribute, a fact of a request, or a field of an event.

    ``labels`` are an enum's values in declared order; ``currency`` is a money's; ``protected`` marks what may
    not influence a price (age, sex, origin, health...); ``sources`` lists who may set it, best first (empty: any,
    and what is applied last holds); ``rule`` says which of their values it has.
    """

    name: str
    type: ValueType
    labels: tuple[str, ...] = ()
    currency: str = ""
    protected: bool = False
    sources: tuple[str, ...] = ()
    rule: SourceRule = SourceRule.LATEST


class Normaliser(enum.Enum):
    """How an identifier is written before it is looked up or stored, so that spellings meet."""

    NONE = "none"  # kept byte for byte
    LOWER = "lower"  # surrounding blanks removed, ASCII letters lower-cased
    E164 = "e164"  # a telephone number as + and digits; blanks, dots, dashes and brackets removed; 00 becomes +
    FOLD = "fold"  # as lower for the letters of every script, what nobody sees removed, accents in one spelling


@dataclass(frozen=True, slots=True)
class Namespace:
    """A kind of identifier. ``trust`` orders them: a request's known identifier of highest trust wins, and among equals the one
    whose namespace the store has known longer, then the smaller value (`core.hub.identifiers.ranked`).

    ``single`` says that a person has one, so customers with different ones are never joined, none gets a second, and who sends
    one that the customer of an identifier after it does not have is somebody else (`core.hub.identifiers.meant`);
    ``verified`` that only a profile, an import or a join gives one to a customer who has another identifier, not news or a
    report, and that those give nothing to a customer who is known by such a one alone. ``household`` says that it names
    households, not customers.
    """

    name: str
    normaliser: Normaliser = Normaliser.NONE
    trust: int = 0
    single: bool = False
    verified: bool = False
    household: bool = False


@dataclass(frozen=True, slots=True)
class EventType:
    """A kind of event and its fields. ``retention_us``: its events are kept for so long, and count for as long; 0: no limit."""

    name: str
    fields: tuple[Field, ...] = ()
    retention_us: int = 0


class AggregateFunction(enum.Enum):
    """What an aggregate computes over a customer's events inside its window."""

    COUNT = "count"  # int; 0 when there is none
    SUM = "sum"  # the field's type; 0 when there is none
    MIN = "min"  # the field's type; missing when there is none
    MAX = "max"
    MEAN = "mean"  # double; missing when there is none
    LAST = "last"  # the field's value in the newest event that has it; of the field `at`, a timestamp
    FIRST = "first"
    DISTINCT = "distinct"  # int; number of different values of the field


@dataclass(frozen=True, slots=True)
class FilterTerm:
    """One condition on a field of an event, which an event without the field does not meet.

    ``op`` is one of == != < <= > >= in. ``value`` is as in an expression's literal: money a double in major units, a timestamp
    microseconds, an enum its label; for ``in`` a tuple of them.
    """

    field: str
    op: str
    value: bool | int | float | str | tuple[bool | int | float | str, ...]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A window over one event type, readable as an attribute in the very next decision.

    An event counts when ``now - window < at <= now`` and it meets every term of ``where``. ``field`` is '' for COUNT, and ''
    or 'at' means the event's own time for FIRST, LAST, MIN and MAX. ``window_us`` 0 means everything kept; of a type with a
    retention that is written as the window, so that an answer does not hang on when old events are removed.
    """

    event: str
    function: AggregateFunction
    field: str
    window_us: int
    where: tuple[FilterTerm, ...] = ()


class CaseScope(enum.Enum):
    """Whom or what a case is about."""

    CUSTOMER = "customer"  # the customer: it speaks in all that names its kind
    HOUSEHOLD = "household"  # everybody in the customer's household
    PRODUCT = "product"  # one product of the customer's: it speaks in what names that product, or only the kind


@dataclass(frozen=True, slots=True)
class CaseRule:
    """What a kind of case declares. ``due_us`` after its opening a case should be closed; 0: no such time."""

    scopes: tuple[CaseScope, ...] = tuple(CaseScope)
    due_us: int = 0


@dataclass(frozen=True, slots=True)
class Schema:
    """Everything a program's expressions may name, except offers.

    Mappings are by name, in declared order.
    """

    attributes: Mapping[str, Field] = field(default_factory=dict)
    facts: Mapping[str, Field] = field(default_factory=dict)
    events: Mapping[str, EventType] = field(default_factory=dict)
    namespaces: Mapping[str, Namespace] = field(default_factory=dict)
    purposes: tuple[str, ...] = ()  # consent purposes
    grantors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by purpose: the sources that may grant it
    outcomes: tuple[str, ...] = ()  # served, shown, clicked, accepted, rejected, converted and a program's own
    case_kinds: tuple[str, ...] = ()  # complaint, fault, dispute...
    case_rules: Mapping[str, CaseRule] = field(default_factory=dict)  # of kinds that declare more than their name
    household_attributes: Mapping[str, Field] = field(default_factory=dict)  # what the members of a household share
    roles: tuple[str, ...] = ()  # of members in a household
    aggregates: Mapping[str, Aggregate] = field(default_factory=dict)  # those that have a name of their own


# Outcomes every installation has; a program may declare more.
STANDARD_OUTCOMES = ("served", "shown", "clicked", "accepted", "rejected", "converted")


def wrong_product(product: str) -> tuple[str, str] | None:
    """What is wrong with the name of a product that cases are about, and what to do; None when it is right."""
    if not product:
        return "The product's name is empty.", "Write its name, or leave the product out."
    if len(product) > limits.NAME_LENGTH or not product.isprintable() or "'" in product or "\\" in product:
        return (f"'{product[:32]}' cannot be a product's name.",
                f"It has at most {limits.NAME_LENGTH} characters that can be printed, without quotes and backslashes.")
    return None


def unknown_product(product: str, known: Collection[str]) -> str:
    """A warning of a product that is none of those the program names; '' where it is, or where the program names none.

    Such a case is taken: customers complain of what nothing is offered for. But it pauses less than a misspelt one was meant to.
    """
    if not product or not known or product in known:
        return ""
    close = nearest(product, known)
    hint = f"Did you mean '{close}'?" if close else "Offers name theirs by product: in the program."
    return f"No offer names the product '{product}': such a case pauses only what any case of its kind does. {hint}"


def never_of_product(kind: str) -> tuple[str, str]:
    """What is wrong with asking for a product where a kind of case has none, and what to do."""
    return (f"A case of kind '{kind}' is never about a product: its scopes say so.",
            f"Write {kind} alone, or add product to its scopes in schema.yaml.")
