"""What goes wrong around the data plane, and must cost no more than the call it happens to."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import pytest
import structlog

from core import limits
from core.decision import DecideAnswer, DecideRequest, ExplainLevel
from core.errors import RapportError
from core.futures import done
from protos.rapport.v1 import decision_pb2, values_pb2
from server import codec, convert, status
from server.config import Config
from server.front import Front
from server.listener import AddressUnavailable
from server.process import Process
from server.services.calls import Context
from tests import raw_http2 as h2
from tests.engine_subject import EngineSubject
from tests.front_subject import FrontSubject, decide
from tests.raw_http2 import Client

EXPLAIN = "/rapport.v1.DecisionService/Explain"
MANY = "/rapport.v1.DecisionService/DecideMany"
TELL = "/rapport.v1.DecisionService/Tell"
DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL = 4, 8, 12, 13


def test_threads_that_answer_outlive_what_goes_wrong_in_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that could not be logged ended the thread; after four of them no report was answered any more."""

    def broken(data: bytes, context: Context) -> bytes:
        raise KeyError("anything")

    def unlogged(error: BaseException) -> object:
        raise OSError("no space left on device")

    def told(data: bytes, context: Context) -> Future[bytes]:
        return done(b"told")

    with FrontSubject(tmp_path, methods={"Explain": broken, "Tell": told}) as subject, Client(subject.address).greet() as client:
        with monkeypatch.context() as patched:
            patched.setattr(status, "describe", unlogged)
            assert [client.call(b"x", EXPLAIN).status for _ in range(8)] == [INTERNAL] * 8
        assert client.call(b"x", TELL).message == b"told"


def test_a_call_that_waits_too_long_for_python_is_refused(tmp_path: Path) -> None:
    """Calls without a deadline stood in the queue for Python however long it was."""
    go = threading.Event()
    seen: list[bytes] = []

    def slow(data: bytes, context: Context) -> bytes:
        seen.append(data)
        go.wait(h2.SECONDS)
        return b"slow"

    bounds = {"away_ns": 20_000_000}
    with (
        FrontSubject(tmp_path, methods={"Explain": slow}, plane_limits=bounds) as subject,
        Client(subject.address).greet() as client,
    ):
        first = [client.ask(b"first", EXPLAIN) for _ in range(2)]
        while len(seen) < 2:
            assert client.call(decide()).status == 0
        late = [client.ask(b"late", EXPLAIN) for _ in range(5)]
        client.settle()
        until = time.monotonic() + 0.05
        while time.monotonic() < until:
            assert client.call(decide()).status == 0
        go.set()
        assert [client.wait(number).status for number in first] == [0, 0]
        refused = [client.wait(number) for number in late]
        assert [each.status for each in refused] == [RESOURCE_EXHAUSTED] * 5
        assert refused[0].reason == "OVERLOADED"
        assert b"late" not in seen


