"""A workload's calls over the wire: the messages sent, and what a good answer to them looks like.

Requests are for customers drawn evenly from the base with the workload's seed, so most profiles are not in the processor's
caches. What is sent again and again is a few thousand different messages, put together beforehand.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from google.protobuf.message import DecodeError

from loadtest import attributes, names
from loadtest.taken import Call, Kind
from loadtest.workload import Workload
from protos.rapport.v1 import decision_pb2, values_pb2

SERVICE = "/rapport.v1.DecisionService"
DECIDE = f"{SERVICE}/Decide"
MESSAGES = 5_000  # different ones of each call


def of(workload: Workload) -> list[Call]:
    """The workload's calls with their shares."""
    made = [Call("decide", DECIDE, decisions(workload), workload.calls["decide"], Kind.DECIDE)]
    if share := workload.calls.get("record"):
        made.append(Call("record", f"{SERVICE}/Record", (), share, Kind.RECORD))
    if share := workload.calls.get("tell"):
        made.append(Call("tell", f"{SERVICE}/Tell", _news(workload), share))
    return made


def decisions(workload: Workload) -> list[bytes]:
    """Decide requests for customers drawn at random."""
    generator = random.Random(workload.seed)
    placements = [decision_pb2.PlacementRequest(name=name) for name in names.placements(workload.placements)]
    return [
        decision_pb2.DecideRequest(
            channel=names.CHANNEL, placements=placements, identifiers=[_anybody(workload, generator)]
        ).SerializeToString()
        for _ in range(MESSAGES)
    ]


def _news(workload: Workload) -> list[bytes]:
    """Tell requests that set one attribute of customers drawn at random."""
    generator = random.Random(f"news/{workload.seed}")
    counted = next(column for column in attributes.of(workload) if column.kind == "int")
    return [
        decision_pb2.TellRequest(
            identifiers=[_anybody(workload, generator)],
            attributes={counted.name: values_pb2.Value(int_value=generator.randrange(round(counted.span)))},
        ).SerializeToString()
        for _ in range(MESSAGES)
    ]


def _anybody(workload: Workload, generator: random.Random) -> values_pb2.Identifier:
    number = names.FIRST + generator.randrange(workload.customers)
    return values_pb2.Identifier(namespace="crm", value=str(number))


def check(workload: Workload, samples: Iterable[tuple[str, bytes]]) -> None:
    """Refuses answers that say nothing: they would be fast and worthless.

    ``samples``: the call's name and the message received. ValueError says what is missing.
    """
    for name, message in samples:
        if name != "decide":
            continue
        try:
            answer = decision_pb2.DecideResponse.FromString(message)
        except DecodeError as error:
            raise ValueError(f"The server's answer to Decide is no DecideResponse: {error}.") from error
        if not answer.known:
            raise ValueError("The server does not know the customers asked for: it serves another base than this workload's.")
        if len(answer.placements) != workload.placements:
            raise ValueError(f"An answer fills {len(answer.placements)} placements, not {workload.placements}.")
        for placement in answer.placements:
            if len(placement.offers) != workload.slots:
                status = decision_pb2.SlotStatus.Name(placement.status)
                raise ValueError(
                    f"Placement {placement.name} came back with {len(placement.offers)} offers, not {workload.slots} ({status}): "
                    "it serves another program than this workload's, or contact caps are used up."
                )
