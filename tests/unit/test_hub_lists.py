"""Contact and event lists: literal layout, merging equals the obvious model, damage is found, the oldest go first."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import limits
from core.errors import StoreCorrupt, TooLarge
from core.hub import contacts, events
from core.hub.record import crc32c

Contact = tuple[int, int, int, int, int, int, int]

CONTACT = (5, 0x11, 0x22, -3, 7, 8, 9)


def test_a_contact_list_lies_as_the_document_says() -> None:
    data, counted = contacts.merge(None, [CONTACT])
    assert counted == [True]
    body = struct.pack("<II", 1, 0) + struct.pack("<qQQqIHH", *CONTACT)
    assert data == bytes.fromhex("43500100") + struct.pack("<I", crc32c(body)) + body
    assert contacts.unpack(data) == [CONTACT]


def test_an_event_list_lies_as_the_document_says() -> None:
    packer = events.Packer()
    packer.pack(3, 77, 0xABCDEF, [("i", -1), ("b", True), ("f", 0.5), ("t", "hé"), ("t", None), ("i", None)])
    data, counted = packer.merge(None)
    assert counted == [True]
    entry = struct.pack("<IHHqQ", 80, 3, 6, 77, 0xABCDEF)
    entry += struct.pack("<qqdIIIIq", -1, 2, 0.5, 72, 3, 0, 0, -(2**63)) + "hé".encode() + b"\0" * 5
    body = struct.pack("<II", 1, 0) + entry
    assert data == bytes.fromhex("45500100") + struct.pack("<I", crc32c(body)) + body
    assert events.unpack(data, lambda _: "ibftti") == [(3, 77, 0xABCDEF, (-1, True, 0.5, "hé", None, None))]


def test_the_newest_events_are_read_without_the_others() -> None:
    """To show 20 events of a full history all 32,768 were unpacked: 0.14 s in which no other call of Python went on."""
    packer = events.Packer()
    for number in range(9):
        packer.pack(1, number, number, [("t", "x" * number)])
    data, _ = packer.merge(None)
    whole = events.unpack(data, lambda _: "t")
    for newest in (0, 1, 8, 9, 10):
        assert events.unpack(data, lambda _: "t", newest=newest) == whole[9 - min(newest, 9):]


CONTACTS = st.lists(
    st.tuples(
        st.integers(-5, 5), st.integers(0, 8), st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1),
        st.integers(1, 9), st.integers(1, 3), st.integers(0, 3),
    ),
    max_size=12,
)


@given(st.lists(CONTACTS, max_size=4))
def test_merging_contacts_equals_a_sorted_dictionary(batches: list[list[Contact]]) -> None:
    model: dict[int, Contact] = {}
    data: bytes | None = None
    for batch in batches:
        expected = []
        for entry in batch:
            expected.append(entry[1] not in model)
            model.setdefault(entry[1], entry)
        data, counted = contacts.merge(data, batch)
        assert counted == expected
        assert contacts.unpack(data) == sorted(model.values(), key=lambda entry: entry[:2])


EVENTS = st.lists(
    st.tuples(st.integers(1, 2), st.integers(-4, 4), st.integers(0, 6), st.integers(-9, 9), st.text(max_size=9)),
    max_size=20,
)


@given(st.lists(EVENTS, max_size=4))
def test_merging_events_equals_a_sorted_dictionary(batches: list[list[tuple[int, int, int, int, str]]]) -> None:
    model: dict[tuple[int, int], tuple[int, int, int, tuple[object, ...]]] = {}
    data: bytes | None = None
    packer = events.Packer()
    for batch in batches:
        packer.clear()
        expected = []
        for type_, at, key, number, any_text in batch:
            text = any_text.encode("utf-8", "replace").decode()
            packer.pack(type_, at, key, [("i", number), ("t", text)])
            expected.append((type_, key) not in model)
            model.setdefault((type_, key), (type_, at, key, (number, text)))
        data, counted = packer.merge(data)
        assert counted == expected
        assert events.unpack(data, lambda _: "it") == sorted(model.values(), key=lambda e: (e[1], e[0], e[2]))


@given(EVENTS, EVENTS)
def test_uniting_lists_equals_adding_one_to_the_other(
    mine: list[tuple[int, int, int, int, str]], theirs: list[tuple[int, int, int, int, str]]
) -> None:
    lists = []
    for batch in (mine, theirs, mine + theirs):
        packer = events.Packer()
        for type_, at, key, number, _ in batch:
            packer.pack(type_, at, key, [("i", number)])
        lists.append(packer.merge(None)[0])
    assert events.Packer().unite(lists[0], lists[1]) == lists[2]


def test_the_oldest_contacts_go_first() -> None:
    limit = limits.CONTACTS_PER_CUSTOMER
    data, _ = contacts.merge(None, [(at, at, 0, 0, 1, 1, 0) for at in range(limit)])
    data, counted = contacts.merge(data, [(limit, limit, 0, 0, 1, 1, 0), (-1, 2**40, 0, 0, 1, 1, 0)])
    assert counted == [1, 2]
    assert [entry[0] for entry in contacts.unpack(data)] == list(range(1, limit + 1))


def test_a_full_history_tells_which_of_those_added_it_did_not_keep() -> None:
    """They were told as counted, though the list that was written did not hold them."""
    limit = limits.CONTACTS_PER_CUSTOMER
    full, _ = contacts.merge(None, [(10 * at, at, 0, 0, 1, 1, 0) for at in range(limit)])
    added = [(at, 2**40 + at, 0, 0, 1, 1, 0) for at in (5, 10 * limit, -1, 15, 5, 0)]
    data, counted = contacts.merge(full, added)
    # Of the list and the five that are new the five oldest go: -1, 0 (two of them, by dedup), 5 and 10.
    assert counted == [2, 1, 2, 1, 0, 2]
    kept = contacts.unpack(data)
    assert len(kept) == limit
    assert [entry[0] for entry in kept[:2]] == [15, 20]
    assert contacts.merge(full, [added[2]]) == (full, [2])


@settings(max_examples=50, deadline=None)  # each example merges into thousands
@given(st.data())
def test_what_a_full_history_keeps_is_what_it_says(data: st.DataObject) -> None:
    limit = limits.CONTACTS_PER_CUSTOMER
    stored = data.draw(st.integers(limit - 4, limit))
    full, _ = contacts.merge(None, [(at // 2, at, 0, 0, 1, 1, 0) for at in range(stored)])
    batch = data.draw(
        st.lists(st.tuples(st.integers(-2, 8), st.integers(limit, limit + 9)), max_size=10).map(
            lambda rows: [(at, dedup, 0, 0, 1, 1, 0) for at, dedup in rows]
        )
    )
    merged, counted = contacts.merge(full, batch)
    kept = set(contacts.unpack(merged))
    first: set[int] = set()
    for entry, became in zip(batch, counted, strict=True):
        assert (became == 0) == (entry[1] in first)
        assert (became == 1) == (entry in kept and entry[1] not in first)
        first.add(entry[1])


def test_a_full_event_list_tells_which_of_those_added_it_did_not_keep() -> None:
    limit = limits.EVENTS_PER_CUSTOMER
    packer = events.Packer()
    for at in range(limit):
        packer.pack(1, at, at, [])
    full, _ = packer.merge(None)
    packer.clear()
    for at, key in ((limit, limit), (-1, limit + 1), (5, 5), (0, limit + 2), (2, limit + 3)):
        packer.pack(1, at, key, [])
    data, counted = packer.merge(full)
    # The four oldest go: -1, both of 0, and 1.
    assert counted == [1, 2, 0, 2, 1]
    assert [entry[1] for entry in events.unpack(data, lambda _: "")][:3] == [2, 2, 3]


def test_the_oldest_events_go_first_by_number_and_by_bytes() -> None:
    limit = limits.EVENTS_PER_CUSTOMER
    packer = events.Packer()
    for at in range(limit + 10):
        packer.pack(1, at, at, [])
    data, _ = packer.merge(None)
    assert [entry[1] for entry in events.unpack(data, lambda _: "")] == list(range(10, limit + 10))
    packer.clear()
    for at in range(2 * limits.EVENT_LIST_BYTES // 8000):
        packer.pack(1, at, at, [("t", "x" * 1024)] * 7)
    data, _ = packer.merge(None)
    assert limits.EVENT_LIST_BYTES - 9000 < len(data) <= limits.EVENT_LIST_BYTES + 16
    assert events.unpack(data, lambda _: "t" * 7)[-1][1] == 2 * limits.EVENT_LIST_BYTES // 8000 - 1


def test_a_thousand_events_whose_keys_collide_in_the_table_all_count() -> None:
    packer = events.Packer()
    for i in range(1000):
        packer.pack(1, 0, i << 32, [])  # equal low halves: one long run of probes
    data, counted = packer.merge(None)
    assert all(counted)
    assert packer.merge(data)[1] == [False] * 1000


def test_an_event_past_its_limit_is_refused_and_leaves_the_packer_usable() -> None:
    packer = events.Packer()
    packer.pack(1, 1, 1, [("i", 5)])
    with pytest.raises(TooLarge):
        packer.pack(1, 2, 2, [("t", "x" * 1025)])
    with pytest.raises(TooLarge):
        packer.pack(1, 3, 3, [("t", "x" * 1024)] * 9)
    packer.pack(1, 4, 4, [("i", 6)])
    data, counted = packer.merge(None)
    assert counted == [True, True]
    assert [entry[1] for entry in events.unpack(data, lambda _: "i")] == [1, 4]


@given(st.data())
def test_any_changed_byte_of_a_list_is_found(data: st.DataObject) -> None:
    packer = events.Packer()
    packer.pack(1, 2, 3, [("t", "abc")])
    kind = data.draw(st.booleans())
    whole = bytearray(contacts.merge(None, [CONTACT])[0] if kind else packer.merge(None)[0])
    place = data.draw(st.integers(0, len(whole) - 1).filter(lambda at: at != 3))
    whole[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(StoreCorrupt):
        _ = contacts.unpack(bytes(whole)) if kind else events.unpack(bytes(whole), lambda _: "t")


@given(st.binary(max_size=120))
def test_entries_that_lie_about_their_size_are_refused(entries: bytes) -> None:
    """A right checksum over wrong sizes: walking stays inside."""
    for count in (0, 1, 2, 0xFFFFFFFF):
        body = struct.pack("<II", count, 0) + entries
        data = bytes.fromhex("45500100") + struct.pack("<I", crc32c(body)) + body
        with contextlib.suppress(StoreCorrupt, UnicodeDecodeError):
            assert len(events.unpack(data, lambda _: "titi")) == count
        with contextlib.suppress(StoreCorrupt):
            events.Packer().unite(data, data)
