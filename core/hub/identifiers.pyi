from collections.abc import Mapping

from core.schema import Normaliser

RULES: Mapping[Normaliser, int]

def normalised(rule: Normaliser, value: str, namespace: str) -> bytes:
    """The identifier's bytes as stored.

    ``namespace`` is named in messages. Raises BadValue when it is empty, not UTF-8, or not what the rule wants;
    TooLarge when it is over ``limits.IDENTIFIER_BYTES``.
    """
