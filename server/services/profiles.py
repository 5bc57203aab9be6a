"""ProfileService: what is known of customers. Each call that changes something is one mutation, durable when answered."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, Protocol

import grpc

from core import limits
from core.decision import Identifier
from core.errors import BadValue, NotFound, TooLarge, moment
from core.hub.customer_profile import Case, Household, OverdueCase, Profile, Provenance
from core.hub.membership import named, number_of, of_household
from core.hub.merges import Merge
from core.hub.mutations import (
    AssignCase,
    Cell,
    CloseCase,
    CustomerResult,
    Erase,
    Join,
    JoinResult,
    LeaveHousehold,
    LeftResult,
    MembershipResult,
    Mutation,
    OpenCase,
    SetConsent,
    SetMembership,
    Unmerge,
    UnmergeResult,
    Upsert,
    cells,
)
from core.reports import consented, happened
from core.schema import CaseScope, unknown_product
from protos.rapport.v1 import profile_pb2, values_pb2
from server import convert, logs
from server.services import calls

NAME: Final = profile_pb2.DESCRIPTOR.services_by_name["ProfileService"].full_name
# Contacts and events shown when the request does not say how many: a screen.
SHOWN: Final = 20
_SCOPES: Final[Mapping[profile_pb2.CaseScope, CaseScope]] = {
    profile_pb2.CASE_SCOPE_CUSTOMER: CaseScope.CUSTOMER,
    profile_pb2.CASE_SCOPE_HOUSEHOLD: CaseScope.HOUSEHOLD,
    profile_pb2.CASE_SCOPE_PRODUCT: CaseScope.PRODUCT,
}


class Profiles(Protocol):
    """What this service needs of the store."""

    def apply(self, mutation: Mutation) -> Any:
        """Apply a mutation; durable when it returns."""
        ...

    def profile(
        self, identifiers: Sequence[Identifier], *, sourced: bool = False, newest: int | None = None
    ) -> Profile | None:
        """What is known of a customer, and from where if ``sourced``, with his ``newest`` events; None when nobody is."""
        ...

    def household(self, identifiers: Sequence[Identifier]) -> Household | None:
        """A household by its own identifiers or a member's, None when there is none."""
        ...

    def provenance(
        self, identifiers: Sequence[Identifier], attributes: Sequence[str] = ()
    ) -> tuple[Provenance, ...] | None:
        """Where a customer's attributes come from, None when nobody is known."""
        ...

    def cases(self, identifiers: Sequence[Identifier]) -> tuple[Case, ...] | None:
        """A customer's cases, None when nobody is known."""
        ...

    def overdue_cases(self, now_us: int, after: int = 0) -> tuple[list[OverdueCase], int]:
        """Open cases past their due time of a part of the store, and where the next part begins; 0 at the end."""
        ...

    def merges(self, identifiers: Sequence[Identifier]) -> tuple[Merge, ...] | None:
        """The joins into a customer that can be undone, newest first; None when nobody is known."""
        ...


