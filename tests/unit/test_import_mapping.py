"""Mapping files: what they say is what is read, and every problem is told at once, where it is."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from core.errors import MappingError
from core.importing import mapping
from core.importing.mapping import Row
from core.programs import source
from core.schema import EventType, Field, Namespace, Schema, ValueType

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT / "tests" / "cases" / "bad_mappings"

SCHEMA = Schema(
    attributes={
        "age": Field("age", ValueType.INT),
        "balance": Field("balance", ValueType.MONEY, currency="EUR", sources=("core_banking",)),
        "job": Field("job", ValueType.ENUM, ("clerk", "student", "unknown")),
        "joined": Field("joined", ValueType.TIMESTAMP),
        "vip": Field("vip", ValueType.BOOL),
        "products": Field("products", ValueType.STRING_SET),
        "name": Field("name", ValueType.STRING),
        "score": Field("score", ValueType.DOUBLE),
    },
    events={
        "purchase": EventType(
            "purchase", (Field("amount", ValueType.MONEY, currency="EUR"), Field("quantity", ValueType.INT))
        )
    },
    namespaces={"crm": Namespace("crm", trust=100), "email": Namespace("email", trust=50)},
    purposes=("marketing",),
    case_kinds=("fault",),
)

GOOD = b"""
mapping: people
source: core_banking
format: csv
delimiter: "\\t"
decimal: ","
thousands: "."
missing: [NA, "-"]
row: profile
identifiers:
  crm: number
  email: {column: mail, missing: none}
without_identifier: skip
when_missing: clear
attributes:
  age: {column: years, missing: ["999"], required: true}
  balance: {product: [pieces, price], scale: 0.01, round: true}
  job: {column: job, labels: {admin.: clerk, "?": null}}
  joined: {column: since, format: "%d.%m.%Y", zone: Europe/Lisbon}
  vip: {column: tier, starts_with: gold}
  products: {column: products, separator: "|"}
"""


def test_a_profile_mapping_is_read_as_written() -> None:
    read = mapping.parse(GOOD, "people.yaml", SCHEMA)
    assert (read.name, read.source, read.row, read.delimiter) == ("people", "core_banking", Row.PROFILE, "\t")
    assert (read.decimal, read.thousands, read.missing) == (",", ".", frozenset({"NA", "-"}))
    assert read.skip_without_identifier
    assert read.clear_missing
    assert [each.namespace for each in read.identifiers] == ["crm", "email"]
    assert read.identifiers[1].missing == frozenset({"none"})
    cells = {target.field.name: target.cell for target in read.targets}
    assert cells["age"].required
    assert cells["age"].missing == frozenset({"999"})
    assert cells["balance"].scale == Decimal("0.01")
    assert [column.name for column in cells["balance"].columns] == ["pieces", "price"]
    assert dict(cells["job"].labels) == {"admin.": "clerk", "?": None}
    assert (cells["joined"].format, cells["joined"].zone.key) == ("%d.%m.%Y", "Europe/Lisbon")
    assert cells["vip"].starts_with == "gold"
    assert cells["products"].separator == "|"
    assert [column.name for column in read.columns()] == [
        "number", "mail", "years", "pieces", "price", "job", "since", "tier", "products",
    ]


def test_words_that_yaml_takes_for_something_else_stay_texts() -> None:
    # YAML 1.1 reads a bare yes as true and 1_0 as ten; a cell's text is compared with what the owner typed.
    text = b"mapping: m\nsource: s\nrow: profile\nidentifiers: {crm: on}\n"
    text += b"attributes:\n  age: {column: no, missing: [off, 1_0]}\n"
    read = mapping.parse(text, "m.yaml", SCHEMA)
    assert [column.name for column in read.columns()] == ["on", "no"]
    assert read.targets[0].cell.missing == frozenset({"off", "1_0"})


@pytest.mark.parametrize("case", sorted(path.stem for path in CASES.glob("*.yaml")))
def test_all_problems_of_a_bad_mapping_are_told_with_their_places(case: str) -> None:
    expected = (CASES / f"{case}.txt").read_text().splitlines()
    with pytest.raises(MappingError) as refused:
        mapping.parse((CASES / f"{case}.yaml").read_bytes(), f"{case}.yaml", SCHEMA)
    assert [str(problem) for problem in refused.value.problems] == expected
    assert refused.value.metadata["count"] == str(len(expected))


def test_a_file_of_consents_alone_needs_no_attributes() -> None:
    text = b"mapping: m\nsource: s\nrow: profile\nidentifiers: {crm: id}\n"
    with pytest.raises(MappingError, match="The key 'attributes' is missing"):
        mapping.parse(text, "m.yaml", SCHEMA)
    read = mapping.parse(text + b"consents: {marketing: {column: optin, at: since}}\n", "m.yaml", SCHEMA)
    assert (read.targets, [each.purpose for each in read.consents]) == ((), ["marketing"])


def test_a_file_that_is_no_mapping_is_refused_with_a_place() -> None:
    for data, told in [
        (b"", "The file is empty."),
        (b"\xff\xfe\x00", "This is not YAML"),
        (b"a: [1\n", "This is not YAML"),
        (b"- a\n- b\n", "a mapping must be a mapping of keys to values"),
        (b"x" * (mapping.MAPPING_BYTES + 1), "Is this the data file?"),
    ]:
        with pytest.raises(MappingError, match=r"m\.yaml:\d+:\d+: ") as refused:
            mapping.parse(data, "m.yaml", SCHEMA)
        assert told in str(refused.value)


def test_a_mapping_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match="No such file"):
        mapping.load(tmp_path / "none.yaml", SCHEMA)


@pytest.mark.parametrize(
    ("program", "name"),
    [
        ("bank_marketing", "additional"), ("bank_marketing", "full"), ("online_retail", "purchases"),
        *(("complete_journey", name) for name in ("members", "demographics", "campaigns", "redemptions", "transactions")),
    ],
)
def test_the_mappings_of_the_real_data_sets_hold(program: str, name: str) -> None:
    folder = ROOT / "programs" / "real" / program
    schema = source.check(source.read(folder)).schema
    read = mapping.load(folder / "mappings" / f"{name}.yaml", schema)
    named = {target.field.name for target in read.targets}
    if read.event is not None:
        assert named == {field.name for field in read.event.fields}
    else:
        assert named <= set(schema.attributes) | set(schema.household_attributes)
