"""Score: propensity, value, weights and priority of every survivor."""

from core.kernel.workspace cimport Work

cdef void score_survivors(Work* work) noexcept nogil
