"""An HTTP/2 client made of sockets and hand-made frames, for tests that no library would send.

It sends any bytes, well-formed or not, and reads what a server says frame by frame. Requests are HPACK literals, written here;
answers are decoded by libnghttp2's inflater, which the server links anyway. Nothing is sent unasked except
acknowledgements, and those only while ``polite``.
"""

from __future__ import annotations

import base64
import ctypes
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final
from urllib.parse import unquote_to_bytes

from google.rpc import error_details_pb2, status_pb2

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = range(1, 7)
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = range(4)
STREAM_CLOSED: Final = 5
FRAME_SIZE_ERROR: Final = 6
REFUSED_STREAM: Final = 7
CANCEL: Final = 8
COMPRESSION_ERROR: Final = 9
ENHANCE_YOUR_CALM: Final = 11
MAGIC: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SECONDS: Final = 20.0  # bound on every wait; none should come near it

DECIDE: Final = "/rapport.v1.DecisionService/Decide"
CHECK: Final = "/grpc.health.v1.Health/Check"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"", *, length: int | None = None) -> bytes:
    """A frame's bytes; ``length`` tells another length than the payload's."""
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(values: Mapping[int, int] | Iterable[tuple[int, int]] = (), *, ack: bool = False) -> bytes:
    """A SETTINGS frame."""
    pairs = values.items() if isinstance(values, Mapping) else values
    return frame(SETTINGS, ACK if ack else 0, 0, b"".join(struct.pack(">HI", key, value) for key, value in pairs))


def window_update(stream: int, size: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", size))


def reset(stream: int, code: int = CANCEL) -> bytes:
    """A RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def integer(value: int, bits: int, first: int = 0) -> bytes:
    """An HPACK integer with a prefix of ``bits``, in a byte whose upper bits are ``first``."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([first | value])
    out = [first | most]
    value -= most
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def literal(name: str | bytes, value: str | bytes, *, indexed: bool = False) -> bytes:
    """One HPACK field as a literal with a new name, not Huffman-coded; ``indexed`` puts it into the dynamic table."""
    raw = [each.encode() if isinstance(each, str) else each for each in (name, value)]
    return (b"\x40" if indexed else b"\x00") + b"".join(integer(len(each), 7) + each for each in raw)


def block(fields: Iterable[tuple[str, str | bytes]]) -> bytes:
    """A header block of literals."""
    return b"".join(literal(name, value) for name, value in fields)


def request_fields(path: str = DECIDE, **more: str | bytes) -> list[tuple[str, str | bytes]]:
    """A gRPC request's fields. ``more`` adds or replaces: underscores stand for dashes, a leading one for the colon."""
    found: dict[str, str | bytes] = {
        ":method": "POST", ":scheme": "http", ":path": path, ":authority": "rapport",
        "te": "trailers", "content-type": "application/grpc",
    }
    for name, value in more.items():
        found[(":" + name[1:] if name.startswith("_") else name).replace("_", "-")] = value
    return list(found.items())


def message(data: bytes, *, flag: int = 0, length: int | None = None) -> bytes:
    """gRPC's length-prefixed message."""
    return struct.pack(">BI", flag, len(data) if length is None else length) + data


class _Field(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.POINTER(ctypes.c_uint8)),
        ("value", ctypes.POINTER(ctypes.c_uint8)),
        ("name_size", ctypes.c_size_t),
        ("value_size", ctypes.c_size_t),
        ("flags", ctypes.c_uint8),
    )


