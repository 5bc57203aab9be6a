"""Trains on a real bank's phone campaigns and writes the model that the real-data experiment deploys.

    python models/train_bank_marketing.py FOLDER

FOLDER is a models folder (a scratch one: nothing trained on this data is committed); the version written is
``FOLDER/bank_marketing_uptake/1``. The data is bank-additional-full of Bank Marketing (Moro, Cortez, Rita 2014):
the first 30,000 contacts in date order train, the 11,188 after judge. The call's duration is left out, because it
is known only after the call.

One tensor an attribute, texts as texts: one-hot encoding and scaling are part of the graph, so the model file alone
says what becomes of a value, and a label never seen in training is all zeros.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy
import pandas
from evaluation import auc, lift
from packing import Row, data_folder, write
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

TRAINING_ROWS = 30_000
NAME = "bank_marketing_uptake"
# Attribute names of programs/real/bank_marketing, by the file's column names where they differ.
RENAMED = {"default": "in_default", "housing": "housing_loan", "loan": "personal_loan", "pdays": "days_since_contact",
           "poutcome": "previous_outcome", "emp.var.rate": "employment_variation_rate",
           "cons.price.idx": "consumer_price_index", "cons.conf.idx": "consumer_confidence_index",
           "euribor3m": "euribor_3m", "nr.employed": "employees"}
TEXTS = ("job", "marital", "education", "in_default", "housing_loan", "personal_loan", "contact", "month", "day_of_week",
         "previous_outcome")
NUMBERS = ("age", "campaign", "days_since_contact", "previous", "employment_variation_rate", "consumer_price_index",
           "consumer_confidence_index", "euribor_3m", "employees")
# How the file writes that there was no earlier contact. The import leaves such a value out, the model was fitted with it.
NEVER_CONTACTED = 999


@dataclass(frozen=True, slots=True)
class Experiment:
    """What was trained, and how it ranks the contacts after: scores and labels (0, 1) in date order."""

    pipeline: Pipeline
    held_out: pandas.DataFrame
    scores: numpy.ndarray
    labels: numpy.ndarray

    @property
    def auc(self) -> float:
        return auc(self.scores, self.labels)

    @property
    def top_decile_lift(self) -> float:
        return lift(self.scores, self.labels, 0.1)


def load() -> pandas.DataFrame:
    """The contacts in date order, columns named as the program's attributes. Raises FileNotFoundError without the data."""
    path = data_folder() / "bank-marketing" / "bank-additional-full.csv.gz"
    return pandas.read_csv(path, sep=";").drop(columns="duration").rename(columns=RENAMED)


def train(data: pandas.DataFrame) -> Experiment:
    """Fits on the first 30,000 rows, scores the rest."""
    pipeline = Pipeline([
        ("columns", ColumnTransformer([
            ("texts", OneHotEncoder(handle_unknown="ignore"), list(TEXTS)),
            ("numbers", StandardScaler(), list(NUMBERS)),
        ])),
        ("model", LogisticRegression(C=0.1, max_iter=3000)),
    ])
    table = data[[*TEXTS, *NUMBERS]].astype(dict.fromkeys(NUMBERS, float))
    labels = (data.y == "yes").to_numpy(dtype=int)
    pipeline.fit(table[:TRAINING_ROWS], labels[:TRAINING_ROWS])
    return Experiment(pipeline, table[TRAINING_ROWS:], pipeline.predict_proba(table[TRAINING_ROWS:])[:, 1],
                      labels[TRAINING_ROWS:])


def export(experiment: Experiment, folder: Path) -> Path:
    """Writes the version folder under a models folder; returns it."""
    kinds = [(name, StringTensorType([None, 1])) for name in TEXTS] + [(name, FloatTensorType([None, 1])) for name in NUMBERS]
    exported = to_onnx(experiment.pipeline, initial_types=kinds, target_opset=17,
                       options={LogisticRegression: {"zipmap": False}})
    inputs = [f"  {name}: {{columns: [customer.{name}], missing: unknown}}" for name in TEXTS]
    for name in NUMBERS:
        missing = f"{{columns: [customer.{name}], missing: {NEVER_CONTACTED}}}"
        inputs.append(f"  {name}: {missing if name == 'days_since_contact' else f'customer.{name}'}")
    head = "\n".join([
        "# Written by models/train_bank_marketing.py.",
        "scope: customer", "inputs:", *inputs,
        # The budget is far beyond a run's time: an experiment loses no contact to a machine that is busy with something else.
        "output: {name: probabilities, class: 1}", "budget_ms: 500",
        "trained_on: >-",
        "  Bank Marketing (bank-additional-full; Moro, Cortez, Rita 2014, doi 10.24432/C5K306, CC BY 4.0), the first 30,000",
        "  contacts in date order, without duration. Held out: the contacts after, "
        f"AUC {experiment.auc:.4f}, lift of the best tenth {experiment.top_decile_lift:.2f}.",
    ])
    written = folder / NAME / "1"
    write(written, exported.SerializeToString(), head, _golden(), lambda row: _expect(experiment.pipeline, row))
    return written


def _golden() -> list[Row]:
    """Made-up customers, one with labels the training never saw."""
    common = {"employment_variation_rate": [1.1], "consumer_price_index": [93.99], "consumer_confidence_index": [-36.4],
              "euribor_3m": [4.86], "employees": [5191]}
    first: Row = {
        "job": ["retired"], "marital": ["married"], "education": ["basic.4y"], "in_default": ["no"],
        "housing_loan": ["no"], "personal_loan": ["no"], "contact": ["cellular"], "month": ["oct"], "day_of_week": ["tue"],
        "previous_outcome": ["success"], "age": [67], "campaign": [1], "days_since_contact": [6], "previous": [2], **common,
    }
    second: Row = {**first, "job": ["technician"], "previous_outcome": ["nonexistent"], "month": ["may"],
                   "contact": ["telephone"], "age": [38], "campaign": [4], "days_since_contact": [NEVER_CONTACTED],
                   "previous": [0]}
    third: Row = {**second, "job": ["astronaut"], "education": ["unknown"], "day_of_week": [""], "euribor_3m": [0.7]}
    return [first, second, third]


def _expect(pipeline: Pipeline, row: Row) -> float:
    table = pandas.DataFrame({name: list(values) for name, values in row.items()})
    return float(pipeline.predict_proba(table)[0, 1])


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python models/train_bank_marketing.py FOLDER")
    experiment = train(load())
    written = export(experiment, Path(sys.argv[1]))
    print(f"scikit-learn on {len(experiment.labels)} later contacts: AUC {experiment.auc:.4f}, "
          f"lift of the best tenth {experiment.top_decile_lift:.2f}; written to {written}")


if __name__ == "__main__":
    main()
