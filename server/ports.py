"""What the services need of the core, as protocols: the engine, the store and the model registry fit them by shape.

The composition root (`server.app`) passes the real ones; a test may pass something smaller with the same methods.
All methods may be called from many threads at once. All raise `core.errors.RapportError` and nothing else on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Protocol

from core.decision import DecideAnswer, DecideRequest, Event, Identifier
from core.hub.retention import Losses
from core.outcomes import Outcome, OutcomeResult, ProgramVersion, TellResult
from core.programs.program import Program
from core.schema import AnyValue


class Decider(Protocol):
    """What DecisionService calls."""

    def decide(self, request: DecideRequest) -> DecideAnswer:
        """Decide. NoProgram, UnknownName, BadValue, TooLarge, DeadlineTooShort, Overloaded."""
        ...

    def explain(self, request: DecideRequest) -> DecideAnswer:
        """Decide with full explanation and keep nothing of it."""
        ...

    def recording(self, outcomes: Sequence[Outcome]) -> Future[Sequence[OutcomeResult]]:
        """Record outcomes, each for itself; durable and visible once the future has its value. In the order given."""
        ...

    def telling(
        self,
        identifiers: Sequence[Identifier],
        events: Sequence[Event],
        attributes: Mapping[str, AnyValue],
        source: str,
        at_us: int | None,
    ) -> Future[TellResult]:
        """Keep events and attributes of a customer; durable and visible once the future has its value."""
        ...


class Programs(Protocol):
    """What ProgramService calls."""

    def validate_program(self, sources: Mapping[str, bytes]) -> Program:
        """Check a program; ProgramError with all problems."""
        ...

    def losses(self, program: Program, at_us: int) -> Losses:
        """The events that loading a program would have deleted."""
        ...

    def load_program(self, sources: Mapping[str, bytes], at_us: int, *, accept_loss: bool = False) -> str:
        """Check, keep and activate a program; its version. ProgramError, SchemaConflict, EventsLost, StoreError."""
        ...

    def programs(self) -> Sequence[ProgramVersion]:
        """Versions kept, newest first."""
        ...

    def program_sources(self, version: str) -> Mapping[str, bytes]:
        """The sources of a version kept; NotFound."""
        ...

    def rollback_program(self, version: str, at_us: int, *, accept_loss: bool = False) -> str:
        """Activate an earlier version ('' the one before); the version that decides now. NotFound, EventsLost."""
        ...
