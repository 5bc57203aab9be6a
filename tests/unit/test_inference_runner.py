"""A runner converts, selects, calibrates and leaves unscored what has no score; and a late run costs its caller nothing.

Expected numbers are worked out by hand or by numpy; ONNX Runtime's own Python package is never in this process.
"""

from __future__ import annotations

import math
import threading
import time
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from core.errors import ModelError
from core.inference import pool
from core.inference.runner import Runner
from tests import inference_models as models


def score(model: bytes, rows: list[list[Any]], **options: Any) -> list[float]:
    runner = Runner("test/1", model, **{"value": True, "budget_ms": 60_000.0, **options})
    outcome, scores = runner.run({"x": rows}, timeout_ms=60_000)
    assert outcome == "SCORED"
    return scores


# --- conversion -----------------------------------------------------------------------------------------------

WHOLE: dict[int, tuple[int, int]] = {
    TensorProto.INT8: (-(2**7), 2**7 - 1), TensorProto.UINT8: (0, 2**8 - 1), TensorProto.INT16: (-(2**15), 2**15 - 1),
    TensorProto.UINT16: (0, 2**16 - 1), TensorProto.INT32: (-(2**31), 2**31 - 1), TensorProto.UINT32: (0, 2**32 - 1),
}


@pytest.mark.parametrize("element", WHOLE, ids=TensorProto.DataType.Name)
def test_whole_numbers_reach_the_model_or_leave_their_row_unscored(element: int) -> None:
    low, high = WHOLE[element]
    rows: list[list[Any]] = [[low], [high], [0], [3.7], [low - 1], [high + 1], [math.nan], [math.inf], ["3"], [None]]
    scores = score(models.passing(element), rows)
    assert scores[:4] == [low, high, 0, 3]
    assert all(map(math.isnan, scores[4:]))


def test_large_whole_numbers_and_bools() -> None:
    assert score(models.passing(TensorProto.INT64), [[2**53], [-(2.0**63)], [2.0**63], [1e300]])[:2] == [2**53, -(2.0**63)]
    assert list(map(math.isnan, score(models.passing(TensorProto.INT64), [[2.0**63], [1e300]]))) == [True, True]
    assert score(models.passing(TensorProto.UINT64), [[2.0**63]]) == [2.0**63]
    assert math.isnan(score(models.passing(TensorProto.UINT64), [[-1]])[0])
    assert score(models.passing(TensorProto.BOOL), [[0], [1], [-2.5]]) == [0, 1, 1]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.floats(width=64, allow_nan=False), min_size=1, max_size=20))
def test_halves_round_as_numpy_rounds(numbers: list[float]) -> None:
    with numpy.errstate(over="ignore"):
        half = [float(numpy.float16(number)) for number in numbers]
    scores = score(HALVES, [[number] for number in numbers])
    for number, wanted, got in zip(numbers, half, scores, strict=True):
        assert got == wanted or (math.isinf(wanted) and math.isnan(got)), number


HALVES = models.passing(TensorProto.FLOAT16)


def test_the_edges_of_halves() -> None:
    numbers = [65504.0, 65519.99, 2.0**-14, 2.0**-24, 2.0**-25, 1.5 * 2.0**-24, 2049.0, 2051.0, -0.0]
    assert score(HALVES, [[number] for number in numbers]) == [float(numpy.float16(number)) for number in numbers]


def test_texts_reach_the_model() -> None:
    # LabelEncoder gives each known text a number, others -1.
    encoder = models.model(
        [helper.make_node("LabelEncoder", ["x"], ["p"], domain="ai.onnx.ml", keys_strings=["retired", "Zürich", ""],
                                 values_floats=[1.0, 2.0, 3.0], default_float=-1.0)],
        [models.tensor("x", TensorProto.STRING, [None, 1])], [models.tensor("p", TensorProto.FLOAT, [None, 1])])
    long = "r" * 5000
    scores = score(encoder, [["retired"], ["Zürich"], [""], ["student"], [long], [5.0]])
    assert scores[:5] == [1, 2, 3, -1, -1]
    assert math.isnan(scores[5])


# --- selection ------------------------------------------------------------------------------------------------

LOGITS = [[0.0, 1.0, 2.0]]  # softmax of (0, x, 2x)


def softmax(x: float) -> list[float]:
    odds = [math.exp(x * weight) for weight in LOGITS[0]]
    return [odd / sum(odds) for odd in odds]


@pytest.mark.parametrize("labels", [[7, 8, 9], ["no", "maybe", "yes"]], ids=["int64", "string"])
def test_a_class_is_found_in_maps_by_its_key(labels: Any) -> None:
    model = models.zip_map(labels, LOGITS)
    for place, label in enumerate(labels):
        scores = score(model, [[0.25], [-1.0]], selected=label)
        assert scores == pytest.approx([softmax(0.25)[place], softmax(-1.0)[place]], abs=1e-6)


