"""One workload measured in a process of its own: ``python -m loadtest.deciding`` (started by `loadtest.inprocess`).

A fresh process makes the start honest (nothing is imported, mapped or compiled yet) and the memory its own. It opens
the store as a server would, decides once, and then decides one by one for customers drawn at random, so that most
profiles are not in the processor's caches. Prints one line of JSON.

The start counts from the spawn of this process to its first decision, so until then it imports what a server needs and
nothing of the generators: what they know of the workload comes on the command line, and numpy, which only sums up,
afterwards.

Two clocks: ``call`` is `Engine.decide` from Python with its request and answer as Python values; ``kernel`` is the same
decisions timed inside the compiled code, from the resolved request to the finished answer.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core.decision import DecideAnswer, DecideRequest, ExplainLevel, Identifier, PlacementRequest
from core.engine import Engine
from core.reasons import Reason, SlotStatus
from loadtest import installation, names
from loadtest.names import CHANNEL, FIRST

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

WARM = 200
# A workload may take so long in all; with 100,000 dense offers fewer decisions are measured, and the count is printed.
SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What deciding needs to know of a workload: its name, customers in the store, placements and slots filled, and seed."""

    workload: str
    customers: int
    placements: int
    slots: int
    seed: int


def request(asked: Asked, number: int, explain: ExplainLevel = ExplainLevel.NONE) -> DecideRequest:
    """The decision asked for the customer ``number`` of the base, from 0."""
    return DecideRequest(
        channel=CHANNEL,
        placements=tuple(PlacementRequest(name) for name in names.placements(asked.placements)),
        identifiers=(Identifier("crm", str(FIRST + number)),),
        explain=explain,
    )


def check(answer: DecideAnswer, slots: int) -> None:
    """A figure for decisions that did not decide would be worthless: ValueError unless a known customer got offers."""
    placement = answer.placements[0]
    if not answer.known:
        raise ValueError("the customer was not known: the store does not hold this workload's base")
    if placement.status is not SlotStatus.OK:
        raise ValueError(f"the placement's status was {placement.status.name}, not OK")
    if len(placement.offers) != slots:
        raise ValueError(f"{len(placement.offers)} offers came back, not {slots}")


def competing(engine: Engine, asked: Asked, numbers: Sequence[int]) -> float:
    """How many offers passed every filter and were scored, on average, for the first placement."""
    total = 0
    for number in numbers:
        placement = engine.decide(request(asked, number, ExplainLevel.SUMMARY)).placements[0]
        total += len(placement.offers) + placement.summary.get(Reason.ARBITRATION_LOST, 0)
    return total / len(numbers)


def summary(nanoseconds: npt.NDArray[np.int64]) -> dict[str, float]:
    """Sample size, median, p90, p99, p99.9 and mean in microseconds."""
    import numpy as np

    microseconds = nanoseconds / 1_000
    p50, p90, p99, p999 = np.percentile(microseconds, [50, 90, 99, 99.9])
    return {
        "sample": len(microseconds),
        "p50_us": float(p50),
        "p90_us": float(p90),
        "p99_us": float(p99),
        "p999_us": float(p999),
        "mean_us": float(microseconds.mean()),
    }


def time_calls(engine: Engine, requests: Sequence[DecideRequest], seconds: float) -> npt.NDArray[np.int64]:
    """Nanoseconds of each `Engine.decide`, one after another, until requests or seconds run out."""
    import numpy as np

    taken = np.zeros(len(requests), np.int64)
    stop = time.perf_counter() + seconds
    for position, each in enumerate(requests):
        began = time.perf_counter_ns()
        engine.decide(each)
        taken[position] = time.perf_counter_ns() - began
        if time.perf_counter() > stop:
            return taken[: position + 1]
    return taken


def bill(engine: Engine, asked: Asked, left: float) -> dict[str, float]:
    """What a decision takes of each unit of the cost model, when so many offers compete."""
    from loadtest import cost_model

    plan = engine.plan
    made = cost_model.parts(plan.source)
    return cost_model.bill(
        made,
        competing=left,
        slots=asked.placements * asked.slots,
        placements=asked.placements,
        pruned=not made["models"] and left >= plan.prune_from,
    )


def measure(asked: Asked, store: Path, models: Path, sample: int, spawned_ns: int) -> dict[str, object]:
    """Opens, decides, measures. ``spawned_ns`` is the monotonic clock when this process was started."""
    with installation.opened(store, models) as engine:
        generator = random.Random(asked.seed)
        numbers = [generator.randrange(asked.customers)]
        first = engine.decide(request(asked, numbers[0]))
        started = time.monotonic_ns() - spawned_ns
        check(first, asked.slots)
        numbers.extend(generator.randrange(asked.customers) for _ in range(sample + WARM - 1))
        requests = [request(asked, number) for number in numbers]
        answered = [engine.decide(each) for each in requests[:WARM]]
        left = competing(engine, asked, numbers[:WARM])
        result: dict[str, object] = {
            "workload": asked.workload,
            "start_s": started / 1e9,
            "filled_share": sum(len(each.placements[0].offers) for each in answered) / (WARM * asked.slots),
            "competing": left,
            "bill": bill(engine, asked, left),
        }
        called = time_calls(engine, requests[WARM:], SECONDS)
        result["call"] = summary(called)
        kernel = engine.benchmark(requests[WARM : WARM + len(called)], 1)
        result["kernel"] = summary(kernel)
        result["peak_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return result


def main() -> None:
    """Measures what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.deciding")
    parser.add_argument("workload")
    parser.add_argument("--customers", type=int, required=True)
    parser.add_argument("--placements", type=int, required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--sample", type=int, required=True)
    parser.add_argument("--spawned-ns", type=int, required=True)
    given = parser.parse_args()
    asked = Asked(given.workload, given.customers, given.placements, given.slots, given.seed)
    json.dump(measure(asked, given.store, given.models, given.sample, given.spawned_ns), sys.stdout)
    print()


if __name__ == "__main__":
    main()
