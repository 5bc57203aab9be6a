# distutils: libraries = nghttp2
"""The load generator: calls a gRPC server on a schedule fixed in advance, and never lets the server slow the schedule down.

*Open loop.* Request i is due at start + offset(i), whatever became of the requests before it; its latency runs from
that moment to the end of its stream. A generator that waits for answers before it sends (or starts its clock when it
sends) leaves out exactly the requests that a stall would have hit. Offsets come from the rate, or from an exponential
draw with the seed, and are computed as the run goes on: they are fixed by (pace, seed) all the same, need no memory,
and `schedule.pyx` tells them. A request that finds no stream free waits in no queue: the backlog is the schedule itself,
which does not go on before it is sent.

*Whose fault.* What delays a sending is counted in one of two histograms. ``waited``: no stream was free, because
the server (or its limit of open calls) had not given one back; ``lag``: a stream was free and this loop came late.
A large lag means that the figures are the generator's.

*One thread, no lock, no GIL.* `_run` is an epoll loop over a client session of nghttp2 for each connection; many frames
are put together before a socket is written. The schedule is checked between batches of 64 sendings. Nothing is allocated
for a request once the run is warm: slots, histograms and buffers are made beforehand, and the session's own blocks come from
a pool (`pool.pxd`; ``allocations`` counts what it had to take from the system).

*Answers* count as good when grpc-status was 0 in the trailers, the stream ended properly, and the message is whole:
one prefix, and as many bytes as it announces. Every so manieth answer is kept and walked through field by field;
`answers.pyx` does that, and writes the reports of a mixed load.

*Threads.* `run` may be called from one thread at a time. Meanwhile others may call `progress` and `peek`, which read counts
that the loop writes: each number is whole, together they may be a moment apart.

*TLS* would stand between `_from_wire`, `_to_wire` and the socket; nothing else touches it.
"""

import os
import socket

import numpy as np

from loadtest.histogram import Histogram as Counted
from loadtest.taken import Connections, Kind, Part, Seen, Taken, Timeline

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport EAGAIN, EINPROGRESS, EINTR, errno
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

from loadtest.answers cimport look_at_decision, look_at_report, write_report
from loadtest.counting cimport BUCKETS, HIGHEST, Histogram, count_value, rapport_bucket
from loadtest.linux cimport (
    AI_NUMERICHOST, AI_NUMERICSERV, CLOCK_THREAD_CPUTIME_ID, EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLLERR,
    EPOLLHUP, EPOLLIN, EPOLLOUT, IPPROTO_TCP, MSG_NOSIGNAL, O_CLOEXEC, O_NONBLOCK, PR_SET_TIMERSLACK, SO_ERROR,
    SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET, TCP_NODELAY, addrinfo, c_close, c_connect, c_read, c_recv,
    c_send, c_socket, c_write, clock_ns, epoll_create1, epoll_ctl, epoll_event, freeaddrinfo, getaddrinfo, getsockopt,
    pipe2, prctl, rapport_clock, rapport_wait, setsockopt, sockaddr, socklen_t,
)
from loadtest.nghttp2 cimport (
    NGHTTP2_DATA, NGHTTP2_DATA_FLAG_EOF, NGHTTP2_FLAG_ACK, NGHTTP2_FLAG_END_STREAM,
    NGHTTP2_FLAG_NONE, NGHTTP2_GOAWAY, NGHTTP2_HEADERS, NGHTTP2_NV_FLAG_NO_COPY_NAME, NGHTTP2_NV_FLAG_NO_COPY_VALUE,
    NGHTTP2_REFUSED_STREAM, NGHTTP2_SETTINGS, NGHTTP2_SETTINGS_ENABLE_PUSH, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE,
    NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, nghttp2_data_provider, nghttp2_data_source, nghttp2_frame, nghttp2_nv,
    nghttp2_option_del, nghttp2_option_new, nghttp2_option_set_no_closed_streams, nghttp2_session,
    nghttp2_session_callbacks_del, nghttp2_session_callbacks_new, nghttp2_session_callbacks_set_on_data_chunk_recv_callback,
    nghttp2_session_callbacks_set_on_frame_recv_callback, nghttp2_session_callbacks_set_on_header_callback,
    nghttp2_session_callbacks_set_on_stream_close_callback, nghttp2_session_client_new3, nghttp2_session_del,
    nghttp2_session_get_remote_settings, nghttp2_session_get_stream_user_data, nghttp2_session_mem_recv,
    nghttp2_session_mem_send, nghttp2_session_set_local_window_size, nghttp2_session_want_read, nghttp2_session_want_write,
    nghttp2_settings_entry, nghttp2_submit_request, nghttp2_submit_settings,
)
from loadtest.pool cimport pool_clear, pool_empty, pool_give, pool_resize, pool_take
from loadtest.schedule cimport Schedule, advance, begin_schedule, due_next, mixed
from loadtest.state cimport (
    CLOSED, CONNECTING, DRAINING, GREETING, INTERVALS, MESSAGE_BYTES, OPEN, OWN_BYTES, RESETS, SAMPLES, STATUSES,
    TOKEN_BYTES, TOKENS, Connection, Loop, Method, Slot,
)

cdef enum:
    READ_BYTES = 262144
    OUT_BYTES = 262144
    LARGEST_FRAME = 65536  # more than nghttp2 ever hands out at once
    BATCH = 64  # sendings between two looks at the sockets
    LARGEST_WINDOW = 2147483647
    KEPT_BYTES = 4194304  # an answer larger than this is not looked into

cdef int64_t SECOND = 1000000000
cdef int64_t MILLISECOND = 1000000
cdef int64_t CONNECT_PATIENCE = 5 * SECOND  # for one attempt, TCP and SETTINGS together
cdef int64_t LAST_PATIENCE = SECOND  # after `stop`

_STATUS_NAMES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)
_RESET_NAMES = (
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED", "of another code",
)
_OUTCOME_NAMES = ("UNSPECIFIED", "APPLIED", "DUPLICATE", "UNKNOWN", "REFUSED", "of another status")

# --- slots ------------------------------------------------------------------------------------------------------------


