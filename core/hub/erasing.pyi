JOINED: bytes  # how keys of joined customers' ids begin, in the database of identifiers
