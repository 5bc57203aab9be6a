"""The journal upon a backup is the store as it was, at every change in between; and it is nothing worse when it is damaged.

Random mutations go into one store in batches and, one by one, into a twin made of the same backup, whose entries are
kept after each. RAPPORT_JOURNAL_ROUNDS sets how many histories are tried.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
import pytest

from core import limits
from core.decision import Identifier
from core.errors import RapportError, RestoreRefused, StoreUnavailable
from core.hub import journal, keeping, redo, replaying
from core.hub.environment import DATABASES, open_environment
from core.hub.mutations import (
    DeclareSchema,
    Erase,
    Join,
    Mutation,
    Outcome,
    RecordedEvent,
    RecordEvents,
    RecordOutcomes,
    SetMembership,
    Unmerge,
    Upsert,
)
from core.hub.replaying import OWN, told
from core.hub.saved import AUDIT, ERASED
from core.hub.store import Store
from core.hub.watching import Thresholds, alarms, look
from core.schema import EventType, Field, Schema, ValueType
from tests.property.test_unmerge import EVERYBODY, SCHEMA, message
from tests.running import ROOT

ROUNDS = int(os.environ.get("RAPPORT_JOURNAL_ROUNDS", "6"))
MUTATIONS = 60
NOW = 1_790_000_000_000_000

State = dict[str, list[tuple[bytes, bytes]]]


def entries(store: Store) -> State:
    """All entries of all databases but what a restored store has of its own."""
    with store.environment.reader() as reader:
        return {name: [row for row in reader.items(name) if row[0] not in OWN] for name in DATABASES}


def of(path: Path) -> State:
    with Store.open(path, read_only=True) as store:
        assert store.check().faults == ()
        return entries(store)


def history(chance: random.Random, erasing: bool) -> Iterator[Mutation]:
    """Everything that a store takes: some of it is refused, and long lists are changed in their middle."""
    yield DeclareSchema(schema=SCHEMA, offers=("card",), channels=("web",))
    for number in range(1, MUTATIONS):
        who = tuple(chance.sample(EVERYBODY, chance.choice((1, 2))))
        at = number * 10
        dice = chance.random()
        if dice < 0.1 or number in (30, 40):
            yield Join(identifiers=who, at_us=at)
        elif dice < 0.2:
            yield Unmerge(identifiers=who, at_us=at)
        elif dice < 0.25:
            grown = Schema(attributes={f"more{number}": Field(f"more{number}", ValueType.STRING)}, namespaces=SCHEMA.namespaces)
            yield DeclareSchema(schema=grown)
        elif dice < 0.4:
            visits = tuple(
                RecordedEvent(type="visit", key=f"{number}/{n}", at_us=chance.randrange(1000), fields={"pages": n})
                for n in range(30))
            yield RecordEvents(identifiers=who[:1], events=visits)
        elif dice < 0.45 and erasing:
            yield Erase(identifiers=who[:1], request=f"r{number}", at_us=at)
        elif dice < 0.5:
            yield Upsert(identifiers=who, attributes={"nothing": 1}, at_us=at)
        else:
            yield message(chance, number)
    # A long list grows at its end, whatever came before: that is noted as a patch.
    for number in (MUTATIONS, MUTATIONS + 1):
        visits = tuple(RecordedEvent(type="visit", key=f"{number}/{n}", at_us=number * 1000 + n, fields={}) for n in range(30))
        yield RecordEvents(identifiers=(EVERYBODY[0],), events=visits)


def seeded(round_: int) -> random.Random:
    seed = int(os.environ.get("RAPPORT_SEED", "20261126")) + round_
    print(f"seed {seed}")
    return random.Random(seed)


def made(folder: Path) -> Path:
    """A backup of a store with nothing in it."""
    Store.open(folder / "made").close()
    return keeping.backup(str(folder / "made"), str(folder / "b"), now_us=NOW)[0]


def outcome(future: Future[Any]) -> object:
    problem = future.exception(60)
    return type(problem) if problem is not None else future.result()


def lived(folder: Path, chance: random.Random, erasing: bool) -> tuple[Path, dict[int, State]]:
    """A store and its copy live through a history, `store` in batches; a backup of it, and its entries after each change."""
    keeping.restore(str(made(folder)), str(folder / "store"))
    saved, _ = keeping.backup(str(folder / "store"), str(folder / "saved"), now_us=NOW + 1_000_000)
    shutil.copytree(folder / "store", folder / "twin")
    states: dict[int, State] = {}
    with Store.open(folder / "store") as store, Store.open(folder / "twin") as twin:
        states[0] = entries(twin)
        batch: list[tuple[Mutation, object]] = []
        messages = list(history(chance, erasing))
        for place, mutation in enumerate(messages):
            try:
                told: object = twin.apply(mutation)
                states[twin.applied] = entries(twin)
            except RapportError as error:
                told = type(error)
            batch.append((mutation, told))
            if chance.random() < 0.25 or place == len(messages) - 1:
                # While the first is committed, the others gather.
                futures = [store.submit(each) for each, _ in batch]
                for future, (_, expected) in zip(futures, batch, strict=True):
                    assert outcome(future) == expected
                batch.clear()
        assert store.applied == twin.applied
        assert entries(store) == entries(twin)
        assert list(states) == list(range(twin.applied + 1))
    return saved, states


def test_a_list_that_loses_its_oldest_events_is_noted_by_what_differs(tmp_path: Path) -> None:
    """Once a list was full, or retention let go of its oldest, every event put the whole of it into the journal: 2 MB each."""
    keeping.restore(str(made(tmp_path)), str(tmp_path / "store"))
    saved, _ = keeping.backup(str(tmp_path / "store"), str(tmp_path / "saved"), now_us=NOW + 1_000_000)
    hour, kept = 3_600_000_000, 200
    schema = Schema(
        namespaces=SCHEMA.namespaces,
        events={"tick": EventType("tick", (Field("text", ValueType.STRING),), retention_us=kept * hour)},
    )
    states: dict[int, State] = {}
    with Store.open(tmp_path / "store") as store:
        store.declare(schema)
        for number in range(kept + 20):
            # Sizes differ, and some moments have two, so that one goes, or two, or none.
            at = NOW + (number // 3 * 3) * hour
            tick = RecordedEvent(type="tick", key=f"t{number}", at_us=at, fields={"text": "x" * (number * 7 % 90)})
            store.apply(RecordEvents(identifiers=(EVERYBODY[0],), events=(tick,), received_us=at))
            if number >= kept:
                states[store.applied] = entries(store)
    noted = [
        (kind, len(value)) for path in journal.files(tmp_path / "store" / "journal") for frame in journal.read(path)[2]
        for seq, kind, place, _, _, value in redo.changes(journal.read(path)[1], frame.at)
        if seq in states and journal.read(path)[0].names[place] == "events"  # type: ignore[union-attr]
    ]
    assert len(noted) == 20
    assert redo.SHED in {kind for kind, _ in noted}
    assert max(size for _, size in noted) < 500, "of a list of 15 kB"
    for seq, state in states.items():
        into = tmp_path / f"r{seq}"
        keeping.restore(str(saved), str(into), journal_folder=str(tmp_path / "store" / "journal"), until_seq=seq)
        assert of(into) == state, f"at change {seq}"


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_a_backup_and_the_journal_make_the_store_as_it_was_at_every_change(tmp_path: Path, round_: int) -> None:
    chance = seeded(round_)
    saved, states = lived(tmp_path, chance, erasing=False)
    last = max(states)
    commits = [frame for path in journal.files(tmp_path / "store" / "journal") for frame in journal.read(path)[2]]
    assert any(frame.last > frame.first for frame in commits), "no two mutations shared a commit: the test proves less"
    kinds = {
        kind for path in journal.files(tmp_path / "store" / "journal") for frame in journal.read(path)[2]
        for _, kind, *_ in redo.changes(journal.read(path)[1], frame.at)
    }
    assert kinds >= {redo.PUT, redo.PATCH}
    for seq, state in states.items():
        into = tmp_path / f"r{seq}"
        _, reached = keeping.restore(str(saved), str(into), journal_folder=str(tmp_path / "store" / "journal"), until_seq=seq)
        assert reached.seq == seq
        assert of(into) == state, f"at change {seq}"
        shutil.rmtree(into)
    for frame in commits:
        into = tmp_path / f"t{frame.last}"
        _, reached = keeping.restore(
            str(saved), str(into), journal_folder=str(tmp_path / "store" / "journal"),
            until_us=max(frame.committed_us, NOW + 10**6))
        assert reached.seq >= frame.last
        assert of(into) == states[reached.seq]
        shutil.rmtree(into)
        break
    _, reached = keeping.restore(str(saved), str(tmp_path / "end"), journal_folder=str(tmp_path / "store" / "journal"))
    assert reached.seq == last
    assert of(tmp_path / "end") == states[last]


def shown(state: State) -> State:
    """Without what a restore says of itself."""
    return {**state, "meta": [row for row in state["meta"] if not row[0].endswith(b"/restored")]}


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_erased_customers_stay_erased_whatever_moment_is_restored(tmp_path: Path, round_: int) -> None:
    """From an erasure on the restored store is the store; before it, whoever is erased by now is not there, and all others are
    as they were. After a compaction the journal still leads everywhere from the erasure on, and holds nothing of him."""
    chance = seeded(1000 + round_)
    saved, states = lived(tmp_path, chance, erasing=True)
    erased = {
        int(key[len(ERASED):]): msgspec.msgpack.decode(value, type=list[int])
        for key, value in states[max(states)]["meta"] if key.startswith(ERASED)
    }
    everybody = {one for ids in erased.values() for one in ids}
    compacted, anew = False, ""
    for _ in range(2):
        for seq, state in states.items():
            into = tmp_path / f"r{seq}"
            if anew:
                with pytest.raises(RestoreRefused, match="no journal"):
                    keeping.restore(
                        str(saved), str(into), journal_folder=str(tmp_path / "store" / "journal"), until_seq=seq)
                return
            _, reached = keeping.restore(
                str(saved), str(into), journal_folder=str(tmp_path / "store" / "journal"), until_seq=seq)
            assert reached.seq == seq
            found = of(into)
            if seq >= max(erased, default=0):
                assert found == state, f"at change {seq}"
                assert reached.erasures == 0
            else:
                gone = {one for at, ids in erased.items() if at > seq for one in ids}
                held = {int.from_bytes(key, "little") for key, _ in found["profiles"]}
                assert not held & gone
                if not compacted:
                    for name in ("profiles", "contacts", "events", "origins"):
                        # A household's contacts are those of its members: `of` has compared them.
                        left, kept = (
                            [row for row in rows if (own := int.from_bytes(row[0], "little")) not in gone and own < 1 << 62]
                            for rows in (state[name], found[name]))
                        assert kept == left, f"{name} at change {seq}"
            shutil.rmtree(into)
        if not erased:
            return
        _, _, anew = keeping.compact(str(tmp_path / "store"))
        compacted = True
        for path in journal.files(tmp_path / "store" / "journal"):
            segment, data, frames, whole = journal.read(path)
            assert segment is not None
            assert whole
            for frame in frames:
                for seq, kind, _, subject, _, value in redo.changes(data, frame.at):
                    assert subject not in everybody, f"change {seq} is about customer {subject}"
                    assert kind != redo.ERASE or redo.erasure(value)[1] == []


def test_a_store_goes_on_from_its_journal_after_what_a_power_cut_leaves(tmp_path: Path) -> None:
    """LMDB's newest page may be lost, which undoes one commit; and one more may have been written to the journal only."""
    chance = seeded(1)
    saved, states = lived(tmp_path, chance, erasing=False)
    last = max(states)
    frames = [frame for path in journal.files(tmp_path / "store" / "journal") for frame in journal.read(path)[2]]
    for lost in (1, 2):
        before = frames[-lost].first - 1
        into = tmp_path / f"cut{lost}"
        keeping.restore(str(saved), str(into), journal_folder=str(tmp_path / "store" / "journal"), until_seq=before)
        with Store.open(into, read_only=True) as store, store.environment.reader() as reader:
            lineage = journal.lineage_of(reader)
        shutil.copytree(tmp_path / "store" / "journal", into / "journal")
        relabel(into / "journal", lineage)
        with Store.open(into) as store:
            assert store.applied == last
            assert entries(store) == states[last]
            assert store.journal_gap == ""
            store.apply(Upsert(identifiers=(EVERYBODY[0],), attributes={"age": 1}, at_us=1))
        assert not list(journal.faults(into / "journal", last + 1, lineage))
    into = tmp_path / "exchanged"
    keeping.restore(str(saved), str(into), journal_folder=str(tmp_path / "store" / "journal"), until_seq=1)
    with Store.open(into, read_only=True) as store, store.environment.reader() as reader:
        lineage = journal.lineage_of(reader)
    shutil.copytree(tmp_path / "store" / "journal", into / "journal")
    with pytest.raises(StoreUnavailable, match="journal of another store"):
        Store.open(into)
    relabel(into / "journal", lineage)
    with pytest.raises(StoreUnavailable, match="goes on to change"):
        Store.open(into)


