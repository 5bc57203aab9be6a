"""Resolve: who the customer is, and the frame of everything the plan reads of them.

The most trusted known identifier wins: identities arrive by falling trust and the first that the store knows is
taken. The record is read where it lies in the map: a cell becomes a `Value`, a text a pointer into the record.
Aggregates are computed from the customer's event list, which is exact for sliding windows and needs no state of its
own: one walk for all of them. Events of the moment join the walk in order of time, unless the store already holds
them under the same key.
"""

from libc.math cimport isfinite, isnan
from libc.stdint cimport INT64_MIN, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from core import limits

from core.hub.environment cimport Snapshot, snapshot_customer, snapshot_get_customer
from core.hub.contacts cimport contacts_open
from core.hub.events cimport EventHeader, EventList, event_f64, event_i64, event_read, event_text, events_open
from core.hub.lmdb cimport MDB_NOTFOUND
from core.hub.record cimport (
    CaseEntry,
    FAULT_NONE,
    RecordView,
    record_bool,
    record_case,
    record_consented,
    record_enum,
    record_f64,
    record_i64,
    record_open,
    record_text,
)
from core.kernel.arena cimport arena_take
from core.kernel.plan cimport (
    AGGREGATE_COUNT,
    AGGREGATE_DISTINCT,
    AGGREGATE_LAST,
    AGGREGATE_MAX,
    AGGREGATE_MEAN,
    AGGREGATE_MIN,
    AGGREGATE_SUM,
    BoundAggregate,
    BoundAttribute,
    SLOT_CHANNEL,
    SLOT_KNOWN,
    SLOT_NOW,
    STORED_BOOL,
    STORED_DOUBLE,
    STORED_ENUM,
    STORED_MONEY,
    STORED_SET,
    STORED_STRING,
    Tables,
)
from core.kernel.values cimport FAILED, MISSING, PRESENT, Value
from core.kernel.workspace cimport Request, Work

cdef extern from *:
    bint __builtin_add_overflow(int64_t a, int64_t b, int64_t* sum) nogil


cdef int find_customer(Work* work, Snapshot* snapshot) noexcept nogil:
    """Finds the customer and borrows their record, contacts and events from the snapshot.

    Returns 0, or an LMDB code when the store cannot be read. ``damaged`` is set where bytes fail their checks.
    """
    cdef const Request* request = work.request
    cdef uint32_t i
    cdef int code
    cdef const uint8_t* bytes
    cdef size_t size
    memset(&work.customer, 0, sizeof(work.customer))
    for i in range(request.identity_count):
        code = snapshot_customer(
            snapshot, request.identities[i].namespace, request.identities[i].text, request.identities[i].length,
            &work.customer.id
        )
        if code == 0:
            break
        if code != MDB_NOTFOUND:
            return code
    if work.customer.id == 0:
        return 0
    code = snapshot_get_customer(snapshot, snapshot.handles.profiles, work.customer.id, &bytes, &size)
    if code == 0:
        work.customer.has_record = 1
        if record_open(bytes, size, &work.customer.record) != FAULT_NONE:
            work.customer.damaged = 1
    elif code != MDB_NOTFOUND:
        return code
    if work.plan.contact_horizon_us:
        code = snapshot_get_customer(snapshot, snapshot.handles.contacts, work.customer.id, &bytes, &size)
        if code == 0:
            if contacts_open(bytes, size, &work.customer.contacts) != FAULT_NONE:
                work.customer.damaged = 1
        elif code != MDB_NOTFOUND:
            return code
    if work.plan.aggregate_count:
        code = snapshot_get_customer(snapshot, snapshot.handles.events, work.customer.id, &bytes, &size)
        if code == 0:
            if events_open(bytes, size, &work.customer.events) != FAULT_NONE:
                work.customer.damaged = 1
        elif code != MDB_NOTFOUND:
            return code
    return 0


cdef void fill_frame(Work* work) noexcept nogil:
    """Fills every slot of the frame; facts come last, so that nothing stored can stand in for them."""
    cdef const Tables* plan = work.plan
    cdef const Request* request = work.request
    cdef uint32_t i
    cdef Value* value
    memset(work.frame, 0, plan.slots * sizeof(Value))
    value = &work.frame[SLOT_NOW]
    value.state = PRESENT
    value.i = request.as_of_us
    work.frame[SLOT_CHANNEL] = request.channel_text
    value = &work.frame[SLOT_KNOWN]
    value.state = PRESENT
    value.i = work.customer.id != 0
    if work.customer.has_record:
        _read_attributes(work)
        _read_consents(work)
    _read_cases(work)
    if plan.aggregate_count:
        _aggregate(work)
    for i in range(request.fact_count):
        work.frame[request.facts[i].slot] = request.facts[i].value


