"""The plan as the kernel reads it: one immutable C structure, bound to a store's catalog.

All pointers are into memory that the owning `Plan` object holds until it is collected; a decision keeps a reference
to its `Plan`, so nothing here moves or goes away under it. Offers are positions in name order. Bitmaps have ``words``
words of 64 offers, lowest bit first.
"""

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from core.inference.runner cimport Handle
from core.kernel.machine cimport Code
from core.kernel.names cimport Names, NamesHolder

cdef enum:
    # Slots every frame begins with, in the order of core.programs.plan.FIXED_SLOTS.
    SLOT_NOW = 0
    SLOT_CHANNEL = 1
    SLOT_KNOWN = 2
    SLOT_PROPENSITY = 3
    SLOT_CONTEXT = 4
    SLOT_VALUE = 5
    SLOT_LEVERS = 6
    SLOTS_FIXED = 7

cdef enum Storage:
    # How a value lies in a record or an event; one for each core.schema.ValueType.
    STORED_BOOL = 0
    STORED_INT = 1
    STORED_DOUBLE = 2
    STORED_MONEY = 3
    STORED_TIMESTAMP = 4
    STORED_ENUM = 5
    STORED_STRING = 6
    STORED_SET = 7

cdef enum AggregateKind:
    # One for each core.schema.AggregateFunction.
    AGGREGATE_COUNT = 0
    AGGREGATE_SUM = 1
    AGGREGATE_MIN = 2
    AGGREGATE_MAX = 3
    AGGREGATE_MEAN = 4
    AGGREGATE_LAST = 5
    AGGREGATE_FIRST = 6
    AGGREGATE_DISTINCT = 7

cdef struct Label:
    const char* text  # UTF-8 of an enum's label
    uint32_t length  # bytes

cdef struct BoundAttribute:
    uint32_t slot  # frame slot it fills
    uint32_t offset  # of its cell in a record's fixed area
    uint8_t storage  # a Storage
    double unit  # minor units in one major unit, for money
    const Label* labels  # for enums, by catalog code; entry 0 unused
    uint32_t label_count  # entries of labels
    const uint32_t* text_rows  # by catalog code: 1 + the label's row in the slot's TextIndex; NULL without one

cdef enum FilterOp:
    FILTER_IN = 0  # one of the literals; == is this with one
    FILTER_OTHER = 1  # not the literal
    FILTER_BELOW = 2
    FILTER_UPTO = 3
    FILTER_ABOVE = 4
    FILTER_FROM = 5

cdef struct FilterTerm:
    # A condition on one field of an event: core.schema.FilterTerm.
    uint32_t cell  # field's position in the event
    uint8_t storage  # of the field
    uint8_t op  # a FilterOp
    uint8_t is_real  # compared as doubles, with reals; otherwise texts have texts, all else numbers
    double unit  # minor units in one major unit, for money
    uint32_t count  # literals
    const int64_t* numbers
    const double* reals
    const Label* texts

cdef struct BoundAggregate:
    uint32_t slot  # frame slot it fills
    int32_t cell  # field's position in the event, or -1: the event's own time, or nothing for COUNT
    uint8_t function  # an AggregateKind
    uint8_t storage  # of the field
    double unit  # minor units in one major unit, for money
    int64_t window_us  # 0: everything kept
    uint32_t alike  # the first aggregate of its event type and filter with its window

cdef struct AggregateColumn:
    # Aggregates over one field of one event type under one filter, which are neighbours.
    const BoundAggregate* bounds  # the longest window first
    uint32_t first  # number of the first of them
    uint32_t count  # of them
    uint16_t event  # the event type, by position among those that aggregates name
    int32_t cell  # as in each of them
    uint8_t storage  # as in each of them
    uint8_t distinct  # one of them is DISTINCT
    uint8_t folded  # one of them is not
    uint32_t filter  # number of the filter, alike for columns of one, which are neighbours; 0: none
    const FilterTerm* terms  # all of which an event has to meet
    uint32_t term_count  # how many
    int64_t reach_us  # the longest window of all columns of its event type and filter; INT64_MAX: everything kept

