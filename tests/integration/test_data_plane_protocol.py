"""gRPC over HTTP/2 as the data plane speaks it, for unary calls, case by case, by a client made of bare frames."""

from __future__ import annotations

import contextlib
import gc
import gzip
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2

from core import limits
from core.errors import BadValue
from protos.rapport.v1 import decision_pb2, values_pb2
from server import front as fronts
from server.config import Config
from server.services.calls import Context
from server.transport import plane, refusals
from tests import raw_http2 as h2
from tests.front_subject import FrontSubject, decide, decide_much
from tests.raw_http2 import Client, frame, message

DECIDED = decision_pb2.DecideResponse.FromString
EXPLAIN = "/rapport.v1.DecisionService/Explain"
RECORD = "/rapport.v1.DecisionService/Record"
TELL = "/rapport.v1.DecisionService/Tell"
INVALID_ARGUMENT, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, FAILED_PRECONDITION, UNIMPLEMENTED, INTERNAL = 3, 4, 8, 9, 12, 13
NOT_FOUND = 5


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontSubject]:
    with FrontSubject(tmp_path_factory.mktemp("front")) as made:
        yield made


@pytest.fixture
def client(subject: FrontSubject) -> Iterator[Client]:
    with Client(subject.address) as made:
        yield made.greet()


def eventually(true: Callable[[], bool]) -> None:
    """Waits for what another thread is about to do."""
    bound = time.monotonic() + h2.SECONDS
    waited = threading.Event()
    while not true():
        assert time.monotonic() < bound, "it never came true"
        waited.wait(0.005)


def quiet(subject: FrontSubject) -> bool:
    """Whether the plane holds nothing of any call."""
    counters = subject.front.counters()
    return (counters["open_calls"], counters["held_bytes"]) == (0, 0)


def served(client: Client) -> None:
    """The connection is served still."""
    answer = client.call(decide())
    assert (answer.status, answer.reset) == (0, None), answer
    assert DECIDED(answer.message).program == "starter@1"


# --- what a call is -----------------------------------------------------------------------------------------------


def test_an_answer_is_headers_data_and_trailers(client: Client) -> None:
    answer = client.call(decide())
    assert answer.fields == {":status": "200", "content-type": "application/grpc"}
    assert answer.trailers == {"grpc-status": "0"}
    assert [each.offer for each in DECIDED(answer.message).placements[0].offers] == ["newsletter"]


@pytest.mark.parametrize(
    "content", ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8", "application/grpc+proto; v=1"]
)
def test_content_types_of_grpc_are_taken(client: Client, content: str) -> None:
    assert client.call(decide(), content_type=content).status == 0


@pytest.mark.parametrize(
    "content", ["application/json", "application/grpc+json", "application/grpcx", "application/gr", "", "application/grpc-web"]
)
def test_other_content_types_are_415(client: Client, content: str) -> None:
    answer = client.call(decide(), content_type=content)
    assert (answer.fields, answer.ended) == ({":status": "415"}, True)
    served(client)


def test_no_content_type_is_415(client: Client) -> None:
    number = client.stream()
    fields = [each for each in h2.request_fields() if each[0] != "content-type"]
    client.send(frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, number, h2.block(fields)))
    assert client.wait(number).fields == {":status": "415"}
    served(client)


@pytest.mark.parametrize("method", ["GET", "PUT", "post", "OPTIONS"])
def test_other_methods_than_post_are_405(client: Client, method: str) -> None:
    answer = client.call(decide(), _method=method)
    assert (answer.fields, answer.ended) == ({":status": "405"}, True)
    served(client)


@pytest.mark.parametrize(
    "path", ["/rapport.v1.DecisionService/Decides", "/rapport.v1.ProgramService/LoadProgram", "/", "/" + "x" * 4000]
)
def test_an_unknown_method_is_unimplemented_in_one_frame(client: Client, path: str) -> None:
    answer = client.call(decide(), path)
    assert (answer.status, answer.blocks, answer.data, answer.reason) == (UNIMPLEMENTED, 1, b"", "NOT_SERVED")
    served(client)


@pytest.mark.parametrize("text", ["1H", "99999999H", "30S", "20000m", "20000000u", "99999999n", "5M"])
def test_deadlines_that_can_be_kept(client: Client, text: str) -> None:
    assert client.call(decide(), grpc_timeout=text).status == 0


@pytest.mark.parametrize("text", ["", "5", "S", "5s", "123456789S", "-1S", "1.5S", " 1S", "1S ", "१S"])
def test_a_malformed_timeout_is_refused_by_name(client: Client, text: str) -> None:
    answer = client.call(decide(), grpc_timeout=text)
    # Leading and trailing blanks are no field values at all in HTTP/2, and nghttp2 ends such streams itself.
    if text.strip() != text and answer.reset is not None:
        assert answer.reset == h2.PROTOCOL_ERROR
    else:
        assert (answer.status, answer.reason) == (INVALID_ARGUMENT, "BAD_VALUE")
        assert "grpc-timeout" in answer.text
    served(client)


