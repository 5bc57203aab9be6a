"""Arbitrate: which contenders fill a placement's slots, and in which order.

Placements are filled in the order of the request, which is their order of precedence. Higher priority first, then the
offer's name in byte order (offers are numbered so). A few slots are filled by keeping the best in order while walking
the contenders once; with limits on groups, or many slots, a heap hands them out one at a time, because a limit can
make the best one unusable.
"""

from libc.math cimport INFINITY
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from core.kernel.plan cimport PlacementEntry, Tables
from core.kernel.scoring cimport describe_contender
from core.kernel.workspace cimport Filled, Wanted, Winner, Work

# Up to this many slots insertion into a sorted run beats a heap; arbitrary, any small number serves.
cdef enum:
    INSERTION_SLOTS = 16


cdef inline bint _better(const Work* work, uint32_t a, uint32_t b) noexcept nogil:
    cdef double first = work.priorities[a], second = work.priorities[b]
    return first > second or (first == second and work.survivors[a] < work.survivors[b])


cdef inline bint _is_set(const uint64_t* bits, uint32_t offer) noexcept nogil:
    return bits[offer >> 6] >> (offer & 63) & 1


cdef inline bint _competes(const Work* work, const PlacementEntry* placement, uint32_t offer) noexcept nogil:
    return _is_set(placement.mask, offer) and (work.plan.repeats or not _is_set(work.returned, offer))


cdef void _sift(Work* work, uint32_t* heap, uint32_t at, uint32_t count) noexcept nogil:
    cdef uint32_t child, moved = heap[at]
    while True:
        child = 2 * at + 1
        if child >= count:
            break
        if child + 1 < count and _better(work, heap[child + 1], heap[child]):
            child += 1
        if not _better(work, heap[child], moved):
            break
        heap[at] = heap[child]
        at = child
    heap[at] = moved


cdef inline uint32_t _limit(uint32_t* counted, uint32_t* stamps, uint32_t group, uint32_t epoch) noexcept nogil:
    if stamps[group] != epoch:
        stamps[group] = epoch
        counted[group] = 0
    return counted[group]


cdef uint32_t _by_insertion(Work* work, const PlacementEntry* placement, uint32_t slots) noexcept nogil:
    cdef const double* priorities = work.priorities
    cdef uint32_t* order = work.order
    cdef uint32_t i, at, count = 0, contender_count = work.contender_count
    # Once the slots are full, only what beats the last of them is looked at further.
    cdef double bar = -INFINITY
    for i in range(contender_count):
        if priorities[i] < bar or (count == slots and not _better(work, i, order[count - 1])):
            continue
        if not _competes(work, placement, work.survivors[i]):
            continue
        at = count if count < slots else slots - 1
        if count < slots:
            count += 1
        while at > 0 and _better(work, i, order[at - 1]):
            order[at] = order[at - 1]
            at -= 1
        order[at] = i
        if count == slots:
            bar = priorities[order[count - 1]]
    return count


cdef uint32_t _by_heap(Work* work, const PlacementEntry* placement, uint32_t slots) noexcept nogil:
    """As by insertion, but an offer whose group is full is passed over and remembered as limited."""
    cdef const Tables* plan = work.plan
    cdef uint32_t* heap = work.rows
    cdef uint32_t i, best, group, held = 0, count = 0
    for i in range(work.contender_count):
        if _competes(work, placement, work.survivors[i]):
            heap[held] = i
            held += 1
    i = held // 2
    while i > 0:
        i -= 1
        _sift(work, heap, i, held)
    memset(work.group_here, 0, plan.groups * sizeof(uint32_t))
    while held and count < slots:
        best = heap[0]
        held -= 1
        heap[0] = heap[held]
        if held:
            _sift(work, heap, 0, held)
        group = plan.group_of[work.survivors[best]]
        if (placement.at_most_per_group and work.group_here[group] >= placement.at_most_per_group) or (
            plan.at_most_per_group
            and _limit(work.group_page, work.group_stamp, group, work.epoch) >= plan.at_most_per_group
        ):
            i = work.survivors[best]
            work.limited[i >> 6] |= <uint64_t> 1 << (i & 63)
            continue
        work.group_here[group] += 1
        if plan.at_most_per_group:
            work.group_page[group] = _limit(work.group_page, work.group_stamp, group, work.epoch) + 1
        work.order[count] = best
        count += 1
    return count


cdef void arbitrate(Work* work, uint32_t wanted) noexcept nogil:
    """Appends the winners of one placement; their offers are then returned, and no longer available without repeats."""
    cdef const Tables* plan = work.plan
    cdef const Wanted* want = &work.request.wanted[wanted]
    cdef const PlacementEntry* placement = &plan.placements[want.placement]
    cdef Filled* filled = &work.filled[wanted]
    cdef uint32_t i, count, offer
    cdef Winner* winner
    memset(work.limited, 0, plan.words * sizeof(uint64_t))
    if placement.at_most_per_group or plan.at_most_per_group or want.slots > INSERTION_SLOTS:
        count = _by_heap(work, placement, want.slots)
    elif want.slots:
        count = _by_insertion(work, placement, want.slots)
    else:
        count = 0
    filled.first = work.winner_count
    filled.count = count
    for i in range(count):
        winner = &work.winners[work.winner_count + i]
        offer = work.survivors[work.order[i]]
        winner.contender = work.order[i]
        describe_contender(work, work.order[i])
        winner.offer = offer
        winner.treatment = <uint32_t> placement.treatments[offer]
    work.winner_count += count


cdef void mark_returned(Work* work, uint32_t wanted) noexcept nogil:
    """From here on the placement's offers count as returned; called when its reasons have been found."""
    cdef uint32_t i, offer
    for i in range(work.filled[wanted].first, work.filled[wanted].first + work.filled[wanted].count):
        offer = work.winners[i].offer
        work.returned[offer >> 6] |= <uint64_t> 1 << (offer & 63)