cdef struct HouseholdInputs:
    # What a plan reads of the customer's household.
    uint8_t used  # anything: his membership is looked up
    uint8_t contacts  # a cap counts the contacts of all members
    uint8_t cases  # a case may be the household's: its record is read
    const BoundAttribute* attributes  # of the household's record
    uint32_t attribute_count  # of them; 0: the record is read for cases only
    int32_t size_slot  # frame slot of household.size, or -1: the members are not read
    int32_t role_slot  # frame slot of household.role, or -1
    BoundAttribute role  # its labels, when there is a role_slot

cdef struct BoundConsent:
    uint32_t slot  # frame slot it fills
    uint16_t purpose  # catalog number

cdef struct BoundCase:
    uint64_t product  # `product_hash` of the product it must be about, if about any; 0: whatever it is about
    uint32_t slot  # frame slot it fills
    uint16_t kind  # catalog number

cdef struct BoundBand:
    uint32_t slot  # frame slot it fills
    int32_t expression  # number of the expression it is of
    uint8_t is_double  # its value is in f, else in i
    uint32_t edge_count  # entries of edges
    const double* edges  # ascending: a value is in band 1 + how many of them it exceeds; NULL: none are known yet

cdef struct ThresholdList:
    uint32_t slot  # input compared
    uint8_t is_double  # which keys are used
    uint8_t flip  # the value is complemented (int) or negated (double) before it is compared
    uint32_t count  # entries
    uint32_t step  # entries between checkpoints
    const int64_t* int_keys  # ascending; an entry fails when its key is below the value
    const double* double_keys  # likewise
    const uint32_t* offers  # offer of each entry
    const uint64_t* checkpoints  # bitmap j passes all but the first j * step entries

cdef struct TextIndex:
    uint32_t slot  # input compared
    uint8_t is_bool  # two bitmaps, false and true; no texts
    uint32_t count  # texts
    const Label* texts  # in byte order
    const uint64_t* passes  # bitmap of each text, then of any other

cdef struct PresenceIndex:
    uint32_t slot  # input asked for
    const uint64_t* passes_missing  # offers that do not need it
    const uint64_t* passes_present  # offers that do not need it absent; NULL: all

cdef struct CapRule:
    uint16_t outcome  # outcome number counted
    uint16_t channel  # channel number, 0 any: contacts counted and decisions bound
    uint32_t at_most  # contacts allowed in the window
    int64_t per_us  # window
    int32_t offer  # scope: an offer, or -1
    int32_t group  # scope: a group, or -1; both -1: every offer
    uint8_t household  # counts the contacts of all members of the customer's household

cdef struct SuppressionRule:
    uint16_t outcome  # outcome number counted
    uint32_t times  # contacts that complete the count
    int64_t within_us  # they lie this close
    int64_t pause_us  # and pause from the last for this long
    int32_t offer  # scope: an offer, or -1
    int32_t group  # scope: a group, or -1
    uint32_t ring  # first entry of its last `times` moments in the workspace
    uint32_t related_start  # first of its related offers in Tables.related
    uint32_t related_count  # how many (groups already spelled out)

cdef inline double weight_factor(double percent) noexcept nogil:
    """What a sum of weights in percent multiplies by: 1 + percent / 100, but never below 0.

    Past -100 % the product would turn negative and a larger value rank lower.
    """
    cdef double factor = 1.0 + percent / 100.0
    return factor if factor > 0.0 else 0.0


cdef struct OfferTerms:
    # Everything scoring reads of an offer, in one cache line of 64 bytes.
    double value  # when value_expression is -1; 1 when switched off
    double context_percent  # when no context weight has a condition, else 0; 0 when switched off
    double lever_percent  # when no lever has a condition, else 0; 0 when switched off
    double context_factor  # weight_factor(context_percent)
    double lever_factor  # weight_factor(lever_percent)
    double propensity  # when kind is 0; 1 when switched off
    int32_t value_expression  # expression number, or -1
    uint32_t table  # score table (kind 1) or model table (kind 2)
    uint32_t row  # in that table
    uint8_t kind  # 0 constant, 1 scorecard, 2 model; 0 when propensity is switched off
    uint8_t weighted  # a weight has a condition

