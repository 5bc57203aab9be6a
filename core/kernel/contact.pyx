"""Contact policy: caps and suppressions from the customer's contact history.

The history is walked once, oldest first, and only rules that a contact's offer names are touched: counting costs what
the customer lived through, not what the program declares. A cap counts contacts inside its window; a suppression
keeps its last moments in a ring and starts its pause when they lie close enough. History is one list for all
identifiers and channels, so a cap cannot be dodged by either. Caps of households count in the household's list; for a
customer who is in none, his own list is that.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from core.hub.contacts cimport ContactEntry, ContactList, contacts_after, contacts_outcome, contacts_read
from core.kernel.arena cimport arena_take
from core.kernel.plan cimport CapRule, SuppressionRule, Tables
from core.kernel.workspace cimport Work

cdef extern from "core/kernel/native/vector.h" nogil:
    void rapport_clear(uint64_t* alive, const uint64_t* mask, long words)

cdef extern from *:
    int __builtin_ctzll(unsigned long long value) nogil

cdef enum:
    # What a list of contacts is counted for.
    COUNT_OWN = 1  # the customer's caps, and suppressions
    COUNT_HOUSEHOLD = 2  # his household's caps

cdef struct Counting:
    # What counting for caps reads and writes, copied from the workspace: the compiler has to allow that a store into an array
    # changes where the next one lies.
    const CapRule* rules  # by cap
    uint32_t* stamps  # by cap: epoch, once a contact was held to it
    uint32_t* counts  # by cap: contacts counted
    uint32_t* held  # caps that a contact was held to, each once; room for all and one more, in the arena
    uint32_t held_count  # of them
    uint32_t epoch  # the decision's
    int64_t now  # the decision's clock
    int kinds  # of caps counted for


cdef inline void _count(Counting* counting, uint32_t cap, const ContactEntry* contact) noexcept nogil:
    """Counts a contact for a cap, if it is one of those that the cap counts.

    Whether it is, and whether it is the first held to it, is as good as random: nothing here branches on it.
    """
    cdef const CapRule* rule = &counting.rules[cap]
    cdef uint32_t fresh = counting.stamps[cap] != counting.epoch
    cdef uint32_t counts = (
        ((counting.kinds & (COUNT_HOUSEHOLD if rule.household else COUNT_OWN)) != 0)
        & (contact.outcome == rule.outcome)
        & ((rule.channel == 0) | (contact.channel == rule.channel))
        & (contact.at > counting.now - rule.per_us)
    )
    counting.counts[cap] = (counting.counts[cap] & (fresh - 1)) + counts
    counting.stamps[cap] = counting.epoch
    counting.held[counting.held_count] = cap
    counting.held_count += fresh


cdef inline void _note(Work* work, uint32_t number, const ContactEntry* contact) noexcept nogil:
    cdef const SuppressionRule* rule = &work.plan.suppression_rules[number]
    cdef uint32_t seen
    cdef int64_t oldest
    if contact.outcome != rule.outcome:
        return
    if work.suppression_stamp[number] != work.epoch:
        work.suppression_stamp[number] = work.epoch
        work.suppression_count[number] = 0
        work.suppression_active[number] = 0
    seen = work.suppression_count[number]
    work.ring[rule.ring + seen % rule.times] = contact.at
    work.suppression_count[number] = seen + 1
    if seen + 1 < rule.times:
        return
    oldest = work.ring[rule.ring + (seen + 1) % rule.times]
    if contact.at - oldest <= rule.within_us and work.request.as_of_us - contact.at < rule.pause_us:
        if not work.suppression_active[number]:
            work.suppression_active[number] = 1
            work.triggered[work.triggered_count] = number
            work.triggered_count += 1


cdef bint cap_binds(const Work* work, uint32_t cap) noexcept nogil:
    """Whether a cap is reached and binds decisions in the request's channel."""
    cdef const CapRule* rule = &work.plan.cap_rules[cap]
    cdef uint32_t counted = work.cap_count[cap] if work.cap_stamp[cap] == work.epoch else 0
    return counted >= rule.at_most and (rule.channel == 0 or rule.channel == work.request.channel)


cdef bint suppression_active(const Work* work, uint32_t suppression) noexcept nogil:
    """Whether a suppression pauses its scope now."""
    return work.suppression_stamp[suppression] == work.epoch and work.suppression_active[suppression]


cdef inline void _clear_offer(Work* work, uint32_t offer) noexcept nogil:
    work.alive[offer >> 6] &= ~(<uint64_t> 1 << (offer & 63))


cdef inline void _clear_scope(Work* work, int32_t offer, int32_t group) noexcept nogil:
    cdef uint32_t word
    if offer >= 0:
        _clear_offer(work, <uint32_t> offer)
    elif group >= 0:
        rapport_clear(work.alive, work.plan.group_masks + <size_t> group * work.plan.words, work.plan.words)
    else:
        for word in range(work.plan.words):
            work.alive[word] = 0


