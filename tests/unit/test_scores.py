"""A model's score kept as an attribute: for everybody, again for who changed, again by a new version, and never for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from core import limits
from core.decision import DecideRequest, Event, Identifier, PlacementRequest
from core.errors import ModelError, ProgramError
from core.hub.committer import Committer
from core.hub.mutations import Erase, Mutation, Upsert
from core.programs import image
from core.scores import Scores
from core.sweep import NEVER, Bands, Retention, Sweep
from tests.engine_subject import EngineSubject
from tests.property.models import SmallModel, small_models

SECOND = 1_000_000
DAY = 86_400 * SECOND
NOW = 1_800_000_000 * SECOND
MODELS = {model.name: model for model in small_models()}

PROGRAM = """
program: p
schema:
  namespaces: {crm: {trust: 1}}
  attributes: {age: int, risk: double, name: string, shared: {type: double, sources: [a]}}
  facts: {cart: int}
  events: {purchase: {}}
  offer_fields: {margin: double}
scores: {churn: {model: by_customer, into: risk}}
segments: {risky: customer.risk >= 0.25}
channels: {web: {placements: {hero: {slots: 1}}}}
groups: {g: }
offers: [{offer: o, group: g, value: 1, propensity: 0.5, treatments: {web.hero: {a: "{{ customer.risk }}"}}}]
"""


class Scored:
    """A program with a score, and its task in a sweep without a thread."""

    def __init__(self, subject: EngineSubject) -> None:
        self.subject = subject
        subject.clock_us = NOW
        self.failed: list[BaseException] = []
        self.sweep = Sweep(clock_us=lambda: subject.clock_us, on_error=lambda name, error: self.failed.append(error))
        self.task = Scores(subject.engine, self.sweep.wake)
        self.sweep.add(self.task)

    def load(self, text: str = PROGRAM) -> None:
        self.subject.load({"program.yaml": text.encode()}, NOW)

    def settle(self) -> int:
        """Does all that is due; customers visited, with what writing counts for."""
        total = 0
        while True:
            visited, rest = self.sweep.turn()
            total += visited
            if not visited and rest:
                return total

    def risk(self, number: int) -> object:
        profile = self.subject.store.profile(who(number))
        assert profile is not None
        return profile.attributes.get("risk")


@pytest.fixture
def scored(tmp_path: Path) -> Iterator[Scored]:
    with EngineSubject(tmp_path) as subject:
        deploy(subject, "by_customer", 1)
        made = Scored(subject)
        yield made
        made.sweep.stop()


def deploy(subject: EngineSubject, name: str, version: int, like: str = "") -> None:
    model: SmallModel = MODELS[like or name]
    subject.registry.deploy(name, version, model.onnx, model.description)


def who(number: int) -> tuple[Identifier, ...]:
    return (Identifier("crm", str(number)),)


def test_everybody_is_scored_and_who_changes_again(scored: Scored) -> None:
    """The model says 0.125 + age / 128 + purchases of 30 days / 16; without an age it takes 4."""
    subject = scored.subject
    scored.load()
    for number in range(600):
        subject.upsert(who(number), {"age": number % 50} if number else {}, NOW)
    scored.settle()
    assert not scored.failed
    assert [scored.risk(number) for number in (0, 1, 599)] == [0.125 + 4 / 128, 0.125 + 1 / 128, 0.125 + 49 / 128]
    quiet = subject.store.applied
    assert scored.settle() == 0, "his own writes are looked at once and then it is quiet"
    assert scored.task.due_us(NOW) == NOW + limits.SWEEP_MOVED_US, "the window of 30 days moves"
    subject.tell(who(7), [Event("purchase", "k", NOW, {})], NOW)
    scored.settle()
    assert scored.risk(7) == 0.125 + 7 / 128 + 1 / 16
    assert subject.store.applied == quiet + 2, "the event, and one score"
    # The decision reads what is kept.
    (placement,) = subject.decide(DecideRequest("web", (PlacementRequest("hero"),), who(7)), NOW).placements
    assert placement.offers[0].content["a"] == str(0.125 + 7 / 128 + 1 / 16)
    # And time takes the purchase out of the window again.
    subject.clock_us = NOW + 31 * DAY
    scored.settle()
    assert scored.risk(7) == 0.125 + 7 / 128


def test_what_the_sweep_writes_is_not_taken_for_online(scored: Scored, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores, edges of bands and retention queued as if somebody waited for them, so a feed beside a program with scores had the
    few rows a commit that it has beside online writes."""
    subject, written, submit = scored.subject, set[str](), Committer.submit
    scored.sweep.add(Bands(subject.engine, lambda: subject.clock_us))
    scored.sweep.add(Retention(subject.store))
    scored.load(PROGRAM.replace("{purchase: {}}", "{purchase: {}}\n  retention: {purchase: 30d}").replace(
        "segments:", "bands: {old: {of: customer.age, parts: 4}}\nsegments:"))
    for number in range(20):
        subject.upsert(who(number), {"age": number}, NOW)
    subject.tell(who(7), [Event("purchase", "k", NOW, {})], NOW)
    subject.clock_us = NOW + 31 * DAY

    def noted(self: Committer, mutation: Mutation, *, background: bool = False) -> Future[Any]:
        assert background, f"{type(mutation).__name__} counts as online"
        written.add(type(mutation).__name__)
        return submit(self, mutation, background=background)

    monkeypatch.setattr(Committer, "submit", noted)
    scored.settle()
    assert not scored.failed
    assert written == {"Upsert", "SetBands", "DropOldEvents"}


