"""Aggregates over the customer's events, which are exact for sliding windows and need no state of their own.

One walk finds the events: the stored list and the events of the moment, both sorted by time, are merged, and each
event whose type an aggregate names becomes a row of that type. Rows of a type that pass a filter are gathered once for all
aggregates with that filter. The plan has parted aggregates into columns (one field of one type under one filter) and sorted each
by window, longest first. All windows end at the decision's clock, so each begins at a
place that a binary search finds, and the places part a column's rows into segments. Every segment is read once: a window
is its own segment and all later ones, so the newest is folded first and the next joins what is known. A count or a time
needs its window's place alone.

Sums of doubles are the exception, since the order of additions is part of the result: they run from the oldest event on,
for all windows that have begun at once. Whole-number sums wrap until it is known that no partial sum of the window could
leave 64 bits; where it could, the window is added anew in order. Rows and the table of DISTINCT live in the arena.
"""

from libc.math cimport isfinite, isnan
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from core import limits

from core.hub.events cimport EventHeader, EventList, event_f64, event_i64, event_read, event_text
from core.kernel.arena cimport arena_take
from core.kernel.filters cimport passes
from core.kernel.plan cimport (
    AGGREGATE_COUNT,
    AGGREGATE_DISTINCT,
    AGGREGATE_FIRST,
    AGGREGATE_MAX,
    AGGREGATE_MEAN,
    AGGREGATE_MIN,
    AGGREGATE_SUM,
    AggregateColumn,
    BoundAggregate,
    STORED_BOOL,
    STORED_DOUBLE,
    STORED_ENUM,
    STORED_MONEY,
    STORED_STRING,
    Tables,
)
from core.kernel.values cimport FAILED, PRESENT, Value
from core.kernel.workspace cimport Work

cdef extern from *:
    bint __builtin_add_overflow(int64_t a, int64_t b, int64_t* sum) nogil
    int __builtin_popcountll(unsigned long long value) nogil

cdef enum:
    EVENTS_OF_A_MOMENT = 64  # core.limits.EVENTS_PER_REQUEST, asserted below
    EVENTS_MOST = 1 << 16  # of a decision: what is stored and what is sent

assert EVENTS_OF_A_MOMENT == limits.EVENTS_PER_REQUEST
assert EVENTS_MOST > limits.EVENTS_PER_CUSTOMER + limits.EVENTS_PER_REQUEST

# EVENTS_MOST values between its inverse and it have no sum, and no partial sum, outside 64 bits.
cdef int64_t SUM_SAFELY = <int64_t> 1 << 46

cdef struct Row:
    int64_t at  # the event's time
    const uint8_t* entry  # borrowed from the snapshot or the request

cdef struct Span:
    Row* rows  # events of one type, oldest first
    uint32_t count  # of them

cdef struct Gathering:
    # Of a span, while its rows are found.
    Row* next  # where the next row goes
    int64_t after  # events up to here lie in no window

cdef struct Whole:
    # What is known of the whole numbers of some rows.
    int64_t count  # values seen; the others mean nothing while it is 0
    uint64_t total  # sum, modulo 2 ** 64
    int64_t least
    int64_t greatest
    int64_t first
    int64_t last

cdef struct Real:
    # What is known of the doubles of some rows.
    int64_t count  # values seen; the others mean nothing while it is 0
    double least  # of equal ones (-0.0 and 0.0) the oldest
    double greatest
    double first
    double last

cdef struct Tally:
    int64_t count  # events counted, or values seen
    int64_t whole  # sum, least, greatest, last or first of a whole-number field
    double real  # likewise of a double field; for MEAN the sum
    const char* text  # last or first of a text field
    uint32_t length
    uint8_t failed  # a sum left 64 bits

cdef struct Table:
    uint64_t* hashes  # of the rows being looked at, room for all of a column
    uint64_t* seen  # open addressing, value hashes; 0 stands for an empty place
    uint64_t mask  # places - 1
    uint32_t shift  # 64 - the logarithm of places: a hash's upper bits are its place
    int64_t count  # different values