cdef void _read_attributes(Work* work) noexcept nogil:
    cdef const Tables* plan = work.plan
    cdef const RecordView* record = &work.customer.record
    cdef uint32_t i
    cdef int code
    cdef const BoundAttribute* bound
    cdef Value* value
    for i in range(plan.attribute_count):
        bound = &plan.attributes[i]
        value = &work.frame[bound.slot]
        if bound.storage == STORED_BOOL:
            code = record_bool(record, bound.offset)
            value.i = code == 2
            value.state = PRESENT if code else MISSING
        elif bound.storage == STORED_ENUM:
            code = record_enum(record, bound.offset)
            if 0 < code < <int> bound.label_count:
                value.text = bound.labels[code].text
                value.length = bound.labels[code].length
                if bound.text_rows != NULL:
                    # The machine reads the text only; the index finds here what it would have to search for.
                    value.i = bound.text_rows[code]
                value.state = PRESENT
        elif bound.storage == STORED_STRING or bound.storage == STORED_SET:
            if record_text(record, bound.offset, <const uint8_t**> &value.text, &value.length):
                value.state = PRESENT
        elif bound.storage == STORED_DOUBLE:
            value.f = record_f64(record, bound.offset)
            value.state = MISSING if isnan(value.f) else PRESENT
        else:
            value.i = record_i64(record, bound.offset)
            if value.i != INT64_MIN:
                value.state = PRESENT
                if bound.storage == STORED_MONEY:
                    value.f = <double> value.i / bound.unit


cdef void _read_consents(Work* work) noexcept nogil:
    cdef const Tables* plan = work.plan
    cdef uint32_t i
    cdef int answer
    for i in range(plan.consent_count):
        answer = record_consented(&work.customer.record, plan.consents[i].purpose, work.request.channel)
        if answer:
            work.frame[plan.consents[i].slot].state = PRESENT
            work.frame[plan.consents[i].slot].i = answer == 2


cdef void _read_cases(Work* work) noexcept nogil:
    """Whether a case is open is never missing: nobody unknown has one."""
    cdef const Tables* plan = work.plan
    cdef uint32_t i, j, count = work.customer.record.case_count if work.customer.has_record else 0
    cdef CaseEntry entry
    cdef Value* value
    cdef int64_t now = work.request.as_of_us
    for i in range(plan.case_count):
        value = &work.frame[plan.cases[i].slot]
        value.state = PRESENT
        for j in range(count):
            record_case(&work.customer.record, j, &entry)
            if entry.kind == plan.cases[i].kind and entry.opened <= now and (
                entry.closed == INT64_MIN or now < entry.closed
            ):
                value.i = 1
                break


cdef enum:
    EVENTS_OF_A_MOMENT = 64  # core.limits.EVENTS_PER_REQUEST, asserted below

assert EVENTS_OF_A_MOMENT == limits.EVENTS_PER_REQUEST


# --- aggregates -----------------------------------------------------------------------------------------------

cdef struct Tally:
    int64_t count  # events counted, or values seen
    int64_t whole  # sum, least, greatest, last or first of a whole-number field
    double real  # likewise of a double field; for MEAN the sum
    const char* text  # last or first of a text field
    uint32_t length
    uint8_t failed  # a sum left 64 bits
    uint64_t* seen  # open-addressing table of value hashes, for DISTINCT; 0 stands for an empty place
    uint64_t seen_mask  # places - 1


cdef void _aggregate(Work* work) noexcept nogil:
    cdef const Tables* plan = work.plan
    cdef const EventList* stored = &work.customer.events
    cdef const EventList* moment = &work.request.events
    cdef size_t at = 0, extra = 0
    cdef uint32_t i
    cdef int64_t now = work.request.as_of_us
    cdef Tally* tallies = <Tally*> arena_take(&work.arena, plan.aggregate_count * sizeof(Tally))
    cdef EventHeader event, added
    cdef bint more, more_added
    cdef uint8_t[EVENTS_OF_A_MOMENT] known
    if tallies == NULL:
        work.out_of_memory = 1
        return
    memset(tallies, 0, plan.aggregate_count * sizeof(Tally))
    for i in range(plan.aggregate_count):
        if plan.aggregates[i].function == AGGREGATE_DISTINCT and not _open_table(
            work, &tallies[i], stored.count + moment.count
        ):
            return
    _mark_stored(stored, moment, known)
    i = 0
    more = event_read(stored, at, &event)
    more_added = event_read(moment, extra, &added)
    while more or more_added:
        # Two lists sorted by time are walked as one; a stored event comes before one of the moment with the same time.
        if more and (not more_added or event.at <= added.at):
            if event.at > now:
                more = False
                continue
            _tally(work, tallies, stored.entries + at, &event)
            at += event.size
            more = event_read(stored, at, &event)
        else:
            if added.at <= now and not known[i]:
                _tally(work, tallies, moment.entries + extra, &added)
            i += 1
            extra += added.size
            more_added = event_read(moment, extra, &added)
    for i in range(plan.aggregate_count):
        _conclude(&plan.aggregates[i], &tallies[i], &work.frame[plan.aggregates[i].slot])


