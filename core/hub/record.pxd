"""A customer's record, version 1: how it lies in the store, how it is read, how it is built (ARCHITECTURE.md).

Reading: `record_open` checks magic, version, checksum and every section's bounds once and fills a `RecordView`; the
`record_*` readers then follow offsets given by the catalog. A view borrows: it is valid while the bytes under it are,
which for bytes from LMDB means until the snapshot is reset or, inside a write transaction, until the next write.

Building: a `RecordBuilder` is begun empty or from an existing record, changed slot by slot, and finished into its own
buffer. Nothing of it needs the GIL. Finishing writes a canonical form (texts in slot order without gaps, trailing
missing attributes left out, identifiers in order of arrival, consents and cases sorted), so that equal contents are
equal bytes and importing a file twice changes nothing.
"""

from libc.math cimport NAN
from libc.stdint cimport INT64_MIN, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from core.hub.buffer cimport Buffer

cdef extern from "core/hub/native/checksum.h" nogil:
    uint32_t rapport_crc32c(const uint8_t* bytes, size_t size) noexcept
    uint32_t rapport_crc32c_table(const uint8_t* bytes, size_t size) noexcept

cdef extern from "core/hub/native/siphash.h" nogil:
    uint64_t rapport_siphash(const uint8_t* bytes, size_t size) noexcept
    uint64_t rapport_siphash_keyed(const uint8_t* bytes, size_t size, uint64_t k0, uint64_t k1) noexcept

cdef enum:
    RECORD_MAGIC = 0x5052
    RECORD_VERSION = 1
    RECORD_HEADER_BYTES = 40
    RECORD_CHECKED_FROM = 8  # the checksum covers everything from here
    CONSENT_BYTES = 16
    CASE_BYTES = 32
    TEXT_MISSING = 0xFFFF  # heap offset of a text that is not there

# Types of values, as `core.schema.ValueType`, in its order.
cdef enum ValueKind:
    VALUE_BOOL = 1
    VALUE_INT = 2
    VALUE_DOUBLE = 3
    VALUE_MONEY = 4
    VALUE_TIMESTAMP = 5
    VALUE_ENUM = 6
    VALUE_STRING = 7
    VALUE_SET = 8

# What is wrong with bytes that should be a record or a list.
cdef enum Fault:
    FAULT_NONE = 0
    FAULT_SHORT = 1  # fewer bytes than its header, or than the header promises
    FAULT_MAGIC = 2  # something else, or version unknown
    FAULT_CHECKSUM = 3  # bytes changed since they were written
    FAULT_BOUNDS = 4  # a length inside points outside

# Why a builder refused; nothing was changed by the refused call.
cdef enum Refusal:
    BUILT = 0
    REFUSED_MEMORY = 1  # no memory
    REFUSED_SLOT = 2  # the layout has no text slot at that offset
    REFUSED_LONG = 3  # a text or set over its limit
    REFUSED_IDENTIFIERS = 4  # more identifiers than a customer may hold
    REFUSED_CASES = 5  # more open cases than a customer may have
    REFUSED_SIZE = 6  # the record would be larger than limits.RECORD_BYTES, or its heap than 16 bit address
    REFUSED_SINGLE = 8  # a second identifier of a namespace of which a person has one; told by who adds it
    REFUSED_DAMAGED = 7  # the record to begin from fails its checks

cdef struct RecordView:
    uint64_t customer  # customer id
    int64_t updated  # microseconds since 1970-01-01T00:00:00Z
    const uint8_t* fixed  # attributes at the catalog's offsets; borrowed
    const uint8_t* heap  # texts; borrowed
    const uint8_t* identifiers  # first identifier; borrowed
    const uint8_t* consents  # first consent entry; borrowed
    const uint8_t* cases  # first case entry; borrowed
    uint32_t fixed_bytes  # bytes at fixed
    uint32_t heap_bytes  # bytes at heap
    uint32_t identifier_bytes  # bytes at identifiers
    uint16_t identifier_count  # identifiers
    uint16_t consent_count  # consent entries
    uint16_t case_count  # case entries

cdef packed struct ConsentEntry:
    uint16_t purpose  # catalog number
    uint16_t channel  # catalog number; 0 is any channel
    uint8_t granted  # 0 no, 1 yes
    uint8_t zero  # 0
    uint16_t source  # catalog number; 0 unknown
    int64_t at  # microseconds