cdef void fill_aggregates(Work* work) noexcept nogil:
    """Fills the frame's slots of all aggregates; ``out_of_memory`` is set when there is no memory for the rows."""
    cdef const Tables* plan = work.plan
    cdef uint32_t most = work.customer.events.count + work.request.events.count
    cdef uint32_t i, types = plan.aggregate_event_count, filter = 0
    cdef int64_t reach
    cdef Row* rows
    cdef Row* passed = NULL
    cdef const Span* span
    cdef Span* spans
    cdef Gathering* gatherings
    cdef Span filtered
    cdef uint32_t* starts = <uint32_t*> arena_take(&work.arena, plan.aggregate_count * sizeof(uint32_t))
    cdef double* sums = <double*> arena_take(&work.arena, plan.aggregate_count * sizeof(double))
    cdef uint64_t* places = NULL
    cdef const AggregateColumn* column
    # One span more: of events that no aggregate names, none of which lies in a window. Each has room for a row more than it may
    # keep, since a row is written before it is known whether it counts.
    spans = <Span*> arena_take(&work.arena, (types + 1) * sizeof(Span))
    gatherings = <Gathering*> arena_take(&work.arena, (types + 1) * sizeof(Gathering))
    rows = <Row*> arena_take(&work.arena, (<size_t> types * (most + 1) + 1) * sizeof(Row))
    if spans == NULL or gatherings == NULL or starts == NULL or sums == NULL or rows == NULL:
        work.out_of_memory = 1
        return
    for i in range(types + 1):
        reach = plan.aggregate_reaches[i] if i < types else 0
        gatherings[i].next = spans[i].rows = rows + <size_t> i * (most + 1)
        gatherings[i].after = INT64_MIN if reach == INT64_MAX else work.request.as_of_us - reach if reach else INT64_MAX
    if most:
        _collect(work, gatherings, most)
    for i in range(types + 1):
        spans[i].count = <uint32_t> (gatherings[i].next - spans[i].rows)
    for i in range(plan.aggregate_column_count):
        column = &plan.aggregate_columns[i]
        span = &spans[column.event]
        if column.filter:
            if column.filter != filter:
                filter = column.filter
                # One room serves all filters in turn.
                if passed == NULL:
                    passed = <Row*> arena_take(&work.arena, (<size_t> most + 1) * sizeof(Row))
                    if passed == NULL:
                        work.out_of_memory = 1
                        return
                filtered.rows = passed
                _pass_rows(work, column, span, &filtered)
            span = &filtered
        if column.distinct and places == NULL and most:
            # One table serves all columns in turn; it is cleared as far as a column's rows need.
            places = <uint64_t*> arena_take(&work.arena, (_places(most) + most) * sizeof(uint64_t))
            if places == NULL:
                work.out_of_memory = 1
                return
        _find_starts(work, column, span, starts)
        _conclude_column(work, column, span, starts + column.first, sums, places)


cdef void _pass_rows(Work* work, const AggregateColumn* column, const Span* span, Span* passed) noexcept nogil:
    """Rows that pass the column's filter and lie in a window of one of the columns that share it."""
    cdef EventHeader event
    cdef uint32_t i, row = 0
    if column.reach_us != INT64_MAX:
        row = _after(span, work.request.as_of_us - column.reach_us)
    passed.count = 0
    for i in range(row, span.count):
        memcpy(&event, span.rows[i].entry, sizeof(event))
        if passes(column.terms, column.term_count, span.rows[i].entry, &event):
            passed.rows[passed.count] = span.rows[i]
            passed.count += 1