def relabel(folder: Path, lineage: bytes) -> None:
    """Make the files those of a store of this lineage, as a copy of the whole folder would be."""
    for path in journal.files(folder):
        segment, data, _, _ = journal.read(path)
        assert segment is not None
        head = journal.head(segment.first, segment.made_us, segment.begins, lineage)
        path.write_bytes(head + data[segment.head_bytes:])


@pytest.mark.parametrize("round_", range(ROUNDS))
@pytest.mark.damages("bits of the journal are flipped, and its end is cut off")
def test_a_damaged_journal_restores_what_was_or_says_where_it_is_damaged(tmp_path: Path, round_: int) -> None:
    """Bits are flipped and the end is cut off anywhere: a restore gives a state that was, or refuses and names the change before
    the damage, to which it then restores."""
    chance = seeded(2000 + round_)
    saved, states = lived(tmp_path, chance, erasing=False)
    last = max(states)
    [path] = journal.files(tmp_path / "store" / "journal")
    segment, sound, frames, _ = journal.read(path)
    assert segment is not None
    end = frames[-1].at + frames[-1].size
    refused = 0
    for attempt in range(12):
        damaged = bytearray(sound)
        if attempt % 3:
            place = chance.randrange(end)
            damaged[place] ^= 1 << chance.randrange(8)
        else:
            place = chance.randrange(segment.head_bytes, end)
            del damaged[place:]
        path.write_bytes(damaged)
        into = tmp_path / f"r{attempt}"
        whole = max((frame.last for frame in frames if frame.at + frame.size <= place), default=0)
        found = tried(saved, into, path.parent)
        if isinstance(found, RestoreRefused):
            refused += 1
            assert path.name in str(found)
            if "its head" in str(found):
                continue
            assert f"Give --until {whole} " in found.hint
            _, reached = keeping.restore(str(saved), str(into), journal_folder=str(path.parent), until_seq=whole)
        else:
            # Behind the last frame nothing tells a write that was cut off from damage.
            reached = found
            assert reached.seq == whole
            assert reached.note or attempt % 3 == 0
        assert of(into) == states[reached.seq]
        # The store beside it opens all the same, says that the journal lacks something, and goes on.
        if reached.seq < last:
            with Store.open(tmp_path / "store") as store:
                assert store.applied == last
                assert store.journal_gap
            for extra in journal.files(path.parent):
                if extra != path:
                    extra.unlink()
    assert refused, "no damage was refused: the test proves nothing"


