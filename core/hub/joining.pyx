"""Customers who turn out to be one, and who after all do not: `Join` and `Unmerge`."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

import struct

import msgspec

from core.hub.apply cimport Applier, joined_key
from core.hub.buffer cimport buffer_append
from core.hub.contacts cimport CONTACT_BYTES, ContactEntry, ContactList, contacts_merge, contacts_open
from core.hub.happenings cimport add_packed
from core.hub.households cimport leave, return_to, unite_memberships
from core.hub.matters cimport keep_details, set_products
from core.hub.record cimport RecordView, builder_fill_from, builder_touch, damaged, record_open, set_value
from core.hub.values cimport check_time

from core import limits
from core.errors import IdentityConflict, NotFound, NotUndoable, RapportError
from core.hub import case_details, merges, mutations, sources
from core.hub.apply import apply_inside, register
from core.hub.erasing import named_in_images
from core.hub.mutations import EndUndo, Join, JoinResult, Unmerge, UnmergeResult
from core.hub.record import Record
from core.hub.retention import since


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
    details = case_details.decode(applier.case_list(customer), customer)
    # Whose identifiers are believed first fill first.
    for _, _, _, _, owner in found:
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
        case_details.unite(details, case_details.decode(applier.case_list(other), other))
        if applier.case_list(other) is not None:
            applier.cases[other] = None
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
                holds = sources.effective(entry, said[entry.number], joined=True)
                applier.answer(set_value(&applier.builder, entry.offset, kind, holds), customer)
        applier.origins[customer] = sources.encode(said, customer)
    applier.adopt(customer, found)
    builder_touch(&applier.builder, mutation.at_us)
    set_products(applier, details)
    applier.finish_record(customer)
    keep_details(applier, customer, details)
    if not merged:
        applier.touched[customer] = None
        return JoinResult(customer, ())
    unite_memberships(applier, customer, merged)
    # A caller may date a join as he likes; for how long it can be undone is ours to say.
    begun = mutation.received_us or mutation.at_us
    before = msgspec.msgpack.encode(merges.Before(begun, tuple(images)))
    if len(before) > limits.MERGE_BYTES:
        # Nor can what lies under it be undone without it.
        applier.finalise(customer)
        return JoinResult(customer, tuple(merged))
    merge = applier.applied + 1
    if customer in applier.undoable and not applier.make_room(customer, len(before)):
        applier.finalise(customer)
    stack = applier.undoable.get(customer, merges.Stack(()))
    if applier.naming is not None:
        applier.naming.add(customer, *named_in_images(images))
    applier.metas[merges.key(customer, merge, 0)] = before
    applier.set_stack(customer, merges.Stack((*stack.joins, (merge, begun)), 0, stack.kept + len(before)))
    return JoinResult(customer, tuple(merged), merge)


def _unmerge(Applier applier, mutation):
    cdef uint64_t customer
    check_time("at", mutation.at_us)
    customer, _ = applier.resolve(mutation.identifiers)
    if not customer:
        raise NotFound("customer", ", ".join([each.namespace for each in mutation.identifiers]),
                       "None of the identifiers is known: compare their spelling with rapport profile show.")
    stack = applier.undoable.get(customer)
    if stack is None:
        days = limits.UNDO_US // 86_400_000_000
        raise NotFound("merge", str(mutation.merge or "newest"),
                       f"A join is kept for {days} days; rapport profile merges shows those that can be undone.",
                       "" if mutation.merge else "There is nothing to undo: no join into this customer is kept.")
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
    freed = applier.forget(customer, merge)
    below = stack.joins[:len(stack.joins) - 1] if len(stack.joins) > 1 else None
    if below is None:
        applier.set_stack(customer, None)
    else:
        number = 0
        while applier.kept(merges.key(customer, below[len(below) - 1][0], number + 1)) is not None:
            number += 1
        applier.set_stack(customer, merges.Stack(below, number, stack.kept - freed))
    for number, value in Record(applier.record(customer), f"Customer {customer}'s record").identifiers:
        applier.identifiers[struct.pack(">H", number) + value] = 0
    # Retention goes on while they were one.
    keeping = since(applier.catalog, mutation.at_us)
    restored = []
    leave(applier, customer, 0)
    for image in before.images:
        put_back(applier, image)
        if image.customer != customer:
            applier.identifiers[joined_key(image.customer)] = 0
            restored.append(image.customer)
    reapplied = dropped = 0
    # A handler that raises may have left half of its changes here, for it relies on `apply` to drop them. Then what stood some
    # messages ago is put back and those in between are applied again: a copy before each was most of what an undo cost.
    kept, passed = applier.tables(), []
    for message in messages:
        try:
            apply_inside(applier, message)
            applier.remember(message)
            reapplied += 1
            passed.append(message)
        except RapportError:
            dropped += 1
            applier.put_back_tables(kept)
            for each in passed:
                apply_inside(applier, each)
                applier.remember(each)
            if passed:
                kept, passed = applier.tables(), []
        if len(passed) == limits.UNDO_PASSED:
            kept, passed = applier.tables(), []
    if keeping is not None:
        # What was told of them meanwhile was within it then.
        applier.packer.clear()
        for owner in [each for each, events in applier.events.items() if events is not None]:
            add_packed(applier, owner, keeping)
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
    if applier.case_list(customer) != image.cases:
        applier.cases[customer] = image.cases
    return_to(applier, customer, image.membership)


def check_single(Applier applier, found):
    """Refuse to make one of customers with different identifiers of a namespace in which a person has one."""
    if not applier.singles:
        return
    has = {}
    for _, _, number, value, _ in found:
        has.setdefault(number, set()).add(value)
    for owner in {row[4] for row in found if row[4]}:
        for number, value in applier.held(owner):
            has.setdefault(number, set()).add(value)
    for number, name in applier.singles.items():
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


def _end_undo(Applier applier, mutation):
    check_time("at", mutation.at_us)

    def past(stack):
        return mutation.at_us - stack.joins[0][1] > limits.UNDO_US

    # A login a week joins without end: of a stack those go that are past, the oldest first.
    ending = [customer for customer, stack in applier.undoable.items() if past(stack)][:limits.UNDO_ENDED]
    for customer in ending:
        while customer in applier.undoable and past(applier.undoable[customer]):
            applier.forget_oldest(customer)
    return len(ending)


register(Join, _join)
register(Unmerge, _unmerge)
register(EndUndo, _end_undo)
