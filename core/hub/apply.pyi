from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar, final

from core.decision import Identifier
from core.hub.catalog import Catalog
from core.hub.environment import Environment
from core.hub.mutations import Mutation
from core.hub.record import RecordLayout
from core.hub.transaction import Transaction

_M = TypeVar("_M", bound=Mutation)

@final
class Applier:
    """Applies mutations: `begin`, `apply` for each, then `commit` or `abort`. For one thread."""

    environment: Environment
    catalog: Catalog
    layout: RecordLayout
    transaction: Transaction
    applied: int
    poisoned: bool
    changed: set[int] | None  # customers whose record or events changed, until it is emptied; None: nobody asks
    def __new__(cls, environment: Environment) -> Self: ...
    def begin(self) -> None:
        """Begin a transaction."""
    def apply(self, mutation: Mutation) -> object:
        """Apply one mutation and return its result. When it raises and ``poisoned`` is false, nothing was changed."""
    def commit(self) -> None:
        """Make everything applied durable, with the sequence number it reached. On failure all of it is undone."""
    def abort(self) -> None:
        """Undo the transaction and everything applied in it."""
    def survivor(self, customer: int) -> int:
        """The customer this id leads to, through joins; 0 when there is none."""
    def key_of(self, identifier: Identifier) -> bytes:
        """The key of an identifier that was resolved before."""
    def resolve(
        self, given: Sequence[Identifier], of_household: bool = False, field: str = "identifiers"
    ) -> tuple[int, list[tuple[int, bytes, int, bytes, int]]]:
        """(customer or 0, [(trust, key, namespace number, value, customer or 0)], ranked); the first known one wins.

        With ``of_household`` they name a household instead; ``field`` is where the request has them, for errors.
        """

def register(
    mutation_type: type[_M], function: Callable[[Applier, _M], Any], again: Callable[[Applier, _M], Any] | None = None
) -> None:
    """Apply this kind of mutation with ``function(applier, mutation)``; makes it decodable as well."""

def apply_inside(applier: Applier, mutation: Mutation) -> object:
    """Apply a mutation inside the handler of another, whose changes its own join."""
