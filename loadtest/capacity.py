"""How many decisions a second one core serves over gRPC, beside an empty grpcio handler in the same run.

Server and generator are pinned to a core each. The two servers are measured in turn, several times, so that what the
machine does meanwhile meets both alike, and what is quoted is the ratio of the medians. The loop is closed: a fixed
number of calls is open all the time, which measures capacity, not latency under a load.
"""

from __future__ import annotations

import os
import random
import re
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from loadtest import names, wire
from loadtest.workload import Workload
from protos.rapport.v1 import decision_pb2, values_pb2

ROOT = Path(__file__).resolve().parent.parent
DECIDE = "/rapport.v1.DecisionService/Decide"
SHAPES = ((1, 16), (4, 16))  # connections, calls open on each
REQUESTS = 5_000  # different ones, sent in turn


@dataclass(slots=True)
class Capacity:
    """Calls a second by shape, each a list with one figure a round; and the open calls' median time."""

    decide: dict[str, list[float]] = field(default_factory=dict)
    empty: dict[str, list[float]] = field(default_factory=dict)
    decide_p50_us: dict[str, float] = field(default_factory=dict)
    answer_bytes: int = 0
    request_bytes: int = 0

    def ratio(self, shape: str) -> float:
        """Decide's rate over the empty handler's, medians over the rounds."""
        return statistics.median(self.decide[shape]) / statistics.median(self.empty[shape])


def messages(workload: Workload) -> list[bytes]:
    """Decide requests for customers drawn at random."""
    generator = random.Random(workload.seed)
    return [
        decision_pb2.DecideRequest(
            channel=names.CHANNEL,
            placements=[decision_pb2.PlacementRequest(name=names.PLACEMENT)],
            identifiers=[
                values_pb2.Identifier(
                    namespace="crm", value=str(names.FIRST + generator.randrange(workload.customers))
                )
            ],
        ).SerializeToString()
        for _ in range(REQUESTS)
    ]


@contextmanager
def _running(command: list[str], core: int, environment: dict[str, str]) -> Iterator[tuple[str, int]]:
    """A server on one core; its address is the first one it says."""
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        os.sched_setaffinity(server.pid, {core})  # before it has made a thread
        assert server.stdout
        said: list[str] = []
        try:
            for line in server.stdout:
                said.append(line)
                if found := re.search(r"(127\.0\.0\.1):([1-9]\d*)", line):
                    break
            else:
                raise RuntimeError(f"{' '.join(command)} ended:\n{''.join(said)}")
            # Somebody must read what it says later, or it would stop when the pipe is full.
            threading.Thread(target=server.stdout.read, daemon=True).start()
            yield found[1], int(found[2])
        finally:
            server.terminate()
            server.wait(timeout=60)


def measure(workload: Workload, store: Path, models: Path, *, rounds: int, seconds: float) -> Capacity:
    """Serves ``store`` (with the workload's program active) and an empty handler, and drives both in turn."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise RuntimeError("capacity needs two cores: one for the server, one for the generator")
    serve = [sys.executable, "-m", "server"]
    settings = {
        "RAPPORT_LISTEN_DECISIONS": "127.0.0.1:0",
        "RAPPORT_STORE_PATH": str(store.resolve()),
        "RAPPORT_MODELS_PATH": str(models.resolve()),
        "PYTHONUNBUFFERED": "1",
    }
    asked = messages(workload)
    capacity = Capacity(request_bytes=round(float(np.mean([len(each) for each in asked]))))
    before = os.sched_getaffinity(0)
    with _running(serve, cores[0], settings) as rapport:
        trial = wire.run(rapport, DECIDE, asked, seconds=1, connections=1, depth=4)
        _check(trial, workload)
        capacity.answer_bytes = round(float(np.mean([len(each) for each in trial.samples])))
        nothing = [sys.executable, "-m", "loadtest.empty", str(capacity.answer_bytes)]
        with _running(nothing, cores[0], {}) as empty:
            os.sched_setaffinity(0, {cores[1]})
            try:
                _rounds(capacity, rapport, empty, asked, workload, rounds, seconds)
            finally:
                os.sched_setaffinity(0, before)
    return capacity


def _rounds(
    capacity: Capacity,
    rapport: tuple[str, int],
    empty: tuple[str, int],
    asked: list[bytes],
    workload: Workload,
    rounds: int,
    seconds: float,
) -> None:
    for connections, depth in SHAPES:
        shape = f"{connections} x {depth}"
        latencies: list[int] = []
        for _ in range(rounds):
            tally = wire.run(rapport, DECIDE, asked, seconds=seconds, connections=connections, depth=depth)
            _check(tally, workload)
            latencies += tally.latencies
            capacity.decide.setdefault(shape, []).append(tally.rate)
            tally = wire.run(empty, DECIDE, asked, seconds=seconds, connections=connections, depth=depth)
            if tally.failed:
                raise RuntimeError(f"{tally.failed} calls of the empty handler failed")
            capacity.empty.setdefault(shape, []).append(tally.rate)
        capacity.decide_p50_us[shape] = float(np.median(latencies)) / 1_000


def _check(tally: wire.Tally, workload: Workload) -> None:
    """Refused or empty answers would be fast and worthless."""
    if tally.failed or not tally.answered:
        raise RuntimeError(f"{tally.failed} of {tally.failed + tally.answered} decisions failed")
    for sample in tally.samples:
        answer = decision_pb2.DecideResponse.FromString(sample)
        if not answer.known or len(answer.placements[0].offers) != workload.slots:
            raise RuntimeError(f"an answer holds no decision: {answer}")
