"""Builds records, and shows them to Python; the layout and the readers are in record.pxd.

The builder keeps a record taken apart: the fixed area, one span for each text slot, and the three sections as they are
stored. New texts go behind the old ones in a scratch buffer, so nothing moves while values are set; finishing writes
only texts that are still referred to. All buffers keep their capacity from one customer to the next, so a bulk
import allocates a handful of times in all.
"""

from libc.math cimport isnan
from libc.string cimport memcmp, memmove, memset

from core.hub.buffer cimport buffer_append, buffer_free, buffer_reserve

from core import limits
from core.errors import BadValue, CustomerFull, EngineFault, StoreCorrupt
from core.schema import ValueType

cdef extern from "core/hub/native/checksum.h" nogil:
    uint32_t rapport_crc32c_narrow(const uint8_t* bytes, size_t size) noexcept

cdef uint32_t STRING_BYTES = limits.STRING_BYTES
cdef uint32_t SET_MEMBERS = limits.SET_MEMBERS
cdef uint32_t RECORD_BYTES = limits.RECORD_BYTES
cdef uint32_t IDENTIFIERS = limits.IDENTIFIERS_PER_CUSTOMER
cdef uint32_t CASES = limits.CASES_PER_CUSTOMER

KINDS = {
    ValueType.BOOL: VALUE_BOOL,
    ValueType.INT: VALUE_INT,
    ValueType.DOUBLE: VALUE_DOUBLE,
    ValueType.MONEY: VALUE_MONEY,
    ValueType.TIMESTAMP: VALUE_TIMESTAMP,
    ValueType.ENUM: VALUE_ENUM,
    ValueType.STRING: VALUE_STRING,
    ValueType.STRING_SET: VALUE_SET,
}
WIDTHS = {
    ValueType.BOOL: 1,
    ValueType.INT: 8,
    ValueType.DOUBLE: 8,
    ValueType.MONEY: 8,
    ValueType.TIMESTAMP: 8,
    ValueType.ENUM: 2,
    ValueType.STRING: 4,
    ValueType.STRING_SET: 4,
}

cdef enum:
    CONSENTS = 65_535  # the header counts them in 16 bits

assert sizeof(ConsentEntry) == CONSENT_BYTES
assert sizeof(CaseEntry) == CASE_BYTES


cdef object refused(int refusal, str what):
    """The exception for a builder's refusal."""
    if refusal == REFUSED_MEMORY:
        return MemoryError(f"no memory for {what}")
    if refusal == REFUSED_LONG:
        return BadValue(what, f"longer than {STRING_BYTES} bytes, or a set of more than {SET_MEMBERS} members or 64 KiB in all")
    if refusal == REFUSED_IDENTIFIERS:
        return CustomerFull(
            f"{what}: identifiers", IDENTIFIERS + 1, IDENTIFIERS, field="identifiers",
            hint="Nothing was kept. Send it again with identifiers that are known only, and look why one customer has so many: "
                 "a session is no identifier, and a shared address joins people.",
        )
    if refusal == REFUSED_CASES:
        return CustomerFull(
            f"{what}: open cases", CASES + 1, CASES,
            hint="Nothing was kept. Close cases that are over: rapport case close.",
        )
    if refusal == REFUSED_SIZE:
        return CustomerFull(
            f"{what}: bytes of the record", RECORD_BYTES + 1, RECORD_BYTES,
            hint="Nothing was kept. Clear attributes that are not needed, or shorten texts and sets.",
        )
    if refusal == REFUSED_DAMAGED:
        return StoreCorrupt(what, "its stored record fails its checks")
    return EngineFault(f"{what}: the record's layout has no such slot (refusal {refusal})")


cdef object damaged(int fault, str what):
    """The exception for stored bytes that fail their checks."""
    cdef str problem = {
        FAULT_SHORT: "it is shorter than its header says",
        FAULT_MAGIC: "its first bytes are not those of this kind and version",
        FAULT_CHECKSUM: "its checksum does not match its bytes",
        FAULT_BOUNDS: "a length inside points outside",
    }.get(fault, f"fault {fault}")
    return StoreCorrupt(what, problem)


