"""When each request of a run is due: fixed by pace and seed, and computed as the run goes on, so it needs no memory."""

from libc.math cimport log
from libc.stdint cimport int64_t, uint64_t

cdef struct Schedule:
    int64_t end  # ns after the start; nothing is due at or after it
    double gap  # mean, ns
    bint poisson  # exponential gaps
    bint closed  # closed loop: always due
    uint64_t state  # of the random numbers
    uint64_t number  # of the next request
    double exact  # its offset, ns
    bint over  # nothing is due any more


cdef inline uint64_t mixed(uint64_t value) noexcept nogil:
    """SplitMix64's finaliser: a random number for a number."""
    value += <uint64_t>0x9E3779B97F4A7C15
    value = (value ^ (value >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    value = (value ^ (value >> 27)) * <uint64_t>0x94D049BB133111EB
    return value ^ (value >> 31)


cdef inline int64_t due_next(const Schedule* schedule) noexcept nogil:
    """Offset of the next request."""
    return <int64_t>schedule.exact


cdef inline void advance(Schedule* schedule) noexcept nogil:
    """On to the next request."""
    cdef double even
    schedule.number += 1
    if schedule.poisson:
        schedule.state += <uint64_t>0x9E3779B97F4A7C15
        even = <double>(mixed(schedule.state) >> 11) * (1.0 / 9007199254740992.0)
        schedule.exact -= log(1.0 - even) * schedule.gap
    else:
        schedule.exact = <double>schedule.number * schedule.gap
    if due_next(schedule) >= schedule.end:
        schedule.over = True


cdef void begin_schedule(Schedule* schedule, double rate, double seconds, bint poisson, uint64_t seed) noexcept nogil
