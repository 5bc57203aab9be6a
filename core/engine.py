"""The engine: one object that decides. It holds the plan that serves, the store, and the models, and nothing else
changes.

A plan is immutable. Loading a program or switching a model builds a new plan beside the old one and replaces one
reference; a decision takes the reference once and keeps it to its end, so none mixes two versions, and one that
begins after a load was acknowledged sees the new program. Whatever is refused leaves everything as it was.

Deciding writes nothing that it waits for. Outcomes and what is told go through the store's one mutation path, and are
durable and visible to every later decision when the call returns.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NamedTuple

from core import limits, reports
from core.decision import DecideAnswer, DecideRequest, Event, ExplainLevel, Identifier
from core.errors import (
    DeadlineTooShort,
    HistoryFull,
    NoProgram,
    NotFound,
    Overloaded,
    Problem,
    ProgramError,
    SchemaConflict,
    StoreError,
)
from core.hub import mutations, retention
from core.hub.mutations import RecordEvents
from core.hub.saved import BandEdges
from core.inference.registry import LiveModel, Registry
from core.kernel.exchange import decide_one, measure
from core.kernel.plan import Plan
from core.outcomes import Outcome, OutcomeResult, ProgramVersion, TellResult
from core.programs import image
from core.programs.model_binding import ModelBinding
from core.programs.program import Program
from core.programs.tables import Tables
from core.schema import AnyValue

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from core.hub.store import Store


# A deadline past what 64 bits of nanoseconds can say (292 years) is as good as the last that they can.
_LATEST_NS = 2**63 - 1


def _wall_us() -> int:
    return time.time_ns() // 1000


class Scoring(NamedTuple):
    """What makes the scores of a program: a plan of no offers, whose ``asked`` are for each score its model's columns and then
    what its attribute holds, and the model of each score in declared order."""

    plan: Plan
    models: tuple[LiveModel, ...]


class Engine:
    """Decides over one store. Every method may be called from many threads at once.

    ``clock_us`` gives microseconds since 1970-01-01T00:00:00Z; tests move it. ``on_lost`` is told of an event sent
    along with a decision that could not be kept after all (the decision was answered by then).
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        *,
        clock_us: Callable[[], int] = _wall_us,
        on_lost: Callable[[BaseException], None] = lambda error: None,
    ) -> None:
        self.store = store
        self.registry = registry
        self._clock_us = clock_us
        self._on_lost = on_lost
        # Held while a plan is built and swapped, so that a program and a model that change at once both count.
        self._changing = threading.RLock()
        # Replaced, never altered; a decision reads it once.
        self._plan: Plan | None = None
        # Told of each plan before the one it replaces is closed: threads that decide without Python.
        # The plan that serves and the one of its walks, made when it is first asked for.
        self._audience: tuple[Plan, Plan] | None = None
        self._scoring: tuple[Plan, Scoring] | None = None
        self._products: tuple[Plan, frozenset[str]] | None = None
        self._followers: list[Callable[[Plan | None], None]] = []
        registry.listen(self._models_change)
        saved = store.active_program()
        if saved is not None:
            self._plan = self._restored(saved.name, saved.version, registry.live())

    # --- deciding ---------------------------------------------------------------------------------------------

    @property
    def plan(self) -> Plan:
        """The plan that serves now. Raises NoProgram."""
        plan = self._plan
        if plan is None:
            raise NoProgram
        return plan

    @property
    def loaded(self) -> bool:
        """Whether a program serves."""
        return self._plan is not None

    def products(self) -> frozenset[str]:
        """The products that the program's offers name, as what they sell or in a condition on cases; none without a program."""
        plan = self._plan
        if plan is None:
            return frozenset()
        known = self._products
        if known is None or known[0] is not plan:
            sold = {offer.product for offer in plan.program.offers}
            asked = {read.product for read in plan.source.inputs}
            known = self._products = plan, frozenset(sold | asked) - {""}
        return known[1]

    def decide(self, request: DecideRequest) -> DecideAnswer:
        """Decides one request.

        Events sent along count in this decision and are handed to the store once it is made: a request that is refused
        leaves nothing, and whether their customer was known before does not hang on how fast the store is. Without an
        identifier they count in this decision only. With ``as_of_us`` set nothing is kept: the decision is a question
        about another moment. Raises NoProgram, UnknownName, BadValue, TooLarge,
        DeadlineTooShort, Overloaded, StoreError.
        """
        return self._decide(request, keep=True)

    def explain(self, request: DecideRequest) -> DecideAnswer:
        """Decides with full explanation and keeps nothing of it. Raises as `decide`."""
        return self._decide(request, keep=False, explain=ExplainLevel.FULL)

    def _decide(self, request: DecideRequest, *, keep: bool, explain: ExplainLevel | None = None) -> DecideAnswer:
        plan = self.plan
        deadline_ns = 0
        if request.deadline_us is not None:
            if request.deadline_us <= 0:
                raise DeadlineTooShort
            deadline_ns = min(time.monotonic_ns() + request.deadline_us * 1000, _LATEST_NS)
        now_us = self._clock_us() if request.as_of_us is None else request.as_of_us
        seed = secrets.randbits(64) if request.seed is None else request.seed & 0xFFFF_FFFF_FFFF_FFFF
        if explain is not None:
            request = _replaced(request, explain)
        if request.events:
            reports.check_events(plan.program.schema.events, request.events, now_us)
        answer = decide_one(plan, request, now_us, seed, deadline_ns)
        if request.events and keep and request.as_of_us is None and request.identifiers:
            self._keep_events(request, now_us)
        return answer

    def _keep_events(self, request: DecideRequest, now_us: int) -> None:
        # The answer is made: a store that takes no writes now costs the events, which `on_lost` is told, not the decision.
        try:
            future = self.store.submit(
                RecordEvents(
                    identifiers=request.identifiers,
                    events=reports.recorded(request.events, now_us, now_us),
                    received_us=self._clock_us(),
                )
            )
        except (StoreError, Overloaded) as error:
            self._on_lost(error)
            return
        times = [now_us if event.at_us is None else min(event.at_us, now_us) for event in request.events]
        future.add_done_callback(lambda done: self._kept(done, min(times)))

    def _kept(self, future: Future[Any], oldest_us: int) -> None:
        error = future.exception()
        if error is None and future.result().too_old:
            error = HistoryFull("customer's event list", limits.EVENTS_PER_CUSTOMER, oldest_us)
        if error is not None:
            self._on_lost(error)

    def benchmark(self, requests: Sequence[DecideRequest], rounds: int = 1) -> NDArray[np.int64]:
        """Times decisions inside the kernel, in nanoseconds: see `core.kernel.exchange.measure`."""
        return measure(self.plan, requests, rounds, self._clock_us())

    # --- the loop back ----------------------------------------------------------------------------------------

    def record(self, outcomes: Sequence[Outcome]) -> Sequence[OutcomeResult]:
        """`recording`, waited for."""
        return self.recording(outcomes).result()

    def recording(self, outcomes: Sequence[Outcome]) -> Future[Sequence[OutcomeResult]]:
        """Records outcomes, each for itself; durable and seen by every later decision once the future has its value.

        Results are in the order given. What happened before its instance expired may be reported late, until
        ``limits.LATE_US`` after it. A token that nobody here issued, or that expired, is UNKNOWN; an outcome nobody
        declared, a time in the future or before the decision itself, what the store refuses, or what is older than all
        that a full history keeps is REFUSED; both carry the error. Raises Overloaded, and StoreError when nothing can be
        written, at once or by the future; sending the same again counts nothing twice.
        """
        return reports.record(self.store, outcomes, self._currency, self._clock_us())

    def report(self, outcome: Outcome, now_us: int) -> mutations.Outcome:
        """The report as the store takes it. BadToken and NotFound for an instance nobody can report on; UnknownName, BadValue,
        TooLarge for what is wrong with the report; NoProgram for one with a value."""
        return reports.report(self.store, outcome, self._currency, now_us)

    def _currency(self) -> str:
        return self.plan.program.currency

    def tell(
        self,
        identifiers: Sequence[Identifier],
        events: Sequence[Event],
        attributes: Mapping[str, AnyValue],
        source: str,
        at_us: int | None,
    ) -> TellResult:
        """`telling`, waited for."""
        return self.telling(identifiers, events, attributes, source, at_us).result()

    def telling(
        self,
        identifiers: Sequence[Identifier],
        events: Sequence[Event],
        attributes: Mapping[str, AnyValue],
        source: str,
        at_us: int | None,
    ) -> Future[TellResult]:
        """Keeps events and attributes of a customer, made when nobody known is named; durable and visible once the future
        has its value.

        Attributes and events are two changes, submitted together in this order so that they mostly share a commit.
        One that is refused leaves the other in place; both are settled when the future fails, and telling the same again
        after mending it is harmless: an event whose type and key the customer has is not added twice. One older than
        everything that a full list keeps is told as such and not kept. Raises UnknownName, BadValue, TooLarge, Overloaded,
        StoreError, at once or by the future.
        """
        return reports.tell(
            self.store, identifiers, events, attributes, source, at_us, self._event_types, self._clock_us()
        )

    def _event_types(self) -> Collection[str]:
        return self.plan.program.schema.events

    # --- programs ---------------------------------------------------------------------------------------------

    def validate_program(self, sources: Mapping[str, bytes]) -> Program:
        """Checks a program as loading would, against the models that are live and the stored names. ProgramError, NotFound."""
        from core.programs.source import check, declared_at, read

        found = read(sources)
        program = check(found)
        _tables(program, self.registry.live())
        try:
            self.store.catalog.declared(program.schema)
        except SchemaConflict as error:
            place = declared_at(found, error.path)
            raise ProgramError([Problem(place, error.message, error.hint)]) from error
        return program

    def losses(self, program: Program, at_us: int) -> retention.Losses:
        """The events that loading the program at ``at_us`` would have deleted. Raises StoreCorrupt."""
        return retention.losses(self.store, program.schema, at_us)

    def load_program(self, sources: Mapping[str, bytes], at_us: int, *, accept_loss: bool = False) -> str:
        """Checks, keeps and activates a program; its version, "<name>@<number>".

        Whatever is refused leaves the program before it serving. Raises ProgramError, NotFound (a model),
        SchemaConflict, StoreError, and EventsLost where events would be deleted and ``accept_loss`` does not say that they may.
        """
        from core.programs.source import check, declared_at, read

        found = read(sources)
        program = check(found)
        if not accept_loss:
            retention.keep_all(self.store, program.schema, at_us)
        with self._changing:
            models = self.registry.live()
            tables = _tables(program, models)
            try:
                self.store.declare(program.schema, [offer.name for offer in program.offers], program.channels)
            except SchemaConflict as error:
                raise error.at(declared_at(found, error.path)) from error
            # Bound once before it is kept, so that a model which does not fit refuses the program and leaves no version.
            self._bind(tables, program.name, 0, models)
            number = self.store.apply(
                mutations.SaveProgram(
                    name=program.name,
                    digest=program.digest,
                    sources=dict(found.files),
                    at_us=at_us,
                    image=image.pack(program, tables),
                    compiler=image.COMPILER,
                )
            )
            plan = self._bind(tables, program.name, number, models)
            self.store.apply(mutations.ActivateProgram(name=program.name, version=number, at_us=at_us))
            self._swap(plan)
            return plan.version

    def programs(self) -> Sequence[ProgramVersion]:
        """Versions kept, newest first."""
        active = self.store.active_program()
        serving = (active.name, active.version) if active else None
        kept = sorted(self.store.programs(), key=lambda saved: (saved.saved_us, saved.version), reverse=True)
        return [
            ProgramVersion(
                f"{saved.name}@{saved.version}", saved.digest, saved.saved_us, (saved.name, saved.version) == serving
            )
            for saved in kept
        ]

    def program_sources(self, version: str) -> Mapping[str, bytes]:
        """The sources of a version, by file name. Raises NotFound."""
        return self.store.program_sources(*_version(version))

    def rollback_program(self, version: str, at_us: int, *, accept_loss: bool = False) -> str:
        """Activates a version kept before ('' the one that decided before the active one, so a second call takes the first back);
        the version that decides now.

        Raises NotFound, EventsLost as `load_program`, and ProgramError or ModelError when it no longer fits the models that are
        live.
        """
        with self._changing:
            name, number = _version(version) if version else self._version_before()
            models = self.registry.live()
            program, tables = self._kept_program(name, number, models)
            if not accept_loss:
                retention.keep_all(self.store, program.schema, at_us)
            plan = self._built(program, number, models, tables)
            self.store.apply(mutations.ActivateProgram(name=name, version=number, at_us=at_us))
            self._swap(plan)
            return plan.version

    def _version_before(self) -> tuple[str, int]:
        saved = self.store.active_program()
        if saved is None or saved.before is None:
            version = self.plan.version
            raise NotFound(
                "Program version", f"before {version}", "List what is kept: rapport program list.",
                f"Nothing decided before {version}.",
            )
        return saved.before

    def _restored(self, name: str, number: int, models: Mapping[str, LiveModel]) -> Plan:
        """The plan of a kept version."""
        program, tables = self._kept_program(name, number, models)
        return self._built(program, number, models, tables)

    def _kept_program(self, name: str, number: int, models: Mapping[str, LiveModel]) -> tuple[Program, Tables | None]:
        """A kept version: from its image when this release made it, else from its sources."""
        packed = self.store.program_image(name, number, image.COMPILER)
        restored = image.restore(packed, _bindings(models)) if packed else None
        if restored is not None:
            return restored
        from core.programs.source import check, read

        return check(read(self.store.program_sources(name, number))), None

    def _bind(self, tables: Tables, name: str, number: int, models: Mapping[str, LiveModel]) -> Plan:
        return Plan(
            tables, self.store.catalog, self.store.environment, models, f"{name}@{number}", number, self.store.signing_key,
            self._edges(tables.program),
        )

    def _built(
        self, program: Program, number: int, models: Mapping[str, LiveModel], tables: Tables | None = None
    ) -> Plan:
        if tables is None:
            tables = _tables(program, models)
        self.store.declare(program.schema, [offer.name for offer in program.offers], program.channels)
        return self._bind(tables, program.name, number, models)

    def _swap(self, plan: Plan) -> None:
        """Makes a plan the one that serves; decisions under way keep the one they began with."""
        before, self._plan = self._plan, plan
        for follower in self._followers:
            follower(plan)
        if before is not None:
            before.close()

    # --- all customers ----------------------------------------------------------------------------------------

    def bands(self) -> Mapping[str, BandEdges | None]:
        """The edges of each band of the program that serves; None where none have been made yet. Raises NoProgram."""
        kept = self.store.band_edges()
        return {
            name: kept[name] if name in kept and kept[name].definition == band.definition else None
            for name, band in self.plan.program.bands.items()
        }

    def keep_bands(self, program: Program, bands: Mapping[str, BandEdges]) -> bool:
        """Keeps edges and decides by them from the next decision on; whether the store was changed.

        Nothing happens when ``program`` serves no longer, nor when the edges are those that are kept.
        """
        with self._changing:
            plan = self._plan
            if plan is None or plan.program is not program:
                return False
            before = self.bands()
            if all((old := before[name]) is not None and _same_edges(old, new) for name, new in bands.items()):
                return False
            self.store.apply(mutations.SetBands(bands=dict(bands)), background=True)
            number = plan.version_number
            self._swap(self._bind(plan.source, program.name, number, self.registry.live()))
            return True

    def audience(self) -> Plan:
        """A plan of the program that serves for walks over all customers, with its edges: it has no offers, and its ``asked``
        are the segments and what bands are of. Raises NoProgram.
        """
        with self._changing:
            plan = self.plan
            if self._audience is None or self._audience[0] is not plan:
                from core.programs.plan import audience_tables

                before, self._audience = self._audience, None
                if before is not None:
                    before[1].close()
                kept = before is not None and before[1].program.digest == plan.program.digest
                tables = before[1].source if before is not None and kept else audience_tables(plan.program)
                self._audience = plan, self._bind(tables, plan.program.name, plan.version_number, {})
            return self._audience[1]

    def scoring(self) -> Scoring:
        """A plan for walks that score, and the models they run. Raises NoProgram, and ProgramError where they fit no longer."""
        with self._changing:
            plan = self.plan
            if self._scoring is None or self._scoring[0] is not plan:
                from core.programs.plan import score_tables

                live = self.registry.live()
                tables = score_tables(plan.program, _bindings(live))
                bound = self._bind(tables, plan.program.name, plan.version_number, {})
                if self._scoring is not None:
                    self._scoring[1].plan.close()
                models = tuple(live[score.model] for score in plan.program.scores.values())
                self._scoring = plan, Scoring(bound, models)
            return self._scoring[1]

    def _edges(self, program: Program) -> dict[str, tuple[float, ...]]:
        if not program.bands:
            return {}
        kept = self.store.band_edges()
        return {
            name: kept[name].edges
            for name, band in program.bands.items()
            if name in kept and kept[name].definition == band.definition and kept[name].edges
        }

    def _models_change(self, wanted: Mapping[str, LiveModel]) -> None:
        """Rebuilds the plan for models that are about to be live; raising refuses them, and the plan stays."""
        with self._changing:
            plan = self._plan
            if plan is None:
                return
            self._swap(self._built(plan.program, plan.version_number, wanted))

    def follow(self, follower: Callable[[Plan | None], None]) -> None:
        """Calls ``follower`` with the plan that serves now (None: none does), and with each that replaces it.

        It returns once it uses the plan before no more, and raises nothing: the change is acknowledged when all have.
        """
        with self._changing:
            self._followers.append(follower)
            follower(self._plan)

    def close(self) -> None:
        """Lets go of the plan, so that the store can be closed. Decisions under way must have ended."""
        with self._changing:
            plan, self._plan = self._plan, None
            if self._audience is not None:
                self._audience[1].close()
                self._audience = None
            if self._scoring is not None:
                self._scoring[1].plan.close()
                self._scoring = None
            for follower in self._followers:
                follower(None)
            if plan is not None:
                plan.close()


def _same_edges(old: BandEdges, new: BandEdges) -> bool:
    """Whether they say the same, but for when they were made."""
    return (old.definition, old.edges, old.customers) == (new.definition, new.edges, new.customers)


def _tables(program: Program, models: Mapping[str, LiveModel]) -> Tables:
    from core.programs.plan import compile_tables  # with the checker and numpy, which a restart from an image needs not

    return compile_tables(program, _bindings(models))


def _bindings(models: Mapping[str, LiveModel]) -> dict[str, ModelBinding]:
    return {name: model.binding for name, model in models.items()}


def _version(text: str) -> tuple[str, int]:
    name, at, number = text.rpartition("@")
    if not at or not number.isdigit():
        raise NotFound("Program version", text, "A version is written <name>@<number>: rapport program list.")
    return name, int(number)


def _replaced(request: DecideRequest, explain: ExplainLevel) -> DecideRequest:
    return DecideRequest(
        request.channel, request.placements, request.identifiers, request.facts, request.events, explain,
        request.deadline_us, request.as_of_us, request.seed, request.deferred,
    )
