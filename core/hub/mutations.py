"""Every change of the store as a message: typed, versioned, carrying its own time.

`apply` turns a mutation into writes and knows neither clock nor chance, so the same mutations in the same order make
the same store anywhere. Sending one again is harmless; how is said at each. `encode` and `decode` are its form in a log: a
MessagePack array of the format's version and the tagged message. Fields may be added with defaults; none is removed
or changes its meaning.

Values of attributes and event fields are `Cell`s: what `core.schema.AnyValue` says, with times as integer
microseconds (datetimes are converted when a message is made).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Container, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from core.decision import Identifier
from core.errors import BadValue, RapportError
from core.hub.saved import BandEdges
from core.schema import AnyValue, CaseScope, Money, Schema

VERSION: Final = 1

# An identifier's key in the store: its namespace's number, then the value normalised.
KeyOf = Callable[[Identifier], bytes]

Cell = None | bool | int | float | str | Money | frozenset[str]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def cells(values: Mapping[str, AnyValue | None]) -> dict[str, Cell]:
    """Values as mutations carry them; None clears. Raises BadValue for a time without its zone."""
    converted: dict[str, Cell] = {}
    for name, value in values.items():
        if isinstance(value, datetime):
            if value.tzinfo is None:
                raise BadValue(name, "a time without a time zone", "Give its zone, or microseconds since 1970 in UTC.")
            converted[name] = (value - _EPOCH) // timedelta(microseconds=1)
        else:
            converted[name] = value
    return converted


class Mutation(msgspec.Struct, frozen=True, omit_defaults=True):
    """A change of the store."""


class DeclareSchema(Mutation, frozen=True, kw_only=True, tag="declare_schema"):
    """Gives numbers to everything a program declares. Result: the `core.hub.catalog.Catalog`.

    Again: names that are known keep their numbers, so nothing changes.
    """

    schema: Schema
    offers: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()


class Upsert(Mutation, frozen=True, kw_only=True, tag="upsert"):
    """Sets attributes of a customer, or of a household, made when no identifier is known; None clears an attribute.

    Identifiers that name a household mean its own attributes; a mix of both kinds is refused.

    The most trusted known identifier names the customer; those that are not known yet become his; one that belongs to
    another customer stays where it is (`Join` moves it). What is applied last wins. Result: `CustomerResult`.
    ``customer``, unless 0, is the id that they must lead to: NotFound otherwise, and nobody is made. It is for what was worked
    out of a customer who may be erased meanwhile.
    Again: the same values are set again, and the record's time never goes back.
    """

    identifiers: tuple[Identifier, ...]
    customer: int = 0
    attributes: dict[str, Cell] = {}
    source: str = ""
    at_us: int

    def __post_init__(self) -> None:
        _convert_times(self, "attributes")


class RecordedEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event that happened at ``at_us``; fields that the type does not declare are refused."""

    type: str
    key: str
    at_us: int
    fields: dict[str, Cell] = {}

    def __post_init__(self) -> None:
        _convert_times(self, "fields")


