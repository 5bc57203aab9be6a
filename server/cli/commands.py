"""decide, explain, record, tell: what channels do, by hand."""

from __future__ import annotations

import enum
import math
from typing import Annotated, Any

import typer
from google.protobuf import duration_pb2

from protos.rapport.v1 import decision_pb2, decision_pb2_grpc
from server.cli import arguments, client, show
from server.cli.exits import Exit


class Level(enum.StrEnum):
    """How much to explain."""

    none = "none"
    summary = "summary"
    full = "full"




def _server(what: str) -> Any:
    return typer.Option(
        "--server", envvar="RAPPORT_SERVER", metavar="HOST:PORT", show_default=False,
        help=f"The server's {what}. Default: the configuration's.",
    )


# Which of a server's two addresses a command calls.
Decisions = Annotated[str | None, _server("address: listen.decisions, or listen.control, which answers too")]
Server = Annotated[str | None, _server("listen.control, by default the port after that of decisions")]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
Identifiers = Annotated[
    list[str], typer.Option("--identifier", "-i", metavar="NAMESPACE=VALUE", help="Whom it is about. Repeatable.")
]
Channel = Annotated[str, typer.Option("--channel", "-c", help="The channel that asks.")]
Placements = Annotated[
    list[str],
    typer.Option(
        "--placement", "-p", metavar="NAME[:SLOTS]", help="What to fill. Repeatable; order is precedence."
    ),
]
Facts = Annotated[
    list[str],
    typer.Option(
        "--fact",
        "-f",
        metavar="NAME=VALUE",
        help="A fact of the moment: cart='19.99 EUR', code='\"42\"' for text. Repeatable.",
    ),
]
Events = Annotated[
    list[str],
    typer.Option(
        "--event",
        metavar="JSON",
        help='What happened: {"type": "view", "key": "v1", "fields": {"product": {"string_value": "p1"}}}. Other fields: '
        '{"money_value": {"minor": 1999, "currency": "EUR"}}, {"timestamp_value": "2026-09-01T12:00:00Z"}, int_value, '
        "double_value, bool_value.",
    ),
]
AsOf = Annotated[
    str, typer.Option("--as-of", metavar="TIME", help="Decide for this moment, such as 2026-09-01T12:00:00Z.")
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", min=0, max=2**64 - 1, show_default=False, help="Makes ids and choices repeatable."),
]


