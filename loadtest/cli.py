"""``python -m loadtest``: measures a server over the wire. Here: the commands and their options; how they work is in the modules.

Every command takes a server that runs already (HOST:PORT) or starts one itself (--serve WORKLOAD): prepared in a process of its
own, over a copy of the store, on one core, the generator on another. Results are kept under build/load/, with a report.

Exit codes: 0 measured, and all was well; 1 measured, but calls failed or a bound was not kept; 2 usage; 65 a workload or a
result that is wrong; 69 no server; 70 a fault of the load test.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Annotated

import typer

from loadtest import calls, judging, machine, measuring, page, results, servers, show, workload
from loadtest.generator import Generator
from loadtest.measuring import Round
from loadtest.results import Session
from loadtest.servers import Serving
from loadtest.taken import Call, Pace
from loadtest.workload import Workload

SPINNING = "spinning"

app = typer.Typer(
    name="loadtest",
    help="Load tests for a server that speaks Rapport's protos: latency under a load, capacity, comparisons.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    epilog="Exit codes: 0 all was well, 1 calls failed or a bound was not kept, 2 usage, 65 wrong input, 69 no server, 70 fault.",
)

INTO = Path("build/load")
LONGEST = 24 * 3600.0


class Exit(IntEnum):
    """What the process ends with."""

    WELL = 0
    NOT_WELL = 1
    USAGE = 2
    WRONG_INPUT = 65
    NO_SERVER = 69
    FAULT = 70


class Arrivals(StrEnum):
    """How requests are spread over time."""

    CONSTANT = "constant"
    POISSON = "poisson"


@dataclasses.dataclass(slots=True)
class Plan:
    """The options that all commands share."""

    wanted: Workload
    target: str | None
    serve: bool
    tree: Path
    pid: int
    connections: int
    streams: int
    poisson: bool
    warmup: float
    drain: float
    timeout_ms: float
    seed: int
    spin_us: float
    into: Path
    quiet: bool
    as_json: bool
    report: bool

    @property
    def shape(self) -> str:
        """Connections and streams in words."""
        return f"{self.connections} connections x at most {self.streams} open calls, warmed up for {self.warmup:g} s"


Target = Annotated[str | None, typer.Argument(metavar="[HOST:PORT]", help="A server that runs already.", show_default=False)]
Serve = Annotated[
    str | None, typer.Option("--serve", metavar="WORKLOAD", help="Start a server with this workload.", show_default=False)
]
Named = Annotated[str, typer.Option("--workload", "-w", help=f"What is asked: {', '.join(workload.names())}.")]
Customers = Annotated[int, typer.Option(min=1, help="Customers of the base asked for; with --serve, so many are made.")]
Tree = Annotated[Path, typer.Option(help="The checkout whose server --serve starts.", show_default="this one")]
Pid = Annotated[int, typer.Option(help="The running server's process, to see what it uses.", show_default=False)]
Connected = Annotated[int, typer.Option("--connections", "-c", min=1, max=4096, help="TCP connections.")]
Streams = Annotated[int, typer.Option("--streams", "-s", min=1, max=65536, help="Open calls a connection at most.")]
Spread = Annotated[Arrivals, typer.Option("--arrivals", help="Evenly spaced, or with exponential gaps.")]
Warmup = Annotated[float, typer.Option(min=0, max=600, help="Seconds at the same rate beforehand, not counted.")]
Drain = Annotated[float, typer.Option(min=0, max=600, help="Seconds that answers may come late.")]
Timeout = Annotated[float, typer.Option("--timeout-ms", min=0, help="The calls' deadline as the server is told; 0: none.")]
Seed = Annotated[int, typer.Option(min=0, help="Of arrivals, and of the order of messages.")]
Spin = Annotated[float, typer.Option("--spin-us", min=0, help="Stay awake so long before a request is due (costs the core).")]
Into = Annotated[Path, typer.Option(help="Folder for prepared data and results.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No live view.")]
AsJson = Annotated[bool, typer.Option("--json", help="The figures as JSON on standard output.")]
Report = Annotated[bool, typer.Option(help="Write report.html and PNG files beside the raw results.")]
Seconds = Annotated[float, typer.Option("--duration", "-d", min=0.1, max=LONGEST, help="Seconds.")]
Rate = Annotated[float, typer.Option("--rate", "-r", min=0.1, help="Requests a second.")]

DEFAULT_CUSTOMERS = 20_000


def _plan(
    target: str | None, serve: str | None, named: str, customers: int, tree: Path | None, arrivals: Arrivals, **rest: object
) -> Plan:
    if (target is None) == (serve is None):
        raise typer.BadParameter("name a server (HOST:PORT), or start one (--serve WORKLOAD).")
    wanted = dataclasses.replace(workload.load(serve or named), customers=customers)
    return Plan(
        wanted=wanted,
        target=target,
        serve=serve is not None,
        tree=tree or servers.ROOT,
        poisson=arrivals is Arrivals.POISSON,
        **rest,  # type: ignore[arg-type]
    )


# --- commands -----------------------------------------------------------------------------------------------------


@app.command()
def run(
    target: Target = None,
    serve: Serve = None,
    named: Named = "shop",
    rate: Rate = 500,
    duration: Seconds = 10,
    customers: Customers = DEFAULT_CUSTOMERS,
    tree: Tree | None = None,
    pid: Pid = 0,
    connections: Connected = 4,
    streams: Streams = 64,
    arrivals: Spread = Arrivals.POISSON,
    warmup: Warmup = 2,
    drain: Drain = 10,
    timeout_ms: Timeout = 0,
    seed: Seed = 1,
    spin_us: Spin = 0,
    into: Into = INTO,
    quiet: Quiet = False,
    as_json: AsJson = False,
    report: Report = True,
) -> None:
    """One rate for some time: latency from the schedule, and what it cost."""
    plan = _plan(
        target, serve, named, customers, tree, arrivals, pid=pid, connections=connections, streams=streams, warmup=warmup,
        drain=drain, timeout_ms=timeout_ms, seed=seed, spin_us=spin_us, into=into, quiet=quiet, as_json=as_json, report=report,
    )  # fmt: skip
    with _measuring(plan, "run") as (session, measure):
        measure(_rated(plan, rate, duration), "")
    _end(session, plan, well=_all_answered(session))


@app.command()
def steps(
    target: Target = None,
    serve: Serve = None,
    named: Named = "shop",
    rates: Annotated[
        str, typer.Option(help="Requests a second, separated by commas; or shares of the closed loop's: 25%,50%.")
    ] = "25%,50%,75%,90%",
    duration: Seconds = 5,
    customers: Customers = DEFAULT_CUSTOMERS,
    tree: Tree | None = None,
    pid: Pid = 0,
    connections: Connected = 4,
    streams: Streams = 64,
    arrivals: Spread = Arrivals.POISSON,
    warmup: Warmup = 1,
    drain: Drain = 10,
    timeout_ms: Timeout = 0,
    seed: Seed = 1,
    spin_us: Spin = 0,
    into: Into = INTO,
    quiet: Quiet = False,
    as_json: AsJson = False,
    report: Report = True,
) -> None:
    """Several rates one after another: what latency costs at which load."""
    plan = _plan(
        target, serve, named, customers, tree, arrivals, pid=pid, connections=connections, streams=streams, warmup=warmup,
        drain=drain, timeout_ms=timeout_ms, seed=seed, spin_us=spin_us, into=into, quiet=quiet, as_json=as_json, report=report,
    )  # fmt: skip
    asked = [_rate(text) for text in rates.split(",")]
    with _measuring(plan, "steps") as (session, measure):
        ceiling = 0.0
        if any(relative for _, relative in asked):
            ceiling = measure(_closed(plan, duration), "closed loop").taken.achieved
            session.figures["closed_per_s"] = ceiling
        for number, relative in asked:
            wanted = ceiling * number / 100 if relative else number
            if measure(_rated(plan, wanted, duration), f"{number:g} %" if relative else f"{number:,g}/s").taken.interrupted:
                break
    _end(session, plan, well=_all_answered(session))


@app.command()
def capacity(
    target: Target = None,
    serve: Serve = None,
    named: Named = "shop",
    p99_ms: Annotated[float, typer.Option("--p99-ms", min=0.001, help="The p99 that has to hold.")] = 20,
    share: Annotated[float, typer.Option(min=0.5, max=1, help="Of the requests that has to be answered in time.")] = 0.99,
    closed: Annotated[bool, typer.Option("--closed", help="Only the closed loop: the most answers at any latency.")] = False,
    duration: Seconds = 3,
    customers: Customers = DEFAULT_CUSTOMERS,
    tree: Tree | None = None,
    pid: Pid = 0,
    connections: Connected = 4,
    streams: Streams = 64,
    arrivals: Spread = Arrivals.POISSON,
    warmup: Warmup = 1,
    drain: Drain = 2,
    timeout_ms: Timeout = 0,
    seed: Seed = 1,
    spin_us: Spin = 0,
    into: Into = INTO,
    quiet: Quiet = False,
    as_json: AsJson = False,
    report: Report = True,
) -> None:
    """The highest rate that the server keeps up with while p99 stays under a bound."""
    plan = _plan(
        target, serve, named, customers, tree, arrivals, pid=pid, connections=connections, streams=streams, warmup=warmup,
        drain=drain, timeout_ms=timeout_ms, seed=seed, spin_us=spin_us, into=into, quiet=quiet, as_json=as_json, report=report,
    )  # fmt: skip
    found = 0.0
    with _measuring(plan, "capacity") as (session, measure):
        ceiling = measure(_closed(plan, duration), "closed loop")
        session.figures["closed_per_s"] = ceiling.taken.achieved
        session.verdicts.append(f"Closed loop of {ceiling.taken.pace.open_calls} open calls: {ceiling.taken.achieved:,.0f}/s.")

        def trial(rate: float) -> bool:
            each = measure(_rated(plan, rate, duration), f"{rate:,.0f}/s")
            if each.taken.interrupted:
                raise KeyboardInterrupt
            kept = judging.holds(each, share=share, p99_ms=p99_ms)
            if not kept and judging.came_late(each):
                # That may have been the generator's fault: once more.
                each = measure(_rated(plan, rate, duration), f"{rate:,.0f}/s again")
                kept = judging.holds(each, share=share, p99_ms=p99_ms)
            show.say(f"{rate:,.0f}/s: {'kept up' if kept else 'did not keep up'}")
            return kept

        if not closed:
            found = judging.search(trial, ceiling.taken.achieved * 0.8)
            session.figures.update({"capacity_per_s": found, "p99_bound_ms": p99_ms, "share_bound": share})
            session.verdicts.append(
                f"Capacity with p99 under {p99_ms:g} ms and {share:.0%} answered in time: {found:,.0f}/s."
                if found
                else f"No rate was found at which p99 stays under {p99_ms:g} ms."
            )
    _end(session, plan, well=closed or found > 0)


@app.command()
def soak(
    target: Target = None,
    serve: Serve = None,
    named: Named = "mixed",
    rate: Rate = 300,
    duration: Seconds = 600,
    grow: Annotated[float, typer.Option(min=0, help="By so many percent the server's memory may grow in its second half.")] = 5,
    customers: Customers = DEFAULT_CUSTOMERS,
    tree: Tree | None = None,
    pid: Pid = 0,
    connections: Connected = 4,
    streams: Streams = 64,
    arrivals: Spread = Arrivals.POISSON,
    warmup: Warmup = 5,
    drain: Drain = 10,
    timeout_ms: Timeout = 0,
    seed: Seed = 1,
    spin_us: Spin = 0,
    into: Into = INTO,
    quiet: Quiet = False,
    as_json: AsJson = False,
    report: Report = True,
) -> None:
    """One rate for long: does memory grow, do descriptors or threads, does latency drift?"""
    plan = _plan(
        target, serve, named, customers, tree, arrivals, pid=pid, connections=connections, streams=streams, warmup=warmup,
        drain=drain, timeout_ms=timeout_ms, seed=seed, spin_us=spin_us, into=into, quiet=quiet, as_json=as_json, report=report,
    )  # fmt: skip
    with _measuring(plan, "soak") as (session, measure):
        each = measure(_rated(plan, rate, duration), "")
        grown = _drift(session, each)
    _end(session, plan, well=_all_answered(session) and grown <= grow / 100)


def _drift(session: Session, each: Round) -> float:
    """Says what grew between the second quarter and the last; the share by which memory did."""
    memory = judging.growth([moment.server_mib for moment in each.moments])
    line = each.taken.timeline
    slower = judging.growth([latency.percentile(99) / 1e6 for latency in line.latency if latency.total])
    session.figures.update({"memory_growth": memory, "p99_growth": slower})
    session.verdicts.append(f"p99 from the second quarter to the last: {slower:+.0%}.")
    if each.moments[-1].server_mib:
        first, last = each.moments[len(each.moments) // 4], each.moments[-1]
        session.verdicts.append(
            f"Server: {first.server_mib:,.0f} MiB after a quarter, {last.server_mib:,.0f} at the end ({memory:+.1%}); threads "
            f"{first.server_threads} and {last.server_threads}, files {first.server_files} and {last.server_files}."
        )
    return memory


@app.command()
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="HOST:PORT, the folder of a checkout, 'empty', or 'spinning'.")],
    b: Annotated[
        str,
        typer.Argument(
            metavar="B",
            help="As A. 'empty': a grpcio server that does nothing. 'spinning': this checkout with a restless Python thread.",
        ),
    ],
    named: Named = "shop",
    rounds: Annotated[int, typer.Option(min=3, max=200, help="Of each side, in turn.")] = 7,
    duration: Seconds = 3,
    rate: Annotated[float, typer.Option("--rate", "-r", min=0, help="Requests a second; 0: closed loop.")] = 0,
    customers: Customers = DEFAULT_CUSTOMERS,
    connections: Connected = 4,
    streams: Streams = 16,
    arrivals: Spread = Arrivals.POISSON,
    warmup: Warmup = 1,
    drain: Drain = 5,
    seed: Seed = 1,
    spin_us: Spin = 0,
    into: Into = INTO,
    quiet: Quiet = False,
    as_json: AsJson = False,
    report: Report = True,
) -> None:
    """Two servers or two builds in turns on the same core: medians, and ratios with their 95 % interval."""
    plan = _plan(
        a, None, named, customers, None, arrivals, pid=0, connections=connections, streams=streams, warmup=warmup, drain=drain,
        timeout_ms=0.0, seed=seed, spin_us=spin_us, into=into, quiet=quiet, as_json=as_json, report=report,
    )  # fmt: skip
    pace = _rated(plan, rate, duration) if rate else _closed(plan, duration)
    session = _session(plan, "compare", {"A": a, "B": b})
    with ExitStack() as started:
        prepared = _prepare(plan) if any(_is_checkout(side) for side in (a, b)) else None
        sides: dict[str, tuple[Generator, Serving]] = {}
        answer_bytes = 0
        for label, side in sorted((("A", a), ("B", b)), key=lambda pair: pair[1] == "empty"):
            serving = started.enter_context(_side(plan, side, prepared, answer_bytes))
            with _on_generators_core():
                generator = _generator(plan, serving, decides=side != "empty")
                trial = generator.run(dataclasses.replace(pace, seconds=max(0.5, plan.warmup)), drain=plan.drain)
            answered = [len(sample) for name, sample in trial.samples if name == "decide"]
            answer_bytes = round(sum(answered) / len(answered)) if answered else 0
            if side != "empty":
                calls.check(plan.wanted, trial.samples)
            sides[label] = generator, serving
        with _on_generators_core():
            for number in range(rounds):
                # A B, B A, A B ...: neither side is always the first.
                for label in ("A", "B") if number % 2 == 0 else ("B", "A"):
                    generator, serving = sides[label]
                    with servers.paused(other for name, (_, other) in sides.items() if name != label):
                        each = _round(plan, generator, serving, pace, label, f"round {number + 1} of {rounds}, {label}")
                    session.rounds.append(each)
                    if each.taken.interrupted:
                        raise KeyboardInterrupt
    found = judging.comparisons(session.rounds)
    for each_ in found:
        session.figures[f"ratio of {each_.name}"] = each_.ratio
    if not as_json:
        show.compared(found)
    _end(session, plan, well=_all_answered(session))


@app.command()
def ingest(
    rounds: Annotated[int, typer.Option(min=1, max=200, help="Of each part, in turn.")] = 5,
    duration: Seconds = 3,
    rate: Annotated[float, typer.Option("--rate", "-r", min=1, help="Decisions a second meanwhile.")] = 200,
    customers: Customers = DEFAULT_CUSTOMERS,
    into: Into = INTO,
    as_json: AsJson = False,
) -> None:
    """A feed of events into a server that decides: durable events a second, what decisions and single writes feel of it."""
    from loadtest import ingesting

    described = machine.describe("loadtest")
    figures = ingesting.measure(rounds, duration, rate, customers, into)
    if as_json:
        print(json.dumps({"machine": dataclasses.asdict(described), **dataclasses.asdict(figures)}))
    else:
        print(described)
        for what, figure in figures.rows():
            print(f"{what}: {figure}")
    if figures.failed:
        raise typer.Exit(Exit.NOT_WELL)


@app.command("report")
def remake(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder that holds result.json.")],
    as_json: AsJson = False,
) -> None:
    """Makes report.html and the PNG files of a kept measurement anew."""
    paths = page.remake(folder)
    if as_json:
        print(json.dumps([str(path) for path in paths]))
    else:
        show.written(folder, paths)


# --- how a command goes -------------------------------------------------------------------------------------------

Measure = Callable[[Pace, str], Round]


@contextmanager
def _measuring(plan: Plan, kind: str) -> Iterator[tuple[Session, Measure]]:
    """A server, warm connections to it, and a function that measures a pace and adds the round to the session."""
    with ExitStack() as started:
        if plan.serve:
            what = "" if plan.tree == servers.ROOT else f" of {plan.tree}"
            session = _session(plan, kind, {"": f"server{what} started here, core {servers.cores()[0]}"})
            serving = started.enter_context(_side(plan, str(plan.tree), _prepare(plan), 0))
        else:
            assert plan.target is not None
            session = _session(plan, kind, {"": plan.target})
            serving = dataclasses.replace(_parse(plan.target), pid=plan.pid)
        started.enter_context(_on_generators_core())
        generator = _generator(plan, serving)

        def measure(pace: Pace, label: str) -> Round:
            if plan.warmup:
                warm = generator.run(dataclasses.replace(pace, seconds=plan.warmup), drain=plan.drain)
                calls.check(plan.wanted, warm.samples)
            each = _round(plan, generator, serving, pace, label, label)
            if not plan.warmup:
                calls.check(plan.wanted, each.taken.samples)
            session.rounds.append(each)
            return each

        yield session, measure


def _session(plan: Plan, kind: str, sides: dict[str, str]) -> Session:
    return Session(kind, plan.wanted.name, machine.describe("loadtest"), sides, plan.shape)


def _generator(plan: Plan, serving: Serving, decides: bool = True) -> Generator:
    return Generator(
        serving.host,
        serving.port,
        # The empty server's answers hold no decision, so there is nothing to look for and no token to report with.
        calls.of(plan.wanted) if decides else [Call("decide", calls.DECIDE, calls.decisions(plan.wanted))],
        connections=plan.connections,
        streams=plan.streams,
        seed=plan.seed,
        timeout=plan.timeout_ms / 1e3,
        spin=plan.spin_us / 1e6,
    )


def _round(plan: Plan, generator: Generator, serving: Serving, pace: Pace, label: str, shown: str) -> Round:
    with show.live(shown, pace, plan.quiet or plan.as_json) as onlooker:
        return measuring.measure(generator, pace, label=label, drain=plan.drain, pid=serving.pid, onlooker=onlooker)


def _rated(plan: Plan, rate: float, seconds: float) -> Pace:
    return Pace(seconds, rate, plan.poisson)


def _closed(plan: Plan, seconds: float) -> Pace:
    return Pace(seconds, open_calls=min(64, plan.connections * plan.streams))


def _rate(text: str) -> tuple[float, bool]:
    relative = text.strip().endswith("%")
    try:
        number = float(text.strip().removesuffix("%").replace("_", ""))
    except ValueError:
        number = 0.0
    if number <= 0:
        raise typer.BadParameter(f"'{text}' is neither a rate (1000) nor a share (50%).", param_hint="--rates")
    return number, relative


def _parse(target: str) -> Serving:
    host, colon, port = target.rpartition(":")
    if not colon or not port.isdigit() or not 0 < int(port) < 65536:
        raise typer.BadParameter(f"'{target}' is not HOST:PORT.")
    return Serving(host.strip("[]"), int(port))


def _is_checkout(side: str) -> bool:
    return side == SPINNING or (side != "empty" and Path(side, "server", "__main__.py").is_file())


@contextmanager
def _side(plan: Plan, side: str, prepared: dict[str, str] | None, answer_bytes: int) -> Iterator[Serving]:
    if side == "empty":
        with servers.empty(answer_bytes, servers.cores()[0]) as serving:
            yield serving
    elif _is_checkout(side):
        assert prepared is not None
        if not plan.quiet:
            show.say(f"starting the server of {Path(side).resolve()}")
        tree, module = (servers.ROOT, "loadtest.spinning") if side == SPINNING else (Path(side), "server")
        with servers.rapport(Path(prepared["store"]), Path(prepared["models"]), servers.cores()[0], tree, module) as serving:
            yield serving
    else:
        yield _parse(side)


def _prepare(plan: Plan) -> dict[str, str]:
    """The workload's store and models, made in a process of its own: that one needs the core, this one must not have it."""
    if not plan.quiet:
        show.say(f"preparing {plan.wanted.name} with {plan.wanted.customers:,} customers under {plan.into}")
    command = [
        sys.executable, "-m", "loadtest.prepare", plan.wanted.name, "--customers", str(plan.wanted.customers), "--into",
        str(plan.into.resolve()),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=servers.ROOT, stdout=subprocess.PIPE, text=True, check=False, timeout=3600)
    if done.returncode:
        raise ValueError(f"{plan.wanted.name} could not be prepared; the reason is above.")
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def _on_generators_core() -> Iterator[None]:
    """This process on the second core it may use; where it has only one, as it is."""
    before = os.sched_getaffinity(0)
    if len(before) > 1:
        os.sched_setaffinity(0, {sorted(before)[1]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _all_answered(session: Session) -> bool:
    return all(
        each.taken.answered == each.taken.scheduled and not each.taken.interrupted
        for each in session.rounds
        if each.taken.pace.rate or session.kind == "compare"
    )


def _end(session: Session, plan: Plan, *, well: bool) -> None:
    """Keeps the session, shows it, and ends with whether all was well."""
    moment = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    folder = plan.into / f"{session.kind}-{session.workload}-{moment}"
    results.save(session, folder)
    files = [folder / results.RESULT, folder / results.LOG]
    if plan.report:
        files += page.write(session, folder)
    if plan.as_json:
        document = {"kind": session.kind, "folder": str(folder), "verdicts": session.verdicts, "figures": session.figures}
        print(json.dumps({**document, "rounds": [results.as_dict(each) for each in session.rounds]}, indent=1))
    else:
        show.session(session)
        show.written(folder, files)
    raise typer.Exit(Exit.WELL if well else Exit.NOT_WELL)


def main() -> int:
    """Runs the command line; what goes wrong becomes one sentence and an exit code."""
    try:
        app(prog_name="python -m loadtest", standalone_mode=True)
    except ConnectionError as error:
        show.problem(str(error))
        return Exit.NO_SERVER
    except ValueError as error:
        show.problem(str(error))
        return Exit.WRONG_INPUT
    except KeyboardInterrupt:
        show.problem("Interrupted before there was a result.")
        return Exit.NOT_WELL
    except (RuntimeError, OSError) as error:
        show.problem(str(error))
        return Exit.FAULT
    return Exit.WELL
