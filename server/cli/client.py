"""How commands talk to a running server: one channel, one deadline, and a server's errors told as they were meant."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from core.errors import ConfigError
from server.cli.exits import RemoteError
from server.config import Config

# Long enough for a program of 100,000 offers to be compiled, or a large model to be validated.
SLOW_SECONDS: Final = 600.0
QUICK_SECONDS: Final = 10.0


def address(server: str | None, *, control: bool) -> str:
    """The address to call: as given, else as the configuration in the working directory says."""
    if server:
        return server
    config = Config.load()
    key = "listen.control" if control and not config.shared else "listen.decisions"
    listen = config.control_address if key == "listen.control" else config.listen_decisions
    host, _, port = listen.rpartition(":")
    if port == "0":
        raise ConfigError(
            key, "has port 0, so the server's port is not known here", hint="Name it: --server HOST:PORT."
        )
    if host in ("0.0.0.0", "[::]"):
        return f"localhost:{port}"
    return listen


@contextlib.contextmanager
def connected(target: str) -> Iterator[grpc.Channel]:
    """A channel to ``target``; errors of calls inside become `RemoteError`."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(target, options=options) as channel:
        try:
            yield channel
        except grpc.RpcError as error:
            raise told(error, target) from error


def told(error: grpc.RpcError, target: str) -> RemoteError:
    """The error that a server, or the way to it, answered with."""
    assert isinstance(error, grpc.Call)
    code = error.code()
    status = rpc_status.from_call(error)
    if status is None:
        # No details: it comes from grpc itself, not from Rapport.
        text = (error.details() or "").rstrip(".")
        if code is grpc.StatusCode.UNAVAILABLE:
            return RemoteError(
                code,
                "NO_SERVER",
                f"No server answers at {target} ({text}).",
                "Start one: rapport serve.",
                {"target": target},
            )
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return RemoteError(
                code,
                "NOT_SERVED",
                f"What listens at {target} does not serve this call ({text}).",
                "Programs, models and profiles may have an address of their own: see listen.control.",
                {"target": target},
            )
        return RemoteError(code, code.name, f"{code.name} from {target}: {text}.", "", {"target": target})
    reason, hint = code.name, ""
    metadata: dict[str, str] = {}
    violations: list[tuple[str, str]] = []
    for detail in status.details:
        info, localized, bad = (
            error_details_pb2.ErrorInfo(),
            error_details_pb2.LocalizedMessage(),
            error_details_pb2.BadRequest(),
        )
        if detail.Unpack(info):
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(localized):
            hint = localized.message
        elif detail.Unpack(bad):
            violations.extend((each.field, each.description) for each in bad.field_violations)
    return RemoteError(code, reason, status.message, hint, metadata, tuple(violations))
