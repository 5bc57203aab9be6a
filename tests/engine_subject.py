"""The engine in this process, over a store in a folder, taken through steps as the oracle's hub is."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from core.decision import DecideAnswer, DecideRequest, Event, Identifier
from core.engine import Engine
from core.hub import mutations
from core.hub.store import Store
from core.inference.registry import Registry
from core.outcomes import Outcome, OutcomeStatus
from core.schema import AnyValue, CaseScope
from core.sweep import Bands
from tests.scenario import Audited, Told, ToldCase


class EngineSubject:
    """An engine of its own over an empty store; a context manager that closes both. Its clock is the step's time."""

    def __init__(self, folder: Path) -> None:
        self.clock_us = 0
        self.store = Store.open(folder / "store", map_bytes=1 << 28)
        models = folder / "models"
        models.mkdir()
        self.registry = Registry(models, settle_seconds=0.0)
        self.engine = Engine(self.store, self.registry, clock_us=lambda: self.clock_us, on_lost=self._lost)
        self.lost: list[BaseException] = []

    def _lost(self, error: BaseException) -> None:
        self.lost.append(error)

    def __enter__(self) -> EngineSubject:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.engine.close()
        self.registry.close()
        # A test that catches an exception keeps the frames it passed through, and with them a plan and its snapshot.
        gc.collect()
        self.store.close()
        if kind is None:
            assert not self.lost, f"events that were not kept: {self.lost}"

    def load(self, sources: Mapping[str, bytes], at_us: int) -> None:
        self.engine.load_program(sources, at_us)

    def upsert(
        self, who: Sequence[Identifier], attributes: Mapping[str, AnyValue | None], at_us: int, source: str = ""
    ) -> None:
        cells = mutations.cells(attributes)
        self.store.apply(mutations.Upsert(identifiers=tuple(who), attributes=cells, at_us=at_us, source=source))

    def provenance(self, who: Sequence[Identifier], attribute: str) -> Told:
        found = self.store.provenance(who, [attribute])
        assert found is not None, "the customer is not known"
        (one,) = found
        return one.value, one.rule.value, [(each.source, each.at_us, each.value) for each in one.origins]

    def tell(self, who: Sequence[Identifier], events: Sequence[Event], at_us: int) -> None:
        self.clock_us = at_us
        self.engine.tell(who, events, {}, "", at_us)

    def consent(self, who: Sequence[Identifier], purpose: str, channel: str, granted: bool, at_us: int) -> None:
        self.store.apply(
            mutations.SetConsent(identifiers=tuple(who), purpose=purpose, channel=channel, granted=granted, at_us=at_us)
        )

    def open_case(
        self, who: Sequence[Identifier], kind: str, key: str, at_us: int, product: str = "", owner: str = "",
        due_us: int | None = None, household: bool = False,
    ) -> None:
        self.store.apply(
            mutations.OpenCase(
                identifiers=tuple(who), kind=kind, key=key, at_us=at_us, product=product, owner=owner, due_us=due_us,
                scope=CaseScope.HOUSEHOLD if household else None,
            )
        )

    def assign_case(
        self, who: Sequence[Identifier], kind: str, key: str, owner: str, due_us: int | None, at_us: int
    ) -> None:
        self.store.apply(
            mutations.AssignCase(identifiers=tuple(who), kind=kind, key=key, owner=owner, due_us=due_us, at_us=at_us)
        )

    def cases(self, who: Sequence[Identifier]) -> list[ToldCase]:
        found = self.store.cases(tuple(who))
        assert found is not None, "nobody is known"
        return [(one.kind, one.key, one.product, one.owner, one.opened_us, one.closed_us, one.due_us) for one in found]

    def close_case(self, who: Sequence[Identifier], kind: str, key: str, at_us: int) -> None:
        self.store.apply(mutations.CloseCase(identifiers=tuple(who), kind=kind, key=key, at_us=at_us))

    def set_membership(
        self, who: Sequence[Identifier], household: Sequence[Identifier], role: str, at_us: int
    ) -> None:
        self.store.apply(
            mutations.SetMembership(identifiers=tuple(who), household=tuple(household), role=role, at_us=at_us)
        )

    def leave_household(self, who: Sequence[Identifier], at_us: int) -> None:
        self.store.apply(mutations.LeaveHousehold(identifiers=tuple(who), at_us=at_us))

    def join(self, who: Sequence[Identifier], at_us: int) -> None:
        self.store.apply(mutations.Join(identifiers=tuple(who), at_us=at_us))

    def unmerge(self, who: Sequence[Identifier], at_us: int) -> None:
        self.store.apply(mutations.Unmerge(identifiers=tuple(who), at_us=at_us))

    def erase(self, who: Sequence[Identifier], request: str, at_us: int) -> None:
        self.store.apply(mutations.Erase(identifiers=tuple(who), request=request, at_us=at_us))

    def audit(self) -> list[Audited]:
        return [(entry.action, entry.request) for entry in self.store.audit()]

    def refresh(self, now_us: int) -> None:
        """Make the edges of all bands anew, as the sweep does."""
        self.clock_us = now_us
        bands = Bands(self.engine, lambda: self.clock_us)
        while bands.due_us(now_us) <= now_us:
            bands.step(7, now_us)
        bands.close()

    def decide(self, request: DecideRequest, now_us: int) -> DecideAnswer:
        self.clock_us = now_us
        return self.engine.decide(request)

    def record(self, outcome: Outcome, now_us: int) -> OutcomeStatus:
        self.clock_us = now_us
        (result,) = self.engine.record([outcome])
        return result.status
