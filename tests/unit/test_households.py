"""Households in the store: memberships, what is shared, what counts for all, and what happens to them with their members."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from core import limits
from core.decision import Identifier
from core.errors import BadValue, IdentityConflict, NotFound, RapportError, SchemaConflict, TooLarge, UnknownName
from core.hub import contacts
from core.hub.membership import HOUSEHOLD_FIRST, pack_members, unpack_members, unpack_membership
from core.hub.mutations import (
    Erase,
    Join,
    LeaveHousehold,
    LeftResult,
    MembershipResult,
    Mutation,
    Outcome,
    OutcomeStatus,
    RecordEvents,
    RecordOutcomes,
    SetConsent,
    SetMembership,
    Unmerge,
    Upsert,
)
from core.hub.record import crc32c
from core.hub.store import Store
from core.schema import Field, Namespace, Schema, SourceRule, ValueType

SCHEMA = Schema(
    attributes={"age": Field("age", ValueType.INT)},
    namespaces={
        "crm": Namespace("crm", trust=9), "cookie": Namespace("cookie"),
        "account": Namespace("account", trust=100, household=True), "address": Namespace("address", household=True),
    },
    household_attributes={
        "plan": Field("plan", ValueType.ENUM, labels=("single", "family")),
        "motto": Field("motto", ValueType.STRING),
        "lines": Field("lines", ValueType.INT, sources=("billing", "shop"), rule=SourceRule.SUM),
    },
    roles=("owner", "child"),
    purposes=("ads",),
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "s", map_bytes=1 << 28) as opened:
        opened.declare(SCHEMA, ["x", "y"], ["web"])
        yield opened
        assert opened.check().faults == ()


def who(value: str, namespace: str = "crm") -> tuple[Identifier, ...]:
    return (Identifier(namespace, value),)


def enter(store: Store, member: str, home: str = "A", role: str = "", at_us: int = 10) -> MembershipResult:
    made: MembershipResult = store.apply(
        SetMembership(identifiers=who(member), household=who(home, "account"), role=role, at_us=at_us))
    return made


def shown(store: Store, member: str, at_us: int, key: str = "k") -> OutcomeStatus:
    outcome = Outcome(identifiers=who(member), offer="x", outcome="shown", at_us=at_us, key=key)
    (status,) = store.apply(RecordOutcomes(outcomes=(outcome,)))
    assert isinstance(status, OutcomeStatus)
    return status


def counted(store: Store, home: str = "A") -> list[int]:
    """When the contacts were that count for a household."""
    with store.environment.reader() as reader:
        household = reader.customer(store.catalog.namespace("account"), home.encode())
        data = None if household is None else reader.get_customer("contacts", household)
        return [] if data is None else [at for at, *_ in contacts.unpack(data)]


def members(store: Store, home: str = "A") -> int:
    found = store.household(who(home, "account"))
    return 0 if found is None else found.members


def test_membership_makes_both_and_is_repeated_without_effect(store: Store) -> None:
    assert enter(store, "a", role="owner") == MembershipResult(1, HOUSEHOLD_FIRST + 1, True, True)
    assert enter(store, "b", role="child", at_us=11) == MembershipResult(2, HOUSEHOLD_FIRST + 1, True, False)
    assert enter(store, "a", at_us=30) == MembershipResult(1, HOUSEHOLD_FIRST + 1, False, False)
    assert enter(store, "b", "B", at_us=31) == MembershipResult(2, HOUSEHOLD_FIRST + 2, False, True, HOUSEHOLD_FIRST + 1)
    assert enter(store, "b", at_us=32) == MembershipResult(2, HOUSEHOLD_FIRST + 1, False, False, HOUSEHOLD_FIRST + 2)
    found = store.household(who("a"))
    assert found is not None
    assert (found.number, found.role, found.since_us, found.members) == (1, "owner", 10, 2)
    itself = store.household(who("A", "account"))
    assert itself is not None
    assert (itself.role, itself.since_us, itself.identifiers) == ("", None, who("A", "account"))
    assert store.household(who("nobody")) is None
    assert list(store.customers()) == [1, 2]
    assert store.customer_count() == 2


def test_shared_attributes_are_the_households_and_have_sources_of_their_own(store: Store) -> None:
    made = store.apply(Upsert(identifiers=who("A", "account"), attributes={"plan": "family", "motto": "one for all"}, at_us=1))
    assert made.customer == HOUSEHOLD_FIRST + 1
    store.apply(Upsert(identifiers=who("A", "account"), attributes={"lines": 2}, source="billing", at_us=2))
    store.apply(Upsert(identifiers=who("A", "account"), attributes={"lines": 1}, source="shop", at_us=1))
    enter(store, "a")
    profile = store.profile(who("a"))
    assert profile is not None
    assert profile.attributes == {}
    assert profile.household is not None
    assert profile.household.attributes == {"plan": "family", "motto": "one for all", "lines": 3}
    told = store.provenance(who("A", "account"), ["lines"])
    assert told is not None
    assert [(one.source, one.value) for one in told[0].origins] == [("billing", 2), ("shop", 1)]
    with pytest.raises(UnknownName, match=r"attribute of households.*'age'"):
        store.apply(Upsert(identifiers=who("A", "account"), attributes={"age": 3}, at_us=1))
    with pytest.raises(UnknownName, match="'plan'"):
        store.apply(Upsert(identifiers=who("a"), attributes={"plan": "family"}, at_us=1))


@pytest.mark.parametrize(
    "mutation",
    [
        Upsert(identifiers=(*who("A", "account"), *who("a")), at_us=1),
        Upsert(identifiers=(*who("a"), *who("A", "account")), at_us=1),
        SetConsent(identifiers=who("A", "account"), purpose="ads", granted=True, at_us=1),
        Join(identifiers=(*who("a"), *who("A", "account")), at_us=1),
        SetMembership(identifiers=who("A", "account"), household=who("A", "account"), at_us=1),
        SetMembership(identifiers=who("a"), household=who("b"), at_us=1),
        LeaveHousehold(identifiers=who("A", "account"), at_us=1),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_household_is_no_customer(store: Store, mutation: Mutation) -> None:
    with pytest.raises(BadValue, match=r"\[\d\].namespace: '\w+' names (households|customers)"):
        store.apply(mutation)
    assert store.customer_count() == 0
    with pytest.raises(BadValue, match="names households"):
        store.profile(who("A", "account"))


def test_what_was_shown_to_members_counts_for_all_from_when_each_joined(store: Store) -> None:
    """A repeat counts once; two members' reports under one partner's key are two; one before joining is his own."""
    shown(store, "a", 5, "early")
    shown(store, "a", 12, "later")
    enter(store, "a", at_us=10)
    enter(store, "b", at_us=11)
    assert counted(store) == [12]
    assert shown(store, "b", 13) is OutcomeStatus.APPLIED
    assert shown(store, "b", 13) is OutcomeStatus.DUPLICATE
    assert shown(store, "a", 14) is OutcomeStatus.APPLIED
    shown(store, "b", 9, "before")
    assert counted(store) == [12, 13, 14]
    # An earlier membership comes to light.
    enter(store, "b", at_us=8)
    assert counted(store) == [9, 12, 13, 14]
    assert store.apply(LeaveHousehold(identifiers=who("a"), at_us=20)) == LeftResult(1, HOUSEHOLD_FIRST + 1)
    assert store.apply(LeaveHousehold(identifiers=who("a"), at_us=21)) == LeftResult(1, 0)
    assert counted(store) == [9, 13]
    enter(store, "b", "B", at_us=13)
    assert (counted(store), counted(store, "B"), members(store), members(store, "B")) == ([], [13], 0, 1)


def test_what_is_told_late_of_a_household_changes_nothing_that_is_newer(store: Store) -> None:
    """A feed sent again, or late, moved a customer back into the household that he had left."""
    enter(store, "a", "A", at_us=10)
    enter(store, "a", "B", at_us=20)
    again = enter(store, "a", "A", at_us=10)
    assert (again.superseded, again.left, members(store, "A"), members(store, "B")) == (True, 0, 0, 1)
    assert store.apply(LeaveHousehold(identifiers=who("a"), at_us=19)) == LeftResult(1, 0, superseded=True)
    assert members(store, "B") == 1
    assert store.apply(LeaveHousehold(identifiers=who("a"), at_us=30)) == LeftResult(1, HOUSEHOLD_FIRST + 2)
    assert enter(store, "a", "B", at_us=20).superseded
    assert enter(store, "a", "A", at_us=29).superseded
    assert (store.household(who("a")), members(store, "A"), members(store, "B")) == (None, 0, 0)
    found = store.profile(who("a"))
    assert found is not None
    assert found.household is None
    assert enter(store, "a", "A", at_us=30).superseded, "of one moment the leaving stands, however often either is said"
    assert not enter(store, "a", "A", at_us=31).superseded
    assert members(store, "A") == 1


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
def test_a_stay_begins_after_he_was_elsewhere_in_whatever_order_that_is_told(store: Store, order: Sequence[int]) -> None:
    """Sent again, the first membership made what he was shown while he was away count for the household."""
    enter(store, "a", "B", at_us=1)
    shown(store, "a", 15, "away")
    said: list[Mutation] = [
        SetMembership(identifiers=who("a"), household=who("A", "account"), at_us=10),
        LeaveHousehold(identifiers=who("a"), at_us=12),
        SetMembership(identifiers=who("a"), household=who("A", "account"), at_us=20),
    ]
    for place in (*order, *order):
        store.apply(said[place])
    found = store.household(who("a"))
    assert found is not None
    assert (found.since_us, counted(store)) == (20, [])


@pytest.mark.parametrize("elsewhere", [False, True], ids=["left", "elsewhere"])
@pytest.mark.parametrize("order", sorted(itertools.permutations(range(3))))
def test_nothing_from_before_he_was_elsewhere_makes_a_stay_longer(
    store: Store, order: Sequence[int], elsewhere: bool
) -> None:
    """Of A at 30, B at 20 and A at 10, told in this order, the stay in A began at 10, and counted what he was shown in B."""
    enter(store, "a", "C", at_us=1)
    enter(store, "b", "B", at_us=1)
    away = SetMembership(identifiers=who("a"), household=who("B", "account"), at_us=20)
    said: list[Mutation] = [
        SetMembership(identifiers=who("a"), household=who("A", "account"), at_us=30),
        away if elsewhere else LeaveHousehold(identifiers=who("a"), at_us=20),
        SetMembership(identifiers=who("a"), household=who("A", "account"), at_us=10),
    ]
    shown(store, "a", 15, "away")
    for place in order:
        store.apply(said[place])
    found = store.household(who("a"))
    assert found is not None
    assert (found.since_us, counted(store)) == (30, [])


def test_an_older_membership_said_while_they_were_one_counts_for_him_once_he_is_parted(store: Store) -> None:
    """It changed nothing then, for the one they were was elsewhere since; and its household was not known. An undo lost it."""
    enter(store, "a", "A", at_us=100)
    store.apply(Upsert(identifiers=who("b", "cookie"), at_us=1))
    store.apply(Join(identifiers=who("a") + who("b", "cookie"), at_us=110))
    late = SetMembership(identifiers=who("b", "cookie"), household=who("new", "account"), at_us=50)
    assert store.apply(late).superseded
    assert store.apply(Unmerge(identifiers=who("a"), at_us=120)).reapplied == 1
    found = store.household(who("b", "cookie"))
    assert found is not None
    assert (found.identifiers, found.since_us) == (who("new", "account"), 50)


def test_a_membership_sent_again_looks_through_nobodys_contacts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An import says of each member each time that he is one; for a large household each took 0.4 s, while nobody could write."""
    enter(store, "a", "A", at_us=10)
    shown(store, "a", 15, "x")
    before = counted(store)
    read, unpack = [], contacts.unpack

    def unpacked(data: bytes, *name: str) -> list[tuple[int, int, int, int, int, int, int]]:
        read.append(data)
        return unpack(data, *name)

    monkeypatch.setattr(contacts, "unpack", unpacked)
    for at_us in (20, 30):
        store.apply(SetMembership(identifiers=who("a"), household=who("A", "account"), role="owner", at_us=at_us))
    assert read == []
    assert counted(store) == before
    read.clear()
    enter(store, "a", "A", at_us=5)
    assert read


