"""`Engine.tell`: attributes and events of one call are two changes of the store, sent together, each refused alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from core import limits
from core.decision import DecideRequest, Event, Identifier, PlacementRequest
from core.errors import BadValue, HistoryFull, Overloaded, UnknownName
from core.hub.mutations import Mutation, RecordedEvent, RecordEvents, Upsert
from core.outcomes import Outcome, OutcomeStatus, TellResult
from core.reports import consented
from tests.engine_subject import EngineSubject

NOW_US = 1_750_000_000_000_000
BOUND_SECONDS = 60
WHO = (Identifier("crm", "1"),)
VISIT = Event("visit", key="v1")
PROGRAM = b"""
program: told
schema:
  namespaces: {crm: {}}
  attributes: {age: int}
  events: {visit: {page: string}}
channels:
  web: {placements: {hero: {slots: 1}}}
groups:
  all: {}
offers:
  - {offer: plain, group: all, propensity: 0.1, value: 10, treatments: {web.hero: {title: Plain}}}
"""


@pytest.fixture
def subject(tmp_path: Path) -> Iterator[EngineSubject]:
    with EngineSubject(tmp_path) as made:
        made.load({"program.yaml": PROGRAM}, NOW_US)
        made.clock_us = NOW_US
        yield made


def test_both_changes_are_sent_before_either_is_waited_for(
    subject: EngineSubject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other, a call that told both took two commits; it now takes the one that they share."""
    store = subject.store
    held, release = threading.Event(), threading.Event()

    def hold(future: Future[Any]) -> None:
        held.set()
        release.wait(BOUND_SECONDS)

    sent: Queue[Mutation] = Queue()
    submit = store.submit

    def noted(mutation: Mutation) -> Future[Any]:
        future = submit(mutation)
        sent.put(mutation)
        return future

    # The thread that commits is kept in a callback, so nothing sent from here on is done until it is let go.
    submit(Upsert(identifiers=(Identifier("crm", "other"),), attributes={}, at_us=NOW_US)).add_done_callback(hold)
    assert held.wait(BOUND_SECONDS)
    commits = store.statistics()["commits"]
    monkeypatch.setattr(store, "submit", noted)
    told: list[TellResult] = []
    caller = threading.Thread(target=lambda: told.append(subject.engine.tell(WHO, [VISIT], {"age": 7}, "", None)))
    caller.start()
    try:
        assert [type(sent.get(timeout=BOUND_SECONDS)) for _ in range(2)] == [Upsert, RecordEvents]
    finally:
        release.set()
        caller.join()
    assert told == [TellResult(1, 0, True)]
    assert store.statistics()["commits"] == commits + 1
    profile = store.profile(WHO)
    assert profile is not None
    assert (profile.attributes["age"], [event.type for event in profile.events]) == (7, ["visit"])


def test_a_refused_attribute_leaves_the_events_and_telling_again_adds_none(subject: EngineSubject) -> None:
    with pytest.raises(UnknownName, match="shoe_size"):
        subject.engine.tell(WHO, [VISIT], {"shoe_size": 44}, "", None)
    profile = subject.store.profile(WHO)
    assert profile is not None
    assert [event.type for event in profile.events] == ["visit"]
    assert subject.engine.tell(WHO, [VISIT], {"age": 7}, "", None) == TellResult(0, 1, False)