@pytest.mark.parametrize("text", ["0n", "1n", "0S"])
def test_a_call_whose_deadline_is_over_is_refused_before_any_work(subject: FrontSubject, client: Client, text: str) -> None:
    before = subject.front.counters()
    answer = client.call(decide(), grpc_timeout=text)
    assert (answer.status, answer.reason) == (DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
    answer = client.call(b"", RECORD, grpc_timeout=text)
    assert (answer.status, answer.reason) == (DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
    after = subject.front.counters()
    assert (after["decided"], after["handed"]) == (before["decided"], before["handed"])
    served(client)


def test_what_python_words_arrives_whole_however_it_is_spelt(client: Client) -> None:
    name = "wéb ✓ 100%"
    ask = decision_pb2.DecideRequest(channel=name, placements=[decision_pb2.PlacementRequest(name="home_hero")])
    answer = client.call(ask.SerializeToString())
    assert (answer.status, answer.reason, answer.blocks) == (INVALID_ARGUMENT, "UNKNOWN_NAME", 1)
    assert name in answer.text
    assert answer.fields["grpc-message"].isascii()
    assert answer.details.message == answer.text
    assert answer.details.code == answer.status
    bad = error_details_pb2.BadRequest()
    assert any(each.Unpack(bad) for each in answer.details.details)
    assert [each.field for each in bad.field_violations] == ["channel"]
    served(client)


def test_a_long_message_is_cut_between_characters(tmp_path: Path) -> None:
    """A client that decodes strictly can read it: nothing after `status.describe`, which cuts, cuts again."""

    def fails(data: bytes, context: Context) -> bytes:
        raise BadValue("x" * int(data), "✓" * 400)

    with FrontSubject(tmp_path, methods={"Explain": fails}) as subject, Client(subject.address).greet() as client:
        for ahead in range(1, 10):
            answer = client.call(str(ahead).encode(), EXPLAIN)
            assert answer.status == INVALID_ARGUMENT
            assert "✓..." in answer.text


def test_a_python_fault_tells_its_number_and_nothing_else(tmp_path: Path) -> None:
    def fails(data: bytes, context: Context) -> bytes:
        raise RuntimeError("secret")

    with FrontSubject(tmp_path, methods={"Explain": fails}) as subject, Client(subject.address).greet() as client:
        answer = client.call(b"", EXPLAIN)
        assert (answer.status, "secret" in answer.text, answer.reason) == (INTERNAL, False, "INTERNAL")
        served(client)


# --- limits -------------------------------------------------------------------------------------------------------


def test_metadata_beyond_its_limit(client: Client) -> None:
    assert client.settings[h2.MAX_HEADER_LIST_SIZE] == limits.METADATA_BYTES
    fits = limits.METADATA_BYTES - sum(len(name) + len(value) + 32 for name, value in h2.request_fields(token=""))
    assert client.call(decide(), token="x" * fits).status == 0
    answer = client.call(decide(), token="x" * (fits + 1))
    assert (answer.status, answer.reason, answer.blocks) == (RESOURCE_EXHAUSTED, "TOO_LARGE", 1)
    served(client)


def test_a_message_declared_too_large_is_refused_before_it_arrives(client: Client) -> None:
    number = client.ask(None)
    client.send(frame(h2.DATA, 0, number, message(b"abc", length=limits.MESSAGE_BYTES + 1)))
    answer = client.wait(number)
    assert (answer.status, answer.reason) == (RESOURCE_EXHAUSTED, "TOO_LARGE")
    client.until(lambda: answer.reset is not None)
    assert answer.reset == h2.NO_ERROR
    # What was under way when it was refused harms nobody.
    client.send(frame(h2.DATA, 0, number, bytes(1000)), frame(h2.DATA, h2.END_STREAM, number, bytes(10)))
    served(client)


def test_the_largest_message_is_taken_and_one_more_byte_is_not(subject: FrontSubject, client: Client) -> None:
    def upload(number: int, data: bytes) -> None:
        for at in range(0, len(data), 16_384):
            client.send(frame(h2.DATA, 0, number, data[at : at + 16_384]))
            if at % 65_536 == 49_152:
                client.settle()  # its window is open again
        client.send(frame(h2.DATA, h2.END_STREAM, number))

    number = client.ask(None, TELL)
    upload(number, message(b"\xff" * limits.MESSAGE_BYTES))
    answer = client.wait(number)
    assert (answer.status, answer.reason) == (INVALID_ARGUMENT, "BAD_VALUE")  # it is no TellRequest
    # Declared within the limit, sent beyond it.
    number = client.ask(None, TELL)
    upload(number, message(bytes(limits.MESSAGE_BYTES + 70_000), length=limits.MESSAGE_BYTES))
    answer = client.wait(number)
    assert (answer.status, answer.reason) == (RESOURCE_EXHAUSTED, "TOO_LARGE")
    served(client)
    eventually(lambda: quiet(subject))


def test_a_compressed_request_is_unimplemented_and_told_what_is_taken(client: Client) -> None:
    number = client.ask(None, grpc_encoding="gzip")
    client.send(frame(h2.DATA, h2.END_STREAM, number, message(gzip.compress(decide()), flag=1)))
    answer = client.wait(number)
    assert (answer.status, answer.fields["grpc-accept-encoding"]) == (UNIMPLEMENTED, "identity")
    # A client that may compress and did not.
    assert client.call(decide(), grpc_encoding="gzip").status == 0
    assert client.call(decide(), grpc_encoding="identity").status == 0


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [b""],
        [b"\0"],
        [b"\0\0\0\0"],
        [message(decide()), message(decide())],
        [message(decide(), length=3)],
        [message(decide(), length=1000)],
        [message(decide(), flag=2)],
        [message(decide()), b"\0"],
    ],
    ids=["none", "empty", "one byte", "no whole prefix", "two", "too long", "cut", "flag 2", "one byte more"],
)
def test_what_is_not_one_whole_message(client: Client, pieces: list[bytes]) -> None:
    number = client.stream()
    head = h2.END_HEADERS | (0 if pieces else h2.END_STREAM)
    client.send(frame(h2.HEADERS, head, number, h2.block(h2.request_fields())))
    for position, piece in enumerate(pieces, 1):
        client.send(frame(h2.DATA, h2.END_STREAM if position == len(pieces) else 0, number, piece))
    answer = client.wait(number)
    assert (answer.status, answer.reason, answer.ended) == (INVALID_ARGUMENT, "BAD_VALUE", True)
    served(client)


