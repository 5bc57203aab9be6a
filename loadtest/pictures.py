"""Pictures of a measurement: latency by percentile, what a load costs, the run over time, two sides compared.

One idea a picture. Times are milliseconds on a logarithmic axis, since a tail a hundred times the median is what one
looks for; percentiles are spread by their nines for the same reason.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
from matplotlib import colors, pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from loadtest.histogram import LARGEST, Histogram
from loadtest.judging import Comparison
from loadtest.measuring import LOOK_EVERY, Moment, Round
from loadtest.results import Session

# Told apart also by readers who see fewer colours, and in this order also in grey.
COLOURS = ("#0b5fa5", "#d1495b", "#3c9d6b", "#e09f3e", "#6a4c93", "#5b6770")
SIDES = {"A": COLOURS[0], "B": COLOURS[1]}
STYLE: Any = {  # the stubs know each name; a dictionary of their type would say nothing more here
    "font.size": 10,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e6ea",
    "grid.linewidth": 0.8,
    "axes.edgecolor": "#9aa3ad",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.facecolor": "white",
}
_NINES = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)


def draw(session: Session, compared: Sequence[Comparison] = ()) -> dict[str, bytes]:
    """PNG files by name, those that make sense for the session's kind."""
    with pyplot.rc_context(STYLE):
        made: dict[str, Figure] = {"percentiles": _percentiles(session)}
        if session.kind in ("steps", "capacity") and len(session.rounds) > 1:
            made["throughput"] = _throughput(session)
        if compared:
            made["compared"] = _compared(session, compared)
        if session.kind in ("run", "soak"):
            made["timeline"] = _timeline(session.rounds)
        elif session.kind == "steps":
            made["timeline"] = _timeline([each for each in session.rounds if each.taken.pace.rate])
        pictures = {}
        for name, figure in made.items():
            out = io.BytesIO()
            figure.savefig(out, format="png", dpi=130)
            pyplot.close(figure)
            pictures[name] = out.getvalue()
    return pictures


def write(pictures: dict[str, bytes], folder: Path) -> list[Path]:
    """Writes the pictures into the folder; their paths."""
    paths = []
    for name, data in pictures.items():
        path = folder / f"{name}.png"
        path.write_bytes(data)
        paths.append(path)
    return paths


# --- latency by percentile ----------------------------------------------------------------------------------------


def _curve(histogram: Histogram) -> tuple[np.ndarray, np.ndarray]:
    """Nines (0, 1 for 90 %, 2 for 99 % ...) and milliseconds, one point a bucket used; the maximum is the last."""
    used = np.flatnonzero(histogram.counts)
    total = histogram.total
    up_to = np.cumsum(histogram.counts[used]).astype(float)
    # A value stands for the share below it and half of its own bucket's; the last one for all but one request.
    share = np.minimum(up_to / total, 1 - 1 / (total + 1))
    values = np.minimum(LARGEST[used], histogram.largest) / 1e6
    return -np.log10(1 - share), values


def _percentiles(session: Session) -> Figure:
    figure, axes = pyplot.subplots(figsize=(11, 5.2), layout="constrained")
    furthest, lowest = 1.0, np.inf
    for label, histogram, colour, style in _lines(session):
        if not histogram.total:
            continue
        nines, values = _curve(histogram)
        furthest = max(furthest, float(nines[-1]))
        if style == "-":
            lowest = min(lowest, float(values[0]))
        axes.plot(nines, values, color=colour, linestyle=style, linewidth=1.8, label=label, drawstyle="steps-pre")
    ticks = [share for share in _NINES if -np.log10(1 - share) <= furthest]
    axes.set_xticks([-np.log10(1 - share) for share in ticks], [_share(share) for share in ticks])
    axes.set_xlim(0, furthest * 1.02)
    if np.isfinite(lowest):
        axes.set_ylim(bottom=lowest / 2)  # a lag of microseconds would squeeze what one came for
    milliseconds(axes)
    axes.set_xlabel("share of the answers that were at least as quick")
    axes.set_ylabel("latency, ms")
    axes.set_title(f"Latency by percentile: {_what(session)}")
    _legend(axes)
    return figure


