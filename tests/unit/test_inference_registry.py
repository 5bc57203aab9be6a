"""What is live and what is not: good versions switch at once, bad ones leave the old one serving, and the way back
is short.

Every trial here is a real one in a child process; models are a few hundred bytes. The folder is looked at by
`scan`, as the watching thread does it, with nothing to settle unless a test says so.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from core.errors import ModelError, NotFound, Problem, ProgramError
from core.inference.registry import LiveModel, Registry, State, Version
from tests import inference_models as models

TEXT = models.describe("  x: [customer.age]", "output: {kind: value}\nfallback: 0.5\nbudget_ms: 1000")


def put(folder: Path, name: str, version: int, weight: float, text: bytes = TEXT) -> Path:
    """A version as an owner copies it there; its model multiplies x by ``weight``."""
    home = folder / name / str(version)
    home.mkdir(parents=True)
    (home / "model.onnx").write_bytes(models.linear([weight]))
    (home / "model.yaml").write_bytes(text)
    return home


def registry(folder: Path | None, settle: float = 0.0) -> Registry:
    return Registry(folder, settle_seconds=settle)


def answers(found: Registry, name: str = "uptake") -> float:
    outcome, scores = found.live()[name].runner.run({"x": [[1.0]]})
    assert outcome == "SCORED"
    return scores[0]


def states(found: Registry) -> dict[int, State]:
    return {version.version: version.state for version in found.versions("uptake")}


def test_bad_versions_leave_the_old_one_serving_and_say_why(tmp_path: Path) -> None:
    found = registry(tmp_path)
    assert found.deploy("uptake", 1, models.linear([2.0]), TEXT).state is State.LIVE
    bad = {
        2: (models.linear([2.0])[:80], TEXT, "cut off"),
        3: (models.linear([2.0, 1.0]), TEXT, "takes 2 columns; 1 are bound"),
        4: (models.linear([float("nan")]), TEXT, "NaN"),
        5: (models.linear([2.0]), b"inputs: {x: }", "model.yaml has"),
    }
    for version, (model, text, words) in bad.items():
        with pytest.raises(ModelError, match=words):
            found.deploy("uptake", version, model, text)
        assert answers(found) == 2.0
    assert states(found) == {1: State.LIVE, 2: State.REFUSED, 3: State.REFUSED, 4: State.REFUSED, 5: State.REFUSED}
    assert all(version.cause for version in found.versions("uptake")[1:])
    # Nothing of a refused version is kept in the folder, and its number may be used again.
    assert [path.name for path in (tmp_path / "uptake").iterdir() if path.is_dir()] == ["1"]
    assert found.deploy("uptake", 2, models.linear([3.0]), TEXT).state is State.LIVE
    assert answers(found) == 3.0


def test_rollback_is_quick_and_survives_a_restart(tmp_path: Path) -> None:
    found = registry(tmp_path)
    found.deploy("uptake", 1, models.linear([1.0]), TEXT)
    began = time.monotonic()
    found.deploy("uptake", 2, models.linear([2.0]), TEXT)
    deployed = time.monotonic()
    assert found.rollback("uptake").version == 1
    # Measured: 2 ms, where a deployment takes 500. What is asked for is less than a second.
    assert time.monotonic() - deployed < (deployed - began) / 2
    assert answers(found) == 1.0
    assert states(found) == {1: State.LIVE, 2: State.READY}
    restarted = registry(tmp_path)
    restarted.scan()
    assert restarted.live()["uptake"].version == 1
    assert states(restarted) == {1: State.LIVE, 2: State.READY}
    # A rollback may itself be taken back.
    assert found.rollback("uptake").version == 2
    with pytest.raises(NotFound):
        found.rollback("no_such_model")


def test_a_release_put_into_the_folder_takes_over_even_after_a_rollback(tmp_path: Path) -> None:
    put(tmp_path, "uptake", 1, 1.0)
    put(tmp_path, "uptake", 2, 2.0)
    found = registry(tmp_path)
    assert {version.label for version in found.scan()} == {"uptake/1", "uptake/2"}
    assert answers(found) == 2.0
    assert found.scan() == ()
    found.activate("uptake", 1)
    assert found.scan() == ()
    assert answers(found) == 1.0
    put(tmp_path, "uptake", 3, 3.0)
    found.scan()
    assert answers(found) == 3.0
    assert states(found) == {1: State.READY, 2: State.RETIRED, 3: State.LIVE}


def test_a_half_written_copy_is_never_loaded(tmp_path: Path) -> None:
    """The file grows between two looks; it is read only when two looks saw the same."""
    found = registry(tmp_path, settle=3600.0)
    home = put(tmp_path, "uptake", 1, 1.0)
    whole = (home / "model.onnx").read_bytes()
    for size in (10, 100, len(whole)):
        (home / "model.onnx").write_bytes(whole[:size])
        assert found.scan() == ()
    assert found.versions() == ()
    (home / "model.yaml").unlink()
    patient = registry(tmp_path)
    (told,) = patient.scan()
    assert (told.state, "model.yaml is missing" in told.cause) == (State.REFUSED, True)
    (home / "model.yaml").write_bytes(TEXT)
    (told,) = patient.scan()
    assert told.state is State.LIVE


def test_a_start_waits_only_for_files_that_may_still_grow(tmp_path: Path) -> None:
    """Every start of a server looked twice, a second apart, at files that had lain there for months."""
    put(tmp_path, "uptake", 1, 1.0)
    half = tmp_path / "churn" / "1"
    half.mkdir(parents=True)
    (half / "model.onnx").write_bytes(models.linear([1.0]))
    fresh = registry(tmp_path, settle=3600.0)
    assert fresh.scan(at_start=True) == ()
    assert fresh.settling
    later_us = time.time_ns() // 1000 + 2 * 3600 * 1_000_000
    found = Registry(tmp_path, settle_seconds=3600.0, clock_us=lambda: later_us)
    # Any other look still wants to see the same files twice, whatever their times say.
    assert found.scan() == ()
    (told,) = found.scan(at_start=True)
    assert (told.label, told.state) == ("uptake/1", State.LIVE)
    # The copy without its description is what the second look is for.
    assert found.settling
    shutil.rmtree(tmp_path / "churn")
    assert found.scan(at_start=True) == ()
    assert not found.settling


def test_files_that_change_under_a_live_version_do_not_change_it(tmp_path: Path) -> None:
    home = put(tmp_path, "uptake", 1, 1.0)
    found = registry(tmp_path)
    found.scan()
    (home / "model.onnx").write_bytes(models.linear([9.0]))
    (told,) = found.scan()
    assert told.state is State.LIVE
    assert "its files changed" in told.cause
    assert answers(found) == 1.0
    shutil.rmtree(home)
    found.scan()
    assert answers(found) == 1.0


def test_versions_never_change(tmp_path: Path) -> None:
    found = registry(tmp_path)
    found.deploy("uptake", 1, models.linear([1.0]), TEXT)
    assert found.deploy("uptake", 1, models.linear([1.0]), TEXT).state is State.LIVE
    with pytest.raises(ModelError, match="exists with other contents"):
        found.deploy("uptake", 1, models.linear([2.0]), TEXT)
    with pytest.raises(ModelError, match="exists in the folder"):
        registry(tmp_path).deploy("uptake", 1, models.linear([2.0]), TEXT)
    assert registry(tmp_path).deploy("uptake", 1, models.linear([1.0]), TEXT).state is State.LIVE


def test_a_listener_refuses_what_its_program_cannot_use(tmp_path: Path) -> None:
    found = registry(tmp_path)
    told: list[dict[str, int]] = []

    def first(live: Mapping[str, LiveModel]) -> None:
        told.append({name: model.version for name, model in live.items()})

    def second(live: Mapping[str, LiveModel]) -> None:
        column = live["uptake"].binding.columns[0]
        if column.text == "customer.shoe_size":
            raise ProgramError([Problem(column.where, "There is no attribute 'shoe_size'.")])

    found.listen(first)
    found.listen(second)
    found.deploy("uptake", 1, models.linear([1.0]), TEXT)
    with pytest.raises(ModelError, match=r"uptake/2/model.yaml:2:7: There is no attribute 'shoe_size'"):
        found.deploy("uptake", 2, models.linear([2.0]), TEXT.replace(b"customer.age", b"customer.shoe_size"))
    assert answers(found) == 1.0
    assert states(found) == {1: State.LIVE, 2: State.REFUSED}
    # The first listener was told of version 2, and then that version 1 serves on.
    assert told == [{"uptake": 1}, {"uptake": 2}, {"uptake": 1}]


def test_expressions_that_no_program_could_use_are_refused_when_the_model_is_deployed(tmp_path: Path) -> None:
    """They were looked at once a program named the model: its owner had long been told that it was deployed, and whoever loaded
    the program met problems in a file of somebody else's."""
    found = registry(tmp_path)
    found.deploy("uptake", 1, models.linear([1.0]), TEXT)
    spoilt = TEXT.replace(b"[customer.age]", b"[custmer.age, \"lenght(customer.name) > 1\"]")
    with pytest.raises(ModelError) as refused:
        found.deploy("uptake", 2, models.linear([2.0]), spoilt)
    assert refused.value.message == (
        "Model 'uptake/2': model.yaml has 2 problems:\n"
        "uptake/2/model.yaml:2:7: There is no name 'custmer.age'. Did you mean 'customer.age'?\n"
        "uptake/2/model.yaml:2:21: There is no function 'lenght'. Did you mean size()?."
    )
    assert states(found) == {1: State.LIVE, 2: State.REFUSED}
    assert answers(found) == 1.0
    # What a schema would have to declare is the program's to say, which may come later.
    assert found.deploy("uptake", 3, models.linear([2.0]), TEXT.replace(b"customer.age", b"customer.not_yet")).state is State.LIVE


