"""Latencies counted in buckets that grow with the value: three significant digits from 1 ns to 60 s in 27,648 counts.

The buckets are those of HdrHistogram with a lowest value of 1, 60 s as the highest, and three digits: values under 2,048
have a bucket each; every doubling after it is cut into 1,024. So a histogram is merged by adding, its error is known
(under one thousandth), and `encode` writes HdrHistogram's own V2 format, which other tools read; the raw results keep
histograms in that form, in a log of intervals (`write_log`).

The generator counts in C in the same layout (`index`, `loadtest/counting.pxd`); here is what is done with the counts.
"""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.uint64]

DIGITS = 3
HIGHEST = 60_000_000_000  # ns; what took longer is counted here, and the largest value kept beside
HALF_BITS = 10
HALF = 1 << HALF_BITS  # buckets of one doubling
COUNTS = 27 * HALF  # 1,024 + 26 doublings reach 2^36 ns = 68.7 s

_V2 = struct.Struct(">iiiiqqd")
_COOKIE, _COMPRESSED_COOKIE = 0x1C849303 | 0x10, 0x1C849304 | 0x10


def index(value: int) -> int:
    """The bucket of a value in nanoseconds, 0 to `HIGHEST`."""
    shift = max(0, value.bit_length() - HALF_BITS - 1)
    return (shift << HALF_BITS) + (value >> shift)


def _bounds() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    numbers = np.arange(COUNTS, dtype=np.int64)
    shifts = np.maximum(0, (numbers >> HALF_BITS) - 1)
    lowest = (numbers - (shifts << HALF_BITS)) << shifts
    return lowest, lowest + (np.int64(1) << shifts) - 1


LOWEST, LARGEST = _bounds()  # of each bucket, inclusive, ns


@dataclass(slots=True, eq=False)
class Histogram:
    """Counts by bucket. ``largest`` is the exact largest value in nanoseconds, 0 when there is none."""

    counts: Counts = field(default_factory=lambda: np.zeros(COUNTS, np.uint64))
    largest: int = 0

    @classmethod
    def of(cls, values: Iterable[int]) -> Histogram:
        """A histogram of nanoseconds."""
        made = cls()
        for value in values:
            made.counts[index(min(value, HIGHEST))] += np.uint64(1)
            made.largest = max(made.largest, value)
        return made

    @property
    def total(self) -> int:
        """How many values were counted."""
        return int(self.counts.sum())

    def __add__(self, other: Histogram) -> Histogram:
        return Histogram(self.counts + other.counts, max(self.largest, other.largest))

    def percentile(self, percent: float) -> int:
        """The smallest value, in ns, that ``percent`` of the values do not exceed; 0 for an empty histogram.

        As HdrHistogram does it: the upper end of the bucket, so at most a thousandth too high, never too low.
        """
        return self.percentiles([percent])[0]

    def percentiles(self, percents: Sequence[float]) -> list[int]:
        """`percentile` of several, with the counts added up once."""
        up_to = np.cumsum(self.counts)
        total = int(up_to[-1])
        if not total:
            return [0] * len(percents)
        # The small deduction keeps 99.9 % of 1,000 at the 999th, whatever the division of doubles says.
        ranks = [max(1, int(np.ceil(percent / 100 * total - 1e-9 * total))) for percent in percents]
        found = np.searchsorted(up_to, np.asarray(ranks, np.uint64))
        return [min(int(LARGEST[bucket]), self.largest) for bucket in found]

    @property
    def mean(self) -> float:
        """In ns, each value taken as its bucket's middle; 0 when empty."""
        total = self.total
        return float((self.counts * ((LOWEST + LARGEST) / 2)).sum()) / total if total else 0.0


