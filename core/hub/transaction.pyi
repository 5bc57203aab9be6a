from typing import Self, final

from core.hub.environment import Environment

@final
class Transaction:
    """The write transaction, for the thread that began it; waits for the one before it. Raises StoreReadOnly."""

    def __new__(cls, environment: Environment) -> Self: ...
    @property
    def written(self) -> int:
        """Bytes of the values put by now, which LMDB holds until the commit."""
    def begin_group(self) -> None:
        """Note from here on, for the journal, what is put and deleted, as one mutation's."""
    def end_group(self, seq: int, next_customer: int) -> None:
        """The mutation succeeded, with this sequence number; ``next_customer`` is the id for the next new one after it."""
    def drop_group(self) -> None:
        """The mutation was refused before it changed anything: nothing of it is noted."""
    def frame(self, committed_us: int) -> tuple[memoryview, int, int]:
        """All groups as the journal holds them, and the first and last sequence number (0: there is none).

        The bytes are borrowed until the next transaction begins.
        """
    def commit(self) -> None:
        """Make it durable. On failure nothing of it was written. Raises StoreFull, StoreReadOnly."""
    def abort(self) -> None:
        """Undo it; ending twice does nothing."""
