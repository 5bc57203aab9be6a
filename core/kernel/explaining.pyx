"""Explain: exactly one reason for every offer that a placement did not return.

Filtering answers for all offers at once and remembers no reasons. They are found afterwards, and only when asked for,
by putting the questions to each offer again one by one, in the order of `core.reasons.Reason`: what the index said in
one stroke, the machine says rule by rule. The two must agree; an offer that is out for no reason is a bug, and the
tests' oracle looks for it.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport realloc
from libc.string cimport memset

from core.kernel.contact cimport cap_binds, suppression_active
from core.kernel.machine cimport holds, missing_slot
from core.kernel.plan cimport OfferDates, PlacementEntry, RuleEntry, SuppressionRule, Tables
from core.kernel.scoring cimport describe_contender
from core.kernel.values cimport PRESENT, Value
from core.kernel.workspace cimport Filled, Verdict, Work

cdef enum:
    REASON_SCHEDULE = 1
    REASON_CHANNEL = 2
    REASON_PLACEMENT = 3
    REASON_CONSENT = 7
    REASON_CASE_OPEN = 8
    REASON_CONTACT_CAP = 11
    REASON_SUPPRESSED = 12
    REASON_MODEL_FAILED = 13
    REASON_SCORE_UNDEFINED = 14
    REASON_DUPLICATE = 15
    REASON_GROUP_LIMIT = 16
    REASON_ARBITRATION_LOST = 17
    DETAIL_FALSE = 1
    DETAIL_MISSING = 2
    DETAIL_FAILED = 3
    SOURCE_RULE = 1
    SOURCE_CAP = 2
    SOURCE_SUPPRESSION = 3
    SOURCE_CONSENT = 4
    SOURCE_CASE = 5
    FIRST_CAUSE = -2


cdef inline bint _is_set(const uint64_t* bits, uint32_t offer) noexcept nogil:
    return bits[offer >> 6] >> (offer & 63) & 1


cdef bint _rules(
    Work* work, const RuleEntry* rules, uint32_t start, uint32_t end, uint8_t layer, Verdict* verdict
) noexcept nogil:
    """Whether a rule of one layer speaks; fills in the verdict with the first that does."""
    cdef uint32_t i
    cdef int held
    for i in range(start, end):
        if rules[i].layer != layer:
            continue
        held = holds(work.plan.code, rules[i].expression, work.frame, &work.arena)
        if held == 1:
            continue
        verdict.reason = layer
        verdict.source = SOURCE_RULE
        verdict.number = <int32_t> rules[i].rule
        if held == 0:
            verdict.detail = DETAIL_FALSE
        elif held == 2:
            verdict.detail = DETAIL_MISSING
            verdict.slot = missing_slot(work.plan.code, rules[i].expression, work.frame, &work.arena)
        else:
            verdict.detail = DETAIL_FAILED
        return True
    return False


cdef bint _layers(Work* work, uint32_t offer, Verdict* verdict) noexcept nogil:
    cdef const Tables* plan = work.plan
    cdef uint32_t group = plan.group_of[offer]
    cdef uint8_t layer
    for layer in range(4, 7):
        if _rules(
            work, plan.group_rules, plan.group_rule_starts[group], plan.group_rule_starts[group + 1], layer, verdict
        ):
            return True
        if _rules(
            work, plan.offer_rules, plan.offer_rule_starts[offer], plan.offer_rule_starts[offer + 1], layer, verdict
        ):
            return True
    return False


cdef bint _consent_and_cases(Work* work, uint32_t offer, Verdict* verdict) noexcept nogil:
    cdef const Tables* plan = work.plan
    cdef uint32_t i
    cdef const Value* value
    if plan.consent_slot[offer] >= 0:
        value = &work.frame[plan.consent_slot[offer]]
        if value.state != PRESENT or not value.i:
            verdict.reason = REASON_CONSENT
            verdict.source = SOURCE_CONSENT
            verdict.number = plan.consent_slot[offer]
            verdict.detail = DETAIL_FALSE
            if value.state != PRESENT:
                verdict.detail = DETAIL_MISSING
                verdict.slot = plan.consent_slot[offer]
            return True
    for i in range(plan.case_slot_starts[offer], plan.case_slot_starts[offer + 1]):
        if work.frame[plan.case_slots[i]].i:
            verdict.reason = REASON_CASE_OPEN
            verdict.source = SOURCE_CASE
            verdict.number = <int32_t> plan.case_slots[i]
            return True
    return False


cdef bint _caps(Work* work, const uint32_t* caps, uint32_t start, uint32_t end, Verdict* verdict) noexcept nogil:
    cdef uint32_t i
    for i in range(start, end):
        if cap_binds(work, caps[i]):
            verdict.reason = REASON_CONTACT_CAP
            verdict.source = SOURCE_CAP
            verdict.number = <int32_t> caps[i]
            return True
    return False


cdef inline bint _suppress(Verdict* verdict, uint32_t number) noexcept nogil:
    verdict.reason = REASON_SUPPRESSED
    verdict.source = SOURCE_SUPPRESSION
    verdict.number = <int32_t> number
    return True


cdef bint _contact(Work* work, uint32_t offer, Verdict* verdict) noexcept nogil:
    cdef const Tables* plan = work.plan
    cdef uint32_t group = plan.group_of[offer], i, j, number
    cdef const SuppressionRule* rule
    if plan.contact_horizon_us == 0:
        return False
    if (
        _caps(work, plan.offer_caps, plan.offer_cap_starts[offer], plan.offer_cap_starts[offer + 1], verdict)
        or _caps(work, plan.group_caps, plan.group_cap_starts[group], plan.group_cap_starts[group + 1], verdict)
        or _caps(work, plan.program_caps, 0, plan.program_cap_count, verdict)
    ):
        return True
    for i in range(plan.offer_suppression_starts[offer], plan.offer_suppression_starts[offer + 1]):
        if suppression_active(work, plan.offer_suppressions[i]):
            return _suppress(verdict, plan.offer_suppressions[i])
    for i in range(plan.group_suppression_starts[group], plan.group_suppression_starts[group + 1]):
        if suppression_active(work, plan.group_suppressions[i]):
            return _suppress(verdict, plan.group_suppressions[i])
    if work.triggered_count == 0:
        return False
    # Suppressions are numbered as they speak: owners by name, offers before groups.
    for number in range(plan.suppressions):
        if not suppression_active(work, number):
            continue
        rule = &plan.suppression_rules[number]
        for j in range(rule.related_start, rule.related_start + rule.related_count):
            if plan.related[j] == offer:
                return _suppress(verdict, number)
    return False


cdef void _question(
    Work* work, uint32_t offer, const PlacementEntry* placement, const int32_t* contenders, Verdict* verdict
) noexcept nogil:
    cdef const Tables* plan = work.plan
    cdef const OfferDates* dates = &plan.dates[offer]
    cdef int64_t now = work.request.as_of_us
    if dates.stopped or now < dates.from_us or now >= dates.until_us:
        verdict.reason = REASON_SCHEDULE
    elif not _is_set(plan.channel_masks + <size_t> placement.channel * plan.words, offer):
        verdict.reason = REASON_CHANNEL
    elif not _is_set(placement.mask, offer):
        verdict.reason = REASON_PLACEMENT
    elif (
        _layers(work, offer, verdict) or _consent_and_cases(work, offer, verdict) or _contact(work, offer, verdict)
    ):
        pass
    elif _is_set(work.model_failed, offer):
        verdict.reason = REASON_MODEL_FAILED
    elif _is_set(work.undefined, offer):
        verdict.reason = REASON_SCORE_UNDEFINED
        # An undefined offer's place among the causes stands where a contender's index would.
        if contenders[offer] <= FIRST_CAUSE:
            verdict.detail = work.causes[FIRST_CAUSE - contenders[offer]].detail
            verdict.slot = work.causes[FIRST_CAUSE - contenders[offer]].slot
    else:
        verdict.contender = contenders[offer]
        if not plan.repeats and _is_set(work.returned, offer):
            verdict.reason = REASON_DUPLICATE
        elif _is_set(work.limited, offer):
            verdict.reason = REASON_GROUP_LIMIT
        else:
            verdict.reason = REASON_ARBITRATION_LOST


cdef bint explain_placement(Work* work, uint32_t wanted) noexcept nogil:
    """Fills one verdict an offer; False when memory ran out. Reason 0 stands for offers returned here."""
    cdef const Tables* plan = work.plan
    cdef Filled* filled = &work.filled[wanted]
    cdef const PlacementEntry* placement = &plan.placements[work.request.wanted[wanted].placement]
    cdef size_t needed = (<size_t> wanted + 1) * plan.offers
    cdef uint32_t i
    cdef Verdict* verdicts
    if needed > work.verdict_capacity:
        verdicts = <Verdict*> realloc(work.verdicts, needed * sizeof(Verdict))
        if verdicts == NULL:
            work.out_of_memory = 1
            return False
        work.verdicts = verdicts
        work.verdict_capacity = needed
    filled.verdict_start = wanted * plan.offers
    verdicts = work.verdicts + filled.verdict_start
    memset(verdicts, 0, plan.offers * sizeof(Verdict))
    for i in range(plan.offers):
        work.contender_of[i] = -1
    for i in range(work.contender_count):
        work.contender_of[work.survivors[i]] = <int32_t> i
        describe_contender(work, i)
    for i in range(work.cause_count):
        work.contender_of[work.causes[i].offer] = FIRST_CAUSE - <int32_t> i
    for i in range(plan.offers):
        verdicts[i].slot = -1
        verdicts[i].contender = -1
    for i in range(filled.first, filled.first + filled.count):
        verdicts[work.winners[i].offer].contender = <int32_t> work.winners[i].contender
    for i in range(plan.offers):
        if verdicts[i].contender < 0:
            _question(work, i, placement, work.contender_of, &verdicts[i])
    return True
