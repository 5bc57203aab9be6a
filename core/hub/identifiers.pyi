from collections.abc import Mapping

from core.hub.catalog import NamespaceEntry
from core.schema import Namespace, Normaliser

RULES: Mapping[Normaliser, int]

def normalised(rule: Normaliser, value: str, namespace: str) -> bytes:
    """The identifier's bytes as stored.

    ``namespace`` is named in messages. Raises BadValue when it is empty, not UTF-8, or not what the rule wants;
    TooLarge when it is over ``limits.IDENTIFIER_BYTES``.
    """

def check_holder(entry: Namespace | NamespaceEntry, of_household: bool) -> None:
    """Raise BadValue unless identifiers of a namespace name what they are given for: customers, or households."""
