"""A checked program as bytes, so that a restart need not parse and check its sources again, nor compile its tables.

An image is MessagePack behind a checksum: tables of everything that repeats (files, types, inputs, nodes, expressions,
lists of features, texts of content), then offers and groups as arrays that point into them by number. Nodes stand
after those that they contain, so one pass in order rebuilds the trees, and what was one object is one object again. The
compiled tables, where there are any, follow as a document of their own (`core.programs.kept_tables`).

An image is a cache and never a source of truth: `unpack` gives None for anything it did not make itself in this very
form, and the caller checks the sources again. The form is named by `COMPILER`, a digest of the code that makes programs,
so an image never outlives a change to the checker, whether or not somebody remembered to raise a number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

import msgspec

from core import limits
from core.errors import Where
from core.expressions import Call, Expression, Input, InputKind, Kind, Literal, Node, Read, Type
from core.programs import kept_tables
from core.programs.collecting import paused
from core.programs.model_binding import ModelBinding
from core.programs.program import (
    Adjustment,
    Arbitration,
    Band,
    Cap,
    CasePause,
    ConstantPropensity,
    ContentType,
    Group,
    Layer,
    ModelPropensity,
    Offer,
    Placement,
    Price,
    Program,
    Propensity,
    Rounding,
    Rule,
    Score,
    ScorecardPropensity,
    Suppression,
    Text,
    Treatment,
    Weight,
)
from core.programs.tables import Tables
from core.schema import (
    Aggregate,
    AggregateFunction,
    CaseRule,
    CaseScope,
    EventType,
    Field,
    FilterTerm,
    Namespace,
    Normaliser,
    Schema,
    SourceRule,
    ValueType,
)

_MAGIC: Final = b"RPRG"
_SUM_BYTES: Final = 16
_V = TypeVar("_V")

# MessagePack's own shapes; every element is checked by being built into a value again.
_Packed = Any


def _compiler() -> str:
    """The digest of all code that decides what a checked program is."""
    here = Path(__file__).parent
    files = [here.parent / "schema.py", *sorted(here.glob("*.py")), *sorted((here.parent / "expressions").glob("*.py"))]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


COMPILER: Final = _compiler()


def key(digest: str) -> str:
    """The name to keep an image under: sources and compiler, so neither is ever answered by the other's image."""
    return f"{digest}-{COMPILER}"


def pack(program: Program, compiled: Tables | None = None) -> bytes:
    """The image of a checked program, with its tables if they are given."""
    packer = _Packer()
    with paused():
        rows = packer.program(program)
        tables = b"" if compiled is None else msgspec.msgpack.encode(kept_tables.pack(compiled, packer.input))
        if len(tables) > limits.KEPT_TABLES_BYTES:
            tables = b""
        body = msgspec.msgpack.encode([COMPILER, rows, packer.tables(), tables])
    return _MAGIC + hashlib.blake2b(body, digest_size=_SUM_BYTES).digest() + body


def unpack(image: bytes) -> Program | None:
    """The program of an image; None when it is damaged or was made by other code."""
    restored = restore(image, None)
    return None if restored is None else restored[0]


def restore(image: bytes, models: Mapping[str, ModelBinding] | None) -> tuple[Program, Tables | None] | None:
    """The program of an image, and its tables where they were kept and fit ``models``; None as `unpack` says.

    ``models`` binds the inputs of the models that are live; None leaves the tables out.
    """
    head = len(_MAGIC) + _SUM_BYTES
    body = memoryview(image)[head:]
    if image[: len(_MAGIC)] != _MAGIC:
        return None
    if hashlib.blake2b(body, digest_size=_SUM_BYTES).digest() != image[len(_MAGIC) : head]:
        return None
    with paused():
        compiler, packed, tables, compiled = msgspec.msgpack.decode(body)
        if compiler != COMPILER:
            return None
        unpacker = _Unpacker(tables)
        program = unpacker.program(packed)
        if models is None or not compiled:
            return program, None
        return program, kept_tables.unpack(msgspec.msgpack.decode(compiled), program, unpacker.inputs, models)


class _Table:
    """Distinct things in order of first appearance, each told from others by a key."""

    __slots__ = ("_numbers", "rows")

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self.rows: list[_Packed] = []

    def number(self, key_: Hashable, row: Callable[[], _Packed]) -> int:
        found = self._numbers.get(key_)
        if found is None:
            made = row()
            found = self._numbers[key_] = len(self.rows)
            self.rows.append(made)
        return found