cdef inline double plain_priority(const OfferTerms* terms, double propensity) noexcept nogil:
    """The priority of an offer whose factors were all known when the plan was made."""
    return propensity * terms.context_factor * terms.value * terms.lever_factor


cdef enum:
    SCREEN_FEATURES = 512  # of a scorecard that has a screen, at most
    # Offers left by index and contact policy, at least and for each word of a bitmap; with fewer, scoring all costs less.
    PRUNE_FROM = 1024
    PRUNE_FROM_OF_A_WORD = 4

# Factors whose magnitude lies between its inverse and it have products that neither overflow nor lose their precision.
cdef double ORDINARY_MOST
# Of an intercept, and of the sum of a scorecard's largest weights times its features: beyond it bounds are worth nothing.
cdef double SPREAD_MOST

cdef struct Screen:
    # What bounds the priorities of 64 offers, a word of a bitmap, at once; core.kernel.pruning says how.
    const int8_t* weights  # words x features x 64: in steps of their feature; NULL: this plan's offers are never pruned
    const float* intercepts  # words x 64
    const float* logs  # words x 64: logarithm of all factors but the propensity; -INFINITY: not above 0, INFINITY: unknown
    const double* steps  # by feature: its largest weight, by magnitude, is 127 steps
    double intercept_most  # the largest intercept, by magnitude

cdef struct ScoreTable:
    uint32_t feature_count  # features in use
    uint32_t width  # doubles a row, a multiple of 8
    const int32_t* features  # expression numbers
    double missing  # what a missing feature reads as
    const double* weights  # rows x width
    const double* intercepts  # rows

cdef struct ModelColumn:
    int32_t input  # of the model
    int32_t position  # column inside the input
    uint8_t is_text  # the column takes text, not numbers
    uint8_t per_row  # one expression a row instead of one for all
    const int32_t* expressions  # expression number, or one a row
    uint8_t has_missing  # 0: a missing value leaves the row unscored
    double missing  # fills in for a missing number
    Label missing_text  # fills in for a missing text

cdef struct ModelTable:
    Handle* model  # the deployed version this plan was made with; held while the plan lives
    uint8_t per_customer  # one row serves all its offers
    uint32_t rows  # offers it scores
    uint32_t column_count  # entries of columns
    const ModelColumn* columns  # in the order of model.yaml
    double fallback  # propensity when the model is late or fails; NaN: the offers leave with MODEL_FAILED

cdef struct Adjustment:
    int32_t condition  # condition number, or -1: always
    int64_t percent  # of the list price, in 1/10000 %
    int64_t amount  # minor units

cdef struct PriceRule:
    int64_t list  # minor units
    int64_t floor  # minor units; INT64_MIN: none
    int64_t ceiling  # minor units; INT64_MAX: none
    int64_t increment  # minor units, at least 1
    int64_t ending  # minor units, 0 <= ending < increment
    uint8_t rounding  # 0 nearest, 1 up, 2 down
    uint8_t personal  # a condition reads the customer
    uint32_t adjustment_start  # first of its adjustments
    uint32_t adjustment_count  # how many

cdef struct Piece:
    const char* text  # literal bytes, when expression is -1
    uint32_t length  # bytes
    int32_t expression  # expression number, or -1

cdef struct ContentField:
    uint32_t name  # index into the plan's field names
    uint32_t piece_start  # first of its pieces
    uint32_t piece_count  # how many

cdef struct TreatmentEntry:
    uint32_t field_start  # first of its fields
    uint32_t field_count  # how many

cdef struct PlacementEntry:
    const uint64_t* mask  # offers with a treatment here
    const int32_t* treatments  # by offer, -1 none
    uint32_t slots  # when the request does not say
    uint32_t at_most_per_group  # 0: no limit
    uint32_t channel  # index among the program's channels
    uint8_t content_type  # 0 text, 1 html, 2 json, 3 url
    uint8_t empty  # no offer has a treatment here

