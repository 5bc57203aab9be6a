"""Small ONNX models, good and hostile, built node by node; and descriptions that bind them.

Every model's answer can be worked out by hand: `linear` is a weighted sum, `counting` counts its input in a loop,
so that a row decides how long a run takes, and `squaring` multiplies two matrices as large as its input says,
which nothing can interrupt.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

ZOO = Path(
    os.environ.get("RAPPORT_SHARED_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data"
) / "onnx-zoo"


def model(nodes: Sequence[onnx.NodeProto], inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto],
          initializers: Sequence[onnx.TensorProto] = (), *, domains: Sequence[str] = (), ir_version: int = 8) -> bytes:
    """A model of these nodes, for opset 17 and ai.onnx.ml 3."""
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    opsets += [helper.make_opsetid(domain, 1) for domain in domains]
    made = helper.make_model(graph, opset_imports=opsets, producer_name="rapport-tests")
    made.ir_version = ir_version
    return bytes(made.SerializeToString())


def tensor(name: str, element: int, shape: Sequence[int | str | None]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, element, shape)


def linear(weights: Sequence[float], bias: float = 0.0, *, element: int = TensorProto.FLOAT) -> bytes:
    """``p = x · weights + bias`` for x of any number of rows; weights in the input's own element type."""
    kind = helper.tensor_dtype_to_np_dtype(element)
    return model(
        [helper.make_node("MatMul", ["x", "w"], ["s"]), helper.make_node("Add", ["s", "b"], ["p"])],
        [tensor("x", element, [None, len(weights)])], [tensor("p", element, [None, 1])],
        [numpy_helper.from_array(numpy.array(weights, kind).reshape(-1, 1), "w"),
         numpy_helper.from_array(numpy.array([bias], kind), "b")],
    )


def passing(element: int, width: int = 1, batch: int | None = None) -> bytes:
    """The input as the output, as a double."""
    return model([helper.make_node("Cast", ["x"], ["p"], to=TensorProto.DOUBLE)], [tensor("x", element, [batch, width])],
                 [tensor("p", TensorProto.DOUBLE, [batch, width])])


def counting() -> bytes:
    """For each row 1/2, after counting to the first row's x in a loop: a run takes as long as x says."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["going"], ["goes_on"]), helper.make_node("Add", ["count", "one"], ["counted"])],
        "body",
        [tensor("step", TensorProto.INT64, []), tensor("going", TensorProto.BOOL, []),
         tensor("count", TensorProto.FLOAT, [1])],
        [tensor("goes_on", TensorProto.BOOL, []), tensor("counted", TensorProto.FLOAT, [1])],
    )
    return model(
        [
            helper.make_node("Slice", ["x", "from", "to"], ["first"]),
            helper.make_node("Cast", ["first"], ["whole"], to=TensorProto.INT64),
            helper.make_node("Reshape", ["whole", "scalar"], ["trips"]),
            helper.make_node("Loop", ["trips", "yes", "none"], ["total"], body=body),
            helper.make_node("Mul", ["total", "none"], ["nothing"]),
            helper.make_node("Mul", ["x", "zero"], ["zeros"]),
            helper.make_node("Add", ["zeros", "nothing"], ["sum"]),
            helper.make_node("Sigmoid", ["sum"], ["p"]),
        ],
        [tensor("x", TensorProto.FLOAT, [None, 1])], [tensor("p", TensorProto.FLOAT, [None, 1])],
        [
            numpy_helper.from_array(numpy.array([0], numpy.int64), "from"),
            numpy_helper.from_array(numpy.array([1], numpy.int64), "to"),
            numpy_helper.from_array(numpy.array([], numpy.int64), "scalar"),
            numpy_helper.from_array(numpy.array(True), "yes"),
            numpy_helper.from_array(numpy.array([0.0], numpy.float32), "none"),
            numpy_helper.from_array(numpy.array(0.0, numpy.float32), "zero"),
            numpy_helper.from_array(numpy.array([1.0], numpy.float32), "one"),
        ],
    )


def squaring() -> bytes:
    """For each row 1/2, after multiplying two matrices of the first row's x by x: one node that no flag stops."""
    return model(
        [
            helper.make_node("Slice", ["x", "from", "to"], ["first"]),
            helper.make_node("Cast", ["first"], ["whole"], to=TensorProto.INT64),
            helper.make_node("Reshape", ["whole", "one_long"], ["side"]),
            helper.make_node("Concat", ["side", "side"], ["shape"], axis=0),
            helper.make_node("ConstantOfShape", ["shape"], ["matrix"]),
            helper.make_node("MatMul", ["matrix", "matrix"], ["product"]),
            helper.make_node("ReduceMax", ["product"], ["most"], keepdims=0),
            helper.make_node("Mul", ["x", "zero"], ["zeros"]),
            helper.make_node("Add", ["zeros", "most"], ["sum"]),
            helper.make_node("Sigmoid", ["sum"], ["p"]),
        ],
        [tensor("x", TensorProto.FLOAT, [None, 1])], [tensor("p", TensorProto.FLOAT, [None, 1])],
        [
            numpy_helper.from_array(numpy.array([0], numpy.int64), "from"),
            numpy_helper.from_array(numpy.array([1], numpy.int64), "to"),
            numpy_helper.from_array(numpy.array([1], numpy.int64), "one_long"),
            numpy_helper.from_array(numpy.array(0.0, numpy.float32), "zero"),
        ],
    )


def zip_map(labels: Sequence[int] | Sequence[str], logits: Sequence[Sequence[float]]) -> bytes:
    """A softmax over ``logits`` (columns of weights for x) ending in ZipMap."""
    whole = isinstance(labels[0], int)
    sequence = helper.make_sequence_type_proto(helper.make_map_type_proto(
        TensorProto.INT64 if whole else TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, [])))
    zipped = helper.make_node("ZipMap", ["p"], ["maps"], domain="ai.onnx.ml")
    zipped.attribute.append(helper.make_attribute("classlabels_int64s" if whole else "classlabels_strings", list(labels)))
    return model(
        [helper.make_node("MatMul", ["x", "w"], ["s"]), helper.make_node("Softmax", ["s"], ["p"], axis=1),
         zipped],
        [tensor("x", TensorProto.FLOAT, [None, len(logits)])], [helper.make_value_info("maps", sequence)],
        [numpy_helper.from_array(numpy.array(logits, numpy.float32), "w")],
    )


def describe(inputs: str, rest: str = "") -> bytes:
    """A description: lines under ``inputs``, and whatever else."""
    return f"inputs:\n{inputs}\n{rest}\n".encode()
