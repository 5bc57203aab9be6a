"""What the command line prints of others' texts is shown by the terminal, and never obeyed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.hub.store import Store
from core.reasons import Reason
from protos.rapport.v1 import decision_pb2, profile_pb2
from server.cli import keeping, show
from server.cli.main import main
from tests.running import ROOT

OWNER = "\x1b]0;title\x07\x1b[31mann\x9b2J\r\x7f"
SHOWN = r"\u001b]0;title\u0007\u001b[31mann\u009b2J\u000d\u007f"


def test_control_characters_of_stored_texts_are_shown_and_not_sent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An owner of a case with an escape sequence recoloured the terminal of whoever listed the cases."""
    monkeypatch.setattr(show.out, "width", 200)
    listed = profile_pb2.ListCasesResponse(cases=[profile_pb2.Case(kind="fault", key="k", owner=OWNER)])
    show.line(f"crm={OWNER}")
    show.cases(listed)
    show.as_json(listed)
    show.out.print("[bold]a[/] \N{LATIN SMALL LETTER E WITH ACUTE}")
    line, rest = capsys.readouterr().out.split("\n", 1)
    table, brace, answer = rest.partition("{")
    document, _, last = (brace + answer).rpartition("a ")
    assert line == f"crm={SHOWN}"
    assert SHOWN in table
    assert json.loads(document)["cases"][0]["owner"] == OWNER
    assert last == "\N{LATIN SMALL LETTER E WITH ACUTE}\n"
    assert not set("\x1b\x07\x9b\r\x7f") & set(line + rest)


@pytest.mark.parametrize("reason", [each for each in Reason if each not in (Reason.BUDGET, Reason.EXPERIMENT)])
def test_each_reason_is_told_in_words(
    reason: Reason, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a cap, a household's say, "because" was empty."""
    monkeypatch.setattr(show.out, "width", 200)
    told = decision_pb2.Rejection(offer="card", reason=reason.value, rule="weekly")  # type: ignore[arg-type]
    if reason in (Reason.ELIGIBILITY, Reason.APPLICABILITY, Reason.SUITABILITY):
        told.detail = decision_pb2.DETAIL_FALSE
    if reason is Reason.ARBITRATION_LOST:
        told.priority = 0.5
    show.out.print(show._rejections(decision_pb2.PlacementAnswer(rejections=[told])))
    *_, row = capsys.readouterr().out.rstrip().splitlines()
    assert "weekly" in row
    assert len(row.partition("weekly")[2].split()) > 1, row


@pytest.mark.parametrize(("columns", "width"), [("60", 60), ("", 1000), ("wide", 1000), ("0", 1000)])
def test_a_pipe_is_as_wide_as_asked_for(columns: str, width: int) -> None:
    """COLUMNS was read anew at each line, so a width that was set for a moment at the start left 80 columns afterwards."""
    asked = "import os; from server.cli import show; os.environ.pop('COLUMNS'); print(show.out.width)"
    done = subprocess.run(
        [sys.executable, "-c", asked], env={**os.environ, "COLUMNS": columns}, check=True, capture_output=True,
        text=True, timeout=60,
    )  # fmt: skip
    assert int(done.stdout) == width


def _run(redirection: str, *arguments: bytes, into: Path) -> tuple[int, str]:
    """``rapport`` in a shell that redirects its output: exit code and standard error."""
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -m server.cli.main "$@" {redirection}', sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=into, check=False, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
        timeout=60,
    )  # fmt: skip
    return done.returncode, done.stderr.decode()


