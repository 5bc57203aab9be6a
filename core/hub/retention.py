"""How long events are kept: what a moment lets go of, the mutation by which the sweep takes it from those who are quiet, and
what a program that keeps them for less would take.

A customer's old events go with the next event written for him. Answers do not wait for that, since a type's retention is the
longest window of its aggregates; what is here keeps bytes and rights, not counts.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from core import limits
from core.errors import EventsLost
from core.hub import events
from core.hub.mutations import Mutation

if TYPE_CHECKING:
    from core.hub.catalog import Catalog
    from core.hub.store import Store
    from core.schema import Schema


_DAY_US: Final = 86_400_000_000
# Customers whose events are counted before a program that keeps them for less is refused: about a second's work.
COUNTED: Final = 200_000
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


class Loss(msgspec.Struct, frozen=True):
    """What a shorter retention of a type of event takes from the store for good. ``before_us`` 0: it had no limit."""

    event: str
    kept_us: int
    before_us: int
    events: int  # of those that were counted


class Losses(msgspec.Struct, frozen=True):
    """What a program would take from the store. Not ``complete``: not everybody's events were counted, so there may be more."""

    types: tuple[Loss, ...] = ()
    complete: bool = True

    def __bool__(self) -> bool:
        return bool(self.types)


def since(catalog: Catalog, now_us: int) -> bytes | None:
    """By type number, an i64 each: the first moment whose events are kept at ``now_us``. None when all types keep all."""
    entries = catalog.events.values()
    if not any(entry.retention_us for entry in entries):
        return None
    return _moments(len(entries), {entry.number: entry.retention_us for entry in entries if entry.retention_us}, now_us)


def _moments(types: int, kept_us: Mapping[int, int], now_us: int) -> bytes:
    moments = array("q", [limits.NO_AMOUNT]) * (types + 1)
    for number, span_us in kept_us.items():
        moments[number] = now_us - span_us + 1
    return moments.tobytes()


def losses(store: Store, schema: Schema, now_us: int, most: int = COUNTED) -> Losses:
    """What declaring ``schema`` would let go of at ``now_us`` that is kept now; nothing where no event is concerned.

    Counts the events of at most ``most`` customers. Raises StoreCorrupt.
    """
    known = store.catalog.events
    shorter = {}
    for wanted in schema.events.values():
        entry = known.get(wanted.name)
        if entry is not None and wanted.retention_us and not 0 < entry.retention_us <= wanted.retention_us:
            shorter[entry.number] = (wanted, entry.retention_us)
    if not shorter:
        return Losses()
    after = _moments(len(known), {number: wanted.retention_us for number, (wanted, _) in shorter.items()}, now_us)
    before = _moments(len(known), {number: kept_us for number, (_, kept_us) in shorter.items() if kept_us}, now_us)
    gone, gone_anyway = [0] * (len(known) + 1), [0] * (len(known) + 1)
    complete = True
    with store.environment.reader() as reader:
        for visited, (key, value) in enumerate(reader.items("events")):
            if visited == most:
                complete = False
                break
            what = f"Customer {int.from_bytes(key, sys.byteorder)}'s event list"
            if events.has_past(value, after, what):
                events.count_past(value, after, gone, what)
                events.count_past(value, before, gone_anyway, what)
    found = [
        Loss(wanted.name, wanted.retention_us, kept_us, gone[number] - gone_anyway[number])
        for number, (wanted, kept_us) in shorter.items()
    ]
    return Losses(tuple(each for each in found if each.events or not complete), complete)


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


def keep_all(store: Store, schema: Schema, now_us: int) -> None:
    """Raises EventsLost where declaring ``schema`` would have events deleted that are kept now."""
    found = losses(store, schema, now_us)
    if found:
        raise EventsLost(
            [
                (each.event, each.kept_us / _DAY_US, each.before_us / _DAY_US if each.before_us else None, each.events)
                for each in found.types
            ],
            not found.complete,
        )
