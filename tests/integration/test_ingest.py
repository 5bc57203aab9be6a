"""Feeds over the wire, against a server as people run it: acknowledgements, failures, ends of every kind, and resuming."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from core import limits
from core.decision import Identifier
from core.engine import Engine
from core.hub.customer_profile import StoredEvent
from core.hub.mutations import Upsert
from core.hub.store import Store
from core.inference.registry import Registry
from core.schema import EventType, Field, Namespace, Schema, ValueType
from protos.rapport.v1 import decision_pb2, ingest_pb2, profile_pb2
from protos.rapport.v1.decision_pb2_grpc import DecisionServiceStub
from protos.rapport.v1.ingest_pb2_grpc import IngestServiceStub
from protos.rapport.v1.profile_pb2_grpc import ProfileServiceStub
from server.services.ingest import IngestService
from tests.feeds import Feed, named, serving, visit

SECONDS = 60


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[grpc.Channel, grpc.Channel]]:
    with serving(tmp_path_factory.mktemp("server")) as (_, control, decisions):
        yield control, decisions


def profile(control: grpc.Channel, customer: str) -> profile_pb2.GetProfileResponse:
    return ProfileServiceStub(control).GetProfile(
        profile_pb2.GetProfileRequest(identifiers=[named(customer)], events=1000), timeout=SECONDS
    )


def ended(feed: Feed) -> tuple[list[ingest_pb2.IngestResponse], grpc.StatusCode, str]:
    """What it still says, the status, and the reason beside it."""
    said: list[ingest_pb2.IngestResponse] = []
    try:
        said.extend(feed.call)
    except grpc.RpcError as error:
        info = error_details_pb2.ErrorInfo()
        assert isinstance(error, grpc.Call)  # noqa: PT017 - for the types
        for detail in getattr(rpc_status.from_call(error), "details", ()):
            detail.Unpack(info)
        return said, feed.call.code(), info.reason
    return said, feed.call.code(), ""


def test_acknowledgements_rise_and_the_last_covers_everything(running: tuple[grpc.Channel, grpc.Channel]) -> None:
    control, _ = running
    feed = Feed(control)
    for start in range(1, 5000, 500):
        feed.send(*[visit(seq, f"rise{seq % 50}") for seq in range(start, start + 500)])
    feed.half_close()
    said, code, _ = ended(feed)
    acked = [answer.acked for answer in said]
    assert code is grpc.StatusCode.OK
    assert acked == sorted(set(acked))
    assert acked[-1] == 5000
    assert not any(answer.failures for answer in said)
    assert len(profile(control, "rise7").events) == 100


def test_what_is_acknowledged_is_seen_by_the_next_decision_on_another_connection(
    running: tuple[grpc.Channel, grpc.Channel],
) -> None:
    """The starter's offer summer_sale is for regulars: three visits of late, and consent."""
    control, decisions = running
    decide = DecisionServiceStub(decisions).Decide
    request = decision_pb2.DecideRequest(
        identifiers=[named("seen")], channel="web", placements=[decision_pb2.PlacementRequest(name="home_hero")]
    )
    feed = Feed(control)
    attributes = ingest_pb2.IngestAttributes()
    attributes.attributes["age"].int_value = 30
    attributes.attributes["first_name"].string_value = "Ana"
    feed.send(
        ingest_pb2.IngestItem(seq=1, identifiers=[named("seen")], attributes=attributes),
        visit(2, "seen"), visit(3, "seen"),
        ingest_pb2.IngestItem(
            seq=4, identifiers=[named("seen")], consent=ingest_pb2.IngestConsent(purpose="marketing", granted=True)
        ),
    )
    assert feed.answer().acked == 4
    before = decide(request, timeout=SECONDS)
    feed.send(visit(5, "seen"))
    assert feed.answer().acked == 5
    offer = decide(request, timeout=SECONDS).placements[0].offers[0]
    assert (before.placements[0].offers[0].offer, offer.offer) == ("newsletter", "summer_sale")
    # Its outcome by the feed: rejected twice, it is paused.
    for seq in (6, 7):
        offer = decide(request, timeout=SECONDS).placements[0].offers[0]
        assert offer.offer == "summer_sale"
        feed.send(ingest_pb2.IngestItem(seq=seq, outcome=decision_pb2.Outcome(token=offer.token, outcome="rejected")))
        answer = feed.answer()
        assert (answer.acked, list(answer.failures)) == (seq, [])
    assert decide(request, timeout=SECONDS).placements[0].offers[0].offer == "newsletter"
    feed.half_close()
    assert ended(feed) == ([], grpc.StatusCode.OK, "")