class _Packer:
    def __init__(self) -> None:
        self._files = _Table()
        self._types = _Table()
        self._inputs = _Table()
        self._nodes = _Table()
        self._expressions = _Table()
        self._features = _Table()
        self._texts = _Table()
        # Tables are keyed by identity where a thing is large; this keeps every such thing alive meanwhile.
        self._alive: list[object] = []

    def tables(self) -> list[_Packed]:
        return [
            table.rows for table in (
                self._files, self._types, self._inputs, self._nodes, self._expressions, self._features, self._texts
            )
        ]

    # --- expressions ------------------------------------------------------------------------------------------

    def _where(self, where: Where) -> _Packed:
        return [self._files.number(where.file, lambda: where.file), where.line, where.column]

    def _type(self, type_: Type) -> int:
        return self._types.number(
            type_, lambda: [type_.kind.value, type_.currency, type_.element.value if type_.element else None]
        )

    def input(self, read: Input) -> int:
        """The input's place in the image."""

        def row() -> _Packed:
            aggregate = read.aggregate
            packed = None if aggregate is None else _pack_aggregate(aggregate)
            return [int(read.kind), read.name, self._type(read.type), packed, read.protected, read.product]

        return self._inputs.number(read, row)

    def _node(self, node: Node) -> int:
        match node:
            case Literal(value=value, type=type_):
                # 1, 1.0 and true are equal in Python and are not the same constant.
                kinds = tuple(map(type, value)) if isinstance(value, tuple) else type(value)
                number = self._type(type_)
                return self._nodes.number(("literal", value, kinds, number, repr(value)), lambda: [0, value, number])
            case Read(input=read):
                number = self.input(read)
                return self._nodes.number(("read", number), lambda: [1, number])
            case Call(op=op, arguments=arguments, type=type_):
                parts = tuple(self._node(argument) for argument in arguments)
                number = self._type(type_)
                return self._nodes.number(("call", op, parts, number), lambda: [2, op, parts, number])

    def _expression(self, expression: Expression) -> int:
        def row() -> _Packed:
            self._alive.append(expression)
            return [self._node(expression.root), expression.text]

        return self._expressions.number(id(expression), row)

    def _optional(self, expression: Expression | None) -> int | None:
        return None if expression is None else self._expression(expression)

    # --- the program ------------------------------------------------------------------------------------------

    def program(self, program: Program) -> _Packed:
        arbitration = program.arbitration
        return [
            program.name, program.digest, _pack_schema(program.schema), program.channels,
            [
                [each.name, each.channel, each.content_type.value, each.slots, dict(each.fallback),
                 each.at_most_per_group]
                for each in program.placements.values()
            ],
            [
                [each.name, *self._shared(each), each.consent, _pack_pauses(each)]
                for each in program.groups.values()
            ],
            [self._offer(each) for each in program.offers],
            [
                arbitration.use_propensity, arbitration.use_context_weight, arbitration.use_value,
                arbitration.use_levers, self._optional(arbitration.formula), arbitration.repeats,
                arbitration.at_most_per_group,
            ],
            program.currency, [_pack_cap(cap) for cap in program.caps], program.instance_expiry_us,
            {name: self._expression(each) for name, each in program.segments.items()},
            {name: self._expression(each) for name, each in program.derived.items()},
            {name: [self._expression(each.of), each.parts] for name, each in program.bands.items()},
            {name: [each.model, each.into, *self._where(each.where)] for name, each in program.scores.items()},
        ]

    def _shared(self, owner: Group | Offer) -> list[_Packed]:
        return [
            [
                [rule.id, int(rule.layer), self._expression(rule.condition), *self._where(rule.where)]
                for rule in owner.rules
            ],
            [_pack_cap(cap) for cap in owner.caps],
            [
                [each.id, each.outcome, each.times, each.within_us, each.pause_us, each.related_offers,
                 each.related_groups]
                for each in owner.suppressions
            ],
            [[weight.id, weight.percent, self._optional(weight.when)] for weight in owner.context_weights],
            [[weight.id, weight.percent, self._optional(weight.when)] for weight in owner.levers],
        ]

    def _offer(self, offer: Offer) -> _Packed:
        value = self._expression(offer.value) if isinstance(offer.value, Expression) else None
        return [
            offer.name, offer.group, self._propensity(offer.propensity),
            [value] if value is not None else offer.value, self._where(offer.where),
            offer.schedule_from_us, offer.schedule_until_us, *self._shared(offer), offer.consent, _pack_pauses(offer),
            offer.product,
            None if offer.price is None else self._price(offer.price),
            [[each.placement, [self._text(text) for text in each.fields]] for each in offer.treatments.values()],
            dict(offer.fields), offer.stopped,
        ]

    def _propensity(self, propensity: Propensity) -> _Packed:
        match propensity:
            case ConstantPropensity(value=value):
                return value
            case ModelPropensity(model=model, where=where):
                return [model, *self._where(where)]
            case ScorecardPropensity(intercept=intercept, features=features, weights=weights, missing=missing):
                def row() -> _Packed:
                    self._alive.append(features)
                    return [self._expression(feature) for feature in features]

                return [intercept, self._features.number(id(features), row), weights, missing]

    def _price(self, price: Price) -> _Packed:
        return [
            price.list, price.currency,
            [[each.id, each.percent, each.amount, self._optional(each.when)] for each in price.adjustments],
            price.floor, price.ceiling, price.increment, price.ending, price.rounding.value, price.basis,
        ]

    def _text(self, text: Text) -> int:
        def row() -> _Packed:
            self._alive.append(text)
            return [text.name, [
                piece if isinstance(piece, str) else self._expression(piece) for piece in text.pieces
            ]]

        return self._texts.number(id(text), row)


