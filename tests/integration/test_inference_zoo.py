"""Model files that other projects made: each is served with the numbers its makers published, or refused for a
stated reason.

tests/cases/onnx_zoo.json says of each file what is bound to its inputs, which output and classes are read, which
of its maker's published answers they are compared with, or the reason for refusing it. The whole examination of a
deployment runs for each (the child's part, in this process; the child itself has tests of its own).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from core.errors import ModelError
from core.inference import package as packages
from core.inference import trial
from core.inference.description import describe
from core.inference.runner import Runner
from tests.inference_models import ZOO

CASES: dict[str, Any] = json.loads((Path(__file__).parents[1] / "cases" / "onnx_zoo.json").read_text())
pytestmark = pytest.mark.skipif(not ZOO.is_dir(), reason="the shared data's onnx-zoo is not here")


def package(file: str, case: dict[str, Any], selected: int | str) -> packages.Package:
    lines = [f"  {json.dumps(name)}: [{', '.join(['now'] * width)}]" for name, width in case["columns"].items()]
    output = {"kind": "value", "class": selected, **({"name": case["output"]} if "output" in case else {})}
    text = "scope: offer\nbudget_ms: 1000\ninputs:\n" + "\n".join(lines) + f"\noutput: {json.dumps(output)}\n"
    return packages.package("zoo", 1, (ZOO / "models" / file).read_bytes(), text.encode())


def published(file: str) -> dict[str, Any] | None:
    found: dict[str, Any] | None = json.loads((ZOO / "cases.json").read_text()).get(Path(file).stem)
    return found


def test_the_table_names_every_file() -> None:
    assert sorted(CASES) == sorted(path.name for path in (ZOO / "models").glob("*.onnx"))
    assert len(CASES) == 57


@pytest.mark.parametrize("file", CASES)
def test_a_file_of_the_zoo_is_served_as_published_or_refused_with_its_reason(file: str) -> None:
    case = CASES[file]
    classes = case.get("classes", [0])
    if "refused" in case:
        told = reason(file, case, classes[0])
        if told or "unless" not in case:
            assert case["refused"] in told
            return
    given = published(file)
    for place, selected in enumerate(classes):
        source = package(file, case, selected)
        description = describe(source)
        verdict = trial.examine(source)
        runner = trial.runner_of(source, description, verdict)
        if "expected" not in case:
            rows: dict[str, list[list[float | str]]] = {
                entry.name: [["" if entry.element == "string" else 0.5] * entry.width] * 7 for entry in runner.inputs}
            outcome, scores = runner.run(rows, timeout_ms=5000)
            assert (outcome, len(scores)) == ("SCORED", 7)
            assert all(map(math.isfinite, scores))
            continue
        assert given is not None
        expected = given["expected"] if isinstance(given["expected"], list) else [given["expected"]]
        answers = [row if isinstance(row, list) else [row] for row in expected[case["expected"]]["data"]]
        (name,) = case["columns"]
        inputs = [row if isinstance(row, list) else [row] for row in given["input"]["data"]]
        _, scores = runner.measure({name: inputs}, repeats=1)
        compare(scores, [row[place] for row in answers])


def reason(file: str, case: dict[str, Any], selected: int | str) -> str:
    """Why a file is refused, '' when it is not."""
    try:
        trial.examine(package(file, case, selected))
    except ModelError as refused:
        return str(refused)
    return ""


def compare(scores: list[float], expected: list[float]) -> None:
    """Within 1e-4, as the data's own notes compare."""
    assert len(scores) == len(expected)
    for score, wanted in zip(scores, expected, strict=True):
        assert score == pytest.approx(wanted, abs=1e-4, rel=1e-4)


def test_a_map_is_read_as_the_tensor_it_was_made_from() -> None:
    """The graph is cut before ZipMap; the uncut file, read map by map, says the same."""
    file = "logreg_iris.d3da6297.onnx"
    case = CASES[file]
    rows = {"X": [[5.1, 3.5], [4.9, 3.0], [6.7, 3.1]]}
    for selected in case["classes"]:
        source = package(file, case, selected)
        verdict = trial.examine(source)
        assert "ai.onnx.ml:ZipMap" in verdict.operators
        cut = trial.runner_of(source, describe(source), verdict)
        uncut = Runner("uncut/1", source.model, selected=selected, output=case["output"])
        assert [entry.element for entry in cut.outputs] == ["float32"]
        assert uncut.outputs[1].element == "sequence"
        assert cut.measure(rows, repeats=1)[1] == uncut.measure(rows, repeats=1)[1]
