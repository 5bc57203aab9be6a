"""Scenarios as data, and taking one step by step with anything that decides.

The form of the files is described in ``tests/cases/scenarios/README.md``. A *subject* is what is under test: the
oracle's hub, the engine in this process, or a server behind gRPC. Every step names its time: nothing waits for a clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import yaml

from core.decision import (
    DecideAnswer,
    DecideRequest,
    Event,
    ExplainLevel,
    Identifier,
    PlacementAnswer,
    PlacementRequest,
)
from core.errors import ProgramError
from core.outcomes import Outcome, OutcomeStatus
from core.programs.program import Program
from core.programs.source import check, read
from core.schema import AnyValue, Field, Money, ValueType, currency_exponent

FOLDER = Path(__file__).parent / "cases" / "scenarios"
UNITS_US = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}


# What holds of an attribute, its rule, and (source, time, value) of each source, the best first.
Told = tuple[AnyValue | None, str, list[tuple[str, int, AnyValue | None]]]


# Kind, key, product, owner, opened, closed, due.
ToldCase = tuple[str, str, str, str, int, int | None, int | None]


# Action, and for which request.
Audited = tuple[str, str]


class Subject(Protocol):
    """What a scenario is taken with. All times are microseconds; a refused program raises `ProgramError`."""

    def load(self, sources: Mapping[str, bytes], at_us: int) -> None: ...
    def upsert(
        self, who: Sequence[Identifier], attributes: Mapping[str, AnyValue | None], at_us: int, source: str = ""
    ) -> None: ...
    def provenance(self, who: Sequence[Identifier], attribute: str) -> Told: ...
    def tell(self, who: Sequence[Identifier], events: Sequence[Event], at_us: int) -> None: ...
    def consent(self, who: Sequence[Identifier], purpose: str, channel: str, granted: bool, at_us: int) -> None: ...
    def open_case(
        self, who: Sequence[Identifier], kind: str, key: str, at_us: int, product: str = "", owner: str = "",
        due_us: int | None = None, household: bool = False,
    ) -> None: ...
    def assign_case(
        self, who: Sequence[Identifier], kind: str, key: str, owner: str, due_us: int | None, at_us: int
    ) -> None: ...
    def cases(self, who: Sequence[Identifier]) -> Sequence[ToldCase]: ...
    def close_case(self, who: Sequence[Identifier], kind: str, key: str, at_us: int) -> None: ...
    def set_membership(
        self, who: Sequence[Identifier], household: Sequence[Identifier], role: str, at_us: int
    ) -> None: ...
    def leave_household(self, who: Sequence[Identifier], at_us: int) -> None: ...
    def join(self, who: Sequence[Identifier], at_us: int) -> None: ...
    def unmerge(self, who: Sequence[Identifier], at_us: int) -> None: ...
    def erase(self, who: Sequence[Identifier], request: str, at_us: int) -> None: ...
    def audit(self) -> Sequence[Audited]: ...
    def decide(self, request: DecideRequest, now_us: int) -> DecideAnswer: ...
    def record(self, outcome: Outcome, now_us: int) -> OutcomeStatus: ...


@dataclass(frozen=True, slots=True)
class Scenario:
    """One file."""

    name: str
    document: Mapping[str, Any]

    @property
    def sources(self) -> dict[str, bytes]:
        return {"program.yaml": self.document["program"].encode()}


def scenarios() -> list[Scenario]:
    """All scenario files, in order."""
    return [Scenario(path.stem, yaml.safe_load(path.read_text())) for path in sorted(FOLDER.glob("*.yaml"))]


def duration_us(text: str) -> int:
    """A duration such as 59d.

    >>> duration_us("2h")
    7200000000
    """
    return int(text[:-1]) * UNITS_US[text[-1]]


def value_of(field: Field, written: Any) -> AnyValue:
    """A value as a scenario writes it, in the field's type."""
    match field.type:
        case ValueType.MONEY:
            amount, currency = str(written).split(" ")
            whole, _, cents = amount.partition(".")
            digits = currency_exponent(currency)
            return Money(int(whole + cents.ljust(digits, "0")), currency)
        case ValueType.TIMESTAMP:
            assert isinstance(written, datetime)
            return written if written.tzinfo else written.replace(tzinfo=UTC)
        case ValueType.DOUBLE:
            return float(written)
        case ValueType.STRING_SET:
            return frozenset(written)
        case _:
            assert isinstance(written, bool | int | str)
            return written


