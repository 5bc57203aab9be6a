"""One native thread that serves: reads what arrived, decides what is whole, sends what is answered, round after round.

A round: epoll tells which sockets have something; each is read; calls that others answered are taken back; up to CALLS_A_ROUND
whole calls are worked on, oldest first; some connections are held to their times; every connection with something to send is
flushed once; a few handshakes go on. While calls wait, epoll is asked without waiting, so that new ones are stamped with
their time of arrival: under overload the queue stands in this loop, where it is seen, not in the sockets.

Overload. A queue stands when it was not empty for a while; a burst, or a thread that was not let run, makes a long wait too,
and refusing for that would only lose calls. While it stands, a decision that would wait too long, by the queue's length
and the pace of late, is refused as soon as it is read, and what that costs may take a third of the time: beyond it
sockets are not read in this round, and their senders feel it. It stands until the thread has had to wait for work.

A decision runs here, on the thread that read it. What must wait (a durable write, a slow model) or is unusual goes to
Python or to a worker, and the loop goes on; answers come back through a list that the eventfd announces.

The desk it decides with is replaced from outside (seat.pxd), so that no decision that begins after a program was
acknowledged uses the old one.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memset

from core.kernel.desk cimport DESK_DONE, DESK_ELSEWHERE, DESK_EXPIRED, DESK_SLOW, desk_decide
from core.kernel.desk_state cimport Bytes, Desk
from server.transport.calls cimport call_answers, call_end, call_free, call_holds, queue_put, ready_is_full, ready_take
from server.transport.connection cimport (
    answer_error,
    answer_message,
    answer_refusal,
    connection_close,
    connection_event,
    connection_flush,
    connection_free,
    connection_leave,
    connection_open,
    connection_tick,
)
from server.transport.linux cimport (
    PRIO_PROCESS,
    SchedulingAttributes,
    SCHED_FLAG_RESET_ON_FORK,
    SCHED_RR,
    SYS_sched_setattr,
    getpriority,
    syscall,
    EFD_CLOEXEC,
    EFD_NONBLOCK,
    EMFILE,
    ENFILE,
    ENOBUFS,
    ENOMEM,
    EPOLL_CLOEXEC,
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLLIN,
    EPOLLOUT,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    accept4,
    close,
    epoll_create1,
    epoll_ctl,
    epoll_event,
    epoll_wait,
    errno,
    eventfd,
    now_ns,
    pthread_create,
    pthread_join,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    pthread_setname_np,
    read,
    write,
)
from server.transport.pool cimport pool_empty
from server.transport.seat cimport seat_close, seat_open, seat_rise, seat_sit
from server.transport.state cimport (
    CALL_READING,
    KIND_DECIDE,
    KIND_HEALTH,
    READ_BYTES,
    REFUSED_EXPIRED,
    REFUSED_FRAMING,
    REFUSED_MEMORY,
    REFUSED_OVERLOAD,
    REFUSED_SERVICE,
    WRITE_BYTES,
    Call,
    Connection,
    Loop,
    Plane,
)

cdef enum:
    EVENTS_A_ROUND = 256
    ACCEPTS_A_ROUND = 64
    CALLS_A_ROUND = 64  # about a millisecond's work; answers leave and arrivals are stamped at least so often
    TICK_NS = 100_000_000
    REFILL_TICKS = 10
    TICKS_A_ROUND = 512  # connections and calls looked at: 50 us when none of them is in the cache
    TICK_MS = 100
    STALE_TIMES = 2  # of the longest wait in the queue: whoever waited longer was let in by a wrong guess
    PACE_PARTS = 16
    # Refusing, from the read to the write, has half of the time that answers take. These lose less than a third by it, for they
    # are cheaper where many come at once: 83 % and more of what a closed loop gets at five times that. With a third part they got
    # a little more, and refusals took 30 ms instead of 3. What is not read waits at its sender.
    REFUSING_PART = 2
    IDLE_PART = 8  # of the time: whose thread waits so much for work has no queue that stands
    CREDIT_MOST_NS = 1_000_000
    SLICE_NS = 100_000  # the shortest that the kernel grants

cdef enum:
    SERVE = 0
    DRAIN = 1
    END = 2


cdef int loop_open(Loop* loop, Plane* plane, int number, int listener) noexcept nogil:
    """Makes a loop over a listening socket, which it owns from then on; 0, or an errno."""
    cdef epoll_event event
    memset(loop, 0, sizeof(Loop))
    loop.plane = plane
    loop.number = number
    loop.listener = listener
    loop.ep = loop.wake = -1
    pthread_mutex_init(&loop.mutex, NULL)
    seat_open(&loop.seat)
    loop.ep = epoll_create1(EPOLL_CLOEXEC)
    loop.wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
    loop.buffer = <uint8_t*> malloc(READ_BYTES)
    loop.out = <uint8_t*> malloc(WRITE_BYTES)
    if loop.ep < 0 or loop.wake < 0 or loop.buffer == NULL or loop.out == NULL:
        return errno if errno else 12
    event.events = EPOLLIN
    event.data.ptr = &loop.wake
    if epoll_ctl(loop.ep, EPOLL_CTL_ADD, loop.wake, &event) != 0:
        return errno
    event.data.ptr = &loop.listener
    if epoll_ctl(loop.ep, EPOLL_CTL_ADD, listener, &event) != 0:
        return errno
    return 0


cdef int loop_start(Loop* loop) noexcept nogil:
    """Starts the thread; 0, or an errno."""
    cdef int code = pthread_create(&loop.thread, NULL, _run, loop)
    loop.running = code == 0
    if loop.running:
        # By its maker: a thread that named itself would have no name until it first ran.
        pthread_setname_np(loop.thread, b"rapport-loop")
    return code


cdef void loop_ask(Loop* loop, uint8_t what) noexcept nogil:
    """Asks the loop to drain (1) or to end (2)."""
    cdef uint64_t one = 1
    pthread_mutex_lock(&loop.mutex)
    if what > loop.asked:
        loop.asked = what
    pthread_mutex_unlock(&loop.mutex)
    write(loop.wake, &one, sizeof(one))


cdef void loop_join(Loop* loop) noexcept nogil:
    """Waits for the thread's end."""
    if loop.running:
        pthread_join(loop.thread, NULL)
        loop.running = 0


