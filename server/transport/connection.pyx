"""One HTTP/2 connection over libnghttp2, and gRPC's unary calls on it.

Bytes that arrive go through the session, whose callbacks fill `Call`s; a call that is whole joins the loop's queue. Answers are
submitted to the session and leave with the connection's next flush, so that all answers of a round share one write.

What a peer can make grow is bounded here: fields and message of a call, streams, bytes held and unsent, the time from accept
to the client's settings, the time a call takes to arrive and its answer to be taken, and, by budgets that fill again with
time and with answers sent, control frames, key updates of TLS, and resets. Whoever spends a budget is told
ENHANCE_YOUR_CALM and closed; other connections never notice. A connection that takes no answers is not read: what nghttp2
queues in reply to frames is bounded by that alone.

A response is HEADERS, DATA, and trailers with grpc-status; an error is one HEADERS frame with the status in it
("trailers-only"), followed by RST_STREAM with NO_ERROR where the client is still sending.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy

from server.transport.calls cimport call_begin, call_end, call_leave, call_reads, ready_is_full, ready_put
from server.transport.linux cimport (
    EAGAIN,
    EINTR,
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    IPPROTO_TCP,
    MSG_NOSIGNAL,
    SO_KEEPALIVE,
    SOL_SOCKET,
    TCP_NODELAY,
    close,
    epoll_ctl,
    epoll_event,
    errno,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    recv,
    send,
    SHUT_WR,
    setsockopt,
    shutdown,
)
from server.transport.nghttp2 cimport (
    NGHTTP2_CANCEL,
    NGHTTP2_CONTINUATION,
    NGHTTP2_DATA,
    NGHTTP2_DATA_FLAG_EOF,
    NGHTTP2_DATA_FLAG_NO_END_STREAM,
    NGHTTP2_ENHANCE_YOUR_CALM,
    NGHTTP2_ERR_CALLBACK_FAILURE,
    NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE,
    NGHTTP2_FLAG_ACK,
    NGHTTP2_FLAG_END_STREAM,
    NGHTTP2_FLAG_NONE,
    NGHTTP2_HCAT_REQUEST,
    NGHTTP2_HEADERS,
    NGHTTP2_INTERNAL_ERROR,
    NGHTTP2_NO_ERROR,
    NGHTTP2_NV_FLAG_NO_COPY_NAME,
    NGHTTP2_NV_FLAG_NO_COPY_VALUE,
    NGHTTP2_PING,
    NGHTTP2_PROTOCOL_ERROR,
    NGHTTP2_RST_STREAM,
    NGHTTP2_SETTINGS,
    NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE,
    NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
    NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE,
    nghttp2_data_provider,
    nghttp2_data_source,
    nghttp2_frame,
    nghttp2_frame_hd,
    nghttp2_mem,
    nghttp2_nv,
    nghttp2_option_del,
    nghttp2_option_new,
    nghttp2_option_set_no_closed_streams,
    nghttp2_option_set_stream_reset_rate_limit,
    nghttp2_session,
    nghttp2_session_callbacks_del,
    nghttp2_session_callbacks_new,
    nghttp2_session_callbacks_set_on_begin_frame_callback,
    nghttp2_session_callbacks_set_on_begin_headers_callback,
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback,
    nghttp2_session_callbacks_set_on_frame_recv_callback,
    nghttp2_session_callbacks_set_on_frame_send_callback,
    nghttp2_session_callbacks_set_on_header_callback,
    nghttp2_session_callbacks_set_on_stream_close_callback,
    nghttp2_session_del,
    nghttp2_session_get_last_proc_stream_id,
    nghttp2_session_get_stream_user_data,
    nghttp2_session_mem_recv,
    nghttp2_session_mem_send,
    nghttp2_session_server_new3,
    nghttp2_session_set_local_window_size,
    nghttp2_session_set_stream_user_data,
    nghttp2_session_terminate_session,
    nghttp2_session_want_read,
    nghttp2_session_want_write,
    nghttp2_settings_entry,
    nghttp2_submit_goaway,
    nghttp2_submit_ping,
    nghttp2_submit_response,
    nghttp2_submit_rst_stream,
    nghttp2_submit_settings,
    nghttp2_submit_shutdown_notice,
    nghttp2_submit_trailer,
)
from server.transport.openssl cimport (
    SSL,
    SSL3_RT_ALERT,
    SSL3_RT_HANDSHAKE,
    SSL_ERROR_WANT_READ,
    SSL_ERROR_WANT_WRITE,
    ERR_clear_error,
    SSL_do_handshake,
    SSL_free,
    SSL_get0_alpn_selected,
    SSL_get_error,
    SSL_new,
    SSL_read,
    SSL_set_accept_state,
    SSL_set_fd,
    SSL_set_msg_callback,
    SSL_set_msg_callback_arg,
    SSL_shutdown,
    SSL_write,
)
from server.transport.pool cimport pool_memory
from server.transport.state cimport (
    CALL_ANSWERING,
    CALL_AWAY,
    CALL_READING,
    CALL_READY,
    KIND_DECIDE,
    READ_BYTES,
    REFUSED_COMPRESSED,
    REFUSED_FLAG,
    REFUSED_FRAMING,
    REFUSED_MEMORY,
    REFUSED_MESSAGE,
    REFUSED_METADATA,
    REFUSED_METHOD,
    REFUSED_NOT,
    REFUSED_OVERLOAD,
    REFUSED_TIMEOUT,
    WRITE_BYTES,
    Call,
    Connection,
    Limits,
    Loop,
    Plane,
    Refusal,
)
from server.transport.words cimport TIMEOUT_BAD, is_grpc, timeout_ns

cdef enum:
    LEAVE_NS = 100_000_000  # between the first GOAWAY, which reaches the peer meanwhile, and the last
    READS_A_ROUND = 4  # of TLS, whose records are a quarter of a read: one busy connection does not keep the others waiting
    LINGER_NS = 1_000_000_000  # for the peer to read to the end and to close: many round trips
    FRAME_HEAD = 9  # bytes before a frame's payload
    STREAM_WINDOW = 65_535  # HTTP/2's own; requests are small
    CONNECTION_WINDOW = 1_048_576  # a full message of the largest size without waiting
    CREDIT_A_CALL = 4  # control frames an answered call earns: window updates, pings for bandwidth
    CREDIT_A_PIECE = 2  # a large frame of an answer earns: its stream's and its connection's window update
    PIECE_BYTES = 1024  # the least that is large: a client that takes less at a time earns nothing by it
    CRUMB_BYTES = 256  # a frame of a request that carries less costs more than it brings
    STREAMS_A_CREDIT = 16  # that a change of settings goes through
    BLOCK_BYTES = 2048  # of a header block cost a control frame
    LOST_BYTES = 64  # of one that nobody reads do
    METADATA_TIMES = 16  # header fields of so many times the limit are an attack, not a mistake
    # A second of what nghttp2 passes over without a word: frames of unknown kinds, and data of streams that are over, of which
    # a window may be under way when they are refused.
    STRANGE_BYTES = 2_097_152
    SHAKES_A_ROUND = 2  # handshakes: each may take a millisecond or two of signing, and calls wait for QUEUE_MS at most

# Prepared fields; each lives as long as the program.
cdef nghttp2_nv _STATUS_200 = _field(b":status", b"200")
cdef nghttp2_nv _STATUS_405 = _field(b":status", b"405")
cdef nghttp2_nv _STATUS_415 = _field(b":status", b"415")
cdef nghttp2_nv _CONTENT = _field(b"content-type", b"application/grpc")
cdef nghttp2_nv _OK = _field(b"grpc-status", b"0")
cdef nghttp2_nv _IDENTITY = _field(b"grpc-accept-encoding", b"identity")


cdef nghttp2_nv _field(const char* name, const char* value) noexcept:
    cdef nghttp2_nv field
    field.name = <uint8_t*> name
    field.value = <uint8_t*> value
    field.namelen = len(name)
    field.valuelen = len(value)
    field.flags = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE
    return field


cdef inline nghttp2_nv _named(const char* name, size_t name_size, const void* value, size_t size, bint copied) noexcept nogil:
    """A field whose name is a literal; the value is copied by nghttp2 unless it outlives the frame."""
    cdef nghttp2_nv field
    field.name = <uint8_t*> name
    field.namelen = name_size
    field.value = <uint8_t*> value
    field.valuelen = size
    field.flags = NGHTTP2_NV_FLAG_NO_COPY_NAME if copied else NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE
    return field


# --- what the session calls --------------------------------------------------------------------------------------

cdef inline void _dirty(Connection* connection) noexcept nogil:
    """The connection has something to send in this round."""
    if not connection.dirty and not connection.dead:
        connection.dirty = 1
        connection.next_dirty = connection.loop.dirty
        connection.loop.dirty = connection


cdef void _calm(Connection* connection) noexcept nogil:
    """Ends a connection that spent a budget."""
    if not connection.abused:
        connection.abused = 1
        connection.loop.counters.connections_abused += 1
        nghttp2_session_terminate_session(connection.session, NGHTTP2_ENHANCE_YOUR_CALM)
        _dirty(connection)


cdef int _on_begin_frame(nghttp2_session* session, const nghttp2_frame_hd* head, void* user) noexcept nogil:
    cdef Connection* connection = <Connection*> user
    connection.strange -= FRAME_HEAD + <int64_t> head.length
    if head.type == NGHTTP2_DATA:
        # Empty ones cost work and carry nothing, and so do crumbs; the last one of a stream may be small.
        if head.length >= CRUMB_BYTES or head.flags & NGHTTP2_FLAG_END_STREAM:
            return 0
        connection.control_credit -= 1
    elif head.type == NGHTTP2_HEADERS:
        connection.continuations = 0
        if (
            head.stream_id > nghttp2_session_get_last_proc_stream_id(session)
            or nghttp2_session_get_stream_user_data(session, head.stream_id) != NULL
        ):
            # What an answer earns pays for the largest that are taken: nghttp2 decodes what it refuses, too.
            connection.control_credit -= <int32_t> (head.length // BLOCK_BYTES)
        else:
            # Of a stream that is over: decoded, up to 50 ns a byte, and passed over.
            connection.control_credit -= 1 + <int32_t> (head.length // LOST_BYTES)
    elif head.type == NGHTTP2_CONTINUATION:
        connection.continuations += 1
        if connection.continuations > connection.loop.plane.limits.continuations:
            _calm(connection)
        connection.control_credit -= 1 + <int32_t> (head.length // LOST_BYTES)
    elif head.type == NGHTTP2_RST_STREAM:
        connection.reset_credit -= 1
        if connection.reset_credit < 0:
            _calm(connection)
        return 0
    elif head.type == NGHTTP2_SETTINGS:
        # A change of the window goes through all open streams.
        connection.control_credit -= 1 + <int32_t> (connection.calls // STREAMS_A_CREDIT)
    else:
        connection.control_credit -= 1
    if connection.control_credit < 0:
        _calm(connection)
    return 0


cdef int _on_begin_headers(nghttp2_session* session, const nghttp2_frame* frame, void* user) noexcept nogil:
    cdef Connection* connection = <Connection*> user
    cdef Call* call
    if frame.hd.type != NGHTTP2_HEADERS or frame.headers.cat != NGHTTP2_HCAT_REQUEST:
        return 0
    call = call_begin(connection.loop, connection, frame.hd.stream_id)
    if call == NULL:
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE
    nghttp2_session_set_stream_user_data(session, frame.hd.stream_id, call)
    return 0


cdef inline bint _same(const uint8_t* text, size_t size, const char* wanted, size_t wanted_size) noexcept nogil:
    return size == wanted_size and memcmp(text, wanted, size) == 0


cdef void _find_method(Call* call, const uint8_t* path, size_t size) noexcept nogil:
    cdef Plane* plane = call.loop.plane
    cdef uint32_t i
    for i in range(plane.method_count):
        if size == plane.methods[i].path_size and memcmp(path, plane.methods[i].path, size) == 0:
            call.method = <uint8_t> i
            call.known = 1
            return


cdef int _on_header(
    nghttp2_session* session, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
    const uint8_t* value, size_t value_size, uint8_t flags, void* user
) noexcept nogil:
    cdef Connection* connection = <Connection*> user
    cdef Call* call = <Call*> nghttp2_session_get_stream_user_data(session, frame.hd.stream_id)
    cdef int64_t span
    if call == NULL:
        return 0
    # Counted as RFC 9113 section 6.5.2 does, which is what SETTINGS_MAX_HEADER_LIST_SIZE promises.
    call.metadata_bytes += <uint32_t> (name_size + value_size + 32)
    if call.metadata_bytes // METADATA_TIMES > connection.loop.plane.limits.metadata_bytes:
        # Bytes that name a large field of the dynamic table again and again, 4 us each: ended before the block is.
        _calm(connection)
        return NGHTTP2_ERR_CALLBACK_FAILURE
    if frame.headers.cat != NGHTTP2_HCAT_REQUEST:
        return 0
    if call.metadata_bytes > connection.loop.plane.limits.metadata_bytes:
        call.refused = REFUSED_METADATA
        return 0
    if name_size == 5 and _same(name, name_size, b":path", 5):
        _find_method(call, value, value_size)
    elif name_size == 7 and _same(name, name_size, b":method", 7):
        call.posted = _same(value, value_size, b"POST", 4)
    elif name_size == 12:
        if _same(name, name_size, b"content-type", 12):
            call.content = is_grpc(value, value_size)
        elif _same(name, name_size, b"grpc-timeout", 12):
            span = timeout_ns(value, value_size)
            if span == TIMEOUT_BAD:
                if call.refused == REFUSED_NOT:
                    call.refused = REFUSED_TIMEOUT
            elif span < (<int64_t> 1 << 62):
                # Further off is no deadline at all.
                call.deadline_ns = call.begun_ns + span
                if call.deadline_ns == 0:
                    call.deadline_ns = 1
    elif name_size == 13 and _same(name, name_size, b"grpc-encoding", 13):
        call.encoded = not _same(value, value_size, b"identity", 8)
    return 0


cdef int _on_data(
    nghttp2_session* session, uint8_t flags, int32_t stream, const uint8_t* data, size_t size, void* user
) noexcept nogil:
    cdef Connection* connection = <Connection*> user
    cdef Loop* loop = connection.loop
    cdef Call* call = <Call*> nghttp2_session_get_stream_user_data(session, stream)
    cdef uint32_t length
    if call == NULL or call.where != CALL_READING or call.refused:
        return 0
    if call.body_size + size > <size_t> loop.plane.limits.message_bytes + 5:
        call.refused = REFUSED_MESSAGE
    elif (
        loop.counters.held_bytes + size > loop.plane.limits.held_bytes
        or connection.requested + size > loop.plane.limits.requested_bytes
    ):
        call.refused = REFUSED_OVERLOAD
    elif not call_reads(call, data, size):
        call.refused = REFUSED_MEMORY
    elif call.body_size >= 5:
        # Known too large is said before it has arrived.
        length = (
            <uint32_t> call.body[1] << 24 | <uint32_t> call.body[2] << 16 | <uint32_t> call.body[3] << 8 | call.body[4]
        )
        if length > loop.plane.limits.message_bytes:
            call.refused = REFUSED_MESSAGE
    if call.refused:
        answer_refusal(call, call.refused)
    return 0


cdef uint8_t _framing(const Call* call) noexcept nogil:
    """Why the request's message cannot be taken: REFUSED_NOT when it is one whole uncompressed message."""
    cdef uint32_t length
    if call.body_size < 5:
        return REFUSED_FRAMING
    if call.body[0] == 1:
        return REFUSED_COMPRESSED if call.encoded else REFUSED_FLAG
    length = <uint32_t> call.body[1] << 24 | <uint32_t> call.body[2] << 16 | <uint32_t> call.body[3] << 8 | call.body[4]
    if call.body[0] != 0 or length != call.body_size - 5:
        return REFUSED_FRAMING
    return REFUSED_NOT


