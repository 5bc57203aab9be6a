"""Trains the sample model ``term_deposit_uptake``: will a bank's customer take a term deposit when asked?

    python models/train_term_deposit.py

On Bank Marketing (bank-full) where the shared data has it: the first 36,000 contacts in date order train, the
rest judge. What is known only during or after a call (its duration, the campaign's own course) is left out, since
a decision comes before it. Without that data: on 20,000 generated customers. Which of the two it was stands in
the written ``model.yaml``.

The model is a logistic regression over one numeric input. Categories become columns by expressions
(``customer.job == 'retired'`` reads as 0 or 1), which keeps texts out of the graph: one operator, some 2 us a run.
"""

from __future__ import annotations

from pathlib import Path

import numpy
import pandas
from evaluation import auc, lift
from packing import Row, data_folder, write
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

SEED = 20260901
TRAINING_ROWS = 36_000
JOBS = ("admin.", "blue-collar", "entrepreneur", "housemaid", "management", "retired", "self-employed", "services",
        "student", "technician", "unemployed")
MARITAL = ("divorced", "single")
EDUCATION = ("secondary", "tertiary")


def columns() -> list[tuple[str, float]]:
    """The model's columns in order: CEL, and what stands in for a missing value."""
    numbers = [("customer.age", 40.0), ("min(customer.age, 30)", 30.0), ("max(customer.age, 60)", 60.0),
               ("min(max(customer.balance, 0.0), 5000.0)", 450.0), ("customer.balance < 0.0", 0.0)]
    flags = [("customer.housing_loan", 0.0), ("customer.personal_loan", 0.0), ("customer.in_default", 0.0)]
    labels = [(f"customer.{name} == '{label}'", 0.0)
              for name, known in (("job", JOBS), ("marital", MARITAL), ("education", EDUCATION)) for label in known]
    return numbers + flags + labels


def features(data: pandas.DataFrame) -> numpy.ndarray:
    """The same columns from a table with bank-full's names."""
    parts = [data.age, data.age.clip(upper=30), data.age.clip(lower=60), data.balance.clip(0, 5000), data.balance < 0,
             data.housing == "yes", data.loan == "yes", data.default == "yes"]
    parts += [data[name] == label for name, known in (("job", JOBS), ("marital", MARITAL), ("education", EDUCATION))
              for label in known]
    return numpy.column_stack([part.to_numpy(dtype=numpy.float32) for part in parts])


def load() -> tuple[pandas.DataFrame, str]:
    """The customers, and what they are."""
    path = data_folder() / "bank-marketing" / "bank-full.csv.gz"
    if path.is_file():
        return pandas.read_csv(path, sep=";"), (
            "Bank Marketing (bank-full; Moro, Cortez, Rita 2014, doi 10.24432/C5K306, CC BY 4.0), the first 36,000 contacts in "
            "date order; duration and campaign history left out")
    random = numpy.random.default_rng(SEED)
    count = 45_000
    data = pandas.DataFrame({
        "age": random.normal(41, 11, count).round().clip(18, 95).astype(int),
        "job": random.choice((*JOBS, "unknown"), count),
        "marital": random.choice(("married", *MARITAL), count, p=(0.6, 0.12, 0.28)),
        "education": random.choice(("primary", *EDUCATION, "unknown"), count, p=(0.15, 0.51, 0.3, 0.04)),
        "balance": (random.gamma(0.5, 2700, count) - 150).round().astype(int),
        "housing": random.choice(("yes", "no"), count, p=(0.55, 0.45)),
        "loan": random.choice(("yes", "no"), count, p=(0.16, 0.84)),
        "default": random.choice(("yes", "no"), count, p=(0.02, 0.98)),
    })
    odds = -2.4 + 0.0001 * data.balance.clip(0, 5000) - 0.8 * (data.housing == "yes") - 0.6 * (data.loan == "yes")
    odds += 0.9 * (data.job == "student") + 0.8 * (data.job == "retired") + 0.4 * (data.education == "tertiary")
    data["y"] = numpy.where(random.random(count) < 1 / (1 + numpy.exp(-odds)), "yes", "no")
    return data, f"45,000 generated customers (seed {SEED}), the first 36,000 of them"


def main() -> None:
    data, source = load()
    x, y = features(data), (data.y == "yes").to_numpy(dtype=int)
    pipeline = Pipeline([("scale", StandardScaler()), ("model", LogisticRegression(C=0.1, max_iter=2000))])
    pipeline.fit(x[:TRAINING_ROWS], y[:TRAINING_ROWS])
    held = pipeline.predict_proba(x[TRAINING_ROWS:])[:, 1]
    quality = f"AUC {auc(held, y[TRAINING_ROWS:]):.3f}, lift of the best tenth {lift(held, y[TRAINING_ROWS:]):.2f}"
    print(f"{source}: {len(held)} held out, {quality}")
    exported = to_onnx(pipeline, initial_types=[("customer", FloatTensorType([None, x.shape[1]]))],
                       options={LogisticRegression: {"zipmap": False}}, target_opset=17)
    listed = "\n".join(f'      - {{value: "{text}", missing: {missing:g}}}' for text, missing in columns())
    head = f"""\
# Written by models/train_term_deposit.py.
scope: customer
inputs:
  customer:
    columns:
{listed}
output: {{name: probabilities, class: 1}}
fallback: {y[:TRAINING_ROWS].mean():.3f}
budget_ms: 2
trained_on: >-
  {source}. Held out: the {len(held)} contacts after, {quality}.
"""
    random = numpy.random.default_rng(SEED)
    rows: list[Row] = []
    for _ in range(8):
        age, balance = int(random.integers(18, 90)), int(random.integers(-500, 9000))
        row = [float(age), min(age, 30), max(age, 60), min(max(balance, 0), 5000), float(balance < 0)]
        row += [float(flag) for flag in random.integers(0, 2, 3)]
        for known in (JOBS, MARITAL, EDUCATION):
            chosen = random.integers(0, len(known) + 1)
            row += [float(place == chosen) for place in range(len(known))]
        rows.append({"customer": row})
    write(Path(__file__).parent / "term_deposit_uptake" / "1", exported.SerializeToString(), head, rows,
          lambda row: float(pipeline.predict_proba(numpy.array([row["customer"]], numpy.float32))[0, 1]))


if __name__ == "__main__":
    main()
