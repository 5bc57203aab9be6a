"""What a server that is about to end says to calls that still come: UNAVAILABLE with DRAINING, and to none of them CANCELLED.

grpcio's stop sends GOAWAY and at once cancels every call that it has not yet given to a handler, also those that the client
sent before it read the GOAWAY; a client must not retry CANCELLED. So the door is shut first: it stands before all services, and
from then on takes every new call itself and holds it unanswered. A caller that waits for its answer sends nothing new meanwhile,
so soon nothing is on its way; then the server is stopped, GOAWAY goes out, and only then are the held calls answered. Their
callers have read GOAWAY by that time and go elsewhere. A call is never held beyond the time that its deadline leaves.

What remains: a caller that sends without waiting for answers may still have a call on its way at that moment.
"""

from __future__ import annotations

import threading
import time
from typing import Final

import grpc

from core.errors import Draining
from server import status

# Nothing has come for so long: what waits for answers is held here by now. Far above the time of a call to itself, also where
# the machine lets a caller wait for a processor (10 ms lost a call where both processors were busy).
QUIET_SECONDS: Final = 0.1
# Callers that never pause are waited for no longer than this.
PATIENCE_SECONDS: Final = 1.0
# The part of a call's remaining time that it may be held; the rest is for the answer's way back.
HELD_PART: Final = 0.75


class Door(grpc.GenericRpcHandler):
    """Stands before the services of one process: lets every call through, or once shut takes it. For any number of threads."""

    def __init__(self) -> None:
        self._shut = False
        self._opened = threading.Event()  # held calls may be answered
        self._lock = threading.Condition()
        self._last = 0.0  # when the last call came after the door was shut, on the monotonic clock
        self._taken: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self._hold)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        """grpcio asks this of each call as it comes, on the one thread that takes calls; None lets it through."""
        if not self._shut:
            return None
        with self._lock:
            self._last = time.monotonic()
        return self._taken

    def shut(self) -> None:
        """From here on new calls are held. Returns when none has come for a while, or patience ends."""
        begun = time.monotonic()
        with self._lock:
            self._last = begun
            self._shut = True
            while (left := min(self._last + QUIET_SECONDS, begun + PATIENCE_SECONDS) - time.monotonic()) > 0:
                self._lock.wait(left)

    def answer(self) -> None:
        """The server has been told to stop: answer what is held, and whatever still comes at once."""
        self._opened.set()

    def _hold(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        remaining = context.time_remaining()
        most = PATIENCE_SECONDS + QUIET_SECONDS
        self._opened.wait(most if remaining is None else min(most, remaining * HELD_PART))
        status.abort(context, Draining())