cdef void loop_deafen(Loop* loop) noexcept nogil:
    """Closes the listening socket. By the loop's thread, or by its owner once that has ended or never ran."""
    if loop.listener >= 0:
        # A Unix socket's is one of several descriptors of one socket: closing it alone would leave it in epoll.
        epoll_ctl(loop.ep, EPOLL_CTL_DEL, loop.listener, NULL)
        close(loop.listener)
        loop.listener = -1


cdef void loop_close(Loop* loop) noexcept nogil:
    """Frees a loop whose thread has ended, with the calls that never came back to it."""
    cdef Call* call
    cdef Call* after
    call = loop.returned
    while call != NULL:
        after = call.next
        call_free(call)
        call = after
    call = loop.free_calls
    while call != NULL:
        after = call.next
        call_free(call)
        call = after
    loop.returned = loop.free_calls = NULL
    loop_deafen(loop)
    if loop.ep >= 0:
        close(loop.ep)
    if loop.wake >= 0:
        close(loop.wake)
    loop.ep = loop.wake = -1
    pool_empty(&loop.pool)
    free(loop.buffer)
    free(loop.out)
    loop.buffer = loop.out = NULL
    pthread_mutex_destroy(&loop.mutex)
    seat_close(&loop.seat)


# --- a round -----------------------------------------------------------------------------------------------------

cdef void _listen(Loop* loop, uint32_t events) noexcept nogil:
    """Tells epoll what to watch the listener for."""
    cdef epoll_event event
    event.events = events
    event.data.ptr = &loop.listener
    epoll_ctl(loop.ep, EPOLL_CTL_MOD, loop.listener, &event)


cdef void _accept(Loop* loop) noexcept nogil:
    cdef int fd, _
    for _ in range(ACCEPTS_A_ROUND):
        fd = accept4(loop.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)
        if fd < 0:
            if errno == EMFILE or errno == ENFILE or errno == ENOBUFS or errno == ENOMEM:
                # What waits would be told again at once, round after round; it is tried again in the next pass.
                loop.counters.accepts_failed += 1
                _listen(loop, 0)
                loop.deaf = 1
            return
        if loop.counters.open_connections >= loop.plane.limits.connections:
            close(fd)
            loop.counters.connections_refused += 1
            continue
        connection_open(loop, fd)


cdef void _hand(Loop* loop, Call* call) noexcept nogil:
    """Gives a call to Python, or refuses it when too many wait there."""
    if queue_put(&loop.plane.handed, call, loop.plane.limits.handed):
        loop.counters.handed += 1
    else:
        answer_refusal(call, REFUSED_OVERLOAD)


cdef bint _same_name(const uint8_t* text, size_t size, const char* wanted, size_t wanted_size) noexcept nogil:
    return size == wanted_size and (size == 0 or memcmp(text, wanted, size) == 0)


