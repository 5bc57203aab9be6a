"""The structural check: whether everything in a store fits together, beyond each page and record being whole.

Pages and checksums are walked first. Then each customer is read as a profile (so every number must have a name in the
catalog), each of his identifiers must lead back to him, every list must have a record, and ids that were joined must
end at a record, as must those whose joins can be undone. Programs that were saved must have the sources of their digest.
Households are read likewise; members and memberships must agree, and what counts for a household must be what its members'
lists say. Where there are as many identifiers as records name, and all of those lead back, none is left over; only where the
numbers differ is each looked at. All of it reads one snapshot, beside a running server. The files of the journal beside it
must lead from one to the next and up to the store.
"""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import msgspec

from core import limits
from core.decision import Identifier
from core.errors import EngineFault, RapportError, StoreCorrupt
from core.hub import case_details, contacts, journal, merges, mutations, saved
from core.hub import catalog as catalogs
from core.hub import customer_profile as profiles
from core.hub.catalog import Catalog
from core.hub.environment import DATABASES, Environment, Reader, open_environment
from core.hub.erasing import JOINED
from core.hub.membership import HOUSEHOLD_FIRST, of_household, unpack_members, unpack_membership
from core.hub.membership import named as named_
from core.hub.record import Record, product_hash, siphash
from core.hub.saved import ActiveProgram, SavedProgram

# Told one by one; a store with more is told as one with many.
FAULTS = 100
TOLD_EVERY = 10_000
_REPAIR = "Restore the store from a backup (rapport store restore); the damaged folder stays as it is."
# Of a fault behind which nothing can be looked at: without it, 0 customers and one fault look like a finding.
_ENDS = "The check ends here: what lies behind is neither counted nor told."

_AWAY = "The store is whole, and no server opens it with that journal: move the folder journal away, and keep it."
_BACKUP = "The store is whole. Take a backup now: a restore to a moment after it does not need what is damaged."