cdef struct RuleEntry:
    uint8_t layer  # core.programs.program.Layer, which is the Reason too
    uint32_t rule  # rule number
    int32_t expression  # expression number

cdef struct OfferDates:
    int64_t from_us  # first microsecond it runs; INT64_MIN: always ran
    int64_t until_us  # first microsecond it no longer runs; INT64_MAX: no end
    uint8_t stopped  # never returned

cdef struct Tables:
    uint32_t offers  # number of offers
    uint32_t words  # words of a bitmap
    uint32_t groups  # number of groups
    uint32_t slots  # frame slots
    uint32_t conditions  # number of conditions
    uint32_t caps  # number of caps
    uint32_t suppressions  # number of suppressions
    uint32_t ring_entries  # moments all suppressions keep together
    uint32_t expressions  # number of expressions
    uint32_t version  # number of the program's version, for tokens
    int64_t expiry_us  # how long an instance can be reported on
    const uint8_t* signing_key  # 16 bytes
    const uint32_t* offer_number  # catalog number of each offer
    const Code* code  # machine code of every expression
    const uint32_t* group_of  # group of each offer
    const uint64_t* possible  # offers that could be returned at all
    const uint64_t* group_masks  # groups x words

    const BoundAttribute* attributes
    uint32_t attribute_count
    const BoundAggregate* aggregates  # by event type, filter, field, and window, the longest first
    uint32_t aggregate_count
    const AggregateColumn* aggregate_columns  # in the same order
    uint32_t aggregate_column_count
    uint32_t aggregate_event_count  # event types that aggregates name
    const int64_t* aggregate_reaches  # by position among those: the longest window; INT64_MAX: everything kept
    const uint16_t* aggregate_events  # by event type number: position among those; aggregate_event_count: none
    uint32_t event_types  # entries of aggregate_events but the last, which is none and stands for all further numbers
    HouseholdInputs household
    const BoundConsent* consents
    uint32_t consent_count
    const BoundCase* cases
    uint32_t case_count
    const BoundBand* bands
    uint32_t band_count

    const ThresholdList* thresholds
    uint32_t threshold_count
    const TextIndex* texts
    uint32_t text_count
    const PresenceIndex* presences
    uint32_t presence_count
    const int32_t* condition_code  # expression number of each condition
    const uint32_t* residual_starts  # offers + 1
    const uint32_t* residuals  # condition numbers
    uint32_t residual_count  # entries of residuals

    const int32_t* offer_of_number  # offer by catalog number, -1 unknown here
    uint32_t offer_numbers  # entries of offer_of_number
    const CapRule* cap_rules
    const uint32_t* offer_cap_starts  # offers + 1, into offer_caps
    const uint32_t* offer_caps  # cap numbers
    const uint32_t* group_cap_starts  # groups + 1
    const uint32_t* group_caps  # cap numbers
    const uint32_t* program_caps  # cap numbers that bind every offer
    uint32_t program_cap_count
    const SuppressionRule* suppression_rules
    const uint32_t* offer_suppression_starts  # offers + 1
    const uint32_t* offer_suppressions  # suppression numbers
    const uint32_t* group_suppression_starts  # groups + 1
    const uint32_t* group_suppressions  # suppression numbers
    const uint32_t* related  # offers related to suppressions
    int64_t contact_horizon_us  # no rule looks further back; 0: contacts are never read
    uint8_t own_contacts  # a rule counts the customer's own contacts, whether or not he is in a household
    const uint8_t* counted_outcomes  # by outcome number: 1 when a rule counts it, else 0
    uint32_t counted_outcome_count  # entries of counted_outcomes but the last, which is 0 and stands for all further numbers

    const OfferTerms* terms  # by offer
    uint8_t one_card  # every offer is scored by the one score table there is
    uint8_t plain  # no offer has a value expression or a conditional weight, and there is no formula
    Screen screen  # of the one score table of a plan that is plain
    uint32_t prune_from  # offers left by index and contact policy, from which on they are pruned
    const ScoreTable* score_tables
    uint32_t score_table_count
    const ModelTable* model_tables
    uint32_t model_table_count
    int32_t formula  # expression number, or -1: the product
    uint8_t use_propensity  # 0: counts as 1 and is not evaluated
    uint8_t use_context  # 0: counts as 0 %
    uint8_t use_value  # 0: counts as 1 and is not evaluated
    uint8_t use_levers  # 0: counts as 0 %
    const uint32_t* weight_starts  # offers + 1; only offers with a conditional weight have entries
    const double* weight_percents  # added when the condition holds
    const int32_t* weight_conditions  # condition number, or -1: always
    const uint8_t* weight_is_lever  # 1 lever, 0 context weight

    uint8_t repeats  # one offer may stand in several placements
    uint32_t at_most_per_group  # over the request; 0: no limit

    const int32_t* price_index  # by offer, -1 none
    const PriceRule* prices
    const Adjustment* adjustments

    const TreatmentEntry* treatments
    const ContentField* fields
    const Piece* pieces
    const PlacementEntry* placements
    uint32_t placement_count

    # Read by explanations only.
    const OfferDates* dates  # by offer
    const uint64_t* channel_masks  # program channels x words: offers with any treatment in the channel
    const RuleEntry* group_rules  # by layer inside each group
    const uint32_t* group_rule_starts  # groups + 1
    const RuleEntry* offer_rules  # by layer inside each offer
    const uint32_t* offer_rule_starts  # offers + 1
    const int32_t* consent_slot  # by offer, -1: needs none
    const uint32_t* case_slot_starts  # offers + 1
    const uint32_t* case_slots  # frame slots, the group's kinds first

