"""Stores as they lie on the disk: whether what tests leave fits together, and entries for tests that write them with LMDB's own
binding, in a process of its own."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from core.hub.record import crc32c
from core.hub.store import Store

_EARLIER = """
import lmdb, sys
env = lmdb.open(sys.argv[1], max_dbs=32, map_size=1 << 30)
with env.begin(write=True) as txn:
    for name in (b"catalog", b"meta", b"programs", b"identifiers"):
        database = env.open_db(name, txn, create=False)
        for key, value in list(txn.cursor(database)):
            if (name, key) != (b"meta", b"format"):
                txn.put(key, value[:-4], db=database)
    txn.put(b"format", bytes([int(sys.argv[2])]), db=env.open_db(b"meta", txn))
    for name in sys.argv[3:]:
        txn.drop(env.open_db(name.encode(), txn, integerkey=True))
env.close()
"""


def faults(folder: Path) -> Iterator[str]:
    """What does not fit together in the stores below a folder, and which."""
    # A journal is copied, a backup kept and a compaction made in folders of their own: each data.mdb is a store's.
    for file in sorted(folder.rglob("data.mdb")):
        with Store.open(file.parent, read_only=True) as store:
            yield from (f"{file.parent}: {each.what}: {each.problem}" for each in store.check().faults)


def sealed(key: bytes, value: bytes) -> bytes:
    """The value as a sealed database holds it: core/hub/seal.pxd says it again."""
    name = crc32c(key)
    return value + struct.pack("<I", crc32c(value) ^ (name << 16 & 0xFFFF_FFFF | name >> 16))


def of_format(number: int, path: Path, *lacks: str) -> None:
    """Make a closed store what a release of an earlier format left: without seals, and without some databases."""
    subprocess.run([sys.executable, "-c", _EARLIER, str(path), str(number), *lacks], check=True, timeout=60)
