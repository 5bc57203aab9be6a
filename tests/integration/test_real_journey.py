"""Complete Journey through import and decisions: households, what they bought, campaigns sent to them, coupons redeemed.

Every figure on our side is read from an answer of `Engine.decide`, for each of 2,379 households; see
loadtest/realdata/complete_journey.py, which `make real` runs. Totals are those that PROVENANCE.md was checked against.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pandas as pd
import pytest

from core.decision import DecideRequest, Identifier, PlacementRequest
from core.engine import Engine
from core.hub.mutations import Outcome, RecordedEvent, RecordEvents, RecordOutcomes, SetMembership
from loadtest.realdata import complete_journey, published
from loadtest.realdata.complete_journey import Journey

DAY_US = 86_400_000_000
# Campaign 18 was open from 2017-10-30 to 2017-12-24, a day in New York being from 05:00 to 05:00 UTC.
CAMPAIGN_18 = (pd.Timestamp("2017-10-30T04:00:00Z").value // 1000, pd.Timestamp("2017-12-25T05:00:00Z").value // 1000)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, Journey]]:
    """The imported tables, and what was decided over them before any test."""
    try:
        published.data(f"{complete_journey.FOLDER}/demographics.csv.gz")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    with complete_journey.opened(tmp_path_factory.mktemp("journey")) as (engine, imported):
        yield engine, complete_journey.decide_all(engine, imported)


@pytest.fixture
def journey(world: tuple[Engine, Journey]) -> Journey:
    return world[1]


@pytest.fixture
def engine(world: tuple[Engine, Journey]) -> Engine:
    return world[0]


def test_every_row_of_every_table_is_imported(journey: Journey) -> None:
    rows = {name: (done.rows, done.rejected, done.skipped) for name, done in journey.imported.items()}
    assert {name: rows[name] for name in ("demographics", "campaigns", "redemptions", "transactions")} == {
        "demographics": (801, 0, 0), "campaigns": (6_589, 0, 0), "redemptions": (2_102, 0, 0), "transactions": (75_000, 0, 0)
    }  # fmt: skip
    assert journey.customers == len(journey.decided) == 2_379


def test_what_each_household_is_bought_was_sent_and_redeemed_equals_pandas(journey: Journey) -> None:
    assert journey.differing == dict.fromkeys(journey.expected.columns, 0)
    assert journey.differences == []


def test_the_answers_make_up_the_published_totals(journey: Journey) -> None:
    found = journey.decided
    assert int((found["lines"] > 0).sum()) == 2_377
    assert int(found["lines"].sum()) == 75_000
    assert int(found["baskets"].sum()) == 47_243
    assert int(found["sales"].sum()) == 233_935_24
    assert int(found["retail_discount"].sum()) == 40_180_91
    assert int(found["coupon_discount"].sum()) == 1_356_71
    assert int(found["coupon_match"].sum()) == 242_10
    assert int(found["sent"].sum()) == 6_589
    assert int(found["redeemed"].sum()) == 2_102
    # The survey's 801 households, of whom 233 told nothing of their home.
    assert int((found["income"] != "").sum()) == 801
    assert int((found["home_ownership"] != "").sum()) == 801 - 233
    assert (found["members"] == 1).all()


def test_a_household_that_differs_is_told(journey: Journey) -> None:
    off = journey.decided.copy()
    off["sales"] += off.index == "2261"
    wrong = dataclasses.replace(journey, decided=off, customers=2_380)
    assert wrong.differences == [
        "sales: 1 households differ from pandas", "the store knows 2,380 customers, the files 2,379 households"
    ]  # fmt: skip


def campaigns(engine: Engine, shopper: str, at_us: int) -> list[str]:
    """The campaigns open to a shopper at a moment; nothing is counted."""
    (coupons,) = engine.decide(
        DecideRequest(
            channel="mail", placements=(PlacementRequest("coupons", slots=27),),
            identifiers=(Identifier("shopper", shopper),), as_of_us=at_us,
        )
    ).placements  # fmt: skip
    return sorted(offer.offer for offer in coupons.offers)


def test_a_campaign_is_open_from_its_first_day_to_its_last_in_the_shops_zone(engine: Engine, journey: Journey) -> None:
    was_sent = journey.decided["campaigns"].str.contains("campaign_18 209")
    sent, not_sent = journey.decided.index[was_sent][0], journey.decided.index[~was_sent & (journey.decided["sent"] > 0)][0]
    begin, end = CAMPAIGN_18
    moments = (begin - 1, begin, end - 1, end)
    assert ["campaign_18" in campaigns(engine, sent, at) for at in moments] == [False, True, True, False]
    assert not any("campaign_18" in campaigns(engine, not_sent, at) for at in moments)


def test_a_household_gets_one_campaign_a_week_whoever_of_it_is_asked(engine: Engine, journey: Journey) -> None:
    """The cap is the household's: what one member was shown keeps the other from it, and nobody else."""
    open_to = journey.decided["campaigns"]
    one, other = open_to.index[open_to.str.contains("campaign_18 209")][1:3]
    joined, shown = CAMPAIGN_18[0] - 30 * DAY_US, CAMPAIGN_18[0] + DAY_US
    for shopper in (one, f"{one}-partner"):
        engine.store.apply(SetMembership(
            identifiers=(Identifier("shopper", shopper),), household=(Identifier("account", one),), role="member", at_us=joined
        ))  # fmt: skip
    sent = RecordedEvent(type="sent", key="to the partner too", at_us=CAMPAIGN_18[0], fields={"campaign": "18"})
    engine.store.apply(RecordEvents(identifiers=(Identifier("shopper", f"{one}-partner"),), events=(sent,)))
    for shopper in (one, f"{one}-partner", other):
        assert "campaign_18" in campaigns(engine, shopper, shown + DAY_US)

    mailed = Outcome(
        identifiers=(Identifier("shopper", one),), offer="campaign_18", outcome="shown", channel="mail", at_us=shown, key="mail"
    )
    engine.store.apply(RecordOutcomes(outcomes=(mailed,)))
    for shopper in (one, f"{one}-partner"):
        assert campaigns(engine, shopper, shown + DAY_US) == []
        assert "campaign_18" in campaigns(engine, shopper, shown + 8 * DAY_US)
    assert "campaign_18" in campaigns(engine, other, shown + DAY_US)
