"""A desk answers as the engine does, from the same bytes, or leaves them to it.

A desk (`core.kernel.desk`) decides from a request's bytes to an answer's without Python; the way through the protobuf
library, `server.convert` and `Engine.decide` is what it is held against. Requests of random worlds must be answered, and
equally; requests spoilt as bytes must be answered equally or not at all. RAPPORT_CASES sets how many requests (default
5,000, and four spoilt ones for each), RAPPORT_SEED the first world's seed; a failure prints the world's seed and the
request's bytes.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from google.protobuf import descriptor
from google.protobuf.message import DecodeError
from msgspec.structs import replace

from core.decision import DecideRequest
from core.errors import RapportError
from core.kernel import wire
from core.kernel.desk import DeskHolder
from protos.rapport.v1 import decision_pb2, values_pb2
from server import convert
from tests.engine_subject import EngineSubject
from tests.property import generate
from tests.property.models import small_models
from tests.property.spoiling import altered, damaged
from tests.property.test_kernel_equals_oracle import enter

CASES = int(os.environ.get("RAPPORT_CASES", "5000"))
SEED = int(os.environ.get("RAPPORT_SEED", "20250615"))
REQUESTS = min(500, CASES)  # of a world
SEEDS = range(SEED, SEED + CASES // REQUESTS)
SPOILT = 4  # of a request

DONE, ELSEWHERE = 0, 1


@dataclass(frozen=True, slots=True)
class Counter:
    """A world that was loaded, and the desk in front of it."""

    seed: int
    subject: EngineSubject
    desk: DeskHolder
    requests: tuple[DecideRequest, ...]

    def judged(self, data: bytes) -> decision_pb2.DecideResponse | None:
        """The desk's answer, which is checked against the engine's; None when it left the request to it."""
        got = self.desk.decide(data)
        told = f"RAPPORT_CASES={REQUESTS} RAPPORT_SEED={self.seed}: {data.hex()}"
        if got is None:
            assert self.desk.code == ELSEWHERE, told
            return None
        answer = decision_pb2.DecideResponse.FromString(got)
        try:
            message = decision_pb2.DecideRequest.FromString(data)
            request = convert.request_from(message, None)
            # What the desk drew and read from the clock is told in its answer; the engine is asked for the same moment.
            as_of_us = answer.as_of.seconds * 1_000_000 + answer.as_of.nanos // 1000
            if request.as_of_us is None:
                request = replace(request, as_of_us=as_of_us)
            if request.seed is None:
                request = replace(request, seed=answer.seed)
            # A budget that is nearly nothing is over sooner on one way than on the other.
            brief = request.deadline_us is not None and request.deadline_us < 10_000_000
            expected = convert.answer_to(self.subject.engine.decide(request))
        except (DecodeError, RapportError) as error:
            raise AssertionError(f"answered, and refused by the engine: {error!r}; {told}") from error
        if not brief:
            answer.took_ns = expected.took_ns = 0
            assert answer == expected, told
        return answer


def counters(folder: Path, seeds: Iterable[int], *, requests: int = REQUESTS, models: bool = False) -> Iterator[Counter]:
    """A counter for each seed's world, one after another; a world is closed when the next is asked for."""
    small = small_models() if models else []
    for seed in seeds:
        world = generate.world(random.Random(seed), requests=requests, models=tuple(model.name for model in small))
        (folder / str(seed)).mkdir()
        with EngineSubject(folder / str(seed)) as subject:
            for model in small:
                subject.registry.deploy(model.name, 1, model.onnx, model.description)
            subject.load(world.sources, generate.BASE_US)
            for person in world.people:
                enter(subject, person)
            desk = DeskHolder(subject.engine.plan)
            desk.may_wait = True
            yield Counter(seed, subject, desk, world.requests)
            desk.close()


# --- requests -----------------------------------------------------------------------------------------------------

INTS = (0, -1, 2**63 - 1, -(2**63) + 1, 2**53 + 1)
REALS = (0.0, -0.0, float("inf"), float("-inf"), 5e-324, 1.7976931348623157e308, 0.1)
INSTANTS = ((-62_135_596_800, 0), (253_402_300_799, 999_999_999), (0, 1_999), (-1, 999_999_000))
TEXTS = ("", "x" * 1024, "Ünïcödé", "\0", "\u07ff\u0800\U0010ffff", "savings")


