"""The one deterministic function from mutations to writes; see apply.pxd for the rules it keeps.

Changes of one mutation are collected in dictionaries and written when its handler has returned, so a refused mutation
leaves its neighbours in the transaction alone, without the cost of nested transactions. Only a failing write (map
full, disk error) spoils the transaction; the committer then undoes it and applies its mutations one by one.

Namespace number 0 is the store's own: its keys are ids of customers who were joined into another.
"""

from libc.math cimport isfinite
from libc.stdint cimport INT64_MIN, uint32_t
from libc.string cimport memcpy, memset

import struct

import msgspec

from core.hub.buffer cimport buffer_append, buffer_free, buffer_reserve
from core.hub.contacts cimport (
    CONTACT_BYTES, MERGED_COUNTED, MERGED_DUPLICATE, MERGED_PAST, ContactEntry, ContactList, contacts_merge, contacts_open,
)
from core.hub.lmdb cimport MDB_APPEND, MDB_NOTFOUND
from core.hub.record cimport (
    VALUE_BOOL, VALUE_DOUBLE, VALUE_ENUM, VALUE_INT, VALUE_MONEY, VALUE_SET, VALUE_TIMESTAMP,
    RecordView, builder_add_case, builder_add_identifier, builder_begin, builder_fill_from, builder_finish,
    builder_free, builder_set_consent, builder_touch, damaged, rapport_siphash, record_open, refused, set_value,
)

from core import limits
from core.errors import (
    BadValue, EngineFault, IdentityConflict, NotFound, NotUndoable, RapportError, SourceNotAllowed, TooLarge, UnknownName,
)
from core.hub import catalog as catalogs
from core.hub import merges, mutations, sources
from core.hub.catalog import name_of
from core.hub.identifiers import normalised
from core.hub.mutations import (
    ActivateProgram, CloseCase, CustomerResult, DeclareSchema, EventsResult, Join, JoinResult, OpenCase, OutcomeStatus,
    RecordEvents, RecordOutcomes, SaveProgram, SetConsent, Unmerge, UnmergeResult, Upsert,
)
from core.hub.record import KINDS, Record
from core.hub.saved import ACTIVE, ActiveProgram, SavedProgram, image_key, program_key, sources_key
from core.schema import Money, ValueType


LETTERS = {
    ValueType.BOOL: "b", ValueType.INT: "i", ValueType.DOUBLE: "f", ValueType.MONEY: "i", ValueType.TIMESTAMP: "i",
    ValueType.ENUM: "t", ValueType.STRING: "t",
}

_handlers = {}
# How an import's rows, whose own handler writes beside the tables of changes, are applied again inside an undo.
_again = {}

_STATUSES = {
    MERGED_COUNTED: OutcomeStatus.APPLIED, MERGED_DUPLICATE: OutcomeStatus.DUPLICATE, MERGED_PAST: OutcomeStatus.TOO_OLD,
}


def register(mutation_type, function, again=None) -> None:
    """Apply this kind of mutation with `function(applier, mutation)`; makes it decodable as well.

    `again` applies it inside another's handler, where `function` writes to the transaction itself.
    """
    if again is not None:
        _again[mutation_type] = again
    known = _handlers.get(mutation_type, function)
    if known is not function:
        raise EngineFault(f"{mutation_type.__name__} has a handler already")
    mutations.register(mutation_type)
    _handlers[mutation_type] = function


def checked(str path, int kind, value, entry, codes):
    """The value as the record holds it; BadValue, naming `path`, when it is not one of the attribute's.

    `codes` maps an enum's labels to what is stored for them.
    """
    if value is None:
        return None
    if kind == VALUE_BOOL:
        if isinstance(value, bool):
            return value
        raise BadValue(path, f"{value!r} is not true or false")
    if kind == VALUE_INT:
        if not isinstance(value, int) or isinstance(value, bool):
            raise BadValue(path, f"{value!r} is not an integer")
        if -0x8000_0000_0000_0000 < value <= 0x7FFF_FFFF_FFFF_FFFF:
            return value
        raise BadValue(path, f"{value} is outside 64 bits")
    if kind == VALUE_TIMESTAMP:
        check_time(path, value)
        return value
    if kind == VALUE_DOUBLE:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            try:
                real = float(value)
            except OverflowError:
                real = float("inf")
            if isfinite(real):
                return real
            raise BadValue(path, f"{value!r} is not a finite number", "Leave it out when it is not known.")
        raise BadValue(path, f"{value!r} is not a number")
    if kind == VALUE_MONEY:
        if not isinstance(value, Money):
            raise BadValue(path, f"{value!r} is not an amount of money", f"Give minor units in {entry.currency}.")
        if not value.currency:
            raise BadValue(path, "it has no currency", f"It is declared in {entry.currency}.")
        if value.currency != entry.currency:
            raise BadValue(path, f"its currency is {value.currency}; the attribute's is {entry.currency}",
                           "Convert it first, or declare another attribute.")
        if -0x8000_0000_0000_0000 < value.minor <= 0x7FFF_FFFF_FFFF_FFFF:
            return value.minor
        raise BadValue(path, f"{value.minor} minor units are outside 64 bits")
    if kind == VALUE_SET:
        if not isinstance(value, (frozenset, set)):
            raise BadValue(path, f"{value!r} is not a set of texts")
        for member in value:
            text_bytes(path, member)
        return value
    if kind == VALUE_ENUM:
        if not isinstance(value, str):
            raise BadValue(path, f"{value!r} is not a label")
        code = codes.get(value)
        if code is None:
            raise UnknownName("label", value, codes, path, path)
        return code
    text_bytes(path, value)
    return value


