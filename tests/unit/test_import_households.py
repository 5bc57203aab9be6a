"""Households in an import: whose members its rows are, and files of households' own attributes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from core import limits
from core.decision import Identifier
from core.errors import BadValue, MappingError
from core.hub.accepting import accept
from core.hub.catalog import Catalog
from core.hub.imports import ImportColumns
from core.hub.mutations import Join, SetMembership, Unmerge, Upsert
from core.hub.store import Store
from core.importing import mapping
from core.importing.importer import Importer, ImportReport, schema_of
from core.importing.rehearsal import Rehearsal
from core.schema import Field, Namespace, Normaliser, Schema, SourceRule, ValueType

SCHEMA = Schema(
    attributes={"age": Field("age", ValueType.INT)},
    namespaces={
        "crm": Namespace("crm", trust=100), "account": Namespace("account", Normaliser.LOWER, 90, household=True),
        "address": Namespace("address", household=True),
    },
    household_attributes={
        "plan": Field("plan", ValueType.ENUM, labels=("single", "family")), "motto": Field("motto", ValueType.STRING),
        "spend": Field("spend", ValueType.MONEY, currency="EUR", sources=("export", "billing"), rule=SourceRule.SUM),
    },
    roles=("owner", "child"),
    purposes=("marketing",),
)
MEMBERS = """
mapping: people
source: export
row: profile
identifiers: {crm: id}
attributes: {age: age}
household: {namespace: account, column: home, missing: [none], role: {column: role, labels: {H: owner, K: child}}}
"""
ACCOUNTS = """
mapping: accounts
source: export
row: profile
identifiers: {account: home}
attributes: {plan: plan, motto: motto}
"""
NOW = 1_790_000_000_000_000  # September 2026


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        opened.declare(SCHEMA)
        yield opened
        assert opened.check().faults == ()


def bring(store: Store, path: Path, text: str, how: str, at_us: int = NOW) -> ImportReport:
    path.write_text(text)
    read = mapping.parse(how.encode(), "m.yaml", schema_of(store.catalog))
    rehearsed = Importer(store, read, now=lambda: at_us)
    return rehearsed.run(path, rejects=path.with_suffix(".rejects"))


def home(store: Store, who: str, namespace: str = "crm") -> tuple[str, str, int] | None:
    found = store.household([Identifier(namespace, who)])
    return None if found is None else (found.identifiers[0].value, found.role, found.members)


def test_rows_make_members_and_the_same_file_again_changes_nothing(store: Store, tmp_path: Path) -> None:
    """An empty cell says nothing: it takes nobody out of his household."""
    text = "id,age,home,role\n1,40,A-1,H\n2,8,a-1,K\n3,50,none,\n4,,,H\n5,6,B-1,\n"
    report = bring(store, tmp_path / "people.csv", text, MEMBERS)
    assert (report.applied, report.created, report.rejected) == (5, 5, 0)
    assert [home(store, each) for each in "12345"] == [("a-1", "owner", 2), ("a-1", "child", 2), None, None, ("b-1", "", 1)]
    # A moment later too: when it was said last is nothing that changed.
    for at_us in (NOW, NOW + 1_000_000):
        again = bring(store, tmp_path / "people.csv", text, MEMBERS, at_us)
        assert (again.created, again.changed, again.unchanged) == (0, 0, 5)
    moved = bring(store, tmp_path / "people.csv", "id,age,home,role\n2,,B-1,\n1,41,none,\n", MEMBERS, NOW + 2_000_000)
    assert (moved.created, moved.changed, moved.unchanged) == (0, 2, 0)
    assert [home(store, each) for each in "125"] == [("a-1", "owner", 1), ("b-1", "", 2), ("b-1", "", 2)]


def test_households_are_imported_by_columns_as_customers_are(store: Store, tmp_path: Path) -> None:
    text = "home,plan,motto\nA-1,family,one for all\na-2,single,\n,family,nobody\nA-1,single,\n"
    report = bring(store, tmp_path / "accounts.csv", text, ACCOUNTS)
    assert (report.applied, report.created, report.rejected) == (3, 2, 1)
    assert store.customer_count() == 0
    found = store.household([Identifier("account", "A-1")])
    assert found is not None
    assert (found.attributes, found.members) == ({"plan": "single", "motto": "one for all"}, 0)
    again = bring(store, tmp_path / "accounts.csv", "home,plan,motto\na-2,single,\n", ACCOUNTS)
    assert (again.created, again.unchanged) == (0, 1)
    bring(store, tmp_path / "people.csv", "id,age,home,role\n1,40,A-2,H\n", MEMBERS)
    assert home(store, "1") == ("a-2", "owner", 1)
    store.apply(Upsert(identifiers=(Identifier("crm", "9"),), attributes={"age": 3}, at_us=1))
    assert store.customer([Identifier("crm", "9")]) == 2


def test_households_with_sources_are_imported_with_provenance(store: Store, tmp_path: Path) -> None:
    how = ACCOUNTS.replace("motto: motto", "spend: {column: motto, unit: cents}")
    report = bring(store, tmp_path / "accounts.csv", "home,plan,motto\nA-1,family,150\nB-1,,\nA-1,,250\n", how)
    assert (report.applied, report.created, report.changed) == (3, 2, 1)
    told = store.provenance([Identifier("account", "a-1")])
    assert told is not None
    assert [(one.source, one.at_us) for one in told[0].origins] == [("export", NOW)]


def test_a_full_household_takes_no_more_and_says_so(store: Store, tmp_path: Path) -> None:
    rows = "".join(f"{number},1,A-1,K\n" for number in range(limits.HOUSEHOLD_MEMBERS + 2))
    report = bring(store, tmp_path / "people.csv", "id,age,home,role\n" + rows, MEMBERS)
    assert (report.applied, report.rejected) == (limits.HOUSEHOLD_MEMBERS, 2)
    assert dict(report.reasons) == {"HOUSEHOLD_FULL": 2}
    assert "as many members" in (tmp_path / "people.rejects").read_text()
    assert store.customer_count() == limits.HOUSEHOLD_MEMBERS


def test_what_an_import_said_of_membership_since_a_join_is_said_again_after_its_undo(store: Store, tmp_path: Path) -> None:
    both = (Identifier("crm", "1"), Identifier("crm", "2"))
    for one in both:
        store.apply(Upsert(identifiers=(one,), at_us=1))
    store.apply(SetMembership(identifiers=both[:1], household=(Identifier("account", "z"),), at_us=2))
    store.apply(Join(identifiers=both, at_us=NOW))
    bring(store, tmp_path / "people.csv", "id,age,home,role\n2,8,A-1,K\n", MEMBERS)
    assert home(store, "1") == ("a-1", "child", 1)
    store.apply(Unmerge(identifiers=both[:1], at_us=NOW))
    assert (home(store, "1"), home(store, "2")) == (("z", "", 1), ("a-1", "child", 1))


@pytest.mark.parametrize(
    ("change", "line", "told"),
    [
        (("namespace: account", "namespace: crm"), 7, "'crm' names customers, not households. Namespaces of households: account"),
        (("namespace: account", "namespace: acount"), 7, "There is no namespace of households 'acount'. Did you mean 'account'?"),
        (("{namespace: account, column", "{column"), 7, "'household' needs 'namespace'"),
        (("H: owner", "H: ownr"), 7, "There is no label 'ownr' in 'labels' of 'role' of 'household'. Did you mean 'owner'?"),
        (("column: home, ", ""), 7, "Identifier 'account' needs either 'column'"),
        (("{crm: id}", "{crm: id, account: home}"), 5, "'account' names households, and the file's other identifiers do not"),
        (("{crm: id}", "{account: id}"), 6, "There is no attribute of households 'age'"),
        (("row: profile", "row: event"), 7, "'household' is not for rows that are events"),
    ],
)
def test_a_wrong_mapping_says_where_and_what(change: tuple[str, str], line: int, told: str) -> None:
    with pytest.raises(MappingError) as caught:
        mapping.parse(MEMBERS.replace(*change).encode(), "m.yaml", SCHEMA)
    assert f"m.yaml:{line}:" in str(caught.value)
    assert told in str(caught.value)


def test_a_households_file_has_nothing_of_a_customer() -> None:
    how = ACCOUNTS + "consents: {marketing: {column: ok, at: day}}\nhousehold: {namespace: account, column: x}\n"
    with pytest.raises(MappingError, match="'consents' is a customer's, and these identifiers name households"):
        mapping.parse(how.encode(), "m.yaml", SCHEMA)


class _Kept(Rehearsal):
    """Where an import hands its blocks to: keeps them."""

    def __init__(self) -> None:
        super().__init__(Catalog().declared(SCHEMA), None)
        self.blocks: list[ImportColumns] = []

    def submit(self, mutation: Any) -> Any:
        self.blocks.append(mutation)
        return super().submit(mutation)


def block(path: Path, text: str, how: str) -> ImportColumns:
    path.write_text(text)
    kept = _Kept()
    Importer(kept, mapping.parse(how.encode(), "m.yaml", SCHEMA), now=lambda: NOW).run(path)
    (made,) = kept.blocks
    return made


def test_a_running_server_accepts_what_an_import_makes_of_households_and_nothing_else(tmp_path: Path) -> None:
    """It had looked up an account's attributes among those of customers, and a role's number not at all."""
    catalog = Catalog().declared(SCHEMA)
    members = block(tmp_path / "people.csv", "id,age,home,role\n1,40,A-1,H\n2,8,a-1,K\n", MEMBERS)
    accounts = block(tmp_path / "accounts.csv", "home,plan,motto\nA-1,family,one for all\n", ACCOUNTS)
    assert accept(members, catalog, NOW) == members
    assert accept(accounts, catalog, NOW) == accounts
    home = members.household
    assert home is not None
    bad = [
        replace(members, household=replace(home, roles=b"\x03\x00\x01\x00")),
        replace(members, household=replace(home, roles=b"\x01\x00")),
        replace(members, household=replace(home, texts=home.texts.upper())),
        replace(members, household=replace(home, namespace="crm")),
        replace(members, identifiers=(*members.identifiers, replace(members.identifiers[0], namespace="address"))),
        replace(accounts, household=home, rows=2),
        replace(accounts, event="visit"),
    ]
    for each in bad:
        with pytest.raises(BadValue, match=r"household|identifiers"):
            accept(each, catalog, NOW)
