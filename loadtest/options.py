"""The options that the measuring commands share, and what gives a command all of them.

Each is said once, as a field of `Options`. A command takes them as its one parameter ``options`` and says only where its
defaults differ, or which of them would mean nothing to it.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Collection
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from loadtest import servers, workload
from loadtest.taken import Pace
from loadtest.workload import Workload

INTO = Path("build/load")
LONGEST = 24 * 3600.0
DEFAULT_CUSTOMERS = 20_000

Customers = Annotated[int, typer.Option(min=1, help="Customers of the base asked for; with --serve, so many are made.")]
Into = Annotated[Path, typer.Option(help="Folder for prepared data and results.")]
AsJson = Annotated[bool, typer.Option("--json", help="The figures as JSON on standard output.")]
Seconds = Annotated[float, typer.Option("--duration", "-d", min=0.1, max=LONGEST, help="Seconds.")]
Rate = Annotated[float, typer.Option("--rate", "-r", min=0.1, help="Requests a second.")]


class Arrivals(StrEnum):
    """How requests are spread over time."""

    CONSTANT = "constant"
    POISSON = "poisson"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What all measuring commands can be told."""

    target: Annotated[
        str | None, typer.Argument(metavar="[HOST:PORT]", help="A server that runs already.", show_default=False)
    ] = None
    serve: Annotated[
        str | None, typer.Option("--serve", metavar="WORKLOAD", help="Start a server with this workload.", show_default=False)
    ] = None
    named: Annotated[str, typer.Option("--workload", "-w", help=f"What is asked: {', '.join(workload.names())}.")] = "shop"
    customers: Customers = DEFAULT_CUSTOMERS
    tree: Annotated[Path, typer.Option(help="The checkout whose server --serve starts.", show_default="this one")] = servers.ROOT
    pid: Annotated[int, typer.Option(help="The running server's process, to see what it uses.", show_default=False)] = 0
    connections: Annotated[int, typer.Option("--connections", "-c", min=1, max=4096, help="TCP connections.")] = 4
    streams: Annotated[int, typer.Option("--streams", "-s", min=1, max=65536, help="Open calls a connection at most.")] = 64
    arrivals: Annotated[Arrivals, typer.Option(help="Evenly spaced, or with exponential gaps.")] = Arrivals.POISSON
    warmup: Annotated[float, typer.Option(min=0, max=600, help="Seconds at the same rate beforehand, not counted.")] = 1
    drain: Annotated[float, typer.Option(min=0, max=600, help="Seconds that answers may come late.")] = 10
    timeout_ms: Annotated[float, typer.Option(min=0, help="The calls' deadline as the server is told; 0: none.")] = 0
    seed: Annotated[int, typer.Option(min=0, help="Of arrivals, and of the order of messages.")] = 1
    spin_us: Annotated[float, typer.Option(min=0, help="Stay awake so long before a request is due (costs the core).")] = 0
    into: Into = INTO
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No live view.")] = False
    as_json: AsJson = False
    report: Annotated[bool, typer.Option(help="Write report.html and PNG files beside the raw results.")] = True

    @functools.cached_property
    def wanted(self) -> Workload:
        """The workload that is asked for, over the customers asked for. Raises ValueError for a name that is none."""
        return dataclasses.replace(workload.load(self.serve or self.named), customers=self.customers)

    @property
    def shape(self) -> str:
        """Connections and streams in words."""
        return f"{self.connections} connections x at most {self.streams} open calls, warmed up for {self.warmup:g} s"

    def rated(self, rate: float, seconds: float) -> Pace:
        """A pace of so many requests a second."""
        return Pace(seconds, rate, self.arrivals is Arrivals.POISSON)

    def closed(self, seconds: float) -> Pace:
        """A closed loop over the connections."""
        return Pace(seconds, open_calls=min(64, self.connections * self.streams))


def shared(
    *, without: Collection[str] = (), **defaults: object
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Puts the fields of `Options` behind a command's own parameters, which then gets them as ``options``.

    ``defaults`` are this command's where they differ; fields named in ``without`` it does not have.
    """

    def give(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(Options, include_extras=True)
        fields = [
            inspect.Parameter(
                each.name, kind=inspect.Parameter.KEYWORD_ONLY,
                default=defaults.get(each.name, each.default), annotation=hints[each.name],
            )
            for each in dataclasses.fields(Options)
            if each.name not in without
        ]
        own = [each for each in inspect.signature(command, eval_str=True).parameters.values() if each.name != "options"]
        owned = {each.name for each in own}

        @functools.wraps(command)
        def called(**given: Any) -> None:
            options = Options(**{name: value for name, value in given.items() if name not in owned})
            command(**{name: value for name, value in given.items() if name in owned}, options=options)

        parameters = [*(each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own), *fields]
        called.__signature__ = inspect.Signature(parameters, return_annotation=None)  # type: ignore[attr-defined]
        called.__annotations__ = {each.name: each.annotation for each in parameters}
        return called

    return give