def _request(
    identifiers: list[str],
    channel: str,
    placements: list[str],
    facts: list[str],
    events: list[str],
    explain: Level,
    as_of: str,
    seed: int | None,
    deferred: bool,
    budget_ms: float | None,
) -> decision_pb2.DecideRequest:
    request = decision_pb2.DecideRequest(
        identifiers=arguments.identifiers(identifiers),
        channel=channel,
        placements=arguments.placements(placements),
        facts=arguments.values(facts, "--fact"),
        events=arguments.events(events),
        explain=f"EXPLAIN_LEVEL_{explain.name.upper()}",
        seed=seed,
        deferred=deferred,
    )
    if as_of:
        request.as_of.CopyFrom(arguments.instant(as_of, "--as-of"))
    if budget_ms is not None:
        if math.isnan(budget_ms):
            raise typer.BadParameter("is not a number.", param_hint="--budget-ms")
        request.time_budget.CopyFrom(
            duration_pb2.Duration(nanos=int(budget_ms * 1e6) % 10**9, seconds=int(budget_ms // 1000))
        )
    return request


def decide(
    channel: Channel,
    placement: Placements,
    identifier: Identifiers = [],  # noqa: B006 - typer copies defaults
    fact: Facts = [],  # noqa: B006
    event: Events = [],  # noqa: B006
    explain: Annotated[
        Level, typer.Option("--explain", help="How much to say about what is not returned.")
    ] = Level.none,
    as_of: AsOf = "",
    seed: Seed = None,
    deferred: Annotated[
        bool, typer.Option("--deferred", help="Counts for nothing until an outcome is recorded.")
    ] = False,
    budget_ms: Annotated[
        float | None,
        typer.Option("--budget-ms", min=0.001, max=86_400_000, show_default=False, help="How long the decision may take."),
    ] = None,
    server: Decisions = None,
    json: Json = False,
) -> None:
    """Ask for a decision, as a channel would.

    Example: rapport decide -i crm=42 -c web -p home_hero:1 -f call_reason=savings --explain full
    """
    request = _request(identifier, channel, placement, fact, event, explain, as_of, seed, deferred, budget_ms)
    with client.connected(client.address(server, control=False)) as link:
        response = decision_pb2_grpc.DecisionServiceStub(link).Decide(request, timeout=client.QUICK_SECONDS)
    show.as_json(response) if json else show.answer(response)


def explain(
    channel: Channel,
    placement: Placements,
    identifier: Identifiers = [],  # noqa: B006
    fact: Facts = [],  # noqa: B006
    event: Events = [],  # noqa: B006
    offer: Annotated[
        list[str], typer.Option("--offer", "-o", help="Only why these are not returned. Repeatable.")
    ] = [],  # noqa: B006
    as_of: AsOf = "",
    seed: Seed = None,
    server: Decisions = None,
    json: Json = False,
) -> None:
    """Ask why: the same decision with a reason for every offer, leaving no trace."""
    request = _request(identifier, channel, placement, fact, event, Level.full, as_of, seed, True, None)
    asked = decision_pb2.ExplainRequest(request=request, offers=offer)
    with client.connected(client.address(server, control=False)) as link:
        response = decision_pb2_grpc.DecisionServiceStub(link).Explain(asked, timeout=client.SLOW_SECONDS)
    show.as_json(response) if json else show.answer(response.response)


def record(
    token: Annotated[list[str], typer.Argument(help="Tokens of offers, from the answers that showed them.")],
    outcome: Annotated[
        str, typer.Option("--outcome", help="shown, clicked, accepted, rejected, converted, or the program's own.")
    ],
    at: Annotated[str, typer.Option("--at", metavar="TIME", help="When it happened. Default: now.")] = "",
    value: Annotated[
        str, typer.Option("--value", metavar="MONEY", help='What it was worth, such as "19.99 EUR".')
    ] = "",
    key: Annotated[str, typer.Option("--key", help="Makes it idempotent beyond once for each outcome.")] = "",
    server: Decisions = None,
    json: Json = False,
) -> None:
    """Report what became of offers. Exits with 1 when any report was refused."""
    request = decision_pb2.RecordRequest()
    for each in token:
        report = request.outcomes.add(token=each, outcome=outcome, key=key)
        if at:
            report.at.CopyFrom(arguments.instant(at, "--at"))
        if value:
            money = arguments.money(value, "--value")
            report.value.minor, report.value.currency = money.minor, money.currency
    with client.connected(client.address(server, control=False)) as link:
        response = decision_pb2_grpc.DecisionServiceStub(link).Record(request, timeout=client.QUICK_SECONDS)
    show.as_json(response) if json else show.outcomes(token, response)
    if any(result.HasField("failure") for result in response.results):
        raise typer.Exit(Exit.PARTLY)


def tell(
    identifier: Identifiers,
    event: Events = [],  # noqa: B006
    attribute: Annotated[
        list[str], typer.Option("--attribute", "-a", metavar="NAME=VALUE", help="What is now known. Repeatable.")
    ] = [],  # noqa: B006
    source: Annotated[str, typer.Option("--source", help="Who says so, where the schema restricts it.")] = "",
    at: Annotated[str, typer.Option("--at", metavar="TIME", help="When it was true. Default: now.")] = "",
    server: Decisions = None,
    json: Json = False,
) -> None:
    """Tell what happened to a customer, or what is now known."""
    request = decision_pb2.TellRequest(
        identifiers=arguments.identifiers(identifier),
        events=arguments.events(event),
        attributes=arguments.values(attribute, "--attribute"),
        source=source,
    )
    if at:
        request.at.CopyFrom(arguments.instant(at, "--at"))
    with client.connected(client.address(server, control=False)) as link:
        response = decision_pb2_grpc.DecisionServiceStub(link).Tell(request, timeout=client.QUICK_SECONDS)
    if json:
        show.as_json(response)
    else:
        new = ", a new customer" if response.created else ""
        old = f", {response.too_old} older than everything kept and not counted" if response.too_old else ""
        show.out.print(f"{response.applied} events counted, {response.duplicates} known before{old}{new}")
