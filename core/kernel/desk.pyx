"""From the bytes of a DecideRequest to the bytes of a DecideResponse, without the GIL and without a Python object.

`request_bytes` reads, `core.kernel.deciding` decides, `answer_bytes` writes; here is what stands around them: whether the
call has come too late, whether this thread may take it, what time it is and which seed it gets.

Nothing is allocated once scratch and answer have grown, except where decoding or deciding meets a larger request than
ever before.

Measured for `shop` (one identifier and one placement in; three priced offers with two content fields each, 1,010 bytes,
out): 4,000 instructions beside the 74,500 of the decision itself, 0.42 us beside 6.3 us. Of it 0.04 us is decoding; a
request of six identifiers and five facts of all kinds takes 0.4 us. Clocks and the drawn seed are in it.
"""

from libc.stddef cimport size_t
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

import os

from core.errors import EngineFault
from core.kernel.answer_bytes cimport write_answer
from core.kernel.deciding cimport DECIDE_MEMORY, DECIDED, decide
from core.kernel.desk_state cimport Bytes, Desk
from core.kernel.instance_token cimport siphash128
from core.kernel.plan cimport Plan, Tables
from core.kernel.request_bytes cimport read_request, request_scratch
from core.kernel.workspace cimport Request, give_back, take

cdef extern from "time.h" nogil:
    ctypedef int clockid_t
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(clockid_t clock, timespec* now)
    clockid_t CLOCK_MONOTONIC
    clockid_t CLOCK_REALTIME

cdef enum:
    # A request longer than this is no business of a desk; core.limits.MESSAGE_BYTES is far below.
    REQUEST_BYTES = 1 << 28
    # Twice the room core.inference.runner wants for a run on the caller's thread: time passes until it asks.
    INLINE_ROOM = 16
    # As long as all models of one decision may take on a thread that has other calls to serve.
    INLINE_NS = 1_000_000
    # As in core.kernel.scoring.
    ANSWER_NS = 2_000_000


cdef inline int64_t _clock_ns(clockid_t clock) noexcept nogil:
    cdef timespec now
    clock_gettime(clock, &now)
    return <int64_t> now.tv_sec * 1_000_000_000 + now.tv_nsec


cdef bint _may_wait(const Tables* plan, int64_t deadline_ns, int64_t now_ns) noexcept nogil:
    """Whether a decision over this plan could have to wait for a model, or hold its thread for long with one, if every
    offer survived to be scored."""
    cdef uint32_t i
    cdef int64_t left = INT64_MAX, shortest, reserve
    cdef double needed, together = 0.0
    if deadline_ns:
        # What core.kernel.scoring keeps for what comes after the models. With no time left for them they are late at once.
        reserve = (deadline_ns - now_ns) // 5
        reserve = ANSWER_NS if reserve < ANSWER_NS else reserve
        reserve = 10 * ANSWER_NS if reserve > 10 * ANSWER_NS else reserve
        left = deadline_ns - now_ns - reserve
        if left <= 0:
            return False
    for i in range(plan.model_table_count):
        if plan.model_tables[i].model.inline_base_ns < 0.0:
            return True
        needed = plan.model_tables[i].model.inline_base_ns
        needed += (1 if plan.model_tables[i].per_customer else plan.model_tables[i].rows) * (
            plan.model_tables[i].model.inline_row_ns
        )
        shortest = plan.model_tables[i].model.budget_ns
        if left < shortest:
            shortest = left
        together += needed
        if needed * INLINE_ROOM > <double> shortest or together > INLINE_NS:
            return True
    return False


cdef uint64_t _draw(Desk* desk) noexcept nogil:
    """A seed nobody can foretell from those before it: SipHash of a counter under the desk's own key."""
    cdef uint8_t[16] drawn
    cdef uint64_t seed
    desk.seeds += 1
    siphash128(<const uint8_t*> &desk.seeds, sizeof(uint64_t), desk.seed_key, drawn)
    memcpy(&seed, drawn, sizeof(uint64_t))
    return seed


cdef inline int _failed(Desk* desk, int fault) noexcept nogil:
    desk.fault = fault
    return DESK_FAILED


