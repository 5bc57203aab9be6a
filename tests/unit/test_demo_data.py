"""Goal: the demonstrations' data is generated, the same for the same seed, and fits its programs without a rejected row."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from core.decision import Identifier
from core.hub.store import Store
from core.programs.source import check, read
from server.cli import demo

PROGRAMS = Path(__file__).parent.parent.parent / "programs"
AS_OF_US = 1_790_000_000_000_000


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    for name, seed in (("first", 7), ("again", 7), ("other", 8)):
        demo.generate(tmp_path / name, seed, 40, AS_OF_US)
    first = contents(tmp_path / "first")
    assert first == contents(tmp_path / "again")
    assert first != contents(tmp_path / "other")
    assert {name.split("/")[0] for name in first} == set(demo.DEMOS)


@pytest.mark.parametrize("name", demo.DEMOS)
def test_data_is_labelled_and_names_only_what_its_program_declares(tmp_path: Path, name: str) -> None:
    demo.generate(tmp_path, 1, 150, AS_OF_US)
    program = check(read(PROGRAMS / name))
    assert "made by a random generator" in (tmp_path / name / "README.md").read_text()
    offers = {offer.name for offer in program.offers}
    kinds: set[str] = set()
    for line in (tmp_path / name / "history.jsonl").read_bytes().splitlines():
        row = msgspec.json.decode(line)
        kinds.add(row["kind"])
        assert row["at_us"] <= AS_OF_US
        assert row["kind"] != "outcome" or row["offer"] in offers
    assert kinds == {"consent", "case", "outcome"}


@pytest.mark.parametrize("name", demo.DEMOS)
def test_data_loads_whole_and_loading_again_changes_nothing(tmp_path: Path, name: str) -> None:
    demo.generate(tmp_path / "data", 3, 60, AS_OF_US)
    with Store.open(tmp_path / "store", map_bytes=1 << 28) as store:
        loaded = demo.load(store, tmp_path / "data" / name, PROGRAMS / name)
        assert [report.rejected for report in loaded.reports] == [0] * len(loaded.reports)
        assert loaded.told > 60
        assert store.customer_count() == 60
        profiles = [store.profile_of(customer) for customer in range(1, 61)]
        # A visitor who is nothing but a cookie may have no attribute at all.
        assert sum(profile is not None and bool(profile.attributes) for profile in profiles) > 40
        assert any(profile is not None and profile.contacts for profile in profiles)
        assert any(profile is not None and profile.events for profile in profiles)
        again = demo.load(store, tmp_path / "data" / name, PROGRAMS / name)
        assert [report.created + report.changed for report in again.reports] == [0] * len(again.reports)
        assert store.customer_count() == 60
        assert [store.profile_of(customer) for customer in range(1, 61)] == profiles
        if name == "bank":
            assert store.profile([Identifier("crm", "42")]) is not None
