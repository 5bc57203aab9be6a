"""What comes back after a decision, on its way into the store: outcomes by token, and what is told of a customer.

Each is checked here against the token, the clock and what is declared, and becomes a mutation. What was sent together is
submitted together, so that it mostly shares a commit; where the store refuses one part, the others are kept all the same,
and nothing is answered while anything of it still moves.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from core import limits
from core.decision import Event, Identifier
from core.errors import (
    BadToken,
    BadValue,
    HistoryFull,
    NotFound,
    RapportError,
    RequestError,
    StoreCorrupt,
    TooLarge,
    UnknownName,
    moment,
)
from core.futures import done, pass_on, settled, then
from core.hub import mutations
from core.hub.catalog import name_of
from core.hub.mutations import RecordedEvent, RecordEvents, RecordOutcomes, Upsert
from core.kernel.instance_token import read_token
from core.outcomes import Outcome, OutcomeResult, OutcomeStatus, TellResult
from core.schema import AnyValue

if TYPE_CHECKING:
    from core.hub.store import Store

# --- outcomes -----------------------------------------------------------------------------------------------------


def record(
    store: Store, outcomes: Sequence[Outcome], currency_of: Callable[[], str], now_us: int
) -> Future[Sequence[OutcomeResult]]:
    """Records outcomes, each for itself; what becomes of each is told by `Engine.recording`."""
    results: list[OutcomeResult | None] = [None] * len(outcomes)
    reports: list[tuple[int, mutations.Outcome]] = []
    for position, outcome in enumerate(outcomes):
        try:
            reports.append((position, report(store, outcome, currency_of, now_us)))
        except (BadToken, NotFound) as error:
            results[position] = OutcomeResult(OutcomeStatus.UNKNOWN, error)
        except RapportError as error:
            results[position] = OutcomeResult(OutcomeStatus.REFUSED, error)

    def filled(kept: Sequence[mutations.OutcomeStatus | RapportError]) -> Sequence[OutcomeResult]:
        for (position, sent), status in zip(reports, kept, strict=True):
            results[position] = outcome_result(sent, status)
        return [result for result in results if result is not None]

    return then(_keep_outcomes(store, [sent for _, sent in reports]), filled)


def happened(at_us: int | None, now_us: int, field: str) -> int:
    """When something happened that is told now: ``now_us`` where nothing is said.

    A clock that goes ahead of ours, by limits.AHEAD_US at most, told of now: what is acknowledged counts in the next
    decision, and a moment that has not come would keep it out. Raises BadValue, naming ``field``, beyond that.
    """
    if at_us is None:
        return now_us
    if at_us > now_us + limits.AHEAD_US:
        raise BadValue(field, "lies in the future", "Send the time it happened, in UTC.")
    return min(at_us, now_us)


def consented(at_us: int | None, now_us: int, field: str, *, granted: bool) -> int:
    """Of what moment a consent or its withdrawal is, as `happened`.

    A consent that is dated ahead is of limits.AHEAD_US before that, the earliest that it can be: sent again it is the same, and
    never newer than a withdrawal that came between. Raises as `happened`.
    """
    happened_us = happened(at_us, now_us, field)
    ahead = granted and at_us is not None and at_us > now_us
    return at_us - limits.AHEAD_US if ahead and at_us is not None else happened_us


def report(store: Store, outcome: Outcome, currency_of: Callable[[], str], now_us: int) -> mutations.Outcome:
    """The report as the store takes it. BadToken and NotFound for an instance nobody can report on; UnknownName, BadValue,
    TooLarge for what is wrong with the report. ``currency_of`` is asked for the program's only where there is a value."""
    issued = read_token(outcome.token, store.signing_key)
    catalog = store.catalog
    if outcome.outcome not in catalog.outcomes:
        raise UnknownName("outcome", outcome.outcome, catalog.outcomes)
    key_bytes = len(outcome.key.encode())
    if key_bytes > limits.KEY_BYTES:
        raise TooLarge("outcome.key in bytes", key_bytes, limits.KEY_BYTES)
    at_us = happened(outcome.at_us, now_us, "outcome.at")
    # The decision's moment is its clock or its as_of, so also what was decided in advance happens then at the earliest.
    if at_us < issued.decided_us - limits.AHEAD_US:
        raise BadValue(
            "outcome.at",
            f"is {moment(at_us)}, before the decision it belongs to, which was made for {moment(issued.decided_us)}",
            "Send the time it happened, in UTC.",
        )
    if at_us > issued.expires_us:
        raise NotFound("Instance", f"{issued.instance:016x}", "It expired before the outcome happened.")
    if now_us > issued.expires_us + limits.LATE_US:
        raise NotFound(
            "Instance",
            f"{issued.instance:016x}",
            f"It expired at {moment(issued.expires_us)}; late reports of it were taken until "
            f"{moment(issued.expires_us + limits.LATE_US)}.",
        )
    value_minor = 0
    if outcome.value is not None:
        currency = currency_of()
        if currency and not outcome.value.currency:
            raise BadValue("outcome.value", "has no currency", f"The program counts in {currency}.")
        if currency and outcome.value.currency != currency:
            raise BadValue(
                "outcome.value", f"is in {outcome.value.currency}; the program counts in {currency}",
                "Convert it before it is sent.",
            )
        value_minor = outcome.value.minor
        if value_minor == limits.NO_AMOUNT:
            raise BadValue("outcome.value", "is the one amount that stands for none", "Leave it out instead.")
    identifiers: tuple[Identifier, ...] = ()
    if issued.customer == 0:
        if not issued.namespace:
            raise NotFound(
                "Customer", "", "Ask for decisions with an identifier when their outcomes are to count.",
                "The decision was asked for without an identifier, so nothing can be kept of it.",
            )
        namespace = name_of({name: entry.number for name, entry in catalog.namespaces.items()}, issued.namespace, "namespace")
        identifiers = (Identifier(namespace, issued.identifier.decode()),)
    return mutations.Outcome(
        customer=issued.customer,
        identifiers=identifiers,
        offer=catalog.offer_name(issued.offer),
        outcome=outcome.outcome,
        channel=name_of(catalog.channels, issued.channel, "channel"),
        at_us=at_us,
        instance=issued.instance,
        value_minor=value_minor,
        key=outcome.key,
    )


