"""Measurements in a terminal: a live view while a round runs, tables afterwards.

Tables go to standard output, everything else to standard error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from loadtest.generator import Generator
from loadtest.histogram import Histogram
from loadtest.judging import Comparison, doubts
from loadtest.measuring import Moment, Onlooker, Round
from loadtest.results import Session
from loadtest.taken import Pace

_PIPE_COLUMNS = 200
out = Console(highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPE_COLUMNS)
err = Console(stderr=True, highlight=False)

_BARS = " ▁▂▃▄▅▆▇█"


def milliseconds(nanoseconds: float) -> str:
    """Three digits: 0.123, 1.23, 12.3, 123, 1,234 ms."""
    value = nanoseconds / 1e6
    digits = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f}"


def count(value: float) -> str:
    """A rate or a number, with thousands set apart."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


@contextmanager
def live(label: str, pace: Pace, quiet: bool) -> Iterator[Onlooker | None]:
    """A view of the round that is going on, drawn by the onlooker's thread; nothing when there is nobody to look at it."""
    if quiet or not err.is_terminal:
        yield None
        return
    with Live(console=err, auto_refresh=False, transient=True) as screen:
        rates: list[float] = []
        seen = [0.0, 0]  # seconds and answers at the last look

        def look(generator: Generator, moments: list[Moment]) -> None:
            seconds, scheduled, answered, failed, open_calls = generator.progress()
            if seconds > seen[0]:
                rates.append((answered - seen[1]) / (seconds - seen[0]))
            seen[:] = [seconds, answered]
            latency, lag = generator.peek()
            screen.update(
                _panel(label, pace, seconds, (scheduled, answered, failed, open_calls), rates, _figures(latency, lag, moments)),
                refresh=True,
            )

        yield look


def _figures(latency: Histogram, lag: Histogram, moments: Sequence[Moment]) -> list[tuple[str, str]]:
    p50, p99, p999 = latency.percentiles([50, 99, 99.9])
    found = [
        ("p50", f"{milliseconds(p50)} ms"),
        ("p99", f"{milliseconds(p99)} ms"),
        ("p99.9", f"{milliseconds(p999)} ms"),
        ("max", f"{milliseconds(latency.largest)} ms"),
        ("generator's lag p99", f"{milliseconds(lag.percentile(99))} ms"),
    ]
    if len(moments) > 1 and moments[-1].server_mib:
        last, before = moments[-1], moments[-2]
        cores = (last.server_cpu_s - before.server_cpu_s) / max(1e-9, last.at - before.at)
        found.append(("server", f"{cores:.0%} of a core, {last.server_mib:,.0f} MiB"))
    return found


def _panel(
    label: str,
    pace: Pace,
    seconds: float,
    counts: tuple[int, int, int, int],
    rates: Sequence[float],
    figures: Sequence[tuple[str, str]],
) -> Group:
    scheduled, answered, failed, open_calls = counts
    head = Text.assemble((f"{label}  " if label else "", "bold"), (str(pace), ""))
    bar = Table.grid(padding=(0, 1))
    bar.add_row(ProgressBar(total=pace.seconds, completed=min(seconds, pace.seconds), width=40), f"{seconds:.0f} s")
    grid = Table.grid(padding=(0, 2))
    grid.add_row("sent", count(scheduled), "answered", count(answered), "open", str(open_calls), "failed", _red(failed))
    numbers = Table.grid(padding=(0, 2))
    for name, value in figures:
        numbers.add_row(Text(name, "dim"), value)
    return Group(head, bar, grid, Text(f"{_spark(rates[-40:])} {count(rates[-1]) if rates else 0}/s", "cyan"), numbers)


def _red(number: int) -> Text:
    return Text(count(number) if number else "0", "bold red" if number else "dim")


def _spark(values: Sequence[float]) -> str:
    top = max(values, default=0.0) or 1.0
    return "".join(_BARS[min(8, max(0, round(value / top * 8)))] for value in values)


# --- tables -------------------------------------------------------------------------------------------------------


def session(measured: Session) -> None:
    """Everything a session found, for a person."""
    out.print(f"[dim]{escape(str(measured.machine))}[/]", soft_wrap=True)
    for label, what in measured.sides.items():
        out.print(f"{f'[bold]{label}[/] ' if label else ''}{escape(what)}", soft_wrap=True)
    out.print(f"[dim]{escape(measured.workload)}, {escape(measured.shape)}[/]\n", soft_wrap=True)
    rounds(measured.rounds)
    if len(measured.rounds) == 1:
        parts(measured.rounds[0])
    for text in doubts(measured.rounds, measured.machine.cores):
        err.print(f"[yellow]{escape(text)}[/]", soft_wrap=True)
    for text in measured.verdicts:
        out.print(f"[bold]{escape(text)}[/]", soft_wrap=True)


def rounds(measured: Sequence[Round]) -> None:
    """One line a round: what was asked, what came, how late, at what cost."""
    table = _table(
        "", "offered/s", "answered/s", "share", "p50 ms", "p90", "p99", "p99.9", "max", "sending p99", "lag p99", "server",
        "generator",
    )  # fmt: skip
    for each in measured:
        taken = each.taken
        p50, p90, p99, p999 = taken.latency.percentiles([50, 90, 99, 99.9])
        server = each.cores("server")
        table.add_row(
            escape(each.label),
            count(taken.pace.rate) if taken.pace.rate else "closed",
            count(taken.achieved),
            f"{taken.answered_share:.1%}",
            *(milliseconds(value) for value in (p50, p90, p99, p999, taken.latency.largest)),
            milliseconds(taken.service.percentile(99)),
            milliseconds(taken.lag.percentile(99)) if taken.pace.rate else "",
            f"{server:.0%}" if server else "",
            f"{taken.generator_cpu_s / taken.elapsed:.0%}" if taken.elapsed else "",
        )
    out.print(table)


def parts(measured: Round) -> None:
    """The calls of a mixed load, one line each."""
    if len(measured.taken.parts) < 2:
        return
    table = _table("", "sent", "answered", "failed", "p50 ms", "p99", "p99.9", "max")
    for part in measured.taken.parts:
        values = part.latency.percentiles([50, 99, 99.9])
        table.add_row(
            escape(part.name),
            count(part.sent),
            count(part.answered),
            str(part.failed),
            *(milliseconds(value) for value in (*values, part.latency.largest)),
        )
    out.print(table)


def compared(found: Sequence[Comparison]) -> None:
    """Medians of both sides, and how sure the ratio is."""
    table = _table("", "A", "B", "B / A", "95 % interval", "")
    for each in found:
        says = "differs" if each.differs else "no difference seen"
        table.add_row(
            f"{each.name} {each.unit}",
            f"{each.a:,.3g}" if each.a < 1000 else count(each.a),
            f"{each.b:,.3g}" if each.b < 1000 else count(each.b),
            f"{each.ratio:.3f}",
            f"{each.low:.3f} to {each.high:.3f}",
            says,
        )
    out.print(table)


def written(folder: Path, files: Sequence[Path]) -> None:
    """Where the raw results and the report lie."""
    err.print(f"[dim]{escape(str(folder))}: {', '.join(path.name for path in files)}[/]", soft_wrap=True)


def say(text: str) -> None:
    """What is going on, for whoever waits."""
    err.print(f"[dim]{escape(text)}[/]", soft_wrap=True)


def problem(text: str) -> None:
    """What went wrong."""
    err.print(f"[bold red]load test[/] {escape(text)}", soft_wrap=True)


def _table(*header: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="dim")
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    return table
