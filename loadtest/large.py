"""``make bench-large``, or ``python -m loadtest.large``: what a store ten times as large costs a start and a decision.

Two stores of `shop`'s generated customers, 1,000,000 and 10,000,000 unless told otherwise, are made as `make bench` makes its
own (imported from CSV, durably), and served the same program. Then, in turn, so that what slows the machine for a while slows
both:

- a server (``python -m server``) is started on each and asked for one decision: seconds from the spawn of its process to the
  answer, with the store's file in the page cache, and with the file taken out of it before; beside them the processor time of
  that process, which others on the machine do not lengthen;
- one process with both stores open decides for customers drawn at random, a block from one store and a block from the other.
  Before, both files are read once, as a server does at its start, and WARMING decisions touch pages all over each store: a server
  that has run for a while finds its file mapped. Decisions that waited for the disk all the same are counted. A block
  gives its median and 99th percentile, a store the medians of these over all blocks. Timed is the compiled decision.

Prints a table, writes everything to <into>/large-<moment>.json, and deletes what it made unless --keep says otherwise: ten
million customers take 3.3 GB as a store, as much again as its journal, and as a CSV file until they are imported.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from core.engine import Engine
from core.errors import RapportError
from core.hub.preloading import preload, room
from loadtest import deciding, generate, installation, machine, measuring, names, prepare, report, servers, workload
from loadtest.deciding import Asked
from loadtest.workload import Workload
from protos.rapport.v1 import decision_pb2, decision_pb2_grpc, values_pb2

WARMING = 400_000  # decisions at most, for a twentieth of the customers: a fault maps sixteen pages, so they reach nearly all
BLOCK = 1_000
SKIPPED = 20  # of a block's first ones, while the caches are still the other store's
LUKEWARM = 0.002  # of the decisions that wait for the disk: past it the 99th percentile says more of the disk than of the store
STARTS = 5
COLD_STARTS = 3

Figures = dict[str, Any]


def prepared(wanted: Workload, into: Path) -> tuple[Path, Figures]:
    """The store with the workload's customers and program, and the figures of its import; its CSV is deleted."""
    _say(f"{wanted.customers:,} customers: generating and importing")
    command = [sys.executable, "-m", "loadtest.prepare", wanted.name, "--customers", str(wanted.customers), "--into", str(into)]
    # In a process of its own: what an import leaves in the heap is nothing that a server has.
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{wanted.customers:,} customers could not be prepared; the message is above")
    folder = into / wanted.base
    (folder / "customers.csv").unlink(missing_ok=True)
    figures: Figures = json.loads((folder / "imported.json").read_text())
    return folder / "store", figures


