"""Cases from a ticket system's files: in any order, late, twice, and of people nobody has heard of.

Method: one file a telling, taken over by a mapping with ``row: case``; what the store then shows is compared.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from core import limits
from core.decision import Identifier
from core.errors import BadValue, ImportRefused
from core.hub.accepting import accept
from core.hub.mutations import ImportCases, ImportedCase, Join, OpenCase, SetMembership, Unmerge
from core.hub.store import Store
from core.importing import mapping
from core.importing.importer import Importer, ImportReport
from core.importing.rehearsal import Rehearsal
from core.schema import CaseRule, CaseScope, Namespace, Normaliser, Schema

SCHEMA = Schema(
    namespaces={"crm": Namespace("crm", trust=100), "email": Namespace("email", Normaliser.LOWER, trust=5)},
    case_kinds=("complaint", "fault"),
    case_rules={"complaint": CaseRule((CaseScope.CUSTOMER,)), "fault": CaseRule(due_us=5 * 86_400_000_000)},
)
MAPPING = """
mapping: tickets
source: ticket_system
row: case
identifiers: {crm: customer, email: mail}
case: {column: type, labels: {TECH: fault, BILL: complaint}}
key: ticket
opened: opened
closed: {column: closed, format: "%d.%m.%Y"}
product: line
owner: agent
due: due
at: told
"""
HEADER = "customer,mail,type,ticket,opened,closed,line,agent,due,told\n"
NOW = 1_790_000_000_000_000  # September 2026


def us(day: int) -> int:
    """The beginning of a day of May 2026."""
    return int(datetime(2026, 5, day, tzinfo=UTC).timestamp()) * 1_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        opened.declare(SCHEMA)
        yield opened
        assert opened.check().faults == ()


def bring(store: Store, folder: Path, text: str, how: str = MAPPING, header: str = HEADER) -> ImportReport:
    path = folder / "tickets.csv"
    path.write_text(header + text)
    return Importer(store, mapping.parse(how.encode(), "m.yaml", SCHEMA), now=lambda: NOW).run(path)


def shown(store: Store, who: str) -> list[tuple[str, str, str, str, int, int | None, int | None]]:
    found = store.cases([Identifier("crm", who)])
    assert found is not None
    return [(one.kind, one.key, one.product, one.owner, one.opened_us, one.closed_us, one.due_us) for one in found]


def test_cases_are_taken_over_and_again_changes_nothing(store: Store, tmp_path: Path) -> None:
    text = (
        "a,Ana@Example.org,TECH,T-1,2026-05-01,,dsl,ann,,2026-05-02\n"
        "a,,BILL,T-2,2026-05-03,04.05.2026,,ben,2026-05-09,2026-05-04\n"
        "b,,TECH,T-3,2026-05-01,,,,,\n"
    )
    report = bring(store, tmp_path, text)
    assert (report.applied, report.created, report.changed, report.rejected) == (3, 2, 1, 0)
    assert shown(store, "a") == [
        ("complaint", "T-2", "", "ben", us(3), us(4), us(9)), ("fault", "T-1", "dsl", "ann", us(1), None, us(6)),
    ]
    assert store.customer([Identifier("email", "ana@example.org")]) == store.customer([Identifier("crm", "a")])
    again = bring(store, tmp_path, text)
    assert (again.applied, again.created, again.changed, again.unchanged) == (3, 0, 0, 3)


def test_the_order_in_which_files_arrive_does_not_matter(tmp_path: Path) -> None:
    tellings = (
        "a,,TECH,T-1,,07.05.2026,,,,2026-05-07\n",  # the close, which knows nothing of its opening
        "a,,TECH,T-1,2026-05-01,,dsl,ann,,2026-05-01\n",
        "a,,TECH,T-1,2026-05-01,,,ben,2026-05-20,2026-05-05\n",
        "a,,TECH,T-1,2026-05-02,,,cleo,,2026-05-03\n",
    )
    seen = set()
    for number, order in enumerate(itertools.permutations(tellings)):
        with Store.open(tmp_path / str(number)) as store:
            store.declare(SCHEMA)
            for text in order:
                bring(store, tmp_path, text)
                found = store.cases([Identifier("crm", "a")])
                assert found is not None
                if "07.05.2026" in "".join(order[: order.index(text) + 1]):
                    assert not found[0].open_at(us(8)), "a case that was closed is open"
            seen.add(tuple(shown(store, "a")))
            assert store.check().faults == ()
    assert seen == {(("fault", "T-1", "dsl", "ben", us(1), us(7), us(20)),)}


def test_a_close_before_its_opening_pauses_nothing_and_the_opening_finds_it(store: Store, tmp_path: Path) -> None:
    """A queue between two systems delivered the close first. The case must not be open for ever when its opening comes."""
    bring(store, tmp_path, "a,,TECH,T-1,,07.05.2026,,,,2026-05-07\n")
    assert shown(store, "a")[0][4:6] == (us(7), us(7))
    store.apply(OpenCase(identifiers=(Identifier("crm", "a"),), kind="fault", key="T-1", at_us=us(1), product="dsl"))
    assert shown(store, "a")[0][4:6] == (us(1), us(7))


def test_rows_that_no_case_can_be_are_rejected_alone(store: Store, tmp_path: Path) -> None:
    report = bring(
        store, tmp_path,
        f"a,,TECH,{'k' * 257},2026-05-01,,,,,\n"  # line 2: too long a key
        "a,,TECH,,2026-05-01,,,,,\n"  # no key
        "a,,BILL,T-1,2026-05-01,,dsl,,,\n"  # complaints are about customers
        "a,,ELSE,T-1,2026-05-01,,,,,\n"  # no such kind
        "a,,TECH,T-1,2027-05-01,,,,,\n"  # not yet opened
        ",,TECH,T-1,2026-05-01,,,,,\n"  # of nobody
        "a,,TECH,T-9,2026-05-01,,'dsl',,,\n"  # no program could name that product
        "a,,TECH,T-1,2026-05-01,,,,,\n",
    )
    assert (report.applied, report.rejected) == (1, 7)
    assert {line: reason for line, _, _, reason in report.examples} == {
        2: "key, product or owner is too long or has characters that it may not have, or its kind is never about a product",
        3: "missing: every case has a kind and a key",
        4: "key, product or owner is too long or has characters that it may not have, or its kind is never about a product",
        5: "not a kind of case, nor one of the mapping's labels for one",
        6: "lies in the future: is the mapping's zone or format right?",
        7: "no identifier: whose row it is cannot be told",
        8: "key, product or owner is too long or has characters that it may not have, or its kind is never about a product",
    }
    assert [case[1] for case in shown(store, "a")] == ["T-1"]


def test_a_case_closed_or_due_before_its_opening_is_a_mistake_of_its_row(store: Store, tmp_path: Path) -> None:
    """Mixed up columns, or days before months, made cases that were never open, in silence."""
    report = bring(
        store, tmp_path,
        "a,,TECH,T-1,2026-05-04,03.05.2026,,,,\n"
        "a,,TECH,T-2,2026-05-04,,,,2026-05-03,\n"
        "a,,TECH,T-3,2026-05-04,04.05.2026,,,2026-05-04,\n",
    )
    assert (report.applied, report.rejected, dict(report.reasons)) == (1, 2, {"BEFORE_OPENING": 2})
    assert [(line, column, value) for line, column, value, _ in report.examples] == [
        (2, "closed", "03.05.2026"), (3, "due", "2026-05-03")]
    assert [case[1] for case in shown(store, "a")] == ["T-3"]


def test_the_report_names_the_products_that_cases_are_about(store: Store, tmp_path: Path) -> None:
    rows = "a,,TECH,T-1,2026-05-01,,dls,,,\na,,TECH,T-2,2026-05-01,,,,,\na,,TECH,T-3,2026-05-01,,tv,,,\n"
    report = bring(store, tmp_path, rows)
    assert report.products == {"dls", "tv"}


def test_a_customer_with_too_many_open_cases_refuses_his_row_alone(store: Store, tmp_path: Path) -> None:
    rows = [f"a,,TECH,T-{number},2026-05-01,,,,,\n" for number in range(limits.CASES_PER_CUSTOMER + 1)]
    rows.append("b,,TECH,T-1,2026-05-01,,,,,\n")
    report = bring(store, tmp_path, "".join(rows))
    assert (report.applied, dict(report.reasons)) == (limits.CASES_PER_CUSTOMER + 1, {"TOO_MANY_CASES": 1})
    assert len(shown(store, "b")) == 1


def test_one_kind_for_all_rows_and_no_time_of_telling(store: Store, tmp_path: Path) -> None:
    how = "mapping: m\nsource: s\nrow: case\nidentifiers: {crm: c}\ncase: complaint\nkey: k\nopened: since\nowner: who\n"
    report = bring(store, tmp_path, "a,1,2026-05-01,ann\n", how, "c,k,since,who\n")
    assert report.applied == 1
    assert shown(store, "a") == [("complaint", "1", "", "ann", us(1), None, None)]
    bring(store, tmp_path, "a,1,2026-05-01,zoe\n", how, "c,k,since,who\n")
    assert shown(store, "a")[0][3] == "zoe"


def test_a_row_is_undone_with_the_join_that_came_before_it(store: Store, tmp_path: Path) -> None:
    a, b = Identifier("crm", "a"), Identifier("email", "b@x.org")
    bring(store, tmp_path, "a,,TECH,T-1,2026-05-01,,dsl,ann,,\n,b@x.org,TECH,T-2,2026-05-01,,tv,ben,,\n")
    store.apply(Join(identifiers=(a, b), at_us=NOW))
    assert len(shown(store, "a")) == 2
    bring(store, tmp_path, ",b@x.org,TECH,T-3,2026-05-02,,,cleo,,\na,,TECH,T-1,,09.05.2026,,,,\n")
    undone = store.apply(Unmerge(identifiers=(a,), at_us=NOW))
    assert (undone.reapplied, undone.dropped) == (1, 0)
    assert [case[1:6] for case in shown(store, "a")] == [("T-1", "dsl", "ann", us(1), us(9))]
    theirs = store.cases([b])
    assert theirs is not None
    assert [(case.key, case.owner) for case in theirs] == [("T-2", "ben"), ("T-3", "cleo")]


def test_a_rehearsal_counts_and_writes_nothing(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "tickets.csv"
    path.write_text(HEADER + "a,,TECH,T-1,2026-05-01,,,,,\na,,TECH,T-2,2026-05-01,,,,,\nb,,BILL,T-1,2026-05-01,,,,,\n")
    how = mapping.parse(MAPPING.encode(), "m.yaml", SCHEMA)
    with store.environment.reader() as reader:
        report = Importer(Rehearsal(store.catalog, reader), how, now=lambda: NOW).rehearse(path)
    assert (report.created, report.changed, report.dry) == (2, 1, True)
    assert store.customer_count() == 0


def test_a_kind_that_the_store_does_not_know_refuses_the_file(tmp_path: Path) -> None:
    path = tmp_path / "tickets.csv"
    path.write_text(HEADER + "a,,TECH,T-1,2026-05-01,,,,,\n")
    how = mapping.parse(MAPPING.encode(), "m.yaml", SCHEMA)
    with Store.open(tmp_path / "bare") as bare:
        bare.declare(Schema(namespaces=SCHEMA.namespaces))
        with pytest.raises(ImportRefused, match="cases of kind 'complaint'"):
            Importer(bare, how, now=lambda: NOW).run(path)


def test_cases_of_households_come_by_identifiers_that_name_them(store: Store, tmp_path: Path) -> None:
    schema = replace(SCHEMA, namespaces={**SCHEMA.namespaces, "account": Namespace("account", trust=50, household=True)})
    store.declare(schema)
    how = mapping.parse(
        b"mapping: m\nsource: s\nrow: case\nidentifiers: {account: home}\ncase: fault\nkey: k\nopened: since\nproduct: line\n",
        "m.yaml", schema,
    )
    path = tmp_path / "lines.csv"
    path.write_text("home,k,since,line\nA-1,T-1,2026-05-01,dsl\nA-1,T-2,2026-05-02,\nA-2,T-1,2026-05-01,dsl\n")
    report = Importer(store, how, now=lambda: NOW).run(path)
    assert (report.applied, report.created, report.changed) == (3, 2, 1)
    again = Importer(store, how, now=lambda: NOW).run(path)
    assert (again.applied, again.unchanged) == (3, 3)
    store.apply(SetMembership(identifiers=(Identifier("crm", "a"),), household=(Identifier("account", "A-1"),), at_us=NOW))
    assert [case[1:3] for case in shown(store, "a")] == [("T-1", "dsl"), ("T-2", "")]
    assert store.customer_count() == 1


@pytest.mark.parametrize("part", ["at_us", "opened_us", "closed_us"])
def test_a_server_takes_no_block_whose_cases_are_dated_ahead(store: Store, part: str) -> None:
    """The newest telling of a case holds: one from the year 9999 could never be corrected."""
    told = ImportedCase(identifiers=(Identifier("crm", "a"),), kind="fault", key="T-1", due_us=2 * NOW, at_us=NOW)
    row = msgspec.structs.replace(told, **{part: NOW + limits.AHEAD_US})
    # A clock that goes ahead told of now.
    by_now = msgspec.structs.replace(told, **{part: NOW})
    assert accept(ImportCases(rows=(row,)), store.catalog, NOW) == ImportCases(rows=(by_now,))
    late = msgspec.structs.replace(row, **{part: NOW + limits.AHEAD_US + 1})
    with pytest.raises(BadValue, match=r"rows\[1\]: lies in the future"):
        accept(ImportCases(rows=(row, late)), store.catalog, NOW)