cdef int _on_frame(nghttp2_session* session, const nghttp2_frame* frame, void* user) noexcept nogil:
    cdef Connection* connection = <Connection*> user
    cdef Loop* loop = connection.loop
    cdef Call* call
    cdef uint8_t refused
    if frame.hd.type == NGHTTP2_SETTINGS:
        if not frame.hd.flags & NGHTTP2_FLAG_ACK:
            connection.greeted = 1
        return 0
    if frame.hd.type == NGHTTP2_PING:
        if frame.hd.flags & NGHTTP2_FLAG_ACK:
            connection.pinged = 0
        return 0
    if frame.hd.type != NGHTTP2_HEADERS and frame.hd.type != NGHTTP2_DATA:
        return 0
    call = <Call*> nghttp2_session_get_stream_user_data(session, frame.hd.stream_id)
    if call == NULL:
        return 0
    if frame.hd.flags & NGHTTP2_FLAG_END_STREAM:
        call.ended = 1
    if call.where != CALL_READING:
        return 0
    if frame.hd.type == NGHTTP2_HEADERS and frame.headers.cat == NGHTTP2_HCAT_REQUEST:
        if call.refused == REFUSED_METADATA:
            # What came after the limit was not looked at, the content type perhaps among it.
            answer_refusal(call, call.refused)
            return 0
        if not call.posted:
            _answer_http(call, &_STATUS_405)
            return 0
        if not call.content:
            _answer_http(call, &_STATUS_415)
            return 0
        if call.refused == REFUSED_NOT and not call.known:
            call.refused = REFUSED_METHOD
        if call.refused == REFUSED_NOT and loop.counters.open_calls > loop.plane.limits.calls:
            call.refused = REFUSED_OVERLOAD
        if call.refused:
            answer_refusal(call, call.refused)
            return 0
    if not call.ended:
        return 0
    refused = _framing(call)
    if refused:
        answer_refusal(call, refused)
        return 0
    loop.counters.calls += 1
    if loop.plane.methods[call.method].kind == KIND_DECIDE and ready_is_full(loop):
        # At once and not when its turn comes: its caller has all its time left to ask elsewhere, and its lines are in the cache.
        answer_refusal(call, REFUSED_OVERLOAD)
        return 0
    ready_put(call)
    return 0


