"""Makes server contexts of OpenSSL: TLS 1.2 or later, HTTP/2 by ALPN, client certificates where asked for.

Only suites with forward secrecy and authenticated encryption are offered under TLS 1.2, as RFC 9113 section 9.2 wants
(its list of forbidden suites is all the others). Renegotiation and compression are off. A peer that offers
protocols without h2 is refused during the handshake; one that offers none at all, too: gRPC clients always do.
"""

cimport cython
from core.errors import ConfigError

from server.transport.openssl cimport (
    ERR_clear_error,
    ERR_error_string_n,
    ERR_get_error,
    SSL,
    SSL_CTX_check_private_key,
    SSL_CTX_clear_mode,
    SSL_CTX_free,
    SSL_CTX_load_verify_locations,
    SSL_CTX_new,
    SSL_CTX_set_alpn_select_cb,
    SSL_CTX_set_cipher_list,
    SSL_CTX_set_default_passwd_cb,
    SSL_CTX_set_min_proto_version,
    SSL_CTX_set_mode,
    SSL_CTX_set_options,
    SSL_CTX_set_session_cache_mode,
    SSL_CTX_set_session_id_context,
    SSL_CTX_set_verify,
    SSL_CTX_use_certificate_chain_file,
    SSL_CTX_use_PrivateKey_file,
    SSL_FILETYPE_PEM,
    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER,
    SSL_MODE_AUTO_RETRY,
    SSL_MODE_ENABLE_PARTIAL_WRITE,
    SSL_MODE_RELEASE_BUFFERS,
    SSL_OP_CIPHER_SERVER_PREFERENCE,
    SSL_OP_NO_COMPRESSION,
    SSL_OP_NO_RENEGOTIATION,
    SSL_SESS_CACHE_OFF,
    SSL_TLSEXT_ERR_ALERT_FATAL,
    SSL_TLSEXT_ERR_OK,
    SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
    SSL_VERIFY_PEER,
    TLS1_2_VERSION,
    TLS_server_method,
)

cdef const char* _SUITES = b"ECDHE+AESGCM:ECDHE+CHACHA20"
cdef const unsigned char* _H2 = <const unsigned char*> b"h2"


cdef int _select(
    SSL* ssl, const unsigned char** out, unsigned char* out_size, const unsigned char* offered,
    unsigned int offered_size, void* argument
) noexcept nogil:
    """ALPN: takes h2 when it is offered (a list of length-prefixed names), else ends the handshake."""
    cdef unsigned int at = 0
    while at < offered_size and at + 1 + offered[at] <= offered_size:
        if offered[at] == 2 and offered[at + 1] == c'h' and offered[at + 2] == c'2':
            out[0] = _H2
            out_size[0] = 2
            return SSL_TLSEXT_ERR_OK
        at += 1 + offered[at]
    return SSL_TLSEXT_ERR_ALERT_FATAL


cdef int _no_password(char* into, int size, int writing, void* argument) noexcept nogil:
    """Has no password for an encrypted key. OpenSSL's own way is to ask at the terminal, and to keep everybody waiting."""
    return 0


def _last_error() -> str:
    """What OpenSSL put into this thread's error queue last, in its words."""
    cdef char text[256]
    cdef unsigned long error = ERR_get_error()
    cdef unsigned long later
    if error == 0:
        return "OpenSSL gives no reason"
    while True:
        later = ERR_get_error()
        if later == 0:
            break
        error = later
    ERR_error_string_n(error, text, sizeof(text))
    return (<bytes> text).decode("ascii", "replace").rpartition(":")[2] or "OpenSSL gives no reason"


@cython.final
cdef class Context:
    """A server's TLS settings from PEM files.

    ``certificate`` holds the server's certificate and what leads to its authority, ``key`` its private key. With
    ``client_authorities`` every client must show a certificate that one of them signed (mutual TLS). Raises ConfigError that
    names the setting and the file.
    """

    def __cinit__(self):
        self.context = NULL

    def __init__(self, str certificate not None, str key not None, str client_authorities=""):
        cdef unsigned long options = SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_NO_COMPRESSION
        ERR_clear_error()
        self.context = SSL_CTX_new(TLS_server_method())
        if self.context == NULL:
            raise MemoryError("a TLS context")
        SSL_CTX_set_min_proto_version(self.context, TLS1_2_VERSION)
        SSL_CTX_set_options(self.context, options)
        # Sessions are resumed by tickets, which the client keeps; a cache of ours would hold 20,000 of them.
        SSL_CTX_set_session_cache_mode(self.context, SSL_SESS_CACHE_OFF)
        # Without AUTO_RETRY a read returns after a record that carried no data, a key update say: a peer that sends
        # nothing else must not keep the loop inside one read.
        SSL_CTX_clear_mode(self.context, SSL_MODE_AUTO_RETRY)
        # RELEASE_BUFFERS: an idle connection keeps no record buffers, 34 KiB each.
        SSL_CTX_set_mode(
            self.context,
            SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS,
        )
        SSL_CTX_set_session_id_context(self.context, <const unsigned char*> b"rapport", 7)
        SSL_CTX_set_default_passwd_cb(self.context, _no_password)
        for setting, file in (
            ("tls.certificate", certificate), ("tls.key", key), ("tls.client_authorities", client_authorities)
        ):
            # OpenSSL would say "system lib".
            if file:
                try:
                    with open(file, "rb"):
                        pass
                except OSError as error:
                    raise ConfigError(setting, f"{file} cannot be read: {error.strerror}") from error
        if SSL_CTX_set_cipher_list(self.context, _SUITES) != 1:
            raise ConfigError("tls.certificate", f"this OpenSSL has none of the wanted suites: {_last_error()}")
        if SSL_CTX_use_certificate_chain_file(self.context, certificate.encode()) != 1:
            raise ConfigError(
                "tls.certificate", f"{certificate} cannot be used: {_last_error()}",
                hint="Give the server's certificate in PEM, followed by what leads to its authority.",
            )
        if SSL_CTX_use_PrivateKey_file(self.context, key.encode(), SSL_FILETYPE_PEM) != 1:
            raise ConfigError(
                "tls.key", f"{key} cannot be used: {_last_error()}",
                hint="Give the private key in PEM, without a passphrase, the one the certificate was made for.",
            )
        if SSL_CTX_check_private_key(self.context) != 1:
            raise ConfigError("tls.key", f"{key} does not belong to {certificate}", hint="Give the key it was made for.")
        if client_authorities:
            if SSL_CTX_load_verify_locations(self.context, client_authorities.encode(), NULL) != 1:
                raise ConfigError(
                    "tls.client_authorities", f"{client_authorities} cannot be used: {_last_error()}",
                    hint="Give the certificates, in PEM, of the authorities that sign clients.",
                )
            SSL_CTX_set_verify(self.context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL)
        SSL_CTX_set_alpn_select_cb(self.context, _select, NULL)

    def __dealloc__(self):
        if self.context != NULL:
            SSL_CTX_free(self.context)
