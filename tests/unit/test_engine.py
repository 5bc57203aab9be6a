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

from core import limits
from core.decision import DecideRequest, Identifier, PlacementRequest
from core.engine import Engine
from core.errors import BadToken, BadValue, HistoryFull, NoProgram, NotFound, ProgramError
from core.hub import mutations
from core.hub.store import Store
from core.inference.registry import Registry
from core.outcomes import Outcome, OutcomeStatus
from core.programs.program import products_of

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


def test_the_products_a_program_names_are_those_that_offers_sell_and_rules_ask_for(tmp_path: Path, clock: Clock) -> None:
    source = program("dear", "!cases.fault['tv']")["program.yaml"].replace(
        b"  attributes:", b"  cases: [fault]\n  attributes:").replace(b"    group: all\n", b"    group: all\n    product: dsl\n")
    with Store.open(tmp_path / "store") as store:
        (tmp_path / "models").mkdir()
        engine = Engine(store, Registry(tmp_path / "models"), clock_us=clock)
        assert engine.products() == frozenset()
        engine.load_program({"program.yaml": source}, NOW)
        assert engine.products() == products_of(engine.plan.program) == {"dsl", "tv"}
        engine.load_program(program("dear"), NOW)
        assert engine.products() == frozenset()
        engine.close()


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
    # It went to the next lower number, whatever had decided: from 1, loaded again, to nowhere.
    assert engine.rollback_program("", NOW + 3) == "tiny@2"
    engine.load_program(program("third"), NOW + 4)
    engine.load_program(program("first"), NOW + 5)
    assert engine.rollback_program("", NOW + 6) == "tiny@3"
    assert offer_of(engine) == "third"
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


def test_an_outcome_is_not_dated_before_its_decision(engine: Engine, clock: Clock) -> None:
    """A caller's clock in another zone, or a wish to report on an expired token, made outcomes older than their decision."""
    engine.load_program(program("first"), NOW)
    token = engine.decide(ASK).placements[0].offers[0].token
    clock.now = NOW + 3 * DAY
    (early,) = engine.record([Outcome(token, "shown", at_us=NOW - limits.AHEAD_US - 1)])
    assert early.status is OutcomeStatus.REFUSED
    assert isinstance(early.error, BadValue)
    assert "is 2026-09-21T14:08:19Z, before" in early.error.message
    assert "made for 2026-09-21T14:13:20Z" in early.error.message
    (skewed,) = engine.record([Outcome(token, "shown", at_us=NOW - limits.AHEAD_US)])
    assert skewed.status is OutcomeStatus.APPLIED


def test_late_reports_end_400_days_after_the_instance_expired(engine: Engine, clock: Clock) -> None:
    """What happened in time could be reported for ever, so a token in an old log could still change a history."""
    engine.load_program(program("first"), NOW)
    token = engine.decide(ASK).placements[0].offers[0].token
    clock.now = NOW + 2 * DAY + limits.LATE_US + 1
    (late,) = engine.record([Outcome(token, "shown", at_us=NOW + DAY)])
    assert late.status is OutcomeStatus.UNKNOWN
    assert "expired at 2026-09-23T14:13:20Z; late reports of it were taken until 2027-10-28T14:13:20Z" in str(late.error)
    clock.now -= 1
    (last,) = engine.record([Outcome(token, "shown", at_us=NOW + DAY)])
    assert last.status is OutcomeStatus.APPLIED


def test_what_is_decided_in_advance_happens_from_its_as_of_on(engine: Engine, clock: Clock) -> None:
    """A mailing decided today for tomorrow: tomorrow's caps were asked, so today it cannot have been shown."""
    engine.load_program(program("first"), NOW)
    asked = DecideRequest(ASK.channel, ASK.placements, WHO, as_of_us=NOW + DAY, deferred=True)
    token = engine.decide(asked).placements[0].offers[0].token
    (early,) = engine.record([Outcome(token, "shown")])
    assert early.status is OutcomeStatus.REFUSED
    clock.now = NOW + 5 * DAY // 2
    (done,) = engine.record([Outcome(token, "shown")])
    assert done.status is OutcomeStatus.APPLIED


def test_an_outcome_older_than_all_of_a_full_history_is_refused_by_name(engine: Engine, clock: Clock) -> None:
    """It was answered APPLIED and kept nowhere, so no cap ever saw it; sent again it was APPLIED again."""
    engine.load_program(program("first"), NOW)
    engine.store.apply(mutations.Upsert(identifiers=WHO, attributes={}, at_us=NOW))
    token = engine.decide(ASK).placements[0].offers[0].token
    clock.now = NOW + DAY
    shown = [Outcome(token, "shown", NOW + 1000 + at, key=str(at)) for at in range(limits.CONTACTS_PER_CUSTOMER)]
    for start in range(0, len(shown), 1000):
        assert {one.status for one in engine.record(shown[start : start + 1000])} == {OutcomeStatus.APPLIED}
    before = engine.store.profile(WHO)
    for _ in range(2):
        (old,) = engine.record([Outcome(token, "clicked", NOW + 999)])
        assert old.status is OutcomeStatus.REFUSED
        assert isinstance(old.error, HistoryFull)
        assert "2026-09-21T14:13:20Z" in str(old.error)
        assert engine.store.profile(WHO) == before
    # In one call with a newer one, for which the oldest makes room.
    sent = [Outcome(token, "clicked", NOW + 999), Outcome(token, "accepted", NOW + DAY), Outcome(token, "clicked", NOW + 999)]
    refused, applied = OutcomeStatus.REFUSED, OutcomeStatus.APPLIED
    assert [one.status for one in engine.record(sent)] == [refused, applied, refused]
    after = engine.store.profile(WHO)
    assert before is not None
    assert after is not None
    assert len(after.contacts) == len(before.contacts)
    assert (after.contacts[0].at_us, after.contacts[-1].at_us) == (NOW + 1001, NOW + DAY)


def test_a_restart_serves_what_served(tmp_path: Path) -> None:
    for turn in range(2):
        with Store.open(tmp_path / "store") as store:
            engine = Engine(store, Registry(None))
            if turn == 0:
                engine.load_program(program("first"), NOW)
            assert offer_of(engine) == "first"
            assert engine.plan.version == "tiny@1"
            engine.close()
