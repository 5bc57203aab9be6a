"""Resolve: who the customer is, and the frame of everything the plan reads of them.

The most trusted known identifier wins: identities arrive by falling trust and the first that the store knows is
taken. The record is read where it lies in the map: a cell becomes a `Value`, a text a pointer into the record.
Aggregates are computed from the customer's event list by `core.kernel.aggregating`.
"""

from libc.math cimport isnan
from libc.stdint cimport INT64_MIN, int64_t, uint8_t, uint32_t
from libc.string cimport memset

from core.hub.environment cimport Snapshot, snapshot_customer, snapshot_get_customer
from core.hub.contacts cimport contacts_open
from core.hub.events cimport events_open
from core.hub.lmdb cimport MDB_NOTFOUND
from core.hub.record cimport (
    CaseEntry,
    FAULT_NONE,
    RecordView,
    case_is_open,
    case_product,
    record_bool,
    record_case,
    record_consented,
    record_enum,
    record_f64,
    record_i64,
    record_names,
    record_open,
    record_text,
)
from core.kernel.aggregating cimport fill_aggregates
from core.kernel.machine cimport evaluate
from core.kernel.plan cimport (
    BoundAttribute,
    BoundBand,
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
from core.kernel.values cimport MISSING, PRESENT, Value
from core.kernel.workspace cimport Request, Work

cdef int find_customer(Work* work, Snapshot* snapshot) noexcept nogil:
    """Finds the customer and borrows their record, contacts and events from the snapshot.

    Returns 0, or an LMDB code when the store cannot be read. ``damaged`` is set where bytes fail their checks.
    """
    cdef const Request* request = work.request
    cdef uint32_t i
    cdef int code
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
    code = read_customer(work, snapshot)
    # An identifier that leads to somebody who does not have it is damage that no checksum tells; it must not show one person
    # what is another's. A record that fails its checks has no identifiers to look through.
    if code == 0 and not work.customer.damaged and (
        not work.customer.has_record
        or not record_names(
            &work.customer.record, request.identities[i].namespace, request.identities[i].text, request.identities[i].length)
    ):
        work.customer.damaged = 1
    return code


cdef int read_customer(Work* work, Snapshot* snapshot) noexcept nogil:
    """Borrows what is kept of the customer whose id is in ``work``, the rest of whom is empty; returns as `find_customer`."""
    cdef int code
    cdef const uint8_t* bytes
    cdef size_t size
    code = snapshot_get_customer(snapshot, snapshot.handles.profiles, work.customer.id, &bytes, &size)
    if code == 0:
        work.customer.has_record = 1
        if (
            record_open(bytes, size, &work.customer.record) != FAULT_NONE
            or work.customer.record.customer != work.customer.id
        ):
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
    """Fills every slot of the frame; facts come after all that is stored, so that nothing stored can stand in for them, and
    bands last, for they are made of the others."""
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
        fill_aggregates(work)
    for i in range(request.fact_count):
        work.frame[request.facts[i].slot] = request.facts[i].value
    if plan.band_count:
        _read_bands(work)


cdef void _read_bands(Work* work) noexcept nogil:
    """A band is missing where its value is missing or failed, and while no edges are known."""
    cdef const Tables* plan = work.plan
    cdef const BoundBand* band
    cdef uint32_t i, low, high, middle
    cdef Value value
    cdef double number
    for i in range(plan.band_count):
        band = &plan.bands[i]
        if band.edges == NULL:
            continue
        evaluate(plan.code, band.expression, work.frame, &work.arena, &value)
        if value.state != PRESENT:
            continue
        number = value.f if band.is_double else <double> value.i
        low = 0
        high = band.edge_count
        while low < high:
            middle = (low + high) // 2
            if number > band.edges[middle]:
                low = middle + 1
            else:
                high = middle
        work.frame[band.slot].i = low + 1
        work.frame[band.slot].state = PRESENT


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
            if entry.kind == plan.cases[i].kind and case_is_open(&entry, now) and (
                plan.cases[i].product == 0 or case_product(&entry) in (0, plan.cases[i].product)
            ):
                value.i = 1
                break
