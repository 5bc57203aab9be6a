"""What other handlers do with memberships; see households.pyx."""

from libc.stdint cimport int64_t, uint64_t

from core.hub.apply cimport Applier
from core.hub.membership cimport Membership


# Whether the customer is in a household, and its id, since when and his role in `membership`.
cdef bint membership_of(Applier applier, uint64_t customer, Membership* membership) except -1
# Make him a member, as said at `told`; in another household he is one no more. A role of 0 keeps the one he has there. False,
# and nothing is changed, where something newer was said.
cdef bint enter(
    Applier applier, uint64_t customer, uint64_t household, int64_t since, int role, int64_t told
) except -1
# End his membership, as said at `told`, unless something newer was said; the household's id, 0 when he was in none. With 0
# nothing is kept of what was said either.
cdef uint64_t leave(Applier applier, uint64_t customer, int64_t told) except? 0
# Give the survivor of a join the membership that stands: his own, or the first of those joined into him.
cdef int unite_memberships(Applier applier, uint64_t customer, list others) except -1
# Put an undone join's customer back into the household he was in, if it is still there.
cdef int return_to(Applier applier, uint64_t customer, bytes membership) except -1
# Add contacts that now count for the customer, (at, dedup, instance, value, offer, outcome, channel), to his household's.
cdef int share_contacts(Applier applier, uint64_t customer, list contacts) except -1
# Remove a household with everything kept under its id; its members are in none afterwards. The keys of its identifiers.
cdef list dissolve(Applier applier, uint64_t household)
# Who is in the household: their ids.
cdef list members_of(Applier applier, uint64_t household)
