"""A server with the starter program, and clients of its feeds; and a feed's batches without a server."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc

from core.decision import Identifier
from core.hub.ingest import ItemReader
from core.hub.mutations import IngestBatch, RecordedEvent
from protos.rapport.v1 import ingest_pb2, values_pb2
from protos.rapport.v1.ingest_pb2_grpc import IngestServiceStub
from tests.running import BOUND_SECONDS, Server, write_starter


class Feed:
    """One open stream: `send`, `answer`, `half_close`."""

    def __init__(self, channel: grpc.Channel, sent: Iterator[ingest_pb2.IngestRequest] | None = None) -> None:
        self._queue: queue.SimpleQueue[ingest_pb2.IngestRequest | None] = queue.SimpleQueue()
        self.call: Any = IngestServiceStub(channel).Ingest(sent or iter(self._queue.get, None), timeout=BOUND_SECONDS)

    def send(self, *items: ingest_pb2.IngestItem) -> None:
        self._queue.put(ingest_pb2.IngestRequest(items=items))

    def answer(self) -> ingest_pb2.IngestResponse:
        answer: ingest_pb2.IngestResponse = next(self.call)
        return answer

    def half_close(self) -> None:
        self._queue.put(None)


def visit(seq: int, customer: str, key: str = "", at_us: int = 0, **fields: str) -> ingest_pb2.IngestItem:
    """An event of the starter program."""
    event = values_pb2.Event(type="visit", key=key or f"k{seq}")
    if at_us:
        event.at.FromMicroseconds(at_us)
    for name, value in fields.items():
        event.fields[name].string_value = value
    return ingest_pb2.IngestItem(seq=seq, identifiers=[named(customer)], event=event)


def batch_of(reader: ItemReader, *happened: tuple[Sequence[Identifier], RecordedEvent]) -> IngestBatch:
    """Events, each of him whom its identifiers name, as a feed brings them in one batch. Of their fields only ints."""
    request = ingest_pb2.IngestRequest()
    for seq, (identifiers, event) in enumerate(happened, 1):
        item = request.items.add(seq=seq)
        for one in identifiers:
            item.identifiers.add(namespace=one.namespace, value=one.value)
        item.event.type, item.event.key = event.type, event.key
        item.event.at.FromMicroseconds(event.at_us)
        for name, value in event.fields.items():
            assert isinstance(value, int)
            item.event.fields[name].int_value = value
    (batch,) = reader.read(request.SerializeToString(), 2**60, 1000)[1]
    assert isinstance(batch, IngestBatch)
    return batch


def named(customer: str, namespace: str = "crm") -> values_pb2.Identifier:
    return values_pb2.Identifier(namespace=namespace, value=customer)


@contextlib.contextmanager
def serving(folder: Path, **environment: str) -> Iterator[tuple[Server, grpc.Channel, grpc.Channel]]:
    """(the server, a channel to its control address, one to the other), with the starter program loaded."""
    if not (folder / "rapport.yaml").exists():
        write_starter(folder)
    server = Server(folder, RAPPORT_LISTEN_CONTROL="127.0.0.1:0", **environment)
    try:
        told = server.until("listening")
        server.until("ready")
        with (
            grpc.insecure_channel(told["listen_control"]) as control,
            grpc.insecure_channel(told["listen_decisions"]) as decisions,
        ):
            yield server, control, decisions
    finally:
        if server.process.poll() is None:
            server.end()
        server.close()
