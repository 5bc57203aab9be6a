"""The write transaction.

It notes its changes in a buffer of the environment while it makes them, for the journal (core/hub/journal.py) to write before
they are committed. Commits are synchronous; beside a journal, which then holds the last one, LMDB leaves the page that names it
to the next commit's sync.
"""

from cpython.buffer cimport PyBUF_READ
from libc.errno cimport ENOMEM
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

import struct

from core.errors import EngineFault, StoreReadOnly
from core.hub.buffer cimport Buffer, buffer_append, buffer_free, buffer_reserve
from core.hub.databases import DATABASES
from core.hub.environment cimport Environment
from core.hub.lmdb cimport MDB_APPEND, MDB_NOTFOUND, MDB_RESERVE, MDB_dbi, MDB_txn, MDB_val, api, error_for
from core.hub.record cimport rapport_crc32c
from core.hub.seal cimport SEAL_BYTES, SEAL_NONE, broken_seal, seal_of, unseal

cdef extern from "Python.h":
    object PyMemoryView_FromMemory(char* memory, Py_ssize_t size, int flags)

cdef enum:
    # A value of fewer bytes is noted whole; of larger ones the beginning is given anew, for it holds counts and a checksum.
    PATCH_FROM = 256
    PATCH_HEAD = 64
    # How far behind its beginning a list is searched for where it goes on as before: an entry or a few, of the largest size.
    SHED_MOST = 65_536
    # So much must be equal there before more is compared.
    SHED_LIKE = 32
    # What is kept allocated for notes between transactions; an import's take more.
    NOTED_KEPT = 16 << 20


cdef size_t as_before(const uint8_t* one, const uint8_t* other, size_t most) noexcept nogil:
    """How many bytes from here on are equal, of at most so many."""
    cdef size_t place = 0
    cdef uint64_t a, b
    while place + 8 <= most:
        memcpy(&a, one + place, 8)
        memcpy(&b, other + place, 8)
        if a != b:
            break
        place += 8
    while place < most and one[place] == other[place]:
        place += 1
    return place


cdef size_t as_before_backwards(const uint8_t* one, const uint8_t* other, size_t most) noexcept nogil:
    """The same for the bytes before these places."""
    cdef size_t place = 0
    cdef uint64_t a, b
    while place + 8 <= most:
        memcpy(&a, one - place - 8, 8)
        memcpy(&b, other - place - 8, 8)
        if a != b:
            break
        place += 8
    while place < most and (one - place - 1)[0] == (other - place - 1)[0]:
        place += 1
    return place


cdef size_t shed_before(const uint8_t* fresh, size_t size, const uint8_t* stored, size_t before, size_t* common) noexcept nogil:
    """How many bytes the stored value lost behind its beginning, and how many from there on are equal: lists lose their
    oldest entries, whose sizes are multiples of 8. 0 where nothing long is found."""
    cdef size_t shed = 8
    fresh += PATCH_HEAD
    stored += PATCH_HEAD
    size -= PATCH_HEAD
    before -= PATCH_HEAD
    while shed <= SHED_MOST and shed + SHED_LIKE <= before and size >= SHED_LIKE:
        if memcmp(fresh, stored + shed, SHED_LIKE) == 0:
            common[0] = as_before(fresh, stored + shed, min(size, before - shed))
            if common[0] >= size // 2:
                return shed
        shed += 8
    return 0


