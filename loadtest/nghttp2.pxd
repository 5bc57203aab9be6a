"""The part of libnghttp2 (1.52 and later) that the generator calls: a client's session fed and emptied by hand.

Only names and types; their meaning is in the library's own documentation. Whoever cimports this links the library by a
``# distutils: libraries = nghttp2`` line.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t

cdef extern from "nghttp2/nghttp2.h" nogil:
    ctypedef struct nghttp2_session:
        pass

    ctypedef struct nghttp2_session_callbacks:
        pass

    ctypedef struct nghttp2_option:
        pass

    ctypedef struct nghttp2_priority_spec:
        pass

    ctypedef struct nghttp2_nv:
        uint8_t* name
        uint8_t* value
        size_t namelen
        size_t valuelen
        uint8_t flags

    ctypedef struct nghttp2_settings_entry:
        int32_t settings_id
        uint32_t value

    ctypedef struct nghttp2_frame_hd:
        size_t length
        int32_t stream_id
        uint8_t type
        uint8_t flags

    ctypedef union nghttp2_frame:
        nghttp2_frame_hd hd

    ctypedef union nghttp2_data_source:
        int fd
        void* ptr

    ctypedef ssize_t (*nghttp2_data_source_read_callback)(
        nghttp2_session* session, int32_t stream_id, uint8_t* buf, size_t length, uint32_t* data_flags,
        nghttp2_data_source* source, void* user_data) noexcept

    ctypedef struct nghttp2_data_provider:
        nghttp2_data_source source
        nghttp2_data_source_read_callback read_callback

    ctypedef struct nghttp2_mem:
        void* mem_user_data
        void* (*malloc)(size_t size, void* mem_user_data) noexcept
        void (*free)(void* ptr, void* mem_user_data) noexcept
        void* (*calloc)(size_t nmemb, size_t size, void* mem_user_data) noexcept
        void* (*realloc)(void* ptr, size_t size, void* mem_user_data) noexcept

    ctypedef int (*nghttp2_on_frame_recv_callback)(
        nghttp2_session* session, const nghttp2_frame* frame, void* user_data) noexcept
    ctypedef int (*nghttp2_on_header_callback)(
        nghttp2_session* session, const nghttp2_frame* frame, const uint8_t* name, size_t namelen, const uint8_t* value,
        size_t valuelen, uint8_t flags, void* user_data) noexcept
    ctypedef int (*nghttp2_on_data_chunk_recv_callback)(
        nghttp2_session* session, uint8_t flags, int32_t stream_id, const uint8_t* data, size_t len, void* user_data) noexcept
    ctypedef int (*nghttp2_on_stream_close_callback)(
        nghttp2_session* session, int32_t stream_id, uint32_t error_code, void* user_data) noexcept

    enum:
        NGHTTP2_NV_FLAG_NO_COPY_NAME
        NGHTTP2_NV_FLAG_NO_COPY_VALUE
        NGHTTP2_DATA_FLAG_EOF
        NGHTTP2_DATA
        NGHTTP2_HEADERS
        NGHTTP2_SETTINGS
        NGHTTP2_GOAWAY
        NGHTTP2_FLAG_END_STREAM
        NGHTTP2_FLAG_ACK
        NGHTTP2_FLAG_NONE
        NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS
        NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE
        NGHTTP2_SETTINGS_ENABLE_PUSH
        NGHTTP2_REFUSED_STREAM
        NGHTTP2_ERR_STREAM_ID_NOT_AVAILABLE

    int nghttp2_session_callbacks_new(nghttp2_session_callbacks** callbacks)
    void nghttp2_session_callbacks_del(nghttp2_session_callbacks* callbacks)
    void nghttp2_session_callbacks_set_on_frame_recv_callback(
        nghttp2_session_callbacks* callbacks, nghttp2_on_frame_recv_callback callback)
    void nghttp2_session_callbacks_set_on_header_callback(
        nghttp2_session_callbacks* callbacks, nghttp2_on_header_callback callback)
    void nghttp2_session_callbacks_set_on_data_chunk_recv_callback(
        nghttp2_session_callbacks* callbacks, nghttp2_on_data_chunk_recv_callback callback)
    void nghttp2_session_callbacks_set_on_stream_close_callback(
        nghttp2_session_callbacks* callbacks, nghttp2_on_stream_close_callback callback)

    int nghttp2_option_new(nghttp2_option** option)
    void nghttp2_option_del(nghttp2_option* option)
    void nghttp2_option_set_peer_max_concurrent_streams(nghttp2_option* option, uint32_t val)
    void nghttp2_option_set_no_closed_streams(nghttp2_option* option, int val)

    int nghttp2_session_client_new3(
        nghttp2_session** session, const nghttp2_session_callbacks* callbacks, void* user_data, const nghttp2_option* option,
        nghttp2_mem* mem)
    void nghttp2_session_del(nghttp2_session* session)
    ssize_t nghttp2_session_mem_recv(nghttp2_session* session, const uint8_t* data, size_t length)
    ssize_t nghttp2_session_mem_send(nghttp2_session* session, const uint8_t** data)
    int nghttp2_session_want_read(nghttp2_session* session)
    int nghttp2_session_want_write(nghttp2_session* session)
    uint32_t nghttp2_session_get_remote_settings(nghttp2_session* session, int setting)
    int nghttp2_session_set_local_window_size(nghttp2_session* session, uint8_t flags, int32_t stream_id, int32_t window_size)
    void* nghttp2_session_get_stream_user_data(nghttp2_session* session, int32_t stream_id)
    int nghttp2_submit_settings(nghttp2_session* session, uint8_t flags, const nghttp2_settings_entry* settings, size_t count)
    int32_t nghttp2_submit_request(
        nghttp2_session* session, const nghttp2_priority_spec* pri_spec, const nghttp2_nv* nva, size_t nvlen,
        const nghttp2_data_provider* data_prd, void* stream_user_data)
