"""A client by grpcio's asyncio: asks what client_sync asks, every call on one event loop.

``client_aio.py MODE DECISIONS CONTROL WHO [CA [CERTIFICATE KEY]]``; what the modes are: tests/conformance/test_clients.py.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos.rapport.v1 import decision_pb2 as d
from protos.rapport.v1 import decision_pb2_grpc, profile_pb2, profile_pb2_grpc
from tests.conformance.python.client_sync import (
    CALLS,
    IN_FLIGHT,
    SECONDS,
    ask,
    decided,
    explained,
    moment,
    visits,
    wall,
    walled,
)


def open_channel(address: str, files: list[str]) -> grpc.aio.Channel:
    """Plaintext without files; TLS with an authority; mutual TLS with a certificate and its key too."""
    if not files:
        return grpc.aio.insecure_channel(address)
    authority, certificate, key = [Path(name).read_bytes() for name in files] + [None] * (3 - len(files))
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(authority, key, certificate))


async def failed(call: Awaitable[Any]) -> dict[str, Any]:
    """The error that a call ends with, its details decoded."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return told(error)
    return {"code": "OK"}


def told(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    said: dict[str, Any] = {"code": error.code().name, "message": error.details()}
    info, hint = error_details_pb2.ErrorInfo(), error_details_pb2.LocalizedMessage()
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            assert isinstance(value, bytes)
            for detail in status_pb2.Status.FromString(value).details:
                if detail.Unpack(info):
                    said |= {"reason": info.reason, "domain": info.domain, "metadata": dict(info.metadata)}
                elif detail.Unpack(hint):
                    said["hint"] = hint.message
    return said


async def answers(decisions: grpc.aio.Channel, control: grpc.aio.Channel, who: str) -> dict[str, Any]:
    # The stubs are typed for blocking channels; on these, a call is awaited.
    stub: Any = decision_pb2_grpc.DecisionServiceStub(decisions)  # type: ignore[arg-type]
    health: Any = health_pb2_grpc.HealthStub(decisions)
    profiles: Any = profile_pb2_grpc.ProfileServiceStub(control)  # type: ignore[arg-type]
    unserved: Any = profile_pb2_grpc.ProfileServiceStub(decisions)  # type: ignore[arg-type]
    seen: dict[str, Any] = {"health": []}
    for service in ("", "rapport.v1.DecisionService", "nobody"):
        try:
            status = (await health.Check(health_pb2.HealthCheckRequest(service=service), timeout=SECONDS)).status
            seen["health"].append(health_pb2.HealthCheckResponse.ServingStatus.Name(status))
        except grpc.aio.AioRpcError as error:
            seen["health"].append(told(error)["code"])
    for name in ("tell", "tell_again"):
        kept = await stub.Tell(visits(who), timeout=SECONDS)
        seen[name] = {"applied": kept.applied, "duplicates": kept.duplicates, "created": kept.created}
    consent = profile_pb2.SetConsentRequest(identifiers=ask(who).identifiers, purpose="marketing", granted=True)
    await profiles.SetConsent(consent, timeout=SECONDS)

    answer = await stub.Decide(moment(who), timeout=SECONDS)
    seen["decide"] = decided(answer)
    again = moment(who)
    again.as_of.CopyFrom(answer.as_of)
    seen["repeats"] = (await stub.Decide(again, timeout=SECONDS)).decision == answer.decision
    many = await stub.DecideMany(d.DecideManyRequest(requests=[ask(who), ask(who, channel="wab")]), timeout=SECONDS)
    seen["many"] = [
        each.failure.reason if each.HasField("failure") else each.response.placements[0].offers[0].offer for each in many.results
    ]
    report = d.Outcome(token=answer.placements[0].offers[0].token, outcome="clicked")
    reports = d.RecordRequest(outcomes=[report, report, d.Outcome(token="forged", outcome="clicked")])
    recorded = await stub.Record(reports, timeout=SECONDS)
    seen["record"] = [d.OutcomeStatus.Name(each.status) for each in recorded.results]
    stranger = d.ExplainRequest(request=ask(f"{who} unknown"), offers=["summer_sale"])
    seen["explain"] = explained(await stub.Explain(stranger, timeout=SECONDS))

    seen["error"] = await failed(stub.Decide(ask(who, channel="wab"), timeout=SECONDS))
    asked = profile_pb2.GetProfileRequest(identifiers=ask(who).identifiers)
    said = await failed(unserved.GetProfile(asked, timeout=SECONDS))
    seen["not_served"] = {key: said[key] for key in ("code", "reason")}
    said = await failed(stub.Decide(ask(who, channel="w" * 2_000_000), timeout=SECONDS))
    seen["too_large"] = {key: said[key] for key in ("code", "reason")}

    seen["deadline_met"] = (await failed(stub.Decide(ask(who), timeout=SECONDS)))["code"]
    # More at once than can be explained within the millisecond that the library makes of it: the first may be in time.
    hasty = [failed(stub.Explain(d.ExplainRequest(request=wall(who)), timeout=0.00001)) for _ in range(IN_FLIGHT)]
    seen["deadline_exceeded"] = max(str(said["code"]) for said in await asyncio.gather(*hasty) if said["code"] != "OK")

    flying = asyncio.Semaphore(IN_FLIGHT)

    async def one() -> str:
        async with flying:
            return str((await failed(stub.Decide(ask(who), timeout=SECONDS)))["code"])

    seen["concurrent"] = dict(Counter(await asyncio.gather(*(one() for _ in range(CALLS)))))
    seen["large"] = walled(await stub.Decide(wall(who), timeout=SECONDS))
    return seen


async def stay(decisions: grpc.aio.Channel, who: str) -> dict[str, Any]:
    """Calls on one channel until a line comes or calls fail; then once more, waiting for a server."""
    stub: Any = decision_pb2_grpc.DecisionServiceStub(decisions)  # type: ignore[arg-type]
    codes: Counter[str] = Counter()
    told_to_end, calling = asyncio.Event(), asyncio.Event()

    async def work(number: int) -> None:
        while not told_to_end.is_set():
            call = stub.Tell(visits(who), timeout=SECONDS) if number % 2 else stub.Decide(ask(who), timeout=SECONDS)
            code = (await failed(call))["code"]
            codes[code] += 1
            if code != "OK":
                return
            if codes["OK"] >= IN_FLIGHT:
                calling.set()

    workers = [asyncio.create_task(work(number)) for number in range(8)]
    await asyncio.wait_for(calling.wait(), SECONDS)
    print("calling", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    told_to_end.set()
    await asyncio.gather(*workers)
    after = (await failed(stub.Decide(ask(who), timeout=SECONDS, wait_for_ready=True)))["code"]
    return {"codes": sorted(codes), "after": after}


async def main(mode: str, decisions: str, control: str, who: str, *files: str) -> dict[str, Any]:
    async with open_channel(decisions, list(files)) as channel, grpc.aio.insecure_channel(control) as other:
        if mode == "answers":
            return await answers(channel, other, who)
        if mode == "stay":
            return await stay(channel, who)
        stub: Any = decision_pb2_grpc.DecisionServiceStub(channel)  # type: ignore[arg-type]
        return {"code": (await failed(stub.Decide(ask(who), timeout=SECONDS)))["code"]}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