def _legend(axes: Axes, title: str | None = None) -> None:
    """Beside the plot, where it hides nothing."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.005, 1.0), borderaxespad=0, title=title, alignment="left")


def _lines(session: Session) -> list[tuple[str, Histogram, str, str]]:
    rounds = session.rounds
    if session.kind == "compare":
        return [
            (f"{label}: {session.sides.get(label, '')}", _sum(rounds, label), colour, "-") for label, colour in SIDES.items()
        ]
    if len(rounds) > 1:
        return [
            (f"{each.taken.pace.rate:,.0f}/s", each.taken.latency, _shade(position, len(rounds)), "-")
            for position, each in enumerate(sorted(rounds, key=lambda each: each.taken.pace.rate))
            if each.taken.pace.rate
        ] or [(each.label, each.taken.latency, COLOURS[0], "-") for each in rounds]
    taken = rounds[0].taken
    if len(taken.parts) > 1:
        found = [(part.name, part.latency, COLOURS[place], "-") for place, part in enumerate(taken.parts)]
    else:
        found = [("from the scheduled moment", taken.latency, COLOURS[0], "-")]
    if taken.pace.rate:
        found.append(("from the sending", taken.service, COLOURS[5], "--"))
        found.append(("the generator's own lag", taken.lag, COLOURS[3], ":"))
    return found


def _sum(rounds: Sequence[Round], label: str) -> Histogram:
    return sum((each.taken.latency for each in rounds if each.label == label), Histogram())


def _shade(position: int, of: int) -> str:
    colour = pyplot.get_cmap("viridis")(0.05 + 0.8 * position / max(1, of - 1))
    return colors.to_hex(colour)


def _share(share: float) -> str:
    return "0 %" if share == 0 else f"{share * 100:.10g} %"


def milliseconds(axes: Axes) -> None:
    """A logarithmic axis of milliseconds, with steps between where there are few decades."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    low, high = axes.get_ylim()
    if high / low < 300:  # few decades: name some steps between
        ticks = [each * 10**power for power in range(-4, 6) for each in (1, 2, 5) if low <= each * 10**power <= high]
        axes.set_yticks(ticks)


def _what(session: Session) -> str:
    first = session.rounds[0].taken.pace
    if session.kind == "run":
        return f"{session.workload}, {first}"
    return f"{session.workload}, {session.kind}"


# --- throughput against p99 ---------------------------------------------------------------------------------------


def _throughput(session: Session) -> Figure:
    rounds = sorted((each for each in session.rounds if each.taken.pace.rate), key=lambda each: each.taken.pace.rate)
    figure, (late, kept, cost) = pyplot.subplots(1, 3, figsize=(15, 4.6), layout="constrained")
    achieved = [each.taken.achieved for each in rounds]
    for percent, colour, marker in ((99.9, COLOURS[1], "^"), (99, COLOURS[0], "s"), (50, COLOURS[2], "o")):
        values = [each.taken.latency.percentile(percent) / 1e6 for each in rounds]
        late.plot(achieved, values, color=colour, marker=marker, linewidth=1.6, label=f"p{percent:g}")
    late.set_xlabel("answers a second")
    late.set_ylabel("latency from the schedule, ms")
    late.set_title(f"Throughput against latency: {session.workload}")
    milliseconds(late)
    late.legend(loc="best")
    offered = [each.taken.pace.rate for each in rounds]
    kept.plot([0, max(offered)], [0, max(offered)], color="#9aa3ad", linestyle=":", label="all that was asked for")
    kept.plot(offered, achieved, color=COLOURS[0], marker="s", linewidth=1.6, label="answers")
    closed = [each.taken.achieved for each in session.rounds if each.taken.pace.open_calls]
    if closed:
        kept.axhline(max(closed), color=COLOURS[3], linestyle="--", linewidth=1.4, label="closed loop")
    kept.set_xlabel("requests a second asked for")
    kept.set_ylabel("answers a second")
    kept.set_title("Asked for and answered")
    kept.legend(loc="lower right")
    servers = [each.cores("server") * 100 for each in rounds]
    if any(servers):
        cost.plot(achieved, servers, color=COLOURS[1], marker="o", linewidth=1.6, label="server")
    generators = [each.taken.generator_cpu_s / each.taken.elapsed * 100 for each in rounds]
    cost.plot(achieved, generators, color=COLOURS[5], marker=".", linewidth=1.6, label="generator")
    cost.set_xlabel("answers a second")
    cost.set_ylabel("CPU, % of a core")
    cost.set_title("CPU of both sides")
    cost.legend(loc="best")
    for axes in (late, kept, cost):
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(FuncFormatter(thousands))
    for axes in (kept, cost):
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(FuncFormatter(thousands))
    cost.set_ylim(top=max(105.0, cost.get_ylim()[1]))
    return figure


def thousands(value: float, _: object) -> str:
    """A tick of a rate, as matplotlib asks for it."""
    return f"{value:,.10g}"


# --- over time ----------------------------------------------------------------------------------------------------