cdef bytes text_bytes(str path, value):
    if not isinstance(value, str):
        raise BadValue(path, f"{value!r} is not a text")
    try:
        raw = value.encode()
    except UnicodeEncodeError:
        raise BadValue(path, "it holds half of a surrogate pair", "Send it as UTF-8.") from None
    if len(raw) > limits.STRING_BYTES:
        raise TooLarge(f"{path}: bytes", len(raw), limits.STRING_BYTES, field=path)
    return raw


cdef uint64_t hashed(str what, str key) except? 0:
    """The stored form of an idempotency key."""
    cdef bytes raw = text_bytes(what, key)
    cdef const char* start = raw
    if not raw:
        raise BadValue(what, "it is empty", "Give a key, so that sending it again counts once.")
    return rapport_siphash(<const uint8_t*>start, len(raw))


cdef int check_time(str what, at_us) except -1:
    """Times far outside history are mistakes of unit, and would make windows overflow."""
    if not isinstance(at_us, int) or isinstance(at_us, bool) or not -62_135_596_800_000_000 <= at_us <= 253_402_300_799_999_999:
        raise BadValue(what, f"{at_us!r} is not a time between the years 1 and 9999",
                       "Give microseconds since 1970-01-01T00:00:00Z.")
    return 0


cdef bytes joined_key(uint64_t customer):
    """Key under which a joined customer's id leads to the survivor."""
    return b"\x00\x00" + struct.pack(">Q", customer)


