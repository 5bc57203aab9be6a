"""``python -m loadtest``: measures a server over the wire. Here are the commands; `options.py` holds the options they share.

Every command takes a server that runs already (HOST:PORT) or starts one itself (--serve WORKLOAD): prepared in a process of its
own, over a copy of the store, on one core, the generator on another. Results are kept under build/load/, with a report.

Exit codes: 0 measured, and all was well; 1 measured, but calls failed or a bound was not kept; 2 usage; 65 a workload or a
result that is wrong; 69 no server; 70 a fault of the load test.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import Annotated

import typer

from loadtest import calls, judging, machine, measuring, page, results, servers, show, sides
from loadtest.generator import Generator
from loadtest.measuring import Round
from loadtest.options import DEFAULT_CUSTOMERS, INTO, AsJson, Customers, Into, Options, Rate, Seconds, shared
from loadtest.results import Session
from loadtest.servers import Serving
from loadtest.taken import Call, Pace

app = typer.Typer(
    name="loadtest",
    help="Load tests for a server that speaks Rapport's protos: latency under a load, capacity, comparisons.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    epilog="Exit codes: 0 all was well, 1 calls failed or a bound was not kept, 2 usage, 65 wrong input, 69 no server, 70 fault.",
)


class Exit(IntEnum):
    """What the process ends with."""

    WELL = 0
    NOT_WELL = 1
    USAGE = 2
    WRONG_INPUT = 65
    NO_SERVER = 69
    FAULT = 70


# --- commands -----------------------------------------------------------------------------------------------------


@app.command()
@shared(warmup=2)
def run(
    options: Options,
    rate: Rate = 500,
    duration: Seconds = 10,
) -> None:
    """One rate for some time: latency from the schedule, and what it cost."""
    with _measuring(options, "run") as (session, measure):
        measure(options.rated(rate, duration), "")
    _end(session, options, well=_all_answered(session))


@app.command()
@shared()
def steps(
    options: Options,
    rates: Annotated[
        str, typer.Option(help="Requests a second, separated by commas; or shares of the closed loop's: 25%,50%.")
    ] = "25%,50%,75%,90%",
    duration: Seconds = 5,
) -> None:
    """Several rates one after another: what latency costs at which load."""
    asked = [_rate(text) for text in rates.split(",")]
    with _measuring(options, "steps") as (session, measure):
        ceiling = 0.0
        if any(relative for _, relative in asked):
            ceiling = measure(options.closed(duration), "closed loop").taken.achieved
            session.figures["closed_per_s"] = ceiling
        for number, relative in asked:
            wanted = ceiling * number / 100 if relative else number
            if measure(options.rated(wanted, duration), f"{number:g} %" if relative else f"{number:,g}/s").taken.interrupted:
                break
    _end(session, options, well=_all_answered(session))


@app.command()
@shared(drain=2)
def capacity(
    options: Options,
    p99_ms: Annotated[float, typer.Option("--p99-ms", min=0.001, help="The p99 that has to hold.")] = 20,
    share: Annotated[float, typer.Option(min=0.5, max=1, help="Of the requests that has to be answered in time.")] = 0.99,
    closed: Annotated[bool, typer.Option("--closed", help="Only the closed loop: the most answers at any latency.")] = False,
    duration: Seconds = 3,
) -> None:
    """The highest rate that the server keeps up with while p99 stays under a bound."""
    found = 0.0
    with _measuring(options, "capacity") as (session, measure):
        ceiling = measure(options.closed(duration), "closed loop")
        session.figures["closed_per_s"] = ceiling.taken.achieved
        session.verdicts.append(f"Closed loop of {ceiling.taken.pace.open_calls} open calls: {ceiling.taken.achieved:,.0f}/s.")

        def trial(rate: float) -> bool:
            each = measure(options.rated(rate, duration), f"{rate:,.0f}/s")
            if each.taken.interrupted:
                raise KeyboardInterrupt
            kept = judging.holds(each, share=share, p99_ms=p99_ms)
            if not kept and judging.came_late(each):
                # That may have been the generator's fault: once more.
                each = measure(options.rated(rate, duration), f"{rate:,.0f}/s again")
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
    _end(session, options, well=closed or found > 0)


@app.command()
@shared(named="mixed", warmup=5)
def soak(
    options: Options,
    rate: Rate = 300,
    duration: Seconds = 600,
    grow: Annotated[float, typer.Option(min=0, help="By so many percent the server's memory may grow in its second half.")] = 5,
) -> None:
    """One rate for long: does memory grow, do descriptors or threads, does latency drift?"""
    with _measuring(options, "soak") as (session, measure):
        each = measure(options.rated(rate, duration), "")
        grown = _drift(session, each)
    _end(session, options, well=_all_answered(session) and grown <= grow / 100)


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
@shared(without={"target", "serve", "tree", "pid", "timeout_ms"}, streams=16, drain=5)
def compare(
    options: Options,
    a: Annotated[str, typer.Argument(metavar="A", help="HOST:PORT, the folder of a checkout, 'empty', or 'spinning'.")],
    b: Annotated[
        str,
        typer.Argument(
            metavar="B",
            help="As A. 'empty': a grpcio server that does nothing. 'spinning': this checkout with a restless Python thread.",
        ),
    ],
    rounds: Annotated[int, typer.Option(min=3, max=200, help="Of each side, in turn.")] = 7,
    duration: Seconds = 3,
    rate: Annotated[float, typer.Option("--rate", "-r", min=0, help="Requests a second; 0: closed loop.")] = 0,
) -> None:
    """Two servers or two builds in turns on the same core: medians, and ratios with their 95 % interval."""
    pace = options.rated(rate, duration) if rate else options.closed(duration)
    session = _session(options, "compare", {"A": a, "B": b})
    with ExitStack() as started:
        prepared = sides.prepare(options) if any(sides.is_checkout(side) for side in (a, b)) else None
        both: dict[str, tuple[Generator, Serving]] = {}
        answer_bytes = 0
        for label, side in sorted((("A", a), ("B", b)), key=lambda pair: pair[1] == sides.EMPTY):
            serving = started.enter_context(sides.opened(options, side, prepared, answer_bytes))
            with sides.generators_core():
                generator = _generator(options, serving, decides=side != sides.EMPTY)
                trial = generator.run(dataclasses.replace(pace, seconds=max(0.5, options.warmup)), drain=options.drain)
            answered = [len(sample) for name, sample in trial.samples if name == "decide"]
            answer_bytes = round(sum(answered) / len(answered)) if answered else 0
            if side != sides.EMPTY:
                calls.check(options.wanted, trial.samples)
            both[label] = generator, serving
        with sides.generators_core():
            for number in range(rounds):
                # A B, B A, A B ...: neither side is always the first.
                for label in ("A", "B") if number % 2 == 0 else ("B", "A"):
                    generator, serving = both[label]
                    with servers.paused(other for name, (_, other) in both.items() if name != label):
                        each = _round(options, generator, serving, pace, label, f"round {number + 1} of {rounds}, {label}")
                    session.rounds.append(each)
                    if each.taken.interrupted:
                        raise KeyboardInterrupt
    found = judging.comparisons(session.rounds)
    for each_ in found:
        session.figures[f"ratio of {each_.name}"] = each_.ratio
    if not options.as_json:
        show.compared(found)
    _end(session, options, well=_all_answered(session))


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
def _measuring(options: Options, kind: str) -> Iterator[tuple[Session, Measure]]:
    """A server, warm connections to it, and a function that measures a pace and adds the round to the session."""
    target = options.target
    if (target is None) == (options.serve is None):
        raise typer.BadParameter("name a server (HOST:PORT), or start one (--serve WORKLOAD).")
    with ExitStack() as started:
        if target is None:
            what = "" if options.tree == servers.ROOT else f" of {options.tree}"
            session = _session(options, kind, {"": f"server{what} started here, core {servers.cores()[0]}"})
            serving = started.enter_context(sides.opened(options, str(options.tree), sides.prepare(options), 0))
        else:
            session = _session(options, kind, {"": target})
            serving = dataclasses.replace(sides.parse(target), pid=options.pid)
        started.enter_context(sides.generators_core())
        generator = _generator(options, serving)

        def measure(pace: Pace, label: str) -> Round:
            if options.warmup:
                warm = generator.run(dataclasses.replace(pace, seconds=options.warmup), drain=options.drain)
                calls.check(options.wanted, warm.samples)
            each = _round(options, generator, serving, pace, label, label)
            if not options.warmup:
                calls.check(options.wanted, each.taken.samples)
            session.rounds.append(each)
            return each

        yield session, measure


def _session(options: Options, kind: str, sides: dict[str, str]) -> Session:
    return Session(kind, options.wanted.name, machine.describe("loadtest"), sides, options.shape)


def _generator(options: Options, serving: Serving, decides: bool = True) -> Generator:
    return Generator(
        serving.host,
        serving.port,
        # The empty server's answers hold no decision, so there is nothing to look for and no token to report with.
        calls.of(options.wanted) if decides else [Call("decide", calls.DECIDE, calls.decisions(options.wanted))],
        connections=options.connections,
        streams=options.streams,
        seed=options.seed,
        timeout=options.timeout_ms / 1e3,
        spin=options.spin_us / 1e6,
    )


def _round(options: Options, generator: Generator, serving: Serving, pace: Pace, label: str, shown: str) -> Round:
    with show.live(shown, pace, options.quiet or options.as_json) as onlooker:
        return measuring.measure(generator, pace, label=label, drain=options.drain, pid=serving.pid, onlooker=onlooker)


def _rate(text: str) -> tuple[float, bool]:
    relative = text.strip().endswith("%")
    try:
        number = float(text.strip().removesuffix("%").replace("_", ""))
    except ValueError:
        number = 0.0
    if number <= 0:
        raise typer.BadParameter(f"'{text}' is neither a rate (1000) nor a share (50%).", param_hint="--rates")
    return number, relative


def _all_answered(session: Session) -> bool:
    return all(
        each.taken.answered == each.taken.scheduled and not each.taken.interrupted
        for each in session.rounds
        if each.taken.pace.rate or session.kind == "compare"
    )


def _end(session: Session, options: Options, *, well: bool) -> None:
    """Keeps the session, shows it, and ends with whether all was well."""
    moment = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    folder = options.into / f"{session.kind}-{session.workload}-{moment}"
    results.save(session, folder)
    files = [folder / results.RESULT, folder / results.LOG]
    if options.report:
        files += page.write(session, folder)
    if options.as_json:
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