cdef inline void _earn(Connection* connection, int32_t credit) noexcept nogil:
    connection.control_credit = min(connection.control_credit + credit, connection.loop.plane.limits.control_credit)


cdef int _on_sent(nghttp2_session* session, const nghttp2_frame* frame, void* user) noexcept nogil:
    """Keeps the budgets, and tells a client that is still sending what has been answered to stop (RFC 9113 section 8.1).

    Not sooner: nghttp2 drops what is queued for a stream once its RST_STREAM is. What is earned, is earned by answers
    that were sent: a stream's end alone can be had for a RST_STREAM.
    """
    cdef Connection* connection = <Connection*> user
    cdef Call* call
    if frame.hd.type == NGHTTP2_HEADERS and frame.hd.flags & NGHTTP2_FLAG_END_STREAM:
        _earn(connection, CREDIT_A_CALL)
        connection.reset_credit = min(connection.reset_credit + 1, connection.loop.plane.limits.reset_credit)
        call = <Call*> nghttp2_session_get_stream_user_data(session, frame.hd.stream_id)
        if call != NULL and not call.ended:
            nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame.hd.stream_id, NGHTTP2_NO_ERROR)
    elif frame.hd.type == NGHTTP2_DATA and frame.hd.length >= PIECE_BYTES:
        _earn(connection, CREDIT_A_PIECE)
    elif frame.hd.type == NGHTTP2_RST_STREAM and frame.rst_stream.error_code != NGHTTP2_NO_ERROR:
        # Malformed, or one stream too many: nghttp2 refuses these by itself.
        connection.control_credit -= 1
        if connection.control_credit < 0:
            _calm(connection)
    return 0


