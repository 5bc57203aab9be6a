"""The store's catalog: which number stands for which name in records, contacts, events and keys.

Numbers are handed out once, from 1, and keep their meaning for ever: an attribute keeps its type and its offset in the
record, an enum label its code, an offer its number in the contact history, whether or not a program still names it.
That is how old records stay readable without being rewritten. A `Catalog` is immutable; `declared` makes the next
one, and only mutations store it.

In the store each kind of name is one value of the database ``catalog``; offers, of which there may be a million, are
lists of 4096 names under ``offers/<chunk>``, so that a new offer rewrites one chunk.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Final, NoReturn

import msgspec

from core import limits
from core.decision import Identifier
from core.errors import BadValue, SchemaConflict, SourceNotAllowed, StoreCorrupt, TooLarge, UnknownName
from core.hub.record import WIDTHS, RecordLayout
from core.schema import STANDARD_OUTCOMES, CaseScope, EventType, Field, Namespace, Normaliser, Schema, SourceRule, ValueType

OFFERS_PER_CHUNK = 4096
KEPT_FOR_EVER = "The store keeps each name that was ever declared, for what is stored by it: use those that it has."


class AttributeEntry(msgspec.Struct, frozen=True, array_like=True):
    """An attribute as stored: its place in the record never changes."""

    number: int
    name: str
    type: ValueType
    offset: int  # in the record's fixed area
    currency: str = ""
    labels: tuple[str, ...] = ()  # of an enum; the code is the position, from 1
    sources: tuple[int, ...] = ()  # numbers of those that may set it, best first; empty: any. The last declared hold
    rule: SourceRule = SourceRule.LATEST


class EventField(msgspec.Struct, frozen=True, array_like=True):
    """A field of an event type; its cell is its position."""

    name: str
    type: ValueType
    currency: str = ""
    labels: tuple[str, ...] = ()


class EventEntry(msgspec.Struct, frozen=True, array_like=True):
    """An event type as stored; new fields are appended. The last declared retention holds."""

    number: int
    name: str
    fields: tuple[EventField, ...] = ()
    retention_us: int = 0  # 0: no limit

    @property
    def field_names(self) -> tuple[str, ...]:
        """Names of the fields, in the order of their cells."""
        return tuple(field.name for field in self.fields)


class NamespaceEntry(msgspec.Struct, frozen=True, array_like=True):
    """A namespace as stored. The normaliser is fixed, because keys are stored normalised, and so is whom it names.

    All else may change.
    """

    number: int
    name: str
    normaliser: Normaliser
    trust: int = 0
    single: bool = False
    verified: bool = False
    household: bool = False  # names households, which have ids and records of their own

    @property
    def rank(self) -> tuple[int, int]:
        """Orders namespaces: more trusted ones before others, equally trusted ones by how long the store has known them."""
        return (-self.trust, self.number)


class GrantorsEntry(msgspec.Struct, frozen=True, array_like=True):
    """The sources that may grant a purpose, by their numbers."""

    name: str
    sources: tuple[int, ...]


class CaseRuleEntry(msgspec.Struct, frozen=True, array_like=True):
    """What a kind of case declares, as `core.schema.CaseRule`; the newest declaration holds for all of its cases."""

    name: str
    scopes: tuple[CaseScope, ...]
    due_us: int = 0


def describe(field: Field | EventField | AttributeEntry) -> str:
    """A field's type as people write it: ``money in EUR``."""
    return f"{field.type.value} in {field.currency}" if field.currency else field.type.value


