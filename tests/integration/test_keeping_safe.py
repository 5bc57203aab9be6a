"""The store's keeper from the command line, beside a server as people run it: export, erase, check, backup, restore, compact."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc

from protos.rapport.v1 import decision_pb2, decision_pb2_grpc, values_pb2
from tests.running import BOUND_SECONDS, ROOT, Server, write_starter


def rapport(folder: Path, *arguments: str, server: str = "") -> tuple[int, str, str]:
    """Run a command in the server's folder: exit code, standard output, standard error."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAPPORT_")}
    more = {"RAPPORT_SERVER": server} if server else {}
    done = subprocess.run(
        [sys.executable, "-m", "server.cli.main", *arguments],
        cwd=folder, env={**inherited, "PYTHONPATH": str(ROOT), **more}, capture_output=True, text=True,
        timeout=BOUND_SECONDS, check=False,
    )
    return done.returncode, done.stdout, done.stderr


def known(address: str, value: str) -> bool:
    """Whether a decision on a connection of its own knows the customer."""
    request = decision_pb2.DecideRequest(
        identifiers=[values_pb2.Identifier(namespace="crm", value=value)],
        channel="web",
        placements=[decision_pb2.PlacementRequest(name="home_hero", slots=1)],
        deferred=True,
    )
    with grpc.insecure_channel(address) as channel:
        return decision_pb2_grpc.DecisionServiceStub(channel).Decide(request, timeout=BOUND_SECONDS).known


def test_an_export_holds_everything_that_is_kept(tmp_path: Path) -> None:
    """What each source had said was left out, and so was that an undo still keeps what was joined."""
    folder = write_starter(tmp_path)
    server = Server(folder)
    try:
        listening: dict[str, Any] = server.until("listening")
        server.until("ready")
        control = listening["listen_control"]
        ann, visitor = ("-i", "crm=Ann-1"), ("-i", "cookie=Visitor-2")

        def told(*arguments: str) -> str:
            there = listening["listen_decisions"] if arguments[0] in ("tell", "record", "decide") else control
            code, out, err = rapport(folder, *arguments, server=there)
            assert code == 0, err
            return out

        def visit(page: str) -> str:
            return json.dumps({"type": "visit", "key": page, "fields": {"page": {"string_value": page}}})

        told("tell", *ann, "--event", visit("/Page-3"))
        told("tell", *visitor, "--event", visit("/Page-4"))
        told("profile", "set", *ann, "first_name=Ann-5", "vip=true")
        for source, city in (("crm", "City-6"), ("crm", "City-7"), ("web_form", "City-8")):
            told("profile", "set", *ann, "--source", source, f"city={city}")
        told("profile", "consent", *ann, "marketing", "--grant", "--channel", "web", "--source", "crm")
        told("case", "open", *ann, "--kind", "complaint", "--key", "Case-9", "--owner", "Owner-10")
        told("case", "close", *ann, "--kind", "complaint", "--key", "Case-9")
        told("profile", "household", "set", *ann, "--role", "owner", "account=Account-11")
        told("profile", "set", "-i", "account=Account-11", "plan=family")
        decided = json.loads(told("decide", *ann, "-c", "web", "-p", "home_hero", "--json"))
        offer = decided["placements"][0]["offers"][0]
        told("record", offer["token"], "--outcome", "clicked")
        told("profile", "join", *ann, *visitor)
        document = json.loads(told("profile", "export", *ann))
        text = json.dumps(document)
        planted = ("Ann-1", "Visitor-2", "/Page-3", "/Page-4", "Ann-5", "City-6", "City-7", "City-8", "Case-9", "Owner-10")
        assert [each for each in (*planted, "Account-11", "family", "clicked", offer["offer"]) if each not in text] == []
        assert document["attributes"] == {"city": "City-7", "first_name": "Ann-5", "vip": True}
        said = document["sources"]["city"]
        assert [(each["source"], each["value"], each.get("before", {}).get("value")) for each in said] == [
            ("crm", "City-7", "City-6"), ("web_form", "City-8", None)]
        (consent,) = document["consents"]
        assert [consent[key] for key in ("purpose", "channel", "granted", "source")] == ["marketing", "web", True, "crm"]
        (case,) = document["cases"]
        assert case["closed"] is not None
        assert document["household"]["role"] == "owner"
        assert [each["fields"]["page"] for each in document["events"]] == ["/Page-3", "/Page-4"]
        assert [each["outcome"] for each in document["contacts"]] == ["clicked"]
        (join,) = document["joins"]
        assert len(join["absorbed"]) == 1
        assert join["kept_until"] > join["at"]
        assert server.end() == 0
    finally:
        server.process.kill()
        server.process.wait(BOUND_SECONDS)
        server.close()


