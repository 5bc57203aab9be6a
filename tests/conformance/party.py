"""What clients of other making need in tests: a program to decide by, certificates, and the clients themselves, built and run.

The authority and its certificates are made on the fly by the ``openssl`` command, which is independent of how the server
uses OpenSSL. Nothing made here outlives the test run's folder.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc_tools  # type: ignore[import-untyped]
import pytest

from tests.running import ROOT, write_starter

HERE = ROOT / "tests" / "conformance"
RUN_SECONDS = 120
BUILD_SECONDS = 400
# Goes with the version of grpc in go/go.mod; a module of its own.
GO_GRPC_PLUGIN = "v1.6.2"
# How Maven's protoc calls processors.
CLASSIFIERS = {"x86_64": "linux-x86_64", "aarch64": "linux-aarch_64"}
WALL = 400  # offers that compete for the 100 slots of web.wall
WALL_CONTENT = 3000  # bytes of each

_WALL = """
- offer: wall_{number:03}
  group: service
  value: {value}.00 EUR
  propensity: 0.5
  treatments:
    web.wall: {{title: "{title}"}}
"""


def write_program(folder: Path) -> Path:
    """The starter with a placement so large that an answer passes every window of HTTP/2."""
    write_starter(folder)
    with (folder / "program" / "channels.yaml").open("a") as channels:
        channels.write("    wall: {slots: 100, fallback: {title: Nothing}}\n")
    offers = [_WALL.format(number=number, value=1000 - number, title="w" * WALL_CONTENT) for number in range(WALL)]
    with (folder / "program" / "offers.yaml").open("a") as file:
        file.write("".join(offers))
    return folder


# --- certificates -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority of the test's own."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self.certificate = folder / f"{name}.crt"
        self._key = folder / f"{name}.key"
        _openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign",
            "-keyout", str(self._key), "-out", str(self.certificate),
        )  # fmt: skip

    def sign(self, name: str, *, days: int = 2) -> Pair:
        """A certificate for this machine and its key; negative ``days`` make one that has expired."""
        pair = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        asked, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        extensions.write_text(
            "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=CA:FALSE\n"
        )
        _openssl(
            "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}",
            "-keyout", str(pair.key), "-out", str(asked),
        )  # fmt: skip
        _openssl(
            "x509", "-req", "-in", str(asked), "-CA", str(self.certificate), "-CAkey", str(self._key), "-CAcreateserial",
            "-days", str(days), "-extfile", str(extensions), "-out", str(pair.certificate),
        )  # fmt: skip
        return pair


def _openssl(*arguments: str) -> None:
    command = shutil.which("openssl")
    if command is None:
        pytest.skip("TLS: the openssl command is not installed, which makes the test's certificates")
    done = subprocess.run([command, *arguments], capture_output=True, text=True, timeout=RUN_SECONDS, check=False)
    assert done.returncode == 0, done.stderr


# --- clients ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Client:
    """A client program, ready to be run."""

    name: str
    command: tuple[str, ...]
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def ask(self, mode: str, *arguments: str) -> dict[str, Any]:
        """Run it to its end: the JSON object that it printed."""
        running = self.start(mode, *arguments)
        return running.end()

    def start(self, mode: str, *arguments: str) -> Running:
        """Run it, to be talked to by lines."""
        return Running(self, mode, arguments)


class Running:
    """A client that runs, at most RUN_SECONDS long."""

    def __init__(self, client: Client, mode: str, arguments: tuple[str, ...]) -> None:
        self._name = f"{client.name} {mode}"
        self._process = subprocess.Popen(
            [*client.command, mode, *arguments], cwd=client.folder, text=True, env={**os.environ, **client.environment},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._bound = threading.Timer(RUN_SECONDS, self._process.kill)
        self._bound.start()

    def until(self, line: str) -> None:
        """Wait for the client to print ``line``."""
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        if said != f"{line}\n":
            pytest.fail(f"{self._name} said {said!r} instead of '{line}': {self._process.communicate()[1]}")

    def end(self) -> dict[str, Any]:
        """Give it the line that it waits for, if it does, and return the JSON object that it prints last."""
        out, err = self._process.communicate("end\n")
        self._bound.cancel()
        assert self._process.returncode == 0, f"{self._name} ended with {self._process.returncode}:\n{err}\n{out}"
        said: dict[str, Any] = json.loads(out.splitlines()[-1])
        return said


def client(name: str, folder: Path) -> Client:
    """The client of that name, built in ``folder``; skips with the reason when what it needs is not there."""
    if name in ("python-sync", "python-aio"):
        program = HERE / "python" / f"client_{name.removeprefix('python-')}.py"
        return Client(name, (sys.executable, str(program)), folder, {"PYTHONPATH": f"{ROOT}{os.pathsep}{HERE / 'python'}"})
    return {"node": _node, "go": _go, "java": _java}[name](folder)


def _need(client_name: str, *tools: str) -> None:
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{client_name}: left out, {tool} is not installed")


def _fetch(client_name: str, folder: Path, what: str, *command: str, **environment: str) -> None:
    """Bring something from a registry. One that cannot be reached, or is too slow, leaves the client out."""
    try:
        done = _run(folder, *command, **environment)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{client_name}: left out, {what} took longer than {BUILD_SECONDS} s")
    if done.returncode != 0:
        told = (done.stderr.strip() or done.stdout.strip()).splitlines()
        pytest.skip(f"{client_name}: left out, {what} failed: {' '.join(told[-3:])[:400]}")


def _build(folder: Path, *command: str, **environment: str) -> None:
    """Compile: what cannot be compiled is a failure, not a client left out."""
    done = _run(folder, *command, **environment)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stderr}{done.stdout}"


def _run(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False, env={**os.environ, **environment}
    )


def _protoc(*command: str, **environment: str) -> None:
    """Generate code from the protos that decisions and the test's consents need; ``command`` is a protoc and its options."""
    names = [f"protos/rapport/v1/{name}.proto" for name in ("decision", "profile", "values")]
    _build(ROOT, *command, f"-I{ROOT}", f"-I{Path(grpc_tools.__file__).parent / '_proto'}", *names, **environment)


