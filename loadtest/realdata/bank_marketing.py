"""Bank Marketing: a model ranks clients through the engine as scikit-learn ranks them.

A propensity model is trained on the first 30,000 contacts in date order without the call's duration, deployed, and one
placement is decided for each of the 11,188 clients after. Area under the curve and lift are taken from the propensities
in the answers, and from scikit-learn's own predict_proba. Clients of the older file are decided for too, and each answer
must say the balance that the file has.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from core.decision import DecideAnswer, DecideRequest, Identifier, PlacementRequest
from core.engine import Engine
from core.reasons import SlotStatus
from loadtest import report
from loadtest.realdata import published

ADDITIONAL = "bank-marketing/bank-additional-full.csv.gz"
FULL = "bank-marketing/bank-full.csv.gz"
# Figures of quality are equal when they are to so many digits: a model file computes in 32 bit, scikit-learn in 64.
DIGITS = 4


@dataclass(frozen=True, slots=True)
class Bank:
    """Bank Marketing through the engine. Arrays hold one cell a client that was decided for, in date order."""

    imported: dict[str, int]  # rows in the store, by file
    labels: np.ndarray  # 1: subscribed
    engine: np.ndarray  # propensities in the answers
    sklearn: np.ndarray  # predict_proba of the same clients
    auc: tuple[float, float]  # by the engine's propensities, by scikit-learn's
    lift: tuple[float, float]  # of the best tenth, likewise
    balances: int  # clients of the older file whose answer says the file's balance
    mean_balance: float  # of those answers
    took_us: tuple[float, float]  # a decision with its model inside the kernel: median and 99th percentile

    @property
    def largest_difference(self) -> float:
        """Between a propensity of the engine and scikit-learn's."""
        return float(np.abs(self.engine - self.sklearn).max())

    @property
    def differences(self) -> list[str]:
        """What does not agree; empty when everything does."""
        found = [
            f"{name}: {ours:.6f} through the engine, {theirs:.6f} by scikit-learn"
            for name, (ours, theirs) in (("AUC", self.auc), ("lift", self.lift))
            if f"{ours:.{DIGITS}f}" != f"{theirs:.{DIGITS}f}"
        ]
        if self.balances != self.imported["full"]:
            found.append(f"balance: {self.balances:,} of {self.imported['full']:,} answers say what the file has")
        return found

    def figures(self) -> dict[str, object]:
        """Everything that is kept of the run, as JSON takes it, unrounded."""
        return {
            "imported": self.imported,
            "decided": len(self.engine),
            "auc": self.auc,
            "lift": self.lift,
            "largest_difference": self.largest_difference,
            "subscribed": float(self.labels.mean()),
            "balances_equal": self.balances,
            "mean_balance": self.mean_balance,
            "took_us": self.took_us,
        }

    def table(self) -> str:
        """The run as a person reads it."""
        rate = float(self.labels.mean())
        best = [f"{100 * rate * each:.1f} %" for each in self.lift]
        rows = [
            ["area under the curve", *(f"{each:.{DIGITS}f}" for each in self.auc)],
            ["lift of the best tenth", *(f"{each:.{DIGITS}f}" for each in self.lift)],
            [f"subscribed in it (of all: {100 * rate:.1f} %)", *best],
        ]
        said = (
            f"Largest difference of a propensity {self.largest_difference:.1e}; a decision took "
            f"{self.took_us[0]:.0f} us (median), {self.took_us[1]:.0f} us (99th percentile).\n"
            f"Older file: {self.balances:,} of {self.imported['full']:,} answers say the file's balance, "
            f"mean {self.mean_balance:.3f} EUR.\n"
        )
        trained = self.imported["additional"] - len(self.engine)
        head = f"Bank Marketing, {len(self.engine):,} clients decided for, after the {trained:,} trained on"
        return f"{head}\n{report.table(['ranking of the clients', 'engine', 'scikit-learn'], rows)}\n{said}"


def decide(folder: Path) -> Bank:
    """Imports both files into a store under ``folder`` (empty), trains, deploys, decides. Raises FileNotFoundError."""
    files = {"additional": published.data(ADDITIONAL), "full": published.data(FULL)}
    training, evaluation = published.scripts("train_bank_marketing"), published.scripts("evaluation")
    trained = training.train(training.load())
    version = training.export(trained, folder / "trained")
    with published.opened(folder) as engine:
        reports = {name: published.import_file(engine, "bank_marketing", name, path) for name, path in files.items()}
        engine.registry.deploy(
            training.NAME, 1, (version / "model.onnx").read_bytes(), (version / "model.yaml").read_bytes()
        )
        published.load(engine, "bank_marketing")
        # A client's identifier is the number of its row, counted from 1; the table's index counts from 0.
        answers = [_call(engine, f"additional-{row + 1}") for row in trained.held_out.index]
        propensities = np.array([_propensity(answer) for answer in answers])
        balances = [_balance(_call(engine, f"full-{row + 1}")) for row in range(reports["full"].rows)]
    took_us = np.array([answer.took_ns for answer in answers]) / 1000
    filed = pd.read_csv(files["full"], sep=";")["balance"]
    ours, theirs = (propensities, trained.labels), (trained.scores, trained.labels)
    return Bank(
        imported={name: done.applied for name, done in reports.items()},
        labels=trained.labels,
        engine=propensities,
        sklearn=trained.scores,
        auc=(evaluation.auc(*ours), evaluation.auc(*theirs)),
        lift=(evaluation.lift(*ours), evaluation.lift(*theirs)),
        balances=sum(said == whole * 100 for said, whole in zip(balances, filed.tolist(), strict=True)),
        mean_balance=sum(balances) / 100 / len(balances),
        took_us=(float(np.percentile(took_us, 50)), float(np.percentile(took_us, 99))),
    )


def _call(engine: Engine, client: str) -> DecideAnswer:
    return engine.decide(
        DecideRequest(
            channel="call_centre",
            placements=(PlacementRequest("agent_prompt", slots=1),),
            identifiers=(Identifier("client", client),),
        )
    )


def _propensity(answer: DecideAnswer) -> float:
    (placement,) = answer.placements
    (offer,) = placement.offers or (None,)
    if offer is None or offer.offer != "term_deposit" or placement.status is not SlotStatus.OK:
        raise RuntimeError(f"a client of the newer file was answered {placement}, not the term deposit")
    return offer.factors.propensity


def _balance(answer: DecideAnswer) -> int:
    """In cents, as the agent reads it."""
    (placement,) = answer.placements
    (offer,) = placement.offers or (None,)
    if offer is None or offer.offer != "balance_talk":
        raise RuntimeError(f"a client of the older file was answered {placement}, not the talk about the balance")
    return published.hundredths(offer.content["balance"])