cdef int _on_close(nghttp2_session* session, int32_t stream, uint32_t code, void* user) noexcept nogil:
    cdef Call* call = <Call*> nghttp2_session_get_stream_user_data(session, stream)
    if call != NULL:
        nghttp2_session_set_stream_user_data(session, stream, NULL)
        _forget(call)
    return 0


cdef void _forget(Call* call) noexcept nogil:
    """The stream is over: frees the call, unless it is queued or away, which then free it when its turn comes."""
    call_leave(call)
    if call.where != CALL_AWAY and call.where != CALL_READY:
        call_end(call)


# --- answers -----------------------------------------------------------------------------------------------------

cdef ssize_t _read_answer(
    nghttp2_session* session, int32_t stream, uint8_t* into, size_t room, uint32_t* flags,
    nghttp2_data_source* source, void* user
) noexcept nogil:
    cdef Call* call = <Call*> source.ptr
    cdef size_t size = min(room, call.answer_size - call.answer_sent)
    memcpy(into, call.answer + call.answer_sent, size)
    call.answer_sent += size
    call.connection.unsent -= size
    call.connection.moved_ns = call.loop.now_ns
    if call.answer_sent == call.answer_size:
        flags[0] |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM
        if nghttp2_submit_trailer(session, stream, &_OK, 1) != 0:
            return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE
    return <ssize_t> size


cdef void answer_message(Call* call) noexcept nogil:
    """Sends the call's answer with status OK. The loop's thread, with a call whose connection is there."""
    cdef Connection* connection = call.connection
    cdef nghttp2_nv[2] fields
    cdef nghttp2_data_provider provider
    fields[0] = _STATUS_200
    fields[1] = _CONTENT
    provider.source.ptr = call
    provider.read_callback = _read_answer
    call.where = CALL_ANSWERING
    call.begun_ns = call.loop.now_ns
    connection.unsent += call.answer_size
    if nghttp2_submit_response(connection.session, call.stream, fields, 2, &provider) != 0:
        nghttp2_submit_rst_stream(connection.session, NGHTTP2_FLAG_NONE, call.stream, NGHTTP2_INTERNAL_ERROR)
    _dirty(connection)


