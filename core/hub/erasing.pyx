"""Erasure: everything kept about a customer leaves the store in one mutation.

Record, lists, identifiers and the ids that were joined into him go; from the commit on he is unknown. He leaves his
household, which thereby counts his contacts no more, and which goes too when he was the last in it. His bytes are
still in pages that nothing refers to: they leave the files with the next compaction (core/hub/copying.pyx). The audit
entry says when and for which request, never who. What sources said of him goes too, and every join that could be
taken back and holds him becomes final (core/hub/merges.py): an undo would bring him back, and its images are readable.

The journal keeps, until the next compaction blanks it, what it held of him before. It notes the erasure itself first: done
again upon an older backup, that takes him whole, whatever is left there of what happened to him (`erase_from`). The numbers
of those erased stay in `meta`, so that a backup restored without a journal can be rid of them.
"""

cimport cython
from libc.stdint cimport UINT64_MAX, uint8_t, uint64_t
from libc.string cimport memcmp, memcpy

import struct

import msgspec

from core.errors import BadValue, NotFound, StoreCorrupt, TooLarge
from core.hub.apply cimport Applier, joined_key
from core.hub import catalog as catalogs
from core.hub import merges, mutations
from core.hub.apply import register
from core.hub.environment import BY_CUSTOMER
from core.hub.opening cimport handle
from core.hub.transaction cimport Transaction
from core.hub.households cimport dissolve, leave, members_of
from core.hub.membership cimport is_household, record_name
from core.hub.values cimport check_time
from core.hub.lmdb cimport MDB_CORRUPTED, MDB_NEXT, MDB_NOTFOUND, MDB_SET_RANGE, MDB_cursor, MDB_dbi, MDB_val, api
from core.hub.seal cimport unseal
from core.hub.identifiers import normalised, refuse_two
from core.hub.imports import ImportColumns
from core.hub.ingest import named_in
from core.hub.naming import Naming
from core.hub.mutations import Erase, ImportCases, IngestBatch, RecordOutcomes
from core.hub.record import Record
from core.hub.saved import AUDIT, AuditEntry, erased_key
from core import limits

# Keys that begin so are ids of joined customers; see apply.pyx.
JOINED = b"\x00\x00"


def _erase(Applier applier, mutation):
    cdef Transaction txn = applier.transaction
    cdef uint64_t customer
    cdef bytes key, data
    check_time("at", mutation.at_us)
    if len(mutation.request) > limits.NAME_LENGTH:
        raise TooLarge("request: characters", len(mutation.request), limits.NAME_LENGTH,
                       "Give the number by which the request for erasure is filed.")
    of_household = any([
        applier.catalog.namespace_entry(each.namespace).household for each in mutation.identifiers[:1]])
    customer, found = applier.resolve(mutation.identifiers, of_household)
    if not customer:
        refuse_two(found, applier.singles)
        raise NotFound("Customer", ", ".join([each.namespace for each in mutation.identifiers]),
                       "None of the identifiers is known: there is nothing to erase.")
    known = {owner for _, _, _, _, owner in found if owner}
    if len(known) > 1:
        raise BadValue("identifiers", f"they lead to {len(known)} customers", "Erase one at a time, or join them first.")
    data = applier.record(customer)
    if data is None:
        raise StoreCorrupt(f"{record_name(customer).capitalize()}, to whom an identifier leads,", "there is no record")
    named = Record(data, f"Customer {customer}'s record").identifiers
    request = mutation.request.lower()
    for _, value in named:
        text = value.decode(errors="replace").lower()
        if len(text) >= limits.REQUEST_TELLS and text in request:
            raise BadValue("request", "it holds one of the customer's identifiers, and stays when he is gone",
                           "Give the number by which the request for erasure is filed.")
    keys = [struct.pack(">H", number) + value for number, value in named]
    joined = _joined_into(txn, customer)
    held = {customer, *[struct.unpack(">Q", key[2:])[0] for key in joined]}
    # Joins are ended in the tables of changes, so before the first write beside them.
    own = set(keys)
    gone = held
    household = customer if of_household else leave(applier, customer, 0)
    if household and (of_household or applier.membership(household) is None):
        # What is said of a household whose last member goes says it of him.
        own.update(dissolve(applier, household))
        gone = held | {household}
    if applier.naming is None:
        applier.naming = _naming(applier)
    for survivor in sorted(applier.naming.survivors(held, own) | held):
        stack = applier.undoable.get(survivor)
        if stack is not None and (survivor in held or _holds(applier, survivor, stack, own, held)):
            applier.finalise(survivor)
    keys += joined
    entry = msgspec.msgpack.encode(AuditEntry("erase", mutation.at_us, mutation.request))
    place = AUDIT + f"{applier.applied + 1:020}".encode()
    applier.direct()
    txn.note_erasure(sorted(gone), sorted({*keys, *own}))
    if not of_household:
        for key in keys:
            txn.delete(applier.environment.handles.identifiers, <const char*>key, len(key))
        txn.delete(applier.environment.handles.contacts, &customer, 8)
        txn.delete(applier.environment.handles.events, &customer, 8)
        txn.delete(applier.environment.handles.origins, &customer, 8)
        txn.delete(applier.environment.handles.cases, &customer, 8)
        txn.delete(applier.environment.handles.profiles, &customer, 8)
        if applier.changed is not None:
            applier.changed.add(customer)
    key = place
    data = entry
    txn.put(applier.environment.handles.meta, <const char*>key, len(key), <const char*>data, len(data), 0)
    key = erased_key(applier.applied + 1)
    data = msgspec.msgpack.encode(sorted(gone))
    txn.put(applier.environment.handles.meta, <const char*>key, len(key), <const char*>data, len(data), 0)
    return None


