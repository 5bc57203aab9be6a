"""CEL: parse, type-check, normalise, lower. See `core.expressions.expression` for the vocabulary."""

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
