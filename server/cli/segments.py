"""rapport segment: who is in which segment, now; and the edges of bands."""

from __future__ import annotations

import json as json_text
from typing import Annotated

import typer

from protos.rapport.v1 import segment_pb2, segment_pb2_grpc
from server.cli import client, show
from server.cli.commands import Json, Server

app = typer.Typer(
    help="Segments: count, list and watch who is in them; the edges of bands.", no_args_is_help=True, rich_markup_mode=None
)
Name = Annotated[str, typer.Argument(help="A segment that the program declares.")]
Namespace = Annotated[
    str,
    typer.Option(
        "--identifier", "-i", metavar="NAMESPACE", show_default=False,
        help="Show this identifier of each, and leave out who has none. Default: all of them.",
    ),
]


@app.command()
def count(
    name: Annotated[str, typer.Argument(help="A segment. Default: every one.", show_default=False)] = "",
    server: Server = None,
    json: Json = False,
) -> None:
    """How many customers are in a segment, or in each. Visits everybody: about a second for a million."""
    response = segment_pb2.CountSegmentsResponse()
    with client.connected(client.address(server, control=True)) as link:
        asked = segment_pb2.CountSegmentsRequest(segment=name)
        for response in segment_pb2_grpc.SegmentServiceStub(link).CountSegments(asked, timeout=client.SLOW_SECONDS):
            if not response.complete:
                _progress(response.progress)
    show.as_json(response) if json else show.segments(response)
    _damaged(response.progress)


@app.command("list")
def list_(
    name: Name,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, max=2**64 - 1, help="At most so many. 0: all.")] = 0,
    identifier: Namespace = "",
    server: Server = None,
    json: Json = False,
) -> None:
    """Who is in a segment, one customer a line, by rising customer number. With --json an object a line, of everybody.

    Example: rapport segment list lapsed --identifier email > lapsed.txt
    """
    asked = segment_pb2.ListSegmentRequest(segment=name, limit=limit, namespace=identifier)
    progress = segment_pb2.WalkProgress()
    without = 0
    with client.connected(client.address(server, control=True)) as link:
        for response in segment_pb2_grpc.SegmentServiceStub(link).ListSegment(asked, timeout=client.SLOW_SECONDS):
            progress = response.progress
            for member in response.members:
                if json:
                    _json(member)
                elif identifier and not member.identifiers:
                    without += 1
                else:
                    show.line(_shown(member, identifier))
            if not response.members:
                _progress(progress)
    if without:
        who, they = ("1 customer in it has", "is") if without == 1 else (f"{without:,} customers in it have", "are")
        show.err.print(f"{who} no '{identifier}' and {they} left out", markup=False, soft_wrap=True)
    _damaged(progress)


@app.command()
def watch(name: Name, identifier: Namespace = "", server: Server = None, json: Json = False) -> None:
    """Who enters a segment (+) and who leaves it (-), as it happens, until it is interrupted.

    What is told of somebody shows at once; what time alone brings, as soon as everybody has been visited again. Who has no
    identifier of the namespace asked for is told on standard error.
    """
    asked = segment_pb2.WatchSegmentRequest(segment=name, namespace=identifier)
    with client.connected(client.address(server, control=True)) as link:
        try:
            for response in segment_pb2_grpc.SegmentServiceStub(link).WatchSegment(asked):
                if response.HasField("members"):
                    show.err.print(f"{response.members:,} in '{name}'; watching", markup=False)
                for change in response.changes:
                    line = f"{show.when(change.at)} {'+' if change.entered else '-'} {_shown(change.member, identifier)}"
                    if json:
                        _json(change)
                    elif identifier and not change.member.identifiers:
                        show.err.print(f"{line}, without '{identifier}'", markup=False, soft_wrap=True)
                    else:
                        show.line(line)
        except KeyboardInterrupt:
            raise typer.Exit from None


@app.command()
def bands(server: Server = None, json: Json = False) -> None:
    """The edges of each band, over how many customers, and when they were made."""
    with client.connected(client.address(server, control=True)) as link:
        response = segment_pb2_grpc.SegmentServiceStub(link).ListBands(
            segment_pb2.ListBandsRequest(), timeout=client.QUICK_SECONDS
        )
    show.as_json(response) if json else show.bands(response)


def _json(message: segment_pb2.SegmentMember | segment_pb2.SegmentChange) -> None:
    show.line(json_text.dumps(show.fields(message), ensure_ascii=False))


def _shown(member: segment_pb2.SegmentMember, namespace: str) -> str:
    """His identifiers; of one namespace alone its values, and the customer's number where there is none."""
    values = [each.value if namespace else f"{each.namespace}={each.value}" for each in member.identifiers]
    return " ".join(values) if values else f"customer {member.customer}"


def _progress(progress: segment_pb2.WalkProgress) -> None:
    if progress.visited < progress.customers:
        show.err.print(f"{progress.visited:,} of {progress.customers:,} customers", markup=False)


def _damaged(progress: segment_pb2.WalkProgress) -> None:
    if progress.damaged:
        show.err.print(
            f"{progress.damaged:,} customers are damaged and were left out; look with rapport store check", markup=False
        )
