"""Edges of bands are the exact quantiles of everybody's values, made by the sweep, and they outlast a restart."""

from __future__ import annotations

import gc
import random
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from core import limits
from core.decision import Identifier
from core.engine import Engine
from core.hub import mutations
from core.hub.store import Store
from core.inference.registry import Registry
from core.kernel.segmenting import Walk
from core.schema import Money
from core.sweep import NEVER, Bands, Sweep
from tests.engine_subject import EngineSubject

SECOND = 1_000_000
DAY = 86_400 * SECOND
NOW = 1_800_000_000 * SECOND

PROGRAM = """
program: p
currency: EUR
schema:
  namespaces: {crm: {trust: 1}}
  attributes: {score: double, visits: int}
  events: {purchase: {amount: money}}
derived: {worth: events.purchase.sum_amount_90d * 0.5}
bands:
  recency: {of: events.purchase.last_at, parts: 5}
  frequency: {of: events.purchase.count, parts: 5}
  monetary: {of: derived.worth, parts: 7}
  score: {of: customer.score, parts: 4}
  visits: {of: customer.visits, parts: 10}
  nobody: {of: events.purchase.last_amount_1m, parts: 3}
segments: {best: band.recency >= 3 && band.frequency >= 3}
channels: {web: {placements: {hero: {slots: 1}}}}
groups: {g: }
offers: [{offer: o, group: g, value: 1, propensity: 0.5, eligibility: [segment.best], treatments: {web.hero: {a: x}}}]
"""
SOURCES = {"program.yaml": PROGRAM.encode()}


def people(subject: EngineSubject, count: int, seed: int) -> dict[str, list[float]]:
    """Customers with random values; the values of each band."""
    source = random.Random(seed)
    values: dict[str, list[float]] = {name: [] for name in ("recency", "frequency", "monetary", "score", "visits", "nobody")}
    for number in range(count):
        who = (Identifier("crm", str(number)),)
        attributes: dict[str, float | int] = {}
        if source.random() < 0.8:
            attributes["score"] = source.random() * 3
            values["score"].append(attributes["score"])
        if source.random() < 0.8:
            # Many alike: edges that are equal leave parts between them empty.
            attributes["visits"] = source.choice((0, 0, 0, 1, 2, 7))
            values["visits"].append(attributes["visits"])
        subject.upsert(who, attributes, NOW)
        bought = [
            (NOW - source.randrange(DAY, 200 * DAY), source.randrange(-500, 100_000)) for _ in range(source.choice((0, 1, 2, 9)))
        ]
        if bought:
            subject.store.apply(mutations.RecordEvents(identifiers=who, events=tuple(
                mutations.RecordedEvent(type="purchase", key=f"k{i}", at_us=at, fields={"amount": Money(minor, "EUR")})
                for i, (at, minor) in enumerate(bought)
            )))
            values["recency"].append(max(at for at, _ in bought))
        values["frequency"].append(len(bought))
        values["monetary"].append(sum(minor for at, minor in bought if at > NOW - 90 * DAY) / 100 * 0.5)
    return values


@pytest.mark.parametrize("count", [1, 2, 3, 250])
def test_edges_are_numpys_quantiles_to_the_last_bit(count: int, tmp_path: Path) -> None:
    with EngineSubject(tmp_path) as subject:
        subject.load(SOURCES, NOW)
        values = people(subject, count, seed=count)
        subject.refresh(NOW)
        bands = subject.engine.plan.program.bands
        for name, kept in subject.engine.bands().items():
            assert kept is not None
            assert kept.customers == len(values[name])
            parts = range(1, bands[name].parts) if values[name] else ()
            assert list(kept.edges) == [float(np.quantile(values[name], i / bands[name].parts)) for i in parts], name


def test_edges_outlast_a_restart_and_serve_from_its_first_decision(tmp_path: Path) -> None:
    with EngineSubject(tmp_path) as subject:
        subject.load(SOURCES, NOW)
        people(subject, 40, seed=7)
        subject.refresh(NOW)
        before = subject.engine.bands()
        changes = subject.store.applied
    with Store.open(tmp_path / "store", map_bytes=1 << 28) as store:
        registry = Registry(tmp_path / "models", settle_seconds=0.0)
        engine = Engine(store, registry, clock_us=lambda: NOW)
        assert engine.bands() == before
        with Walk(engine.audience(), engine.audience().source.asked[:1]) as walk:
            while walk.step(1000, NOW):
                pass
            assert walk.counts[0] > 0, "bands serve, so the segment has members"
        assert store.applied == changes
        engine.close()
        registry.close()
        gc.collect()


def test_edges_of_another_definition_do_not_serve(tmp_path: Path) -> None:
    with EngineSubject(tmp_path) as subject:
        subject.load(SOURCES, NOW)
        people(subject, 10, seed=3)
        subject.refresh(NOW)
        changed = PROGRAM.replace("recency: {of: events.purchase.last_at", "recency: {of: events.purchase.first_at")
        subject.load({"program.yaml": changed.encode()}, NOW)
        assert {name for name, kept in subject.engine.bands().items() if kept is None} == {"recency"}
        assert Bands(subject.engine, lambda: NOW).due_us(NOW) <= NOW, "made again at once"
        subject.refresh(NOW)
        assert None not in subject.engine.bands().values()


