"""A client in another language, made from the protos alone, gets decisions, reports outcomes and understands refusals.

Node's packages are installed on demand into a folder of the test run; without node, npm or a registry to install from the
test is skipped and says so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.cli import starter

ROOT = Path(__file__).resolve().parent.parent.parent
CLIENT = ROOT / "tests" / "conformance" / "node"
BOUND_SECONDS = 120


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "client.mjs"):
        shutil.copy(CLIENT / name, folder)
    try:
        done = subprocess.run(
            [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=folder, capture_output=True, text=True,
            timeout=BOUND_SECONDS, check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("npm did not finish installing in time")
    if done.returncode != 0:
        pytest.skip(f"npm could not install the packages: {done.stderr.strip().splitlines()[-1:]}")
    return folder


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    folder = tmp_path_factory.mktemp("starter")
    for name, text in starter.files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAPPORT_")}
    with subprocess.Popen(
        [sys.executable, "-m", "server"], cwd=folder, stderr=subprocess.PIPE, text=True,
        env={**inherited, "PYTHONPATH": str(ROOT), "RAPPORT_LISTEN_DECISIONS": "127.0.0.1:0", "RAPPORT_LOG_FORMAT": "json"},
    ) as server:
        assert server.stderr is not None
        found, log = ("", ""), []
        for line in server.stderr:
            log.append(line)
            if not line.startswith("{"):
                continue
            said = json.loads(line)
            if said["event"] == "listening":
                found = said["listen_decisions"], said["listen_control"]
            if said["event"] == "ready":
                break
        else:
            pytest.fail(f"the server ended:\n{''.join(log)}")
        yield found
        server.terminate()
        server.wait(BOUND_SECONDS)


def test_a_node_client_made_from_the_protos_alone(packages: Path, addresses: tuple[str, str]) -> None:
    done = subprocess.run(
        ["node", "client.mjs", *addresses, str(ROOT)], cwd=packages, capture_output=True, text=True, timeout=BOUND_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen == {
        "status": "SLOT_STATUS_OK",
        "offers": ["summer_sale", "newsletter"],
        "title": "Summer sale, João",
        "price": {"minor": "4900", "currency": "EUR"},
        "priority": pytest.approx(3.0),
        "known": True,
        "seed": "18446744073709551615",
        "repeats": True,
        "recorded": ["OUTCOME_STATUS_APPLIED", "OUTCOME_STATUS_DUPLICATE", "OUTCOME_STATUS_UNKNOWN"],
        "many": ["response", "failure"],
        "failure": "UNKNOWN_NAME",
        "code": "INVALID_ARGUMENT",
        "details": "There is no channel 'wab'.",
        "statusDetails": 1,
    }
