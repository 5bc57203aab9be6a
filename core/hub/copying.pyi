from collections.abc import Callable

from core.hub.environment import Reader

def copy(reader: Reader, folder: str, progress: Callable[[int], object] | None = None) -> int:
    """Write the reader's state, and nothing that was deleted before it, to a new ``folder``'s data.mdb, durably.

    Every record is checked while it passes. Returns how many entries were copied; ``progress`` is called with that
    from time to time. Raises StoreCorrupt, StoreFull, and OSError where the folder is there or cannot be made.
    """
