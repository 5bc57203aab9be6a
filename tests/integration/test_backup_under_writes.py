"""A hot backup while changes are committed without pause: each copy is the store of exactly the change that it names.

Change n says n in an attribute of customer n % 40, or in reports of two customers at once, so what a
store holds at any change is known without a second store, and a copy of two moments differs from both.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.decision import Identifier
from core.hub import keeping
from core.hub.checking import check_apart
from core.hub.mutations import Outcome, RecordOutcomes, Upsert
from core.hub.store import Store
from core.schema import Field, Namespace, Schema, ValueType
from tests.running import BOUND_SECONDS, ROOT

SCHEMA = Schema(
    attributes={"n": Field("n", ValueType.INT), "note": Field("note", ValueType.STRING)}, namespaces={"crm": Namespace("crm")})
CUSTOMERS = 40
BACKUPS = 4
BEGIN = 2_000  # changes before the first copy, so that one takes a while
COMMAND = "import sys; from core.hub import keeping; print(keeping.backup(*sys.argv[1:3], now_us=int(sys.argv[3]))[0])"


def who(number: int) -> tuple[Identifier, ...]:
    return (Identifier("crm", str(number % CUSTOMERS)),)


def change(n: int) -> Upsert | RecordOutcomes:
    """The n-th after the schema: a long note, or a report of two customers at once."""
    if n % 2:
        return Upsert(identifiers=who(n), attributes={"n": n, "note": f"{n} " * (n % 150)}, at_us=n)
    return RecordOutcomes(outcomes=tuple(
        Outcome(identifiers=who(each), offer="offer", outcome="shown", at_us=n, key=str(n)) for each in (n, n + 7)))


def at(last: int) -> dict[int, tuple[int | None, set[int]]]:
    """What each customer has after change ``last``: n, and the times of his contacts."""
    numbers: dict[int, int | None] = dict.fromkeys(range(CUSTOMERS))
    contacts: dict[int, set[int]] = {customer: set() for customer in range(CUSTOMERS)}
    for n in range(1, last + 1):
        if n % 2:
            numbers[n % CUSTOMERS] = n
        else:
            contacts[n % CUSTOMERS].add(n)
            contacts[(n + 7) % CUSTOMERS].add(n)
    return {customer: (numbers[customer], contacts[customer]) for customer in range(CUSTOMERS)}


def held(path: Path) -> dict[int, tuple[int | None, set[int]]]:
    found: dict[int, tuple[int | None, set[int]]] = {}
    with Store.open(path, read_only=True) as store:
        for customer in range(CUSTOMERS):
            profile = store.profile(who(customer))
            assert profile is not None
            n = profile.attributes.get("n")
            assert n is None or isinstance(n, int)
            assert profile.attributes.get("note", "") == ("" if n is None else f"{n} " * (n % 150)), "a torn record"
            found[customer] = (n, {contact.at_us for contact in profile.contacts})
    return found


class Writer:
    """Commits one change after the other until it is stopped."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.begun, self.stopped = threading.Event(), threading.Event()
        self.done = 0
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._write)

    def _write(self) -> None:
        try:
            while not self.stopped.is_set():
                # Some on their way at any time, so that commits hold several.
                futures = [self.store.submit(change(self.done + each)) for each in range(1, 9)]
                for future in futures:
                    future.result(BOUND_SECONDS)
                self.done += len(futures)
                if self.done >= BEGIN:
                    self.begun.set()
        except BaseException as error:
            self.error = error
        finally:
            self.begun.set()

    @contextmanager
    def writing(self) -> Iterator[None]:
        self.thread.start()
        try:
            assert self.begun.wait(BOUND_SECONDS)
            yield
        finally:
            self.stopped.set()
            self.thread.join(BOUND_SECONDS)
        assert self.error is None, self.error


def test_each_copy_is_the_store_of_the_change_it_names(tmp_path: Path) -> None:
    saved: list[Path] = []
    with Store.open(tmp_path / "s") as store:
        store.declare(SCHEMA, ["offer"], ["web"])
        declared = store.applied
        writer = Writer(store)
        with writer.writing():
            for number in range(1, BACKUPS + 1):
                before = store.applied
                # A process of its own, as an operator's command is.
                done = subprocess.run(
                    [sys.executable, "-c", COMMAND, str(tmp_path / "s"), str(tmp_path / "b"), str(number * 1_000_000)],
                    cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
                    timeout=BOUND_SECONDS, check=False)
                assert done.returncode == 0, done.stderr
                assert store.applied > before, "nothing was written meanwhile: the test proves nothing"
                saved.append(Path(done.stdout.strip()))
        last = store.applied
    reached = []
    for number, backup in enumerate(saved):
        manifest, _ = keeping.restore(str(backup), str(tmp_path / f"r{number}"))
        assert held(tmp_path / f"r{number}") == at(manifest.seq - declared), f"the copy of change {manifest.seq}"
        assert check_apart(str(tmp_path / f"r{number}")).faults == ()
        reached.append(manifest.seq)
    assert reached == sorted(set(reached))
    # And the journal that was written beside the copies leads from the first of them to the end.
    keeping.restore(str(saved[0]), str(tmp_path / "end"), journal_folder=str(tmp_path / "s" / "journal"))
    assert held(tmp_path / "end") == at(last - declared) == held(tmp_path / "s")
    print(f"copies of changes {reached}, {last} in the end")
