"""Makes and frees workspaces: memory of a plan's sizes, and a snapshot of their own.

A plan keeps its free workspaces in a list; taking one and giving it back happens under the GIL, so two threads never
share one. The list holds as many as ever decided at once.
"""

cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from core.hub.snapshot cimport snapshot_close, snapshot_open, snapshot_reset
from core.hub.lmdb cimport error_for
from core.kernel.arena cimport arena_close, arena_open
from core.kernel.plan cimport Plan, Tables
from core.kernel.values cimport Value

cdef enum:
    # A decision's texts take a few hundred bytes; the busiest history's DISTINCT tables half a MiB each.
    ARENA_FIRST = 16_384
    ARENA_MOST = 1 << 28


# The snapshot borrows from the environment, which must therefore outlive __dealloc__ also when a cycle is collected.
@cython.no_gc_clear
cdef class Workspace:
    """Memory for one decision at a time over one plan. Taken with `take`, given back with `give_back`."""

    def __cinit__(self, Plan plan):
        cdef Work* work = &self.work
        cdef const Tables* tables = &plan.tables
        cdef size_t offers = tables.offers + 1
        cdef size_t widest = 8
        cdef uint32_t i
        for i in range(tables.score_table_count):
            widest = max(widest, <size_t> tables.score_tables[i].width)
        work.plan = tables
        work.frame = <Value*> _zeroed(tables.slots, sizeof(Value))
        arena_open(&work.arena, ARENA_FIRST, ARENA_MOST)
        work.alive = <uint64_t*> _zeroed(tables.words, sizeof(uint64_t))
        work.wanted_mask = <uint64_t*> _zeroed(tables.words, sizeof(uint64_t))
        work.model_failed = <uint64_t*> _zeroed(tables.words, sizeof(uint64_t))
        work.undefined = <uint64_t*> _zeroed(tables.words, sizeof(uint64_t))
        work.returned = <uint64_t*> _zeroed(tables.words, sizeof(uint64_t))
        work.limited = <uint64_t*> _zeroed(tables.words, sizeof(uint64_t))
        work.condition_stamp = <uint32_t*> _zeroed(tables.conditions, sizeof(uint32_t))
        work.number_stamp = <uint32_t*> _zeroed(tables.expressions, sizeof(uint32_t))
        work.number_value = <double*> _zeroed(tables.expressions, sizeof(double))
        work.cap_counts = <uint64_t*> _zeroed(tables.caps, sizeof(uint64_t))
        work.suppression_stamp = <uint32_t*> _zeroed(tables.suppressions, sizeof(uint32_t))
        work.suppression_count = <uint32_t*> _zeroed(tables.suppressions, sizeof(uint32_t))
        work.suppression_active = <uint8_t*> _zeroed(tables.suppressions, sizeof(uint8_t))
        work.ring = <int64_t*> _zeroed(tables.ring_entries, sizeof(int64_t))
        work.triggered = <uint32_t*> _zeroed(tables.suppressions, sizeof(uint32_t))
        work.survivors = <uint32_t*> _zeroed(offers, sizeof(uint32_t))
        work.contenders = <Contender*> _zeroed(offers, sizeof(Contender))
        work.priorities = <double*> _zeroed(offers, sizeof(double))
        work.propensities = <double*> _zeroed(offers, sizeof(double))
        work.model_statuses = <uint8_t*> _zeroed(offers, sizeof(uint8_t))
        work.causes = <Undefined*> _zeroed(offers, sizeof(Undefined))
        work.rows = <uint32_t*> _zeroed(offers, sizeof(uint32_t))
        work.totals = <double*> _zeroed(offers, sizeof(double))
        work.order = <uint32_t*> _zeroed(offers, sizeof(uint32_t))
        work.card_heads = <int32_t*> _zeroed(tables.score_table_count, sizeof(int32_t))
        work.model_heads = <int32_t*> _zeroed(tables.model_table_count, sizeof(int32_t))
        work.chain = <int32_t*> _zeroed(offers, sizeof(int32_t))
        work.group_stamp = <uint32_t*> _zeroed(tables.groups, sizeof(uint32_t))
        work.group_page = <uint32_t*> _zeroed(tables.groups, sizeof(uint32_t))
        work.group_here = <uint32_t*> _zeroed(tables.groups, sizeof(uint32_t))
        work.features = <double*> _zeroed(widest, sizeof(double))
        work.contender_of = <int32_t*> _zeroed(offers, sizeof(int32_t))
        if (
            work.frame == NULL or work.alive == NULL or work.wanted_mask == NULL
            or work.model_failed == NULL or work.undefined == NULL or work.returned == NULL
            or work.limited == NULL or work.condition_stamp == NULL or work.number_stamp == NULL
            or work.number_value == NULL or work.cap_counts == NULL
            or work.suppression_stamp == NULL or work.suppression_count == NULL
            or work.suppression_active == NULL or work.ring == NULL or work.triggered == NULL
            or work.survivors == NULL or work.contenders == NULL or work.causes == NULL
            or work.priorities == NULL or work.propensities == NULL or work.model_statuses == NULL
            or work.rows == NULL or work.totals == NULL
            or work.card_heads == NULL or work.model_heads == NULL or work.chain == NULL or work.order == NULL
            or work.group_stamp == NULL or work.group_page == NULL
            or work.group_here == NULL or work.features == NULL or work.contender_of == NULL
        ):
            raise MemoryError("a workspace")
        self._environment = plan.environment
        code = snapshot_open(&self.snapshot, &self._environment.handles)
        if code:
            raise error_for(code, "open a snapshot", self._environment.path, False)
        snapshot_reset(&self.snapshot)

    def __dealloc__(self):
        cdef Work* work = &self.work
        snapshot_close(&self.snapshot)
        arena_close(&work.arena)
        free(work.frame)
        free(work.alive)
        free(work.wanted_mask)
        free(work.model_failed)
        free(work.undefined)
        free(work.returned)
        free(work.limited)
        free(work.condition_stamp)
        free(work.number_stamp)
        free(work.number_value)
        free(work.cap_counts)
        free(work.suppression_stamp)
        free(work.suppression_count)
        free(work.suppression_active)
        free(work.ring)
        free(work.triggered)
        free(work.survivors)
        free(work.contenders)
        free(work.causes)
        free(work.priorities)
        free(work.propensities)
        free(work.model_statuses)
        free(work.rows)
        free(work.totals)
        free(work.order)
        free(work.card_heads)
        free(work.model_heads)
        free(work.chain)
        free(work.group_stamp)
        free(work.group_page)
        free(work.group_here)
        free(work.features)
        free(work.contender_of)
        free(work.winners)
        free(work.spans)
        free(work.output)
        free(work.filled)
        free(work.verdicts)


cdef void* _zeroed(size_t count, size_t size) noexcept:
    """Zeroed memory for at least one element; NULL when there is none."""
    return calloc(count if count else 1, size)


cdef Workspace take(Plan plan):
    """A free workspace of the plan, or a new one."""
    if plan.workspaces:
        return <Workspace> plan.workspaces.pop()
    return Workspace(plan)


cdef void give_back(Plan plan, Workspace space) noexcept:
    """Returns a workspace to its plan."""
    if not plan.closed:
        plan.workspaces.append(space)
