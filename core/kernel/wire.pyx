"""What `wire.pxd` says of the messages, for Python: a field added to a proto must not be skipped by a desk as unknown."""

# By message: each field's name, number and type, "*" where it is repeated, "?" where its absence shows. A test compares
# them with the protos, so that a field added there is not skipped here as unknown.
FIELDS = {
    "rapport.v1.Identifier": (("namespace", IDENTIFIER_NAMESPACE, "string"), ("value", IDENTIFIER_VALUE, "string")),
    "rapport.v1.Money": (("minor", MONEY_MINOR, "int64"), ("currency", MONEY_CURRENCY, "string")),
    "rapport.v1.StringSet": (("members", SET_MEMBER, "string*"),),
    "rapport.v1.Value": (
        ("bool_value", VALUE_BOOL, "bool?"), ("int_value", VALUE_INT, "int64?"), ("double_value", VALUE_DOUBLE, "double?"),
        ("string_value", VALUE_STRING, "string?"), ("money_value", VALUE_MONEY, "rapport.v1.Money?"),
        ("timestamp_value", VALUE_TIMESTAMP, "google.protobuf.Timestamp?"), ("set_value", VALUE_SET, "rapport.v1.StringSet?"),
    ),
    "google.protobuf.Timestamp": (("seconds", MOMENT_SECONDS, "int64"), ("nanos", MOMENT_NANOS, "int32")),
    "google.protobuf.Duration": (("seconds", MOMENT_SECONDS, "int64"), ("nanos", MOMENT_NANOS, "int32")),
    "rapport.v1.PlacementRequest": (("name", WANTED_NAME, "string"), ("slots", WANTED_SLOTS, "uint32")),
    "rapport.v1.DecideRequest.FactsEntry": (("key", ENTRY_KEY, "string"), ("value", ENTRY_VALUE, "rapport.v1.Value?")),
    "rapport.v1.DecideRequest": (
        ("identifiers", REQUEST_IDENTIFIERS, "rapport.v1.Identifier*"), ("channel", REQUEST_CHANNEL, "string"),
        ("placements", REQUEST_PLACEMENTS, "rapport.v1.PlacementRequest*"),
        ("facts", REQUEST_FACTS, "rapport.v1.DecideRequest.FactsEntry*"), ("events", REQUEST_EVENTS, "rapport.v1.Event*"),
        ("explain", REQUEST_EXPLAIN, "enum"), ("time_budget", REQUEST_TIME_BUDGET, "google.protobuf.Duration?"),
        ("as_of", REQUEST_AS_OF, "google.protobuf.Timestamp?"), ("seed", REQUEST_SEED, "uint64?"),
        ("deferred", REQUEST_DEFERRED, "bool"),
    ),
    "rapport.v1.Factors": (
        ("propensity", FACTORS_PROPENSITY, "double"), ("context_percent", FACTORS_CONTEXT, "double"),
        ("value", FACTORS_VALUE, "double"), ("lever_percent", FACTORS_LEVER, "double"),
    ),
    "rapport.v1.QuotedPrice": (
        ("amount", PRICE_AMOUNT, "rapport.v1.Money?"), ("list", PRICE_LIST, "rapport.v1.Money?"),
        ("personal", PRICE_PERSONAL, "bool"), ("basis", PRICE_BASIS, "string*"), ("clamp", PRICE_CLAMP, "enum"),
    ),
    "rapport.v1.DecidedOffer.ContentEntry": (("key", ENTRY_KEY, "string"), ("value", ENTRY_VALUE, "string")),
    "rapport.v1.DecidedOffer": (
        ("offer", OFFER_NAME, "string"), ("group", OFFER_GROUP, "string"), ("rank", OFFER_RANK, "uint32"),
        ("priority", OFFER_PRIORITY, "double"), ("factors", OFFER_FACTORS, "rapport.v1.Factors?"),
        ("content", OFFER_CONTENT, "rapport.v1.DecidedOffer.ContentEntry*"), ("token", OFFER_TOKEN, "string"),
        ("instance", OFFER_INSTANCE, "uint64"), ("price", OFFER_PRICE, "rapport.v1.QuotedPrice?"),
        ("model", OFFER_MODEL, "string"),
    ),
    "rapport.v1.PlacementAnswer.FallbackEntry": (("key", ENTRY_KEY, "string"), ("value", ENTRY_VALUE, "string")),
    "rapport.v1.PlacementAnswer": (
        ("name", ANSWER_NAME, "string"), ("status", ANSWER_STATUS, "enum"),
        ("offers", ANSWER_OFFERS, "rapport.v1.DecidedOffer*"),
        ("fallback", ANSWER_FALLBACK, "rapport.v1.PlacementAnswer.FallbackEntry*"),
        ("rejections", ANSWER_REJECTIONS, "rapport.v1.Rejection*"), ("summary", ANSWER_SUMMARY, "rapport.v1.ReasonCount*"),
    ),
    "rapport.v1.DecideResponse": (
        ("decision", RESPONSE_DECISION, "string"), ("placements", RESPONSE_PLACEMENTS, "rapport.v1.PlacementAnswer*"),
        ("known", RESPONSE_KNOWN, "bool"), ("program", RESPONSE_PROGRAM, "string"), ("digest", RESPONSE_DIGEST, "string"),
        ("models", RESPONSE_MODELS, "string*"), ("as_of", RESPONSE_AS_OF, "google.protobuf.Timestamp?"),
        ("seed", RESPONSE_SEED, "uint64"), ("took_ns", RESPONSE_TOOK_NS, "uint64"),
    ),
}