@pytest.mark.parametrize("at_us", [5, 20], ids=["of an older moment", "of a newer"])
def test_a_membership_that_names_two_persons_changes_neither(store: Store, at_us: int) -> None:
    """Of an older moment it was answered with `superseded`, and yet made a stay of one of the two shorter."""
    single = {name: replace(each, single=name == "crm") for name, each in SCHEMA.namespaces.items()}
    store.declare(replace(SCHEMA, namespaces=single))
    for at in (1, 15):
        enter(store, "a", "A", at_us=at)
    enter(store, "b", "B", at_us=10)
    both = who("b") + who("a")
    for mutation in (
        SetMembership(identifiers=both, household=who("C", "account"), at_us=at_us),
        LeaveHousehold(identifiers=both, at_us=at_us),
    ):
        with pytest.raises(IdentityConflict):
            store.apply(mutation)
    found = [store.household(who(each)) for each in "ab"]
    assert [each and (each.identifiers[0].value, each.since_us) for each in found] == [("A", 1), ("B", 10)]


def test_a_household_that_nobody_knew_is_not_made_by_what_changes_nothing(store: Store) -> None:
    enter(store, "a", "A", at_us=10)
    told = enter(store, "a", "new", at_us=5)
    assert (told.superseded, told.household, told.household_created) == (True, 0, False)
    assert store.household(who("new", "account")) is None