cdef void _answer_fields(Call* call, const nghttp2_nv* fields, size_t count) noexcept nogil:
    """Sends an answer that is one HEADERS frame."""
    cdef Connection* connection = call.connection
    call.where = CALL_ANSWERING
    call.begun_ns = call.loop.now_ns
    if nghttp2_submit_response(connection.session, call.stream, fields, count, NULL) != 0:
        nghttp2_submit_rst_stream(connection.session, NGHTTP2_FLAG_NONE, call.stream, NGHTTP2_INTERNAL_ERROR)
    _dirty(connection)


cdef void _answer_http(Call* call, const nghttp2_nv* status) noexcept nogil:
    """What is no gRPC call gets an HTTP status, as the protocol's document asks."""
    _answer_fields(call, status, 1)


cdef void answer_refusal(Call* call, uint8_t refusal) noexcept nogil:
    """Ends a call with a prepared refusal. The loop's thread, with a call whose connection is there."""
    cdef const Refusal* words = &call.loop.plane.refusals[refusal]
    cdef nghttp2_nv[6] fields
    cdef size_t count = 5
    call.loop.counters.refused[refusal] += 1
    fields[0] = _STATUS_200
    fields[1] = _CONTENT
    fields[2] = _named(b"grpc-status", 11, words.status, words.status_size, False)
    fields[3] = _named(b"grpc-message", 12, words.message, words.message_size, False)
    fields[4] = _named(b"grpc-status-details-bin", 23, words.details, words.details_size, False)
    if refusal == REFUSED_COMPRESSED:
        fields[5] = _IDENTITY
        count = 6
    _answer_fields(call, fields, count)


cdef void answer_error(Call* call) noexcept nogil:
    """Ends a call with the error that Python worded. The loop's thread, with a call whose connection is there."""
    cdef nghttp2_nv[5] fields
    fields[0] = _STATUS_200
    fields[1] = _CONTENT
    fields[2] = _named(b"grpc-status", 11, call.status, call.status_size, True)
    fields[3] = _named(b"grpc-message", 12, call.message, call.message_size, True)
    fields[4] = _named(b"grpc-status-details-bin", 23, call.message + call.message_size, call.details_size, True)
    _answer_fields(call, fields, 5)


# --- the connection ----------------------------------------------------------------------------------------------

cdef int sessions_open(Plane* plane) noexcept nogil:
    """Makes what all sessions of a plane share; 0, or an nghttp2 code."""
    cdef int code = nghttp2_session_callbacks_new(&plane.callbacks)
    if code:
        return code
    nghttp2_session_callbacks_set_on_begin_frame_callback(plane.callbacks, _on_begin_frame)
    nghttp2_session_callbacks_set_on_begin_headers_callback(plane.callbacks, _on_begin_headers)
    nghttp2_session_callbacks_set_on_header_callback(plane.callbacks, _on_header)
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(plane.callbacks, _on_data)
    nghttp2_session_callbacks_set_on_frame_recv_callback(plane.callbacks, _on_frame)
    nghttp2_session_callbacks_set_on_frame_send_callback(plane.callbacks, _on_sent)
    nghttp2_session_callbacks_set_on_stream_close_callback(plane.callbacks, _on_close)
    code = nghttp2_option_new(&plane.options)
    if code == 0:
        # Closed streams are kept for a priority tree that nobody here uses.
        nghttp2_option_set_no_closed_streams(plane.options, 1)
        # Ours is kept instead: nghttp2's would send away a busy client that cancels 33 calls a second of thousands.
        nghttp2_option_set_stream_reset_rate_limit(plane.options, 1 << 32, 1 << 32)
    return code


cdef void sessions_close(Plane* plane) noexcept nogil:
    """Frees what `sessions_open` made; no session may be left."""
    if plane.callbacks != NULL:
        nghttp2_session_callbacks_del(plane.callbacks)
        plane.callbacks = NULL
    if plane.options != NULL:
        nghttp2_option_del(plane.options)
        plane.options = NULL


cdef Connection* connection_open(Loop* loop, int fd) noexcept nogil:
    """A connection over an accepted, non-blocking socket, which it owns from now on; NULL, and fd closed, without memory.

    The session is made with the first byte: a connection that never speaks costs a few hundred bytes.
    """
    cdef Connection* connection = <Connection*> calloc(1, sizeof(Connection))
    cdef int on = 1
    cdef epoll_event event
    if connection == NULL:
        close(fd)
        return NULL
    # Fail on a Unix socket, which needs neither.
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on))
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on))
    connection.loop = loop
    connection.fd = fd
    connection.opened_ns = connection.heard_ns = connection.moved_ns = connection.idle_ns = loop.now_ns
    connection.control_credit = loop.plane.limits.control_credit
    connection.reset_credit = loop.plane.limits.reset_credit
    connection.events = EPOLLIN
    event.events = EPOLLIN
    event.data.ptr = connection
    if loop.plane.secure:
        pthread_mutex_lock(&loop.plane.tls_mutex)
        connection.ssl = SSL_new(loop.plane.tls)
        pthread_mutex_unlock(&loop.plane.tls_mutex)
        if connection.ssl != NULL and SSL_set_fd(connection.ssl, fd) != 1:
            SSL_free(connection.ssl)
            connection.ssl = NULL
        if connection.ssl == NULL:
            close(fd)
            free(connection)
            return NULL
        SSL_set_accept_state(connection.ssl)
    if epoll_ctl(loop.ep, EPOLL_CTL_ADD, fd, &event) != 0:
        if connection.ssl != NULL:
            SSL_free(connection.ssl)
        close(fd)
        free(connection)
        return NULL
    connection.next = loop.connections
    if loop.connections != NULL:
        loop.connections.previous = connection
    loop.connections = connection
    loop.counters.connections += 1
    loop.counters.open_connections += 1
    return connection


