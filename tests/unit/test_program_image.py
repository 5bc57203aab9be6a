"""Goal: an image gives back the very program that was packed, and never one that it should not.

Method: `repr` tells 1 from 1.0 and true, which equality does not, and shows every text.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from core import limits
from core.errors import Where
from core.expressions.bytecode import Code
from core.programs import image
from core.programs.model_binding import Column, ModelBinding
from core.programs.plan import compile_tables
from core.programs.program import Program, ScorecardPropensity
from core.programs.source import check, read
from core.programs.tables import ModelTable, Presence, ScoreTable, Tables, Texts, Thresholds

PROGRAMS = Path(__file__).parent.parent.parent / "programs"

EVERYTHING = """
program: everything
currency: JPY
arbitration: {formula: "propensity * value * (facts.x > 1 ? 2.0 : 1.0)", repeats: true, at_most_per_group: 3}
instance_expiry: 90m
caps: [{outcome: shown, at_most: 9, per: 1d, channel: web}]
segments: {s: "customer.t > timestamp('2026-01-01T00:00:00Z') && customer.names.size() > 1"}
schema:
  namespaces: {crm: {normaliser: e164, trust: 5}}
  attributes:
    {t: timestamp, names: set, m: money, k: {type: money, currency: KWD}, p: {type: int, protected: true, sources: [a]}}
  facts: {x: double}
  events: {e: {v: double}, f: {}}
  offer_fields: {n: int, d: double, b: bool, s: string}
  purposes: [marketing]
  cases: [complaint]
channels: {web: {content_type: json, placements: {hero: {slots: 2, fallback: {a: b}, at_most_per_group: 1}}}, mute: }
groups:
  g:
    {consent: marketing, paused_by_cases: [complaint], eligibility: [segment.s],
     levers: [{percent: 0.5, when: segment.s}]}
  h:
offers:
- offer: a
  group: g
  schedule: {from: 2026-01-01, until: 2026-02-01}
  stopped: true
  value: offer.n * 2
  propensity: {scorecard: {intercept: 1, weights: {facts.x: 1, cases.complaint: 2}}}
  contact: {suppress: [{outcome: rejected, times: 1, within: 1d, pause: 1d, related: [b], related_groups: [h]}]}
  price:
    {list: 300 JPY, floor: 1 JPY, ceiling: 400 JPY, adjustments: [{amount: -3 JPY, when: has(customer.m)}],
     round: {to: 10 JPY}}
  treatments: {web.hero: {text: "{{ offer.d }} and {{ events.e.mean_v_30d }}", empty: ""}}
  fields: {n: 1, d: 1, b: true, s: "1"}
- offer: b
  group: h
  value: 1
  propensity: {model: m}
  suitability: ["1 < 2 || facts.x == 1.0 || facts.x in [1.0, 2.0]", now > customer.t]