def edge(source: random.Random, kind: str, name: str) -> values_pb2.Value:
    """A value at the edge of what a fact of this type may be."""
    match kind:
        case "bool":
            return values_pb2.Value(bool_value=source.random() < 0.5)
        case "int":
            return values_pb2.Value(int_value=source.choice(INTS))
        case "double":
            if source.random() < 0.4:
                return values_pb2.Value(int_value=source.choice((*INTS, -(2**63))))
            return values_pb2.Value(double_value=source.choice(REALS))
        case "money":
            return values_pb2.Value(money_value=values_pb2.Money(minor=source.choice(INTS), currency="EUR"))
        case "timestamp":
            made = values_pb2.Value()
            made.timestamp_value.seconds, made.timestamp_value.nanos = source.choice(INSTANTS)
            return made
        case "enum":
            return values_pb2.Value(string_value=source.choice(generate.LABELS[name]))
        case "set":
            pool = [*TEXTS, *(text[:cut] for text in ("abcdefgh", "ÄÖÜ", "ab\0c") for cut in range(len(text)))]
            members = source.choices(pool, k=source.choice((0, 1, 3, 40)))
            if source.random() < 0.1:
                members = [f"{source.randrange(10**6)}{number}" for number in range(256)]
            made = values_pb2.Value()
            # Also when empty: a set without members is a set.
            made.set_value.members.extend(members)
            made.set_value.SetInParent()
            return made
        case _:
            return values_pb2.Value(string_value=source.choice(TEXTS))


def message_of(request: DecideRequest) -> decision_pb2.DecideRequest:
    """A generated request as its message, without events and explanation."""
    assert request.as_of_us is not None
    message = decision_pb2.DecideRequest(
        identifiers=[values_pb2.Identifier(namespace=one.namespace, value=one.value) for one in request.identifiers],
        channel=request.channel,
        placements=[decision_pb2.PlacementRequest(name=one.name, slots=one.slots or 0) for one in request.placements],
        facts=convert.values_to(request.facts),
        as_of=convert.instant(request.as_of_us),
        seed=request.seed,
    )
    return message


def varied(source: random.Random, request: DecideRequest) -> decision_pb2.DecideRequest:
    """The request with what a client may also do: leave out clock and seed, set a budget, send values at their edges."""
    message = message_of(request)
    if source.random() < 0.1:
        message.ClearField("as_of")
    if source.random() < 0.1:
        message.ClearField("seed")
    elif source.random() < 0.2:
        message.seed = source.choice((0, 2**64 - 1, 2**63))
    if source.random() < 0.3:
        message.deferred = True
    if source.random() < 0.3:
        message.time_budget.seconds = source.choice((3600, 315_576_000_000))
    if source.random() < 0.3:
        message.explain = decision_pb2.EXPLAIN_LEVEL_NONE
    if source.random() < 0.1:
        message.ClearField("identifiers")
    for name in list(message.facts):
        if source.random() < 0.3:
            message.facts[name].CopyFrom(edge(source, generate.FACTS[name], name))
    return message


def test_a_desk_answers_as_the_engine(tmp_path: Path) -> None:
    returned = 0
    for counter in counters(tmp_path, SEEDS):
        source = random.Random(counter.seed)
        for request in counter.requests:
            message = varied(source, request)
            answer = counter.judged(message.SerializeToString())
            # Nothing that a client's library writes makes it step aside, but what it says it leaves to the engine.
            assert answer is not None, f"RAPPORT_SEED={counter.seed}: {message}"
            returned += sum(len(placement.offers) for placement in answer.placements)
            if source.random() < 0.1:
                message.explain = decision_pb2.EXPLAIN_LEVEL_SUMMARY
                assert counter.judged(message.SerializeToString()) is None
                message.ClearField("explain")
                message.events.add(type="view", key="k")
                assert counter.judged(message.SerializeToString()) is None
    assert returned > len(SEEDS) * REQUESTS // 4, f"{returned} offers: they prove little"


