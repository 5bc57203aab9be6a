"""kill -9 at any moment loses nothing acknowledged and tears nothing, and whoever reads meanwhile reads on.

A child writes and prints each acknowledgement; the parent kills it after a random number of them, opens the store,
reads all of it, and compares. The store is then written by the next child: damage would pile up. Four readers, processes of their
own, have the store open through all of it. A backup of the first round and the journal since must make the same store each time.
RAPPORT_CRASH_ROUNDS sets how often.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import traceback
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from core.decision import Identifier
from core.hub import keeping
from core.hub.environment import DATABASES
from core.hub.replaying import OWN
from core.hub.store import Store
from tests.crash import hub_writer
from tests.crash.hub_writer import j, m, pair
from tests.faulting import quick_folder

ROOT = Path(__file__).parents[2]
CUSTOMERS = 50
# A new store after so many, so that reading all of it does not take ever longer.
ROUNDS_A_STORE = 100
READERS = 4
READS = 20  # customers a reader and round
# Acknowledgements to wait for; 0 kills when the child says "opening", while it creates or recovers the store.
KILL_AFTER = (0, 0, 1, 3, 50, 400, 1500)


def killed_child(path: Path, start: int, acknowledgements: int) -> tuple[dict[str, set[int]], int]:
    """Fork a writer, kill it after so many acknowledgements; what it acknowledged by kind, and the highest number.

    Forked, because starting a thousand interpreters takes longer than all else; nothing is open here meanwhile.
    """
    acked: dict[str, set[int]] = defaultdict(set)
    highest = start
    seen = 0
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(tell, 1)
        sys.stdout = os.fdopen(1, "w")
        try:
            hub_writer.main(str(path), start)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(tell)
    with os.fdopen(told) as lines:
        for line in lines:
            if line.startswith("ack") and line.endswith("\n"):
                _, number, kind = line.split()
                acked[kind].add(int(number))
                highest = max(highest, int(number))
                seen += 1
            if seen >= acknowledgements:
                os.kill(child, signal.SIGKILL)  # lines already in the pipe are read on: they were acknowledged as well
                acknowledgements = sys.maxsize
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == -signal.SIGKILL, f"the writer ended by itself with {status}"
    return acked, highest


def test_acknowledged_is_stored_and_nothing_is_torn() -> None:
    seed = int(os.environ.get("RAPPORT_SEED", "20261122"))
    rounds = int(os.environ.get("RAPPORT_CRASH_ROUNDS", "12"))
    print(f"seed {seed}, {rounds} rounds")
    chance = random.Random(seed)
    for first in range(0, rounds, ROUNDS_A_STORE):
        with quick_folder() as base:
            kill(base / "store", range(first, min(first + ROUNDS_A_STORE, rounds)), chance, seed)
        print(f"{min(first + ROUNDS_A_STORE, rounds)} rounds", flush=True)


def kill(path: Path, rounds: range, chance: random.Random, seed: int) -> None:
    """Rounds on one store."""
    everything: dict[str, set[int]] = defaultdict(set)
    start, seen = 1, 0
    saved: Path | None = None
    with contextlib.ExitStack() as opened:
        readers: list[subprocess.Popen[str]] = []
        for round_ in rounds:
            where = f"round {round_}, seed {seed}"
            for reader in readers:
                asked(reader, f"{READS}\n")
            acked, highest = killed_child(path, start, chance.choice(KILL_AFTER))
            for kind, numbers in acked.items():
                everything[kind] |= numbers
            for reader in readers:
                seen += int(answered(reader))
            with Store.open(path) as store:
                assert store.check().faults == ()
                if "n" not in store.catalog.attributes:
                    assert not everything
                    continue
                check(store, everything, where)
                check_pairs(store, everything, start, highest + 100, where)
                # Up to 60 unacknowledged mutations may be stored as well; the next child numbers past them.
                start = highest + 100
                now = entries(store)
            if saved is None:
                saved, _ = keeping.backup(str(path), f"{path}-saved", now_us=1)
            else:
                keeping.restore(str(saved), f"{path}-restored", journal_folder=str(path / "journal"))
                with Store.open(f"{path}-restored", read_only=True) as restored:
                    assert entries(restored) == now, where
                shutil.rmtree(f"{path}-restored")
            while len(readers) < READERS:
                readers.append(opened.enter_context(reading(path, seed + len(readers))))
        for reader in readers:
            assert reader.stdin is not None
            reader.stdin.close()
            assert reader.wait(60) == 0
    assert seen > 0 or len(rounds) < 12


def entries(store: Store) -> dict[str, list[tuple[bytes, bytes]]]:
    """All but what a restored store has of its own."""
    with store.environment.reader() as reader:
        return {name: [row for row in reader.items(name) if row[0] not in OWN] for name in DATABASES}


@contextlib.contextmanager
def reading(path: Path, seed: int) -> Iterator[subprocess.Popen[str]]:
    """A reader, which is ended by the end of its input, or when the test fails."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.crash.hub_reader", str(path), str(seed)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as reader:
        try:
            yield reader
        except BaseException:
            reader.kill()
            raise


def asked(reader: subprocess.Popen[str], line: str) -> None:
    assert reader.stdin is not None
    reader.stdin.write(line)
    reader.stdin.flush()


def answered(reader: subprocess.Popen[str]) -> str:
    assert reader.stdout is not None
    line = reader.stdout.readline()
    assert line, "a reader failed; its error is above"
    return line


def check_pairs(store: Store, acked: dict[str, set[int]], first: int, end: int, where: str) -> None:
    """Each pair of this round must be as one of its steps left it, the last acknowledged or a later one."""
    for n in range(first - first % 10, end, 10):
        steps = [kind for kind, _ in pair(n)]
        found = tuple(store.customer(one) for one in (m(n), j(n)))
        seen = (found[0] is not None, found[1] is not None, None not in found and found[0] == found[1])
        done = max((place for place, kind in enumerate(steps, 1) if n in acked.get(kind, ())), default=0)
        left = {"m": (True, False, False), "j": (True, True, False), "join": (True, True, True), "unmerge": (True, True, False),
                "erase": (False, "unmerge" in steps, False)}
        possible = [(False, False, False), *(left[kind] for kind in steps)][done:]
        assert seen in possible, f"pair {n} after step {done}: {seen} ({where})"


def check(store: Store, acked: dict[str, set[int]], where: str) -> None:
    for customer in range(CUSTOMERS):
        mine = {kind: {n for n in numbers if n % CUSTOMERS == customer} for kind, numbers in acked.items()}
        profile = store.profile([Identifier("crm", str(customer))])
        if profile is None:
            assert not any(mine.values()), f"customer {customer} was acknowledged and is lost ({where})"
            continue
        events = {event.fields["n"] for event in profile.events}
        contacts = {contact.instance for contact in profile.contacts}
        assert mine.get("event", set()) <= events, where
        assert mine.get("outcome", set()) <= contacts, where
        for event in profile.events:
            assert event.fields["n"] == event.at_us, where
        number = profile.attributes.get("n")
        if mine.get("upsert"):
            assert isinstance(number, int), where
            assert number >= max(mine["upsert"]), where
        if isinstance(number, int):
            assert profile.attributes.get("digits") == str(number) * (number % 60), f"a torn record ({where})"
