"""What the generator takes from the C library and from Linux: clocks, sockets, epoll. Nothing else stands here."""

from libc.stdint cimport int64_t, uint32_t

cdef extern from *:
    """
    #include <fcntl.h>
    #include <netdb.h>
    #include <netinet/in.h>
    #include <netinet/tcp.h>
    #include <sys/epoll.h>
    #include <sys/prctl.h>
    #include <sys/socket.h>
    #include <time.h>
    #include <unistd.h>

    static inline int64_t rapport_clock(clockid_t which) {
        struct timespec at;
        clock_gettime(which, &at);
        return (int64_t)at.tv_sec * 1000000000 + at.tv_nsec;
    }

    /* Sleeps in nanoseconds: epoll_wait's milliseconds are a hundred requests long. */
    static inline int rapport_wait(int epoll, struct epoll_event *events, int count, int64_t nanoseconds) {
        struct timespec wait = {nanoseconds / 1000000000, nanoseconds % 1000000000};
        return epoll_pwait2(epoll, events, count, &wait, NULL);
    }
    """
    int CLOCK_MONOTONIC
    int CLOCK_THREAD_CPUTIME_ID
    int64_t rapport_clock(int which) nogil

    ctypedef union epoll_data_t:
        void* ptr

    struct epoll_event:
        uint32_t events
        epoll_data_t data

    enum:
        EPOLLIN
        EPOLLOUT
        EPOLLERR
        EPOLLHUP
        EPOLL_CTL_ADD
        EPOLL_CTL_MOD
        EPOLL_CLOEXEC
        PR_SET_TIMERSLACK
        SOCK_STREAM
        SOCK_NONBLOCK
        SOCK_CLOEXEC
        SOL_SOCKET
        SO_ERROR
        IPPROTO_TCP
        TCP_NODELAY
        MSG_NOSIGNAL
        AI_NUMERICHOST
        AI_NUMERICSERV

    ctypedef uint32_t socklen_t

    struct sockaddr:
        pass

    struct addrinfo:
        int ai_flags
        int ai_family
        int ai_socktype
        socklen_t ai_addrlen
        sockaddr* ai_addr

    int rapport_wait(int epoll, epoll_event* events, int count, int64_t nanoseconds) nogil
    int epoll_create1(int flags) nogil
    int epoll_ctl(int epoll, int operation, int fd, epoll_event* event) nogil
    int prctl(int option, unsigned long value, unsigned long, unsigned long, unsigned long) nogil
    int c_socket "socket"(int family, int kind, int protocol) nogil
    int c_connect "connect"(int fd, const sockaddr* address, socklen_t size) nogil
    int setsockopt(int fd, int level, int option, const void* value, socklen_t size) nogil
    int getsockopt(int fd, int level, int option, void* value, socklen_t* size) nogil
    ssize_t c_recv "recv"(int fd, void* buffer, size_t size, int flags) nogil
    ssize_t c_send "send"(int fd, const void* buffer, size_t size, int flags) nogil
    ssize_t c_read "read"(int fd, void* buffer, size_t size) nogil
    ssize_t c_write "write"(int fd, const void* buffer, size_t size) nogil
    int c_close "close"(int fd) nogil
    int pipe2(int* ends, int flags) nogil
    int getaddrinfo(const char* node, const char* service, const addrinfo* hints, addrinfo** found) nogil
    void freeaddrinfo(addrinfo* found) nogil
    enum:
        O_NONBLOCK
        O_CLOEXEC


cdef inline int64_t clock_ns() noexcept nogil:
    """Nanoseconds on the clock that never goes back."""
    return rapport_clock(CLOCK_MONOTONIC)
