"""IngestService: feeds of items, and files' rows in blocks.

Streams have threads of their own, for each holds one as long as it lasts, and calls of other services must find some; a stream
past their number is refused.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import grpc

from core import limits
from core.errors import Draining, Overloaded
from core.hub.catalog import Catalog
from protos.rapport.v1 import ingest_pb2
from server import status
from server.services import calls, items
from server.services.items import Reporting
from server.services.streams import Feeding, Stream

NAME: Final = ingest_pb2.DESCRIPTOR.services_by_name["IngestService"].full_name
# Where all streams are taken, when to come back: one may take hours.
AGAIN_MS: Final = 5000
# Threads beside those of streams, which tell others that all are taken.
REFUSING: Final = 2


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
        return self._run(Stream(requests, items.Items(self._store, self._engine).take, items.answers), context)

    def _import(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        from server.services import blocks  # brings numpy, and a server that nobody imports into needs none

        return self._run(Stream(requests, blocks.Blocks(self._store).take, blocks.answers), context)

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