def test_metadata_past_the_limit_is_said_wherever_the_content_type_stands(client: Client) -> None:
    """Fields after the limit are not looked at: one before the content type made it HTTP 415, which gRPC clients call UNKNOWN."""
    fields = h2.request_fields(token="x" * 9_000)
    fields.insert(4, fields.pop())  # behind the pseudo fields
    number = client.stream()
    client.send(frame(h2.HEADERS, h2.END_HEADERS, number, h2.block(fields)))
    answer = client.wait(number)
    assert (answer.status, answer.reason) == (RESOURCE_EXHAUSTED, "TOO_LARGE")
    served(client)


def test_a_compressed_flag_without_a_compression_is_the_clients_fault(client: Client) -> None:
    """gRPC's doc/compression.md, test case 6. It was said to be no whole message, which it was."""
    number = client.stream()
    client.send(frame(h2.HEADERS, h2.END_HEADERS, number, h2.block(h2.request_fields())))
    client.send(frame(h2.DATA, h2.END_STREAM, number, message(decide(), flag=1)))
    answer = client.wait(number)
    assert (answer.status, "Compressed-Flag" in answer.text) == (INTERNAL, True)
    served(client)


def test_an_empty_message_is_one(client: Client) -> None:
    answer = client.call(b"", RECORD)
    assert (answer.status, "outcomes" in answer.text) == (INVALID_ARGUMENT, True)


# --- frames -------------------------------------------------------------------------------------------------------


def test_a_message_byte_by_byte(client: Client) -> None:
    number = client.ask(None)
    for byte in message(decide()):
        client.send(frame(h2.DATA, 0, number, bytes([byte])))
    client.send(frame(h2.DATA, h2.END_STREAM, number))
    assert client.wait(number).status == 0


def test_every_byte_in_a_segment_of_its_own(subject: FrontSubject) -> None:
    with Client(subject.address) as client:
        ask = frame(h2.HEADERS, h2.END_HEADERS, 1, h2.block(h2.request_fields()))
        for byte in h2.MAGIC + h2.settings() + ask + frame(h2.DATA, h2.END_STREAM, 1, message(decide())):
            client.send(bytes([byte]))
        assert client.wait(1).status == 0


def test_a_header_block_in_pieces(client: Client) -> None:
    number = client.stream()
    block = h2.block(h2.request_fields())
    client.send(
        frame(h2.HEADERS, 0, number, block[:5]),
        frame(h2.CONTINUATION, 0, number, block[5:6]),
        frame(h2.CONTINUATION, h2.END_HEADERS, number, block[6:]),
        frame(h2.DATA, h2.END_STREAM, number, message(decide())),
    )
    assert client.wait(number).status == 0


def test_trailers_of_the_client_end_its_request(client: Client) -> None:
    number = client.ask(None)
    client.send(
        frame(h2.DATA, 0, number, message(decide())),
        frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, number, h2.block([("x-checksum", "1")])),
    )
    assert client.wait(number).status == 0
    # Trailers that do not end it are malformed, and end the stream alone.
    number = client.ask(None)
    client.send(frame(h2.HEADERS, h2.END_HEADERS, number, h2.block([("x-checksum", "1")])))
    assert client.wait(number).reset == h2.PROTOCOL_ERROR
    served(client)


def test_padding_and_priority_are_taken(client: Client) -> None:
    number = client.stream()
    block = h2.block(h2.request_fields())
    data = message(decide())
    client.send(
        frame(
            h2.HEADERS, h2.END_HEADERS | h2.PADDED | h2.WITH_PRIORITY, number,
            b"\x07" + struct.pack(">IB", 0, 15) + block + bytes(7),
        ),
        frame(h2.PRIORITY, 0, number, struct.pack(">IB", 0, 200)),
        frame(h2.PRIORITY, 0, number + 200, struct.pack(">IB", number, 1)),
        frame(h2.DATA, h2.PADDED, number, b"\xff" + data[:3] + bytes(255)),
        frame(h2.DATA, h2.PADDED | h2.END_STREAM, number, b"\x00" + data[3:]),
    )
    assert client.wait(number).status == 0


def test_frames_of_unknown_kinds_are_passed_over(client: Client) -> None:
    client.send(frame(0xEE, 0xFF, 0, b"whatever"), frame(0xEF, 0, 77, b""))
    served(client)


