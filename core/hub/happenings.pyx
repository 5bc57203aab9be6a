"""Events of customers: `RecordEvents`."""

from libc.stdint cimport INT64_MIN, uint8_t, uint64_t

from core.hub.apply cimport Applier
from core.hub.contacts cimport LIST_HEADER_BYTES, MERGED_COUNTED, MERGED_PAST
from core.hub.record cimport builder_touch
from core.hub.values cimport check_time, hashed

from core import limits
from core.errors import BadValue, TooLarge, UnknownName
from core.hub.apply import register
from core.hub import events as event_lists
from core.hub.mutations import EventsResult, RecordEvents
from core.hub.retention import DropOldEvents, since
from core.hub.values import checked


cdef int _pack_event(Applier applier, event) except -1:
    """Adds an event to the packer; errors name its parts."""
    check_time("at", event.at_us)
    described = applier.event_kinds.get(event.type)
    if described is None:
        raise UnknownName("event type", event.type, applier.event_kinds, field="type")
    number, fields = described
    given = event.fields
    cells = []
    used = 0
    for field, letter, kind, path, codes in fields:
        value = given.get(field.name)
        if value is not None or field.name in given:
            used += 1
        cells.append((letter, checked(path, kind, value, field, codes)))
    if used != len(given):
        known = [row[0].name for row in fields]
        name = next(name for name in given if name not in known)
        raise UnknownName("field", name, known, f"event '{event.type}'", f"fields['{name}']")
    applier.packer.pack(number, event.at_us, hashed("key", event.key), cells)
    return 0


cdef list add_packed(Applier applier, uint64_t customer, object kept):
    cdef const uint8_t* start = NULL
    cdef size_t size = 0
    applier.find_events(customer, &start, &size)
    merged, counted = applier.packer.merged(start, size, f"Customer {customer}'s event list", kept)
    if merged is not None and len(merged) > LIST_HEADER_BYTES:
        applier.events[customer] = merged
    elif merged is not None and size:
        applier.events[customer] = None
    return counted


def _record_events(Applier applier, mutation):
    cdef uint64_t customer
    if not mutation.events:
        raise BadValue("events", "there is none", "Send at least one.")
    if len(mutation.events) > limits.EVENTS_PER_CUSTOMER:
        raise TooLarge("events", len(mutation.events), limits.EVENTS_PER_CUSTOMER)
    applier.packer.clear()
    for place, event in enumerate(mutation.events):
        try:
            _pack_event(applier, event)
        except (UnknownName, BadValue, TooLarge) as error:
            raise error.under(f"events[{place}]") from None
    customer, created = applier.opened(mutation.identifiers, INT64_MIN, True)
    kept = since(applier.catalog, mutation.received_us) if mutation.received_us else None
    counted = add_packed(applier, customer, kept)
    for event, became in zip(mutation.events, counted, strict=True):
        if became != MERGED_PAST:
            builder_touch(&applier.builder, event.at_us)
    applier.finish_record(customer)
    return EventsResult(
        customer, created, tuple([became == MERGED_COUNTED for became in counted]), counted.count(MERGED_PAST))


def _drop_old_events(Applier applier, mutation):
    cdef uint64_t customer
    check_time("at", mutation.at_us)
    kept = since(applier.catalog, mutation.at_us)
    dropped = 0
    if kept is None:
        return dropped
    applier.packer.clear()
    for customer in mutation.customers:
        stored = applier.event_list(customer)
        # Since the sweep looked, the customer may have been joined into another, or erased.
        if stored is None:
            continue
        what = f"Customer {customer}'s event list"
        merged, _ = applier.packer.merge(stored, what, kept)
        dropped += event_lists.count(stored, what) - event_lists.count(merged, what)
        if merged != stored:
            applier.events[customer] = merged if len(merged) > LIST_HEADER_BYTES else None
    return dropped


register(RecordEvents, _record_events)
register(DropOldEvents, _drop_old_events)