def test_an_outcome_acknowledged_on_one_connection_is_seen_on_another_while_a_feed_floods(tmp_path: Path) -> None:
    """Scenario 13 under load. The starter's program shows nobody more than 20 offers a day: after 20 acknowledged reports on one
    connection, the next decision on another has none left, for 30 customers one after the other."""
    placements = [decision_pb2.PlacementRequest(name="home_hero")]
    with serving(tmp_path) as (server, control, decisions):
        address = next(json.loads(line)["listen_decisions"] for line in server.seen if '"listening"' in line)
        with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as other:
            here, there = DecisionServiceStub(decisions), DecisionServiceStub(other)
            feed, over = Feed(control), threading.Event()

            def pour() -> None:
                seq = 0
                while not over.is_set():
                    feed.send(*[visit(seq + each, f"flood{each}") for each in range(1, 201)])
                    seq += 200
                    # Some messages ahead, so that the end of the test is the end of the feed.
                    while acked[-1] < seq - 2000 and not over.is_set():
                        acked.append(feed.answer().acked)
                feed.half_close()

            acked = [0]
            pouring = threading.Thread(target=pour)
            pouring.start()
            try:
                for number in range(30):
                    request = decision_pb2.DecideRequest(
                        identifiers=[named(f"capped{number}")], channel="web", placements=placements)
                    token = here.Decide(request, timeout=SECONDS).placements[0].offers[0].token
                    shown = [decision_pb2.Outcome(token=token, outcome="shown", key=str(each)) for each in range(20)]
                    results = here.Record(decision_pb2.RecordRequest(outcomes=shown), timeout=SECONDS).results
                    assert {result.status for result in results} == {decision_pb2.OUTCOME_STATUS_APPLIED}
                    assert not there.Decide(request, timeout=SECONDS).placements[0].offers
            finally:
                over.set()
                pouring.join()
            said, code, _ = ended(feed)
            assert code is grpc.StatusCode.OK
            assert acked + [answer.acked for answer in said] == sorted(acked + [answer.acked for answer in said])
            assert acked[-1] > 0


def test_failures_are_named_one_by_one_with_the_reasons_of_the_unary_calls(
    running: tuple[grpc.Channel, grpc.Channel],
) -> None:
    control, decisions = running
    feed = Feed(control)
    unknown = visit(2, "f", at_us=0)
    unknown.event.type = "vist"
    ahead = visit(3, "f")
    ahead.event.at.seconds = 4_000_000_000
    feed.send(
        visit(1, "f"), unknown, ahead, visit(4, ""), visit(5, "f", pag="home"),
        ingest_pb2.IngestItem(seq=6, outcome=decision_pb2.Outcome(token="nonsense", outcome="shown")),
        ingest_pb2.IngestItem(seq=7, identifiers=[named("f")]),
        ingest_pb2.IngestItem(seq=8, event=visit(8, "f").event),
        ingest_pb2.IngestItem(
            seq=9, identifiers=[named("f")], consent=ingest_pb2.IngestConsent(purpose="nothing", granted=True)
        ),
        visit(10, "f"),
    )
    feed.half_close()
    said, code, _ = ended(feed)
    failures = {each.seq: each.failure for answer in said for each in answer.failures}
    assert (code, said[-1].acked) == (grpc.StatusCode.OK, 10)
    assert {seq: failure.reason for seq, failure in failures.items()} == {
        2: "UNKNOWN_NAME", 3: "BAD_VALUE", 4: "BAD_VALUE", 5: "UNKNOWN_NAME", 6: "BAD_TOKEN", 7: "BAD_VALUE", 8: "BAD_VALUE",
        9: "UNKNOWN_NAME",
    }
    assert failures[2].metadata["nearest"] == "visit"
    assert all(failure.message for failure in failures.values())
    assert len(profile(control, "f").events) == 2
    # The same by Tell.
    with pytest.raises(grpc.RpcError) as raised:
        DecisionServiceStub(decisions).Tell(
            decision_pb2.TellRequest(identifiers=[named("f")], events=[unknown.event]), timeout=SECONDS
        )
    assert isinstance(raised.value, grpc.Call)
    assert raised.value.details() == failures[2].message


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (ingest_pb2.IngestRequest(items=[visit(5, "o"), visit(5, "o", "again")]), "BAD_VALUE"),
        (ingest_pb2.IngestRequest(items=[visit(0, "o")]), "BAD_VALUE"),
        (ingest_pb2.IngestRequest(items=[visit(3, "o")]), "BAD_VALUE"),
        (ingest_pb2.IngestRequest(), "BAD_VALUE"),
        (ingest_pb2.IngestRequest(items=[visit(seq, "o") for seq in range(5, 5 + limits.INGEST_ITEMS + 1)]), "TOO_LARGE"),
    ],
    ids=["twice", "none", "back", "empty", "many"],
)
def test_a_message_out_of_order_ends_the_stream_and_what_was_before_is_acknowledged(
    running: tuple[grpc.Channel, grpc.Channel], request_: ingest_pb2.IngestRequest, reason: str
) -> None:
    feed = Feed(running[0])
    feed.send(visit(4, "order"))
    feed.send(*request_.items)
    said, code, why = ended(feed)
    assert [answer.acked for answer in said] == [4]
    assert (code, why) == (grpc.StatusCode.INVALID_ARGUMENT, reason)


