"""The contract on the wire and the vocabulary in the code are one: generated code is current, enums agree, all is said."""

from __future__ import annotations

import enum
import re
from pathlib import Path

import pytest
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from core.decision import Clamp, ExplainLevel
from core.reasons import Detail, Reason, SlotStatus
from protos import generate
from protos.rapport.v1 import decision_pb2

ROOT = Path(generate.__file__).resolve().parent.parent
PROTOS = sorted((ROOT / "protos").rglob("*.proto"))


def test_checked_in_code_is_what_protoc_writes(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools, of the dev extra, is not installed")
    written = generate.generate(tmp_path)
    kept = sorted(
        path.relative_to(ROOT) for path in (ROOT / "protos").rglob("*_pb2*") if path.suffix in {".py", ".pyi"}
    )
    assert [path.relative_to(tmp_path) for path in written] == kept
    for path in written:
        inside = path.relative_to(tmp_path)
        assert path.read_text() == (ROOT / inside).read_text(), f"{inside} is stale: run python -m protos.generate"


@pytest.mark.parametrize(
    ("ours", "wire", "prefix"),
    [
        (Reason, decision_pb2.Reason, "REASON_"),
        (Detail, decision_pb2.Detail, "DETAIL_"),
        (SlotStatus, decision_pb2.SlotStatus, "SLOT_STATUS_"),
        (ExplainLevel, decision_pb2.ExplainLevel, "EXPLAIN_LEVEL_"),
        (Clamp, decision_pb2.Clamp, "CLAMP_"),
    ],
)
def test_enums_agree_in_name_and_number(ours: type[enum.IntEnum], wire: EnumTypeWrapper, prefix: str) -> None:
    spoken = {name.removeprefix(prefix): number for name, number in wire.items() if number != 0}
    # Number 0 on the wire is always UNSPECIFIED; in core only Detail has a 0, and calls it NONE.
    assert spoken == {member.name: member.value for member in ours if member.value != 0}
    assert wire.Name(0) == f"{prefix}UNSPECIFIED"


@pytest.mark.parametrize("path", PROTOS, ids=lambda path: path.name)
def test_every_element_of_a_proto_has_a_comment(path: Path) -> None:
    element = re.compile(
        r"^\s*(service|message|enum|rpc|oneof|(repeated |optional )?[\w.<>, ]+ \w+ = \d+;|[A-Z_]+ = \d+;)"
    )
    lines = path.read_text().splitlines()
    bare = [
        f"{path.name}:{number}: {line.strip()}"
        for number, line in enumerate(lines, 1)
        if element.match(line) and not lines[number - 2].lstrip().startswith("//")
    ]
    assert bare == []


@pytest.mark.parametrize("path", PROTOS, ids=lambda path: path.name)
def test_every_rpc_has_a_request_and_a_response_of_its_own(path: Path) -> None:
    calls = re.findall(r"rpc (\w+)\((?:stream )?(\w+)\) returns \((?:stream )?(\w+)\)", path.read_text())
    assert [(f"{name}Request", f"{name}Response") for name, _, _ in calls] == [
        (asked, said) for _, asked, said in calls
    ]


def test_the_element_pattern_finds_what_it_is_meant_to_find() -> None:
    # The test above passes on an empty list; this one shows that the files do have elements it looks at.
    text = (ROOT / "protos/rapport/v1/decision.proto").read_text()
    assert len(re.findall(r"^\s*rpc ", text, re.MULTILINE)) == 5
    assert len(re.findall(r"= \d+;", text)) > 100
