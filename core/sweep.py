"""The sweep: one thread that goes over all customers, again and again and never fast, for what no message brings about.

Edges of bands drift as everybody's values do; people enter and leave segments because time passes. Who has such work is a
`Task`: it says when it is due next, and visits a bounded number of customers when it is asked to. The thread gives each due
task a step in turn and rests between steps so that all tasks together visit at most ``per_second`` customers a second; nothing
due, it sleeps until something is, or until it is woken. A step reads under a snapshot of its own and lets go of the GIL.

A task that fails is told to ``on_error`` and left alone for a minute: a disk that does not answer must not make it spin.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Protocol

from core import limits
from core.hub import retention
from core.hub.mutations import EndUndo
from core.hub.saved import BandEdges
from core.kernel.segmenting import Walk

if TYPE_CHECKING:
    from core.engine import Engine
    from core.hub.store import Store
    from core.kernel.plan import Plan

# Due at no time that is known: asked again at the next look.
NEVER: Final = 2**62
SECOND_US: Final = 1_000_000
# How long a task that failed is left alone.
FAILED_US: Final = 60 * SECOND_US
# How often a sweep that has nothing to do looks whether something changed that nobody woke it for.
LOOK_SECONDS: Final = 5.0


class Task(Protocol):
    """Work over all customers. Called by one thread at a time."""

    name: str

    def due_us(self, now_us: int) -> int:
        """The moment from which it wants a step; NEVER when nothing is to be done that it knows of."""
        ...

    def step(self, most: int, now_us: int) -> int:
        """Visits at most about ``most`` customers; how many it visited."""
        ...

    def close(self) -> None:
        """Lets go of everything; no step follows."""
        ...


class Sweep:
    """Gives tasks their steps. ``start`` makes the thread; without it `turn` is called by whoever tests it."""

    def __init__(
        self,
        tasks: Iterable[Task] = (),
        *,
        clock_us: Callable[[], int],
        per_second: int = limits.SWEEP_PER_SECOND,
        on_error: Callable[[str, BaseException], None] = lambda name, error: None,
    ) -> None:
        self._tasks = list(tasks)
        self._clock_us = clock_us
        self._per_second = per_second
        self._on_error = on_error
        self._aside: dict[str, int] = {}  # tasks that failed: until when they are left alone
        self._woken = threading.Condition()
        self._wake = self._stopping = False
        self._thread: threading.Thread | None = None

    def add(self, task: Task) -> None:
        """One task more, before or after the start."""
        with self._woken:
            self._tasks.append(task)
        self.wake()

    def wake(self) -> None:
        """Something may be due earlier than a task said: look at once, after the rest that the pace asks for."""
        with self._woken:
            self._wake = True
            self._woken.notify()

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name="sweep", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the step at hand, and close the tasks. The store must still be open."""
        with self._woken:
            self._stopping = True
            self._woken.notify()
        if self._thread is not None:
            self._thread.join()
        for task in self._tasks:
            task.close()

    def turn(self) -> tuple[int, float]:
        """One step of the first task that is due; how many customers were visited, and seconds until the next turn."""
        now_us = self._clock_us()
        earliest = NEVER
        with self._woken:
            tasks = list(self._tasks)
        for task in tasks:
            try:
                due_us = max(task.due_us(now_us), self._aside.get(task.name, 0))
                if due_us > now_us:
                    earliest = min(earliest, due_us)
                    continue
                visited = task.step(limits.SWEEP_STEP, now_us)
            except Exception as error:  # the sweep outlives what its tasks run into
                self._aside[task.name] = now_us + FAILED_US
                self._on_error(task.name, error)
                continue
            with self._woken:
                # Behind the others, so that each has its turn.
                self._tasks.remove(task)
                self._tasks.append(task)
            return visited, visited / self._per_second
        return 0, min(LOOK_SECONDS, max(0.001, (earliest - now_us) / SECOND_US))

    def _run(self) -> None:
        while True:
            visited, seconds = self.turn()
            with self._woken:
                # A wake must not shorten the rest that follows work: it is what bounds the pace.
                if visited:
                    self._woken.wait_for(lambda: self._stopping, seconds)
                else:
                    self._woken.wait_for(lambda: self._stopping or self._wake, seconds)
                self._wake = False
                if self._stopping:
                    return


