"""Taking joins back leaves a store as if they had never been: compared with a second store that was never told of them.

Messages name customers by identifiers, as all but reports of tokens do; numbers of customers made meanwhile may differ, so
profiles are compared by the identifiers that lead to them.
"""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from core.decision import Identifier
from core.errors import NotFound, NotUndoable
from core.hub.catalog import Catalog
from core.hub.customer_profile import Profile
from core.hub.imports import IdentifierColumn, ImportColumns, ValueColumn
from core.hub.ingest import ItemReader
from core.hub.mutations import (
    ImportCases,
    ImportedCase,
    IngestBatch,
    Join,
    JoinResult,
    LeaveHousehold,
    Mutation,
    OpenCase,
    Outcome,
    RecordedEvent,
    RecordEvents,
    RecordOutcomes,
    SetConsent,
    SetMembership,
    Unmerge,
    UnmergeResult,
    Upsert,
)
from core.hub.store import Store
from core.schema import EventType, Field, Namespace, Normaliser, Schema, SourceRule, ValueType
from tests.feeds import batch_of

SCHEMA = Schema(
    attributes={
        "age": Field("age", ValueType.INT), "name": Field("name", ValueType.STRING),
        "points": Field("points", ValueType.INT, sources=("a", "b"), rule=SourceRule.SUM),
    },
    events={"visit": EventType("visit", (Field("pages", ValueType.INT), Field("kind", ValueType.ENUM, labels=("x", "y"))))},
    namespaces={"crm": Namespace("crm", trust=9), "email": Namespace("email", Normaliser.LOWER, 5, verified=True),
                "cookie": Namespace("cookie"), "account": Namespace("account", household=True)},
    roles=("owner", "child"),
    purposes=("ads",), case_kinds=("fault",),
)
EVERYBODY = [Identifier(space, f"u{number}") for space in ("crm", "email", "cookie") for number in range(5)]
PLAIN = [one for one in EVERYBODY if not SCHEMA.namespaces[one.namespace].verified]
READER = ItemReader(Catalog().declared(SCHEMA, ["card"], ["web"]))


def texts(cell: str) -> tuple[bytes, bytes]:
    return len(cell.encode()).to_bytes(4, "little"), cell.encode()


def message(chance: random.Random, number: int) -> Mutation:
    who = tuple(chance.sample(EVERYBODY, chance.choice((1, 1, 2, 3))))
    at = number * 10 + chance.randrange(10)
    match chance.randrange(10):
        case 8:
            role = chance.choice(("", "owner", "child"))
            home = (Identifier("account", f"h{chance.randrange(2)}"),)
            return SetMembership(identifiers=who[:1], household=home, role=role, at_us=at)
        case 9:
            # Of somebody known: setting nothing makes him.
            return LeaveHousehold(identifiers=who[:1], at_us=at)
        case 0 | 1:
            return Upsert(
                identifiers=who, attributes={"age": at, "points": chance.randrange(9)}, source=chance.choice("ab"), at_us=at)
        case 2:
            visit = RecordedEvent(type="visit", key=f"k{chance.randrange(30)}", at_us=at, fields={"pages": 1, "kind": "y"})
            return RecordEvents(identifiers=who, events=(visit,)) if chance.random() < 0.5 else fed(chance, at)
        case 3:
            key = f"o{chance.randrange(30)}"
            return RecordOutcomes(outcomes=tuple(
                Outcome(identifiers=(one,), offer="card", outcome="shown", channel="web", at_us=at, key=key) for one in who))
        case 4:
            return SetConsent(identifiers=who, purpose="ads", granted=chance.random() < 0.5, at_us=at)
        case 5:
            key, product = f"c{chance.randrange(9)}", chance.choice(("", "dsl"))
            if chance.random() < 0.5:
                return OpenCase(identifiers=who, kind="fault", key=key, at_us=at, product=product, owner="ann")
            # Of several people: a row is remembered for whom it is about.
            return ImportCases(rows=tuple(
                ImportedCase(identifiers=(one,), kind="fault", key=key, at_us=at, closed_us=at, owner=f"o{at}") for one in who))
        case _:
            # An import of one row, of a profile or an event, as a file brings it.
            identifiers = tuple(
                IdentifierColumn(one.namespace, *texts(one.value)) for one in {one.namespace: one for one in who}.values())
            identifiers = tuple(sorted(identifiers, key=lambda each: -SCHEMA.namespaces[each.namespace].trust))
            whole = at.to_bytes(8, "little")
            if chance.random() < 0.5:
                return ImportColumns(
                    source="a", at_us=at, rows=1, identifiers=identifiers,
                    columns=(ValueColumn("name", *texts(f"n{at}")), *(
                        (ValueColumn("points", whole),) if chance.random() < 0.5 else ())))
            return ImportColumns(
                at_us=at, rows=1, identifiers=identifiers, event="visit", times=whole,
                keys=chance.randrange(30).to_bytes(8, "little"),
                columns=(ValueColumn("pages", whole), ValueColumn("kind", (2).to_bytes(2, "little"))))


