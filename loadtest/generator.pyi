"""Types of `loadtest.generator`; its file says how it works."""

from collections.abc import Sequence
from typing import final

from loadtest.histogram import Histogram
from loadtest.taken import Call, Pace, Taken

@final
class Generator:
    """Calls one server. Holds its connections from one run to the next; they close with it.

    ``streams``: open calls a connection at most (the server's own limit holds beside it). ``timeout``: the calls'
    deadline in seconds as the server is told it; 0: none. ``metadata``: sent with every call. ``look_every``: each so
    manieth answer of a call is looked into. ``spin``: seconds before a due moment that the loop stays awake.
    ValueError for a load that cannot be sent, OSError for a host that has no address.
    """

    def __new__(
        cls,
        host: str,
        port: int,
        calls: Sequence[Call],
        *,
        connections: int = 4,
        streams: int = 64,
        seed: int = 1,
        timeout: float = 0.0,
        metadata: Sequence[tuple[str, str]] = (),
        look_every: int = 64,
        spin: float = 0.0,
    ) -> Generator: ...
    @property
    def stop_fd(self) -> int:
        """A descriptor for `signal.set_wakeup_fd`: any byte written to it ends the run, as `stop` does."""

    def stop(self) -> None:
        """Ends the run that is going on, from any thread: nothing more is sent, open calls have a second."""

    def connect(self, seconds: float = 5.0) -> None:
        """Opens every connection, trying again until ``seconds`` are over; ConnectionError says why it could not."""

    def run(self, pace: Pace, *, drain: float = 10.0, interval: float = 1.0) -> Taken:
        """Runs a pace and tells what happened.

        ``drain``: seconds that answers may come after the schedule's end, and late requests may still be sent.
        ``interval``: seconds of one step of the timeline, at most 600 of them.
        ConnectionError when a connection cannot be opened at the start; what happens later is in the result.
        """

    def progress(self) -> tuple[float, int, int, int, int]:
        """Seconds since the start of the run, and scheduled, answered, failed and open calls so far."""

    def peek(self) -> tuple[Histogram, Histogram]:
        """The latencies of the run so far, and the generator's lag."""
