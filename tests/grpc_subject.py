"""The engine behind its gRPC services on a loopback port, taken through steps as a channel would.

The services, codec and wire are the server's own; the client side is written here from the protos, so that a field
converted wrongly on both sides of the server's code still shows. The engine's clock is the step's time.

``compiled`` asks DecisionService at the data plane's address. Its clock is the machine's, so a decision names its moment, unless
events go with it: those are kept only for a decision about now, and Python, whose clock is the engine's, makes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from types import TracebackType

import grpc
from google.protobuf import timestamp_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from core import limits
from core.decision import (
    Clamp,
    DecideAnswer,
    DecidedOffer,
    DecideRequest,
    Event,
    Factors,
    Identifier,
    PlacementAnswer,
    QuotedPrice,
    Rejection,
)
from core.errors import Problem, ProgramError, Where
from core.outcomes import Outcome, OutcomeStatus
from core.reasons import Detail, Reason, SlotStatus
from core.schema import AnyValue, Money
from protos.rapport.v1 import (
    decision_pb2,
    decision_pb2_grpc,
    profile_pb2,
    profile_pb2_grpc,
    program_pb2,
    program_pb2_grpc,
    values_pb2,
)
from server import convert
from server.config import Config
from server.front import Front
from server.services.decisions import DecisionService
from server.services.profiles import ProfileService
from server.services.programs import ProgramService
from tests.engine_subject import EngineSubject
from tests.scenario import Audited, Told, ToldCase

SECONDS = 30  # bound on every call; none should come near it


class GrpcSubject:
    """A context manager: an engine, a server on a free port of 127.0.0.1, and two channels that take turns."""

    def __init__(self, folder: Path, *, compiled: bool = False) -> None:
        self.inner = EngineSubject(folder)
        engine, store = self.inner.engine, self.inner.store
        most = limits.MESSAGE_BYTES
        self.front: Front | None = None
        if compiled:
            config = Config(listen_decisions="127.0.0.1:0", threads_loops=2, threads_models=1, threads_handlers=2)
            self.front = Front(config, DecisionService(engine, most).methods(), engine)
            self.front.start()
        self.server = grpc.server(ThreadPoolExecutor(2))
        self.server.add_generic_rpc_handlers(
            (
                DecisionService(engine, most).handlers(),
                ProgramService(engine, most, lambda version: None).handlers(),
                ProfileService(store, most, engine.products).handlers(),
            )
        )
        port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()
        # Separate connections: what one has acknowledged, the other must see.
        apart = [("grpc.use_local_subchannel_pool", 1)]
        self.channels = [grpc.insecure_channel(f"127.0.0.1:{port}", options=apart) for _ in range(2)]
        self.fronts = [grpc.insecure_channel(self.front.address, options=apart) for _ in range(2)] if self.front else []
        self.calls = 0

    def __enter__(self) -> GrpcSubject:
        self.inner.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for channel in [*self.channels, *self.fronts]:
            channel.close()
        self.server.stop(grace=None).wait(SECONDS)
        if self.front is not None:
            self.front.stop(SECONDS).result()
        self.inner.__exit__(kind, error, trace)

    @property
    def channel(self) -> grpc.Channel:
        self.calls += 1
        return self.channels[self.calls % len(self.channels)]

    @property
    def decisions(self) -> decision_pb2_grpc.DecisionServiceStub:
        self.calls += 1
        channels = self.fronts or self.channels
        return decision_pb2_grpc.DecisionServiceStub(channels[self.calls % len(channels)])

    def load(self, sources: Mapping[str, bytes], at_us: int) -> None:
        try:
            stub = program_pb2_grpc.ProgramServiceStub(self.channel)
            stub.LoadProgram(program_pb2.LoadProgramRequest(files=dict(sources)), timeout=SECONDS)
        except grpc.RpcError as error:
            problems = _problems(error)
            if not problems:
                raise
            raise ProgramError(problems) from error

    def upsert(
        self, who: Sequence[Identifier], attributes: Mapping[str, AnyValue | None], at_us: int, source: str = ""
    ) -> None:
        request = profile_pb2.UpsertProfileRequest(
            identifiers=_who(who),
            attributes=_values({name: value for name, value in attributes.items() if value is not None}),
            clear=[name for name, value in attributes.items() if value is None],
            source=source,
            at=_instant(at_us),
        )
        profile_pb2_grpc.ProfileServiceStub(self.channel).UpsertProfile(request, timeout=SECONDS)

    def provenance(self, who: Sequence[Identifier], attribute: str) -> Told:
        request = profile_pb2.GetProvenanceRequest(identifiers=_who(who), attributes=[attribute])
        answer = profile_pb2_grpc.ProfileServiceStub(self.channel).GetProvenance(request, timeout=SECONDS)
        (one,) = answer.attributes
        told = [
            (
                each.source,
                convert.micros(each.at, "at"),
                convert.value_from(each.value, "value") if each.HasField("value") else None,
            )
            for each in one.origins
        ]
        return convert.value_from(one.value, "value") if one.HasField("value") else None, one.rule, told

    def tell(self, who: Sequence[Identifier], events: Sequence[Event], at_us: int) -> None:
        self.inner.clock_us = at_us
        request = decision_pb2.TellRequest(identifiers=_who(who), events=_events(events), at=_instant(at_us))
        self.decisions.Tell(request, timeout=SECONDS)

    def consent(self, who: Sequence[Identifier], purpose: str, channel: str, granted: bool, at_us: int) -> None:
        request = profile_pb2.SetConsentRequest(
            identifiers=_who(who), purpose=purpose, channel=channel, granted=granted, at=_instant(at_us)
        )
        profile_pb2_grpc.ProfileServiceStub(self.channel).SetConsent(request, timeout=SECONDS)

    def open_case(
        self, who: Sequence[Identifier], kind: str, key: str, at_us: int, product: str = "", owner: str = "",
        due_us: int | None = None, household: bool = False,
    ) -> None:
        request = profile_pb2.OpenCaseRequest(
            identifiers=_who(who), kind=kind, key=key, at=_instant(at_us), product=product, owner=owner,
            due=None if due_us is None else _instant(due_us), scope="CASE_SCOPE_HOUSEHOLD" if household else None,
        )
        profile_pb2_grpc.ProfileServiceStub(self.channel).OpenCase(request, timeout=SECONDS)

    def assign_case(
        self, who: Sequence[Identifier], kind: str, key: str, owner: str, due_us: int | None, at_us: int
    ) -> None:
        request = profile_pb2.AssignCaseRequest(
            identifiers=_who(who), kind=kind, key=key, owner=owner, at=_instant(at_us),
            due=None if due_us is None else _instant(due_us),
        )
        profile_pb2_grpc.ProfileServiceStub(self.channel).AssignCase(request, timeout=SECONDS)

    def cases(self, who: Sequence[Identifier]) -> list[ToldCase]:
        request = profile_pb2.ListCasesRequest(identifiers=_who(who), state="CASE_STATE_ALL")
        listed = profile_pb2_grpc.ProfileServiceStub(self.channel).ListCases(request, timeout=SECONDS).cases
        if not self.inner.store.catalog.namespace_entry(who[0].namespace).household:
            shown = profile_pb2_grpc.ProfileServiceStub(self.channel).GetProfile(
                profile_pb2.GetProfileRequest(identifiers=_who(who)), timeout=SECONDS
            )
            assert list(shown.cases) == list(listed)
        return [
            (
                one.kind, one.key, one.product, one.owner, convert.micros(one.opened, "opened"),
                convert.micros(one.closed, "closed") if one.HasField("closed") else None,
                convert.micros(one.due, "due") if one.HasField("due") else None,
            )
            for one in listed
        ]

    def close_case(self, who: Sequence[Identifier], kind: str, key: str, at_us: int) -> None:
        request = profile_pb2.CloseCaseRequest(identifiers=_who(who), kind=kind, key=key, at=_instant(at_us))
        profile_pb2_grpc.ProfileServiceStub(self.channel).CloseCase(request, timeout=SECONDS)

    def set_membership(
        self, who: Sequence[Identifier], household: Sequence[Identifier], role: str, at_us: int
    ) -> None:
        request = profile_pb2.SetMembershipRequest(
            identifiers=_who(who), household=_who(household), role=role, at=_instant(at_us)
        )
        profile_pb2_grpc.ProfileServiceStub(self.channel).SetMembership(request, timeout=SECONDS)

    def leave_household(self, who: Sequence[Identifier], at_us: int) -> None:
        request = profile_pb2.LeaveHouseholdRequest(identifiers=_who(who), at=_instant(at_us))
        profile_pb2_grpc.ProfileServiceStub(self.channel).LeaveHousehold(request, timeout=SECONDS)

    def join(self, who: Sequence[Identifier], at_us: int) -> None:
        request = profile_pb2.JoinIdentifiersRequest(identifiers=_who(who), at=_instant(at_us))
        profile_pb2_grpc.ProfileServiceStub(self.channel).JoinIdentifiers(request, timeout=SECONDS)

    def unmerge(self, who: Sequence[Identifier], at_us: int) -> None:
        stub = profile_pb2_grpc.ProfileServiceStub(self.channel)
        listed = stub.ListMerges(profile_pb2.ListMergesRequest(identifiers=_who(who)), timeout=SECONDS).merges
        request = profile_pb2.UnmergeRequest(identifiers=_who(who), merge=listed[0].merge)
        answer = stub.Unmerge(request, timeout=SECONDS)
        assert list(answer.restored) == list(listed[0].absorbed)
        assert answer.reapplied == listed[0].since

    def erase(self, who: Sequence[Identifier], request: str, at_us: int) -> None:
        message = profile_pb2.EraseProfileRequest(identifiers=_who(who), request=request)
        profile_pb2_grpc.ProfileServiceStub(self.channel).EraseProfile(message, timeout=SECONDS)

    def audit(self) -> Sequence[Audited]:
        return self.inner.audit()  # rapport store audit reads the folder

    def decide(self, request: DecideRequest, now_us: int) -> DecideAnswer:
        self.inner.clock_us = now_us
        message = decision_pb2.DecideRequest(
            identifiers=_who(request.identifiers),
            channel=request.channel,
            placements=[decision_pb2.PlacementRequest(name=one.name, slots=one.slots or 0) for one in request.placements],
            facts=_values(request.facts),
            events=_events(request.events),
            explain="EXPLAIN_LEVEL_" + request.explain.name,
            seed=request.seed,
            deferred=request.deferred,
        )
        if self.front is not None and not request.events:
            message.as_of.CopyFrom(_instant(now_us))
        answer = self.decisions.Decide(message, timeout=SECONDS)
        return answer_from(answer)

    def record(self, outcome: Outcome, now_us: int) -> OutcomeStatus:
        self.inner.clock_us = now_us
        report = decision_pb2.Outcome(token=outcome.token, outcome=outcome.outcome, key=outcome.key)
        if outcome.at_us is not None:
            report.at.CopyFrom(_instant(outcome.at_us))
        (result,) = self.decisions.Record(decision_pb2.RecordRequest(outcomes=[report]), timeout=SECONDS).results
        return OutcomeStatus(result.status)


def _problems(error: grpc.RpcError) -> list[Problem]:
    """The problems of a refused program, from the call's status details."""
    assert isinstance(error, grpc.Call)
    status = rpc_status.from_call(error)
    found = []
    for detail in status.details if status else ():
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            for one in bad.field_violations:
                file, line, column = one.field.rsplit(":", 2)
                found.append(Problem(Where(file, int(line), int(column)), one.description))
    return found