cdef inline Slot* _take_slot(Loop* loop, Connection* connection) noexcept nogil:
    cdef Slot* slot = loop.free_slots
    loop.free_slots = slot.next
    slot.previous = NULL
    slot.next = connection.calls
    if connection.calls != NULL:
        connection.calls.previous = slot
    connection.calls = slot
    connection.open_calls += 1
    loop.open_calls += 1
    slot.body_sent = 0
    slot.http_status = 0
    slot.grpc_status = -1
    slot.prefix_bytes = 0
    slot.announced = 0
    slot.received = 0
    slot.ended = False
    return slot


cdef inline void _give_slot(Loop* loop, Connection* connection, Slot* slot) noexcept nogil:
    if slot.previous != NULL:
        slot.previous.next = slot.next
    else:
        connection.calls = slot.next
    if slot.next != NULL:
        slot.next.previous = slot.previous
    slot.next = loop.free_slots
    loop.free_slots = slot
    connection.open_calls -= 1
    loop.open_calls -= 1
    if not loop.room:
        loop.room = True
        loop.full_until = loop.now

# --- the end of a call ------------------------------------------------------------------------------------------------


cdef inline int _interval(const Loop* loop, int64_t moment) noexcept nogil:
    """The timeline's interval of a moment; what comes after the schedule's end stands in one more."""
    cdef int64_t number = (moment - loop.start) // loop.interval if moment > loop.start else 0
    return <int>(number if number < loop.interval_count else loop.interval_count)


cdef void _fail(Loop* loop, Slot* slot, bint answered) noexcept nogil:
    """Counts a failed call; what kind of failure is counted by the caller. ``answered``: the server said something."""
    loop.failed += 1
    loop.methods[slot.method].failed += 1
    loop.interval_failed[slot.interval] += 1
    if answered:
        count_value(&loop.failed_latency, loop.now - slot.due)


cdef bint _is_whole(Loop* loop, Slot* slot) noexcept nogil:
    cdef Method* method = &loop.methods[slot.method]
    cdef uint32_t number
    if slot.prefix_bytes != 5 or slot.prefix[0] != 0 or slot.received != slot.announced:
        return False
    if not slot.keep:
        return True
    if method.sample_count < SAMPLES and slot.received:
        number = method.sample_count
        method.samples[number] = <uint8_t*>malloc(slot.received)
        if method.samples[number] != NULL:
            memcpy(method.samples[number], slot.kept, slot.received)
            method.sample_bytes[number] = <uint32_t>slot.received
            method.sample_count += 1
    if method.kind == 1:
        return look_at_decision(loop, slot.kept, slot.received)
    if method.kind == 2:
        return look_at_report(loop, slot.kept, slot.received)
    return True


cdef void _finish(Loop* loop, Connection* connection, Slot* slot, uint32_t error) noexcept nogil:
    cdef Method* method = &loop.methods[slot.method]
    cdef int64_t latency
    cdef int status
    if error == NGHTTP2_REFUSED_STREAM:
        loop.never_processed += 1
        _fail(loop, slot, False)
    elif not slot.ended:
        loop.resets[error if error < RESETS - 1 else RESETS - 1] += 1
        _fail(loop, slot, True)
    elif slot.grpc_status > 0:
        status = slot.grpc_status
        loop.statuses[status] += 1
        if connection.said_bytes and connection.said_stream >= 0 and not loop.said_bytes[status]:
            memcpy(loop.said[status], connection.said, connection.said_bytes)
            loop.said_bytes[status] = connection.said_bytes
        _fail(loop, slot, True)
    elif slot.http_status != 200:
        loop.http_errors += 1
        _fail(loop, slot, True)
    elif slot.grpc_status < 0 or not _is_whole(loop, slot):
        loop.broken += 1
        _fail(loop, slot, True)
    else:
        latency = loop.now - slot.due
        loop.answered += 1
        method.answered += 1
        count_value(&method.latency, latency)
        count_value(&method.service, loop.now - slot.sent)
        if latency < 0:
            latency = 0
        loop.by_interval[
            <size_t>slot.interval * BUCKETS + rapport_bucket(<uint64_t>(latency if latency < HIGHEST else HIGHEST))
        ] += 1
        if latency > loop.interval_largest[slot.interval]:
            loop.interval_largest[slot.interval] = latency
        loop.interval_completed[_interval(loop, loop.now)] += 1
    _give_slot(loop, connection, slot)

# --- nghttp2's callbacks ----------------------------------------------------------------------------------------------


cdef ssize_t _on_body(
    nghttp2_session* session, int32_t stream, uint8_t* buffer, size_t length, uint32_t* flags, nghttp2_data_source* source,
    void* context,
) noexcept nogil:
    cdef Slot* slot = <Slot*>source.ptr
    cdef uint64_t count = slot.body_bytes - slot.body_sent
    if count > length:
        count = length
    memcpy(buffer, slot.body + slot.body_sent, count)
    slot.body_sent += count
    if slot.body_sent == slot.body_bytes:
        flags[0] |= NGHTTP2_DATA_FLAG_EOF
    return <ssize_t>count


cdef int _on_frame(nghttp2_session* session, const nghttp2_frame* frame, void* context) noexcept nogil:
    cdef Connection* connection = <Connection*>context
    cdef Loop* loop = connection.loop
    cdef uint32_t limit
    cdef Slot* slot
    if frame.hd.type == NGHTTP2_HEADERS or frame.hd.type == NGHTTP2_DATA:
        if frame.hd.flags & NGHTTP2_FLAG_END_STREAM:
            slot = <Slot*>nghttp2_session_get_stream_user_data(session, frame.hd.stream_id)
            if slot != NULL:
                slot.ended = True
    elif frame.hd.type == NGHTTP2_SETTINGS and not frame.hd.flags & NGHTTP2_FLAG_ACK:
        limit = nghttp2_session_get_remote_settings(session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS)
        connection.limit = limit if limit < loop.streams else loop.streams
        if connection.state == GREETING:
            connection.state = OPEN
            loop.opened += 1
            loop.backoff = 0
        if not loop.room:
            loop.room = True
            loop.full_until = loop.now
    elif frame.hd.type == NGHTTP2_GOAWAY:
        loop.goaways += 1
        if connection.state == GREETING or connection.state == OPEN:
            connection.state = DRAINING
        loop.missing = True
    return 0


