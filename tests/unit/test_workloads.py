"""The benchmark's generated programs and customers are what their workload files promise.

Figures are quoted "with 30 % of the offers eligible", so that share is measured here on generated rows, by an evaluator
that knows only the five forms of conditions the generator writes.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from loadtest import customers, offers, workload

LAYERS = ("eligibility", "applicability", "suitability")


@pytest.mark.parametrize("name", workload.names())
def test_every_workload_loads(name: str) -> None:
    assert workload.load(name).conditions >= 1


def test_the_workloads_of_the_issue_are_there() -> None:
    assert {"shop", "shop-10k", "shop-100k", "shop-100k-dense", "bank"} <= set(workload.names())


def _rows(wanted: workload.Workload, folder: Path) -> pd.DataFrame:
    folder.mkdir()
    return pd.read_csv(customers.write(wanted, folder), parse_dates=["since", "last_order", "last_visit"])


def _holds(condition: str, rows: pd.DataFrame) -> np.ndarray:
    name = re.match(r"customer\.(\w+)", condition)
    assert name, condition
    column = rows[name[1]]
    rest = condition[name.end() :].strip()
    if not rest:
        return column.eq(True).to_numpy(bool)
    operator, operand = rest.split(maxsplit=1)
    if operator == "in":
        return column.isin(yaml.safe_load(operand)).to_numpy(bool)
    if operator == "==":
        return column.eq(operand.strip("'")).to_numpy(bool)
    stamp = re.fullmatch(r"timestamp\('(.*)Z'\)", operand)
    bound = pd.Timestamp(stamp[1]) if stamp else float(operand)
    held = column < bound if operator == "<" else column >= bound
    return held.to_numpy(bool)  # a missing value compares false


def _conditions(entry: dict[str, list[str]]) -> list[str]:
    return [text for layer in LAYERS for text in entry.get(layer, [])]


@pytest.mark.parametrize(("name", "kept"), [("shop", 500), ("shop-10k", 500), ("shop-100k", 1_000), ("bank", 60)])
def test_the_declared_share_of_offers_is_eligible(name: str, kept: int, tmp_path: Path) -> None:
    wanted = workload.load(name)
    groups = round(wanted.groups * kept / wanted.offers)
    wanted = dataclasses.replace(wanted, customers=2_000, offers=kept, groups=groups)
    rows = _rows(wanted, tmp_path / "rows")
    offers.write(wanted, tmp_path / "program")
    group_entries = yaml.safe_load((tmp_path / "program/groups.yaml").read_text())
    held: dict[str, np.ndarray] = {}
    eligible = 0
    for path in sorted((tmp_path / "program/offers").glob("*.yaml")):
        for entry in yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader):
            texts = _conditions(entry) + _conditions(group_entries[entry["group"]])
            assert len(texts) == wanted.conditions
            passing = np.ones(len(rows), bool)
            for text in texts:
                if text not in held:
                    held[text] = _holds(text, rows)
                passing &= held[text]
            eligible += int(passing.sum())
    share = eligible / (kept * len(rows))
    assert share == pytest.approx(wanted.eligible_share, rel=0.1)
    # Distinct conditions are few enough to stand for a real catalogue's; all are known in advance.
    assert len(held) < 5_000


def test_the_same_seed_writes_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    wanted = dataclasses.replace(workload.load("shop"), customers=500, offers=20, groups=4)
    written = []
    for number, seed in enumerate((7, 7, 8)):
        folder = tmp_path / str(number)
        seeded = dataclasses.replace(wanted, seed=seed)
        folder.mkdir()
        customers.write(seeded, folder)
        offers.write(seeded, folder / "program")
        written.append({path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*.*"))})
    assert written[0] == written[1]
    assert written[0][Path("customers.csv")] != written[2][Path("customers.csv")]
    assert written[0][Path("program/offers/000000.yaml")] != written[2][Path("program/offers/000000.yaml")]


def test_customers_have_every_declared_attribute_and_some_values_are_missing(tmp_path: Path) -> None:
    wanted = dataclasses.replace(workload.load("shop"), customers=2_000)
    rows = _rows(wanted, tmp_path / "rows")
    assert rows.shape == (2_000, 41)
    assert rows["crm"].is_unique
    shares = rows.isna().mean()
    assert shares.max() == pytest.approx(wanted.missing_share, abs=0.02)
    assert (shares == 0).sum() > 20


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"eligible_share": 1.5}, "eligible_share"),
        ({"conditions_on_offers": {"eligiblity": 1}}, "eligiblity"),
        ({"groups": 2_000}, "groups"),
        ({"attributes": {"string": 3}}, "string"),
        ({"thresold": 3}, "thresold"),
    ],
)
def test_a_wrong_workload_is_refused_by_the_name_of_its_key(
    change: dict[str, object], word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = yaml.safe_load((workload.FOLDER / "shop.yaml").read_text())
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump({**document, **change}))
    monkeypatch.setattr(workload, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match=word):
        workload.load("wrong")
