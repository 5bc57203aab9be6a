"""The scenarios of ``tests/cases/scenarios``, each taken with the oracle, the engine, and gRPC.

A scenario that the oracle does not pass is written wrongly, or the oracle is; one that only the engine fails is a bug
of the engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from core.decision import DecideAnswer, DecideRequest, Event, Identifier
from core.outcomes import Outcome, OutcomeStatus
from core.programs.source import check, read
from core.schema import AnyValue
from tests.engine_subject import EngineSubject
from tests.grpc_subject import GrpcSubject
from tests.oracle_hub import OracleHub
from tests.scenario import Audited, Run, Scenario, Told, ToldCase, scenarios


class OracleSubject:
    """The oracle's hub, as a scenario wants it."""

    def __init__(self) -> None:
        self.hub: OracleHub | None = None

    @property
    def ready(self) -> OracleHub:
        assert self.hub is not None, "no program is loaded"
        return self.hub

    def load(self, sources: Mapping[str, bytes], at_us: int) -> None:
        program = check(read(sources))
        if self.hub is None:
            self.hub = OracleHub(program)
        else:
            self.hub.program = program

    def upsert(
        self, who: Sequence[Identifier], attributes: Mapping[str, AnyValue | None], at_us: int, source: str = ""
    ) -> None:
        self.ready.upsert(who, attributes, at_us, source)

    def provenance(self, who: Sequence[Identifier], attribute: str) -> Told:
        return self.ready.provenance(who, attribute)

    def tell(self, who: Sequence[Identifier], events: Sequence[Event], at_us: int) -> None:
        self.ready.tell(who, events, at_us)

    def consent(self, who: Sequence[Identifier], purpose: str, channel: str, granted: bool, at_us: int) -> None:
        self.ready.set_consent(who, purpose, channel, granted, at_us)

    def open_case(
        self, who: Sequence[Identifier], kind: str, key: str, at_us: int, product: str = "", owner: str = "",
        due_us: int | None = None, household: bool = False,
    ) -> None:
        self.ready.open_case(who, kind, key, at_us, product, owner, due_us, household)

    def assign_case(
        self, who: Sequence[Identifier], kind: str, key: str, owner: str, due_us: int | None, at_us: int
    ) -> None:
        self.ready.assign_case(who, kind, key, owner, due_us, at_us)

    def cases(self, who: Sequence[Identifier]) -> list[ToldCase]:
        return self.ready.cases(who)

    def close_case(self, who: Sequence[Identifier], kind: str, key: str, at_us: int) -> None:
        self.ready.close_case(who, kind, key, at_us)

    def set_membership(
        self, who: Sequence[Identifier], household: Sequence[Identifier], role: str, at_us: int
    ) -> None:
        self.ready.set_membership(who, household, role, at_us)

    def leave_household(self, who: Sequence[Identifier], at_us: int) -> None:
        self.ready.leave_household(who, at_us)

    def join(self, who: Sequence[Identifier], at_us: int) -> None:
        self.ready.join(who)

    def unmerge(self, who: Sequence[Identifier], at_us: int) -> None:
        self.ready.unmerge(who)

    def erase(self, who: Sequence[Identifier], request: str, at_us: int) -> None:
        self.ready.erase(who, request)

    def audit(self) -> Sequence[Audited]:
        return self.ready.audit

    def decide(self, request: DecideRequest, now_us: int) -> DecideAnswer:
        return self.ready.decide(request, now_us)

    def record(self, outcome: Outcome, now_us: int) -> OutcomeStatus:
        return self.ready.record(outcome, now_us)


@pytest.mark.parametrize("scenario", scenarios(), ids=lambda one: one.name)
def test_scenario_with_the_oracle(scenario: Scenario) -> None:
    Run(scenario, OracleSubject())()


@pytest.mark.parametrize("scenario", scenarios(), ids=lambda one: one.name)
def test_scenario_with_the_engine(scenario: Scenario, tmp_path: Path) -> None:
    with EngineSubject(tmp_path) as subject:
        Run(scenario, subject)()


@pytest.mark.parametrize("scenario", scenarios(), ids=lambda one: one.name)
@pytest.mark.parametrize("compiled", [False, True], ids=["grpcio", "data_plane"])
def test_scenario_through_grpc(scenario: Scenario, compiled: bool, tmp_path: Path) -> None:
    with GrpcSubject(tmp_path, compiled=compiled) as subject:
        Run(scenario, subject)()