cdef int _on_header(
    nghttp2_session* session, const nghttp2_frame* frame, const uint8_t* name, size_t name_bytes, const uint8_t* value,
    size_t value_bytes, uint8_t flags, void* context,
) noexcept nogil:
    cdef Connection* connection = <Connection*>context
    cdef Slot* slot
    cdef int number = 0
    cdef size_t index
    if name_bytes == 11 and memcmp(name, b"grpc-status", 11) == 0 or name_bytes == 7 and memcmp(name, b":status", 7) == 0:
        slot = <Slot*>nghttp2_session_get_stream_user_data(session, frame.hd.stream_id)
        if slot == NULL:
            return 0
        for index in range(value_bytes if value_bytes < 4 else 4):
            number = number * 10 + (value[index] - 48)
        if name_bytes == 7:
            slot.http_status = number
        else:
            slot.grpc_status = number if 0 <= number < STATUSES else 2  # an unknown code is UNKNOWN
        connection.said_stream = frame.hd.stream_id if connection.said_stream == frame.hd.stream_id else -1
    elif name_bytes == 12 and memcmp(name, b"grpc-message", 12) == 0:
        connection.said_stream = frame.hd.stream_id
        connection.said_bytes = <uint32_t>(value_bytes if value_bytes < MESSAGE_BYTES else MESSAGE_BYTES)
        memcpy(connection.said, value, connection.said_bytes)
    return 0


cdef int _on_data(
    nghttp2_session* session, uint8_t flags, int32_t stream, const uint8_t* data, size_t length, void* context,
) noexcept nogil:
    cdef Slot* slot = <Slot*>nghttp2_session_get_stream_user_data(session, stream)
    cdef uint64_t capacity
    cdef uint8_t* grown
    if slot == NULL:
        return 0
    while slot.prefix_bytes < 5 and length:
        slot.prefix[slot.prefix_bytes] = data[0]
        slot.prefix_bytes += 1
        data += 1
        length -= 1
        if slot.prefix_bytes == 5:
            slot.announced = (<uint64_t>slot.prefix[1] << 24) | (slot.prefix[2] << 16) | (slot.prefix[3] << 8) | slot.prefix[4]
    if slot.keep and length:
        if slot.received + length > slot.kept_capacity:
            capacity = slot.kept_capacity if slot.kept_capacity else 2048
            while capacity < slot.received + length:
                capacity *= 2
            grown = NULL
            if capacity <= KEPT_BYTES:
                grown = <uint8_t*>realloc(slot.kept, capacity)
            if grown == NULL:
                slot.keep = False
            else:
                slot.kept = grown
                slot.kept_capacity = capacity
        if slot.keep:
            memcpy(slot.kept + slot.received, data, length)
    slot.received += length
    return 0


cdef int _on_close(nghttp2_session* session, int32_t stream, uint32_t error, void* context) noexcept nogil:
    cdef Connection* connection = <Connection*>context
    cdef Slot* slot = <Slot*>nghttp2_session_get_stream_user_data(session, stream)
    if slot != NULL:
        if connection.said_stream != stream:
            connection.said_bytes = 0
        _finish(connection.loop, connection, slot, error)
    return 0

# --- connections ------------------------------------------------------------------------------------------------------


cdef ssize_t _from_wire(Connection* connection, uint8_t* buffer, size_t size) noexcept nogil:
    return c_recv(connection.fd, buffer, size, 0)


cdef ssize_t _to_wire(Connection* connection, const uint8_t* bytes, size_t size) noexcept nogil:
    return c_send(connection.fd, bytes, size, MSG_NOSIGNAL)


cdef void _watch(Connection* connection, bint out, int operation) noexcept nogil:
    cdef epoll_event event
    event.events = <uint32_t>(EPOLLIN | (EPOLLOUT if out else 0))
    event.data.ptr = connection
    connection.wants_out = out
    epoll_ctl(connection.loop.epoll, operation, connection.fd, &event)


cdef void _close(Connection* connection) noexcept nogil:
    """Ends a connection that holds no open call, or whose calls have been counted."""
    if connection.session != NULL:
        nghttp2_session_del(connection.session)
        connection.session = NULL
    if connection.fd >= 0:
        c_close(connection.fd)
        connection.fd = -1
    connection.state = CLOSED
    connection.out_start = connection.out_bytes = 0
    connection.dirty = connection.wants_out = False
    connection.loop.missing = True


cdef void _lose(Connection* connection, bint ended_here) noexcept nogil:
    """Ends a connection whatever is open on it. ``ended_here``: because the run is over, not because it broke."""
    cdef Loop* loop = connection.loop
    if connection.state == CONNECTING or connection.state == GREETING:
        loop.refused_connections += 1
        loop.backoff = 20 * MILLISECOND if loop.backoff == 0 else loop.backoff * 2
        if loop.backoff > SECOND:
            loop.backoff = SECOND
        loop.connect_at = loop.now + loop.backoff
    elif connection.open_calls and not ended_here:
        loop.lost_connections += 1
    while connection.calls != NULL:
        if ended_here:
            loop.unfinished += 1
        else:
            loop.lost += 1
        _fail(loop, connection.calls, False)
        _give_slot(loop, connection, connection.calls)
    _close(connection)


cdef void _connect(Connection* connection) noexcept nogil:
    cdef Loop* loop = connection.loop
    cdef int one = 1
    cdef int failed
    connection.since = loop.now
    connection.state = CONNECTING
    connection.fd = c_socket(loop.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    if connection.fd < 0:
        loop.connect_error = errno
        _lose(connection, False)
        return
    setsockopt(connection.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one))
    failed = c_connect(connection.fd, <sockaddr*>loop.address, loop.address_bytes)
    if failed and errno != EINPROGRESS:
        loop.connect_error = errno
        _lose(connection, False)
        return
    _watch(connection, True, EPOLL_CTL_ADD)


