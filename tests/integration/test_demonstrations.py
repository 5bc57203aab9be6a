"""Goal: the demonstrations show what they are for: in each, every stage of a decision has something to do.

Method: the generated customers in a real store, the sample models, the engine; every customer asked for in every channel
with full explanation, and all reasons counted. The clock stands at the data's newest moment.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from core.decision import DecideAnswer, DecideRequest, ExplainLevel, Identifier, PlacementRequest
from core.engine import Engine
from core.hub.store import Store
from core.inference.registry import Registry
from core.programs.source import read
from core.reasons import Reason, SlotStatus
from core.schema import AnyValue, Money
from server.cli import demo

ROOT = Path(__file__).parent.parent.parent
AS_OF_US = 1_795_000_000_000_000
CUSTOMERS = 250

Facts = dict[str, AnyValue]
ASKED: dict[str, list[tuple[str, list[str], Facts]]] = {
    "bank": [
        ("web", ["home_hero", "overview_tiles"], {}),
        ("call_centre", ["agent_prompt"], {"call_reason": "savings"}),
        ("email", ["offer"], {}),
    ],
    "shop": [
        ("web", ["home", "product", "cart", "cart_price"],
         {"category": "shoes", "cart_total": Money(5500, "EUR"), "cart_items": 2, "device": "phone", "rain": True}),
    ],
}
# What only other programs or accidents bring about.
NOT_HERE = {Reason.BUDGET, Reason.EXPERIMENT, Reason.MODEL_FAILED, Reason.SCORE_UNDEFINED}
SHOP_HAS_ONE_CHANNEL = {Reason.CHANNEL, Reason.SCHEDULE}


@pytest.mark.parametrize("name", demo.DEMOS)
def test_every_stage_has_something_to_do(tmp_path: Path, name: str) -> None:
    demo.generate(tmp_path / "data", 1, CUSTOMERS, AS_OF_US)
    registry = Registry(ROOT / "models", settle_seconds=0)
    registry.scan()
    with Store.open(tmp_path / "store", map_bytes=1 << 29) as store:
        demo.load(store, tmp_path / "data" / name, ROOT / "programs" / name)
        engine = Engine(store, registry, clock_us=lambda: AS_OF_US)
        engine.load_program(read(ROOT / "programs" / name).files, AS_OF_US)
        answers = [
            ask(engine, who(name, number), channel, placements, facts)
            for number in range(1, CUSTOMERS + 1) for channel, placements, facts in ASKED[name]
        ]
        nobody = [ask(engine, (), channel, placements, {}) for channel, placements, _ in ASKED[name]]
        engine.close()
    registry.close()
    reasons = Counter(each.reason for answer in answers for slot in answer.placements for each in slot.rejections)
    print(dict(reasons))
    expected = set(Reason) - NOT_HERE - (SHOP_HAS_ONE_CHANNEL if name == "shop" else set())
    assert expected <= set(reasons)
    decided = [offer for answer in answers for slot in answer.placements for offer in slot.offers]
    assert any(offer.model for offer in decided)
    prices = [offer.price for offer in decided if offer.price is not None]
    assert any(price.personal and price.amount != price.list for price in prices)
    assert any(not price.personal for price in prices)
    assert any("{{" in text or not text for offer in decided for text in offer.content.values()) is False
    statuses = Counter(slot.status for answer in answers for slot in answer.placements)
    assert statuses[SlotStatus.OK] > len(answers) / 2
    # A visitor of whom nothing is known gets something in every channel.
    assert all(slot.offers for answer in nobody for slot in answer.placements)


def who(name: str, number: int) -> tuple[Identifier, ...]:
    if name == "bank":
        return (Identifier("crm", str(number)),)
    return (Identifier("loyalty", str(number)) if number % 3 else Identifier("cookie", f"c-{number}"),)


def ask(engine: Engine, identifiers: tuple[Identifier, ...], channel: str, placements: list[str], facts: Facts) -> DecideAnswer:
    return engine.decide(DecideRequest(
        channel, tuple(PlacementRequest(each) for each in placements), identifiers, facts, explain=ExplainLevel.FULL,
        seed=1,
    ))
