"""Applies imported rows to customers' records and event lists: the fast half of an import.

`core.importing` has made columns of values from a file, `core.importing.importer` has put them into a mutation; the
committer calls here, inside its write transaction, once per mutation of some thousands of rows. For each row: find the
customer by the identifiers, build the record anew from the stored one and the row's values, and put it back if
anything but its `updated` differs. New customers get ids in sequence, so their records are appended at the tree's
right edge and fill their pages. Events are gathered by customer first, so that each list is rewritten once a mutation.

A row is refused before its first write, so it is applied whole or not at all; a code from LMDB ends the transaction,
and with it every row. The clock is the mutation's. Applying a mutation twice leaves the store as once.

Which customer a row means: the one of its most trusted known identifier (`core.hub.identifiers.meant`). Its other identifiers
are added where nobody has them; one that another customer has stays with that customer and is counted as contested, because
an import is no proof that two customers are one. A row that would give a customer a second one of a single namespace is refused.

Memory: columns point into the mutation's byte strings, which the caller keeps; a record read from LMDB is borrowed
until the row's first put, and is not used after it.
"""

from libc.stdint cimport INT64_MIN, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from cpython.bytes cimport PyBytes_AS_STRING

from core.hub.apply cimport Applier
from core.hub.buffer cimport Buffer, buffer_append, buffer_free
from core.hub.causes cimport LARGE_RECORD, LONG_TEXT, MANY_IDENTIFIERS, PAST_HISTORY, PAST_RETENTION, SECOND_OF_SINGLE
from core.hub.contacts cimport MERGED_COUNTED, MERGED_PAST
from core.hub.snapshot cimport IDENTIFIER_KEY_BYTES, identifier_key
from core.hub.transaction cimport Transaction
from core.hub.events cimport (
    EVENT_LONG, EventBuilder, Keeping, MergeScratch, event_begin, event_clear_text, event_finish, event_set_f64,
    event_set_i64, event_set_text, events_merge_kept, events_scratch_free,
)
from core.hub.lmdb cimport MDB_APPEND, MDB_NOTFOUND, MDB_dbi, MDB_val, api, error_for
from core.hub.seal cimport unseal
from core.hub.record cimport (
    BUILT, REFUSED_DAMAGED, REFUSED_IDENTIFIERS, REFUSED_LONG, REFUSED_MEMORY, REFUSED_SINGLE, REFUSED_SIZE, RecordBuilder,
    RecordLayout, RecordView, builder_add_identifier, builder_begin, builder_clear_text, builder_finish, builder_free,
    builder_set_bool, builder_set_consent, builder_set_enum, builder_set_f64, builder_set_i64, builder_set_text, builder_touch,
    identifiers_exclude, record_open,
)

import numpy as np

from core.errors import EngineFault, StoreCorrupt, UnknownName
from core.hub.retention import since
from core.hub.row_by_row import by_rank, kind_of, remember_rows, upsert_one_by_one
from core.hub.shapes import SHAPES, WIDTHS, absent, check_ends

# The letters of `core.hub.shapes`.
cdef enum Shape:
    SHAPE_BOOL = 98  # b: 1 byte; 0 missing, 1 false, 2 true
    SHAPE_CODE = 101  # e: u16 label code; 0 missing
    SHAPE_WHOLE = 105  # i: i64; INT64_MIN missing
    SHAPE_DOUBLE = 102  # f: binary64; NaN missing
    SHAPE_TEXT = 116  # t: u32 end of the text; no bytes missing
    SHAPE_SET = 115  # s: as t, the text in the heap form of a set

cdef struct TextColumn:
    const uint32_t* ends  # [row] where the row's text ends in texts; borrowed from the mutation
    const char* texts  # borrowed from the mutation
    uint16_t namespace  # catalog number, for identifiers
    bint single  # a person has one of the namespace

cdef struct ValueColumn:
    const uint8_t* values  # width bytes a row, or u32 ends for texts; borrowed from the mutation
    const char* texts  # borrowed from the mutation
    uint32_t place  # attributes: offset in the record's fixed area; events: index of the field
    int kind  # letter of the type, see SHAPES
    const char** labels  # event fields of type enum: texts of the codes; owned by the call
    uint32_t* label_bytes  # their lengths; owned by the call
    uint32_t label_count  # of them

cdef struct ConsentColumn:
    const uint8_t* granted  # [row] 0 says nothing, 1 refused, 2 granted; borrowed from the mutation
    const uint8_t* at  # [row] i64 microseconds; borrowed from the mutation
    uint16_t purpose  # catalog number
    uint16_t channel  # catalog number; 0: any

