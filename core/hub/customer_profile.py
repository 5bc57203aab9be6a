"""A customer as people read one: names instead of numbers, values with their types.

For the command line, services and tests; decisions read the same bytes through the C readers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from core.decision import Identifier
from core.errors import BadValue, StoreCorrupt
from core.hub import case_details, sources
from core.hub import contacts as contact_lists
from core.hub import events as event_lists
from core.hub.catalog import AttributeEntry, Catalog, EventField, name_of
from core.hub.environment import Reader
from core.hub.membership import named, number_of, of_household, unpack_members, unpack_membership
from core.hub.record import Record
from core.schema import AnyValue, CaseScope, Money, SourceRule, ValueType

# A value as a record or an event holds it: money's minor units, microseconds and enum codes are int.
_Stored = bool | int | float | str | frozenset[str] | None

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LETTERS: Mapping[ValueType, str] = {
    ValueType.BOOL: "b", ValueType.INT: "i", ValueType.DOUBLE: "f", ValueType.MONEY: "i", ValueType.TIMESTAMP: "i",
    ValueType.ENUM: "t", ValueType.STRING: "t",
}


@dataclass(frozen=True, slots=True)
class Consent:
    """A consent as it stands. ``channel`` '' is any channel; ``source`` '' is unknown."""

    purpose: str
    channel: str
    granted: bool
    source: str
    at_us: int


@dataclass(frozen=True, slots=True)
class Case:
    """A case. ``key`` is '' where only its hash is known (opened under format 2, not told of since); ``closed_us`` None: open.

    ``due_us`` is what was given, else by the kind's rule; None: no such time.
    """

    kind: str
    key: str
    key_hash: int
    scope: CaseScope
    product: str
    owner: str
    opened_us: int
    closed_us: int | None
    due_us: int | None

    def open_at(self, now_us: int) -> bool:
        """Whether it is open at this moment, as decisions see it."""
        return self.opened_us <= now_us and (self.closed_us is None or now_us < self.closed_us)

    def overdue_at(self, now_us: int) -> bool:
        """Whether it is open and should have been closed by this moment."""
        return self.due_us is not None and self.due_us <= now_us and self.open_at(now_us)


@dataclass(frozen=True, slots=True)
class OverdueCase:
    """An open case past its due time, and whose it is: a customer's id, or a household's."""

    owner: int
    identifiers: tuple[Identifier, ...]
    case: Case


@dataclass(frozen=True, slots=True)
class Contact:
    """An entry of the contact history. ``value_minor`` is in minor units of the program's currency."""

    at_us: int
    offer: str
    outcome: str
    channel: str
    instance: int
    value_minor: int


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as kept. ``key`` is the hash of its idempotency key; fields that are missing are left out."""

    type: str
    key: int
    at_us: int
    fields: Mapping[str, AnyValue]


@dataclass(frozen=True, slots=True)
class Household:
    """What members share: nothing of any of them. ``number`` counts from 1; ``role`` and ``since_us`` are of who was asked about.

    ``role`` '' was not given, or nobody was asked about, and then ``since_us`` is None too.
    """

    number: int
    role: str
    since_us: int | None
    members: int
    identifiers: tuple[Identifier, ...]
    attributes: Mapping[str, AnyValue]


@dataclass(frozen=True, slots=True)
class Profile:
    """One customer. Attributes that are missing are left out; contacts and events are oldest first.

    ``events`` may be the newest only, of ``events_kept``.
    """

    customer: int
    updated_us: int
    identifiers: tuple[Identifier, ...]
    attributes: Mapping[str, AnyValue]
    consents: tuple[Consent, ...]
    cases: tuple[Case, ...]
    contacts: tuple[Contact, ...]
    events: tuple[StoredEvent, ...]
    events_kept: int
    household: Household | None = None
    provenance: tuple[Provenance, ...] = ()  # of attributes that declare sources and have a value, or had one; where asked for


@dataclass(frozen=True, slots=True)
class OriginValue:
    """What a source says of an attribute. ``value`` None: it was cleared. ``source`` '': set before sources were kept.

    ``previous`` is what it said before it said that, at ``previous_at_us``; None: it has not said anything else.
    """

    source: str
    at_us: int
    value: AnyValue | None
    previous_at_us: int | None = None
    previous: AnyValue | None = None


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where an attribute's value comes from: what holds, by which rule, and what each source says, the newest of each.

    ``value`` None is missing. ``origins`` are in the rule's order, the best first, those that are listed no more at the end.
    """

    attribute: str
    rule: SourceRule
    value: AnyValue | None
    origins: tuple[OriginValue, ...]


