"""``make real``, or ``python -m loadtest.realdata [bank] [retail] [journey]``: what real data comes to when decided over.

Three published data sets are imported as they are, by the mappings under programs/real/, and every figure is then read
from answers of `Engine.decide`; beside it stands what pandas and scikit-learn compute from the same file without any
of this code. They must agree, or the run fails.

- ``bank``: Bank Marketing. A propensity model is trained on the first 30,000 contacts in date order without the call's
  duration, deployed, and one placement is decided for each of the 11,188 clients after. Area under the curve and lift
  are taken from the propensities in the answers, and from scikit-learn's own predict_proba. Clients of the older file
  are decided for too, and each answer must say the balance that the file has.
- ``retail``: Online Retail. Recency, frequency and monetary value are computed by the decision, for each of 4,372
  customers and 3,710 anonymous invoices, out of all 541,909 invoice lines, and so are what was bought and cancelled, the fifth
  that each of the three is in, and the segments made of them.

- ``journey``: Complete Journey. 2,379 households with a shopper each, what they bought, were sent and redeemed, summed up by a
  decision for each; the campaigns become offers with the dates they had, and for one day it is decided for everybody which
  are open to him.

The data is not in the repository: RAPPORT_SHARED_DATA says where it is (default: ../shared/data). Prints tables with
the machine they were made on, and writes everything unrounded to build/realdata/results-<moment>.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import yaml

from core import limits
from core.decision import DecideAnswer, DecideRequest, Identifier, PlacementRequest
from core.engine import Engine
from core.errors import RapportError
from core.hub import mapping
from core.hub.importer import Importer, ImportReport
from core.programs import source
from core.reasons import SlotStatus
from core.segments import Segments
from core.sweep import Bands, Sweep
from loadtest import installation, machine, report

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ROOT / "programs" / "real"
INTO = ROOT / "build" / "realdata"
ADDITIONAL = "bank-marketing/bank-additional-full.csv.gz"
FULL = "bank-marketing/bank-full.csv.gz"
RETAIL = "online-retail/online-retail.csv.gz"
JOURNEY = "complete-journey"
# A day on which six campaigns are open, and the year's end, after everything that happened.
JOURNEY_AS_OF = pd.Timestamp("2017-12-15T17:00:00Z")
JOURNEY_END = pd.Timestamp("2018-01-02T00:00:00Z")
SHOP_ZONE = "America/New_York"
# Before the number of an invoice that names no customer, in the mapping.
ANONYMOUS = "anon-"
# The morning after the last invoice: what a decision then would have known.
RETAIL_AS_OF = pd.Timestamp("2011-12-10T00:00:00Z")
# Figures of quality are equal when they are to so many digits: a model file computes in 32 bit, scikit-learn in 64.
DIGITS = 4


@dataclass(frozen=True, slots=True)
class Bank:
    """Bank Marketing through the engine. Arrays hold one cell a client that was decided for, in date order."""

    imported: dict[str, int]  # rows in the store, by file
    labels: np.ndarray  # 1: subscribed
    engine: np.ndarray  # propensities in the answers
    sklearn: np.ndarray  # predict_proba of the same clients
    auc: tuple[float, float]  # by the engine's propensities, by scikit-learn's
    lift: tuple[float, float]  # of the best tenth, likewise
    balances: int  # clients of the older file whose answer says the file's balance
    mean_balance: float  # of those answers
    took_us: tuple[float, float]  # a decision with its model inside the kernel: median and 99th percentile

    @property
    def largest_difference(self) -> float:
        """Between a propensity of the engine and scikit-learn's."""
        return float(np.abs(self.engine - self.sklearn).max())

    @property
    def differences(self) -> list[str]:
        """What does not agree; empty when everything does."""
        found = [
            f"{name}: {ours:.6f} through the engine, {theirs:.6f} by scikit-learn"
            for name, (ours, theirs) in (("AUC", self.auc), ("lift", self.lift))
            if f"{ours:.{DIGITS}f}" != f"{theirs:.{DIGITS}f}"
        ]
        if self.balances != self.imported["full"]:
            found.append(f"balance: {self.balances:,} of {self.imported['full']:,} answers say what the file has")
        return found


