"""The short way and the library's way between bytes and values mean the same.

`server.codec` reads and writes Decide's messages by hand. Whatever a client can send, it must either say the same as the
library with `server.convert`, or step aside (None); whatever the core answers, the library must read from its bytes what
it would have written itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.message import DecodeError, Message
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from core.decision import (
    Clamp,
    DecideAnswer,
    DecidedOffer,
    DecideRequest,
    Factors,
    PlacementAnswer,
    QuotedPrice,
    Rejection,
)
from core.errors import RapportError
from core.reasons import Detail, Reason, SlotStatus
from core.schema import Money
from protos.rapport.v1 import decision_pb2, values_pb2
from server import codec, convert

# --- requests -----------------------------------------------------------------------------------------------------

names = st.text(max_size=8)
int64s = st.one_of(st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1))
seconds = st.one_of(st.just(0), st.integers(-(10**12), 10**12), int64s)
nanos = st.one_of(st.just(0), st.integers(0, 999_999_999), st.integers(-(2**31), 2**31 - 1))


@st.composite
def values(draw: st.DrawFn) -> values_pb2.Value:
    made = values_pb2.Value()
    kind = draw(st.sampled_from(["bool", "int", "double", "string", "money", "timestamp", "set", "none"]))
    match kind:
        case "bool":
            made.bool_value = draw(st.booleans())
        case "int":
            made.int_value = draw(int64s)
        case "double":
            made.double_value = draw(st.floats(allow_nan=False))
        case "string":
            made.string_value = draw(names)
        case "money":
            made.money_value.CopyFrom(values_pb2.Money(minor=draw(int64s), currency=draw(names)))
        case "timestamp":
            made.timestamp_value.seconds, made.timestamp_value.nanos = draw(seconds), draw(nanos)
        case "set":
            made.set_value.members.extend(draw(st.lists(names, max_size=3)))
    return made


@st.composite
def requests(draw: st.DrawFn) -> decision_pb2.DecideRequest:
    made = decision_pb2.DecideRequest(
        channel=draw(names),
        explain=cast("decision_pb2.ExplainLevel", draw(st.integers(-1, 5))),
        deferred=draw(st.booleans()),
    )
    for _ in range(draw(st.integers(0, 18) if draw(st.integers(0, 9)) == 0 else st.integers(0, 2))):
        made.identifiers.add(namespace=draw(names), value=draw(names))
    for _ in range(draw(st.integers(0, 3))):
        made.placements.add(name=draw(names), slots=draw(st.integers(0, 2**32 - 1)))
    for name in draw(st.lists(names, max_size=4)):
        made.facts[name].CopyFrom(draw(values()))
    for _ in range(draw(st.integers(0, 2))):
        event = made.events.add(type=draw(names), key=draw(names))
        for name in draw(st.lists(names, max_size=3)):
            event.fields[name].CopyFrom(draw(values()))
        if draw(st.booleans()):
            event.at.seconds, event.at.nanos = draw(seconds), draw(nanos)
    if draw(st.booleans()):
        made.seed = draw(st.integers(0, 2**64 - 1))
    if draw(st.booleans()):
        made.as_of.seconds, made.as_of.nanos = draw(seconds), draw(nanos)
    if draw(st.booleans()):
        made.time_budget.seconds, made.time_budget.nanos = draw(seconds), draw(nanos)
    return made


def by_library(data: bytes, remaining_us: int | None) -> DecideRequest | RapportError:
    try:
        return convert.request_from(decision_pb2.DecideRequest.FromString(data), remaining_us)
    except RapportError as error:
        return error


def plain(request: DecideRequest | RapportError | None) -> str:
    # By representation: -0.0 and 0.0, True and 1 are equal and not the same. Maps and sets have no order on the wire.
    assert isinstance(request, DecideRequest)
    events = tuple(replace(each, fields=ordered(each.fields)) for each in request.events)
    return repr(replace(request, facts=ordered(request.facts), events=events))


def ordered(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: sorted(each) if isinstance(each, frozenset) else each for name, each in sorted(values.items())}


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(requests(), st.one_of(st.none(), st.integers(1, 10**7)))
def test_a_request_reads_the_same_either_way(
    message: decision_pb2.DecideRequest, remaining_us: int | None
) -> None:
    data = message.SerializeToString()
    short, long = codec.decode(data, remaining_us), by_library(data, remaining_us)
    if isinstance(long, RapportError):
        assert short is None
    else:
        # Nothing a client's library writes makes the short way step aside.
        assert plain(short) == plain(long)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_spoilt_bytes_read_the_same_or_not_at_all(data: st.DataObject) -> None:
    raw = bytearray(data.draw(requests()).SerializeToString() + data.draw(requests()).SerializeToString())
    for _ in range(data.draw(st.integers(0, 3))):
        if raw:
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    spoilt = bytes(raw[: len(raw) - cut] if data.draw(st.booleans()) else raw)
    note(spoilt.hex())
    short = codec.decode(spoilt, None)
    if short is None:
        return
    # If the short way took it, the library takes it too, and says the same.
    message = decision_pb2.DecideRequest.FromString(spoilt)
    assert plain(short) == plain(convert.request_from(message, None))


@pytest.mark.parametrize(
    ("raw", "short_way"),
    [
        (b"\x48" + b"\xff" * 9 + b"\x01", True),  # a seed of 64 bits, the most there is
        (b"\x48" + b"\x80" * 9 + b"\x02", False),  # its 65th
        (b"\x48" + b"\x80" * 9 + b"\x7f", False),
        (b"\xd0\x80\x80\x80\x00\x01", True),  # a tag in five bytes
        (b"\xd0\x80\x80\x80\x80\x00\x01", False),  # and in six
        (b"\x12\x83\x80\x80\x80\x00web", True),  # a length in five bytes
        (b"\x12\x83\x80\x80\x80\x80\x00web", False),  # and in six
    ],
)
def test_numbers_longer_than_the_library_takes_are_left_to_it(raw: bytes, short_way: bool) -> None:
    """The codec took tags and lengths of up to ten bytes, where the library refuses a sixth, and dropped a tenth byte's
    bits beyond the 64th in silence. The library has them now: what it refuses is refused, what it cuts off it answers for."""
    short = codec.decode(raw, None)
    assert (short is not None) == short_way
    try:
        message = decision_pb2.DecideRequest.FromString(raw)
    except DecodeError:
        assert short is None
        return
    if short is not None:
        assert plain(short) == plain(convert.request_from(message, None))


def test_the_short_way_knows_every_field_of_the_request() -> None:
    # A field added to the protos and not to the codec would make every request that has it take the long way, silently.
    known: dict[type[Message], int] = {
        decision_pb2.DecideRequest: 10,
        decision_pb2.PlacementRequest: 2,
        values_pb2.Identifier: 2,
        values_pb2.Value: 7,
        values_pb2.Event: 4,
        values_pb2.Money: 2,
        values_pb2.StringSet: 1,
        decision_pb2.DecideResponse: 9,
        decision_pb2.PlacementAnswer: 6,
        decision_pb2.DecidedOffer: 10,
        decision_pb2.Factors: 4,
        decision_pb2.QuotedPrice: 5,
        decision_pb2.Rejection: 8,
        decision_pb2.ReasonCount: 2,
    }
    for message, count in known.items():
        proto = descriptor_pb2.DescriptorProto()
        message.DESCRIPTOR.CopyToProto(proto)
        assert [field.number for field in proto.field] == list(range(1, count + 1)), message.DESCRIPTOR.name


# --- answers ------------------------------------------------------------------------------------------------------

floats = st.floats(allow_nan=False)
factors: st.SearchStrategy[Factors] = st.builds(Factors, floats, floats, floats, floats)
moneys = st.builds(Money, int64s, names)
texts = st.dictionaries(names, names, max_size=3)
prices: Any = st.one_of(
    st.none(),
    st.builds(
        QuotedPrice, moneys, moneys, st.booleans(), st.lists(names, max_size=2).map(tuple), st.sampled_from(Clamp)
    ),
)
offers = st.builds(
    DecidedOffer,
    names,
    names,
    st.integers(1, 100),
    floats,
    factors,
    texts,
    st.text(max_size=300),
    st.integers(-(2**63), 2**64 - 1),
    prices,
    names,
)
rejections = st.builds(
    Rejection,
    names,
    st.sampled_from(Reason),
    names,
    st.sampled_from(Detail),
    names,
    st.one_of(st.none(), floats),
    st.one_of(st.none(), floats),
    st.one_of(st.none(), factors),
)
answers = st.builds(
    DecideAnswer,
    names,
    st.lists(
        st.builds(
            PlacementAnswer,
            names,
            st.sampled_from(SlotStatus),
            st.lists(offers, max_size=3).map(tuple),
            texts,
            st.lists(rejections, max_size=3).map(tuple),
            st.dictionaries(st.sampled_from(Reason), st.integers(1, 10**6), max_size=3),
        ),
        max_size=3,
    ).map(tuple),
    st.booleans(),
    names,
    names,
    st.lists(names, max_size=2).map(tuple),
    st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999),
    st.integers(-(2**63), 2**64 - 1),
    st.integers(0, 2**63 - 1),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(answers)
def test_an_answer_is_written_as_the_library_would(answer: DecideAnswer) -> None:
    assert decision_pb2.DecideResponse.FromString(codec.encode(answer)) == convert.answer_to(answer)


def test_an_answer_of_a_hundred_thousand_reasons_is_written_whole() -> None:
    rejection = Rejection("offer", Reason.ELIGIBILITY, "rule", Detail.FALSE)
    answer = DecideAnswer(
        "d",
        (PlacementAnswer("p", SlotStatus.FALLBACK_NO_ELIGIBLE_OFFER, (), {}, (rejection,) * 100_000),),
        False,
        "p@1",
        "",
        (),
        0,
        0,
        0,
    )
    assert len(decision_pb2.DecideResponse.FromString(codec.encode(answer)).placements[0].rejections) == 100_000
