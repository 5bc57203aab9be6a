"""Score: propensity, value, weights and priority of every survivor."""

from libc.stdint cimport uint32_t

from core.kernel.plan cimport ScoreTable
from core.kernel.workspace cimport Work

cdef void read_features(Work* work, const ScoreTable* table) noexcept nogil  # into work.features, padded with 0
cdef void score_survivors(Work* work) noexcept nogil
cdef void describe_contender(Work* work, uint32_t index) noexcept nogil
