"""The one table from Rapport's errors to gRPC status codes, and what travels beside the code.

Every failed call carries a google.rpc.Status with ErrorInfo (reason, domain, every variable of the text), a
LocalizedMessage where there is a hint, RetryInfo when waiting helps, and BadRequest for what is wrong in the input. All of it
travels in HTTP/2 trailers, which peers cap at 8 KiB, so long lists are cut here and say how much was cut; the calls that
exist to show everything (ValidateProgram) answer with messages instead.

What is not a `RapportError`, or is an `EngineFault`, is a mistake of ours: it is logged whole under an id, and only the
id leaves the process, for a stack trace can hold a customer's data.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Final, NoReturn

import grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from core import errors
from protos.rapport.v1 import values_pb2
from server import logs

DOMAIN: Final = "rapport"

CODES: Final[dict[type[errors.RapportError], grpc.StatusCode]] = {
    errors.RapportError: grpc.StatusCode.INTERNAL,
    # The caller's: the same call fails again, so a client must not retry.
    errors.RequestError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnknownName: grpc.StatusCode.INVALID_ARGUMENT,
    errors.BadValue: grpc.StatusCode.INVALID_ARGUMENT,
    errors.TooLarge: grpc.StatusCode.INVALID_ARGUMENT,
    errors.IdentityConflict: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NotUndoable: grpc.StatusCode.FAILED_PRECONDITION,
    errors.SourceNotAllowed: grpc.StatusCode.INVALID_ARGUMENT,
    # The request is fine, the customer is full: somebody has to look at him first.
    errors.CustomerFull: grpc.StatusCode.FAILED_PRECONDITION,
    errors.HistoryFull: grpc.StatusCode.INVALID_ARGUMENT,
    errors.BadToken: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    # As every gRPC library tells what its own limits refuse.
    errors.PastLimit: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.NotServed: grpc.StatusCode.UNIMPLEMENTED,
    errors.DeadlineTooShort: grpc.StatusCode.DEADLINE_EXCEEDED,
    # The program owner's and the model owner's.
    errors.ProgramError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.EventsLost: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NoProgram: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ModelError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ImportRefused: grpc.StatusCode.INVALID_ARGUMENT,
    errors.MappingError: grpc.StatusCode.INVALID_ARGUMENT,
    # The operator's: FAILED_PRECONDITION where a person must act first, RESOURCE_EXHAUSTED and UNAVAILABLE where it may pass.
    errors.StoreError: grpc.StatusCode.INTERNAL,
    errors.StoreUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.StoreFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.StoreReadOnly: grpc.StatusCode.FAILED_PRECONDITION,
    errors.StoreCorrupt: grpc.StatusCode.DATA_LOSS,
    errors.BackupRefused: grpc.StatusCode.FAILED_PRECONDITION,
    errors.RestoreRefused: grpc.StatusCode.FAILED_PRECONDITION,
    errors.SchemaConflict: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ConfigError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Draining: grpc.StatusCode.UNAVAILABLE,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    # Ours.
    errors.EngineFault: grpc.StatusCode.INTERNAL,
}

# Of the 8 KiB that a peer takes as trailers: the text goes twice (grpc-message, percent-encoded, and inside the details).
MESSAGE_BYTES: Final = 600
VIOLATIONS_BYTES: Final = 2500
METADATA_BYTES: Final = 1000
# How often the log repeats what is wrong with the store.
NOTE_SECONDS: Final = 60.0
_noted: dict[str, float] = {}
_told_of_damage: list[Callable[[errors.StoreCorrupt], None]] = []


def code(error: errors.RapportError) -> grpc.StatusCode:
    """The status code of an error: that of its class, or of the nearest base in the table."""
    for base in type(error).__mro__:
        if base in CODES:
            return CODES[base]
    return grpc.StatusCode.INTERNAL


def number(status: grpc.StatusCode) -> int:
    """A status code as the integer of the wire."""
    value: int = status.value[0]
    return value


def describe(error: BaseException) -> status_pb2.Status:
    """The google.rpc.Status of any exception; logs it, whole, when it is a mistake of ours."""
    if not isinstance(error, errors.RapportError) or isinstance(error, errors.EngineFault):
        return _fault(error)
    _note(error)
    status = status_pb2.Status(code=number(code(error)), message=_short(error.message, MESSAGE_BYTES))
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    room = METADATA_BYTES
    for key, value in error.metadata.items():
        text = _short(value, max(room, 16))
        info.metadata[key] = text
        room -= len(text)
    status.details.add().Pack(info)
    if error.hint:
        status.details.add().Pack(
            error_details_pb2.LocalizedMessage(locale="en", message=_short(error.hint, MESSAGE_BYTES))
        )
    if isinstance(error, errors.Overloaded):
        wait = duration_pb2.Duration()
        wait.FromMilliseconds(error.retry_after_ms)
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=wait))
    violations = _violations(error)
    if violations is not None:
        status.details.add().Pack(violations)
    return status


def failure(error: BaseException) -> values_pb2.Failure:
    """The same for one item of a batch, where nothing has to fit a trailer."""
    if not isinstance(error, errors.RapportError) or isinstance(error, errors.EngineFault):
        status = _fault(error)
        info = error_details_pb2.ErrorInfo()
        status.details[0].Unpack(info)
        return values_pb2.Failure(
            status=status.code, reason=info.reason, message=status.message, metadata=dict(info.metadata)
        )
    _note(error)
    return values_pb2.Failure(
        status=number(code(error)),
        reason=error.reason,
        message=error.message,
        hint=error.hint,
        metadata=error.metadata,
    )


def abort(context: grpc.ServicerContext, error: BaseException) -> NoReturn:
    """End the call with an error. Raises, as grpc's own abort does; the caller's frame must let it pass."""
    context.abort_with_status(rpc_status.to_status(describe(error)))
    raise AssertionError("abort_with_status returns never")


def follow_damage(told: Callable[[errors.StoreCorrupt], None]) -> Callable[[], None]:
    """``told`` is called with each call's error that the store is damaged, on any thread; what is given back ends that."""
    _told_of_damage.append(told)
    return lambda: _told_of_damage.remove(told)


