"""Parquet and its types, units, sentinels, dry runs and the pace: one cell means the same whatever file it comes from."""

from __future__ import annotations

import contextlib
import datetime
import gzip
import os
import random
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.decision import Identifier
from core.errors import ImportRefused
from core.hub.catalog import Catalog
from core.hub.causes import CAUSE_NUMBERS, CAUSES
from core.hub.store import Store
from core.importing import importer, mapping
from core.importing.files import Packing, is_parquet, packing_of
from core.importing.importer import Importer, ImportReport, Pace, Progress
from core.importing.rehearsal import Rehearsal
from core.schema import Money, Schema, ValueType
from server.cli import importing
from tests.unit.test_import_files import PEOPLE, SCHEMA, attributes, dump, rejected, run

NOT_A_NUMBER = CAUSES[CAUSE_NUMBERS["NOT_A_NUMBER"]][1]
WIDE = """
mapping: wide
source: files
row: profile
identifiers: {crm: who.id}
missing: [unknown]
attributes:
  age: {column: age, missing: ["999"]}
  balance: {column: cents, unit: cents}
  tier: tier
  vip: {column: vip, labels: {"yes": true, "no": false}}
  name: name
  score: {column: share, unit: percent}
  since: {column: since, format: "%d.%m.%Y", zone: Europe/Lisbon}
  products: products
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        opened.declare(SCHEMA)
        yield opened


def bring(store: Store, text: str, path: Path, table: pa.Table, **options: Any) -> ImportReport:
    pq.write_table(table, path, **options)
    return Importer(store, mapping.parse(text.encode(), "m.yaml", SCHEMA), now=lambda: 1_000).run(path)


def test_every_type_of_a_parquet_file_is_read(store: Store, tmp_path: Path) -> None:
    table = pa.table(
        {
            "who": pa.array([{"id": "c1", "other": 1}, {"id": "c2", "other": 2}, {"id": None, "other": 3}]),
            "age": pa.array([40.0, 999.0, 1.0]),  # whole numbers as pandas has them once one is missing
            "cents": pa.array([Decimal("12550"), None, None], pa.decimal128(9, 0)),
            "tier": pa.array(["gold", "unknown", None]).dictionary_encode(),
            "vip": pa.array([True, False, None]),
            "name": pa.array(["Zoë", "", None], pa.large_string()),
            "share": pa.array([12.5, float("nan"), None], pa.float32()),
            "since": pa.array([datetime.datetime(2026, 7, 1, 12), None, None], pa.timestamp("ms")),
            "products": pa.array([["b", "a, c"], [], None]),
            "not named": pa.array([{"deep": [1]}] * 3),
        }
    )
    report = bring(store, WIDE, tmp_path / "no ending", table, row_group_size=1)
    assert (report.format, report.rows, report.applied) == ("parquet", 3, 2)
    assert [row[:3] for row in rejected(report)] == [(3, "", "")]
    noon = attributes(store, "c1")
    assert noon is not None
    assert noon == {
        "age": 40, "balance": Money(12550, "EUR"), "tier": "gold", "vip": True, "name": "Zoë", "score": 0.125,
        "since": noon["since"], "products": frozenset({"b", "a, c"}),
    }
    # A typed time needs no format, and without a zone of its own it is the mapping's: summer time in Lisbon.
    assert "11:00" in str(noon["since"]) or noon["since"] == datetime.datetime(2026, 7, 1, 11, tzinfo=datetime.UTC)
    assert attributes(store, "c2") == {"vip": False}


def test_a_time_with_a_zone_is_the_moment_it_names(store: Store, tmp_path: Path) -> None:
    moment = datetime.datetime(2026, 7, 1, 12, tzinfo=datetime.UTC)
    text = PEOPLE.replace("{age: age, balance: balance, name: name}", "{since: {column: at, zone: Asia/Tokyo}}")
    kinds: list[Any] = [pa.timestamp("us", "UTC"), pa.timestamp("ns", "Europe/Lisbon")]
    for number, kind in enumerate(kinds):
        table = pa.table({"id": [f"z{number}"], "at": pa.array([moment], kind)})
        assert bring(store, text, tmp_path / "t.parquet", table).applied == 1
    run(store, text, tmp_path / "t.csv", b"id,at\nz2,2026-07-01T12:00:00Z\nz3,2026-07-01 21:00:00\n")
    assert len({str(attributes(store, f"z{number}")) for number in range(4)}) == 1


def test_a_column_that_no_value_can_come_of_refuses_the_file(store: Store, tmp_path: Path) -> None:
    good: dict[str, Any] = {"id": ["c1"], "age": [1], "balance": [1.5], "name": ["x"]}
    for name, values, told in [
        ("age", [[1]], "cannot be read: it holds lists"),
        ("name", [{"first": "x"}], "cannot be read: it holds struct"),
        ("balance", [datetime.timedelta(1)], "cannot be read: it holds duration"),
    ]:
        with pytest.raises(ImportRefused, match=told):
            bring(store, PEOPLE, tmp_path / "p.parquet", pa.table(good | {name: values}))
    table = pa.table({"id": ["c1"], "age": [1], "balanc": [1], "name": ["x"]})
    with pytest.raises(ImportRefused, match=r"'balance' \(m.yaml:6:33\), perhaps 'balanc'"):
        bring(store, PEOPLE, tmp_path / "p.parquet", table)
    columns: list[Any] = [pa.array(each) for each in (["c1"], [1], [2], [1], ["x"])]
    table = pa.table(columns, names=["id", "age", "age", "balance", "name"])
    with pytest.raises(ImportRefused, match="column 'age' 2 times"):
        bring(store, PEOPLE, tmp_path / "p.parquet", table)
    assert store.customer_count() == 0


def test_a_list_with_a_null_and_a_text_that_is_no_utf8_reject_their_rows(store: Store, tmp_path: Path) -> None:
    text = PEOPLE.replace("{age: age, balance: balance, name: name}", "{name: name, products: products}")
    table = pa.table(
        {
            "id": ["c1", "c2", "c3"],
            "name": pa.array([b"Ann", b"\xff", b"Cyd"]),
            "products": pa.array([["a", None], ["a"], None], pa.list_(pa.string())),
        }
    )
    report = bring(store, text, tmp_path / "p.parquet", table)
    assert report.reasons == {"NOT_PLAIN": 1, "NOT_UTF8": 1}
    assert attributes(store, "c3") == {"name": "Cyd"}


def test_a_decimal_comma_is_that_of_texts_only(store: Store, tmp_path: Path) -> None:
    table = pa.table({"id": ["c1", "c2"], "age": [1, 2], "balance": [1.25, 1e3], "name": ["1,5", "x"]})
    assert bring(store, 'decimal: ","\n' + PEOPLE, tmp_path / "p.parquet", table).applied == 2
    assert attributes(store, "c1") == {"age": 1, "balance": Money(125, "EUR"), "name": "1,5"}
    assert attributes(store, "c2") == {"age": 2, "balance": Money(100_000, "EUR"), "name": "x"}


def people(rows: int) -> pa.Table:
    chance = np.random.default_rng(1)
    return pa.table(
        {
            "id": [f"c{number}" for number in range(rows)], "age": chance.integers(0, 99, rows).tolist(),
            "balance": (chance.integers(0, 10**6, rows) / 100).tolist(), "name": [f"n{number}" for number in range(rows)],
        }
    )


def test_a_parquet_file_cut_off_anywhere_is_refused_unwritten(store: Store, tmp_path: Path) -> None:
    seed = int(os.environ.get("RAPPORT_SEED", "20261126"))
    print(f"seed {seed}")
    chance = random.Random(seed)
    path = tmp_path / "people.parquet"
    pq.write_table(people(2_000), path, row_group_size=500)
    whole = path.read_bytes()
    for cut in [5, 12, len(whole) - 1, *(chance.randrange(5, len(whole)) for _ in range(40))]:
        with pytest.raises(ImportRefused, match="no whole Parquet file"):
            run(store, PEOPLE, path, whole[:cut])
    assert store.customer_count() == 0
    with pytest.raises(ImportRefused, match="a Parquet file packed with gzip"):
        run(store, PEOPLE, path, gzip.compress(whole))
    with pytest.raises(ImportRefused, match="no Parquet file, and the mapping says"):
        run(store, "format: parquet" + PEOPLE, path, b"id,age,balance,name\n")
    assert run(store, "format: parquet" + PEOPLE, path, whole).created == 2_000


def test_a_damaged_page_ends_the_import_and_the_error_says_what_is_there(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "people.parquet"
    pq.write_table(
        people(12_288), path, row_group_size=4096, write_page_checksum=True, compression="none", use_dictionary=False
    )
    data = bytearray(path.read_bytes())
    third = pq.ParquetFile(path).metadata.row_group(2).column(3)
    data[third.data_page_offset + third.total_compressed_size // 2] ^= 0xFF
    with pytest.raises(ImportRefused, match=r"damaged after row 8192 of 12288: .*8192 rows before that are in the store"):
        run(store, PEOPLE, path, bytes(data))
    assert store.customer_count() == 8_192
    pq.write_table(people(12_288), path)
    assert Importer(store, mapping.parse(PEOPLE.encode(), "m.yaml", SCHEMA)).run(path).created == 4_096


def test_bytes_flipped_anywhere_never_do_more_than_refuse(store: Store, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    path = tmp_path / "people.parquet"
    pq.write_table(people(300), path, row_group_size=100, write_page_checksum=True)
    whole = path.read_bytes()
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(4, len(data) - 4)] = chance.randrange(256)
        with contextlib.suppress(ImportRefused):
            report = run(store, PEOPLE, path, bytes(data))
            assert report.rows == report.applied + report.rejected


def test_what_a_file_is_its_first_bytes_tell() -> None:
    assert packing_of(b"BZh9,name,id") is Packing.NONE
    assert packing_of(b"\x50\x2a\x4d\x18\0\0\0\0\0\0") is Packing.ZSTD
    assert packing_of(b"") is Packing.NONE
    assert not is_parquet(b"PAR1,id\n")
    assert not is_parquet(b"PAR1\n1\n")
    assert is_parquet(b"PAR1\x15\x04")


def test_json_lines_are_known_by_their_first_character(store: Store, tmp_path: Path) -> None:
    report = run(store, PEOPLE, tmp_path / "p", b'\n  {"id": "c1", "age": 1, "balance": 1, "name": "{"}\n')
    assert (report.format, report.applied) == ("jsonl", 1)
    assert run(store, PEOPLE, tmp_path / "p", b"id,age,balance,name\n{,1,1,{\n").format == "csv"


def test_units_are_converted_exactly() -> None:
    schema = Schema(
        attributes={
            "age": SCHEMA.attributes["age"], "balance": SCHEMA.attributes["balance"], "score": SCHEMA.attributes["score"],
        },
        namespaces=SCHEMA.namespaces,
    )

    def factor(field: str, cell: str) -> Decimal:
        text = f"mapping: m\nsource: s\nrow: profile\nidentifiers: {{crm: id}}\nattributes:\n  {field}: {{column: x, {cell}}}\n"
        return mapping.parse(text.encode(), "m.yaml", schema).targets[0].cell.scale

    assert factor("balance", "unit: cents") == factor("balance", "unit: minor") == Decimal("0.01")
    assert factor("balance", "unit: thousands") == 1000
    assert factor("age", "unit: h, as: s") == 3600
    assert factor("age", "unit: g, as: kg") == Decimal("0.001")
    assert factor("score", "unit: lb, as: kg") == Decimal("0.45359237")
    assert float(factor("score", "unit: s, as: h")) == 1 / 3600
    assert SCHEMA.attributes["score"].type is ValueType.DOUBLE


def test_units_and_a_zone_for_the_whole_file(store: Store, tmp_path: Path) -> None:
    text = """
