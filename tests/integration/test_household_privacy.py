"""Nothing of one member reaches another: unique texts are planted in each, and looked for in the bytes of every answer.

The program shows all it can: every input of households in texts, full explanations, both decision paths, and every call
that tells of a customer or a household. What a member's household shares must be there; what is another member's must not.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from core.decision import Identifier
from core.hub.mutations import Cell, OpenCase, Outcome, RecordedEvent, RecordEvents, RecordOutcomes, SetConsent, Upsert
from protos.rapport.v1 import decision_pb2, decision_pb2_grpc, profile_pb2, profile_pb2_grpc, values_pb2
from tests.grpc_subject import SECONDS, GrpcSubject

PROGRAM = b"""
program: quiet
currency: EUR
schema:
  namespaces:
    crm: {trust: 30, single: true}
    email: {normaliser: lower, trust: 20}
    account: {trust: 90, of: household}
  attributes: {first_name: string, nickname: string, salary: money, interests: set,
    address: {type: string, sources: [billing, web]}}
  household:
    attributes: {plan: string, spend: {type: money, sources: [billing], rule: sum}}
    roles: [owner, child]
  events: {call: {topic: string}}
  purposes: [ads]
  cases: [complaint, fault]
channels:
  web: {placements: {home: {slots: 4}}}
groups: {all: {}}
offers:
  - offer: shared
    group: all
    propensity: 0.5
    value: 1
    treatments:
      web.home:
        title: "{{customer.first_name}} {{customer.nickname}} {{household.plan}} {{household.spend}} {{household.role}}"
        note: "{{household.size}} {{events.call.last_topic}}"
    contact: {caps: [{id: one_a_home, outcome: clicked, at_most: 1, per: 30d, of: household}]}
  - {offer: capped, group: all, propensity: 0.5, value: 1, treatments: {web.home: {title: C}},
     contact: {caps: [{id: one_a_house, outcome: shown, at_most: 1, per: 30d, of: household}]}}
  - {offer: rich, group: all, propensity: 0.5, value: 1, treatments: {web.home: {title: R}},
     eligibility: [{id: well_paid, when: "customer.salary > 1.0 && household.size > 9"}]}
  - {offer: named, group: all, propensity: 0.5, value: 1, treatments: {web.home: {title: N}},
     eligibility: [{id: has_name, when: "customer.nickname == household.plan"}]}
