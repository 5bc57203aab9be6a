"""Mutations: what each does, that doing it again changes nothing, and that a refused one changes nothing at all."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from itertools import permutations
from pathlib import Path

import msgspec
import pytest

from core import limits
from core.decision import Identifier
from core.errors import BadValue, NotFound, RapportError, TooLarge, UnknownName
from core.hub import imports, mutations
from core.hub.customer_profile import Profile
from core.hub.mutations import (
    ActivateProgram,
    CloseCase,
    CustomerResult,
    DeclareSchema,
    Join,
    JoinResult,
    Mutation,
    OpenCase,
    Outcome,
    OutcomeStatus,
    RecordedEvent,
    RecordEvents,
    RecordOutcomes,
    SaveProgram,
    SetConsent,
    Upsert,
)
from core.hub.store import Store
from core.programs.source import Sources
from core.schema import AnyValue, EventType, Field, Money, Namespace, Normaliser, Schema, ValueType

ROOT = Path(__file__).resolve().parent.parent.parent
AMOUNT = Field("amount", ValueType.MONEY, currency="EUR")
SCHEMA = Schema(
    attributes={
        field.name: field
        for field in (
            Field("vip", ValueType.BOOL), Field("age", ValueType.INT), Field("score", ValueType.DOUBLE),
            Field("balance", ValueType.MONEY, currency="EUR"), Field("since", ValueType.TIMESTAMP),
            Field("tier", ValueType.ENUM, labels=("bronze", "gold")), Field("name", ValueType.STRING),
            Field("interests", ValueType.STRING_SET),
        )
    },
    events={"purchase": EventType("purchase", (AMOUNT, Field("sku", ValueType.STRING)))},
    namespaces={
        "crm": Namespace("crm", trust=10), "email": Namespace("email", Normaliser.LOWER, 5), "cookie": Namespace("cookie"),
    },
    purposes=("advertising",),
    case_kinds=("complaint",),
)
ALL: dict[str, AnyValue | None] = {
    "vip": True, "age": 44, "score": 0.25, "balance": Money(-5, "EUR"), "since": datetime(2020, 1, 2, tzinfo=UTC),
    "tier": "gold", "name": "Zoë", "interests": frozenset({"a", "b"}),
}
CRM = Identifier("crm", "1")
EMAIL = Identifier("email", "Ann@Example.com")
COOKIE = Identifier("cookie", "c1")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        opened.declare(SCHEMA, ["deposit", "card"], ["web", "call_centre"])
        yield opened
        assert opened.check().faults == ()


def seen(store: Store, *identifiers: Identifier) -> Profile:
    profile = store.profile(identifiers)
    assert profile is not None
    return profile


def upsert(*identifiers: Identifier, at_us: int = 1, **attributes: object) -> Upsert:
    return Upsert(identifiers=identifiers, attributes=attributes, at_us=at_us)  # type: ignore[arg-type]


def purchase(*identifiers: Identifier, key: str = "k", at_us: int = 5) -> RecordEvents:
    event = RecordedEvent(type="purchase", key=key, at_us=at_us, fields={"amount": Money(100, "EUR")})
    return RecordEvents(identifiers=identifiers, events=(event,))


def shown(customer: int, instance: int, at_us: int = 7, outcome: str = "shown") -> RecordOutcomes:
    return RecordOutcomes(
        outcomes=(Outcome(customer=customer, offer="deposit", outcome=outcome, at_us=at_us, instance=instance),)
    )


def test_every_type_of_value_comes_back_as_it_went_in(store: Store) -> None:
    assert store.apply(Upsert(identifiers=(CRM,), attributes=mutations.cells(ALL), at_us=3)) == CustomerResult(1, True)
    assert seen(store, CRM).attributes == ALL
    cleared: dict[str, mutations.Cell] = dict.fromkeys(ALL)
    assert store.apply(Upsert(identifiers=(CRM,), attributes=cleared, at_us=3)) == CustomerResult(1, False)
    assert seen(store, CRM).attributes == {}


def test_times_in_other_zones_are_the_same_moment(store: Store) -> None:
    lisbon = datetime(2020, 7, 1, 12, tzinfo=timezone(timedelta(hours=1)))
    store.apply(upsert(CRM, since=lisbon))
    assert seen(store, CRM).attributes["since"] == datetime(2020, 7, 1, 11, tzinfo=UTC)
    with pytest.raises(BadValue, match="zone"):
        upsert(CRM, since=datetime(2020, 7, 1))


REFUSED_VALUES = [
    ("vip", 1, BadValue), ("age", True, BadValue), ("age", 1.0, BadValue), ("age", 2**63, BadValue),
    ("age", -(2**63), BadValue), ("since", "2020-01-01", BadValue), ("since", 2**62, BadValue),
    ("score", float("nan"), BadValue), ("score", float("inf"), BadValue),
    ("score", 10**400, BadValue), ("balance", 5, BadValue), ("balance", Money(5, "USD"), BadValue),
    ("balance", Money(2**63, "EUR"), BadValue), ("tier", "golden", UnknownName), ("tier", 1, BadValue),
    ("name", "x" * 1025, TooLarge), ("name", "\ud800", BadValue), ("name", 5, BadValue),
    ("interests", "a", BadValue), ("interests", frozenset({"x" * 1025}), TooLarge), ("nmae", "x", UnknownName),
]


@pytest.mark.parametrize(("name", "value", "error"), REFUSED_VALUES)
def test_a_refused_value_names_itself_and_changes_nothing(
    store: Store, name: str, value: object, error: type[RapportError]
) -> None:
    """Nothing: not the good attribute beside it, not the new identifier, not a customer id."""
    store.apply(upsert(CRM, age=1))
    with pytest.raises(error) as caught:
        store.apply(upsert(CRM, COOKIE, **{"age": 2, name: value}))  # type: ignore[arg-type]
    assert name in str(caught.value)
    with pytest.raises(error):
        store.apply(upsert(Identifier("cookie", "new"), **{name: value}))  # type: ignore[arg-type]
    assert seen(store, CRM).attributes == {"age": 1}
    assert store.profile([COOKIE]) is None
    assert store.apply(upsert(Identifier("cookie", "next"))) == CustomerResult(2, True)


def test_the_most_trusted_known_identifier_names_the_customer(store: Store) -> None:
    store.apply(upsert(COOKIE, age=1))
    store.apply(upsert(CRM, age=2))
    both = store.apply(upsert(COOKIE, CRM, EMAIL, age=3))
    assert both == CustomerResult(2, False)
    assert seen(store, COOKIE).attributes == {"age": 1}  # nobody is merged by a request
    assert seen(store, Identifier("email", " ANN@example.com ")).customer == 2
    assert seen(store, CRM, COOKIE).customer == seen(store, COOKIE, CRM).customer == 2


def test_equally_trusted_identifiers_mean_the_same_in_any_order(store: Store) -> None:
    """The one sent first won: two channels that knew the same of a customer, in another order, spoke of two persons."""
    cookies = [Identifier("cookie", value) for value in ("b", "a", "c")]
    emails = [Identifier("email", f"{value}@example.com") for value in ("z", "Y")]
    for number, each in enumerate((*cookies, *emails), 1):
        assert store.apply(upsert(each, age=number)) == CustomerResult(number, True)
    for some in permutations(cookies):
        assert store.customer(some) == seen(store, *some).customer == 2  # the smallest value
    for both in permutations(emails):
        assert store.customer(both) == store.customer([*cookies, *both]) == 5  # as they are stored: y before z
    store.apply(Join(identifiers=(cookies[2], cookies[0], cookies[1]), at_us=1))
    assert [seen(store, each).attributes for each in cookies] == [{"age": 2}] * 3


def test_requests_without_an_identifier_or_with_too_many_are_refused(store: Store) -> None:
    with pytest.raises(BadValue, match="identifier"):
        store.apply(upsert(age=1))
    with pytest.raises(TooLarge):
        store.apply(upsert(*(Identifier("crm", str(i)) for i in range(limits.IDENTIFIERS_PER_REQUEST + 1))))
    with pytest.raises(UnknownName, match="cookie"):
        store.apply(upsert(Identifier("cokie", "1")))


def test_an_event_counts_once_whenever_and_under_whatever_identifier_it_is_sent(store: Store) -> None:
    assert store.apply(purchase(COOKIE)).applied == (True,)
    assert store.apply(purchase(COOKIE, EMAIL)).applied == (False,)
    assert store.apply(purchase(EMAIL, at_us=99)).applied == (False,)
    twice = RecordEvents(identifiers=(EMAIL,), events=purchase(key="n").events * 2)
    assert store.apply(twice).applied == (True, False)
    events = seen(store, COOKIE).events
    assert [(event.type, event.at_us, event.fields) for event in events] == [
        ("purchase", 5, {"amount": Money(100, "EUR")})] * 2


@pytest.mark.parametrize(
    "event",
    [
        RecordedEvent(type="purchas", key="k", at_us=1),
        RecordedEvent(type="purchase", key="", at_us=1),
        RecordedEvent(type="purchase", key="k", at_us=2**62),
        RecordedEvent(type="purchase", key="k", at_us=1, fields={"amout": Money(1, "EUR")}),
        RecordedEvent(type="purchase", key="k", at_us=1, fields={"sku": 5}),
        RecordedEvent(type="purchase", key="k" * 2000, at_us=1),
    ],
)
def test_one_bad_event_refuses_its_request_and_makes_nobody(store: Store, event: RecordedEvent) -> None:
    with pytest.raises(RapportError):
        store.apply(RecordEvents(identifiers=(COOKIE,), events=(*purchase().events, event)))
    assert store.profile([COOKIE]) is None
    assert store.customer_count() == 0


def test_an_outcome_counts_once_for_its_instance_kind_and_key(store: Store) -> None:
    customer = store.apply(upsert(CRM)).customer
    applied, duplicate = (OutcomeStatus.APPLIED,), (OutcomeStatus.DUPLICATE,)
    assert store.apply(shown(customer, 1)) == applied
    assert store.apply(shown(customer, 1, at_us=8)) == duplicate
    assert store.apply(shown(customer, 2)) == applied
    assert store.apply(shown(customer, 1, outcome="clicked")) == applied
    assert store.apply(shown(99, 1)) == (OutcomeStatus.UNKNOWN_CUSTOMER,)
    page = RecordOutcomes(
        outcomes=tuple(
            Outcome(identifiers=(who,), offer="card", outcome="shown", channel="web", at_us=3, key=key, value_minor=4)
            for who, key in ((COOKIE, "a"), (CRM, "a"), (COOKIE, "a"), (COOKIE, "b"))
        )
    )
    assert store.apply(page) == (*applied, *applied, *duplicate, *applied)
    assert store.apply(page) == duplicate * 4
    assert [(c.at_us, c.offer, c.outcome, c.channel, c.value_minor) for c in seen(store, COOKIE).contacts] == [
        (3, "card", "shown", "web", 4)] * 2
    assert len(seen(store, CRM).contacts) == 4


def test_an_outcome_that_could_not_be_told_from_its_repeat_is_refused(store: Store) -> None:
    customer = store.apply(upsert(CRM)).customer
    with pytest.raises(BadValue, match="key"):
        store.apply(shown(customer, 0))
    with pytest.raises(UnknownName, match="deposit"):
        store.apply(RecordOutcomes(outcomes=(Outcome(customer=1, offer="deposits", outcome="shown", at_us=1, key="k"),)))
    assert seen(store, CRM).contacts == ()


def test_joining_unites_two_customers_and_every_way_to_them(store: Store) -> None:
    """Scenario 5: shown once to a cookie, once to the CRM id: both count, under either, and for the old customer id too."""
    store.apply(upsert(COOKIE, at_us=9, age=30, name="Cookie"))
    store.apply(upsert(CRM, at_us=5, name="Ann", balance=Money(1, "EUR")))
    store.apply(purchase(COOKIE, key="same"))
    store.apply(purchase(CRM, key="same"))
    store.apply(purchase(COOKIE, key="other", at_us=2))
    store.apply(shown(1, 11, at_us=20))
    store.apply(shown(2, 12, at_us=10))
    store.apply(OpenCase(identifiers=(COOKIE,), kind="complaint", key="t", at_us=4))
    for who, granted, at in ((COOKIE, False, 8), (CRM, True, 7)):
        store.apply(SetConsent(identifiers=(who,), purpose="advertising", granted=granted, source="web", at_us=at))
    join = Join(identifiers=(COOKIE, CRM, EMAIL), at_us=21)
    assert store.apply(join) == JoinResult(2, (1,), store.applied)
    for identifier in (COOKIE, CRM, EMAIL):
        profile = seen(store, identifier)
        assert profile.customer == 2
        assert profile.attributes == {"age": 30, "name": "Ann", "balance": Money(1, "EUR")}
        assert [contact.at_us for contact in profile.contacts] == [10, 20]
        assert [event.at_us for event in profile.events] == [2, 5]
        assert [consent.granted for consent in profile.consents] == [False]
        assert [case.closed_us for case in profile.cases] == [None]
        assert {i.namespace for i in profile.identifiers} == {"cookie", "crm", "email"}
    assert store.apply(join) == JoinResult(2, ())
    assert store.profile_of(1) is None
    assert store.customer_count() == 1
    # A token from before the join names customer 1.
    assert store.apply(shown(1, 11)) == (OutcomeStatus.DUPLICATE,)
    assert store.apply(shown(1, 13)) == (OutcomeStatus.APPLIED,)
    assert len(seen(store, CRM).contacts) == 3


def test_joining_follows_trust_and_a_chain_of_joins_leads_to_the_last_survivor(store: Store) -> None:
    for identifier in (COOKIE, EMAIL, CRM):
        store.apply(upsert(identifier, name=identifier.namespace))
    assert store.apply(Join(identifiers=(COOKIE, EMAIL), at_us=1)) == JoinResult(2, (1,), store.applied)
    assert store.apply(Join(identifiers=(EMAIL, CRM), at_us=2)) == JoinResult(3, (2,), store.applied)
    assert seen(store, COOKIE).customer == 3
    assert store.apply(shown(1, 5)) == (OutcomeStatus.APPLIED,)
    assert len(seen(store, CRM).contacts) == 1


def test_joining_strangers_makes_one_customer_of_them(store: Store) -> None:
    assert store.apply(Join(identifiers=(COOKIE, CRM), at_us=1)) == JoinResult(1, ())
    assert seen(store, COOKIE).customer == seen(store, CRM).customer == 1


def test_a_join_past_the_identifiers_a_customer_may_hold_changes_nothing(store: Store) -> None:
    def some(namespace: str, start: int) -> None:
        for first in range(start, start + 150, 15):
            many = [Identifier(namespace, str(i)) for i in range(first, first + 15)]
            store.apply(Join(identifiers=(Identifier(namespace, str(start)), *many), at_us=1))

    some("crm", 0)
    some("cookie", 0)
    with pytest.raises(TooLarge):
        store.apply(Join(identifiers=(Identifier("crm", "0"), Identifier("cookie", "0")), at_us=2))
    assert len(seen(store, Identifier("crm", "0")).identifiers) == 150
    assert len(seen(store, Identifier("cookie", "149")).identifiers) == 150


def test_consent_newest_wins_in_any_order(store: Store) -> None:
    def say(granted: bool, at_us: int, channel: str = "") -> None:
        store.apply(
            SetConsent(identifiers=(CRM,), purpose="advertising", channel=channel, granted=granted, source="web", at_us=at_us)
        )

    say(True, 5)
    say(False, 9)
    say(True, 7)
    say(True, 1, "web")
    assert [(c.channel, c.granted, c.source, c.at_us) for c in seen(store, CRM).consents] == [
        ("", False, "web", 9), ("web", True, "web", 1),
    ]


def test_a_case_opens_and_closes(store: Store) -> None:
    case = {"identifiers": (CRM,), "kind": "complaint", "key": "ticket 7"}
    with pytest.raises(NotFound, match="ticket 7"):
        store.apply(msgspec.convert({**case, "at_us": 5}, CloseCase))
    store.apply(msgspec.convert({**case, "at_us": 5}, OpenCase))
    assert seen(store, CRM).cases[0].closed_us is None
    for at_us in (9, 12):
        store.apply(msgspec.convert({**case, "at_us": at_us}, CloseCase))
    assert [(c.kind, c.opened_us, c.closed_us) for c in seen(store, CRM).cases] == [("complaint", 5, 9)]


def test_programs_are_kept_by_version_and_the_active_one_is_remembered(store: Store) -> None:
    one, two = {"program.yaml": b"1"}, {"program.yaml": b"2"}
    digests = Sources(one).digest, Sources(two).digest
    first = SaveProgram(name="shop", digest=digests[0], sources=one, at_us=1, image=b"i", compiler="c1")
    second = SaveProgram(name="shop", digest=digests[1], sources=two, at_us=2)
    assert [store.apply(first), store.apply(second), store.apply(first)] == [1, 2, 1]
    assert [(p.version, p.digest, p.compiler) for p in store.programs()] == [(1, digests[0], "c1"), (2, digests[1], "")]
    assert store.program_sources("shop", 2) == {"program.yaml": b"2"}
    assert store.program_image("shop", 1, "c1") == b"i"
    assert store.program_image("shop", 1, "c2") is None
    assert store.program_image("shop", 9, "c1") is None
    assert store.active_program() is None
    store.apply(ActivateProgram(name="shop", version=1, at_us=3))
    active = store.active_program()
    assert active is not None
    assert (active.name, active.version) == ("shop", 1)
    with pytest.raises(NotFound):
        store.apply(ActivateProgram(name="shop", version=3, at_us=3))
    with pytest.raises(NotFound):
        store.program_sources("shop", 3)


EVERY_KIND: list[Mutation] = [
    DeclareSchema(schema=SCHEMA, offers=("a",), channels=("web",)),
    Upsert(identifiers=(CRM, EMAIL), attributes=mutations.cells(ALL), source="crm", at_us=3),
    Upsert(identifiers=(CRM,), attributes={"age": None}, at_us=-5),
    purchase(CRM),
    shown(4, 2**64 - 1),
    Join(identifiers=(CRM, EMAIL), at_us=4),
    SetConsent(identifiers=(CRM,), purpose="advertising", granted=False, at_us=1),
    OpenCase(identifiers=(CRM,), kind="complaint", key="k", at_us=1),
    CloseCase(identifiers=(CRM,), kind="complaint", key="k", at_us=1),
    SaveProgram(name="p", digest="d", sources={"f": b"\x00\xff"}, at_us=1, image=b"\x01"),
    ActivateProgram(name="p", version=2, at_us=1),
]


def test_images_of_old_versions_go_and_their_sources_stay(store: Store) -> None:
    """Each load kept the image of its version for ever: tens of MiB of a large program, every day."""

    def save(number: int) -> int:
        sources = {"program.yaml": b"%d" % number}
        version: int = store.apply(SaveProgram(
            name="shop", digest=Sources(sources).digest, sources=sources, at_us=number, image=b"i", compiler="c"))
        return version

    for number in (1, 2):
        assert save(number) == number
        store.apply(ActivateProgram(name="shop", version=number, at_us=number))
    for number in range(3, 15):
        assert save(number) == number
    kept = [number for number in range(1, 15) if store.program_image("shop", number, "c") is not None]
    # 2 decides, and 1 did before it.
    assert kept == [1, 2, *range(15 - limits.PROGRAM_IMAGES, 15)]
    assert store.program_sources("shop", 4) == {"program.yaml": b"4"}


@pytest.mark.parametrize("mutation", EVERY_KIND, ids=lambda mutation: type(mutation).__name__)
def test_a_mutation_survives_the_log(mutation: Mutation) -> None:
    assert mutations.decode(mutations.encode(mutation)) == mutation


def test_a_log_that_holds_an_import_is_read_by_whoever_opens_a_store() -> None:
    """A reader of the log that had not happened to import files itself took an import's mutation for damage."""
    column = imports.ValueColumn("age", b"\x07" + bytes(7))
    mutation = imports.ImportColumns(
        at_us=1, rows=1, identifiers=(imports.IdentifierColumn("crm", b"\x01\0\0\0", b"1"),), columns=(column,)
    )
    program = (
        "import sys, core.hub.store\n"
        "from core.hub import mutations\n"
        "print(type(mutations.decode(sys.stdin.buffer.read())).__name__)"
    )
    read = subprocess.run(
        [sys.executable, "-c", program], input=mutations.encode(mutation), cwd=ROOT, capture_output=True, check=False
    )
    assert (read.stdout, read.stderr) == (b"ImportColumns\n", b"")