def _pack_pauses(owner: Group | Offer) -> list[_Packed]:
    return [[pause.kind, pause.of_product] for pause in owner.paused_by_cases]


def _pack_cap(cap: Cap) -> _Packed:
    return [cap.id, cap.outcome, cap.at_most, cap.per_us, cap.channel, cap.household]


def _pack_field(field: Field) -> _Packed:
    return [field.name, field.type.value, field.labels, field.currency, field.protected, field.sources,
            field.rule.value]


def _pack_aggregate(aggregate: Aggregate) -> _Packed:
    return [
        aggregate.event, aggregate.function.value, aggregate.field, aggregate.window_us,
        [[term.field, term.op, term.value] for term in aggregate.where],
    ]


def _pack_schema(schema: Schema) -> _Packed:
    return [
        [_pack_field(each) for each in schema.attributes.values()],
        [_pack_field(each) for each in schema.facts.values()],
        [[each.name, [_pack_field(field) for field in each.fields], each.retention_us] for each in schema.events.values()],
        [
            [each.name, each.normaliser.value, each.trust, each.single, each.verified, each.household]
            for each in schema.namespaces.values()
        ],
        schema.purposes, schema.outcomes, schema.case_kinds,
        [[name, [scope.value for scope in rule.scopes], rule.due_us] for name, rule in schema.case_rules.items()],
        [[name, sources] for name, sources in schema.grantors.items()],
        [_pack_field(each) for each in schema.household_attributes.values()], schema.roles,
        [[name, *_pack_aggregate(each)] for name, each in schema.aggregates.items()],
    ]


