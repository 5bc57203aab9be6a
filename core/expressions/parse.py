"""CEL text to a small untyped syntax tree with positions.

The grammar is cel-python's, read from its package and run by lark's LALR parser; nothing else of that package is
imported. Parsing costs about a millisecond an expression, and a program repeats a few patterns thousands of times, so
the text is cut into tokens here and only its *shape* is parsed: every name is written `a`, every literal `0`, each token in
a field of three characters. Equal shapes share one tree, kept in a bounded cache; the tree speaks of tokens by their
position, so the same tree serves every text of that shape, and a token's field gives its position back.

A text that is not CEL raises `ProgramError` with one `Problem` at the exact line and column of the program's file.
"""

from __future__ import annotations

import importlib.util
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from core import limits
from core.errors import EngineFault, Problem, ProgramError, Where

if TYPE_CHECKING:
    from lark import Lark

# Blanks, then a token, or a character that begins none. Numbers and strings are atomic: no part of one is taken for a whole.
_TOKEN: Final = re.compile(
    r"""
    ([ \t\r\n\f]*)
    (?:(
        [rR](?:\"\"\".*?\"\"\" | '''.*?''' | "[^"\n]*" | '[^'\n]*')
      | [A-Za-z_][A-Za-z0-9_]*
      | (?>0[xX][0-9a-fA-F]+ | (?:[0-9]+\.[0-9]+ | \.[0-9]+ | [0-9]+)(?:[eE][+-]?[0-9]+)?)(?![A-Za-z0-9_])
      | \"\"\"(?:[^\\]|\\.)*?\"\"\" | '''(?:[^\\]|\\.)*?'''
      | "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*'
      | //[^\n]*
      | && | \|\| | == | != | <= | >= | [-<>+*/%!?:.,()\[\]{}]
    ) | (.))?
    """,
    re.VERBOSE | re.DOTALL,
)
# A token's field in the shape is this wide.
_FIELD: Final = 3
_NAME: Final = "a".ljust(_FIELD)
_LITERAL: Final = "0".ljust(_FIELD)
_ESCAPE: Final = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-3][0-7]{2}|.)", re.DOTALL)
_SIMPLE_ESCAPES: Final = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", "?": "?", '"': '"', "'": "'", "`": "`",
}  # fmt: skip
# The shape's field of tokens that always mean the same; any other token is a name or a literal.
_FIXED: Final = {
    **{
        sign: sign.ljust(_FIELD)
        for sign in ("&&", "||", "==", "!=", "<=", ">=", *"-<>+*/%!?:.,()[]{}", "in")
    },
    **dict.fromkeys(("true", "false", "null"), _LITERAL),
}
_VALUES: Final = {"true": True, "false": False, "null": None}
_PAIRS: Final = {")": "(", "]": "[", "}": "{"}
# What people write who know another language, and what it is here.
_FOREIGN: Final = {
    "=": ("'=' is not an operator.", "Write '==' to compare."),
    "&": ("'&' is not an operator.", "Write '&&' for and."),
    "|": ("'|' is not an operator.", "Write '||' for or."),
    ";": ("';' does not belong in an expression.", "Write one expression; join conditions with '&&'."),
    "\u2018": ("A typographic quote does not begin a text.", "Use ' or \"."),
    "\u2019": ("A typographic quote does not begin a text.", "Use ' or \"."),
    "\u201c": ("A typographic quote does not begin a text.", "Use ' or \"."),
    "\u201d": ("A typographic quote does not begin a text.", "Use ' or \"."),
}
_FOREIGN_WORDS: Final = {
    "and": "Write '&&' for and.", "AND": "Write '&&' for and.",
    "or": "Write '||' for or.", "OR": "Write '||' for or.",
    "not": "Write '!' for not.", "NOT": "Write '!' for not.",
    "is": "Write '==' to compare, '!has(x)' for a missing value.", "IS": "Write '==' to compare.",
    "IN": "Write 'in' in small letters.", "between": "Write 'x >= low && x <= high'.",
    "if": "Write 'condition ? yes : no'.", "then": "Write 'condition ? yes : no'.",
}  # fmt: skip
# Shapes kept; a program of a million offers has some hundreds.
_SHAPES_KEPT: Final = 10_000


@dataclass(frozen=True, slots=True)
class Syntax:
    """A node of the untyped tree. Tokens are named by their position in the text's token list.

    ``form`` is literal, name, select (part.token), call (token(parts...)), method (parts[0].token(parts[1:]...)),
    index (parts[0][parts[1]]), object, list, map, or an operator: && || ?: == != < <= > >= in + - * / % ! neg.
    && and || have two parts or more.
    ``depth`` counts levels of nesting.
    """

    form: str
    at: int  # the node's first token
    token: int = -1
    parts: tuple[Syntax, ...] = ()
    depth: int = 1


