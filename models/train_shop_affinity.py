"""Trains the sample model ``shop_affinity``: will a visitor of a web shop take an offer that is shown?

    python models/train_shop_affinity.py

On 40,000 generated pairs of visitor and offer, from a fixed seed: no real shop is behind it. Scope offer: a row
for each offer, with columns of the visitor (equal in all rows) and of the offer. Gradient boosting finds the
thresholds that were put into the data, for example that frequent buyers take what has margin.
"""

from __future__ import annotations

from pathlib import Path

import numpy
from evaluation import auc, lift
from packing import Row, write
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import GradientBoostingClassifier

SEED = 20260902
ROWS = 40_000
TIERS = ("bronze", "silver", "gold")
# CEL, and what stands in for a missing value.
COLUMNS = (
    ("events.view.count_30d", 0.0), ("events.purchase.count_365d", 0.0), ("events.purchase.sum_amount_365d", 0.0),
    *((f"customer.loyalty_tier == '{tier}'", 0.0) for tier in TIERS),
    ("offer.margin", 0.35), ("offer.popularity", 0.3),
)


def generate(count: int, random: numpy.random.Generator) -> numpy.ndarray:
    """Rows with the columns above."""
    views = random.negative_binomial(1, 0.12, count)
    purchases = random.negative_binomial(1, 0.3, count)
    spent = numpy.round(purchases * random.gamma(2.0, 22.0, count), 2)
    tier = numpy.digitize(spent + random.normal(0, 40, count), (60, 180, 420))
    tiers = [(tier == place + 1).astype(float) for place in range(len(TIERS))]
    return numpy.column_stack([views, purchases, spent, *tiers, random.uniform(0.05, 0.6, count),
                               random.beta(1.5, 3.0, count)]).astype(numpy.float32)


def takes(x: numpy.ndarray, random: numpy.random.Generator) -> numpy.ndarray:
    """Whether each pair ended in a purchase."""
    odds = -3.4 + 0.5 * numpy.log1p(x[:, 0]) + 0.45 * numpy.log1p(x[:, 1]) + 0.3 * x[:, 5]
    odds += 2.2 * x[:, 7] - 1.2 * (x[:, 6] > 0.45) * (x[:, 1] < 2) + 0.8 * (x[:, 1] >= 4) * (x[:, 2] > 150)
    return (random.random(len(x)) < 1 / (1 + numpy.exp(-odds))).astype(int)


def main() -> None:
    random = numpy.random.default_rng(SEED)
    x = generate(ROWS, random)
    y = takes(x, random)
    cut = ROWS * 3 // 4
    model = GradientBoostingClassifier(n_estimators=40, max_depth=3, learning_rate=0.15, subsample=0.8, random_state=SEED)
    model.fit(x[:cut], y[:cut])
    held = model.predict_proba(x[cut:])[:, 1]
    quality = f"AUC {auc(held, y[cut:]):.3f}, lift of the best tenth {lift(held, y[cut:]):.2f}"
    print(f"{len(held)} held out, {quality}")
    exported = to_onnx(model, initial_types=[("pair", FloatTensorType([None, x.shape[1]]))],
                       options={GradientBoostingClassifier: {"zipmap": False}}, target_opset=17)
    listed = "\n".join(f'      - {{value: "{text}", missing: {missing:g}}}' for text, missing in COLUMNS)
    head = f"""\
# Written by models/train_shop_affinity.py.
scope: offer
inputs:
  pair:
    columns:
{listed}
output: {{name: probabilities, class: 1}}
fallback: {y[:cut].mean():.3f}
budget_ms: 5
trained_on: >-
  {cut} generated pairs of visitor and offer (seed {SEED}); no real shop. Held out: {len(held)} more, {quality}.
"""
    rows: list[Row] = [{"pair": [float(f"{cell:g}") for cell in row]} for row in generate(8, random)]
    write(Path(__file__).parent / "shop_affinity" / "1", exported.SerializeToString(), head, rows,
          lambda row: float(model.predict_proba(numpy.array([row["pair"]], numpy.float32))[0, 1]))


if __name__ == "__main__":
    main()