def tried(saved: Path, into: Path, folder: Path) -> replaying.Reached | RestoreRefused:
    try:
        return keeping.restore(str(saved), str(into), journal_folder=str(folder))[1]
    except RestoreRefused as error:
        return error


def test_a_gap_is_refused_by_name_with_what_can_be_restored(tmp_path: Path) -> None:
    who = (Identifier("crm", "1"),)
    with Store.open(tmp_path / "s") as store:
        store.declare(SCHEMA)
    first, _ = keeping.backup(str(tmp_path / "s"), str(tmp_path / "b"), now_us=NOW)
    with Store.open(tmp_path / "s") as store:
        store.apply(Upsert(identifiers=who, attributes={"age": 1}, at_us=1))
    with Store.open(tmp_path / "s", journal_bytes=0) as store:
        store.apply(Upsert(identifiers=who, attributes={"age": 2}, at_us=2))
    with Store.open(tmp_path / "s") as store:
        assert "changes 3 to 3 are missing" in store.journal_gap
        store.apply(Upsert(identifiers=who, attributes={"age": 3}, at_us=3))
    found = journal.extent(tmp_path / "s" / "journal")
    assert found is not None
    assert (found.first, found.last) == (4, 4)
    folder = str(tmp_path / "s" / "journal")
    with pytest.raises(RestoreRefused, match="changes 3 to 3 are missing before it") as refused:
        keeping.restore(str(first), str(tmp_path / "r"), journal_folder=folder)
    assert "--until 2" in refused.value.hint
    with pytest.raises(RestoreRefused, match="changes 3 to 3 are missing before it"):
        keeping.restore(str(first), str(tmp_path / "r"), journal_folder=folder, until_seq=4)
    assert not (tmp_path / "r").exists()
    _, reached = keeping.restore(str(first), str(tmp_path / "r"), journal_folder=folder, until_seq=2)
    assert reached.seq == 2
    later, _ = keeping.backup(str(tmp_path / "s"), str(tmp_path / "b"), now_us=NOW + 10**6)
    with pytest.raises(RestoreRefused, match="the backup is at change 4, which is past 3"):
        keeping.restore(str(later), str(tmp_path / "q"), journal_folder=folder, until_seq=3)
    with pytest.raises(RestoreRefused, match="ends with change 4, before 9"):
        keeping.restore(str(later), str(tmp_path / "q"), journal_folder=folder, until_seq=9)
    with pytest.raises(RestoreRefused, match="there is no journal in it"):
        keeping.restore(str(later), str(tmp_path / "q"), journal_folder=str(tmp_path / "b"))
    # A restored store counts its own changes: the journal it left behind is not its.
    again, _ = keeping.backup(str(tmp_path / "r"), str(tmp_path / "b2"), now_us=NOW)
    with pytest.raises(RestoreRefused, match="journal of another store"):
        keeping.restore(str(again), str(tmp_path / "q"), journal_folder=folder)
    assert AUDIT + b"00000000000000000002/restored" not in dict(of(tmp_path / "r")["meta"])


