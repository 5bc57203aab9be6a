"""Goal: an expression that cannot be served is refused at the exact place, with its cause and the nearest right name.

Method: `tests/cases/expression_errors.yaml`, compared word for word; and texts built to cost too much.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from core import limits
from core.errors import Problem, ProgramError, Where
from core.expressions import Kind
from core.expressions.check import RENDERABLE, Scope, check, check_form, check_segments
from tests.expression_world import SCHEMA, WHERE, scope

CASES = yaml.safe_load((Path(__file__).parent.parent / "cases" / "expression_errors.yaml").read_text(encoding="utf-8"))


def _problems(text: str, names: Scope | None = None, expect: Kind | None = Kind.BOOL) -> list[dict[str, str]]:
    with pytest.raises(ProgramError) as raised:
        check(text, names or scope(), WHERE, expect)
    return [
        {"at": f"{one.where.line}:{one.where.column}", "says": one.message, "hint": one.hint}
        for one in raised.value.problems
    ]


@pytest.mark.parametrize("case", CASES, ids=[f"{number}-{case['e']}" for number, case in enumerate(CASES)])
def test_refused_as_the_table_says(case: dict[str, Any]) -> None:
    assert _problems(case["e"]) == case["problems"]


@pytest.mark.parametrize(
    "text",
    [
        "!" * 3000 + "customer.vip",
        "-" * 3000 + "customer.age > 0",
        "(" * 1000 + "customer.vip" + " && true)" * 400,
        "customer.age + " * 250 + "1 > 0",
        "customer.vip ? " * 200 + "true" + " : false" * 200,
        "max(" * 400 + "1" + ", 2)" * 400 + " > 0",
        "customer.first_name == '" + "x" * 5000 + "'",
        " || ".join(f"customer.city.contains('{i}')" for i in range(200)),
        " + ".join(["customer.city"] * 60) + " == ''",
    ],
    ids=["nots", "minuses", "brackets", "sum", "choices", "calls", "long text", "wide", "texts joined"],
)
def test_what_costs_too_much_is_refused_in_bounded_time(text: str) -> None:
    # Accepting is fine where the limits allow it; crashing the interpreter's stack is not.
    problems: tuple[Problem, ...] = ()
    try:
        check(text, scope(), WHERE, Kind.BOOL)
    except ProgramError as error:
        problems = error.problems
    assert all("limit" in one.message for one in problems)
    assert problems or len(text.encode()) <= limits.EXPRESSION_BYTES


def test_segments_cannot_multiply_the_cost() -> None:
    # Each segment names the one before twice, in different company: text stays short, the tree doubles.
    texts = {"s0": ("customer.age > 0 && customer.vip", WHERE)}
    for number in range(1, 30):
        last = f"segment.s{number - 1}"
        texts[f"s{number}"] = (f"({last} && customer.age > {number}) || (!{last} && customer.visits > {number})", WHERE)
    done, problems = check_segments(texts, Scope(SCHEMA))
    assert 5 < len(done) < 20
    assert [one for one in problems if "limit is 10000" in one.message]


def test_segments_in_a_circle_are_refused_once() -> None:
    texts = {
        "a": ("segment.b", WHERE), "b": ("segment.c || customer.vip", WHERE), "c": ("segment.a", WHERE),
        "fine": ("customer.vip", WHERE), "on_top": ("segment.fine && customer.age > 3", WHERE), "d": ("segment.a", WHERE),
    }  # fmt: skip
    done, problems = check_segments(texts, Scope(SCHEMA))
    assert set(done) == {"fine", "on_top"}
    assert [one.message for one in problems] == ["Segment 'a' needs itself: a -> b -> c -> a."]


def test_expected_kinds_convert_numbers_and_nothing_else() -> None:
    names = scope()
    assert check("customer.age", names, WHERE, Kind.DOUBLE).type.kind is Kind.DOUBLE
    assert check("customer.balance", names, WHERE, Kind.DOUBLE).type.kind is Kind.DOUBLE
    assert check("customer.balance", names, WHERE, RENDERABLE).type.kind is Kind.MONEY
    assert check("3", names, WHERE, Kind.DOUBLE).root == check("3.0", names, WHERE).root
    (problem,) = _problems("customer.tags", expect=Kind.DOUBLE)
    assert problem["says"] == "This is a set, where a number (double) is needed."


def test_no_text_breaks_the_checker() -> None:
    # Texts made of pieces of right ones: each is taken or refused with a place inside the text.
    pieces = ["customer", ".", "age", "vip", "plan", "(", ")", "[", "]", "'gold'", '"', "'", "3", "4.5", "&&", "||", "!", "-",
              "==", "<", ">=", "in", "?", ":", ",", " ", "\n", "has", "true", "null", "//", "\\", "é", "size", "{", "}", "now",
              "duration", "'7d'", "events.purchase.count_3d", "r'", "0x", "1e5", "=", "&", "\x00", "\ud800"]  # fmt: skip
    chance = random.Random(20261122)
    names = scope()
    for _ in range(3_000):
        text = "".join(chance.choice(pieces) for _ in range(chance.randint(1, 12)))
        try:
            check(text, names, Where("f", 1, 1))
        except ProgramError as error:
            for one in error.problems:
                lines = text.split("\n")
                assert 1 <= one.where.line <= len(lines), repr(text)
                assert 1 <= one.where.column <= len(lines[one.where.line - 1]) + 1, repr(text)


def test_places_follow_the_text_over_lines() -> None:
    with pytest.raises(ProgramError) as raised:
        check("customer.vip\n  && custmer.x", scope(), Where("offers/a.yaml", 5, 9))
    assert raised.value.problems[0].where == Where("offers/a.yaml", 6, 14)


FORMS: dict[str, str] = {
    "customer.age +": "",
    "custmer.age": "p.yaml:3:5: There is no name 'custmer.age'. Did you mean 'customer.age'?",
    "age > 3": "p.yaml:3:5: There is no name 'age'.",
    "customer.name.matches('a*')": "p.yaml:3:5: matches() is not used here",
    "customer.tags.all(t, t == 'x')": "p.yaml:3:5: all() is not used here",
    "offer.margin": "p.yaml:3:5: No offer is at hand here",
    "max(1, customer.tags[0])": "p.yaml:3:12: Values are not indexed with [ ]",
    "customer.age > 1 ? null : 0": "p.yaml:3:24: 'null' is not used here",
    "x(1) + y(2)": "p.yaml:3:12: There is no function 'y'.",
}


@pytest.mark.parametrize("text", FORMS)
def test_what_no_schema_could_mend_is_found_without_one(text: str) -> None:
    with pytest.raises(ProgramError) as refused:
        check_form(text, Where("p.yaml", 3, 5), offer=False)
    assert FORMS[text] in str(refused.value)


@pytest.mark.parametrize("case", [
    "customer.age", "customer.nothing == 'x' || facts.what in ['a', 'b']", "events.view.count_30d * 2", "offer.margin",
    "has(customer.x) ? size(customer.x) : 0", "now - timestamp('2026-01-01T00:00:00Z') > duration('3d')", "channel == 'web'",
])  # fmt: skip
def test_what_a_schema_may_declare_passes_without_one(case: str) -> None:
    check_form(case, Where("p.yaml", 1, 1), offer=True)
