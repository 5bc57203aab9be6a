"""What one native thread needs to decide over one plan, from a request's bytes to an answer's, without Python.

A `Desk` is made under the GIL (`DeskHolder(plan)`), then used by one thread at a time without it. It reads only what
its plan and itself hold, so the thread must keep the `DeskHolder` alive (a reference taken under the GIL) for as long
as it uses ``&holder.desk``. One desk is one workspace and one reader of the store: a thread that serves several plans
in turn (after a program was loaded) makes a desk for each and drops the old one, because a plan's desks keep its
memory and a snapshot of the store.

How a transport uses it::

    cdef Bytes out
    code = desk_decide(&holder.desk, data, size, arrived_ns, deadline_ns, &out)

Nothing is kept of a decision but its answer, so whatever code comes back the same bytes may be given to another desk or
to the Python path.
"""

cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from core.hub.environment cimport Snapshot
from core.kernel.names cimport Names
from core.kernel.plan cimport Plan, Tables
from core.kernel.workspace cimport Fact, Identity, Request, Wanted, Work, Workspace

cdef enum DeskCode:
    DESK_DONE = 0  # `out` holds the bytes of a DecideResponse
    DESK_ELSEWHERE = 1  # unusual or wrong: the Python path takes the same bytes, and words the error if it is one
    DESK_SLOW = 2  # a model may have to be waited for: decide on a thread that may, with desk.may_wait set
    DESK_EXPIRED = 3  # the call's own deadline had passed before work began: DEADLINE_EXCEEDED
    DESK_FAILED = 4  # memory, a damaged record or LMDB; `desk.fault` says which. The Python path words it

cdef enum:
    # core.limits of the same names, asserted in desk.pyx.
    IDENTIFIERS_PER_REQUEST = 16
    IDENTIFIER_BYTES = 256
    PLACEMENTS_PER_REQUEST = 64
    FACTS_PER_REQUEST = 128
    SLOTS_PER_PLACEMENT = 100
    STRING_BYTES = 1024
    SET_MEMBERS = 256

cdef struct Bytes:
    const uint8_t* data  # owned by the desk: valid until its next call or its end
    size_t size  # bytes

cdef struct Spelled:
    const char* text  # borrowed from the request
    uint32_t length  # bytes

cdef struct Desk:
    # The caller's.
    uint8_t may_wait  # 0 (as made): a decision that may wait for a model gives DESK_SLOW; 1: it is made, and waits
    int fault  # after DESK_FAILED: DECIDE_DAMAGED, DECIDE_MEMORY or an LMDB code
    # The desk's own.
    const Tables* plan  # of the holder's plan
    const Names* names  # likewise
    Work* work  # of the holder's workspace
    Snapshot* snapshot  # likewise
    Request request  # of the decision at hand
    int64_t budget_ns  # its time_budget; 0: none
    uint8_t has_as_of  # it says as_of
    uint8_t has_seed  # it says seed
    uint32_t channel  # index among the program's channels
    Identity[IDENTIFIERS_PER_REQUEST] identities
    int32_t[IDENTIFIERS_PER_REQUEST] trusts  # of the identities
    Fact[FACTS_PER_REQUEST] facts
    Spelled[PLACEMENTS_PER_REQUEST] sought  # placements by name, until the channel is known
    Wanted[PLACEMENTS_PER_REQUEST] wanted
    Spelled[SET_MEMBERS] members  # scratch of one set
    char* scratch  # owned: normalised identifiers and encoded sets of the decision at hand
    size_t scratch_size  # bytes allocated
    size_t scratch_used
    uint8_t* answer  # owned: the answer, written from its end
    size_t answer_size  # bytes allocated
    uint8_t[16] seed_key  # from os.urandom
    uint64_t seeds  # drawn so far

# Decodes the request in `data`, decides, and encodes the answer into `out`. Gives a DeskCode; `out` is set with DESK_DONE
# only. Never reads past `size`, never keeps `data`. Times are on CLOCK_MONOTONIC in nanoseconds: `arrived_ns` is when the
# request reached the server (a time_budget counts from it), `deadline_ns` the call's own deadline, 0 for none.
cdef int desk_decide(
    Desk* desk, const uint8_t* data, size_t size, int64_t arrived_ns, int64_t deadline_ns, Bytes* out
) noexcept nogil


@cython.final
cdef class DeskHolder:
    """Owns a desk, and what it reads: a plan and one of its workspaces. To be used by one thread at a time."""

    cdef Desk desk  # valid as long as this object, until close
    cdef readonly Plan plan  # what it decides over; kept also after close
    cdef readonly int code  # the DeskCode of the last `decide`
    cdef Workspace _space
    cpdef close(self)
