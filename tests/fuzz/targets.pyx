"""What a fuzzer calls with bytes, again and again: a request's decoders, a connection of the data plane, a feed's reader.

All run in the calling thread and keep nothing of an input, so that the same bytes take the same way each time; a coverage-guided
fuzzer depends on that. A target is a C function that gives 0, or what did not hold (FOUND tells the words); memory errors are the
sanitizers' to find. `native/driver.c` gives them to libFuzzer; tests replay the kept inputs through `run`.

*request*: the first byte chooses a world, the rest are the bytes of a DecideRequest. A desk decides it where it lies, in a
block of exactly its size, and `server.codec` decodes it. One answer in a sample is judged: Python's way must answer equally.

*transport*: the bytes that a client sends on one connection, given to a loop that has no thread of its own, over a pair of
sockets, round by round. Frames of type ORDER are not sent: they tell the harness (see `_obey`), so that an input also says
where writes end, when time passes, who reads and what Python answers. What the loop sends must be frames of kinds and
sizes that HTTP/2 has, and when the peer has gone nothing may be left of it.

*feed*: below 128, the first byte says how many items make a batch, and the rest are the bytes of an IngestRequest for
`core.hub.ingest.ItemReader`; one message in a sample is judged: the protobuf library and the ordinary mutations must give the
same items. From 128 on, the rest are columns of texts for `well_formed`, which stands before what an import sends (see `_texts`).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

from core.kernel.desk cimport DESK_DONE, DeskHolder, desk_decide
from core.kernel.desk_state cimport Bytes
from server.transport.calls cimport call_answers, call_returns, queue_take
from server.transport.connection cimport connection_leave, connection_open
from server.transport.linux cimport (
    MSG_NOSIGNAL,
    SHUT_WR,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOL_SOCKET,
    close,
    now_ns,
    recv,
    send,
    setsockopt,
    shutdown,
)
from server.transport.loop cimport loop_rounds
from server.transport.plane cimport DataPlane
from server.transport.state cimport REFUSED_FAULT, Call, Connection, Loop

from core.errors import BadValue
from core.hub.ingest import items_of, named_in, well_formed
from server import codec

cdef extern from "<sys/socket.h>" nogil:
    int socketpair(int family, int kind, int protocol, int* ends)
    enum:
        AF_UNIX
        SOCK_STREAM
        SO_SNDBUF

# What did not hold, by the number that a target gives.
FOUND = (
    "nothing",
    "the data plane sent a frame of a kind or size that HTTP/2 does not have",
    "a connection is left after its peer has gone",
    "a call is left after its peer has gone",
    "bytes are counted as held after all calls have gone",
    "a queue or list of the loop still names something",
    "the kernel gave no pair of sockets",
    "an answer that Python's way does not give",
    "an error that nobody promised",
)

cdef enum:
    FOUND_NOTHING = 0
    FOUND_FRAMES = 1
    FOUND_CONNECTION = 2
    FOUND_CALL = 3
    FOUND_HELD = 4
    FOUND_LISTS = 5
    FOUND_NO_SOCKETS = 6
    FOUND_OTHERWISE = 7
    FOUND_ERROR = 8

ctypedef int (*Target)(const uint8_t* data, size_t size) noexcept

# --- requests -----------------------------------------------------------------------------------------------------

cdef enum:
    FAR_NS = 3_600_000_000_000  # a deadline that no decision meets

cdef list _desks = []  # of the worlds; each holds its desk
cdef list _judges = []  # of the worlds: called with a request's bytes, raises AssertionError
cdef uint32_t _sample = 1  # of so many answers one is judged


cdef bint _sampled(const uint8_t* data, size_t size) noexcept nogil:
    """Whether this input is one of those that are judged."""
    cdef uint32_t mixed = 2166136261
    cdef size_t i
    for i in range(size):
        mixed = (mixed ^ data[i]) * 16777619
    return (mixed >> 8) % _sample == 0


cdef int _request(const uint8_t* data, size_t size) noexcept:
    cdef DeskHolder holder
    cdef Bytes out
    cdef int code
    cdef uint8_t* raw
    cdef int64_t now = now_ns()
    if size == 0:
        return FOUND_NOTHING
    holder = _desks[data[0] % len(_desks)]
    # Its own block even where the caller's is one: a byte before it is another's then, too.
    raw = <uint8_t*> malloc(size - 1 if size > 1 else 1)
    if raw == NULL:
        return FOUND_NOTHING
    memcpy(raw, data + 1, size - 1)
    code = desk_decide(&holder.desk, raw, size - 1, now, now + FAR_NS, &out)
    free(raw)
    try:
        codec.decode(PyBytes_FromStringAndSize(<const char*> data + 1, size - 1), None)
        if code == DESK_DONE and _sampled(data, size):
            _judges[data[0] % len(_desks)](PyBytes_FromStringAndSize(<const char*> data + 1, size - 1))
    except AssertionError as error:
        print(f"{error}", flush=True)
        return FOUND_OTHERWISE
    return FOUND_NOTHING


# --- the transport ------------------------------------------------------------------------------------------------

cdef enum:
    ORDER = 0xF5  # type of a frame that is for us
    HEAD = 9  # bytes of a frame before its payload
    FRAME_MOST = 16_384  # what HTTP/2 lets us send, for no peer is asked for more
    KINDS = 10  # of frames that HTTP/2 has
    MAGIC = 24  # bytes before the first frame
    LATER_NS = 50_000_000
    FULL = 8  # rounds without a byte taken: the server does not read
    ROUNDS_AT_END = 50
    LARGE = 200_000  # bytes of a large answer of Python's

cdef struct Peer:
    int fd  # our end; owned
    uint8_t takes  # it reads what the server sends
    uint8_t shut  # it sends nothing any more
    size_t piece  # the most that it writes at once; 0: all there is
    uint8_t[HEAD] head  # of the server's frame at hand
    size_t head_size  # bytes of it that have come
    size_t left  # bytes of its payload that have not
    uint8_t broken  # what came was no frame

cdef Loop* _loop = NULL  # of _plane
cdef DataPlane _plane = None  # keeps the loop
cdef uint8_t[65_536] _taken
cdef uint8_t[LARGE] _large


cdef void _take(Peer* peer) noexcept nogil:
    """Reads all that the server has sent, and follows its frames."""
    cdef ssize_t got
    cdef size_t at, size
    while True:
        got = recv(peer.fd, _taken, sizeof(_taken), 0)
        if got <= 0:
            return
        at = 0
        while at < <size_t> got:
            size = <size_t> got - at
            if peer.left:
                size = min(size, peer.left)
                peer.left -= size
                at += size
                continue
            size = min(size, HEAD - peer.head_size)
            memcpy(peer.head + peer.head_size, _taken + at, size)
            peer.head_size += size
            at += size
            if peer.head_size == HEAD:
                peer.head_size = 0
                peer.left = <size_t> peer.head[0] << 16 | <size_t> peer.head[1] << 8 | peer.head[2]
                if peer.left > FRAME_MOST or peer.head[3] >= KINDS:
                    peer.broken = 1


cdef void _rounds(Peer* peer, int most) noexcept nogil:
    loop_rounds(_loop, most)
    if peer.takes:
        _take(peer)


cdef void _give(Peer* peer, const uint8_t* data, size_t size) noexcept nogil:
    """Sends bytes as the peer would, with a round after each write; what the server does not take is lost."""
    cdef ssize_t sent
    cdef size_t piece
    cdef int full = 0
    while size and not peer.shut and full < FULL:
        piece = min(size, peer.piece) if peer.piece else size
        sent = send(peer.fd, data, piece, MSG_NOSIGNAL)
        if sent > 0:
            data += sent
            size -= <size_t> sent
        else:
            full += 1
        _rounds(peer, 1)
    _rounds(peer, 1)


cdef void _later(int64_t by) noexcept nogil:
    """Lets time pass for the loop, by moving back what it remembers."""
    cdef Connection* connection = _loop.connections
    cdef Call* call
    _loop.ticked_ns -= by
    _loop.emptied_ns -= by
    while connection != NULL:
        connection.opened_ns -= by
        connection.heard_ns -= by
        connection.moved_ns -= by
        connection.idle_ns -= by
        connection.left_ns -= by
        call = connection.first_call
        while call != NULL:
            call.begun_ns -= by
            call.arrived_ns -= by
            if call.deadline_ns:
                call.deadline_ns = max(<int64_t> 1, call.deadline_ns - by)
            call = call.later
        connection = connection.next


cdef void _answer(uint32_t how) noexcept nogil:
    """Answers what waits for Python, oldest first, in turn with its own bytes, an error, a refusal, and much."""
    cdef Call* call
    while _loop.plane.handed.count:
        call = queue_take(&_loop.plane.handed)
        if how % 4 == 0:
            call_answers(call, call.body + 5, call.body_size - 5)
        elif how % 4 == 1:
            call.message = <uint8_t*> malloc(12)
            if call.message == NULL:
                call.refused = REFUSED_FAULT
            else:
                memcpy(call.message, b"no%20wayCAMS", 12)
                call.message_size = 8
                call.details_size = 4
                call.status[0] = b"3"
                call.status_size = 1
        elif how % 4 == 2:
            call.refused = REFUSED_FAULT
        else:
            call_answers(call, _large, LARGE)
        call_returns(call)
        how += 1


cdef void _obey(Peer* peer, uint8_t order, uint32_t value, int server) noexcept nogil:
    """What a frame of type ORDER says: its flags are the order, its stream a value."""
    cdef int room, _
    order %= 9
    if order == 0:
        _rounds(peer, 1 + value % 4)
    elif order == 1:
        peer.piece = value % 300
    elif order == 2:
        _later((value % 2048) * <int64_t> LATER_NS)
        _rounds(peer, 2)
    elif order == 3:
        peer.takes = value & 1
        _rounds(peer, 1)
    elif order == 4:
        _answer(value)
        _rounds(peer, 1)
    elif order == 5:
        if _loop.connections != NULL:
            connection_leave(_loop.connections, value & 1)
        _rounds(peer, 1)
    elif order == 6:
        shutdown(peer.fd, SHUT_WR)
        peer.shut = 1
        _rounds(peer, 1)
    elif order == 7 and _loop.connections != NULL:
        room = <int> (value % 64) * 1024
        setsockopt(server, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room))
    elif order == 8:
        # Time goes on for the budgets: ten passes over the connections.
        for _ in range(11):
            _later(2 * <int64_t> LATER_NS)
            _rounds(peer, 1)


cdef int _connection(const uint8_t* data, size_t size) noexcept nogil:
    cdef int[2] ends
    cdef Peer peer
    cdef size_t at = 0, began = 0, length
    cdef int left = ROUNDS_AT_END
    memset(&peer, 0, sizeof(peer))
    peer.takes = 1
    if socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0:
        return FOUND_NO_SOCKETS
    peer.fd = ends[1]
    _loop.now_ns = _loop.emptied_ns = _loop.ticked_ns = now_ns()
    _loop.passes = 0
    connection_open(_loop, ends[0])
    if size >= MAGIC and memcmp(data, b"PRI", 3) == 0:
        at = MAGIC
    while size - at >= HEAD:
        length = <size_t> data[at] << 16 | <size_t> data[at + 1] << 8 | data[at + 2]
        if data[at + 3] != ORDER:
            at += min(length + HEAD, size - at)
            continue
        _give(&peer, data + began, at - began)
        _obey(
            &peer, data[at + 4],
            (<uint32_t> data[at + 5] & 127) << 24 | <uint32_t> data[at + 6] << 16 | <uint32_t> data[at + 7] << 8 | data[at + 8],
            ends[0]
        )
        at += HEAD
        began = at
    _give(&peer, data + began, size - began)
    _rounds(&peer, 2)
    # Some calls come back before their client has gone, and some after.
    if size & 1:
        _answer(<uint32_t> size >> 1)
        _rounds(&peer, 1)
    if peer.takes:
        _take(&peer)
    close(peer.fd)
    loop_rounds(_loop, 1)
    _answer(<uint32_t> size >> 1)
    while left and (_loop.connections != NULL or _loop.ready_first != NULL or _loop.returned != NULL or left == ROUNDS_AT_END):
        loop_rounds(_loop, 1)
        _answer(0)
        left -= 1
    if peer.broken:
        return FOUND_FRAMES
    if _loop.connections != NULL or _loop.counters.open_connections:
        return FOUND_CONNECTION
    if _loop.counters.open_calls:
        return FOUND_CALL
    if _loop.counters.held_bytes:
        return FOUND_HELD
    if (
        _loop.dirty != NULL or _loop.dead != NULL or _loop.ticking != NULL or _loop.ready_first != NULL
        or _loop.plane.handed.count or _loop.plane.slow.count
    ):
        return FOUND_LISTS
    return FOUND_NOTHING


cdef int _transport(const uint8_t* data, size_t size) noexcept:
    return _connection(data, size)


# --- feeds --------------------------------------------------------------------------------------------------------

cdef extern from *:
    """
    #if defined(RAPPORT_SANITIZE) && RAPPORT_SANITIZE
    void __asan_poison_memory_region(const volatile void*, size_t);
    void __asan_unpoison_memory_region(const volatile void*, size_t);
    #else
    #define __asan_poison_memory_region(at, size) ((void)(at))
    #define __asan_unpoison_memory_region(at, size) ((void)(at))
    #endif
    """
    void __asan_poison_memory_region(const void* at, size_t size) nogil
    void __asan_unpoison_memory_region(const void* at, size_t size) nogil

cdef enum:
    COLUMNS = 0x80  # of the first byte: texts, and no message
    ROWS = 64  # of a column at most

cdef object _reader = None  # an ItemReader
cdef object _feed_judge = None  # called with a message, its pieces (None: refused) and `most`; raises AssertionError
cdef object _texts_judge = None  # called as well_formed, and with its answer
cdef int64_t _feed_us = 0  # the reader's clock


cdef bytes _apart(const uint8_t* data, size_t size):
    """A copy behind whose last byte nothing may be read, not even the zero that Python puts there; `_ended` gives it back."""
    cdef bytes made = PyBytes_FromStringAndSize(<const char*> data, size)
    __asan_poison_memory_region(PyBytes_AS_STRING(made) + size, 1)
    return made


cdef void _ended(bytes made) noexcept:
    __asan_unpoison_memory_region(PyBytes_AS_STRING(made) + PyBytes_GET_SIZE(made), 1)


cdef int _texts(const uint8_t* data, size_t size) except -1:
    """Bytes: a rule, how many rows, the most bytes of a text; then the rows' ends as u16, and texts."""
    cdef uint32_t rows, row, end
    cdef uint16_t given
    if size < 3:
        return FOUND_NOTHING
    rows = data[1] % (ROWS + 1)
    if size - 3 < 2 * rows:
        return FOUND_NOTHING
    wide = bytearray()
    for row in range(rows):
        memcpy(&given, data + 3 + 2 * row, 2)
        # The highest stand for ends that are far outside.
        end = given if given < 0xFF00 else <uint32_t> given << 16
        wide += end.to_bytes(4, "little")
    texts = _apart(data + 3 + 2 * rows, size - 3 - 2 * rows)
    ends = _apart(<const uint8_t*> PyBytes_AS_STRING(bytes(wide)), len(wide)) if rows else b""
    rule = data[0] % 4
    try:
        answer = well_formed(rule, rows, ends, texts, data[2])
    finally:
        _ended(texts)
        if rows:
            _ended(ends)
    if _sampled(data, size):
        _texts_judge(rule, rows, ends, texts, data[2], answer)
    return FOUND_NOTHING


