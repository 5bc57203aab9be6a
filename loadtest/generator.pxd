"""The generator as a class; what it is made of is in `state.pxd`."""

from libc.stdint cimport int64_t, uint64_t

from loadtest.state cimport Loop, Method

cdef class Generator:
    cdef Loop* loop  # owned
    cdef object calls  # tuple of taken.Call, in the order of the methods
    cdef object target  # "host:port", for messages
    cdef int stop_in  # the end that whoever stops writes to
    cdef bint running  # claimed by a thread

    cdef _resolve(self, str host, int port)
    cdef _prepare_methods(self, double timeout, metadata)
    cdef _put_fields(self, Method* method, list fields)
    cdef _prepare_memory(self, int connections, int streams)
    cdef _prepare_session(self)
    cdef _claim(self)
    cdef _forget(self)
    cdef _taken(self, pace, int64_t cpu, uint64_t allocations)
