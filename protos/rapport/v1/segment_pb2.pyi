import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from protos.rapport.v1 import values_pb2 as _values_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WalkProgress(_message.Message):
    __slots__ = ("visited", "customers", "damaged")
    VISITED_FIELD_NUMBER: _ClassVar[int]
    CUSTOMERS_FIELD_NUMBER: _ClassVar[int]
    DAMAGED_FIELD_NUMBER: _ClassVar[int]
    visited: int
    customers: int
    damaged: int
    def __init__(self, visited: _Optional[int] = ..., customers: _Optional[int] = ..., damaged: _Optional[int] = ...) -> None: ...

class CountSegmentsRequest(_message.Message):
    __slots__ = ("segment",)
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    segment: str
    def __init__(self, segment: _Optional[str] = ...) -> None: ...

class SegmentCount(_message.Message):
    __slots__ = ("segment", "members", "of_requests")
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    OF_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    segment: str
    members: int
    of_requests: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, segment: _Optional[str] = ..., members: _Optional[int] = ..., of_requests: _Optional[_Iterable[str]] = ...) -> None: ...

class CountSegmentsResponse(_message.Message):
    __slots__ = ("progress", "segments", "complete")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    progress: WalkProgress
    segments: _containers.RepeatedCompositeFieldContainer[SegmentCount]
    complete: bool
    def __init__(self, progress: _Optional[_Union[WalkProgress, _Mapping]] = ..., segments: _Optional[_Iterable[_Union[SegmentCount, _Mapping]]] = ..., complete: _Optional[bool] = ...) -> None: ...

class ListSegmentRequest(_message.Message):
    __slots__ = ("segment", "limit", "namespace")
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    segment: str
    limit: int
    namespace: str
    def __init__(self, segment: _Optional[str] = ..., limit: _Optional[int] = ..., namespace: _Optional[str] = ...) -> None: ...

class SegmentMember(_message.Message):
    __slots__ = ("customer", "identifiers")
    CUSTOMER_FIELD_NUMBER: _ClassVar[int]
    IDENTIFIERS_FIELD_NUMBER: _ClassVar[int]
    customer: int
    identifiers: _containers.RepeatedCompositeFieldContainer[_values_pb2.Identifier]
    def __init__(self, customer: _Optional[int] = ..., identifiers: _Optional[_Iterable[_Union[_values_pb2.Identifier, _Mapping]]] = ...) -> None: ...

class ListSegmentResponse(_message.Message):
    __slots__ = ("progress", "members")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    progress: WalkProgress
    members: _containers.RepeatedCompositeFieldContainer[SegmentMember]
    def __init__(self, progress: _Optional[_Union[WalkProgress, _Mapping]] = ..., members: _Optional[_Iterable[_Union[SegmentMember, _Mapping]]] = ...) -> None: ...

class WatchSegmentRequest(_message.Message):
    __slots__ = ("segment", "namespace")
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    segment: str
    namespace: str
    def __init__(self, segment: _Optional[str] = ..., namespace: _Optional[str] = ...) -> None: ...

class SegmentChange(_message.Message):
    __slots__ = ("member", "entered", "at")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    ENTERED_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    member: SegmentMember
    entered: bool
    at: _timestamp_pb2.Timestamp
    def __init__(self, member: _Optional[_Union[SegmentMember, _Mapping]] = ..., entered: _Optional[bool] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class WatchSegmentResponse(_message.Message):
    __slots__ = ("members", "changes")
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    members: int
    changes: _containers.RepeatedCompositeFieldContainer[SegmentChange]
    def __init__(self, members: _Optional[int] = ..., changes: _Optional[_Iterable[_Union[SegmentChange, _Mapping]]] = ...) -> None: ...

class ListBandsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Band(_message.Message):
    __slots__ = ("band", "parts", "edges", "customers", "at", "type")
    BAND_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    EDGES_FIELD_NUMBER: _ClassVar[int]
    CUSTOMERS_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    band: str
    parts: int
    edges: _containers.RepeatedScalarFieldContainer[float]
    customers: int
    at: _timestamp_pb2.Timestamp
    type: str
    def __init__(self, band: _Optional[str] = ..., parts: _Optional[int] = ..., edges: _Optional[_Iterable[float]] = ..., customers: _Optional[int] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., type: _Optional[str] = ...) -> None: ...

class ListBandsResponse(_message.Message):
    __slots__ = ("bands",)
    BANDS_FIELD_NUMBER: _ClassVar[int]
    bands: _containers.RepeatedCompositeFieldContainer[Band]
    def __init__(self, bands: _Optional[_Iterable[_Union[Band, _Mapping]]] = ...) -> None: ...