cdef void _mark_stored(const EventList* stored, const EventList* moment, uint8_t* known) noexcept nogil:
    """Marks the events of the moment that the store holds under the same type and key, whenever it says they happened.

    One walk over the stored list, which may be long: a filter of 256 bits passes few events on to the comparison.
    """
    cdef uint64_t[4] filter
    cdef size_t at = 0, extra
    cdef EventHeader event, added
    cdef uint32_t i
    memset(known, 0, EVENTS_OF_A_MOMENT)
    if moment.count == 0 or stored.count == 0:
        return
    memset(filter, 0, sizeof(filter))
    extra = 0
    while event_read(moment, extra, &added):
        filter[(added.key >> 6) & 3] |= <uint64_t> 1 << (added.key & 63)
        extra += added.size
    while event_read(stored, at, &event):
        at += event.size
        if not filter[(event.key >> 6) & 3] >> (event.key & 63) & 1:
            continue
        extra = 0
        i = 0
        while event_read(moment, extra, &added):
            if event.key == added.key and event.type == added.type:
                known[i] = 1
            i += 1
            extra += added.size


cdef bint _open_table(Work* work, Tally* tally, uint32_t events) noexcept nogil:
    cdef uint64_t places = 8
    while places < 2 * <uint64_t> events:
        places <<= 1
    tally.seen = <uint64_t*> arena_take(&work.arena, places * sizeof(uint64_t))
    if tally.seen == NULL:
        work.out_of_memory = 1
        return False
    memset(tally.seen, 0, places * sizeof(uint64_t))
    tally.seen_mask = places - 1
    return True


cdef inline uint64_t _hash(const char* text, uint32_t length) noexcept nogil:
    """FNV-1a, finished by the mixer of SplitMix64."""
    cdef uint64_t h = <uint64_t> 14695981039346656037
    cdef uint32_t i
    for i in range(length):
        h = (h ^ <uint8_t> text[i]) * <uint64_t> 1099511628211
    return _mix(h)


cdef inline uint64_t _mix(uint64_t h) noexcept nogil:
    h = (h ^ (h >> 30)) * <uint64_t> 0xBF58476D1CE4E5B9
    h = (h ^ (h >> 27)) * <uint64_t> 0x94D049BB133111EB
    return h ^ (h >> 31)


cdef inline void _see(Tally* tally, uint64_t value) noexcept nogil:
    cdef uint64_t place
    if value == 0:
        value = 1
    place = value & tally.seen_mask
    while tally.seen[place]:
        if tally.seen[place] == value:
            return
        place = (place + 1) & tally.seen_mask
    tally.seen[place] = value
    tally.count += 1


cdef void _tally(Work* work, Tally* tallies, const uint8_t* entry, const EventHeader* event) noexcept nogil:
    cdef const Tables* plan = work.plan
    cdef uint32_t i
    cdef const BoundAggregate* bound
    for i in range(plan.aggregate_count):
        bound = &plan.aggregates[i]
        if bound.event != event.type:
            continue
        if bound.window_us and event.at <= work.request.as_of_us - bound.window_us:
            continue
        if bound.function == AGGREGATE_COUNT:
            tallies[i].count += 1
        elif bound.cell < 0:
            _tally_whole(&tallies[i], bound.function, event.at)
        elif bound.storage == STORED_STRING or bound.storage == STORED_ENUM:
            _tally_text(&tallies[i], bound, entry, event)
        elif bound.storage == STORED_DOUBLE:
            _tally_real(&tallies[i], bound, event_f64(entry, event, <uint32_t> bound.cell))
        else:
            _tally_cell(&tallies[i], bound, event_i64(entry, event, <uint32_t> bound.cell))