cdef void _greet(Connection* connection) noexcept nogil:
    """TCP stands: the session begins. Windows are as large as they may be, so that the server never waits for ours."""
    cdef Loop* loop = connection.loop
    cdef nghttp2_settings_entry settings[2]
    cdef int error = 0
    cdef socklen_t size = sizeof(error)
    getsockopt(connection.fd, SOL_SOCKET, SO_ERROR, &error, &size)
    if error:
        loop.connect_error = error
        _lose(connection, False)
        return
    settings[0].settings_id = NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE
    settings[0].value = LARGEST_WINDOW
    settings[1].settings_id = NGHTTP2_SETTINGS_ENABLE_PUSH
    settings[1].value = 0
    if nghttp2_session_client_new3(&connection.session, loop.callbacks, connection, loop.option, &loop.memory):
        connection.session = NULL
        _lose(connection, False)
        return
    nghttp2_submit_settings(connection.session, NGHTTP2_FLAG_NONE, settings, 2)
    nghttp2_session_set_local_window_size(connection.session, NGHTTP2_FLAG_NONE, 0, LARGEST_WINDOW)
    connection.state = GREETING
    connection.limit = 0
    connection.said_stream = -1
    connection.said_bytes = 0
    connection.dirty = True
    _watch(connection, False, EPOLL_CTL_MOD)


cdef void _flush(Connection* connection) noexcept nogil:
    """Writes the session's frames, many with one call, as far as the socket takes them."""
    cdef const uint8_t* data
    cdef ssize_t count, written
    connection.dirty = False
    while True:
        while connection.out_bytes + LARGEST_FRAME <= OUT_BYTES:
            count = nghttp2_session_mem_send(connection.session, &data)
            if count == 0:
                break
            if count < 0 or count > LARGEST_FRAME:
                _lose(connection, False)
                return
            memcpy(connection.out + connection.out_bytes, data, count)
            connection.out_bytes += count
        if connection.out_start == connection.out_bytes:
            break
        written = _to_wire(connection, connection.out + connection.out_start, connection.out_bytes - connection.out_start)
        if written < 0:
            if errno == EINTR:
                continue
            if errno == EAGAIN:
                if not connection.wants_out:
                    _watch(connection, True, EPOLL_CTL_MOD)
                return
            _lose(connection, False)
            return
        connection.loop.bytes_out += written
        connection.out_start += written
        if connection.out_start == connection.out_bytes:
            connection.out_start = connection.out_bytes = 0
    if connection.wants_out:
        _watch(connection, False, EPOLL_CTL_MOD)
    if connection.state == DRAINING and connection.open_calls == 0:
        _close(connection)
    elif not nghttp2_session_want_read(connection.session) and not nghttp2_session_want_write(connection.session):
        # What came was no HTTP/2, or the server has ended the session with calls open.
        _lose(connection, False)


cdef void _read(Connection* connection) noexcept nogil:
    cdef Loop* loop = connection.loop
    cdef ssize_t count
    cdef int _
    for _ in range(4):
        count = _from_wire(connection, loop.buffer, READ_BYTES)
        if count < 0 and errno == EINTR:
            continue
        if count < 0 and errno == EAGAIN:
            break
        if count <= 0:
            if connection.state == GREETING:
                loop.connect_error = errno if count < 0 else 0
            _lose(connection, False)
            return
        # The stamp of every answer in these bytes.
        loop.now = clock_ns()
        loop.bytes_in += count
        if nghttp2_session_mem_recv(connection.session, loop.buffer, count) < 0:
            _lose(connection, False)
            return
        if count < READ_BYTES:
            break
    # Also when there is nothing to write: `_flush` sees whether the session is over.
    connection.dirty = True


cdef void _ensure(Loop* loop) noexcept nogil:
    """Opens connections until as many as wanted are on their way; gives up on those that take too long to open."""
    cdef uint32_t index, live = 0, settled = 0
    cdef Connection* connection
    for index in range(loop.connection_count):
        connection = &loop.connections[index]
        if connection.state == CONNECTING or connection.state == GREETING:
            if loop.now - connection.since > CONNECT_PATIENCE:
                _lose(connection, False)
                continue
            live += 1
        elif connection.state == OPEN:
            live += 1
            settled += 1
    if settled >= loop.wanted:
        loop.missing = False
        return
    for index in range(loop.connection_count):
        if live >= loop.wanted or loop.now < loop.connect_at:
            return
        connection = &loop.connections[index]
        if connection.state == CLOSED:
            _connect(connection)
            live += 1

# --- sending ----------------------------------------------------------------------------------------------------------


cdef Connection* _pick(Loop* loop) noexcept nogil:
    """The next connection, in turn, with a stream free; NULL when there is none."""
    cdef uint32_t _
    cdef Connection* connection
    if not loop.room:
        return NULL
    for _ in range(loop.connection_count):
        loop.cursor += 1
        if loop.cursor >= loop.connection_count:
            loop.cursor = 0
        connection = &loop.connections[loop.cursor]
        if connection.state == OPEN and connection.open_calls < connection.limit:
            return connection
    loop.room = False
    return NULL


cdef uint32_t _choose(Loop* loop, uint64_t drawn) noexcept nogil:
    """The method for a random number; for a report without a token, the first that brings tokens."""
    cdef uint64_t low = <uint32_t>drawn
    cdef uint32_t method = 0, other
    while method + 1 < loop.method_count and low >= loop.methods[method].up_to:
        method += 1
    if loop.methods[method].kind == 2 and loop.token_in == loop.token_out:
        loop.without_token += 1
        for other in range(loop.method_count):
            if loop.methods[other].kind == 1:
                return other
    return method


