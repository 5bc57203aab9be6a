"""The generator's structures. Everything here is owned by one `Generator`, made before its first run and freed with it.

A *slot* is one call on its way. A *connection* holds one HTTP/2 session and the list of its slots. The *loop* holds
both, the schedule and the counts.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from loadtest.counting cimport BUCKETS, Histogram
from loadtest.nghttp2 cimport nghttp2_mem, nghttp2_nv, nghttp2_option, nghttp2_session, nghttp2_session_callbacks
from loadtest.pool cimport Pool
from loadtest.schedule cimport Schedule

cdef enum:
    STATUSES = 17  # grpc-status 0 to 16
    RESETS = 15  # HTTP/2 error codes 0 to 13, and all others
    INTERVALS = 600  # at most, of the timeline
    TOKENS = 4096  # kept for reports
    TOKEN_BYTES = 1024
    OWN_BYTES = 1280  # a report around a token: prefix, tags, lengths, outcome
    MESSAGE_BYTES = 256  # of a grpc-message kept
    SAMPLES = 4  # answers kept of each method

cdef struct Method:
    nghttp2_nv* fields  # owned: the request's header fields
    uint8_t* path  # owned
    uint8_t* bodies  # owned: messages with gRPC's prefix, one after another
    uint64_t* starts  # owned: message_count + 1 offsets into bodies
    size_t field_count
    uint32_t message_count
    uint64_t up_to  # of 2^32: this method's share ends here
    int kind  # taken.Kind
    uint8_t outcome[64]  # RECORD: what is reported
    uint32_t outcome_bytes
    Histogram latency  # of good answers, from the schedule
    Histogram service  # the same, from the sending
    # Of this run.
    uint64_t sent
    uint64_t answered
    uint64_t failed

    # The first answers of the run as received; owned.
    uint8_t* samples[SAMPLES]
    uint32_t sample_bytes[SAMPLES]
    uint32_t sample_count

cdef struct Slot:
    # The list it is in: its connection's open ones, or the loop's free ones (next only).
    Slot* next
    Slot* previous

    int64_t due  # ns on the monotonic clock
    int64_t sent  # ns
    uint32_t method  # index
    int32_t interval  # of the timeline, by the schedule

    const uint8_t* body  # message with prefix; in the method's bodies, or this slot's own
    uint64_t body_bytes
    uint64_t body_sent  # so far
    uint8_t* own  # room for OWN_BYTES in the loop's block; NULL when no method reports

    # The answer so far.
    int http_status
    int grpc_status  # -1: not seen
    uint8_t prefix[5]
    uint32_t prefix_bytes
    uint64_t announced  # by the prefix
    uint64_t received  # of the message
    bint ended  # the server ended the stream properly
    bint keep  # the message is kept for a look
    uint8_t* kept  # owned; grows, never shrinks
    uint64_t kept_capacity

cdef enum:
    CLOSED = 0
    CONNECTING = 1  # TCP
    GREETING = 2  # waiting for the server's SETTINGS
    OPEN = 3
    DRAINING = 4  # GOAWAY came, or the stream numbers ran out: open calls end, new ones go elsewhere

cdef struct Connection:
    Loop* loop  # borrowed
    nghttp2_session* session  # owned; NULL while CLOSED or CONNECTING
    int fd  # -1 while CLOSED
    int state  # CLOSED to DRAINING
    int64_t since  # ns, when the state began
    uint32_t limit  # calls open at a time: ours or the server's, whichever is lower
    uint32_t open_calls  # length of the list
    Slot* calls  # doubly linked
    uint8_t* out  # owned: bytes the socket has not taken
    size_t out_start  # what the socket has taken of them
    size_t out_bytes
    bint wants_out  # epoll watches for room
    bint dirty  # has frames to write

    int32_t said_stream  # whose grpc-message is in `said`
    uint32_t said_bytes
    uint8_t said[MESSAGE_BYTES]  # the latest grpc-message

cdef struct Loop:
    # The plan.
    Method* methods  # owned
    uint32_t method_count
    Connection* connections  # owned: twice as many as wanted, so that a draining one is replaced at once
    uint32_t connection_count
    uint32_t wanted
    uint32_t streams  # open calls a connection at most
    Slot* slots  # owned block
    Slot* free_slots
    uint8_t* own_block  # owned: the slots' own messages
    uint32_t slot_count
    uint8_t address[128]  # sockaddr
    uint32_t address_bytes
    int family
    uint64_t seed
    uint32_t look_every  # each so manieth answer of a method is looked into; 0: none but the samples
    int64_t spin  # ns before a due moment in which the loop does not sleep
    int stop_fd  # readable: stop. Owned by the Generator

    # The machinery.
    int epoll  # owned
    nghttp2_session_callbacks* callbacks  # owned
    nghttp2_option* option  # owned
    nghttp2_mem memory
    Pool pool
    uint8_t* buffer  # owned: what is read from sockets
    int64_t now  # ns, when the socket was last read or the loop last woke
    uint32_t cursor  # connection to try next
    bint room  # a stream may be free on some open connection; false once a search found none
    int64_t full_until  # ns: the last moment when no stream was free
    bint missing  # not every wanted connection is open
    int64_t connect_at  # ns: not before
    int64_t backoff  # ns
    int connect_error  # errno of the last attempt that failed

    # One run.
    Schedule schedule
    int64_t start  # ns
    int64_t drain  # ns after the schedule's end
    uint32_t open_limit  # closed loop
    int64_t interval  # ns
    uint32_t interval_count
    bint stopped

    # Counts of the run; progress reads them while it goes on.
    uint64_t scheduled
    uint64_t sent
    uint64_t answered
    uint64_t failed
    uint64_t open_calls
    uint64_t unsent

    # Failed calls, each in one of these.
    uint64_t statuses[STATUSES]
    uint64_t resets[RESETS]
    uint64_t never_processed  # REFUSED_STREAM, or beyond a GOAWAY's last stream
    uint64_t http_errors
    uint64_t broken  # ended well and holds no whole message, or no status
    uint64_t lost  # with their connection
    uint64_t unfinished  # open when the waiting ended

    # The first grpc-message of each status.
    uint8_t said[STATUSES][MESSAGE_BYTES]
    uint32_t said_bytes[STATUSES]

    # Connections and bytes, over the run.
    uint64_t opened
    uint64_t refused_connections
    uint64_t lost_connections
    uint64_t goaways
    uint64_t bytes_in
    uint64_t bytes_out
    int64_t longest_pass  # ns, of the loop without its waiting

    Histogram failed_latency
    Histogram lag
    Histogram waited

    # The timeline, by interval; owned.
    uint32_t* by_interval  # INTERVALS x BUCKETS
    int64_t* interval_scheduled
    int64_t* interval_completed
    int64_t* interval_failed
    int64_t* interval_lag
    int64_t* interval_largest

    # What answers hold.
    bint takes_tokens
    uint8_t* tokens  # owned: TOKENS x TOKEN_BYTES
    uint32_t* token_bytes  # owned
    uint64_t token_in  # ever put in
    uint64_t token_out  # ever taken out
    uint64_t token_before  # put in by earlier runs
    uint64_t without_token
    uint64_t looked
    uint64_t placements
    uint64_t filled
    uint64_t offers
    uint64_t outcomes[6]  # by OutcomeStatus; 5: another