def test_a_new_version_scores_everybody_anew(scored: Scored) -> None:
    subject = scored.subject
    scored.load()
    subject.upsert(who(1), {"age": 64}, NOW)
    scored.settle()
    assert scored.risk(1) == 0.625
    subject.registry.deploy("by_customer", 2, MODELS["shaky"].onnx, MODELS["shaky"].description)
    scored.settle()
    assert scored.risk(1) != 0.625
    # It has no answer where the age is 3: there is no score then, rather than an old one.
    subject.upsert(who(1), {"age": 3}, NOW)
    scored.settle()
    assert scored.risk(1) is None
    assert not scored.failed


def test_what_an_import_brings_is_scored_within_the_hour(scored: Scored) -> None:
    """An import tells nobody whom it changed: the next round finds them. Without any change, and without a clock in what the
    model reads, there is none."""
    deploy(scored.subject, "shaky", 1)
    scored.load(PROGRAM.replace("by_customer", "shaky"))
    scored.subject.upsert(who(1), {"age": 64}, NOW)
    scored.settle()
    assert scored.risk(1) is not None
    assert scored.task.due_us(NOW) == NEVER
    scored.subject.store.unfollow(scored.task._told)
    scored.subject.upsert(who(1), {"age": 3}, NOW)
    assert scored.task.due_us(NOW) == NOW + limits.SWEEP_MOVED_US
    scored.subject.clock_us = NOW + limits.SWEEP_MOVED_US
    scored.settle()
    assert scored.risk(1) is None, "the model has no answer at 3"


def test_writing_counts_for_more_than_reading(scored: Scored) -> None:
    scored.load()
    for number in range(10):
        scored.subject.upsert(who(number), {"age": number}, NOW)
    assert scored.sweep.turn()[0] == 10 * (1 + limits.SCORE_WRITTEN)


def test_a_program_without_scores_asks_nothing(scored: Scored) -> None:
    scored.load(PROGRAM.replace("scores: {churn: {model: by_customer, into: risk}}", ""))
    assert scored.task.due_us(NOW) == NEVER


@pytest.mark.parametrize(
    ("declared", "says", "hint"),
    [
        ("{model: by_custmer, into: risk}", "There is no deployed model 'by_custmer'.", "Did you mean 'by_customer'?"),
        ("{model: by_customer, into: rsk}", "There is no attribute 'rsk'.", "Did you mean 'risk'?"),
        ("{model: by_customer, into: age}", "Attribute 'age' is of type int; a score is a double.", "Declare age: double."),
        ("{model: by_customer, into: shared}", "Attribute 'shared' has sources, and a score comes from none of them.",
         "Leave sources out: the model alone sets it."),
        ("{model: by_customer}", "Score 'churn' has no attribute.", "Write {model: churn, into: churn_score}."),
        ("{model: by_customer, into: risk}, two: {model: by_customer, into: risk}",
         "Attribute 'risk' holds the score 'churn' already.", "Declare one more."),
        ("{model: by_offer, into: risk}", "No offer is at hand here, so offer fields cannot be read.", ""),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_score_is_told(scored: Scored, declared: str, says: str, hint: str) -> None:
    deploy(scored.subject, "by_offer", 1)
    with pytest.raises(ProgramError) as caught:
        scored.load(PROGRAM.replace("{churn: {model: by_customer, into: risk}}", f"{{churn: {declared}}}"))
    (problem,) = caught.value.problems
    assert (problem.message, problem.hint) == (says, hint)


def test_a_model_that_a_score_needs_is_not_taken_away(scored: Scored) -> None:
    """A version that reads what only offers have is refused, and a model that a score names is not retired."""
    scored.load()
    with pytest.raises((ModelError, ProgramError)):
        scored.subject.registry.deploy("by_customer", 2, MODELS["by_offer"].onnx, MODELS["by_offer"].description)
    with pytest.raises((ModelError, ProgramError)):
        scored.subject.registry.retire("by_customer")
    scored.subject.upsert(who(1), {"age": 64}, NOW)
    scored.settle()
    assert scored.risk(1) == 0.625


def test_image_keeps_scores(scored: Scored) -> None:
    scored.load()
    program = scored.subject.engine.plan.program
    again = image.unpack(image.pack(program))
    assert again is not None
    assert again.scores == program.scores


def test_who_is_erased_while_his_score_is_made_is_not_made_again(scored: Scored, monkeypatch: pytest.MonkeyPatch) -> None:
    """The score was worked out, the customer erased, then the score written under his identifier: that made him anew, with the
    identifier that was to be forgotten."""
    store = scored.subject.store
    scored.load()
    scored.subject.upsert(who(1), {"age": 64}, NOW)
    submit = store.submit

    def after_erasure(mutation: Mutation, *, background: bool = False) -> Future[Any]:
        if isinstance(mutation, Upsert):
            submit(Erase(identifiers=who(1), at_us=NOW)).result(60)
        return submit(mutation, background=background)

    monkeypatch.setattr(store, "submit", after_erasure)
    scored.settle()
    assert store.profile(who(1)) is None
    assert store.customer_count() == 0
    assert not scored.failed
