"""Scores of models kept as attributes: made anew for a customer when something is told of him, for everybody when the model
changes, and every hour where the clock moves what the model reads or something changed that nobody told of (an import).

A task of the sweep (`core.sweep`). It reads the model's columns for some hundred customers, runs the model once for them, and
writes what came out otherwise than before: an `Upsert` with the source ``model:<name>@<version>``. A decision only reads the
attribute. Where a column has no value and the model no stand-in for it, there is no score, and the attribute is cleared.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

from core import limits
from core.errors import BadValue, ModelError, NotFound
from core.hub.mutations import Upsert
from core.kernel.segmenting import Walk
from core.sweep import NEVER

if TYPE_CHECKING:
    from core.engine import Engine, Scoring
    from core.inference.registry import LiveModel
    from core.programs.program import Score

# A run of a few hundred rows; what takes longer is given up and tried again in a minute.
_RUN_MS: Final = 10_000.0
_Cells = tuple[float | str | None, ...]


class Scores:
    """The task that keeps the scores of the serving program."""

    name = "scores"

    def __init__(self, engine: Engine, wake: Callable[[], None]) -> None:
        self._engine = engine
        self._wake = wake
        self._lock = threading.Lock()  # guards `_changed`
        self._changed: set[int] = set()
        self._follows = False
        self._walk: Walk | None = None
        self._scoring: Scoring | None = None  # the walk's
        self._made_by: tuple[object, ...] = ()  # program and models of the last round
        self._round = False  # a round over everybody is under way
        self._seen = -1  # the store's last change when the last round ended
        self._moving = False  # time alone changes what the models read
        self._next_us = NEVER  # when another round is due, if that or anything in the store changed

    def _told(self, customers: set[int]) -> None:
        with self._lock:
            self._changed |= customers
        self._wake()

    def due_us(self, now_us: int) -> int:
        """At once when somebody changed, while a round is under way, and when program or models are others."""
        engine = self._engine
        if not engine.loaded or not engine.plan.program.scores or engine.store.read_only:
            return NEVER
        if self._changed or self._round or self._made_by != self._makers():
            return now_us
        return self._next_us if self._moving or engine.store.applied != self._seen else NEVER

    def _makers(self) -> tuple[object, ...]:
        program = self._engine.plan.program
        live = self._engine.registry.live()
        return program, *(live[score.model].digest if score.model in live else "" for score in program.scores.values())

    def step(self, most: int, now_us: int) -> int:
        """Scores some who changed, or the next of a round; how many, and `limits.SCORE_WRITTEN` for each score written."""
        if not self._follows:
            self._engine.store.follow(self._told)
            self._follows = True
        walk, scoring = self._prepared(now_us)
        most = min(most, limits.SCORED_AT_ONCE)
        with self._lock:
            customers = sorted(self._changed)[:most]
            self._changed.difference_update(customers)
        changed, last = customers, False
        if not customers and self._round:
            customers = walk.ahead(most)
            last = len(customers) < most
        try:
            written = self._score(scoring, customers, walk.read(customers, now_us), now_us)
        except BaseException:
            with self._lock:
                self._changed.update(changed)
            walk.again()
            raise
        if last:
            self._round = False
            self._seen = self._engine.store.applied
            self._moving = self._moves(scoring)
            self._next_us = now_us + limits.SWEEP_MOVED_US
        return len(customers) + limits.SCORE_WRITTEN * written

    def _prepared(self, now_us: int) -> tuple[Walk, Scoring]:
        """The walk over the plan that serves; a round begins where program or models are others, or time is reason enough."""
        scoring, makers = self._engine.scoring(), self._makers()
        if self._walk is None or self._scoring is not scoring:
            place = self._walk
            if place is not None:
                place.close()
            self._walk, self._scoring = Walk(scoring.plan, (), scoring.plan.source.asked), scoring
            # Where it was in a round the new walk does not know: it begins again.
            self._round = self._round or makers != self._made_by
        elif makers != self._made_by or (not self._round and not self._changed and now_us >= self._next_us):
            self._walk.again()
            self._round = True
        self._made_by = makers
        return self._walk, scoring

    def _moves(self, scoring: Scoring) -> bool:
        from core.programs.plan import moves, score_columns  # with numpy, which a restart needs not

        bindings = {model.name: model.binding for model in scoring.models}
        program = scoring.plan.program
        return any(
            moves(column) for score in program.scores.values() for column in score_columns(program, score, bindings)
        )

    def _score(
        self, scoring: Scoring, customers: Sequence[int], rows: Sequence[_Cells | None], now_us: int
    ) -> int:
        """Writes the scores that are not what is kept; how many."""
        held = [(customer, row) for customer, row in zip(customers, rows, strict=True) if row is not None]
        if not held:
            return 0
        identifiers = self._engine.store.identifiers_of([customer for customer, _ in held])
        begin = 0
        submitted: list[Future[Any]] = []
        for score, model in zip(scoring.plan.program.scores.values(), scoring.models, strict=True):
            width = len(model.binding.columns)
            found = self._run(score, model, [row[begin : begin + width] for _, row in held])
            for (customer, row), value, who in zip(held, found, identifiers, strict=True):
                if who and value != row[begin + width]:
                    submitted.append(self._engine.store.submit(Upsert(
                        identifiers=who[:1], customer=customer, attributes={score.into: value},
                        source=f"model:{model.name}@{model.version}", at_us=now_us,
                    ), background=True))
            begin += width + 1
        for future in submitted:
            try:
                future.result()
            except (NotFound, BadValue):
                continue  # erased or joined meanwhile
        return len(submitted)

    def _run(self, score: Score, model: LiveModel, rows: Sequence[_Cells]) -> list[float | None]:
        """The model's outputs; None where a row has none."""
        inputs: dict[str, list[list[float | str | None]]] = {
            each.name: [[] for _ in rows] for each in model.runner.inputs
        }
        for position, column in sorted(enumerate(model.binding.columns), key=lambda each: (each[1].input, each[1].position)):
            text = model.takes_text(column.input)
            for row, cells in zip(inputs[model.runner.inputs[column.input].name], rows, strict=True):
                cell = cells[position]
                if cell is None:
                    cell = column.missing
                if cell is not None and isinstance(cell, str) is not text:
                    raise ModelError(
                        model.label,
                        f"{column.where}: '{column.text}' is {'a number' if text else 'text'}, and its input takes "
                        f"{'text' if text else 'numbers'}",
                        f"Score '{score.name}' cannot be made by it: convert the column, string(...) makes text.",
                    )
                row.append(cell)
        status, found = model.runner.run(inputs, timeout_ms=_RUN_MS)
        if status != "SCORED":
            raise ModelError(model.label, f"its run for score '{score.name}' ended {status}", model.runner.fault)
        return [None if math.isnan(value) else value for value in found]

    def close(self) -> None:
        """Ends it."""
        if self._follows:
            self._engine.store.unfollow(self._told)
            self._follows = False
        if self._walk is not None:
            self._walk.close()
            self._walk = None
