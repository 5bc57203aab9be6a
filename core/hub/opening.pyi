FORMAT_VERSION: int
OLDEST_FORMAT: int
EXAMINED_BYTES: int  # the pages of a file up to this are looked at before LMDB follows them
