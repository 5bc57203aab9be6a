"""Resolve: who the customer is, and the frame of everything the plan reads of them.

The most trusted known identifier wins: identities arrive ranked (`core.hub.identifiers.ranked`) and the first that the store
knows is taken, unless its customer has another identifier of a single namespace than one before it: then it is somebody
else who calls, on a shared device (`core.hub.identifiers.meant`). The record is read where it lies in the map: a cell becomes
a `Value`, a text a pointer into the record. Aggregates are computed from the customer's event list by
`core.kernel.aggregating`.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memset

from core.hub.snapshot cimport Snapshot, snapshot_customer, snapshot_get_customer
from core.hub.contacts cimport contacts_open
from core.hub.events cimport events_open
from core.hub.lmdb cimport MDB_NOTFOUND
from core.hub.record cimport (
    CaseEntry, FAULT_NONE, RecordView, case_is_open, case_product, identifiers_exclude, record_case, record_consented,
    record_names, record_open,
)
from core.kernel.aggregating cimport fill_aggregates
from core.kernel.attributes cimport read_attribute
from core.kernel.household cimport fill_household, find_household
from core.kernel.machine cimport evaluate
from core.kernel.plan cimport BoundBand, BoundCase, SLOT_CHANNEL, SLOT_KNOWN, SLOT_NOW, Tables
from core.kernel.values cimport PRESENT, Value
from core.kernel.workspace cimport Identity, Request, Work

cdef int find_customer(Work* work, Snapshot* snapshot) noexcept nogil:
    """Finds the customer and borrows their record, contacts and events from the snapshot.

    Returns 0, or an LMDB code when the store cannot be read. ``damaged`` is set where bytes fail their checks.
    """
    cdef const Request* request = work.request
    cdef const Identity* identity
    cdef uint32_t i
    cdef int code
    memset(&work.customer, 0, sizeof(work.customer))
    for i in range(request.identity_count):
        identity = &request.identities[i]
        code = snapshot_customer(snapshot, identity.namespace, identity.text, identity.length, &work.customer.id)
        if code == MDB_NOTFOUND:
            continue
        if code == 0:
            code = read_customer(work, snapshot)
        # A record that fails its checks has no identifiers to look through.
        if code or work.customer.damaged:
            return code
        if not work.customer.has_record or not record_names(
            &work.customer.record, identity.namespace, identity.text, identity.length
        ):
            # It leads to somebody who does not have it: damage that no checksum tells; it must not show one person what is
            # another's.
            work.customer.damaged = 1
            return 0
        if not _is_another(&work.customer.record, request.identities, i):
            return 0
        memset(&work.customer, 0, sizeof(work.customer))
    return 0


cdef inline bint _is_another(const RecordView* record, const Identity* above, uint32_t count) noexcept nogil:
    """Whether one of the identities that are trusted more cannot be the customer's, who has another of its namespace."""
    cdef uint32_t i
    for i in range(count):
        if above[i].single and identifiers_exclude(
            record.identifiers, record.identifier_count, above[i].namespace, above[i].text, above[i].length
        ):
            return True
    return False


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
    if work.plan.own_contacts:
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
    return find_household(work, snapshot)


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
        for i in range(plan.attribute_count):
            read_attribute(&work.customer.record, &plan.attributes[i], &work.frame[plan.attributes[i].slot])
        _read_consents(work)
    _read_cases(work)
    if plan.household.used:
        fill_household(work)
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
    """Whether a case is open, the customer's own or his household's, is never missing: nobody unknown has one."""
    cdef const Tables* plan = work.plan
    cdef uint32_t i
    cdef bint open_
    for i in range(plan.case_count):
        open_ = work.customer.has_record and _is_open(&work.customer.record, &plan.cases[i], work.request.as_of_us)
        if not open_ and work.customer.household.has_record:
            open_ = _is_open(&work.customer.household.record, &plan.cases[i], work.request.as_of_us)
        work.frame[plan.cases[i].slot].state = PRESENT
        work.frame[plan.cases[i].slot].i = open_


cdef bint _is_open(const RecordView* record, const BoundCase* wanted, int64_t now) noexcept nogil:
    cdef uint32_t i
    cdef CaseEntry entry
    for i in range(record.case_count):
        record_case(record, i, &entry)
        if entry.kind == wanted.kind and case_is_open(&entry, now) and (
            wanted.product == 0 or case_product(&entry) in (0, wanted.product)
        ):
            return True
    return False
