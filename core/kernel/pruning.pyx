"""Prune: offers that cannot be among the best are left out before they are scored.

Where offers differ by their scorecards and constant factors only, a priority is p = s(z) * c, with z = intercept + w.x,
s the logistic function and c the product of the offer's factors. A bound of it for 64 offers costs about what scoring
four of them does, and the walk over all words scores only those whose bound reaches the bar: the k-th best priority met
so far. The bar rises quickly, so some fifty of 30,000 are scored. Whatever is kept goes through the ordinary stages,
which therefore give what they would have given with all.

Why nothing is lost. (1) For every slope g between 0 and 1: ln s(z) <= g * z - h(g), h(g) = -g ln g - (1 - g) ln(1 - g);
the difference is a relative entropy, of g to 1 - s(z). It is nothing at s(z) = 1 - g, so g is taken from the last best
offer. With positive c, ln p <= g * z + ln c - h(g). (2) Weights are kept as whole steps of their feature, at most 127,
each at most half a step off. With y[j] = x[j] times the feature's step, z is at most 0.5 * sum |y| above what the steps
give. (3) The bound is a sum in single precision. Its terms together stay under m = 127 * sum |y| + |intercept| + 256 by
magnitude (a logarithm here is under 208), and n features take at most n + 6 roundings to a term, so that it is off by less
than (n + 6) * 2^-24 * m. Allowed is (n + 8) * 2^-23 * m; the rest covers that the priority itself is computed, in double
precision, and not exact. So a bound below the bar, all this allowed for, proves a priority below the bar: k offers come
before this one, and ties are not pruned. (4) The bar is only raised above 0, and offers whose c is 0 or less stay at or
below it. Factors that are no ordinary numbers, in which a product could lose its precision to underflow, are marked and
always scored; features so large that the bound says little prune nothing.

Arbitration. The best k of offers of which a group may give m: adding an offer to such a choice never makes its last
priority smaller (the choices are the bases of a matroid, which the greedy order fills best at every place). So the bar is
that of the limited choice among the offers met. With several placements, an offer that an earlier one returns makes at
most one of a later one's choice unusable: itself, or one of its group, whose limit it counts for. So each keeps a choice
of as many as all want together, and the bar is the lowest of theirs. Answers that are to be explained prune nothing.
"""

from libc.math cimport INFINITY, fabs, isfinite, log
from libc.stdint cimport int8_t, uint32_t, uint64_t

from core.kernel.eligibility cimport offer_passes
from core.kernel.plan cimport (
    ORDINARY_MOST,
    SCREEN_FEATURES,
    SPREAD_MOST,
    OfferTerms,
    PlacementEntry,
    ScoreTable,
    Screen,
    Tables,
    plain_priority,
)
from core.kernel.scoring cimport read_features
from core.kernel.workspace cimport Request, Work

cdef extern from "core/kernel/native/vector.h" nogil:
    void rapport_linear(
        const double* weights, const double* intercepts, const uint32_t* rows, long count,
        const double* features, long width, double* totals
    )
    void rapport_logistic(double* values, long count)
    bint rapport_bounds(
        const int8_t* weights, const float* intercepts, const float* logs, const float* features, long count,
        float slope, float bar, float* bounds
    )
    int __builtin_ctzll(unsigned long long)
    long rapport_population(const uint64_t* bits, long words)

cdef extern from "math.h" nogil:
    float nextafterf(float value, float towards)

cdef enum:
    EXPLAIN_NONE = 1
    PLACEMENTS_MOST = 64  # wanted at once
    LEADERS_MOST = 128  # of all placements together; who wants more gets all scored
    WORTH_OF = 8  # pruning gives up when it keeps more than one offer in so many

cdef struct Leaders:
    # The best offers met for one placement, best first: what it would return of them, in `room` slots.
    const uint64_t* mask  # its offers
    uint32_t room  # slots
    uint32_t at_most  # of one group; 0: no limit
    uint32_t count  # leaders
    double* priorities
    uint32_t* groups

cdef struct Screening:
    const Screen* screen
    uint32_t feature_count
    float[SCREEN_FEATURES] features  # y
    double error  # of z, by half steps
    double margin  # of everything in single precision
    float slope  # g
    float bar  # what a bound is compared with; -INFINITY prunes nothing
    double lowest  # the bar as a priority


cdef void _enter(Leaders* leaders, double priority, uint32_t group) noexcept nogil:
    """Lets an offer take its place among the leaders, if it has one."""
    cdef uint32_t i, same = 0, leaves = leaders.count
    if leaders.at_most:
        for i in range(leaders.count):
            if leaders.groups[i] == group:
                same += 1
                leaves = i
    if not leaders.at_most or same < leaders.at_most:
        leaves = leaders.count
        if leaders.count == leaders.room:
            leaves -= 1
    if leaves < leaders.count and priority <= leaders.priorities[leaves]:
        return
    if leaves == leaders.count:
        leaders.count += 1
    i = leaves
    while i > 0 and leaders.priorities[i - 1] < priority:
        leaders.priorities[i] = leaders.priorities[i - 1]
        leaders.groups[i] = leaders.groups[i - 1]
        i -= 1
    leaders.priorities[i] = priority
    leaders.groups[i] = group


