"""A customer's events, version 1, oldest first (ARCHITECTURE.md).

`events_open` checks a stored list once; `event_at` walks it. An entry is a header of 24 bytes, one cell of 8 bytes for
each field in the catalog's order, and its texts. A list borrows the bytes under it. `EventBuilder` packs one entry,
`events_merge` adds packed entries to a list; neither needs the GIL.
"""

from libc.math cimport NAN
from libc.stdint cimport INT64_MIN, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from core.hub.buffer cimport Buffer
from core.hub.contacts cimport LIST_CHECKED_FROM, LIST_HEADER_BYTES, LIST_VERSION
from core.hub.record cimport FAULT_BOUNDS, FAULT_CHECKSUM, FAULT_MAGIC, FAULT_NONE, FAULT_SHORT, rapport_crc32c

cdef enum:
    EVENTS_MAGIC = 0x5045
    EVENT_HEADER_BYTES = 24

cdef packed struct EventHeader:
    uint32_t size  # bytes of the whole entry, a multiple of 8
    uint16_t type  # catalog number of the event type
    uint16_t field_count  # cells; a type that grew since has more fields than its old entries
    int64_t at  # microseconds; the sort key, then type and key
    uint64_t key  # SipHash of the idempotency key

cdef struct EventList:
    const uint8_t* entries  # first entry; borrowed
    size_t size  # bytes of all entries
    uint32_t count  # entries

cdef inline int events_open(const uint8_t* bytes, size_t size, EventList* events) noexcept nogil:
    """Check a stored list; FAULT_NONE or what is wrong. Entries' own sizes are checked while walking."""
    cdef uint16_t magic
    cdef uint32_t checksum
    events.entries = NULL
    events.size = 0
    events.count = 0
    if size < LIST_HEADER_BYTES:
        return FAULT_SHORT
    memcpy(&magic, bytes, 2)
    if magic != EVENTS_MAGIC or bytes[2] != LIST_VERSION:
        return FAULT_MAGIC
    memcpy(&checksum, bytes + 4, 4)
    if rapport_crc32c(bytes + LIST_CHECKED_FROM, size - LIST_CHECKED_FROM) != checksum:
        return FAULT_CHECKSUM
    memcpy(&events.count, bytes + 8, 4)
    # Memory for a merge is taken by this number, so it must not promise more than the bytes can hold.
    if <uint64_t>events.count * EVENT_HEADER_BYTES > size - LIST_HEADER_BYTES:
        return FAULT_BOUNDS
    events.entries = bytes + LIST_HEADER_BYTES
    events.size = size - LIST_HEADER_BYTES
    return FAULT_NONE


cdef inline bint event_read(const EventList* events, size_t position, EventHeader* header) noexcept nogil:
    """Copy the header of the entry at byte `position`, from 0; False at the end. The next is at position + size."""
    if position + EVENT_HEADER_BYTES > events.size:
        return False
    memcpy(header, events.entries + position, EVENT_HEADER_BYTES)
    return (
        header.size >= EVENT_HEADER_BYTES + <uint32_t>header.field_count * 8
        and header.size <= events.size - position
    )


cdef inline int64_t event_i64(const uint8_t* entry, const EventHeader* header, uint32_t field) noexcept nogil:
    """Int, money, timestamp or bool (1 false, 2 true; 0 missing) of field index `field`; INT64_MIN when missing.

    `entry` is where the header was read from. A bool that the entry is too old to have reads INT64_MIN as well.
    """
    cdef int64_t value = INT64_MIN
    if field < header.field_count:
        memcpy(&value, entry + EVENT_HEADER_BYTES + <size_t>field * 8, 8)
    return value


cdef inline double event_f64(const uint8_t* entry, const EventHeader* header, uint32_t field) noexcept nogil:
    """Double of field index `field`; NaN when missing."""
    cdef double value = NAN
    if field < header.field_count:
        memcpy(&value, entry + EVENT_HEADER_BYTES + <size_t>field * 8, 8)
    return value


