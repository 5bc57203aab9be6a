"""kill -9 during backup, compaction and erasure: what is left is whole, and doing it again completes it.

Each child is killed at a random moment of its work; the parent then looks at everything. Compaction works on one store all the
time, so that damage would pile up. RAPPORT_CRASH_ROUNDS sets how often.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from pathlib import Path

from core.decision import Identifier
from core.hub import keeping
from core.hub.checking import check
from core.hub.environment import DATABASES, open_environment
from core.hub.mutations import Erase, RecordedEvent, RecordEvents, Upsert
from core.hub.replaying import OWN
from core.hub.store import Store
from core.schema import EventType, Field, Namespace, Schema, ValueType

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = min(max(int(os.environ.get("RAPPORT_CRASH_ROUNDS", "12")) // 3, 1), 60)
CUSTOMERS = 3_000
SCHEMA = Schema(
    attributes={"note": Field("note", ValueType.STRING)},
    namespaces={"crm": Namespace("crm")},
    events={"step": EventType("step", (Field("page", ValueType.STRING),))},
)
CHILD = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[2]]
import test_keeping_kill as test
print("ready", flush=True)
test.work(*sys.argv[3:])
"""


def who(n: int) -> tuple[Identifier, ...]:
    return (Identifier("crm", f"person-{n}-number"),)


def fill(path: Path) -> None:
    with Store.open(path) as store:
        store.declare(SCHEMA)
        pending = []
        for n in range(CUSTOMERS):
            pending.append(store.submit(Upsert(identifiers=who(n), attributes={"note": f"note-of-{n}-" * 20}, at_us=1)))
            event = RecordedEvent(type="step", key="1", at_us=1, fields={"page": f"page-of-{n}-"})
            pending.append(store.submit(RecordEvents(identifiers=who(n), events=(event,))))
            if len(pending) > 1_000:
                for future in pending:
                    future.result()
                pending.clear()
        for future in pending:
            future.result()


def work(kind: str, store: str, other: str) -> None:
    """What the child does until it is killed."""
    if kind == "compact":
        keeping.compact(store)
    elif kind == "backup":
        keeping.backup(store, other, now_us=int(other.rpartition("-")[2]) * 1_000_000)
    else:
        with Store.open(store) as opened:
            for n in range(int(other), CUSTOMERS):
                opened.apply(Erase(identifiers=who(n), request=str(n), at_us=n))
                print(n, flush=True)


def killed(kind: str, store: Path, other: str, seconds: float) -> list[int]:
    """Run the child, kill it so long after it began; the customers it said were erased."""
    command = [sys.executable, "-c", CHILD, str(ROOT), str(Path(__file__).parent), kind, str(store), other]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline() == "ready\n", child.stderr.read()
        timer = threading.Timer(seconds, child.kill)
        timer.start()
        told = [int(line) for line in child.stdout if line.endswith("\n")]
        problem = child.stderr.read()
        child.wait()
        timer.cancel()
    assert child.returncode in (0, -9), problem
    return told


def everything(path: Path) -> dict[str, list[tuple[bytes, bytes]]]:
    """All entries but what a restored store has of its own."""
    environment = open_environment(str(path), read_only=True)
    try:
        assert check(environment).faults == ()
        with environment.reader() as reader:
            return {name: [row for row in reader.items(name) if row[0] not in OWN] for name in DATABASES}
    finally:
        environment.close()


def seeded() -> random.Random:
    seed = int(os.environ.get("RAPPORT_SEED", "20261126"))
    print(f"seed {seed}, {ROUNDS} rounds")
    return random.Random(seed)


def test_a_compaction_killed_anywhere_leaves_the_whole_store(tmp_path: Path) -> None:
    chance = seeded()
    store = tmp_path / "store"
    fill(store)
    before = everything(store)
    for _ in range(ROUNDS):
        killed("compact", store, "", chance.uniform(0, 0.2))
        assert everything(store) == before
    keeping.compact(str(store))
    assert everything(store) == before
    assert sorted(path.name for path in store.iterdir() if path.name != "lock.mdb") == ["data.mdb", "journal", "rapport.lock"]


def test_a_backup_killed_anywhere_is_whole_or_not_there(tmp_path: Path) -> None:
    chance = seeded()
    store = tmp_path / "store"
    fill(store)
    before = everything(store)
    for number in range(1, ROUNDS + 1):
        into = tmp_path / f"backups-{number}"
        killed("backup", store, str(into), chance.uniform(0, 0.3))
        finished = [path for path in into.glob("*") if path.suffix != keeping.PART] if into.exists() else []
        if not finished:
            finished = [keeping.backup(str(store), str(into), now_us=number * 1_000_000)[0]]
        assert list(into.iterdir()) == finished
        keeping.restore(str(finished[0]), str(tmp_path / f"restored-{number}"))
        assert everything(tmp_path / f"restored-{number}") == before
    assert everything(store) == before


def test_an_erasure_killed_anywhere_stands_when_it_was_acknowledged(tmp_path: Path) -> None:
    """And each customer is there whole or gone whole: the check finds no list, identifier or record of half a customer."""
    chance = seeded()
    store = tmp_path / "store"
    fill(store)
    erased = 0
    for _ in range(ROUNDS):
        told = killed("erase", store, str(erased), chance.uniform(0.05, 0.3))
        # What was in the journal and not committed yet counts from the next start on.
        Store.open(store).close()
        everything(store)
        with Store.open(store, read_only=True) as opened:
            gone = [n for n in range(CUSTOMERS) if opened.profile(who(n)) is None]
            assert [int(entry.request) for entry in opened.audit()] == gone
        assert gone == list(range(len(gone))), "they are erased in order"
        assert len(gone) >= erased + len(told)
        erased = len(gone)
    assert erased, "no child lived long enough to erase anybody"
    keeping.compact(str(store))
    data = (store / "data.mdb").read_bytes()
    for n in range(erased):
        for text in (f"person-{n}-number", f"note-of-{n}-", f"page-of-{n}-"):
            assert text.encode() not in data
    assert (f"person-{CUSTOMERS - 1}-number".encode() in data) == (erased < CUSTOMERS)
