"""Reads the frames of a journal and does again what they hold.

The layout is told in transaction.pxd, where transactions note it. A frame counts only whole: its checksum is compared
before anything in it is used, and its groups and changes are walked within its bounds all the same.

Changes are done again exactly once and in order, each upon the state that the one before it left: a patch refers to the value
that was there. What was erased from a journal is missing in it; that leaves the others as they were, because a patch
refers to an entry of the same customer, and an erasure takes him whole, whatever is there of him.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

import msgspec

from core.errors import StoreCorrupt
from core.hub import erasing, merges
from core.hub.buffer cimport Buffer, buffer_append, buffer_free
from core.hub.erasing cimport KeptJoins
from core.hub.opening cimport handle
from core.hub.transaction cimport (
    CHANGE_DELETE, CHANGE_ERASE, CHANGE_PATCH, CHANGE_PUT, CHANGE_SHED, FRAME_MAGIC, ChangeHead, FrameHead, GroupHead, PatchHead,
    Transaction,
)
from core.hub.lmdb cimport MDB_NOTFOUND, MDB_dbi
from core.hub.record cimport rapport_crc32c


PUT, DELETE, PATCH, ERASE, SHED = CHANGE_PUT, CHANGE_DELETE, CHANGE_PATCH, CHANGE_ERASE, CHANGE_SHED


cdef int read_frame(const uint8_t* data, size_t size, size_t at, FrameHead* head) except -1:
    """1 with its head when a whole frame begins here, else 0."""
    cdef GroupHead group
    cdef size_t place, end
    cdef uint64_t seq
    if at + sizeof(FrameHead) > size:
        return 0
    memcpy(head, data + at, sizeof(FrameHead))
    if (
        head.magic != FRAME_MAGIC or head.size < sizeof(FrameHead) or head.size > size - at or head.size % 8
        or rapport_crc32c(data + at + 4, head.size - 4) != head.checksum
    ):
        return 0
    place = at + sizeof(FrameHead)
    end = at + head.size
    seq = head.first
    while place < end:
        if end - place < sizeof(GroupHead):
            return 0
        memcpy(&group, data + place, sizeof(GroupHead))
        if group.size < sizeof(GroupHead) or group.size > end - place or group.seq != seq:
            return 0
        place += group.size
        seq += 1
    return 1 if seq == head.last + 1 else 0


def frame(const uint8_t[::1] data not None, size_t at):
    """(size, first, last, committed_us) of the whole frame that begins here, or None."""
    cdef FrameHead head
    if at < <size_t>data.shape[0] and read_frame(&data[0], data.shape[0], at, &head):
        return head.size, head.first, head.last, head.committed_us
    return None


cdef object bad(uint64_t seq, str problem):
    return StoreCorrupt(f"Change {seq} of the journal", problem, "Restore to the change before it, or from a later backup.")


cdef int read_change(const uint8_t* data, size_t at, size_t end, ChangeHead* head, uint64_t seq) except -1:
    """The head of the change that begins here, of the group of this number that ends there."""
    if end - at < sizeof(ChangeHead):
        raise bad(seq, "it ends in the middle")
    memcpy(head, data + at, sizeof(ChangeHead))
    if <size_t>head.value_bytes + head.key_bytes > end - at - sizeof(ChangeHead):
        raise bad(seq, "it is longer than its frame")
    return 0


cdef size_t room(ChangeHead* head) noexcept:
    """Bytes of the change."""
    return (sizeof(ChangeHead) + <size_t>head.key_bytes + head.value_bytes + 7) & ~<size_t>7


def changes(const uint8_t[::1] data not None, size_t at):
    """[(seq, kind, database's place, subject, key, value)] of the whole frame that begins here."""
    cdef FrameHead frame_head
    cdef GroupHead group
    cdef ChangeHead head
    cdef size_t place, end, inner
    cdef const uint8_t* start = &data[0]
    found = []
    if not read_frame(start, data.shape[0], at, &frame_head):
        return found
    place = at + sizeof(FrameHead)
    while place < at + frame_head.size:
        memcpy(&group, start + place, sizeof(GroupHead))
        end = place + group.size
        inner = place + sizeof(GroupHead)
        while inner < end:
            read_change(start, inner, end, &head, group.seq)
            key = start + inner + sizeof(ChangeHead)
            found.append((
                group.seq, head.kind, head.database, head.subject, key[:head.key_bytes],
                (key + head.key_bytes)[:head.value_bytes]))
            inner += room(&head)
        place = end
    return found


def erasure(bytes value not None):
    """(customers, keys of their identifiers) of a change that erases; see transaction.pxd. No keys: they were blanked."""
    customers = int.from_bytes(value[:4], "little")
    count = int.from_bytes(value[4:8], "little")
    ids = [int.from_bytes(value[8 + 8 * n:16 + 8 * n], "little") for n in range(customers)]
    keys = []
    at = 8 + 8 * customers
    for _ in range(count):
        size = int.from_bytes(value[at:at + 2], "little")
        keys.append(value[at + 2:at + 2 + size])
        at += 2 + size
    return ids, keys


def erasures(const uint8_t[::1] data not None, size_t at):
    """[(seq, customers, keys of their identifiers)] of the erasures in the whole frame that begins here."""
    cdef FrameHead frame_head
    cdef GroupHead group
    cdef ChangeHead head
    cdef size_t place, end, inner
    cdef const uint8_t* start = &data[0]
    found = []
    if not read_frame(start, data.shape[0], at, &frame_head):
        return found
    place = at + sizeof(FrameHead)
    while place < at + frame_head.size:
        memcpy(&group, start + place, sizeof(GroupHead))
        end = place + group.size
        inner = place + sizeof(GroupHead)
        while inner < end:
            read_change(start, inner, end, &head, group.seq)
            if head.kind == CHANGE_ERASE:
                found.append((group.seq, *erasure((start + inner + sizeof(ChangeHead))[:head.value_bytes])))
            inner += room(&head)
        place = end
    return found


def redo(
    Transaction txn not None, const uint8_t[::1] data not None, size_t at, names, uint64_t after, uint64_t until,
    KeptJoins joins not None,
):
    """Do again the changes of the frame that begins here, from behind number `after` up to `until`; the number reached."""
    cdef FrameHead frame_head
    cdef GroupHead group
    cdef ChangeHead head
    cdef size_t place, end, inner
    cdef const uint8_t* start = &data[0]
    cdef const uint8_t* key
    cdef MDB_dbi database
    cdef Buffer whole
    cdef uint64_t reached = after
    cdef uint64_t next_customer = 0
    if not read_frame(start, data.shape[0], at, &frame_head):
        raise bad(after + 1, "its frame is not whole")
    whole.data = NULL
    whole.size = whole.capacity = 0
    place = at + sizeof(FrameHead)
    try:
        while place < at + frame_head.size:
            memcpy(&group, start + place, sizeof(GroupHead))
            end = place + group.size
            if after < group.seq <= until:
                inner = place + sizeof(GroupHead)
                while inner < end:
                    read_change(start, inner, end, &head, group.seq)
                    key = start + inner + sizeof(ChangeHead)
                    if head.database >= len(names):
                        raise bad(group.seq, f"its database {head.database} has no name")
                    database = handle(&txn.environment.handles, names[head.database])[0]
                    if head.kind == CHANGE_PUT:
                        txn.put(database, key, head.key_bytes, key + head.key_bytes, head.value_bytes, 0)
                    elif head.kind == CHANGE_DELETE:
                        txn.delete(database, key, head.key_bytes)
                    elif head.kind == CHANGE_PATCH or head.kind == CHANGE_SHED:
                        patch(txn, database, key, &head, &whole, group.seq)
                    elif head.kind == CHANGE_ERASE:
                        erasing.erase_from(txn, [(erasure(key[:head.value_bytes])[0], [])], joins)
                    else:
                        raise bad(group.seq, f"a change is of the unknown kind {head.kind}")
                    if database == txn.environment.handles.meta and head.kind != CHANGE_ERASE:
                        tell(txn, joins, key[:head.key_bytes])
                    elif names[head.database] == "catalog":
                        joins.catalog = None
                    inner += room(&head)
                reached = group.seq
                next_customer = group.next_customer
            place = end
        if reached != after:
            put_number(txn, b"applied", reached)
            if next_customer > 1:
                put_number(txn, b"next_customer", next_customer)
    finally:
        buffer_free(&whole)
    return reached


cdef int tell(Transaction txn, KeptJoins joins, bytes key) except -1:
    """What is kept of joins may have changed under this key."""
    cdef const uint8_t* data
    cdef size_t size
    if joins.stacks is None or not key.startswith(merges.PREFIX):
        return 0
    if txn.get(txn.environment.handles.meta, <const char*>key, len(key), &data, &size) == MDB_NOTFOUND:
        return joins.drop(key)
    return joins.put(txn, key, data[:size])


cdef int patch(
    Transaction txn, MDB_dbi database, const uint8_t* key, ChangeHead* head, Buffer* whole, uint64_t seq
) except -1:
    """Make the new value of the one that is there and put it."""
    cdef PatchHead given
    cdef const uint8_t* stored
    cdef const uint8_t* fresh = key + head.key_bytes
    cdef uint64_t shed = 0
    cdef size_t size, middle
    cdef size_t told = sizeof(PatchHead) + (sizeof(shed) if head.kind == CHANGE_SHED else 0)
    if head.value_bytes < told:
        raise bad(seq, "a patch ends in the middle")
    memcpy(&given, fresh, sizeof(PatchHead))
    memcpy(&shed, fresh + sizeof(PatchHead), told - sizeof(PatchHead))
    fresh += told
    if head.value_bytes - told < given.head:
        raise bad(seq, "a patch ends in the middle")
    middle = head.value_bytes - told - given.head
    if (
        txn.get(database, key, head.key_bytes, &stored, &size) == MDB_NOTFOUND or size != given.before
        or shed > size or <size_t>given.head + given.front + given.back > size - shed
    ):
        raise bad(seq, "it changes a value that is not as it was")
    whole.size = 0
    # Copied before the put: LMDB's pointer ends with it.
    if (
        buffer_append(whole, fresh, given.head) or buffer_append(whole, stored + given.head + shed, given.front)
        or buffer_append(whole, fresh + given.head, middle) or buffer_append(whole, stored + size - given.back, given.back)
    ):
        raise MemoryError("no memory for a value")
    txn.put(database, key, head.key_bytes, whole.data, whole.size, 0)
    return 0


cdef int put_number(Transaction txn, bytes key, uint64_t number) except -1:
    cdef bytes data = msgspec.msgpack.encode(number)
    return txn.put(txn.environment.handles.meta, <const char*>key, len(key), <const char*>data, len(data), 0)


def put_meta(Transaction txn not None, bytes key not None, bytes value not None):
    """Write an entry of the database `meta`."""
    txn.put(txn.environment.handles.meta, <const char*>key, len(key), <const char*>value, len(value), 0)


def without(const uint8_t[::1] data not None, size_t at, names, unwanted):
    """The frame that begins here without the changes that `unwanted(seq, kind, database, subject, key, value)` names.

    It returns True, False, or the value to put in place of the change's. None when all of them stay as they are.
    """
    cdef FrameHead frame_head
    cdef GroupHead group
    cdef ChangeHead head
    cdef Buffer kept
    cdef size_t place, end, inner, step, group_at
    cdef bytes other
    cdef uint64_t nothing = 0
    cdef uint32_t checksum
    cdef const uint8_t* start = &data[0]
    cdef const uint8_t* key
    cdef bint changed = False
    if not read_frame(start, data.shape[0], at, &frame_head):
        raise bad(0, "its frame is not whole")
    kept.data = NULL
    kept.size = kept.capacity = 0
    try:
        if buffer_append(&kept, &frame_head, sizeof(FrameHead)):
            raise MemoryError
        place = at + sizeof(FrameHead)
        while place < at + frame_head.size:
            memcpy(&group, start + place, sizeof(GroupHead))
            end = place + group.size
            group_at = kept.size
            if buffer_append(&kept, &group, sizeof(GroupHead)):
                raise MemoryError
            inner = place + sizeof(GroupHead)
            while inner < end:
                read_change(start, inner, end, &head, group.seq)
                key = start + inner + sizeof(ChangeHead)
                step = room(&head)
                said = unwanted(
                    group.seq, head.kind, names[head.database], head.subject, key[:head.key_bytes],
                    (key + head.key_bytes)[:head.value_bytes])
                if said is False:
                    if buffer_append(&kept, start + inner, room(&head)):
                        raise MemoryError
                else:
                    changed = True
                    if said is not True:
                        other = said
                        head.value_bytes = <uint32_t>len(other)
                        if (
                            buffer_append(&kept, &head, sizeof(ChangeHead)) or buffer_append(&kept, key, head.key_bytes)
                            or buffer_append(&kept, <const char*>other, len(other))
                            or buffer_append(&kept, &nothing, -(<size_t>head.key_bytes + head.value_bytes) % 8)
                        ):
                            raise MemoryError
                inner += step
            group.size = kept.size - group_at
            memcpy(kept.data + group_at, &group, sizeof(GroupHead))
            place = end
        if not changed:
            return None
        frame_head.size = kept.size
        memcpy(kept.data, &frame_head, sizeof(FrameHead))
        checksum = rapport_crc32c(kept.data + 4, kept.size - 4)
        memcpy(kept.data, &checksum, 4)
        return kept.data[:kept.size]
    finally:
        buffer_free(&kept)
