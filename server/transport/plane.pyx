"""The data plane as Python sees it: started, told of plans and health, asked for what Python has to answer, drained, ended.

Its loops and workers are native threads that never take the GIL. Python meets them in four places, none of them on the
path of a decision: `follow` gives each thread a desk over a new plan and returns when none uses the old one; `take`
waits, without the GIL, for a call that was handed over; `Handed.answer` and `fail` give it back; `counters` reads what
they count.

Workers decide what may have to wait for a model: the same desk, with leave to wait, on a thread that serves nobody else.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

import os
import threading

from core.errors import EngineFault

from core.kernel.desk cimport DESK_DONE, DESK_ELSEWHERE, DESK_EXPIRED, DeskHolder, desk_decide
from core.kernel.desk_state cimport Bytes, Desk
from server.transport.calls cimport (
    call_answers,
    call_returns,
    queue_close,
    queue_end,
    queue_open,
    queue_put,
    queue_take,
)
from server.transport.connection cimport sessions_close, sessions_open
from server.transport.linux cimport (
    now_ns,
    pthread_create,
    pthread_join,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    pthread_setname_np,
)
from server.transport.loop cimport loop_ask, loop_close, loop_deafen, loop_join, loop_open, loop_start
from server.transport.openssl cimport SSL_CTX
from server.transport.seat cimport seat_close, seat_give, seat_open, seat_rise, seat_sit
from server.transport.state cimport (
    HEALTH_MOST,
    HEALTH_NAME,
    KIND_DECIDE,
    KIND_HANDED,
    KIND_HEALTH,
    METHODS_MOST,
    REFUSALS,
    REFUSED_EXPIRED,
    REFUSED_FAULT,
    REFUSED_MEMORY,
    REFUSED_OVERLOAD,
    Call,
    Counters,
    Loop,
    Plane,
)
from server.transport.tls cimport Context
from server.transport.words cimport base64_encoded, percent_encoded

DECIDE = KIND_DECIDE
HANDED = KIND_HANDED
HEALTH = KIND_HEALTH
# The refusals whose words the plane must be given, in the order of state.pxd from 1.
REFUSED = (
    "method", "metadata", "message", "framing", "compressed", "timeout", "expired", "overload", "memory", "service", "fault",
    "flag",
)
assert len(REFUSED) + 1 == REFUSALS

cdef enum:
    MESSAGE_BYTES = 2048  # of grpc-message, percent-encoded; with the details it fits a peer's 8 KiB of trailers
    SERVES = 1  # grpc.health.v1 SERVING
    SERVES_NOT = 2  # NOT_SERVING


cdef bint _wanted(Call* call) noexcept nogil:
    """Whether anybody still waits for a call that stood in a queue; its refusal is set when nobody does."""
    cdef int64_t now = now_ns()
    if call.gone or (call.deadline_ns and now >= call.deadline_ns):
        call.refused = REFUSED_EXPIRED
        return False
    # Who set a deadline has said how long it waits.
    if not call.deadline_ns and now - call.arrived_ns > call.loop.plane.limits.away_ns:
        call.refused = REFUSED_OVERLOAD
        return False
    return True


cdef void* _work(void* argument) noexcept nogil:
    """A worker's thread: decides what may wait, until the queue ends."""
    cdef Worker* worker = <Worker*> argument
    cdef Call* call
    cdef Desk* desk
    cdef Bytes answer
    cdef int code
    while True:
        call = queue_take(&worker.plane.slow)
        if call == NULL:
            return NULL
        if not _wanted(call):
            call_returns(call)
            continue
        desk = seat_sit(&worker.seat)
        code = DESK_ELSEWHERE
        if desk != NULL:
            code = desk_decide(desk, call.body + 5, call.body_size - 5, call.arrived_ns, call.deadline_ns, &answer)
        if code == DESK_DONE and not call_answers(call, answer.data, answer.size):
            call.refused = REFUSED_MEMORY
        seat_rise(&worker.seat)
        if code == DESK_EXPIRED:
            call.refused = REFUSED_EXPIRED
        elif code != DESK_DONE:
            if queue_put(&worker.plane.handed, call, worker.plane.limits.handed):
                continue
            call.refused = REFUSED_OVERLOAD
        call_returns(call)


