"""The bounds of instants and durations for compiled code; `instants.py` says what they are."""

from libc.stdint cimport int64_t

cdef extern from * nogil:
    """
    #define RAPPORT_FIRST_SECOND INT64_C(-62135596800)
    #define RAPPORT_LAST_SECOND INT64_C(253402300799)
    #define RAPPORT_FIRST_US (RAPPORT_FIRST_SECOND * 1000000)
    #define RAPPORT_LAST_US (RAPPORT_LAST_SECOND * 1000000 + 999999)
    #define RAPPORT_LONGEST_SECONDS INT64_C(315576000000)
    """
    const int64_t FIRST_SECOND "RAPPORT_FIRST_SECOND"
    const int64_t LAST_SECOND "RAPPORT_LAST_SECOND"
    const int64_t FIRST_US "RAPPORT_FIRST_US"
    const int64_t LAST_US "RAPPORT_LAST_US"
    const int64_t LONGEST_SECONDS "RAPPORT_LONGEST_SECONDS"