@dataclass(frozen=True, slots=True)
class Source:
    """One expression's text with its tokens, comments left out, and its place in the program."""

    text: str
    where: Where
    tokens: tuple[str, ...]

    def place(self, token: int) -> Where:
        """Line and column of a token in the program's file; past the last token, where the text ends."""
        offset = len(self.text.rstrip())
        for found in _TOKEN.finditer(self.text):
            if found[2] and not found[2].startswith("//"):
                if not token:
                    offset = found.start(2)
                    break
                token -= 1
        return place_in(self.text, self.where, offset)

    def value(self, token: int) -> bool | int | float | str | None:
        """The value of a literal: None for null, an int of any size, a float.

        Raises `ProgramError` for an escape that is none, or a number no double can hold.
        """
        piece = self.tokens[token]
        if piece in _VALUES:
            return _VALUES[piece]
        if piece[0].isdigit() or piece[0] == ".":
            return self._number(token, piece)
        return self._string(token, piece)

    def _number(self, token: int, piece: str) -> int | float:
        if piece[:2] in ("0x", "0X"):
            return int(piece, 16)
        if piece.isdigit():
            return int(piece)
        value = float(piece)
        if value == float("inf"):
            _refuse(self.place(token), f"{piece} is larger than any double.")
        return value

    def _string(self, token: int, piece: str) -> str:
        is_raw = piece[0] in "rR"
        quoted = piece[1:] if is_raw else piece
        quotes = 3 if quoted[:3] in ('"""', "'''") and len(quoted) >= 6 else 1
        body = quoted[quotes:-quotes]
        if is_raw or "\\" not in body:
            return body

        def plain(found: re.Match[str]) -> str:
            code = found[1]
            if len(code) > 1:
                number = int(code[1:], 16) if code[0] in "xuU" else int(code, 8)
                if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
                    _refuse(self.place(token), f"{found[0]} in this text is not a character.")
                return chr(number)
            if code not in _SIMPLE_ESCAPES:
                _refuse(self.place(token), f"'{found[0]}' in this text is not an escape.", "Write '\\\\' for a backslash.")
            return _SIMPLE_ESCAPES[code]

        return _ESCAPE.sub(plain, body)


def place_in(text: str, where: Where, offset: int) -> Where:
    """The place ``offset`` characters into a text that begins at ``where``; further lines keep its left edge."""
    lines = text.count("\n", 0, offset)
    if not lines:
        return Where(where.file, where.line, where.column + offset)
    return Where(where.file, where.line + lines, where.column + offset - text.rfind("\n", 0, offset) - 1)


def parse(text: str, where: Where) -> tuple[Syntax, Source]:
    """The syntax tree of an expression; ``where`` is the place of its first character.

    Raises `ProgramError` with one problem when the text is empty, too long, nested too deeply, or not CEL.
    """
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > limits.EXPRESSION_BYTES:
        _refuse(where, f"The expression is {size} bytes long; the limit is {limits.EXPRESSION_BYTES}.",
                "Split it into several conditions or segments.")
    tokens, shape = _tokens(text, where)
    source = Source(text, where, tokens)
    if not tokens:
        _refuse(where, "The expression is empty.", "Write a condition, for example customer.age >= 18.")
    tree = _shapes.get(shape)
    if tree is None:
        tree = _parse_shape(shape, source)
        if len(_shapes) >= _SHAPES_KEPT:
            _shapes.clear()
        _shapes[shape] = tree
    if tree.depth > limits.EXPRESSION_DEPTH:
        _refuse(where, f"The expression is nested {tree.depth} deep; the limit is {limits.EXPRESSION_DEPTH}.",
                "Name parts of it as segments, or split it into several conditions.")
    return tree, source


# --- tokens ---------------------------------------------------------------------------------------------------


def _tokens(text: str, where: Where) -> tuple[tuple[str, ...], str]:
    """Tokens, and the shape: one field of `_FIELD` characters a token."""
    tokens: list[str] = []
    shape: list[str] = []
    for _, piece, other in _TOKEN.findall(text):
        if not piece:
            if other:
                _refuse_character(text, where)
            continue
        field = _FIXED.get(piece)
        if field is None:
            if piece.startswith("//"):
                continue
            first = piece[0]
            is_name = (first.isalpha() or first == "_") and piece[-1] not in "\"'"
            field = _NAME if is_name else _LITERAL
        tokens.append(piece)
        shape.append(field)
    return tuple(tokens), "".join(shape)


def _refuse(where: Where, message: str, hint: str = "") -> NoReturn:
    raise ProgramError([Problem(where, message, hint)])