def _node(folder: Path) -> Client:
    _need("node", "node", "npm")
    for name in ("package.json", "client.mjs"):
        shutil.copy(HERE / "node" / name, folder)
    _fetch("node", folder, "npm install", "npm", "install", "--no-audit", "--no-fund", "--ignore-scripts")
    return Client("node", ("node", "client.mjs", str(ROOT)), folder)


def _go(folder: Path) -> Client:
    """The plug-ins of protoc come from the module proxy like any module, into the folder's own bin."""
    _need("go", "go")
    for name in ("go.mod", "go.sum", "client.go"):
        shutil.copy(HERE / "go" / name, folder)
    tools = {"GOBIN": str(folder / "bin")}
    _fetch("go", folder, "go mod download", "go", "mod", "download", **tools)
    _fetch("go", folder, "go install protoc-gen-go", "go", "install", "google.golang.org/protobuf/cmd/protoc-gen-go", **tools)
    plugin = f"google.golang.org/grpc/cmd/protoc-gen-go-grpc@{GO_GRPC_PLUGIN}"
    _fetch("go", folder, "go install protoc-gen-go-grpc", "go", "install", plugin, **tools)
    package = ["decision", "profile", "values"]
    options = ",".join(f"Mprotos/rapport/v1/{name}.proto=rapport.test/client/rapportv1" for name in package)
    _protoc(
        sys.executable, "-m", "grpc_tools.protoc",
        f"--go_out=module=rapport.test/client,{options}:{folder}", f"--go-grpc_out=module=rapport.test/client,{options}:{folder}",
        PATH=f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
    )  # fmt: skip
    _build(folder, "go", "build", "-o", "client", ".", **tools)
    return Client("go", (str(folder / "client"),), folder)


def _java(folder: Path) -> Client:
    """Maven brings grpc-java and its dependencies; the messages are protoc's, and javac does the rest."""
    _need("java", "java", "javac", "mvn")
    for name in ("pom.xml", "Client.java"):
        shutil.copy(HERE / "java" / name, folder)
    chosen = f"-Dprotoc.classifier={CLASSIFIERS.get(platform.machine(), 'unknown')}"
    _fetch("java", folder, "mvn dependency:copy", "mvn", "-q", "-B", chosen, "dependency:copy", "dependency:copy-dependencies")
    (folder / "protoc").chmod(0o755)
    (folder / "generated").mkdir()
    _protoc(str(folder / "protoc"), f"--java_out={folder / 'generated'}")
    sources = [str(path) for path in (folder / "generated").rglob("*.java")]
    libraries = "target/dependency/*"
    _build(folder, "javac", "-nowarn", "-encoding", "UTF-8", "-cp", libraries, "-d", "classes", "Client.java", *sources)
    classes = f"classes{os.pathsep}{libraries}"
    return Client("java", ("java", "-Xmx512m", "-XX:+UseSerialGC", "-cp", classes, "Client"), folder)