cdef class Applier:
    """Applies mutations: `begin`, `apply` for each, then `commit` or `abort`. For one thread."""

    def __cinit__(self, Environment environment not None):
        memset(&self.builder, 0, sizeof(RecordBuilder))
        memset(&self.entries, 0, sizeof(Buffer))
        memset(&self.flags, 0, sizeof(Buffer))
        memset(&self.merged, 0, sizeof(Buffer))
        self.environment = environment
        self.packer = Packer()
        self.records = {}
        self.contacts = {}
        self.events = {}
        self.origins = {}
        self.identifiers = {}
        self.programs = {}
        self.metas = {}
        self.undoable = {}
        self.changed_stacks = {}
        self.uncommitted_stacks = {}
        self.touched = {}
        with environment.reader() as reader:
            self.set_catalog(catalogs.loaded(reader.items("catalog")))
            self.applied = msgspec.msgpack.decode(reader.get("meta", b"applied") or b"\x00", type=int)
            self.next_customer = msgspec.msgpack.decode(reader.get("meta", b"next_customer") or b"\x01", type=int)
            for key, value in reader.items("meta", merges.PREFIX):
                if not key.startswith(merges.PREFIX):
                    break
                survivor, merge, number = merges.parts(key)
                stack = self.undoable.get(survivor, merges.Stack(()))
                if number == 0:
                    before = msgspec.msgpack.decode(value, type=merges.Before)
                    stack = merges.Stack((*stack.joins, (merge, before.at_us)))
                else:
                    stack = merges.Stack(stack.joins, number)
                self.undoable[survivor] = stack
        self.committed = (self.catalog, self.layout, self.applied, self.next_customer)

    def __dealloc__(self):
        builder_free(&self.builder)
        buffer_free(&self.entries)
        buffer_free(&self.flags)
        buffer_free(&self.merged)

    cdef int set_catalog(self, object catalog) except -1:
        self.catalog = catalog
        self.layout = catalog.layout()
        self.setters = {
            name: (
                entry.offset, KINDS[entry.type], entry,
                {label: code for code, label in enumerate(entry.labels, 1)}, f"attributes['{name}']",
            )
            for name, entry in catalog.attributes.items()
        }
        self.event_kinds = {
            name: (
                entry.number,
                tuple([
                    (
                        field, LETTERS[field.type], KINDS[field.type], f"fields['{field.name}']",
                        {label: label for label in field.labels},
                    )
                    for field in entry.fields
                ]),
            )
            for name, entry in catalog.events.items()
        }
        return 0

    # --- the transaction

    def begin(self) -> None:
        """Begin a transaction."""
        self.poisoned = False
        self.writing = False
        self.transaction = self.environment.begin()

    def apply(self, mutation):
        """Apply one mutation and return its result. When it raises and `poisoned` is false, nothing was changed."""
        handler = _handlers.get(type(mutation))
        if handler is None:
            raise EngineFault(f"no handler for {type(mutation).__name__}")
        before = self.catalog, self.layout, self.setters, self.event_kinds
        self.first_new = self.next_customer
        self.writing = False
        try:
            result = handler(self, mutation)
            self.remember(mutation)
            self.writing = True
            self.flush()
        except BaseException:
            self.poisoned = self.writing
            self.next_customer = self.first_new
            self.catalog, self.layout, self.setters, self.event_kinds = before
            self.restore_stacks(self.changed_stacks)
            raise
        finally:
            self.records.clear()
            self.contacts.clear()
            self.events.clear()
            self.origins.clear()
            self.identifiers.clear()
            self.programs.clear()
            self.metas.clear()
            self.touched.clear()
        for customer, stack in self.changed_stacks.items():
            self.uncommitted_stacks.setdefault(customer, stack)
        self.changed_stacks.clear()
        self.writing = False
        self.applied += 1
        return result

    def commit(self) -> None:
        """Make everything applied durable, with the sequence number it reached."""
        try:
            if self.catalog is not self.committed[0]:
                for key, value in self.catalog.stored(self.committed[0]).items():
                    self.transaction.put(
                        self.environment.handles.catalog, <const char*>key, len(key), <const char*>value, len(value), 0
                    )
            self.put_meta(b"applied", self.applied)
            if self.next_customer != self.committed[3]:
                self.put_meta(b"next_customer", self.next_customer)
            self.transaction.commit()
        except BaseException:
            self.abort()
            raise
        self.transaction = None
        self.uncommitted_stacks.clear()
        self.committed = (self.catalog, self.layout, self.applied, self.next_customer)

    def abort(self) -> None:
        """Undo the transaction and everything applied in it."""
        if self.transaction is not None:
            self.transaction.abort()
            self.transaction = None
        self.restore_stacks(self.uncommitted_stacks)
        catalog, self.layout, self.applied, self.next_customer = self.committed
        if catalog is not self.catalog:
            self.set_catalog(catalog)
        self.poisoned = False

    cdef int put_meta(self, bytes key, object value) except -1:
        cdef bytes data = msgspec.msgpack.encode(value)
        return self.transaction.put(
            self.environment.handles.meta, <const char*>key, len(key), <const char*>data, len(data), 0)

    cdef int flush(self) except -1:
        """Write the changes collected. New customers have the highest ids, so they are appended."""
        cdef Transaction txn = self.transaction
        cdef uint64_t customer
        cdef bytes data, key
        for customer, value in self.records.items():
            if value is None:
                txn.delete(self.environment.handles.profiles, &customer, 8)
            else:
                data = value
                txn.put(self.environment.handles.profiles, &customer, 8, <const char*>data, len(data),
                        MDB_APPEND if customer >= self.first_new else 0)
        for customer, value in self.contacts.items():
            if value is None:
                txn.delete(self.environment.handles.contacts, &customer, 8)
            else:
                data = value
                txn.put(self.environment.handles.contacts, &customer, 8, <const char*>data, len(data), 0)
        for customer, value in self.events.items():
            if value is None:
                txn.delete(self.environment.handles.events, &customer, 8)
            else:
                data = value
                txn.put(self.environment.handles.events, &customer, 8, <const char*>data, len(data), 0)
        for customer, value in self.origins.items():
            if value is None:
                txn.delete(self.environment.handles.origins, &customer, 8)
            else:
                data = value
                txn.put(self.environment.handles.origins, &customer, 8, <const char*>data, len(data), 0)
        for key, customer in self.identifiers.items():
            if customer == 0:
                txn.delete(self.environment.handles.identifiers, <const char*>key, len(key))
            else:
                txn.put(self.environment.handles.identifiers, <const char*>key, len(key), &customer, 8, 0)
        for key, value in self.metas.items():
            if value is None:
                txn.delete(self.environment.handles.meta, <const char*>key, len(key))
            else:
                data = value
                txn.put(self.environment.handles.meta, <const char*>key, len(key), <const char*>data, len(data), 0)
        for key, data in self.programs.items():
            txn.put(self.environment.handles.programs, <const char*>key, len(key), <const char*>data, len(data), 0)
        return 0

    # --- joins that can be undone

    cdef int set_stack(self, uint64_t customer, object stack) except -1:
        self.changed_stacks.setdefault(customer, self.undoable.get(customer))
        if stack is None:
            self.undoable.pop(customer, None)
        else:
            self.undoable[customer] = stack
        return 0

    def restore_stacks(self, before) -> None:
        """Put `undoable` back to what `before` says, and forget that."""
        for customer, stack in before.items():
            if stack is None:
                self.undoable.pop(customer, None)
            else:
                self.undoable[customer] = stack
        before.clear()

    cdef int remember(self, object mutation) except -1:
        if self.undoable and self.touched:
            for customer, places in self.touched.items():
                stack = self.undoable.get(customer)
                if stack is None:
                    continue
                message = mutation
                if isinstance(mutation, Join):
                    # Applied again it would join them again. What it did was to add identifiers.
                    message = Upsert(identifiers=mutation.identifiers, at_us=mutation.at_us)
                elif places is not None:
                    message = RecordOutcomes(outcomes=tuple([mutation.outcomes[place] for place in places]))
                self.remember_one(customer, message)
        self.touched.clear()
        return 0

    def remember_one(self, customer, message) -> None:
        """Keep a message for an undoable survivor whom it concerned."""
        stack = self.undoable[customer]
        at_us = getattr(message, "at_us", None)
        past = at_us is not None and at_us - stack.joins[len(stack.joins) - 1][1] > limits.UNDO_US
        if past or stack.messages >= limits.MERGE_MESSAGES:
            self.finalise(customer)
            return
        number = stack.messages + 1
        self.metas[merges.key(customer, stack.joins[len(stack.joins) - 1][0], number)] = mutations.encode(message)
        self.set_stack(customer, merges.Stack(stack.joins, number))

    cdef int finalise(self, uint64_t customer) except -1:
        stack = self.undoable.get(customer)
        if stack is not None:
            for merge, _ in stack.joins:
                self.forget(customer, merge)
            self.set_stack(customer, None)
        return 0

    def forget(self, customer, merge) -> int:
        """Delete what is kept of a join; how many messages there were."""
        number = 0
        while True:
            key = merges.key(customer, merge, number)
            if key in self.metas:
                if self.metas[key] is None:
                    break
            elif self.stored(self.environment.handles.meta, key) is None:
                break
            self.metas[key] = None
            number += 1
        return number - 1

    def kept(self, key):
        """A value of `meta` as the mutation at hand sees it, or None."""
        return self.metas[key] if key in self.metas else self.stored(self.environment.handles.meta, key)

    def image(self, customer):
        """A customer as he is."""
        return merges.Image(
            customer, self.record(customer), self.contact_list(customer), self.event_list(customer),
            self.origin_list(customer))

    # --- what handlers read

    cdef uint64_t new_customer(self) noexcept:
        self.next_customer += 1
        return self.next_customer - 1

    cdef void direct(self) noexcept:
        self.writing = True

    cdef object stored(self, unsigned int database, bytes key):
        """A copy of the value in the transaction, or None."""
        cdef const uint8_t* data
        cdef size_t size
        if self.transaction.get(database, <const char*>key, len(key), &data, &size) == MDB_NOTFOUND:
            return None
        return data[:size]

    cdef bytes record(self, uint64_t customer):
        """A customer's record, or None."""
        cdef const uint8_t* data
        cdef size_t size
        if customer in self.records:
            return self.records[customer]
        if self.transaction.get(self.environment.handles.profiles, &customer, 8, &data, &size) == MDB_NOTFOUND:
            return None
        return data[:size]

    cdef bytes contact_list(self, uint64_t customer):
        """A customer's contacts, or None."""
        cdef const uint8_t* data
        cdef size_t size
        if customer in self.contacts:
            return self.contacts[customer]
        if self.transaction.get(self.environment.handles.contacts, &customer, 8, &data, &size) == MDB_NOTFOUND:
            return None
        return data[:size]

    cdef bytes event_list(self, uint64_t customer):
        """A customer's events, or None."""
        cdef const uint8_t* data
        cdef size_t size
        if customer in self.events:
            return self.events[customer]
        if self.transaction.get(self.environment.handles.events, &customer, 8, &data, &size) == MDB_NOTFOUND:
            return None
        return data[:size]

    cdef bytes origin_list(self, uint64_t customer):
        """What sources say of a customer, or None."""
        cdef const uint8_t* data
        cdef size_t size
        if customer in self.origins:
            return self.origins[customer]
        if self.transaction.get(self.environment.handles.origins, &customer, 8, &data, &size) == MDB_NOTFOUND:
            return None
        return data[:size]

    cdef int settle(self, uint64_t customer, str source, int64_t at, list given, dict sourced) except -1:
        cdef bytes stored = self.origin_list(customer)
        cdef bytes existing = self.record(customer)
        cdef uint32_t offset
        cdef int kind
        number = self.catalog.sources.get(source, 0)
        said = sources.decode(stored, customer)
        for setter, value in given:
            offset, kind, entry, _, _ = setter
            if number not in entry.sources:
                raise SourceNotAllowed(
                    entry.name, source, [name_of(self.catalog.sources, each, "source") for each in entry.sources])
            if entry.number not in said and existing is not None:
                # What the attribute had before it got sources, or the first of them spoke.
                record = Record(existing, f"Customer {customer}'s record")
                sources.found(said, entry.number, record.updated_us, record.value(entry.offset, entry.type))
            if sources.note(said, entry.number, number, at, value):
                effective = sources.effective(entry, said[entry.number])
                self.answer(set_value(&self.builder, offset, kind, effective), customer)
        built = sources.encode(said)
        if built != stored:
            sourced[customer] = built
        return 0

    cdef uint64_t lookup(self, bytes key) except? 0:
        """The customer of an identifier's key; 0 when unknown."""
        cdef const uint8_t* data
        cdef size_t size
        cdef uint64_t customer
        known = self.identifiers.get(key)
        if known is not None:
            return known
        if self.transaction.get(
            self.environment.handles.identifiers, <const char*>key, len(key), &data, &size
        ) == MDB_NOTFOUND or size != 8:
            return 0
        memcpy(&customer, data, 8)
        return customer

    def survivor(self, uint64_t customer) -> int:
        """The customer this id leads to, through joins; 0 when there is none."""
        cdef uint64_t following = customer
        while following:
            if self.record(following) is not None:
                return following
            following = self.lookup(joined_key(following))
        return 0

    def resolve(self, given):
        """(customer or 0, [(trust, key, namespace number, value bytes, customer or 0)]) of a request's identifiers.

        The most trusted known one wins; among equals the first given.
        """
        cdef uint64_t best = 0
        cdef uint64_t customer
        cdef bytes value, key
        cdef int number
        if not given:
            raise BadValue("identifiers", "there is none", "Name the customer by at least one identifier.")
        if len(given) > limits.IDENTIFIERS_PER_REQUEST:
            raise TooLarge("identifiers", len(given), limits.IDENTIFIERS_PER_REQUEST, field="identifiers")
        best_trust = 0
        found = []
        for place, identifier in enumerate(given):
            try:
                entry = self.catalog.namespace_entry(identifier.namespace)
                value = normalised(entry.normaliser, identifier.value, entry.name)
            except (UnknownName, BadValue, TooLarge) as error:
                raise error.under(f"identifiers[{place}]") from None
            number = entry.number
            key = struct.pack(">H", number) + value
            customer = self.lookup(key)
            trust = entry.trust
            found.append((trust, key, number, value, customer))
            if customer and (best == 0 or trust > best_trust):
                best = customer
                best_trust = trust
        return best, found

    # --- the record at hand

    cdef int answer(self, int refusal, uint64_t customer) except -1:
        if refusal:
            raise refused(refusal, f"Customer {customer}")
        return 0

    cdef int begin_record(self, uint64_t customer) except -1:
        """Begin the builder from the stored record, or empty."""
        cdef bytes existing = self.record(customer)
        if existing is None:
            return self.answer(builder_begin(&self.builder, &self.layout.layout, customer, NULL, 0), customer)
        return self.answer(
            builder_begin(
                &self.builder, &self.layout.layout, customer, <const uint8_t*><const char*>existing, len(existing)
            ),
            customer,
        )

    cdef int finish_record(self, uint64_t customer) except -1:
        """Keep the built record among the changes, unless it equals the stored one."""
        cdef const uint8_t* data
        cdef size_t size
        self.answer(builder_finish(&self.builder, &data, &size), customer)
        built = data[:size]
        if built != self.record(customer):
            self.records[customer] = built
        return 0

    def adopt(self, uint64_t customer, found, bint claimed=False) -> None:
        """Give the customer in the builder those identifiers that nobody has.

        What is only `claimed`, in news or a report, gives none of a namespace with verified claims, and none at all to a
        customer known only by such a claim: whoever knows a neighbour's address must not thereby become him. A new
        customer gets one such if there is nothing else, for he would be lost.
        """
        cdef bytes value, key
        cdef uint16_t number
        if claimed:
            verified = {entry.number for entry in self.catalog.namespaces.values() if entry.verified}
            if verified:
                plain = [row for row in found if row[2] not in verified]
                if not self.builder.identifier_count:
                    found = plain or found[:1]
                elif any([row[4] == customer for row in plain]):
                    found = plain
                else:
                    found = []
        for _, key, number, value, owner in found:
            if owner:
                continue
            self.answer(
                builder_add_identifier(&self.builder, number, <const uint8_t*><const char*>value, len(value)), customer
            )
            self.identifiers[key] = customer

    def opened(self, given, at_us, bint claimed=False):
        """(customer, created): the customer of these identifiers, in the builder, made when none is known."""
        cdef uint64_t customer
        best, found = self.resolve(given)
        customer = best if best else self.new_customer()
        self.begin_record(customer)
        self.adopt(customer, found, claimed)
        self.touched.setdefault(customer, None)
        builder_touch(&self.builder, at_us)
        return customer, not best


