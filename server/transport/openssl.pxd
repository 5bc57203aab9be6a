# distutils: libraries = ssl crypto
"""The part of OpenSSL 3 that serving TLS needs. An SSL belongs to one connection and its loop's thread; an SSL_CTX is
counted, so that connections keep the certificates they began with while a reload replaces it for new ones."""

cdef extern from "<openssl/ssl.h>" nogil:
    ctypedef struct SSL_CTX:
        pass
    ctypedef struct SSL_METHOD:
        pass
    ctypedef struct SSL:
        pass
    enum:
        SSL_ERROR_WANT_READ
        SSL_ERROR_WANT_WRITE
        SSL_FILETYPE_PEM
        SSL_VERIFY_PEER
        SSL_VERIFY_FAIL_IF_NO_PEER_CERT
        TLS1_2_VERSION
        SSL_MODE_ENABLE_PARTIAL_WRITE
        SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
        SSL_MODE_RELEASE_BUFFERS
        SSL_MODE_AUTO_RETRY
        SSL_SESS_CACHE_OFF
        SSL_OP_NO_RENEGOTIATION
        SSL_OP_CIPHER_SERVER_PREFERENCE
        SSL_OP_NO_COMPRESSION
        SSL_TLSEXT_ERR_OK
        SSL_TLSEXT_ERR_ALERT_FATAL
        SSL3_RT_ALERT
        SSL3_RT_HANDSHAKE
    const SSL_METHOD* TLS_server_method()
    SSL_CTX* SSL_CTX_new(const SSL_METHOD* method)
    void SSL_CTX_free(SSL_CTX* context)
    int SSL_CTX_set_min_proto_version(SSL_CTX* context, int version)
    int SSL_CTX_set_cipher_list(SSL_CTX* context, const char* ciphers)
    int SSL_CTX_use_certificate_chain_file(SSL_CTX* context, const char* file)
    ctypedef int (*password)(char* into, int size, int writing, void* argument) noexcept nogil
    void SSL_CTX_set_default_passwd_cb(SSL_CTX* context, password ask)
    int SSL_CTX_use_PrivateKey_file(SSL_CTX* context, const char* file, int kind)
    int SSL_CTX_check_private_key(const SSL_CTX* context)
    int SSL_CTX_load_verify_locations(SSL_CTX* context, const char* file, const char* folder)
    void SSL_CTX_set_verify(SSL_CTX* context, int mode, void* callback)
    int SSL_CTX_set_session_id_context(SSL_CTX* context, const unsigned char* id, unsigned int size)
    long SSL_CTX_set_mode(SSL_CTX* context, long mode)
    long SSL_CTX_clear_mode(SSL_CTX* context, long mode)
    long SSL_CTX_set_session_cache_mode(SSL_CTX* context, long mode)
    unsigned long SSL_CTX_set_options(SSL_CTX* context, unsigned long options)
    ctypedef int (*alpn_select)(
        SSL* ssl, const unsigned char** out, unsigned char* out_size, const unsigned char* offered,
        unsigned int offered_size, void* argument) noexcept nogil
    void SSL_CTX_set_alpn_select_cb(SSL_CTX* context, alpn_select call, void* argument)
    void SSL_get0_alpn_selected(const SSL* ssl, const unsigned char** protocol, unsigned int* size)
    SSL* SSL_new(SSL_CTX* context)
    void SSL_free(SSL* ssl)
    int SSL_set_fd(SSL* ssl, int fd)
    void SSL_set_accept_state(SSL* ssl)
    int SSL_do_handshake(SSL* ssl)
    ctypedef void (*message)(
        int written, int version, int kind, const void* bytes, size_t size, SSL* ssl, void* argument) noexcept nogil
    void SSL_set_msg_callback(SSL* ssl, message call)
    void SSL_set_msg_callback_arg(SSL* ssl, void* argument)
    int SSL_read(SSL* ssl, void* into, int size)
    int SSL_write(SSL* ssl, const void* bytes, int size)
    int SSL_shutdown(SSL* ssl)
    int SSL_get_error(const SSL* ssl, int result)

cdef extern from "<openssl/err.h>" nogil:
    unsigned long ERR_get_error()
    void ERR_clear_error()
    void ERR_error_string_n(unsigned long error, char* into, size_t size)