mapping: m
source: s
row: profile
zone: Europe/Lisbon
identifiers: {crm: id}
attributes:
  age: {column: hours, unit: h, as: min, round: true}
  score: {column: seconds, unit: s, as: h}
  balance: {column: cents, unit: cents}
  since: since
"""
    data = b"id,hours,seconds,cents,since\nc1,1.5,1800,1999,2026-07-01 12:00:00\nc2,1,1,0.5,2026-07-01\n"
    report = run(store, text, tmp_path / "m.csv", data)
    assert report.reasons == {"TOO_PRECISE": 1}
    found = attributes(store, "c1")
    assert found is not None
    assert (found["age"], found["score"], found["balance"]) == (90, 0.5, Money(1999, "EUR"))
    assert "11:00" in str(found["since"]) or found["since"] == datetime.datetime(2026, 7, 1, 11, tzinfo=datetime.UTC)


def test_a_number_that_means_missing_is_known_by_its_value(store: Store, tmp_path: Path) -> None:
    """pandas writes a column of whole numbers with decimals once one is missing: 999 becomes 999.0 and was taken for an age."""
    text = "missing: [unknown, '-1']" + PEOPLE.replace("age: age", 'age: {column: age, missing: ["999"]}')
    rows = b"999,1\n999.0,1\n 9.99e2,1\n-1.00,1\nunknown,-1\n998,0\n1,+999\n"
    data = b"id,age,balance,name\n" + b"".join(b"c%d,%s,x\n" % pair for pair in enumerate(rows.splitlines()))
    assert run(store, text, tmp_path / "p.csv", data).rejected == 0
    found = [attributes(store, f"c{number}") for number in range(7)]
    assert [each is not None and each.get("age") for each in found] == [None, None, None, None, None, 998, 1]
    assert [each is not None and each.get("balance") for each in found] == [
        *[Money(100, "EUR")] * 4, None, Money(0, "EUR"), Money(99_900, "EUR"),
    ]


def test_a_dry_run_tells_what_an_import_does_and_writes_nothing(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    run(store, PEOPLE, path, b"id,age,balance,name\nc1,1,1.00,x\n")
    before, applied = dump(store), store.applied
    data = b"id,age,balance,name\nc1,2,1.00,x\nc2,1,1.00,x\nc2,old,1.00,x\nc2,3,1.00,x\nc3,1,1,1,1\n"
    path.write_bytes(data)
    read = mapping.parse(PEOPLE.encode(), "m.yaml", SCHEMA)
    with store.environment.reader() as reader:
        rehearsed = Importer(Rehearsal(store.catalog, reader), read).rehearse(path)
    assert rehearsed.dry
    assert rehearsed.rejects is None
    assert not (tmp_path / "people.csv.rejects.csv").exists()
    assert (dump(store), store.applied) == (before, applied)
    assert rehearsed.examples[0] == (4, "age", "old", NOT_A_NUMBER)
    assert (rehearsed.created, rehearsed.changed) == (1, 2)
    report = run(store, PEOPLE, path, data)
    for name in ("rows", "applied", "rejected", "skipped", "created", "reasons", "examples"):
        assert getattr(report, name) == getattr(rehearsed, name), name
    # Without a store everybody is new; a file that cannot be read is refused as by an import.
    without = Importer(Rehearsal(Catalog().declared(SCHEMA), None), read).rehearse(path, rejects=tmp_path / "bad.csv")
    assert (without.created, without.rejects) == (2, tmp_path / "bad.csv")
    path.write_bytes(b"id,age\n")
    with pytest.raises(ImportRefused, match="columns are not in the file"):
        Importer(Rehearsal(store.catalog, None), read).rehearse(path)


def test_the_pace_bounds_the_rows_of_every_second(store: Store, tmp_path: Path) -> None:
    now, slept = 100.0, []

    def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        now += seconds

    pace = Pace(1_000, clock=lambda: now, sleep=sleep)
    assert pace.batch_rows == 100
    path = tmp_path / "people.parquet"
    pq.write_table(people(2_000), path)
    read = mapping.parse(PEOPLE.encode(), "m.yaml", SCHEMA)
    before = store.applied
    assert Importer(store, read).run(path, pace=pace).created == 2_000
    # The first batch waits for nobody; the last one's own time is not waited for.
    assert now == pytest.approx(101.9)
    assert store.applied == before + 20
    assert Pace(3).batch_rows == 1
    assert Pace(10**9).batch_rows == importer.BATCH_ROWS
    with pytest.raises(ValueError, match="would never end"):
        Pace(0)
    assert store.customer([Identifier("crm", "c1999")]) is not None


def test_progress_for_a_log_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    step = importing.lines(Path("a/people.csv"), clock=lambda: now)
    for second in (1, 9, 12, 15, 40):
        now = float(second)
        step(Progress(second * 10, 1_000, second * 100))
    assert capsys.readouterr().err.splitlines() == [
        "people.csv: 12 %, 1200 rows, 100 rows/s, 88 s left", "people.csv: 40 %, 4000 rows, 100 rows/s, 60 s left",
    ]
