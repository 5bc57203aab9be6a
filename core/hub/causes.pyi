CAUSES: dict[int, tuple[str, str]]
CAUSE_NUMBERS: dict[str, int]
