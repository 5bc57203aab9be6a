"""rapport segment against a server of its own: what is told of customers shows in counts, lists, bands and a watch."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from queue import Queue
from typing import Any, NamedTuple

import grpc
import pytest

from protos.rapport.v1 import decision_pb2, decision_pb2_grpc, profile_pb2_grpc, program_pb2_grpc, segment_pb2, segment_pb2_grpc
from protos.rapport.v1 import profile_pb2 as profiles
from protos.rapport.v1 import program_pb2 as programs
from protos.rapport.v1 import values_pb2 as values
from tests.running import BOUND_SECONDS, ROOT, Rapport, Server, rapport_in_process, started

PROGRAM = """
program: p
currency: EUR
schema:
  namespaces: {crm: {trust: 2}, email: {trust: 1, normaliser: fold}}
  attributes: {spent: money}
  facts: {cart: int}
  events: {view: {}}
bands: {monetary: {of: customer.spent, parts: 4}}
derived: {stage: [{when: events.view.count_30d >= 1, then: "'active'"}, {then: "'quiet'"}]}
segments:
  active: derived.stage == 'active'
  top: band.monetary == 4
  waiting: facts.cart > 0
channels: {web: {placements: {hero: {slots: 1}}}}
groups: {g: }
offers: [{offer: o, group: g, value: 1, propensity: 0.5, treatments: {web.hero: {a: x}}}]
"""


class Running(NamedTuple):
    """A server, and where its control plane answers."""

    server: Server
    address: str


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Eight customers who spent 1 to 8, of whom the even ones looked at something."""
    with started(tmp_path_factory.mktemp("starter")) as (made, told):
        address = told["listen_control"]
        with grpc.insecure_channel(address) as channel:
            program_pb2_grpc.ProgramServiceStub(channel).LoadProgram(
                programs.LoadProgramRequest(files={"program.yaml": PROGRAM.encode()})
            )
            for number in range(1, 9):
                who = [values.Identifier(namespace="crm", value=f"C{number}")]
                if number == 2:
                    who.append(values.Identifier(namespace="email", value="two@example.org"))
                profile_pb2_grpc.ProfileServiceStub(channel).UpsertProfile(profiles.UpsertProfileRequest(
                    identifiers=who,
                    attributes={"spent": values.Value(money_value=values.Money(minor=100 * number, currency="EUR"))},
                ))
                if number % 2 == 0:
                    view(channel, number)
        yield Running(made, address)


def view(channel: grpc.Channel, number: int) -> None:
    who = [values.Identifier(namespace="crm", value=f"C{number}")]
    decision_pb2_grpc.DecisionServiceStub(channel).Tell(
        decision_pb2.TellRequest(identifiers=who, events=[values.Event(type="view", key=f"v{number}")])
    )


