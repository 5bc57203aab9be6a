"""DecisionService and ProgramService over a real channel, with an engine that answers as told and remembers what it was asked.

The engine here is small so that each test says what the core answered; the real one is behind the same calls in
tests/integration.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from core import errors
from core.decision import (
    Clamp,
    DecideAnswer,
    DecidedOffer,
    DecideRequest,
    Event,
    ExplainLevel,
    Factors,
    Identifier,
    PlacementAnswer,
    PlacementRequest,
    QuotedPrice,
    Rejection,
)
from core.futures import done
from core.hub.retention import Loss, Losses
from core.outcomes import Outcome, OutcomeResult, OutcomeStatus, ProgramVersion, TellResult
from core.programs.program import Arbitration, Program
from core.reasons import Detail, Reason, SlotStatus
from core.schema import AnyValue, Money, Schema
from protos.rapport.v1 import decision_pb2, decision_pb2_grpc, program_pb2, program_pb2_grpc, values_pb2
from server import convert, logs
from server.config import Config
from server.listener import AddressUnavailable
from server.process import Process, Served
from server.services import decisions, programs

ANSWER = DecideAnswer(
    decision="0123456789abcdef0123456789abcdef",
    placements=(
        PlacementAnswer(
            "home_hero",
            SlotStatus.OK,
            (
                DecidedOffer(
                    "deposit",
                    "savings",
                    1,
                    31.0,
                    Factors(0.2, 100.0, 50.0, 55.0),
                    {"title": "Olá", "link": "/d"},
                    "token-1",
                    2**64 - 1,
                    QuotedPrice(Money(1500, "EUR"), Money(1200, "EUR"), True, ("customer.balance",), Clamp.FLOOR),
                    "uptake/3",
                ),
            ),
            rejections=(
                Rejection("card", Reason.ELIGIBILITY, "cards.eligibility.1", Detail.VALUE_MISSING, "customer.age"),
                Rejection(
                    "loan", Reason.ARBITRATION_LOST, priority=0.0, lowest_winner=31.0, factors=Factors(0, 0, 0, 0)
                ),
            ),
            summary={Reason.ARBITRATION_LOST: 1, Reason.ELIGIBILITY: 1},
        ),
        PlacementAnswer("footer", SlotStatus.FALLBACK_NO_ELIGIBLE_OFFER, (), {"title": "Welcome"}),
    ),
    known=True,
    program="bank@3",
    digest="ab" * 32,
    models=("uptake/3",),
    as_of_us=1_700_000_000_123_456,
    seed=2**64 - 1,
    took_ns=12_345,
)
FILES = {"program.yaml": b"program: bank\n"}


class Engine:
    """Answers with ``answer`` (a value, or an error to raise) and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[DecideRequest] = []
        self.explained: list[DecideRequest] = []
        self.told: list[object] = []
        self.outcomes: list[Outcome] = []
        self.answer: Callable[[DecideRequest], DecideAnswer] = lambda request: ANSWER
        self.refusal: Exception | None = None
        self.kept: list[ProgramVersion] = []
        self.lost = Losses()

    def decide(self, request: DecideRequest) -> DecideAnswer:
        self.asked.append(request)
        return self.answer(request)

    def explain(self, request: DecideRequest) -> DecideAnswer:
        self.explained.append(request)
        return self.answer(request)

    def recording(self, outcomes: Sequence[Outcome]) -> Future[Sequence[OutcomeResult]]:
        self.outcomes.extend(outcomes)
        known = {
            "token-1": OutcomeResult(OutcomeStatus.APPLIED),
            "token-2": OutcomeResult(OutcomeStatus.DUPLICATE),
        }
        unknown = OutcomeResult(OutcomeStatus.UNKNOWN, errors.BadToken("its signature is wrong"))
        return done([known.get(each.token, unknown) for each in outcomes])

    def telling(
        self,
        identifiers: Sequence[Identifier],
        events: Sequence[Event],
        attributes: Mapping[str, AnyValue],
        source: str,
        at_us: int | None,
    ) -> Future[TellResult]:
        self.told.append((identifiers, events, attributes, source, at_us))
        return done(TellResult(len(events), 0, True))

    def validate_program(self, sources: Mapping[str, bytes]) -> Program:
        if self.refusal:
            raise self.refusal
        return Program("bank", "cd" * 32, Schema(), (), {}, {}, (), Arbitration())

    def losses(self, program: Program, at_us: int) -> Losses:
        return self.lost

    def load_program(self, sources: Mapping[str, bytes], at_us: int, *, accept_loss: bool = False) -> str:
        self.validate_program(sources)
        if self.lost and not accept_loss:
            raise errors.EventsLost([("visit", 12, None, 3)], True)
        self.kept = [replace(each, active=False) for each in self.kept]
        self.kept.insert(0, ProgramVersion(f"bank@{len(self.kept) + 1}", "cd" * 32, at_us, True))
        return self.kept[0].version

    def programs(self) -> Sequence[ProgramVersion]:
        return self.kept

    def program_sources(self, version: str) -> Mapping[str, bytes]:
        return FILES

    def rollback_program(self, version: str, at_us: int, *, accept_loss: bool = False) -> str:
        if len(self.kept) < 2:
            raise errors.NotFound("Program", version or "(previous)")
        self.kept = [replace(each, active=position == 1) for position, each in enumerate(self.kept)]
        return self.kept[1].version