@cython.final
cdef class KeptJoins:
    """What is kept of joins in a store into which erasures are done again, and whom it names: read once, told of changes."""

    def __cinit__(self):
        self.stacks = None  # by survivor, of each entry's key (ids, keys of identifiers) that it names; None until it is read
        self.naming = Naming()
        self.catalog = None  # None: to be read

    cdef int read(self, Transaction txn) except -1:
        if self.stacks is None:
            self.stacks = {}
            for key, value in entries(txn, "meta", merges.PREFIX):
                self.put(txn, key, value)
        return 0

    cdef int put(self, Transaction txn, bytes key, bytes value) except -1:
        """An entry is this now."""
        if self.stacks is None:
            return 0
        if self.catalog is None:
            self.catalog = catalogs.loaded(entries(txn, "catalog", b""))
        survivor = merges.parts(key)[0]
        ids, keys = named_by(self.catalog, key, value)
        self.stacks.setdefault(survivor, {})[key] = (ids, keys)
        self.naming.add(survivor, ids, keys)
        return 0

    cdef int drop(self, bytes key) except -1:
        """An entry is there no more."""
        if self.stacks is not None:
            self.stacks.get(merges.parts(key)[0], {}).pop(key, None)
        return 0

    cdef list naming_one(self, set held, set own):
        """Keys of all entries of those survivors of whose entries one is about these ids, or names one of these identifiers."""
        found = []
        for survivor in sorted(self.naming.survivors(held, own) | held):
            kept = self.stacks.get(survivor, {})
            if survivor in held or any([
                not held.isdisjoint(ids) or not own.isdisjoint(keys) for ids, keys in kept.values()
            ]):
                found += kept
        return found


def erase_from(Transaction txn not None, erasures, KeptJoins joins=None):
    """Take out of a store whom erasures took, each (ids, keys of identifiers), whatever is there of them; (how many of them found
    something, the ids that went).

    Who is one with one of them at this moment, or has one of these keys, goes too; a household that went with its last member
    stays where somebody else is in it at this moment. ``joins`` is for whoever calls again, and tells it of what he changes.
    """
    cdef const uint8_t* data
    cdef size_t size
    cdef uint64_t customer, household, owner
    cdef MDB_dbi identifiers = txn.environment.handles.identifiers
    cdef bytes key
    cdef Applier applier = Applier(txn.environment, False)
    taken = [_whole(txn, ids, keys) for ids, keys in erasures]
    held = set().union(*[each[0] for each in taken])
    # Who leaves a household changes what counts for it: the one way to do that is an applier's.
    applier.transaction = txn
    applier.first_new = applier.first_new_household = UINT64_MAX
    spared = {home for (ids, _), (whole, _) in zip(erasures, taken) for home in _others_homes(applier, ids, whole, held)}
    held -= spared
    theirs = {key for home in spared for key in _keys_of(txn, home) or ()}
    found = set()
    for place, (whole, own) in enumerate(taken):
        whole -= spared
        own -= theirs
        for customer in sorted(whole):
            household = customer if is_household(customer) else leave(applier, customer, 0)
            if household and (household == customer or applier.membership(household) is None):
                own.update(dissolve(applier, household))
            keys = _keys_of(txn, customer)
            if keys is not None:
                found.add(place)
                own.update(keys)
    applier.flush()
    for key in sorted(set().union(*[own for _, own in taken])):
        if (
            txn.get(identifiers, <const char*>key, len(key), &data, &size) != MDB_NOTFOUND and size >= sizeof(uint64_t)
        ):
            memcpy(&owner, data, sizeof(uint64_t))
            if owner in held:
                txn.delete(identifiers, <const char*>key, len(key))
    if joins is None:
        joins = KeptJoins()
    joins.read(txn)
    gone = set()
    for place, (whole, own) in enumerate(taken):
        naming = joins.naming_one(whole, own)
        if naming:
            found.add(place)
            gone.update(naming)
    for key in sorted(gone):
        txn.delete(txn.environment.handles.meta, <const char*>key, len(key))
        joins.drop(key)
    for customer in sorted(held):
        # Also those who, at this moment, are one with him and were parted from him before he was erased.
        for key in [JOINED + struct.pack(">Q", customer), *_joined_into(txn, customer)]:
            txn.delete(identifiers, <const char*>key, len(key))
        for name in BY_CUSTOMER:
            txn.delete(handle(&txn.environment.handles, name)[0], &customer, 8)
    return len(found), sorted({one for place in found for one in erasures[place][0]} - spared)


