from collections.abc import Callable, Container, Iterable, Mapping, Sequence

from core.hub.catalog import NamespaceEntry
from core.schema import Namespace, Normaliser

RULES: Mapping[Normaliser, int]

def normalised(rule: Normaliser, value: str, namespace: str) -> bytes:
    """The identifier's bytes as stored.

    ``namespace`` is named in messages. Raises BadValue when it is empty, not UTF-8, or not what the rule wants;
    TooLarge when it is over ``limits.IDENTIFIER_BYTES``.
    """

def ranked(found: list[tuple[int, bytes, int, bytes, int]]) -> list[tuple[int, bytes, int, bytes, int]]:
    """Rows of (trust, key, namespace number, value, owner or 0) in the order in which they are believed.

    By falling trust; of equally trusted namespaces the one that the store has known longer, and of one namespace the smaller
    value comes first, so that it does not matter in which order somebody sends them.
    """

def meant(
    found: Sequence[tuple[int, bytes, int, bytes, int]],
    singles: Container[int],
    held: Callable[[int], Iterable[tuple[int, bytes]]],
) -> tuple[int, bytes, int, bytes, int] | None:
    """The row of the identifier that says who is meant, or None: nobody who is known.

    ``found`` are (trust, key, namespace number, value, owner or 0), `ranked`. The first known one says it, but for one whose
    owner has another identifier of a namespace of ``singles`` than one before it: a new account on a shared device is not the
    device's last user. ``held`` gives an owner's (namespace number, value) pairs.
    """

def refuse_two(found: Sequence[tuple[int, bytes, int, bytes, int]], singles: Mapping[int, str]) -> None:
    """Raise IdentityConflict where nobody is `meant`, and yet somebody is known: of whom was asked cannot be told.

    To a decision such identifiers are a stranger's; whoever asks what is kept must not hear that nobody is known.
    """

def excluded(held: Iterable[tuple[int, bytes]], number: int, value: bytes) -> bool:
    """Whether identifiers hold one of a single namespace, but not this one: it is another person's."""

def check_holder(entry: Namespace | NamespaceEntry, of_household: bool) -> None:
    """Raise BadValue unless identifiers of a namespace name what they are given for: customers, or households."""
