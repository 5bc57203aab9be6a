"""A client by grpcio, blocking: knows the protos, two addresses, and nothing else of Rapport.

``client_sync.py MODE DECISIONS CONTROL WHO [CA [CERTIFICATE KEY]]``; what the modes are: tests/conformance/test_clients.py.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import message
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from protos.rapport.v1 import decision_pb2 as d
from protos.rapport.v1 import decision_pb2_grpc, profile_pb2, profile_pb2_grpc
from protos.rapport.v1 import values_pb2 as v

IN_FLIGHT = 64
CALLS = 500
SECONDS = 20.0


def open_channel(address: str, files: list[str]) -> grpc.Channel:
    """Plaintext without files; TLS with an authority; mutual TLS with a certificate and its key too."""
    if not files:
        return grpc.insecure_channel(address)
    authority, certificate, key = [Path(name).read_bytes() for name in files] + [None] * (3 - len(files))
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(authority, key, certificate))


def ask(who: str, **more: Any) -> d.DecideRequest:
    fields: dict[str, Any] = {"channel": "web", "placements": [d.PlacementRequest(name="home_hero", slots=2)], **more}
    return d.DecideRequest(identifiers=[v.Identifier(namespace="cookie", value=who)], **fields)


def moment(who: str) -> d.DecideRequest:
    """The request whose answer is looked at closely."""
    return ask(
        who,
        facts={"cart": v.Value(money_value=v.Money(minor=6000, currency="EUR"))},
        events=[v.Event(type="visit", key="now")],
        explain=d.EXPLAIN_LEVEL_FULL,
        seed=2**64 - 1,
    )


def visits(who: str) -> d.TellRequest:
    return d.TellRequest(
        identifiers=[v.Identifier(namespace="cookie", value=who)],
        attributes={"age": v.Value(int_value=30), "first_name": v.Value(string_value="João")},
        events=[v.Event(type="visit", key=key, fields={"page": v.Value(string_value="/")}) for key in "123"],
    )


def wall(who: str) -> d.DecideRequest:
    """A request whose answer is far larger than a stream's window."""
    return ask(who, placements=[d.PlacementRequest(name="wall", slots=100)], explain=d.EXPLAIN_LEVEL_FULL)


def failed(call: Callable[[], message.Message]) -> dict[str, Any]:
    """The error that a call ends with, its details decoded."""
    try:
        call()
    except grpc.RpcError as error:
        return told(error)
    return {"code": "OK"}


def told(error: grpc.RpcError) -> dict[str, Any]:
    assert isinstance(error, grpc.Call)
    said: dict[str, Any] = {"code": error.code().name, "message": error.details()}
    status = rpc_status.from_call(error)
    info, hint = error_details_pb2.ErrorInfo(), error_details_pb2.LocalizedMessage()
    for detail in status.details if status is not None else ():
        if detail.Unpack(info):
            said |= {"reason": info.reason, "domain": info.domain, "metadata": dict(info.metadata)}
        elif detail.Unpack(hint):
            said["hint"] = hint.message
    return said


def decided(answer: d.DecideResponse) -> dict[str, Any]:
    """What every client must see in the answer to `moment`."""
    (placement,) = answer.placements
    first = placement.offers[0]
    return {
        "status": d.SlotStatus.Name(placement.status),
        "known": answer.known,
        "program": answer.program,
        "seed": str(answer.seed),
        "offers": [each.offer for each in placement.offers],
        "ranks": [each.rank for each in placement.offers],
        "tokens": [0 < len(each.token) <= 1024 for each in placement.offers],
        "title": first.content["title"],
        "price": {"minor": str(first.price.amount.minor), "currency": first.price.amount.currency},
        "clamp": d.Clamp.Name(first.price.clamp),
        "priority": round(first.priority, 9),
        "lever_percent": first.factors.lever_percent,
    }


def explained(answer: d.ExplainResponse) -> dict[str, Any]:
    (placement,) = answer.response.placements
    return {
        "offers": [each.offer for each in placement.offers],
        "tokens": [bool(each.token) for each in placement.offers],
        "rejections": [
            [each.offer, d.Reason.Name(each.reason), d.Detail.Name(each.detail), each.input] for each in placement.rejections
        ],
    }


def walled(answer: d.DecideResponse) -> dict[str, Any]:
    (placement,) = answer.placements
    return {
        "offers": len(placement.offers),
        "first": placement.offers[0].offer,
        "last": placement.offers[-1].offer,
        "content_bytes": sum(len(text) for each in placement.offers for text in each.content.values()),
        "rejections": len(placement.rejections),
    }