Progress = Callable[[str, int], object]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that does not fit: what it is about, what is wrong, and what to do."""

    what: str
    problem: str
    hint: str = _REPAIR


@dataclass(frozen=True, slots=True)
class Checked:
    """What was looked at. ``entries`` are all keys, ``applied`` the last mutation of the state looked at."""

    entries: int
    customers: int
    identifiers: int
    applied: int
    faults: tuple[Fault, ...]


class _Full(Exception):
    """Enough faults were found."""


class _Check:
    def __init__(self, environment: Environment, progress: Progress | None) -> None:
        self._environment = environment
        self._progress = progress
        self.faults: list[Fault] = []
        self.entries = self.customers = self.identifiers = self.applied = 0

    def run(self) -> None:
        try:
            self._environment.verify()
        except StoreCorrupt as error:
            # Pages that cannot be followed cannot be cross-checked either.
            self._fault(error, last=True)
            return
        try:
            with self._environment.reader() as reader:
                # As a backup counts: LMDB's own list of free pages has none.
                self.entries = sum(reader.count(database) for database in DATABASES)
                self._all(reader)
                lineage = journal.lineage_of(reader)
            folder = Path(self._environment.path, journal.FOLDER)
            for path, problem in journal.faults(folder, self.applied, lineage):
                self._add(f"The journal {path}", problem, _AWAY if problem == journal.ANOTHERS else _BACKUP)
        except StoreCorrupt as error:
            self._fault(error, last=True)
        except _Full:
            pass

    def _all(self, reader: Reader) -> None:
        next_customer = self._number(reader, b"next_customer", 1)
        self.applied = self._number(reader, b"applied", 0)
        if reader.get("meta", b"signing_key") is None:
            self._add("The store's signing key", "it is missing")
        catalog = catalogs.loaded(reader.items("catalog"))
        named = self._profiles(reader, catalog, next_customer)
        named += self._households(reader, catalog, HOUSEHOLD_FIRST + self._number(reader, b"next_household", 1))
        for database in ("contacts", "events", "origins", "memberships", "cases"):
            for key, _ in reader.items(database):
                owner = int.from_bytes(key, "little")
                if reader.get_customer("households" if of_household(owner) else "profiles", owner) is None:
                    self._add(f"The entry of {named_(owner)} in {database}", "there is no record to it")
        self._cases(reader)
        joined = self._joined(reader)
        self._merges(reader)
        self._programs(reader)
        self.identifiers = reader.count("identifiers") - joined
        if self.identifiers != named:
            self._left_over(reader)

    def _number(self, reader: Reader, key: bytes, default: int) -> int:
        data = reader.get("meta", key)
        if data is None:
            return default
        try:
            return msgspec.msgpack.decode(data, type=int)
        except msgspec.DecodeError as error:
            self._add(f"The store's counter {key.decode()}", str(error))
            return default

    def _profiles(self, reader: Reader, catalog: Catalog, next_customer: int) -> int:
        """Read every customer; how many identifiers their records name."""
        named = 0
        numbers = {entry.name: entry.number for entry in catalog.namespaces.values()}
        for key, _ in reader.items("profiles"):
            customer = int.from_bytes(key, "little")
            self.customers += 1
            if self._progress is not None and self.customers % TOLD_EVERY == 0:
                self._progress("customers", self.customers)
            if not 0 < customer < next_customer:
                self._add(f"Customer {customer}", f"the next customer's id is {next_customer}, so this one was never given")
            try:
                profile = profiles.read(reader, catalog, customer)
            except StoreCorrupt as error:
                self._fault(error)
                continue
            assert profile is not None, "one snapshot"
            named += self._leading_back(reader, numbers, customer, profile.identifiers)
        return named

    def _leading_back(
        self, reader: Reader, numbers: Mapping[str, int], owner: int, identifiers: Sequence[Identifier]
    ) -> int:
        """Each of a record's identifiers must lead to it; how many there are."""
        for identifier in identifiers:
            found = reader.customer(numbers[identifier.namespace], identifier.value.encode())
            if found != owner:
                leads = "nobody" if found is None else named_(found)
                self._add(
                    named_(owner).capitalize(), f"an identifier of namespace {identifier.namespace} leads to {leads}")
        return len(identifiers)

    def _households(self, reader: Reader, catalog: Catalog, next_household: int) -> int:
        """Read every household and its members; how many identifiers the records name."""
        named = 0
        numbers = {entry.name: entry.number for entry in catalog.namespaces.values()}
        for key, _ in reader.items("households"):
            household = int.from_bytes(key, "little")
            what = named_(household).capitalize()
            if not HOUSEHOLD_FIRST < household < next_household:
                self._add(what, f"the next is {named_(next_household)}, so this one was never given")
            try:
                shown = profiles.household_of(reader, catalog, household)
                assert shown is not None, "one snapshot"
                named += self._leading_back(reader, numbers, household, shown.identifiers)
                expected: list[tuple[int, ...]] | None = []
                for member in unpack_members(reader.get_customer("memberships", household), household):
                    data = reader.get_customer("memberships", member)
                    belongs, since, *_ = unpack_membership(data, member) if data is not None else (0, 0)
                    if belongs != household:
                        self._add(what, f"customer {member} is among its members, and his entry does not say so")
                        continue
                    theirs = _contacts(reader, member)
                    # A full list has forgotten what the household may still count.
                    full = len(theirs) >= limits.CONTACTS_PER_CUSTOMER
                    expected = None if full or expected is None else [*expected, *_plain(theirs, since)]
                counted = _contacts(reader, household)
                if expected is not None and len(counted) < limits.CONTACTS_PER_CUSTOMER \
                        and sorted(_plain(counted, None)) != sorted(expected):
                    self._add(f"The contacts of {named_(household)}", "they are not those of its members")
            except StoreCorrupt as error:
                self._fault(error)
        for key, value in reader.items("memberships"):
            customer = int.from_bytes(key, "little")
            if of_household(customer):
                continue
            try:
                household, *_ = unpack_membership(value, customer)
                if household and customer not in unpack_members(reader.get_customer("memberships", household), household):
                    self._add(f"Customer {customer}", f"{named_(household)} does not have him among its members")
            except StoreCorrupt as error:
                self._fault(error)
        return named

    def _cases(self, reader: Reader) -> None:
        """What is kept beside the records of cases must be of cases that are in them, and say the same."""
        for key, value in reader.items("cases"):
            owner = int.from_bytes(key, "little")
            data = reader.get_customer("households" if of_household(owner) else "profiles", owner)
            if data is None:
                continue  # told already
            what = f"The entry of {named_(owner)} in cases"
            cases = {(kind, key): product for kind, key, _, _, product in Record(data, f"The record of {named_(owner)}").cases}
            for case, details in case_details.decode(value, owner).items():
                if case not in cases:
                    self._add(what, "it is about a case that the record does not have")
                elif siphash(details.key.encode()) != case[1]:
                    self._add(what, "the key of a case is not the one that the record has")
                elif product_hash(details.product[1] if details.product else "") != cases[case]:
                    self._add(what, "the product of a case is not the one that the record has")

    def _joined(self, reader: Reader) -> int:
        """Follow the ids that were joined; how many there are."""
        following: dict[int, int] = {}
        for key, value in reader.items("identifiers", JOINED):
            if not key.startswith(JOINED):
                break
            following[int.from_bytes(key[2:], "big")] = int.from_bytes(value[:8], "little")
        for absorbed, first in following.items():
            survivor, stations = first, 0
            while survivor in following and stations <= len(following):
                survivor, stations = following[survivor], stations + 1
            if reader.get_customer("profiles", survivor) is None:
                self._add(f"Customer {absorbed}, who was joined,", f"leads to customer {survivor}, who is not there")
        return len(following)

    def _merges(self, reader: Reader) -> None:
        """What is kept of joins must be readable, in order from 0, and of a customer who is there or was joined."""
        expected: dict[tuple[int, int], int] = {}
        for key, value in reader.items("meta", merges.PREFIX):
            if not key.startswith(merges.PREFIX):
                break
            try:
                survivor, merge, number = merges.parts(key)
                if number:
                    mutations.decode(value)
                else:
                    msgspec.msgpack.decode(value, type=merges.Before)
            except (ValueError, msgspec.DecodeError, RapportError) as error:
                self._add("What is kept of a join", f"it cannot be read: {error}")
                continue
            what = f"What is kept of join {merge} into customer {survivor}"
            if number != expected.get((survivor, merge), 0):
                self._add(what, f"entry {expected.get((survivor, merge), 0)} is missing")
            elif (
                not number
                and reader.get_customer("profiles", survivor) is None
                and reader.get("identifiers", JOINED + struct.pack(">Q", survivor)) is None
            ):
                self._add(what, "that customer is not there")
            expected[survivor, merge] = number + 1

    def _programs(self, reader: Reader) -> None:
        """Every version saved must have the sources that its digest is of, and the one that serves must be one of them."""
        from core.programs.source import Sources

        versions: set[tuple[str, int]] = set()
        try:
            for key, value in reader.items("programs", saved.PROGRAMS):
                if not key.startswith(saved.PROGRAMS):
                    break
                header = msgspec.msgpack.decode(value, type=SavedProgram)
                versions.add((header.name, header.version))
                files = reader.get("programs", saved.sources_key(header.name, header.version)) or b""
                if key != saved.program_key(header.name, header.version):
                    self._add("A program that was saved", f"{header.name}@{header.version} lies under another name")
                elif Sources(msgspec.msgpack.decode(files, type=dict[str, bytes])).digest != header.digest:
                    self._add(f"The sources of {header.name}@{header.version}", "they are not what was saved")
            serves = reader.get("programs", saved.ACTIVE)
            if serves is not None:
                active = msgspec.msgpack.decode(serves, type=ActiveProgram)
                if (active.name, active.version) not in versions:
                    self._add("The program that serves", f"{active.name}@{active.version} is not there")
            keys = (saved.program_key, saved.sources_key, saved.image_key)
            known = {saved.ACTIVE, *(key(*version) for key in keys for version in versions)}
            if any(key not in known for key, _ in reader.items("programs")):
                self._add("An entry of programs", "it belongs to no version that was saved")
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._add("A program that was saved", f"it cannot be read: {error}")

    def _left_over(self, reader: Reader) -> None:
        """Name the identifiers that lead to a customer whose record does not have them."""
        for key, value in reader.items("identifiers"):
            if key.startswith(JOINED):
                continue
            customer = int.from_bytes(value[:8], "little")
            data = reader.get_customer("households" if of_household(customer) else "profiles", customer)
            number = int.from_bytes(key[:2], "big")
            if data is None:
                self._add(f"An identifier of namespace {number}", f"it leads to {named_(customer)}, who is not there")
            elif (number, key[2:]) not in Record(data, f"The record of {named_(customer)}").identifiers:
                self._add(f"An identifier of namespace {number}", f"it leads to {named_(customer)}, who does not have it")

    def _fault(self, error: RapportError, *, last: bool = False) -> None:
        facts = error.metadata
        hint = error.hint or _REPAIR
        self._add(facts.get("what", "The store"), facts.get("problem", error.message), f"{_ENDS} {hint}" if last else hint)

    def _add(self, what: str, problem: str, hint: str = _REPAIR) -> None:
        self.faults.append(Fault(what, problem, hint))
        if len(self.faults) >= FAULTS:
            raise _Full


