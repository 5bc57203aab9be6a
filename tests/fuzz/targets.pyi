"""Types of `tests.fuzz.targets`; its file says how it works."""

from collections.abc import Callable, Sequence

from core.kernel.desk import DeskHolder
from server.transport.plane import DataPlane

# What did not hold, by the number that `run` gives; 0 is nothing.
FOUND: tuple[str, ...]

def prepare_requests(desks: Sequence[DeskHolder], judges: Sequence[Callable[[bytes], object]], sample: int) -> None:
    """Worlds of the target ``request``: a desk each, and what judges one answer in ``sample`` by raising AssertionError."""

def prepare_transport(plane: DataPlane) -> None:
    """The data plane of the target ``transport``, which was not started and whose first loop is used."""

def address(name: str) -> int:
    """Where a target's C function lies: ``int (const uint8_t *, size_t)``. Raises ValueError for one that is not prepared."""

def run(name: str, data: bytes) -> int:
    """Gives one input to a target; an index of FOUND. Raises ValueError for one that is not prepared."""
