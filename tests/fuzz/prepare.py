"""Makes what the fuzzer's targets need, the first inputs to begin with, and changes to inputs that know what bytes mean.

``python -m tests.fuzz.prepare TARGET FOLDER`` writes first inputs, a file each. `native/driver.c` calls `prepare`.
All is drawn from SEED: worlds must stay the same for kept inputs to mean what they meant.
"""

from __future__ import annotations

import contextlib
import random
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from core import limits
from server.config import Config
from server.front import Front
from server.services.decisions import DecisionService
from tests import raw_http2 as h2
from tests.engine_subject import EngineSubject
from tests.front_subject import decide, decide_much, sources
from tests.fuzz import feeding, targets
from tests.property import generate
from tests.property.spoiling import BYTES, altered, damaged, fields, joined, varint
from tests.property.test_desk_equals_engine import Counter, counters, varied
from tests.property.test_transport_fuzz import connection

SEED: Final = 20250615
WORLDS: Final = 2
TARGETS: Final = ("request", "transport", "feed")
ORDER: Final = 0xF5  # as targets.pyx
ORDERS: Final = 9
SAMPLE: Final = 16  # answers of which one is judged while fuzzing

# Small, so that short inputs meet their ends.
LIMITS: Final = {
    "metadata_bytes": 2000, "message_bytes": 6000, "streams": 6, "calls": 12, "handed": 4, "held_bytes": 1 << 19,
    "requested_bytes": 16_000, "unsent_bytes": 1 << 18, "control_credit": 30, "control_refill": 10, "reset_credit": 5,
    "reset_refill": 2, "age_ns": 60_000_000_000, "idle_ns": 20_000_000_000, "continuations": 3,
}


# --- targets ------------------------------------------------------------------------------------------------------


def worlds(folder: Path, stack: contextlib.ExitStack) -> list[Counter]:
    """The worlds of the target ``request``, open until the stack closes."""
    return [stack.enter_context(_world(folder, SEED + number)) for number in range(WORLDS)]


@contextlib.contextmanager
def _world(folder: Path, seed: int) -> Iterator[Counter]:
    yield from counters(folder, [seed])


@contextlib.contextmanager
def requests(folder: Path, sample: int) -> Iterator[list[Counter]]:
    """Makes the target ``request`` ready; every ``sample``-th answer is judged."""
    with contextlib.ExitStack() as stack:
        made = worlds(folder, stack)
        targets.prepare_requests([each.desk for each in made], [each.judged for each in made], sample)
        yield made


@contextlib.contextmanager
def transport(folder: Path) -> Iterator[Front]:
    """Makes the target ``transport`` ready: a front with one loop, which is not started."""
    with EngineSubject(folder) as subject:
        subject.clock_us = generate.BASE_US
        subject.load(sources(), generate.BASE_US)
        methods = DecisionService(subject.engine, limits.MESSAGE_BYTES).methods()
        front = Front(
            Config(listen_decisions="127.0.0.1:0", threads_loops=1, threads_models=1, threads_handlers=1),
            methods, subject.engine, plane_limits=LIMITS,
        )
        front.serving("", True)
        plane = front._plane
        plane.follow(subject.engine.plan)
        targets.prepare_transport(plane)
        try:
            yield front
        finally:
            plane.end()
            plane.close()


_open = contextlib.ExitStack()  # what a fuzzer's process uses until it ends


def prepare(name: str, folder: str) -> tuple[int, Callable[[bytes, int, int], bytes], Callable[[int], None]]:
    """A target's address, the changes that know its bytes, and what tells of a finding. The store lies under ``folder``."""
    place = Path(mkdtemp(dir=folder))
    if name == "request":
        _open.enter_context(requests(place, SAMPLE))
    elif name == "transport":
        _open.enter_context(transport(place))
    else:
        _open.enter_context(feeding.ready(SAMPLE))
    return targets.address(name), CHANGES[name], tell


def tell(found: int) -> None:
    """Says what a target found."""
    print(f"found: {targets.FOUND[found]}", flush=True)


# --- requests -----------------------------------------------------------------------------------------------------


