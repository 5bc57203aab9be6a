"""Goal: the machine, the constants worked out at checking, and the parts for the index all mean what the oracle means.

Method: random typed trees over random values, many missing. Hypothesis draws the seeds and prints the failing one.
`RAPPORT_CASES` scales the runs.
"""

from __future__ import annotations

import os
import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from core.expressions import Call, Expression, Kind, Literal
from core.expressions.conditions import Op, split
from core.expressions.fold import AlwaysFails, fold
from tests.expression_world import Program, blamed, same
from tests.oracle_expressions import FAILED, MISSING, as_text, evaluate
from tests.property.expression_trees import BOOL, TYPES, literal, tree, values_for

RUNS = max(20, int(os.environ.get("RAPPORT_CASES", "10000")) // 50)
seeds = st.integers(0, 2**48)


@settings(max_examples=RUNS, deadline=None)
@given(seeds)
def test_machine_equals_oracle_to_the_bit(seed: int) -> None:
    chance = random.Random(seed)
    program = Program([tree(chance, chance.choice(TYPES), chance.randint(1, 6)) for _ in range(8)])
    for missing in (0.0, 0.1, 0.5):
        values = values_for(chance, missing)
        for position, root in enumerate(program.roots):
            wanted = evaluate(root, values)
            value, blame = program.run(position, values)
            assert same(value, wanted), f"{root}\n{values}\nmachine {value!r}, oracle {wanted!r}"
            if wanted is MISSING:
                assert blame == blamed(root, values)
            if root.type.kind is not Kind.DURATION:
                text = program.code.text(program.numbers[position], program.frame(values))
                assert text == as_text(wanted, root.type.kind, root.type.currency)


@settings(max_examples=RUNS, deadline=None)
@given(seeds)
def test_constant_equals_oracle(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(30):
        shape = tree(chance, chance.choice(TYPES), 2)
        if not isinstance(shape, Call):
            continue
        parts = tuple(
            one if isinstance(one, Literal) and isinstance(one.value, tuple)
            else Literal(literal(chance, one.type).value, one.type)
            for one in shape.arguments
            if one.type.kind is not Kind.SET
        )
        if len(parts) != len(shape.arguments) or shape.op in ("?:", "&&", "||", "has"):
            continue
        call = Call(shape.op, parts, shape.type)
        wanted = evaluate(call, {})
        try:
            folded = fold(call)
        except AlwaysFails:
            assert wanted is FAILED, call
            continue
        if isinstance(folded, Literal):
            # Constants are never -0.0; everything else is the same to the bit.
            assert same(folded.value, wanted) or folded.value == wanted == 0, call  # type: ignore[arg-type]
        else:
            assert folded is call


@settings(max_examples=RUNS, deadline=None)
@given(seeds)
def test_parts_hold_together_exactly_when_the_whole_holds(seed: int) -> None:
    chance = random.Random(seed)
    wholes = [Expression(tree(chance, BOOL, chance.randint(1, 5)), "") for _ in range(6)]
    parts = [split(whole) for whole in wholes]
    roots = [[atom.expression.root for atom in atoms] + [one.root for one in rest] for atoms, rest in parts]
    for missing in (0.0, 0.2, 0.6):
        values = values_for(chance, missing)
        for whole, pieces in zip(wholes, roots, strict=True):
            together = all(evaluate(piece, values) is True for piece in pieces)
            assert together == (evaluate(whole.root, values) is True), f"{whole.root}\n{pieces}\n{values}"


def test_generators_reach_every_state_and_every_kind_of_atom() -> None:
    # A law that random trees never try proves nothing.
    chance = random.Random(1)
    states: Counter[str] = Counter()
    ops: Counter[Op] = Counter()
    for _ in range(2_000):
        root = tree(chance, BOOL, 5)
        states[str(evaluate(root, values_for(chance, 0.2)))] += 1
        ops.update(atom.op for atom in split(Expression(root, ""))[0])
    assert all(states[state] > 50 for state in ("True", "False", str(MISSING), str(FAILED))), states
    assert all(ops[op] > 0 for op in Op), ops
