"""One address and what is served there: a grpcio server with its limits, and clear words when the address cannot be had.

The port is bound without SO_REUSEPORT: a second server on the same port must fail, not silently take half of the calls.
Calls beyond the limit are refused by grpcio before a handler runs. Compression and channelz are off: decisions are small, and
both cost every call.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import stat
import threading
from collections.abc import Sequence
from concurrent import futures
from pathlib import Path

import grpc

from core.errors import ConfigError


class AddressUnavailable(ConfigError):
    """An address that is well written and cannot be listened on: in use, not this machine's, or not permitted."""

    reason = "ADDRESS_UNAVAILABLE"


class Listener:
    """A bound address that answers once started. Owns its handler threads."""

    def __init__(
        self,
        key: str,
        address: str,
        threads: int,
        calls: int,
        message_bytes: int,
        handlers: Sequence[grpc.GenericRpcHandler],
    ) -> None:
        """Bind ``address``, the value of setting ``key``. Raises ConfigError or AddressUnavailable."""
        check(key, address)
        self.key = key
        self._pool = futures.ThreadPoolExecutor(threads, thread_name_prefix=key)
        self.server = grpc.server(
            self._pool,
            handlers=list(handlers),
            options=[
                ("grpc.so_reuseport", 0),
                # A little above the limit, so that what is just too large is told with a reason by the service itself.
                ("grpc.max_receive_message_length", message_bytes + 4096),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_concurrent_streams", 1024),
                ("grpc.per_message_compression", 0),
                ("grpc.enable_channelz", 0),
                ("grpc.server_handshake_timeout_ms", 10_000),
            ],
            maximum_concurrent_rpcs=calls,
        )
        if address.startswith("unix:"):
            clear_stale(key, address.removeprefix("unix:"))
        try:
            port = self.server.add_insecure_port(address)
        except RuntimeError as error:
            self._pool.shutdown(wait=False)
            raise unavailable(key, address) from error
        host = address.rpartition(":")[0]
        self.address = address if address.startswith("unix:") else f"{host}:{port}"

    def start(self) -> None:
        """Begin to answer."""
        self.server.start()

    def stop(self, seconds: float) -> futures.Future[bool]:
        """Take no new calls, let running ones finish for ``seconds``, then cancel them. The future is True when all is done."""
        done: futures.Future[bool] = futures.Future()
        event = self.server.stop(seconds)

        def finish() -> None:
            event.wait()
            self._pool.shutdown(wait=True)
            done.set_result(True)

        threading.Thread(target=finish, name=f"stop {self.key}", daemon=True).start()
        return done


_HOST_PORT = re.compile(r"^(\[[0-9A-Fa-f:.%\w]+\]|[^\[\]:/\s]+):(\d{1,5})$")


def check(key: str, address: str) -> None:
    """Raise ConfigError unless ``address`` is host:port, [v6]:port or unix:/path."""
    if address.startswith("unix:/") and len(address.removeprefix("unix:")) <= 107:
        return
    match = _HOST_PORT.match(address)
    if match is None or int(match[2]) > 65_535:
        raise ConfigError(
            key,
            f"'{address}' is not an address",
            hint="Write host:port, [v6]:port (port 0 to 65535) or unix:/path (107 bytes).",
        )


def clear_stale(key: str, path: str) -> None:
    """Remove the socket file that a killed server left; one that answers is in use."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise AddressUnavailable(key, f"{path} exists and is not a socket", hint=_what_to_do(key))
    except FileNotFoundError:
        return
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink(missing_ok=True)
            return
        except OSError as error:
            raise AddressUnavailable(key, f"cannot use {path}: {error.strerror}", hint=_what_to_do(key)) from error
    raise AddressUnavailable(
        key, f"cannot listen on unix:{path}: another server listens there", hint=_what_to_do(key)
    )


def unavailable(key: str, address: str) -> AddressUnavailable:
    """Why ``address``, the value of setting ``key``, could not be bound, and what helps, in words."""
    cause, code = _why(address)
    setting = f"{key} (environment: RAPPORT_{key.upper().replace('.', '_')})"
    unix = address.startswith("unix:")
    if code == errno.EADDRNOTAVAIL:
        hint = f"Set {setting} to an address that this machine has, such as 127.0.0.1, or 0.0.0.0 for all of them."
    elif code in (errno.EACCES, errno.EPERM) and not unix:
        hint = f"Ports below 1024 want a privilege. Set {setting} to a higher one."
    elif code == _UNRESOLVED:
        hint = f"Correct the name in {setting}, or write the address in digits."
    elif unix and code in (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS):
        hint = f"Set {setting} to a path in a folder that is there and that this user may write to."
    else:
        hint = _what_to_do(key)
    return AddressUnavailable(key, f"cannot listen on {address}: {cause}", hint=hint)


# Stands beside errno's numbers: the host's name leads to no address.
_UNRESOLVED = -1


def _why(address: str) -> tuple[str, int]:
    """The cause and its errno. grpcio says only that binding failed: bind once more by hand to learn it."""
    try:
        if address.startswith("unix:"):
            with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
                probe.bind(address.removeprefix("unix:"))
            return "the socket could not be bound", 0
        host, _, port = address.rpartition(":")
        for family, kind, protocol, _, place in socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            with contextlib.closing(socket.socket(family, kind, protocol)) as probe:
                probe.bind(place)
                probe.listen()
    except socket.gaierror as error:
        return f"the host's name does not resolve ({error.strerror})", _UNRESOLVED
    except OSError as error:
        code = error.errno or 0
        if code == errno.EADDRINUSE:
            return "another process listens there", code
        if code == errno.EADDRNOTAVAIL:
            return "this machine has no such address", code
        return error.strerror or str(error), code
    return "the address could not be bound", 0


def _what_to_do(key: str) -> str:
    return f"Stop the other process, or set {key} (environment: RAPPORT_{key.upper().replace('.', '_')}) to a free address."
