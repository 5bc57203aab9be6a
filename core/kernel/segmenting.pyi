from collections.abc import Iterable, Sequence
from typing import Self, final

from core.kernel.plan import Plan

@final
class Walk:
    """A walk over all customers of the store that ``plan`` is bound to; for one thread at a time.

    ``conditions`` and ``numbers`` are numbers of the plan's expressions. Members of the first condition are remembered, one bit
    a customer id. What a request brings (facts, channel) is missing; consents are those for any channel.
    """

    visited: int  # customers of this round
    damaged: int  # those of them whose bytes fail their checks: not asked, and as they were
    def __new__(cls, plan: Plan, conditions: Sequence[int], numbers: Sequence[int] = ()) -> Self: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...
    def close(self) -> None:
        """Gives the workspace back. Closing twice does nothing."""
    @property
    def counts(self) -> list[int]:
        """By condition: customers of this round for whom it held."""
    @property
    def members(self) -> int:
        """How many members of the first condition are remembered."""
    def remember(self, other: Walk) -> None:
        """Takes over who were members from another walk, which forgets them."""
    def step(self, most: int, now_us: int) -> bool:
        """Visits up to ``most`` customers more; False once this round has visited all. Raises StoreError."""
    def again(self) -> None:
        """Begins another round: counts and values from nothing, members as they are."""
    def look(self, customers: Iterable[int], now_us: int) -> None:
        """Looks at these customers now, wherever the round is; those who are no more are no members. Raises StoreError."""
    def ahead(self, most: int) -> list[int]:
        """The next customers of this round, up to ``most``, of whom nothing is asked; [] once it has passed all."""
    def read(self, customers: Iterable[int], now_us: int) -> list[tuple[float | str | None, ...] | None]:
        """Of each of these customers all numbers as float or text, None where one is missing or failed; None for one who is
        no more, or whose bytes fail their checks. Raises StoreError."""
    def changes(self) -> list[int]:
        """Who came (the id) and who left (its negative) since this was last asked, in the order in which it was seen."""
    def edges(self, number: int, parts: int) -> tuple[int, list[float]]:
        """How many values this round has of a number, and its quantiles i/parts, linear between the two beside each; [] of
        none. Puts the values into order where they lie."""
