"""The same rows as CSV, JSON Lines and Parquet, packed in every way, make the same store and the same rejects.

Texts first: each cell is the same text in every file. Then Parquet's own types against what a CSV of the same values holds.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import ImportRefused
from core.hub.store import Store
from core.importing import mapping
from core.importing.importer import Importer
from core.schema import EventType, Field, Namespace, Normaliser, Schema, ValueType

RELAXED = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])

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
    events={"buy": EventType("buy", (Field("amount", ValueType.MONEY, currency="EUR"), Field("what", ValueType.STRING)))},
    namespaces={"crm": Namespace("crm", trust=100), "email": Namespace("email", Normaliser.LOWER, trust=50)},
)
PROFILES = b"""
mapping: people
source: files
row: profile
missing: [NA, unknown]
zone: Europe/Lisbon
identifiers: {crm: id, email: {column: mail, missing: none}}
attributes:
  age: {column: age, missing: ["999"]}
  balance: {column: balance, unit: cents}
  tier: {column: tier, labels: {g: gold, "?": null}}
  vip: vip
  name: name
  score: {column: score, unit: percent}
  since: since
"""
EVENTS = b"""
mapping: buys
source: shop
row: event
identifiers: {crm: id}
event: buy
at: {column: since, zone: Europe/Lisbon}
key: [id, name]
fields: {amount: {product: [age, balance], round: true}, what: name}
"""
COLUMNS = ("id", "mail", "age", "balance", "tier", "vip", "name", "score", "since")
CELLS = {
    "id": ["c1", "c2", "c3", "", "  ", "\x00", "x" * 300],
    "mail": ["A@x.org", "b@X.org", "none", ""],
    "age": ["1", "-7", "999", "999.0", "40.0", "1e2", "x", " 5 ", "unknown", "", "99999999999999999999"],
    "balance": ["100", "12.5", "0", "NA", "", "1e30"],
    "tier": ["gold", "silver", "g", "?", "brass", "", " gold"],
    "vip": ["true", "No", "1", "maybe", ""],
    "name": ["Ann", 'Zoë "Z"', "a,b;c", "é" * 600, "", "  ", "unknown", "a\x00b", "{", "a\\n"],
    "score": ["12.5", "1e-3", "nan", "", "0.1"],
    "since": ["2026-01-01", "2026-03-29 01:30:00", "2026-07-01T12:00:00+02:00", "soon", "2026-02-30", "NA", ""],
}
ROW = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in CELLS.items()})


def zstd(data: bytes) -> bytes:
    packed = pa.BufferOutputStream()
    with pa.CompressedOutputStream(packed, "zstd") as stream:
        stream.write(data)
    return packed.getvalue().to_pybytes()


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows([row[name] for name in COLUMNS] for row in rows)
    return text.getvalue().encode()


def as_jsonl(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    table = pa.table({name: pa.array([row[name] for row in rows], pa.string()) for name in COLUMNS})
    return parquet(table)


def parquet(table: pa.Table) -> bytes:
    packed = pa.BufferOutputStream()
    pq.write_table(table, packed, row_group_size=3)
    return packed.getvalue().to_pybytes()


FORMS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "csv": as_csv,
    "jsonl": as_jsonl,
    "parquet": as_parquet,
    "gzip": lambda rows: gzip.compress(as_csv(rows)),
    "bzip2": lambda rows: bz2.compress(as_jsonl(rows)),
    "xz": lambda rows: lzma.compress(as_csv(rows)),
    "zstd": lambda rows: zstd(as_csv(rows)),
    "zstd of jsonl": lambda rows: zstd(as_jsonl(rows)),
}


def outcome(text: bytes, data: bytes, first_line: int) -> tuple[object, ...]:
    """What the store holds byte by byte, what was counted, and what was rejected, lines counted from the first row."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows"
        path.write_bytes(data)
        with Store.open(Path(folder) / "store") as store:
            store.declare(SCHEMA)
            report = Importer(store, mapping.parse(text, "m.yaml", SCHEMA), now=lambda: 1_000).run(path)
            with store.environment.reader() as reader:
                held = [item for name in ("profiles", "events", "identifiers") for item in reader.items(name)]
        rejects = []
        if report.rejects is not None:
            with report.rejects.open(newline="", encoding="utf-8") as file:
                rejects = [(int(row[0]) - first_line, *row[1:]) for row in list(csv.reader(file))[1:]]
        counts = (report.rows, report.applied, report.created, report.changed, report.unchanged, report.contested)
        return held, counts, report.reasons, rejects