def _identifiers(who: Mapping[str, object]) -> tuple[Identifier, ...]:
    return tuple(Identifier(namespace, str(value)) for namespace, value in who.items())


class Run:
    """One scenario taken with one subject. Raises `AssertionError` that names the step."""

    def __init__(self, scenario: Scenario, subject: Subject) -> None:
        self.scenario = scenario
        self.subject = subject
        self.now_us = int(scenario.document["now"].timestamp()) * 1_000_000
        self.sources = scenario.sources
        self.program: Program = check(read(self.sources))
        self.answers: dict[str, DecideAnswer] = {}

    def __call__(self) -> None:
        self.subject.load(self.sources, self.now_us)
        for number, step in enumerate(self.scenario.document["steps"], start=1):
            (action,) = step.keys() - {"expect"}
            try:
                getattr(self, "_" + action)(step[action], step.get("expect"))
            except AssertionError as error:
                raise AssertionError(f"{self.scenario.name}, step {number} ({action}): {error}") from error

    # --- actions ---

    def _advance(self, duration: str, expect: None) -> None:
        self.now_us += duration_us(duration)

    def _load(self, change: Mapping[str, Any], expect: Mapping[str, str] | None) -> None:
        text = self.sources["program.yaml"].decode()
        for old, new in change["replace"]:
            assert old in text, f"the program does not hold {old!r}"
            text = text.replace(old, new)
        changed = {"program.yaml": text.encode()}
        if expect is None:
            self.subject.load(changed, self.now_us)
            self.sources, self.program = changed, check(read(changed))
            return
        try:
            self.subject.load(changed, self.now_us)
        except ProgramError as error:
            told = [str(problem) for problem in error.problems]
            assert len(told) == 1, told
            assert told[0].startswith(expect["problem"] + ":"), told[0]
            assert expect["nearest"] in told[0], told[0]
        else:
            raise AssertionError("the program was not refused")

    def _upsert(self, step: Mapping[str, Any], expect: None) -> None:
        shared = self.program.schema.namespaces[next(iter(step["who"]))].household
        fields = self.program.schema.household_attributes if shared else self.program.schema.attributes
        attributes = {
            name: None if value is None else value_of(fields[name], value) for name, value in step["attributes"].items()
        }
        at_us = self.now_us - duration_us(step["ago"]) if "ago" in step else self.now_us
        self.subject.upsert(_identifiers(step["who"]), attributes, at_us, step.get("source", ""))

    def _provenance(self, step: Mapping[str, Any], expect: Mapping[str, Any]) -> None:
        shared = self.program.schema.namespaces[next(iter(step["who"]))].household
        fields = self.program.schema.household_attributes if shared else self.program.schema.attributes
        field = fields[step["attribute"]]

        def read(written: Any) -> AnyValue | None:
            return None if written is None else value_of(field, written)

        value, rule, told = self.subject.provenance(_identifiers(step["who"]), field.name)
        assert value == read(expect["value"]), f"{field.name} is {value!r}"
        assert rule == expect["rule"], f"the rule of {field.name} is {rule}"
        wanted = [
            (source, self.now_us - duration_us(ago), read(written)) for source, ago, written in expect["sources"]
        ]
        assert told == wanted, f"{field.name}: {told}"

    def _events(self, written: Sequence[Mapping[str, Any]]) -> tuple[Event, ...]:
        events = []
        for one in written:
            fields = {field.name: field for field in self.program.schema.events[one["type"]].fields}
            values = {name: value_of(fields[name], value) for name, value in one.get("fields", {}).items()}
            at_us = int(one["at"].timestamp()) * 1_000_000 if "at" in one else None
            events.append(Event(one["type"], one["key"], at_us, values))
        return tuple(events)

    def _tell(self, step: Mapping[str, Any], expect: None) -> None:
        self.subject.tell(_identifiers(step["who"]), self._events(step["events"]), self.now_us)

    def _consent(self, step: Mapping[str, Any], expect: None) -> None:
        self.subject.consent(
            _identifiers(step["who"]), step["purpose"], step.get("channel", ""), step["granted"], self.now_us
        )

    def _open_case(self, step: Mapping[str, Any], expect: None) -> None:
        self.subject.open_case(
            _identifiers(step["who"]), step["kind"], step["key"], self._ago(step), step.get("product", ""),
            step.get("owner", ""), self._due(step), step.get("scope") == "household",
        )

    def _close_case(self, step: Mapping[str, Any], expect: None) -> None:
        self.subject.close_case(_identifiers(step["who"]), step["kind"], step["key"], self._ago(step))

    def _assign_case(self, step: Mapping[str, Any], expect: None) -> None:
        self.subject.assign_case(
            _identifiers(step["who"]), step["kind"], step["key"], step.get("owner", ""), self._due(step), self._ago(step)
        )

    def _cases(self, step: Mapping[str, Any], expect: Sequence[Mapping[str, Any]]) -> None:
        told = list(self.subject.cases(_identifiers(step["who"])))
        wanted = []
        for each in expect:
            opened, closed, due = (
                None if each.get(name) is None else self.now_us - duration_us(each[name]) for name in ("opened", "closed", "due")
            )
            assert opened is not None, "a case was opened some time"
            wanted.append((each["kind"], each["key"], each.get("product", ""), each.get("owner", ""), opened, closed, due))
        assert told == wanted, f"{told}, expected {wanted}"

    def _ago(self, step: Mapping[str, Any]) -> int:
        return self.now_us - duration_us(step["ago"]) if "ago" in step else self.now_us

    def _due(self, step: Mapping[str, Any]) -> int | None:
        return self.now_us + duration_us(step["due_in"]) if "due_in" in step else None

    def _set_membership(self, step: Mapping[str, Any], expect: None) -> None:
        home = _identifiers(step["household"])
        self.subject.set_membership(_identifiers(step["who"]), home, step.get("role", ""), self.now_us)

    def _leave_household(self, step: Mapping[str, Any], expect: None) -> None:
        self.subject.leave_household(_identifiers(step["who"]), self.now_us)

    def _join(self, step: Mapping[str, Any], expect: None) -> None:
        self.subject.join(_identifiers(step["who"]), self.now_us)

    def _unmerge(self, step: Mapping[str, Any], expect: None) -> None:
        self.subject.unmerge(_identifiers(step["who"]), self.now_us)

    def _erase(self, step: Mapping[str, Any], expect: None) -> None:
        self.subject.erase(_identifiers(step["who"]), step["request"], self.now_us)

    def _audit(self, step: Mapping[str, Any], expect: Sequence[Sequence[str]]) -> None:
        told = list(self.subject.audit())
        wanted = [(action, request) for action, request in expect]
        assert told == wanted, f"{told}, expected {wanted}"

    def _record(self, step: Mapping[str, Any], expect: str) -> None:
        token = step["token"] if "token" in step else self._token(step["of"], step["offer"])
        at_us = self.now_us - duration_us(step["ago"]) if "ago" in step else self.now_us
        outcome = Outcome(token, step["outcome"], at_us, key=step.get("key", ""))
        status = self.subject.record(outcome, self.now_us)
        assert status.name == expect, f"{status.name}, expected {expect}"

    def _token(self, decision: str, offer: str) -> str:
        for placement in self.answers[decision].placements:
            for one in placement.offers:
                if one.offer == offer:
                    return one.token
        raise AssertionError(f"{decision} returned no {offer}")

    def _decide(self, step: Mapping[str, Any], expect: Mapping[str, Any] | None) -> None:
        fields = self.program.schema.facts
        placements = []
        for asked in step["placements"]:
            name, slots = next(iter(asked.items())) if isinstance(asked, dict) else (asked, None)
            placements.append(PlacementRequest(name, slots))
        request = DecideRequest(
            channel=step["channel"],
            placements=tuple(placements),
            identifiers=_identifiers(step["who"]),
            facts={name: value_of(fields[name], value) for name, value in step.get("facts", {}).items()},
            events=self._events(step.get("events", ())),
            explain=ExplainLevel.FULL,
            seed=1 + len(self.answers),
            deferred=step.get("deferred", False),
        )
        answer = self.subject.decide(request, self.now_us)
        self.answers[step.get("as", f"decision {len(self.answers)}")] = answer
        assert [one.name for one in answer.placements] == [one.name for one in placements]
        for placement in answer.placements:
            everyone = {one.name for one in self.program.offers}
            told = [one.offer for one in placement.offers] + [one.offer for one in placement.rejections]
            assert sorted(told) == sorted(everyone), f"{placement.name} does not tell of each offer once: {told}"
            if expect and placement.name in expect:
                _expect_placement(placement, expect[placement.name])