def test_a_ping_is_answered_with_its_bytes(client: Client) -> None:
    client.send(frame(h2.PING, 0, 0, b"12345678"))
    client.until(lambda: bool(client.pongs))
    assert client.pongs == [b"12345678"]


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (frame(h2.PING, 0, 0, b"1234567"), h2.FRAME_SIZE_ERROR),
        (frame(h2.PING, 0, 1, b"12345678"), h2.PROTOCOL_ERROR),
        (frame(h2.SETTINGS, 0, 0, b"12345"), h2.FRAME_SIZE_ERROR),
        (h2.settings({h2.INITIAL_WINDOW_SIZE: 1 << 31}), h2.FLOW_CONTROL_ERROR),
        (h2.settings({h2.MAX_FRAME_SIZE: 1}), h2.PROTOCOL_ERROR),
        (frame(h2.DATA, 0, 0, b"x"), h2.PROTOCOL_ERROR),
        (frame(h2.DATA, 0, 99, b"x"), h2.PROTOCOL_ERROR),
        (frame(h2.HEADERS, h2.END_HEADERS, 2, h2.block(h2.request_fields())), h2.PROTOCOL_ERROR),
        (frame(h2.HEADERS, h2.END_HEADERS, 0, h2.block(h2.request_fields())), h2.PROTOCOL_ERROR),
        (frame(h2.CONTINUATION, h2.END_HEADERS, 1, b""), h2.PROTOCOL_ERROR),
        (frame(h2.HEADERS, h2.END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"), h2.COMPRESSION_ERROR),
        (frame(h2.HEADERS, h2.END_HEADERS, 1, b"\xfe"), h2.COMPRESSION_ERROR),
        (frame(h2.HEADERS, 0, 1, b"") + frame(h2.PING, 0, 0, b"12345678"), h2.PROTOCOL_ERROR),
        (h2.window_update(0, 0), h2.PROTOCOL_ERROR),
        (h2.window_update(0, 0x7FFFFFFF), h2.FLOW_CONTROL_ERROR),
        (frame(h2.PUSH_PROMISE, h2.END_HEADERS, 1, b"\0\0\0\2"), h2.PROTOCOL_ERROR),
        (frame(h2.RST_STREAM, 0, 99, b"\0\0\0\0"), h2.PROTOCOL_ERROR),
        (frame(h2.DATA, 0, 1, b"x", length=16_385), h2.FRAME_SIZE_ERROR),
    ],
)
def test_what_breaks_a_connection_is_said_in_its_goaway(client: Client, bad: bytes, code: int) -> None:
    client.send(bad)
    client.until_closed()
    assert [each.code for each in client.goaways][-1:] == [code]


@pytest.mark.parametrize(
    "fields",
    [
        [(":method", "POST")],
        [*h2.request_fields(), (":path", "/again")],
        [*h2.request_fields(), ("Upper", "case")],
        [*h2.request_fields(), ("connection", "close")],
        [("te", "trailers"), *h2.request_fields()[:4]],
        [*h2.request_fields(), ("x", b"a\0b")],
        [*h2.request_fields(), ("content-length", "x")],
        [*h2.request_fields(), (":status", "200")],
    ],
)
def test_malformed_requests_end_their_stream_alone(subject: FrontSubject, client: Client, fields: list[Any]) -> None:
    number = client.stream()
    client.send(frame(h2.HEADERS, h2.END_HEADERS, number, h2.block(fields)))
    assert client.wait(number).reset == h2.PROTOCOL_ERROR
    served(client)
    eventually(lambda: quiet(subject))


def test_stream_numbers_are_not_used_again(client: Client) -> None:
    served(client)
    client.send(frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, 1, h2.block(h2.request_fields())))
    served(client)  # passed over, or:
    assert client.answer(1).blocks <= 3


def test_the_last_stream_number_is_a_call_and_none_comes_after_it(subject: FrontSubject, client: Client) -> None:
    last = 0x7FFFFFFF
    client.send(
        frame(h2.HEADERS, h2.END_HEADERS, last, h2.block(h2.request_fields())),
        frame(h2.DATA, h2.END_STREAM, last, message(decide())),
    )
    assert client.wait(last).status == 0
    with Client(subject.address).greet() as other:
        served(other)


# --- flow control -------------------------------------------------------------------------------------------------


def test_an_answer_in_steps_of_one_byte(subject: FrontSubject) -> None:
    with Client(subject.address) as client:
        client.replenish = False
        client.greet({h2.INITIAL_WINDOW_SIZE: 0})
        number = client.ask(decide())
        answer = client.answer(number)
        client.until(lambda: answer.blocks == 1)
        client.settle()
        assert answer.data == b""
        while not answer.ended:
            before = len(answer.data)
            client.send(h2.window_update(number, 1))
            client.until(lambda before=before: answer.ended or len(answer.data) > before)  # type: ignore[misc]
        assert (answer.status, answer.frames) == (0, len(answer.data))
        assert DECIDED(answer.message).program == "starter@1"


def test_an_answer_larger_than_the_window_waits_for_it(client: Client) -> None:
    client.replenish = False
    number = client.ask(decide_much())
    answer = client.answer(number)
    client.until(lambda: len(answer.data) == 65_535)
    client.settle()
    assert len(answer.data) == 65_535
    # Others wait too, for the connection's window; an answer without a message needs none.
    other = client.ask(decide())
    assert client.call(b"", "/no/such").status == UNIMPLEMENTED
    assert client.answer(other).data == b""
    client.send(h2.window_update(0, 1 << 20))
    assert client.wait(other).status == 0
    client.send(h2.window_update(number, 1 << 20))
    assert client.wait(number).status == 0
    assert len(DECIDED(answer.message).placements[0].offers) == 40


