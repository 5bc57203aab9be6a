"""Aggregates over the customer's events: stored ones and those of the moment."""

from core.kernel.workspace cimport Work

cdef void fill_aggregates(Work* work) noexcept nogil
