"""The `bank` workload's model: gradient boosting, trained on generated customers and offers, as an ONNX file.

The data are drawn from the workload's own attributes and the outcome from a rule with interactions, so that the trees
are full and differ; what the model would be worth to a bank is not the question, what it costs to run is.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import GradientBoostingClassifier

from loadtest import attributes, offers
from loadtest.workload import Workload

ROWS = 5_000
GOLDEN = 3


def write(workload: Workload, folder: Path) -> Path:
    """Writes ``<folder>/<program>/1/model.onnx`` and ``model.yaml`` unless they stand there; returns ``folder``."""
    place = folder / offers.program_name(workload) / "1"
    if (place / "model.yaml").exists():
        return folder
    columns = offers.features(workload, attributes.of(workload))
    fields = offers.offer_fields(workload)
    generator = np.random.default_rng(workload.seed)
    drawn = []
    for column in columns:
        values, absent = column.draw(generator, ROWS)
        scale = 100.0 if column.kind == "money" else 1.0  # expressions read money in major units
        drawn.append(np.where(absent, -1.0, values.astype(np.float64) / scale))
    rows = np.column_stack([*drawn, generator.random((ROWS, len(fields)))]).astype(np.float32)
    ranks = rows.argsort(axis=0).argsort(axis=0) / ROWS  # every column counts, whatever its unit
    pull = ranks @ generator.normal(size=rows.shape[1])
    pull += 3 * ranks[:, 0:5].prod(axis=1) - 2 * ranks[:, 3] * ranks[:, -1]
    accepted = generator.random(ROWS) < 1 / (1 + np.exp(-(pull - np.quantile(pull, 0.9))))
    model = GradientBoostingClassifier(
        n_estimators=workload.model["trees"],
        max_depth=workload.model["depth"],
        subsample=0.5,
        random_state=workload.seed,
    )
    model.fit(rows, accepted)
    converted: Any = convert_sklearn(
        model,
        initial_types=[("features", FloatTensorType([None, rows.shape[1]]))],
        options={id(model): {"zipmap": False}},
        target_opset={"": 15, "ai.onnx.ml": 3},
    )
    expected = model.predict_proba(rows[:GOLDEN])[:, 1]
    golden = [
        {"inputs": {"features": [float(value) for value in row]}, "expect": float(score)}
        for row, score in zip(rows[:GOLDEN], expected, strict=True)
    ]
    texts = [f"customer.{column.name}" for column in columns] + [f"offer.{name}" for name in fields]
    description = {
        "scope": "offer",
        "inputs": {"features": [{"value": text, "missing": -1} for text in texts]},
        "output": {"name": "probabilities", "class": 1},
        "budget_ms": 100,
        "tolerance": 0.001,
        "golden": golden,
        "trained_on": f"{ROWS} generated rows, seed {workload.seed}, by loadtest/bank_model.py",
    }
    unfinished = place.with_name("unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    (unfinished / "model.onnx").write_bytes(converted.SerializeToString())
    (unfinished / "model.yaml").write_text(yaml.dump(description, Dumper=yaml.CSafeDumper, sort_keys=False))
    shutil.rmtree(place, ignore_errors=True)
    unfinished.rename(place)
    return folder
