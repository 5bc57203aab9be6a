"""``python -m loadtest`` as a performance engineer uses it: against Rapport's own server, started and ended by the command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest

from loadtest import results, servers, workload
from loadtest.cli import Exit
from protos.rapport.v1 import decision_pb2, decision_pb2_grpc

ROOT = Path(__file__).resolve().parents[2]

two_cores = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core for the server, one for the generator")


@pytest.fixture(scope="module")
def into(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for prepared data, made once for this file."""
    return tmp_path_factory.mktemp("load")


def loadtest(*arguments: object, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "loadtest", *(str(each) for each in arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def servers_of(into: Path) -> list[int]:
    """Processes that serve a store under the folder."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                environment = (folder / "environ").read_bytes()
            except OSError:
                continue
            if f"RAPPORT_STORE_PATH={into}".encode() in environment:
                found.append(int(folder.name))
    return found


def figures(done: subprocess.CompletedProcess[str], code: Exit = Exit.WELL) -> dict[str, Any]:
    assert done.returncode == code, done.stdout + done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@two_cores
def test_mixed_traffic_is_served_reported_on_and_nothing_stays_behind(into: Path) -> None:
    done = loadtest(
        "run", "--serve", "mixed", "--customers", 2_000, "--rate", 150, "-d", 2, "--warmup", 0.5, "--into", into, "--json"
    )
    document = figures(done)
    (each,) = document["rounds"]
    assert each["answered"] == each["scheduled"] > 200
    assert {call["name"] for call in each["calls"]} == {"decide", "record", "tell"}
    # Reports are of the run's own decisions, so the server knows every token.
    assert set(each["seen"]["outcomes"]) == {"APPLIED"}
    assert each["seen"]["filled"] == each["seen"]["placements"] > 0
    assert each["server_cores"] > 0

    folder = Path(document["folder"])
    assert {path.name for path in folder.iterdir()} == {
        "result.json", "histograms.hlog", "report.html", "percentiles.png", "timeline.png",
    }  # fmt: skip
    assert results.load(folder).rounds[0].taken.answered == each["answered"]
    assert servers_of(into) == []
    assert not list(into.glob("*/served-*"))

    (folder / "report.html").unlink()
    remade = loadtest("report", folder)
    assert remade.returncode == Exit.WELL, remade.stderr
    assert (folder / "report.html").stat().st_size > 10_000


@two_cores
def test_this_checkout_against_itself_and_against_nothing(into: Path) -> None:
    # So few that a busy machine has no reason to refuse one.
    common = ("--customers", 2_000, "--rounds", 3, "-d", 0.5, "--rate", 40, "--warmup", 0.5, "--into", into, "--json")
    document = figures(loadtest("compare", ".", "empty", "--workload", "shop", *common))
    assert [each["label"] for each in document["rounds"]] == ["A", "B", "B", "A", "A", "B"]
    assert {f"ratio of {name}" for name in ("answers", "p50", "p99", "p99.9")} <= set(document["figures"])
    # The empty server is made to answer with as many bytes as the other.
    received = {label: [each["bytes_received"] for each in document["rounds"] if each["label"] == label] for label in "AB"}
    assert sum(received["A"]) == pytest.approx(sum(received["B"]), rel=0.3)
    assert servers_of(into) == []


class _Deciding(decision_pb2_grpc.DecisionServiceServicer):
    """Answers every customer of `shop` with three offers; says when it has answered a few."""

    def __init__(self) -> None:
        self.calls = 0
        self.warm = threading.Event()

    def Decide(  # noqa: N802, the generated name
        self, request: decision_pb2.DecideRequest, context: grpc.ServicerContext
    ) -> decision_pb2.DecideResponse:
        self.calls += 1
        if self.calls > 20:
            self.warm.set()
        offers = [decision_pb2.DecidedOffer(offer=name) for name in "abc"]
        home = decision_pb2.PlacementAnswer(name="home", status=decision_pb2.SLOT_STATUS_OK, offers=offers)
        return decision_pb2.DecideResponse(known=True, placements=[home])


@pytest.fixture
def deciding() -> Iterator[tuple[_Deciding, str]]:
    """A server that runs already, and its address."""
    service = _Deciding()
    pool = futures.ThreadPoolExecutor(2)
    server = grpc.server(pool)
    decision_pb2_grpc.add_DecisionServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield service, f"127.0.0.1:{port}"
    server.stop(0).wait()
    pool.shutdown()


def test_ctrl_c_ends_a_long_run_and_keeps_its_result(deciding: tuple[_Deciding, str], tmp_path: Path) -> None:
    service, address = deciding
    command = [sys.executable, "-m", "loadtest", "soak", address, "-w", "shop", "-d", "600", "--warmup", "0", "--no-report"]
    with subprocess.Popen(
        [*command, "--into", str(tmp_path), "--pid", str(os.getpid())], cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as running:
        assert service.warm.wait(60)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
    assert running.returncode == Exit.NOT_WELL, said
    assert "Interrupted" in said
    (folder,) = tmp_path.iterdir()
    (each,) = results.load(folder).rounds
    assert each.taken.interrupted
    assert each.taken.answered == each.taken.scheduled > 20
    assert each.moments[-1].server_mib > 10


def test_a_server_that_runs_already_is_compared_in_turns_and_left_running(
    deciding: tuple[_Deciding, str], tmp_path: Path
) -> None:
    service, address = deciding
    common = ("--rounds", 3, "-d", 0.3, "--rate", 100, "--warmup", 0, "--into", tmp_path, "--json", "--arrivals", "constant")
    document = figures(loadtest("compare", address, address, *common))
    assert [each["scheduled"] for each in document["rounds"]] == [30] * 6
    calls = service.calls
    again = figures(loadtest("run", address, "-d", 0.2, "--rate", 100, "--into", tmp_path, "--warmup", 0, "--json"))
    assert service.calls - calls == again["rounds"][0]["answered"] > 0


def test_steps_and_capacity_find_their_rates_by_themselves(deciding: tuple[_Deciding, str], tmp_path: Path) -> None:
    _, address = deciding
    common = ("-d", 0.3, "--warmup", 0.1, "--into", tmp_path, "--json")
    document = figures(loadtest("steps", address, "--rates", "10%,20%,50", *common))
    labels = {each["label"]: each["pace"]["rate"] for each in document["rounds"]}
    ceiling = document["figures"]["closed_per_s"]
    assert labels == pytest.approx({"closed loop": 0, "10 %": ceiling / 10, "20 %": ceiling / 5, "50/s": 50})

    document = figures(loadtest("capacity", address, "--p99-ms", 1_000, "--share", 0.5, *common))
    assert document["figures"]["capacity_per_s"] > 0
    document = figures(loadtest("capacity", address, "--closed", *common))
    assert [each["label"] for each in document["rounds"]] == ["closed loop"]


def test_answers_that_decide_nothing_are_not_measured(tmp_path: Path) -> None:
    with servers.empty(300, min(os.sched_getaffinity(0))) as serving:
        address = f"{serving.host}:{serving.port}"
        done = loadtest("run", address, "-d", 0.5, "--rate", 50, "--warmup", 0, "--into", tmp_path)
    assert done.returncode == Exit.WRONG_INPUT
    assert "no DecideResponse" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("run",), Exit.USAGE, "--serve"),
        (("run", "127.0.0.1:1", "--serve", "shop"), Exit.USAGE, "--serve"),
        (("run", "nowhere"), Exit.USAGE, "HOST:PORT"),
        (("run", "--serve", "shopp"), Exit.WRONG_INPUT, "shopp"),
        (("steps", "127.0.0.1:1", "--rates", "10,x"), Exit.USAGE, "'x'"),
        (("report", "/nonexistent"), Exit.WRONG_INPUT, "result.json"),
        (("run", "127.0.0.1:1", "-d", "1"), Exit.NO_SERVER, "refused"),
    ],
)
def test_what_is_wrong_is_said_with_its_exit_code(arguments: tuple[str, ...], code: Exit, word: str) -> None:
    done = loadtest(*arguments)
    assert done.returncode == code, done.stdout + done.stderr
    assert word in done.stderr
    assert "Traceback" not in done.stderr


def test_help_names_every_workload() -> None:
    text = loadtest("run", "--help").stdout
    for name in workload.names():
        assert name in text
