"""TLS of the data plane: a server context that can be replaced while connections keep theirs."""

cimport cython

from server.transport.openssl cimport SSL_CTX

@cython.final
cdef class Context:
    """An SSL_CTX made from files; immutable once made."""

    cdef SSL_CTX* context  # owned: freed when this object goes; connections hold references of their own