class ProfileService:
    """The calls of rapport.v1.ProfileService over a store. ``products`` gives those that the program names."""

    def __init__(
        self, store: Profiles, message_bytes: int, products: Callable[[], Collection[str]] = frozenset
    ) -> None:
        self._store = store
        self._message_bytes = message_bytes
        self._products = products

    def handlers(self) -> grpc.GenericRpcHandler:
        """The service as grpcio registers it."""
        most = self._message_bytes
        return calls.handlers(
            NAME,
            {
                "UpsertProfile": calls.unary(profile_pb2.UpsertProfileRequest, self.upsert, most),
                "GetProfile": calls.unary(profile_pb2.GetProfileRequest, self.get, most),
                "GetProvenance": calls.unary(profile_pb2.GetProvenanceRequest, self.provenance, most),
                "SetConsent": calls.unary(profile_pb2.SetConsentRequest, self.set_consent, most),
                "OpenCase": calls.unary(profile_pb2.OpenCaseRequest, self.open_case, most),
                "CloseCase": calls.unary(profile_pb2.CloseCaseRequest, self.close_case, most),
                "AssignCase": calls.unary(profile_pb2.AssignCaseRequest, self.assign_case, most),
                "ListCases": calls.unary(profile_pb2.ListCasesRequest, self.cases, most),
                "ListOverdueCases": calls.unary(profile_pb2.ListOverdueCasesRequest, self.overdue_cases, most),
                "JoinIdentifiers": calls.unary(profile_pb2.JoinIdentifiersRequest, self.join, most),
                "EraseProfile": calls.unary(profile_pb2.EraseProfileRequest, self.erase, most),
                "ListMerges": calls.unary(profile_pb2.ListMergesRequest, self.merges, most),
                "Unmerge": calls.unary(profile_pb2.UnmergeRequest, self.unmerge, most),
                "SetMembership": calls.unary(profile_pb2.SetMembershipRequest, self.set_membership, most),
                "LeaveHousehold": calls.unary(profile_pb2.LeaveHouseholdRequest, self.leave_household, most),
                "GetHousehold": calls.unary(profile_pb2.GetHouseholdRequest, self.household, most),
            },
        )

    def upsert(
        self, message: profile_pb2.UpsertProfileRequest, context: calls.Context
    ) -> profile_pb2.UpsertProfileResponse:
        """Set and clear attributes."""
        if len(message.attributes) + len(message.clear) > limits.ATTRIBUTES:
            raise TooLarge("attributes", len(message.attributes) + len(message.clear), limits.ATTRIBUTES)
        attributes: dict[str, Cell] = dict(cells(convert.values_from(message.attributes, "attributes")))
        for name in message.clear:
            if name in attributes:
                again = "is in attributes too" if name in message.attributes else "stands there twice"
                raise BadValue(f"clear['{name}']", again, "Set it or clear it, once.")
            attributes[name] = None
        result: CustomerResult = self._store.apply(
            Upsert(
                identifiers=_who(message.identifiers),
                attributes=attributes,
                source=message.source,
                at_us=_at(message),
            )
        )
        if of_household(result.customer):
            return profile_pb2.UpsertProfileResponse(household=number_of(result.customer), created=result.created)
        return profile_pb2.UpsertProfileResponse(customer=result.customer, created=result.created)

    def get(
        self, message: profile_pb2.GetProfileRequest, context: calls.Context
    ) -> profile_pb2.GetProfileResponse:
        """Show a customer."""
        who = _who(message.identifiers)
        if message.contacts > limits.CONTACTS_PER_CUSTOMER:
            raise TooLarge("contacts", message.contacts, limits.CONTACTS_PER_CUSTOMER)
        if message.events > limits.EVENTS_PER_CUSTOMER:
            raise TooLarge("events", message.events, limits.EVENTS_PER_CUSTOMER)
        found = self._store.profile(who, sourced=message.provenance, newest=message.events or SHOWN)
        if found is None:
            raise _unknown(who)
        return _shown(found, message.contacts or SHOWN, message.events or SHOWN)

    def provenance(
        self, message: profile_pb2.GetProvenanceRequest, context: calls.Context
    ) -> profile_pb2.GetProvenanceResponse:
        """Show where attributes come from."""
        who = _who(message.identifiers)
        if len(message.attributes) > limits.ATTRIBUTES:
            raise TooLarge("attributes", len(message.attributes), limits.ATTRIBUTES)
        found = self._store.provenance(who, tuple(message.attributes))
        if found is None:
            raise _unknown(who)
        return profile_pb2.GetProvenanceResponse(attributes=[_provenance(each) for each in found])

    def set_consent(
        self, message: profile_pb2.SetConsentRequest, context: calls.Context
    ) -> profile_pb2.SetConsentResponse:
        """Grant or withdraw."""
        result = self._store.apply(
            SetConsent(
                identifiers=_who(message.identifiers),
                purpose=message.purpose,
                channel=message.channel,
                granted=message.granted,
                source=message.source,
                at_us=consented(_sent_at(message), calls.now_us(), "at", granted=message.granted),
            )
        )
        unsourced = f"It is recorded without its source. {result.unsourced}" if result.unsourced else ""
        stands = (
            f"{'A withdrawal' if message.granted else 'A consent'} that is newer holds: look at the clock that dated this one."
            if result.superseded else ""
        )
        return profile_pb2.SetConsentResponse(
            warning=" ".join(each for each in (_newcomer(result), unsourced, stands) if each), superseded=result.superseded)

    def open_case(
        self, message: profile_pb2.OpenCaseRequest, context: calls.Context
    ) -> profile_pb2.OpenCaseResponse:
        """Open a case."""
        at_us, due_us = _at(message), _due(message)
        _not_before("due", due_us, at_us)
        identifiers = _who(message.identifiers)
        result = self._store.apply(
            OpenCase(
                identifiers=identifiers,
                kind=message.kind,
                key=_key(message.key),
                at_us=at_us,
                scope=_scope(message.scope),
                product=message.product,
                owner=message.owner,
                due_us=due_us,
            )
        )
        closed = self._closed(identifiers, message.kind, message.key)
        warnings = (unknown_product(message.product, self._products()), _newcomer(result), closed)
        return profile_pb2.OpenCaseResponse(warning=" ".join(each for each in warnings if each), closed=bool(closed))

    def _closed(self, identifiers: Sequence[Identifier], kind: str, key: str) -> str:
        """That a case is closed, which a late or repeated message does not change; '' while it is open."""
        for case in self._store.cases(identifiers) or ():
            if (case.kind, case.key) == (kind, key) and case.closed_us is not None:
                return f"The case was closed at {moment(case.closed_us)} and stays closed: open another under a key of its own."
        return ""

    def close_case(
        self, message: profile_pb2.CloseCaseRequest, context: calls.Context
    ) -> profile_pb2.CloseCaseResponse:
        """Close a case."""
        who, key, at_us = _who(message.identifiers), _key(message.key), _at(message)
        found = self._meant(who, message.kind, key)
        # A clock that goes ahead may have opened it.
        _not_before("at", at_us + limits.AHEAD_US, found[0].opened_us if found else None, at_us)
        self._store.apply(CloseCase(identifiers=who, kind=message.kind, key=key, at_us=at_us))
        return profile_pb2.CloseCaseResponse(warning=_closed_before(found))

    def _meant(self, who: Sequence[Identifier], kind: str, key: str) -> list[Case]:
        """The cases of this kind and key: a customer's own goes before his household's."""
        found = [each for each in self._store.cases(who) or () if (each.kind, each.key) == (kind, key)]
        return sorted(found, key=lambda each: each.scope is CaseScope.HOUSEHOLD)

    def assign_case(
        self, message: profile_pb2.AssignCaseRequest, context: calls.Context
    ) -> profile_pb2.AssignCaseResponse:
        """Say who works on a case."""
        who, key, due_us = _who(message.identifiers), _key(message.key), _due(message)
        if due_us is not None:
            _not_before("due", due_us, self._opened(who, message.kind, key))
        self._store.apply(
            AssignCase(
                identifiers=who, kind=message.kind, key=key, owner=message.owner, due_us=due_us, at_us=_at(message)
            )
        )
        return profile_pb2.AssignCaseResponse()

    def _opened(self, who: Sequence[Identifier], kind: str, key: str) -> int | None:
        """Since when a case is open, None where the store has yet to say that there is none.

        Only what a person sends is held to it: files bring openings and closes in any order (`core.hub.mutations.ImportCases`).
        """
        return next((each.opened_us for each in self._meant(who, kind, key)), None)

    def cases(
        self, message: profile_pb2.ListCasesRequest, context: calls.Context
    ) -> profile_pb2.ListCasesResponse:
        """Show a customer's cases."""
        who = _who(message.identifiers)
        now_us = calls.now_us()
        wanted: Mapping[int, Callable[[Case], bool]] = {
            profile_pb2.CASE_STATE_UNSPECIFIED: lambda case: case.open_at(now_us),
            profile_pb2.CASE_STATE_ALL: lambda case: True,
            profile_pb2.CASE_STATE_OVERDUE: lambda case: case.overdue_at(now_us),
        }
        if message.state not in wanted:
            raise BadValue("state", f"{message.state} is none", "Send open, all or overdue: see CaseState.")
        found = self._store.cases(who)
        if found is None:
            raise _unknown(who)
        return profile_pb2.ListCasesResponse(cases=[_case(each) for each in found if wanted[message.state](each)])

    def overdue_cases(
        self, message: profile_pb2.ListOverdueCasesRequest, context: calls.Context
    ) -> profile_pb2.ListOverdueCasesResponse:
        """Show cases past their due time, a part of the store at a time."""
        found, following = self._store.overdue_cases(calls.now_us(), message.after)
        return profile_pb2.ListOverdueCasesResponse(
            cases=[
                profile_pb2.OverdueCase(
                    customer=0 if of_household(each.owner) else each.owner,
                    household=number_of(each.owner) if of_household(each.owner) else 0,
                    identifiers=[values_pb2.Identifier(namespace=one.namespace, value=one.value) for one in each.identifiers],
                    case=_case(each.case),
                )
                for each in found
            ],
            next=following,
        )

    def join(
        self, message: profile_pb2.JoinIdentifiersRequest, context: calls.Context
    ) -> profile_pb2.JoinIdentifiersResponse:
        """Make one customer of several."""
        who = _who(message.identifiers)
        if len(who) < 2:
            raise BadValue("identifiers", "names one only", "Send at least two that are one person.")
        result: JoinResult = self._store.apply(Join(identifiers=who, at_us=_at(message), received_us=calls.now_us()))
        return profile_pb2.JoinIdentifiersResponse(
            customer=result.customer, merged=len(result.merged), merge=result.merge
        )

    def merges(
        self, message: profile_pb2.ListMergesRequest, context: calls.Context
    ) -> profile_pb2.ListMergesResponse:
        """Show what can be undone."""
        who = _who(message.identifiers)
        found = self._store.merges(who)
        if found is None:
            raise _unknown(who)
        return profile_pb2.ListMergesResponse(
            merges=[
                profile_pb2.Merge(
                    merge=each.merge,
                    at=convert.instant(each.at_us),
                    survivor=each.survivor,
                    absorbed=list(each.absorbed),
                    customers=[
                        profile_pb2.Absorbed(
                            customer=customer,
                            identifiers=[values_pb2.Identifier(namespace=one.namespace, value=one.value) for one in had],
                        )
                        for customer, had in each.absorbed.items()
                    ],
                    since=each.since,
                    until=convert.instant(each.at_us + limits.UNDO_US),
                )
                for each in found
            ]
        )

    def unmerge(self, message: profile_pb2.UnmergeRequest, context: calls.Context) -> profile_pb2.UnmergeResponse:
        """Take a join back."""
        who = _who(message.identifiers)
        result: UnmergeResult = self._to_known(Unmerge(identifiers=who, merge=message.merge, at_us=calls.now_us()), who)
        return profile_pb2.UnmergeResponse(
            customer=result.customer, restored=result.restored, reapplied=result.reapplied, dropped=result.dropped
        )

    def set_membership(
        self, message: profile_pb2.SetMembershipRequest, context: calls.Context
    ) -> profile_pb2.SetMembershipResponse:
        """Make a customer a member of a household."""
        result: MembershipResult = self._store.apply(
            SetMembership(
                identifiers=_who(message.identifiers),
                household=_who(message.household, "household", "Name the household by an identifier of its own."),
                role=message.role,
                at_us=_at(message),
            )
        )
        return profile_pb2.SetMembershipResponse(
            customer=result.customer,
            household=number_of(result.household) if result.household else 0,
            created=result.created,
            household_created=result.household_created,
            left=number_of(result.left) if result.left else 0,
            superseded=result.superseded,
        )

    def leave_household(
        self, message: profile_pb2.LeaveHouseholdRequest, context: calls.Context
    ) -> profile_pb2.LeaveHouseholdResponse:
        """End a membership."""
        who = _who(message.identifiers)
        result: LeftResult = self._to_known(LeaveHousehold(identifiers=who, at_us=_at(message)), who)
        return profile_pb2.LeaveHouseholdResponse(
            household=number_of(result.household) if result.household else 0, superseded=result.superseded
        )

    def household(
        self, message: profile_pb2.GetHouseholdRequest, context: calls.Context
    ) -> profile_pb2.GetHouseholdResponse:
        """Show what the members of a household share."""
        who = _who(message.identifiers)
        found = self._store.household(who)
        if found is None:
            named = ", ".join(each.namespace for each in who)
            raise NotFound(
                "Household",
                named,
                hint="SetMembership (rapport profile household set) makes a customer a member of one.",
                told=f"There is no household of these identifiers ({named}), nor is their customer in one.",
            )
        return profile_pb2.GetHouseholdResponse(household=_household(found))

    def _to_known(self, mutation: Mutation, who: Sequence[Identifier]) -> Any:
        """Apply what makes nobody: that nobody is known is told as by the calls that show somebody."""
        try:
            return self._store.apply(mutation)
        except NotFound as error:
            if error.metadata["kind"].lower() != "customer":
                raise
            raise _unknown(who) from None

    def erase(
        self, message: profile_pb2.EraseProfileRequest, context: calls.Context
    ) -> profile_pb2.EraseProfileResponse:
        """Forget a customer; the log says that it happened, as the audit trail does."""
        who = _who(message.identifiers)
        self._to_known(Erase(identifiers=who, request=message.request, at_us=calls.now_us()), who)
        logs.get("profiles").info("a customer was erased", request=message.request)
        return profile_pb2.EraseProfileResponse()


