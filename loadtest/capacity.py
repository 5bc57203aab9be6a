"""How many decisions a second one core serves over gRPC, beside an empty grpcio handler in the same run.

Server and generator are pinned to a core each. The two servers are measured in turn, several times, so that what the
machine does meanwhile meets both alike, and what is quoted is the ratio of the medians. The loop is closed: a fixed
number of calls is open all the time, which measures capacity, not latency under a load.
"""

from __future__ import annotations

import os
import statistics
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from loadtest import calls, servers, wire
from loadtest.calls import DECIDE
from loadtest.workload import Workload
from protos.rapport.v1 import decision_pb2

SHAPES = ((1, 16), (4, 16))  # connections, calls open on each


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


def measure(workload: Workload, store: Path, models: Path, *, rounds: int, seconds: float) -> Capacity:
    """Serves ``store`` (with the workload's program active) and an empty handler, and drives both in turn."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise RuntimeError("capacity needs two cores: one for the server, one for the generator")
    asked = calls.decisions(workload)
    capacity = Capacity(request_bytes=round(float(np.mean([len(each) for each in asked]))))
    before = os.sched_getaffinity(0)
    with servers.rapport(store, models, cores[0]) as serving:
        rapport = serving.address
        trial = wire.run(rapport, DECIDE, asked, seconds=1, connections=1, depth=4)
        _check(trial, workload)
        capacity.answer_bytes = round(float(np.mean([len(each) for each in trial.samples])))
        with servers.empty(capacity.answer_bytes, cores[0]) as nothing:
            os.sched_setaffinity(0, {cores[1]})
            try:
                _rounds(capacity, rapport, nothing.address, asked, workload, rounds, seconds)
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
