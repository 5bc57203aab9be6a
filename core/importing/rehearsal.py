"""What an import would do: takes its mutations in place of a store, looks at what is stored, and writes nothing.

It tells customers who would be made from those who are known by whether any of a row's identifiers is known, in the
store or by a row before. So that memory stays bounded, new identifiers are remembered up to a number; past it a new
customer who occurs again is counted again, and `exact` says so.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Final

from core.hub.catalog import Catalog
from core.hub.environment import Reader
from core.hub.identifiers import normalised
from core.hub.imports import ImportColumns, ImportResult
from core.hub.mutations import ImportCases

# New identifiers remembered: some 200 MB at most.
REMEMBERED: Final = 2_000_000


class Rehearsal:
    """Stands in for a store in `Importer.rehearse`. ``reader`` is a snapshot that stays open, None without a store.

    ``catalog`` is the store's with what the program declares added, as a real import would have it.
    """

    def __init__(self, catalog: Catalog, reader: Reader | None) -> None:
        self._catalog = catalog
        self._reader = reader
        self._new: set[tuple[int, bytes]] = set()
        self.exact = True  # whether `created` counts each customer once

    @property
    def catalog(self) -> Catalog:
        """Numbers of names."""
        return self._catalog

    def submit(self, mutation: ImportColumns | ImportCases) -> Future[ImportResult]:
        """What the mutation would make; rows of known customers count as ``changed``, whether or not they say anything new."""
        rows = list(self._rows(mutation))
        created = 0
        for named in rows:
            created += not any(self._known(each) for each in named)
            if len(self._new) < REMEMBERED:
                self._new.update(named)
            else:
                self.exact = False
        done: Future[ImportResult] = Future()
        done.set_result(ImportResult(created, len(rows) - created, 0, 0))
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

    def _known(self, identifier: tuple[int, bytes]) -> bool:
        if identifier in self._new:
            return True
        return self._reader is not None and self._reader.customer(*identifier) is not None
