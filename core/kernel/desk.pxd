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
from libc.stdint cimport int64_t, uint8_t

from core.kernel.desk_state cimport Bytes, Desk
from core.kernel.plan cimport Plan
from core.kernel.workspace cimport Workspace

cdef enum DeskCode:
    DESK_DONE = 0  # `out` holds the bytes of a DecideResponse
    DESK_ELSEWHERE = 1  # unusual or wrong: the Python path takes the same bytes, and words the error if it is one
    DESK_SLOW = 2  # a model may have to be waited for: decide on a thread that may, with desk.may_wait set
    DESK_EXPIRED = 3  # the call's own deadline had passed before work began: DEADLINE_EXCEEDED
    DESK_FAILED = 4  # memory, a damaged record or LMDB; `desk.fault` says which. The Python path words it

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
