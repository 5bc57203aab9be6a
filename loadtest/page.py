"""The report: one HTML file that stands alone (pictures inside, no script, nothing loaded), made from the kept results.

It says first what was measured on what, then what to doubt, then the figures.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from loadtest import judging, pictures, results
from loadtest.judging import Comparison
from loadtest.measuring import Round
from loadtest.results import Session
from loadtest.show import count, milliseconds

NAME = "report.html"

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #20262d; max-width: 1120px; margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p.on, dd, .small { color: #5b6770; } p.on { margin-top: 0; white-space: pre-line; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; } th { color: #5b6770; font-weight: 600; }
th, td { padding: .3rem .8rem .3rem 0; text-align: right; border-bottom: 1px solid #e3e6ea; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } .wide { overflow-x: auto; }
ul.doubts { background: #fff6e5; border-left: 4px solid #e09f3e; padding: .7rem 1rem .7rem 2rem; }
p.verdict { font-weight: 600; } img { max-width: 100%; height: auto; } code { background: #f2f4f6; padding: .1rem .3rem; }
dt { font-weight: 600; margin-top: .6rem; } dd { margin-left: 0; }
"""

_TITLES = {
    "run": "Load test",
    "steps": "Load in steps",
    "capacity": "Capacity",
    "soak": "Soak",
    "compare": "Two sides compared",
}
_PICTURES = {
    "percentiles": "How late answers are. The further right, the rarer: at 99.9 % stands what one request in a thousand exceeds.",
    "throughput": "What a load costs in latency; where the server stops keeping up; what both sides use.",
    "timeline": "Requests stand at the moment they were scheduled for, so a stall shows on those that met it.",
    "compared": "Rounds alternate, so what the machine did meets both sides alike. An interval that holds 1: no difference seen.",
}
_TERMS = (
    ("Latency", "From the moment a request was scheduled for to the end of its answer. A request that had to wait because "
     "the server was behind has waited; nothing is left out because it could not be sent in time."),
    ("From sending", "From the moment a request was handed to its connection. Often, and wrongly, called latency under load; "
     "here it tells a slow server from a slow generator."),
    ("Lag", "How late the generator itself was although a stream was free. When it is a good part of the latency, the figures "
     "are the generator's."),
    ("Share", "Good answers of what was scheduled: grpc-status 0, the message whole."),
    ("CPU", "Of the server's process and of the generator's loop, 100 % being one core."),
)  # fmt: skip


def write(session: Session, folder: Path) -> list[Path]:
    """Makes ``report.html`` and the PNG files in the session's folder; their paths."""
    compared = judging.comparisons(session.rounds) if session.kind == "compare" else []
    made = pictures.draw(session, compared)
    path = folder / NAME
    path.write_text(render(session, made, compared))
    return [path, *pictures.write(made, folder)]


def remake(folder: Path) -> list[Path]:
    """The report of a kept measurement, made anew; ValueError when the folder holds none."""
    return write(results.load(folder), folder)


def render(session: Session, made: dict[str, bytes], compared: Sequence[Comparison]) -> str:
    """The page's text."""
    title = f"{_TITLES[session.kind]}: {session.workload}"
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>',
        f'<h1>{escape(title)}</h1><p class="on">{escape(str(session.machine))}</p><ul>',
    ]
    for label, what in session.sides.items():
        parts.append(f"<li>{f'<b>{escape(label)}</b>: ' if label else ''}{escape(what)}</li>")
    parts.append(f"<li>{escape(session.shape)}</li></ul>")
    parts += [f'<p class="verdict">{escape(text)}</p>' for text in session.verdicts]
    found = judging.doubts(session.rounds, session.machine.cores)
    if found:
        parts.append('<ul class="doubts">' + "".join(f"<li>{escape(text)}</li>" for text in found) + "</ul>")
    if compared:
        parts.append("<h2>Ratios</h2>" + _compared(compared))
    parts.append("<h2>Rounds</h2>" + _rounds(session.rounds))
    if len(session.rounds) == 1 and len(session.rounds[0].taken.parts) > 1:
        parts.append("<h2>Calls</h2>" + _parts(session.rounds[0]))
    for name, data in made.items():
        coded = base64.b64encode(data).decode()
        text = _PICTURES[name]
        parts.append(f'<p class="small">{escape(text)}</p><img alt="{escape(text)}" src="data:image/png;base64,{coded}">')
    parts.append("<h2>Terms</h2><dl>" + "".join(f"<dt>{term}</dt><dd>{escape(text)}</dd>" for term, text in _TERMS) + "</dl>")
    parts.append(
        f'<p class="small">Raw results beside this file: <code>{results.RESULT}</code>, and every histogram in '
        f"<code>{results.LOG}</code> (HdrHistogram log, nanoseconds).</p></html>"
    )
    return "\n".join(parts)


def _rounds(rounds: Sequence[Round]) -> str:
    header = (
        "round", "asked", "answers/s", "share", "failed", "not sent", "p50 ms", "p90", "p99", "p99.9", "p99.99", "max",
        "from sending p99", "lag p99", "server CPU", "generator CPU",
    )  # fmt: skip
    lines = []
    for each in rounds:
        taken = each.taken
        server = each.cores("server")
        values = taken.latency.percentiles([50, 90, 99, 99.9, 99.99])
        lines.append([
            each.label,
            str(taken.pace),
            count(taken.achieved),
            f"{taken.answered_share:.2%}",
            f"{taken.failed:,}",
            f"{taken.unsent:,}",
            *(milliseconds(value) for value in (*values, taken.latency.largest)),
            milliseconds(taken.service.percentile(99)),
            milliseconds(taken.lag.percentile(99)) if taken.pace.rate else "",
            f"{server:.0%}" if server else "",
            f"{taken.generator_cpu_s / taken.elapsed:.0%}" if taken.elapsed else "",
        ])
    return _table(header, lines)


def _parts(each: Round) -> str:
    header = ("call", "sent", "answered", "failed", "p50 ms", "p90", "p99", "p99.9", "max")
    lines = [
        [part.name, f"{part.sent:,}", f"{part.answered:,}", f"{part.failed:,}"]
        + [milliseconds(value) for value in (*part.latency.percentiles([50, 90, 99, 99.9]), part.latency.largest)]
        for part in each.taken.parts
    ]
    return _table(header, lines)


def _compared(compared: Sequence[Comparison]) -> str:
    header = ("median", "A", "B", "B / A", "95 % interval", "")
    lines = [
        [
            f"{each.name}, {each.unit}",
            f"{each.a:,.4g}",
            f"{each.b:,.4g}",
            f"{each.ratio:.3f}",
            f"{each.low:.3f} to {each.high:.3f}",
            "differs" if each.differs else "no difference seen",
        ]
        for each in compared
    ]
    return _table(header, lines)


def _table(header: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in lines)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'
