"""Real files through the whole import: what the store then holds equals what pandas reads from the same file.

Bank Marketing becomes profiles, Online Retail a year of purchase events; totals are those that PROVENANCE.md was
checked against, every figure per customer is compared with pandas.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from core.decision import Identifier
from core.errors import ImportRefused
from core.hub import mapping
from core.hub.customer_profile import Profile
from core.hub.importer import Importer, ImportReport
from core.hub.store import Store
from core.programs import source
from core.schema import Money

ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT / "programs" / "real"
DATA = Path(os.environ.get("RAPPORT_SHARED_DATA", ROOT.parent / "shared" / "data"))


def data(name: str) -> Path:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"the real data set {name} is not under {DATA}; set RAPPORT_SHARED_DATA to where it is")
    return path


def import_file(store: Store, program: str, name: str, path: Path, rejects: Path) -> ImportReport:
    checked = source.check(source.read(REAL / program))
    store.declare(checked.schema)
    read = mapping.load(REAL / program / "mappings" / f"{name}.yaml", checked.schema)
    return Importer(store, read).run(path, rejects=rejects)


def profiles(store: Store) -> Iterator[Profile]:
    for customer in store.customers():
        found = store.profile_of(customer)
        assert found is not None
        yield found


def stored(store: Store) -> list[tuple[bytes, bytes]]:
    """Every record, event list and identifier, as bytes."""
    with store.environment.reader() as reader:
        return [item for name in ("profiles", "events", "identifiers") for item in reader.items(name)]


# Columns of the file whose attribute has another name.
BANK_NAMES = {
    "default": "in_default", "housing": "housing_loan", "loan": "personal_loan", "pdays": "days_since_contact",
    "poutcome": "previous_outcome", "emp.var.rate": "employment_variation_rate",
    "cons.price.idx": "consumer_price_index", "cons.conf.idx": "consumer_confidence_index", "euribor3m": "euribor_3m",
    "nr.employed": "employees", "y": "term_deposit",
}


@pytest.mark.parametrize(
    ("name", "file", "never", "rows", "accepted", "mean_age"),
    [
        ("additional", "bank-additional-full.csv.gz", 999, 41_188, 4_640, 40.0241),
        ("full", "bank-full.csv.gz", -1, 45_211, 5_289, 40.9362),
    ],
)
def test_bank_marketing_profiles_equal_the_file(
    tmp_path: Path, name: str, file: str, never: int, rows: int, accepted: int, mean_age: float
) -> None:
    path = data(f"bank-marketing/{file}")
    table = pd.read_csv(path, sep=";", keep_default_na=False)
    with Store.open(tmp_path / "store") as store:
        report = import_file(store, "bank_marketing", name, path, tmp_path / "rejects.csv")
        assert (report.rows, report.applied, report.created) == (rows, rows, rows)
        assert report.rejected == 0
        assert report.rejects is None
        held = list(profiles(store))
    assert len(held) == rows
    ages = [profile.attributes["age"] for profile in held]
    assert round(sum(ages) / rows, 4) == mean_age  # type: ignore[arg-type]
    assert sum(profile.attributes["term_deposit"] is True for profile in held) == accepted

    if name == "full":
        balances = [profile.attributes["balance"] for profile in held]
        minor = [balance.minor for balance in balances if isinstance(balance, Money)]
        assert round(sum(minor) / 100 / rows, 3) == 1362.272
    by_row = {profile.identifiers[0].value: profile.attributes for profile in held}
    for row, cells in enumerate(table.to_dict("records"), 1):
        expected: dict[str, Any] = {BANK_NAMES.get(str(column), str(column)): cell for column, cell in cells.items()}
        expected["term_deposit"] = expected["term_deposit"] == "yes"
        if expected["days_since_contact"] == never:
            del expected["days_since_contact"]
        if "balance" in expected:
            expected["balance"] = Money(int(expected["balance"]) * 100, "EUR")
        assert dict(by_row[f"{name}-{row}"]) == expected, f"row {row} of {file}"


def test_both_bank_files_share_a_store_and_a_second_import_changes_nothing(tmp_path: Path) -> None:
    one, two = data("bank-marketing/bank-additional-full.csv.gz"), data("bank-marketing/bank-full.csv.gz")
    with Store.open(tmp_path / "store") as store:
        for name, path in (("additional", one), ("full", two)):
            import_file(store, "bank_marketing", name, path, tmp_path / "rejects.csv")
        assert store.customer_count() == 41_188 + 45_211
        before = stored(store)
        for name, path in (("additional", one), ("full", two)):
            report = import_file(store, "bank_marketing", name, path, tmp_path / "rejects.csv")
            assert (report.created, report.changed) == (0, 0)
            assert report.unchanged == report.rows
        assert stored(store) == before


def test_online_retail_events_equal_the_file(tmp_path: Path) -> None:
    path = data("online-retail/online-retail.csv.gz")
    table = pd.read_csv(path, dtype={"InvoiceNo": str, "StockCode": str}, parse_dates=["InvoiceDate"])
    with Store.open(tmp_path / "store") as store:
        report = import_file(store, "online_retail", "purchases", path, tmp_path / "rejects.csv")
        assert (report.rows, report.rejected, report.skipped, report.contested) == (541_909, 0, 0, 0)
        assert (report.applied, report.created, report.changed) == (541_909, 4_372 + 3_710, 541_909)
        known = list(profiles(store))
        held = {profile.identifiers[0].value: profile.events for profile in known}
        # Nobody has two: the visitor made of an invoice stands only where no customer is named.
        named = [each.namespace for profile in known for each in profile.identifiers]
        assert (named.count("customer"), named.count("visit")) == (4_372, 3_710)
        before = stored(store)
        again = import_file(store, "online_retail", "purchases", path, tmp_path / "rejects.csv")
        assert (again.created, again.changed, again.unchanged) == (0, 0, 541_909)
        assert stored(store) == before

    # The file's totals are the published ones, anonymous rows included.
    assert int(table.Quantity.sum()) == 5_176_450
    assert round(float((table.Quantity * table.UnitPrice).sum()), 3) == 9_747_747.934
    lines = table.copy()
    anonymous = lines.CustomerID.isna()
    assert int(anonymous.sum()) == 135_080
    numbers = lines.CustomerID.fillna(0).astype("int64").astype(str)
    lines["customer"] = numbers.where(~anonymous, "anon-" + lines.InvoiceNo)
    lines["value"] = lines.Quantity * lines.UnitPrice
    # The shop's clocks are London's; pandas places them in UTC on its own.
    utc = lines.InvoiceDate.dt.tz_localize("Europe/London").dt.tz_convert("UTC")
    lines["at"] = utc.dt.as_unit("us").astype("int64")
    # To the nearest penny, halves away from zero.
    sign = lines.value.ge(0).map({True: 1, False: -1})
    lines["minor"] = (lines.value.abs() * 100 + 0.5 + 1e-6).astype("int64") * sign

    events = [event for found in held.values() for event in found]
    assert len(held) == 4_372 + 3_710
    assert len(events) == len(lines)
    fields: list[dict[str, Any]] = [dict(event.fields) for event in events]
    assert sum(each["quantity"] for each in fields) == int(lines.Quantity.sum())
    # fsum is exact, so equal products in another order have the same sum to the last bit.
    assert math.fsum(each["quantity"] * each["unit_price"] for each in fields) == math.fsum(lines.value)
    assert sum(each["amount"].minor for each in fields) == int(lines.minor.sum())
    assert sum(each["cancelled"] for each in fields) == int(lines.InvoiceNo.str.startswith("C").sum())
    assert {each["country"] for each in fields} == set(lines.Country)

    grouped = lines.groupby("customer")
    recency, frequency = grouped["at"].max().to_dict(), grouped["InvoiceNo"].nunique().to_dict()
    monetary, counts = grouped["minor"].sum().to_dict(), grouped.size().to_dict()
    cancelled = lines[lines.InvoiceNo.str.startswith("C")].groupby("customer")["minor"].sum().to_dict()
    assert all(value <= 0 for value in cancelled.values())
    assert held.keys() == recency.keys()
    for customer, found in held.items():
        assert len(found) == counts[customer]
        assert max(event.at_us for event in found) == recency[customer]
        assert len({event.fields["invoice"] for event in found}) == frequency[customer]
        paid = [(event.fields["amount"], event.fields["cancelled"]) for event in found]
        assert sum(amount.minor for amount, _ in paid if isinstance(amount, Money)) == monetary[customer]
        taken_back = [amount.minor for amount, off in paid if off and isinstance(amount, Money)]
        assert sum(taken_back) == cancelled.get(customer, 0)


def test_a_bank_file_with_the_wrong_mapping_is_refused_by_its_columns(tmp_path: Path) -> None:
    path = data("bank-marketing/bank-full.csv.gz")
    with Store.open(tmp_path / "store") as store:
        with pytest.raises(ImportRefused) as refused:
            import_file(store, "bank_marketing", "additional", path, tmp_path / "rejects.csv")
        assert "'emp.var.rate'" in str(refused.value)
        assert store.customer_count() == 0
        assert store.customer([Identifier("client", "full-1")]) is None
