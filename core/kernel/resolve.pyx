"""Resolve: who the customer is, and the frame of everything the plan reads of them.

The most trusted known identifier wins: identities arrive by falling trust and the first that the store knows is
taken. The record is read where it lies in the map: a cell becomes a `Value`, a text a pointer into the record.
Aggregates are computed from the customer's event list by `core.kernel.aggregating`.
"""

from libc.stdint cimport INT64_MIN, int64_t, uint8_t, uint32_t
from libc.string cimport memset

from core.hub.environment cimport Snapshot, snapshot_customer, snapshot_get_customer
from core.hub.contacts cimport contacts_open
from core.hub.events cimport events_open
from core.hub.lmdb cimport MDB_NOTFOUND
from core.hub.record cimport (
    CaseEntry, FAULT_NONE, RecordView, case_is_open, case_product, record_case, record_consented, record_open,
)
from core.kernel.aggregating cimport fill_aggregates
from core.kernel.attributes cimport read_attribute
from core.kernel.household cimport fill_household, find_household
from core.kernel.plan cimport SLOT_CHANNEL, SLOT_KNOWN, SLOT_NOW, Tables
from core.kernel.values cimport PRESENT, Value
from core.kernel.workspace cimport Request, Work

cdef int find_customer(Work* work, Snapshot* snapshot) noexcept nogil:
    """Finds the customer and borrows their record, contacts and events from the snapshot.

    Returns 0, or an LMDB code when the store cannot be read. ``damaged`` is set where bytes fail their checks.
    """
    cdef const Request* request = work.request
    cdef uint32_t i
    cdef int code
    cdef const uint8_t* bytes
    cdef size_t size
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
    code = snapshot_get_customer(snapshot, snapshot.handles.profiles, work.customer.id, &bytes, &size)
    if code == 0:
        work.customer.has_record = 1
        if record_open(bytes, size, &work.customer.record) != FAULT_NONE:
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
    return find_household(work, snapshot)


cdef void fill_frame(Work* work) noexcept nogil:
    """Fills every slot of the frame; facts come last, so that nothing stored can stand in for them."""
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
