"""Who is in a segment, over all customers, is who an oracle finds by asking one by one: while customers are joined, parted,
erased, move between households and are told of, and while the edges of bands stay behind or are made anew.

Programs are generated; each gets bands of few small numbers besides, whose values often are the edges themselves, and a segment
for every part of every band. RAPPORT_CASES sets how many worlds (default 6), RAPPORT_SEED the first seed.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import yaml

from core.decision import DecideRequest, Event, Identifier
from core.errors import IdentityConflict
from core.hub.mutations import Erase, Join
from core.segments import Progress, Segments
from core.sweep import Sweep
from tests.engine_subject import EngineSubject
from tests.oracle import holds, resolve
from tests.oracle_expressions import evaluate
from tests.oracle_hub import OracleHub
from tests.property import generate
from tests.property.test_kernel_equals_oracle import enter

WORLDS = max(1, min(int(os.environ.get("RAPPORT_CASES", "6")), 300))
SEED = int(os.environ.get("RAPPORT_SEED", "20261127"))
PEOPLE = 32
ROUNDS = 5
NOBODY_ASKS = DecideRequest("", ())
BANDS = {
    "bought": {"of": "events.purchase.count", "parts": 3},
    "ages": {"of": "customer.age", "parts": 4},
    "homes": {"of": "household.size", "parts": 2},
    "fresh": {"of": "events.view.count_30d", "parts": 5},
}
Who = tuple[Identifier, ...]


def with_bands(sources: Mapping[str, bytes]) -> dict[str, bytes]:
    """The program with bands of small numbers, and segments of every part of each and of roles."""
    program = yaml.safe_load(sources["program.yaml"])
    bands = program.setdefault("bands", {})
    bands |= BANDS
    segments = program.setdefault("segments", {})
    for name, band in bands.items():
        segments |= {f"{name}_is_{part}": f"band.{name} == {part}" for part in range(1, band["parts"] + 1)}
    segments |= {f"the_{role}": f"household.role == '{role}'" for role in generate.LABELS["role"]}
    segments["alone"] = "household.size == 1 || !has(customer.age)"
    program.setdefault("derived", {})["pace"] = "events.purchase.count_8w * 2 + events.view.count_7d"
    segments["quick"] = "derived.pace >= 2 && band.bought >= 2"
    return {**sources, "program.yaml": generate.dump(program)}


class Both:
    """The engine and the oracle, told the same."""

    def __init__(self, subject: EngineSubject, world: generate.World, chance: random.Random) -> None:
        self.subject, self.chance = subject, chance
        self.now_us = generate.BASE_US
        subject.load(with_bands(world.sources), self.now_us)
        self.program = subject.engine.plan.program
        self.hub = OracleHub(self.program)
        self.people = [person.identifiers for person in world.people]
        self.world = world
        self.undoable: list[Who] = []
        self.did: Counter[str] = Counter()
        self.told = 0
        for person in world.people:
            enter(subject, person)
            generate.fill(self.hub, person)

    def alive(self) -> list[Who]:
        return [who for who in self.people if self.hub.find(who)]

    def change(self) -> str:
        """Tell both of something; what it was."""
        chance, hub, subject = self.chance, self.hub, self.subject
        who = chance.choice(self.alive())
        kind = chance.choice(("join", "join", "unmerge", "unmerge", "erase", "upsert", "tell", "tell", "enter", "leave"))
        match kind:
            case "join":
                # Most have an identifier that a person has one of, so most pairs are refused.
                return next((did for _ in range(8) if (did := self.join(who, chance.choice(self.alive()))) == "join"), "no join")
            case "unmerge":
                if not self.undoable:
                    return "nothing to undo"
                joined = self.undoable.pop()
                subject.unmerge(joined, self.now_us)
                hub.unmerge(joined)
            case "erase":
                if len(self.alive()) < PEOPLE // 2:
                    return "too few left"
                subject.store.apply(Erase(identifiers=who, request="r", at_us=self.now_us))
                hub.erase(who)
                self.undoable.clear()
            case "upsert":
                profile = chance.choice(self.world.people).profile
                given = {name: value for name, value in profile.attributes.items() if chance.random() < 0.5}
                subject.upsert(who, given, self.now_us)
                hub.upsert(who, given)
            case "tell":
                events = chance.choice(self.world.people).profile.events[:2]
                if not events:
                    return "no event"
                # Each at a moment of its own, for which of two of one moment is the last is nobody's promise.
                self.told += len(events)
                now = [
                    Event(one.type, f"n{self.told - place}", self.now_us - (self.told - place) * 1_000, one.fields)
                    for place, one in enumerate(events)
                ]
                subject.tell(who, now, self.now_us)
                hub.tell(who, now, self.now_us)
            case "enter":
                home = next(one.home for one in chance.sample(self.world.people, PEOPLE) if one.home is not None)
                role = chance.choice(("", *generate.LABELS["role"]))
                subject.set_membership(who, home.identifiers[:1], role, self.now_us)
                hub.set_membership(who, home.identifiers[:1], role, self.now_us)
            case "leave":
                subject.leave_household(who, self.now_us)
                hub.leave_household(who, self.now_us)
        return kind

    def join(self, one: Who, other: Who) -> str:
        found = [self.hub.customer(who) for who in (one, other)]
        times = [{event.at_us for event in each.events} for each in found if each is not None]
        if self.hub.find(one) == self.hub.find(other) or times[0] & times[1]:
            return "no join"
        named = (*one[:1], *other[:1])
        try:
            self.hub.join(named)
        except IdentityConflict:
            with pytest.raises(IdentityConflict):
                self.subject.join(named, self.now_us)
            return "refused join"
        assert self.subject.store.apply(Join(identifiers=named, at_us=self.now_us)).merged
        self.undoable.append(named)
        return "join"

    def on_an_edge(self) -> int:
        """How many values of bands are edges: there it shows which side of one its own belongs to."""
        found = 0
        for who in self.alive():
            moment = resolve(self.program, self.hub.customer(who), NOBODY_ASKS, self.now_us, self.hub.edges)
            for name, band in self.program.bands.items():
                found += evaluate(band.of.root, moment.values(band.of)) in self.hub.edges.get(name, ())
        return found

    def compare(self, where: str) -> None:
        segments = Segments(self.subject.engine, Sweep(clock_us=lambda: 0), lambda: self.now_us)
        wanted: dict[str, set[int]] = {name: set() for name in self.program.segments}
        for who in self.people:
            number, customer = self.subject.store.customer(who), self.hub.customer(who)
            assert (number is None) == (customer is None), where
            moment = resolve(self.program, customer, NOBODY_ASKS, self.now_us, self.hub.edges)
            for name, condition in self.program.segments.items():
                if number is not None and holds(moment, condition):
                    wanted[name].add(number)
        (counted,) = segments.count()
        people = len({self.hub.find(who) for who in self.alive()})
        assert counted.progress == Progress(people, people, 0), where
        for name, members in wanted.items():
            listed: Sequence[int] = [each for step in segments.members(name) for each in step.members]
            assert listed == sorted(members), f"{where}, {name}: {self.program.segments[name].text}"
            assert counted.members[name] == len(members), where


@pytest.mark.parametrize("seed", range(SEED, SEED + WORLDS))
def test_counting_and_listing_find_whom_the_oracle_finds(seed: int, tmp_path: Path) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    with EngineSubject(tmp_path) as subject:
        both = Both(subject, generate.world(chance, offers=2, people=PEOPLE, requests=0), chance)
        edges = 0
        for number in range(ROUNDS):
            if number != 2:
                # Once they stay behind what was told since: a walk goes by the edges that there are.
                subject.refresh(both.now_us)
                both.hub.refresh(both.now_us)
            edges += both.on_an_edge()
            both.compare(f"RAPPORT_SEED={seed}, round {number}, {dict(both.did)}")
            both.now_us += chance.choice((0, generate.HOUR, generate.DAY, 7 * generate.DAY))
            both.compare(f"RAPPORT_SEED={seed}, after round {number}, {dict(both.did)}")
            for _ in range(15):
                both.did[both.change()] += 1
        assert edges, "no value was an edge: the test proves less"
        assert both.did.keys() & {"join", "erase"}, both.did
        assert both.did.keys() & {"tell", "enter", "leave", "upsert"}, both.did