def _keep_outcomes(
    store: Store, reports: Sequence[mutations.Outcome]
) -> Future[Sequence[mutations.OutcomeStatus | RapportError]]:
    """What became of each report, or why the store refused it; fails when the store takes no writes at all.

    They are sent as one change, which the store refuses as a whole; so when one is refused, each is sent by itself
    (nothing of the first attempt was kept, and those that follow still share a commit).
    """
    if not reports:
        return done(())
    kept: Future[Sequence[mutations.OutcomeStatus | RapportError]] = Future()

    def one_by_one(together: Future[Any]) -> None:
        error = together.exception()
        if error is None:
            kept.set_result(together.result())
        elif not isinstance(error, RequestError | StoreCorrupt):
            kept.set_exception(error)
        elif len(reports) == 1:
            kept.set_result([error])
        else:
            _keep_each(store, reports, kept)

    store.submit(RecordOutcomes(outcomes=tuple(reports))).add_done_callback(one_by_one)
    return kept


def _keep_each(
    store: Store,
    reports: Sequence[mutations.Outcome],
    kept: Future[Sequence[mutations.OutcomeStatus | RapportError]],
) -> None:
    submitted: list[Future[Any]] = []
    failure: BaseException | None = None
    try:
        submitted.extend(store.submit(RecordOutcomes(outcomes=(report,))) for report in reports)
    except BaseException as error:
        failure = error

    def collect(futures: Sequence[Future[Any]]) -> Sequence[mutations.OutcomeStatus | RapportError]:
        if failure is not None:
            # Told only now: whoever hears of an error may count on nothing still moving.
            raise failure
        found: list[mutations.OutcomeStatus | RapportError] = []
        for future in futures:
            try:
                found.append(future.result()[0])
            except (RequestError, StoreCorrupt) as error:
                found.append(error)
        return found

    pass_on(then(settled(submitted), collect), kept)