def test_explanations_leave_the_threads_that_answer_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many explanations of a large program as there are threads kept every report and all news waiting, for a second each."""
    monkeypatch.setattr(limits, "EXPLANATIONS_WAITING", 32)
    go = threading.Event()
    asked = decision_pb2.DecideRequest(channel="web", placements=[decision_pb2.PlacementRequest(name="home_hero")])
    explained = decision_pb2.ExplainRequest(request=asked).SerializeToString()
    in_full = decision_pb2.DecideRequest(explain=decision_pb2.EXPLAIN_LEVEL_FULL)
    in_full.MergeFrom(asked)
    many = decision_pb2.DecideManyRequest(requests=[asked, in_full]).SerializeToString()
    tell = decision_pb2.TellRequest(identifiers=[values_pb2.Identifier(namespace="crm", value="1")])
    tell.attributes["age"].int_value = 44
    with FrontSubject(tmp_path) as subject, Client(subject.address).greet() as client:
        engine = subject.inner.engine
        decide_now = engine._decide

        def slow(request: DecideRequest, *, keep: bool, explain: ExplainLevel | None = None) -> DecideAnswer:
            if ExplainLevel.FULL in (request.explain, explain):
                go.wait(h2.SECONDS)
            return decide_now(request, keep=keep, explain=explain)

        monkeypatch.setattr(engine, "_decide", slow)
        kinds = [(explained, EXPLAIN), (in_full.SerializeToString(), h2.DECIDE), (many, MANY)]
        waiting = [client.ask(data, path, grpc_timeout="20S") for data, path in kinds * 3]
        assert client.call(tell.SerializeToString(), TELL).status == 0
        # One more than may wait is refused, whichever it is; what is no explanation goes on.
        more = limits.EXPLANATIONS_WAITING + 1 - len(waiting)
        waiting += [client.ask(explained, EXPLAIN, grpc_timeout="20S") for _ in range(more)]
        client.until(lambda: any(client.answer(number).ended for number in waiting))
        (refused,) = [client.answer(number) for number in waiting if client.answer(number).ended]
        assert (refused.status, refused.reason) == (RESOURCE_EXHAUSTED, "OVERLOADED")
        assert client.call(tell.SerializeToString(), TELL).status == 0
        go.set()
        told = sorted(client.wait(number).status for number in waiting)
        assert told == [0] * limits.EXPLANATIONS_WAITING + [RESOURCE_EXHAUSTED]
        assert client.call(explained, EXPLAIN).status == 0


def test_a_time_budget_counts_from_the_requests_arrival() -> None:
    """A call that was given back to Python, or had waited for it, got its whole budget anew."""
    message = decision_pb2.DecideRequest(channel="web")
    message.time_budget.FromMilliseconds(20)
    data = message.SerializeToString()
    for waited_us, left_us in ((0, 20_000), (15_000, 5_000), (20_000, 1), (10**9, 1)):
        made = codec.decode(data, None, waited_us)
        assert made is not None
        assert made.deadline_us == left_us
        assert convert.request_from(message, None, waited_us) == made


def test_a_drain_ends_in_time_and_says_what_is_left(tmp_path: Path) -> None:
    """However long a call waited for its disk, the process waited with it, until the supervisor killed it."""
    go, begun = threading.Event(), threading.Event()

    def stuck(data: bytes, context: Context) -> bytes:
        begun.set()
        go.wait(h2.SECONDS)
        return b""

    with FrontSubject(tmp_path, methods={"Explain": stuck}) as subject, Client(subject.address).greet() as client:
        client.ask(b"x", EXPLAIN)
        assert begun.wait(h2.SECONDS)
        subject.stopped = True
        assert subject.front.stop(0.1).result(h2.SECONDS) is False
        go.set()
        assert subject.front.stop(h2.SECONDS).result(h2.SECONDS) is True


def test_a_drain_waits_for_first_words_that_are_under_way_and_not_for_silence(tmp_path: Path) -> None:
    """Whoever had connected and not yet spoken when a drain began was closed at once, with his first call on its way."""
    for attempt in range(20):
        with FrontSubject(tmp_path / str(attempt)) as subject, socket.create_connection(_place(subject.address)) as silent:
            with Client(subject.address) as client:
                while subject.front.counters()["open_connections"] < 2:
                    pass
                subject.stopped = True
                stopped = subject.front.stop(h2.SECONDS)
                try:
                    served = client.greet().call(decide()).status == 0
                except (h2.Ended, ConnectionError):
                    served = False  # the machine was slower than a tenth of a second
            silent.settimeout(h2.SECONDS)
            assert silent.recv(1) == b""
            assert stopped.result(h2.SECONDS) is True
        if served:
            return
    pytest.fail("none of twenty was served")


def test_what_the_loops_refuse_is_told_in_counts(tmp_path: Path) -> None:
    """Nothing is logged for a call, and so nothing said that calls were refused at all."""
    with structlog.testing.capture_logs() as lines:
        with FrontSubject(tmp_path) as subject:
            with Client(subject.address).greet() as client:
                assert client.call(decide()).status == 0
                assert [client.call(b"", "/no/such").status for _ in range(2)] == [UNIMPLEMENTED] * 2
            subject.front._tell_refusals()
            subject.front._tell_refusals()  # says nothing: nothing came since
            with Client(subject.address).greet() as client:
                assert client.call(decide(), grpc_timeout="0n").status == DEADLINE_EXCEEDED
        told = [line for line in lines if line["event"] == "calls and connections refused"]
    assert [(line["log_level"], line["decided"]) for line in told] == [("info", 1), ("info", 0)]
    assert (told[0]["refused_method"], told[1]["refused_expired"]) == (2, 1)
    assert told[0].keys().isdisjoint({"refused_expired", "refused_overload"})


def _place(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def test_an_address_that_cannot_be_had_leaves_the_other_free(tmp_path: Path) -> None:
    """listen.decisions stayed bound, and nobody answered there, when listen.control was in use."""
    with EngineSubject(tmp_path) as inner, socket.create_server(("127.0.0.1", 0)) as taken:
        config = Config(
            listen_decisions="127.0.0.1:0", listen_control=f"127.0.0.1:{taken.getsockname()[1]}", threads_loops=2
        )
        front = Front(config, {}, inner.engine)
        with pytest.raises(AddressUnavailable) as refused:
            Process(config, [], [], front)
        assert isinstance(refused.value, RapportError)
        assert "listen.control" in str(refused.value)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(_place(front.address), timeout=h2.SECONDS)


def test_the_last_words_reach_a_client_that_is_still_sending(tmp_path: Path) -> None:
    """A socket closed with bytes unread is reset by the kernel: the client lost what it had not read, why it was sent away."""
    with FrontSubject(tmp_path) as subject, Client(subject.address).greet() as client:
        client.settle()
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        # A frame that breaks the connection, and behind it more than is read at once.
        client.send(h2.frame(0, 0, 0, b"data on stream 0"), *(h2.frame(0xF0, 0, 0, b"x" * 16_000) for _ in range(20)))
        words, ended = b"", False
        while not ended:
            piece = client.socket.recv(1 << 16)  # ConnectionResetError is what a client saw
            words, ended = words + piece, not piece
        kinds, at = [], 0
        while at < len(words):
            kinds.append(words[at + 3])
            at += 9 + int.from_bytes(words[at : at + 3], "big")
        assert kinds[-1] == h2.GOAWAY


def test_the_amount_that_stands_for_none_is_refused(tmp_path: Path) -> None:
    """The smallest 64 bit number of minor units was taken as an amount, and means a missing one wherever it is stored."""
    request = decision_pb2.DecideRequest(channel="web", placements=[decision_pb2.PlacementRequest(name="home_hero")])
    request.facts["cart"].money_value.minor = -(2**63)
    request.facts["cart"].money_value.currency = "EUR"
    with FrontSubject(tmp_path) as subject, Client(subject.address).greet() as client:
        refused = client.call(request.SerializeToString())
        assert (refused.status, refused.reason) == (3, "BAD_VALUE")
        assert "stands for none" in refused.text
        request.facts["cart"].money_value.minor += 1
        assert client.call(request.SerializeToString()).status == 0
