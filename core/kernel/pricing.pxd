"""Price: what a winner costs this customer, in integer minor units."""

from core.kernel.workspace cimport Winner, Work

cdef void price_winner(Work* work, Winner* winner) noexcept nogil
