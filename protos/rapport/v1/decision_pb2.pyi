import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from protos.rapport.v1 import values_pb2 as _values_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ExplainLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXPLAIN_LEVEL_UNSPECIFIED: _ClassVar[ExplainLevel]
    EXPLAIN_LEVEL_NONE: _ClassVar[ExplainLevel]
    EXPLAIN_LEVEL_SUMMARY: _ClassVar[ExplainLevel]
    EXPLAIN_LEVEL_FULL: _ClassVar[ExplainLevel]

class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REASON_UNSPECIFIED: _ClassVar[Reason]
    REASON_SCHEDULE: _ClassVar[Reason]
    REASON_CHANNEL: _ClassVar[Reason]
    REASON_PLACEMENT: _ClassVar[Reason]
    REASON_ELIGIBILITY: _ClassVar[Reason]
    REASON_APPLICABILITY: _ClassVar[Reason]
    REASON_SUITABILITY: _ClassVar[Reason]
    REASON_CONSENT: _ClassVar[Reason]
    REASON_CASE_OPEN: _ClassVar[Reason]
    REASON_BUDGET: _ClassVar[Reason]
    REASON_EXPERIMENT: _ClassVar[Reason]
    REASON_CONTACT_CAP: _ClassVar[Reason]
    REASON_SUPPRESSED: _ClassVar[Reason]
    REASON_MODEL_FAILED: _ClassVar[Reason]
    REASON_SCORE_UNDEFINED: _ClassVar[Reason]
    REASON_DUPLICATE: _ClassVar[Reason]
    REASON_GROUP_LIMIT: _ClassVar[Reason]
    REASON_ARBITRATION_LOST: _ClassVar[Reason]