cdef inline void _add_row(
    const uint16_t* numbers, uint32_t types, Gathering* gatherings, const uint8_t* entry, uint16_t type, int64_t at
) noexcept nogil:
    """Adds an event to the rows of its type. Types come as they like, so what is added nowhere is no branch either."""
    cdef Gathering* gathering = &gatherings[numbers[type if type < types else types]]
    cdef Row* row = gathering.next
    row.at = at
    row.entry = entry
    gathering.next = row + (at > gathering.after)


cdef inline bint event_walk(
    const EventList* events, size_t position, uint32_t* size, uint16_t* type, int64_t* at
) noexcept nogil:
    """As `event_read`, without a copy of the header: where the next event begins is known a store and a load earlier."""
    cdef const uint8_t* entry = events.entries + position
    cdef uint16_t fields
    if position + sizeof(EventHeader) > events.size:
        return False
    memcpy(size, entry, 4)
    memcpy(type, entry + 4, 2)
    memcpy(&fields, entry + 6, 2)
    memcpy(at, entry + 8, 8)
    return size[0] >= sizeof(EventHeader) + <uint32_t> fields * 8 and size[0] <= events.size - position


cdef void _collect(Work* work, Gathering* gatherings, uint32_t most) noexcept nogil:
    """Adds stored events and those of the moment, oldest first; ``most`` at most, for a list that holds more entries than it
    says is not trusted beyond the memory taken for it."""
    cdef const EventList* moment = &work.request.events
    # Copied, for the compiler has to allow that a row's store changes them.
    cdef EventList stored = work.customer.events
    cdef const uint16_t* numbers = work.plan.aggregate_events
    cdef uint32_t types = work.plan.event_types
    cdef int64_t now = work.request.as_of_us
    cdef size_t at = 0, extra = 0
    cdef uint32_t i = 0, left = most
    cdef EventHeader event, added
    cdef uint32_t size = 0
    cdef uint16_t type = 0
    cdef int64_t when = 0
    cdef bint more, more_added
    cdef uint8_t[EVENTS_OF_A_MOMENT] known
    if moment.count == 0:
        while left and event_walk(&stored, at, &size, &type, &when) and when <= now:
            _add_row(numbers, types, gatherings, stored.entries + at, type, when)
            at += size
            left -= 1
        return
    _mark_stored(&stored, moment, known)
    memset(&event, 0, sizeof(event))
    memset(&added, 0, sizeof(added))
    more = event_read(&stored, at, &event)
    more_added = event_read(moment, extra, &added)
    while left and (more or more_added):
        left -= 1
        # A stored event comes before one of the moment with the same time.
        if more and (not more_added or event.at <= added.at):
            if event.at > now:
                more = False
                continue
            _add_row(numbers, types, gatherings, stored.entries + at, event.type, event.at)
            at += event.size
            more = event_read(&stored, at, &event)
        else:
            if added.at <= now and not known[i]:
                _add_row(numbers, types, gatherings, moment.entries + extra, added.type, added.at)
            i += 1
            extra += added.size
            more_added = event_read(moment, extra, &added)


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


cdef inline uint32_t _after(const Span* span, int64_t at) noexcept nogil:
    """The first row later than ``at``."""
    cdef const Row* row = span.rows
    cdef uint32_t left = span.count, half
    # Every comparison is as good as random: by as many steps as the count asks for, none of which branches.
    while left > 1:
        half = left // 2
        row += half * <uint32_t> (row[half - 1].at <= at)
        left -= half
    return <uint32_t> (row - span.rows) + <uint32_t> (left != 0 and row.at <= at)


cdef void _find_starts(
    const Work* work, const AggregateColumn* column, const Span* span, uint32_t* starts
) noexcept nogil:
    """Where the column's windows begin among its rows; ``starts`` is of all aggregates."""
    cdef const BoundAggregate* bound
    cdef uint32_t i
    for i in range(column.first, column.first + column.count):
        bound = &work.plan.aggregates[i]
        if bound.alike != i:
            starts[i] = starts[bound.alike]
        elif bound.window_us:
            starts[i] = _after(span, work.request.as_of_us - bound.window_us)
        else:
            starts[i] = 0


