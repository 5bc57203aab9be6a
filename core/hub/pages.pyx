"""Looks at the pages of data.mdb without LMDB: whether they are what it will take them for.

LMDB 0.9 has no checksums on its pages and follows them as they stand: one damaged number between the entries hides some of
them, or ends the process. What it relies on can be told from the file, though. Each page says its own number and kind; its
entries lie side by side without a gap and ascend; a branch's entries bound what is below it; every leaf of a tree is equally
deep; a tree says of how many pages and entries it is; and each page of the file is in one tree or in the list of free ones. So
one changed bit there contradicts another number, and is found.

The file is read, not mapped, so a page that is missing or that the disk refuses is a fault like others and ends nothing. What is
read is the newest state, whose pages nobody may reuse meanwhile: the caller holds rapport.lock, or a snapshot.

`values` asks for what lies in the pages as well, as far as it costs no more than looking: the seals of entries
(core/hub/seal.pxd), which cover their keys, and the ids in records.
"""

from libc.errno cimport EINTR, errno
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset
from posix.unistd cimport pread

import os

from core.errors import StoreCorrupt, StoreUnavailable
from core.hub.databases import BY_CUSTOMER, DATABASES
from core.hub.lmdb cimport MDB_INTEGERKEY, MDB_val
from core.hub.lmdb import error_of
from core.hub.seal cimport SEAL_NONE, sealing_of, unseal

cdef enum:
    FIRST_PAGES = 2  # which say what the file holds, in turn
    HEADER_BYTES = 16
    KIND_BRANCH = 1
    KIND_LEAF = 2
    KIND_OVERFLOW = 4
    KIND_META = 8
    NODE_BYTES = 8  # before an entry's key
    NODE_BIG = 1  # the value lies in a run of pages of its own, whose first is named in its place
    NODE_TREE = 2  # the value is the beginning of a database
    META_MAGIC = 0xBEEFC0DE
    META_VERSION = 1
    META_BYTES = 152  # a header and a Meta
    DEEPEST = 32
    KEY_BYTES = 511
    ID_AT = 8  # in a record

# No page: a tree without entries.
cdef uint64_t NOWHERE = <uint64_t>-1
# The trees of which the beginning is told in the first pages.
cdef enum:
    FREE_TREE = 0
    MAIN_TREE = 1

cdef packed struct Tree:
    uint32_t pad  # of the tree of free pages: bytes of a page
    uint16_t flags
    uint16_t depth
    uint64_t branch_pages
    uint64_t leaf_pages
    uint64_t overflow_pages
    uint64_t entries
    uint64_t root

cdef packed struct Meta:
    uint32_t magic
    uint32_t version
    uint64_t address
    uint64_t map_bytes
    Tree trees[2]
    uint64_t last_page
    uint64_t transaction

cdef enum Problem:
    SOUND = 0
    ENDED = 1  # asked to
    NO_MEMORY = 2
    NOT_READ = 3
    CUT_OFF = 4
    NO_PAGE = 5
    TWICE = 6
    ELSEWHERE = 7
    OF_KIND = 8
    LAYOUT = 9
    ORDER = 10
    BOUNDS = 11
    DEEP = 12
    COUNTS = 13
    RUN = 14
    FREE_LIST = 15
    DATABASE = 16
    LOST = 17
    SEAL = 18
    OTHERS_RECORD = 19

TOLD = {
    NO_PAGE: "it is named and is none of the store's",
    TWICE: "it is used twice",
    ELSEWHERE: "it says another number of itself",
    OF_KIND: "it is of another kind than it should be",
    LAYOUT: "its entries do not lie side by side",
    ORDER: "its entries are not in order",
    BOUNDS: "an entry belongs to another page",
    DEEP: "it is not as deep as its tree",
    COUNTS: "its tree has other numbers of pages or entries than it says",
    RUN: "it is shorter than the value that it should hold",
    FREE_LIST: "it holds a list of free pages that cannot be",
    DATABASE: "it names a database that cannot be",
    LOST: "it is neither used nor free",
    SEAL: "the checksum of an entry does not match its bytes",
    OTHERS_RECORD: "a record is that of another customer than its key",
}

