"""Files of every kind of badness through an import: what is refused, what is rejected and why, what is applied."""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma
import os
import stat
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from core import limits
from core.decision import Identifier
from core.errors import ImportRefused, Overloaded, StoreFull
from core.hub.catalog import Catalog
from core.hub.causes import CAUSE_NUMBERS, CAUSES
from core.hub.imports import ImportResult
from core.hub.mutations import RecordedEvent, RecordEvents, Upsert, decode, encode
from core.hub.store import Store
from core.importing import files, importer, mapping
from core.importing.importer import Importer, ImportReport, Progress, schema_of
from core.schema import EventType, Field, Money, Namespace, Normaliser, Schema, ValueType
from server.cli import importing, show

# When these imports run: 21 September 2026.
NOW = 1_790_000_000_000_000
NOT_A_NUMBER = CAUSES[CAUSE_NUMBERS["NOT_A_NUMBER"]][1]
SCHEMA = Schema(
    attributes={
        "age": Field("age", ValueType.INT),
        "balance": Field("balance", ValueType.MONEY, currency="EUR"),
        "tier": Field("tier", ValueType.ENUM, ("gold", "silver")),
        "vip": Field("vip", ValueType.BOOL),
        "name": Field("name", ValueType.STRING),
        "score": Field("score", ValueType.DOUBLE),
        "since": Field("since", ValueType.TIMESTAMP),
        "products": Field("products", ValueType.STRING_SET),
    },
    events={
        "purchase": EventType(
            "purchase",
            (
                Field("amount", ValueType.MONEY, currency="EUR"), Field("product", ValueType.STRING),
                Field("tier", ValueType.ENUM, ("gold", "silver")), Field("score", ValueType.DOUBLE),
                Field("gift", ValueType.BOOL), Field("pieces", ValueType.INT),
            ),
        )
    },
    namespaces={"crm": Namespace("crm", trust=100), "email": Namespace("email", Normaliser.LOWER, trust=50)},
)