@pytest.fixture
def rapport(
    server: Running, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Rapport:
    return rapport_in_process(capsys, monkeypatch, server.address)


def test_count_and_list(rapport: Rapport) -> None:
    code, out, _ = rapport("segment", "count", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["complete"]
    assert {one["segment"]: int(one.get("members", 0)) for one in found["segments"] if one["segment"] != "top"} == {
        "active": 4, "waiting": 0
    }
    assert found["segments"][2]["of_requests"] == ["facts.cart"]
    code, out, _ = rapport("segment", "count", "active")
    assert (code, out.split()[:5]) == (0, ["segment", "members", "share", "not", "known"])
    assert "50.0 %" in out
    code, out, _ = rapport("segment", "list", "active")
    assert (code, out.splitlines()) == (0, ["crm=C2 email=two@example.org", "crm=C4", "crm=C6", "crm=C8"])
    # Into a file of addresses went "customer 4", too.
    code, out, err = rapport("segment", "list", "active", "--identifier", "email")
    assert (code, out, err) == (0, "two@example.org\n", "3 customers in it have no 'email' and are left out\n")
    code, out, _ = rapport("segment", "list", "active", "--limit", "1", "--json")
    assert json.loads(out)["identifiers"][0] == {"namespace": "crm", "value": "C2"}


def test_wrong_names_are_told(rapport: Rapport) -> None:
    for command in ("count", "list", "watch"):
        code, _, err = rapport("segment", command, "activ")
        assert (code, "Did you mean 'active'?" in err) == (65, True), err
    code, _, err = rapport("segment", "list", "active", "-i", "emial")
    assert (code, "Did you mean 'email'?" in err) == (65, True)


def test_the_sweep_makes_edges_and_bands_shows_them(rapport: Rapport) -> None:
    """The server's own sweep: the test asks until the edges are of all eight, as an operator would."""

    def shown() -> dict[str, Any]:
        code, out, _ = rapport("segment", "bands", "--json")
        assert code == 0
        (band,) = json.loads(out)["bands"]
        return dict(band)

    until = time.monotonic() + BOUND_SECONDS
    while int((band := shown()).get("customers", 0)) < 8 and time.monotonic() < until:
        pass
    assert band["edges"] == [2.75, 4.5, 6.25]
    assert band["type"] == "money(EUR)"
    code, out, _ = rapport("segment", "bands")
    assert (code, "2.75  4.50  6.25" in out) == (0, True)
    code, out, _ = rapport("segment", "list", "top")
    assert out.splitlines() == ["crm=C7", "crm=C8"]


@pytest.mark.parametrize("form", ["lines", "json"])
def test_the_command_watches_until_it_is_interrupted(server: Running, form: str) -> None:
    """+ who comes and - who leaves, a line each as it happens, by the identifier asked for; Ctrl-C is an end like any other."""
    who = [values.Identifier(namespace="crm", value=f"watched-{form}")]
    options = ["--json"] if form == "json" else ["--identifier", "crm"]
    watching = subprocess.Popen(
        [sys.executable, "-m", "server.cli.main", "segment", "watch", "active", *options], cwd=ROOT, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "RAPPORT_SERVER": server.address, "COLUMNS": "200"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    lines: Queue[str] = Queue()

    def read() -> None:
        assert watching.stdout is not None
        for line in watching.stdout:
            lines.put(line)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert watching.stderr is not None
        assert re.fullmatch(r"\d+ in 'active'; watching\n", watching.stderr.readline())
        with grpc.insecure_channel(server.address) as channel:
            profile = profile_pb2_grpc.ProfileServiceStub(channel)
            decision_pb2_grpc.DecisionServiceStub(channel).Tell(
                decision_pb2.TellRequest(identifiers=who, events=[values.Event(type="view", key="v")]), timeout=BOUND_SECONDS)
            came = lines.get(timeout=BOUND_SECONDS)
            profile.EraseProfile(profiles.EraseProfileRequest(identifiers=who), timeout=BOUND_SECONDS)
            left = lines.get(timeout=BOUND_SECONDS) if form == "json" else watching.stderr.readline()
        if form == "json":
            entered, gone = json.loads(came), json.loads(left)
            assert (entered["entered"], gone["entered"]) == (True, False)
            assert entered["member"]["identifiers"] == [{"namespace": "crm", "value": who[0].value}]
            # He has no identifier any more; his number is what he was known by.
            assert (gone["member"]["customer"], gone["member"]["identifiers"]) == (entered["member"]["customer"], [])
        else:
            assert re.fullmatch(rf"\S+ \S+ \+ {who[0].value}\n", came), came
            # He has no identifier any more, and the lines are of those.
            assert re.fullmatch(r"\S+ \S+ - customer \d+, without 'crm'\n", left), left
        watching.send_signal(signal.SIGINT)
        assert watching.wait(BOUND_SECONDS) == 0
        assert "Traceback" not in watching.stderr.read()
    finally:
        watching.kill()
        watching.wait(BOUND_SECONDS)
        reader.join(BOUND_SECONDS)
        for pipe in (watching.stdout, watching.stderr):
            if pipe is not None:
                pipe.close()
    assert lines.empty()


def begun(stub: Any, request: segment_pb2.WatchSegmentRequest) -> tuple[Any, segment_pb2.WatchSegmentResponse]:
    """A watch, and the first that it says; until those that tests before have ended are over, there may be no room for it."""
    until = time.monotonic() + BOUND_SECONDS
    while True:
        stream = stub.WatchSegment(request)
        try:
            return stream, next(stream)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED or time.monotonic() > until:
                raise


def test_watch_tells_who_comes_and_leaves_and_the_bound_of_watches(server: Running) -> None:
    """Two calls that walk or watch are half of threads.control; a third is refused at once. A cancelled one makes room."""
    said: Queue[segment_pb2.WatchSegmentResponse] = Queue()
    with grpc.insecure_channel(server.address) as channel:
        stub = segment_pb2_grpc.SegmentServiceStub(channel)
        first, met = begun(stub, segment_pb2.WatchSegmentRequest(segment="active", namespace="crm"))
        assert met.members == 4
        second, met = begun(stub, segment_pb2.WatchSegmentRequest(segment="waiting"))
        assert met.members == 0

        def read() -> None:
            try:
                for each in first:
                    said.put(each)
            except grpc.RpcError:
                pass

        reader = threading.Thread(target=read)
        reader.start()
        with pytest.raises(grpc.RpcError) as refused:
            list(stub.CountSegments(segment_pb2.CountSegmentsRequest()))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        second.cancel()
        view(channel, 1)
        (change,) = said.get(timeout=BOUND_SECONDS).changes
        assert change.entered
        assert change.member.identifiers[0].value == "C1"
        profile_pb2_grpc.ProfileServiceStub(channel).EraseProfile(
            profiles.EraseProfileRequest(identifiers=[values.Identifier(namespace="crm", value="C1")])
        )
        (change,) = said.get(timeout=BOUND_SECONDS).changes
        assert (change.entered, list(change.member.identifiers)) == (False, [])
        # A server that drains ends it, and stops in good order.
        assert server.server.end() == 0
        reader.join(BOUND_SECONDS)
        assert not reader.is_alive()
        assert first.code() is grpc.StatusCode.UNAVAILABLE
