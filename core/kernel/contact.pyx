"""Contact policy: caps and suppressions from the customer's contact history.

The history is walked once, oldest first, and only rules that a contact's offer names are touched: counting costs what
the customer lived through, not what the program declares. A cap counts contacts inside its window; a suppression
keeps its last moments in a ring and starts its pause when they lie close enough. History is one list for all
identifiers and channels, so a cap cannot be dodged by either. Caps of households count in the household's list; for a
customer who is in none, his own list is that.
"""

from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t

from core.hub.contacts cimport ContactEntry, ContactList, contacts_after, contacts_outcome, contacts_read
from core.kernel.arena cimport arena_take
from core.kernel.plan cimport CapRule, SuppressionRule, Tables
from core.kernel.workspace cimport Work

cdef extern from "core/kernel/native/vector.h" nogil:
    void rapport_clear(uint64_t* alive, const uint64_t* mask, long words)


cdef enum:
    # What a list of contacts is counted for.
    COUNT_OWN = 1  # the customer's caps, and suppressions
    COUNT_HOUSEHOLD = 2  # his household's caps

cdef struct Counted:
    uint32_t* caps  # caps that counted a contact, each once; room for all, in the arena
    uint32_t count  # of them


cdef inline void _count(
    Work* work, uint32_t cap, const ContactEntry* contact, int kinds, Counted* counted
) noexcept nogil:
    cdef const CapRule* rule = &work.plan.cap_rules[cap]
    if not kinds & (COUNT_HOUSEHOLD if rule.household else COUNT_OWN):
        return
    if contact.outcome != rule.outcome or (rule.channel and contact.channel != rule.channel):
        return
    if contact.at <= work.request.as_of_us - rule.per_us:
        return
    if work.cap_stamp[cap] != work.epoch:
        work.cap_stamp[cap] = work.epoch
        work.cap_count[cap] = 0
        counted.caps[counted.count] = cap
        counted.count += 1
    work.cap_count[cap] += 1


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


cdef void _count_list(Work* work, const ContactList* contacts, int kinds, Counted* counted) noexcept nogil:
    """Counts a list's contacts, oldest first, for the caps of these kinds."""
    cdef const Tables* plan = work.plan
    cdef uint32_t i, j, group
    cdef uint16_t outcome
    cdef int32_t offer
    cdef int64_t now = work.request.as_of_us
    cdef ContactEntry contact
    for i in range(contacts_after(contacts, now - plan.contact_horizon_us), contacts_after(contacts, now)):
        outcome = contacts_outcome(contacts, i)
        if outcome >= plan.counted_outcome_count or not plan.counted_outcomes[outcome]:
            # Most of a history: what was served is rarely what a rule counts.
            continue
        contacts_read(contacts, i, &contact)
        for j in range(plan.program_cap_count):
            _count(work, plan.program_caps[j], &contact, kinds, counted)
        offer = plan.offer_of_number[contact.offer] if contact.offer < plan.offer_numbers else -1
        if offer < 0:
            continue
        group = plan.group_of[offer]
        for j in range(plan.offer_cap_starts[offer], plan.offer_cap_starts[offer + 1]):
            _count(work, plan.offer_caps[j], &contact, kinds, counted)
        for j in range(plan.group_cap_starts[group], plan.group_cap_starts[group + 1]):
            _count(work, plan.group_caps[j], &contact, kinds, counted)
        if not kinds & COUNT_OWN:
            continue
        for j in range(plan.offer_suppression_starts[offer], plan.offer_suppression_starts[offer + 1]):
            _note(work, plan.offer_suppressions[j], &contact)
        for j in range(plan.group_suppression_starts[group], plan.group_suppression_starts[group + 1]):
            _note(work, plan.group_suppressions[j], &contact)


cdef void filter_contacts(Work* work) noexcept nogil:
    """Takes out of ``alive`` every offer that a reached cap or a running pause names."""
    cdef const Tables* plan = work.plan
    cdef uint32_t i, j
    cdef Counted counted
    cdef const SuppressionRule* rule
    cdef bint apart = plan.household.contacts and work.customer.household.id != 0
    work.triggered_count = 0
    if plan.contact_horizon_us == 0 or (work.customer.contacts.count == 0 and work.customer.household.contacts.count == 0):
        return
    counted.count = 0
    counted.caps = <uint32_t*> arena_take(&work.arena, plan.caps * sizeof(uint32_t))
    if counted.caps == NULL:
        work.out_of_memory = 1
        return
    _count_list(work, &work.customer.contacts, COUNT_OWN if apart else COUNT_OWN | COUNT_HOUSEHOLD, &counted)
    if apart:
        _count_list(work, &work.customer.household.contacts, COUNT_HOUSEHOLD, &counted)
    # A cap that counted nothing stands at zero, below any limit.
    for i in range(counted.count):
        _apply_cap(work, counted.caps[i])
    for i in range(work.triggered_count):
        rule = &plan.suppression_rules[work.triggered[i]]
        _clear_scope(work, rule.offer, rule.group)
        for j in range(rule.related_start, rule.related_start + rule.related_count):
            _clear_offer(work, plan.related[j])
