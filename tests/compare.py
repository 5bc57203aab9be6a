"""Two answers to one request, compared: the engine's (or a server's) against the oracle's.

Statuses, offers and their order, content, prices, reasons, rules, details and inputs are compared exactly. Scores
are compared to a relative 1e-12: the kernel's exponential may differ from the C library's in the last two bits. Ids
and tokens are checked for being there and being different, not for what they are.
"""

from __future__ import annotations

import itertools
import math

from core.decision import DecideAnswer, DecidedOffer, ExplainLevel, Factors, PlacementAnswer, Rejection

# Two units in the last place of a double are 4.4e-16; a product of four and a sum of a dozen stay far below this.
RELATIVE = 1e-12
# Priorities that differ by less than this, yet differ, may change places between two right implementations.
NEAR_TIE = 1e-9


def same(left: float | None, right: float | None) -> bool:
    """Equal as scores; None only to None."""
    if left is None or right is None:
        return left is right
    return math.isclose(left, right, rel_tol=RELATIVE, abs_tol=1e-300)


def undecided(answer: DecideAnswer) -> bool:
    """Whether the order in a placement hangs on the last bits of two different scores: such a case proves nothing."""
    for placement in answer.placements:
        scores = [one.priority for one in placement.offers]
        scores += [one.priority for one in placement.rejections if one.priority is not None]
        scores.sort()
        for low, high in itertools.pairwise(scores):
            if low != high and math.isclose(low, high, rel_tol=NEAR_TIE, abs_tol=1e-290):
                return True
    return False


def differences(expected: DecideAnswer, got: DecideAnswer, level: ExplainLevel) -> list[str]:
    """What differs, one line each; empty when the answers agree."""
    found: list[str] = []
    _say(found, "known", expected.known, got.known)
    _say(found, "as_of_us", expected.as_of_us, got.as_of_us)
    _say(found, "digest", expected.digest, got.digest)
    _say(found, "placements", [one.name for one in expected.placements], [one.name for one in got.placements])
    for left, right in zip(expected.placements, got.placements, strict=False):
        _placement(found, left, right, level)
    instances = [one.instance for placement in got.placements for one in placement.offers]
    tokens = [one.token for placement in got.placements for one in placement.offers]
    if len(set(instances)) != len(instances) or len(set(tokens)) != len(tokens) or "" in tokens or 0 in instances:
        found.append(f"instances or tokens are not all different and present: {instances}, {tokens}")
    return found


def _say(found: list[str], what: str, expected: object, got: object) -> None:
    if expected != got:
        found.append(f"{what}: expected {expected!r}, got {got!r}")


def _placement(found: list[str], expected: PlacementAnswer, got: PlacementAnswer, level: ExplainLevel) -> None:
    at = expected.name
    _say(found, f"{at} status", expected.status, got.status)
    _say(found, f"{at} fallback", dict(expected.fallback), dict(got.fallback))
    if level is not ExplainLevel.NONE:
        _say(found, f"{at} summary", dict(expected.summary), {k: v for k, v in got.summary.items() if v})
    _say(found, f"{at} offers", [one.offer for one in expected.offers], [one.offer for one in got.offers])
    for left, right in zip(expected.offers, got.offers, strict=False):
        if left.offer == right.offer:
            _offer(found, f"{at} {left.offer}", left, right)
    reasons = {one.offer: one for one in got.rejections}
    _say(found, f"{at} rejected", [one.offer for one in expected.rejections], [one.offer for one in got.rejections])
    for one in expected.rejections:
        if one.offer in reasons:
            _rejection(found, f"{at} {one.offer}", one, reasons[one.offer])


def _offer(found: list[str], at: str, expected: DecidedOffer, got: DecidedOffer) -> None:
    _say(found, f"{at} group", expected.group, got.group)
    _say(found, f"{at} rank", expected.rank, got.rank)
    _say(found, f"{at} price", expected.price, got.price)
    _say(found, f"{at} content", dict(expected.content), dict(got.content))
    _say(found, f"{at} model", expected.model, got.model)
    if not same(expected.priority, got.priority):
        found.append(f"{at} priority: expected {expected.priority!r}, got {got.priority!r}")
    _factors(found, at, expected.factors, got.factors)


def _factors(found: list[str], at: str, expected: Factors | None, got: Factors | None) -> None:
    if expected is None or got is None:
        _say(found, f"{at} factors", expected, got)
        return
    for name in ("propensity", "context_percent", "value", "lever_percent"):
        left, right = getattr(expected, name), getattr(got, name)
        if not same(left, right):
            found.append(f"{at} {name}: expected {left!r}, got {right!r}")


def _rejection(found: list[str], at: str, expected: Rejection, got: Rejection) -> None:
    left = (expected.reason.name, expected.rule, expected.detail.name, expected.input)
    right = (got.reason.name, got.rule, got.detail.name, got.input)
    _say(found, f"{at} reason", left, right)
    if left == right:
        if not same(expected.priority, got.priority):
            found.append(f"{at} priority: expected {expected.priority!r}, got {got.priority!r}")
        if not same(expected.lowest_winner, got.lowest_winner):
            found.append(f"{at} lowest winner: expected {expected.lowest_winner!r}, got {got.lowest_winner!r}")
        _factors(found, at, expected.factors, got.factors)
