"""Child of test_hub_kill: submits mutations without pause and prints each acknowledgement, until it is killed.

Mutation n gives customer ``n % 50`` the attribute n and a text of n's digits, an event with key n, and an outcome with
instance n, as three messages. ``ack n kind`` is printed after the future has its result, so after the commit.
"""

from __future__ import annotations

import sys
import threading
from concurrent.futures import Future
from typing import Any

from core.decision import Identifier
from core.hub.mutations import Outcome, RecordedEvent, RecordEvents, RecordOutcomes, Upsert
from core.hub.store import Store
from core.schema import EventType, Field, Namespace, Schema, ValueType

SCHEMA = Schema(
    attributes={"n": Field("n", ValueType.INT), "digits": Field("digits", ValueType.STRING)},
    namespaces={"crm": Namespace("crm")},
    events={"step": EventType("step", (Field("n", ValueType.INT),))},
)
CUSTOMERS = 50


def step(n: int) -> RecordedEvent:
    return RecordedEvent(type="step", key=str(n), at_us=n, fields={"n": n})


def shown(who: tuple[Identifier, ...], n: int) -> Outcome:
    return Outcome(identifiers=who, offer="offer", outcome="shown", at_us=n, instance=n)


def main(path: str, start: int) -> None:
    """Write from mutation ``start`` on for ever, with a few dozen on the way at any time."""
    print("opening", flush=True)
    store = Store.open(path)
    store.declare(SCHEMA, ["offer"], ["web"])
    print("ready", flush=True)
    room = threading.Semaphore(60)
    lock = threading.Lock()

    def acknowledged(n: int, kind: str, future: Future[Any]) -> None:
        future.result()
        with lock:
            sys.stdout.write(f"ack {n} {kind}\n")
            sys.stdout.flush()
        room.release()

    n = start
    while True:
        who = (Identifier("crm", str(n % CUSTOMERS)),)
        for kind, mutation in (
            ("upsert", Upsert(identifiers=who, attributes={"n": n, "digits": str(n) * (n % 60)}, at_us=n)),
            ("event", RecordEvents(identifiers=who, events=(step(n),))),
            ("outcome", RecordOutcomes(outcomes=(shown(who, n),))),
        ):
            room.acquire()
            future = store.submit(mutation)
            future.add_done_callback(lambda done, n=n, kind=kind: acknowledged(n, kind, done))  # type: ignore[misc]
        n += 1


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
