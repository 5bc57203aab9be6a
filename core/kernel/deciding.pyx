"""One decision, stage after stage: resolve, filter, contact, prune, score, arbitrate, price, render, and explain
where asked.

Data flows one way, and every stage is a room of its own. The snapshot is renewed at the start and reset at the end,
so that a decision sees one state of the store, and holds no page longer than it takes. Nothing here allocates once a
workspace has grown to the size of the answers it gives.
"""

from libc.stdint cimport INT64_MIN, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport realloc
from libc.string cimport memset

from core.hub.snapshot cimport Snapshot, snapshot_renew, snapshot_reset
from core.kernel.arbitration cimport arbitrate, mark_returned
from core.kernel.arena cimport arena_reset
from core.kernel.contact cimport filter_contacts
from core.kernel.eligibility cimport filter_conditions, filter_index
from core.kernel.explaining cimport explain_placement
from core.kernel.instance_token cimport TOKEN_TEXT_MOST, TokenFields, mix64, token_write
from core.kernel.plan cimport PlacementEntry, Tables
from core.kernel.pricing cimport price_winner
from core.kernel.pruning cimport prune
from core.kernel.rendering cimport render_winner, reserve_output
from core.kernel.resolve cimport fill_frame, find_customer
from core.kernel.scoring cimport score_survivors
from core.kernel.workspace cimport Contender, Filled, Request, Winner, Work

cdef extern from "time.h" nogil:
    ctypedef int clockid_t
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(clockid_t clock, timespec* now)
    clockid_t CLOCK_MONOTONIC

cdef enum:
    STATUS_OK = 1
    STATUS_NO_ELIGIBLE_OFFER = 2
    STATUS_UNKNOWN_CUSTOMER = 3
    STATUS_EMPTY_CATALOGUE = 4
    STATUS_MODEL = 5
    STATUS_DEADLINE = 6
    STATUS_OK_MODEL_FALLBACK = 8
    EXPLAIN_NONE = 1


cdef inline int64_t _now_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t> now.tv_sec * 1_000_000_000 + now.tv_nsec


cdef bint _begin(Work* work, const Request* request) noexcept nogil:
    """Makes the workspace this decision's: a new epoch, empty bitmaps, room for every slot asked for."""
    cdef const Tables* plan = work.plan
    cdef const uint64_t* mask
    cdef uint32_t i, word, slots = 0
    cdef Winner* winners
    cdef Filled* filled
    work.request = request
    arena_reset(&work.arena)
    work.epoch += 1
    if work.epoch >> 31:
        # Stamps carry the epoch in 31 bits: once in two thousand million decisions they are all made old.
        memset(work.condition_stamp, 0, plan.conditions * sizeof(uint32_t))
        memset(work.number_stamp, 0, plan.expressions * sizeof(uint32_t))
        memset(work.cap_counts, 0, plan.caps * sizeof(uint64_t))
        memset(work.suppression_stamp, 0, plan.suppressions * sizeof(uint32_t))
        memset(work.group_stamp, 0, plan.groups * sizeof(uint32_t))
        work.epoch = 1
    work.winner_count = work.span_count = work.contender_count = work.survivor_count = work.cause_count = 0
    work.output_bytes = 0
    work.late = work.out_of_memory = work.any_model_fallback = 0
    memset(work.wanted_mask, 0, plan.words * sizeof(uint64_t))
    memset(work.model_failed, 0, plan.words * sizeof(uint64_t))
    memset(work.undefined, 0, plan.words * sizeof(uint64_t))
    memset(work.returned, 0, plan.words * sizeof(uint64_t))
    for i in range(request.wanted_count):
        slots += request.wanted[i].slots
        mask = plan.placements[request.wanted[i].placement].mask
        for word in range(plan.words):
            work.wanted_mask[word] |= mask[word]
    if slots > work.winner_capacity:
        winners = <Winner*> realloc(work.winners, slots * sizeof(Winner))
        if winners == NULL:
            return False
        work.winners = winners
        work.winner_capacity = slots
    if request.wanted_count > work.filled_count:
        filled = <Filled*> realloc(work.filled, request.wanted_count * sizeof(Filled))
        if filled == NULL:
            return False
        work.filled = filled
        work.filled_count = request.wanted_count
    return True


cdef inline bint _expired(Work* work) noexcept nogil:
    if work.request.deadline_ns and _now_ns() >= work.request.deadline_ns:
        work.late = 1
    return work.late


cdef bint _meets(const uint64_t* a, const uint64_t* b, uint32_t words) noexcept nogil:
    cdef uint32_t i
    for i in range(words):
        if a[i] & b[i]:
            return True
    return False


