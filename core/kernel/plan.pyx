"""Binds a program's tables to a store: slots to record offsets, offers and outcomes to catalog numbers, models to
runners.

`core.programs.plan` lays the tables out; this file copies them into the C structures of ``plan.pxd`` and looks every
name up in the catalog once, so that a decision never handles a name. Making a plan takes milliseconds and happens
beside the plan that serves; a swap is one reference. Memory: arrays and bytes are kept in ``_keep``, structures and what
is derived here come from ``_block``; both go with the plan. An array is whatever gives its bytes in one piece: numpy's
where the tables were just compiled, a view of the kept image after a restart, which therefore needs no numpy.
"""

from array import array
from itertools import accumulate, chain

from libc.math cimport INFINITY, NAN, fabs, log, rint
from libc.stdint cimport INT64_MAX, INT64_MIN, int8_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer

from core.errors import EngineFault, ModelError, NotFound
from core.expressions import InputKind
from core.kernel.machine cimport RESULT_DOUBLE, RESULT_MONEY, RESULT_STRING, CodeHolder
from core.kernel.names cimport NamesHolder
from core.inference.runner cimport Runner, handle_drop, handle_hold
from core.hub.record import product_hash
from core.programs.program import ContentType, Rounding, case_inputs, consent_input
from core.schema import AggregateFunction, CaseRule, CaseScope, ValueType, currency_exponent

cdef dict _STORAGE = {value: number for number, value in enumerate(ValueType)}
cdef dict _FUNCTIONS = {function: number for number, function in enumerate(AggregateFunction)}
cdef dict _CONTENT = {content: number for number, content in enumerate(ContentType)}
cdef dict _ROUNDING = {rounding: number for number, rounding in enumerate(Rounding)}

ORDINARY_MOST = 1e30
SPREAD_MOST = 1e6


# Of a filter's term; the others are FILTER_IN.
cdef dict _FILTER_OPS = {
    "!=": FILTER_OTHER, "<": FILTER_BELOW, "<=": FILTER_UPTO, ">": FILTER_ABOVE, ">=": FILTER_FROM,
}


def _aggregate_order(wanted, stored, filters):
    """Sorts aggregates by event type, filter, field, and window, the longest first; without one everything counts.

    ``filters`` gives each filter of a type its number; 1, 1.0 and true are equal in Python and are not the same literal.
    """
    cell = -1 if wanted.field in ("", "at") else stored.field_names.index(wanted.field)
    number = filters.setdefault((wanted.event, repr(wanted.where)), len(filters) + 1) if wanted.where else 0
    return stored.number, number, cell, -(wanted.window_us or INT64_MAX)


cdef double _log_of(const OfferTerms* terms) noexcept:
    """The logarithm of what an offer's propensity is multiplied by: -INFINITY when that is 0 or less, INFINITY when it is
    not known well enough to say."""
    cdef double[3] factors
    cdef double total = 0.0
    cdef bint negative = False, zero = False
    cdef uint32_t i
    factors[0] = terms.context_factor
    factors[1] = terms.value
    factors[2] = terms.lever_factor
    for i in range(3):
        if factors[i] == 0.0:
            zero = True
        elif not 1.0 / ORDINARY_MOST <= fabs(factors[i]) <= ORDINARY_MOST:
            return INFINITY
        else:
            total += log(fabs(factors[i]))
            negative ^= factors[i] < 0.0
    return -INFINITY if zero or negative else total