class Detail(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DETAIL_UNSPECIFIED: _ClassVar[Detail]
    DETAIL_FALSE: _ClassVar[Detail]
    DETAIL_VALUE_MISSING: _ClassVar[Detail]
    DETAIL_EXPRESSION_FAILED: _ClassVar[Detail]

class SlotStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SLOT_STATUS_UNSPECIFIED: _ClassVar[SlotStatus]
    SLOT_STATUS_OK: _ClassVar[SlotStatus]
    SLOT_STATUS_FALLBACK_NO_ELIGIBLE_OFFER: _ClassVar[SlotStatus]
    SLOT_STATUS_FALLBACK_UNKNOWN_CUSTOMER: _ClassVar[SlotStatus]
    SLOT_STATUS_FALLBACK_EMPTY_CATALOGUE: _ClassVar[SlotStatus]
    SLOT_STATUS_FALLBACK_MODEL: _ClassVar[SlotStatus]
    SLOT_STATUS_FALLBACK_DEADLINE: _ClassVar[SlotStatus]
    SLOT_STATUS_FALLBACK_OVERLOAD: _ClassVar[SlotStatus]
    SLOT_STATUS_OK_MODEL_FALLBACK: _ClassVar[SlotStatus]

class Clamp(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CLAMP_UNSPECIFIED: _ClassVar[Clamp]
    CLAMP_NONE: _ClassVar[Clamp]
    CLAMP_FLOOR: _ClassVar[Clamp]
    CLAMP_CEILING: _ClassVar[Clamp]

class OutcomeStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_STATUS_UNSPECIFIED: _ClassVar[OutcomeStatus]
    OUTCOME_STATUS_APPLIED: _ClassVar[OutcomeStatus]
    OUTCOME_STATUS_DUPLICATE: _ClassVar[OutcomeStatus]
    OUTCOME_STATUS_UNKNOWN: _ClassVar[OutcomeStatus]
    OUTCOME_STATUS_REFUSED: _ClassVar[OutcomeStatus]
EXPLAIN_LEVEL_UNSPECIFIED: ExplainLevel
EXPLAIN_LEVEL_NONE: ExplainLevel
EXPLAIN_LEVEL_SUMMARY: ExplainLevel
EXPLAIN_LEVEL_FULL: ExplainLevel
REASON_UNSPECIFIED: Reason
REASON_SCHEDULE: Reason
REASON_CHANNEL: Reason
REASON_PLACEMENT: Reason
REASON_ELIGIBILITY: Reason
REASON_APPLICABILITY: Reason
REASON_SUITABILITY: Reason
REASON_CONSENT: Reason
REASON_CASE_OPEN: Reason
REASON_BUDGET: Reason
REASON_EXPERIMENT: Reason
REASON_CONTACT_CAP: Reason
REASON_SUPPRESSED: Reason
REASON_MODEL_FAILED: Reason
REASON_SCORE_UNDEFINED: Reason
REASON_DUPLICATE: Reason
REASON_GROUP_LIMIT: Reason
REASON_ARBITRATION_LOST: Reason
DETAIL_UNSPECIFIED: Detail
DETAIL_FALSE: Detail
DETAIL_VALUE_MISSING: Detail
DETAIL_EXPRESSION_FAILED: Detail
SLOT_STATUS_UNSPECIFIED: SlotStatus
SLOT_STATUS_OK: SlotStatus
SLOT_STATUS_FALLBACK_NO_ELIGIBLE_OFFER: SlotStatus
SLOT_STATUS_FALLBACK_UNKNOWN_CUSTOMER: SlotStatus
SLOT_STATUS_FALLBACK_EMPTY_CATALOGUE: SlotStatus
SLOT_STATUS_FALLBACK_MODEL: SlotStatus
SLOT_STATUS_FALLBACK_DEADLINE: SlotStatus
SLOT_STATUS_FALLBACK_OVERLOAD: SlotStatus
SLOT_STATUS_OK_MODEL_FALLBACK: SlotStatus
CLAMP_UNSPECIFIED: Clamp
CLAMP_NONE: Clamp
CLAMP_FLOOR: Clamp
CLAMP_CEILING: Clamp
OUTCOME_STATUS_UNSPECIFIED: OutcomeStatus
OUTCOME_STATUS_APPLIED: OutcomeStatus
OUTCOME_STATUS_DUPLICATE: OutcomeStatus
OUTCOME_STATUS_UNKNOWN: OutcomeStatus
OUTCOME_STATUS_REFUSED: OutcomeStatus

class PlacementRequest(_message.Message):
    __slots__ = ("name", "slots")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    slots: int
    def __init__(self, name: _Optional[str] = ..., slots: _Optional[int] = ...) -> None: ...

class DecideRequest(_message.Message):
    __slots__ = ("identifiers", "channel", "placements", "facts", "events", "explain", "time_budget", "as_of", "seed", "deferred")
    class FactsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _values_pb2.Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_values_pb2.Value, _Mapping]] = ...) -> None: ...
    IDENTIFIERS_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    PLACEMENTS_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    TIME_BUDGET_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    DEFERRED_FIELD_NUMBER: _ClassVar[int]
    identifiers: _containers.RepeatedCompositeFieldContainer[_values_pb2.Identifier]
    channel: str
    placements: _containers.RepeatedCompositeFieldContainer[PlacementRequest]
    facts: _containers.MessageMap[str, _values_pb2.Value]
    events: _containers.RepeatedCompositeFieldContainer[_values_pb2.Event]
    explain: ExplainLevel
    time_budget: _duration_pb2.Duration
    as_of: _timestamp_pb2.Timestamp
    seed: int
    deferred: bool
    def __init__(self, identifiers: _Optional[_Iterable[_Union[_values_pb2.Identifier, _Mapping]]] = ..., channel: _Optional[str] = ..., placements: _Optional[_Iterable[_Union[PlacementRequest, _Mapping]]] = ..., facts: _Optional[_Mapping[str, _values_pb2.Value]] = ..., events: _Optional[_Iterable[_Union[_values_pb2.Event, _Mapping]]] = ..., explain: _Optional[_Union[ExplainLevel, str]] = ..., time_budget: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., as_of: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., seed: _Optional[int] = ..., deferred: _Optional[bool] = ...) -> None: ...

class Factors(_message.Message):
    __slots__ = ("propensity", "context_percent", "value", "lever_percent")
    PROPENSITY_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_PERCENT_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LEVER_PERCENT_FIELD_NUMBER: _ClassVar[int]
    propensity: float
    context_percent: float
    value: float
    lever_percent: float
    def __init__(self, propensity: _Optional[float] = ..., context_percent: _Optional[float] = ..., value: _Optional[float] = ..., lever_percent: _Optional[float] = ...) -> None: ...

