"""The schema that expression tests speak of, and helpers to run one expression through everything."""

from __future__ import annotations

from collections.abc import Mapping

from core.errors import Where
from core.expressions import Call, Expression, Input, Literal, Node, Read
from core.expressions.check import Scope, check
from core.expressions.lower import Assembler
from core.kernel.machine import CodeHolder, State
from core.schema import EventType, Field, Schema, ValueType
from tests.oracle_expressions import FAILED, MISSING, Present, Unknown, Value, evaluate

WHERE = Where("offers/test.yaml", 10, 7)


def _fields(*fields: Field) -> dict[str, Field]:
    return {one.name: one for one in fields}


SCHEMA = Schema(
    attributes=_fields(
        Field("age", ValueType.INT),
        Field("visits", ValueType.INT),
        Field("income", ValueType.DOUBLE),
        Field("score", ValueType.DOUBLE),
        Field("balance", ValueType.MONEY, currency="EUR"),
        Field("debt", ValueType.MONEY, currency="EUR"),
        Field("dollars", ValueType.MONEY, currency="USD"),
        Field("yen", ValueType.MONEY, currency="JPY"),
        Field("plan", ValueType.ENUM, labels=("bronze", "silver", "gold")),
        Field("first_name", ValueType.STRING),
        Field("city", ValueType.STRING),
        Field("vip", ValueType.BOOL),
        Field("child", ValueType.BOOL, protected=True),
        Field("since", ValueType.TIMESTAMP),
        Field("seen", ValueType.TIMESTAMP),
        Field("tags", ValueType.STRING_SET),
    ),
    facts=_fields(
        Field("call_reason", ValueType.STRING),
        Field("cart_total", ValueType.MONEY, currency="EUR"),
        Field("items", ValueType.INT),
    ),
    events={
        "purchase": EventType(
            "purchase",
            (
                Field("amount", ValueType.MONEY, currency="EUR"),
                Field("quantity", ValueType.INT),
                Field("invoice", ValueType.STRING),
                Field("kind", ValueType.ENUM, labels=("web", "shop")),
            ),
        ),
        "overdraft": EventType("overdraft"),
    },
    purposes=("marketing",),
    case_kinds=("complaint",),
)
OFFER_FIELDS: Mapping[str, float | str | bool | int] = {"margin": 0.25, "category": "books", "rank": 3, "new": True}


def scope() -> Scope:
    """A scope with an offer at hand, and one segment."""
    segments = {"grown": check("customer.age >= 18", Scope(SCHEMA), WHERE)}
    return Scope(SCHEMA, OFFER_FIELDS, segments, channels=("web", "email"))


class Program:
    """Some expressions compiled together, over one frame."""

    def __init__(self, roots: list[Node]) -> None:
        self.roots = roots
        self.slots: dict[Input, int] = {}
        for root in roots:
            for read in Expression(root, "").inputs:
                self.slots.setdefault(read, len(self.slots))
        assembler = Assembler(self.slots)
        self.numbers = [assembler.add(Expression(root, "")) for root in roots]
        self.code = CodeHolder(assembler.code())

    def frame(self, values: Mapping[Input, Value]) -> list[Present | None]:
        frame: list[Present | None] = [None] * len(self.slots)
        for read, slot in self.slots.items():
            value = values.get(read, MISSING)
            assert value is not FAILED, "an input is never failed"
            frame[slot] = None if isinstance(value, Unknown) else value
        return frame

    def run(self, position: int, values: Mapping[Input, Value]) -> tuple[Value, Input | None]:
        """The machine's value of one expression, and the input to blame when it is missing."""
        state, value = self.code.evaluate(self.numbers[position], self.frame(values))
        if state == State.PRESENT:
            assert value is not None
            return value, None
        if state == State.FAILED:
            return FAILED, None
        return MISSING, next(read for read, slot in self.slots.items() if slot == value)


def blamed(node: Node, values: Mapping[Input, Value]) -> Input:
    """The input whose absence makes a missing result so: the leftmost among arguments that are missing."""
    match node:
        case Read(input=read):
            return read
        case Call(op="?:", arguments=(condition, yes, no)):
            chosen = evaluate(condition, values)
            return blamed(condition if chosen is MISSING else yes if chosen is True else no, values)
        case Call(arguments=arguments):
            rest = [one for one in arguments if not (isinstance(one, Literal) and isinstance(one.value, tuple))]
            return blamed(next(one for one in rest if evaluate(one, values) is MISSING), values)
    raise AssertionError("nothing is missing here")


def same(a: Value, b: Value) -> bool:
    """Equal to the bit, apart from which NaN it is: -0.0 is not 0.0 here, and True is not 1."""
    return type(a) is type(b) and (repr(a) == repr(b) if isinstance(a, float) else a == b)
