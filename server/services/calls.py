"""How a call is wired: bytes in, message, service, message, bytes out, and every error through one door.

A `Method` is what a service offers, whichever transport serves it. It takes raw bytes, so that a message which cannot be
parsed is INVALID_ARGUMENT with a reason like any other error, where grpcio's own parser would log a traceback and
answer INTERNAL; and so that the size limit of one service holds where several share an address.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import Final, Protocol, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from core.errors import BadValue, NotServed, PastLimit
from server import status

# What to do about a method that is not served, at either address.
UNKNOWN_METHOD: Final = "Compare its name with the protos; other services have an address of their own."

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


class Context(Protocol):
    """What a call knows of itself beside its bytes: grpcio's context, or a call of the data plane."""

    def time_remaining(self) -> float | None:
        """Seconds until the call's deadline; None without one."""
        ...


def waited_us(context: Context) -> int:
    """Microseconds since the call's last byte was read, where the transport knows it; a time budget counts from there."""
    waited = getattr(context, "waited_us", None)
    return int(waited()) if waited is not None else 0


# From a request's bytes to the answer's. A future is for what waits for the store: whoever serves the call need not wait with
# it. Errors are raised as they are, or set as the future's exception.
Method = Callable[[bytes, Context], "bytes | Future[bytes]"]


def unary(request: type[Request], answer: Callable[[Request, Context], Response], limit_bytes: int) -> Method:
    """A method that takes a message and returns one."""

    def call(data: bytes, context: Context) -> bytes:
        return answer(parse(request, data), context).SerializeToString()

    return raw(request.DESCRIPTOR.name, call, limit_bytes)


# From a request's bytes to the answers', one after the other. It is called, and gone on with, on a thread of the transport.
Stream = Callable[[bytes, Context], Iterator[bytes]]


def streamed(
    request: type[Request], answer: Callable[[Request, Context], Iterator[Response]], limit_bytes: int
) -> Stream:
    """A method that takes a message and returns any number, for as long as the caller listens."""

    def call(data: bytes, context: Context) -> Iterator[bytes]:
        if len(data) > limit_bytes:
            raise PastLimit(f"The {request.DESCRIPTOR.name}", limit_bytes)
        for each in answer(parse(request, data), context):
            yield each.SerializeToString()

    return call


def active(context: Context) -> bool:
    """Whether the caller still listens."""
    return bool(getattr(context, "is_active", lambda: True)())


def raw(name: str, answer: Method, limit_bytes: int) -> Method:
    """A method that reads and writes the messages' bytes itself; ``name`` is the request's, for messages."""

    def call(data: bytes, context: Context) -> bytes | Future[bytes]:
        if len(data) > limit_bytes:
            raise PastLimit(f"The {name}", limit_bytes)
        return answer(data, context)

    return call


def handlers(
    service: str, methods: Mapping[str, Method], streams: Mapping[str, Stream] | None = None
) -> grpc.GenericRpcHandler:
    """A service's methods as grpcio registers them."""
    registered: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {name: handler(each) for name, each in methods.items()}
    registered |= {name: _stream_handler(each) for name, each in (streams or {}).items()}
    return grpc.method_handlers_generic_handler(service, registered)


def _stream_handler(stream: Stream) -> grpc.RpcMethodHandler[bytes, bytes]:
    def call(data: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        try:
            yield from stream(data, context)
        except Exception as error:  # as below
            status.abort(context, error)

    return grpc.unary_stream_rpc_method_handler(call, None, None)


def handler(method: Method) -> grpc.RpcMethodHandler[bytes, bytes]:
    """A method as grpcio registers it."""

    def call(data: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            answer = method(data, context)
            return answer if isinstance(answer, bytes) else answer.result()
        except Exception as error:  # the one door: whatever it is becomes a status
            status.abort(context, error)

    return grpc.unary_unary_rpc_method_handler(call, None, None)


class Nowhere(grpc.GenericRpcHandler):
    """Stands behind all services of an address and refuses what none of them has, as the data plane does: grpcio's own refusal
    carries no details."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        """grpcio asks this where no service knew the method."""
        path: object = handler_call_details.method

        def call(data: bytes, context: grpc.ServicerContext) -> bytes:
            status.abort(context, NotServed(f"The method {path}", UNKNOWN_METHOD))

        return grpc.unary_unary_rpc_method_handler(call, None, None)


def parse(request: type[Request], data: bytes) -> Request:
    """The message in ``data``; BadValue when it is none."""
    try:
        return request.FromString(data)
    except DecodeError as error:
        raise BadValue(
            "request",
            f"the bytes are no {request.DESCRIPTOR.name} message",
            "Generate the client from the protos of this version.",
        ) from error


def remaining_us(context: Context) -> int | None:
    """What the call's deadline leaves, in microseconds, at least 0; None without a deadline."""
    seconds = context.time_remaining()
    # Without a deadline grpcio answers with None or with the time to the end of its clock.
    if seconds is None or seconds > 1e8:
        return None
    return int(seconds * 1e6)


def now_us() -> int:
    """The server's clock: microseconds since 1970."""
    return time.time_ns() // 1000
