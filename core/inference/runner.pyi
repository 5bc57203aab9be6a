from collections.abc import Mapping, Sequence
from typing import Literal, final

from core.inference.tensor import TensorType

_Rows = Mapping[str, Sequence[Sequence[float | str | None]]]
"""For each input, by name, a list of rows of cells; None is a missing value and leaves its row unscored."""

@final
class Runner:
    """One model version, loaded. Safe to use from any number of threads at once.

    ``name`` is for messages ("<model>/<version>"). ``widths`` says how many columns are bound to each input; it settles
    inputs whose file leaves the number free and must agree with the others. ``output`` names the output that is the
    score ('' where only one can be), ``selected`` the column of a tensor or the key of a map in it. ``value`` True: any
    finite number is a score; False: a propensity, unscored outside [0, 1]. ``platt`` (a, b) calibrates by
    1 / (1 + exp(a s + b)) (J. Platt, 1999), ``isotonic`` by linear interpolation between points of ascending x, flat
    beyond them. A run is waited for at most ``budget_ms``; at most ``in_flight`` runs are under way on other threads.

    Raises ModelError when the runtime refuses the file or it does not fit what is asked of it.
    """

    name: str
    inputs: tuple[TensorType, ...]
    outputs: tuple[TensorType, ...]
    output: str
    def __init__(
        self, name: str, model: bytes, *, widths: Mapping[str, int] | None = None, output: str = "",
        selected: int | str | None = None, value: bool = False, platt: tuple[float, float] | None = None,
        isotonic: Sequence[tuple[float, float]] = (), budget_ms: float = 20.0, in_flight: int = 8,
    ) -> None: ...
    @property
    def batch(self) -> int:
        """Rows of one run where the file fixes them (others are padded or cut), else 0."""

    @property
    def fault(self) -> str:
        """The runtime's words at the last failure, '' before the first."""

    @property
    def on_callers_thread(self) -> bool:
        """Whether runs that surely fit the time left happen on the deciding thread."""

    def stats(self) -> dict[str, int]:
        """Counters since loading: runs, inline_runs, rows, unscored (rows), late, faulty, busy, spent_ns, slowest_ns,
        and in_flight now."""

    def run(
        self, rows: _Rows, *, timeout_ms: float = ...
    ) -> tuple[Literal["SCORED", "LATE", "FAULTY", "BUSY"], list[float]]:
        """Scores rows as a decision does: the outcome, and after SCORED a score for each row (NaN: unscored)."""

    def measure(self, rows: _Rows, *, repeats: int = 32, handed: bool = False) -> tuple[int, list[float]]:
        """The median time of a run in nanoseconds and the scores; on this thread, or ``handed`` to another as a decision does.

        Raises ModelError when a run fails.
        """

    def run_on_callers_thread(self, base_ns: float, row_ns: float) -> None:
        """Declares the model's running time bounded: ``base_ns`` for a run of one row, ``row_ns`` for each further row.

        For models without loops and branches only: a run on the caller's thread cannot be left.
        """