def test_a_customer_is_not_moved_by_a_call_that_names_two_households(store: Store) -> None:
    enter(store, "a", "A", at_us=10)
    enter(store, "b", "B", at_us=10)
    both = (*who("A", "account"), *who("B", "account"))
    with pytest.raises(BadValue, match="household: its identifiers lead to 2 households"):
        store.apply(SetMembership(identifiers=who("a"), household=both, at_us=11))
    assert (members(store, "A"), members(store, "B")) == (1, 1)


def test_an_entry_from_before_the_time_of_telling_was_kept_is_told_when_it_began(store: Store) -> None:
    data = struct.pack("<HHQq", 3, 0, HOUSEHOLD_FIRST + 1, 77)
    assert unpack_membership(struct.pack("<I", crc32c(data)) + data, 1) == (HOUSEHOLD_FIRST + 1, 77, 3, 77, -(2**63))


def test_a_household_has_a_bounded_number_of_members(store: Store) -> None:
    for number in range(limits.HOUSEHOLD_MEMBERS):
        enter(store, f"m{number}")
    with pytest.raises(TooLarge, match=r"household: members: 65.*names more than one household.*household leave"):
        enter(store, "one too many")
    assert store.customer(who("one too many")) is None
    enter(store, "m3", role="child")
    assert members(store) == limits.HOUSEHOLD_MEMBERS


