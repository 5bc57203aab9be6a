"""A server as people run it, for tests: a process of its own in a folder of its own, whose log is read as it comes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, Queue
from typing import Any, TypeAlias

import pytest

from server.cli import show, starter
from server.cli.main import main

ROOT = Path(__file__).resolve().parent.parent
BOUND_SECONDS = 60


class Server:
    """A server process in a folder that `rapport init` would write. Lines of its log are read as they come."""

    def __init__(self, folder: Path, **environment: str) -> None:
        settings = {"RAPPORT_LISTEN_DECISIONS": "127.0.0.1:0", "RAPPORT_LOG_FORMAT": "json", **environment}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAPPORT_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "server"],
            cwd=folder,
            stderr=subprocess.PIPE,
            text=True,
            env={**inherited, "PYTHONPATH": str(ROOT), "COVERAGE_PROCESS_START": "", **settings},
        )
        self.lines: Queue[str] = Queue()
        self.seen: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.put(line)
        self.lines.put("")

    def until(self, event: str) -> dict[str, Any]:
        """The log's next line about ``event``; fails with the log when the server ends first or time is up."""
        while True:
            try:
                line = self.lines.get(timeout=BOUND_SECONDS)
            except Empty:
                line = ""
            self.seen.append(line)
            if not line:
                pytest.fail(f"no '{event}' in the server's log:\n{''.join(self.seen)}")
            if line.startswith("{"):
                said: dict[str, Any] = json.loads(line)
                if said["event"] == event:
                    return said

    def rest(self) -> str:
        """What it wrote until it ended."""
        self._reader.join(BOUND_SECONDS)
        while not self.lines.empty():
            self.seen.append(self.lines.get())
        return "".join(self.seen)

    def close(self) -> None:
        self._reader.join(BOUND_SECONDS)
        if self.process.stderr is not None:
            self.process.stderr.close()

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(BOUND_SECONDS)


@contextlib.contextmanager
def started(folder: Path) -> Iterator[tuple[Server, dict[str, Any]]]:
    """A server of what `rapport init` writes, ready, and where it listens; it must end well unless the test has ended it."""
    server = Server(write_starter(folder))
    try:
        told = server.until("listening")
        server.until("ready")
        yield server, told
        if server.process.poll() is None:
            assert server.end() == 0
    finally:
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait(BOUND_SECONDS)
        server.close()


# Runs the command line in this process: exit code, standard output, standard error.
Rapport: TypeAlias = Callable[..., tuple[int, str, str]]


def rapport_in_process(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, address: str = "") -> Rapport:
    """A `Rapport` whose commands ask the server at ``address``, and whose tables are wide."""
    if address:
        monkeypatch.setenv("RAPPORT_SERVER", address)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(show.out, "width", 200)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rapport", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        return int(left.value.code or 0), said.out, said.err

    return run


def write_starter(folder: Path) -> Path:
    """What `rapport init` writes, into ``folder``."""
    for name, text in starter.files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder
