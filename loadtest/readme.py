"""``make figures``, or ``python -m loadtest.readme``: the README's figures and pictures, from measured results.

Takes the newest build/bench/results-*.json and large-*.json and build/load/steps-shop-* (or those named), draws the pictures into
loadtest/figures/, and writes the blocks of README.md that stand between ``<!-- figures: NAME -->`` and ``<!-- end -->``. What
the results do not hold (workloads not measured, no cost model, no steps) leaves its block as it is, and says so.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import pyplot
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from loadtest import cost_model, generate, pictures, results
from loadtest.cost_programs import BLOCK
from loadtest.pictures import COLOURS, STYLE
from loadtest.report import significant
from loadtest.results import Session

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "loadtest" / "figures"
LOADS = Path("build/load")
_GREY = COLOURS[5]

Bench = Mapping[str, Any]

OFFERS = {
    "shop": "`shop`: 1,000 offers; six rules an offer in three layers, caps, scorecard of 20 features, price, two texts; 3 slots",
    "shop-10k": "`shop-10k`: the same rules over 10,000 offers",
    "shop-100k": "`shop-100k`: over 100,000",
    "shop-100k-dense": "`shop-100k-dense`: over 100,000, of which 30 % compete; those that cannot be returned are not scored",
    "bank": "`bank`: 60 offers; gradient boosting, 100 trees of depth 4, 30 features, by ONNX Runtime",
    "page": "`page`: as `shop`, five placements of eight slots",
}

# Units by what a reader thinks of, for the picture of where the time goes.
SHARES = {
    "customer, profile, frame": ("decision", "attribute", "ruled"),
    "rules over the catalogue": ("passed", "rule", "evaluated"),
    "offers that compete": ("competing", "lane", "far", "feature", "bounded"),
    "model": ("run", "row"),
    "slots and placements": ("slot", "placement"),
}
BARS = {
    "decision": "a decision",
    "attribute": "attribute read",
    "ruled": "attribute in rules",
    "evaluated": "rule on two attributes",
    "competing": "competing offer",
    "lane": "... per feature",
    "far": "... beyond second cache",
    "bounded": "offer bounded, not scored",
    "slot": "offer returned",
    "placement": "further placement",
    "run": "run of a model",
    "row": "... per offer (row)",
    "contact": "contact in history",
    "event": "event in history",
}


# --- text ---------------------------------------------------------------------------------------------------------


def machine(found: Bench) -> str:
    """Machine, moment and command of a bench result, as a sentence."""
    on = found["machine"]
    return (
        f"`{on['command']}`, {on['date']}, commit {on['commit']}: {on['cpu']}, {on['cores']} cores, {on['memory_gib']:.0f} GiB, "
        f"Linux {on['kernel']}, Python {on['python']}, load before {on['load']:.1f}."
    )


def decisions(found: Bench) -> str:
    """The table of workloads."""
    lines = [
        "| workload | competing | sample | kernel p50 | kernel p99 | call p50 |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for each in found["workloads"]:
        kernel, call = each["kernel"], each["call"]
        cells = [
            OFFERS.get(each["workload"], f"`{each['workload']}`"),
            f"{each['competing']:,.0f}",
            f"{kernel['sample']:,}",
            *(f"{significant(value)} us" for value in (kernel["p50_us"], kernel["p99_us"], call["p50_us"])),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def units(found: Bench) -> str:
    """The table of units, and the model in one sentence with an example."""
    costs = {unit: cost_model.Cost(**each) for unit, each in found["cost"]["costs"].items()}
    lines = ["| one more | costs, ns | 95 % interval |", "| --- | --- | --- |"]
    for unit, words in cost_model.UNITS.items():
        each = costs[unit]
        lines.append(f"| {words} | {significant(each.ns)} | {significant(each.low)} to {significant(each.high)} |")
    found_in = found["cost"]
    programs = sum(len(each["values"]) for each in found_in["series"].values())
    sample = f"{programs} programs, each {found_in['rounds']} rounds of {BLOCK} decisions, {found_in['customers']:,} customers."
    lines += ["", sample, "", example(costs)]
    return "\n".join(lines)


def example(costs: Mapping[str, cost_model.Cost]) -> str:
    """What the model says of a program whose rules and features are those of `shop`, in words."""
    unit = {name: each.ns for name, each in costs.items()}
    base = unit["decision"] + 40 * unit["attribute"] + 20 * (unit["ruled"] + unit["feature"])
    thousand = 1_000 * (20 * unit["passed"] + 6 * unit["rule"])
    hundred = 100 * (unit["competing"] + 24 * unit["lane"])
    return (
        f"So with 40 attributes, rules about 20 of them and 20 features, a decision costs about **{base / 1e3:.1f} us, "
        f"{thousand / 1e3:.2f} us for each 1,000 offers with six rules each, {hundred / 1e3:.1f} us for each 100 that compete, "
        f"and {unit['slot'] / 1e3:.2f} us for each returned**; in a catalogue larger than the processor's second cache, up to "
        f"{100 * unit['far'] / 1e3:.1f} us more for each 100 that compete. One rule more costs next to nothing; one more "
        f"attribute that rules are about {unit['ruled']:.0f} ns and, for each 1,000 offers, {1_000 * unit['passed']:.1f} ns."
    )


def checks(found: Bench) -> str:
    """Predicted beside measured."""
    lines = [
        f"| kernel p50 | model | measured | off; it holds within {cost_model.BOUND * 100:.0f} % |",
        "| --- | --- | --- | --- |",
    ]
    for each in found["cost"]["checks"]:
        check = cost_model.Check(**each)
        cells = (f"`{check.workload}`", f"{significant(check.predicted_us)} us", f"{significant(check.measured_us)} us")
        lines.append(f"| {' | '.join(cells)} | {check.off * 100:+.0f} %, {check.verdict.lower()} |")
    return "\n".join(lines)


def steps(session: Session) -> str:
    """What the picture of throughput was measured with, and the highest step that was answered."""
    on = session.machine
    rated = [each for each in session.rounds if each.taken.pace.rate]
    kept = [each for each in rated if each.taken.answered_share >= 0.99] or rated
    last = max(kept, key=lambda each: each.taken.pace.rate)
    p50, p99 = last.taken.latency.percentiles([50, 99])
    return (
        f"`{on.command}`, {on.date}, commit {on.commit}, {last.taken.pace.seconds:g} s a step, load before {on.load:.1f}: "
        f"{last.taken.achieved:,.0f} answers/s of {last.taken.pace.rate:,.0f} asked for, p50 {p50 / 1e6:.2g} ms, "
        f"p99 {p99 / 1e6:.2g} ms."
    )


def large(found: Bench) -> str:
    """The two sizes of a store beside each other, and what they were measured with."""
    lines = [
        "| customers | start, spawn to answer | of it processor | file on disk only | kernel p50 | kernel p99 | bytes each |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    rows = []
    for each in found["sizes"]:
        start, spent = (statistics.median(column) for column in zip(*each["starts_s"], strict=True))
        cold = statistics.median(seconds for seconds, _ in each["cold_starts_s"])
        kernel = each["kernel"]
        rows.append((start, spent, cold, kernel["p50_us"], kernel["p99_us"], each["import"]["bytes_per_customer"]))
        told = (*(f"{value:.2f} s" for value in rows[-1][:3]), *(f"{significant(value)} us" for value in rows[-1][3:5]))
        lines.append(f"| {each['customers']:,} | {' | '.join(told)} | {rows[-1][5]:.0f} |")
    small, big = rows
    lines.append(f"| times | {' | '.join(f'{ours / theirs:.2f}' for theirs, ours in zip(small, big, strict=True))} |")
    return "\n".join([machine(found), "", *lines])


def fill(text: str, blocks: Mapping[str, str]) -> str:
    """The text with these blocks written anew; ValueError for one that it does not have."""
    for name, block in blocks.items():
        mark = re.compile(rf"(<!-- figures: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
        places = mark.findall(text)
        if len(places) != 1:
            raise ValueError(f"The README has {len(places)} blocks '<!-- figures: {name} -->', not one.")
        before, after = places[0]
        text = mark.sub((before + block + "\n" + after).replace("\\", r"\\"), text)
    return text


# --- pictures -----------------------------------------------------------------------------------------------------


def throughput(session: Session, empty_per_s: float = 0.0) -> Figure:
    """Latency against answers a second, with what others publish and what a handler that does nothing gives."""
    rounds = sorted((each for each in session.rounds if each.taken.pace.rate), key=lambda each: each.taken.achieved)
    figure, axes = pyplot.subplots(figsize=(9, 4.6), layout="constrained")
    achieved = [each.taken.achieved for each in rounds]
    for percent, colour, marker in ((99.9, COLOURS[1], "^"), (99, COLOURS[0], "s"), (50, COLOURS[2], "o")):
        values = [each.taken.latency.percentile(percent) / 1e6 for each in rounds]
        axes.plot(achieved, values, color=colour, marker=marker, linewidth=1.8, label=f"p{percent:g}")
    axes.plot([5_000], [10], color=_GREY, marker="D", markersize=8, linestyle="none")
    axes.annotate(
        "SAS, as published in 2019:\nmore than 5,000/s at 10 ms,\nhardware not given", (5_000, 10), xytext=(-6, 9),
        textcoords="offset points", va="bottom", fontsize=9, color=_GREY, backgroundcolor="white",
    )  # fmt: skip
    pictures.milliseconds(axes)
    low, high = axes.get_ylim()
    axes.set_ylim(low, max(high, 60))  # room for the diamond's words
    closed = max((each.taken.achieved for each in session.rounds if each.taken.pace.open_calls), default=0.0)
    for rate, what in ((empty_per_s, "empty grpcio handler"), (closed, "most in a closed loop")):
        if rate:
            axes.axvline(rate, color=_GREY, linestyle=":", linewidth=1.4)
            axes.annotate(
                f"{what}: {rate:,.0f}/s", (rate, 0.02), xycoords=("data", "axes fraction"), xytext=(-4, 0),
                textcoords="offset points", rotation=90, ha="right", va="bottom", fontsize=9, color=_GREY,
            )  # fmt: skip
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(FuncFormatter(pictures.thousands))
    axes.set_xlabel("answers a second, server on one core")
    axes.set_ylabel("latency from the schedule, ms")
    axes.set_title(f"Throughput against latency: {session.workload} over gRPC")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def costs(found: Bench) -> Figure:
    """What one more of each unit costs, and of what a decision's time is made."""
    figure, (prices, whole) = pyplot.subplots(2, 1, figsize=(9, 7.4), layout="constrained", height_ratios=(5, 3))
    each = found["cost"]["costs"]
    shown = [unit for unit in BARS if each[unit]["ns"] > 0]
    places = range(len(shown) - 1, -1, -1)
    values = [each[unit]["ns"] for unit in shown]
    prices.barh(places, values, color=COLOURS[0], height=0.66)
    for place, unit in zip(places, shown, strict=True):
        low = max(each[unit]["low"], each[unit]["ns"] / 3)
        prices.plot([low, each[unit]["high"]], [place, place], color="black", linewidth=1.1)
        prices.annotate(
            f"{significant(each[unit]['ns'])} ns", (max(each[unit]["ns"], each[unit]["high"]), place), xytext=(5, 0),
            textcoords="offset points", va="center", fontsize=9,
        )  # fmt: skip
    prices.set_yticks(places, [BARS[unit] for unit in shown])
    prices.set_xscale("log")
    prices.set_xlim(min(values) / 3, max(values) * 5)
    prices.xaxis.set_major_formatter(FuncFormatter(pictures.thousands))
    prices.set_xlabel("nanoseconds, logarithmic; black: 95 % interval")
    prices.set_title("What one more costs", loc="left")
    prices.grid(visible=False, axis="y")
    _whole(whole, found)
    return figure