def test_roles_and_errors_name_what_is_meant(store: Store) -> None:
    with pytest.raises(UnknownName, match=r"role 'ownr'.*'owner'"):
        enter(store, "a", role="ownr")
    with pytest.raises(NotFound, match="None of the identifiers"):
        store.apply(LeaveHousehold(identifiers=who("a"), at_us=1))
    with pytest.raises(BadValue, match="household: there is none"):
        store.apply(SetMembership(identifiers=who("a"), household=(), at_us=1))
    changed = Schema(namespaces={"account": Namespace("account", trust=100)})
    with pytest.raises(SchemaConflict, match="namespace of households"):
        store.declare(changed)
    other = Schema(
        namespaces=SCHEMA.namespaces, household_attributes={"plan": Field("plan", ValueType.INT)}, roles=SCHEMA.roles)
    with pytest.raises(SchemaConflict, match=r"Household attribute 'plan' is stored as enum"):
        store.declare(other)


def join(store: Store, one: str, other: str) -> int:
    joined = store.apply(Join(identifiers=(*who(one), *who(other, "cookie")), at_us=50))
    assert isinstance(joined.merge, int)
    return joined.merge


def member(store: Store, name: str, namespace: str = "crm") -> tuple[int, str, int | None] | None:
    found = store.household(who(name, namespace))
    return None if found is None else (found.number, found.role, found.since_us)


