"""Workload: how many customers and offers, and how they are drawn. One YAML file under loadtest/workloads/ each.

Everything generated follows from these numbers and the seed, so a figure measured with a workload can be measured
again anywhere. Workloads that share ``customers``, ``attributes``, ``missing_share`` and ``seed`` share one customer
base, and so one import.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

FOLDER = Path(__file__).parent / "workloads"

LAYERS = ("eligibility", "applicability", "suitability")
CALLS = ("decide", "record", "tell")
KINDS = ("bool", "enum", "int", "double", "money", "timestamp")


@dataclass(frozen=True, slots=True)
class Workload:
    """One benchmark's parameters; the names are the YAML's keys."""

    name: str
    customers: int
    attributes: Mapping[str, int]  # how many of each type
    offers: int
    groups: int
    eligible_share: float  # of the offers, for a customer, on average
    conditions_on_groups: Mapping[str, int]  # by layer: conditions each group has, felt by all its offers
    conditions_on_offers: Mapping[str, int]  # by layer: conditions each offer has of its own
    attributes_in_conditions: int = 20
    thresholds: int = 64  # numeric conditions compare with one of so many quantiles, which bounds distinct conditions
    missing_share: float = 0.03  # of the values of attributes that conditions do not need to be whole
    caps: Mapping[str, int] = field(default_factory=dict)  # by scope: at most so many shown in 7 days
    features: int = 20  # of the logistic propensity
    model: Mapping[str, int] = field(default_factory=dict)  # trees, depth, features: an ONNX model scores instead
    placements: int = 1  # filled by one decision
    slots: int = 3  # of each placement
    calls: Mapping[str, float] = field(default_factory=lambda: {"decide": 1.0})  # over the wire: shares of CALLS
    seed: int = 1

    @property
    def conditions(self) -> int:
        """Conditions that an offer must pass, its group's included."""
        return sum(self.conditions_on_groups.values()) + sum(self.conditions_on_offers.values())

    @property
    def base(self) -> str:
        """Names the customer base: equal for workloads that share one."""
        counts = "-".join(f"{self.attributes.get(kind, 0)}" for kind in KINDS)
        return f"customers-{self.customers}-{counts}-{round(self.missing_share * 1000)}-{self.seed}"


def names() -> list[str]:
    """The workloads there are."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str) -> Workload:
    """Reads ``workloads/<name>.yaml``; ValueError names the key that is wrong."""
    path = FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise ValueError(f"There is no workload '{name}'. There are: {', '.join(names())}.")
    document = yaml.safe_load(path.read_text())
    known = {entry.name for entry in dataclasses.fields(Workload)} - {"name"}
    if wrong := set(document) - known:
        raise ValueError(f"{path.name}: unknown key '{min(wrong)}'. Known are: {', '.join(sorted(known))}.")
    workload = Workload(name=name, **document)
    _check(workload, path.name)
    return workload


def _check(workload: Workload, file: str) -> None:
    def refuse(key: str, problem: str) -> None:
        raise ValueError(f"{file}: {key}: {problem}.")

    if not 0 < workload.eligible_share < 1:
        refuse("eligible_share", "must lie between 0 and 1")
    if not 0 <= workload.missing_share < 0.5:
        refuse("missing_share", "must lie between 0 and 0.5")
    if not 0 < workload.groups <= workload.offers:
        refuse("groups", "must be between 1 and the number of offers")
    for key in ("conditions_on_groups", "conditions_on_offers"):
        if wrong := set(getattr(workload, key)) - set(LAYERS):
            refuse(key, f"there is no layer {wrong.pop()}; layers are {', '.join(LAYERS)}")
    if wrong := set(workload.attributes) - set(KINDS):
        refuse("attributes", f"there is no type {wrong.pop()}; types are {', '.join(KINDS)}")
    if wrong := set(workload.calls) - set(CALLS):
        refuse("calls", f"there is no call {wrong.pop()}; calls are {', '.join(CALLS)}")
    if not workload.calls.get("decide") or min(workload.calls.values()) < 0:
        refuse("calls", "decide needs a share, and no share may be negative")
    if not 1 <= workload.placements <= 64:
        refuse("placements", "must be between 1 and 64")
    if workload.attributes_in_conditions > sum(workload.attributes.values()):
        refuse("attributes_in_conditions", "more than there are attributes")
    if workload.conditions < 1:
        refuse("conditions_on_offers", "an offer needs at least one condition to reach the eligible share")
