# distutils: libraries = nghttp2
"""The part of libnghttp2 that a gRPC server needs: sessions fed with bytes, answered in bytes.

A session belongs to one connection and is used by its loop's thread only. What `mem_send` returns lives until the next
call on the session. Declared from nghttp2's documented interface, 1.57 and later; Debian and Ubuntu gave their older
versions the limit on resets with the mending of CVE-2023-44487.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

cdef extern from "<nghttp2/nghttp2.h>" nogil:
    enum:
        NGHTTP2_DATA
        NGHTTP2_HEADERS
        NGHTTP2_RST_STREAM
        NGHTTP2_SETTINGS
        NGHTTP2_PING
        NGHTTP2_CONTINUATION
        NGHTTP2_FLAG_NONE
        NGHTTP2_FLAG_END_STREAM
        NGHTTP2_FLAG_ACK
        NGHTTP2_HCAT_REQUEST
        NGHTTP2_NV_FLAG_NO_COPY_NAME
        NGHTTP2_NV_FLAG_NO_COPY_VALUE
        NGHTTP2_DATA_FLAG_EOF
        NGHTTP2_DATA_FLAG_NO_END_STREAM
        NGHTTP2_NO_ERROR
        NGHTTP2_PROTOCOL_ERROR
        NGHTTP2_INTERNAL_ERROR
        NGHTTP2_CANCEL
        NGHTTP2_ENHANCE_YOUR_CALM
        NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS
        NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE
        NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE
        NGHTTP2_ERR_CALLBACK_FAILURE
        NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE

    ctypedef struct nghttp2_session:
        pass
    ctypedef struct nghttp2_session_callbacks:
        pass
    ctypedef struct nghttp2_option:
        pass
    ctypedef struct nghttp2_frame_hd:
        size_t length  # of the payload
        int32_t stream_id  # 0 the connection
        uint8_t type  # NGHTTP2_DATA and so on
        uint8_t flags
    ctypedef struct nghttp2_headers:
        int cat  # NGHTTP2_HCAT_REQUEST for a new stream of a client
    ctypedef struct nghttp2_rst_stream:
        uint32_t error_code  # NGHTTP2_NO_ERROR and so on
    ctypedef union nghttp2_frame:
        nghttp2_frame_hd hd
        nghttp2_headers headers
        nghttp2_rst_stream rst_stream
    ctypedef struct nghttp2_nv:
        uint8_t* name  # lower case
        uint8_t* value
        size_t namelen
        size_t valuelen
        uint8_t flags  # NO_COPY: the bytes outlive the frame
    ctypedef struct nghttp2_settings_entry:
        int32_t settings_id
        uint32_t value
    ctypedef union nghttp2_data_source:
        int fd  # unused
        void* ptr  # ours: the Call
    ctypedef ssize_t (*nghttp2_data_source_read_callback)(
        nghttp2_session* session, int32_t stream, uint8_t* into, size_t room, uint32_t* flags,
        nghttp2_data_source* source, void* user) noexcept nogil
    ctypedef struct nghttp2_data_provider:
        nghttp2_data_source source
        nghttp2_data_source_read_callback read_callback

    ctypedef int (*on_frame)(nghttp2_session* session, const nghttp2_frame* frame, void* user) noexcept nogil
    ctypedef int (*on_frame_head)(nghttp2_session* session, const nghttp2_frame_hd* head, void* user) noexcept nogil
    ctypedef int (*on_chunk)(
        nghttp2_session* session, uint8_t flags, int32_t stream, const uint8_t* data, size_t size,
        void* user) noexcept nogil
    ctypedef int (*on_field)(
        nghttp2_session* session, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
        const uint8_t* value, size_t value_size, uint8_t flags, void* user) noexcept nogil
    ctypedef int (*on_close)(nghttp2_session* session, int32_t stream, uint32_t code, void* user) noexcept nogil

    int nghttp2_session_callbacks_new(nghttp2_session_callbacks** callbacks)
    void nghttp2_session_callbacks_del(nghttp2_session_callbacks* callbacks)
    void nghttp2_session_callbacks_set_on_begin_frame_callback(nghttp2_session_callbacks* callbacks, on_frame_head call)
    void nghttp2_session_callbacks_set_on_begin_headers_callback(nghttp2_session_callbacks* callbacks, on_frame call)
    void nghttp2_session_callbacks_set_on_header_callback(nghttp2_session_callbacks* callbacks, on_field call)
    void nghttp2_session_callbacks_set_on_data_chunk_recv_callback(nghttp2_session_callbacks* callbacks, on_chunk call)
    void nghttp2_session_callbacks_set_on_frame_recv_callback(nghttp2_session_callbacks* callbacks, on_frame call)
    void nghttp2_session_callbacks_set_on_frame_send_callback(nghttp2_session_callbacks* callbacks, on_frame call)
    void nghttp2_session_callbacks_set_on_stream_close_callback(nghttp2_session_callbacks* callbacks, on_close call)

    ctypedef struct nghttp2_mem:
        void* mem_user_data
        void* (*malloc)(size_t size, void* user) noexcept
        void (*free)(void* pointer, void* user) noexcept
        void* (*calloc)(size_t count, size_t size, void* user) noexcept
        void* (*realloc)(void* pointer, size_t size, void* user) noexcept

    int nghttp2_option_new(nghttp2_option** option)
    void nghttp2_option_del(nghttp2_option* option)
    void nghttp2_option_set_no_closed_streams(nghttp2_option* option, int value)
    void nghttp2_option_set_stream_reset_rate_limit(nghttp2_option* option, uint64_t burst, uint64_t rate)

    int nghttp2_session_server_new3(
        nghttp2_session** session, const nghttp2_session_callbacks* callbacks, void* user, const nghttp2_option* option,
        nghttp2_mem* memory)
    void nghttp2_session_del(nghttp2_session* session)
    ssize_t nghttp2_session_mem_recv(nghttp2_session* session, const uint8_t* bytes, size_t size)
    ssize_t nghttp2_session_mem_send(nghttp2_session* session, const uint8_t** bytes)
    int nghttp2_session_want_read(nghttp2_session* session)
    int nghttp2_session_want_write(nghttp2_session* session)
    int nghttp2_session_set_stream_user_data(nghttp2_session* session, int32_t stream, void* data)
    void* nghttp2_session_get_stream_user_data(nghttp2_session* session, int32_t stream)
    int32_t nghttp2_session_get_last_proc_stream_id(nghttp2_session* session)
    int nghttp2_session_set_local_window_size(nghttp2_session* session, uint8_t flags, int32_t stream, int32_t size)
    int nghttp2_session_terminate_session(nghttp2_session* session, uint32_t code)
    int nghttp2_submit_settings(
        nghttp2_session* session, uint8_t flags, const nghttp2_settings_entry* entries, size_t count)
    int nghttp2_submit_response(
        nghttp2_session* session, int32_t stream, const nghttp2_nv* fields, size_t count,
        const nghttp2_data_provider* provider)
    int nghttp2_submit_trailer(nghttp2_session* session, int32_t stream, const nghttp2_nv* fields, size_t count)
    int nghttp2_submit_rst_stream(nghttp2_session* session, uint8_t flags, int32_t stream, uint32_t code)
    int nghttp2_submit_ping(nghttp2_session* session, uint8_t flags, const uint8_t* payload)
    int nghttp2_submit_shutdown_notice(nghttp2_session* session)
    int nghttp2_submit_goaway(
        nghttp2_session* session, uint8_t flags, int32_t last, uint32_t code, const uint8_t* data, size_t size)
