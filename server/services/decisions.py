"""DecisionService: what channels call. Converts, calls the engine, converts back; writes no log line.

Decide is the hot path: bytes in, bytes out, no interceptors, no message objects. A batch (DecideMany, Record) is done
item by item, so that one bad item fails alone; the call's deadline is asked again before each decision.
"""

from __future__ import annotations

from typing import Final, cast

import grpc

from core import limits
from core.decision import DecideRequest
from core.errors import BadValue, DeadlineTooShort, RapportError, TooLarge, UnknownName
from core.outcomes import Outcome, OutcomeResult, OutcomeStatus
from protos.rapport.v1 import decision_pb2
from server import codec, convert, status
from server.ports import Decider
from server.services import calls

NAME: Final = decision_pb2.DESCRIPTOR.services_by_name["DecisionService"].full_name
# Reports in one call: one commit takes about as many (core.limits.MUTATIONS_PER_COMMIT).
OUTCOMES_PER_CALL: Final = 1000
assert OUTCOMES_PER_CALL <= limits.MUTATIONS_PER_COMMIT


class DecisionService:
    """The calls of rapport.v1.DecisionService over a `Decider`. Safe for any number of threads."""

    def __init__(self, engine: Decider, message_bytes: int = limits.MESSAGE_BYTES) -> None:
        self._engine = engine
        self._message_bytes = message_bytes

    def handlers(self) -> grpc.GenericRpcHandler:
        """The service as grpcio registers it."""
        most = self._message_bytes
        return grpc.method_handlers_generic_handler(
            NAME,
            {
                "Decide": calls.raw("DecideRequest", self.decide, most),
                "DecideMany": calls.unary(decision_pb2.DecideManyRequest, self.decide_many, most),
                "Record": calls.unary(decision_pb2.RecordRequest, self.record, most),
                "Tell": calls.unary(decision_pb2.TellRequest, self.tell, most),
                "Explain": calls.unary(decision_pb2.ExplainRequest, self.explain, most),
            },
        )

    def decide(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        """One decision, from bytes to bytes: `server.codec` where it can, else the library."""
        remaining = _remaining(context)
        request = codec.decode(data, remaining)
        if request is None:
            request = convert.request_from(calls.parse(decision_pb2.DecideRequest, data), remaining)
        return codec.encode(self._engine.decide(request))

    def decide_many(
        self, message: decision_pb2.DecideManyRequest, context: grpc.ServicerContext
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

    def record(
        self, message: decision_pb2.RecordRequest, context: grpc.ServicerContext
    ) -> decision_pb2.RecordResponse:
        """Up to 1000 outcomes, each with a result of its own."""
        if not 1 <= len(message.outcomes) <= OUTCOMES_PER_CALL:
            raise _count("outcomes", len(message.outcomes), OUTCOMES_PER_CALL)
        results: list[OutcomeResult | None] = []
        good: list[Outcome] = []
        for position, each in enumerate(message.outcomes):
            try:
                good.append(convert.outcome_from(each, position))
                results.append(None)
            except RapportError as error:
                results.append(OutcomeResult(OutcomeStatus.REFUSED, error))
        recorded = iter(self._engine.record(good))
        return decision_pb2.RecordResponse(
            results=[_result(next(recorded) if result is None else result) for result in results]
        )

    def tell(self, message: decision_pb2.TellRequest, context: grpc.ServicerContext) -> decision_pb2.TellResponse:
        """Events and attributes of one customer."""
        if not message.identifiers:
            raise BadValue("identifiers", "is empty", "Name the customer that it is about.")
        if not message.events and not message.attributes:
            raise BadValue("events", "and attributes are both empty", "Send at least one event or attribute.")
        told = self._engine.tell(
            convert.identifiers_from(message.identifiers),
            convert.events_from(message.events),
            convert.values_from(message.attributes, "attributes"),
            message.source,
            convert.micros(message.at, "at") if message.HasField("at") else None,
        )
        return decision_pb2.TellResponse(
            applied=told.applied, duplicates=told.duplicates, created=told.created, too_old=told.too_old
        )

    def explain(
        self, message: decision_pb2.ExplainRequest, context: grpc.ServicerContext
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
        for name in message.offers if declared else ():
            if name not in declared:
                raise UnknownName("offer", name, sorted(declared), "offers")
        for placement in answer.placements:
            for offer in placement.offers:
                offer.token = ""
            if only:
                kept = [each for each in placement.rejections if each.offer in only]
                del placement.rejections[:]
                placement.rejections.extend(kept)
        return decision_pb2.ExplainResponse(response=answer)


def _request(message: decision_pb2.DecideRequest, context: grpc.ServicerContext) -> DecideRequest:
    return convert.request_from(message, _remaining(context))


def _remaining(context: grpc.ServicerContext) -> int | None:
    remaining = calls.remaining_us(context)
    if remaining == 0:
        raise DeadlineTooShort()
    return remaining


def _result(result: OutcomeResult) -> decision_pb2.OutcomeResult:
    done = cast("decision_pb2.OutcomeStatus", result.status.value)
    if result.error is None:
        return decision_pb2.OutcomeResult(status=done)
    return decision_pb2.OutcomeResult(status=done, failure=status.failure(result.error))


def _count(what: str, count: int, limit: int) -> RapportError:
    return TooLarge(what, count, limit) if count else BadValue(what, "is empty", "Send at least one.")
