"""rapport case: complaints, faults and disputes of customers."""

from __future__ import annotations

import enum
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

from protos.rapport.v1 import profile_pb2, profile_pb2_grpc
from server.cli import arguments, client, show
from server.cli.commands import Identifiers, Json, Server
from server.cli.exits import Exit, RemoteError

app = typer.Typer(
    help="Cases: what is open with a customer, which pauses offers.", no_args_is_help=True, rich_markup_mode=None
)
Kind = Annotated[str, typer.Option("--kind", help="The case's kind, as the program declares it.")]
Key = Annotated[str, typer.Option("--key", help="Its number in the system that keeps it.")]
Owner = Annotated[str, typer.Option("--owner", help="Who works on it.")]
Due = Annotated[str, typer.Option("--due", metavar="TIME", help="When it should be closed. Default: by its kind.")]
At = Annotated[str, typer.Option("--at", metavar="TIME", help="When it happened. Default: now.")]


class Scope(enum.StrEnum):
    """Whom or what a case is about."""

    CUSTOMER = "customer"
    HOUSEHOLD = "household"
    PRODUCT = "product"


@contextmanager
def _advising(identifier: Sequence[str]) -> Iterator[None]:
    """Complete the advice about a case that is not there: the server does not know how the customer was named here."""
    try:
        yield
    except RemoteError as error:
        if error.told == "NOT_FOUND" and error.metadata.get("kind") == "case":
            named = " ".join(f"-i {shlex.quote(each)}" for each in identifier)
            error.hint = f"List what there is: rapport case list --all {named}"
        raise


@app.command("open", short_help="Open a case, which pauses the offers that say so.")
def open_(
    identifier: Identifiers,
    kind: Kind,
    key: Key,
    scope: Annotated[
        Scope | None, typer.Option("--scope", help="Whom it is about. Default: the product if one is named, else the customer.")
    ] = None,
    product: Annotated[str, typer.Option("--product", help="The product it is about, as offers name theirs.")] = "",
    owner: Owner = "",
    due: Due = "",
    at: At = "",
    server: Server = None,
) -> None:
    """Open a case, which pauses the offers that say so. One with this kind and key is opened once.

    Where it was closed before it stays closed: nothing is opened, and the exit code is 1. One that is open stays as it is.
    """
    request = profile_pb2.OpenCaseRequest(
        identifiers=arguments.identifiers(identifier),
        kind=kind,
        key=key,
        scope=None if scope is None else f"CASE_SCOPE_{scope.name}",
        product=product,
        owner=owner,
        due=arguments.instant(due, "--due") if due else None,
        at=arguments.instant(at, "--at") if at else None,
    )
    with client.connected(client.address(server, control=True)) as link:
        response = profile_pb2_grpc.ProfileServiceStub(link).OpenCase(request, timeout=client.QUICK_SECONDS)
    if response.warning:
        show.err.print(response.warning, markup=False, soft_wrap=True)
    if response.closed:
        raise typer.Exit(Exit.PARTLY)


@app.command(short_help="Close a case: what it paused is back in the next decision.")
def close(identifier: Identifiers, kind: Kind, key: Key, at: At = "", server: Server = None) -> None:
    """Close a case: what it paused is back in the next decision.

    One that is closed already stays as it is: it says so, and the exit code is 0, for the case is closed.
    """
    request = profile_pb2.CloseCaseRequest(
        identifiers=arguments.identifiers(identifier), kind=kind, key=key,
        at=arguments.instant(at, "--at") if at else None,
    )
    with _advising(identifier), client.connected(client.address(server, control=True)) as link:
        response = profile_pb2_grpc.ProfileServiceStub(link).CloseCase(request, timeout=client.QUICK_SECONDS)
    if response.warning:
        show.err.print(response.warning, markup=False, soft_wrap=True)


@app.command()
def assign(
    identifier: Identifiers,
    kind: Kind,
    key: Key,
    owner: Annotated[str, typer.Option("--owner", help="Who works on it. Default: as before.")] = "",
    due: Annotated[str, typer.Option("--due", metavar="TIME", help="When it should be closed. Default: as before.")] = "",
    at: At = "",
    server: Server = None,
) -> None:
    """Say who works on a case, or until when."""
    if not owner and not due:
        raise typer.BadParameter("Say who works on it, or until when: --owner or --due.", param_hint="--owner")
    request = profile_pb2.AssignCaseRequest(
        identifiers=arguments.identifiers(identifier), kind=kind, key=key, owner=owner,
        due=arguments.instant(due, "--due") if due else None,
        at=arguments.instant(at, "--at") if at else None,
    )
    with _advising(identifier), client.connected(client.address(server, control=True)) as link:
        profile_pb2_grpc.ProfileServiceStub(link).AssignCase(request, timeout=client.QUICK_SECONDS)


@app.command("list")
def list_(
    identifier: Identifiers,
    every: Annotated[bool, typer.Option("--all", help="Closed ones too.")] = False,
    server: Server = None,
    json: Json = False,
) -> None:
    """A customer's open cases."""
    request = profile_pb2.ListCasesRequest(
        identifiers=arguments.identifiers(identifier), state="CASE_STATE_ALL" if every else "CASE_STATE_UNSPECIFIED"
    )
    with client.connected(client.address(server, control=True)) as link:
        response = profile_pb2_grpc.ProfileServiceStub(link).ListCases(request, timeout=client.QUICK_SECONDS)
    show.as_json(response) if json else show.cases(response)


@app.command()
def overdue(
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many.")] = 100,
    server: Server = None,
    json: Json = False,
) -> None:
    """Open cases of all customers that should have been closed by now."""
    found = profile_pb2.ListOverdueCasesResponse()
    with client.connected(client.address(server, control=True)) as link:
        stub = profile_pb2_grpc.ProfileServiceStub(link)
        while True:
            asked = profile_pb2.ListOverdueCasesRequest(after=found.next)
            page = stub.ListOverdueCases(asked, timeout=client.QUICK_SECONDS)
            found.cases.extend(page.cases)
            found.next = page.next
            if not page.next or len(found.cases) > limit:
                break
    more = found.next != 0 or len(found.cases) > limit
    found.ClearField("next")
    del found.cases[limit:]
    show.as_json(found) if json else show.overdue(found, more)
