"""Cases: scope, product, owner, due time, who is overdue; the texts beside the record, and stores that had none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from core import limits
from core.decision import Identifier
from core.errors import BadValue, CustomerFull, NotFound, StoreCorrupt, StoreUnavailable, TooLarge, UnknownName
from core.hub import case_details, keeping
from core.hub import customer_profile as profiles
from core.hub.mutations import AssignCase, CloseCase, Erase, Join, LeaveHousehold, OpenCase, SetMembership, Unmerge, Upsert
from core.hub.store import Store
from core.schema import CaseRule, CaseScope, Namespace, Schema, unknown_product
from protos.rapport.v1 import profile_pb2, values_pb2
from server.services.profiles import ProfileService
from tests.stored import of_format

DAY = 86_400_000_000
SCHEMA = Schema(
    namespaces={
        "crm": Namespace("crm", trust=9), "web": Namespace("web", trust=1),
        "account": Namespace("account", trust=5, household=True),
    },
    case_kinds=("complaint", "fault", "leak"),
    case_rules={
        "complaint": CaseRule((CaseScope.CUSTOMER,)), "fault": CaseRule((CaseScope.CUSTOMER, CaseScope.PRODUCT), 5 * DAY),
    },
)
ANA = (Identifier("crm", "ana"),)
BEN = (Identifier("web", "ben"),)
HOME = (Identifier("account", "A-1"),)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        opened.declare(SCHEMA)
        yield opened
        assert opened.check().faults == ()


def opening(**parts: object) -> OpenCase:
    whole: dict[str, object] = {"identifiers": ANA, "kind": "fault", "key": "T-1", "at_us": 10 * DAY, **parts}
    return OpenCase(**whole)  # type: ignore[arg-type]


def only(store: Store, who: tuple[Identifier, ...] = ANA) -> profiles.Case:
    found = store.cases(who)
    assert found is not None
    (one,) = found
    return one


def test_a_case_shows_whom_it_is_about_who_works_on_it_and_until_when(store: Store) -> None:
    store.apply(opening(product="dsl", owner="ann"))
    case = only(store)
    assert (case.key, case.scope, case.product, case.owner) == ("T-1", CaseScope.PRODUCT, "dsl", "ann")
    assert (case.opened_us, case.closed_us, case.due_us) == (10 * DAY, None, 15 * DAY)
    store.apply(AssignCase(identifiers=ANA, kind="fault", key="T-1", owner="bob", due_us=12 * DAY, at_us=11 * DAY))
    # Told later, and about earlier: it does not take the case away from Bob.
    store.apply(AssignCase(identifiers=ANA, kind="fault", key="T-1", owner="eve", at_us=10 * DAY + 1))
    assert (only(store).owner, only(store).due_us) == ("bob", 12 * DAY)
    assert [case.overdue_at(at * DAY) for at in (9, 11, 12, 13)] == [False, False, False, False]
    assert [only(store).overdue_at(at) for at in (12 * DAY - 1, 12 * DAY, 13 * DAY)] == [False, True, True]
    store.apply(CloseCase(identifiers=ANA, kind="fault", key="T-1", at_us=12 * DAY))
    assert not only(store).overdue_at(13 * DAY)
    profile = store.profile(ANA)
    assert profile is not None
    assert profile.cases == (only(store),)


def test_the_due_time_of_a_kind_is_what_the_program_declares_last(store: Store) -> None:
    store.apply(opening())
    store.apply(opening(key="T-2", due_us=11 * DAY))
    store.declare(Schema(namespaces=SCHEMA.namespaces, case_kinds=("fault",), case_rules={"fault": CaseRule(due_us=DAY // 2)}))
    found = store.cases(ANA)
    assert found is not None
    assert {case.key: case.due_us for case in found} == {"T-1": 10 * DAY + DAY // 2, "T-2": 11 * DAY}
    store.declare(Schema(namespaces=SCHEMA.namespaces, case_kinds=("fault",)))
    found = store.cases(ANA)
    assert found is not None
    assert {case.key: case.due_us for case in found} == {"T-1": None, "T-2": 11 * DAY}


@pytest.mark.parametrize(
    ("parts", "error", "says"),
    [
        ({"kind": "falt"}, UnknownName, "Did you mean 'fault'"),
        ({"key": ""}, BadValue, "key: it is empty"),
        ({"key": "k" * 257}, TooLarge, "key: bytes: 257"),
        ({"owner": "o" * 257}, TooLarge, "owner: bytes: 257"),
        ({"product": "p" * 65}, BadValue, "cannot be a product's name"),
        ({"product": "d's'l"}, BadValue, "without quotes"),
        ({"product": "dsl", "scope": CaseScope.CUSTOMER}, BadValue, "'dsl' is named, and the scope is customer"),
        ({"scope": CaseScope.PRODUCT}, BadValue, "it is empty, and the scope is product"),
        ({"scope": CaseScope.HOUSEHOLD}, BadValue, r"not about a household.*declares: customer, product"),
        ({"kind": "complaint", "product": "dsl"}, BadValue, r"not about a product.*declares: customer\."),
        ({"due_us": 1 << 62}, BadValue, "due: .* is not a time between"),
    ],
)
def test_what_no_case_can_be_is_refused_and_leaves_nothing(
    store: Store, parts: dict[str, object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        store.apply(opening(**parts))
    assert store.customer_count() == 0


def test_what_is_not_open_cannot_be_assigned_nor_closed(store: Store) -> None:
    store.apply(Upsert(identifiers=ANA, at_us=1))
    for who in (ANA, BEN):
        with pytest.raises(NotFound, match="rapport case list"):
            store.apply(AssignCase(identifiers=who, kind="fault", key="T-1", owner="ann", at_us=1))
        with pytest.raises(NotFound, match="rapport case list"):
            store.apply(CloseCase(identifiers=who, kind="fault", key="T-1", at_us=1))
    store.apply(opening())
    with pytest.raises(BadValue, match="Say who works on the case, or until when"):
        store.apply(AssignCase(identifiers=ANA, kind="fault", key="T-1", at_us=1))
    assert store.cases(BEN) is None


@pytest.fixture
def service(store: Store) -> ProfileService:
    return ProfileService(store, limits.MESSAGE_BYTES, lambda: {"dsl", "mobile"})


def asked(at: int | None = None, due: int | None = None, **parts: object) -> dict[str, object]:
    """The fields of a call about Ana's case; times in days since 1970."""
    times = {name: Timestamp(seconds=day * 86_400) for name, day in (("at", at), ("due", due)) if day is not None}
    return {"identifiers": [values_pb2.Identifier(namespace="crm", value="ana")], "kind": "fault", "key": "T-1", **times, **parts}