def test_without_a_folder_everything_is_in_memory() -> None:
    found = registry(None)
    found.deploy("uptake", 1, models.linear([1.0]), TEXT)
    found.deploy("uptake", 2, models.linear([2.0]), TEXT, activate=False)
    assert answers(found) == 1.0
    assert found.activate("uptake", 2).state is State.LIVE
    assert answers(found) == 2.0
    assert found.scan() == ()
    with pytest.raises(NotFound, match="Versions known: 1, 2"):
        found.activate("uptake", 7)


def test_a_retired_model_stays_away_until_it_is_activated(tmp_path: Path) -> None:
    put(tmp_path, "uptake", 1, 1.0)
    found = registry(tmp_path)
    found.scan()
    found.retire("uptake")
    assert found.live() == {}
    restarted = registry(tmp_path)
    restarted.scan()
    assert restarted.live() == {}
    restarted.activate("uptake", 1)
    assert answers(restarted) == 1.0


def test_a_held_plan_keeps_its_runner_through_a_switch(tmp_path: Path) -> None:
    found = registry(tmp_path)
    found.deploy("uptake", 1, models.linear([1.0]), TEXT)
    held = found.live()
    for version in (2, 3, 4):
        found.deploy("uptake", version, models.linear([float(version)]), TEXT)
    assert held["uptake"].runner.run({"x": [[1.0]]}) == ("SCORED", [1.0])
    assert answers(found) == 4.0


def test_the_watching_thread_finds_a_release(tmp_path: Path) -> None:
    found = registry(tmp_path)
    told: list[Version] = []
    found.watch(every_seconds=0.01, on_change=told.append)
    try:
        put(tmp_path / "staging", "uptake", 1, 1.0)
        (tmp_path / "staging" / "uptake").rename(tmp_path / "uptake")
        deadline = time.monotonic() + 60
        while "uptake" not in found.live():
            assert time.monotonic() < deadline, found.versions()
            time.sleep(0.005)
        assert answers(found) == 1.0
    finally:
        found.close()
    # A version dropped into the folder was refused or taken without a line in the log.
    assert [(version.version, version.state) for version in told] == [(1, State.LIVE)]
