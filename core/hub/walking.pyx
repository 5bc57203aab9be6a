"""Visits every entry of a store; see walking.pxd."""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcmp, memcpy

from core.errors import StoreCorrupt
from core.hub import case_details, sources
from core.hub.contacts cimport ContactList, contacts_open
from core.hub.databases import ADDED, BY_CUSTOMER, DATABASES
from core.hub.events cimport EventHeader, EventList, event_read, events_open
from core.hub.lmdb cimport (
    MDB_INTEGERKEY, MDB_NEXT, MDB_NOTFOUND, MDB_RDONLY, MDB_cursor, MDB_dbi, MDB_env, MDB_stat, MDB_txn, MDB_val, api, error_for,
)
from core.hub.membership cimport Members, Membership, is_household, members_open, membership_open, record_name
from core.hub.record cimport FAULT_BOUNDS, FAULT_NONE, RecordView, damaged, record_open
from core.hub.seal cimport broken_seal, sealing_of, unseal
from core.hub.snapshot cimport lies_within

cdef enum:
    FREE_DATABASE = 0  # LMDB's own list of free pages


cdef int check_value(str name, MDB_val* key, MDB_val* value) except -1:
    """Raise StoreCorrupt unless the value passes its own checks, or fits its seal."""
    cdef RecordView record
    cdef ContactList contacts
    cdef EventList events
    cdef EventHeader header
    cdef Members members
    cdef Membership membership
    cdef uint64_t customer
    cdef size_t position = 0
    cdef int fault = FAULT_NONE
    cdef MDB_val plain
    plain = value[0]
    if unseal(sealing_of(name), key, &plain):
        raise broken_seal(name)
    if name not in BY_CUSTOMER:
        return 0
    value = &plain
    if key.mv_size != sizeof(uint64_t):
        raise StoreCorrupt(f"A key of {name}", f"it has {key.mv_size} bytes")
    memcpy(&customer, key.mv_data, sizeof(uint64_t))
    if name == "origins":
        sources.decode((<const char*>value.mv_data)[:value.mv_size], customer)
    elif name == "cases":
        case_details.decode((<const char*>value.mv_data)[:value.mv_size], customer)
    elif name == "profiles" or name == "households":
        fault = record_open(<const uint8_t*>value.mv_data, value.mv_size, &record)
        if fault == FAULT_NONE and record.customer != customer:
            raise StoreCorrupt(f"The record of {record_name(customer)}", f"it is that of {record_name(record.customer)}")
    elif name == "memberships":
        if is_household(customer):
            fault = members_open(<const uint8_t*>value.mv_data, value.mv_size, &members)
        else:
            fault = membership_open(<const uint8_t*>value.mv_data, value.mv_size, &membership)
    elif name == "contacts":
        fault = contacts_open(<const uint8_t*>value.mv_data, value.mv_size, &contacts)
    else:
        fault = events_open(<const uint8_t*>value.mv_data, value.mv_size, &events)
        if fault == FAULT_NONE:
            while event_read(&events, position, &header):
                position += header.size
            if position != events.size:
                fault = FAULT_BOUNDS
    if fault:
        raise damaged(fault, f"The entry of {record_name(customer)} in {name}")
    return 0


cdef bint ascends(const MDB_val* before, const MDB_val* key, bint numbers) noexcept nogil:
    """Whether a key stands after the one before it, in LMDB's order."""
    cdef uint64_t one, other
    cdef int order
    if numbers and before.mv_size == sizeof(uint64_t) and key.mv_size == sizeof(uint64_t):
        memcpy(&one, before.mv_data, sizeof(uint64_t))
        memcpy(&other, key.mv_data, sizeof(uint64_t))
        return one < other
    order = memcmp(before.mv_data, key.mv_data, before.mv_size if before.mv_size < key.mv_size else key.mv_size)
    return order < 0 or (order == 0 and before.mv_size < key.mv_size)


cdef object walk_one(MDB_txn* txn, MDB_dbi database, str name, str path):
    """Visit a database; how many entries it has.

    Each must stand after the one before it and be what a look-up of its key finds, and there must be as many as the database
    says: a page damaged between its entries leads look-ups astray, and no checksum tells.
    """
    cdef MDB_cursor* cursor
    cdef MDB_val key, value, found
    cdef MDB_val before
    cdef MDB_stat pages
    cdef uint8_t touched = 0
    cdef bint numbers = not name or name in BY_CUSTOMER
    cdef object what = f"Database {name or 'of free pages'} of the store at {path}"
    cdef int code = api.cursor_open(txn, database, &cursor)
    if code:
        raise StoreCorrupt(what, f"it cannot be opened ({code})")
    before.mv_data = NULL
    before.mv_size = 0
    count = 0
    try:
        api.stat(txn, database, &pages)
        code = api.cursor_get(cursor, &key, &value, MDB_NEXT)
        while code == 0:
            if not lies_within(&key, pages.ms_psize) or not lies_within(&value, pages.ms_psize):
                raise StoreCorrupt(what, "an entry does not lie within its page")
            if before.mv_data != NULL and not ascends(&before, &key, numbers):
                raise StoreCorrupt(what, "its entries are not in order")
            before = key
            if name:
                code = api.get(txn, database, &key, &found)
                if code or found.mv_data != value.mv_data:
                    raise StoreCorrupt(what, f"an entry is not found by its key ({code})")
            check_value(name, &key, &value)
            # A long value has the pages that it says it has, to the last.
            if value.mv_size:
                touched ^= (<const volatile uint8_t*>value.mv_data)[value.mv_size - 1]
            count += 1
            code = api.cursor_get(cursor, &key, &value, MDB_NEXT)
    finally:
        api.cursor_close(cursor)
    if code != MDB_NOTFOUND:
        raise StoreCorrupt(what, f"its pages cannot be followed ({code})")
    if count != pages.ms_entries:
        raise StoreCorrupt(what, f"it has {count} entries and should have {pages.ms_entries}")
    return count


cdef object walk(MDB_env* env, str path):
    """Visit every key and value and check what can be checked; how many there are. Raises StoreCorrupt."""
    cdef MDB_txn* txn
    cdef MDB_dbi database
    cdef int code = api.txn_begin(env, NULL, MDB_RDONLY, &txn)
    if code:
        raise error_for(code, "checking it", path, False)
    count = 0
    try:
        for name in ("", *DATABASES):
            # The unnamed database of free pages is walked as well: a damaged list would hand out pages in use.
            database = FREE_DATABASE
            if name:
                raw = name.encode()
                code = api.dbi_open(txn, raw, MDB_INTEGERKEY if name in BY_CUSTOMER else 0, &database)
            if code == MDB_NOTFOUND and name in ADDED:
                code = 0  # a store of an earlier format; that one of ours has it is seen when it is opened
                continue
            if code:
                raise StoreCorrupt(f"Database {name} of the store at {path}", f"it cannot be opened ({code})")
            count += walk_one(txn, database, name, path)
    finally:
        api.txn_abort(txn)
    return count
