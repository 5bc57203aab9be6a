"""`rapport import` into a running server: the same as into a store of one's own, beside decisions, and resumed after a kill."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest

from core.decision import Identifier
from core.errors import BadValue, StoreError, UnknownName
from core.hub import mutations
from core.hub.accepting import accept
from core.hub.catalog import Catalog
from core.hub.imports import ImportColumns
from core.hub.store import Store
from core.importing import mapping as mappings
from core.importing.importer import Importer
from core.importing.rehearsal import Rehearsal
from core.schema import Field, Namespace, Normaliser, Schema, ValueType
from protos.rapport.v1 import profile_pb2
from protos.rapport.v1.profile_pb2_grpc import ProfileServiceStub
from tests.feeds import named, serving
from tests.running import BOUND_SECONDS, ROOT, write_starter

PEOPLE = """
mapping: people
source: crm_export
row: profile
identifiers: {crm: id, email: mail}
attributes: {first_name: name, age: age, country: country, vip: vip}
consents:
  marketing: {column: optin, at: {column: day}}
"""
VISITS = """
mapping: visits
source: web
row: event
identifiers: {crm: id}
event: visit
at: {column: at}
key: [number]
fields: {page: page}
"""


def people(count: int) -> str:
    chance = random.Random(7)
    lines = ["id,mail,name,age,country,vip,optin,day"]
    for number in range(count):
        age = "old" if number % 97 == 5 else chance.randrange(18, 90)
        lines.append(
            f"{number},P{number}@x.example,N{number},{age},{chance.choice(('PT', 'ES', ''))},{chance.choice(('yes', 'no'))},"
            f"{chance.choice(('yes', 'no', ''))},2026-01-0{chance.randrange(1, 9)}"
        )
    return "\n".join(lines) + "\n"


def visits(count: int) -> str:
    return "id,number,at,page\n" + "".join(
        f"{number % 300},n{number},2026-01-{1 + number % 28:02}T10:00:00Z,/p{number % 9}\n" for number in range(count)
    )


def rapport(folder: Path, *given: str) -> subprocess.Popen[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAPPORT_")}
    return subprocess.Popen(
        [sys.executable, "-m", "server.cli.main", *given], cwd=folder, env={**inherited, "PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )


def imported(folder: Path, *given: str, code: int = 0) -> dict[str, Any]:
    process = rapport(folder, "import", *given, "--json")
    out, told = process.communicate(timeout=2 * BOUND_SECONDS)
    assert process.returncode == code, told + out
    report: dict[str, Any] = json.loads(out)
    return report


def target(server: Any) -> str:
    found: str = next(json.loads(line)["listen_control"] for line in server.seen if '"listening"' in line)
    return found


def write(folder: Path, rows: int = 2000) -> None:
    write_starter(folder)
    (folder / "people.yaml").write_text(PEOPLE)
    (folder / "visits.yaml").write_text(VISITS)
    (folder / "people.csv").write_text(people(rows))
    (folder / "visits.csv").write_text(visits(rows))


def test_it_is_as_into_a_store_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()
    (tmp_path / "own").mkdir()
    live, own = tmp_path / "live", tmp_path / "own"
    write(live)
    write(own)
    told = []
    with serving(live) as (server, control, _):
        at = target(server)
        for file in ("people", "visits"):
            report = imported(live, f"{file}.csv", "-m", f"{file}.yaml", "--server", at, code=1 if file == "people" else 0)
            told.append(report)
            again = imported(live, f"{file}.csv", "-m", f"{file}.yaml", "--server", at, code=1 if file == "people" else 0)
            assert (again["created"], again["changed"], again["applied"]) == (0, 0, report["applied"])
        shown = ProfileServiceStub(control).GetProfile(
            profile_pb2.GetProfileRequest(identifiers=[named("p7@x.example", "email")]), timeout=BOUND_SECONDS
        )
        assert shown.attributes["first_name"].string_value == "N7"
        # A name that the server does not know is refused before anything is written, with what to do.
        (live / "other.yaml").write_text(PEOPLE.replace("age: age", "income: age"))
        process = rapport(live, "import", "people.csv", "-m", "other.yaml", "--server", at)
        _, said = process.communicate(timeout=BOUND_SECONDS)
        assert (process.returncode, "income" in said) == (65, True)
        server.process.kill()
        server.process.wait(BOUND_SECONDS)
    for place, file in enumerate(("people", "visits")):
        report = imported(own, f"{file}.csv", "-m", f"{file}.yaml", code=1 if file == "people" else 0)
        for same in ("rows", "applied", "created", "changed", "rejected", "reasons", "examples", "customers"):
            assert report[same] == told[place][same], same
    assert (live / "people.csv.rejects.csv").read_text() == (own / "people.csv.rejects.csv").read_text()
    with Store.open(live / "store", read_only=True) as one, Store.open(own / "store", read_only=True) as two:
        assert one.customer_count() == two.customer_count() > 1900
        for number in range(0, 2000, 7):
            profiles = [store.profile([Identifier("crm", str(number))]) for store in (one, two)]
            assert (profiles[0] is None) == (profiles[1] is None)
            if profiles[0] is not None and profiles[1] is not None:
                assert profiles[0].attributes == profiles[1].attributes
                assert profiles[0].events == profiles[1].events
                assert profiles[0].consents == profiles[1].consents
        assert one.check().faults == ()


def test_without_a_server_named_the_one_that_has_the_store_is_found(tmp_path: Path) -> None:
    write(tmp_path, 100)
    with serving(tmp_path) as (server, _, _):
        at = target(server)
        (tmp_path / "rapport.yaml").write_text(f"listen: {{control: '{at}'}}\nprograms: {{path: program}}\n")
        assert imported(tmp_path, "visits.csv", "-m", "visits.yaml")["applied"] == 100
        # As the environment names a configuration, --config does.
        (tmp_path / "rapport.yaml").rename(tmp_path / "full.yaml")
        assert imported(tmp_path, "visits.csv", "-m", "visits.yaml", "--config", "full.yaml")["unchanged"] == 100
        (tmp_path / "full.yaml").rename(tmp_path / "rapport.yaml")
        # A folder that is named must have a store: a misspelt one got the customers, in a new store.
        process = rapport(tmp_path, "import", "visits.csv", "-m", "visits.yaml", "--store", "other")
        _, told = process.communicate(timeout=BOUND_SECONDS)
        assert (process.returncode, "there is no store in it" in told, "leave --store out" in told) == (69, True, True), told
        assert not (tmp_path / "other").exists()
        Store.open(tmp_path / "other").close()
        # Another folder's store is none of this server's.
        process = rapport(tmp_path, "import", "visits.csv", "-m", "visits.yaml", "--store", "other")
        out, told = process.communicate(timeout=BOUND_SECONDS)
        assert process.returncode == 0, out + told
        # Whoever imports looks for the rows in the server, and did not find them.
        folder = tmp_path.resolve()
        assert f"The server at {at} serves {folder / 'store'}; this goes into {folder / 'other'}.\n" in told
    with Store.open(tmp_path / "other", read_only=True) as other:
        assert other.customer_count() == 100


def test_a_store_that_was_moved_under_its_server_is_not_made_anew(tmp_path: Path) -> None:
    """The import made a new store where the old one had been, and left the rows in it; the server never saw them."""
    write(tmp_path, 100)
    with serving(tmp_path) as (server, _, _):
        (tmp_path / "rapport.yaml").write_text(f"listen: {{control: '{target(server)}'}}\nprograms: {{path: program}}\n")
        (tmp_path / "store").rename(tmp_path / "moved")
        for lies_there in (False, True):
            if lies_there:
                Store.open(tmp_path / "store").close()
            process = rapport(tmp_path, "import", "visits.csv", "-m", "visits.yaml")
            out, told = process.communicate(timeout=BOUND_SECONDS)
            assert (process.returncode, "was moved while it is served" in told, out) == (69, True, ""), told
            assert (tmp_path / "store").exists() is lies_there
        shutil.rmtree(tmp_path / "store")
        (tmp_path / "moved").rename(tmp_path / "store")
        assert imported(tmp_path, "visits.csv", "-m", "visits.yaml")["applied"] == 100


def test_a_program_that_declares_less_than_the_servers_brings_its_files(tmp_path: Path) -> None:
    """It was refused for declaring what the server does not know, and told to be loaded over the newer one."""
    write(tmp_path, 100)
    older = tmp_path / "older"
    shutil.copytree(tmp_path / "program", older)
    schema = tmp_path / "program" / "schema.yaml"
    schema.write_text(schema.read_text().replace("  vip: bool\n", "  vip: bool\n  income: int\n") + "retention: {visit: 400d}\n")
    with serving(tmp_path) as (server, _, _):
        (tmp_path / "rapport.yaml").write_text(f"listen: {{control: '{target(server)}'}}\nprograms: {{path: older}}\n")
        for more in (("--dry-run",), ()):
            assert imported(tmp_path, "visits.csv", "-m", "visits.yaml", *more)["applied"] == 100
        # What the server really lacks is named, by a rehearsal as by the import.
        text = (older / "schema.yaml").read_text()
        (older / "schema.yaml").write_text(
            text.replace("  vip: bool\n", "  vip: bool\n  shoe: int\n").replace("{page: string}", "{page: string, ref: string}"))
        for more in (("--dry-run",), ()):
            process = rapport(tmp_path, "import", "visits.csv", "-m", "visits.yaml", *more)
            _, told = process.communicate(timeout=BOUND_SECONDS)
            assert process.returncode == 65, told
            assert "does not know: attribute 'shoe', event type 'visit': field 'ref'." in told


def test_what_became_of_a_file_is_told_before_the_next_is_refused(tmp_path: Path) -> None:
    """The first was in the store, and nothing said so."""
    write(tmp_path, 100)
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress((tmp_path / "visits.csv").read_bytes())[:-20])
    for more in ((), ("--json",)):
        process = rapport(tmp_path, "import", "visits.csv", "cut.csv.gz", "-m", "visits.yaml", *more)
        out, told = process.communicate(timeout=BOUND_SECONDS)
        assert process.returncode == 65, out + told
        (line,) = out.splitlines()
        assert (json.loads(line)["unchanged"] == 100) if more else line.startswith("visits.csv: 100 rows, 100 applied"), line


@pytest.mark.parametrize("killed", ["import", "server", "drained"])
def test_killed_it_is_resumed_by_running_it_again(tmp_path: Path, killed: str) -> None:
    write(tmp_path, 6000)
    arguments = ("visits.csv", "-m", "visits.yaml", "--rows-per-second", "2000")
    with serving(tmp_path) as (server, control, _):
        process = rapport(tmp_path, "import", *arguments, "--server", target(server))
        heard = threading.Event()
        while not heard.is_set():
            # The first rows are in the store: it is in the middle.
            try:
                ProfileServiceStub(control).GetProfile(
                    profile_pb2.GetProfileRequest(identifiers=[named("5")]), timeout=BOUND_SECONDS
                )
                heard.set()
            except grpc.RpcError:
                assert process.poll() is None
        if killed == "drained":
            server.process.send_signal(signal.SIGTERM)
        else:
            (process if killed == "import" else server.process).kill()
        out, told = process.communicate(timeout=BOUND_SECONDS)
        if killed != "import":
            # It was a traceback where the server drained, and never told of the file.
            assert process.returncode == (69 if killed == "server" else 75), out + told
            assert re.search(r"Of visits\.csv [\d,]+ rows are in the store for certain; .* the same command adds the rest", told)
        else:
            report = imported(tmp_path, *arguments[:3], "--server", target(server))
            assert report["applied"] == 6000
            assert report["unchanged"] > 0
    if killed != "import":
        with serving(tmp_path) as (server, _, _):
            assert imported(tmp_path, *arguments[:3], "--server", target(server))["applied"] == 6000
    with Store.open(tmp_path / "store", read_only=True) as store:
        assert sum(len(profile.events) for profile in map(store.profile_of, store.customers()) if profile) == 6000


@pytest.mark.parametrize(
    ("live", "number", "code"), [(True, signal.SIGINT, 130), (False, signal.SIGINT, 130), (False, signal.SIGTERM, 143)]
)
def test_who_ends_an_import_is_told_how_much_is_there(
    tmp_path: Path, live: bool, number: signal.Signals, code: int
) -> None:
    """It ended without a word, and whether half a file or none of it was in the store was anybody's guess."""
    write(tmp_path, 6000)
    arguments = ("visits.csv", "-m", "visits.yaml")
    with ExitStack() as stack:
        where: tuple[str, ...] = ()
        if live:
            server, _, _ = stack.enter_context(serving(tmp_path))
            where = ("--server", target(server))
        before = "nothing of it is in the store"
        while before == "nothing of it is in the store":
            process = rapport(tmp_path, "import", *arguments, "--rows-per-second", "2000", *where)
            assert process.stderr is not None
            # A line every few seconds would be long to wait for; that it has begun, the store tells.
            while not _someone(tmp_path / "store"):
                assert process.poll() is None, process.communicate()
            process.send_signal(number)
            out, told = process.communicate(timeout=BOUND_SECONDS)
            assert (process.returncode, out) == (code, ""), told
            before = told.partition("Interrupted in visits.csv: ")[2].partition(" of its rows")[0].partition(".")[0]
        report = imported(tmp_path, *arguments, *where)
        assert (report["applied"], report["unchanged"]) == (6000, int(before.replace(",", "")))


