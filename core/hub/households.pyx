"""Households: who is in which, and the contacts that count for all of one: `SetMembership`, `LeaveHousehold`.

A household is a record like a customer's, with attributes of its own, found by identifiers of namespaces that name
households. Who is in which lies beside the records (core/hub/membership.pxd), so that only what asks for it pays.

The household's contact list holds, at any time, exactly the contacts of its present members, each from when he joined: what
a decision's household caps count is one list, read once. It is a function of the members' own lists, so joins, undo,
erasure and leaving work it out anew and need to know nothing of what was counted before. Only a full list differs: each
keeps its newest. An entry's dedup number is hashed with its member's id, so that two members' entries stay two, and a
repeat stays one.
"""

from libc.stdint cimport INT64_MIN, UINT64_MAX, int64_t, uint8_t, uint32_t, uint64_t

import struct

from core.hub.apply cimport Applier
from core.hub.contact_rows cimport pack_contacts
from core.hub.contacts cimport ContactEntry, contacts_merge
from core.hub.membership cimport Membership, membership_open
from core.hub.record cimport damaged, rapport_siphash
from core.hub.values cimport check_time

from core import limits
from core.errors import BadValue, NotFound, TooLarge
from core.hub import contacts as contact_lists
from core.hub.apply import register
from core.hub.membership import pack_members, pack_membership, unpack_members, unpack_membership
from core.hub.mutations import LeaveHousehold, LeftResult, MembershipResult, SetMembership
from core.hub.record import Record


cdef bint told_of(Applier applier, uint64_t customer, Membership* membership) except -1:
    """Whether it was ever said where he is; in `membership` what was said last, household 0 when he left."""
    cdef bytes stored
    cdef int code
    if not applier.households:
        return False
    stored = applier.membership(customer)
    if stored is None:
        return False
    code = membership_open(<const uint8_t*><const char*>stored, len(stored), membership)
    if code:
        raise damaged(code, f"Customer {customer}'s membership")
    return True


cdef bint membership_of(Applier applier, uint64_t customer, Membership* membership) except -1:
    return told_of(applier, customer, membership) and membership.household != 0


cdef list members_of(Applier applier, uint64_t household):
    return unpack_members(applier.membership(household), household)


cdef int set_members(Applier applier, uint64_t household, list members) except -1:
    applier.memberships[household] = pack_members(members) if members else None
    return 0


cdef bint goes_before(const Membership* old, uint64_t household, int64_t told) noexcept:
    """Whether what is known of him stands against what is said of a moment, that he is in a household, or in none (0). Of one
    moment leaving goes before, then the household with the higher id, so that repeats and order change nothing."""
    if told != old.told or old.household == household:
        return told < old.told
    return old.household == 0 or (household != 0 and old.household > household)


cdef int interrupted(Applier applier, uint64_t customer, const Membership* old, int64_t told) except -1:
    """It is told late that he was elsewhere, or in none, while he was thought to be in this household all along: what is known
    of the stay since is the newest statement."""
    if old.household == 0 or told <= old.apart or told >= old.told:
        return 0
    # Of a moment before the stay it says that nothing older belongs to it.
    applier.memberships[customer] = pack_membership(
        old.household, old.told if told > old.since else old.since, old.role, old.told, told)
    if told > old.since:
        recount(applier, old.household)
    return 0


cdef bint enter(
    Applier applier, uint64_t customer, uint64_t household, int64_t since, int role, int64_t told
) except -1:
    cdef Membership old
    cdef bint known = told_of(applier, customer, &old)
    cdef int64_t apart = old.apart if known else INT64_MIN
    if known and old.household == household:
        # What was before he was elsewhere is another stay.
        if since > apart:
            since = min(since, old.since)
        else:
            since = old.since
        if told > apart:
            role = (role or old.role) if told >= old.told else (old.role or role)
        else:
            role = old.role
        told = max(told, old.told)
    elif known and goes_before(&old, household, told):
        interrupted(applier, customer, &old, told)
        return False
    else:
        if known:
            apart = old.told
        leave(applier, customer, 0)
        set_members(applier, household, [*members_of(applier, household), customer])
    built = pack_membership(household, since, role, told, apart)
    if built != applier.membership(customer):
        applier.memberships[customer] = built
        if not known or old.household != household or old.since != since:
            recount(applier, household)
    return True


