"""TLS as an operator and a person at the command line meet it: what speaks it, what does not, and how that is told."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.errors import ConfigError
from server.transport.tls import Context
from tests.conformance.party import Authority
from tests.running import BOUND_SECONDS, Rapport, Server, rapport_in_process, write_starter


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("papers"), "ours")


@pytest.fixture(scope="module")
def settings(authority: Authority) -> dict[str, str]:
    pair = authority.sign("server")
    return {
        "RAPPORT_TLS_CERTIFICATE": str(pair.certificate),
        "RAPPORT_TLS_KEY": str(pair.key),
        "RAPPORT_TLS_CLIENT_AUTHORITIES": str(authority.certificate),
    }


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[dict[str, str]], tuple[str, str]]]:
    """Starts a server with settings; its two addresses."""
    made: list[Server] = []

    def begin(settings: dict[str, str]) -> tuple[str, str]:
        made.append(Server(write_starter(tmp_path_factory.mktemp("starter")), **settings))
        listening = made[-1].until("listening")
        made[-1].until("ready")
        return listening["listen_decisions"], listening["listen_control"]

    yield begin
    for server in made:
        server.end()
        server.close()


@pytest.fixture(scope="module")
def addresses(start: Callable[[dict[str, str]], tuple[str, str]], settings: dict[str, str]) -> tuple[str, str]:
    return start(settings)


@pytest.fixture
def rapport(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Rapport:
    return rapport_in_process(capsys, monkeypatch)


DECIDE = ("decide", "-c", "web", "-p", "home_hero", "-i", "crm=tls")


@pytest.mark.parametrize("secure", [False, True])
def test_commands_beside_the_server_find_it_by_its_settings_alone(
    secure: bool, rapport: Rapport, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They would have spoken plaintext to the address that speaks TLS, and said that no server answers."""
    settings = request.getfixturevalue("settings") if secure else {}
    decisions, control = request.getfixturevalue("addresses") if secure else request.getfixturevalue("start")({})
    monkeypatch.chdir(tmp_path)
    settings = {"RAPPORT_LISTEN_DECISIONS": decisions, "RAPPORT_LISTEN_CONTROL": control, **settings}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert rapport("tell", "-i", "crm=tls", "-a", "age=44")[0] == 0
    code, out, err = rapport(*DECIDE)
    assert code == 0, err
    token = next(line.split()[1] for line in out.splitlines() if line.lstrip().startswith("token"))
    assert rapport("record", token, "--outcome", "clicked")[1].startswith("APPLIED")
    assert "newsletter" in rapport("profile", "show", "-i", "crm=tls")[1]


def test_commands_from_elsewhere_speak_tls_with_the_authority_that_they_are_given(
    rapport: Rapport, addresses: tuple[str, str], authority: Authority, tmp_path: Path
) -> None:
    ours = authority.sign("person")
    trusting = ("--ca", str(authority.certificate))
    shown = ("--certificate", str(ours.certificate), "--key", str(ours.key))
    there = ("--server", addresses[0])
    code, out, err = rapport(*trusting, *shown, *DECIDE, *there)
    assert (code, "newsletter" in out) == (0, True), err
    code, _, err = rapport(*DECIDE, *there)
    assert (code, "--ca" in err) == (69, True), err
    assert rapport(*trusting, *DECIDE, *there)[0] == 69  # this server asks for a certificate
    assert rapport("--ca", str(Authority(tmp_path, "theirs").certificate), *shown, *DECIDE, *there)[0] == 69
    for wrong, word in (
        ((*trusting, *DECIDE), "--server"),
        ((*trusting, *shown[:2], *DECIDE, *there), "--key"),
        ((*shown, *DECIDE, *there), "--ca"),
        # It was told that no server answers.
        ((*trusting, *shown[:3], str(authority.sign("another").key), *DECIDE, *there), "do not make a pair"),
        (("--ca", str(tmp_path / "none.crt"), *DECIDE, *there), "none.crt"),
    ):
        code, _, err = rapport(*wrong)
        assert (code, word in err) == (78, True), err


def test_what_tls_was_asked_for_is_never_served_without_it(settings: dict[str, str], tmp_path: Path) -> None:
    """With listen.control: same, decisions were served in plaintext, whatever tls.certificate said."""
    server = Server(write_starter(tmp_path), RAPPORT_LISTEN_CONTROL="same", **settings)
    assert server.process.wait(BOUND_SECONDS) == 78
    assert "tls.certificate" in server.rest()
    server.close()


def test_an_address_without_tls_that_others_reach_is_told(settings: dict[str, str], tmp_path: Path) -> None:
    server = Server(write_starter(tmp_path), RAPPORT_LISTEN_CONTROL="0.0.0.0:0", **settings)
    assert "127.0.0.1" in server.until("listen.control speaks no TLS")["hint"]
    server.until("ready")
    assert server.end() == 0
    server.close()


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(tmp_path: Path, authority: Authority) -> None:
    """OpenSSL asked at the terminal, and the whole process waited for whoever might sit there."""
    pair = authority.sign("locked")
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "pkey", "-aes256", "-passout", "pass:secret", "-in", str(pair.key), "-out", str(locked)],
        check=True, capture_output=True,
    )  # fmt: skip
    with pytest.raises(ConfigError) as refused:
        Context(str(pair.certificate), str(locked))
    assert refused.value.metadata["key"] == "tls.key"
    assert "without a passphrase" in refused.value.hint


@pytest.mark.parametrize("setting", ["tls.certificate", "tls.key", "tls.client_authorities"])
def test_a_file_that_is_not_there_is_told_as_such(setting: str, tmp_path: Path, authority: Authority) -> None:
    """It was "system lib"."""
    pair = authority.sign("present")
    files = {"tls.certificate": str(pair.certificate), "tls.key": str(pair.key), "tls.client_authorities": ""}
    files[setting] = str(tmp_path / "nowhere.pem")
    with pytest.raises(ConfigError, match="No such file") as refused:
        Context(*files.values())
    assert refused.value.metadata["key"] == setting