def test_settings_that_change_while_an_answer_waits(client: Client) -> None:
    client.replenish = False
    client.send(h2.window_update(0, 1 << 24))
    number = client.ask(decide_much())
    answer = client.answer(number)
    client.until(lambda: len(answer.data) == 65_535)
    # Negative from now on, then enough.
    client.send(h2.settings({h2.INITIAL_WINDOW_SIZE: 10}))
    client.settle()
    assert len(answer.data) == 65_535
    client.send(h2.settings({h2.INITIAL_WINDOW_SIZE: 1 << 20, h2.HEADER_TABLE_SIZE: 0, h2.MAX_FRAME_SIZE: 1 << 20}))
    assert client.wait(number).status == 0
    served(client)
    client.send(h2.settings({h2.HEADER_TABLE_SIZE: 0xFFFFFFFF}))
    served(client)


def test_requests_share_the_window_that_the_server_gives(client: Client) -> None:
    streams = [client.ask(None, TELL) for _ in range(40)]
    for _ in range(4):
        for number in streams:
            client.send(frame(h2.DATA, 0, number, message(bytes(16_000), length=64_000) if _ == 0 else bytes(16_000)))
        client.settle()
    for number in streams:
        client.send(frame(h2.DATA, h2.END_STREAM, number))
    assert {client.wait(number).status for number in streams} == {INVALID_ARGUMENT}


# --- many calls, and calls that end early ---------------------------------------------------------------------------


def test_streams_beyond_the_limit_are_refused_for_another_try(subject: FrontSubject, client: Client) -> None:
    assert client.settings[h2.MAX_CONCURRENT_STREAMS] == limits.STREAMS_PER_CONNECTION
    open_ones = [client.ask(None) for _ in range(limits.STREAMS_PER_CONNECTION)]
    client.settle()
    assert subject.front.counters()["open_calls"] == limits.STREAMS_PER_CONNECTION
    for number in open_ones:
        client.send(frame(h2.DATA, h2.END_STREAM, number, message(decide())))
    # RESOURCE_EXHAUSTED is a legitimate answer of a machine too slow to decide this many within the queue's limit.
    assert {client.wait(number).status for number in open_ones} <= {0, RESOURCE_EXHAUSTED}
    served(client)


def test_a_client_that_breaks_the_stream_limit_after_it_knew_is_sent_away(client: Client) -> None:
    for _ in range(limits.STREAMS_PER_CONNECTION + 1):
        client.ask(None)
    client.until_closed()
    assert client.goaways[-1].code in {h2.PROTOCOL_ERROR, h2.REFUSED_STREAM}


class Held:
    """A method of Python's that answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.go = threading.Event()

    def __call__(self, data: bytes, context: Context) -> bytes:
        self.asked.append(data)
        assert self.go.wait(h2.SECONDS)
        return data


def test_a_reset_of_a_call_that_python_works_on(tmp_path: Path) -> None:
    """The bytes of an answer that Python had made were taken off the connection's unsent ones, which never had them."""
    held = Held()
    with FrontSubject(tmp_path, methods={"Explain": held}) as subject, Client(subject.address).greet() as client:
        streams = [client.ask(b"x" * 1000, EXPLAIN) for _ in range(20)]
        eventually(lambda: len(held.asked) == 2)
        for number in streams:
            client.send(h2.reset(number))
        client.settle()
        held.go.set()
        eventually(lambda: quiet(subject))
        assert subject.front.counters()["cancelled"] == 20
        assert len(held.asked) == 2  # nobody waits for the others any more
        for _ in range(20):
            served(client)
        # Race: resets meet the answers, again and again.
        for _ in range(300):
            number = client.ask(b"x" * 1000, EXPLAIN)
            client.send(h2.reset(number, h2.NO_ERROR) if _ % 2 else h2.reset(number))
            if _ % 20 == 0:
                served(client)
        served(client)
        eventually(lambda: quiet(subject))


def test_a_deadline_that_passes_while_the_call_waits_for_python(tmp_path: Path) -> None:
    held = Held()
    with FrontSubject(tmp_path, methods={"Explain": held}) as subject, Client(subject.address).greet() as client:
        ahead = [client.ask(b"first", EXPLAIN) for _ in range(2)]
        eventually(lambda: len(held.asked) == 2)
        late = client.ask(b"late", EXPLAIN, grpc_timeout="20m")
        patient = client.ask(b"patient", EXPLAIN, grpc_timeout="20S")
        client.settle()
        threading.Event().wait(0.03)
        held.go.set()
        assert client.wait(late).status == DEADLINE_EXCEEDED
        assert {client.wait(number).status for number in [*ahead, patient]} == {0}
        assert b"late" not in held.asked


def test_a_connection_that_goes_while_python_works(tmp_path: Path) -> None:
    held = Held()
    with FrontSubject(tmp_path, methods={"Explain": held}) as subject:
        with Client(subject.address).greet() as client:
            for _ in range(10):
                client.ask(b"y" * 5000, EXPLAIN)
            eventually(lambda: len(held.asked) == 2)
        eventually(lambda: subject.front.counters()["open_connections"] == 0)
        held.go.set()
        eventually(lambda: quiet(subject))


