"""Complete Journey: what households bought, were sent and redeemed, and which campaigns are open to them, equal pandas.

2,379 households with a shopper each are summed up by a decision for each; the campaigns become offers with the dates they
had, and for one day it is decided for everybody which are open to him.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from core.decision import DecideRequest, Identifier, PlacementRequest
from core.engine import Engine
from core.importing.importer import ImportReport
from core.programs import source
from loadtest import report
from loadtest.realdata import published

FOLDER = "complete-journey"
# A day on which six campaigns are open, and the year's end, after everything that happened.
AS_OF = pd.Timestamp("2017-12-15T17:00:00Z")
END = pd.Timestamp("2018-01-02T00:00:00Z")
SHOP_ZONE = "America/New_York"


@dataclass(frozen=True, slots=True)
class Journey:
    """Complete Journey through the engine. Both tables have a row for each household, and the same columns."""

    imported: dict[str, ImportReport]  # by file
    customers: int  # whom the store knows
    decided: pd.DataFrame  # read from answers
    expected: pd.DataFrame  # by pandas, from the files

    @property
    def differing(self) -> dict[str, int]:
        """How many households differ, by column."""
        return {str(name): int((self.decided[name] != self.expected[name]).sum()) for name in self.expected.columns}

    @property
    def differences(self) -> list[str]:
        """What does not agree; empty when everything does."""
        found = [f"{name}: {count:,} households differ from pandas" for name, count in self.differing.items() if count]
        if self.customers != len(self.expected):
            found.append(f"the store knows {self.customers:,} customers, the files {len(self.expected):,} households")
        return found

    def figures(self) -> dict[str, object]:
        """Everything that is kept of the run, as JSON takes it, unrounded."""
        return {
            "rows": {name: done.rows for name, done in self.imported.items()},
            "households": len(self.decided),
            "households_differing": self.differing,
            "sales": int(self.decided["sales"].sum()) / 100,
            "campaigns_open": int((self.decided["campaigns"] != "").sum()),
        }

    def table(self) -> str:
        """The run as a person reads it."""
        rows = [[name, len(self.expected) - count, count] for name, count in self.differing.items()]
        rows_of = ", ".join(f"{done.rows:,} {name}" for name, done in self.imported.items())
        header = ["households by figure, decision against pandas", "equal", "differing"]
        return f"Complete Journey, rows imported: {rows_of}\n{report.table(header, rows)}\n"


def decide(folder: Path) -> Journey:
    """Imports the tables into a store under ``folder`` (empty) and decides for every household. Raises FileNotFoundError."""
    with opened(folder) as (engine, imported):
        return decide_all(engine, imported)


def decide_all(engine: Engine, imported: dict[str, ImportReport]) -> Journey:
    """Decides for every household of the engine's store."""
    expected = _expected()
    decided = pd.DataFrame([_household(engine, str(number)) for number in expected.index], index=expected.index)
    return Journey(imported, engine.store.customer_count(), decided, expected)


@contextmanager
def opened(folder: Path) -> Iterator[tuple[Engine, dict[str, ImportReport]]]:
    """An engine over the imported tables of Complete Journey, its campaigns loaded, and what was imported."""
    campaigns = _table("campaigns")
    described = _table("campaign_descriptions")
    folder.mkdir(parents=True, exist_ok=True)
    sent = folder / "campaigns_with_dates.csv"
    campaigns.merge(described, on="campaign_id").to_csv(sent, index=False)
    program = folder / "program"
    shutil.copytree(published.PROGRAMS / "complete_journey", program)
    _write_campaigns(program, described, _table("coupons"))
    members = [published.data(f"{FOLDER}/{name}.csv.gz") for name in ("demographics", "campaigns", "transactions_sample")]
    files = [
        *((f"members of {path.name}", "members", path) for path in members),
        ("demographics", "demographics", published.data(f"{FOLDER}/demographics.csv.gz")),
        ("campaigns", "campaigns", sent),
        ("redemptions", "redemptions", published.data(f"{FOLDER}/coupon_redemptions.csv.gz")),
        ("transactions", "transactions", published.data(f"{FOLDER}/transactions_sample.csv.gz")),
    ]
    with published.opened(folder) as engine:
        imported = {name: published.import_file(engine, "complete_journey", how, path) for name, how, path in files}
        engine.load_program(source.read(program).files, published.now_us())
        yield engine, imported


def _table(name: str) -> pd.DataFrame:
    """A table as it is written: every cell a text, an empty one where nothing is known."""
    return pd.read_csv(published.data(f"{FOLDER}/{name}.csv.gz"), dtype=str, keep_default_na=False)


