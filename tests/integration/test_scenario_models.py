"""Scenarios 8 and 12: a model that hangs costs its own offers' scores and nothing else; a bad model is refused and the
old one serves throughout. They need real models in a real engine, so they are not data.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator

import pytest

from core.decision import DecideAnswer, DecideRequest, ExplainLevel, PlacementRequest
from core.errors import ModelError
from core.reasons import Reason, SlotStatus
from tests import inference_models
from tests.engine_subject import EngineSubject

NOW_US = 1_750_000_000_000_000
BUDGET_MS = 1000
PROGRAM = b"""
program: models
currency: EUR
schema:
  facts: {pace: double}
channels:
  web: {placements: {hero: {slots: 1, fallback: {title: Welcome}}, side: {slots: 1}}}
groups:
  all: {}
offers:
  - {offer: learned, group: all, propensity: {model: uptake}, value: 10, treatments: {web.hero: {title: Learned}}}
  - {offer: plain, group: all, propensity: 0.1, value: 10, treatments: {web.side: {title: Plain}}}
"""
# Counts up to the pace before it answers 1/2: the longer, the larger the fact.
DESCRIPTION = b"inputs:\n  x: [{value: facts.pace, missing: 2}]\nbudget_ms: 1000\n"
FOREVER = 1e9


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineSubject]:
    with EngineSubject(tmp_path_factory.mktemp("models")) as made:
        made.registry.deploy("uptake", 1, inference_models.counting(), DESCRIPTION)
        made.load({"program.yaml": PROGRAM}, NOW_US)
        yield made


def ask(*placements: str, pace: float | None = None, deadline_us: int | None = None) -> DecideRequest:
    return DecideRequest(
        channel="web",
        placements=tuple(PlacementRequest(name) for name in placements),
        facts={} if pace is None else {"pace": pace},
        explain=ExplainLevel.FULL,
        deadline_us=deadline_us,
        seed=1,
    )


def statuses(answer: DecideAnswer) -> dict[str, SlotStatus]:
    return {one.name: one.status for one in answer.placements}


def beside_others(subject: EngineSubject) -> DecideAnswer:
    """The answer to a caller whose model hangs, while other callers decide on the same engine and lose nothing."""
    late: list[DecideAnswer] = []
    hanging = ask("hero", "side", pace=FOREVER, deadline_us=100_000)
    caller = threading.Thread(target=lambda: late.append(subject.decide(hanging, NOW_US)))
    caller.start()
    others = [subject.decide(ask("side"), NOW_US) for _ in range(20)]
    caller.join()
    assert all(statuses(other) == {"side": SlotStatus.OK} for other in others)
    (answer,) = late
    return answer


def test_a_model_that_hangs_costs_its_own_offers_only(subject: EngineSubject) -> None:
    assert statuses(subject.decide(ask("hero", "side"), NOW_US)) == {"hero": SlotStatus.OK, "side": SlotStatus.OK}
    answer = beside_others(subject)
    for _ in range(9):
        # On a machine so busy that the caller wakes only after its deadline, every slot says so: then once more.
        if SlotStatus.FALLBACK_DEADLINE not in statuses(answer).values():
            break
        answer = beside_others(subject)
    assert statuses(answer) == {"hero": SlotStatus.FALLBACK_MODEL, "side": SlotStatus.OK}
    hero = answer.placements[0]
    assert dict(hero.fallback) == {"title": "Welcome"}
    assert {one.offer: one.reason for one in hero.rejections} == {
        "learned": Reason.MODEL_FAILED,
        "plain": Reason.PLACEMENT,
    }
    # The run would have taken its whole budget and more; the caller waited for his deadline only.
    assert answer.took_ns * 2 < BUDGET_MS * 1_000_000


def two_columns() -> tuple[bytes, bytes]:
    return inference_models.linear([0.5]), b"inputs:\n  x: [facts.pace, facts.pace]\n"


def not_a_number() -> tuple[bytes, bytes]:
    return inference_models.linear([math.nan]), DESCRIPTION


def truncated() -> tuple[bytes, bytes]:
    whole = inference_models.linear([0.5])
    return whole[: len(whole) // 2], DESCRIPTION


def unknown_input() -> tuple[bytes, bytes]:
    return inference_models.linear([0.5]), b"inputs:\n  x: [customer.age]\n"


@pytest.mark.parametrize("bad", [truncated, two_columns, not_a_number, unknown_input])
def test_a_bad_model_is_refused_and_the_old_one_serves(subject: EngineSubject, bad: Callable[[], tuple[bytes, bytes]]) -> None:
    before = subject.decide(ask("hero"), NOW_US)
    assert before.placements[0].offers[0].model == "uptake/1"
    with pytest.raises(ModelError) as refused:
        subject.registry.deploy("uptake", 2, *bad())
    assert "uptake/2" in str(refused.value)
    after = subject.decide(ask("hero"), NOW_US)
    assert after.placements == before.placements
    assert after.models == before.models