class RecordEvents(Mutation, frozen=True, kw_only=True, tag="record_events"):
    """Adds events to a customer, made (anonymous) when no identifier is known. Result: `EventsResult`.

    Again: an event with the same type and key counts once for a customer. ``received_us`` is the clock when they came: events
    of the customer, these and stored ones, that are past their type's retention then are not kept; 0: all are.
    """

    identifiers: tuple[Identifier, ...]
    events: tuple[RecordedEvent, ...]
    received_us: int = 0

    def without(self, unnamed: Container[bytes], key: KeyOf) -> RecordEvents:
        """The same without the identifiers whose keys are in ``unnamed``."""
        return msgspec.structs.replace(self, identifiers=_without(self.identifiers, unnamed, key))


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of an offer.

    The customer is ``customer`` (an id from a token, also one that was joined into another) or, with 0, found by
    ``identifiers`` and made when none is known.

    ``instance`` is the offer instance; ``value_minor`` what it brought, in minor units of the program's currency.
    ``key`` tells apart outcomes of one kind for one instance (two purchases); needed when ``instance`` is 0.
    """

    customer: int = 0
    identifiers: tuple[Identifier, ...] = ()
    offer: str
    outcome: str
    channel: str = ""
    at_us: int
    instance: int = 0
    value_minor: int = 0
    key: str = ""


class RecordOutcomes(Mutation, frozen=True, kw_only=True, tag="record_outcomes"):
    """Adds outcomes to contact histories, all or none. Result: a tuple of `OutcomeStatus`, one each.

    Again: an outcome with the same instance, kind and key counts once for a customer.
    """

    outcomes: tuple[Outcome, ...]

    def part(self, places: Sequence[int]) -> RecordOutcomes:
        """The outcomes at these places alone."""
        return RecordOutcomes(outcomes=tuple(self.outcomes[place] for place in places))

    def without(self, unnamed: Container[bytes], key: KeyOf) -> RecordOutcomes:
        """The same without the identifiers whose keys are in ``unnamed``."""
        return RecordOutcomes(outcomes=tuple(
            msgspec.structs.replace(each, identifiers=_without(each.identifiers, unnamed, key)) for each in self.outcomes
        ))


class IngestBatch(Mutation, frozen=True, kw_only=True, tag="ingest_batch"):
    """Adds events of many customers, in this order, each for itself as a `RecordEvents` of it alone. Result: `IngestResult`.

    ``items`` are packed by `core.hub.ingest.ItemReader`, which has checked them; ``rows`` is how many they are.
    Again: an event with the same type and key counts once for a customer. ``received_us`` as there.
    """

    rows: int
    items: bytes
    received_us: int = 0

    def part(self, places: Sequence[int]) -> IngestBatch:
        """The items at these places alone."""
        from core.hub.ingest import items_of

        found = items_of(self.items)
        return msgspec.structs.replace(self, rows=len(places), items=b"".join([found[place] for place in places]))

    def without(self, unnamed: Container[bytes], key: KeyOf) -> IngestBatch:
        """The same without the identifiers whose keys are in ``unnamed``."""
        from core.hub.ingest import without

        return msgspec.structs.replace(self, items=without(self.items, unnamed))


class IngestBatches(Mutation, frozen=True, kw_only=True, tag="ingest_batches"):
    """Adds the events of several batches as one, so that a customer in many of them is written once.

    Result: an `IngestResult` of each. Refused as a whole where an item of an `IngestBatch` would be for another reason than its
    age, or where the lists become too large to be at hand together: its batches are then to be applied each by itself. No log
    keeps it, only parts of it.
    """

    batches: tuple[IngestBatch, ...]

    def whole(self) -> IngestBatch:
        """All of them as one."""
        return IngestBatch(
            rows=sum([each.rows for each in self.batches]), items=b"".join([each.items for each in self.batches]),
            received_us=max([each.received_us for each in self.batches]),
        )

    def part(self, places: Sequence[int]) -> IngestBatch:
        """The items at these places, which ascend, alone. Batches without one are not looked into."""
        items, begins, taken = list[bytes](), 0, 0
        for batch in self.batches:
            ends, inside = begins + batch.rows, list[int]()
            while taken < len(places) and places[taken] < ends:
                inside.append(places[taken] - begins)
                taken += 1
            if inside:
                items.append(batch.part(inside).items)
            begins = ends
        received_us = max([batch.received_us for batch in self.batches])
        return IngestBatch(rows=len(places), items=b"".join(items), received_us=received_us)


class Join(Mutation, frozen=True, kw_only=True, tag="join"):
    """Says that the identifiers are one person, after a verified login. Result: `JoinResult`.

    The customer of the most trusted identifier survives; another's attributes fill what is missing, contacts, events,
    consents (the newest wins) and cases are united, and identifiers and customer id lead to the survivor from then on.
    What each was before is kept for `limits.UNDO_US`, from ``received_us`` on (the server's clock; 0: ``at_us``), with what is
    said of the survivor since, so that `Unmerge` can part them.
    Again: they already lead to one customer, so nothing changes.
    """

    identifiers: tuple[Identifier, ...]
    at_us: int
    received_us: int = 0


class Unmerge(Mutation, frozen=True, kw_only=True, tag="unmerge"):
    """Takes the newest join of a customer back. Result: `UnmergeResult`.

    Everybody is as before it, and what came since is applied again in its order: each message then finds its customer by
    those of its identifiers that named somebody when it came. One that names the survivor's id (a token given out while they
    were one) stays with the survivor.
    NotFound when the customer was never joined, NotUndoable when ``merge`` (0: the newest) is not the newest or is final.
    Again: that join is gone, so NotFound, or with ``merge`` 0 the one before it.
    """

    identifiers: tuple[Identifier, ...]
    merge: int = 0
    at_us: int


class EndUndo(Mutation, frozen=True, kw_only=True, tag="end_undo"):
    """Makes joins final that can no longer be taken back at ``at_us``, and forgets what was kept for that. Result: of how many
    customers.

    Again: there are none left.
    """

    at_us: int


class SetConsent(Mutation, frozen=True, kw_only=True, tag="set_consent"):
    """Grants or refuses a purpose in a channel ('': any). Result: `CustomerResult`.

    A withdrawal is heard whoever brings it: one whose source is no name, or one too many, counts without it.
    Again: the newest wins, and of two at one microsecond the refusal, so repeats and order change nothing.
    """

    identifiers: tuple[Identifier, ...]
    purpose: str
    channel: str = ""
    granted: bool
    source: str = ""
    at_us: int


class OpenCase(Mutation, frozen=True, kw_only=True, tag="open_case"):
    """Opens a case (complaint, fault...). Result: `CustomerResult`.

    ``scope`` None: about the product if one is named, else about the customer. ``due_us`` None: by the kind's rule. BadValue
    where scope and product, or scope and kind, do not fit. Again: a case of this kind and key is opened once, when it was
    opened first; closed, it stays closed (a matter that comes back has a new key). Of product, owner and due the newest told
    holds; '' and None tell nothing.
    """

    identifiers: tuple[Identifier, ...]
    kind: str
    key: str
    at_us: int
    scope: CaseScope | None = None
    product: str = ""
    owner: str = ""
    due_us: int | None = None


class CloseCase(Mutation, frozen=True, kw_only=True, tag="close_case"):
    """Closes a case; NotFound when the customer has none of this kind and key. Result: `CustomerResult`.

    Again: the earliest close stands. One before the opening makes a case that was never open.
    """

    identifiers: tuple[Identifier, ...]
    kind: str
    key: str
    at_us: int


class AssignCase(Mutation, frozen=True, kw_only=True, tag="assign_case"):
    """Says who works on a case, until when; NotFound as `CloseCase`. Result: `CustomerResult`.

    '' and None leave what is known. Again: the newest told holds.
    """

    identifiers: tuple[Identifier, ...]
    kind: str
    key: str
    owner: str = ""
    due_us: int | None = None
    at_us: int


class ImportedCase(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A case as the system that keeps it says at ``at_us``; '' and None say nothing of that.

    Without ``opened_us`` it was open at its close, or at ``at_us`` when it has none.
    """

    identifiers: tuple[Identifier, ...]
    kind: str
    key: str
    opened_us: int | None = None
    closed_us: int | None = None
    product: str = ""
    owner: str = ""
    due_us: int | None = None
    at_us: int


