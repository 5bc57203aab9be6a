"""DecisionService's own address: the data plane over it, and Python behind it for what it hands over.

One listening socket a loop, all on one port by SO_REUSEPORT, so that the kernel spreads connections. A port that another
process serves must fail, not silently share its calls, so it is bound once without that option first.

TLS certificates are looked at every few seconds and replaced for new connections when their files changed; files that
cannot be used are logged, and the ones before serve on. What the loops refused is logged once a minute, in counts, for nothing
is logged for a call.
"""

from __future__ import annotations

import os
import resource
import socket
import threading
import time
from collections.abc import Mapping
from concurrent import futures
from pathlib import Path
from typing import Final

from grpc_health.v1 import health_pb2

from core import limits
from core.engine import Engine
from core.errors import ConfigError, RapportError
from core.kernel.plan import Plan
from server import listener, logs
from server.config import Config
from server.services import decisions
from server.services.calls import Method
from server.transport import plane, refusals
from server.transport.handoff import Handoff
from server.transport.plane import DataPlane
from server.transport.tls import Context

_HEALTH: Final = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
# Connections that wait for a loop to accept them; the kernel cuts it to net.core.somaxconn.
_BACKLOG: Final = 4096
# Descriptors beside the connections: the store, models, logs, grpcio's own.
_OTHER_DESCRIPTORS: Final = 512
CERTIFICATE_SECONDS: Final = 5.0
# Between two lines that tell what was refused: often enough to find the cause by, and 1,440 lines on the worst day.
REFUSALS_SECONDS: Final = 60.0
# Counters that are told when they grew. The first are trouble of this server's own or an attack; the others are clients' faults.
_TROUBLES: Final = (
    "refused_overload", "refused_memory", "refused_fault", "connections_refused", "accepts_failed", "connections_abused",
)
_FAULTS: Final = (
    "refused_expired", "refused_method", "refused_metadata", "refused_message", "refused_framing", "refused_compressed",
    "refused_flag", "refused_timeout", "refused_service", "handshakes_failed", "overdue",
)
# What Python has at least to settle calls in when the time to drain is over: a commit takes milliseconds.
SETTLE_SECONDS: Final = 1.0


