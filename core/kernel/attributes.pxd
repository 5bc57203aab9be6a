"""Attributes read where they lie in a record; see attributes.pyx."""

from core.hub.record cimport RecordView
from core.kernel.plan cimport BoundAttribute
from core.kernel.values cimport Value

# A value of a record into its slot, which is MISSING (all 0) before.
cdef void read_attribute(const RecordView* record, const BoundAttribute* bound, Value* value) noexcept nogil
# The text of a label's code into its slot; a code that this plan does not know is missing.
cdef void read_label(const BoundAttribute* bound, int code, Value* value) noexcept nogil
