from collections.abc import Sequence
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

from core.kernel.plan import Plan

@final
class DeskHolder:
    """A desk over a plan, with a workspace of its own. To be used by one thread at a time.

    Native threads use it by pointer (``desk.pxd``); what is here is a thin door for tests and measurements.
    """

    plan: Plan
    # Outcome of the last `decide`: 0 done, 1 the Python path has to look, 2 slow, 3 expired, 4 failed.
    code: int
    # Whether a decision may wait for models; False as made.
    may_wait: bool
    def __new__(cls, plan: Plan) -> Self: ...
    def close(self) -> None:
        """Gives the workspace back to the plan; every request is for the Python path from now on."""
    def decide(self, data: bytes, deadline_us: int | None = None) -> bytes | None:
        """The bytes of the DecideResponse to a DecideRequest's, or None when the Python path has to look; see `code`.

        ``deadline_us`` is what is left of the call's own deadline, None without one.
        """
    def measure(self, requests: Sequence[bytes], rounds: int) -> NDArray[np.int64]:
        """Times decisions from bytes to bytes, in nanoseconds: for each round and request the whole, and of it the decision.

        Raises EngineFault for a request that the Python path has to look at.
        """
