"""The cost model: what a decision costs as a sum of counts times nanoseconds, fitted from series and held against workloads.

Each series of programs that differ in one number gives a straight line (`fit`): its slope is what one more costs, its
intercept what the rest did. A few units are seen in a slope only together with others: an offer that the index takes out
costs the more the more attributes the rules are about, one that competes the more features it has. `costs` takes the slopes
apart. How sure each figure is comes from the bootstrap: the rounds are drawn again with replacement, all series anew each time,
and the middle 95 % of what comes out is the interval.

`bill` counts what a program has of each unit, from its compiled tables, and `predicted` multiplies. A workload's prediction
uses nothing that was measured with the workload but how many offers competed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from core.programs.tables import Tables

RESAMPLED = 1_000
SEED = 20261126
LANES = 8  # features are multiplied so many at a time
TERMS_BYTES = 64  # of an offer beside its weights: the line of its value and factors
CACHE_BYTES = 1 << 20  # where the system does not tell how large the second cache is

# How far a workload's median may lie from its prediction: beyond it the model is wrong, and says so.
BOUND = 0.2

# Each unit with what one of it is.
UNITS = {
    "decision": "a decision: customer found, profile and contact history opened",
    "attribute": "an attribute that anything reads",
    "ruled": "an attribute that rules are about",
    "passed": "... times each offer of the catalogue",
    "rule": "a rule in the index",
    "evaluated": "a rule about two attributes, evaluated once",
    "competing": "an offer that competes",
    "lane": "... and each feature of its scorecard",
    "far": "... and that the second cache does not hold",
    "feature": "a feature read, once for all offers",
    "bounded": "an offer of the catalogue, where more compete than are scored",
    "slot": "an offer returned: price, two texts, token",
    "placement": "a placement beyond the first",
    "run": "a run of an ONNX model: 100 trees of depth 4, 30 features",
    "row": "... and each offer as a row of it",
    "contact": "a contact in the history, under two caps",
    "event": "an event in the history, counted by one aggregate",
}

Parts = Mapping[str, int]
Bill = dict[str, float]


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line through medians: ns for one more, ns at none, and the farthest median's distance over the largest."""

    slope: float
    intercept: float
    off: float


@dataclass(frozen=True, slots=True)
class Cost:
    """Nanoseconds of one unit, and the 95 % interval."""

    ns: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Measured:
    """A series: x of each program, medians in ns by round and program, and each program's bill."""

    x: Sequence[float]
    medians_ns: npt.NDArray[np.float64]
    bills: Sequence[Bill]


@dataclass(frozen=True, slots=True)
class Check:
    """A workload's median in the kernel beside what the model says of it, in microseconds."""

    workload: str
    predicted_us: float
    measured_us: float

    @property
    def off(self) -> float:
        """By which share of the measured median the prediction is off."""
        return self.predicted_us / self.measured_us - 1

    @property
    def verdict(self) -> str:
        """Whether the model holds for it."""
        return "holds" if abs(self.off) <= BOUND else "DOES NOT HOLD"


def checks(costs: Mapping[str, Cost], workloads: Iterable[Mapping[str, Any]]) -> list[Check]:
    """The model against measured workloads, each with its ``workload``, ``bill`` and ``kernel`` figures."""
    return [
        Check(each["workload"], predicted(costs, each["bill"]) / 1e3, each["kernel"]["p50_us"]) for each in workloads
    ]


def measured(series: Mapping[str, Mapping[str, Any]]) -> dict[str, Measured]:
    """Series as the measuring process writes them. Of offers far away it is their number that counts, not the program's own."""
    found = {}
    for name, each in series.items():
        x = [counts["far"] for counts in each["bills"]] if name == "far" else each["values"]
        found[name] = Measured(x, np.array(each["medians_ns"]), each["bills"])
    return found


def fit(x: Sequence[float], y: Sequence[float] | npt.NDArray[np.float64]) -> Line:
    """Least squares; with one point, or one x, its mean and no slope."""
    at, times = np.asarray(x, float), np.asarray(y, float)
    spread = at - at.mean()
    among = float(spread @ spread)
    slope = float(spread @ times) / among if among else 0.0
    intercept = float(times.mean() - slope * at.mean())
    off = float(np.abs(times - (intercept + slope * at)).max())
    return Line(slope, intercept, off / float(np.abs(times).max()) if off else 0.0)


# --- what a program is made of ------------------------------------------------------------------------------------


def parts(tables: Tables) -> dict[str, int]:
    """Counts of a compiled program, for its bill."""
    from core.expressions.expression import InputKind

    program = tables.program
    rules = sum(len(offer.rules) + len(program.groups[offer.group].rules) for offer in program.offers)
    indexed = {each.slot for each in tables.thresholds} | {each.slot for each in tables.texts}
    indexed |= {each.slot for each in tables.presences}
    cards = tables.score_tables
    return {
        "offers": len(tables.offer_names),
        "words": tables.words,
        "attributes": sum(read.kind is InputKind.ATTRIBUTE for read in tables.inputs),
        "aggregates": sum(read.kind is InputKind.AGGREGATE for read in tables.inputs),
        "ruled": len(indexed),
        "rules": rules - len(tables.residuals),
        "evaluated": len({int(number) for number in tables.residuals}),
        "features": max((len(table.features) for table in cards), default=0),
        "models": len(tables.model_tables),
        "placements": len(tables.placement_names),
    }


