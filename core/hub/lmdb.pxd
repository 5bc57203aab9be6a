"""LMDB 0.9.36 as C functions, taken from the `lmdb` wheel's extension module.

The wheel of py-lmdb carries its own LMDB with patches that harden it against damaged files, newer than what
distributions ship, and needs no system package. Its extension module exports the C functions under the prefix
`mdb09_`; importing `core.hub.lmdb` opens that file and fills `api`. The declarations here are ours: only what the hub
calls, as LMDB's documentation gives it. The wheel's version is pinned in pyproject.toml and checked at import.
"""

from libc.stddef cimport size_t

cdef extern from *:
    """
    typedef struct MDB_env MDB_env;
    typedef struct MDB_txn MDB_txn;
    typedef struct MDB_cursor MDB_cursor;
    typedef unsigned int MDB_dbi;
    typedef struct MDB_val { size_t mv_size; void *mv_data; } MDB_val;
    typedef struct MDB_stat {
        unsigned int ms_psize, ms_depth;
        size_t ms_branch_pages, ms_leaf_pages, ms_overflow_pages, ms_entries;
    } MDB_stat;
    typedef struct MDB_envinfo {
        void *me_mapaddr;
        size_t me_mapsize, me_last_pgno, me_last_txnid;
        unsigned int me_maxreaders, me_numreaders;
    } MDB_envinfo;
    typedef struct rapport_lmdb {
        char *(*version)(int *, int *, int *);
        char *(*strerror)(int);
        int (*env_create)(MDB_env **);
        int (*env_open)(MDB_env *, const char *, unsigned int, unsigned int);
        void (*env_close)(MDB_env *);
        int (*env_set_mapsize)(MDB_env *, size_t);
        int (*env_set_maxdbs)(MDB_env *, MDB_dbi);
        int (*env_set_maxreaders)(MDB_env *, unsigned int);
        int (*env_info)(MDB_env *, MDB_envinfo *);
        int (*env_sync)(MDB_env *, int);
        int (*env_set_flags)(MDB_env *, unsigned int, int);
        int (*reader_check)(MDB_env *, int *);
        int (*txn_begin)(MDB_env *, MDB_txn *, unsigned int, MDB_txn **);
        int (*txn_commit)(MDB_txn *);
        void (*txn_abort)(MDB_txn *);
        void (*txn_reset)(MDB_txn *);
        int (*txn_renew)(MDB_txn *);
        size_t (*txn_id)(MDB_txn *);
        int (*dbi_open)(MDB_txn *, const char *, unsigned int, MDB_dbi *);
        int (*stat)(MDB_txn *, MDB_dbi, MDB_stat *);
        int (*get)(MDB_txn *, MDB_dbi, MDB_val *, MDB_val *);
        int (*put)(MDB_txn *, MDB_dbi, MDB_val *, MDB_val *, unsigned int);
        int (*del)(MDB_txn *, MDB_dbi, MDB_val *, MDB_val *);
        int (*cursor_open)(MDB_txn *, MDB_dbi, MDB_cursor **);
        void (*cursor_close)(MDB_cursor *);
        int (*cursor_get)(MDB_cursor *, MDB_val *, MDB_val *, int);
        int (*cursor_put)(MDB_cursor *, MDB_val *, MDB_val *, unsigned int);
        int (*reader_list)(MDB_env *, int (*)(const char *, void *), void *);
    } rapport_lmdb;
    """
    ctypedef struct MDB_env:
        pass
    ctypedef struct MDB_txn:
        pass
    ctypedef struct MDB_cursor:
        pass
    ctypedef unsigned int MDB_dbi
    ctypedef struct MDB_val:
        size_t mv_size  # bytes
        void* mv_data  # from LMDB: borrowed until the transaction ends, or its next write
    ctypedef struct MDB_stat:
        unsigned int ms_psize  # bytes of a page
        unsigned int ms_depth  # levels of the tree
        size_t ms_branch_pages  # inner pages
        size_t ms_leaf_pages  # leaf pages
        size_t ms_overflow_pages  # pages of values too large for a leaf
        size_t ms_entries  # keys
    ctypedef struct MDB_envinfo:
        void* me_mapaddr  # fixed address, unused
        size_t me_mapsize  # bytes of address space
        size_t me_last_pgno  # last page in use
        size_t me_last_txnid  # last committed transaction
        unsigned int me_maxreaders  # reader slots
        unsigned int me_numreaders  # slots in use
    ctypedef struct Functions "rapport_lmdb":
        char* (*version)(int*, int*, int*) noexcept nogil  # "LMDB 0.9.36: ..."
        char* (*strerror)(int) noexcept nogil  # English text of a code
        int (*env_create)(MDB_env**) noexcept nogil
        int (*env_open)(MDB_env*, const char*, unsigned int, unsigned int) noexcept nogil
        void (*env_close)(MDB_env*) noexcept nogil
        int (*env_set_mapsize)(MDB_env*, size_t) noexcept nogil
        int (*env_set_maxdbs)(MDB_env*, MDB_dbi) noexcept nogil
        int (*env_set_maxreaders)(MDB_env*, unsigned int) noexcept nogil
        int (*env_info)(MDB_env*, MDB_envinfo*) noexcept nogil
        int (*env_sync)(MDB_env*, int) noexcept nogil
        int (*env_set_flags)(MDB_env*, unsigned int, int) noexcept nogil
        int (*reader_check)(MDB_env*, int*) noexcept nogil
        int (*txn_begin)(MDB_env*, MDB_txn*, unsigned int, MDB_txn**) noexcept nogil
        int (*txn_commit)(MDB_txn*) noexcept nogil
        void (*txn_abort)(MDB_txn*) noexcept nogil
        void (*txn_reset)(MDB_txn*) noexcept nogil
        int (*txn_renew)(MDB_txn*) noexcept nogil
        size_t (*txn_id)(MDB_txn*) noexcept nogil
        int (*dbi_open)(MDB_txn*, const char*, unsigned int, MDB_dbi*) noexcept nogil
        int (*stat)(MDB_txn*, MDB_dbi, MDB_stat*) noexcept nogil
        int (*get)(MDB_txn*, MDB_dbi, MDB_val*, MDB_val*) noexcept nogil
        int (*put)(MDB_txn*, MDB_dbi, MDB_val*, MDB_val*, unsigned int) noexcept nogil
        int (*delete "del")(MDB_txn*, MDB_dbi, MDB_val*, MDB_val*) noexcept nogil
        int (*cursor_open)(MDB_txn*, MDB_dbi, MDB_cursor**) noexcept nogil
        void (*cursor_close)(MDB_cursor*) noexcept nogil
        int (*cursor_get)(MDB_cursor*, MDB_val*, MDB_val*, int) noexcept nogil
        int (*cursor_put)(MDB_cursor*, MDB_val*, MDB_val*, unsigned int) noexcept nogil
        # Calls back with one line of text a reader; what it is given last goes to each call.
        int (*reader_list)(MDB_env*, int (*)(const char*, void*) noexcept, void*) noexcept

