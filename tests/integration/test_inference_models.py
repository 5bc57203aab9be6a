"""The sample models deploy as they lie in the repository, answer as they should, and fifty releases leave no memory behind."""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy
import pytest
from onnx import TensorProto, helper, numpy_helper

from core.inference import package as packages
from core.inference import trial
from core.inference.description import describe
from core.inference.package import Scope
from core.inference.registry import Registry, State
from core.inference.runner import Runner
from tests import inference_models as models

MODELS = Path(__file__).resolve().parents[2] / "models"


def script(name: str) -> ModuleType:
    """A file of models/, which is no package: its scripts find each other in their own folder."""
    sys.path.insert(0, str(MODELS))
    try:
        spec = importlib.util.spec_from_file_location(name, MODELS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(MODELS))


def test_the_sample_models_are_live_after_one_scan(tmp_path: Path) -> None:
    for name in ("term_deposit_uptake", "shop_affinity"):
        (tmp_path / name).symlink_to(MODELS / name)
    registry = Registry(tmp_path, settle_seconds=0.0)
    assert [(version.label, version.state, version.cause) for version in registry.scan()] == [
        ("shop_affinity/1", State.LIVE, ""), ("term_deposit_uptake/1", State.LIVE, "")]
    live = registry.live()
    assert live["term_deposit_uptake"].binding.per_customer
    assert live["shop_affinity"].description.scope is Scope.OFFER
    for model in live.values():
        assert model.runner.on_callers_thread
        assert 0.0 < (model.fallback or 0.0) < 0.5
        assert len(model.description.golden) == 8
        assert sum(len(columns) for columns in model.description.inputs.values()) == len(model.binding.columns)
        assert (MODELS / model.name / "1" / "model.onnx").stat().st_size < 50_000


def resident_kib() -> int:
    # What earlier tests freed and malloc kept would take the place of what is measured.
    ctypes.CDLL(None).malloc_trim(0)
    text = Path("/proc/self/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1])


def growth_kib(keep: bool, releases: int = 50) -> int:
    """What so many releases of one model leave behind, when their runners are kept or let go."""
    look_up = [helper.make_node("Cast", ["x"], ["place"], to=TensorProto.INT64),
               helper.make_node("Gather", ["w", "place"], ["p"])]
    weights = numpy_helper.from_array(numpy.linspace(0, 1, 1 << 20, dtype=numpy.float32), "w")
    heavy = models.model(look_up, [models.tensor("x", TensorProto.FLOAT, [None, 1])],
                         [models.tensor("p", TensorProto.FLOAT, [None, 1])], [weights])
    source = packages.package("heavy", 1, heavy, models.describe("  x: [now]", "budget_ms: 1000"))
    description = describe(source)
    verdict = trial.examine(source)
    kept: list[Runner] = []

    def release() -> None:
        runner = trial.runner_of(source, description, verdict)
        runner.measure({"x": [[1.0]] * 500}, repeats=1)
        if keep:
            kept.append(runner)

    for _ in range(5):
        release()
    gc.collect()
    before = resident_kib()
    for _ in range(releases):
        release()
    gc.collect()
    return resident_kib() - before


def test_fifty_releases_give_their_memory_back() -> None:
    """Each holds 4 MiB of weights. Kept, ten of them show; let go, fifty show less than those ten."""
    held = growth_kib(keep=True, releases=10)
    assert held > 10 * 4096 * 0.8, "the measurement sees what is held"
    assert growth_kib(keep=False) < held


def test_fifty_rollbacks_hold_two_versions() -> None:
    text = models.describe("  x: [now]", "output: {kind: value}\nbudget_ms: 1000")
    registry = Registry(None)
    for version in (1, 2):
        registry.deploy("uptake", version, models.linear([float(version)]), text)
    runners = {registry.live()["uptake"].runner}
    for turn in range(50):
        live = registry.live()
        assert registry.rollback("uptake").version == (1 if turn % 2 == 0 else 2)
        assert live["uptake"].version != registry.live()["uptake"].version
        runners.add(registry.live()["uptake"].runner)
    assert len(runners) == 2


def test_area_and_lift_of_rankings_worked_out_by_hand() -> None:
    evaluation = script("evaluation")
    assert evaluation.auc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]) == 0.75
    assert evaluation.auc([0.5, 0.5, 0.5], [0, 1, 1]) == 0.5
    assert evaluation.auc([3, 2, 1], [1, 0, 0]) == 1.0
    assert evaluation.lift([9, 8, 7, 6, 5, 4, 3, 2, 1, 0], [1, 0, 0, 0, 1, 0, 0, 0, 0, 0], 0.1) == 5.0
    for scores, labels in (([1.0], [1]), ([1.0, 2.0], [1])):
        with pytest.raises(ValueError, match="labels"):
            evaluation.auc(scores, labels)


def test_a_real_banks_campaign_ranks_through_the_runner_as_in_scikit_learn(tmp_path: Path) -> None:
    """Trained on the first 30,000 contacts, exported, deployed as an owner would, and the later 11,188 scored."""
    training = script("train_bank_marketing")
    try:
        data = training.load()
    except FileNotFoundError:
        pytest.skip("the shared data's bank-marketing is not here")
    experiment = training.train(data)
    training.export(experiment, tmp_path)
    registry = Registry(tmp_path, settle_seconds=0.0)
    (version,) = registry.scan()
    assert (version.state, version.cause) == (State.LIVE, "")
    runner = registry.live()[training.NAME].runner
    columns = {name: [[cell] for cell in experiment.held_out[name].tolist()] for name in (*training.TEXTS, *training.NUMBERS)}
    _, scores = runner.measure(columns, repeats=1)
    assert max(abs(score - wanted) for score, wanted in zip(scores, experiment.scores, strict=True)) < 1e-5
    assert training.auc(scores, experiment.labels) == pytest.approx(experiment.auc, abs=1e-4)
    assert experiment.auc > 0.6
    assert experiment.top_decile_lift > 1.5
    assert os.path.getsize(tmp_path / training.NAME / "1" / "model.onnx") < 50_000
