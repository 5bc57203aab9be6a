"""Servers that a measurement starts: each a child process on one core, ended with what started it.

Only processes started here are ever ended. A server is served a *copy* of the prepared store, so that what a load writes does
not change what the next one finds, and that two servers may serve the same customers at a time.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 120.0  # s, for a start with a large store and program, and for an end


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that answers. ``pid`` is 0 when it was not started here and none was told; ``control`` is '' then, too."""

    host: str
    port: int
    pid: int = 0
    control: str = ""  # host:port of the other services, where they have an address of their own

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return self.host, self.port


def cores() -> tuple[int, int]:
    """A core for the server and one for the generator; RuntimeError when this process may use only one."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise RuntimeError("Two cores are needed: one for the server, one for the generator.")
    return allowed[0], allowed[1]


@contextmanager
def running(
    command: Sequence[str], core: int, environment: Mapping[str, str] | None = None, folder: Path = ROOT
) -> Iterator[Serving]:
    """A server on one core, at the address it says. RuntimeError with its output when it says none."""
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        os.sched_setaffinity(server.pid, {core})  # before it has made a thread
        late = threading.Timer(PATIENCE, server.kill)
        late.start()
        assert server.stdout
        said: list[str] = []
        try:
            for line in server.stdout:
                said.append(line)
                # One that listens at several addresses says which is for decisions.
                named = re.search(r"listen_decisions\W+(127\.0\.0\.1):([1-9]\d*)", line)
                if found := named or re.search(r"(127\.0\.0\.1):([1-9]\d*)", line):
                    break
            else:
                raise RuntimeError(f"{' '.join(command)} ended without serving:\n{''.join(said)}".rstrip())
            late.cancel()
            # Somebody must read what it says later, or it would stop when the pipe is full.
            threading.Thread(target=server.stdout.read, daemon=True).start()
            control = re.search(r"listen_control\W+(127\.0\.0\.1:[1-9]\d*)", line)
            yield Serving(found[1], int(found[2]), server.pid, control[1] if control else "")
        finally:
            late.cancel()
            server.terminate()
            try:
                server.wait(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                server.kill()


@contextmanager
def paused(servings: Iterable[Serving]) -> Iterator[None]:
    """These servers stand still meanwhile, so that what they do in the background costs no other server's measurement.

    Only those of which the process is known, and none for so long that its clients would notice.
    """
    stopped = [each.pid for each in servings if each.pid]
    try:
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def rapport(
    store: Path, models: Path, core: int, tree: Path = ROOT, module: str = "server", given: Mapping[str, str] | None = None
) -> Iterator[Serving]:
    """Rapport's server out of a checkout (its compiled modules in place), over a copy of the store.

    ``given`` are settings by environment variable.
    """
    settings = {**(given or {}), "RAPPORT_LISTEN_DECISIONS": "127.0.0.1:0", "RAPPORT_MODELS_PATH": str(models.resolve())}
    with tempfile.TemporaryDirectory(prefix="served-", dir=store.parent) as folder:
        copy = Path(folder) / "store"
        shutil.copytree(store, copy)
        settings["RAPPORT_STORE_PATH"] = str(copy.resolve())
        # The checkouts share an environment, so the interpreter is this one; the folder decides which code runs.
        with running([sys.executable, "-m", module], core, settings, tree) as serving:
            yield serving


@contextmanager
def empty(answer_bytes: int, core: int) -> Iterator[Serving]:
    """A grpcio server whose handler does nothing: what the transport alone costs."""
    with running([sys.executable, "-m", "loadtest.empty", str(answer_bytes)], core) as serving:
        yield serving
