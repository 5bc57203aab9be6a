"""No client loses calls by what is no overload: a pause of the process, a burst, calls that it gave up."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import grpc

from protos.rapport.v1 import decision_pb2 as d
from protos.rapport.v1 import decision_pb2_grpc
from tests.conformance.party import write_program
from tests.conformance.python.client_sync import ask
from tests.running import BOUND_SECONDS, Server

CHANNELS = 4
CALLS = 200  # on each: fewer than a connection may have open


def test_a_pause_of_the_process_refuses_no_calls(tmp_path: Path) -> None:
    """A call that had waited for 5 ms was refused as overload, also on an idle server.

    A loop that the machine did not let run for 5 ms, or that got more than 5 ms of work at once, lost calls: eight
    in flight were enough on a busy machine.
    """
    server = Server(write_program(tmp_path), RAPPORT_THREADS_LOOPS="1")
    address = server.until("listening")["listen_decisions"]
    server.until("ready")
    channels = [grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) for _ in range(CHANNELS)]
    try:
        asking = [decision_pb2_grpc.DecisionServiceStub(channel).Decide for channel in channels]
        request = ask("burst", explain=d.EXPLAIN_LEVEL_FULL)
        for decide in asking:
            decide(request, timeout=BOUND_SECONDS)
        os.kill(server.process.pid, signal.SIGSTOP)
        calls = [decide.future(request, timeout=BOUND_SECONDS) for _ in range(CALLS) for decide in asking]
        os.kill(server.process.pid, signal.SIGCONT)
        assert Counter(call.code() for call in calls) == {grpc.StatusCode.OK: CHANNELS * CALLS}
    finally:
        for channel in channels:
            channel.close()
        server.end()
        server.close()


def test_calls_given_up_as_they_are_answered_cost_their_connection_nothing(tmp_path: Path) -> None:
    """Each took its answer's size off what its connection had yet to send, though it had never been put there.

    The count went below zero, which is to say beyond every limit, and all later calls of that connection were refused. It took a
    reset that the loop read in the very round in which Python's answer came back: about one of a hundred here.
    """
    server = Server(write_program(tmp_path))
    address = server.until("listening")["listen_decisions"]
    server.until("ready")
    try:
        with grpc.insecure_channel(address) as channel:
            stub = decision_pb2_grpc.DecisionServiceStub(channel)
            heavy = ask("late", placements=[d.PlacementRequest(name="wall", slots=100)], explain=d.EXPLAIN_LEVEL_FULL)
            stub.Decide(ask("late"), timeout=BOUND_SECONDS)
            codes = Counter(
                stub.Explain.future(d.ExplainRequest(request=heavy), timeout=(1 + turn % 40 / 4) / 1000).code()
                for turn in range(400)
            )
            assert codes.keys() <= {grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED}
            stub.Decide(ask("late"), timeout=BOUND_SECONDS)
    finally:
        server.end()
        server.close()