"""


def everything() -> Program:
    return check(read({"program.yaml": EVERYTHING.encode()}))


def test_image_gives_back_the_same_program() -> None:
    for program in (everything(), *(check(read(PROGRAMS / name)) for name in ("bank", "shop"))):
        again = image.unpack(image.pack(program))
        assert again is not None
        assert again == program
        assert repr(again) == repr(program)
        assert image.pack(again) == image.pack(program)


def test_one_expression_stays_one_object() -> None:
    text = EVERYTHING + "".join(
        f"- {{offer: c{i}, group: h, value: 1, suitability: [facts.x > 3.0],"
        " propensity: {scorecard: {intercept: 1, weights: {facts.x: 1, cases.complaint: 2}}}}\n" for i in range(5)
    )
    again = image.unpack(image.pack(check(read({"program.yaml": text.encode()}))))
    assert again is not None
    offers = [offer for offer in again.offers if offer.name.startswith("c")]
    assert len({id(offer.rules[0].condition) for offer in offers}) == 1
    features = {id(offer.propensity.features) for offer in offers if isinstance(offer.propensity, ScorecardPropensity)}
    assert len(features) == 1


def test_damaged_or_foreign_image_is_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    program = everything()
    packed = image.pack(program, compile_tables(program, {"m": binding("facts.x")}))
    for position in range(0, len(packed), 7):
        assert image.unpack(packed[:position] + bytes([packed[position] ^ 1]) + packed[position + 1 :]) is None
        assert image.unpack(packed[:position]) is None
    assert image.unpack(packed + b"\0") is None
    monkeypatch.setattr(image, "COMPILER", "another")
    assert image.unpack(packed) is None
    assert image.key("d") == "d-another"


def flat(value: object) -> object:
    """Tables as plain values: an array as its bytes, whether numpy has it or a view, and a tuple as a list."""
    if isinstance(value, memoryview) or hasattr(value, "__array__"):
        return memoryview(value).tobytes()  # type: ignore[arg-type]
    if isinstance(value, tuple | list):
        return [flat(each) for each in value]
    if isinstance(value, Tables | Code | Thresholds | Texts | Presence | ScoreTable | ModelTable):
        return {field.name: flat(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return value


def binding(text: str) -> ModelBinding:
    return ModelBinding((Column(0, 0, text, Where("m/1/model.yaml", 2, 6), 0.5),), True)


def test_kept_tables_are_the_compiled_ones() -> None:
    models = {name: binding("customer.known ? 1.0 : 0.0") for name in ("m", "term_deposit_uptake", "shop_affinity")}
    for program in (everything(), *(check(read(PROGRAMS / name)) for name in ("bank", "shop"))):
        tables = compile_tables(program, models)
        assert tables.model_tables
        restored = image.restore(image.pack(program, tables), models)
        assert restored is not None
        assert restored[0] == program
        assert restored[1] is not None
        assert restored[1].program is restored[0]
        assert flat(restored[1]) == flat(tables)


def test_kept_tables_are_not_used_for_other_models() -> None:
    program = everything()
    packed = image.pack(program, compile_tables(program, {"m": binding("facts.x")}))
    for models in ({"m": binding("facts.x + 1.0")}, {"n": binding("facts.x")}, {}, None):
        assert image.restore(packed, models) == (program, None)
    assert image.unpack(packed) == program
    without = image.pack(program)
    assert image.restore(without, {"m": binding("facts.x")}) == (program, None)


def test_tables_that_do_not_fit_or_are_too_large_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    program = everything()
    models = {"m": binding("facts.x")}
    tables = compile_tables(program, models)
    for field in ("group_of", "residual_starts", "possible", "placement_masks", "treatment_of", "price_index"):
        shorter = dataclasses.replace(tables, **{field: getattr(tables, field).ravel()[:-1]})
        assert image.restore(image.pack(program, shorter), models) == (program, None), field
    monkeypatch.setattr(limits, "KEPT_TABLES_BYTES", 100)
    assert image.restore(image.pack(program, tables), models) == (program, None)


def test_unpacking_is_far_cheaper_than_checking() -> None:
    files = {"program.yaml": EVERYTHING.encode()}
    bodies = "".join(
        f"- offer: o{i}\n  group: h\n  value: 1\n  eligibility: [facts.x > {i}.0, 'customer.p < {i}']\n"
        f"  propensity: {{scorecard: {{intercept: 1, weights: {{facts.x: {i}}}}}}}\n"
        f"  treatments: {{web.hero: {{text: 'n {{{{ facts.x }}}} {i}'}}}}\n"
        for i in range(500)
    )
    files["offers/all.yaml"] = bodies.encode()
    sources = read(files)
    program = check(sources)
    packed = image.pack(program)
    assert image.unpack(packed) == program
    checking = min(processor_time(lambda: check(sources)) for _ in range(3))
    unpacking = min(processor_time(lambda: image.unpack(packed)) for _ in range(3))
    assert unpacking < checking / 3


def processor_time(work: Callable[[], object]) -> float:
    """Seconds this thread computed: what else the machine does meanwhile is no part of it."""
    began = time.thread_time()
    work()
    return time.thread_time() - began
