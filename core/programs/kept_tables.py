"""A program's tables as part of its image, so that a restart binds them instead of compiling.

An array lies in the image as its bytes and comes back as a view of them, without numpy; what the program itself holds
(names, prices) is taken from there. Tables that were compiled for models bound otherwise than now are not given back,
nor any whose lengths do not fit the program: the caller compiles.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from core.expressions import Input
from core.expressions.bytecode import Code
from core.programs.model_binding import ModelBinding
from core.programs.program import Program
from core.programs.tables import ModelTable, Presence, ScoreTable, Tables, Texts, Thresholds

# MessagePack's own shapes; arrays are memoryviews where numpy arrays are declared.
_Packed = Any

# Types of the arrays, as `struct` writes them, in declared order.
_ARRAYS: Final = {
    "group_of": "I", "possible": "Q", "placement_masks": "Q", "treatment_of": "i", "conditions": "i",
    "residual_starts": "I", "residuals": "I", "propensity_kind": "B", "propensity_table": "I", "propensity_row": "I",
    "propensity_constant": "d", "value_constant": "d", "value_expression": "i", "context_fixed": "d",
    "lever_fixed": "d", "weight_starts": "I", "weight_percents": "d", "weight_conditions": "i", "weight_is_lever": "B",
    "price_index": "i",
}  # fmt: skip
_CODE: Final = {
    # An instruction is eight bytes whatever is in it.
    "instructions": "Q", "starts": "I", "kinds": "B", "currencies": "i", "digits": "B", "ints": "q", "doubles": "d",
    "text_starts": "I", "text_lengths": "I",
}  # fmt: skip
# Plain values, kept as they are.
_PLAIN: Final = ("words", "rules", "group_rules", "offer_rules", "formula", "price_adjustments", "treatments", "bands", "asked")


def pack(tables: Tables, number: Callable[[Input], int]) -> _Packed:
    """Tables as MessagePack takes them; ``number`` is an input's place in the image."""
    code = tables.code
    return [
        [number(read) for read in tables.inputs],
        [_bytes(getattr(code, name), kind) for name, kind in _CODE.items()], code.heap, code.slots,
        [_bytes(getattr(tables, name), kind) for name, kind in _ARRAYS.items()],
        [getattr(tables, name) for name in _PLAIN],
        [
            [each.slot, each.is_double, each.flip, each.step, _bytes(each.int_keys, "q"), _bytes(each.double_keys, "d"),
             _bytes(each.offers, "I")]
            for each in tables.thresholds
        ],
        [[each.slot, each.is_bool, each.texts, _bytes(each.passes, "Q")] for each in tables.texts],
        [
            [each.slot, _bytes(each.passes_missing, "Q"),
             None if each.passes_present is None else _bytes(each.passes_present, "Q")]
            for each in tables.presences
        ],
        [
            [each.features, each.missing, each.width, _bytes(each.weights, "d"), _bytes(each.intercepts, "d")]
            for each in tables.score_tables
        ],
        [
            [each.model, _seal(each.binding), each.columns, each.column_inputs, each.rows]
            for each in tables.model_tables
        ],
    ]  # fmt: skip


def unpack(
    row: _Packed, program: Program, inputs: Sequence[Input], models: Mapping[str, ModelBinding]
) -> Tables | None:
    """The tables of ``program``; None when they are of other models' bindings, or do not fit."""
    reads, code, heap, slots, arrays, plain, thresholds, texts, presences, scores, scored = row
    for name, seal, *_ in scored:
        if name not in models or _seal(models[name]) != seal:
            return None
    tables = Tables(
        program=program,
        inputs=[inputs[number] for number in reads],
        code=Code(heap=heap, slots=slots, **_views(_CODE, code)),
        offer_names=[offer.name for offer in program.offers],
        group_names=list(program.groups),
        placement_names=list(program.placements),
        prices=[offer.price for offer in program.offers if offer.price is not None],
        thresholds=[
            Thresholds(slot, is_double, flip, step, _view(ints, "q"), _view(doubles, "d"), _view(offers, "I"))
            for slot, is_double, flip, step, ints, doubles, offers in thresholds
        ],
        texts=[Texts(slot, is_bool, words, _view(passes, "Q")) for slot, is_bool, words, passes in texts],
        presences=[
            Presence(slot, _view(missing, "Q"), None if present is None else _view(present, "Q"))
            for slot, missing, present in presences
        ],
        score_tables=[
            ScoreTable(features, missing, width, _view(weights, "d"), _view(intercepts, "d"))
            for features, missing, width, weights, intercepts in scores
        ],
        model_tables=[
            ModelTable(name, models[name], models[name].per_customer, columns, column_inputs, rows)
            for name, _, columns, column_inputs, rows in scored
        ],
        **_views(_ARRAYS, arrays),
        **dict(zip(_PLAIN, plain, strict=True)),
    )
    return tables if _fits(tables) else None


def _fits(tables: Tables) -> bool:
    """Whether every array that is read by an offer's or a placement's number has as many entries as there are numbers."""
    offers, words, placements = len(tables.offer_names), tables.words, len(tables.placement_names)
    by_offer = (
        tables.group_of, tables.propensity_kind, tables.propensity_table, tables.propensity_row,
        tables.propensity_constant, tables.value_constant, tables.value_expression, tables.context_fixed,
        tables.lever_fixed, tables.price_index, tables.offer_rules,
    )  # fmt: skip
    return (
        words == max(1, (offers + 63) // 64)
        and all(len(each) == offers for each in by_offer)
        and len(tables.residual_starts) == len(tables.weight_starts) == offers + 1
        and len(tables.possible) == words
        and len(tables.placement_masks) == placements * words
        and len(tables.treatment_of) == placements * offers
        and len(tables.group_rules) == len(tables.group_names)
        and len(tables.prices) == len(tables.price_adjustments)
    )


def _bytes(array: _Packed, kind: str) -> bytes:
    view = memoryview(array)
    assert view.nbytes == 0 or view.itemsize == struct.calcsize(kind)
    return view.tobytes()


def _view(data: bytes, kind: str) -> _Packed:
    return memoryview(data).cast(kind)  # type: ignore[call-overload]


def _views(kinds: Mapping[str, str], data: Sequence[bytes]) -> dict[str, _Packed]:
    return {name: _view(each, kind) for (name, kind), each in zip(kinds.items(), data, strict=True)}


def _seal(binding: ModelBinding) -> bytes:
    """Tells bindings apart: equal for equal columns, with their places in model.yaml."""
    return hashlib.blake2b(repr(binding).encode("utf-8", "surrogatepass"), digest_size=16).digest()
