"""What a models folder holds, and what model.yaml says: read exactly, or refused with every problem and its place."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from core.errors import ModelError, ProgramError
from core.inference import package as packages
from core.inference import repository
from core.inference.description import describe
from core.inference.package import Scope
from core.inference.tensor import TensorType

FULL = b"""\
scope: offer
inputs:
  age: customer.age
  job: {columns: [customer.job], missing: unknown}
  numbers:
    missing: 0
    columns:
      - customer.balance
      - {value: "facts.amount > 100.0 ? 1 : 0", missing: nan}
output: {name: probabilities, class: 'yes', kind: propensity}
calibration: {isotonic: [[0, 0.01], [0.5, 0.2], [1, 0.9]]}
fallback: 0.05
budget_ms: 2.5
tolerance: 0.001
golden:
  - {inputs: {age: 35, job: '7', numbers: [1200, nan]}, expect: 0.31}
trained_on: generated rows
"""


def described(text: bytes) -> packages.Description:
    return describe(packages.package("sample", 3, b"model", text))


def test_a_full_description_is_read() -> None:
    read = described(FULL)
    assert read.scope is Scope.OFFER
    assert [column.text for column in read.inputs["numbers"]] == ["customer.balance", "facts.amount > 100.0 ? 1 : 0"]
    assert read.inputs["job"][0].missing == "unknown"
    assert read.inputs["numbers"][0].missing == 0.0
    assert math.isnan(float(read.inputs["numbers"][1].missing or 0))
    assert read.inputs["age"][0].missing is None
    assert str(read.inputs["age"][0].where) == "sample/3/model.yaml:3:8"
    assert (read.output, read.selected, read.value) == ("probabilities", "yes", False)
    assert read.isotonic == ((0, 0.01), (0.5, 0.2), (1, 0.9))
    assert (read.fallback, read.budget_ms, read.tolerance, read.trained_on) == (0.05, 2.5, 0.001, "generated rows")
    assert read.golden[0].cells["job"] == ("7",)
    assert read.golden[0].expect == 0.31


def test_the_least_description_is_enough() -> None:
    read = described(b"inputs: {x: customer.age}")
    assert (read.scope, read.output, read.selected, read.fallback, read.golden) == (Scope.CUSTOMER, "", None, None, ())
    assert described(b"inputs: {x: now}\noutput: {class: 1}").selected == 1
    assert described(b"inputs: {x: now}\noutput: {class: '1'}").selected == "1"


def test_columns_are_bound_by_the_files_order() -> None:
    binding = described(FULL).binding([
        TensorType("numbers", "float32", (-1, 2), 2), TensorType("job", "string", (-1, 1)), TensorType("age", "int64", (-1, 1)),
    ])
    assert not binding.per_customer
    assert [(column.input, column.position) for column in binding.columns] == [(2, 0), (1, 0), (0, 0), (0, 1)]


@pytest.mark.parametrize(("text", "problems"), [
    (b"", ["1:1: A description is one YAML document; here are 0."]),
    (b"scope: ofer\ninput: {x: now}\n", [
        "1:8: There is no scope 'ofer'. Did you mean 'offer'?",
        "2:1: There is no key 'input' in a model's description. Did you mean 'inputs'?",
        "The description has no inputs.",
    ]),
    (b"inputs: {x: []}\nfallback: 5\nbudget_ms: 0\n", [
        "1:10: Input 'x' has no columns.", "2:11: fallback is 5; it must lie between 0 and 1.", "3:12: budget_ms is 0",
    ]),
    (b"inputs: {x: now}\ncalibration: {platt: {a: 1}, isotonic: [[0, 0]]}\n", ["2:14: A calibration is either"]),
    (b"inputs: {x: now}\ncalibration: {isotonic: [[0, 0.5], [0, 0.6]]}\n", ["2:36: The point (0, 0.6) does not rise"]),
    (b"inputs: {x: [now, now]}\ngolden:\n  - {inputs: {x: 1}, expect: 1}\n  - {inputs: {y: 1, x: [1, 2]}}\n", [
        "3:15: The golden row has 1 cells for 'x', which has 2 columns.", "4:5: The golden row has no expect.",
    ]),
    (b"inputs: {x: now, x: now}\n", ["1:18: Key 'x' stands twice in inputs. The first is in line 1."]),
    (b"inputs: {x: {columns: [{missing: 1}]}}\n", ["1:24: A column of 'x' has no value."]),
    (b"inputs: [x\n", ["This is not YAML"]),
    (b"inputs: {x: \xff}", ["1:13: Byte 0xff is not UTF-8."]),
])
def test_problems_are_told_at_once_with_their_places(text: bytes, problems: list[str]) -> None:
    with pytest.raises(ModelError, match=r"model\.yaml has") as caught:
        described(text)
    assert isinstance(caught.value.__cause__, ProgramError)
    for problem in problems:
        assert problem in str(caught.value)
    assert "Model 'sample/3'" in str(caught.value)


def test_only_numbered_versions_are_found_and_the_rest_is_told(tmp_path: Path) -> None:
    for name in ("uptake/1", "uptake/10", "uptake/2", "uptake/02", "uptake/latest", "uptake/.3.tmp", "Bad Name/1", "empty/4"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("uptake/1", "uptake/2", "uptake/10"):
        (tmp_path / name / "model.onnx").write_bytes(b"model")
        (tmp_path / name / "model.yaml").write_bytes(b"inputs: {x: now}")
    (tmp_path / "train.py").write_text("")
    listing = repository.scan(tmp_path)
    assert [(found.name, found.version, bool(found.stamp)) for found in listing.found] == [
        ("empty", 4, False), ("uptake", 1, True), ("uptake", 2, True), ("uptake", 10, True)]
    assert [told.split(":")[0] for told in listing.ignored] == ["Bad Name", "uptake/02", "uptake/latest"]
    assert repository.scan(tmp_path / "none").found == ()


def test_names_and_versions_that_cannot_be_are_refused() -> None:
    for name, version in (("", 1), ("../up", 1), ("Uptake", 1), ("a" * 65, 1), ("uptake", 0), ("uptake", -1)):
        with pytest.raises(ModelError):
            packages.package(name, version, b"model", b"")
    with pytest.raises(ModelError, match="is empty"):
        packages.package("uptake", 1, b"", b"")


def test_a_package_is_known_by_its_bytes() -> None:
    assert packages.package("a", 1, b"xy", b"z").digest != packages.package("a", 1, b"x", b"yz").digest
    assert packages.package("a", 1, b"xy", b"z").digest == packages.package("b", 2, b"xy", b"z").digest
