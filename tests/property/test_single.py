"""A person has one identifier of a single namespace, whatever tells of him: unary writes, feeds, and imports of every form,
at random, against the rule in its plainest words.

The rule: of the identifiers sent, the known one of highest trust says who is meant, and of equals the one of the namespace
declared first, then of the smaller value, unless its owner has another identifier of a single namespace than one before it. He
gets those that nobody has; one that would be his second of a single namespace is left out of a claim (events, outcomes) and
refuses everything else, with nothing changed. A unary write that is no claim is refused, too, where that one is another's.

RAPPORT_CASES sets how many worlds (default 30), RAPPORT_SEED the first seed.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from core.decision import Identifier
from core.errors import IdentityConflict
from core.hub.causes import CAUSE_NUMBERS
from core.hub.imports import IdentifierColumn, ImportColumns, ImportResult, ValueColumn
from core.hub.ingest import ItemReader
from core.hub.mutations import ImportCases, ImportedCase, Join, RecordedEvent, RecordEvents, SetConsent, Upsert
from core.hub.store import Store
from core.importing.rehearsal import Rehearsal
from core.schema import EventType, Field, Namespace, Schema, ValueType
from tests.feeds import batch_of

CASES = max(10, min(int(os.environ.get("RAPPORT_CASES", "30")), 2_000))
SEED = int(os.environ.get("RAPPORT_SEED", "20261127"))
REFUSED = CAUSE_NUMBERS["IDENTITY_CONFLICT"]
SCHEMA = Schema(
    attributes={
        "age": Field("age", ValueType.INT), "points": Field("points", ValueType.INT, sources=("shop",)),
    },
    events={"visit": EventType("visit", (Field("page", ValueType.INT),))},
    namespaces={
        "crm": Namespace("crm", trust=9, single=True), "email": Namespace("email", trust=5),
        "phone": Namespace("phone", trust=3, single=True), "cookie": Namespace("cookie", trust=3),
    },
    purposes=("ads",), case_kinds=("fault",),
)
Key = tuple[str, str]


def ranked(keys: Sequence[Key]) -> list[Key]:
    """The most believed first."""
    return sorted(keys, key=lambda key: (-SCHEMA.namespaces[key[0]].trust, list(SCHEMA.namespaces).index(key[0]), key[1]))


class Rule:
    """Who has which identifier."""

    def __init__(self) -> None:
        self.owners: dict[Key, int] = {}
        self.next = 1

    def excluded(self, customer: int, key: Key) -> bool:
        """Whether the customer has another one of the key's namespace, which is single."""
        his = {value for (space, value), owner in self.owners.items() if owner == customer and space == key[0]}
        return SCHEMA.namespaces[key[0]].single and bool(his) and key[1] not in his

    def meant(self, keys: Sequence[Key]) -> int | None:
        keys = ranked(keys)
        for place, key in enumerate(keys):
            owner = self.owners.get(key)
            if owner is not None and not any(self.excluded(owner, better) for better in keys[:place]):
                return owner
        return None

    def tell(self, keys: Sequence[Key], claimed: bool, *, two: bool = True) -> bool:
        """False when it is refused, and nothing has changed; ``two``: another's known identifier just stays where it is."""
        before, owner = dict(self.owners), self.meant(keys)
        if owner is None:
            owner = self.next
        if not two and any(self.owners.get(key, owner) != owner and self.excluded(owner, key) for key in keys):
            return False
        for key in ranked(keys):
            if key not in self.owners and self.excluded(owner, key):
                if claimed:
                    continue
                self.owners = before
                return False
            self.owners.setdefault(key, owner)
        self.next = max(self.next, owner + 1)
        return True

    def join(self, keys: Sequence[Key]) -> bool:
        found = {self.owners[key] for key in keys if key in self.owners}
        all_keys = {key for key, owner in self.owners.items() if owner in found} | set(keys)
        spaces = [space for space, _ in all_keys if SCHEMA.namespaces[space].single]
        if len(spaces) != len(set(spaces)):
            return False
        best = self.meant(keys)
        owner = self.next if best is None else best
        self.next = max(self.next, owner + 1)
        self.owners.update(dict.fromkeys(all_keys, owner))
        return True


def identifiers(keys: Sequence[Key]) -> tuple[Identifier, ...]:
    return tuple(Identifier(*key) for key in keys)


def some(chance: random.Random) -> list[Key]:
    keys = [(chance.choice(list(SCHEMA.namespaces)), f"v{chance.randrange(6)}") for _ in range(chance.choice((1, 2, 2, 3)))]
    return list(dict.fromkeys(keys))