# --- the builder ----------------------------------------------------------------------------------------------


cdef inline TextSpan* text_span(RecordBuilder* builder, uint32_t offset) noexcept nogil:
    """The span of the text slot at `offset`, or NULL: binary search, slots ascend."""
    cdef const Layout* layout = builder.layout
    cdef uint32_t low = 0
    cdef uint32_t high = layout.text_count
    cdef uint32_t middle
    while low < high:
        middle = (low + high) // 2
        if layout.texts[middle].offset < offset:
            low = middle + 1
        else:
            high = middle
    if low == layout.text_count or layout.texts[low].offset != offset:
        return NULL
    return <TextSpan*>builder.spans.data + low


cdef int builder_begin(
    RecordBuilder* builder, const Layout* layout, uint64_t customer, const uint8_t* existing, size_t size
) noexcept nogil:
    cdef RecordView view
    cdef uint32_t i, width, length
    cdef const uint8_t* text
    cdef TextSpan* span
    builder.layout = layout
    builder.customer = customer
    builder.updated = INT64_MIN
    builder.fixed.size = 0
    builder.scratch.size = 0
    builder.spans.size = 0
    builder.identifiers.size = 0
    builder.consents.size = 0
    builder.cases.size = 0
    builder.identifier_count = 0
    memset(&view, 0, sizeof(RecordView))
    if existing != NULL:
        if record_open(existing, size, &view) != FAULT_NONE or view.customer != customer:
            return REFUSED_DAMAGED
    width = layout.fixed_bytes if layout.fixed_bytes > view.fixed_bytes else view.fixed_bytes
    if buffer_reserve(&builder.fixed, width) or buffer_reserve(&builder.spans, layout.text_count * sizeof(TextSpan)):
        return REFUSED_MEMORY
    if layout.fixed_bytes:
        memcpy(builder.fixed.data, layout.blank, layout.fixed_bytes)
    builder.fixed.size = width
    builder.spans.size = layout.text_count * sizeof(TextSpan)
    span = <TextSpan*>builder.spans.data
    for i in range(layout.text_count):
        span[i].length = TEXT_ABSENT
    if existing == NULL:
        return BUILT
    builder.updated = view.updated
    if view.fixed_bytes:
        memcpy(builder.fixed.data, view.fixed, view.fixed_bytes)
    if buffer_append(&builder.scratch, view.heap, view.heap_bytes):
        return REFUSED_MEMORY
    for i in range(layout.text_count):
        if record_text(&view, layout.texts[i].offset, &text, &length):
            span[i].offset = <uint32_t>(text - view.heap)
            span[i].length = length
    builder.identifier_count = view.identifier_count
    if (
        buffer_append(&builder.identifiers, view.identifiers, view.identifier_bytes)
        or buffer_append(&builder.consents, view.consents, <size_t>view.consent_count * CONSENT_BYTES)
        or buffer_append(&builder.cases, view.cases, <size_t>view.case_count * CASE_BYTES)
    ):
        return REFUSED_MEMORY
    return BUILT


cdef void builder_free(RecordBuilder* builder) noexcept nogil:
    buffer_free(&builder.fixed)
    buffer_free(&builder.scratch)
    buffer_free(&builder.spans)
    buffer_free(&builder.identifiers)
    buffer_free(&builder.consents)
    buffer_free(&builder.cases)
    buffer_free(&builder.output)


cdef void builder_set_bool(RecordBuilder* builder, uint32_t offset, int value) noexcept nogil:
    builder.fixed.data[offset] = <uint8_t>value


cdef void builder_set_enum(RecordBuilder* builder, uint32_t offset, uint16_t code) noexcept nogil:
    memcpy(builder.fixed.data + offset, &code, 2)


cdef void builder_set_i64(RecordBuilder* builder, uint32_t offset, int64_t value) noexcept nogil:
    memcpy(builder.fixed.data + offset, &value, 8)


cdef void builder_set_f64(RecordBuilder* builder, uint32_t offset, double value) noexcept nogil:
    # One NaN only: equal contents must be equal bytes.
    if isnan(value):
        value = NAN
    memcpy(builder.fixed.data + offset, &value, 8)