def outcome_result(report: mutations.Outcome, status: mutations.OutcomeStatus | RapportError) -> OutcomeResult:
    """What the store's answer to a report says to whoever reported."""
    if isinstance(status, RapportError):
        return OutcomeResult(OutcomeStatus.REFUSED, status)
    if status is mutations.OutcomeStatus.APPLIED:
        return OutcomeResult(OutcomeStatus.APPLIED)
    if status is mutations.OutcomeStatus.DUPLICATE:
        return OutcomeResult(OutcomeStatus.DUPLICATE)
    if status is mutations.OutcomeStatus.TOO_OLD:
        return OutcomeResult(
            OutcomeStatus.REFUSED, HistoryFull("customer's contact history", limits.CONTACTS_PER_CUSTOMER, report.at_us)
        )
    return OutcomeResult(
        OutcomeStatus.UNKNOWN, NotFound("Customer", str(report.customer), "The customer of this instance was erased.")
    )


# --- what is told -------------------------------------------------------------------------------------------------


def tell(
    store: Store,
    identifiers: Sequence[Identifier],
    events: Sequence[Event],
    attributes: Mapping[str, AnyValue],
    source: str,
    at_us: int | None,
    declared_of: Callable[[], Collection[str]],
    clock_us: int,
) -> Future[TellResult]:
    """Keeps events and attributes; what becomes of them is told by `Engine.telling`.

    ``declared_of`` is asked for the declared types of events only where some were sent.
    """
    now_us = happened(at_us, clock_us, "at")
    who = tuple(identifiers)
    if not who:
        raise BadValue("identifiers", "is empty", "Say whose events and attributes these are.")
    if not events and not attributes:
        raise BadValue("events", "is empty, and so is attributes", "Tell at least one of them.")
    if events:
        check_events(declared_of(), events, clock_us)
    changes: list[mutations.Mutation] = []
    if attributes:
        changes.append(Upsert(identifiers=who, attributes=mutations.cells(attributes), source=source, at_us=now_us))
    if events:
        changes.append(RecordEvents(identifiers=who, events=recorded(events, now_us, clock_us), received_us=clock_us))
    submitted: list[Future[Any]] = []
    failure: BaseException | None = None
    try:
        submitted.extend(store.submit(change) for change in changes)
    except BaseException as error:
        failure = error

    def collect(futures: Sequence[Future[Any]]) -> TellResult:
        # Also when the second found the queue full: whoever is told of an error may count on nothing still moving.
        if failure is not None:
            raise failure
        results = [future.result() for future in futures]
        created = any(result.created for result in results)
        if not events:
            return TellResult(0, 0, created)
        applied, too_old = sum(results[-1].applied), results[-1].too_old
        return TellResult(applied, len(events) - applied - too_old, created, too_old)

    return then(settled(submitted), collect)


def check_events(declared: Collection[str], events: Sequence[Event], now_us: int) -> None:
    """`check_event` of each event of a request, and how many there are."""
    if len(events) > limits.EVENTS_PER_REQUEST:
        raise TooLarge("events", len(events), limits.EVENTS_PER_REQUEST, field="events")
    for position, event in enumerate(events):
        check_event(declared, event, f"events[{position}]", now_us)


def check_event(declared: Collection[str], event: Event, path: str, now_us: int) -> None:
    """What is asked of an event before the store sees it. ``declared`` are the types; errors name its parts under ``path``."""
    if event.type not in declared:
        raise UnknownName("event type", event.type, declared, field=f"{path}.type")
    if not event.key:
        raise BadValue(f"{path}.key", "is empty", "Give each event a key that stays the same when it is sent again.")
    if len(event.key) > limits.KEY_BYTES or len(event.key.encode(errors="replace")) > limits.KEY_BYTES:
        size = len(event.key.encode(errors="replace"))
        raise TooLarge(f"{path}.key in bytes", size, limits.KEY_BYTES, field=f"{path}.key")
    happened(event.at_us, now_us, f"{path}.at")


def recorded(events: Sequence[Event], now_us: int, clock_us: int) -> tuple[RecordedEvent, ...]:
    """Events as mutations carry them; ``now_us`` is the time of those that have none, ``clock_us`` the server's."""
    return tuple(
        RecordedEvent(
            type=event.type, key=event.key, at_us=now_us if event.at_us is None else min(event.at_us, clock_us),
            fields=mutations.cells(event.fields),
        )
        for event in events
    )
