"""Packs events, merges event lists, and shows them to Python.

A list may hold tens of thousands of events, and imports add thousands at once, so duplicates are found with a hash
table over what is added: the stored list is walked once, whatever is added to it. The list is rewritten as a whole,
sorted by time, then type, then key, so the order of arrival leaves no trace.
"""

from libc.stdlib cimport qsort
from libc.string cimport memcmp, memset

from core.hub.buffer cimport buffer_append, buffer_free, buffer_reserve
from core.hub.contacts cimport MERGED_COUNTED, MERGED_DUPLICATE, MERGED_PAST
from core.hub.record cimport damaged

from core import limits
from core.errors import EngineFault, TooLarge

cdef uint32_t EVENTS = limits.EVENTS_PER_CUSTOMER
cdef size_t EVENT_BYTES = limits.EVENT_BYTES
cdef size_t EVENT_LIST_BYTES = limits.EVENT_LIST_BYTES
cdef size_t STRING_BYTES = limits.STRING_BYTES

assert sizeof(EventHeader) == EVENT_HEADER_BYTES

cdef struct Place:
    const uint8_t* entry  # borrowed from the list or from what is added
    EventHeader header  # its header, copied
    uint32_t added  # 1 + its number among what is added; 0 of the list


cdef int event_begin(
    EventBuilder* builder, uint16_t type, int64_t at, uint64_t key, uint16_t field_count
) noexcept nogil:
    cdef EventHeader header
    builder.start = builder.entries.size
    header.size = 0
    header.type = type
    header.field_count = field_count
    header.at = at
    header.key = key
    if buffer_reserve(&builder.entries, EVENT_HEADER_BYTES + <size_t>field_count * 8):
        return EVENT_MEMORY
    buffer_append(&builder.entries, &header, EVENT_HEADER_BYTES)
    builder.entries.size += <size_t>field_count * 8
    return EVENT_BUILT


cdef inline uint8_t* event_cell(EventBuilder* builder, uint32_t field) noexcept nogil:
    return builder.entries.data + builder.start + EVENT_HEADER_BYTES + <size_t>field * 8


cdef void event_set_i64(EventBuilder* builder, uint32_t field, int64_t value) noexcept nogil:
    memcpy(event_cell(builder, field), &value, 8)


cdef void event_set_f64(EventBuilder* builder, uint32_t field, double value) noexcept nogil:
    if value != value:
        value = NAN
    memcpy(event_cell(builder, field), &value, 8)


cdef int event_set_text(EventBuilder* builder, uint32_t field, const uint8_t* text, size_t size) noexcept nogil:
    cdef uint32_t offset = <uint32_t>(builder.entries.size - builder.start)
    cdef uint32_t length = <uint32_t>size
    if size > STRING_BYTES:
        return EVENT_LONG
    if buffer_append(&builder.entries, text, size):
        return EVENT_MEMORY
    memcpy(event_cell(builder, field), &offset, 4)
    memcpy(event_cell(builder, field) + 4, &length, 4)
    return EVENT_BUILT


cdef void event_clear_text(EventBuilder* builder, uint32_t field) noexcept nogil:
    memset(event_cell(builder, field), 0, 8)


cdef int event_finish(EventBuilder* builder) noexcept nogil:
    cdef uint64_t zero = 0
    cdef size_t size = builder.entries.size - builder.start
    cdef size_t padding = (8 - size % 8) % 8
    cdef uint32_t size32 = <uint32_t>(size + padding)
    if size32 > EVENT_BYTES:
        builder.entries.size = builder.start
        return EVENT_LONG
    if buffer_append(&builder.entries, &zero, padding):
        builder.entries.size = builder.start
        return EVENT_MEMORY
    memcpy(builder.entries.data + builder.start, &size32, 4)
    return EVENT_BUILT


cdef int compare_places(const void* a, const void* b) noexcept nogil:
    cdef const Place* one = <const Place*>a
    cdef const Place* two = <const Place*>b
    if one.header.at != two.header.at:
        return 1 if one.header.at > two.header.at else -1
    if one.header.type != two.header.type:
        return 1 if one.header.type > two.header.type else -1
    if one.header.key != two.header.key:
        return 1 if one.header.key > two.header.key else -1
    return 0


