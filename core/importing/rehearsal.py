"""What an import would do: takes its mutations in place of a store, looks at what is stored, and writes nothing.

It tells customers who would be made from those who are known by the store's own rule (`core.hub.identifiers.meant`), with
what rows before would have added. So that memory stays bounded, new identifiers are remembered up to a number; past it a
new customer who occurs again is counted again, and `exact` says so.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Final

from core.hub.catalog import Catalog
from core.hub.causes import CAUSE_NUMBERS
from core.hub.environment import Reader
from core.hub.identifiers import excluded, meant, normalised, ranked
from core.hub.imports import ImportColumns, ImportResult
from core.hub.membership import named, of_household
from core.hub.mutations import ImportCases
from core.hub.record import Record

# New identifiers remembered: some 400 MB at most.
REMEMBERED: Final = 2_000_000


class Rehearsal:
    """Stands in for a store in `Importer.rehearse`. ``reader`` is a snapshot that stays open, None without a store.

    ``catalog`` is the store's with what the program declares added, as a real import would have it.
    """

    def __init__(self, catalog: Catalog, reader: Reader | None) -> None:
        self._catalog = catalog
        self._reader = reader
        self._entries = {entry.number: entry for entry in catalog.namespaces.values()}
        self._singles = catalog.singles
        self._new: dict[tuple[int, bytes], int] = {}  # identifiers that rows would add -> whose
        self._added: dict[int, list[tuple[int, bytes]]] = {}  # the same by owner, of single namespaces
        self._made = 0  # customers; they have numbers below 0 here
        self.exact = True  # whether `created` counts each customer once

    @property
    def catalog(self) -> Catalog:
        """Numbers of names."""
        return self._catalog

    def submit(self, mutation: ImportColumns | ImportCases) -> Future[ImportResult]:
        """What the mutation would make; rows of known customers count as ``changed``, whether or not they say anything new."""
        created = changed = 0
        contested: list[int] = []
        refused: list[tuple[int, int]] = []
        for row, identifiers in enumerate(self._rows(mutation)):
            found = [
                (self._entries[number].trust, b"", number, value, self._owner((number, value))) for number, value in identifiers]
            known = meant(ranked(found), self._singles, self._held)
            owner = known[-1] if known is not None else -(self._made + 1)
            new = [(number, value) for _, _, number, value, of in found if not of]
            held = self._held(owner) if any(number in self._singles for number, _ in new) else []
            if any(number in self._singles and excluded(held, number, value) for number, value in new):
                refused.append((row, CAUSE_NUMBERS["IDENTITY_CONFLICT"]))
                continue
            contested += [row for *_, of in found if of not in (0, owner)]
            changed += known is not None
            created += known is None
            self._made += known is None
            if len(self._new) < REMEMBERED:
                for each in new:
                    self._new[each] = owner
                    if each[0] in self._singles:
                        self._added.setdefault(owner, []).append(each)
            elif new:
                self.exact = False
        done: Future[ImportResult] = Future()
        done.set_result(ImportResult(created, changed, 0, tuple(contested), tuple(refused)))
        return done

    def _rows(self, mutation: ImportColumns | ImportCases) -> Iterator[list[tuple[int, bytes]]]:
        """Each row's identifiers, as the store has them."""
        if isinstance(mutation, ImportCases):
            for case in mutation.rows:
                entries = [(self._catalog.namespace_entry(one.namespace), one.value) for one in case.identifiers]
                yield [(entry.number, normalised(entry.normaliser, value, entry.name)) for entry, value in entries]
            return
        columns = []
        for column in mutation.identifiers:
            ends = struct.unpack(f"<{mutation.rows}I", column.ends)
            columns.append((self._catalog.namespace(column.namespace), ends, column.texts))
        for row in range(mutation.rows):
            texts = ((namespace, texts[ends[row - 1] if row else 0 : ends[row]]) for namespace, ends, texts in columns)
            yield [(namespace, text) for namespace, text in texts if text]

    def _owner(self, identifier: tuple[int, bytes]) -> int:
        """Whose an identifier is, or would be by now; 0: nobody's."""
        return self._new.get(identifier) or (self._reader is not None and self._reader.customer(*identifier)) or 0

    def _held(self, owner: int) -> list[tuple[int, bytes]]:
        """The identifiers of single namespaces that somebody has, or would have by now."""
        stored: Sequence[tuple[int, bytes]] = ()
        if owner > 0 and self._reader is not None:
            data = self._reader.get_customer("households" if of_household(owner) else "profiles", owner)
            stored = () if data is None else Record(data, f"The record of {named(owner)}").identifiers
        return [*stored, *self._added.get(owner, ())]