# --- one handler a mutation ----------------------------------------------------------------------------------


def _declare_schema(Applier applier, mutation):
    grown = applier.catalog.declared(mutation.schema, mutation.offers, mutation.channels)
    if grown is not applier.catalog:
        applier.set_catalog(grown)
    return grown


cdef int source_number(Applier applier, str source) except -1:
    """The source's number, given now when it is new; 0 without one."""
    grown = applier.catalog.with_source(source)
    if grown is not applier.catalog:
        applier.set_catalog(grown)
    return grown.sources[source] if source else 0


def _upsert(Applier applier, mutation):
    cdef uint64_t customer
    cdef uint32_t offset
    cdef int kind
    check_time("at", mutation.at_us)
    # The source is not numbered here: declared ones are, and numbers given to whatever callers send would run out.
    customer, created = applier.opened(mutation.identifiers, mutation.at_us)
    sourced = []
    for name, value in mutation.attributes.items():
        setter = applier.setters.get(name)
        if setter is None:
            raise UnknownName("attribute", name, applier.setters, field=f"attributes['{name}']")
        offset, kind, entry, codes, path = setter
        value = checked(path, kind, value, entry, codes)
        if entry.sources:
            sourced.append((setter, value))
            continue
        applier.answer(set_value(&applier.builder, offset, kind, value), customer)
    if sourced:
        applier.settle(customer, mutation.source, mutation.at_us, sourced, applier.origins)
    applier.finish_record(customer)
    return CustomerResult(customer, created)


