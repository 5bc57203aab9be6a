"""The generator's own HTTP/2 holds against grpcio's: every call is answered, counted once, and refusals are seen."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest

from loadtest import wire

ROOT = Path(__file__).resolve().parents[2]


class _Echo(grpc.GenericRpcHandler):
    """Answers with the request; refuses requests that begin with 'no'."""

    def __init__(self) -> None:
        self.calls = 0
        self._lock = threading.Lock()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        return grpc.unary_unary_rpc_method_handler(self.answer)

    def answer(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        with self._lock:
            self.calls += 1
        if request.startswith(b"no"):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "refused")
        return request


@pytest.fixture
def echo() -> Iterator[tuple[_Echo, tuple[str, int]]]:
    handler = _Echo()
    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield handler, ("127.0.0.1", port)
    server.stop(0).wait()


def test_every_call_is_answered_and_counted_once(echo: tuple[_Echo, tuple[str, int]]) -> None:
    handler, address = echo
    tally = wire.run(address, "/any/Thing", [b"one", b"three"], seconds=0.3, connections=2, depth=4)
    # How many fit into the time is the machine's affair; all that are open at once were answered at least once.
    assert tally.answered == handler.calls >= 8
    assert tally.failed == 0
    assert len(tally.latencies) == tally.answered
    assert set(tally.samples) == {b"one", b"three"}


def test_refused_calls_are_failures(echo: tuple[_Echo, tuple[str, int]]) -> None:
    handler, address = echo
    tally = wire.run(address, "/any/Thing", [b"yes", b"no"], seconds=0.3, connections=1, depth=2)
    assert tally.failed > 0
    assert tally.answered + tally.failed == handler.calls >= 2
    assert abs(tally.answered - tally.failed) <= 2


def test_large_messages_keep_within_the_windows(echo: tuple[_Echo, tuple[str, int]]) -> None:
    """Sixteen calls of 16 kB are more than a connection's first window of 64 kB: sending has to wait for updates."""
    _, address = echo
    tally = wire.run(address, "/any/Thing", [bytes(16_000)], seconds=1.0, connections=1, depth=16)
    # The first window takes four.
    assert tally.answered > 4
    assert tally.failed == 0

    with pytest.raises(ValueError, match="one frame"):
        wire.run(address, "/any/Thing", [bytes(16_384)], seconds=0.1, connections=1, depth=1)


def test_the_empty_server_answers_with_as_many_bytes_as_asked() -> None:
    command = [sys.executable, "-m", "loadtest.empty", "300"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin
        assert server.stdout
        host, _, port = server.stdout.readline().strip().partition(":")
        tally = wire.run((host, int(port)), "/any/Thing", [bytes(120)], seconds=0.2, connections=2, depth=8)
        server.stdin.close()
        assert server.wait(timeout=30) == 0
    assert tally.failed == 0
    assert {len(sample) for sample in tally.samples} == {300}