class ImportCases(Mutation, frozen=True, kw_only=True, tag="import_cases"):
    """Takes over cases from the system that keeps them. Result: `core.hub.imports.ImportResult`.

    Customers are found, and made, as by `Upsert`; one whose record has no room refuses his row alone. Again, and in any
    order: the earliest opening, the earliest close and the newest of the rest hold, so a close may come before its opening.
    """

    rows: tuple[ImportedCase, ...]

    def part(self, places: Sequence[int]) -> ImportCases:
        """The rows at these places alone."""
        return ImportCases(rows=tuple(self.rows[place] for place in places))


class SetMembership(Mutation, frozen=True, kw_only=True, tag="set_membership"):
    """Makes a customer a member of a household, each made when no identifier is known. Result: `MembershipResult`.

    ``household`` are identifiers of namespaces that name households. A customer is in one at most: in another he is a
    member no more. His contacts from ``at_us`` on count for the household. ``role`` '' keeps the one he has in it. TooLarge
    when the household has as many members as it may. Whatever was said of a later moment stands.
    Again: the earliest ``at_us`` stands, so nothing changes.
    """

    identifiers: tuple[Identifier, ...]
    household: tuple[Identifier, ...]
    role: str = ""
    at_us: int


class LeaveHousehold(Mutation, frozen=True, kw_only=True, tag="leave_household"):
    """Ends a customer's membership; his contacts count for the household no more. Result: `LeftResult`.

    The household stays, also without members. Whatever was said of a later moment stands. NotFound when no identifier is known.
    Again: he is in none, so nothing changes.
    """

    identifiers: tuple[Identifier, ...]
    at_us: int


class Erase(Mutation, frozen=True, kw_only=True, tag="erase"):
    """Removes everything kept about a customer: record, history, events, identifiers, membership. Result: None.

    A household whose last member he was goes with him. Identifiers that name a household remove it, and nobody in it.
    ``request`` goes into the audit trail: it names the request, and must not name the customer. NotFound when no
    identifier is known, BadValue when they lead to several customers. Again: NotFound, so nothing changes.
    """

    identifiers: tuple[Identifier, ...]
    request: str = ""
    at_us: int


class SaveProgram(Mutation, frozen=True, kw_only=True, tag="save_program"):
    """Keeps a program's sources. Result: its version, from 1.

    ``image`` is the checked program in a form that loads faster than its sources, made by ``compiler``; the store does
    not look into it. Again: the same name and digest have the version they had; a newer image replaces the one there.
    """

    name: str
    digest: str
    sources: dict[str, bytes]
    at_us: int
    image: bytes = b""
    compiler: str = ""


class ActivateProgram(Mutation, frozen=True, kw_only=True, tag="activate_program"):
    """Notes which version serves after a restart. NotFound when it was never saved. Result: None.

    Again: it is noted again.
    """

    name: str
    version: int
    at_us: int