class QuotedPrice(_message.Message):
    __slots__ = ("amount", "list", "personal", "basis", "clamp")
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    LIST_FIELD_NUMBER: _ClassVar[int]
    PERSONAL_FIELD_NUMBER: _ClassVar[int]
    BASIS_FIELD_NUMBER: _ClassVar[int]
    CLAMP_FIELD_NUMBER: _ClassVar[int]
    amount: _values_pb2.Money
    list: _values_pb2.Money
    personal: bool
    basis: _containers.RepeatedScalarFieldContainer[str]
    clamp: Clamp
    def __init__(self, amount: _Optional[_Union[_values_pb2.Money, _Mapping]] = ..., list: _Optional[_Union[_values_pb2.Money, _Mapping]] = ..., personal: _Optional[bool] = ..., basis: _Optional[_Iterable[str]] = ..., clamp: _Optional[_Union[Clamp, str]] = ...) -> None: ...

class DecidedOffer(_message.Message):
    __slots__ = ("offer", "group", "rank", "priority", "factors", "content", "token", "instance", "price", "model")
    class ContentEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    OFFER_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    FACTORS_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    offer: str
    group: str
    rank: int
    priority: float
    factors: Factors
    content: _containers.ScalarMap[str, str]
    token: str
    instance: int
    price: QuotedPrice
    model: str
    def __init__(self, offer: _Optional[str] = ..., group: _Optional[str] = ..., rank: _Optional[int] = ..., priority: _Optional[float] = ..., factors: _Optional[_Union[Factors, _Mapping]] = ..., content: _Optional[_Mapping[str, str]] = ..., token: _Optional[str] = ..., instance: _Optional[int] = ..., price: _Optional[_Union[QuotedPrice, _Mapping]] = ..., model: _Optional[str] = ...) -> None: ...

class Rejection(_message.Message):
    __slots__ = ("offer", "reason", "rule", "detail", "input", "priority", "lowest_winner", "factors")
    OFFER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    LOWEST_WINNER_FIELD_NUMBER: _ClassVar[int]
    FACTORS_FIELD_NUMBER: _ClassVar[int]
    offer: str
    reason: Reason
    rule: str
    detail: Detail
    input: str
    priority: float
    lowest_winner: float
    factors: Factors
    def __init__(self, offer: _Optional[str] = ..., reason: _Optional[_Union[Reason, str]] = ..., rule: _Optional[str] = ..., detail: _Optional[_Union[Detail, str]] = ..., input: _Optional[str] = ..., priority: _Optional[float] = ..., lowest_winner: _Optional[float] = ..., factors: _Optional[_Union[Factors, _Mapping]] = ...) -> None: ...

class ReasonCount(_message.Message):
    __slots__ = ("reason", "count")
    REASON_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    reason: Reason
    count: int
    def __init__(self, reason: _Optional[_Union[Reason, str]] = ..., count: _Optional[int] = ...) -> None: ...

class PlacementAnswer(_message.Message):
    __slots__ = ("name", "status", "offers", "fallback", "rejections", "summary")
    class FallbackEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    OFFERS_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_FIELD_NUMBER: _ClassVar[int]
    REJECTIONS_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    name: str
    status: SlotStatus
    offers: _containers.RepeatedCompositeFieldContainer[DecidedOffer]
    fallback: _containers.ScalarMap[str, str]
    rejections: _containers.RepeatedCompositeFieldContainer[Rejection]
    summary: _containers.RepeatedCompositeFieldContainer[ReasonCount]
    def __init__(self, name: _Optional[str] = ..., status: _Optional[_Union[SlotStatus, str]] = ..., offers: _Optional[_Iterable[_Union[DecidedOffer, _Mapping]]] = ..., fallback: _Optional[_Mapping[str, str]] = ..., rejections: _Optional[_Iterable[_Union[Rejection, _Mapping]]] = ..., summary: _Optional[_Iterable[_Union[ReasonCount, _Mapping]]] = ...) -> None: ...

