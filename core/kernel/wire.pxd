"""The fields of the messages that desks read and write, as their protos number them, and the kinds of the wire.

`wire.pyx` tells Python of them, so that a test holds them against the protos.
"""

cdef enum WireType:
    VARINT = 0
    FIXED64 = 1
    BYTES = 2
    FIXED32 = 5

# Every field of every message that is read or written, in the order of their numbers.
cdef enum:
    IDENTIFIER_NAMESPACE = 1
    IDENTIFIER_VALUE = 2
    IDENTIFIER_LAST = 2

    MONEY_MINOR = 1
    MONEY_CURRENCY = 2
    MONEY_LAST = 2

    SET_MEMBER = 1
    SET_LAST = 1

    VALUE_BOOL = 1
    VALUE_INT = 2
    VALUE_DOUBLE = 3
    VALUE_STRING = 4
    VALUE_MONEY = 5
    VALUE_TIMESTAMP = 6
    VALUE_SET = 7
    VALUE_LAST = 7

    MOMENT_SECONDS = 1  # of Timestamp and of Duration
    MOMENT_NANOS = 2
    MOMENT_LAST = 2

    WANTED_NAME = 1
    WANTED_SLOTS = 2
    WANTED_LAST = 2

    ENTRY_KEY = 1  # of every map
    ENTRY_VALUE = 2

    REQUEST_IDENTIFIERS = 1
    REQUEST_CHANNEL = 2
    REQUEST_PLACEMENTS = 3
    REQUEST_FACTS = 4
    REQUEST_EVENTS = 5
    REQUEST_EXPLAIN = 6
    REQUEST_TIME_BUDGET = 7
    REQUEST_AS_OF = 8
    REQUEST_SEED = 9
    REQUEST_DEFERRED = 10
    REQUEST_LAST = 10

    FACTORS_PROPENSITY = 1
    FACTORS_CONTEXT = 2
    FACTORS_VALUE = 3
    FACTORS_LEVER = 4

    PRICE_AMOUNT = 1
    PRICE_LIST = 2
    PRICE_PERSONAL = 3
    PRICE_BASIS = 4
    PRICE_CLAMP = 5

    OFFER_NAME = 1
    OFFER_GROUP = 2
    OFFER_RANK = 3
    OFFER_PRIORITY = 4
    OFFER_FACTORS = 5
    OFFER_CONTENT = 6
    OFFER_TOKEN = 7
    OFFER_INSTANCE = 8
    OFFER_PRICE = 9
    OFFER_MODEL = 10

    ANSWER_NAME = 1
    ANSWER_STATUS = 2
    ANSWER_OFFERS = 3
    ANSWER_FALLBACK = 4
    ANSWER_REJECTIONS = 5
    ANSWER_SUMMARY = 6

    RESPONSE_DECISION = 1
    RESPONSE_PLACEMENTS = 2
    RESPONSE_KNOWN = 3
    RESPONSE_PROGRAM = 4
    RESPONSE_DIGEST = 5
    RESPONSE_MODELS = 6
    RESPONSE_AS_OF = 7
    RESPONSE_SEED = 8
    RESPONSE_TOOK_NS = 9
