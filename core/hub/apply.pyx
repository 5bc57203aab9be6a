"""The one deterministic function from mutations to writes; see apply.pxd for the rules it keeps.

Changes of one mutation are collected in dictionaries and written when its handler has returned, so a refused mutation
leaves its neighbours in the transaction alone, without the cost of nested transactions. Only a failing write (map
full, disk error) spoils the transaction; the committer then undoes it and applies its mutations one by one.

Namespace number 0 is the store's own: its keys are ids of customers who were joined into another.
"""
from libc.stdint cimport uint32_t
from libc.string cimport memcpy, memset

import struct

import msgspec

from core.hub.buffer cimport buffer_free
from core.hub.lmdb cimport MDB_APPEND, MDB_NOTFOUND, MDB_dbi
from core.hub.membership cimport is_household, record_name
from core.hub.record cimport (
    RecordLayout, RecordView, builder_add_identifier, builder_begin, builder_finish, builder_free, builder_touch, damaged,
    identifiers_exclude, record_names, record_open, refused, set_value,
)
from core.hub.snapshot cimport Handles

from core import limits
from core.errors import BadValue, EngineFault, IdentityConflict, SourceNotAllowed, StoreCorrupt, TooLarge, UnknownName
from core.hub import catalog as catalogs
from core.hub import merges, mutations, sources
from core.hub.catalog import name_of
from core.hub.identifiers import check_holder, meant, normalised, ranked
from core.hub.membership import HOUSEHOLD_FIRST, unpack_members
from core.hub.mutations import Join, Upsert
from core.hub.record import KINDS, Record
from core.hub.values import LETTERS


_handlers = {}
# How an import's rows, whose own handler writes beside the tables of changes, are applied again inside an undo.
_again = {}


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


def apply_inside(applier, mutation):
    """Apply a mutation inside the handler of another, whose changes its own join."""
    again = _again.get(type(mutation), _handlers.get(type(mutation)))
    return again(applier, mutation)


cdef bytes joined_key(uint64_t customer):
    return b"\x00\x00" + struct.pack(">Q", customer)


cdef int check_named(bytes data, uint64_t customer, bytes key) except -1:
    """Raise StoreCorrupt where an identifier leads to one whose record does not have it, before anything of his is changed."""
    cdef RecordView view
    cdef const char* text = key
    cdef int fault
    if data is not None:
        fault = record_open(<const uint8_t*><const char*>data, len(data), &view)
        if fault:
            raise damaged(fault, f"The record of {record_name(customer)}")
        if view.customer == customer and record_names(&view, key[0] << 8 | key[1], text + 2, len(key) - 2):
            return 0
    raise StoreCorrupt("An identifier", f"it leads to {record_name(customer)}, who does not have it")


