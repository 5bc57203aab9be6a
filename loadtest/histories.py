"""What a customer's history costs a decision: ``python -m loadtest.histories`` (part of `make bench`).

One store holds customers with so many events and contacts, each in a household with somebody of whom nothing is known. Programs
decide for them in turn: a bare profile, the same with 30 aggregates, with a cap that looks at every contact, with both, with what
the household shares, with all three, and with a cap of the household that looks at every contact. In each round every program
decides a block of customers drawn at random, the first program of a round is another one each time, and a block gives its median:
whatever slows the machine slows all alike. Prints one line of JSON: by history and program the median of the blocks' medians.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml

from core.decision import DecideRequest, Identifier, PlacementRequest
from core.hub.mutations import Cell, Outcome, RecordedEvent, RecordEvents, RecordOutcomes, SetMembership, Upsert
from core.hub.store import Store
from core.kernel.exchange import decide_one, measure
from core.kernel.plan import Plan
from core.programs.plan import compile_tables
from core.programs.source import check, read
from core.schema import Money

HISTORIES = (0, 60, 200)  # events of a customer
CONTACTS = 256
CUSTOMERS = 200  # of each history
BLOCK = 200
SKIPPED = 20  # of a block's first ones, while the caches are still another program's
SEED = 20261126
BARE, AGGREGATES, CONTACT, BOTH = "bare", "30 aggregates", f"{CONTACTS} contacts", "both"
HOUSEHOLD, ALL, SHARED = "household", "all three", f"{CONTACTS} contacts of the household"
PROGRAMS = (BARE, AGGREGATES, CONTACT, BOTH, HOUSEHOLD, ALL, SHARED)
_DAY_US = 86_400_000_000
# 30 aggregates as RFM models, churn scores and contact rules read them: all functions, windows from an hour to two years.
PATHS = (
    *(f"purchase.{name}_{window}" for window in ("7d", "30d", "90d", "365d") for name in ("count", "sum_amount", "max_amount")),
    "purchase.mean_amount_365d", "purchase.min_amount_365d", "purchase.distinct_category_90d",
    "purchase.distinct_category_365d", "purchase.last_at", "purchase.first_at", "purchase.last_category",
    "purchase.sum_items_30d", "purchase.sum_items_365d",
    "view.count_1h", "view.count_1d", "view.count_7d", "view.count_30d", "view.distinct_product_7d",
    "view.distinct_product_30d", "view.last_at", "view.last_product", "view.sum_seconds_7d",
)
OFFERS = tuple(f"other_{number:02d}" for number in range(20))
# Half of what is served is seen, and a tenth of that clicked.
_OUTCOMES = ("served",) * 20 + ("shown",) * 10 + ("clicked",)
_CATEGORIES = ("shoes", "sports", "garden", "toys", "books", "kitchen", "music", "tools")


def sources(*, aggregates: bool, contacts: bool, household: bool, shared: bool) -> dict[str, bytes]:
    """A program of one offer that reads a bare profile, and 30 aggregates, every contact or the household besides.

    ``shared``: contacts are counted for the household.
    """
    paths = (
        "customer.age", *(f"events.{path}" for path in PATHS if aggregates),
        *(f"household.{path}" for path in ("plan", "role", "size") if household),
    )
    shown = " ".join(f"{{{{ {path} }}}}" for path in paths)
    offer: dict[str, object] = {
        "offer": "one", "group": "all", "value": "1.00 EUR", "propensity": 0.5,
        "treatments": {"web.home": {"title": "Hello"}},
    }
    # Named by an offer that never runs: read for every decision, and rendered in none.
    reading: dict[str, object] = {
        "offer": "reading", "group": "all", "value": "1.00 EUR", "propensity": 0.5, "stopped": True,
        "treatments": {"web.home": {"title": shown}},
    }
    # What the contacts are about: offers that never run either, each with a cap of its own where contacts are read.
    others: list[dict[str, object]] = [{**reading, "offer": name, "treatments": offer["treatments"]} for name in OFFERS]
    if contacts:
        for each in (offer, *others):
            cap: dict[str, object] = {"outcome": "shown", "at_most": 4096, "per": "365d"}
            each["contact"] = {"caps": [cap | ({"of": "household"} if shared else {})]}
    return {
        name: yaml.dump(document, sort_keys=False, width=10_000).encode()
        for name, document in {
            "program.yaml": {"program": "histories", "currency": "EUR"},
            "schema.yaml": {
                "namespaces": {"crm": {}, "account": {"of": "household"}}, "attributes": {"age": "int"},
                "household": {"attributes": {"plan": "string"}, "roles": ["owner", "other"]},
                "events": {
                    "purchase": {"amount": "money", "category": "string", "items": "int"},
                    "view": {"product": "string", "seconds": "int"},
                },
            },
            "channels.yaml": {"web": {"placements": {"home": {"slots": 1, "fallback": {"title": "Welcome"}}}}},
            "groups.yaml": {"all": {}},
            "offers/offers.yaml": [offer, reading, *others],
        }.items()
    }


def _who(history: int, number: int) -> tuple[Identifier, ...]:
    return (Identifier("crm", f"{history}-{number}"),)


def _plan(store: Store, name: str) -> Plan:
    files = sources(
        aggregates=name in (AGGREGATES, BOTH, ALL), contacts=name in (CONTACT, BOTH, ALL, SHARED),
        household=name in (HOUSEHOLD, ALL), shared=name == SHARED,
    )
    tables = compile_tables(check(read(files)), {})
    program = tables.program
    store.declare(program.schema, [offer.name for offer in program.offers], program.channels)
    return Plan(tables, store.catalog, store.environment, {}, "histories@1", 1, store.signing_key)


def _event(generator: random.Random, at_us: int) -> RecordedEvent:
    if generator.random() < 0.3:
        fields: dict[str, Cell] = {
            "amount": Money(generator.randrange(500, 50_000), "EUR"), "category": generator.choice(_CATEGORIES),
            "items": generator.randrange(1, 6),
        }
        return RecordedEvent(type="purchase", key=str(at_us), at_us=at_us, fields=fields)
    seen: dict[str, Cell] = {"product": f"product {generator.randrange(500)}", "seconds": generator.randrange(2, 300)}
    return RecordedEvent(type="view", key=str(at_us), at_us=at_us, fields=seen)


def _fill(store: Store, now_us: int) -> None:
    generator = random.Random(SEED)
    pending = []
    for history in HISTORIES:
        for number in range(CUSTOMERS):
            who = _who(history, number)
            pending.append(store.submit(Upsert(identifiers=who, attributes={"age": 40}, at_us=1)))
            home = (Identifier("account", f"{history}-{number}"),)
            partner = (Identifier("crm", f"{history}-{number} partner"),)
            pending.append(store.submit(SetMembership(identifiers=who, household=home, role="owner", at_us=1)))
            pending.append(store.submit(SetMembership(identifiers=partner, household=home, role="other", at_us=1)))
            pending.append(store.submit(Upsert(identifiers=home, attributes={"plan": "family"}, at_us=1)))
            # More of them lately: the square of a number between 0 and 1 is mostly small.
            moments = sorted({now_us - int(generator.random() ** 2 * 500 * _DAY_US) - i for i in range(history)})
            if moments:
                pending.append(store.submit(
                    RecordEvents(identifiers=who, events=tuple(_event(generator, at) for at in moments))))
            pending.append(store.submit(RecordOutcomes(outcomes=tuple(
                Outcome(
                    identifiers=who, offer=generator.choice(OFFERS), outcome=generator.choice(_OUTCOMES), channel="web",
                    key=str(i), at_us=now_us - generator.randrange(1, 300 * _DAY_US),
                )
                for i in range(CONTACTS)
            ))))
    for each in pending:
        each.result()


def measured(rounds: int) -> dict[str, dict[str, float]]:
    """Nanoseconds inside the kernel by history (events as text) and program."""
    now_us = time.time_ns() // 1_000
    with tempfile.TemporaryDirectory(prefix="rapport-histories-") as folder, Store.open(Path(folder)) as store:
        plans = {name: _plan(store, name) for name in PROGRAMS}
        try:
            _fill(store, now_us)
            return {str(history): _timed(plans, history, rounds, now_us) for history in HISTORIES}
        finally:
            for plan in plans.values():
                plan.close()


def _timed(plans: dict[str, Plan], history: int, rounds: int, now_us: int) -> dict[str, float]:
    generator = random.Random(SEED)
    blocks: dict[str, list[float]] = {name: [] for name in plans}
    names = list(plans)
    for turn in range(-2, rounds):
        for step in range(len(names)):
            name = names[(turn + step) % len(names)]
            asked = [
                DecideRequest(
                    channel="web", placements=(PlacementRequest("home", 1),),
                    identifiers=_who(history, generator.randrange(CUSTOMERS)),
                )
                for _ in range(BLOCK)
            ]
            if turn == -2 and not decide_one(plans[name], asked[0], now_us, 1, 0).placements[0].offers:
                raise ValueError(f"{name}: no offer came back, so another thing would be timed than its name says")
            taken = float(np.median(measure(plans[name], asked, 1, now_us)[SKIPPED:]))
            if turn >= 0:
                blocks[name].append(taken)
    return {name: statistics.median(taken) for name, taken in blocks.items()}


def main() -> None:
    """Measures and prints one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.histories")
    parser.add_argument("--rounds", type=int, default=40)
    given = parser.parse_args()
    json.dump(measured(given.rounds), sys.stdout)
    print()


if __name__ == "__main__":
    main()
