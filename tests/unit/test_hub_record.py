"""Records: the layout is what ARCHITECTURE.md says, byte for byte; packing then reading is the identity; damage is found."""

from __future__ import annotations

import math
import random
import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core import limits
from core.errors import BadValue, EngineFault, StoreCorrupt, TooLarge
from core.hub.record import WIDTHS, Builder, Record, RecordLayout, crc32c, crc32c_by_table, crc32c_narrow, members, siphash
from core.schema import ValueType

EVERY_TYPE = [
    ValueType.BOOL, ValueType.ENUM, ValueType.INT, ValueType.DOUBLE, ValueType.STRING, ValueType.MONEY,
    ValueType.TIMESTAMP, ValueType.STRING_SET,
]


def laid_out(types: list[ValueType]) -> list[tuple[int, ValueType]]:
    slots = []
    at = 0
    for type_ in types:
        slots.append((at, type_))
        at += WIDTHS[type_]
    return slots


SLOTS = laid_out(EVERY_TYPE)
LAYOUT = RecordLayout(SLOTS)


def test_a_record_lies_as_the_document_says() -> None:
    """Literal bytes: a change of layout must be a new version, never an accident."""
    builder = Builder(LAYOUT, 7)
    builder.touch(1_000_000)
    values: list[Any] = [True, 3, -5, 1.5, "Zoë", 1999, 86_400_000_000, frozenset({"b", "a"})]
    for (offset, type_), value in zip(SLOTS, values, strict=True):
        builder.set(offset, type_, value)
    builder.add_identifier(2, b"ann@example.com")
    builder.set_consent(1, 0, True, 4, 55)
    builder.set_consent(1, 3, False, 0, 56)
    builder.add_case(2, 0xAABB, 10)
    data = builder.finish()
    expected = bytes.fromhex(
        "0700000000000000" "40420f0000000000"  # customer 7, updated
        "2b000000" "0c000000" "0100" "0200" "0100" "0000"  # 43 bytes fixed, 12 heap; one identifier, two consents, one case
        "02" "0300" "fbffffffffffffff" "000000000000f83f" "00000400"  # bool, enum, int, double, string of 4 at 0
        "cf07000000000000" "0060d71d14000000" "04000800"  # money, timestamp, set of 8 at 4
        "5a6fc3ab" "0200" "010061" "010062"  # heap: Zoe with a diaeresis; two members
        "0200" "0f00" "616e6e406578616d706c652e636f6d"  # namespace 2, 15 bytes
        "0100" "0000" "01" "00" "0400" "3700000000000000"  # purpose 1 in any channel: granted, source 4, at 55
        "0100" "0300" "00" "00" "0000" "3800000000000000"  # purpose 1 in channel 3: refused at 56
        "0200" "0000" "00000000" "bbaa000000000000" "0a00000000000000" "0000000000000080"  # kind 2, key, opened 10, open
    )
    assert data[:4] == bytes.fromhex("52500100")
    assert data[8:] == expected
    assert struct.unpack_from("<I", data, 4)[0] == crc32c(data[8:])


def test_checksum_and_hash_give_published_numbers() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C
    assert crc32c(b"\x00" * 32) == 0x8A9136AA  # RFC 3720, B.4
    assert siphash(bytes(range(15))) == 0xA129CA6149BE45E5  # the paper's example
    assert siphash(b"") == 0x726FDB47DD0E0E31


@given(st.binary(max_size=300))
def test_the_instruction_and_the_table_agree(data: bytes) -> None:
    assert crc32c(data) == crc32c_by_table(data)


@given(st.integers(0, 30_000), st.integers(0, 7), st.integers(0, 2**32))
def test_lanes_of_every_length_and_the_table_agree(size: int, offset: int, seed: int) -> None:
    # From 144 bytes on there are three lanes, above 3 KiB several blocks of them; where the processor can, a region is folded
    # beside them from 992 on, above 11 KiB in several blocks; LMDB aligns to nothing.
    data = random.Random(seed).randbytes(size + offset)
    view = memoryview(data)[offset:]
    assert crc32c(view) == crc32c_narrow(view) == crc32c_by_table(view)


VALUES = st.tuples(
    st.none() | st.booleans(),
    st.none() | st.integers(1, 65_535),
    st.none() | st.integers(-(2**63) + 1, 2**63 - 1),
    st.none() | st.floats(allow_nan=False),
    st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.none() | st.integers(-(2**63) + 1, 2**63 - 1),
    st.none() | st.integers(-(2**63) + 1, 2**63 - 1),
    st.none() | st.frozensets(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=6),
)


