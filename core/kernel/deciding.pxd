"""One decision, stage after stage."""

from core.hub.snapshot cimport Snapshot
from core.kernel.workspace cimport Request, Work

cdef enum:
    # Beside LMDB's codes, which are 0, positive (errno) or from -30799 down.
    DECIDED = 0
    DECIDE_DAMAGED = -2  # something stored fails its checks
    DECIDE_MEMORY = -3  # an allocation failed

# `work` and `snapshot` are of one workspace.
cdef int decide(Work* work, Snapshot* snapshot, const Request* request) noexcept nogil