cdef int _pack_event(Applier applier, event) except -1:
    """Adds an event to the packer; errors name its parts."""
    check_time("at", event.at_us)
    described = applier.event_kinds.get(event.type)
    if described is None:
        raise UnknownName("event type", event.type, applier.event_kinds, field="type")
    number, fields = described
    given = event.fields
    cells = []
    used = 0
    for field, letter, kind, path, codes in fields:
        value = given.get(field.name)
        if value is not None or field.name in given:
            used += 1
        cells.append((letter, checked(path, kind, value, field, codes)))
    if used != len(given):
        known = [row[0].name for row in fields]
        name = next(name for name in given if name not in known)
        raise UnknownName("field", name, known, f"event '{event.type}'", f"fields['{name}']")
    applier.packer.pack(number, event.at_us, hashed("key", event.key), cells)
    return 0


def _record_events(Applier applier, mutation):
    cdef uint64_t customer
    if not mutation.events:
        raise BadValue("events", "there is none")
    if len(mutation.events) > limits.EVENTS_PER_CUSTOMER:
        raise TooLarge("events", len(mutation.events), limits.EVENTS_PER_CUSTOMER)
    applier.packer.clear()
    for place, event in enumerate(mutation.events):
        try:
            _pack_event(applier, event)
        except (UnknownName, BadValue, TooLarge) as error:
            raise error.under(f"events[{place}]") from None
    customer, created = applier.opened(mutation.identifiers, INT64_MIN, True)
    stored = applier.event_list(customer)
    merged, counted = applier.packer.merge(stored, f"Customer {customer}'s event list")
    if merged != stored:
        applier.events[customer] = merged
    for event, became in zip(mutation.events, counted, strict=True):
        if became != MERGED_PAST:
            builder_touch(&applier.builder, event.at_us)
    applier.finish_record(customer)
    return EventsResult(
        customer, created, tuple([became == MERGED_COUNTED for became in counted]), counted.count(MERGED_PAST))


