import numpy as np
import numpy.typing as npt

from loadtest.taken import Pace

def schedule(pace: Pace, seed: int) -> npt.NDArray[np.int64]:
    """When each request of an open loop is due, in ns after the start; what a run with this pace and seed keeps to.

    ValueError for a closed loop.
    """
