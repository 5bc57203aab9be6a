"""What a model file must be before anything runs it, read from its structure alone.

Runs inside the trial's child process only (`core.inference.trial`): parsing a hostile protobuf costs memory, and
the onnx package stays out of the server. ``onnx.checker`` is no gate, since it refuses files that the runtime
serves well (outputs without a declared type); these rules are:

*   it parses, has nodes, and stays inside the limits on nodes, tensors and their bytes, subgraphs and functions counted;
*   every operator is of ai.onnx, ai.onnx.ml or com.microsoft (the runtime's own), so no operator library is asked for;
*   no tensor lies outside the file, none declares other dimensions than it holds, none holds NaN (operators whose
    attributes use NaN as the sign of a missing value excepted);
*   no decision tree runs in a circle.

`prepare` then cuts the graph to the one output that is read. scikit-learn's exporters end in ZipMap, which builds
a map per row: for 100 rows that takes 780 us where the tensor it is made from takes 6 (measured with a logistic
model). So a ZipMap at the end is taken off and its class becomes a column. Nodes that only served other outputs
go as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from core import limits
from core.errors import ModelError, nearest

DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
# Graphs inside graphs: loops and branches people write are two deep.
SUBGRAPH_DEPTH: Final = 8

# Operators whose running time follows from the shapes of their inputs, and whose outputs' shapes follow from those of their
# inputs, never from the data. A model of nothing else can't hang, so it may run on the caller's thread.
BOUNDED: Final = frozenset({
    "Abs", "Add", "And", "ArgMax", "ArgMin", "BatchNormalization", "Cast", "Ceil", "Clip", "Concat", "Constant", "Conv", "Div",
    "Dropout", "Elu", "Equal", "Erf", "Exp", "Flatten", "Floor", "Gather", "Gemm", "Greater", "GreaterOrEqual", "HardSigmoid",
    "Identity", "IsInf", "IsNaN", "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual", "Log", "LogSoftmax", "MatMul",
    "Max", "Mean", "Min", "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSumExp",
    "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Round",
    "Selu", "Shape", "Sigmoid", "Sign", "Slice", "Softmax", "Softplus", "Softsign", "Split", "Sqrt", "Squeeze", "Sub", "Sum",
    "Tanh", "TopK", "Transpose", "Unsqueeze", "Where", "Xor",
    "ArrayFeatureExtractor", "Binarizer", "FeatureVectorizer", "Imputer", "LabelEncoder", "LinearClassifier",
    "LinearRegressor", "Normalizer", "OneHotEncoder", "SVMClassifier", "SVMRegressor", "Scaler", "TreeEnsembleClassifier",
    "TreeEnsembleRegressor", "ZipMap",
})  # fmt: skip
# Their attributes may hold NaN: it stands for "missing" there.
_NAN_ALLOWED: Final = frozenset({"Imputer", "LabelEncoder"})
# NaN as a constant of these marks or finds what is missing; anywhere else it would spread into every score.
_NAN_COMPARED: Final = frozenset({"Equal", "Where", "IsNaN"})


@dataclass(frozen=True, slots=True)
class Structure:
    """What a file holds. ``bounded``: its running time follows from the number of rows alone."""

    opsets: dict[str, int]
    nodes: int
    tensor_bytes: int
    operators: tuple[str, ...]
    bounded: bool
    producer: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file cut to one output: its bytes, the output's name, and how the score is found in it."""

    model: bytes
    output: str
    selected: int | str | None


def parse(label: str, data: bytes) -> onnx.ModelProto:
    """The file as a protobuf message. Raises ModelError when it is none."""
    try:
        model = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise ModelError(label, "the file is not an ONNX model, or was cut off",
                         "Copy it again, and compare its size with the original's.") from error
    if not model.HasField("graph") or not model.graph.node:
        raise ModelError(label, "the file holds no graph", "It was cut off, or is no ONNX model; copy it again.")
    return model


