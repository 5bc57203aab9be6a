"""Checks an expression against everything it may name, and gives the typed tree that programs keep.

One pass over the syntax tree resolves names, types every operation, converts numbers, works out constants and inlines
segments. Every problem found is a `Problem` at the exact line and column, with the nearest right name where there is one;
a part with a problem has no type and is not complained of again.

Where this differs from CEL: a number may stand beside a number of another type (int becomes double, since marketers write
``customer.balance > 100``); money has its own arithmetic; division of doubles by zero fails as it does for ints; texts
compare with enums only by declared labels; lists hold constants; there are no comprehensions and no regular expressions,
because both would make the time one rule takes depend on data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Final, NoReturn

from core import limits
from core.errors import Problem, ProgramError, Where, nearest
from core.expressions.expression import Call, Expression, Input, InputKind, Kind, Literal, Node, Read, Type
from core.expressions.fold import INT_LEAST, INT_MOST, AlwaysFails, constant, duration_us, fold, timestamp_us
from core.expressions.parse import Syntax, parse
from core.schema import (
    Aggregate,
    AggregateFunction,
    CaseScope,
    EventType,
    Field,
    Schema,
    ValueType,
    never_of_product,
    wrong_product,
)

BOOL: Final = Type(Kind.BOOL)
INT: Final = Type(Kind.INT)
DOUBLE: Final = Type(Kind.DOUBLE)
STRING: Final = Type(Kind.STRING)
TIMESTAMP: Final = Type(Kind.TIMESTAMP)
DURATION: Final = Type(Kind.DURATION)

# Kinds a treatment's text can show: pass as ``expect`` for an expression between braces.
RENDERABLE: Final = frozenset({Kind.BOOL, Kind.INT, Kind.DOUBLE, Kind.MONEY, Kind.STRING, Kind.TIMESTAMP})
# Kinds that read as a number: scorecard features and values take these (a feature may be BOOL too).
NUMERIC: Final = frozenset({Kind.INT, Kind.DOUBLE, Kind.MONEY})

_REAL: Final = frozenset({Kind.DOUBLE, Kind.MONEY})
_TERMS: Final = ("propensity", "context_weight", "value", "levers")
_ROOTS: Final = (
    "customer", "household", "facts", "events", "consent", "cases", "aggregate", "now", "channel", "offer", "derived", "band",
    "segment",
)  # fmt: skip
_NOUNS: Final = {
    "customer": "attribute", "household": "attribute of households", "facts": "fact", "events": "event aggregate",
    "consent": "consent purpose", "cases": "case kind", "aggregate": "aggregate", "offer": "offer field", "segment": "segment",
    "derived": "derived value", "band": "band",
}  # fmt: skip
_WINDOW: Final = re.compile(r"(?:(.*)_)?([0-9]+)([smhdwy])")
_WINDOW_US: Final = {
    "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000, "w": 604_800_000_000, "y": 31_536_000_000_000,
}  # fmt: skip
_TIMED: Final = (AggregateFunction.FIRST, AggregateFunction.LAST, AggregateFunction.MIN, AggregateFunction.MAX)
_COMPREHENSIONS: Final = ("all", "exists", "exists_one", "map", "filter")
_METHODS: Final = (
    "size", "startsWith", "endsWith", "contains", "lowerAscii", "upperAscii", "getFullYear", "getMonth",
    "getDayOfMonth", "getDate", "getDayOfWeek", "getHours", "getMinutes",
)  # fmt: skip
_FUNCTIONS: Final = ("has", "size", "int", "double", "string", "min", "max", "abs", "timestamp", "duration")
# What functions are called elsewhere.
_FOREIGN_FUNCTIONS: Final = {
    "length": "size", "lenght": "size", "len": "size", "count": "size", "lower": "lowerAscii", "tolower": "lowerAscii",
    "upper": "upperAscii", "toupper": "upperAscii", "isnull": "has", "isset": "has", "exist": "has", "defined": "has",
    "least": "min", "greatest": "max", "date": "timestamp", "float": "double", "str": "string", "year": "getFullYear",
    "hour": "getHours", "weekday": "getDayOfWeek", "includes": "contains", "begins": "startsWith",
}  # fmt: skip
# Steps of an operation beyond one, for the static cost; texts are at most a few KiB, and a set has 256 members.
_COSTS: Final = {
    "contains": 64, "startsWith": 8, "endsWith": 8, "lowerAscii": 64, "upperAscii": 64, "string": 64, "size": 32,
    "in": 16, "double": 2, "int": 2,
}  # fmt: skip


@dataclass(eq=False, slots=True)
class Scope:
    """What an expression may name.

    ``offer_fields`` None: no offer is at hand; a mapping: ``offer.<name>`` reads as that constant. ``segments`` are checked
    expressions of type bool (see `check_segments`). ``formula_terms`` adds propensity, context_weight, value and levers.
    ``channels`` lets a text compared with ``channel`` be checked; empty means any. ``event`` is that of a filter, which may
    name its fields, bare, and nothing else. Checked texts are kept, so one scope should serve as many expressions as it can; it
    must not change once used. ``derived`` are checked expressions of any type but a set; ``bands`` says of each whether what it
    is made of is protected.
    """

    schema: Schema
    offer_fields: Mapping[str, float | str | bool | int] | None = None
    segments: Mapping[str, Expression] = field(default_factory=dict)
    formula_terms: bool = False
    channels: tuple[str, ...] = ()
    _checked: dict[tuple[str, frozenset[Kind]], Expression] = field(default_factory=dict, repr=False)
    _paths: dict[tuple[str, ...], _Named] = field(default_factory=dict, repr=False)
    derived: Mapping[str, Expression] = field(default_factory=dict)
    bands: Mapping[str, bool] = field(default_factory=dict)
    event: EventType | None = None

    def with_offer(self, offer_fields: Mapping[str, float | str | bool | int] | None) -> Scope:
        """The same scope at another offer, sharing what was resolved of the schema."""
        return Scope(
            self.schema, offer_fields, self.segments, self.formula_terms, self.channels, {}, self._paths, self.derived,
            self.bands,
        )

    def names(self) -> Iterable[str]:
        """Every full path, for the nearest right name; of aggregates those without a window."""
        yield "customer.known"
        for name in self.schema.attributes:
            yield f"customer.{name}"
        if any(namespace.household for namespace in self.schema.namespaces.values()):
            yield from ("household.role", "household.size")
        for name in self.schema.household_attributes:
            yield f"household.{name}"
        for name in self.schema.facts:
            yield f"facts.{name}"
        for event in self.schema.events.values():
            for aggregate in _aggregate_names(event):
                yield f"events.{event.name}.{aggregate}"
        for name in self.schema.aggregates:
            yield f"aggregate.{name}"
        for name in self.schema.purposes:
            yield f"consent.{name}"
        for name in self.schema.case_kinds:
            yield f"cases.{name}"
        yield from ("now", "channel")
        for name in self.offer_fields or ():
            yield f"offer.{name}"
        for name in self.segments:
            yield f"segment.{name}"
        for name in self.derived:
            yield f"derived.{name}"
        for name in self.bands:
            yield f"band.{name}"
        if self.formula_terms:
            yield from _TERMS


@dataclass(frozen=True, slots=True)
class _Named:
    """What a path of the schema stands for. ``labels`` are an enum's, or the channels."""

    read: Read
    labels: tuple[str, ...] = ()


