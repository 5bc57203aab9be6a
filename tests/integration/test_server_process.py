"""A server as people run it: a process of its own on a free port, asked by clients and by the command line, ended by signals."""

from __future__ import annotations

import ctypes
import gzip
import io
import json
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from protos.rapport.v1 import (
    decision_pb2,
    decision_pb2_grpc,
    profile_pb2,
    profile_pb2_grpc,
    program_pb2,
    program_pb2_grpc,
    values_pb2,
)
from server.cli import client, show
from server.cli.main import main
from tests import raw_http2 as h2
from tests.running import BOUND_SECONDS, Rapport, Server, rapport_in_process, write_starter

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def start(folder: Path, **environment: str) -> Server:
        made.append(Server(folder, **environment))
        return made[-1]

    yield start
    for server in made:
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait(BOUND_SECONDS)
        server.close()


@pytest.fixture(scope="module")
def address(make: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory) -> str:
    server = make(write_starter(tmp_path_factory.mktemp("starter")))
    found: str = server.until("listening")["listen_control"]
    server.until("ready")
    return found


@pytest.fixture
def rapport(
    address: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Rapport:
    return rapport_in_process(capsys, monkeypatch, address)


def test_a_folder_that_cannot_be_written_is_told_without_a_traceback(
    rapport: Rapport, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = rapport("init", str(tmp_path / "file" / "shop"))
    assert (code, "FILE_UNUSABLE" in err, "Not a directory" in err) == (73, True, True), err
    # A path that was mistyped got a shop, with every folder on the way.
    code, _, err = rapport("init", str(tmp_path / "typo" / "shop"))
    assert (code, f"{tmp_path / 'typo'}: there is no such folder. Create it first" in " ".join(err.split())) == (66, True), err
    assert not (tmp_path / "typo").exists()


def ask(channel: str = "web", **more: Any) -> decision_pb2.DecideRequest:
    return decision_pb2.DecideRequest(
        channel=channel, placements=[decision_pb2.PlacementRequest(name="home_hero", slots=2)], **more
    )


def someone(value: str) -> list[values_pb2.Identifier]:
    return [values_pb2.Identifier(namespace="crm", value=value)]


def regular(channel: grpc.Channel, who: list[values_pb2.Identifier]) -> None:
    """A customer to whom the starter's summer sale may be shown."""
    told = decision_pb2.TellRequest(identifiers=who)
    told.attributes["age"].int_value = 30
    told.attributes["first_name"].string_value = "Ana <b>"
    for key in "123":
        told.events.add(type="visit", key=key)
    assert decision_pb2_grpc.DecisionServiceStub(channel).Tell(told).applied == 3
    consent = profile_pb2.SetConsentRequest(identifiers=who, purpose="marketing", granted=True)
    profile_pb2_grpc.ProfileServiceStub(channel).SetConsent(consent)


def offers(response: decision_pb2.DecideResponse) -> list[str]:
    return [offer.offer for offer in response.placements[0].offers]


def test_what_one_connection_told_the_next_decision_on_another_knows(address: str) -> None:
    with (
        grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as one,
        grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as two,
    ):
        decide = decision_pb2_grpc.DecisionServiceStub(two).Decide
        who = someone("read-your-writes")
        assert offers(decide(ask(identifiers=who))) == ["newsletter"]
        regular(one, who)
        answer = decide(ask(identifiers=who))
        assert offers(answer) == ["summer_sale", "newsletter"]
        sale = answer.placements[0].offers[0]
        # Escaped for HTML, which the channel declares.
        assert sale.content["title"] == "Summer sale, Ana &lt;b&gt;"
        assert (sale.price.amount.minor, sale.price.amount.currency) == (4900, "EUR")
        assert (answer.known, answer.program) == (True, "starter@1")


def test_a_cap_counts_reports_once_and_binds_the_next_decision(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = decision_pb2_grpc.DecisionServiceStub(channel)
        who = someone("capped")
        regular(channel, who)
        for count in range(5):
            answer = stub.Decide(ask(identifiers=who))
            assert "summer_sale" in offers(answer), count
            report = decision_pb2.Outcome(token=answer.placements[0].offers[0].token, outcome="shown")
            results = stub.Record(decision_pb2.RecordRequest(outcomes=[report, report])).results
            assert [each.status for each in results] == [
                decision_pb2.OUTCOME_STATUS_APPLIED,
                decision_pb2.OUTCOME_STATUS_DUPLICATE,
            ]
        answer = stub.Decide(ask(identifiers=who, explain=decision_pb2.EXPLAIN_LEVEL_FULL))
        assert offers(answer) == ["newsletter"]
        (rejection,) = answer.placements[0].rejections
        assert (rejection.offer, rejection.reason) == ("summer_sale", decision_pb2.REASON_CONTACT_CAP)


def test_explain_leaves_no_trace(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = decision_pb2_grpc.DecisionServiceStub(channel)
        request = ask(identifiers=someone("explained"), events=[values_pb2.Event(type="visit", key="1")])
        stub.Explain(decision_pb2.ExplainRequest(request=request))
        with pytest.raises(grpc.RpcError) as unknown:
            profile_pb2_grpc.ProfileServiceStub(channel).GetProfile(
                profile_pb2.GetProfileRequest(identifiers=someone("explained"))
            )
        assert isinstance(unknown.value, grpc.Call)
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


def test_cases_pause_and_return(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = profile_pb2_grpc.ProfileServiceStub(channel)
        decide = decision_pb2_grpc.DecisionServiceStub(channel).Decide
        who = someone("complaining")
        regular(channel, who)
        stub.OpenCase(profile_pb2.OpenCaseRequest(identifiers=who, kind="complaint", key="7"))
        assert offers(decide(ask(identifiers=who))) == ["newsletter"]
        stub.CloseCase(profile_pb2.CloseCaseRequest(identifiers=who, kind="complaint", key="7"))
        assert offers(decide(ask(identifiers=who))) == ["summer_sale", "newsletter"]
        # Opened on one connection and closed on another: each is seen by the next call of whoever asks.
        with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as other:
            elsewhere = profile_pb2_grpc.ProfileServiceStub(other)
            for number in range(20):
                key = f"race-{number}"
                stub.OpenCase(profile_pb2.OpenCaseRequest(identifiers=who, kind="complaint", key=key))
                assert offers(decision_pb2_grpc.DecisionServiceStub(other).Decide(ask(identifiers=who))) == ["newsletter"]
                elsewhere.CloseCase(profile_pb2.CloseCaseRequest(identifiers=who, kind="complaint", key=key))
                assert offers(decide(ask(identifiers=who))) == ["summer_sale", "newsletter"]
        listed = stub.ListCases(profile_pb2.ListCasesRequest(identifiers=who, state="CASE_STATE_ALL")).cases
        assert {each.key for each in listed} == {"7", *(f"race-{number}" for number in range(20))}
        assert not stub.ListCases(profile_pb2.ListCasesRequest(identifiers=who)).cases
        with pytest.raises(grpc.RpcError, match="state: 9 is none"):
            stub.ListCases(profile_pb2.ListCasesRequest(identifiers=who, state=9))  # type: ignore[arg-type]
        with pytest.raises(grpc.RpcError, match="scope: 9 is none"):
            stub.OpenCase(profile_pb2.OpenCaseRequest(identifiers=who, kind="complaint", key="8", scope=9))  # type: ignore[arg-type]
        profile = stub.GetProfile(profile_pb2.GetProfileRequest(identifiers=who, events=2))
        assert {(each.kind, each.HasField("closed")) for each in profile.cases} == {("complaint", True)}
        assert [(each.purpose, each.granted) for each in profile.consents] == [("marketing", True)]
        assert len(profile.events) == 2
        assert profile.attributes["age"].int_value == 30


def test_identifiers_joined_are_one_customer(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = profile_pb2_grpc.ProfileServiceStub(channel)
        cookie = values_pb2.Identifier(namespace="cookie", value="joined")
        stub.UpsertProfile(
            profile_pb2.UpsertProfileRequest(
                identifiers=someone("joined"), attributes={"age": values_pb2.Value(int_value=1)}
            )
        )
        other = profile_pb2.UpsertProfileRequest(
            identifiers=[cookie], attributes={"vip": values_pb2.Value(bool_value=True)}
        )
        assert stub.UpsertProfile(other).created
        joined = stub.JoinIdentifiers(profile_pb2.JoinIdentifiersRequest(identifiers=[cookie, *someone("joined")]))
        assert joined.merged == 1
        found = stub.GetProfile(profile_pb2.GetProfileRequest(identifiers=[cookie]))
        assert found.customer == joined.customer
        assert set(found.attributes) == {"age", "vip"}
        stub.UpsertProfile(profile_pb2.UpsertProfileRequest(identifiers=[cookie], clear=["vip"]))
        assert set(stub.GetProfile(profile_pb2.GetProfileRequest(identifiers=[cookie])).attributes) == {"age"}


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        ({"channel": "wab"}, "Did you mean 'web'?"),
        ({"facts": {"cartt": values_pb2.Value(int_value=1)}}, "cart"),
        ({"facts": {"cart": values_pb2.Value(string_value="much")}}, "cart"),
        ({"identifiers": [values_pb2.Identifier(namespace="crn", value="1")]}, "crm"),
        ({"events": [values_pb2.Event(type="vizit", key="1")]}, "visit"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(address: str, spoil: dict[str, Any], word: str) -> None:
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as refused:
        decision_pb2_grpc.DecisionServiceStub(channel).Decide(ask(**spoil))
    assert isinstance(refused.value, grpc.Call)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    status = rpc_status.from_call(refused.value)
    assert status is not None
    hint = error_details_pb2.LocalizedMessage()
    hints = [hint.message for detail in status.details if detail.Unpack(hint)]
    assert word in f"{refused.value.details()} {hints}"


def test_a_refused_program_changes_nothing(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = program_pb2_grpc.ProgramServiceStub(channel)
        files = dict(stub.GetProgram(program_pb2.GetProgramRequest()).files)
        files["offers.yaml"] = files["offers.yaml"].replace(b"customer.age >= 18", b"customer.agee >= 18")
        with pytest.raises(grpc.RpcError) as refused:
            stub.LoadProgram(program_pb2.LoadProgramRequest(files=files))
        status = rpc_status.from_call(refused.value)  # type: ignore[arg-type]
        assert status is not None
        bad = error_details_pb2.BadRequest()
        (violations,) = [list(bad.field_violations) for detail in status.details if detail.Unpack(bad)]
        assert violations[0].field.startswith("offers.yaml:12:")
        (problem,) = stub.ValidateProgram(program_pb2.ValidateProgramRequest(files=files)).problems
        assert (problem.file, problem.line) == ("offers.yaml", 12)
        assert len(stub.ListPrograms(program_pb2.ListProgramsRequest()).programs) == 1
        assert decision_pb2_grpc.DecisionServiceStub(channel).Decide(ask()).program == "starter@1"


def test_an_aggregate_declared_on_a_running_server_is_right_in_the_very_next_decision(
    make: Callable[..., Server], tmp_path: Path
) -> None:
    """Backfill is nothing to wait for: what was told before the program knew the aggregate counts in the first decision after
    the reload. What a retention in the same reload no longer keeps does not, and is told as too old from then on."""
    server = make(write_starter(tmp_path))
    with grpc.insecure_channel(server.until("listening")["listen_control"]) as channel:
        server.until("ready")
        deciding, programs = decision_pb2_grpc.DecisionServiceStub(channel), program_pb2_grpc.ProgramServiceStub(channel)
        told = decision_pb2.TellRequest(identifiers=someone("backfill"))
        now = datetime.now(UTC)
        for key, (days, page) in enumerate([(0, "sale"), (1, "home"), (2, "sale"), (29, "sale"), (31, "sale")]):
            event = told.events.add(type="visit", key=str(key))
            event.at.FromDatetime(now - timedelta(days=days))
            event.fields["page"].string_value = page
        assert deciding.Tell(told).applied == 5
        files = dict(programs.GetProgram(program_pb2.GetProgramRequest()).files)
        files["schema.yaml"] += b"aggregates:\n  sales: {count: visit, where: page == 'sale'}\n"
        files["offers.yaml"] = files["offers.yaml"].replace(b"\"Hello {{", b"\"{{ aggregate.sales }} {{")
        programs.LoadProgram(program_pb2.LoadProgramRequest(files=files))
        decide = ask(identifiers=told.identifiers)
        assert deciding.Decide(decide).placements[0].offers[0].content["title"] == "4 there"
        files["schema.yaml"] += b"retention: {visit: 30d}\n"
        with pytest.raises(grpc.RpcError, match=r"keeps 'visit' for 30 days \(without limit before: 1 event\)"):
            programs.LoadProgram(program_pb2.LoadProgramRequest(files=files))
        assert deciding.Decide(decide).placements[0].offers[0].content["title"] == "4 there"
        programs.LoadProgram(program_pb2.LoadProgramRequest(files=files, accept_loss=True))
        assert deciding.Decide(decide).placements[0].offers[0].content["title"] == "3 there"
        told.events[4].key = "late"
        again = deciding.Tell(told)
        assert (again.applied, again.duplicates, again.too_old) == (0, 4, 1)
        profiles = profile_pb2_grpc.ProfileServiceStub(channel)
        kept = profiles.GetProfile(profile_pb2.GetProfileRequest(identifiers=told.identifiers))
        assert len(kept.events) == 4


def test_reflection_and_health_tell_what_is_served(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        reflect = reflection_pb2_grpc.ServerReflectionStub(channel)
        (said,) = reflect.ServerReflectionInfo(iter([asked]))  # type: ignore[operator]  # the stubs know no calls
        names = {each.name for each in said.list_services_response.service}
        ours = {f"rapport.v1.{name}Service" for name in ("Decision", "Profile", "Program", "Model")}
        assert ours | {"grpc.health.v1.Health"} <= names
        for name in ("", *ours):
            check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]  # nor here
            assert check(health_pb2.HealthCheckRequest(service=name)).status == health_pb2.HealthCheckResponse.SERVING


def test_a_consent_dated_ahead_is_refused_because_it_could_never_be_withdrawn(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        profiles = profile_pb2_grpc.ProfileServiceStub(channel)
        consent = profile_pb2.SetConsentRequest(identifiers=someone("ahead"), purpose="marketing", granted=True)
        consent.at.FromDatetime(datetime.now(UTC) + timedelta(days=1))
        with pytest.raises(grpc.RpcError) as refused:
            profiles.SetConsent(consent)
        assert (refused.value.code(), "future" in (refused.value.details() or "")) == (grpc.StatusCode.INVALID_ARGUMENT, True)
        consent.at.FromDatetime(datetime.now(UTC) - timedelta(days=1))
        profiles.SetConsent(consent)


def test_a_consent_that_does_not_hold_is_not_answered_as_if_it_did(address: str) -> None:
    """A clock two seconds ahead granted, withdrew and granted again within a minute: the last was dropped without a word."""
    with grpc.insecure_channel(address) as channel:
        profiles = profile_pb2_grpc.ProfileServiceStub(channel)
        answers = []
        for granted in (True, False, True):
            consent = profile_pb2.SetConsentRequest(identifiers=someone("switches"), purpose="marketing", granted=granted)
            consent.at.FromDatetime(datetime.now(UTC) + timedelta(seconds=2))
            answers.append(profiles.SetConsent(consent))
        assert [each.superseded for each in answers] == [False, False, True]
        assert "A withdrawal that is newer holds" in answers[2].warning
        again = profiles.SetConsent(profile_pb2.SetConsentRequest(
            identifiers=someone("switches"), purpose="marketing", granted=True))
        assert (again.superseded, again.warning) == (False, "")


# --- the command line ---------------------------------------------------------------------------------------------


def test_a_decision_on_the_command_line_and_what_came_of_it(rapport: Rapport) -> None:
    who = ("-i", "crm=shell")
    visits = [part for key in "123" for part in ("--event", json.dumps({"type": "visit", "key": key}))]
    assert rapport("tell", *who, "-a", "age=44", "-a", "first_name=Zoë", "-a", "vip=true", *visits)[0] == 0
    assert rapport("profile", "consent", *who, "marketing", "--grant")[0] == 0
    code, out, _ = rapport(
        "decide", *who, "-c", "web", "-p", "home_hero:1", "-f", "cart=60.00 EUR", "--explain", "full"
    )
    assert code == 0
    assert "1  summer_sale  of promotions  3 = propensity 0.1 x context 100 % x value 20 x levers 150 %" in out
    assert "44.10 EUR  list 49.00 EUR; personal, by customer.vip" in out
    assert "title  Summer sale, Zoë" in out
    assert "ARBITRATION_LOST" in out
    token = next(line.split()[1] for line in out.splitlines() if line.lstrip().startswith("token"))
    assert rapport("record", token, "--outcome", "clicked")[:2] == (0, f"APPLIED {token[:24]}...\n")
    assert rapport("record", token, "--outcome", "clicked")[1].startswith("DUPLICATE")
    code, out, _ = rapport("record", token, "--outcome", "clickt")
    assert (code, "clicked" in out) == (1, True)
    code, out, _ = rapport("profile", "show", *who)
    assert "customer" in out.lower()
    assert "summer_sale" in out
    code, out, _ = rapport("decide", *who, "-c", "web", "-p", "home_hero", "--json")
    assert json.loads(out)["placements"][0]["status"] == "SLOT_STATUS_OK"


def test_households_on_the_command_line(
    rapport: Rapport, monkeypatch: pytest.MonkeyPatch
) -> None:
    who, home = ("-i", "crm=holds-a-contract"), ("-i", "account=A [17]")
    code, out, _ = rapport("profile", "household", "set", *who, "--role", "owner", "account=A [17]")
    assert (code, re.fullmatch(r"customer \d+ \(new\) is a member of household 1 \(new\)\n", out) is not None) == (0, True), out
    assert rapport("profile", "set", *home, "plan=family")[1] == "household 1\n"
    for asked in (("household", "show", *who), ("show", *who)):
        out = rapport("profile", *asked)[1]
        assert "Household 1  account=A [17]  1 member, as owner since " in out
        assert "family" in out
    assert "Household 1  account=A [17]  1 member\n" in rapport("profile", "household", "show", *home)[1]
    exported = json.loads(rapport("profile", "export", *who)[1])["household"]
    assert (exported["identifiers"], exported["attributes"]) == (
        [{"namespace": "account", "value": "A [17]"}], {"plan": "family"})
    code, _, err = rapport("profile", "household", "set", *who, "crm=other")
    assert (code, "'crm' names customers, and a household is meant here" in err) == (65, True), (code, err)
    code, _, err = rapport("profile", "show", *home)
    assert (code, "names households" in err) == (65, True), (code, err)
    code, _, err = rapport("profile", "household", "set", *who, "--role", "ownr", "account=A [17]")
    assert "Did you mean 'owner'?" in err
    assert rapport("profile", "household", "leave", *who)[1] == "left household 1\n"
    assert rapport("profile", "household", "leave", *who)[1] == "was in no household\n"
    code, _, err = rapport("profile", "household", "show", *who)
    assert (code, "rapport profile household set" in err or "SetMembership" in err) == (66, True), (code, err)
    with monkeypatch.context() as patched:
        # What is typed is repeated at a terminal alone: anything else may be a log.
        for terminal, told in ((False, "account"), (True, home[1])):
            patched.setattr(sys, "stdin", io.StringIO("n\n"))
            patched.setattr(show.out, "_force_terminal", terminal)
            code, out, err = rapport("profile", "erase", *home)
            assert (code, f"Erase the customer of {told} for good?" in out) == (1, True), out + err
    assert rapport("profile", "erase", *home, "--yes")[0] == 0
    assert rapport("profile", "household", "show", *home)[0] == 66


def test_cases_and_consents_on_the_command_line(rapport: Rapport) -> None:
    who = ("-i", "crm=calls-often")
    case = ("--kind", "complaint", "--key", "T-1")
    assert rapport("tell", *who, "-a", "age=30")[0] == 0
    assert rapport("case", "list", *who)[1] == "The customer has no such case.\n"
    assert rapport("case", "open", *who, *case, "--owner", "team-a", "--product", "dsl [tv]")[0] == 0
    code, _, err = rapport("case", "assign", *who, *case, "--owner", "ann", "--due", "2020-01-02T00:00:00Z")
    assert (code, "2020" in err) == (65, True), err
    # It was opened before, and will have been due when it is asked for.
    due = datetime.now(UTC).isoformat()
    assert rapport("case", "assign", *who, *case, "--owner", "ann", "--due", due)[0] == 0
    out = rapport("case", "list", *who)[1]
    assert all(each in out for each in ("complaint", "T-1", "product dsl [tv]", "ann", due[:10], "open")), out
    out = rapport("case", "overdue")[1]
    assert all(each in out for each in ("crm=calls-often", "T-1", "ann", due[:10])), out
    assert rapport("case", "close", *who, *case)[0] == 0
    assert rapport("case", "overdue")[1] == "No case is overdue.\n"
    assert rapport("case", "list", *who)[1] == "The customer has no such case.\n"
    (closed,) = json.loads(rapport("case", "list", *who, "--all", "--json")[1])["cases"]
    assert (closed["key"], closed["owner"], closed["scope"]) == ("T-1", "ann", "CASE_SCOPE_PRODUCT")
    code, _, err = rapport("case", "close", *who, "--kind", "complaint", "--key", "T-2")
    assert (code, "rapport case list" in err) == (66, True), err
    code, _, err = rapport("case", "assign", *who, *case)
    assert (code, "--owner or --due" in err) == (2, True), err
    assert rapport("profile", "consent", *who)[1] == "Nobody asked this customer for a consent yet.\n"
    assert rapport("profile", "consent", *who, "marketing", "--refuse", "-c", "web", "--source", "call_centre")[0] == 0
    assert rapport("profile", "consent", *who, "marketing", "--withdraw")[0] == 0
    assert [line.split()[2] for line in rapport("profile", "consent", *who)[1].splitlines()[1:]] == ["refused", "refused"]
    assert rapport("profile", "consent", *who, "marketing", "--grant")[0] == 0
    rows = [line.split() for line in rapport("profile", "consent", *who)[1].splitlines()]
    assert [(row[0], row[1], row[2], row[-1]) for row in rows[1:]] == [
        ("marketing", "every", "granted", rows[1][-1]), ("marketing", "web", "refused", "call_centre")]
    code, _, err = rapport("profile", "consent", *who, "marketing")
    assert (code, "--grant or --withdraw" in err) == (2, True), err
    code, _, err = rapport("profile", "consent", *who, "--grant")
    assert (code, "Name the purpose" in err) == (2, True), err


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["decide", "-c", "web", "-p", "home_hero", "-i", "crm"], 2, "NAME=VALUE"),
        (["decide", "-c", "web", "-p", "home_hero:0"], 2, "slots"),
        (["decide", "-c", "wab", "-p", "home_hero"], 65, "Did you mean 'web'?"),
        (["decide", "-c", "", "-p", "home_hero"], 2, "-c is empty"),
        # These two left with a traceback.
        (["decide", "-c", "web", "-p", "home_hero", "-f", "cart=99999999999999999999.99 EUR"], 2, "64 bits"),
        (["decide", "-c", "web", "-p", "home_hero", "--as-of", "0001-01-01T00:00:00+14:00"], 2, "not a time"),
        (["decide", "-c", "web", "-p", "home_hero", "--server", "127.0.0.1:1"], 69, "rapport serve"),
        # This one said "TypeError: 'NoneType' object is not iterable", and a list was sent as an event without a type.
        (["tell", "-i", "crm=1", "--event", "null"], 2, "write an object such as"),
        (["tell", "-i", "crm=1", "--event", "[]"], 2, "write an object such as"),
        (["tell", "-i", "crm=1", "--event", '{"type": "visit", "key": "v1", "fields": 3}'], 2, "its fields are no object"),
        (["tell", "-i", "crm=1", "--event", '{"type": "visit", "key": "v1", "fields": {"page": null}}'], 2, "'page' is null"),
        # So did numbers that no message holds.
        (["profile", "unmerge", "-i", "crm=1", "--merge", str(2**64)], 2, "--merge"),
        (["segment", "list", "regular", "-n", "9" * 23], 2, "--limit"),
        (["model", "deploy", "m", ".", "--version", str(2**32)], 2, "--version"),
        (["model", "rollback", "m", "--version", str(2**32)], 2, "--version"),
        (["tell", "-i", "crm=1", "-a", f"age={'9' * 5000}"], 2, "64 bits"),
        (["decide", "-c", "web", "-p", f"home_hero:{'9' * 5000}"], 2, "slots"),
        (["decide", "-c", "web", "-p", "home_hero", "--budget-ms", "nan"], 2, "--budget-ms"),
        (["decide", "-c", "web", "-p", "home_hero", "--budget-ms", "1e30"], 2, "--budget-ms"),
        (["tell", "-i", "crm=1", "--event", "[" * 100_000], 2, "not an event in JSON"),
        # An empty variable of a script: the newest state was restored, and every segment counted.
        (["store", "restore", "backup", "--into", "new", "--until", ""], 2, "--until is empty: give it a value, or leave it out"),
        # A year that was mistyped restored the newest state.
        (["store", "restore", "backup", "--into", "new", "--journal", "j", "--until", "2126-01-01T00:00:00Z"], 2,
         "in the future"),
        (["store", "restore", "backup", "--into", "new", "--until="], 2, "for the newest state"),
        (["case", "close", "-i", "crm=1", "--kind", "fault", "--key", "1", "--at", ""], 2, "--at is empty"),
        (["case", "assign", "-i", "crm=1", "--kind", "fault", "--key", "1", "--due", ""], 2, "--due is empty"),
        (["profile", "consent", "-i", "crm=1", "marketing", "--grant", "-c", ""], 2, "-c is empty"),
        (["segment", "count", ""], 2, "argument 3 is empty"),
        # It was told of no field "/" at Event.fields[page].
        (["tell", "-i", "crm=1", "--event", '{"type": "visit", "key": "v1", "fields": {"page": "/konto"}}'], 2,
         '{"page": {"string_value": "/konto"}}'),
        (["tell", "-i", "crm=1", "--event", '{"type": "visit", "fields": {"tags": ["a"]}}'], 2,
         '{"tags": {"set_value": {"members": ["a"]}}}'),
        # gRPC tried port 443, or what was left of a number beyond 65535, and that no server answers there misled.
        (["decide", "-c", "web", "-p", "home_hero", "--server", "localhost"], 2, "has no port"),
        (["decide", "-c", "web", "-p", "home_hero", "--server", ":7400"], 2, "has no host"),
        (["decide", "-c", "web", "-p", "home_hero", "--server", "7400"], 2, "has no host"),
        (["decide", "-c", "web", "-p", "home_hero", "--server", "http://localhost:7400"], 2, "is a URL"),
        (["program", "list", "--server", "localhost:99999"], 2, "1 to 65535"),
        (["program", "list", "--server", "::1:7400"], 2, "brackets"),
        (["program", "list", "--server", "unix:/no/such/socket"], 69, "rapport serve"),
        # A misspelt offer used to be answered with silence, as if it had no reason.
        (["explain", "-c", "web", "-p", "home_hero", "-o", "newsleter"], 65, "Did you mean 'newsletter'?"),
        (["profile", "show", "-i", "crm=nobody-at-all"], 66, "No customer has any of these identifiers (crm)."),
        (["program", "rollback"], 66, "Nothing decided before starter@1."),
        (["program", "rollback", "starter@99"], 66, "Program version 'starter@99' is not known here."),
        (["program", "load", "no/such/folder"], 66, "no/such/folder"),
        (["model", "rollback", "nothing"], 66, "No version of model 'nothing' served before"),
        (["config", "--config", "no/such.yaml"], 78, "rapport init"),
        (["decides"], 2, "decide"),
        # The second file's refused cells replaced the first's.
        (["import", "a.csv", "b.csv", "-m", "m.yaml", "--rejects", "bad.csv"], 2, "2 files cannot share"),
    ],
)
def test_what_goes_wrong_on_the_command_line(
    rapport: Rapport, arguments: list[str], code: int, word: str
) -> None:
    left, _, err = rapport(*arguments)
    assert (left, word in err) == (code, True), err


def test_an_export_that_names_two_customers_hands_over_neither(rapport: Rapport) -> None:
    """Of two, the one whose namespace is trusted more was exported, as if the other's identifier were his."""
    ann, bo, mail = ("-i", "crm=export-ann"), ("-i", "crm=export-bo"), ("-i", "email=export@x.example")
    for who in (ann, bo, mail):
        assert rapport("profile", "set", *who, "age=30")[0] == 0
    for command in ("export", "show"):
        code, out, err = rapport("profile", command, *ann, *bo)
        assert (code, out, "IDENTITY_CONFLICT" in err) == (65, "", True), err
    code, out, err = rapport("profile", "export", *ann, *mail)
    assert (code, out, "they lead to 2 customers" in err) == (65, "", True), err
    for more in (ann, ("-i", "cookie=export-nobodys")):
        code, out, err = rapport("profile", "export", *ann, *more)
        assert (code, json.loads(out or "{}").get("identifiers")) == (0, [{"namespace": "crm", "value": "export-ann"}]), err


def test_errors_for_scripts_are_json(rapport: Rapport) -> None:
    code, _, err = rapport("decide", "-c", "wab", "-p", "home_hero", "--json")
    said = json.loads(err)
    assert (code, said["exit"], said["reason"], said["metadata"]["nearest"]) == (65, 65, "UNKNOWN_NAME", "web")


def test_programs_on_the_command_line(rapport: Rapport, tmp_path: Path) -> None:
    folder = write_starter(tmp_path / "new") / "program"
    assert rapport("program", "validate", str(folder))[0] == 0
    assert "starter@1" in rapport("program", "list")[1]
    assert rapport("program", "show", "--into", str(tmp_path / "out"))[0] == 0
    assert (tmp_path / "out" / "offers.yaml").read_bytes() == (folder / "offers.yaml").read_bytes()
    assert rapport("program", "show", "--into", str(tmp_path / "out"))[0] == 73
    (folder / "offers.yaml").write_text("- offer: x\n  groupp: service\n")
    code, out, err = rapport("program", "validate", str(folder))
    assert (code, "offers.yaml:2:3" in out, "group" in out) == (65, True, True), out
    code, _, err = rapport("program", "load", str(folder))
    assert (code, "offers.yaml:2:3" in err) == (65, True), err


def test_init_writes_no_folder_over(rapport: Rapport, tmp_path: Path) -> None:
    assert rapport("init", str(tmp_path / "fresh"))[0] == 0
    assert rapport("init", str(tmp_path / "fresh"))[0] == 73
    assert rapport("config", "--config", str(tmp_path / "fresh" / "rapport.yaml"), "--json")[0] == 0


def test_models_on_the_command_line(rapport: Rapport, tmp_path: Path) -> None:
    sample = ROOT / "models" / "term_deposit_uptake" / "1"
    code, out, err = rapport("model", "deploy", "uptake", str(sample), "--json")
    assert (code, json.loads(out or "{}").get("model", {}).get("state")) == (0, "MODEL_STATE_LIVE"), err
    # The same bytes under the next number are the next version; the one before can be had back.
    assert rapport("model", "deploy", "uptake", str(sample))[0] == 0
    assert "LIVE" in rapport("model", "rollback", "uptake")[1]
    code, out, _ = rapport("model", "list", "uptake", "--json")
    states = {each["version"]: each["state"] for each in json.loads(out)["models"]}
    assert states == {1: "MODEL_STATE_LIVE", 2: "MODEL_STATE_READY"}
    for name in ("model.onnx", "model.yaml"):
        (tmp_path / name).write_bytes((sample / name).read_bytes())
    (tmp_path / "model.onnx").write_bytes((sample / "model.onnx").read_bytes()[:-40])
    code, _, err = rapport("model", "deploy", "uptake", str(tmp_path))
    assert (code, "MODEL_REFUSED" in err) == (65, True), err
    (tmp_path / "model.yaml").unlink()
    code, _, err = rapport("model", "deploy", "uptake", str(tmp_path))
    assert (code, "model.yaml" in err) == (66, True), err
    code, out, _ = rapport("model", "list", "uptake", "--json")
    assert json.loads(out)["models"][0]["state"] == "MODEL_STATE_LIVE"


def test_a_programs_problems_name_files_as_seen_from_where_the_command_runs(
    rapport: Rapport, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They named files as seen from the program's folder, so an editor that was given the line found no such file."""
    source = write_starter(tmp_path / "shop") / "program" / "offers.yaml"
    source.write_text(source.read_text().replace("customer.age >= 18", "customer.agee >= 18"))
    monkeypatch.chdir(tmp_path)
    folder = "shop/program"
    place = f"{folder}/offers.yaml:12:"
    code, out, _ = rapport("program", "validate", folder)
    assert (code, place in out) == (65, True), out
    code, out, _ = rapport("program", "validate", folder, "--json")
    (problem,) = json.loads(out)["problems"]
    assert (code, problem["file"], problem["line"]) == (65, f"{folder}/offers.yaml", 12)
    code, _, err = rapport("program", "load", folder)
    assert (code, place in err) == (65, True), err
    code, _, err = rapport("program", "load", folder, "--json")
    said = json.loads(err)
    (problem,) = said["problems"]
    assert (code, problem["where"].startswith(place), "customer.age" in problem["message"]) == (65, True, True), err
    assert said["message"].splitlines()[1].startswith(place)
    # What no server has to see is told in the same way.
    source.with_name("ofers.yaml").write_text("x: 1\n")
    code, _, err = rapport("program", "load", folder)
    assert (code, f"{folder}/ofers.yaml:1:1" in err) == (65, True), err
    monkeypatch.chdir(folder)
    code, out, _ = rapport("program", "validate", ".")
    assert (code, "ofers.yaml:1:1" in out, "/ofers" in out) == (65, True, False), out


# --- beginnings and ends ------------------------------------------------------------------------------------------


def test_what_was_acknowledged_outlives_kill_and_the_program_serves_again(
    make: Callable[..., Server], tmp_path: Path
) -> None:
    folder = write_starter(tmp_path)
    server = make(folder)
    with grpc.insecure_channel(server.until("listening")["listen_control"]) as channel:
        server.until("ready")
        regular(channel, someone("kept"))
        assert server.end(signal.SIGKILL) == -signal.SIGKILL
    server = make(folder, RAPPORT_PROGRAMS_PATH="")
    with grpc.insecure_channel(server.until("listening")["listen_control"]) as channel:
        assert server.until("ready")["program"] == "starter@1"
        answer = decision_pb2_grpc.DecisionServiceStub(channel).Decide(ask(identifiers=someone("kept")))
        assert offers(answer) == ["summer_sale", "newsletter"]
    assert server.end() == 0
    assert '"stopped"' in server.rest()
    log = server.rest()
    assert "kept" not in log
    assert "Ana" not in log


class Load:
    """Callers who each ask again as soon as they have an answer, until the server no longer takes calls."""

    def __init__(self, address: str, callers: int, channels: int, seconds: float) -> None:
        self._channels = [
            grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) for _ in range(channels)
        ]
        self._seconds = seconds
        self._answered = threading.Semaphore(0)
        self.ends: list[tuple[grpc.StatusCode, str]] = []
        self._threads = [
            threading.Thread(target=self._ask, args=(self._channels[number % channels], str(number)))
            for number in range(callers)
        ]
        for thread in self._threads:
            thread.start()

    def _ask(self, channel: grpc.Channel, name: str) -> None:
        decide = decision_pb2_grpc.DecisionServiceStub(channel).Decide
        refused = 0
        # Asks on after a refusal, as clients do: until the address itself is gone, twice over.
        while refused < 2:
            try:
                decide(ask(identifiers=someone(name)), timeout=self._seconds)
                self.ends.append((grpc.StatusCode.OK, ""))
                self._answered.release()
            except grpc.RpcError as error:
                call = cast("grpc.Call", error)
                status = rpc_status.from_call(call)
                info = error_details_pb2.ErrorInfo()
                if status is not None:
                    status.details[0].Unpack(info)
                self.ends.append((call.code(), info.reason or call.details() or ""))
                refused += info.reason != "DRAINING"

    def until(self, answers: int) -> None:
        for _ in range(answers):
            assert self._answered.acquire(timeout=BOUND_SECONDS)

    def rest(self) -> set[tuple[grpc.StatusCode, str]]:
        """How calls ended other than well; waits for all."""
        for thread in self._threads:
            thread.join(BOUND_SECONDS)
            assert not thread.is_alive()
        for channel in self._channels:
            channel.close()
        return {end for end in self.ends if end[0] is not grpc.StatusCode.OK}


@pytest.mark.parametrize("seconds", [30.0, 1.0])
@pytest.mark.parametrize("plane", ["listen_decisions", "listen_control"])
def test_no_call_is_cancelled_by_a_server_that_drains_under_load(
    make: Callable[..., Server], tmp_path: Path, plane: str, seconds: float
) -> None:
    """Calls on their way when SIGTERM came ended CANCELLED, which tells a client not to try elsewhere.

    The data plane serves every call that reaches it and then has nobody left to refuse; grpcio has to tell some of them.
    """
    server = make(write_starter(tmp_path))
    address = server.until("listening")[plane]
    server.until("ready")
    load = Load(address, callers=12, channels=4, seconds=seconds)
    load.until(answers=200)
    assert server.end(signal.SIGTERM) == 0
    bad = load.rest()
    assert {code for code, _ in bad} == {grpc.StatusCode.UNAVAILABLE}, bad
    if plane == "listen_control":
        assert (grpc.StatusCode.UNAVAILABLE, "DRAINING") in bad


def test_health_turns_while_a_draining_server_still_serves(make: Callable[..., Server], tmp_path: Path) -> None:
    """A balancer that asks for health is told to look elsewhere, over connections whose calls are served until they have gone."""
    server = make(write_starter(tmp_path), RAPPORT_DRAIN_SECONDS="60")
    address = server.until("listening")["listen_decisions"]
    server.until("ready")
    asked = health_pb2.HealthCheckRequest(service="rapport.v1.DecisionService").SerializeToString()

    def told(answer: h2.Answer) -> int:
        return int(health_pb2.HealthCheckResponse.FromString(answer.message).status)

    with h2.Client(address).greet() as client:
        assert told(client.call(asked, h2.CHECK)) == health_pb2.HealthCheckResponse.SERVING
        half = client.ask(None)
        client.settle()
        server.process.send_signal(signal.SIGTERM)
        client.until(lambda: len(client.goaways) == 1)
        # A client that has not read the GOAWAY yet.
        health, late = client.ask(asked, h2.CHECK), client.ask(ask().SerializeToString())
        assert told(client.wait(health)) == health_pb2.HealthCheckResponse.NOT_SERVING
        assert client.wait(late).status == 0
        client.until(lambda: len(client.goaways) == 2)
        client.send(h2.frame(h2.DATA, h2.END_STREAM, half, h2.message(ask().SerializeToString())))
        assert decision_pb2.DecideResponse.FromString(client.wait(half).message).program == "starter@1"
        client.until_closed()
    assert server.process.wait(BOUND_SECONDS) == 0


def test_a_second_signal_ends_it_at_once(make: Callable[..., Server], tmp_path: Path) -> None:
    server = make(write_starter(tmp_path), RAPPORT_DRAIN_SECONDS="3600")
    with grpc.insecure_channel(server.until("listening")["listen_control"]) as channel:
        server.until("ready")
        # A health watcher is a call under way, for as long as it watches: draining waits for it.
        watch = health_pb2_grpc.HealthStub(channel).Watch  # type: ignore[attr-defined]  # the stubs know no calls
        states = watch(health_pb2.HealthCheckRequest(service=""))
        assert next(states).status == health_pb2.HealthCheckResponse.SERVING
        server.process.send_signal(signal.SIGTERM)
        server.until("draining")
        assert next(states).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert server.process.poll() is None
        assert server.end(signal.SIGTERM) == 128 + signal.SIGTERM


@pytest.mark.parametrize("name", ["rapport-loop", "rapport-worker"])
def test_a_signal_that_a_native_thread_takes_ends_the_server(make: Callable[..., Server], tmp_path: Path, name: str) -> None:
    """The kernel gives a process's signal to whichever thread comes by first. Python's own handler runs on the main thread, which
    slept on where a loop had taken the signal: one SIGINT of about a hundred was lost, until the supervisor killed."""
    server = make(write_starter(tmp_path))
    server.until("ready")
    tasks = Path(f"/proc/{server.process.pid}/task").iterdir()
    thread = next(int(task.name) for task in tasks if (task / "comm").read_text().strip() == name)
    assert ctypes.CDLL(None, use_errno=True).tgkill(server.process.pid, thread, signal.SIGTERM) == 0
    server.until("draining")
    assert server.process.wait(BOUND_SECONDS) == 0


def test_two_addresses_keep_channels_from_programs(
    make: Callable[..., Server], tmp_path: Path, rapport: Rapport
) -> None:
    server = make(write_starter(tmp_path), RAPPORT_LISTEN_CONTROL="127.0.0.1:0", RAPPORT_PROGRAMS_PATH="")
    said = server.until("listening")
    server.until("no program is loaded")
    with (
        grpc.insecure_channel(said["listen_decisions"]) as channels,
        grpc.insecure_channel(said["listen_control"]) as control,
    ):
        with pytest.raises(grpc.RpcError) as refused:
            decision_pb2_grpc.DecisionServiceStub(channels).Decide(ask())
        assert isinstance(refused.value, grpc.Call)
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        load = program_pb2.LoadProgramRequest(
            files={path.name: path.read_bytes() for path in (tmp_path / "program").glob("*.yaml")}
        )
        with pytest.raises(grpc.RpcError) as refused:
            program_pb2_grpc.ProgramServiceStub(channels).LoadProgram(load)
        assert isinstance(refused.value, grpc.Call)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
        # To whoever types a command, the method's name in the protos says nothing.
        code, _, err = rapport("program", "list", "--server", said["listen_decisions"])
        host, _, port = said["listen_decisions"].rpartition(":")
        wanted = f"listen.control, by default the port after that of decisions, here --server {host}:{int(port) + 1}."
        assert (code, wanted in " ".join(err.split())) == (69, True), err
        assert program_pb2_grpc.ProgramServiceStub(control).LoadProgram(load).program.version == "starter@1"
        assert decision_pb2_grpc.DecisionServiceStub(channels).Decide(ask()).program == "starter@1"
    assert server.end(signal.SIGINT) == 0


def test_a_method_that_nobody_serves_is_told_alike_at_both_addresses(make: Callable[..., Server], tmp_path: Path) -> None:
    """grpcio's own refusal at listen.control had a code and a text, and no details that a client could read."""
    server = make(write_starter(tmp_path))
    said = server.until("listening")
    server.until("ready")
    for address, path in (
        (said["listen_control"], "/rapport.v1.DecisionService/Decode"),
        (said["listen_control"], "/rapport.v1.NoService/Decide"),
        (said["listen_decisions"], "/rapport.v1.ProgramService/ListPrograms"),
    ):
        with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(path, bytes)(b"", timeout=BOUND_SECONDS)
        assert isinstance(refused.value, grpc.Call)
        told = client.told(refused.value, address)
        assert (told.code, told.told) == (grpc.StatusCode.UNIMPLEMENTED, "NOT_SERVED")
        assert "protos" in told.hint
    with grpc.insecure_channel(said["listen_control"], compression=grpc.Compression.Gzip) as channel:
        # As the contract says: here, and not at listen.decisions.
        listed = program_pb2_grpc.ProgramServiceStub(channel).ListPrograms(program_pb2.ListProgramsRequest())
        assert [each.version for each in listed.programs] == ["starter@1"]
    assert server.end(signal.SIGTERM) == 0


@pytest.mark.parametrize(
    ("environment", "code", "word"),
    [
        ({"RAPPORT_LISTEN_DECISIONS": "{address}"}, 69, "another process listens there"),
        ({"RAPPORT_LISTEN_DECISIONS": "nowhere"}, 78, "is not an address"),
        ({"RAPPORT_LISTEN_DECISION": "x"}, 78, "RAPPORT_LISTEN_DECISIONS"),
        ({"RAPPORT_STORE_PATH": "/proc/store"}, 69, "/proc/store"),
        ({"RAPPORT_STORE_PATH": "foreign"}, 69, "foreign"),
        # It served, with every model's offers on their fallbacks, and said nothing.
        ({"RAPPORT_MODELS_PATH": "modells"}, 78, "models.path: there is no folder modells"),
        ({"RAPPORT_MODELS_PATH": "foreign/somebody-elses-file"}, 78, "is not a folder"),
    ],
)
def test_a_server_that_cannot_start_says_why(
    rapport: Rapport,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    address: str,
    environment: dict[str, str],
    code: int,
    word: str,
) -> None:
    # In this process, since nothing of it gets as far as serving.
    monkeypatch.chdir(write_starter(tmp_path))
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "somebody-elses-file").write_text("x")
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(address=address))
    left, _, err = rapport("serve")
    assert (left, word in err) == (code, True), err


def test_a_server_whose_program_is_bad_ends_with_the_place(make: Callable[..., Server], tmp_path: Path) -> None:
    write_starter(tmp_path)
    (tmp_path / "program" / "program.yaml").write_text("programm: x\n")
    server = make(tmp_path)
    assert server.process.wait(BOUND_SECONDS) == 65
    log = server.rest()
    assert "program/program.yaml:1:" in log
    assert "Traceback" not in log


def test_one_store_has_one_server(make: Callable[..., Server], tmp_path: Path) -> None:
    first = make(write_starter(tmp_path))
    first.until("ready")
    second = make(tmp_path)
    assert second.process.wait(BOUND_SECONDS) == 69
    assert "STORE_UNAVAILABLE" in second.rest()
    assert first.end() == 0


def test_an_import_beside_a_server_is_refused_and_alone_it_works(
    make: Callable[..., Server],
    tmp_path: Path,
    rapport: Rapport,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(write_starter(tmp_path))
    (tmp_path / "mapping.yaml").write_text(
        "mapping: people\nsource: crm\nformat: csv\nrow: profile\nidentifiers: {crm: id}\n"
        "attributes: {age: age, first_name: name}\n"
    )
    (tmp_path / "people.csv").write_text("id,name,age\n1,Ana,30\n2,Rui,old\n3,Eva,\n")
    server = make(tmp_path)
    server.until("ready")
    code, _, err = rapport("import", "people.csv", "-m", "mapping.yaml")
    # At the address that the folder's configuration names nobody answers: the trouble is that the store is taken.
    assert (code, "stop it first" in err, "--server HOST:PORT" in err) == (69, True, True), err
    # A dry run only reads, so it may run beside the server.
    code, out, err = rapport("import", "people.csv", "-m", "mapping.yaml", "--dry-run")
    assert (code, "3 rows, 2 would be applied (2 new customers, 0 rows of known ones)" in out) == (1, True), out + err
    assert "line 3, age: 'old': not a number" in out
    # "store" alone was read as the word.
    assert f"0 customers in {tmp_path.resolve() / 'store'}\n" in out
    assert not (tmp_path / "people.csv.rejects.csv").exists()
    assert server.end() == 0
    code, out, err = rapport("import", "people.csv", "-m", "mapping.yaml")
    assert (code, "3 rows, 2 applied (2 new customers" in out, "1 rejected" in out) == (1, True, True), out + err
    code, out, _ = rapport("import", "people.csv", "-m", "mapping.yaml", "--json")
    assert json.loads(out)["unchanged"] == 2
    (tmp_path / "packed").write_bytes(gzip.compress(b"id,name,age\n1,Ana,31\n9,Isa,9\n"))
    code, out, _ = rapport("import", "packed", "-m", "mapping.yaml", "--dry-run", "--json")
    told = json.loads(out)
    assert (code, told["created"], told["changed"], told["customers"]) == (0, 1, 1, 2)
    assert (told["dry_run"], told["format"], told["packing"]) == (True, "csv", "gzip")
    code, out, err = rapport("import", "packed", "-m", "mapping.yaml", "--rows-per-second", "1000000")
    assert (code, "2 applied (1 new customer, 1 changed" in out) == (0, True), out + err
    # Without a store a dry run makes none.
    monkeypatch.setenv("RAPPORT_STORE_PATH", "nowhere")
    code, out, err = rapport("import", "packed", "-m", "mapping.yaml", "--dry-run")
    assert (code, "2 new customers" in out, (tmp_path / "nowhere").exists()) == (0, True, False), out + err
    code, _, err = rapport("import", "packed", "-m", "mapping.yaml", "--rows-per-second", "0")
    assert (code, "--rows-per-second" in err) == (2, True), err


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_an_import_in_a_folder_of_no_program_makes_no_store_there(
    tmp_path: Path, rapport: Rapport, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    """Run one folder too deep, it refused every name of the mapping and left an empty store among the program's files."""
    monkeypatch.chdir(write_starter(tmp_path) / "program")
    (tmp_path / "mapping.yaml").write_text(
        "mapping: people\nsource: crm\nrow: profile\nidentifiers: {crm: id}\nattributes: {age: age}\n"
    )
    (tmp_path / "people.csv").write_text("id,age\n1,30\n")
    code, _, err = rapport("import", "../people.csv", "-m", "../mapping.yaml", *more)
    assert (code, "no program declares what it maps to" in err, "--program FOLDER" in err) == (65, True, True), err
    assert not Path("store").exists()


@pytest.mark.parametrize(
    ("mapped", "data", "told"),
    [
        ("aeg", b"id,age\n1,30\n", "MAPPING_REFUSED"), ("age", b"id,aeg\n1,30\n", "IMPORT_REFUSED"),
        ("age", b"\x1f\x8b\x08", "gzip"),
    ],
)
def test_an_import_that_is_refused_makes_no_store(
    tmp_path: Path, rapport: Rapport, monkeypatch: pytest.MonkeyPatch, mapped: str, data: bytes, told: str
) -> None:
    """An empty one was left, which the next import took for one that was there."""
    monkeypatch.chdir(write_starter(tmp_path))
    Path("mapping.yaml").write_text(
        f"mapping: people\nsource: crm\nrow: profile\nidentifiers: {{crm: id}}\nattributes: {{{mapped}: age}}\n"
    )
    Path("people.csv").write_bytes(data)
    code, out, err = rapport("import", "people.csv", "-m", "mapping.yaml")
    assert (code, out, told in err, "it is a new one" in err) == (65, "", True, False), err
    assert not Path("store").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LISTEN_DECISIONS", "abc"), ("LISTEN_CONTROL", "abc"), ("TLS_KEY", "x"), ("TLS_CLIENT_AUTHORITIES", "x"),
        ("PROGRAMS_PATH", "x"),
    ],
)
def test_a_server_that_is_refused_for_its_settings_makes_no_store(
    tmp_path: Path, rapport: Rapport, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.chdir(write_starter(tmp_path))
    monkeypatch.setenv(f"RAPPORT_{name}", value)
    monkeypatch.setattr("server.logs.configure", lambda *_: None)
    code, _, err = rapport("serve")
    assert (code, "CONFIG_INVALID" in err) == (78, True), err
    assert not Path("store").exists()


@pytest.mark.parametrize("more", [(), ("--dry-run",), ("--store", "store")])
def test_an_import_makes_no_store_where_one_lost_its_data(
    tmp_path: Path, rapport: Rapport, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    monkeypatch.chdir(write_starter(tmp_path))
    (tmp_path / "mapping.yaml").write_text(
        "mapping: people\nsource: crm\nrow: profile\nidentifiers: {crm: id}\nattributes: {age: age}\n"
    )
    (tmp_path / "people.csv").write_text("id,age\n1,30\n")
    code, _, err = rapport("import", "people.csv", "-m", "mapping.yaml")
    assert (code, f"There was no store in {tmp_path.resolve() / 'store'}: it is a new one." in err) == (0, True), err
    (tmp_path / "store" / "data.mdb").rename(tmp_path / "elsewhere")
    code, out, err = rapport("import", "people.csv", "-m", "mapping.yaml", *more)
    assert (code, out, "STORE_CORRUPT" in err, "--journal store/journal" in err) == (74, "", True, True), err
    (tmp_path / "elsewhere").rename(tmp_path / "store" / "data.mdb")


def test_an_import_names_a_wrong_program_s_files_as_seen_from_where_it_runs(
    tmp_path: Path, rapport: Rapport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It told `offers.yaml:1:1`, which is not there; validating told `program/offers.yaml`."""
    monkeypatch.chdir(write_starter(tmp_path))
    (tmp_path / "program" / "groups.yaml").write_text("promotions: {consent: marketin}\n")
    (tmp_path / "mapping.yaml").write_text("mapping: people\n")
    (tmp_path / "people.csv").write_text("id\n1\n")
    code, _, err = rapport("import", "people.csv", "-m", "mapping.yaml")
    assert (code, "program/groups.yaml:1:" in err) == (65, True), err


def test_the_store_is_read_into_memory_once_it_serves(make: Callable[..., Server], tmp_path: Path) -> None:
    """After a reboot, decisions of a large store waited for the disk one customer at a time, for many minutes."""
    folder = write_starter(tmp_path)
    server = make(folder)
    server.until("ready")
    assert server.until("store in memory")["bytes"] == (folder / "store" / "data.mdb").stat().st_size
    assert server.end() == 0


def test_a_restart_needs_neither_the_command_line_nor_a_compiler(
    make: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Half of a restart's time were packages for reading programs, for compiling them, and for a command line."""
    folder = write_starter(tmp_path_factory.mktemp("again"))

    def imported(server: Server) -> set[str]:
        with grpc.insecure_channel(server.until("listening")["listen_decisions"]) as channel:
            server.until("ready")
            request = decision_pb2.DecideRequest(
                identifiers=[values_pb2.Identifier(namespace="cookie", value="c1")],
                channel="web",
                placements=[decision_pb2.PlacementRequest(name="home_hero")],
            )
            assert decision_pb2_grpc.DecisionServiceStub(channel).Decide(request, timeout=BOUND_SECONDS).placements
        assert server.end() == 0
        # Python itself writes a line for every module, its name last.
        lines = server.rest().splitlines()
        return {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}

    unneeded = {
        "numpy", "lark", "celpy", "onnx", "typer", "core.programs.source", "core.programs.plan", "core.expressions.check",
        "core.importing.importer", "core.inference.trial",
    }  # fmt: skip
    first = imported(make(folder, PYTHONPROFILEIMPORTTIME="1"))
    assert {"numpy", "core.programs.source", "core.programs.plan"} <= first & unneeded
    again = imported(make(folder, PYTHONPROFILEIMPORTTIME="1"))
    assert {"core.engine", "grpc"} <= again
    assert again & unneeded == set()


def test_serve_takes_the_same_file_with_and_without_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain ``serve`` goes past typer; what is wrong must be told alike on both ways."""
    missing = str(tmp_path / "none.yaml")
    told = []
    for arguments in (["serve", "--config", missing], ["serve", f"--config={missing}"]):
        monkeypatch.setattr(sys, "argv", ["rapport", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        told.append((ended.value.code, capsys.readouterr().err))
    assert told[0] == told[1]
    assert told[0][0] == 78
    assert "none.yaml" in told[0][1].replace("\n", "")
