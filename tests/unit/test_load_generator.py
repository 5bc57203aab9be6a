"""The generator against real grpcio servers: no scheduled request is lost from the count, and no stall from the latencies.

Times are not asserted but as ratios and lower bounds that a slow machine only makes truer.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager, suppress

import grpc
import numpy as np
import pytest

from loadtest import histogram
from loadtest.generator import Generator
from loadtest.schedule import schedule
from loadtest.taken import Call, Kind, Pace, Taken
from protos.rapport.v1 import decision_pb2

ECHO = Call("echo", "/test.Any/Echo", [b"one", b"three"])
Handler = Callable[[bytes, grpc.ServicerContext], bytes]
SEED = 20261126


class _Served(grpc.GenericRpcHandler):
    """Methods by the last part of their path."""

    def __init__(self, methods: dict[str, Handler], streamed: dict[str, list[bytes]]) -> None:
        self._methods, self._streamed = methods, streamed

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        name = str(handler_call_details.method).rpartition("/")[2]
        if name in self._streamed:
            return grpc.unary_stream_rpc_method_handler(lambda request, context: iter(self._streamed[name]))
        return grpc.unary_unary_rpc_method_handler(self._methods[name]) if name in self._methods else None


@contextmanager
def serving(
    methods: dict[str, Handler] | None = None,
    *,
    streamed: dict[str, list[bytes]] | None = None,
    threads: int = 4,
    port: int = 0,
    options: Sequence[tuple[str, int]] = (),
) -> Iterator[tuple[grpc.Server, int]]:
    """A server and its port."""
    pool = futures.ThreadPoolExecutor(threads)
    made = {"Echo": lambda request, context: request, **(methods or {})}
    server = grpc.server(pool, handlers=[_Served(made, streamed or {})], options=list(options))
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield server, port
    finally:
        server.stop(0).wait()
        pool.shutdown()


def check_accounts(taken: Taken) -> None:
    """Every scheduled request ended in exactly one place, in every view of the counts."""
    assert taken.scheduled == taken.answered + taken.failed + taken.unsent
    assert taken.scheduled == taken.sent + taken.unsent
    assert taken.sent == sum(part.sent for part in taken.parts)
    assert taken.failed == sum(part.failed for part in taken.parts)
    assert taken.answered == sum(part.answered for part in taken.parts) == taken.latency.total == taken.service.total
    line = taken.timeline
    assert line.scheduled.sum() == taken.scheduled
    assert line.failed.sum() == taken.failed
    assert sum(step.total for step in line.latency) == taken.answered
    assert line.completed.sum() <= taken.answered


# --- the schedule -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("poisson", [False, True])
def test_the_schedule_follows_from_pace_and_seed(poisson: bool) -> None:
    pace = Pace(2.0, 5_000, poisson)
    first = schedule(pace, SEED)
    assert (schedule(pace, SEED) == first).all()
    assert (np.diff(first) >= 0).all()
    assert 0 <= first[0] <= first[-1] < 2e9
    assert len(first) == pytest.approx(10_000, rel=0.05)
    assert (poisson and not np.array_equal(schedule(pace, SEED + 1), first)) or not poisson


def test_poisson_gaps_are_exponential_and_even_ones_equal() -> None:
    even = np.diff(schedule(Pace(10.0, 1_000), SEED))
    assert even.min() >= even.max() - 1 == 999_999
    gaps = np.diff(schedule(Pace(100.0, 1_000, True), SEED)) / 1e6
    assert gaps.mean() == pytest.approx(1.0, rel=0.02)
    assert gaps.std() == pytest.approx(1.0, rel=0.02)
    # One in e^3 gaps is longer than three means.
    assert (gaps > 3).mean() == pytest.approx(np.exp(-3), rel=0.1)


def test_as_many_requests_are_sent_as_the_schedule_holds() -> None:
    pace = Pace(0.5, 1_000, True)
    with serving() as (_, port):
        taken = Generator("127.0.0.1", port, [ECHO], seed=SEED).run(pace)
    assert taken.scheduled == len(schedule(pace, SEED))
    assert taken.answered == taken.scheduled
    check_accounts(taken)


@pytest.mark.parametrize("pace", [Pace(0, 10), Pace(1), Pace(1, 10, open_calls=3)])
def test_a_pace_is_a_rate_or_a_number_of_open_calls(pace: Pace) -> None:
    with serving() as (_, port), pytest.raises(ValueError, match="pace"):
        Generator("127.0.0.1", port, [ECHO]).run(pace)


def test_a_closed_loop_has_no_schedule() -> None:
    with pytest.raises(ValueError, match="closed loop"):
        schedule(Pace(1, open_calls=3), 1)


# --- coordinated omission -----------------------------------------------------------------------------------------


def test_a_stall_shows_in_every_request_scheduled_during_it() -> None:
    """One call in the middle takes 200 ms on a server with one thread, at 500 requests a second.

    A hundred requests are scheduled meanwhile; the last of them waits no time, so three quarters wait 50 ms or more.
    A generator that sends the next request after the last answer sees a single slow call, and a perfect p99.
    """
    never = threading.Event()

    def stalling(at: int) -> Handler:
        calls = iter(range(1_000_000))

        def handle(request: bytes, context: grpc.ServicerContext) -> bytes:
            if next(calls) == at:
                never.wait(0.2)
            return request

        return handle

    late = 50_000_000
    with serving({"Open": stalling(250), "Closed": stalling(100)}, threads=1) as (_, port):
        opened = Generator("127.0.0.1", port, [Call("open", "/a.B/Open", [b"x"])], connections=1, streams=512)
        taken = opened.run(Pace(1.0, 500), interval=0.1)
        check_accounts(taken)
        assert taken.answered == 500
        slow = sum(int(count) for count in taken.latency.counts[histogram.index(late) :])
        assert slow >= 60
        assert taken.latency.percentile(99) > late
        # It stands where it was scheduled: request 250 is due at 0.5 s. What else the machine did may show elsewhere, too.
        assert max(taken.timeline.latency[step].percentile(50) for step in (5, 6)) > late

        closed = Generator("127.0.0.1", port, [Call("closed", "/a.B/Closed", [b"x"])], connections=1, streams=1)
        other = closed.run(Pace(1.0, open_calls=1))
        check_accounts(other)
        seen = sum(int(count) for count in other.latency.counts[histogram.index(late) :])
        assert 1 <= seen < slow / 2


def test_waiting_for_a_stream_is_not_the_generators_lag() -> None:
    """A server that allows two calls at a time and takes 20 ms for each answers a hundred a second, of 1,000 asked for."""
    never = threading.Event()

    def slow(request: bytes, context: grpc.ServicerContext) -> bytes:
        never.wait(0.02)
        return request

    with serving({"Slow": slow}, options=[("grpc.max_concurrent_streams", 2)]) as (_, port):
        generator = Generator("127.0.0.1", port, [Call("slow", "/a.B/Slow", [b"x"])], connections=1, streams=64)
        taken = generator.run(Pace(0.5, 1_000), drain=0.5)
    check_accounts(taken)
    assert taken.scheduled == 500
    # At its limit grpcio refuses now and then a stream that came in time: that call is told, and is no answer.
    assert taken.answered < 150
    assert taken.unsent + taken.failures.get("never processed", 0) > 350
    # What waited, waited for a stream; the lag is a small part of it.
    assert taken.waited.percentile(50) > 20 * taken.lag.percentile(50)


# --- failures -----------------------------------------------------------------------------------------------------


def test_refusals_are_counted_by_their_status() -> None:
    def refuse(code: grpc.StatusCode) -> Handler:
        def handle(request: bytes, context: grpc.ServicerContext) -> bytes:
            context.abort(code, f"no, {code.name.lower()}")

        return handle

    codes = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT)
    calls = [ECHO, *(Call(code.name, f"/a.B/{code.name}", [b"x"]) for code in codes), Call("none", "/a.B/None", [b"x"])]
    with serving({code.name: refuse(code) for code in codes}) as (_, port):
        taken = Generator("127.0.0.1", port, calls, seed=SEED).run(Pace(0.5, 800))
    check_accounts(taken)
    by_call = {part.name: part for part in taken.parts}
    for code in codes:
        assert taken.failures[code.name] == by_call[code.name].failed == by_call[code.name].sent > 50
        assert taken.messages[code.name] == f"no, {code.name.lower()}"
    assert taken.failures["UNIMPLEMENTED"] == by_call["none"].sent
    assert by_call["echo"].answered == by_call["echo"].sent == taken.answered
    assert taken.failed_latency.total == taken.failed


def test_an_answer_without_its_message_is_broken_and_so_is_one_with_two() -> None:
    streamed = {"Nothing": [], "Two": [b"one", b"two"], "One": [b"one"], "Empty": [b""]}
    calls = [Call(name, f"/a.B/{name}", [b"x"]) for name in streamed]
    with serving(streamed=streamed) as (_, port):
        taken = Generator("127.0.0.1", port, calls).run(Pace(0.4, 400))
    check_accounts(taken)
    good = {part.name: part.answered == part.sent > 0 for part in taken.parts}
    assert good == {"Nothing": False, "Two": False, "One": True, "Empty": True}
    assert taken.failures == {"broken answer": taken.failed}


def test_the_deadline_travels_with_the_call() -> None:
    told: list[float] = []

    def tell(request: bytes, context: grpc.ServicerContext) -> bytes:
        told.append(context.time_remaining() or 0.0)
        return request

    with serving({"Tell": tell}) as (_, port):
        generator = Generator("127.0.0.1", port, [Call("tell", "/a.B/Tell", [b"x"])], timeout=30.0)
        generator.run(Pace(0.1, 100))
    assert told
    assert all(20 < each <= 30 for each in told)


def test_a_call_past_its_deadline_fails() -> None:
    release = threading.Event()

    def hang(request: bytes, context: grpc.ServicerContext) -> bytes:
        release.wait(30)
        return request

    with serving({"Hang": hang}) as (_, port):
        generator = Generator("127.0.0.1", port, [Call("hang", "/a.B/Hang", [b"x"])], timeout=0.05)
        taken = generator.run(Pace(0.1, 50), drain=5)
        release.set()
    check_accounts(taken)
    assert taken.answered == 0
    # Either the server says so in its trailers or it resets the stream; it never stays open.
    assert set(taken.failures) <= {"DEADLINE_EXCEEDED", "reset CANCEL"}


def test_calls_that_are_never_answered_end_with_the_waiting() -> None:
    release = threading.Event()

    def hang(request: bytes, context: grpc.ServicerContext) -> bytes:
        release.wait(30)
        return request

    with serving({"Hang": hang}) as (_, port):
        generator = Generator("127.0.0.1", port, [Call("hang", "/a.B/Hang", [b"x"])], connections=1, streams=8)
        taken = generator.run(Pace(0.2, 100), drain=0.2)
        check_accounts(taken)
        assert taken.failures == {"unfinished": 8}
        assert taken.unsent == 12
        release.set()
        # The connections were closed with the calls on them; the next run opens others.
        again = generator.run(Pace(0.1, 50))
    assert again.answered == again.scheduled == 5


# --- connections --------------------------------------------------------------------------------------------------


def test_a_refused_connection_is_an_error_that_names_server_and_cause() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(ConnectionError, match=rf"0 of 4 .*127\.0\.0\.1:{port}.*refused"):
            Generator("127.0.0.1", port, [ECHO]).connect(0.1)


def test_a_port_that_does_not_speak_http2_is_an_error() -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        with pytest.raises(ConnectionError, match="gRPC server"):
            Generator("127.0.0.1", mute.getsockname()[1], [ECHO], connections=1).connect(0.1)


def test_a_server_that_dies_costs_its_open_calls_and_the_connections_come_back() -> None:
    release, arrived = threading.Event(), threading.Event()

    def hang(request: bytes, context: grpc.ServicerContext) -> bytes:
        arrived.set()
        release.wait(30)
        return request

    with serving({"Echo": hang}, options=[("grpc.so_reuseport", 0)]) as (server, port):
        generator = Generator("127.0.0.1", port, [ECHO], connections=2, streams=4)
        generator.connect()
        results: list[Taken] = []
        running = threading.Thread(target=lambda: results.append(generator.run(Pace(3.0, 200), drain=2)))
        running.start()
        assert arrived.wait(10)
        server.stop(0).wait()
        release.set()
        with serving(port=port, options=[("grpc.so_reuseport", 0)]):
            running.join()
    (taken,) = results
    check_accounts(taken)
    assert taken.failed >= 1
    assert taken.answered > 0
    assert taken.connections.opened >= 2
    # A call that never reached the new server counts as lost or refused, never as answered.
    assert set(taken.failures) <= {"connection lost", "never processed", "CANCELLED", "UNAVAILABLE", "reset CANCEL"}


def test_going_away_is_followed_without_losing_a_call() -> None:
    """The server ends each connection after 200 ms by GOAWAY, as gRPC servers do behind a balancer."""
    options = [("grpc.max_connection_age_ms", 200), ("grpc.max_connection_age_grace_ms", 5_000)]
    with serving(options=options) as (_, port):
        generator = Generator("127.0.0.1", port, [ECHO], connections=2, streams=16)
        taken = generator.run(Pace(1.5, 400))
    check_accounts(taken)
    assert taken.connections.goaways >= 2
    assert taken.connections.opened >= 2
    # A request that crossed the GOAWAY on its way was never processed, and says so.
    assert set(taken.failures) <= {"never processed"}
    assert taken.answered >= 0.98 * taken.scheduled


def test_large_messages_keep_within_the_windows() -> None:
    """A request of 300 kB is more than a stream's first window; sixteen of them more than the connection's."""
    big = Call("big", "/a.B/Echo", [bytes(300_000)])
    with serving() as (_, port):
        taken = Generator("127.0.0.1", port, [big], connections=1, streams=16).run(Pace(0.5, open_calls=16))
    check_accounts(taken)
    assert taken.failed == 0
    assert taken.answered >= 16
    assert taken.bytes_sent > taken.answered * 300_000
    assert taken.bytes_received > taken.answered * 300_000
    assert {len(message) for _, message in taken.samples} == {300_000}


# --- frames -------------------------------------------------------------------------------------------------------

_HEADERS, _RST_STREAM, _SETTINGS, _GOAWAY = 1, 3, 4, 7


def _frame(kind: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">IBI", len(payload) << 8 | kind, 0, stream) + payload


@contextmanager
def frames(limit: int, answer: Callable[[int], bytes]) -> Iterator[tuple[int, list[int]]]:
    """A server of bare frames that allows ``limit`` open calls and says ``answer(stream)`` to each request.

    Gives its port and the streams of the requests it has read, over all connections.
    """
    streams: list[int] = []

    def serve(peer: socket.socket) -> None:
        with peer, peer.makefile("rb") as read:
            read.read(24)
            peer.sendall(_frame(_SETTINGS, 0, struct.pack(">HI", 3, limit)))
            while len(head := read.read(9)) == 9:
                word, _, stream = struct.unpack(">IBI", head)
                read.read(word >> 8)
                if word & 0xFF == _HEADERS:
                    streams.append(stream)
                    peer.sendall(answer(stream))

    def accept() -> None:
        with suppress(OSError):
            while True:
                peer, _ = listener.accept()
                workers.append(threading.Thread(target=serve, args=(peer,)))
                workers[-1].start()

    workers: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=accept)
        accepting.start()
        yield listener.getsockname()[1], streams
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
    for worker in workers:
        worker.join()


def test_the_servers_limit_of_open_calls_holds() -> None:
    with frames(3, lambda stream: b"") as (port, streams):
        generator = Generator("127.0.0.1", port, [ECHO], connections=2, streams=64)
        taken = generator.run(Pace(0.3, 200), drain=0.1)
        del generator
    assert sorted(streams) == [1, 1, 3, 3, 5, 5]
    assert taken.failures == {"unfinished": 6}
    assert taken.unsent == 54
    check_accounts(taken)


def test_resets_are_counted_by_their_code() -> None:
    codes = {1: 2, 3: 8, 5: 11, 7: 99}

    def reset(stream: int) -> bytes:
        return _frame(_RST_STREAM, stream, struct.pack(">I", codes.get(stream, 7)))

    with frames(100, reset) as (port, _):
        generator = Generator("127.0.0.1", port, [ECHO], connections=1)
        taken = generator.run(Pace(0.2, 50))
        del generator
    assert taken.failures == {
        "reset INTERNAL_ERROR": 1,
        "reset CANCEL": 1,
        "reset ENHANCE_YOUR_CALM": 1,
        "reset of another code": 1,
        "never processed": 6,
    }
    check_accounts(taken)


def test_calls_beyond_a_goaways_last_stream_were_never_processed() -> None:
    """The third request of a connection makes the server say that it looked at the first only, and it resets that one.

    Each connection so takes three calls; the next calls go to a new one at once.
    """

    def go_away(stream: int) -> bytes:
        if stream != 5:
            return b""
        return _frame(_GOAWAY, 0, struct.pack(">II", 1, 0)) + _frame(_RST_STREAM, 1, struct.pack(">I", 8))

    with frames(100, go_away) as (port, streams):
        generator = Generator("127.0.0.1", port, [ECHO], connections=1)
        taken = generator.run(Pace(0.3, 100), drain=1)
        del generator
    # On a busy machine a call or two more are on their way before the server's word arrives; the last connection may take
    # fewer than three.
    begins = [position for position, stream in enumerate(streams) if stream == 1]
    taking = [streams[begin:end] for begin, end in zip(begins, [*begins[1:], len(streams)], strict=True)]
    assert all(each == list(range(1, 2 * len(each), 2)) for each in taking)
    told = [each for each in taking if len(each) >= 3]
    assert len(told) >= len(taking) - 1 > 0
    assert taken.connections.goaways == len(told)
    assert taken.failures["reset CANCEL"] == len(told)
    assert taken.failures["never processed"] == sum(len(each) - 1 for each in told)
    check_accounts(taken)


def test_a_connection_that_breaks_costs_what_was_open_on_it() -> None:
    with frames(100, lambda stream: b"no frame, and a length of megabytes" if stream == 3 else b"") as (port, streams):
        generator = Generator("127.0.0.1", port, [ECHO], connections=1)
        taken = generator.run(Pace(0.1, 40), drain=1)
        del generator
    assert streams == [1, 3] * 2
    assert taken.failures == {"connection lost": 4}
    assert taken.connections.lost == 2
    check_accounts(taken)


# --- the loop -----------------------------------------------------------------------------------------------------


def test_nothing_is_allocated_once_the_run_is_warm() -> None:
    with serving() as (_, port):
        generator = Generator("127.0.0.1", port, [ECHO], connections=2, streams=8)
        generator.run(Pace(0.3, open_calls=16))
        taken = generator.run(Pace(0.5, open_calls=16))
    assert taken.sent > 100
    assert taken.allocations <= 2


def test_a_run_can_be_stopped_from_outside_and_counts_what_was_due() -> None:
    with serving() as (_, port):
        generator = Generator("127.0.0.1", port, [ECHO])
        generator.connect()
        results: list[Taken] = []
        running = threading.Thread(target=lambda: results.append(generator.run(Pace(60.0, 200))))
        running.start()
        while generator.progress()[2] < 20:
            pass
        generator.stop()
        running.join(20)
    (taken,) = results
    assert taken.interrupted
    assert taken.elapsed < 30
    assert 20 <= taken.answered == taken.scheduled < 60 * 200
    check_accounts(taken)


def test_one_run_at_a_time() -> None:
    with serving() as (_, port):
        generator = Generator("127.0.0.1", port, [ECHO])
        generator.connect()
        running = threading.Thread(target=generator.run, args=(Pace(60.0, 100),))
        running.start()
        while generator.progress()[1] == 0:
            pass
        with pytest.raises(RuntimeError, match="running already"):
            generator.run(Pace(1.0, 10))
        generator.stop()
        running.join(20)


def test_shares_and_messages_are_drawn_from_the_seed() -> None:
    received: Counter[bytes] = Counter()
    lock = threading.Lock()

    def count(request: bytes, context: grpc.ServicerContext) -> bytes:
        with lock:
            received[request] += 1
        return request

    calls = [Call("a", "/a.B/Count", [b"a1", b"a2"], share=3.0), Call("b", "/a.B/Count", [b"b1"], share=1.0)]
    pace = Pace(0.5, 1_000)
    with serving({"Count": count}) as (_, port):
        Generator("127.0.0.1", port, calls, seed=SEED).run(pace)
        first = Counter(received)
        received.clear()
        Generator("127.0.0.1", port, calls, seed=SEED, connections=1).run(pace)
        second = Counter(received)
        received.clear()
        Generator("127.0.0.1", port, calls, seed=SEED + 1).run(pace)
    assert first == second != received
    assert first.total() == 500
    assert first[b"b1"] == pytest.approx(125, rel=0.3)
    assert first[b"a1"] == pytest.approx(187, rel=0.3)


def test_metadata_goes_with_every_call() -> None:
    seen: list[str] = []

    def look(request: bytes, context: grpc.ServicerContext) -> bytes:
        seen.extend(str(value) for name, value in context.invocation_metadata() if name == "authorization")
        return request

    with serving({"Look": look}) as (_, port):
        call = Call("look", "/a.B/Look", [b"x"])
        Generator("127.0.0.1", port, [call], metadata=[("Authorization", "Bearer abc")]).run(Pace(0.1, 50))
    assert seen == ["Bearer abc"] * 5


@pytest.mark.parametrize(
    ("calls", "word"),
    [
        ([], "call"),
        ([Call("none", "/a.B/C", [])], "no message"),
        ([Call("report", "/a.B/C", [], kind=Kind.RECORD)], "tokens"),
        ([Call("d", "/a.B/C", [b"x"], kind=Kind.DECIDE), Call("r", "/a.B/C", [], kind=Kind.RECORD, outcome="")], "outcome"),
    ],
)
def test_a_load_that_cannot_be_sent_is_refused(calls: list[Call], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Generator("127.0.0.1", 1, calls)


# --- decisions and reports ----------------------------------------------------------------------------------------


def test_reports_carry_tokens_of_the_runs_own_decisions_each_once() -> None:
    issued: set[str] = set()
    reported: Counter[tuple[str, str]] = Counter()
    lock = threading.Lock()
    numbers = iter(range(1_000_000))

    def decide(request: bytes, context: grpc.ServicerContext) -> bytes:
        decision_pb2.DecideRequest.FromString(request)
        with lock:
            # Tokens of every length there may be, so that one and two byte lengths are written.
            token = f"{next(numbers):08d}".ljust(8 + next(numbers) * 37 % 1_016, "t")
            issued.add(token)
        offers = [decision_pb2.DecidedOffer(offer="a", token=token), decision_pb2.DecidedOffer(offer="b", token="second")]
        placements = [
            decision_pb2.PlacementAnswer(name="home", status=decision_pb2.SLOT_STATUS_OK, offers=offers),
            decision_pb2.PlacementAnswer(name="side", status=decision_pb2.SLOT_STATUS_FALLBACK_MODEL),
        ]
        return decision_pb2.DecideResponse(decision="d", placements=placements).SerializeToString()

    def record(request: bytes, context: grpc.ServicerContext) -> bytes:
        (outcome,) = decision_pb2.RecordRequest.FromString(request).outcomes
        with lock:
            reported[outcome.token, outcome.outcome] += 1
            known = outcome.token in issued
        status = decision_pb2.OUTCOME_STATUS_APPLIED if known else decision_pb2.OUTCOME_STATUS_UNKNOWN
        return decision_pb2.RecordResponse(results=[decision_pb2.OutcomeResult(status=status)]).SerializeToString()

    message = decision_pb2.DecideRequest(channel="web").SerializeToString()
    calls = [
        Call("decide", "/a.B/Decide", [message], 0.7, Kind.DECIDE),
        Call("record", "/a.B/Record", [], 0.3, Kind.RECORD, outcome="clicked"),
    ]
    with serving({"Decide": decide, "Record": record}) as (_, port):
        taken = Generator("127.0.0.1", port, calls, seed=SEED, look_every=1).run(Pace(1.0, 600))
    check_accounts(taken)
    assert taken.failed == 0
    assert reported.total() > 100
    assert {token for token, _ in reported} <= issued
    assert {outcome for _, outcome in reported} == {"clicked"}
    assert max(reported.values()) == 1
    assert taken.seen.outcomes == {"APPLIED": reported.total()}
    decided = next(part.answered for part in taken.parts if part.name == "decide")
    assert taken.seen.answers == decided
    assert (taken.seen.placements, taken.seen.filled, taken.seen.offers) == (2 * decided, decided, 2 * decided)


def test_bytes_that_are_no_decision_are_broken() -> None:
    answers = iter([b"\xff\xff\xff", b"", b"\x12\x05ab", b"\x12\x02\x18"] * 1_000)
    call = Call("decide", "/a.B/Decide", [b""], kind=Kind.DECIDE)
    with serving({"Decide": lambda request, context: next(answers)}, threads=1) as (_, port):
        taken = Generator("127.0.0.1", port, [call], look_every=1).run(Pace(0.2, 100))
    check_accounts(taken)
    assert taken.failures == {"broken answer": 20}
