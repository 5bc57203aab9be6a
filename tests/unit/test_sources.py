"""Who may say what: sources, what was there before them, claims of identifiers, and persons who cannot be one."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.decision import Identifier
from core.errors import BadValue, IdentityConflict, ProgramError, SourceNotAllowed, StoreCorrupt
from core.hub import sources
from core.hub.mutations import Erase, Join, Outcome, RecordedEvent, RecordEvents, RecordOutcomes, Upsert
from core.hub.record import crc32c
from core.hub.store import Store
from core.programs.source import check, read
from core.schema import EventType, Field, Money, Namespace, Normaliser, Schema, SourceRule, ValueType

BEFORE = Schema(attributes={"city": Field("city", ValueType.STRING), "age": Field("age", ValueType.INT)},
                namespaces={"crm": Namespace("crm", trust=10)})
SCHEMA = Schema(
    attributes={
        "city": Field("city", ValueType.STRING, sources=("billing", "web"), rule=SourceRule.PRECEDENCE),
        "age": Field("age", ValueType.INT),
        "balance": Field("balance", ValueType.MONEY, currency="EUR", sources=("billing", "web"), rule=SourceRule.SUM),
    },
    events={"visit": EventType("visit")},
    namespaces={
        "crm": Namespace("crm", trust=10, single=True), "cookie": Namespace("cookie", trust=1),
        "email": Namespace("email", Normaliser.LOWER, 5, verified=True),
    },
)
ANA, BOB = Identifier("crm", "ana"), Identifier("crm", "bob")
MAIL, COOKIE = Identifier("email", "Home@example.org"), Identifier("cookie", "k1")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "s") as opened:
        opened.declare(SCHEMA, ["card"], ["web"])
        yield opened


def city(store: Store) -> tuple[object, list[tuple[str, object]]]:
    found = store.provenance([ANA], ["city"])
    assert found is not None
    return found[0].value, [(one.source, one.value) for one in found[0].origins]


@pytest.mark.parametrize("source", ["", "Billing", "call_centre"])
def test_a_source_that_is_not_listed_is_refused_and_makes_nobody(store: Store, source: str) -> None:
    with pytest.raises(SourceNotAllowed, match=r"city.*Its sources are billing, web\."):
        store.apply(Upsert(identifiers=(ANA,), attributes={"age": 3, "city": "Porto"}, source=source, at_us=1))
    assert store.profile([ANA]) is None
    store.apply(Upsert(identifiers=(ANA,), attributes={"age": 3}, source=source, at_us=1))


def test_what_an_attribute_had_before_it_had_sources_holds_until_one_speaks(tmp_path: Path) -> None:
    """A program gains sources when its store is years old: the values that are there must not vanish, nor win for ever."""
    with Store.open(tmp_path / "s") as store:
        store.declare(BEFORE)
        store.apply(Upsert(identifiers=(ANA,), attributes={"city": "Old", "age": 3}, at_us=900))
        store.declare(SCHEMA)
        assert city(store) == ("Old", [("", "Old")])
        store.apply(Upsert(identifiers=(ANA,), attributes={"city": "Web"}, source="web", at_us=5))
        assert city(store) == ("Web", [("web", "Web"), ("", "Old")])
        store.apply(Upsert(identifiers=(ANA,), attributes={"city": None}, source="web", at_us=6))
        assert city(store) == (None, [("web", None), ("", "Old")])
        with pytest.raises(BadValue, match="declares no sources"):
            store.provenance([ANA], ["age"])
        assert store.provenance([BOB]) is None


def test_a_sum_outside_64_bits_is_refused_and_changes_nothing(store: Store) -> None:
    store.apply(Upsert(identifiers=(ANA,), attributes={"balance": Money(2**62, "EUR")}, source="web", at_us=1))
    with pytest.raises(BadValue, match="makes a sum with what its other sources say that its type cannot hold"):
        store.apply(Upsert(identifiers=(ANA,), attributes={"balance": Money(2**62, "EUR")}, source="billing", at_us=1))
    found = store.provenance([ANA], ["balance"])
    assert found is not None
    assert [one.source for one in found[0].origins] == ["web"]


def test_what_is_only_claimed_gives_nobody_a_verified_identifier(store: Store) -> None:
    """A shared e-mail in an unverified event merges nobody: neither Ana nor her neighbour becomes the address."""
    store.apply(Upsert(identifiers=(ANA,), at_us=1))
    visit = (RecordedEvent(type="visit", key="v", at_us=2),)
    store.apply(RecordEvents(identifiers=(ANA, MAIL, COOKIE), events=visit))
    assert store.customer([MAIL]) is None
    assert store.customer([COOKIE]) == store.customer([ANA])
    outcome = Outcome(identifiers=(ANA, MAIL), offer="card", outcome="shown", channel="web", at_us=3, key="o")
    store.apply(RecordOutcomes(outcomes=(outcome,)))
    assert store.customer([MAIL]) is None
    # Nor does the address gain the cookie, or the name, of whoever sends it along.
    store.apply(Upsert(identifiers=(Identifier("crm", "neighbour"), Identifier("email", "known@example.org")), at_us=1))
    claim = Identifier("email", "known@example.org")
    store.apply(RecordEvents(identifiers=(Identifier("cookie", "k9"), claim), events=visit))
    assert store.customer([Identifier("cookie", "k9")]) is None
    # Who has another number, of which a person has one, is not the neighbour, and what is told of him is his own.
    stranger = Identifier("crm", "stranger")
    store.apply(RecordEvents(identifiers=(stranger, claim), events=visit))
    assert store.customer([stranger]) not in (None, store.customer([claim]))
    assert store.customer([claim]) == store.customer([Identifier("crm", "neighbour")])
    # With nothing else to go by, news would be lost without it: it makes a customer of its own, and of the first only.
    store.apply(RecordEvents(identifiers=(MAIL, Identifier("email", "two@example.org")), events=visit))
    assert store.customer([MAIL]) not in (None, store.customer([ANA]))
    assert store.customer([Identifier("email", "two@example.org")]) is None
    store.apply(Join(identifiers=(ANA, MAIL), at_us=4))
    assert store.customer([Identifier("email", "HOME@example.org")]) == store.customer([ANA])


def test_two_persons_with_an_identifier_that_is_single_are_never_one(store: Store) -> None:
    store.apply(Upsert(identifiers=(ANA, COOKIE), at_us=1))
    store.apply(Upsert(identifiers=(BOB, MAIL), at_us=1))
    with store.environment.reader() as reader:
        before = list(reader.items("profiles"))
    for who in ((ANA, BOB), (COOKIE, MAIL), (COOKIE, BOB), (ANA, Identifier("crm", "new"))):
        with pytest.raises(IdentityConflict, match="'crm'"):
            store.apply(Join(identifiers=who, at_us=2))
    with store.environment.reader() as reader:
        assert list(reader.items("profiles")) == before
    store.apply(Join(identifiers=(ANA, Identifier("cookie", "k2")), at_us=2))


def test_who_names_two_persons_is_refused_whatever_is_known_of_them(store: Store) -> None:
    """An agent typed two numbers, or one that nobody has beside an address: the first person got what was meant for the other,
    and a request for erasure was told that nobody is known, while the address was somebody's."""
    store.apply(Upsert(identifiers=(ANA, MAIL), attributes={"age": 3}, at_us=1))
    store.apply(Upsert(identifiers=(BOB,), attributes={"age": 4}, at_us=1))
    typo = Identifier("crm", "anna")
    for who in ((ANA, BOB), (ANA, typo)):
        with pytest.raises(IdentityConflict, match="'crm'"):
            store.apply(Upsert(identifiers=who, attributes={"age": 9}, at_us=2))
    for ask in (store.profile, store.merges, store.cases, store.household):
        # The first of two was shown, and exported, as if the other had not been named.
        for who in ((typo, MAIL), (ANA, BOB), (ANA, typo)):
            with pytest.raises(IdentityConflict, match="'crm'"):
                ask(who)
        assert (ask([typo]), ask([typo, Identifier("crm", "nobody")])) == (None, None)
        assert (ask([ANA, ANA]) is None) == (ask([ANA]) is None)
    with pytest.raises(IdentityConflict, match="'crm'"):
        store.apply(Erase(identifiers=(typo, MAIL), at_us=2))
    for one, age in ((ANA, 3), (BOB, 4)):
        profile = store.profile([one])
        assert profile is not None
        assert profile.attributes["age"] == age
    # A decision has to go on: to it these are a stranger's.
    assert store.customer([typo, MAIL]) is None


