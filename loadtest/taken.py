"""What one run of the generator saw, as values: filled by `loadtest.generator`, read by everything that shows or compares.

Every scheduled request ends in exactly one place: ``scheduled == answered + failed + unsent``, and ``failed`` is the sum
of ``failures``. A request that came too late to be sent stays in the count: leaving it out would make an overloaded
server look fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from loadtest.histogram import Histogram


class Kind(IntEnum):
    """What the generator knows of a method's messages; the numbers are the C code's too."""

    ANY = 0  # nothing: only the framing of its answers is checked
    DECIDE = 1  # answers are DecideResponse: placements are looked at, tokens taken
    RECORD = 2  # requests are written around a token taken from an earlier answer; answers are RecordResponse


@dataclass(frozen=True, slots=True)
class Call:
    """One method and what is sent to it. ``share`` is relative to the other calls' shares.

    ``messages`` are sent in an order drawn from the seed. With RECORD there are none: ``outcome`` is reported for tokens
    of the run's own decisions, and while there is no token, the first DECIDE call is made instead.
    """

    name: str
    path: str  # /package.Service/Method
    messages: Sequence[bytes]
    share: float = 1.0
    kind: Kind = Kind.ANY
    outcome: str = "shown"


@dataclass(frozen=True, slots=True)
class Pace:
    """When requests are due. A closed loop has ``open_calls`` open all the time instead of a rate."""

    seconds: float
    rate: float = 0.0  # requests a second
    poisson: bool = False  # exponential gaps instead of equal ones
    open_calls: int = 0

    def __str__(self) -> str:
        if self.open_calls:
            return f"closed loop of {self.open_calls} open calls for {self.seconds:g} s"
        return f"{self.rate:,.0f}/s {'Poisson' if self.poisson else 'evenly spaced'} for {self.seconds:g} s"


@dataclass(slots=True)
class Part:
    """One call's figures. ``latency`` from the schedule, ``service`` from the sending, both to the end of the stream."""

    name: str
    sent: int
    answered: int
    failed: int
    latency: Histogram
    service: Histogram


@dataclass(slots=True)
class Timeline:
    """The run cut into intervals. Requests stand in the interval they were *scheduled* in, ``completed`` by their end."""

    interval_s: float
    scheduled: npt.NDArray[np.int64]
    completed: npt.NDArray[np.int64]
    failed: npt.NDArray[np.int64]
    lag_ns: npt.NDArray[np.int64]  # the generator's worst lag
    latency: list[Histogram]


@dataclass(slots=True)
class Seen:
    """What the answers that were looked into hold."""

    answers: int = 0  # DecideResponses looked into
    placements: int = 0
    filled: int = 0  # placements with an OK status
    offers: int = 0
    tokens: int = 0  # taken for reports
    without_token: int = 0  # reports that became decisions for want of a token
    outcomes: dict[str, int] = field(default_factory=dict)  # RecordResponses' results by status


@dataclass(slots=True)
class Connections:
    """What became of connections, over the run."""

    opened: int = 0
    refused: int = 0  # attempts that failed
    lost: int = 0  # broke, or closed by the server with calls open
    goaways: int = 0


@dataclass(slots=True)
class Taken:
    """One run."""

    pace: Pace
    elapsed: float  # s, from the first due moment to the last answer or the end of waiting
    scheduled: int
    sent: int
    answered: int
    unsent: int
    interrupted: bool  # ended early by `stop`; the schedule is counted up to that moment
    failures: dict[str, int]  # by grpc status, reset code, or what else became of the call
    messages: dict[str, str]  # one grpc-message for a status
    parts: list[Part]
    failed_latency: Histogram  # from the schedule, of those that failed with an answer or a reset
    lag: Histogram  # generator's own: from the moment a request could have been sent to its sending
    waited: Histogram  # from the schedule to the moment a stream was free: the server's doing
    timeline: Timeline
    seen: Seen
    connections: Connections
    samples: list[tuple[str, bytes]]  # a few answers as received, with the call's name
    generator_cpu_s: float
    longest_pass_ns: int  # of the loop without its waiting: how late an answer's stamp can be
    allocations: int  # from the system during the run by the HTTP/2 session; 0 once warm
    bytes_sent: int
    bytes_received: int

    @property
    def failed(self) -> int:
        """Sent and not answered well."""
        return sum(self.failures.values())

    @property
    def latency(self) -> Histogram:
        """Of all good answers, from the schedule."""
        return sum((part.latency for part in self.parts), Histogram())

    @property
    def service(self) -> Histogram:
        """Of all good answers, from the sending."""
        return sum((part.service for part in self.parts), Histogram())

    @property
    def achieved(self) -> float:
        """Good answers a second."""
        return self.answered / self.elapsed if self.elapsed else 0.0

    @property
    def answered_share(self) -> float:
        """Good answers of what was scheduled, 0 to 1."""
        return self.answered / self.scheduled if self.scheduled else 0.0
