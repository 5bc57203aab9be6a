"""One native thread: its epoll, its connections, its desk. Started by the plane, ended by `loop_ask`."""

from libc.stdint cimport int64_t, uint8_t

from server.transport.state cimport Loop, Plane

cdef int loop_open(Loop* loop, Plane* plane, int number, int listener) noexcept nogil
cdef int loop_start(Loop* loop) noexcept nogil
# Of a loop that was not started: what a test or a fuzzer calls in its own thread.
cdef void loop_rounds(Loop* loop, int64_t most) noexcept nogil
cdef void loop_ask(Loop* loop, uint8_t what) noexcept nogil
cdef void loop_join(Loop* loop) noexcept nogil
cdef void loop_deafen(Loop* loop) noexcept nogil
cdef void loop_close(Loop* loop) noexcept nogil
