"""The look at a store's pages without LMDB: sound stores pass, whatever made them, and no number LMDB relies on is left out."""

from __future__ import annotations

import random
import shutil
import struct
from pathlib import Path

import msgspec
import pytest

from core.decision import Identifier
from core.errors import StoreCorrupt, StoreError, StoreUnavailable
from core.hub import keeping, opening
from core.hub.environment import open_environment
from core.hub.mutations import Erase, Outcome, RecordOutcomes, Upsert
from core.hub.pages import examine
from core.hub.redo import put_meta
from core.hub.store import Store
from core.hub.transaction import Transaction
from core.schema import Field, Namespace, Schema, ValueType
from tests.stored import of_format

NOTES = tuple(f"note {number}" for number in range(10))
SCHEMA = Schema(
    attributes={"age": Field("age", ValueType.INT)} | {note: Field(note, ValueType.STRING) for note in NOTES},
    namespaces={"crm": Namespace("crm")},
)
PAGE = 4096


def who(number: int) -> tuple[Identifier, ...]:
    return (Identifier("crm", f"person {number}"),)


def person(number: int, size: int) -> Upsert:
    """One whose record has about so many bytes, of at most 10,000."""
    notes = {note: "x" * min(max(size - 1000 * place, 0), 1000) or None for place, note in enumerate(NOTES)}
    return Upsert(identifiers=who(number), attributes={"age": number, **notes}, at_us=1)


def fill(path: Path, people: int = 300, seed: int = 7) -> None:
    """A store with trees of two levels, values of several pages and free pages."""
    chance = random.Random(seed)
    with Store.open(path) as store:
        store.declare(SCHEMA)
        for number in range(people):
            store.submit(person(number, chance.choice((0, 30, 300, 9000))))
        for number in range(0, people, 3):
            store.apply(Erase(identifiers=who(number), at_us=2))


def sound(path: Path) -> bool:
    try:
        examine(str(path), values=True)
    except (StoreCorrupt, StoreUnavailable):
        return False
    return True


@pytest.mark.parametrize("seed", range(3))
def test_every_sound_store_passes_at_each_of_its_states(tmp_path: Path, seed: int) -> None:
    """Pages split, merge, empty and are freed; a store that grew, shrank, was compacted or came of a backup is as sound."""
    chance = random.Random(seed)
    there: set[int] = set()
    with Store.open(tmp_path / "s") as store:
        store.declare(SCHEMA)
        for turn in range(60):
            for _ in range(chance.choice((1, 30))):
                number = chance.randrange(150)
                if number in there and chance.random() < (0.2 if turn < 30 else 0.8):
                    store.apply(Erase(identifiers=who(number), at_us=2))
                    there.discard(number)
                else:
                    store.apply(person(number, chance.choice((0, 40, 400, 3900, 10_000))))
                    there.add(number)
            with store.environment.reader():
                examine(str(tmp_path / "s"), values=True)
    saved, _ = keeping.backup(str(tmp_path / "s"), str(tmp_path / "b"), now_us=1_000_000)
    examine(str(saved), values=True)
    keeping.compact(str(tmp_path / "s"))
    examine(str(tmp_path / "s"), values=True)


def test_a_value_that_became_shorter_where_it_was_written_keeps_its_pages(tmp_path: Path) -> None:
    """LMDB leaves it the run of pages that it had in that transaction, which was told as damage. Found by test_journal."""
    environment_ = open_environment(str(tmp_path / "s"), meta={b"signing_key": msgspec.msgpack.encode(b"k" * 32)})
    try:
        txn = Transaction(environment_)
        for size in (30_000, 10_000):
            put_meta(txn, b"long", b"x" * size)
        txn.commit()
        examine(str(tmp_path / "s"), values=True)
        environment_.verify()
    finally:
        environment_.close()


