"""The bytecode machine: evaluates a checked expression over a frame.

A stack machine with typed operations, compiled by `core.expressions.lower`. It takes no memory but the arena's, holds
no lock and needs no GIL. Code is immutable and shared by all threads; it lives as long as the `CodeHolder` that owns
it.
"""

cimport cython
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t

from core.kernel.arena cimport Arena
from core.kernel.values cimport Value

cdef enum:
    STACK = 96  # values an expression may hold at once; `core.expressions.bytecode.STACK`

cdef struct Instruction:
    uint16_t op  # an Opcode
    uint16_t b  # slot, count or digits
    int32_t a  # slot, constant or jump target (counted from the first instruction of all code)

cdef struct Code:
    const Instruction* instructions  # of all expressions, each ended by END
    const uint32_t* starts  # for each expression number, its first instruction
    const uint8_t* kinds  # for each expression number, a ResultKind
    const int32_t* currencies  # for each expression number, the constant naming its currency, or -1
    const uint8_t* digits  # for each expression number, digits after the point of its currency
    const Value* constants  # texts point into heap
    const char* heap  # texts of constants, UTF-8
    uint32_t expression_count  # numbers are 0 to this
    uint32_t instruction_count
    uint32_t constant_count
    uint32_t slot_count  # size of the frame that the code reads

cdef enum ResultKind:
    RESULT_BOOL = 1  # in i: 0 or 1
    RESULT_INT = 2  # in i
    RESULT_DOUBLE = 3  # in f
    RESULT_MONEY = 4  # in f, major units
    RESULT_STRING = 5  # in text and length
    RESULT_TIMESTAMP = 6  # in i, microseconds
    RESULT_DURATION = 7  # in i, microseconds
    RESULT_SET = 8  # in text and length, its heap encoding

cdef void evaluate(
    const Code* code, uint32_t number, const Value* frame, Arena* arena, Value* result
) noexcept nogil  # a MISSING result has in i the slot of the first input, from left to right, whose absence made it so

cdef int holds(
    const Code* code, uint32_t number, const Value* frame, Arena* arena
) noexcept nogil  # of a condition: 1 true, 0 false, 2 missing, 3 failed

cdef int32_t missing_slot(
    const Code* code, uint32_t number, const Value* frame, Arena* arena
) noexcept nogil  # where holds gives 2: the slot to blame, as in evaluate; -1 otherwise

cdef bint format_text(
    const Code* code, uint32_t number, const Value* frame, Arena* arena, const char** text, uint32_t* length
) noexcept nogil  # the result as people read it, empty when missing or failed; False when the arena gave no memory

cdef bint format_value(
    const Code* code, uint32_t number, const Value* value, Arena* arena, const char** text, uint32_t* length
) noexcept nogil  # as format_text, of a result already evaluated


@cython.final
cdef class CodeHolder:
    """Owns code: holds the arrays that ``code`` points into. Immutable once made."""

    cdef Code code  # valid as long as this object
    cdef Instruction* _instructions  # owned
    cdef uint32_t* _starts  # owned
    cdef uint8_t* _kinds  # owned
    cdef int32_t* _currencies  # owned
    cdef uint8_t* _digits  # owned
    cdef Value* _constants  # owned
    cdef bytes _heap  # keeps the constants' texts
    cdef const Code* view(self) noexcept
