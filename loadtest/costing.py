"""The cost model's programs timed in a process of its own: ``python -m loadtest.costing`` (started by `loadtest.inprocess`).

One series after another. All programs of a series are bound to the one store, and are then decided in turn: in each round
every program decides a block of customers drawn at random, anew for each, so that profiles are as cold as a server finds
them, and whatever slows the machine for a while slows all programs of a round alike. The first program of a round is
another one each time. A block gives its median. What is timed is the compiled decision, as for the workloads.
Prints one line of JSON: the medians by series, round and program, and what each program is made of.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from core.decision import DecideRequest, Identifier, PlacementRequest
from core.hub.mutations import Outcome, RecordedEvent, RecordEvents, RecordOutcomes
from core.hub.store import Store
from core.inference.registry import LiveModel, Registry
from core.kernel.exchange import decide_one, measure
from core.kernel.plan import Plan
from core.programs.model_binding import ModelBinding
from core.programs.plan import compile_tables
from core.programs.source import check, read
from core.programs.tables import Tables
from loadtest import cost_model, cost_programs, names
from loadtest.cost_programs import BLOCK, Series, Shape
from loadtest.names import CHANNEL, FIRST

SKIPPED = 20  # of a block's first ones, while the caches are still another program's
ALIKE = 100  # customers with one length of history
SEED = 20261126
_DAY_US = 86_400_000_000

Figures = dict[str, object]


def tables_of(shape: Shape, models: Mapping[str, ModelBinding]) -> Tables:
    """The compiled program of a shape."""
    return compile_tables(check(read(cost_programs.sources(shape))), models)


def bound(shape: Shape, store: Store, models: Mapping[str, LiveModel]) -> Plan:
    """A plan that decides over the store. Nothing of it is kept there but the names it declares."""
    tables = tables_of(shape, {name: model.binding for name, model in models.items()})
    program = tables.program
    store.declare(program.schema, [offer.name for offer in program.offers], program.channels)
    return Plan(tables, store.catalog, store.environment, models, "cost@1", 1, store.signing_key)


def request(shape: Shape, number: int) -> DecideRequest:
    """The decision that a program of this shape is asked for customer ``number``, from 0."""
    each = shape.slots // shape.placements
    return DecideRequest(
        channel=CHANNEL,
        placements=tuple(PlacementRequest(name, each) for name in names.placements(shape.placements)),
        identifiers=(Identifier("crm", str(FIRST + number)),),
    )


def bill(series: Series, at: int, plan: Plan) -> cost_model.Bill:
    """What a decision of the series' program number ``at`` takes of each unit."""
    shape = series.shapes()[at]
    length = series.values[at] if series.history else 0
    return cost_model.bill(
        cost_model.parts(plan.source),
        competing=shape.competing,
        slots=shape.slots,
        placements=shape.placements,
        pruned=not shape.model and shape.competing >= plan.prune_from,
        contacts=length if series.history == "contacts" else 0,
        events=length + 1 if series.history == "events" else 0,
    )


def _check(series: Series, shape: Shape, plan: Plan, now_us: int) -> None:
    """A program that returned less than it was asked for would be timed for another thing than its name says."""
    answer = decide_one(plan, request(shape, 0), now_us, 1, 0)
    filled = sum(len(placement.offers) for placement in answer.placements)
    expected = shape.slots if shape.competing else 0
    if not answer.known or filled != expected:
        raise ValueError(f"{series.name}: {filled} offers came back, not {expected}, or nobody knew the customer")


def _timed(
    series: Series, plans: Sequence[Plan], customers: Sequence[Sequence[int]], rounds: int, now_us: int
) -> list[list[float]]:
    """Medians in ns by round and value; a value's customers are drawn from its own numbers."""
    shapes = series.shapes()
    generator = random.Random(SEED)
    medians = []
    for turn in range(-2, rounds):
        taken = [0.0] * len(shapes)
        for step in range(len(shapes)):
            at = (turn + step) % len(shapes)
            asked = [request(shapes[at], generator.choice(customers[at])) for _ in range(BLOCK)]
            taken[at] = float(np.median(measure(plans[at], asked, 1, now_us)[SKIPPED:]))
        if turn >= 0:
            medians.append(taken)
    return medians


def _history(series: Series, store: Store, now_us: int) -> list[list[int]]:
    """Makes customers with as many contacts or events as the series wants; their numbers by value."""
    generator = random.Random(SEED)
    offers = [f"offer_{number:06d}" for number in range(series.base.competing)]
    made, number = [], 0
    for length in series.values:
        made.append(list(range(number, number + ALIKE)))
        for customer in made[-1]:
            who = (Identifier("crm", str(FIRST + customer)),)
            store.apply(RecordEvents(identifiers=who, events=(RecordedEvent(type="view", key="first", at_us=1),)))
            moments = sorted(now_us - generator.randrange(1, 6 * _DAY_US) for _ in range(length))
            if series.history == "contacts" and moments:
                store.apply(RecordOutcomes(outcomes=tuple(
                    Outcome(
                        identifiers=who, offer=generator.choice(offers), outcome="shown", channel=CHANNEL, at_us=at, key=str(at)
                    )
                    for at in moments
                )))
            elif moments:
                events = tuple(RecordedEvent(type="view", key=str(at), at_us=at) for at in moments)
                store.apply(RecordEvents(identifiers=who, events=events))
        number += ALIKE
    return made


def series_of(series: Series, store: Store, models: Mapping[str, LiveModel], customers: int, rounds: int) -> Figures:
    """One series measured: its values, medians, and its programs' parts."""
    now_us = time.time_ns() // 1_000
    with ExitStack() as until:
        if series.history:
            folder = until.enter_context(tempfile.TemporaryDirectory(prefix="rapport-cost-"))
            store = until.enter_context(Store.open(Path(folder)))
        plans: dict[Shape, Plan] = {}
        for shape in series.shapes():
            if shape not in plans:
                plans[shape] = bound(shape, store, models)
                until.callback(plans[shape].close)
        of_value = [plans[shape] for shape in series.shapes()]
        drawn: Sequence[Sequence[int]] = [range(customers)] * len(of_value)
        if series.history:
            drawn = _history(series, store, now_us)
        for shape, plan in plans.items():
            _check(series, shape, plan, now_us)
        return {
            "values": series.values,
            "medians_ns": _timed(series, of_value, drawn, rounds, now_us),
            "bills": [bill(series, at, plan) for at, plan in enumerate(of_value)],
        }


def measured(store: Path, models: Path, customers: int, sample: int) -> Iterator[tuple[str, Figures]]:
    """Every series, by name."""
    with Store.open(store) as hub:
        registry = Registry(models, settle_seconds=0.0)
        try:
            registry.scan()
            for series in cost_programs.SERIES:
                yield series.name, series_of(series, hub, registry.live(), customers, max(8, sample // BLOCK))
        finally:
            registry.close()


def main() -> None:
    """Measures what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.costing")
    parser.add_argument("--customers", type=int, required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--sample", type=int, required=True)
    given = parser.parse_args()
    figures = {}
    for name, found in measured(given.store, given.models, given.customers, given.sample):
        figures[name] = found
    json.dump(figures, sys.stdout)
    print()


if __name__ == "__main__":
    main()