cdef bint _greet(Connection* connection) noexcept nogil:
    """Makes the session and queues our settings; False without memory."""
    cdef Plane* plane = connection.loop.plane
    cdef nghttp2_settings_entry[3] settings
    cdef nghttp2_mem memory = pool_memory(&connection.loop.pool)
    settings[0].settings_id = NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS
    settings[0].value = plane.limits.streams
    settings[1].settings_id = NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE
    settings[1].value = STREAM_WINDOW
    settings[2].settings_id = NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE
    settings[2].value = plane.limits.metadata_bytes
    # The session copies what tells where its memory comes from.
    if nghttp2_session_server_new3(&connection.session, plane.callbacks, connection, plane.options, &memory) != 0:
        connection.session = NULL
        return False
    if nghttp2_submit_settings(connection.session, NGHTTP2_FLAG_NONE, settings, 3) != 0:
        return False
    if nghttp2_session_set_local_window_size(connection.session, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW) != 0:
        return False
    _dirty(connection)
    return True


cdef void _watch(Connection* connection, uint32_t events) noexcept nogil:
    """Tells epoll what the connection waits for, when that changed."""
    cdef epoll_event event
    if connection.events == events or connection.dead:
        return
    event.events = events
    event.data.ptr = connection
    connection.events = events
    epoll_ctl(connection.loop.ep, EPOLL_CTL_MOD, connection.fd, &event)


cdef void _on_tls_message(
    int written, int version, int kind, const void* bytes, size_t size, SSL* ssl, void* user
) noexcept nogil:
    """Counts what TLS says beside data once the handshake is over: key updates, and the refusals of new handshakes.

    Each costs the derivation of keys, or an answer, and carries no call. OpenSSL bounds neither. It is told within a read or a
    write, which must go on; `connection_event` acts on the spent budget.
    """
    cdef Connection* connection = <Connection*> user
    if kind == SSL3_RT_HANDSHAKE or kind == SSL3_RT_ALERT:
        connection.control_credit -= 1


cdef void _shake(Connection* connection) noexcept nogil:
    """Goes on with the TLS handshake. Closes the connection when it fails."""
    cdef int result, error
    cdef const unsigned char* protocol = NULL
    cdef unsigned int size = 0
    ERR_clear_error()
    result = SSL_do_handshake(connection.ssl)
    if result == 1:
        # Who offers protocols without h2 was refused meanwhile; who offers none was not asked.
        SSL_get0_alpn_selected(connection.ssl, &protocol, &size)
        if size == 0:
            connection.loop.counters.handshakes_failed += 1
            connection_close(connection)
            return
        connection.secure = 1
        SSL_set_msg_callback(connection.ssl, _on_tls_message)
        SSL_set_msg_callback_arg(connection.ssl, connection)
        _watch(connection, EPOLLIN)
        return
    error = SSL_get_error(connection.ssl, result)
    if error == SSL_ERROR_WANT_READ:
        _watch(connection, EPOLLIN)
    elif error == SSL_ERROR_WANT_WRITE:
        _watch(connection, EPOLLOUT)
    else:
        connection.loop.counters.handshakes_failed += 1
        connection_close(connection)


cdef ssize_t _receive(Connection* connection, uint8_t* into, size_t room) noexcept nogil:
    """Bytes read; 0 at the end; -1 when there is nothing now; -2 when the connection is broken."""
    cdef ssize_t got
    cdef int error
    if connection.ssl == NULL:
        while True:
            got = recv(connection.fd, into, room, 0)
            if got >= 0:
                return got
            if errno == EINTR:
                continue
            return -1 if errno == EAGAIN else -2
    ERR_clear_error()
    got = SSL_read(connection.ssl, into, <int> room)
    if got > 0:
        return got
    error = SSL_get_error(connection.ssl, <int> got)
    if error == SSL_ERROR_WANT_READ:
        return -1
    # WANT_WRITE would be renegotiation or a key update's answer that does not fit the socket: it goes with the next write.
    return -1 if error == SSL_ERROR_WANT_WRITE else 0 if got == 0 else -2


cdef ssize_t _send(Connection* connection, const uint8_t* bytes, size_t size) noexcept nogil:
    """Bytes the socket took; -1 when it takes none now; -2 when the connection is broken."""
    cdef ssize_t sent
    cdef int error
    if connection.ssl == NULL:
        while True:
            sent = send(connection.fd, bytes, size, MSG_NOSIGNAL)
            if sent >= 0:
                return sent
            if errno == EINTR:
                continue
            return -1 if errno == EAGAIN else -2
    ERR_clear_error()
    sent = SSL_write(connection.ssl, bytes, <int> size)
    if sent > 0:
        return sent
    error = SSL_get_error(connection.ssl, <int> sent)
    return -1 if error == SSL_ERROR_WANT_WRITE or error == SSL_ERROR_WANT_READ else -2