NO_MUTATIONS = [
    b"", b"\xc1", b"\x92\x01\x80", mutations.encode(EVERY_KIND[0])[:-3],
    b"\x92\x02" + mutations.encode(EVERY_KIND[3])[2:],  # a later version
]


@pytest.mark.parametrize("data", NO_MUTATIONS)
def test_what_is_no_mutation_is_refused(data: bytes) -> None:
    with pytest.raises(BadValue):
        mutations.decode(data)


@pytest.mark.damages("the program saved there has a digest that was made up")
def test_the_same_log_makes_the_same_bytes(tmp_path: Path) -> None:
    """Apply knows neither clock nor chance: two stores fed the same mutations, one decoded from a log, are equal."""
    contents = []
    for name, through_log in (("one", False), ("two", True)):
        with Store.open(tmp_path / name) as store:
            store.declare(SCHEMA, ["deposit", "card"], ["web", "call_centre"])
            for mutation in EVERY_KIND:
                if isinstance(mutation, ActivateProgram):
                    continue
                store.apply(mutations.decode(mutations.encode(mutation)) if through_log else mutation)
            with store.environment.reader() as reader:
                databases = ("profiles", "contacts", "events", "identifiers", "catalog", "programs")
                contents.append({name: list(reader.items(name)) for name in databases})
    assert contents[0] == contents[1]
