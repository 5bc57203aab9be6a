"""Readers that stand still, and readers that are killed, beside a store that is written to.

A state that somebody reads keeps every page that was freed since: data.mdb grows by what is written. That is told with the
process that does it, it costs no write, and it ends when the reader goes. RAPPORT_CRASH_ROUNDS of 1,000 and more writes 100,000
changes and kills 500 readers.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.decision import Identifier
from core.hub.mutations import Upsert
from core.hub.store import Store
from core.hub.watching import Alarm, Thresholds, Watch
from core.schema import Field, Namespace, Schema, ValueType
from tests.faulting import quick_folder

ROOT = Path(__file__).resolve().parents[2]
LONG = int(os.environ.get("RAPPORT_CRASH_ROUNDS", "0")) >= 1000
CHANGES = 100_000 if LONG else 4_000
KILLED = 500 if LONG else 60
PEOPLE = 300
THRESHOLDS = Thresholds(free_bytes=0, backup_seconds=0)
SCHEMA = Schema(
    attributes={"n": Field("n", ValueType.INT), "note": Field("note", ValueType.STRING)}, namespaces={"crm": Namespace("crm")})
STANDING = """
import sys
from core.hub.environment import open_environment
reader = open_environment(sys.argv[1], read_only=True).reader()
print(reader.count("profiles"), flush=True)
sys.stdin.read()
print(reader.count("profiles"), flush=True)
"""
# Processes that read, and end without a word: each holds a slot of LMDB's table.
DYING = """
import os, signal, sys
from core.hub.environment import open_environment
for number in range(int(sys.argv[2])):
    if os.fork() == 0:
        reader = open_environment(sys.argv[1], read_only=True).reader()
        assert reader.count("profiles")
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == -signal.SIGKILL
"""


class Told:
    """A watch of a store whose clock is given."""

    def __init__(self, store: Store) -> None:
        self._now_us = 0
        self._watch = Watch(
            store.environment, THRESHOLDS, seconds=1, begun=lambda alarm: None, ended=lambda alarm: None,
            clock_us=lambda: self._now_us)

    def look(self, seconds: float) -> list[Alarm]:
        self._now_us = int(seconds * 1e6)
        return list(self._watch.turn())


def write(store: Store, chance: random.Random, changes: int) -> int:
    """Change people at random, some dozens a commit; how many bytes data.mdb has then."""
    waiting = []
    for number in range(changes):
        who = (Identifier("crm", str(chance.randrange(PEOPLE))),)
        waiting.append(store.submit(Upsert(identifiers=who, attributes={"n": number, "note": "x" * 200}, at_us=number)))
        if len(waiting) == 64:
            for future in waiting:
                future.result()
            waiting.clear()
    for future in waiting:
        future.result()
    return (Path(store.environment.path) / "data.mdb").stat().st_size


@contextmanager
def standing(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that reads one state until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", STANDING, str(path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{PEOPLE}\n"
        yield process


@pytest.fixture
def store() -> Iterator[Store]:
    with quick_folder() as base, Store.open(base / "store") as opened:
        opened.declare(SCHEMA)
        for number in range(PEOPLE):
            opened.apply(Upsert(identifiers=(Identifier("crm", str(number)),), attributes={"n": 0, "note": "y" * 200}, at_us=0))
        yield opened


def test_a_reader_that_stands_is_told_and_the_file_grows_no_more_once_it_goes(store: Store) -> None:
    seed = int(os.environ.get("RAPPORT_SEED", "20261126"))
    print(f"seed {seed}")
    chance = random.Random(seed)
    path, watch = Path(store.environment.path), Told(store)
    free = write(store, chance, CHANGES)
    assert write(store, chance, CHANGES) <= free * 1.2  # nobody reads: pages are used again
    assert watch.look(0) == []
    with standing(path) as reader:
        grown = write(store, chance, CHANGES)
        # It keeps all that is freed, and no more than that: a commit frees what it writes, some 50 pages here.
        assert free * 1.5 < grown < free + CHANGES // 64 * 4096 * 400
        assert watch.look(1) == []
        [told] = watch.look(1 + THRESHOLDS.reader_seconds)
        assert told.name == "reader"
        assert f"process {reader.pid} " in told.problem
        assert store.profile([Identifier("crm", "1")]) is not None
        _, error = reader.communicate()
        assert reader.returncode == 0, error
    assert watch.look(2 + 2 * THRESHOLDS.reader_seconds) == []
    assert write(store, chance, CHANGES) <= grown * 1.05
    print(f"{CHANGES} changes: {free >> 10} KiB without a reader, {grown >> 10} KiB beside one that stood")


def test_slots_of_killed_readers_are_freed_and_pin_nothing(store: Store) -> None:
    chance = random.Random(1)
    path = Path(store.environment.path)
    subprocess.run([sys.executable, "-c", DYING, str(path), str(KILLED)], cwd=ROOT, check=True, timeout=300)
    assert len(store.environment.readers()) >= KILLED
    assert Told(store).look(0) == []
    assert store.environment.clear_readers() == 0  # the look had freed them
    assert len(store.environment.readers()) <= 1
    free = write(store, chance, CHANGES)
    assert write(store, chance, CHANGES) <= free * 1.2
