"""kill -9 at any moment loses nothing acknowledged and tears nothing.

A child writes and prints each acknowledgement; the parent kills it after a random number of them, opens the store,
reads all of it, and compares. The store is then written by the next child: damage would pile up. A backup of the first round
and the journal since must make the same store each time. RAPPORT_CRASH_ROUNDS sets how often.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from core.decision import Identifier
from core.hub import keeping
from core.hub.environment import DATABASES
from core.hub.journal import LINEAGE
from core.hub.store import Store

WRITER = Path(__file__).with_name("hub_writer.py")
ROOT = Path(__file__).parents[2]
CUSTOMERS = 50
# Acknowledgements to wait for; 0 kills when the child says "opening", while it creates or recovers the store.
KILL_AFTER = (0, 0, 1, 3, 50, 400, 1500)


def killed_child(path: Path, start: int, acknowledgements: int) -> tuple[dict[str, set[int]], int]:
    """Run the writer, kill it after so many acknowledgements; what it acknowledged by kind, and the highest number."""
    acked: dict[str, set[int]] = defaultdict(set)
    highest = start
    seen = 0
    with subprocess.Popen(
        [sys.executable, str(WRITER), str(path), str(start)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith("ack") and line.endswith("\n"):
                _, number, kind = line.split()
                acked[kind].add(int(number))
                highest = max(highest, int(number))
                seen += 1
            if seen >= acknowledgements:
                child.kill()  # SIGKILL; lines already in the pipe are read on: they were acknowledged as well
                acknowledgements = sys.maxsize
    assert child.returncode == -9, f"the writer ended by itself with {child.returncode}"
    return acked, highest


def test_acknowledged_is_stored_and_nothing_is_torn(tmp_path: Path) -> None:
    seed = int(os.environ.get("RAPPORT_SEED", "20261122"))
    rounds = int(os.environ.get("RAPPORT_CRASH_ROUNDS", "12"))
    print(f"seed {seed}, {rounds} rounds")
    chance = random.Random(seed)
    everything: dict[str, set[int]] = defaultdict(set)
    start = 1
    saved: Path | None = None
    for round_ in range(rounds):
        acked, highest = killed_child(tmp_path / "store", start, chance.choice(KILL_AFTER))
        for kind, numbers in acked.items():
            everything[kind] |= numbers
        with Store.open(tmp_path / "store") as store:
            assert store.check().faults == ()
            if "n" not in store.catalog.attributes:
                assert not everything
                continue
            check(store, everything, f"round {round_}, seed {seed}")
            now = entries(store)
            # Up to 60 unacknowledged mutations of 3 a number may be stored as well; the next child numbers past them.
            start = highest + 100
        if saved is None:
            saved, _ = keeping.backup(str(tmp_path / "store"), str(tmp_path / "saved"), now_us=1)
        else:
            keeping.restore(str(saved), str(tmp_path / "restored"), journal_folder=str(tmp_path / "store" / "journal"))
            with Store.open(tmp_path / "restored", read_only=True) as restored:
                assert entries(restored) == now, f"round {round_}, seed {seed}"
            shutil.rmtree(tmp_path / "restored")


def entries(store: Store) -> dict[str, list[tuple[bytes, bytes]]]:
    """All but the lineage, which a restored store has of its own."""
    with store.environment.reader() as reader:
        return {name: [row for row in reader.items(name) if row[0] != LINEAGE] for name in DATABASES}


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
