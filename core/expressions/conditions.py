"""Takes a condition apart into what the eligibility index understands, and the rest.

`split` looks only at conjuncts: an expression holds exactly when all its conjuncts hold, missing values included, because
an unknown conjunct and a false one both keep it from holding. So each conjunct may become an `Atom` (one input against
constants) on its own. A disjunction of equalities on one text input is an atom too, and ``!(a || b)`` is two conjuncts.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from core.expressions.expression import Call, Expression, Input, Kind, Literal, Node, Read, Type
from core.expressions.fold import INT_LEAST, INT_MOST

_BOOL = Type(Kind.BOOL)
# Whole doubles below this convert to int and back unchanged, and so does every int below it.
_EXACT = 2.0**53


class Op(enum.Enum):
    """What an atom asks of its input."""

    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="
    EQ = "=="
    NE = "!="
    IN = "in"
    NOT_IN = "not in"
    HAS = "has"
    NOT_HAS = "!has"
    TRUE = "true"
    FALSE = "false"


_NO_OPERAND = frozenset({Op.HAS, Op.NOT_HAS, Op.TRUE, Op.FALSE})
_SWAPPED = {"<": Op.GT, "<=": Op.GE, ">": Op.LT, ">=": Op.LE, "==": Op.EQ, "!=": Op.NE}
_STRAIGHT = {op.value: op for op in (Op.LT, Op.LE, Op.GT, Op.GE, Op.EQ, Op.NE)}
_OPPOSITE = {
    Op.LT: Op.GE, Op.LE: Op.GT, Op.GT: Op.LE, Op.GE: Op.LT, Op.EQ: Op.NE, Op.NE: Op.EQ, Op.IN: Op.NOT_IN,
    Op.NOT_IN: Op.IN, Op.HAS: Op.NOT_HAS, Op.NOT_HAS: Op.HAS, Op.TRUE: Op.FALSE, Op.FALSE: Op.TRUE,
}  # fmt: skip
_COMPARABLE = frozenset({Kind.INT, Kind.DOUBLE, Kind.MONEY, Kind.STRING, Kind.TIMESTAMP, Kind.DURATION})


@dataclass(frozen=True, slots=True)
class Atom:
    """One input against constants.

    ``operands`` are of the input's kind: int for INT, TIMESTAMP and DURATION (microseconds), float for DOUBLE and
    MONEY, str for STRING; one for a comparison, sorted and at least two for IN and NOT_IN, none for HAS, NOT_HAS, TRUE and
    FALSE. All but NOT_HAS need the input to be present.
    """

    input: Input
    op: Op
    operands: tuple[int | float | str, ...] = ()

    @classmethod
    def of(cls, read: Input, op: Op, *operands: int | float | str) -> Atom:
        """An atom with its operands in order of writing."""
        assert (op in _NO_OPERAND) == (not operands), "an atom has operands exactly when its operator takes some"
        return cls(read, op, operands)

    @property
    def expression(self) -> Expression:
        """The condition as a tree again, for evaluation by the machine."""
        read = Read(self.input)
        root: Node
        match self.op:
            case Op.TRUE | Op.FALSE:
                root = read
            case Op.HAS | Op.NOT_HAS:
                root = Call("has", (read,), _BOOL)
            case Op.IN | Op.NOT_IN:
                root = Call("in", (read, Literal(self.operands, Type(Kind.LIST, element=self._kind()))), _BOOL)
            case _:
                root = Call(self.op.value, (read, Literal(self.operands[0], Type(self._kind()))), _BOOL)
        if self.op in (Op.FALSE, Op.NOT_HAS, Op.NOT_IN):
            root = Call("!", (root,), _BOOL)
        return Expression(root, "")

    def _kind(self) -> Kind:
        kind = self.input.type.kind
        return Kind.DOUBLE if kind is Kind.MONEY else kind


def split(expression: Expression) -> tuple[tuple[Atom, ...], tuple[Expression, ...]]:
    """Atoms and other conditions which all hold exactly when the expression holds, each in order of appearance.

    The expression is of type bool. A constant true gives nothing; a constant false stays among the others.
    """
    assert expression.type.kind is Kind.BOOL
    atoms: dict[Atom, None] = {}
    rest: dict[Expression, None] = {}
    pending = [expression.root]
    while pending:
        node = pending.pop()
        if isinstance(node, Call) and node.op == "&&":
            pending.extend(reversed(node.arguments))
            continue
        if isinstance(node, Call) and node.op == "!":
            inner = node.arguments[0]
            if isinstance(inner, Call) and inner.op == "||":
                pending.extend(_inverted(argument) for argument in reversed(inner.arguments))
                continue
        if isinstance(node, Literal) and node.value is True:
            continue
        atom = _atom(node)
        if atom is not None:
            atoms.setdefault(atom)
        else:
            rest.setdefault(expression if node is expression.root else Expression(node, ""))
    return tuple(atoms), tuple(rest)


def _inverted(node: Node) -> Node:
    return node.arguments[0] if isinstance(node, Call) and node.op == "!" else Call("!", (node,), _BOOL)


def _atom(node: Node) -> Atom | None:
    if isinstance(node, Read):
        return Atom(node.input, Op.TRUE)
    if not isinstance(node, Call):
        return None
    match node.op:
        case "!":
            inner = _atom(node.arguments[0])
            # The opposite of a comparison that NaN fails is not the opposite comparison; so only exact kinds.
            if inner is None or (inner.input.type.kind in (Kind.DOUBLE, Kind.MONEY) and inner.op not in _NO_OPERAND):
                return None
            return Atom(inner.input, _OPPOSITE[inner.op], inner.operands)
        case "has":
            (read,) = node.arguments
            return Atom(read.input, Op.HAS) if isinstance(read, Read) else None
        case "in":
            read, among = node.arguments
            if isinstance(read, Read) and isinstance(among, Literal) and isinstance(among.value, tuple):
                return Atom(read.input, Op.IN, among.value)
            return None
        case "||":
            return _any_text(node.arguments)
        case op if op in _STRAIGHT:
            left, right = node.arguments
            if isinstance(right, Literal):
                return _comparison(left, _STRAIGHT[op], right)
            if isinstance(left, Literal):
                return _comparison(right, _SWAPPED[op], left)
    return None


def _comparison(side: Node, op: Op, literal: Literal) -> Atom | None:
    value = literal.value
    assert not isinstance(value, tuple)
    if isinstance(side, Read) and side.input.type.kind in _COMPARABLE:
        return Atom(side.input, op, (value,))
    if isinstance(side, Call) and side.op == "double" and isinstance(value, float):
        (read,) = side.arguments
        if isinstance(read, Read) and read.input.type.kind is Kind.INT:
            return _whole(read.input, op, value)
    return None


def _whole(read: Input, op: Op, value: float) -> Atom | None:
    """An int input against a double, as a comparison of ints; None where there is none that is equal."""
    if not abs(value) < _EXACT:
        return None
    match op:
        case Op.GT:
            bound, op = math.floor(value) + 1, Op.GE
        case Op.GE:
            bound = math.ceil(value)
        case Op.LT:
            bound, op = math.ceil(value) - 1, Op.LE
        case Op.LE:
            bound = math.floor(value)
        case _:
            bound = math.floor(value)
            if bound != value:
                return None
    assert INT_LEAST <= bound <= INT_MOST
    return Atom(read, op, (bound,))


def _any_text(nodes: tuple[Node, ...]) -> Atom | None:
    """``x == "a" || x in ["b", "c"]`` as one IN."""
    texts: set[int | float | str] = set()
    asked: Input | None = None
    for node in nodes:
        atom = _atom(node)
        if atom is None or atom.op not in (Op.EQ, Op.IN) or atom.input.type.kind is not Kind.STRING:
            return None
        if asked is not None and atom.input != asked:
            return None
        asked = atom.input
        texts.update(atom.operands)
    assert asked is not None
    if len(texts) == 1:
        return Atom(asked, Op.EQ, tuple(texts))
    return Atom(asked, Op.IN, tuple(sorted(map(str, texts))))