class Front:
    """A bound address that answers once started."""

    key = "listen.decisions"

    def __init__(
        self, config: Config, methods: Mapping[str, Method], engine: Engine, *, plane_limits: Mapping[str, int] | None = None
    ) -> None:
        """Bind listen.decisions; ``methods`` are DecisionService's. Raises ConfigError or AddressUnavailable.

        ``plane_limits`` replaces limits of the data plane by name (server/transport/state.pxd): for tests that cannot wait.
        """
        self._config = config
        self._engine = engine
        self._stopped = threading.Event()
        loops = config.threads_loops or len(os.sched_getaffinity(0))
        # Before they are read: what is replaced meanwhile is found by the first look.
        self._files = _stamps(config)
        tls = _context(config)
        by_path = {f"/{decisions.NAME}/{name}": method for name, method in methods.items()}
        kinds = dict.fromkeys(by_path, plane.HANDED)
        kinds[f"/{decisions.NAME}/Decide"] = plane.DECIDE
        kinds[f"/{_HEALTH}/Check"] = plane.HEALTH
        if config.threads_realtime:
            _try_realtime()
        words = refusals.table(config.limits_message_bytes)
        bounds = {**_limits(config, loops), **(plane_limits or {})}
        sockets = _bound(self.key, config.listen_decisions, loops)
        self.address = _address(config.listen_decisions, sockets[0])
        self._plane = DataPlane(
            [each.detach() for each in sockets],
            workers=config.threads_models,
            methods=kinds,
            refusals=words,
            limits=bounds,
            tls=tls,
        )
        self._handoff = Handoff(self._plane, by_path, config.threads_handlers)
        self._told = self._plane.counters()
        self._watcher = threading.Thread(target=self._watch, name="front", daemon=True)

    def start(self) -> None:
        """Begin to answer. Raises OSError when no threads are to be had."""
        self._plane.start()
        self._handoff.start()
        self._engine.follow(self._follow)
        self._watcher.start()

    def serving(self, service: str, serves: bool) -> None:
        """What health says of a service from now on."""
        self._plane.serving(service, serves)

    def counters(self) -> dict[str, int]:
        """What the loops counted: see server/transport/state.pxd."""
        return self._plane.counters()

    def stop(self, seconds: float) -> futures.Future[bool]:
        """Take no new connections, serve those there are until they have gone, at most ``seconds``, then close them.

        The future says whether every call was settled. Where one was not (a disk that does not answer), Python goes on
        with it, and the core must not be closed under it.
        """
        done: futures.Future[bool] = futures.Future()

        def finish() -> None:
            settled = False
            try:
                until = time.monotonic() + seconds
                self._stopped.set()
                self._plane.drain()
                self._plane.drained(seconds)
                self._plane.end()
                settled = self._handoff.join(max(until - time.monotonic(), SETTLE_SECONDS))
                if self._watcher.is_alive():
                    self._watcher.join()
                self._tell_refusals()
                if settled:
                    self._plane.close()
                if self.address.startswith("unix:"):
                    Path(self.address.removeprefix("unix:")).unlink(missing_ok=True)
            finally:
                done.set_result(settled)

        threading.Thread(target=finish, name=f"stop {self.key}", daemon=True).start()
        return done

    def _follow(self, plan: Plan | None) -> None:
        try:
            self._plane.follow(plan)
        except (RapportError, MemoryError) as error:
            # Python decides over the new plan meanwhile: slower, and right.
            self._plane.follow(None)
            logs.get("front").error("no desk for the new plan; Python decides", exc_info=error)

    def _watch(self) -> None:
        telling = time.monotonic() + REFUSALS_SECONDS
        while not self._stopped.wait(CERTIFICATE_SECONDS):
            self._look_at_certificates()
            if time.monotonic() >= telling:
                telling += REFUSALS_SECONDS
                self._tell_refusals()

    def _look_at_certificates(self) -> None:
        stamps = _stamps(self._config)
        if stamps == self._files:
            return
        self._files = stamps
        try:
            context = _context(self._config)
        except ConfigError as error:
            logs.get("front").error("the new certificates cannot be used; those before serve on", problem=str(error))
            return
        if context is not None:
            self._plane.certificates(context)
            logs.get("front").info("certificates replaced", certificate=self._config.tls_certificate)

    def _tell_refusals(self) -> None:
        """One line in the log of what was refused since the last one; none when nothing was."""
        before, self._told = self._told, self._plane.counters()
        grown = {name: self._told[name] - before[name] for name in (*_TROUBLES, *_FAULTS)}
        found = {name: count for name, count in grown.items() if count}
        if found:
            troubled = not found.keys().isdisjoint(_TROUBLES)
            say = logs.get("front").warning if troubled else logs.get("front").info
            say("calls and connections refused", decided=self._told["decided"] - before["decided"], **found)


def _try_realtime() -> None:
    """A thread that asks for what the loops will ask for. Raises ConfigError when the kernel refuses."""
    refused: list[OSError] = []

    def ask() -> None:
        try:
            os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
        except OSError as error:
            refused.append(error)

    asking = threading.Thread(target=ask, name="realtime")
    asking.start()
    asking.join()
    if refused:
        raise ConfigError(
            "threads.realtime",
            f"the kernel does not let loops run in real time ({refused[0].strerror})",
            hint="Give the process CAP_SYS_NICE or an RLIMIT_RTPRIO of 1 (systemd: LimitRTPRIO=1; docker: --ulimit rtprio=1), "
            "or set it to false.",
        )