def answers(decisions: grpc.Channel, control: grpc.Channel, who: str) -> dict[str, Any]:
    stub = decision_pb2_grpc.DecisionServiceStub(decisions)
    health: Any = health_pb2_grpc.HealthStub(decisions)  # the stubs know no calls
    seen: dict[str, Any] = {"health": []}
    for service in ("", "rapport.v1.DecisionService", "nobody"):
        try:
            status = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=SECONDS).status
            seen["health"].append(health_pb2.HealthCheckResponse.ServingStatus.Name(status))
        except grpc.RpcError as error:
            seen["health"].append(told(error)["code"])
    for name in ("tell", "tell_again"):
        kept = stub.Tell(visits(who), timeout=SECONDS)
        seen[name] = {"applied": kept.applied, "duplicates": kept.duplicates, "created": kept.created}
    profile_pb2_grpc.ProfileServiceStub(control).SetConsent(
        profile_pb2.SetConsentRequest(identifiers=ask(who).identifiers, purpose="marketing", granted=True), timeout=SECONDS
    )

    answer = stub.Decide(moment(who), timeout=SECONDS)
    seen["decide"] = decided(answer)
    again = moment(who)
    again.as_of.CopyFrom(answer.as_of)
    seen["repeats"] = stub.Decide(again, timeout=SECONDS).decision == answer.decision
    many = stub.DecideMany(d.DecideManyRequest(requests=[ask(who), ask(who, channel="wab")]), timeout=SECONDS)
    seen["many"] = [
        each.failure.reason if each.HasField("failure") else each.response.placements[0].offers[0].offer for each in many.results
    ]
    report = d.Outcome(token=answer.placements[0].offers[0].token, outcome="clicked")
    recorded = stub.Record(
        d.RecordRequest(outcomes=[report, report, d.Outcome(token="forged", outcome="clicked")]), timeout=SECONDS
    )
    seen["record"] = [d.OutcomeStatus.Name(each.status) for each in recorded.results]
    stranger = d.ExplainRequest(request=ask(f"{who} unknown"), offers=["summer_sale"])
    seen["explain"] = explained(stub.Explain(stranger, timeout=SECONDS))

    seen["error"] = failed(lambda: stub.Decide(ask(who, channel="wab"), timeout=SECONDS))
    unserved = profile_pb2_grpc.ProfileServiceStub(decisions)
    asked = profile_pb2.GetProfileRequest(identifiers=ask(who).identifiers)
    seen["not_served"] = {key: failed(lambda: unserved.GetProfile(asked, timeout=SECONDS))[key] for key in ("code", "reason")}
    large = ask(who, channel="w" * 2_000_000)
    seen["too_large"] = {key: failed(lambda: stub.Decide(large, timeout=SECONDS))[key] for key in ("code", "reason")}

    seen["deadline_met"] = failed(lambda: stub.Decide(ask(who), timeout=SECONDS))["code"]
    with futures.ThreadPoolExecutor(IN_FLIGHT) as pool:
        # More at once than can be explained within the millisecond that the library makes of it: the first may be in time.
        hasty = d.ExplainRequest(request=wall(who))
        late = pool.map(lambda _: failed(lambda: stub.Explain(hasty, timeout=0.00001))["code"], range(IN_FLIGHT))
        seen["deadline_exceeded"] = max(str(code) for code in late if code != "OK")
        codes = pool.map(lambda _: failed(lambda: stub.Decide(ask(who), timeout=SECONDS))["code"], range(CALLS))
        seen["concurrent"] = dict(Counter(codes))
    seen["large"] = walled(stub.Decide(wall(who), timeout=SECONDS))
    return seen


def stay(decisions: grpc.Channel, who: str) -> dict[str, Any]:
    """Calls on one channel until a line comes or calls fail; then once more, waiting for a server."""
    stub = decision_pb2_grpc.DecisionServiceStub(decisions)
    codes: Counter[str] = Counter()
    told_to_end, calling = threading.Event(), threading.Event()

    def tell() -> message.Message:
        return stub.Tell(visits(who), timeout=SECONDS)

    def decide() -> message.Message:
        return stub.Decide(ask(who), timeout=SECONDS)

    def work(number: int) -> None:
        while not told_to_end.is_set():
            code = failed(tell if number % 2 else decide)["code"]
            codes[code] += 1
            if code != "OK":
                return
            if codes["OK"] >= IN_FLIGHT:
                calling.set()

    workers = [threading.Thread(target=work, args=[number]) for number in range(8)]
    for worker in workers:
        worker.start()
    calling.wait(SECONDS)
    print("calling", flush=True)
    sys.stdin.readline()
    told_to_end.set()
    for worker in workers:
        worker.join()
    until = time.monotonic() + SECONDS
    try:
        stub.Decide(ask(who), timeout=until - time.monotonic(), wait_for_ready=True)
        after = "OK"
    except grpc.RpcError as error:
        after = told(error)["code"]
    return {"codes": sorted(codes), "after": after}


def main(mode: str, decisions: str, control: str, who: str, *files: str) -> dict[str, Any]:
    with open_channel(decisions, list(files)) as channel, grpc.insecure_channel(control) as other:
        if mode == "answers":
            return answers(channel, other, who)
        if mode == "stay":
            return stay(channel, who)
        stub = decision_pb2_grpc.DecisionServiceStub(channel)
        return {"code": failed(lambda: stub.Decide(ask(who), timeout=SECONDS))["code"]}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
