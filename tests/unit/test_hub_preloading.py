"""The store's file read into memory at start: all of it, unless there is no room or the server ends before."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from core.hub.preloading import PIECE, preload, room


@pytest.mark.parametrize("size", [0, 1, PIECE, 3 * PIECE + 17])
def test_a_file_is_read_to_its_end(tmp_path: Path, size: int) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"\x01" * size)
    assert preload(file, size, threading.Event()) == size


def test_a_file_that_has_no_room_is_left_where_it_is(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"\x01" * 4097)
    assert preload(file, 4096, threading.Event()) is None


def test_it_ends_when_the_server_does(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"\x01" * PIECE)
    over = threading.Event()
    over.set()
    assert preload(file, PIECE, over) == 0


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        preload(tmp_path / "file", PIECE, threading.Event())


def test_there_is_room_for_half_of_what_is_available() -> None:
    total = next(int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal:"))
    assert 0 < room() <= total * 1024 // 2