cdef inline void _tally_cell(Tally* tally, const BoundAggregate* bound, int64_t cell) noexcept nogil:
    if cell == INT64_MIN:
        return
    if bound.storage == STORED_BOOL:
        if cell == 0:
            return
        cell = cell == 2
    _tally_whole(tally, bound.function, cell)


cdef inline void _tally_whole(Tally* tally, uint8_t function, int64_t cell) noexcept nogil:
    if function == AGGREGATE_DISTINCT:
        _see(tally, _mix(<uint64_t> cell ^ <uint64_t> 0x9E3779B97F4A7C15))
        return
    if function == AGGREGATE_SUM or function == AGGREGATE_MEAN:
        if __builtin_add_overflow(tally.whole, cell, &tally.whole):
            tally.failed = 1
    elif tally.count == 0 or function == AGGREGATE_LAST:
        tally.whole = cell
    elif function == AGGREGATE_MIN:
        tally.whole = cell if cell < tally.whole else tally.whole
    elif function == AGGREGATE_MAX:
        tally.whole = cell if cell > tally.whole else tally.whole
    tally.count += 1


cdef inline void _tally_real(Tally* tally, const BoundAggregate* bound, double cell) noexcept nogil:
    cdef int64_t bits = 0
    if isnan(cell):
        return
    if bound.function == AGGREGATE_DISTINCT:
        # -0.0 and 0.0 are one value.
        if cell != 0.0:
            memcpy(&bits, &cell, 8)
        _see(tally, _mix(<uint64_t> bits ^ <uint64_t> 0x9E3779B97F4A7C15))
        return
    if bound.function == AGGREGATE_SUM or bound.function == AGGREGATE_MEAN:
        tally.real += cell
    elif tally.count == 0 or bound.function == AGGREGATE_LAST:
        tally.real = cell
    elif bound.function == AGGREGATE_MIN:
        tally.real = cell if cell < tally.real else tally.real
    elif bound.function == AGGREGATE_MAX:
        tally.real = cell if cell > tally.real else tally.real
    tally.count += 1


cdef inline void _tally_text(
    Tally* tally, const BoundAggregate* bound, const uint8_t* entry, const EventHeader* event
) noexcept nogil:
    cdef const char* text = NULL
    cdef uint32_t length = 0
    cdef int order
    if not event_text(entry, event, <uint32_t> bound.cell, <const uint8_t**> &text, &length):
        return
    if bound.function == AGGREGATE_DISTINCT:
        _see(tally, _hash(text, length))
        return
    if tally.count == 0 or bound.function == AGGREGATE_LAST:
        tally.text = text
        tally.length = length
    elif bound.function == AGGREGATE_MIN or bound.function == AGGREGATE_MAX:
        order = memcmp(text, tally.text, length if length < tally.length else tally.length)
        if order == 0:
            order = (length > tally.length) - (length < tally.length)
        if (order < 0) == (bound.function == AGGREGATE_MIN) and order != 0:
            tally.text = text
            tally.length = length
    tally.count += 1


cdef void _conclude(const BoundAggregate* bound, const Tally* tally, Value* value) noexcept nogil:
    """Counts and sums of nothing are 0; everything else of nothing is missing."""
    cdef bint is_double = bound.storage == STORED_DOUBLE and bound.cell >= 0
    if bound.function == AGGREGATE_COUNT or bound.function == AGGREGATE_DISTINCT:
        value.i = tally.count
        value.state = PRESENT
        return
    if bound.function == AGGREGATE_SUM:
        value.state = FAILED if tally.failed else PRESENT
        value.i = tally.whole
        value.f = tally.real
        if bound.storage == STORED_MONEY:
            value.f = <double> tally.whole / bound.unit
        elif is_double and not isfinite(tally.real):
            value.state = FAILED
        return
    if tally.count == 0:
        return
    value.state = PRESENT
    if bound.function == AGGREGATE_MEAN:
        if tally.failed or not isfinite(tally.real):
            value.state = FAILED
        elif is_double:
            value.f = tally.real / <double> tally.count
        else:
            value.f = <double> tally.whole / <double> tally.count
            if bound.storage == STORED_MONEY:
                value.f /= bound.unit
    elif bound.cell >= 0 and (bound.storage == STORED_STRING or bound.storage == STORED_ENUM):
        value.text = tally.text
        value.length = tally.length
    else:
        value.i = tally.whole
        value.f = tally.real
        if bound.storage == STORED_MONEY and bound.cell >= 0:
            value.f = <double> tally.whole / bound.unit
