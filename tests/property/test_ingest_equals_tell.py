"""A feed means what the unary calls mean: random items, good and bad, spoilt as bytes too, sent both ways to two stores.

RAPPORT_CASES sets how many messages (default 300), RAPPORT_SEED the first seed.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from google.protobuf import timestamp_pb2
from google.protobuf.message import DecodeError

from core.decision import Identifier
from core.engine import Engine
from core.errors import BadValue, IdentityConflict, NotFound, NotUndoable, RapportError, TooLarge
from core.hub import ingest
from core.hub.mutations import IngestBatch, IngestBatches, Join, Unmerge
from core.hub.store import Store
from core.inference.registry import Registry
from core.schema import EventType, Field, Namespace, Normaliser, Schema, ValueType
from protos.rapport.v1 import ingest_pb2, values_pb2
from server.services.items import Items
from server.services.streams import Message, Stream
from tests.property.spoiling import altered, damaged

CASES = max(40, min(int(os.environ.get("RAPPORT_CASES", "300")), 20_000))
SEED = int(os.environ.get("RAPPORT_SEED", "20261126"))
NOW_US = 1_800_000_000_000_000
SCHEMA = Schema(
    attributes={
        "age": Field("age", ValueType.INT), "name": Field("name", ValueType.STRING),
        "city": Field("city", ValueType.STRING, sources=("crm", "web")),
    },
    events={
        "visit": EventType("visit", (Field("page", ValueType.STRING), Field("seconds", ValueType.DOUBLE))),
        "order": EventType("order", (
            Field("amount", ValueType.MONEY, currency="EUR"), Field("lines", ValueType.INT), Field("gift", ValueType.BOOL),
            Field("due", ValueType.TIMESTAMP), Field("way", ValueType.ENUM, labels=("post", "van")),
        )),
    },
    namespaces={
        "crm": Namespace("crm", trust=9), "email": Namespace("email", Normaliser.LOWER, 5, verified=True),
        "phone": Namespace("phone", Normaliser.E164, 3, single=True), "cookie": Namespace("cookie"),
    },
    purposes=("ads",),
)
TEXTS = ("home", "", "ü", "x" * 1024, "x" * 1025, "a\0b")
VALUES = {
    "bool_value": (True, False), "int_value": (0, 7, -1, 2**63 - 1, -(2**63)), "double_value": (0.5, -1e300, math.inf, math.nan),
    "string_value": (*TEXTS, "post", "van", "train"),
}


def value(chance: random.Random, wanted: str) -> values_pb2.Value:
    """Mostly of the wanted kind."""
    kind = wanted if chance.random() < 0.95 else chance.choice((*VALUES, "money_value", "timestamp_value", ""))
    made = values_pb2.Value()
    if kind in VALUES:
        common = VALUES[kind][:2] if chance.random() < 0.9 else VALUES[kind]
        setattr(made, kind, chance.choice(common))
    elif kind == "enum":
        made.string_value = chance.choice(("post", "van", "van", "van", "train"))
    elif kind == "money_value":
        made.money_value.minor = chance.choice((1999, 0, -5, -(2**63)) if chance.random() < 0.1 else (1999, 5))
        made.money_value.currency = "EUR" if chance.random() < 0.97 else chance.choice(("USD", ""))
    elif kind == "timestamp_value":
        made.timestamp_value.seconds = chance.randrange(10**9) if chance.random() < 0.97 else 10**12
    return made


def item(chance: random.Random, seq: int) -> ingest_pb2.IngestItem:
    made = ingest_pb2.IngestItem(seq=seq)
    for space in chance.sample(("crm", "email", "phone", "cookie"), chance.choice((1, 1, 1, 2, 3))):
        text = f"+35191234{chance.randrange(4)}" if space == "phone" else f"u{chance.randrange(6)}"
        made.identifiers.add(namespace=space, value=chance.choice((text, f" {text} ", text.upper())))
    if chance.random() < 0.02:
        made.identifiers.add(namespace=chance.choice(("crm", "nobody")), value=chance.choice(("", "x" * 257)))
    what = chance.random()
    if what < 0.1:
        made.attributes.attributes["age"].CopyFrom(value(chance, "int_value"))
        if chance.random() < 0.5:
            made.attributes.attributes["city"].string_value = "Porto"
            made.attributes.source = chance.choice(("crm", "web", ""))
        made.attributes.at.seconds = chance.randrange(1000)
    elif what < 0.2:
        made.consent.purpose = chance.choice(("ads", "ads", "spam"))
        made.consent.granted = chance.random() < 0.5
        made.consent.at.seconds = chance.randrange(1000)
    elif what < 0.98:
        event = made.event
        event.type = chance.choice(("visit", "order")) if chance.random() < 0.98 else chance.choice(("", "order ", "nothing"))
        event.key = f"k{chance.randrange(400)}" if chance.random() < 0.98 else chance.choice(("", "y" * 256, "y" * 257))
        if chance.random() < 0.9:
            event.at.seconds = chance.randrange(2_000) if chance.random() < 0.98 else chance.choice((-1, 2_000_000_000, 10**12))
            event.at.nanos = chance.choice((0, 1500, 999_999_999))
        kinds = {"page": "string_value", "seconds": "double_value"} if event.type == "visit" else {
            "amount": "money_value", "lines": "int_value", "gift": "bool_value", "due": "timestamp_value", "way": "enum",
        }
        for name, kind in kinds.items():
            if chance.random() < 0.7:
                event.fields[name].CopyFrom(value(chance, kind))
        if chance.random() < 0.02:
            event.fields["other"].int_value = 1
    return made


def spoilt(chance: random.Random, data: bytes) -> bytes:
    if chance.random() < 0.95:
        return data
    return altered(chance, data) if chance.random() < 0.8 else damaged(chance, data)


def request(items: list[bytes]) -> bytes:
    return b"".join(b"\x0a" + _varint(len(each)) + each for each in items)


def _varint(number: int) -> bytes:
    return bytes([number & 0x7F | 0x80]) + _varint(number >> 7) if number > 0x7F else bytes([number])


class Fed:
    """A store that is told by a feed, through what the service has."""

    def __init__(self, store: Store, engine: Engine) -> None:
        self.store = store
        self.items = Items(store, engine, lambda: NOW_US)
        self.stream = Stream(iter(()), self.items.take, lambda _: iter(()))  # its queue's patience is all that is used

    def take(self, data: bytes) -> dict[int, tuple[str, str]]:
        settled = threading.Event()
        message: Message = self.items.take(self.stream, data)
        message.taken(settled.set)
        assert settled.wait(60)
        assert message.fatal is None
        return {seq: told(error) for seq, error in message.failures}


def told(error: BaseException) -> tuple[str, str]:
    assert isinstance(error, RapportError), error
    return error.reason, error.message


def singly(store: Store, items: Items, datas: list[bytes]) -> dict[int, tuple[str, str]]:
    """Items by the library and the mutations of their unary calls, in this order; why those refused were."""
    failed: dict[int, tuple[str, str]] = {}
    waiting = []
    for data in datas:
        message = ingest_pb2.IngestItem.FromString(data)
        try:
            waiting.append((message.seq, store.submit(items.mutation(message, NOW_US, store.catalog))))
        except RapportError as error:
            failed[message.seq] = told(error)
    for seq, future in waiting:
        refused = future.exception(60)
        if refused is not None:
            failed[seq] = told(refused)
    return failed


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[Fed, Store, Items]]:
    (tmp_path / "models").mkdir()
    with Store.open(tmp_path / "fed") as fed, Store.open(tmp_path / "told") as other:
        registry = Registry(tmp_path / "models")
        engines = [Engine(store, registry) for store in (fed, other)]
        for store in (fed, other):
            store.declare(SCHEMA, ["card"], ["web"])
        yield Fed(fed, engines[0]), other, Items(other, engines[1], lambda: NOW_US)
        for engine in engines:
            engine.close()
        registry.close()


def same(fed: Store, other: Store) -> None:
    assert list(fed.customers()) == list(other.customers())
    for customer in other.customers():
        assert fed.profile_of(customer) == other.profile_of(customer)


def test_a_feed_equals_single_calls(both: tuple[Fed, Store, Items]) -> None:
    fed, other, items = both
    read = refused = unreadable = 0
    print(f"seed {SEED}, {CASES} messages")
    for case in range(CASES):
        chance = random.Random(SEED + case)
        fed.items._last = 0
        datas = [spoilt(chance, item(chance, seq).SerializeToString()) for seq in range(1, chance.randrange(2, 30))]
        try:
            parsed = [ingest_pb2.IngestItem.FromString(data) for data in datas]
        except DecodeError:
            parsed = []
        numbers = [0, *(one.seq for one in parsed)]
        if not parsed or any(one >= two for one, two in pairwise(numbers)):
            # A spoilt number or no item at all: nothing of such a message is taken.
            with pytest.raises(BadValue):
                fed.take(request(datas))
            unreadable += 1
            continue
        failed = fed.take(request(datas))
        assert failed == singly(other, items, datas), f"seed {SEED + case}"
        refused += len(failed)
        read += len(datas) - len(failed)
        if case % 20 == 0:
            same(fed.store, other)
            who = [one for one in parsed[0].identifiers if not failed.get(1)]
            if len(who) > 1:
                for store in (fed.store, other):
                    with contextlib.suppress(IdentityConflict):
                        store.apply(Join(identifiers=tuple(map(_core, who)), at_us=NOW_US))
    same(fed.store, other)
    assert fed.store.check().faults == ()
    print(f"{read} items kept, {refused} refused, {unreadable} messages not read")
    assert min(read, refused, unreadable) > CASES // 20


def test_batches_merged_as_one_equal_each_by_itself(both: tuple[Fed, Store, Items], monkeypatch: pytest.MonkeyPatch) -> None:
    """A feed that wrote each batch of 64 by itself rewrote a customer's list once for each of them that is about him. As one they
    must make the same customers in the same order, and say the same of each item; so must those that are too large to be one."""
    fed, other = both[0].store, both[1]
    joined = parted = 0
    print(f"seed {SEED}, {CASES // 4} rounds")
    for case in range(CASES // 4):
        chance = random.Random(SEED + case)
        monkeypatch.setattr(ingest, "JOINED_BYTES", chance.choice((64 << 20, 64 << 20, 300)))
        made = [item(chance, seq) for seq in range(1, chance.randrange(3, 60))]
        happened = [each.SerializeToString() for each in made if each.HasField("event")]
        _, pieces = ingest.ItemReader(other.catalog).read(request(happened), NOW_US, chance.choice((1, 3, 16)))
        batches = [piece for piece in pieces if isinstance(piece, IngestBatch)]
        if not batches:
            continue
        alone = [other.apply(batch) for batch in batches]
        together = IngestBatches(batches=tuple(batches))
        places = sorted(chance.sample(range(together.whole().rows), min(4, together.whole().rows)))
        assert together.part(places) == together.whole().part(places)
        if chance.random() < 0.5:
            found = [future.result(60) for future in [fed.submit(batch, background=True) for batch in batches]]
        else:
            try:
                found = fed.apply(together)
                joined += 1
            except TooLarge:
                found = [fed.apply(batch) for batch in batches]
                parted += 1
        for one, each in zip(found, alone, strict=True):
            assert one.created == each.created, f"seed {SEED + case}"
            assert [(at, told(why)) for at, why in one.failures] == [(at, told(why)) for at, why in each.failures]
        if case % 10 == 0:
            same(fed, other)
            who = tuple(map(_core, made[0].identifiers))
            for store in (fed, other):
                with contextlib.suppress(RapportError):
                    store.apply(Join(identifiers=who, at_us=NOW_US))
    same(fed, other)
    # What was kept to take joins back must be the same, too.
    undone = 0
    for customer in list(other.customers()):
        kept = other.profile_of(customer)
        if kept is None:
            continue
        for store in (fed, other):
            with contextlib.suppress(NotFound, NotUndoable):
                store.apply(Unmerge(identifiers=kept.identifiers[:1], at_us=NOW_US))
                undone += 1
    same(fed, other)
    assert fed.check().faults == ()
    assert min(joined, parted) > CASES // 100
    assert undone


def _core(identifier: values_pb2.Identifier) -> Identifier:
    return Identifier(identifier.namespace, identifier.value)


def test_what_clients_commonly_send_needs_no_library(both: tuple[Fed, Store, Items]) -> None:
    """Without this the test above would pass with a reader that leaves everything to the library."""
    fed = both[0]
    made = ingest_pb2.IngestItem(seq=1)
    made.identifiers.add(namespace="phone", value="00351 912 345 678")
    made.event.type, made.event.key = "order", "o1"
    made.event.at.seconds = 1
    made.event.fields["amount"].money_value.minor = 1999
    made.event.fields["amount"].money_value.currency = "EUR"
    made.event.fields["lines"].int_value = -1
    made.event.fields["gift"].bool_value = False
    made.event.fields["due"].timestamp_value.seconds = 5
    made.event.fields["way"].string_value = "van"
    seqs, pieces = ingest.ItemReader(fed.store.catalog).read(request([made.SerializeToString()] * 5), NOW_US, 2)
    assert seqs == [1] * 5
    assert [piece.rows for piece in pieces if isinstance(piece, IngestBatch)] == [2, 2, 1]


@pytest.mark.parametrize("name", ingest.NUMBERS)
def test_the_reader_knows_the_protos_numbers(name: str) -> None:
    found = {**ingest_pb2.DESCRIPTOR.message_types_by_name, **values_pb2.DESCRIPTOR.message_types_by_name}
    message = found[name] if name in found else timestamp_pb2.DESCRIPTOR.message_types_by_name[name]
    assert ingest.NUMBERS[name] == {field: message.fields_by_name[field].number for field in ingest.NUMBERS[name]}
