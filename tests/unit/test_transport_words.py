"""gRPC's words in headers, against what other libraries make of the same bytes."""

from __future__ import annotations

import base64 as standard
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.transport import words

UNITS = {"H": 3_600_000_000_000, "M": 60_000_000_000, "S": 1_000_000_000, "m": 1_000_000, "u": 1_000, "n": 1}


@given(st.integers(0, 99_999_999), st.sampled_from(sorted(UNITS)))
def test_a_timeout_is_digits_and_a_unit(number: int, unit: str) -> None:
    assert words.read_timeout(f"{number}{unit}".encode()) == min(number * UNITS[unit], 2**63 - 1)


@pytest.mark.parametrize("bad", [b"", b"1", b"S", b"-1S", b"1.5S", b"1s", b"123456789S", b" 1S", b"1S ", b"1\xff"])
def test_what_is_no_timeout_is_refused(bad: bytes) -> None:
    assert words.read_timeout(bad) is None


@given(st.text())
def test_a_message_comes_back_from_its_encoding(text: str) -> None:
    raw = text.encode("utf-8", "replace")
    encoded = words.percent(text)
    assert urllib.parse.unquote_to_bytes(encoded) == raw
    assert all(0x20 <= byte <= 0x7E for byte in encoded)


@given(st.binary(max_size=300))
def test_details_are_base64_without_padding(data: bytes) -> None:
    assert words.base64(data) == standard.b64encode(data).rstrip(b"=")


@pytest.mark.parametrize(
    ("text", "good"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"application/grpc;charset=utf-8", True),
        (b"application/grpc+proto;x=y", True),
        (b"application/grpc+json", False),
        (b"application/grpc-web", False),
        (b"application/grp", False),
        (b"application/json", False),
        (b"", False),
    ],
)
def test_content_types_of_protobuf_messages_are_known(text: bytes, good: bool) -> None:
    assert words.grpc_content(text) is good