def test_resets_of_calls_that_wait_and_that_are_answered(subject: FrontSubject, client: Client) -> None:
    client.replenish = False
    client.send(h2.settings({h2.INITIAL_WINDOW_SIZE: 100}))
    client.settle()
    answered = [client.ask(decide_much()) for _ in range(10)]
    client.settle()
    for number in answered:
        client.send(h2.reset(number))
    for _ in range(50):
        # Read in one piece: it is reset while it stands in the loop's queue.
        number = client.stream()
        client.send(
            frame(h2.HEADERS, h2.END_HEADERS, number, h2.block(h2.request_fields()))
            + frame(h2.DATA, h2.END_STREAM, number, message(decide())) + h2.reset(number)
        )
    client.settle()
    eventually(lambda: quiet(subject))
    client.send(h2.settings({h2.INITIAL_WINDOW_SIZE: 65_535}))
    served(client)


def test_a_busy_client_may_reset_as_many_calls_as_it_lets_finish(client: Client) -> None:
    """Deadlines of a busy client pass all the time; nghttp2 alone allows 33 a second, after the first thousand."""
    for _ in range(1500):
        gone = client.ask(None)
        client.send(h2.reset(gone))
        assert client.call(b"", h2.CHECK).status == 0
    served(client)


def test_a_client_that_has_sent_all_and_closed_its_half(subject: FrontSubject) -> None:
    """As other servers do, the plane takes the end of a client's bytes as its end; nothing of it stays."""
    for data in (decide(), decide_much(), None):
        with Client(subject.address).greet() as client:
            client.ask(data)
            client.socket.shutdown(socket.SHUT_WR)
            client.until_closed()
    eventually(lambda: quiet(subject))


def test_clients_that_vanish_at_every_point(subject: FrontSubject) -> None:
    whole = h2.MAGIC + h2.settings() + frame(h2.HEADERS, h2.END_HEADERS, 1, h2.block(h2.request_fields()))
    whole += frame(h2.DATA, h2.END_STREAM, 1, message(decide()))
    for cut in range(len(whole) + 1):
        client = Client(subject.address)
        client.send(whole[:cut])
        if cut % 2:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    eventually(lambda: quiet(subject))
    eventually(lambda: subject.front.counters()["open_connections"] == 0)
    with Client(subject.address).greet() as other:
        served(other)


def test_connections_and_calls_beyond_their_limits(tmp_path: Path) -> None:
    with FrontSubject(
        tmp_path, plane_limits={"connections": 3, "calls": 10}, settings={"threads_loops": 1}
    ) as subject:
        clients = [Client(subject.address).greet() for _ in range(3)]
        with Client(subject.address) as beyond:
            assert beyond.until_closed_bytes() == b""
        half = [clients[0].ask(None) for _ in range(10)]
        clients[0].settle()
        answer = clients[1].call(decide())
        assert (answer.status, answer.reason) == (RESOURCE_EXHAUSTED, "OVERLOADED")
        clients[0].send(*[h2.reset(number) for number in half])
        clients[0].settle()
        served(clients[1])
        clients[2].close()
        eventually(lambda: subject.front.counters()["open_connections"] == 2)
        with Client(subject.address).greet() as third:
            served(third)
        for client in clients[:2]:
            client.close()