cdef list _keys_of(Transaction txn, uint64_t customer):
    """Keys of the identifiers in a customer's or a household's record as the store has it; None without one."""
    cdef MDB_dbi database = txn.environment.handles.households if is_household(customer) else txn.environment.handles.profiles
    cdef const uint8_t* data
    cdef size_t size
    if txn.get(database, &customer, 8, &data, &size) == MDB_NOTFOUND:
        return None
    record = Record(data[:size], f"The record of {record_name(customer)}")
    return [struct.pack(">H", number) + value for number, value in record.identifiers]


cdef tuple _whole(Transaction txn, ids, keys):
    """(whom an erasure takes as the store is now, the keys of identifiers it named)."""
    cdef MDB_dbi identifiers = txn.environment.handles.identifiers
    cdef const uint8_t* data
    cdef size_t size
    cdef uint64_t owner
    cdef bytes key
    held = set(ids)
    for id in ids:
        # At most as many stations as there are joins: a circle would be damage.
        while id:
            key = joined_key(id)
            id = 0
            if txn.get(identifiers, <const char*>key, len(key), &data, &size) != MDB_NOTFOUND and size >= sizeof(uint64_t):
                memcpy(&owner, data, sizeof(uint64_t))
                id = 0 if owner in held else owner
                held.add(owner)
    for key in keys:
        if txn.get(identifiers, <const char*>key, len(key), &data, &size) != MDB_NOTFOUND and size >= sizeof(uint64_t):
            memcpy(&owner, data, sizeof(uint64_t))
            held.add(owner)
    return held, set(keys)


cdef list _others_homes(Applier applier, ids, whole, held):
    """Of whom the erasure of a person takes, the households in which, as the store is now, is somebody who was never erased.

    One that was erased by its own identifiers goes whoever is in it.
    """
    if all([is_household(one) for one in ids]):
        return []
    return [
        one for one in whole if is_household(one) and any([each not in held for each in members_of(applier, one)])
    ]


def holds(catalog, bytes key not None, bytes value not None, own, held):
    """Whether an entry of what is kept of joins is about one of these ids, or names one of these keys of identifiers."""
    ids, keys = named_by(catalog, key, value)
    return any([each in held for each in ids]) or any([each in own for each in keys])


def named_by(catalog, bytes key not None, bytes value not None):
    """(ids, keys of identifiers) that an entry of what is kept of joins names: its survivor's, and those in it."""
    survivor, _, number = merges.parts(key)
    if number:
        ids, keys = named_in_message(catalog, mutations.decode(value))
        return [survivor, *ids], keys
    return named_in_images(msgspec.msgpack.decode(value, type=merges.Before).images)


def named_in_images(images):
    """(ids, keys of identifiers) of the customers that these show."""
    keys = []
    for image in images:
        keys += [
            struct.pack(">H", number) + text
            for number, text in Record(image.record, f"Customer {image.customer}'s record").identifiers]
    return [image.customer for image in images], keys


cdef object _naming(Applier applier):
    """Everybody whom what is kept for undo names."""
    found = Naming()
    for survivor, stack in applier.undoable.items():
        for merge, _ in stack.joins:
            number = 0
            while (data := applier.kept(merges.key(survivor, merge, number))) is not None:
                found.add(survivor, *named_by(applier.catalog, merges.key(survivor, merge, number), data))
                number += 1
    return found


