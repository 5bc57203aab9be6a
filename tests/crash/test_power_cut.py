"""The power goes at any moment of a store's short life: what was acknowledged is there, whatever was not written yet.

One life is recorded below the product (tests/native/faultdisk.c), then the disk is built as it may be after each call
(tests/powercut.py), and the store in it is opened, checked and compared with what had been acknowledged by then. A seeded
choice of moments in `make test`, all of them in each way with RAPPORT_CRASH_ROUNDS of 1,000 and more (`make crash`).
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import StoreError
from tests.crash import short_life
from tests.faulting import faulty_disk, quick_folder
from tests.powercut import Call, Disk, Kept, calls

ROOT = Path(__file__).resolve().parents[2]
MOMENTS = 200
EVERY = int(os.environ.get("RAPPORT_CRASH_ROUNDS", "0")) >= 1000


def recorded(base: Path, table: Path) -> list[Call]:
    """The calls of one life on a whole disk, and its acknowledgements among them."""
    disk = faulty_disk(base)
    (disk.folder / "life").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.short_life", str(table), str(disk.acks)], cwd=ROOT,
        env={**os.environ, **disk.environment(traced=True)}, input=f"{disk.folder / 'life'}\n", stdout=subprocess.PIPE,
        text=True, timeout=120, check=True,
    )
    assert done.stdout == "0 \n"
    return [call for call in calls(disk.trace) if call.name == "ack" or call.path.startswith(f"{disk.folder}/life")]


def cut(
    base: Path, trace: list[Call], states: dict[int, str], moments: list[tuple[int, Kept]], chance: random.Random
) -> None:
    """Fails unless what is left by a cut at each of the ``moments``, which ascend, is right."""
    disk, done, told = Disk(base / "disk" / "life"), 0, list[str]()
    for moment, kept in moments:
        for call in trace[done:moment]:
            if call.name == "ack":
                told.append(call.data.decode().strip())
            else:
                disk.do(call)
        done = moment
        folder, scratch = base / "left", base / "scratch"
        disk.left(folder, kept, chance, trace[moment] if moment < len(trace) else None)
        try:
            short_life.look(folder, told, states, scratch)
        except BaseException as error:
            error.add_note(f"with {kept.value} of what was not synced, after call {moment} of {len(trace)}")
            raise
        finally:
            shutil.rmtree(folder)
            shutil.rmtree(scratch, ignore_errors=True)


def test_a_power_cut_at_any_moment_loses_nothing_acknowledged() -> None:
    """One of its findings: the folder that a first backup made was not synced, so a cut could take an acknowledged backup."""
    seed = int(os.environ.get("RAPPORT_SEED", "20261126"))
    chance = random.Random(seed)
    with quick_folder() as base:
        table = base / "visits.csv"
        table.write_text(short_life.IMPORT)
        (base / "reference").mkdir()
        states = short_life.reference(base / "reference", table)
        trace = recorded(base, table)
        assert sum(call.name == "sync" for call in trace) > 50
        assert any(call.synchronous for call in trace), "the meta page of a new store goes through an O_DSYNC descriptor"
        moments = [(moment, kept) for moment in range(len(trace) + 1) for kept in Kept]
        if not EVERY:
            moments = sorted(chance.sample(moments, MOMENTS), key=lambda each: each[0])
        print(f"seed {seed}, {len(trace)} calls, {len(moments)} cuts")
        cut(base, trace, states, moments, chance)
        # The judge judged: without the syncs of a store that works, or without those of its journal, it must find loss.
        last = [call.name for call in trace].index("sync", len(trace) * 2 // 3)
        deaf = [call for call in trace if call.name != "sync" or not call.path.endswith("store/data.mdb")]
        lazy = [call for call in trace if call.name != "sync" or not call.path.endswith(".journal")]
        for wrong in (deaf, lazy):
            with pytest.raises((AssertionError, StoreError)):
                cut(base, wrong, states, [(moment, Kept.NONE) for moment in range(0, last, 5)], chance)