def provenance(
    reader: Reader, catalog: Catalog, customer: int, attributes: Sequence[str] = ()
) -> tuple[Provenance, ...] | None:
    """Of these attributes, or of all that declare sources and have a value or an origin; None when there is no customer.

    ``customer`` may be a household's id: then they are those that its members share.

    Raises UnknownName, StoreCorrupt, and BadValue for an attribute of which no sources are kept.
    """
    shared = of_household(customer)
    data = reader.get_customer("households" if shared else "profiles", customer)
    if data is None:
        return None
    record = Record(data, f"The record of {named(customer)}")
    kept = sources.decode(reader.get_customer("origins", customer), customer)
    declared = catalog.household_attributes if shared else catalog.attributes
    wanted = [catalog.shared(name) if shared else catalog.attribute(name) for name in attributes] or [
        entry for entry in declared.values() if entry.sources
    ]
    found = []
    for entry in wanted:
        if not entry.sources:
            raise BadValue(f"attribute {entry.name}", "the program declares no sources for it, so none are kept",
                           "Add sources: [a, b] to it in schema.yaml.")
        stored = record.value(entry.offset, entry.type)
        said = dict(kept.get(entry.number, {}))
        if not said and stored is not None:
            sources.found(kept, entry.number, record.updated_us, stored)
            said = kept[entry.number]
        if not said and not attributes:
            continue
        ranked = sorted(said, key=lambda number: (
            entry.sources.index(number) if number in entry.sources else len(entry.sources), number))
        found.append(Provenance(
            attribute=entry.name,
            rule=entry.rule,
            value=None if stored is None else _attribute(entry, stored),
            origins=tuple(
                _origin(entry, name_of(catalog.sources, number, "source") if number else "", said[number]) for number in ranked
            ),
        ))
    return tuple(found)


def _origin(entry: AttributeEntry, source: str, said: sources.Statement) -> OriginValue:
    def shown(value: sources.Stored | None) -> AnyValue | None:
        return None if value is None else _attribute(entry, value)

    if said.before is None:
        return OriginValue(source, said.at, shown(said.value))
    return OriginValue(source, said.at, shown(said.value), said.before[0], shown(said.before[1]))


def read(
    reader: Reader, catalog: Catalog, customer: int, *, sourced: bool = False, newest: int | None = None
) -> Profile | None:
    """The customer's profile from one snapshot, with its provenance if ``sourced``, of his events the ``newest`` (None: all);
    None when there is none. Raises StoreCorrupt."""
    data = reader.get_customer("profiles", customer)
    if data is None:
        return None
    record = Record(data, f"Customer {customer}'s record")
    listed = reader.get_customer("events", customer)
    return Profile(
        customer=customer,
        updated_us=record.updated_us,
        identifiers=identifiers_in(record, catalog),
        attributes=_attributes(record, catalog.attributes),
        consents=tuple(
            Consent(
                name_of(catalog.purposes, purpose, "purpose"),
                name_of(catalog.channels, channel, "channel") if channel else "",
                granted,
                name_of(catalog.sources, source, "source") if source else "",
                at,
            )
            for purpose, channel, granted, source, at in record.consents
        ),
        cases=_cases(reader, catalog, record),
        contacts=_contacts(reader, catalog, customer),
        events=() if listed is None else _events(listed, catalog, customer, newest),
        events_kept=0 if listed is None else event_lists.count(listed, f"Customer {customer}'s event list"),
        household=household_of(reader, catalog, customer),
        provenance=(provenance(reader, catalog, customer) or ()) if sourced else (),
    )


def identifiers(reader: Reader, catalog: Catalog, owner: int) -> tuple[Identifier, ...]:
    """The identifiers of a customer, or of a household, in order of arrival; none when there is none. Raises StoreCorrupt."""
    record = _record(reader, owner)
    return () if record is None else identifiers_in(record, catalog)


def _record(reader: Reader, owner: int) -> Record | None:
    data = reader.get_customer("households" if of_household(owner) else "profiles", owner)
    return None if data is None else Record(data, f"The record of {named(owner)}")


def household_of(reader: Reader, catalog: Catalog, customer: int) -> Household | None:
    """The household of a customer, or of a household's own id; None when there is none. Raises StoreCorrupt."""
    household, since, role = customer, None, 0
    if not of_household(customer):
        data = reader.get_customer("memberships", customer)
        if data is None:
            return None
        household, since, role, *_ = unpack_membership(data, customer)
        if not household:
            return None
    data = reader.get_customer("households", household)
    if data is None:
        if household == customer:
            return None
        raise StoreCorrupt(f"Customer {customer}'s membership", f"there is no record of {named(household)}")
    record = Record(data, f"The record of {named(household)}")
    return Household(
        number=number_of(household),
        role=name_of(catalog.roles, role, "role") if role else "",
        since_us=since,
        members=len(unpack_members(reader.get_customer("memberships", household), household)),
        identifiers=identifiers_in(record, catalog),
        attributes=_attributes(record, catalog.household_attributes),
    )


def identifiers_in(record: Record, catalog: Catalog) -> tuple[Identifier, ...]:
    """The identifiers that a record holds, in order of arrival."""
    namespaces = {entry.name: entry.number for entry in catalog.namespaces.values()}
    return tuple(
        Identifier(name_of(namespaces, number, "namespace"), value.decode()) for number, value in record.identifiers
    )


