"""SegmentService: who is in which segment, and the edges of bands.

Counting, listing and watching hold a thread for as long as they last, so few may at once: half of the control plane's, and a
call more is refused at once instead of keeping profile writers waiting.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Protocol

import grpc

from core.decision import Identifier
from core.errors import Draining, Overloaded, UnknownName
from core.hub.saved import BandEdges
from core.programs.program import Program
from core.segments import Progress, Segments, of_requests
from protos.rapport.v1 import segment_pb2, values_pb2
from server import convert
from server.services import calls

NAME: Final = segment_pb2.DESCRIPTOR.services_by_name["SegmentService"].full_name
# Progress is told so often.
TELL_SECONDS: Final = 0.5
# A watch without changes looks so often whether its caller is still there.
LOOK_SECONDS: Final = 0.5
# A refused caller may come back when a walk over some hundred thousand customers has ended.
RETRY_MS: Final = 1000
# Members in one message.
MEMBERS: Final = 1000


class Bands(Protocol):
    """What this service needs of the engine."""

    def bands(self) -> Mapping[str, BandEdges | None]:
        """The edges of each band; None where none have been made yet. NoProgram."""
        ...

    @property
    def plan(self) -> Serving:
        """What serves now. NoProgram."""
        ...


class Serving(Protocol):
    """A plan, of which this service looks at the program."""

    @property
    def program(self) -> Program:
        """The program that it is of."""
        ...


class Customers(Protocol):
    """What this service needs of the store."""

    def identifiers_of(self, customers: Iterable[int]) -> list[tuple[Identifier, ...] | None]:
        """Identifiers of each of these customers, None for one who is no more."""
        ...


class SegmentService:
    """The calls of rapport.v1.SegmentService. At most ``at_once`` of those that walk or watch run at the same time."""

    def __init__(
        self, segments: Segments, engine: Bands, store: Customers, message_bytes: int, at_once: int
    ) -> None:
        self._segments = segments
        self._engine = engine
        self._store = store
        self._message_bytes = message_bytes
        self._room = threading.Semaphore(at_once)
        self._draining = threading.Event()

    def handlers(self) -> grpc.GenericRpcHandler:
        """The service as grpcio registers it."""
        most = self._message_bytes
        return calls.handlers(
            NAME,
            {"ListBands": calls.unary(segment_pb2.ListBandsRequest, self.bands, most)},
            {
                "CountSegments": calls.streamed(segment_pb2.CountSegmentsRequest, self.count, most),
                "ListSegment": calls.streamed(segment_pb2.ListSegmentRequest, self.members, most),
                "WatchSegment": calls.streamed(segment_pb2.WatchSegmentRequest, self.watch, most),
            },
        )

    def drain(self) -> None:
        """The server ends: calls under way end with DRAINING."""
        self._draining.set()

    def count(
        self, message: segment_pb2.CountSegmentsRequest, context: calls.Context
    ) -> Iterator[segment_pb2.CountSegmentsResponse]:
        """Count members."""
        with self._place():
            conditions = self._segments.conditions()
            told = time.monotonic()
            answer = segment_pb2.CountSegmentsResponse()
            for counted in self._segments.count(message.segment):
                self._go_on()
                answer = segment_pb2.CountSegmentsResponse(
                    progress=_progress(counted.progress),
                    segments=[
                        segment_pb2.SegmentCount(
                            segment=name, members=members, of_requests=of_requests(conditions[name])
                        )
                        for name, members in counted.members.items()
                        if name in conditions
                    ],
                )
                if time.monotonic() - told >= TELL_SECONDS:
                    told = time.monotonic()
                    yield answer
            answer.complete = True
            yield answer

    def members(
        self, message: segment_pb2.ListSegmentRequest, context: calls.Context
    ) -> Iterator[segment_pb2.ListSegmentResponse]:
        """List members."""
        with self._place():
            self._known(message.namespace)
            left = message.limit or 2**64
            told = time.monotonic()
            for listed in self._segments.members(message.segment):
                self._go_on()
                taken = listed.members[:left]
                left -= len(taken)
                progress = _progress(listed.progress)
                for start in range(0, len(taken), MEMBERS):
                    some = self._named(taken[start:start + MEMBERS], message.namespace)
                    yield segment_pb2.ListSegmentResponse(progress=progress, members=some)
                    told = time.monotonic()
                if left == 0:
                    return
                if time.monotonic() - told >= TELL_SECONDS:
                    told = time.monotonic()
                    yield segment_pb2.ListSegmentResponse(progress=progress)

    def watch(
        self, message: segment_pb2.WatchSegmentRequest, context: calls.Context
    ) -> Iterator[segment_pb2.WatchSegmentResponse]:
        """Tell who comes and leaves."""
        with self._place():
            self._known(message.namespace)
            with self._segments.watch(message.segment) as watch:
                begun = False
                while calls.active(context):
                    self._go_on()
                    changes = watch.take(LOOK_SECONDS)
                    answer = segment_pb2.WatchSegmentResponse()
                    if not begun and watch.members is not None:
                        begun = True
                        answer.members = watch.members
                    members = self._named([each.customer for each in changes], message.namespace)
                    for change, member in zip(changes, members, strict=True):
                        answer.changes.add(member=member, entered=change.entered, at=convert.instant(change.at_us))
                    if answer.changes or answer.HasField("members"):
                        yield answer

    def bands(self, message: segment_pb2.ListBandsRequest, context: calls.Context) -> segment_pb2.ListBandsResponse:
        """Show bands and their edges."""
        response = segment_pb2.ListBandsResponse()
        declared = self._engine.plan.program.bands
        for name, kept in self._engine.bands().items():
            if name not in declared:
                continue  # another program was loaded between the two
            band = response.bands.add(band=name, parts=declared[name].parts, type=str(declared[name].of.type))
            if kept is not None:
                band.edges.extend(kept.edges)
                band.customers = kept.customers
                band.at.CopyFrom(convert.instant(kept.at_us))
        return response

    def _place(self) -> _Place:
        return _Place(self._room)

    def _go_on(self) -> None:
        if self._draining.is_set():
            raise Draining

    def _known(self, namespace: str) -> None:
        declared = self._engine.plan.program.schema.namespaces
        if namespace and namespace not in declared:
            raise UnknownName("identifier namespace", namespace, declared, field="namespace")

    def _named(self, customers: Sequence[int], namespace: str) -> list[segment_pb2.SegmentMember]:
        return [
            segment_pb2.SegmentMember(
                customer=customer,
                identifiers=[
                    values_pb2.Identifier(namespace=each.namespace, value=each.value)
                    for each in found or ()
                    if namespace in ("", each.namespace)
                ],
            )
            for customer, found in zip(customers, self._store.identifiers_of(customers), strict=True)
        ]


class _Place:
    """One of the calls that may run at once, for as long as it lasts."""

    def __init__(self, room: threading.Semaphore) -> None:
        self._room = room

    def __enter__(self) -> None:
        if not self._room.acquire(blocking=False):
            raise Overloaded("counting, listing and watching of segments", RETRY_MS)

    def __exit__(self, *exception: object) -> None:
        self._room.release()


def _progress(progress: Progress) -> segment_pb2.WalkProgress:
    return segment_pb2.WalkProgress(
        visited=progress.visited, customers=progress.customers, damaged=progress.damaged
    )