_Dated = (
    profile_pb2.UpsertProfileRequest
    | profile_pb2.SetConsentRequest
    | profile_pb2.OpenCaseRequest
    | profile_pb2.CloseCaseRequest
    | profile_pb2.AssignCaseRequest
    | profile_pb2.JoinIdentifiersRequest
    | profile_pb2.SetMembershipRequest
    | profile_pb2.LeaveHouseholdRequest
)


def _sent_at(message: _Dated) -> int | None:
    return convert.micros(message.at, "at") if message.HasField("at") else None


def _at(message: _Dated) -> int:
    return happened(_sent_at(message), calls.now_us(), "at")


def _who(
    messages: Sequence[values_pb2.Identifier],
    field: str = "identifiers",
    hint: str = "Name the customer that it is about.",
) -> tuple[Identifier, ...]:
    if not messages:
        raise BadValue(field, "is empty", hint)
    return convert.identifiers_from(messages, field)


def _unknown(who: Sequence[Identifier]) -> NotFound:
    # The identifier itself stays out of the error: errors are logged by callers.
    named = ", ".join(each.namespace for each in who)
    return NotFound(
        "Customer",
        named,
        hint="Compare their spelling; Tell, UpsertProfile and imports make customers.",
        told=f"No customer has any of these identifiers ({named}).",
    )