def test_a_unix_socket(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/s"
    with FrontSubject(tmp_path / "front", settings={"listen_decisions": address}) as subject:
        clients = [Client(subject.address).greet() for _ in range(8)]
        for client in clients:
            served(client)
            client.ask(decide())
            client.close()
        eventually(lambda: subject.front.counters()["open_connections"] == 0)
        assert quiet(subject)


# --- health and programs ------------------------------------------------------------------------------------------


def test_health(subject: FrontSubject, client: Client) -> None:
    def check(service: str) -> h2.Answer:
        return client.call(health_pb2.HealthCheckRequest(service=service).SerializeToString(), h2.CHECK)

    for service in ("", "rapport.v1.DecisionService"):
        told = health_pb2.HealthCheckResponse.FromString(check(service).message)
        assert told.status == health_pb2.HealthCheckResponse.SERVING
    for service in ("nobody", "rapport.v1.DecisionServic", "x" * 127, "x" * 128, "x" * 5000):
        assert (check(service).status, check(service).reason) == (NOT_FOUND, "NOT_FOUND"), service
    for bad in (b"\x0a", b"\x0a\x05x", b"\x12\x00", b"\xff", b"\x0a\x80"):
        assert client.call(bad, h2.CHECK).status in {NOT_FOUND, INVALID_ARGUMENT}
    subject.front.serving("", False)
    told = health_pb2.HealthCheckResponse.FromString(check("").message)
    subject.front.serving("", True)
    assert told.status == health_pb2.HealthCheckResponse.NOT_SERVING
    watch = client.call(b"", "/grpc.health.v1.Health/Watch")
    assert watch.status == UNIMPLEMENTED


def test_no_program_is_a_failed_precondition_until_one_is_loaded(tmp_path: Path) -> None:
    with FrontSubject(tmp_path, program=False) as subject:
        # As many as it takes for both loops to have some.
        clients = [Client(subject.address).greet() for _ in range(16)]
        for client in clients:
            answer = client.call(decide())
            assert (answer.status, answer.reason) == (FAILED_PRECONDITION, "NO_PROGRAM")
        for version in range(1, 20):
            subject.load()
            for client in clients:
                assert DECIDED(client.call(decide()).message).program == f"starter@{version}"
        for client in clients:
            client.close()


def test_a_program_is_loaded_while_every_loop_is_busy(tmp_path: Path) -> None:
    """Whoever replaces a desk waits for the decision under way, and no busier loop makes it wait for another."""
    with FrontSubject(tmp_path) as subject, ThreadPoolExecutor(4) as pool:
        stop = threading.Event()

        def ask() -> list[int]:
            seen: list[int] = []
            with Client(subject.address).greet() as client:
                while not stop.is_set():
                    streams = [client.ask(decide()) for _ in range(32)]
                    for number in streams:
                        answer = client.wait(number)
                        if answer.status == 0:
                            seen.append(int(DECIDED(answer.message).program.partition("@")[2]))
            return seen

        asking: list[Future[list[int]]] = [pool.submit(ask) for _ in range(4)]
        try:
            for _ in range(10):
                subject.load()
        finally:
            stop.set()
        for each in asking:
            seen = each.result()
            assert seen == sorted(seen)
        with Client(subject.address).greet() as client:
            assert DECIDED(client.call(decide()).message).program == "starter@11"


# --- beginnings and ends of connections -----------------------------------------------------------------------------


def test_draining_serves_what_is_under_way_and_takes_nothing_new(tmp_path: Path) -> None:
    held = Held()
    with FrontSubject(tmp_path, methods={"Explain": held}) as subject, Client(subject.address).greet() as client:
        under_way = client.ask(b"slow", EXPLAIN)
        half = client.ask(None)
        idle = Client(subject.address).greet()
        eventually(lambda: len(held.asked) == 1)
        stopping = threading.Thread(target=subject.stop)
        stopping.start()
        # The first GOAWAY closes nothing: a call that was under way to the server meanwhile is served.
        client.until(lambda: len(client.goaways) == 1)
        assert (client.goaways[0].last, client.goaways[0].code) == (0x7FFFFFFF, h2.NO_ERROR)
        late = client.ask(decide())
        assert client.wait(late).status == 0
        client.until(lambda: len(client.goaways) == 2)
        assert (client.goaways[1].last, client.goaways[1].code) == (late, h2.NO_ERROR)
        idle.until_closed()
        assert [each.last for each in idle.goaways] == [0x7FFFFFFF, 0]
        idle.close()
        with pytest.raises(OSError, match="refused"):
            Client(subject.address)
        too_late = client.ask(decide())
        client.send(frame(h2.DATA, h2.END_STREAM, half, message(decide())))
        assert client.wait(half).status == 0
        held.go.set()
        answer = client.wait(under_way)
        assert (answer.status, answer.message) == (0, b"slow")
        client.until_closed()
        assert client.answer(too_late).blocks == 0
        stopping.join(h2.SECONDS)
        assert not stopping.is_alive()
        assert quiet(subject)


def test_a_drain_that_takes_too_long_is_ended_with_python_still_at_work(tmp_path: Path) -> None:
    held = Held()
    with FrontSubject(tmp_path, methods={"Explain": held}) as subject, Client(subject.address).greet() as client:
        for _ in range(10):
            client.ask(b"slow" * 1000, EXPLAIN)
        eventually(lambda: len(held.asked) == 2)
        stopping = threading.Thread(target=subject.stop, args=(0.2,))
        stopping.start()
        client.until_closed()
        held.go.set()
        stopping.join(h2.SECONDS)
        assert not stopping.is_alive()


def test_answers_that_come_after_the_plane_has_gone(tmp_path: Path) -> None:
    """A call that Python kept longer than its plane was answered into memory that was free by then."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    made = plane.DataPlane(
        [listener.detach()], workers=1, methods={"/a/b": plane.HANDED}, refusals=refusals.table(1000),
        limits=fronts._limits(Config(), 1),
    )
    made.start()
    with Client(address).greet() as client:
        for _ in range(3):
            client.ask(b"abc", "/a/b")
        taken = [made.take() for _ in range(3)]
        made.end()
        made.close()
    del made
    gc.collect()
    first, second, third = taken
    assert first is not None
    assert second is not None
    first.answer(b"x" * 100_000)
    second.fail(3, "late", b"details")
    del first, second, third, taken
    gc.collect()


def test_a_plane_that_nobody_ended_ends_with_its_last_reference() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    made = plane.DataPlane(
        [listener.detach()], workers=2, methods={"/a/b": plane.HANDED}, refusals=refusals.table(1000),
        limits=fronts._limits(Config(), 1),
    )
    made.start()
    del made
    gc.collect()


def test_old_connections_are_asked_to_go(tmp_path: Path) -> None:
    with (
        FrontSubject(tmp_path, plane_limits={"age_ns": 200_000_000}) as subject,
        Client(subject.address).greet() as client,
    ):
        number = client.ask(None)
        client.until(lambda: len(client.goaways) == 2)
        assert [each.code for each in client.goaways] == [h2.NO_ERROR, h2.NO_ERROR]
        client.send(frame(h2.DATA, h2.END_STREAM, number, message(decide())))
        assert client.wait(number).status == 0
        client.until_closed()


def test_idle_connections_are_asked_to_go_and_others_are_not(tmp_path: Path) -> None:
    with (
        FrontSubject(tmp_path, plane_limits={"idle_ns": 300_000_000}) as subject,
        Client(subject.address).greet() as idle,
        Client(subject.address).greet() as busy,
    ):
        number = busy.ask(None)
        idle.until_closed()
        assert [each.code for each in idle.goaways] == [h2.NO_ERROR]
        busy.send(frame(h2.DATA, h2.END_STREAM, number, message(decide())))
        assert busy.wait(number).status == 0


def test_a_silent_connection_is_pinged_and_kept_while_it_answers(tmp_path: Path) -> None:
    with FrontSubject(tmp_path, plane_limits={"silence_ns": 150_000_000, "stall_ns": 400_000_000}) as subject:
        with Client(subject.address).greet() as client:
            pings = 0
            while pings < 4:
                one = client.read()
                pings += one.kind == h2.PING and not one.flags & h2.ACK
            served(client)
        with Client(subject.address).greet() as mute:
            mute.polite = False
            mute.until_closed()


def test_a_request_that_is_never_whole_is_ended(tmp_path: Path) -> None:
    """A half-sent request was kept for as long as its connection lived."""
    with (
        FrontSubject(tmp_path, plane_limits={"call_ns": 300_000_000}) as subject,
        Client(subject.address).greet() as client,
    ):
        number = client.ask(None)
        client.send(frame(h2.DATA, 0, number, message(b"abc", length=1000)))
        answer = client.wait(number)
        assert answer.reset == h2.CANCEL
        served(client)
        eventually(lambda: quiet(subject))


# --- TLS ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FrontSubject, ssl.SSLContext]]:
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", str(folder / "key.pem"),
         "-out", str(folder / "cert.pem")],
        check=True, capture_output=True,
    )
    context = ssl.create_default_context(cafile=str(folder / "cert.pem"))
    context.set_alpn_protocols(["h2"])
    settings = {"tls_certificate": str(folder / "cert.pem"), "tls_key": str(folder / "key.pem")}
    with FrontSubject(folder, settings=settings) as made:
        yield made, context


def test_calls_over_tls(secure: tuple[FrontSubject, ssl.SSLContext]) -> None:
    subject, context = secure
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context.maximum_version = version
        with Client(subject.address, tls=context).greet() as client:
            served(client)
            assert len(client.call(decide_much()).data) > 160_000
            streams = [client.ask(decide_much()) for _ in range(100)]
            answers = [client.wait(number) for number in streams]
            assert {each.status for each in answers} <= {0, RESOURCE_EXHAUSTED}
    context.maximum_version = ssl.TLSVersion.MAXIMUM_SUPPORTED
    eventually(lambda: quiet(subject))


def test_a_half_close_of_tls_ends_the_connection(secure: tuple[FrontSubject, ssl.SSLContext]) -> None:
    subject, context = secure
    with Client(subject.address, tls=context).greet() as client:
        served(client)
        assert isinstance(client.socket, ssl.SSLSocket)
        client.socket.unwrap()  # close_notify both ways
    with Client(subject.address, tls=context).greet() as client:
        served(client)
        client.socket.shutdown(socket.SHUT_WR)
        client.until_closed()
    eventually(lambda: subject.front.counters()["open_connections"] == 0)


def test_what_is_no_tls_is_turned_away(secure: tuple[FrontSubject, ssl.SSLContext]) -> None:
    subject, context = secure
    before = subject.front.counters()["handshakes_failed"]
    with Client(subject.address) as client:
        client.send(h2.MAGIC, h2.settings())
        client.until_closed_bytes()
    for protocols in (["http/1.1"], None):
        other = ssl.create_default_context()
        other.check_hostname, other.verify_mode = False, ssl.CERT_NONE
        if protocols:
            other.set_alpn_protocols(protocols)
        # Who offers none learns it by the connection's end, for the handshake itself asks nobody.
        with contextlib.suppress(ssl.SSLError, ConnectionError), Client(subject.address, tls=other) as client:
            client.socket.settimeout(10)
            assert client.socket.recv(1) == b"", protocols
    eventually(lambda: subject.front.counters()["handshakes_failed"] >= before + 2)
    with Client(subject.address, tls=context).greet() as client:
        served(client)


def test_identifiers_reach_decisions_over_either_loop(subject: FrontSubject) -> None:
    """What Tell made durable over one connection, the next decision over any other knows."""
    clients = [Client(subject.address).greet() for _ in range(8)]
    for number, client in enumerate(clients):
        who = [values_pb2.Identifier(namespace="crm", value=f"reader-{number}")]
        tell = decision_pb2.TellRequest(identifiers=who)
        tell.attributes["first_name"].string_value = f"Zoë {number}"
        assert client.call(tell.SerializeToString(), TELL).status == 0
        ask = decision_pb2.DecideRequest(
            channel="web", placements=[decision_pb2.PlacementRequest(name="home_hero")], identifiers=who
        )
        for other in clients:
            (offer,) = DECIDED(other.call(ask.SerializeToString()).message).placements[0].offers
            assert offer.content["title"] == f"Hello Zoë {number}"
    for client in clients:
        client.close()