cdef inline uint32_t* find(
    uint32_t* table, uint32_t mask, const Place* places, uint16_t type, uint64_t key
) noexcept nogil:
    """The table's cell for (type, key): it holds 1 + the place's index, or 0 where it would go."""
    cdef uint32_t at = <uint32_t>(key ^ (<uint64_t>type * 0x9E3779B97F4A7C15u >> 32)) & mask
    while table[at] and not (
        places[table[at] - 1].header.key == key and places[table[at] - 1].header.type == type
    ):
        at = (at + 1) & mask
    return &table[at]


cdef int events_merge(
    const uint8_t* existing, size_t size, const uint8_t* added, size_t added_bytes, uint32_t count,
    uint8_t* applied, Buffer* output, MergeScratch* scratch
) noexcept nogil:
    return events_merge_kept(existing, size, added, added_bytes, count, applied, output, scratch, NULL)


cdef inline bint past(const Keeping* keeping, const EventHeader* header) noexcept nogil:
    """Whether retention lets go of an event."""
    return keeping != NULL and header.type < keeping.types and header.at < keeping.since[header.type]


cdef int events_merge_kept(
    const uint8_t* existing, size_t size, const uint8_t* added, size_t added_bytes, uint32_t count,
    uint8_t* applied, Buffer* output, MergeScratch* scratch, const Keeping* keeping
) noexcept nogil:
    cdef EventList known, news
    cdef EventHeader header, last
    cdef Place* places
    cdef Place place
    cdef uint32_t* table
    cdef uint32_t* cell
    cdef uint8_t* fresh
    cdef uint32_t i, mask, kept, kept_known, total, checksum
    cdef uint32_t next_added, next_known
    cdef uint32_t slots = 8
    cdef uint16_t magic = EVENTS_MAGIC
    cdef size_t position, run, end
    cdef size_t bytes_left = 0
    cdef bint next_is_known, all_kept = True
    cdef int fault
    memset(&known, 0, sizeof(EventList))
    if existing != NULL:
        fault = events_open(existing, size, &known)
        if fault:
            return fault
    news.entries = added
    news.size = added_bytes
    news.count = count
    while slots < 2 * count:
        slots *= 2
    mask = slots - 1
    scratch.places.size = 0
    scratch.table.size = 0
    scratch.flags.size = 0
    if (
        buffer_reserve(&scratch.places, (<size_t>count + 1) * sizeof(Place))
        or buffer_reserve(&scratch.table, <size_t>slots * sizeof(uint32_t))
        or buffer_reserve(&scratch.flags, <size_t>count + 1)
    ):
        return -1
    places = <Place*>scratch.places.data
    table = <uint32_t*>scratch.table.data
    fresh = scratch.flags.data
    memset(table, 0, <size_t>slots * sizeof(uint32_t))
    position = 0
    for i in range(count):
        if not event_read(&news, position, &header):
            return FAULT_BOUNDS
        places[i].entry = added + position
        places[i].header = header
        places[i].added = i + 1
        position += header.size
        cell = find(table, mask, places, header.type, header.key)
        fresh[i] = 1 if cell[0] == 0 else 0
        if cell[0] == 0:
            cell[0] = i + 1
    position = 0
    kept_known = 0
    for _ in range(known.count):
        if not event_read(&known, position, &header):
            return FAULT_BOUNDS
        cell = find(table, mask, places, header.type, header.key)
        if cell[0]:
            fresh[cell[0] - 1] = 0
        if past(keeping, &header):
            all_kept = False
        else:
            kept_known += 1
            bytes_left += header.size
            last = header
        position += header.size
    end = position
    kept = 0
    for i in range(count):
        if applied != NULL:
            applied[i] = MERGED_COUNTED if fresh[i] else MERGED_DUPLICATE
        if fresh[i] and past(keeping, &places[i].header):
            if applied != NULL:
                applied[i] = MERGED_PAST
        elif fresh[i]:
            place = places[i]
            places[kept] = place
            kept += 1
            bytes_left += place.header.size
    for i in range(1, kept):
        if compare_places(&places[i - 1], &places[i]) > 0:
            qsort(places, kept, sizeof(Place), compare_places)
            break
    total = kept + kept_known
    output.size = 0
    if buffer_reserve(output, LIST_HEADER_BYTES + bytes_left):
        return -1
    memset(output.data, 0, LIST_HEADER_BYTES)
    output.size = LIST_HEADER_BYTES
    # The stored list is copied in runs: up to where something goes, or comes between.
    position = run = 0
    next_added = next_known = 0
    while next_added < kept or next_known < known.count:
        if all_kept and next_added == 0 and total <= EVENTS and bytes_left <= EVENT_LIST_BYTES and next_known < known.count:
            place.header = last
            if kept == 0 or compare_places(&place, &places[0]) <= 0:
                # Nothing of what is left of it goes, and all that comes is newer: mostly at once.
                position = end
                next_known = known.count
                continue
        next_is_known = False
        if next_known < known.count:
            event_read(&known, position, &place.header)
            if past(keeping, &place.header):
                buffer_append(output, known.entries + run, position - run)
                position += place.header.size
                run = position
                next_known += 1
                continue
            next_is_known = next_added == kept or compare_places(&place, &places[next_added]) <= 0
        if next_is_known:
            next_known += 1
            place.added = 0
        else:
            buffer_append(output, known.entries + run, position - run)
            run = position
            place = places[next_added]
            next_added += 1
        if total > EVENTS or bytes_left > EVENT_LIST_BYTES:
            total -= 1
            bytes_left -= place.header.size
            if next_is_known:
                # What goes is the oldest, so nothing waits to be copied before it.
                position += place.header.size
                run = position
            elif applied != NULL:
                applied[place.added - 1] = MERGED_PAST
        elif next_is_known:
            position += place.header.size
        else:
            buffer_append(output, place.entry, place.header.size)
    buffer_append(output, known.entries + run, position - run)
    memcpy(output.data, &magic, 2)
    output.data[2] = LIST_VERSION
    memcpy(output.data + 8, &total, 4)
    checksum = rapport_crc32c(output.data + LIST_CHECKED_FROM, output.size - LIST_CHECKED_FROM)
    memcpy(output.data + 4, &checksum, 4)
    return 0


