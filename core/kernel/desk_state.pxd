"""What a desk holds: of its plan, of the request at hand, and of the answer.

`request_bytes` fills the request, `core.kernel.deciding` decides it, `answer_bytes` writes what came of it; `desk.pxd`
says who may use a desk and when.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from core.hub.snapshot cimport Snapshot
from core.kernel.names cimport Names
from core.kernel.plan cimport Tables
from core.kernel.workspace cimport Fact, Identity, Request, Wanted, Work

cdef enum:
    # core.limits of the same names, asserted in request_bytes.pyx.
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
