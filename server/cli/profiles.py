"""rapport profile: show and change what is known of one customer."""

from __future__ import annotations

from typing import Annotated

import grpc
import typer

from core import limits
from core.errors import BadValue
from protos.rapport.v1 import profile_pb2, profile_pb2_grpc, values_pb2
from server.cli import arguments, client, households, show
from server.cli.commands import Identifiers, Json, Server

app = typer.Typer(help="Profiles: what is known of a customer.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(households.app, name="household")
Source = Annotated[str, typer.Option("--source", help="Who says so.")]


@app.command("show")
def show_(
    identifier: Identifiers,
    contacts: Annotated[int, typer.Option("--contacts", min=1, max=4096, help="Newest contacts to show.")] = 20,
    events: Annotated[int, typer.Option("--events", min=1, max=32768, help="Newest events to show.")] = 20,
    server: Server = None,
    json: Json = False,
) -> None:
    """All that is known of a customer."""
    request = profile_pb2.GetProfileRequest(
        identifiers=arguments.identifiers(identifier), contacts=contacts, events=events, provenance=json
    )
    with client.connected(client.address(server, control=True)) as link:
        response = profile_pb2_grpc.ProfileServiceStub(link).GetProfile(request, timeout=client.QUICK_SECONDS)
    show.as_json(response) if json else show.profile(response)


@app.command()
def provenance(
    identifier: Identifiers,
    attribute: Annotated[
        list[str] | None, typer.Argument(metavar="[ATTRIBUTE...]", help="Which. Default: all with sources.", show_default=False)
    ] = None,
    server: Server = None,
    json: Json = False,
) -> None:
    """Where attributes come from: what holds, by which rule, and what each source says."""
    request = profile_pb2.GetProvenanceRequest(
        identifiers=arguments.identifiers(identifier), attributes=attribute or []
    )
    with client.connected(client.address(server, control=True)) as link:
        response = profile_pb2_grpc.ProfileServiceStub(link).GetProvenance(request, timeout=client.QUICK_SECONDS)
    show.as_json(response) if json else show.provenance(response)


@app.command("set", short_help="Set or clear attributes; makes the customer when there is none.")
def set_(
    identifier: Identifiers,
    attribute: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=VALUE...]",
            help='Attributes: age=44 balance="1200.00 EUR" since=2026-09-01 (or 2026-09-01T12:00:00Z) "tags=[a, b]". What looks '
            "like nothing else is text: city=null is the text null, city= the empty one.",
            show_default=False,
        ),
    ] = None,
    clear: Annotated[
        list[str] | None,
        typer.Option("--clear", metavar="NAME", help="An attribute to make missing. Repeatable.", show_default=False),
    ] = None,
    source: Source = "",
    server: Server = None,
    json: Json = False,
) -> None:
    """Set or clear attributes; creates the customer when none of the identifiers is known.

    With an identifier of a household (-i account=A-17) they are those that its members share.

    Example: rapport profile set -i crm=11 age=44 --clear city
    """
    if not attribute and not clear:
        raise typer.BadParameter("Say what to set or clear: NAME=VALUE or --clear NAME.", param_hint="NAME=VALUE")
    request = profile_pb2.UpsertProfileRequest(
        identifiers=arguments.identifiers(identifier),
        attributes=arguments.values(attribute or (), "NAME=VALUE"),
        clear=clear or (),
        source=source,
    )
    with client.connected(client.address(server, control=True)) as link:
        response = profile_pb2_grpc.ProfileServiceStub(link).UpsertProfile(request, timeout=client.QUICK_SECONDS)
    if json:
        show.as_json(response)
    else:
        named = f"household {response.household}" if response.household else f"customer {response.customer}"
        show.out.print(f"{named}{' (new)' if response.created else ''}")


@app.command()
def consent(
    identifier: Identifiers,
    purpose: Annotated[
        str | None,
        typer.Argument(help="A purpose that the program declares. Default: show what is recorded of all.", show_default=False),
    ] = None,
    grant: Annotated[bool, typer.Option("--grant", help="Record that he agreed.")] = False,
    withdraw: Annotated[
        bool, typer.Option("--withdraw", "--refuse", help="Record that he did not, or does no longer.")
    ] = False,
    channel: Annotated[
        str, typer.Option("--channel", "-c", help="Only in this channel. Default: in every one, whatever was said of one before.")
    ] = "",
    source: Source = "",
    server: Server = None,
    json: Json = False,
) -> None:
    """Record a consent or its withdrawal; without a purpose, show all with source and date."""
    who = arguments.identifiers(identifier)
    if grant and withdraw:
        raise typer.BadParameter("Both cannot be: say --grant or --withdraw.", param_hint="--withdraw")
    with client.connected(client.address(server, control=True)) as link:
        stub = profile_pb2_grpc.ProfileServiceStub(link)
        if purpose is None:
            if grant or withdraw or channel or source:
                raise typer.BadParameter("Name the purpose that it is about.", param_hint="PURPOSE")
            asked = profile_pb2.GetProfileRequest(identifiers=who, contacts=1, events=1)
            response = stub.GetProfile(asked, timeout=client.QUICK_SECONDS)
            show.as_json(response, "customer", "consents") if json else show.consents(response)
            return
        if not (grant or withdraw):
            raise typer.BadParameter("Say --grant or --withdraw; without a purpose, all are shown.", param_hint="--grant")
        request = profile_pb2.SetConsentRequest(
            identifiers=who, purpose=purpose, channel=channel, granted=grant, source=source
        )
        recorded = stub.SetConsent(request, timeout=client.QUICK_SECONDS)
    if json:
        show.as_json(recorded)
    elif recorded.warning:
        show.err.print(recorded.warning, markup=False, soft_wrap=True)


