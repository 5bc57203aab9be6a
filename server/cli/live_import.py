"""The store of a running server, as an import sees it: its names, and a place to hand rows to.

Rows are read, converted and rejected here, in this process, exactly as into a store of one's own; what goes over the wire is each
block's change, and the server answers when it is durable. The server takes blocks through its queue of feeds, so that its
online writes go first.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Final

import grpc

from core.errors import Draining, RapportError
from core.hub import catalog as catalogs
from core.hub import mutations
from core.hub.catalog import Catalog
from core.hub.imports import ImportColumns, ImportResult
from core.hub.mutations import ImportCases
from protos.rapport.v1 import ingest_pb2
from protos.rapport.v1.ingest_pb2_grpc import IngestServiceStub
from server.cli import client

# Rows of a block: about a millisecond of the server's one writing thread.
BLOCK_ROWS: Final = 128
# Blocks on their way: a commit takes up to 8,192 rows while nobody else writes, and with two blocks it waited for the next.
AHEAD: Final = 64


class LiveStore:
    """Use as a context manager, and from one thread. Calls that fail raise `RemoteError`, here or by a future."""

    def __init__(self, channel: grpc.Channel, target: str) -> None:
        self._stub = IngestServiceStub(channel)
        self._target = target
        described = self._described()
        self.path = described.path  # of the server's machine
        self.catalog: Catalog = catalogs.loaded(
            sorted((key.encode(), value) for key, value in described.catalog.items())
        )
        self._blocks: queue.SimpleQueue[ingest_pb2.ImportRequest | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # guards the two below
        self._waiting: deque[Future[ImportResult]] = deque()
        self._failure: RapportError | None = None
        self._answers: threading.Thread | None = None

    def __enter__(self) -> LiveStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._blocks.put(None)
        if self._answers is not None:
            self._answers.join()

    def _described(self) -> ingest_pb2.DescribeStoreResponse:
        return self._stub.DescribeStore(ingest_pb2.DescribeStoreRequest(), timeout=client.QUICK_SECONDS)

    def customer_count(self) -> int:
        """How many customers the server knows now."""
        return self._described().customers

    def submit(self, mutation: ImportColumns | ImportCases) -> Future[ImportResult]:
        """Send a block; the future is done when it is durable."""
        future: Future[ImportResult] = Future()
        with self._lock:
            if self._failure is not None:
                raise self._failure
            self._waiting.append(future)
        if self._answers is None:
            answers: Iterator[ingest_pb2.ImportResponse] = self._stub.Import(iter(self._blocks.get, None))
            self._answers = threading.Thread(target=self._receive, args=(answers,), name="answers", daemon=True)
            self._answers.start()
        self._blocks.put(ingest_pb2.ImportRequest(change=mutations.encode(mutation)))
        return future

    def _receive(self, answers: Iterator[ingest_pb2.ImportResponse]) -> None:
        failure: RapportError = Draining()
        try:
            for answer in answers:
                with self._lock:
                    future = self._waiting.popleft()
                refused = tuple((each.row, each.cause) for each in answer.refused)
                future.set_result(
                    ImportResult(answer.created, answer.changed, answer.unchanged, tuple(answer.contested), refused)
                )
        except grpc.RpcError as error:
            failure = client.told(error, self._target)
        with self._lock:
            self._failure = failure
            waiting = list(self._waiting)
        for future in waiting:
            future.set_exception(failure)


def serves(live: LiveStore, folder: Path) -> bool:
    """Whether the server's store is the one in this folder of this machine."""
    return live.path == str(folder.resolve())