@pytest.mark.parametrize(
    ("mine", "theirs", "stands"),
    [(None, None, None), ("A", None, "A"), (None, "A", "A"), ("A", "A", "A"), ("A", "B", "A")],
)
def test_a_joined_customer_has_one_household_and_an_undo_gives_both_theirs_back(
    store: Store, mine: str | None, theirs: str | None, stands: str | None
) -> None:
    store.apply(Upsert(identifiers=who("a"), at_us=1))
    store.apply(Upsert(identifiers=who("k", "cookie"), at_us=1))
    if mine:
        enter(store, "a", mine, "owner", at_us=10)
    if theirs:
        home = who(theirs, "account")
        store.apply(SetMembership(identifiers=who("k", "cookie"), household=home, role="child", at_us=7))
    shown(store, "a", 20)
    before = [member(store, "a"), member(store, "k", "cookie"), counted(store), counted(store, "B"), members(store, "B")]
    join(store, "a", "k")
    if stands:
        found = store.household(who("a"))
        assert found is not None
        assert found.identifiers == who(stands, "account")
        assert found.role == ("owner" if mine else "child")
        assert found.since_us == (7 if theirs == stands else 10)
        assert counted(store, stands) == [20]
        assert members(store, "B") == 0
    assert store.check().faults == ()
    enter(store, "friend", "A", at_us=40)
    store.apply(LeaveHousehold(identifiers=who("friend"), at_us=41))
    store.apply(Unmerge(identifiers=who("a"), at_us=60))
    assert [
        member(store, "a"), member(store, "k", "cookie"), counted(store), counted(store, "B"), members(store, "B")] == before


def test_what_was_said_of_membership_since_a_join_is_said_again_after_its_undo(store: Store) -> None:
    store.apply(Upsert(identifiers=who("a"), at_us=1))
    store.apply(Upsert(identifiers=who("k", "cookie"), at_us=1))
    join(store, "a", "k")
    store.apply(SetMembership(identifiers=who("k", "cookie"), household=who("A", "account"), role="child", at_us=51))
    shown(store, "a", 55)
    assert counted(store) == [55]
    undone = store.apply(Unmerge(identifiers=who("a"), at_us=60))
    assert (undone.reapplied, undone.dropped) == (2, 0)
    assert (member(store, "a"), member(store, "k", "cookie")) == (None, (1, "child", 51))
    assert counted(store) == []


def entries(store: Store) -> list[tuple[bytes, bytes]]:
    with store.environment.reader() as reader:
        return [
            pair for name in ("profiles", "households", "memberships", "contacts", "origins", "identifiers")
            for pair in reader.items(name)
        ]


def test_the_erased_leaves_and_the_last_one_takes_the_household_along(store: Store) -> None:
    enter(store, "a")
    enter(store, "b")
    store.apply(Upsert(identifiers=who("A", "account"), attributes={"lines": 2, "motto": "ours"}, source="billing", at_us=2))
    shown(store, "a", 20)
    shown(store, "b", 21)
    store.apply(Erase(identifiers=who("a"), at_us=30))
    assert (counted(store), members(store)) == ([21], 1)
    store.apply(Erase(identifiers=who("b"), at_us=31))
    assert entries(store) == []
    assert store.household(who("A", "account")) is None