def test_a_key_that_is_not_there_is_told() -> None:
    runner = Runner("test/1", models.zip_map([7, 8, 9], LOGITS), selected=5, budget_ms=60_000.0)
    with pytest.raises(ModelError, match="do not have the key"):
        runner.measure({"x": [[1.0]]})
    assert runner.run({"x": [[1.0]]})[0] == "FAULTY"
    assert "do not have the key" in runner.fault


def test_two_columns_mean_no_and_yes_and_three_must_be_told() -> None:
    pair = models.model(
        [helper.make_node("Concat", ["x", "y"], ["p"], axis=1)],
        [models.tensor("x", TensorProto.FLOAT, [None, 1]), models.tensor("y", TensorProto.FLOAT, [None, 1])],
        [models.tensor("p", TensorProto.FLOAT, [None, 2])])
    runner = Runner("test/1", pair, budget_ms=60_000.0)
    assert runner.run({"x": [[0.25]], "y": [[0.75]]}) == ("SCORED", [0.75])
    with pytest.raises(ModelError, match="which column is the score is not said"):
        Runner("test/1", models.passing(TensorProto.FLOAT, 3))
    with pytest.raises(ModelError, match="does not have the column"):
        Runner("test/1", models.passing(TensorProto.FLOAT, 3), selected=3).measure({"x": [[1, 2, 3]]})


def test_labels_are_no_propensity_unless_declared() -> None:
    labels = models.model([helper.make_node("Cast", ["x"], ["p"], to=TensorProto.INT64)],
                          [models.tensor("x", TensorProto.FLOAT, [None, 1])], [models.tensor("p", TensorProto.INT64, [None, 1])])
    with pytest.raises(ModelError, match="labels, not propensities"):
        Runner("test/1", labels, output="p")
    assert score(labels, [[3.0]], output="p") == [3.0]


# --- scores ---------------------------------------------------------------------------------------------------


def test_what_is_no_propensity_leaves_its_row_unscored() -> None:
    rows: list[list[Any]] = [[0.25], [1.5], [-0.25], [math.nan], [math.inf], [None], [1.0000004], [1.0]]
    scores = score(models.passing(TensorProto.FLOAT), rows, value=False)
    assert [None if math.isnan(found) else found for found in scores] == [0.25, None, None, None, None, None, 1.0, 1.0]
    values = score(models.passing(TensorProto.FLOAT), rows)
    assert values[:3] == [0.25, 1.5, -0.25]
    assert all(map(math.isnan, values[3:6]))


def test_platt_scales_and_isotonic_interpolates() -> None:
    rows = [[-2.0], [0.0], [0.5], [0.75], [3.0]]
    scores = score(models.passing(TensorProto.DOUBLE), rows, value=False, platt=(-1.5, 0.25))
    assert scores == pytest.approx([1 / (1 + math.exp(-1.5 * x + 0.25)) for (x,) in rows], abs=1e-15)
    points = [(0.0, 0.125), (0.5, 0.25), (1.0, 1.0)]
    scores = score(models.passing(TensorProto.DOUBLE), rows, value=False, isotonic=points)
    assert scores == [0.125, 0.125, 0.25, 0.625, 1.0]


@pytest.mark.parametrize("rows", [1, 4, 5, 9])
def test_a_fixed_batch_is_padded_and_cut(rows: int) -> None:
    model = models.passing(TensorProto.FLOAT, 1, batch=4)
    assert Runner("test/1", model, value=True).batch == 4
    assert score(model, [[float(row)] for row in range(rows)]) == [float(row) for row in range(rows)]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=12), st.integers(0, 2**32))
def test_a_reused_job_never_shows_what_was_in_it_before(sizes: list[int], seed: int) -> None:
    """Jobs keep their buffers, and the runtime's tensors over them, from run to run."""
    random = numpy.random.default_rng(seed)
    for size in sizes:
        rows = random.integers(-8, 9, (size, 2)).tolist()
        assert LINEAR.run({"x": rows})[1] == [2 * a + 4 * b + 1 for a, b in rows]


LINEAR = Runner("linear/1", models.linear([2, 4], 1), value=True, budget_ms=60_000.0)


def test_rows_of_the_wrong_shape_are_told() -> None:
    with pytest.raises(ModelError, match="takes 2 columns; row 1 has 1"):
        LINEAR.run({"x": [[1, 2], [3]]})
    with pytest.raises(ModelError, match="no value for its input 'x'"):
        LINEAR.run({})
    with pytest.raises(ModelError, match="has no input 'y'"):
        LINEAR.run({"x": [[1, 2]], "y": [[1]]})
    with pytest.raises(ModelError, match="0 rows cannot be taken"):
        LINEAR.run({"x": []})


