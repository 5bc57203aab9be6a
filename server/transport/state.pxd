"""What the data plane holds in memory: calls, connections, loops, and the plane they share. C structures only.

Ownership. A `Connection` belongs to one loop and is touched by its thread alone. So does a `Call`, except while it is AWAY: then
it belongs to the worker or the Python thread that took it, which gives it back through `Loop.returned` and must
not look at its connection, for the client may have gone meanwhile. The plane outlives its loops' threads. What two
threads share is guarded by the mutex named beside it.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from server.transport.linux cimport pthread_cond_t, pthread_mutex_t, pthread_t
from server.transport.nghttp2 cimport nghttp2_option, nghttp2_session, nghttp2_session_callbacks
from server.transport.openssl cimport SSL, SSL_CTX
from server.transport.pool cimport Pool
from server.transport.seat cimport Seat

cdef enum Where:
    CALL_READING = 0  # its request is arriving
    CALL_READY = 1  # whole; waits in the loop's queue
    CALL_AWAY = 2  # with a worker, or with Python
    CALL_ANSWERING = 3  # its answer is given to the session

cdef enum Kind:
    # How a method is served.
    KIND_UNKNOWN = 0  # no such method: UNIMPLEMENTED
    KIND_DECIDE = 1  # decided here, unless the desk says otherwise
    KIND_HANDED = 2  # handed to Python
    KIND_HEALTH = 3  # grpc.health.v1.Health/Check, answered from the plane's table

cdef enum:
    READ_BYTES = 65_536  # of Loop.buffer: what one read takes at most; a TLS record is at most 16 KiB
    WRITE_BYTES = 262_144  # of Loop.out: what one write gives, and room for the frame that passes half of it

cdef enum:
    # Refusals whose words are prepared: why a call is answered without being worked on. In the order of plane.pyx.
    REFUSED_NOT = 0
    REFUSED_METHOD = 1  # no such method
    REFUSED_METADATA = 2  # its header fields are too large together
    REFUSED_MESSAGE = 3  # its message is too large
    REFUSED_FRAMING = 4  # not one whole length-prefixed message
    REFUSED_COMPRESSED = 5  # compressed, which is not taken
    REFUSED_TIMEOUT = 6  # grpc-timeout cannot be read
    REFUSED_EXPIRED = 7  # its deadline passed before work began
    REFUSED_OVERLOAD = 8  # it waited too long, or too much waits already
    REFUSED_MEMORY = 9  # no memory for it
    REFUSED_SERVICE = 10  # health: nobody knows that service
    REFUSED_FAULT = 11  # whoever took it failed to answer
    REFUSED_FLAG = 12  # its Compressed-Flag is set, and its grpc-encoding names no compression
    REFUSALS = 13

cdef enum:
    METHODS_MOST = 16
    HEALTH_MOST = 8
    HEALTH_NAME = 64

cdef struct Refusal:
    char[4] status  # grpc-status in digits
    uint8_t status_size  # digits
    const uint8_t* message  # percent-encoded; owned by the plane
    size_t message_size  # bytes
    const uint8_t* details  # base64 of a google.rpc.Status; owned by the plane
    size_t details_size  # bytes

cdef struct Method:
    const uint8_t* path  # "/package.Service/Method"; owned by the plane
    size_t path_size  # bytes
    uint8_t kind  # a Kind

cdef struct Health:
    char[HEALTH_NAME] service  # "" is the whole server
    size_t service_size  # bytes
    uint8_t status  # grpc.health.v1 ServingStatus; one byte, so that a reader needs no lock

cdef struct Limits:
    # core.limits says why each is what it is.
    uint32_t metadata_bytes  # of one call's fields, counted as RFC 9113 6.5.2 does
    uint32_t message_bytes  # of one request
    uint32_t streams  # open at once on a connection
    uint32_t connections  # of one loop
    uint32_t handed  # calls that wait for Python, over all loops
    uint32_t calls  # open at once in one loop
    uint64_t held_bytes  # of requests and answers of one loop's calls, and of what sockets do not take
    uint64_t requested_bytes  # of the requests of one connection's calls
    uint64_t unsent_bytes  # of answers that one connection does not take
    int64_t poll_ns  # after its last event a loop asks for more so long before it sleeps; 0: it sleeps at once
    int32_t realtime  # 1: loops run under SCHED_RR, before every thread that is not real-time
    int64_t queue_ns  # a decision that would wait longer is refused once the queue stands
    int64_t away_ns  # a call without a deadline that waited longer for a worker or for Python is refused
    int64_t stands_ns  # a queue that was not empty for longer stands
    int64_t handshake_ns  # from accept to the client's settings
    int64_t idle_ns  # without a call; 0: for ever
    int64_t age_ns  # of a connection, then it is asked to go; 0: for ever
    int64_t stall_ns  # answers wait and the peer takes nothing
    int64_t call_ns  # from a call's header fields until its request is whole, or its answer is taken
    int64_t silence_ns  # nothing heard: a ping is sent, and must be answered within stall_ns
    int32_t control_credit  # control frames a connection may send at once
    int32_t control_refill  # and a second
    int32_t reset_credit  # streams a connection may reset at once
    int32_t reset_refill  # and a second
    int32_t continuations  # CONTINUATION frames of one header block

cdef struct Counters:
    # Written by the loop's thread alone; read by others without a lock, so a reader may see them a moment apart.
    uint64_t connections  # accepted
    uint64_t connections_refused  # beyond the limit
    uint64_t accepts_failed  # times that the kernel had no descriptor or memory for one more
    uint64_t connections_abused  # closed for spending a budget, or for keeping memory without moving
    uint64_t handshakes_failed  # TLS, preface or settings that did not come in time
    uint64_t calls  # whole requests
    uint64_t decided  # answered by this loop's own desk
    uint64_t slow  # queued for a worker
    uint64_t handed  # queued for Python, but by workers
    uint64_t refused[REFUSALS]  # by refusal
    uint64_t cancelled  # calls whose client went before the answer
    uint64_t overdue  # calls reset because the client sent or took them too slowly
    uint64_t bytes_in
    uint64_t bytes_out
    uint64_t open_connections  # now
    uint64_t open_calls  # now
    uint64_t held_bytes  # of requests, answers and what sockets have not taken, now

cdef struct Call:
    Connection* connection  # NULL once the stream or its connection is gone
    Loop* loop  # whose it is
    Call* next  # in the queue or list that holds it
    Call* earlier  # of its connection
    Call* later  # of its connection
    int32_t stream  # its HTTP/2 stream
    uint8_t where  # a Where
    uint8_t method  # index into Plane.methods
    uint8_t known  # its path named a method
    uint8_t refused  # a REFUSED_
    uint8_t posted  # :method was POST
    uint8_t content  # content-type was gRPC's
    uint8_t encoded  # grpc-encoding named something other than identity
    uint8_t ended  # the client has sent all of it
    uint8_t overdue  # reset by us for taking too long
    uint8_t gone  # its client has gone; one byte, so that whoever takes it needs no lock to see that
    uint32_t metadata_bytes
    int64_t begun_ns  # its header fields were read; from when its answer is given, that moment
    int64_t arrived_ns  # the last of it was read
    int64_t deadline_ns  # 0: none
    uint8_t* body  # owned: the request with gRPC's five bytes before it
    size_t body_size  # bytes that have arrived
    size_t body_capacity
    uint8_t* answer  # owned: the response with gRPC's five bytes before it
    size_t answer_size  # bytes; 0 until there is one
    size_t answer_capacity
    size_t answer_sent  # bytes given to the session
    # An error worded by Python; NULL when the answer is a message or a prepared refusal.
    char[4] status  # grpc-status in digits
    uint8_t status_size  # 0: OK
    uint8_t* message  # owned: percent-encoded, then details
    size_t message_size
    size_t details_size  # after the message

cdef struct Connection:
    Loop* loop
    int fd  # owned: the socket
    SSL* ssl  # owned; NULL without TLS
    nghttp2_session* session  # owned; NULL until the first byte
    Connection* previous  # of the loop's
    Connection* next
    Connection* next_dirty  # in the list of those with something to send
    uint8_t dirty  # it is in that list
    uint8_t secure  # the TLS handshake is done
    uint8_t greeted  # the client's settings came
    uint8_t lingering  # all is said and our side is shut: what still comes is read and dropped
    uint8_t doomed  # to be closed once what is queued has been sent
    uint8_t dead  # closed; freed at the end of the round
    uint8_t leaving  # 1 a first GOAWAY is sent, 2 the last one
    uint8_t pinged  # a ping of ours is under way
    uint8_t abused  # spent a budget: told to calm down, and counted
    int32_t continuations  # of the header block at hand
    uint32_t events  # what epoll watches for
    uint32_t calls  # open
    Call* first_call
    uint8_t* rest  # owned: bytes the socket did not take; NULL when it took all
    size_t rest_start  # first byte of rest that is not sent
    size_t rest_end  # one past its last
    uint64_t unsent  # bytes of answers given to the session and not sent
    uint64_t requested  # bytes of its calls' requests
    int64_t strange  # bytes read that no frame of a known kind accounts for; less than 0 within a frame
    int32_t control_credit  # control frames, and key updates of TLS, that it may still send
    int32_t reset_credit  # streams it may still reset
    int64_t opened_ns  # accepted
    int64_t heard_ns  # last byte read
    int64_t moved_ns  # an answer, or what the socket had not taken, last moved on; or nothing waited
    int64_t idle_ns  # since when no call is open
    int64_t left_ns  # when it was asked to go

cdef struct Loop:
    Plane* plane
    int number  # from 0
    int ep  # epoll
    int listener  # its own socket; -1 when drained
    int wake  # eventfd: something was returned, or ask changed
    pthread_t thread  # valid while running
    uint8_t running  # the thread was started and not joined; the plane's owner alone uses it
    pthread_mutex_t mutex  # guards returned, asked
    Call* returned  # answered by others, newest first
    uint8_t asked  # 0 serve, 1 drain, 2 end now
    Seat seat  # what it decides with
    Call* ready_first  # whole requests, oldest first
    Call* ready_last
    size_t ready_count  # calls in that queue
    Call* free_calls
    size_t free_count
    Connection* connections
    Connection* ticking  # the next that this pass over all of them looks at; NULL when the pass is done
    Connection* dirty
    Connection* dead
    Pool pool  # what its sessions take their memory from
    uint8_t* buffer  # owned: what one read takes
    uint8_t* out  # owned: what one write gives
    int64_t now_ns  # of this round
    int64_t emptied_ns  # when a round last began with no call waiting
    int64_t watched_ns  # while the queue stands: when the look at whether it still does began
    int64_t idled_ns  # that the thread waited for something to do since then
    uint8_t stands  # the queue stands: more comes than is worked off
    int64_t pace_ns  # what a waiting call took lately, all that the rounds did meanwhile counted in; 0: not known yet
    int64_t credit_ns  # of reading what can only be refused; less than 0: none until answers have earned it
    uint32_t turn  # which of the sockets that epoll names comes first
    int64_t ticked_ns  # the last pass began
    uint32_t passes  # over all connections
    uint32_t shakes  # handshakes gone on with in this round
    uint8_t deaf  # the listener is not watched until the next pass: the kernel had no descriptor left
    uint8_t state  # the `asked` that it acts on
    Counters counters

cdef struct Queue:
    # Calls on their way to another thread, oldest first.
    pthread_mutex_t mutex  # guards everything here
    pthread_cond_t filled  # signalled when a call is put, broadcast when it ends
    Call* first
    Call* last
    size_t count
    uint8_t ended  # nothing is taken any more

cdef struct Plane:
    Limits limits
    Method[METHODS_MOST] methods  # fixed once made
    uint32_t method_count
    Refusal[REFUSALS] refusals  # fixed once made
    Health[HEALTH_MOST] health  # added to by Python, read by loops below health_count
    uint32_t health_count
    nghttp2_session_callbacks* callbacks  # owned
    nghttp2_option* options  # owned
    pthread_mutex_t tls_mutex  # guards tls
    SSL_CTX* tls  # borrowed from the plane's Context; NULL: plaintext
    uint8_t secure  # TLS is spoken
    Queue handed  # for Python
    Queue slow  # for the workers
    uint32_t slow_most  # calls that may wait there
