"""``python -m server.cli.showcase start|ask|stop``: the demonstration behind ``make run`` and ``make stop``.

`start` makes an installation in data/demo (configuration, generated customers, store) unless one is there, starts the
server on it in the background, waits until its health says SERVING, and asks for three decisions by the very
commands that a reader can repeat. Everything that may be repeated is: a second `start` finds the server running and only
asks. `stop` ends the server by the process id in data/demo/server.pid, after a look at whether that process is still ours.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from core.errors import ConfigError, RapportError, StoreError
from server.cli import demo, show
from server.cli.exits import Exit, code_of
from server.config import FILE_ENVIRONMENT

ROOT: Final = Path(__file__).resolve().parents[2]
PROGRAM: Final = "bank"
CUSTOMERS: Final = 5_000
SEED: Final = 1
START_SECONDS: Final = 120.0
STOP_SECONDS: Final = 60.0
_ADDRESS: Final = r"=\S*?((?:[\w.]+|\[[0-9a-f:]+\]):[1-9]\d*)"
# What commands call that are told no address.
USUAL: Final = "127.0.0.1:7400"
# Where to look for an address that is free, when that one is not.
OTHERS: Final = range(7410, 7600, 10)

_CONFIG: Final = """\
# The demonstration that `make run` starts; remove this folder to begin anew. `rapport config` lists all settings.
listen:
  decisions: {usual}
store:
  path: store
programs:
  path: {program}
  at_start: always
models:
  path: {models}
"""

# What is asked, and why it is worth a look.
QUESTIONS: Final = (
    (
        "A customer calls about savings. What should the agent say?",
        ("decide", "-i", "crm=11", "-c", "call_centre", "-p", "agent_prompt:2", "-f", "call_reason=savings"),
    ),
    (
        "The same customer opens the web site: the same knowledge, another channel, and why the other offers lost.",
        ("decide", "-i", "crm=11", "-c", "web", "-p", "home_hero", "--explain", "summary"),
    ),
    (
        "Somebody nobody knows looks at the same page.",
        ("decide", "-i", "cookie=never-seen", "-c", "web", "-p", "home_hero", "-p", "overview_tiles"),
    ),
)


# Servers started by this process: held, because they are meant to outlive the function that started them.
_started: list[subprocess.Popen[bytes]] = []


class NotStarted(ConfigError):
    """The demonstration's server ended, or was not ready in time."""

    reason = "DEMO_NOT_STARTED"


@dataclass(frozen=True, slots=True)
class Site:
    """The demonstration's folder and the files in it."""

    folder: Path

    @property
    def pid_file(self) -> Path:
        """Holds the server's process id while it runs."""
        return self.folder / "server.pid"

    @property
    def log(self) -> Path:
        """What the server said."""
        return self.folder / "server.log"

    @property
    def config(self) -> Path:
        """The server's configuration; also how its process is known again."""
        return self.folder.resolve() / "rapport.yaml"

    def running(self) -> int:
        """The server's process id, 0 when it does not run. A process that was not started with our file is not ours."""
        try:
            pid = int(self.pid_file.read_text())
            started_with = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return 0
        return pid if f"{FILE_ENVIRONMENT}={self.config}".encode() in started_with else 0

    def address(self, key: str = "listen_decisions") -> str:
        """Where the server listens, as its log says; '' before it does."""
        if not self.log.exists():
            return ""
        found = re.findall(key + _ADDRESS, re.sub(r"\x1b\[[0-9;]*m", "", self.log.read_text()))
        return str(found[-1]) if found else ""


def start(site: Site) -> None:
    """Prepares, starts and waits. Raises NotStarted, and what the import or the program raises."""
    if pid := site.running():
        show.err.print(f"The demonstration is running (process {pid}).")
        return
    _prepare(site)
    show.err.print("Starting the server ...")
    with site.log.open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "server"],
            cwd=ROOT,
            env={**os.environ, FILE_ENVIRONMENT: str(site.config)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C in this terminal is not meant for it
        )
    _started.append(server)
    site.pid_file.write_text(str(server.pid))
    try:
        _wait(site, server)
    except BaseException:
        server.terminate()
        server.wait()
        site.pid_file.unlink(missing_ok=True)
        raise