def check(
    text: str, scope: Scope, where: Where, expect: Kind | Set[Kind] | None = None
) -> Expression:
    """The checked expression of a CEL text.

    ``where`` is the place of its first character; ``expect`` the kind or kinds it must have (None: any). An int is made
    double, and money a plain double, where only double is expected. Raises `ProgramError` with every problem found.
    """
    wanted: frozenset[Kind] = frozenset() if expect is None else frozenset(
        [expect] if isinstance(expect, Kind) else expect
    )
    known = scope._checked.get((text, wanted))
    if known is None:
        known = _Checker(text, scope, where).check(wanted)
        scope._checked[(text, wanted)] = known
    return known


def check_form(text: str, where: Where, *, offer: bool) -> None:
    """Checks of a CEL text what needs no schema: that it is CEL, its functions, its literals, and what its names begin with.

    ``where`` is the place of its first character; ``offer`` says whether an offer will be at hand. Raises `ProgramError`
    with every problem found.
    """
    checker = _Checker(text, Scope(Schema(), offer_fields={} if offer else None), where)
    checker.form(checker.tree)
    if checker.problems:
        raise ProgramError(checker.problems)


def check_segments(
    texts: Mapping[str, tuple[str, Where]], scope: Scope
) -> tuple[dict[str, Expression], list[Problem]]:
    """Checks segments that may name each other; those that are right, and all problems.

    A segment that needs itself is a problem. A segment naming one that has problems is left out in silence.
    """
    done: dict[str, Expression] = {}
    problems: list[Problem] = []
    broken: set[str] = set()
    below: list[str] = []
    finder = re.compile(r"\bsegment\s*\.\s*([A-Za-z_][A-Za-z0-9_]*)")

    def visit(name: str) -> bool:
        if name in done:
            return True
        if name in broken:
            return False
        text, where = texts[name]
        if name in below:
            circle = " -> ".join([*below[below.index(name):], name])
            problems.append(Problem(where, f"Segment '{name}' needs itself: {circle}.", "Break the circle."))
            broken.update(below[below.index(name):])
            return False
        if len(below) >= limits.EXPRESSION_DEPTH:
            problems.append(Problem(where, f"Segments build on each other more than {limits.EXPRESSION_DEPTH} deep."))
            broken.add(name)
            return False
        below.append(name)
        needed = [other for other in dict.fromkeys(finder.findall(text)) if other in texts]
        visited = [visit(other) for other in needed]  # all of them, so that every problem is told
        below.pop()
        if not all(visited) or name in broken:
            broken.add(name)
            return False
        inner = Scope(scope.schema, scope.offer_fields, done, False, scope.channels, {}, scope._paths)
        try:
            done[name] = check(text, inner, where, Kind.BOOL)
        except ProgramError as error:
            problems.extend(error.problems)
            broken.add(name)
            return False
        return True

    for name in texts:
        visit(name)
    return {name: done[name] for name in texts if name in done}, problems


class _Refused(Exception):
    """Ends the checking of one part; the problem is already noted."""