cdef void _conclude_column(
    Work* work, const AggregateColumn* column, const Span* span, const uint32_t* starts, double* sums, uint64_t* places
) noexcept nogil:
    """Concludes all aggregates of one column, the shortest window first."""
    cdef const BoundAggregate* bounds = column.bounds
    cdef const BoundAggregate* bound
    cdef uint32_t i, left, end = span.count, summed = 0
    cdef bint is_text = column.storage == STORED_STRING or column.storage == STORED_ENUM
    cdef bint is_double = column.storage == STORED_DOUBLE
    cdef Whole whole
    cdef Real real
    cdef Tally tally
    cdef Table table
    # The compiler cannot see that what a count of 0 leaves open is never read.
    memset(&whole, 0, sizeof(whole))
    memset(&real, 0, sizeof(real))
    memset(&table, 0, sizeof(table))
    if column.distinct and starts[0] < span.count:
        table.mask = _places(span.count - starts[0]) - 1
        table.shift = 64 - __builtin_popcountll(table.mask)
        table.seen = places
        table.hashes = places + table.mask + 1
        memset(places, 0, (table.mask + 1) * sizeof(uint64_t))
    if is_double:
        summed = _sum_reals(column, span, starts, sums)
    for left in range(column.count, 0, -1):
        i = left - 1
        bound = &bounds[i]
        memset(&tally, 0, sizeof(tally))
        if column.cell < 0:
            tally.count = span.count - starts[i]
            if tally.count:
                if bound.function == AGGREGATE_MIN or bound.function == AGGREGATE_FIRST:
                    tally.whole = span.rows[starts[i]].at
                else:
                    tally.whole = span.rows[span.count - 1].at
            _conclude(bound, &tally, &work.frame[bound.slot])
            continue
        if starts[i] < end:
            if column.distinct:
                _see_rows(span, starts[i], end, column, &table)
            if column.folded and not is_text:
                if is_double:
                    _fold_reals(span.rows, starts[i], end, <uint32_t> column.cell, &real)
                else:
                    _fold_wholes(span.rows, starts[i], end, <uint32_t> column.cell, column.storage == STORED_BOOL, &whole)
            end = starts[i]
        if bound.function == AGGREGATE_DISTINCT:
            tally.count = table.count
        elif is_text:
            _find_text(span, starts[i], bound, &tally)
        elif is_double:
            tally.count = real.count
            if bound.function == AGGREGATE_SUM or bound.function == AGGREGATE_MEAN:
                summed -= 1
                tally.real = sums[summed]
            elif real.count:
                tally.real = (
                    real.least if bound.function == AGGREGATE_MIN else real.greatest if bound.function == AGGREGATE_MAX
                    else real.first if bound.function == AGGREGATE_FIRST else real.last
                )
        else:
            tally.count = whole.count
            if whole.count == 0:
                pass
            elif bound.function == AGGREGATE_SUM or bound.function == AGGREGATE_MEAN:
                tally.whole = <int64_t> whole.total
                if whole.least < -SUM_SAFELY or whole.greatest > SUM_SAFELY:
                    _sum_carefully(span, starts[i], column, &tally)
            else:
                tally.whole = (
                    whole.least if bound.function == AGGREGATE_MIN else whole.greatest if bound.function == AGGREGATE_MAX
                    else whole.first if bound.function == AGGREGATE_FIRST else whole.last
                )
        _conclude(bound, &tally, &work.frame[bound.slot])


cdef inline int64_t _whole(const uint8_t* entry, uint32_t cell, bint is_bool) noexcept nogil:
    """A whole-number field; INT64_MIN when missing."""
    cdef EventHeader event
    cdef int64_t value
    memcpy(&event, entry, sizeof(event))
    value = event_i64(entry, &event, cell)
    if is_bool:
        return INT64_MIN if value == 0 or value == INT64_MIN else value == 2
    return value


