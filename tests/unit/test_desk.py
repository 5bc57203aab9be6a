"""A desk decides within its limits, its time and its plan, and leaves to the Python path what is not its business.

That its answers are the engine's is `tests/property/test_desk_equals_engine.py`; here are the edges: every limit, the
codes, what a desk holds and lets go.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from core import limits
from core.decision import Identifier
from core.errors import StoreCorrupt
from core.hub import mutations
from core.hub.store import Store
from core.kernel.desk import DeskHolder
from protos.rapport.v1 import decision_pb2, values_pb2
from server import convert
from tests.engine_subject import EngineSubject
from tests.property.models import small_models
from tests.property.spoiling import BYTES, FIXED32, FIXED64, VARINT, varint

NOW = 1_790_000_000_000_000
DONE, ELSEWHERE, SLOW, EXPIRED, FAILED = range(5)

PROGRAM = """
program: tiny
currency: EUR
schema:
  namespaces:
    crm: {normaliser: none, trust: 5}
    email: {normaliser: lower, trust: 9}
    phone: {normaliser: e164, trust: 1}
  attributes: {age: int}
  facts:
    busy: bool
    items: int
    weight: double
    cart: {type: money, currency: EUR}
    due: timestamp
    page: {type: enum, labels: [home, cart]}
    reason: string
    labels: set
    unread: {type: money, currency: EUR}
  events: {view: {page: string}, purchase: {}}
  offer_fields: {margin: double}
channels:
  web: {placements: {home: {content_type: text, slots: 1, fallback: {title: NOTHING, note: Grüße}}, side: {slots: 2}}}
  call: {placements: {home: {}}}
groups: {all: {}}
offers:
  - offer: first
    group: all
    eligibility: ["!has(facts.items) || facts.items < 100"]
    value: 1.00 EUR
    propensity: PROPENSITY
    fields: {margin: 0.5}
    price: {list: 10.00 EUR, adjustments: [{percent: -10, when: "customer.age > 3"}]}
    treatments:
      web.home: {title: "{{ facts.reason }} {{ facts.weight }} {{ facts.cart }} {{ facts.due }} {{ facts.page }}"}
      call.home: {title: "{{ size(facts.labels) }} {{ facts.busy }}"}