def _prepare(site: Site) -> None:
    done = site.folder / "loaded"
    site.folder.mkdir(parents=True, exist_ok=True)
    if not site.config.exists():
        site.config.write_text(_CONFIG.format(usual=USUAL, program=ROOT / "programs" / PROGRAM, models=ROOT / "models"))
    if done.exists():
        return
    # The store is the heavy import; asking and stopping do without it.
    from core.hub.store import Store

    show.err.print(f"Generating {CUSTOMERS:,} customers, their events and their history ...")
    # Half a store of an interrupted start is made anew: all of it is generated.
    shutil.rmtree(site.folder / "store", ignore_errors=True)
    demo.generate(site.folder / "generated", SEED, CUSTOMERS)
    with Store.open(site.folder / "store") as store:
        loaded = demo.load(store, site.folder / "generated" / PROGRAM, ROOT / "programs" / PROGRAM)
    rows = sum(report.applied for report in loaded.reports)
    show.err.print(f"{rows:,} rows imported; {loaded.told:,} consents, cases and outcomes told.")
    done.write_text("")


def _wait(site: Site, server: subprocess.Popen[bytes]) -> None:
    stop = time.monotonic() + START_SECONDS
    while time.monotonic() < stop:
        if server.poll() is not None:
            told = _tail(site.log)
            taken = "another process listens" in told
            raise NotStarted(
                "the demonstration", f"the server ended with code {server.returncode}:\n{told}",
                hint=f"For another address: RAPPORT_LISTEN_DECISIONS={_free()} make run" if taken else "",
            )
        address = site.address()
        if address and _healthy(address):
            return
        time.sleep(0.1)
    raise NotStarted("the demonstration", f"the server was not ready in {START_SECONDS:g} s:\n{_tail(site.log)}")


def _healthy(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        try:
            stub: Any = health_pb2_grpc.HealthStub(channel)  # its methods are made at run time
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=2)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _tail(log: Path, lines: int = 15) -> str:
    """A log's last lines, without the full stop that the error brings."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]).removesuffix(".")


def _free() -> str:
    """An address of this machine that is free with the port after it, which the other services take."""
    for port in OTHERS:
        with socket.socket() as one, socket.socket() as two, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            two.bind(("127.0.0.1", port + 1))
            return f"127.0.0.1:{port}"
    return "127.0.0.1:PORT"


def ask(site: Site) -> None:
    """Three decisions, each as the command that anybody can give and its answer."""
    for question, arguments in QUESTIONS:
        show.out.print(f"\n[bold]{question}[/]", soft_wrap=True)
        show.out.print(f"$ rapport {shlex.join(arguments)}", markup=False, style="cyan", soft_wrap=True)
        _rapport(site, *arguments)


def _rapport(site: Site, *arguments: str) -> None:
    sys.stdout.flush()
    subprocess.run(
        [sys.executable, "-c", "from server.cli.main import main; main()", *arguments],
        cwd=ROOT,
        env={**os.environ, "RAPPORT_SERVER": site.address()},
        check=True,
    )


def _explain(site: Site) -> None:
    # At its other address the server answers every command.
    elsewhere = "" if site.address() == USUAL else f"""
  {f"export RAPPORT_SERVER={site.address('listen_control')}":<54}   so that it asks this server"""
    show.out.print(
        f"""
The server listens on {site.address()} and goes on running. Its log is {_shown(site.log)}.
  source .venv/bin/activate                                so that `rapport` is found{elsewhere}
  rapport decide --help                                    ask for more (customers are crm=1 to crm={CUSTOMERS})
  rapport explain -i crm=11 -c web -p home_hero            why not the others
  rapport profile show -i crm=11                           what is known of a customer
  make stop                                                end it; make run starts it again""",
        markup=False,
        soft_wrap=True,
    )


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def stop(site: Site) -> None:
    """Ends the server and waits until it has drained. Raises StoreError if it does not end."""
    pid = site.running()
    if not pid:
        site.pid_file.unlink(missing_ok=True)
        show.err.print("The demonstration is not running.")
        return
    os.kill(pid, signal.SIGTERM)
    give_up = time.monotonic() + STOP_SECONDS
    while site.running():
        if time.monotonic() > give_up:
            raise StoreError(f"Process {pid} has not ended in {STOP_SECONDS:g} s.", hint=f"Look at {site.log}.", pid=pid)
        time.sleep(0.05)
    for server in _started:
        server.poll()  # one that was ours to wait for leaves nothing behind
    site.pid_file.unlink(missing_ok=True)
    show.err.print(f"Stopped (process {pid}).")


def main(arguments: list[str], site: Site) -> int:
    """One of start, ask, stop; the exit code is the CLI's for the error."""
    try:
        match arguments:
            case ["start"]:
                start(site)
                ask(site)
                _explain(site)
            case ["ask"]:
                ask(site)
            case ["stop"]:
                stop(site)
            case _:
                show.err.print("usage: python -m server.cli.showcase start|ask|stop", markup=False)
                return int(Exit.USAGE)
    except RapportError as error:
        show.error(error)
        return int(code_of(error))
    except subprocess.CalledProcessError as error:
        return error.returncode  # the command said why
    return int(Exit.OK)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Site(ROOT / "data" / "demo")))