cdef inline double _real(const uint8_t* entry, uint32_t cell) noexcept nogil:
    """A double field; NaN when missing."""
    cdef EventHeader event
    memcpy(&event, entry, sizeof(event))
    return event_f64(entry, &event, cell)


cdef void _fold_wholes(
    const Row* rows, uint32_t first, uint32_t end, uint32_t cell, bint is_bool, Whole* known
) noexcept nogil:
    """Joins the rows from ``first`` to ``end`` with what is known of all later ones."""
    cdef int64_t value, count = 0, least = 0, greatest = 0, oldest = 0, newest = 0
    cdef uint64_t total = 0
    cdef uint32_t i
    for i in range(first, end):
        value = _whole(rows[i].entry, cell, is_bool)
        if value == INT64_MIN:
            continue
        if count == 0:
            least = greatest = oldest = value
        count += 1
        total += <uint64_t> value
        least = value if value < least else least
        greatest = value if value > greatest else greatest
        newest = value
    if count == 0:
        return
    if known.count == 0:
        known.total = 0
        known.least = least
        known.greatest = greatest
        known.last = newest
    known.count += count
    known.total += total
    known.least = least if least < known.least else known.least
    known.greatest = greatest if greatest > known.greatest else known.greatest
    known.first = oldest


cdef void _fold_reals(const Row* rows, uint32_t first, uint32_t end, uint32_t cell, Real* known) noexcept nogil:
    """Likewise for doubles, but for sums."""
    cdef double value, least = 0.0, greatest = 0.0, oldest = 0.0, newest = 0.0
    cdef int64_t count = 0
    cdef uint32_t i
    for i in range(first, end):
        value = _real(rows[i].entry, cell)
        if isnan(value):
            continue
        if count == 0:
            least = greatest = oldest = value
        count += 1
        least = value if value < least else least
        greatest = value if value > greatest else greatest
        newest = value
    if count == 0:
        return
    if known.count == 0:
        known.least = least
        known.greatest = greatest
        known.last = newest
    known.count += count
    known.least = known.least if known.least < least else least
    known.greatest = known.greatest if known.greatest > greatest else greatest
    known.first = oldest


cdef uint32_t _sum_reals(
    const AggregateColumn* column, const Span* span, const uint32_t* starts, double* sums
) noexcept nogil:
    """The sum of each window of a SUM or MEAN, in the column's order; how many there are."""
    cdef const BoundAggregate* bounds = column.bounds
    cdef uint32_t i, j, k, end, begun = 0
    cdef double value
    for i in range(column.count):
        if bounds[i].function == AGGREGATE_SUM or bounds[i].function == AGGREGATE_MEAN:
            sums[begun] = 0.0
            begun += 1
        if begun == 0:
            continue
        end = starts[i + 1] if i + 1 < column.count else span.count
        for j in range(starts[i], end):
            value = _real(span.rows[j].entry, <uint32_t> column.cell)
            if isnan(value):
                continue
            for k in range(begun):
                sums[k] += value
    return begun


cdef void _sum_carefully(const Span* span, uint32_t first, const AggregateColumn* column, Tally* tally) noexcept nogil:
    cdef uint32_t i
    cdef int64_t value
    tally.whole = 0
    for i in range(first, span.count):
        value = _whole(span.rows[i].entry, <uint32_t> column.cell, column.storage == STORED_BOOL)
        if value != INT64_MIN and __builtin_add_overflow(tally.whole, value, &tally.whole):
            tally.failed = 1


cdef void _find_text(const Span* span, uint32_t first, const BoundAggregate* bound, Tally* tally) noexcept nogil:
    """The text of the first or the last row of the window that has one; other functions take no text."""
    cdef uint32_t i, row
    cdef EventHeader event
    cdef const uint8_t* text = NULL
    for i in range(first, span.count):
        row = i if bound.function == AGGREGATE_FIRST else span.count - 1 - (i - first)
        memcpy(&event, span.rows[row].entry, sizeof(event))
        if event_text(span.rows[row].entry, &event, <uint32_t> bound.cell, &text, &tally.length):
            tally.text = <const char*> text
            tally.count = 1
            return


