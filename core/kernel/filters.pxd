"""Whether an event meets an aggregate's filter: its cells against the plan's literals.

A field that the event lacks meets no term, as a missing value meets no condition. Money and what stands beside a double are
compared as expressions compare them, as doubles in major units; texts by their bytes.
"""

from libc.math cimport isnan
from libc.stdint cimport INT64_MIN, int64_t, uint8_t, uint32_t
from libc.string cimport memcmp

from core.hub.events cimport EventHeader, event_f64, event_i64, event_text
from core.kernel.plan cimport (
    FILTER_ABOVE,
    FILTER_BELOW,
    FILTER_FROM,
    FILTER_IN,
    FILTER_OTHER,
    FILTER_UPTO,
    FilterTerm,
    STORED_BOOL,
    STORED_DOUBLE,
    STORED_ENUM,
    STORED_MONEY,
    STORED_STRING,
)

cdef inline bint holds(uint8_t op, int order) noexcept nogil:
    """Whether a comparison holds of a field below (-1), equal to (0) or above (1) its literal."""
    if op == FILTER_OTHER:
        return order != 0
    if op == FILTER_BELOW:
        return order < 0
    if op == FILTER_UPTO:
        return order <= 0
    if op == FILTER_ABOVE:
        return order > 0
    return order >= 0 if op == FILTER_FROM else order == 0


cdef inline int order_of_texts(const uint8_t* text, uint32_t length, const char* other, uint32_t other_length) noexcept nogil:
    cdef uint32_t shared = length if length < other_length else other_length
    cdef int order = memcmp(text, other, shared) if shared else 0
    if order:
        return -1 if order < 0 else 1
    return (length > other_length) - (length < other_length)


cdef inline bint meets(const FilterTerm* term, const uint8_t* entry, const EventHeader* event) noexcept nogil:
    cdef const uint8_t* text = NULL
    cdef uint32_t i, length = 0
    cdef int64_t number
    cdef double real
    if term.storage == STORED_STRING or term.storage == STORED_ENUM:
        if not event_text(entry, event, term.cell, &text, &length):
            return False
        for i in range(term.count):
            if holds(term.op, order_of_texts(text, length, term.texts[i].text, term.texts[i].length)):
                return True
        return False
    if term.storage == STORED_DOUBLE:
        real = event_f64(entry, event, term.cell)
        if isnan(real):
            return False
    else:
        number = event_i64(entry, event, term.cell)
        if number == INT64_MIN:
            return False
        if term.storage == STORED_BOOL:
            # 0 missing, 1 false, 2 true.
            if number == 0:
                return False
            number -= 1
        if not term.is_real:
            for i in range(term.count):
                if holds(term.op, (number > term.numbers[i]) - (number < term.numbers[i])):
                    return True
            return False
        real = <double> number / term.unit if term.storage == STORED_MONEY else <double> number
    for i in range(term.count):
        if holds(term.op, (real > term.reals[i]) - (real < term.reals[i])):
            return True
    return False


cdef inline bint passes(const FilterTerm* terms, uint32_t count, const uint8_t* entry, const EventHeader* event) noexcept nogil:
    """Whether an event meets every term."""
    cdef uint32_t i
    for i in range(count):
        if not meets(&terms[i], entry, event):
            return False
    return True