cdef bint _send(Loop* loop, Connection* connection, int64_t due) noexcept nogil:
    """One request on the connection; false when the session takes no more streams."""
    cdef uint64_t drawn = mixed(loop.seed ^ mixed(loop.scheduled))
    cdef uint32_t number = _choose(loop, drawn)
    cdef Method* method = &loop.methods[number]
    cdef Slot* slot = _take_slot(loop, connection)
    cdef nghttp2_data_provider body
    cdef uint32_t message
    cdef int32_t stream
    cdef int64_t ready, lag
    slot.method = number
    slot.due = due
    slot.interval = _interval(loop, due)
    if method.kind == 2:
        write_report(loop, method, slot)
    else:
        message = <uint32_t>((drawn >> 32) % method.message_count)
        slot.body = method.bodies + method.starts[message]
        slot.body_bytes = method.starts[message + 1] - method.starts[message]
    slot.keep = (
        method.kind == 2
        or method.sample_count < SAMPLES
        or (loop.look_every and method.sent % loop.look_every == 0)
        or (method.kind == 1 and loop.takes_tokens and loop.token_in - loop.token_out < TOKENS)
    )
    body.source.ptr = slot
    body.read_callback = _on_body
    stream = nghttp2_submit_request(connection.session, NULL, method.fields, method.field_count, &body, slot)
    if stream < 0:
        if method.kind == 2:
            loop.token_out -= 1
        _give_slot(loop, connection, slot)
        return False
    slot.sent = clock_ns()
    connection.dirty = True
    if not loop.schedule.closed:
        ready = due if due > loop.full_until else loop.full_until
        lag = slot.sent - ready
        count_value(&loop.lag, lag)
        count_value(&loop.waited, ready - due)
        if lag > loop.interval_lag[slot.interval]:
            loop.interval_lag[slot.interval] = lag
    loop.interval_scheduled[slot.interval] += 1
    loop.scheduled += 1
    loop.sent += 1
    method.sent += 1
    return True


cdef int _send_due(Loop* loop) noexcept nogil:
    """Sends what is due, a batch at most. 1: there is more; 0: nothing is due; -1: something is, and no stream is free."""
    cdef Schedule* schedule = &loop.schedule
    cdef Connection* connection
    cdef int _
    cdef int64_t now, due
    for _ in range(BATCH):
        now = clock_ns()
        if schedule.closed:
            if schedule.over or now >= loop.start + schedule.end:
                schedule.over = True
                return 0
            if loop.open_calls >= loop.open_limit:
                return 0
            due = now
        else:
            due = loop.start + due_next(schedule)
            if schedule.over or due > now:
                return 0
        connection = _pick(loop)
        if connection == NULL:
            loop.full_until = now
            return -1
        if not _send(loop, connection, due):
            # No stream numbers are left, or the server is going away: what is open ends, a new connection takes over.
            connection.state = DRAINING
            connection.dirty = True
            loop.missing = True
            continue
        if not schedule.closed:
            advance(schedule)
    return 1

# --- the loop ---------------------------------------------------------------------------------------------------------


cdef void _stop(Loop* loop, int64_t now) noexcept nogil:
    """Ends the schedule here; open calls have a little time left."""
    if loop.stopped:
        return
    loop.stopped = True
    if now - loop.start < loop.schedule.end:
        loop.schedule.end = now - loop.start if now > loop.start else 0
    if loop.schedule.closed or due_next(&loop.schedule) >= loop.schedule.end:
        loop.schedule.over = True
    if loop.drain > LAST_PATIENCE:
        loop.drain = LAST_PATIENCE


cdef void _handle(Loop* loop, epoll_event* events, int count) noexcept nogil:
    cdef int index
    cdef Connection* connection
    cdef uint8_t bin[64]
    for index in range(count):
        connection = <Connection*>events[index].data.ptr
        if connection == NULL:
            while c_read(loop.stop_fd, bin, sizeof(bin)) > 0:
                pass
            _stop(loop, loop.now)
        elif connection.state == CONNECTING:
            if events[index].events & (EPOLLOUT | EPOLLERR | EPOLLHUP):
                _greet(connection)
        elif connection.state != CLOSED:
            if events[index].events & (EPOLLIN | EPOLLERR | EPOLLHUP):
                _read(connection)
            if connection.state != CLOSED and events[index].events & EPOLLOUT:
                connection.dirty = True


cdef void _flush_all(Loop* loop) noexcept nogil:
    cdef uint32_t index
    for index in range(loop.connection_count):
        if loop.connections[index].dirty and loop.connections[index].session != NULL:
            _flush(&loop.connections[index])


cdef int _open_connections(Loop* loop, int64_t patience) noexcept nogil:
    """Waits until every wanted connection is open; how many are."""
    cdef epoll_event events[64]
    cdef int64_t until = clock_ns() + patience
    cdef uint32_t index
    cdef int count, standing
    loop.connect_at = 0
    while True:
        loop.now = clock_ns()
        _ensure(loop)
        _flush_all(loop)
        standing = 0
        for index in range(loop.connection_count):
            standing += loop.connections[index].state == OPEN
        if standing >= <int>loop.wanted or loop.now >= until or loop.stopped:
            return standing
        count = rapport_wait(loop.epoll, events, 64, 5 * MILLISECOND)
        loop.now = clock_ns()
        if count > 0:
            _handle(loop, events, count)


cdef void _count_unsent(Loop* loop) noexcept nogil:
    """What the schedule still holds when the time is over was never sent, and counts."""
    cdef Schedule* schedule = &loop.schedule
    if schedule.closed:
        return
    while not schedule.over:
        loop.unsent += 1
        loop.scheduled += 1
        loop.interval_scheduled[_interval(loop, loop.start + due_next(schedule))] += 1
        advance(schedule)


cdef void _run(Loop* loop) noexcept nogil:
    cdef epoll_event events[256]
    cdef int count, state
    cdef int64_t woke, wait, last
    cdef uint32_t index
    # The default slack of 50 us would be added to every sleep.
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
    loop.start = woke = loop.now = clock_ns() + MILLISECOND
    loop.full_until = 0
    loop.room = True
    while True:
        if loop.missing:
            _ensure(loop)
        state = _send_due(loop)
        _flush_all(loop)
        loop.now = clock_ns()
        if loop.now - woke > loop.longest_pass:
            loop.longest_pass = loop.now - woke
        last = loop.start + loop.schedule.end + loop.drain
        if (loop.schedule.over and loop.open_calls == 0) or loop.now >= last:
            break
        wait = last - loop.now
        if state == 1:
            wait = 0
        elif state == 0 and not loop.schedule.over:
            if loop.schedule.closed:
                wait = min(wait, loop.start + loop.schedule.end - loop.now)
            else:
                wait = min(wait, loop.start + due_next(&loop.schedule) - loop.now)
                # Awake a little early, then looking again and again: for those who have a core to give.
                if loop.spin:
                    wait = 0 if wait <= loop.spin else wait - loop.spin
        if loop.missing:
            wait = min(wait, 5 * MILLISECOND)
        count = rapport_wait(loop.epoll, events, 256, wait if wait > 0 else 0)
        woke = loop.now = clock_ns()
        if count > 0:
            _handle(loop, events, count)
    _count_unsent(loop)
    for index in range(loop.connection_count):
        if loop.connections[index].open_calls:
            _lose(&loop.connections[index], True)
    prctl(PR_SET_TIMERSLACK, 0, 0, 0, 0)

