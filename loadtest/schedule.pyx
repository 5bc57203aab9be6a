"""Begins a schedule (`schedule.pxd`), and tells Python all of one."""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset

import numpy as np


cdef void begin_schedule(Schedule* schedule, double rate, double seconds, bint poisson, uint64_t seed) noexcept nogil:
    memset(schedule, 0, sizeof(Schedule))
    schedule.end = <int64_t>(seconds * 1e9)
    schedule.closed = rate <= 0
    schedule.gap = 1e9 / rate if rate > 0 else 0.0
    schedule.poisson = poisson
    schedule.state = mixed(seed)
    if poisson:
        # The first gap is drawn like every other one.
        schedule.number = <uint64_t>-1
        advance(schedule)


def schedule(pace, seed):
    """When each request of an open loop is due, in ns after the start; what a run with this pace and seed keeps to."""
    cdef Schedule made
    cdef list offsets = []
    if pace.open_calls or pace.rate <= 0:
        raise ValueError("A closed loop has no schedule.")
    begin_schedule(&made, pace.rate, pace.seconds, pace.poisson, seed)
    while not made.over:
        offsets.append(due_next(&made))
        advance(&made)
    return np.array(offsets, np.int64)
