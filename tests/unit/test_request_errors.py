"""What is wrong in a request is told with its place in the request's message, and with what to do.

Reviewers met `placements.home.slots`, `events.view.page` and kinds of names as fields, which no client can find in what it
sent; names left empty that were "not known"; and refusals for what is stored, without a hint.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest
from google.rpc import error_details_pb2

from core import limits
from core.decision import DecideRequest, Event, Identifier, PlacementRequest
from core.errors import (
    BadValue,
    CustomerFull,
    IdentityConflict,
    ProgramError,
    RapportError,
    SchemaConflict,
    TooLarge,
    UnknownName,
)
from core.hub import mutations
from core.hub.mutations import Cell, Upsert
from core.hub.store import Store
from core.schema import Field, Money, Namespace, Schema, ValueType
from protos.rapport.v1 import profile_pb2, values_pb2
from server import status
from server.cli.exits import Exit, RemoteError, code_of
from server.services.profiles import ProfileService
from tests.engine_subject import EngineSubject

NOW = 1_790_000_000_000_000
PROGRAM = """program: tiny
currency: EUR
schema:
  namespaces:
    crm: {trust: 5}
    phone: {normaliser: e164}
  attributes:
    age: int
    balance: money
    tier: {type: enum, labels: [gold, silver]}
  facts: {cart: money, items: int, page: {type: enum, labels: [home, cart]}, labels: set}
  events: {view: {page: string, amount: money}}
  purposes: [marketing]
  cases: [complaint]
channels:
  web: {placements: {home: {}, side: {}}}
  call: {}
groups: {all: {}}
offers:
  - {offer: first, group: all, value: 1.00 EUR, propensity: 0.5, treatments: {web.home: {title: "x"}}}
"""
WHO = Identifier("crm", "7")


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineSubject]:
    with EngineSubject(tmp_path_factory.mktemp("errors")) as made:
        made.clock_us = NOW
        made.load({"program.yaml": PROGRAM.encode()}, NOW)
        yield made


def told(error: RapportError) -> tuple[str, str]:
    """The violation's field and the hint, as a client reads them."""
    described = status.describe(error)
    bad, hint = error_details_pb2.BadRequest(), error_details_pb2.LocalizedMessage()
    for detail in described.details:
        detail.Unpack(bad)
        detail.Unpack(hint)
    assert len(bad.field_violations) == 1, described
    return bad.field_violations[0].field, hint.message


def asked(**changes: Any) -> DecideRequest:
    given: dict[str, Any] = {"channel": "web", "placements": (PlacementRequest("home", None),), "identifiers": (WHO,)} | changes
    return DecideRequest(**given)


def events(*more: Event) -> tuple[Event, ...]:
    return (Event("view", "k1", NOW, {"page": "p"}), *more)


