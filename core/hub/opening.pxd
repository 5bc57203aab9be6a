"""What opening a store folder takes, before there is an `Environment`."""

from core.hub.lmdb cimport MDB_dbi, MDB_env
from core.hub.snapshot cimport Handles

# Where `handles` keep the number of a database of DATABASES.
cdef MDB_dbi* handle(Handles* handles, str name) except NULL
# LMDB's own open of a folder, whose errors name `shown`; the caller closes it.
cdef MDB_env* open_env(str folder, str shown, size_t map_bytes, unsigned int flags) except NULL
# Opens every database by name; MDB_NOTFOUND is returned when one is not there, 0 otherwise.
cdef int open_databases(MDB_env* env, Handles* handles, str shown, unsigned int txn_flags, unsigned int flags) except -1
# The format of this store of ours: this release's, or one that a writing open may bring to it.
cdef int check_format(MDB_env* env, str shown, bint read_only) except -1
# Brings a store of the format `found` to this one, in one transaction.
cdef int upgrade(MDB_env* env, str shown, int found) except -1
