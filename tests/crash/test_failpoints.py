"""Each system call by which a store's short life changes the disk fails, or is the last: kill -9 before it and after it.

So is the moment before each acknowledgement. Nothing in the product knows of it: the calls are counted below it
(tests/native/faultdisk.c). A seeded sample of the points in `make test`, all of them with RAPPORT_CRASH_ROUNDS of 1,000 and
more (`make crash`).
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.crash import short_life
from tests.faulting import FaultyDisk, faulty_disk, quick_folder

ROOT = Path(__file__).resolve().parents[2]
POINTS = 80
KILLS = ("kill-before", "kill-after")
# The error once, as a disk with one bad block gives it; from then on, as a dead, a full and a read-only disk do.
FAILURES = ("eio", "eio-on", "enospc", "enospc-on", "erofs-on", "short")
DISK_CALLS = "write,pwrite,dwrite,fsync,fdatasync,ftruncate,fallocate,rename,unlink,mkdir,create,open"
# What a caller may be told of it: that the store is full, takes no writes or cannot be opened, and never anything untyped.
TYPED = ("STORE_FULL", "STORE_READ_ONLY", "STORE_UNAVAILABLE", "BACKUP_REFUSED", "RESTORE_REFUSED")
EVERY = int(os.environ.get("RAPPORT_CRASH_ROUNDS", "0")) >= 1000


@dataclass
class Lives:
    """The server of lives, on a faulty disk."""

    disk: FaultyDisk
    process: subprocess.Popen[str]
    states: dict[int, str]

    def scratch(self, name: str) -> Path:
        """A place for what is restored from a life's backups."""
        return self.disk.folder.with_name(f"scratch-{name}")

    def live(self, name: str, rule: str) -> tuple[Path, int, str]:
        """A life under a rule; its folder, how it ended, and its error."""
        folder = self.disk.folder / name
        folder.mkdir()
        self.disk.rule(rule)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{folder}\n")
        self.process.stdin.flush()
        ended, _, problem = self.process.stdout.readline().partition(" ")
        self.disk.rule()
        return folder, int(ended), problem.strip()


@pytest.fixture(scope="module")
def lives() -> Iterator[Lives]:
    with quick_folder() as base:
        yield from served(base)


def served(base: Path) -> Iterator[Lives]:
    disk = faulty_disk(base)
    table = base / "visits.csv"
    table.write_text(short_life.IMPORT)
    (base / "reference").mkdir()
    states = short_life.reference(base / "reference", table)
    command = [sys.executable, "-m", "tests.crash.short_life", str(table), str(disk.acks)]
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **disk.environment()}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Lives(disk, process, states)
        assert process.stdin is not None
        process.stdin.close()


def counted(lives: Lives) -> int:
    """How many calls a whole life makes: the first number at which nothing happens, found by halving."""
    low, high = 1, 4096
    while low < high:
        middle = (low + high) // 2
        folder, ended, _ = lives.live("count", f"kill-before * {middle}")
        shutil.rmtree(folder)
        if ended == 0:
            high = middle
        else:
            assert ended == -9
            low = middle + 1
    return low - 1


def test_a_life_without_faults_is_as_the_reference(lives: Lives) -> None:
    folder, ended, _ = lives.live("whole", "")
    assert ended == 0
    told = lives.disk.acknowledged()
    assert told[-1] == "restored"
    last = max(lives.states)
    assert short_life.digest(folder / "store") == (last, lives.states[last])
    short_life.look(folder, told, lives.states, lives.scratch("whole"))


def points(calls: int, actions: tuple[str, ...]) -> list[tuple[int, str]]:
    """Every call with every action, or a seeded sample."""
    seed = int(os.environ.get("RAPPORT_SEED", "20261126"))
    found = [(number, action) for number in range(1, calls + 1) for action in actions]
    if not EVERY:
        found = random.Random(seed).sample(found, POINTS)
    print(f"seed {seed}, {calls} calls, {len(found)} points")
    return found


@pytest.fixture(scope="module")
def calls(lives: Lives) -> int:
    found = counted(lives)
    assert found > 300
    return found


def looked_at(lives: Lives, name: str, folder: Path) -> None:
    """Fails unless all is well in a life's folder, which is then removed."""
    try:
        short_life.look(folder, lives.disk.acknowledged(), lives.states, lives.scratch(name))
    except BaseException as error:
        error.add_note(f"after {name}")
        raise
    shutil.rmtree(folder)
    shutil.rmtree(lives.scratch(name))


def test_killed_at_any_call_nothing_acknowledged_is_lost_and_nothing_is_half_there(lives: Lives, calls: int) -> None:
    for number, action in points(calls, KILLS):
        name = f"{action}-{number}"
        folder, ended, problem = lives.live(name, f"{action} * {number}")
        # How the group of changes is split into commits varies, so the last few calls may not come.
        assert ended == -9 or number > calls - 2 * short_life.GROUP, f"{name}: {ended} {problem}"
        looked_at(lives, name, folder)


def test_where_any_call_fails_it_is_told_and_what_was_acknowledged_is_there(lives: Lives, calls: int) -> None:
    """Not every failure has to be one: what only tidies up may fail in silence, and a full disk may refuse one change of many."""
    failed = 0
    for number, action in points(calls, FAILURES):
        name = f"{action}-{number}"
        folder, ended, problem = lives.live(name, f"{action} {DISK_CALLS} {number}")
        assert ended == 0 or (ended == 1 and problem.startswith(TYPED)), f"{name}: {ended} {problem}"
        failed += ended
        looked_at(lives, name, folder)
    assert failed > POINTS // 2


def test_killed_between_a_commit_and_its_acknowledgement_the_change_is_there(lives: Lives) -> None:
    """The moment that no call on the disk marks: the write by which the child says that it is done."""
    for number in (1, 2, 7, 20):
        folder, ended, _ = lives.live(f"ack-{number}", f"kill-before ack {number}")
        assert ended == -9
        told = lives.disk.acknowledged()
        assert len(told) == number - 1
        found, _ = short_life.digest(folder / "store")
        assert found == number
        looked_at(lives, f"ack-{number}", folder)
