"""What one decision works in: a request in C, a frame, bitmaps, contenders, winners, and the answer.

A workspace belongs to one plan (its arrays have the plan's sizes) and is used by one thread at a time; nothing in it
survives a decision but its memory. Arrays that would have to be cleared for each decision carry an epoch instead: an
entry counts only when its stamp is the decision's.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from core.hub.contacts cimport ContactList
from core.hub.environment cimport Environment
from core.hub.snapshot cimport Snapshot
from core.hub.events cimport EventList
from core.hub.record cimport RecordView
from core.kernel.arena cimport Arena
from core.kernel.plan cimport Plan, Tables
from core.kernel.values cimport Value

cdef struct Identity:
    uint16_t namespace  # catalog number
    uint8_t single  # a person has one of the namespace
    const char* text  # normalised bytes, borrowed from the request
    uint32_t length  # bytes

cdef struct Fact:
    uint32_t slot  # frame slot
    Value value  # text borrowed from the request

cdef struct Wanted:
    uint32_t placement  # row among the plan's placements
    uint32_t slots  # offers wanted at most

cdef struct Request:
    const Identity* identities  # as `core.hub.identifiers.ranked`
    uint32_t identity_count
    const Fact* facts
    uint32_t fact_count
    const Wanted* wanted  # in the order of the request, which is the order of precedence
    uint32_t wanted_count
    EventList events  # events of the moment, sorted by time
    uint16_t channel  # catalog number
    Value channel_text  # name of the channel
    int64_t as_of_us  # the decision's clock
    int64_t deadline_ns  # CLOCK_MONOTONIC; 0: none
    uint64_t seed  # makes the decision's and its instances' ids
    uint8_t explain  # 1 none, 2 summary, 3 full
    uint8_t deferred  # instances count for nothing until reported

cdef struct Span:
    uint32_t start  # in the workspace's output
    uint32_t length  # bytes

cdef struct Contender:
    double priority  # what it competes with; finite
    double propensity  # as scored, or the model's fallback value
    double context_percent  # sum of the context weights that hold
    double value  # major units, or a plain number
    double lever_percent  # sum of the levers that hold
    uint32_t offer  # position in name order
    uint32_t model_status  # 1 when it competes with its model's fallback value

cdef struct Winner:
    uint32_t contender  # index among contenders
    uint32_t offer  # position in name order
    uint64_t instance  # id
    int64_t price  # minor units
    uint8_t clamp  # 1 none, 2 floor, 3 ceiling
    uint8_t priced  # whether the offer has a price
    uint32_t content_start  # first of its spans, one for each field of its treatment
    uint32_t treatment  # index of its treatment
    Span token  # its token's text

cdef struct Verdict:
    uint8_t reason  # core.reasons.Reason; 0: returned
    uint8_t detail  # core.reasons.Detail
    uint8_t source  # what `number` counts: 0 nothing, 1 rule, 2 cap, 3 suppression, 4 consent slot, 5 case slot
    int32_t number  # rule, cap, suppression or slot
    int32_t slot  # input found missing, or -1
    int32_t contender  # index among contenders, or -1

cdef struct Filled:
    uint8_t status  # core.reasons.SlotStatus
    uint32_t first  # first of its winners
    uint32_t count  # winners
    uint32_t verdict_start  # first of its verdicts, one an offer, when explained

cdef struct HouseholdView:
    # Of the customer's household; all 0 when he is in none or the plan asks for nothing of it.
    uint64_t id  # 0: none
    uint16_t role  # catalog number; 0 without
    uint8_t has_record  # whether `record` is filled
    uint32_t size  # members, when asked for
    RecordView record  # shared attributes, when asked for
    ContactList contacts  # of all members, when a cap counts them

cdef struct CustomerView:
    # Borrowed from the snapshot: valid until it is reset at the end of the decision.
    uint64_t id  # 0: nobody known
    uint8_t has_record  # whether `record` is filled
    uint8_t damaged  # something stored fails its checks; never answered from
    RecordView record  # profile, consents, cases
    ContactList contacts  # count 0 without
    EventList events  # count 0 without
    HouseholdView household

cdef struct Undefined:
    # An offer out with SCORE_UNDEFINED, and why; kept only when reasons are asked for.
    uint32_t offer
    uint8_t detail  # core.reasons.Detail
    int32_t slot  # input found missing, or -1

cdef struct Work:
    const Tables* plan
    const Request* request
    CustomerView customer
    Value* frame
    Arena arena  # texts and tables that live as long as the decision
    uint32_t epoch  # stamp of this decision
    uint64_t* alive  # offers still in, over all placements asked for
    uint64_t* wanted_mask  # offers with a treatment in any placement asked for
    uint64_t* model_failed  # offers out with MODEL_FAILED
    uint64_t* undefined  # offers out with SCORE_UNDEFINED
    Undefined* causes  # of the offers in undefined
    uint32_t cause_count
    uint64_t* returned  # offers returned in an earlier placement
    uint64_t* limited  # offers skipped because their group was full, in the placement at hand
    uint32_t* condition_stamp  # by condition: epoch << 1 | holds
    uint32_t* number_stamp  # by expression: epoch when number_value is of this decision
    double* number_value  # by expression: NaN when missing, failed or not finite
    uint64_t* cap_counts  # by cap: epoch << 32 | contacts counted
    uint32_t* suppression_stamp  # by suppression: epoch
    uint32_t* suppression_count  # by suppression: contacts seen
    uint8_t* suppression_active  # by suppression, valid with the stamp
    int64_t* ring  # the last moments of each suppression
    uint32_t* triggered  # suppressions active now
    uint32_t triggered_count
    uint32_t* survivors  # offers left after filter and contact policy; once scored, the offers of the contenders
    uint32_t survivor_count
    uint32_t contender_count
    double* priorities  # by contender
    double* propensities  # by contender
    uint8_t* model_statuses  # by contender: 1 when it competes with its model's fallback value
    Contender* contenders  # filled in for winners, and for all when reasons are asked for
    uint32_t* rows  # scratch of scoring, by survivor
    double* totals  # scratch of scoring, by survivor
    uint32_t* order  # scratch of scoring and arbitration, by contender
    int32_t* card_heads  # by score table: its first contender, or -1
    int32_t* model_heads  # by model table: likewise
    int32_t* chain  # by contender: the next of its table, or -1
    uint32_t* group_stamp  # by group: epoch-wide count of returned offers
    uint32_t* group_page  # by group: returned in this request
    uint32_t* group_here  # by group: returned in the placement at hand
    double* features  # scratch of scoring, the widest table
    Winner* winners
    uint32_t winner_count
    uint32_t winner_capacity
    Span* spans  # content of winners
    uint32_t span_count
    uint32_t span_capacity
    char* output  # rendered bytes
    size_t output_bytes
    size_t output_capacity
    Filled* filled  # by placement asked for
    uint32_t filled_count
    Verdict* verdicts  # placements asked for x offers, when explained
    size_t verdict_capacity
    int32_t* contender_of  # by offer: index among contenders, when explained
    uint8_t late  # the deadline passed before the decision ended
    uint8_t any_model_fallback  # a contender competes with its model's fallback value
    int64_t took_ns  # from the call of decide to its end
    uint8_t out_of_memory  # an allocation failed; the decision is an error

cdef class Workspace:
    """A workspace and the snapshot it reads through. Made by a plan's pool, one for each thread that decides at once."""

    cdef Work work
    cdef Snapshot snapshot  # this workspace's own reader; live only inside a decision
    cdef Environment _environment  # keeps the store's environment open under the snapshot

cdef Workspace take(Plan plan)
cdef void give_back(Plan plan, Workspace space) noexcept