def bill(
    made: Parts, *, competing: float, slots: int, placements: int, pruned: bool, contacts: float = 0, events: float = 0
) -> Bill:
    """How much of each unit one decision takes. ``slots`` over all placements; ``pruned``: most that compete are not scored."""
    scored = 0.0 if pruned or made["models"] else competing
    return {
        "decision": 1,
        "attribute": made["attributes"],
        "ruled": made["ruled"],
        "passed": made["ruled"] * made["offers"],
        "rule": made["rules"],
        "evaluated": made["evaluated"],
        "competing": scored,
        "lane": scored * -(-made["features"] // LANES) * LANES,
        "far": scored * _beyond_cache(made["offers"] * (-(-made["features"] // LANES) * LANES * 8 + TERMS_BYTES)),
        "feature": made["features"],
        "bounded": made["offers"] if pruned else 0,
        "slot": slots if competing else 0,
        "placement": placements - 1,
        "run": made["models"],
        "row": competing if made["models"] else 0,
        "contact": contacts,
        "event": events,
    }


def _beyond_cache(size: int) -> float:
    """The share of a table of so many bytes, any part of which may be needed next, that a core's second cache has no room for."""
    try:
        cache = os.sysconf("SC_LEVEL2_CACHE_SIZE")
    except (ValueError, OSError):
        cache = 0
    return max(0.0, 1 - (cache if cache > 0 else CACHE_BYTES) / size)


def predicted(costs: Mapping[str, Cost] | Mapping[str, float], counts: Mapping[str, float]) -> float:
    """Nanoseconds of a decision with this bill."""
    total = 0.0
    for unit, count in counts.items():
        cost = costs[unit]
        total += count * (cost.ns if isinstance(cost, Cost) else cost)
    return total


# --- taking slopes apart ------------------------------------------------------------------------------------------


def _without(line: Line, per: Bill, known: Mapping[str, float]) -> float:
    """A slope less what the units already known make of it."""
    return line.slope - sum(per.get(unit, 0.0) * ns for unit, ns in known.items())


def _per(series: Measured) -> Bill:
    """How much more of each unit one more x brings."""
    return {unit: fit(series.x, [each[unit] for each in series.bills]).slope for unit in UNITS}


def _solve(lines: Mapping[str, Line], series: Mapping[str, Measured], per: Mapping[str, Bill]) -> dict[str, float]:
    found: dict[str, float] = {}

    def take(unit: str, name: str) -> None:
        found[unit] = _without(lines[name], per[name], found) / per[name][unit]

    take("attribute", "attribute")
    take("rule", "rule")
    # Two lines, two unknowns each: offers that are out with attributes in rules; features of many offers and of few.
    _pair(found, ("passed", "ruled"), ("out", "ruled"), lines, per)
    _pair(found, ("lane", "feature"), ("features of many", "features of few"), lines, per)
    for unit in ("evaluated", "competing", "far", "bounded", "slot", "placement", "row", "contact", "event"):
        take(unit, unit)
    # What is left where the lines begin.
    for unit, name in (("decision", "attribute"), ("run", "row")):
        rest = {known: fit(series[name].x, [each[known] for each in series[name].bills]).intercept for known in found}
        found[unit] = lines[name].intercept - predicted(found, rest)
    return found


def _pair(
    found: dict[str, float],
    units: tuple[str, str],
    names: tuple[str, str],
    lines: Mapping[str, Line],
    per: Mapping[str, Bill],
) -> None:
    matrix = np.array([[per[name][unit] for unit in units] for name in names])
    # Taken in one unit of its own each: they differ by orders of magnitude.
    sides = np.array([_without(lines[name], per[name], found) for name in names])
    for unit, ns in zip(units, np.linalg.solve(matrix, sides), strict=True):
        found[unit] = float(ns)


def lines_of(series: Mapping[str, Measured]) -> dict[str, Line]:
    """The line of each series, through the medians over its rounds."""
    return {name: fit(each.x, np.median(each.medians_ns, axis=0)) for name, each in series.items()}


def costs(series: Mapping[str, Measured]) -> dict[str, Cost]:
    """What one of each unit costs."""
    per = {name: _per(each) for name, each in series.items()}
    best = _solve(lines_of(series), series, per)
    generator = np.random.default_rng(SEED)
    drawn: dict[str, list[float]] = {unit: [] for unit in UNITS}
    for _ in range(RESAMPLED):
        again = {}
        for name, each in series.items():
            rounds = generator.integers(0, len(each.medians_ns), len(each.medians_ns))
            again[name] = fit(each.x, np.median(each.medians_ns[rounds], axis=0))
        for unit, ns in _solve(again, series, per).items():
            drawn[unit].append(ns)
    found = {}
    for unit in UNITS:
        low, high = np.percentile(drawn[unit], [2.5, 97.5])
        found[unit] = Cost(best[unit], float(low), float(high))
    return found
