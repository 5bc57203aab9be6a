"""Walks all customers of a store and asks conditions and numbers of each: segments, and what bands are made of.

A `Walk` goes over a plan of no offers (`core.programs.plan.audience_tables`), customer by customer in the order of their ids,
in steps: each takes a snapshot, visits a few thousand and lets it go, so that no page of the store is held for longer. What
a request brings (facts, channel) is missing, and consents are those for any channel. The GIL is let go of for a step.

It remembers, one bit a customer, for whom the first condition held when he was last looked at. The first walk over everybody
so finds all members, later ones who came and who left, and so does a look at single customers between them.
"""

from libc.math cimport floor, isfinite
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, qsort
from libc.string cimport memcpy, memset

from core.errors import EngineFault

from core.hub.buffer cimport Buffer, buffer_append, buffer_free, buffer_reserve
from core.hub.snapshot cimport snapshot_renew, snapshot_reset
from core.hub.lmdb cimport MDB_NOTFOUND, MDB_NEXT, MDB_SET_RANGE, MDB_cursor, MDB_val, api, error_for
from core.kernel.arena cimport arena_reset
from core.kernel.machine cimport RESULT_DOUBLE, RESULT_MONEY, RESULT_STRING, evaluate, holds
from core.kernel.plan cimport Plan
from core.kernel.resolve cimport fill_frame, read_customer
from core.kernel.values cimport PRESENT, Value
from core.kernel.workspace cimport Request, Workspace, give_back, take

cdef enum:
    WALK_MEMORY = -2  # beside LMDB's codes


cdef int _by_value(const void* a, const void* b) noexcept nogil:
    cdef double x = (<const double*> a)[0]
    cdef double y = (<const double*> b)[0]
    return (x > y) - (x < y)


