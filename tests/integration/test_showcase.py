"""What `make run` and `make stop` do, in a folder of its own: a first start, a second one, questions, and the end."""

from __future__ import annotations

import os
import re
import signal
import socket
from pathlib import Path

import pytest

from server.cli import showcase
from server.cli.exits import Exit
from server.cli.showcase import Site


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(showcase, "CUSTOMERS", 200)
    monkeypatch.setenv("RAPPORT_LISTEN_DECISIONS", "127.0.0.1:0")
    monkeypatch.setenv("PYTHONPATH", str(showcase.ROOT))
    return Site(tmp_path / "demo")


def test_start_answers_start_again_answers_and_stop_ends(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    try:
        assert showcase.main(["start"], site) == Exit.OK, capfd.readouterr().err
        first = capfd.readouterr().out
        pid = site.running()
        assert pid
        assert showcase.main(["start"], site) == Exit.OK
        second = capfd.readouterr().out
        assert site.running() == pid
    finally:
        ended = showcase.main(["stop"], site)
    assert ended == Exit.OK
    assert not site.running()
    assert not site.pid_file.exists()
    for said in (first, second):
        assert said.count("$ rapport decide") == len(showcase.QUESTIONS)
        assert said.count("known customer  bank@1") >= 2
        assert "FALLBACK" not in said
        assert site.address() in said
        # The next steps were for an address where nobody listens.
        assert f"export RAPPORT_SERVER={site.address('listen_control')} " in said
    assert showcase.main(["stop"], site) == Exit.OK, "stopping twice is no error"


def test_a_port_in_use_is_told_with_a_way_out(
    site: Site, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        assert showcase.main(["start"], site) == Exit.OK
        other = Site(site.folder.parent / "other")
        monkeypatch.setenv("RAPPORT_LISTEN_DECISIONS", site.address())
        capfd.readouterr()
        assert showcase.main(["start"], other) != Exit.OK
        told = capfd.readouterr().err
        assert "another process listens there" in told
        # It named 127.0.0.1:7401, which was taken with 7400: the other services listen there.
        assert re.search(r"RAPPORT_LISTEN_DECISIONS=127\.0\.0\.1:7[45]\d0 make run", told)
        assert not re.search(r"[^.]\.\.$", told, re.MULTILINE)
        assert not other.running()
    finally:
        showcase.main(["stop"], site)


def test_the_address_that_is_suggested_is_free_with_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setattr(showcase, "OTHERS", [port, port - 1])
        assert showcase._free() == "127.0.0.1:PORT"


def test_a_process_that_is_not_ours_is_left_alone(site: Site) -> None:
    """A process id outlives its process: after a crash the number in the file may belong to anybody, here to this test."""
    site.folder.mkdir()
    site.pid_file.write_text(str(os.getpid()))
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: received.append(number))
    try:
        assert showcase.main(["stop"], site) == Exit.OK
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not received
