"""One thread that writes: it drains a bounded queue into one transaction, commits, then acknowledges all of it.

A durable commit costs the same for one mutation as for hundreds, so whatever arrives while one commit runs shares the
next (group commit); nobody waits for a timer. A future that has a result stands for bytes on the disk.

What runs in the background (feeds, imports, the sweep) queues apart. Each commit takes what is online first, then of the
background as much as keeps its transaction short (`BESIDE_ROWS`) while anybody online was seen of late. While nobody was, it
takes what is there until somebody comes: pages that many rows share are then written once, and in long runs. So an online write
waits for a bounded piece of a feed, however long the feed is, and a feed is never starved.

A mutation that is refused fails alone. Where a write itself failed (map full, disk), the batch is undone and its
mutations are applied one by one, so a small one may pass where a large one does not. A failing disk ends writing for
good: LMDB refuses its environment, everything waiting is refused with StoreReadOnly, and reads move to a read-only twin.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sized
from concurrent.futures import Future
from typing import Any, Final, TypeAlias, cast

from core import limits
from core.errors import Overloaded, RapportError, StoreError, StoreFull, StoreReadOnly, StoreUnavailable
from core.hub.apply import Applier
from core.hub.catalog import Catalog
from core.hub.environment import Environment
from core.hub.journal import Journal
from core.hub.mutations import IngestBatch, IngestBatches, IngestResult, Mutation

RETRY_AFTER_MS = 50  # a full queue of small mutations drains in about a second; a caller may come back much sooner


# Rows of the background in one commit beside online writes: less than a millisecond of work, of the two that a single write may
# take, and one batch of a feed.
BESIDE_ROWS: Final = limits.INGEST_BATCH
# The same while nothing was written online for QUIET_SECONDS, reckoned from the end of its commit: two pages or so each, which
# are held until they are written.
ALONE_ROWS: Final = 8192
QUIET_SECONDS: Final = 1.0
# Rows of batches that are merged as one.
JOINED_ROWS: Final = 4096

_Entry: TypeAlias = tuple[Mutation, Future[Any]]  # the future has a result once the mutation is durable

_LOOK = "Look for disk errors in the system's log, then start the server again"
_ROOM = "Free space on the disk that holds the store, then start the server again"


class Committer:
    """Owns the applier and its thread.

    ``on_catalog`` is called with the catalog after each commit that changed it, before its mutations are acknowledged.
    ``journal`` gets each batch before the store commits it; None where none is kept.
    """

    def __init__(
        self, environment: Environment, on_catalog: Callable[[Catalog], None], journal: Journal | None = None
    ) -> None:
        self._environment = environment
        self._journal = journal
        environment.journalled = journal is not None
        environment.leave_last(journal is not None)
        self._on_catalog = on_catalog
        self._applier = Applier(environment)
        self._ready = threading.Condition()  # guards the queues, _stopping and _refusal
        self._queue: deque[_Entry] = deque()
        self._background: deque[_Entry] = deque()  # guarded by the same
        self._online = 0.0  # when an online mutation last came or was committed, on the monotonic clock
        self._was_online = False  # the last commit had any; used by the thread only
        self._stopping = False
        self._refusal: StoreReadOnly | None = None
        self._followers: tuple[Callable[[set[int]], None], ...] = ()  # replaced, never altered
        self._trouble: StoreError | None = None  # what writers were told last that another one would be told, too
        self._told_of_writes: list[Callable[[StoreError | None], None]] = []
        self.batches = 0  # transactions committed; written by the thread only
        self.mutations = 0  # mutations applied durably; written by the thread only
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)
        self._thread.start()

    @property
    def catalog(self) -> Catalog:
        """The catalog as committed when the committer was made; afterwards ``on_catalog`` tells."""
        return self._applier.catalog

    @property
    def applied(self) -> int:
        """Sequence number of the last mutation applied, durable or about to be."""
        return self._applier.applied

    @property
    def waiting(self) -> int:
        """Mutations in the queues."""
        return len(self._queue) + len(self._background)

    @property
    def refusal(self) -> StoreReadOnly | None:
        """Why no more writes are taken, or None."""
        return self._refusal

    def follow(self, on_changed: Callable[[set[int]], None]) -> None:
        """Calls ``on_changed`` after each commit with the customers whose record or events it changed, and those erased.

        An import's commit tells of thousands. It is called on this thread: it must be short.
        """
        with self._ready:
            self._followers = (*self._followers, on_changed)
            if self._applier.changed is None:
                self._applier.changed = set()

    def unfollow(self, on_changed: Callable[[set[int]], None]) -> None:
        """Ends that."""
        with self._ready:
            self._followers = tuple(each for each in self._followers if each != on_changed)
            if not self._followers:
                self._applier.changed = None

    def submit(self, mutation: Mutation, *, background: bool = False) -> Future[Any]:
        """Queue a mutation; the future's result comes when it is durable. One of the ``background`` gives way.

        Mutations of one kind (online or not) are applied in the order in which they were submitted. Raises Overloaded when
        too many wait, StoreReadOnly after a failed disk, StoreUnavailable once it is stopped.
        """
        future: Future[Any] = Future()
        with self._ready:
            if self._refusal is not None:
                raise self._refusal
            if self._stopping:
                raise StoreUnavailable(self._environment.path, "it is being closed")
            queue = self._background if background else self._queue
            if len(queue) >= limits.MUTATIONS_QUEUED:
                raise Overloaded("writing", RETRY_AFTER_MS)
            queue.append((mutation, future))
            if not background:
                self._online = time.monotonic()
            if len(queue) == 1:
                self._ready.notify()
        return future

    def follow_writes(self, told: Callable[[StoreError | None], None]) -> None:
        """``told`` is called with why writes are refused, and with None once they are taken again.

        Full is a state as well: it ends with the first write that passes. On the committer's thread, so it must be short.
        """
        with self._ready:
            self._told_of_writes.append(told)

    def stop(self) -> None:
        """Apply what waits, then end the thread. Mutations submitted from here on are refused."""
        with self._ready:
            self._stopping = True
            self._ready.notify()
        self._thread.join()

    # --- the thread

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            # A mistake of ours: no write may wait for a thread that is gone.
            self._refuse(error)
            with self._ready:
                left = [*self._queue, *self._background]
                self._queue.clear()
                self._background.clear()
            for _, future in left:
                if future.set_running_or_notify_cancel():
                    future.set_exception(cast(StoreReadOnly, self._refusal))
            raise

    def _work(self) -> None:
        while True:
            with self._ready:
                while not self._queue and not self._background and not self._stopping:
                    self._ready.wait()
                if not self._queue and not self._background:
                    return
                batch, online, room = self._next()
            try:
                if batch and not self._commit(batch, online, room):
                    for entry in batch:
                        self._commit([entry])
            except BaseException as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                raise

    def _next(self) -> tuple[list[_Entry], int, int]:
        """(The first mutation of the next commit, how many more that are online may join it, how many rows of the background)."""
        if self._was_online:
            self._online = time.monotonic()
        self._was_online = bool(self._queue)
        online = min(len(self._queue), limits.MUTATIONS_PER_COMMIT)
        alone = not online and time.monotonic() - self._online > QUIET_SECONDS
        first = self._queue.popleft() if online else self._background.popleft()
        batch = [first] if first[1].set_running_or_notify_cancel() else []
        return batch, max(online - 1, 0), ALONE_ROWS if alone else BESIDE_ROWS

    def _growing(self, batch: list[_Entry], online: int, room: int) -> Iterator[_Entry]:
        """The batch, and what joins it: ``online`` mutations, then up to ``room`` rows of the background, beyond a few only until
        somebody online waits. Nothing joins a transaction that has COMMIT_BYTES."""
        yield from tuple(batch)
        few = room - BESIDE_ROWS
        while self._applier.transaction.written < limits.COMMIT_BYTES:
            with self._ready:
                background = not online
                if online:
                    online -= 1
                    entry = self._queue.popleft()
                elif self._background and room > 0 and (room > few or not self._queue):
                    entry = self._background.popleft()
                else:
                    return
            if background:
                room -= _weight(entry[0])
            if entry[1].set_running_or_notify_cancel():
                batch.append(entry)
                yield entry

    def _commit(self, batch: list[_Entry], online: int = 0, room: int = 0) -> bool:
        """Apply and commit the batch and what joins it, which is put into it.

        False when nothing was written and each is to be tried by itself.
        """
        applier = self._applier
        results: list[tuple[Future[Any], Any, BaseException | None]] = []
        catalog = applier.catalog
        failure: BaseException | None = None
        try:
            if self._refusal is not None:
                raise self._refusal
            applier.begin()
            succeeded = 0
            for run in _runs(self._growing(batch, online, room)):
                succeeded += self._apply(run, results)
            if succeeded:
                self._make_durable()
                self.batches += 1
                self.mutations += succeeded
                self._say(None)
            else:
                applier.abort()
        except BaseException as error:
            applier.abort()
            failure = error
        if failure is not None:
            if self._is_final(failure):
                self._refuse(failure)
                failure = self._refusal
            elif len(batch) > 1:
                return False
            elif isinstance(failure, StoreFull):
                self._say(failure)
            results = [(future, None, failure) for _, future in batch]
        else:
            if applier.catalog is not catalog:
                self._on_catalog(applier.catalog)
            changed, followers = self._take_changed()
            for told in followers:
                _listened(told, changed)
        for future, result, problem in results:
            if problem is not None:
                future.set_exception(problem)
            else:
                future.set_result(result)
        return True

    def _apply(
        self, run: list[_Entry], results: list[tuple[Future[Any], Any, BaseException | None]]
    ) -> int:
        """Apply a run of mutations, as one where they are several; how many were applied. Raises what spoils the transaction."""
        applier, succeeded = self._applier, 0
        # Whatever a handler raises belongs to the caller who sent the mutation, not to this thread.
        if len(run) > 1:
            try:
                batches = tuple([cast(IngestBatch, mutation) for mutation, _ in run])
                found = cast(list[IngestResult], applier.apply(IngestBatches(batches=batches)))
                results.extend([(future, result, None) for (_, future), result in zip(run, found, strict=True)])
                return 1
            except BaseException:
                if applier.poisoned:
                    raise
        for mutation, future in run:
            try:
                results.append((future, applier.apply(mutation), None))
                succeeded += 1
            except BaseException as error:
                if applier.poisoned:
                    raise
                results.append((future, None, error))
        return succeeded

    def _take_changed(self) -> tuple[set[int], tuple[Callable[[set[int]], None], ...]]:
        """Customers changed since the last time, and whom to tell of them: nobody where there are none."""
        # Under the lock: a set that were begun anew as the last follower leaves would grow for ever.
        with self._ready:
            changed = self._applier.changed
            if not changed:
                return set(), ()
            self._applier.changed = set()
            return changed, self._followers

    def _make_durable(self) -> None:
        """Journal first: what the store has, the journal has. A batch that the store does not take leaves the journal again."""
        if self._journal is None:
            self._applier.commit()
            return
        self._journal.append(self._applier.transaction)
        try:
            self._applier.commit()
        except BaseException:
            self._journal.rewind()
            raise

    def _is_final(self, failure: BaseException) -> bool:
        """Whether the store can take no more writes: not when one mutation alone was at fault, nor when it is full.

        Except where it was full for LMDB's meta page, as it can be on a disk that copies on writing: after that LMDB refuses
        even reads until the environment is opened again.
        """
        return isinstance(failure, StoreReadOnly) or self._environment.panicked

    def _refuse(self, failure: BaseException) -> None:
        """Take no more writes, and move reads to the twin; where that fails, too, the refusal says so.

        Raises nothing: what is waiting must be told, and this thread goes on to tell it.
        """
        facts = failure.metadata if isinstance(failure, RapportError) else {}
        problem, look, hint = facts.get("problem", str(failure)), _LOOK, "reads go on meanwhile."
        if isinstance(failure, StoreFull):
            problem, look = f"the {facts['what']} was full when a commit was to be noted", _ROOM
        with self._ready:
            if self._refusal is None:
                self._refusal = StoreReadOnly(problem, f"{look}; {hint}")
        try:
            self._environment.stop_writing()
        except BaseException as error:
            problem = f"{problem}; and it could not be opened again for reading: {error}"
            with self._ready:
                self._refusal = StoreReadOnly(problem, f"{look}; reads fail until then.")
        self._say(self._refusal)

    def _say(self, trouble: StoreError | None) -> None:
        """Tell those who follow, when it is news."""
        with self._ready:
            if type(trouble) is type(self._trouble):
                return
            self._trouble = trouble
            followers = tuple(self._told_of_writes)
        for told in followers:
            _listened(told, trouble)


def _listened(told: Callable[[Any], None], news: object) -> None:
    """Tell a listener. His mistake is his: what is durable is acknowledged, and the next commit tells him again."""
    try:
        told(news)
    except Exception as error:
        threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, threading.current_thread())))


def _runs(entries: Iterator[_Entry]) -> Iterator[list[_Entry]]:
    """Batches of feeds that follow one another together, up to JOINED_ROWS; everything else by itself."""
    run: list[_Entry] = []
    rows = 0
    for entry in entries:
        mutation = entry[0]
        batched = mutation.rows if isinstance(mutation, IngestBatch) else 0
        if run and not (batched and rows + batched <= JOINED_ROWS):
            yield run
            run, rows = [], 0
        if batched:
            run.append(entry)
            rows += batched
        else:
            yield [entry]
    if run:
        yield run


def _weight(mutation: Mutation) -> int:
    """How many rows of the background a mutation is."""
    rows: int | Sized = getattr(mutation, "rows", 1)
    return rows if isinstance(rows, int) else len(rows)
