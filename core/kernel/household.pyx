"""The customer's household: his role, its size, what its members share, and the contacts of all of them.

Nothing here can name another member: a household's list of contacts holds no customer, and of its members only the number
is read. A plan that reads nothing of households costs one comparison, one that does a read for the membership and one each
for record, contacts and members, as far as it names them.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from core.hub.contacts cimport ContactList, contacts_open
from core.hub.snapshot cimport Snapshot, snapshot_get_customer
from core.hub.lmdb cimport MDB_NOTFOUND
from core.hub.membership cimport Members, Membership, members_open, membership_open
from core.hub.record cimport FAULT_NONE, record_open
from core.kernel.attributes cimport read_attribute, read_label
from core.kernel.plan cimport HouseholdInputs
from core.kernel.values cimport PRESENT
from core.kernel.workspace cimport HouseholdView, Work


cdef int _read_contacts(Work* work, Snapshot* snapshot, uint64_t owner, ContactList* contacts) noexcept nogil:
    cdef const uint8_t* bytes
    cdef size_t size
    cdef int code = snapshot_get_customer(snapshot, snapshot.handles.contacts, owner, &bytes, &size)
    if code:
        return 0 if code == MDB_NOTFOUND else code
    if contacts_open(bytes, size, contacts) != FAULT_NONE:
        work.customer.damaged = 1
    return 0


cdef int find_household(Work* work, Snapshot* snapshot) noexcept nogil:
    cdef const HouseholdInputs* wanted = &work.plan.household
    cdef HouseholdView* household = &work.customer.household
    cdef Membership membership
    cdef Members members
    cdef const uint8_t* bytes
    cdef size_t size
    cdef int code
    if not wanted.used or work.customer.id == 0:
        return 0
    code = snapshot_get_customer(snapshot, snapshot.handles.memberships, work.customer.id, &bytes, &size)
    if code == 0:
        if membership_open(bytes, size, &membership) != FAULT_NONE:
            work.customer.damaged = 1
            return 0
        household.id = membership.household
        household.role = membership.role
    elif code != MDB_NOTFOUND:
        return code
    if household.id == 0:
        # Who is in none is counted alone.
        if wanted.contacts and not work.plan.own_contacts:
            return _read_contacts(work, snapshot, work.customer.id, &work.customer.contacts)
        return 0
    if wanted.attribute_count or wanted.cases:
        code = snapshot_get_customer(snapshot, snapshot.handles.households, household.id, &bytes, &size)
        if code == 0:
            household.has_record = 1
            if record_open(bytes, size, &household.record) != FAULT_NONE:
                work.customer.damaged = 1
        elif code != MDB_NOTFOUND:
            return code
    if wanted.contacts:
        code = _read_contacts(work, snapshot, household.id, &household.contacts)
        if code:
            return code
    if wanted.size_slot >= 0:
        code = snapshot_get_customer(snapshot, snapshot.handles.memberships, household.id, &bytes, &size)
        if code == 0:
            if members_open(bytes, size, &members) != FAULT_NONE:
                work.customer.damaged = 1
            household.size = members.count
        elif code != MDB_NOTFOUND:
            return code
    return 0


cdef void fill_household(Work* work) noexcept nogil:
    cdef const HouseholdInputs* wanted = &work.plan.household
    cdef const HouseholdView* household = &work.customer.household
    cdef uint32_t i
    if wanted.size_slot >= 0:
        # Never missing: in no household is one of size 0.
        work.frame[wanted.size_slot].state = PRESENT
        work.frame[wanted.size_slot].i = household.size
    if wanted.role_slot >= 0:
        read_label(&wanted.role, household.role, &work.frame[wanted.role_slot])
    if household.has_record:
        for i in range(wanted.attribute_count):
            read_attribute(&household.record, &wanted.attributes[i], &work.frame[wanted.attributes[i].slot])
