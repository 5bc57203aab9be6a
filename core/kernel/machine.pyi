import enum
from collections.abc import Sequence
from typing import final

from core.expressions.bytecode import Code as CodeArrays

class State(enum.IntEnum):
    MISSING = 0
    PRESENT = 1
    FAILED = 2

@final
class CodeHolder:
    def __new__(cls, arrays: CodeArrays) -> CodeHolder: ...
    def __len__(self) -> int: ...
    def evaluate(
        self, number: int, values: Sequence[bool | int | float | str | frozenset[str] | None]
    ) -> tuple[State, bool | int | float | str | frozenset[str] | None]: ...
    def text(self, number: int, values: Sequence[bool | int | float | str | frozenset[str] | None]) -> str: ...
    def holds(
        self, number: int, values: Sequence[bool | int | float | str | frozenset[str] | None]
    ) -> tuple[int, int]: ...
