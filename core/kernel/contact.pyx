"""Contact policy: caps and suppressions from the customer's contact history.

Contacts whose outcome no rule counts are left out first; each kind of rule then walks the others, oldest first, and touches
only rules that a contact's offer names: counting costs what the customer lived through, not what the program declares. A cap
counts contacts inside its window; a suppression keeps its last moments in a ring and starts its pause when they lie close
enough. History is one list for all identifiers and channels, so a cap cannot be dodged by either. Caps of households count in
the household's list; for a customer who is in none, his own list is that.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from core.hub.contacts cimport ContactEntry, ContactList, contacts_after
from core.kernel.arena cimport arena_take
from core.kernel.plan cimport CapRule, SuppressionRule, Tables
from core.kernel.workspace cimport Work

cdef extern from "core/kernel/native/vector.h" nogil:
    void rapport_clear(uint64_t* alive, const uint64_t* mask, long words)

cdef enum:
    # What a list of contacts is counted for; the bit `CapRule.household` says.
    COUNT_OWN = 1  # the customer's caps, and suppressions
    COUNT_HOUSEHOLD = 2  # his household's caps

cdef struct Counting:
    # What counting for caps reads and writes, copied from the workspace: the compiler has to allow that a store into
    # an array changes where the next one lies.
    const CapRule* rules  # by cap
    uint64_t* counts  # by cap, as in the workspace
    uint32_t* held  # caps that a contact was held to, each once; room for all and one more, in the arena
    uint32_t held_count  # of them
    uint32_t epoch  # the decision's
    int64_t now  # the decision's clock
    int kinds  # of caps counted for


cdef inline uint32_t _count(const Counting* counting, uint32_t cap, const ContactEntry* contact, uint32_t held) noexcept nogil:
    """Counts a contact for a cap, if it is one of those that the cap counts; how many caps are held then, of ``held`` before.

    Whether it is, and whether it is the first held to it, is as good as random: nothing here branches on it.
    """
    cdef const CapRule* rule = &counting.rules[cap]
    cdef uint64_t count = counting.counts[cap]
    cdef uint32_t fresh = count >> 32 != counting.epoch
    counting.counts[cap] = (<uint64_t> counting.epoch << 32) + (<uint32_t> count & (fresh - 1)) + (
        (<uint32_t> counting.kinds >> rule.household)
        & (contact.outcome == rule.outcome)
        & ((rule.channel == 0) | (contact.channel == rule.channel))
        & (contact.at > counting.now - rule.per_us)
    )
    counting.held[held] = cap
    return held + fresh


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
    cdef uint64_t count = work.cap_counts[cap]
    cdef uint32_t counted = <uint32_t> count if count >> 32 == work.epoch else 0
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


cdef uint32_t _take_counted(
    const Tables* plan, const ContactEntry* entries, uint32_t count, const ContactEntry** taken
) noexcept nogil:
    """The contacts with an outcome that a rule counts, in their order; how many. ``taken`` has room for all and one more.

    Most of a history has not, for what was served is rarely what a rule counts; which ones, no processor guesses.
    """
    cdef const uint8_t* counted = plan.counted_outcomes
    cdef uint32_t last = plan.counted_outcome_count
    cdef uint32_t i, outcome, found = 0
    for i in range(count):
        outcome = entries[i].outcome
        taken[found] = &entries[i]
        found += counted[outcome if outcome < last else last]
    return found


cdef inline int32_t _offer_of(const Tables* plan, const ContactEntry* contact) noexcept nogil:
    """The program's offer that a contact was about, or -1."""
    return plan.offer_of_number[contact.offer] if contact.offer < plan.offer_numbers else -1


# Each kind of rule walks the contacts on its own: a program lacks one kind or another, and what one needs stays in registers.

cdef uint32_t _count_for_program(
    const Tables* plan, Counting counting, const ContactEntry** contacts, uint32_t count, uint32_t held
) noexcept nogil:
    cdef uint32_t i, k
    for k in range(count):
        for i in range(plan.program_cap_count):
            held = _count(&counting, plan.program_caps[i], contacts[k], held)
    return held


cdef uint32_t _count_for_scopes(
    const Tables* plan, Counting counting, const ContactEntry** contacts, uint32_t count, uint32_t held,
    const uint32_t* starts, const uint32_t* caps, const uint32_t* group_of
) noexcept nogil:
    """For the caps that ``starts`` and ``caps`` tell of each offer, or of each offer's group where there is ``group_of``."""
    cdef uint32_t i, end, k, scope
    cdef int32_t offer
    for k in range(count):
        offer = _offer_of(plan, contacts[k])
        if offer < 0:
            continue
        scope = <uint32_t> offer if group_of == NULL else group_of[offer]
        i = starts[scope]
        end = starts[scope + 1]
        while i < end:
            held = _count(&counting, caps[i], contacts[k], held)
            i += 1
    return held


cdef void _note_contacts(Work* work, const ContactEntry** contacts, uint32_t count) noexcept nogil:
    """What suppressions remember of them, which needs them oldest first."""
    cdef const Tables* plan = work.plan
    cdef uint32_t i, group, k
    cdef int32_t offer
    cdef const ContactEntry* contact
    for k in range(count):
        contact = contacts[k]
        offer = _offer_of(plan, contact)
        if offer < 0:
            continue
        group = plan.group_of[offer]
        for i in range(plan.offer_suppression_starts[offer], plan.offer_suppression_starts[offer + 1]):
            _note(work, plan.offer_suppressions[i], contact)
        for i in range(plan.group_suppression_starts[group], plan.group_suppression_starts[group + 1]):
            _note(work, plan.group_suppressions[i], contact)


cdef void _count_list(Work* work, const ContactList* list, Counting* counting) noexcept nogil:
    """Counts a list's contacts, oldest first, for the caps of its kinds."""
    cdef const Tables* plan = work.plan
    cdef uint32_t first = contacts_after(list, counting.now - plan.contact_horizon_us)
    cdef uint32_t count = contacts_after(list, counting.now)
    cdef const ContactEntry** contacts
    if first >= count:
        return
    count -= first
    contacts = <const ContactEntry**> arena_take(&work.arena, (count + 1) * sizeof(ContactEntry*))
    if contacts == NULL:
        work.out_of_memory = 1
        return
    count = _take_counted(plan, list.entries + first, count, contacts)
    if plan.program_cap_count:
        counting.held_count = _count_for_program(plan, counting[0], contacts, count, counting.held_count)
    if plan.offer_cap_starts[plan.offers]:
        counting.held_count = _count_for_scopes(
            plan, counting[0], contacts, count, counting.held_count, plan.offer_cap_starts, plan.offer_caps, NULL)
    if plan.group_cap_starts[plan.groups]:
        counting.held_count = _count_for_scopes(
            plan, counting[0], contacts, count, counting.held_count, plan.group_cap_starts, plan.group_caps, plan.group_of)
    if plan.suppressions and counting.kinds & COUNT_OWN:
        _note_contacts(work, contacts, count)


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
    counting.counts = work.cap_counts
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
