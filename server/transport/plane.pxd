"""The data plane's structures, for what is compiled against them: its own file, and the fuzzer's target."""

cimport cython
from libc.stdint cimport uint8_t

from server.transport.linux cimport pthread_t
from server.transport.seat cimport Seat
from server.transport.state cimport Loop, Plane
from server.transport.tls cimport Context

cdef struct Worker:
    Plane* plane
    Seat seat  # what it decides with; its desk has may_wait set
    pthread_t thread  # valid while running
    uint8_t running  # started and not joined


@cython.final
cdef class DataPlane:
    cdef Plane _plane  # what its threads share
    cdef Loop* _loops  # owned
    cdef Worker* _workers  # owned
    cdef int _loop_count  # loops asked for
    cdef int _opened  # loops that were opened
    cdef int _worker_count  # workers asked for
    cdef list _keep  # bytes that the plane's structures point into
    cdef list _paths  # of the methods
    cdef list _desks  # the DeskHolders in use
    cdef Context _tls  # keeps the SSL_CTX
    cdef object _following  # held while desks are replaced
    cdef bint _closed  # no plan is followed any more
    cdef void _end(self) noexcept