def test_an_output_that_takes_no_more_is_told(tmp_path: Path) -> None:
    """On a full disk it was a traceback and exit 1, which is "done in part"."""
    code, err = _run("> /dev/full", b"config", into=tmp_path)
    assert (code, err.splitlines()[0]) == (
        74, "OUTPUT_UNWRITTEN The output could not be written: No space left on device; what was done stands.")
    code, err = _run("> /dev/full", b"config", b"--json", into=tmp_path)
    assert (code, json.loads(err)["reason"]) == (74, "OUTPUT_UNWRITTEN")
    assert _run("> /dev/full", b"--help", into=tmp_path)[0] == 74
    # Nobody is left to be told.
    assert _run("> /dev/full 2> /dev/full", b"config", into=tmp_path) == (74, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_document_of_which_a_part_was_written_is_told(unbuffered: str, tmp_path: Path) -> None:
    """With PYTHONUNBUFFERED an export onto a disk that filled ended in the middle of a name, with exit code 0."""
    # In units of 512 bytes.
    command = f'ulimit -f 1; PYTHONUNBUFFERED={unbuffered} exec "$0" -m server.cli.main config --json > document'
    done = subprocess.run(
        ["/bin/sh", "-c", command, sys.executable], env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=tmp_path, check=False,
        stderr=subprocess.PIPE, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, json.loads(done.stderr or "{}").get("reason")) == (74, "OUTPUT_UNWRITTEN")
    assert (tmp_path / "document").stat().st_size == 512


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_that_cannot_be_written_whole_is_not_left_half(there: bool, tmp_path: Path) -> None:
    """On a full disk init left some of its files, and could not be run again: the folder is there already."""
    if there:
        (tmp_path / "shop").mkdir()
    done = subprocess.run(
        ["/bin/sh", "-c", 'ulimit -f 1; exec "$0" -m server.cli.main init shop', sys.executable],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, "shop: File too large; nothing of it is left" in done.stderr) == (74, True), done.stderr
    assert (tmp_path / "shop").exists() is there
    assert _run("", b"init", b"shop", into=tmp_path)[0] == 0


@pytest.mark.parametrize("closed", [">&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_lead_nowhere(closed: str, tmp_path: Path) -> None:
    """It was a traceback; and a store's file that is given number 2 would have had the log written into it."""
    code, err = _run(closed, b"config", into=tmp_path)
    assert (code, err) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "where", "left"),
    [
        (["check"], "core.hub.checking.check_apart", "nothing was changed."),
        (["backup", "b"], "core.hub.keeping.backup", "no backup was made, and nothing of it is left in b."),
        (["restore", "b", "--into", "n"], "core.hub.keeping.restore", "nothing of it is left beside n."),
        (["compact"], "core.hub.keeping.compact", "erased bytes may still be in its files: run it again."),
        (["status"], "core.hub.watching.look", "a change that was under way may have been made."),
    ],
)
def test_ctrl_c_says_what_is_left(
    arguments: list[str], where: str, left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It was silent."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    Store.open(tmp_path / "store").close()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(where, interrupted)
    monkeypatch.setattr(sys, "argv", ["rapport", "store", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    told = " ".join(capsys.readouterr().err.split())
    assert (ended.value.code, told.startswith("Interrupted: "), told.endswith(left)) == (130, True, True), told


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_a_line_every_ten_seconds_in_a_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool
) -> None:
    """A check of millions filled the log of whatever ran it with a line for every 10,000 customers."""
    now = 0.0
    tell = keeping.telling(lambda: now)
    monkeypatch.setattr(show.err, "_force_terminal", terminal)
    for second in (1, 9, 12, 15, 22):
        now = float(second)
        tell(f"{second} customers")
    told = [line for line in capsys.readouterr().err.splitlines() if line]
    assert told == [f"{second} customers" for second in ((1, 9, 12, 15, 22) if terminal else (12, 22))]


def test_bytes_that_are_no_text_are_a_usage_error(tmp_path: Path) -> None:
    """They were a traceback of whichever message they were put in."""
    code, err = _run("", b"profile", b"set", b"-i", b"crm=\xff", b"age=3", into=tmp_path)
    assert (code, "argument 4, 'crm=\\xff', is not UTF-8" in err) == (2, True), err
