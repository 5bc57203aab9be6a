"""What is kept of joins, for whoever does erasures again; see erasing.pyx."""

cimport cython

from core.hub.transaction cimport Transaction


@cython.final
cdef class KeptJoins:
    cdef dict stacks  # survivor: {key of an entry: (ids, keys of identifiers that it names)}; None until it is read
    cdef object naming  # a Naming of all entries, also of such as are gone
    cdef object catalog  # None: the store's is to be read, as after each change of it
    cdef int read(self, Transaction txn) except -1
    cdef int put(self, Transaction txn, bytes key, bytes value) except -1
    cdef int drop(self, bytes key) except -1
    cdef list naming_one(self, set held, set own)
