"""Every error reaches the caller as the table says, fits into a trailer, and a fault of ours tells nothing but its id."""

from __future__ import annotations

import errno
import io
import json
import sys
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest
import yaml
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from core import errors
from server import logs, status

CASES: list[dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parent.parent / "cases" / "server_statuses.yaml").read_text()
)


Found = TypeVar("Found", bound=Message)


def detail(told: status_pb2.Status, kind: type[Found]) -> Found | None:
    for packed in told.details:
        message = kind()
        if packed.Unpack(message):
            return message
    return None


def every_class(base: type[errors.RapportError]) -> set[type[errors.RapportError]]:
    return {base}.union(*(every_class(each) for each in base.__subclasses__()))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["error"])
def test_error_is_told_as_the_table_says(case: dict[str, Any]) -> None:
    error = getattr(errors, case["error"])(*case["arguments"])
    told = status.describe(error)
    assert told.code == status.number(grpc.StatusCode[case["code"]])
    assert told.message == error.message
    info = detail(told, error_details_pb2.ErrorInfo)
    assert info is not None
    assert (info.reason, info.domain) == (case["reason"], "rapport")
    assert case.get("metadata", {}).items() <= dict(info.metadata).items()
    hint = detail(told, error_details_pb2.LocalizedMessage)
    if "hint" in case:
        assert hint is not None
        assert hint.message == case["hint"]
    retry = detail(told, error_details_pb2.RetryInfo)
    assert (retry.retry_delay.ToMilliseconds() if retry else None) == case.get("retry_ms")
    bad = detail(told, error_details_pb2.BadRequest)
    assert ([each.field for each in bad.field_violations] if bad else []) == (
        [case["field"]] if "field" in case else []
    )
    item = status.failure(error)
    assert (item.status, item.reason, item.message, item.hint) == (
        told.code,
        case["reason"],
        error.message,
        error.hint,
    )


def test_every_class_of_the_tree_stands_in_the_table_and_in_the_cases() -> None:
    core = {each for each in every_class(errors.RapportError) if each.__module__ == errors.__name__}
    assert core == set(status.CODES)
    told_elsewhere = {"RapportError", "ProgramError", "MappingError", "EngineFault"}
    assert {each.__name__ for each in core} - told_elsewhere == {case["error"] for case in CASES}


def test_problems_of_a_program_come_with_file_line_and_column() -> None:
    problem = errors.Problem(
        errors.Where("offers/cards.yaml", 12, 5), "There is no attribute 'agee'.", "Did you mean 'age'?"
    )
    told = status.describe(errors.ProgramError([problem]))
    bad = detail(told, error_details_pb2.BadRequest)
    assert bad is not None
    assert [(each.field, each.description) for each in bad.field_violations] == [
        ("offers/cards.yaml:12:5", "There is no attribute 'agee'. Did you mean 'age'?")
    ]


@pytest.mark.parametrize("letter", ["a", "\u00e9", "\U0001f600"])
def test_a_thousand_problems_still_fit_the_trailers_that_peers_take(letter: str) -> None:
    # grpc peers take 8 KiB of trailers and drop the call beyond; the first version sent a program's problems whole, and
    # a caller with a hundred of them saw RESOURCE_EXHAUSTED instead of what was wrong.
    problems = [errors.Problem(errors.Where("offers.yaml", line, 1), letter * 100) for line in range(1, 1001)]
    told = status.describe(errors.ProgramError(problems))
    percent_encoded = sum(1 if " " <= each <= "~" else 3 * len(each.encode()) for each in told.message)
    assert percent_encoded + len(told.SerializeToString()) * 4 / 3 < 8192
    bad = detail(told, error_details_pb2.BadRequest)
    assert bad is not None
    told_count = len(bad.field_violations) - 1
    assert told_count >= 5
    assert f"{1000 - told_count} more" in bad.field_violations[-1].description


@pytest.mark.parametrize(
    "error", [KeyError("maria@example.org"), errors.EngineFault("slot 7 of maria@example.org")]
)
def test_a_fault_of_ours_leaves_the_process_as_an_id_only(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("info", "json")
    try:
        raise error
    except Exception as raised:
        told = status.describe(raised)
    info = detail(told, error_details_pb2.ErrorInfo)
    assert info is not None
    assert told.code == status.number(grpc.StatusCode.INTERNAL)
    assert list(info.metadata) == ["fault"]
    assert "maria" not in str(told)
    line = json.loads(capsys.readouterr().err)
    assert line["fault"] == info.metadata["fault"]
    assert line["error"].endswith(type(error).__name__)
    assert any("test_server_status" in frame for frame in line["frames"])


def test_a_store_that_needs_its_operator_is_logged_once_a_while(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full or failing disk was told to every caller, and the server's own log stayed silent."""
    monkeypatch.setattr(status, "_noted", {})
    logs.configure("info", "json")
    for _ in range(3):
        status.describe(errors.StoreFull("store's map", "Raise store.map_bytes."))
        status.failure(errors.StoreReadOnly("the disk is full"))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["reason"] for line in lines] == ["STORE_FULL", "STORE_READ_ONLY"]
    assert lines[0]["hint"] == "Raise store.map_bytes."


def test_a_log_line_never_holds_the_text_of_a_foreign_exception(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    try:
        int("maria@example.org")
    except ValueError as raised:
        status.describe(raised)
    assert "maria" not in capsys.readouterr().err


def test_logging_outlives_the_stream_it_was_configured_under(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever replaced standard error and closed the old one made every later log line raise, and its call fail."""
    first, second = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", first)
    logs.configure("info", "json")
    first.close()
    monkeypatch.setattr(sys, "stderr", second)
    monkeypatch.setattr(status, "_noted", {})
    told = status.describe(errors.StoreFull("disk", "Free some space."))
    assert told.code == status.number(grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert json.loads(second.getvalue())["reason"] == "STORE_FULL"


def test_a_log_that_cannot_be_written_costs_the_line_not_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full log disk raised out of the thread that answered calls: it ended, and the calls after it were never answered."""

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    logs.configure("info", "json")
    told = status.describe(KeyError("anything"))
    assert told.code == status.number(grpc.StatusCode.INTERNAL)