@pytest.mark.damages("the journal's end is cut off")
def test_a_moment_that_a_cut_journal_may_not_reach_is_refused_unless_that_is_accepted(tmp_path: Path) -> None:
    """Behind the last whole write there may have been one before the moment asked for: the restore ended with exit code 0 and a
    note, so a script took an earlier state for the one that it had asked for."""
    who = (Identifier("crm", "1"),)
    with Store.open(tmp_path / "s") as store:
        store.declare(SCHEMA)
    saved, _ = keeping.backup(str(tmp_path / "s"), str(tmp_path / "b"), now_us=NOW)
    with Store.open(tmp_path / "s") as store:
        for age in (1, 2, 3):
            store.apply(Upsert(identifiers=who, attributes={"age": age}, at_us=age))
    folder = tmp_path / "s" / "journal"
    [path] = journal.files(folder)
    _, data, frames, _ = journal.read(path)
    path.write_bytes(data[: frames[-1].at + frames[-1].size - 8])
    later = frames[-1].committed_us + 1

    def restored(name: str, *arguments: str) -> tuple[int, str]:
        command = ("restore", str(saved), "--into", str(tmp_path / name), "--journal", str(folder), *arguments)
        done = subprocess.run(
            [sys.executable, "-m", "server.cli.main", "store", *command], cwd=ROOT, capture_output=True, text=True, timeout=60,
            check=False)
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    with pytest.raises(RestoreRefused, match="is not whole, and may have come before") as refused:
        keeping.restore(str(saved), str(tmp_path / "r"), journal_folder=str(folder), until_us=later)
    assert f"Give --accept-cut for what is whole: change 3, of {told(frames[-2].committed_us)}" in refused.value.hint
    assert not (tmp_path / "r").exists()
    _, reached = keeping.restore(str(saved), str(tmp_path / "r"), journal_folder=str(folder), until_us=later, accept_cut=True)
    assert (reached.seq, bool(reached.note)) == (3, True)
    # A moment behind which a whole write follows is reached, whatever lies at the end.
    before = frames[-2].committed_us - 1
    _, reached = keeping.restore(str(saved), str(tmp_path / "q"), journal_folder=str(folder), until_us=before)
    assert reached.seq == 2
    code, said = restored("one", "--until", told(later))
    assert (code, "may have come before" in said, (tmp_path / "one").exists()) == (74, True, False)
    # All there is is there, and the exit code says that it may not be all there was.
    code, said = restored("two")
    assert (code, "Behind that: " in said, (tmp_path / "two").exists()) == (1, True, True)
    assert restored("three", "--until", told(later), "--accept-cut")[0] == restored("four", "--accept-cut")[0] == 0


