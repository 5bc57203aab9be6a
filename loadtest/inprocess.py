"""``make bench``, or ``python -m loadtest.inprocess [WORKLOAD | cost ...]``: what a decision costs, in process and over gRPC.

For each workload: the program and the customer base are generated (or reused from build/bench/), customers are imported
and the program is loaded once, then a fresh process opens the store, decides for customers drawn at random, and its
figures are read. ``cost`` measures the cost model (see `loadtest.cost_model`) over `shop`'s customers and holds it against
the workloads measured with it; alone, in two minutes, against CHECKED. At the end the `shop` store is served over gRPC
beside an empty handler. Prints tables with the machine they were measured on, and writes everything unrounded to
build/bench/results-<moment>.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from core.errors import RapportError
from loadtest import capacity, cost_model, cost_programs, generate, histories, installation, machine, prepare, report, workload
from loadtest.workload import Workload

ROOT = Path(__file__).resolve().parent.parent
IN_ORDER = ("shop", "shop-10k", "shop-100k", "shop-100k-dense", "bank")
COST = "cost"
CHECKED = ("shop", "shop-10k", "page")

Figures = dict[str, object]


def main() -> int:
    """Measures; 0 when every figure was taken."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.inprocess", description="Measure decisions.")
    known = ", ".join((*workload.names(), COST))
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"of: {known} (default: all but mixed and page)")
    parser.add_argument("--customers", type=int, help="so many customers instead of the workload's number")
    sample = "decisions measured a workload (default 20,000); a fifth of them a program of the cost model"
    parser.add_argument("--sample", type=int, default=20_000, help=sample)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the comparison over gRPC (default 5)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each round (default 3)")
    parser.add_argument("--no-grpc", action="store_true", help="leave the comparison over gRPC out")
    parser.add_argument("--into", type=Path, default=generate.INTO, help=f"folder for data (default {generate.INTO})")
    given = parser.parse_args()
    try:
        names = _names(given.workloads)
        wanted = [_resized(workload.load(name), given.customers) for name in names]
        figures = _measure(wanted, given, cost=not given.workloads or COST in given.workloads)
    except (ValueError, OSError, RuntimeError, RapportError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    moment = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    path = given.into / f"results-{moment}.json"
    path.write_text(json.dumps(figures, indent=1))
    print(f"\nAll figures: {path}")
    return 0


def _names(asked: list[str]) -> list[str]:
    """The workloads to measure: all those of `make bench`, or those named; for the cost model alone a few to check it with."""
    named = [name for name in asked if name != COST]
    return named or list(CHECKED if asked else IN_ORDER)


def _resized(wanted: Workload, customers: int | None) -> Workload:
    return dataclasses.replace(wanted, customers=customers) if customers else wanted


def _measure(wanted: list[Workload], given: argparse.Namespace, *, cost: bool) -> Figures:
    on = machine.describe()
    print(f"{on}\n", flush=True)
    measured: list[Figures] = []
    figures: Figures = {"machine": dataclasses.asdict(on), "workloads": measured}
    models = prepare.models(wanted, given.into)
    imported = figures["imports"] = {}
    for each in wanted:
        _say(f"{each.name}: preparing ({each.customers:,} customers)")
        store, rows = prepare.customers(each, given.into)
        if rows:
            imported[each.base] = rows
            imported.update(prepare.formats(each, given.into))
        program = generate.program(each, given.into)
        loaded = installation.load_program(store, models, program)
        _say(f"{each.name}: measuring")
        measured.append({**_in_own_process(each, store, models, given.sample), **loaded})
    _print_imports(imported)
    _print_decisions(measured)
    if cost:
        figures["cost"] = _cost(measured, given)
        figures["histories"] = _histories()
    served = next((each for each in wanted if each.name == "shop"), None)
    if served and not given.no_grpc and COST not in given.workloads:
        figures["grpc"] = _over_grpc(served, models, given)
    return figures


def _in_own_process(wanted: Workload, store: Path, models: Path, sample: int) -> Figures:
    command = [
        sys.executable, "-m", "loadtest.deciding", wanted.name, "--customers", str(wanted.customers),
        "--placements", str(wanted.placements), "--slots", str(wanted.slots), "--seed", str(wanted.seed),
        "--store", str(store.resolve()), "--models", str(models.resolve()), "--sample", str(sample),
        "--spawned-ns", str(time.monotonic_ns()),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"measuring {wanted.name} failed; its message is above")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def _cost(workloads: list[Figures], given: argparse.Namespace) -> Figures:
    _say("cost model: preparing")
    base = _resized(cost_programs.base(), given.customers)
    store, _ = prepare.customers(base, given.into)
    models = prepare.models([cost_programs.with_model()], given.into)
    _say("cost model: measuring")
    command = [
        sys.executable, "-m", "loadtest.costing", "--customers", str(base.customers), "--store", str(store.resolve()),
        "--models", str(models.resolve()), "--sample", str(given.sample // 5),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError("measuring the cost model failed; its message is above")
    series = json.loads(done.stdout.splitlines()[-1])
    measured = cost_model.measured(series)
    found = cost_model.costs(measured)
    lines = cost_model.lines_of(measured)
    checked = cost_model.checks(found, workloads)
    rounds = len(next(iter(measured.values())).medians_ns)
    print(
        f"\nCost model, {base.customers:,} customers: slopes over programs in turn, {rounds} rounds of "
        f"{cost_programs.BLOCK} decisions each\n"
    )
    rows = [[cost_model.UNITS[unit], each.ns, each.low, each.high] for unit, each in found.items()]
    print(report.table(["unit", "ns", "95 % from", "to"], rows))
    print("\nSeries: the farthest median from its line\n")
    print(report.table(["series", "from", "to", "off by"], [
        [name, each.x[0], each.x[-1], f"{lines[name].off:.1%}"] for name, each in measured.items()
    ]))
    print(f"\nPredicted by the model and measured, kernel p50 (it holds within {cost_model.BOUND:.0%})\n")
    print(report.table(
        ["workload", "predicted us", "measured us", "off by", ""],
        [[each.workload, each.predicted_us, each.measured_us, f"{each.off:+.1%}", each.verdict] for each in checked],
    ), flush=True)
    return {
        "series": series,
        "costs": {unit: dataclasses.asdict(each) for unit, each in found.items()},
        "lines": {name: dataclasses.asdict(each) for name, each in lines.items()},
        "checks": [dataclasses.asdict(each) for each in checked],
        "rounds": rounds,
        "customers": base.customers,
    }


def _histories() -> Figures:
    """What 30 aggregates and 256 contacts cost more than a bare profile, by the length of the history."""
    _say("histories")
    command = [sys.executable, "-m", "loadtest.histories"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError("measuring histories failed; its message is above")
    found: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    print("\nOne offer over customers with a history, kernel: microseconds more than over a bare profile, programs in turn\n")
    print(report.table(
        ["events stored", "bare profile us", *(f"{name}, more" for name in histories.PROGRAMS if name != histories.BARE)],
        [
            [
                events, taken[histories.BARE] / 1000,
                *((taken[name] - taken[histories.BARE]) / 1000 for name in histories.PROGRAMS if name != histories.BARE),
            ]
            for events, taken in found.items()
        ],
    ), flush=True)
    return dict(found)


def _over_grpc(wanted: Workload, models: Path, given: argparse.Namespace) -> Figures:
    _say("over gRPC")
    store = given.into / wanted.base / "store"
    installation.load_program(store, models, generate.program(wanted, given.into))
    taken = capacity.measure(wanted, store, models, rounds=given.rounds, seconds=given.seconds)
    rows = [
        [
            shape,
            sorted(taken.decide[shape])[given.rounds // 2],
            sorted(taken.empty[shape])[given.rounds // 2],
            taken.ratio(shape),
            taken.decide_p50_us[shape],
        ]
        for shape in taken.decide
    ]
    print(
        f"\nOver gRPC, server on one core, generator on another, {given.rounds} rounds of {given.seconds:g} s in turn; "
        f"requests of {taken.request_bytes} B, answers of {taken.answer_bytes} B\n"
    )
    header = ["connections x open calls", "decisions/s", "empty calls/s", "ratio", "p50 us at capacity"]
    print(report.table(header, rows), flush=True)
    alone = taken.alone_us
    print(
        f"\nOne call at a time from a grpcio client, {capacity.ALONE:,} at each address in turn: "
        + ", ".join(f"{name} {took:.0f} us ({took / alone['grpcio']:.2f} of grpcio's)" for name, took in alone.items())
    )
    return {**dataclasses.asdict(taken), "ratio": {shape: taken.ratio(shape) for shape in taken.decide}}


def _print_imports(imported: Mapping[str, Figures]) -> None:
    if imported:
        header = ["import", "customers", "seconds", "rows/s", "rows/s of processor", "bytes a customer on disk"]
        keys = ("applied", "seconds", "rows_per_s", "rows_per_cpu_s", "bytes_per_customer")
        print("\n" + report.table(header, [[name, *(row[key] for key in keys)] for name, row in imported.items()]))


def _print_decisions(measured: list[Figures]) -> None:
    def of(clock: str, key: str) -> Callable[[Figures], object]:
        def pick(figures: Figures) -> object:
            inner = figures[clock]
            assert isinstance(inner, dict)
            return inner[key]

        return pick

    columns: list[tuple[str, Callable[[Figures], object]]] = [
        ("workload", lambda figures: figures["workload"]),
        ("sample", of("call", "sample")),
        ("competing", lambda figures: figures["competing"]),
        ("kernel p50 us", of("kernel", "p50_us")),
        ("p99", of("kernel", "p99_us")),
        ("call p50 us", of("call", "p50_us")),
        ("p99", of("call", "p99_us")),
        ("load s", lambda figures: figures["load_s"]),
        ("start s", lambda figures: figures["start_s"]),
        ("peak MiB", lambda figures: figures["peak_rss_mib"]),
    ]
    print("\nDecisions one by one, random customers; kernel: in the compiled code, call: Engine.decide from Python\n")
    print(report.table([name for name, _ in columns], [[pick(row) for _, pick in columns] for row in measured]))
    by_name = {str(row["workload"]): row for row in measured}
    if {"shop", "shop-100k"} <= by_name.keys():
        for clock in ("kernel", "call"):
            ratio = _number(of(clock, "p50_us")(by_name["shop-100k"])) / _number(of(clock, "p50_us")(by_name["shop"]))
            print(f"100,000 offers against 1,000, {clock} p50: {ratio:.1f} times")
    sys.stdout.flush()


def _number(value: object) -> float:
    assert isinstance(value, float)
    return value


def _say(text: str) -> None:
    if os.isatty(sys.stderr.fileno()):
        print(f"\r\033[K{text} ...", end="", file=sys.stderr, flush=True)
    else:
        print(f"{text} ...", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
