"""What figures are worth: doubts about a round in words, the search for the highest rate, and two sides compared.

Nothing here measures; it is fed with rounds, or with a function that makes them, so that it can be tested without a server.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.measuring import Round

RESAMPLED = 5_000


def doubts(rounds: Sequence[Round], cores: int) -> list[str]:
    """Why a reader should not take figures at face value, each reason once with the rounds it is about."""
    about: dict[str, list[str]] = {}
    for each in rounds:
        for text in doubts_of(each):
            about.setdefault(text, []).append(each.label)
    found = [f"{', '.join(dict.fromkeys(labels))}: {text}" if len(rounds) > 1 else text for text, labels in about.items()]
    load = max((each.load for each in rounds), default=0.0)
    if load > cores:
        found.append(f"The machine was busy with other work: load up to {load:.1f} on {cores} cores. Trust ratios, not times.")
    return found


def came_late(each: Round) -> bool:
    """Whether the generator's own lag is a good part of the tail: the figures are not the server's then."""
    lag = each.taken.lag.percentile(99)
    return lag > 1_000_000 and lag > each.taken.latency.percentile(99) / 4


def doubts_of(each: Round) -> list[str]:
    """What speaks against one round's figures; empty when nothing does."""
    taken = each.taken
    found = []
    if taken.interrupted:
        found.append("Interrupted: the schedule is counted up to that moment.")
    if taken.unsent or taken.failures.get("unfinished"):
        late = taken.unsent + taken.failures.get("unfinished", 0)
        found.append(
            f"{late:,} of {taken.scheduled:,} requests had no answer when the waiting ended. They are slower than every "
            "percentile shown, and in none of them."
        )
    others = {name: count for name, count in taken.failures.items() if name != "unfinished"}
    if others:
        said = ", ".join(f"{count:,} {name}" for name, count in sorted(others.items(), key=lambda pair: -pair[1]))
        first = next(iter(taken.messages.values()), "")
        p50, p99 = taken.failed_latency.percentiles([50, 99])
        told = f", told after {p50 / 1e6:.3g} ms (p50), {p99 / 1e6:.3g} (p99)" if taken.failed_latency.total else ""
        found.append(f"Failed calls: {said}{told}." + (f" The server said: {first}" if first else ""))
    if came_late(each):
        lag, latency = taken.lag.percentile(99), taken.latency.percentile(99)
        found.append(
            f"The generator itself came late: 1 % of the requests by {lag / 1e6:.1f} ms or more, of a p99 of "
            f"{latency / 1e6:.1f} ms. Read the latency from sending beside it, or give the generator a core of its own."
        )
    if taken.elapsed and taken.generator_cpu_s / taken.elapsed > 0.9:
        found.append("The generator used its whole core: the server may be faster than shown.")
    seen = taken.seen
    if seen.placements and seen.filled < seen.placements:
        found.append(f"{1 - seen.filled / seen.placements:.1%} of the placements looked at came back as fallback.")
    bad = {name: count for name, count in seen.outcomes.items() if name not in ("APPLIED", "DUPLICATE")}
    if bad:
        found.append("Reports not applied: " + ", ".join(f"{count:,} {name}" for name, count in bad.items()) + ".")
    return found


def holds(each: Round, *, share: float, p99_ms: float) -> bool:
    """Whether the server kept up: so large a share of what was scheduled was answered before the schedule's end, under the bound.

    What failed, was never sent or came later counts as not answered.
    """
    taken = each.taken
    in_time = int(taken.timeline.completed.sum())
    return taken.scheduled > 0 and in_time >= share * taken.scheduled and taken.latency.percentile(99) <= p99_ms * 1e6


def search(trial: Callable[[float], bool], guess: float, *, precision: float = 0.05, most: int = 12) -> float:
    """The highest rate that ``trial`` accepts, found by halving the interval's logarithm; 0 when it accepts none.

    Begins at ``guess``, goes up or down by half until both sides are known, and ends when they are within
    ``precision`` of each other, or after ``most`` trials.
    """
    low, high, rate = 0.0, float("inf"), guess
    for _ in range(most):
        if trial(rate):
            low = rate
        else:
            high = rate
        if high == float("inf"):
            rate = low * 1.5
        elif low == 0.0:
            rate = high / 1.5
        elif high / low <= 1 + precision:
            break
        else:
            rate = (low * high) ** 0.5
    return low


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of two sides over interleaved rounds. ``ratio`` is B's median over A's, with a 95 % interval."""

    name: str
    unit: str
    a: float
    b: float
    ratio: float
    low: float
    high: float

    @property
    def differs(self) -> bool:
        """Whether the interval leaves out 1."""
        return not self.low <= 1 <= self.high


def compare(name: str, unit: str, a: Sequence[float], b: Sequence[float], seed: int = 1) -> Comparison:
    """Compares figures measured in pairs, a[i] beside b[i].

    The interval is the bootstrap's: pairs are drawn anew with replacement, so what the machine did to both sides of a
    pair stays together. ValueError for unequal or empty series.
    """
    if len(a) != len(b) or not a:
        raise ValueError("Two series of the same length are compared, one pair a round.")
    first, second = np.asarray(a, float), np.asarray(b, float)
    drawn = np.random.default_rng(seed).integers(0, len(a), (RESAMPLED, len(a)))
    ratios = np.median(second[drawn], axis=1) / np.median(first[drawn], axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    middle_a, middle_b = statistics.median(a), statistics.median(b)
    return Comparison(name, unit, middle_a, middle_b, middle_b / middle_a, float(low), float(high))


def comparisons(rounds: Sequence[Round]) -> list[Comparison]:
    """Rounds labelled A and B, paired in order: rate, percentiles, and the server's CPU time a call if it is known."""
    sides = {label: [each for each in rounds if each.label == label] for label in ("A", "B")}
    pairs = min(len(sides["A"]), len(sides["B"]))

    def series(of: Callable[[Round], float]) -> tuple[list[float], list[float]]:
        return [of(each) for each in sides["A"][:pairs]], [of(each) for each in sides["B"][:pairs]]

    def percentile(percent: float) -> Callable[[Round], float]:
        return lambda each: each.taken.latency.percentile(percent) / 1e6

    figures: list[tuple[str, str, Callable[[Round], float]]] = [
        ("answers", "/s", lambda each: each.taken.achieved),
        ("p50", "ms", percentile(50)),
        ("p99", "ms", percentile(99)),
        ("p99.9", "ms", percentile(99.9)),
        ("server CPU a call", "us", lambda each: each.cores("server") * each.taken.elapsed / each.taken.answered * 1e6),
    ]
    found = []
    for name, unit, of in figures:
        a, b = series(of)
        if a and min(*a, *b) > 0:
            found.append(compare(name, unit, a, b))
    return found


def growth(values: Sequence[float]) -> float:
    """How much a series grew from its second quarter to its last, as a share; the first quarter is warming up."""
    quarter = len(values) // 4
    if not quarter:
        return 0.0
    early = statistics.median(values[quarter : 2 * quarter])
    return statistics.median(values[-quarter:]) / early - 1 if early else 0.0
