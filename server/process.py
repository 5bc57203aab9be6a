"""The running server: its addresses, its health, and how it ends.

Health follows grpc.health.v1. A service that is bound is SERVING; DecisionService and the whole ("") become SERVING only
once a program is loaded, so that a balancer sends nothing that would be refused. The name "rapport.writes" is SERVING while the
store takes writes: decisions go on without, so neither DecisionService nor the whole changes with it. Nor with
"rapport.store", which is NOT_SERVING while an alarm of the store's watch stands: that is before anybody suffers.

The end: the first SIGTERM or SIGINT sets health to NOT_SERVING and sends clients away. The data plane goes on serving what
reaches it until they have gone; grpcio answers new calls UNAVAILABLE with DRAINING (server/door.py says how). Running calls
finish for drain.seconds. What has not finished then, and a second signal, ends the process at once, which loses nothing
acknowledged, for the store is safe against that.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from server import logs
from server.config import Config
from server.door import Door
from server.front import Front
from server.listener import Listener
from server.services import calls, decisions

# Beyond drain.seconds, for what was cut off to be settled and threads to end.
END_SECONDS: Final = 5.0
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
# What health calls the store's taking of writes: no service of its own, for every service has calls that write.
WRITES: Final = "rapport.writes"
# And whether an alarm of the store's watch stands.
STORE: Final = "rapport.store"
_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING


@dataclass(frozen=True, slots=True)
class Served:
    """A service and its handlers."""

    name: str
    handlers: grpc.GenericRpcHandler
    drain: Callable[[], None] = lambda: None  # ends calls that would go on for as long as their caller listens


class Process:
    """Everything bound and answering. Made not started; `start`, then `wait`, which returns once drained."""

    def __init__(
        self, config: Config, channels: Sequence[Served], control: Sequence[Served], front: Front | None = None
    ) -> None:
        """Bind the addresses; ``channels`` are served at listen.decisions, ``control`` at listen.control.

        With ``front``, which has listen.decisions already, ``channels`` are served at listen.control too, for tools that
        ask everything there.

        Raises ConfigError or AddressUnavailable, and then nothing stays bound.
        """
        self._config = config
        self._health = health.HealthServicer()
        self._door = Door()
        self._ended = threading.Event()
        self._ready = False
        self._wakeup: socket.socket | None = None  # Python writes to it as long as the process lives
        both = [*channels, *control]
        self._front = front
        self._listeners: list[Listener | Front] = []
        try:
            if config.shared:
                self._bind(
                    "listen.decisions",
                    config.listen_decisions,
                    config.threads_handlers,
                    config.limits_control_message_bytes,
                    both,
                )
            elif front is not None:
                self._listeners.append(front)
            else:
                self._bind(
                    "listen.decisions",
                    config.listen_decisions,
                    config.threads_handlers,
                    config.limits_message_bytes,
                    channels,
                )
            if not config.shared:
                self._bind(
                    "listen.control",
                    config.control_address,
                    config.threads_control,
                    config.limits_control_message_bytes,
                    both if front is not None else control,
                )
        except Exception:
            for listener in self._listeners:
                listener.stop(0).result()
            raise
        self._served = both
        for served in both:
            self._health.set(served.name, _NOT_SERVING if served.name == decisions.NAME else _SERVING)
        self._health.set(health.OVERALL_HEALTH, _NOT_SERVING)
        self.tell_store(sound=True)
        self._tell_front(False)
        self.writes(True)

    def _tell_front(self, serves: bool) -> None:
        if self._front is not None:
            self._front.serving(decisions.NAME, serves)
            self._front.serving(health.OVERALL_HEALTH, serves)

    def _bind(self, key: str, address: str, threads: int, message_bytes: int, services: Sequence[Served]) -> None:
        listener = Listener(
            key,
            address,
            threads,
            self._config.limits_concurrent_calls,
            message_bytes,
            [self._door, *(served.handlers for served in services)],
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, listener.server)
        names = [*(served.name for served in services), health.SERVICE_NAME, reflection.SERVICE_NAME]
        reflection.enable_server_reflection(names, listener.server)
        # grpcio asks in the order in which they were given.
        listener.server.add_generic_rpc_handlers((calls.Nowhere(),))
        self._listeners.append(listener)

    @property
    def addresses(self) -> dict[str, str]:
        """What each setting's address became, with the port that port 0 found."""
        return {listener.key: listener.address for listener in self._listeners}

    def start(self) -> None:
        """Begin to answer, health first of all."""
        for listener in self._listeners:
            listener.start()

    def tell_store(self, *, sound: bool) -> None:
        """Whether an alarm of the store's watch stands, for health; from any thread."""
        if not self._ended.is_set():
            self._health.set(STORE, _SERVING if sound else _NOT_SERVING)
            if self._front is not None:
                self._front.serving(STORE, sound)

    def ready(self) -> None:
        """A program is loaded: decisions can be asked for."""
        if not self._ready and not self._ended.is_set():
            self._ready = True
            self._health.set(decisions.NAME, _SERVING)
            self._health.set(health.OVERALL_HEALTH, _SERVING)
            self._tell_front(True)

    def writes(self, taken: bool) -> None:
        """Whether the store takes writes, for health; from any thread."""
        if not self._ended.is_set():
            self._health.set(WRITES, _SERVING if taken else _NOT_SERVING)
            if self._front is not None:
                self._front.serving(WRITES, taken)

    def take_signals(self) -> None:
        """From here on SIGTERM and SIGINT drain, and a second one ends the process. To be called from the main thread.

        A signal may be taken by any thread, and then nothing wakes the main one, which runs Python's handlers. So they do
        nothing: Python writes the signal's number to a socket as it is taken, whoever takes it, and a thread reads it there.
        """
        heard, self._wakeup = socket.socketpair()
        self._wakeup.setblocking(False)
        for number in _SIGNALS:
            signal.signal(number, lambda number, frame: None)
        signal.set_wakeup_fd(self._wakeup.fileno())
        threading.Thread(target=self._listen, args=(heard,), name="signals", daemon=True).start()

    def _listen(self, heard: socket.socket) -> None:
        taken = False
        while True:
            for number in heard.recv(64):
                if number not in _SIGNALS:
                    continue
                if taken:
                    os._exit(128 + number)
                taken = True
                self._ended.set()

    def end(self) -> None:
        """As SIGTERM does: makes `wait` drain and return."""
        self._ended.set()

    def wait(self, before_exit: Callable[[], None] = lambda: None) -> None:
        """Until a signal or `end`, then drain. ``before_exit`` runs last, when no call runs any more: it closes the core.

        Where a call still runs after drain.seconds (a disk that does not answer) the core cannot be closed under it, and the
        process ends here.
        """
        self._ended.wait()
        seconds = self._config.drain_seconds
        until = time.monotonic() + seconds + END_SECONDS
        logs.get("process").info("draining", seconds=seconds)
        self._health.enter_graceful_shutdown()
        for served in self._served:
            served.drain()
        self._tell_front(False)
        if self._front is not None:
            self._front.serving(WRITES, False)
            self._front.serving(STORE, False)
        stopping: list[Future[bool]] = []
        if self._front is not None:
            stopping.append(self._front.stop(seconds))
        self._door.shut()
        stopping.extend(each.stop(seconds) for each in self._listeners if each is not self._front)
        self._door.answer()
        try:
            settled = all(stopped.result(max(0.0, until - time.monotonic())) for stopped in stopping)
        except TimeoutError:
            settled = False
        if not settled:
            logs.get("process").warning(
                "ended with calls still running", hint="Nothing acknowledged is lost. Look at the disk and at slow calls."
            )
            os._exit(os.EX_OK)
        before_exit()
        logs.get("process").info("stopped")
