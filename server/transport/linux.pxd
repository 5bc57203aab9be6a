"""What the data plane asks of Linux: epoll, sockets, eventfd, the monotonic clock, POSIX threads.

Declared here because Cython ships none of them with `noexcept nogil`. All are thread-safe as POSIX says.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from "<sys/epoll.h>" nogil:
    cdef union epoll_data_t:
        void* ptr  # ours: a Connection, or the address of one of the loop's own descriptors
        int fd  # unused
    cdef struct epoll_event:
        uint32_t events  # EPOLLIN and so on
        epoll_data_t data  # as given to epoll_ctl
    int epoll_create1(int flags)
    int epoll_ctl(int ep, int operation, int fd, epoll_event* event)
    int epoll_wait(int ep, epoll_event* events, int most, int timeout_ms)
    enum:
        EPOLLIN
        EPOLLOUT
        EPOLLERR
        EPOLLHUP
        EPOLL_CTL_ADD
        EPOLL_CTL_MOD
        EPOLL_CTL_DEL
        EPOLL_CLOEXEC

cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned int value, int flags)
    enum:
        EFD_NONBLOCK
        EFD_CLOEXEC

cdef extern from "<unistd.h>" nogil:
    ssize_t read(int fd, void* into, size_t size)
    ssize_t write(int fd, const void* bytes, size_t size)
    int close(int fd)

cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    cdef struct sockaddr:
        pass
    int accept4(int fd, sockaddr* address, socklen_t* size, int flags)
    ssize_t recv(int fd, void* into, size_t size, int flags)
    ssize_t send(int fd, const void* bytes, size_t size, int flags)
    int setsockopt(int fd, int level, int name, const void* value, socklen_t size)
    int shutdown(int fd, int how)
    enum:
        SOCK_NONBLOCK
        SOCK_CLOEXEC
        SOL_SOCKET
        SO_KEEPALIVE
        MSG_NOSIGNAL
        SHUT_WR

cdef extern from "<netinet/in.h>" nogil:
    enum:
        IPPROTO_TCP

cdef extern from "<netinet/tcp.h>" nogil:
    enum:
        TCP_NODELAY

cdef extern from "<time.h>" nogil:
    ctypedef int clockid_t
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(clockid_t clock, timespec* now)
    clockid_t CLOCK_MONOTONIC
    clockid_t CLOCK_REALTIME

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_t:
        pass
    ctypedef struct pthread_attr_t:
        pass
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_mutexattr_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    ctypedef struct pthread_condattr_t:
        pass
    int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*run)(void*) noexcept nogil, void* argument)
    int pthread_join(pthread_t thread, void** result)
    int pthread_setname_np(pthread_t thread, const char* name)
    pthread_t pthread_self()
    int pthread_mutex_init(pthread_mutex_t* mutex, const pthread_mutexattr_t* attributes)
    int pthread_mutex_destroy(pthread_mutex_t* mutex)
    int pthread_mutex_lock(pthread_mutex_t* mutex)
    int pthread_mutex_unlock(pthread_mutex_t* mutex)
    int pthread_cond_init(pthread_cond_t* condition, const pthread_condattr_t* attributes)
    int pthread_cond_destroy(pthread_cond_t* condition)
    int pthread_cond_wait(pthread_cond_t* condition, pthread_mutex_t* mutex)
    int pthread_cond_signal(pthread_cond_t* condition)
    int pthread_cond_broadcast(pthread_cond_t* condition)

cdef extern from "<sys/resource.h>" nogil:
    int getpriority(int which, unsigned int who)
    enum:
        PRIO_PROCESS

cdef extern from "<sys/syscall.h>" nogil:
    enum:
        SYS_sched_setattr

cdef extern from "<linux/sched.h>" nogil:
    enum:
        SCHED_RR
        SCHED_FLAG_RESET_ON_FORK

cdef extern from "<unistd.h>" nogil:
    long syscall(long number, ...)

cdef struct SchedulingAttributes:
    # struct sched_attr of the kernel (sched_setattr(2)), which C libraries do not declare.
    uint32_t size  # of this structure
    uint32_t policy  # 0: SCHED_OTHER; SCHED_RR
    uint64_t flags  # 0, or SCHED_FLAG_RESET_ON_FORK
    int nice  # of SCHED_OTHER
    uint32_t priority  # of SCHED_RR, from 1
    uint64_t runtime  # ns: with SCHED_OTHER the slice, since Linux 6.12
    uint64_t deadline  # 0
    uint64_t period  # 0

cdef extern from "<errno.h>" nogil:
    int errno
    enum:
        EAGAIN  # EWOULDBLOCK is the same number on Linux
        EINTR
        EMFILE
        ENFILE
        ENOBUFS
        ENOMEM


cdef inline int64_t now_ns() noexcept nogil:
    """CLOCK_MONOTONIC in nanoseconds."""
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t> now.tv_sec * 1_000_000_000 + now.tv_nsec
