from collections.abc import Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from core.decision import DecideAnswer, DecideRequest
from core.kernel.plan import Plan

def micros(value: datetime) -> int:
    """Microseconds since 1970-01-01T00:00:00Z of a datetime with a zone; exact."""

def decide_one(plan: Plan, request: DecideRequest, now_us: int, seed: int, deadline_ns: int) -> DecideAnswer:
    """Decides one request over a plan.

    ``now_us`` is the decision's clock, ``seed`` (64 bit, unsigned) makes its ids, ``deadline_ns`` is on
    CLOCK_MONOTONIC (0: none). Raises UnknownName, BadValue, TooLarge, StoreCorrupt, StoreUnavailable.
    """

def scored(plan: Plan, request: DecideRequest, now_us: int) -> int:
    """How many offers a decision gives a priority: those left by all filters, without those that were pruned."""

def measure(plan: Plan, requests: Sequence[DecideRequest], rounds: int, now_us: int) -> NDArray[np.int64]:
    """Times decisions inside the kernel: nanoseconds, one for each round and request, in order.

    What is timed is a decision from a request in C to an answer in C, without the GIL; reading and building Python
    values is not.
    """