def test_streams_past_the_limit_are_told_to_come_back_and_other_calls_go_on(
    running: tuple[grpc.Channel, grpc.Channel],
) -> None:
    control, _ = running
    feeds = [Feed(control) for _ in range(limits.INGEST_STREAMS)]
    for feed in feeds:
        feed.send(visit(1, "many"))
        assert feed.answer().acked == 1
    assert ended(Feed(control)) == ([], grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert profile(control, "many").events
    for feed in feeds:
        feed.half_close()
        assert ended(feed)[1] is grpc.StatusCode.OK


def test_a_cancelled_stream_leaves_its_place_to_others(running: tuple[grpc.Channel, grpc.Channel]) -> None:
    control, _ = running
    for number in range(limits.INGEST_STREAMS + 2):
        feed = Feed(control)
        feed.send(visit(1, f"cancelled{number}"))
        assert feed.answer().acked == 1
        feed.send(*[visit(seq, f"cancelled{number}") for seq in range(2, 600)])
        feed.call.cancel()
        # Its place is free as soon as the server has heard of it: then the next is let in.
        while True:
            other = Feed(control)
            other.send(visit(1, "after"))
            other.half_close()
            said, code, _ = ended(other)
            if code is grpc.StatusCode.OK:
                assert said[-1].acked == 1
                break
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_an_event_sent_again_counts_once(running: tuple[grpc.Channel, grpc.Channel]) -> None:
    control, _ = running
    for _ in range(3):
        feed = Feed(control)
        feed.send(*[visit(seq, "again", key=f"a{seq % 20}") for seq in range(1, 41)])
        feed.half_close()
        assert ended(feed)[0][-1].acked == 40
    assert len(profile(control, "again").events) == 20


def test_a_drained_server_acknowledges_what_it_read_and_sends_the_feed_elsewhere(tmp_path: Path) -> None:
    with serving(tmp_path) as (server, control, _):
        feed = Feed(control)
        feed.send(visit(1, "drain"))
        assert feed.answer().acked == 1
        server.process.send_signal(signal.SIGTERM)
        said, code, reason = ended(feed)
        assert (said, code, reason) == ([], grpc.StatusCode.UNAVAILABLE, "DRAINING")
        assert server.process.wait(SECONDS) == 0


def test_a_feed_that_never_pauses_is_told_that_the_server_drains(tmp_path: Path) -> None:
    """Its stream ended with OK when reading stopped between two messages: everything after was lost, and nobody was told."""
    with serving(tmp_path) as (server, control, _):
        sent, ending = 0, threading.Event()

        def flood() -> Iterator[ingest_pb2.IngestRequest]:
            nonlocal sent
            while not ending.is_set():
                yield ingest_pb2.IngestRequest(items=[visit(sent + one, f"{one}") for one in range(1, 201)])
                sent += 200

        feed = Feed(control, flood())
        acked = feed.answer().acked
        server.process.send_signal(signal.SIGTERM)
        said, code, reason = ended(feed)
        ending.set()
        acked = said[-1].acked if said else acked
        # What a flood sent after the end resets the connection (RFC 1122, 4.2.2.13), on a busy machine before the reason is read.
        assert code is grpc.StatusCode.UNAVAILABLE
        assert reason in ("DRAINING", "")
        assert server.process.wait(SECONDS) == 0
    with Store.open(tmp_path / "store", read_only=True) as store:
        kept = sum(len(profile.events) for profile in map(store.profile_of, store.customers()) if profile)
    assert acked <= kept <= sent + 200


def test_a_killed_server_has_what_it_acknowledged_and_counts_nothing_twice_when_the_feed_goes_on(tmp_path: Path) -> None:
    total, each = 12_000, 200
    acked = 0
    for kill_after in (1, 7, 20, 0):
        with serving(tmp_path) as (server, control, _):
            feed = Feed(control)
            heard = 0
            # From the last acknowledgement, as a client that lost its stream does.
            for start in range(acked + 1, total + 1, each):
                feed.send(*[visit(seq, f"kill{seq % 30}") for seq in range(start, min(total, start + each - 1) + 1)])
            feed.half_close()
            try:
                for answer in feed.call:
                    assert answer.acked > acked
                    acked = answer.acked
                    heard += 1
                    if heard == kill_after:
                        server.process.kill()
            except grpc.RpcError:
                assert feed.call.code() is grpc.StatusCode.UNAVAILABLE
            server.process.kill()
            server.process.wait(SECONDS)
        with Store.open(tmp_path / "store", read_only=True) as store:
            kept = {event.key for customer in store.customers() for event in _events(store, customer)}
            count = sum(len(_events(store, customer)) for customer in store.customers())
            assert count == len(kept) >= acked
    assert acked == total == count


def _events(store: Store, customer: int) -> list[StoredEvent]:
    found = store.profile_of(customer)
    assert found is not None
    return list(found.events)


def test_a_flood_waits_with_its_sender_while_the_disk_does(tmp_path: Path) -> None:
    """The committer stands still, as behind a disk that does not answer. Of 60 MB the server takes what it may have on its way,
    and HTTP/2 keeps the rest with the client; when the disk is back, all of it is acknowledged."""
    (tmp_path / "models").mkdir()
    schema = Schema(
        events={"visit": EventType("visit", (Field("page", ValueType.STRING),))}, namespaces={"crm": Namespace("crm")}
    )
    messages, each = 400, 200
    sent = 0
    everything = threading.Event()

    def requests() -> Iterator[ingest_pb2.IngestRequest]:
        nonlocal sent
        for number in range(messages):
            sent += 1
            yield ingest_pb2.IngestRequest(
                items=[visit(number * each + at, f"c{at}", page="x" * 700) for at in range(1, each + 1)]
            )
        everything.set()

    with Store.open(tmp_path / "store") as store:
        store.declare(schema)
        registry = Registry(tmp_path / "models")
        engine = Engine(store, registry)
        service = IngestService(store, engine, str(tmp_path / "store"))
        server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[service.handlers()])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        still, go = threading.Event(), threading.Event()

        def stand(_: object) -> None:
            still.set()
            go.wait(SECONDS)

        # Callbacks run on the committer's thread, which is why they must be short.
        store.submit(Upsert(identifiers=(Identifier("crm", "c1"),), at_us=1)).add_done_callback(stand)
        assert still.wait(SECONDS)
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                call = IngestServiceStub(channel).Ingest(requests(), timeout=SECONDS)
                assert not everything.wait(3)
                (stream,) = service._streams
                assert stream._bytes <= limits.INGEST_BYTES_ON_THEIR_WAY + limits.MESSAGE_BYTES
                assert sent < messages // 2
                print(f"{sent} of {messages} messages left the client, {stream._bytes:,} bytes are on their way")
                go.set()
                acked = [answer.acked for answer in call]
                assert acked == sorted(acked)
                assert acked[-1] == messages * each
        finally:
            go.set()
            server.stop(0).wait()
            engine.close()
            registry.close()