cdef packed struct CaseEntry:
    uint16_t kind  # catalog number
    uint16_t product_high  # of `product_hash`, the upper 16 of its 48 bits; 0 with product_low 0: about no product
    uint32_t product_low  # of `product_hash`, the lower 32 bits
    uint64_t key  # SipHash of the case's key
    int64_t opened  # microseconds
    int64_t closed  # microseconds; INT64_MIN while open

cdef struct TextSlot:
    uint32_t offset  # of the slot in the fixed area
    uint32_t is_set  # 1 for a set, 0 for a string

cdef struct Slot:
    uint32_t offset  # in the fixed area
    uint32_t width  # bytes: 1, 2, 4 or 8

cdef struct Layout:
    const uint8_t* blank  # the fixed area of a customer of whom nothing is known; owned by RecordLayout
    const Slot* slots  # every attribute by ascending offset; owned by RecordLayout
    const TextSlot* texts  # strings and sets by ascending offset; owned by RecordLayout
    uint32_t fixed_bytes  # bytes at blank
    uint32_t slot_count  # attributes
    uint32_t text_count  # strings and sets

cdef struct TextSpan:
    uint32_t offset  # in the builder's scratch
    uint32_t length  # bytes; TEXT_ABSENT when missing

cdef enum:
    TEXT_ABSENT = 0xFFFFFFFF

cdef struct RecordBuilder:
    const Layout* layout  # borrowed from a RecordLayout that outlives the builder's use
    uint64_t customer  # customer id
    int64_t updated  # microseconds
    Buffer fixed  # fixed area, as wide as the layout (or as the record begun from, if wider)
    Buffer scratch  # texts in order of setting, old ones first; spans point into it
    Buffer spans  # one TextSpan for each text slot of the layout
    Buffer identifiers  # identifier section as stored
    Buffer consents  # ConsentEntry array
    Buffer cases  # CaseEntry array
    Buffer output  # the finished record
    uint32_t identifier_count  # identifiers in the section

cdef inline int record_open(const uint8_t* bytes, size_t size, RecordView* view) noexcept nogil:
    """Check a record and fill `view`; FAULT_NONE or what is wrong. The view borrows `bytes`."""
    cdef uint16_t magic, length
    cdef uint32_t checksum, at
    cdef uint64_t total
    if size < RECORD_HEADER_BYTES:
        return FAULT_SHORT
    memcpy(&magic, bytes, 2)
    if magic != RECORD_MAGIC or bytes[2] != RECORD_VERSION:
        return FAULT_MAGIC
    memcpy(&checksum, bytes + 4, 4)
    if rapport_crc32c(bytes + RECORD_CHECKED_FROM, size - RECORD_CHECKED_FROM) != checksum:
        return FAULT_CHECKSUM
    memcpy(&view.customer, bytes + 8, 8)
    memcpy(&view.updated, bytes + 16, 8)
    memcpy(&view.fixed_bytes, bytes + 24, 4)
    memcpy(&view.heap_bytes, bytes + 28, 4)
    memcpy(&view.identifier_count, bytes + 32, 2)
    memcpy(&view.consent_count, bytes + 34, 2)
    memcpy(&view.case_count, bytes + 36, 2)
    total = <uint64_t>RECORD_HEADER_BYTES + view.fixed_bytes + view.heap_bytes
    if total > size:
        return FAULT_BOUNDS
    view.fixed = bytes + RECORD_HEADER_BYTES
    view.heap = view.fixed + view.fixed_bytes
    view.identifiers = view.heap + view.heap_bytes
    at = 0
    for _ in range(view.identifier_count):
        if total + at + 4 > size:
            return FAULT_BOUNDS
        memcpy(&length, view.identifiers + at + 2, 2)
        at += 4 + <uint32_t>length
        if total + at > size:
            return FAULT_BOUNDS
    view.identifier_bytes = at
    total += at
    view.consents = view.identifiers + at
    view.cases = view.consents + <size_t>view.consent_count * CONSENT_BYTES
    total += <uint64_t>view.consent_count * CONSENT_BYTES + <uint64_t>view.case_count * CASE_BYTES
    return FAULT_NONE if total == size else FAULT_BOUNDS


