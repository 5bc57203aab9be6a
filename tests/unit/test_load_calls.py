"""What is sent over the wire for a workload, and which answers are refused as worthless."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from core.programs import source
from loadtest import calls, names, offers, workload
from loadtest.taken import Kind
from protos.rapport.v1 import decision_pb2


def test_a_page_asks_for_its_placements_in_one_call() -> None:
    wanted = dataclasses.replace(workload.load("page"), customers=100)
    (call,) = calls.of(wanted)
    assert (call.name, call.kind, call.path) == ("decide", Kind.DECIDE, "/rapport.v1.DecisionService/Decide")
    seen = set()
    for message in call.messages:
        request = decision_pb2.DecideRequest.FromString(message)
        assert [each.name for each in request.placements] == ["home", "home_2", "home_3", "home_4", "home_5"]
        seen.add(int(request.identifiers[0].value) - names.FIRST)
    assert seen <= set(range(100))
    assert len(seen) == 100


def test_mixed_traffic_has_the_shares_of_its_file_and_tells_what_the_schema_declares() -> None:
    wanted = dataclasses.replace(workload.load("mixed"), customers=1_000)
    made = {call.name: call for call in calls.of(wanted)}
    assert {name: call.share for name, call in made.items()} == {"decide": 0.7, "record": 0.2, "tell": 0.1}
    assert made["record"].kind is Kind.RECORD
    told = decision_pb2.TellRequest.FromString(made["tell"].messages[0])
    assert [each.namespace for each in told.identifiers] == ["crm"]
    ((name, value),) = told.attributes.items()
    assert name == "visits"
    assert value.WhichOneof("kind") == "int_value"


def test_the_same_seed_asks_for_the_same_customers() -> None:
    wanted = workload.load("shop")
    assert calls.decisions(wanted) == calls.decisions(wanted)
    assert calls.decisions(wanted) != calls.decisions(dataclasses.replace(wanted, seed=wanted.seed + 1))


@pytest.mark.parametrize("name", ["page", "mixed"])
def test_the_generated_program_is_accepted_and_fills_every_placement(name: str, tmp_path: Path) -> None:
    wanted = dataclasses.replace(workload.load(name), offers=40, groups=4)
    offers.write(wanted, tmp_path)
    source.check(source.read(tmp_path))
    entry = next(yaml.load_all((tmp_path / "offers/000000.yaml").read_text(), Loader=yaml.CSafeLoader))
    assert list(entry["treatments"]) == [f"web.{each}" for each in names.placements(wanted.placements)]
    assert len(entry["treatments"]) == wanted.placements


def _answer(known: bool = True, placements: int = 1, count: int = 3) -> bytes:
    filled = [
        decision_pb2.PlacementAnswer(
            name=f"p{number}", status=decision_pb2.SLOT_STATUS_OK, offers=[decision_pb2.DecidedOffer()] * count
        )
        for number in range(placements)
    ]
    return decision_pb2.DecideResponse(known=known, placements=filled).SerializeToString()


def test_good_answers_pass_and_other_calls_are_not_looked_at() -> None:
    calls.check(workload.load("shop"), [("decide", _answer()), ("tell", b"\xff")])
    calls.check(workload.load("page"), [("decide", _answer(placements=5, count=8))])


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (b"\0" * 300, "no DecideResponse"),
        (_answer(known=False), "another base"),
        (_answer(placements=2), "2 placements, not 1"),
        (_answer(count=2), "2 offers, not 3"),
    ],
)
def test_an_answer_that_says_nothing_is_refused(answer: bytes, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        calls.check(workload.load("shop"), [("decide", answer)])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"calls": {"decide": 1, "delete": 1}}, "delete"),
        ({"calls": {"tell": 1}}, "decide needs a share"),
        ({"calls": {"decide": 1, "tell": -1}}, "negative"),
        ({"placements": 0}, "placements"),
    ],
)
def test_a_wrong_workload_is_refused(
    change: dict[str, object], word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = yaml.safe_load((workload.FOLDER / "mixed.yaml").read_text())
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump({**document, **change}))
    monkeypatch.setattr(workload, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match=word):
        workload.load("wrong")