cdef inline void _apply_cap(Work* work, uint32_t cap) noexcept nogil:
    if cap_binds(work, cap):
        _clear_scope(work, work.plan.cap_rules[cap].offer, work.plan.cap_rules[cap].group)


cdef inline uint64_t _counted_among(
    const Tables* plan, const ContactList* contacts, uint32_t first, uint32_t end
) noexcept nogil:
    """Which of at most 64 contacts have an outcome that a rule counts: a bit each.

    Most of a history has not, for what was served is rarely what a rule counts; which ones, no processor guesses.
    """
    cdef const uint8_t* counted = plan.counted_outcomes
    cdef uint32_t last = plan.counted_outcome_count
    cdef uint32_t i, outcome
    cdef uint64_t found = 0
    for i in range(first, end):
        outcome = contacts_outcome(contacts, i)
        found |= <uint64_t> counted[outcome if outcome < last else last] << (i - first)
    return found


cdef void _count_list(Work* work, const ContactList* contacts, Counting* counted) noexcept nogil:
    """Counts a list's contacts, oldest first, for the caps of its kinds."""
    cdef const Tables* plan = work.plan
    cdef Counting counting = counted[0]
    cdef uint32_t oldest = contacts_after(contacts, counting.now - plan.contact_horizon_us)
    cdef uint32_t end = contacts_after(contacts, counting.now)
    cdef uint32_t first, j, group
    cdef uint64_t left
    cdef int32_t offer
    cdef ContactEntry contact
    # Most programs lack one kind of rule or another: then nothing of it is looked up.
    cdef bint own = plan.offer_cap_starts[plan.offers] != 0
    cdef bint grouped = plan.group_cap_starts[plan.groups] != 0
    cdef bint paused = plan.suppressions != 0 and counting.kinds & COUNT_OWN
    for first in range(oldest, end, 64):
        left = _counted_among(plan, contacts, first, min(first + 64, end))
        while left:
            contacts_read(contacts, first + <uint32_t> __builtin_ctzll(left), &contact)
            left &= left - 1
            for j in range(plan.program_cap_count):
                _count(&counting, plan.program_caps[j], &contact)
            offer = plan.offer_of_number[contact.offer] if contact.offer < plan.offer_numbers else -1
            if offer < 0:
                continue
            if own:
                for j in range(plan.offer_cap_starts[offer], plan.offer_cap_starts[offer + 1]):
                    _count(&counting, plan.offer_caps[j], &contact)
            if not grouped and not paused:
                continue
            group = plan.group_of[offer]
            for j in range(plan.group_cap_starts[group], plan.group_cap_starts[group + 1]):
                _count(&counting, plan.group_caps[j], &contact)
            if not paused:
                continue
            for j in range(plan.offer_suppression_starts[offer], plan.offer_suppression_starts[offer + 1]):
                _note(work, plan.offer_suppressions[j], &contact)
            for j in range(plan.group_suppression_starts[group], plan.group_suppression_starts[group + 1]):
                _note(work, plan.group_suppressions[j], &contact)
    counted.held_count = counting.held_count


cdef void filter_contacts(Work* work) noexcept nogil:
    """Takes out of ``alive`` every offer that a reached cap or a running pause names."""
    cdef const Tables* plan = work.plan
    cdef uint32_t i, j
    cdef Counting counting
    cdef const SuppressionRule* rule
    cdef bint apart = plan.household.contacts and work.customer.household.id != 0
    work.triggered_count = 0
    if plan.contact_horizon_us == 0 or (work.customer.contacts.count == 0 and work.customer.household.contacts.count == 0):
        return
    counting.rules = plan.cap_rules
    counting.stamps = work.cap_stamp
    counting.counts = work.cap_count
    counting.epoch = work.epoch
    counting.now = work.request.as_of_us
    counting.held_count = 0
    counting.held = <uint32_t*> arena_take(&work.arena, (plan.caps + 1) * sizeof(uint32_t))
    if counting.held == NULL:
        work.out_of_memory = 1
        return
    counting.kinds = COUNT_OWN if apart else COUNT_OWN | COUNT_HOUSEHOLD
    _count_list(work, &work.customer.contacts, &counting)
    if apart:
        counting.kinds = COUNT_HOUSEHOLD
        _count_list(work, &work.customer.household.contacts, &counting)
    # A cap that no contact was held to stands at zero, below any limit.
    for i in range(counting.held_count):
        _apply_cap(work, counting.held[i])
    for i in range(work.triggered_count):
        rule = &plan.suppression_rules[work.triggered[i]]
        _clear_scope(work, rule.offer, rule.group)
        for j in range(rule.related_start, rule.related_start + rule.related_count):
            _clear_offer(work, plan.related[j])
