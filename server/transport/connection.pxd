"""One HTTP/2 connection: bytes in, calls out; answers in, bytes out. Used by its loop's thread alone."""

from libc.stdint cimport int64_t, uint8_t

from server.transport.state cimport Call, Connection, Loop, Plane

cdef int sessions_open(Plane* plane) noexcept nogil
cdef void sessions_close(Plane* plane) noexcept nogil

cdef Connection* connection_open(Loop* loop, int fd) noexcept nogil
cdef void connection_event(Connection* connection, unsigned int events) noexcept nogil
cdef void connection_flush(Connection* connection) noexcept nogil
cdef void connection_tick(Connection* connection, bint refill) noexcept nogil
cdef void connection_leave(Connection* connection, bint last) noexcept nogil
cdef void connection_close(Connection* connection) noexcept nogil
cdef void connection_free(Connection* connection) noexcept nogil

cdef void answer_message(Call* call) noexcept nogil
cdef void answer_refusal(Call* call, uint8_t refusal) noexcept nogil
cdef void answer_error(Call* call) noexcept nogil