def _record_outcomes(Applier applier, mutation):
    """Contacts are merged a customer at a time, since a batch is mostly one customer's page."""
    cdef uint64_t customer
    cdef ContactEntry entry
    cdef bytes raw, stored
    cdef const uint8_t* start
    cdef size_t size
    cdef int code
    cdef uint32_t count
    cdef object dedup
    statuses = [OutcomeStatus.UNKNOWN_CUSTOMER] * len(mutation.outcomes)
    by_customer = {}
    for position, outcome in enumerate(mutation.outcomes):
        check_time(f"outcome {outcome.outcome}: at", outcome.at_us)
        offer = applier.catalog.offer(outcome.offer)
        kind = applier.catalog.outcome(outcome.outcome)
        channel = applier.catalog.channel(outcome.channel) if outcome.channel else 0
        if not outcome.instance and not outcome.key:
            raise BadValue(f"outcome {outcome.outcome}: key", "there is neither an instance nor a key",
                           "Send the token, or a key, so that sending it again counts once.")
        if outcome.customer:
            customer = applier.survivor(outcome.customer)
            if not customer:
                continue
        elif outcome.identifiers:
            customer, _ = applier.opened(outcome.identifiers, outcome.at_us, True)
            applier.finish_record(customer)
        else:
            continue
        raw = struct.pack("<QH", outcome.instance, kind) + text_bytes("outcome: key", outcome.key)
        dedup = rapport_siphash(<const uint8_t*><const char*>raw, len(raw))
        if applier.touched.get(customer) is None:
            applier.touched[customer] = []
        applier.touched[customer].append(position)
        by_customer.setdefault(customer, []).append(
            (position, outcome.at_us, dedup, outcome.instance, outcome.value_minor, offer, kind, channel))
    for customer, rows in by_customer.items():
        applier.entries.size = 0
        count = <uint32_t>len(rows)
        for _, at, dedup, instance, value, offer, kind, channel in rows:
            entry.at = at
            entry.dedup = dedup
            entry.instance = instance
            entry.value = value
            entry.offer = offer
            entry.outcome = kind
            entry.channel = channel
            if buffer_append(&applier.entries, &entry, CONTACT_BYTES):
                raise MemoryError
        applier.flags.size = 0
        if buffer_reserve(&applier.flags, count):
            raise MemoryError
        stored = applier.contact_list(customer)
        start = NULL
        size = 0
        if stored is not None:
            start = <const uint8_t*><const char*>stored
            size = len(stored)
        code = contacts_merge(
            start, size, <ContactEntry*>applier.entries.data, count, applier.flags.data, &applier.merged)
        if code < 0:
            raise MemoryError
        if code:
            raise damaged(code, f"Customer {customer}'s contact history")
        merged = applier.merged.data[:applier.merged.size]
        if merged != stored:
            applier.contacts[customer] = merged
        became = [_STATUSES[applier.flags.data[<size_t>index]] for index in range(len(rows))]
        past = {row[2] for row, status in zip(rows, became, strict=True) if status is OutcomeStatus.TOO_OLD}
        for row, status in zip(rows, became, strict=True):
            # A repeat of one that was not kept repeats nothing that counts.
            statuses[row[0]] = OutcomeStatus.TOO_OLD if row[2] in past else status
    return tuple(statuses)


def _join(Applier applier, mutation):
    cdef uint64_t customer, other
    cdef RecordView view
    cdef bytes data, stored
    cdef uint32_t at
    cdef uint16_t namespace, length
    cdef int code
    check_time("at", mutation.at_us)
    best, found = applier.resolve(mutation.identifiers)
    customer = best if best else applier.new_customer()
    applier.begin_record(customer)
    check_single(applier, found)
    merged = []
    images = [applier.image(customer)] if best else []
    said = sources.decode(applier.origin_list(customer), customer)
    # Better trusted customers fill first; equally trusted ones in the order given.
    for _, _, _, _, owner in sorted(found, key=lambda row: -row[0]):
        if not owner or owner == customer or owner in merged:
            continue
        merged.append(owner)
        other = owner
        data = applier.record(other)
        if data is None:
            raise damaged(1, f"Customer {other}, to whom an identifier leads, has no record, so the store")
        code = record_open(<const uint8_t*><const char*>data, len(data), &view)
        if code:
            raise damaged(code, f"Customer {other}'s record")
        images.append(applier.image(other))
        applier.answer(builder_fill_from(&applier.builder, &view), customer)
        at = 0
        for _ in range(view.identifier_count):
            memcpy(&namespace, view.identifiers + at, 2)
            memcpy(&length, view.identifiers + at + 2, 2)
            key = struct.pack(">H", namespace) + view.identifiers[at + 4:at + 4 + length]
            applier.identifiers[key] = customer
            at += 4 + <uint32_t>length
        applier.identifiers[joined_key(other)] = customer
        sources.unite(said, sources.decode(applier.origin_list(other), other))
        if applier.origin_list(other) is not None:
            applier.origins[other] = None
        unite_contacts(applier, customer, other)
        data = applier.event_list(other)
        if data is not None:
            stored = applier.event_list(customer)
            applier.events[customer] = (
                data if stored is None else applier.packer.unite(stored, data, f"Customer {customer}'s event list"))
            applier.events[other] = None
        applier.records[other] = None
    if merged and said:
        for _, kind, entry, _, _ in applier.setters.values():
            if entry.sources and entry.number in said:
                applier.answer(
                    set_value(&applier.builder, entry.offset, kind, sources.effective(entry, said[entry.number])), customer)
        applier.origins[customer] = sources.encode(said)
    applier.adopt(customer, found)
    builder_touch(&applier.builder, mutation.at_us)
    applier.finish_record(customer)
    if not merged:
        applier.touched[customer] = None
        return JoinResult(customer, ())
    before = msgspec.msgpack.encode(merges.Before(mutation.at_us, tuple(images)))
    if len(before) > limits.MERGE_BYTES:
        # Nor can what lies under it be undone without it.
        applier.finalise(customer)
        return JoinResult(customer, tuple(merged))
    merge = applier.applied + 1
    stack = applier.undoable.get(customer, merges.Stack(()))
    applier.metas[merges.key(customer, merge, 0)] = before
    applier.set_stack(customer, merges.Stack((*stack.joins, (merge, mutation.at_us))))
    return JoinResult(customer, tuple(merged), merge)