class _Checker:
    """One pass over one syntax tree."""

    def __init__(self, text: str, scope: Scope, where: Where) -> None:
        self.scope = scope
        self.text = text
        self.where = where
        self.tree, self.source = parse(text, where)
        self.problems: list[Problem] = []

    def check(self, wanted: frozenset[Kind]) -> Expression:
        try:
            root = self.node(self.tree)
            if wanted:
                root = self.expected(root, wanted)
            tokens = self.source.tokens
            # A short text without segments cannot reach either limit: a token gives at most two nodes.
            expands = "segment" in tokens or "derived" in tokens
            depth, cost = measure(root) if len(tokens) > 30 or expands else (0, 0)
            if depth > limits.EXPRESSION_DEPTH:
                self.refuse(self.tree, f"With its segments the expression is nested {depth} deep; the limit is "
                            f"{limits.EXPRESSION_DEPTH}.", "Build segments on fewer other segments.")
            if cost > limits.EXPRESSION_COST:
                self.refuse(self.tree, f"The expression may take {cost} steps; the limit is {limits.EXPRESSION_COST}.",
                            "Split it into several conditions.")
        except _Refused:
            raise ProgramError(self.problems) from None
        if self.problems:
            raise ProgramError(self.problems)
        return Expression(root, self.text)

    def refuse(self, syntax: Syntax, message: str, hint: str = "") -> NoReturn:
        self.problems.append(Problem(self.source.place(syntax.at), message, hint))
        raise _Refused

    def expected(self, root: Node, wanted: frozenset[Kind]) -> Node:
        kind = root.type.kind
        if kind in wanted:
            return root
        if Kind.DOUBLE in wanted and kind in NUMERIC:
            return self.to_double(root)
        names = " or ".join(sorted(_plain(Type(kind)) for kind in wanted))
        hint = ""
        if wanted == {Kind.BOOL}:
            hint = {
                Kind.STRING: "Compare it with a text, for example == \"...\".",
                Kind.SET: "Ask for a member, for example \"...\" in it.",
                Kind.TIMESTAMP: "Compare it, for example < now.",
            }.get(kind, "Compare it with a value, for example > 0.")
        self.refuse(self.tree, f"This is {_plain(root.type)}, where {names} is needed.", hint)

    # --- without a schema ---------------------------------------------------------------------------------

    def form(self, syntax: Syntax) -> None:
        """Notes what is wrong with a part whatever its names mean."""
        try:
            match syntax.form:
                case "literal":
                    self.literal(syntax)
                case "name" | "select":
                    self.root(syntax)
                    return
                case "call" if self.source.tokens[syntax.token] not in _FUNCTIONS:
                    self.unknown_function(syntax, self.source.tokens[syntax.token])
                case "method":
                    self.method_name(syntax)
                case "index":
                    self.case_of_product(syntax)
                    return
                case "global" | "map" | "object":
                    self.node(syntax)
        except _Refused:
            return
        for part in syntax.parts:
            self.form(part)

    def root(self, syntax: Syntax) -> None:
        names = self.spelled(syntax)
        if names[0] == "offer" and self.scope.offer_fields is None:
            self.unknown(syntax, names)
        if names[0] not in _ROOTS:
            close = nearest(names[0], _ROOTS)
            hint = f"Did you mean '{'.'.join((close, *names[1:]))}'?" if close else (
                f"Names begin with {', '.join(_ROOTS[:-1])} or {_ROOTS[-1]}.")
            self.refuse(syntax, f"There is no name '{'.'.join(names)}'.", hint)

    # --- the tree -----------------------------------------------------------------------------------------

    def node(self, syntax: Syntax) -> Node:
        form = syntax.form
        if form == "literal":
            return self.literal(syntax)
        if form in ("select", "name"):
            return self.path(syntax)
        if form == "index":
            return self.of_product(syntax)
        if form in ("&&", "||"):
            return self.logic(syntax)
        if form in ("==", "!="):
            return self.equality(syntax)
        if form in ("<", "<=", ">", ">="):
            return self.order(syntax)
        if form in ("+", "-", "*", "/", "%"):
            return self.arithmetic(syntax)
        handler: Callable[[Syntax], Node] | None = {
            "in": self.membership, "!": self.negation, "neg": self.minus, "?:": self.choice, "call": self.call,
            "method": self.method,
        }.get(form)
        if handler is not None:
            return handler(syntax)
        if form == "list":
            self.refuse(syntax, "A list stands only to the right of 'in'.", 'Write x in ["a", "b"].')
        if form == "global":
            self.refuse(syntax, "A name does not begin with a dot.")
        self.refuse(syntax, "Maps and messages are not used in expressions.", "Compare single values.")

    def case_of_product(self, syntax: Syntax) -> tuple[Syntax, tuple[str, ...], str]:
        """The path before the brackets, its names, and the product: cases are the one thing written with brackets."""
        base, index = syntax.parts
        names = self.spelled(base) if base.form in ("select", "name") else ()
        if names[:1] != ("cases",):
            self.refuse(syntax, "Values are not indexed with [ ].",
                        "Write customer.age for a named value, x in [...] to ask for a member.")
        product = self.literal(index).value if index.form == "literal" else None
        if not isinstance(product, str):
            self.refuse(index, "The product of a case must be a text.", "Write cases.fault['dsl'].")
        if (wrong := wrong_product(product)) is not None:
            self.refuse(index, *wrong)
        return base, names, product

    def of_product(self, syntax: Syntax) -> Node:
        base, names, product = self.case_of_product(syntax)
        named = self.named(base, names)
        if not isinstance(named, _Named):
            self.unknown(base, names)
        rule = self.scope.schema.case_rules.get(named.read.input.name)
        if rule is not None and CaseScope.PRODUCT not in rule.scopes:
            self.refuse(syntax, *never_of_product(named.read.input.name))
        return Read(replace(named.read.input, product=product))

    def parts(self, parts: Sequence[Syntax]) -> list[Node]:
        """Checks all parts even when one is refused, so that every problem is told at once."""
        nodes = []
        refused = False
        for part in parts:
            try:
                nodes.append(self.node(part))
            except _Refused:
                refused = True
        if refused:
            raise _Refused
        return nodes

    def make(self, syntax: Syntax, op: str, arguments: tuple[Node, ...], type_: Type) -> Node:
        """The call, or the constant it is."""
        try:
            made = fold(Call(op, arguments, type_))
        except AlwaysFails as error:
            self.refuse(syntax, f"This can never be calculated: {error}.")
        if isinstance(made, Literal) and isinstance(made.value, str):
            self.short_enough(syntax, made.value)
        return made

    def literal(self, syntax: Syntax) -> Literal:
        try:
            value = self.source.value(syntax.token)
        except ProgramError as error:
            self.problems.extend(error.problems)
            raise _Refused from None
        if value is None:
            self.refuse(syntax, "'null' is not used here; a value is present or missing.",
                        "Write has(x) or !has(x).")
        if isinstance(value, bool):
            return Literal(value, BOOL)
        if isinstance(value, int):
            if value > INT_MOST:
                self.refuse(syntax, f"{value} does not fit 64 bits.", "Write it as a double, with a decimal point.")
            return Literal(value, INT)
        if isinstance(value, float):
            return Literal(value, DOUBLE)
        self.short_enough(syntax, value)
        return Literal(value, STRING)

    def short_enough(self, syntax: Syntax, text: str) -> None:
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            self.refuse(syntax, "The text holds half of a surrogate pair, which is not a character.")
        if size > limits.EXPRESSION_BYTES:
            self.refuse(syntax, f"The text is {size} bytes long; the limit is {limits.EXPRESSION_BYTES}.")

    # --- names --------------------------------------------------------------------------------------------

    def spelled(self, syntax: Syntax) -> tuple[str, ...]:
        """The names of a dotted path."""
        names: list[str] = []
        while syntax.form == "select":
            names.append(self.source.tokens[syntax.token])
            syntax = syntax.parts[0]
        if syntax.form == "global":
            self.refuse(syntax, "A name does not begin with a dot.")
        if syntax.form == "index":
            self.node(syntax)
        if syntax.form != "name":
            self.refuse(syntax, f"'.{names[-1]}' follows something that has no fields.",
                        "Names are written customer.<attribute>, facts.<fact> and so on.")
        names.append(self.source.tokens[syntax.token])
        return tuple(reversed(names))

    def path(self, syntax: Syntax) -> Node:
        names = self.spelled(syntax)
        named = self.named(syntax, names)
        return named.read if isinstance(named, _Named) else named

    def named(self, syntax: Syntax, names: tuple[str, ...]) -> _Named | Node:
        """An input, an offer's constant, or a segment's tree."""
        scope = self.scope
        known = scope._paths.get(names)
        if known is not None:
            return known
        match names:
            case ("offer", name) if scope.offer_fields is not None and name in scope.offer_fields:
                return self.field(syntax, scope.offer_fields[name])
            case ("segment", name) if name in scope.segments:
                return scope.segments[name].root
            case ("derived", name) if name in scope.derived:
                return scope.derived[name].root
            case ("band", name) if name in scope.bands:
                return _Named(Read(Input(InputKind.BAND, name, INT, None, scope.bands[name])))
            case (term,) if term in _TERMS and scope.formula_terms:
                return Read(Input(InputKind.TERM, term, DOUBLE))
        found = self.resolve(syntax, names)
        if found is None:
            self.unknown(syntax, names)
        scope._paths[names] = found
        return found

    def field(self, syntax: Syntax, value: float | str | bool | int) -> Literal:
        if isinstance(value, bool):
            return Literal(value, BOOL)
        if isinstance(value, int):
            if not INT_LEAST <= value <= INT_MOST:
                self.refuse(syntax, f"The offer's field is {value}, which does not fit 64 bits.")
            return Literal(value, INT)
        return constant(value, DOUBLE) if isinstance(value, float) else Literal(value, STRING)

    def resolve(self, syntax: Syntax, names: tuple[str, ...]) -> _Named | None:
        schema = self.scope.schema
        if self.scope.event is not None:
            field = {one.name: one for one in self.scope.event.fields}.get(".".join(names))
            return None if field is None else _of_field(InputKind.FIELD, field.name, field)
        match names:
            case ("customer", "known"):
                return _Named(Read(Input(InputKind.KNOWN, "", BOOL)))
            case ("customer", name) if name in schema.attributes:
                return _of_field(InputKind.ATTRIBUTE, name, schema.attributes[name])
            case ("household", name) if name in schema.household_attributes:
                return _of_field(InputKind.SHARED, name, schema.household_attributes[name])
            case ("household", "role" | "size" as name) if any(each.household for each in schema.namespaces.values()):
                type_ = STRING if name == "role" else INT
                labels = schema.roles if name == "role" else ()
                return _Named(Read(Input(InputKind.HOUSEHOLD, name, type_)), labels)
            case ("facts", name) if name in schema.facts:
                return _of_field(InputKind.FACT, name, schema.facts[name])
            case ("consent", name) if name in schema.purposes:
                return _Named(Read(Input(InputKind.CONSENT, name, BOOL)))
            case ("cases", name) if name in schema.case_kinds:
                return _Named(Read(Input(InputKind.CASE, name, BOOL)))
            case ("now",):
                return _Named(Read(Input(InputKind.NOW, "", TIMESTAMP)))
            case ("channel",):
                return _Named(Read(Input(InputKind.CHANNEL, "", STRING)), self.scope.channels)
            case ("events", event, aggregate) if event in schema.events:
                return self.aggregate(syntax, schema.events[event], aggregate)
            case ("aggregate", name) if name in schema.aggregates:
                return self.declared(name, schema.aggregates[name])
        return None

    def declared(self, name: str, aggregate: Aggregate) -> _Named:
        """What a declared aggregate reads as; it was checked when the schema was read."""
        fields = {one.name: one for one in self.scope.schema.events[aggregate.event].fields}
        one = fields.get(aggregate.field)
        type_ = aggregate_type(aggregate.function, one)
        protected = any(fields[term.field].protected for term in aggregate.where) or (one is not None and one.protected)
        labels = one.labels if one is not None and type_.kind is Kind.STRING else ()
        return _Named(Read(Input(InputKind.AGGREGATE, f"aggregate.{name}", type_, aggregate, protected)), labels)

    def aggregate(self, syntax: Syntax, event: EventType, name: str) -> _Named:
        path = f"events.{event.name}.{name}"
        word, _, rest = name.partition("_")
        functions = {function.value: function for function in AggregateFunction}
        if word not in functions:
            close = nearest(word, functions) or nearest(name, _aggregate_names(event))
            hint = f"Did you mean '{close}'?" if close else "Functions are " + ", ".join(functions) + "."
            self.refuse(syntax, f"'{path}' names no function of events.", hint)
        function = functions[word]
        fields = {one.name: one for one in event.fields}
        window_us, written = 0, ""
        if rest and rest not in fields:
            window = _WINDOW.fullmatch(rest)
            if window is not None:
                rest, written = window[1] or "", window[2] + window[3]
                window_us = int(window[2]) * _WINDOW_US[window[3]] if len(window[2]) < 10 else limits.WINDOW_MOST_US + 1
        if rest and rest not in fields and re.fullmatch(r"[0-9]+[a-z]*", rest.rpartition("_")[2]):
            self.refuse(syntax, f"'{path}' has no window as it must be written.", "Write a whole number and s (seconds), "
                        "m (minutes), h (hours), d (days), w (weeks) or y (years), for example _30d.")
        if function is AggregateFunction.COUNT and rest:
            self.refuse(syntax, f"'{path}': count takes no field.", f"Write events.{event.name}.count or "
                        f"events.{event.name}.count_30d.")
        one = None
        if rest not in ("", "at") or rest in fields:
            one = fields.get(rest)
            if one is None:
                close = nearest(rest, fields)
                hint = f"Did you mean '{path.replace(rest, close)}'?" if close else _field_hint(event, word, fields)
                self.refuse(syntax, f"Event '{event.name}' has no field '{rest}'.", hint)
        elif function is not AggregateFunction.COUNT:
            if function not in _TIMED:
                self.refuse(syntax, f"'{path}': {word} needs a field.", _field_hint(event, word, fields))
            rest = "at"
        try:
            type_ = aggregate_type(function, one)
            window_us = aggregate_window(event, window_us, written)
        except Unfit as error:
            self.refuse(syntax, f"'{path}'{error.problem}", error.hint)
        labels = one.labels if one is not None and type_.kind is Kind.STRING else ()
        aggregate = Aggregate(event.name, function, rest, window_us)
        return _Named(
            Read(Input(InputKind.AGGREGATE, path, type_, aggregate, one is not None and one.protected)), labels)

    def unknown(self, syntax: Syntax, names: tuple[str, ...]) -> NoReturn:
        path = ".".join(names)
        schema, scope = self.scope.schema, self.scope
        if scope.event is not None:
            fields = [one.name for one in scope.event.fields]
            close = nearest(path, fields)
            self.refuse(syntax, f"Event '{scope.event.name}' has no field '{path}'.",
                        f"Did you mean '{close}'?" if close else _listed("Its fields", fields))
        known = list(scope.names())
        root, tail = names[0], ".".join(names[1:])
        if len(names) == 1 and root in _TERMS and not scope.formula_terms:
            self.refuse(syntax, f"'{path}' is known only inside an arbitration formula.")
        if root == "offer" and scope.offer_fields is None:
            self.refuse(syntax, "No offer is at hand here, so offer fields cannot be read.")
        if root == "household" and not any(each.household for each in schema.namespaces.values()):
            self.refuse(syntax, f"There are no households, so '{path}' cannot be read.",
                        "Give the namespace of the account's number 'of: household' in schema.yaml.")
        if root == "events" and len(names) >= 2 and names[1] not in schema.events:
            event = nearest(names[1], schema.events)
            hint = f"Did you mean 'events.{event}'?" if event else _listed("Event types", schema.events)
            self.refuse(syntax, f"There is no event type '{names[1]}'.", hint)
        if root in _NOUNS and not tail:
            noun = "attribute" if root == "household" else _NOUNS[root].replace(" ", "_")
            example = "events.<type>.count_30d" if root == "events" else f"{root}.<{noun}>"
            self.refuse(syntax, f"'{root}' is not a value by itself.", f"Write {example}.")
        if root == "events" and len(names) == 2:
            self.refuse(syntax, f"'{path}' is not a value by itself.", f"Write {path}.count or {path}.count_30d.")
        deeper = next((one for one in known if path.startswith(one + ".")), "")
        if deeper:
            self.refuse(syntax, f"'{deeper}' has no fields, so '{path}' means nothing.", f"Write '{deeper}'.")
        if not tail:
            # A bare name: a root misspelt, or an attribute without its root.
            close = next((one for one in known if one.rpartition(".")[2] == root), "") or nearest(root, known)
            noun = _NOUNS.get(close.partition(".")[0], "name")
            hint = f"Did you mean '{close}'?" if close else f"Names begin with {', '.join(_ROOTS[:-1])} or {_ROOTS[-1]}."
            self.refuse(syntax, f"There is no {noun} '{path}'.", hint)
        meant = root if root in _NOUNS else nearest(root, _NOUNS)
        noun = _NOUNS.get(meant, "name")
        tails = [one.partition(".")[2] for one in known if one.startswith(meant + ".")] if meant else []
        close = nearest(tail, tails)
        if close:
            hint = f"Did you mean '{meant}.{close}'?"
        elif meant:
            hint = _listed(f"Names under '{meant}'", tails)
        else:
            hint = f"Names begin with {', '.join(_ROOTS[:-1])} or {_ROOTS[-1]}."
        self.refuse(syntax, f"There is no {noun} '{path}'.", hint)

    def labels(self, node: Node) -> tuple[str, ...]:
        """The labels a text must be one of to equal this node; () when any text may."""
        if not isinstance(node, Read):
            return ()
        read = node.input
        key = {InputKind.ATTRIBUTE: ("customer", read.name), InputKind.FACT: ("facts", read.name),
               InputKind.SHARED: ("household", read.name), InputKind.HOUSEHOLD: ("household", read.name),
               InputKind.CHANNEL: ("channel",)}.get(read.kind, tuple(read.name.split(".")))  # fmt: skip
        named = self.scope._paths.get(key)
        return named.labels if named is not None and named.read.input == read else ()

    def check_labels(self, side: Syntax, node: Node, literal: Node, syntax: Syntax) -> None:
        """Refuses a text at ``syntax`` that the node written at ``side`` can never be."""
        if not isinstance(literal, Literal) or not isinstance(literal.value, str):
            return
        names = self.spelled(side) if side.form == "select" else ()
        labels = _outcomes(node) if names[:1] == ("derived",) else self.labels(node)
        if labels and literal.value not in labels:
            close = nearest(literal.value, labels)
            hint = f"Did you mean '{close}'?" if close else _listed("Its values", labels)
            path = node.input.path if isinstance(node, Read) else ".".join(names)
            self.refuse(syntax, f"'{literal.value}' is not a value of {path}.", hint)

    # --- logic --------------------------------------------------------------------------------------------

    def condition(self, syntax: Syntax, node: Node, role: str) -> Node:
        if node.type.kind is not Kind.BOOL:
            self.refuse(syntax, f"This is {_plain(node.type)}, and {role} needs true or false (bool).")
        return node

    def logic(self, syntax: Syntax) -> Node:
        nodes = self.parts(syntax.parts)
        for part, node in zip(syntax.parts, nodes, strict=True):
            self.condition(part, node, f"'{syntax.form}'")
        return join(syntax.form, nodes)

    def negation(self, syntax: Syntax) -> Node:
        return invert(self.condition(syntax.parts[0], self.node(syntax.parts[0]), "'!'"))

    def choice(self, syntax: Syntax) -> Node:
        condition, yes, no = self.parts(syntax.parts)
        self.condition(syntax.parts[0], condition, "the condition before '?'")
        yes, no = self.alike(syntax, yes, no, "The two results of '?:'")
        type_ = yes.type
        if no.type.kind is Kind.MONEY:
            type_ = no.type
        if type_.kind in (Kind.SET, Kind.LIST):
            self.refuse(syntax.parts[1], "'?:' cannot choose between sets.", "Choose between conditions on them.")
        if isinstance(condition, Literal):
            return yes if condition.value else no
        return Call("?:", (condition, yes, no), type_)

    # --- numbers, texts, time -----------------------------------------------------------------------------

    def to_double(self, node: Node) -> Node:
        if node.type.kind is Kind.DOUBLE:
            return node
        if isinstance(node, Literal) and isinstance(node.value, int | float):
            return constant(float(node.value), DOUBLE)
        return Call("double", (node,), DOUBLE)

    def alike(self, syntax: Syntax, left: Node, right: Node, what: str) -> tuple[Node, Node]:
        """Both with one kind: an int beside a double or money becomes a double; currencies must be the same."""
        a, b = left.type.kind, right.type.kind
        if a in NUMERIC and b in NUMERIC:
            if a is Kind.MONEY and b is Kind.MONEY and left.type.currency != right.type.currency:
                self.refuse(syntax, f"{what} are in {left.type.currency} and {right.type.currency}.",
                            "Amounts of different currencies are never converted.")
            if a is Kind.INT and b in _REAL:
                return self.to_double(left), right
            if b is Kind.INT and a in _REAL:
                return left, self.to_double(right)
            return left, right
        if a is not b:
            hint = ""
            pair = {a, b}
            if Kind.TIMESTAMP in pair and Kind.STRING in pair:
                hint = 'Write timestamp("2026-01-31T00:00:00Z") for a time.'
            elif Kind.DURATION in pair and pair & {Kind.STRING, Kind.INT, Kind.DOUBLE}:
                hint = 'Write duration("30d") for a length of time.'
            elif Kind.STRING in pair and pair & NUMERIC:
                hint = "Numbers are written without quotes."
            elif Kind.SET in pair:
                hint = 'Write "member" in set.'
            self.refuse(syntax, f"{what} are {_plain(left.type)} and {_plain(right.type)}.", hint)
        return left, right

    def compared(self, syntax: Syntax) -> tuple[Node, Node]:
        left, right = self.parts(syntax.parts)
        left, right = self.alike(syntax, left, right, f"The two sides of '{syntax.form}'")
        if left.type.kind in (Kind.SET, Kind.LIST):
            self.refuse(syntax, "Sets are not compared.", 'Ask for members: "a" in x && "b" in x.')
        return left, right

    def equality(self, syntax: Syntax) -> Node:
        left, right = self.compared(syntax)
        self.check_labels(syntax.parts[0], left, right, syntax.parts[1])
        self.check_labels(syntax.parts[1], right, left, syntax.parts[0])
        if left.type.kind is Kind.BOOL:
            for one, other in ((left, right), (right, left)):
                if isinstance(other, Literal):
                    return one if other.value is (syntax.form == "==") else invert(one)
        return self.make(syntax, syntax.form, (left, right), BOOL)

    def order(self, syntax: Syntax) -> Node:
        left, right = self.compared(syntax)
        if left.type.kind is Kind.BOOL:
            self.refuse(syntax, f"'{syntax.form}' does not order true and false.", "Use the condition itself, or '!'.")
        if self.labels(left) or self.labels(right):
            self.refuse(syntax, f"'{syntax.form}' does not order the labels of an enum.", 'Write x in ["a", "b"].')
        return self.make(syntax, syntax.form, (left, right), BOOL)

    def membership(self, syntax: Syntax) -> Node:
        wanted, among = syntax.parts
        if among.form != "list":
            left, right = self.parts(syntax.parts)
            if right.type.kind is not Kind.SET:
                hint = "Write text.contains(part)." if right.type.kind is Kind.STRING else 'Write x in ["a", "b"].'
                self.refuse(among, f"'in' needs a list or a set on its right; this is {_plain(right.type)}.", hint)
            if left.type.kind is not Kind.STRING:
                self.refuse(wanted, f"Sets hold texts; this is {_plain(left.type)}.")
            return Call("in", (left, right), BOOL)
        if not among.parts:
            self.node(wanted)
            self.refuse(among, "The list is empty, so nothing is ever in it.")
        left, *members = self.parts((wanted, *among.parts))
        kind = left.type.kind
        if kind in (Kind.SET, Kind.LIST):
            self.refuse(wanted, "A set is not a member of a list.", 'Write "a" in x || "b" in x.')
        if kind is Kind.INT and any(member.type.kind in _REAL for member in members):
            left = self.to_double(left)
            kind = Kind.DOUBLE
        values: set[bool | int | float | str] = set()
        for part, member in zip(among.parts, members, strict=True):
            if not isinstance(member, Literal):
                self.refuse(part, "A list holds only constants.", "Write x == a || x == b.")
            _, alike = self.alike(part, left, member, "The value and the list's member")
            assert isinstance(alike, Literal)
            assert not isinstance(alike.value, tuple)
            self.check_labels(wanted, left, alike, part)
            values.add(alike.value)
        if kind is Kind.BOOL:
            if len(values) == 1:
                return left if True in values else invert(left)
            self.refuse(syntax, "This holds for both true and false.", "Write has(x).")
        element = Kind.DOUBLE if kind is Kind.MONEY else kind
        literals = sorted(values)  # of one kind, so they compare
        if len(literals) == 1:
            return self.make(syntax, "==", (left, Literal(literals[0], Type(element))), BOOL)
        return self.make(syntax, "in", (left, Literal(tuple(literals), Type(Kind.LIST, element=element))), BOOL)

    def arithmetic(self, syntax: Syntax) -> Node:
        left, right = self.parts(syntax.parts)
        op, a, b = syntax.form, left.type.kind, right.type.kind
        timed = {Kind.TIMESTAMP, Kind.DURATION}
        if a in timed or b in timed:
            result = {
                ("-", Kind.TIMESTAMP, Kind.TIMESTAMP): DURATION, ("-", Kind.TIMESTAMP, Kind.DURATION): TIMESTAMP,
                ("+", Kind.TIMESTAMP, Kind.DURATION): TIMESTAMP, ("+", Kind.DURATION, Kind.TIMESTAMP): TIMESTAMP,
                ("+", Kind.DURATION, Kind.DURATION): DURATION, ("-", Kind.DURATION, Kind.DURATION): DURATION,
            }.get((op, a, b))  # fmt: skip
            if result is None:
                self.refuse(syntax, f"'{op}' does not join {_plain(left.type)} and {_plain(right.type)}.",
                            'Add and subtract duration("30d"); the difference of two times is a duration.')
            return self.make(syntax, op, (left, right), result)
        if a is Kind.STRING and b is Kind.STRING and op == "+":
            return self.make(syntax, op, (left, right), STRING)
        if a not in NUMERIC or b not in NUMERIC:
            hint = "Write string(x) to join a value to a text." if Kind.STRING in (a, b) and op == "+" else ""
            self.refuse(syntax, f"'{op}' does not join {_plain(left.type)} and {_plain(right.type)}.", hint)
        if op == "%":
            if a is not Kind.INT or b is not Kind.INT:
                self.refuse(syntax, f"'%' is for whole numbers; these are {_plain(left.type)} and {_plain(right.type)}.")
            if isinstance(right, Literal) and right.value == 0:
                self.refuse(syntax, "This can never be calculated: it divides by zero.")
            return self.make(syntax, op, (left, right), INT)
        if op == "/" and isinstance(right, Literal) and right.value == 0:
            self.refuse(syntax, "This can never be calculated: it divides by zero.")
        money = [node.type for node in (left, right) if node.type.kind is Kind.MONEY]
        left, right = self.alike(syntax, left, right, f"The two sides of '{op}'")
        if not money:
            return self.make(syntax, op, (left, right), left.type)
        if op == "*" and len(money) == 2:
            self.refuse(syntax, "Money is not multiplied with money.", "Multiply with a plain number.")
        if op == "/" and b is Kind.MONEY:
            if a is not Kind.MONEY:
                self.refuse(syntax, "A plain number is not divided by money.")
            return self.make(syntax, op, (left, right), DOUBLE)
        return self.make(syntax, op, (left, right), money[0])

    def minus(self, syntax: Syntax) -> Node:
        operand = syntax.parts[0]
        if operand.form == "literal" and self.source.tokens[operand.token] == str(INT_MOST + 1):
            # The least int's digits alone do not fit; with the sign they do.
            return Literal(INT_LEAST, INT)
        node = self.node(operand)
        if node.type.kind not in NUMERIC:
            self.refuse(syntax, f"'-' negates numbers; this is {_plain(node.type)}.")
        return self.make(syntax, "neg", (node,), node.type)

    # --- functions ----------------------------------------------------------------------------------------

    def call(self, syntax: Syntax) -> Node:
        name = self.source.tokens[syntax.token]
        if name == "has":
            return self.has(syntax)
        if name in ("timestamp", "duration"):
            return self.time_literal(syntax, name)
        if name not in _FUNCTIONS:
            self.unknown_function(syntax, name)
        arguments = self.parts(syntax.parts)
        if name in ("min", "max"):
            return self.extreme(syntax, name, arguments)
        if len(arguments) != 1:
            self.refuse(syntax, f"{name}() takes one value, not {len(arguments)}.")
        node = arguments[0]
        kind = node.type.kind
        match name:
            case "size":
                return self.size(syntax, node)
            case "abs" if kind in NUMERIC:
                return self.make(syntax, "abs", (node,), node.type)
            case "int" if kind is Kind.INT:
                return node
            case "int" if kind in _REAL | {Kind.STRING, Kind.TIMESTAMP}:
                return self.make(syntax, "int", (node,), INT)
            case "double" if kind in NUMERIC:
                return self.to_double(node)
            case "double" if kind is Kind.STRING:
                return self.make(syntax, "double", (node,), DOUBLE)
            case "string" if kind is Kind.STRING:
                return node
            case "string" if kind in RENDERABLE:
                return self.make(syntax, "string", (node,), STRING)
        self.refuse(syntax, f"{name}() does not take {_plain(node.type)}.")

    def extreme(self, syntax: Syntax, name: str, arguments: list[Node]) -> Node:
        if len(arguments) < 2:
            self.refuse(syntax, f"{name}() takes two values or more.")
        result = arguments[0]
        for part, node in zip(syntax.parts, arguments, strict=True):
            if node.type.kind not in NUMERIC:
                self.refuse(part, f"{name}() takes numbers; this is {_plain(node.type)}.")
        if any(node.type.kind in _REAL for node in arguments):
            arguments = [self.to_double(node) if node.type.kind is Kind.INT else node for node in arguments]
            result = arguments[0]
        for part, node in zip(syntax.parts[1:], arguments[1:], strict=True):
            left, right = self.alike(part, result, node, f"Values of {name}()")
            type_ = right.type if right.type.kind is Kind.MONEY else left.type
            result = self.make(syntax, name, (left, right), type_)
        return result

    def size(self, syntax: Syntax, node: Node) -> Node:
        if node.type.kind not in (Kind.STRING, Kind.SET):
            self.refuse(syntax, f"size() takes a text or a set; this is {_plain(node.type)}.")
        return self.make(syntax, "size", (node,), INT)

    def has(self, syntax: Syntax) -> Node:
        if len(syntax.parts) != 1:
            self.refuse(syntax, f"has() takes one name, not {len(syntax.parts)}.")
        part = syntax.parts[0]
        if part.form not in ("select", "name"):
            self.refuse(part, "has() takes a name, such as customer.age, and nothing else.")
        names = self.spelled(part)
        if names[0] == "offer" and len(names) == 2 and self.scope.offer_fields is not None:
            return Literal(names[1] in self.scope.offer_fields, BOOL)
        if names[0] == "segment":
            self.refuse(part, "has() takes a value that may be missing; a segment is a condition.",
                        f"Write {'.'.join(names)}.")
        node = self.path(part)
        return Literal(True, BOOL) if isinstance(node, Literal) else Call("has", (node,), BOOL)

    def time_literal(self, syntax: Syntax, name: str) -> Literal:
        arguments = self.parts(syntax.parts)
        example = '"2026-01-31T00:00:00Z"' if name == "timestamp" else '"30d" or "12h"'
        if len(arguments) != 1 or not isinstance(arguments[0], Literal) or not isinstance(arguments[0].value, str):
            self.refuse(syntax, f"{name}() takes one text in quotes.", f"Write {name}({example.partition(' or ')[0]}).")
        text = arguments[0].value
        value = timestamp_us(text) if name == "timestamp" else duration_us(text)
        if value is None:
            what = "date, or date and time with its zone," if name == "timestamp" else "duration"
            self.refuse(syntax.parts[0], f"'{text}' is no {what} as it must be written.", f"Write {example}.")
        return Literal(value, TIMESTAMP if name == "timestamp" else DURATION)

    def method_name(self, syntax: Syntax) -> str:
        name = self.source.tokens[syntax.token]
        if name in _COMPREHENSIONS:
            self.refuse(syntax, f"{name}() is not used here: how long it takes would depend on the data.",
                        'Write "a" in x, or join conditions with && and ||.')
        if name == "matches":
            self.refuse(syntax, "matches() is not used here: how long a regular expression takes depends on the data.",
                        "Use startsWith, endsWith, contains or ==.")
        if name not in _METHODS:
            self.unknown_function(syntax, name)
        return name

    def method(self, syntax: Syntax) -> Node:
        name = self.method_name(syntax)
        receiver, *arguments = self.parts(syntax.parts)
        kind = receiver.type.kind
        if name.startswith("get"):
            if kind is not Kind.TIMESTAMP:
                self.refuse(syntax, f"{name}() is for times; this is {_plain(receiver.type)}.")
            if arguments:
                self.refuse(syntax.parts[1], f"{name}() takes no time zone; times are read in UTC.",
                            'Add a duration("2h") to the time first.')
            if name == "getDate":
                day = self.make(syntax, "getDayOfMonth", (receiver,), INT)
                return self.make(syntax, "+", (day, Literal(1, INT)), INT)
            return self.make(syntax, name, (receiver,), INT)
        if name == "size" and not arguments:
            return self.size(syntax, receiver)
        if kind is not Kind.STRING:
            hint = 'Write "a" in x.' if kind is Kind.SET and name == "contains" else ""
            self.refuse(syntax, f"{name}() is for texts; this is {_plain(receiver.type)}.", hint)
        wanted = 1 if name in ("startsWith", "endsWith", "contains") else 0
        if len(arguments) != wanted:
            self.refuse(syntax, f"{name}() takes {'one text' if wanted else 'nothing'} between its brackets.")
        if wanted and arguments[0].type.kind is not Kind.STRING:
            self.refuse(syntax.parts[1], f"{name}() takes a text; this is {_plain(arguments[0].type)}.")
        return self.make(syntax, name, (receiver, *arguments), BOOL if wanted else STRING)

    def unknown_function(self, syntax: Syntax, name: str) -> NoReturn:
        if name == "matches":
            self.refuse(syntax, "matches() is not used here: how long a regular expression takes depends on the data.",
                        "Use startsWith, endsWith, contains or ==.")
        if name in ("uint", "bytes", "dyn", "type"):
            self.refuse(syntax, f"{name}() is not used here.", "Values are bool, int, double, text and times.")
        known = (*_FUNCTIONS, *_METHODS)
        close = _FOREIGN_FUNCTIONS.get(name.lower(), "") or nearest(name, known)
        hint = f"Did you mean {close}()?" if close else "Functions are " + ", ".join(sorted(set(known))) + "."
        if close and close in _METHODS and close == name:
            hint = f"Write x.{name}(...)."
        elif close and close in _FUNCTIONS and close == name:
            hint = f"Write {name}(x)."
        self.refuse(syntax, f"There is no function '{name}'." if close != name else f"{name}() is not called so.", hint)