@cython.final
cdef class Handed:
    """A call that Python answers: once, with `answer` or `fail`. One that is dropped unanswered ends as INTERNAL."""

    cdef Call* _call  # owned until it is answered
    cdef DataPlane _plane  # keeps the loop that the call goes back to
    cdef readonly str path
    cdef readonly bytes data

    def remaining_us(self):
        """What the call's deadline leaves, in microseconds, at least 0; None without one."""
        cdef int64_t left
        if self._call == NULL or self._call.deadline_ns == 0:
            return None
        left = (self._call.deadline_ns - now_ns()) // 1000
        return left if left > 0 else 0

    def waited_us(self):
        """Microseconds since the last of the call was read; 0 once it is answered."""
        return 0 if self._call == NULL else (now_ns() - self._call.arrived_ns) // 1000

    cdef Call* _given(self) except NULL:
        cdef Call* call = self._call
        if call == NULL:
            raise EngineFault(f"a call of {self.path} was answered twice")
        return call

    def answer(self, bytes data not None):
        """Ends the call with a message and status OK."""
        cdef Call* call = self._given()
        if not call_answers(call, <const uint8_t*> <const char*> data, len(data)):
            call.refused = REFUSED_MEMORY
        self._call = NULL
        call_returns(call)

    def fail(self, int status, str message not None, bytes details not None):
        """Ends the call with a gRPC status (1 to 16), its text, and the bytes of its google.rpc.Status."""
        cdef Call* call = self._given()
        cdef bytes raw = message.encode("utf-8", "replace")
        cdef bytes digits = str(status).encode()
        cdef size_t room = min(<size_t> MESSAGE_BYTES, 3 * <size_t> len(raw))
        if not 1 <= status <= 16:
            raise EngineFault(f"{status} is no gRPC status of an error")
        call.message = <uint8_t*> malloc(room + 4 * (<size_t> len(details) // 3 + 1))
        if call.message == NULL:
            call.refused = REFUSED_MEMORY
        else:
            call.message_size = percent_encoded(<const uint8_t*> <const char*> raw, len(raw), call.message, room)
            call.details_size = base64_encoded(
                <const uint8_t*> <const char*> details, len(details), call.message + call.message_size
            )
            memcpy(call.status, <const char*> digits, len(digits))
            call.status_size = <uint8_t> len(digits)
        self._call = NULL
        call_returns(call)

    def __dealloc__(self):
        if self._call != NULL:
            self._call.refused = REFUSED_FAULT
            call_returns(self._call)


@cython.final
cdef class DataPlane:
    """Loops over listening sockets, one each, and ``workers`` threads for decisions that may wait.

    ``listeners`` are descriptors of bound, listening, non-blocking sockets, which the plane owns from now on.
    ``methods`` maps paths ("/package.Service/Method") to DECIDE, HANDED or HEALTH. ``refusals`` words each of REFUSED: a gRPC
    status, its text, and the bytes of a google.rpc.Status. ``limits`` are the fields of state.pxd's Limits by name.

    Made, then `start`ed; `drain`ed and `end`ed, then `close`d. Raises OSError when the kernel gives it no descriptors or threads.
    """

    def __cinit__(self, listeners, *, int workers, methods, refusals, limits, Context tls=None):
        cdef int i, code
        cdef Context context
        memset(&self._plane, 0, sizeof(Plane))
        self._keep, self._paths, self._desks = [], [], []
        self._following = threading.Lock()
        self._loop_count, self._worker_count = len(listeners), workers
        self._loops = <Loop*> calloc(len(listeners), sizeof(Loop))
        self._workers = <Worker*> calloc(max(workers, 1), sizeof(Worker))
        if self._loops == NULL or self._workers == NULL:
            raise MemoryError("a data plane")
        queue_open(&self._plane.handed)
        queue_open(&self._plane.slow)
        pthread_mutex_init(&self._plane.tls_mutex, NULL)
        for i in range(workers):
            self._workers[i].plane = &self._plane
            seat_open(&self._workers[i].seat)
        self._set_limits(limits)
        self._set_methods(methods)
        self._set_refusals(refusals)
        if tls is not None:
            context = tls
            self._tls = context
            self._plane.tls = context.context
            self._plane.secure = 1
        if sessions_open(&self._plane):
            raise MemoryError("a data plane")
        for i in range(self._loop_count):
            self._opened += 1
            code = loop_open(&self._loops[i], &self._plane, i, listeners[i])
            if code:
                # Those that no loop owns yet; the others go with their loops.
                for descriptor in listeners[self._opened:]:
                    os.close(descriptor)
                raise OSError(code, "a loop of the data plane could not be made")

    def _set_limits(self, limits):
        names = {field for field in self._plane.limits}
        if set(limits) != names:
            raise EngineFault(f"limits of the data plane: {sorted(set(limits) ^ names)}")
        self._plane.limits = limits
        self._plane.slow_most = self._plane.limits.handed

    def _set_methods(self, methods):
        cdef int i
        if len(methods) > METHODS_MOST:
            raise EngineFault("too many methods for the data plane")
        for i, (path, kind) in enumerate(methods.items()):
            raw = path.encode()
            self._keep.append(raw)
            self._paths.append(path)
            self._plane.methods[i].path = <const uint8_t*> <const char*> raw
            self._plane.methods[i].path_size = len(raw)
            self._plane.methods[i].kind = kind
        self._plane.method_count = len(methods)

    def _set_refusals(self, refusals):
        cdef int i
        cdef size_t size
        cdef bytes raw, message, details, packed, digits
        for i, name in enumerate(REFUSED, 1):
            status, text, packed = refusals[name]
            raw = text.encode()
            message = PyBytes_FromStringAndSize(NULL, 3 * len(raw))
            size = percent_encoded(
                <const uint8_t*> <const char*> raw, len(raw), <uint8_t*> <char*> message, 3 * len(raw)
            )
            details = PyBytes_FromStringAndSize(NULL, 4 * (len(packed) // 3 + 1))
            self._plane.refusals[i].message = <const uint8_t*> <const char*> message
            self._plane.refusals[i].message_size = size
            self._plane.refusals[i].details_size = base64_encoded(
                <const uint8_t*> <const char*> packed, len(packed), <uint8_t*> <char*> details
            )
            self._plane.refusals[i].details = <const uint8_t*> <const char*> details
            digits = str(status).encode()
            memcpy(self._plane.refusals[i].status, <const char*> digits, len(digits))
            self._plane.refusals[i].status_size = <uint8_t> len(digits)
            self._keep += [message, details]

    def __dealloc__(self):
        cdef int i
        # Threads that nobody ended would go on in memory that is free.
        self._end()
        for i in range(self._opened):
            loop_close(&self._loops[i])
        for i in range(self._worker_count):
            if self._workers != NULL:
                seat_close(&self._workers[i].seat)
        sessions_close(&self._plane)
        queue_close(&self._plane.handed)
        queue_close(&self._plane.slow)
        pthread_mutex_destroy(&self._plane.tls_mutex)
        free(self._loops)
        free(self._workers)

    def start(self):
        """Starts the threads. Raises OSError when there is none to be had; then `end` and `close` all the same."""
        cdef int i, code
        for i in range(self._worker_count):
            code = pthread_create(&self._workers[i].thread, NULL, _work, &self._workers[i])
            if code:
                raise OSError(code, "a worker of the data plane could not be started")
            self._workers[i].running = 1
            # By its maker: a thread that named itself would have no name until it first ran.
            pthread_setname_np(self._workers[i].thread, b"rapport-worker")
        for i in range(self._loop_count):
            code = loop_start(&self._loops[i])
            if code:
                raise OSError(code, "a loop of the data plane could not be started")

    def follow(self, plan):
        """Decides over ``plan`` from now on (None: hands every decision to Python); returns when nothing uses the one before.

        Waits for decisions under way, so for as long as a worker waits for a model. Raises MemoryError and StoreError when
        no desk can be made, and then nothing has changed.
        """
        cdef DeskHolder holder
        cdef Desk* desk
        cdef int i
        cdef list desks = []
        with self._following:
            if self._closed:
                return
            if plan is not None:
                for i in range(self._loop_count + self._worker_count):
                    holder = DeskHolder(plan)
                    holder.desk.may_wait = i >= self._loop_count
                    desks.append(holder)
            for i in range(self._loop_count + self._worker_count):
                desk = NULL
                if desks:
                    holder = desks[i]
                    desk = &holder.desk
                with nogil:
                    if i < self._loop_count:
                        seat_give(&self._loops[i].seat, desk)
                    else:
                        seat_give(&self._workers[i - self._loop_count].seat, desk)
            before, self._desks = self._desks, desks
            for holder in before:
                holder.close()

    def serving(self, str service not None, bint serves):
        """What Health answers for a service ("" is the whole server)."""
        cdef bytes name = service.encode()
        cdef uint32_t i
        cdef uint8_t status = SERVES if serves else SERVES_NOT
        for i in range(self._plane.health_count):
            if name == self._plane.health[i].service[:self._plane.health[i].service_size]:
                self._plane.health[i].status = status
                return
        if self._plane.health_count == HEALTH_MOST or len(name) > HEALTH_NAME:
            raise EngineFault(f"no room for the health of {service}")
        i = self._plane.health_count
        memcpy(self._plane.health[i].service, <const char*> name, len(name))
        self._plane.health[i].service_size = len(name)
        self._plane.health[i].status = status
        # Last: a loop looks only at entries below the count.
        self._plane.health_count += 1

    def certificates(self, Context tls not None):
        """Uses other certificates for connections from now on; those that are open keep theirs."""
        cdef Plane* plane = &self._plane
        if not plane.secure:
            raise EngineFault("the data plane speaks no TLS")
        cdef SSL_CTX* context = tls.context
        # Without the GIL all along: waiting for it with the lock held would keep loops that accept waiting too.
        with nogil:
            pthread_mutex_lock(&plane.tls_mutex)
            plane.tls = context
            pthread_mutex_unlock(&plane.tls_mutex)
        self._tls = tls

    def take(self):
        """A call that Python has to answer, waited for without the GIL; None when the plane has ended.

        Those whose client has gone, whose deadline has passed, or that waited too long are given back unseen.
        """
        cdef Call* call
        cdef Handed handed
        with nogil:
            call = queue_take(&self._plane.handed)
            while call != NULL and not _wanted(call):
                call_returns(call)
                call = queue_take(&self._plane.handed)
        if call == NULL:
            return None
        handed = Handed.__new__(Handed)
        handed._call = call
        handed._plane = self
        handed.path = self._paths[call.method]
        handed.data = PyBytes_FromStringAndSize(<char*> call.body + 5, call.body_size - 5)
        return handed

    def drain(self):
        """Takes no new connections and asks those there are to go; calls are served until they have."""
        cdef int i
        for i in range(self._loop_count):
            loop_ask(&self._loops[i], 1)

    def end(self):
        """Ends the threads: closes every connection, whatever waits on it. Calls that Python holds may still be answered."""
        self._end()

    cdef void _end(self) noexcept:
        cdef int i
        cdef Plane* plane = &self._plane
        with nogil:
            for i in range(self._opened):
                loop_ask(&self._loops[i], 2)
            for i in range(self._opened):
                loop_join(&self._loops[i])
                loop_deafen(&self._loops[i])
            queue_end(&plane.slow)
            for i in range(self._worker_count):
                if self._workers[i].running:
                    pthread_join(self._workers[i].thread, NULL)
                    self._workers[i].running = 0
            queue_end(&plane.handed)

    def drained(self, double seconds):
        """Waits until every connection has gone, at most ``seconds``; whether they have."""
        cdef int i
        waited = threading.Event()
        until = now_ns() + <int64_t> (seconds * 1e9)
        while True:
            if all(self._loops[i].counters.open_connections == 0 for i in range(self._loop_count)):
                return True
            if now_ns() >= until:
                return False
            waited.wait(0.01)

    def close(self):
        """Lets go of the plan. After `end`, when Python holds no call any more."""
        with self._following:
            self._closed = True
            for i in range(self._loop_count):
                self._loops[<int> i].seat.desk = NULL
            for holder in self._desks:
                holder.close()
            self._desks = []

    def counters(self):
        """What the loops have counted, together: see state.pxd. Refusals are there as ``refused_<name>``."""
        cdef Counters* one
        cdef int i, j
        total = {}
        for i in range(self._loop_count):
            one = &self._loops[i].counters
            for name, value in one[0].items():
                if name == "refused":
                    for j, refusal in enumerate(REFUSED, 1):
                        total[f"refused_{refusal}"] = total.get(f"refused_{refusal}", 0) + one.refused[j]
                else:
                    total[name] = total.get(name, 0) + value
        return total
