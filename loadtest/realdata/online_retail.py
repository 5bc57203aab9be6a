"""Online Retail: recency, frequency and monetary value of every customer equal what pandas finds in the file.

They are computed by the decision, for each of 4,372 customers and 3,710 anonymous invoices, out of all 541,909 invoice
lines, and so are what was bought and cancelled, the fifth that each of the three is in, and the segments made of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pandas as pd

from core import limits
from core.decision import DecideRequest, Identifier, PlacementRequest
from core.engine import Engine
from core.importing.importer import ImportReport
from core.segments import Segments
from core.sweep import Bands, Sweep
from loadtest import report
from loadtest.realdata import published

LINES = "online-retail/online-retail.csv.gz"
# Before the number of an invoice that names no customer, in the mapping.
ANONYMOUS = "anon-"
# The morning after the last invoice: what a decision then would have known.
AS_OF = pd.Timestamp("2011-12-10T00:00:00Z")


@dataclass(frozen=True, slots=True)
class Retail:
    """Online Retail through the engine.

    Both tables have a row for each customer of the file and for each invoice without one, and the same columns.
    """

    imported: ImportReport
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

    def figures(self) -> dict[str, object]:
        """Everything that is kept of the run, as JSON takes it, unrounded."""
        return {
            "rows": self.imported.rows,
            "anonymous": int(self.decided.index.str.startswith(ANONYMOUS).sum()),
            "import_s": self.imported.seconds,
            "customers": len(self.decided),
            "customers_differing": self.differing,
            "champions": self.champions,
            "offers": self.decided["offers"].value_counts().to_dict(),
            "invoices": int(self.decided["invoices"].sum()),
            "total_quantity": self.total_quantity,
            "total_value": str(self.total_value),
            "rounding": str(self.rounding),
        }

    def table(self) -> str:
        """The run as a person reads it."""
        rows = [[name, len(self.expected) - count, count] for name, count in self.differing.items()]
        return (
            f"Online Retail, {self.imported.rows:,} lines imported in {self.imported.seconds:.1f} s; customers and invoices "
            f"that name none: {len(self.decided):,}\n"
            f"{report.table(['customers by figure, decision against pandas', 'equal', 'differing'], rows)}\n"
            f"Whole file: quantity {self.total_quantity:,}, value {self.total_value:,} GBP (of which rounding lines to the "
            f"penny hides {self.rounding}).\n"
        )


def decide(folder: Path) -> Retail:
    """Imports the file into a store under ``folder`` (empty) and decides for every customer. Raises FileNotFoundError."""
    path = published.data(LINES)
    lines = pd.read_csv(path, dtype=str, keep_default_na=False)
    with published.opened(folder) as engine:
        done = published.import_file(engine, "online_retail", "purchases", path)
        published.load(engine, "online_retail")
        champions = _banded(engine)
        told = _expected(lines)
        numbers = told.customers.index
        decided = pd.DataFrame([_customer(engine, str(number)) for number in numbers], index=numbers)
        customers = engine.store.customer_count()
    return Retail(done, customers, champions, decided, told.customers, told.rounding)


@dataclass(frozen=True, slots=True)
class _Expected:
    """What pandas finds in the file: see `Retail` for the fields."""

    customers: pd.DataFrame
    rounding: Decimal


def _banded(engine: Engine) -> int:
    """Gives the bands their edges, as the sweep of a server does; how many champions the store then counts."""
    bands = Bands(engine, published.now_us)
    while bands.due_us(now := published.now_us()) <= now:
        bands.step(limits.SWEEP_STEP, now)
    bands.close()
    *_, counted = Segments(engine, Sweep(clock_us=published.now_us), published.now_us).count("champions")
    return counted.members["champions"]


def _customer(engine: Engine, number: str) -> dict[str, Any]:
    """What a decision says of one customer or anonymous invoice: the summary's texts as values, and the offers let through."""
    answer = engine.decide(
        DecideRequest(
            channel="web",
            placements=(PlacementRequest("account"), PlacementRequest("home")),
            identifiers=(Identifier("visit" if number.startswith(ANONYMOUS) else "customer", number),),
            as_of_us=AS_OF.value // 1000,
        )
    )
    account, home = answer.placements
    if not answer.known or len(account.offers) != 1:
        raise RuntimeError(f"customer {number} was answered {account}, not the summary of purchases")
    said = account.offers[0].content
    return {
        "last_purchase": said["last_purchase"],
        **{name: int(said[name]) for name in ("invoices", "lines", "items", "invoices_90d")},
        **{name: published.hundredths(said[name]) for name in ("paid", "paid_90d", "bought", "cancelled")},
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
    recent = table[table["at"] > AS_OF - pd.Timedelta(days=90)].groupby("customer")
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
    lapsed = AS_OF - last > pd.Timedelta(days=180)
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
