"""Keeps calls: their memory, which the loop's next calls use again, and the queues between threads.

A call's buffers stay with it when it is free, unless they grew beyond what most calls need; so a loop that is warm
allocates nothing for a decision. `held_bytes` of the loop counts what requests, answers and what sockets have not taken hold
now, and bounds it.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy

from server.transport.linux cimport (
    pthread_cond_broadcast,
    pthread_cond_destroy,
    pthread_cond_init,
    pthread_cond_signal,
    pthread_cond_wait,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    write,
)
from server.transport.pool cimport RAPPORT_SANITIZE
from server.transport.state cimport CALL_ANSWERING, CALL_AWAY, CALL_READING, CALL_READY, Call, Connection, Loop, Queue

cdef enum:
    BUFFER_FIRST = 512  # a shop's request and its prefix
    BUFFER_KEPT = 16_384  # larger ones are freed with their call
    FREE_MOST = 4096  # free calls a loop keeps: 16 connections of full concurrency


cdef int queue_open(Queue* queue) noexcept nogil:
    """Makes an empty queue; 0, or an errno."""
    cdef int code = pthread_mutex_init(&queue.mutex, NULL)
    queue.first = queue.last = NULL
    queue.count = 0
    queue.ended = 0
    return code if code else pthread_cond_init(&queue.filled, NULL)


cdef void queue_close(Queue* queue) noexcept nogil:
    """Frees the queue and the calls left in it. Nobody may use it any more."""
    cdef Call* call = queue.first
    cdef Call* after
    while call != NULL:
        after = call.next
        call_free(call)
        call = after
    queue.first = queue.last = NULL
    pthread_cond_destroy(&queue.filled)
    pthread_mutex_destroy(&queue.mutex)


cdef bint queue_put(Queue* queue, Call* call, size_t most) noexcept nogil:
    """Queues a call, which is AWAY from then on; False, and nothing done, when ``most`` wait already or it ended."""
    cdef bint room
    pthread_mutex_lock(&queue.mutex)
    room = queue.count < most and not queue.ended
    if room:
        call.where = CALL_AWAY
        call.next = NULL
        if queue.last != NULL:
            queue.last.next = call
        else:
            queue.first = call
        queue.last = call
        queue.count += 1
        pthread_cond_signal(&queue.filled)
    pthread_mutex_unlock(&queue.mutex)
    return room


cdef Call* queue_take(Queue* queue) noexcept nogil:
    """The oldest call, waited for; NULL once the queue has ended and is empty."""
    cdef Call* call
    pthread_mutex_lock(&queue.mutex)
    while queue.first == NULL and not queue.ended:
        pthread_cond_wait(&queue.filled, &queue.mutex)
    call = queue.first
    if call != NULL:
        queue.first = call.next
        if queue.first == NULL:
            queue.last = NULL
        queue.count -= 1
        call.next = NULL
    pthread_mutex_unlock(&queue.mutex)
    return call


cdef void queue_end(Queue* queue) noexcept nogil:
    """Takes no more calls and wakes whoever waits."""
    pthread_mutex_lock(&queue.mutex)
    queue.ended = 1
    pthread_cond_broadcast(&queue.filled)
    pthread_mutex_unlock(&queue.mutex)


cdef void ready_put(Call* call) noexcept nogil:
    """A whole request waits for its turn in its loop's queue."""
    cdef Loop* loop = call.loop
    call.arrived_ns = loop.now_ns
    call.where = CALL_READY
    call.next = NULL
    if loop.ready_last != NULL:
        loop.ready_last.next = call
    else:
        loop.ready_first = call
    loop.ready_last = call
    loop.ready_count += 1


cdef Call* ready_take(Loop* loop) noexcept nogil:
    """The call that waited longest, neither queued nor away any more: if its stream ends now, it is freed at once. NULL: none."""
    cdef Call* call = loop.ready_first
    if call == NULL:
        return NULL
    loop.ready_first = call.next
    if loop.ready_first == NULL:
        loop.ready_last = NULL
    loop.ready_count -= 1
    call.next = NULL
    call.where = CALL_READING
    return call


cdef bint ready_is_full(const Loop* loop) noexcept nogil:
    """Whether the queue stands and whoever joined it now would wait for longer than `Limits.queue_ns`."""
    return loop.stands and <int64_t> loop.ready_count * loop.pace_ns > loop.plane.limits.queue_ns


cdef Call* call_begin(Loop* loop, Connection* connection, int stream) noexcept nogil:
    """A call for a new stream, empty; NULL without memory."""
    cdef Call* call = loop.free_calls
    if call != NULL:
        loop.free_calls = call.next
        loop.free_count -= 1
    else:
        call = <Call*> calloc(1, sizeof(Call))
        if call == NULL:
            return NULL
        call.loop = loop
    call.connection = connection
    call.stream = stream
    call.next = NULL
    call.where = CALL_READING
    call.method = call.known = call.refused = call.posted = call.content = call.encoded = 0
    call.ended = call.overdue = call.gone = 0
    call.metadata_bytes = 0
    call.begun_ns = loop.now_ns
    call.arrived_ns = call.deadline_ns = 0
    call.body_size = call.answer_size = call.answer_sent = 0
    call.status_size = 0
    call.earlier = NULL
    call.later = connection.first_call
    if connection.first_call != NULL:
        connection.first_call.earlier = call
    connection.first_call = call
    connection.calls += 1
    loop.counters.open_calls += 1
    return call