def _contacts(reader: Reader, owner: int) -> list[tuple[int, int, int, int, int, int, int]]:
    data = reader.get_customer("contacts", owner)
    return [] if data is None else contacts.unpack(data, f"The contact history of {named_(owner)}")


def _plain(entries: Sequence[tuple[int, ...]], since: int | None) -> list[tuple[int, ...]]:
    """Contacts from a time on, without the number by which each list tells its entries apart."""
    return [(at, *rest) for at, _, *rest in entries if since is None or at >= since]


def check_apart(path: str, progress: Progress | None = None) -> Checked:
    """`check` of the store folder at ``path``, by a child process that is forked for it; raises what opening raises.

    LMDB follows pages as they are, and some damage ends the process that looks at it by a signal: that is a fault of the
    store then, and told as one. For commands, which have no threads.
    """
    open_environment(path, read_only=True).close()
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        _answer(path, tell, progress)
    os.close(tell)
    with os.fdopen(told, "rb") as answers:
        answer = answers.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status > 0:
        raise EngineFault(f"the check of {path} failed in its own process")
    if status < 0:
        ended = f"reading it ended the process by {signal.Signals(-status).name}: LMDB cannot follow its pages"
        return Checked(0, 0, 0, 0, (Fault(f"The store at {path}", ended, f"{_ENDS} {_REPAIR}"),))
    return msgspec.msgpack.decode(answer, type=Checked)


def _answer(path: str, tell: int, progress: Progress | None) -> NoReturn:
    """The child of `check_apart`."""
    status = 1
    try:
        environment = open_environment(path, read_only=True)
        with os.fdopen(tell, "wb") as answers:
            answers.write(msgspec.msgpack.encode(check(environment, progress)))
        status = 0
    finally:
        # Neither what the parent would do at its end nor its buffers are the child's.
        os._exit(status)


def check(environment: Environment, progress: Progress | None = None) -> Checked:
    """Look at everything in the newest committed state; what is wrong is in ``faults``, at most `FAULTS` of them.

    Reads the whole store: minutes for millions of customers. ``progress`` is called with what is counted and how many.
    No fault names an identifier's value.
    """
    run = _Check(environment, progress)
    run.run()
    return Checked(run.entries, run.customers, run.identifiers, run.applied, tuple(run.faults))
