"""The customer's household, as far as the plan reads it; see household.pyx."""

from core.hub.snapshot cimport Snapshot
from core.kernel.workspace cimport Work

# Borrows what the plan reads of the customer's household from the snapshot; 0, or an LMDB code. ``damaged`` is set where
# bytes fail their checks.
cdef int find_household(Work* work, Snapshot* snapshot) noexcept nogil
# Fills role, size and shared attributes into the frame.
cdef void fill_household(Work* work) noexcept nogil
