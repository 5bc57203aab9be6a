"""The README's walk from a newcomer's CSV to a restored backup, run as it is written, in a fresh folder, against a real server.

The section's blocks marked ``sh`` are pasted in order, each into a shell that stops at the first failure. As the README
says, there are two windows: a block that is ``rapport serve`` keeps the first, later blocks go into the second, and where
the text says Ctrl-C the server is interrupted and the first window goes on. Folder and exported variables stay from block
to block. Only the ports are the test's.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.running import BOUND_SECONDS, ROOT, Server

SECTION = "## Your own customers, from a CSV to a backup\n"
SERVE = "rapport serve\n"


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block of the section."""

    step: int  # of the bold number before it
    prose: str  # what stands between the block before and this one
    commands: str


def blocks() -> list[Block]:
    """The section's shell blocks in order."""
    text = (ROOT / "README.md").read_text()
    section = text[text.index(SECTION) :].split("\n## ", 1)[0]
    found: list[Block] = []
    begin, step = 0, 0
    for fence in re.finditer(r"^```sh\n(.*?)^```$", section, re.DOTALL | re.MULTILINE):
        prose = section[begin : fence.start()]
        if numbered := re.findall(r"^\*\*(\d+)\. ", prose, re.MULTILINE):
            step = int(numbered[-1])
        found.append(Block(step, prose, fence.group(1)))
        begin = fence.end()
    return found


@dataclass(slots=True)
class Window:
    """A terminal: where it is and what it has exported."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def paste(self, commands: str) -> str:
        """Run a block; what it printed on both streams. Fails with that when a command does."""
        # The last lines tell the folder and the variables to the next block, as a terminal would keep them.
        after = "\nprintf '\\0%s\\0' \"$PWD\"; env -0"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands + after], cwd=self.folder, env=self.environment, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=2 * BOUND_SECONDS,
        )
        if done.returncode:
            pytest.fail(f"the README's\n\n{commands}\nends with {done.returncode}:\n\n{done.stdout}")
        said, folder, *variables = done.stdout.split("\0")
        self.folder = Path(folder)
        self.environment = dict(each.split("=", 1) for each in variables if each)
        return said


def test_the_walk_does_what_the_readme_says(tmp_path: Path) -> None:
    command = tmp_path / "bin" / "rapport"
    command.parent.mkdir()
    run = f"PYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)} -m server.cli.main"
    command.write_text(f'#!/bin/sh\n{run} "$@"\n')
    command.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAPPORT_")}
    environment["PATH"] = f"{command.parent}:{environment['PATH']}"
    environment["COLUMNS"] = "200"
    (tmp_path / "new").mkdir()
    first = Window(tmp_path / "new", environment)
    second: Window | None = None
    server: Server | None = None
    said: dict[int, list[str]] = {}
    try:
        for block in blocks():
            if server is not None and "Ctrl-C" in block.prose:
                assert server.end(signal.SIGINT) == 0
                server.close()
                server = second = None
            if block.commands == SERVE:
                assert server is None
                set_here = {name: value for name, value in first.environment.items() if name.startswith("RAPPORT_")}
                server = Server(first.folder, **set_here)
                control = server.until("listening")["listen_control"]
                server.until("ready")
                second = Window(first.folder, {**environment, "RAPPORT_SERVER": control})
                continue
            said.setdefault(block.step, []).append((second or first).paste(block.commands))
    finally:
        if server is not None:
            server.process.kill()
            server.process.wait(BOUND_SECONDS)
            server.close()

    told = {step: "\n".join(parts) for step, parts in said.items()}
    print("\n".join(told.values()))
    assert sorted(told) == [1, 3, 4, 5, 6, 7, 8]
    assert "4 rows, 3 would be applied (3 new customers" in told[1]
    assert "4 rows, 3 applied (3 new customers" in told[1]
    assert "5,age,forty,not a number: " in told[1]
    assert "4 rows, 4 applied (1 new customer, 0 changed, 3 known before), 0 skipped, 0 rejected" in told[1]

    assert "crm=1001, email=ann@example.org" in told[3]
    assert re.search(r"marketing +every +granted +2026-05-01", told[3])
    assert re.search('city +"Lisbon" +precedence', told[3])
    assert re.search(r'"Lisbon" +crm .*\n +"Sintra" +web_form ', told[3])

    assert told[4].count("1 merged into it") == 2
    assert re.search(r"crm=1001, email=ann@example.org, cookie=c-77[^$]*visit +page=/sale", told[4])
    assert "is apart from 1 again" in told[4]

    before, after = told[5].split("\nDecision ")
    assert "summer_sale" in before
    assert "newsletter" in before
    assert "summer_sale" not in after
    assert "newsletter" in after
    assert "CASE_OPEN 1" in after
    assert "T-4711" in after

    assert "nobody" in told[6]
    assert "DSR-2026-17" in told[6]
    assert "1002" not in told[6].partition("nobody")[2]
    assert "sound; 3 customers" in told[7]
    restored, shown = said[8]
    assert "sound; 3 customers" in restored
    assert "Point store.path at it" in restored
    assert re.search(r"crm=1001, email=ann@example.org, cookie=c-77", shown)
    assert re.search(r"visit +page=/sale", shown)
