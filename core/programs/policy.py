"""Reads what groups and offers declare alike: rules, contact policy, weights, consent and cases.

Ids: an id that an author gives is a plain name and unique in the program; an id made here has dots
(``savings.levers.1``), so the two kinds can never be the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from core import limits
from core.errors import Where
from core.expressions import Expression
from core.programs.checker import CONDITION, Checker, OfferFields
from core.programs.document import Mapping as MappingNode
from core.programs.document import Node, Scalar
from core.programs.program import Cap, CasePause, Group, Layer, Placement, Rule, Suppression, Weight
from core.programs.reading import Reader, Table
from core.schema import CaseScope, Schema, ValueType, never_of_product

LAYERS: Final = {layer.name.lower(): layer for layer in Layer}
KEYS: Final = (*LAYERS, "consent", "paused_by_cases", "contact", "context_weights", "levers", "description")
# -100 takes the factor to nothing; below it a priority would turn its sign. The upper bound is arbitrary: 101 times.
PERCENT_LOW: Final = -100.0
PERCENT_HIGH: Final = 10_000.0


@dataclass(slots=True)
class Declared:
    """What has been declared so far; references are checked against it."""

    schema: Schema
    offer_fields: Mapping[str, ValueType]
    currency: str
    channels: tuple[str, ...]
    placements: Mapping[str, Placement]
    checker: Checker
    groups: dict[str, Group] = field(default_factory=dict)
    ids: dict[str, Where] = field(default_factory=dict)
    # Offers and groups named as related: checked when all offers are known.
    related: list[tuple[Reader, Node, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Policy:
    """What a group or an offer declares of it."""

    rules: tuple[Rule, ...]
    caps: tuple[Cap, ...]
    suppressions: tuple[Suppression, ...]
    context_weights: tuple[Weight, ...]
    levers: tuple[Weight, ...]
    consent: str
    paused_by_cases: tuple[CasePause, ...]


def read_policy(reader: Reader, table: Table, owner: str, declared: Declared, fields: OfferFields | None) -> Policy:
    """The policy keys of a group's or offer's table. ``fields`` are the offer's, None for a group."""
    rules: list[Rule] = []
    for key, layer in LAYERS.items():
        node = table.get(key)
        if node is not None:
            rules.extend(_rules(reader, node, layer, owner=owner, declared=declared, fields=fields))
    caps: tuple[Cap, ...] = ()
    suppressions: tuple[Suppression, ...] = ()
    node = table.get("contact")
    if node is not None and (contact := reader.table(node, f"contact of '{owner}'", ("caps", "suppress"))) is not None:
        caps = read_caps(reader, contact.get("caps"), owner, declared)
        suppressions = _suppressions(reader, contact.get("suppress"), owner, declared)
    consent = ""
    node = table.get("consent")
    if node is not None:
        consent = reader.known(node, "purpose", declared.schema.purposes) or ""
    cases: dict[CasePause, None] = {}
    for item in reader.items(table.get("paused_by_cases"), f"paused_by_cases of '{owner}'"):
        pause = _pause(reader, item, owner, declared)
        if pause is not None:
            cases[pause] = None
    return Policy(
        tuple(rules), caps, suppressions,
        _weights(reader, table, "context_weights", owner=owner, declared=declared, fields=fields),
        _weights(reader, table, "levers", owner=owner, declared=declared, fields=fields),
        consent, tuple(cases),
    )


def _pause(reader: Reader, node: Node, owner: str, declared: Declared) -> CasePause | None:
    """A kind of case, or ``{kind: fault, product: offer}``: only when it is about the offer's product."""
    kinds = declared.schema.case_kinds
    if not isinstance(node, MappingNode):
        kind = reader.known(node, "kind of case", kinds)
        return None if kind is None else CasePause(kind)
    table = reader.table(node, f"an item of paused_by_cases of '{owner}'", ("kind", "product"))
    written = None if table is None else _required(reader, table, "kind")
    kind = None if written is None else reader.known(written, "kind of case", kinds)
    if table is None or kind is None:
        return None
    of_product = table.get("product")
    if of_product is None:
        return CasePause(kind)
    rule = declared.schema.case_rules.get(kind)
    if rule is not None and CaseScope.PRODUCT not in rule.scopes:
        reader.problem(of_product, *never_of_product(kind))
        return None
    if reader.text(of_product, "product") != "offer":
        reader.problem(of_product, "The product of a pause is that of its offer.",
                       "Write product: offer here, and product: with its name at the offer.")
        return None
    return CasePause(kind, True)


def _rules(reader: Reader, node: Node, layer: Layer, *, owner: str, declared: Declared,
           fields: OfferFields | None) -> list[Rule]:
    rules: list[Rule] = []
    key = layer.name.lower()
    for position, item in enumerate(reader.items(node, f"{key} of '{owner}'"), 1):
        id_ = f"{owner}.{key}.{position}"
        written: Node | None = item
        if isinstance(item, MappingNode):
            table = reader.table(item, f"a rule of '{owner}'", ("id", "when", "description"))
            if table is None:
                continue
            id_ = read_id(reader, table, declared) or id_
            written = table.get("when")
            if written is None:
                if not table.node.value or table.has("id") or table.has("when"):
                    reader.problem(item, "The rule has no condition.", "Write when: and the condition.")
                continue
        condition = read_condition(reader, written, declared, fields)
        if condition is not None and written is not None:
            rules.append(Rule(id_, layer, condition, reader.where(written)))
    return rules