def _timeline(rounds: Sequence[Round]) -> Figure:
    figure, (late, rate, cost) = pyplot.subplots(
        3, 1, figsize=(13, 8.4), layout="constrained", sharex=True, height_ratios=(3, 2, 2)
    )
    start = rounds[0].began
    for number, each in enumerate(rounds):
        line = each.taken.timeline
        at = each.began - start + (np.arange(len(line.scheduled)) + 0.5) * line.interval_s
        first = number == 0
        for percent, colour in ((50, COLOURS[2]), (99, COLOURS[0]), (100, COLOURS[1])):
            values = [
                (step.largest if percent == 100 else step.percentile(percent)) / 1e6 if step.total else np.nan
                for step in line.latency
            ]
            name = "maximum" if percent == 100 else f"p{percent}"
            late.plot(at, values, color=colour, linewidth=1.4, marker=".", markersize=4, label=name if first else None)
        late.plot(
            at,
            np.where(line.lag_ns > 0, line.lag_ns, np.nan) / 1e6,
            color=COLOURS[3],
            linewidth=1,
            linestyle=":",
            label="generator's worst lag" if first else None,
        )
        rate.plot(
            at, line.scheduled / line.interval_s, color="#9aa3ad", linestyle=":", label="scheduled" if first else None
        )
        rate.plot(at, line.completed / line.interval_s, color=COLOURS[0], linewidth=1.4, label="answered" if first else None)
        if line.failed.any():
            rate.plot(at, line.failed / line.interval_s, color=COLOURS[1], linewidth=1.4, label="failed")
        _cost(cost, each, each.began - start, first)
        if len(rounds) > 1:
            late.axvline(each.began - start, color="#c5cbd3", linewidth=0.8)
            late.annotate(
                f"{each.taken.pace.rate:,.0f}/s",
                (each.began - start, 1),
                xycoords=("data", "axes fraction"),
                xytext=(4, -2),
                textcoords="offset points",
                va="top",
                fontsize=9,
                color="#5b6770",
            )
    length = rounds[0].taken.timeline.interval_s
    late.set_title(f"Latency by the moment a request was scheduled for, in steps of {length:g} s")
    late.set_ylabel("latency, ms")
    milliseconds(late)
    rate.set_ylabel("requests a second")
    rate.set_ylim(bottom=0)
    rate.yaxis.set_major_formatter(FuncFormatter(thousands))
    cost.set_ylabel("CPU, % of a core")
    cost.set_ylim(0, max(105, cost.get_ylim()[1]))
    cost.set_xlabel("seconds")
    cost.set_xlim(left=0)
    for axes in (late, rate, cost):
        _legend(axes)
    return figure


def _cost(axes: Axes, each: Round, start: float, first: bool) -> None:
    moments: list[Moment] = []
    for moment in each.moments:
        # The look at the end may come right after another: too near for a rate.
        if moments and moment.at - moments[-1].at < LOOK_EVERY / 2:
            continue
        moments.append(moment)
    pairs = list(itertools.pairwise(moments))
    at = [start + (a.at + b.at) / 2 for a, b in pairs]

    def shares(whose: str) -> list[float]:
        return [100 * (getattr(b, f"{whose}_cpu_s") - getattr(a, f"{whose}_cpu_s")) / (b.at - a.at) for a, b in pairs]

    if moments and moments[-1].server_mib:
        axes.plot(at, shares("server"), color=COLOURS[1], linewidth=1.3, label="server" if first else None)
    axes.plot(at, shares("generator"), color=COLOURS[5], linewidth=1.3, label="generator" if first else None)


# --- two sides ----------------------------------------------------------------------------------------------------


def _compared(session: Session, compared: Sequence[Comparison]) -> Figure:
    figure, (pairs, ratios) = pyplot.subplots(1, 2, figsize=(12, 4.6), layout="constrained", width_ratios=(3, 4))
    closed = bool(session.rounds[0].taken.pace.open_calls)
    for label, colour in SIDES.items():
        rounds = [each for each in session.rounds if each.label == label]
        values = [each.taken.achieved if closed else each.taken.latency.percentile(99) / 1e6 for each in rounds]
        pairs.plot(range(1, len(values) + 1), values, color=colour, marker="o", linewidth=1.4, label=label)
    pairs.set_title("Answers a second, by round" if closed else "p99 by round, ms")
    pairs.set_xlabel("round")
    pairs.set_ylim(bottom=0)
    pairs.xaxis.get_major_locator().set_params(integer=True)
    pairs.legend(loc="lower right")
    names = [f"{each.name}, {each.unit}" for each in compared]
    places = np.arange(len(compared))[::-1]
    for place, each in zip(places, compared, strict=True):
        colour = COLOURS[1] if each.differs else COLOURS[5]
        ratios.plot([each.low, each.high], [place, place], color=colour, linewidth=3, solid_capstyle="round")
        ratios.plot([each.ratio], [place], color=colour, marker="o", markersize=8)
        ratios.annotate(
            f"{each.ratio:.2f}", (each.ratio, place), xytext=(0, 9), textcoords="offset points", ha="center", fontsize=9
        )
    ratios.axvline(1, color="#9aa3ad", linestyle=":")
    ratios.set_yticks(places, names)
    ratios.set_ylim(-0.6, len(compared) - 0.3)
    ratios.set_xlabel("B / A, medians, with the 95 % interval of the bootstrap")
    ratios.set_title("Ratios")
    return figure

