"""Unmodified clients of other making, each written from the protos alone, see the same answers: plaintext, TLS, mutual TLS.

A client is a program: MODE DECISIONS CONTROL WHO [CA [CERTIFICATE KEY]]. Its last line of output is a JSON object. The modes:

- ``answers`` asks everything once and says what it saw: held against expected.json, one file for all clients.
- ``stay`` keeps eight calls in flight on one channel (decisions, and reports that wait for the disk), says "calling" once
  they run, and goes on until it is given a line or calls fail; then it asks once more, waiting for a server. It says which
  status codes it saw.
- ``once`` makes one call and says its status code.

Go and Java need minutes for a first build: `make test-clients` has them too. What is left out is said with its reason.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.party import HERE, Authority, Client, Pair, client, write_program
from tests.running import Server

pytestmark = pytest.mark.clients

QUICK = ("python-sync", "python-aio", "node")
SLOW = ("go", "java")
ALL_ENVIRONMENT = "RAPPORT_CLIENTS"


@pytest.fixture(scope="module", params=[*QUICK, *SLOW])
def caller(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Client:
    if request.param in SLOW and os.environ.get(ALL_ENVIRONMENT) != "all":
        pytest.skip(f"{request.param}: left out, make test-clients builds and runs it")
    return client(request.param, tmp_path_factory.mktemp(request.param))


@dataclass(frozen=True, slots=True)
class Address:
    """A server that answers: where, and what a client needs to speak with it."""

    server: Server
    folder: Path
    decisions: str
    control: str
    files: tuple[str, ...]

    @property
    def arguments(self) -> tuple[str, str, str]:
        return self.decisions, self.control, "somebody"


Start = Callable[..., Address]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts servers; ``pair`` and ``authority`` make them speak TLS and ask for client certificates."""
    made: list[Server] = []

    def begin(
        pair: Pair | None = None, authority: Path | None = None, files: tuple[str, ...] = (), before: Address | None = None
    ) -> Address:
        folder = before.folder if before else write_program(tmp_path_factory.mktemp("site"))
        settings = {"RAPPORT_LISTEN_DECISIONS": before.decisions, "RAPPORT_LISTEN_CONTROL": before.control} if before else {}
        if pair:
            settings |= {"RAPPORT_TLS_CERTIFICATE": str(pair.certificate), "RAPPORT_TLS_KEY": str(pair.key)}
        if authority:
            settings["RAPPORT_TLS_CLIENT_AUTHORITIES"] = str(authority)
        made.append(Server(folder, **settings))
        listening = made[-1].until("listening")
        made[-1].until("ready")
        return Address(made[-1], folder, listening["listen_decisions"], listening["listen_control"], files)

    yield begin
    for server in made:
        if server.process.poll() is None:
            server.end()
        server.close()


@dataclass(frozen=True, slots=True)
class Papers:
    """Certificates of two authorities, of which the server's side trusts the first."""

    ours: Authority
    theirs: Authority
    server: Pair
    client: Pair
    stranger: Pair
    expired: Pair


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    folder = tmp_path_factory.mktemp("papers")
    ours, theirs = Authority(folder, "ours"), Authority(folder, "theirs")
    return Papers(
        ours, theirs, ours.sign("server"), ours.sign("client"), theirs.sign("stranger"), ours.sign("expired", days=-1)
    )


@pytest.fixture(scope="module")
def plain(start: Start) -> Address:
    return start()


@pytest.fixture(scope="module")
def secure(start: Start, papers: Papers) -> Address:
    return start(papers.server, files=(str(papers.ours.certificate),))


@pytest.fixture(scope="module")
def mutual(start: Start, papers: Papers) -> Address:
    files = (str(papers.ours.certificate), str(papers.client.certificate), str(papers.client.key))
    return start(papers.server, papers.ours.certificate, files=files)


@pytest.mark.parametrize("kind", ["plain", "secure", "mutual"])
def test_every_client_sees_the_same_answers(caller: Client, kind: str, request: pytest.FixtureRequest) -> None:
    there: Address = request.getfixturevalue(kind)
    who = f"{caller.name} {kind}"
    seen = caller.ask("answers", there.decisions, there.control, who, *there.files)
    expected = json.loads((HERE / "expected.json").read_text())
    assert seen.keys() == expected.keys()
    assert {key: seen[key] for key in seen if seen[key] != expected[key]} == {}


@pytest.mark.parametrize("kind", ["plain", "secure"])
def test_a_server_that_drains_ends_no_call_with_a_fault_and_the_next_one_serves_the_same_channel(
    caller: Client, kind: str, start: Start, papers: Papers
) -> None:
    pair, files = (papers.server, (str(papers.ours.certificate),)) if kind == "secure" else (None, ())
    first = start(pair, files=files)
    running = caller.start("stay", *first.arguments, *files)
    running.until("calling")
    assert first.server.end() == 0
    start(pair, files=files, before=first)
    seen = running.end()
    assert seen["codes"] in (["OK"], ["OK", "UNAVAILABLE"])
    assert seen["after"] == "OK"


def test_certificates_are_replaced_without_a_dropped_call(caller: Client, start: Start, papers: Papers, tmp_path: Path) -> None:
    """The new certificate is of another authority, so that a client which trusts that one alone proves that it is in use."""
    pair = Pair(tmp_path / "server.crt", tmp_path / "server.key")
    _replace(pair, papers.server)
    there = start(pair)
    running = caller.start("stay", *there.arguments, str(papers.ours.certificate))
    running.until("calling")
    _replace(pair, papers.stranger)
    there.server.until("certificates replaced")
    assert caller.ask("once", *there.arguments, str(papers.theirs.certificate)) == {"code": "OK"}
    assert caller.ask("once", *there.arguments, str(papers.ours.certificate)) == {"code": "UNAVAILABLE"}
    assert running.end() == {"codes": ["OK"], "after": "OK"}


def _replace(at: Pair, by: Pair) -> None:
    for target, source in ((at.certificate, by.certificate), (at.key, by.key)):
        beside = target.with_suffix(".new")
        shutil.copy(source, beside)
        beside.replace(target)


def test_certificates_that_cannot_be_used_are_refused(caller: Client, mutual: Address, start: Start, papers: Papers) -> None:
    trusted = str(papers.ours.certificate)

    def code(there: Address, *files: str) -> Any:
        return caller.ask("once", *there.arguments, *files)["code"]

    def shown(pair: Pair) -> tuple[str, str]:
        return str(pair.certificate), str(pair.key)

    assert code(mutual, trusted, *shown(papers.client)) == "OK"
    assert code(mutual, str(papers.theirs.certificate), *shown(papers.client)) == "UNAVAILABLE"  # the client's refusal
    assert code(mutual, trusted) == "UNAVAILABLE"  # no certificate
    assert code(mutual, trusted, *shown(papers.stranger)) == "UNAVAILABLE"  # an authority that the server does not trust
    assert code(mutual, trusted, *shown(papers.expired)) == "UNAVAILABLE"
    expired = start(papers.expired)
    assert code(expired, trusted) == "UNAVAILABLE"  # the server's own has expired
    assert code(mutual, trusted, *shown(papers.client)) == "OK"