def _note(error: errors.RapportError) -> None:
    """Log that the store is full, damaged or takes no writes: callers are told, but the operator has to act.

    Every refused call says the same, so each reason is logged once in NOTE_SECONDS.
    """
    if not isinstance(error, errors.StoreError) or isinstance(error, errors.SchemaConflict):
        return
    if isinstance(error, errors.StoreCorrupt):
        for told in _told_of_damage:
            told(error)
    now = time.monotonic()
    if now - _noted.get(error.reason, -NOTE_SECONDS) < NOTE_SECONDS:
        return
    _noted[error.reason] = now
    logs.get("status").error("store", reason=error.reason, problem=error.message, hint=error.hint)


def _fault(error: BaseException) -> status_pb2.Status:
    fault = uuid.uuid4().hex
    logs.get("status").error("fault", fault=fault, exc_info=error)
    reason = error.reason if isinstance(error, errors.RapportError) else errors.RapportError.reason
    status = status_pb2.Status(
        code=number(grpc.StatusCode.INTERNAL),
        message=f"Something failed inside the server; its log has the cause under {fault}.",
    )
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata={"fault": fault}))
    return status


def _violations(error: errors.RapportError) -> error_details_pb2.BadRequest | None:
    """What is wrong in the input, place by place; None when the error is not about the input's parts."""
    if isinstance(error, errors.ProgramError | errors.MappingError):
        found = error_details_pb2.BadRequest()
        room = VIOLATIONS_BYTES
        for position, problem in enumerate(error.problems):
            text = f"{problem.message} {problem.hint}".rstrip()
            room -= len(text.encode()) + len(str(problem.where)) + 8
            if room < 0 and position > 0:
                rest = len(error.problems) - position
                found.field_violations.add(
                    field="",
                    description=f"and {rest} more: ask ValidateProgram, or rapport program validate, for all.",
                )
                break
            found.field_violations.add(field=str(problem.where), description=_short(text, VIOLATIONS_BYTES))
        return found
    if isinstance(error, errors.BadValue):
        field, wrong = error.metadata["field"], error.metadata["problem"]
    elif isinstance(error, errors.UnknownName | errors.TooLarge) and error.field:
        field, wrong = error.field, error.message
    elif isinstance(error, errors.SchemaConflict) and "where" in error.metadata:
        field, wrong = error.metadata["where"], error.message
    else:
        return None
    violation = error_details_pb2.BadRequest.FieldViolation(
        field=_short(field, METADATA_BYTES), description=_short(wrong, METADATA_BYTES)
    )
    return error_details_pb2.BadRequest(field_violations=[violation])


def _short(text: str, limit: int) -> str:
    """The text, cut to ``limit`` bytes of UTF-8 at a character's edge and marked where it was."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= limit:
        return text
    return raw[: limit - 3].decode("utf-8", "ignore") + "..."