cdef void events_scratch_free(MergeScratch* scratch) noexcept nogil:
    buffer_free(&scratch.places)
    buffer_free(&scratch.table)
    buffer_free(&scratch.flags)


def count(bytes data not None, str what="An event list"):
    """How many events a stored list says it holds; see the .pyi."""
    cdef EventList events
    cdef int fault = events_open(data, len(data), &events)
    if fault:
        raise damaged(fault, what)
    return events.count


cdef int open_kept(bytes data, bytes since, str what, EventList* events, Keeping* keeping) except -1:
    """A stored list, and what retention says of it; both read the bytes given, which the caller keeps."""
    cdef int fault = events_open(data, len(data), events)
    if fault:
        raise damaged(fault, what)
    keeping.since = <const int64_t*><const char*>since
    keeping.types = <uint32_t>(len(since) // 8)
    return 0


def has_past(bytes data not None, bytes since not None, str what="An event list"):
    """Whether a stored list holds an event that retention lets go of; see the .pyi."""
    cdef EventList events
    cdef EventHeader header
    cdef Keeping keeping
    cdef size_t position = 0
    open_kept(data, since, what, &events, &keeping)
    while event_read(&events, position, &header):
        if past(&keeping, &header):
            return True
        position += header.size
    return False


def count_past(bytes data not None, bytes since not None, list counts not None, str what="An event list"):
    """Add to `counts` the events of each type that retention lets go of; see the .pyi."""
    cdef EventList events
    cdef EventHeader header
    cdef Keeping keeping
    cdef size_t position = 0
    open_kept(data, since, what, &events, &keeping)
    while event_read(&events, position, &header):
        if past(&keeping, &header):
            counts[header.type] += 1
        position += header.size


def unpack(bytes data not None, fields, str what="An event list", newest=None):
    """The entries as (type, at, key hash, cells); see the .pyi."""
    cdef EventList events
    cdef EventHeader header
    cdef const uint8_t* start = data
    cdef const uint8_t* entry
    cdef const uint8_t* text
    cdef uint32_t length
    cdef size_t position = 0
    cdef uint32_t i, before = 0
    cdef int fault = events_open(start, len(data), &events)
    if fault:
        raise damaged(fault, what)
    if newest is not None and newest < events.count:
        # Only their headers are read.
        while before < events.count - <uint32_t>newest and event_read(&events, position, &header):
            position += header.size
            before += 1
    found = []
    while event_read(&events, position, &header):
        entry = events.entries + position
        kinds = fields(header.type)
        cells = []
        for i in range(header.field_count):
            kind = kinds[i] if i < len(kinds) else "i"
            if kind == "f":
                real = event_f64(entry, &header, i)
                cells.append(None if real != real else real)
            elif kind == "t":
                cells.append(text[:length].decode() if event_text(entry, &header, i, &text, &length) else None)
            elif kind == "b":
                small = event_i64(entry, &header, i)
                cells.append(small == 2 if small in (1, 2) else None)
            else:
                number = event_i64(entry, &header, i)
                cells.append(None if number == INT64_MIN else number)
        found.append((header.type, header.at, header.key, tuple(cells)))
        position += header.size
    if position != events.size or before + len(found) != events.count:
        raise damaged(FAULT_BOUNDS, what)
    return found


cdef class Packer:
    """Packs events and merges them, for Python: what `apply`, tools and tests use. Keeps its memory between uses."""

    def __cinit__(self):
        memset(&self.builder, 0, sizeof(EventBuilder))
        memset(&self.scratch, 0, sizeof(MergeScratch))
        memset(&self.output, 0, sizeof(Buffer))
        memset(&self.flags, 0, sizeof(Buffer))
        self.count = 0

    def __dealloc__(self):
        buffer_free(&self.builder.entries)
        buffer_free(&self.output)
        buffer_free(&self.flags)
        events_scratch_free(&self.scratch)

    def clear(self) -> None:
        """Forget what was packed."""
        self.builder.entries.size = 0
        self.count = 0

    def pack(self, uint16_t type, int64_t at, uint64_t key, cells) -> None:
        """Pack one event; `cells` are (kind, value) with kind i, b, f or t, in the catalog's order; None is missing."""
        cdef uint32_t i = 0
        cdef bytes text
        cdef int code = event_begin(&self.builder, type, at, key, <uint16_t>len(cells))
        for kind, value in cells:
            if code:
                break
            if kind == "f":
                event_set_f64(&self.builder, i, NAN if value is None else value)
            elif kind == "b":
                event_set_i64(&self.builder, i, 0 if value is None else 2 if value else 1)
            elif kind == "i":
                event_set_i64(&self.builder, i, INT64_MIN if value is None else value)
            elif value is None:
                event_clear_text(&self.builder, i)
            else:
                text = value.encode()
                code = event_set_text(&self.builder, i, text, len(text))
            i += 1
        if code == EVENT_BUILT:
            code = event_finish(&self.builder)
        else:
            self.builder.entries.size = self.builder.start
        if code == EVENT_MEMORY:
            raise MemoryError
        if code:
            raise TooLarge("event: bytes of it or of a text", EVENT_BYTES + 1, EVENT_BYTES)
        self.count += 1

    def merge(self, existing, str what="An event list", bytes since=None):
        """(the new list, what became of each packed event: a Merged) from `existing` (bytes or None) and what was packed."""
        cdef const uint8_t* start = NULL
        cdef size_t size = 0
        if existing is not None:
            if not isinstance(existing, bytes):
                raise EngineFault("an event list must be bytes")
            start = <const uint8_t*><const char*>existing
            size = len(existing)
        merged, became = self.merged(start, size, what, since)
        return existing if merged is None else merged, became

    cdef tuple merged(self, const uint8_t* start, size_t size, str what, bytes since):
        cdef Keeping keeping
        cdef int code
        self.flags.size = 0
        if buffer_reserve(&self.flags, self.count + 1):
            raise MemoryError
        if since is not None:
            keeping.since = <const int64_t*><const char*>since
            keeping.types = <uint32_t>(len(since) // 8)
        code = events_merge_kept(
            start, size, self.builder.entries.data, self.builder.entries.size, self.count, self.flags.data,
            &self.output, &self.scratch, &keeping if since is not None else NULL,
        )
        if code < 0:
            raise MemoryError
        if code:
            raise damaged(code, what)
        became = [self.flags.data[i] for i in range(self.count)]
        if self.output.size == size and memcmp(self.output.data, start, size) == 0:
            return None, became
        return self.output.data[:self.output.size], became

    def unite(self, bytes existing not None, bytes other not None, str what="An event list"):
        """The list of both lists' events, each (type, key) once."""
        cdef const uint8_t* one = existing
        cdef const uint8_t* two = other
        cdef EventList events
        cdef int code = events_open(two, len(other), &events)
        if not code:
            code = events_merge(
                one, len(existing), events.entries, events.size, events.count, NULL, &self.output, &self.scratch)
        if code < 0:
            raise MemoryError
        if code:
            raise damaged(code, what)
        return self.output.data[:self.output.size]
