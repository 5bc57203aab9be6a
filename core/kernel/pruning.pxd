"""Prune: offers that cannot be among the best are left out before they are scored."""

from core.kernel.workspace cimport Work

# In place of filter_conditions. Lists as survivors every offer that an answer could hold, and leaves out only such as it
# cannot. False: nothing was pruned, and the survivors are not listed.
cdef bint prune(Work* work) noexcept nogil
