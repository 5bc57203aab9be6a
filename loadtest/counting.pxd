"""Counting of latencies in the buckets that `histogram.py` describes, without a branch for the scale."""

from libc.stdint cimport int64_t, uint64_t

cdef enum:
    BUCKETS = 27648  # as loadtest/histogram.py has it

cdef extern from *:
    """
    static inline int rapport_bucket(uint64_t value) {
        int shift = 53 - __builtin_clzll(value | 2047);
        return (shift << 10) + (int)(value >> shift);
    }

    #define RAPPORT_HIGHEST INT64_C(60000000000)  /* a minute; what is longer counts as that */
    """
    int rapport_bucket(uint64_t value) nogil
    const int64_t HIGHEST "RAPPORT_HIGHEST"

cdef struct Histogram:
    uint64_t counts[BUCKETS]  # values in each bucket
    int64_t largest  # exact, ns


cdef inline void count_value(Histogram* histogram, int64_t value) noexcept nogil:
    if value < 0:
        value = 0
    histogram.counts[rapport_bucket(<uint64_t>(value if value < HIGHEST else HIGHEST))] += 1
    if value > histogram.largest:
        histogram.largest = value