cdef void _check_health(Loop* loop, Call* call) noexcept nogil:
    """grpc.health.v1 Check: field 1 of the request is the service's name, field 1 of the answer its status."""
    cdef Plane* plane = loop.plane
    cdef const uint8_t* at = call.body + 5
    cdef size_t left = call.body_size - 5
    cdef const uint8_t* name = at
    cdef size_t size = 0
    cdef uint8_t[2] answer
    cdef uint32_t i
    if left:
        # A name longer than any of ours needs no second length byte to be known as unknown.
        if left < 2 or at[0] != 0x0A or at[1] & 0x80 or <size_t> at[1] + 2 != left:
            answer_refusal(call, REFUSED_SERVICE if at[0] == 0x0A else REFUSED_FRAMING)
            return
        name = at + 2
        size = at[1]
    for i in range(plane.health_count):
        if _same_name(name, size, plane.health[i].service, plane.health[i].service_size):
            answer[0] = 0x08
            answer[1] = plane.health[i].status
            if call_answers(call, answer, 2):
                call_holds(call)
                answer_message(call)
            else:
                answer_refusal(call, REFUSED_MEMORY)
            return
    answer_refusal(call, REFUSED_SERVICE)


cdef void _work(Loop* loop, Call* call) noexcept nogil:
    """Does what a whole call asks, or gives it to whoever does."""
    cdef uint8_t kind = loop.plane.methods[call.method].kind
    cdef int64_t now = now_ns()
    if kind == KIND_HEALTH:
        _check_health(loop, call)
        return
    if call.deadline_ns and now >= call.deadline_ns:
        answer_refusal(call, REFUSED_EXPIRED)
        return
    if call.connection.unsent > loop.plane.limits.unsent_bytes:
        answer_refusal(call, REFUSED_OVERLOAD)
        return
    if kind != KIND_DECIDE:
        # Reports and news cost this thread little, and losing them costs the business: they have a queue and limit of their own.
        _hand(loop, call)
        return
    if loop.stands and now - call.arrived_ns > STALE_TIMES * loop.plane.limits.queue_ns:
        # Taken before the queue was known to stand.
        answer_refusal(call, REFUSED_OVERLOAD)
        return
    _decide(loop, call)


cdef void _decide(Loop* loop, Call* call) noexcept nogil:
    cdef Bytes answer
    cdef Desk* desk = seat_sit(&loop.seat)
    cdef int code = DESK_ELSEWHERE
    if desk != NULL:
        code = desk_decide(desk, call.body + 5, call.body_size - 5, call.arrived_ns, call.deadline_ns, &answer)
    if code == DESK_DONE and not call_answers(call, answer.data, answer.size):
        call.refused = REFUSED_MEMORY
    seat_rise(&loop.seat)
    if call.refused:
        answer_refusal(call, call.refused)
    elif code == DESK_DONE:
        call_holds(call)
        loop.counters.decided += 1
        answer_message(call)
    elif code == DESK_EXPIRED:
        answer_refusal(call, REFUSED_EXPIRED)
    elif code == DESK_SLOW:
        if queue_put(&loop.plane.slow, call, loop.plane.slow_most):
            loop.counters.slow += 1
        else:
            answer_refusal(call, REFUSED_OVERLOAD)
    else:
        _hand(loop, call)


cdef int _work_off(Loop* loop) noexcept nogil:
    """Works on the oldest whole calls; how many."""
    cdef Call* call
    cdef int done = 0
    while done < CALLS_A_ROUND:
        call = ready_take(loop)
        if call == NULL:
            break
        if call.connection == NULL:
            call_end(call)
            continue
        _work(loop, call)
        done += 1
    return done