def test_a_journal_that_no_backup_leads_up_to_is_an_alarm_until_there_is_one(tmp_path: Path) -> None:
    """A compaction began the journal anew after a household's member was erased; status showed nothing, though no backup could be
    brought forward any more."""
    member = (Identifier("crm", "member"),)
    path = tmp_path / "s"

    def alarm() -> str:
        environment = open_environment(str(path), read_only=True)
        try:
            seen = look(environment, environment.map_bytes, NOW)
        finally:
            environment.close()
        return " ".join(each.problem for each in alarms(seen, Thresholds(free_bytes=0)) if each.name == "journal")

    with Store.open(path) as store:
        store.declare(SCHEMA)
        for name in ("member", "stays"):
            who = (Identifier("crm", name),)
            store.apply(SetMembership(identifiers=who, household=(Identifier("account", "h"),), at_us=1))
    assert alarm() == ""  # that there is no backup at all is told by another one
    keeping.backup(str(path), str(tmp_path / "b"), now_us=NOW)
    with Store.open(path) as store:
        store.apply(Erase(identifiers=member, at_us=3))
    assert alarm() == ""
    assert "household" in keeping.compact(str(path))[2]
    assert alarm() == "the journal does not lead on from the newest backup: 1 changes lie between them"
    with Store.open(path) as store:
        store.apply(Upsert(identifiers=(Identifier("crm", "stays"),), attributes={"age": 1}, at_us=4))
    assert alarm() == "the journal does not lead on from the newest backup: 1 changes lie between them"
    keeping.backup(str(path), str(tmp_path / "b"), now_us=NOW + 10**6)
    assert alarm() == ""


