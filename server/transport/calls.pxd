"""Calls: taken from the loop's free ones, queued, given back. See state.pxd for who owns one when."""

from server.transport.state cimport Call, Connection, Loop, Queue

cdef int queue_open(Queue* queue) noexcept nogil
cdef void queue_close(Queue* queue) noexcept nogil
cdef bint queue_put(Queue* queue, Call* call, size_t most) noexcept nogil
cdef Call* queue_take(Queue* queue) noexcept nogil
cdef void queue_end(Queue* queue) noexcept nogil

cdef void ready_put(Call* call) noexcept nogil
cdef Call* ready_take(Loop* loop) noexcept nogil
cdef bint ready_is_full(const Loop* loop) noexcept nogil

cdef Call* call_begin(Loop* loop, Connection* connection, int stream) noexcept nogil
cdef void call_end(Call* call) noexcept nogil
cdef void call_leave(Call* call) noexcept nogil
cdef bint call_reads(Call* call, const unsigned char* data, size_t size) noexcept nogil
cdef bint call_answers(Call* call, const unsigned char* data, size_t size) noexcept nogil
cdef void call_holds(Call* call) noexcept nogil
cdef void call_returns(Call* call) noexcept nogil
cdef void call_free(Call* call) noexcept nogil
