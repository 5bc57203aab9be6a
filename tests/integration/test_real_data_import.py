"""Real files through the whole import: what the store then holds equals what pandas reads from the same file.

Bank Marketing becomes profiles, Online Retail a year of purchase events; totals are those that PROVENANCE.md was
checked against, every figure per customer is compared with pandas.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pandas as pd
import pytest

from core.decision import Identifier
from core.errors import ImportRefused
from core.hub.customer_profile import Profile
from core.hub.store import Store
from core.importing import mapping
from core.importing.importer import Importer, ImportReport
from core.programs import source
from core.schema import Money
from protos.rapport.v1 import profile_pb2, profile_pb2_grpc, values_pb2
from tests.running import BOUND_SECONDS, Server

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


BANK_FILES = {"additional": "bank-marketing/bank-additional-full.csv.gz", "full": "bank-marketing/bank-full.csv.gz"}


@pytest.fixture(scope="module")
def both_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed store with both bank files in it, the better source first; tests use copies."""
    paths = {name: data(file) for name, file in BANK_FILES.items()}
    folder = tmp_path_factory.mktemp("both")
    with Store.open(folder / "store") as store:
        for name, path in paths.items():
            import_file(store, "bank_marketing", name, path, folder / "rejects.csv")
        assert store.customer_count() == 41_188 + 45_211
    return folder / "store"


def test_a_second_import_of_both_bank_files_changes_nobody(tmp_path: Path, both_files: Path) -> None:
    shutil.copytree(both_files, tmp_path / "store")
    with Store.open(tmp_path / "store") as store:
        before = stored(store)
        for name, file in BANK_FILES.items():
            report = import_file(store, "bank_marketing", name, data(file), tmp_path / "rejects.csv")
            assert (report.created, report.changed) == (0, 0)
            assert report.unchanged == report.rows
        assert stored(store) == before


# What both files tell of a client in the same words. The files name nobody, so whoever is alone with these in each of them
# stands here for a client whom both know.
SAME = ["age", "job", "marital", "default", "housing", "loan", "month", "duration", "campaign", "previous"]
DISPUTED = {"education": "education", "contact": "contact", "previous_outcome": "poutcome", "term_deposit": "y"}


def overlapping() -> pd.DataFrame:
    """The clients of both files: their row in each, and what each says."""
    alone = []
    for file in BANK_FILES.values():
        table = pd.read_csv(data(file), sep=";", keep_default_na=False)
        table["row"] = range(1, len(table) + 1)
        alone.append(table[~table.duplicated(SAME, keep=False)])
    return alone[0].merge(alone[1], on=SAME, suffixes=("_additional", "_full"))


def as_in_the_file(value: values_pb2.Value) -> str:
    """A value as the bank's files write it."""
    return value.string_value if value.WhichOneof("kind") == "string_value" else "yes" if value.bool_value else "no"


def test_two_sources_of_the_same_clients_keep_what_each_said_and_the_better_one_holds(tmp_path: Path, both_files: Path) -> None:
    """132 clients are in both files. Joined, each has both files' values with their sources; the older cut was imported later
    and does not win, nor does what it says afterwards, until the better source takes its own value back."""
    shutil.copytree(both_files, tmp_path / "store")
    pairs = overlapping().to_dict("records")
    assert len(pairs) == 132
    names = [[f"{name}-{pair[f'row_{name}']}" for name in BANK_FILES] for pair in pairs]
    disagreeing = dict.fromkeys(DISPUTED, 0)
    server = Server(tmp_path, RAPPORT_STORE_PATH=str(tmp_path / "store"))
    try:
        with grpc.insecure_channel(server.until("listening")["listen_control"]) as channel:
            profile = profile_pb2_grpc.ProfileServiceStub(channel)
            for pair, (additional, full) in zip(pairs, names, strict=True):
                both = [values_pb2.Identifier(namespace="client", value=value) for value in (additional, full)]
                profile.JoinIdentifiers(profile_pb2.JoinIdentifiersRequest(identifiers=both), timeout=BOUND_SECONDS)
                # Either name leads to the one client now; the older file's asks.
                asked = profile_pb2.GetProvenanceRequest(identifiers=both[1:])
                told = {each.attribute: each for each in profile.GetProvenance(asked, timeout=BOUND_SECONDS).attributes}
                assert told.keys() == DISPUTED.keys()
                for attribute, column in DISPUTED.items():
                    each = told[attribute]
                    said = {origin.source: as_in_the_file(origin.value) for origin in each.origins}
                    assert said == {name: pair[f"{column}_{name}"] for name in BANK_FILES}, (attribute, additional)
                    assert (each.rule, as_in_the_file(each.value)) == ("precedence", pair[f"{column}_additional"])
                    assert each.origins[0].at.ToMicroseconds() < each.origins[1].at.ToMicroseconds()
                    disagreeing[attribute] += said["additional"] != said["full"]
            # As pandas counts them in the two files.
            assert disagreeing == {"education": 131, "contact": 85, "previous_outcome": 130, "term_deposit": 3}

            who = [values_pb2.Identifier(namespace="client", value=names[0][0])]
            better, worse = pairs[0]["education_additional"], pairs[0]["education_full"]
            assert better != worse

            def say(source: str, **change: Any) -> str:
                """What holds for the first client after a source has spoken."""
                request = profile_pb2.UpsertProfileRequest(identifiers=who, source=source, **change)
                profile.UpsertProfile(request, timeout=BOUND_SECONDS)
                return profile.GetProfile(
                    profile_pb2.GetProfileRequest(identifiers=who), timeout=BOUND_SECONDS
                ).attributes["education"].string_value

            later = values_pb2.Value(string_value="illiterate")
            assert say("full", attributes={"education": later}) == better
            with pytest.raises(grpc.RpcError) as refused:
                say("web", attributes={"education": later})
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "source 'web' may not set it" in str(refused.value.details())
            assert say("additional", clear=["education"]) == "illiterate"
        assert server.end() == 0
    finally:
        server.process.kill()
        server.process.wait(BOUND_SECONDS)
        server.close()
    with Store.open(tmp_path / "store") as store:
        assert store.customer_count() == 41_188 + 45_211 - 132
        # Its whole file once more, later than everything: one value of one client is new, and his better source said nothing.
        report = import_file(store, "bank_marketing", "full", data(BANK_FILES["full"]), tmp_path / "rejects.csv")
        assert (report.created, report.rejected) == (0, 0)
        for pair, (additional, _) in zip(pairs, names, strict=True):
            known = store.customer([Identifier("client", additional)])
            assert known is not None
            found = store.profile_of(known)
            assert found is not None
            assert found.attributes["education"] == pair["education_full" if pair is pairs[0] else "education_additional"]
            # What only one file tells, nobody disputes.
            assert found.attributes["balance"] == Money(pair["balance"] * 100, "EUR")
            assert found.attributes["day_of_week"] == pair["day_of_week"]


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
