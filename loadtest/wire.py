"""A closed-loop gRPC generator on bare sockets: light enough that the server, not the generator, is what is measured.

A grpcio client costs as much processor time a call as a grpcio server does, so on two cores it would measure itself.
This one speaks just enough HTTP/2 for unary calls: frames are put together from prepared bytes, many at a time, and of
an answer only the frames' headers are looked at. Each connection keeps a fixed number of calls open and begins the next
when one is answered.

An answer counts as good when its stream ends without error and carried a message; gRPC refusals carry none. What is in
the messages is checked by the caller on the samples kept.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_FRAME = struct.Struct(">IBI")  # 24 bit length and 8 bit type, flags, stream
_HEADER_TABLE_SIZE, _INITIAL_WINDOW_SIZE = 1, 4
_LARGEST_WINDOW = 2**31 - 1
_DEFAULT_WINDOW = 65_535
_LARGEST_MESSAGE = 16_384 - 5  # one frame of the size every peer takes, less gRPC's own prefix
_SAMPLES = 16


@dataclass(slots=True)
class Tally:
    """What one run of the generator saw. Latencies are in nanoseconds, from sending to the stream's end."""

    seconds: float = 0.0
    answered: int = 0
    failed: int = 0
    latencies: list[int] = field(default_factory=list)
    samples: list[bytes] = field(default_factory=list)  # a few messages as received

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return self.answered / self.seconds


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _FRAME.pack(len(payload) << 8 | kind, flags, stream) + payload


