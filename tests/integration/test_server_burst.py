"""What comes at once is worked off: waiting is refused only where a queue stands."""

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