def test_a_case_is_due_and_closed_after_it_was_opened(store: Store, service: ProfileService) -> None:
    """A case that was due before it was opened was overdue at once, and one closed before was never open: both in silence."""
    with pytest.raises(BadValue, match=r"due: is 1970-01-10T00:00:00Z, before the case was opened .1970-01-11"):
        service.open_case(profile_pb2.OpenCaseRequest(**asked(10, 9)), None)  # type: ignore[arg-type]
    assert store.customer_count() == 0
    service.open_case(profile_pb2.OpenCaseRequest(**asked(10, 10)), None)  # type: ignore[arg-type]
    with pytest.raises(BadValue, match=r"at: is 1970-01-10T00:00:00Z, before the case was opened.*rapport case list"):
        service.close_case(profile_pb2.CloseCaseRequest(**asked(9)), None)  # type: ignore[arg-type]
    with pytest.raises(BadValue, match="due: is 1970-01-10T00:00:00Z, before"):
        service.assign_case(profile_pb2.AssignCaseRequest(**asked(12, 9)), None)  # type: ignore[arg-type]
    assert (only(store).closed_us, only(store).due_us) == (None, 10 * DAY)
    # The clock of whoever opened it may go ahead by as much as any call's may.
    early = profile_pb2.CloseCaseRequest(**asked(), at=Timestamp(seconds=10 * 86_400 - 299))  # type: ignore[arg-type]
    service.close_case(early, None)  # type: ignore[arg-type]
    assert (only(store).opened_us, only(store).closed_us) == (10 * DAY - 299_000_000, 10 * DAY - 299_000_000)