def test_what_a_source_said_before_is_shown_with_its_time(store: Store) -> None:
    """Of each source only the newest was kept, so that nobody could say what a change had changed."""

    def told(city: str | None, at_us: int) -> tuple[object, ...]:
        store.apply(Upsert(identifiers=(ANA,), attributes={"city": city}, source="web", at_us=at_us))
        found = store.provenance([ANA], ["city"])
        assert found is not None
        (one,) = found[0].origins
        return one.value, one.at_us, one.previous, one.previous_at_us

    assert told("Porto", 10) == ("Porto", 10, None, None)
    assert told("Porto", 20) == ("Porto", 20, None, None)  # said again: nothing has changed
    assert told("Faro", 30) == ("Faro", 30, "Porto", 20)
    assert told("Braga", 5) == ("Faro", 30, "Porto", 20)  # late
    assert told("Braga", 25) == ("Faro", 30, "Braga", 25)
    assert told(None, 40) == (None, 40, "Faro", 30)
    assert told("Faro", 50) == ("Faro", 50, None, 40)  # it was cleared before
    assert told("Evora", 50) == ("Evora", 50, None, 40)  # corrected
    assert told("Evora", 10) == ("Evora", 50, None, 40)


def test_a_damaged_entry_is_told_and_never_read(store: Store) -> None:
    store.apply(Upsert(identifiers=(ANA,), attributes={"city": "Porto"}, source="web", at_us=1))
    with store.environment.reader() as reader:
        ((key, data),) = reader.items("origins")
    customer = struct.unpack("<Q", key)[0]
    assert sources.encode(sources.decode(data, customer), customer) == data
    with pytest.raises(StoreCorrupt, match=r"Customer 9's entry in origins"):
        sources.decode(data, 9)  # it lay under another's key, and its checksum held
    before = struct.pack("<I", crc32c(data[4:])) + data[4:]  # as it was written without its owner
    assert sources.decode(before, customer) == sources.decode(data, customer)
    for place in range(len(data)):
        spoiled = data[:place] + bytes([data[place] ^ 0x41]) + data[place + 1 :]
        with pytest.raises(StoreCorrupt, match=rf"Customer {customer}'s entry in origins"):
            sources.decode(spoiled, customer)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("namespaces: {crm: {single: perhaps}}", "program.yaml:3:30"),
        ("namespaces: {crm: {claims: maybe}}", "program.yaml:3:30"),
        ("attributes: {a: {type: string, rule: latest}}", "has a rule but no sources"),
        ("attributes: {a: {type: string, sources: [x], rule: sum}}", r"program.yaml:3:54.*does not fit 'a'"),
        ("attributes: {a: {type: timestamp, sources: [x], rule: sum}}", "does not fit 'a'"),
        ("attributes: {a: {type: int, sources: [x], rule: union}}", "does not fit 'a'"),
        ("attributes: {a: {type: int, sources: [x], rule: newest}}", "program.yaml:3:51"),
        ("facts: {a: {type: int, rule: sum}}", "has a rule but no sources"),
    ],
)
def test_a_declaration_that_cannot_be_meant_is_refused_with_its_place(written: str, said: str) -> None:
    text = f"program: p\nschema:\n  {written}\n"
    with pytest.raises(ProgramError, match=said):
        check(read({"program.yaml": text.encode()}))


def test_the_rule_that_goes_without_saying() -> None:
    text = (
        "program: p\nschema:\n  namespaces: {crm: {single: true}, email: {claims: verified}, cookie: {claims: any}}\n"
        "  attributes: {a: string, b: {type: string, sources: [x]}, c: {type: int, sources: [x], rule: max}}\n"
        "channels: {web: {placements: {home: {slots: 1}}}}\ngroups: {g: {}}\n"
        "offers: [{offer: o, group: g, propensity: 0.5, value: 1, treatments: {web.home: {title: O}}}]\n"
    )
    schema = check(read({"program.yaml": text.encode()})).schema
    assert [field.rule for field in schema.attributes.values()] == [SourceRule.LATEST, SourceRule.PRECEDENCE, SourceRule.MAX]
    assert [(space.single, space.verified) for space in schema.namespaces.values()] == [
        (True, False), (False, True), (False, False)]
