"""rapport profile household: who belongs to which household or account, and what its members share."""

from __future__ import annotations

from typing import Annotated

import typer

from protos.rapport.v1 import profile_pb2, profile_pb2_grpc
from server.cli import arguments, client, show
from server.cli.commands import Identifiers, Json, Server

app = typer.Typer(
    help="Households: who belongs to one, and what its members share.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("set", short_help="Make a customer a member; makes either when there is none.")
def set_(
    identifier: Identifiers,
    household: Annotated[
        list[str], typer.Argument(metavar="NAMESPACE=VALUE...", help="The household's identifiers: account=A-17.")
    ],
    role: Annotated[str, typer.Option("--role", help="A role that the program declares.")] = "",
    server: Server = None,
    json: Json = False,
) -> None:
    """Make a customer a member of a household; in another he is one no more. Contacts from now on count for it.

    Example: rapport profile household set -i crm=4711 --role owner account=A-17
    """
    request = profile_pb2.SetMembershipRequest(
        identifiers=arguments.identifiers(identifier), household=arguments.identifiers(household), role=role
    )
    with client.connected(client.address(server, control=True)) as link:
        response = profile_pb2_grpc.ProfileServiceStub(link).SetMembership(request, timeout=client.QUICK_SECONDS)
    if json:
        show.as_json(response)
    elif response.superseded:
        show.out.print(f"customer {response.customer} stays where he is: something newer was said of it")
    else:
        show.out.print(
            f"customer {response.customer}{' (new)' if response.created else ''} is a member of household "
            f"{response.household}{' (new)' if response.household_created else ''}"
            f"{f', and of {response.left} no more' if response.left else ''}"
        )


@app.command()
def leave(identifier: Identifiers, server: Server = None, json: Json = False) -> None:
    """End a customer's membership: his contacts count for the household no more. It stays, also when it is empty."""
    request = profile_pb2.LeaveHouseholdRequest(identifiers=arguments.identifiers(identifier))
    with client.connected(client.address(server, control=True)) as link:
        response = profile_pb2_grpc.ProfileServiceStub(link).LeaveHousehold(request, timeout=client.QUICK_SECONDS)
    if json:
        show.as_json(response)
    elif response.superseded:
        show.out.print("stays where he is: something newer was said of it")
    else:
        show.out.print(f"left household {response.household}" if response.household else "was in no household")


@app.command("show")
def show_(identifier: Identifiers, server: Server = None, json: Json = False) -> None:
    """What the members of a household share, by its own identifier or a member's; nothing of any other member.

    Its attributes are set as a customer's: rapport profile set -i account=A-17 plan=family
    """
    request = profile_pb2.GetHouseholdRequest(identifiers=arguments.identifiers(identifier))
    with client.connected(client.address(server, control=True)) as link:
        response = profile_pb2_grpc.ProfileServiceStub(link).GetHousehold(request, timeout=client.QUICK_SECONDS)
    show.as_json(response) if json else show.household(response.household)
