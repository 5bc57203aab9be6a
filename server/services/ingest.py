"""IngestService: feeds of items, and files' rows in blocks, taken no faster than they are made durable.

A stream has two threads. One reads messages and hands their changes to the store, and stops reading while more than a
bounded number of items and bytes is on its way; what the client sends meanwhile waits in HTTP/2's window, and then with
the client. The other answers as messages become durable, in their order. Streams have threads of their own, for each holds
one as long as it lasts, and calls of other services must find some; a stream past their number is refused.

Items go to the store as they come, runs of events as one `IngestBatch`, every other item as the mutation that its unary
call makes, all through the queue of the background (core.hub.committer), which keeps their order.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import Any, Final, Protocol, TypeAlias, cast

import grpc

from core import limits
from core.decision import Identifier
from core.engine import check_event, outcome_result, recorded
from core.errors import (
    BadValue,
    Draining,
    HistoryFull,
    Overloaded,
    PastLimit,
    RapportError,
    SchemaConflict,
    StoreCorrupt,
    StoreError,
    TooLarge,
)
from core.hub.catalog import Catalog
from core.hub.ingest import ItemReader
from core.hub.mutations import (
    Cell,
    EventsResult,
    IngestBatch,
    Mutation,
    RecordEvents,
    RecordOutcomes,
    SetConsent,
    Upsert,
    cells,
)
from core.hub.mutations import Outcome as Report
from core.outcomes import Outcome
from protos.rapport.v1 import ingest_pb2
from server import convert, status
from server.services import calls

NAME: Final = ingest_pb2.DESCRIPTOR.services_by_name["IngestService"].full_name
# Where all streams are taken, when to come back: one may take hours.
AGAIN_MS: Final = 5000
# Threads beside those of streams, which tell others that all are taken.
REFUSING: Final = 2

# Why an item was not kept, by its seq.
Failures: TypeAlias = list[tuple[int, RapportError | BaseException]]


class Feeding(Protocol):
    """What this service needs of the store."""

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


class Reporting(Protocol):
    """What this service needs of the engine."""

    def report(self, outcome: Outcome, now_us: int) -> Report:
        """The report as the store takes it."""
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
        self._over = False  # nothing more is read
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
                        break
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


class IngestService:
    """The calls of rapport.v1.IngestService."""

    def __init__(self, store: Feeding, engine: Reporting, path: str) -> None:
        """``path`` is the store's folder."""
        self._store = store
        self._engine = engine
        self._path = path
        self._threads = ThreadPoolExecutor(limits.INGEST_STREAMS + REFUSING, thread_name_prefix="feeds")
        self._lock = threading.Lock()
        self._streams: set[Stream] = set()
        self._draining = False

    def handlers(self) -> grpc.GenericRpcHandler:
        """The service as grpcio registers it."""
        return grpc.method_handlers_generic_handler(
            NAME,
            {
                "Ingest": self._streaming(self._ingest),
                "Import": self._streaming(self._import),
                "DescribeStore": calls.handler(
                    calls.unary(ingest_pb2.DescribeStoreRequest, self.describe, limits.MESSAGE_BYTES)
                ),
            },
        )

    def _streaming(
        self, answer: Callable[[Iterator[bytes], grpc.ServicerContext], Iterator[bytes]]
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        def call(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            return answer(requests, context)

        # grpcio looks for it on the function that it calls.
        call.experimental_thread_pool = self._threads  # type: ignore[attr-defined]
        return grpc.stream_stream_rpc_method_handler(call)

    def drain(self) -> None:
        """Ends every stream once what it read is durable; new ones are refused."""
        with self._lock:
            self._draining = True
            streams = list(self._streams)
        for stream in streams:
            stream.drain()

    def describe(
        self, message: ingest_pb2.DescribeStoreRequest, context: calls.Context
    ) -> ingest_pb2.DescribeStoreResponse:
        """Where the store lies, and its names."""
        stored = self._store.catalog.stored(Catalog())
        return ingest_pb2.DescribeStoreResponse(
            path=self._path,
            catalog={key.decode(): value for key, value in stored.items()},
            customers=self._store.customer_count(),
        )

    def _ingest(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        return self._run(Stream(requests, Items(self._store, self._engine).take, _acknowledged), context)

    def _import(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        from server.services import importing  # brings numpy, and a server that nobody imports into needs none

        return self._run(Stream(requests, importing.Blocks(self._store).take, importing.answers), context)

    def _run(self, stream: Stream, context: grpc.ServicerContext) -> Iterator[bytes]:
        try:
            with self._lock:
                if self._draining:
                    raise Draining
                if len(self._streams) >= limits.INGEST_STREAMS:
                    raise Overloaded("feeding", AGAIN_MS)
                self._streams.add(stream)
            try:
                if not context.add_callback(stream.gone):
                    return
                stream.begin()
                yield from stream.answers()
            finally:
                stream.gone()
                with self._lock:
                    self._streams.discard(stream)
        except Exception as error:  # the one door, as of a unary call
            status.abort(context, error)


def _acknowledged(messages: list[Message]) -> Iterator[bytes]:
    response = ingest_pb2.IngestResponse(acked=messages[-1].last)
    for message in messages:
        for seq, error in sorted(message.failures, key=lambda each: each[0]):
            response.failures.add(seq=seq, failure=status.failure(error))
    yield response.SerializeToString()


class Items:
    """Takes the messages of one `Ingest` stream. For its reading thread."""

    def __init__(self, store: Feeding, engine: Reporting, clock_us: Callable[[], int] = calls.now_us) -> None:
        self._store = store
        self._engine = engine
        self._clock_us = clock_us
        self._catalog: Catalog | None = None
        self._reader: ItemReader | None = None
        self._last = 0  # seq

    def take(self, stream: Stream, data: bytes) -> Message:
        """Hands a message's items to the store. Raises what makes nothing of the message."""
        if len(data) > limits.MESSAGE_BYTES:
            raise PastLimit("The IngestRequest", limits.MESSAGE_BYTES)
        catalog = self._store.catalog
        if self._reader is None or catalog is not self._catalog:
            self._catalog, self._reader = catalog, ItemReader(catalog)
        now_us = self._clock_us()
        seqs, pieces = self._reader.read(data, now_us, limits.INGEST_BATCH)
        if not seqs:
            raise BadValue("items", "is empty", "Send at least one.")
        if len(seqs) > limits.INGEST_ITEMS:
            raise TooLarge("items", len(seqs), limits.INGEST_ITEMS, field="items")
        read: list[ingest_pb2.IngestItem | IngestBatch] = []
        place = 0
        for piece in pieces:
            if isinstance(piece, IngestBatch):
                read.append(piece)
                place += piece.rows
                continue
            item = calls.parse(ingest_pb2.IngestItem, piece)
            seqs[place] = item.seq
            read.append(item)
            place += 1
        self._check(seqs)
        message = Message(len(data))
        message.items = len(seqs)
        message.last = self._last = seqs[-1]
        place = 0
        for each in read:
            if isinstance(each, IngestBatch):
                self._batch(stream, message, each, seqs[place : place + each.rows])
                place += each.rows
            else:
                self._single(stream, message, each, now_us, catalog)
                place += 1
        return message

    def _check(self, seqs: Sequence[int]) -> None:
        before = self._last
        if seqs[0] > before and all(one < two for one, two in pairwise(seqs)):
            return
        for position, seq in enumerate(seqs):
            if seq <= before:
                problem = f"is {seq}, after {before}" if seq else "is missing"
                raise BadValue(f"items[{position}].seq", problem, "Number items from 1, each higher than the one before.")
            before = seq

    def _batch(self, stream: Stream, message: Message, batch: IngestBatch, seqs: Sequence[int]) -> None:
        def judge(done: Future[Any]) -> None:
            error = done.exception()
            if error is not None:
                # Of one item it would be among the failures.
                message.fatal = error
                return
            for place, failure in done.result().failures:
                message.fails(seqs[place], failure)

        message.waits_for(stream.submit(self._store, batch), judge)

    def _single(
        self, stream: Stream, message: Message, item: ingest_pb2.IngestItem, now_us: int, catalog: Catalog
    ) -> None:
        try:
            mutation = self.mutation(item, now_us, catalog)
        except RapportError as error:
            message.fails(item.seq, error)
            return

        def judge(done: Future[Any]) -> None:
            error = done.exception() or _not_kept(mutation, done.result())
            if error is not None:
                message.fails(item.seq, error)

        message.waits_for(stream.submit(self._store, mutation), judge)

    def mutation(self, item: ingest_pb2.IngestItem, now_us: int, catalog: Catalog) -> Mutation:
        """What the item's unary call would make of it."""
        what = item.WhichOneof("what")
        if what == "outcome":
            if item.identifiers:
                raise BadValue("identifiers", "stand beside an outcome", "Leave them out: the token says whose it is.")
            return RecordOutcomes(outcomes=(self._engine.report(convert.outcome_from(item.outcome, "outcomes[0]"), now_us),))
        if what is None:
            raise BadValue("what", "is not set", "Set one of event, attributes, outcome and consent.")
        if not item.identifiers:
            raise BadValue("identifiers", "is empty", "Name the customer that it is about.")
        who = convert.identifiers_from(item.identifiers)
        if what == "event":
            event = convert.event_from(item.event, "events[0]")
            check_event(catalog.events, event, "events[0]", now_us)
            return RecordEvents(identifiers=who, events=recorded((event,), now_us), received_us=now_us)
        if what == "attributes":
            return _attributes(who, item.attributes, now_us)
        consent = item.consent
        return SetConsent(
            identifiers=who,
            purpose=consent.purpose,
            channel=consent.channel,
            granted=consent.granted,
            source=consent.source,
            at_us=_at(consent, "consent", now_us),
        )


def _attributes(who: tuple[Identifier, ...], message: ingest_pb2.IngestAttributes, now_us: int) -> Upsert:
    count = len(message.attributes) + len(message.clear)
    if not count:
        raise BadValue("attributes", "sets and clears nothing", "Send at least one attribute.")
    if count > limits.FACTS_PER_REQUEST:
        raise TooLarge("attributes", count, limits.FACTS_PER_REQUEST, field="attributes")
    attributes: dict[str, Cell] = dict(cells(convert.values_from(message.attributes, "attributes")))
    for name in message.clear:
        if name in attributes:
            again = "is in attributes too" if name in message.attributes else "stands there twice"
            raise BadValue(f"clear['{name}']", again, "Set it or clear it, once.")
        attributes[name] = None
    return Upsert(
        identifiers=who, attributes=attributes, source=message.source, at_us=_at(message, "attributes", now_us)
    )


def _at(message: ingest_pb2.IngestAttributes | ingest_pb2.IngestConsent, field: str, now_us: int) -> int:
    if not message.HasField("at"):
        return now_us
    at_us = convert.micros(message.at, f"{field}.at")
    if at_us > now_us + limits.AHEAD_US:
        raise BadValue(f"{field}.at", "lies in the future", "Send the time it happened, in UTC.")
    return at_us


def _not_kept(mutation: Mutation, result: Any) -> RapportError | None:
    """Why nothing of a mutation that was applied counts now, or ever did."""
    if isinstance(mutation, RecordOutcomes):
        return outcome_result(mutation.outcomes[0], result[0]).error
    if isinstance(mutation, RecordEvents) and cast(EventsResult, result).too_old:
        return HistoryFull("customer's event list", limits.EVENTS_PER_CUSTOMER, mutation.events[0].at_us)
    return None