cdef class Applier:
    """Applies mutations: `begin`, `apply` for each, then `commit` or `abort`. For one thread."""

    def __cinit__(self, Environment environment not None, bint undo=True):
        """``undo``: with what is kept for it, without which nobody may be joined or parted."""
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
        self.cases = {}
        self.memberships = {}
        self.identifiers = {}
        self.programs = {}
        self.metas = {}
        self.undoable = {}
        self.naming = None
        self.changed_stacks = {}
        self.uncommitted_stacks = {}
        self.touched = {}
        self.unnamed = {}
        with environment.reader() as reader:
            self.set_catalog(catalogs.loaded(reader.items("catalog")))
            self.applied = msgspec.msgpack.decode(reader.get("meta", b"applied") or b"\x00", type=int)
            self.next_customer = msgspec.msgpack.decode(reader.get("meta", b"next_customer") or b"\x01", type=int)
            self.next_household = HOUSEHOLD_FIRST + msgspec.msgpack.decode(
                reader.get("meta", b"next_household") or b"\x01", type=int)
            for key, value in reader.items("meta", merges.PREFIX):
                if not undo or not key.startswith(merges.PREFIX):
                    break
                survivor, merge, number = merges.parts(key)
                stack = self.undoable.get(survivor, merges.Stack(()))
                kept = stack.kept + len(value)
                if number == 0:
                    # The images, of megabytes, stay as they are.
                    at_us = msgspec.msgpack.decode(value, type=tuple[int, msgspec.Raw])[0]
                    self.undoable[survivor] = merges.Stack((*stack.joins, (merge, at_us)), 0, kept)
                else:
                    self.undoable[survivor] = merges.Stack(stack.joins, number, kept)
        self.committed = (self.catalog, self.applied, self.next_customer, self.next_household)

    def __dealloc__(self):
        builder_free(&self.builder)
        buffer_free(&self.entries)
        buffer_free(&self.flags)
        buffer_free(&self.merged)

    cdef int set_catalog(self, object catalog) except -1:
        self.catalog = catalog
        self.layout = catalog.layout()
        self.household_layout = catalog.household_layout()
        self.singles = catalog.singles
        self.households = any([entry.household for entry in catalog.namespaces.values()])
        self.setters, self.household_setters = [
            {
                name: (
                    entry.offset, KINDS[entry.type], entry,
                    {label: code for code, label in enumerate(entry.labels, 1)}, f"attributes['{name}']",
                )
                for name, entry in attributes.items()
            }
            for attributes in (catalog.attributes, catalog.household_attributes)
        ]
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
        self.transaction = Transaction(self.environment)

    def apply(self, mutation):
        """Apply one mutation and return its result. When it raises and `poisoned` is false, nothing was changed."""
        handler = _handlers.get(type(mutation))
        if handler is None:
            raise EngineFault(f"no handler for {type(mutation).__name__}")
        before = self.catalog
        self.first_new = self.next_customer
        self.first_new_household = self.next_household
        self.writing = False
        self.transaction.begin_group()
        try:
            result = handler(self, mutation)
            self.remember(mutation)
            self.writing = True
            self.flush()
            self.put_catalog(before)
            if self.next_household != self.first_new_household:
                self.put_meta(b"next_household", self.next_household - HOUSEHOLD_FIRST)
            changed = self.changed
            if changed is not None:
                # More than are committed, when the transaction is undone: whoever is told looks for himself.
                changed.update(self.concerned())
        except BaseException:
            self.poisoned = self.writing
            self.transaction.drop_group()
            self.next_customer = self.first_new
            self.next_household = self.first_new_household
            if self.catalog is not before:
                self.set_catalog(before)
            self.restore_stacks(self.changed_stacks)
            raise
        finally:
            self.records.clear()
            self.contacts.clear()
            self.events.clear()
            self.origins.clear()
            self.cases.clear()
            self.memberships.clear()
            self.identifiers.clear()
            self.programs.clear()
            self.metas.clear()
            self.touched.clear()
            self.unnamed.clear()
        for customer, stack in self.changed_stacks.items():
            self.uncommitted_stacks.setdefault(customer, stack)
        self.changed_stacks.clear()
        self.writing = False
        self.applied += 1
        self.transaction.end_group(self.applied, self.next_customer)
        return result

    def commit(self) -> None:
        """Make everything applied durable, with the sequence number it reached."""
        try:
            self.put_meta(b"applied", self.applied)
            if self.next_customer != self.committed[2]:
                self.put_meta(b"next_customer", self.next_customer)
            self.transaction.commit()
        except BaseException:
            self.abort()
            raise
        self.transaction = None
        self.uncommitted_stacks.clear()
        self.committed = (self.catalog, self.applied, self.next_customer, self.next_household)

    def abort(self) -> None:
        """Undo the transaction and everything applied in it."""
        if self.transaction is not None:
            self.transaction.abort()
            self.transaction = None
        self.restore_stacks(self.uncommitted_stacks)
        # It may have been made of what is undone now, and must never name too few.
        self.naming = None
        catalog, self.applied, self.next_customer, self.next_household = self.committed
        if catalog is not self.catalog:
            self.set_catalog(catalog)
        self.poisoned = False

    cdef int put_meta(self, bytes key, object value) except -1:
        cdef bytes data = msgspec.msgpack.encode(value)
        return self.transaction.put(
            self.environment.handles.meta, <const char*>key, len(key), <const char*>data, len(data), 0)

    cdef int put_catalog(self, object before) except -1:
        """Write what the catalog has beyond the one before."""
        cdef bytes key, value
        if self.catalog is not before:
            for key, value in self.catalog.stored(before).items():
                self.transaction.put(
                    self.environment.handles.catalog, <const char*>key, len(key), <const char*>value, len(value), 0
                )
        return 0

    cdef int flush(self) except -1:
        """Write the changes collected. New customers, and households, have the highest ids, so they are appended."""
        cdef Transaction txn = self.transaction
        cdef const Handles* handles
        cdef uint64_t customer
        cdef bytes data, key
        cdef uint32_t put = 0
        cdef bint new
        for customer, value in self.records.items():
            if value is None:
                txn.delete(self.records_of(customer), &customer, 8)
            else:
                data = value
                new = customer >= (self.first_new_household if is_household(customer) else self.first_new)
                txn.put(self.records_of(customer), &customer, 8, <const char*>data, len(data), MDB_APPEND if new else 0)
            put += 1
            let_others(put)
        handles = &self.environment.handles
        self.put_owned(handles.contacts, self.contacts)
        self.put_owned(handles.events, self.events)
        self.put_owned(handles.origins, self.origins)
        self.put_owned(handles.cases, self.cases)
        self.put_owned(handles.memberships, self.memberships)
        for key, customer in self.identifiers.items():
            if customer == 0:
                txn.delete(handles.identifiers, <const char*>key, len(key))
            else:
                txn.put(handles.identifiers, <const char*>key, len(key), &customer, 8, 0)
        self.put_named(handles.meta, self.metas)
        self.put_named(handles.programs, self.programs)
        return 0

    cdef int put_owned(self, MDB_dbi database, dict changes) except -1:
        """Write what is kept by a customer's or household's id; None deletes."""
        cdef uint64_t owner
        cdef bytes data
        cdef size_t put = 0
        for owner, value in changes.items():
            if value is None:
                self.transaction.delete(database, &owner, 8)
            else:
                data = value
                self.transaction.put(database, &owner, 8, <const char*>data, len(data), 0)
            put += 1
            let_others(put)
        return 0

    cdef int put_named(self, MDB_dbi database, dict changes) except -1:
        """Write what is kept by a key of its own; None deletes."""
        cdef bytes key, data
        for key, value in changes.items():
            if value is None:
                self.transaction.delete(database, <const char*>key, len(key))
            else:
                data = value
                self.transaction.put(database, <const char*>key, len(key), <const char*>data, len(data), 0)
        return 0

    def all_tables(self):
        return (
            self.records, self.contacts, self.events, self.origins, self.cases, self.memberships, self.identifiers,
            self.metas, self.programs, self.touched, self.unnamed,
        )

    def concerned(self):
        """The customers of whom something that decisions read has changed; of a household its members."""
        return self.customers_of([*self.records, *self.events, *self.memberships])

    def customers_of(self, owners):
        """These customers, and the members of the households among them."""
        found = set(owners)
        for owner in [each for each in found if is_household(each)]:
            found.discard(owner)
            found.update(unpack_members(self.membership(owner), owner))
        return found

    def tables(self):
        """Copies of all changes collected by now, behind the ids that the next customer and household get, and of the stacks."""
        stacks = dict(self.changed_stacks), {customer: self.undoable.get(customer) for customer in self.changed_stacks}
        return (self.next_customer, self.next_household), stacks, [dict(table) for table in self.all_tables()]

    def put_back_tables(self, kept=None) -> None:
        """Forget what was collected, and who was made, since `tables` made `kept`, or (None) in all of the mutation at hand."""
        ids, copies = (self.first_new, self.first_new_household), None
        if kept is not None:
            ids, (changed, stood), copies = kept
            self.restore_stacks(self.changed_stacks)
            self.changed_stacks.update(changed)
            self.restore_stacks(dict(stood))
        self.next_customer, self.next_household = ids
        for place, table in enumerate(self.all_tables()):
            table.clear()
            if copies is not None:
                table.update(copies[place])

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
                    message = mutation.part(places)
                # Of several items in one mutation, another may have given it to somebody since.
                unnamed = {key for key in self.unnamed if self.lookup(key) != <uint64_t>customer}
                if unnamed:
                    message = message.without(unnamed, self.key_of)
                self.remember_one(customer, message)
        self.touched.clear()
        self.unnamed.clear()
        return 0

    def remember_one(self, customer, message) -> None:
        """Keep a message for an undoable survivor whom it concerned."""
        stack = self.undoable[customer]
        at_us = getattr(message, "at_us", None)
        past = at_us is not None and at_us - stack.joins[len(stack.joins) - 1][1] > limits.UNDO_US
        encoded = mutations.encode(message)
        if past or stack.messages >= limits.MERGE_MESSAGES or not self.make_room(customer, len(encoded)):
            self.finalise(customer)
            return
        stack = self.undoable[customer]
        number = stack.messages + 1
        if self.naming is not None:
            from core.hub.erasing import named_in_message  # which needs this module

            self.naming.add(customer, *named_in_message(self.catalog, message))
        self.metas[merges.key(customer, stack.joins[len(stack.joins) - 1][0], number)] = encoded
        self.set_stack(customer, merges.Stack(stack.joins, number, stack.kept + len(encoded)))

    def make_room(self, customer, more) -> bool:
        """Forget a survivor's oldest joins until so many bytes more may be kept of his; False where his newest is too much."""
        while (stack := self.undoable[customer]).kept + more > limits.MERGE_BYTES:
            if len(stack.joins) == 1:
                return False
            self.forget_oldest(customer)
        return True

    def forget_oldest(self, customer) -> None:
        """A survivor's oldest join is final."""
        stack = self.undoable[customer]
        freed = self.forget(customer, stack.joins[0][0])
        if len(stack.joins) == 1:
            self.set_stack(customer, None)
        else:
            self.set_stack(customer, merges.Stack(stack.joins[1:], stack.messages, stack.kept - freed))

    cdef int finalise(self, uint64_t customer) except -1:
        stack = self.undoable.get(customer)
        if stack is not None:
            for merge, _ in stack.joins:
                self.forget(customer, merge)
            self.set_stack(customer, None)
        return 0

    def forget(self, customer, merge) -> int:
        """Delete what is kept of a join; how many bytes it was."""
        if self.naming is not None:
            self.naming.ended += 1
            if self.naming.ended > len(self.undoable):
                # Mostly of what is gone: made anew when it is needed, so that it does not grow without end.
                self.naming = None
        number = freed = 0
        while (data := self.kept(key := merges.key(customer, merge, number))) is not None:
            freed += len(data)
            self.metas[key] = None
            number += 1
        return freed

    def kept(self, key):
        """A value of `meta` as the mutation at hand sees it, or None."""
        return self.metas[key] if key in self.metas else self.stored(self.environment.handles.meta, key)

    def image(self, customer):
        """A customer as he is."""
        return merges.Image(
            customer, self.record(customer), self.contact_list(customer), self.event_list(customer),
            self.origin_list(customer), self.membership(customer), self.case_list(customer))

    # --- what handlers read

    cdef uint64_t new_customer(self) noexcept:
        self.next_customer += 1
        return self.next_customer - 1

    cdef uint64_t new_household(self) noexcept:
        self.next_household += 1
        return self.next_household - 1

    cdef MDB_dbi records_of(self, uint64_t owner) noexcept:
        """The database in which the record of a customer or a household lies."""
        return self.environment.handles.households if is_household(owner) else self.environment.handles.profiles

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
        """A customer's or a household's record, or None."""
        cdef const uint8_t* data
        cdef size_t size
        if customer in self.records:
            return self.records[customer]
        if self.transaction.get(self.records_of(customer), &customer, 8, &data, &size) == MDB_NOTFOUND:
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
        return data[:size] if self.find_events(customer, &data, &size) else None

    cdef bint find_events(self, uint64_t customer, const uint8_t** start, size_t* size) except -1:
        cdef bytes changed
        if customer in self.events:
            changed = self.events[customer]
            if changed is None:
                return False
            start[0] = <const uint8_t*><const char*>changed
            size[0] = len(changed)
            return True
        return self.transaction.get(self.environment.handles.events, &customer, 8, start, size) != MDB_NOTFOUND

    cdef bytes origin_list(self, uint64_t customer):
        """What sources say of a customer, or None."""
        cdef const uint8_t* data
        cdef size_t size
        if customer in self.origins:
            return self.origins[customer]
        if self.transaction.get(self.environment.handles.origins, &customer, 8, &data, &size) == MDB_NOTFOUND:
            return None
        return data[:size]

    cdef bytes case_list(self, uint64_t customer):
        """What is known of a customer's, or a household's, cases beside the record, or None."""
        cdef const uint8_t* data
        cdef size_t size
        if customer in self.cases:
            return self.cases[customer]
        if self.transaction.get(self.environment.handles.cases, &customer, 8, &data, &size) == MDB_NOTFOUND:
            return None
        return data[:size]

    cdef bytes membership(self, uint64_t owner):
        cdef const uint8_t* data
        cdef size_t size
        if owner in self.memberships:
            return self.memberships[owner]
        if self.transaction.get(self.environment.handles.memberships, &owner, 8, &data, &size) == MDB_NOTFOUND:
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
                record = Record(existing, f"The record of {record_name(customer)}")
                sources.found(said, entry.number, record.updated_us, record.value(entry.offset, entry.type))
            if sources.note(said, entry.number, number, at, value):
                effective = sources.effective(entry, said[entry.number])
                self.answer(set_value(&self.builder, offset, kind, effective), customer)
        built = sources.encode(said, customer)
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

    def key_of(self, identifier):
        """The key of an identifier that was resolved before."""
        entry = self.catalog.namespace_entry(identifier.namespace)
        return struct.pack(">H", entry.number) + normalised(entry.normaliser, identifier.value, entry.name)

    def resolve(self, given, bint of_household=False, str field="identifiers"):
        """(customer or 0, [(trust, key, namespace number, value bytes, customer or 0)], `ranked`) of a request's identifiers.

        Who is meant is told by `meant`. They name a customer, or a household when `of_household`; `field` is where the request
        has them.
        """
        cdef bytes value, key
        cdef int number
        if not given:
            raise BadValue(field, "there is none",
                           f"Name the {'household' if of_household else 'customer'} by at least one identifier.")
        if len(given) > limits.IDENTIFIERS_PER_REQUEST:
            raise TooLarge(field, len(given), limits.IDENTIFIERS_PER_REQUEST, field=field)
        found = []
        for place, identifier in enumerate(given):
            try:
                entry = self.catalog.namespace_entry(identifier.namespace)
                check_holder(entry, of_household)
                value = normalised(entry.normaliser, identifier.value, entry.name)
            except (UnknownName, BadValue, TooLarge) as error:
                raise error.under(f"{field}[{place}]") from None
            number = entry.number
            key = struct.pack(">H", number) + value
            found.append((entry.trust, key, number, value, self.lookup(key)))
        found = ranked(found)
        return self.meant(found), found

    def meant(self, found):
        """The customer, or the household, that looked-up identifiers mean; 0 for nobody who is known."""
        row = meant(found, self.singles, self.held)
        if row is None:
            return 0
        _, key, _, _, owner = row
        check_named(self.record(owner), owner, key)
        return owner

    def held(self, owner):
        """The (namespace number, value) pairs of a customer to whom an identifier leads."""
        data = self.record(owner)
        if data is None:
            raise damaged(1, f"{record_name(owner).capitalize()}, to whom an identifier leads, has no record, so the store")
        return Record(data, f"The record of {record_name(owner)}").identifiers

    # --- the record at hand

    cdef int answer(self, int refusal, uint64_t customer) except -1:
        if refusal:
            raise refused(refusal, record_name(customer).capitalize())
        return 0

    cdef int begin_record(self, uint64_t customer) except -1:
        """Begin the builder from the stored record, or empty."""
        cdef bytes existing = self.record(customer)
        cdef RecordLayout layout = self.household_layout if is_household(customer) else self.layout
        if existing is None:
            return self.answer(builder_begin(&self.builder, &layout.layout, customer, NULL, 0), customer)
        return self.answer(
            builder_begin(&self.builder, &layout.layout, customer, <const uint8_t*><const char*>existing, len(existing)),
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
        """Give the customer in the builder those identifiers that nobody has, as far as `added` allows."""
        for key in self.added(customer, found, claimed):
            self.identifiers[key] = customer

    def added(self, uint64_t customer, found, bint claimed=False):
        """The keys of the identifiers that nobody has, put into the builder; they do not lead to the customer yet.

        What is only `claimed`, in news or a report, gives none of a namespace with verified claims, and none at all to a
        customer known only by such a claim: whoever knows a neighbour's address must not thereby become him. A new
        customer gets one such if there is nothing else, for he would be lost.

        An identifier of a single namespace of which he has another is somebody else's: a claim of it is left out, and
        whatever else says it raises IdentityConflict.
        """
        cdef bytes value, key
        cdef uint16_t number
        if claimed:
            verified = {entry.number for entry in self.catalog.namespaces.values() if entry.verified}
            if verified:
                plain = [row for row in found if row[2] not in verified]
                if not self.builder.identifier_count:
                    adopted = plain or found[:1]
                elif any([row[4] == customer for row in plain]):
                    adopted = plain
                else:
                    adopted = []
                self.unnamed.update([(row[1], None) for row in found if not row[4] and row not in adopted])
                found = adopted
        keys = []
        for _, key, number, value, owner in found:
            if owner:
                continue
            if self.another(number, value):
                if not claimed:
                    raise IdentityConflict(self.singles[number])
                self.unnamed[key] = None
                continue
            self.answer(
                builder_add_identifier(&self.builder, number, <const uint8_t*><const char*>value, len(value)), customer
            )
            keys.append(key)
        return keys

    def another(self, uint16_t number, bytes value not None):
        """Whether the customer in the builder has another identifier of this namespace, which is single."""
        return number in self.singles and identifiers_exclude(
            self.builder.identifiers.data, self.builder.identifier_count, number, <const char*>value, len(value))

    def check_one(self, uint64_t customer, found) -> None:
        """Raise IdentityConflict where an identifier of a single namespace is another's than his who is in the builder, who has
        one himself: whoever sends both means two persons, and only one of them would get what is said."""
        for _, _, number, value, owner in found:
            if owner and owner != customer and self.another(number, value):
                raise IdentityConflict(self.singles[number])

    def opened(self, given, at_us, bint claimed=False, bint of_household=False, str field="identifiers"):
        """(customer, created): the customer of these identifiers, or the household, in the builder, made when unknown."""
        cdef uint64_t customer
        best, found = self.resolve(given, of_household, field)
        customer = best if best else self.new_household() if of_household else self.new_customer()
        self.begin_record(customer)
        if not claimed:
            self.check_one(customer, found)
        self.adopt(customer, found, claimed)
        self.touched.setdefault(customer, None)
        builder_touch(&self.builder, at_us)
        return customer, not best