def request_changed(data: bytes, most: int, seed: int) -> bytes:
    """A request with one thing changed, mostly one that leaves it well-formed."""
    chance = random.Random(seed)
    if not data:
        return b"\0"
    return data[:1] + message_changed(chance, data[1:])[: most - 1]


def message_changed(chance: random.Random, data: bytes) -> bytes:
    """A protobuf message with one thing changed."""
    return chance.choice((altered, altered, altered, damaged, resized))(chance, data)


def resized(chance: random.Random, data: bytes) -> bytes:
    """A message one of whose texts or submessages is longer or shorter, at any depth, all lengths told right."""
    parts = fields(data)
    insides = [place for place, (tag, _) in enumerate(parts or ()) if tag & 7 == BYTES]
    if parts is None or not insides:
        return data
    place = chance.choice(insides)
    tag, raw = parts[place]
    inside = raw[next(digit for digit, byte in enumerate(raw) if byte < 0x80) + 1 :]
    if chance.random() < 0.5 and fields(inside):
        inside = resized(chance, inside)
    else:
        size = chance.choice((0, 1, 7, 63, 64, 100, 127, 128, 255, 256, 257, 1024, 1025, chance.randrange(300)))
        inside = (inside + chance.choice((b"x", inside or b"y", "ü".encode(), b"\xff")) * size)[:size]
    parts[place] = tag, varint(len(inside)) + inside
    return joined(parts)


def request_seeds(folder: Path) -> Iterator[bytes]:
    """What clients commonly send, to each world."""
    with contextlib.ExitStack() as stack:
        for number, world in enumerate(worlds(folder, stack)):
            chance = random.Random(SEED)
            for request in world.requests[:100]:
                yield bytes([number]) + varied(chance, request).SerializeToString()


# --- connections --------------------------------------------------------------------------------------------------


def order(what: int, value: int = 0) -> bytes:
    """A frame that is an order to the harness; `_obey` in targets.pyx says which there are."""
    return struct.pack(">IBBI", 0, ORDER, what, value)[1:]


def _frames(data: bytes) -> list[bytes]:
    """The frames of a connection's bytes, the magic first; what is no whole frame comes last."""
    found = []
    at = 24 if data.startswith(b"PRI") else 0
    if at:
        found.append(data[:at])
    while at < len(data):
        length = int.from_bytes(data[at : at + 3], "big")
        if data[at + 3 : at + 4] == bytes([ORDER]):
            length = 0
        found.append(data[at : at + 9 + length])
        at += 9 + length
    return found


def connection_changed(data: bytes, most: int, seed: int) -> bytes:
    """A connection with one or a few frames changed, moved, dropped, doubled, or put in."""
    chance = random.Random(seed)
    frames = _frames(data) or [h2.MAGIC]
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(len(frames))
        match chance.randrange(11):
            case 0 if len(frames) > 1:
                del frames[at]
            case 1:
                frames.insert(chance.randint(0, len(frames)), frames[at])
            case 2:
                other = chance.randrange(len(frames))
                frames[at], frames[other] = frames[other], frames[at]
            case 3:
                frames.insert(at + 1, order(chance.randrange(ORDERS), chance.choice((0, 1, 2, 3, 9, 100, 1 << 20))))
            case 4 | 5:
                drawn = connection(chance)
                start = chance.randrange(len(drawn))
                frames[at + 1 : at + 1] = drawn[start : start + chance.choice((1, 1, 2, 5))]
            case 6 if len(frames[at]) >= 9:
                frames[at] = _headed(chance, frames[at])
            case 7 | 8 if said := [place for place, each in enumerate(frames) if len(each) >= 14 and each[3] == h2.DATA]:
                at = chance.choice(said)
                frames[at] = _said(chance, frames[at])
            case _ if len(frames[at]) > 9:
                frames[at] = _filled(chance, frames[at])
            case _:
                frames[at] += order(0)
    return b"".join(frames)[:most]


