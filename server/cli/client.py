"""How commands talk to a running server: one channel, one deadline, and a server's errors told as they were meant."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import grpc
import typer
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from core.errors import ConfigError
from server.cli.exits import RemoteError
from server.config import LAST_PORT, Config

# Long enough for a program of 100,000 offers to be compiled, or a large model to be validated.
SLOW_SECONDS: Final = 600.0
QUICK_SECONDS: Final = 10.0
# Of addresses that gRPC reads in a way of its own (its naming document).
_SCHEMES: Final = ("unix:", "dns:", "ipv4:", "ipv6:")

# How to speak TLS with --server; None: plaintext. Set anew by each command line.
_credentials: grpc.ChannelCredentials | None = None


def speak_tls(ca: Path | None, certificate: Path | None, key: Path | None) -> None:
    """Trust servers that ``ca`` signed (PEM), and show them ``certificate`` when they ask; without ``ca``: plaintext.

    Raises ConfigError for a file that cannot be read, and for a certificate without its key, with another's, or without ``ca``.
    """
    global _credentials  # noqa: PLW0603 - one command line, one way to speak
    _credentials = None
    if ca is None and (certificate or key):
        raise ConfigError("--ca", "is not given, and a certificate is", hint="Name the authority that signed the server's.")
    if (certificate is None) != (key is None):
        missing = "--key" if certificate else "--certificate"
        raise ConfigError(missing, "is not given, and its partner is", hint="A client certificate wants its key.")
    if ca is not None:
        trusted, ours, private = _read("--ca", ca), _read("--certificate", certificate), _read("--key", key)
        # A pipe, as shells make of <(command), is read once.
        if certificate is not None and key is not None and certificate.is_file() and key.is_file():
            _pair(certificate, key)
        _credentials = grpc.ssl_channel_credentials(trusted, private, ours)


def _read(option: str, file: Path | None) -> bytes | None:
    try:
        return file.read_bytes() if file else None
    except OSError as error:
        raise ConfigError(option, f"{file} cannot be read: {error.strerror}") from error


def _pair(certificate: Path, key: Path) -> None:
    """Raises ConfigError when both do not fit. gRPC would say no more than that nobody answers."""
    try:
        # Without a passphrase: OpenSSL would ask for it at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        # OpenSSL gives no reason for what it cannot read.
        problem = (error.reason or "").lower().replace("_", " ") or "one is no PEM, or the key has a passphrase"
        raise ConfigError(
            "--certificate", f"{certificate} and {key} do not make a pair ({problem})",
            hint="Name a certificate and its own key, both PEM, the key without a passphrase.",
        ) from None


def _target(server: str) -> str:
    """What ``--server`` names, when gRPC will understand it as its writer did; a usage error when not.

    Without a port gRPC would try 443, of a port beyond 65535 what is left over, and neither is said by its errors.
    """
    if server.startswith(_SCHEMES):
        return server
    host, colon, port = server.rpartition(":")
    problem = ""
    if "://" in server:
        problem = "is a URL, and an address is wanted"
    elif not colon:
        problem = "has no host" if server.isdecimal() else "has no port"
    elif not host:
        problem = "has no host"
    elif ":" in host and not (host.startswith("[") and host.endswith("]")):
        problem = "has more than one colon; an IPv6 address stands in brackets"
    elif not (port.isascii() and port.isdecimal() and 1 <= int(port) <= LAST_PORT):
        problem = f"has no port from 1 to {LAST_PORT} behind its colon"
    if problem:
        raise typer.BadParameter(
            f"'{server}' {problem}. Write HOST:PORT, [v6]:PORT or unix:/path, such as 127.0.0.1:7400.", param_hint="--server"
        )
    return server


def address(server: str | None, *, control: bool, settings: Config | None = None) -> str:
    """The address to call: as given, else as ``settings`` say, or the configuration in the working directory."""
    if server:
        return _target(server)
    if _credentials is not None:
        raise ConfigError(
            "--ca", "goes with --server", hint="Without it commands use this machine's listen.control, which speaks no TLS."
        )
    config = settings or Config.load()
    # Where decisions are asked for over TLS, the other address serves them too, to this machine.
    control = control or bool(config.tls_certificate)
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
    with _channel(target, options) as channel:
        try:
            yield channel
        except grpc.RpcError as error:
            raise told(error, target) from error


def _channel(target: str, options: list[tuple[str, int]]) -> grpc.Channel:
    if _credentials is not None:
        return grpc.secure_channel(target, _credentials, options=options)
    return grpc.insecure_channel(target, options=options)


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
                "Start one: rapport serve. One that speaks TLS wants rapport --ca FILE, or is asked at its listen.control.",
                {"target": target},
            )
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return _not_served(target, text)
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
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return _not_served(target, status.message.rstrip("."), hint)
    return RemoteError(code, reason, status.message, hint, metadata, tuple(violations))


def _not_served(target: str, text: str, hint: str = "") -> RemoteError:
    """What answers at an address that does not have a call: mostly it is that of decisions."""
    host, _, port = target.rpartition(":")
    next_one = f", here --server {host}:{int(port) + 1}" if port.isdecimal() and int(port) < LAST_PORT else ""
    return RemoteError(
        grpc.StatusCode.UNIMPLEMENTED, "NOT_SERVED", f"What listens at {target} does not serve this call ({text}).",
        f"All but decisions is at listen.control, by default the port after that of decisions{next_one}. {hint}".rstrip(),
        {"target": target},
    )
