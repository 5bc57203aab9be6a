"""A store in use while its disk fails: what writers are told, that reads go on, and what is there afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core import limits
from core.decision import Identifier
from core.hub.mutations import Upsert
from core.hub.store import Store
from core.schema import Field, Namespace, Schema, ValueType
from tests.faulting import faulty_disk, quick_folder

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = Schema(attributes={"n": Field("n", ValueType.INT)}, namespaces={"crm": Namespace("crm")})
ALL = "write,pwrite,dwrite,fdatasync,fsync,ftruncate,fallocate"
# Three changes, each followed by a read: the number read back, or the reason told.
FAILING = ["STORE_READ_ONLY", 1] * 3
FULL = ["STORE_FULL", 1] * 3
ONCE_FULL = ["STORE_FULL", 1, 3, 3, 4, 4]
WRITTEN = [2, 2, 3, 3, 4, 4]
# What the rule is; what three changes under it and one after it was lifted are told; what is read in the end. A commit is a write
# and a sync of the journal, then the same of data.mdb, and last LMDB's note of the commit, which nobody waits for.
STORIES = [
    # A page that cannot be written, one that cannot be synced, and LMDB's note of the commit that cannot be: writing
    # ends for good, for nobody knows what the disk holds. Once is enough: a disk that lost a write may not say so twice.
    ("eio pwrite,write 1", FAILING, "STORE_READ_ONLY", 1),
    ("eio-on pwrite,write 1", FAILING, "STORE_READ_ONLY", 1),
    ("eio pwrite,write 2", FAILING, "STORE_READ_ONLY", 1),
    ("eio pwrite,write 3", FAILING, "STORE_READ_ONLY", 1),
    ("eio fdatasync 1", FAILING, "STORE_READ_ONLY", 1),
    ("eio-on fdatasync 1", FAILING, "STORE_READ_ONLY", 1),
    ("eio fdatasync 2", FAILING, "STORE_READ_ONLY", 1),
    (f"eio-on {ALL} 1", FAILING, "STORE_READ_ONLY", 1),
    # A file system that the system made read-only after an error of its own.
    (f"erofs-on {ALL} 1", FAILING, "STORE_READ_ONLY", 1),
    # Full: nothing is broken, and writes are taken again as soon as there is room.
    ("enospc pwrite,write 1", ONCE_FULL, 9, 9),
    ("enospc-on pwrite,write 1", FULL, 9, 9),
    ("enospc pwrite,write 2", ONCE_FULL, 9, 9),
    ("enospc fdatasync 1", ONCE_FULL, 9, 9),
    ("enospc fdatasync 2", ONCE_FULL, 9, 9),
    # Writes of which only a part arrived: the journal writes the rest, LMDB gives up.
    ("short pwrite,write 1", WRITTEN, 9, 9),
    ("short pwrite,write 2", FAILING, "STORE_READ_ONLY", 1),
]
# Without a journal LMDB's note of the commit is what makes it durable.
NOTED = [
    ("eio pwrite,write 1", FAILING, "STORE_READ_ONLY", 1),
    ("eio fdatasync 1", FAILING, "STORE_READ_ONLY", 1),
    ("enospc pwrite,write 1", ONCE_FULL, 9, 9),
    ("enospc fdatasync 1", ONCE_FULL, 9, 9),
    ("short pwrite,write 1", FAILING, "STORE_READ_ONLY", 1),
    ("eio dwrite 1", FAILING, "STORE_READ_ONLY", 1),
    # Full just when the commit was to be noted, as a disk that copies on writing can be: LMDB then refuses even reads. It was
    # told as a full store that takes writes again, and every read failed until the next write was tried.
    ("enospc dwrite 1", FAILING, "STORE_READ_ONLY", 1),
    ("enospc-on dwrite 1", FAILING, "STORE_READ_ONLY", 1),
    ("short dwrite 1", FAILING, "STORE_READ_ONLY", 1),
]
CASES = [pytest.param(limits.JOURNAL_BYTES, *story, id=story[0].replace(" ", "-")) for story in STORIES]
CASES += [pytest.param(0, *story, id=f"alone-{story[0].replace(' ', '-')}") for story in NOTED]


def put(store: Store, number: int) -> int | str:
    """The number once it is stored, or why it is not."""
    from core.errors import StoreError

    who = (Identifier("crm", "1"),)
    try:
        store.apply(Upsert(identifiers=who, attributes={"n": number}, at_us=number))
    except StoreError as error:
        return error.reason if error.hint else f"{error.reason}, and nothing about what to do"
    return number


def read(store: Store) -> int:
    profile = store.profile([Identifier("crm", "1")])
    assert profile is not None
    found = profile.attributes["n"]
    assert isinstance(found, int)
    return found


def child(path: str, rule_file: str, rule: str, journal_bytes: str) -> None:
    """Runs on the failing disk, and prints what it was told."""
    with Store.open(path, journal_bytes=int(journal_bytes)) as store:
        store.declare(SCHEMA)
        put(store, 1)
        held = store.environment.reader()
        Path(rule_file).write_text(rule)
        told: list[int | str] = []
        for number in (2, 3, 4):
            told += [put(store, number), read(store)]
            # A reader of before moves on as well: to the twin, where LMDB refuses its own environment.
            held.renew()
            assert held.count("profiles") == 1
        Path(rule_file).write_text("")
        told += [put(store, 9), read(store)]
        held.close()
    print(json.dumps(told))


@pytest.mark.parametrize(("journal_bytes", "rule", "told", "afterwards", "left"), CASES)
def test_a_failing_disk_is_told_and_reads_go_on(
    journal_bytes: int, rule: str, told: list[int | str], afterwards: int | str, left: int
) -> None:
    code = "import sys; from tests.crash import test_failing_disk as test; test.child(*sys.argv[1:])"
    with quick_folder() as base:
        disk = faulty_disk(base)
        path = disk.folder / "store"
        done = subprocess.run(
            [sys.executable, "-c", code, str(path), str(disk.rule_file), rule, str(journal_bytes)], cwd=ROOT,
            env={**os.environ, **disk.environment()}, stdout=subprocess.PIPE, text=True, timeout=60, check=True,
        )
        assert json.loads(done.stdout) == [*told, afterwards, left]
        # Started again on a disk that works: what was acknowledged is there, and writes are taken.
        with Store.open(path, journal_bytes=journal_bytes) as store:
            # One that was refused may be stored all the same: its note may have reached the disk. None here did.
            assert read(store) == left
            assert put(store, 10) == 10
            assert store.check().faults == ()
