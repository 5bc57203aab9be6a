"""The data plane under bytes that no client would send: valid connections, altered at random.

Each input is a connection's bytes, frames of many kinds in an order that a client might send them, with bytes, frames or lengths
changed, doubled, dropped or put elsewhere, and sent in random pieces. Whatever they are, the server lives, holds nothing of
them once they have gone, and serves the connection beside them. RAPPORT_CASES sets how many inputs (default 2,000, at most
50,000, which take five minutes), RAPPORT_SEED the first one's seed; a failure names the seed of the input that was last sent.
"""

from __future__ import annotations

import os
import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests import raw_http2 as h2
from tests.front_subject import FrontProcess, decide, decide_much
from tests.raw_http2 import Client, frame, message

CASES = min(int(os.environ.get("RAPPORT_CASES", "2000")), 50_000)
SEED = int(os.environ.get("RAPPORT_SEED", "20250615"))
BATCH = 100  # inputs between two looks at the server
OPEN = 8  # connections at a time
PATHS = (
    h2.DECIDE, h2.DECIDE, h2.CHECK, "/rapport.v1.DecisionService/Record", "/rapport.v1.DecisionService/Explain",
    "/rapport.v1.DecisionService/Tell", "/no/such",
)
FIELDS = (
    {}, {}, {"grpc_timeout": "1S"}, {"grpc_timeout": "1n"}, {"grpc_encoding": "gzip"}, {"content_type": "text/plain"},
    {"_method": "GET"}, {"long": "x" * 9000}, {"grpc_timeout": "x"}, {"content_length": "7"},
)


def connection(chance: random.Random) -> list[bytes]:
    """Frames of a connection that is more or less in order."""
    bodies = (decide(), decide_much(), b"", bytes(3000), b"\x0a\x00")
    initial = chance.choice((0, 1, 100, 65_535, 1 << 20))
    frames = [h2.MAGIC, h2.settings({h2.INITIAL_WINDOW_SIZE: initial} if chance.random() < 0.5 else {})]
    number = 1
    for _ in range(chance.randint(1, 12)):
        fields = h2.block(h2.request_fields(chance.choice(PATHS), **chance.choice(FIELDS)))
        data = message(chance.choice(bodies), flag=chance.choice((0, 0, 0, 1)))
        cut = chance.randint(0, len(data))
        half = chance.randint(0, len(fields))
        frames += (
            [frame(h2.HEADERS, 0, number, fields[:half]), frame(h2.CONTINUATION, h2.END_HEADERS, number, fields[half:])]
            if chance.random() < 0.2
            else [frame(h2.HEADERS, h2.END_HEADERS | (h2.END_STREAM if chance.random() < 0.05 else 0), number, fields)]
        )
        if chance.random() < 0.3:
            frames.append(frame(h2.DATA, 0, number, data[:cut]))
            data = data[cut:]
        if chance.random() < 0.9:
            frames.append(frame(h2.DATA, h2.END_STREAM, number, data))
        frames.append(
            chance.choice(
                (
                    b"", b"", h2.settings(ack=True), frame(h2.PING, 0, 0, b"12345678"), h2.reset(number),
                    frame(h2.PING, 0, 0, b"12345678") * 40,
                    h2.window_update(0, chance.choice((1, 1 << 16, 0x7FFFFFFF))),
                    h2.window_update(number, chance.choice((1, 1 << 16))), h2.settings({h2.INITIAL_WINDOW_SIZE: 1 << 20}),
                    frame(h2.PRIORITY, 0, number, struct.pack(">IB", number - 1, 3)), frame(0xEE, 1, number, b"x"),
                    frame(h2.GOAWAY, 0, 0, bytes(8)), h2.settings({h2.HEADER_TABLE_SIZE: chance.choice((0, 1 << 31))}),
                    frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, number, h2.literal("x-trailer", "1")),
                )
            )
        )
        number += chance.choice((2, 2, 2, 4, 100))
    return frames


