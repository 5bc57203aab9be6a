"""Values in, values out: a `DecideRequest` becomes the kernel's request, its answer a `DecideAnswer`.

The only part of a decision that handles Python objects. Names are looked up in the plan's dictionaries; texts are
encoded once and kept alive until the answer is made; the decision itself runs without the GIL. A compiled codec can
stand here instead: it fills a `Request` and reads the same workspace.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport INT64_MIN, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from datetime import UTC, datetime, timedelta


from core import limits
from core.decision import (
    Clamp,
    DecideAnswer,
    DecidedOffer,
    Factors,
    PlacementAnswer,
    QuotedPrice,
    Rejection,
)
from core.errors import BadValue, StoreCorrupt, TooLarge, UnknownName
from core.reasons import Detail, Reason, SlotStatus
from core.schema import Money, ValueType, as_written, currency_exponent

from core.hub.buffer cimport buffer_free
from core.hub.events cimport (
    EVENT_BUILT,
    EventBuilder,
    event_begin,
    event_clear_text,
    event_finish,
    event_set_f64,
    event_set_i64,
    event_set_text,
)
from core.hub.lmdb cimport error_for
from core.hub.record cimport rapport_siphash
from core.kernel.deciding cimport DECIDE_DAMAGED, DECIDE_MEMORY, DECIDED, decide
from core.kernel.instance_token cimport mix64
from core.kernel.plan cimport Plan, TreatmentEntry
from core.kernel.values cimport PRESENT, Value
from core.kernel.workspace cimport (
    Contender,
    Fact,
    Filled,
    Identity,
    Request,
    Span,
    Verdict,
    Wanted,
    Winner,
    Work,
    Workspace,
    give_back,
    take,
)

from core.hub.identifiers import check_holder, normalised

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_REASONS = {int(reason): reason for reason in Reason}
_DETAILS = {int(detail): detail for detail in Detail}
_STATUSES = {int(status): status for status in SlotStatus}
_CLAMPS = {int(clamp): clamp for clamp in Clamp}
_NO_CONTENT = {}
cdef dict _TYPE_NAMES = {
    ValueType.BOOL: "true or false", ValueType.INT: "a whole number", ValueType.DOUBLE: "a number",
    ValueType.MONEY: "an amount of money with its currency, as 60.00 EUR",
    ValueType.TIMESTAMP: "an instant with its zone", ValueType.ENUM: "a text",
    ValueType.STRING: "a text", ValueType.STRING_SET: "a set of texts",
}


def micros(value) -> int:
    """Microseconds since 1970-01-01T00:00:00Z of a datetime with a zone; exact."""
    return (value - _EPOCH) // _MICROSECOND


cdef class Asked:
    """A request in C, and everything it points to; lives as long as the decision."""

    cdef Request request
    cdef Identity* identities
    cdef Fact* facts
    cdef Wanted* wanted
    cdef EventBuilder events
    cdef list keep
    cdef readonly list names  # of the placements, as asked

    def __cinit__(self):
        memset(&self.request, 0, sizeof(Request))
        memset(&self.events, 0, sizeof(EventBuilder))
        self.keep = []
        self.names = []

    def __dealloc__(self):
        PyMem_Free(self.identities)
        PyMem_Free(self.facts)
        PyMem_Free(self.wanted)
        buffer_free(&self.events.entries)

    cdef _text(self, Value* value, bytes text):
        self.keep.append(text)
        value.text = PyBytes_AS_STRING(text)
        value.length = <uint32_t> PyBytes_GET_SIZE(text)
        value.state = PRESENT


# What was sent, in words of the contract.
cdef dict _SENT = {
    bool: "true or false", int: "a whole number", float: "a number", str: "a text", Money: "an amount of money",
    datetime: "an instant", frozenset: "a set of texts",
}


cdef _wrong(str where, field, value):
    return BadValue(
        where, f"wants {_TYPE_NAMES[field.type]}, not {_SENT.get(type(value), type(value).__name__)}",
        as_written(field.type, field.currency))


cdef bytes _encoded(str where, value):
    text = value.encode("utf-8", "surrogatepass")
    if len(text) > limits.STRING_BYTES:
        raise TooLarge(f"bytes in {where}", len(text), limits.STRING_BYTES, field=where)
    return text


cdef _fill_value(Asked asked, Value* out, field, value, str where):
    """A typed value of a fact; refuses what does not fit its declaration."""
    kind = field.type
    out.state = PRESENT
    if kind is ValueType.BOOL:
        if value is not True and value is not False:
            raise _wrong(where, field, value)
        out.i = value is True
    elif kind is ValueType.INT:
        if type(value) is not int:
            raise _wrong(where, field, value)
        if not -(2**63) < value < 2**63:
            raise BadValue(where, "does not fit 64 bits", "Send it as a text or a double if it is no number to count with.")
        out.i = value
    elif kind is ValueType.DOUBLE:
        if type(value) is not float and type(value) is not int:
            raise _wrong(where, field, value)
        out.f = value
        if out.f != out.f:
            raise BadValue(where, "is not a number (NaN)", "Leave the fact out when its value is not known.")
    elif kind is ValueType.MONEY:
        if not isinstance(value, Money):
            raise _wrong(where, field, value)
        if not value.currency:
            raise BadValue(where, "has no currency", f"It is declared in {field.currency}.")
        if value.currency != field.currency:
            raise BadValue(where, f"is declared in {field.currency}, not {value.currency}", "Convert it before it is sent.")
        if value.minor == limits.NO_AMOUNT:
            raise BadValue(where, "is the one amount that stands for none", "Leave it out instead.")
        out.i = value.minor
        out.f = <double> out.i / 10.0 ** currency_exponent(field.currency)
    elif kind is ValueType.TIMESTAMP:
        if not isinstance(value, datetime) or value.tzinfo is None:
            raise _wrong(where, field, value)
        out.i = micros(value)
    elif kind is ValueType.STRING_SET:
        if not isinstance(value, frozenset | set | tuple | list):
            raise _wrong(where, field, value)
        asked._text(out, _set_bytes(where, value))
    else:
        if type(value) is not str:
            raise _wrong(where, field, value)
        if kind is ValueType.ENUM and value not in field.labels:
            raise UnknownName("label", value, field.labels, where, where)
        asked._text(out, _encoded(where, value))


cdef bytes _set_bytes(str where, members):
    """A set as a record's heap holds it: count, then each member's length and bytes, in byte order."""
    if len(members) > limits.SET_MEMBERS:
        raise TooLarge(f"members of {where}", len(members), limits.SET_MEMBERS, field=where)
    for member in members:
        if type(member) is not str:
            raise BadValue(where, f"wants texts only, not {type(member).__name__}")
    texts = sorted({_encoded(where, member) for member in members})
    parts = [len(texts).to_bytes(2, "little")]
    for text in texts:
        parts.append(len(text).to_bytes(2, "little"))
        parts.append(text)
    return b"".join(parts)


cdef _read_identities(Asked asked, Plan plan, identifiers):
    cdef uint32_t i
    if len(identifiers) > limits.IDENTIFIERS_PER_REQUEST:
        raise TooLarge("identifiers", len(identifiers), limits.IDENTIFIERS_PER_REQUEST, field="identifiers")
    found = []
    for i, identifier in enumerate(identifiers):
        namespace = plan.namespace_numbers.get(identifier.namespace)
        if namespace is None:
            declared = plan.program.schema.namespaces.get(identifier.namespace)
            if declared is not None:
                try:
                    check_holder(declared, False)
                except BadValue as error:
                    raise error.under(f"identifiers[{i}]") from None
            raise UnknownName(
                "identifier namespace", identifier.namespace, plan.namespace_numbers, field=f"identifiers[{i}].namespace"
            )
        number, rule, trust, single = namespace
        try:
            found.append((-trust, number, normalised(rule, identifier.value, identifier.namespace), single))
        except (BadValue, TooLarge) as error:
            raise error.under(f"identifiers[{i}]") from None
    # As `core.hub.identifiers.ranked`: whatever the order in which they are sent.
    found.sort()
    asked.identities = <Identity*> PyMem_Malloc((len(found) + 1) * sizeof(Identity))
    if asked.identities == NULL:
        raise MemoryError("a request")
    for i, (_, number, text, single) in enumerate(found):
        asked.keep.append(text)
        asked.identities[i].namespace = number
        asked.identities[i].single = single
        asked.identities[i].text = PyBytes_AS_STRING(text)
        asked.identities[i].length = <uint32_t> PyBytes_GET_SIZE(text)
    asked.request.identities = asked.identities
    asked.request.identity_count = <uint32_t> len(found)


cdef _read_facts(Asked asked, Plan plan, facts):
    cdef uint32_t count = 0
    cdef Value unused
    if len(facts) > limits.FACTS_PER_REQUEST:
        raise TooLarge("facts", len(facts), limits.FACTS_PER_REQUEST, field="facts")
    asked.facts = <Fact*> PyMem_Malloc((len(facts) + 1) * sizeof(Fact))
    if asked.facts == NULL:
        raise MemoryError("a request")
    for name, value in facts.items():
        declared = plan.fact_slots.get(name)
        if declared is None:
            raise UnknownName("fact", name, plan.fact_slots, field=f"facts['{name}']")
        slot, field = declared
        memset(&unused, 0, sizeof(Value))
        if slot < 0:
            # Declared, and read by nothing: still checked, so that a program that begins to read it finds it right.
            _fill_value(asked, &unused, field, value, f"facts['{name}']")
            continue
        memset(&asked.facts[count].value, 0, sizeof(Value))
        _fill_value(asked, &asked.facts[count].value, field, value, f"facts['{name}']")
        asked.facts[count].slot = slot
        count += 1
    asked.request.facts = asked.facts
    asked.request.fact_count = count


cdef _read_wanted(Asked asked, Plan plan, channel, placements):
    cdef uint32_t i
    if not placements:
        raise BadValue("placements", "is empty", "Name at least one placement to fill.")
    if len(placements) > limits.PLACEMENTS_PER_REQUEST:
        raise TooLarge("placements", len(placements), limits.PLACEMENTS_PER_REQUEST, field="placements")
    asked.wanted = <Wanted*> PyMem_Malloc(len(placements) * sizeof(Wanted))
    if asked.wanted == NULL:
        raise MemoryError("a request")
    for i, placement in enumerate(placements):
        name = placement.name
        row = plan.placement_rows.get(f"{channel}.{name}")
        if row is None:
            prefix = f"{channel}."
            raise UnknownName(
                "placement", name, [p[len(prefix):] for p in plan.placement_rows if p.startswith(prefix)],
                f"channel '{channel}'", f"placements[{i}].name"
            )
        if name in asked.names:
            raise BadValue(f"placements[{i}].name", f"names '{name}' a second time", "Ask for more slots instead.")
        asked.names.append(name)
        slots = placement.slots
        if slots is None:
            slots = plan.tables.placements[<int> row].slots
        elif slots < 1:
            raise BadValue(f"placements[{i}].slots", f"is {slots}", "Ask for at least one, or leave it out.")
        if slots > limits.SLOTS_PER_PLACEMENT:
            raise TooLarge(
                f"slots of placement '{name}'", slots, limits.SLOTS_PER_PLACEMENT, field=f"placements[{i}].slots"
            )
        asked.wanted[i].placement = row
        asked.wanted[i].slots = slots
    asked.request.wanted = asked.wanted
    asked.request.wanted_count = <uint32_t> len(placements)


cdef _read_events(Asked asked, Plan plan, events, int64_t now):
    """Packs the events of the moment as the store would, sorted by time. A clock that goes ahead told of now."""
    cdef bytes key
    if len(events) > limits.EVENTS_PER_REQUEST:
        raise TooLarge("events", len(events), limits.EVENTS_PER_REQUEST, field="events")
    timed = sorted(
        ((now if event.at_us is None else min(event.at_us, now), place, event) for place, event in enumerate(events)), key=_at
    )
    seen = set()
    count = 0
    for at, place, event in timed:
        declared = plan.event_types.get(event.type)
        if declared is None:
            raise UnknownName("event type", event.type, plan.event_types, field=f"events[{place}].type")
        if not event.key:
            raise BadValue(
                f"events[{place}].key", "is empty", "Give each event a key that stays the same when it is sent again."
            )
        if (event.type, event.key) in seen:
            continue
        seen.add((event.type, event.key))
        stored = plan.catalog.event(event.type)
        key = event.key.encode()
        _pack_event(asked, plan, declared, stored, event, place, at, rapport_siphash(<const uint8_t*> <char*> key, len(key)))
        count += 1
    asked.request.events.entries = asked.events.entries.data
    asked.request.events.size = asked.events.entries.size
    asked.request.events.count = count


def _at(entry):
    return entry[0]


cdef _pack_event(Asked asked, Plan plan, declared, stored, event, int place, int64_t at, uint64_t key):
    cdef EventBuilder* builder = &asked.events
    cdef uint32_t index
    cdef Value value
    fields = {field.name: field for field in declared.fields}
    for name in event.fields:
        if name not in fields:
            raise UnknownName("field", name, fields, f"event '{event.type}'", f"events[{place}].fields['{name}']")
    if event_begin(builder, stored.number, at, key, <uint16_t> len(stored.fields)) != EVENT_BUILT:
        raise MemoryError("an event")
    for index, cell in enumerate(stored.fields):
        name, kind = cell.name, cell.type
        field = fields.get(name)
        given = event.fields.get(name)
        if kind is ValueType.ENUM or kind is ValueType.STRING:
            if given is None:
                event_clear_text(builder, index)
            else:
                memset(&value, 0, sizeof(Value))
                _fill_value(asked, &value, field, given, f"events[{place}].fields['{name}']")
                if event_set_text(builder, index, <const uint8_t*> value.text, value.length) != EVENT_BUILT:
                    raise MemoryError("an event")
        elif kind is ValueType.DOUBLE:
            if given is None:
                event_set_f64(builder, index, float("nan"))
            else:
                memset(&value, 0, sizeof(Value))
                _fill_value(asked, &value, field, given, f"events[{place}].fields['{name}']")
                event_set_f64(builder, index, value.f)
        elif given is None:
            event_set_i64(builder, index, 0 if kind is ValueType.BOOL else INT64_MIN)
        else:
            memset(&value, 0, sizeof(Value))
            _fill_value(asked, &value, field, given, f"events[{place}].fields['{name}']")
            event_set_i64(builder, index, value.i + 1 if kind is ValueType.BOOL else value.i)
    if event_finish(builder) != EVENT_BUILT:
        raise TooLarge(f"bytes of event '{event.type}'", builder.entries.size, limits.EVENT_BYTES, field=f"events[{place}]")


cdef Asked _ask(Plan plan, request, int64_t now_us, uint64_t seed, int64_t deadline_ns):
    cdef Asked asked = Asked()
    channel = plan.channel_numbers.get(request.channel)
    if channel is None:
        raise UnknownName("channel", request.channel, plan.channel_numbers, field="channel")
    asked.request.channel = channel[1]
    asked._text(&asked.request.channel_text, request.channel.encode())
    asked.request.as_of_us = now_us
    asked.request.seed = seed
    asked.request.deadline_ns = deadline_ns
    asked.request.explain = int(request.explain)
    asked.request.deferred = request.deferred
    _read_wanted(asked, plan, request.channel, request.placements)
    if asked.request.explain == 3 and len(request.placements) * plan.tables.offers > limits.REASONS_PER_REQUEST:
        raise TooLarge(
            "reasons of a full explanation (placements times offers)", len(request.placements) * plan.tables.offers,
            limits.REASONS_PER_REQUEST, "Ask for fewer placements at once, or for the summary.", "explain"
        )
    _read_identities(asked, plan, request.identifiers)
    _read_facts(asked, plan, request.facts)
    if request.events:
        _read_events(asked, plan, request.events, now_us)
    return asked


cdef str _decode(const Work* work, const Span* span):
    return work.output[span.start:span.start + span.length].decode("utf-8", "surrogatepass")


cdef _factors(const Contender* contender):
    return Factors(contender.propensity, contender.context_percent, contender.value, contender.lever_percent)


cdef _price(Plan plan, const Winner* winner):
    price = plan.source.prices[plan.tables.price_index[winner.offer]]
    return QuotedPrice(
        Money(winner.price, price.currency), Money(price.list, price.currency), bool(price.basis), price.basis,
        _CLAMPS[winner.clamp]
    )


cdef str _model_of(Plan plan, const Contender* contender):
    """The model that gave a propensity; '' when none did, also when a fallback value stood in for it."""
    if contender.model_status or plan.tables.terms[contender.offer].kind != 2:
        return ""
    return plan.model_names[plan.tables.terms[contender.offer].table]


cdef _offer(Plan plan, const Work* work, const Winner* winner, int rank):
    cdef const Contender* contender = &work.contenders[winner.contender]
    cdef const TreatmentEntry* treatment = &plan.tables.treatments[winner.treatment]
    cdef uint32_t i
    content = {}
    for i in range(treatment.field_count):
        content[plan.field_names[plan.tables.fields[treatment.field_start + i].name]] = _decode(
            work, &work.spans[winner.content_start + i]
        )
    return DecidedOffer(
        plan.source.offer_names[winner.offer],
        plan.source.group_names[plan.tables.group_of[winner.offer]],
        rank,
        contender.priority,
        _factors(contender),
        content,
        _decode(work, &winner.token),
        winner.instance,
        _price(plan, winner) if winner.priced else None,
        _model_of(plan, contender),
    )


cdef str _spoke(Plan plan, const Verdict* verdict):
    """The id of the rule, cap or suppression, the purpose, or the case kind that spoke."""
    if verdict.source == 1:
        return plan.rules[verdict.number][0]
    if verdict.source == 2:
        return plan.cap_ids[verdict.number]
    if verdict.source == 3:
        return plan.suppression_ids[verdict.number]
    if verdict.source:
        # As it is written after `consent.` or `cases.`.
        return plan.slot_paths[verdict.number].partition(".")[2]
    return ""


cdef _rejections(Plan plan, const Work* work, const Filled* filled):
    cdef const Verdict* verdicts = work.verdicts + filled.verdict_start
    cdef const Contender* contender
    cdef uint32_t i
    lowest = None
    if filled.count:
        lowest = work.contenders[work.winners[filled.first + filled.count - 1].contender].priority
    found = []
    for i in range(plan.tables.offers):
        if verdicts[i].reason == 0:
            continue
        priority = factors = winner = None
        if verdicts[i].contender >= 0:
            contender = &work.contenders[verdicts[i].contender]
            priority, factors, winner = contender.priority, _factors(contender), lowest
        found.append(
            Rejection(
                plan.source.offer_names[i], _REASONS[verdicts[i].reason], _spoke(plan, &verdicts[i]),
                _DETAILS[verdicts[i].detail], plan.slot_paths[verdicts[i].slot] if verdicts[i].slot >= 0 else "",
                priority, winner, factors,
            )
        )
    return tuple(found)


cdef _summary(Plan plan, const Work* work, const Filled* filled):
    cdef const Verdict* verdicts = work.verdicts + filled.verdict_start
    cdef uint32_t counts[32]
    cdef uint32_t i
    memset(counts, 0, sizeof(counts))
    for i in range(plan.tables.offers):
        counts[verdicts[i].reason] += 1
    return {_REASONS[i]: counts[i] for i in range(1, 32) if counts[i]}


cdef _placement(Plan plan, const Work* work, Asked asked, uint32_t wanted, int explain):
    cdef const Filled* filled = &work.filled[wanted]
    cdef uint32_t i
    offers = []
    for i in range(filled.count):
        offers.append(_offer(plan, work, &work.winners[filled.first + i], i + 1))
    fallback = _NO_CONTENT
    if not offers:
        placement = plan.source.placement_names[asked.wanted[wanted].placement]
        fallback = plan.program.placements[placement].fallback
    status = _STATUSES[filled.status]
    explained = explain > 1 and status is not SlotStatus.FALLBACK_DEADLINE
    return PlacementAnswer(
        asked.names[wanted], status, tuple(offers), fallback,
        _rejections(plan, work, filled) if explained and explain == 3 else (),
        _summary(plan, work, filled) if explained else _NO_CONTENT,
    )


cdef _fail(int code, Plan plan):
    if code == DECIDE_DAMAGED:
        return StoreCorrupt("A stored customer record", "its bytes fail their checks")
    if code == DECIDE_MEMORY:
        return MemoryError("a decision")
    return error_for(code, "read a customer", plan.environment.path, False)


def decide_one(Plan plan not None, request, int64_t now_us, uint64_t seed, int64_t deadline_ns):
    """Decides one request over a plan.

    ``now_us`` is the decision's clock, ``seed`` makes its ids, ``deadline_ns`` is on CLOCK_MONOTONIC (0: none).
    Raises UnknownName, BadValue, TooLarge, StoreCorrupt.
    """
    cdef Asked asked = _ask(plan, request, now_us, seed, deadline_ns)
    cdef Workspace space = take(plan)
    cdef int code
    cdef uint32_t i
    cdef Work* work = &space.work
    try:
        with nogil:
            code = decide(&space.work, &space.snapshot, &asked.request)
        if code != DECIDED:
            raise _fail(code, plan)
        explain = int(request.explain)
        placements = []
        for i in range(asked.request.wanted_count):
            placements.append(_placement(plan, work, asked, i, explain))
        return DecideAnswer(
            f"{mix64(seed, <uint64_t> now_us):016x}{mix64(<uint64_t> now_us, ~seed):016x}",
            tuple(placements), work.customer.id != 0, plan.version, plan.program.digest, plan.models, now_us, seed,
            work.took_ns,
        )
    finally:
        give_back(plan, space)


def scored(Plan plan not None, request, int64_t now_us):
    """How many offers a decision gives a priority: those left by all filters, without those that were pruned."""
    cdef Asked asked = _ask(plan, request, now_us, 0, 0)
    cdef Workspace space = take(plan)
    cdef int code
    try:
        with nogil:
            code = decide(&space.work, &space.snapshot, &asked.request)
        if code != DECIDED:
            raise _fail(code, plan)
        return space.work.contender_count
    finally:
        give_back(plan, space)


def measure(Plan plan not None, requests, int rounds, int64_t now_us):
    """Times decisions inside the kernel: an int64 array of nanoseconds, one for each request and round, in order.

    What is timed is `decide` from a request in C to an answer in C, without the GIL; building and reading Python
    values is not.
    """
    cdef Workspace space = take(plan)
    cdef Asked asked
    cdef list all_asked = [_ask(plan, request, now_us, <uint64_t> i, 0) for i, request in enumerate(requests)]
    import numpy as np  # only a benchmark needs it

    taken = np.empty(len(all_asked) * rounds, np.int64)
    cdef int64_t[::1] out = taken
    cdef size_t at = 0
    cdef int code = 0
    try:
        for _ in range(rounds):
            for asked in all_asked:
                with nogil:
                    code = decide(&space.work, &space.snapshot, &asked.request)
                if code != DECIDED:
                    raise _fail(code, plan)
                out[at] = space.work.took_ns
                at += 1
    finally:
        give_back(plan, space)
    return taken
