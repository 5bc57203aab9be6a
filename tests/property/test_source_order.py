"""What sources say of a customer comes to one answer, whatever order it arrives in, by whatever way, and however often.

The oracle is told the same in order of time, each once. Times of one source differ, for one at the same microsecond is a
correction and therefore does depend on what came first. What a source said before is held against all that it said.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from core.decision import Identifier
from core.hub import mutations
from core.hub.imports import IdentifierColumn, ImportColumns, ValueColumn
from core.hub.mutations import Cell, Join, Upsert
from core.hub.store import Store
from core.programs.source import check, read
from core.schema import AnyValue, Money
from tests.oracle_hub import OracleHub

SOURCES = ("billing", "crm", "web")
PROGRAM = """
program: sources
currency: EUR
schema:
  namespaces: {crm: {trust: 9}, cookie: {}}
  attributes:
    city: {type: string, sources: [billing, crm, web]}
    age: {type: int, sources: [web, crm, billing], rule: latest}
    tier: {type: enum, labels: [low, high], sources: [crm, web, billing]}
    balance: {type: money, sources: [billing, crm, web], rule: sum}
    points: {type: int, sources: [billing, crm, web], rule: max}
    tags: {type: set, sources: [billing, crm, web], rule: union}
    vip: {type: bool, sources: [crm, billing, web]}
channels: {web: {placements: {home: {slots: 1}}}}
groups: {all: {}}
offers:
  - {offer: one, group: all, propensity: 0.5, value: 1, treatments: {web.home: {title: One}}}