class Bands:
    """Keeps the edges of the serving program's bands: made again some seconds after anything changed, and every hour where
    values move with time alone."""

    name = "bands"

    def __init__(self, engine: Engine, clock_us: Callable[[], int]) -> None:
        self._engine = engine
        self._clock_us = clock_us
        self._walk: Walk | None = None
        self._plan: Plan | None = None  # the one that serves, which the walk is made for
        self._seen = -1  # the store's last change when the last walk began, and what it changed itself
        self._began_us = 0
        self._next_us = 0  # no walk begins before
        self._moved_us = 0  # when time alone is reason for another

    def due_us(self, now_us: int) -> int:
        """At once when a band has no edges, or while a walk is under way."""
        engine = self._engine
        if not engine.loaded or not engine.plan.program.bands or engine.store.read_only:
            return NEVER
        if self._walk is not None:
            return now_us
        if any(kept is None for kept in engine.bands().values()):
            return now_us
        if engine.store.applied != self._seen:
            return self._next_us
        return self._moved_us

    def step(self, most: int, now_us: int) -> int:
        """Part of a walk; with its last customer the edges are kept, and serve."""
        plan = self._engine.plan
        if self._walk is None or self._plan is None or self._plan.program is not plan.program:
            self.close()
            self._seen = self._engine.store.applied
            self._began_us = now_us
            self._plan = plan
            audience = self._engine.audience()
            self._walk = Walk(audience, (), audience.source.asked[len(audience.program.segments):])
        before = self._walk.visited
        more = self._walk.step(most, now_us)
        visited = self._walk.visited - before
        if not more:
            self._finish(self._walk, plan, now_us)
        return visited

    def _finish(self, walk: Walk, plan: Plan, now_us: int) -> None:
        bands = plan.program.bands
        found = {}
        for number, (name, band) in enumerate(bands.items()):
            customers, edges = walk.edges(number, band.parts)
            found[name] = BandEdges(band.definition, tuple(edges), customers, now_us)
        self.close()
        begun_us = self._clock_us()
        if self._engine.keep_bands(plan.program, found):
            self._seen += 1
        ended_us = self._clock_us()
        # Half of the time at most, and to bind plans anew a twentieth of it.
        rest_us = max(limits.SWEEP_REST_US, now_us - self._began_us, 20 * (ended_us - begun_us))
        self._next_us = ended_us + rest_us
        from core.programs.plan import moves  # with numpy, which a restart needs not

        moving = any(moves(band.of) for band in bands.values())
        self._moved_us = max(self._next_us, ended_us + limits.SWEEP_MOVED_US) if moving else NEVER

    def close(self) -> None:
        """Drops a walk that is under way."""
        if self._walk is not None:
            self._walk.close()
            self._walk = None


class Joins:
    """Ends what can be undone no more: every hour, where anything is kept for it."""

    name = "joins"

    def __init__(self, store: Store) -> None:
        self._store = store
        self._next_us = 0

    def due_us(self, now_us: int) -> int:
        """Every hour."""
        return self._next_us

    def step(self, most: int, now_us: int) -> int:
        """Makes joins final, some of those that are past, and says of how many customers."""
        ended = 0
        if not self._store.read_only and self._store.undoable():
            ended = self._store.apply(EndUndo(at_us=now_us), background=True)
        self._next_us = now_us if ended == limits.UNDO_ENDED else now_us + limits.SWEEP_MOVED_US
        return ended

    def close(self) -> None:
        """Holds nothing."""


class Retention:
    """Takes events past their type's retention from customers of whom nothing is heard, in a walk every hour. Answers do not
    hang on it (see `core.hub.retention`)."""

    name = "retention"

    def __init__(self, store: Store) -> None:
        self._store = store
        self._after = 0  # whom to go on behind
        self._next_us = 0

    def due_us(self, now_us: int) -> int:
        """At once at the start and in a walk; never while no type has a retention."""
        if self._store.read_only or retention.since(self._store.catalog, now_us) is None:
            return NEVER
        return self._next_us

    def step(self, most: int, now_us: int) -> int:
        """Part of a walk."""
        swept = retention.sweep(self._store, self._after, most, now_us)
        self._after = swept.last
        if not swept.last:
            self._next_us = now_us + limits.SWEEP_MOVED_US
        return swept.visited

    def close(self) -> None:
        """Nothing is held between steps."""
