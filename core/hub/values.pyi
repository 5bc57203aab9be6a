from collections.abc import Mapping

from core.hub.catalog import AttributeEntry, EventField
from core.hub.mutations import Cell
from core.schema import ValueType

LETTERS: dict[ValueType, str]  # the letter by which `core.hub.events` packs a field of each type

def checked(
    path: str, kind: int, value: Cell, entry: AttributeEntry | EventField, codes: Mapping[str, int | str]
) -> bool | int | float | str | frozenset[str] | None:
    """A value as the store holds it. Raises BadValue, UnknownName or TooLarge, which name ``path``.

    ``kind`` is the type's in `core.hub.record.KINDS`; ``codes`` maps an enum's labels to what is stored for them.
    """