def columns(rows: Sequence[Sequence[Key]], *, sourced: bool, event: bool) -> ImportColumns:
    """An import of rows, of which each has at most one identifier of a namespace."""
    named = []
    for space in SCHEMA.namespaces.values():
        texts = [next((value for of, value in row if of == space.name), "").encode() for row in rows]
        ends = np.cumsum([len(each) for each in texts], dtype=np.uint32)
        named.append(IdentifierColumn(space.name, ends.tobytes(), b"".join(texts)))
    count = len(rows)
    numbers = np.arange(count, dtype=np.int64).tobytes()
    if event:
        return ImportColumns(
            source="file", at_us=5, rows=count, identifiers=tuple(named), columns=(ValueColumn("page", numbers),), event="visit",
            times=np.full(count, 5, np.int64).tobytes(), keys=np.arange(count, dtype=np.uint64).tobytes())
    column = ValueColumn("points" if sourced else "age", numbers)
    return ImportColumns(source="shop", at_us=5, rows=count, identifiers=tuple(named), columns=(column,))


def one_each(keys: Sequence[Key]) -> list[Key]:
    """The first key of every namespace, as an import's columns hold them."""
    first: dict[str, Key] = {}
    for key in keys:
        first.setdefault(key[0], key)
    return list(first.values())


def step(store: Store, rule: Rule, chance: random.Random) -> str:
    """Tell the store and the rule the same; what it was."""
    keys = some(chance)
    who = identifiers(keys)
    match kind := chance.choice(("upsert", "consent", "events", "feed", "columns", "sourced", "rows", "cases", "join")):
        case "upsert" | "consent":
            mutation = (
                Upsert(identifiers=who, attributes={"age": 4}, at_us=5) if kind == "upsert"
                else SetConsent(identifiers=who, purpose="ads", granted=True, at_us=5))
            if rule.tell(keys, claimed=False, two=False):
                store.apply(mutation)
            else:
                with pytest.raises(IdentityConflict):
                    store.apply(mutation)
        case "join":
            if rule.join(keys):
                store.apply(Join(identifiers=who, at_us=5))
            else:
                with pytest.raises(IdentityConflict):
                    store.apply(Join(identifiers=who, at_us=5))
        case "events":
            assert rule.tell(keys, claimed=True)
            store.apply(RecordEvents(identifiers=who, events=(RecordedEvent(type="visit", key="k", at_us=5, fields={}),)))
        case "feed":
            fed = []
            for number in range(1, 4):
                keys = some(chance)
                fed.append((identifiers(keys), RecordedEvent(type="visit", key=f"k{number}", at_us=5)))
                assert rule.tell(keys, claimed=True)
            store.apply(batch_of(ItemReader(store.catalog), *fed))
        case _:
            rows = [one_each(some(chance)) for _ in range(3)]
            expected = [place for place, row in enumerate(rows) if not rule.tell(row, claimed=False)]
            imported: ImportCases | ImportColumns
            if kind == "cases":
                imported = ImportCases(rows=tuple(
                    ImportedCase(identifiers=identifiers(row), kind="fault", key="1", at_us=5) for row in rows))
            else:
                imported = columns(rows, sourced=kind == "sourced", event=kind == "rows")
            with store.environment.reader() as reader:
                foretold = Rehearsal(store.catalog, reader).submit(imported).result()
            result = store.apply(imported)
            assert isinstance(result, ImportResult)
            assert (foretold.created, foretold.contested, foretold.refused) == (result.created, result.contested, result.refused)
            assert result.refused == tuple((place, REFUSED) for place in expected), rows
    return kind


@pytest.mark.parametrize("seed", range(SEED, SEED + CASES))
def test_nobody_gets_a_second_identifier_of_a_single_namespace(tmp_path: Path, seed: int) -> None:
    chance, rule = random.Random(seed), Rule()
    with Store.open(tmp_path / "s") as store:
        store.declare(SCHEMA, ["x"], ["web"])
        for number in range(60):
            kind = step(store, rule, chance)
            keys = some(chance)
            assert store.customer(identifiers(keys)) == rule.meant(keys), (number, kind, keys)
        for space in SCHEMA.namespaces:
            for value in range(6):
                assert store.customer([Identifier(space, f"v{value}")]) == rule.owners.get((space, f"v{value}"))
        for customer in store.customers():
            profile = store.profile_of(customer)
            assert profile is not None
            held = [one.namespace for one in profile.identifiers if SCHEMA.namespaces[one.namespace].single]
            assert len(held) == len(set(held)), profile
            assert {(one.namespace, one.value) for one in profile.identifiers} == {
                key for key, owner in rule.owners.items() if owner == customer}
