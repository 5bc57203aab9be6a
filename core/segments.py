"""Who is in which segment: counted and listed over all customers, and watched.

Counting and listing walk the store as fast as it goes, on the caller's thread and without the GIL; customers are seen one
after the other while others change, each as he is when he is visited, at one moment of the clock.

Watching is a task of the sweep (`core.sweep`). A watched segment has a walk that goes round and round and remembers who is in
it; who changed is told by the store with each commit and looked at at once. So an event, a consent, an import's row or an
erasure shows within milliseconds, and what time alone brings with the next round: at most a second after the last, plus a
twentieth of a millisecond a customer. Everybody who watches one segment shares its walk.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from core import limits
from core.errors import Draining, Overloaded, UnknownName
from core.expressions import Expression, InputKind
from core.kernel.segmenting import Walk
from core.sweep import NEVER, SECOND_US, Sweep

if TYPE_CHECKING:
    from core.engine import Engine
    from core.kernel.plan import Plan

# Customers between two looks at whether the caller still wants to know: some 20 ms.
_STEP: Final = 16_384
# Changed customers of a watched segment who wait to be looked at; who is told of beyond them is found by the next round.
_REMEMBERED: Final = 100_000


class Progress(NamedTuple):
    """How far a walk is. ``damaged`` customers cannot be read and are left out."""

    visited: int
    customers: int
    damaged: int


class Counted(NamedTuple):
    """Members found so far, by segment."""

    progress: Progress
    members: dict[str, int]


class Listed(NamedTuple):
    """Members found since the last."""

    progress: Progress
    members: list[int]


class Change(NamedTuple):
    """A customer who came into a watched segment, or left it, as it was seen at ``at_us``."""

    customer: int
    entered: bool
    at_us: int


def of_requests(condition: Expression) -> list[str]:
    """What a segment reads that only a request has: over the store it is missing."""
    return [read.path for read in condition.inputs if read.kind in (InputKind.FACT, InputKind.CHANNEL)]


class Segments:
    """The segments of the program that serves. For many threads at once."""

    def __init__(self, engine: Engine, sweep: Sweep, clock_us: Callable[[], int]) -> None:
        self._engine = engine
        self._clock_us = clock_us
        self._watches = Watches(engine, sweep.wake, clock_us)
        sweep.add(self._watches)

    def conditions(self) -> dict[str, Expression]:
        """The segments that are declared. Raises NoProgram."""
        return dict(self._engine.plan.program.segments)

    def count(self, name: str = "") -> Iterator[Counted]:
        """How many are in a segment, in each with '': what was found so far, step by step, and last all of it.

        Raises NoProgram, UnknownName, StoreError.
        """
        plan = self._engine.audience()
        chosen = dict.fromkeys([name] if name else plan.program.segments)
        numbers = [_number(plan, each) for each in chosen]
        with Walk(plan, numbers) as walk:
            now_us = self._clock_us()
            more = True
            while more:
                more = walk.step(_STEP, now_us)
                yield Counted(self._progress(walk), dict(zip(chosen, walk.counts, strict=True)))

    def members(self, name: str) -> Iterator[Listed]:
        """Who is in a segment, step by step, by rising customer number. Raises NoProgram, UnknownName, StoreError."""
        plan = self._engine.audience()
        with Walk(plan, [_number(plan, name)]) as walk:
            now_us = self._clock_us()
            more = True
            while more:
                more = walk.step(_STEP, now_us)
                yield Listed(self._progress(walk), walk.changes())

    def watch(self, name: str) -> Watch:
        """Begins to watch; close it. Raises NoProgram, UnknownName."""
        _number(self._engine.audience(), name)
        return self._watches.begin(name)

    def _progress(self, walk: Walk) -> Progress:
        return Progress(walk.visited, self._engine.store.customer_count(), walk.damaged)


def _number(plan: Plan, name: str) -> int:
    """The number of a segment's expression in a plan of walks."""
    names = list(plan.program.segments)
    if name not in names:
        raise UnknownName("segment", name, names)
    return plan.source.asked[names.index(name)]


class Watch:
    """One who watches a segment; a context manager that ends it. For one thread."""

    def __init__(self, end: Callable[[Watch], None]) -> None:
        self._end = end
        self._ready = threading.Condition()
        self._changes: deque[Change] = deque()
        self._error: BaseException | None = None
        self._members: int | None = None

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *exception: object) -> None:
        self._end(self)

    @property
    def members(self) -> int | None:
        """How many were in the segment when the watch began to see changes; None until then."""
        return self._members

    def take(self, seconds: float) -> list[Change]:
        """What changed since the last; waits for something to be told for so long at most.

        Raises what ended the watch: UnknownName when the segment is declared no more, Overloaded when changes were not
        taken as fast as they came.
        """
        with self._ready:
            self._ready.wait_for(lambda: self._changes or self._error, seconds)
            if self._error is not None:
                raise self._error
            taken = list(self._changes)
            self._changes.clear()
            return taken

    def wake(self) -> None:
        """Lets `take` return at once."""
        with self._ready:
            self._ready.notify_all()

    def tell(self, members: int, changes: list[Change]) -> None:
        """Of the sweep: the watch sees changes from now on, and these."""
        with self._ready:
            if self._members is None:
                self._members = members
            self._changes.extend(changes)
            if len(self._changes) > limits.WATCH_CHANGES:
                self._error = Overloaded("changes in a watched segment", 1000)
            self._ready.notify_all()

    def fail(self, error: BaseException) -> None:
        """Of the sweep: nothing more will be told."""
        with self._ready:
            self._error = error
            self._ready.notify_all()