cdef uint32_t _lead(const Work* work, Leaders* leaders, double* priorities, uint32_t* groups) noexcept nogil:
    """Makes empty leaders for every placement wanted; gives how many placements, or 0 where nothing can be pruned."""
    cdef const Tables* plan = work.plan
    cdef const Request* request = work.request
    cdef const PlacementEntry* placement
    cdef uint32_t i, together = 0, taken = 0, room, at_most
    for i in range(request.wanted_count):
        together += request.wanted[i].slots
    for i in range(request.wanted_count):
        placement = &plan.placements[request.wanted[i].placement]
        room = request.wanted[i].slots if plan.repeats and not plan.at_most_per_group else together
        at_most = placement.at_most_per_group
        if plan.at_most_per_group and (at_most == 0 or plan.at_most_per_group < at_most):
            at_most = plan.at_most_per_group
        if room == 0 or room > LEADERS_MOST - taken:
            return 0
        leaders[i].mask = placement.mask
        leaders[i].room = room
        leaders[i].at_most = at_most
        leaders[i].count = 0
        leaders[i].priorities = priorities + taken
        leaders[i].groups = groups + taken
        taken += room
    return request.wanted_count


cdef bint _begin(Work* work, Screening* screening) noexcept nogil:
    """Turns the features into y; False when they bound nothing."""
    cdef const ScoreTable* table = &work.plan.score_tables[0]
    cdef double y, spread = 0.0
    cdef uint32_t i
    screening.screen = &work.plan.screen
    screening.feature_count = table.feature_count
    read_features(work, table)
    for i in range(table.feature_count):
        y = work.features[i] * screening.screen.steps[i]
        screening.features[i] = <float> y
        spread += fabs(y)
    if not spread <= SPREAD_MOST:
        return False
    screening.error = 0.5000001 * spread
    screening.margin = (table.feature_count + 8) * 1.1920928955078125e-07 * (
        127.0 * spread + screening.screen.intercept_most + 256.0
    )
    screening.slope = 0.5
    screening.bar = <float> -INFINITY
    screening.lowest = 0.0
    return True


cdef void _raise(Screening* screening, double lowest, double propensity) noexcept nogil:
    """Sets the bar to a priority; the slope becomes that of the offer that raised it."""
    cdef double slope
    screening.lowest = lowest
    screening.slope = <float> (1.0 - propensity)
    if not screening.slope >= 0.015625:
        screening.slope = 0.015625
    elif screening.slope > 0.984375:
        screening.slope = 0.984375
    slope = screening.slope
    screening.bar = <float> (
        log(lowest) - slope * log(slope) - (1.0 - slope) * log(1.0 - slope) - slope * screening.error - screening.margin
    )
    # The cast may have rounded up.
    screening.bar = nextafterf(screening.bar, <float> -INFINITY)


cdef bint _try(Work* work, Screening* screening, Leaders* leaders, uint32_t count, uint32_t offer) noexcept nogil:
    """Scores one offer exactly as scoring will; whether the bar rose."""
    cdef const ScoreTable* table = &work.plan.score_tables[0]
    cdef const OfferTerms* terms = &work.plan.terms[offer]
    cdef double propensity, priority, lowest = INFINITY
    cdef uint32_t i
    rapport_linear(table.weights, table.intercepts, &terms.row, 1, work.features, table.width, &propensity)
    rapport_logistic(&propensity, 1)
    priority = plain_priority(terms, propensity)
    if not isfinite(priority):
        return False
    for i in range(count):
        if leaders[i].mask[offer >> 6] >> (offer & 63) & 1:
            _enter(&leaders[i], priority, work.plan.group_of[offer])
        if leaders[i].count < leaders[i].room:
            lowest = 0.0
        elif leaders[i].priorities[leaders[i].room - 1] < lowest:
            lowest = leaders[i].priorities[leaders[i].room - 1]
    if lowest <= screening.lowest or lowest < 1.0 / ORDINARY_MOST:
        return False
    _raise(screening, lowest, propensity)
    return True


cdef bint _screen(Work* work, Screening* screening, Leaders* leaders, uint32_t count, uint32_t most) noexcept nogil:
    """Lists the offers that reach the bar as it stands when their turn comes; False when there are more than ``most``."""
    cdef const Screen* screen = screening.screen
    cdef const uint64_t* alive = work.alive
    cdef uint32_t word, offer, words = work.plan.words, kept = 0
    cdef uint64_t bits
    cdef size_t at
    cdef float[64] bounds
    cdef bint again
    for word in range(words):
        bits = alive[word]
        if bits == 0:
            continue
        at = <size_t> word * 64
        again = True
        while bits:
            if again and not rapport_bounds(
                screen.weights + at * screening.feature_count, screen.intercepts + at, screen.logs + at,
                screening.features, screening.feature_count, screening.slope, screening.bar, bounds
            ):
                break
            again = False
            offer = (word << 6) + <uint32_t> __builtin_ctzll(bits)
            bits &= bits - 1
            if bounds[offer & 63] < screening.bar or not offer_passes(work, offer):
                continue
            if kept == most:
                return False
            work.survivors[kept] = offer
            kept += 1
            # A higher bar has a slope of its own, which this word's other bounds are not made with.
            again = _try(work, screening, leaders, count, offer)
    work.survivor_count = kept
    return True


cdef bint prune(Work* work) noexcept nogil:
    cdef const Tables* plan = work.plan
    cdef Leaders[PLACEMENTS_MOST] leaders
    cdef double[LEADERS_MOST] priorities
    cdef uint32_t[LEADERS_MOST] groups
    cdef Screening screening
    cdef uint32_t count, alive
    if plan.screen.weights == NULL or work.request.explain != EXPLAIN_NONE:
        return False
    alive = <uint32_t> rapport_population(work.alive, plan.words)
    if alive < plan.prune_from or work.request.wanted_count > PLACEMENTS_MOST:
        return False
    count = _lead(work, leaders, priorities, groups)
    if count == 0 or not _begin(work, &screening):
        return False
    return _screen(work, &screening, leaders, count, max(alive // WORTH_OF, 64))
