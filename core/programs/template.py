"""Splits a content template into literal pieces and the expressions between ``{{`` and ``}}``.

Braces inside an expression's string literals do not close it, so ``{{ '}}' }}`` and ``{{ '{{' }}`` say what they seem
to say. There is no other syntax: no filters, no blocks, nothing that loops. What an expression may do,
`core.expressions` knows.
"""

from __future__ import annotations

from dataclasses import dataclass

OPEN = "{{"
CLOSE = "}}"


@dataclass(frozen=True, slots=True)
class Hole:
    """An expression's text and where in the template it begins."""

    text: str
    offset: int


class TemplateError(ValueError):
    """``{{`` without ``}}``, or nothing between them; ``offset`` is where it stands."""

    def __init__(self, problem: str, hint: str, offset: int) -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint
        self.offset = offset


def split(template: str) -> tuple[str | Hole, ...]:
    """Literal pieces (never empty) and holes in order.

    >>> split("Dear {{ customer.first_name }}!")
    ('Dear ', Hole(text='customer.first_name', offset=8), '!')

    Raises TemplateError.
    """
    pieces: list[str | Hole] = []
    position = 0
    while True:
        start = template.find(OPEN, position)
        if start < 0:
            if position < len(template):
                pieces.append(template[position:])
            return tuple(pieces)
        if start > position:
            pieces.append(template[position:start])
        end = _close(template, start)
        inner = template[start + 2 : end]
        text = inner.strip()
        if not text:
            raise TemplateError("Nothing stands between {{ and }}.", "Name a value, such as customer.first_name.",
                                start)
        pieces.append(Hole(text, start + 2 + len(inner) - len(inner.lstrip())))
        position = end + 2


def _close(template: str, start: int) -> int:
    """The offset of the ``}}`` that closes the ``{{`` at ``start``."""
    quote = ""
    position = start + 2
    while position < len(template):
        character = template[position]
        if quote:
            if character == "\\":
                position += 1
            elif character == quote:
                quote = ""
        elif character in "'\"":
            quote = character
        elif template.startswith(CLOSE, position):
            return position
        elif template.startswith(OPEN, position):
            break
        position += 1
    if quote:
        raise TemplateError(f"A string that begins with {quote} between {{{{ and }}}} is not closed.",
                       f"Close it with {quote}.", start)
    raise TemplateError("{{ is not closed.", "Close it with }}; a literal {{ is written {{ '{{' }}.", start)