DECISIONS: dict[str, tuple[DecideRequest, str, str]] = {
    "an empty channel": (asked(channel=""), "channel", "Declared: web, call."),
    "a misspelt channel": (asked(channel="wab"), "channel", "Did you mean 'web'?"),
    "no placement": (asked(placements=()), "placements", "at least one"),
    "an undeclared placement": (
        asked(placements=(PlacementRequest("home", 1), PlacementRequest("foot", 1))), "placements[1].name", "home, side",
    ),
    "a placement twice": (
        asked(placements=(PlacementRequest("home", 1), PlacementRequest("home", 1))), "placements[1].name", "more slots",
    ),
    "too many slots": (
        asked(placements=(PlacementRequest("home", 1), PlacementRequest("side", 101))), "placements[1].slots", "",
    ),
    "an undeclared namespace": (asked(identifiers=(WHO, Identifier("crn", "1"))), "identifiers[1].namespace", "'crm'"),
    "an empty identifier": (asked(identifiers=(WHO, Identifier("crm", ""))), "identifiers[1].value", "Leave out"),
    "a long identifier": (asked(identifiers=(Identifier("crm", "x" * 257),)), "identifiers[0].value", ""),
    "no telephone number": (asked(identifiers=(Identifier("phone", "5"),)), "identifiers[0].value", "+351"),
    "an undeclared fact": (asked(facts={"card": 1}), "facts['card']", "'cart'"),
    "a fact of the wrong kind": (asked(facts={"items": "3"}), "facts['items']", ""),
    "no currency": (asked(facts={"cart": Money(5, "")}), "facts['cart']", "EUR"),
    "another currency": (asked(facts={"cart": Money(5, "USD")}), "facts['cart']", "Convert"),
    "an undeclared label": (asked(facts={"page": "hme"}), "facts['page']", "'home'"),
    "too many members": (asked(facts={"labels": frozenset(map(str, range(257)))}), "facts['labels']", ""),
    "an undeclared event": (asked(events=events(Event("viw", "k", NOW, {}))), "events[1].type", "'view'"),
    "an event without a key": (asked(events=events(Event("view", "", NOW, {}))), "events[1].key", "stays the same"),
    "an event from the future": (asked(events=events(Event("view", "k", NOW * 2, {}))), "events[1].at", "UTC"),
    # Sorted by time before they are read: the place is that in the request.
    "an undeclared field": (
        asked(events=events(Event("view", "k", NOW - 5, {"pag": "x"}))), "events[1].fields['pag']", "'page'",
    ),
    "a field of the wrong kind": (
        asked(events=events(Event("view", "k", NOW - 5, {"page": 1}))), "events[1].fields['page']", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", DECISIONS)
def test_a_decisions_error_names_the_place_in_the_request(subject: EngineSubject, what: str) -> None:
    request, field, hint = DECISIONS[what]
    subject.clock_us = NOW
    with pytest.raises(RapportError) as refused:
        subject.engine.decide(request)
    found, said = told(refused.value)
    assert (found, hint in said) == (field, True), said
    assert "''" not in refused.value.message


Told = tuple[tuple[Identifier, ...], tuple[Event, ...], dict[str, Any], str, str]
TELLINGS: dict[str, Told] = {
    "an undeclared attribute": ((WHO,), (), {"agee": 1}, "attributes['agee']", "'age'"),
    "an attribute of the wrong kind": ((WHO,), (), {"age": "4"}, "attributes['age']", ""),
    "no currency": ((WHO,), (), {"balance": Money(5, "")}, "attributes['balance']", "EUR"),
    "an undeclared label": ((WHO,), (), {"tier": "golt"}, "attributes['tier']", "'gold'"),
    "an undeclared namespace": ((WHO, Identifier("", "1")), (), {"age": 1}, "identifiers[1].namespace", "Declared: crm, phone."),
    "an empty identifier": ((Identifier("crm", ""),), (), {"age": 1}, "identifiers[0].value", "Leave out"),
    "an undeclared field": ((WHO,), events(Event("view", "k", NOW, {"pag": "x"})), {}, "events[1].fields['pag']", "'page'"),
    "a field of the wrong kind": ((WHO,), events(Event("view", "k", NOW, {"page": 1})), {}, "events[1].fields['page']", ""),
    "a field without a currency": (
        (WHO,), events(Event("view", "k", NOW, {"amount": Money(1, "")})), {}, "events[1].fields['amount']", "EUR",
    ),
    "an event without a key": ((WHO,), events(Event("view", "", NOW, {})), {}, "events[1].key", "stays the same"),
}


@pytest.mark.parametrize("what", TELLINGS)
def test_what_is_told_wrong_is_named_by_its_place(subject: EngineSubject, what: str) -> None:
    who, happened, attributes, field, hint = TELLINGS[what]
    subject.clock_us = NOW
    with pytest.raises(RapportError) as refused:
        subject.engine.tell(who, happened, attributes, "", None)
    found, said = told(refused.value)
    assert (found, hint in said) == (field, True), said


def test_an_empty_name_of_whatever_kind_is_told_in_good_english() -> None:
    """It was "The name of a event type is empty."."""
    assert UnknownName("event type", "").message == "The name of an event type is empty."
    assert UnknownName("purpose", "").message == "The name of a purpose is empty."


def test_where_nothing_is_declared_it_says_so() -> None:
    """It named no other, and one looked for a misspelling."""
    assert UnknownName("role", "owner", ()).hint == "The program declares no roles."
    assert UnknownName("attribute of households", "plan", {}).hint == "The program declares no attributes of households."
    assert UnknownName("field", "page", [], "event 'login'").hint == "The program declares no fields in event 'login'."
    # Of more names than are looked at nothing is said.
    assert not UnknownName("offer", "card").hint


PLACES: dict[str, tuple[str, Any, str, str]] = {
    "an undeclared kind of case": (
        "open_case", profile_pb2.OpenCaseRequest(kind="fault", key="1"), "kind", "Declared: complaint.",
    ),
    "a long key": ("open_case", profile_pb2.OpenCaseRequest(kind="complaint", key="x" * 257), "key", ""),
    "an attribute cleared twice": ("upsert", profile_pb2.UpsertProfileRequest(clear=["age", "age"]), "clear['age']", "once"),
    "too many identifiers of a household": (
        "set_membership",
        profile_pb2.SetMembershipRequest(household=[values_pb2.Identifier(namespace="home", value=str(n)) for n in range(17)]),
        "household", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ValueType)
def test_a_value_of_the_wrong_type_is_told_how_its_type_is_written(kind: ValueType, tmp_path: Path) -> None:
    """"Is not an integer" left to guess what would be one, and "minor units" was no word of whoever writes a file."""
    labels, currency = ("x",) if kind is ValueType.ENUM else (), "JPY" if kind is ValueType.MONEY else ""
    schema = Schema(namespaces={"crm": Namespace("crm")}, attributes={"a": Field("a", kind, labels, currency)})
    with Store.open(tmp_path / "store") as store:
        store.declare(schema)
        wrong: dict[str, Cell] = {"a": True if kind is not ValueType.BOOL else 7}
        with pytest.raises(BadValue) as refused:
            store.apply(Upsert(identifiers=(Identifier("crm", "1"),), attributes=wrong, at_us=1))
    assert refused.value.hint.startswith(("Write ", "Give ")), refused.value
    assert kind is not ValueType.MONEY or "1999 JPY (money_value: 1999 minor units and JPY)" in refused.value.hint


@pytest.mark.parametrize("what", PLACES)
def test_a_profile_calls_error_names_the_place_in_the_request(subject: EngineSubject, what: str) -> None:
    """They named "case kind" or nothing, of a household's identifiers the customer's, and of an attribute that was cleared
    twice that it was set as well."""
    call, message, field, hint = PLACES[what]
    message.identifiers.add(namespace="crm", value="7")
    with pytest.raises(RapportError) as refused:
        getattr(ProfileService(subject.store, limits.MESSAGE_BYTES), call)(message, None)
    found, said = told(refused.value)
    assert (found, hint in said) == (field, True), said
    assert "attributes too" not in refused.value.message


# --- what is stored -----------------------------------------------------------------------------------------------


def test_a_program_that_contradicts_the_store_is_told_where_it_does(subject: EngineSubject) -> None:
    """It had no place, was found by loading only, and had one exit code here and another from a server."""
    spoilt: dict[tuple[str, str], str] = {
        ("    age: int", "    age: string"): "program.yaml:8:5",
        ("phone: {normaliser: e164}", "phone: {normaliser: lower}"): "program.yaml:6:5",
        ("view: {page: string,", "view: {page: int,"): "program.yaml:12:19",
    }
    for (before, after), where in spoilt.items():
        sources = {"program.yaml": PROGRAM.replace(before, after).encode()}
        with pytest.raises(SchemaConflict) as refused:
            subject.engine.load_program(sources, NOW)
        assert refused.value.message.startswith(f"{where}: ")
        assert told(refused.value)[0] == where
        assert code_of(refused.value) is Exit.DATA
        with pytest.raises(ProgramError) as found:
            subject.engine.validate_program(sources)
        assert [str(each.where) for each in found.value.problems] == [where]
    # A schema in a file of its own.
    root, _, rest = PROGRAM.partition("schema:\n")
    schema, channels, rest = rest.partition("channels:\n")
    sources = {
        "program.yaml": (root + channels + rest).encode(),
        "schema.yaml": schema.replace("age: int", "age: bool").encode(),
    }
    with pytest.raises(SchemaConflict, match=r"^schema.yaml:5:5: Attribute 'age' is stored as int"):
        subject.engine.load_program(sources, NOW)


def test_a_customer_who_is_full_is_told_as_such_and_known_identifiers_go_on(subject: EngineSubject) -> None:
    """A Tell that brought the 257th identifier was INVALID_ARGUMENT with a number of a customer and no word of what to do."""
    ours = [Identifier("crm", f"many-{number}") for number in range(limits.IDENTIFIERS_PER_CUSTOMER)]
    for start in range(1, len(ours), 15):
        subject.store.apply(mutations.Join(identifiers=(ours[0], *ours[start : start + 15]), at_us=NOW))
    subject.clock_us = NOW
    with pytest.raises(CustomerFull) as refused:
        subject.engine.tell((ours[0], Identifier("crm", "one-too-many")), events(), {"age": 1}, "", None)
    field, hint = told(refused.value)
    assert (field, "identifiers that are known" in hint) == ("identifiers", True)
    assert status.code(refused.value).name == "FAILED_PRECONDITION"
    assert code_of(refused.value) is Exit.DATA
    assert subject.engine.tell((ours[0],), events(), {"age": 1}, "", None).applied == 1


def test_identifiers_of_two_people_are_wrong_input_to_a_script_too() -> None:
    """The exit code was the one of a store that is full or damaged: somebody was called for nothing."""
    told_by_server = RemoteError(grpc.StatusCode.FAILED_PRECONDITION, IdentityConflict.reason, "Two.", "", {})
    assert code_of(told_by_server) is Exit.DATA


def test_a_source_is_a_system_and_says_nothing_of_a_person(subject: EngineSubject) -> None:
    """Free text stayed in the catalog for ever, whoever was erased."""
    made = mutations.SetConsent(
        identifiers=(WHO,), purpose="marketing", granted=True, source="call of Ana Silva", at_us=NOW)
    with pytest.raises(BadValue, match="'call of Ana Silva' is no name"):
        subject.store.apply(made)
    result = subject.store.apply(msgspec.structs.replace(made, granted=False))
    assert "is no name" in result.unsourced
    assert "call of Ana Silva" not in subject.store.catalog.sources
    (kept,) = subject.store.profile([WHO]).consents  # type: ignore[union-attr]
    assert (kept.granted, kept.source) == (False, "")


def test_free_names_of_sources_leave_the_numbers_that_programs_need(subject: EngineSubject) -> None:
    """Whoever sent a new source with each consent took all 4,096 numbers: then no consent with a new source was kept, and no
    program could be loaded that declared one."""

    def consent(source: str, granted: bool = True) -> mutations.CustomerResult:
        made = mutations.SetConsent(identifiers=(WHO,), purpose="marketing", granted=granted, source=source, at_us=NOW)
        result: mutations.CustomerResult = subject.store.apply(made)
        return result

    for each in [subject.store.submit(
        mutations.SetConsent(identifiers=(WHO,), purpose="marketing", granted=True, source=f"session_{number}", at_us=NOW)
    ) for number in range(limits.SOURCES_FREE)]:
        each.result()
    with pytest.raises(TooLarge) as refused:
        consent("one_more")
    field, hint = told(refused.value)
    assert (field, "or none" in hint) == ("source", True)
    # Withdrawn all the same, and a program's own sources are still numbered.
    consent("session_1", granted=False)
    consent("", granted=False)
    # It was refused for its source.
    assert consent("one_more", granted=False).unsourced.startswith("sources ever named in this store")
    declared = PROGRAM.replace("age: int", "age: {type: int, sources: [billing, shop]}")
    subject.engine.load_program({"program.yaml": declared.encode()}, NOW)
    consent("billing")

