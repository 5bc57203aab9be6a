from collections.abc import Mapping, Sequence
from typing import Self, final

from core.kernel.plan import Plan
from server.transport.tls import Context

DECIDE: int
HANDED: int
HEALTH: int
REFUSED: tuple[str, ...]

@final
class Handed:
    """A call that Python answers: once, with `answer` or `fail`."""

    path: str
    data: bytes
    def remaining_us(self) -> int | None:
        """What the call's deadline leaves, in microseconds, at least 0; None without one."""
    def waited_us(self) -> int:
        """Microseconds since the last of the call was read; 0 once it is answered."""
    def answer(self, data: bytes) -> None:
        """Ends the call with a message and status OK."""
    def fail(self, status: int, message: str, details: bytes) -> None:
        """Ends the call with a gRPC status (1 to 16), its text, and the bytes of its google.rpc.Status."""

@final
class DataPlane:
    """Loops over listening sockets, one each, and workers for decisions that may wait. Native threads, never the GIL."""

    def __new__(
        cls,
        listeners: Sequence[int],
        *,
        workers: int,
        methods: Mapping[str, int],
        refusals: Mapping[str, tuple[int, str, bytes]],
        limits: Mapping[str, int],
        tls: Context | None = None,
    ) -> Self: ...
    def start(self) -> None:
        """Starts the threads. Raises OSError."""
    def follow(self, plan: Plan | None) -> None:
        """Decides over ``plan`` from now on; returns when nothing uses the one before. Raises MemoryError, StoreError."""
    def serving(self, service: str, serves: bool) -> None:
        """What Health answers for a service ("" is the whole server)."""
    def certificates(self, tls: Context) -> None:
        """Uses other certificates for connections from now on."""
    def take(self) -> Handed | None:
        """A call that Python has to answer, waited for without the GIL; None when the plane has ended."""
    def drain(self) -> None:
        """Takes no new connections and asks those there are to go."""
    def drained(self, seconds: float) -> bool:
        """Waits until every connection has gone, at most ``seconds``; whether they have."""
    def end(self) -> None:
        """Ends the threads and closes every connection."""
    def close(self) -> None:
        """Lets go of the plan."""
    def counters(self) -> dict[str, int]:
        """What the loops have counted, together."""