"""
NOW = 1_750_000_000_000_000
SHARED = ("plan-of-all", "account-of-all")


def secrets(member: int) -> dict[str, str]:
    """Texts that only one member has."""
    kinds = ("crm", "email", "first", "nick", "interest", "topic", "case", "event", "report", "billing", "web", "worker")
    return {kind: f"zq{kind}{member}x{member * 7919}" for kind in kinds}


def plant(subject: GrpcSubject, member: int) -> None:
    mine = secrets(member)
    who = (Identifier("crm", mine["crm"]), Identifier("email", mine["email"]))
    store = subject.inner.store
    attributes: dict[str, Cell] = {
        "first_name": mine["first"], "nickname": mine["nick"], "interests": frozenset([mine["interest"]]),
    }
    store.apply(Upsert(identifiers=who, attributes=attributes, at_us=NOW))
    event = RecordedEvent(type="call", key=mine["event"], at_us=NOW, fields={"topic": mine["topic"]})
    store.apply(RecordEvents(identifiers=who, events=(event,)))
    store.apply(SetConsent(identifiers=who, purpose="ads", granted=True, at_us=NOW))
    store.apply(OpenCase(identifiers=who, kind="complaint", key=mine["case"], owner=mine["worker"], at_us=NOW))
    for source in ("billing", "web"):
        store.apply(Upsert(identifiers=who, attributes={"address": mine[source]}, source=source, at_us=NOW))
    subject.set_membership(who[:1], (Identifier("account", "account-of-all"),), ("owner", "child")[member % 2], NOW)
    report = Outcome(identifiers=who, offer="capped", outcome="shown", at_us=NOW, key=mine["report"], instance=member)
    store.apply(RecordOutcomes(outcomes=(report,)))


def everything_told(subject: GrpcSubject, member: int) -> list[Message]:
    """Every message in which this member, or his household, is told of."""
    named = [values_pb2.Identifier(namespace="crm", value=secrets(member)["crm"])]
    home = [values_pb2.Identifier(namespace="account", value="account-of-all")]
    profiles = profile_pb2_grpc.ProfileServiceStub(subject.channel)
    told: list[Message] = [
        profiles.GetProfile(profile_pb2.GetProfileRequest(identifiers=named, contacts=4096, events=4096), timeout=SECONDS),
        profiles.GetHousehold(profile_pb2.GetHouseholdRequest(identifiers=named), timeout=SECONDS),
        profiles.GetHousehold(profile_pb2.GetHouseholdRequest(identifiers=home), timeout=SECONDS),
        profiles.GetProvenance(profile_pb2.GetProvenanceRequest(identifiers=home), timeout=SECONDS),
        profiles.ListMerges(profile_pb2.ListMergesRequest(identifiers=named), timeout=SECONDS),
        profiles.GetProvenance(profile_pb2.GetProvenanceRequest(identifiers=named), timeout=SECONDS),
        *(profiles.ListCases(profile_pb2.ListCasesRequest(identifiers=who, state="CASE_STATE_ALL"), timeout=SECONDS)
          for who in (named, home)),
        # What a write is answered with: each repeats what is so already, but for a case that is opened and closed.
        profiles.UpsertProfile(profile_pb2.UpsertProfileRequest(identifiers=named), timeout=SECONDS),
        profiles.SetConsent(profile_pb2.SetConsentRequest(identifiers=named, purpose="ads", granted=True), timeout=SECONDS),
        profiles.SetMembership(profile_pb2.SetMembershipRequest(identifiers=named, household=home), timeout=SECONDS),
        profiles.OpenCase(profile_pb2.OpenCaseRequest(
            identifiers=named, kind="fault", key="line", scope="CASE_SCOPE_HOUSEHOLD"), timeout=SECONDS),
        profiles.AssignCase(
            profile_pb2.AssignCaseRequest(identifiers=named, kind="fault", key="line", owner="ann"), timeout=SECONDS),
        profiles.CloseCase(profile_pb2.CloseCaseRequest(identifiers=named, kind="fault", key="line"), timeout=SECONDS),
        subject.decisions.Tell(decision_pb2.TellRequest(
            identifiers=named, events=[values_pb2.Event(type="call", key=secrets(member)["event"])]), timeout=SECONDS),
    ]
    for explain in ("NONE", "SUMMARY", "FULL"):
        request = decision_pb2.DecideRequest(
            identifiers=named, channel="web", placements=[decision_pb2.PlacementRequest(name="home")], seed=7,
            explain="EXPLAIN_LEVEL_" + explain,
        )
        request.as_of.FromMicroseconds(NOW + 1)
        told.append(subject.decisions.Decide(request, timeout=SECONDS))
        told.append(decision_pb2_grpc.DecisionServiceStub(subject.channel).Decide(request, timeout=SECONDS))
    return told


def pried(subject: GrpcSubject, member: int, other: int) -> list[bytes]:
    """What a member is told who names another's address or case beside his own number, or a number that nobody has."""
    named = [values_pb2.Identifier(namespace="crm", value=secrets(member)["crm"])]
    strange = [*named, values_pb2.Identifier(namespace="email", value=secrets(other)["email"])]
    typo = [values_pb2.Identifier(namespace="crm", value="typo"), strange[1]]
    profiles = profile_pb2_grpc.ProfileServiceStub(subject.channel)
    told = []
    calls: list[tuple[grpc.UnaryUnaryMultiCallable[Any, Any], Message, bool]] = [
        (profiles.JoinIdentifiers, profile_pb2.JoinIdentifiersRequest(identifiers=strange), True),
        (profiles.UpsertProfile, profile_pb2.UpsertProfileRequest(identifiers=strange), False),  # the address stays where it is
        (profiles.EraseProfile, profile_pb2.EraseProfileRequest(identifiers=strange), True),
        (profiles.GetProfile, profile_pb2.GetProfileRequest(identifiers=typo), True),
        (profiles.ListCases, profile_pb2.ListCasesRequest(identifiers=typo), True),
        (profiles.CloseCase, profile_pb2.CloseCaseRequest(identifiers=named, kind="complaint", key=secrets(other)["case"]), True),
        (profiles.AssignCase, profile_pb2.AssignCaseRequest(
            identifiers=named, kind="complaint", key=secrets(other)["case"], owner="ann"), True),
        (profiles.Unmerge, profile_pb2.UnmergeRequest(identifiers=named), True),
    ]
    for call, request, refused in calls:
        if not refused:
            told.append(call(request, timeout=SECONDS).SerializeToString())
            continue
        with pytest.raises(grpc.RpcError) as raised:
            call(request, timeout=SECONDS)
        assert isinstance(raised.value, grpc.Call)
        # With the details of the status, which travel as bytes.
        told.append(f"{raised.value.details()} {list(raised.value.trailing_metadata() or ())}".encode())
    return told