def _limits(config: Config, loops: int) -> dict[str, int]:
    descriptors, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.CONNECTIONS_PER_LOOP * loops + _OTHER_DESCRIPTORS
    if descriptors < min(wanted, most):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, most), most))
        descriptors = min(wanted, most)
    return {
        "metadata_bytes": limits.METADATA_BYTES,
        "message_bytes": config.limits_message_bytes,
        "streams": limits.STREAMS_PER_CONNECTION,
        "connections": max(min(limits.CONNECTIONS_PER_LOOP, (descriptors - _OTHER_DESCRIPTORS) // loops), 1),
        "handed": limits.CALLS_HANDED,
        "calls": limits.CALLS_PER_LOOP,
        "held_bytes": limits.HELD_BYTES,
        "requested_bytes": max(limits.REQUESTED_BYTES, 2 * config.limits_message_bytes),
        "unsent_bytes": limits.UNSENT_BYTES,
        "poll_ns": config.threads_busy_poll_us * 1_000,
        "realtime": int(config.threads_realtime),
        "queue_ns": limits.QUEUE_MS * 1_000_000,
        "stands_ns": limits.QUEUE_STANDS_MS * 1_000_000,
        "away_ns": limits.AWAY_MS * 1_000_000,
        "handshake_ns": limits.HANDSHAKE_MS * 1_000_000,
        "idle_ns": int(config.limits_idle_seconds * 1e9),
        "age_ns": int(config.limits_age_seconds * 1e9),
        "stall_ns": limits.STALL_MS * 1_000_000,
        "call_ns": limits.CALL_MS * 1_000_000,
        "silence_ns": limits.SILENCE_MS * 1_000_000,
        "control_credit": limits.CONTROL_FRAMES,
        "control_refill": limits.CONTROL_FRAMES_PER_SECOND,
        "reset_credit": limits.RESETS,
        "reset_refill": limits.RESETS_PER_SECOND,
        "continuations": limits.CONTINUATIONS,
    }


def _bound(key: str, address: str, loops: int) -> list[socket.socket]:
    """Listening sockets on the address, one for each loop; a Unix socket is one that all share."""
    listener.check(key, address)
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        listener.clear_stale(key, path)
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            one.bind(path)
            one.listen(_BACKLOG)
            one.setblocking(False)
            return [one, *(one.dup() for _ in range(loops - 1))]
        except OSError as error:
            one.close()
            raise listener.unavailable(key, address) from error
    host, _, port = address.rpartition(":")
    made: list[socket.socket] = []
    try:
        family, kind, _, _, place = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as alone:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind(place)
            place = alone.getsockname()
            # It keeps a port that the kernel chose ours until the first of the loops' sockets has it.
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            for _ in range(loops):
                each = socket.socket(family, kind)
                made.append(each)
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                each.bind(place)
        for each in made:
            each.listen(_BACKLOG)
            each.setblocking(False)
    except OSError as error:
        for each in made:
            each.close()
        raise listener.unavailable(key, address) from error
    return made


def _address(wanted: str, bound: socket.socket) -> str:
    if wanted.startswith("unix:"):
        return wanted
    return f"{wanted.rpartition(':')[0]}:{bound.getsockname()[1]}"


def check(config: Config) -> None:
    """Raise ConfigError for addresses and files of TLS that cannot be used, as binding them would, and bind nothing."""
    listener.check("listen.decisions", config.listen_decisions)
    if not config.shared:
        listener.check("listen.control", config.control_address)
        _context(config)


def _context(config: Config) -> Context | None:
    if not config.tls_certificate and not config.tls_key:
        if config.tls_client_authorities:
            raise ConfigError("tls.client_authorities", "is set without tls.certificate and tls.key", hint="Set all three.")
        return None
    if not config.tls_certificate or not config.tls_key:
        missing = "tls.key" if config.tls_certificate else "tls.certificate"
        raise ConfigError(missing, "is empty, and its partner is not", hint="TLS wants a certificate and its key.")
    return Context(config.tls_certificate, config.tls_key, config.tls_client_authorities)


def _stamps(config: Config) -> tuple[tuple[int, int], ...]:
    """What changes when a file of TLS does; a missing file counts as one that changed."""
    found = []
    for name in (config.tls_certificate, config.tls_key, config.tls_client_authorities):
        try:
            told = Path(name).stat() if name else None
        except OSError:
            told = None
        found.append((told.st_mtime_ns, told.st_ino) if told else (0, 0))
    return tuple(found)