def _who(identifiers: Sequence[Identifier]) -> list[values_pb2.Identifier]:
    return [values_pb2.Identifier(namespace=one.namespace, value=one.value) for one in identifiers]


def _instant(at_us: int) -> timestamp_pb2.Timestamp:
    return timestamp_pb2.Timestamp(seconds=at_us // 1_000_000, nanos=at_us % 1_000_000 * 1000)


def _value(value: AnyValue) -> values_pb2.Value:
    match value:
        case bool():
            return values_pb2.Value(bool_value=value)
        case int():
            return values_pb2.Value(int_value=value)
        case float():
            return values_pb2.Value(double_value=value)
        case str():
            return values_pb2.Value(string_value=value)
        case Money():
            return values_pb2.Value(money_value=values_pb2.Money(minor=value.minor, currency=value.currency))
        case datetime():
            at = timestamp_pb2.Timestamp()
            at.FromDatetime(value)
            return values_pb2.Value(timestamp_value=at)
        case _:
            return values_pb2.Value(set_value=values_pb2.StringSet(members=sorted(value)))


def _values(values: Mapping[str, AnyValue]) -> dict[str, values_pb2.Value]:
    return {name: _value(value) for name, value in values.items()}


def _events(events: Sequence[Event]) -> list[values_pb2.Event]:
    return [
        values_pb2.Event(
            type=one.type,
            key=one.key,
            at=None if one.at_us is None else _instant(one.at_us),
            fields=_values(one.fields),
        )
        for one in events
    ]


def answer_from(message: decision_pb2.DecideResponse) -> DecideAnswer:
    """The answer as values."""
    return DecideAnswer(
        decision=message.decision,
        placements=tuple(_placement(one) for one in message.placements),
        known=message.known,
        program=message.program,
        digest=message.digest,
        models=tuple(message.models),
        as_of_us=message.as_of.seconds * 1_000_000 + message.as_of.nanos // 1000,
        seed=message.seed,
        took_ns=message.took_ns,
    )


def _placement(message: decision_pb2.PlacementAnswer) -> PlacementAnswer:
    return PlacementAnswer(
        name=message.name,
        status=SlotStatus(message.status),
        offers=tuple(_offer(one) for one in message.offers),
        fallback=dict(message.fallback),
        rejections=tuple(_rejection(one) for one in message.rejections),
        summary={Reason(one.reason): one.count for one in message.summary},
    )


def _offer(message: decision_pb2.DecidedOffer) -> DecidedOffer:
    price = message.price
    return DecidedOffer(
        offer=message.offer,
        group=message.group,
        rank=message.rank,
        priority=message.priority,
        factors=_factors(message.factors),
        content=dict(message.content),
        token=message.token,
        instance=message.instance,
        price=QuotedPrice(
            Money(price.amount.minor, price.amount.currency),
            Money(price.list.minor, price.list.currency),
            price.personal,
            tuple(price.basis),
            Clamp(price.clamp),
        )
        if message.HasField("price")
        else None,
        model=message.model,
    )


def _factors(message: decision_pb2.Factors) -> Factors:
    return Factors(message.propensity, message.context_percent, message.value, message.lever_percent)


def _rejection(message: decision_pb2.Rejection) -> Rejection:
    return Rejection(
        offer=message.offer,
        reason=Reason(message.reason),
        rule=message.rule,
        detail=Detail(message.detail),
        input=message.input,
        priority=message.priority if message.HasField("priority") else None,
        lowest_winner=message.lowest_winner if message.HasField("lowest_winner") else None,
        factors=_factors(message.factors) if message.HasField("factors") else None,
    )