class _Inflater:
    """HPACK decoding of one connection's answers."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libnghttp2.so.14")
        self._library.nghttp2_hd_inflate_hd2.restype = ctypes.c_ssize_t
        self._library.nghttp2_hd_inflate_hd2.argtypes = (
            ctypes.c_void_p, ctypes.POINTER(_Field), ctypes.POINTER(ctypes.c_int), ctypes.c_char_p, ctypes.c_size_t,
            ctypes.c_int,
        )
        self._library.nghttp2_hd_inflate_end_headers.argtypes = (ctypes.c_void_p,)
        self._library.nghttp2_hd_inflate_del.argtypes = (ctypes.c_void_p,)
        self._state = ctypes.c_void_p()
        assert self._library.nghttp2_hd_inflate_new(ctypes.byref(self._state)) == 0

    def fields(self, coded: bytes) -> list[tuple[str, str]]:
        found = []
        while True:
            one, flags = _Field(), ctypes.c_int()
            taken = self._library.nghttp2_hd_inflate_hd2(
                self._state, ctypes.byref(one), ctypes.byref(flags), coded, len(coded), 1
            )
            assert taken >= 0, f"the server's header block cannot be decoded: {taken}"
            coded = coded[taken:]
            if flags.value & 2:
                name = ctypes.string_at(one.name, one.name_size)
                found.append((name.decode(), ctypes.string_at(one.value, one.value_size).decode()))
            if flags.value & 1:
                self._library.nghttp2_hd_inflate_end_headers(self._state)
                return found

    def close(self) -> None:
        if self._state:
            self._library.nghttp2_hd_inflate_del(self._state)
            self._state = ctypes.c_void_p()


@dataclass(slots=True)
class Frame:
    """What came over the wire."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def code(self) -> int:
        """The error code of a RST_STREAM or GOAWAY."""
        at = 4 if self.kind == GOAWAY else 0
        return int.from_bytes(self.payload[at : at + 4], "big")

    @property
    def last(self) -> int:
        """The last stream that a GOAWAY names."""
        return int.from_bytes(self.payload[:4], "big")


@dataclass(slots=True)
class Answer:
    """What a stream has been told so far."""

    fields: dict[str, str] = field(default_factory=dict)
    trailers: dict[str, str] = field(default_factory=dict)
    data: bytes = b""
    blocks: int = 0
    ended: bool = False
    reset: int | None = None
    frames: int = 0  # of DATA

    @property
    def status(self) -> int:
        """grpc-status, wherever it stands; -1 without one."""
        return int(self.trailers.get("grpc-status", self.fields.get("grpc-status", "-1")))

    @property
    def text(self) -> str:
        """grpc-message, decoded."""
        return unquote_to_bytes(self.trailers.get("grpc-message", self.fields.get("grpc-message", ""))).decode()

    @property
    def details(self) -> status_pb2.Status:
        """grpc-status-details-bin."""
        coded = self.trailers.get("grpc-status-details-bin", self.fields.get("grpc-status-details-bin", ""))
        return status_pb2.Status.FromString(base64.b64decode(coded + "=" * (-len(coded) % 4), validate=True))

    @property
    def reason(self) -> str:
        """The reason of the ErrorInfo among the details; empty without one."""
        info = error_details_pb2.ErrorInfo()
        return next((info.reason for each in self.details.details if each.Unpack(info)), "")

    @property
    def message(self) -> bytes:
        """The one message of the answer."""
        flag, size = struct.unpack(">BI", self.data[:5])
        assert (flag, size) == (0, len(self.data) - 5)
        return self.data[5:]


class Ended(Exception):  # noqa: N818  # it is no error of the client's
    """The server has closed the connection."""


