"""Types of `tests.fuzz.targets`; its file says how it works."""

from collections.abc import Callable, Sequence

from core.hub.ingest import ItemReader
from core.hub.mutations import IngestBatch
from core.kernel.desk import DeskHolder
from server.transport.plane import DataPlane

# What did not hold, by the number that `run` gives; 0 is nothing.
FOUND: tuple[str, ...]

def prepare_requests(desks: Sequence[DeskHolder], judges: Sequence[Callable[[bytes], object]], sample: int) -> None:
    """Worlds of the target ``request``: a desk each, and what judges one answer in ``sample`` by raising AssertionError."""

def prepare_transport(plane: DataPlane) -> None:
    """The data plane of the target ``transport``, which was not started and whose first loop is used."""

def prepare_feed(
    reader: ItemReader, now_us: int,
    judge: Callable[[bytes, tuple[list[int], list[IngestBatch | bytes]] | None, int], None],
    texts_judge: Callable[[int, int, bytes, bytes, int, bool], None], sample: int,
) -> None:
    """The reader of the target ``feed``, and what judges one input in ``sample`` by raising AssertionError.

    ``judge`` is given a message, what the reader made of it (None: it refused all) and the most items of a batch;
    ``texts_judge`` the arguments and the answer of `core.hub.ingest.well_formed`.
    """

def address(name: str) -> int:
    """Where a target's C function lies: ``int (const uint8_t *, size_t)``. Raises ValueError for one that is not prepared."""

def run(name: str, data: bytes) -> int:
    """Gives one input to a target; an index of FOUND. Raises ValueError for one that is not prepared."""
