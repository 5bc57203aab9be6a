"""The LMDB environment: one owner in a process, snapshots for readers, one write transaction at a time."""

from libc.stdint cimport uint8_t

from core.hub.buffer cimport Buffer
from core.hub.snapshot cimport Handles, Snapshot


cdef class Environment:
    """An open store folder. Made by `open_environment`; closed once, after every snapshot."""

    cdef Handles handles  # what snapshots borrow
    cdef readonly str path  # the folder
    cdef readonly bint read_only  # opened for reading only
    cdef readonly bint closed  # nothing can be done any more
    cdef int lock  # descriptor of rapport.lock, held with flock while open for writing; -1 without
    cdef int table  # descriptor of lock.mdb, -1 without; closed after LMDB, whose locks on the file go with any descriptor
    cdef int pid  # the process that opened it: an environment must not be used after a fork
    cdef tuple identity  # (device, inode) of the folder, its key in the register of open ones
    cdef public bint journalled  # whether transactions note what they change; set by the journal's owner
    cdef Buffer noted  # what the transaction that is open noted: a frame without its head filled in; kept from one to the next
    cdef uint8_t places[64]  # [LMDB's number of a database] its place in DATABASES
    cdef uint8_t by_customer[64]  # [LMDB's number of a database] whether its keys are customers' ids
    cdef uint8_t sealing[64]  # [LMDB's number of a database] how its entries are sealed

    cdef int check_usable(self) except -1


cdef class Reader:
    """A snapshot for Python: use as a context manager."""

    cdef Snapshot snapshot  # owned
    cdef Environment environment  # keeps the handles alive

    cdef int check(self, int code) except -1