def test_a_close_that_closes_nothing_says_so(store: Store, service: ProfileService) -> None:
    """A customer's case and his household's may have one key. The second close changed nothing, and said nothing."""
    store.apply(SetMembership(identifiers=ANA, household=HOME, at_us=1))
    store.apply(opening(kind="leak"))
    store.apply(opening(kind="leak", identifiers=HOME, scope=CaseScope.HOUSEHOLD))
    close = profile_pb2.CloseCaseRequest(**asked(11, kind="leak"))  # type: ignore[arg-type]
    assert service.close_case(close, None).warning == ""  # type: ignore[arg-type]
    told = service.close_case(close, None).warning  # type: ignore[arg-type]
    assert "was closed before, at 1970-01-12T00:00:00Z: nothing changed. His household has an open one" in told
    home = [values_pb2.Identifier(namespace="account", value="A-1")]
    close = profile_pb2.CloseCaseRequest(**asked(11, kind="leak", identifiers=home))  # type: ignore[arg-type]
    assert service.close_case(close, None).warning == ""  # type: ignore[arg-type]
    assert service.close_case(close, None).warning.endswith("nothing changed.")  # type: ignore[arg-type]
    assert [each.closed_us for each in store.cases(ANA) or ()] == [11 * DAY, 11 * DAY]


def test_a_product_that_no_offer_names_is_taken_with_a_warning(store: Store, service: ProfileService) -> None:
    """A case about 'dls' was taken in silence and did not pause what it was to pause: offers of 'dsl'."""
    said = {
        product: service.open_case(profile_pb2.OpenCaseRequest(**asked(10, key=product or "none", product=product)), None).warning  # type: ignore[arg-type]
        for product in ("dls", "kettle", "dsl", "")
    }
    assert "'dls'" in said["dls"]
    assert "Did you mean 'dsl'?" in said["dls"]
    assert "Offers name theirs by product" in said["kettle"]
    assert (said["dsl"], said[""]) == ("", "")
    assert unknown_product("dls", ()) == "", "a program that names no product at all cannot know better"
    found = store.cases(ANA)
    assert found is not None
    assert {case.product for case in found} == {"dls", "kettle", "dsl", ""}


def test_a_join_unites_cases_and_an_undo_gives_each_his_own(store: Store) -> None:
    store.apply(opening(product="dsl", owner="ann"))
    store.apply(opening(identifiers=BEN, product="tv", at_us=11 * DAY))
    store.apply(opening(identifiers=BEN, key="T-2", owner="bob"))
    before = store.cases(ANA), store.cases(BEN)
    store.apply(Join(identifiers=ANA + BEN, at_us=12 * DAY))
    united = store.cases(BEN)
    assert united == store.cases(ANA)
    assert united is not None
    # Of one case told of on both sides the earliest opening and the newest of the rest.
    assert [(case.key, case.product, case.owner, case.opened_us) for case in united if case.key == "T-1"] == [
        ("T-1", "tv", "ann", 10 * DAY)]
    assert len(united) == 2
    assert store.check().faults == ()
    store.apply(Unmerge(identifiers=ANA, at_us=12 * DAY))
    assert (store.cases(ANA), store.cases(BEN)) == before


def test_overdue_cases_of_everybody_are_found_a_page_at_a_time(store: Store) -> None:
    for number in range(7):
        who = (Identifier("crm", f"c{number}"),)
        store.apply(opening(identifiers=who, due_us=(10 + number) * DAY))
        store.apply(opening(identifiers=who, key="T-2", kind="complaint"))
    store.apply(Upsert(identifiers=ANA, at_us=1))
    store.apply(CloseCase(identifiers=(Identifier("crm", "c1"),), kind="fault", key="T-1", at_us=10 * DAY))
    seen: list[str] = []
    after, pages = 0, 0
    while True:
        found, after = store.overdue_cases(14 * DAY, after, 2)
        seen += [each.identifiers[0].value for each in found]
        pages += 1
        if not after:
            break
    assert (seen, pages) == (["c0", "c2", "c3", "c4"], 4)
    assert [each.case.key for each in store.overdue_cases(14 * DAY)[0]] == ["T-1"] * 4


