"""Checked expressions to bytecode for the kernel's stack machine.

An instruction is 8 bytes: a 16 bit operation, a 16 bit and a 32 bit operand. Operations are typed, so the machine never looks
at a type; logic jumps past what cannot matter; a comparison of an input with a constant, the commonest of all, is one
instruction. Equal trees share one number, so a condition that a thousand offers state is compiled once.

What comes out is `core.expressions.bytecode`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from core.errors import EngineFault
from core.expressions.bytecode import STACK, Code, Opcode
from core.expressions.expression import Call, Expression, Input, Kind, Literal, Node, Read, Type
from core.schema import currency_exponent

# Slots and list lengths up to this fit an instruction's 16 bit operand.
_SHORT: Final = 65_535


# Kinds by number, as the machine knows the result of an expression.
KIND_NUMBERS: Final[Mapping[Kind, int]] = {
    Kind.BOOL: 1, Kind.INT: 2, Kind.DOUBLE: 3, Kind.MONEY: 4, Kind.STRING: 5, Kind.TIMESTAMP: 6, Kind.DURATION: 7,
    Kind.SET: 8,
}  # fmt: skip

INSTRUCTION: Final = np.dtype([("op", "<u2"), ("b", "<u2"), ("a", "<i4")])

_REAL: Final = frozenset({Kind.DOUBLE, Kind.MONEY})
_ARITHMETIC: Final = {"+": "ADD", "-": "SUB", "*": "MUL", "/": "DIV", "%": "MOD", "neg": "NEG", "abs": "ABS",
                      "min": "MIN", "max": "MAX"}  # fmt: skip
_COMPARISONS: Final = {"==": "EQ", "!=": "NE", "<": "LT", "<=": "LE", ">": "GT", ">=": "GE"}
_SWAPPED: Final = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_PLAIN: Final = {
    "startsWith": Opcode.STARTS, "endsWith": Opcode.ENDS, "contains": Opcode.CONTAINS, "lowerAscii": Opcode.LOWER,
    "upperAscii": Opcode.UPPER, "getFullYear": Opcode.YEAR, "getMonth": Opcode.MONTH,
    "getDayOfMonth": Opcode.DAY_OF_MONTH, "getDayOfWeek": Opcode.DAY_OF_WEEK, "getHours": Opcode.HOURS,
    "getMinutes": Opcode.MINUTES,
}  # fmt: skip
_CHAINS: Final = {"&&": (Opcode.AND_FIRST, Opcode.AND_NEXT), "||": (Opcode.OR_FIRST, Opcode.OR_NEXT)}


class Assembler:
    """Collects expressions and gives each a number.

    ``slots`` maps inputs to positions in the frame; it may grow between calls, but what an expression reads must be in it
    when the expression is added.
    """

    def __init__(self, slots: Mapping[Input, int]) -> None:
        self._slots = slots
        self._numbers: dict[Node, int] = {}
        self._starts: list[int] = []
        self._types: list[Type] = []
        self._instructions: list[tuple[int, int, int]] = []
        self._constants: dict[tuple[tuple[bool | int | float | str, ...], Kind], int] = {}
        self._ints: list[int] = []
        self._doubles: list[float] = []
        self._texts: list[tuple[int, int]] = []
        self._heap = bytearray()
        self._held = 0
        self._most_slot = -1

    def add(self, expression: Expression) -> int:
        """The number of an expression; equal trees get the same one."""
        known = self._numbers.get(expression.root)
        if known is not None:
            return known
        begin = len(self._instructions)
        self._held = 0
        try:
            self._node(expression.root)
        except BaseException:
            del self._instructions[begin:]
            raise
        self._emit(Opcode.END)
        number = len(self._starts)
        self._starts.append(begin)
        self._types.append(expression.type)
        self._numbers[expression.root] = number
        return number

    def code(self) -> Code:
        """What was added so far."""
        currencies = [
            self._constant((kind.currency,), Kind.STRING) if kind.kind is Kind.MONEY else -1 for kind in self._types
        ]
        return Code(
            instructions=np.array(self._instructions, INSTRUCTION),
            starts=np.array(self._starts, np.uint32),
            kinds=np.array([KIND_NUMBERS[kind.kind] for kind in self._types], np.uint8),
            currencies=np.array(currencies, np.int32),
            digits=np.array([currency_exponent(kind.currency) for kind in self._types], np.uint8),
            ints=np.array(self._ints, np.int64),
            doubles=np.array(self._doubles, np.float64),
            text_starts=np.array([start for start, _ in self._texts], np.uint32),
            text_lengths=np.array([length for _, length in self._texts], np.uint32),
            heap=bytes(self._heap),
            slots=self._most_slot + 1,
        )

    # --- pieces -------------------------------------------------------------------------------------------

    def _emit(self, op: Opcode, a: int = 0, b: int = 0) -> int:
        self._instructions.append((int(op), b, a))
        return len(self._instructions) - 1

    def _push(self, op: Opcode, a: int = 0, b: int = 0) -> None:
        """Emits what leaves one value more on the stack."""
        self._emit(op, a, b)
        self._held += 1
        if self._held > STACK:
            raise EngineFault(f"An expression needs more than {STACK} values on the machine's stack.",
                              hint="The checker limits nesting; this tree did not come from it.")

    def _patch(self, jump: int) -> None:
        """Lets a jump go to the next instruction."""
        op, b, _ = self._instructions[jump]
        self._instructions[jump] = (op, b, len(self._instructions))

    def _slot(self, read: Input) -> int:
        slot = self._slots.get(read)
        if slot is None:
            raise EngineFault(f"Input {read.path} has no slot in the frame.", hint="Give it one before adding expressions.")
        self._most_slot = max(self._most_slot, slot)
        return slot

    def _constant(self, values: tuple[bool | int | float | str, ...], kind: Kind) -> int:
        """The first of consecutive constants holding the values."""
        known = self._constants.get((values, kind))
        if known is not None:
            return known
        first = len(self._ints)
        for value in values:
            text = value.encode() if isinstance(value, str) else b""
            self._ints.append(0 if isinstance(value, float | str) else int(value))
            self._doubles.append(value if isinstance(value, float) else 0.0)
            self._texts.append((len(self._heap), len(text)))
            self._heap += text
        self._constants[values, kind] = first
        return first

    def _node(self, node: Node) -> None:
        match node:
            case Literal(value=value, type=type_):
                if isinstance(value, tuple):
                    raise EngineFault("A list stands where a value is needed.")
                self._push(Opcode.CONSTANT, self._constant((value,), type_.kind))
            case Read(input=read):
                self._push(Opcode.LOAD, self._slot(read))
            case Call(op=op, arguments=arguments):
                if op in _CHAINS:
                    self._chain(arguments, *_CHAINS[op])
                elif op == "?:":
                    self._choice(*arguments)
                elif op == "has":
                    (asked,) = arguments
                    if isinstance(asked, Read):
                        self._push(Opcode.HAS, self._slot(asked.input))
                    else:
                        self._node(asked)
                        self._emit(Opcode.KNOWN)
                elif op == "in":
                    self._membership(*arguments)
                elif op in _COMPARISONS:
                    self._comparison(op, *arguments)
                else:
                    self._strict(node, op, arguments)

    def _chain(self, nodes: tuple[Node, ...], first: Opcode, following: Opcode) -> None:
        jumps = []
        for position, node in enumerate(nodes):
            self._node(node)
            if position:
                self._held -= 1
            jumps.append(self._emit(following if position else first))
        for jump in jumps:
            self._patch(jump)

    def _choice(self, condition: Node, yes: Node, no: Node) -> None:
        self._node(condition)
        unknown = self._emit(Opcode.IF_UNKNOWN)
        false = self._emit(Opcode.IF_FALSE)
        self._held -= 1
        self._node(yes)
        self._held -= 1
        end = self._emit(Opcode.JUMP)
        self._patch(false)
        self._node(no)
        self._patch(end)
        self._patch(unknown)

    def _membership(self, wanted: Node, among: Node) -> None:
        self._node(wanted)
        if isinstance(among, Literal):
            assert isinstance(among.value, tuple)
            kind = among.type.element
            assert kind is not None
            op = {Kind.STRING: Opcode.IN_T, Kind.DOUBLE: Opcode.IN_F, Kind.MONEY: Opcode.IN_F}.get(kind, Opcode.IN_I)
            if len(among.value) > _SHORT:
                raise EngineFault(f"A list has {len(among.value)} members.", hint=f"The machine takes {_SHORT}.")
            # The machine searches by halves. Order of code points is order of UTF-8 bytes.
            members = tuple(sorted(among.value))  # of one kind, so they compare
            self._emit(op, self._constant(members, kind), len(members))
        else:
            self._node(among)
            self._held -= 1
            self._emit(Opcode.IN_SET)

    def _comparison(self, op: str, left: Node, right: Node) -> None:
        if isinstance(left, Literal) and isinstance(right, Read):
            op, left, right = _SWAPPED[op], right, left
        kind = left.type.kind
        letter = "F" if kind in _REAL else "T" if kind is Kind.STRING else "I"
        if isinstance(left, Read) and isinstance(right, Literal) and self._slot(left.input) <= _SHORT:
            assert not isinstance(right.value, tuple)
            constant = self._constant((right.value,), right.type.kind)
            self._push(Opcode[f"{_COMPARISONS[op]}_{letter}C"], constant, self._slot(left.input))
            return
        self._node(left)
        self._node(right)
        self._held -= 1
        self._emit(Opcode[f"{_COMPARISONS[op]}_{letter}"])

    def _strict(self, node: Call, op: str, arguments: tuple[Node, ...]) -> None:
        """Operations that evaluate all their arguments."""
        for argument in arguments:
            self._node(argument)
        self._held -= len(arguments) - 1
        kind = arguments[0].type.kind
        if op == "!":
            self._emit(Opcode.NOT)
        elif op in _PLAIN:
            self._emit(_PLAIN[op])
        elif op == "+" and kind is Kind.STRING:
            self._emit(Opcode.CONCAT)
        elif op in _ARITHMETIC:
            self._emit(Opcode[f"{_ARITHMETIC[op]}_{'F' if kind in _REAL else 'I'}"])
        elif op == "size":
            self._emit(Opcode.SIZE_T if kind is Kind.STRING else Opcode.SIZE_SET)
        elif op == "int":
            self._emit({Kind.STRING: Opcode.T_TO_I, Kind.TIMESTAMP: Opcode.TIME_TO_I}.get(kind, Opcode.F_TO_I))
        elif op == "double":
            if kind not in _REAL:
                self._emit(Opcode.T_TO_F if kind is Kind.STRING else Opcode.I_TO_F)
        elif op == "string":
            if kind is Kind.MONEY:
                currency = arguments[0].type.currency
                self._emit(Opcode.MONEY_TO_T, self._constant((currency,), Kind.STRING), currency_exponent(currency))
            else:
                self._emit({Kind.BOOL: Opcode.BOOL_TO_T, Kind.INT: Opcode.I_TO_T, Kind.DOUBLE: Opcode.F_TO_T,
                            Kind.TIMESTAMP: Opcode.TIME_TO_T}[kind])  # fmt: skip
        else:
            raise EngineFault(f"The machine knows no operation '{op}' with {len(node.arguments)} arguments.")
