"""Goal: amounts and whole numbers are written with the digits that printf would give, whichever way they are written.

Method: the machine writes a money expression of random doubles, of whole cents, and of halves of a cent; Python's own
formatting (correctly rounded, as printf's) is the judge.
"""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from core.expressions.check import Scope, check
from tests.expression_world import SCHEMA, WHERE, Program

EUROS = Program([check("customer.balance", Scope(SCHEMA), WHERE).root])
YEN = Program([check("customer.yen", Scope(SCHEMA), WHERE).root])
VISITS = Program([check("customer.visits", Scope(SCHEMA), WHERE).root])
AMOUNTS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(10**15), 10**15).map(lambda minor: minor / 100.0),
    st.integers(-(10**9), 10**9).map(lambda minor: (minor + 0.5) / 100.0),
    st.integers(-(10**9), 10**9).map(lambda minor: minor / 100.0 + 0.0049),
)


@given(AMOUNTS)
@example(1.005)
@example(1.115)
@example(-0.0)
@example(-0.001)
@example(87_960_000_000.005)
def test_money_reads_as_printf_writes_it(amount: float) -> None:
    assert EUROS.code.text(0, [amount]) == f"{amount:.2f} EUR"
    assert YEN.code.text(0, [amount]) == f"{amount:.0f} JPY"


@given(st.integers(-(2**63), 2**63 - 1))
@example(-(2**63))
@example(0)
def test_whole_numbers_read_as_decimal(number: int) -> None:
    assert VISITS.code.text(0, [number]) == str(number)