def started(store: Path, models: Path, wanted: Workload) -> tuple[float, float]:
    """Seconds from the spawn of a server on the store to its first answer over gRPC, and its processor time by then."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAPPORT_")},
        "RAPPORT_LISTEN_DECISIONS": "127.0.0.1:0", "RAPPORT_LOG_FORMAT": "json",
        "RAPPORT_STORE_PATH": str(store.resolve()), "RAPPORT_MODELS_PATH": str(models.resolve()),
    }  # fmt: skip
    ask = decision_pb2.DecideRequest(
        channel=names.CHANNEL,
        placements=[decision_pb2.PlacementRequest(name=names.PLACEMENT, slots=wanted.slots)],
        identifiers=[values_pb2.Identifier(namespace="crm", value=str(names.FIRST + wanted.customers - 1))],
    )
    began = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", "server"], cwd=servers.ROOT, env=environment, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr is not None
        address, said = "", []
        try:
            for line in server.stderr:
                said.append(line)
                event = json.loads(line) if line.startswith("{") else {}
                address = event.get("listen_decisions", address)
                if event.get("event") == "ready":
                    break
            else:
                raise RuntimeError(f"the server ended before it was ready:\n{''.join(said)}".rstrip())
            with grpc.insecure_channel(address) as channel:
                answer = decision_pb2_grpc.DecisionServiceStub(channel).Decide(ask, timeout=servers.PATIENCE)
            taken = time.monotonic() - began, measuring.used(server.pid)[0]
        finally:
            server.terminate()
            server.stderr.read()
    if not answer.known or not answer.placements[0].offers:
        raise RuntimeError(f"the server on {store} did not know its last customer, or had no offer for him")
    return taken


def out_of_the_cache(store: Path) -> None:
    """Ask the kernel to give up the page cache of the store's file, which nobody may have mapped."""
    with (store / "data.mdb").open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def decisions(stores: Sequence[tuple[Workload, Path]], models: Path, blocks: int) -> list[Figures]:
    """Medians over the blocks of each store's median and 99th percentile, in us, blocks of the stores in turn."""
    with ExitStack() as until:
        engines: list[Engine] = []
        asked: list[Asked] = []
        draws: list[random.Random] = []
        for wanted, store in stores:
            engines.append(until.enter_context(installation.opened(store, models)))
            asked.append(Asked(wanted.name, wanted.customers, wanted.placements, wanted.slots, wanted.seed))
            draws.append(random.Random(wanted.seed))
            deciding.check(engines[-1].decide(deciding.request(asked[-1], wanted.customers - 1)), wanted.slots)

        def block(at: int) -> np.ndarray:
            requests = [deciding.request(asked[at], draws[at].randrange(asked[at].customers)) for _ in range(BLOCK)]
            return engines[at].benchmark(requests)[SKIPPED:]

        for at, (wanted, store) in enumerate(stores):
            _in_memory(store)
            for _ in range(min(WARMING, wanted.customers // 20) // BLOCK):
                block(at)
        # Again: some machines take away what was read and not used for a while.
        for _, store in stores:
            _in_memory(store)
        taken: list[list[tuple[float, float]]] = [[] for _ in stores]
        waits = [0] * len(stores)
        for turn in range(blocks):
            for step in range(len(stores)):
                at = (turn + step) % len(stores)
                before = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
                p50, p99 = np.percentile(block(at), [50, 99])
                waits[at] += resource.getrusage(resource.RUSAGE_SELF).ru_majflt - before
                taken[at].append((float(p50) / 1e3, float(p99) / 1e3))
    middles = [np.median(each, axis=0) for each in taken]
    return [
        {"p50_us": float(p50), "p99_us": float(p99), "disk_waits": waited / blocks / BLOCK, "blocks": each}
        for (p50, p99), each, waited in zip(middles, taken, waits, strict=True)
    ]


def _in_memory(store: Path) -> None:
    if preload(store / "data.mdb", room(), threading.Event()) is None:
        raise RuntimeError(f"{store} is larger than half of the memory that is free: its decisions would not be warm")


def measure(given: argparse.Namespace) -> Figures:
    """Makes the stores, measures, and deletes them."""
    on = machine.describe("loadtest.large")
    print(f"{on}\n", flush=True)
    shop = workload.load("shop")
    wanted = [dataclasses.replace(shop, customers=count) for count in (given.small, given.large)]
    models = prepare.models(wanted, given.into)
    made: list[tuple[Workload, Path]] = []
    sizes: list[Figures] = []
    try:
        for each in wanted:
            store, imported = prepared(each, given.into)
            made.append((each, store))
            sizes.append({"customers": each.customers, "import": imported, "starts_s": [], "cold_starts_s": []})
        _say("decisions, a block each in turn")
        for size, kernel in zip(sizes, decisions(made, models, given.blocks), strict=True):
            size["kernel"] = kernel
        _say("starts, in turn")
        for turn in range(STARTS + COLD_STARTS):
            for size, (asked, store) in zip(sizes, made, strict=True):
                if turn >= STARTS:
                    out_of_the_cache(store)
                size["starts_s" if turn < STARTS else "cold_starts_s"].append(started(store, models, asked))
    finally:
        if not given.keep:
            for each in wanted:
                shutil.rmtree(given.into / each.base, ignore_errors=True)
    return {"machine": dataclasses.asdict(on), "sizes": sizes}


def table(figures: Figures) -> str:
    """What was measured, a line a store; the last says how many times the smaller one's the larger one's figures are."""
    rows: list[list[object]] = []
    for each in figures["sizes"]:
        kernel, imported = each["kernel"], each["import"]
        rows.append([
            f"{each['customers']:,}",
            *np.median(each["starts_s"], axis=0).tolist(),
            np.median(each["cold_starts_s"], axis=0).tolist()[0],
            kernel["p50_us"], kernel["p99_us"],
            # A store kept from before processor time was taken has no rate by it.
            *(imported.get(each, float("nan")) for each in ("bytes_per_customer", "rows_per_s", "rows_per_cpu_s")),
        ])  # fmt: skip
    small, large = rows
    rows.append(["times", *(float(b) / float(a) for a, b in zip(small[1:], large[1:], strict=True))])  # type: ignore[arg-type]
    header = [
        "customers", "start s", "of it processor", "start s, cold", "kernel p50 us", "p99 us", "bytes a customer",
        "import rows/s", "of processor",
    ]  # fmt: skip
    return report.table(header, rows)


def main() -> int:
    """Measures; 0 when every figure was taken."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.large", description="Compare a large store with a small one.")
    parser.add_argument("--small", type=int, default=1_000_000, help="customers of the smaller store (default 1,000,000)")
    parser.add_argument("--large", type=int, default=10_000_000, help="customers of the larger one (default 10,000,000)")
    parser.add_argument("--blocks", type=int, default=60, help=f"blocks of {BLOCK} decisions from each store (default 60)")
    parser.add_argument("--into", type=Path, default=generate.INTO, help=f"folder for data (default {generate.INTO})")
    parser.add_argument("--keep", action="store_true", help="leave the stores for the next run")
    given = parser.parse_args()
    try:
        figures = measure(given)
    except (ValueError, OSError, RuntimeError, grpc.RpcError, RapportError) as error:
        print(f"large: {error}", file=sys.stderr)
        return 1
    path = given.into / f"large-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps(figures, indent=1))
    print(table(figures))
    for each in figures["sizes"]:
        if (waited := each["kernel"]["disk_waits"]) > LUKEWARM:
            print(f"{each['customers']:,} customers: {waited:.1%} of the decisions waited for the disk; that was not warm")
    print(f"\nAll figures: {path}")
    return 0


def _say(text: str) -> None:
    print(f"{text} ...", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
