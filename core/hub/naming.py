"""Whose joins, while they can be undone, name an id or an identifier: what an erasure has to end.

What undo keeps is read once, at the first erasure of a process, and told of from then on, so that the next ones read what is
kept of the few that it names. It may name too many, for what is kept goes and stays named here; it never names too few.
"""

from __future__ import annotations

from collections.abc import Iterable


class Naming:
    """By id, or hash of an identifier's key, the survivors of whose joins something is kept that names it."""

    def __init__(self) -> None:
        self._survivors: dict[int, int | set[int]] = {}  # mostly it is one
        self.ended = 0  # joins that nothing is kept of any more, and that are named all the same

    def add(self, survivor: int, ids: Iterable[int], keys: Iterable[bytes]) -> None:
        """Something is kept for a survivor that names these customers and keys of identifiers."""
        for place in (*ids, *map(hash, keys)):
            found = self._survivors.setdefault(place, survivor)
            if isinstance(found, set):
                found.add(survivor)
            elif found != survivor:
                self._survivors[place] = {found, survivor}

    def survivors(self, ids: Iterable[int], keys: Iterable[bytes]) -> set[int]:
        """The survivors for whom something may be kept that names one of these."""
        everybody: set[int] = set()
        for place in (*ids, *map(hash, keys)):
            found = self._survivors.get(place)
            if found is not None:
                everybody |= found if isinstance(found, set) else {found}
        return everybody
