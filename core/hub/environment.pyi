from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Never, Self, final

DATABASES: tuple[str, ...]
BY_CUSTOMER: tuple[str, ...]

@final
class Environment:
    """One open store folder. Made by `open_environment`."""

    def __init__(self, *args: Never) -> None: ...
    path: str
    read_only: bool
    closed: bool
    journalled: bool  # whether transactions note what they change; set by the journal's owner
    @property
    def map_bytes(self) -> int:
        """Address space reserved, in bytes."""
    @property
    def panicked(self) -> bool:
        """Whether LMDB refuses everything, reads too, because it could not write its meta page."""
    @property
    def snapshots(self) -> int:
        """Snapshots open now."""
    def reader(self) -> Reader:
        """A snapshot of the newest committed state."""
    def verify(self) -> int:
        """Visit every key and value of the newest committed state and check what has a checksum; how many there are.

        Reads the whole store; for tools and tests. Raises StoreCorrupt with the first thing that is damaged.
        """
    def leave_last(self, on: bool) -> None:
        """Whether the page that names the newest transaction is left to the next commit's sync: a power cut may then undo it.

        For whoever has a journal that holds it.
        """
    def sync(self) -> None:
        """Make everything committed durable in data.mdb itself. Raises StoreReadOnly."""
    def stop_writing(self) -> None:
        """Refuse writes from here on and let reads go on, after LMDB refused its environment."""
    def statistics(self) -> dict[str, int]:
        """map_bytes, used_bytes, page_bytes, readers, last_transaction, and <database>_entries."""
    def free_pages(self) -> int:
        """Pages that nothing live is on. Those that a reader may still need are among them."""
    def clear_readers(self) -> int:
        """Free the slots of readers whose process ended without closing; how many there were."""
    def readers(self) -> list[tuple[int, int | None]]:
        """(process, transaction it reads) of every slot in LMDB's table of readers; None: idle."""
    def abandon(self) -> None:
        """Free what was opened so far; for failures during opening."""
    def close(self) -> None:
        """Close it. Raises EngineFault while snapshots are open; closing twice does nothing."""

@final
class Reader:
    """A snapshot for Python; a context manager. Bytes that it returns are copies. Raises StoreError."""

    def __new__(cls, environment: Environment) -> Self: ...
    def __enter__(self) -> Reader: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def close(self) -> None:
        """Free the snapshot."""
    def renew(self) -> None:
        """Move to the newest committed state."""
    def reset(self) -> None:
        """Let go of the state; `renew` before the next read."""
    def get(self, database: str, key: bytes) -> bytes | None:
        """The value, or None."""
    def get_customer(self, database: str, customer: int) -> bytes | None:
        """The value of a customer id, or None."""
    def customer(self, namespace: int, value: bytes) -> int | None:
        """The customer id of a normalised identifier, or None."""
    def items(self, database: str, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """(key, value) pairs in key order from ``start``; the reader must stay open."""
    def page(self, database: str, start: bytes, inclusive: bool, count: int) -> list[tuple[bytes, bytes]]:
        """Up to ``count`` pairs from ``start`` on, with or without it."""
    def count(self, database: str) -> int:
        """Entries of a database."""

def open_environment(
    path: str, *, map_bytes: int = ..., read_only: bool = False, meta: Mapping[bytes, bytes] | None = None
) -> Environment:
    """Open the store folder at ``path``, creating it unless ``read_only``.

    ``map_bytes`` is address space, not disk: it bounds how large the store may ever grow. ``meta`` are the first values
    of the database ``meta`` when the store is created. Raises StoreUnavailable with what to do: a folder that is not
    ours, another format, another process that writes, this process having it open already, missing rights; and
    StoreCorrupt.
    """
