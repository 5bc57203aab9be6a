from core.schema import ValueType

LETTERS: dict[ValueType, str]  # the letter by which `core.hub.events` packs a field of each type