def _refuse_character(text: str, where: Where) -> NoReturn:
    """Explains the first character that begins no token."""
    offset = next(found.start(3) for found in _TOKEN.finditer(text) if found[3])
    at = place_in(text, where, offset)
    character = text[offset]
    if character in "\"'":
        _refuse(at, "The text that begins here is never closed.", f"End it with {character}.")
    if character.isdigit() or character == ".":
        word = re.match(r"[0-9.]*[A-Za-z0-9_]*", text[offset:])
        assert word is not None
        hint = 'Put quotes round a text; durations are written duration("7d").'
        if word[0][-1:] in "uU":
            hint = f"Write {word[0][:-1]}; there are no unsigned numbers here."
        _refuse(at, f"'{word[0]}' is not a number.", hint)
    if text[offset : offset + 2] in ("=>", "=<"):
        _refuse(at, f"'{text[offset : offset + 2]}' is not an operator.", f"Write '{text[offset + 1]}='.")
    message, hint = _FOREIGN.get(character, (f"{character!r} does not belong in an expression.", ""))
    _refuse(at, message, hint)


# --- shapes ---------------------------------------------------------------------------------------------------

_shapes: dict[str, Syntax] = {}
# lark's parser keeps its state in the call, but building it must happen once.
_building = threading.Lock()
_parser: Lark | None = None


def _grammar() -> str:
    """cel-python's grammar, without importing cel-python: its package pulls in far more than a parser."""
    spec = importlib.util.find_spec("celpy")
    if spec is None or not spec.submodule_search_locations:
        raise EngineFault("cel-python, which holds the CEL grammar, is not installed.",
                          hint="Install Rapport's declared dependencies again.")
    return (Path(spec.submodule_search_locations[0]) / "cel.lark").read_text(encoding="utf-8")


def _get_parser() -> Lark:
    global _parser  # noqa: PLW0603 - built at first use, because most processes never parse
    with _building:
        if _parser is None:
            from lark import Lark

            _parser = Lark(
                _grammar(), parser="lalr", start="expr", keep_all_tokens=True, maybe_placeholders=False,
                priority="invert", transformer=_Builder(),
            )
        return _parser


def _parse_shape(shape: str, source: Source) -> Syntax:
    from lark.exceptions import UnexpectedInput, UnexpectedToken

    try:
        tree: object = _get_parser().parse(shape)
    except UnexpectedInput as error:
        ended = isinstance(error, UnexpectedToken) and error.token.type == "$END"
        position = len(source.tokens) if ended else (error.pos_in_stream or 0) // _FIELD
        raise ProgramError([_syntax_problem(source, position)]) from None
    assert isinstance(tree, Syntax)
    return tree


def _syntax_problem(source: Source, position: int) -> Problem:
    """What is wrong at the token the parser could not use."""
    tokens = source.tokens
    for near in (position, position - 1):
        if 0 <= near < len(tokens) and tokens[near] in _FOREIGN_WORDS:
            return Problem(source.place(near), f"'{tokens[near]}' is not an operator.", _FOREIGN_WORDS[tokens[near]])
    brackets = _bracket_problem(source)
    if brackets is not None:
        return brackets
    if position >= len(tokens):
        return Problem(source.place(len(tokens) - 1), f"The expression ends after '{tokens[-1]}', where more is expected.")
    token, before = tokens[position], tokens[position - 1] if position else ""
    at = source.place(position)
    if before == "<" and token == ">":
        return Problem(source.place(position - 1), "'<>' is not an operator.", "Write '!='.")
    if before in ("b", "B", "br", "bR", "Br", "BR") and token[0] in "\"'":
        return Problem(source.place(position - 1), "Bytes are not used here.", "Write a text in plain quotes.")
    if position and (before[-1].isalnum() or before[-1] in "_)]\"'") and token not in _FIXED:
        return Problem(at, f"'{token}' follows '{before}' without an operator between them.",
                       "Join conditions with '&&' or '||'; compare with '=='.")
    if position and before in _FIXED and before not in (*")]}", *_VALUES):
        return Problem(at, f"'{token}' follows '{before}', where a value is expected.")
    return Problem(at, f"'{token}' is not expected here.")


def _bracket_problem(source: Source) -> Problem | None:
    """The first bracket that closes nothing, or the last one never closed."""
    open_: list[tuple[str, int]] = []
    for position, token in enumerate(source.tokens):
        if token in ("(", "[", "{"):
            open_.append((token, position))
        elif token in _PAIRS:
            if not open_ or open_[-1][0] != _PAIRS[token]:
                still = f" '{open_[-1][0]}' is still open." if open_ else ""
                return Problem(source.place(position), f"This '{token}' closes nothing.{still}")
            open_.pop()
    if not open_:
        return None
    bracket, position = open_[-1]
    return Problem(source.place(position), f"The '{bracket}' is never closed.")