@dataclass(frozen=True, slots=True)
class Retail:
    """Online Retail through the engine.

    Both tables have a row for each customer of the file and for each invoice without one, and the same columns.
    """

    report: ImportReport
    customers: int  # whom the store knows
    champions: int  # as the segment is counted over the store
    decided: pd.DataFrame  # read from answers
    expected: pd.DataFrame  # by pandas, from the file
    rounding: Decimal  # what rounding each line to the penny took off or added

    @property
    def differing(self) -> dict[str, int]:
        """How many customers differ, by column."""
        return {str(name): int((self.decided[name] != self.expected[name]).sum()) for name in self.expected.columns}

    @property
    def total_quantity(self) -> int:
        """Of the whole file, from the answers."""
        return int(self.decided["items"].sum())

    @property
    def total_value(self) -> Decimal:
        """In pounds, of the whole file, from the answers; before rounding."""
        return Decimal(int(self.decided["paid"].sum())) / 100 + self.rounding

    @property
    def differences(self) -> list[str]:
        """What does not agree; empty when everything does."""
        found = [f"{name}: {count:,} customers differ from pandas" for name, count in self.differing.items() if count]
        if self.customers != len(self.expected):
            found.append(f"the store knows {self.customers:,} customers, the file {len(self.expected):,}")
        bands = self.expected["bands"]
        if self.champions != (best := int((bands.str.startswith("5") & bands.str[1].isin(["4", "5"])).sum())):
            found.append(f"the store counts {self.champions:,} champions, pandas {best:,}")
        return found


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


def scripts(name: str) -> ModuleType:
    """A file of models/, which is no package: its scripts find each other in their own folder."""
    folder = str(ROOT / "models")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(folder)


def data(name: str) -> Path:
    """A file of the real data sets. Raises FileNotFoundError, saying where it was looked for."""
    folder: Path = scripts("packing").data_folder()
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(f"{name} is not under {folder}; set RAPPORT_SHARED_DATA to the folder that holds it")
    return path


def bank(folder: Path) -> Bank:
    """Imports both files into a store under ``folder`` (empty), trains, deploys, decides. Raises FileNotFoundError."""
    files = {"additional": data(ADDITIONAL), "full": data(FULL)}
    training, evaluation = scripts("train_bank_marketing"), scripts("evaluation")
    trained = training.train(training.load())
    version = training.export(trained, folder / "trained")
    with installation.opened(_made(folder / "store"), _made(folder / "models")) as engine:
        reports = {name: _import(engine, "bank_marketing", name, path) for name, path in files.items()}
        engine.registry.deploy(
            training.NAME, 1, (version / "model.onnx").read_bytes(), (version / "model.yaml").read_bytes()
        )
        _load(engine, "bank_marketing")
        # A client's identifier is the number of its row, counted from 1; the table's index counts from 0.
        answers = [_call(engine, f"additional-{row + 1}") for row in trained.held_out.index]
        propensities = np.array([_propensity(answer) for answer in answers])
        balances = [_balance(_call(engine, f"full-{row + 1}")) for row in range(reports["full"].rows)]
    took_us = np.array([answer.took_ns for answer in answers]) / 1000
    published = pd.read_csv(files["full"], sep=";")["balance"]
    ours, theirs = (propensities, trained.labels), (trained.scores, trained.labels)
    return Bank(
        imported={name: done.applied for name, done in reports.items()},
        labels=trained.labels,
        engine=propensities,
        sklearn=trained.scores,
        auc=(evaluation.auc(*ours), evaluation.auc(*theirs)),
        lift=(evaluation.lift(*ours), evaluation.lift(*theirs)),
        balances=sum(said == whole * 100 for said, whole in zip(balances, published.tolist(), strict=True)),
        mean_balance=sum(balances) / 100 / len(balances),
        took_us=(float(np.percentile(took_us, 50)), float(np.percentile(took_us, 99))),
    )