cdef class Plan:
    """A bound plan. Immutable once made; shared by all threads; freed when the last decision drops it."""

    cdef Tables tables
    cdef const Names* names  # of _names
    cdef NamesHolder _names
    cdef list _keep  # arrays and bytes that tables points into
    cdef void** _blocks  # memory of tables' structures, freed with the plan
    cdef size_t _block_count  # entries of _blocks
    cdef readonly list workspaces  # free ones; taken and given back under the GIL
    cdef readonly bint closed  # workspaces given back from now on are freed
    cdef readonly object environment  # core.hub.environment.Environment decisions read from
    cdef readonly object source  # core.programs.tables.Tables
    cdef readonly object program  # core.programs.program.Program
    cdef readonly str version  # "<name>@<version>"
    cdef readonly uint32_t version_number  # as tokens carry it
    cdef readonly tuple models  # "<name>/<version>" of every model held
    cdef readonly tuple model_names  # by model table
    cdef readonly dict channel_numbers  # name -> (program index, catalog number)
    cdef readonly dict placement_rows  # "<channel>.<placement>" -> row
    cdef readonly dict namespace_numbers  # name -> (catalog number, normaliser, trust, single)
    cdef readonly dict fact_slots  # name -> (slot or -1, Field)
    cdef readonly dict event_types  # name -> EventType
    cdef readonly list field_names  # of content
    cdef readonly list cap_ids  # by cap number
    cdef readonly list suppression_ids  # by suppression number
    cdef readonly list offer_numbers  # catalog number of each offer
    cdef readonly list rules  # (id, expression number)
    cdef readonly list group_rules  # by group: (layer, rule number)
    cdef readonly list offer_rules  # by offer
    cdef readonly list slot_paths  # as a marketer writes each input
    cdef readonly list slot_kinds  # InputKind of each slot
    cdef readonly object catalog  # core.hub.catalog.Catalog it was bound to

    cdef void* _block(self, size_t count, size_t size) except NULL
    cdef size_t _array(self, object data) except 0
    cdef const FilterTerm* _filter(self, where, event, stored) except NULL
    cdef const uint64_t* _checkpoints(self, const ThresholdList* entries) except NULL
    cdef _label(self, Label* label, bytes text)
    cdef _bind_attribute(self, BoundAttribute* bound, uint32_t slot, field, stored, indexed)
    cdef _bind_labels(self, BoundAttribute* bound, uint32_t slot, labels, indexed)
    cdef _starts(self, lists)
    cdef _bind_screen(self)
    cdef const RuleEntry* _rule_entries(self, lists) except NULL
