"""The one way in: applies mutations, one by one, inside a write transaction.

Used by the committer's thread alone. A handler reads through the applier (which knows what was written before), makes
all its changes in memory, and returns; then they are written. A handler that raises has therefore changed nothing.
Bulk handlers may instead write to `transaction` themselves, after `direct`.

Handlers live in files of one noun each, which bind them by `register` (core/hub/handlers.py names the files).
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint64_t

from core.hub.buffer cimport Buffer
from core.hub.environment cimport Environment
from core.hub.transaction cimport Transaction
from core.hub.events cimport Packer
from core.hub.lmdb cimport MDB_dbi
from core.hub.record cimport RecordBuilder, RecordLayout


# Items, or customers, between two moments at which another thread may have the GIL: half a millisecond at most.
cdef enum:
    LUMP = 64


cdef inline int let_others(size_t done) except -1:
    """Lets another thread have the GIL, if one waits for it, after every LUMP of what is done."""
    if done % LUMP == 0:
        with nogil:
            pass
    return 0


# Key under which a joined customer's id leads to the survivor.
cdef bytes joined_key(uint64_t customer)


cdef class Applier:
    """Applies mutations; owned by the committer."""

    cdef readonly Environment environment  # where it writes
    cdef readonly Transaction transaction  # the one open now; None between batches
    cdef readonly object catalog  # Catalog with what this transaction added
    cdef readonly RecordLayout layout  # of `catalog`
    cdef readonly RecordLayout household_layout  # of `catalog`
    cdef readonly dict singles  # number of each namespace of which a person has one -> its name, of `catalog`
    cdef readonly bint households  # a namespace of `catalog` names households
    cdef readonly uint64_t applied  # sequence number of the last mutation applied
    cdef readonly bint poisoned  # a write failed half-way: only abort may follow
    cdef uint64_t next_customer  # the id the next new customer gets
    cdef uint64_t next_household  # likewise
    cdef object committed  # (catalog, applied, next_customer, next_household) to go back to on abort
    cdef bint writing  # between the first write of a mutation and its end
    cdef dict records  # changes of the mutation at hand: customer or household -> record, None deletes
    cdef dict contacts  # customer -> contact list, None deletes
    cdef dict events  # customer -> event list, None deletes
    cdef dict origins  # customer or household -> what sources say of him, None deletes
    cdef dict cases  # customer or household -> details of the cases, None deletes
    cdef dict memberships  # customer -> his household, household -> its members, None deletes
    cdef dict identifiers  # key -> customer
    cdef dict programs  # key -> bytes, None deletes
    cdef dict metas  # key -> bytes, None deletes: what `core.hub.merges` keeps
    cdef readonly dict undoable  # survivor -> `merges.Stack`, in the transaction
    cdef public object naming  # `core.hub.naming.Naming` of what is kept for undo; None until an erasure needs it
    cdef dict changed_stacks  # what `undoable` held before the mutation at hand, None for nothing
    cdef dict uncommitted_stacks  # the same before the transaction
    cdef dict touched  # customers whom the mutation at hand concerns -> positions of what concerns him in it, None: all
    cdef dict unnamed  # keys of identifiers that it names and nobody has, also once it is applied -> None
    cdef public set changed  # customers whose record or events changed, until the committer takes them; None: nobody asks
    cdef uint64_t first_new  # customers from this id on were made by the mutation at hand
    cdef uint64_t first_new_household  # likewise
    cdef dict setters  # attribute name -> (offset, kind, entry, codes, path), of `catalog`
    cdef dict household_setters  # likewise, of households
    cdef dict event_kinds  # event type name -> (number, ((field, letter, labels), ...)), of `catalog`
    cdef RecordBuilder builder  # reused for every record; freed with this object
    cdef Packer packer  # reused for every event list
    cdef Buffer entries  # contact entries to add
    cdef Buffer flags  # which of them counted
    cdef Buffer merged  # the contact list that results

    # The next customer id; it counts once the mutation succeeds.
    cdef uint64_t new_customer(self) noexcept
    # The next household id; likewise.
    cdef uint64_t new_household(self) noexcept
    # To be called by a bulk handler before its first write to `transaction`: when it raises afterwards, the whole
    # transaction is undone and the other mutations in it are applied again without it.
    cdef void direct(self) noexcept
    cdef bytes record(self, uint64_t customer)
    cdef bytes contact_list(self, uint64_t customer)
    cdef bytes event_list(self, uint64_t customer)
    # The same without a copy: borrowed until the next write, or until the change at hand is replaced. False when there is none.
    cdef bint find_events(self, uint64_t customer, const uint8_t** start, size_t* size) except -1
    cdef int set_stack(self, uint64_t customer, object stack) except -1
    # Keeps the message for each undoable survivor whom it concerned, and forgets whom it concerned. Of its identifiers those
    # that named nobody are left out: whoever has one by the time of an undo is not whom the message was about.
    cdef int remember(self, object mutation) except -1
    # Deletes what is kept for a survivor: his joins are final.
    cdef int finalise(self, uint64_t customer) except -1
    cdef bytes origin_list(self, uint64_t customer)
    cdef bytes case_list(self, uint64_t customer)
    # The entry of a customer or a household in `memberships`, or None.
    cdef bytes membership(self, uint64_t owner)
    # Into `sourced`, {customer: origins} of what changed: `given` holds (setter, checked value) of one source at one time.
    # Values that take effect are set in the builder, which must hold the customer.
    cdef int settle(self, uint64_t customer, str source, int64_t at, list given, dict sourced) except -1
    cdef uint64_t lookup(self, bytes key) except? 0
    cdef int begin_record(self, uint64_t customer) except -1
    cdef int finish_record(self, uint64_t customer) except -1
    cdef int answer(self, int refusal, uint64_t customer) except -1
    cdef int set_catalog(self, object catalog) except -1
    cdef int flush(self) except -1
    cdef int put_owned(self, MDB_dbi database, dict changes) except -1
    cdef int put_named(self, MDB_dbi database, dict changes) except -1
    cdef int put_catalog(self, object before) except -1
    cdef MDB_dbi records_of(self, uint64_t owner) noexcept
    cdef object stored(self, unsigned int database, bytes key)
    cdef int put_meta(self, bytes key, object value) except -1
