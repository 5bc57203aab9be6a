"""Attributes read where they lie in a record, a customer's or a household's: a cell becomes a `Value`, a text a pointer."""

from libc.math cimport isnan
from libc.stdint cimport INT64_MIN, uint8_t

from core.hub.record cimport RecordView, record_bool, record_enum, record_f64, record_i64, record_text
from core.kernel.plan cimport (
    STORED_BOOL, STORED_DOUBLE, STORED_ENUM, STORED_MONEY, STORED_SET, STORED_STRING, BoundAttribute,
)
from core.kernel.values cimport MISSING, PRESENT, Value


cdef void read_label(const BoundAttribute* bound, int code, Value* value) noexcept nogil:
    if 0 < code < <int> bound.label_count:
        value.text = bound.labels[code].text
        value.length = bound.labels[code].length
        if bound.text_rows != NULL:
            # The machine reads the text only; the index finds here what it would have to search for.
            value.i = bound.text_rows[code]
        value.state = PRESENT


cdef void read_attribute(const RecordView* record, const BoundAttribute* bound, Value* value) noexcept nogil:
    cdef int code
    if bound.storage == STORED_BOOL:
        code = record_bool(record, bound.offset)
        value.i = code == 2
        value.state = PRESENT if code else MISSING
    elif bound.storage == STORED_ENUM:
        read_label(bound, record_enum(record, bound.offset), value)
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