cdef class Walk:
    """A walk over all customers of the store that ``plan`` is bound to; for one thread at a time.

    ``conditions`` and ``numbers`` are numbers of the plan's expressions. Members of the first condition are remembered.
    """

    cdef Plan plan
    cdef Workspace space  # this walk's own until it is closed; its snapshot is live only inside a step
    cdef Request request  # of nobody: all that walks read of it is the clock
    cdef int32_t* conditions  # owned
    cdef uint32_t condition_count
    cdef int32_t* numbers  # owned
    cdef uint32_t number_count
    cdef uint64_t* held  # owned: by condition, customers of this round for whom it held
    cdef Buffer* values  # owned: by number, this round's values as doubles, in order of visits
    cdef Buffer bits  # bits by customer id
    cdef uint64_t count  # bits set in it
    cdef Buffer noted  # int64: a customer's id when he came, its negative when he left; not yet taken
    cdef uint64_t position  # the least id not visited yet in this round
    cdef readonly uint64_t visited  # customers of this round
    cdef readonly uint64_t damaged  # those of them whose bytes fail their checks: not asked, and as they were

    def __cinit__(self, Plan plan not None, conditions, numbers=()):
        cdef uint32_t i
        memset(&self.request, 0, sizeof(Request))
        memset(&self.bits, 0, sizeof(Buffer))
        memset(&self.noted, 0, sizeof(Buffer))
        self.plan = plan
        self.condition_count = <uint32_t> len(conditions)
        self.number_count = <uint32_t> len(numbers)
        self.conditions = <int32_t*> calloc(self.condition_count + 1, sizeof(int32_t))
        self.held = <uint64_t*> calloc(self.condition_count + 1, sizeof(uint64_t))
        self.numbers = <int32_t*> calloc(self.number_count + 1, sizeof(int32_t))
        self.values = <Buffer*> calloc(self.number_count + 1, sizeof(Buffer))
        if self.conditions == NULL or self.held == NULL or self.numbers == NULL or self.values == NULL:
            raise MemoryError("a walk")
        for i in range(self.condition_count):
            self.conditions[i] = conditions[i]
        for i in range(self.number_count):
            self.numbers[i] = numbers[i]
        self.space = take(plan)

    def __dealloc__(self):
        cdef uint32_t i
        if self.values != NULL:
            for i in range(self.number_count):
                buffer_free(&self.values[i])
        free(self.values)
        free(self.conditions)
        free(self.held)
        free(self.numbers)
        buffer_free(&self.bits)
        buffer_free(&self.noted)

    def close(self):
        """Gives the workspace back. Closing twice does nothing."""
        if self.space is not None:
            give_back(self.plan, self.space)
            self.space = None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    @property
    def counts(self):
        """By condition: customers of this round for whom it held."""
        return [self.held[i] for i in range(self.condition_count)]

    def step(self, uint32_t most, int64_t now_us):
        """Visits up to ``most`` customers more; False once this round has visited all."""
        cdef int code
        cdef bint more = False
        self._usable()
        with nogil:
            code = self._step(most, now_us, &more)
        self._raise(code)
        return more

    @property
    def members(self):
        """How many members of the first condition are remembered."""
        return self.count

    def again(self):
        """Begins another round: counts and values from nothing, members as they are."""
        cdef uint32_t i
        self.position = self.visited = self.damaged = 0
        memset(self.held, 0, self.condition_count * sizeof(uint64_t))
        for i in range(self.number_count):
            self.values[i].size = 0

    def remember(self, Walk other not None):
        """Takes over who were members from another walk, which forgets them."""
        if other is self:
            return
        buffer_free(&self.bits)
        self.bits = other.bits
        self.count = other.count
        memset(&other.bits, 0, sizeof(Buffer))
        other.count = 0

    def look(self, customers, int64_t now_us):
        """Looks at these customers now, wherever the round is; those who are no more are no members."""
        cdef uint64_t customer
        cdef int code = 0
        self._usable()
        self._raise(snapshot_renew(&self.space.snapshot))
        try:
            self._clock(now_us)
            for customer in customers:
                code = self._visit(customer, False)
                if code:
                    break
        finally:
            snapshot_reset(&self.space.snapshot)
        self._raise(code)

    def ahead(self, uint32_t most):
        """The next customers of this round, up to ``most``, of whom nothing is asked; [] once it has passed all."""
        cdef MDB_cursor* cursor
        cdef MDB_val key, value
        cdef uint64_t customer
        cdef int code
        self._usable()
        self._raise(snapshot_renew(&self.space.snapshot))
        found = []
        try:
            code = api.cursor_open(self.space.snapshot.txn, self.space.snapshot.handles.profiles, &cursor)
            self._raise(code)
            key.mv_data = &self.position
            key.mv_size = sizeof(uint64_t)
            code = api.cursor_get(cursor, &key, &value, MDB_SET_RANGE)
            while code == 0 and len(found) < most:
                memcpy(&customer, key.mv_data, sizeof(uint64_t))
                found.append(customer)
                self.position = customer + 1
                self.visited += 1
                code = api.cursor_get(cursor, &key, &value, MDB_NEXT)
            api.cursor_close(cursor)
        finally:
            snapshot_reset(&self.space.snapshot)
        self._raise(0 if code == MDB_NOTFOUND else code)
        return found

    def read(self, customers, int64_t now_us):
        """Of each of these customers all numbers as float or text, None where one is missing or failed; None for one who is
        no more, or whose bytes fail their checks."""
        cdef uint64_t customer
        cdef uint32_t i
        cdef Value value
        cdef int code
        cdef int kind
        self._usable()
        self._raise(snapshot_renew(&self.space.snapshot))
        found = []
        try:
            self._clock(now_us)
            for customer in customers:
                with nogil:
                    code = self._open(customer)
                self._raise(code)
                if self.space.work.customer.damaged or not self.space.work.customer.has_record:
                    found.append(None)
                    continue
                fill_frame(&self.space.work)
                cells = []
                for i in range(self.number_count):
                    evaluate(
                        self.space.work.plan.code, self.numbers[i], self.space.work.frame, &self.space.work.arena, &value
                    )
                    kind = self.space.work.plan.code.kinds[self.numbers[i]]
                    if value.state != PRESENT:
                        cells.append(None)
                    elif kind == RESULT_STRING:
                        cells.append(value.text[:value.length].decode("utf-8", "surrogatepass"))
                    else:
                        cells.append(value.f if kind == RESULT_DOUBLE or kind == RESULT_MONEY else <double> value.i)
                if self.space.work.out_of_memory:
                    raise MemoryError("a walk over the customers")
                found.append(tuple(cells))
        finally:
            snapshot_reset(&self.space.snapshot)
        return found

    def changes(self):
        """Who came (the id) and who left (its negative) since this was last asked, in the order in which it was seen."""
        cdef size_t i
        cdef const int64_t* found = <const int64_t*> self.noted.data
        taken = [found[i] for i in range(self.noted.size // sizeof(int64_t))]
        self.noted.size = 0
        return taken

    def edges(self, uint32_t number, uint32_t parts):
        """How many values this round has of a number, and its quantiles i/parts, linear between the two beside each; [] of
        none. Puts the values into order where they lie."""
        cdef double* values
        cdef double place, share, low, high
        cdef size_t below, count
        cdef uint32_t i
        if number >= self.number_count:
            raise EngineFault(f"A walk has {self.number_count} numbers, and number {number} was asked for.")
        values = <double*> self.values[number].data
        count = self.values[number].size // sizeof(double)
        if count == 0:
            return 0, []
        with nogil:
            qsort(values, count, sizeof(double), _by_value)
        found = []
        for i in range(1, parts):
            # To the last bit as numpy has it, which pandas asks.
            place = (<double> i / <double> parts) * <double> (count - 1)
            below = <size_t> floor(place)
            share = place - <double> below
            low = values[below]
            high = values[below + 1 if below + 1 < count else below]
            found.append(low + (high - low) * share if share < 0.5 else high - (high - low) * (1.0 - share))
        return count, found

    cdef _usable(self):
        if self.space is None:
            raise EngineFault("A walk was used after it was closed.")

    cdef _raise(self, int code):
        if code == WALK_MEMORY:
            raise MemoryError("a walk over the customers")
        if code:
            raise error_for(code, "read a customer", self.plan.environment.path, False)

    cdef void _clock(self, int64_t now_us) noexcept nogil:
        self.request.as_of_us = now_us
        self.space.work.request = &self.request

    cdef int _step(self, uint32_t most, int64_t now_us, bint* more) noexcept nogil:
        cdef MDB_cursor* cursor
        cdef MDB_val key, value
        cdef uint64_t customer, before
        cdef uint32_t done = 0
        cdef int code = snapshot_renew(&self.space.snapshot)
        if code:
            return code
        self._clock(now_us)
        code = api.cursor_open(self.space.snapshot.txn, self.space.snapshot.handles.profiles, &cursor)
        if code:
            snapshot_reset(&self.space.snapshot)
            return code
        key.mv_data = &self.position
        key.mv_size = sizeof(uint64_t)
        code = api.cursor_get(cursor, &key, &value, MDB_SET_RANGE)
        while code == 0 and done < most:
            memcpy(&customer, key.mv_data, sizeof(uint64_t))
            before = self.position
            code = self._leave(before, customer)
            if code == 0:
                code = self._visit(customer, True)
            if code:
                break
            self.position = customer + 1
            self.visited += 1
            done += 1
            code = api.cursor_get(cursor, &key, &value, MDB_NEXT)
        more[0] = code == 0
        if code == MDB_NOTFOUND:
            code = self._leave(self.position, self.bits.size * 8)
        api.cursor_close(cursor)
        snapshot_reset(&self.space.snapshot)
        return code

    cdef int _open(self, uint64_t customer) noexcept nogil:
        """Makes the workspace this customer's."""
        arena_reset(&self.space.work.arena)
        memset(&self.space.work.customer, 0, sizeof(self.space.work.customer))
        self.space.work.customer.id = customer
        self.space.work.out_of_memory = 0
        return read_customer(&self.space.work, &self.space.snapshot)

    cdef int _visit(self, uint64_t customer, bint counted) noexcept nogil:
        """Asks everything of one customer; only of the round, where ``counted``, are counts and values."""
        cdef uint32_t i, kind
        cdef bint member
        cdef Value value
        cdef double number
        cdef int code
        code = self._open(customer)
        if code:
            return code
        if self.space.work.customer.damaged:
            self.damaged += counted
            return 0
        if not self.space.work.customer.has_record:
            return self._set(customer, False)
        fill_frame(&self.space.work)
        for i in range(self.condition_count if counted else min(self.condition_count, <uint32_t> 1)):
            member = holds(self.space.work.plan.code, self.conditions[i], self.space.work.frame, &self.space.work.arena) == 1
            if counted:
                self.held[i] += member
            if i == 0:
                code = self._set(customer, member)
                if code:
                    return code
        if counted:
            for i in range(self.number_count):
                evaluate(
                    self.space.work.plan.code, self.numbers[i], self.space.work.frame, &self.space.work.arena, &value
                )
                if value.state != PRESENT:
                    continue
                kind = self.space.work.plan.code.kinds[self.numbers[i]]
                number = value.f if kind == RESULT_DOUBLE or kind == RESULT_MONEY else <double> value.i
                if isfinite(number) and buffer_append(&self.values[i], &number, sizeof(double)):
                    return WALK_MEMORY
        return WALK_MEMORY if self.space.work.out_of_memory else 0

    cdef int _set(self, uint64_t customer, bint member) noexcept nogil:
        """Notes whether a customer is a member, and that it changed."""
        cdef size_t bytes = customer // 64 * 8 + 8
        cdef uint64_t* word
        cdef uint64_t bit = <uint64_t> 1 << (customer % 64)
        cdef int64_t change
        if bytes > self.bits.size:
            if not member:
                return 0
            if buffer_reserve(&self.bits, bytes - self.bits.size):
                return WALK_MEMORY
            memset(self.bits.data + self.bits.size, 0, bytes - self.bits.size)
            self.bits.size = bytes
        word = <uint64_t*> self.bits.data + customer // 64
        if ((word[0] & bit) != 0) == member:
            return 0
        word[0] ^= bit
        if member:
            self.count += 1
        else:
            self.count -= 1
        change = <int64_t> customer if member else -<int64_t> customer
        return WALK_MEMORY if buffer_append(&self.noted, &change, sizeof(int64_t)) else 0

    cdef int _leave(self, uint64_t since, uint64_t until) noexcept nogil:
        """Members with ids from ``since`` up to before ``until`` are no more: they were erased or joined into others."""
        cdef uint64_t customer = since
        cdef const uint64_t* words = <const uint64_t*> self.bits.data
        if until > self.bits.size * 8:
            until = self.bits.size * 8
        while customer < until:
            if words[customer // 64] == 0:
                customer = (customer // 64 + 1) * 64
                continue
            if words[customer // 64] >> (customer % 64) & 1 and self._set(customer, False):
                return WALK_MEMORY
            customer += 1
        return 0
