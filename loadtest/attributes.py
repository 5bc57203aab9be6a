"""The generated customer base's attributes: names, types, distributions, and their exact quantiles.

Numeric values are ``span * u ** skew`` with u uniform, so most customers lie near the low end, as spending and visits
do, and the share of customers under any bound is known in closed form. That is what lets the offers' generator aim at
a share of eligible offers without looking at the data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from loadtest.workload import KINDS, Workload

# Timestamps end here: a fixed day, so that the same seed gives the same file next year.
NEWEST = int(datetime(2026, 9, 1, tzinfo=UTC).timestamp())
FIVE_YEARS = 5 * 365 * 86_400

_NAMES = {
    "bool": (
        "newsletter", "app_user", "has_account", "card_on_file", "rates_products", "pays_by_invoice", "uses_coupons",
        "collects_in_shop", "gift_buyer", "returns_rarely", "adult", "business", "friend_referred", "wish_list",
    ),
    "enum": (
        "country", "tier", "lifecycle", "favourite_category", "device", "region", "entry_channel", "price_band",
        "payment", "language",
    ),
    "int": (
        "visits", "orders", "points", "items_bought", "days_since_order", "days_since_visit", "reviews", "returns",
        "baskets_left", "searches", "age", "household_size", "mails_opened", "mails_clicked", "brands_bought",
        "categories_bought",
    ),
    "double": (
        "discount_share", "return_rate", "conversion_rate", "session_minutes", "affinity_sport", "affinity_home",
        "affinity_fashion", "affinity_garden", "price_sensitivity", "churn_risk",
    ),
    "money": ("spent_year", "spent_ever", "basket_mean", "basket_max", "spent_month", "credit"),
    "timestamp": ("since", "last_order", "last_visit", "last_return", "last_mail"),
}  # fmt: skip

LABELS = 20
# The largest values, for the names above in turn.
_SPANS = {
    "int": (400, 100, 10_000, 1_000, 1_000, 400, 100, 40, 60, 1_000, 100, 8, 400, 200, 60, 40),
    "double": (1, 1, 1, 60, 1, 1, 1, 1, 1, 1),
    "money": (5_000, 50_000, 300, 2_000, 800, 1_000),
}
_SHARES = (0.9, 0.8, 0.7, 0.85)  # of customers for whom a flag is true
_SKEWS = (1.0, 2.0, 3.0)


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute and how its values are drawn.

    ``span`` is in the attribute's own unit (major units for money, seconds for timestamps); ``share_true`` is a bool's;
    ``missing`` the share of customers without a value.
    """

    name: str
    kind: str
    missing: float
    span: float = 0.0
    skew: float = 1.0
    share_true: float = 0.0
    labels: tuple[str, ...] = ()  # an enum's, all equally frequent

    def quantile(self, share: float) -> float:
        """The bound under which ``share`` of the known values lie, rounded as conditions write it."""
        raw = self.span * math.pow(share, self.skew)
        return max(0.001, round(raw, 3)) if self.kind == "double" else float(max(1, round(raw)))

    def share_below(self, bound: float) -> float:
        """The share of known values under ``bound``, whole numbers' steps included."""
        return math.pow(min(1.0, max(0.0, bound / self.span)), 1 / self.skew)

    def draw(self, generator: np.random.Generator, count: int) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.bool_]]:
        """Values and which of them are missing: bool, label number, int64, float64, cents, or seconds since 1970."""
        uniform = generator.random(count)
        absent = generator.random(count) < self.missing
        values: npt.NDArray[np.generic]
        match self.kind:
            case "bool":
                values = uniform < self.share_true
            case "enum":
                values = (uniform * LABELS).astype(np.int32)
            case "int":
                values = np.floor(self.span * uniform**self.skew).astype(np.int64)
            case "double":
                values = np.round(self.span * uniform**self.skew, 4)
            case "money":
                values = np.floor(self.span * 100 * uniform**self.skew).astype(np.int64)
            case _:
                values = (NEWEST - self.span + np.floor(self.span * uniform**self.skew)).astype(np.int64)
        return values, absent


def of(workload: Workload) -> list[Attribute]:
    """The workload's attributes, types in turn, so that the first twenty already hold every type."""
    queues = {kind: list(range(workload.attributes.get(kind, 0))) for kind in KINDS}
    found: list[Attribute] = []
    while any(queues.values()):
        for kind, queue in queues.items():
            if queue:
                found.append(_attribute(kind, queue.pop(0), workload.missing_share))
    return found


def _attribute(kind: str, number: int, missing: float) -> Attribute:
    if number >= len(_NAMES[kind]):
        raise ValueError(f"attributes: {kind}: only {len(_NAMES[kind])} have a name; add names to attributes.py.")
    name = _NAMES[kind][number]
    # Every second attribute is complete, as an order count is and an age is not.
    missing = missing if number % 2 else 0.0
    if kind == "bool":
        return Attribute(name, kind, missing, share_true=_SHARES[number % len(_SHARES)])
    if kind == "enum":
        return Attribute(name, kind, missing, labels=tuple(f"{name}_{label:02d}" for label in range(LABELS)))
    skew = _SKEWS[number % len(_SKEWS)]
    if kind == "timestamp":
        return Attribute(name, kind, missing, span=FIVE_YEARS, skew=1 / skew)  # most are recent
    return Attribute(name, kind, missing, span=_SPANS[kind][number], skew=skew)
