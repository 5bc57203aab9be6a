import threading

def examine(path: str, *, whole: bool = True, values: bool = False, over: threading.Event | None = None) -> int:
    """Look at the pages of the newest state of the store folder ``path`` without LMDB; how many bytes data.mdb says it has.

    Nobody may reuse them meanwhile: the caller holds rapport.lock or a snapshot. Without ``whole`` only the first two pages and
    the list of databases are looked at. ``values`` looks at the seals of entries and at the ids in records, too; everything
    else in a value has a checksum that is looked at when it is read. ``over`` ends the look early. Raises StoreCorrupt with the
    first page that is damaged, StoreUnavailable where the file cannot be read or is not a store's.
    """