cdef uint64_t leave(Applier applier, uint64_t customer, int64_t told) except? 0:
    cdef Membership old
    cdef bint known = told_of(applier, customer, &old)
    if told and known and goes_before(&old, 0, told):
        interrupted(applier, customer, &old, told)
        return 0
    if told:
        applier.memberships[customer] = pack_membership(0, 0, 0, told)
    elif known:
        applier.memberships[customer] = None
    if not known or old.household == 0:
        return 0
    set_members(applier, old.household, [each for each in members_of(applier, old.household) if each != customer])
    recount(applier, old.household)
    return old.household


cdef int unite_memberships(Applier applier, uint64_t customer, list others) except -1:
    cdef Membership mine, theirs
    for other in others:
        if not told_of(applier, other, &theirs):
            continue
        stored = applier.membership(other)
        leave(applier, other, 0)
        if not told_of(applier, customer, &mine):
            return_to(applier, customer, stored)
            continue
        if mine.household != 0 and mine.household != theirs.household:
            continue
        # In one household they were one member all along, from the earlier of both times. He who had left takes no older one.
        if theirs.household:
            enter(applier, customer, theirs.household, theirs.since, theirs.role, theirs.told)
        else:
            leave(applier, customer, theirs.told)
    if membership_of(applier, customer, &mine):
        recount(applier, mine.household)
    return 0


cdef int return_to(Applier applier, uint64_t customer, bytes membership) except -1:
    leave(applier, customer, 0)
    if membership is None:
        return 0
    household, since, role, told, _ = unpack_membership(membership, customer)
    if not household:
        applier.memberships[customer] = membership
    elif applier.record(household) is not None:
        enter(applier, customer, household, since, role, told)
        applier.memberships[customer] = membership
    return 0


cdef object counted(uint64_t customer, tuple contact):
    """The contact as his household keeps it."""
    cdef bytes raw = struct.pack("<QQ", customer, contact[1])
    return (contact[0], rapport_siphash(<const uint8_t*><const char*>raw, len(raw)), *contact[2:])


cdef bytes merged_contacts(Applier applier, uint64_t household, bytes stored, list added):
    cdef const uint8_t* start = NULL
    cdef size_t size = 0
    cdef int code
    pack_contacts(&applier.entries, added)
    if stored is not None:
        start = <const uint8_t*><const char*>stored
        size = len(stored)
    code = contacts_merge(
        start, size, <ContactEntry*>applier.entries.data, <uint32_t>len(added), NULL, &applier.merged)
    if code < 0:
        raise MemoryError
    if code:
        raise damaged(code, f"The contact history of household {household}")
    return applier.merged.data[:applier.merged.size]


cdef int share_contacts(Applier applier, uint64_t customer, list contacts) except -1:
    cdef Membership membership
    if not contacts or not membership_of(applier, customer, &membership):
        return 0
    added = [counted(customer, contact) for contact in contacts if contact[0] >= membership.since]
    if added:
        applier.contacts[membership.household] = merged_contacts(
            applier, membership.household, applier.contact_list(membership.household), added)
    return 0