class DecideResponse(_message.Message):
    __slots__ = ("decision", "placements", "known", "program", "digest", "models", "as_of", "seed", "took_ns")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    PLACEMENTS_FIELD_NUMBER: _ClassVar[int]
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    TOOK_NS_FIELD_NUMBER: _ClassVar[int]
    decision: str
    placements: _containers.RepeatedCompositeFieldContainer[PlacementAnswer]
    known: bool
    program: str
    digest: str
    models: _containers.RepeatedScalarFieldContainer[str]
    as_of: _timestamp_pb2.Timestamp
    seed: int
    took_ns: int
    def __init__(self, decision: _Optional[str] = ..., placements: _Optional[_Iterable[_Union[PlacementAnswer, _Mapping]]] = ..., known: _Optional[bool] = ..., program: _Optional[str] = ..., digest: _Optional[str] = ..., models: _Optional[_Iterable[str]] = ..., as_of: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., seed: _Optional[int] = ..., took_ns: _Optional[int] = ...) -> None: ...

class DecideManyRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[DecideRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[DecideRequest, _Mapping]]] = ...) -> None: ...

class DecideManyResult(_message.Message):
    __slots__ = ("response", "failure")
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    response: DecideResponse
    failure: _values_pb2.Failure
    def __init__(self, response: _Optional[_Union[DecideResponse, _Mapping]] = ..., failure: _Optional[_Union[_values_pb2.Failure, _Mapping]] = ...) -> None: ...

class DecideManyResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[DecideManyResult]
    def __init__(self, results: _Optional[_Iterable[_Union[DecideManyResult, _Mapping]]] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("token", "outcome", "at", "value", "key")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    token: str
    outcome: str
    at: _timestamp_pb2.Timestamp
    value: _values_pb2.Money
    key: str
    def __init__(self, token: _Optional[str] = ..., outcome: _Optional[str] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., value: _Optional[_Union[_values_pb2.Money, _Mapping]] = ..., key: _Optional[str] = ...) -> None: ...

class RecordRequest(_message.Message):
    __slots__ = ("outcomes",)
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[Outcome]
    def __init__(self, outcomes: _Optional[_Iterable[_Union[Outcome, _Mapping]]] = ...) -> None: ...

class OutcomeResult(_message.Message):
    __slots__ = ("status", "failure")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    status: OutcomeStatus
    failure: _values_pb2.Failure
    def __init__(self, status: _Optional[_Union[OutcomeStatus, str]] = ..., failure: _Optional[_Union[_values_pb2.Failure, _Mapping]] = ...) -> None: ...

class RecordResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[OutcomeResult]
    def __init__(self, results: _Optional[_Iterable[_Union[OutcomeResult, _Mapping]]] = ...) -> None: ...

class TellRequest(_message.Message):
    __slots__ = ("identifiers", "events", "attributes", "source", "at")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _values_pb2.Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_values_pb2.Value, _Mapping]] = ...) -> None: ...
    IDENTIFIERS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    identifiers: _containers.RepeatedCompositeFieldContainer[_values_pb2.Identifier]
    events: _containers.RepeatedCompositeFieldContainer[_values_pb2.Event]
    attributes: _containers.MessageMap[str, _values_pb2.Value]
    source: str
    at: _timestamp_pb2.Timestamp
    def __init__(self, identifiers: _Optional[_Iterable[_Union[_values_pb2.Identifier, _Mapping]]] = ..., events: _Optional[_Iterable[_Union[_values_pb2.Event, _Mapping]]] = ..., attributes: _Optional[_Mapping[str, _values_pb2.Value]] = ..., source: _Optional[str] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class TellResponse(_message.Message):
    __slots__ = ("applied", "duplicates", "created", "too_old")
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    TOO_OLD_FIELD_NUMBER: _ClassVar[int]
    applied: int
    duplicates: int
    created: bool
    too_old: int
    def __init__(self, applied: _Optional[int] = ..., duplicates: _Optional[int] = ..., created: _Optional[bool] = ..., too_old: _Optional[int] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("request", "offers")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    OFFERS_FIELD_NUMBER: _ClassVar[int]
    request: DecideRequest
    offers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, request: _Optional[_Union[DecideRequest, _Mapping]] = ..., offers: _Optional[_Iterable[str]] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("response",)
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    response: DecideResponse
    def __init__(self, response: _Optional[_Union[DecideResponse, _Mapping]] = ...) -> None: ...
