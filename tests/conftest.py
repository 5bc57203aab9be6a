"""After every test, the structural check of each store that it leaves: what operators run is run on all that tests do.

A test that leaves a store damaged, or a file that is none, says so: ``@pytest.mark.damages("why")``. Stores in memory are looked
at by `tests.faulting.quick_folder`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.stored import faults


def _sound(request: pytest.FixtureRequest, folders: list[Path]) -> None:
    if request.node.get_closest_marker("damages") is None:
        found = [fault for folder in folders for fault in faults(folder)]
        assert not found, "left by the test, and not marked as damaged by it:\n" + "\n".join(found)


@pytest.fixture(autouse=True, scope="module")
def _shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    """The folders that a module's tests share; the stores in them are looked at after the last of these."""
    made: list[Path] = []
    make = tmp_path_factory.mktemp

    def noted(basename: str, numbered: bool = True) -> Path:
        made.append(make(basename, numbered))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tmp_path_factory, "mktemp", noted)
        yield made
    _sound(request, made)


@pytest.fixture(autouse=True)
def _stores_are_sound(request: pytest.FixtureRequest, _shared: list[Path]) -> Iterator[None]:
    # Asked for first, so that it is looked at last: when every other fixture has closed what it opened.
    folder: Path | None = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    yield
    if folder is not None:
        _shared.remove(folder)
        _sound(request, [folder])


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """What a test says of logging ends with it: a level of errors hid the lines that a test of another file looked for."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)
