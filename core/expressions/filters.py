"""Checks an aggregate's filter: ``amount >= 100.00 && !cancelled`` becomes terms that the kernel compares with an event's cells.

It is written and checked as any expression over the event's fields, with the same conversions, constants and nearest names.
Then it must be of a small form: terms joined by ``&&``, each a field compared with a literal, a field ``in`` a list, or a bool
field or its negation. That is what can be answered for one event in a few nanoseconds, whatever the filter says.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from core import limits
from core.errors import Problem, ProgramError, Where
from core.expressions.check import Scope, check
from core.expressions.expression import Call, Kind, Literal, Node, Read
from core.schema import EventType, FilterTerm, Schema

# Each comparison as it reads from the other side.
_TURNED: Final = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_FORM: Final = "Write field op literal, field in [...], field or !field, joined by &&."


def check_filter(text: str, event: EventType, where: Where) -> tuple[FilterTerm, ...]:
    """The terms of a filter over the fields of an event; ``where`` is the place of its first character.

    Raises `ProgramError` with every problem found.
    """
    root = check(text, Scope(Schema(), event=event), where, Kind.BOOL).root
    terms = []
    for node in _joined(root):
        term = _term(node)
        if term is None:
            raise ProgramError([Problem(where, f"A filter compares fields with literals, and '{text}' does more.", _FORM)])
        terms.append(term)
    if len(terms) > limits.FILTER_TERMS:
        raise ProgramError([Problem(where, f"The filter has {len(terms)} terms; the limit is {limits.FILTER_TERMS}.",
                                    "Compare a field with several values by in [...].")])
    return tuple(terms)


def _joined(node: Node) -> Iterator[Node]:
    if isinstance(node, Call) and node.op == "&&":
        for argument in node.arguments:
            yield from _joined(argument)
    else:
        yield node


def _field(node: Node) -> str:
    """The field read, as it is or as a double; '' for anything else."""
    if isinstance(node, Call) and node.op == "double":
        node = node.arguments[0]
    return node.input.name if isinstance(node, Read) else ""


def _term(node: Node) -> FilterTerm | None:
    match node:
        case Read(input=read):
            return FilterTerm(read.name, "==", True)
        case Call(op="!", arguments=(Read(input=read),)):
            return FilterTerm(read.name, "==", False)
        case Call(op=op, arguments=(left, Literal(value=value))) if (op in _TURNED or op == "in") and _field(left):
            return FilterTerm(_field(left), op, value)
        case Call(op=op, arguments=(Literal(value=value), right)) if op in _TURNED and _field(right):
            return FilterTerm(_field(right), _TURNED[op], value)
    return None