cdef class Plan:
    """A bound plan. Immutable once made; shared by all threads; freed when the last decision drops it.

    ``source`` are the tables, ``catalog`` the store's names (every name of the program must be declared in it),
    ``models`` the deployed model of each name, ``signing_key`` the store's 16 bytes for tokens, ``edges`` those of each band
    that has some.
    """

    def __cinit__(self):
        self._keep = []
        self._blocks = NULL
        self._block_count = 0
        self.workspaces = []

    def __init__(
        self, source, catalog, environment, models, str version, uint32_t version_number, bytes signing_key, edges=None
    ):
        cdef Tables* tables = &self.tables
        program = source.program
        self.source = source
        self.program = program
        self.catalog = catalog
        self.environment = environment
        self.version = version
        self.version_number = version_number
        tables.version = version_number
        tables.expiry_us = program.instance_expiry_us
        self._keep.append(signing_key)
        tables.signing_key = <const uint8_t*> <const char*> signing_key
        tables.offers = <uint32_t> len(source.offer_names)
        tables.words = source.words
        tables.groups = <uint32_t> len(source.group_names)
        tables.slots = <uint32_t> len(source.inputs)
        self._bind_code(source)
        self._bind_names(source, catalog)
        self._bind_inputs(source, catalog)
        self._bind_bands(source, edges or {})
        self._bind_index(source)
        self._bind_contact(source, catalog)
        self._bind_scores(source, models)
        self._bind_screen()
        self._bind_answers(source, catalog)
        self._bind_reasons(source)
        self._names = NamesHolder(
            source, self.channel_numbers, self.namespace_numbers, self.fact_slots, self.field_names, self.model_names,
            self.models, version
        )
        self.names = &self._names.names

    def __dealloc__(self):
        cdef size_t i
        if self.tables.model_tables != NULL:
            for i in range(self.tables.model_table_count):
                if self.tables.model_tables[i].model != NULL:
                    handle_drop(self.tables.model_tables[i].model)
        for i in range(self._block_count):
            free(self._blocks[i])
        free(self._blocks)

    def close(self):
        """Frees the workspaces and with them their snapshots, so that the store can be closed while references remain."""
        self.closed = True
        self.workspaces.clear()

    cdef void* _block(self, size_t count, size_t size) except NULL:
        """Zeroed memory that is freed with the plan; at least one element, so that it is never NULL."""
        cdef void** blocks = <void**> realloc(self._blocks, (self._block_count + 1) * sizeof(void*))
        cdef void* block
        if blocks == NULL:
            raise MemoryError("a plan's tables")
        self._blocks = blocks
        block = calloc(count if count else 1, size)
        if block == NULL:
            raise MemoryError("a plan's tables")
        self._blocks[self._block_count] = block
        self._block_count += 1
        return block

    cdef size_t _array(self, object data) except 0:
        """The address of an array's first element; the array is kept as long as the plan, and nobody resizes it."""
        cdef Py_buffer view
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        cdef size_t address = <size_t> view.buf
        cdef Py_ssize_t length = view.len
        PyBuffer_Release(&view)
        if length == 0:
            # Nothing is read there, and an empty array's address may be anything.
            return <size_t> self._block(1, sizeof(uint64_t))
        self._keep.append(data)
        if address % sizeof(uint64_t):
            raise EngineFault("A table of the plan does not lie where the kernel can read it.")
        return address

    cdef _label(self, Label* label, bytes text):
        self._keep.append(text)
        label.text = text
        label.length = <uint32_t> len(text)

    cdef _starts(self, lists):
        """Offsets of lists laid end to end, one more than there are lists."""
        return array("I", accumulate(map(len, lists), initial=0))

    def _bind_code(self, source):
        cdef CodeHolder holder = CodeHolder(source.code)
        self._keep.append(holder)
        self.tables.code = holder.view()
        self.tables.expressions = holder.code.expression_count

    def _bind_names(self, source, catalog):
        cdef Tables* tables = &self.tables
        cdef uint64_t* masks
        cdef uint32_t i
        program = source.program
        tables.group_of = <const uint32_t*> self._array(source.group_of)
        tables.possible = <const uint64_t*> self._array(source.possible)
        masks = <uint64_t*> self._block(<size_t> tables.groups * tables.words, sizeof(uint64_t))
        for i in range(tables.offers):
            if tables.group_of[i] >= tables.groups:
                raise EngineFault(f"Offer {i} is in group {tables.group_of[i]} of {tables.groups}.")
            masks[<size_t> tables.group_of[i] * tables.words + i // 64] |= <uint64_t> 1 << (i % 64)
        tables.group_masks = masks
        self.offer_numbers = [catalog.offer(name) for name in source.offer_names]
        tables.offer_number = <const uint32_t*> self._array(array("I", self.offer_numbers))
        positions = array("i", [-1]) * (max(self.offer_numbers, default=0) + 1)
        for position, number in enumerate(self.offer_numbers):
            positions[number] = position
        tables.offer_of_number = <const int32_t*> self._array(positions)
        tables.offer_numbers = <uint32_t> len(positions)
        self.channel_numbers = {
            name: (index, catalog.channel(name)) for index, name in enumerate(program.channels)
        }
        # Those of households are left out: a decision is for a customer, whose membership says the rest.
        self.namespace_numbers = {
            name: (catalog.namespace(name), namespace.normaliser, namespace.trust, namespace.single)
            for name, namespace in program.schema.namespaces.items()
            if not namespace.household
        }
        slots = {read.name: slot for slot, read in enumerate(source.inputs) if read.kind is InputKind.FACT}
        self.fact_slots = {name: (slots.get(name, -1), field) for name, field in program.schema.facts.items()}
        self.event_types = dict(program.schema.events)
        self.slot_paths = [read.path for read in source.inputs]
        self.slot_kinds = [read.kind for read in source.inputs]

    def _bind_aggregates(self, found, schema, catalog):
        """In the order that core.kernel.aggregating walks them in, and parted into columns."""
        cdef Tables* tables = &self.tables
        cdef BoundAggregate* aggregates = <BoundAggregate*> self._block(len(found), sizeof(BoundAggregate))
        cdef AggregateColumn* columns = <AggregateColumn*> self._block(len(found), sizeof(AggregateColumn))
        cdef AggregateColumn* column = NULL
        cdef const FilterTerm* terms = NULL
        cdef uint32_t i, column_count = 0
        filters = {}
        found.sort(key=lambda one: _aggregate_order(one[1].aggregate, catalog.event(one[1].aggregate.event), filters))
        numbers = list(dict.fromkeys(catalog.event(one[1].aggregate.event).number for one in found))
        alike, reaches, before = {}, {}, (None, 0, None)
        for i, (slot, read) in enumerate(found):
            wanted = read.aggregate
            stored = catalog.event(wanted.event)
            filter = filters[wanted.event, repr(wanted.where)] if wanted.where else 0
            aggregates[i].slot = slot
            aggregates[i].function = _FUNCTIONS[wanted.function]
            aggregates[i].window_us = wanted.window_us
            aggregates[i].cell = -1
            aggregates[i].storage = _STORAGE[ValueType.TIMESTAMP]
            if wanted.field not in ("", "at"):
                field = {f.name: f for f in schema.events[wanted.event].fields}[wanted.field]
                aggregates[i].cell = stored.field_names.index(wanted.field)
                aggregates[i].storage = _STORAGE[field.type]
                aggregates[i].unit = 10.0 ** currency_exponent(field.currency)
            aggregates[i].alike = alike.setdefault((stored.number, filter, wanted.window_us), i)
            for scope in (stored.number, (stored.number, filter)):
                reaches[scope] = max(reaches.get(scope, 0), wanted.window_us or INT64_MAX)
            here = stored.number, filter, aggregates[i].cell
            if here != before:
                if filter != before[1]:
                    terms = self._filter(wanted.where, schema.events[wanted.event], stored) if filter else NULL
                before = here
                column = &columns[column_count]
                column_count += 1
                column.bounds = &aggregates[i]
                column.first = i
                column.event = numbers.index(stored.number)
                column.cell = aggregates[i].cell
                column.storage = aggregates[i].storage
                column.filter = filter
                column.terms = terms
                column.term_count = <uint32_t> len(wanted.where)
            column.count += 1
            if wanted.function is AggregateFunction.DISTINCT:
                column.distinct = True
            else:
                column.folded = True
        for i in range(column_count):
            columns[i].reach_us = reaches[numbers[columns[i].event], columns[i].filter]
        tables.aggregates = aggregates
        tables.aggregate_count = <uint32_t> len(found)
        tables.aggregate_columns = columns
        tables.aggregate_column_count = column_count
        tables.aggregate_event_count = <uint32_t> len(numbers)
        tables.aggregate_reaches = <const int64_t*> self._array(array("q", [reaches[number] for number in numbers]))
        positions = array("H", [len(numbers)]) * (max(numbers, default=0) + 2)
        for i, number in enumerate(numbers):
            positions[number] = i
        tables.aggregate_events = <const uint16_t*> self._array(positions)
        tables.event_types = <uint32_t> len(positions) - 1

    def _bind_inputs(self, source, catalog):
        cdef Tables* tables = &self.tables
        cdef BoundAttribute* attributes
        cdef BoundConsent* consents
        cdef BoundCase* cases
        cdef uint32_t i
        schema = source.program.schema
        by_kind = {kind: [] for kind in InputKind}
        for slot, read in enumerate(source.inputs):
            by_kind[read.kind].append((slot, read))

        indexed = {one.slot: one for one in source.texts if not one.is_bool}
        found = by_kind[InputKind.ATTRIBUTE]
        attributes = <BoundAttribute*> self._block(len(found), sizeof(BoundAttribute))
        for i, (slot, read) in enumerate(found):
            self._bind_attribute(&attributes[i], slot, schema.attributes[read.name], catalog.attribute(read.name), indexed)
        tables.attributes = attributes
        tables.attribute_count = <uint32_t> len(found)

        found = by_kind[InputKind.SHARED]
        attributes = <BoundAttribute*> self._block(len(found), sizeof(BoundAttribute))
        for i, (slot, read) in enumerate(found):
            self._bind_attribute(
                &attributes[i], slot, schema.household_attributes[read.name], catalog.shared(read.name), indexed)
        tables.household.attributes = attributes
        tables.household.attribute_count = <uint32_t> len(found)
        tables.household.role_slot = tables.household.size_slot = -1
        for slot, read in by_kind[InputKind.HOUSEHOLD]:
            if read.name == "size":
                tables.household.size_slot = slot
            else:
                tables.household.role_slot = slot
                self._bind_labels(&tables.household.role, slot, catalog.roles, indexed)
        tables.household.used = bool(found or by_kind[InputKind.HOUSEHOLD])

        self._bind_aggregates(by_kind[InputKind.AGGREGATE], schema, catalog)

        found = by_kind[InputKind.CONSENT]
        consents = <BoundConsent*> self._block(len(found), sizeof(BoundConsent))
        for i, (slot, read) in enumerate(found):
            consents[i].slot = slot
            consents[i].purpose = catalog.purpose(read.name)
        tables.consents = consents
        tables.consent_count = <uint32_t> len(found)

        found = by_kind[InputKind.CASE]
        cases = <BoundCase*> self._block(len(found), sizeof(BoundCase))
        for i, (slot, read) in enumerate(found):
            cases[i].slot = slot
            cases[i].kind = catalog.case_kind(read.name)
            cases[i].product = product_hash(read.product)
        tables.cases = cases
        tables.case_count = <uint32_t> len(found)
        if any([namespace.household for namespace in schema.namespaces.values()]):
            shared = [read for _, read in found if CaseScope.HOUSEHOLD in schema.case_rules.get(read.name, CaseRule()).scopes]
            tables.household.cases = bool(shared)
            tables.household.used = tables.household.used or tables.household.cases

    cdef _bind_attribute(self, BoundAttribute* bound, uint32_t slot, field, stored, indexed):
        bound.slot = slot
        bound.offset = stored.offset
        bound.storage = _STORAGE[field.type]
        bound.unit = 10.0 ** currency_exponent(field.currency)
        if field.type is ValueType.ENUM:
            self._bind_labels(bound, slot, stored.labels, indexed)

    cdef _bind_labels(self, BoundAttribute* bound, uint32_t slot, labels, indexed):
        """An enum's labels, or the roles, by code from 1; `indexed` are the texts of the index, by slot."""
        cdef Label* found
        texts = [b"", *(label.encode() for label in labels)]
        found = <Label*> self._block(len(texts), sizeof(Label))
        for code, text in enumerate(texts):
            self._label(&found[<size_t> code], text)
        bound.labels = found
        bound.slot = slot
        bound.storage = _STORAGE[ValueType.ENUM]
        index = indexed.get(slot)
        if index is not None:
            places = {text: row + 1 for row, text in enumerate(index.texts)}
            rows = [places.get(text, len(index.texts) + 1) for text in texts]
            bound.text_rows = <const uint32_t*> self._array(array("I", rows))
        bound.label_count = <uint32_t> len(texts)

    cdef const FilterTerm* _filter(self, where, event, stored) except NULL:
        """The terms of a filter over a type's events, as the catalog has their cells."""
        cdef FilterTerm* terms = <FilterTerm*> self._block(len(where), sizeof(FilterTerm))
        cdef Label* labels
        cdef uint32_t i
        fields = {field.name: field for field in event.fields}
        for i, wanted in enumerate(where):
            field = fields[wanted.field]
            literals = wanted.value if wanted.op == "in" else (wanted.value,)
            terms[i].cell = stored.field_names.index(wanted.field)
            terms[i].storage = _STORAGE[field.type]
            terms[i].op = _FILTER_OPS.get(wanted.op, FILTER_IN)
            terms[i].unit = 10.0 ** currency_exponent(field.currency)
            terms[i].count = <uint32_t> len(literals)
            if isinstance(literals[0], str):
                texts = [literal.encode() for literal in literals]
                labels = <Label*> self._block(len(texts), sizeof(Label))
                for place, text in enumerate(texts):
                    self._label(&labels[<size_t> place], text)
                terms[i].texts = labels
            elif isinstance(literals[0], float) or field.type in (ValueType.DOUBLE, ValueType.MONEY):
                terms[i].is_real = 1
                terms[i].reals = <const double*> self._array(array("d", literals))
            else:
                terms[i].numbers = <const int64_t*> self._array(array("q", literals))
        return terms

    def _bind_bands(self, source, edges):
        cdef Tables* tables = &self.tables
        cdef BoundBand* bands = <BoundBand*> self._block(len(source.bands), sizeof(BoundBand))
        cdef uint32_t i
        for i, (slot, number) in enumerate(source.bands):
            name = source.inputs[slot].name
            bands[i].slot = slot
            bands[i].expression = number
            bands[i].is_double = tables.code.kinds[<size_t> number] in (RESULT_DOUBLE, RESULT_MONEY)
            if name in edges:
                bands[i].edge_count = <uint32_t> len(edges[name])
                bands[i].edges = <const double*> self._array(array("d", edges[name]))
            else:
                # What an explanation says is missing: not the customer's value.
                self.slot_paths[slot] += " (no edges yet)"
        tables.bands = bands
        tables.band_count = <uint32_t> len(source.bands)

    def _bind_index(self, source):
        cdef Tables* tables = &self.tables
        cdef ThresholdList* lists = <ThresholdList*> self._block(len(source.thresholds), sizeof(ThresholdList))
        cdef TextIndex* texts = <TextIndex*> self._block(len(source.texts), sizeof(TextIndex))
        cdef PresenceIndex* presences = <PresenceIndex*> self._block(len(source.presences), sizeof(PresenceIndex))
        cdef Label* labels
        cdef uint32_t i
        for i, one in enumerate(source.thresholds):
            lists[i].slot = one.slot
            lists[i].is_double = one.is_double
            lists[i].flip = one.flip
            lists[i].count = <uint32_t> len(one.offers)
            lists[i].step = one.step
            lists[i].int_keys = <const int64_t*> self._array(one.int_keys)
            lists[i].double_keys = <const double*> self._array(one.double_keys)
            lists[i].offers = <const uint32_t*> self._array(one.offers)
            lists[i].checkpoints = self._checkpoints(&lists[i])
        for i, one in enumerate(source.texts):
            texts[i].slot = one.slot
            texts[i].is_bool = one.is_bool
            texts[i].count = <uint32_t> len(one.texts)
            labels = <Label*> self._block(len(one.texts), sizeof(Label))
            for row, text in enumerate(one.texts):
                self._label(&labels[<size_t> row], text)
            texts[i].texts = labels
            texts[i].passes = <const uint64_t*> self._array(one.passes)
        for i, one in enumerate(source.presences):
            presences[i].slot = one.slot
            presences[i].passes_missing = <const uint64_t*> self._array(one.passes_missing)
            if one.passes_present is not None:
                presences[i].passes_present = <const uint64_t*> self._array(one.passes_present)
        tables.thresholds = lists
        tables.threshold_count = <uint32_t> len(source.thresholds)
        tables.texts = texts
        tables.text_count = <uint32_t> len(source.texts)
        tables.presences = presences
        tables.presence_count = <uint32_t> len(source.presences)
        tables.conditions = <uint32_t> len(source.conditions)
        tables.condition_code = <const int32_t*> self._array(source.conditions)
        tables.residual_starts = <const uint32_t*> self._array(source.residual_starts)
        tables.residuals = <const uint32_t*> self._array(source.residuals)
        tables.residual_count = <uint32_t> len(source.residuals)

    cdef const uint64_t* _checkpoints(self, const ThresholdList* entries) except NULL:
        """The bitmaps of a list: each passes what the one before passes but the ``step`` entries between them."""
        cdef uint32_t words = self.tables.words
        cdef size_t count = entries.count // entries.step + 1
        cdef uint64_t* marks = <uint64_t*> self._block(count * words, sizeof(uint64_t))
        cdef uint64_t* mark = marks
        cdef uint32_t entry = 0, offer
        cdef size_t i
        for i in range(<size_t> (self.tables.offers // 64)):
            mark[i] = <uint64_t> -1
        if self.tables.offers % 64:
            mark[self.tables.offers // 64] = (<uint64_t> 1 << (self.tables.offers % 64)) - 1
        for i in range(1, count):
            memcpy(mark + words, mark, words * sizeof(uint64_t))
            mark += words
            while entry < i * entries.step:
                offer = entries.offers[entry]
                if offer >= self.tables.offers:
                    raise EngineFault(f"A threshold names offer {offer} of {self.tables.offers}.")
                mark[offer // 64] &= ~(<uint64_t> 1 << (offer % 64))
                entry += 1
        return marks

    def _bind_contact(self, source, catalog):
        cdef Tables* tables = &self.tables
        cdef CapRule* rules
        cdef SuppressionRule* pauses
        cdef uint32_t i, ring = 0
        cdef int64_t horizon = 0
        program = source.program
        groups = {name: index for index, name in enumerate(source.group_names)}
        offers = {name: index for index, name in enumerate(source.offer_names)}
        members = {name: [] for name in source.group_names}
        for index, offer in enumerate(program.offers):
            members[offer.group].append(index)

        caps = [(cap, -1, -1) for cap in program.caps]
        program_caps = list(range(len(caps)))
        group_caps = [[] for _ in groups]
        offer_caps = [[] for _ in offers]
        suppressions = []
        group_pauses = [[] for _ in groups]
        offer_pauses = [[] for _ in offers]
        for name, group in program.groups.items():
            for cap in group.caps:
                group_caps[groups[name]].append(len(caps))
                caps.append((cap, -1, groups[name]))
        for index, offer in enumerate(program.offers):
            for cap in offer.caps:
                offer_caps[index].append(len(caps))
                caps.append((cap, index, -1))
            for pause in offer.suppressions:
                offer_pauses[index].append(len(suppressions))
                suppressions.append((pause, index, -1))
        # Owners speak for related offers in name order, offers before groups; numbering them so makes the order the number.
        for name, group in program.groups.items():
            for pause in group.suppressions:
                group_pauses[groups[name]].append(len(suppressions))
                suppressions.append((pause, -1, groups[name]))

        rules = <CapRule*> self._block(len(caps), sizeof(CapRule))
        for i, (cap, offer_index, group_index) in enumerate(caps):
            rules[i].outcome = catalog.outcome(cap.outcome)
            rules[i].channel = catalog.channel(cap.channel) if cap.channel else 0
            rules[i].at_most = cap.at_most
            rules[i].per_us = cap.per_us
            rules[i].offer = offer_index
            rules[i].group = group_index
            rules[i].household = cap.household
            if cap.household:
                tables.household.used = tables.household.contacts = True
            horizon = max(horizon, <int64_t> cap.per_us)
        pauses = <SuppressionRule*> self._block(len(suppressions), sizeof(SuppressionRule))
        related = []
        for i, (pause, offer_index, group_index) in enumerate(suppressions):
            pauses[i].outcome = catalog.outcome(pause.outcome)
            pauses[i].times = pause.times
            pauses[i].within_us = pause.within_us
            pauses[i].pause_us = pause.pause_us
            pauses[i].offer = offer_index
            pauses[i].group = group_index
            pauses[i].ring = ring
            ring += pause.times
            named = {offers[name] for name in pause.related_offers}
            for name in pause.related_groups:
                named.update(members[name])
            pauses[i].related_start = <uint32_t> len(related)
            pauses[i].related_count = <uint32_t> len(named)
            related.extend(sorted(named))
            horizon = max(horizon, <int64_t> pause.within_us + <int64_t> pause.pause_us)

        def flat(lists):
            return array("I", chain.from_iterable(lists))

        self.cap_ids = [cap.id for cap, _, _ in caps]
        self.suppression_ids = [pause.id for pause, _, _ in suppressions]
        tables.caps = <uint32_t> len(caps)
        tables.suppressions = <uint32_t> len(suppressions)
        tables.ring_entries = ring
        tables.cap_rules = rules
        tables.suppression_rules = pauses
        tables.related = <const uint32_t*> self._array(array("I", related))
        tables.program_caps = <const uint32_t*> self._array(array("I", program_caps))
        tables.program_cap_count = <uint32_t> len(program_caps)
        tables.offer_cap_starts = <const uint32_t*> self._array(self._starts(offer_caps))
        tables.offer_caps = <const uint32_t*> self._array(flat(offer_caps))
        tables.group_cap_starts = <const uint32_t*> self._array(self._starts(group_caps))
        tables.group_caps = <const uint32_t*> self._array(flat(group_caps))
        tables.offer_suppression_starts = <const uint32_t*> self._array(self._starts(offer_pauses))
        tables.offer_suppressions = <const uint32_t*> self._array(flat(offer_pauses))
        tables.group_suppression_starts = <const uint32_t*> self._array(self._starts(group_pauses))
        tables.group_suppressions = <const uint32_t*> self._array(flat(group_pauses))
        tables.contact_horizon_us = horizon
        tables.own_contacts = bool(suppressions) or any([not cap.household for cap, _, _ in caps])
        named = {catalog.outcome(each.outcome) for each, _, _ in chain(caps, suppressions)}
        outcomes = bytearray(max(named, default=0) + 2)
        for number in named:
            outcomes[number] = 1
        tables.counted_outcomes = <const uint8_t*> self._array(bytes(outcomes).ljust(-(-len(outcomes) // 8) * 8, b"\0"))
        tables.counted_outcome_count = <uint32_t> len(outcomes) - 1

    def _bind_scores(self, source, models):
        cdef Tables* tables = &self.tables
        cdef ScoreTable* cards = <ScoreTable*> self._block(len(source.score_tables), sizeof(ScoreTable))
        cdef ModelTable* scored = <ModelTable*> self._block(len(source.model_tables), sizeof(ModelTable))
        cdef ModelColumn* columns
        cdef OfferTerms* terms
        cdef Runner runner
        cdef uint32_t i, j
        arbitration = source.program.arbitration
        for i, card in enumerate(source.score_tables):
            cards[i].feature_count = <uint32_t> len(card.features)
            cards[i].width = card.width
            cards[i].features = <const int32_t*> self._array(array("i", card.features))
            cards[i].missing = card.missing
            cards[i].weights = <const double*> self._array(card.weights)
            cards[i].intercepts = <const double*> self._array(card.intercepts)
        names = []
        for i, table in enumerate(source.model_tables):
            deployed = models.get(table.model)
            if deployed is None:
                raise NotFound("Model", table.model, "Deploy it first: rapport model deploy NAME FOLDER.")
            names.append(deployed.label)
            runner = deployed.runner
            scored[i].per_customer = table.per_customer
            scored[i].rows = table.rows
            scored[i].fallback = NAN if deployed.fallback is None else deployed.fallback
            columns = <ModelColumn*> self._block(len(table.columns), sizeof(ModelColumn))
            for j, numbers in enumerate(table.columns):
                column = table.binding.columns[j]
                columns[j].input = column.input
                is_text = tables.code.kinds[<size_t> numbers[0]] == RESULT_STRING
                if is_text != deployed.takes_text(column.input):
                    raise ModelError(
                        deployed.label,
                        f"{column.where}: '{column.text}' is {'text' if is_text else 'a number'}, and its input takes "
                        f"{'numbers' if is_text else 'text'}",
                        "Convert it: string(...) makes text, a comparison makes 0 or 1.",
                    )
                columns[j].position = column.position
                columns[j].is_text = is_text
                columns[j].per_row = len(numbers) > 1
                columns[j].expressions = <const int32_t*> self._array(array("i", numbers))
                columns[j].has_missing = column.missing is not None
                if isinstance(column.missing, str):
                    self._label(&columns[j].missing_text, column.missing.encode())
                elif column.missing is not None:
                    columns[j].missing = column.missing
            scored[i].columns = columns
            scored[i].column_count = <uint32_t> len(table.columns)
            scored[i].model = handle_hold(runner.handle)
            tables.model_tables = scored
            tables.model_table_count = i + 1
        self.model_names = tuple(names)
        self.models = tuple(sorted(set(names)))
        tables.score_tables = cards
        tables.score_table_count = <uint32_t> len(source.score_tables)
        terms = <OfferTerms*> self._block(tables.offers, sizeof(OfferTerms))
        for i in range(tables.offers):
            # Factors switched off are written as what they count for, so that scoring need not ask.
            terms[i].value = source.value_constant[i] if arbitration.use_value else 1.0
            terms[i].value_expression = source.value_expression[i] if arbitration.use_value else -1
            terms[i].context_percent = source.context_fixed[i] if arbitration.use_context_weight else 0.0
            terms[i].lever_percent = source.lever_fixed[i] if arbitration.use_levers else 0.0
            terms[i].context_factor = weight_factor(terms[i].context_percent)
            terms[i].lever_factor = weight_factor(terms[i].lever_percent)
            terms[i].propensity = source.propensity_constant[i] if arbitration.use_propensity else 1.0
            terms[i].kind = source.propensity_kind[i] if arbitration.use_propensity else 0
            terms[i].table = source.propensity_table[i]
            terms[i].row = source.propensity_row[i]
            terms[i].weighted = source.weight_starts[i] != source.weight_starts[i + 1]
        tables.terms = terms
        tables.one_card = arbitration.use_propensity and len(source.score_tables) == 1 and bool(
            all(kind == 1 for kind in source.propensity_kind)
        )
        tables.plain = source.formula < 0 and not any(
            terms[i].weighted or terms[i].value_expression >= 0 for i in range(tables.offers)
        )
        tables.formula = source.formula
        tables.use_propensity = arbitration.use_propensity
        tables.use_context = arbitration.use_context_weight
        tables.use_value = arbitration.use_value
        tables.use_levers = arbitration.use_levers
        tables.weight_starts = <const uint32_t*> self._array(source.weight_starts)
        tables.weight_percents = <const double*> self._array(source.weight_percents)
        tables.weight_conditions = <const int32_t*> self._array(source.weight_conditions)
        tables.weight_is_lever = <const uint8_t*> self._array(source.weight_is_lever)
        tables.repeats = arbitration.repeats
        tables.at_most_per_group = arbitration.at_most_per_group

    cdef _bind_screen(self):
        """Prepares what `core.kernel.pruning` bounds priorities with, where all offers differ by one scorecard and constants."""
        cdef Tables* tables = &self.tables
        cdef const ScoreTable* card = tables.score_tables
        cdef uint32_t i, j, features
        cdef size_t lanes = <size_t> tables.words * 64
        cdef double most, intercept_most = 0.0
        cdef double* steps
        cdef float* intercepts
        cdef float* logs
        cdef int8_t* weights
        tables.prune_from = max(<uint32_t> PRUNE_FROM, PRUNE_FROM_OF_A_WORD * tables.words)
        if not tables.one_card or not tables.plain or card.feature_count > SCREEN_FEATURES:
            return
        features = card.feature_count
        steps = <double*> self._block(features, sizeof(double))
        for j in range(features):
            most = 0.0
            for i in range(tables.offers):
                if not fabs(card.weights[<size_t> i * card.width + j]) <= most:
                    most = fabs(card.weights[<size_t> i * card.width + j])
            if most != 0.0 and not 1.0 / ORDINARY_MOST <= most <= ORDINARY_MOST:
                return
            steps[j] = most / 127.0
        intercepts = <float*> self._block(lanes, sizeof(float))
        logs = <float*> self._block(lanes, sizeof(float))
        weights = <int8_t*> self._block(lanes * features, sizeof(int8_t))
        for i in range(tables.offers):
            # All offers are in the one table, in their order: the row is the offer.
            assert tables.terms[i].row == i
            if not fabs(card.intercepts[i]) <= SPREAD_MOST:
                return
            intercept_most = max(intercept_most, fabs(card.intercepts[i]))
            intercepts[i] = <float> card.intercepts[i]
            logs[i] = <float> _log_of(&tables.terms[i])
            for j in range(features):
                if steps[j] != 0.0:
                    weights[(<size_t> (i // 64) * features + j) * 64 + i % 64] = <int8_t> rint(
                        card.weights[<size_t> i * card.width + j] / steps[j]
                    )
        tables.screen.intercepts = intercepts
        tables.screen.logs = logs
        tables.screen.steps = steps
        tables.screen.intercept_most = intercept_most
        tables.screen.weights = weights

    @property
    def prune_from(self):
        return self.tables.prune_from

    @prune_from.setter
    def prune_from(self, uint32_t offers):
        self.tables.prune_from = offers

    def _bind_answers(self, source, catalog):
        cdef Tables* tables = &self.tables
        cdef PriceRule* prices = <PriceRule*> self._block(len(source.prices), sizeof(PriceRule))
        cdef Adjustment* changes
        cdef TreatmentEntry* treatments = <TreatmentEntry*> self._block(len(source.treatments), sizeof(TreatmentEntry))
        cdef ContentField* fields
        cdef Piece* pieces
        cdef PlacementEntry* placements
        cdef uint32_t i, j, field_count, piece_count
        program = source.program
        changes = <Adjustment*> self._block(sum(len(found) for found in source.price_adjustments), sizeof(Adjustment))
        j = 0
        for i, price in enumerate(source.prices):
            prices[i].list = price.list
            prices[i].floor = INT64_MIN if price.floor is None else price.floor
            prices[i].ceiling = INT64_MAX if price.ceiling is None else price.ceiling
            prices[i].increment = price.increment
            prices[i].ending = price.ending
            prices[i].rounding = _ROUNDING[price.rounding]
            prices[i].personal = bool(price.basis)
            prices[i].adjustment_start = j
            for condition, percent, amount in source.price_adjustments[i]:
                changes[j].condition = condition
                changes[j].percent = percent
                changes[j].amount = amount
                j += 1
            prices[i].adjustment_count = j - prices[i].adjustment_start
        tables.price_index = <const int32_t*> self._array(source.price_index)
        tables.prices = prices
        tables.adjustments = changes

        field_count = sum(len(found) for found in source.treatments)
        piece_count = sum(len(parts) for found in source.treatments for _, parts in found)
        fields = <ContentField*> self._block(field_count, sizeof(ContentField))
        pieces = <Piece*> self._block(piece_count, sizeof(Piece))
        names = {}
        field_count = piece_count = 0
        for i, found in enumerate(source.treatments):
            treatments[i].field_start = field_count
            treatments[i].field_count = <uint32_t> len(found)
            for name, parts in found:
                fields[field_count].name = names.setdefault(name, len(names))
                fields[field_count].piece_start = piece_count
                fields[field_count].piece_count = <uint32_t> len(parts)
                field_count += 1
                for part in parts:
                    pieces[piece_count].expression = -1
                    if isinstance(part, bytes):
                        self._keep.append(part)
                        pieces[piece_count].text = <const char*> <bytes> part
                        pieces[piece_count].length = <uint32_t> len(part)
                    else:
                        pieces[piece_count].expression = part
                    piece_count += 1
        self.field_names = list(names)
        tables.treatments = treatments
        tables.fields = fields
        tables.pieces = pieces

        placements = <PlacementEntry*> self._block(len(source.placement_names), sizeof(PlacementEntry))
        channels = {name: index for index, name in enumerate(program.channels)}
        masks, rows = self._array(source.placement_masks), self._array(source.treatment_of)
        for i, name in enumerate(source.placement_names):
            placement = program.placements[name]
            placements[i].mask = <const uint64_t*> <size_t> (masks + <size_t> i * tables.words * sizeof(uint64_t))
            placements[i].treatments = <const int32_t*> <size_t> (rows + <size_t> i * tables.offers * sizeof(int32_t))
            placements[i].slots = placement.slots
            placements[i].at_most_per_group = placement.at_most_per_group
            placements[i].channel = channels[placement.channel]
            placements[i].content_type = _CONTENT[placement.content_type]
            placements[i].empty = True
            for j in range(tables.words):
                if placements[i].mask[j]:
                    placements[i].empty = False
        self.placement_rows = {name: row for row, name in enumerate(source.placement_names)}
        tables.placements = placements
        tables.placement_count = <uint32_t> len(source.placement_names)

    def _bind_reasons(self, source):
        cdef Tables* tables = &self.tables
        cdef OfferDates* dates = <OfferDates*> self._block(tables.offers, sizeof(OfferDates))
        cdef uint64_t* masks
        cdef uint32_t i, j
        program = source.program
        slots = {
            read: slot for slot, read in enumerate(source.inputs) if read.kind in (InputKind.CONSENT, InputKind.CASE)
        }
        consents = array("i", [-1]) * tables.offers
        cases = []
        for i, offer in enumerate(program.offers):
            group = program.groups[offer.group]
            dates[i].from_us = INT64_MIN if offer.schedule_from_us is None else offer.schedule_from_us
            dates[i].until_us = INT64_MAX if offer.schedule_until_us is None else offer.schedule_until_us
            dates[i].stopped = offer.stopped
            purpose = offer.consent or group.consent
            if purpose:
                consents[i] = slots[consent_input(purpose)]
            cases.append([slots[read] for read in case_inputs(group, offer)])
        masks = <uint64_t*> self._block(len(program.channels) * tables.words, sizeof(uint64_t))
        for i in range(tables.placement_count):
            for j in range(tables.words):
                masks[<size_t> tables.placements[i].channel * tables.words + j] |= tables.placements[i].mask[j]
        self.rules = source.rules
        self.group_rules = source.group_rules
        self.offer_rules = source.offer_rules
        tables.dates = dates
        tables.channel_masks = masks
        tables.group_rules = self._rule_entries(source.group_rules)
        tables.group_rule_starts = <const uint32_t*> self._array(self._starts(source.group_rules))
        tables.offer_rules = self._rule_entries(source.offer_rules)
        tables.offer_rule_starts = <const uint32_t*> self._array(self._starts(source.offer_rules))
        tables.consent_slot = <const int32_t*> self._array(consents)
        tables.case_slot_starts = <const uint32_t*> self._array(self._starts(cases))
        tables.case_slots = <const uint32_t*> self._array(
            array("I", chain.from_iterable(cases))
        )

    cdef const RuleEntry* _rule_entries(self, lists) except NULL:
        cdef RuleEntry* entries = <RuleEntry*> self._block(sum(len(found) for found in lists), sizeof(RuleEntry))
        cdef size_t i = 0
        for found in lists:
            for layer, rule in found:
                entries[i].layer = layer
                entries[i].rule = rule
                entries[i].expression = self.rules[rule][1]
                i += 1
        return entries
