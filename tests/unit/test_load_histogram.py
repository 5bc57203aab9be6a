"""The load test's histograms count as HdrHistogram does, and are read by others: hdrhistogram's own package is the judge."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

from loadtest import histogram
from loadtest.counting import bucket
from loadtest.histogram import HIGHEST, Histogram, Line

SEED = 20261126
PERCENTS = (0.0, 1.0, 50.0, 90.0, 99.0, 99.9, 99.99, 100.0)
EDGES = (0, 1, 2_047, 2_048, 2_049, 4_095, 4_096, 1_000_000, HIGHEST - 1, HIGHEST)


def _values(count: int) -> list[int]:
    drawn = random.Random(SEED)
    return [min(HIGHEST, int(drawn.lognormvariate(12, 3))) for _ in range(count)] + list(EDGES)


def test_percentiles_are_those_of_numpy_within_a_thousandth() -> None:
    values = _values(20_000)
    found = Histogram.of(values).percentiles(PERCENTS)
    exact = np.percentile(values, PERCENTS, method="inverted_cdf")
    for percent, ours, numpys in zip(PERCENTS, found, exact, strict=True):
        assert numpys <= ours <= numpys * 1.001 + 1, f"p{percent}, seed {SEED}"


def test_the_compiled_loop_counts_in_the_same_buckets() -> None:
    for value in _values(5_000):
        assert bucket(value) == histogram.index(value), value
        assert histogram.LOWEST[histogram.index(value)] <= value <= histogram.LARGEST[histogram.index(value)]
    assert bucket(10 * HIGHEST) == histogram.index(HIGHEST)
    assert bucket(-5) == 0


def test_the_encoding_is_the_packages_byte_for_byte_and_is_read_back() -> None:
    values = _values(3_000)
    ours = Histogram.of(values)
    theirs = HdrHistogram(1, HIGHEST, histogram.DIGITS)
    for value in values:
        theirs.record_value(value)
    text = histogram.encode(ours)
    assert text == theirs.encode().decode()
    again = histogram.decode(text, largest=ours.largest)
    assert (again.counts == ours.counts).all()
    assert again.largest == ours.largest


def test_counts_past_32_bits_survive() -> None:
    big = Histogram()
    big.counts[[3, 500, histogram.COUNTS - 1]] = [2**31, 2**40 + 7, 1]
    assert (histogram.decode(histogram.encode(big)).counts == big.counts).all()


def test_an_empty_histogram_says_nothing() -> None:
    assert Histogram().percentiles([50, 99]) == [0, 0]
    assert Histogram().mean == 0
    assert histogram.decode(histogram.encode(Histogram())).total == 0


def test_adding_is_counting_together() -> None:
    values = _values(1_000)
    added = Histogram.of(values[:300]) + Histogram.of(values[300:])
    assert (added.counts == Histogram.of(values).counts).all()
    assert added.largest == max(values)
    assert added.mean == pytest.approx(np.mean(values), rel=0.001)


@pytest.mark.parametrize("text", ["", "nonsense!", "AAAA", histogram.encode(Histogram())[:20]])
def test_what_is_no_histogram_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"HdrHistogram|layout"):
        histogram.decode(text)


def test_a_histogram_of_another_layout_is_refused() -> None:
    with pytest.raises(ValueError, match="2 digits"):
        histogram.decode(HdrHistogram(1, 1_000, 2).encode().decode())


def test_the_log_is_read_by_us_and_by_the_package(tmp_path: Path) -> None:
    path = tmp_path / "a.hlog"
    first, second = Histogram.of([1_500_000, 2_000_000]), Histogram.of([7])
    histogram.write_log(path, 1_700_000_000.0, [Line("0/lag", 0.0, 1.0, first), Line("0/timeline", 1.0, 0.5, second)])

    ours = histogram.read_log(path)
    assert [(line.tag, line.start, line.length) for line in ours] == [("0/lag", 0.0, 1.0), ("0/timeline", 1.0, 0.5)]
    assert (ours[0].histogram.counts == first.counts).all()
    assert ours[0].histogram.largest == 2_000_000

    reader = HistogramLogReader(str(path), HdrHistogram(1, HIGHEST, histogram.DIGITS))
    theirs = reader.get_next_interval_histogram()
    reader.input_file.close()
    assert theirs is not None
    assert theirs.get_total_count() == 2
    assert theirs.get_tag() == "0/lag"

    path.write_text(path.read_text().replace("0.500", "half"))
    with pytest.raises(ValueError, match=r"a\.hlog:7"):
        histogram.read_log(path)