class _Builder:
    """Lark calls one method a grammar rule, innermost first, with the rule's tokens and finished parts in order.

    Methods carry the grammar's rule names. Rules that only pass on a part give it back unchanged.
    """

    @staticmethod
    def _position(token: Any) -> int:
        start: int = token.start_pos
        return start // _FIELD

    def _node(self, form: str, at: int, parts: tuple[Syntax, ...], token: int = -1) -> Syntax:
        return Syntax(form, at, token, parts, 1 + max((part.depth for part in parts), default=0))

    def _single(self, children: list[Any]) -> Any:
        return children[0]

    member = primary = _single

    def _chain(self, form: str, children: list[Any]) -> Any:
        """n-ary && and ||: a long chain is one node, not a deep tree."""
        if len(children) == 1:
            return children[0]
        left, _, right = children
        parts = (*left.parts, right) if left.form == form and left.token == -2 else (left, right)
        # token -2 marks a chain still being written; parentheses take the mark away.
        return self._node(form, left.at, parts, -2)

    def conditionalor(self, children: list[Any]) -> Any:
        return self._chain("||", children)

    def conditionaland(self, children: list[Any]) -> Any:
        return self._chain("&&", children)

    def expr(self, children: list[Any]) -> Any:
        if len(children) == 1:
            return children[0]
        condition, _, yes, _, no = children
        return self._node("?:", condition.at, (condition, yes, no))

    def _half(self, children: list[Any]) -> tuple[Syntax, str]:
        """The left operand and its operator; the rule above adds the right operand."""
        return children[0], str(children[1]).strip()

    relation_lt = relation_le = relation_gt = relation_ge = relation_eq = relation_ne = relation_in = _half
    addition_add = addition_sub = multiplication_mul = multiplication_div = multiplication_mod = _half

    def _binary(self, children: list[Any]) -> Any:
        if len(children) == 1:
            return children[0]
        (left, operator), right = children
        return self._node(operator, left.at, (left, right))

    relation = addition = multiplication = _binary

    def unary_not(self, children: list[Any]) -> tuple[str, int]:
        return "!", self._position(children[0])

    def unary_neg(self, children: list[Any]) -> tuple[str, int]:
        return "neg", self._position(children[0])

    def unary(self, children: list[Any]) -> Any:
        if len(children) == 1:
            return children[0]
        (form, at), operand = children
        return self._node(form, at, (operand,))

    def literal(self, children: list[Any]) -> Syntax:
        at = self._position(children[0])
        return self._node("literal", at, (), at)

    def ident(self, children: list[Any]) -> Syntax:
        at = self._position(children[0])
        return self._node("name", at, (), at)

    def member_dot(self, children: list[Any]) -> Syntax:
        operand, _, name = children
        # A path is one level however many dots it has.
        return Syntax("select", operand.at, self._position(name), (operand,), operand.depth)

    def ident_arg(self, children: list[Any]) -> Syntax:
        at = self._position(children[0])
        return self._node("call", at, self._arguments(children), at)

    def member_dot_arg(self, children: list[Any]) -> Syntax:
        operand, name = children[0], children[2]
        return self._node("method", operand.at, (operand, *self._arguments(children)), self._position(name))

    def member_index(self, children: list[Any]) -> Syntax:
        operand, _, index, _ = children
        return self._node("index", operand.at, (operand, index))

    @staticmethod
    def _arguments(children: list[Any]) -> tuple[Syntax, ...]:
        return next((child for child in children if isinstance(child, tuple)), ())

    def exprlist(self, children: list[Any]) -> tuple[Syntax, ...]:
        return tuple(child for child in children if isinstance(child, Syntax))

    def paren_expr(self, children: list[Any]) -> Syntax:
        inner: Syntax = children[1]
        return Syntax(inner.form, self._position(children[0]), -1 if inner.token == -2 else inner.token,
                      inner.parts, inner.depth)

    def list_lit(self, children: list[Any]) -> Syntax:
        return self._node("list", self._position(children[0]), self._arguments(children))

    def _other(form: str) -> Callable[[_Builder, list[Any]], Syntax]:  # type: ignore[misc]  # noqa: N805
        """Forms of CEL that the checker refuses with a reason; their parts do not matter."""

        def build(self: _Builder, children: list[Any]) -> Syntax:
            first = children[0]
            at = first.at if isinstance(first, Syntax) else self._position(first)
            return self._node(form, at, ())

        return build

    member_object = _other("object")
    map_lit = _other("map")
    dot_ident = _other("global")
    dot_ident_arg = _other("global")
    fieldinits = mapinits = _single
    del _other