cdef struct Walk:
    Tree tree  # as it says of itself
    uint64_t branch_pages  # as found
    uint64_t leaf_pages
    uint64_t overflow_pages
    uint64_t entries
    bint integers  # its keys are u64, in their order
    int database  # place in DATABASES; -1: the tree of free pages, -2: of databases
    int sealing  # how its entries are sealed, where values are looked at
    bint records  # its values are records, where values are looked at


cdef class Pages:
    """One look at a file."""

    cdef int file
    cdef size_t page_bytes
    cdef uint64_t last  # page of the file
    cdef uint64_t at  # the page looked at, for telling
    cdef uint64_t seen  # pages of trees so far
    cdef uint8_t* used  # a bit for each page
    cdef uint8_t* rooms  # a page for each level
    cdef uint8_t* taken  # [half of a page's byte] it belongs to an entry
    cdef uint8_t* value  # of a value in pages of its own; value_room bytes
    cdef size_t value_room
    cdef Tree trees[64]  # of the databases, as found
    cdef uint8_t there[64]  # whether one was
    cdef object over  # threading.Event or None: ends the look
    cdef bint values
    cdef int error  # of the system's, with NOT_READ
    cdef list names  # of the databases, as bytes

    def __cinit__(self, int file, bint values, over):
        self.file = file
        self.values = values
        self.over = over
        self.used = self.rooms = self.taken = self.value = NULL
        self.value_room = 0
        self.last = 1
        self.names = [name.encode() for name in DATABASES]
        memset(self.there, 0, sizeof(self.there))

    def __dealloc__(self):
        free(self.used)
        free(self.rooms)
        free(self.taken)
        free(self.value)

    cdef int bring(self, uint64_t number, uint8_t* page, size_t size) noexcept nogil:
        """Read bytes from where a page begins."""
        cdef size_t done = 0
        cdef ssize_t count
        self.at = number
        while done < size:
            count = pread(self.file, page + done, size - done, <long long>(number * self.page_bytes + done))
            if count < 0:
                if errno == EINTR:
                    continue
                self.error = errno
                return NOT_READ
            if count == 0:
                return CUT_OFF
            done += count
        return SOUND

    cdef int take(self, uint64_t number, uint64_t count) noexcept nogil:
        """Note pages as used, which none may be twice."""
        cdef uint64_t page
        self.at = number
        if number < FIRST_PAGES or count == 0 or number > self.last or count > self.last - number + 1:
            return NO_PAGE
        for page in range(number, number + count):
            if self.used[page >> 3] & 1 << (page & 7):
                self.at = page
                return TWICE
            self.used[page >> 3] |= 1 << (page & 7)
        return SOUND

    cdef int entry(
        self, const uint8_t* page, uint32_t index, const uint8_t** node, uint32_t* length, uint32_t* size, uint16_t* flags
    ) noexcept nogil:
        """Where an entry lies, its key's bytes, its value's, and its flags."""
        cdef uint16_t place, low, high, key_bytes
        memcpy(&place, page + HEADER_BYTES + 2 * index, 2)
        node[0] = page + place
        memcpy(&low, node[0], 2)
        memcpy(&high, node[0] + 2, 2)
        memcpy(flags, node[0] + 4, 2)
        memcpy(&key_bytes, node[0] + 6, 2)
        length[0] = key_bytes
        size[0] = low | <uint32_t>high << 16
        return SOUND

    cdef int lie(self, const uint8_t* page, bint leaf, uint32_t* count) noexcept nogil:
        """Whether a page's entries lie side by side from its upper bound to its end; how many there are."""
        cdef uint16_t lower, upper, place, flags
        cdef uint32_t i, length, size
        cdef size_t room, total = 0
        cdef const uint8_t* node
        memcpy(&lower, page + 12, 2)
        memcpy(&upper, page + 14, 2)
        if lower < HEADER_BYTES or lower & 1 or upper & 1 or lower > upper or upper > self.page_bytes:
            return LAYOUT
        count[0] = (lower - HEADER_BYTES) // 2
        if count[0] < (1 if leaf else 2):
            return LAYOUT
        memset(self.taken, 0, self.page_bytes // 2)
        for i in range(count[0]):
            memcpy(&place, page + HEADER_BYTES + 2 * i, 2)
            if place < upper or place & 1 or <size_t>place + NODE_BYTES > self.page_bytes:
                return LAYOUT
            self.entry(page, i, &node, &length, &size, &flags)
            if length > KEY_BYTES:
                return LAYOUT
            room = NODE_BYTES + length
            if leaf:
                if flags & ~<uint32_t>(NODE_BIG | NODE_TREE) or flags == (NODE_BIG | NODE_TREE) or length == 0:
                    return LAYOUT
                room += sizeof(uint64_t) if flags & NODE_BIG else size
            room = (room + 1) & ~<size_t>1
            if room > self.page_bytes - place or self.taken[place // 2] or self.taken[(place + room) // 2 - 1]:
                return LAYOUT
            memset(self.taken + place // 2, 1, room // 2)
            total += room
        return SOUND if total == self.page_bytes - upper else LAYOUT

    cdef int compare(
        self, const Walk* walk, const uint8_t* one, uint32_t one_bytes, const uint8_t* other, uint32_t other_bytes
    ) noexcept nogil:
        """How two keys stand, as LMDB orders them."""
        cdef uint64_t a, b
        cdef int order
        if walk.integers:
            memcpy(&a, one, 8)
            memcpy(&b, other, 8)
            return (a > b) - (a < b)
        order = memcmp(one, other, one_bytes if one_bytes < other_bytes else other_bytes)
        return order if order else (one_bytes > other_bytes) - (one_bytes < other_bytes)

    cdef int visit(
        self, Walk* walk, uint64_t number, int depth, const uint8_t* low, uint32_t low_bytes, const uint8_t* high,
        uint32_t high_bytes
    ) noexcept nogil:
        """A page and what is below it, whose keys are from `low` on (NULL: any) and before `high`."""
        cdef uint8_t* page = self.rooms + <size_t>depth * self.page_bytes
        cdef bint leaf = depth == walk.tree.depth
        cdef const uint8_t* node
        cdef const uint8_t* before = NULL
        cdef const uint8_t* next_node
        cdef uint64_t said
        cdef uint32_t i, count, length, size, before_bytes, next_bytes, next_size
        cdef uint16_t flags, kind, next_flags
        cdef int code = self.take(number, 1)
        before_bytes = 0
        if not code:
            code = self.bring(number, page, self.page_bytes)
        if code:
            return code
        memcpy(&said, page, 8)
        if said != number:
            return ELSEWHERE
        memcpy(&kind, page + 10, 2)
        if kind != (KIND_LEAF if leaf else KIND_BRANCH):
            # A leaf where a branch should be, or the other way round, is a tree that is not as deep as it says.
            return DEEP if kind == KIND_LEAF or kind == KIND_BRANCH else OF_KIND
        code = self.lie(page, leaf, &count)
        if code:
            return code
        self.seen += 1
        if self.seen % 1024 == 0 and self.over is not None:
            with gil:
                if self.over.is_set():
                    return ENDED
        # Of a branch the first entry has no key that counts.
        for i in range(0 if leaf else 1, count):
            self.entry(page, i, &node, &length, &size, &flags)
            if walk.integers and length != sizeof(uint64_t):
                return LAYOUT
            node += NODE_BYTES
            if before != NULL and self.compare(walk, before, before_bytes, node, length) >= 0:
                return ORDER
            if low != NULL and self.compare(walk, node, length, low, low_bytes) < 0:
                return BOUNDS
            if high != NULL and self.compare(walk, node, length, high, high_bytes) >= 0:
                return BOUNDS
            before = node
            before_bytes = length
        if leaf:
            walk.leaf_pages += 1
            walk.entries += count
            for i in range(count):
                self.entry(page, i, &node, &length, &size, &flags)
                code = self.content(walk, node + NODE_BYTES, length, node + NODE_BYTES + length, size, flags)
                if code:
                    return code
                self.at = number
            return SOUND
        walk.branch_pages += 1
        for i in range(count):
            self.entry(page, i, &node, &length, &size, &flags)
            if i + 1 < count:
                self.entry(page, i + 1, &next_node, &next_bytes, &next_size, &next_flags)
            code = self.visit(
                walk, size | <uint64_t>flags << 32, depth + 1, node + NODE_BYTES if i else low, length if i else low_bytes,
                next_node + NODE_BYTES if i + 1 < count else high, next_bytes if i + 1 < count else high_bytes)
            if code:
                return code
        return SOUND

    cdef int content(
        self, Walk* walk, const uint8_t* name, uint32_t length, const uint8_t* value, uint32_t size, uint16_t flags
    ) noexcept nogil:
        """An entry's value, and the pages that it may have to itself."""
        cdef uint64_t page, said, owner, id
        cdef uint32_t pages
        cdef uint16_t kind
        cdef size_t wanted
        cdef uint64_t at = self.at
        cdef uint8_t header[HEADER_BYTES]
        cdef MDB_val key, plain
        cdef int code
        if (flags & NODE_TREE != 0) != (walk.database == -2):
            return DATABASE
        if flags & NODE_BIG:
            memcpy(&page, value, sizeof(uint64_t))
            code = self.take(page, 1)
            if not code:
                code = self.bring(page, header, HEADER_BYTES)
            if code:
                return code
            memcpy(&said, header, 8)
            memcpy(&kind, header + 10, 2)
            if said != page:
                return ELSEWHERE
            if kind != KIND_OVERFLOW:
                return OF_KIND
            memcpy(&pages, header + 12, 4)
            # A value that became shorter in the transaction that wrote it keeps its pages.
            if pages < (HEADER_BYTES - 1 + <size_t>size) // self.page_bytes + 1:
                return RUN
            if pages > 1:
                code = self.take(page + 1, pages - 1)
                if code:
                    return code
            walk.overflow_pages += pages
            wanted = size if walk.database < 0 or walk.sealing != SEAL_NONE else 2 * ID_AT
            if size < wanted:
                return RUN
            # To its last page: it must be there.
            code = self.bring(page + (HEADER_BYTES - 1 + <size_t>size) // self.page_bytes, header, HEADER_BYTES)
            if code or (not self.values and walk.database >= 0):
                return code
            code = self.bring_value(page, wanted)
            if code:
                return code
            value = self.value + HEADER_BYTES
        if walk.database == -1:
            return self.free_list(value, size)
        if walk.database == -2:
            self.at = at
            return self.begins(name, length, value, size)
        if walk.sealing != SEAL_NONE:
            key.mv_data = <void*>name
            key.mv_size = length
            plain.mv_data = <void*>value
            plain.mv_size = size
            if unseal(walk.sealing, &key, &plain):
                return SEAL
        if walk.records:
            if size < 2 * ID_AT:
                return OTHERS_RECORD
            memcpy(&owner, value + ID_AT, sizeof(uint64_t))
            memcpy(&id, name, sizeof(uint64_t))
            if owner != id:
                return OTHERS_RECORD
        return SOUND

    cdef int bring_value(self, uint64_t page, size_t size) noexcept nogil:
        """The header and the first bytes of a value that has pages of its own."""
        if self.value_room < size + HEADER_BYTES:
            free(self.value)
            self.value_room = size + HEADER_BYTES
            self.value = <uint8_t*>malloc(self.value_room)
            if self.value == NULL:
                self.value_room = 0
                return NO_MEMORY
        return self.bring(page, self.value, size + HEADER_BYTES)

    cdef int free_list(self, const uint8_t* value, size_t size) noexcept nogil:
        """The pages that a transaction freed: their count, then their numbers."""
        cdef uint64_t count, page, i
        cdef uint64_t at = self.at
        cdef int code
        if size < sizeof(uint64_t):
            return FREE_LIST
        memcpy(&count, value, sizeof(uint64_t))
        if count > size // sizeof(uint64_t) - 1:
            return FREE_LIST
        for i in range(count):
            memcpy(&page, value + (i + 1) * sizeof(uint64_t), sizeof(uint64_t))
            code = self.take(page, 1)
            if code == NO_PAGE:
                self.at = at
                return FREE_LIST
            if code:
                return code
        return SOUND

    cdef int begins(self, const uint8_t* name, uint32_t length, const uint8_t* value, size_t size) noexcept nogil:
        """Where a database begins."""
        cdef int place
        if size != sizeof(Tree):
            return DATABASE
        with gil:
            text = name[:length]
            place = self.names.index(text) if text in self.names else -1
        if place < 0:
            return DATABASE
        memcpy(&self.trees[place], value, sizeof(Tree))
        self.there[place] = 1
        return SOUND

    cdef int tree(self, Walk* walk) noexcept nogil:
        """A whole tree."""
        cdef int code
        walk.branch_pages = walk.leaf_pages = walk.overflow_pages = walk.entries = 0
        if walk.tree.root == NOWHERE:
            if walk.tree.depth:
                return COUNTS
        else:
            if not 0 < walk.tree.depth < DEEPEST:
                return DEEP
            code = self.visit(walk, walk.tree.root, 1, NULL, 0, NULL, 0)
            if code:
                return code
            self.at = walk.tree.root
        if (
            walk.branch_pages != walk.tree.branch_pages or walk.leaf_pages != walk.tree.leaf_pages
            or walk.overflow_pages != walk.tree.overflow_pages or walk.entries != walk.tree.entries
        ):
            return COUNTS
        return SOUND

    cdef int newest(self, Meta* meta, str path) except -1:
        """The state that the first two pages name last; 1 when they fit each other, else 0."""
        cdef uint8_t page[META_BYTES]
        cdef Meta metas[2]
        cdef uint64_t said
        cdef uint16_t kind
        cdef int code, i
        self.page_bytes = 0
        for i in range(2):
            code = self.bring(i, page, META_BYTES)
            if code:
                raise self.told(code, "", path)
            memcpy(&said, page, 8)
            memcpy(&kind, page + 10, 2)
            memcpy(&metas[i], page + HEADER_BYTES, sizeof(Meta))
            if metas[i].magic != META_MAGIC and i == 0:
                raise StoreCorrupt(f"data.mdb in {path}", "it is not an LMDB file, or its first pages are damaged",
                                   "Restore the store from a backup, or choose another folder.")
            if (
                said != <uint64_t>i or kind != KIND_META or metas[i].magic != META_MAGIC or metas[i].version != META_VERSION
                or metas[i].trees[FREE_TREE].flags != MDB_INTEGERKEY or metas[i].trees[MAIN_TREE].flags
                or metas[i].trees[MAIN_TREE].pad
            ):
                return 0
            if i == 0:
                self.page_bytes = metas[0].trees[FREE_TREE].pad
                if not 4096 <= self.page_bytes <= 65536 or self.page_bytes & (self.page_bytes - 1):
                    return 0
        if metas[1].trees[FREE_TREE].pad != self.page_bytes:
            return 0
        i = metas[1].transaction > metas[0].transaction
        # They are written in turn, the even numbers into the first.
        if metas[i].transaction and (
            metas[i].transaction != metas[1 - i].transaction + 1 or (metas[i].transaction & 1) != <uint64_t>i
        ):
            return 0
        if metas[i].last_page < metas[1 - i].last_page or metas[i].last_page < 1:
            return 0
        meta[0] = metas[i]
        return 1

    cdef object told(self, int code, str database, str path):
        """The fault as an error."""
        if code == NO_MEMORY:
            return MemoryError("no memory to look at a store's pages")
        if code == NOT_READ:
            return error_of(self.error, path, False)
        if code == CUT_OFF:
            there = os.fstat(self.file).st_size
            return StoreCorrupt(
                f"The store at {path}", f"data.mdb has {there} of {(self.last + 1) * self.page_bytes} bytes: it was cut off")
        where = f"Page {self.at} of the store at {path}"
        return StoreCorrupt(f"{where}, of {database}" if database else where, TOLD[code])

    def run(self, str path, bint whole):
        """See `examine`."""
        cdef Meta meta
        cdef Walk walk
        cdef int code
        cdef uint64_t page
        cdef str name
        for _ in range(3):
            # Beside a writer they may change between two reads.
            if self.newest(&meta, path):
                break
        else:
            raise StoreCorrupt(f"The store at {path}", "the first two pages of data.mdb do not fit each other")
        self.last = meta.last_page
        self.used = <uint8_t*>calloc(self.last // 8 + 1, 1)
        self.rooms = <uint8_t*>malloc(<size_t>DEEPEST * self.page_bytes)
        self.taken = <uint8_t*>malloc(self.page_bytes // 2)
        if self.used == NULL or self.rooms == NULL or self.taken == NULL:
            raise MemoryError("no memory to look at a store's pages")
        self.seen = 0
        walk.sealing = SEAL_NONE
        walk.records = False
        walk.tree = meta.trees[MAIN_TREE]
        walk.integers = False
        walk.database = -2
        with nogil:
            code = self.tree(&walk)
        if code == DATABASE:
            raise StoreUnavailable(
                path, "it holds an LMDB environment that Rapport did not make, or its list of databases is damaged",
                "Choose an empty or new folder, or restore the store from a backup.")
        if code:
            raise self.told(code, "its list of databases", path)
        for place, name in enumerate(DATABASES):
            if self.there[place] and (
                self.trees[place].flags != (MDB_INTEGERKEY if name in BY_CUSTOMER else 0) or self.trees[place].pad
            ):
                raise StoreCorrupt(f"Database {name} of the store at {path}", TOLD[DATABASE])
        if not whole:
            return (self.last + 1) * self.page_bytes
        for place, name in enumerate(DATABASES):
            if not self.there[place]:
                continue
            walk.tree = self.trees[place]
            walk.integers = name in BY_CUSTOMER
            walk.database = place
            walk.sealing = sealing_of(name) if self.values else SEAL_NONE
            walk.records = self.values and name in ("profiles", "households")
            with nogil:
                code = self.tree(&walk)
            if code == ENDED:
                return (self.last + 1) * self.page_bytes
            if code:
                raise self.told(code, name, path)
        walk.tree = meta.trees[FREE_TREE]
        walk.integers = True
        walk.database = -1
        walk.sealing = SEAL_NONE
        walk.records = False
        with nogil:
            code = self.tree(&walk)
        if code:
            raise self.told(code, "its list of free pages", path)
        for page in range(FIRST_PAGES, self.last + 1):
            if not self.used[page >> 3] & 1 << (page & 7):
                self.at = page
                raise self.told(LOST, "", path)
        return (self.last + 1) * self.page_bytes


def examine(str path not None, *, bint whole=True, bint values=False, over=None) -> int:
    """Look at the pages of the store folder `path`; see the .pyi."""
    file = -1
    try:
        file = os.open(os.path.join(path, "data.mdb"), os.O_RDONLY | os.O_CLOEXEC)
        return Pages(file, values, over).run(path, whole)
    except OSError as error:
        raise error_of(error.errno or 5, path, False) from error
    finally:
        if file >= 0:
            os.close(file)