# Flags and codes of LMDB 0.9; they are part of its binary interface.
cdef enum:
    MDB_NOSYNC = 0x10000
    MDB_RDONLY = 0x20000
    MDB_NOMETASYNC = 0x40000
    MDB_NOTLS = 0x200000
    MDB_NOLOCK = 0x400000
    MDB_NORDAHEAD = 0x800000
    MDB_INTEGERKEY = 0x08
    MDB_CREATE = 0x40000
    MDB_RESERVE = 0x10000
    MDB_APPEND = 0x20000
    MDB_FIRST = 0
    MDB_LAST = 6
    MDB_NEXT = 8
    MDB_SET_RANGE = 17

    MDB_KEYEXIST = -30799
    MDB_NOTFOUND = -30798
    MDB_PAGE_NOTFOUND = -30797
    MDB_CORRUPTED = -30796
    MDB_PANIC = -30795
    MDB_VERSION_MISMATCH = -30794
    MDB_INVALID = -30793
    MDB_MAP_FULL = -30792
    MDB_READERS_FULL = -30790
    MDB_TXN_FULL = -30788
    MDB_MAP_RESIZED = -30785
    MDB_BAD_TXN = -30782

cdef Functions api  # filled when the module is imported, then only read; valid to the end of the process

# The exception for a code of LMDB or of the system. `doing` completes "while ..."; writes map failing disks to
# StoreReadOnly, everything else about a path to StoreUnavailable.
cdef object error_for(int code, str doing, str path, bint writing)