cdef inline uint64_t _places(uint32_t values) noexcept nogil:
    """Places of a table that is at most a quarter full, so that few values meet."""
    cdef uint64_t places = 8
    while places < 4 * <uint64_t> values:
        places <<= 1
    return places


cdef inline uint64_t _spread(uint64_t h) noexcept nogil:
    """A product whose upper bits depend on all of ``h``; the factor is odd, so that it can be undone."""
    return h * <uint64_t> 0xD1342543DE82EF95


cdef inline uint64_t _hash(const uint8_t* text, uint32_t length) noexcept nogil:
    """A hash of 8 bytes at a time, to be told by its upper bits. Each step can be undone, so short texts of one length never
    meet.

    ``text`` lies in an event, behind a header of more than 8 bytes: what is left over is read as the end of a whole word, for
    lengths are as good as random, and a branch on each of their bits costs more than all else here.
    """
    cdef uint64_t h = length * <uint64_t> 0x9E3779B97F4A7C15
    cdef uint64_t word
    cdef const uint8_t* end = text + length
    while length >= 8:
        memcpy(&word, text, 8)
        h = _spread(h ^ word)
        h ^= h >> 32
        text += 8
        length -= 8
    memcpy(&word, end - 8, 8)
    word = word >> 1 >> (63 - 8 * length)
    return _spread(h ^ word)


cdef uint32_t _hash_rows(
    const Span* span, uint32_t first, uint32_t end, const AggregateColumn* column, uint64_t* hashes
) noexcept nogil:
    """The hashes of a column's values in these rows; how many rows have one."""
    cdef uint32_t i, length = 0, count = 0
    cdef uint32_t cell = <uint32_t> column.cell
    cdef EventHeader event
    cdef const uint8_t* text = NULL
    cdef double real
    cdef int64_t bits
    if column.storage == STORED_STRING or column.storage == STORED_ENUM:
        for i in range(first, end):
            memcpy(&event, span.rows[i].entry, sizeof(event))
            if event_text(span.rows[i].entry, &event, cell, &text, &length):
                hashes[count] = _hash(text, length)
                count += 1
        return count
    for i in range(first, end):
        if column.storage == STORED_DOUBLE:
            real = _real(span.rows[i].entry, cell)
            if isnan(real):
                continue
            bits = 0
            # -0.0 and 0.0 are one value.
            if real != 0.0:
                memcpy(&bits, &real, 8)
        else:
            bits = _whole(span.rows[i].entry, cell, column.storage == STORED_BOOL)
            if bits == INT64_MIN:
                continue
        hashes[count] = _spread(<uint64_t> bits ^ <uint64_t> 0x9E3779B97F4A7C15)
        count += 1
    return count


cdef void _see_rows(
    const Span* span, uint32_t first, uint32_t end, const AggregateColumn* column, Table* table
) noexcept nogil:
    cdef uint32_t i, rows = _hash_rows(span, first, end, column, table.hashes)
    # Copied, for the compiler has to allow that a store among the places changes what leads to them.
    cdef const uint64_t* hashes = table.hashes
    cdef uint64_t* places = table.seen
    cdef uint64_t mask = table.mask, place, seen, value
    cdef uint32_t shift = table.shift
    cdef int64_t count = table.count
    for i in range(rows):
        value = hashes[i] + (hashes[i] == 0)
        place = value >> shift
        seen = places[place]
        # New or known is as good as random, so both end the search by one branch, and the processor need not guess which it is.
        while (seen != 0) & (seen != value):
            place = (place + 1) & mask
            seen = places[place]
        places[place] = value
        count += seen == 0
    table.count = count


cdef inline void _conclude(const BoundAggregate* bound, const Tally* tally, Value* value) noexcept nogil:
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
