"""Makes a plan's names: one hash table for all that a request may name, and an answer's constant fields as bytes.

One table serves every kind of name: an entry's scope tells channels from namespaces, facts, a channel's placements and
an enum's labels. It is at most half full and nothing is ever added to it by a request, so that a caller who picks names
cannot make its chains longer. What an answer says of an offer whoever it is for (its name, its group, the keys of its
content, what its price is based on) lies here as the wire has it, tag and length included, and is copied whole.

A plan of 100,000 priced offers gets one field a name in one buffer, and no Python object an offer: 5 ms beside the
seconds that the plan itself takes.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy, memset

from core.hub.buffer cimport buffer_free, buffer_reserve

from core.hub.identifiers import RULES
from core.schema import ValueType, currency_exponent

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    bint PyUnicode_IS_COMPACT_ASCII(object text)

cdef dict _STORAGE = {value: number for number, value in enumerate(ValueType)}

cdef enum:
    WIRE_BYTES = 2
    # Fields of rapport.v1 that are written here; core.kernel.wire lists them all and a test compares them with the protos.
    MONEY_CURRENCY = 2
    PRICE_PERSONAL = 3
    PRICE_BASIS = 4
    OFFER_NAME = 1
    OFFER_GROUP = 2
    OFFER_MODEL = 10
    ENTRY_KEY = 1
    ENTRY_VALUE = 2
    PLACEMENT_NAME = 1
    PLACEMENT_FALLBACK = 4
    RESPONSE_PROGRAM = 4
    RESPONSE_DIGEST = 5
    RESPONSE_MODELS = 6


cdef uint64_t name_hash(uint32_t scope, const char* text, size_t length) noexcept nogil:
    """Eight bytes at a time, each mixed in by a multiplication; the length is part of it."""
    cdef uint64_t h = (<uint64_t> scope + 1) * <uint64_t> 0x9E3779B97F4A7C15 ^ length
    cdef uint64_t word
    cdef uint32_t first, last
    while length >= 8:
        memcpy(&word, text, 8)
        h = (h ^ word) * <uint64_t> 0xBF58476D1CE4E5B9
        h ^= h >> 29
        text += 8
        length -= 8
    word = 0
    if length >= 4:
        # Two reads that may overlap cover four to seven bytes.
        memcpy(&first, text, 4)
        memcpy(&last, text + length - 4, 4)
        word = <uint64_t> first << 32 | last
    elif length:
        word = <uint64_t> <uint8_t> text[0] << 16 | <uint64_t> <uint8_t> text[length >> 1] << 8 | <uint8_t> text[length - 1]
    h = (h ^ word) * <uint64_t> 0x94D049BB133111EB
    return h ^ (h >> 31)


cdef int32_t name_find(const Names* names, uint32_t scope, const char* text, size_t length) noexcept nogil:
    cdef uint64_t hash = name_hash(scope, text, length)
    cdef uint64_t place = hash & names.entry_mask
    cdef const NameEntry* entry
    while True:
        entry = &names.entries[place]
        if entry.text == NULL:
            return -1
        if (
            entry.hash == hash and entry.scope == scope and entry.length == length
            and memcmp(entry.text, text, length) == 0
        ):
            return entry.number
        place = (place + 1) & names.entry_mask


cdef class NamesHolder:
    """The names of a plan whose numbers are bound.

    ``source`` are its tables, the mappings and tuples those of `core.kernel.plan.Plan`.
    """

    def __cinit__(self):
        memset(&self.names, 0, sizeof(Names))
        memset(&self._bytes, 0, sizeof(Buffer))
        self._keep = []

    def __init__(
        self, source, dict channels, dict namespaces, dict facts, list field_names, tuple model_names, tuple models,
        str version
    ):
        self._room(
            len(channels) + len(namespaces) + len(facts) + len(source.placement_names)
            + sum([len(field.labels) for _, field in facts.values()])
        )
        self._enter_channels(source, channels)
        self._enter_namespaces(namespaces)
        self._enter_facts(facts, SCOPE_OTHERS + <uint32_t> len(channels))
        self._write_offers(source)
        self._write_prices(source)
        self._write_placements(source)
        self._write_rest(source.program, field_names, model_names, models, version)
        self.names.bytes = self._bytes.data

    def __dealloc__(self):
        cdef size_t i
        buffer_free(&self._bytes)
        for i in range(self._block_count):
            free(self._blocks[i])
        free(self._blocks)

    cdef void* _block(self, size_t count, size_t size) except NULL:
        """Zeroed memory that is freed with the holder; at least one element, so that it is never NULL."""
        cdef void** blocks = <void**> realloc(self._blocks, (self._block_count + 1) * sizeof(void*))
        cdef void* block
        if blocks == NULL:
            raise MemoryError("a plan's names")
        self._blocks = blocks
        block = calloc(count if count else 1, size)
        if block == NULL:
            raise MemoryError("a plan's names")
        self._blocks[self._block_count] = block
        self._block_count += 1
        return block

    # --- what requests name ---------------------------------------------------------------------------------------

    cdef _room(self, size_t names):
        cdef uint64_t places = 16
        while places < 2 * names:
            places *= 2
        self.names.entries = <const NameEntry*> self._block(places, sizeof(NameEntry))
        self.names.entry_mask = places - 1

    cdef bytes _encoded(self, str text):
        """The text's bytes, kept as long as the plan."""
        cdef bytes raw = text.encode()
        self._keep.append(raw)
        return raw

    cdef _enter(self, uint32_t scope, str name, int32_t number):
        cdef bytes raw = self._encoded(name)
        cdef uint64_t hash = name_hash(scope, PyBytes_AS_STRING(raw), PyBytes_GET_SIZE(raw))
        cdef uint64_t place = hash & self.names.entry_mask
        cdef NameEntry* entries = <NameEntry*> self.names.entries
        while entries[place].text != NULL:
            place = (place + 1) & self.names.entry_mask
        entries[place].text = PyBytes_AS_STRING(raw)
        entries[place].length = <uint32_t> PyBytes_GET_SIZE(raw)
        entries[place].scope = scope
        entries[place].hash = hash
        entries[place].number = number

    def _enter_channels(self, source, dict channels):
        cdef ChannelName* found = <ChannelName*> self._block(len(channels), sizeof(ChannelName))
        cdef bytes raw
        cdef uint32_t index
        for name, (index, number) in channels.items():
            raw = self._encoded(name)
            found[index].text = PyBytes_AS_STRING(raw)
            found[index].length = <uint32_t> PyBytes_GET_SIZE(raw)
            found[index].number = number
            self._enter(SCOPE_CHANNELS, name, index)
        for row, full in enumerate(source.placement_names):
            placement = source.program.placements[full]
            self._enter(SCOPE_OTHERS + <uint32_t> channels[placement.channel][0], full[len(placement.channel) + 1:], row)
        self.names.channels = found

    def _enter_namespaces(self, dict namespaces):
        cdef NamespaceName* found = <NamespaceName*> self._block(len(namespaces), sizeof(NamespaceName))
        cdef int32_t i
        for i, (name, (number, rule, trust, single)) in enumerate(namespaces.items()):
            found[i].number = number
            found[i].rule = RULES[rule]
            found[i].trust = trust
            found[i].single = single
            self._enter(SCOPE_NAMESPACES, name, i)
        self.names.namespaces = found

    def _enter_facts(self, dict facts, uint32_t first_scope):
        cdef FactName* found = <FactName*> self._block(len(facts), sizeof(FactName))
        cdef bytes raw
        cdef int32_t i, position
        for i, (name, (slot, field)) in enumerate(facts.items()):
            raw = self._encoded(field.currency)
            found[i].slot = slot
            found[i].storage = _STORAGE[field.type]
            found[i].unit = 10.0 ** currency_exponent(field.currency)
            found[i].currency = PyBytes_AS_STRING(raw)
            found[i].currency_length = <uint32_t> PyBytes_GET_SIZE(raw)
            found[i].labels = first_scope + <uint32_t> i
            self._enter(SCOPE_FACTS, name, i)
            for position, label in enumerate(field.labels):
                self._enter(first_scope + <uint32_t> i, label, position)
        self.names.facts = found

    # --- what answers say -----------------------------------------------------------------------------------------

    cdef int _length(self, uint64_t number) except -1:
        """Writes a varint."""
        if buffer_reserve(&self._bytes, 10):
            raise MemoryError("a plan's names")
        while number > 0x7F:
            self._bytes.data[self._bytes.size] = <uint8_t> (number & 0x7F) | 0x80
            self._bytes.size += 1
            number >>= 7
        self._bytes.data[self._bytes.size] = <uint8_t> number
        self._bytes.size += 1
        return 0

    cdef int _text(self, uint8_t field, str text) except -1:
        """Writes a string field, also when it is empty."""
        cdef Py_ssize_t size = 0
        cdef const char* raw
        if PyUnicode_IS_COMPACT_ASCII(text):
            # Nearly all names are; Python holds them as the wire has them.
            raw = PyUnicode_AsUTF8AndSize(text, &size)
        else:
            kept = self._encoded(text)
            raw, size = PyBytes_AS_STRING(kept), PyBytes_GET_SIZE(kept)
        self._length(field << 3 | WIRE_BYTES)
        self._length(size)
        if buffer_reserve(&self._bytes, size):
            raise MemoryError("a plan's names")
        memcpy(self._bytes.data + self._bytes.size, raw, size)
        self._bytes.size += size
        return 0

    cdef int _entries(self, uint8_t field, texts) except -1:
        """Writes a map of strings."""
        cdef size_t start, size
        for key, value in texts.items():
            # Written once to be measured, and again behind its length.
            start = self._bytes.size
            self._text(ENTRY_KEY, key)
            self._text(ENTRY_VALUE, value)
            size = self._bytes.size - start
            self._bytes.size = start
            self._length(field << 3 | WIRE_BYTES)
            self._length(size)
            self._text(ENTRY_KEY, key)
            self._text(ENTRY_VALUE, value)
        return 0

    def _write_offers(self, source):
        cdef size_t* starts = <size_t*> self._block(len(source.offer_names) + 1, sizeof(size_t))
        cdef Segment* groups = <Segment*> self._block(len(source.group_names), sizeof(Segment))
        cdef size_t i = 0
        for name in source.offer_names:
            starts[i] = self._bytes.size
            self._text(OFFER_NAME, name)
            i += 1
        starts[i] = self._bytes.size
        for i, name in enumerate(source.group_names):
            groups[i].start = self._bytes.size
            self._text(OFFER_GROUP, name)
            groups[i].size = self._bytes.size - groups[i].start
        self.names.offer_starts = starts
        self.names.groups = groups

    def _write_prices(self, source):
        """Prices differ in their amounts; currencies and bases are a few, and written once each."""
        cdef uint32_t* kinds = <uint32_t*> self._block(len(source.prices), sizeof(uint32_t))
        cdef PriceText* texts
        cdef size_t i = 0
        cdef uint32_t number = 0
        cdef dict numbers = {}
        currency = basis = None
        for price in source.prices:
            if price.currency != currency or price.basis != basis:
                currency, basis = price.currency, price.basis
                number = numbers.setdefault((currency, basis), len(numbers))
            kinds[i] = number
            i += 1
        texts = <PriceText*> self._block(len(numbers), sizeof(PriceText))
        for i, (currency, basis) in enumerate(numbers):
            texts[i].currency.start = self._bytes.size
            if currency:
                self._text(MONEY_CURRENCY, currency)
            texts[i].currency.size = self._bytes.size - texts[i].currency.start
            texts[i].basis.start = self._bytes.size
            if basis:
                self._length(PRICE_PERSONAL << 3)
                self._length(1)
            for name in basis:
                self._text(PRICE_BASIS, name)
            texts[i].basis.size = self._bytes.size - texts[i].basis.start
        self.names.price_kinds = kinds
        self.names.prices = texts

    def _write_placements(self, source):
        cdef PlacementText* texts = <PlacementText*> self._block(len(source.placement_names), sizeof(PlacementText))
        cdef size_t i
        for i, full in enumerate(source.placement_names):
            placement = source.program.placements[full]
            texts[i].name.start = self._bytes.size
            self._text(PLACEMENT_NAME, full[len(placement.channel) + 1:])
            texts[i].name.size = self._bytes.size - texts[i].name.start
            texts[i].fallback.start = self._bytes.size
            self._entries(PLACEMENT_FALLBACK, placement.fallback)
            texts[i].fallback.size = self._bytes.size - texts[i].fallback.start
        self.names.placements = texts

    def _write_rest(self, program, list field_names, tuple model_names, tuple models, str version):
        cdef Segment* fields = <Segment*> self._block(len(field_names), sizeof(Segment))
        cdef Segment* labels = <Segment*> self._block(len(model_names), sizeof(Segment))
        cdef size_t i
        for i, name in enumerate(field_names):
            fields[i].start = self._bytes.size
            self._text(ENTRY_KEY, name)
            fields[i].size = self._bytes.size - fields[i].start
        for i, name in enumerate(model_names):
            labels[i].start = self._bytes.size
            self._text(OFFER_MODEL, name)
            labels[i].size = self._bytes.size - labels[i].start
        self.names.fields = fields
        self.names.models = labels
        self.names.trailer.start = self._bytes.size
        if version:
            self._text(RESPONSE_PROGRAM, version)
        if program.digest:
            self._text(RESPONSE_DIGEST, program.digest)
        for name in models:
            self._text(RESPONSE_MODELS, name)
        self.names.trailer.size = self._bytes.size - self.names.trailer.start