def test_a_desk_answers_as_the_engine_with_models(tmp_path: Path) -> None:
    labels: set[str] = set()
    for counter in counters(tmp_path, range(SEED - 5, SEED), requests=100, models=True):
        source = random.Random(counter.seed)
        for request in counter.requests:
            answer = counter.judged(varied(source, request).SerializeToString())
            assert answer is not None, f"RAPPORT_SEED={counter.seed}"
            labels |= {offer.model for placement in answer.placements for offer in placement.offers}
    assert labels - {""}, f"seeds before {SEED}: no offer returned was scored by a model"


def test_spoilt_requests_are_answered_equally_or_not_at_all(tmp_path: Path) -> None:
    answered = cases = 0
    for counter in counters(tmp_path, SEEDS):
        source = random.Random(-counter.seed)
        for request in counter.requests:
            data = varied(source, request).SerializeToString()
            for _ in range(SPOILT):
                spoilt = data
                for _ in range(source.randint(1, 3)):
                    spoilt = (altered if source.random() < 0.6 else damaged)(source, spoilt)
                answered += counter.judged(spoilt) is not None
                cases += 1
    # Both ends are met: what is harmless is answered, what is not is left.
    assert cases // 10 < answered < cases * 9 // 10, f"{answered} of {cases}"


def test_every_beginning_of_a_request_is_read_to_its_end_and_no_further(tmp_path: Path) -> None:
    for counter in counters(tmp_path, SEEDS[:1], requests=20):
        source = random.Random(counter.seed)
        for request in counter.requests:
            data = varied(source, request).SerializeToString()
            for size in range(len(data)):
                counter.judged(data[:size])


# --- the wire -----------------------------------------------------------------------------------------------------

TYPES: Mapping[int, str] = {
    descriptor.FieldDescriptor.TYPE_BOOL: "bool",
    descriptor.FieldDescriptor.TYPE_INT32: "int32",
    descriptor.FieldDescriptor.TYPE_INT64: "int64",
    descriptor.FieldDescriptor.TYPE_UINT32: "uint32",
    descriptor.FieldDescriptor.TYPE_UINT64: "uint64",
    descriptor.FieldDescriptor.TYPE_DOUBLE: "double",
    descriptor.FieldDescriptor.TYPE_STRING: "string",
    descriptor.FieldDescriptor.TYPE_ENUM: "enum",
}


def told(field: descriptor.FieldDescriptor) -> tuple[str, int, str]:
    """A field as `core.kernel.wire.FIELDS` writes it."""
    kind = field.message_type.full_name if field.message_type else TYPES[field.type]
    return field.name, field.number, kind + ("*" if field.is_repeated else "?" if field.has_presence else "")


def messages(message: descriptor.Descriptor, found: dict[str, descriptor.Descriptor]) -> dict[str, descriptor.Descriptor]:
    """A message and all it holds, by full name."""
    if message.full_name not in found:
        found[message.full_name] = message
        for field in message.fields:
            if field.message_type:
                messages(field.message_type, found)
    return found


def test_a_desk_knows_every_field_of_the_protos() -> None:
    """A field added to a request and unknown to the desk would be skipped as a foreign one, and the answer be wrong."""
    known: dict[str, descriptor.Descriptor] = {}
    for message in (decision_pb2.DecideRequest.DESCRIPTOR, decision_pb2.DecideResponse.DESCRIPTOR):
        messages(cast("descriptor.Descriptor", message), known)
    for name in (
        "rapport.v1.Event",  # requests with events, and answers with reasons, are for the Python path
        "rapport.v1.Event.FieldsEntry",
        "rapport.v1.Rejection",
        "rapport.v1.ReasonCount",
    ):
        del known[name]
    assert {name: {told(field) for field in each.fields} for name, each in known.items()} == {
        name: set(fields) for name, fields in wire.FIELDS.items()
    }
    for name, fields in wire.FIELDS.items():
        assert [number for _, number, _ in fields] == list(range(1, len(fields) + 1)), name
