"""A stream of changes on its way to the disk, taken no faster than it is made durable.

A stream has two threads. One reads messages and hands their changes to the store, and stops reading while more than a
bounded number of items and bytes is on its way; what the client sends meanwhile waits in HTTP/2's window, and then with
the client. The other answers as messages become durable, in their order. What a message holds is its taker's business.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Protocol, TypeAlias

from core import limits
from core.errors import Draining, Overloaded, RapportError, SchemaConflict, StoreCorrupt, StoreError
from core.hub.catalog import Catalog
from core.hub.mutations import Mutation

# Why an item was not kept, by its seq.
Failures: TypeAlias = list[tuple[int, RapportError | BaseException]]


class Feeding(Protocol):
    """What a stream and its takers need of the store."""

    @property
    def catalog(self) -> Catalog:
        """Numbers of names."""
        ...

    def submit(self, mutation: Mutation, *, background: bool = False) -> Future[Any]:
        """Queue a mutation; its future is done when it is durable."""
        ...

    def customer_count(self) -> int:
        """How many customers are known."""
        ...


class Message:
    """One message of a stream on its way to the disk."""

    def __init__(self, size: int) -> None:
        self.size = size  # bytes
        self.items = 0
        self.last = 0  # seq of the last item
        self.failures: Failures = []
        self.fatal: BaseException | None = None  # what ends the whole stream
        self.result: Any = None  # of an import's block
        self._left = 1  # changes that are not durable yet, and one while the message is being taken
        self._lock = threading.Lock()
        self._wake: Callable[[], None] = lambda: None

    @property
    def settled(self) -> bool:
        """Whether everything in it is durable or refused."""
        return self._left == 0

    def waits_for(self, future: Future[Any], judge: Callable[[Future[Any]], None]) -> None:
        """Counts a change; ``judge`` is called with it when it is done, on the committer's thread."""
        with self._lock:
            self._left += 1

        def settle(done: Future[Any]) -> None:
            judge(done)
            self.count_down()

        future.add_done_callback(settle)

    def taken(self, wake: Callable[[], None]) -> None:
        """All its changes are counted; ``wake`` is called when the last of them is done."""
        self._wake = wake
        self.count_down()

    def count_down(self) -> None:
        """One of what it waits for is done."""
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last:
            self._wake()

    def fails(self, seq: int, error: BaseException) -> None:
        """An item was not kept; where no other would be either, the stream is to end."""
        if isinstance(error, StoreError) and not isinstance(error, StoreCorrupt | SchemaConflict):
            self.fatal = error
        else:
            self.failures.append((seq, error))


class Stream:
    """One stream: reads on a thread of its own, answers on the call's."""

    def __init__(
        self, requests: Iterator[bytes], take: Callable[[Stream, bytes], Message],
        answer: Callable[[list[Message]], Iterator[bytes]],
    ) -> None:
        self._requests = requests
        self._take = take
        self._answer = answer
        self._ready = threading.Condition()  # guards all below
        self._messages: deque[Message] = deque()
        self._items = self._bytes = 0  # on their way
        self._over = False  # everything that the client sent is read, or reading failed
        self._error: BaseException | None = None  # why
        self._gone = False  # the client
        self._draining = False

    def begin(self) -> None:
        """Starts to read."""
        threading.Thread(target=self._read, name="feed", daemon=True).start()

    def gone(self) -> None:
        """The client is not there any more; what it sent goes on to the disk."""
        with self._ready:
            self._gone = True
            self._ready.notify_all()

    def drain(self) -> None:
        """Read no more, acknowledge what is on its way, and send the client to another server."""
        with self._ready:
            self._draining = True
            self._ready.notify_all()

    def submit(self, store: Feeding, mutation: Mutation) -> Future[Any]:
        """Hands a change to the store, as soon as its queue has room."""
        while True:
            try:
                return store.submit(mutation, background=True)
            except Overloaded as error:
                with self._ready:
                    self._ready.wait(error.retry_after_ms / 1000)

    def _read(self) -> None:
        error: BaseException | None = None
        try:
            for data in self._requests:
                message = self._take(self, data)
                with self._ready:
                    self._messages.append(message)
                    self._items += message.items
                    self._bytes += message.size
                message.taken(self._wake)
                with self._ready:
                    while self._full() and not (self._gone or self._draining):
                        self._ready.wait()
                    if self._gone or self._draining:
                        # What the client has sent since is not read, so its stream is not over: it is told to go elsewhere.
                        return
        except Exception as raised:  # whatever it is ends the stream by the one door
            error = raised
        with self._ready:
            self._error = error
            self._over = True
            self._ready.notify_all()

    def _full(self) -> bool:
        return bool(self._messages) and (
            self._items >= limits.INGEST_ITEMS_ON_THEIR_WAY or self._bytes >= limits.INGEST_BYTES_ON_THEIR_WAY
        )

    def _wake(self) -> None:
        with self._ready:
            self._ready.notify_all()

    def answers(self) -> Iterator[bytes]:
        """What to say, as messages are settled; raises what ends the stream."""
        while True:
            with self._ready:
                while not (
                    self._gone
                    or (self._messages and self._messages[0].settled)
                    or (not self._messages and (self._over or self._draining))
                ):
                    self._ready.wait()
                if self._gone:
                    return
                done: list[Message] = []
                fatal: BaseException | None = None
                while self._messages and self._messages[0].settled and fatal is None:
                    fatal = self._messages[0].fatal
                    message = self._messages.popleft()
                    self._items -= message.items
                    self._bytes -= message.size
                    if fatal is None:
                        done.append(message)
                self._ready.notify_all()
                ended = not self._messages and not done and (self._over or self._draining)
            if done:
                yield from self._answer(done)
            if fatal is not None:
                raise fatal
            if ended:
                if self._error is not None:
                    raise self._error
                if self._draining and not self._over:
                    raise Draining
                return
