"""The catalog: numbers never change, conflicts are refused, what is stored reads back, growth is small."""

from __future__ import annotations

import pytest

from core import limits
from core.errors import BadValue, SchemaConflict, StoreCorrupt, TooLarge, UnknownName
from core.hub import catalog as catalogs
from core.hub.catalog import Catalog
from core.schema import EventType, Field, Namespace, Normaliser, Schema, ValueType


def schema(*attributes: Field, **more: object) -> Schema:
    return Schema(attributes={field.name: field for field in attributes}, **more)  # type: ignore[arg-type]


AGE = Field("age", ValueType.INT)
TIER = Field("tier", ValueType.ENUM, labels=("bronze", "silver"))
BALANCE = Field("balance", ValueType.MONEY, currency="EUR")


def reload(catalog: Catalog) -> Catalog:
    return catalogs.loaded(sorted(catalog.stored(Catalog()).items()))


def test_attributes_are_appended_and_keep_their_place() -> None:
    first = Catalog().declared(schema(AGE, TIER))
    second = first.declared(schema(BALANCE, TIER))
    assert [(e.name, e.number, e.offset) for e in second.attributes.values()] == [
        ("age", 1, 0), ("tier", 2, 8), ("balance", 3, 10),
    ]
    assert second.version == first.version + 1
    assert second.layout().fixed_bytes == 18


def test_declaring_what_is_known_gives_the_same_catalog() -> None:
    first = Catalog().declared(schema(AGE, TIER), ["a", "b"], ["web"])
    assert first.declared(schema(TIER), ["b"], ["web"]) is first
    assert first.declared(schema()) is first


def test_labels_and_event_fields_are_appended() -> None:
    first = Catalog().declared(schema(TIER, events={"buy": EventType("buy", (AGE,))}))
    gold = Field("tier", ValueType.ENUM, labels=("gold", "bronze"))
    second = first.declared(schema(gold, events={"buy": EventType("buy", (BALANCE,))}))
    assert second.attribute("tier").labels == ("bronze", "silver", "gold")
    assert second.event("buy").field_names == ("age", "balance")
    assert second.event("buy").number == first.event("buy").number


@pytest.mark.parametrize(
    "changed",
    [
        schema(Field("age", ValueType.DOUBLE)),
        schema(Field("balance", ValueType.MONEY, currency="USD")),
        schema(namespaces={"phone": Namespace("phone", Normaliser.LOWER)}),
        schema(events={"buy": EventType("buy", (Field("amount", ValueType.INT),))}),
    ],
)
def test_another_meaning_for_a_stored_name_is_refused(changed: Schema) -> None:
    stored = Catalog().declared(
        schema(
            AGE, BALANCE,
            namespaces={"phone": Namespace("phone", Normaliser.E164)},
            events={"buy": EventType("buy", (Field("amount", ValueType.DOUBLE),))},
        )
    )
    with pytest.raises(SchemaConflict) as caught:
        stored.declared(changed)
    assert "stored as" in str(caught.value)


def test_trust_may_change_and_nothing_else_of_a_namespace() -> None:
    first = Catalog().declared(schema(namespaces={"crm": Namespace("crm", trust=1)}))
    second = first.declared(schema(namespaces={"crm": Namespace("crm", trust=9)}))
    assert second.namespace_entry("crm").trust == 9
    assert second.namespace("crm") == first.namespace("crm") == 1


def test_the_stored_form_reads_back() -> None:
    catalog = Catalog().declared(
        schema(
            AGE, TIER, BALANCE,
            namespaces={"crm": Namespace("crm", Normaliser.LOWER, 3)},
            events={"buy": EventType("buy", (TIER, BALANCE))},
            purposes=("ads",), case_kinds=("fault",), outcomes=("called",),
        ),
        [f"offer_{i:05}" for i in range(10_000)],
        ["web", "call_centre"],
    ).with_source("billing")
    again = reload(catalog)
    assert again == catalog
    assert list(again.offers) == list(catalog.offers)
    assert again.offer("offer_09999") == 10_000
    assert again.offer_name(4097) == "offer_04096"


def test_a_new_offer_rewrites_one_chunk() -> None:
    first = Catalog().declared(schema(), [f"offer_{i}" for i in range(10_000)])
    second = first.declared(schema(), ["one_more"])
    assert sorted(second.stored(first)) == [b"offers/000002", b"version"]
    assert catalogs.loaded(sorted({**first.stored(Catalog()), **second.stored(first)}.items())) == second


def test_unknown_names_come_with_the_nearest() -> None:
    catalog = Catalog().declared(schema(BALANCE), ["term_deposit"])
    with pytest.raises(UnknownName, match="balance"):
        catalog.attribute("balanse")
    with pytest.raises(UnknownName, match="term_deposit"):
        catalog.offer("term_deposits")
    for look_up in (catalog.namespace, catalog.event, catalog.outcome, catalog.channel, catalog.purpose, catalog.case_kind):
        with pytest.raises(UnknownName):
            look_up("nobody")


def test_standard_outcomes_are_always_there() -> None:
    assert list(Catalog().declared(schema(outcomes=("called",))).outcomes) == [
        "served", "shown", "clicked", "accepted", "rejected", "converted", "called",
    ]


def test_limits_and_bad_declarations_are_refused() -> None:
    with pytest.raises(TooLarge):
        Catalog().declared(schema(*(Field(f"a{i}", ValueType.BOOL) for i in range(limits.ATTRIBUTES + 1))))
    with pytest.raises(TooLarge):
        Catalog().declared(schema(), ["x" * (limits.NAME_LENGTH + 1)])
    with pytest.raises(BadValue):
        Catalog().declared(schema(), [""])
    with pytest.raises(BadValue, match="set"):
        Catalog().declared(schema(events={"e": EventType("e", (Field("s", ValueType.STRING_SET),))}))
    fields = tuple(Field(f"f{i}", ValueType.INT) for i in range(limits.EVENT_FIELDS + 1))
    with pytest.raises(TooLarge):
        Catalog().declared(schema(events={"e": EventType("e", fields)}))


def test_a_damaged_catalog_is_refused() -> None:
    for items in ([(b"attributes", b"\xc1")], [(b"strange", b"\x90")], [(b"offers/000000", b"\x01")]):
        with pytest.raises(StoreCorrupt):
            catalogs.loaded(items)
    with pytest.raises(StoreCorrupt):
        Catalog().offer_name(1)