def test_a_backup_restored_alone_is_rid_of_whom_the_store_it_replaces_erased(tmp_path: Path) -> None:
    who = (Identifier("crm", "person-to-forget"),)
    with Store.open(tmp_path / "s") as store:
        store.declare(SCHEMA)
        store.apply(Upsert(identifiers=who, attributes={"age": 1}, at_us=1))
    saved, _ = keeping.backup(str(tmp_path / "s"), str(tmp_path / "b"), now_us=NOW)
    with Store.open(tmp_path / "s") as store:
        store.apply(Erase(identifiers=who, request="DSR-7", at_us=NOW))
    _, reached = keeping.restore(str(saved), str(tmp_path / "back"))
    with Store.open(tmp_path / "back") as store:
        assert store.customer(who) is not None, "nothing told the restore of the erasure"
    _, reached = keeping.restore(str(saved), str(tmp_path / "r"), erasures=str(tmp_path / "s"))
    assert reached.erasures == 1
    with Store.open(tmp_path / "r") as store:
        assert store.customer(who) is None
        assert store.customer_count() == 0
        assert [entry.action for entry in store.audit()] == ["restore"]


@pytest.mark.parametrize("entered", [True, False], ids=["entered within the journal's time", "was in it before"])
def test_a_household_keeps_nothing_of_a_contact_of_an_erased_member_in_the_journal(tmp_path: Path, entered: bool) -> None:
    """A household's contact list holds its members' contacts in one, and was noted as the household's: those of an erased member
    stayed in the journal after a compaction. And where he had entered within its time, an earlier moment that was restored had
    him among the members of a household, and no entry that says so."""
    gone, stays = (Identifier("crm", "gone"),), (Identifier("crm", "stays"),)
    home, instance = (Identifier("account", "h"),), 0x1122334455667788
    path = tmp_path / "s"
    with Store.open(path, journal_bytes=limits.JOURNAL_BYTES if entered else 0) as store:
        store.apply(DeclareSchema(schema=SCHEMA, offers=("card",), channels=("web",)))
        for who in (gone, stays):
            store.apply(SetMembership(identifiers=who, household=home, at_us=1))
    with Store.open(path) as store:
        shown = Outcome(identifiers=gone, offer="card", outcome="shown", at_us=2, instance=instance)
        store.apply(RecordOutcomes(outcomes=(shown,)))
        store.apply(Erase(identifiers=gone, at_us=3))

    def holding() -> list[Path]:
        text = instance.to_bytes(8, "little")
        return [file for file in sorted(path.rglob("*")) if file.is_file() and text in file.read_bytes()]

    assert any(file.parent.name == "journal" for file in holding()), "nothing to remove: the test proves nothing"
    assert "household" in keeping.compact(str(path))[2]
    assert holding() == []
    with Store.open(path) as store:
        assert store.check().faults == ()
        assert store.customer(stays) is not None


