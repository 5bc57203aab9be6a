"""Pruning changes no answer: decided with it and without it, every request gets the same one, bit for bit.

Programs are drawn whose offers all share a scorecard's features, because only these are pruned, with what makes pruning
hard: few distinct weights, so that priorities tie; limits on groups, several placements, repeats, conditions outside the
index; factors of 0, below 0, and of any magnitude; features that are missing, infinite, or far outside what the weights
were made for. RAPPORT_CASES sets how many requests (default 3,000), RAPPORT_SEED the first world's seed; a failure prints
its world's seed, so that it alone can be run again.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from core.decision import DecideRequest, ExplainLevel, PlacementRequest
from core.kernel.exchange import scored
from tests.engine_subject import EngineSubject
from tests.property.generate import BASE_US, Document, dump

CASES = int(os.environ.get("RAPPORT_CASES", "3000"))
SEED = int(os.environ.get("RAPPORT_SEED", "20250615"))
REQUESTS = min(100, CASES)  # of a world
NEVER = 2**32 - 1
PLACEMENTS = ("one", "two", "three")
GROUPS = 12

# How large numbers of a world are: ordinary ones, and ones whose products leave single or double precision.
MAGNITUDES = (1.0, 1.0, 1.0, 1e-6, 1e6, 1e-40, 1e40, 1e-180, 1e180, 1e300)
HOSTILE = (math.inf, -math.inf, 1e308, -1e308, 5e-324, -0.0, 1e25, -1e25)
FACTORS = ("0", "-0.0", "-3", "1e-29", "1e-31", "1e29", "1e31", "1e-300", "1e300", "5e-324", "1.7e308")


@dataclass(frozen=True, slots=True)
class Nature:
    """What is particular about a world's numbers."""

    features: int
    offers: int
    distinct: int  # different weights a feature may have; few make ties
    weights: Sequence[float]  # by feature: their magnitude
    features_are: Sequence[float]  # by feature: magnitude of its values
    hostile: float  # share of features and of factors that are no ordinary numbers
    tight: float = 0.0  # share of the offers that are the best and differ by less than a bound can tell
    at: float = 1.0  # what every fact is where these meet


def nature(source: random.Random) -> Nature:
    features = source.choice((1, 2, 3, 7, 8, 9, 20))
    ordinary = source.random() < 0.6
    weights = [1.0 if ordinary else source.choice(MAGNITUDES) for _ in range(features)]
    return Nature(
        features=features,
        offers=source.choice((70, 200, 513, 800)),
        distinct=source.choice((1, 2, 5, 1_000_000)),
        weights=weights,
        features_are=[1.0 if ordinary else min(1e300, 1 / weight) for weight in weights],
        hostile=source.choice((0.0, 0.0, 0.02, 0.2)),
        tight=0.07 if ordinary and source.random() < 0.7 else 0.0,
        at=source.choice((0.0, 1.0)),
    )


def tight(source: random.Random, number: int, kind: Nature) -> Document:
    """One of the best offers, where every fact is 1, or 0: as good as the others but for the seventh digit.

    A bound keeps weights as 127ths of the largest, which is 1. These lie between two steps, all on the same side, so that
    all errors add up; intercepts make up for it. Where facts are 0, what is left is the rounding of single precision: so
    intercepts differ a little, and values make up for that.
    """
    logit = 1 + source.uniform(-1e-3, 1e-3)
    off = source.choice((-0.49, 0.0, 0.49)) / 127
    weights = [source.randrange(-120, 120) / 127 + off for _ in range(kind.features)]
    card = {
        "intercept": f"{logit - kind.at * math.fsum(weights):.17g}",
        "weights": {f"facts.f{j}": f"{weight:.17g}" for j, weight in enumerate(weights)},
    }
    return {
        "offer": f"offer_{number:04d}",
        "group": f"group_{source.randrange(GROUPS):02d}",
        "value": f"{30_000 * (1 + math.exp(-logit)) * (1 + source.uniform(-1e-8, 1e-8)):.17g}",
        "propensity": {"scorecard": {**card, "missing": 0.25}},
        "treatments": {f"web.{place}": {"title": "Offer"} for place in PLACEMENTS},
    }


def offer(source: random.Random, number: int, kind: Nature) -> Document:
    if number and source.random() < kind.tight:
        return tight(source, number, kind)
    # The first has the largest weight there is, in every feature.
    steps = [source.randrange(kind.distinct) / kind.distinct * 2 - 1 if number else -1.0 for _ in range(kind.features)]
    weights = {
        f"facts.f{j}": f"{step * kind.weights[j]:.17g}" if source.random() > 0.05 else "0" for j, step in enumerate(steps)
    }
    value: object = round(source.choice((1.0, 10.0)) ** source.uniform(0, 2) * source.choice((1, 2, 5)), 2)
    if source.random() < kind.hostile:
        value = source.choice(FACTORS)
    document: Document = {
        "offer": f"offer_{number:04d}",
        "group": f"group_{source.randrange(GROUPS):02d}",
        "value": value,
        "propensity": {
            "scorecard": {
                "intercept": source.choice((-3, -1, 0, 2)) if kind.distinct < 10 else round(source.uniform(-4, 0), 3),
                "weights": weights,
                "missing": 0.25,
            }
        },
        "treatments": {
            f"web.{place}": {"title": "Offer"}
            for place in PLACEMENTS
            if place == "one" or source.random() < 0.7
        },
    }
    if source.random() < 0.3:
        document["levers"] = [{"percent": source.choice((-100, -99, 50, 200))}]
    if source.random() < 0.3:
        document["context_weights"] = [{"percent": source.choice((-100, -50, 20, 300))}]
    if source.random() < 0.3:
        # Two inputs in one condition: the index cannot hold it.
        document["eligibility"] = ["facts.g0 < facts.g1"]
    if source.random() < 0.4:
        document["suitability"] = [f"facts.g0 < {source.randrange(10)}"]
    return document