PEOPLE = """
mapping: people
source: files
row: profile
identifiers: {crm: id}
attributes: {age: age, balance: balance, name: name}
"""
BUYS = """
mapping: buys
source: shop
row: event
identifiers: {crm: id}
event: purchase
at: at
key: order
fields: {amount: amount, product: product, tier: tier}
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        opened.declare(SCHEMA)
        yield opened


def run(store: Store, text: str, path: Path, data: bytes, **options: Any) -> ImportReport:
    path.write_bytes(data)
    return Importer(store, mapping.parse(text.encode(), "m.yaml", SCHEMA), now=lambda: NOW).run(path, **options)


def rejected(report: ImportReport) -> list[tuple[int, str, str, str]]:
    assert report.rejects is not None
    with report.rejects.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["line", "column", "value", "reason"]
    return [(int(line), column, value, reason) for line, column, value, reason in rows[1:]]


def attributes(store: Store, value: str, namespace: str = "crm") -> Mapping[str, object] | None:
    found = store.profile([Identifier(namespace, value)])
    return None if found is None else dict(found.attributes)


def dump(store: Store) -> list[tuple[bytes, bytes]]:
    with store.environment.reader() as reader:
        return [item for name in ("profiles", "events", "identifiers") for item in reader.items(name)]


def test_bad_rows_are_rejected_whole_with_line_column_value_and_reason(store: Store, tmp_path: Path) -> None:
    data = (
        b"id,age,balance,name\n"
        b"c1,40,12.50,Ann\n"
        b"c2,forty,1.999,Bob\n"  # two bad cells: both are told
        b"c3,1\n"
        b"c4,1,2,3,4\n"
        b"\n"
        b',40,1.00,"a\nb"\n'  # two lines
        b"c5,41,1.00,\xff\n"
        b"c6,41,1.00,a\x00b\n"
        b'c7,1,1.00,"x"y\n'
        b"c8,41,1.00," + b"n" * 1025 + b"\n"
        b"c9,42,-0.01,\"Zo\xc3\xab \"\"Z\"\"\"\r\n"
    )
    report = run(store, PEOPLE, tmp_path / "people.csv", data)
    assert (report.rows, report.applied, report.rejected, report.created) == (10, 2, 8, 2)
    assert report.reasons == {
        "NOT_A_NUMBER": 1, "ROW_LENGTH": 2, "NO_IDENTIFIER": 1, "NOT_UTF8": 1, "NUL_BYTE": 1, "TEXT_AFTER_QUOTE": 1,
        "TEXT_TOO_LONG": 1,
    }
    told = rejected(report)
    assert [(line, column, value) for line, column, value, _ in told] == [
        (3, "age", "forty"), (3, "balance", "1.999"), (4, "", "c3,1"), (5, "", "c4,1,2,3,4"), (7, "", ""),
        (9, "name", "\\xff"), (10, "name", "a\\x00b"), (11, "", 'c7,1,1.00,"x"y'), (12, "name", "n" * 77 + "..."),
    ]
    assert told[1][3].startswith("more decimals than the currency has")
    assert told[2][3] == "the row has 2 cells, the header 4"
    assert told[8][3] == "1025 bytes are more than a text may have"
    assert attributes(store, "c2") is None
    assert attributes(store, "c9") == {"age": 42, "balance": Money(-1, "EUR"), "name": 'Zoë "Z"'}
    assert report.rejects is not None
    assert stat.S_IMODE(report.rejects.stat().st_mode) == 0o600


def test_a_quote_that_is_never_closed_loses_one_line_only(store: Store, tmp_path: Path) -> None:
    # Read as RFC 4180 has it, the first open quote would swallow everything up to the next quote, or the whole file.
    rows = b"".join(b"d%d,1,1.00,x\n" % number for number in range(20_000))
    data = b'id,age,balance,name\nc1,1,1.00,"Ann\n' + rows + b'c2,1,1.00,"Bob\nc3,1,1.00,Cyd\n'
    report = run(store, PEOPLE, tmp_path / "people.csv", data)
    assert (report.rows, report.applied) == (20_003, 20_001)
    told = [(line, value) for line, _, value, _ in rejected(report)]
    assert told == [(2, 'c1,1,1.00,"Ann'), (20_003, 'c2,1,1.00,"Bob')]
    assert report.reasons == {"QUOTE_OPEN": 2}
    assert attributes(store, "c3") is not None


def test_a_huge_row_is_rejected_and_the_next_one_read(store: Store, tmp_path: Path) -> None:
    data = b"id,age,balance,name\nc1,1,1.00," + b"x" * (12 << 20) + b"\nc2,2,2.00,Bob\n"
    report = run(store, PEOPLE, tmp_path / "people.csv", data)
    assert (report.applied, report.reasons) == (1, {"ROW_TOO_LONG": 1})
    assert [line for line, *_ in rejected(report)] == [2]
    assert attributes(store, "c2") == {"age": 2, "balance": Money(200, "EUR"), "name": "Bob"}


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "the file is empty"),
        (b"\n\n", "the file is empty"),
        (b"id,age,balanc,name\n", r"'balance' \(m.yaml:6:33\), perhaps 'balanc'"),
        (b"id;age;balance;name\nc1;1;1;x\n", "';' in it: is that the delimiter"),
        (b"c1,40,12.50,Ann\nc2,41,1.00,Bob\n", "these columns are not in the file: 'id'"),
        (b"sep=,\nid,age,balance,name\n", "Line 1 may not be the header: it names the delimiter to Excel"),
        (b"sep=;\r\nid;age;balance;name\r\n", "Line 1 may not be the header: it names the delimiter to Excel"),
        (b"id,age,age,balance,name\n", "column 'age' 2 times"),
        (gzip.compress(gzip.compress(b"id,age,balance,name\n", mtime=0), mtime=0), "packed twice: within gzip there is gzip"),
        (gzip.compress(bz2.compress(b"id,age,balance,name\n"), mtime=0), "packed twice: within gzip there is bzip2"),
        (b"\xff\xfei\x00d\x00,\x00", "not UTF-8.*begins as UTF-16 does: say encoding: utf-16"),
        (b"i\x00d\x00,\x00\n", "NUL byte"),
        (b"x" * (5 << 20), "no line end in its first 4 MiB"),
        (b'id,"age"x,balance,name\n', "its header is not CSV"),
        (b"id,age,balance,name\r1,30,,Ana\r2,31,,Rui\r", "its lines end in CR alone"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_before_anything_is_written(
    store: Store, tmp_path: Path, data: bytes, told: str
) -> None:
    before = store.applied
    with pytest.raises(ImportRefused, match=told):
        run(store, PEOPLE, tmp_path / "people.csv", data)
    assert store.applied == before
    assert not (tmp_path / "people.csv.rejects.csv").exists()


def test_a_header_alone_is_an_import_of_nothing(store: Store, tmp_path: Path) -> None:
    report = run(store, PEOPLE, tmp_path / "people.csv", b"id,age,balance,name")
    assert (report.rows, report.applied, report.rejects) == (0, 0, None)


def zstd(data: bytes) -> bytes:
    packed = pa.BufferOutputStream()
    with pa.CompressedOutputStream(packed, "zstd") as stream:
        stream.write(data)
    return packed.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("ending", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress), (".zst", zstd)]
)
def test_packed_files_are_unpacked_and_damaged_ones_refused_unwritten(
    store: Store, tmp_path: Path, ending: str, pack: Any
) -> None:
    data = b"id,age,balance,name\n" + b"".join(b"c%d,1,1.00,x\n" % number for number in range(30_000))
    path = tmp_path / f"people.csv{ending}"
    with pytest.raises(ImportRefused, match=r"cannot be unpacked|cannot be read"):
        run(store, PEOPLE, path, pack(data)[:-20])
    with pytest.raises(ImportRefused, match=r"cannot be unpacked as .*: it was cut off; nothing of it was imported"):
        run(store, PEOPLE, path, pack(data)[: len(pack(data)) // 2])
    with pytest.raises(ImportRefused, match=r"as .*: it (is damaged|was cut off).*; nothing of it was imported"):
        run(store, PEOPLE, path, pack(data)[:-5000] + bytes(2000))
    assert store.customer_count() == 0
    assert run(store, PEOPLE, path, pack(data)).created == 30_000
    # What a file is, its content tells: packed without an ending, and not packed in spite of one.
    assert run(store, PEOPLE, tmp_path / "people", pack(data)).unchanged == 30_000
    assert run(store, PEOPLE, path, data).unchanged == 30_000
    # Two packed files one after another are one, as the packers' own tools have it.
    half = data.index(b"c15000,")
    assert run(store, PEOPLE, path, pack(data[:half]) + pack(data[half:])).unchanged == 30_000


def test_other_encodings_are_read_as_declared(store: Store, tmp_path: Path) -> None:
    table = "id,age,balance,name\nc1,1,1.00,Zoë\n"
    report = run(store, "encoding: utf-16" + PEOPLE, tmp_path / "a.csv", table.encode("utf-16"))
    assert (report.applied, attributes(store, "c1")) == (1, {"age": 1, "balance": Money(100, "EUR"), "name": "Zoë"})
    assert run(store, "encoding: cp1252" + PEOPLE, tmp_path / "b.csv", table.encode("cp1252")).unchanged == 1
    assert run(store, PEOPLE, tmp_path / "c.csv", b"\xef\xbb\xbf" + table.encode()).unchanged == 1
    with pytest.raises(ImportRefused, match=r"cut off, or it is not utf-16: it ends within a character, at byte 69\.") as refused:
        run(store, "encoding: utf-16" + PEOPLE, tmp_path / "d.csv", table.encode("utf-16")[:-1])
    assert refused.value.hint == "Send the whole file again. The mapping says encoding: utf-16. Is the file's that?"


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "shift_jis"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("block", [7, 1000, 4 << 20])
def test_a_byte_that_is_not_of_the_encoding_is_told_by_its_place_in_the_file(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, pack: Any, block: int
) -> None:
    """It was the place within a block, with the advice to name an encoding."""
    monkeypatch.setattr(files, "BLOCK_BYTES", block)
    good = ("id,age,balance,name\n" + "c1,1,1.00,Zo\n" * 500 + "c2,1,1.00,").encode(encoding)
    wrong = {"cp1252": b"\x81", "utf-16": b"\x00\xdc", "shift_jis": b"\xfd"}[encoding]
    path = tmp_path / "people.csv"
    with pytest.raises(ImportRefused) as refused:
        run(store, f"encoding: {encoding}" + PEOPLE, path, pack(good + wrong + "\n".encode(encoding).removeprefix(b"\xff\xfe")))
    packed = "" if pack is bytes else " once it is unpacked"
    assert f": byte {len(good) + 1:,}, 0x{wrong[0]:02x} in line 502, is none of it{packed}." in refused.value.message
    assert refused.value.hint == f"The mapping says encoding: {encoding}. Is the file's that?"
    assert store.customer_count() == 0


def test_what_is_neither_true_nor_false_is_told_with_what_would_say_it(store: Store, tmp_path: Path) -> None:
    text = PEOPLE.replace("name: name", "name: name, vip: vip")
    report = run(store, text, tmp_path / "p.csv", b"id,age,balance,name,vip\nc1,,,,ja\n")
    ((*_, reason),) = rejected(report)
    assert "labels: {ja: true, nein: false}" in reason


def test_what_is_missing_is_kept_or_cleared_as_declared(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    run(store, PEOPLE, path, b"id,age,balance,name\nc1,40,1.00,Ann\n")
    report = run(store, PEOPLE, path, b"id,age,balance,name\nc1,,2.00,\n")
    assert (report.changed, report.created) == (1, 0)
    assert attributes(store, "c1") == {"age": 40, "balance": Money(200, "EUR"), "name": "Ann"}
    run(store, PEOPLE + "when_missing: clear\n", path, b"id,age,balance,name\nc1,,2.00,\n")
    assert attributes(store, "c1") == {"balance": Money(200, "EUR")}


def test_blanks_are_no_identifier_and_no_text(store: Store, tmp_path: Path) -> None:
    """Two people with padded empty customer numbers became one, whose name was the later one's."""
    data = "id,age,balance,name\n   ,1,,Ann\n\t,2,,Bob\n\u00a0,3,,Cy\nc1 ,4,,Dee\n c1,5,,   \n c2,6,,n/a \n".encode()
    report = run(store, PEOPLE + "missing: [n/a]\n", tmp_path / "people.csv", data, rejects=tmp_path / "rejects.csv")
    assert (report.created, report.changed, report.rejected) == (2, 1, 3)
    assert [reason.split(":")[0] for _, _, _, reason in rejected(report)] == ["no identifier"] * 3
    assert attributes(store, "c1") == {"age": 5, "name": "Dee"}
    assert attributes(store, "c2") == {"age": 6}