cdef void connection_event(Connection* connection, unsigned int events) noexcept nogil:
    """Acts on what epoll told of the connection: goes on with the handshake, reads, and marks it for flushing."""
    cdef Loop* loop = connection.loop
    cdef ssize_t got, taken
    cdef int _
    if connection.dead:
        return
    if connection.ssl != NULL and not connection.secure:
        if events & (EPOLLERR | EPOLLHUP):
            loop.counters.handshakes_failed += 1
            connection_close(connection)
            return
        if loop.shakes < SHAKES_A_ROUND:
            # Others are told again in the next round, after those that were not named in this one; so is what it sends
            # after its handshake, so that a call is stamped when it is read.
            loop.shakes += 1
            _shake(connection)
        return
    if connection.lingering:
        _drop(connection)
        return
    if events & EPOLLOUT:
        _dirty(connection)
    if connection.rest != NULL or connection.doomed or connection.abused:
        # Nothing is read of whom we cannot answer: what nghttp2 would queue in reply has no other bound. Nor of whom
        # we have told to go.
        if events & (EPOLLERR | EPOLLHUP):
            connection_close(connection)
        return
    if not events & (EPOLLIN | EPOLLERR | EPOLLHUP):
        return
    for _ in range(READS_A_ROUND):
        got = _receive(connection, loop.buffer, READ_BYTES)
        if connection.control_credit < 0 and not connection.abused:
            # Of what TLS says beside data: see `_on_tls_message`.
            if connection.session == NULL:
                loop.counters.connections_abused += 1
                connection_close(connection)
                return
            _calm(connection)
        if got == -1:
            return
        if got <= 0:
            # Reset, or the peer has closed: it takes no answers any more.
            connection_close(connection)
            return
        loop.counters.bytes_in += <uint64_t> got
        connection.heard_ns = loop.now_ns
        if connection.session == NULL and not _greet(connection):
            connection_close(connection)
            return
        taken = nghttp2_session_mem_recv(connection.session, loop.buffer, <size_t> got)
        _dirty(connection)
        if taken < 0:
            # Not HTTP/2, a flood that nghttp2 saw first, or no memory: say so if the session still can, and go.
            if connection.greeted:
                _calm(connection)
            else:
                loop.counters.handshakes_failed += 1
                nghttp2_session_terminate_session(connection.session, NGHTTP2_PROTOCOL_ERROR)
            connection.doomed = 1
            return
        connection.strange += got
        if connection.strange > STRANGE_BYTES:
            _calm(connection)
        if connection.ssl == NULL or connection.abused:
            return


cdef bint _keep_rest(Connection* connection, const uint8_t* bytes, size_t size) noexcept nogil:
    """Keeps what the socket did not take; False without memory. The loop's memory counts it: the calls may be over."""
    connection.rest = <uint8_t*> malloc(size)
    if connection.rest == NULL:
        return False
    memcpy(connection.rest, bytes, size)
    connection.rest_start = 0
    connection.rest_end = size
    connection.loop.counters.held_bytes += size
    return True


cdef void _drop_rest(Connection* connection) noexcept nogil:
    if connection.rest != NULL:
        connection.loop.counters.held_bytes -= connection.rest_end
        free(connection.rest)
        connection.rest = NULL


cdef void connection_flush(Connection* connection) noexcept nogil:
    """Sends what the session has to say until the socket takes no more; closes the connection when both are done."""
    cdef Loop* loop = connection.loop
    cdef const uint8_t* piece
    cdef size_t filled
    cdef ssize_t size, sent
    if connection.dead or connection.lingering or connection.session == NULL:
        return
    if connection.ssl != NULL and not connection.secure:
        return
    while True:
        if connection.rest != NULL:
            sent = _send(connection, connection.rest + connection.rest_start, connection.rest_end - connection.rest_start)
            if sent == -2:
                connection_close(connection)
                return
            if sent == -1:
                _watch(connection, EPOLLOUT)
                return
            loop.counters.bytes_out += <uint64_t> sent
            connection.moved_ns = loop.now_ns
            connection.rest_start += <size_t> sent
            if connection.rest_start < connection.rest_end:
                continue
            _drop_rest(connection)
        filled = 0
        while filled < WRITE_BYTES // 2:
            size = nghttp2_session_mem_send(connection.session, &piece)
            if size < 0:
                connection_close(connection)
                return
            if size == 0:
                break
            # A frame is at most 16 KiB and nine bytes: it always fits.
            memcpy(loop.out + filled, piece, <size_t> size)
            filled += <size_t> size
        if filled == 0:
            break
        sent = _send(connection, loop.out, filled)
        if sent == -2:
            connection_close(connection)
            return
        if sent > 0:
            loop.counters.bytes_out += <uint64_t> sent
        else:
            sent = 0
        if <size_t> sent < filled and not _keep_rest(connection, loop.out + sent, filled - <size_t> sent):
            connection_close(connection)
            return
    _watch(connection, EPOLLIN)
    if connection.doomed or (
        not nghttp2_session_want_read(connection.session) and not nghttp2_session_want_write(connection.session)
    ):
        _linger(connection)


cdef void _linger(Connection* connection) noexcept nogil:
    """Shuts our side: the peer reads all that was sent and then the end.

    Closing at once would not do: with bytes of the peer unread, or still on their way, the kernel answers with a reset, at which
    the peer may lose the last answers. `connection_tick` ends it when the peer does not.
    """
    if connection.lingering:
        return
    connection.lingering = 1
    connection.left_ns = connection.loop.now_ns
    if connection.ssl != NULL:
        SSL_shutdown(connection.ssl)
        ERR_clear_error()
    shutdown(connection.fd, SHUT_WR)
    _watch(connection, EPOLLIN)


cdef void _drop(Connection* connection) noexcept nogil:
    """Reads what a peer still sends to a connection that lingers, as it lies on the socket, and closes at its end."""
    cdef Loop* loop = connection.loop
    cdef ssize_t got = recv(connection.fd, loop.buffer, READ_BYTES, 0)
    if got > 0:
        loop.counters.bytes_in += <uint64_t> got
    elif got == 0 or (errno != EAGAIN and errno != EINTR):
        connection_close(connection)