def test_no_answer_to_one_member_holds_anything_of_another(tmp_path: Path) -> None:
    members = range(1, 4)
    with GrpcSubject(tmp_path, compiled=True) as subject:
        subject.load({"program.yaml": PROGRAM}, NOW)
        for member in members:
            plant(subject, member)
        subject.upsert([Identifier("account", "account-of-all")], {"plan": "plan-of-all"}, NOW)
        found_shared: set[str] = set()
        found_own: set[str] = set()
        for member in members:
            for message in everything_told(subject, member):
                data = message.SerializeToString()
                # A number is looked for as a number: ids of members and of their instances are told to themselves only.
                for other in members:
                    for kind, text in secrets(other).items():
                        held = text.encode() in data
                        assert other == member or not held, f"{type(message).__name__} to {member} holds {kind} of {other}"
                        if held:
                            found_own.add(kind)
                found_shared |= {text for text in SHARED if text.encode() in data}
        assert found_shared == set(SHARED)
        # Keys of events and reports are kept as hashes only; all else was there to be told.
        assert found_own == secrets(1).keys() - {"event", "report"}
        for member in members:
            for other in set(members) - {member}:
                # He named the address and the case himself.
                hidden = [text.encode() for kind, text in secrets(other).items() if kind not in ("email", "case")]
                for data in pried(subject, member, other):
                    assert not any(text in data for text in hidden), f"{member} is told of {other}: {data!r}"
        answer = everything_told(subject, 2)[-1]
        assert isinstance(answer, decision_pb2.DecideResponse)
        why = {each.offer: each.rule for each in answer.placements[0].rejections}
        assert why == {"capped": "one_a_house", "rich": "well_paid", "named": "has_name"}
        shown = answer.placements[0].offers[0].content
        assert shown["title"] == f"{secrets(2)['first']} {secrets(2)['nick']} plan-of-all  owner", json.dumps(dict(shown))
        assert shown["note"] == f"3 {secrets(2)['topic']}"


def test_a_decision_cannot_be_asked_for_a_household(tmp_path: Path) -> None:
    with GrpcSubject(tmp_path, compiled=True) as subject:
        subject.load({"program.yaml": PROGRAM}, NOW)
        plant(subject, 1)
        request = decision_pb2.DecideRequest(
            identifiers=[values_pb2.Identifier(namespace="account", value="account-of-all")], channel="web",
            placements=[decision_pb2.PlacementRequest(name="home")],
        )
        for _ in range(2):
            with pytest.raises(grpc.RpcError, match=r"identifiers\[0\].namespace: 'account' names households"):
                subject.decisions.Decide(request, timeout=SECONDS)
