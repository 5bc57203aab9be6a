import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ProgramProblem(_message.Message):
    __slots__ = ("file", "line", "column", "message", "hint")
    FILE_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    HINT_FIELD_NUMBER: _ClassVar[int]
    file: str
    line: int
    column: int
    message: str
    hint: str
    def __init__(self, file: _Optional[str] = ..., line: _Optional[int] = ..., column: _Optional[int] = ..., message: _Optional[str] = ..., hint: _Optional[str] = ...) -> None: ...

class ProgramVersion(_message.Message):
    __slots__ = ("version", "digest", "loaded", "active")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    LOADED_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    version: str
    digest: str
    loaded: _timestamp_pb2.Timestamp
    active: bool
    def __init__(self, version: _Optional[str] = ..., digest: _Optional[str] = ..., loaded: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., active: _Optional[bool] = ...) -> None: ...

class EventLoss(_message.Message):
    __slots__ = ("event", "kept", "before", "events", "more")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    event: str
    kept: _duration_pb2.Duration
    before: _duration_pb2.Duration
    events: int
    more: bool
    def __init__(self, event: _Optional[str] = ..., kept: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., before: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., events: _Optional[int] = ..., more: _Optional[bool] = ...) -> None: ...

class ValidateProgramRequest(_message.Message):
    __slots__ = ("files",)
    class FilesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    FILES_FIELD_NUMBER: _ClassVar[int]
    files: _containers.ScalarMap[str, bytes]
    def __init__(self, files: _Optional[_Mapping[str, bytes]] = ...) -> None: ...

class ValidateProgramResponse(_message.Message):
    __slots__ = ("problems", "digest", "offers", "losses")
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    OFFERS_FIELD_NUMBER: _ClassVar[int]
    LOSSES_FIELD_NUMBER: _ClassVar[int]
    problems: _containers.RepeatedCompositeFieldContainer[ProgramProblem]
    digest: str
    offers: int
    losses: _containers.RepeatedCompositeFieldContainer[EventLoss]
    def __init__(self, problems: _Optional[_Iterable[_Union[ProgramProblem, _Mapping]]] = ..., digest: _Optional[str] = ..., offers: _Optional[int] = ..., losses: _Optional[_Iterable[_Union[EventLoss, _Mapping]]] = ...) -> None: ...

class LoadProgramRequest(_message.Message):
    __slots__ = ("files", "accept_loss")
    class FilesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    FILES_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_LOSS_FIELD_NUMBER: _ClassVar[int]
    files: _containers.ScalarMap[str, bytes]
    accept_loss: bool
    def __init__(self, files: _Optional[_Mapping[str, bytes]] = ..., accept_loss: _Optional[bool] = ...) -> None: ...

class LoadProgramResponse(_message.Message):
    __slots__ = ("program",)
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    program: ProgramVersion
    def __init__(self, program: _Optional[_Union[ProgramVersion, _Mapping]] = ...) -> None: ...

class ListProgramsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListProgramsResponse(_message.Message):
    __slots__ = ("programs",)
    PROGRAMS_FIELD_NUMBER: _ClassVar[int]
    programs: _containers.RepeatedCompositeFieldContainer[ProgramVersion]
    def __init__(self, programs: _Optional[_Iterable[_Union[ProgramVersion, _Mapping]]] = ...) -> None: ...

class GetProgramRequest(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: str
    def __init__(self, version: _Optional[str] = ...) -> None: ...

class GetProgramResponse(_message.Message):
    __slots__ = ("program", "files")
    class FilesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    program: ProgramVersion
    files: _containers.ScalarMap[str, bytes]
    def __init__(self, program: _Optional[_Union[ProgramVersion, _Mapping]] = ..., files: _Optional[_Mapping[str, bytes]] = ...) -> None: ...

class RollbackProgramRequest(_message.Message):
    __slots__ = ("version", "accept_loss")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_LOSS_FIELD_NUMBER: _ClassVar[int]
    version: str
    accept_loss: bool
    def __init__(self, version: _Optional[str] = ..., accept_loss: _Optional[bool] = ...) -> None: ...

class RollbackProgramResponse(_message.Message):
    __slots__ = ("program",)
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    program: ProgramVersion
    def __init__(self, program: _Optional[_Union[ProgramVersion, _Mapping]] = ...) -> None: ...
