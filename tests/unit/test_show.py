"""What the command line prints of others' texts is shown by the terminal, and never obeyed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from core.reasons import Reason
from protos.rapport.v1 import decision_pb2, profile_pb2
from server.cli import show

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
