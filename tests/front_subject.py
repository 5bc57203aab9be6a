"""A Front over a real engine and store with the starter's program, in this process or in one of its own.

``python -m tests.front_subject FOLDER JSON`` serves until its standard input ends. JSON is an object with "settings" of the
configuration and "limits" of the data plane; the address is the first line it writes, and for each line it is told it
writes another: "counters" what the loops counted, "load" once the starter's program is loaded.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from core import limits
from protos.rapport.v1 import decision_pb2
from server.cli import starter
from server.config import Config
from server.front import Front
from server.services.calls import Method
from server.services.decisions import DecisionService
from tests.engine_subject import EngineSubject

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 30
MANY_SLOTS = 40


def sources(version: int = 1) -> dict[str, bytes]:
    """The starter's program, with a second channel whose answers are large; each ``version`` is another program."""
    found = {
        name.removeprefix("program/"): text.encode()
        for name, text in starter.files().items() if name.startswith("program/")
    }
    found["channels.yaml"] += b"bulk:\n  content_type: text\n  placements:\n    wall: {slots: %d}\n" % MANY_SLOTS
    text = f"{version:<10}" + "long " * 800
    for number in range(MANY_SLOTS):
        found["offers.yaml"] += (
            f"- offer: bulk_{number}\n  group: service\n  value: 1.00 EUR\n  propensity: 0.05\n"
            f"  treatments:\n    bulk.wall: {{title: \"{number} {text}\"}}\n"
        ).encode()
    return found


def decide() -> bytes:
    """A small request with a small answer."""
    return decision_pb2.DecideRequest(
        channel="web", placements=[decision_pb2.PlacementRequest(name="home_hero")]
    ).SerializeToString()


def decide_much() -> bytes:
    """A small request whose answer is about 170 KiB."""
    return decision_pb2.DecideRequest(
        channel="bulk", placements=[decision_pb2.PlacementRequest(name="wall")]
    ).SerializeToString()


class FrontSubject:
    """A context manager. ``plane_limits`` and ``settings`` replace the defaults; ``methods`` the service's."""

    def __init__(
        self, folder: Path, *, plane_limits: Mapping[str, int] | None = None, settings: Mapping[str, Any] | None = None,
        methods: Mapping[str, Method] | None = None, program: bool = True,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.inner = EngineSubject(folder)
        self.inner.clock_us = time.time_ns() // 1000
        self.version = 0
        if program:
            self.load()
        given: dict[str, Any] = {
            "listen_decisions": "127.0.0.1:0", "threads_loops": 2, "threads_models": 1, "threads_handlers": 2,
            **(settings or {}),
        }
        own = DecisionService(self.inner.engine, limits.MESSAGE_BYTES).methods()
        try:
            self.front = Front(
                Config(**given), {**own, **(methods or {})}, self.inner.engine, plane_limits=plane_limits
            )
            self.front.start()
        except BaseException as error:
            # Nobody gets this subject, so nobody could close it.
            self.inner.__exit__(type(error), error, None)
            raise
        for service in ("", "rapport.v1.DecisionService"):
            self.front.serving(service, True)
        self.address = self.front.address
        self.stopped = False

    def load(self) -> None:
        """Load the next version of the program."""
        self.version += 1
        self.inner.load(sources(self.version), time.time_ns() // 1000)

    def stop(self, seconds: float = SECONDS) -> None:
        if not self.stopped:
            self.stopped = True
            self.front.stop(seconds).result()

    def __enter__(self) -> FrontSubject:
        self.inner.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop(0.0)
        self.inner.__exit__(kind, error, trace)


class FrontProcess:
    """The same in a process of its own. A context manager."""

    def __init__(self, folder: Path, **given: Any) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAPPORT_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.front_subject", str(folder), json.dumps(given)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**inherited, "PYTHONPATH": str(ROOT)},
        )
        self.address = self._line()

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        assert line, f"the server has ended: {self.process.wait(SECONDS)}"
        return line

    def ask(self, command: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self._line()

    def counters(self) -> dict[str, int]:
        found: dict[str, int] = json.loads(self.ask("counters"))
        return found

    def resident_bytes(self) -> int:
        """Memory of the process that is resident."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (kib,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
        return int(kib) * 1024

    def processor_seconds(self) -> float:
        """Processor time of the process so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self) -> FrontProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        alive = self.process.poll() is None
        if alive:
            self.process.stdin.close()
        try:
            code = self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait(SECONDS)
        self.process.stdout.close()
        if not alive:
            self.process.stdin.close()
        if kind is None:
            assert (alive, code) == (True, 0), f"the server ended with {code}"


def _serve(folder: Path, given: dict[str, Any]) -> None:
    with FrontSubject(folder, **given) as subject:
        print(subject.address, flush=True)
        for line in sys.stdin:
            match line.strip():
                case "counters":
                    print(json.dumps(subject.front.counters()), flush=True)
                case "load":
                    subject.load()
                    print("loaded", flush=True)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), json.loads(sys.argv[2]))