def _write_campaigns(program: Path, described: pd.DataFrame, coupons: pd.DataFrame) -> None:
    """Each campaign as an offer to whom it was sent, from its first day in the shop's zone to its last; and what counts it."""
    number_of = coupons.drop_duplicates(["coupon_upc", "campaign_id"])["campaign_id"].value_counts()
    offers, aggregates = [], {}
    for campaign, kind, first, last in described.itertuples(index=False):
        begin = pd.Timestamp(first, tz=SHOP_ZONE)
        end = pd.Timestamp(last, tz=SHOP_ZONE) + pd.DateOffset(days=1)
        aggregates[f"sent_{campaign}"] = {"count": "sent", "where": f"campaign == '{campaign}'"}
        offers.append({
            "offer": f"campaign_{campaign}",
            "group": "campaigns",
            "schedule": {"from": begin.isoformat(), "until": end.isoformat()},
            "eligibility": [{"id": f"sent_{campaign}", "when": f"aggregate.sent_{campaign} >= 1"}],
            "value": int(number_of[campaign]),
            "propensity": 0.1,
            "treatments": {"mail.coupons": {"campaign": kind, "coupons": str(number_of[campaign])}},
        })  # fmt: skip
    written = "# Written from campaign_descriptions and coupons by loadtest/realdata/complete_journey.py.\n"
    (program / "offers").mkdir()
    (program / "offers" / "campaigns.yaml").write_text(written + yaml.safe_dump(offers, sort_keys=False))
    schema = program / "schema.yaml"
    schema.write_text(schema.read_text() + yaml.safe_dump({"aggregates": aggregates}, sort_keys=False))


def _household(engine: Engine, number: str) -> dict[str, Any]:
    """What a decision says of a household's shopper."""
    who = (Identifier("shopper", number),)
    of_year, of_day = (
        engine.decide(DecideRequest(channel="mail", placements=(asked,), identifiers=who, as_of_us=at.value // 1000))
        for asked, at in ((PlacementRequest("summary"), END), (PlacementRequest("coupons", slots=27), AS_OF))
    )
    (summary,), (coupons,) = of_year.placements, of_day.placements
    if not of_year.known or len(summary.offers) != 1:
        raise RuntimeError(f"household {number} was answered {summary}, not the summary of purchases")
    said = summary.offers[0].content
    amounts = ("sales", "retail_discount", "coupon_discount", "coupon_match")
    counts = ("members", "lines", "baskets", "products", "quantity", "sent", "redeemed")
    return {
        **{name: said[name] for name in ("income", "home_ownership", "kids")},
        **{name: int(said[name]) for name in counts},
        **{name: published.hundredths(said[name]) for name in amounts},
        "campaigns": " ".join(sorted(f"{offer.offer} {offer.content['coupons']}" for offer in coupons.offers)),
    }


def _expected() -> pd.DataFrame:
    """The same by pandas."""
    lines, people = _table("transactions_sample"), _table("demographics").set_index("household_id")
    campaigns, redeemed = _table("campaigns"), _table("coupon_redemptions")
    described, coupons = _table("campaign_descriptions"), _table("coupons")
    named = pd.concat([people.index.to_series(), campaigns["household_id"], lines["household_id"]])
    expected = pd.DataFrame(index=pd.Index(named.unique(), name="household_id"))
    for name, column in (("income", "income"), ("home_ownership", "home_ownership"), ("kids", "kids_count")):
        expected[name] = people[column].reindex(expected.index).fillna("")
    expected["members"] = 1
    by = lines.groupby("household_id")
    expected["lines"] = by.size()
    expected["baskets"] = by["basket_id"].nunique()
    expected["products"] = by["product_id"].nunique()
    expected["quantity"] = lines["quantity"].astype("int64").groupby(lines["household_id"]).sum()
    expected["sent"] = campaigns.groupby("household_id").size()
    expected["redeemed"] = redeemed.groupby("household_id").size()
    cents = {"sales": "sales_value", "retail_discount": "retail_disc", "coupon_discount": "coupon_disc",
             "coupon_match": "coupon_match_disc"}  # fmt: skip
    for name, column in cents.items():
        whole = [int(Decimal(text).quantize(Decimal("0.01"), ROUND_HALF_UP).scaleb(2)) for text in lines[column].tolist()]
        expected[name] = pd.Series(whole, dtype="int64").groupby(lines["household_id"]).sum()
    numbers = expected.columns[3:]
    expected[numbers] = expected[numbers].fillna(0).astype("int64")
    day = f"{AS_OF.tz_convert(SHOP_ZONE):%Y-%m-%d}"
    open_then = described[(described["start_date"] <= day) & (described["end_date"] >= day)]
    number_of = coupons.groupby("campaign_id")["coupon_upc"].nunique()
    offered = campaigns[campaigns["campaign_id"].isin(open_then["campaign_id"])].copy()
    offered["offer"] = "campaign_" + offered["campaign_id"] + " " + offered["campaign_id"].map(number_of).astype(str)
    expected["campaigns"] = offered.groupby("household_id")["offer"].agg(lambda texts: " ".join(sorted(texts)))
    expected["campaigns"] = expected["campaigns"].fillna("")
    return expected
