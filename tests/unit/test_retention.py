"""Events of a type are kept for as long as the schema's `retention` says, and who comes late is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core import limits
from core.decision import DecideRequest, Event, Identifier, PlacementRequest
from core.errors import EventsLost
from core.hub import retention
from core.hub.mutations import RecordedEvent, RecordEvents
from core.outcomes import TellResult
from core.sweep import NEVER, Retention, Sweep
from tests.engine_subject import EngineSubject

NOW_US = 1_750_000_000_000_000
DAY = 86_400_000_000
WHO = (Identifier("crm", "1"),)


def program(kept: str = "{view: 30d, purchase: 730d}") -> dict[str, bytes]:
    return {"program.yaml": f"""
program: kept
schema:
  namespaces: {{crm: {{}}}}
  events: {{view: {{}}, purchase: {{}}, call: {{}}}}
  retention: {kept}
channels: {{web: {{placements: {{hero: {{}}}}}}}}
groups: {{all: {{}}}}
offers:
  - offer: plain
    group: all
    propensity: 0.1
    value: 10
    treatments: {{web.hero: {{title: "{{{{ events.view.count }}}} {{{{ events.purchase.count }}}} {{{{ events.call.count }}}}"}}}}
""".encode()}


@pytest.fixture
def subject(tmp_path: Path) -> Iterator[EngineSubject]:
    with EngineSubject(tmp_path) as made:
        made.clock_us = NOW_US
        made.load(program(), NOW_US)
        yield made


def keys(subject: EngineSubject, who: tuple[Identifier, ...] = WHO) -> int:
    """How many events are kept."""
    found = subject.store.profile(who)
    return 0 if found is None else len(found.events)


def counts(subject: EngineSubject) -> str:
    request = DecideRequest("web", (PlacementRequest("hero", None),), WHO)
    return str(subject.engine.decide(request).placements[0].offers[0].content["title"])


def test_an_event_past_its_types_retention_is_told_as_too_old_and_not_kept(subject: EngineSubject) -> None:
    edge = NOW_US - 30 * DAY
    told = [Event("view", "1", edge), Event("view", "2", edge + 1), Event("purchase", "3", edge), Event("call", "4", 0)]
    assert subject.engine.tell(WHO, told, {}, "", NOW_US) == TellResult(3, 0, True, 1)
    assert (keys(subject), counts(subject)) == (3, "1 1 1")
    assert subject.engine.tell(WHO, told, {}, "", NOW_US) == TellResult(0, 3, False, 1)
    assert (keys(subject), counts(subject)) == (3, "1 1 1")


def test_old_events_go_with_the_next_one_and_a_list_of_none_is_no_list(subject: EngineSubject) -> None:
    """Only those past their own type's retention; what nobody bounded stays for ever."""
    subject.engine.tell(WHO, [Event("view", "1", NOW_US)], {}, "", NOW_US)
    subject.clock_us = later = NOW_US + 30 * DAY
    assert subject.engine.tell(WHO, [Event("view", "2", NOW_US)], {}, "", later).too_old == 1
    with subject.store.environment.reader() as reader:
        assert list(reader.items("events")) == []
    subject.engine.tell(WHO, [Event("view", "3", later), Event("call", "4", NOW_US)], {}, "", later)
    subject.clock_us = later = later + 31 * DAY
    subject.engine.tell(WHO, [Event("purchase", "5", later)], {}, "", later)
    assert (keys(subject), counts(subject)) == (2, "0 1 1")


def test_the_sweep_takes_old_events_from_the_quiet_in_bounded_steps_and_changes_no_answer(subject: EngineSubject) -> None:
    crowd = [(Identifier("crm", str(number)),) for number in range(10)]
    for number, who in enumerate(crowd):
        views = tuple(RecordedEvent(type="view", key=str(day), at_us=NOW_US - day * DAY) for day in range(number))
        others = (RecordedEvent(type="call", key="c", at_us=1),)
        subject.store.apply(RecordEvents(identifiers=who, events=views + others))
    subject.clock_us = now_us = NOW_US + 27 * DAY
    before = [keys(subject, who) for who in crowd]
    told = counts(subject)
    seen, after = [], 0
    while True:
        step = retention.sweep(subject.store, after, 4, now_us)
        seen.append((step.visited, step.dropped))
        if not (after := step.last):
            break
    # A view of the day before yesterday of then is 29 days old and stays, one more day is 30 and goes.
    assert [keys(subject, who) for who in crowd] == [min(count, 4) for count in before]
    assert [visited for visited, _ in seen] == [4, 4, 2]
    assert sum(dropped for _, dropped in seen) == sum(before) - sum(min(count, 4) for count in before) > 0
    assert counts(subject) == told
    assert retention.sweep_all(subject.store, now_us) == 0
    applied = subject.store.applied
    assert retention.sweep(subject.store, 0, 100, now_us) == retention.Swept(10, 0, 0)
    assert subject.store.applied == applied, "nothing is past any more, and still something was written"


