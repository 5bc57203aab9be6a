"""Copying, checking, backup, restore, compaction and erasure of a store."""

from __future__ import annotations

import errno
import os
import re
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from core.decision import Identifier
from core.errors import (
    BackupRefused,
    BadValue,
    NotFound,
    RestoreRefused,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from core.hub import keeping
from core.hub.checking import Checked, check
from core.hub.environment import DATABASES, open_environment
from core.hub.membership import HOUSEHOLD_FIRST, number_of, pack_membership
from core.hub.mutations import (
    Erase,
    Join,
    LeaveHousehold,
    OpenCase,
    Outcome,
    OutcomeStatus,
    RecordedEvent,
    RecordEvents,
    RecordOutcomes,
    SetConsent,
    SetMembership,
    Unmerge,
    Upsert,
)
from core.hub.replaying import OWN
from core.hub.saved import AuditEntry
from core.hub.store import Store
from core.hub.watching import look
from core.schema import EventType, Field, Namespace, Schema, ValueType
from server.cli.exits import code_of
from tests.stored import sealed

ROOT = Path(__file__).parents[2]
NOW = 1_790_000_000_000_000
SCHEMA = Schema(
    attributes={"age": Field("age", ValueType.INT), "note": Field("note", ValueType.STRING)},
    namespaces={
        "crm": Namespace("crm", trust=100), "web": Namespace("web", trust=10),
        "account": Namespace("account", trust=50, household=True),
    },
    household_attributes={"motto": Field("motto", ValueType.STRING)},
    roles=("owner",),
    events={"visit": EventType("visit", (Field("page", ValueType.STRING),))},
    purposes=("sales",),
    case_kinds=("complaint",),
)


def who(number: int, namespace: str = "crm") -> tuple[Identifier, ...]:
    return (Identifier(namespace, f"person-{number}-number"),)


def fill(store: Store, count: int = 300) -> None:
    """Customers with every kind of thing, lists of several pages, some joined, some rewritten."""
    store.declare(SCHEMA, ["offer"], ["web"])
    pending = []
    for round_ in range(2):
        for n in range(count):
            note = f"secret-of-{n}-round-{round_}-" + "x" * (n % 7 * 150)
            pending.append(store.submit(Upsert(identifiers=who(n), attributes={"age": n, "note": note}, at_us=1)))
            event = RecordedEvent(type="visit", key=f"{n}/{round_}", at_us=n + 1, fields={"page": f"page-seen-by-{n}-{round_}"})
            pending.append(store.submit(RecordEvents(identifiers=who(n), events=(event,))))
            shown = Outcome(identifiers=who(n), offer="offer", outcome="shown", at_us=n + 1, instance=2 * n + round_ + 1)
            pending.append(store.submit(RecordOutcomes(outcomes=(shown,))))
    for future in pending:
        future.result()
    for n in range(0, count, 10):
        store.apply(Upsert(identifiers=who(n, "web"), attributes={}, at_us=1))
        store.apply(Join(identifiers=who(n) + who(n, "web"), at_us=2))
        store.apply(SetConsent(identifiers=who(n), purpose="sales", granted=True, at_us=3))
        store.apply(OpenCase(identifiers=who(n), kind="complaint", key=f"case-{n}", at_us=3))
    for n in range(count):
        home = (Identifier("account", f"home-of-{n}-number"),)
        store.apply(SetMembership(identifiers=who(n), household=home, role="owner", at_us=1))
        store.apply(Upsert(identifiers=home, attributes={"motto": f"motto-of-{n}-" + "y" * (n % 5 * 99)}, at_us=1))


def everything(path: Path) -> dict[str, list[tuple[bytes, bytes]]]:
    """All entries but what a restored store has of its own."""
    environment = open_environment(str(path), read_only=True)
    try:
        with environment.reader() as reader:
            return {name: [row for row in reader.items(name) if row[0] not in OWN] for name in DATABASES}
    finally:
        environment.close()


def checked(path: Path) -> Checked:
    environment = open_environment(str(path), read_only=True)
    try:
        return check(environment)
    finally:
        environment.close()


def holders(folder: Path, text: str) -> list[str]:
    """The files under ``folder`` in which the text's bytes are."""
    return [str(file) for file in folder.rglob("*") if file.is_file() and text.encode() in file.read_bytes()]


def test_a_backup_taken_beside_the_writer_is_the_store_and_is_restored_whole(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as store:
        fill(store)
        done = subprocess.run(
            [sys.executable, "-c", "import sys; from core.hub.keeping import backup; "
             "print(backup(sys.argv[1], sys.argv[2], now_us=int(sys.argv[3]))[0].name)",
             str(tmp_path / "s"), str(tmp_path / "b"), str(NOW)],
            cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        )
        assert done.returncode == 0, done.stderr
        seq = store.applied
        # Of one without a join: it adds no entry, as a message that an undo would need does.
        store.apply(Upsert(identifiers=who(1), attributes={"note": "later"}, at_us=9))
    saved = tmp_path / "b" / done.stdout.strip()
    assert saved.name == f"20260921T141320Z-{seq}"
    assert sorted(path.name for path in saved.iterdir()) == ["backup.json", "data.mdb"]
    assert keeping.restore(str(saved), str(tmp_path / "r"))[0].seq == seq
    with Store.open(tmp_path / "r") as store:
        assert store.applied == seq
        profile = store.profile(who(1))
        assert profile is not None
        assert profile.attributes["note"] != "later"
    original, restored = everything(tmp_path / "s"), everything(tmp_path / "r")
    assert {name: len(rows) for name, rows in original.items()} == {name: len(rows) for name, rows in restored.items()}
    assert original["events"] == restored["events"]
    assert checked(tmp_path / "r").faults == ()


@pytest.mark.damages("a bit of the backup is flipped")
def test_a_changed_backup_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as store:
        fill(store, 30)
    saved, _ = keeping.backup(str(tmp_path / "s"), str(tmp_path / "b"), now_us=NOW)
    data = bytearray((saved / "data.mdb").read_bytes())
    data[len(data) // 2] ^= 1
    (saved / "data.mdb").write_bytes(data)
    with pytest.raises(RestoreRefused, match="SHA-256 differs"):
        keeping.restore(str(saved), str(tmp_path / "r"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "s"]


def test_whoever_is_new_after_a_restore_has_a_number_that_nobody_had(tmp_path: Path) -> None:
    """Numbers went on where the backup's did. An erasure in the history that the restore left, noted by number, then took an
    innocent customer out of the next restore, and a token from that history reported on somebody else."""
    bob, visitor, innocent = who(1), who(1, "web"), who(2)
    with Store.open(tmp_path / "s") as store:
        store.declare(SCHEMA, ["offer"], ["web"])
        store.apply(Upsert(identifiers=bob, attributes={"age": 1}, at_us=1))
    saved, _ = keeping.backup(str(tmp_path / "s"), str(tmp_path / "b"), now_us=NOW)
    with Store.open(tmp_path / "s") as store:
        numbers = {store.apply(Upsert(identifiers=each, attributes={"age": 1}, at_us=1)).customer for each in (visitor, who(3))}
        store.apply(Join(identifiers=bob + visitor, at_us=2))
        store.apply(Erase(identifiers=bob, at_us=3))
    keeping.restore(str(saved), str(tmp_path / "r"), erasures=str(tmp_path / "s"))
    with Store.open(tmp_path / "r") as store:
        fresh = store.apply(Upsert(identifiers=innocent, attributes={"age": 5}, at_us=10)).customer
        home = store.apply(SetMembership(identifiers=innocent, household=who(9, "account"), at_us=10)).household
        assert fresh not in numbers
        assert [store.profile_of(number) for number in numbers] == [None, None], "a token that names one leads to nobody"
    again, _ = keeping.backup(str(tmp_path / "r"), str(tmp_path / "b"), now_us=NOW + 1_000_000)
    keeping.restore(str(again), str(tmp_path / "r2"), erasures=str(tmp_path / "r"))
    with Store.open(tmp_path / "r2") as store:
        assert store.customer(innocent) == fresh
        household = store.household(innocent)
        assert household is not None
        assert (household.number, household.members) == (number_of(home), 1)
    # Two restores of one backup are two histories as well.
    keeping.restore(str(saved), str(tmp_path / "r3"))
    with Store.open(tmp_path / "r3") as store:
        assert store.apply(Upsert(identifiers=innocent, attributes={"age": 5}, at_us=10)).customer not in {*numbers, fresh}


def test_a_household_stays_with_those_who_were_in_it_before_the_last_of_them_was_erased(tmp_path: Path) -> None:
    """He left it, the other was erased and the household with her; restored to when both were in it, it was taken from him."""
    home = who(9, "account")
    with Store.open(tmp_path / "s") as store:
        store.declare(SCHEMA, ["offer"], ["web"])
        for number in (1, 2):
            store.apply(SetMembership(identifiers=who(number), household=home, at_us=1))
        store.apply(Upsert(identifiers=home, attributes={"motto": "ours"}, at_us=1))
        # What is kept for the undo of his join names the household too.
        store.apply(Upsert(identifiers=who(2, "web"), at_us=1))
        store.apply(Join(identifiers=who(2) + who(2, "web"), at_us=1, received_us=NOW))
        store.apply(SetMembership(identifiers=who(2), household=home, role="owner", at_us=1))
        both = store.applied
    saved, _ = keeping.backup(str(tmp_path / "s"), str(tmp_path / "b"), now_us=NOW)
    with Store.open(tmp_path / "s") as store:
        store.apply(LeaveHousehold(identifiers=who(2), at_us=2))
        store.apply(Erase(identifiers=who(1), at_us=3))
        assert store.household(home) is None
    keeping.restore(str(saved), str(tmp_path / "r"), journal_folder=str(tmp_path / "s" / "journal"), until_seq=both)
    with Store.open(tmp_path / "r") as store:
        assert store.customer(who(1)) is None
        household = store.household(who(2))
        assert household is not None
        assert (household.members, household.attributes) == (1, {"motto": "ours"})
        assert len(store.merges(who(2)) or ()) == 1
        assert store.check().faults == ()
    keeping.restore(str(saved), str(tmp_path / "r2"), journal_folder=str(tmp_path / "s" / "journal"))
    with Store.open(tmp_path / "r2") as store:
        assert (store.household(home), store.household(who(2))) == (None, None)


def test_a_restore_to_a_moment_within_the_second_of_its_backup_holds_nothing_later(tmp_path: Path) -> None:
    """backup.json told the time in whole seconds: what was written in that second and before the backup came along."""
    with Store.open(tmp_path / "s") as store:
        store.declare(SCHEMA, ["offer"], ["web"])
        store.apply(Upsert(identifiers=who(1), attributes={"note": "later"}, at_us=1))
    saved, manifest = keeping.backup(str(tmp_path / "s"), str(tmp_path / "b"), now_us=NOW + 500_000)
    journal = str(tmp_path / "s" / "journal")
    with pytest.raises(RestoreRefused, match=f"{saved}: the backup was taken at {manifest.at}, which is past"):
        keeping.restore(str(saved), str(tmp_path / "r"), journal_folder=journal, until_us=NOW + 499_999)


def test_restore_says_what_is_in_the_way(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as store:
        fill(store, 3)
    saved, _ = keeping.backup(str(tmp_path / "s"), str(tmp_path / "b"), now_us=NOW)
    with pytest.raises(RestoreRefused, match="something in it already"):
        keeping.restore(str(saved), str(tmp_path / "s"))
    with pytest.raises(RestoreRefused, match=r"holds no backup\.json"):
        keeping.restore(str(tmp_path / "b"), str(tmp_path / "r"))
    with pytest.raises(RestoreRefused, match="no such folder"):
        keeping.restore(str(tmp_path / "none"), str(tmp_path / "r"))
    # It was told to check store.path.
    with pytest.raises(RestoreRefused, match=r"no such folder.*--erasures STORE"):
        keeping.restore(str(saved), str(tmp_path / "r"), erasures=str(tmp_path / "none"))
    with pytest.raises(RestoreRefused, match="does not exist"):
        keeping.restore(str(saved), str(tmp_path / "none" / "r"))
    with pytest.raises(BackupRefused, match="saved a moment ago"):
        keeping.backup(str(tmp_path / "s"), str(tmp_path / "b"), now_us=NOW)
    # Whoever removed the backup took along the store that had been restored into it.
    for inside in (tmp_path / "s" / "journal" / "n", saved / "n"):
        kind = "backup" if inside.parent == saved else "store"
        with pytest.raises(BackupRefused, match=f"inside the {kind} "):
            keeping.backup(str(tmp_path / "s"), str(inside), now_us=NOW)
        with pytest.raises(RestoreRefused, match=f"inside the {kind} "):
            keeping.restore(str(saved), str(inside))
        assert not inside.exists()


def test_a_backups_folder_that_cannot_be_made_is_told_with_what_to_do(tmp_path: Path) -> None:
    """It was "Cannot open the store ... Permission denied (13), while asked by a tool", with 69, no server answers; of a restore,
    that another one is running."""
    with Store.open(tmp_path / "s") as store:
        fill(store, 1)
    saved, _ = keeping.backup(str(tmp_path / "s"), str(tmp_path / "b"), now_us=NOW)
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    acts: list[tuple[type[StoreError], Callable[[str], object]]] = [
        (BackupRefused, lambda into: keeping.backup(str(tmp_path / "s"), into, now_us=NOW)),
        (RestoreRefused, lambda into: keeping.restore(str(saved), into)),
    ]
    for refused, act in acts:
        for into, told in [
            (tmp_path / "none" / "n", r"the folder .*none does not exist\. Create it first"),
            (tmp_path / "file", r"it is not a folder\. Name a"),
            (tmp_path / "link", r"it is not a folder\. Name a"),
            (tmp_path / "file" / "n", r"file is not a folder\. Name a folder in one"),
            (tmp_path / ("n" * 300), r"File name too long\. Look at the path"),
            # Nobody, root neither, makes a folder there.
            (Path("/proc/n"), r"No such file or directory\. Look at the path"),
        ]:
            with pytest.raises(refused, match=told):
                act(str(into))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "file", "link", "s"]


@pytest.mark.parametrize("act", ["backup", "restore"])
def test_a_place_without_rights_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str) -> None:
    with Store.open(tmp_path / "s") as store:
        fill(store, 1)
    saved, _ = keeping.backup(str(tmp_path / "s"), str(tmp_path / "b"), now_us=NOW)
    real = Path.mkdir

    def mkdir(path: Path, mode: int = 0o777) -> None:
        # Whoever runs tests as root may write everywhere.
        if path.parent == tmp_path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        real(path, mode)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    into = str(tmp_path / "n")
    with pytest.raises((BackupRefused, RestoreRefused), match=r"Permission denied\. Let the user who runs this") as refused:
        _ = keeping.restore(str(saved), into) if act == "restore" else keeping.backup(str(tmp_path / "s"), into, now_us=NOW)
    assert code_of(refused.value) == 74


@pytest.mark.damages("the number in backup.json is another")
def test_a_backup_whose_number_is_not_its_datas_is_refused(tmp_path: Path) -> None:
    """It was restored, and told to be at the change that somebody had written there."""
    with Store.open(tmp_path / "s") as store:
        fill(store, 1)
    saved, manifest = keeping.backup(str(tmp_path / "s"), str(tmp_path / "b"), now_us=NOW)
    file = saved / keeping.MANIFEST
    file.write_text(file.read_text().replace(f'"seq": {manifest.seq}', '"seq": 1'))
    with pytest.raises(RestoreRefused, match=f"says change 1, and its data is at change {manifest.seq}"):
        keeping.restore(str(saved), str(tmp_path / "r"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "s"]


@pytest.mark.damages("its journal is another store's")
def test_the_journal_of_another_store_is_no_sound_one(tmp_path: Path) -> None:
    """The check called a store sound that no server could open, and a restore asked for a later backup."""
    for name in ("s", "other"):
        with Store.open(tmp_path / name) as store:
            fill(store, 1)
    saved, _ = keeping.backup(str(tmp_path / "s"), str(tmp_path / "b"), now_us=NOW)
    with pytest.raises(RestoreRefused, match=r"another store.*Name the folder journal of the store that was saved"):
        keeping.restore(str(saved), str(tmp_path / "r"), journal_folder=str(tmp_path / "other" / "journal"))
    assert checked(tmp_path / "s").faults == ()
    (tmp_path / "s" / "journal").rename(tmp_path / "own")
    (tmp_path / "other" / "journal").rename(tmp_path / "s" / "journal")
    (fault,) = checked(tmp_path / "s").faults
    assert ("another store" in fault.problem, "move the folder journal away" in fault.hint) == (True, True)
    with pytest.raises(StoreUnavailable, match="another store"):
        Store.open(tmp_path / "s").close()


def test_a_time_that_is_none_is_refused_where_it_is_read(tmp_path: Path) -> None:
    """One in backup.json ended a restore with a traceback; one in backups.json did so to rapport store status, and ended the
    server's watch for good, so that no alarm was told any more."""
    with Store.open(tmp_path / "s") as store:
        fill(store, 1)
    saved, manifest = keeping.backup(str(tmp_path / "s"), str(tmp_path / "b"), now_us=NOW)
    assert [each.at for each in keeping.taken(str(tmp_path / "s"))[0]] == [manifest.at]
    for file in (saved / keeping.MANIFEST, tmp_path / "s" / keeping.TAKEN):
        file.write_text(file.read_text().replace(manifest.at, "last Monday"))
    with pytest.raises(RestoreRefused, match=r"backup\.json cannot be read: Invalid isoformat string: 'last Monday'"):
        keeping.restore(str(saved), str(tmp_path / "r"))
    assert not (tmp_path / "r").exists()
    usable, [told] = keeping.taken(str(tmp_path / "s"))
    assert usable == []
    assert told.startswith(f"{tmp_path / 's' / keeping.TAKEN} cannot be read: Invalid isoformat string: 'last Monday'")
    environment = open_environment(str(tmp_path / "s"), read_only=True)
    try:
        assert look(environment, 1 << 30, NOW).backed is False
    finally:
        environment.close()


def test_compaction_keeps_every_entry_and_is_refused_beside_a_writer(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as store:
        fill(store)
        with pytest.raises(StoreUnavailable, match="has it open"):
            keeping.compact(str(tmp_path / "s"))
    before = everything(tmp_path / "s")
    was, became, _ = keeping.compact(str(tmp_path / "s"))
    assert became < was
    assert everything(tmp_path / "s") == before
    with Store.open(tmp_path / "s") as store:
        assert not store.apply(Upsert(identifiers=who(1), attributes={"age": 7}, at_us=4)).created
    assert checked(tmp_path / "s").faults == ()


def test_erased_bytes_are_in_no_file_after_compaction(tmp_path: Path) -> None:
    """Scenario 20. Ids that were joined into the erased customer lead nowhere; all others are as they were."""
    erased = (0, 17, 40, 299)
    with Store.open(tmp_path / "s") as store:
        fill(store)
        ids = [store.customer(who(n)) for n in erased]
        kept = {n: store.profile(who(n)) for n in range(300) if n not in erased}
        for n in erased:
            store.apply(Erase(identifiers=who(n), request=f"request {n}", at_us=NOW))
            assert store.profile(who(n)) is None
            assert store.profile(who(n, "web")) is None
            with pytest.raises(NotFound):
                store.apply(Erase(identifiers=who(n), at_us=NOW))
        for customer in ids:
            assert customer is not None
            late = Outcome(customer=customer, offer="offer", outcome="clicked", at_us=5, instance=999)
            assert store.apply(RecordOutcomes(outcomes=(late,))) == (OutcomeStatus.UNKNOWN_CUSTOMER,)
        assert store.audit() == tuple(AuditEntry("erase", NOW, f"request {n}") for n in erased)
        assert {n: store.profile(who(n)) for n in kept} == kept
    texts = [text for n in erased for text in (
        f"person-{n}-number", f"secret-of-{n}-", f"page-seen-by-{n}-", f"home-of-{n}-number", f"motto-of-{n}-")]
    assert any(holders(tmp_path / "s", text) for text in texts), "nothing was left to remove: the test proves nothing"
    keeping.compact(str(tmp_path / "s"))
    for text in texts:
        assert holders(tmp_path, text) == []
    assert checked(tmp_path / "s").faults == ()
    with Store.open(tmp_path / "s") as store:
        assert {n: store.profile(who(n)) for n in kept} == kept
        made = store.apply(Upsert(identifiers=who(0), attributes={}, at_us=NOW))
        assert made.created
        assert made.customer not in ids
        profile = store.profile(who(0))
        assert profile is not None
        assert (profile.attributes, profile.events, profile.contacts, profile.cases, profile.consents) == ({}, (), (), (), ())


def test_an_erasures_request_does_not_name_the_customer(tmp_path: Path) -> None:
    """It stays in the audit trail when everything else is gone, and held an e-mail address once."""
    with Store.open(tmp_path / "s") as store:
        store.declare(SCHEMA)
        store.apply(Upsert(identifiers=who(4711), at_us=1))
        with pytest.raises(BadValue, match="request: it holds one of the customer's identifiers"):
            store.apply(Erase(identifiers=who(4711), request="Person-4711-Number, by phone", at_us=2))
        assert store.customer(who(4711)) is not None
        store.apply(Erase(identifiers=who(4711), request="R-4711", at_us=2))
        assert store.customer(who(4711)) is None


@pytest.mark.parametrize("way", ["erasures", "journal"])
def test_a_moment_at_which_the_erased_was_one_with_another_has_neither(tmp_path: Path, way: str) -> None:
    """A restore to before a join was taken back brought the erased one back, inside whom he had been joined into."""
    now = NOW
    with Store.open(tmp_path / "s") as store:
        store.declare(SCHEMA)
        for number in (1, 2):
            store.apply(Upsert(identifiers=who(number), at_us=now))
        store.apply(Join(identifiers=(*who(1), *who(2)), at_us=now, received_us=now))
        joined = store.applied
    saved, _ = keeping.backup(str(tmp_path / "s"), str(tmp_path / "b"), now_us=now + 1_000_000)
    with Store.open(tmp_path / "s") as store:
        store.apply(Unmerge(identifiers=who(1), at_us=now))
        store.apply(Erase(identifiers=who(2), request="R-1", at_us=now))
        assert store.profile(who(1)) is not None
    given: dict[str, Any] = (
        {"erasures": str(tmp_path / "s")} if way == "erasures"
        else {"journal_folder": str(tmp_path / "s" / "journal"), "until_seq": joined}
    )
    keeping.restore(str(saved), str(tmp_path / "r"), **given)
    with Store.open(tmp_path / "r", read_only=True) as store:
        assert store.customer(who(2)) is None
        assert store.customer(who(1)) is None, "at that moment he was the other, too"
        assert store.check().faults == ()


def test_an_erased_identifier_that_another_once_had_is_in_no_file_after_compaction(tmp_path: Path) -> None:
    """A mistaken join gave somebody else's address, and was taken back: the journal kept that record, and led to a store that
    did not hold together."""
    now = NOW
    with Store.open(tmp_path / "s") as store:
        store.declare(SCHEMA)
        for number in (1, 2):
            store.apply(Upsert(identifiers=who(number), at_us=now))
    saved, _ = keeping.backup(str(tmp_path / "s"), str(tmp_path / "b"), now_us=now + 1_000_000)
    with Store.open(tmp_path / "s") as store:
        store.apply(Join(identifiers=(*who(1), *who(2), *who(3)), at_us=now, received_us=now))
        joined = store.applied
        store.apply(Unmerge(identifiers=who(1), at_us=now))
        store.apply(Upsert(identifiers=who(3), at_us=now))
        store.apply(Erase(identifiers=who(3), request="R-1", at_us=now))
    keeping.restore(
        str(saved), str(tmp_path / "r"), journal_folder=str(tmp_path / "s" / "journal"), until_seq=joined)
    with Store.open(tmp_path / "r", read_only=True) as store:
        assert store.customer(who(3)) is None
        assert store.check().faults == ()
    assert "another's before" in keeping.compact(str(tmp_path / "s"))[2]
    for file in (tmp_path / "s").rglob("*"):
        assert not file.is_file() or b"person-3-number" not in file.read_bytes(), file


def test_identifiers_of_two_customers_erase_nobody(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as store:
        fill(store, 3)
        with pytest.raises(BadValue, match="lead to 2 customers"):
            store.apply(Erase(identifiers=who(1) + who(2), at_us=NOW))
        assert store.customer_count() == 3


def damaged(path: Path, database: str, key: bytes, value: bytes | None) -> None:
    """Write an entry as only a fault of ours could, with LMDB's own binding in a process of its own."""
    if value is not None and database in ("identifiers", "meta", "catalog"):
        value = sealed(key, value)
    code = (
        "import lmdb, sys; env = lmdb.open(sys.argv[1], max_dbs=32, map_size=1 << 30); "
        "integer = sys.argv[2] in ('profiles', 'contacts', 'events', 'households', 'memberships'); "
        "db = env.open_db(sys.argv[2].encode(), integerkey=integer); "
        "key, value = bytes.fromhex(sys.argv[3]), bytes.fromhex(sys.argv[4]); txn = env.begin(db=db, write=True); "
        "done = txn.put(key, value) if value else txn.delete(key); txn.commit(); assert done"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), database, key.hex(), (value or b"").hex()],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("database", "key", "value", "told"),
    [
        ("profiles", struct.pack("<Q", 2), None, "is not there"),
        ("profiles", struct.pack("<Q", 2), None, "no record to it"),
        ("identifiers", b"\x00\x01person-1-number", None, "leads to nobody"),
        ("identifiers", b"\x00\x01stranger", struct.pack("<Q", 2), "does not have it"),
        ("identifiers", b"\x00\x00" + struct.pack(">Q", 77), struct.pack("<Q", 99), "who is not there"),
        ("meta", b"next_customer", msgspec.msgpack.encode(2), "was never given"),
        ("catalog", b"purposes", msgspec.msgpack.encode([]), "which was never given"),
        ("households", struct.pack("<Q", HOUSEHOLD_FIRST + 2), None, "no record to it"),
        ("households", struct.pack("<Q", HOUSEHOLD_FIRST + 2), None, "leads to household 2, who is not there"),
        ("memberships", struct.pack("<Q", 2), None, "customer 2 is among its members, and his entry does not say so"),
        ("memberships", struct.pack("<Q", HOUSEHOLD_FIRST + 2), None, "household 2 does not have him among its members"),
        ("memberships", struct.pack("<Q", 3), pack_membership(HOUSEHOLD_FIRST + 2, 1, 0, 1), "household 2 does not have him"),
        ("memberships", struct.pack("<Q", 99), pack_membership(HOUSEHOLD_FIRST + 2, 1, 0, 1), "no record to it"),
        ("memberships", struct.pack("<Q", 2), b"?" * 24, "checksum"),
        ("contacts", struct.pack("<Q", HOUSEHOLD_FIRST + 2), None, "they are not those of its members"),
        ("meta", b"next_household", msgspec.msgpack.encode(2), "the next is household 2, so this one was never given"),
    ],
)
@pytest.mark.damages("an entry is written over")
def test_the_check_names_what_does_not_fit(tmp_path: Path, database: str, key: bytes, value: bytes | None, told: str) -> None:
    with Store.open(tmp_path / "s") as store:
        fill(store, 11)
    assert checked(tmp_path / "s").faults == ()
    damaged(tmp_path / "s", database, key, value)
    faults = checked(tmp_path / "s").faults
    assert any(told in fault.problem for fault in faults), faults
    assert not any("-number" in fault.problem + fault.what for fault in faults)


def test_a_reader_that_was_killed_is_cleared_and_a_living_one_is_told(tmp_path: Path) -> None:
    code = (
        "import sys; from core.hub.environment import open_environment\n"
        "environment = open_environment(sys.argv[1], read_only=True)\n"
        "reader = environment.reader()\nprint('reading', flush=True)\nsys.stdin.read()"
    )
    with Store.open(tmp_path / "s") as store:
        fill(store, 3)
        with subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "s")], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "reading\n"
            assert any(process == child.pid and reads is not None for process, reads in store.environment.readers())
            child.kill()
            child.wait()
        assert store.environment.clear_readers() == 1
        assert not any(process == child.pid for process, _ in store.environment.readers())
        with store.environment.reader():
            assert any(process == os.getpid() and reads is not None for process, reads in store.environment.readers())
        assert store.environment.free_pages() > 0


def test_a_compaction_that_was_cut_off_leaves_no_second_copy(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as store:
        fill(store, 3)
    (tmp_path / "s" / "making").mkdir()
    (tmp_path / "s" / "making" / "data.mdb").write_bytes((tmp_path / "s" / "data.mdb").read_bytes())
    with Store.open(tmp_path / "s"):
        assert not (tmp_path / "s" / "making").exists()


def test_a_store_that_is_not_there_is_told(tmp_path: Path) -> None:
    for act in (keeping.compact, lambda path: keeping.backup(path, str(tmp_path / "b"), now_us=NOW)):
        with pytest.raises(StoreError):
            act(str(tmp_path / "none" / "s"))


def test_a_misspelt_store_is_refused_and_nothing_is_made(tmp_path: Path) -> None:
    """A compaction of one made an empty store and said that it was done; a backup of one made the backups' folder."""
    (tmp_path / "empty").mkdir()
    for act in (keeping.compact, lambda path: keeping.backup(path, str(tmp_path / "b"), now_us=NOW)):
        with pytest.raises(StoreUnavailable, match="there is no such folder"):
            act(str(tmp_path / "typo"))
        with pytest.raises(StoreUnavailable, match="there is no store in it"):
            act(str(tmp_path / "empty"))
    done = subprocess.run(
        [sys.executable, "-m", "server.cli.main", "store", "compact", "--store", "typo"], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "there is no such folder" in " ".join(done.stderr.split())) == (69, True), done.stderr
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["empty"]


@pytest.mark.damages("data.mdb is gone")
@pytest.mark.parametrize("kept", ["journal", "backups.json"])
def test_a_store_whose_data_is_gone_is_damaged_and_not_a_place_for_a_new_one(tmp_path: Path, kept: str) -> None:
    """It was told as a folder of something else, with the advice to choose an empty one: a shop without customers."""
    folder = tmp_path / "s"
    with Store.open(folder) as store:
        fill(store, 3)
    saved, _ = keeping.backup(str(folder), str(tmp_path / "b"), now_us=NOW)
    (folder / "data.mdb").unlink()
    if kept == "journal":
        (folder / "backups.json").unlink()
    else:
        shutil.rmtree(folder / "journal")
    before = sorted(os.listdir(folder))
    acts = (
        Store.open, lambda path: Store.open(path, read_only=True), keeping.compact,
        lambda path: keeping.backup(path, str(tmp_path / "b"), now_us=NOW),
    )
    for act in acts:
        with pytest.raises(StoreCorrupt, match=rf"data\.mdb is missing, and {kept} beside it") as raised:
            act(str(folder))
        wanted = f"BACKUP --into NEW --journal {folder}/journal" if kept == "journal" else f"{saved} --into NEW"
        assert raised.value.hint == f"Put data.mdb back, or restore: rapport store restore {wanted}"
    for command in ("status", "check", "audit"):
        done = subprocess.run(
            [sys.executable, "-m", "server.cli.main", "store", command, "--store", "s"], cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr.partition(" ")[0]) == (74, "STORE_CORRUPT"), done.stderr
    assert sorted(os.listdir(folder)) == before


def test_nothing_of_the_users_is_removed_for_a_backup_or_a_restore(tmp_path: Path) -> None:
    """A backup removed every folder *.part beside the others, and a restore whatever was called as its own folder."""
    with Store.open(tmp_path / "s") as store:
        fill(store, 1)
    mine = tmp_path / "b" / "holiday.part" / "mine.txt"
    named_alike = tmp_path / "b" / "20200101T000000Z-7.part" / "mine.txt"
    left = tmp_path / "b" / "20200101T000000Z-8.part" / "data.mdb"
    for file in (mine, named_alike, left, tmp_path / "r.part" / "mine.txt"):
        file.parent.mkdir(parents=True)
        file.write_text("mine")
    saved, _ = keeping.backup(str(tmp_path / "s"), str(tmp_path / "b"), now_us=NOW)
    assert (mine.exists(), named_alike.exists(), left.parent.exists()) == (True, True, False)
    with pytest.raises(RestoreRefused, match=r"r\.part is in the way: it holds 'mine\.txt'"):
        keeping.restore(str(saved), str(tmp_path / "r"))
    assert (tmp_path / "r.part" / "mine.txt").read_text() == "mine"
    # A whole store of that name, without a journal, looks much like what a restore leaves.
    Store.open(tmp_path / "q.part", journal_bytes=0).close()
    with pytest.raises(RestoreRefused, match="which no restore left there"):
        keeping.restore(str(saved), str(tmp_path / "q"))
    assert (tmp_path / "q.part" / "data.mdb").exists()
    (tmp_path / "f.part").write_text("mine")
    (tmp_path / "l.part").symlink_to(tmp_path / "empty")
    (tmp_path / "empty").mkdir()
    for name, told in (("f", "not a folder"), ("l", "a link")):
        with pytest.raises(RestoreRefused, match=f"{name}.part is in the way: it is {told}"):
            keeping.restore(str(saved), str(tmp_path / name))
    assert ((tmp_path / "f.part").read_text(), list((tmp_path / "empty").iterdir())) == ("mine", [])
    # What a restore left that was killed is no obstacle.
    (tmp_path / "k.part").mkdir()
    for name in (keeping.RESTORING, "data.mdb"):
        (tmp_path / "k.part" / name).write_bytes(b"")
    keeping.restore(str(saved), str(tmp_path / "k"))
    assert not (tmp_path / "k.part").exists()
    assert [path.name for path in (tmp_path / "k").iterdir()] == ["data.mdb"]


@pytest.mark.parametrize("ending", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_backup_that_ends_early_leaves_no_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: BaseException | type[BaseException]
) -> None:
    """It kept the disk full, so that a server's writes were refused until somebody removed it by hand."""
    with Store.open(tmp_path / "s") as store:
        fill(store, 1)

    def fail(_: Path) -> str:
        raise ending

    monkeypatch.setattr(keeping, "_digest", fail)
    with pytest.raises((KeyboardInterrupt, StoreFull)):
        keeping.backup(str(tmp_path / "s"), str(tmp_path / "b"), now_us=NOW)
    assert list((tmp_path / "b").iterdir()) == []


@pytest.mark.parametrize("act", ["backup", "restore"])
def test_a_limit_on_files_is_a_full_disk_to_backup_and_restore(tmp_path: Path, act: str) -> None:
    """A restore said "Cannot open the store: File too large (27), while asked by a tool. See the cause"."""
    with Store.open(tmp_path / "s") as store:
        fill(store, 30)
    saved, _ = keeping.backup(str(tmp_path / "s"), str(tmp_path / "b"), now_us=NOW)
    code = (
        "import resource, sys; from core.errors import StoreFull; from core.hub import keeping\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
        "try:\n    keeping.restore(sys.argv[2], sys.argv[3]) if sys.argv[1] == 'restore' else "
        "keeping.backup(sys.argv[2], sys.argv[3], now_us=5)\n"
        "except StoreFull as error:\n    print(error.hint)"
    )
    source = saved if act == "restore" else tmp_path / "s"
    done = subprocess.run([sys.executable, "-c", code, act, str(source), str(tmp_path / "n")], cwd=ROOT, capture_output=True,
                          text=True, timeout=60, check=False)
    assert "raise the limit (ulimit -f)" in done.stdout, done.stderr
    assert not list(tmp_path.rglob("*.part"))


def test_a_backup_opened_for_writing_is_refused_and_stays_one(tmp_path: Path) -> None:
    """An import or a server with a backup's folder for its store spoilt it: "data.mdb is not what was saved"."""
    with Store.open(tmp_path / "s") as store:
        fill(store, 1)
    saved, _ = keeping.backup(str(tmp_path / "s"), str(tmp_path / "b"), now_us=NOW)
    for act in (Store.open, lambda path: keeping.compact(str(path))):
        with pytest.raises(StoreUnavailable, match="it is a backup") as refused:
            act(saved)
        assert "rapport store restore" in refused.value.hint
    Store.open(saved, read_only=True).close()
    keeping.restore(str(saved), str(tmp_path / "r"))


def test_a_journal_that_ends_before_the_backup_is_told(tmp_path: Path) -> None:
    """A restore with a copy of the journal made before the backup said "as of ..., change N" as if that were all."""
    with Store.open(tmp_path / "s") as store:
        fill(store, 1)
        early = store.applied
        shutil.copytree(tmp_path / "s" / "journal", tmp_path / "early")
        store.apply(Upsert(identifiers=who(0), attributes={"age": 8}, at_us=9))
    now_us = time.time_ns() // 1000
    saved, manifest = keeping.backup(str(tmp_path / "s"), str(tmp_path / "b"), now_us=now_us)
    told = f"the journal ends with change {early}, before the backup's {manifest.seq}.*erased since the backup is in it again"
    journal = str(tmp_path / "early")
    later = now_us + 3_600_000_000
    with pytest.raises(RestoreRefused, match=f"{told}.*a copy of the journal that was made after the backup.*--accept-cut"):
        keeping.restore(str(saved), str(tmp_path / "r"), journal_folder=journal, until_us=later)
    assert not (tmp_path / "r").exists()
    _, reached = keeping.restore(str(saved), str(tmp_path / "r"), journal_folder=journal, until_us=later, accept_cut=True)
    assert (reached.seq, re.search(told, reached.note) is not None) == (manifest.seq, True)
    _, reached = keeping.restore(str(saved), str(tmp_path / "q"), journal_folder=journal)
    assert re.search(told, reached.note), "the command ends with 1 for it"
    _, reached = keeping.restore(str(saved), str(tmp_path / "o"), journal_folder=str(tmp_path / "s" / "journal"), until_us=later)
    assert reached.note == ""


def test_a_second_restore_into_a_folder_is_told_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It removed the first one's files, and one of them ended with "No such file", or STORE_CORRUPT."""
    with Store.open(tmp_path / "s") as store:
        fill(store, 1)
    saved, _ = keeping.backup(str(tmp_path / "s"), str(tmp_path / "b"), now_us=NOW)
    proving = keeping._prove

    def second(folder: Path) -> None:
        monkeypatch.setattr(keeping, "_prove", proving)
        with pytest.raises(RestoreRefused, match="another restore into it is running"):
            keeping.restore(str(saved), str(tmp_path / "r"))
        proving(folder)

    monkeypatch.setattr(keeping, "_prove", second)
    keeping.restore(str(saved), str(tmp_path / "r"))
    assert checked(tmp_path / "r").faults == ()


def test_a_backup_and_the_check_count_the_same(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as store:
        fill(store, 30)
    _, manifest = keeping.backup(str(tmp_path / "s"), str(tmp_path / "b"), now_us=NOW)
    assert checked(tmp_path / "s").entries == manifest.entries


def test_a_file_where_the_journal_belongs_is_named(tmp_path: Path) -> None:
    """It was "File exists (17), while asked by a tool", and to look for disk errors."""
    Store.open(tmp_path / "s", journal_bytes=0).close()
    (tmp_path / "s" / "journal").write_bytes(b"")
    with pytest.raises(StoreUnavailable, match=r"s/journal is not a folder\. Move it away"):
        Store.open(tmp_path / "s")


def test_a_journal_without_rights_is_named_and_not_taken_for_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start said "The store takes no writes: Permission denied (13), while asked by a tool"; the check, that all is sound."""
    with Store.open(tmp_path / "s") as store:
        fill(store, 1)
    folder = tmp_path / "s" / "journal"
    real = os.listdir

    def listdir(path: str | Path) -> list[str]:
        # Whoever runs tests as root may read everything.
        if Path(path) == folder:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    for kept in (1 << 30, 0):
        with pytest.raises(StoreUnavailable, match=rf"the store at {tmp_path / 's'}: {folder}: Permission denied") as refused:
            Store.open(tmp_path / "s", journal_bytes=kept)
        assert refused.value.hint == "Let the server's user read and write the folder journal and its files."
    [fault] = checked(tmp_path / "s").faults
    assert (fault.what, fault.problem) == (f"The journal {folder}", "it cannot be read: Permission denied")
    monkeypatch.undo()
    with Store.open(tmp_path / "s") as store:
        assert store.check().faults == ()


def test_sources_and_joins_that_can_be_undone_are_in_a_backup(tmp_path: Path) -> None:
    schema = Schema(
        attributes={"age": Field("age", ValueType.INT, sources=("bank", "web"))},
        namespaces={"crm": Namespace("crm", trust=100)},
    )
    with Store.open(tmp_path / "s") as store:
        store.declare(schema)
        for n, source in enumerate(("bank", "web")):
            store.apply(Upsert(identifiers=who(n), attributes={"age": n}, source=source, at_us=1))
        store.apply(Join(identifiers=who(0) + who(1), at_us=2))
        store.apply(Upsert(identifiers=who(1), attributes={"age": 7}, source="web", at_us=3))
    assert checked(tmp_path / "s").faults == ()
    made, _ = keeping.backup(str(tmp_path / "s"), str(tmp_path / "b"), now_us=NOW)
    keeping.restore(str(made), str(tmp_path / "r"))
    assert everything(tmp_path / "r")["origins"]
    assert everything(tmp_path / "r") == everything(tmp_path / "s")
    assert checked(tmp_path / "r").faults == ()
    with Store.open(tmp_path / "r") as store:
        assert store.apply(Unmerge(identifiers=who(0), at_us=4)).reapplied == 1
        found = store.provenance(who(1))
        assert found is not None
        assert [(one.source, one.value) for one in found[0].origins] == [("web", 7)]
        assert store.check().faults == ()
