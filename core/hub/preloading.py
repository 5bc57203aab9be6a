"""The store's file read once at start, so that decisions need not wait for the disk.

After a reboot each customer is a page that is not in memory, and a decision about him waits for the disk: with 10,000,000
customers the slowest of a hundred took 4 ms for many minutes of full load, against 0.02 ms once all were there. LMDB reads
single pages, for a decision needs no more. Read front to back instead, the file is there in seconds, and one that already is
costs a copy of it within memory. What is read stays in the kernel's page cache, which gives it up when others need the room.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

PIECE = 1 << 20  # bytes; a decision that waits for a page of its own waits for one piece at most


def room() -> int:
    """Bytes that the store's file may take of the page cache: half of what the machine could give without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024 // 2
    return 0


def preload(file: Path, most: int, over: threading.Event) -> int | None:
    """Read a file of at most ``most`` bytes into the page cache; the bytes read, None for a larger one.

    Ends early once ``over`` is set. Raises OSError when it cannot be read.
    """
    handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.fstat(handle).st_size > most:
            return None
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        piece = bytearray(PIECE)
        done = 0
        while not over.is_set() and (count := os.preadv(handle, [piece], done)):
            done += count
        return done
    finally:
        os.close(handle)
