"""Answers, in Python, what the data plane hands over: every method but Decide, and the decisions that its desk does not know.

A few threads wait for calls without the GIL, run the service's own method, and give the answer back. What waits for the store
is not waited for: its future answers the call, on the committer's thread, so that a few threads keep thousands of
durable writes in flight and a commit takes all of them.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future

from server import status
from server.services.calls import Method
from server.transport.plane import DataPlane, Handed


class _Waiting:
    """What a service may ask of a call."""

    __slots__ = ("_handed",)

    def __init__(self, handed: Handed) -> None:
        self._handed = handed

    def time_remaining(self) -> float | None:
        """Seconds until the deadline, at least 0; None without one."""
        left = self._handed.remaining_us()
        return None if left is None else left / 1e6

    def waited_us(self) -> int:
        """Microseconds since the last of it was read."""
        return self._handed.waited_us()


class Handoff:
    """The threads. Started with `start`; they end when the plane has ended."""

    def __init__(self, plane: DataPlane, methods: Mapping[str, Method], threads: int) -> None:
        """``methods`` by path: "/package.Service/Method"."""
        self._plane = plane
        self._methods = methods
        self._pending = 0  # calls whose future is not there yet
        self._idle = threading.Condition()
        self._threads = [
            threading.Thread(target=self._run, name=f"handoff {number}", daemon=True) for number in range(threads)
        ]

    def start(self) -> None:
        """Begin to answer."""
        for thread in self._threads:
            thread.start()

    def join(self, seconds: float) -> bool:
        """Wait until all that was taken is answered, at most ``seconds``; whether it is. After the plane's `end`."""
        until = time.monotonic() + seconds
        started = [thread for thread in self._threads if thread.ident is not None]
        for thread in started:
            thread.join(max(0.0, until - time.monotonic()))
        with self._idle:
            settled = self._idle.wait_for(lambda: self._pending == 0, max(0.0, until - time.monotonic()))
        return settled and not any(thread.is_alive() for thread in started)

    def _run(self) -> None:
        ended = False
        while not ended:
            # Whatever goes wrong on the way, memory and a full log disk too, costs one call, which is INTERNAL once
            # its `Handed` is dropped; a thread that ended here would leave the calls after it unanswered.
            with contextlib.suppress(Exception):
                ended = not self._answer_next()

    def _answer_next(self) -> bool:
        """Take a call and answer it, now or later; False when the plane has ended."""
        handed = self._plane.take()
        if handed is None:
            return False
        try:
            answer = self._methods[handed.path](handed.data, _Waiting(handed))
        except Exception as error:
            _fail(handed, error)
            return True
        if isinstance(answer, bytes):
            handed.answer(answer)
        else:
            self._answer_later(handed, answer)
        return True

    def _answer_later(self, handed: Handed, answer: Future[bytes]) -> None:
        with self._idle:
            self._pending += 1

        def finish(future: Future[bytes]) -> None:
            try:
                error = future.exception()
                if error is None:
                    handed.answer(future.result())
                else:
                    _fail(handed, error)
            finally:
                with self._idle:
                    self._pending -= 1
                    self._idle.notify_all()

        answer.add_done_callback(finish)


def _fail(handed: Handed, error: BaseException) -> None:
    told = status.describe(error)
    handed.fail(told.code, told.message, told.SerializeToString())