cdef int64_t _measure(Loop* loop, int done, int64_t idle_ns, int64_t refusing_ns) noexcept nogil:
    """Learns from a round, which ends now, how long a waiting call takes, and how much refusing was earned and used up, and
    whether the queue stands; the time.

    ``idle_ns`` of it earned nothing; ``refusing_ns``, a part of those, went into refusals.

    A round is judged only when calls wait after it: then all of it was work. One in sixteen parts new, so that a round in
    which the thread was not let run does not turn calls away.
    """
    cdef int64_t now = now_ns()
    cdef int64_t spent = now - loop.now_ns
    if done == CALLS_A_ROUND and loop.ready_count:
        loop.pace_ns += (spent // done - loop.pace_ns) // PACE_PARTS if loop.pace_ns else spent // done
    loop.credit_ns = min(loop.credit_ns + (spent - idle_ns) // REFUSING_PART - refusing_ns, CREDIT_MOST_NS)
    if not loop.stands:
        if loop.ready_count and now - loop.emptied_ns > loop.plane.limits.stands_ns:
            loop.stands = 1
            loop.watched_ns = now
            loop.idled_ns = 0
    elif now - loop.watched_ns > loop.plane.limits.stands_ns:
        # Not as soon as it is empty: kept short as it now is, it runs dry for a moment whenever the senders hesitate.
        loop.stands = loop.idled_ns < (now - loop.watched_ns) // IDLE_PART
        loop.watched_ns = now
        loop.idled_ns = 0
    return now


cdef void _take_back(Loop* loop) noexcept nogil:
    """Sends what workers and Python have answered."""
    cdef Call* call
    cdef Call* after
    pthread_mutex_lock(&loop.mutex)
    call = loop.returned
    loop.returned = NULL
    pthread_mutex_unlock(&loop.mutex)
    while call != NULL:
        after = call.next
        call.next = NULL
        call.where = CALL_READING
        call_holds(call)
        if call.connection == NULL:
            call_end(call)
        elif call.refused:
            answer_refusal(call, call.refused)
        elif call.status_size:
            answer_error(call)
        else:
            answer_message(call)
        call = after


cdef void _flush(Loop* loop) noexcept nogil:
    cdef Connection* connection = loop.dirty
    cdef Connection* after
    loop.dirty = NULL
    while connection != NULL:
        after = connection.next_dirty
        connection_flush(connection)
        # Only now: what its flush submits, its flush sends. In the list again, it could be freed there.
        connection.next_dirty = NULL
        connection.dirty = 0
        connection = after


cdef void _bury(Loop* loop) noexcept nogil:
    """Frees closed connections: nothing of this round names them any more."""
    cdef Connection* connection = loop.dead
    cdef Connection* after
    loop.dead = NULL
    while connection != NULL:
        after = connection.next
        connection_free(connection)
        connection = after


cdef void _tick(Loop* loop) noexcept nogil:
    """Looks at all connections every TICK_NS, some in each round: 20,000 at once would keep calls waiting for milliseconds."""
    cdef Connection* connection
    cdef int64_t left = TICKS_A_ROUND
    if loop.ticking == NULL and loop.now_ns - loop.ticked_ns >= TICK_NS:
        loop.ticked_ns = loop.now_ns
        loop.passes += 1
        loop.ticking = loop.connections
        if loop.deaf and loop.listener >= 0:
            loop.deaf = 0
            _listen(loop, EPOLLIN)
    while loop.ticking != NULL and left > 0:
        connection = loop.ticking
        # Closing it moves on, too.
        loop.ticking = connection.next
        left -= 1 + connection.calls
        connection_tick(connection, loop.passes % REFILL_TICKS == 0)


cdef void _obey(Loop* loop) noexcept nogil:
    """Begins to drain when asked: no new connections, and those there are asked to go."""
    cdef Connection* connection
    cdef Connection* after
    cdef uint8_t asked
    pthread_mutex_lock(&loop.mutex)
    asked = loop.asked
    pthread_mutex_unlock(&loop.mutex)
    if asked >= DRAIN and loop.state < DRAIN:
        # Connections that the kernel has not handed out by now are reset.
        _accept(loop)
        loop_deafen(loop)
        connection = loop.connections
        while connection != NULL:
            after = connection.next
            connection_leave(connection, False)
            connection = after
    loop.state = asked


cdef void _run_before_others() noexcept nogil:
    """Under SCHED_RR, as threads.realtime asks: whatever else the processor does, a loop that wakes runs at once.

    Front has found that the kernel permits it. The lowest priority of all that are real-time, so that an operator's tools and
    the kernel's own threads still come first; what this thread would start does not inherit it.
    """
    cdef SchedulingAttributes wanted
    memset(&wanted, 0, sizeof(wanted))
    wanted.size = sizeof(wanted)
    wanted.policy = SCHED_RR
    wanted.flags = SCHED_FLAG_RESET_ON_FORK
    wanted.priority = 1
    syscall(SYS_sched_setattr, 0, &wanted, 0)


cdef void _ask_for_short_slices() noexcept nogil:
    """Lets this thread interrupt those that share its processor as soon as it wakes, in return for running a short while.

    It wakes for what takes microseconds; with slices of milliseconds it would wait for the end of another's. From Linux
    6.12 on; an older kernel refuses or passes it over, and nothing changes.
    """
    cdef SchedulingAttributes wanted
    memset(&wanted, 0, sizeof(wanted))
    wanted.size = sizeof(wanted)
    wanted.nice = getpriority(PRIO_PROCESS, 0)
    wanted.runtime = SLICE_NS
    syscall(SYS_sched_setattr, 0, &wanted, 0)


cdef inline int _poll(Loop* loop, epoll_event* events, int64_t eventful_ns) noexcept nogil:
    """Asks for events again and again until threads.busy_poll_us have passed since the last: the count of those there are, or 0.

    To be woken from sleep costs a lone call more than to be decided does, most of all where an idle processor is a virtual one.
    """
    cdef int count = 0
    while count == 0 and now_ns() - eventful_ns < loop.plane.limits.poll_ns:
        count = epoll_wait(loop.ep, events, EVENTS_A_ROUND, 0)
    return max(count, 0)


cdef void loop_rounds(Loop* loop, int64_t most) noexcept nogil:
    """Rounds until the loop has ended, or ``most`` of them, which then wait for nothing; below 0, as many as it takes."""
    cdef epoll_event[EVENTS_A_ROUND] events
    cdef epoll_event* event
    cdef Connection* connection
    cdef uint64_t drained
    cdef int64_t refused, whole
    cdef int64_t ended_ns, eventful_ns, flushed_ns, full_ns, read_ns, refusing_ns
    cdef int count, done, i
    cdef bint busy, held, shaking
    cdef void* source
    ended_ns = eventful_ns = loop.now_ns
    while most != 0:
        most -= 1
        busy = loop.ready_first != NULL or loop.ticking != NULL or most >= 0
        count = 0
        if not busy:
            count = _poll(loop, events, eventful_ns)
        if count == 0:
            count = epoll_wait(loop.ep, events, EVENTS_A_ROUND, 0 if busy else TICK_MS)
        loop.now_ns = now_ns()
        if count > 0:
            eventful_ns = loop.now_ns
        if not busy:
            loop.idled_ns += loop.now_ns - ended_ns
        loop.shakes = 0
        shaking = False
        if loop.ready_first == NULL:
            loop.emptied_ns = loop.now_ns
        held = False
        full_ns = 0
        whole = <int64_t> loop.counters.calls
        refused = <int64_t> loop.counters.refused[REFUSED_OVERLOAD]
        for i in range(count):
            event = &events[(loop.turn + <uint32_t> i) % <uint32_t> count]
            source = event.data.ptr
            if source == &loop.listener:
                if loop.listener >= 0:
                    _accept(loop)
            elif source == &loop.wake:
                read(loop.wake, &drained, sizeof(drained))
            else:
                connection = <Connection*> source
                if connection.ssl != NULL and not connection.secure:
                    shaking = True
                    continue
                if not held and ready_is_full(loop):
                    if full_ns == 0:
                        full_ns = now_ns()
                    if now_ns() - full_ns >= loop.credit_ns:
                        # The next round begins with this one, so that all get their turn.
                        held = True
                        loop.turn += <uint32_t> i
                connection_event(connection, event.events & EPOLLOUT if held else event.events)
        read_ns = now_ns() - loop.now_ns
        whole = <int64_t> loop.counters.calls - whole
        refused = <int64_t> loop.counters.refused[REFUSED_OVERLOAD] - refused
        # Calls that were let in are read for their own sake.
        refusing_ns = read_ns * refused // max(whole, refused, 1)
        _take_back(loop)
        done = _work_off(loop)
        if loop.state != loop.asked:
            _obey(loop)
        _tick(loop)
        # A refusal's way out costs about what an answer's does.
        flushed_ns = now_ns()
        _flush(loop)
        flushed_ns = (now_ns() - flushed_ns) * refused // max(done + refused, 1)
        if shaking:
            # Last, for a handshake takes as long as many calls, and these had been read before it.
            for i in range(count):
                source = events[i].data.ptr
                if source != &loop.listener and source != &loop.wake:
                    connection = <Connection*> source
                    if connection.ssl != NULL and not connection.secure:
                        connection_event(connection, events[i].events)
        _bury(loop)
        ended_ns = _measure(loop, done, read_ns + flushed_ns, refusing_ns + flushed_ns)
        if loop.state == END or (loop.state == DRAIN and loop.connections == NULL):
            break


cdef void* _run(void* argument) noexcept nogil:
    cdef Loop* loop = <Loop*> argument
    cdef Connection* connection
    cdef Call* call
    if loop.plane.limits.realtime:
        _run_before_others()
    else:
        _ask_for_short_slices()
    loop.now_ns = loop.ticked_ns = loop.emptied_ns = now_ns()
    loop_rounds(loop, -1)
    while loop.connections != NULL:
        connection = loop.connections
        connection_close(connection)
    _bury(loop)
    # What was queued belongs to connections that are gone.
    call = ready_take(loop)
    while call != NULL:
        call_end(call)
        call = ready_take(loop)
    return NULL
