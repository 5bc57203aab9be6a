"""The thread that looks after the store while it is served: what it worries about goes to the log."""

from __future__ import annotations

import threading
import time
from typing import Final

from core.errors import StoreError
from core.hub.environment import Environment
from core.hub.watching import Watch
from server import logs

LOOK_SECONDS: Final = 10.0
# What stays so is told again after as long.
AGAIN_SECONDS: Final = 600.0


class Watching:
    """Looks every `LOOK_SECONDS` until it is stopped; ``seconds`` is another time between looks, for tests."""

    def __init__(self, environment: Environment, seconds: float = LOOK_SECONDS) -> None:
        self._watch = Watch(environment)
        self._seconds = seconds
        self._told: dict[str, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="store-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; before the store is closed, of which it reads."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            now = time.monotonic()
            try:
                worries = self._watch.look(now)
            except (StoreError, OSError) as error:
                # Whoever reads or writes is told the same.
                logs.get("store").error("the store could not be looked at", problem=str(error))
                continue
            for worry in worries:
                if now - self._told.get(worry.reason, -AGAIN_SECONDS) >= AGAIN_SECONDS:
                    self._told[worry.reason] = now
                    logs.get("store").warning("store", reason=worry.reason, problem=worry.problem, hint=worry.hint)
            for reason in self._told.keys() - {worry.reason for worry in worries}:
                del self._told[reason]
