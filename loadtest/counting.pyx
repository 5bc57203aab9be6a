"""The buckets of `counting.pxd` for Python, so that a test holds them against those of `histogram.py`."""

from loadtest.counting cimport HIGHEST, rapport_bucket


def bucket(value):
    """The bucket that ``value`` nanoseconds are counted in."""
    return rapport_bucket(min(max(int(value), 0), HIGHEST))