def test_a_household_has_no_events(running: tuple[grpc.Channel, grpc.Channel]) -> None:
    """An event by an account's number would have gone into a list of the household's own, which nothing reads."""
    feed = Feed(running[0])
    strange = visit(1, "unused")
    strange.identifiers[0].CopyFrom(named("A-17", "account"))
    feed.send(strange, visit(2, "of-a-member"))
    answer = feed.answer()
    assert [(each.seq, each.failure.reason) for each in answer.failures] == [(1, "BAD_VALUE")]
    assert "identifiers[0].namespace: 'account' names households" in answer.failures[0].failure.message
    feed.half_close()
    assert ended(feed)[1] is grpc.StatusCode.OK


def test_an_item_that_is_no_message_is_named(running: tuple[grpc.Channel, grpc.Channel]) -> None:
    """The whole feed ended with "the bytes are not a IngestItem message", of whichever of its items."""
    broken = ingest_pb2.IngestItem(seq=3, identifiers=[named("broken")]).SerializeToString() + b"\x1a\x03\x0a\x01\xff"
    items = [visit(2, "whole").SerializeToString(), broken]
    raw = b"".join(b"\x0a" + bytes([len(each)]) + each for each in items)
    ask: Any = running[0].stream_stream("/rapport.v1.IngestService/Ingest")
    call = ask(iter([raw]), timeout=SECONDS)
    with pytest.raises(grpc.RpcError):
        list(call)
    assert call.details() == "items[1]: the bytes are no IngestItem message (behind seq 2)."


def test_an_item_of_a_later_version_is_not_passed_over(running: tuple[grpc.Channel, grpc.Channel]) -> None:
    """A field that this version does not know beside the items is skipped, as protobuf readers do; a kind of item that it does
    not know is a failure, for acknowledging it would lose it."""
    feed = Feed(running[0])
    later = ingest_pb2.IngestItem(seq=1, identifiers=[named("later")])
    later.MergeFromString(b"\x7a\x02hi")
    feed.send(later)
    answer = feed.answer()
    assert [(each.seq, each.failure.reason) for each in answer.failures] == [(1, "BAD_VALUE")]
    feed.half_close()
    assert ended(feed)[1] is grpc.StatusCode.OK