@given(VALUES, VALUES)
@example((None,) * 8, (None,) * 8)
def test_what_was_packed_is_read_and_equal_contents_are_equal_bytes(
    before: tuple[Any, ...], after: tuple[Any, ...]
) -> None:
    """Whatever was there before: setting values over others leaves no trace of the others."""
    builder = Builder(LAYOUT, 3)
    for (offset, type_), value in zip(SLOTS, before, strict=True):
        builder.set(offset, type_, value)
    over = Builder(LAYOUT, 3, builder.finish())
    fresh = Builder(LAYOUT, 3)
    for (offset, type_), value in zip(SLOTS, after, strict=True):
        over.set(offset, type_, value)
        fresh.set(offset, type_, value)
    data = over.finish()
    assert data == fresh.finish()
    record = Record(data)
    assert tuple(record.value(offset, type_) for offset, type_ in SLOTS) == after
    assert record.customer == 3


def test_a_missing_tail_costs_nothing_and_reads_missing() -> None:
    record = Record(Builder(LAYOUT, 1).finish())
    assert record.fixed_bytes == 0
    assert [record.value(offset, type_) for offset, type_ in SLOTS] == [None] * 8
    builder = Builder(LAYOUT, 1)
    builder.set(*SLOTS[1], 9)
    assert Record(builder.finish()).fixed_bytes == 3


def test_a_double_whose_bytes_begin_like_a_missing_one_is_kept_whole() -> None:
    """Trailing blanks are cut at a slot's border: cutting bytes alone would halve this value, and half reads as missing."""
    layout = RecordLayout([(0, ValueType.DOUBLE)])
    tricky = struct.unpack("<d", b"\x01" + struct.pack("<d", math.nan)[1:6] + b"\x10\x40")[0]
    builder = Builder(layout, 1)
    builder.set(0, ValueType.DOUBLE, tricky)
    assert Record(builder.finish()).value(0, ValueType.DOUBLE) == tricky


def test_records_written_before_an_attribute_was_declared_are_read_and_grow() -> None:
    old_slots = laid_out(EVERY_TYPE[:4])
    old = Builder(RecordLayout(old_slots), 5)
    old.set(*old_slots[3], 2.5)
    old.add_identifier(1, b"x")
    data = old.finish()
    assert [Record(data).value(*slot) for slot in SLOTS] == [None, None, None, 2.5, None, None, None, None]
    grown = Builder(LAYOUT, 5, data)
    grown.set(*SLOTS[4], "new")
    record = Record(grown.finish())
    assert record.value(*SLOTS[3]) == 2.5
    assert record.value(*SLOTS[4]) == "new"
    assert record.identifiers == [(1, b"x")]