def test_a_page_of_overdue_cases_ends_when_it_is_full(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ended with 10,000 customers, of whom each may have 256."""
    monkeypatch.setattr(limits, "CASES_SHOWN", 4)
    for number in range(5):
        for key in ("T-1", "T-2", "T-3"):
            store.apply(opening(identifiers=(Identifier("crm", f"c{number}"),), key=key, due_us=10 * DAY))
    sizes: list[int] = []
    after = 0
    while not sizes or after:
        found, after = store.overdue_cases(14 * DAY, after)
        sizes.append(len(found))
    assert sizes in ([6, 6, 3], [6, 6, 3, 0])


def test_closed_cases_that_go_take_their_texts_along(store: Store) -> None:
    for number in range(limits.CASES_PER_CUSTOMER):
        store.apply(opening(key=f"T-{number}", at_us=number + 1, owner="ann"))
    with pytest.raises(CustomerFull, match="rapport case close"):
        store.apply(opening(key="one more"))
    store.apply(CloseCase(identifiers=ANA, kind="fault", key="T-7", at_us=DAY))
    store.apply(opening(key="one more"))
    found = store.cases(ANA)
    assert found is not None
    keys = {case.key for case in found}
    assert len(keys) == limits.CASES_PER_CUSTOMER
    assert "T-7" not in keys
    assert "one more" in keys


def test_erasure_takes_the_texts_from_store_and_files(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as store:
        store.declare(SCHEMA)
        store.apply(opening(key="secret-key-of-ana", product="secret product", owner="secret-owner"))
        store.apply(opening(identifiers=BEN, owner="stays"))
        store.apply(Erase(identifiers=ANA, at_us=1))
        assert store.environment.statistics()["cases_entries"] == 1
        assert store.check().faults == ()
    keeping.compact(str(tmp_path / "s"))
    data = (tmp_path / "s" / "data.mdb").read_bytes()
    assert b"secret" not in data
    assert b"stays" in data


def in_another_process(code: str, path: Path) -> None:
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=60)


def test_a_store_of_the_second_format_opens_and_its_cases_have_hashes_only(tmp_path: Path) -> None:
    """Format 2 kept the hash of a case's key and no text. Such a case still pauses, and is named once somebody tells of it."""
    with Store.open(tmp_path / "s") as store:
        store.declare(SCHEMA)
        store.apply(opening())
        hashed = only(store).key_hash
    of_format(2, tmp_path / "s", "cases")
    with pytest.raises(StoreUnavailable, match=r"its format is 2.*Start the server on it once"):
        Store.open(tmp_path / "s", read_only=True)
    with Store.open(tmp_path / "s") as store:
        assert (only(store).key, only(store).key_hash, only(store).owner) == ("", hashed, "")
        assert only(store).due_us == 15 * DAY
        assert store.overdue_cases(16 * DAY) == ([], 0)
        assert store.check().faults == ()
        store.apply(opening(key="T-2", owner="ann"))
        store.apply(AssignCase(identifiers=ANA, kind="fault", key="T-1", owner="bob", at_us=11 * DAY))
        found = store.cases(ANA)
        assert found is not None
        assert {case.key: case.owner for case in found} == {"T-1": "bob", "T-2": "ann"}
        assert len(store.overdue_cases(16 * DAY)[0]) == 2
        assert store.check().faults == ()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("e[0][2] = 'T-9'", "the key of a case is not the one that the record has"),
        ("e[0][3] = [1, 'tv']", "the product of a case is not the one that the record has"),
        ("e[0][1] += 1", "it is about a case that the record does not have"),
    ],
)
@pytest.mark.damages("an entry is written over")
def test_the_check_finds_details_that_do_not_fit_the_record(tmp_path: Path, change: str, says: str) -> None:
    with Store.open(tmp_path / "s") as store:
        store.declare(SCHEMA)
        store.apply(opening(product="dsl"))
    in_another_process(
        "import lmdb, msgspec, struct, sys; from core.hub.record import crc32c\n"
        "e = lmdb.open(sys.argv[1], max_dbs=32)\n"
        "with e.begin(write=True) as t:\n"
        "    d = e.open_db(b'cases', t, integerkey=True); k, v = next(iter(t.cursor(d))); e_ = msgspec.msgpack.decode(v[4:])\n"
        f"    e0 = e_; {change.replace('e[', 'e0[')}; b = msgspec.msgpack.encode(e0)\n"
        "    t.put(k, struct.pack('<I', crc32c(b)) + b, db=d)\n",
        tmp_path / "s",
    )
    with Store.open(tmp_path / "s") as store:
        assert [fault.problem for fault in store.check().faults] == [says]