cdef bint _used_fallback(const Work* work, const PlacementEntry* placement) noexcept nogil:
    cdef uint32_t i, offer
    if not work.any_model_fallback:
        return False
    for i in range(work.contender_count):
        offer = work.survivors[i]
        if work.model_statuses[i] and placement.mask[offer >> 6] >> (offer & 63) & 1:
            return True
    return False


cdef uint8_t _status(Work* work, const Filled* filled, const PlacementEntry* placement) noexcept nogil:
    cdef bint failed = _meets(work.model_failed, placement.mask, work.plan.words)
    if placement.empty:
        return STATUS_EMPTY_CATALOGUE
    if filled.count:
        return STATUS_OK_MODEL_FALLBACK if failed or _used_fallback(work, placement) else STATUS_OK
    if failed:
        return STATUS_MODEL
    return STATUS_NO_ELIGIBLE_OFFER if work.customer.id else STATUS_UNKNOWN_CUSTOMER


cdef bint _issue(Work* work, Winner* winner, uint32_t wanted, uint32_t rank) noexcept nogil:
    """Gives a winner its instance id and token."""
    cdef const Tables* plan = work.plan
    cdef const Request* request = work.request
    cdef const Contender* contender = &work.contenders[winner.contender]
    cdef TokenFields fields
    winner.instance = mix64(mix64(request.seed, <uint64_t> request.as_of_us), <uint64_t> wanted << 32 | rank)
    fields.customer = work.customer.id
    fields.instance = winner.instance
    fields.decided_us = request.as_of_us
    fields.expires_us = request.as_of_us + plan.expiry_us
    fields.price = winner.price if winner.priced else INT64_MIN
    fields.propensity = contender.propensity
    fields.offer = plan.offer_number[winner.offer]
    fields.program = plan.version
    fields.channel = request.channel
    fields.rank = <unsigned short> rank
    fields.flags = 1 if request.deferred else 0
    fields.namespace = 0
    fields.identifier = NULL
    fields.identifier_length = 0
    if work.customer.id == 0 and request.identity_count:
        # Nobody known: the outcome will create the customer under the most trusted identifier sent.
        fields.namespace = request.identities[0].namespace
        fields.identifier = request.identities[0].text
        fields.identifier_length = <unsigned short> request.identities[0].length
    if not reserve_output(work, TOKEN_TEXT_MOST):
        return False
    winner.token.start = <uint32_t> work.output_bytes
    winner.token.length = token_write(&fields, plan.signing_key, work.output + work.output_bytes)
    work.output_bytes += winner.token.length
    return True


cdef bint _fill(Work* work, uint32_t wanted) noexcept nogil:
    cdef const PlacementEntry* placement = &work.plan.placements[work.request.wanted[wanted].placement]
    cdef Filled* filled = &work.filled[wanted]
    cdef Winner* winner
    cdef uint32_t i
    filled.first = work.winner_count
    filled.count = 0
    if work.late:
        filled.status = STATUS_DEADLINE
        return True
    arbitrate(work, wanted)
    filled.status = _status(work, filled, placement)
    if work.request.explain != EXPLAIN_NONE and not explain_placement(work, wanted):
        return False
    mark_returned(work, wanted)
    for i in range(filled.count):
        winner = &work.winners[filled.first + i]
        price_winner(work, winner)
        if not render_winner(work, winner, placement.content_type) or not _issue(work, winner, wanted, i + 1):
            return False
    return True


cdef int decide(Work* work, Snapshot* snapshot, const Request* request) noexcept nogil:
    """Decides one request; the answer stays in the workspace until its next decision.

    Returns DECIDED, DECIDE_DAMAGED, DECIDE_MEMORY, or an LMDB code. The request's memory must outlive the call.
    """
    cdef int64_t began = _now_ns()
    cdef int code
    cdef uint32_t i
    if not _begin(work, request):
        return DECIDE_MEMORY
    code = snapshot_renew(snapshot)
    if code == 0:
        code = find_customer(work, snapshot)
    if code == 0 and work.customer.damaged:
        code = DECIDE_DAMAGED
    if code == 0:
        fill_frame(work)
        if not _expired(work):
            filter_index(work)
            filter_contacts(work)
            if not prune(work):
                filter_conditions(work)
        # From here on the answer is finished whatever the clock says: models are waited for no longer than leaves time
        # for it, and what remains takes microseconds. A thread that woke up late must not throw away what it has.
        if not _expired(work):
            score_survivors(work)
        for i in range(request.wanted_count):
            if not _fill(work, i):
                break
        if work.out_of_memory:
            code = DECIDE_MEMORY
    snapshot_reset(snapshot)
    work.took_ns = _now_ns() - began
    return code
