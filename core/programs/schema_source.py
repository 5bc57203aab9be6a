"""Reads schema.yaml: namespaces, attributes, households, facts, events, offer fields, purposes, outcomes, kinds of cases.

Retention and named aggregates are read by `core.programs.aggregate_source`.

Names become paths in expressions (``customer.age``, ``events.purchase.sum_amount_30d``), so those that could not be
written there, or would read as something else, are refused here rather than at their first use.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Mapping as Mapping_
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from core import limits
from core.programs.aggregate_source import read_aggregates, read_retention
from core.programs.document import Mapping, Node, Scalar
from core.programs.reading import Reader, is_empty, shorten
from core.schema import (
    STANDARD_OUTCOMES,
    CaseRule,
    CaseScope,
    EventType,
    Field,
    Namespace,
    Normaliser,
    Schema,
    SourceRule,
    ValueType,
)

KEYS: Final = (
    "namespaces", "attributes", "household", "facts", "events", "retention", "aggregates", "offer_fields", "purposes",
    "outcomes", "cases",
    "description",
)
_FIELD_KEYS: Final = ("type", "labels", "currency", "protected", "sources", "rule", "description")
_TYPES: Final = {type_.value: type_ for type_ in ValueType}
_OFFER_TYPES: Final = (ValueType.BOOL, ValueType.INT, ValueType.DOUBLE, ValueType.STRING)
# The types that a rule can be about; the others are about any.
_RULE_TYPES: Final = {
    SourceRule.MAX: (ValueType.INT, ValueType.DOUBLE, ValueType.MONEY, ValueType.TIMESTAMP),
    SourceRule.SUM: (ValueType.INT, ValueType.DOUBLE, ValueType.MONEY),
    SourceRule.UNION: (ValueType.STRING_SET,),
}
_CURRENCY: Final = re.compile(r"[A-Z]{3}")
# What is built in under a root, which an attribute would hide.
_BUILT_IN: Final = {
    "customer": {"known": "whether an identifier was known"},
    "household": {"role": "the customer's role in it", "size": "how many members it has"},
}
# What CEL's grammar keeps for itself, even after a dot.
_CEL_WORDS: Final = frozenset({"true", "false", "null", "in"})
_AGGREGATE_WINDOW: Final = re.compile(r".*_\d+[smhdwy]")
# Written by people who know another system's words for the same types.
_OTHER_NAMES: Final = {
    "integer": "int", "long": "int", "float": "double", "number": "double", "decimal": "double", "boolean": "bool",
    "text": "string", "str": "string", "date": "timestamp", "datetime": "timestamp", "list": "set", "currency": "money",
    "category": "enum", "symbol": "enum",
}


@dataclass(frozen=True, slots=True)
class DeclaredSchema:
    """The schema, and what offers may hold in ``fields``."""

    schema: Schema
    offer_fields: MappingProxyType[str, ValueType]


def read_schema(reader: Reader, root: Node | None, currency: str) -> DeclaredSchema:
    """The declared schema; what could not be read is noted and left out. ``currency`` is the program's."""
    if root is None or (table := reader.table(root, "the schema", KEYS)) is None:
        return DeclaredSchema(Schema(outcomes=STANDARD_OUTCOMES), MappingProxyType({}))
    namespaces = _namespaces(reader, table.get("namespaces"))
    attributes = _fields(reader, table.get("attributes"), "attribute", currency, root="customer")
    if len(attributes) > limits.ATTRIBUTES:
        reader.problem(root, f"The schema has {len(attributes)} attributes; the limit is {limits.ATTRIBUTES}.")
    shared, roles = _household(reader, table.get("household"), currency, namespaces)
    facts = _fields(reader, table.get("facts"), "fact", currency)
    if len(facts) > limits.FACTS_PER_REQUEST:
        reader.problem(root, f"The schema has {len(facts)} facts; a request holds {limits.FACTS_PER_REQUEST}.")
    events = read_retention(reader, table.get("retention"), _events(reader, table.get("events"), currency))
    outcomes: list[str] = list(STANDARD_OUTCOMES)
    outcomes.extend(name for name in _names(reader, table.get("outcomes"), "outcome") if name not in outcomes)
    purposes, grantors = _purposes(reader, table.get("purposes"))
    case_kinds, case_rules = _cases(reader, table.get("cases"))
    schema = Schema(
        attributes=MappingProxyType(attributes), facts=MappingProxyType(facts),
        events=MappingProxyType(events),
        namespaces=MappingProxyType(namespaces), purposes=purposes, grantors=grantors,
        outcomes=tuple(outcomes), case_kinds=case_kinds, case_rules=case_rules,
        household_attributes=MappingProxyType(shared), roles=tuple(roles),
        aggregates=MappingProxyType(read_aggregates(reader, table.get("aggregates"), events)),
    )
    return DeclaredSchema(schema, MappingProxyType(_offer_fields(reader, table.get("offer_fields"))))