# --- trees ----------------------------------------------------------------------------------------------------


def invert(node: Node) -> Node:
    """The opposite of a condition."""
    if isinstance(node, Literal):
        return Literal(not node.value, BOOL)
    if isinstance(node, Call) and node.op == "!":
        return node.arguments[0]
    return Call("!", (node,), BOOL)


def join(op: str, nodes: Sequence[Node]) -> Node:
    """Conditions joined by && or ||, flattened, without constants and without what is said twice."""
    absorbing = op == "||"
    kept: dict[Node, None] = {}
    for node in nodes:
        for one in node.arguments if isinstance(node, Call) and node.op == op else (node,):
            if isinstance(one, Literal):
                if one.value is absorbing:
                    return one
            else:
                kept.setdefault(one)
    if len(kept) <= 1:
        return next(iter(kept), Literal(not absorbing, BOOL))
    return Call(op, tuple(kept), BOOL)


def _outcomes(node: Node) -> tuple[str, ...]:
    """The texts that a choice between constants may be; () when it may be others."""
    match node:
        case Literal(value=str() as text):
            return (text,)
        case Call(op="?:", arguments=(_, yes, no)):
            first, second = _outcomes(yes), _outcomes(no)
            return tuple(dict.fromkeys((*first, *second))) if first and second else ()
    return ()


