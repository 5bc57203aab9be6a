"""A program's names as a request spells them, and the constant parts of an answer already as bytes.

`Names` is to texts what `Tables` is to numbers: made once with the plan, never changed, read by any number of threads
without the GIL. All pointers and segments are into memory of the `NamesHolder`, which the plan owns.
"""

cimport cython
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

from core.hub.buffer cimport Buffer

cdef enum Scope:
    # What a name is looked up among. Placements have one scope a channel, labels one an enum fact.
    SCOPE_CHANNELS = 0
    SCOPE_NAMESPACES = 1
    SCOPE_FACTS = 2
    SCOPE_OTHERS = 3  # the first channel's placements, then the other channels', then the facts' labels

cdef struct NameEntry:
    const char* text  # UTF-8; NULL in an empty place
    uint32_t length  # bytes
    uint32_t scope  # a Scope or one counted from SCOPE_OTHERS
    uint64_t hash  # of scope and text
    int32_t number  # index of the channel, namespace or fact; row of the placement; position of the label

cdef struct ChannelName:
    const char* text  # as the frame's channel reads
    uint32_t length  # bytes
    uint16_t number  # catalog number

cdef struct NamespaceName:
    uint16_t number  # catalog number
    uint8_t rule  # core.hub.identifiers.Rule
    uint8_t single  # a person has one
    int32_t trust  # the highest known one names the customer

cdef struct FactName:
    int32_t slot  # frame slot, or -1: declared and read by nothing
    uint8_t storage  # core.kernel.plan.Storage
    double unit  # minor units in one major unit, for money
    const char* currency  # of money: as the schema declares it
    uint32_t currency_length  # bytes
    uint32_t labels  # of an enum: scope of its labels

cdef struct Segment:
    size_t start  # in Names.bytes
    size_t size  # bytes

cdef struct PlacementText:
    Segment name  # PlacementAnswer.name
    Segment fallback  # PlacementAnswer.fallback, every entry; empty without fallback content

cdef struct PriceText:
    Segment currency  # Money.currency
    Segment basis  # QuotedPrice.personal and .basis

cdef struct Names:
    const NameEntry* entries  # open addressing, at most half full
    uint64_t entry_mask  # places - 1
    const ChannelName* channels  # in the program's order
    const NamespaceName* namespaces  # in the program's order
    const FactName* facts  # in the program's order
    const uint8_t* bytes  # what segments count from; fields with their tags, as the wire has them
    const size_t* offer_starts  # offers + 1: DecidedOffer.offer of each
    const Segment* groups  # DecidedOffer.group of each group
    const Segment* fields  # by content field name: the key of an entry of DecidedOffer.content
    const Segment* models  # by model table: DecidedOffer.model
    const PlacementText* placements  # by row
    const uint32_t* price_kinds  # by price: its PriceText
    const PriceText* prices
    Segment trailer  # DecideResponse.program, .digest and .models

cdef uint64_t name_hash(uint32_t scope, const char* text, size_t length) noexcept nogil
# The number of a name in a scope, or -1. Bytes that are no UTF-8 are no name.
cdef int32_t name_find(const Names* names, uint32_t scope, const char* text, size_t length) noexcept nogil


@cython.final
cdef class NamesHolder:
    """Owns names. Immutable once made."""

    cdef Names names  # valid as long as this object
    cdef Buffer _bytes  # segments' bytes, owned
    cdef void** _blocks  # memory of names' structures, owned
    cdef size_t _block_count  # entries of _blocks
    cdef list _keep  # bytes that entries point into
    cdef uint64_t _entry_count  # entries in use

    cdef void* _block(self, size_t count, size_t size) except NULL
    cdef _room(self, size_t names)
    cdef _enter(self, uint32_t scope, str name, int32_t number)
    cdef bytes _encoded(self, str text)
    cdef int _length(self, uint64_t number) except -1
    cdef int _text(self, uint8_t field, str text) except -1
    cdef int _entries(self, uint8_t field, texts) except -1