def test_a_household_can_be_erased_and_leaves_its_members(store: Store) -> None:
    """Also where an undo of a member's join keeps it, or a message that names it."""
    store.apply(Upsert(identifiers=who("k", "cookie"), at_us=1))
    enter(store, "a")
    join(store, "a", "k")
    enter(store, "a", role="owner")
    store.apply(Erase(identifiers=who("A", "account"), request="7", at_us=30))
    assert (member(store, "a"), store.customer_count()) == (None, 1)
    with pytest.raises(NotFound):
        store.apply(Unmerge(identifiers=who("a"), at_us=60))
    with pytest.raises(NotFound):
        store.apply(Erase(identifiers=who("A", "account"), at_us=31))


def test_an_undo_does_not_bring_an_erased_household_back(store: Store) -> None:
    enter(store, "a")
    store.apply(Upsert(identifiers=who("k", "cookie"), at_us=1))
    join(store, "a", "k")
    store.apply(Erase(identifiers=who("A", "account"), at_us=30))
    store.apply(Unmerge(identifiers=who("a"), at_us=60))
    assert member(store, "a") is None


def test_a_household_stays_without_members(store: Store) -> None:
    enter(store, "a")
    store.apply(LeaveHousehold(identifiers=who("a"), at_us=11))
    assert members(store) == 0
    assert enter(store, "b") == MembershipResult(2, HOUSEHOLD_FIRST + 1, True, False)


def test_a_stores_memberships_survive_a_restart(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s", map_bytes=1 << 28) as opened:
        opened.declare(SCHEMA, ["x"], ["web"])
        enter(opened, "a", role="owner")
        before = entries(opened)
    with Store.open(tmp_path / "s", map_bytes=1 << 28) as opened:
        assert entries(opened) == before
        assert enter(opened, "b", "B") == MembershipResult(2, HOUSEHOLD_FIRST + 2, True, True)
        assert member(opened, "a") == (1, "owner", 10)


def test_a_refused_mutation_gives_no_number_away(store: Store) -> None:
    with pytest.raises(RapportError):
        enter(store, "", "A")
    assert enter(store, "a", "B") == MembershipResult(1, HOUSEHOLD_FIRST + 1, True, True)


def test_events_and_reports_name_customers(store: Store) -> None:
    outcome = Outcome(identifiers=who("A", "account"), offer="x", outcome="shown", at_us=1, key="k")
    for mutation in (RecordOutcomes(outcomes=(outcome,)), RecordEvents(identifiers=who("A", "account"), events=())):
        with pytest.raises(BadValue):
            store.apply(mutation)


@pytest.mark.parametrize("ids", [[], [7], [9, 3, 5]])
def test_members_are_packed_in_order(ids: Sequence[int]) -> None:
    assert unpack_members(pack_members(ids), HOUSEHOLD_FIRST + 1) == sorted(ids)


def test_damaged_entries_are_found(store: Store) -> None:
    enter(store, "a")
    with store.environment.reader() as reader:
        mine = bytearray(reader.get_customer("memberships", 1) or b"")
        ours = bytearray(reader.get_customer("memberships", HOUSEHOLD_FIRST + 1) or b"")
    for entry, read in (
        (mine, lambda data: unpack_membership(data, 1)), (ours, lambda data: unpack_members(data, HOUSEHOLD_FIRST + 1)),
    ):
        for place in range(len(entry)):
            spoilt = bytes(entry[:place]) + bytes([entry[place] ^ 1]) + bytes(entry[place + 1:])
            with pytest.raises(RapportError, match=r"checksum|bytes"):
                read(spoilt)
        with pytest.raises(RapportError):
            read(bytes(entry[:-1]))