class _Unpacker:
    def __init__(self, tables: _Packed) -> None:
        files, types, inputs, nodes, expressions, features, texts = tables
        self._files: list[str] = files
        kinds = {kind.value: kind for kind in Kind}
        self._types = [
            Type(kinds[kind], currency, None if element is None else kinds[element])
            for kind, currency, element in types
        ]
        self.inputs = [
            Input(InputKind(kind), name, self._types[type_],
                  None if aggregate is None else _unpack_aggregate(aggregate), protected, product)
            for kind, name, type_, aggregate, protected, product in inputs
        ]
        self._nodes: list[Node] = []
        for row in nodes:
            self._nodes.append(self._node(row))
        self._expressions = [Expression(self._nodes[root], text) for root, text in expressions]
        self._features = [tuple(self._expressions[each] for each in row) for row in features]
        self._texts = [
            Text(name, tuple(piece if isinstance(piece, str) else self._expressions[piece] for piece in pieces))
            for name, pieces in texts
        ]
        self._layers = {int(layer): layer for layer in Layer}
        self._roundings = {rounding.value: rounding for rounding in Rounding}

    def _node(self, row: _Packed) -> Node:
        if row[0] == 0:
            value = tuple(row[1]) if isinstance(row[1], list) else row[1]
            return Literal(value, self._types[row[2]])
        if row[0] == 1:
            return Read(self.inputs[row[1]])
        return Call(row[1], tuple([self._nodes[each] for each in row[2]]), self._types[row[3]])

    def _where(self, row: _Packed) -> Where:
        return Where(self._files[row[0]], row[1], row[2])

    def _optional(self, number: int | None) -> Expression | None:
        return None if number is None else self._expressions[number]

    def program(self, row: _Packed) -> Program:
        (name, digest, schema, channels, placements, groups, offers, arbitration, currency, caps, expiry_us, segments,
         derived, bands, scores) = row
        return Program(
            name=name, digest=digest, schema=_unpack_schema(schema), channels=tuple(channels),
            placements=MappingProxyType({
                each[0]: Placement(each[0], each[1], ContentType(each[2]), each[3], MappingProxyType(each[4]), each[5])
                for each in placements
            }),
            groups=MappingProxyType({
                each[0]: Group(each[0], *self._shared(each[1:6]), each[6], _pauses(each[7])) for each in groups
            }),
            offers=tuple([self._offer(each) for each in offers]),
            arbitration=Arbitration(
                arbitration[0], arbitration[1], arbitration[2], arbitration[3], self._optional(arbitration[4]),
                arbitration[5], arbitration[6],
            ),
            currency=currency, caps=tuple(Cap(*cap) for cap in caps), instance_expiry_us=expiry_us,
            segments=MappingProxyType({each: self._expressions[number] for each, number in segments.items()}),
            derived=MappingProxyType({each: self._expressions[number] for each, number in derived.items()}),
            bands=MappingProxyType({
                each: Band(each, self._expressions[number], parts) for each, (number, parts) in bands.items()
            }),
            scores=MappingProxyType({
                each: Score(each, model, into, self._where(where)) for each, (model, into, *where) in scores.items()
            }),
        )

    def _shared(self, row: _Packed) -> tuple[
        tuple[Rule, ...], tuple[Cap, ...], tuple[Suppression, ...], tuple[Weight, ...], tuple[Weight, ...]
    ]:
        rules, caps, suppressions, context_weights, levers = row
        files, expressions, layers = self._files, self._expressions, self._layers
        return (
            tuple([
                Rule(id_, layers[layer], expressions[condition], Where(files[file], line, column))
                for id_, layer, condition, file, line, column in rules
            ]),
            tuple([Cap(*cap) for cap in caps]),
            tuple([
                Suppression(id_, outcome, times, within_us, pause_us, tuple(offers), tuple(groups))
                for id_, outcome, times, within_us, pause_us, offers, groups in suppressions
            ]),
            tuple([Weight(id_, percent, self._optional(when)) for id_, percent, when in context_weights]),
            tuple([Weight(id_, percent, self._optional(when)) for id_, percent, when in levers]),
        )

    def _offer(self, row: _Packed) -> Offer:
        (name, group, propensity, value, where, from_us, until_us, rules, caps, suppressions, context_weights, levers,
         consent, paused_by_cases, product, price, treatments, fields, stopped) = row
        texts = self._texts
        return Offer(
            name, group, self._propensity(propensity),
            self._expressions[value[0]] if isinstance(value, list) else value, self._where(where), from_us, until_us,
            *self._shared((rules, caps, suppressions, context_weights, levers)), consent, _pauses(paused_by_cases),
            product,
            None if price is None else self._price(price),
            MappingProxyType({
                placement: Treatment(placement, tuple([texts[each] for each in content]))
                for placement, content in treatments
            }),
            MappingProxyType(fields), stopped,
        )

    def _propensity(self, row: _Packed) -> Propensity:
        if not isinstance(row, list):
            return ConstantPropensity(row)
        if isinstance(row[0], str):
            return ModelPropensity(row[0], self._where(row[1:]))
        return ScorecardPropensity(row[0], self._features[row[1]], tuple(row[2]), row[3])

    def _price(self, row: _Packed) -> Price:
        list_, currency, adjustments, floor, ceiling, increment, ending, rounding, basis = row
        return Price(
            list_, currency,
            tuple([
                Adjustment(id_, percent, amount, self._optional(when)) for id_, percent, amount, when in adjustments
            ]),
            floor, ceiling, increment, ending, self._roundings[rounding], tuple(basis),
        )


def _pauses(rows: list[_Packed]) -> tuple[CasePause, ...]:
    return tuple([CasePause(*row) for row in rows])


def _unpack_field(row: _Packed) -> Field:
    return Field(row[0], ValueType(row[1]), tuple(row[2]), row[3], row[4], tuple(row[5]), SourceRule(row[6]))


def _unpack_aggregate(row: _Packed) -> Aggregate:
    where = tuple([
        FilterTerm(field, op, tuple(value) if isinstance(value, list) else value) for field, op, value in row[4]
    ])
    return Aggregate(row[0], AggregateFunction(row[1]), row[2], row[3], where)


def _by_name(rows: list[_Packed], build: Callable[[_Packed], _V]) -> Mapping[str, _V]:
    return MappingProxyType({row[0]: build(row) for row in rows})


def _unpack_schema(row: _Packed) -> Schema:
    (attributes, facts, events, namespaces, purposes, outcomes, case_kinds, case_rules, grantors, household_attributes,
     roles, aggregates) = row
    return Schema(
        attributes=_by_name(attributes, _unpack_field), facts=_by_name(facts, _unpack_field),
        events=_by_name(events, lambda each: EventType(each[0], tuple(_unpack_field(field) for field in each[1]), each[2])),
        namespaces=_by_name(namespaces, lambda each: Namespace(each[0], Normaliser(each[1]), *each[2:])),
        purposes=tuple(purposes), outcomes=tuple(outcomes), case_kinds=tuple(case_kinds),
        case_rules=_by_name(case_rules, lambda each: CaseRule(tuple(CaseScope(scope) for scope in each[1]), each[2])),
        grantors=_by_name(grantors, lambda each: tuple(each[1])),
        household_attributes=_by_name(household_attributes, _unpack_field), roles=tuple(roles),
        aggregates=_by_name(aggregates, lambda each: _unpack_aggregate(each[1:])),
    )