def cases(reader: Reader, catalog: Catalog, owner: int) -> tuple[Case, ...] | None:
    """The cases of a customer and of his household, or of a household, by kind and opening; None when there is nobody.

    Raises StoreCorrupt.
    """
    record = _record(reader, owner)
    return None if record is None else _cases(reader, catalog, record)


def own_cases(reader: Reader, catalog: Catalog, owner: int) -> tuple[Case, ...]:
    """The cases of a customer, or of a household, without those that he has by his household. Raises StoreCorrupt."""
    record = _record(reader, owner)
    return () if record is None else tuple(_listed_cases(reader, catalog, record))


def _cases(reader: Reader, catalog: Catalog, record: Record) -> tuple[Case, ...]:
    found = _listed_cases(reader, catalog, record)
    membership = None if of_household(record.customer) else reader.get_customer("memberships", record.customer)
    if membership is not None:
        household, *_ = unpack_membership(membership, record.customer)
        shared = _record(reader, household) if household else None
        if shared is not None:
            found += _listed_cases(reader, catalog, shared)
    return tuple(sorted(found, key=lambda case: (case.kind, case.opened_us, case.key_hash)))


def _listed_cases(reader: Reader, catalog: Catalog, record: Record) -> list[Case]:
    found: list[Case] = []
    if not record.cases:
        return found
    owner = record.customer
    details = case_details.decode(reader.get_customer("cases", owner), owner)
    for number, hashed, opened, closed, _ in record.cases:
        kind = name_of(catalog.case_kinds, number, "case kind")
        known = details.get((number, hashed), case_details.CaseDetails(""))
        product = known.product[1] if known.product else ""
        due = known.due[1] if known.due else None
        rule = catalog.case_rules.get(kind)
        if due is None and rule is not None and rule.due_us:
            due = opened + rule.due_us
        scope = CaseScope.HOUSEHOLD if of_household(owner) else CaseScope.PRODUCT if product else CaseScope.CUSTOMER
        worker = known.owner[1] if known.owner else ""
        found.append(Case(kind, known.key, hashed, scope, product, worker, opened, closed, due))
    return found


def _attributes(record: Record, entries: Mapping[str, AttributeEntry]) -> dict[str, AnyValue]:
    attributes: dict[str, AnyValue] = {}
    for entry in entries.values():
        value = record.value(entry.offset, entry.type)
        if value is not None:
            attributes[entry.name] = _attribute(entry, value)
    return attributes


def _contacts(reader: Reader, catalog: Catalog, customer: int) -> tuple[Contact, ...]:
    data = reader.get_customer("contacts", customer)
    if data is None:
        return ()
    return tuple(
        Contact(
            at_us=at,
            offer=catalog.offer_name(offer),
            outcome=name_of(catalog.outcomes, outcome, "outcome"),
            channel=name_of(catalog.channels, channel, "channel") if channel else "",
            instance=instance,
            value_minor=value,
        )
        for at, _, instance, value, offer, outcome, channel in contact_lists.unpack(
            data, f"Customer {customer}'s contact history"
        )
    )


def _events(data: bytes, catalog: Catalog, customer: int, newest: int | None) -> tuple[StoredEvent, ...]:
    types = {entry.number: entry for entry in catalog.events.values()}
    letters = {number: "".join(_LETTERS[field.type] for field in entry.fields) for number, entry in types.items()}
    found = []
    for number, at, key, cells in event_lists.unpack(
        data, lambda number: letters.get(number, ""), f"Customer {customer}'s event list", newest
    ):
        if number not in types:
            raise StoreCorrupt(f"Customer {customer}'s event list", f"event type {number} was never declared")
        entry = types[number]
        fields = {
            field.name: _field(field, cell)
            for field, cell in zip(entry.fields, cells, strict=False)
            if cell is not None
        }
        found.append(StoredEvent(entry.name, key, at, fields))
    return tuple(found)


def _attribute(entry: AttributeEntry, value: _Stored) -> AnyValue:
    if entry.type is ValueType.ENUM and isinstance(value, int):
        if not 1 <= value <= len(entry.labels):
            raise StoreCorrupt(f"Attribute {entry.name}", f"label {value} was never declared")
        return entry.labels[value - 1]
    return _typed(entry.type, entry.currency, value)


def _field(field: EventField, value: _Stored) -> AnyValue:
    return _typed(field.type, field.currency, value)


def _typed(type_: ValueType, currency: str, value: _Stored) -> AnyValue:
    if type_ is ValueType.MONEY and isinstance(value, int):
        return Money(value, currency)
    if type_ is ValueType.TIMESTAMP and isinstance(value, int):
        return _EPOCH + timedelta(microseconds=value)
    assert value is not None, "missing values are left out before"
    return value
