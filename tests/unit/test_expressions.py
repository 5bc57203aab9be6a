"""Goal: an expression means what the tables say, in the machine and in the oracle.

Method: `tests/cases/expressions.yaml` run through the checker, then through both evaluators.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.expressions import Expression, Input, Kind
from core.expressions.check import check
from core.expressions.fold import timestamp_us
from tests.expression_world import WHERE, Program, blamed, same, scope
from tests.oracle_expressions import FAILED, MISSING, Present, Value, as_text, evaluate

CASES = yaml.safe_load((Path(__file__).parent.parent / "cases" / "expressions.yaml").read_text(encoding="utf-8"))


def _given(read: Input, value: Any) -> Present:
    match read.type.kind:
        case Kind.TIMESTAMP:
            return _time(value)
        case Kind.SET:
            return frozenset(value)
        case Kind.DOUBLE | Kind.MONEY:
            return float(value)
    assert isinstance(value, bool | int | str)
    return value


def _time(text: Any) -> int:
    value = timestamp_us(text.isoformat() if isinstance(text, datetime) else text)
    assert value is not None
    return value


def _expected(expression: Expression, wanted: Any) -> tuple[Value, str]:
    if wanted == "failed" and expression.type.kind is not Kind.STRING:
        return FAILED, ""
    if isinstance(wanted, dict):
        return (_time(wanted["time"]), "") if "time" in wanted else (MISSING, wanted["missing"])
    return wanted, ""


@pytest.mark.parametrize("case", CASES, ids=[f"{number}-{case['e']}" for number, case in enumerate(CASES)])
def test_result_is_as_the_table_says(case: dict[str, Any]) -> None:
    expression = check(case["e"], scope(), WHERE)
    known = {read.path: read for read in expression.inputs}
    values: dict[Input, Value] = {
        known[path]: _given(known[path], value) for path, value in case["with"].items() if path in known
    }
    wanted, path = _expected(expression, case["is"])
    program = Program([expression.root])
    value, blame = program.run(0, values)
    assert same(value, wanted), f"the machine says {value}"
    assert (blame.path if blame else "") == path
    told = evaluate(expression.root, values)
    assert same(told, wanted), f"the oracle says {told}"
    if told is MISSING:
        assert blamed(expression.root, values) == blame
    if expression.type.kind not in (Kind.DURATION, Kind.SET):
        text = program.code.text(program.numbers[0], program.frame(values))
        assert text == as_text(told, expression.type.kind, expression.type.currency)
        assert text == case.get("text", text)
    if expression.type.kind is Kind.BOOL:
        held, slot = program.code.holds(program.numbers[0], program.frame(values))
        assert held == {True: 1, False: 0, MISSING: 2, FAILED: 3}[value]
        assert (slot >= 0) == (value is MISSING)