def sources(source: random.Random, kind: Nature) -> dict[str, bytes]:
    arbitration: Document = {"repeats": source.random() < 0.4}
    if source.random() < 0.4:
        arbitration["at_most_per_group"] = source.randint(1, 4)
    for switched in ("context_weight", "levers"):
        if source.random() < 0.2:
            arbitration[switched] = False
    placements: Document = {}
    for place in PLACEMENTS:
        placement: Document = {"slots": source.choice((1, 3, 5, 20))}
        if source.random() < 0.3:
            placement["at_most_per_group"] = source.randint(1, 3)
        placements[place] = placement
    facts = [f"f{j}" for j in range(kind.features)] + ["g0", "g1"]
    return {
        "program.yaml": dump({"program": "pruned", "currency": "EUR", "arbitration": arbitration}),
        "schema.yaml": dump(
            {
                "facts": {name: {"type": "double"} for name in facts},
                "namespaces": {"crm": {"normaliser": "none", "trust": 1}},
            }
        ),
        "channels.yaml": dump({"web": {"placements": placements}}),
        "groups.yaml": dump({f"group_{number:02d}": {} for number in range(GROUPS)}),
        "offers/all.yaml": dump([offer(source, number, kind) for number in range(kind.offers)]),
    }


def asked(source: random.Random, facts: dict[str, float]) -> DecideRequest:
    wanted = source.sample(PLACEMENTS, source.choice((1, 1, 1, 2, 3)))
    return DecideRequest(
        channel="web",
        placements=tuple(
            PlacementRequest(place, source.choice((None, 1, 1, 2, 10, 100))) for place in wanted
        ),
        facts=facts,
        as_of_us=BASE_US,
        seed=source.randrange(2**63),
    )


def request(source: random.Random, kind: Nature) -> DecideRequest:
    facts: dict[str, float] = {"g0": source.uniform(-2, 6), "g1": source.uniform(0, 8)}
    if kind.tight and source.random() < 0.7:
        facts |= {f"f{j}": kind.at for j in range(kind.features)}
        return asked(source, facts)
    for j in range(kind.features):
        if source.random() < 0.9:
            facts[f"f{j}"] = source.uniform(-1, 1) * kind.features_are[j]
        if source.random() < kind.hostile / 4:
            facts[f"f{j}"] = source.choice(HOSTILE)
    return asked(source, facts)


def test_pruned_decisions_are_those_of_scoring_all(tmp_path: Path) -> None:
    """Whatever is pruned, the answer is that of scoring every offer; and pruning does leave most offers unscored."""
    requests = pruned = with_it = without = 0
    for seed in range(SEED, SEED + max(1, CASES // REQUESTS)):
        source = random.Random(seed)
        kind = nature(source)
        folder = tmp_path / str(seed)
        folder.mkdir()
        with EngineSubject(folder) as subject:
            subject.load(sources(source, kind), BASE_US)
            plan = subject.engine.plan
            for number in range(REQUESTS):
                wanted = request(source, kind)
                plan.prune_from = NEVER
                expected, all_of_them = subject.decide(wanted, BASE_US), scored(plan, wanted, BASE_US)
                plan.prune_from = 0
                got, few = subject.decide(wanted, BASE_US), scored(plan, wanted, BASE_US)
                told = f"RAPPORT_CASES={REQUESTS} RAPPORT_SEED={seed}: request {number}, {kind}, {wanted}"
                assert got.placements == expected.placements, told
                assert few <= all_of_them, told
                requests += 1
                if few < all_of_them:
                    pruned, with_it, without = pruned + 1, with_it + few, without + all_of_them
    assert pruned > requests // 4, f"{pruned} of {requests} requests were pruned: this proves too little"
    assert with_it < without // 3, f"{with_it} of {without} offers were scored where pruning found something to prune"


@pytest.mark.parametrize("explain", [ExplainLevel.SUMMARY, ExplainLevel.FULL])
def test_explained_decisions_score_all(explain: ExplainLevel, tmp_path: Path) -> None:
    """An explanation counts every offer that lost, so it sees them all."""
    source = random.Random(SEED)
    kind = Nature(3, 500, 1_000_000, [1.0] * 3, [1.0] * 3, 0.0)
    with EngineSubject(tmp_path) as subject:
        subject.load(sources(source, kind), BASE_US)
        plan = subject.engine.plan
        plan.prune_from = 0
        wanted = DecideRequest(
            channel="web", placements=(PlacementRequest("one", 2),), facts={"f0": 0.5, "f1": 0.1, "g0": 1.0, "g1": 2.0},
            as_of_us=BASE_US, seed=1,
        )  # fmt: skip
        brief = scored(plan, wanted, BASE_US)
        explained = DecideRequest(
            channel="web", placements=wanted.placements, facts=wanted.facts, as_of_us=BASE_US, seed=1, explain=explain
        )
        assert brief < scored(plan, explained, BASE_US) // 3
        assert subject.decide(explained, BASE_US).placements[0].offers == subject.decide(wanted, BASE_US).placements[0].offers
