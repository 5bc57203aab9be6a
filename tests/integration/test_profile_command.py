"""rapport profile and case against a server of its own, with the starter's program: what a person types, and is told."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.running import Rapport, rapport_in_process, started


class Running(NamedTuple):
    """A server's two addresses."""

    control: str
    decisions: str


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One without customers."""
    with started(tmp_path_factory.mktemp("starter")) as (_, told):
        yield Running(told["listen_control"], told["listen_decisions"])


@pytest.fixture
def rapport(server: Running, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Rapport:
    return rapport_in_process(capsys, monkeypatch, server.control)


def test_an_attribute_is_cleared(rapport: Rapport) -> None:
    """There was no way to, and what was tried stored the text null, or an empty one, which was shown as nothing."""
    who = ("-i", "crm=clear")
    assert rapport("profile", "set", *who, "city=null", "first_name=", "country=PT", "--source", "crm")[0] == 0
    assert re.search(r'city +"null" +precedence', rapport("profile", "provenance", *who)[1])
    assert re.search(r'first_name +""', rapport("profile", "show", *who)[1])
    assert rapport("profile", "set", *who, "age=3", "--clear", "city", "--clear", "first_name", "--source", "crm")[0] == 0
    assert re.search(r"city +missing +precedence", rapport("profile", "provenance", *who)[1])
    shown = json.loads(rapport("profile", "show", *who, "--json")[1])
    assert sorted(shown["attributes"]) == ["age", "country"]
    assert rapport("profile", "set", *who)[0] == 2
    assert rapport("profile", "set", *who, "age=4", "--clear", "age")[0] == 65


def test_all_that_is_no_value_is_told_at_once(rapport: Rapport) -> None:
    code, _, told = rapport("profile", "set", "-i", "crm=wrong", "age", "age=1", "age=2", f"vip={2**64}")
    assert code == 2
    for each in ("'age' is not NAME=VALUE", "'age' is given twice", "does not fit 64 bits"):
        assert each in " ".join(told.split()), told


def test_a_case_that_stays_closed_is_no_success(rapport: Rapport) -> None:
    """It said so and ended with 0, so a script took it for opened."""
    case = ("-i", "crm=case", "--kind", "complaint", "--key", "T-1")
    assert rapport("case", "open", *case)[0] == 0
    assert rapport("case", "open", *case)[0] == 0
    assert rapport("case", "close", *case) == (0, "", "")
    code, _, told = rapport("case", "close", *case)
    assert (code, "was closed before" in told) == (0, True)
    code, _, told = rapport("case", "open", *case)
    assert (code, "stays closed" in told) == (1, True)


def test_json_says_what_is_false(rapport: Rapport) -> None:
    """A consent that was refused had no word of it, so that it looked like one of a release without that field."""
    who = ("-i", "crm=refused")
    code, out, _ = rapport("profile", "consent", *who, "marketing", "--refuse", "--json")
    assert (code, "Nobody had these identifiers" in json.loads(out)["warning"]) == (0, True)
    told = json.loads(rapport("profile", "consent", *who, "--json")[1])
    assert sorted(told) == ["consents", "customer"]
    (consent,) = told["consents"]
    assert (consent["granted"], consent["channel"]) == (False, "")
    assert json.loads(rapport("profile", "merges", *who, "--json")[1]) == {"merges": []}
    assert json.loads(rapport("decide", "-c", "web", "-p", "home_hero", *who, "--json")[1])["known"] is True


def test_a_consent_is_given_or_withdrawn(rapport: Rapport) -> None:
    """Of both the last was recorded."""
    who = ("profile", "consent", "-i", "crm=both", "marketing")
    for both in (("--grant", "--withdraw"), ("--withdraw", "--grant"), ("--refuse", "--grant")):
        code, _, told = rapport(*who, *both)
        assert (code, "Both cannot be" in " ".join(told.split())) == (2, True), told
    assert "Say --grant or --withdraw" in " ".join(rapport(*who)[2].split())
    assert rapport("profile", "consent", "-i", "crm=both")[0] == 66, "nothing was recorded"
    assert [rapport(*who, each)[0] for each in ("--grant", "--withdraw", "--refuse")] == [0, 0, 0]


def test_a_case_that_is_not_there_is_told_with_what_lists_them(rapport: Rapport) -> None:
    """The advice lacked the customer, and so was a wrong command line."""
    who = ("-i", "crm=no case", "-i", "cookie=no-case")
    assert rapport("profile", "set", *who, "age=3")[0] == 0
    for command in (("close",), ("assign", "--owner", "ann")):
        code, _, told = rapport("case", *command, *who, "--kind", "complaint", "--key", "T-9")
        assert (code, "rapport case list --all -i 'crm=no case' -i cookie=no-case" in told) == (66, True), told
    assert rapport("case", "list", "--all", *who)[0] == 0


def test_where_nothing_was_joined_there_is_nothing_to_undo(rapport: Rapport) -> None:
    """It was "Merge 'newest' is not known here."."""
    who = ("-i", "crm=alone")
    assert rapport("profile", "set", *who, "age=3")[0] == 0
    code, _, told = rapport("profile", "unmerge", *who)
    assert (code, "There is nothing to undo: no join into this customer is kept." in told) == (66, True), told
    assert rapport("profile", "join", *who, "-i", "cookie=his")[0] == 0
    assert "nothing to undo" in rapport("profile", "unmerge", *who)[2], "nobody else had the cookie"
    code, _, told = rapport("profile", "unmerge", *who, "--merge", "7")
    assert (code, "'7'" in told) == (66, True), told


def test_what_is_not_shown_is_said(rapport: Rapport) -> None:
    """The newest 20 events looked like all of them."""
    who = ("-i", "crm=many")
    for number in range(22):
        assert rapport("tell", *who, "--event", f'{{"type": "visit", "key": "v{number}"}}')[0] == 0
    out = rapport("profile", "show", *who)[1]
    assert (out.count(" visit "), "the newest 20 of 22 events; all: --events 22\n" in out) == (20, True), out
    out = rapport("profile", "show", *who, "--events", "22")[1]
    assert (out.count(" visit "), "newest" in out) == (22, False)
    assert json.loads(rapport("profile", "show", *who, "--json")[1])["events_kept"] == 22


def test_at_the_address_of_decisions_the_other_is_named(rapport: Rapport, server: Running) -> None:
    """It was "This method is not served here. Compare its name with the protos"."""
    code, _, told = rapport("profile", "show", "-i", "crm=1", "--server", server.decisions)
    host, _, port = server.decisions.rpartition(":")
    assert (code, f"What listens at {server.decisions} does not serve this call" in told) == (69, True), told
    assert f"listen.control, by default the port after that of decisions, here --server {host}:{int(port) + 1}." in told


@pytest.mark.parametrize("command", ["erase --yes", "household leave", "show", "provenance", "merges", "unmerge", "export"])
def test_nobody_is_told_as_nobody(rapport: Rapport, command: str) -> None:
    """It was "Customer 'crm' is not known here.", as if that were his name."""
    code, _, told = rapport("profile", *command.split(), "-i", "crm=secret-7")
    assert (code, "No customer has any of these identifiers (crm)." in told, "secret-7" in told) == (66, True, False), told
