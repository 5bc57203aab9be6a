"""DecisionService: what channels call. Converts, calls the engine, converts back; writes no log line.

Decide is the hot path: bytes in, bytes out, no interceptors, no message objects. A batch (DecideMany, Record) is done
item by item, so that one bad item fails alone; the call's deadline is asked again before each decision.

A full explanation makes a message for each offer, for a second where there are 100,000. All of them are made on one thread, one
after the other, so that the threads that answer are left for reports and news: eight at once kept these waiting for 0.8 s.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, cast

import grpc

from core import limits
from core.decision import DecideRequest, ExplainLevel
from core.errors import BadValue, DeadlineTooShort, Overloaded, RapportError, TooLarge, UnknownName
from core.futures import then
from core.outcomes import Outcome, OutcomeResult, OutcomeStatus, TellResult
from protos.rapport.v1 import decision_pb2
from server import codec, convert, status
from server.ports import Decider
from server.services import calls

NAME: Final = decision_pb2.DESCRIPTOR.services_by_name["DecisionService"].full_name
# Reports in one call: one commit takes about as many (core.limits.MUTATIONS_PER_COMMIT).
OUTCOMES_PER_CALL: Final = 1000
# When to come back where too many explanations wait: one of a large program takes as long.
EXPLAINED_MS: Final = 1000
assert OUTCOMES_PER_CALL <= limits.MUTATIONS_PER_COMMIT


class DecisionService:
    """The calls of rapport.v1.DecisionService over a `Decider`. Safe for any number of threads."""

    def __init__(self, engine: Decider, message_bytes: int = limits.MESSAGE_BYTES) -> None:
        self._engine = engine
        self._message_bytes = message_bytes
        self._explaining = _Explaining()

    def methods(self) -> dict[str, calls.Method]:
        """The service's methods by name, for whichever transport serves them."""
        most = self._message_bytes
        return {
            "Decide": calls.raw("DecideRequest", self.decide, most),
            "DecideMany": calls.raw("DecideManyRequest", self.many, most),
            "Record": calls.raw("RecordRequest", self.record, most),
            "Tell": calls.raw("TellRequest", self.tell, most),
            "Explain": calls.raw("ExplainRequest", self.explaining, most),
        }

    def handlers(self) -> grpc.GenericRpcHandler:
        """The service as grpcio registers it."""
        return calls.handlers(NAME, self.methods())

    def decide(self, data: bytes, context: calls.Context) -> bytes | Future[bytes]:
        """One decision, from bytes to bytes: `server.codec` where it can, else the library."""
        request = _read(data, context)
        if request.explain is ExplainLevel.FULL:
            # Read anew when its turn has come, for its time is less by then.
            return self._explaining.submit(lambda: codec.encode(self._engine.decide(_read(data, context))))
        return codec.encode(self._engine.decide(request))

    def many(self, data: bytes, context: calls.Context) -> bytes | Future[bytes]:
        """`decide_many`, on the explaining thread when any of the requests wants to be explained in full."""
        message = calls.parse(decision_pb2.DecideManyRequest, data)
        if any(each.explain == decision_pb2.EXPLAIN_LEVEL_FULL for each in message.requests):
            return self._explaining.submit(lambda: self.decide_many(message, context).SerializeToString())
        return self.decide_many(message, context).SerializeToString()

    def explaining(self, data: bytes, context: calls.Context) -> Future[bytes]:
        """`explain`, on the explaining thread."""
        message = calls.parse(decision_pb2.ExplainRequest, data)
        return self._explaining.submit(lambda: self.explain(message, context).SerializeToString())

    def decide_many(
        self, message: decision_pb2.DecideManyRequest, context: calls.Context
    ) -> decision_pb2.DecideManyResponse:
        """Up to 100 decisions, each with a result or a failure of its own."""
        if not 1 <= len(message.requests) <= limits.DECISIONS_PER_CALL:
            raise _count("requests", len(message.requests), limits.DECISIONS_PER_CALL)
        results = []
        for each in message.requests:
            try:
                answer = convert.answer_to(self._engine.decide(_request(each, context)))
                results.append(decision_pb2.DecideManyResult(response=answer))
            except Exception as error:  # one bad item fails alone, a fault of ours too
                results.append(decision_pb2.DecideManyResult(failure=status.failure(error)))
        return decision_pb2.DecideManyResponse(results=results)

    def record(self, data: bytes, context: calls.Context) -> Future[bytes]:
        """Up to 1000 outcomes, each with a result of its own; there once all that is applied is durable."""
        message = calls.parse(decision_pb2.RecordRequest, data)
        if not 1 <= len(message.outcomes) <= OUTCOMES_PER_CALL:
            raise _count("outcomes", len(message.outcomes), OUTCOMES_PER_CALL)
        results: list[OutcomeResult | None] = []
        good: list[Outcome] = []
        for position, each in enumerate(message.outcomes):
            try:
                good.append(convert.outcome_from(each, f"outcomes[{position}]"))
                results.append(None)
            except RapportError as error:
                results.append(OutcomeResult(OutcomeStatus.REFUSED, error))

        def answer(kept: Sequence[OutcomeResult]) -> bytes:
            recorded = iter(kept)
            return decision_pb2.RecordResponse(
                results=[_result(next(recorded) if result is None else result) for result in results]
            ).SerializeToString()

        return then(self._engine.recording(good), answer)

    def tell(self, data: bytes, context: calls.Context) -> Future[bytes]:
        """Events and attributes of one customer; there once they are durable."""
        message = calls.parse(decision_pb2.TellRequest, data)
        if not message.identifiers:
            raise BadValue("identifiers", "is empty", "Name the customer that it is about.")
        if not message.events and not message.attributes:
            raise BadValue("events", "and attributes are both empty", "Send at least one event or attribute.")
        telling = self._engine.telling(
            convert.identifiers_from(message.identifiers),
            convert.events_from(message.events),
            convert.values_from(message.attributes, "attributes"),
            message.source,
            convert.micros(message.at, "at") if message.HasField("at") else None,
        )
        return then(telling, _told)

    def explain(
        self, message: decision_pb2.ExplainRequest, context: calls.Context
    ) -> decision_pb2.ExplainResponse:
        """One decision in full, leaving no trace. Raises UnknownName for an offer asked after that nobody declared."""
        wanted = decision_pb2.DecideRequest()
        wanted.CopyFrom(message.request)
        wanted.explain = decision_pb2.EXPLAIN_LEVEL_FULL
        answer = convert.answer_to(self._engine.explain(_request(wanted, context)))
        only = frozenset(message.offers)
        # In full, an answer names every offer of the program: returned or with its reason.
        declared = {each.offer for placement in answer.placements for each in placement.rejections}
        declared |= {each.offer for placement in answer.placements for each in placement.offers}
        for position, name in enumerate(message.offers if declared else ()):
            if name not in declared:
                raise UnknownName("offer", name, sorted(declared), field=f"offers[{position}]")
        for placement in answer.placements:
            for offer in placement.offers:
                offer.token = ""
            if only:
                kept = [each for each in placement.rejections if each.offer in only]
                del placement.rejections[:]
                placement.rejections.extend(kept)
        return decision_pb2.ExplainResponse(response=answer)