def _expect_placement(got: PlacementAnswer, expect: Mapping[str, Any]) -> None:
    unknown = expect.keys() - {
        "status", "offers", "priorities", "factors", "prices", "content", "fallback", "lost", "why",
    }  # fmt: skip
    assert not unknown, f"cannot expect {unknown}"
    reasons = {one.offer: one for one in got.rejections}
    why = {name: _why(got, name) for name in reasons}
    if "offers" in expect:
        assert [one.offer for one in got.offers] == expect["offers"], f"{got.name} {got.status.name}, because {why}"
    if "status" in expect:
        assert got.status.name == expect["status"], f"{got.name}: {got.status.name}, because {why}"
    if "fallback" in expect:
        assert dict(got.fallback) == expect["fallback"], f"{got.name}: {dict(got.fallback)}"
    offers = {one.offer: one for one in got.offers}
    for name, priority in expect.get("priorities", {}).items():
        assert math.isclose(offers[name].priority, priority, rel_tol=1e-12), f"{name}: {offers[name].priority}"
    for name, factors in expect.get("factors", {}).items():
        for factor, value in factors.items():
            found = getattr(offers[name].factors, factor)
            assert math.isclose(found, value, rel_tol=1e-12), f"{name} {factor}: {found}"
    for name, price in expect.get("prices", {}).items():
        quoted = offers[name].price
        assert quoted is not None, f"{name} has no price"
        assert quoted.amount == value_of(Field("", ValueType.MONEY), price), f"{name}: {quoted.amount}"
    for name, content in expect.get("content", {}).items():
        assert dict(offers[name].content) == content, f"{name}: {dict(offers[name].content)}"
    for name, (own, lowest) in expect.get("lost", {}).items():
        lost = reasons[name]
        assert lost.priority is not None, f"{name} has no priority"
        assert lost.lowest_winner is not None, f"{name} has no lowest winner"
        assert math.isclose(lost.priority, own, rel_tol=1e-12), f"{name}: {lost.priority}"
        assert math.isclose(lost.lowest_winner, lowest, rel_tol=1e-12), f"{name}: {lost.lowest_winner}"
    if expect.get("why") == {}:
        assert not why, f"{got.name}: {why}"
    for name, said in expect.get("why", {}).items():
        assert why[name] == said, f"{got.name} {name}: {why[name]}"


def _why(got: PlacementAnswer, name: str) -> list[str]:
    """Reason, rule, detail and input, without the empty ones at the end."""
    one = next(one for one in got.rejections if one.offer == name)
    said = [one.reason.name, one.rule, one.detail.name if one.detail else "", one.input]
    while said and not said[-1]:
        said.pop()
    return said
