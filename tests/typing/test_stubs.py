"""Hand-written stubs say what the compiled modules really offer: mypy's stubtest compares them at run time.

No allowlist. Every .pyi beside a .pyx is compared, so a new compiled module is checked from the day it has a stub (and
test_tidy asks for one as soon as Python imports it). Names that only the compiled side has are let be: what a module
imports looks like its own there, and Cython adds __pyx_capi__. A type that only a stub has begins with an underscore.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def stubbed() -> list[str]:
    """Compiled modules that have a stub."""
    stubs = (path for room in ("core", "server", "loadtest", "tests") for path in (ROOT / room).rglob("*.pyi"))
    return sorted(
        ".".join(stub.relative_to(ROOT).with_suffix("").parts) for stub in stubs if stub.with_suffix(".pyx").exists()
    )


def compare(folder: Path, modules: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "--concise", "--ignore-missing-stub", *modules],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_stubs_agree_with_the_compiled_modules() -> None:
    modules = stubbed()
    assert modules, "no compiled module has a stub"
    compared = compare(ROOT, modules)
    assert compared.returncode == 0, compared.stdout + compared.stderr


def test_a_wrong_stub_is_found(tmp_path: Path) -> None:
    """stubtest compares at run time, so a wrong stub needs a real module: a small one in Python will do."""
    (tmp_path / "sample_module.py").write_text("def score(rows: int) -> int:\n    return rows\n")
    (tmp_path / "sample_module.pyi").write_text("def score(row: int) -> int: ...\n")
    compared = compare(tmp_path, ["sample_module"])
    assert compared.returncode == 1
    assert "sample_module.score" in compared.stdout
