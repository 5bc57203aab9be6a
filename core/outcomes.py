"""What comes back after a decision: outcomes by token, and what was told of a customer; values without a wire format.

Times are integer microseconds since 1970-01-01T00:00:00Z. A batch is done item by item: one bad report fails alone, which is
why a result carries its error instead of raising it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from core.errors import RapportError
from core.schema import Money


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one offer instance.

    ``at_us`` None means the server's clock; a late report counts for the time it names, which lies between the decision
    (its ``as_of_us`` where it has one) and the instance's expiry. ``key`` makes it idempotent: the
    same key for the same instance and outcome counts once; '' lets an instance count each outcome once.
    """

    token: str
    outcome: str
    at_us: int | None = None
    value: Money | None = None
    key: str = ""


class OutcomeStatus(enum.IntEnum):
    """What was done with one report."""

    APPLIED = 1  # counted now; durable
    DUPLICATE = 2  # counted before; nothing changed
    UNKNOWN = 3  # the token names no instance of this installation that still takes reports
    REFUSED = 4  # the report itself is wrong, or the store could not take it, or nothing that old counts any more


@dataclass(frozen=True, slots=True)
class OutcomeResult:
    """The result of one report; ``error`` says why when it is UNKNOWN or REFUSED."""

    status: OutcomeStatus
    error: RapportError | None = None


@dataclass(frozen=True, slots=True)
class TellResult:
    """What was kept of what was told: events that count now, events known before, whether the customer is new.

    ``too_old`` events were older than everything that the customer's full list, or their type's retention, keeps; nothing was
    kept of them.
    """

    applied: int
    duplicates: int
    created: bool
    too_old: int = 0


@dataclass(frozen=True, slots=True)
class ProgramVersion:
    """A version of a program as the store keeps it. ``version`` is "<name>@<number>"; ``loaded_us`` its first load."""

    version: str
    digest: str
    loaded_us: int
    active: bool