def _whole(axes: Any, found: Bench) -> None:
    known = {unit: each["ns"] for unit, each in found["cost"]["costs"].items()}
    rows = list(found["workloads"])
    places = range(len(rows) - 1, -1, -1)
    for place, row in zip(places, rows, strict=True):
        left, measured = 0.0, row["kernel"]["p50_us"]
        for (what, units_), colour in zip(SHARES.items(), COLOURS, strict=False):
            if not any(each["bill"][unit] for each in rows for unit in units_):
                continue
            part = sum(known[unit] * row["bill"][unit] for unit in units_) / 1e3 / measured * 100
            axes.barh([place], [part], left=[left], color=colour, height=0.6, label=what if place == 0 else None)
            left += part
        axes.annotate(
            f"{significant(left / 100 * measured)} of {significant(measured)} us", (max(left, 100), place), xytext=(8, 0),
            textcoords="offset points", va="center", fontsize=9,
        )  # fmt: skip
    axes.axvline(100, color="black", linewidth=1.2, linestyle="--")
    axes.set_yticks(places, [row["workload"] for row in rows])
    axes.set_xlim(0, 150)
    axes.set_xticks(range(0, 126, 25))
    axes.set_xlabel("% of the measured median (dashed: all of it)")
    axes.set_title("What the model makes of the workloads", loc="left")
    axes.grid(visible=False, axis="y")
    axes.legend(loc="upper center", bbox_to_anchor=(0.45, -0.24), ncols=3, fontsize=9)