def fed(chance: random.Random, at: int) -> IngestBatch:
    """Events of several customers, as a feed brings them; of each only what is his is assigned anew."""
    return batch_of(READER, *(
        (
            chance.sample(PLAIN, chance.choice((1, 2))),
            RecordedEvent(type="visit", key=f"k{chance.randrange(30)}", at_us=at, fields={"pages": 2}),
        )
        for _ in range(1, chance.randrange(2, 8))
    ))


def shown(store: Store) -> list[Profile | None]:
    """Everybody by each identifier, without numbers; identifiers as a set, for their order is that of arrival."""
    found = []
    for one in EVERYBODY:
        profile = store.profile([one])
        if profile is not None:
            order = sorted(profile.identifiers, key=lambda each: (each.namespace, each.value))
            profile = replace(profile, customer=0, identifiers=tuple(order))
        found.append(profile)
    return found


def sources(store: Store) -> list[object]:
    return [store.provenance([one]) for one in EVERYBODY]


@pytest.mark.parametrize("round_", range(int(os.environ.get("RAPPORT_UNMERGE_ROUNDS", "25"))))
def test_an_undone_join_has_never_been(tmp_path: Path, round_: int) -> None:
    seed = int(os.environ.get("RAPPORT_SEED", "20261127")) + round_
    print(f"seed {seed}")
    chance = random.Random(seed)
    joined: list[tuple[tuple[Identifier, ...], int]] = []
    with Store.open(tmp_path / "never") as never:
        store = Store.open(tmp_path / "undone")
        try:
            for one in (store, never):
                one.declare(SCHEMA, ["card"], ["web"])
            for number in range(40):
                told = message(chance, number)
                if isinstance(told, LeaveHousehold) and store.customer(told.identifiers) is None:
                    told = Upsert(identifiers=told.identifiers, at_us=told.at_us)
                store.apply(told)
                never.apply(told)
                if number > 8 and chance.random() < 0.12:
                    who = tuple(chance.sample(EVERYBODY, 2))
                    result: JoinResult = store.apply(Join(identifiers=who, at_us=number * 10))
                    if result.merged:
                        assert result.merge
                        joined.append((who, result.merge))
                    else:
                        # Nobody was joined: all it did was to give one of them a new identifier.
                        never.apply(Upsert(identifiers=who, at_us=number * 10))
                if chance.random() < 0.1:
                    store.close()
                    store = Store.open(tmp_path / "undone")
            for who, merge in reversed(joined):
                listed = store.merges(who)
                assert listed
                assert listed[0].merge == merge
                undone: UnmergeResult = store.apply(Unmerge(identifiers=who, merge=merge, at_us=1000))
                assert undone.restored == tuple(listed[0].absorbed)
                assert (undone.reapplied, undone.dropped) == (listed[0].since, 0)
                with pytest.raises((NotFound, NotUndoable)):
                    store.apply(Unmerge(identifiers=who, merge=merge, at_us=1000))
            assert shown(store) == shown(never)
            assert sources(store) == sources(never)
            with store.environment.reader() as reader:
                assert [key for key, _ in reader.items("meta", b"merge/") if key.startswith(b"merge/")] == []
            assert store.check().faults == ()
        finally:
            store.close()