def inspect(label: str, model: onnx.ModelProto) -> Structure:
    """Checks a parsed file by the rules above. Raises ModelError at the first that it breaks."""
    walk = _Walk(label, {(function.domain, function.name): function for function in model.functions})
    walk.graph(model.graph, 0)
    return Structure(
        opsets={entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        nodes=walk.nodes,
        tensor_bytes=walk.tensor_bytes,
        operators=tuple(sorted(walk.operators)),
        bounded=walk.bounded,
        producer=f"{model.producer_name} {model.producer_version}".strip()[:80],
    )


class _Walk:
    """One pass over all graphs of a file, counting and refusing."""

    def __init__(self, label: str, functions: dict[tuple[str, str], Any]) -> None:
        self.label = label
        self.functions = functions
        self.nodes = 0
        self.tensor_bytes = 0
        self.operators: set[str] = set()
        self.bounded = True

    def graph(self, graph: Any, depth: int) -> None:
        if depth > SUBGRAPH_DEPTH:
            raise ModelError(self.label, f"its graphs are nested more than {SUBGRAPH_DEPTH} deep")
        readers: dict[str, set[str]] = {}
        for node in graph.node:
            for name in node.input:
                readers.setdefault(name, set()).add(node.op_type)
        for tensor in graph.initializer:
            compared = readers.get(tensor.name, {"?"}) <= _NAN_COMPARED
            self.tensor(tensor, f"initializer '{tensor.name}'", nan_allowed=compared)
        for sparse in graph.sparse_initializer:
            self.tensor(sparse.values, f"initializer '{sparse.values.name}'", nan_allowed=False)
            self.tensor(sparse.indices, f"initializer '{sparse.values.name}'", nan_allowed=False)
        self.body(graph.node, depth)

    def body(self, nodes: Any, depth: int) -> None:
        if depth > SUBGRAPH_DEPTH:
            raise ModelError(self.label, f"its functions and graphs are nested more than {SUBGRAPH_DEPTH} deep")
        for node in nodes:
            self.nodes += 1
            if self.nodes > limits.MODEL_NODES:
                raise ModelError(self.label, f"it has more than {limits.MODEL_NODES} nodes, functions written out",
                                 "Propensity models have tens; check the export.")
            self.node(node, depth)

    def node(self, node: Any, depth: int) -> None:
        function = self.functions.get((node.domain, node.op_type))
        if function is not None:
            self.body(function.node, depth + 1)
        elif node.domain not in DOMAINS:
            raise ModelError(
                self.label, f"operator '{node.op_type}' is of domain '{node.domain}', which needs an operator library",
                "Operator libraries are not loaded here; export the model for ai.onnx and ai.onnx.ml alone.")
        else:
            self.operators.add(f"{node.domain}:{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type)
            # com.microsoft's names overlap ai.onnx's; only its own graph rewrites are known to be bounded.
            self.bounded = self.bounded and node.op_type in BOUNDED and node.domain != "com.microsoft"
        where = f"node '{node.name or node.op_type}'"
        nan_allowed = node.op_type in _NAN_ALLOWED
        for attribute in node.attribute:
            if attribute.HasField("t"):
                self.tensor(attribute.t, f"attribute '{attribute.name}' of {where}", nan_allowed=nan_allowed)
            for tensor in attribute.tensors:
                self.tensor(tensor, f"attribute '{attribute.name}' of {where}", nan_allowed=nan_allowed)
            if attribute.HasField("sparse_tensor"):
                self.tensor(attribute.sparse_tensor.values, f"attribute '{attribute.name}' of {where}", nan_allowed=nan_allowed)
            if not nan_allowed and (math.isnan(attribute.f) or (
                len(attribute.floats) > 0 and bool(numpy.isnan(numpy.asarray(attribute.floats, dtype=numpy.float32)).any())
            )):
                raise _not_a_number(self.label, f"attribute '{attribute.name}' of {where}")
            if attribute.HasField("g"):
                self.graph(attribute.g, depth + 1)
            for graph in attribute.graphs:
                self.graph(graph, depth + 1)
        if node.op_type in ("TreeEnsembleClassifier", "TreeEnsembleRegressor"):
            self.forest(node, where)

    def tensor(self, tensor: Any, what: str, *, nan_allowed: bool) -> None:
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            told = {entry.key: entry.value for entry in tensor.external_data}
            raise ModelError(self.label, f"{what} lies outside the file, at '{told.get('location', '?')[:200]}'",
                             "Save the model with its data inside (onnx.save without external data).")
        count = 1
        for size in tensor.dims:
            if size < 0:
                raise ModelError(self.label, f"{what} has a negative dimension", "The file is damaged; export it again.")
            count *= size
        try:
            width = numpy.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
        except (KeyError, TypeError):
            width = 0
        if tensor.data_type == onnx.TensorProto.STRING:
            width = 1
        if width == 0:
            raise ModelError(self.label, f"{what} has element type {tensor.data_type}, which ONNX does not know",
                             "The file is damaged; export it again.")
        size_bytes = count * width
        if size_bytes > limits.MODEL_TENSOR_BYTES:
            raise ModelError(self.label, f"{what} declares {size_bytes} bytes; the limit is {limits.MODEL_TENSOR_BYTES}",
                             "Propensity models are far smaller; prune or quantise it.")
        self.tensor_bytes += size_bytes
        if self.tensor_bytes > limits.MODEL_BYTES * 2:
            raise ModelError(self.label, f"its tensors together take more than {limits.MODEL_BYTES * 2} bytes")
        try:
            values = numpy_helper.to_array(tensor)
        except (ValueError, TypeError) as error:
            raise ModelError(self.label, f"{what} does not hold what its dimensions {list(tensor.dims)} say",
                             "The file is damaged; export it again.") from error
        if not nan_allowed and values.dtype.kind == "f" and bool(numpy.isnan(values).any()):
            raise _not_a_number(self.label, what)

    def forest(self, node: Any, where: str) -> None:
        """Refuses trees with a circle: the runtime would walk it for ever."""
        parts: dict[str, Any] = {attribute.name: attribute.ints for attribute in node.attribute}
        names = ("nodes_treeids", "nodes_nodeids", "nodes_truenodeids", "nodes_falsenodeids")
        trees, ids, on_true, on_false = (list(parts.get(name, ())) for name in names)
        modes = next((list(attribute.strings) for attribute in node.attribute if attribute.name == "nodes_modes"), [])
        if not len(trees) == len(ids) == len(on_true) == len(on_false) == len(modes):
            raise ModelError(self.label, f"the trees of {where} have attributes of different lengths",
                             "The file is damaged; export it again.")
        children = {
            (tree, number): ((tree, yes), (tree, no))
            for tree, number, yes, no, mode in zip(trees, ids, on_true, on_false, modes, strict=True)
            if mode != b"LEAF"
        }
        done: set[tuple[int, int]] = set()
        for root in children:
            if root in done:
                continue
            path: set[tuple[int, int]] = set()
            stack = [(root, False)]
            while stack:
                place, leaving = stack.pop()
                if leaving:
                    path.discard(place)
                    done.add(place)
                elif place in path:
                    raise ModelError(self.label, f"tree {place[0]} of {where} runs in a circle at node {place[1]}",
                                     "The file is damaged; export it again.")
                elif place not in done and place in children:
                    path.add(place)
                    stack.append((place, True))
                    stack.extend((child, False) for child in children[place])


def _not_a_number(label: str, what: str) -> ModelError:
    return ModelError(label, f"{what} holds NaN", "The training diverged or the export failed; train it again.")


# --- cutting to one output ------------------------------------------------------------------------------------


def prepare(label: str, model: onnx.ModelProto, output: str, selected: int | str | None) -> Prepared:
    """Cuts a checked file to the output that is read, and takes a ZipMap off its end.

    ``output`` '' takes the only output that can be a score. Raises ModelError for an output or class that is not there.
    """
    graph = model.graph
    names = [entry.name for entry in graph.output]
    if not output:
        scores = [entry.name for entry in graph.output if _may_be_score(entry)]
        if len(scores) != 1:
            raise ModelError(label, "which of its outputs is the score is not said",
                             f"Name one under output.name in model.yaml; its outputs are {', '.join(names)}.")
        output = scores[0]
    elif output not in names:
        close = nearest(output, names)
        raise ModelError(label, f"it has no output '{output}'",
                         f"Did you mean '{close}'?" if close else f"Its outputs are {', '.join(names)}.")
    kept = next(entry for entry in graph.output if entry.name == output)
    last = next((node for node in graph.node if output in node.output), None)
    if last is not None and last.op_type == "ZipMap" and last.domain == "ai.onnx.ml":
        selected = _class_column(label, last, selected)
        source = last.input[0]
        last.Clear()
        last.op_type = "Identity"
        last.input.append(source)
        last.output.append(output)
        kept.ClearField("type")  # the runtime infers it
    del graph.output[:]
    graph.output.append(kept)
    # Files need not list nodes in the order they run, so what is needed is followed from producer to producer.
    producers = {name: place for place, node in enumerate(graph.node) for name in node.output if name}
    kept_nodes: set[int] = set()
    wanted = [output]
    while wanted:
        place = producers.get(wanted.pop())
        if place is not None and place not in kept_nodes:
            kept_nodes.add(place)
            wanted.extend(_reads(graph.node[place]))
    nodes = [graph.node[place] for place in sorted(kept_nodes)]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    return Prepared(model.SerializeToString(), output, selected)


def _may_be_score(entry: Any) -> bool:
    if not entry.HasField("type") or not entry.type.HasField("tensor_type"):
        return True
    return entry.type.tensor_type.elem_type in (
        onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16,
    )


def _reads(node: Any) -> Iterator[str]:
    """Names a node reads, those that its subgraphs take from around it included."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield from (entry.name for entry in graph.output)
            for inner in graph.node:
                yield from _reads(inner)


def _class_column(label: str, node: Any, selected: int | str | None) -> int:
    """The column of the class that is asked for, by the labels of a ZipMap."""
    labels: list[int | str] = []
    for attribute in node.attribute:
        if attribute.name == "classlabels_int64s":
            labels = list(attribute.ints)
        elif attribute.name == "classlabels_strings":
            labels = [text.decode("utf-8", "replace") for text in attribute.strings]
    told = ", ".join(str(name) for name in labels)
    if selected is None:
        if len(labels) == 2:
            return 1
        raise ModelError(label, f"which of its {len(labels)} classes is the propensity is not said",
                         f"Name one under output.class in model.yaml: {told}.")
    for column, name in enumerate(labels):
        # A text label such as '1' may be written without quotes.
        if name == selected or str(name) == str(selected):
            return column
    close = nearest(str(selected), [str(name) for name in labels])
    raise ModelError(label, f"it has no class '{selected}'",
                     f"Did you mean '{close}'?" if close else f"Its classes are {told}.")