cdef void call_leave(Call* call) noexcept nogil:
    """Takes a call out of its connection, which is about to forget it or is closing."""
    cdef Connection* connection = call.connection
    if connection == NULL:
        return
    if call.earlier != NULL:
        call.earlier.later = call.later
    else:
        connection.first_call = call.later
    if call.later != NULL:
        call.later.earlier = call.earlier
    connection.calls -= 1
    if connection.calls == 0:
        connection.idle_ns = call.loop.now_ns
    connection.requested -= call.body_size
    # Not while it is away: whoever has it may be writing its answer, and none of that was given to the session.
    if call.where == CALL_ANSWERING:
        connection.unsent -= call.answer_size - call.answer_sent
    call.connection = NULL
    call.gone = 1
    call.earlier = call.later = NULL
    if call.where == CALL_AWAY or call.where == CALL_READY:
        call.loop.counters.cancelled += 1


cdef void call_end(Call* call) noexcept nogil:
    """Frees a call for the loop's next ones. It has left its connection and is nowhere else."""
    cdef Loop* loop = call.loop
    loop.counters.open_calls -= 1
    loop.counters.held_bytes -= call.body_size + call.answer_size
    call.body_size = call.answer_size = 0
    if call.body_capacity > BUFFER_KEPT:
        free(call.body)
        call.body = NULL
        call.body_capacity = 0
    if call.answer_capacity > BUFFER_KEPT:
        free(call.answer)
        call.answer = NULL
        call.answer_capacity = 0
    if call.message != NULL:
        free(call.message)
        call.message = NULL
    if RAPPORT_SANITIZE or loop.free_count >= FREE_MOST:
        call_free(call)
        return
    call.next = loop.free_calls
    loop.free_calls = call
    loop.free_count += 1


cdef bint _grown(unsigned char** bytes, size_t* capacity, size_t size) noexcept nogil:
    cdef size_t wanted = capacity[0] if capacity[0] else BUFFER_FIRST
    cdef unsigned char* larger
    while wanted < size:
        wanted *= 2
    if RAPPORT_SANITIZE:
        wanted = max(size, capacity[0])
    if wanted == capacity[0]:
        return True
    larger = <unsigned char*> realloc(bytes[0], wanted)
    if larger == NULL:
        return False
    bytes[0] = larger
    capacity[0] = wanted
    return True


cdef bint call_reads(Call* call, const unsigned char* data, size_t size) noexcept nogil:
    """Appends to the request of a call whose connection is there; False without memory."""
    if call.body_size + size > call.body_capacity:
        if not _grown(&call.body, &call.body_capacity, call.body_size + size):
            return False
    memcpy(call.body + call.body_size, data, size)
    call.body_size += size
    call.connection.requested += size
    call.loop.counters.held_bytes += size
    return True


cdef bint call_answers(Call* call, const unsigned char* data, size_t size) noexcept nogil:
    """Makes ``data`` the answer's message, with gRPC's prefix before it; False without memory.

    May be called by whoever owns the call. The loop counts the bytes as held with `call_holds`.
    """
    if size + 5 > call.answer_capacity and not _grown(&call.answer, &call.answer_capacity, size + 5):
        return False
    call.answer[0] = 0
    call.answer[1] = <unsigned char> (size >> 24)
    call.answer[2] = <unsigned char> (size >> 16)
    call.answer[3] = <unsigned char> (size >> 8)
    call.answer[4] = <unsigned char> size
    memcpy(call.answer + 5, data, size)
    call.answer_size = size + 5
    call.answer_sent = 0
    return True


cdef void call_holds(Call* call) noexcept nogil:
    """Counts the answer among the bytes held; by the loop's thread, once an answer."""
    call.loop.counters.held_bytes += call.answer_size


cdef void call_returns(Call* call) noexcept nogil:
    """Gives a call that was AWAY back to its loop, which it wakes. The caller must not touch it afterwards."""
    cdef Loop* loop = call.loop
    cdef uint64_t one = 1
    cdef bint first
    pthread_mutex_lock(&loop.mutex)
    first = loop.returned == NULL
    call.next = loop.returned
    loop.returned = call
    pthread_mutex_unlock(&loop.mutex)
    if first:
        # Full or interrupted, the eventfd is readable all the same.
        write(loop.wake, &one, sizeof(one))


cdef void call_free(Call* call) noexcept nogil:
    """Frees a call's memory for good."""
    free(call.body)
    free(call.answer)
    free(call.message)
    free(call)
