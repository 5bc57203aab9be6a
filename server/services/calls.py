"""How a unary call is wired: bytes in, message, service, message, bytes out, and every error through one door.

Handlers take raw bytes from grpcio instead of giving it the parser: a message that cannot be parsed is then INVALID_ARGUMENT
with a reason like any other error, where grpcio would log a traceback and answer INTERNAL; and the size limit of one
service holds where several share an address.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from core.errors import BadValue, TooLarge
from server import status

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


def unary(
    request: type[Request], answer: Callable[[Request, grpc.ServicerContext], Response], limit_bytes: int
) -> grpc.RpcMethodHandler[bytes, bytes]:
    """A handler for one call. ``answer`` raises errors as they are; they become the call's status here."""

    def call(data: bytes, context: grpc.ServicerContext) -> bytes:
        return answer(parse(request, data), context).SerializeToString()

    return raw(request.DESCRIPTOR.name, call, limit_bytes)


def raw(
    name: str, answer: Callable[[bytes, grpc.ServicerContext], bytes], limit_bytes: int
) -> grpc.RpcMethodHandler[bytes, bytes]:
    """A handler that reads and writes the messages' bytes itself; ``name`` is the request's, for messages."""

    def call(data: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            if len(data) > limit_bytes:
                raise TooLarge(f"{name} in bytes", len(data), limit_bytes)
            return answer(data, context)
        except Exception as error:  # the one door: whatever it is becomes a status
            status.abort(context, error)

    return grpc.unary_unary_rpc_method_handler(call, None, None)


def parse(request: type[Request], data: bytes) -> Request:
    """The message in ``data``; BadValue when it is none."""
    try:
        return request.FromString(data)
    except DecodeError as error:
        raise BadValue(
            "request",
            f"the bytes are not a {request.DESCRIPTOR.name} message",
            "Generate the client from the protos of this version.",
        ) from error


def remaining_us(context: grpc.ServicerContext) -> int | None:
    """What the call's deadline leaves, in microseconds, at least 0; None without a deadline."""
    seconds = context.time_remaining()
    # Without a deadline grpcio answers with None or with the time to the end of its clock.
    if seconds is None or seconds > 1e8:
        return None
    return int(seconds * 1e6)


def now_us() -> int:
    """The server's clock: microseconds since 1970."""
    return time.time_ns() // 1000