def _always_known(node: Node) -> bool:
    """Whether a condition is true or false whoever the customer is."""
    match node:
        case Literal() | Call(op="has"):
            return True
        case Read(input=read):
            return read.kind in (InputKind.CASE, InputKind.KNOWN)
        case Call(op="!" | "&&" | "||", arguments=arguments):
            return all(map(_always_known, arguments))
    return False


def choose(cases: Sequence[tuple[Expression, Expression]], otherwise: Expression) -> Expression:
    """The value of the first case whose condition holds, else ``otherwise``; an unknown condition does not hold.

    Raises `Unlike` when a value's type does not fit those before it.
    """
    nodes = [then.root for _, then in cases] + [otherwise.root]
    type_ = nodes[0].type
    for position, node in enumerate(nodes):
        own = node.type
        if type_.kind in NUMERIC and own.kind in NUMERIC:
            if type_.kind is own.kind is Kind.MONEY and type_.currency != own.currency:
                raise Unlike(position, f"This is {_plain(own)}, and the values before it are {_plain(type_)}.")
            if own.kind is Kind.MONEY or type_.kind is Kind.INT:
                type_ = own
        elif own.kind is not type_.kind:
            raise Unlike(position, f"This is {_plain(own)}, and the values before it are {_plain(type_)}.")
    if type_.kind in _REAL:
        nodes = [
            Call("double", (node,), DOUBLE) if node.type.kind is Kind.INT and not isinstance(node, Literal)
            else constant(float(node.value), DOUBLE) if isinstance(node, Literal) and isinstance(node.value, int)
            else node
            for node in nodes
        ]
    root = nodes[-1]
    for (when, _), node in zip(reversed(cases), reversed(nodes[:-1]), strict=True):
        condition = when.root
        if not _always_known(condition):
            condition = join("&&", (Call("has", (condition,), BOOL), condition))
        if isinstance(condition, Literal):
            root = node if condition.value else root
        else:
            root = Call("?:", (condition, node, root), type_)
    return Expression(root, "")


