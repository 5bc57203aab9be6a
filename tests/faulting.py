"""Processes on a disk that fails when told to: tests/native/faultdisk.c, compiled here, and what puts it under a process.

The library sees only calls of processes that it is loaded into, so the test itself reads and writes undisturbed.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.sanitizing import SANITIZED
from tests.stored import faults

SOURCE = Path(__file__).parent / "native" / "faultdisk.c"
MEMORY = Path("/dev/shm")
ROOM = 256 << 20


@dataclass(frozen=True)
class FaultyDisk:
    """A folder whose files are on such a disk, for processes started with ``environment``."""

    library: Path
    folder: Path  # everything below it is on the disk
    acks: Path  # writes to it are the call "ack"
    rule_file: Path
    trace: Path

    def environment(self, *, traced: bool = False) -> dict[str, str]:
        """The variables that put a process on the disk; ``traced``: what it does is kept in ``trace``."""
        variables = {
            "LD_PRELOAD": " ".join(filter(None, (os.environ.get("LD_PRELOAD"), str(self.library)))),
            "RAPPORT_FAULT_FOLDER": str(self.folder), "RAPPORT_FAULT_ACKS": str(self.acks),
            "RAPPORT_FAULT_RULE": str(self.rule_file),
        }
        return variables | ({"RAPPORT_FAULT_TRACE": str(self.trace)} if traced else {})

    def rule(self, text: str = "") -> None:
        """What happens from the next call on, as faultdisk.c says; nothing without ``text``."""
        new = self.rule_file.with_suffix(".new")
        new.write_text(text)
        new.replace(self.rule_file)

    def acknowledged(self) -> list[str]:
        """The lines written to ``acks`` so far."""
        return self.acks.read_text().splitlines() if self.acks.exists() else []


@functools.cache
def _library() -> Path:
    """Compile it, once a process; the test is skipped where nothing compiles C, and under the sanitizers."""
    if SANITIZED:
        pytest.skip("under the sanitizers: AddressSanitizer calls the failing disk's library before that is set up")
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler (cc) to make a failing disk with")
    folder = Path(tempfile.mkdtemp(prefix="rapport-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = folder / "faultdisk.so"
    command = [compiler, "-shared", "-fPIC", "-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-pthread"]
    done = subprocess.run([*command, "-o", str(made), str(SOURCE)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return made


def faulty_disk(base: Path) -> FaultyDisk:
    """A disk below ``base``, without faults yet."""
    base = base.resolve()
    folder = base / "disk"
    folder.mkdir()
    disk = FaultyDisk(_library(), folder, base / "acks", base / "rule", base / "trace")
    disk.rule()
    return disk


@contextmanager
def quick_folder() -> Iterator[Path]:
    """A new folder in memory where there is room: these tests sync tens of thousands of times, and no real disk has to.

    The stores that are left in it must be sound ones.
    """
    room = shutil.disk_usage(MEMORY).free if MEMORY.is_dir() else 0
    with tempfile.TemporaryDirectory(prefix="rapport-", dir=MEMORY if room > ROOM else None) as folder:
        base = Path(folder).resolve()
        yield base
        found = list(faults(base))
        assert not found, "\n".join(found)
