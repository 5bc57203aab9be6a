"""How well scores rank: area under the ROC curve, and lift. Used by the training scripts and by experiments through
the engine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy


def auc(scores: Sequence[float], labels: Sequence[int]) -> float:
    """The probability that a positive scores above a negative, ties counting half (Mann and Whitney, 1947).

    ``labels`` are 0 or 1. Raises ValueError without at least one of each, or when lengths differ.
    """
    values = numpy.asarray(scores, dtype=float)
    truth = numpy.asarray(labels)
    positives = int((truth == 1).sum())
    negatives = len(truth) - positives
    if len(values) != len(truth):
        raise ValueError(f"{len(values)} scores and {len(truth)} labels")
    if positives == 0 or negatives == 0:
        raise ValueError("labels need at least one 0 and one 1")
    _, place, counts = numpy.unique(values, return_inverse=True, return_counts=True)
    # The mean rank of every distinct score: ties share it.
    ranks = (numpy.cumsum(counts) - (counts - 1) / 2)[place]
    return float((ranks[truth == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def lift(scores: Sequence[float], labels: Sequence[int], share: float = 0.1) -> float:
    """The rate of positives among the best-scored ``share`` of rows, divided by the rate among all.

    Rows with equal scores stay in their order. Raises ValueError for a share outside (0, 1], or without positives.
    """
    values = numpy.asarray(scores, dtype=float)
    truth = numpy.asarray(labels, dtype=float)
    if not 0.0 < share <= 1.0:
        raise ValueError(f"share {share} must lie in (0, 1]")
    if len(values) != len(truth) or truth.sum() == 0:
        raise ValueError("as many labels as scores are needed, and at least one 1")
    count = max(1, round(len(values) * share))
    best = numpy.argsort(-values, kind="stable")[:count]
    return float(truth[best].mean() / truth.mean())
