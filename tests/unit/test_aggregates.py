"""Aggregates as a program declares them: names, filters, windows to the microsecond, and values that are right at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from core.decision import DecideRequest, Event, Identifier, PlacementRequest
from core.errors import ProgramError
from core.schema import Money
from tests.engine_subject import EngineSubject

NOW_US = 1_750_000_000_000_000
SECOND = 1_000_000
DAY = 86_400 * SECOND
WHO = (Identifier("crm", "1"),)


def program(aggregates: str, shown: str, retention: str = "{}") -> dict[str, bytes]:
    """A program that shows a value in the title of its one offer."""
    return {"program.yaml": f"""
program: counted
currency: EUR
schema:
  namespaces: {{crm: {{}}}}
  events:
    purchase:
      {{amount: money, items: int, weight: double, product: string, kind: {{type: enum, labels: [a, b]}}, gift: bool,
        due: timestamp}}
    view: {{}}
  retention: {retention}
  aggregates: {aggregates}
channels: {{web: {{placements: {{hero: {{}}}}}}}}
groups: {{all: {{}}}}
offers:
  - {{offer: plain, group: all, propensity: 0.1, value: 10, treatments: {{web.hero: {{title: "{{{{ {shown} }}}}"}}}}}}
""".encode()}


@pytest.fixture
def subject(tmp_path: Path) -> Iterator[EngineSubject]:
    with EngineSubject(tmp_path) as made:
        made.clock_us = NOW_US
        yield made


def read(subject: EngineSubject, as_of_us: int | None = None, events: Sequence[Event] = ()) -> str:
    request = DecideRequest("web", (PlacementRequest("hero", None),), WHO, events=tuple(events), as_of_us=as_of_us)
    return str(subject.engine.decide(request).placements[0].offers[0].content["title"])


BOUGHT = (
    Event("purchase", "1", NOW_US - 3 * DAY, {"amount": Money(9_999, "EUR"), "items": 1, "gift": False, "kind": "a"}),
    Event("purchase", "2", NOW_US - 2 * DAY, {"amount": Money(10_000, "EUR"), "items": 2, "gift": True, "product": "b"}),
    Event("purchase", "3", NOW_US - DAY, {"amount": Money(10_001, "EUR"), "items": 3, "weight": 0.5, "product": "a"}),
    Event("purchase", "4", NOW_US, {"product": "Zoë", "kind": "b"}),
)


@pytest.mark.parametrize(("where", "keys"), [
    ("amount >= 100.00", "23"), ("amount > 100", "3"), ("amount < 100.005", "12"), ("amount <= 99.99", "1"),
    ("amount == 100", "2"), ("amount != 100", "13"), ("amount in [99.99, 100.01]", "13"), ("100.0 < amount", "3"),
    ("items > 1", "23"), ("items in [1, 3]", "13"), ("items > 1.5", "23"), ("items != 2", "13"), ("2 >= items", "12"),
    ("weight == 0.5", "3"), ("weight > -1", "3"), ("product == 'a'", "3"), ("product != 'a'", "24"),
    ("product > 'a'", "2"), ("product in ['b', 'Zoë']", "24"), ("kind == 'b'", "4"), ("kind in ['a', 'b']", "14"),
    ("gift", "2"), ("!gift", "1"), ("gift == false", "1"), ("gift != false", "2"),
    ("items > 1 && !gift", ""), ("amount >= 100 && product == 'a' && items == 3", "3"),
    ("due < timestamp('2030-01-01T00:00:00Z')", ""),
])
def test_a_filter_counts_the_events_that_meet_every_term(subject: EngineSubject, where: str, keys: str) -> None:
    """An event that lacks a field meets no term about it, not even != or a negation: as with a customer's attributes."""
    subject.load(program(f'{{those: {{count: purchase, where: "{where}"}}}}', "aggregate.those"), NOW_US)
    subject.engine.tell(WHO, BOUGHT, {}, "", NOW_US)
    assert read(subject) == str(len(keys))
    # One by one, so that the right ones were counted; each as an event of the moment, which nobody has told yet.
    for event in BOUGHT:
        alone = DecideRequest("web", (PlacementRequest("hero", None),), (Identifier("crm", f"n{event.key}"),), events=(event,),
                              as_of_us=NOW_US)
        title = subject.engine.decide(alone).placements[0].offers[0].content["title"]
        assert title == str(int(event.key in keys)), event


@pytest.mark.parametrize(("written", "window_us"), [
    ("60s", 60 * SECOND), ("1m", 60 * SECOND), ("36h", 36 * 3600 * SECOND), ("30d", 30 * DAY), ("1y", 365 * DAY),
    ("2y", 730 * DAY), ("731d", 731 * DAY),
])
def test_a_window_begins_after_its_first_microsecond_and_ends_with_the_present(
    subject: EngineSubject, written: str, window_us: int
) -> None:
    """now - window < at <= now, for windows from a minute to two years, declared or in a path."""
    shown = f"'' + string(aggregate.recent) + ' ' + string(events.view.count_{written})"
    subject.load(program(f"{{recent: {{count: view, window: {written}}}}}", shown), NOW_US)
    at_us = NOW_US - window_us
    subject.engine.tell(WHO, [Event("view", "1", at_us)], {}, "", NOW_US)
    assert [read(subject, at_us + after) for after in (-1, 0, window_us - 1, window_us)] == ["0 0", "1 1", "1 1", "0 0"]


def test_an_aggregate_declared_later_is_right_in_the_very_next_decision(subject: EngineSubject) -> None:
    """It is reckoned from the events kept, so there is nothing to wait for: it was asked whether backfill takes a night."""
    subject.load(program("{}", "events.purchase.count"), NOW_US)
    subject.engine.tell(WHO, BOUGHT, {}, "", NOW_US)
    assert read(subject) == "4"
    large = '{large: {sum: purchase.amount, where: "amount >= 100.00", window: 90d}}'
    subject.load(program(large, "aggregate.large"), NOW_US)
    assert read(subject) == "200.01 EUR"
    more = Event("purchase", "5", NOW_US, {"amount": Money(20_000, "EUR")})
    assert read(subject, events=[more]) == "400.01 EUR"


def test_what_is_kept_for_a_time_counts_for_that_time(subject: EngineSubject) -> None:
    """An aggregate without a window counted events past their retention until the customer's next event removed them."""
    subject.load(program("{seen: {count: view}}", "string(aggregate.seen) + string(events.view.count)", "{view: 30d}"), NOW_US)
    subject.engine.tell(WHO, [Event("view", "1", NOW_US - 30 * DAY + 1), Event("view", "2", NOW_US)], {}, "", NOW_US)
    assert [read(subject, NOW_US + later) for later in (0, 1, 30 * DAY - 1, 30 * DAY)] == ["22", "11", "11", "00"]


def test_a_filter_by_a_protected_field_makes_a_price_personal_in_a_forbidden_way(subject: EngineSubject) -> None:
    """A field that may not influence a price could have done so by way of a filter."""
    sources = program('{young: {count: view, where: "age < 30"}}', "'x'")["program.yaml"].decode()
    sources = sources.replace("view: {}", "view: {age: {type: int, protected: true}}").replace(
        "treatments:", 'price: {list: 9.00 EUR, adjustments: [{percent: 10, when: aggregate.young > 0}]}, treatments:')
    with pytest.raises(ProgramError, match="protected"):
        subject.load({"program.yaml": sources.encode()}, NOW_US)
