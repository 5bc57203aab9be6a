import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from protos.rapport.v1 import decision_pb2 as _decision_pb2
from protos.rapport.v1 import values_pb2 as _values_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class IngestAttributes(_message.Message):
    __slots__ = ("attributes", "clear", "source", "at")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _values_pb2.Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_values_pb2.Value, _Mapping]] = ...) -> None: ...
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    CLEAR_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    attributes: _containers.MessageMap[str, _values_pb2.Value]
    clear: _containers.RepeatedScalarFieldContainer[str]
    source: str
    at: _timestamp_pb2.Timestamp
    def __init__(self, attributes: _Optional[_Mapping[str, _values_pb2.Value]] = ..., clear: _Optional[_Iterable[str]] = ..., source: _Optional[str] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class IngestConsent(_message.Message):
    __slots__ = ("purpose", "channel", "granted", "source", "at")
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    purpose: str
    channel: str
    granted: bool
    source: str
    at: _timestamp_pb2.Timestamp
    def __init__(self, purpose: _Optional[str] = ..., channel: _Optional[str] = ..., granted: _Optional[bool] = ..., source: _Optional[str] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class IngestItem(_message.Message):
    __slots__ = ("seq", "identifiers", "event", "attributes", "outcome", "consent")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    IDENTIFIERS_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    CONSENT_FIELD_NUMBER: _ClassVar[int]
    seq: int
    identifiers: _containers.RepeatedCompositeFieldContainer[_values_pb2.Identifier]
    event: _values_pb2.Event
    attributes: IngestAttributes
    outcome: _decision_pb2.Outcome
    consent: IngestConsent
    def __init__(self, seq: _Optional[int] = ..., identifiers: _Optional[_Iterable[_Union[_values_pb2.Identifier, _Mapping]]] = ..., event: _Optional[_Union[_values_pb2.Event, _Mapping]] = ..., attributes: _Optional[_Union[IngestAttributes, _Mapping]] = ..., outcome: _Optional[_Union[_decision_pb2.Outcome, _Mapping]] = ..., consent: _Optional[_Union[IngestConsent, _Mapping]] = ...) -> None: ...

class IngestRequest(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[IngestItem]
    def __init__(self, items: _Optional[_Iterable[_Union[IngestItem, _Mapping]]] = ...) -> None: ...

class IngestFailure(_message.Message):
    __slots__ = ("seq", "failure")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    seq: int
    failure: _values_pb2.Failure
    def __init__(self, seq: _Optional[int] = ..., failure: _Optional[_Union[_values_pb2.Failure, _Mapping]] = ...) -> None: ...

class IngestResponse(_message.Message):
    __slots__ = ("acked", "failures")
    ACKED_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    acked: int
    failures: _containers.RepeatedCompositeFieldContainer[IngestFailure]
    def __init__(self, acked: _Optional[int] = ..., failures: _Optional[_Iterable[_Union[IngestFailure, _Mapping]]] = ...) -> None: ...

class DescribeStoreRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeStoreResponse(_message.Message):
    __slots__ = ("path", "catalog", "customers")
    class CatalogEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    PATH_FIELD_NUMBER: _ClassVar[int]
    CATALOG_FIELD_NUMBER: _ClassVar[int]
    CUSTOMERS_FIELD_NUMBER: _ClassVar[int]
    path: str
    catalog: _containers.ScalarMap[str, bytes]
    customers: int
    def __init__(self, path: _Optional[str] = ..., catalog: _Optional[_Mapping[str, bytes]] = ..., customers: _Optional[int] = ...) -> None: ...

class ImportRequest(_message.Message):
    __slots__ = ("change",)
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    change: bytes
    def __init__(self, change: _Optional[bytes] = ...) -> None: ...

class ImportRefusal(_message.Message):
    __slots__ = ("row", "cause")
    ROW_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    row: int
    cause: int
    def __init__(self, row: _Optional[int] = ..., cause: _Optional[int] = ...) -> None: ...

class ImportResponse(_message.Message):
    __slots__ = ("created", "changed", "unchanged", "contested", "refused")
    CREATED_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    CONTESTED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    created: int
    changed: int
    unchanged: int
    contested: _containers.RepeatedScalarFieldContainer[int]
    refused: _containers.RepeatedCompositeFieldContainer[ImportRefusal]
    def __init__(self, created: _Optional[int] = ..., changed: _Optional[int] = ..., unchanged: _Optional[int] = ..., contested: _Optional[_Iterable[int]] = ..., refused: _Optional[_Iterable[_Union[ImportRefusal, _Mapping]]] = ...) -> None: ...
