"""CEL: from a text to what the kernel runs.

parse         a text to a small untyped tree with positions
check, fold   what it may name and of which type everything is; constants worked out
expression    the typed tree that programs keep: the vocabulary of all that follows
conditions    a condition taken apart into what the eligibility index understands, and the rest
filters       an aggregate's filter taken apart into terms
lower         the tree to bytecode, whose operations are in `bytecode`
"""

from core.expressions.expression import (
    Call,
    Expression,
    Input,
    InputKind,
    Kind,
    Literal,
    Node,
    Read,
    Type,
)

__all__ = ["Call", "Expression", "Input", "InputKind", "Kind", "Literal", "Node", "Read", "Type"]
