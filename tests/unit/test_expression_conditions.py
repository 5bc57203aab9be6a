"""Goal: the index gets every condition it can hold, in one form whatever way it was written.

Method: texts with the atoms and the number of other conditions they must give.
"""

from __future__ import annotations

import pytest

from core.expressions import Kind
from core.expressions.check import check
from core.expressions.conditions import split
from tests.expression_world import WHERE, scope


@pytest.mark.parametrize(
    ("text", "atoms", "others"),
    [
        ("customer.age >= 18", ["customer.age >= 18"], 0),
        ("18 <= customer.age", ["customer.age >= 18"], 0),
        ("customer.age > 17.5", ["customer.age >= 18"], 0),
        ("customer.age < 17.5", ["customer.age <= 17"], 0),
        ("customer.age >= 18.0 && customer.age <= 30.0", ["customer.age >= 18", "customer.age <= 30"], 0),
        ("customer.age == 17.5", [], 1),
        ("customer.age > 1e18", [], 1),
        ("!(customer.age > 18)", ["customer.age <= 18"], 0),
        ("!(customer.income > 18)", [], 1),
        ("customer.balance > 100", ["customer.balance > 100.0"], 0),
        ("customer.plan == 'gold'", ["customer.plan == gold"], 0),
        ("customer.plan in ['silver', 'gold']", ["customer.plan in gold silver"], 0),
        ("customer.plan == 'silver' || customer.plan == 'gold'", ["customer.plan in gold silver"], 0),
        ("!(customer.plan in ['silver', 'gold'])", ["customer.plan not in gold silver"], 0),
        ("customer.plan != 'gold'", ["customer.plan != gold"], 0),
        ("customer.vip", ["customer.vip true"], 0),
        ("!customer.vip", ["customer.vip false"], 0),
        ("customer.vip == false", ["customer.vip false"], 0),
        ("has(customer.age) && !has(customer.plan)", ["customer.age has", "customer.plan !has"], 0),
        ("!(customer.vip || customer.age < 18)", ["customer.vip false", "customer.age >= 18"], 0),
        ("!(customer.vip && customer.age < 18)", [], 1),
        ("customer.vip || customer.age < 18", [], 1),
        ("customer.age > customer.visits", [], 1),
        ("customer.since < timestamp('2026-01-01')", ["customer.since < 1767225600000000"], 0),
        ("segment.grown && customer.vip && customer.age % 2 == 0", ["customer.age >= 18", "customer.vip true"], 1),
        ("customer.age > 3 && customer.age > 3", ["customer.age > 3"], 0),
        ("offer.margin > 0.1 && customer.vip", ["customer.vip true"], 0),
        ("offer.margin > 0.1", [], 0),
        ("offer.margin > 0.9", [], 1),
        ("events.purchase.count_90d < 5", ["events.purchase.count_90d < 5"], 0),
        ("consent.marketing", ["consent.marketing true"], 0),
        ("'vip' in customer.tags", [], 1),
    ],
)
def test_conjuncts_become_atoms(text: str, atoms: list[str], others: int) -> None:
    found, rest = split(check(text, scope(), WHERE, Kind.BOOL))
    told = [" ".join(map(str, (one.input.path, one.op.value, *one.operands))) for one in found]
    assert told == atoms
    assert len(rest) == others
