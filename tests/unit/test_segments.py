"""Who is in a segment: counted and listed as an oracle does one by one, and watched, with a clock that tests move."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from core import limits
from core.decision import DecideRequest, Event, Identifier
from core.errors import Draining, Overloaded, UnknownName
from core.hub.mutations import Erase
from core.importing import mapping
from core.importing.importer import Importer
from core.segments import Change, Segments, Watch, of_requests
from core.sweep import Sweep
from tests.engine_subject import EngineSubject
from tests.oracle import holds, resolve
from tests.oracle_hub import OracleHub
from tests.property import generate
from tests.property.test_kernel_equals_oracle import enter

SEED = int(os.environ.get("RAPPORT_SEED", "20261126"))
SECOND = 1_000_000
DAY = 86_400 * SECOND
NOW = 1_800_000_000 * SECOND

PROGRAM = """
program: p
schema:
  namespaces: {crm: {trust: 2}, email: {trust: 1}}
  attributes: {age: int}
  facts: {cart: int}
  events: {view: {}}
  purposes: [news]
bands: {age: {of: customer.age, parts: 2}}
segments:
  recent: events.view.count_7d >= 1 && consent.news
  adult: customer.age >= 18
  older: band.age == 2
  filled: facts.cart > 3 || customer.age == 99