cdef int recount(Applier applier, uint64_t household) except -1:
    """Make the household's contact list what its members' lists say."""
    cdef Membership membership
    cdef bytes stored
    found = []
    for member in members_of(applier, household):
        stored = applier.contact_list(member)
        if stored is not None and membership_of(applier, member, &membership):
            for contact in contact_lists.unpack(stored, f"Customer {member}'s contact history"):
                if contact[0] >= membership.since:
                    found.append(counted(member, contact))
    # Sorted and cut before they are merged, which compares each with all others.
    found.sort()
    found = found[max(0, len(found) - limits.CONTACTS_PER_CUSTOMER):]
    stored = merged_contacts(applier, household, None, found) if found else None
    if stored != applier.contact_list(household):
        applier.contacts[household] = stored
    return 0


cdef list dissolve(Applier applier, uint64_t household):
    cdef bytes stored
    keys = []
    for member in members_of(applier, household):
        applier.memberships[member] = None
    stored = applier.record(household)
    if stored is not None:
        for number, value in Record(stored, f"The record of household {household}").identifiers:
            keys.append(struct.pack(">H", number) + value)
            applier.identifiers[struct.pack(">H", number) + value] = 0
        applier.records[household] = None
    for table, kept in (
        (applier.memberships, applier.membership(household)), (applier.contacts, applier.contact_list(household)),
        (applier.origins, applier.origin_list(household)), (applier.cases, applier.case_list(household)),
    ):
        if kept is not None:
            table[household] = None
    return keys


def _set_membership(Applier applier, mutation):
    cdef uint64_t customer, household, left = 0
    cdef Membership old
    cdef int role = applier.catalog.role(mutation.role) if mutation.role else 0
    check_time("at", mutation.at_us)
    homes = {owner for _, _, _, _, owner in applier.resolve(mutation.household, True, "household")[1] if owner}
    if len(homes) > 1:
        raise BadValue("household", f"its identifiers lead to {len(homes)} households", "Name one: a customer is in one at most.")
    customer, found = applier.resolve(mutation.identifiers)
    household = next(iter(homes), 0)
    known = customer and told_of(applier, customer, &old)
    if known and (household == 0 or old.household != household) and goes_before(&old, household or UINT64_MAX, mutation.at_us):
        # Who names two persons is told so here too. It changes nothing, but may be news of somebody who is parted from him again:
        # then it makes the household.
        applier.begin_record(customer)
        applier.check_one(customer, found)
        applier.touched.setdefault(customer, None)
        interrupted(applier, customer, &old, mutation.at_us)
        return MembershipResult(customer, household, False, False, superseded=True)
    household, made = applier.opened(mutation.household, mutation.at_us, False, True, "household")
    applier.finish_record(household)
    customer, created = applier.opened(mutation.identifiers, mutation.at_us)
    applier.finish_record(customer)
    known = told_of(applier, customer, &old)
    if not known or old.household != household:
        check_room(len(members_of(applier, household)))
        left = old.household if known else 0
    enter(applier, customer, household, mutation.at_us, role, mutation.at_us)
    return MembershipResult(customer, household, created, made, left)


def check_room(members):
    """Raise TooLarge unless one more member may enter a household that has so many."""
    if members >= limits.HOUSEHOLD_MEMBERS:
        raise TooLarge(
            "household: members", members + 1, limits.HOUSEHOLD_MEMBERS, field="household",
            hint="Look whether its identifier names more than one household, such as a building's address or an empty account; a "
            "member who is gone leaves by rapport profile household leave.")


def _leave_household(Applier applier, mutation):
    cdef uint64_t customer
    cdef Membership old
    check_time("at", mutation.at_us)
    customer, found = applier.resolve(mutation.identifiers)
    if not customer:
        raise NotFound("customer", ", ".join([each.namespace for each in mutation.identifiers]),
                       "None of the identifiers is known: compare their spelling with rapport profile show.")
    applier.begin_record(customer)
    applier.check_one(customer, found)
    applier.touched.setdefault(customer, None)
    was = membership_of(applier, customer, &old)
    left = leave(applier, customer, mutation.at_us)
    return LeftResult(customer, left, superseded=was and not left)


register(SetMembership, _set_membership)
register(LeaveHousehold, _leave_household)