class Client:
    """A connection. A context manager."""

    def __init__(
        self, address: str, *, tls: ssl.SSLContext | None = None, polite: bool = True, source: str | None = None,
        receive_bytes: int | None = None,
    ) -> None:
        host, _, port = address.rpartition(":")
        self.socket: socket.socket = socket.socket()
        if receive_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(SECONDS)
        if source is not None:
            self.socket.bind((source, 0))
        try:
            self.socket.connect((host, int(port)))
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        except OSError:
            self.socket.close()
            raise
        self.polite = polite
        self.replenish = polite  # window updates for what was read
        self.answers: dict[int, Answer] = {}
        self.goaways: list[Frame] = []
        self.pongs: list[bytes] = []
        self.settings: dict[int, int] = {}
        self.acks = 0
        self._inflater = _Inflater()
        self._pieces = bytearray()
        self._next = 1

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()
        self._inflater.close()

    def send(self, *pieces: bytes) -> None:
        self.socket.sendall(b"".join(pieces))

    def greet(self, values: Mapping[int, int] | Iterable[tuple[int, int]] = ()) -> Client:
        """Sends preface and settings, and waits for the server's."""
        self.send(MAGIC, settings(values))
        self.until(lambda: bool(self.settings) and self.acks > 0)
        return self

    def stream(self) -> int:
        """The next stream's number."""
        self._next += 2
        return self._next - 2

    def ask(self, data: bytes | None, path: str = DECIDE, **more: str | bytes) -> int:
        """Sends a call, whole when there is ``data``; its stream."""
        number = self.stream()
        head = frame(HEADERS, END_HEADERS, number, block(request_fields(path, **more)))
        self.send(head, b"" if data is None else frame(DATA, END_STREAM, number, message(data)))
        return number

    def call(self, data: bytes, path: str = DECIDE, **more: str | bytes) -> Answer:
        """Makes a call and waits for its end."""
        return self.wait(self.ask(data, path, **more))

    def answer(self, stream: int) -> Answer:
        """What the stream has been told so far."""
        return self.answers.setdefault(stream, Answer())

    def wait(self, stream: int) -> Answer:
        """The stream's answer once it has ended."""
        answer = self.answer(stream)
        self.until(lambda: answer.ended or answer.reset is not None)
        return answer

    def until(self, done: Callable[[], bool]) -> None:
        """Reads frames until ``done``. Raises Ended when the server closes first, TimeoutError when it says nothing."""
        bound = time.monotonic() + SECONDS
        while not done():
            if time.monotonic() > bound:
                raise TimeoutError("the server speaks, but never says what is waited for")
            self.read()

    def until_closed(self) -> None:
        """Reads until the server has closed the connection."""
        bound = time.monotonic() + SECONDS
        try:
            while time.monotonic() < bound:
                self.read()
        except Ended:
            return
        raise TimeoutError("the server goes on")

    def until_closed_bytes(self) -> bytes:
        """What the server says until it closes, whatever it is."""
        found = b""
        while True:
            try:
                got = self.socket.recv(1 << 16)
            except ConnectionError:
                return found
            if not got:
                return found
            found += got

    def settle(self) -> None:
        """Returns once the server has acted on all that was sent: it has answered a ping."""
        pongs = len(self.pongs)
        self.send(frame(PING, 0, 0, b"settled!"))
        self.until(lambda: len(self.pongs) > pongs)

    def read(self) -> Frame:
        """Reads one frame and acts on it."""
        head = self._take(9)
        size = int.from_bytes(head[:3], "big")
        one = Frame(head[3], head[4], int.from_bytes(head[5:9], "big") & 0x7FFFFFFF, self._take(size))
        try:
            self._act(one)
        except ConnectionError:
            # What it acknowledges has no reader any more; what was said before the end can still be read.
            self.polite = self.replenish = False
        return one

    def _take(self, size: int) -> bytes:
        while len(self._pieces) < size:
            try:
                got = self.socket.recv(1 << 16)
            except (ConnectionError, ssl.SSLError) as error:
                raise Ended(str(error)) from error
            if not got:
                raise Ended("end of file")
            self._pieces += got
        found = bytes(self._pieces[:size])
        del self._pieces[:size]
        return found

    def _act(self, one: Frame) -> None:
        if one.kind == SETTINGS:
            if one.flags & ACK:
                self.acks += 1
                return
            self.settings.update(
                struct.unpack_from(">HI", one.payload, at) for at in range(0, len(one.payload), 6)
            )
            if self.polite:
                self.send(settings(ack=True))
        elif one.kind == PING:
            if one.flags & ACK:
                self.pongs.append(one.payload)
            elif self.polite:
                self.send(frame(PING, ACK, 0, one.payload))
        elif one.kind == GOAWAY:
            self.goaways.append(one)
        elif one.kind == HEADERS:
            assert one.flags & END_HEADERS, "a header block of this server fits one frame"
            answer = self.answer(one.stream)
            into = answer.trailers if answer.blocks else answer.fields
            into.update(self._inflater.fields(one.payload))
            answer.blocks += 1
            answer.ended |= bool(one.flags & END_STREAM)
        elif one.kind == DATA:
            answer = self.answer(one.stream)
            answer.data += one.payload
            answer.frames += 1
            answer.ended |= bool(one.flags & END_STREAM)
            if self.replenish and one.payload:
                self.send(window_update(0, len(one.payload)), window_update(one.stream, len(one.payload)))
        elif one.kind == RST_STREAM:
            self.answer(one.stream).reset = one.code