def test_widths_that_do_not_fit_are_told() -> None:
    with pytest.raises(ModelError, match="takes 2 columns; 3 are bound"):
        Runner("test/1", models.linear([2, 4]), widths={"x": 3})


# --- time -----------------------------------------------------------------------------------------------------


def until(condition: Any, seconds: float = 30.0) -> None:
    """Waits for a condition on another thread, with a bound."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        threading.Event().wait(0.002)


@pytest.mark.parametrize("build", [models.counting, models.squaring], ids=["a loop", "one huge node"])
def test_a_run_that_hangs_is_late_and_other_models_go_on(build: Any) -> None:
    hanging = Runner("hanging/1", build(), budget_ms=1000)
    other = Runner("other/1", models.linear([0.5]), budget_ms=1000)
    assert hanging.run({"x": [[2.0]]})[0] == "SCORED"
    far = 3e9 if build is models.counting else 2000.0
    assert hanging.run({"x": [[far]]}, timeout_ms=20) == ("LATE", [])
    under_way = hanging.stats()["in_flight"]
    for _ in range(50):
        assert other.run({"x": [[1.0]]}, timeout_ms=1000) == ("SCORED", [0.5])
    until(lambda: hanging.stats()["in_flight"] == 0)
    assert hanging.stats()["late"] == 1
    if build is models.squaring:
        # A multiplication of 2000 by 2000 cannot be stopped: the caller was gone while it was still under way.
        assert under_way == 1
    # The job comes back from the free list, its terminate flag lifted.
    assert hanging.run({"x": [[2.0]]})[0] == "SCORED"


def test_a_model_that_is_past_its_budget_is_busy_at_once_and_holds_few_threads() -> None:
    hanging = Runner("hanging/1", models.squaring(), budget_ms=50, in_flight=3)
    hanging.measure({"x": [[2.0]]}, repeats=1)
    outcomes = [hanging.run({"x": [[2500.0]]})[0] for _ in range(40)]
    assert outcomes[0] == "LATE"
    assert set(outcomes[1:]) <= {"BUSY", "LATE"}
    assert outcomes.count("BUSY") > outcomes.count("LATE")
    assert hanging.stats()["in_flight"] <= 3
    threads, _ = pool.gauge()
    assert threads <= 16
    until(lambda: hanging.stats()["in_flight"] == 0)


def test_many_callers_of_one_model_never_mix_their_rows() -> None:
    wrong: list[str] = []
    runner = Runner("shared/1", models.linear([1.0, 1000.0]), value=True, budget_ms=1000, in_flight=64)

    def call(seed: int) -> None:
        random = numpy.random.default_rng(seed)
        for _ in range(200):
            rows = random.integers(0, 500, (int(random.integers(1, 30)), 2))
            outcome, scores = runner.run({"x": rows.tolist()})
            if outcome == "SCORED" and scores != [float(a + 1000 * b) for a, b in rows]:
                wrong.append(f"seed {seed}")
            if outcome == "FAULTY":
                wrong.append(runner.fault)

    threads = [threading.Thread(target=call, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    until(lambda: runner.stats()["in_flight"] == 0)


def test_a_runner_may_go_while_its_late_run_is_under_way() -> None:
    """The worker holds the session; the memory goes when it lets go, and nothing else notices."""
    hanging = Runner("hanging/1", models.counting(), budget_ms=5)
    assert hanging.run({"x": [[1e9]]})[0] == "LATE"
    del hanging
    until(lambda: pool.gauge()[1] == 0)
    assert LINEAR.run({"x": [[1, 1]]}) == ("SCORED", [7.0])


def test_a_passed_deadline_starts_nothing() -> None:
    runner = Runner("idle/1", models.linear([1.0]), value=True)
    assert runner.run({"x": [[1.0]]}, timeout_ms=-1.0) == ("LATE", [])
    assert runner.stats()["runs"] == 0


def test_a_bounded_model_runs_where_it_is_asked_when_time_is_ample() -> None:
    runner = Runner("near/1", models.linear([1.0]), value=True, budget_ms=1000)
    runner.run_on_callers_thread(50_000.0, 0.0)
    assert runner.run({"x": [[1.0]]}, timeout_ms=100) == ("SCORED", [1.0])
    assert runner.stats()["inline_runs"] == 1
    # 50 us fit eight times into 0.4 ms; less time than that goes to another thread.
    runner.run({"x": [[1.0]]}, timeout_ms=0.39)
    assert runner.stats()["inline_runs"] == 1