# --- Python -----------------------------------------------------------------------------------------------------------


cdef object _numbers(const void* data, size_t count, object kind):
    cdef bytes copied = PyBytes_FromStringAndSize(<const char*>data, count * np.dtype(kind).itemsize)
    return np.frombuffer(copied, kind).copy()


cdef object _counted(const Histogram* histogram):
    return Counted(_numbers(histogram.counts, BUCKETS, np.uint64), histogram.largest)


cdef class Generator:
    def __cinit__(
        self, str host, int port, calls, *, int connections=4, int streams=64, uint64_t seed=1, double timeout=0.0,
        metadata=(), int look_every=64, double spin=0.0,
    ):
        if not calls or connections < 1 or streams < 1:
            raise ValueError("A generator needs a call to make, a connection and a stream at least.")
        self.calls = tuple(calls)
        self.target = f"{host}:{port}"
        self.stop_in = -1
        self.loop = <Loop*>calloc(1, sizeof(Loop))
        if self.loop == NULL:
            raise MemoryError()
        self.loop.epoll = self.loop.stop_fd = -1
        self.loop.seed = seed
        self.loop.look_every = look_every
        self.loop.spin = <int64_t>(spin * 1e9)
        self._resolve(host, port)
        self._prepare_methods(timeout, metadata)
        self._prepare_memory(connections, streams)
        self._prepare_session()

    cdef _resolve(self, str host, int port):
        cdef addrinfo hints
        cdef addrinfo* found = NULL
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        memset(&hints, 0, sizeof(hints))
        hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV
        hints.ai_family = family
        hints.ai_socktype = SOCK_STREAM
        node, service = str(address[0]).encode(), str(port).encode()
        if getaddrinfo(node, service, &hints, &found) or found == NULL:
            raise OSError(f"{self.target} is no address.")
        self.loop.family = found.ai_family
        self.loop.address_bytes = found.ai_addrlen
        memcpy(self.loop.address, found.ai_addr, found.ai_addrlen)
        freeaddrinfo(found)

    cdef _prepare_methods(self, double timeout, metadata):
        cdef Method* method
        cdef double sum_of_shares = sum(call.share for call in self.calls), up_to = 0.0
        cdef uint64_t offset
        cdef bytes joined
        decides = any(call.kind == Kind.DECIDE for call in self.calls)
        self.loop.method_count = len(self.calls)
        self.loop.methods = <Method*>calloc(len(self.calls), sizeof(Method))
        if self.loop.methods == NULL:
            raise MemoryError()
        for number, call in enumerate(self.calls):
            method = &self.loop.methods[number]
            method.kind = call.kind
            up_to += call.share
            method.up_to = <uint64_t>(up_to / sum_of_shares * 4294967296.0)
            if call.kind == Kind.RECORD:
                if not decides:
                    raise ValueError(f"{call.name}: reports need tokens, and no call of this load decides.")
                outcome = call.outcome.encode()
                if not 0 < len(outcome) < 64:
                    raise ValueError(f"{call.name}: the outcome '{call.outcome}' is not 1 to 63 bytes.")
                memcpy(method.outcome, <const char*>outcome, len(outcome))
                method.outcome_bytes = len(outcome)
                self.loop.takes_tokens = True
            else:
                if not call.messages:
                    raise ValueError(f"{call.name}: no message to send.")
                bodies = [b"\0" + len(message).to_bytes(4, "big") + message for message in call.messages]
                joined = b"".join(bodies)
                method.message_count = len(bodies)
                method.bodies = <uint8_t*>malloc(len(joined))
                method.starts = <uint64_t*>malloc((len(bodies) + 1) * sizeof(uint64_t))
                if method.bodies == NULL or method.starts == NULL:
                    raise MemoryError()
                memcpy(method.bodies, <const char*>joined, len(joined))
                offset = 0
                for place, body in enumerate(bodies):
                    method.starts[place] = offset
                    offset += len(body)
                method.starts[len(bodies)] = offset
            fields = [
                (b":method", b"POST"), (b":scheme", b"http"), (b":path", call.path.encode()),
                (b":authority", self.target.encode()), (b"te", b"trailers"), (b"content-type", b"application/grpc"),
            ]
            if timeout > 0:
                fields.append((b"grpc-timeout", b"%du" % min(99_999_999, max(1, round(timeout * 1e6)))))
            fields += [(name.lower().encode(), value.encode()) for name, value in metadata]
            self._put_fields(method, fields)

    cdef _put_fields(self, Method* method, list fields):
        """The fields in one block: their texts, then the table. The session refers to the texts and copies nothing."""
        cdef bytes texts = b"".join(name + value for name, value in fields)
        cdef uint8_t* at
        method.fields = <nghttp2_nv*>calloc(len(fields), sizeof(nghttp2_nv))
        method.path = at = <uint8_t*>malloc(len(texts))
        if method.fields == NULL or at == NULL:
            raise MemoryError()
        memcpy(at, <const char*>texts, len(texts))
        method.field_count = len(fields)
        for number, (name, value) in enumerate(fields):
            method.fields[number].name = at
            method.fields[number].namelen = len(name)
            method.fields[number].value = at + <size_t>len(name)
            method.fields[number].valuelen = len(value)
            method.fields[number].flags = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE
            at += <size_t>(len(name) + len(value))

    cdef _prepare_memory(self, int connections, int streams):
        cdef Loop* loop = self.loop
        cdef uint32_t index
        loop.wanted = connections
        loop.streams = streams
        loop.connection_count = 2 * connections
        loop.slot_count = loop.connection_count * streams
        loop.connections = <Connection*>calloc(loop.connection_count, sizeof(Connection))
        loop.slots = <Slot*>calloc(loop.slot_count, sizeof(Slot))
        loop.buffer = <uint8_t*>malloc(READ_BYTES)
        loop.by_interval = <uint32_t*>calloc((INTERVALS + 1) * BUCKETS, sizeof(uint32_t))
        loop.interval_scheduled = <int64_t*>calloc(INTERVALS + 1, sizeof(int64_t))
        loop.interval_completed = <int64_t*>calloc(INTERVALS + 1, sizeof(int64_t))
        loop.interval_failed = <int64_t*>calloc(INTERVALS + 1, sizeof(int64_t))
        loop.interval_lag = <int64_t*>calloc(INTERVALS + 1, sizeof(int64_t))
        loop.interval_largest = <int64_t*>calloc(INTERVALS + 1, sizeof(int64_t))
        if (
            loop.connections == NULL or loop.slots == NULL or loop.buffer == NULL or loop.by_interval == NULL
            or loop.interval_scheduled == NULL or loop.interval_completed == NULL or loop.interval_failed == NULL
            or loop.interval_lag == NULL or loop.interval_largest == NULL
        ):
            raise MemoryError()
        if loop.takes_tokens:
            loop.own_block = <uint8_t*>malloc(<size_t>loop.slot_count * OWN_BYTES)
            loop.tokens = <uint8_t*>malloc(TOKENS * TOKEN_BYTES)
            loop.token_bytes = <uint32_t*>calloc(TOKENS, sizeof(uint32_t))
            if loop.own_block == NULL or loop.tokens == NULL or loop.token_bytes == NULL:
                raise MemoryError()
        for index in range(loop.slot_count):
            if loop.takes_tokens:
                loop.slots[index].own = loop.own_block + <size_t>index * OWN_BYTES
            loop.slots[index].next = loop.free_slots
            loop.free_slots = &loop.slots[index]
        for index in range(loop.connection_count):
            loop.connections[index].loop = loop
            loop.connections[index].fd = -1
            loop.connections[index].out = <uint8_t*>malloc(OUT_BYTES)
            if loop.connections[index].out == NULL:
                raise MemoryError()

    cdef _prepare_session(self):
        cdef Loop* loop = self.loop
        cdef int ends[2]
        cdef epoll_event event
        loop.memory.mem_user_data = &loop.pool
        loop.memory.malloc = pool_take
        loop.memory.free = pool_give
        loop.memory.calloc = pool_clear
        loop.memory.realloc = pool_resize
        if nghttp2_session_callbacks_new(&loop.callbacks) or nghttp2_option_new(&loop.option):
            raise MemoryError()
        nghttp2_option_set_no_closed_streams(loop.option, 1)
        nghttp2_session_callbacks_set_on_frame_recv_callback(loop.callbacks, _on_frame)
        nghttp2_session_callbacks_set_on_header_callback(loop.callbacks, _on_header)
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(loop.callbacks, _on_data)
        nghttp2_session_callbacks_set_on_stream_close_callback(loop.callbacks, _on_close)
        loop.epoll = epoll_create1(EPOLL_CLOEXEC)
        if loop.epoll < 0 or pipe2(ends, O_NONBLOCK | O_CLOEXEC):
            raise OSError(errno, "no descriptors are left for the generator")
        loop.stop_fd = ends[0]
        self.stop_in = ends[1]
        event.events = EPOLLIN
        event.data.ptr = NULL
        epoll_ctl(loop.epoll, EPOLL_CTL_ADD, loop.stop_fd, &event)

    def __dealloc__(self):
        cdef Loop* loop = self.loop
        cdef uint32_t index, sample
        if loop == NULL:
            return
        if loop.connections != NULL:
            for index in range(loop.connection_count):
                if loop.connections[index].loop != NULL and loop.connections[index].state != CLOSED:
                    _close(&loop.connections[index])
                free(loop.connections[index].out)
        if loop.slots != NULL:
            for index in range(loop.slot_count):
                free(loop.slots[index].kept)
        if loop.methods != NULL:
            for index in range(loop.method_count):
                free(loop.methods[index].fields)
                free(loop.methods[index].path)
                free(loop.methods[index].bodies)
                free(loop.methods[index].starts)
                for sample in range(loop.methods[index].sample_count):
                    free(loop.methods[index].samples[sample])
        for pointer in (
            <size_t>loop.methods, <size_t>loop.connections, <size_t>loop.slots, <size_t>loop.own_block,
            <size_t>loop.buffer, <size_t>loop.by_interval, <size_t>loop.interval_scheduled,
            <size_t>loop.interval_completed, <size_t>loop.interval_failed, <size_t>loop.interval_lag,
            <size_t>loop.interval_largest, <size_t>loop.tokens, <size_t>loop.token_bytes,
        ):
            free(<void*><size_t>pointer)
        nghttp2_session_callbacks_del(loop.callbacks)
        nghttp2_option_del(loop.option)
        pool_empty(&loop.pool)
        for descriptor in (loop.epoll, loop.stop_fd, self.stop_in):
            if descriptor >= 0:
                c_close(descriptor)
        free(loop)
        self.loop = NULL

    @property
    def stop_fd(self):
        """A descriptor for `signal.set_wakeup_fd`: any byte written to it ends the run, as `stop` does."""
        return self.stop_in

    def stop(self):
        """Ends the run that is going on, from any thread: nothing more is sent, open calls have a second."""
        cdef uint8_t byte = 1
        c_write(self.stop_in, &byte, 1)

    def connect(self, double seconds=5.0):
        """Opens every connection, trying again until ``seconds`` are over; ConnectionError says why it could not."""
        cdef int standing
        cdef int64_t patience = <int64_t>(seconds * 1e9)
        self._claim()
        try:
            self.loop.stopped = False
            with nogil:
                standing = _open_connections(self.loop, patience)
        finally:
            self.running = False
        if standing < <int>self.loop.wanted:
            cause = f": {os.strerror(self.loop.connect_error)}" if self.loop.connect_error else ""
            raise ConnectionError(
                f"{standing} of {self.loop.wanted} connections to {self.target} could be opened within {seconds:g} s{cause}. "
                "Is a gRPC server listening there without TLS?"
            )

    def run(self, pace, *, double drain=10.0, double interval=1.0):
        """Runs a pace and tells what happened.

        ``drain``: seconds that answers may come after the schedule's end, and late requests may still be sent.
        ``interval``: seconds of one step of the timeline, at most 600 of them.
        ConnectionError when a connection cannot be opened at the start; what happens later is in the result.
        """
        cdef Loop* loop = self.loop
        cdef int64_t cpu
        cdef uint64_t allocations = loop.pool.allocations
        if pace.seconds <= 0 or (pace.rate <= 0) == (pace.open_calls <= 0):
            raise ValueError("A pace needs seconds, and either a rate or a number of open calls.")
        if interval <= 0 or pace.seconds / interval > INTERVALS:
            raise ValueError(f"{pace.seconds:g} s in steps of {interval:g} s are more than {INTERVALS} steps.")
        self.connect()
        self._claim()
        try:
            self._forget()
            begin_schedule(&loop.schedule, pace.rate, pace.seconds, pace.poisson, loop.seed)
            loop.open_limit = pace.open_calls
            loop.drain = <int64_t>(drain * 1e9)
            loop.interval = <int64_t>(interval * 1e9)
            loop.interval_count = int(np.ceil(pace.seconds / interval - 1e-9))
            with nogil:
                cpu = rapport_clock(CLOCK_THREAD_CPUTIME_ID)
                _run(loop)
                cpu = rapport_clock(CLOCK_THREAD_CPUTIME_ID) - cpu
            return self._taken(pace, cpu, loop.pool.allocations - allocations)
        finally:
            self.running = False

    cdef _claim(self):
        if self.running:
            raise RuntimeError("This generator is running already.")
        self.running = True

    cdef _forget(self):
        """Counts of the run before. Tokens stay: what they report on is still true."""
        cdef Loop* loop = self.loop
        cdef uint32_t index, sample, step
        cdef Method* method
        cdef uint8_t* first = <uint8_t*>&loop.scheduled
        memset(first, 0, <uint8_t*>&loop.by_interval - first)
        memset(loop.by_interval, 0, (INTERVALS + 1) * BUCKETS * sizeof(uint32_t))
        for step in range(INTERVALS + 1):
            loop.interval_scheduled[step] = loop.interval_completed[step] = loop.interval_failed[step] = 0
            loop.interval_lag[step] = loop.interval_largest[step] = 0
        loop.token_before = loop.token_in
        loop.without_token = loop.looked = loop.placements = loop.filled = loop.offers = 0
        memset(loop.outcomes, 0, sizeof(loop.outcomes))
        loop.stopped = False
        for index in range(loop.method_count):
            method = &loop.methods[index]
            memset(&method.latency, 0, sizeof(Histogram))
            memset(&method.service, 0, sizeof(Histogram))
            method.sent = method.answered = method.failed = 0
            for sample in range(method.sample_count):
                free(method.samples[sample])
                method.samples[sample] = NULL
            method.sample_count = 0

    cdef _taken(self, pace, int64_t cpu, uint64_t allocations):
        cdef Loop* loop = self.loop
        cdef uint32_t index, sample, steps = loop.interval_count
        cdef Method* method
        parts, samples, failures, messages = [], [], {}, {}
        for index in range(loop.method_count):
            method = &loop.methods[index]
            name = self.calls[index].name
            parts.append(
                Part(name, method.sent, method.answered, method.failed, _counted(&method.latency), _counted(&method.service)))
            for sample in range(method.sample_count):
                samples.append((name, PyBytes_FromStringAndSize(<char*>method.samples[sample], method.sample_bytes[sample])))
        for index in range(<uint32_t>1, <uint32_t>STATUSES):
            if loop.statuses[index]:
                failures[_STATUS_NAMES[index]] = loop.statuses[index]
                if loop.said_bytes[index]:
                    said = PyBytes_FromStringAndSize(<char*>loop.said[index], loop.said_bytes[index])
                    messages[_STATUS_NAMES[index]] = said.decode(errors="replace")
        for index in range(<uint32_t>RESETS):
            if loop.resets[index]:
                failures[f"reset {_RESET_NAMES[index]}"] = loop.resets[index]
        for name, count in (
            ("never processed", loop.never_processed), ("HTTP error", loop.http_errors), ("broken answer", loop.broken),
            ("connection lost", loop.lost), ("unfinished", loop.unfinished),
        ):
            if count:
                failures[name] = count
        latency = []
        for index in range(steps):
            counts = _numbers(loop.by_interval + <size_t>index * BUCKETS, BUCKETS, np.uint32).astype(np.uint64)
            latency.append(Counted(counts, loop.interval_largest[index]))
        timeline = Timeline(
            loop.interval / 1e9,
            _numbers(loop.interval_scheduled, steps, np.int64), _numbers(loop.interval_completed, steps, np.int64),
            _numbers(loop.interval_failed, steps, np.int64), _numbers(loop.interval_lag, steps, np.int64), latency)
        outcomes = {_OUTCOME_NAMES[index]: loop.outcomes[index] for index in range(6) if loop.outcomes[index]}
        tokens = loop.token_in - loop.token_before
        seen = Seen(loop.looked, loop.placements, loop.filled, loop.offers, tokens, loop.without_token, outcomes)
        connections = Connections(loop.opened, loop.refused_connections, loop.lost_connections, loop.goaways)
        return Taken(
            pace, (loop.now - loop.start) / 1e9, loop.scheduled, loop.sent, loop.answered, loop.unsent, bool(loop.stopped),
            failures, messages, parts, _counted(&loop.failed_latency), _counted(&loop.lag), _counted(&loop.waited), timeline,
            seen, connections, samples, cpu / 1e9, loop.longest_pass, allocations, loop.bytes_out, loop.bytes_in)

    def progress(self):
        """Seconds since the start of the run, and scheduled, answered, failed and open calls so far."""
        cdef Loop* loop = self.loop
        cdef double seconds = (clock_ns() - loop.start) / 1e9
        return seconds, loop.scheduled, loop.answered, loop.failed, loop.open_calls

    def peek(self):
        """The latencies of the run so far, and the generator's lag."""
        found = Counted()
        for index in range(self.loop.method_count):
            found = found + _counted(&self.loop.methods[index].latency)
        return found, _counted(&self.loop.lag)