def _headed(chance: random.Random, raw: bytes) -> bytes:
    """A frame with another kind, other flags, or another stream."""
    length, kind, flags, stream = raw[:3], raw[3], raw[4], int.from_bytes(raw[5:9], "big")
    match chance.randrange(4):
        case 0:
            kind = chance.randrange(11)
        case 1:
            flags ^= 1 << chance.choice((0, 2, 3, 5))
        case 2:
            stream = max(0, min(stream + chance.choice((-2, -1, 1, 2)), 0x7FFFFFFF))
        case _:
            stream = chance.choice((0, 1, 3, 5, 7, 0x7FFFFFFF))
    return length + struct.pack(">BBI", kind, flags, stream) + raw[9:]


def _said(chance: random.Random, raw: bytes) -> bytes:
    """A frame of data with another message in it, all lengths told right."""
    body = message_changed(chance, raw[14:])
    return h2.frame(h2.DATA, raw[4], int.from_bytes(raw[5:9], "big") & 0x7FFFFFFF, h2.message(body, flag=raw[9]))


def _filled(chance: random.Random, raw: bytes) -> bytes:
    """A frame with another payload, whose length is mostly told right."""
    inside = bytearray(raw[9:])
    at = chance.randrange(len(inside))
    match chance.randrange(5):
        case 0:
            inside[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        case 1:
            inside[at:at] = chance.randbytes(chance.randint(1, 9))
        case 2:
            del inside[at : at + chance.randint(1, 9)]
        case 3:
            inside += inside[:at]
        case _:
            name = chance.choice(("grpc-timeout", "content-type", ":path", "x"))
            inside[at:at] = h2.literal(name, chance.choice(("1S", "", "x" * 300)))
    length = len(inside) + (chance.choice((0, 0, 0, 0, 1, -1, 100)))
    return struct.pack(">I", max(length, 0) & 0xFFFFFF)[1:] + raw[3:9] + bytes(inside)


def connection_seeds() -> Iterator[bytes]:
    """Connections more or less in order, with orders between their frames."""
    for number in range(120):
        chance = random.Random(SEED + number)
        frames = connection(chance)
        for _ in range(chance.choice((0, 1, 3))):
            frames.insert(chance.randint(2, len(frames)), order(chance.randrange(ORDERS), chance.randrange(64)))
        yield b"".join(frames)[:8000]
    for name in (b"", b"rapport.v1.DecisionService", b"x" * 64, b"x" * 200):
        yield b"".join((
            h2.MAGIC, h2.settings(), h2.frame(h2.HEADERS, h2.END_HEADERS, 1, h2.block(h2.request_fields(h2.CHECK))),
            h2.frame(h2.DATA, h2.END_STREAM, 1, h2.message(joined([(0x0A, varint(len(name)) + name)]))),
        ))
    # More fields than are taken, and fields of the dynamic table named again and again.
    for more in (h2.literal("long", "x" * 2100), h2.literal("long", "x" * 1500, indexed=True) + b"\xbe" * 40):
        fields = h2.block(h2.request_fields()) + more
        yield b"".join((h2.MAGIC, h2.settings(), h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, 1, fields)))
    for body in (decide(), decide_much()):
        for what in range(ORDERS):
            yield b"".join((
                h2.MAGIC, h2.settings(), order(7, 8), order(3, what % 2),
                h2.frame(h2.HEADERS, h2.END_HEADERS, 1, h2.block(h2.request_fields())),
                h2.frame(h2.DATA, h2.END_STREAM, 1, h2.message(body)), order(what, 9), order(8), order(3, 1), order(0, 3),
            ))


# --- feeds --------------------------------------------------------------------------------------------------------


def feed_changed(data: bytes, most: int, seed: int) -> bytes:
    """A message of a feed, or a column of texts, with one thing changed."""
    return feeding.changed(message_changed, data, most, seed)


CHANGES: Final[dict[str, Callable[[bytes, int, int], bytes]]] = {
    "request": request_changed, "transport": connection_changed, "feed": feed_changed,
}


def first(target: str, folder: Path) -> Iterator[bytes]:
    """A target's first inputs; worlds they need lie under ``folder`` meanwhile."""
    if target == "request":
        return request_seeds(folder)
    return connection_seeds() if target == "transport" else feeding.seeds(SEED)


def main(target: str, into: Path) -> None:
    """Writes a target's first inputs into a folder."""
    into.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(first(target, Path(mkdtemp(dir=into.parent)))):
        (into / f"{number:04}").write_bytes(data)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
