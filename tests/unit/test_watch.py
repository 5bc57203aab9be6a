"""The store's watch: each alarm begins before it hurts, is told once, and ends."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from core.decision import Identifier
from core.errors import StoreFull
from core.hub import keeping
from core.hub.environment import open_environment
from core.hub.mutations import Erase, Upsert
from core.hub.store import Store
from core.hub.watching import Alarm, Look, Thresholds, Watch, alarms, look
from core.schema import Field, Namespace, Schema, ValueType
from server.cli.keeping import _standing
from tests.running import BOUND_SECONDS, Server, write_starter

ROOT = Path(__file__).parents[2]
SCHEMA = Schema(attributes={"note": Field("note", ValueType.STRING)}, namespaces={"crm": Namespace("crm")})
QUIET = Thresholds(map_percent=0, free_bytes=0, reader_seconds=0, backup_seconds=0)
SECOND = 1_000_000
DAY = 86_400 * SECOND


def who(number: int) -> tuple[Identifier, ...]:
    return (Identifier("crm", str(number)),)


def put(store: Store, number: int) -> None:
    store.apply(Upsert(identifiers=who(number), attributes={"note": "x" * 1000}, at_us=1))


def fill(store: Store, number: int) -> None:
    while True:
        put(store, number)
        number += 1


class Told:
    """A watch without its thread, a clock that is set, and what it told."""

    def __init__(self, store: Store, thresholds: Thresholds) -> None:
        self.now_us = 1_790_000_000 * SECOND
        self.lines: list[str] = []
        self.watch = Watch(
            store.environment, thresholds, seconds=1, begun=lambda alarm: self.lines.append(f"begun {alarm.name}"),
            ended=lambda alarm: self.lines.append(f"ended {alarm.name}"), clock_us=lambda: self.now_us,
            journal_gone=lambda: store.journal_gone,
        )

    def turn(self, seconds: float = 0) -> list[str]:
        self.now_us += int(seconds * SECOND)
        return [alarm.name for alarm in self.watch.turn()]


def test_a_filling_map_is_told_while_changes_are_still_taken_and_ends_when_there_is_room(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s", map_bytes=1 << 20) as store:
        store.declare(SCHEMA)
        told = Told(store, Thresholds(map_percent=70, free_bytes=0, reader_seconds=0, backup_seconds=0))
        assert told.turn() == []
        count = 0
        while not told.turn():
            put(store, count)
            count += 1
        assert told.turn() == ["map"]
        for more in range(count, count + 20):
            put(store, more)
        for number in range(count - 100, count):
            store.apply(Erase(identifiers=who(number), at_us=1))
        assert told.turn() == []
        assert told.lines == ["begun map", "ended map"]
        with pytest.raises(StoreFull):
            fill(store, count + 20)
        assert told.turn() == ["map"]


READER = """
import sys
from core.hub.environment import open_environment
environment = open_environment(sys.argv[1], read_only=True)
reader = environment.reader()
print("reading", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def stalled(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts a process that reads a state of the store at tmp_path/s and never lets go."""
    children: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", READER, str(tmp_path / "s")], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        children.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == "reading\n"
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate(timeout=BOUND_SECONDS)


def test_a_reader_that_stands_is_named_and_one_that_was_killed_is_freed(
    tmp_path: Path, stalled: Callable[[], subprocess.Popen[str]]
) -> None:
    with Store.open(tmp_path / "s") as store:
        store.declare(SCHEMA)
        told = Told(store, Thresholds(map_percent=0, free_bytes=0, reader_seconds=60, backup_seconds=0))
        first = stalled()
        # As long as nothing is written it holds nothing back.
        assert told.turn() == []
        assert told.turn(3600) == []
        put(store, 1)
        assert told.turn() == []
        assert told.turn(59) == []
        second = stalled()
        put(store, 2)
        assert told.turn(2) == ["reader"]
        [alarm] = told.watch.alarms
        assert f"process {first.pid} has read one state for 61 s, 2 commits ago" in alarm.problem
        # One killed, the other has stood for less than the threshold.
        first.kill()
        first.wait(BOUND_SECONDS)
        assert told.turn() == []
        assert told.turn(61) == ["reader"]
        assert f"process {second.pid} " in told.watch.alarms[0].problem
        # The command, which has watched nothing, reads it off the journal.
        with store.environment.reader() as reader:
            assert reader.count("profiles") == 2
        now_us = os.stat(tmp_path / "s" / "data.mdb").st_mtime_ns // 1000
        seen = look(store.environment, 1 << 30, now_us + 90 * SECOND)
        assert 85 < seen.reader_seconds < 95
        assert seen.reader_process == second.pid
        assert told.lines == ["begun reader", "ended reader", "begun reader"]


def test_a_store_without_a_recent_backup_is_told(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as store:
        store.declare(SCHEMA)
        put(store, 1)
        told = Told(store, Thresholds(map_percent=0, free_bytes=0, reader_seconds=0, backup_seconds=7 * 86_400))
        # Counted from the file's time in whole microseconds, so from the next one on.
        told.now_us = os.stat(tmp_path / "s" / "data.mdb").st_mtime_ns // 1000 + 1
        assert told.turn(6 * 86_400) == []
        assert told.turn(86_400) == ["backup"]
        assert "there is no backup" in told.watch.alarms[0].problem
        # A process of its own makes it, as the command does, and notes it beside the store.
        code = "import sys; from core.hub import keeping; print(keeping.backup(*sys.argv[1:3], now_us=int(sys.argv[3]))[0])"
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "s"), str(tmp_path / "b"), str(told.now_us)], cwd=ROOT,
            capture_output=True, text=True, timeout=BOUND_SECONDS, check=True)
        saved = Path(done.stdout.strip())
        assert told.turn() == []
        assert look(store.environment, 1 << 30, told.now_us).restorable_from
        assert told.turn(8 * 86_400) == ["backup"]
        assert "the last backup is 8.0 days old" in told.watch.alarms[0].problem
        # One that was moved away is not known to be there.
        saved.rename(tmp_path / "elsewhere")
        told.turn()
        assert look(store.environment, 1 << 30, told.now_us).restorable_from == ""
        assert told.lines == ["begun backup", "ended backup", "begun backup"]


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        ("cut", "backup.json cannot be read: Input data was truncated"),
        ("empty", "its data.mdb is missing"),
        ("renumber", "backup.json says change 1, and it was taken at change 3"),
        ("lock away", "it cannot be read: Permission denied"),
    ],
)
def test_a_backup_that_cannot_be_used_is_told_and_the_others_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: str, problem: str
) -> None:
    """One in a folder without rights ended the look at the store, so that no alarm at all was told; one that was damaged counted
    as the newest, and as where moments can be had from."""
    saved = []
    for number in range(3):
        with Store.open(tmp_path / "s") as store:
            store.declare(SCHEMA)
            put(store, number)
        at_us = 1_790_000_000 * SECOND + number * DAY
        saved.append(keeping.backup(str(tmp_path / "s"), str(tmp_path / "b"), now_us=at_us)[0])
    before, bad, newest = saved
    manifest = bad / keeping.MANIFEST
    match spoil:
        case "cut":
            manifest.write_text(manifest.read_text()[:40])
        case "empty":
            (bad / "data.mdb").unlink()
        case "renumber":
            manifest.write_text(manifest.read_text().replace('"seq": 3', '"seq": 1'))
        case _:
            # Whoever runs tests as root may read everything.
            real = Path.stat

            def stat(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
                if bad in (path, *path.parents):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
                return real(path, follow_symlinks=follow_symlinks)

            monkeypatch.setattr(Path, "stat", stat)

    def seen() -> Look:
        environment = open_environment(str(tmp_path / "s"), read_only=True)
        try:
            return look(environment, 1 << 30, 1_790_000_000 * SECOND + 2 * DAY)
        finally:
            environment.close()

    found = seen()
    assert (found.backed, found.backup_seconds) == (True, 0)
    assert found.restorable_from.startswith("2026-09-21T14:13:20.")
    assert found.backups_unusable == [f"{bad}: {problem}"]
    [alarm] = alarms(found, QUIET)
    assert (alarm.name, alarm.problem) == ("backup_unusable", f"{bad}: {problem}")
    # The next backup does not forget it.
    with Store.open(tmp_path / "s") as store:
        put(store, 3)
    keeping.backup(str(tmp_path / "s"), str(tmp_path / "b"), now_us=1_790_000_000 * SECOND + 3 * DAY)
    assert seen().backups_unusable == [f"{bad}: {problem}"]
    monkeypatch.undo()
    bad.rename(tmp_path / "elsewhere")
    assert (seen().backups_unusable, len(keeping.taken(str(tmp_path / "s"))[0])) == ([], 3)
    assert {before, newest} < {Path(each.folder) for each in keeping.taken(str(tmp_path / "s"))[0]}


def test_a_journal_that_was_removed_is_told_by_the_server_and_by_the_command(tmp_path: Path) -> None:
    """The server wrote on into a file that nobody could find, and the command said that nothing was missing."""
    with Store.open(tmp_path / "s") as store:
        store.declare(SCHEMA)
        told = Told(store, QUIET)
        put(store, 1)
        assert told.turn() == []

        def seen() -> tuple[int, list[str]]:
            found = look(store.environment, 1 << 30, told.now_us)
            return found.journal_missing, [alarm.name for alarm in alarms(found, QUIET)]

        assert seen() == (0, [])
        shutil.rmtree(tmp_path / "s" / "journal")
        put(store, 2)
        assert seen() == (store.applied, ["journal"])
        assert told.turn() == ["journal"]
        [alarm] = told.watch.alarms
        assert "removed while it is written to" in alarm.problem
        # Where none is to be kept, none is missed.
        assert alarms(look(store.environment, 1 << 30, told.now_us), replace(QUIET, journal=False)) == ()
    with Store.open(tmp_path / "s") as store:
        put(store, 3)
        told = Told(store, QUIET)
        assert told.turn() == []


def test_changes_after_the_backup_that_no_journal_has_are_told(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as store:
        store.declare(SCHEMA)
        put(store, 1)
    saved, manifest = keeping.backup(str(tmp_path / "s"), str(tmp_path / "b"), now_us=1_790_000_000 * SECOND)
    with Store.open(tmp_path / "s") as store:
        for number in range(3):
            put(store, number)
        applied = store.applied

    def found(folder: str) -> list[str]:
        environment = open_environment(str(tmp_path / folder), read_only=True)
        try:
            return [alarm.problem for alarm in alarms(look(environment, 1 << 30, 1_790_000_000 * SECOND), QUIET)]
        finally:
            environment.close()

    assert found("s") == []
    shutil.rmtree(tmp_path / "s" / "journal")
    [problem] = found("s")
    assert f"the newest {applied - manifest.seq} changes are in no journal and no backup" in problem
    keeping.restore(str(saved), str(tmp_path / "r"))
    assert found("r") == [], "its journal begins when it is opened for writing"


def test_a_folder_that_was_moved_under_the_server_is_told_until_it_is_back(tmp_path: Path) -> None:
    """The alarm of a folder that was gone ended when another store lay there, and what was acknowledged went elsewhere."""
    Store.open(tmp_path / "other").close()
    with Store.open(tmp_path / "s") as store:
        store.declare(SCHEMA)
        told = Told(store, QUIET)
        assert told.turn() == []
        (tmp_path / "s").rename(tmp_path / "s-moved")
        assert told.turn() == ["moved"]
        assert "stop the server first" in told.watch.alarms[0].hint
        (tmp_path / "other").rename(tmp_path / "s")
        assert told.turn() == ["moved"]
        (tmp_path / "s").rename(tmp_path / "other")
        (tmp_path / "s-moved").rename(tmp_path / "s")
        assert told.turn() == []
        assert told.lines == ["begun moved", "ended moved"]


def test_status_says_in_words_how_a_store_stands() -> None:
    """It said "3.4e-06 %", "changes 17,370 to 17,369", "1 that were killed are", "1e+03 kB", and beside backups that a restore
    takes a backup."""
    seen = Look(
        map_bytes=1 << 40, used_bytes=999_700, live_bytes=40_000, free_pages=1, customers=1, readers=0, readers_cleared=1,
        reader_behind=1, reader_process=7, reader_seconds=90, disk_free_bytes=10**13, journal_bytes=262_144, journal_first=17_370,
        journal_last=17_369, restorable_from="", backed=True, backup_seconds=7300, backups_unusable=[], journal_gap=0,
        journal_missing=0,
    )
    assert dict(_standing(seen)) == {
        "file": "1 MB, 40 kB of it live: less than 0.1 % of what store.map_bytes allows",
        "disk": "10 TB free",
        "readers": "process 7 holds back what 1 commit freed, for 90 s now; 1 that was killed is cleared away",
        "journal": "262 kB, no change in it yet",
        "backups": "the newest is 2 hours old",
        "restore": "to the moments of the backups only: no journal leads on from one",
    }
    later = replace(
        seen, map_bytes=40_000, readers_cleared=2, reader_behind=2, journal_last=17_370, backed=False, backup_seconds=None)
    told = dict(_standing(later))
    assert (told["file"], told["journal"], told["backups"], told["restore"]) == (
        "1 MB, 40 kB of it live: 100.0 % of what store.map_bytes allows", "262 kB, changes 17,370 to 17,370", "none is known",
        "not to any moment: that takes a backup")
    assert told["readers"] == "process 7 holds back what 2 commits freed, for 90 s now; 2 that were killed are cleared away"


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as store:
        room = Thresholds(map_percent=0, free_bytes=1 << 60, reader_seconds=0, backup_seconds=0)
        assert Told(store, room).turn() == ["disk"]
        assert Told(store, QUIET).turn() == []


def test_an_alarm_at_its_edge_does_not_come_and_go(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as store:
        seen = look(store.environment, 1 << 20, 0)
    percent = seen.live_percent
    above, below = Thresholds(map_percent=percent * 0.99), Thresholds(map_percent=percent * 1.01)

    def names(found: tuple[Alarm, ...]) -> list[str]:
        return [alarm.name for alarm in found if alarm.name == "map"]

    assert names(alarms(seen, above)) == ["map"]
    assert names(alarms(seen, below)) == []
    assert names(alarms(seen, below, frozenset(["map"]))) == ["map"]


def test_a_server_logs_an_alarm_once_and_health_tells_it(tmp_path: Path) -> None:
    server = Server(write_starter(tmp_path), RAPPORT_STORE_ALARM_FREE_BYTES=str(1 << 46), RAPPORT_STORE_WATCH_SECONDS="0.05")
    try:
        address = server.until("listening")["listen_control"]
        before = [json.loads(line) for line in server.seen if '"alarm"' in line]
        told = before[0] if before else server.until("alarm")
        assert told["alarm"] == "disk"
        assert "Free space" in told["hint"]
        if not any('"ready"' in line for line in server.seen):
            server.until("ready")
        with grpc.insecure_channel(address) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]  # the stubs know no calls

            def state(name: str) -> int:
                return int(check(health_pb2.HealthCheckRequest(service=name), timeout=BOUND_SECONDS).status)

            assert state("rapport.store") == health_pb2.HealthCheckResponse.NOT_SERVING
            assert state("") == health_pb2.HealthCheckResponse.SERVING, "decisions are served all the same"
        assert server.end() == 0
        assert server.rest().count('"alarm"') == 2, 'the event and its name, in one line'
    finally:
        server.process.kill()
        server.process.wait(BOUND_SECONDS)
        server.close()