cdef inline int event_text(
    const uint8_t* entry, const EventHeader* header, uint32_t field, const uint8_t** text, uint32_t* length
) noexcept nogil:
    """String or enum label of field index `field`; 1 present, 0 missing. The text is borrowed."""
    cdef uint32_t offset, size
    if field >= header.field_count:
        return 0
    memcpy(&offset, entry + EVENT_HEADER_BYTES + <size_t>field * 8, 4)
    memcpy(&size, entry + EVENT_HEADER_BYTES + <size_t>field * 8 + 4, 4)
    if offset == 0 or <uint64_t>offset + size > header.size:
        return 0
    text[0] = entry + offset
    length[0] = size
    return 1


cdef enum EventRefusal:
    EVENT_BUILT = 0
    EVENT_MEMORY = 1  # no memory
    EVENT_LONG = 2  # a text over limits.STRING_BYTES, or the entry over limits.EVENT_BYTES

cdef struct EventBuilder:
    Buffer entries  # packed entries, one behind another; the caller frees it
    size_t start  # of the entry being packed

# Begin an entry behind those in `entries`. Cells are to be set for every field: they hold nothing useful before.
cdef int event_begin(
    EventBuilder* builder, uint16_t type, int64_t at, uint64_t key, uint16_t field_count
) noexcept nogil
cdef void event_set_i64(EventBuilder* builder, uint32_t field, int64_t value) noexcept nogil
cdef void event_set_f64(EventBuilder* builder, uint32_t field, double value) noexcept nogil
cdef int event_set_text(EventBuilder* builder, uint32_t field, const uint8_t* text, size_t size) noexcept nogil
cdef void event_clear_text(EventBuilder* builder, uint32_t field) noexcept nogil
# Pad and size the entry. On a refusal the entry is taken back.
cdef int event_finish(EventBuilder* builder) noexcept nogil

cdef struct MergeScratch:
    Buffer places  # references to entries
    Buffer table  # hash table over added entries
    Buffer flags  # one byte an added entry: it counts

# Merge `count` packed entries at `added` (any order) into the stored list at `existing` (NULL: none), into `output`. An
# entry whose type and key are in the list, or earlier in `added`, is a duplicate. The oldest go when there are too many
# entries or bytes, also of those added. `applied[i]`, when not NULL, tells for each: a Merged of contacts.pxd.
# Returns 0, -1 without memory, or a Fault of the existing list. `scratch` is zeroed before its first use, kept between
# calls, and freed by events_scratch_free.
cdef int events_merge(
    const uint8_t* existing, size_t size, const uint8_t* added, size_t added_bytes, uint32_t count,
    uint8_t* applied, Buffer* output, MergeScratch* scratch
) noexcept nogil

cdef struct Keeping:
    # What retention says at one moment.
    const int64_t* since  # by event type's number: its events from this moment on are kept; INT64_MIN: all; borrowed
    uint32_t types  # entries of since; the events of a type beyond are all kept

# As `events_merge`; events, stored or added, that `keeping` (NULL: all are kept) does not keep go as well, and those added
# are MERGED_PAST. The result may be a list of no events.
cdef int events_merge_kept(
    const uint8_t* existing, size_t size, const uint8_t* added, size_t added_bytes, uint32_t count,
    uint8_t* applied, Buffer* output, MergeScratch* scratch, const Keeping* keeping
) noexcept nogil
cdef void events_scratch_free(MergeScratch* scratch) noexcept nogil


cdef class Packer:
    """Packs events and merges them, for Python."""

    cdef EventBuilder builder  # packed entries; freed with this object
    cdef MergeScratch scratch  # reused between merges
    cdef Buffer output  # the last merged list
    cdef Buffer flags  # which packed entries counted
    cdef uint32_t count  # packed entries

    # As `merge`, of a borrowed list, NULL where there is none. None for the new list where it is the old one.
    cdef tuple merged(self, const uint8_t* start, size_t size, str what, bytes since)
