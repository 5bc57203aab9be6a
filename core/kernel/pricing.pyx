"""Price: what a winner costs this customer, in integer minor units.

The sum is exact: minor units are scaled by 1,000,000 (percentages have four decimals, and a hundred is two more), 128
bits wide, and only rounding brings it back. Bounds are compared before rounding, and hold after it.
"""

from libc.stdint cimport INT64_MAX, INT64_MIN, int32_t, int64_t, uint32_t

from core.kernel.eligibility cimport condition_holds
from core.kernel.plan cimport Adjustment, PriceRule
from core.kernel.workspace cimport Winner, Work

cdef extern from *:
    ctypedef long long int128 "__int128"

cdef enum:
    SCALE = 1_000_000
    CLAMP_NONE = 1
    CLAMP_FLOOR = 2
    CLAMP_CEILING = 3
    ROUND_NEAREST = 0
    ROUND_UP = 1
    ROUND_DOWN = 2


cdef inline int128 _floor_div(int128 a, int128 b) noexcept nogil:
    """Division towards minus infinity; b is positive."""
    cdef int128 quotient = a / b
    if a % b < 0:
        quotient -= 1
    return quotient


cdef int64_t _round(const PriceRule* rule, int128 exact) noexcept nogil:
    """The multiple of the increment, plus the ending, that the rule's rounding picks, kept inside the bounds."""
    cdef int128 unit = <int128> rule.increment * SCALE
    cdef int128 offset = exact - <int128> rule.ending * SCALE
    cdef int128 below = _floor_div(offset, unit)
    cdef int128 rest = offset - below * unit
    cdef int128 steps = below
    cdef int128 price
    if rest > 0:
        if rule.rounding == ROUND_UP:
            steps = below + 1
        elif rule.rounding == ROUND_NEAREST:
            # Halves away from zero.
            if 2 * rest > unit or (2 * rest == unit and exact >= 0):
                steps = below + 1
    price = steps * rule.increment + rule.ending
    if rule.ceiling != INT64_MAX and price > rule.ceiling:
        price = _floor_div(<int128> rule.ceiling - rule.ending, rule.increment) * rule.increment + rule.ending
        if rule.floor != INT64_MIN and price < rule.floor:
            price = rule.ceiling
    elif rule.floor != INT64_MIN and price < rule.floor:
        price = -_floor_div(-(<int128> rule.floor - rule.ending), rule.increment) * rule.increment + rule.ending
        if rule.ceiling != INT64_MAX and price > rule.ceiling:
            price = rule.floor
    return <int64_t> price


cdef void price_winner(Work* work, Winner* winner) noexcept nogil:
    """Fills in price and clamp of a winner; offers without a price are left unpriced."""
    cdef int32_t index = work.plan.price_index[winner.offer]
    cdef const PriceRule* rule
    cdef const Adjustment* change
    cdef uint32_t i
    cdef int128 percents = 0, amounts = 0, exact
    winner.priced = 0
    winner.clamp = CLAMP_NONE
    if index < 0:
        return
    rule = &work.plan.prices[index]
    for i in range(rule.adjustment_start, rule.adjustment_start + rule.adjustment_count):
        change = &work.plan.adjustments[i]
        if change.condition < 0 or condition_holds(work, <uint32_t> change.condition):
            percents += change.percent
            amounts += change.amount
    exact = <int128> rule.list * (SCALE + percents) + amounts * SCALE
    if rule.floor != INT64_MIN and exact < <int128> rule.floor * SCALE:
        exact = <int128> rule.floor * SCALE
        winner.clamp = CLAMP_FLOOR
    elif rule.ceiling != INT64_MAX and exact > <int128> rule.ceiling * SCALE:
        exact = <int128> rule.ceiling * SCALE
        winner.clamp = CLAMP_CEILING
    winner.price = _round(rule, exact)
    winner.priced = 1
