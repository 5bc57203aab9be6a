"""Filter: which offers pass every rule the index holds, then every other condition.

The index answers for all offers at once: for each input it names, one or two prepared bitmaps are ANDed into the set
of offers still alive. A value among thresholds selects the last checkpoint before it, and the few entries after that
checkpoint are cleared one by one. What the index cannot express is evaluated for survivors only, each distinct
condition at most once a decision.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from core.kernel.machine cimport holds
from core.kernel.plan cimport PresenceIndex, Tables, TextIndex, ThresholdList
from core.kernel.values cimport PRESENT, Value
from core.kernel.workspace cimport Work

cdef extern from "core/kernel/native/vector.h" nogil:
    void rapport_and(uint64_t* alive, const uint64_t* mask, long words)
    int __builtin_ctzll(unsigned long long)


cdef inline uint32_t _first_not_below_int(const int64_t* keys, uint32_t count, int64_t value) noexcept nogil:
    """Entries whose key is below the value: the failing prefix."""
    cdef uint32_t low = 0, half
    while count > 0:
        half = count >> 1
        if keys[low + half] < value:
            low += half + 1
            count -= half + 1
        else:
            count = half
    return low


cdef inline uint32_t _first_not_below_double(const double* keys, uint32_t count, double value) noexcept nogil:
    cdef uint32_t low = 0, half
    while count > 0:
        half = count >> 1
        if keys[low + half] < value:
            low += half + 1
            count -= half + 1
        else:
            count = half
    return low


cdef inline void _apply_thresholds(Work* work, const ThresholdList* entries, const Value* value) noexcept nogil:
    cdef uint32_t failing, checkpoint, i, offer
    if entries.is_double:
        failing = _first_not_below_double(
            entries.double_keys, entries.count, -value.f if entries.flip else value.f
        )
    else:
        failing = _first_not_below_int(entries.int_keys, entries.count, ~value.i if entries.flip else value.i)
    checkpoint = failing // entries.step
    if checkpoint > 0:
        rapport_and(
            work.alive, entries.checkpoints + <size_t> checkpoint * work.plan.words, work.plan.words
        )
    for i in range(checkpoint * entries.step, failing):
        offer = entries.offers[i]
        work.alive[offer >> 6] &= ~(<uint64_t> 1 << (offer & 63))


cdef inline uint32_t _text_row(const TextIndex* index, const Value* value) noexcept nogil:
    """The text's position in byte order, or the row of all other texts."""
    cdef uint32_t low = 0, high = index.count, middle, shorter
    cdef int order
    while low < high:
        middle = (low + high) >> 1
        shorter = index.texts[middle].length if index.texts[middle].length < value.length else value.length
        order = memcmp(index.texts[middle].text, value.text, shorter) if shorter else 0
        if order == 0:
            if index.texts[middle].length == value.length:
                return middle
            order = -1 if index.texts[middle].length < value.length else 1
        if order < 0:
            low = middle + 1
        else:
            high = middle
    return index.count


cdef void filter_index(Work* work) noexcept nogil:
    """Leaves in ``alive`` the wanted offers that pass every condition the index holds."""
    cdef const Tables* plan = work.plan
    cdef uint32_t i, row
    cdef const PresenceIndex* presence
    cdef const TextIndex* texts
    cdef const Value* value
    memcpy(work.alive, work.wanted_mask, plan.words * sizeof(uint64_t))
    rapport_and(work.alive, plan.possible, plan.words)
    for i in range(plan.presence_count):
        presence = &plan.presences[i]
        if work.frame[presence.slot].state != PRESENT:
            rapport_and(work.alive, presence.passes_missing, plan.words)
        elif presence.passes_present != NULL:
            rapport_and(work.alive, presence.passes_present, plan.words)
    for i in range(plan.text_count):
        texts = &plan.texts[i]
        value = &work.frame[texts.slot]
        if value.state == PRESENT:
            if texts.is_bool:
                row = 1 if value.i else 0
            else:
                # An enum attribute brings its row along, counted from 1; other texts are looked for.
                row = <uint32_t> value.i - 1 if value.i else _text_row(texts, value)
            rapport_and(work.alive, texts.passes + <size_t> row * plan.words, plan.words)
    for i in range(plan.threshold_count):
        value = &work.frame[plan.thresholds[i].slot]
        if value.state == PRESENT:
            _apply_thresholds(work, &plan.thresholds[i], value)


cdef bint condition_holds(Work* work, uint32_t condition) noexcept nogil:
    """Whether a condition holds, evaluated at most once a decision."""
    cdef uint32_t stamp = work.condition_stamp[condition]
    cdef bint held
    if stamp >> 1 == work.epoch:
        return stamp & 1
    held = holds(work.plan.code, work.plan.condition_code[condition], work.frame, &work.arena) == 1
    work.condition_stamp[condition] = work.epoch << 1 | held
    return held


cdef bint offer_passes(Work* work, uint32_t offer) noexcept nogil:
    cdef const uint32_t* starts = work.plan.residual_starts
    cdef uint32_t i
    for i in range(starts[offer], starts[offer + 1]):
        if not condition_holds(work, work.plan.residuals[i]):
            return False
    return True


cdef void filter_conditions(Work* work) noexcept nogil:
    """Lists the survivors: offers alive whose other conditions hold; the rest leave ``alive``."""
    cdef uint32_t* survivors = work.survivors
    cdef uint64_t* alive = work.alive
    cdef uint32_t word, offer, count = 0, words = work.plan.words
    cdef uint32_t residual_count = work.plan.residual_count
    cdef uint64_t bits
    for word in range(words):
        bits = alive[word]
        while bits:
            offer = (word << 6) + <uint32_t> __builtin_ctzll(bits)
            bits &= bits - 1
            if residual_count == 0 or offer_passes(work, offer):
                survivors[count] = offer
                count += 1
            else:
                alive[word] &= ~(<uint64_t> 1 << (offer & 63))
    work.survivor_count = count
