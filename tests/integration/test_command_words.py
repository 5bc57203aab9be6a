"""What the command line says where its output cannot be written, or an argument is nothing that an option could take."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BOUND_SECONDS = 120


def rapport(*arguments: str | bytes, output: int = subprocess.PIPE) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "server.cli.main", *arguments], cwd=ROOT, check=False, timeout=BOUND_SECONDS,
        stdout=output, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_output_that_cannot_be_written_is_told() -> None:
    """It was a traceback with exit 1, which means that a part was done: before an erasure the export was empty."""
    with open("/dev/full", "wb") as full:
        done = rapport("--help", output=full.fileno())
    assert b"could not be written (No space left on device); what was done stands" in done.stderr
    assert (done.returncode, b"Traceback" in done.stderr) == (73, False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((b"profile", b"show", b"-i", b"crm=\xff"), rb"'crm=\udcff' is not UTF-8"),
        (("store", "restore", "saved", "--into", "new", "--until", ""), b"--until is empty"),
        (("case", "close", "--at="), b"--at is empty"),
        (("profile", "unmerge", "-i", "crm=1", "--merge", str(2**64)), b"--merge"),
    ],
)
def test_what_no_option_could_take_is_a_usage_error(arguments: tuple[str | bytes, ...], said: bytes) -> None:
    done = rapport(*arguments)
    assert (done.returncode, said in done.stderr, b"Traceback" in done.stderr) == (2, True, False), done.stderr