cdef inline bint identifiers_exclude(
    const uint8_t* at, uint32_t count, uint16_t namespace, const char* value, size_t size
) noexcept nogil:
    """Whether `count` identifiers as stored hold one of a single namespace, but not this one: it is another person's."""
    cdef uint16_t number, length
    cdef bint another = False
    for _ in range(count):
        memcpy(&number, at, 2)
        memcpy(&length, at + 2, 2)
        if number == namespace:
            if length == size and memcmp(at + 4, value, size) == 0:
                return False
            another = True
        at += 4 + <size_t>length
    return another


cdef inline bint record_names(const RecordView* view, uint16_t namespace, const char* value, size_t size) noexcept nogil:
    """Whether a normalised identifier is one of the record's."""
    cdef const uint8_t* at = view.identifiers
    cdef uint16_t number, length
    for _ in range(view.identifier_count):
        memcpy(&number, at, 2)
        memcpy(&length, at + 2, 2)
        if number == namespace and length == size and memcmp(at + 4, value, size) == 0:
            return True
        at += 4 + <size_t>length
    return False


cdef inline int record_bool(const RecordView* view, uint32_t offset) noexcept nogil:
    """0 missing, 1 false, 2 true."""
    return view.fixed[offset] if offset < view.fixed_bytes else 0


cdef inline int record_enum(const RecordView* view, uint32_t offset) noexcept nogil:
    """The label's code, from 1; 0 when missing."""
    cdef uint16_t code = 0
    if <uint64_t>offset + 2 <= view.fixed_bytes:
        memcpy(&code, view.fixed + offset, 2)
    return code


cdef inline int64_t record_i64(const RecordView* view, uint32_t offset) noexcept nogil:
    """Int, money (minor units) or timestamp (microseconds); INT64_MIN when missing."""
    cdef int64_t value = INT64_MIN
    if <uint64_t>offset + 8 <= view.fixed_bytes:
        memcpy(&value, view.fixed + offset, 8)
    return value


cdef inline double record_f64(const RecordView* view, uint32_t offset) noexcept nogil:
    """Double; NaN when missing."""
    cdef double value = NAN
    if <uint64_t>offset + 8 <= view.fixed_bytes:
        memcpy(&value, view.fixed + offset, 8)
    return value


cdef inline int record_text(
    const RecordView* view, uint32_t offset, const uint8_t** text, uint32_t* length
) noexcept nogil:
    """String (UTF-8, not terminated) or set (heap encoding); 1 present, 0 missing. The text is borrowed."""
    cdef uint16_t at, size
    if <uint64_t>offset + 4 > view.fixed_bytes:
        return 0
    memcpy(&at, view.fixed + offset, 2)
    memcpy(&size, view.fixed + offset + 2, 2)
    if at == TEXT_MISSING or <uint32_t>at + size > view.heap_bytes:
        return 0
    text[0] = view.heap + at
    length[0] = size
    return 1


cdef inline void record_consent(const RecordView* view, uint32_t index, ConsentEntry* entry) noexcept nogil:
    """Copy consent `index`, which must be below consent_count."""
    memcpy(entry, view.consents + <size_t>index * CONSENT_BYTES, CONSENT_BYTES)


cdef inline void record_case(const RecordView* view, uint32_t index, CaseEntry* entry) noexcept nogil:
    """Copy case `index`, which must be below case_count."""
    memcpy(entry, view.cases + <size_t>index * CASE_BYTES, CASE_BYTES)


cdef inline int record_consented(const RecordView* view, uint16_t purpose, uint16_t channel) noexcept nogil:
    """0 never asked, 1 refused, 2 granted. Of the channel's own entry and the one for every channel the newer decides: a
    withdrawal in every channel takes back what a channel was granted before, and a later grant counts again. Of two of one
    moment the refusal does."""
    cdef ConsentEntry entry
    cdef int64_t newest = 0
    cdef uint32_t i
    cdef int found = 0
    for i in range(view.consent_count):
        record_consent(view, i, &entry)
        if entry.purpose != purpose or (entry.channel != channel and entry.channel != 0):
            continue
        if found == 0 or entry.at > newest or (entry.at == newest and not entry.granted):
            found = 2 if entry.granted else 1
            newest = entry.at
    return found


