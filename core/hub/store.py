"""The store's face for Python: open, declare, change, look.

One `Store` owns one folder in this process. Changes are mutations handed to the committer; reading takes snapshots and
never waits for writers.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from types import TracebackType
from typing import Any, TypeVar

import msgspec

import core.hub.handlers  # noqa: F401 - for what they register
from core import limits
from core.decision import Identifier
from core.errors import BadValue, IdentityConflict, NotFound, StoreCorrupt, StoreError, StoreReadOnly, TooLarge, UnknownName
from core.hub import catalog as catalogs
from core.hub import customer_profile as profiles
from core.hub import merges, saved
from core.hub.catalog import Catalog
from core.hub.checking import Checked, check
from core.hub.committer import Committer
from core.hub.customer_profile import Case, Household, OverdueCase, Profile, Provenance
from core.hub.environment import Environment, Reader, open_environment
from core.hub.identifiers import check_holder, meant, normalised, ranked, refuse_two
from core.hub.journal import Journal, recover
from core.hub.keeping import refuse_backup, refuse_lost
from core.hub.membership import named
from core.hub.merges import Merge
from core.hub.mutations import DeclareSchema, Mutation
from core.hub.record import Record
from core.hub.saved import BANDS, ActiveProgram, AuditEntry, BandEdges, SavedProgram
from core.schema import Schema

SIGNING_KEY_BYTES = 32


class Store:
    """An open store. Made by `Store.open`; a context manager that closes it."""

    def __init__(self, environment: Environment, journal: Journal | None = None) -> None:
        self.environment = environment
        self._journal = journal
        with environment.reader() as reader:
            key = reader.get("meta", b"signing_key")
            self._catalog = catalogs.loaded(reader.items("catalog"))
        if key is None:
            raise StoreCorrupt(f"The store at {environment.path}", "its signing key is missing")
        self._signing_key = _decoded(key, bytes, "The store's signing key")
        self._committer = None if environment.read_only else Committer(environment, self._take_catalog, journal)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        map_bytes: int = limits.MAP_BYTES,
        read_only: bool = False,
        journal_seconds: int = limits.JOURNAL_SECONDS,
        journal_bytes: int = limits.JOURNAL_BYTES,
    ) -> Store:
        """Open the store folder at ``path``; it is created unless ``read_only``, its parent must exist.

        ``map_bytes`` is reserved address space, which bounds how large the store may ever grow; it costs no disk.
        The journal beside it is kept for ``journal_seconds`` and up to ``journal_bytes`` (0: none is kept).
        Several processes may read a store that one process writes. Raises StoreUnavailable or StoreCorrupt, with what to do.
        """
        meta = {b"signing_key": msgspec.msgpack.encode(secrets.token_bytes(SIGNING_KEY_BYTES))}
        refuse_lost(os.fspath(path))
        if not read_only:
            refuse_backup(os.fspath(path))
        environment = open_environment(os.fspath(path), map_bytes=map_bytes, read_only=read_only, meta=meta)
        journal = None
        try:
            if not read_only and journal_bytes:
                journal = Journal.open(environment, keep_seconds=journal_seconds, keep_bytes=journal_bytes)
            elif not read_only:
                recover(environment)
            return cls(environment, journal)
        except BaseException:
            if journal is not None:
                journal.close()
            environment.close()
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Apply what was submitted, then close. Closing twice does nothing. Snapshots must be closed before."""
        if self._committer is not None:
            self._committer.stop()
        if self._journal is not None:
            if not self.environment.closed and not self.read_only:
                # Where it fails the journal has what data.mdb may lack, and the next open does it again.
                with contextlib.suppress(StoreError):
                    self.environment.sync()
            self._journal.close()
        self.environment.close()

    # --- changing

    def submit(self, mutation: Mutation, *, background: bool = False) -> Future[Any]:
        """Queue a mutation; the future gives its result once it is durable and visible, or raises why it was refused.

        One of the ``background`` (a feed's, an import's, the sweep's) gives way to those that somebody waits for.

        Raises Overloaded at once when too many wait, StoreReadOnly when writes are not taken. Many mutations submitted
        together share a commit. The future's callbacks run on the committer's thread: they must be short, and must
        never wait for another mutation.
        """
        if self._committer is None:
            raise StoreReadOnly("it was opened for reading only", "Open it without read_only.")
        return self._committer.submit(mutation, background=background)

    def apply(self, mutation: Mutation, *, background: bool = False) -> Any:
        """Submit and wait: durable when it returns. The result is what the mutation's class says."""
        return self.submit(mutation, background=background).result()

    def declare(self, schema: Schema, offers: Iterable[str] = (), channels: Iterable[str] = ()) -> Catalog:
        """Give numbers to everything declared; writes nothing when all of it is known.

        Raises SchemaConflict when stored data contradicts the declaration, TooLarge past a limit.
        """
        offers = tuple(offers)
        channels = tuple(channels)
        catalog = self._catalog
        if catalog.declared(schema, offers, channels) is catalog:
            return catalog
        declared: Catalog = self.apply(DeclareSchema(schema=schema, offers=offers, channels=channels))
        return declared

    def follow_writes(self, told: Callable[[StoreError | None], None]) -> None:
        """``told`` is called with why writes are refused (full, read-only), and with None once they are taken again.

        A store that was opened takes them at first. On the committer's thread, so it must be short.
        """
        if self._committer is not None:
            self._committer.follow_writes(told)

    def follow(self, on_changed: Callable[[set[int]], None]) -> None:
        """Calls ``on_changed`` after each commit with customers it changed: `core.hub.committer.Committer.follow`."""
        if self._committer is not None:
            self._committer.follow(on_changed)

    def unfollow(self, on_changed: Callable[[set[int]], None]) -> None:
        """Ends that."""
        if self._committer is not None:
            self._committer.unfollow(on_changed)

    # --- looking

    @property
    def catalog(self) -> Catalog:
        """The numbers of all names, as last committed. Immutable; a later one only adds."""
        if self._committer is None:
            with self.environment.reader() as reader:
                return self._catalog_of(reader)
        return self._catalog

    @property
    def signing_key(self) -> bytes:
        """32 random bytes made with the store; instance tokens are signed with them."""
        return self._signing_key

    @property
    def read_only(self) -> bool:
        """Whether writes are refused: opened so, or after a failed disk."""
        return self._committer is None or self._committer.refusal is not None

    @property
    def journal_gap(self) -> str:
        """Why the journal that was there does not lead up to this store, '' when it does: only a backup from now on does."""
        return "" if self._journal is None else self._journal.gap

    @property
    def journal_gone(self) -> bool:
        """Whether the journal's file was removed while it is written to: what is written to it nobody will find."""
        return self._journal is not None and self._journal.gone

    @property
    def applied(self) -> int:
        """Sequence number of the last mutation that is durable."""
        with self.environment.reader() as reader:
            return _decoded(reader.get("meta", b"applied") or b"\x00", int, "The number of the last change")

    def customer(self, identifiers: Sequence[Identifier]) -> int | None:
        """The customer id the identifiers lead to, by the most trusted that is known; None when none is."""
        with self.environment.reader() as reader:
            return self._customer(reader, identifiers)

    def profile(
        self, identifiers: Sequence[Identifier], *, sourced: bool = False, newest: int | None = None
    ) -> Profile | None:
        """What is kept about the customer the identifiers lead to, with its provenance if ``sourced``, of his events the
        ``newest`` (None: all); None when none is known.

        Raises UnknownName for a namespace nobody declared, BadValue for an identifier that cannot be one or is a household's.
        """
        with self.environment.reader() as reader:
            customer = self._customer(reader, identifiers, asked=True)
            if customer is None:
                return None
            return profiles.read(reader, self._catalog_of(reader), customer, sourced=sourced, newest=newest)

    def provenance(
        self, identifiers: Sequence[Identifier], attributes: Sequence[str] = ()
    ) -> tuple[Provenance, ...] | None:
        """Where a customer's attributes come from (all that declare sources, or those named); None when none is known.

        By a household's identifiers, those that its members share.
        Raises UnknownName, BadValue for an attribute without sources.
        """
        with self.environment.reader() as reader:
            customer = self._either(reader, identifiers)
            if customer is None:
                return None
            return profiles.provenance(reader, self._catalog_of(reader), customer, attributes)

    def cases(self, identifiers: Sequence[Identifier]) -> tuple[Case, ...] | None:
        """The cases of a customer and of his household, or of a household, by kind and opening; None when nobody is known."""
        with self.environment.reader() as reader:
            owner = self._either(reader, identifiers)
            return None if owner is None else profiles.cases(reader, self._catalog_of(reader), owner)

    def overdue_cases(self, now_us: int, after: int = 0, most: int = limits.CASES_WALKED) -> tuple[list[OverdueCase], int]:
        """Open cases past their due time of owners with a higher id than ``after``, and where to go on; 0 at the end.

        Looks at ``most`` customers and households that have cases, and stops once limits.CASES_SHOWN are found, so that one
        call reads and answers a bounded part of the store.
        """
        found: list[OverdueCase] = []
        with self.environment.reader() as reader:
            catalog = self._catalog_of(reader)
            page = reader.page("cases", after.to_bytes(8, "little"), after == 0, most)
            for key, _ in page:
                owner = int.from_bytes(key, "little")
                late = [case for case in profiles.own_cases(reader, catalog, owner) if case.overdue_at(now_us)]
                if late:
                    who = profiles.identifiers(reader, catalog, owner)
                    found += [OverdueCase(owner, who, case) for case in late]
                    if len(found) >= limits.CASES_SHOWN:
                        return found, owner
        return found, int.from_bytes(page[-1][0], "little") if len(page) == most else 0

    def household(self, identifiers: Sequence[Identifier]) -> Household | None:
        """The household that the identifiers name, or in which the customer is whom they name; None when there is none."""
        with self.environment.reader() as reader:
            found = self._either(reader, identifiers)
            return None if found is None else profiles.household_of(reader, self._catalog_of(reader), found)

    def merges(self, identifiers: Sequence[Identifier]) -> tuple[Merge, ...] | None:
        """The joins into a customer that are kept for an undo, the newest first; None when none is known."""
        with self.environment.reader() as reader:
            survivor = self._customer(reader, identifiers, asked=True)
            if survivor is None:
                return None
            found: dict[int, Merge] = {}
            start = merges.of_survivor(survivor)
            for key, value in reader.items("meta", start):
                if not key.startswith(start):
                    break
                _, merge, number = merges.parts(key)
                if number:
                    found[merge] = replace(found[merge], since=number)
                else:
                    before = _decoded(value, merges.Before, "What is kept of a join")
                    absorbed = {
                        image.customer: profiles.identifiers_in(
                            Record(image.record, f"Customer {image.customer}'s record"), self._catalog_of(reader))
                        for image in before.images if image.customer != survivor
                    }
                    found[merge] = Merge(merge, before.at_us, survivor, absorbed, 0)
            return tuple(reversed(found.values()))

    def band_edges(self) -> Mapping[str, BandEdges]:
        """The edges kept of each band, by its name."""
        with self.environment.reader() as reader:
            data = reader.get("meta", BANDS)
        return {} if data is None else msgspec.msgpack.decode(data, type=dict[str, BandEdges])

    def identifiers_of(self, customers: Iterable[int]) -> list[tuple[Identifier, ...] | None]:
        """The identifiers of each of these customers, in order of arrival; None for one who is no more."""
        found: list[tuple[Identifier, ...] | None] = []
        with self.environment.reader() as reader:
            catalog = self._catalog_of(reader)
            names = {entry.number: entry.name for entry in catalog.namespaces.values()}
            for customer in customers:
                data = reader.get_customer("profiles", customer)
                found.append(
                    None if data is None else tuple(
                        Identifier(names[number], value.decode())
                        for number, value in Record(data, f"Customer {customer}'s record").identifiers
                    )
                )
        return found

    def undoable(self) -> bool:
        """Whether anything is kept of joins that could be taken back."""
        with self.environment.reader() as reader:
            return any(key.startswith(merges.PREFIX) for key, _ in reader.page("meta", merges.PREFIX, True, 1))

    def profile_of(self, customer: int) -> Profile | None:
        """Everything kept about a customer id; None when there is none (or it was joined into another)."""
        with self.environment.reader() as reader:
            return profiles.read(reader, self._catalog_of(reader), customer)

    def customers(self) -> Iterator[int]:
        """All customer ids, ascending, as of now. The iterator holds a snapshot: exhaust or close it."""
        with self.environment.reader() as reader:
            for key, _ in reader.items("profiles"):
                yield int.from_bytes(key, "little")

    def verify(self) -> int:
        """Read the whole store and check what has a checksum; how many entries there are. Raises StoreCorrupt."""
        return self.environment.verify()

    def check(self) -> Checked:
        """`core.hub.checking.check`: whether everything fits together, beyond what `verify` sees."""
        return check(self.environment)

    def customer_count(self) -> int:
        """How many customers are known."""
        with self.environment.reader() as reader:
            return reader.count("profiles")

    def statistics(self) -> dict[str, int]:
        """Bytes, entries a database, readers, and what the committer has done and has waiting."""
        found = self.environment.statistics()
        if self._committer is not None:
            found["mutations_applied"] = self._committer.mutations
            found["commits"] = self._committer.batches
            found["mutations_waiting"] = self._committer.waiting
        return found

    # --- programs

    def programs(self) -> tuple[SavedProgram, ...]:
        """The versions saved, by name and version."""
        with self.environment.reader() as reader:
            found = []
            for key, value in reader.items("programs", saved.PROGRAMS):
                if not key.startswith(saved.PROGRAMS):
                    break
                found.append(_decoded(value, SavedProgram, "A program that was saved"))
            return tuple(found)

    def active_program(self) -> ActiveProgram | None:
        """The version that serves after a restart; None before the first."""
        with self.environment.reader() as reader:
            value = reader.get("programs", saved.ACTIVE)
        return None if value is None else _decoded(value, ActiveProgram, "The note of the program that serves")

    def program_sources(self, name: str, version: int) -> Mapping[str, bytes]:
        """File name to bytes, as saved. Raises NotFound."""
        with self.environment.reader() as reader:
            value = reader.get("programs", saved.sources_key(name, version))
        if value is None:
            raise NotFound("program version", f"{name}@{version}", "List the versions kept: rapport program list.")
        return _decoded(value, dict[str, bytes], f"The sources of {name}@{version}")

    def program_image(self, name: str, version: int, compiler: str) -> bytes | None:
        """The image saved with a version, if this compiler made it."""
        with self.environment.reader() as reader:
            header = reader.get("programs", saved.program_key(name, version))
            if header is None or _decoded(header, SavedProgram, f"The program {name}@{version}").compiler != compiler:
                return None
            return reader.get("programs", saved.image_key(name, version))

    def audit(self) -> tuple[AuditEntry, ...]:
        """What was done to the store that somebody may have to account for, oldest first; it names no customer."""
        with self.environment.reader() as reader:
            found = []
            for key, value in reader.items("meta", saved.AUDIT):
                if not key.startswith(saved.AUDIT):
                    break
                found.append(_decoded(value, AuditEntry, "An entry of the audit trail"))
            return tuple(found)

    # --- inside

    def _take_catalog(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def _catalog_of(self, reader: Reader) -> Catalog:
        """A catalog that knows every number the snapshot holds.

        The one kept here may be older: for an instant after a commit, and in a process that only reads.
        """
        version = _decoded(reader.get("catalog", b"version") or b"\x00", int, "The catalog's version")
        if version <= self._catalog.version:
            return self._catalog
        found = catalogs.loaded(reader.items("catalog"))
        if self._committer is None:
            self._catalog = found
        return found

    def _either(self, reader: Reader, identifiers: Sequence[Identifier]) -> int | None:
        """The id of the customer, or of the household when the first identifier is one of a household."""
        return self._customer(reader, identifiers, self._catalog_of(reader).names_household(identifiers), asked=True)

    def _customer(
        self, reader: Reader, identifiers: Sequence[Identifier], of_household: bool = False, *, asked: bool = False
    ) -> int | None:
        """Whom, or which household, identifiers mean; ``asked`` by somebody who wants to see it, it is IdentityConflict where
        they may be two persons'. A decision goes on with the first of them."""
        found: list[tuple[int, bytes, int, bytes, int]] = []
        catalog = self._catalog_of(reader)
        for position, identifier in enumerate(identifiers):
            try:
                entry = catalog.namespace_entry(identifier.namespace)
                check_holder(entry, of_household)
                value = normalised(entry.normaliser, identifier.value, entry.name)
            except (UnknownName, BadValue, TooLarge) as error:
                raise error.under(f"identifiers[{position}]") from None
            found.append((entry.trust, b"", entry.number, value, reader.customer(entry.number, value) or 0))

        def held(owner: int) -> Sequence[tuple[int, bytes]]:
            data = reader.get_customer("households" if of_household else "profiles", owner)
            return () if data is None else Record(data, f"The record of {named(owner)}").identifiers

        if asked and any(row[4] for row in found):
            for single, name in catalog.singles.items():
                owners = {value: owner for _, _, number, value, owner in found if number == single}
                # One customer may have two, from before the namespace was single.
                if len(owners) > 1 and (len(set(owners.values())) > 1 or 0 in owners.values()):
                    raise IdentityConflict(name)
        row = meant(ranked(found), catalog.singles, held)
        if row is None:
            if asked:
                refuse_two(found, catalog.singles)
            return None
        _, _, number, value, owner = row
        if (number, value) not in held(owner):
            # Damage that no checksum tells; it must not show one person what is another's.
            raise StoreCorrupt("An identifier", f"it leads to {named(owner)}, who does not have it")
        return owner


_Kept = TypeVar("_Kept")


def _decoded(value: bytes, kind: type[_Kept], what: str) -> _Kept:
    try:
        return msgspec.msgpack.decode(value, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreCorrupt(what, str(error)) from error