def retail(folder: Path) -> Retail:
    """Imports the file into a store under ``folder`` (empty) and decides for every customer. Raises FileNotFoundError."""
    path = data(RETAIL)
    lines = pd.read_csv(path, dtype=str, keep_default_na=False)
    with installation.opened(_made(folder / "store"), _made(folder / "models")) as engine:
        done = _import(engine, "online_retail", "purchases", path)
        _load(engine, "online_retail")
        champions = _banded(engine)
        told = _expected(lines)
        numbers = told.customers.index
        decided = pd.DataFrame([_customer(engine, str(number)) for number in numbers], index=numbers)
        customers = engine.store.customer_count()
    return Retail(done, customers, champions, decided, told.customers, told.rounding)


def journey(folder: Path) -> Journey:
    """Imports the tables into a store under ``folder`` (empty) and decides for every household. Raises FileNotFoundError."""
    with journey_engine(folder) as (engine, imported):
        return journey_of(engine, imported)


def journey_of(engine: Engine, imported: dict[str, ImportReport]) -> Journey:
    """Decides for every household of the engine's store."""
    expected = _journey_expected()
    decided = pd.DataFrame([_household(engine, str(number)) for number in expected.index], index=expected.index)
    return Journey(imported, engine.store.customer_count(), decided, expected)


@contextmanager
def journey_engine(folder: Path) -> Iterator[tuple[Engine, dict[str, ImportReport]]]:
    """An engine over the imported tables of Complete Journey, its campaigns loaded, and what was imported."""
    campaigns = _journey_table("campaigns")
    described = _journey_table("campaign_descriptions")
    folder.mkdir(parents=True, exist_ok=True)
    sent = folder / "campaigns_with_dates.csv"
    campaigns.merge(described, on="campaign_id").to_csv(sent, index=False)
    program = folder / "program"
    shutil.copytree(PROGRAMS / "complete_journey", program)
    _write_campaigns(program, described, _journey_table("coupons"))
    members = [data(f"{JOURNEY}/{name}.csv.gz") for name in ("demographics", "campaigns", "transactions_sample")]
    files = [
        *((f"members of {path.name}", "members", path) for path in members),
        ("demographics", "demographics", data(f"{JOURNEY}/demographics.csv.gz")),
        ("campaigns", "campaigns", sent),
        ("redemptions", "redemptions", data(f"{JOURNEY}/coupon_redemptions.csv.gz")),
        ("transactions", "transactions", data(f"{JOURNEY}/transactions_sample.csv.gz")),
    ]
    with installation.opened(_made(folder / "store"), _made(folder / "models")) as engine:
        imported = {name: _import(engine, "complete_journey", how, path) for name, how, path in files}
        engine.load_program(source.read(program).files, _now_us())
        yield engine, imported


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _import(engine: Engine, program: str, name: str, path: Path) -> ImportReport:
    schema = source.check(source.read(PROGRAMS / program)).schema
    engine.store.declare(schema)
    return Importer(engine.store, mapping.load(PROGRAMS / program / "mappings" / f"{name}.yaml", schema)).run(path)