def test_the_servers_sweep_goes_over_all_once_an_hour_and_never_without_retention(subject: EngineSubject) -> None:
    subject.engine.tell(WHO, [Event("view", "1", NOW_US), Event("call", "2", NOW_US)], {}, "", NOW_US)
    task = Retention(subject.store)
    swept = Sweep([task], clock_us=lambda: subject.clock_us)
    assert [swept.turn()[0], swept.turn()[0]] == [1, 0]
    subject.clock_us = later = NOW_US + 30 * DAY
    assert (task.due_us(later), swept.turn()[0], keys(subject)) == (NOW_US + limits.SWEEP_MOVED_US, 1, 1)
    subject.load(program("{}"), later)
    assert task.due_us(later) == NEVER


def test_a_program_that_would_have_events_deleted_says_how_many_and_waits_for_a_yes(subject: EngineSubject) -> None:
    """A 30d that had been 730d went live without a word, and the sweep deleted two years of purchases within the hour."""
    times = [NOW_US - day * DAY for day in (0, 9, 10, 29)]
    told = [Event(kind, str(at), at) for at in times for kind in ("view", "purchase", "call")]
    subject.engine.tell(WHO, told, {}, "", NOW_US)
    subject.clock_us = later = NOW_US + 2 * DAY  # the view of 31 days ago is not kept any more and is nobody's loss
    shorter = program("{view: 12d, purchase: 30d, call: 5d}")
    with pytest.raises(EventsLost) as refused:
        subject.load(shorter, later)
    assert refused.value.message == (
        "The program keeps 'view' for 12 days (30 before: 1 event) and 'purchase' for 30 days (730 before: 1 event) and 'call' "
        "for 5 days (without limit before: 3 events); what is older would be deleted for good."
    )
    assert "--accept-loss" in refused.value.hint
    assert subject.engine.plan.version == "kept@1"
    assert subject.store.catalog.events["call"].retention_us == 0
    assert keys(subject) == 12
    subject.engine.load_program(shorter, later, accept_loss=True)
    assert retention.sweep_all(subject.store, later) == 6, "what was told of, and the view that was past already"
    # Longer again, and the same again: nothing is lost by that.
    assert subject.engine.load_program(program(), later) == "kept@1"
    assert subject.engine.load_program(program(), later) == "kept@1"


def test_returning_to_a_version_with_a_shorter_retention_waits_for_a_yes_too(subject: EngineSubject) -> None:
    subject.load(program("{purchase: 730d}"), NOW_US)
    subject.engine.tell(WHO, [Event("view", "1", NOW_US - 31 * DAY)], {}, "", NOW_US)
    with pytest.raises(EventsLost, match=r"'view' for 30 days \(without limit before: 1 event\)"):
        subject.engine.rollback_program("", NOW_US)
    assert subject.engine.plan.version == "kept@2"
    assert subject.engine.rollback_program("", NOW_US, accept_loss=True) == "kept@1"
    assert subject.engine.tell(WHO, [Event("view", "2", NOW_US)], {}, "", NOW_US).applied == 1
    assert keys(subject) == 1


def test_a_shorter_retention_that_no_event_is_old_enough_for_is_no_loss_and_counting_has_an_end(subject: EngineSubject) -> None:
    subject.engine.tell(WHO, [Event("view", "1", NOW_US - 5 * DAY)], {}, "", NOW_US)
    subject.engine.tell((Identifier("crm", "2"),), [Event("view", "1", NOW_US)], {}, "", NOW_US)
    shorter = subject.engine.validate_program(program("{view: 6d}"))
    assert not subject.engine.losses(shorter, NOW_US)
    known = retention.losses(subject.store, shorter.schema, NOW_US, most=1)
    assert known == retention.Losses((retention.Loss("view", 6 * DAY, 30 * DAY, 0),), complete=False)
    assert retention.losses(subject.store, shorter.schema, NOW_US + 2 * DAY) == retention.Losses(
        (retention.Loss("view", 6 * DAY, 30 * DAY, 1),))


def test_without_retention_nothing_is_looked_at(subject: EngineSubject) -> None:
    subject.engine.tell(WHO, [Event("view", "1", NOW_US)], {}, "", NOW_US)
    subject.load(program("{}"), NOW_US)
    assert retention.sweep(subject.store, 0, 100, NOW_US + 1000 * DAY) == retention.Swept(0, 0, 0)
    assert subject.engine.tell(WHO, [Event("view", "2", 1)], {}, "", NOW_US).too_old == 0