def read_currency(reader: Reader, node: Node | None) -> str:
    """An ISO 4217 code, or ''."""
    if node is None or (text := reader.text(node, "a currency")) is None:
        return ""
    if not _CURRENCY.fullmatch(text):
        upper = text.upper()
        hint = f"Write {upper}." if _CURRENCY.fullmatch(upper) else "Write its ISO 4217 code, such as EUR."
        reader.problem(node, f"'{shorten(text)}' is not a currency.", hint)
        return ""
    return text


def _names(reader: Reader, node: Node | None, what: str) -> list[str]:
    """A list of distinct names in declared order."""
    names: list[str] = []
    plural = f"{what}s" if " of " not in what else what.replace(" of ", "s of ") + "s"
    for item in reader.items(node, f"the list of {plural}"):
        name = reader.name(item, f"the name of a {what}")
        if name is None:
            continue
        if name in names:
            reader.problem(item, f"The {what} '{name}' is declared twice.")
        elif name in _CEL_WORDS:
            reader.problem(item, f"'{name}' is a word of the expression language.", "Choose another name.")
        else:
            names.append(name)
    return names


def _purposes(reader: Reader, node: Node | None) -> tuple[tuple[str, ...], Mapping_[str, tuple[str, ...]]]:
    """The purposes of consents, and who may grant each: a list of names, or names with their sources."""
    if not isinstance(node, Mapping):
        return tuple(_names(reader, node, "purpose")), MappingProxyType({})
    found: list[str] = []
    grantors: dict[str, tuple[str, ...]] = {}
    for name, value in _named(reader, node, "purposes", "purpose"):
        body = None if is_empty(value) else reader.table(value, f"purpose '{name}'", ("sources", "description"))
        found.append(name)
        if body is not None and (sources := _names(reader, body.get("sources"), "source")):
            grantors[name] = tuple(sources)
    return tuple(found), MappingProxyType(grantors)


def _named(reader: Reader, node: Mapping, what: str, one: str) -> Iterator[tuple[str, Node]]:
    """The entries of a mapping by names that expressions can hold; others are noted."""
    table = reader.table(node, what)
    for _, key, value in table.items() if table is not None else ():
        name = reader.name(key, f"the name of a {one}")
        if name is None:
            continue
        if name in _CEL_WORDS:
            reader.problem(key, f"'{name}' is a word of the expression language.", "Choose another name.")
            continue
        yield name, value


def _cases(reader: Reader, node: Node | None) -> tuple[tuple[str, ...], Mapping_[str, CaseRule]]:
    """The kinds of cases, and the rules of those that declare any: a list of names, or names with their rules."""
    if not isinstance(node, Mapping):
        return tuple(_names(reader, node, "kind of case")), MappingProxyType({})
    kinds: list[str] = []
    rules: dict[str, CaseRule] = {}
    for name, value in _named(reader, node, "cases", "kind of case"):
        body = None if is_empty(value) else reader.table(value, f"case '{name}'", ("scopes", "due", "description"))
        kinds.append(name)
        if body is None:
            continue
        scopes: dict[CaseScope, None] = {}
        for item in reader.items(body.get("scopes"), f"the scopes of case '{name}'"):
            scope = reader.known(item, "scope of cases", tuple(each.value for each in CaseScope))
            if scope is not None:
                scopes[CaseScope(scope)] = None
        due_us = 0
        if (written := body.get("due")) is not None:
            due_us = reader.duration(written, "due") or 0
        rule = CaseRule(tuple(scopes) or tuple(CaseScope), due_us)
        if rule != CaseRule():
            rules[name] = rule
    return tuple(kinds), MappingProxyType(rules)


def _namespaces(reader: Reader, node: Node | None) -> dict[str, Namespace]:
    found: dict[str, Namespace] = {}
    if node is None or (table := reader.table(node, "namespaces")) is None:
        return found
    for _, key, value in table.items():
        name = reader.name(key, "the name of a namespace")
        keys = ("normaliser", "trust", "single", "claims", "of", "description")
        body = reader.table(value, f"namespace '{name}'", keys)
        if name is None or body is None:
            continue
        normaliser = Normaliser.NONE
        if (written := body.get("normaliser")) is not None:
            chosen = reader.known(written, "normaliser", tuple(each.value for each in Normaliser))
            normaliser = Normaliser(chosen) if chosen else Normaliser.NONE
        trust = 0
        if (written := body.get("trust")) is not None:
            trust = reader.integer(written, "trust", 0, 1000) or 0
        single = reader.boolean(body.get("single"), "single", default=False)
        verified = False
        if (written := body.get("claims")) is not None:
            verified = reader.known(written, "kind of claims", ("any", "verified")) == "verified"
        household = False
        if (written := body.get("of")) is not None:
            household = reader.known(written, "holder of identifiers", ("customer", "household")) == "household"
        found[name] = Namespace(name, normaliser, trust, single, verified, household)
    return found


