"""A server whose disk fails under it: decisions go on and are right, writers are told, health says so, and nothing is lost."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from protos.rapport.v1 import decision_pb2, decision_pb2_grpc, profile_pb2, profile_pb2_grpc, values_pb2
from tests.faulting import faulty_disk, quick_folder
from tests.running import BOUND_SECONDS, Server, write_starter

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
WHO = [values_pb2.Identifier(namespace="crm", value="11")]


class Client:
    """What a channel system does, and a balancer."""

    def __init__(self, decisions: str, control: str) -> None:
        self.channels = [grpc.insecure_channel(address) for address in (decisions, control)]
        self.stub = decision_pb2_grpc.DecisionServiceStub(self.channels[0])
        self.profiles = profile_pb2_grpc.ProfileServiceStub(self.channels[1])

    def tell(self, key: str) -> decision_pb2.TellResponse:
        told = decision_pb2.TellRequest(identifiers=WHO)
        told.attributes["age"].int_value = 30
        told.events.add(type="visit", key=key)
        answer: decision_pb2.TellResponse = self.stub.Tell(told, timeout=BOUND_SECONDS)
        return answer

    def decide(self) -> decision_pb2.PlacementAnswer:
        request = decision_pb2.DecideRequest(
            channel="web", placements=[decision_pb2.PlacementRequest(name="home_hero", slots=2)], identifiers=WHO)
        answer: decision_pb2.PlacementAnswer = self.stub.Decide(request, timeout=BOUND_SECONDS).placements[0]
        return answer

    def refused(self, call: Any, *arguments: Any) -> tuple[grpc.StatusCode, str, str]:
        """The code, the reason and the hint of a call that must fail."""
        with pytest.raises(grpc.RpcError) as failed:
            call(*arguments, timeout=BOUND_SECONDS)
        status = rpc_status.from_call(failed.value)  # type: ignore[arg-type]
        assert status is not None
        info, hint = error_details_pb2.ErrorInfo(), error_details_pb2.LocalizedMessage()
        for detail in status.details:
            for message in (info, hint):
                if detail.Is(message.DESCRIPTOR):
                    detail.Unpack(message)
        return failed.value.code(), info.reason, hint.message

    def health(self, service: str) -> set[int]:
        """What both addresses say of it."""
        request = health_pb2.HealthCheckRequest(service=service)
        return {health_pb2_grpc.HealthStub(channel).Check(request).status  # type: ignore[attr-defined]
                for channel in self.channels}

    def visits(self) -> int:
        found = self.profiles.GetProfile(profile_pb2.GetProfileRequest(identifiers=WHO), timeout=BOUND_SECONDS)
        return len(found.events)

    def close(self) -> None:
        for channel in self.channels:
            channel.close()


@contextmanager
def started(folder: Path, **environment: str) -> Iterator[tuple[Server, Client]]:
    server = Server(folder, **environment)
    try:
        found = server.until("listening")
        server.until("ready")
        client = Client(found["listen_decisions"], found["listen_control"])
        try:
            yield server, client
        finally:
            client.close()
    finally:
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait(BOUND_SECONDS)
        server.close()


@pytest.mark.parametrize(
    ("rule", "code", "reason"),
    [
        ("eio-on fdatasync 1", grpc.StatusCode.FAILED_PRECONDITION, "STORE_READ_ONLY"),
        ("erofs-on write,pwrite,dwrite,fdatasync 1", grpc.StatusCode.FAILED_PRECONDITION, "STORE_READ_ONLY"),
        ("enospc-on write,pwrite 1", grpc.StatusCode.RESOURCE_EXHAUSTED, "STORE_FULL"),
    ],
    ids=["failing", "read-only", "full"],
)
def test_decisions_go_on_over_a_disk_that_fails(rule: str, code: grpc.StatusCode, reason: str) -> None:
    full = reason == "STORE_FULL"
    with quick_folder() as base:
        disk = faulty_disk(base)
        folder = write_starter(disk.folder)
        with started(folder, **disk.environment()) as (server, client):
            for key in "123":
                assert client.tell(key).applied == 1
            before = client.decide()
            assert before.offers
            assert client.health("rapport.writes") == {SERVING}
            disk.rule(rule)
            report = decision_pb2.RecordRequest(
                outcomes=[decision_pb2.Outcome(token=before.offers[0].token, outcome="shown")])
            for call, request in (
                (client.stub.Record, report),
                (client.stub.Tell, decision_pb2.TellRequest(identifiers=WHO, events=[values_pb2.Event(type="visit", key="9")])),
                (client.profiles.SetConsent,
                 profile_pb2.SetConsentRequest(identifiers=WHO, purpose="marketing", granted=True)),
            ):
                refused = client.refused(call, request)
                assert refused[:2] == (code, reason)
                assert "start" in refused[2] or "Free space" in refused[2]
            server.until("writes are refused")
            assert client.health("rapport.writes") == {NOT_SERVING}
            assert client.health("") == {SERVING}
            assert [each.offer for each in client.decide().offers] == [each.offer for each in before.offers]
            assert client.visits() == 3
            disk.rule()
            if full:
                assert client.tell("4").applied == 1
                server.until("writes are taken again")
                assert client.health("rapport.writes") == {SERVING}
            else:
                assert client.refused(client.stub.Record, report)[:2] == (code, reason)
            assert server.end(signal.SIGTERM) == 0
        with started(folder) as (_, client):
            assert client.health("rapport.writes") == {SERVING}
            assert client.visits() == 3 + full
            assert [each.offer for each in client.decide().offers] == [each.offer for each in before.offers]
            assert client.tell("5").applied == 1


def test_a_store_that_reaches_its_bound_takes_no_more_and_decides_on(tmp_path: Path) -> None:
    """Map full: who writes is told what to do, and doing it, a larger store.map_bytes, is all that it takes."""
    folder = write_starter(tmp_path)
    small, large = 1 << 20, 64 << 20
    with started(folder, RAPPORT_STORE_MAP_BYTES=str(small)) as (server, client):
        assert client.tell("1").applied == 1
        before = client.decide()
        kept, refused = 0, None
        while refused is None:
            assert kept < small // 900, "it takes more than fits"
            request = profile_pb2.UpsertProfileRequest(identifiers=[values_pb2.Identifier(namespace="crm", value=f"p{kept}")])
            request.attributes["first_name"].string_value = "x" * 900
            try:
                client.profiles.UpsertProfile(request, timeout=BOUND_SECONDS)
                kept += 1
            except grpc.RpcError:
                refused = client.refused(client.profiles.UpsertProfile, request)
        assert refused[:2] == (grpc.StatusCode.RESOURCE_EXHAUSTED, "STORE_FULL")
        assert "store.map_bytes" in refused[2]
        assert kept > 100
        server.until("writes are refused")
        assert client.health("rapport.writes") == {NOT_SERVING}
        assert client.health("") == {SERVING}
        assert [each.offer for each in client.decide().offers] == [each.offer for each in before.offers]
        assert client.visits() == 1
        assert server.end(signal.SIGTERM) == 0
    with started(folder, RAPPORT_STORE_MAP_BYTES=str(large)) as (_, client):
        assert client.health("rapport.writes") == {SERVING}
        assert client.tell("2").applied == 1
        for number in range(kept):
            asked = profile_pb2.GetProfileRequest(identifiers=[values_pb2.Identifier(namespace="crm", value=f"p{number}")])
            found = client.profiles.GetProfile(asked, timeout=BOUND_SECONDS)
            assert found.attributes["first_name"].string_value == "x" * 900, "acknowledged, and lost"
