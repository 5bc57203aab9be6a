"""What the kernel's stack machine runs, as data: its operations, and the arrays that hold a program's expressions.

`core.expressions.lower` makes it. Apart from there, because a plan that is restored needs the arrays but no compiler, and
no numpy: an array is then a view of the kept bytes. The numbers of `Opcode` are repeated in ``core/kernel/machine.pxd``,
which compares the two when it is imported.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Values the machine's stack holds. An operand waits for another at each level of nesting, and nesting ends at
# `limits.EXPRESSION_DEPTH`; the rest is room for trees made by other means than the checker.
STACK: Final = 96


class Opcode(enum.IntEnum):
    """Operations. I: 64 bit int (also bool, timestamp, duration), F: double (also money), T: text. C: input with constant."""

    END = 0
    CONSTANT = 1  # a: constant
    LOAD = 2  # a: slot
    HAS = 3  # a: slot
    JUMP = 4  # a: target, as below
    AND_FIRST = 5
    AND_NEXT = 6
    OR_FIRST = 7
    OR_NEXT = 8
    NOT = 9
    IF_UNKNOWN = 10  # jumps, keeping the condition as the result
    IF_FALSE = 11  # drops the condition, and jumps when it is false
    ADD_I = 12
    SUB_I = 13
    MUL_I = 14
    DIV_I = 15
    MOD_I = 16
    NEG_I = 17
    ABS_I = 18
    MIN_I = 19
    MAX_I = 20
    ADD_F = 21
    SUB_F = 22
    MUL_F = 23
    DIV_F = 24
    NEG_F = 25
    ABS_F = 26
    MIN_F = 27
    MAX_F = 28
    EQ_I = 29
    NE_I = 30
    LT_I = 31
    LE_I = 32
    GT_I = 33
    GE_I = 34
    EQ_F = 35
    NE_F = 36
    LT_F = 37
    LE_F = 38
    GT_F = 39
    GE_F = 40
    EQ_T = 41
    NE_T = 42
    LT_T = 43
    LE_T = 44
    GT_T = 45
    GE_T = 46
    EQ_IC = 47  # a: constant, b: slot; so on to GE_TC
    NE_IC = 48
    LT_IC = 49
    LE_IC = 50
    GT_IC = 51
    GE_IC = 52
    EQ_FC = 53
    NE_FC = 54
    LT_FC = 55
    LE_FC = 56
    GT_FC = 57
    GE_FC = 58
    EQ_TC = 59
    NE_TC = 60
    LT_TC = 61
    LE_TC = 62
    GT_TC = 63
    GE_TC = 64
    IN_I = 65  # a: first constant, b: how many, sorted
    IN_F = 66
    IN_T = 67
    IN_SET = 68
    SIZE_T = 69
    SIZE_SET = 70
    STARTS = 71
    ENDS = 72
    CONTAINS = 73
    LOWER = 74
    UPPER = 75
    CONCAT = 76
    F_TO_I = 77
    T_TO_I = 78
    TIME_TO_I = 79
    I_TO_F = 80
    T_TO_F = 81
    BOOL_TO_T = 82
    I_TO_T = 83
    F_TO_T = 84
    MONEY_TO_T = 85  # a: constant holding the currency, b: digits after the point
    TIME_TO_T = 86
    YEAR = 87
    MONTH = 88
    DAY_OF_MONTH = 89
    DAY_OF_WEEK = 90
    HOURS = 91
    MINUTES = 92
    KNOWN = 93  # whether a value is neither missing nor failed


@dataclass(frozen=True, slots=True, eq=False)
class Code:
    """Everything the machine needs, as arrays. ``slots`` is the size of the frame the code reads."""

    instructions: NDArray[np.void]  # of INSTRUCTION
    starts: NDArray[np.uint32]  # for each expression number, its first instruction
    kinds: NDArray[np.uint8]  # for each expression number, KIND_NUMBERS of its result
    currencies: NDArray[np.int32]  # for each expression number, the constant naming its currency, or -1
    digits: NDArray[np.uint8]  # for each expression number, digits after the point of its currency
    ints: NDArray[np.int64]  # for each constant, its value as int
    doubles: NDArray[np.float64]  # for each constant, its value as double
    text_starts: NDArray[np.uint32]  # for each constant, where its text begins in the heap
    text_lengths: NDArray[np.uint32]  # for each constant, bytes of its text
    heap: bytes
    slots: int