cdef class Transaction:
    """The write transaction; see transaction.pxd. Ends by commit or abort."""

    def __cinit__(self, Environment environment not None):
        cdef int code
        environment.check_usable()
        self.environment = environment
        if environment.read_only:
            raise StoreReadOnly("it was opened for reading only", "Open it without read_only.")
        if environment.handles.standby != NULL:
            raise StoreReadOnly("an earlier write failed",
                                "Look for disk errors in the system's log, then start again.")
        with nogil:
            code = api.txn_begin(environment.handles.env, NULL, 0, &self.txn)
        if code:
            self.txn = NULL
            raise error_for(code, "beginning a transaction", environment.path, True)
        self.noting = environment.journalled
        if environment.noted.capacity > NOTED_KEPT:
            buffer_free(&environment.noted)
        environment.noted.size = 0
        if self.noting:
            if buffer_reserve(&environment.noted, sizeof(FrameHead)):
                raise MemoryError("no memory for the journal")
            memset(environment.noted.data, 0, sizeof(FrameHead))
            environment.noted.size = sizeof(FrameHead)

    # --- what the journal gets

    def begin_group(self) -> None:
        """What is put and deleted from here on belongs to one mutation."""
        cdef Buffer* noted = &self.environment.noted
        if not self.noting:
            return
        self.group = noted.size
        self.whole = False
        if buffer_reserve(noted, sizeof(GroupHead)):
            raise MemoryError("no memory for the journal")
        memset(noted.data + noted.size, 0, sizeof(GroupHead))
        noted.size += sizeof(GroupHead)

    def end_group(self, uint64_t seq, uint64_t next_customer) -> None:
        """The mutation succeeded, with this sequence number."""
        cdef GroupHead head
        if not self.group:
            return
        head.size = self.environment.noted.size - self.group
        head.seq = seq
        head.next_customer = next_customer
        memcpy(self.environment.noted.data + self.group, &head, sizeof(GroupHead))
        self.group = 0
        if not self.first:
            self.first = seq
        self.last = seq

    def drop_group(self) -> None:
        """The mutation was refused before it changed anything."""
        if self.group:
            self.environment.noted.size = self.group
            self.group = 0

    def frame(self, int64_t committed_us):
        """(the frame, first, last) of all groups, whole; the bytes are borrowed until the next transaction begins."""
        cdef Buffer* noted = &self.environment.noted
        cdef FrameHead head
        head.magic = FRAME_MAGIC
        head.size = noted.size
        head.first = self.first
        head.last = self.last
        head.committed_us = committed_us
        head.checksum = 0
        memcpy(noted.data, &head, sizeof(FrameHead))
        head.checksum = rapport_crc32c(noted.data + 4, noted.size - 4)
        memcpy(noted.data, &head.checksum, 4)
        return PyMemoryView_FromMemory(<char*>noted.data, <Py_ssize_t>noted.size, PyBUF_READ), self.first, self.last

    cdef int note(
        self, int kind, MDB_dbi database, uint64_t subject, const void* key, size_t length, const void* bytes, size_t size
    ) noexcept nogil:
        """Append a change; 0, or ENOMEM."""
        cdef ChangeHead head
        cdef Buffer* noted = &self.environment.noted
        cdef size_t padding = -(length + size) % 8
        cdef uint64_t nothing = 0
        head.value_bytes = <uint32_t>size
        head.key_bytes = <uint16_t>length
        head.kind = <uint8_t>kind
        head.database = self.environment.places[database]
        head.subject = subject
        if (
            buffer_append(noted, &head, sizeof(ChangeHead)) or buffer_append(noted, key, length)
            or (bytes != NULL and buffer_append(noted, bytes, size)) or buffer_append(noted, &nothing, padding)
        ):
            return ENOMEM
        return 0

    cdef int note_put(
        self, MDB_dbi database, const void* key, size_t length, const void* bytes, size_t size, bint appended
    ) noexcept nogil:
        """Note what is about to be put, of a long value only how it differs; 0, or a code of LMDB's."""
        cdef const uint8_t* fresh = <const uint8_t*>bytes
        cdef const uint8_t* stored
        cdef MDB_val name, found
        cdef PatchHead patch
        cdef uint64_t subject = 0
        cdef size_t common, most, middle, shed = 0
        cdef int code
        if database == self.environment.handles.identifiers and size >= sizeof(uint64_t):
            memcpy(&subject, bytes, sizeof(uint64_t))
        elif self.environment.by_customer[database]:
            memcpy(&subject, key, sizeof(uint64_t))
            if size >= PATCH_FROM and not appended and not self.whole:
                name.mv_data = <void*>key
                name.mv_size = length
                code = api.get(self.txn, database, &name, &found)
                if code == 0:
                    code = unseal(self.environment.sealing[database], &name, &found)
                if code and code != MDB_NOTFOUND:
                    return code
                if code == 0 and found.mv_size >= PATCH_FROM:
                    stored = <const uint8_t*>found.mv_data
                    most = (size if size < found.mv_size else found.mv_size) - PATCH_HEAD
                    common = as_before(fresh + PATCH_HEAD, stored + PATCH_HEAD, most)
                    patch.before = <uint32_t>found.mv_size
                    patch.head = PATCH_HEAD
                    patch.front = <uint32_t>common
                    patch.back = <uint32_t>as_before_backwards(fresh + size, stored + found.mv_size, most - common)
                    middle = size - PATCH_HEAD - patch.front - patch.back
                    if middle > size // 4:
                        shed = shed_before(fresh, size, stored, found.mv_size, &common)
                        if shed:
                            patch.front = <uint32_t>common
                            most = min(size - PATCH_HEAD, found.mv_size - PATCH_HEAD - shed) - common
                            patch.back = <uint32_t>as_before_backwards(fresh + size, stored + found.mv_size, most)
                            middle = size - PATCH_HEAD - patch.front - patch.back
                    if middle + sizeof(PatchHead) + PATCH_HEAD < size - size // 4:
                        return self.note_patch(database, subject, key, length, &patch, shed, fresh, middle)
        return self.note(CHANGE_PUT, database, subject, key, length, bytes, size)

    cdef int note_patch(
        self, MDB_dbi database, uint64_t subject, const void* key, size_t length, const PatchHead* patch, uint64_t shed,
        const uint8_t* fresh, size_t middle
    ) noexcept nogil:
        """Note how a value differs from the one that is there; 0, or ENOMEM."""
        cdef Buffer* noted = &self.environment.noted
        cdef size_t size = sizeof(PatchHead) + (sizeof(shed) if shed else 0) + PATCH_HEAD + middle
        cdef size_t padding = -(length + size) % 8
        cdef uint64_t nothing = 0
        if self.note(CHANGE_SHED if shed else CHANGE_PATCH, database, subject, key, length, NULL, size):
            return ENOMEM
        # Before the padding, which `note` has appended without a value.
        noted.size -= padding
        if (
            buffer_append(noted, patch, sizeof(PatchHead)) or (shed != 0 and buffer_append(noted, &shed, sizeof(shed)))
            or buffer_append(noted, fresh, PATCH_HEAD)
            or buffer_append(noted, fresh + PATCH_HEAD + patch.front, middle) or buffer_append(noted, &nothing, padding)
        ):
            return ENOMEM
        return 0

    cdef int note_erasure(self, object customers, object keys) except -1:
        cdef bytes data
        if not self.group:
            return 0
        # Doing the erasure again changes a household before what the mutation put there is put.
        self.whole = True
        data = struct.pack("<II", len(customers), len(keys)) + b"".join(
            [struct.pack("<Q", customer) for customer in customers] + [struct.pack("<H", len(key)) + key for key in keys])
        if self.note(CHANGE_ERASE, self.environment.handles.profiles, 0, NULL, 0, <const char*>data, len(data)):
            raise MemoryError("no memory for the journal")
        return 0

    # --- the changes

    cdef int get(
        self, MDB_dbi database, const void* key, size_t length, const uint8_t** bytes, size_t* size
    ) except? -1:
        cdef MDB_val wanted, found
        cdef int code
        wanted.mv_data = <void*>key
        wanted.mv_size = length
        code = api.get(self.txn, database, &wanted, &found)
        if code == 0:
            if unseal(self.environment.sealing[database], &wanted, &found):
                raise broken_seal(DATABASES[self.environment.places[database]])
            bytes[0] = <const uint8_t*>found.mv_data
            size[0] = found.mv_size
            return 0
        if code == MDB_NOTFOUND:
            return MDB_NOTFOUND
        raise error_for(code, "reading in a transaction", self.environment.path, True)

    cdef int put(
        self, MDB_dbi database, const void* key, size_t length, const void* bytes, size_t size, unsigned int flags
    ) except -1:
        cdef int code = self.put_raw(database, key, length, bytes, size, flags)
        if code:
            raise error_for(code, "writing", self.environment.path, True)
        return 0

    cdef int put_raw(
        self, MDB_dbi database, const void* key, size_t length, const void* bytes, size_t size, unsigned int flags
    ) noexcept nogil:
        cdef MDB_val name, value
        cdef int sealing = self.environment.sealing[database]
        cdef uint32_t seal
        cdef int code
        self.written += size
        if self.group:
            code = self.note_put(database, key, length, bytes, size, flags & MDB_APPEND)
            if code:
                return code
        name.mv_data = <void*>key
        name.mv_size = length
        value.mv_data = <void*>bytes
        value.mv_size = size
        if sealing == SEAL_NONE:
            return api.put(self.txn, database, &name, &value, flags)
        # LMDB makes room, and value and seal are copied there: a list may have megabytes.
        seal = seal_of(sealing, key, length, bytes, size)
        value.mv_size = size + SEAL_BYTES
        code = api.put(self.txn, database, &name, &value, flags | MDB_RESERVE)
        if code == 0:
            memcpy(value.mv_data, bytes, size)
            memcpy(<uint8_t*>value.mv_data + size, &seal, SEAL_BYTES)
        return code

    cdef int delete(self, MDB_dbi database, const void* key, size_t length) except -1:
        cdef MDB_val name, found
        cdef uint64_t subject = 0
        cdef int code
        name.mv_data = <void*>key
        name.mv_size = length
        if self.group:
            if self.environment.by_customer[database]:
                memcpy(&subject, key, sizeof(uint64_t))
            elif database == self.environment.handles.identifiers:
                code = api.get(self.txn, database, &name, &found)
                if code == 0 and found.mv_size >= sizeof(uint64_t):
                    memcpy(&subject, found.mv_data, sizeof(uint64_t))
            if self.note(CHANGE_DELETE, database, subject, key, length, NULL, 0):
                raise MemoryError("no memory for the journal")
        code = api.delete(self.txn, database, &name, NULL)
        if code and code != MDB_NOTFOUND:
            raise error_for(code, "deleting", self.environment.path, True)
        return 0

    def commit(self) -> None:
        """Make it durable. On failure nothing of it was written."""
        cdef MDB_txn* txn = self.txn
        cdef int code
        if txn == NULL:
            raise EngineFault("the transaction has ended")
        self.txn = NULL
        with nogil:
            code = api.txn_commit(txn)
        if code:
            raise error_for(code, "committing", self.environment.path, True)

    def abort(self) -> None:
        """Undo it; ending twice does nothing."""
        if self.txn != NULL:
            api.txn_abort(self.txn)
            self.txn = NULL