def _unmerge(Applier applier, mutation):
    cdef uint64_t customer
    check_time("at", mutation.at_us)
    best, _ = applier.resolve(mutation.identifiers)
    customer = best
    stack = applier.undoable.get(customer)
    if stack is None:
        raise NotFound("merge", str(mutation.merge or "newest"), "Nothing that was joined into this customer can be undone.")
    newest, at_us = stack.joins[len(stack.joins) - 1]
    merge = mutation.merge or newest
    if merge not in [each for each, _ in stack.joins]:
        raise NotFound("merge", str(merge), "List those that can be undone: rapport profile merges.")
    if merge != newest:
        raise NotUndoable(merge, f"merge {newest} came after it", f"Undo {newest} first.")
    if mutation.at_us - at_us > limits.UNDO_US:
        raise NotUndoable(merge, f"it is older than {limits.UNDO_US // 86_400_000_000} days")
    before = msgspec.msgpack.decode(applier.kept(merges.key(customer, merge, 0)), type=merges.Before)
    messages = [
        mutations.decode(applier.kept(merges.key(customer, merge, number))) for number in range(1, stack.messages + 1)
    ]
    applier.forget(customer, merge)
    below = stack.joins[:len(stack.joins) - 1] if len(stack.joins) > 1 else None
    if below is None:
        applier.set_stack(customer, None)
    else:
        number = 0
        while applier.kept(merges.key(customer, below[len(below) - 1][0], number + 1)) is not None:
            number += 1
        applier.set_stack(customer, merges.Stack(below, number))
    for number, value in Record(applier.record(customer), f"Customer {customer}'s record").identifiers:
        applier.identifiers[struct.pack(">H", number) + value] = 0
    restored = []
    for image in before.images:
        put_back(applier, image)
        if image.customer != customer:
            applier.identifiers[joined_key(image.customer)] = 0
            restored.append(image.customer)
    reapplied = dropped = 0
    for message in messages:
        # A handler that raises may have left half of its changes here, for it relies on `apply` to drop them.
        tables = (
            applier.records, applier.contacts, applier.events, applier.origins, applier.identifiers, applier.metas,
            applier.programs, applier.touched,
        )
        kept = [dict(table) for table in tables]
        next_customer = applier.next_customer
        try:
            again = _again.get(type(message), _handlers.get(type(message)))
            again(applier, message)
            applier.remember(message)
            reapplied += 1
        except RapportError:
            applier.next_customer = next_customer
            for table, copy in zip(tables, kept, strict=True):
                table.clear()
                table.update(copy)
            dropped += 1
    return UnmergeResult(customer, tuple(restored), reapplied, dropped)


def put_back(Applier applier, image):
    """Make a customer what he was."""
    customer = image.customer
    applier.records[customer] = image.record
    for number, value in Record(image.record, f"Customer {customer}'s record").identifiers:
        applier.identifiers[struct.pack(">H", number) + value] = customer
    if applier.contact_list(customer) != image.contacts:
        applier.contacts[customer] = image.contacts
    if applier.event_list(customer) != image.events:
        applier.events[customer] = image.events
    if applier.origin_list(customer) != image.origins:
        applier.origins[customer] = image.origins


def check_single(Applier applier, found):
    """Refuse to make one of customers with different identifiers of a namespace in which a person has one."""
    cdef bytes stored
    single = {entry.number: entry.name for entry in applier.catalog.namespaces.values() if entry.single}
    if not single:
        return
    has = {}
    for _, _, number, value, _ in found:
        has.setdefault(number, set()).add(value)
    for owner in {row[4] for row in found if row[4]}:
        stored = applier.record(owner)
        if stored is not None:
            for number, value in Record(stored, f"Customer {owner}'s record").identifiers:
                has.setdefault(number, set()).add(value)
    for number, name in single.items():
        if len(has.get(number, ())) > 1:
            raise IdentityConflict(name)