class Unlike(Exception):
    """A case of `choose` has another type than those before it: its position, and a text that says so."""

    def __init__(self, position: int, message: str) -> None:
        super().__init__(message)
        self.position = position
        self.message = message


def measure(root: Node) -> tuple[int, int]:
    """Depth, and static cost in machine steps. Shared parts are walked once and counted wherever they stand."""
    known: dict[int, tuple[int, int]] = {}

    def walk(node: Node) -> tuple[int, int]:
        if not isinstance(node, Call):
            return 1, 1
        found = known.get(id(node))
        if found is None:
            depth, cost = 0, 1 + _COSTS.get(node.op, 0)
            if node.type.kind is Kind.STRING and node.op == "+":
                cost += 64
            for argument in node.arguments:
                inner, more = walk(argument)
                depth, cost = max(depth, inner), cost + more
            found = known[id(node)] = depth + 1, cost
        return found

    return walk(root)


def _of_field(kind: InputKind, name: str, one: Field) -> _Named:
    return _Named(Read(Input(kind, name, _type_of(one), None, one.protected)), one.labels)


def _type_of(one: Field) -> Type:
    match one.type:
        case ValueType.MONEY:
            return Type(Kind.MONEY, one.currency)
        case ValueType.ENUM | ValueType.STRING:
            return STRING
        case ValueType.STRING_SET:
            return Type(Kind.SET)
        case other:
            return Type(Kind(other.value))