def encode(histogram: Histogram) -> str:
    """The histogram in HdrHistogram's V2 format, compressed, in base64: one line of text."""
    body = bytearray()
    used = np.flatnonzero(histogram.counts)
    position = 0
    for bucket in used:
        if bucket > position:
            body += _varint(-(int(bucket) - position))
        body += _varint(int(histogram.counts[bucket]))
        position = int(bucket) + 1
    plain = _V2.pack(_COOKIE, len(body), 0, DIGITS, 1, HIGHEST, 1.0) + body
    packed = zlib.compress(plain)
    return base64.b64encode(struct.pack(">ii", _COMPRESSED_COOKIE, len(packed)) + packed).decode()


def decode(text: str, largest: int = 0) -> Histogram:
    """The reverse. The format does not hold the exact largest value: 0 takes the upper end of the last bucket.

    ValueError for anything but a histogram of this layout.
    """
    try:
        packed = base64.b64decode(text, validate=True)
        cookie, length = struct.unpack_from(">ii", packed)
        plain = zlib.decompress(packed[8 : 8 + length])
        inner, bytes_of_body, _, digits, lowest, highest, _ = _V2.unpack_from(plain)
    except (struct.error, zlib.error, binascii.Error) as error:
        raise ValueError(f"Not a histogram in HdrHistogram's V2 format: {error}.") from error
    if (cookie, inner, digits, lowest, highest) != (_COMPRESSED_COOKIE, _COOKIE, DIGITS, 1, HIGHEST):
        raise ValueError(f"A histogram of another layout: {digits} digits from {lowest} to {highest}.")
    made = Histogram()
    position, offset, end = 0, _V2.size, _V2.size + bytes_of_body
    while offset < end:
        value, offset = _read_varint(plain, offset)
        if value < 0:
            position -= value
        else:
            made.counts[position] = value
            position += 1
    used = np.flatnonzero(made.counts)
    made.largest = largest or (int(LARGEST[used[-1]]) if used.size else 0)
    return made


def _varint(value: int) -> bytes:
    """Zigzag, then seven bits a byte, low ones first; a ninth byte holds eight."""
    coded = value << 1 if value >= 0 else (-value << 1) - 1
    out = bytearray()
    while coded > 0x7F and len(out) < 8:
        out.append(coded & 0x7F | 0x80)
        coded >>= 7
    out.append(coded)
    return bytes(out)


def _read_varint(data: bytes, offset: int) -> tuple[int, int]:
    coded = count = 0
    for count in range(9):
        byte = data[offset + count]
        coded |= (byte if count == 8 else byte & 0x7F) << 7 * count
        if count == 8 or byte < 0x80:
            break
    return (coded >> 1) ^ -(coded & 1), offset + count + 1


@dataclass(frozen=True, slots=True)
class Line:
    """One interval of a log: the tag says whose, times are seconds."""

    tag: str
    start: float  # since the run began
    length: float
    histogram: Histogram


def write_log(path: Path, began: float, lines: Iterable[Line]) -> None:
    """Writes HdrHistogram's interval log, version 1.3; ``began`` is seconds since 1970. Values are nanoseconds.

    The column of maxima is in milliseconds, exact.
    """
    with path.open("w") as out:
        out.write("#[Histogram log format version 1.3]\n")
        out.write("#[Written by Rapport's load generator; values in nanoseconds]\n")
        out.write(f"#[StartTime: {began:.3f} (seconds since epoch)]\n")
        out.write(f"#[BaseTime: {began:.3f} (seconds since epoch)]\n")
        out.write('"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"\n')
        for line in lines:
            milliseconds = f"{line.histogram.largest / 1e6:.6f}"
            out.write(f"Tag={line.tag},{line.start:.3f},{line.length:.3f},{milliseconds},{encode(line.histogram)}\n")


def read_log(path: Path) -> list[Line]:
    """Reads what `write_log` wrote; ValueError names the line that is not one."""
    lines: list[Line] = []
    for number, text in enumerate(path.read_text().splitlines(), 1):
        if text.startswith(("#", '"')) or not text:
            continue
        try:
            tag, start, length, milliseconds, coded = text.split(",")
            histogram = decode(coded, largest=round(float(milliseconds) * 1e6))
            lines.append(Line(tag.removeprefix("Tag="), float(start), float(length), histogram))
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from error
    return lines
