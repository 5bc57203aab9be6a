"""The oracle's hub: what is remembered between decisions, as dictionaries.

It has the engine's surface as far as scenarios and random histories need it: say who customers are, tell what happened,
decide, report outcomes. A test drives it and the engine with the same steps and compares the answers.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, cast

from msgspec.structs import replace

from core.decision import DecideAnswer, DecidedOffer, DecideRequest, Event, Identifier
from core.errors import IdentityConflict, NotFound, SourceNotAllowed, UnknownName
from core.outcomes import Outcome, OutcomeStatus
from core.programs.program import Program
from core.schema import STANDARD_OUTCOMES, AnyValue, Field, Money, Namespace, Normaliser, SourceRule
from tests.oracle import Case, Contact, OracleCustomer, OracleHousehold, OracleModel, band_edges, decide

# How wrong a caller's clock may be, and how long after its expiry an instance's late reports are taken.
SKEW_US = 5 * 60 * 1_000_000
LATE_US = 400 * 86_400 * 1_000_000


@dataclass(slots=True)
class _Case:
    """A case with all that was ever told of it: (time, value) of product, owner and due."""

    opened_us: int
    closed_us: int | None = None
    told: dict[str, list[tuple[int, Any]]] = field(default_factory=dict)

    def tell(self, at_us: int, product: str, owner: str, due_us: int | None) -> None:
        for name, value in (("product", product or None), ("owner", owner or None), ("due", due_us)):
            if value is not None:
                self.told.setdefault(name, []).append((at_us, value))

    def newest(self, name: str) -> Any:
        return max(self.told[name])[1] if name in self.told else None

    def unite(self, other: _Case) -> None:
        self.opened_us = min(self.opened_us, other.opened_us)
        ends = [each for each in (self.closed_us, other.closed_us) if each is not None]
        self.closed_us = min(ends, default=None)
        for name, values in other.told.items():
            self.told.setdefault(name, []).extend(values)


@dataclass(slots=True)
class _Person:
    """One customer, by everything that may change."""

    attributes: dict[str, AnyValue] = field(default_factory=dict)
    said: dict[str, dict[str, tuple[int, AnyValue | None]]] = field(default_factory=dict)  # attribute, source: the newest
    consents: dict[tuple[str, str], tuple[int, bool]] = field(default_factory=dict)
    cases: dict[tuple[str, str], _Case] = field(default_factory=dict)
    contacts: dict[tuple[object, ...], Contact] = field(default_factory=dict)
    events: dict[tuple[str, str], Event] = field(default_factory=dict)
    member: tuple[int, str, int] | None = None  # household, role, since
    member_told: int | None = None  # when it was said last where he is, or that he is in none
    apart: int | None = None  # the newest moment before it of which he was said to be elsewhere

    def profile(self, household: OracleHousehold | None = None) -> OracleCustomer:
        return OracleCustomer(
            dict(self.attributes),
            dict(self.consents),
            self.told_cases(),
            tuple(self.contacts.values()),
            tuple(self.events.values()),
            household,
        )

    def stays(self, home: int | None, told: int) -> bool:
        """Whether what is known of him stands, though it is said of a moment that he is in a household, or in none."""
        mine = None if self.member is None else self.member[0]
        if self.member_told is None:
            return False
        if told != self.member_told or mine == home:
            return told < self.member_told
        # Of one moment leaving goes before, then the household that was made later.
        return mine is None or (home is not None and mine > home)

    def say_member(self, member: tuple[int, str, int] | None, told: int) -> None:
        """It is said of a moment in which household he is, or that he is in none. In one stay the earliest `since` stands."""
        old, before = self.member, self.member_told
        if member is not None and old is not None and before is not None and member[0] == old[0]:
            here = self.apart is None or told > self.apart
            since = min(member[2], old[2]) if self.apart is None or member[2] > self.apart else old[2]
            role = (member[1] or old[1]) if told >= before else (old[1] or member[1])
            self.member = (old[0], role if here else old[1], since)
            self.member_told = max(told, before)
        elif not self.stays(None if member is None else member[0], told):
            self.apart = before if member is not None else None
            self.member, self.member_told = member, told
        else:
            self.was_elsewhere(told)

    def was_elsewhere(self, told: int) -> None:
        """It is told late that he was elsewhere: between two moments of which he was said to be in his household, that stay began
        later; before the stay, nothing older belongs to it."""
        if self.member is not None and self.member_told is not None and told < self.member_told:
            if told > self.member[2]:
                self.member = (*self.member[:2], self.member_told)
            self.apart = told if self.apart is None else max(self.apart, told)

    def told_cases(self) -> tuple[Case, ...]:
        told = ((kind, case, str(case.newest("product") or "")) for (kind, _), case in self.cases.items())
        return tuple(Case(kind, case.opened_us, case.closed_us, product) for kind, case, product in told)


@dataclass(frozen=True, slots=True)
class _Instance:
    """What a token stands for."""

    identifiers: tuple[Identifier, ...]
    customer: int  # 0: nobody who was known
    offer: str
    channel: str
    decided_us: int
    expires_us: int


def normalise(namespace: Namespace, value: str) -> str:
    """An identifier as it is stored.

    >>> normalise(Namespace("phone", Normaliser.E164), "0035191 (23)-4")
    '+35191234'
    """
    match namespace.normaliser:
        case Normaliser.LOWER:
            return "".join(chr(ord(one) + 32) if "A" <= one <= "Z" else one for one in value.strip())
        case Normaliser.E164:
            digits = "".join(one for one in value if one not in " .-()/\t")
            return "+" + digits[2:] if digits.startswith("00") else digits
        case Normaliser.FOLD:
            folded = "".join(one.casefold() if len(one.casefold()) == 1 else one.lower() for one in value.strip())
            return unicodedata.normalize("NFC", folded)
        case Normaliser.NONE:
            return value


@dataclass(slots=True)
class OracleHub:
    """Customers, their identifiers, and the program that decides."""

    program: Program
    models: Mapping[str, OracleModel] = field(default_factory=dict)
    edges: Mapping[str, Sequence[float]] = field(default_factory=dict)  # of the program's bands
    _people: dict[int, _Person] = field(default_factory=dict)
    _index: dict[tuple[str, str], int] = field(default_factory=dict)
    _homes: dict[int, _Person] = field(default_factory=dict)  # households, of which only attributes and cases are used
    _homes_index: dict[tuple[str, str], int] = field(default_factory=dict)
    _since: list[Callable[[], None]] = field(default_factory=list)  # all that was told
    _joins: list[tuple[dict[int, _Person], dict[tuple[str, str], int], int]] = field(default_factory=list)  # before each
    _instances: dict[str, _Instance] = field(default_factory=dict)
    _erased: set[int] = field(default_factory=set)
    audit: list[tuple[str, str]] = field(default_factory=list)  # action, and for which request

    def find(self, identifiers: Iterable[Identifier]) -> int:
        """The customer meant: the known identifier of the most trusted namespace wins. 0 is nobody.

        Nobody is meant who has another identifier of a single namespace than one that is trusted more.
        """
        keys = [self._key(one) for one in self._ranked(identifiers)]
        for place, key in enumerate(keys):
            number = self._index.get(key, 0)
            if number and not any(self._has_another(number, better) for better in keys[:place]):
                return number
        return 0

    def _key(self, one: Identifier) -> tuple[str, str]:
        """What it is stored as."""
        return one.namespace, normalise(self.program.schema.namespaces[one.namespace], one.value)

    def _ranked(self, identifiers: Iterable[Identifier]) -> list[Identifier]:
        """The most believed first: by trust, the order of declaration, and the value."""
        spaces = self.program.schema.namespaces
        return sorted(identifiers, key=lambda one: (
            -spaces[one.namespace].trust, list(spaces).index(one.namespace), self._key(one)[1]))

    def _has_another(self, number: int, key: tuple[str, str]) -> bool:
        """Whether a customer has an identifier of a single namespace, but not this one."""
        if not self.program.schema.namespaces[key[0]].single:
            return False
        his = {value for (namespace, value), owner in self._index.items() if owner == number and namespace == key[0]}
        return bool(his) and key[1] not in his

    def customer(self, identifiers: Iterable[Identifier]) -> OracleCustomer | None:
        number = self.find(identifiers)
        return self._people[number].profile(self._household(self._people[number])) if number else None

    def _household(self, person: _Person) -> OracleHousehold | None:
        """The person's household as its members may know it."""
        if person.member is None:
            return None
        home, role, _ = person.member
        members = [(one, one.member[2]) for one in self._people.values() if one.member is not None and one.member[0] == home]
        contacts = tuple(contact for one, since in members for contact in one.contacts.values() if contact.at_us >= since)
        return OracleHousehold(dict(self._homes[home].attributes), role, len(members), contacts, self._homes[home].told_cases())

    def _home(self, identifiers: Sequence[Identifier]) -> int:
        """The household meant, made when none is known."""
        keys = [self._key(one) for one in self._ranked(identifiers)]
        known = [key for key in keys if key in self._homes_index]
        home = self._homes_index[known[0]] if known else max(self._homes, default=0) + 1
        for key in keys:
            self._homes_index.setdefault(key, home)
        self._homes.setdefault(home, _Person())
        return home

    def refresh(self, now_us: int) -> None:
        """Make the edges of all bands anew."""
        people = [self._people[number] for number in sorted(set(self._index.values()))]
        self.edges = band_edges(self.program, [one.profile(self._household(one)) for one in people], now_us)

    def _ensure(self, identifiers: Sequence[Identifier], *, claimed: bool = False) -> _Person:
        """The customer meant, made when nobody is known; identifiers that nobody has are added.

        Of what is only claimed, those whose claims must be verified are not, unless he would have none; nor is any when
        only such a claim says who he is.
        """
        number = self.find(identifiers) or len(self._people) + 1
        identifiers = self._ranked(identifiers)
        if claimed:
            spaces = self.program.schema.namespaces
            plain = [one for one in identifiers if not spaces[one.namespace].verified]
            if number not in self._people:
                identifiers = plain or identifiers[:1]
            elif any(spaces[one.namespace].verified for one in identifiers):
                identifiers = plain if any(self.find([one]) == number for one in plain) else []
        for one in identifiers:
            key = self._key(one)
            if self._index.get(key) != number and self._has_another(number, key):
                if not claimed:
                    raise IdentityConflict(one.namespace)
                continue
            self._index.setdefault(key, number)
        return self._people.setdefault(number, _Person())

    # --- what is told ---

    def upsert(
        self, identifiers: Sequence[Identifier], attributes: Mapping[str, AnyValue | None], at_us: int = 0, source: str = ""
    ) -> None:
        shared = self.program.schema.namespaces[identifiers[0].namespace].household
        if not shared:
            self._since.append(lambda: self.upsert(identifiers, attributes, at_us, source))
        fields = self.program.schema.household_attributes if shared else self.program.schema.attributes
        for name in attributes:
            allowed = fields[name].sources
            if allowed and source not in allowed:
                raise SourceNotAllowed(name, source, allowed)
        person = self._homes[self._home(identifiers)] if shared else self._ensure(identifiers)
        for name, value in attributes.items():
            if fields[name].sources:
                newest, _ = person.said.setdefault(name, {}).get(source, (at_us, None))
                if at_us >= newest:
                    person.said[name][source] = (at_us, value)
            held = self._holds(person, fields[name]) if name in person.said else value
            person.attributes.pop(name, None)
            if held is not None:
                person.attributes[name] = held

    def _holds(self, person: _Person, declared: Field) -> AnyValue | None:
        """What the sources of an attribute come to."""
        told = person.said[declared.name]
        said = [(source, *told[source]) for source in declared.sources if source in told]
        if declared.rule is SourceRule.LATEST:
            newest = max(at for _, at, _ in said)
            return next(value for _, at, value in said if at == newest)
        values: list[Any] = [value for _, _, value in said if value is not None]
        if not values:
            return None
        match declared.rule:
            case SourceRule.PRECEDENCE:
                found = values[0]
            case SourceRule.UNION:
                found = frozenset().union(*values)
            case SourceRule.MAX:
                found = Money(max(one.minor for one in values), declared.currency) if declared.currency else max(values)
            case SourceRule.SUM:
                found = Money(sum(one.minor for one in values), declared.currency) if declared.currency else sum(values)
        return cast(AnyValue, found)

    def provenance(
        self, identifiers: Sequence[Identifier], attribute: str
    ) -> tuple[AnyValue | None, str, list[tuple[str, int, AnyValue | None]]]:
        """What holds, the rule, and what each source says."""
        shared = self.program.schema.namespaces[identifiers[0].namespace].household
        person = self._homes[self._home(identifiers)] if shared else self._people[self.find(identifiers)]
        fields = self.program.schema.household_attributes if shared else self.program.schema.attributes
        declared = fields[attribute]
        said = person.said.get(attribute, {})
        told = [(source, *said[source]) for source in declared.sources if source in said]
        return person.attributes.get(attribute), declared.rule.value, told

    def tell(self, identifiers: Sequence[Identifier], events: Iterable[Event], at_us: int) -> None:
        told = tuple(events)
        self._since.append(lambda: self.tell(identifiers, told, at_us))
        person = self._ensure(identifiers, claimed=True)
        for event in told:
            when = at_us if event.at_us is None else event.at_us
            person.events.setdefault((event.type, event.key), Event(event.type, event.key, when, event.fields))

    def set_consent(
        self, identifiers: Sequence[Identifier], purpose: str, channel: str, granted: bool, at_us: int
    ) -> None:
        self._since.append(lambda: self.set_consent(identifiers, purpose, channel, granted, at_us))
        consents = self._ensure(identifiers).consents
        newest, stands = consents.get((purpose, channel), (at_us, granted))
        if at_us > newest:
            consents[purpose, channel] = (at_us, granted)
        else:
            # Of two at one moment the refusal stands.
            consents[purpose, channel] = (newest, stands and (granted or at_us < newest))

    def open_case(
        self, identifiers: Sequence[Identifier], kind: str, key: str, at_us: int, product: str = "", owner: str = "",
        due_us: int | None = None, household: bool = False,
    ) -> None:
        self._since.append(lambda: self.open_case(identifiers, kind, key, at_us, product, owner, due_us, household))
        if self._names_household(identifiers):
            person = self._homes[self._home(identifiers)]
        elif household:
            # It is the household's from here on, whoever told of it.
            self._since.pop()
            person = self._homes_of(identifiers)[-1]
        else:
            person = self._ensure(identifiers)
        case = person.cases.setdefault((kind, key), _Case(at_us))
        case.opened_us = min(case.opened_us, at_us)
        case.tell(at_us, product, owner, due_us)

    def close_case(self, identifiers: Sequence[Identifier], kind: str, key: str, at_us: int) -> None:
        case = self._case(identifiers, kind, key, lambda: self.close_case(identifiers, kind, key, at_us))
        case.opened_us = min(case.opened_us, at_us)
        case.closed_us = at_us if case.closed_us is None else min(case.closed_us, at_us)

    def assign_case(
        self, identifiers: Sequence[Identifier], kind: str, key: str, owner: str, due_us: int | None, at_us: int
    ) -> None:
        case = self._case(identifiers, kind, key, lambda: self.assign_case(identifiers, kind, key, owner, due_us, at_us))
        case.tell(at_us, "", owner, due_us)

    def _case(self, identifiers: Sequence[Identifier], kind: str, key: str, again: Callable[[], None]) -> _Case:
        """The customer's own case, else his household's. Only what is told of his own is told again after an undo."""
        mine, *home = self._homes_of(identifiers)
        if (kind, key) in mine.cases:
            self._since.append(again)
            return mine.cases[kind, key]
        return home[0].cases[kind, key]

    def _names_household(self, identifiers: Sequence[Identifier]) -> bool:
        return self.program.schema.namespaces[identifiers[0].namespace].household

    def _homes_of(self, identifiers: Sequence[Identifier]) -> list[_Person]:
        """The customer meant and his household, or only the household that is named."""
        if self._names_household(identifiers):
            return [self._homes[self._home(identifiers)]]
        person = self._people[self.find(identifiers)]
        return [person] if person.member is None else [person, self._homes[person.member[0]]]

    def cases(self, identifiers: Sequence[Identifier]) -> list[tuple[str, str, str, str, int, int | None, int | None]]:
        """(kind, key, product, owner, opened, closed, due) of each case, by kind and opening."""
        found = []
        for person in self._homes_of(identifiers):
            for (kind, key), case in person.cases.items():
                rule = self.program.schema.case_rules.get(kind)
                due_us = case.newest("due")
                if due_us is None and rule is not None and rule.due_us:
                    due_us = case.opened_us + rule.due_us
                product, owner = case.newest("product") or "", case.newest("owner") or ""
                found.append((kind, key, product, owner, case.opened_us, case.closed_us, due_us))
        return sorted(found, key=lambda case: (case[0], case[4], case[1]))

    def add_contact(self, identifiers: Sequence[Identifier], contact: Contact, key: str) -> None:
        """A contact as an import brings it, without an instance."""
        self._ensure(identifiers).contacts.setdefault((key,), contact)

    def set_membership(
        self, identifiers: Sequence[Identifier], household: Sequence[Identifier], role: str, at_us: int
    ) -> None:
        """One household at most; in it the earliest time stands, and a role until another is given."""
        self._since.append(lambda: self.set_membership(identifiers, household, role, at_us))
        named = self._homes_index.get(next(self._key(one) for one in self._ranked(household)))
        if number := self.find(identifiers):
            known = self._people[number]
            inside = named is not None and known.member is not None and known.member[0] == named
            if not inside and known.stays(max(self._homes, default=0) + 1 if named is None else named, at_us):
                known.was_elsewhere(at_us)
                return
        person, home = self._ensure(identifiers), self._home(household)
        person.say_member((home, role, at_us), at_us)

    def leave_household(self, identifiers: Sequence[Identifier], at_us: int) -> None:
        self._since.append(lambda: self.leave_household(identifiers, at_us))
        self._people[self.find(identifiers)].say_member(None, at_us)

    def join(self, identifiers: Sequence[Identifier]) -> None:
        """Make one of all customers that these identifiers name: the most trusted one's survives."""
        survivor = self.find(identifiers)
        named = {self._key(one) for one in identifiers}
        theirs = {self.find([one]) for one in identifiers} - {0}
        named |= {key for key, number in self._index.items() if number in theirs}
        for space in self.program.schema.namespaces.values():
            if space.single and sum(namespace == space.name for namespace, _ in named) > 1:
                raise IdentityConflict(space.name)
        self._joins.append((deepcopy(self._people), dict(self._index), len(self._since)))
        self._ensure(identifiers)
        others = {self.find([one]) for one in identifiers} - {survivor}
        # The household is that of the survivor, or of the most believed who is in one, unless the survivor left later.
        for other in dict.fromkeys(self.find([one]) for one in self._ranked(identifiers)):
            kept, gone = self._people[survivor], self._people[other]
            if other == survivor or gone.member_told is None:
                continue
            if kept.member_told is None:
                kept.member, kept.member_told, kept.apart = gone.member, gone.member_told, gone.apart
            elif kept.member is None or (gone.member is not None and kept.member[0] == gone.member[0]):
                kept.say_member(gone.member, gone.member_told)
            gone.member = gone.member_told = None
        for other in sorted(others):
            kept, gone = self._people[survivor], self._people[other]
            kept.attributes = gone.attributes | kept.attributes
            for name, told in gone.said.items():
                for source, (at, value) in told.items():
                    mine = kept.said.setdefault(name, {})
                    if source not in mine or mine[source][0] < at:
                        mine[source] = (at, value)
            for name in kept.said:
                kept.attributes.pop(name, None)
                if (held := self._holds(kept, self.program.schema.attributes[name])) is not None:
                    kept.attributes[name] = held
            for where, (at, granted) in gone.consents.items():
                newest, stands = kept.consents.get(where, (at, granted))
                # Of two at one moment the refusal stands.
                kept.consents[where] = max((newest, stands), (at, granted), key=lambda entry: (entry[0], not entry[1]))
            for which, case in gone.cases.items():
                kept.cases.setdefault(which, case).unite(case)
            kept.contacts = gone.contacts | kept.contacts
            kept.events = gone.events | kept.events
            self._index = {key: survivor if number == other else number for key, number in self._index.items()}

    def unmerge(self, identifiers: Sequence[Identifier]) -> None:
        """Take the newest join back: as if it had never been."""
        self._people, self._index, length = self._joins.pop()
        later = self._since[length:]
        del self._since[length:]
        for tell in later:
            tell()

    def erase(self, identifiers: Sequence[Identifier], request: str = "") -> None:
        """Forget a customer, and his household with its last member. No join from before is undone any more."""
        gone = self.find(identifiers)
        if not gone:
            raise NotFound("Customer", identifiers[0].namespace)
        member, self._people[gone] = self._people[gone].member, _Person()
        self._index = {key: number for key, number in self._index.items() if number != gone}
        if member is not None and all(one.member is None or one.member[0] != member[0] for one in self._people.values()):
            del self._homes[member[0]]
            self._homes_index = {key: home for key, home in self._homes_index.items() if home != member[0]}
        self._joins.clear()
        self._since.clear()
        self._erased.add(gone)
        self.audit.append(("erase", request))

    # --- deciding and what comes of it ---

    def decide(self, request: DecideRequest, now_us: int) -> DecideAnswer:
        """Decide, and keep the events sent along; a question about another moment leaves no trace."""
        known = self.customer(request.identifiers)
        answer = decide(self.program, known, request, self.models, now_us, self.edges)
        if request.events and request.identifiers and request.as_of_us is None:
            self.tell(request.identifiers, request.events, answer.as_of_us)
        placements = []
        for placement in answer.placements:
            offers = tuple(self._issue(request, answer.as_of_us, one) for one in placement.offers)
            placements.append(replace(placement, offers=offers))
        return replace(answer, placements=tuple(placements))

    def _issue(self, request: DecideRequest, now_us: int, offer: DecidedOffer) -> DecidedOffer:
        """The offer with a token of its own."""
        number = len(self._instances) + 1
        token = f"oracle-{number}"
        expires_us = now_us + self.program.instance_expiry_us
        self._instances[token] = _Instance(
            request.identifiers, self.find(request.identifiers), offer.offer, request.channel, now_us, expires_us)
        return replace(offer, token=token, instance=number)

    def record(self, outcome: Outcome, now_us: int) -> OutcomeStatus:
        """One outcome of one instance: counted at its own time, once for each key."""
        instance = self._instances.get(outcome.token)
        at_us = now_us if outcome.at_us is None else outcome.at_us
        if instance is None or instance.customer in self._erased:
            return OutcomeStatus.UNKNOWN
        if outcome.outcome not in {*STANDARD_OUTCOMES, *self.program.schema.outcomes}:
            raise UnknownName("outcome", outcome.outcome, self.program.schema.outcomes)
        if at_us > now_us + SKEW_US or at_us < instance.decided_us - SKEW_US:
            return OutcomeStatus.REFUSED
        if at_us > instance.expires_us or now_us > instance.expires_us + LATE_US:
            return OutcomeStatus.UNKNOWN
        contacts = self._ensure(instance.identifiers, claimed=True).contacts
        key = (outcome.token, outcome.outcome, outcome.key)
        if key in contacts:
            return OutcomeStatus.DUPLICATE
        contacts[key] = Contact(instance.offer, outcome.outcome, instance.channel, at_us)
        return OutcomeStatus.APPLIED
