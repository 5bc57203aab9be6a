"""That a store which a test leaves damaged fails that test: tests/conftest.py, on a run of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.running import ROOT

TESTS = """
import pytest
from core.decision import Identifier
from core.hub.mutations import Upsert
from core.hub.store import Store
from core.schema import Field, Namespace, Schema, ValueType

SCHEMA = Schema(attributes={"note": Field("note", ValueType.STRING)}, namespaces={"crm": Namespace("crm")})

def fill(path):
    with Store.open(path) as store:
        store.declare(SCHEMA)
        store.apply(Upsert(identifiers=(Identifier("crm", "1"),), attributes={"note": "a-text"}, at_us=1))

def damage(path):
    fill(path)
    file = path / "data.mdb"
    data = file.read_bytes()
    assert b"a-text" in data
    file.write_bytes(data.replace(b"a-text", b"b-text"))

def test_sound(tmp_path):
    fill(tmp_path / "s")

def test_damaged(tmp_path):
    (tmp_path / "deep").mkdir()
    damage(tmp_path / "deep" / "s")

@pytest.mark.damages("a text is written over")
def test_damaged_on_purpose(tmp_path):
    damage(tmp_path / "s")

@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return tmp_path_factory.mktemp("shared")

def test_shared(shared):
    damage(shared / "s")

def test_after(shared):
    assert shared.is_dir()
"""


def test_who_leaves_a_damaged_store_is_told(tmp_path: Path) -> None:
    file = tmp_path / "test_leaving.py"
    file.write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:cacheprovider", "-c", "pyproject.toml",
         "--basetemp", str(tmp_path.parent / f"{tmp_path.name}-inner"), str(file)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120, check=False)
    assert "5 passed, 2 errors" in done.stdout, done.stdout + done.stderr
    told = [line for line in done.stdout.splitlines() if line.startswith("ERROR ")]
    # What the module's tests share is looked at after the last of them.
    assert [line.split("::")[1].split()[0] for line in told] == ["test_damaged", "test_after"]
    assert "checksum" in done.stdout