def _household(
    reader: Reader, node: Node | None, currency: str, namespaces: dict[str, Namespace]
) -> tuple[dict[str, Field], list[str]]:
    """The attributes that members share, and their roles."""
    if node is None or (table := reader.table(node, "household", ("attributes", "roles", "description"))) is None:
        return {}, []
    if not any(namespace.household for namespace in namespaces.values()):
        reader.problem(node, "No namespace names households, so none could ever be made.",
                       "Give the namespace of the account's number 'of: household'.")
    attributes = _fields(reader, table.get("attributes"), "attribute", currency, root="household")
    if len(attributes) > limits.ATTRIBUTES:
        reader.problem(node, f"Households have {len(attributes)} attributes; the limit is {limits.ATTRIBUTES}.")
    return attributes, _names(reader, table.get("roles"), "role")


def _fields(reader: Reader, node: Node | None, what: str, currency: str, *, root: str = "",
            event: bool = False) -> dict[str, Field]:
    """Declared fields by name; those of attributes are written under ``root`` in expressions."""
    attribute = root != ""
    found: dict[str, Field] = {}
    if node is None or (table := reader.table(node, f"{what}s")) is None:
        return found
    for _, key, value in table.items():
        name = reader.name(key, f"the name of {'an' if attribute else 'a'} {what}")
        if name is None:
            continue
        if name in _CEL_WORDS:
            reader.problem(key, f"'{name}' is a word of the expression language.", "Choose another name.")
        elif name in _BUILT_IN.get(root, {}):
            reader.problem(key, f"{root}.{name} is built in: {_BUILT_IN[root][name]}.", "Choose another name.")
        elif event and (name == "at" or _AGGREGATE_WINDOW.fullmatch(name)):
            reader.problem(key, f"'{name}' would be misread in the name of an aggregate.",
                           "'at' is the event's own time; an ending such as _30d is a window.")
        elif (field := _field(reader, name, value, what, currency, attribute=attribute, event=event)) is not None:
            found[name] = field
    return found


def _field(reader: Reader, name: str, node: Node, what: str, currency: str, *, attribute: bool,
           event: bool) -> Field | None:
    if isinstance(node, Scalar):
        type_ = _type(reader, node)
        if type_ is ValueType.ENUM:
            reader.problem(node, f"The {what} '{name}' needs its labels.", "Write {type: enum, labels: [a, b]}.")
            return None
        body = None
    else:
        body = reader.table(node, f"{what} '{name}'", _FIELD_KEYS)
        if body is None:
            return None
        written = body.get("type")
        if written is None:
            reader.problem(node, f"The {what} '{name}' has no type.", f"Types: {', '.join(_TYPES)}.")
            return None
        type_ = _type(reader, written)
    if type_ is None:
        return None
    if event and type_ is ValueType.STRING_SET:
        reader.problem(node, f"The field '{name}' of an event cannot be a set.", "Send one event for each member.")
        return None
    if body is None:
        if type_ is ValueType.MONEY and not currency:
            reader.problem(node, f"The {what} '{name}' has no currency, and the program declares none.",
                           "Write {type: money, currency: EUR}.")
        return Field(name, type_, currency=currency if type_ is ValueType.MONEY else "")
    labels: tuple[str, ...] = ()
    if type_ is ValueType.ENUM:
        labels = _labels(reader, body.get("labels"), name, node)
    elif (extra := body.get("labels")) is not None:
        reader.problem(extra, f"Only an enum has labels; '{name}' is of type {type_.value}.", "Write type: enum.")
    own = currency if type_ is ValueType.MONEY else ""
    if (written := body.get("currency")) is not None:
        if type_ is ValueType.MONEY:
            own = read_currency(reader, written) or currency
        else:
            reader.problem(written, f"Only money has a currency; '{name}' is of type {type_.value}.")
    elif type_ is ValueType.MONEY and not currency:
        reader.problem(node, f"The {what} '{name}' has no currency, and the program declares none.",
                       "Write currency: EUR.")
    sources: tuple[str, ...] = ()
    if (written := body.get("sources")) is not None:
        if attribute:
            sources = tuple(_names(reader, written, "source"))
        else:
            reader.problem(written, f"Only attributes have sources; '{name}' is a {what}.")
    protected = reader.boolean(body.get("protected"), "protected", default=False)
    return Field(name, type_, labels, own, protected, sources, _rule(reader, body.get("rule"), name, type_, sources))


