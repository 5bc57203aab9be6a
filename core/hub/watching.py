"""Looks after a store in use and says what will hurt before it does: a map or disk that fills, a reader that stands, no backup.

A look is numbers; `alarms` makes of them what is wrong, why it matters and what to do, the same for the server's watch and for
`rapport store status`. The watch is a thread that looks every few seconds and tells when an alarm begins and when it ends. Each
look frees the slots of readers whose process ended.

Damage is told to the watch by whoever meets it: a call that read it, or the look at all pages that follows a start.

A snapshot that is held keeps every page freed since from being reused, so the file grows by what is written. How long one
has been behind is known by watching, or from when the commit after it was made, which the journal has.

Files that are moved or removed under the process that has them open are written on, and found by nobody: the watch compares
what lies at the path with what was opened.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from core.errors import RapportError, StoreCorrupt
from core.hub import journal, keeping
from core.hub.environment import Environment

# For how many seconds the first of these (transaction, process) has been behind the newest transaction.
Since = Callable[[list[tuple[int, int]]], float]
# An alarm ends this much below where it begins, so that it does not come and go at the edge.
SLACK: Final = 0.05


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Where alarms begin. A number of 0 turns that alarm off. ``journal`` says whether one is kept, and so to be missed."""

    map_percent: float = 85
    free_bytes: int = 1 << 30
    reader_seconds: float = 600
    backup_seconds: float = 7 * 86_400
    journal: bool = True


@dataclass(frozen=True, slots=True)
class Look:
    """A store at a moment. ``reader_seconds`` is how long the oldest reader that holds something back has done so, 0: none does.

    ``journal_last`` is the journal's last change; to the watch, which reads no frames, that before its newest file.
    ``backup_seconds`` counts from the newest backup that is known and there, or from the journal's beginning (``backed`` is then
    False); None where neither is. ``journal_gap`` is how many changes lie between that backup and where the journal begins: no
    moment in them, nor any after them, can be restored until there is a later backup. ``journal_missing`` is how many of the
    newest changes are neither in that backup nor in the journal, as of one whose files were removed; 0 to the watch.
    ``backups_unusable`` says of each known backup that is there and cannot be used, where it is and why; it counts for nothing.
    """

    map_bytes: int
    used_bytes: int
    live_bytes: int
    free_pages: int
    customers: int
    readers: int
    readers_cleared: int
    reader_behind: int
    reader_process: int
    reader_seconds: float
    disk_free_bytes: int
    journal_bytes: int
    journal_first: int
    journal_last: int
    restorable_from: str
    backed: bool
    backup_seconds: float | None
    backups_unusable: list[str]
    journal_gap: int
    journal_missing: int

    @property
    def live_percent(self) -> float:
        """How much of the map is in use."""
        return 100 * self.live_bytes / self.map_bytes


@dataclass(frozen=True, slots=True)
class Alarm:
    """What will hurt: its name, what was found, and what to do."""

    name: str
    problem: str
    hint: str


