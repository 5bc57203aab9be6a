"""A type-checked expression: a small tree of immutable nodes, the only form programs keep.

Parsing ends here and everything else begins here: the kernel's bytecode is lowered from it, the eligibility index
reads simple conditions out of it, and the tests' oracle walks it. Three-valued logic (Kleene): a missing value makes
what depends on it unknown, `false && unknown` is false, `true || unknown` is true, and an unknown condition does not
hold. A failed operation (overflow, division by zero, bad conversion, a double that is no number, a text past 64 KiB)
behaves as unknown does, and is told apart for reasons. One rule joins the two, whichever side they stand on: what
absorbs (false for &&, true for ||) wins; else if any argument is missing the result is missing, and the input to
blame is that of the leftmost missing argument; else if any failed it failed. ``c ? a : b`` is as its condition where
that is unknown, and else as its branch. ``has(x)`` is never unknown. Double literals are never NaN nor -0.0.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from core.schema import Aggregate


class Kind(enum.Enum):
    """Types of expressions. MONEY reads as a double in major units that remembers its currency."""

    BOOL = "bool"
    INT = "int"
    DOUBLE = "double"
    MONEY = "money"
    STRING = "string"  # enums read as their label
    TIMESTAMP = "timestamp"
    DURATION = "duration"
    SET = "set"  # of strings; read with `in` and size()
    LIST = "list"  # literals only, right of `in`


@dataclass(frozen=True, slots=True)
class Type:
    """A type; ``currency`` for MONEY, ``element`` for LIST."""

    kind: Kind
    currency: str = ""
    element: Kind | None = None

    def __str__(self) -> str:
        if self.kind is Kind.MONEY and self.currency:
            return f"money({self.currency})"
        if self.kind is Kind.LIST and self.element:
            return f"list({self.element.value})"
        return self.kind.value


class InputKind(enum.IntEnum):
    """Where a value comes from."""

    ATTRIBUTE = 1  # customer.<name>
    FACT = 2  # facts.<name>
    AGGREGATE = 3  # events.<type>.<function>[_<field>][_<window>], aggregate.<name>
    NOW = 4  # now: the decision's clock
    CHANNEL = 5  # channel: the request's channel
    CONSENT = 6  # consent.<purpose>: bool for the request's channel; missing when never asked
    CASE = 7  # cases.<kind>: bool, whether one is open; with `product` one that is about it or about none; never missing
    KNOWN = 8  # customer.known: bool, whether an identifier was known; never missing
    TERM = 9  # propensity, context_weight, value, levers: inside an arbitration formula only
    SHARED = 10  # household.<name>: an attribute that the members of the customer's household share
    HOUSEHOLD = 11  # household.role, missing without one; household.size: int, 0 when in none, never missing
    FIELD = 14  # <field>: an event's, inside an aggregate's filter only
    BAND = 13  # band.<name>: int, 1 to its parts; missing where its value is, and until its edges are known


@dataclass(frozen=True, slots=True)
class Input:
    """One thing an expression reads. Equal inputs share one slot of the kernel's frame."""

    kind: InputKind
    name: str  # as written after the dot; '' for NOW, CHANNEL, KNOWN; the full path for AGGREGATE
    type: Type
    aggregate: Aggregate | None = None
    protected: bool = False
    product: str = ""  # of CASE: cases.<kind>['<product>']

    @property
    def path(self) -> str:
        """As a marketer writes it, for reasons and messages."""
        prefix = {
            InputKind.ATTRIBUTE: "customer.", InputKind.FACT: "facts.", InputKind.CONSENT: "consent.",
            InputKind.CASE: "cases.", InputKind.SHARED: "household.", InputKind.HOUSEHOLD: "household.", InputKind.BAND: "band.",
        }.get(self.kind, "")
        fixed = {InputKind.NOW: "now", InputKind.CHANNEL: "channel", InputKind.KNOWN: "customer.known"}
        return fixed.get(self.kind, prefix + self.name) + (f"['{self.product}']" if self.product else "")


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant: bool, int, float, str, or a tuple of them for LIST. Timestamps and durations are int microseconds."""

    value: bool | int | float | str | tuple[bool | int | float | str, ...]
    type: Type


@dataclass(frozen=True, slots=True)
class Read:
    """Reads an input."""

    input: Input

    @property
    def type(self) -> Type:
        return self.input.type


@dataclass(frozen=True, slots=True)
class Call:
    """An operator or function with checked arguments.

    ``op`` is one of: && || ! == != < <= > >= in + - * / % neg ?: has size startsWith endsWith contains
    lowerAscii upperAscii int double string min max abs getFullYear getMonth getDayOfMonth getDayOfWeek getHours
    getMinutes.
    && and || take two arguments or more, and the others as many as they need; min and max take two.
    Arguments are already converted: both sides of a comparison or an arithmetic operator have one kind (int is made
    double by an explicit ``double`` call, money with money or number is double). ``has`` takes any value and says whether
    it is neither missing nor failed. ``in`` has on its right a LIST
    literal, sorted, or a SET. startsWith, endsWith and contains take the text first; the getters read UTC and count
    months, days of the month and days of the week from 0, as CEL does. Division by zero fails for doubles too.
    """

    op: str
    arguments: tuple[Node, ...]
    type: Type


Node = Literal | Read | Call


@dataclass(frozen=True, slots=True)
class Expression:
    """A checked expression with its source text. Equality is by tree, so one meaning is compiled once."""

    root: Node
    text: str
    # Of the tree, once it was asked for: a program of 100,000 offers looks expressions up millions of times.
    _hash: int = field(default=0, init=False, repr=False, compare=False)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Expression) and hash(self) == hash(other) and self.root == other.root

    def __hash__(self) -> int:
        if not self._hash:
            object.__setattr__(self, "_hash", hash(self.root) or 1)
        return self._hash

    @property
    def type(self) -> Type:
        return self.root.type

    @property
    def inputs(self) -> tuple[Input, ...]:
        """Every input read, each once, in order of first appearance."""
        seen: dict[Input, None] = {}

        def walk(node: Node) -> None:
            match node:
                case Read(input=read):
                    seen.setdefault(read)
                case Call(arguments=arguments):
                    for argument in arguments:
                        walk(argument)

        walk(self.root)
        return tuple(seen)
