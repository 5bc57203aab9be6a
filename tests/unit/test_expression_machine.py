"""Goal: the machine runs only code that is whole, shares equal expressions, and frees what it takes.

Method: code from the assembler, then the same code damaged in each way that would read or jump astray.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from core.errors import EngineFault
from core.expressions import Call, Expression, Kind, Literal, Node, Read
from core.expressions.bytecode import STACK, Code, Opcode
from core.expressions.check import check
from core.expressions.lower import Assembler
from core.kernel.machine import CodeHolder, State
from tests.expression_world import WHERE, Program, scope
from tests.property.expression_trees import BOOL, INPUTS, INT, STRING

ROOT = Path(__file__).parent.parent.parent


def _code(text: str) -> Code:
    expression = check(text, scope(), WHERE)
    assembler = Assembler({read: slot for slot, read in enumerate(expression.inputs)})
    assembler.add(expression)
    return assembler.code()


def test_opcodes_are_numbered_alike_on_both_sides() -> None:
    source = (ROOT / "core/kernel/machine.pyx").read_text(encoding="utf-8")
    block = source[source.index("    OP_END = 0") : source.index("    OP_COUNT")]
    assert re.findall(r"OP_(\w+)", block) == [op.name for op in Opcode]
    assert [op.value for op in Opcode] == list(range(len(Opcode)))
    contract = (ROOT / "core/kernel/machine.pxd").read_text(encoding="utf-8")
    assert f"STACK = {STACK} " in contract


def test_equal_trees_share_a_number() -> None:
    names = scope()
    one, same, other = (check(text, names, WHERE) for text in ("customer.age>=18", "18 <=  18 ? customer.age >= 18 : false",
                                                                "customer.age > 18"))  # fmt: skip
    assembler = Assembler(dict.fromkeys(one.inputs, 0))
    assert assembler.add(one) == assembler.add(same) == 0
    assert assembler.add(other) == 1
    # A number that equals a truth value is another constant.
    assert assembler.add(Expression(Literal(1, INT), "")) != assembler.add(Expression(Literal(True, BOOL), ""))


def test_input_without_a_slot_is_our_fault() -> None:
    with pytest.raises(EngineFault, match=r"customer\.age has no slot"):
        Assembler({}).add(check("customer.age > 3", scope(), WHERE))


def test_tree_deeper_than_the_stack_is_our_fault_and_leaves_no_trace() -> None:
    deep: Node = Read(INPUTS[INT][0])
    for _ in range(STACK + 5):
        deep = Call("+", (Literal(1, INT), deep), INT)
    assembler = Assembler({INPUTS[INT][0]: 0})
    with pytest.raises(EngineFault, match="stack"):
        assembler.add(Expression(deep, ""))
    number = assembler.add(Expression(Call("+", (Literal(1, INT), Read(INPUTS[INT][0])), INT), ""))
    assert CodeHolder(assembler.code()).evaluate(number, [41]) == (State.PRESENT, 42)


@pytest.mark.parametrize(
    ("field", "index", "part", "value"),
    [
        ("instructions", 0, "op", 999),
        ("instructions", 0, "b", 60_000),
        ("instructions", 0, "a", 1000),
        ("instructions", 0, "a", -1),
        ("instructions", 1, "a", 0),
        ("instructions", 1, "a", 1000),
        ("instructions", -1, "op", int(Opcode.NOT)),
        ("instructions", 0, "op", int(Opcode.END)),
        ("instructions", 0, "op", int(Opcode.CONCAT)),
        ("instructions", 2, "op", int(Opcode.NOT)),
        ("starts", 0, None, 1000),
        ("kinds", 0, None, 0),
        ("text_lengths", 0, None, 1000),
        ("currencies", 0, None, 1000),
    ],
)
def test_damaged_code_is_refused(field: str, index: int, part: str | None, value: int) -> None:
    code = _code("customer.age >= 18 && customer.plan == 'gold' && customer.city == customer.first_name")
    assert len(CodeHolder(code)) == 1
    damaged = getattr(code, field).copy()
    if part is None:
        damaged[index] = value
    else:
        damaged[part][index] = value
    with pytest.raises(EngineFault):
        CodeHolder(dataclasses.replace(code, **{field: damaged}))


def test_only_the_assemblers_code_is_taken() -> None:
    with pytest.raises(TypeError, match=r"not dict"):
        CodeHolder({})  # type: ignore[arg-type]


def test_text_that_doubles_ends_at_its_limit() -> None:
    root: Node = Read(INPUTS[STRING][0])
    for _ in range(6):
        root = Call("+", (root, root), STRING)
    program = Program([root])
    source = INPUTS[STRING][0]
    assert program.run(0, {source: ""})[0] == ""
    # 64 times 1,024 bytes is the limit exactly.
    assert program.run(0, {source: "é" * 512})[0] == "é" * 32_768
    assert program.code.evaluate(0, ["x" * 1025])[0] == State.FAILED


def test_missing_text_and_money_render_as_nothing() -> None:
    expression = check("customer.balance * 2", scope(), WHERE)
    program = Program([expression.root])
    assert program.code.text(0, [None]) == ""
    assert program.code.text(0, [0.5]) == "1.00 EUR"


def test_assembler_gives_empty_code_for_no_expressions() -> None:
    code = Assembler({}).code()
    assert len(CodeHolder(code)) == 0
    assert code.instructions.dtype.itemsize == 8
    assert code.starts.dtype == np.uint32
    with pytest.raises(IndexError, match="there are 0 expressions"):
        CodeHolder(code).evaluate(0, [])


def test_kinds_of_results_are_told_apart() -> None:
    texts = {
        "customer.vip": Kind.BOOL, "customer.age": Kind.INT, "customer.income": Kind.DOUBLE, "customer.yen": Kind.MONEY,
        "customer.city": Kind.STRING, "now": Kind.TIMESTAMP, "now - now": Kind.DURATION, "customer.tags": Kind.SET,
    }  # fmt: skip
    for text, kind in texts.items():
        assert check(text, scope(), WHERE).type.kind is kind
        assert len(CodeHolder(_code(text))) == 1