def _key(key: str) -> str:
    if not key:
        raise BadValue("key", "is empty", "Send the case's number in the system that keeps it.")
    if len(key.encode()) > limits.IDENTIFIER_BYTES:
        raise TooLarge("key in bytes", len(key.encode()), limits.IDENTIFIER_BYTES, field="key")
    return key


def _scope(scope: profile_pb2.CaseScope) -> CaseScope | None:
    if scope == profile_pb2.CASE_SCOPE_UNSPECIFIED:
        return None
    if scope not in _SCOPES:
        raise BadValue("scope", f"{scope} is none", "Send customer, household or product: see CaseScope.")
    return _SCOPES[scope]


def _not_before(field: str, at_us: int | None, opened_us: int | None, told_us: int | None = None) -> None:
    """Raise BadValue for a time before the case was opened; None is no time. ``told_us`` is what was sent, if not ``at_us``."""
    if at_us is not None and opened_us is not None and at_us < opened_us:
        shown = moment(at_us if told_us is None else told_us)
        raise BadValue(
            field, f"is {shown}, before the case was opened ({moment(opened_us)})",
            "Send a time at or after the opening; rapport case list shows it.",
        )


def _closed_before(found: Sequence[Case]) -> str:
    """That the first of these, which a close means, is closed, and which with its key is not; '' while it is open."""
    if not found or found[0].closed_us is None:
        return ""
    told = f"The case was closed before, at {moment(found[0].closed_us)}: nothing changed."
    if any(each.closed_us is None for each in found):
        told += " His household has an open one with this key: close that by an identifier of the household."
    return told