class _Explaining:
    """The thread of full explanations. It begins with the first of them and ends with the process."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="explaining")
        self._lock = threading.Lock()
        self._waiting = 0

    def submit(self, explain: Callable[[], bytes]) -> Future[bytes]:
        """What ``explain`` returns, once it is made. Raises Overloaded when too many wait."""
        with self._lock:
            if self._waiting >= limits.EXPLANATIONS_WAITING:
                raise Overloaded("explaining", EXPLAINED_MS)
            self._waiting += 1
        future = self._thread.submit(explain)
        future.add_done_callback(self._done)
        return future

    def _done(self, future: Future[bytes]) -> None:
        with self._lock:
            self._waiting -= 1


def _read(data: bytes, context: calls.Context) -> DecideRequest:
    remaining, waited = _remaining(context), calls.waited_us(context)
    request: DecideRequest | None = codec.decode(data, remaining, waited)
    if request is None:
        request = convert.request_from(calls.parse(decision_pb2.DecideRequest, data), remaining, waited)
    return request


def _request(message: decision_pb2.DecideRequest, context: calls.Context) -> DecideRequest:
    return convert.request_from(message, _remaining(context), calls.waited_us(context))


def _remaining(context: calls.Context) -> int | None:
    remaining = calls.remaining_us(context)
    if remaining == 0:
        raise DeadlineTooShort()
    return remaining


def _result(result: OutcomeResult) -> decision_pb2.OutcomeResult:
    done = cast("decision_pb2.OutcomeStatus", result.status.value)
    if result.error is None:
        return decision_pb2.OutcomeResult(status=done)
    return decision_pb2.OutcomeResult(status=done, failure=status.failure(result.error))


def _told(told: TellResult) -> bytes:
    return decision_pb2.TellResponse(
        applied=told.applied, duplicates=told.duplicates, created=told.created, too_old=told.too_old
    ).SerializeToString()


def _count(what: str, count: int, limit: int) -> RapportError:
    return TooLarge(what, count, limit, field=what) if count else BadValue(what, "is empty", "Send at least one.")