def _someone(store: Path) -> bool:
    """Whether somebody is in a store that another process writes."""
    try:
        with Store.open(store, read_only=True) as opened:
            return opened.customer_count() > 0
    except StoreError:
        return False


SCHEMA = Schema(
    attributes={
        "age": Field("age", ValueType.INT), "name": Field("name", ValueType.STRING), "vip": Field("vip", ValueType.BOOL),
        "tier": Field("tier", ValueType.ENUM, labels=("a", "b")), "tags": Field("tags", ValueType.STRING_SET),
        "score": Field("score", ValueType.DOUBLE), "since": Field("since", ValueType.TIMESTAMP),
    },
    namespaces={"crm": Namespace("crm"), "email": Namespace("email", Normaliser.LOWER)}, purposes=("ads",),
)
EVERYTHING = """
mapping: all
source: crm
row: profile
identifiers: {crm: id, email: mail}
attributes: {age: age, name: name, vip: vip, tier: tier, tags: {column: tags, separator: "|"}, score: score, since: since}
consents: {ads: {column: ads, at: {column: since}}}
"""


class _Kept:
    """Where an import hands its blocks to: keeps them."""

    def __init__(self) -> None:
        self.catalog = Catalog().declared(SCHEMA)
        self.rehearsal = Rehearsal(self.catalog, None)
        self.blocks: list[ImportColumns] = []

    def submit(self, mutation: Any) -> Any:
        self.blocks.append(mutation)
        return self.rehearsal.submit(mutation)