def look(environment: Environment, map_bytes: int, now_us: int, since: Since | None = None) -> Look:
    """Look at a store whose map may grow to ``map_bytes``, and free what killed readers held.

    ``since`` says for how many seconds the first of some readers has been behind; without it the journal is asked.
    """
    folder = Path(environment.path, journal.FOLDER)
    cleared = environment.clear_readers()
    found = environment.statistics()
    free = environment.free_pages()
    reading = [(reads, process) for process, reads in environment.readers() if reads is not None]
    # Beside the snapshot that the look itself takes there may be any number that are not behind.
    oldest, process = min(reading, default=(found["last_transaction"], 0))
    behind = max(found["last_transaction"] - oldest, 0)
    seconds = 0.0
    if behind:
        if since is not None:
            seconds = since(sorted(each for each in reading if each[0] < found["last_transaction"]))
        else:
            at_us = journal.committed_us(folder, behind)
            seconds = max(now_us - at_us, 0) / 1e6 if at_us else 0.0
    space = os.statvfs(environment.path)
    with environment.reader() as reader:
        applied = journal.applied_of(reader)
    # After that: a change is in the journal before it is in the store.
    reach = journal.extent(folder, to_end=since is None)
    taken, unusable = keeping.taken(environment.path)
    newest = taken[-1].at_us if taken else reach.from_us if reach is not None else None
    gap = 0
    if taken and folder.is_dir():
        # A journal that compaction began anew has no file until the next change.
        begins = reach.first if reach is not None else applied + 1
        gap = max(begins - 1 - taken[-1].seq, 0)
    missing = 0
    # A store that was restored has neither, and no rapport.lock, until it is opened for writing: then its journal begins.
    if since is None and (taken or reach is not None or Path(environment.path, "rapport.lock").exists()):
        missing = max(applied - max(taken[-1].seq if taken else 0, reach.last if reach is not None else 0), 0)
    # The oldest from which the journal leads on: so far back a moment can be had.
    restorable = next((each.at for each in taken if reach is not None and each.seq + 1 >= reach.first), "")
    return Look(
        map_bytes=map_bytes, used_bytes=found["used_bytes"], live_bytes=found["used_bytes"] - free * found["page_bytes"],
        free_pages=free, customers=found["profiles_entries"], readers=len(reading), readers_cleared=cleared,
        reader_behind=behind, reader_process=process if behind else 0, reader_seconds=seconds,
        disk_free_bytes=space.f_bavail * space.f_frsize,
        journal_bytes=reach.bytes if reach is not None else 0, journal_first=reach.first if reach is not None else 0,
        journal_last=reach.last if reach is not None else 0, restorable_from=restorable,
        backed=bool(taken), backup_seconds=None if newest is None else max(now_us - newest, 0) / 1e6, backups_unusable=unusable,
        journal_gap=gap, journal_missing=missing,
    )


def alarms(look: Look, thresholds: Thresholds, standing: frozenset[str] = frozenset()) -> tuple[Alarm, ...]:
    """What will hurt. Those that are ``standing`` end a little below where they begin."""
    found = []

    def past(name: str, value: float, bound: float) -> bool:
        return bool(bound) and value >= bound * (1 - SLACK if name in standing else 1)

    if past("map", look.live_percent, thresholds.map_percent):
        found.append(Alarm(
            "map", f"{look.live_percent:.1f} % of store.map_bytes is in use; at 100 % no change is taken",
            "Raise store.map_bytes and restart the server; or stop it and run rapport store compact."))
    wanted = thresholds.free_bytes * (1 + SLACK if "disk" in standing else 1)
    if wanted and look.disk_free_bytes < wanted:
        found.append(Alarm(
            "disk", f"{look.disk_free_bytes:,} bytes are free on the store's disk; without room no change is taken",
            "Free space, or lower store.journal_bytes."))
    if look.reader_behind and past("reader", look.reader_seconds, thresholds.reader_seconds):
        found.append(Alarm(
            "reader", f"process {look.reader_process} has read one state for {look.reader_seconds:,.0f} s, "
            f"{look.reader_behind:,} commits ago; pages freed since are kept, so the store's file grows",
            "End that process if it hangs; a backup or an export that runs may take that long."))
    if look.backup_seconds is not None and past("backup", look.backup_seconds, thresholds.backup_seconds):
        days = look.backup_seconds / 86_400
        found.append(Alarm(
            "backup",
            f"the last backup is {days:.1f} days old" if look.backed else f"there is no backup, for {days:.1f} days now",
            "Run rapport store backup FOLDER, on another disk, and do so regularly."))
    if look.backups_unusable:
        first, *more = look.backups_unusable
        found.append(Alarm(
            "backup_unusable", f"{first}{f'; and {len(more):,} more cannot be used' if more else ''}",
            "Make it readable, or remove it and run rapport store backup FOLDER: what is told of backups leaves it out."))
    if look.journal_gap:
        found.append(Alarm(
            "journal", f"the journal does not lead on from the newest backup: {look.journal_gap:,} changes lie between them",
            "Run rapport store backup FOLDER now: until then the newest state to be had from backups is that backup's."))
    elif look.journal_missing and thresholds.journal:
        found.append(Alarm(
            "journal",
            f"the newest {look.journal_missing:,} changes are in no journal and no backup: files were removed, or none kept",
            "Start the server again if it runs, so that a journal begins, then run rapport store backup FOLDER."))
    return tuple(found)


