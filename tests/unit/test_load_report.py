"""A measurement is kept whole and comes back, and its report is one file with legible pictures in it."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from loadtest import judging, machine, page, results
from loadtest.histogram import Histogram
from loadtest.measuring import Moment, Round
from loadtest.results import Session
from loadtest.taken import Connections, Pace, Part, Seen, Taken, Timeline

SEED = 20261126


def _round(label: str, pace: Pace, number: int, names: tuple[str, ...] = ("decide",)) -> Round:
    drawn = np.random.default_rng(SEED + number)
    steps, each = 10, 60
    parts, by_step = [], [Histogram() for _ in range(steps)]
    for name in names:
        values = drawn.lognormal(14, 0.6, (steps, each)).astype(int).tolist()
        for step in range(steps):
            by_step[step] = by_step[step] + Histogram.of(values[step])
        whole = Histogram.of(value for step in values for value in step)
        parts.append(Part(name, whole.total + 1, whole.total, 1, whole, whole))
    answered = sum(part.answered for part in parts)
    counts = np.full(steps, each * len(names), np.int64)
    taken = Taken(
        pace=pace,
        elapsed=1.01,
        scheduled=answered + len(names) + 2,
        sent=answered + len(names),
        answered=answered,
        unsent=2,
        interrupted=False,
        failures={"UNAVAILABLE": len(names)},
        messages={"UNAVAILABLE": "busy <now>"},
        parts=parts,
        failed_latency=Histogram.of([7_000_000]),
        lag=Histogram.of(drawn.integers(1_000, 90_000, 600).tolist()),
        waited=Histogram.of([0] * 10),
        timeline=Timeline(0.1, counts, counts, np.eye(1, steps, 3, dtype=np.int64)[0], counts * 100, by_step),
        seen=Seen(3, 3, 3, 9, 0, 0, {"APPLIED": 4}),
        connections=Connections(1, 2, 3, 4),
        samples=[],
        generator_cpu_s=0.1,
        longest_pass_ns=900_000,
        allocations=0,
        bytes_sent=1_000,
        bytes_received=90_000,
    )
    moments = [Moment(0.5 * at, 0.4 * at, 0.1 * at, 100.0 + at, 9, 20) for at in range(4)]
    return Round(label, taken, moments, 0.5, 1_790_000_000.0 + 3 * number)


def _session(kind: str) -> Session:
    rounds = {
        "run": [_round("", Pace(1.0, 600, True), 0, ("decide", "record"))],
        "soak": [_round("", Pace(1.0, 600), 0)],
        "steps": [_round("closed loop", Pace(1.0, open_calls=8), 0)]
        + [_round(f"{rate} %", Pace(1.0, rate * 8), rate) for rate in (25, 50, 90)],
        "capacity": [_round("closed loop", Pace(1.0, open_calls=8), 0)]
        + [_round(f"{rate}/s", Pace(1.0, rate), rate) for rate in (400, 600)],
        "compare": [_round(label, Pace(1.0, open_calls=8), number) for number, label in enumerate("ABBAAB")],
    }[kind]
    sides = {"A": "one", "B": "another"} if kind == "compare" else {"": "127.0.0.1:7400"}
    made = Session(kind, "shop", machine.describe("loadtest"), sides, "4 connections", rounds)
    made.verdicts.append("It is <fine>.")
    made.figures["capacity_per_s"] = 612.5
    return made


KINDS = {
    "run": {"percentiles", "timeline"},
    "soak": {"percentiles", "timeline"},
    "steps": {"percentiles", "throughput", "timeline"},
    "capacity": {"percentiles", "throughput"},
    "compare": {"percentiles", "compared"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_kept_comes_back(kind: str, tmp_path: Path) -> None:
    session = _session(kind)
    results.save(session, tmp_path)
    again = results.load(tmp_path)
    assert (again.kind, again.machine, again.sides, again.figures) == (kind, session.machine, session.sides, session.figures)
    for before, after in zip(session.rounds, again.rounds, strict=True):
        assert results.as_dict(after) == results.as_dict(before)
        assert (after.taken.lag.counts == before.taken.lag.counts).all()
        for one, other in zip(before.taken.parts, after.taken.parts, strict=True):
            assert (one.latency.counts == other.latency.counts).all()
            assert one.latency.largest == other.latency.largest
        for step, same in zip(before.taken.timeline.latency, after.taken.timeline.latency, strict=True):
            assert (step.counts == same.counts).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_report_stands_alone(kind: str, tmp_path: Path) -> None:
    session = _session(kind)
    results.save(session, tmp_path)
    paths = page.remake(tmp_path)
    text = (tmp_path / page.NAME).read_text()
    assert {path.stem for path in paths if path.suffix == ".png"} == KINDS[kind]

    # Nothing is loaded from elsewhere, and nothing runs.
    assert "<script" not in text
    assert not re.search(r"(?:src|href)=\"(?!data:image/png;base64,)", text)
    inside = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    assert len(inside) == len(KINDS[kind])
    for coded in inside:
        picture = Image.open(io.BytesIO(base64.b64decode(coded)))
        assert picture.width >= 1_000
        # Drawn: more than a few colours on the white.
        assert len(picture.convert("RGB").resize((200, 100)).getcolors(20_000) or []) > 10

    # What the reader must see, and what came from a server as text.
    for word in (session.machine.cpu, session.machine.command, session.machine.date, "It is &lt;fine&gt;.", "busy &lt;now&gt;"):
        assert word in text, word
    for each in session.rounds:
        assert f"{each.taken.achieved:,.0f}" in text
    if kind == "compare":
        assert "95 % interval" in text
        assert len(judging.comparisons(session.rounds)) >= 4


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no measurement.*result\.json"):
        results.load(tmp_path)
    (tmp_path / results.RESULT).write_text("{}")
    (tmp_path / results.LOG).write_text("")
    with pytest.raises(ValueError, match="not written by this version"):
        results.load(tmp_path)
