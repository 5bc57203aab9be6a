"""Threads that run models, so that a decision can stop waiting for one.

Nothing can interrupt a native call that hangs; what can be done is not to be the thread it hangs on. The pool
starts two threads at the first task and one more whenever a task arrives and every thread is busy, up to
`MODEL_THREADS`. Threads stay: the pool grows only when models are stuck, and then the threads are needed. A pool
whose every thread is stuck refuses at once, which costs the model's own offers their scores and nothing else.

Threads are detached, block every signal (signals are the main thread's), never touch Python, and end with the
process.
"""

import os

from libc.stdint cimport int64_t
from libc.string cimport memset

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_t:
        pass
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    ctypedef struct pthread_attr_t:
        pass
    int pthread_mutex_init(pthread_mutex_t* mutex, void* attributes)
    int pthread_mutex_lock(pthread_mutex_t* mutex)
    int pthread_mutex_unlock(pthread_mutex_t* mutex)
    int pthread_cond_init(pthread_cond_t* condition, void* attributes)
    int pthread_cond_wait(pthread_cond_t* condition, pthread_mutex_t* mutex)
    int pthread_cond_signal(pthread_cond_t* condition)
    int pthread_attr_init(pthread_attr_t* attributes)
    int pthread_attr_destroy(pthread_attr_t* attributes)
    int pthread_attr_setdetachstate(pthread_attr_t* attributes, int state)
    int pthread_create(pthread_t* thread, pthread_attr_t* attributes, void* (*start)(void*) noexcept nogil, void* argument)
    int PTHREAD_CREATE_DETACHED

cdef extern from "<signal.h>" nogil:
    ctypedef struct sigset_t:
        pass
    int sigfillset(sigset_t* signals)
    int pthread_sigmask(int how, const sigset_t* signals, sigset_t* before)
    int SIG_SETMASK

cdef enum:
    # Enough for several models to hang at once while others go on; a thread that sleeps costs 8 KiB of kernel memory.
    MODEL_THREADS = 16
    # Started at the first task: one to run, one to take over should it hang.
    FIRST_THREADS = 2

# One pool a process. `_mutex` guards everything below it; it is held for a few instructions at a time.
cdef pthread_mutex_t _mutex
cdef pthread_cond_t _work
cdef Task* _first = NULL
cdef Task* _last = NULL
cdef int64_t _waiting = 0
cdef int64_t _idle = 0
cdef int64_t _threads = 0

pthread_mutex_init(&_mutex, NULL)
pthread_cond_init(&_work, NULL)


cdef void _forget_threads() noexcept:
    # A forked child has none of its parent's threads, and the lock may have been held when it was made.
    global _first, _last, _waiting, _idle, _threads
    memset(&_mutex, 0, sizeof(_mutex))
    pthread_mutex_init(&_mutex, NULL)
    pthread_cond_init(&_work, NULL)
    _first = NULL
    _last = NULL
    _waiting = 0
    _idle = 0
    _threads = 0


def _after_fork() -> None:
    _forget_threads()


os.register_at_fork(after_in_child=_after_fork)


cdef void* _serve(void* nothing) noexcept nogil:
    global _first, _last, _waiting, _idle
    cdef Task* task
    pthread_mutex_lock(&_mutex)
    while True:
        while _first == NULL:
            pthread_cond_wait(&_work, &_mutex)
        task = _first
        _first = task.next
        if _first == NULL:
            _last = NULL
        _waiting -= 1
        _idle -= 1
        pthread_mutex_unlock(&_mutex)
        task.run(task)
        pthread_mutex_lock(&_mutex)
        _idle += 1
    return NULL


cdef int _start() noexcept nogil:
    # Under the lock. A new thread counts as idle from here on, so that one task starts one thread.
    global _idle, _threads
    cdef pthread_t thread
    cdef pthread_attr_t attributes
    cdef sigset_t every
    cdef sigset_t before
    cdef int failed
    pthread_attr_init(&attributes)
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED)
    sigfillset(&every)
    pthread_sigmask(SIG_SETMASK, &every, &before)  # a thread inherits the mask of the one that starts it
    failed = pthread_create(&thread, &attributes, _serve, NULL)
    pthread_sigmask(SIG_SETMASK, &before, NULL)
    pthread_attr_destroy(&attributes)
    if failed:
        return -1
    _threads += 1
    _idle += 1
    return 0


cdef int submit(Task* task) noexcept nogil:
    global _first, _last, _waiting
    cdef int taken = 0
    task.next = NULL
    pthread_mutex_lock(&_mutex)
    while _threads < MODEL_THREADS and (_threads < FIRST_THREADS or _idle <= _waiting):
        if _start() != 0:
            break
    if _idle <= _waiting:
        taken = -1
    else:
        if _last == NULL:
            _first = task
        else:
            _last.next = task
        _last = task
        _waiting += 1
        pthread_cond_signal(&_work)
    pthread_mutex_unlock(&_mutex)
    return taken


cdef int64_t threads() noexcept nogil:
    cdef int64_t count
    pthread_mutex_lock(&_mutex)
    count = _threads
    pthread_mutex_unlock(&_mutex)
    return count


cdef int64_t busy() noexcept nogil:
    cdef int64_t count
    pthread_mutex_lock(&_mutex)
    count = _threads - _idle + _waiting
    pthread_mutex_unlock(&_mutex)
    return count


def gauge() -> tuple[int, int]:
    """Threads started, and threads inside a task together with tasks that wait for one."""
    return threads(), busy()