cdef int _items(const uint8_t* data, size_t size) except -1:
    cdef uint32_t most = 1 + data[0] % 8
    message = _apart(data + 1, size - 1)
    try:
        read = _reader.read(message, _feed_us, most)
    except BadValue:
        read = None
    finally:
        _ended(message)
    if read is not None:
        for piece in read[1]:
            if not isinstance(piece, bytes) and (len(items_of(piece.items)) != piece.rows or not named_in(piece.items)):
                raise AssertionError(f"a batch of {piece.rows} that does not hold as many items")
    if _sampled(data, size):
        _feed_judge(message, read, most)
    return FOUND_NOTHING


cdef int _feed(const uint8_t* data, size_t size) noexcept:
    if size == 0:
        return FOUND_NOTHING
    try:
        return _texts(data, size) if data[0] & COLUMNS else _items(data, size)
    except AssertionError as error:
        print(f"{error}", flush=True)
        return FOUND_OTHERWISE
    except Exception as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        return FOUND_ERROR


# --- what Python sees ---------------------------------------------------------------------------------------------

def prepare_requests(desks, judges, int sample):
    global _sample
    _desks[:] = desks
    _judges[:] = judges
    _sample = sample


def prepare_transport(DataPlane plane not None):
    global _plane, _loop
    _plane = plane
    _loop = &plane._loops[0]


def prepare_feed(reader, int64_t now_us, judge, texts_judge, int sample):
    global _reader, _feed_us, _feed_judge, _texts_judge, _sample
    _reader = reader
    _feed_us = now_us
    _feed_judge = judge
    _texts_judge = texts_judge
    _sample = sample


cdef Target _target(str name) except NULL:
    if name == "request" and _desks:
        return _request
    if name == "transport" and _loop != NULL:
        return _transport
    if name == "feed" and _reader is not None:
        return _feed
    raise ValueError(f"{name} is no target, or not prepared")


def address(str name not None):
    return <uint64_t> <size_t> <void*> _target(name)


def run(str name not None, bytes data not None):
    return _target(name)(<const uint8_t*> <const char*> data, len(data))
