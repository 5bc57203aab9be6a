"""The servers that a command measures: one that runs already, or one that is prepared and started for it.

A side is named by HOST:PORT, by the folder of a checkout, or by a word: ``empty``, a grpcio server that does nothing, and
``spinning``, this checkout with a restless Python thread. What is started runs on one core, the generator on another.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from loadtest import servers, show
from loadtest.options import Options
from loadtest.servers import Serving

EMPTY = "empty"
SPINNING = "spinning"


def parse(target: str) -> Serving:
    """The server at HOST:PORT. Raises BadParameter."""
    host, colon, port = target.rpartition(":")
    if not colon or not port.isdigit() or not 0 < int(port) < 65536:
        raise typer.BadParameter(f"'{target}' is not HOST:PORT.")
    return Serving(host.strip("[]"), int(port))


def is_checkout(side: str) -> bool:
    """Whether the side is started from a folder, and so needs a store."""
    return side == SPINNING or (side != EMPTY and Path(side, "server", "__main__.py").is_file())


@contextmanager
def opened(options: Options, side: str, prepared: dict[str, str] | None, answer_bytes: int) -> Iterator[Serving]:
    """The side's server. ``prepared`` is what a checkout serves, ``answer_bytes`` the size of what the empty one answers."""
    if side == EMPTY:
        with servers.empty(answer_bytes, servers.cores()[0]) as serving:
            yield serving
    elif is_checkout(side):
        assert prepared is not None
        if not options.quiet:
            show.say(f"starting the server of {Path(side).resolve()}")
        tree, module = (servers.ROOT, "loadtest.spinning") if side == SPINNING else (Path(side), "server")
        with servers.rapport(Path(prepared["store"]), Path(prepared["models"]), servers.cores()[0], tree, module) as serving:
            yield serving
    else:
        yield parse(side)


def prepare(options: Options) -> dict[str, str]:
    """The workload's store and models, made in a process of its own: that one needs the core, this one must not have it."""
    wanted = options.wanted
    if not options.quiet:
        show.say(f"preparing {wanted.name} with {wanted.customers:,} customers under {options.into}")
    command = [
        sys.executable, "-m", "loadtest.prepare", wanted.name, "--customers", str(wanted.customers), "--into",
        str(options.into.resolve()),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=servers.ROOT, stdout=subprocess.PIPE, text=True, check=False, timeout=3600)
    if done.returncode:
        raise ValueError(f"{wanted.name} could not be prepared; the reason is above.")
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def generators_core() -> Iterator[None]:
    """This process on the second core it may use; where it has only one, as it is."""
    before = os.sched_getaffinity(0)
    if len(before) > 1:
        os.sched_setaffinity(0, {sorted(before)[1]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
