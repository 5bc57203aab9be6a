"""One measured round: the generator's run, and beside it what both processes use, looked at once or twice a second.

The onlooker is a thread of the generator's process, so it runs on the generator's core. It asks the kernel for SCHED_IDLE:
whenever the generator wakes, it gives way at once.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from loadtest.generator import Generator
from loadtest.taken import Pace, Taken

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
LOOK_EVERY = 0.5  # s
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600)  # s


@dataclass(frozen=True, slots=True)
class Moment:
    """What the server and the generator had used so far; zeros for a server whose pid is not known."""

    at: float  # s since the round began
    server_cpu_s: float
    generator_cpu_s: float  # of the process, this onlooker included
    server_mib: float  # resident
    server_threads: int
    server_files: int  # open descriptors; 0 when they may not be counted


@dataclass(slots=True)
class Round:
    """One run and its surroundings. Rounds of one label are compared or added up."""

    label: str
    taken: Taken
    moments: list[Moment]
    load: float  # of the machine over the minute before
    began: float  # s since 1970

    def cores(self, whose: str) -> float:
        """Cores used on average by "server" or "generator" while requests were on their way; 0 when not known."""
        if len(self.moments) < 2:
            return 0.0
        first, last = self.moments[0], self.moments[-1]
        used: float = getattr(last, f"{whose}_cpu_s") - getattr(first, f"{whose}_cpu_s")
        return used / max(1e-9, last.at - first.at)


Onlooker = Callable[[Generator, list[Moment]], None]


def step(seconds: float) -> float:
    """A timeline's step for a run of so many seconds: about sixty of them, round figures."""
    return next((each for each in _STEPS if each >= seconds / 60), seconds / 60)


def used(pid: int) -> tuple[float, float, int, int]:
    """CPU seconds, resident MiB, threads and open files of a process; zeros when there is none."""
    folder = Path(f"/proc/{pid}")
    try:
        # The name stands in brackets and may hold blanks; what follows it is split.
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0, 0.0, 0, 0
    files = 0
    with suppress(OSError):
        files = len(os.listdir(folder / "fd"))
    return (int(fields[11]) + int(fields[12])) / TICK, int(fields[21]) * PAGE / 2**20, int(fields[17]), files


def measure(
    generator: Generator, pace: Pace, *, label: str, drain: float, pid: int = 0, onlooker: Onlooker | None = None
) -> Round:
    """Runs the pace, watched. ``onlooker`` is called at every look with what has been seen so far, in the other thread."""
    generator.connect()
    load, began, start = os.getloadavg()[0], time.time(), time.monotonic()
    moments = [_look(pid, start)]
    over = threading.Event()

    def watch() -> None:
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # 0: this thread
        while not over.wait(LOOK_EVERY):
            moments.append(_look(pid, start))
            if onlooker:
                onlooker(generator, moments)

    watching = threading.Thread(target=watch, name="onlooker")
    watching.start()
    try:
        with _interruptible(generator):
            taken = generator.run(pace, drain=drain, interval=step(pace.seconds))
        last = _look(pid, start)
    finally:
        over.set()
        watching.join()
    moments.append(last)
    return Round(label, taken, moments, load, began)


def _look(pid: int, start: float) -> Moment:
    cpu, mib, threads, files = used(pid) if pid else (0.0, 0.0, 0, 0)
    return Moment(time.monotonic() - start, cpu, time.process_time(), mib, threads, files)


@contextmanager
def _interruptible(generator: Generator) -> Iterator[None]:
    """SIGINT ends the run and keeps its result. Python's own handler could not run while the loop does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, lambda number, frame: None)
    descriptor = signal.set_wakeup_fd(generator.stop_fd, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(descriptor)
        signal.signal(signal.SIGINT, handler)
