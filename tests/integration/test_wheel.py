"""What is shipped works without the checkout: sdist, wheel built from that sdist, clean environment, another folder.

The environment is a new one with only pip, so a dependency that pyproject.toml forgot, a compiled module or a package
missing from the wheel, and a header missing from the sdist all fail here. Building takes as long as compiling the core
does; the packages come from pip's cache, which installing the checkout has filled.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sanitizing import not_sanitized

ROOT = Path(__file__).resolve().parents[2]

# Minutes, for the core is compiled once more; `-m "not slow"` leaves it out while editing. Machines run it.
pytestmark = [pytest.mark.slow, not_sanitized("a wheel is compiled without them, from what git knows")]


def run(*command: str | Path, cwd: Path, timeout: float = 900, **environment: str) -> str:
    """Runs a command without the checkout on any path; its output is the failure's text."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "RAPPORT"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source archive, made from a copy of what git tracks, so that nothing lying about gets in."""
    copy = tmp_path_factory.mktemp("copy")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
    out = tmp_path_factory.mktemp("sdist")
    # Without isolation: the build requirements are in this environment already, at the versions everything else uses.
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", out, copy, cwd=out)
    return next(out.glob("rapport-*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the unpacked sdist on all processors."""
    out = tmp_path_factory.mktemp("wheel")
    settings = out / "parallel.cfg"
    settings.write_text(f"[build_ext]\nparallel = {os.cpu_count() or 1}\n")
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", out)
    run(sys.executable, "-m", "pip", "wheel", *options, sdist, cwd=out, DIST_EXTRA_CONFIG=str(settings))
    return next(out.glob("rapport-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a clean environment that has the wheel and its declared dependencies only."""
    place = tmp_path_factory.mktemp("clean") / "venv"
    run(sys.executable, "-m", "venv", place, cwd=place.parent)
    run(place / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel, cwd=place.parent)
    return place / "bin"


def test_sdist_holds_sources_and_nothing_compiled(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    needed = {name for name in listed if name.startswith(("core/", "server/", "protos/")) and not name.endswith(".md")}
    assert needed <= names
    assert {"LICENSE", "README.md", "setup.py", "pyproject.toml"} <= names
    assert not [name for name in names if name.endswith((".so", ".o")) or re.search(r"core/\w+/\w+\.c$", name)]


def test_wheel_holds_every_module_and_no_development_files(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for room in ("core", "server", "protos"):
        for path in (ROOT / room).rglob("*.py*"):
            relative = path.relative_to(ROOT)
            if path.suffix == ".pyx":
                stem = str(relative.with_suffix(""))
                assert [name for name in names if name.startswith(f"{stem}.") and name.endswith(".so")], stem
            elif path.suffix in (".py", ".pyi"):
                assert str(relative) in names
    assert not [name for name in names if name.startswith(("tests/", "loadtest/", "build/", "programs/", "models/"))]
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_every_installed_module_imports(installed: Path, tmp_path: Path) -> None:
    check = tmp_path / "check.py"
    check.write_text(
        "import importlib, pkgutil, core, server, protos\n"
        "for package in (core, server, protos):\n"
        "    assert 'site-packages' in package.__path__[0], package.__path__\n"
        "    for found in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        # __main__ starts the server; protos.generate needs the development tools only when called.\n"
        "        if not found.name.endswith('.__main__'):\n"
        "            importlib.import_module(found.name)\n"
        "            print(found.name)\n"
    )
    imported = run(installed / "python", check, cwd=tmp_path).split()
    assert {"core.limits", "server.config", "protos.rapport.v1.decision_pb2"} <= set(imported)
    run(installed / "python", "-m", "pip", "check", cwd=tmp_path)


@pytest.fixture
def serving(installed: Path, tmp_path: Path) -> Iterator[str]:
    """The address of a server started from the wheel with what `rapport init` writes."""
    run(installed / "rapport", "init", tmp_path / "site", cwd=tmp_path)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "RAPPORT"))}
    with subprocess.Popen(
        [installed / "rapport", "serve"],
        cwd=tmp_path / "site",
        env={**inherited, "RAPPORT_LISTEN_DECISIONS": "127.0.0.1:0", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        assert server.stdout
        said = []
        address = ""
        try:
            for line in server.stdout:
                said.append(line)
                if found := re.search(r"listen_decisions\W+(127\.0\.0\.1:[1-9]\d*)", line):
                    address = found[1]
                # It answers from when it listens, and has a program from here on.
                if "ready" in line.split():
                    yield address
                    break
            else:
                pytest.fail("the server ended before it was ready:\n" + "".join(said))
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=60)


def test_the_installed_command_explains_itself(installed: Path, tmp_path: Path) -> None:
    assert "decide" in run(installed / "rapport", "--help", cwd=tmp_path)


def test_the_installed_server_decides(installed: Path, serving: str, tmp_path: Path) -> None:
    decide = ("decide", "-c", "web", "-p", "home_hero", "-i", "cookie=c1", "--json")
    answer = run(installed / "rapport", *decide, cwd=tmp_path, RAPPORT_SERVER=serving)
    assert "home_hero" in answer
    assert "starter@1" in answer