class _Watched:
    """A segment that somebody watches."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.watchers: list[Watch] = []
        self.changed: set[int] = set()  # told by the store, not looked at yet
        self.walk: Walk | None = None
        self.plan: Plan | None = None  # the walk's
        self.complete = False  # a round has seen everybody: from then on differences are changes
        self.began_us = 0  # of the round
        self.next_us = 0  # when the next round begins
        self.again = False  # one more follows the round under way at once: it may be past some who changed meanwhile


class Watches:
    """The task of the sweep that looks at watched segments."""

    name = "watched segments"

    def __init__(self, engine: Engine, wake: Callable[[], None], clock_us: Callable[[], int]) -> None:
        self._engine = engine
        self._wake = wake
        self._clock_us = clock_us
        self._lock = threading.Lock()  # guards what others than the sweep touch: the segments, their watchers, who changed
        self._watched: dict[str, _Watched] = {}

    def begin(self, name: str) -> Watch:
        """One more who watches."""
        watch = Watch(lambda watch: self._leave(name, watch))
        with self._lock:
            if not self._watched:
                self._engine.store.follow(self._changed)
            self._watched.setdefault(name, _Watched(name)).watchers.append(watch)
        self._wake()
        return watch

    def _leave(self, name: str, watch: Watch) -> None:
        with self._lock:
            watched = self._watched.get(name)
            if watched is not None and watch in watched.watchers:
                watched.watchers.remove(watch)
        self._wake()

    def _changed(self, customers: set[int]) -> None:
        with self._lock:
            for watched in self._watched.values():
                if len(watched.changed) + len(customers) <= _REMEMBERED:
                    watched.changed |= customers
                else:
                    # An import is faster than the sweep: the rest are found by a round, which begins when this one is over.
                    watched.next_us = 0
                    watched.again = True
        self._wake()

    def due_us(self, now_us: int) -> int:
        """At once where somebody changed, a round is under way, or nobody watches any more."""
        due_us = NEVER
        with self._lock:
            for watched in self._watched.values():
                at_once = watched.changed or not watched.watchers or not watched.complete
                due_us = min(due_us, now_us if at_once else watched.next_us)
        return due_us

    def step(self, most: int, now_us: int) -> int:
        """Looks at those who changed, and goes on with rounds that are due."""
        visited = 0
        with self._lock:
            held = list(self._watched.values())
        for watched in held:
            if not watched.watchers:
                self._forget(watched)
                continue
            try:
                visited += self._look(watched, most, now_us)
            except UnknownName as error:
                for watch in list(watched.watchers):
                    watch.fail(error)
                    self._leave(watched.name, watch)
        return visited

    def _look(self, watched: _Watched, most: int, now_us: int) -> int:
        walk = self._walk(watched)
        with self._lock:
            changed = sorted(watched.changed)[:most]
            watched.changed.difference_update(changed)
        walk.look(changed, now_us)
        visited = len(changed)
        done = watched.complete
        if now_us >= watched.next_us:
            if walk.visited == 0:
                watched.began_us = now_us
            before = walk.visited
            more = walk.step(most, now_us)
            visited += walk.visited - before
            if not more:
                watched.complete = True
                walk.again()
                with self._lock:
                    watched.next_us = 0 if watched.again else now_us + max(SECOND_US, now_us - watched.began_us)
                    watched.again = False
        # What the first round finds was so before anybody watched.
        noted = walk.changes()
        changes = [Change(abs(each), each > 0, now_us) for each in noted] if done else []
        if watched.complete:
            watchers = list(watched.watchers)
            for watch in watchers:
                if changes or watch.members is None:
                    watch.tell(walk.members, changes)
        return visited

    def _walk(self, watched: _Watched) -> Walk:
        """The walk over the plan that serves; another plan's begins a round anew, and knows who was in."""
        plan = self._engine.audience()
        if watched.walk is None or watched.plan is not plan:
            walk = Walk(plan, [_number(plan, watched.name)])
            if watched.walk is not None:
                walk.remember(watched.walk)
                watched.walk.close()
                watched.next_us = 0
            watched.walk, watched.plan = walk, plan
        return watched.walk

    def _forget(self, watched: _Watched) -> None:
        with self._lock:
            if watched.watchers:
                return
            del self._watched[watched.name]
            if not self._watched:
                self._engine.store.unfollow(self._changed)
        if watched.walk is not None:
            watched.walk.close()

    def close(self) -> None:
        """Ends all watches."""
        with self._lock:
            held, self._watched = list(self._watched.values()), {}
            self._engine.store.unfollow(self._changed)
        for watched in held:
            for watch in watched.watchers:
                watch.fail(Draining())
            if watched.walk is not None:
                watched.walk.close()
