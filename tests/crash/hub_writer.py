"""Child of test_hub_kill: submits mutations without pause and prints each acknowledgement, until it is killed.

Mutation n gives customer ``n % 50`` the attribute n and a text of n's digits, an event with key n, and an outcome with
instance n, as three messages. Every tenth n has a pair besides, m and j, who are made, joined, parted again where n / 10 is even,
and of whom m is erased where n / 10 is a multiple of 3. ``ack n kind`` is printed after the future has its result, so after
the commit.
"""

from __future__ import annotations

import sys
import threading
from concurrent.futures import Future
from typing import Any

from core.decision import Identifier
from core.hub.mutations import Erase, Join, Mutation, Outcome, RecordedEvent, RecordEvents, RecordOutcomes, Unmerge, Upsert
from core.hub.store import Store
from core.schema import EventType, Field, Namespace, Schema, ValueType

SCHEMA = Schema(
    attributes={"n": Field("n", ValueType.INT), "digits": Field("digits", ValueType.STRING)},
    namespaces={"crm": Namespace("crm", trust=9), "cookie": Namespace("cookie")},
    events={"step": EventType("step", (Field("n", ValueType.INT),))},
)
CUSTOMERS = 50


def step(n: int) -> RecordedEvent:
    return RecordedEvent(type="step", key=str(n), at_us=n, fields={"n": n})


def shown(who: tuple[Identifier, ...], n: int) -> Outcome:
    return Outcome(identifiers=who, offer="offer", outcome="shown", at_us=n, instance=n)


def m(n: int) -> tuple[Identifier, ...]:
    return (Identifier("crm", f"m{n}"),)


def j(n: int) -> tuple[Identifier, ...]:
    return (Identifier("cookie", f"j{n}"),)


def pair(n: int) -> list[tuple[str, Mutation]]:
    """What is done to the pair of n, in this order."""
    if n % 10:
        return []
    steps: list[tuple[str, Mutation]] = [
        ("m", Upsert(identifiers=m(n), attributes={"n": n}, at_us=n)),
        ("j", Upsert(identifiers=j(n), attributes={"n": n}, at_us=n)),
        ("join", Join(identifiers=m(n) + j(n), at_us=n)),
    ]
    if n // 10 % 2 == 0:
        steps.append(("unmerge", Unmerge(identifiers=m(n), at_us=n)))
    if n // 10 % 3 == 0:
        steps.append(("erase", Erase(identifiers=m(n), request=str(n), at_us=n)))
    return steps


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
            *pair(n),
        ):
            room.acquire()
            future = store.submit(mutation)
            future.add_done_callback(lambda done, n=n, kind=kind: acknowledged(n, kind, done))  # type: ignore[misc]
        n += 1