def test_no_number_that_lmdb_relies_on_can_change_unseen(tmp_path: Path) -> None:
    """Each bit of page headers, of the places of entries and of entries' own headers, in every page that is in use."""
    fill(tmp_path / "s", people=60)
    keeping.compact(str(tmp_path / "s"))  # hardly a page is free
    file = tmp_path / "s" / "data.mdb"
    data = bytearray(file.read_bytes())
    missed = []
    for page in range(2, len(data) // PAGE):
        start = page * PAGE
        kind, lower = struct.unpack_from("<H", data, start + 10)[0], struct.unpack_from("<H", data, start + 12)[0]
        # In a page: its number and kind, where entries begin and end, where each lies, and each entry's sizes.
        places = [*range(start, start + 8), *range(start + 10, start + 16)] if kind else []
        if kind in (1, 2):
            entries = struct.unpack_from(f"<{(lower - 16) // 2}H", data, start + 16)
            places += range(start + 16, start + lower)
            # Of a value in pages of its own the size is its checksum's to tell, where as many pages hold it.
            big = {entry for entry in entries if kind == 2 and data[start + entry + 4] & 1}
            places += [start + entry + byte for entry in entries for byte in range(4 if entry in big else 0, 8)]
        free = False
        for place in places[:: 1 if page < 12 else 7]:
            bit = 1 << (place % 8)
            data[place] ^= bit
            file.write_bytes(data)
            unseen = sound(tmp_path / "s")
            data[place] ^= bit
            if unseen and not free:
                # Whether the page is in use at all: then it cannot be emptied unseen.
                emptied = bytearray(data)
                emptied[start:start + PAGE] = bytes(PAGE)
                file.write_bytes(emptied)
                free = sound(tmp_path / "s")
                if not free:
                    missed.append((page, place - start, kind))
        file.write_bytes(data)
    assert sound(tmp_path / "s")
    assert missed == []


@pytest.mark.parametrize(
    ("place", "what"), [(16, "magic"), (20, "version"), (40, "page bytes"), (44, "flags"), (144, "transaction")]
)
def test_first_pages_that_do_not_fit_each_other_are_refused(tmp_path: Path, place: int, what: str) -> None:
    fill(tmp_path / "s", people=5)
    file = tmp_path / "s" / "data.mdb"
    whole = file.read_bytes()
    for page in range(2):
        for bit in (0x01, 0x80):
            data = bytearray(whole)
            data[page * PAGE + place] ^= bit
            file.write_bytes(data)
            with pytest.raises((StoreCorrupt, StoreUnavailable)) as refused:
                Store.open(tmp_path / "s")
            assert "damaged" in str(refused.value), what
    file.write_bytes(whole)
    Store.open(tmp_path / "s").close()


@pytest.mark.damages("a page is damaged")
def test_a_damaged_page_is_refused_at_open_and_by_whoever_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leaf that says that it has fewer entries hid them: reads missed them, and a backup was without them."""
    fill(tmp_path / "s", people=40)
    file = tmp_path / "s" / "data.mdb"
    data = bytearray(file.read_bytes())
    page = 0
    for page in range(2 * PAGE, len(data), PAGE):
        kind, lower, _, first = struct.unpack_from("<4H", data, page + 10)
        if kind == 2 and lower > 30 and data[page + first + 8:].startswith(b"\x00\x01person"):
            struct.pack_into("<H", data, page + 12, lower - 2)
            file.write_bytes(data)
            if not sound(tmp_path / "s"):
                break  # it is no free one
            struct.pack_into("<H", data, page + 12, lower)
    for read_only in (True, False):
        with pytest.raises(StoreCorrupt, match=rf"Page {page // PAGE} of the store"):
            Store.open(tmp_path / "s", read_only=read_only)
    # A file too large to be looked at when it is opened is looked at by what copies it, and by the check.
    shutil.copytree(tmp_path / "s", tmp_path / "large")
    monkeypatch.setattr(opening, "EXAMINED_BYTES", 0)
    with pytest.raises(StoreCorrupt, match="Page"):
        keeping.backup(str(tmp_path / "large"), str(tmp_path / "b"), now_us=1_000_000)
    with pytest.raises(StoreCorrupt, match="Page"):
        keeping.compact(str(tmp_path / "large"))
    with Store.open(tmp_path / "large", read_only=True) as store:
        assert [fault.what for fault in store.check().faults] != []


@pytest.mark.damages("a key is damaged")
def test_an_identifier_under_a_damaged_key_is_found(tmp_path: Path) -> None:
    """Nobody finds it by what he is called, so no read can tell; its seal covers the key. One of an earlier format gets a seal
    by compaction."""
    fill(tmp_path / "s", people=20)
    file = tmp_path / "s" / "data.mdb"
    of_format(3, tmp_path / "s")
    with Store.open(tmp_path / "s") as store:
        assert store.check().faults == ()
    environment_ = open_environment(str(tmp_path / "s"), read_only=True)
    with environment_.reader() as reader:
        assert reader.customer(1, b"person 4") is not None
    environment_.close()
    keeping.compact(str(tmp_path / "s"))
    whole = file.read_bytes()
    place = whole.index(b"\x00\x01person 19") + 2
    data = bytearray(whole)
    data[place + 8] ^= 1  # person 19 becomes person 18's neighbour without leaving its place among the others
    file.write_bytes(data)
    with pytest.raises(StoreError):
        examine(str(tmp_path / "s"), values=True)


@pytest.mark.damages("a name is damaged")
def test_names_of_the_catalog_are_not_read_when_a_bit_of_them_changed(tmp_path: Path) -> None:
    """A flipped bit made 'cookie' to 'cmokie', which the check took for sound: names had no checksum."""
    fill(tmp_path / "s", people=3)
    file = tmp_path / "s" / "data.mdb"
    data = file.read_bytes()
    assert data.count(b"\xa3crm") >= 1
    file.write_bytes(data.replace(b"\xa3crm", b"\xa3crn"))
    with pytest.raises(StoreCorrupt, match="An entry of catalog is damaged: its checksum does not match its bytes"):
        Store.open(tmp_path / "s", read_only=True)


@pytest.mark.damages("a list is put under another key")
def test_a_list_under_the_key_of_another_is_not_his(tmp_path: Path) -> None:
    """Of two customers one had no contacts. A flipped bit in the key of the other's list made it his: the list's checksum fits,
    and it did not say whose it was."""
    with Store.open(tmp_path / "s") as store:
        store.declare(SCHEMA, ["card"], ["web"])
        for number in range(1, 12):
            store.apply(person(number, 0))
        shown = Outcome(identifiers=who(10), offer="card", outcome="shown", channel="web", at_us=1, instance=1)
        store.apply(RecordOutcomes(outcomes=(shown,)))
        with store.environment.reader() as reader:
            [(key, value)] = list(reader.items("contacts"))
    assert key == struct.pack("<Q", 10)
    file = tmp_path / "s" / "data.mdb"
    data = file.read_bytes()
    assert data.count(key + value) >= 1
    file.write_bytes(data.replace(key + value, struct.pack("<Q", 11) + value))
    with Store.open(tmp_path / "s", read_only=True) as store:
        with pytest.raises(StoreCorrupt, match="An entry of contacts is damaged"):
            store.profile(who(11))
        profile = store.profile(who(9))
        assert profile is not None
        (fault,) = store.check().faults
        assert fault.problem == "the checksum of an entry does not match its bytes"
        # "1 faults; 0 customers" looked like a store with nobody in it and nothing else wrong.
        assert fault.hint.startswith("The check ends here: what lies behind is neither counted nor told. Restore the store")