def test_a_dry_run_that_is_ended_before_its_first_row_wrote_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """It was told that the same command adds the rest."""
    importing._say_interrupted(Path("people.csv"), None, dry=True)
    assert "nothing was written, for this was a dry run" in " ".join(capsys.readouterr().err.split())


def test_identifiers_of_two_namespaces(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = PEOPLE.replace("{crm: id}", "{email: mail, crm: id}").replace(", balance: balance", "")
    data = b"id,mail,age,name\nc1,Ann@X.org,40,Ann\n,ann@x.org ,41,\nc2,ann@x.org,50,Bob\n,bob@x.org,60,\n,,1,\n"
    report = run(store, text, tmp_path / "people.csv", data)
    # The third row is c2's by its most trusted identifier only if that is known; it is not, so the address decides.
    assert (report.created, report.changed, report.rejected, report.contested) == (2, 2, 1, 0)
    assert attributes(store, "c1") == {"age": 50, "name": "Bob"}
    assert store.customer([Identifier("crm", "c1")]) == store.customer([Identifier("crm", "c2")])
    again = run(store, text, tmp_path / "more.csv", b"id,mail,age,name\nc1,bob@x.org,70,\n")
    assert (again.contested, again.contested_lines, again.changed) == (1, [2], 1)
    # Which column it was, one had to guess.
    monkeypatch.setattr(show.err, "width", 200)
    importing._say(again, [])
    assert capsys.readouterr().err == "  1 identifier of email (column mail) belongs to another and stayed there: line 2\n"
    assert attributes(store, "bob@x.org", "email") == {"age": 60}


def test_an_identifier_that_stands_in_for_another_is_nobodys_where_that_one_is_known(store: Store, tmp_path: Path) -> None:
    """A receipt's number is whose only where the row names nobody: a customer must not gather all her receipts' numbers."""
    identifiers = "{email: {column: receipt, prefix: anon-, unless: crm}, crm: id}"
    text = PEOPLE.replace("{crm: id}", identifiers).replace(", balance: balance", "")
    data = b"id,receipt,age,name\nc1,r1,40,Ann\n,r2,41,\nc1,r3,50,Ann\n,r2,,Bob\n,,1,\n"
    report = run(store, text, tmp_path / "people.csv", data)
    assert (report.created, report.applied, report.rejected, report.contested) == (2, 4, 1, 0)
    assert attributes(store, "c1") == {"age": 50, "name": "Ann"}
    assert attributes(store, "anon-r2", "email") == {"age": 41, "name": "Bob"}
    for receipt in ("anon-r1", "anon-r3", "r2"):
        assert store.customer([Identifier("email", receipt)]) is None


def test_rows_without_identifier_are_skipped_where_the_mapping_says_so(store: Store, tmp_path: Path) -> None:
    data = b"id,age,balance,name\n,1,1.00,x\nc1,1,1.00,x\n"
    report = run(store, PEOPLE + "without_identifier: skip\n", tmp_path / "people.csv", data)
    assert (report.rows, report.applied, report.skipped, report.rejected) == (2, 1, 1, 0)
    assert report.rejects is None


EVENTS = (
    b"order,id,at,amount,product,tier\n"
    b"o1,c1,2026-01-02T10:00:00Z,10.00,tea,gold\n"
    b"o2,c1,2026-01-01T10:00:00Z,5.00,,\n"
    b"o3,c2,2026-01-01T11:00:00Z,1.00,cup,silver\n"
    b"o1,c1,2026-01-02T10:00:00Z,10.00,tea,gold\n"  # twice in one file
    b",c1,2026-01-02T10:00:00Z,1.00,pot,gold\n"
    b"o4,c1,,1.00,pot,gold\n"
    b"o5,c1,soon,1.00,pot,brass\n"
)


def test_events_that_a_full_history_does_not_keep_are_rejected(store: Store, tmp_path: Path) -> None:
    """They counted as known before."""
    began = datetime(2026, 1, 1, tzinfo=UTC)
    rows = limits.EVENTS_PER_CUSTOMER + 50
    lines = [f"o{number},c1,{(began - timedelta(minutes=number)).isoformat()},1.00,x,\n" for number in range(rows)]
    data = ("order,id,at,amount,product,tier\n" + "".join(lines)).encode()
    for changed in (True, False):
        report = run(store, BUYS, tmp_path / "buys.csv", data)
        kept = report.changed if changed else report.unchanged
        assert report.reasons == {"HISTORY_FULL": rows - kept}
        assert (report.applied, report.rejected) == (kept, rows - kept)
    buyer = store.profile((Identifier("crm", "c1"),), newest=1)
    assert buyer is not None
    assert buyer.events_kept == kept


def test_events_from_the_future_are_rejected_as_calls_refuse_them(store: Store, tmp_path: Path) -> None:
    """A year typed wrong, or a day and month exchanged, put events into the future, where they counted in every window until
    their time had passed. A call that dates an event so is refused; times of attributes may lie ahead, as due dates do."""
    data = (
        b"order,id,at,amount,product,tier\n"
        b"o1,c1,2026-09-21T14:18:00Z,1.00,tea,gold\n"  # a clock that runs ahead
        b"o2,c1,2026-09-21T14:19:00Z,2.00,tea,gold\n"
        b"o3,c1,2062-01-01T00:00:00Z,3.00,tea,gold\n"
        b"o4,c1,2026-09-21T16:18:00+02:00,4.00,tea,gold\n"
        b"o5,c1,2026-09-21T16:18:20,5.00,tea,gold\n"  # in the mapping's zone
        b"o6,c1,2026-09-21T16:18:21,6.00,tea,gold\n"
    )
    zoned = BUYS.replace("at: at", "at: {column: at, zone: Europe/Berlin}")
    report = run(store, zoned, tmp_path / "buys.csv", data)
    assert (report.applied, report.reasons) == (3, {"IN_THE_FUTURE": 3})
    assert [(line, column) for line, column, *_ in rejected(report)] == [(3, "at"), (4, "at"), (7, "at")]
    assert all("lies in the future" in reason for *_, reason in rejected(report))
    buyer = store.profile((Identifier("crm", "c1"),))
    assert buyer is not None
    assert max(event.at_us for event in buyer.events) == NOW  # which a window of the next decision holds
    people = PEOPLE.replace("age: age", "since: since")
    report = run(store, people, tmp_path / "people.csv", b"id,since,balance,name\nc2,2062-01-01T00:00:00Z,,\n")
    assert (report.applied, report.rejected) == (1, 0)


def test_events_past_their_types_retention_are_rejected_as_such(store: Store, tmp_path: Path) -> None:
    """They would have counted as known already, which they are not; stored ones go with the next import of the customer."""
    assert run(store, BUYS, tmp_path / "buys.csv", EVENTS).changed == 3
    kept = EventType("purchase", SCHEMA.events["purchase"].fields, retention_us=300 * 86_400_000_000)
    store.declare(replace(SCHEMA, events={"purchase": kept}))
    data = b"order,id,at,amount,product,tier\no6,c1,2025-11-25T14:13:20Z,1.00,,\no7,c1,2025-11-25T14:13:20.000001Z,2.00,,\n"
    report = run(store, BUYS, tmp_path / "more.csv", data)
    assert (report.changed, report.unchanged, report.reasons) == (1, 0, {"PAST_RETENTION": 1})
    assert [(line, "older than events" in reason) for line, _, _, reason in rejected(report)] == [(2, True)]
    found = store.profile([Identifier("crm", "c1")])
    assert found is not None
    assert len(found.events) == 3
    store.declare(replace(SCHEMA, events={"purchase": replace(kept, retention_us=200 * 86_400_000_000)}))
    data = b"order,id,at,amount,product,tier\no8,c1,2026-09-01T00:00:00Z,1.00,,\n"
    assert run(store, BUYS, tmp_path / "last.csv", data).changed == 1
    found = store.profile([Identifier("crm", "c1")])
    assert found is not None
    assert [event.at_us for event in found.events] == [1_788_220_800_000_000]


def test_what_is_wrong_with_a_number_or_a_time_is_told_as_it_is(store: Store, tmp_path: Path) -> None:
    """An event without a time was told that the mapping says required, which it does not."""
    report = run(store, BUYS, tmp_path / "buys.csv", EVENTS)
    assert (7, "at", "", "missing: every event has a time") in rejected(report)
    ages = b"id,age,balance,name\nc1,99999999999999999999,1.00,\nc2,1e30,1.00,\nc3,1,92233720368547758.08,\n"
    report = run(store, PEOPLE, tmp_path / "people.csv", ages)
    assert report.reasons == {"OUT_OF_RANGE": 3}
    assert {reason for *_, reason in rejected(report)} == {
        "too large to be stored: whole numbers and amounts in minor units end at 64 bits"
    }


def test_a_date_that_is_none_is_told_with_what_to_write(store: Store, tmp_path: Path) -> None:
    people = PEOPLE.replace("{age: age, balance: balance, name: name}", "{since: {column: since, zone: Europe/Lisbon}}")
    path = tmp_path / "people.csv"
    report = run(store, people, path, b"id,since\nc1,2010-07-01\nc2,01.07.2010\nc3,2010-06-31\n")
    assert report.applied == 1
    assert attributes(store, "c1") == {"since": datetime(2010, 6, 30, 23, tzinfo=UTC)}
    bad, none = rejected(report)
    assert bad[:3] == (3, "since", "01.07.2010")
    assert bad[3].startswith("neither a date as 2026-11-27 nor a time as 2026-11-27 09:30:00, and the mapping declares no other")
    assert none == (4, "since", "2010-06-31", "no such date or time of day")
    written = people.replace("zone:", "format: '%d.%m.%Y', zone:")
    report = run(store, written, path, b"id,since\nc1,2010-07-01\nc2,01.07.2010\n")
    assert attributes(store, "c2") == attributes(store, "c1")
    assert rejected(report) == [(2, "since", "2010-07-01", "does not have the format that the mapping declares, %d.%m.%Y")]


def test_events_count_once_by_their_key(store: Store, tmp_path: Path) -> None:
    report = run(store, BUYS, tmp_path / "buys.csv", EVENTS)
    assert (report.rows, report.applied, report.changed, report.unchanged, report.created) == (7, 4, 3, 1, 2)
    assert report.reasons == {"NO_KEY": 1, "MISSING": 1, "NOT_A_TIME": 1}
    told = [(line, column) for line, column, _, _ in rejected(report)]
    assert told == [(6, "order"), (7, "at"), (8, "at"), (8, "tier")]
    found = store.profile([Identifier("crm", "c1")])
    assert found is not None
    assert [dict(event.fields) for event in found.events] == [
        {"amount": Money(500, "EUR")}, {"amount": Money(1000, "EUR"), "product": "tea", "tier": "gold"},
    ]
    before = dump(store)
    again = run(store, BUYS, tmp_path / "buys.csv", EVENTS)
    assert (again.changed, again.unchanged, again.created) == (0, 4, 0)
    assert dump(store) == before


def test_an_imported_event_and_the_same_sent_alone_are_one(store: Store, tmp_path: Path) -> None:
    run(store, BUYS, tmp_path / "buys.csv", EVENTS)
    at = 1_767_348_000_000_000
    event = RecordedEvent(type="purchase", key="o1", at_us=at, fields={"amount": Money(1000, "EUR")})
    result = store.apply(RecordEvents(identifiers=(Identifier("crm", "c1"),), events=(event,)))
    assert result.applied == (False,)


def test_rows_that_repeat_all_count_when_the_row_is_the_key(store: Store, tmp_path: Path) -> None:
    text = BUYS.replace("key: order", "key: row_number").replace("at: at", "at: {column: at, missing: [soon]}")
    report = run(store, text, tmp_path / "buys.csv", EVENTS)
    assert report.changed == 5
    # The same rows under the same name, packed, are the same file; under another name they are another.
    assert run(store, text, tmp_path / "buys.csv.gz", gzip.compress(EVENTS, mtime=0)).unchanged == 5
    assert run(store, text, tmp_path / "february.csv", EVENTS).changed == 5


def test_imported_rows_equal_the_same_rows_sent_one_by_one(tmp_path: Path) -> None:
    people = b"id,age,balance,name\nc1,40,1.00,Ann\nc2,,2.00,\nc1,41,,Bea\nc3,,,\n"
    with Store.open(tmp_path / "one") as one, Store.open(tmp_path / "two") as two:
        for store in (one, two):
            store.declare(SCHEMA)
        run(one, PEOPLE, tmp_path / "people.csv", people)
        run(one, BUYS, tmp_path / "buys.csv", EVENTS)
        for row in csv.DictReader(people.decode().splitlines()):
            values: dict[str, Any] = {}
            if row["age"]:
                values["age"] = int(row["age"])
            if row["balance"]:
                values["balance"] = Money(round(float(row["balance"]) * 100), "EUR")
            if row["name"]:
                values["name"] = row["name"]
            named = (Identifier("crm", row["id"]),)
            two.apply(Upsert(identifiers=named, attributes=values, source="files", at_us=NOW))
        for row in list(csv.DictReader(EVENTS.decode().splitlines()))[:4]:
            fields: dict[str, Any] = {"amount": Money(round(float(row["amount"]) * 100), "EUR")}
            fields |= {name: row[name] for name in ("product", "tier") if row[name]}
            at = {"o1": 1_767_348_000, "o2": 1_767_261_600, "o3": 1_767_265_200}[row["order"]] * 1_000_000
            event = RecordedEvent(type="purchase", key=row["order"], at_us=at, fields=fields)
            two.apply(RecordEvents(identifiers=(Identifier("crm", row["id"]),), events=(event,)))
        assert dump(one) == dump(two)


def test_json_lines(store: Store, tmp_path: Path) -> None:
    text = """
mapping: objects
source: files
format: jsonl
row: profile
identifiers: {crm: who.id}
attributes:
  age: age
  balance: {column: balance, missing: "-"}
  tier: tier
  vip: vip
  name: name
  score: dotted.name
  since: since
  products: products
"""
    data = (
        b'{"who": {"id": "c1"}, "age": 40, "balance": 12.5, "tier": "gold", "vip": true, "name": "Zo\\u00eb \\"Z\\"",'
        b' "dotted.name": 0.1, "since": "2026-01-01", "products": ["b", "a, c"]}\n'
        b'{"who": {"id": 17850}, "age": null, "balance": "-", "vip": false, "name": ""}\n'
        b'{"who": {"id": "c3"}, "age": 4\n'
        b"[1, 2]\n"
        b"\n"
        b'{"who": {"id": "c4"}, "name": {"first": "Ann"}}\n'
        b'{"who": "c5", "age": 1}\n'
        b'{"who": {"id": "c6"}, "age": "x", "products": [1]}\n'
        b'{"who": {"id": "c7"}, "name": "' + b"x" * (2 << 20) + b'"}\n'
        b'{"who": {"id": "c8"}, "name": "\xff"}\n'
        b'{"who": {"id": "c9"}, "age": 9}'
    )
    report = run(store, text, tmp_path / "people.jsonl", data)
    assert (report.rows, report.applied) == (10, 3)
    assert [(line, reason) for line, _, _, reason in rejected(report)] == [
        (3, "not JSON"), (4, "JSON, but not an object"), (6, "an object or array where a plain value is expected"),
        (7, "no identifier: whose row it is cannot be told"), (8, "an object or array where a plain value is expected"),
        (8, NOT_A_NUMBER), (9, "the row is longer than 1048576 bytes"),
        (10, "the cell is not UTF-8: is the mapping's encoding right?"),
    ]
    assert attributes(store, "c1") == {
        "age": 40, "balance": Money(1250, "EUR"), "tier": "gold", "vip": True, "name": 'Zoë "Z"', "score": 0.1,
        "since": attributes(store, "c1")["since"], "products": frozenset({"b", "a, c"}),  # type: ignore[index]
    }
    assert attributes(store, "17850") == {"vip": False}
    assert attributes(store, "c9") == {"age": 9}
    assert report.unseen == ()


@pytest.mark.parametrize("nested", [b"[" * 30_000 + b"]" * 30_000, b'{"a":' * 30_000 + b"1" + b"}" * 30_000])
@pytest.mark.parametrize("key", ["age", "other"])
def test_a_line_that_is_nested_too_deeply_is_rejected(store: Store, tmp_path: Path, nested: bytes, key: str) -> None:
    """It ended the whole import in a RecursionError, also under a key that the mapping does not name."""
    data = b'{"id": "c1", "%s": %s}\n{"id": "c2", "name": "x"}\n' % (key.encode(), nested)
    report = run(store, "format: jsonl" + PEOPLE, tmp_path / "p.jsonl", data)
    assert (report.rows, report.applied, report.reasons) == (2, 1, {"NOT_JSON": 1})
    assert [(line, reason) for line, *_, reason in rejected(report)] == [(1, "objects and arrays are nested too deeply in it")]
    report = run(store, PEOPLE, tmp_path / "alone.jsonl", data.split(b"\n")[0])
    assert (report.rows, report.rejected) == (1, 1)


def test_a_column_that_no_object_has_is_told(store: Store, tmp_path: Path) -> None:
    data = b'{"id": "c1", "aeg": 3, "name": "x", "balance": 1}\n'
    report = run(store, "format: jsonl" + PEOPLE, tmp_path / "p.jsonl", data)
    assert report.unseen == ("age",)


@pytest.mark.parametrize(
    ("data", "problem", "hint"),
    [
        (b'[{"id": "c1", "age": 3}]\n', "it is a JSON array", "one object a line"),
        (b'\xef\xbb\xbf [\n  {"id": "c1"},\n  {"id": "c2"}\n]\n', "it is a JSON array", "jq -c '.[]'"),
        (b"PK\x03\x04\x14\0\0\0\x08\0c.csv", "it is a zip archive", "unzip"),
        (b"\x1f\x8b\x07 the rest of it is lost", "cannot be unpacked as gzip: it is damaged", "again"),
        (gzip.compress(b"id,age,balance,name\n", mtime=0) + b"trailer", "something that is no gzip follows its end", "again"),
    ],
)
def test_what_a_file_is_instead_of_a_table_is_told(
    store: Store, tmp_path: Path, data: bytes, problem: str, hint: str
) -> None:
    """It was taken for CSV: "these columns are not in the file", or "its header is not UTF-8: name its encoding"."""
    with pytest.raises(ImportRefused, match=problem) as refused:
        run(store, PEOPLE, tmp_path / "people.csv", data)
    assert hint in refused.value.hint
    bracketed = PEOPLE.replace("age: age", "age: '[age]'")
    assert run(store, bracketed, tmp_path / "p", b"[age],id,balance,name\n3,c1,1.00,x\n").applied == 1


def test_a_json_array_is_no_json_lines(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match="one object a line"):
        run(store, "format: jsonl" + PEOPLE, tmp_path / "p.jsonl", b'[\n{"id": "c1"},\n{"id": "c2"}\n]\n')
    assert store.customer_count() == 0


def test_progress_reaches_the_end_and_never_falls(store: Store, tmp_path: Path) -> None:
    seen: list[Progress] = []
    data = b"id,age,balance,name\n" + b"".join(b"c%d,1,1.00,x\n" % number for number in range(10_000))
    run(store, PEOPLE, tmp_path / "people.csv", data, progress=seen.append)
    assert seen[-1] == Progress(len(data), len(data), 10_000)
    assert [each.rows for each in seen] == sorted(each.rows for each in seen)
    assert len(seen) > 2


@pytest.mark.parametrize("form", ["csv", "csv.gz", "jsonl", "parquet"])
def test_progress_is_of_the_rows_whose_fate_is_known(form: str, tmp_path: Path) -> None:
    """It was of the bytes read, which go blocks ahead: 82 % where a server had 28 % of the rows."""
    count = 20_000
    data = b"id,age\n" + b"".join(b"c%d,1\n" % number for number in range(count))
    if form == "jsonl":
        data = b"".join(b'{"id": "c%d", "age": 1}\n' % number for number in range(count))
    path = tmp_path / f"people.{form}"
    if form == "parquet":
        pyarrow.parquet.write_table(pa.table({"id": [f"c{number}" for number in range(count)], "age": [1] * count}), path)
    else:
        path.write_bytes(gzip.compress(data, mtime=0) if form == "csv.gz" else data)
    seen: list[Progress] = []
    text = PEOPLE.replace("balance: balance, name: name", "").replace("age: age, ", "age: age")
    read = mapping.parse(text.encode(), "m.yaml", SCHEMA)
    slow = _Slow(Catalog().declared(SCHEMA), seen)
    Importer(slow, read, now=lambda: NOW, batch_rows=1000).run(path, progress=seen.append)
    assert len(seen) > 10
    assert (seen[-1].rows, seen[-1].bytes_done) == (count, path.stat().st_size)
    for each in seen:
        assert each.rows in (0, count) or abs(each.bytes_done / each.bytes_total - each.rows / count) < 0.05, each
    assert slow.most_ahead <= 2000


class _Slow:
    """A store whose answers are waited for; it notes how far behind them progress was told."""

    def __init__(self, catalog: Catalog, seen: list[Progress]) -> None:
        self.catalog = catalog
        self.rows = 0
        self.seen = seen
        self.most_ahead = 0

    def submit(self, mutation: Any) -> Future[ImportResult]:
        if self.seen:
            assert self.seen[-1].rows <= self.rows
            self.most_ahead = max(self.most_ahead, self.rows - self.seen[-1].rows)
        self.rows += mutation.rows
        done: Future[ImportResult] = Future()
        done.set_result(ImportResult(mutation.rows, 0, 0))
        return done


def test_the_rejects_file_of_an_earlier_run_does_not_stay(store: Store, tmp_path: Path) -> None:
    path, rejects = tmp_path / "people.csv", tmp_path / "bad.csv"
    assert run(store, PEOPLE, path, b"id,age,balance,name\n,1,1,x\n", rejects=rejects).rejects == rejects
    assert run(store, PEOPLE, path, b"id,age,balance,name\nc1,1,1,x\n", rejects=rejects).rejects is None
    assert not rejects.exists()
    with pytest.raises(ImportRefused, match="would replace the file"):
        run(store, PEOPLE, path, b"id,age,balance,name\n", rejects=path)
    # By another spelling, too; nor anything else that is not the rejects of an import before: notes, a store, a device.
    spelled = path.parent / ".." / path.parent.name / path.name
    notes = tmp_path / "notes.txt"
    notes.write_text("line by line\n")
    device = tmp_path / "pipe"
    os.mkfifo(device)
    astray = tmp_path / "astray"
    astray.symlink_to(tmp_path / "nothing")
    for place, problem in (
        (spelled, "would replace the file"), (notes, "something else"), (device, "something else"), (astray, "something else"),
    ):
        with pytest.raises(ImportRefused, match=problem):
            run(store, PEOPLE, path, b"id,age,balance,name\n,1,1,x\n", rejects=place)
        assert os.path.lexists(place)
    assert store.customer_count() == 1
    assert notes.read_text() == "line by line\n"
    with pytest.raises(ImportRefused, match="there is no folder"):
        run(store, PEOPLE, path, b"id,age,balance,name\nc1,1,1,x\n", rejects=tmp_path / "nowhere" / "bad.csv")
    with pytest.raises(ImportRefused, match="the file cannot be read"):
        Importer(store, mapping.parse(PEOPLE.encode(), "m.yaml", SCHEMA)).run(tmp_path / "none.csv")


def test_a_rejects_file_that_takes_no_more_ends_the_import_with_what_is_there(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It said "The output could not be written; what was done stands", and neither of which file nor how many rows stand."""
    rejects, real = tmp_path / "rejects.csv", os.open

    def opened(path: Any, *more: Any) -> int:
        return real("/dev/full", os.O_WRONLY) if path == rejects else real(path, *more)

    monkeypatch.setattr(os, "open", opened)
    good = b"".join(b"c%d,1,1.00,x\n" % number for number in range(5000))
    with pytest.raises(ImportRefused, match=r"the rejects file cannot be written: No space left on device; [1-9]") as refused:
        run(store, PEOPLE, tmp_path / "p.csv", b"id,age,balance,name\n" + good + b"c1,old,1.00,x\n" + good, rejects=rejects)
    assert str(refused.value).startswith(f"{rejects}: ")
    assert f"; {store.customer_count()} rows before that are in the store" in str(refused.value)


def test_a_mapping_can_be_checked_against_the_store_alone(store: Store) -> None:
    assert mapping.parse(PEOPLE.encode(), "m.yaml", schema_of(store.catalog)).name == "people"
    assert mapping.parse(BUYS.encode(), "m.yaml", schema_of(store.catalog)).name == "buys"


def test_the_mutation_survives_its_form_in_a_log(store: Store, tmp_path: Path) -> None:
    sent: list[bytes] = []

    class Recording:
        catalog = store.catalog

        def submit(self, mutation: Any) -> Any:
            sent.append(encode(mutation))
            return store.submit(mutation)

    path = tmp_path / "buys.csv"
    path.write_bytes(EVENTS)
    Importer(Recording(), mapping.parse(BUYS.encode(), "m.yaml", SCHEMA), now=lambda: NOW).run(path)
    with Store.open(tmp_path / "replica") as replica:
        replica.declare(SCHEMA)
        for message in sent:
            replica.apply(decode(message))
        assert dump(replica) == dump(store)


def test_a_full_queue_is_waited_for(store: Store, tmp_path: Path) -> None:
    refusals = 3

    class Busy:
        catalog = store.catalog

        def submit(self, mutation: Any) -> Any:
            nonlocal refusals
            if refusals:
                refusals -= 1
                raise Overloaded("writing", 1)
            return store.submit(mutation)

    path = tmp_path / "buys.csv"
    path.write_bytes(EVENTS)
    report = Importer(Busy(), mapping.parse(BUYS.encode(), "m.yaml", SCHEMA)).run(path)
    assert (report.applied, refusals) == (4, 0)


def test_a_full_store_ends_the_import_and_keeps_what_was_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer, "BATCH_ROWS", 256)
    data = b"id,age,balance,name\n" + b"".join(b"c%05d,1,1.00,%s\n" % (number, b"n" * 500) for number in range(20_000))
    with Store.open(tmp_path / "small", map_bytes=4 << 20) as store:
        store.declare(SCHEMA)
        with pytest.raises(StoreFull):
            run(store, PEOPLE, tmp_path / "people.csv", data)
        held = store.customer_count()
        assert 0 < held < 20_000
        assert held % 256 == 0  # whole mutations
        assert attributes(store, "c00000") is not None


def test_an_import_that_the_store_has_no_room_for_says_what_is_there(tmp_path: Path) -> None:
    """It said 'nothing was written', and 86,016 rows were there."""
    data = b"id,age,balance,name\n" + b"".join(b"c%d,1,1.00,%s\n" % (number, b"x" * 100) for number in range(60_000))
    with Store.open(tmp_path / "small", map_bytes=8 << 20) as small:
        small.declare(SCHEMA)
        with pytest.raises(StoreFull, match=r"this change was not written.* Of people.csv [1-9][\d,]* rows are in the store"):
            run(small, PEOPLE, tmp_path / "people.csv", data)
        assert 0 < small.customer_count() < 60_000
