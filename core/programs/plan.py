"""The plan: a checked program turned into flat tables (`core.programs.tables`), in the shape the kernel reads.

Nothing here knows a store: inputs are numbered by slot, offers by position, and the kernel's `Plan` binds slots to
record offsets and offers to catalog numbers when it is made. Everything is laid out so that deciding costs what
survives, not what is declared:

- **The eligibility index.** Every conjunct of every rule that compares one input with constants is an *atom*. For one
  offer all
  atoms on one input meet in an interval, a set of allowed texts, or a demand to be present or absent. Over all offers
  an interval's ends become two *threshold lists*, sorted so that the offers which fail for a value are a prefix of
  the list; bitmaps at checkpoints hold the outcome of whole prefixes, the few entries after a checkpoint are fixed up
  one by one. A bitmap for every threshold would grow with the square of the offers (Whang et al., VLDB 2009, discuss
  the inverted-list alternative). Sets of texts become one bitmap for each text that any rule names, and one for all
  others.
- **Conditions** the index cannot express are kept once each, however many offers share them, and are evaluated at
  most once
  a decision, when a survivor first needs them.
- **Score tables.** Scorecards over the same features form one table: a row of weights an offer, padded to eight
  lanes.
- **Content** is split into pieces: literal bytes, or the number of an expression.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from core import limits
from core.errors import Problem, ProgramError, Where, nearest
from core.expressions import Call, Expression, Input, InputKind, Kind, Literal, Read, Type
from core.expressions.check import Scope, check
from core.expressions.conditions import Atom, Op, split
from core.expressions.lower import Assembler
from core.programs.collecting import paused
from core.programs.model_binding import Column, ModelBinding
from core.programs.program import (
    Arbitration,
    ConstantPropensity,
    ModelPropensity,
    Offer,
    Price,
    Program,
    Rule,
    Score,
    ScorecardPropensity,
    Weight,
    case_inputs,
    consent_input,
)
from core.programs.tables import NEVER, ModelTable, Presence, ScoreTable, Tables, Texts, Thresholds

if TYPE_CHECKING:
    from core.programs.tables import F64, U8, U32, U64

BOOL, DOUBLE, STRING, TIMESTAMP = Type(Kind.BOOL), Type(Kind.DOUBLE), Type(Kind.STRING), Type(Kind.TIMESTAMP)

# The first slots of every frame, in this order; `core/kernel/plan.pxd` numbers them alike.
NOW = Input(InputKind.NOW, "", TIMESTAMP)
CHANNEL = Input(InputKind.CHANNEL, "", STRING)
KNOWN = Input(InputKind.KNOWN, "", BOOL)
TERMS = tuple(
    Input(InputKind.TERM, name, DOUBLE) for name in ("propensity", "context_weight", "value", "levers")
)
FIXED_SLOTS = (NOW, CHANNEL, KNOWN, *TERMS)

# Lanes of a dot product: eight doubles fill one AVX-512 register, two of AVX2; part of the defined summation order.
LANES = 8
# More different texts than this on one input and its atoms are evaluated as conditions: a bitmap each would cost memory.
TEXTS_PER_INPUT = 1024
# Entries between two checkpoints: at least 32, and at most 128 checkpoints a list.
STEP_LEAST, CHECKPOINTS_MOST = 32, 128

class _Bits:
    """Bitmaps over offers."""

    def __init__(self, offers: int) -> None:
        self.offers = offers
        self.words = max(1, (offers + 63) // 64)

    def all(self) -> U64:
        full = np.zeros(self.words * 64, np.uint8)
        full[: self.offers] = 1
        return self.pack(full)

    def without(self, members: Sequence[int] | U32) -> U64:
        """All offers but ``members``."""
        full = np.zeros(self.words * 64, np.uint8)
        full[: self.offers] = 1
        if len(members):
            full[np.asarray(members, np.int64)] = 0
        return self.pack(full)

    def only(self, members: Sequence[int] | NDArray[np.intp]) -> U64:
        full = np.zeros(self.words * 64, np.uint8)
        if len(members):
            full[np.asarray(members, np.int64)] = 1
        return self.pack(full)

    @staticmethod
    def pack(flags: U8) -> U64:
        return np.packbits(flags, bitorder="little").view(np.uint64)


class _OneInput:
    """What one offer asks of one input: the meeting of all its atoms."""

    __slots__ = ("absent", "allowed", "excluded", "high", "low", "present")

    def __init__(self) -> None:
        self.low: int | float | None = None
        self.high: int | float | None = None
        self.allowed: frozenset[str | bool] | None = None
        self.excluded: frozenset[str | bool] = frozenset()
        self.present = False
        self.absent = False


_ORDERED = {Op.LT, Op.LE, Op.GT, Op.GE, Op.EQ}
_DOUBLES = {Kind.DOUBLE, Kind.MONEY}
_INTEGERS = {Kind.INT, Kind.TIMESTAMP, Kind.DURATION}
_INT_LEAST, _INT_MOST = -(2**63), 2**63 - 1


def _indexable(atom: Atom) -> bool:
    """Whether the index can hold the atom; what it cannot becomes a condition."""
    if atom.op in (Op.HAS, Op.NOT_HAS):
        return True
    kind = atom.input.type.kind
    if kind is Kind.BOOL:
        return atom.op in (Op.TRUE, Op.FALSE)
    if kind is Kind.STRING:
        return atom.op in (Op.EQ, Op.NE, Op.IN, Op.NOT_IN)
    if atom.op not in _ORDERED:
        return False
    operand = atom.operands[0]
    if kind in _DOUBLES:
        return isinstance(operand, float) and not math.isnan(operand)
    return kind in _INTEGERS and isinstance(operand, int) and not isinstance(operand, bool)


def _meet(one: _OneInput, atom: Atom) -> bool:
    """Adds an atom; False when nothing can satisfy the offer any more."""
    op = atom.op
    if op is Op.HAS:
        one.present = True
    elif op is Op.NOT_HAS:
        one.absent = True
    else:
        one.present = True
        kind = atom.input.type.kind
        if kind is Kind.BOOL:
            wanted: frozenset[str | bool] = frozenset([op is Op.TRUE])
            one.allowed = wanted if one.allowed is None else one.allowed & wanted
        elif kind is Kind.STRING:
            operands = frozenset(str(operand) for operand in atom.operands)
            if op in (Op.EQ, Op.IN):
                one.allowed = operands if one.allowed is None else one.allowed & operands
            else:
                one.excluded = one.excluded | operands
        elif not _meet_interval(one, op, atom.operands[0], kind in _DOUBLES):
            return False
    if one.present and one.absent:
        return False
    if one.allowed is not None:
        one.allowed = one.allowed - one.excluded
        return bool(one.allowed)
    return one.low is None or one.high is None or one.low <= one.high


def _meet_interval(one: _OneInput, op: Op, operand: object, is_double: bool) -> bool:
    assert isinstance(operand, int | float)
    low: int | float | None = operand if op in (Op.GE, Op.EQ) else None
    high: int | float | None = operand if op in (Op.LE, Op.EQ) else None
    if op is Op.GT:
        if operand == (math.inf if is_double else _INT_MOST):
            return False
        low = math.nextafter(operand, math.inf) if is_double else operand + 1
    elif op is Op.LT:
        if operand == (-math.inf if is_double else _INT_LEAST):
            return False
        high = math.nextafter(operand, -math.inf) if is_double else operand - 1
    if low is not None:
        one.low = low if one.low is None else max(one.low, low)
    if high is not None:
        one.high = high if one.high is None else min(one.high, high)
    return True


class Compiler:
    """Builds the tables of one program. Used once."""

    def __init__(
        self, program: Program, models: Mapping[str, ModelBinding], asked: Sequence[Expression] = ()
    ) -> None:
        self.program = program
        self.wanted = asked
        self.models = models
        self.slots: dict[Input, int] = {}
        for fixed in FIXED_SLOTS:
            self.slots[fixed] = len(self.slots)
        self.assembler = Assembler(self.slots)
        self.bits = _Bits(len(program.offers))
        self.conditions: dict[Expression, int] = {}
        self.condition_codes: list[int] = []
        self.numbers: dict[Expression, int] = {}
        self._splits: dict[Expression, tuple[tuple[Atom, ...], tuple[Expression, ...]]] = {}

    def number(self, expression: Expression) -> int:
        """The machine's number of an expression, its inputs given slots."""
        known = self.numbers.get(expression)
        if known is None:
            for read in expression.inputs:
                self.slots.setdefault(read, len(self.slots))
            known = self.numbers[expression] = self.assembler.add(expression)
        return known

    def condition(self, expression: Expression) -> int:
        known = self.conditions.get(expression)
        if known is None:
            known = self.conditions[expression] = len(self.condition_codes)
            self.condition_codes.append(self.number(expression))
        return known

    def split(self, expression: Expression) -> tuple[tuple[Atom, ...], tuple[Expression, ...]]:
        done = self._splits.get(expression)
        if done is None:
            atoms, rest = split(expression)
            kept = tuple(atom for atom in atoms if _indexable(atom))
            rest += tuple(atom.expression for atom in atoms if not _indexable(atom))
            done = self._splits[expression] = (kept, rest)
        return done

    # --- eligibility ------------------------------------------------------------------------------------------

    def demands(self, offer: Offer) -> list[Expression | Atom]:
        """Everything that must hold for an offer, whatever its reason would be."""
        group = self.program.groups[offer.group]
        found: list[Expression | Atom] = [rule.condition for rule in (*group.rules, *offer.rules)]
        if offer.schedule_from_us is not None:
            found.append(Atom.of(NOW, Op.GE, offer.schedule_from_us))
        if offer.schedule_until_us is not None:
            found.append(Atom.of(NOW, Op.LT, offer.schedule_until_us))
        purpose = offer.consent or group.consent
        if purpose:
            found.append(Atom.of(consent_input(purpose), Op.TRUE))
        for read in case_inputs(group, offer):
            found.append(Atom.of(read, Op.FALSE))
        return found

    def eligibility(self) -> None:
        """Builds the index over all offers, and lists for each offer the conditions it cannot hold."""
        offers = self.program.offers
        asked: list[dict[Input, _OneInput]] = []
        residuals: list[list[int]] = []
        impossible: list[int] = []
        for position, offer in enumerate(offers):
            ones: dict[Input, _OneInput] = {}
            rest: dict[int, None] = {}
            possible = not offer.stopped
            for demand in self.demands(offer):
                atoms, others = ((demand,), ()) if isinstance(demand, Atom) else self.split(demand)
                for atom in atoms:
                    possible = _meet(ones.setdefault(atom.input, _OneInput()), atom) and possible
                for other in others:
                    rest.setdefault(self.condition(other))
            asked.append(ones)
            residuals.append(list(rest))
            if not possible:
                impossible.append(position)
        by_input: dict[Input, list[tuple[int, _OneInput]]] = {}
        for position, ones in enumerate(asked):
            for read, one in ones.items():
                by_input.setdefault(read, []).append((position, one))

        self.thresholds: list[Thresholds] = []
        self.texts: list[Texts] = []
        self.presences: list[Presence] = []
        for read, entries in by_input.items():
            slot = self.slots.setdefault(read, len(self.slots))
            self._index_presence(slot, entries)
            if read.type.kind in (Kind.BOOL, Kind.STRING):
                self._index_texts(slot, read, entries, residuals)
            else:
                self._index_thresholds(slot, read, entries)
        self.possible = self.bits.without(impossible)
        self.residual_starts = np.zeros(len(offers) + 1, np.uint32)
        self.residual_starts[1:] = np.cumsum([len(found) for found in residuals], dtype=np.uint32)
        self.residuals = np.array([number for found in residuals for number in found], np.uint32)

    def _index_presence(self, slot: int, entries: list[tuple[int, _OneInput]]) -> None:
        needing = [position for position, one in entries if one.present]
        shunning = [position for position, one in entries if one.absent]
        present = self.bits.without(shunning) if shunning else None
        self.presences.append(Presence(slot, self.bits.without(needing), present))

    def _index_texts(
        self, slot: int, read: Input, entries: list[tuple[int, _OneInput]], residuals: list[list[int]]
    ) -> None:
        sets = [(position, one) for position, one in entries if one.allowed is not None or one.excluded]
        if not sets:
            return
        if read.type.kind is Kind.BOOL:
            passes = np.stack(
                [
                    self.bits.without([p for p, one in sets if one.allowed is not None and flag not in one.allowed])
                    for flag in (False, True)
                ]
            )
            self.texts.append(Texts(slot, True, [], passes))
            return
        named = sorted({str(t).encode() for _, one in sets for t in (one.allowed or one.excluded)})
        if len(named) > TEXTS_PER_INPUT:
            for position, one in sets:
                residuals[position].append(self.condition(_membership(read, one)))
            return
        rows = {text: row for row, text in enumerate(named)}
        flags = np.zeros((len(named) + 1, self.bits.words * 64), np.uint8)
        flags[:, : self.bits.offers] = 1
        for position, one in sets:
            if one.allowed is not None:
                flags[:, position] = 0
                for text in one.allowed:
                    flags[rows[str(text).encode()], position] = 1
            else:
                for text in one.excluded:
                    flags[rows[str(text).encode()], position] = 0
        packed = np.packbits(flags, axis=1, bitorder="little").view(np.uint64)
        self.texts.append(Texts(slot, False, named, np.ascontiguousarray(packed)))

    def _index_thresholds(self, slot: int, read: Input, entries: list[tuple[int, _OneInput]]) -> None:
        is_double = read.type.kind in _DOUBLES
        highs = [(one.high, position) for position, one in entries if one.high is not None]
        lows = [(one.low, position) for position, one in entries if one.low is not None]
        for flip, bounds in ((False, highs), (True, lows)):
            if not bounds:
                continue
            offers = np.array([position for _, position in bounds], np.uint32)
            int_keys, double_keys = np.zeros(0, np.int64), np.zeros(0, np.float64)
            if is_double:
                keys = np.array([float(key) for key, _ in bounds], np.float64)
                order = np.argsort(-keys if flip else keys, kind="stable")
                double_keys = (-keys if flip else keys)[order]
            else:
                whole = np.array([int(key) for key, _ in bounds], np.int64)
                order = np.argsort(~whole if flip else whole, kind="stable")
                int_keys = (~whole if flip else whole)[order]
            offers = offers[order]
            step = max(STEP_LEAST, -(-len(offers) // CHECKPOINTS_MOST))
            self.thresholds.append(Thresholds(slot, is_double, flip, step, int_keys, double_keys, offers))

    # --- rules, for reasons -----------------------------------------------------------------------------------

    def reasons(self) -> None:
        """Numbers every rule, for explanations to ask one by one."""
        self.rules: list[tuple[str, int]] = []

        def numbered(rules: Sequence[Rule]) -> list[tuple[int, int]]:
            found = []
            for rule in sorted(rules, key=lambda rule: rule.layer):
                found.append((int(rule.layer), len(self.rules)))
                self.rules.append((rule.id, self.number(rule.condition)))
            return found

        self.group_rules = [numbered(group.rules) for group in self.program.groups.values()]
        self.offer_rules = [numbered(offer.rules) for offer in self.program.offers]

    # --- scores -----------------------------------------------------------------------------------------------

    def scores(self) -> None:
        """Gathers scorecards over the same features, and the offers of each model, into tables."""
        offers = self.program.offers
        count = len(offers)
        self.propensity_kind = np.zeros(count, np.uint8)
        self.propensity_table = np.zeros(count, np.uint32)
        self.propensity_row = np.zeros(count, np.uint32)
        self.propensity_constant = np.zeros(count, np.float64)
        self.value_constant = np.zeros(count, np.float64)
        self.value_expression = np.full(count, NEVER, np.int32)
        cards: dict[tuple[tuple[Expression, ...], float], list[tuple[int, ScorecardPropensity]]] = {}
        scored: dict[str, list[int]] = {}
        for position, offer in enumerate(offers):
            match offer.propensity:
                case ConstantPropensity(value=value):
                    self.propensity_constant[position] = value
                case ScorecardPropensity() as card:
                    self.propensity_kind[position] = 1
                    cards.setdefault((card.features, card.missing), []).append((position, card))
                case ModelPropensity(model=model):
                    self.propensity_kind[position] = 2
                    scored.setdefault(model, []).append(position)
            if isinstance(offer.value, Expression):
                self.value_expression[position] = self.number(offer.value)
            else:
                self.value_constant[position] = offer.value
        self.score_tables: list[ScoreTable] = []
        for (features, missing), members in cards.items():
            width = -(-max(1, len(features)) // LANES) * LANES
            weights = np.zeros((len(members), width), np.float64)
            for row, (position, card) in enumerate(members):
                weights[row, : len(features)] = card.weights
                self.propensity_table[position] = len(self.score_tables)
                self.propensity_row[position] = row
            intercepts = np.array([card.intercept for _, card in members], np.float64)
            numbers = [self.number(feature) for feature in features]
            self.score_tables.append(ScoreTable(numbers, missing, width, weights, intercepts))
        self.model_tables: list[ModelTable] = []
        for model, members_of in scored.items():
            self._model_table(model, members_of)
        self._weights()
        formula = self.program.arbitration.formula
        self.formula = NEVER if formula is None else self.number(formula)

    def _model_table(self, model: str, members: list[int]) -> None:
        first = self.program.offers[members[0]].propensity
        assert isinstance(first, ModelPropensity)
        binding = _deployed(model, self.models, first.where)
        table = ModelTable(model, binding, binding.per_customer, [], [], len(members))
        problems: list[Problem] = []
        scope = _columns_scope(self.program)
        # A field that some offer has may be missing at another; one that none has is a misspelling.
        known = {name for offer in self.program.offers for name in offer.fields}
        for column in binding.columns:
            numbers: list[int] = []
            per_offer = not binding.per_customer and "offer." in column.text
            for row in range(len(members) if per_offer else 1):
                fields = {} if binding.per_customer else self.program.offers[members[row]].fields
                try:
                    numbers.append(self.number(_column(column, scope.with_offer(fields), known - fields.keys())))
                except ProgramError as error:
                    problems.extend(error.problems)
                    break
            table.columns.append(numbers)
            table.column_inputs.append((column.input, column.position))
        if problems:
            raise ProgramError(problems)
        for row, position in enumerate(members):
            self.propensity_table[position] = len(self.model_tables)
            self.propensity_row[position] = row
        self.model_tables.append(table)

    def _weights(self) -> None:
        offers = self.program.offers
        self.context_fixed = np.zeros(len(offers), np.float64)
        self.lever_fixed = np.zeros(len(offers), np.float64)
        starts = np.zeros(len(offers) + 1, np.uint32)
        percents: list[float] = []
        conditions: list[int] = []
        is_lever: list[int] = []

        def place(position: int, weights: Sequence[Weight], lever: int, fixed: F64) -> None:
            # A sum of doubles depends on its order: with one condition among them all are added at decision time.
            if all(weight.when is None for weight in weights):
                total = 0.0
                for weight in weights:
                    total += weight.percent
                fixed[position] = total
                return
            for weight in weights:
                percents.append(weight.percent)
                conditions.append(NEVER if weight.when is None else self.condition(weight.when))
                is_lever.append(lever)

        for position, offer in enumerate(offers):
            group = self.program.groups[offer.group]
            place(position, (*group.context_weights, *offer.context_weights), 0, self.context_fixed)
            place(position, (*group.levers, *offer.levers), 1, self.lever_fixed)
            starts[position + 1] = len(percents)
        self.weight_starts = starts
        self.weight_percents = np.array(percents, np.float64)
        self.weight_conditions = np.array(conditions, np.int32)
        self.weight_is_lever = np.array(is_lever, np.uint8)

    # --- prices and content -----------------------------------------------------------------------------------

    def answers(self) -> None:
        """Lays out prices, treatments and placements."""
        offers = self.program.offers
        self.price_index = np.full(len(offers), NEVER, np.int32)
        self.prices: list[Price] = []
        self.price_adjustments: list[list[tuple[int, int, int]]] = []
        placements = list(self.program.placements)
        self.treatment_of = np.full((len(placements), len(offers)), NEVER, np.int32)
        self.treatments: list[list[tuple[str, list[bytes | int]]]] = []
        rows = {name: row for row, name in enumerate(placements)}
        for position, offer in enumerate(offers):
            if offer.price is not None:
                self.price_index[position] = len(self.prices)
                self.prices.append(offer.price)
                self.price_adjustments.append(
                    [
                        (
                            NEVER if change.when is None else self.condition(change.when),
                            round(change.percent * 10_000),
                            change.amount,
                        )
                        for change in offer.price.adjustments
                    ]
                )
            for name, treatment in offer.treatments.items():
                self.treatment_of[rows[name], position] = len(self.treatments)
                self.treatments.append(
                    [
                        (
                            text.name,
                            [piece.encode() if isinstance(piece, str) else self.number(piece) for piece in text.pieces],
                        )
                        for text in treatment.fields
                    ]
                )
        masks = [self.bits.only(np.flatnonzero(self.treatment_of[row] >= 0)) for row in range(len(placements))]
        self.placement_names = placements
        self.placement_masks = np.stack(masks) if masks else np.zeros((0, self.bits.words), np.uint64)

    def tables(self) -> Tables:
        """Everything together."""
        self.eligibility()
        self.reasons()
        self.scores()
        self.answers()
        asked = [self.number(expression) for expression in self.wanted]
        bands = [
            (slot, self.number(self.program.bands[read.name].of))
            for read, slot in list(self.slots.items())
            if read.kind is InputKind.BAND
        ]
        program = self.program
        groups = list(program.groups)
        positions = {name: position for position, name in enumerate(groups)}
        return Tables(
            program=program,
            inputs=list(self.slots),
            code=self.assembler.code(),
            words=self.bits.words,
            offer_names=[offer.name for offer in program.offers],
            group_names=groups,
            group_of=np.array([positions[offer.group] for offer in program.offers], np.uint32),
            possible=self.possible,
            placement_names=self.placement_names,
            placement_masks=self.placement_masks,
            treatment_of=self.treatment_of,
            thresholds=self.thresholds,
            texts=self.texts,
            presences=self.presences,
            conditions=np.array(self.condition_codes, np.int32),
            residual_starts=self.residual_starts,
            residuals=self.residuals,
            rules=self.rules,
            group_rules=self.group_rules,
            offer_rules=self.offer_rules,
            score_tables=self.score_tables,
            model_tables=self.model_tables,
            propensity_kind=self.propensity_kind,
            propensity_table=self.propensity_table,
            propensity_row=self.propensity_row,
            propensity_constant=self.propensity_constant,
            value_constant=self.value_constant,
            value_expression=self.value_expression,
            formula=self.formula,
            context_fixed=self.context_fixed,
            lever_fixed=self.lever_fixed,
            weight_starts=self.weight_starts,
            weight_percents=self.weight_percents,
            weight_conditions=self.weight_conditions,
            weight_is_lever=self.weight_is_lever,
            price_index=self.price_index,
            prices=self.prices,
            price_adjustments=self.price_adjustments,
            treatments=self.treatments,
            bands=bands,
            asked=asked,
        )


def compile_tables(program: Program, models: Mapping[str, ModelBinding]) -> Tables:
    """The tables of a program; ``models`` binds the inputs of every model its offers name.

    Raises `ProgramError` when a model's bound expressions do not fit the program's schema.
    """
    assert len(program.offers) <= limits.OFFERS
    for score in program.scores.values():
        score_columns(program, score, models)
    with paused():
        return Compiler(program, models).tables()


def audience_tables(program: Program) -> Tables:
    """Tables of a walk over all customers: no offers; ``asked`` are the program's segments, then what its bands are of.

    Apart from the tables that decide, so that a decision reads nothing for the sake of a segment that no offer names.
    """
    bare = structs.replace(
        program, offers=(), groups={}, placements={}, caps=(), arbitration=Arbitration(),
    )
    asked = (*program.segments.values(), *(band.of for band in program.bands.values()))
    with paused():
        return Compiler(bare, {}, asked).tables()


def score_tables(program: Program, models: Mapping[str, ModelBinding]) -> Tables:
    """Tables of a walk that scores: ``asked`` are, for each score, its model's columns and then what its attribute holds."""
    bare = structs.replace(
        program, offers=(), groups={}, placements={}, caps=(), arbitration=Arbitration(),
    )
    scope = _columns_scope(program)
    asked: list[Expression] = []
    for score in program.scores.values():
        asked += score_columns(program, score, models)
        asked.append(check(f"customer.{score.into}", scope, score.where))
    with paused():
        return Compiler(bare, {}, asked).tables()


def score_columns(program: Program, score: Score, models: Mapping[str, ModelBinding]) -> list[Expression]:
    """What fills the columns of a score's model, whom no offer is at hand for.

    Raises `ProgramError` for a model that is not deployed, and for columns that do not fit or read what only a request has.
    """
    scope = _columns_scope(program)
    found: list[Expression] = []
    problems: list[Problem] = []
    for column in _deployed(score.model, models, score.where).columns:
        try:
            one = check(column.text, scope, column.where)
        except ProgramError as error:
            problems.extend(error.problems)
            continue
        asked = next((read for read in one.inputs if read.kind in (InputKind.FACT, InputKind.CHANNEL)), None)
        if asked is not None:
            problems.append(Problem(
                score.where, f"Model '{score.model}' reads {asked.path}, which only a request has ({column.where}).",
                f"Score '{score.name}' is made for every customer: name a model of customers.",
            ))
        found.append(one)
    if problems:
        raise ProgramError(problems)
    return found


def moves(expression: Expression) -> bool:
    """Whether its value may change though nothing is told of the customer: it reads the clock, events of a window, or a band."""
    return any(
        read.kind in (InputKind.NOW, InputKind.BAND) or (read.aggregate is not None and read.aggregate.window_us != 0)
        for read in expression.inputs
    )


def _deployed(model: str, models: Mapping[str, ModelBinding], where: Where) -> ModelBinding:
    binding = models.get(model)
    if binding is None:
        close = nearest(model, models)
        hint = f"Did you mean '{close}'?" if close else (
            f"Put it into the model repository as {model}/1/, or deploy it: rapport model deploy {model} FOLDER."
        )
        raise ProgramError([Problem(where, f"There is no deployed model '{model}'.", hint)])
    return binding


def _columns_scope(program: Program) -> Scope:
    """What a model's columns may name beside an offer's fields."""
    protected = {name: any(read.protected for read in band.of.inputs) for name, band in program.bands.items()}
    return Scope(
        program.schema, channels=program.channels, segments=program.segments, derived=program.derived, bands=protected
    )


def _column(column: Column, scope: Scope, lacking: Set[str]) -> Expression:
    """What fills a column for one offer. A field the offer lacks reads as the column's declared stand-in, where there is one."""
    if column.missing is not None and column.text.startswith("offer.") and column.text[6:] in lacking:
        if isinstance(column.missing, str):
            return Expression(Literal(column.missing, STRING), column.text)
        return Expression(Literal(float(column.missing), DOUBLE), column.text)
    return check(column.text, scope, column.where)


def _membership(read: Input, one: _OneInput) -> Expression:
    """The condition equal to one offer's allowed or excluded texts."""
    members = tuple(sorted(str(text) for text in (one.allowed or one.excluded)))
    among = Literal(members, Type(Kind.LIST, element=Kind.STRING))
    root = Call("in", (Read(read), among), BOOL)
    return Expression(root if one.allowed is not None else Call("!", (root,), BOOL), "")