def test_damaged_details_are_told_and_nothing_is_decoded_from_them() -> None:
    details: case_details.Details = {}
    case_details.tell(details, (1, 2), "T-1", 5, product="dsl", due=7)
    whole = case_details.encode(details, 1)
    assert whole is not None
    assert case_details.decode(whole, 1) == details
    with pytest.raises(StoreCorrupt, match="The entry of customer 2 in cases"):
        case_details.decode(whole, 2)
    for position in range(len(whole)):
        damaged = bytes([*whole[:position], whole[position] ^ 0x40, *whole[position + 1 :]])
        with pytest.raises(StoreCorrupt, match="The entry of customer 1 in cases"):
            case_details.decode(damaged, 1)


# --- households


def test_a_case_of_a_household_is_shown_to_each_member_and_handled_by_any(store: Store) -> None:
    for who in (ANA, BEN):
        store.apply(SetMembership(identifiers=who, household=HOME, at_us=1))
    store.apply(opening(identifiers=BEN, kind="leak", scope=CaseScope.HOUSEHOLD, owner="ann"))
    store.apply(opening(identifiers=BEN, kind="leak", key="own"))
    shared = only(store)
    assert (shared.scope, shared.key, shared.owner) == (CaseScope.HOUSEHOLD, "T-1", "ann")
    assert only(store, HOME) == shared
    theirs = store.cases(BEN)
    assert theirs is not None
    assert {case.key: case.scope for case in theirs} == {"T-1": CaseScope.HOUSEHOLD, "own": CaseScope.CUSTOMER}
    store.apply(AssignCase(identifiers=ANA, kind="leak", key="T-1", owner="bob", due_us=11 * DAY, at_us=10 * DAY))
    late, _ = store.overdue_cases(12 * DAY)
    assert [(each.identifiers, each.case.owner) for each in late] == [(HOME, "bob")]
    store.apply(CloseCase(identifiers=HOME, kind="leak", key="T-1", at_us=12 * DAY))
    assert only(store).closed_us == 12 * DAY
    with pytest.raises(NotFound):
        store.apply(CloseCase(identifiers=ANA, kind="leak", key="own", at_us=12 * DAY))
    store.apply(LeaveHousehold(identifiers=ANA, at_us=13 * DAY))
    assert store.cases(ANA) == ()
    assert store.check().faults == ()


def test_a_household_that_is_named_is_made_and_keeps_its_cases_through_joins(store: Store) -> None:
    store.apply(opening(identifiers=HOME, kind="leak", product="dsl"))
    for who in (ANA, BEN):
        store.apply(SetMembership(identifiers=who, household=HOME, at_us=1))
    before = only(store)
    assert (before.scope, before.product) == (CaseScope.HOUSEHOLD, "dsl")
    store.apply(Join(identifiers=ANA + BEN, at_us=2))
    assert only(store, BEN) == before
    store.apply(Unmerge(identifiers=ANA, at_us=3))
    assert only(store, BEN) == only(store, ANA) == before


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"kind": "leak", "scope": CaseScope.HOUSEHOLD}, "the customer is in no household.*household set"),
        ({"kind": "leak", "identifiers": HOME, "scope": CaseScope.PRODUCT, "product": "dsl"}, "a household is named, and"),
        ({"identifiers": HOME}, "kind 'fault' is not about a household"),
        ({"kind": "leak", "identifiers": HOME + ANA}, "household"),
    ],
)
def test_what_no_case_of_a_household_can_be_is_refused(store: Store, parts: dict[str, object], says: str) -> None:
    with pytest.raises(BadValue, match=says):
        store.apply(opening(**parts))
    assert store.household(HOME) is None
    assert store.customer_count() == 0


def test_the_cases_of_a_household_go_with_its_last_member(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as store:
        store.declare(SCHEMA)
        for who in (ANA, BEN):
            store.apply(SetMembership(identifiers=who, household=HOME, at_us=1))
        store.apply(opening(identifiers=HOME, kind="leak", key="secret-key", owner="secret-owner"))
        store.apply(Erase(identifiers=ANA, at_us=2))
        assert only(store, BEN).owner == "secret-owner"
        store.apply(Erase(identifiers=BEN, at_us=3))
        assert store.environment.statistics()["cases_entries"] == 0
        assert store.check().faults == ()
    keeping.compact(str(tmp_path / "s"))
    assert b"secret" not in (tmp_path / "s" / "data.mdb").read_bytes()