cdef inline bint case_is_open(const CaseEntry* entry, int64_t now) noexcept nogil:
    """Whether the case is open at a moment, microseconds."""
    return entry.opened <= now and (entry.closed == INT64_MIN or now < entry.closed)


cdef inline uint64_t case_product(const CaseEntry* entry) noexcept nogil:
    """`product_hash` of the product it is about; 0 when it is about none."""
    return <uint64_t>entry.product_high << 32 | entry.product_low


# Builder. Begin, change, finish, and begin again with the same builder; free once at the end. All calls return
# BUILT or a Refusal.

cdef int builder_begin(
    RecordBuilder* builder, const Layout* layout, uint64_t customer, const uint8_t* existing, size_t size
) noexcept nogil  # existing NULL: a new customer; else the record's bytes, copied, not needed afterwards
cdef void builder_free(RecordBuilder* builder) noexcept nogil

# Values by the slot's offset, which must be one of the layout's, with the type the catalog gives it.
cdef void builder_set_bool(RecordBuilder* builder, uint32_t offset, int value) noexcept nogil  # 0 missing, 1, 2
cdef void builder_set_enum(RecordBuilder* builder, uint32_t offset, uint16_t code) noexcept nogil  # 0 missing
cdef void builder_set_i64(RecordBuilder* builder, uint32_t offset, int64_t value) noexcept nogil
cdef void builder_set_f64(RecordBuilder* builder, uint32_t offset, double value) noexcept nogil  # any NaN: missing
cdef int builder_set_text(RecordBuilder* builder, uint32_t offset, const uint8_t* text, size_t size) noexcept nogil
cdef int builder_clear_text(RecordBuilder* builder, uint32_t offset) noexcept nogil
# A set from `count` members; they are sorted by bytes and made unique. The arrays are scratch: reordered.
cdef int builder_set_members(
    RecordBuilder* builder, uint32_t offset, const uint8_t** members, uint32_t* lengths, uint32_t count
) noexcept nogil
cdef void builder_touch(RecordBuilder* builder, int64_t at) noexcept nogil  # updated becomes the later of both
# `value` is normalised already; one that is there is left alone.
cdef int builder_add_identifier(
    RecordBuilder* builder, uint16_t namespace, const uint8_t* value, size_t size
) noexcept nogil
# Newest wins; of two at the same microsecond the refusal does, so that their order of arrival does not matter.
cdef int builder_set_consent(
    RecordBuilder* builder, uint16_t purpose, uint16_t channel, bint granted, uint16_t source, int64_t at
) noexcept nogil
# Opens a case unless one with this kind and key is known; closes it (closed INT64_MIN leaves it open). The earliest opening
# and the earliest close stand. `product` is its `product_hash`; 0 leaves what is known of that.
cdef int builder_add_case(
    RecordBuilder* builder, uint16_t kind, uint64_t key, int64_t opened, int64_t closed, uint64_t product
) noexcept nogil
# Says what a case is about, if there is such a case.
cdef void builder_set_case_product(RecordBuilder* builder, uint16_t kind, uint64_t key, uint64_t product) noexcept nogil
# Takes what the other record knows and this one does not: attributes, identifiers, newer consents, cases.
cdef int builder_fill_from(RecordBuilder* builder, const RecordView* other) noexcept nogil
# Writes the record. `bytes` is valid until the builder begins again or is freed.
cdef int builder_finish(RecordBuilder* builder, const uint8_t** bytes, size_t* size) noexcept nogil

# The exception for a Refusal, naming `what`; and for a Fault of stored bytes.
cdef object refused(int refusal, str what)
cdef object damaged(int fault, str what)


cdef class RecordLayout:
    """Owns the arrays a `Layout` points to. Immutable; keep it alive while a builder uses it."""

    cdef Layout layout  # what builders read
    cdef Buffer blank  # memory of layout.blank
    cdef Buffer slots  # memory of layout.slots
    cdef Buffer texts  # memory of layout.texts


cdef class Builder:
    """The builder for Python."""

    cdef RecordBuilder builder  # freed with this object
    cdef RecordLayout layout  # keeps what builder.layout points to

    cdef int answer(self, int refusal, str what) except -1


# Set a slot from a Python value (None clears it): BUILT or a Refusal.
cdef int set_value(RecordBuilder* builder, uint32_t offset, int kind, object value) except -1