def test_a_compaction_leaves_the_journal_to_households_of_whom_nobody_was_erased(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with Store.open(path) as store:
        store.apply(DeclareSchema(schema=SCHEMA, offers=("card",), channels=("web",)))
        member, alone = (Identifier("crm", "member"),), (Identifier("crm", "alone"),)
        store.apply(SetMembership(identifiers=member, household=(Identifier("account", "h"),), at_us=1))
        shown = [Outcome(identifiers=who, offer="card", outcome="shown", at_us=2, key="k") for who in (member, alone)]
        store.apply(RecordOutcomes(outcomes=tuple(shown)))
        store.apply(Erase(identifiers=alone, at_us=3))
    assert keeping.compact(str(path))[2] == ""
    assert journal.files(path / "journal")


def test_old_files_are_removed_by_age_and_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 4096)
    who = (Identifier("crm", "1"),)
    folder = tmp_path / "s" / "journal"
    with Store.open(tmp_path / "s", journal_bytes=1 << 20) as store:
        store.declare(SCHEMA)
        for number in range(60):
            store.apply(Upsert(identifiers=who, attributes={"age": number}, at_us=number))
        assert len(journal.files(folder)) >= 3
    # By size, beside the file that is written to.
    with Store.open(tmp_path / "s", journal_bytes=16 << 10) as store:
        for number in range(60, 120):
            store.apply(Upsert(identifiers=who, attributes={"age": number}, at_us=number))
        assert sum(path.stat().st_size for path in journal.files(folder)[:-1]) <= 16 << 10
        found = journal.extent(folder)
        assert found is not None
        assert 1 < found.first <= found.last == store.applied
        with store.environment.reader() as reader:
            lineage = journal.lineage_of(reader)
    assert not list(journal.faults(folder, found.last, lineage))
    with Store.open(tmp_path / "s", journal_seconds=0) as store:
        for number in range(120, 180):
            store.apply(Upsert(identifiers=who, attributes={"age": number}, at_us=number))
        assert len(journal.files(folder)) <= 2