@RELAXED
@given(st.lists(ROW, min_size=1, max_size=12), st.sampled_from([PROFILES, EVENTS]))
def test_one_table_in_every_format_is_one_import(rows: list[dict[str, Any]], text: bytes) -> None:
    wanted = outcome(text, FORMS["csv"](rows), 2)
    for name, form in FORMS.items():
        line = 1 if "json" in name or name in ("parquet", "bzip2") else 2
        assert outcome(text, form(rows), line) == wanted, name


@RELAXED
@given(
    st.lists(
        st.tuples(
            st.integers(-(2**40), 2**40), st.none() | st.integers(-(10**12), 10**12), st.none() | st.booleans(),
            st.none() | st.floats(allow_nan=False, allow_infinity=False, width=64),
            st.none() | st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999),
            st.none() | st.sets(st.sampled_from(["a", "b", "c d", "é"])),
        ),
        min_size=1, max_size=12,
    ),
    st.sampled_from([None, "UTC", "Asia/Tokyo"]),
)
def test_typed_columns_mean_what_their_texts_do(rows: list[tuple[Any, ...]], zone: str | None) -> None:
    text = b"""
mapping: typed
source: files
row: profile
identifiers: {crm: {column: id, prefix: c}}
attributes: {age: id, balance: {column: amount, unit: minor}, vip: vip, score: score, since: since, products: products}
"""
    kind: Any = pa.timestamp("us") if zone is None else pa.timestamp("us", zone)
    ids, amounts, flags, scores, times, sets = (list(column) for column in zip(*rows, strict=True))
    table = pa.table(
        {
            "id": pa.array(ids, pa.int64()), "amount": pa.array(amounts, pa.int64()).cast(pa.decimal128(19, 0)),
            "vip": flags if any(flag is not None for flag in flags) else pa.nulls(len(flags)),
            "score": pa.array(scores, pa.float64()), "since": pa.array(times, kind),
            "products": pa.array([None if one is None else sorted(one) for one in sets], pa.list_(pa.string())),
        }
    )
    moments = pa.array(times, pa.timestamp("us")).cast(pa.string()).to_pylist()
    texts = io.StringIO()
    writer = csv.writer(texts)
    writer.writerow(table.column_names)
    for row, moment in zip(rows, moments, strict=True):
        members = "" if row[5] is None else ",".join(row[5])
        flag = "" if row[2] is None else str(row[2])
        score = "" if row[3] is None else repr(row[3])
        writer.writerow([row[0], row[1], flag, score, moment, members])
    assert outcome(text, parquet(table), 1) == outcome(text, texts.getvalue().encode(), 2)


@RELAXED
@given(st.sampled_from(sorted(FORMS)), st.floats(0, 1), st.integers(1, 40))
def test_a_file_cut_off_is_read_as_far_as_it_goes_or_refused(name: str, share: float, count: int) -> None:
    """Plain text cut off is a shorter text; anything packed, and Parquet, is refused rather than imported by half."""
    rows = [{column: values[number % 2] for column, values in CELLS.items()} for number in range(count)]
    whole = FORMS[name](rows)
    data = whole[: int(share * (len(whole) - 1))]
    try:
        _, counts, *_ = outcome(PROFILES, data, 1)
    except ImportRefused:
        return
    assert name in ("csv", "jsonl")
    assert counts[0] <= count  # type: ignore[index]