def _plain(type_: Type) -> str:
    """A type as a marketer says it."""
    return {
        Kind.BOOL: "true or false (bool)", Kind.INT: "a whole number (int)", Kind.DOUBLE: "a number (double)",
        Kind.MONEY: f"money ({type_.currency})" if type_.currency else "money", Kind.STRING: "a text",
        Kind.TIMESTAMP: "a time (timestamp)", Kind.DURATION: "a length of time (duration)", Kind.SET: "a set",
        Kind.LIST: "a list",
    }[type_.kind]  # fmt: skip


class Unfit(ValueError):
    """What an aggregate cannot be: the problem, which goes on from the aggregate's name, and a hint."""

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint


def aggregate_type(function: AggregateFunction, one: Field | None) -> Type:
    """The type of an aggregate over a field, or, for None, of a count or over the event's own time. Raises `Unfit`."""
    word = function.value
    if function is AggregateFunction.COUNT:
        return INT
    if one is None:
        return TIMESTAMP
    if one.type is ValueType.STRING_SET:
        raise Unfit(": a set cannot be aggregated.")
    type_ = _type_of(one)
    if function is AggregateFunction.DISTINCT:
        return INT
    if function in (AggregateFunction.SUM, AggregateFunction.MEAN) and type_.kind not in NUMERIC:
        raise Unfit(f": {word} needs a number, and '{one.name}' is {_plain(type_)}.")
    if function in (AggregateFunction.MIN, AggregateFunction.MAX) and type_.kind not in NUMERIC | {Kind.TIMESTAMP}:
        raise Unfit(f": {word} needs a number or a time, and '{one.name}' is {_plain(type_)}.")
    return DOUBLE if function is AggregateFunction.MEAN else type_


