"""How many decisions a second a server gives over gRPC, against a grpcio server whose handler does nothing, in turn.

Server on one core, generator on another. A closed loop keeps a fixed number of calls open; what latencies are worth the open
loop of ``python -m loadtest`` says. Beside it, one call at a time from a grpcio client, as a shop's code makes it: asked in
turn at the data plane's address, at that of a server whose loops poll (threads.busy_poll_us), and at the one that grpcio serves.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np

from loadtest import calls, servers
from loadtest.calls import DECIDE
from loadtest.generator import Generator
from loadtest.servers import Serving
from loadtest.taken import Call, Kind, Pace, Taken
from loadtest.workload import Workload

SHAPES = ((1, 16), (4, 16))  # connections, calls open on each
ALONE = 2_000  # calls one at a time, at each address
BLOCK = 50  # of them before the next address has its turn: a server that polls must not sit on the others' core
BUSY_POLL_US = 1_000  # longer than a client takes from an answer to its next call


@dataclass(slots=True)
class Capacity:
    """Calls a second by shape, each a list with one figure a round; medians of times in microseconds."""

    decide: dict[str, list[float]] = field(default_factory=dict)
    empty: dict[str, list[float]] = field(default_factory=dict)
    decide_p50_us: dict[str, float] = field(default_factory=dict)
    alone_us: dict[str, float] = field(default_factory=dict)  # one call at a time from a grpcio client, by address
    answer_bytes: int = 0
    request_bytes: int = 0

    def ratio(self, shape: str) -> float:
        """Decide's rate over the empty handler's, medians over the rounds."""
        return statistics.median(self.decide[shape]) / statistics.median(self.empty[shape])


def measure(workload: Workload, store: Path, models: Path, *, rounds: int, seconds: float) -> Capacity:
    """Serves ``store`` (with the workload's program active) and an empty handler, and drives both in turn."""
    cores = servers.cores()
    asked = calls.decisions(workload)
    capacity = Capacity(request_bytes=round(float(np.mean([len(each) for each in asked]))))
    before = os.sched_getaffinity(0)
    with servers.rapport(store, models, cores[0]) as serving:
        trial = _generator(serving, asked, 1, Kind.DECIDE).run(Pace(1.0, open_calls=4))
        _check(trial, workload)
        capacity.answer_bytes = round(float(np.mean([len(sample) for _, sample in trial.samples])))
        with servers.empty(capacity.answer_bytes, cores[0]) as nothing:
            os.sched_setaffinity(0, {cores[1]})
            try:
                for connections, depth in SHAPES:
                    _rounds(capacity, serving, nothing, asked, workload, connections, depth, rounds, seconds)
            finally:
                os.sched_setaffinity(0, before)
        polling = {"RAPPORT_THREADS_BUSY_POLL_US": str(BUSY_POLL_US)}
        with servers.rapport(store, models, cores[0], given=polling) as awake:
            os.sched_setaffinity(0, {cores[1]})
            try:
                capacity.alone_us = _alone(serving, awake, asked)
            finally:
                os.sched_setaffinity(0, before)
    return capacity


def _generator(serving: Serving, asked: list[bytes], connections: int, kind: Kind) -> Generator:
    return Generator(serving.host, serving.port, [Call("decide", DECIDE, asked, kind=kind)], connections=connections)


def _rounds(
    capacity: Capacity,
    rapport: Serving,
    nothing: Serving,
    asked: list[bytes],
    workload: Workload,
    connections: int,
    depth: int,
    rounds: int,
    seconds: float,
) -> None:
    shape = f"{connections} x {depth}"
    pace = Pace(seconds, open_calls=connections * depth)
    deciding = _generator(rapport, asked, connections, Kind.DECIDE)
    idle = _generator(nothing, asked, connections, Kind.ANY)
    p50s: list[float] = []
    for _ in range(rounds):
        taken = deciding.run(pace)
        _check(taken, workload)
        p50s.append(taken.service.percentile(50) / 1_000)
        capacity.decide.setdefault(shape, []).append(taken.answered / taken.elapsed)
        taken = idle.run(pace)
        if taken.failed:
            raise RuntimeError(f"{taken.failed} calls of the empty handler failed")
        capacity.empty.setdefault(shape, []).append(taken.answered / taken.elapsed)
    capacity.decide_p50_us[shape] = statistics.median(p50s)


def _check(taken: Taken, workload: Workload) -> None:
    """Refused or empty answers would be fast and worthless."""
    if taken.failed or not taken.answered:
        raise RuntimeError(f"{taken.failed} of {taken.failed + taken.answered} decisions failed")
    calls.check(workload, taken.samples)


def _alone(serving: Serving, awake: Serving, asked: list[bytes]) -> dict[str, float]:
    """The median of one call at a time from a grpcio client, in turn at the addresses of ``serving`` and of one that polls."""
    took: dict[str, list[float]] = {"data plane": [], "data plane, busy polling": [], "grpcio": []}
    with (
        grpc.insecure_channel(f"{serving.host}:{serving.port}") as plane,
        grpc.insecure_channel(f"{awake.host}:{awake.port}") as polled,
        grpc.insecure_channel(serving.control) as control,
    ):
        callers: dict[str, Callable[..., bytes]] = {
            name: channel.unary_unary(DECIDE) for name, channel in zip(took, (plane, polled, control), strict=True)
        }
        for begin in range(0, ALONE, BLOCK):
            for name, call in callers.items():
                # The first after others' turn finds cold caches, of the kernel and of the client's connection.
                call(asked[begin % len(asked)], timeout=10)
                for number in range(begin, begin + BLOCK):
                    began = time.perf_counter_ns()
                    call(asked[number % len(asked)], timeout=10)
                    took[name].append((time.perf_counter_ns() - began) / 1_000)
    return {name: statistics.median(each) for name, each in took.items()}