def _load(engine: Engine, program: str) -> None:
    engine.load_program(source.read(PROGRAMS / program).files, time.time_ns() // 1000)


# --- Bank Marketing -------------------------------------------------------------------------------------------


def _call(engine: Engine, client: str) -> DecideAnswer:
    return engine.decide(
        DecideRequest(
            channel="call_centre",
            placements=(PlacementRequest("agent_prompt", slots=1),),
            identifiers=(Identifier("client", client),),
        )
    )


def _propensity(answer: DecideAnswer) -> float:
    (placement,) = answer.placements
    (offer,) = placement.offers or (None,)
    if offer is None or offer.offer != "term_deposit" or placement.status is not SlotStatus.OK:
        raise RuntimeError(f"a client of the newer file was answered {placement}, not the term deposit")
    return offer.factors.propensity


def _balance(answer: DecideAnswer) -> int:
    """In cents, as the agent reads it."""
    (placement,) = answer.placements
    (offer,) = placement.offers or (None,)
    if offer is None or offer.offer != "balance_talk":
        raise RuntimeError(f"a client of the older file was answered {placement}, not the talk about the balance")
    return _minor(offer.content["balance"])


def _minor(text: str) -> int:
    """Hundredths of the unit, of an amount as treatments write it: ``-12.50 GBP``."""
    amount, _, _ = text.partition(" ")
    return int(Decimal(amount).scaleb(2))


# --- Online Retail --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Expected:
    """What pandas finds in the file: see `Retail` for the fields."""

    customers: pd.DataFrame
    rounding: Decimal


def _banded(engine: Engine) -> int:
    """Gives the bands their edges, as the sweep of a server does; how many champions the store then counts."""
    bands = Bands(engine, _now_us)
    while bands.due_us(now := _now_us()) <= now:
        bands.step(limits.SWEEP_STEP, now)
    bands.close()
    *_, counted = Segments(engine, Sweep(clock_us=_now_us), _now_us).count("champions")
    return counted.members["champions"]


def _now_us() -> int:
    return time.time_ns() // 1000


def _customer(engine: Engine, number: str) -> dict[str, Any]:
    """What a decision says of one customer or anonymous invoice: the summary's texts as values, and the offers let through."""
    answer = engine.decide(
        DecideRequest(
            channel="web",
            placements=(PlacementRequest("account"), PlacementRequest("home")),
            identifiers=(Identifier("visit" if number.startswith(ANONYMOUS) else "customer", number),),
            as_of_us=RETAIL_AS_OF.value // 1000,
        )
    )
    account, home = answer.placements
    if not answer.known or len(account.offers) != 1:
        raise RuntimeError(f"customer {number} was answered {account}, not the summary of purchases")
    said = account.offers[0].content
    return {
        "last_purchase": said["last_purchase"],
        **{name: int(said[name]) for name in ("invoices", "lines", "items", "invoices_90d")},
        **{name: _minor(said[name]) for name in ("paid", "paid_90d", "bought", "cancelled")},
        "bands": said["bands"],
        "offers": " ".join(sorted(offer.offer for offer in home.offers)),
    }


def _expected(lines: pd.DataFrame) -> _Expected:
    """The same by pandas, from the file's texts."""
    quantity = lines["Quantity"].astype("int64")
    written = zip(lines["Quantity"].tolist(), lines["UnitPrice"].tolist(), strict=True)
    value = pd.Series([Decimal(count) * Decimal(price) for count, price in written])
    penny = Decimal("0.01")
    rounded = pd.Series([each.quantize(penny, ROUND_HALF_UP) for each in value])
    anonymous = ANONYMOUS + lines["InvoiceNo"]
    at = pd.to_datetime(lines["InvoiceDate"]).dt.tz_localize("Europe/London").dt.tz_convert("UTC")
    table = pd.DataFrame(
        {
            "customer": lines["CustomerID"].str.removesuffix(".0").where(lines["CustomerID"] != "", anonymous),
            "invoice": lines["InvoiceNo"],
            "at": at,
            "quantity": quantity,
            "pennies": pd.Series([int(each.scaleb(2)) for each in rounded], dtype="int64"),
        }
    )
    customers = table.groupby("customer")
    recent = table[table["at"] > RETAIL_AS_OF - pd.Timedelta(days=90)].groupby("customer")
    last = customers["at"].max()
    cancelled = table["invoice"].str.startswith("C")
    expected = pd.DataFrame(
        {
            "last_purchase": last.dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "invoices": customers["invoice"].nunique(),
            "lines": customers.size(),
            "items": customers["quantity"].sum(),
            "invoices_90d": recent["invoice"].nunique(),
            "paid": customers["pennies"].sum(),
            "paid_90d": recent["pennies"].sum(),
            "bought": table[~cancelled].groupby("customer")["pennies"].sum(),
            "cancelled": table[cancelled].groupby("customer")["pennies"].sum(),
        }
    )
    some = ["invoices_90d", "paid_90d", "bought", "cancelled"]  # not everybody has any
    expected[some] = expected[some].fillna(0).astype("int64")
    expected["bands"] = _fifth(last.dt.as_unit("us").astype("int64")) + _fifth(expected["invoices"]) + _fifth(expected["paid"])
    lapsed = RETAIL_AS_OF - last > pd.Timedelta(days=180)
    holds = {
        "second_order": (expected["invoices"] == 1) & ~lapsed,
        "trade_terms": (expected["invoices"] >= 10) & (expected["paid"] >= 250_000),
        "win_back": lapsed,
    }
    expected["offers"] = [
        " ".join(name for name, column in holds.items() if column[customer]) for customer in expected.index
    ]
    exact: Decimal = sum(value, Decimal(0))
    kept: Decimal = sum(rounded, Decimal(0))
    return _Expected(expected, exact - kept)


def _fifth(values: pd.Series[int]) -> pd.Series[str]:
    """Of everybody's values, the fifth that each is in: 1, and one more for each edge that it exceeds."""
    edges = values.quantile([0.2, 0.4, 0.6, 0.8])
    fifths = pd.Series(1, index=values.index)
    for edge in edges:
        fifths += values > edge
    return fifths.astype(str)


# --- Complete Journey -----------------------------------------------------------------------------------------


def _journey_table(name: str) -> pd.DataFrame:
    """A table as it is written: every cell a text, an empty one where nothing is known."""
    return pd.read_csv(data(f"{JOURNEY}/{name}.csv.gz"), dtype=str, keep_default_na=False)


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
    written = "# Written from campaign_descriptions and coupons by loadtest/realdata.py.\n"
    (program / "offers").mkdir()
    (program / "offers" / "campaigns.yaml").write_text(written + yaml.safe_dump(offers, sort_keys=False))
    schema = program / "schema.yaml"
    schema.write_text(schema.read_text() + yaml.safe_dump({"aggregates": aggregates}, sort_keys=False))


def _household(engine: Engine, number: str) -> dict[str, Any]:
    """What a decision says of a household's shopper."""
    who = (Identifier("shopper", number),)
    of_year, of_day = (
        engine.decide(DecideRequest(channel="mail", placements=(asked,), identifiers=who, as_of_us=at.value // 1000))
        for asked, at in ((PlacementRequest("summary"), JOURNEY_END), (PlacementRequest("coupons", slots=27), JOURNEY_AS_OF))
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
        **{name: _minor(said[name]) for name in amounts},
        "campaigns": " ".join(sorted(f"{offer.offer} {offer.content['coupons']}" for offer in coupons.offers)),
    }


def _journey_expected() -> pd.DataFrame:
    """The same by pandas."""
    lines, people = _journey_table("transactions_sample"), _journey_table("demographics").set_index("household_id")
    campaigns, redeemed = _journey_table("campaigns"), _journey_table("coupon_redemptions")
    described, coupons = _journey_table("campaign_descriptions"), _journey_table("coupons")
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
    day = f"{JOURNEY_AS_OF.tz_convert(SHOP_ZONE):%Y-%m-%d}"
    open_then = described[(described["start_date"] <= day) & (described["end_date"] >= day)]
    number_of = coupons.groupby("campaign_id")["coupon_upc"].nunique()
    offered = campaigns[campaigns["campaign_id"].isin(open_then["campaign_id"])].copy()
    offered["offer"] = "campaign_" + offered["campaign_id"] + " " + offered["campaign_id"].map(number_of).astype(str)
    expected["campaigns"] = offered.groupby("household_id")["offer"].agg(lambda texts: " ".join(sorted(texts)))
    expected["campaigns"] = expected["campaigns"].fillna("")
    return expected


# --- telling --------------------------------------------------------------------------------------------------


def main() -> int:
    """Runs what is asked for; 0 when everything agrees."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.realdata", description="Decide over real data.")
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"of: {', '.join(SETS)} (default: all)")
    parser.add_argument("--into", type=Path, default=INTO, help=f"folder for the figures (default {INTO})")
    given = parser.parse_args()
    unknown = [name for name in given.sets if name not in SETS]
    if unknown:
        parser.error(f"'{unknown[0]}' is no data set; there are {', '.join(SETS)}")
    on = machine.describe("loadtest.realdata")
    print(f"{on}\n", flush=True)
    figures: dict[str, object] = {"machine": dataclasses.asdict(on)}
    differences: list[str] = []
    given.into.mkdir(parents=True, exist_ok=True)
    try:
        for name in given.sets or SETS:
            print(f"{name}: importing and deciding ...", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory(dir=given.into) as scratch:
                found: Bank | Retail | Journey = SETS[name](Path(scratch))
            figures[name] = _figures(found)
            print(_table(found), flush=True)
            differences += [f"{name}: {difference}" for difference in found.differences]
    except (OSError, RuntimeError, RapportError) as error:
        print(f"realdata: {error}", file=sys.stderr)
        return 1
    figures["differences"] = differences
    path = given.into / f"results-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps(figures, indent=1))
    print(f"All figures: {path}")
    for difference in differences:
        print(f"realdata: {difference}", file=sys.stderr)
    return 1 if differences else 0


SETS: Mapping[str, Callable[[Path], Bank | Retail | Journey]] = {"bank": bank, "retail": retail, "journey": journey}


def _figures(found: Bank | Retail | Journey) -> dict[str, object]:
    if isinstance(found, Journey):
        return {
            "rows": {name: done.rows for name, done in found.imported.items()},
            "households": len(found.decided),
            "households_differing": found.differing,
            "sales": int(found.decided["sales"].sum()) / 100,
            "campaigns_open": int((found.decided["campaigns"] != "").sum()),
        }
    if isinstance(found, Bank):
        return {
            "imported": found.imported,
            "decided": len(found.engine),
            "auc": found.auc,
            "lift": found.lift,
            "largest_difference": found.largest_difference,
            "subscribed": float(found.labels.mean()),
            "balances_equal": found.balances,
            "mean_balance": found.mean_balance,
            "took_us": found.took_us,
        }
    return {
        "rows": found.report.rows,
        "anonymous": int(found.decided.index.str.startswith(ANONYMOUS).sum()),
        "import_s": found.report.seconds,
        "customers": len(found.decided),
        "customers_differing": found.differing,
        "champions": found.champions,
        "offers": found.decided["offers"].value_counts().to_dict(),
        "invoices": int(found.decided["invoices"].sum()),
        "total_quantity": found.total_quantity,
        "total_value": str(found.total_value),
        "rounding": str(found.rounding),
    }


def _table(found: Bank | Retail | Journey) -> str:
    rows: Sequence[Sequence[object]]
    if isinstance(found, Journey):
        rows = [[name, len(found.expected) - count, count] for name, count in found.differing.items()]
        rows_of = ", ".join(f"{done.rows:,} {name}" for name, done in found.imported.items())
        header = ["households by figure, decision against pandas", "equal", "differing"]
        return f"Complete Journey, rows imported: {rows_of}\n{report.table(header, rows)}\n"
    if isinstance(found, Bank):
        rate = float(found.labels.mean())
        best = [f"{100 * rate * each:.1f} %" for each in found.lift]
        rows = [
            ["area under the curve", *(f"{each:.{DIGITS}f}" for each in found.auc)],
            ["lift of the best tenth", *(f"{each:.{DIGITS}f}" for each in found.lift)],
            [f"subscribed in it (of all: {100 * rate:.1f} %)", *best],
        ]
        said = (
            f"Largest difference of a propensity {found.largest_difference:.1e}; a decision took "
            f"{found.took_us[0]:.0f} us (median), {found.took_us[1]:.0f} us (99th percentile).\n"
            f"Older file: {found.balances:,} of {found.imported['full']:,} answers say the file's balance, "
            f"mean {found.mean_balance:.3f} EUR.\n"
        )
        trained = found.imported["additional"] - len(found.engine)
        head = f"Bank Marketing, {len(found.engine):,} clients decided for, after the {trained:,} trained on"
        return f"{head}\n{report.table(['ranking of the clients', 'engine', 'scikit-learn'], rows)}\n{said}"
    rows = [[name, len(found.expected) - count, count] for name, count in found.differing.items()]
    return (
        f"Online Retail, {found.report.rows:,} lines imported in {found.report.seconds:.1f} s; customers and invoices that name "
        f"none: {len(found.decided):,}\n"
        f"{report.table(['customers by figure, decision against pandas', 'equal', 'differing'], rows)}\n"
        f"Whole file: quantity {found.total_quantity:,}, value {found.total_value:,} GBP (of which rounding lines to the "
        f"penny hides {found.rounding}).\n"
    )


if __name__ == "__main__":
    sys.exit(main())