def test_what_an_import_makes_is_accepted_and_what_would_be_damage_is_not(tmp_path: Path) -> None:
    """Each column of a block is spoilt in each way that could not come from a file."""
    path = tmp_path / "all.csv"
    path.write_text(
        "id,mail,age,name,vip,tier,tags,score,since,ads\n"
        "1,A@x,30,Ana,yes,a,x|y,0.5,2026-01-01,yes\n2,b@x,,Bü,no,b,,,2026-01-02,no\n3,,1,,,,z,1,2026-01-03,\n"
    )
    kept = _Kept()
    now_us = 1_800_000_000_000_000
    Importer(kept, mappings.parse(EVERYTHING.encode(), "m.yaml", SCHEMA), now=lambda: now_us).run(path)
    (block,) = kept.blocks
    catalog = kept.catalog
    assert accept(mutations.decode(mutations.encode(block)), catalog, now_us) == block
    columns = {column.name: place for place, column in enumerate(block.columns)}

    def spoilt(name: str, values: bytes, texts: bytes | None = None) -> ImportColumns:
        column = block.columns[columns[name]]
        changed = type(column)(name, values, column.texts if texts is None else texts)
        return msgspec.structs.replace(
            block, columns=tuple(changed if each.name == name else each for each in block.columns))

    def named_by(ends: bytes, texts: bytes) -> ImportColumns:
        first = type(block.identifiers[1])(block.identifiers[1].namespace, ends, texts)
        return msgspec.structs.replace(block, identifiers=(block.identifiers[0], first))

    def u32(*ends: int) -> bytes:
        return b"".join(end.to_bytes(4, "little") for end in ends)

    name = block.columns[columns["name"]]
    email = block.identifiers[1]
    bad = [
        spoilt("vip", b"\x01\x03\x00"), spoilt("tier", b"\x01\x00\x03\x00\x00\x00"), spoilt("age", bytes(23)),
        spoilt("name", name.values, b"\xff" + name.texts[1:]), spoilt("name", u32(9, 3, 6)), spoilt("name", u32(1, 2, 3)),
        spoilt("name", u32(2000, 2000, 2000), b"x" * 2000), spoilt("tags", u32(3, 3, 3), b"\x02\x00\x05"),
        spoilt("score", b"\x00\x00\x00\x00\x00\x00\xf0\x7f" * 3), spoilt("since", (2**62).to_bytes(8, "little") * 3),
        named_by(email.ends, email.texts.upper()), named_by(u32(0, 0, 300), b"x" * 300),
        named_by(u32(1, 0, 6), email.texts[:6]),
        # Rows that nobody could find again, and sets in which a member is looked up by its place.
        msgspec.structs.replace(block, identifiers=()),
        msgspec.structs.replace(block, identifiers=tuple(
            type(each)(each.namespace, bytes(12), b"") for each in block.identifiers)),
        spoilt("tags", u32(8, 8, 8), b"\x02\x00\x01\x00b\x01\x00a"), spoilt("tags", u32(6, 6, 6), b"\x01\x00\x01\x00bx"),
        msgspec.structs.replace(block, at_us=now_us * 2),
        msgspec.structs.replace(block, rows=4), msgspec.structs.replace(block, rows=5000),
        msgspec.structs.replace(
            block, consents=tuple(msgspec.structs.replace(each, granted=b"\x03\x00\x00") for each in block.consents)),
        msgspec.structs.replace(
            block, consents=tuple(
                msgspec.structs.replace(each, at=(now_us * 2).to_bytes(8, "little") * 3) for each in block.consents)),
    ]
    for each in bad:
        with pytest.raises(BadValue):
            accept(each, catalog, now_us)
    with pytest.raises(UnknownName):
        accept(msgspec.structs.replace(block, columns=(type(name)("other", b"", b""),)), catalog, now_us)
    with pytest.raises(BadValue):
        accept(mutations.Upsert(identifiers=(Identifier("crm", "1"),), at_us=1), catalog, now_us)
