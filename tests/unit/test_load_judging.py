"""What the load test concludes from figures: the search for capacity, two sides compared, doubts, growth."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest

from loadtest import judging
from loadtest.histogram import Histogram
from loadtest.measuring import Moment, Round
from loadtest.taken import Connections, Pace, Part, Seen, Taken, Timeline

MS = 1_000_000
SEED = 20261126


def taken(
    latencies: list[int],
    *,
    pace: Pace | None = None,
    failures: dict[str, int] | None = None,
    unsent: int = 0,
    lag: list[int] | None = None,
    after_the_end: int = 0,
) -> Taken:
    """A run of one call whose answers took these nanoseconds."""
    histogram, failed = Histogram.of(latencies), sum((failures or {}).values())
    sent = len(latencies) + failed
    in_one = np.array([len(latencies) - after_the_end], np.int64)
    zero = np.zeros(1, np.int64)
    return Taken(
        pace=pace or Pace(1.0, sent + unsent),
        elapsed=1.0,
        scheduled=sent + unsent,
        sent=sent,
        answered=len(latencies),
        unsent=unsent,
        interrupted=False,
        failures=failures or {},
        messages={},
        parts=[Part("decide", sent, len(latencies), failed, histogram, histogram)],
        failed_latency=Histogram(),
        lag=Histogram.of(lag or [1_000] * 10),
        waited=Histogram(),
        timeline=Timeline(1.0, np.array([sent + unsent], np.int64), in_one, zero, zero, [histogram]),
        seen=Seen(),
        connections=Connections(),
        samples=[],
        generator_cpu_s=0.2,
        longest_pass_ns=0,
        allocations=0,
        bytes_sent=0,
        bytes_received=0,
    )


def round_of(run: Taken, label: str = "", server_cpu: float = 0.5) -> Round:
    moments = [Moment(0.0, 1.0, 1.0, 100.0, 4, 9), Moment(1.0, 1.0 + server_cpu, 1.2, 100.0, 4, 9)]
    return Round(label, run, moments, 0.1, 1_790_000_000.0)


# --- search -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [3.0, 90.0, 1_000.0, 1_730.0, 40_000.0])
def test_the_search_ends_within_its_precision_under_the_limit(limit: float) -> None:
    asked: list[float] = []

    def trial(rate: float) -> bool:
        asked.append(rate)
        return rate <= limit

    found = judging.search(trial, 1_000.0, precision=0.05, most=30)
    assert limit / 1.05 <= found <= limit
    assert len(asked) == len(set(asked)) <= 20


def test_the_search_gives_up_after_so_many_trials() -> None:
    asked: list[float] = []

    def refuse(rate: float) -> bool:
        asked.append(rate)
        return False

    assert judging.search(refuse, 100.0, most=5) == 0.0
    assert len(asked) == 5


def test_keeping_up_means_answers_in_time_and_under_the_bound() -> None:
    quick = [MS] * 1_000

    def holds(run: Taken) -> bool:
        return judging.holds(round_of(run), share=0.99, p99_ms=5)

    assert holds(taken(quick))
    assert holds(taken(quick, failures={"UNAVAILABLE": 5}))
    assert not holds(taken(quick, failures={"UNAVAILABLE": 50}))
    assert not holds(taken(quick, unsent=50))
    assert not holds(taken(quick, after_the_end=50))
    assert not holds(taken([MS] * 980 + [6 * MS] * 20))
    assert not holds(taken([]))


# --- comparison ---------------------------------------------------------------------------------------------------


def test_a_difference_is_found_and_its_size_is_inside_the_interval() -> None:
    drawn = random.Random(SEED)
    a = [100 + drawn.gauss(0, 3) for _ in range(15)]
    b = [each * 1.3 + drawn.gauss(0, 3) for each in a]
    found = judging.compare("answers", "/s", a, b)
    assert found.low < 1.3 < found.high, f"seed {SEED}"
    assert found.low <= found.ratio <= found.high
    assert found.differs


def test_what_happens_to_both_sides_of_a_pair_does_not_widen_the_interval() -> None:
    """The machine was three times as slow in some rounds, for both sides alike: the ratio is as sure as before."""
    drawn = random.Random(SEED)
    slow = [drawn.choice((1.0, 1.0, 1.0, 3.0)) for _ in range(15)]
    a = [each * 100 for each in slow]
    found = judging.compare("p99", "ms", a, [each * 1.1 for each in a])
    assert found.low == pytest.approx(1.1)
    assert found.high == pytest.approx(1.1)


def test_no_difference_is_seen_between_equal_sides_most_of_the_time() -> None:
    drawn = random.Random(SEED)
    wrong = 0
    for _ in range(60):
        a, b = ([100 + drawn.gauss(0, 5) for _ in range(9)] for _ in range(2))
        wrong += judging.compare("answers", "/s", a, b).differs
    # An interval of 95 % is wrong once in twenty; of medians of nine a little more often.
    assert wrong <= 12, f"seed {SEED}"


@pytest.mark.parametrize(("a", "b"), [([], []), ([1.0], [1.0, 2.0])])
def test_only_pairs_are_compared(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match="pair"):
        judging.compare("answers", "/s", a, b)


def test_rounds_are_paired_by_their_labels() -> None:
    rounds = []
    for number in range(5):
        rounds.append(round_of(taken([2 * MS] * (100 + number)), "A", server_cpu=0.4))
        rounds.append(round_of(taken([1 * MS] * (200 + number)), "B", server_cpu=0.2))
    found = {each.name: each for each in judging.comparisons(rounds)}
    assert found["answers"].ratio == pytest.approx(202 / 102)
    assert found["p99"].ratio == pytest.approx(0.5, rel=0.01)
    assert found["server CPU a call"].ratio == pytest.approx((0.2 / 202) / (0.4 / 102))
    # Without the server's process nothing is said of its cost.
    unknown = [dataclasses.replace(each, moments=[]) for each in rounds]
    assert "server CPU a call" not in {each.name for each in judging.comparisons(unknown)}


# --- doubts -------------------------------------------------------------------------------------------------------


def test_nothing_is_said_against_a_sound_round() -> None:
    assert judging.doubts([round_of(taken([MS] * 100))], cores=2) == []


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (taken([MS] * 90, unsent=7, failures={"unfinished": 3}), ["10 of 100", "no answer"]),
        (taken([MS] * 90, failures={"UNAVAILABLE": 3, "reset CANCEL": 5}), ["5 reset CANCEL, 3 UNAVAILABLE"]),
        (taken([10 * MS] * 90, lag=[4 * MS] * 90), ["generator itself", "4.0 ms", "10.0 ms"]),
        (dataclasses.replace(taken([MS] * 90), generator_cpu_s=0.97), ["whole core"]),
        (dataclasses.replace(taken([MS] * 90), interrupted=True), ["Interrupted"]),
        (dataclasses.replace(taken([MS]), seen=Seen(10, 40, 30)), ["25.0%", "fallback"]),
        (dataclasses.replace(taken([MS]), seen=Seen(outcomes={"APPLIED": 9, "REFUSED": 4})), ["4 REFUSED"]),
    ],
)
def test_each_doubt_is_said(run: Taken, words: list[str]) -> None:
    (text,) = judging.doubts([round_of(run)], cores=2)
    for word in words:
        assert word in text


def test_a_doubt_of_several_rounds_is_said_once() -> None:
    bad = taken([MS] * 90, failures={"UNAVAILABLE": 1})
    rounds = [round_of(bad, "A"), round_of(taken([MS]), "B"), round_of(bad, "A"), round_of(bad, "C")]
    assert judging.doubts(rounds, 2) == ["A, C: Failed calls: 1 UNAVAILABLE."]


def test_a_busy_machine_is_told() -> None:
    busy = dataclasses.replace(round_of(taken([MS])), load=3.5)
    (text,) = judging.doubts([busy, busy], cores=2)
    assert "3.5 on 2 cores" in text


def test_growth_leaves_the_warming_up_out() -> None:
    assert judging.growth([0.0, 50.0, 100.0, 100.0, 100.0, 100.0, 110.0, 110.0]) == pytest.approx(0.1)
    assert judging.growth([100.0] * 8) == 0.0
    assert judging.growth([1.0, 2.0]) == 0.0
