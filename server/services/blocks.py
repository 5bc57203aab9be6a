"""Takes the blocks of an `Import` stream: loaded with the first of them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from core import limits
from core.errors import PastLimit
from core.hub import mutations
from core.hub.accepting import accept
from core.hub.imports import ImportResult
from core.hub.mutations import ImportCases
from protos.rapport.v1 import ingest_pb2
from server.services import calls
from server.services.streams import Feeding, Message, Stream


class Blocks:
    """Takes the messages of one `Import` stream. For its reading thread."""

    def __init__(self, store: Feeding) -> None:
        self._store = store

    def take(self, stream: Stream, data: bytes) -> Message:
        """Hands a block to the store. Raises what makes nothing of it."""
        if len(data) > limits.IMPORT_BYTES:
            raise PastLimit("The ImportRequest", limits.IMPORT_BYTES)
        change = calls.parse(ingest_pb2.ImportRequest, data).change
        mutation = accept(mutations.decode(change), self._store.catalog, calls.now_us())
        message = Message(len(data))
        message.items = len(mutation.rows) if isinstance(mutation, ImportCases) else mutation.rows

        def judge(done: Future[Any]) -> None:
            message.fatal = done.exception()
            if message.fatal is None:
                message.result = done.result()

        message.waits_for(stream.submit(self._store, mutation), judge)
        return message


def answers(messages: list[Message]) -> Iterator[bytes]:
    """One for each block."""
    for message in messages:
        result: ImportResult = message.result
        yield ingest_pb2.ImportResponse(
            created=result.created,
            changed=result.changed,
            unchanged=result.unchanged,
            contested=list(result.contested),
            refused=[ingest_pb2.ImportRefusal(row=row, cause=cause) for row, cause in result.refused],
        ).SerializeToString()