cdef int builder_set_text(RecordBuilder* builder, uint32_t offset, const uint8_t* text, size_t size) noexcept nogil:
    cdef TextSpan* span = text_span(builder, offset)
    cdef size_t at = builder.scratch.size
    if span == NULL:
        return REFUSED_SLOT
    if size > STRING_BYTES:
        return REFUSED_LONG
    if buffer_append(&builder.scratch, text, size):
        return REFUSED_MEMORY
    span.offset = <uint32_t>at
    span.length = <uint32_t>size
    return BUILT


cdef int builder_clear_text(RecordBuilder* builder, uint32_t offset) noexcept nogil:
    cdef TextSpan* span = text_span(builder, offset)
    if span == NULL:
        return REFUSED_SLOT
    span.length = TEXT_ABSENT
    return BUILT


cdef inline int compare_bytes(const uint8_t* a, uint32_t a_size, const uint8_t* b, uint32_t b_size) noexcept nogil:
    """Byte order, the shorter first where one begins the other."""
    cdef int order = memcmp(a, b, a_size if a_size < b_size else b_size)
    return order if order else (a_size > b_size) - (a_size < b_size)


cdef int builder_set_members(
    RecordBuilder* builder, uint32_t offset, const uint8_t** members, uint32_t* lengths, uint32_t count
) noexcept nogil:
    cdef TextSpan* span = text_span(builder, offset)
    cdef size_t at = builder.scratch.size
    cdef uint32_t i, j
    cdef uint16_t kept = 0
    cdef uint16_t size16
    cdef const uint8_t* member
    cdef uint32_t length
    cdef size_t total = 2
    if span == NULL:
        return REFUSED_SLOT
    if count > SET_MEMBERS:
        return REFUSED_LONG
    # Insertion sort: at most 256 members, mostly sorted already.
    for i in range(1, count):
        member = members[i]
        length = lengths[i]
        j = i
        while j and compare_bytes(members[j - 1], lengths[j - 1], member, length) > 0:
            members[j] = members[j - 1]
            lengths[j] = lengths[j - 1]
            j -= 1
        members[j] = member
        lengths[j] = length
    for i in range(count):
        if lengths[i] > STRING_BYTES:
            return REFUSED_LONG
        if i and compare_bytes(members[i - 1], lengths[i - 1], members[i], lengths[i]) == 0:
            continue
        kept += 1
        total += 2 + <size_t>lengths[i]
    if total > 0xFFFF:
        return REFUSED_LONG
    if buffer_reserve(&builder.scratch, total):
        return REFUSED_MEMORY
    buffer_append(&builder.scratch, &kept, 2)
    for i in range(count):
        if i and compare_bytes(members[i - 1], lengths[i - 1], members[i], lengths[i]) == 0:
            continue
        size16 = <uint16_t>lengths[i]
        buffer_append(&builder.scratch, &size16, 2)
        buffer_append(&builder.scratch, members[i], lengths[i])
    span.offset = <uint32_t>at
    span.length = <uint32_t>total
    return BUILT


cdef void builder_touch(RecordBuilder* builder, int64_t at) noexcept nogil:
    if at > builder.updated:
        builder.updated = at


cdef int builder_add_identifier(
    RecordBuilder* builder, uint16_t namespace, const uint8_t* value, size_t size
) noexcept nogil:
    cdef size_t at = 0
    cdef uint16_t other, length
    cdef uint16_t size16 = <uint16_t>size
    while at < builder.identifiers.size:
        memcpy(&other, builder.identifiers.data + at, 2)
        memcpy(&length, builder.identifiers.data + at + 2, 2)
        if other == namespace and length == size and memcmp(builder.identifiers.data + at + 4, value, size) == 0:
            return BUILT
        at += 4 + <size_t>length
    if builder.identifier_count >= IDENTIFIERS:
        return REFUSED_IDENTIFIERS
    if buffer_reserve(&builder.identifiers, 4 + size):
        return REFUSED_MEMORY
    buffer_append(&builder.identifiers, &namespace, 2)
    buffer_append(&builder.identifiers, &size16, 2)
    buffer_append(&builder.identifiers, value, size)
    builder.identifier_count += 1
    return BUILT