def aggregate_window(event: EventType, window_us: int, written: str) -> int:
    """The window as an aggregate has it; ``written`` '' and 0: everything kept, which a retention bounds. Raises `Unfit`."""
    if not written:
        return event.retention_us
    if not limits.WINDOW_LEAST_US <= window_us <= limits.WINDOW_MOST_US:
        raise Unfit(f" has a window of {written}; windows are from 1m to 731d (2y is 730d).",
                    "Without a window everything kept counts." if window_us > limits.WINDOW_MOST_US else "Write 1m or longer.")
    if 0 < event.retention_us < window_us:
        raise Unfit(f" has a window of {written}, and events of type '{event.name}' are kept for "
                    f"{_days(event.retention_us)}.", "Shorten the window, or raise the type's retention in schema.yaml.")
    return window_us


def _days(span_us: int) -> str:
    """A span in the largest unit that it is whole in: 30d, 36h."""
    unit = next(unit for unit in ("d", "h", "m", "s") if span_us % _WINDOW_US[unit] == 0)
    return f"{span_us // _WINDOW_US[unit]}{unit}"


def _aggregate_names(event: EventType) -> Iterable[str]:
    yield from ("count", "last_at", "first_at")
    for one in event.fields:
        for function in AggregateFunction:
            if function is not AggregateFunction.COUNT:
                yield f"{function.value}_{one.name}"


def _field_hint(event: EventType, word: str, fields: Mapping[str, Field]) -> str:
    if not fields:
        return f"Event '{event.name}' has no fields; write events.{event.name}.count."
    return f"Write events.{event.name}.{word}_{next(iter(fields))}; " + _listed("its fields", fields)


def _listed(what: str, names: Iterable[str]) -> str:
    """At most twelve names; more would hide the message."""
    known = sorted(names)
    if not known:
        return f"{what}: none are declared."
    more = f" and {len(known) - 12} more" if len(known) > 12 else ""
    return f"{what}: {', '.join(known[:12])}{more}."