"""


def program(propensity: str = "0.5", nothing: str = "nothing") -> dict[str, bytes]:
    return {"program.yaml": PROGRAM.replace("PROPENSITY", propensity).replace("NOTHING", nothing).encode()}


@pytest.fixture
def subject(tmp_path: Path) -> Iterator[EngineSubject]:
    with EngineSubject(tmp_path) as made:
        made.load(program(), NOW)
        yield made


@pytest.fixture
def desk(subject: EngineSubject) -> Iterator[DeskHolder]:
    made = DeskHolder(subject.engine.plan)
    yield made
    made.close()


def asked() -> decision_pb2.DecideRequest:
    return decision_pb2.DecideRequest(
        channel="web", placements=[decision_pb2.PlacementRequest(name="home")],
        identifiers=[values_pb2.Identifier(namespace="crm", value="7")],
    )  # fmt: skip


def answer(desk: DeskHolder, request: decision_pb2.DecideRequest) -> decision_pb2.DecideResponse:
    got = desk.decide(request.SerializeToString())
    assert desk.code == DONE
    assert got is not None
    return decision_pb2.DecideResponse.FromString(got)


# --- limits -------------------------------------------------------------------------------------------------------

Change = Callable[[decision_pb2.DecideRequest], object]


def value(request: decision_pb2.DecideRequest, name: str) -> values_pb2.Value:
    return request.facts[name]


def members(count: int, size: int = 1) -> list[str]:
    return [f"{number:0{size}d}" for number in range(count)]


FINE: dict[str, Change] = {
    "16 identifiers": lambda asked: [asked.identifiers.add(namespace="crm", value=str(one)) for one in range(15)],
    "an identifier of 256 bytes": lambda asked: asked.identifiers.add(namespace="email", value=f" {'Ä' * 128} "),
    "a telephone number": lambda asked: asked.identifiers.add(namespace="phone", value="0049 (30) 123-45.67"),
    "100 slots": lambda asked: setattr(asked.placements[0], "slots", 100),
    "two placements": lambda asked: asked.placements.add(name="side", slots=3),
    "a string of 1024 bytes": lambda asked: setattr(value(asked, "reason"), "string_value", "ä" * 512),
    "256 members": lambda asked: value(asked, "labels").set_value.members.extend(members(256, 1024)),
    "256 members twice": lambda asked: value(asked, "labels").set_value.members.extend(members(256) * 2),
    "an int for a double": lambda asked: setattr(value(asked, "weight"), "int_value", -(2**63)),
    "a label": lambda asked: setattr(value(asked, "page"), "string_value", "cart"),
    "an amount nothing reads": lambda asked: value(asked, "unread").money_value.MergeFrom(
        values_pb2.Money(minor=5, currency="EUR")
    ),
    "the explain level that says nothing": lambda asked: setattr(asked, "explain", 1),
    "a budget of ten thousand years": lambda asked: setattr(asked.time_budget, "seconds", 315_576_000_000),
}

LEFT: dict[str, Change] = {
    "17 identifiers": lambda asked: [asked.identifiers.add(namespace="crm", value=str(one)) for one in range(16)],
    "an identifier of 257 bytes": lambda asked: asked.identifiers.add(namespace="email", value="ä" * 128 + "x"),
    "an empty identifier": lambda asked: asked.identifiers.add(namespace="crm"),
    "an identifier of blanks": lambda asked: asked.identifiers.add(namespace="email", value="  "),
    "no telephone number": lambda asked: asked.identifiers.add(namespace="phone", value="123"),
    "an undeclared namespace": lambda asked: asked.identifiers.add(namespace="cookie", value="1"),
    "an undeclared channel": lambda asked: setattr(asked, "channel", "shop"),
    "no channel": lambda asked: asked.ClearField("channel"),
    "no placement": lambda asked: asked.ClearField("placements"),
    "an undeclared placement": lambda asked: asked.placements.add(name="foot"),
    "another channel's placement": lambda asked: asked.MergeFrom(
        decision_pb2.DecideRequest(channel="call", placements=[decision_pb2.PlacementRequest(name="side")])
    ),
    "a placement twice": lambda asked: asked.placements.add(name="home"),
    "101 slots": lambda asked: setattr(asked.placements[0], "slots", 101),
    "an undeclared fact": lambda asked: setattr(value(asked, "cash"), "int_value", 1),
    "a fact of no kind": lambda asked: value(asked, "items").SetInParent(),
    "the wrong kind": lambda asked: setattr(value(asked, "items"), "double_value", 1.0),
    "a number for a text": lambda asked: setattr(value(asked, "reason"), "int_value", 1),
    "a text for a set": lambda asked: setattr(value(asked, "labels"), "string_value", "x"),
    "a bool for an int": lambda asked: setattr(value(asked, "items"), "bool_value", True),
    "the int that means missing": lambda asked: setattr(value(asked, "items"), "int_value", -(2**63)),
    "no number": lambda asked: setattr(value(asked, "weight"), "double_value", float("nan")),
    "a foreign label": lambda asked: setattr(value(asked, "page"), "string_value", "foot"),
    "another currency": lambda asked: value(asked, "cart").money_value.MergeFrom(values_pb2.Money(minor=5, currency="USD")),
    "no currency": lambda asked: setattr(value(asked, "unread").money_value, "minor", 5),
    "a time after the year 9999": lambda asked: setattr(value(asked, "due").timestamp_value, "seconds", 253_402_300_800),
    "negative nanos": lambda asked: setattr(value(asked, "due").timestamp_value, "nanos", -1),
    "a string of 1025 bytes": lambda asked: setattr(value(asked, "reason"), "string_value", "x" * 1025),
    "257 members": lambda asked: value(asked, "labels").set_value.members.extend(members(257)),
    "a member of 1025 bytes": lambda asked: value(asked, "labels").set_value.members.append("x" * 1025),
    "reasons": lambda asked: setattr(asked, "explain", 3),
    "an explain level nobody knows": lambda asked: setattr(asked, "explain", 9),
    "an event of the moment": lambda asked: asked.events.add(type="view", key="1"),
    "no budget": lambda asked: setattr(asked.time_budget, "nanos", 999),
    "a negative budget": lambda asked: setattr(asked.time_budget, "seconds", -1),
    "a moment before the year 1": lambda asked: setattr(asked.as_of, "seconds", -62_135_596_801),
}


@pytest.mark.parametrize("what", FINE)
def test_what_a_limit_allows_is_answered(desk: DeskHolder, subject: EngineSubject, what: str) -> None:
    request = asked()
    request.seed, request.as_of.seconds = 3, NOW // 1_000_000
    FINE[what](request)
    got, expected = answer(desk, request), convert.answer_to(subject.engine.decide(convert.request_from(request, None)))
    got.took_ns = expected.took_ns = 0
    assert got == expected
    assert got.placements[0].offers


@pytest.mark.parametrize("what", LEFT)
def test_what_is_wrong_or_rare_is_left(desk: DeskHolder, what: str) -> None:
    request = asked()
    LEFT[what](request)
    assert desk.decide(request.SerializeToString()) is None
    assert desk.code == ELSEWHERE
    # And nothing of it is left behind.
    answer(desk, asked())


def test_counts_are_bounded_before_memory_is_taken(desk: DeskHolder) -> None:
    fact = decision_pb2.DecideRequest(facts={"items": values_pb2.Value(int_value=1)}).SerializeToString()
    placement = decision_pb2.DecideRequest(placements=[decision_pb2.PlacementRequest(name="home")]).SerializeToString()
    data = asked().SerializeToString()
    assert desk.decide(data + fact * limits.FACTS_PER_REQUEST) is not None
    # The library keeps the last of a map's equal keys; counting them is dearer than letting it.
    assert desk.decide(data + fact * (limits.FACTS_PER_REQUEST + 1)) is None
    assert desk.decide(data + placement * 1000) is None
    large = decision_pb2.DecideRequest(identifiers=[values_pb2.Identifier(namespace="crm", value="x" * (1 << 20))])
    assert desk.decide(data + large.SerializeToString()) is None
    assert desk.decide(b"") is None


# --- the wire -----------------------------------------------------------------------------------------------------


def field(number: int, kind: int, data: bytes = b"") -> bytes:
    """A field with its tag; a length-delimited one with its length."""
    return varint(number << 3 | kind) + (varint(len(data)) + data if kind == BYTES else data)


def fact(name: str, *values: bytes) -> bytes:
    """A fact whose Value comes in so many parts."""
    return field(4, BYTES, field(1, BYTES, name.encode()) + b"".join(field(2, BYTES, each) for each in values))


def of_set(*members: bytes) -> bytes:
    return field(7, BYTES, b"".join(field(1, BYTES, each) for each in members))


EURO = field(2, BYTES, b"EUR")

# What follows an ordinary request; True: the desk answers, and as the library understands it.
WIRE: dict[str, tuple[bytes, bool]] = {
    "foreign fields of every wire type": (
        field(11, VARINT, b"\x05") + field(2047, FIXED64, b"8 bytes.") + field(12, BYTES, b"\xff") + field(99, FIXED32, b"four"),
        True,
    ),
    "foreign fields inside": (
        field(1, BYTES, field(1, BYTES, b"crm") + field(3, VARINT, b"\x01") + field(2, BYTES, b"7"))
        + fact("cart", field(5, BYTES, field(1, VARINT, b"\x07") + field(9, BYTES) + EURO) + field(15, FIXED32, b"four")),
        True,
    ),
    "a number in more bytes than it needs": (field(10, VARINT, b"\x81\x80\x80\x00"), True),
    "a number of ten bytes": (field(9, VARINT, b"\xff" * 9 + b"\x01"), True),
    "a number of 65 bits": (field(9, VARINT, b"\xff" * 9 + b"\x02"), False),
    "a number of eleven bytes": (field(9, VARINT, b"\x80" * 10 + b"\x01"), False),
    "a number said twice": (field(10, VARINT, b"\x01") + field(10, VARINT, b"\x00"), True),
    "the field number 0": (b"\x02\x00", False),
    "a tag of more than 32 bits": (varint(1 << 35 | 10 << 3) + b"\x01", False),
    # The library takes either in five bytes and refuses a sixth, whatever its bits.
    "a tag in five bytes": (b"\xd0\x80\x80\x80\x00\x01", True),
    "a tag in six bytes": (b"\xd0\x80\x80\x80\x80\x00\x01", False),
    "a length in five bytes": (b"\x62\x83\x80\x80\x80\x00web", True),
    "a length in six bytes": (b"\x62\x83\x80\x80\x80\x80\x00web", False),
    "a group": (field(11, 3) + field(11, 4), False),
    "the end of a group": (field(11, 4), False),
    "another wire type than the field's": (field(2, VARINT, b"\x01"), False),
    "a channel twice, the first not UTF-8": (field(2, BYTES, b"\xff") + field(2, BYTES, b"web"), False),
    "a text that is not UTF-8": (fact("reason", field(4, BYTES, b"\xed\xa0\xbd")), False),
    "a member that is not UTF-8": (fact("labels", of_set(b"fine", b"\xc0\x80")), False),
    "an identifier that is not UTF-8": (field(1, BYTES, field(1, BYTES, b"email") + field(2, BYTES, b"a\xff")), False),
    "a fact twice, the later holds": (
        fact("reason", field(4, BYTES, b"one"))
        + fact("weight", field(2, VARINT, b"\x03"))
        + fact("reason", field(4, BYTES, b"two")),
        True,
    ),
    "a fact's value in two parts": (fact("labels", of_set(b"a"), of_set(b"b")), False),
    "a value of a kind twice": (fact("labels", of_set(b"a") + of_set(b"b")), False),
    "a value of two kinds": (fact("reason", field(2, VARINT, b"\x01") + field(4, BYTES, b"x")), False),
    "a foreign field in a map's entry": (
        field(4, BYTES, field(1, BYTES, b"reason") + field(2, BYTES, field(4, BYTES, b"x")) + field(3, VARINT, b"\x01")),
        False,
    ),
    "a fact's value before its name": (
        field(4, BYTES, field(2, BYTES, field(4, BYTES, b"x")) + field(1, BYTES, b"reason")),
        True,
    ),
    "a budget in two parts": (field(7, BYTES, field(1, VARINT, b"\x05")) + field(7, BYTES, field(2, VARINT, b"\x05")), False),
    "a moment in two parts": (field(8, BYTES, field(1, VARINT, b"\x05")) + field(8, BYTES), False),
    "a length past the end": (b"\x62\x05four", False),
    "a number without its end": (field(9, VARINT, b"\x80"), False),
    "half a fixed field": (field(11, FIXED64, b"seven.."), False),
}


@pytest.mark.parametrize("what", WIRE)
def test_the_wire_is_read_as_the_library_reads_it(desk: DeskHolder, subject: EngineSubject, what: str) -> None:
    behind, answered = WIRE[what]
    data = asked().SerializeToString() + behind
    got = desk.decide(data)
    assert (desk.code, got is not None) == ((DONE, True) if answered else (ELSEWHERE, False))
    if got is not None:
        mine = decision_pb2.DecideResponse.FromString(got)
        request = convert.request_from(decision_pb2.DecideRequest.FromString(data), None)
        as_of_us = mine.as_of.seconds * 1_000_000 + mine.as_of.nanos // 1000
        theirs = convert.answer_to(subject.engine.decide(replace(request, as_of_us=as_of_us, seed=mine.seed)))
        mine.took_ns = theirs.took_ns = 0
        assert mine == theirs
        assert request.seed in (None, mine.seed)


# --- clock and seed -----------------------------------------------------------------------------------------------


def test_clock_and_seed_are_the_desks_own_where_the_request_says_none(desk: DeskHolder, subject: EngineSubject) -> None:
    before = time.time()
    got = [answer(desk, asked()) for _ in range(200)]
    other = DeskHolder(subject.engine.plan)
    got += [answer(other, asked()) for _ in range(200)]
    other.close()
    assert len({one.seed for one in got}) == len({one.decision for one in got}) == 400
    moments = [one.as_of.seconds + one.as_of.nanos / 1e9 for one in got]
    assert before - 1e-3 <= min(moments) <= max(moments) <= time.time() + 1e-3
    # All bits are used: 400 seeds of 64 have each bit 200 times, give or take.
    for bit in range(64):
        assert 100 < sum(one.seed >> bit & 1 for one in got) < 300, bit


def test_a_budget_counts_from_arrival_and_the_nearer_of_two_ends_holds(desk: DeskHolder) -> None:
    request = asked()
    request.time_budget.nanos = 1000
    late = answer(desk, request).placements[0]
    assert late.status == decision_pb2.SLOT_STATUS_FALLBACK_DEADLINE
    assert dict(late.fallback) == {"title": "nothing", "note": "Grüße"}
    data = request.SerializeToString()
    assert desk.decide(data, 10_000_000) is not None
    request.time_budget.seconds = 10
    assert answer(desk, request).placements[0].status == decision_pb2.SLOT_STATUS_OK
    # The call's own deadline had passed before anything was done.
    assert desk.decide(request.SerializeToString(), 0) is None
    assert desk.code == EXPIRED
    assert desk.decide(b"no request", 0) is None
    assert desk.code == EXPIRED


# --- models -------------------------------------------------------------------------------------------------------


def test_a_model_that_may_be_waited_for_makes_a_decision_slow(subject: EngineSubject) -> None:
    for model in small_models():
        subject.registry.deploy(model.name, 1, model.onnx, model.description)
    subject.load(program("{model: by_offer}"), NOW)
    runner = subject.registry.live()["by_offer"].runner
    desk = DeskHolder(subject.engine.plan)
    request = asked().SerializeToString()

    def code(base_ns: float, row_ns: float, deadline_us: int | None = None) -> int:
        runner.run_on_callers_thread(base_ns, row_ns)
        desk.decide(request, deadline_us)
        return desk.code

    assert code(1_000.0, 100.0) == DONE
    # Longer than a thread that serves others may be held, or than leaves room before the deadline.
    assert code(2_000_000.0, 0.0) == SLOW
    assert code(0.0, 2_000_000.0) == SLOW
    assert code(900_000.0, 0.0, 1_000_000) == DONE
    assert code(900_000.0, 0.0, 10_000) == SLOW
    # No time for models at all: they are late at once, and nobody waits.
    assert code(900_000.0, 0.0, 1_000) == DONE
    desk.may_wait = True
    assert code(2_000_000.0, 0.0) == DONE
    assert answer(desk, asked()).placements[0].offers[0].model == "by_offer/1"
    desk.close()


# --- what a desk holds --------------------------------------------------------------------------------------------


def test_a_desk_answers_from_its_plan_until_it_is_closed(subject: EngineSubject, desk: DeskHolder) -> None:
    subject.load(program(nothing="something"), NOW)
    assert answer(desk, asked()).program == "tiny@1"
    second = DeskHolder(subject.engine.plan)
    assert answer(second, asked()).program == "tiny@2"
    second.close()
    second.close()
    assert second.decide(asked().SerializeToString()) is None
    assert second.code == ELSEWHERE


def test_desks_of_several_threads_see_what_is_kept_at_once(subject: EngineSubject) -> None:
    """Four threads decide at their desks while the customer's age and the program change under them."""
    wrong: list[str] = []
    stop = threading.Event()
    answered = [0] * 4

    def serve(place: int) -> None:
        mine = DeskHolder(subject.engine.plan)
        while not stop.is_set():
            if mine.plan is not subject.engine.plan:
                mine.close()
                mine = DeskHolder(subject.engine.plan)
            got = answer(mine, asked())
            offer = got.placements[0].offers[0]
            # Nine euros for whoever is known to be older than 3, ten for others.
            if offer.price.amount.minor not in (900, 1000) or got.program != mine.plan.version:
                wrong.append(str(got))
            answered[place] += 1
        mine.close()

    threads = [threading.Thread(target=serve, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    who = (Identifier("crm", "7"),)
    for age in range(40):
        subject.store.apply(mutations.Upsert(identifiers=who, attributes=mutations.cells({"age": age}), at_us=NOW + age))
        if age % 10 == 0:
            subject.load(program(nothing=f"version {age}"), NOW + age)
        mine = DeskHolder(subject.engine.plan)
        offer = answer(mine, asked()).placements[0].offers[0]
        assert offer.price.amount.minor == (900 if age > 3 else 1000)
        mine.close()
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[0]
    assert all(answered), answered


@pytest.mark.damages("a record is damaged")
def test_a_damaged_record_is_not_answered_from(tmp_path: Path) -> None:
    with EngineSubject(tmp_path) as subject:
        subject.load(program(), NOW)
        who = (Identifier("crm", "7"),)
        subject.store.apply(mutations.Upsert(identifiers=who, attributes=mutations.cells({"age": 5}), at_us=NOW))
    subprocess.run(
        [
            sys.executable, "-c",
            "import lmdb, sys; e = lmdb.open(sys.argv[1], max_dbs=8); t = e.begin(write=True)\n"
            "d = e.open_db(b'profiles', t, integerkey=True, create=False); k, v = next(iter(t.cursor(d)))\n"
            "t.put(k, v[:-1] + bytes([v[-1] ^ 1]), db=d); t.commit(); e.close()",
            str(tmp_path / "store"),
        ],
        check=True,
    )  # fmt: skip
    with Store.open(tmp_path / "store", map_bytes=1 << 28) as store:
        desk, request = _reopened(store)
        assert desk.decide(request) is None
        assert desk.code == FAILED
        # Others are served.
        answer(desk, decision_pb2.DecideRequest(channel="web", placements=[decision_pb2.PlacementRequest(name="home")]))
        desk.close()


def _reopened(store: Store) -> tuple[DeskHolder, bytes]:
    from core.engine import Engine
    from core.inference.registry import Registry

    engine = Engine(store, Registry(None))
    request = asked()
    with pytest.raises(StoreCorrupt):
        engine.decide(convert.request_from(request, None))
    desk = DeskHolder(engine.plan)
    engine.close()
    return desk, request.SerializeToString()
