"""What the target ``feed`` needs: a reader of feeds, its judge, first inputs, and changes that know what their bytes mean.

The judge takes the other way through a message: the protobuf library, the mutation of each item's unary call, and the packing
that applies it. Where the reader packed an item itself, both must have packed the same; what it leaves to the library needs no
judge. A store is not needed: a catalog is, which `tests.property.test_ingest_equals_tell` declares.
"""

from __future__ import annotations

import contextlib
import random
import struct
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

from google.protobuf.message import DecodeError

from core.errors import RapportError
from core.hub.catalog import Catalog
from core.hub.events import Packer
from core.hub.identifiers import RULES, normalised
from core.hub.ingest import ItemReader, items_of
from core.hub.mutations import IngestBatch, RecordEvents
from core.hub.record import KINDS, siphash
from core.hub.values import LETTERS, checked
from protos.rapport.v1 import ingest_pb2
from server.services.items import Items
from tests.fuzz import targets
from tests.property import test_ingest_equals_tell as feeds
from tests.property.spoiling import damaged

COLUMNS: Final = 0x80  # of the first byte, as targets.pyx
LIST_HEADER: Final = 16  # bytes before the entries of a stored list

Read = tuple[list[int], list[IngestBatch | bytes]]


@contextlib.contextmanager
def ready(sample: int) -> Iterator[Judge]:
    """Makes the target ready; every ``sample``-th input is judged."""
    catalog = Catalog().declared(feeds.SCHEMA)
    judge = Judge(catalog)
    targets.prepare_feed(ItemReader(catalog), feeds.NOW_US, judge.message, judge.texts, sample)
    yield judge


class Judge:
    """Judges what the reader made of messages, and counts how often it packed, left or refused."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        # Neither store nor engine is asked where a message's items are events.
        self._items = Items(cast(Any, None), cast(Any, None), lambda: feeds.NOW_US)
        self.packed = self.left = self.refused = 0
        self.formed = [0, 0]  # columns of texts that are not well-formed, and that are

    def message(self, data: bytes, read: Read | None, most: int) -> None:
        """Raises AssertionError where the library's way makes something else of an item that the reader packed."""
        if read is None:
            self.refused += 1
            return
        seqs, pieces = read
        told = f"most {most}: {data.hex()}"
        left = [piece for piece in pieces if isinstance(piece, bytes)]
        self.left += len(left)
        try:
            message = ingest_pb2.IngestRequest.FromString(data)
        except DecodeError:
            # The whole message falls with the item that the library refuses.
            assert any(_undecodable(piece) for piece in left), f"taken, and no IngestRequest; {told}"
            return
        assert len(seqs) == len(message.items), f"{len(seqs)} items of {len(message.items)}; {told}"
        place = 0
        for piece in pieces:
            if isinstance(piece, bytes):
                assert ingest_pb2.IngestItem.FromString(piece) == message.items[place], told
                place += 1
                continue
            assert 0 < piece.rows <= most, told
            assert piece.received_us == feeds.NOW_US, told
            for packed in items_of(piece.items):
                self.packed += 1
                item = message.items[place]
                assert seqs[place] == item.seq, told
                try:
                    expected = self._packed(item)
                except RapportError as error:
                    raise AssertionError(f"item {place} was packed, and is refused: {error!r}; {told}") from error
                assert packed == expected, f"item {place} is {packed.hex()}, should be {expected.hex()}; {told}"
                place += 1

    def _packed(self, item: ingest_pb2.IngestItem) -> bytes:
        """An item as `core.hub.ingest` packs it, by the library and what applies `RecordEvents`."""
        mutation = self._items.mutation(item, feeds.NOW_US, self._catalog)
        assert isinstance(mutation, RecordEvents), mutation
        (event,) = mutation.events
        body = b""
        for one in mutation.identifiers:
            entry = self._catalog.namespace_entry(one.namespace)
            key = struct.pack(">H", entry.number) + normalised(entry.normaliser, one.value, entry.name)
            body += struct.pack("<H", len(key)) + key
        described = self._catalog.event(event.type)
        assert set(event.fields) <= set(described.field_names), event.fields
        cells = []
        for field in described.fields:
            codes = {label: label for label in field.labels}
            cell = checked(field.name, KINDS[field.type], event.fields.get(field.name), field, codes)
            assert not isinstance(cell, frozenset), "no field of an event is a set"
            cells.append((LETTERS[field.type], cell))
        packer = Packer()
        packer.pack(described.number, event.at_us, siphash(event.key.encode()), cells)
        body += packer.merge(None)[0][LIST_HEADER:]
        return struct.pack("<IH", 6 + len(body), len(mutation.identifiers)) + body

    def texts(self, rule: int, rows: int, ends: bytes, texts: bytes, most: int, answer: bool) -> None:
        """Raises AssertionError where `well_formed` says something else than Python does."""
        assert answer == _formed(rule, rows, ends, texts, most), (
            f"well_formed({rule}, {rows}, {ends!r}, {texts!r}, {most}) is {answer}")
        self.formed[answer] += 1


def _undecodable(data: bytes) -> bool:
    try:
        ingest_pb2.IngestItem.FromString(data)
    except DecodeError:
        return True
    return False


def _formed(rule: int, rows: int, ends: bytes, texts: bytes, most: int) -> bool:
    start = 0
    for end in struct.unpack(f"<{rows}I", ends):
        if not start <= end <= len(texts) or end - start > most:
            return False
        text = texts[start:end]
        try:
            text.decode()
        except UnicodeDecodeError:
            return False
        if rule and text:
            (normaliser,) = [each for each, number in RULES.items() if number == rule]
            try:
                if normalised(normaliser, text.decode(), "any") != text:
                    return False
            except RapportError:
                return False
        start = end
    return start == len(texts)


# --- inputs -------------------------------------------------------------------------------------------------------


def changed(message_changed: Callable[[random.Random, bytes], bytes], data: bytes, most: int, seed: int) -> bytes:
    """An input with one thing changed; ``message_changed`` changes a protobuf message."""
    chance = random.Random(seed)
    if not data:
        return b"\0"
    if data[0] & COLUMNS:
        return (_column(chance) if chance.random() < 0.1 else data[:1] + damaged(chance, data[1:]))[:most]
    body = message_changed(chance, data[1:])
    if chance.random() < 0.2:
        body += feeds.request([feeds.item(chance, chance.randrange(9)).SerializeToString()])
    return (data[:1] + body)[:most]


def seeds(seed: int) -> Iterator[bytes]:
    """Messages as clients send them, a few items with something wrong among them, and columns of texts."""
    chance = random.Random(seed)
    for number in range(120):
        items = [feeds.item(chance, seq).SerializeToString() for seq in range(1, chance.randrange(2, 6))]
        yield bytes([number % 8]) + feeds.request(items)
        if number % 2:
            yield _column(chance)


def _column(chance: random.Random) -> bytes:
    """Texts of a few rows: mostly normalised, as the rule wants them."""
    rule = chance.randrange(4)
    likely = ("", "ana@example.pt", "+351912345678", "C-1", "ünïcode", "x" * 200)
    texts = [chance.choice(likely).encode() for _ in range(chance.randrange(6))]
    ends = [sum(map(len, texts[: place + 1])) for place in range(len(texts))]
    head = bytes([COLUMNS | rule, len(texts), chance.choice((255, 255, 20))])
    return head + b"".join(struct.pack("<H", end) for end in ends) + b"".join(texts)