def _rule(reader: Reader, node: Node | None, name: str, type_: ValueType, sources: tuple[str, ...]) -> SourceRule:
    """The rule as written, or the one that goes without saying: the order of the sources, or the newest without any."""
    if node is None:
        return SourceRule.PRECEDENCE if sources else SourceRule.LATEST
    chosen = reader.known(node, "rule", tuple(each.value for each in SourceRule))
    if chosen is None:
        return SourceRule.LATEST
    rule = SourceRule(chosen)
    if not sources:
        reader.problem(node, f"'{name}' has a rule but no sources that it could be about.",
                       "Add sources: [a, b], the best first.")
    elif type_ not in _RULE_TYPES.get(rule, tuple(ValueType)):
        allowed = ", ".join(each.value for each in _RULE_TYPES[rule])
        reader.problem(node, f"The rule '{rule.value}' does not fit '{name}', which is of type {type_.value}.",
                       f"It is for: {allowed}.")
    return rule


def _type(reader: Reader, node: Node) -> ValueType | None:
    text = reader.text(node, "a type")
    if text is None:
        return None
    if text in _TYPES:
        return _TYPES[text]
    if text.lower() in _OTHER_NAMES:
        reader.problem(node, f"There is no type '{text}'.", f"Did you mean '{_OTHER_NAMES[text.lower()]}'?")
        return None
    known = reader.known(node, "type", tuple(_TYPES))
    return _TYPES[known] if known else None


def _labels(reader: Reader, node: Node | None, name: str, at: Node) -> tuple[str, ...]:
    labels: dict[str, None] = {}
    for item in reader.items(node, "labels"):
        label = reader.text(item, "a label")
        if label is None:
            continue
        if label in labels:
            reader.problem(item, f"The label '{shorten(label)}' stands twice.")
        elif len(label.encode()) > limits.STRING_BYTES:
            reader.problem(item, f"A label has more than {limits.STRING_BYTES} bytes.")
        labels[label] = None
    if not labels:
        reader.problem(at, f"The enum '{name}' has no labels.", "Write labels: [a, b].")
    if len(labels) > limits.ENUM_LABELS:
        reader.problem(at, f"The enum '{name}' has {len(labels)} labels; the limit is {limits.ENUM_LABELS}.",
                       "A string has no such limit.")
    return tuple(labels)


def _events(reader: Reader, node: Node | None, currency: str) -> dict[str, EventType]:
    found: dict[str, EventType] = {}
    if node is None or (table := reader.table(node, "events")) is None:
        return found
    for _, key, value in table.items():
        name = reader.name(key, "the name of an event type")
        if name is None:
            continue
        fields: dict[str, Field] = {}
        if isinstance(value, Mapping):
            fields = _fields(reader, value, "field", currency, event=True)
        elif not (isinstance(value, Scalar) and value.value in ("", "~", "null")):
            reader.problem(value, f"The event type '{name}' must be a mapping of its fields to types.",
                           "Write {amount: money}, or {} when it has none.")
        if len(fields) > limits.EVENT_FIELDS:
            reader.problem(key, f"The event type '{name}' has {len(fields)} fields; the limit is "
                                f"{limits.EVENT_FIELDS}.")
        found[name] = EventType(name, tuple(fields.values()))
    return found


def _offer_fields(reader: Reader, node: Node | None) -> dict[str, ValueType]:
    found: dict[str, ValueType] = {}
    if node is None or (table := reader.table(node, "offer_fields")) is None:
        return found
    for _, key, value in table.items():
        name = reader.name(key, "the name of an offer field")
        written: Node | None = value
        if isinstance(value, Mapping):
            body = reader.table(value, f"offer field '{name}'", ("type", "description"))
            written = None if body is None else body.get("type")
            if body is not None and written is None:
                reader.problem(value, f"The offer field '{name}' has no type.", "Add type: double, or another.")
        type_ = None if written is None else _type(reader, written)
        if name is None or type_ is None:
            continue
        if name in _CEL_WORDS:
            reader.problem(key, f"'{name}' is a word of the expression language.", "Choose another name.")
        elif type_ not in _OFFER_TYPES:
            allowed = ", ".join(each.value for each in _OFFER_TYPES)
            reader.problem(value, f"An offer's field cannot be of type {type_.value}.", f"Types: {allowed}.")
        else:
            found[name] = type_
    return found
