"""How long events are kept: what a moment lets go of, and the mutation by which the sweep takes it from those who are quiet.

A customer's old events go with the next event written for him. Answers do not wait for that, since a type's retention is the
longest window of its aggregates; what is here keeps bytes and rights, not counts.
"""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING, Final

import msgspec

from core import limits
from core.hub import events
from core.hub.mutations import Mutation

if TYPE_CHECKING:
    from core.hub.catalog import Catalog
    from core.hub.store import Store


# Customers whose lists one write makes anew while others wait for it: a few milliseconds.
DROPPED_AT_ONCE: Final = 256


class DropOldEvents(Mutation, frozen=True, kw_only=True, tag="drop_old_events"):
    """Takes from these customers the events that their types' retention does not keep at ``at_us``. Result: how many.

    Again: there is nothing left to take.
    """

    customers: tuple[int, ...]
    at_us: int


class Swept(msgspec.Struct, frozen=True):
    """A step of the sweep: customers looked at, events taken, and whom to go on behind; 0 when it came to the end."""

    visited: int
    dropped: int
    last: int


def since(catalog: Catalog, now_us: int) -> bytes | None:
    """By type number, an i64 each: the first moment whose events are kept at ``now_us``. None when all types keep all."""
    entries = catalog.events.values()
    if not any(entry.retention_us for entry in entries):
        return None
    moments = array("q", [limits.NO_AMOUNT]) * (len(entries) + 1)
    for entry in entries:
        if entry.retention_us:
            moments[entry.number] = now_us - entry.retention_us + 1
    return moments.tobytes()


def sweep(store: Store, after: int, most: int, now_us: int) -> Swept:
    """Looks at up to ``most`` customers with events whose ids follow ``after`` (0: from the first), and takes what is past.

    Lists are read beside whoever writes; only customers who have something past cost a write, all of a step one.
    """
    moments = since(store.catalog, now_us)
    if moments is None:
        return Swept(0, 0, 0)
    visited = last = 0
    past = []
    with store.environment.reader() as reader:
        for key, value in reader.items("events", (after + 1).to_bytes(8, sys.byteorder)):
            last = int.from_bytes(key, sys.byteorder)
            visited += 1
            if events.has_past(value, moments, f"Customer {last}'s event list"):
                past.append(last)
            if visited >= most or len(past) >= DROPPED_AT_ONCE:
                break
        else:
            last = 0
    dropped = 0
    if past:
        dropped = store.apply(DropOldEvents(customers=tuple(past), at_us=now_us), background=True)
    return Swept(visited, dropped, last)


def sweep_all(store: Store, now_us: int) -> int:
    """Every customer in turn; how many events were taken. For a store that nobody decides over meanwhile."""
    dropped, step = 0, Swept(0, 0, 0)
    while True:
        step = sweep(store, step.last, limits.SWEEP_STEP, now_us)
        dropped += step.dropped
        if not step.last:
            return dropped
