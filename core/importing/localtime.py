"""Local times of a zone, as files hold them, to microseconds in UTC.

The zone's rules are the IANA database's, by way of zoneinfo, which converts one datetime at a time. A file's times
lie close together, so they are gathered into quarters of an hour, and a quarter whose two ends have one offset is
converted with one subtraction; the rare quarter in which the offset changes goes through zoneinfo one by one.

A time that the clocks pass twice (autumn) is taken as the first of the two; a time that they skip (spring) does not
exist, and is reported. A day is taken as its first moment, also where the clocks skip its midnight, as in Chile or Cuba:
only a day that a zone left out altogether, as Samoa did, does not exist.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

QUARTER: Final = 900_000_000  # microseconds in a quarter of an hour
_EPOCH: Final = datetime(1970, 1, 1)
_SKIPPED: Final = np.iinfo(np.int64).min


class LocalZone:
    """One zone, with the offsets found so far. Not for use by several threads at once."""

    def __init__(self, zone: ZoneInfo) -> None:
        self.zone = zone
        self._offsets: dict[int, int | None] = {}

    def to_utc(
        self, local: NDArray[np.int64], days: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """UTC for local times, both in microseconds since 1970, and which of them do not exist.

        ``days`` says which of them are midnights that stand for a day. The UTC of one that does not exist is undefined.
        Offsets are east of Greenwich: UTC is the local time less the offset.
        """
        quarters, of = np.unique(local // QUARTER, return_inverse=True)
        found = [self._quarter(int(quarter)) for quarter in quarters]
        shared = np.array([0 if offset is None else offset for offset in found], dtype=np.int64)
        utc = local - shared[of]
        skipped = np.zeros(len(local), dtype=np.bool_)
        if None in found:
            changing = np.array([offset is None for offset in found])[of]
            for row in np.flatnonzero(changing):
                offset = self._offset(int(local[row]), day=bool(days[row]))
                skipped[row] = offset is None
                utc[row] = _SKIPPED if offset is None else int(local[row]) - offset
        return utc, skipped

    def _quarter(self, quarter: int) -> int | None:
        """The offset that holds throughout the quarter, or None when there is no such."""
        if quarter not in self._offsets:
            first = self._offset(quarter * QUARTER)
            last = self._offset((quarter + 1) * QUARTER - 1)
            self._offsets[quarter] = first if first == last else None
        return self._offsets[quarter]

    def _offset(self, local: int, *, day: bool = False) -> int | None:
        """The offset in microseconds at a local time, or None when the clocks skip it; of a ``day``, when they skip all of it."""
        naive = _EPOCH + timedelta(microseconds=local)
        aware = naive.replace(tzinfo=self.zone)
        try:
            there_and_back = aware.astimezone(UTC).astimezone(self.zone).replace(tzinfo=None)
        except OverflowError:
            return None
        offset = aware.utcoffset()
        # In a gap this is the offset from before it, by which midnight is the moment at which the clocks were set forward.
        there = there_and_back.date() == naive.date() if day else there_and_back == naive
        if not there or offset is None:
            return None
        return offset // timedelta(microseconds=1)