def _literal(name: str, value: str) -> bytes:
    """A header field literal without indexing (RFC 7541, 6.2.2), unpacked strings under 127 bytes."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def _headers(path: str, authority: str) -> bytes:
    post_http = b"\x83\x86"  # :method POST and :scheme http stand in the static table
    return post_http + b"".join(
        _literal(name, value)
        for name, value in (
            (":path", path),
            (":authority", authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
        )
    )


class _Connection:
    """One HTTP/2 connection with ``depth`` calls open. Not thread-safe; non-blocking once connected."""

    def __init__(
        self, address: tuple[str, int], path: str, messages: Sequence[bytes], depth: int, tally: Tally
    ) -> None:
        self.socket = socket.create_connection(address, timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.tally = tally
        self.stopping = False
        self.open: dict[int, int] = {}  # stream -> when it was sent, ns
        self._with_message: set[int] = set()
        headers = _headers(path, f"{address[0]}:{address[1]}")
        self._head = _FRAME.pack(len(headers) << 8 | _HEADERS, _END_HEADERS, 0)[:5]
        self._headers = headers
        self._bodies = []  # frame header up to the stream's number, and payload
        for message in messages:
            body = b"\0" + struct.pack(">I", len(message)) + message
            self._bodies.append((_FRAME.pack(len(body) << 8 | _DATA, _END_STREAM, 0)[:5], body))
        self._next_body = 0
        self._next_stream = 1
        self._waiting = depth  # calls to begin as soon as the window allows
        self._window = _DEFAULT_WINDOW
        self._received = 0  # bytes of messages not yet given back to the server's window
        self._in = bytearray()
        self._out = bytearray(_PREFACE)
        settings = struct.pack(">HIHI", _HEADER_TABLE_SIZE, 0, _INITIAL_WINDOW_SIZE, _LARGEST_WINDOW)
        self._out += _frame(_SETTINGS, 0, 0, settings)
        self._out += _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _LARGEST_WINDOW - _DEFAULT_WINDOW))
        self._begin()
        self.socket.setblocking(False)

    def _begin(self) -> None:
        now = time.perf_counter_ns()
        parts: list[bytes] = []
        while self._waiting and not self.stopping:
            head, body = self._bodies[self._next_body]
            if self._window < len(body):
                break
            self._window -= len(body)
            self._next_body = (self._next_body + 1) % len(self._bodies)
            stream = self._next_stream.to_bytes(4, "big")
            parts += (self._head, stream, self._headers, head, stream, body)
            self.open[self._next_stream] = now
            self._next_stream += 2
            self._waiting -= 1
        self._out += b"".join(parts)

    def send(self) -> None:
        """Writes what the socket takes."""
        if self._out:
            try:
                sent = self.socket.send(self._out)
            except BlockingIOError:
                return
            del self._out[:sent]

    def receive(self) -> None:
        """Reads what has arrived, counts finished calls, begins as many new ones."""
        try:
            arrived = self.socket.recv(1 << 18)
        except BlockingIOError:
            return
        if not arrived:
            raise ConnectionError("the server closed the connection")
        self._in += arrived
        buffer, offset, end = self._in, 0, len(self._in)
        while end - offset >= 9:
            word, flags, stream = _FRAME.unpack_from(buffer, offset)
            length = word >> 8
            if end - offset - 9 < length:
                break
            self._handle(word & 0xFF, flags, stream, offset + 9, length)
            offset += 9 + length
        del buffer[:offset]
        if self._received > _LARGEST_WINDOW // 2:
            self._out += _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", self._received))
            self._received = 0
        self._begin()

    def _handle(self, kind: int, flags: int, stream: int, start: int, length: int) -> None:
        if kind == _DATA:
            self._received += length
            self._with_message.add(stream)
            if len(self.tally.samples) < _SAMPLES and length > 5:
                self.tally.samples.append(bytes(self._in[start + 5 : start + length]))
        elif kind == _SETTINGS and not flags & _ACK:
            self._out += _frame(_SETTINGS, _ACK, 0, b"")
        elif kind == _PING and not flags & _ACK:
            self._out += _frame(_PING, _ACK, 0, bytes(self._in[start : start + 8]))
        elif kind == _WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(self._in[start : start + 4], "big")
        elif kind == _GOAWAY:
            raise ConnectionError("the server is going away")
        if (kind in (_HEADERS, _DATA) and flags & _END_STREAM) or kind == _RST_STREAM:
            self._finish(stream, kind)

    def _finish(self, stream: int, kind: int) -> None:
        begun = self.open.pop(stream, None)
        if begun is None:
            return
        self._waiting += 1
        if kind != _RST_STREAM and stream in self._with_message:
            self.tally.answered += 1
            self.tally.latencies.append(time.perf_counter_ns() - begun)
        else:
            self.tally.failed += 1
        self._with_message.discard(stream)

    @property
    def wants_to_write(self) -> bool:
        """Whether bytes wait for the socket."""
        return bool(self._out)


def run(
    address: tuple[str, int], path: str, messages: Sequence[bytes], *, seconds: float, connections: int, depth: int
) -> Tally:
    """Calls ``path`` (``/package.Service/Method``) with ``messages`` in turn for ``seconds``.

    ``connections`` x ``depth`` calls are open all the time. Calls open at the end are waited for and counted; the time
    is until the last answer. A message has to fit one frame (16 KiB); ValueError otherwise. Raises ConnectionError when
    the server closes, TimeoutError when it stops answering.
    """
    if (longest := max(map(len, messages))) > _LARGEST_MESSAGE:
        raise ValueError(f"a message of {longest} bytes does not fit one frame of {_LARGEST_MESSAGE}")
    tally = Tally()
    with contextlib.ExitStack() as closing, selectors.DefaultSelector() as selector:
        made = []
        for _ in range(connections):
            made.append(_Connection(address, path, messages, depth, tally))
            closing.callback(made[-1].socket.close)
        for connection in made:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
            connection.send()
        began = time.perf_counter()
        progress = began
        while any(connection.open for connection in made) or time.perf_counter() < began + seconds:
            now = time.perf_counter()
            if now >= began + seconds:
                for connection in made:
                    connection.stopping = True
            ready = selector.select(timeout=1.0)
            if ready:
                progress = now
            elif now - progress > 30:
                raise TimeoutError(f"no answer for 30 s; {sum(len(each.open) for each in made)} calls are open")
            for key, events in ready:
                connection = key.data
                if events & selectors.EVENT_READ:
                    connection.receive()
                connection.send()
                wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.wants_to_write else 0)
                if wanted != key.events:
                    selector.modify(connection.socket, wanted, connection)
        tally.seconds = time.perf_counter() - began
    return tally
