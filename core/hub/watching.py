"""What an operator has to know before writes fail: how full map and disk are, and who keeps old pages from being reused.

LMDB keeps a state for as long as somebody reads it, and pages freed since are not used again: a reader that stands makes
data.mdb grow by all that is written. It is told, with its process; the growth ends when it goes. Slots of readers
that were killed are freed at each look. A look costs a walk over the list of free pages.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from core import limits
from core.hub.environment import Environment


@dataclass(frozen=True, slots=True)
class Worry:
    """Something that will cost writes: a stable reason, what is so, and what to do."""

    reason: str
    problem: str
    hint: str


class Watch:
    """Looks at one open environment again and again."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._since: dict[tuple[int, int], float] = {}  # when a reader (process, transaction) was first seen there

    def look(self, seconds: float) -> list[Worry]:
        """What there is to worry about at ``seconds`` of a clock that only goes forward. Raises StoreError."""
        environment = self._environment
        environment.clear_readers()
        found = environment.statistics()
        worries: list[Worry] = []
        live = found["used_bytes"] - environment.free_pages() * found["page_bytes"]
        percent = 100 * live // found["map_bytes"]
        if percent >= limits.FILLING_PERCENT:
            worries.append(Worry(
                "STORE_FILLING", f"{percent} % of store.map_bytes is in use",
                "Raise store.map_bytes and start again before it is full, or stop the server and run rapport store compact."))
        space = os.statvfs(environment.path)
        room = space.f_bavail * space.f_frsize
        if room < limits.DISK_LEAST_BYTES:
            worries.append(Worry(
                "DISK_FILLING", f"the disk that holds {environment.path} has {room >> 20} MiB left",
                "Free space: without it every write is refused."))
        standing = {
            (process, reads) for process, reads in environment.readers()
            if reads is not None and reads < found["last_transaction"] and process != os.getpid()
        }
        self._since = {reader: self._since.get(reader, seconds) for reader in standing}
        for (process, reads), since in sorted(self._since.items()):
            if seconds - since >= limits.READER_SECONDS:
                behind = found["last_transaction"] - reads
                worries.append(Worry(
                    "READER_STALLED",
                    f"process {process} has read one state for {seconds - since:.0f} s, and is {behind} commits behind; no page "
                    "freed since is reused, so data.mdb grows by what is written",
                    "A backup of a large store ends by itself; end the process if it is none."))
        return worries
