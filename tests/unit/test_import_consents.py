"""Consents in an import: dated, by channel, the newest wins, and a file without dates cannot take one back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from core import limits
from core.decision import Identifier
from core.errors import ImportRefused, MappingError, SourceNotAllowed
from core.hub.mutations import Join, SetConsent, Unmerge, Upsert
from core.hub.store import Store
from core.importing import mapping
from core.importing.importer import Importer, ImportReport, schema_of
from core.schema import Field, Namespace, Schema, ValueType

SCHEMA = Schema(
    attributes={"age": Field("age", ValueType.INT)},
    namespaces={"crm": Namespace("crm", trust=100)},
    purposes=("marketing", "profiling"),
)
MAPPING = """
mapping: people
source: crm_export
row: profile
identifiers: {crm: id}
attributes: {age: age}
consents:
  marketing:
    - {column: mail, channel: email, labels: {opt-in: true, opt-out: false, "?": null}, at: {column: day, zone: Europe/Lisbon}}
    - {column: all, at: {column: day}}
  profiling: {column: all, at: day}
"""
NOW = 1_790_000_000_000_000  # September 2026


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        opened.declare(SCHEMA, channels=("email", "sms"))
        yield opened


def bring(store: Store, path: Path, text: str, how: str = MAPPING) -> ImportReport:
    path.write_text("id,age,mail,all,day\n" + text)
    return Importer(store, mapping.parse(how.encode(), "m.yaml", SCHEMA), now=lambda: NOW).run(path)


def consents(store: Store, who: str) -> set[tuple[str, str, bool]]:
    found = store.profile([Identifier("crm", who)])
    assert found is not None
    return {(each.purpose, each.channel, each.granted) for each in found.consents}


def test_consents_are_imported_with_their_dates_and_again_changes_nothing(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    text = "a,1,opt-in,,2026-01-01\nb,2,opt-out,yes,2026-01-02\nc,3,?,,\n"
    report = bring(store, path, text)
    assert (report.applied, report.created, report.rejected) == (3, 3, 0)
    assert consents(store, "a") == {("marketing", "email", True)}
    assert consents(store, "b") == {("marketing", "email", False), ("marketing", "", True), ("profiling", "", True)}
    assert consents(store, "c") == set()
    assert bring(store, path, text).unchanged == 3


def test_a_consent_without_its_date_is_told_with_the_rows_other_bad_cells(store: Store, tmp_path: Path) -> None:
    """It was told only when the others had been mended and the file was imported again."""
    report = bring(store, tmp_path / "people.csv", "a,old,opt-in,yes,\nb,old,opt-in,,someday\nc,1,opt-in,,2030-01-01\nd,old,,,\n")
    assert (report.rejected, report.applied) == (4, 0)
    assert [(line, column) for line, column, _, _ in report.examples] == [
        (2, "age"), (2, "day"), (3, "age"), (3, "day"), (4, "day"), (5, "age"),
    ]


def test_of_a_row_that_is_skipped_nothing_is_rejected(store: Store, tmp_path: Path) -> None:
    """Its other cells were written down as rejects, and it was counted as skipped."""
    report = bring(store, tmp_path / "people.csv", ",old,opt-in,,\n", MAPPING + "without_identifier: skip\n")
    assert (report.skipped, report.rejected, report.examples, report.rejects) == (1, 0, [], None)


def test_a_newer_answer_stays_whatever_an_older_file_says(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    bring(store, path, "a,1,opt-in,,2026-01-01\n")
    store.apply(
        SetConsent(
            identifiers=(Identifier("crm", "a"),), purpose="marketing", channel="email", granted=False, at_us=NOW - 1
        )
    )
    assert bring(store, path, "a,1,opt-in,,2026-03-01\n").unchanged == 1
    assert consents(store, "a") == {("marketing", "email", False)}


def test_a_consent_without_a_date_or_of_the_future_rejects_its_row(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    report = bring(store, path, "a,1,opt-in,,\nb,1,opt-in,,2099-01-01\nc,1,maybe,,2026-01-01\nd,1,,,2099-01-01\n")
    assert report.reasons == {"CONSENT_UNDATED": 1, "CONSENT_AHEAD": 1, "NOT_A_BOOL": 1}
    assert (report.applied, [row[:3] for row in report.examples]) == (
        1, [(2, "day", ""), (3, "day", "2099-01-01"), (4, "mail", "maybe")],
    )


def test_a_consent_dated_ahead_by_a_clock_that_goes_ahead_can_be_withdrawn_now(store: Store, tmp_path: Path) -> None:
    soon = datetime.fromtimestamp((NOW + limits.AHEAD_US) / 1e6, UTC)
    bring(store, tmp_path / "people.csv", f"a,1,opt-in,,{soon:%Y-%m-%dT%H:%M:%SZ}\n")
    store.apply(
        SetConsent(
            identifiers=(Identifier("crm", "a"),), purpose="marketing", channel="email", granted=False, at_us=NOW + 1
        )
    )
    assert consents(store, "a") == {("marketing", "email", False)}


def test_a_channel_that_the_store_does_not_know_refuses_the_file(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match=r"m\.yaml:9:7: consent 'marketing' names channel 'emial'"):
        bring(store, tmp_path / "p.csv", "", MAPPING.replace("channel: email", "channel: emial"))
    assert schema_of(store.catalog).purposes == ("marketing", "profiling")


def test_a_file_with_sources_and_consents_applies_both_and_again_after_an_undo(tmp_path: Path) -> None:
    """Rows whose attributes have sources go by another way, which forgot the consents; so did rows kept for an undo."""
    schema = Schema(
        attributes={"age": Field("age", ValueType.INT, sources=("crm_export", "web"))},
        namespaces={"crm": Namespace("crm", trust=100)}, purposes=("marketing", "profiling"),
    )
    path = tmp_path / "people.csv"
    how = mapping.parse(MAPPING.encode(), "m.yaml", schema)
    with Store.open(tmp_path / "store") as opened:
        opened.declare(schema, channels=("email", "sms"))
        for who in "ab":
            opened.apply(Upsert(identifiers=(Identifier("crm", who),), attributes={"age": 1}, source="web", at_us=1))
        opened.apply(Join(identifiers=(Identifier("crm", "a"), Identifier("crm", "b")), at_us=NOW - 2))
        text = "b,2,opt-out,yes,2026-01-02\nc,3,?,,\nd,4,opt-in,,2026-01-03\n"
        path.write_text("id,age,mail,all,day\n" + text)
        report = Importer(opened, how, now=lambda: NOW).run(path)
        assert (report.applied, report.created, report.rejected) == (3, 2, 0)
        mine = {("marketing", "email", False), ("marketing", "", True), ("profiling", "", True)}
        assert consents(opened, "a") == mine
        assert consents(opened, "c") == set()
        assert consents(opened, "d") == {("marketing", "email", True)}
        found = opened.provenance([Identifier("crm", "d")])
        assert found is not None
        assert [(one.source, one.value) for one in found[0].origins] == [("crm_export", 4)]
        assert Importer(opened, how, now=lambda: NOW).run(path).unchanged == 3
        opened.apply(Unmerge(identifiers=(Identifier("crm", "a"),), at_us=NOW))
        assert (consents(opened, "a"), consents(opened, "b")) == (set(), mine)


def test_who_may_grant_is_declared_and_a_withdrawal_counts_from_anybody(store: Store, tmp_path: Path) -> None:
    schema = Schema(
        attributes=SCHEMA.attributes, namespaces=SCHEMA.namespaces, purposes=SCHEMA.purposes,
        grantors={"marketing": ("web", "crm_export")},
    )
    store.declare(schema)
    who = (Identifier("crm", "a"),)
    for source, says in (("spam_list", "source 'spam_list' may not grant it"), ("", "it was sent without a source")):
        with pytest.raises(SourceNotAllowed, match=f"Consent marketing: {says}"):
            store.apply(SetConsent(identifiers=who, purpose="marketing", granted=True, source=source, at_us=1))
    assert store.customer(who) is None
    store.apply(SetConsent(identifiers=who, purpose="marketing", granted=True, source="web", at_us=1))
    store.apply(SetConsent(identifiers=who, purpose="marketing", granted=False, source="spam_list", at_us=2))
    store.apply(SetConsent(identifiers=who, purpose="profiling", granted=True, at_us=2))
    assert consents(store, "a") == {("marketing", "", False), ("profiling", "", True)}
    # A mapping is refused before its file is read, from the program's declaration and from what the store knows of it.
    for known in (schema, schema_of(store.catalog)):
        mapping.parse(MAPPING.encode(), "m.yaml", known)
        with pytest.raises(MappingError) as refused:
            mapping.parse(MAPPING.replace("crm_export", "spam_list").encode(), "m.yaml", known)
        assert [str(problem) for problem in refused.value.problems] == [
            f"m.yaml:{line}:{column}: Source 'spam_list' may not grant consent 'marketing'. Its sources are web, crm_export."
            for line, column in ((9, 7), (10, 7))]
    only_withdrawals = """
mapping: m
source: spam_list
row: profile
identifiers: {crm: id}
attributes: {}
consents: {marketing: {column: mail, labels: {opt-out: false, opt-in: null}, at: day}}
"""
    mapping.parse(only_withdrawals.encode(), "m.yaml", schema)
    # Without the check of the mapping, as an old log may have it, the mutation itself is refused.
    with pytest.raises(SourceNotAllowed):
        bring(store, tmp_path / "x.csv", "b,1,opt-in,,2026-01-01\n", MAPPING.replace("crm_export", "spam_list"))
    assert store.customer([Identifier("crm", "b")]) is None
    store.declare(SCHEMA)
    store.apply(SetConsent(identifiers=who, purpose="marketing", granted=True, at_us=3))
    assert consents(store, "a") == {("marketing", "", True), ("profiling", "", True)}
