"""Model files that must not be served, and the reason each is refused with.

Structure is examined in this process; what could hurt whoever runs it (a hang, a file that eats memory) goes
through the child process as a deployment does, with smaller limits so that the test is short.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from core import limits
from core.errors import ModelError
from core.inference import package as packages
from core.inference import repository, trial
from tests import inference_models as models
from tests.sanitizing import not_sanitized

ONE = models.describe("  x: [customer.age]", "output: {kind: value}")


def examine(model: bytes, description: bytes = ONE) -> trial.Verdict:
    return trial.examine(packages.package("hostile", 1, model, description))


def refused(model: bytes, words: str, description: bytes = ONE) -> ModelError:
    with pytest.raises(ModelError, match=words) as caught:
        examine(model, description)
    assert caught.value.metadata["model"] == "hostile/1"
    return caught.value


def initialised(weights: onnx.TensorProto) -> bytes:
    """x + w, for any w that broadcasts."""
    return models.model([helper.make_node("Add", ["x", "w"], ["p"])], [models.tensor("x", TensorProto.FLOAT, [None, 1])],
                        [models.tensor("p", TensorProto.FLOAT, [None, 1])], [weights])


def test_a_good_file_passes() -> None:
    verdict = examine(models.linear([0.5]))
    assert verdict.bounded
    assert verdict.operators == ("Add", "MatMul")
    assert verdict.opsets == {"ai.onnx": 17, "ai.onnx.ml": 3}


@pytest.mark.parametrize("keep", [0.02, 0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused(keep: float) -> None:
    """At 95 % only a domain that nothing uses is lost, and the file is whole in all that matters: golden rows are for that."""
    whole = models.linear([0.5] * 40)
    description = models.describe(f"  x: [{', '.join(['now'] * 40)}]", "output: {kind: value}")
    assert examine(whole, description).nodes == 2
    refused(whole[: int(len(whole) * keep)], "not an ONNX model|holds no graph|does not hold|cannot be loaded", description)


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_file_is_served_or_refused_but_never_hurts(seed: int) -> None:
    """Flipped bytes may leave a valid file; whatever else happens is a ModelError."""
    random = numpy.random.default_rng(seed)
    damaged = bytearray(models.linear([0.5]))
    for place in random.integers(0, len(damaged), 3):
        damaged[place] ^= int(random.integers(1, 256))
    with contextlib.suppress(ModelError):
        assert examine(bytes(damaged)).nodes >= 1


@pytest.mark.parametrize("location", ["weights.bin", "../../etc/passwd", "/etc/passwd"])
def test_data_outside_the_file_is_refused(location: str) -> None:
    weights = numpy_helper.from_array(numpy.array([1.0], numpy.float32), "w")
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=location)
    error = refused(initialised(weights), "lies outside the file")
    assert location in str(error)


def test_a_tensor_that_declares_more_than_it_holds_is_refused() -> None:
    weights = numpy_helper.from_array(numpy.array([1.0], numpy.float32), "w")
    weights.dims[:] = [1 << 28]
    refused(initialised(weights), r"declares 1073741824 bytes; the limit is " + str(limits.MODEL_TENSOR_BYTES))
    weights.dims[:] = [2]
    refused(initialised(weights), "does not hold what its dimensions")
    weights.dims[:] = [-1]
    refused(initialised(weights), "negative dimension")


def test_weights_that_are_not_numbers_are_refused() -> None:
    refused(models.linear([float("nan")]), "initializer 'w' holds NaN")
    scaler = helper.make_node("Scaler", ["x"], ["p"], domain="ai.onnx.ml", scale=[float("nan")], offset=[0.0])
    refused(models.model([scaler], [models.tensor("x", TensorProto.FLOAT, [None, 1])],
                         [models.tensor("p", TensorProto.FLOAT, [None, 1])]), "attribute 'scale' .* holds NaN")


def test_nan_as_the_sign_of_a_missing_value_is_let_be() -> None:
    imputer = helper.make_node("Imputer", ["x"], ["p"], domain="ai.onnx.ml", imputed_value_floats=[0.5],
                               replaced_value_float=float("nan"))
    verdict = examine(models.model([imputer], [models.tensor("x", TensorProto.FLOAT, [None, 1])],
                                   [models.tensor("p", TensorProto.FLOAT, [None, 1])]))
    assert verdict.operators == ("ai.onnx.ml:Imputer",)


def test_operators_of_other_domains_are_refused() -> None:
    node = helper.make_node("StringUpper", ["x"], ["p"], domain="ai.onnx.contrib")
    refused(models.model([node], [models.tensor("x", TensorProto.FLOAT, [None, 1])],
                         [models.tensor("p", TensorProto.FLOAT, [None, 1])], domains=["ai.onnx.contrib"]),
            "operator 'StringUpper' is of domain 'ai.onnx.contrib'")
    node = helper.make_node("NoSuchThing", ["x"], ["p"])
    refused(models.model([node], [models.tensor("x", TensorProto.FLOAT, [None, 1])],
                         [models.tensor("p", TensorProto.FLOAT, [None, 1])]), "NoSuchThing")


def test_nodes_hidden_in_functions_are_counted() -> None:
    """Each function calls the one before ten times: eight short functions are ten million nodes, written out."""
    functions = []
    for level in range(7):
        calls = [helper.make_node("Neg" if level == 0 else f"f{level - 1}", ["a"], [f"b{place}"],
                                  domain="" if level == 0 else "own") for place in range(10)]
        functions.append(helper.make_function("own", f"f{level}", ["a"], ["b9"], calls,
                                              [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]))
    graph = helper.make_graph([helper.make_node("f6", ["x"], ["p"], domain="own")], "graph",
                              [models.tensor("x", TensorProto.FLOAT, [None, 1])],
                              [models.tensor("p", TensorProto.FLOAT, [None, 1])])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    made = helper.make_model(graph, functions=functions, opset_imports=opsets)
    refused(made.SerializeToString(), "more than 10000 nodes")


def test_a_tree_that_runs_in_a_circle_is_refused() -> None:
    node = helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["p"], domain="ai.onnx.ml", n_targets=1, nodes_treeids=[0, 0, 0],
        nodes_nodeids=[0, 1, 2], nodes_featureids=[0, 0, 0], nodes_values=[0.5, 0.5, 0.0],
        nodes_modes=["BRANCH_LEQ", "BRANCH_LEQ", "LEAF"], nodes_truenodeids=[1, 0, 0], nodes_falsenodeids=[2, 2, 0],
        target_treeids=[0], target_nodeids=[2], target_ids=[0], target_weights=[1.0])
    refused(models.model([node], [models.tensor("x", TensorProto.FLOAT, [None, 1])],
                         [models.tensor("p", TensorProto.FLOAT, [None, 1])]), "tree 0 .* runs in a circle at node 0")


@pytest.mark.parametrize(("description", "words"), [
    ("  y: [customer.age]", r"model.yaml:2:\d+: the file has no input 'y'"),
    ("  x: [customer.age, customer.job]", "takes 1 columns; 2 are bound"),
    ("  x: [customer.age]\n  z: [customer.age]", "the file has no input 'z'"),
    ("  x: {columns: [customer.job], missing: none}", "missing is 'none', and input 'x' is float32"),
])
def test_bindings_that_do_not_fit_the_file_are_refused(description: str, words: str) -> None:
    refused(models.linear([0.5]), words, models.describe(description, "output: {kind: value}"))


def test_a_golden_row_that_is_off_is_refused_with_both_numbers() -> None:
    golden = "output: {kind: value}\ngolden: [{inputs: {x: 4}, expect: 2.5}]"
    error = refused(models.linear([0.5]), "the golden row scored 2; 2.5 within 0.0001 was expected",
                    models.describe("  x: [customer.age]", golden))
    assert "model.yaml:4:10" in str(error)
    assert examine(models.linear([0.5]), models.describe("  x: [now]", golden.replace("2.5", "2"))).golden_rows == 1


def test_a_model_without_any_score_is_refused() -> None:
    plain = models.describe("  x: [customer.age]")
    error = refused(models.linear([0.5], bias=7.0), "no score for a row of zeros", plain)
    assert "output.kind: value" in error.hint


def test_a_model_past_its_budget_is_refused() -> None:
    """Counting to 20,000 in a loop takes milliseconds; a tenth of one is declared."""
    text = "budget_ms: 0.1\ngolden: [{inputs: {x: 20000}, expect: 0.5}]"
    refused(models.counting(), r"a run of 1 row takes .* ms; its budget is 0.1 ms", models.describe("  x: [now]", text))
    assert not examine(models.counting(), models.describe("  x: [now]", "golden: [{inputs: {x: 3}, expect: 0.5}]")).bounded


def through_a_child(model: bytes, description: bytes, **options: float) -> str:
    with pytest.raises(ModelError) as caught:
        trial.run(packages.package("hostile", 1, model, description), **options)  # type: ignore[arg-type]
    return str(caught.value)


def test_a_model_that_hangs_when_it_is_warmed_ends_with_its_child() -> None:
    text = models.describe("  x: [now]", "golden: [{inputs: {x: 9e9}, expect: 0.5}]")
    assert "more than 3 s of processor time" in through_a_child(models.counting(), text, processor_seconds=3)
    assert "did not end within 2 s" in through_a_child(models.counting(), text, patience_seconds=2.0)


@not_sanitized("AddressSanitizer ends a process that runs out of memory before the runtime can say so")
def test_a_model_that_eats_memory_ends_with_its_child() -> None:
    """Two matrices of 120,000 squared would take 107 GiB."""
    text = models.describe("  x: [now]", "golden: [{inputs: {x: 120000}, expect: 0.5}]")
    told = through_a_child(models.squaring(), text)
    assert "a run failed" in told or "memory" in told


def test_the_childs_reason_reaches_the_owner() -> None:
    told = through_a_child(models.linear([0.5])[:60], ONE)
    assert told.startswith("Model 'hostile/1': the file is not an ONNX model, or was cut off.")


def test_a_file_that_links_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "hostile" / "1"
    folder.mkdir(parents=True)
    (tmp_path / "elsewhere.onnx").write_bytes(models.linear([0.5]))
    (folder / "model.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    (folder / "model.yaml").write_bytes(ONE)
    (found,) = repository.scan(tmp_path).found
    with pytest.raises(ModelError, match="a link to a file outside"):
        repository.load(found)


def test_files_past_their_size_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "hostile" / "1"
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_bytes(ONE)
    with open(folder / "model.onnx", "wb") as file:
        file.truncate(limits.MODEL_BYTES + 1)  # sparse: it takes no disk
    (found,) = repository.scan(tmp_path).found
    with pytest.raises(ModelError, match="the limit is"):
        repository.load(found)