cdef int builder_set_consent(
    RecordBuilder* builder, uint16_t purpose, uint16_t channel, bint granted, uint16_t source, int64_t at
) noexcept nogil:
    cdef ConsentEntry entry
    cdef ConsentEntry* known
    cdef size_t count = builder.consents.size // CONSENT_BYTES
    cdef size_t place = 0
    entry.purpose = purpose
    entry.channel = channel
    entry.granted = 1 if granted else 0
    entry.zero = 0
    entry.source = source
    entry.at = at
    # ConsentEntry is packed, so the compiler reads its fields byte-safe whatever the buffer's alignment.
    known = <ConsentEntry*>builder.consents.data
    while place < count and (
        known[place].purpose < purpose or (known[place].purpose == purpose and known[place].channel < channel)
    ):
        place += 1
    if place < count and known[place].purpose == purpose and known[place].channel == channel:
        if known[place].at < at or (known[place].at == at and known[place].granted and not granted):
            known[place] = entry
        return BUILT
    if count >= CONSENTS:
        return REFUSED_SIZE
    if buffer_reserve(&builder.consents, CONSENT_BYTES):
        return REFUSED_MEMORY
    known = <ConsentEntry*>builder.consents.data
    memmove(known + place + 1, known + place, (count - place) * CONSENT_BYTES)
    known[place] = entry
    builder.consents.size += CONSENT_BYTES
    return BUILT


cdef int builder_add_case(
    RecordBuilder* builder, uint16_t kind, uint64_t key, int64_t opened, int64_t closed, uint64_t product
) noexcept nogil:
    cdef CaseEntry entry
    cdef CaseEntry* known = <CaseEntry*>builder.cases.data
    cdef size_t count = builder.cases.size // CASE_BYTES
    cdef size_t place = 0
    cdef size_t oldest
    entry.kind = kind
    entry.product_high = <uint16_t>(product >> 32)
    entry.product_low = <uint32_t>product
    entry.key = key
    entry.opened = opened
    entry.closed = closed
    while place < count and (known[place].kind < kind or (known[place].kind == kind and known[place].key < key)):
        place += 1
    if place < count and known[place].kind == kind and known[place].key == key:
        if opened < known[place].opened:
            known[place].opened = opened
        if product:
            known[place].product_high = entry.product_high
            known[place].product_low = entry.product_low
        # The first close stands: INT64_MIN means open, and a later close of a closed case changes nothing.
        if known[place].closed == INT64_MIN or (closed != INT64_MIN and closed < known[place].closed):
            known[place].closed = closed
        return BUILT
    if count >= CASES:
        oldest = count
        for i in range(count):
            if known[i].closed != INT64_MIN and (oldest == count or known[i].opened < known[oldest].opened):
                oldest = i
        if oldest == count:
            return REFUSED_CASES
        memmove(known + oldest, known + oldest + 1, (count - oldest - 1) * CASE_BYTES)
        count -= 1
        builder.cases.size -= CASE_BYTES
        if place > oldest:
            place -= 1
    if buffer_reserve(&builder.cases, CASE_BYTES):
        return REFUSED_MEMORY
    known = <CaseEntry*>builder.cases.data
    memmove(known + place + 1, known + place, (count - place) * CASE_BYTES)
    known[place] = entry
    builder.cases.size += CASE_BYTES
    return BUILT