cdef int desk_decide(
    Desk* desk, const uint8_t* data, size_t size, int64_t arrived_ns, int64_t deadline_ns, Bytes* out
) noexcept nogil:
    cdef Request* request = &desk.request
    cdef int64_t now_ns = 0, until_ns = deadline_ns
    cdef int code
    if desk.work == NULL or size > REQUEST_BYTES:
        return DESK_ELSEWHERE
    if deadline_ns or desk.plan.model_table_count:
        now_ns = _clock_ns(CLOCK_MONOTONIC)
    if deadline_ns and now_ns >= deadline_ns:
        return DESK_EXPIRED
    if not request_scratch(desk, size):
        return _failed(desk, DECIDE_MEMORY)
    if not read_request(desk, data, size):
        return DESK_ELSEWHERE
    if desk.budget_ns and (until_ns == 0 or arrived_ns + desk.budget_ns < until_ns):
        until_ns = arrived_ns + desk.budget_ns
    if desk.plan.model_table_count and not desk.may_wait and _may_wait(desk.plan, until_ns, now_ns):
        return DESK_SLOW
    request.deadline_ns = until_ns
    if not desk.has_as_of:
        request.as_of_us = _clock_ns(CLOCK_REALTIME) // 1000
    if not desk.has_seed:
        request.seed = _draw(desk)
    code = decide(desk.work, desk.snapshot, request)
    if code != DECIDED:
        return _failed(desk, code)
    if not write_answer(desk, out):
        return _failed(desk, DECIDE_MEMORY)
    return DESK_DONE


cdef class DeskHolder:
    """A desk over a plan, with a workspace of its own. To be used by one thread at a time."""

    def __cinit__(self, Plan plan not None):
        cdef bytes key = os.urandom(16)
        memset(&self.desk, 0, sizeof(Desk))
        self.plan = plan
        self._space = take(plan)
        self.desk.plan = &plan.tables
        self.desk.names = plan.names
        self.desk.work = &self._space.work
        self.desk.snapshot = &self._space.snapshot
        memcpy(self.desk.seed_key, <const char*> key, 16)

    def __dealloc__(self):
        free(self.desk.scratch)
        free(self.desk.answer)

    cpdef close(self):
        if self._space is not None:
            # From now on every request is for the Python path; the plan stays, with all that was borrowed from it.
            self.desk.work = NULL
            self.desk.snapshot = NULL
            give_back(self.plan, self._space)
            self._space = None

    @property
    def may_wait(self):
        return bool(self.desk.may_wait)

    @may_wait.setter
    def may_wait(self, bint may):
        self.desk.may_wait = may

    def decide(self, bytes data not None, deadline_us=None):
        cdef Bytes out
        cdef size_t size = len(data)
        cdef int64_t arrived = _clock_ns(CLOCK_MONOTONIC)
        cdef int64_t deadline = 0
        # A copy without the zero that Python ends bytes with: a sanitizer then sees the first byte read past the end.
        cdef uint8_t* raw = <uint8_t*> malloc(size if size else 1)
        if raw == NULL:
            raise MemoryError("a request")
        memcpy(raw, <const char*> data, size)
        if deadline_us is not None:
            deadline = max(1, arrived + <int64_t> deadline_us * 1000)
        with nogil:
            self.code = desk_decide(&self.desk, raw, size, arrived, deadline, &out)
            free(raw)
        return (<const char*> out.data)[:out.size] if self.code == DESK_DONE else None

    def measure(self, requests, int rounds):
        import numpy as np  # only a benchmark needs it

        cdef Bytes out
        cdef bytes data
        cdef const uint8_t* raw
        cdef size_t size, at = 0
        cdef int64_t began = 0, ended = 0
        taken = np.empty((len(requests) * rounds, 2), np.int64)
        cdef int64_t[:, ::1] spent = taken
        for _ in range(rounds):
            for data in requests:
                raw = <const uint8_t*> <const char*> data
                size = len(data)
                with nogil:
                    began = _clock_ns(CLOCK_MONOTONIC)
                    self.code = desk_decide(&self.desk, raw, size, began, 0, &out)
                    ended = _clock_ns(CLOCK_MONOTONIC)
                if self.code != DESK_DONE:
                    raise EngineFault(f"a desk did not answer a request that is measured: {self.code}")
                spent[at, 0] = ended - began
                spent[at, 1] = self.desk.work.took_ns
                at += 1
        return taken