class Running:
    """A process over the engine above, and a channel to it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.config = Config(
            listen_decisions="127.0.0.1:0", listen_control="same", limits_message_bytes=20_000
        )
        ready: list[Callable[[], None]] = []
        self.process = Process(
            self.config,
            [Served(decisions.NAME, decisions.DecisionService(engine, 20_000).handlers())],
            [
                Served(
                    programs.NAME, programs.ProgramService(engine, 1 << 20, lambda version: ready[0]()).handlers()
                )
            ],
        )
        ready.append(self.process.ready)
        self.process.start()
        self.address = self.process.addresses["listen.decisions"]
        self.channel = grpc.insecure_channel(self.address)
        self.decisions = decision_pb2_grpc.DecisionServiceStub(self.channel)
        self.programs = program_pb2_grpc.ProgramServiceStub(self.channel)


@pytest.fixture
def running() -> Iterator[Running]:
    logs.configure("error", "json")
    made = Running(Engine())
    yield made
    made.channel.close()
    made.process.end()
    made.process.wait()


def reason_of(error: grpc.RpcError) -> tuple[grpc.StatusCode, str]:
    assert isinstance(error, grpc.Call)
    status = rpc_status.from_call(error)
    assert status is not None, error
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return error.code(), info.reason


def test_request_reaches_the_engine_with_every_field(running: Running) -> None:
    request = decision_pb2.DecideRequest(
        identifiers=[values_pb2.Identifier(namespace="crm", value="42")],
        channel="web",
        placements=[
            decision_pb2.PlacementRequest(name="home_hero", slots=3),
            decision_pb2.PlacementRequest(name="footer"),
        ],
        facts={
            "b": values_pb2.Value(bool_value=False),
            "i": values_pb2.Value(int_value=-(2**63) + 1),
            "d": values_pb2.Value(double_value=-math.inf),
            "s": values_pb2.Value(string_value=""),
            "m": values_pb2.Value(money_value=values_pb2.Money(minor=1999, currency="EUR")),
            "set": values_pb2.Value(set_value=values_pb2.StringSet(members=["b", "a", "b"])),
        },
        explain=decision_pb2.EXPLAIN_LEVEL_FULL,
        seed=0,
        deferred=True,
    )
    request.facts["t"].timestamp_value.FromJsonString("1969-12-31T23:59:59.999999Z")
    request.as_of.FromJsonString("2026-09-01T12:00:00.000001Z")
    request.time_budget.FromMilliseconds(20)
    event = request.events.add(type="view", key="v1")
    event.fields["page"].string_value = "/d"
    event.at.FromJsonString("2026-09-01T11:59:59Z")
    running.decisions.Decide(request, timeout=5)
    (asked,) = running.engine.asked
    assert asked == DecideRequest(
        channel="web",
        placements=(PlacementRequest("home_hero", 3), PlacementRequest("footer", None)),
        identifiers=(Identifier("crm", "42"),),
        facts={
            "b": False,
            "i": -(2**63) + 1,
            "d": -math.inf,
            "s": "",
            "m": Money(1999, "EUR"),
            "set": frozenset({"a", "b"}),
            "t": datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC),
        },
        events=(Event("view", "v1", 1_788_263_999_000_000, {"page": "/d"}),),
        explain=ExplainLevel.FULL,
        deadline_us=20_000,
        as_of_us=1_788_264_000_000_001,
        seed=0,
        deferred=True,
    )


def test_what_is_left_out_takes_its_default(running: Running) -> None:
    running.decisions.Decide(decision_pb2.DecideRequest(channel="web"))
    (asked,) = running.engine.asked
    assert asked == DecideRequest(channel="web", placements=())


def test_the_nearer_of_both_deadlines_holds(running: Running) -> None:
    request = decision_pb2.DecideRequest(channel="web")
    request.time_budget.FromSeconds(3600)
    running.decisions.Decide(request, timeout=30)
    deadline_us = running.engine.asked[0].deadline_us
    assert deadline_us is not None
    # The client rounds what is left up when it writes grpc-timeout, so a little more than 30 s may arrive.
    assert 0 < deadline_us <= 31_000_000


def test_answer_arrives_with_every_field(running: Running) -> None:
    response = running.decisions.Decide(decision_pb2.DecideRequest(channel="web"))
    expected = decision_pb2.DecideResponse(
        decision=ANSWER.decision,
        known=True,
        program="bank@3",
        digest="ab" * 32,
        models=["uptake/3"],
        seed=2**64 - 1,
        took_ns=12_345,
    )
    expected.as_of.FromMicroseconds(1_700_000_000_123_456)
    hero = expected.placements.add(name="home_hero", status=decision_pb2.SLOT_STATUS_OK)
    offer = hero.offers.add(
        offer="deposit",
        group="savings",
        rank=1,
        priority=31.0,
        token="token-1",
        instance=2**64 - 1,
        model="uptake/3",
        content={"title": "Olá", "link": "/d"},
        factors=decision_pb2.Factors(propensity=0.2, context_percent=100, value=50, lever_percent=55),
    )
    offer.price.amount.minor, offer.price.amount.currency = 1500, "EUR"
    offer.price.list.minor, offer.price.list.currency = 1200, "EUR"
    offer.price.personal, offer.price.clamp = True, decision_pb2.CLAMP_FLOOR
    offer.price.basis.append("customer.balance")
    hero.rejections.add(
        offer="card",
        reason=decision_pb2.REASON_ELIGIBILITY,
        rule="cards.eligibility.1",
        detail=decision_pb2.DETAIL_VALUE_MISSING,
        input="customer.age",
    )
    hero.rejections.add(
        offer="loan",
        reason=decision_pb2.REASON_ARBITRATION_LOST,
        priority=0,
        lowest_winner=31,
        factors=decision_pb2.Factors(),
    )
    hero.summary.add(reason=decision_pb2.REASON_ELIGIBILITY, count=1)
    hero.summary.add(reason=decision_pb2.REASON_ARBITRATION_LOST, count=1)
    expected.placements.add(
        name="footer", status=decision_pb2.SLOT_STATUS_FALLBACK_NO_ELIGIBLE_OFFER, fallback={"title": "Welcome"}
    )
    assert response == expected


@pytest.mark.parametrize(
    "value",
    [
        True,
        False,
        0,
        -(2**63) + 1,
        2**63 - 1,
        0.1,
        -0.0,
        math.inf,
        "",
        "é",
        Money(-5, "JPY"),
        frozenset[str](),
        frozenset({"z", "a"}),
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC),
        datetime(1969, 7, 20, 20, 17, 40, 1, UTC),
    ],
    # A set's repr hangs on the hash seed, and workers that collect other names refuse to run.
    ids=lambda value: repr(sorted(value)) if isinstance(value, frozenset) else repr(value),
)
def test_value_there_and_back_is_the_same(value: AnyValue) -> None:
    back = convert.value_from(convert.value_to(value), "x")
    assert (type(back), back) == (type(value), value)
    assert not isinstance(value, float) or math.copysign(1, value) == math.copysign(1, float(str(back)))


def _bad_value(request: decision_pb2.DecideRequest) -> None:
    request.facts["cart"].SetInParent()


def _bad_instant(request: decision_pb2.DecideRequest) -> None:
    request.as_of.seconds = 1 << 60


def _bad_nanos(request: decision_pb2.DecideRequest) -> None:
    request.events.add(type="view", key="k").at.nanos = -1


def _bad_budget(request: decision_pb2.DecideRequest) -> None:
    request.time_budget.FromNanoseconds(999)


def _bad_level(request: decision_pb2.DecideRequest) -> None:
    request.explain = 99  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("spoil", "reason", "word"),
    [
        (_bad_value, "BAD_VALUE", "facts['cart']"),
        (_bad_instant, "BAD_VALUE", "as_of"),
        (_bad_nanos, "BAD_VALUE", "events[0].at"),
        (_bad_budget, "BAD_VALUE", "time_budget"),
        (_bad_level, "UNKNOWN_NAME", "99"),
    ],
)
def test_what_the_wire_can_get_wrong_is_named(
    running: Running, spoil: Callable[[decision_pb2.DecideRequest], None], reason: str, word: str
) -> None:
    request = decision_pb2.DecideRequest(channel="web")
    spoil(request)
    with pytest.raises(grpc.RpcError) as refused:
        running.decisions.Decide(request)
    assert reason_of(refused.value) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert word in str(refused.value)
    assert running.engine.asked == []


def test_bytes_that_are_no_message_are_the_callers_mistake(running: Running) -> None:
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = running.channel.unary_unary(
        "/rapport.v1.DecisionService/Decide"
    )
    with pytest.raises(grpc.RpcError) as refused:
        call(b"\xff\xff\xff")
    assert reason_of(refused.value) == (grpc.StatusCode.INVALID_ARGUMENT, "BAD_VALUE")


def test_a_decision_larger_than_its_limit_is_refused_also_where_programs_may_be_large(running: Running) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        running.decisions.Decide(decision_pb2.DecideRequest(channel="w" * 30_000))
    assert reason_of(refused.value) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_LARGE")


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (errors.NoProgram(), grpc.StatusCode.FAILED_PRECONDITION, "NO_PROGRAM"),
        (errors.Overloaded("decisions", 50), grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED"),
        (ZeroDivisionError("maria"), grpc.StatusCode.INTERNAL, "INTERNAL"),
    ],
)
def test_engine_error_becomes_the_calls_status(
    running: Running, error: Exception, code: grpc.StatusCode, reason: str
) -> None:
    def fail(request: DecideRequest) -> DecideAnswer:
        raise error

    running.engine.answer = fail
    with pytest.raises(grpc.RpcError) as refused:
        running.decisions.Decide(decision_pb2.DecideRequest(channel="web"))
    assert reason_of(refused.value) == (code, reason)
    assert "maria" not in str(refused.value)


def test_one_bad_request_of_many_fails_alone(running: Running) -> None:
    def answer(request: DecideRequest) -> DecideAnswer:
        if request.channel == "wab":
            raise errors.UnknownName("channel", "wab", ["web"])
        return ANSWER

    running.engine.answer = answer
    good, bad = decision_pb2.DecideRequest(channel="web"), decision_pb2.DecideRequest(channel="wab")
    results = running.decisions.DecideMany(decision_pb2.DecideManyRequest(requests=[good, bad, good])).results
    assert [each.WhichOneof("result") for each in results] == ["response", "failure", "response"]
    assert results[1].failure.reason == "UNKNOWN_NAME"
    assert results[1].failure.metadata["nearest"] == "web"


@pytest.mark.parametrize(("count", "reason"), [(0, "BAD_VALUE"), (101, "TOO_LARGE")])
def test_many_has_bounds(running: Running, count: int, reason: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        running.decisions.DecideMany(
            decision_pb2.DecideManyRequest(requests=[decision_pb2.DecideRequest()] * count)
        )
    assert reason_of(refused.value) == (grpc.StatusCode.INVALID_ARGUMENT, reason)


def test_reports_are_answered_one_by_one_in_their_order(running: Running) -> None:
    request = decision_pb2.RecordRequest()
    request.outcomes.add(
        token="token-1", outcome="shown", key="k", value=values_pb2.Money(minor=100, currency="EUR")
    )
    request.outcomes.add(token="token-1", outcome="shown").at.seconds = 1 << 60
    request.outcomes.add(token="token-2", outcome="shown").at.FromMicroseconds(5)
    request.outcomes.add(token="forged", outcome="shown")
    results = running.decisions.Record(request).results
    assert [each.status for each in results] == [
        decision_pb2.OUTCOME_STATUS_APPLIED,
        decision_pb2.OUTCOME_STATUS_REFUSED,
        decision_pb2.OUTCOME_STATUS_DUPLICATE,
        decision_pb2.OUTCOME_STATUS_UNKNOWN,
    ]
    assert [each.failure.reason for each in results] == ["", "BAD_VALUE", "", "BAD_TOKEN"]
    assert "outcomes[1].at" in results[1].failure.message
    assert running.engine.outcomes == [
        Outcome("token-1", "shown", None, Money(100, "EUR"), "k"),
        Outcome("token-2", "shown", 5),
        Outcome("forged", "shown"),
    ]


def test_tell_needs_somebody_and_something(running: Running) -> None:
    someone = values_pb2.Identifier(namespace="crm", value="42")
    for bad in (
        decision_pb2.TellRequest(attributes={"age": values_pb2.Value(int_value=3)}),
        decision_pb2.TellRequest(identifiers=[someone]),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            running.decisions.Tell(bad)
        assert reason_of(refused.value) == (grpc.StatusCode.INVALID_ARGUMENT, "BAD_VALUE")
    told = running.decisions.Tell(
        decision_pb2.TellRequest(
            identifiers=[someone], events=[values_pb2.Event(type="view", key="1")], source="web"
        )
    )
    assert (told.applied, told.created) == (1, True)
    assert running.engine.told == [((Identifier("crm", "42"),), (Event("view", "1"),), {}, "web", None)]


def test_explain_asks_for_all_and_gives_no_tokens(running: Running) -> None:
    request = decision_pb2.ExplainRequest(request=decision_pb2.DecideRequest(channel="web"), offers=["loan"])
    response = running.decisions.Explain(request).response
    assert running.engine.explained[0].explain is ExplainLevel.FULL
    assert running.engine.asked == []
    assert [each.token for each in response.placements[0].offers] == [""]
    assert [each.offer for each in response.placements[0].rejections] == ["loan"]


def test_health_turns_with_the_first_program_and_again_when_draining(running: Running) -> None:
    health = health_pb2_grpc.HealthStub(running.channel)

    def status(service: str) -> str:
        return health_pb2.HealthCheckResponse.ServingStatus.Name(
            health.Check(  # type: ignore[attr-defined]  # the stubs know no calls
                health_pb2.HealthCheckRequest(service=service)
            ).status
        )

    assert (status(""), status(decisions.NAME), status(programs.NAME)) == ("NOT_SERVING", "NOT_SERVING", "SERVING")
    loaded = running.programs.LoadProgram(program_pb2.LoadProgramRequest(files=FILES)).program
    assert (loaded.version, loaded.active) == ("bank@1", True)
    assert (status(""), status(decisions.NAME)) == ("SERVING", "SERVING")


def test_a_call_under_way_finishes_while_draining_and_new_ones_are_turned_away(running: Running) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(request: DecideRequest) -> DecideAnswer:
        begun.set()
        assert go_on.wait(10)
        return ANSWER

    running.engine.answer = slow
    under_way = running.decisions.Decide.future(decision_pb2.DecideRequest(channel="web"))
    assert begun.wait(10)
    drained = threading.Thread(target=running.process.wait)
    running.process.end()
    drained.start()
    with grpc.insecure_channel(running.address) as late:
        stub = decision_pb2_grpc.DecisionServiceStub(late)
        while True:  # until the server has stopped listening, at most the call's own 10 s
            with pytest.raises(grpc.RpcError) as refused:
                stub.Decide(decision_pb2.DecideRequest(channel="web"), timeout=0.2)
            assert isinstance(refused.value, grpc.Call)
            if refused.value.code() is grpc.StatusCode.UNAVAILABLE:
                break
    go_on.set()
    assert under_way.result(timeout=10).decision == ANSWER.decision
    drained.join(10)
    assert not drained.is_alive()


def test_programs_are_validated_listed_fetched_and_rolled_back(running: Running) -> None:
    stub = running.programs
    with pytest.raises(grpc.RpcError) as refused:
        stub.RollbackProgram(program_pb2.RollbackProgramRequest())
    assert reason_of(refused.value) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
    stub.LoadProgram(program_pb2.LoadProgramRequest(files=FILES))
    stub.LoadProgram(program_pb2.LoadProgramRequest(files=FILES))
    assert stub.RollbackProgram(program_pb2.RollbackProgramRequest()).program.version == "bank@1"
    assert [each.active for each in stub.ListPrograms(program_pb2.ListProgramsRequest()).programs] == [False, True]
    got = stub.GetProgram(program_pb2.GetProgramRequest())
    assert (got.program.version, dict(got.files)) == ("bank@1", FILES)
    running.engine.refusal = errors.ProgramError(
        [errors.Problem(errors.Where("program.yaml", 1, 2), "Bad.", "Better.")]
    )
    (problem,) = stub.ValidateProgram(program_pb2.ValidateProgramRequest(files=FILES)).problems
    assert (problem.file, problem.line, problem.column, problem.message) == ("program.yaml", 1, 2, "Bad.")
    with pytest.raises(grpc.RpcError) as refused:
        stub.LoadProgram(program_pb2.LoadProgramRequest(files=FILES))
    assert reason_of(refused.value) == (grpc.StatusCode.INVALID_ARGUMENT, "PROGRAM_REFUSED")


def test_a_program_that_deletes_events_is_loaded_once_that_is_accepted(running: Running) -> None:
    stub = running.programs
    running.engine.lost = Losses((Loss("visit", 12 * 86_400_000_000, 0, 3),), complete=False)
    (loss,) = stub.ValidateProgram(program_pb2.ValidateProgramRequest(files=FILES)).losses
    assert (loss.event, loss.kept.seconds, loss.events, loss.more) == ("visit", 12 * 86_400, 3, True)
    assert not loss.HasField("before")
    with pytest.raises(grpc.RpcError) as refused:
        stub.LoadProgram(program_pb2.LoadProgramRequest(files=FILES))
    assert reason_of(refused.value) == (grpc.StatusCode.FAILED_PRECONDITION, "EVENTS_LOST")
    assert "'visit' for 12 days (without limit before: at least 3 events)" in (refused.value.details() or "")
    assert stub.LoadProgram(program_pb2.LoadProgramRequest(files=FILES, accept_loss=True)).program.version == "bank@1"


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x.yaml", "a/../../x.yaml", "a\\b.yaml"])
def test_a_programs_file_stays_inside_its_folder(running: Running, name: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        running.programs.LoadProgram(program_pb2.LoadProgramRequest(files={name: b"x"}))
    assert reason_of(refused.value) == (grpc.StatusCode.INVALID_ARGUMENT, "BAD_VALUE")


def test_a_second_server_on_the_same_port_is_refused(running: Running) -> None:
    # grpcio sets SO_REUSEPORT unless told not to: the second server would take half of the first one's calls.
    with pytest.raises(AddressUnavailable, match="another process listens there"):
        Process(Config(listen_decisions=running.address), [], [])


@pytest.mark.parametrize(
    ("address", "word", "hint"),
    [
        ("127.0.0.1", "is not an address", "Write host:port"),
        ("127.0.0.1:99999", "is not an address", "Write host:port"),
        ("a b:1", "is not an address", "Write host:port"),
        # Each was told to stop another process, which there was none of.
        ("192.0.2.1:7400", "no such address", "that this machine has"),
        ("unix:/nowhere/at/all/socket", "No such file", "a folder that is there"),
        ("no-such-host.invalid:7400", "does not resolve", "Correct the name"),
        ("", "is not an address", "Write host:port"),
    ],
)
def test_a_bad_address_says_what_is_wrong_with_it(address: str, word: str, hint: str) -> None:
    with pytest.raises(errors.ConfigError) as refused:
        Process(Config(listen_decisions=address), [], [])
    assert word in refused.value.message
    assert hint in refused.value.hint
    assert "listen.decisions" in str(refused.value)