@given(st.data())
def test_any_changed_byte_is_found(data: st.DataObject) -> None:
    builder = Builder(LAYOUT, 5)
    builder.set(*SLOTS[4], "text")
    builder.add_identifier(1, b"abc")
    builder.set_consent(1, 1, True, 0, 5)
    whole = bytearray(builder.finish())
    place = data.draw(st.integers(0, len(whole) - 1).filter(lambda at: at != 3))
    whole[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(StoreCorrupt):
        Record(bytes(whole))


@given(st.binary(max_size=200), st.integers(0, 4))
def test_bytes_that_were_never_a_record_are_refused(data: bytes, kind: int) -> None:
    """With right magic and checksum too: section lengths are checked against the bytes there are."""
    if kind:
        data = b"\x52\x50\x01\x00\x00\x00\x00\x00" + data
        data = data[:4] + struct.pack("<I", crc32c(data[8:])) + data[8:]
    try:
        record = Record(data)
    except StoreCorrupt:
        return
    assert len(record.identifiers) + len(record.consents) + len(record.cases) <= len(data)


def test_a_truncated_record_is_refused_at_every_length() -> None:
    data = Builder(LAYOUT, 1).finish()
    for size in range(len(data)):
        with pytest.raises(StoreCorrupt):
            Record(data[:size])


def test_limits_refuse_and_change_nothing() -> None:
    builder = Builder(LAYOUT, 1)
    builder.set(*SLOTS[4], "kept")
    with pytest.raises(BadValue):
        builder.set(*SLOTS[4], "x" * (limits.STRING_BYTES + 1))
    with pytest.raises(BadValue):
        builder.set(*SLOTS[7], frozenset(str(i) for i in range(limits.SET_MEMBERS + 1)))
    with pytest.raises(BadValue, match="longer"):
        builder.set(*SLOTS[7], frozenset(f"{i:03}" + "x" * 1000 for i in range(100)))
    with pytest.raises(EngineFault):
        builder.set(10_000, ValueType.INT, 1)
    with pytest.raises(EngineFault):
        builder.set(0, ValueType.STRING, "no text slot here")
    assert Record(builder.finish()).value(*SLOTS[4]) == "kept"
    for i in range(limits.IDENTIFIERS_PER_CUSTOMER):
        builder.add_identifier(1, str(i).encode())
    builder.add_identifier(1, b"0")
    with pytest.raises(TooLarge):
        builder.add_identifier(1, b"one more")


def test_a_record_that_outgrows_its_16_bit_heap_is_refused() -> None:
    slots = laid_out([ValueType.STRING] * 80)
    builder = Builder(RecordLayout(slots), 1)
    for slot in slots:
        builder.set(*slot, "y" * 1000)
    with pytest.raises(TooLarge):
        builder.finish()
    for slot in slots[60:]:
        builder.set(*slot, None)
    record = Record(builder.finish())
    assert record.value(*slots[59]) == "y" * 1000
    assert record.value(*slots[60]) is None


def test_consents_do_not_depend_on_the_order_they_arrive_in() -> None:
    changes = [(1, 0, True, 0, 5), (1, 0, False, 0, 5), (1, 0, True, 0, 4), (2, 1, True, 1, 9), (1, 1, False, 0, 1)]
    forward = Builder(LAYOUT, 1)
    backward = Builder(LAYOUT, 1)
    for change in changes:
        forward.set_consent(*change)
    for change in reversed(changes):
        backward.set_consent(*change)
    assert forward.finish() == backward.finish()
    assert Record(forward.finish()).consents == [(1, 0, False, 0, 5), (1, 1, False, 0, 1), (2, 1, True, 1, 9)]


def test_a_case_opens_once_closes_once_and_stays_closed() -> None:
    builder = Builder(LAYOUT, 1)
    builder.add_case(1, 9, 100)
    builder.add_case(1, 9, 120)
    builder.add_case(1, 9, 100, 200)
    builder.add_case(1, 9, 100, 300)
    builder.add_case(1, 9, 400)
    assert Record(builder.finish()).cases == [(1, 9, 100, 200, 0)]


def test_closed_cases_make_room_and_open_ones_do_not() -> None:
    builder = Builder(LAYOUT, 1)
    builder.add_case(1, 1_000_000, 5, 6)
    builder.add_case(1, 1_000_001, 4, 6)
    for i in range(limits.CASES_PER_CUSTOMER):
        builder.add_case(1, i, i)
    cases = Record(builder.finish()).cases
    assert len(cases) == limits.CASES_PER_CUSTOMER
    assert all(closed is None for _, _, _, closed, _ in cases)
    with pytest.raises(TooLarge):
        builder.add_case(1, 2_000_000, 1)


def test_filling_takes_only_what_is_missing() -> None:
    mine = Builder(LAYOUT, 1)
    mine.set(*SLOTS[2], 1)
    mine.set(*SLOTS[4], "mine")
    mine.touch(5)
    theirs = Builder(LAYOUT, 2)
    theirs.set(*SLOTS[2], 2)
    theirs.set(*SLOTS[3], 0.5)
    theirs.set(*SLOTS[4], "theirs")
    theirs.set(*SLOTS[7], frozenset({"x"}))
    theirs.add_identifier(4, b"id")
    theirs.touch(9)
    mine.fill_from(Record(theirs.finish()))
    record = Record(mine.finish())
    assert [record.value(*slot) for slot in SLOTS] == [None, None, 1, 0.5, "mine", None, None, frozenset({"x"})]
    assert record.identifiers == [(4, b"id")]
    assert record.updated_us == 9


def test_a_builder_refuses_another_customers_record() -> None:
    data = Builder(LAYOUT, 1).finish()
    with pytest.raises(StoreCorrupt):
        Builder(LAYOUT, 2, data)


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x01\x00", b"\x01\x00\x05", b"\x01\x00\x05\x00ab"])
def test_a_damaged_set_is_refused(data: bytes) -> None:
    with pytest.raises(StoreCorrupt):
        members(data)
