"""A store's short life in about a hundred changes, always the same: what the failpoint and power cut tests break and look at.

Everything that writes is in it: creation, single changes and a group, a join and its undo, erasure, an import, a backup,
compaction, a restore. The same changes make the same bytes, so the state after each has one digest, and a store found after a
fault is right when its digest is that of the changes it says it has: anything half there would differ.

As a program it is a server of such lives: for each folder named on its input it forks, lives there, and says how that ended.
It is started once with everything imported, because a process for each of hundreds of failpoints would take minutes.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from core.decision import Identifier
from core.errors import StoreUnavailable
from core.hub import keeping
from core.hub.environment import DATABASES, open_environment
from core.hub.mutations import (
    ActivateProgram,
    CloseCase,
    Erase,
    Join,
    Mutation,
    OpenCase,
    Outcome,
    RecordedEvent,
    RecordEvents,
    RecordOutcomes,
    SaveProgram,
    SetConsent,
    Unmerge,
    Upsert,
)
from core.hub.replaying import OWN
from core.hub.store import Store
from core.importing import mapping
from core.importing.importer import Importer
from core.programs.source import Sources
from core.schema import EventType, Field, Namespace, Schema, SourceRule, ValueType

SCHEMA = Schema(
    attributes={
        "n": Field("n", ValueType.INT), "note": Field("note", ValueType.STRING),
        "points": Field("points", ValueType.INT, sources=("a", "b"), rule=SourceRule.SUM),
    },
    namespaces={"crm": Namespace("crm", trust=9), "cookie": Namespace("cookie")},
    events={"visit": EventType("visit", (Field("pages", ValueType.INT),))},
    purposes=("ads",), case_kinds=("fault",),
)
MAPPING = b"""
mapping: visits
source: a
row: event
identifiers: {crm: id}
event: visit
at: {column: at, format: epoch_s}
key: row_number
fields: {pages: pages}
"""
IMPORT = "id,at,pages\n" + "".join(f"{number % 11},{1_700_000_000 + number},{number}\n" for number in range(60))
NOW = 1_790_000_000_000_000
# Changes that one acknowledgement stands for at most: those of the group below.
GROUP = 6


def crm(number: int) -> tuple[Identifier, ...]:
    return (Identifier("crm", str(number)),)


def cookie(number: int) -> tuple[Identifier, ...]:
    return (Identifier("cookie", f"c{number}"),)


def visit(number: int, at: int, who: tuple[Identifier, ...]) -> RecordEvents:
    event = RecordedEvent(type="visit", key=str(number), at_us=NOW + at, fields={"pages": number})
    return RecordEvents(identifiers=who, events=(event,))


def first_changes() -> Iterator[Mutation]:
    for number in range(8):
        yield Upsert(identifiers=crm(number), attributes={"n": number, "note": f"{number} " * 40 * number}, at_us=NOW + number)
    for number in range(4):
        yield visit(number, 100 + number, cookie(number))
        shown = Outcome(
            identifiers=crm(number), offer="card", outcome="shown", channel="web", at_us=NOW + 200, instance=number + 1)
        yield RecordOutcomes(outcomes=(shown,))
    yield Upsert(identifiers=crm(1), attributes={"points": 3}, source="a", at_us=NOW + 300)
    yield Upsert(identifiers=cookie(1), attributes={"points": 4}, source="b", at_us=NOW + 301)
    yield SetConsent(identifiers=crm(1), purpose="ads", granted=True, at_us=NOW + 302)
    yield OpenCase(identifiers=crm(2), kind="fault", key="k", at_us=NOW + 303)
    yield Join(identifiers=crm(1) + cookie(1), at_us=NOW + 304)
    yield visit(77, 50, crm(1))  # late, and said of one who was joined


def group() -> Iterator[Mutation]:
    for number in range(GROUP):
        yield Upsert(identifiers=crm(20 + number), attributes={"note": "x" * 1000}, at_us=NOW + 400)


def later_changes() -> Iterator[Mutation]:
    yield Unmerge(identifiers=crm(1), at_us=NOW + 500)
    yield Erase(identifiers=crm(3), request="R-1", at_us=NOW + 501)
    yield CloseCase(identifiers=crm(2), kind="fault", key="k", at_us=NOW + 502)
    yield Join(identifiers=crm(4) + cookie(2), at_us=NOW + 503)
    yield Erase(identifiers=crm(4), request="R-2", at_us=NOW + 504)
    files = {"program.yaml": b"name: shop" * 100}
    yield SaveProgram(name="shop", digest=Sources(files).digest, sources=files, image=b"i" * 9000, at_us=NOW + 505)
    yield ActivateProgram(name="shop", version=1, at_us=NOW + 506)
    for number in range(6):
        yield Upsert(identifiers=crm(number + 5), attributes={"note": None, "n": -number}, at_us=NOW + 600 + number)


def live(folder: Path, table: Path, acknowledge: Callable[[str], None]) -> None:
    """The whole life. ``table`` is the file to import, ``acknowledge`` is told what may be relied upon from then on."""

    def change(store: Store, mutation: Mutation) -> None:
        store.apply(mutation)
        acknowledge(f"applied {store.applied}")

    path = folder / "store"
    with Store.open(path) as store:
        store.declare(SCHEMA, ["card"], ["web"])
        acknowledge(f"applied {store.applied}")
        for mutation in first_changes():
            change(store, mutation)
        for future in [store.submit(mutation) for mutation in group()]:
            future.result()
        acknowledge(f"applied {store.applied}")
        Importer(store, mapping.parse(MAPPING, "m.yaml", SCHEMA), now=lambda: NOW).run(table)
        acknowledge(f"applied {store.applied}")
    saved, _ = keeping.backup(str(path), str(folder / "backups"), now_us=1_000_000)
    acknowledge(f"saved {saved.name}")
    keeping.compact(str(path))
    with Store.open(path) as store:
        for mutation in later_changes():
            change(store, mutation)
    saved, _ = keeping.backup(str(path), str(folder / "backups"), now_us=2_000_000)
    acknowledge(f"saved {saved.name}")
    keeping.restore(str(saved), str(folder / "restored"))
    acknowledge("restored")


def digest(path: Path) -> tuple[int, str]:
    """The last change a store says it has, and the digest of everything in it but its key and what a restored one has of its own.

    Fails unless it is sound.
    """
    from core.hub.checking import check

    environment = open_environment(str(path), read_only=True)
    try:
        found = check(environment)
        assert found.faults == (), found.faults
        return found.applied, _digest(environment)
    finally:
        environment.close()


def _digest(environment: Any) -> str:
    made = hashlib.sha256()
    with environment.reader() as reader:
        for name in DATABASES:
            for key, value in reader.items(name):
                if key != b"signing_key" and key not in OWN:
                    made.update(b"%s %d %d " % (name.encode(), len(key), len(value)) + key + value)
    return made.hexdigest()


def reference(folder: Path, table: Path) -> dict[int, str]:
    """The digest after each change, by its number, from a life on a whole disk in this process."""
    states: dict[int, str] = {}
    submit = Store.submit

    def alone(store: Store, mutation: Mutation, *, background: bool = False) -> Future[Any]:
        future = submit(store, mutation, background=background)
        future.exception()
        states[store.applied] = _digest(store.environment)
        return future

    Store.submit = alone  # type: ignore[method-assign, assignment]
    try:
        with Store.open(folder / "empty") as store:
            states[0] = _digest(store.environment)
        live(folder, table, lambda told: None)
    finally:
        Store.submit = submit  # type: ignore[method-assign]
    return states


def look(folder: Path, told: list[str], states: dict[int, str], scratch: Path) -> None:
    """Fails unless what is in ``folder`` after a fault is whole and holds everything that was ``told``.

    ``scratch`` is a new folder for what is restored meanwhile. The store then takes a change, a backup and a
    compaction, so nobody has to repair anything.
    """
    applied = max((int(line.split()[1]) for line in told if line.startswith("applied")), default=0)
    saved = [line.split()[1] for line in told if line.startswith("saved")]
    path = folder / "store"
    try:
        Store.open(path, read_only=True).close()
    except StoreUnavailable:
        # Only a store that was never whole may be missing: opening it for writing makes it.
        assert not told
        folder.mkdir(exist_ok=True)
    Store.open(path).close()
    found, state = digest(path)
    assert applied <= found <= applied + GROUP + 1, f"{applied} changes were acknowledged, {found} are there"
    assert state == states[found], f"change {found} or one before it is half there"
    scratch.mkdir()
    names = [each.name for each in (folder / "backups").iterdir()] if (folder / "backups").is_dir() else []
    assert set(saved) <= set(names)
    for number, name in enumerate(names):
        if not name.endswith(keeping.PART):
            manifest, _ = keeping.restore(str(folder / "backups" / name), str(scratch / str(number)))
            assert digest(scratch / str(number)) == (manifest.seq, states[manifest.seq])
    if "restored" in told or (folder / "restored").exists():
        seq = max(states)
        assert digest(folder / "restored") == (seq, states[seq])
    with Store.open(path) as store:
        store.declare(SCHEMA, ["card"], ["web"])
        store.apply(Upsert(identifiers=crm(999), attributes={"n": 1}, at_us=NOW + 900))
        after = store.applied
    kept, manifest = keeping.backup(str(path), str(folder / "backups"), now_us=9_000_000)
    assert manifest.seq == after
    assert not list(kept.parent.glob(f"*{keeping.PART}"))
    keeping.compact(str(path))
    assert digest(path)[0] == after


def serve(table: Path, acks: Path) -> None:
    """For each folder on the input, a life in it, in a child of its own: its exit status, negative for a signal, its error."""

    def acknowledge(told: str) -> None:
        os.write(file, f"{told}\n".encode())

    for line in sys.stdin:
        told, tell = os.pipe()
        child = os.fork()
        if child == 0:
            file = os.open(acks, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
            try:
                live(Path(line.rstrip("\n")), table, acknowledge)
            except BaseException as error:
                reason = getattr(error, "reason", "")
                os.write(tell, f"{reason or type(error).__name__}: {error}".replace("\n", " ").encode()[:4000])
                os._exit(1)
            os._exit(0)
        os.close(tell)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(status, os.read(told, 4096).decode(errors="replace"), flush=True)
        os.close(told)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), Path(sys.argv[2]))