class Watch:
    """Looks after a store that is open in this process. ``begun`` and ``ended`` are called once for each alarm, on its thread.

    `alarms` is what stands now. That writes are refused is told by the store itself, as it happens (`Store.follow_writes`).
    """

    def __init__(
        self,
        environment: Environment,
        thresholds: Thresholds,
        *,
        seconds: float,
        begun: Callable[[Alarm], None],
        ended: Callable[[Alarm], None],
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        journal_gone: Callable[[], bool] = lambda: False,
    ) -> None:
        self._environment = environment
        self._thresholds = thresholds
        self._seconds = seconds
        self._begun = begun
        self._ended = ended
        self._clock_us = clock_us
        self._journal_gone = journal_gone
        self._file = Path(environment.path, "data.mdb")
        self._opened = self._file.stat()
        self._first_seen: dict[tuple[int, int], int] = {}  # (transaction, process) -> when it was first seen behind
        self._standing: dict[str, Alarm] = {}
        self._damage: Alarm | None = None  # replaced, never altered
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """What stands now."""
        return tuple(self._standing.values())

    def tell_damage(self, error: StoreCorrupt) -> None:
        """Something of the store was found damaged: an alarm from the next look on, for as long as the store stays open."""
        if self._damage is None:
            self._damage = Alarm(
                "damage", str(error.message),
                "Run rapport store check, then restore the newest backup with this store's journal (rapport store restore).")

    def start(self) -> None:
        """Begin to look, at once and then every so many seconds."""
        self._thread = threading.Thread(target=self._run, name="store-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End; the store must still be open. Stopping twice does nothing."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def turn(self) -> tuple[Alarm, ...]:
        """One look: tells of alarms that begin and end, and returns those that stand."""
        now_us = self._clock_us()
        try:
            if self._moved():
                # What lies at the path now is not what this process writes: nothing that is seen there ends an alarm.
                found = (*(alarm for alarm in self._standing.values() if alarm.name not in ("moved", "damage")), Alarm(
                    "moved",
                    f"{self._file} is not the file that this process has open: the store's folder was moved or exchanged, "
                    "and changes go on into the one that was moved",
                    "Move the folder back, or stop the server first; it still writes into the folder that was moved."))
            else:
                seen = look(self._environment, self._environment.map_bytes, now_us, self._since)
                found = alarms(seen, self._thresholds, frozenset(self._standing))
                if self._journal_gone():
                    found = (*(alarm for alarm in found if alarm.name != "journal"), Alarm(
                        "journal", "the journal's newest file was removed while it is written to: no restore has what is written",
                        "Start the server again, so that a journal begins, then run rapport store backup FOLDER."))
        except (RapportError, OSError) as error:
            found = (Alarm("watch", f"the store cannot be looked at: {error}", "Look for disk errors in the system's log."),)
        if self._damage is not None:
            found = (*found, self._damage)
        before, self._standing = self._standing, {alarm.name: alarm for alarm in found}
        for name, alarm in self._standing.items():
            if name not in before:
                self._begun(alarm)
        for name, alarm in before.items():
            if name not in self._standing:
                self._ended(alarm)
        return found

    def _moved(self) -> bool:
        """Whether another file, or none, lies where the store was opened."""
        try:
            return not os.path.samestat(self._opened, self._file.stat())
        except FileNotFoundError:
            return True

    def _since(self, behind: list[tuple[int, int]]) -> float:
        """For how long the first of these was seen behind; what is gone is forgotten."""
        now_us = self._clock_us()
        self._first_seen = {reader: self._first_seen.get(reader, now_us) for reader in behind}
        return (now_us - self._first_seen[behind[0]]) / 1e6 if behind else 0.0

    def _run(self) -> None:
        while True:
            self.turn()
            if self._stopping.wait(self._seconds):
                return
