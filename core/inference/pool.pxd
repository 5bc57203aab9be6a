"""A small pool of native threads for model runs, shared by every runner.

A task is a piece of memory of its submitter's with this header in front; the pool never allocates, copies or
frees one. It belongs to the pool from a successful `submit` until its `run` is called, and to `run` from then on.
"""

from libc.stdint cimport int64_t

cdef struct Task:
    Task* next  # the pool's own, while the task waits
    void (*run)(Task*) noexcept nogil  # called once, on a thread of the pool, without the GIL; it must not take it

cdef int submit(Task* task) noexcept nogil  # 0, or -1 when no thread can take it: every one is busy and no more may start
cdef int64_t threads() noexcept nogil  # threads started so far
cdef int64_t busy() noexcept nogil  # threads inside a task, and tasks waiting