cdef int unite_contacts(Applier applier, uint64_t customer, uint64_t other) except -1:
    cdef bytes theirs = applier.contact_list(other)
    cdef bytes stored = applier.contact_list(customer)
    cdef ContactList added
    cdef int code
    if theirs is None:
        return 0
    if stored is None:
        applier.contacts[customer] = theirs
    else:
        # contacts_merge checks the stored list only, and sorts what is added in place.
        code = contacts_open(<const uint8_t*><const char*>theirs, len(theirs), &added)
        if code:
            raise damaged(code, f"Customer {other}'s contact history")
        applier.entries.size = 0
        if buffer_append(&applier.entries, added.entries, <size_t>added.count * CONTACT_BYTES):
            raise MemoryError
        code = contacts_merge(
            <const uint8_t*><const char*>stored, len(stored), <ContactEntry*>applier.entries.data,
            <uint32_t>(applier.entries.size // CONTACT_BYTES), NULL, &applier.merged,
        )
        if code < 0:
            raise MemoryError
        if code:
            raise damaged(code, f"Customer {customer}'s contact history")
        applier.contacts[customer] = applier.merged.data[:applier.merged.size]
    applier.contacts[other] = None
    return 0


def _set_consent(Applier applier, mutation):
    cdef uint64_t customer
    cdef uint16_t purpose = applier.catalog.purpose(mutation.purpose)
    cdef uint16_t channel = applier.catalog.channel(mutation.channel) if mutation.channel else 0
    cdef uint16_t source = <uint16_t>source_number(applier, mutation.source)
    check_time("at", mutation.at_us)
    customer, created = applier.opened(mutation.identifiers, mutation.at_us)
    applier.answer(
        builder_set_consent(&applier.builder, purpose, channel, mutation.granted, source, mutation.at_us), customer)
    applier.finish_record(customer)
    return CustomerResult(customer, created)


def _open_case(Applier applier, mutation):
    cdef uint64_t customer
    cdef uint16_t kind = applier.catalog.case_kind(mutation.kind)
    cdef uint64_t key = hashed("case: key", mutation.key)
    check_time("at", mutation.at_us)
    customer, created = applier.opened(mutation.identifiers, mutation.at_us)
    applier.answer(builder_add_case(&applier.builder, kind, key, mutation.at_us, INT64_MIN, 0), customer)
    applier.finish_record(customer)
    return CustomerResult(customer, created)


def _close_case(Applier applier, mutation):
    cdef uint64_t customer
    cdef uint16_t kind = applier.catalog.case_kind(mutation.kind)
    cdef uint64_t key = hashed("case: key", mutation.key)
    cdef bytes data
    check_time("at", mutation.at_us)
    best, _ = applier.resolve(mutation.identifiers)
    data = applier.record(best) if best else None
    opened = None
    if data is not None:
        for known_kind, known_key, at, _, _ in Record(data, f"Customer {best}'s record").cases:
            if known_kind == kind and known_key == key:
                opened = at
    if opened is None:
        raise NotFound("case", mutation.key, f"The customer has no case of kind '{mutation.kind}' with this key.")
    customer, created = applier.opened(mutation.identifiers, mutation.at_us)
    applier.answer(
        builder_add_case(&applier.builder, kind, key, opened, max(opened, mutation.at_us), 0), customer)
    applier.finish_record(customer)
    return CustomerResult(customer, created)


def _save_program(Applier applier, mutation):
    cdef unsigned int programs = applier.environment.handles.programs
    check_time("at", mutation.at_us)
    if not mutation.name or len(mutation.name) > limits.NAME_LENGTH or "/" in mutation.name:
        raise BadValue("program: name", f"'{mutation.name[:80]}' is empty, longer than {limits.NAME_LENGTH} "
                       "characters, or holds a '/'")
    version = 1
    while True:
        data = applier.stored(programs, program_key(mutation.name, version))
        if data is None:
            break
        header = msgspec.msgpack.decode(data, type=SavedProgram)
        if header.digest == mutation.digest:
            break
        version += 1
    if data is None:
        total = sum([len(source) for source in mutation.sources.values()])
        if total > limits.PROGRAM_BYTES:
            raise TooLarge("program: bytes of its sources", total, limits.PROGRAM_BYTES)
        header = SavedProgram(mutation.name, version, mutation.digest, mutation.at_us)
        applier.programs[sources_key(mutation.name, version)] = msgspec.msgpack.encode(mutation.sources)
    if mutation.image:
        header = msgspec.structs.replace(header, compiler=mutation.compiler)
        applier.programs[image_key(mutation.name, version)] = mutation.image
    applier.programs[program_key(mutation.name, version)] = msgspec.msgpack.encode(header)
    return version


def _activate_program(Applier applier, mutation):
    cdef unsigned int programs = applier.environment.handles.programs
    check_time("at", mutation.at_us)
    if applier.stored(programs, program_key(mutation.name, mutation.version)) is None:
        raise NotFound("program version", f"{mutation.name}@{mutation.version}",
                       "List the versions kept: rapport program list.")
    applier.programs[ACTIVE] = msgspec.msgpack.encode(
        ActiveProgram(mutation.name, mutation.version, mutation.at_us))


_handlers.update({
    DeclareSchema: _declare_schema,
    Upsert: _upsert,
    RecordEvents: _record_events,
    RecordOutcomes: _record_outcomes,
    Join: _join,
    Unmerge: _unmerge,
    SetConsent: _set_consent,
    OpenCase: _open_case,
    CloseCase: _close_case,
    SaveProgram: _save_program,
    ActivateProgram: _activate_program,
})
