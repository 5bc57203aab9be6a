"""Erasure: everything kept about a customer leaves the store in one mutation.

Record, lists, identifiers and the ids that were joined into him go; from the commit on he is unknown. He leaves his
household, which thereby counts his contacts no more, and which goes too when he was the last in it. His bytes are
still in pages that nothing refers to: they leave the files with the next compaction (core/hub/copying.pyx). The audit
entry says when and for which request, never who. What sources said of him goes too, and every join that could be
taken back and holds him becomes final (core/hub/merges.py): an undo would bring him back, and its images are readable.
"""

from libc.stdint cimport uint64_t
from libc.string cimport memcpy

import struct

import msgspec

from core.errors import BadValue, NotFound, StoreCorrupt, TooLarge
from core.hub.apply cimport Applier
from core.hub import merges, mutations
from core.hub.apply import register
from core.hub.environment cimport Transaction
from core.hub.households cimport dissolve, leave
from core.hub.membership cimport record_name
from core.hub.lmdb cimport MDB_NEXT, MDB_NOTFOUND, MDB_SET_RANGE, MDB_cursor, MDB_val, api
from core.hub.identifiers import normalised
from core.hub.imports import ImportColumns
from core.hub.ingest import named_in
from core.hub.mutations import Erase, ImportCases, IngestBatch, RecordOutcomes
from core.hub.record import Record
from core.hub.saved import AUDIT, AuditEntry
from core import limits

# Keys that begin so are ids of joined customers; see apply.pyx.
JOINED = b"\x00\x00"


def _erase(Applier applier, mutation):
    cdef Transaction txn = applier.transaction
    cdef uint64_t customer
    cdef bytes key, data
    if not -62_135_596_800_000_000 <= mutation.at_us <= 253_402_300_799_999_999:
        raise BadValue("at", f"{mutation.at_us} is not a time between the years 1 and 9999")
    if len(mutation.request) > limits.NAME_LENGTH:
        raise TooLarge("request: characters", len(mutation.request), limits.NAME_LENGTH)
    of_household = any([
        applier.catalog.namespace_entry(each.namespace).household for each in mutation.identifiers[:1]])
    customer, found = applier.resolve(mutation.identifiers, of_household)
    if not customer:
        raise NotFound("Customer", ", ".join([each.namespace for each in mutation.identifiers]),
                       "None of the identifiers is known: there is nothing to erase.")
    known = {owner for _, _, _, _, owner in found if owner}
    if len(known) > 1:
        raise BadValue("identifiers", f"they lead to {len(known)} customers", "Erase one at a time, or join them first.")
    data = applier.record(customer)
    if data is None:
        raise StoreCorrupt(f"{record_name(customer).capitalize()}, to whom an identifier leads,", "there is no record")
    keys = [struct.pack(">H", number) + value for number, value in Record(data, f"Customer {customer}'s record").identifiers]
    joined = _joined_into(txn, customer)
    held = {customer, *[struct.unpack(">Q", key[2:])[0] for key in joined]}
    # Joins are ended in the tables of changes, so before the first write beside them.
    own = set(keys)
    household = customer if of_household else leave(applier, customer)
    if household and (of_household or applier.membership(household) is None):
        # What is said of a household whose last member goes says it of him.
        own.update(dissolve(applier, household))
    for survivor, stack in list(applier.undoable.items()):
        if survivor in held or _holds(applier, survivor, stack, own, held):
            applier.finalise(survivor)
    keys += joined
    entry = msgspec.msgpack.encode(AuditEntry("erase", mutation.at_us, mutation.request))
    place = AUDIT + f"{applier.applied + 1:020}".encode()
    applier.direct()
    if not of_household:
        for key in keys:
            txn.delete(applier.environment.handles.identifiers, <const char*>key, len(key))
        txn.delete(applier.environment.handles.contacts, &customer, 8)
        txn.delete(applier.environment.handles.events, &customer, 8)
        txn.delete(applier.environment.handles.origins, &customer, 8)
        txn.delete(applier.environment.handles.cases, &customer, 8)
        txn.delete(applier.environment.handles.profiles, &customer, 8)
    key = place
    data = entry
    txn.put(applier.environment.handles.meta, <const char*>key, len(key), <const char*>data, len(data), 0)
    return None


def _holds(Applier applier, survivor, stack, keys, held):
    """Whether what is kept for an undo of another customer's joins names the one with these identifiers and ids.

    A message may: one that claimed an identifier of his for somebody else.
    """
    for merge, _ in stack.joins:
        before = msgspec.msgpack.decode(applier.kept(merges.key(survivor, merge, 0)), type=merges.Before)
        for image in before.images:
            named = Record(image.record, f"Customer {image.customer}'s record").identifiers
            if image.customer in held or any([struct.pack(">H", number) + value in keys for number, value in named]):
                return True
        number = 1
        while (data := applier.kept(merges.key(survivor, merge, number))) is not None:
            if _names(applier, mutations.decode(data), keys, held):
                return True
            number += 1
    return False


def _names(Applier applier, message, keys, held):
    """Whether a kept message names one of these identifiers or ids."""
    if isinstance(message, ImportColumns):
        # One row, whose identifiers are normalised already.
        columns = message.identifiers if message.household is None else (*message.identifiers, message.household)
        return any([
            struct.pack(">H", applier.catalog.namespace(each.namespace)) + each.texts in keys for each in columns])
    if isinstance(message, IngestBatch):
        return any([key in keys for key in named_in(message.items)])
    if isinstance(message, RecordOutcomes):
        if any([each.customer in held for each in message.outcomes]):
            return True
        given = [identifier for each in message.outcomes for identifier in each.identifiers]
    elif isinstance(message, ImportCases):
        given = [identifier for each in message.rows for identifier in each.identifiers]
    else:
        given = (*message.identifiers, *getattr(message, "household", ()))
    for identifier in given:
        entry = applier.catalog.namespace_entry(identifier.namespace)
        if struct.pack(">H", entry.number) + normalised(entry.normaliser, identifier.value, entry.name) in keys:
            return True
    return False


cdef list _joined_into(Transaction txn, uint64_t customer):
    """Keys of the ids that lead to the customer through joins, over whatever stations."""
    cdef MDB_cursor* cursor
    cdef MDB_val key, value
    cdef uint64_t survivor
    cdef int code = api.cursor_open(txn.txn, txn.environment.handles.identifiers, &cursor)
    cdef bytes start = JOINED
    if code:
        raise StoreCorrupt("The list of identifiers", f"it cannot be read ({code})")
    following = {}
    try:
        key.mv_data = <void*><const char*>start
        key.mv_size = len(start)
        code = api.cursor_get(cursor, &key, &value, MDB_SET_RANGE)
        while code == 0:
            name = (<const char*>key.mv_data)[:key.mv_size]
            if not name.startswith(start) or value.mv_size < sizeof(uint64_t):
                break
            memcpy(&survivor, value.mv_data, sizeof(uint64_t))
            following.setdefault(survivor, []).append(name)
            code = api.cursor_get(cursor, &key, &value, MDB_NEXT)
        if code and code != MDB_NOTFOUND:
            raise StoreCorrupt("The list of identifiers", f"it cannot be read ({code})")
    finally:
        api.cursor_close(cursor)
    keys = []
    waiting = [customer]
    while waiting:
        # Popped, so that a circle, which would be damage, ends.
        for name in following.pop(waiting.pop(), ()):
            keys.append(name)
            waiting.append(struct.unpack(">Q", name[2:])[0])
    return keys


register(Erase, _erase)