def entries(Transaction txn not None, str database not None, bytes start not None):
    """[(key, value)] of all entries whose keys begin so, as the transaction sees them."""
    cdef MDB_cursor* cursor
    cdef MDB_val key, value
    cdef MDB_dbi number = handle(&txn.environment.handles, database)[0]
    cdef int code = api.cursor_open(txn.txn, number, &cursor)
    if code:
        raise StoreCorrupt(f"The database {database}", f"it cannot be read ({code})")
    found = []
    try:
        key.mv_data = <void*><const char*>start
        key.mv_size = len(start)
        code = api.cursor_get(cursor, &key, &value, MDB_SET_RANGE if start else MDB_NEXT)
        while code == 0:
            name = (<const char*>key.mv_data)[:key.mv_size]
            if not name.startswith(start):
                break
            code = unseal(txn.environment.sealing[number], &key, &value)
            if code:
                break
            found.append((name, (<const char*>value.mv_data)[:value.mv_size]))
            code = api.cursor_get(cursor, &key, &value, MDB_NEXT)
        if code and code != MDB_NOTFOUND:
            raise StoreCorrupt(f"The database {database}", f"it cannot be read ({code})")
    finally:
        api.cursor_close(cursor)
    return found


def _holds(Applier applier, survivor, stack, keys, held):
    """Whether what is kept for an undo of another customer's joins names the one with these identifiers and ids.

    A message may: one that claimed an identifier of his for somebody else.
    """
    for merge, _ in stack.joins:
        number = 0
        while (data := applier.kept(merges.key(survivor, merge, number))) is not None:
            if holds(applier.catalog, merges.key(survivor, merge, number), data, keys, held):
                return True
            number += 1
    return False


def named_in_message(catalog, message):
    """(ids, keys of identifiers) that a kept message names."""
    ids = []
    if isinstance(message, ImportColumns):
        # One row, whose identifiers are normalised already.
        columns = message.identifiers if message.household is None else (*message.identifiers, message.household)
        return ids, [struct.pack(">H", catalog.namespace(each.namespace)) + each.texts for each in columns]
    if isinstance(message, IngestBatch):
        return ids, named_in(message.items)
    if isinstance(message, RecordOutcomes):
        ids = [each.customer for each in message.outcomes if each.customer]
        given = [identifier for each in message.outcomes for identifier in each.identifiers]
    elif isinstance(message, ImportCases):
        given = [identifier for each in message.rows for identifier in each.identifiers]
    else:
        given = (*message.identifiers, *getattr(message, "household", ()))
    keys = []
    for identifier in given:
        entry = catalog.namespace_entry(identifier.namespace)
        keys.append(struct.pack(">H", entry.number) + normalised(entry.normaliser, identifier.value, entry.name))
    return ids, keys


cdef list _joined_into(Transaction txn, uint64_t customer):
    """Keys of the ids that lead to the customer through joins, over whatever stations."""
    keys = []
    waiting = {customer}
    while waiting:
        found = [name for name in _leading_to(txn, waiting) if name not in keys]
        keys += found
        waiting = {struct.unpack(">Q", name[2:])[0] for name in found}
    return keys


cdef list _leading_to(Transaction txn, set customers):
    """Keys of the joined ids whose entry names one of these. It looks at all that were ever joined, 50 ns each."""
    cdef MDB_cursor* cursor
    cdef MDB_val key, value
    cdef MDB_dbi number = txn.environment.handles.identifiers
    cdef bytes prefix = JOINED
    cdef const char* start = prefix
    cdef uint64_t owner, one = next(iter(customers))
    cdef bint several = len(customers) > 1
    cdef int code = api.cursor_open(txn.txn, number, &cursor)
    if code:
        raise StoreCorrupt("The database identifiers", f"it cannot be read ({code})")
    found = []
    try:
        key.mv_data = <void*>start
        key.mv_size = len(JOINED)
        code = api.cursor_get(cursor, &key, &value, MDB_SET_RANGE)
        while code == 0 and key.mv_size >= 2 and memcmp(key.mv_data, start, 2) == 0:
            code = unseal(txn.environment.sealing[number], &key, &value)
            if code or value.mv_size < sizeof(uint64_t):
                code = code or MDB_CORRUPTED
                break
            memcpy(&owner, value.mv_data, sizeof(uint64_t))
            if (owner in customers) if several else owner == one:
                found.append((<const char*>key.mv_data)[:key.mv_size])
            code = api.cursor_get(cursor, &key, &value, MDB_NEXT)
        if code and code != MDB_NOTFOUND:
            raise StoreCorrupt("The database identifiers", f"it cannot be read ({code})")
    finally:
        api.cursor_close(cursor)
    return found


register(Erase, _erase)