@app.command()
def join(identifier: Identifiers, server: Server = None, json: Json = False) -> None:
    """Say that identifiers are one person, after a verified login."""
    request = profile_pb2.JoinIdentifiersRequest(identifiers=arguments.identifiers(identifier))
    with client.connected(client.address(server, control=True)) as link:
        response = profile_pb2_grpc.ProfileServiceStub(link).JoinIdentifiers(request, timeout=client.QUICK_SECONDS)
    show.as_json(response) if json else show.out.print(
        f"customer {response.customer}, "
        + (f"{response.merged} merged into it" if response.merged else "nobody merged into it: no other had these identifiers")
        + (f"; undo it with rapport profile unmerge -i ... --merge {response.merge}" if response.merge else "")
    )


@app.command()
def export(identifier: Identifiers, server: Server = None) -> None:
    """Everything known about a customer as JSON: times in UTC, amounts as text, names instead of numbers.

    Example: rapport profile export -i crm=1 > customer.json
    """
    request = profile_pb2.GetProfileRequest(
        identifiers=arguments.identifiers(identifier),
        contacts=limits.CONTACTS_PER_CUSTOMER,
        events=limits.EVENTS_PER_CUSTOMER,
        provenance=True,
    )
    with client.connected(client.address(server, control=True)) as link:
        service = profile_pb2_grpc.ProfileServiceStub(link)
        response = service.GetProfile(request, timeout=client.SLOW_SECONDS)
        for one in request.identifiers if len(request.identifiers) > 1 else ():
            _refuse_anothers(service, one, response.customer)
        kept = service.ListMerges(profile_pb2.ListMergesRequest(identifiers=request.identifiers), timeout=client.SLOW_SECONDS)
    show.everything(response, kept)


def _refuse_anothers(service: profile_pb2_grpc.ProfileServiceStub, one: values_pb2.Identifier, customer: int) -> None:
    """Raise BadValue for an identifier of another customer: who is to be handed something must not get one's for both."""
    alone = profile_pb2.GetProfileRequest(identifiers=[one], contacts=1, events=1)
    try:
        owner = service.GetProfile(alone, timeout=client.QUICK_SECONDS).customer
    except grpc.RpcError as error:
        if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.NOT_FOUND:
            return
        raise
    if owner != customer:
        raise BadValue("identifiers", "they lead to 2 customers", "Export one at a time, or join them first.")


@app.command()
def erase(
    identifier: Identifiers,
    request: Annotated[
        str, typer.Option("--request", help="The request's number, kept in the audit trail. It must not name the customer.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    server: Server = None,
) -> None:
    """Forget a customer: profile, identifiers, history, events, consents, cases, membership. It cannot be undone.

    A household whose last member he was goes with him. With a household's own identifier it goes alone.

    From here on decisions do not know him. The bytes leave the store's files with rapport store compact; backups keep theirs
    until you delete them.
    """
    if not yes:
        # What is asked at a terminal is kept by nobody; anywhere else it may be a log, which must not name whoever is erased.
        named = identifier if show.out.is_terminal else [each.partition("=")[0] for each in identifier]
        typer.confirm(f"Erase the customer of {', '.join(map(show.seen, named))} for good?", abort=True)
    asked = profile_pb2.EraseProfileRequest(identifiers=arguments.identifiers(identifier), request=request)
    with client.connected(client.address(server, control=True)) as link:
        profile_pb2_grpc.ProfileServiceStub(link).EraseProfile(asked, timeout=client.QUICK_SECONDS)
    show.out.print("erased; to remove the bytes from the files, stop the server and run rapport store compact")


@app.command()
def merges(identifier: Identifiers, server: Server = None, json: Json = False) -> None:
    """The joins into a customer that can be undone, the newest first."""
    request = profile_pb2.ListMergesRequest(identifiers=arguments.identifiers(identifier))
    with client.connected(client.address(server, control=True)) as link:
        response = profile_pb2_grpc.ProfileServiceStub(link).ListMerges(request, timeout=client.QUICK_SECONDS)
    show.as_json(response) if json else show.merges(response)


@app.command()
def unmerge(
    identifier: Identifiers,
    merge: Annotated[int, typer.Option("--merge", min=0, max=2**64 - 1, help="Its number. Default: the newest.")] = 0,
    server: Server = None,
    json: Json = False,
) -> None:
    """Take a join back: everybody is as before, and what came since goes to whom its identifiers name."""
    request = profile_pb2.UnmergeRequest(identifiers=arguments.identifiers(identifier), merge=merge)
    with client.connected(client.address(server, control=True)) as link:
        response = profile_pb2_grpc.ProfileServiceStub(link).Unmerge(request, timeout=client.QUICK_SECONDS)
    show.as_json(response) if json else show.unmerged(response)