def test_nothing_changed_nothing_to_do(tmp_path: Path) -> None:
    """Edges are made again after a rest when something changed, and every hour because of the window of 90 days; beside that
    the sweep is idle, and what it finds the same it does not write."""
    with EngineSubject(tmp_path) as subject:
        subject.load(SOURCES, NOW)
        people(subject, 10, seed=3)
        subject.clock_us = NOW
        bands = Bands(subject.engine, lambda: subject.clock_us)

        def walk() -> None:
            while bands.due_us(subject.clock_us) <= subject.clock_us:
                bands.step(3, subject.clock_us)

        walk()
        written = subject.store.applied
        assert bands.due_us(NOW) == NOW + limits.SWEEP_MOVED_US
        subject.clock_us = NOW + limits.SWEEP_MOVED_US
        walk()
        assert subject.store.applied == written
        subject.upsert([Identifier("crm", "new")], {"score": 9.0}, subject.clock_us)
        assert bands.due_us(subject.clock_us) == subject.clock_us + limits.SWEEP_REST_US
        subject.clock_us += limits.SWEEP_REST_US
        walk()
        assert subject.store.applied == written + 2
        bands.close()


def test_without_a_clock_in_it_time_alone_is_no_reason(tmp_path: Path) -> None:
    text = PROGRAM.replace("sum_amount_90d", "sum_amount").replace("last_amount_1m", "last_amount")
    with EngineSubject(tmp_path) as subject:
        subject.load({"program.yaml": text.encode()}, NOW)
        people(subject, 3, seed=1)
        subject.clock_us = NOW
        bands = Bands(subject.engine, lambda: NOW)
        while bands.due_us(NOW) <= NOW:
            bands.step(100, NOW)
        assert bands.due_us(NOW) == NEVER


class _Counting:
    """A task that always has work, or fails."""

    def __init__(self, name: str, fail: bool = False) -> None:
        self.name = name
        self.fail = fail
        self.visited = 0
        self.closed = False

    def due_us(self, now_us: int) -> int:
        return now_us

    def step(self, most: int, now_us: int) -> int:
        if self.fail:
            raise OSError("the disk does not answer")
        self.visited += most
        return most

    def close(self) -> None:
        self.closed = True


def turns(sweep: Sweep, clock: list[int], count: int) -> tuple[int, float]:
    """Turns as the thread takes them, with its rests passing on the clock: customers visited, and seconds rested."""
    visited = seconds = 0.0
    for _ in range(count):
        found, rest = sweep.turn()
        visited += found
        seconds += rest
        clock[0] += int(rest * SECOND)
    return int(visited), seconds


def test_all_tasks_together_keep_the_pace_and_each_has_its_turn() -> None:
    clock = [NOW]
    tasks = [_Counting("a"), _Counting("b"), _Counting("c")]
    sweep = Sweep(tasks, clock_us=lambda: clock[0], per_second=50_000)
    visited, seconds = turns(sweep, clock, 300)
    assert visited == 300 * limits.SWEEP_STEP
    assert visited / seconds <= 50_000.001
    assert [task.visited for task in tasks] == [100 * limits.SWEEP_STEP] * 3
    sweep.stop()
    assert all(task.closed for task in tasks)


def test_a_task_that_fails_is_told_of_and_left_alone_for_a_minute() -> None:
    clock = [NOW]
    told: list[str] = []
    on_error: Callable[[str, BaseException], None] = lambda name, error: told.append(f"{name}: {error}")  # noqa: E731
    sweep = Sweep([_Counting("broken", fail=True)], clock_us=lambda: clock[0], on_error=on_error)
    begun = clock[0]
    while len(told) < 3:
        turns(sweep, clock, 1)
    assert told == ["broken: the disk does not answer"] * 3
    assert clock[0] - begun >= 2 * 60 * SECOND


def test_the_thread_makes_edges_and_ends(tmp_path: Path) -> None:
    """The real thread: woken by nothing but its own look, it finds a program without edges and makes them."""
    with EngineSubject(tmp_path) as subject:
        subject.clock_us = NOW
        subject.load(SOURCES, NOW)
        people(subject, 20, seed=2)
        failed: list[BaseException] = []
        made = threading.Event()

        class Told(Bands):
            def step(self, most: int, now_us: int) -> int:
                visited = super().step(most, now_us)
                made.set()
                return visited

        sweep = Sweep(
            [Told(subject.engine, lambda: NOW)], clock_us=lambda: NOW, on_error=lambda name, error: failed.append(error)
        )
        sweep.start()
        assert made.wait(30), "no step was made"
        sweep.stop()
        assert not failed
        assert None not in subject.engine.bands().values(), "twenty customers are one step"
