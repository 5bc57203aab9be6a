"""Reads what schema.yaml says of aggregates with a name of their own, and for how long events are kept.

``large_orders: {count: purchase, where: "amount >= 100.00 && !cancelled", window: 90d}``: a function over an event type or a
field of it, of events that pass a filter, inside a window. Read as ``aggregate.large_orders``.
"""

from __future__ import annotations

from collections.abc import Mapping as Named
from dataclasses import replace
from typing import Final

from core import limits
from core.errors import ProgramError, Where, nearest
from core.expressions.check import Unfit, aggregate_type, aggregate_window
from core.expressions.filters import check_filter
from core.programs.checker import offset_of
from core.programs.document import Node, Scalar
from core.programs.reading import Reader, Table, shorten
from core.schema import Aggregate, AggregateFunction, EventType, FilterTerm

_FUNCTIONS: Final = {function.value: function for function in AggregateFunction}
_KEYS: Final = (*_FUNCTIONS, "where", "window", "description")
_FORM: Final = "Write {count: purchase, window: 90d} or {sum: purchase.amount, window: 90d}."
# The event's own time, as these four can read it.
_TIMED: Final = (AggregateFunction.FIRST, AggregateFunction.LAST, AggregateFunction.MIN, AggregateFunction.MAX)


def read_retention(reader: Reader, node: Node | None, events: dict[str, EventType]) -> dict[str, EventType]:
    """The event types, those that ``retention`` names with how long they are kept."""
    if node is None or (table := reader.table(node, "retention")) is None:
        return events
    kept = dict(events)
    for _, key, value in table.items():
        name = reader.known(key, "event type", events)
        span_us = reader.duration(value, "retention")
        if span_us is not None and span_us < limits.WINDOW_LEAST_US:
            reader.problem(value, "No window is shorter than a minute, so nothing could be counted.",
                           "Keep events for 1m or longer.")
        elif name is not None and span_us is not None:
            kept[name] = replace(kept[name], retention_us=span_us)
    return kept


def read_aggregates(reader: Reader, node: Node | None, events: Named[str, EventType]) -> dict[str, Aggregate]:
    """The declared aggregates by name; what could not be read is noted and left out."""
    found: dict[str, Aggregate] = {}
    if node is None or (table := reader.table(node, "aggregates")) is None:
        return found
    for _, key, value in table.items():
        name = reader.name(key, "the name of an aggregate")
        body = reader.table(value, f"aggregate '{name or shorten(key.value)}'", _KEYS)
        if name is None or body is None:
            continue
        aggregate = _aggregate(reader, name, value, body, events)
        if aggregate is not None:
            found[name] = aggregate
    if len(found) > limits.AGGREGATES:
        reader.problem(node, f"The schema has {len(found)} aggregates; the limit is {limits.AGGREGATES}.")
    return found


def _aggregate(reader: Reader, name: str, node: Node, body: Table, events: Named[str, EventType]) -> Aggregate | None:
    named = [(word, written) for word in _FUNCTIONS if (written := body.get(word)) is not None]
    if len(named) != 1:
        reader.problem(node, f"The aggregate '{name}' names {'no function' if not named else 'more than one function'}.",
                       _FORM if not named else f"It has {' and '.join(word for word, _ in named)}; make an aggregate of each.")
        return None
    (word, written), = named
    function = _FUNCTIONS[word]
    text = reader.text(written, f"what '{word}' is about")
    if text is None:
        return None
    type_name, _, field_name = text.partition(".")
    event = events.get(type_name)
    if event is None:
        close = nearest(type_name, events)
        reader.problem(written, f"There is no event type '{shorten(type_name)}'.",
                       f"Did you mean '{close}'?" if close else _FORM)
        return None
    window_us, shown = 0, ""
    if (span := body.get("window")) is not None:
        wanted = reader.duration(span, "window")
        if wanted is None:
            return None
        window_us, shown = wanted, reader.text(span, "window") or ""
    field = _field(reader, written, event, function, field_name)
    if field is None:
        return None
    at = written
    try:
        aggregate_type(function, {one.name: one for one in event.fields}.get(field))
        at = span or written
        window_us = aggregate_window(event, window_us, shown)
    except Unfit as error:
        reader.problem(at, f"The aggregate '{name}'{error.problem}", error.hint)
        return None
    where = _filter(reader, body.get("where"), event)
    return None if where is None else Aggregate(event.name, function, field, window_us, where)


def _field(reader: Reader, node: Node, event: EventType, function: AggregateFunction, name: str) -> str | None:
    """The field as `Aggregate` has it."""
    fields = [one.name for one in event.fields]
    word = function.value
    if function is AggregateFunction.COUNT:
        if name:
            reader.problem(node, "count takes no field.", f"Write count: {event.name}, or distinct: {event.name}.{name}.")
            return None
        return ""
    if not name or (name == "at" and function in _TIMED):
        if function in _TIMED:
            return "at"
        reader.problem(node, f"{word} needs a field.", f"Write {word}: {event.name}.{fields[0]}." if fields else
                       f"Event '{event.name}' has no fields; it can be counted.")
        return None
    if name not in fields:
        close = nearest(name, fields)
        reader.problem(node, f"Event '{event.name}' has no field '{shorten(name)}'.",
                       f"Did you mean '{event.name}.{close}'?" if close else
                       f"Its fields: {', '.join(fields[:12]) or 'none are declared'}.")
        return None
    return name


def _filter(reader: Reader, node: Node | None, event: EventType) -> tuple[FilterTerm, ...] | None:
    if node is None:
        return ()
    text = reader.text(node, "where")
    if text is None or not isinstance(node, Scalar):
        return None
    try:
        return check_filter(text, event, Where("", 1, 1))
    except ProgramError as error:
        for problem in error.problems:
            place = reader.document.where_inside(node, offset_of(text, problem.where))
            reader.problems.add(place, problem.message, problem.hint)
        return None
