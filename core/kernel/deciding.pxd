"""One decision, stage after stage."""

from core.kernel.workspace cimport Request, Workspace

cdef enum:
    # Beside LMDB's codes, which are 0, positive (errno) or from -30799 down.
    DECIDED = 0
    DECIDE_DAMAGED = -2  # something stored fails its checks
    DECIDE_MEMORY = -3  # an allocation failed

cdef int decide(Workspace space, const Request* request) noexcept nogil