channels: {web: {placements: {hero: {slots: 1}}}}
groups: {g: }
offers: [{offer: o, group: g, value: 1, propensity: 0.5, treatments: {web.hero: {a: x}}}]
"""


@pytest.mark.parametrize("seed", range(SEED, SEED + 12))
def test_members_are_those_of_the_oracle(seed: int, tmp_path: Path) -> None:
    """Random programs, their segments over derived values and bands, counted at different moments."""
    source = random.Random(seed)
    world = generate.world(source, offers=2, people=60, requests=0)
    with EngineSubject(tmp_path) as subject:
        subject.load(world.sources, generate.BASE_US)
        program = subject.engine.plan.program
        hub = OracleHub(program)
        numbers = {}
        for person in world.people:
            enter(subject, person)
            generate.fill(hub, person)
            numbers[person.identifiers] = subject.store.customer(person.identifiers)
        subject.refresh(generate.BASE_US)
        hub.refresh(generate.BASE_US)
        for now_us in (generate.BASE_US, generate.BASE_US + 30 * generate.DAY):
            segments = Segments(subject.engine, Sweep(clock_us=lambda: 0), lambda: now_us)  # noqa: B023 - used in this round
            (counted,) = segments.count() if program.segments else [None]
            for name, condition in program.segments.items():
                wanted = sorted(
                    numbers[person.identifiers] or 0
                    for person in world.people
                    if holds(
                        resolve(program, hub.customer(person.identifiers), DecideRequest("", ()), now_us, hub.edges), condition
                    )
                )
                assert [each for listed in segments.members(name) for each in listed.members] == wanted, (
                    f"RAPPORT_SEED={seed}: {name}: {condition.text}"
                )
                assert counted is not None
                assert counted.members[name] == len(wanted)
                assert counted.progress == (len(world.people), len(world.people), 0)


class Watching:
    """A segment of PROGRAM, watched without a thread: `settle` lets the sweep do all that is due."""

    def __init__(self, subject: EngineSubject) -> None:
        self.subject = subject
        subject.clock_us = NOW
        subject.load({"program.yaml": PROGRAM.encode()}, NOW)
        self.sweep = Sweep(clock_us=lambda: subject.clock_us)
        self.segments = Segments(subject.engine, self.sweep, lambda: subject.clock_us)

    def add(self, number: int, age: int | None = None) -> int:
        self.subject.upsert(who(number), {} if age is None else {"age": age}, self.subject.clock_us)
        return self.subject.store.customer(who(number)) or 0

    def settle(self) -> None:
        while True:
            visited, rest = self.sweep.turn()
            if not visited and rest:
                return

    def seen(self, watch: Watch) -> list[tuple[int, bool]]:
        self.settle()
        return [(each.customer, each.entered) for each in watch.take(0)]


def who(number: int) -> tuple[Identifier, ...]:
    return (Identifier("crm", str(number)),)


def test_watch_sees_event_consent_and_mere_time(tmp_path: Path) -> None:
    with EngineSubject(tmp_path) as subject:
        watching = Watching(subject)
        one = watching.add(1)
        subject.consent(who(1), "news", "", True, NOW - DAY)
        watching.add(2)
        with watching.segments.watch("recent") as watch:
            assert watching.seen(watch) == []
            assert watch.members == 0
            # By an event, at once: no round is due, for the clock has not moved.
            subject.tell(who(1), [Event("view", "v1", NOW - DAY, {})], NOW)
            watching.settle()
            assert watch.take(0) == [Change(one, True, NOW)]
            # By a consent that is withdrawn, and given again.
            subject.consent(who(1), "news", "", False, NOW)
            assert watching.seen(watch) == [(one, False)]
            subject.consent(who(1), "news", "", True, NOW + 1)
            assert watching.seen(watch) == [(one, True)]
            # By time: nothing is told of anybody, and after six days the event is a week old.
            subject.clock_us = NOW + 6 * DAY - 1
            assert watching.seen(watch) == []
            subject.clock_us = NOW + 6 * DAY + SECOND
            watching.settle()
            assert watch.take(0) == [Change(one, False, NOW + 6 * DAY + SECOND)]
        watching.settle()
        watching.sweep.stop()


def test_watch_sees_who_is_new_joined_erased_and_a_program_that_says_otherwise(tmp_path: Path) -> None:
    with EngineSubject(tmp_path) as subject:
        watching = Watching(subject)
        first, child = watching.add(1, 40), watching.add(2, 4)
        with watching.segments.watch("adult") as watch, watching.segments.watch("adult") as other:
            assert watching.seen(watch) == []
            assert watch.members == other.members == 1
            second = watching.add(3, 50)
            assert watching.seen(watch) == watching.seen(other) == [(second, True)]
            subject.join([*who(1), *who(3)], NOW)
            assert watching.seen(watch) == [(second, False)]
            subject.store.apply(Erase(identifiers=who(1), at_us=NOW))
            assert watching.seen(watch) == [(first, False)], "no round is due, for the clock has not moved"
            # Another program draws the line elsewhere: who is in now came in by that.
            subject.load({"program.yaml": PROGRAM.replace("age >= 18", "age >= 3").encode()}, NOW)
            subject.clock_us += SECOND
            assert watching.seen(watch) == [(child, True)]
            # And one that knows no such segment ends the watch.
            subject.load({"program.yaml": PROGRAM.replace("adult:", "grown:").encode()}, NOW)
            subject.clock_us += SECOND
            watching.settle()
            with pytest.raises(UnknownName, match="adult"):
                watch.take(0)
        watching.settle()
        watching.sweep.stop()


PROFILES = "mapping: m\nsource: s\nrow: profile\nidentifiers: {crm: who}\nattributes: {age: {column: age}}\n"
EVENTS = "mapping: v\nsource: s\nidentifiers: {crm: who}\nrow: event\nevent: view\nat: day\nkey: who\nfields: {}\n"


@pytest.mark.parametrize("remembered", [100_000, 2])
def test_watch_sees_what_an_import_brings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remembered: int) -> None:
    """Imports write beside the tables by which changes are known, so a watcher learned of their rows with the next round only.

    An import that is faster than the looking has a round begun in place of remembering everybody.
    """
    monkeypatch.setattr("core.segments._REMEMBERED", remembered)

    def bring(how: str, text: str) -> None:
        path = tmp_path / "rows.csv"
        path.write_text(text)
        Importer(subject.store, mapping.parse(how.encode(), "m.yaml", schema), now=lambda: NOW).run(path)

    with EngineSubject(tmp_path) as subject:
        watching = Watching(subject)
        schema = subject.engine.plan.program.schema
        old = watching.add(1, 40)
        subject.consent(who(1), "news", "", True, NOW - DAY)
        with watching.segments.watch("adult") as watch, watching.segments.watch("recent") as recent:
            assert watching.seen(watch) == watching.seen(recent) == []
            bring(PROFILES, "who,age\n1,12\n2,30\n3,31\n4,5\n")
            found = {number: subject.store.customer(who(number)) for number in (2, 3)}
            assert sorted(watching.seen(watch)) == [(old, False), (found[2], True), (found[3], True)]
            # The same again changes nobody.
            bring(PROFILES, "who,age\n1,12\n2,30\n3,31\n4,5\n")
            assert watching.seen(watch) == []
            bring(EVENTS, "who,day\n1,2027-01-14\n2,2027-01-14\n")
            assert watching.seen(recent) == [(old, True)]
        watching.settle()
        watching.sweep.stop()


def test_watch_sees_edges_that_move(tmp_path: Path) -> None:
    """Somebody's band changes because others' values do."""
    with EngineSubject(tmp_path) as subject:
        watching = Watching(subject)
        numbers = [watching.add(number, number) for number in range(1, 5)]
        subject.refresh(NOW)
        with watching.segments.watch("older") as watch:
            assert watching.seen(watch) == []
            assert watch.members == 2
            for number in range(5, 9):
                watching.add(number, number)
            watching.seen(watch)
            subject.refresh(NOW)
            subject.clock_us += SECOND
            assert watching.seen(watch) == [(numbers[2], False), (numbers[3], False)]
        watching.settle()
        watching.sweep.stop()


def test_a_watch_that_is_not_read_ends_instead_of_growing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WATCH_CHANGES", 3)
    with EngineSubject(tmp_path) as subject:
        watching = Watching(subject)
        with watching.segments.watch("adult") as watch:
            assert watching.seen(watch) == []
            for number in range(4):
                watching.add(number, 40)
            watching.settle()
            with pytest.raises(Overloaded, match="changes"):
                watch.take(0)
        watching.settle()
        watching.sweep.stop()


def test_the_end_of_the_sweep_ends_watches(tmp_path: Path) -> None:
    with EngineSubject(tmp_path) as subject:
        watching = Watching(subject)
        with watching.segments.watch("adult") as watch:
            watching.settle()
            watching.sweep.stop()
            with pytest.raises(Draining):
                watch.take(0)


def test_what_only_requests_have_is_told(tmp_path: Path) -> None:
    with EngineSubject(tmp_path) as subject:
        watching = Watching(subject)
        watching.add(1, 99)
        watching.add(2, 30)
        conditions = watching.segments.conditions()
        assert {name: of_requests(each) for name, each in conditions.items()} == {
            "recent": [], "adult": [], "older": [], "filled": ["facts.cart"]
        }
        (counted,) = watching.segments.count("filled")
        assert counted.members == {"filled": 1}
        with pytest.raises(UnknownName, match=r"no segment 'adlt'.") as caught:
            list(watching.segments.members("adlt"))
        assert caught.value.hint == "Did you mean 'adult'?"
        watching.sweep.stop()


@pytest.mark.damages("an identifier is damaged")
def test_who_is_damaged_is_left_out_and_told(tmp_path: Path) -> None:
    """One spoilt record must not keep the others from being counted, nor bands from being made."""
    with EngineSubject(tmp_path) as subject:
        watching = Watching(subject)
        for number in range(1, 5):
            watching.subject.upsert([Identifier("crm", f"person-{2 * number}")], {"age": 20 + number}, NOW)
        watching.sweep.stop()
    file = tmp_path / "store" / "data.mdb"
    whole = file.read_bytes()
    assert b"person-4" in whole
    # Entries keep their order: where it is lost, the store does not open (tests/unit/test_hub_pages.py).
    file.write_bytes(whole.replace(b"person-4", b"person-5"))
    (tmp_path / "models").rmdir()
    with EngineSubject(tmp_path) as subject:
        subject.clock_us = NOW
        segments = Segments(subject.engine, Sweep(clock_us=lambda: NOW), lambda: NOW)
        (counted,) = segments.count("adult")
        assert counted.progress == (4, 4, 1)
        assert counted.members == {"adult": 3}
        (listed,) = segments.members("adult")
        assert listed.members == [1, 3, 4]
        subject.refresh(NOW)
        kept = subject.engine.bands()["age"]
        assert kept is not None
        assert (kept.customers, kept.edges) == (3, (23.0,))