def test_an_error_is_told_when_nothing_moves_any_more(subject: EngineSubject, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue is full for the second change: the first is done, durable and visible, when the caller hears of it."""
    submit = subject.store.submit
    firsts: list[Future[Any]] = []

    def full_for_events(mutation: Mutation) -> Future[Any]:
        if isinstance(mutation, RecordEvents):
            raise Overloaded("writing", 50)
        firsts.append(submit(mutation))
        return firsts[-1]

    monkeypatch.setattr(subject.store, "submit", full_for_events)
    with pytest.raises(Overloaded):
        subject.engine.tell(WHO, [VISIT], {"age": 7}, "", None)
    assert [future.done() for future in firsts] == [True]
    profile = subject.store.profile(WHO)
    assert profile is not None
    assert profile.attributes["age"] == 7


def test_a_refused_decision_keeps_none_of_its_events(subject: EngineSubject) -> None:
    """They used to be handed to the store before the request was looked at, so a mistyped placement left them there."""
    asked = DecideRequest("web", (PlacementRequest("nowhere"),), WHO, events=(VISIT,))
    with pytest.raises(UnknownName):
        subject.engine.decide(asked)
    subject.store.apply(Upsert(identifiers=WHO, attributes={}, at_us=NOW_US))
    profile = subject.store.profile(WHO)
    assert profile is not None
    assert not profile.events
    subject.engine.decide(DecideRequest("web", (PlacementRequest("hero"),), WHO, events=(VISIT,)))
    subject.store.apply(Upsert(identifiers=WHO, attributes={}, at_us=NOW_US))
    profile = subject.store.profile(WHO)
    assert profile is not None
    assert [event.type for event in profile.events] == ["visit"]


def test_a_time_in_the_future_is_refused_also_as_the_default_of_events(subject: EngineSubject) -> None:
    """The call's own time was trusted, and events were measured against it: one of the year 3000 stayed the newest."""
    ahead = NOW_US + limits.AHEAD_US + 1
    with pytest.raises(BadValue, match="future"):
        subject.engine.tell(WHO, [], {"age": 7}, "", ahead)
    with pytest.raises(BadValue, match="future"):
        subject.engine.tell(WHO, [Event("visit", "v2", ahead)], {}, "", NOW_US)
    assert subject.store.profile(WHO) is None
    assert subject.engine.tell(WHO, [VISIT], {}, "", ahead - 1).applied == 1


def test_what_a_clock_that_goes_ahead_tells_counts_in_the_next_decision(subject: EngineSubject) -> None:
    """Outcomes and events of up to five minutes ahead were acknowledged, and no cap or aggregate saw them until then."""
    ahead = NOW_US + limits.AHEAD_US
    subject.engine.tell(WHO, [Event("visit", "v1", ahead)], {"age": 7}, "", NOW_US)
    request = DecideRequest("web", (PlacementRequest("hero", None),), WHO, events=(Event("visit", "v2", ahead),))
    token = subject.engine.decide(request).placements[0].offers[0].token
    (shown,) = subject.engine.record([Outcome(token, "shown", at_us=ahead)])
    assert shown.status is OutcomeStatus.APPLIED
    profile = subject.store.profile(WHO)
    assert profile is not None
    assert {event.at_us for event in profile.events} == {NOW_US}
    assert {contact.at_us for contact in profile.contacts} == {NOW_US}


def test_a_consent_that_is_sent_again_by_a_clock_that_goes_ahead_undoes_no_withdrawal() -> None:
    """Each time it was taken for now, so the repeat was newer than the withdrawal that came between."""
    ahead = NOW_US + 4 * 60_000_000
    first = consented(ahead, NOW_US, "at", granted=True)
    withdrawn = consented(None, NOW_US + 60_000_000, "at", granted=False)
    again = consented(ahead, NOW_US + 120_000_000, "at", granted=True)
    assert first == again < withdrawn
    # A withdrawal is of now at the latest, and what is not ahead is as it was said.
    assert consented(ahead, NOW_US, "at", granted=False) == NOW_US
    assert consented(NOW_US - 1, NOW_US, "at", granted=True) == NOW_US - 1
    with pytest.raises(BadValue, match="future"):
        consented(NOW_US + limits.AHEAD_US + 1, NOW_US, "at", granted=True)


def test_a_key_too_long_refuses_its_own_outcome_only(subject: EngineSubject) -> None:
    """It raised out of the commit and took every other report of the call with it."""
    request = DecideRequest("web", (PlacementRequest("hero", None),), WHO)
    token = subject.engine.decide(request).placements[0].offers[0].token
    long = "k" * (limits.STRING_BYTES + 1)
    results = subject.engine.record([Outcome(token, "clicked", key=long), Outcome(token, "shown")])
    assert [result.status for result in results] == [OutcomeStatus.REFUSED, OutcomeStatus.APPLIED]


def test_events_older_than_all_of_a_full_list_are_told_as_such_and_change_nothing(subject: EngineSubject) -> None:
    """They were told as counted and kept nowhere, and so counted again each time they were told."""
    visits = [
        RecordedEvent(type="visit", key=str(at), at_us=NOW_US - limits.EVENTS_PER_CUSTOMER + at)
        for at in range(limits.EVENTS_PER_CUSTOMER)
    ]
    subject.store.apply(RecordEvents(identifiers=WHO, events=tuple(visits)))
    before = subject.store.profile(WHO)
    old = Event("visit", "old", visits[0].at_us - 1)
    for _ in range(2):
        assert subject.engine.tell(WHO, [old], {}, "", None) == TellResult(0, 0, False, 1)
        assert subject.store.profile(WHO) == before
    known = Event("visit", "7", visits[7].at_us)
    assert subject.engine.tell(WHO, [old, known, VISIT], {}, "", None) == TellResult(1, 1, False, 1)
    # Sent along with a decision it counts in that one; that nothing is kept of it is told to whoever listens.
    hero = (PlacementRequest("hero"),)
    subject.engine.decide(DecideRequest("web", hero, WHO, events=(old,)))
    subject.store.apply(Upsert(identifiers=WHO, attributes={}, at_us=NOW_US))
    (lost,) = subject.lost
    subject.lost.clear()
    assert isinstance(lost, HistoryFull)