def _due(message: profile_pb2.OpenCaseRequest | profile_pb2.AssignCaseRequest) -> int | None:
    return convert.micros(message.due, "due") if message.HasField("due") else None


def _case(case: Case) -> profile_pb2.Case:
    return profile_pb2.Case(
        kind=case.kind,
        key_hash=case.key_hash,
        opened=convert.instant(case.opened_us),
        closed=None if case.closed_us is None else convert.instant(case.closed_us),
        key=case.key,
        scope=next(number for number, scope in _SCOPES.items() if scope is case.scope),
        product=case.product,
        owner=case.owner,
        due=None if case.due_us is None else convert.instant(case.due_us),
    )


def _household(found: Household) -> profile_pb2.Household:
    return profile_pb2.Household(
        household=found.number,
        role=found.role,
        since=None if found.since_us is None else convert.instant(found.since_us),
        members=found.members,
        attributes=convert.values_to(found.attributes),
        identifiers=[
            values_pb2.Identifier(namespace=each.namespace, value=each.value) for each in found.identifiers
        ],
    )


def _shown(profile: Profile, contacts: int, events: int) -> profile_pb2.GetProfileResponse:
    message = profile_pb2.GetProfileResponse(
        customer=profile.customer,
        updated=convert.instant(profile.updated_us),
        identifiers=[
            values_pb2.Identifier(namespace=each.namespace, value=each.value) for each in profile.identifiers
        ],
        attributes=convert.values_to(profile.attributes),
        household=None if profile.household is None else _household(profile.household),
        contacts_kept=len(profile.contacts),
        events_kept=profile.events_kept,
    )
    for consent in profile.consents:
        message.consents.add(
            purpose=consent.purpose,
            channel=consent.channel,
            granted=consent.granted,
            source=consent.source,
            at=convert.instant(consent.at_us),
        )
    message.cases.extend(_case(each) for each in profile.cases)
    for contact in reversed(profile.contacts[-contacts:]):
        message.contacts.add(
            at=convert.instant(contact.at_us),
            offer=contact.offer,
            outcome=contact.outcome,
            channel=contact.channel,
            instance=contact.instance,
            value_minor=contact.value_minor,
        )
    for event in reversed(profile.events[-events:]):
        message.events.add(
            type=event.type, at=convert.instant(event.at_us), fields=convert.values_to(event.fields)
        )
    message.provenance.extend(_provenance(each) for each in profile.provenance)
    return message


def _provenance(told: Provenance) -> profile_pb2.Provenance:
    return profile_pb2.Provenance(
        attribute=told.attribute,
        rule=told.rule.value,
        value=None if told.value is None else convert.value_to(told.value),
        origins=[
            profile_pb2.OriginValue(
                source=one.source,
                at=convert.instant(one.at_us),
                value=None if one.value is None else convert.value_to(one.value),
                previous_at=None if one.previous_at_us is None else convert.instant(one.previous_at_us),
                previous=None if one.previous is None else convert.value_to(one.previous),
            )
            for one in told.origins
        ],
    )


def _newcomer(result: CustomerResult) -> str:
    """That somebody was made for identifiers that nobody had; '' where they were known."""
    if not result.created:
        return ""
    return f"Nobody had these identifiers: {named(result.customer)} was made. If they are mistyped, it is not whom you mean."