cdef void _end_overdue(Connection* connection, int64_t most) noexcept nogil:
    """Resets calls that the client does not send, or whose answers it does not take, in time."""
    cdef Call* call = connection.first_call
    cdef int64_t now = connection.loop.now_ns
    while call != NULL:
        if now - call.begun_ns > most and (call.where == CALL_READING or call.where == CALL_ANSWERING) and not call.overdue:
            call.overdue = 1
            connection.loop.counters.overdue += 1
            nghttp2_submit_rst_stream(connection.session, NGHTTP2_FLAG_NONE, call.stream, NGHTTP2_CANCEL)
            _dirty(connection)
        call = call.later


cdef void connection_tick(Connection* connection, bint refill) noexcept nogil:
    """Holds the connection to its times; called for each, ten times a second. ``refill`` once a second fills the budgets."""
    cdef Loop* loop = connection.loop
    cdef const Limits* limits = &loop.plane.limits
    cdef int64_t now = loop.now_ns
    # While memory is short, whoever keeps it without moving has a tenth of the time.
    cdef int64_t hurry = 10 if loop.counters.held_bytes > limits.held_bytes // 2 else 1
    if connection.dead:
        return
    if connection.lingering:
        if now - connection.left_ns > LINGER_NS:
            connection_close(connection)
        return
    if not connection.greeted:
        if now - connection.opened_ns > limits.handshake_ns:
            loop.counters.handshakes_failed += 1
            connection_close(connection)
        elif connection.leaving == 1 and now - connection.left_ns > LEAVE_NS:
            connection_leave(connection, True)
        return
    if refill:
        connection.control_credit = min(connection.control_credit + limits.control_refill, limits.control_credit)
        connection.reset_credit = min(connection.reset_credit + limits.reset_refill, limits.reset_credit)
        connection.strange = min(connection.strange, 0)
    if connection.rest != NULL or connection.unsent:
        if now - connection.moved_ns > limits.stall_ns // hurry:
            loop.counters.connections_abused += 1
            connection_close(connection)
            return
    else:
        connection.moved_ns = now
    _end_overdue(connection, limits.call_ns // hurry)
    if connection.leaving == 0 and limits.age_ns and now - connection.opened_ns > limits.age_ns:
        connection_leave(connection, False)
    elif connection.leaving == 0 and limits.idle_ns and connection.calls == 0 and now - connection.idle_ns > limits.idle_ns:
        connection_leave(connection, True)
    elif connection.leaving == 1 and now - connection.left_ns > LEAVE_NS:
        # The first GOAWAY has reached the peer by now; calls it began before it knew are still served.
        connection_leave(connection, True)
    if limits.silence_ns and now - connection.heard_ns > limits.silence_ns:
        if not connection.pinged:
            connection.pinged = 1
            nghttp2_submit_ping(connection.session, NGHTTP2_FLAG_NONE, NULL)
            _dirty(connection)
        elif now - connection.heard_ns > limits.silence_ns + limits.stall_ns:
            connection_close(connection)


cdef void connection_leave(Connection* connection, bint last) noexcept nogil:
    """Asks the peer to go: first a GOAWAY that still takes new calls, then one that names the last that was taken.

    The connection closes by itself when no call is open after the last one.
    """
    if connection.dead:
        return
    if not connection.greeted:
        # Its first calls may be on their way with the greeting: it has as long as others have after the first GOAWAY.
        if last:
            connection_close(connection)
        elif connection.leaving == 0:
            connection.leaving = 1
            connection.left_ns = connection.loop.now_ns
        return
    if not last and connection.leaving == 0:
        connection.leaving = 1
        connection.left_ns = connection.loop.now_ns
        nghttp2_submit_shutdown_notice(connection.session)
    elif last and connection.leaving < 2:
        connection.leaving = 2
        nghttp2_submit_goaway(
            connection.session, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(connection.session),
            NGHTTP2_NO_ERROR, NULL, 0
        )
    _dirty(connection)


cdef void connection_close(Connection* connection) noexcept nogil:
    """Closes the socket and forgets the calls; the memory goes at the end of the round, for epoll may still name it."""
    cdef Loop* loop = connection.loop
    cdef Call* call
    cdef Call* later
    if connection.dead:
        return
    connection.dead = 1
    call = connection.first_call
    while call != NULL:
        later = call.later
        _forget(call)
        call = later
    if connection.ssl != NULL:
        if connection.secure:
            SSL_shutdown(connection.ssl)
            ERR_clear_error()
        SSL_free(connection.ssl)
        connection.ssl = NULL
    # Closing is not enough to leave epoll while a child that a deployed model is tried in still holds a copy of the descriptor.
    epoll_ctl(loop.ep, EPOLL_CTL_DEL, connection.fd, NULL)
    close(connection.fd)
    if connection.session != NULL:
        nghttp2_session_del(connection.session)
        connection.session = NULL
    _drop_rest(connection)
    if loop.ticking == connection:
        loop.ticking = connection.next
    if connection.previous != NULL:
        connection.previous.next = connection.next
    else:
        loop.connections = connection.next
    if connection.next != NULL:
        connection.next.previous = connection.previous
    connection.next = loop.dead
    connection.previous = NULL
    loop.dead = connection
    loop.counters.open_connections -= 1


cdef void connection_free(Connection* connection) noexcept nogil:
    """Frees a closed connection's memory. It is in no list any more."""
    free(connection)
