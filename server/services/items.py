"""Takes the messages of an `Ingest` stream.

Items go to the store as they come, runs of events as one `IngestBatch`, every other item as the mutation that its unary
call makes, all through the queue of the background (core.hub.committer), which keeps their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from itertools import pairwise
from typing import Any, Protocol, cast

from core import limits
from core.decision import Identifier
from core.errors import BadValue, HistoryFull, PastLimit, RapportError, TooLarge
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
from core.reports import check_event, consented, happened, outcome_result, recorded
from protos.rapport.v1 import ingest_pb2
from server import convert, status
from server.services import calls
from server.services.streams import Feeding, Message, Stream


class Reporting(Protocol):
    """What items need of the engine."""

    def report(self, outcome: Outcome, now_us: int) -> Report:
        """The report as the store takes it."""
        ...


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
            try:
                item = calls.parse(ingest_pb2.IngestItem, piece)
            except BadValue as error:
                behind = f"behind seq {seqs[place - 1] if place else self._last}"
                raise BadValue(f"items[{place}]", f"{error.metadata['problem']} ({behind})", error.hint) from error
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
            return RecordEvents(identifiers=who, events=recorded((event,), now_us, now_us), received_us=now_us)
        if what == "attributes":
            return _attributes(who, item.attributes, now_us)
        consent = item.consent
        return SetConsent(
            identifiers=who,
            purpose=consent.purpose,
            channel=consent.channel,
            granted=consent.granted,
            source=consent.source,
            at_us=consented(_sent_at(consent, "consent.at"), now_us, "consent.at", granted=consent.granted),
        )


def answers(messages: list[Message]) -> Iterator[bytes]:
    """One for all messages that are settled: up to where, and what of it was not kept."""
    response = ingest_pb2.IngestResponse(acked=messages[-1].last)
    for message in messages:
        for seq, error in sorted(message.failures, key=lambda each: each[0]):
            response.failures.add(seq=seq, failure=status.failure(error))
    yield response.SerializeToString()


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
        identifiers=who, attributes=attributes, source=message.source,
        at_us=happened(_sent_at(message, "attributes.at"), now_us, "attributes.at"),
    )


def _sent_at(message: ingest_pb2.IngestAttributes | ingest_pb2.IngestConsent, field: str) -> int | None:
    return convert.micros(message.at, field) if message.HasField("at") else None


def _not_kept(mutation: Mutation, result: Any) -> RapportError | None:
    """Why nothing of a mutation that was applied counts now, or ever did."""
    if isinstance(mutation, RecordOutcomes):
        return outcome_result(mutation.outcomes[0], result[0]).error
    if isinstance(mutation, RecordEvents) and cast(EventsResult, result).too_old:
        return HistoryFull("customer's event list", limits.EVENTS_PER_CUSTOMER, mutation.events[0].at_us)
    return None