def test_a_customer_is_exported_saved_erased_and_gone_from_every_file(tmp_path: Path) -> None:
    """Scenario 20, with the commands that the README gives."""
    folder = write_starter(tmp_path)
    server = Server(folder)
    try:
        listening: dict[str, Any] = server.until("listening")
        server.until("ready")
        decisions, control = listening["listen_decisions"], listening["listen_control"]
        for name in ("person-to-forget", "person-who-stays"):
            said = rapport(folder, "profile", "set", "-i", f"crm={name}", "age=44", f"first_name=Text-of-{name}", server=control)
            assert said[0] == 0, said
            code, _, err = rapport(folder, "case", "open", "-i", f"crm={name}", "--kind", "complaint", "--key", f"Case-of-{name}",
                                   "--owner", f"Owner-of-{name}", server=control)
            assert code == 0, err
        code, out, err = rapport(folder, "profile", "export", "-i", "crm=person-to-forget", server=control)
        assert code == 0, err
        exported = json.loads(out)
        assert exported["identifiers"] == [{"namespace": "crm", "value": "person-to-forget"}]
        assert exported["attributes"] == {"age": 44, "first_name": "Text-of-person-to-forget"}
        assert [(case["kind"], case["key"], case["owner"], case["scope"]) for case in exported["cases"]] == [
            ("complaint", "Case-of-person-to-forget", "Owner-of-person-to-forget", "customer")]
        assert exported["cases"][0]["opened"].endswith("Z")
        assert exported["cases"][0]["closed"] is None

        code, out, err = rapport(folder, "store", "backup", "backups", "--json")
        assert code == 0, err
        saved = json.loads(out)
        code, out, err = rapport(folder, "store", "check", "--json")
        assert (code, json.loads(out)["sound"], json.loads(out)["customers"]) == (0, True, 2), err
        code, out, err = rapport(folder, "store", "status", "--json")
        assert (code, json.loads(out)["customers"], json.loads(out)["alarms"]) == (0, 2, []), err
        code, out, err = rapport(folder, "store", "status")
        assert code == 0, err
        lines = {line.split()[0]: line for line in out.splitlines()[1:]}
        assert list(lines) == ["file", "disk", "readers", "journal", "backups", "restore"]
        assert f"to any moment since {saved['at']}" in lines["restore"]
        assert "the newest is" in lines["backups"]
        code, _, err = rapport(folder, "store", "compact")
        assert (code, "has it open for writing" in err) == (69, True), err

        assert known(decisions, "person-to-forget")
        erase = ("profile", "erase", "-i", "crm=person-to-forget", "--request", "DSR-7", "--yes")
        code, _, err = rapport(folder, *erase, server=control)
        assert code == 0, err
        assert not known(decisions, "person-to-forget")
        assert known(decisions, "person-who-stays")
        assert rapport(folder, *erase, server=control)[0] == 66
        code, out, _ = rapport(folder, "store", "audit", "--json")
        assert [(each["action"], each["request"]) for each in json.loads(out)["entries"]] == [("erase", "DSR-7")]
        assert server.end() == 0
    finally:
        server.process.kill()
        server.process.wait(BOUND_SECONDS)
        log = server.rest()
        server.close()
    assert "person-to-forget" not in log

    assert rapport(folder, "store", "compact")[0] == 0
    held = [file for file in (folder / "store").rglob("*") if file.is_file()]
    assert {file.suffix for file in held} >= {".mdb", ".journal"}
    for file in held:
        assert b"person-to-forget" not in file.read_bytes(), file
    again = ("store", "restore", saved["backup"], "--into", "as-now", "--journal", "store/journal")
    code, out, err = rapport(folder, *again, "--json")
    assert (code, json.loads(out)["reached"] > saved["seq"]) == (0, True), err
    code, out, err = rapport(folder, "store", "check", "as-now", "--json")
    assert (code, json.loads(out)["customers"]) == (0, 1), err
    for wrong, told in (("yesterday", "neither a change's number nor a time"), ("2026-11-26T10:00", "has no time zone"),
                        ("2026-11-26", "write 2026-11-26T00:00:00Z for UTC"),
                        ("9" * 5000, "neither a change's number nor a time"),
                        ("999999", "before 999999"), ("2020-01-01T00:00:00Z", "Restore an earlier backup")):
        code, out, err = rapport(folder, *again[:4], "other", *again[5:], "--until", wrong)
        assert code in (2, 74), err
        assert told in " ".join(err.split()), err
        assert not (folder / "other").exists()
    erasures = ("store", "restore", saved["backup"], "--into", "alone", "--erasures", "store", "--json")
    code, out, err = rapport(folder, *erasures)
    assert (code, json.loads(out)["erasures_again"]) == (0, 1), err
    code, out, err = rapport(folder, "store", "restore", saved["backup"], "--into", "restored", "--json")
    assert json.loads(out)["erasures_again"] == 0
    assert (code, json.loads(out)["seq"]) == (0, saved["seq"]), err
    code, out, err = rapport(folder, "store", "check", "restored", "--json")
    assert (code, json.loads(out)["customers"]) == (0, 2), err
    # As its sisters take it.
    code, out, err = rapport(folder, "store", "check", "--store", "restored", "--json")
    assert (code, json.loads(out)["store"], json.loads(out)["customers"]) == (0, "restored", 2), err
    code, _, err = rapport(folder, "store", "check", "restored", "--store", "store")
    assert (code, "name it once" in " ".join(err.split())) == (2, True), err
    code, _, err = rapport(folder, "store", "restore", saved["backup"], "--into", "other", "--journal", ".")
    assert (code, "--erasures STORE instead" in " ".join(err.split())) == (74, True), err
    code, _, err = rapport(folder, "store", "restore", saved["backup"], "--into", "restored")
    assert (code, "something in it already" in err) == (74, True), err