def spoilt(chance: random.Random, frames: list[bytes]) -> bytes:
    """The connection's bytes after a few accidents."""
    for _ in range(chance.choice((0, 1, 1, 2, 4))):
        at = chance.randrange(len(frames))
        match chance.randrange(5):
            case 0:
                del frames[at]
            case 1:
                frames.insert(at, frames[chance.randrange(len(frames))])
            case 2:
                frames[at], frames[-1] = frames[-1], frames[at]
            case 3:
                frames[at] = frames[at][: chance.randrange(len(frames[at]) + 1)]
            case _:
                frames[at] += chance.randbytes(chance.randint(1, 20))
        if not frames:
            return b""
    raw = bytearray(b"".join(frames))
    for _ in range(chance.choice((0, 1, 1, 3, 10))):
        if raw:
            # The magic is mostly left alone, or few inputs would get beyond it.
            at = chance.randrange(min(24, len(raw) - 1) if chance.random() < 0.95 else 0, len(raw))
            raw[at] = chance.choice((0, 1, 4, 5, 0x7F, 0x80, 0xFF, chance.randrange(256)))
    return bytes(raw)


def send(chance: random.Random, one: socket.socket, raw: bytes) -> None:
    """Sends it in pieces and leaves in some way; the server may have closed long before."""
    try:
        while raw:
            size = chance.choice((1, 9, 100, 1000, len(raw), len(raw)))
            one.sendall(raw[:size])
            raw = raw[size:]
        way = chance.randrange(4)
        if way == 0:
            one.shutdown(socket.SHUT_WR)
        elif way == 1:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif way == 2:
            one.settimeout(0.02)
            while one.recv(1 << 16):
                pass
    except OSError:
        pass


def eventually(true: Callable[[], bool]) -> None:
    bound = time.monotonic() + h2.SECONDS
    waited = threading.Event()
    while not true():
        assert time.monotonic() < bound, "it never came true"
        waited.wait(0.01)


def gone(server: FrontProcess) -> bool:
    counters = server.counters()
    # One connection is the bystander's.
    return (counters["open_connections"], counters["open_calls"], counters["held_bytes"]) == (1, 0, 0)


def test_spoilt_connections_leave_nothing_and_disturb_nobody(tmp_path: Path) -> None:
    print(f"\nseed {SEED}, {CASES} inputs")
    seed = SEED
    # Budgets are small, so that inputs meet their ends too.
    limits = {"control_credit": 30, "reset_credit": 5, "metadata_bytes": 4000, "unsent_bytes": 1 << 19}
    with FrontProcess(tmp_path, plane_limits=limits) as server, Client(server.address).greet() as bystander:
        host, _, port = server.address.rpartition(":")
        try:
            while seed < SEED + CASES:
                sockets: list[socket.socket] = []
                for _ in range(min(BATCH, SEED + CASES - seed)):
                    chance = random.Random(seed)
                    one = socket.create_connection((host, int(port)))
                    one.settimeout(h2.SECONDS)
                    sockets.append(one)
                    send(chance, one, spoilt(chance, connection(chance)))
                    if len(sockets) > OPEN:
                        sockets.pop(chance.randrange(len(sockets))).close()
                    seed += 1
                answer = bystander.call(decide())
                assert answer.status in {0, 8}, answer
                for one in sockets:
                    one.close()
                eventually(lambda: gone(server))
            assert bystander.call(b"", h2.CHECK).status == 0
            counters = server.counters()
            print({name: value for name, value in counters.items() if value})
            # The inputs reach what they are meant to.
            assert CASES < 1000 or min(
                counters[name]
                for name in ("decided", "handed", "cancelled", "connections_abused", "handshakes_failed", "refused_framing",
                             "refused_method", "refused_compressed", "refused_metadata", "refused_timeout", "refused_expired")
            ) > 0
        except BaseException:
            print(f"the last input's seed was {seed - 1}")
            raise
