"""Measurements kept: a folder with ``result.json`` (every number) and ``histograms.hlog`` (every histogram, raw).

The histograms are HdrHistogram's own log, a line each, tagged ``<round>/<what>``: merged, cut or compared later by any tool
that reads it, and by `loadtest.page`, which makes the report from nothing but this folder.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from loadtest import histogram
from loadtest.histogram import Histogram, Line
from loadtest.machine import Machine
from loadtest.measuring import Moment, Round
from loadtest.taken import Connections, Pace, Part, Seen, Taken, Timeline

RESULT = "result.json"
LOG = "histograms.hlog"


@dataclass(slots=True)
class Session:
    """All rounds of one command."""

    kind: str  # run, steps, capacity, soak, compare
    workload: str
    machine: Machine
    sides: dict[str, str]  # what was measured, by the rounds' label or "" for all
    shape: str  # connections and streams, in words
    rounds: list[Round] = field(default_factory=list)
    verdicts: list[str] = field(default_factory=list)  # the command's own findings, in words
    figures: dict[str, float] = field(default_factory=dict)  # and in numbers


def save(session: Session, folder: Path) -> None:
    """Writes the session into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "kind": session.kind,
        "workload": session.workload,
        "machine": dataclasses.asdict(session.machine),
        "sides": session.sides,
        "shape": session.shape,
        "verdicts": session.verdicts,
        "figures": session.figures,
        "rounds": [as_dict(each) for each in session.rounds],
    }
    (folder / RESULT).write_text(json.dumps(document, indent=1))
    began = session.rounds[0].began if session.rounds else 0.0
    histogram.write_log(folder / LOG, began, _lines(session.rounds, began))


def _lines(rounds: list[Round], began: float) -> Iterator[Line]:
    for number, each in enumerate(rounds):
        taken, start = each.taken, each.began - began
        for part in taken.parts:
            yield Line(f"{number}/latency/{part.name}", start, taken.elapsed, part.latency)
            yield Line(f"{number}/service/{part.name}", start, taken.elapsed, part.service)
        for name in ("failed_latency", "lag", "waited"):
            yield Line(f"{number}/{name}", start, taken.elapsed, getattr(taken, name))
        length = taken.timeline.interval_s
        for position, latency in enumerate(taken.timeline.latency):
            yield Line(f"{number}/timeline", start + position * length, length, latency)


def as_dict(each: Round) -> dict[str, Any]:
    """A round's numbers for JSON, with the usual percentiles, without histograms."""
    taken = each.taken
    return {
        "label": each.label,
        "began": each.began,
        "load": each.load,
        "pace": dataclasses.asdict(taken.pace),
        "elapsed": taken.elapsed,
        "scheduled": taken.scheduled,
        "sent": taken.sent,
        "answered": taken.answered,
        "failed": taken.failed,
        "unsent": taken.unsent,
        "interrupted": taken.interrupted,
        "achieved_per_s": taken.achieved,
        "latency_ms": percentiles(taken.latency),
        "service_ms": percentiles(taken.service),
        "lag_ms": percentiles(taken.lag),
        "waited_ms": percentiles(taken.waited),
        "failed_ms": percentiles(taken.failed_latency),
        "failures": taken.failures,
        "messages": taken.messages,
        "calls": [
            {
                "name": part.name,
                "sent": part.sent,
                "answered": part.answered,
                "failed": part.failed,
                "latency_ms": percentiles(part.latency),
            }
            for part in taken.parts
        ],
        "seen": dataclasses.asdict(taken.seen),
        "connections": dataclasses.asdict(taken.connections),
        "server_cores": each.cores("server"),
        "generator_cores": each.cores("generator"),
        "generator_cpu_s": taken.generator_cpu_s,
        "longest_pass_ns": taken.longest_pass_ns,
        "allocations": taken.allocations,
        "bytes_sent": taken.bytes_sent,
        "bytes_received": taken.bytes_received,
        "moments": [dataclasses.asdict(moment) for moment in each.moments],
        "timeline": {
            "interval_s": taken.timeline.interval_s,
            "scheduled": taken.timeline.scheduled.tolist(),
            "completed": taken.timeline.completed.tolist(),
            "failed": taken.timeline.failed.tolist(),
            "lag_ns": taken.timeline.lag_ns.tolist(),
        },
    }


def percentiles(counted: Histogram) -> dict[str, float]:
    """p50 to the maximum in milliseconds; empty when nothing was counted."""
    if not counted.total:
        return {}
    names = ("p50", "p90", "p99", "p99.9", "p99.99")
    values = counted.percentiles([50, 90, 99, 99.9, 99.99])
    return {**{name: value / 1e6 for name, value in zip(names, values, strict=True)}, "max": counted.largest / 1e6}


def load(folder: Path) -> Session:
    """Reads a folder that `save` wrote; ValueError says which file is not one."""
    try:
        document = json.loads((folder / RESULT).read_text())
        lines = histogram.read_log(folder / LOG)
        kept: dict[str, list[Histogram]] = {}
        for line in lines:
            kept.setdefault(line.tag, []).append(line.histogram)
        rounds = [_round(number, each, kept) for number, each in enumerate(document["rounds"])]
        return Session(
            kind=document["kind"],
            workload=document["workload"],
            machine=Machine(**document["machine"]),
            sides=document["sides"],
            shape=document["shape"],
            rounds=rounds,
            verdicts=document["verdicts"],
            figures=document["figures"],
        )
    except FileNotFoundError as error:
        raise ValueError(f"{folder} holds no measurement: {error.filename} is missing.") from error
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / RESULT} was not written by this version of the load test: {error}.") from error


def _round(number: int, kept: dict[str, Any], histograms: dict[str, list[Histogram]]) -> Round:
    def one(what: str) -> Histogram:
        return histograms[f"{number}/{what}"][0]

    line = kept["timeline"]
    arrays = {name: np.array(line[name], np.int64) for name in ("scheduled", "completed", "failed", "lag_ns")}
    taken = Taken(
        pace=Pace(**kept["pace"]),
        elapsed=kept["elapsed"],
        scheduled=kept["scheduled"],
        sent=kept["sent"],
        answered=kept["answered"],
        unsent=kept["unsent"],
        interrupted=kept["interrupted"],
        failures=kept["failures"],
        messages=kept["messages"],
        parts=[
            Part(
                call["name"],
                call["sent"],
                call["answered"],
                call["failed"],
                one(f"latency/{call['name']}"),
                one(f"service/{call['name']}"),
            )
            for call in kept["calls"]
        ],
        failed_latency=one("failed_latency"),
        lag=one("lag"),
        waited=one("waited"),
        timeline=Timeline(line["interval_s"], latency=histograms[f"{number}/timeline"], **arrays),
        seen=Seen(**kept["seen"]),
        connections=Connections(**kept["connections"]),
        samples=[],
        generator_cpu_s=kept["generator_cpu_s"],
        longest_pass_ns=kept["longest_pass_ns"],
        allocations=kept["allocations"],
        bytes_sent=kept["bytes_sent"],
        bytes_received=kept["bytes_received"],
    )
    return Round(kept["label"], taken, [Moment(**each) for each in kept["moments"]], kept["load"], kept["began"])