def _draw(name: str, figure: Figure) -> Path:
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.png"
    # No moment and no version inside: the same results give the same bytes.
    figure.savefig(path, format="png", dpi=110, metadata={"Software": None})
    pyplot.close(figure)
    return path


# --- the command --------------------------------------------------------------------------------------------------


def blocks_of(found: Bench) -> dict[str, str]:
    """The README's blocks that a bench result can fill."""
    makers: Sequence[tuple[str, str, Callable[[Bench], str]]] = [
        ("machine", "workloads", machine), ("decisions", "workloads", decisions), ("units", "cost", units),
        ("checks", "cost", checks),
    ]  # fmt: skip
    return {name: make(found) for name, key, make in makers if found.get(key)}


def _newest(paths: Sequence[Path], what: str) -> Path:
    if not paths:
        raise ValueError(f"There is no {what} yet.")
    return max(paths, key=lambda path: path.stat().st_mtime)


def main() -> int:
    """Draws and writes; 0 when something was written."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.readme", description="Write the README's figures and pictures.")
    parser.add_argument("--bench", type=Path, help="a result of python -m loadtest.inprocess (default: the newest)")
    parser.add_argument("--steps", type=Path, help="a folder of python -m loadtest steps (default: the newest of shop)")
    parser.add_argument("--large", type=Path, help="a result of python -m loadtest.large (default: the newest, if there is one)")
    parser.add_argument("--print", action="store_true", help="only print the blocks; change no file")
    given = parser.parse_args()
    try:
        bench = given.bench or _newest(list(generate.INTO.glob("results-*.json")), "result of make bench")
        folder = given.steps or _newest(list(LOADS.glob("steps-shop-*")), "result of make load")
        found = json.loads(bench.read_text())
        session = results.load(folder)
        blocks = {**blocks_of(found), "steps": steps(session)}
        sizes = [given.large] if given.large else list(generate.INTO.glob("large-*.json"))
        if sizes:
            blocks["large"] = large(json.loads(_newest(sizes, "result of make bench-large").read_text()))
        if given.print:
            print("\n\n".join(f"<!-- figures: {name} -->\n{block}\n<!-- end -->" for name, block in blocks.items()))
            return 0
        readme = ROOT / "README.md"
        readme.write_text(fill(readme.read_text(), blocks))
        grpc = found.get("grpc")
        empty = max((statistics.median(each) for each in grpc["empty"].values()), default=0.0) if grpc else 0.0
        with pyplot.rc_context(STYLE):
            drawn = [_draw("throughput", throughput(session, empty))]
            if found.get("cost"):
                drawn.append(_draw("cost", costs(found)))
    except (ValueError, OSError) as error:
        print(f"readme: {error}", file=sys.stderr)
        return 1
    made = [f"README.md ({', '.join(blocks)})", *(str(path.relative_to(ROOT)) for path in drawn)]
    print(f"{', '.join(made)}; from {bench} and {folder}")
    for name in sorted({"decisions", "units", "checks"} - set(blocks)):
        print(f"readme: {bench} holds nothing for '{name}', which stays as it is", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