def read_condition(reader: Reader, node: Node | None, declared: Declared,
                   fields: OfferFields | None) -> Expression | None:
    """A condition; a problem is noted for anything that is not of type bool."""
    if node is None or reader.text(node, "a condition") is None or not isinstance(node, Scalar):
        return None
    return declared.checker.expression(reader, node, CONDITION, fields=fields)


def read_id(reader: Reader, table: Table, declared: Declared) -> str:
    """The author's id, or ''. Two of the same are a problem."""
    node = table.get("id")
    if node is None or (name := reader.name(node, "an id")) is None:
        return ""
    where = reader.where(node)
    first = declared.ids.get(name)
    if first is None:
        declared.ids[name] = where
    elif first == where:
        reader.problem(node, f"The id '{name}' is repeated by an alias.",
                       "Leave it out: one is made from the offer's name.")
    else:
        reader.problem(node, f"The id '{name}' is taken.", f"It stands first at {first}.")
    return name


def read_caps(reader: Reader, node: Node | None, owner: str, declared: Declared) -> tuple[Cap, ...]:
    """A list of contact caps."""
    caps: list[Cap] = []
    for position, item in enumerate(reader.items(node, f"caps of '{owner}'"), 1):
        known = ("id", "outcome", "at_most", "per", "channel", "of", "description")
        table = reader.table(item, f"a cap of '{owner}'", known)
        if table is None:
            continue
        id_ = read_id(reader, table, declared) or f"{owner}.caps.{position}"
        outcome = _outcome(reader, table, declared)
        at_most = _count(reader, table, "at_most")
        per_us = _duration(reader, table, "per")
        channel: str | None = ""
        if (written := table.get("channel")) is not None:
            channel = reader.known(written, "channel", declared.channels)
        household = False
        if (written := table.get("of")) is not None:
            household = reader.known(written, "holder of contacts", ("customer", "household")) == "household"
            if household and not any(each.household for each in declared.schema.namespaces.values()):
                reader.problem(written, "No namespace names households, so the cap would count the customer's own contacts.",
                               "Give the namespace of the account's number 'of: household' in schema.yaml.")
        if outcome is not None and at_most is not None and per_us is not None and channel is not None:
            caps.append(Cap(id_, outcome, at_most, per_us, channel, household))
    return tuple(caps)


def _suppressions(reader: Reader, node: Node | None, owner: str, declared: Declared) -> tuple[Suppression, ...]:
    found: list[Suppression] = []
    known = ("id", "outcome", "times", "within", "pause", "related", "related_groups", "description")
    for position, item in enumerate(reader.items(node, f"suppress of '{owner}'"), 1):
        table = reader.table(item, f"a suppression of '{owner}'", known)
        if table is None:
            continue
        id_ = read_id(reader, table, declared) or f"{owner}.suppress.{position}"
        outcome = _outcome(reader, table, declared)
        times = _count(reader, table, "times")
        within_us = _duration(reader, table, "within")
        pause_us = _duration(reader, table, "pause")
        offers = _related(reader, table.get("related"), "offer", declared)
        groups = _related(reader, table.get("related_groups"), "group", declared)
        if outcome is not None and times is not None and within_us is not None and pause_us is not None:
            found.append(Suppression(id_, outcome, times, within_us, pause_us, offers, groups))
    return tuple(found)


def _related(reader: Reader, node: Node | None, kind: str, declared: Declared) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for item in reader.items(node, f"the list of related {kind}s"):
        name = reader.text(item, f"the name of a related {kind}")
        if name is not None:
            declared.related.append((reader, item, kind))
            names[name] = None
    return tuple(names)


def _outcome(reader: Reader, table: Table, declared: Declared) -> str | None:
    node = _required(reader, table, "outcome")
    return None if node is None else reader.known(node, "outcome", declared.schema.outcomes)


def _count(reader: Reader, table: Table, key: str) -> int | None:
    # A history keeps so many contacts; a larger count would never be reached.
    node = _required(reader, table, key)
    return None if node is None else reader.integer(node, key, 1, limits.CONTACTS_PER_CUSTOMER)


def _duration(reader: Reader, table: Table, key: str) -> int | None:
    node = _required(reader, table, key)
    return None if node is None else reader.duration(node, key)


def _required(reader: Reader, table: Table, key: str) -> Node | None:
    node = table.get(key)
    if node is None:
        reader.problem(table.node, f"'{key}' is missing.", "Add it; programs/README.md lists the keys.")
    return node


def _weights(reader: Reader, owning: Table, key: str, *, owner: str, declared: Declared,
             fields: OfferFields | None) -> tuple[Weight, ...]:
    weights: list[Weight] = []
    for position, item in enumerate(reader.items(owning.get(key), f"{key} of '{owner}'"), 1):
        table = reader.table(item, f"an item of {key} of '{owner}'", ("id", "percent", "when", "description"))
        if table is None:
            continue
        id_ = read_id(reader, table, declared) or f"{owner}.{key}.{position}"
        written = _required(reader, table, "percent")
        percent = None if written is None else reader.number(written, "percent", PERCENT_LOW, PERCENT_HIGH)
        when = table.get("when")
        condition = read_condition(reader, when, declared, fields)
        if percent is not None and (when is None) == (condition is None):
            weights.append(Weight(id_, percent, condition))
    return tuple(weights)