class Catalog(msgspec.Struct, frozen=True):
    """All numbers of a store at one moment. ``version`` counts its growth. Mappings are in order of their numbers."""

    version: int = 0
    namespaces: Mapping[str, NamespaceEntry] = {}
    attributes: Mapping[str, AttributeEntry] = {}
    events: Mapping[str, EventEntry] = {}
    offers: Mapping[str, int] = {}
    outcomes: Mapping[str, int] = {}
    channels: Mapping[str, int] = {}
    purposes: Mapping[str, int] = {}
    grantors: Mapping[str, GrantorsEntry] = {}
    case_kinds: Mapping[str, int] = {}
    case_rules: Mapping[str, CaseRuleEntry] = {}
    sources: Mapping[str, int] = {}
    household_attributes: Mapping[str, AttributeEntry] = {}
    roles: Mapping[str, int] = {}

    # --- numbers of names; all raise UnknownName with the nearest one that is known

    def namespace(self, name: str) -> int:
        """The namespace's number."""
        return self.namespace_entry(name).number

    def namespace_entry(self, name: str) -> NamespaceEntry:
        """The namespace with its normaliser and trust."""
        entry = self.namespaces.get(name)
        return entry if entry is not None else _unknown("namespace", name, self.namespaces)

    def names_household(self, identifiers: Sequence[Identifier]) -> bool:
        """Whether they name a household and no customer: the first one's namespace tells, and the others must be of its kind."""
        entry = self.namespaces.get(identifiers[0].namespace) if identifiers else None
        return entry is not None and entry.household

    def attribute(self, name: str) -> AttributeEntry:
        """The attribute with its type, offset and labels."""
        entry = self.attributes.get(name)
        return entry if entry is not None else _unknown("attribute", name, self.attributes)

    def shared(self, name: str) -> AttributeEntry:
        """The household's attribute with its type, offset in a household's record, and labels."""
        entry = self.household_attributes.get(name)
        return entry if entry is not None else _unknown("attribute of households", name, self.household_attributes)

    def role(self, name: str) -> int:
        """The role's number."""
        return self.roles.get(name) or _unknown("role", name, self.roles)

    def event(self, name: str) -> EventEntry:
        """The event type with its number and fields."""
        entry = self.events.get(name)
        return entry if entry is not None else _unknown("event type", name, self.events)

    def offer(self, name: str) -> int:
        """The offer's number."""
        return self.offers.get(name) or _unknown("offer", name, self.offers)

    def outcome(self, name: str) -> int:
        """The outcome's number."""
        return self.outcomes.get(name) or _unknown("outcome", name, self.outcomes)

    def channel(self, name: str) -> int:
        """The channel's number."""
        return self.channels.get(name) or _unknown("channel", name, self.channels)

    def purpose(self, name: str) -> int:
        """The consent purpose's number."""
        return self.purposes.get(name) or _unknown("purpose", name, self.purposes)

    def case_kind(self, name: str) -> int:
        """The case kind's number."""
        return self.case_kinds.get(name) or _unknown("case kind", name, self.case_kinds, "kind")

    # --- names of numbers, for views; numbers come from records, so a missing one is damage

    def offer_name(self, number: int) -> str:
        """The name of an offer's number, as tokens and contacts carry it."""
        return name_of(self.offers, number, "offer")

    def check_grantor(self, purpose: str, source: str) -> None:
        """Raise SourceNotAllowed unless this source may grant the purpose."""
        entry = self.grantors.get(purpose)
        if entry is not None and self.sources.get(source) not in entry.sources:
            raise SourceNotAllowed(
                purpose, source, [name_of(self.sources, each, "source") for each in entry.sources], consent=True)

    # --- growth

    def declared(self, schema: Schema, offers: Iterable[str] = (), channels: Iterable[str] = ()) -> Catalog:
        """This catalog with everything that is declared and was not known; itself when nothing is new.

        Raises SchemaConflict where the declaration contradicts what is stored, TooLarge past a limit.
        """
        sources = _numbered(
            self.sources,
            chain(
                (
                    source
                    for field in (*schema.attributes.values(), *schema.household_attributes.values())
                    for source in field.sources
                ),
                chain.from_iterable(schema.grantors.values()),
            ),
            "sources", limits.SOURCES,
        )
        grown = msgspec.structs.replace(
            self,
            namespaces=_namespaces(self.namespaces, schema.namespaces.values()),
            attributes=_attributes(self.attributes, schema.attributes.values(), sources, ("attributes",)),
            events=_events(self.events, schema.events.values()),
            offers=_numbered(self.offers, offers, "offers", limits.OFFERS),
            outcomes=_numbered(self.outcomes, (*STANDARD_OUTCOMES, *schema.outcomes), "outcomes", 0xFFFF),
            channels=_numbered(self.channels, channels, "channels", 0xFFFF),
            purposes=_numbered(self.purposes, schema.purposes, "purposes", 0xFFFF),
            case_kinds=_numbered(self.case_kinds, schema.case_kinds, "case kinds", 0xFFFF),
            grantors=_grantors(self.grantors, schema, sources),
            case_rules=_case_rules(self.case_rules, schema),
            sources=sources,
            household_attributes=_attributes(
                self.household_attributes, schema.household_attributes.values(), sources, ("household", "attributes")
            ),
            roles=_numbered(self.roles, schema.roles, "roles", 0xFFFF),
        )
        return self if _same(self, grown) else msgspec.structs.replace(grown, version=self.version + 1)

    @property
    def singles(self) -> dict[int, str]:
        """The number of each namespace of which a person has one, and its name."""
        return {entry.number: entry.name for entry in self.namespaces.values() if entry.single}

    def with_source(self, name: str) -> Catalog:
        """This catalog with a source that may be new; '' is no source.

        Raises BadValue for what is no name, for a catalog outlives every customer, and nothing that was said of one may stay
        in it; TooLarge before free names could take the numbers that programs need for the sources they declare.
        """
        if not name or name in self.sources:
            return self
        _check_name("source", name)
        if not SOURCE.fullmatch(name):
            raise BadValue(
                "source", f"'{name}' is no name", "A source names a system, such as web or call_centre: a to z, 0 to 9 and _, a "
                "letter first.")
        if len(self.sources) >= limits.SOURCES_FREE:
            raise TooLarge(
                "sources ever named in this store", len(self.sources) + 1, limits.SOURCES_FREE, field="source",
                hint="A source names a system, such as web, not a person or a request. Send one that is known, or none.",
            )
        sources = _numbered(self.sources, (name,), "sources", limits.SOURCES)
        return msgspec.structs.replace(self, sources=sources, version=self.version + 1)

    def layout(self) -> RecordLayout:
        """The record's fixed area, for builders."""
        return RecordLayout([(entry.offset, entry.type) for entry in self.attributes.values()])

    def household_layout(self) -> RecordLayout:
        """The fixed area of a household's record."""
        return RecordLayout([(entry.offset, entry.type) for entry in self.household_attributes.values()])

    # --- the stored form

    def stored(self, before: Catalog) -> dict[bytes, bytes]:
        """The values of the database ``catalog`` that differ from those of ``before``, by key."""
        changed: dict[bytes, bytes] = {}
        for kind in _KINDS:
            mine = getattr(self, kind)
            if mine is not getattr(before, kind):
                changed[kind.encode()] = msgspec.msgpack.encode(list(mine.values()) if kind in _ENTRIES else list(mine))
        if self.offers is not before.offers:
            names = list(self.offers)
            for start in range(len(before.offers) // OFFERS_PER_CHUNK * OFFERS_PER_CHUNK, len(names), OFFERS_PER_CHUNK):
                key = f"offers/{start // OFFERS_PER_CHUNK:06}".encode()
                changed[key] = msgspec.msgpack.encode(names[start : start + OFFERS_PER_CHUNK])
        if self.version != before.version:
            changed[b"version"] = msgspec.msgpack.encode(self.version)
        return changed


# As programs and mappings form names.
SOURCE: Final = re.compile(r"[a-z][a-z0-9_]*")
# Kinds that are stored as entries, with how each list is read; the others are lists of names.
_ENTRIES: Mapping[str, msgspec.msgpack.Decoder[list[Any]]] = {
    "namespaces": msgspec.msgpack.Decoder(list[NamespaceEntry]),
    "attributes": msgspec.msgpack.Decoder(list[AttributeEntry]),
    "household_attributes": msgspec.msgpack.Decoder(list[AttributeEntry]),
    "events": msgspec.msgpack.Decoder(list[EventEntry]),
    "grantors": msgspec.msgpack.Decoder(list[GrantorsEntry]),
    "case_rules": msgspec.msgpack.Decoder(list[CaseRuleEntry]),
}
_KINDS = (*_ENTRIES, "outcomes", "channels", "purposes", "case_kinds", "sources", "roles")


def loaded(items: Iterable[tuple[bytes, bytes]]) -> Catalog:
    """The catalog from the key-value pairs of its database, in key order. Raises StoreCorrupt."""
    offers: list[str] = []
    found: dict[str, object] = {}
    try:
        for key, value in items:
            name = key.decode()
            if name.startswith("offers/"):
                offers += msgspec.msgpack.decode(value, type=list[str])
            elif name in _ENTRIES:
                found[name] = {entry.name: entry for entry in _ENTRIES[name].decode(value)}
            elif name == "version":
                found[name] = msgspec.msgpack.decode(value, type=int)
            else:
                found[name] = _count_up(msgspec.msgpack.decode(value, type=list[str]))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreCorrupt("The catalog", str(error)) from error
    unknown = sorted(found.keys() - {*_KINDS, "version"})
    if unknown:
        raise StoreCorrupt("The catalog", f"it has an entry '{unknown[0]}' that this release does not know")
    return msgspec.convert({**found, "offers": _count_up(offers)}, Catalog)


def name_of(names: Mapping[str, int], number: int, kind: str) -> str:
    """The name with this number: names are in order of their numbers."""
    listed = _listed(names)
    if not 1 <= number <= len(listed):
        raise StoreCorrupt(f"The catalog's list of {kind}s", f"a record names number {number}, which was never given")
    return listed[number - 1]


_lists: dict[int, tuple[Mapping[str, int], list[str]]] = {}


def _listed(names: Mapping[str, int]) -> list[str]:
    """The names by number. Kept for the mappings asked for last: catalogs are few, and each is asked often."""
    known = _lists.get(id(names))
    if known is None or known[0] is not names:
        if len(_lists) >= 16:
            _lists.clear()
        known = (names, list(names))
        _lists[id(names)] = known
    return known[1]


def _unknown(kind: str, name: str, known: Mapping[str, object], field: str = "") -> NoReturn:
    # The nearest of a million offers would take seconds to find.
    raise UnknownName(kind, name, known if len(known) <= 10_000 else None, field=field)


def _count_up(names: Sequence[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(names, 1)}


def _same(one: Catalog, two: Catalog) -> bool:
    return all(getattr(one, kind) is getattr(two, kind) for kind in (*_KINDS, "offers"))


def _check_name(kind: str, name: str) -> None:
    if not name:
        raise BadValue(kind, "a name is empty", "Write a name, or leave it out.")
    if len(name) > limits.NAME_LENGTH:
        raise TooLarge(f"{kind}: characters of the name '{name[:32]}...'", len(name), limits.NAME_LENGTH)


def _numbered(known: Mapping[str, int], wanted: Iterable[str], kind: str, limit: int) -> Mapping[str, int]:
    """``known`` with the names that are new; the same object when there are none."""
    new = [name for name in dict.fromkeys(wanted) if name not in known]
    if not new:
        return known
    for name in new:
        _check_name(kind, name)
    if len(known) + len(new) > limit:
        raise TooLarge(f"{kind} ever declared in this store", len(known) + len(new), limit, KEPT_FOR_EVER)
    return {**known, **{name: number for number, name in enumerate(new, len(known) + 1)}}


def _labels(stored: Sequence[str], wanted: Sequence[str], name: str) -> tuple[str, ...]:
    known = set(stored)
    labels = (*stored, *(label for label in dict.fromkeys(wanted) if label not in known))
    if len(labels) > limits.ENUM_LABELS:
        raise TooLarge(f"labels of '{name}' ever declared in this store", len(labels), limits.ENUM_LABELS, KEPT_FOR_EVER)
    return labels


def _namespaces(
    known: Mapping[str, NamespaceEntry], wanted: Iterable[Namespace]
) -> Mapping[str, NamespaceEntry]:
    grown = dict(known)
    for namespace in wanted:
        entry = known.get(namespace.name)
        if entry is None:
            _check_name("namespaces", namespace.name)
            number = len(grown) + 1
        else:
            number = entry.number
            if entry.normaliser is not namespace.normaliser:
                raise SchemaConflict(
                    ("namespaces", namespace.name),
                    f"a namespace with normaliser {entry.normaliser.value}",
                    f"normaliser {namespace.normaliser.value}",
                )
            if entry.household != namespace.household:
                raise SchemaConflict(("namespaces", namespace.name), *[
                    f"a namespace of {'households' if each else 'customers'}" for each in (entry.household, namespace.household)
                ])
        grown[namespace.name] = NamespaceEntry(
            number, namespace.name, namespace.normaliser, namespace.trust, namespace.single, namespace.verified,
            namespace.household,
        )
    if len(grown) > 0xFFFF:
        raise TooLarge("namespaces ever declared in this store", len(grown), 0xFFFF, KEPT_FOR_EVER)
    return known if grown == known else grown


def _attributes(
    known: Mapping[str, AttributeEntry], wanted: Iterable[Field], numbers: Mapping[str, int], path: Sequence[str]
) -> Mapping[str, AttributeEntry]:
    """``known`` with what is new or changed; the same object when nothing is. ``path`` leads to them, for errors."""
    grown = dict(known)
    end = max((entry.offset + WIDTHS[entry.type] for entry in known.values()), default=0)
    for field in wanted:
        entry = known.get(field.name)
        sources = tuple(numbers[source] for source in field.sources)
        if entry is None:
            _check_name("attributes", field.name)
            labels = _labels((), field.labels, field.name)
            grown[field.name] = AttributeEntry(
                len(grown) + 1, field.name, field.type, end, field.currency, labels, sources, field.rule
            )
            end += WIDTHS[field.type]
            continue
        if (entry.type, entry.currency) != (field.type, field.currency):
            raise SchemaConflict((*path, field.name), describe(entry), describe(field))
        labels = _labels(entry.labels, field.labels, field.name)
        if (labels, sources, field.rule) != (entry.labels, entry.sources, entry.rule):
            grown[field.name] = msgspec.structs.replace(entry, labels=labels, sources=sources, rule=field.rule)
    if len(grown) > limits.ATTRIBUTES:
        raise TooLarge("attributes ever declared in this store", len(grown), limits.ATTRIBUTES, KEPT_FOR_EVER)
    return known if grown == known else grown


def _grantors(
    known: Mapping[str, GrantorsEntry], schema: Schema, numbers: Mapping[str, int]
) -> Mapping[str, GrantorsEntry]:
    grown = {name: entry for name, entry in known.items() if name not in schema.purposes}
    for name, sources in schema.grantors.items():
        grown[name] = GrantorsEntry(name, tuple(numbers[source] for source in sources))
    return known if grown == known else grown


def _case_rules(known: Mapping[str, CaseRuleEntry], schema: Schema) -> Mapping[str, CaseRuleEntry]:
    grown = {name: entry for name, entry in known.items() if name not in schema.case_kinds}
    for name, rule in schema.case_rules.items():
        grown[name] = CaseRuleEntry(name, rule.scopes, rule.due_us)
    return known if grown == known else grown


def _events(known: Mapping[str, EventEntry], wanted: Iterable[EventType]) -> Mapping[str, EventEntry]:
    grown = dict(known)
    for event in wanted:
        entry = known.get(event.name)
        if entry is None:
            _check_name("event types", event.name)
            entry = EventEntry(len(grown) + 1, event.name)
        fields = {field.name: field for field in entry.fields}
        for field in event.fields:
            path = f"{event.name}.{field.name}"
            if field.type is ValueType.STRING_SET:
                raise BadValue(path, "a set cannot be a field of an event", "Send one event for each member.")
            stored = fields.get(field.name)
            if stored is None:
                _check_name("event fields", field.name)
            elif (stored.type, stored.currency) != (field.type, field.currency):
                raise SchemaConflict(("events", event.name, field.name), describe(stored), describe(field))
            labels = _labels(stored.labels if stored else (), field.labels, path)
            fields[field.name] = EventField(field.name, field.type, field.currency, labels)
        if len(fields) > limits.EVENT_FIELDS:
            raise TooLarge(f"fields ever declared for event type '{event.name}'", len(fields), limits.EVENT_FIELDS, KEPT_FOR_EVER)
        grown[event.name] = msgspec.structs.replace(entry, fields=tuple(fields.values()), retention_us=event.retention_us)
    if len(grown) > 0xFFFF:
        raise TooLarge("event types ever declared in this store", len(grown), 0xFFFF, KEPT_FOR_EVER)
    return known if grown == known else grown