"""
CHECKED = check(read({"program.yaml": PROGRAM.encode()}))
NAMES = tuple(CHECKED.schema.attributes)
A, B = Identifier("crm", "c1"), Identifier("cookie", "k1")


@dataclass(frozen=True)
class Said:
    """One statement."""

    who: Identifier
    source: str
    at_us: int
    values: dict[str, AnyValue | None]


def value(chance: random.Random, name: str) -> AnyValue | None:
    if chance.random() < 0.2:
        return None
    values: dict[str, AnyValue] = {
        "city": chance.choice(("Porto", "Lisboa", "Évora", "")), "age": chance.randrange(99),
        "tier": chance.choice(("low", "high")), "balance": Money(chance.randrange(-999, 999), "EUR"),
        "points": chance.randrange(-5, 5),
        "tags": frozenset(chance.sample("abcdef", chance.randrange(4))), "vip": chance.random() < 0.5,
    }  # fmt: skip
    return values[name]


def statements(chance: random.Random) -> list[Said]:
    times = chance.sample(range(1, 1000), 12)
    return [
        Said(
            chance.choice((A, B)), chance.choice(SOURCES), at,
            {name: value(chance, name) for name in chance.sample(NAMES, chance.randrange(1, len(NAMES)))},
        )
        for at in times
    ]


def previous(said: list[Said], name: str, source: str) -> tuple[int | None, AnyValue | None]:
    """When a source last said something else of an attribute than it says now, and what."""
    told = [(one.at_us, one.values[name]) for one in sorted(said, key=lambda one: one.at_us)
            if one.source == source and name in one.values]
    other = [each for each in told if each[1] != told[-1][1]]
    return other[-1] if other else (None, None)


def state(store: Store, who: Identifier) -> dict[str, tuple[object, ...]]:
    found = store.provenance([who])
    assert found is not None
    return {
        each.attribute: (each.value, each.rule.value, [(one.source, one.at_us, one.value) for one in each.origins])
        for each in found
    }


@pytest.mark.parametrize("round_", range(int(os.environ.get("RAPPORT_SOURCES_ROUNDS", "12"))))
def test_any_order_of_the_same_statements_gives_the_same_answer(tmp_path: Path, round_: int) -> None:
    seed = int(os.environ.get("RAPPORT_SEED", "20261126")) + round_
    print(f"seed {seed}")
    chance = random.Random(seed)
    said = statements(chance)
    join = chance.random() < 0.5
    hub = OracleHub(CHECKED)
    for one in sorted(said, key=lambda one: one.at_us):
        hub.upsert([one.who], one.values, one.at_us, one.source)
    if join:
        hub.join([A, B])
    entries = []
    for order in range(3):
        with Store.open(tmp_path / str(order)) as store:
            store.declare(CHECKED.schema, ["one"], ["web"])
            # Both exist from the start, so that the order decides no number.
            for who in (A, B):
                store.apply(Upsert(identifiers=(who,), at_us=0))
            told = chance.sample(said, len(said))
            joined = chance.randrange(len(told)) if join and order else len(told)
            for place, one in enumerate(told):
                if join and place == joined:
                    store.apply(Join(identifiers=(A, B), at_us=1))
                cells: dict[str, Cell] = mutations.cells(one.values)
                for _ in range(chance.choice((1, 1, 2))):
                    store.apply(Upsert(identifiers=(one.who,), attributes=cells, source=one.source, at_us=one.at_us))
            if join:
                store.apply(Join(identifiers=(A, B), at_us=1))
            for who in (A, B):
                shown = state(store, who)
                for name in NAMES:
                    held, rule, origins = hub.provenance([who], name)
                    assert shown.get(name, (None, rule, [])) == (held, rule, origins), f"{name}, order {order}"
                theirs = [one for one in said if join or one.who == who]
                for each in store.provenance([who]) or ():
                    for origin in each.origins:
                        before = (origin.previous_at_us, origin.previous)
                        assert before == previous(theirs, each.attribute, origin.source), each
                profile = store.profile([who])
                assert profile is not None
                assert profile.attributes == {name: each[0] for name, each in shown.items() if each[0] is not None}
            with store.environment.reader() as reader:
                entries.append(list(reader.items("origins")))
            store.verify()
    assert entries[0] == entries[1] == entries[2], "equal contents are equal bytes"


def test_an_imported_row_says_what_the_same_upsert_says(tmp_path: Path) -> None:
    """An import of columns with sources goes row by row; here it meets newer, older and repeated statements."""
    def texts(*cells: str) -> tuple[bytes, bytes]:
        data = [cell.encode() for cell in cells]
        ends = [sum(map(len, data[: n + 1])) for n in range(len(data))]
        return b"".join(end.to_bytes(4, "little") for end in ends), b"".join(data)

    rows = (("c1", "Porto", 4), ("c2", "", 7), ("c1", "Faro", 5), ("c3", "Braga", -(2**63)))
    with Store.open(tmp_path / "bulk") as bulk, Store.open(tmp_path / "single") as single:
        for store in (bulk, single):
            store.declare(CHECKED.schema, ["one"], ["web"])
            store.apply(Upsert(identifiers=(Identifier("crm", "c2"),), attributes={"city": "Old"}, source="web", at_us=50))
            store.apply(Upsert(identifiers=(Identifier("crm", "c1"),), attributes={"age": 9}, source="crm", at_us=500))
        imported = ImportColumns(
            source="crm", at_us=100, rows=len(rows),
            identifiers=(IdentifierColumn("crm", *texts(*(row[0] for row in rows))),),
            columns=(
                ValueColumn("city", *texts(*(row[1] for row in rows))),
                ValueColumn("age", b"".join(row[2].to_bytes(8, "little", signed=True) for row in rows)),
            ),
        )
        first = bulk.apply(imported)
        assert (first.created, first.changed, first.unchanged, first.refused) == (1, 3, 0, ())
        again = bulk.apply(imported)
        # The two rows of c1 say different things of one moment: each corrects the other.
        assert (again.created, again.changed, again.unchanged) == (0, 2, 2)
        for _ in range(2):
            for crm, city, age in rows:
                cells: dict[str, Cell] = {"city": city} if city else {}
                if age > -(2**63):
                    cells["age"] = age
                single.apply(Upsert(identifiers=(Identifier("crm", crm),), attributes=cells, source="crm", at_us=100))
        for crm in ("c1", "c2", "c3"):
            who = Identifier("crm", crm)
            assert state(bulk, who) == state(single, who)
        # c1's age is that of the later statement; the older import changes nothing.
        assert state(bulk, Identifier("crm", "c1"))["age"] == (9, "latest", [("crm", 500, 9)])