class MembershipResult(msgspec.Struct, frozen=True):
    """The customer and the household's id, whether each was made, and the household that he left for it (0: none).

    ``superseded``: he is elsewhere, or in none, by what was said of a later moment, so nothing changed.
    """

    customer: int
    household: int
    created: bool
    household_created: bool
    left: int = 0
    superseded: bool = False


class LeftResult(msgspec.Struct, frozen=True):
    """The customer, and the household's id; 0 when he was in none, or is in one by what was said of a later moment."""

    customer: int
    household: int
    superseded: bool = False


class SetBands(Mutation, frozen=True, kw_only=True, tag="set_bands"):
    """Keeps the edges of bands, in place of all that were kept. Result: None.

    Again: they are kept again.
    """

    bands: dict[str, BandEdges]


class CustomerResult(msgspec.Struct, frozen=True):
    """The customer a mutation changed, and whether it made him. ``unsourced``: why the source of a withdrawal is not kept.

    ``superseded``: what was said of a consent is not what holds now, for something newer was said, in this channel or in all.
    """

    customer: int
    created: bool
    unsourced: str = ""
    superseded: bool = False


class EventsResult(msgspec.Struct, frozen=True):
    """The customer, whether he is new, for each event whether it counts now (False: duplicate, or too old), and how many
    were older than everything that his full list or their type's retention keeps: nothing was written of them.
    """

    customer: int
    created: bool
    applied: tuple[bool, ...]
    too_old: int = 0


class IngestResult(msgspec.Struct, frozen=True):
    """How many customers a batch made, and the items that were not kept: (position, why), in order of position."""

    created: int
    failures: tuple[tuple[int, RapportError], ...] = ()


class OutcomeStatus(enum.IntEnum):
    """What happened to one outcome."""

    APPLIED = 1
    DUPLICATE = 2  # counted before
    UNKNOWN_CUSTOMER = 3  # no such customer id, and no identifiers to make one from; nothing was written for it
    TOO_OLD = 4  # older than everything that the customer's full history keeps; nothing was written for it


class JoinResult(msgspec.Struct, frozen=True):
    """The customer who survives, and those who were joined into him now."""

    customer: int
    merged: tuple[int, ...]
    merge: int = 0  # what `Unmerge` names it by; 0 when nobody was joined, or it cannot be undone


class UnmergeResult(msgspec.Struct, frozen=True):
    """The survivor, those who are customers of their own again, and how many later messages were applied again.

    ``dropped`` counts those that the parted customers refuse, because they no longer fit.
    """

    customer: int
    restored: tuple[int, ...]
    reapplied: int
    dropped: int


def _without(
    identifiers: tuple[Identifier, ...], unnamed: Container[bytes], key: KeyOf
) -> tuple[Identifier, ...]:
    return tuple(each for each in identifiers if key(each) not in unnamed)


def _convert_times(message: msgspec.Struct, field: str) -> None:
    values: dict[str, Cell] = getattr(message, field)
    for value in values.values():
        if isinstance(value, datetime):
            msgspec.structs.force_setattr(message, field, cells(values))
            return


_types: list[type[Mutation]] = [
    DeclareSchema, Upsert, RecordEvents, RecordOutcomes, IngestBatch, Join, Unmerge, SetConsent, OpenCase, CloseCase,
    AssignCase, ImportCases, SetMembership, LeaveHousehold, Erase,
    SaveProgram, ActivateProgram, SetBands, EndUndo,
]
_encoder = msgspec.msgpack.Encoder()


def _make_decoder() -> msgspec.msgpack.Decoder[tuple[int, Mutation]]:
    union: Any = _types[0]
    for other in _types[1:]:
        union = union | other
    return msgspec.msgpack.Decoder(tuple[int, union])


_decoder = _make_decoder()


def register(mutation_type: type[Mutation]) -> None:
    """Make another kind of mutation decodable; `core.hub.apply.register` calls this."""
    global _decoder  # noqa: PLW0603 - one decoder for all kinds, remade at import time only
    if mutation_type not in _types:
        _types.append(mutation_type)
        _decoder = _make_decoder()


def encode(mutation: Mutation) -> bytes:
    """The mutation as a log carries it."""
    return _encoder.encode((VERSION, mutation))


def decode(data: bytes) -> Mutation:
    """The mutation back. Raises BadValue when it is none, or of a later version."""
    try:
        version, mutation = _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise BadValue("mutation", str(error).rstrip("."), "It was made by another release, or damaged.") from error
    if version != VERSION:
        problem = f"its version is {version}; this release reads {VERSION}"
        raise BadValue("mutation", problem, "Use the release that made it.")
    return mutation
