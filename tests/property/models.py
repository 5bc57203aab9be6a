"""Small ONNX models whose outputs can be worked out by hand, and what the oracle thinks of them.

Weights and inputs are dyadic fractions of few bits, so single precision is exact and the oracle's doubles are the same
numbers. ``by_customer`` scores a customer once for all offers, ``by_offer`` each offer by its margin; ``shaky`` gives
NaN where the age is 3, and stands for a model that fails for some: its offers leave. ``padded`` has a fallback value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper

from core.expressions.expression import Input, InputKind, Kind, Type
from core.programs.program import Offer
from core.schema import Aggregate, AggregateFunction
from tests.oracle import ModelScore, Moment, OracleModel

DAY = 86_400 * 1_000_000
BOUGHT = Input(
    InputKind.AGGREGATE,
    "events.purchase.count_30d",
    Type(Kind.INT),
    Aggregate("purchase", AggregateFunction.COUNT, "", 30 * DAY),
)


@dataclass(frozen=True, slots=True)
class SmallModel:
    """One model as its two files, and as the oracle knows it."""

    name: str
    onnx: bytes
    description: bytes
    oracle: OracleModel


def small_models() -> list[SmallModel]:
    """All of them, version 1."""
    return [
        SmallModel(
            "by_customer",
            _linear([0.0078125, 0.0625], 0.125),
            _description("customer", ["{value: customer.age, missing: 4}", "events.purchase.count_30d"]),
            _scored("by_customer", lambda offer, moment: (_age(moment, 4), _bought(moment), 0.125)),
        ),
        SmallModel(
            "by_offer",
            _linear([0.0078125, 0.0625], 0.25),
            _description("offer", ["{value: offer.margin, missing: 0.5}", "events.purchase.count_30d"]),
            _scored("by_offer", lambda offer, moment: (_margin(offer), _bought(moment), 0.25)),
        ),
        SmallModel(
            "shaky",
            _undefined_at_three(),
            _description("customer", ["{value: customer.age, missing: 5}"]),
            lambda offer, moment: _unless_three(moment, "shaky"),
        ),
        SmallModel(
            "padded",
            _undefined_at_three(),
            _description("customer", ["{value: customer.age, missing: 5}"]) + b"fallback: 0.375\n",
            lambda offer, moment: _unless_three(moment, "padded") or ModelScore(0.375, fallback=True),
        ),
    ]


def _age(moment: Moment, missing: int) -> float:
    age = moment.customer.attributes.get("age")
    return missing if age is None else float(age)  # type: ignore[arg-type]  # declared int


def _bought(moment: Moment) -> float:
    return float(moment.read(BOUGHT))  # type: ignore[arg-type]  # a count is never missing


def _margin(offer: Offer) -> float:
    return float(offer.fields.get("margin", 0.5))


def _scored(name: str, terms: Callable[[Offer, Moment], tuple[float, float, float]]) -> OracleModel:
    def score(offer: Offer, moment: Moment) -> ModelScore:
        first, second, bias = terms(offer, moment)
        return ModelScore(min(1.0, max(0.0, 0.0078125 * first + 0.0625 * second + bias)), f"{name}/1")

    return score


def _unless_three(moment: Moment, name: str) -> ModelScore | None:
    return None if _age(moment, 5) == 3 else ModelScore(0.25, f"{name}/1")


def oracle_models() -> Mapping[str, OracleModel]:
    return {model.name: model.oracle for model in small_models()}


def _description(scope: str, columns: list[str]) -> bytes:
    return f"scope: {scope}\ninputs:\n  x: [{', '.join(columns)}]\noutput: {{name: y}}\nbudget_ms: 500\n".encode()


def _model(nodes: list[onnx.NodeProto], constants: Mapping[str, list[float]], columns: int) -> bytes:
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, columns])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])],
        [
            helper.make_tensor(name, TensorProto.FLOAT, [len(values), 1] if len(values) > 1 else [1], values)
            for name, values in constants.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def _linear(weights: list[float], bias: float) -> bytes:
    """``y = clip(x . weights + bias, 0, 1)``."""
    zero = helper.make_tensor("", TensorProto.FLOAT, [], [0.0])
    one = helper.make_tensor("", TensorProto.FLOAT, [], [1.0])
    return _model(
        [
            helper.make_node("Constant", [], ["zero"], value=zero),
            helper.make_node("Constant", [], ["one"], value=one),
            helper.make_node("MatMul", ["x", "w"], ["product"]),
            helper.make_node("Add", ["product", "b"], ["sum"]),
            helper.make_node("Clip", ["sum", "zero", "one"], ["y"]),
        ],
        {"w": weights, "b": [bias]},
        len(weights),
    )


def _undefined_at_three() -> bytes:
    """``y = 0.25 (x - 3) / (x - 3)``: NaN where x is 3."""
    return _model(
        [
            helper.make_node("Sub", ["x", "three"], ["d"]),
            helper.make_node("Div", ["d", "d"], ["unit"]),
            helper.make_node("Mul", ["unit", "quarter"], ["y"]),
        ],
        {"three": [3.0], "quarter": [0.25]},
        1,
    )