cdef struct Tally:
    uint64_t created  # customers made
    uint64_t changed  # known customers whose record changed; for events: rows that counted
    uint64_t unchanged  # rows that changed nothing: equal values, or known event keys

# What ends a loop over rows early.
cdef enum Stop:
    STOP_NONE = 0
    STOP_MEMORY = 1
    STOP_STORE = 2  # LMDB's code is in `code`
    STOP_DAMAGED = 3  # the customer whose record or list fails its checks is in `damaged`


cdef class Rows:
    """The columns of one mutation, checked, and the means to apply them to one transaction.

    ``identifiers`` are (namespace number, whether it is single, ends, texts) by the rank of their namespaces; ``columns`` are
    (place, shape, values, texts, labels).
    """

    cdef Transaction transaction  # whose writes these are
    cdef object kept  # the mutation's byte strings
    cdef TextColumn* identifiers  # owned
    cdef ValueColumn* columns  # owned
    cdef ConsentColumn* consents  # owned
    cdef uint32_t consent_count  # of them
    cdef uint16_t source  # catalog number of who says so
    cdef MDB_dbi records  # the database of the records: customers', unless said otherwise
    cdef uint64_t* owners  # [identifier] the customer who has the row's identifier, 0: nobody; owned
    cdef uint32_t identifier_count  # identifiers of a row
    cdef uint32_t column_count  # columns
    cdef uint32_t rows  # rows
    cdef object moments  # what `keeping` points into; None while it is empty
    cdef Keeping keeping  # which events retention keeps
    cdef RecordBuilder record  # reused for every row
    cdef const uint8_t* fresh  # the record last finished
    cdef Buffer refused  # RefusedRow array
    cdef Buffer contested  # u32 row for each identifier that was left with another customer, who has it
    cdef bint followed  # whether anybody wants to know who changed
    cdef Buffer concerned  # ids of those whose record or events changed, u64 each, where `followed`
    cdef readonly uint64_t next_customer  # the id that the next new customer gets
    cdef readonly object whose  # array of u64 [row]: the row's customer, or household; 0 while it is not applied, or refused
    cdef uint64_t* owner_of  # its memory, which is of one row at least
    cdef uint64_t met  # identifiers of the row at hand that another customer has
    cdef Tally tally  # what was done
    cdef int code  # LMDB's, with STOP_STORE
    cdef uint64_t damaged  # customer id, with STOP_DAMAGED

    def __cinit__(
        self, Transaction transaction not None, uint32_t rows, identifiers, columns, uint64_t next_customer
    ):
        cdef uint32_t i, k
        cdef bytes label
        cdef uint64_t[::1] owner_of
        self.transaction = transaction
        self.records = transaction.environment.handles.profiles
        self.rows = rows
        self.next_customer = next_customer
        self.whose = np.zeros(max(rows, 1), dtype=np.uint64)
        owner_of = self.whose
        self.owner_of = &owner_of[0]
        self.identifier_count = <uint32_t>len(identifiers)
        self.column_count = <uint32_t>len(columns)
        self.kept = (list(identifiers), list(columns))
        self.identifiers = <TextColumn*>calloc(self.identifier_count + 1, sizeof(TextColumn))
        self.owners = <uint64_t*>calloc(self.identifier_count + 1, sizeof(uint64_t))
        self.columns = <ValueColumn*>calloc(self.column_count + 1, sizeof(ValueColumn))
        if self.identifiers == NULL or self.owners == NULL or self.columns == NULL:
            raise MemoryError("no memory for imported rows")
        for i, (namespace, single, ends, texts) in enumerate(identifiers):
            check_ends(rows, ends, texts)
            self.identifiers[i].namespace = namespace
            self.identifiers[i].single = single
            self.identifiers[i].ends = <const uint32_t*>PyBytes_AS_STRING(ends)
            self.identifiers[i].texts = PyBytes_AS_STRING(texts)
        for i, (place, shape, values, texts, labels) in enumerate(columns):
            if len(values) != rows * WIDTHS[shape]:
                raise EngineFault(f"An imported column has {len(values)} bytes for {rows} rows of shape {shape}.")
            if shape in "ts":
                check_ends(rows, values, texts)
            self.columns[i].place = place
            self.columns[i].kind = ord(shape)
            self.columns[i].values = <const uint8_t*>PyBytes_AS_STRING(values)
            self.columns[i].texts = PyBytes_AS_STRING(texts)
            self.columns[i].label_count = <uint32_t>len(labels)
            self.columns[i].labels = <const char**>calloc(len(labels) + 1, sizeof(char*))
            self.columns[i].label_bytes = <uint32_t*>calloc(len(labels) + 1, sizeof(uint32_t))
            if self.columns[i].labels == NULL or self.columns[i].label_bytes == NULL:
                raise MemoryError("no memory for imported rows")
            for k, label in enumerate(labels):
                self.columns[i].labels[k] = PyBytes_AS_STRING(label)
                self.columns[i].label_bytes[k] = <uint32_t>len(label)

    def __dealloc__(self):
        cdef uint32_t i
        if self.columns != NULL:
            for i in range(self.column_count):
                free(self.columns[i].labels)
                free(self.columns[i].label_bytes)
        free(self.identifiers)
        free(self.owners)
        free(self.consents)
        free(self.columns)
        builder_free(&self.record)
        buffer_free(&self.refused)
        buffer_free(&self.contested)
        buffer_free(&self.concerned)

    def consenting(self, consents, uint16_t source):
        """Give the rows consents for `upsert`: (purpose, channel, granted, at) of each, by numbers."""
        cdef uint32_t i
        if self.consents != NULL:
            raise EngineFault("An import's rows were given consents twice.")
        self.source = source
        self.kept = (self.kept, list(consents))
        self.consents = <ConsentColumn*>calloc(len(consents) + 1, sizeof(ConsentColumn))
        if self.consents == NULL:
            raise MemoryError("no memory for imported rows")
        for i, (purpose, channel, granted, at) in enumerate(consents):
            if len(granted) != self.rows or len(at) != 8 * <Py_ssize_t>self.rows:
                raise EngineFault("An import's consents are not one a row.")
            self.consents[i].purpose = purpose
            self.consents[i].channel = channel
            self.consents[i].granted = <const uint8_t*>PyBytes_AS_STRING(granted)
            self.consents[i].at = <const uint8_t*>PyBytes_AS_STRING(at)
            self.consent_count = i + 1

    def upsert(self, RecordLayout layout not None, int64_t at, bint clear_missing):
        """Merge every row's values into its customer's record, which is made when no identifier is known.

        ``clear_missing`` says that a missing value removes what the record has, otherwise it is kept.
        """
        cdef int stopped
        with nogil:
            stopped = self.upsert_rows(layout, at, clear_missing)
        self.check(stopped, "profile")

    def record_events(
        self, RecordLayout layout not None, uint16_t type, uint16_t field_count, bytes at not None, bytes keys not None,
        bytes moments=None
    ):
        """Add every row as an event of ``type`` to its customer's list, unless its key is there.

        ``at`` and ``keys`` hold an i64 of microseconds and a u64 hash a row. A customer whom no identifier knows is
        made. A record's time moves on to the newest event that counted. Rows before their type's moment in ``moments``
        (`core.hub.retention.since`) are refused.
        """
        cdef int stopped
        cdef int64_t[::1] order
        cdef const int64_t* first
        cdef const uint64_t* hashes
        cdef const int64_t* times = <const int64_t*>PyBytes_AS_STRING(at)
        if len(at) != 8 * <Py_ssize_t>self.rows or len(keys) != 8 * <Py_ssize_t>self.rows:
            raise EngineFault("An import's times or keys are not one a row.")
        if self.rows == 0:
            return
        if moments is not None:
            self.moments = moments
            self.keeping.since = <const int64_t*>PyBytes_AS_STRING(moments)
            self.keeping.types = <uint32_t>(len(moments) // 8)
        with nogil:
            stopped = self.find_customers(layout, times, self.owner_of)
        self.check(stopped, "profile")
        # Stable: a customer's events keep the file's order.
        order = np.argsort(self.whose, kind="stable").astype(np.int64)
        hashes = <const uint64_t*>PyBytes_AS_STRING(keys)
        first = &order[0]
        with nogil:
            stopped = self.append_events(layout, type, field_count, times, hashes, self.owner_of, first)
        self.check(stopped, "event list")

    cdef int concern(self, uint64_t owner) noexcept nogil:
        """Note that a customer, or household, changed; a Stop."""
        if self.followed and buffer_append(&self.concerned, &owner, sizeof(uint64_t)):
            return STOP_MEMORY
        return STOP_NONE

    def told(self):
        """Who changed, each as often as it was noted."""
        cdef const uint64_t* ids = <const uint64_t*>self.concerned.data
        cdef size_t i
        return [ids[i] for i in range(self.concerned.size // sizeof(uint64_t))]

    def result(self):
        """(created, changed, unchanged, contested, refused): contested holds a row for each identifier that another customer
        has, refused (row, cause) pairs."""
        cdef const uint32_t* entry = <const uint32_t*>self.refused.data
        cdef const uint32_t* met = <const uint32_t*>self.contested.data
        cdef size_t i
        refused = [(entry[2 * i], entry[2 * i + 1]) for i in range(self.refused.size // 8)]
        contested = [met[i] for i in range(self.contested.size // 4)]
        return self.tally.created, self.tally.changed, self.tally.unchanged, contested, refused

    def check(self, int stopped, str what):
        """Raise what a stopped loop stopped for."""
        if stopped == STOP_MEMORY:
            raise MemoryError("no memory for imported rows")
        if stopped == STOP_STORE:
            raise error_for(self.code, "importing", self.transaction.environment.path, True)
        if stopped == STOP_DAMAGED:
            raise StoreCorrupt(f"The {what} of customer {self.damaged}", "it fails its checks")

    cdef int refuse(self, uint32_t row, int refusal) noexcept nogil:
        """Note a row that a builder refused; a Stop."""
        if refusal == REFUSED_MEMORY:
            return STOP_MEMORY
        if refusal == REFUSED_LONG:
            return self.note(row, LONG_TEXT)
        if refusal == REFUSED_SINGLE:
            return self.note(row, SECOND_OF_SINGLE)
        return self.note(row, MANY_IDENTIFIERS if refusal == REFUSED_IDENTIFIERS else LARGE_RECORD)

    cdef int note(self, uint32_t row, uint32_t cause) noexcept nogil:
        """Note a row that is refused; a Stop."""
        cdef uint32_t[2] entry
        entry[0] = row
        entry[1] = cause
        return STOP_MEMORY if buffer_append(&self.refused, entry, sizeof(entry)) else STOP_NONE

    cdef int get(self, MDB_dbi database, void* key, size_t length, MDB_val* found) noexcept nogil:
        cdef MDB_val wanted
        cdef int code
        wanted.mv_data = key
        wanted.mv_size = length
        code = api.get(self.transaction.txn, database, &wanted, found)
        return code if code else unseal(self.transaction.environment.sealing[database], &wanted, found)

    cdef int put(
        self, MDB_dbi database, void* key, size_t length, const void* bytes, size_t size, unsigned int flags
    ) noexcept nogil:
        return self.transaction.put_raw(database, key, length, bytes, size, flags)

    cdef int find(self, uint32_t row, uint64_t* customer) noexcept nogil:
        """The row's customer, 0 when no identifier is known, and each identifier's owner; a Stop."""
        cdef uint8_t key[IDENTIFIER_KEY_BYTES]
        cdef size_t key_bytes
        cdef MDB_val found
        cdef uint32_t i, start, length
        cdef TextColumn* column
        cdef int stopped
        cdef bint another = False
        customer[0] = 0
        self.met = 0
        for i in range(self.identifier_count):
            self.owners[i] = 0
            column = &self.identifiers[i]
            start = column.ends[row - 1] if row else 0
            length = column.ends[row] - start
            if length == 0:
                continue
            key_bytes = identifier_key(column.namespace, column.texts + start, length, key)
            self.code = self.get(self.transaction.environment.handles.identifiers, key, key_bytes, &found)
            if self.code == MDB_NOTFOUND:
                continue
            if self.code:
                return STOP_STORE
            if found.mv_size == sizeof(uint64_t):
                memcpy(&self.owners[i], found.mv_data, sizeof(uint64_t))
            if customer[0] == 0:
                stopped = self.excludes(row, i, self.owners[i], &another)
                if stopped:
                    return stopped
                if not another:
                    customer[0] = self.owners[i]
                    continue
            if customer[0] != self.owners[i]:
                self.met += 1
        return STOP_NONE

    cdef int excludes(self, uint32_t row, uint32_t above, uint64_t owner, bint* another) noexcept nogil:
        """Whether one of the row's first `above` identifiers cannot be the owner's (core.hub.identifiers.meant); a Stop."""
        cdef MDB_val found
        cdef RecordView view
        cdef uint32_t i, start, length
        cdef TextColumn* column
        cdef bint opened = False
        another[0] = False
        for i in range(above):
            column = &self.identifiers[i]
            start = column.ends[row - 1] if row else 0
            length = column.ends[row] - start
            if length == 0 or not column.single:
                continue
            if not opened:
                self.code = self.get(self.records, &owner, sizeof(uint64_t), &found)
                if self.code and self.code != MDB_NOTFOUND:
                    return STOP_STORE
                if self.code or record_open(<const uint8_t*>found.mv_data, found.mv_size, &view):
                    self.damaged = owner
                    return STOP_DAMAGED
                opened = True
            if identifiers_exclude(view.identifiers, view.identifier_count, column.namespace, column.texts + start, length):
                another[0] = True
                return STOP_NONE
        return STOP_NONE

    cdef int contest(self, uint32_t row) noexcept nogil:
        """Note the row's identifiers that another customer has; a Stop."""
        cdef uint64_t _
        for _ in range(self.met):
            if buffer_append(&self.contested, &row, sizeof(row)):
                return STOP_MEMORY
        return STOP_NONE

    cdef int add_identifiers(self, uint32_t row) noexcept nogil:
        """Add the row's identifiers that nobody has to the record being built; BUILT or a Refusal."""
        cdef uint32_t i, start, length
        cdef TextColumn* column
        cdef int refusal
        for i in range(self.identifier_count):
            column = &self.identifiers[i]
            start = column.ends[row - 1] if row else 0
            length = column.ends[row] - start
            if length == 0 or self.owners[i]:
                continue
            if column.single and identifiers_exclude(
                self.record.identifiers.data, self.record.identifier_count, column.namespace, column.texts + start, length
            ):
                return REFUSED_SINGLE
            refusal = builder_add_identifier(
                &self.record, column.namespace, <const uint8_t*>column.texts + start, length
            )
            if refusal:
                return refusal
        return BUILT

    cdef int put_identifiers(self, uint32_t row, uint64_t customer) noexcept nogil:
        """Point the row's identifiers that nobody has to the customer; a Stop."""
        cdef uint8_t key[IDENTIFIER_KEY_BYTES]
        cdef size_t key_bytes
        cdef uint32_t i, start, length
        cdef TextColumn* column
        for i in range(self.identifier_count):
            column = &self.identifiers[i]
            start = column.ends[row - 1] if row else 0
            length = column.ends[row] - start
            if length == 0 or self.owners[i]:
                continue
            key_bytes = identifier_key(column.namespace, column.texts + start, length, key)
            self.code = self.put(
                self.transaction.environment.handles.identifiers, key, key_bytes, &customer, sizeof(uint64_t), 0
            )
            if self.code:
                return STOP_STORE
        return STOP_NONE

    cdef int upsert_rows(self, RecordLayout layout, int64_t at, bint clear_missing) noexcept nogil:
        cdef MDB_dbi profiles = self.records
        cdef uint64_t customer, known
        cdef uint32_t row
        cdef MDB_val found
        cdef const uint8_t* bytes
        cdef size_t size
        cdef int refusal, stopped
        for row in range(self.rows):
            stopped = self.find(row, &known)
            if stopped:
                return stopped
            found.mv_data = NULL
            found.mv_size = 0
            if known:
                self.code = self.get(profiles, &known, sizeof(uint64_t), &found)
                if self.code == MDB_NOTFOUND:
                    self.damaged = known
                    return STOP_DAMAGED
                if self.code:
                    return STOP_STORE
            customer = known if known else self.next_customer
            refusal = builder_begin(
                &self.record, &layout.layout, customer, <const uint8_t*>found.mv_data, found.mv_size
            )
            if refusal == BUILT:
                refusal = self.set_values(row, clear_missing)
            if refusal == BUILT:
                refusal = self.set_consents(row)
            if refusal == BUILT:
                refusal = self.add_identifiers(row)
            if refusal == BUILT:
                builder_touch(&self.record, at)
                refusal = builder_finish(&self.record, &bytes, &size)
            if refusal == REFUSED_DAMAGED:
                self.damaged = customer
                return STOP_DAMAGED
            if refusal:
                stopped = self.refuse(row, refusal)
                if stopped:
                    return stopped
                continue
            self.owner_of[row] = customer
            if self.contest(row):
                return STOP_MEMORY
            # Only the checksum and `updated` (bytes 4 to 8 and 16 to 24) may differ in a record that says the same.
            if known and size == found.mv_size \
                    and memcmp(bytes + 24, <const uint8_t*>found.mv_data + 24, size - 24) == 0:
                self.tally.unchanged += 1
                continue
            self.code = self.put(profiles, &customer, sizeof(uint64_t), bytes, size, 0 if known else MDB_APPEND)
            if self.code:
                return STOP_STORE
            stopped = self.put_identifiers(row, customer) or self.concern(customer)
            if stopped:
                return stopped
            if known:
                self.tally.changed += 1
            else:
                self.tally.created += 1
                self.next_customer += 1
        return STOP_NONE

    cdef int set_values(self, uint32_t row, bint clear_missing) noexcept nogil:
        """Every column's value of the row into the record being built; BUILT or a Refusal."""
        cdef uint32_t i, start, end
        cdef ValueColumn* column
        cdef int64_t whole
        cdef double real
        cdef uint16_t code
        cdef int refusal
        for i in range(self.column_count):
            column = &self.columns[i]
            if column.kind == SHAPE_WHOLE:
                memcpy(&whole, column.values + <size_t>row * 8, 8)
                if whole != INT64_MIN or clear_missing:
                    builder_set_i64(&self.record, column.place, whole)
            elif column.kind == SHAPE_DOUBLE:
                memcpy(&real, column.values + <size_t>row * 8, 8)
                if real == real or clear_missing:
                    builder_set_f64(&self.record, column.place, real)
            elif column.kind == SHAPE_CODE:
                memcpy(&code, column.values + <size_t>row * 2, 2)
                if code or clear_missing:
                    builder_set_enum(&self.record, column.place, code)
            elif column.kind == SHAPE_BOOL:
                if column.values[row] or clear_missing:
                    builder_set_bool(&self.record, column.place, column.values[row])
            else:
                start = (<const uint32_t*>column.values)[row - 1] if row else 0
                end = (<const uint32_t*>column.values)[row]
                if end > start:
                    refusal = builder_set_text(
                        &self.record, column.place, <const uint8_t*>column.texts + start, end - start
                    )
                elif clear_missing:
                    refusal = builder_clear_text(&self.record, column.place)
                else:
                    refusal = BUILT
                if refusal:
                    return refusal
        return BUILT

    cdef int set_consents(self, uint32_t row) noexcept nogil:
        """Every consent of the row into the record being built; BUILT or a Refusal."""
        cdef uint32_t i
        cdef int64_t at
        cdef int refusal
        cdef ConsentColumn* column
        for i in range(self.consent_count):
            column = &self.consents[i]
            if column.granted[row] == 0:
                continue
            memcpy(&at, column.at + <size_t>row * 8, 8)
            refusal = builder_set_consent(
                &self.record, column.purpose, column.channel, column.granted[row] == 2, self.source, at
            )
            if refusal:
                return refusal
        return BUILT

    cdef int find_customers(self, RecordLayout layout, const int64_t* at, uint64_t* customers) noexcept nogil:
        """Every row's customer, made where unknown, identifiers added; 0 where refused; a Stop."""
        cdef MDB_dbi profiles = self.transaction.environment.handles.profiles
        cdef uint64_t customer, known
        cdef uint32_t row, i, start
        cdef MDB_val found
        cdef const uint8_t* bytes
        cdef size_t size
        cdef int refusal, stopped
        cdef bint news
        for row in range(self.rows):
            stopped = self.find(row, &known)
            if stopped:
                return stopped
            customers[row] = known
            news = False
            for i in range(self.identifier_count):
                start = self.identifiers[i].ends[row - 1] if row else 0
                news = news or (self.owners[i] == 0 and self.identifiers[i].ends[row] > start)
            if not news:
                if self.contest(row):
                    return STOP_MEMORY
                continue
            found.mv_data = NULL
            found.mv_size = 0
            if known:
                self.code = self.get(profiles, &known, sizeof(uint64_t), &found)
                if self.code == MDB_NOTFOUND:
                    self.damaged = known
                    return STOP_DAMAGED
                if self.code:
                    return STOP_STORE
            customer = known if known else self.next_customer
            refusal = builder_begin(
                &self.record, &layout.layout, customer, <const uint8_t*>found.mv_data, found.mv_size
            )
            if refusal == BUILT:
                refusal = self.add_identifiers(row)
            if refusal == BUILT:
                builder_touch(&self.record, at[row])
                refusal = builder_finish(&self.record, &bytes, &size)
            if refusal == REFUSED_DAMAGED:
                self.damaged = customer
                return STOP_DAMAGED
            if refusal:
                customers[row] = 0
                stopped = self.refuse(row, refusal)
                if stopped:
                    return stopped
                continue
            self.code = self.put(profiles, &customer, sizeof(uint64_t), bytes, size, 0 if known else MDB_APPEND)
            if self.code:
                return STOP_STORE
            stopped = self.put_identifiers(row, customer) or self.concern(customer) or self.contest(row)
            if stopped:
                return stopped
            customers[row] = customer
            if not known:
                self.tally.created += 1
                self.next_customer += 1
        return STOP_NONE

    cdef int append_events(
        self, RecordLayout layout, uint16_t type, uint16_t field_count, const int64_t* at, const uint64_t* keys,
        const uint64_t* customers, const int64_t* order
    ) noexcept nogil:
        """Pack and merge, customer by customer; a Stop."""
        cdef EventBuilder builder
        cdef MergeScratch scratch
        cdef Buffer output
        cdef Buffer applied
        cdef Buffer places
        cdef int stopped
        memset(&places, 0, sizeof(places))
        memset(&builder, 0, sizeof(builder))
        memset(&scratch, 0, sizeof(scratch))
        memset(&output, 0, sizeof(output))
        memset(&applied, 0, sizeof(applied))
        stopped = self.append_all(
            layout, type, field_count, at, keys, customers, order, &builder, &scratch, &output, &applied, &places
        )
        buffer_free(&builder.entries)
        events_scratch_free(&scratch)
        buffer_free(&output)
        buffer_free(&applied)
        buffer_free(&places)
        return stopped

    cdef int append_all(
        self, RecordLayout layout, uint16_t type, uint16_t field_count, const int64_t* at, const uint64_t* keys,
        const uint64_t* customers, const int64_t* order, EventBuilder* builder, MergeScratch* scratch, Buffer* output,
        Buffer* applied, Buffer* places
    ) noexcept nogil:
        cdef MDB_dbi events = self.transaction.environment.handles.events
        cdef uint64_t customer
        cdef uint32_t i = 0, k, row, packed, counted
        cdef int64_t latest
        cdef uint8_t nothing = 0
        cdef MDB_val found
        cdef int refusal, stopped, fault
        while i < self.rows:
            customer = customers[order[i]]
            builder.entries.size = 0
            applied.size = 0
            places.size = 0
            packed = 0
            latest = INT64_MIN
            while i < self.rows and customers[order[i]] == customer:
                row = <uint32_t>order[i]
                i += 1
                if customer == 0:
                    continue
                if type < self.keeping.types and at[row] < self.keeping.since[type]:
                    stopped = self.note(row, PAST_RETENTION)
                    if stopped:
                        return stopped
                    continue
                refusal = self.pack(builder, type, field_count, at[row], keys[row], row)
                if refusal:
                    stopped = self.refuse(row, REFUSED_SIZE if refusal == EVENT_LONG else REFUSED_MEMORY)
                    if stopped:
                        return stopped
                    continue
                packed += 1
                if at[row] > latest:
                    latest = at[row]
                if buffer_append(applied, &nothing, 1) or buffer_append(places, &row, sizeof(row)):
                    return STOP_MEMORY
            if packed == 0:
                continue
            self.code = self.get(events, &customer, sizeof(uint64_t), &found)
            if self.code == MDB_NOTFOUND:
                found.mv_data = NULL
                found.mv_size = 0
            elif self.code:
                return STOP_STORE
            fault = events_merge_kept(
                <const uint8_t*>found.mv_data, found.mv_size, builder.entries.data, builder.entries.size, packed,
                applied.data, output, scratch, &self.keeping
            )
            if fault < 0:
                return STOP_MEMORY
            if fault:
                self.damaged = customer
                return STOP_DAMAGED
            counted = 0
            for k in range(packed):
                counted += applied.data[k] == MERGED_COUNTED
                if applied.data[k] == MERGED_PAST:
                    stopped = self.note((<uint32_t*>places.data)[k], PAST_HISTORY)
                    if stopped:
                        return stopped
                elif applied.data[k] != MERGED_COUNTED:
                    self.tally.unchanged += 1
            self.tally.changed += counted
            if counted:
                stopped = self.touch(layout, customer, latest) or self.concern(customer)
                if stopped:
                    return stopped
                self.code = self.put(events, &customer, sizeof(uint64_t), output.data, output.size, 0)
                if self.code:
                    return STOP_STORE
        return STOP_NONE

    cdef int touch(self, RecordLayout layout, uint64_t customer, int64_t at) noexcept nogil:
        """Move the record's `updated` on to `at`, as a single event does; a Stop."""
        cdef MDB_dbi profiles = self.transaction.environment.handles.profiles
        cdef MDB_val found
        cdef RecordView view
        cdef const uint8_t* bytes
        cdef size_t size
        cdef int refusal
        self.code = self.get(profiles, &customer, sizeof(uint64_t), &found)
        self.damaged = customer
        if self.code == MDB_NOTFOUND:
            return STOP_DAMAGED
        if self.code:
            return STOP_STORE
        if record_open(<const uint8_t*>found.mv_data, found.mv_size, &view):
            return STOP_DAMAGED
        if view.updated >= at:
            return STOP_NONE
        refusal = builder_begin(
            &self.record, &layout.layout, customer, <const uint8_t*>found.mv_data, found.mv_size
        )
        if refusal == BUILT:
            builder_touch(&self.record, at)
            refusal = builder_finish(&self.record, &bytes, &size)
        if refusal:
            return STOP_MEMORY if refusal == REFUSED_MEMORY else STOP_DAMAGED
        self.code = self.put(profiles, &customer, sizeof(uint64_t), bytes, size, 0)
        return STOP_STORE if self.code else STOP_NONE

    cdef int pack(
        self, EventBuilder* builder, uint16_t type, uint16_t field_count, int64_t at, uint64_t key, uint32_t row
    ) noexcept nogil:
        """One row as an entry behind the others; EVENT_BUILT or an EventRefusal."""
        cdef uint32_t i, start, end
        cdef ValueColumn* column
        cdef int64_t whole
        cdef double real
        cdef uint16_t code
        cdef int refusal = event_begin(builder, type, at, key, field_count)
        if refusal:
            return refusal
        for i in range(self.column_count):
            column = &self.columns[i]
            if column.kind == SHAPE_WHOLE:
                memcpy(&whole, column.values + <size_t>row * 8, 8)
                event_set_i64(builder, column.place, whole)
            elif column.kind == SHAPE_DOUBLE:
                memcpy(&real, column.values + <size_t>row * 8, 8)
                event_set_f64(builder, column.place, real)
            elif column.kind == SHAPE_BOOL:
                event_set_i64(builder, column.place, column.values[row])
            elif column.kind == SHAPE_CODE:
                memcpy(&code, column.values + <size_t>row * 2, 2)
                if code and code <= column.label_count:
                    refusal = event_set_text(
                        builder, column.place, <const uint8_t*>column.labels[code - 1], column.label_bytes[code - 1]
                    )
                else:
                    event_clear_text(builder, column.place)
            else:
                start = (<const uint32_t*>column.values)[row - 1] if row else 0
                end = (<const uint32_t*>column.values)[row]
                if end > start:
                    refusal = event_set_text(
                        builder, column.place, <const uint8_t*>column.texts + start, end - start
                    )
                else:
                    event_clear_text(builder, column.place)
            if refusal:
                builder.entries.size = builder.start
                return refusal
        return event_finish(builder)


def apply_columns(Applier applier not None, mutation):
    """Apply an `ImportColumns` in the applier's transaction: (created, changed, unchanged, contested, refused).

    Raises UnknownName for a name that the catalog lacks and EngineFault for columns that do not fit their rows, before
    anything is written; afterwards only what spoils the transaction.
    """
    catalog = applier.catalog.with_source(mutation.source)
    if catalog is not applier.catalog:
        applier.set_catalog(catalog)
    identifiers = []
    for column in by_rank(mutation, catalog):
        number = catalog.namespace(column.namespace)
        identifiers.append((number, number in applier.singles, column.ends, column.texts))
    columns = []
    if not mutation.event:
        of_household = kind_of(mutation, catalog)
        attribute = catalog.shared if of_household else catalog.attribute
        for each in mutation.consents:
            if 2 in each.granted:
                catalog.check_grantor(each.purpose, mutation.source)
        if mutation.household is not None or any([attribute(column.name).sources for column in mutation.columns]):
            return upsert_one_by_one(applier, mutation, catalog)
        for column in mutation.columns:
            entry = attribute(column.name)
            columns.append((entry.offset, SHAPES[entry.type.value], column.values, column.texts, []))
        consents = [
            (catalog.purpose(each.purpose), catalog.channel(each.channel) if each.channel else 0, each.granted, each.at)
            for each in mutation.consents
        ]
        rows = Rows(
            applier.transaction, mutation.rows, identifiers, columns,
            applier.next_household if of_household else applier.next_customer)
        rows.consenting(consents, catalog.sources[mutation.source] if mutation.source else 0)
        rows.followed = applier.changed is not None
        applier.direct()
        if of_household:
            rows.records = applier.environment.handles.households
            rows.upsert(applier.household_layout, mutation.at_us, mutation.clear_missing)
            applier.next_household = rows.next_customer
        else:
            rows.upsert(applier.layout, mutation.at_us, mutation.clear_missing)
            applier.next_customer = rows.next_customer
            remember_rows(applier, mutation, catalog, rows.whose)
    else:
        if kind_of(mutation, catalog):
            raise EngineFault("An import gives events to households.")
        event = catalog.event(mutation.event)
        given = {column.name: column for column in mutation.columns}
        for name in given:
            if name not in event.field_names:
                raise UnknownName(f"field of event type {mutation.event}", name, event.field_names)
        for place, field in enumerate(event.fields):
            shape = SHAPES[field.type.value]
            found = given.get(field.name)
            values = absent(shape, mutation.rows) if found is None else found.values
            labels = [label.encode() for label in field.labels]
            columns.append((place, shape, values, b"" if found is None else found.texts, labels))
        rows = Rows(applier.transaction, mutation.rows, identifiers, columns, applier.next_customer)
        rows.followed = applier.changed is not None
        applier.direct()
        rows.record_events(applier.layout, event.number, len(event.fields), mutation.times, mutation.keys,
                           since(applier.catalog, mutation.at_us))
        applier.next_customer = rows.next_customer
        remember_rows(applier, mutation, catalog, rows.whose)
    if rows.followed:
        applier.changed.update(applier.customers_of(rows.told()))
    return rows.result()
