"""Goal: the engine keeps its promises around a decision: versions never mix, refusals change nothing, tokens cannot be made up.

Method: a program of one offer in two versions over a real store; threads that decide while versions are swapped; a real
token with every single character changed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from core.decision import DecideRequest, Identifier, PlacementRequest
from core.engine import Engine
from core.errors import BadToken, BadValue, NoProgram, NotFound, ProgramError
from core.hub.store import Store
from core.inference.registry import Registry
from core.outcomes import Outcome, OutcomeStatus

NOW = 1_790_000_000_000_000
DAY = 86_400_000_000
WHO = (Identifier("crm", "7"),)
ASK = DecideRequest("web", (PlacementRequest("home", 1),), WHO)


def program(offer: str, rule: str = "true") -> dict[str, bytes]:
    text = f"""
program: tiny
currency: EUR
instance_expiry: 2d
schema:
  namespaces: {{crm: {{normaliser: none, trust: 1}}}}
  attributes: {{age: int}}
channels: {{web: {{placements: {{home: {{content_type: text, slots: 1, fallback: {{title: nothing}}}}}}}}}}
groups: {{all: {{}}}}
offers:
  - offer: {offer}
    group: all
    eligibility: ["{rule}"]
    value: 1.00 EUR
    propensity: 0.5
    treatments: {{web.home: {{title: "{offer}"}}}}
"""
    return {"program.yaml": text.encode()}


class Clock:
    now = NOW

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(tmp_path: Path, clock: Clock) -> Iterator[Engine]:
    with Store.open(tmp_path / "store") as store:
        registry = Registry(None)
        made = Engine(store, registry, clock_us=clock)
        yield made
        made.close()
        registry.close()


def offer_of(engine: Engine) -> str:
    return engine.decide(ASK).placements[0].offers[0].offer


def test_nothing_loaded_says_so(engine: Engine) -> None:
    with pytest.raises(NoProgram):
        engine.decide(ASK)


def test_a_refused_program_leaves_the_one_before(engine: Engine) -> None:
    engine.load_program(program("first"), NOW)
    with pytest.raises(ProgramError, match=r"customer\.age"):
        engine.load_program(program("second", "customer.agee > 3"), NOW)
    assert offer_of(engine) == "first"
    assert [version.version for version in engine.programs()] == ["tiny@1"]


def test_a_budget_longer_than_the_clock_can_say_is_a_long_budget(engine: Engine) -> None:
    """A time_budget may be ten thousand years; nanoseconds in 64 bits end after 292. Such a request ended as INTERNAL."""
    engine.load_program(program("first"), NOW)
    for deadline_us in (200 * 366 * DAY, 10_000 * 366 * DAY):
        answer = engine.decide(replace(ASK, deadline_us=deadline_us))
        assert [offer.offer for offer in answer.placements[0].offers] == ["first"]


def test_rollback_goes_back_and_says_when_it_cannot(engine: Engine) -> None:
    engine.load_program(program("first"), NOW)
    with pytest.raises(NotFound):
        engine.rollback_program("", NOW)
    engine.load_program(program("second"), NOW + 1)
    assert engine.rollback_program("", NOW + 2) == "tiny@1"
    assert offer_of(engine) == "first"
    with pytest.raises(NotFound):
        engine.rollback_program("tiny@9", NOW)


def test_no_answer_mixes_two_versions(engine: Engine) -> None:
    engine.load_program(program("first"), NOW)
    engine.load_program(program("second"), NOW)
    wrong: list[str] = []
    answered = [0]
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            answer = engine.decide(ASK)
            expected = {"tiny@1": "first", "tiny@2": "second"}[answer.program]
            found = answer.placements[0].offers[0]
            if found.offer != expected or found.content["title"] != expected:
                wrong.append(f"{answer.program}: {found.offer}")
            answered[0] += 1

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(60):
        engine.rollback_program(f"tiny@{turn % 2 + 1}", NOW)
        # Acknowledged: whoever asks from here on gets this version.
        assert engine.decide(ASK).program == f"tiny@{turn % 2 + 1}"
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert answered[0] > 0


def test_a_token_changed_anywhere_is_refused_and_nothing_is_recorded(engine: Engine) -> None:
    engine.load_program(program("first"), NOW)
    token = engine.decide(ASK).placements[0].offers[0].token
    for position, letter in enumerate(token):
        changed = token[:position] + ("A" if letter != "A" else "B") + token[position + 1 :]
        (result,) = engine.record([Outcome(changed, "shown")])
        assert result.status is OutcomeStatus.UNKNOWN
        assert isinstance(result.error, BadToken)
    assert engine.store.customer_count() == 0
    (result,) = engine.record([Outcome(token, "shown")])
    assert result.status is OutcomeStatus.APPLIED


def test_an_outcome_that_the_store_refuses_leaves_the_others_of_its_call(engine: Engine) -> None:
    """Outcomes of a call are one change of the store: one time in the wrong unit used to refuse up to 999 others."""
    engine.load_program(program("one"), NOW)
    token = engine.decide(ASK).placements[0].offers[0].token
    sent = [Outcome(token, "shown"), Outcome(token, "clicked", at_us=-(10**18)), Outcome(token, "accepted")]
    first = engine.record(sent)
    assert [result.status for result in first] == [OutcomeStatus.APPLIED, OutcomeStatus.REFUSED, OutcomeStatus.APPLIED]
    assert isinstance(first[1].error, BadValue)
    profile = engine.store.profile(WHO)
    assert profile is not None
    assert len(profile.contacts) == 2
    assert [result.status for result in engine.record(sent[1:2])] == [OutcomeStatus.REFUSED]
    again = [result.status for result in engine.record(sent)]
    assert again == [OutcomeStatus.DUPLICATE, OutcomeStatus.REFUSED, OutcomeStatus.DUPLICATE]


def test_an_outcome_after_the_instance_expired_is_refused_by_name_and_a_late_report_of_an_earlier_one_is_not(
    engine: Engine, clock: Clock
) -> None:
    engine.load_program(program("first"), NOW)
    token = engine.decide(ASK).placements[0].offers[0].token
    clock.now = NOW + 3 * DAY
    (late,) = engine.record([Outcome(token, "shown")])
    assert late.status is OutcomeStatus.UNKNOWN
    assert "expired" in str(late.error)
    (reported,) = engine.record([Outcome(token, "shown", at_us=NOW + DAY)])
    assert reported.status is OutcomeStatus.APPLIED


def test_a_restart_serves_what_served(tmp_path: Path) -> None:
    for turn in range(2):
        with Store.open(tmp_path / "store") as store:
            engine = Engine(store, Registry(None))
            if turn == 0:
                engine.load_program(program("first"), NOW)
            assert offer_of(engine) == "first"
            assert engine.plan.version == "tiny@1"
            engine.close()
