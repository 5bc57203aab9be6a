"""A visit to every entry of a store, each checked by itself and against its neighbours."""

from core.hub.lmdb cimport MDB_env, MDB_val

# Raises StoreCorrupt unless the value passes its own checks, or fits its seal.
cdef int check_value(str name, MDB_val* key, MDB_val* value) except -1
# Visits every key and value and checks what can be checked; how many there are. Raises StoreCorrupt.
cdef object walk(MDB_env* env, str path)