cdef void builder_set_case_product(RecordBuilder* builder, uint16_t kind, uint64_t key, uint64_t product) noexcept nogil:
    cdef CaseEntry* known = <CaseEntry*>builder.cases.data
    cdef size_t i
    for i in range(builder.cases.size // CASE_BYTES):
        if known[i].kind == kind and known[i].key == key:
            known[i].product_high = <uint16_t>(product >> 32)
            known[i].product_low = <uint32_t>product


cdef int builder_fill_from(RecordBuilder* builder, const RecordView* other) noexcept nogil:
    cdef const Layout* layout = builder.layout
    cdef const Slot* slot
    cdef TextSpan* span
    cdef const uint8_t* text
    cdef uint32_t i, length
    cdef size_t at
    cdef uint16_t namespace, size
    cdef ConsentEntry consent
    cdef CaseEntry case
    cdef int code
    for i in range(layout.slot_count):
        slot = &layout.slots[i]
        if slot.offset + slot.width > other.fixed_bytes:
            break
        # The blank bytes of a slot are its missing value, whatever its type; texts are told by their span.
        if memcmp(builder.fixed.data + slot.offset, layout.blank + slot.offset, slot.width) == 0:
            memcpy(builder.fixed.data + slot.offset, other.fixed + slot.offset, slot.width)
    for i in range(layout.text_count):
        span = <TextSpan*>builder.spans.data + i
        if span.length != TEXT_ABSENT or not record_text(other, layout.texts[i].offset, &text, &length):
            continue
        at = builder.scratch.size
        if buffer_append(&builder.scratch, text, length):
            return REFUSED_MEMORY
        span.offset = <uint32_t>at
        span.length = length
    at = 0
    for _ in range(other.identifier_count):
        memcpy(&namespace, other.identifiers + at, 2)
        memcpy(&size, other.identifiers + at + 2, 2)
        code = builder_add_identifier(builder, namespace, other.identifiers + at + 4, size)
        if code:
            return code
        at += 4 + <size_t>size
    for i in range(other.consent_count):
        record_consent(other, i, &consent)
        code = builder_set_consent(
            builder, consent.purpose, consent.channel, consent.granted, consent.source, consent.at
        )
        if code:
            return code
    for i in range(other.case_count):
        record_case(other, i, &case)
        code = builder_add_case(builder, case.kind, case.key, case.opened, case.closed, case_product(&case))
        if code:
            return code
    builder_touch(builder, other.updated)
    return BUILT


cdef int builder_finish(RecordBuilder* builder, const uint8_t** bytes, size_t* size) noexcept nogil:
    cdef const Layout* layout = builder.layout
    cdef const TextSpan* spans = <const TextSpan*>builder.spans.data
    cdef uint32_t fixed_bytes = <uint32_t>builder.fixed.size
    cdef uint32_t heap_bytes = 0
    cdef uint32_t i, checksum
    cdef uint16_t offset16, length16, count16
    cdef uint8_t* to
    cdef size_t total
    # Texts take their final places first, so that a slot without one is blank like any other.
    for i in range(layout.text_count):
        if spans[i].length == TEXT_ABSENT:
            memcpy(builder.fixed.data + layout.texts[i].offset, layout.blank + layout.texts[i].offset, 4)
            continue
        if heap_bytes + spans[i].length > 0xFFFF or heap_bytes >= TEXT_MISSING:
            return REFUSED_SIZE
        offset16 = <uint16_t>heap_bytes
        length16 = <uint16_t>spans[i].length
        memcpy(builder.fixed.data + layout.texts[i].offset, &offset16, 2)
        memcpy(builder.fixed.data + layout.texts[i].offset + 2, &length16, 2)
        heap_bytes += spans[i].length
    # Cut at a slot's border only: half of a value would read as missing.
    if fixed_bytes == layout.fixed_bytes:
        i = layout.slot_count
        while i and memcmp(
            builder.fixed.data + layout.slots[i - 1].offset, layout.blank + layout.slots[i - 1].offset,
            layout.slots[i - 1].width,
        ) == 0:
            i -= 1
            fixed_bytes = layout.slots[i].offset
    total = (
        RECORD_HEADER_BYTES + fixed_bytes + heap_bytes
        + builder.identifiers.size + builder.consents.size + builder.cases.size
    )
    if total > RECORD_BYTES:
        return REFUSED_SIZE
    builder.output.size = 0
    if buffer_reserve(&builder.output, total):
        return REFUSED_MEMORY
    to = builder.output.data
    memset(to, 0, RECORD_HEADER_BYTES)
    count16 = RECORD_MAGIC
    memcpy(to, &count16, 2)
    to[2] = RECORD_VERSION
    memcpy(to + 8, &builder.customer, 8)
    memcpy(to + 16, &builder.updated, 8)
    memcpy(to + 24, &fixed_bytes, 4)
    memcpy(to + 28, &heap_bytes, 4)
    count16 = <uint16_t>builder.identifier_count
    memcpy(to + 32, &count16, 2)
    count16 = <uint16_t>(builder.consents.size // CONSENT_BYTES)
    memcpy(to + 34, &count16, 2)
    count16 = <uint16_t>(builder.cases.size // CASE_BYTES)
    memcpy(to + 36, &count16, 2)
    builder.output.size = RECORD_HEADER_BYTES
    buffer_append(&builder.output, builder.fixed.data, fixed_bytes)
    for i in range(layout.text_count):
        if spans[i].length != TEXT_ABSENT:
            buffer_append(&builder.output, builder.scratch.data + spans[i].offset, spans[i].length)
    buffer_append(&builder.output, builder.identifiers.data, builder.identifiers.size)
    buffer_append(&builder.output, builder.consents.data, builder.consents.size)
    buffer_append(&builder.output, builder.cases.data, builder.cases.size)
    checksum = rapport_crc32c(to + RECORD_CHECKED_FROM, total - RECORD_CHECKED_FROM)
    memcpy(to + 4, &checksum, 4)
    bytes[0] = to
    size[0] = total
    return BUILT


# --- the face for Python --------------------------------------------------------------------------------------


cdef class RecordLayout:
    """The fixed area as a catalog lays it out, for builders.

    ``slots`` are (offset, type) by ascending offset, adjoining, from 0.
    """

    def __cinit__(self, slots):
        cdef Slot slot
        cdef TextSlot text
        cdef uint8_t blank[8]
        cdef int64_t absent = INT64_MIN
        cdef double unknown = NAN
        cdef uint32_t at = 0
        for offset, type_ in slots:
            if offset != at:
                raise EngineFault(f"the slot at {offset} does not adjoin the one that ends at {at}")
            kind = KINDS[type_]
            slot.offset = at
            slot.width = WIDTHS[type_]
            memset(blank, 0, 8)
            if kind == VALUE_DOUBLE:
                memcpy(blank, &unknown, 8)
            elif slot.width == 8:
                memcpy(blank, &absent, 8)
            elif slot.width == 4:
                memset(blank, 0xFF, 2)
            if buffer_append(&self.slots, &slot, sizeof(Slot)) or buffer_append(&self.blank, blank, slot.width):
                raise MemoryError
            if slot.width == 4:
                text.offset = at
                text.is_set = kind == VALUE_SET
                if buffer_append(&self.texts, &text, sizeof(TextSlot)):
                    raise MemoryError
            at += slot.width
        self.layout.blank = self.blank.data
        self.layout.slots = <const Slot*>self.slots.data
        self.layout.texts = <const TextSlot*>self.texts.data
        self.layout.fixed_bytes = at
        self.layout.slot_count = <uint32_t>(self.slots.size // sizeof(Slot))
        self.layout.text_count = <uint32_t>(self.texts.size // sizeof(TextSlot))

    def __dealloc__(self):
        buffer_free(&self.blank)
        buffer_free(&self.slots)
        buffer_free(&self.texts)

    @property
    def fixed_bytes(self):
        """Bytes of the whole fixed area."""
        return self.layout.fixed_bytes


cdef class Record:
    """A stored record, checked, for Python. Keeps its own bytes. Raises StoreCorrupt when they fail the checks."""

    cdef bytes data  # the record; view borrows it
    cdef RecordView view  # into data

    def __cinit__(self, bytes data not None, str what="A customer's record"):
        cdef const uint8_t* start = data
        cdef int fault = record_open(start, len(data), &self.view)
        if fault:
            raise damaged(fault, what)
        self.data = data

    @property
    def customer(self):
        """Customer id."""
        return self.view.customer

    @property
    def updated_us(self):
        """Microseconds of the last change known."""
        return self.view.updated

    @property
    def fixed_bytes(self):
        """Bytes of the fixed area of this record."""
        return self.view.fixed_bytes

    @property
    def identifiers(self):
        """(namespace number, value bytes) in order of arrival."""
        cdef uint32_t at = 0
        cdef uint16_t namespace, length
        found = []
        for _ in range(self.view.identifier_count):
            memcpy(&namespace, self.view.identifiers + at, 2)
            memcpy(&length, self.view.identifiers + at + 2, 2)
            found.append((namespace, self.view.identifiers[at + 4:at + 4 + length]))
            at += 4 + <uint32_t>length
        return found

    @property
    def consents(self):
        """(purpose, channel, granted, source, at) numbers, by purpose and channel."""
        cdef ConsentEntry entry
        found = []
        for i in range(self.view.consent_count):
            record_consent(&self.view, i, &entry)
            found.append((entry.purpose, entry.channel, entry.granted != 0, entry.source, entry.at))
        return found

    @property
    def cases(self):
        """(kind, key hash, opened, closed or None, product hash) by kind and key hash."""
        cdef CaseEntry entry
        found = []
        for i in range(self.view.case_count):
            record_case(&self.view, i, &entry)
            closed = None if entry.closed == INT64_MIN else entry.closed
            found.append((entry.kind, entry.key, entry.opened, closed, case_product(&entry)))
        return found

    def value(self, uint32_t offset, type_ not None):
        """The value at `offset`: bool, int (money's minor units, microseconds, an enum's code), float, str, frozenset."""
        cdef int kind = KINDS[type_]
        cdef int small
        cdef int64_t number
        cdef double real
        cdef const uint8_t* text
        cdef uint32_t length
        if kind == VALUE_BOOL:
            small = record_bool(&self.view, offset)
            return None if small == 0 else small == 2
        if kind == VALUE_ENUM:
            small = record_enum(&self.view, offset)
            return small if small else None
        if kind == VALUE_DOUBLE:
            real = record_f64(&self.view, offset)
            return None if isnan(real) else real
        if kind == VALUE_STRING or kind == VALUE_SET:
            if not record_text(&self.view, offset, &text, &length):
                return None
            data = text[:length]
            return data.decode() if kind == VALUE_STRING else members(data)
        number = record_i64(&self.view, offset)
        return None if number == INT64_MIN else number


def members(const uint8_t[::1] data not None) -> frozenset[str]:
    """The members of a set in its heap encoding."""
    cdef Py_ssize_t at = 2
    cdef Py_ssize_t length
    found = []
    if data.shape[0] < 2:
        raise StoreCorrupt("A set", "it is shorter than its count")
    for _ in range(data[0] | data[1] << 8):
        if at + 2 > data.shape[0]:
            raise StoreCorrupt("A set", "a member lies outside")
        length = data[at] | data[at + 1] << 8
        if at + 2 + length > data.shape[0]:
            raise StoreCorrupt("A set", "a member lies outside")
        found.append(bytes(data[at + 2:at + 2 + length]).decode())
        at += 2 + length
    return frozenset(found)


cdef int set_value(RecordBuilder* builder, uint32_t offset, int kind, object value) except -1:
    """Set a slot from a Python value (None clears it); BUILT or a Refusal. Ranges are checked by the caller."""
    cdef const uint8_t* pointers[256]
    cdef uint32_t lengths[256]
    cdef uint32_t i = 0
    cdef bytes text
    if kind == VALUE_BOOL:
        builder_set_bool(builder, offset, 0 if value is None else 2 if value else 1)
    elif kind == VALUE_ENUM:
        builder_set_enum(builder, offset, 0 if value is None else value)
    elif kind == VALUE_DOUBLE:
        builder_set_f64(builder, offset, NAN if value is None else value)
    elif kind == VALUE_STRING:
        if value is None:
            return builder_clear_text(builder, offset)
        text = value.encode()
        return builder_set_text(builder, offset, text, len(text))
    elif kind == VALUE_SET:
        if value is None:
            return builder_clear_text(builder, offset)
        if len(value) > SET_MEMBERS:
            return REFUSED_LONG
        texts = [member.encode() for member in value]  # keeps the bytes alive until they are copied
        for text in texts:
            pointers[i] = text
            lengths[i] = <uint32_t>len(text)
            i += 1
        return builder_set_members(builder, offset, pointers, lengths, i)
    else:
        builder_set_i64(builder, offset, INT64_MIN if value is None else value)
    return BUILT


cdef class Builder:
    """The record builder for Python: what tools and tests use; `apply` calls the C functions.

    ``existing`` is a record to begin from, or None for a new customer.
    """

    def __cinit__(self, RecordLayout layout not None, uint64_t customer, bytes existing=None):
        cdef const uint8_t* start = NULL
        cdef size_t size = 0
        memset(&self.builder, 0, sizeof(RecordBuilder))
        self.layout = layout
        if existing is not None:
            start = existing
            size = len(existing)
        self.answer(builder_begin(&self.builder, &layout.layout, customer, start, size), f"Customer {customer}")

    def __dealloc__(self):
        builder_free(&self.builder)

    cdef int answer(self, int refusal, str what) except -1:
        if refusal:
            raise refused(refusal, what)
        return 0

    def set(self, uint32_t offset, type_ not None, value) -> None:
        """Set the slot at `offset` to a value as `Record.value` gives it; None clears it."""
        if <uint64_t>offset + WIDTHS[type_] > self.layout.layout.fixed_bytes:
            raise EngineFault(f"there is no slot at {offset}")
        self.answer(set_value(&self.builder, offset, KINDS[type_], value), f"The slot at {offset}")

    def touch(self, int64_t at) -> None:
        """Note a change at this microsecond; `updated` never goes back."""
        builder_touch(&self.builder, at)

    def add_identifier(self, uint16_t namespace, bytes value not None) -> None:
        """Add a normalised identifier unless it is there."""
        cdef const uint8_t* start = value
        self.answer(builder_add_identifier(&self.builder, namespace, start, len(value)), "An identifier")

    def set_consent(self, uint16_t purpose, uint16_t channel, bint granted, uint16_t source, int64_t at) -> None:
        """Set a consent; the newest wins, and of two at one microsecond the refusal."""
        self.answer(builder_set_consent(&self.builder, purpose, channel, granted, source, at), "A consent")

    def add_case(self, uint16_t kind, uint64_t key, int64_t opened, closed=None, uint64_t product=0) -> None:
        """Open a case, or close it; ``product`` is its `product_hash`."""
        cdef int64_t end = INT64_MIN if closed is None else closed
        self.answer(builder_add_case(&self.builder, kind, key, opened, end, product), "A case")

    def fill_from(self, Record other not None) -> None:
        """Take what the other record knows and this one does not."""
        self.answer(builder_fill_from(&self.builder, &other.view), f"Customer {self.builder.customer}")

    def finish(self) -> bytes:
        """The record. The builder can go on from here."""
        cdef const uint8_t* start
        cdef size_t size
        self.answer(builder_finish(&self.builder, &start, &size), f"Customer {self.builder.customer}")
        return start[:size]


def crc32c(const uint8_t[::1] data not None) -> int:
    """CRC-32C of `data`, as records carry it."""
    cdef const uint8_t* start = &data[0] if data.shape[0] else NULL
    return rapport_crc32c(start, data.shape[0])


def crc32c_narrow(const uint8_t[::1] data not None) -> int:
    """The same by lanes alone, for processors that cannot fold beside them."""
    cdef const uint8_t* start = &data[0] if data.shape[0] else NULL
    return rapport_crc32c_narrow(start, data.shape[0])


def crc32c_by_table(const uint8_t[::1] data not None) -> int:
    """The same by the table, for processors without the instruction."""
    cdef const uint8_t* start = &data[0] if data.shape[0] else NULL
    return rapport_crc32c_table(start, data.shape[0])


def siphash(const uint8_t[::1] data not None) -> int:
    """SipHash-2-4 with the key 00 01 .. 0f, as idempotency keys are stored."""
    cdef const uint8_t* start = &data[0] if data.shape[0] else NULL
    return rapport_siphash(start, data.shape[0])


def product_hash(str product not None) -> int:
    """48 bits of SipHash, as a case's entry carries them; 0 for no product, and never for one."""
    cdef bytes raw = product.encode()
    cdef const char* start = raw
    return ((rapport_siphash(<const uint8_t*>start, len(raw)) & 0xFFFF_FFFF_FFFF) or 1) if raw else 0
