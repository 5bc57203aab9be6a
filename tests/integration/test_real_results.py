"""Decisions over whole real data sets equal what pandas and scikit-learn compute from the same files.

Every figure on our side is read from an answer of `Engine.decide`, for each client and customer; see
loadtest/realdata/, which `make real` runs. Totals are those that PROVENANCE.md was checked against.
"""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from loadtest.realdata import bank_marketing, online_retail, published

# Counted by pandas in the published file.
CANCELLING = 1_589  # customers with a cancellation that gave something back
CHAMPIONS = 1_224  # of everybody, in the best fifth by recency and the best two by invoices


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> bank_marketing.Bank:
    there(bank_marketing.ADDITIONAL, bank_marketing.FULL)
    return bank_marketing.decide(tmp_path_factory.mktemp("bank"))


@pytest.fixture(scope="module")
def retail(tmp_path_factory: pytest.TempPathFactory) -> online_retail.Retail:
    there(online_retail.LINES)
    return online_retail.decide(tmp_path_factory.mktemp("retail"))


def there(*names: str) -> None:
    for name in names:
        try:
            published.data(name)
        except FileNotFoundError as error:
            pytest.skip(str(error))


def test_a_model_ranks_real_clients_through_the_engine_as_scikit_learn_ranks_them(bank: bank_marketing.Bank) -> None:
    assert bank.imported == {"additional": 41_188, "full": 45_211}
    assert len(bank.engine) == len(bank.sklearn) == len(bank.labels) == 11_188
    print(f"AUC {bank.auc[0]:.4f} through the engine, {bank.auc[1]:.4f} by scikit-learn")
    print(f"lift of the best tenth {bank.lift[0]:.4f} through the engine, {bank.lift[1]:.4f} by scikit-learn")
    assert f"{bank.auc[0]:.4f}" == f"{bank.auc[1]:.4f}"
    assert f"{bank.lift[0]:.4f}" == f"{bank.lift[1]:.4f}"
    # The model file computes in 32 bit; six digits of a propensity are what that leaves.
    assert bank.largest_difference < 5e-6
    assert len(np.unique(bank.engine)) > 5_000
    # It is worth having: a ranking by chance has 0.5 and 1.
    assert bank.auc[0] > 0.65
    assert bank.lift[0] > 1.5


def test_area_and_lift_equal_those_of_other_code(bank: bank_marketing.Bank) -> None:
    assert bank.auc[0] == pytest.approx(roc_auc_score(bank.labels, bank.engine), abs=1e-12)
    assert bank.auc[1] == pytest.approx(roc_auc_score(bank.labels, bank.sklearn), abs=1e-12)
    best = pd.Series(bank.engine).nlargest(1_119, keep="first").index
    assert bank.lift[0] == pytest.approx(bank.labels[best].mean() / bank.labels.mean(), abs=1e-12)


def test_the_labels_are_the_last_rows_of_the_file(bank: bank_marketing.Bank) -> None:
    """4,640 subscribed in all; the model was to see none of those who are judged here."""
    answers = pd.read_csv(published.data(bank_marketing.ADDITIONAL), sep=";")["y"] == "yes"
    assert int(answers.sum()) == 4_640
    assert bank.labels.tolist() == answers[30_000:].astype(int).tolist()


def test_the_balance_that_an_agent_reads_out_is_the_files(bank: bank_marketing.Bank) -> None:
    assert bank.balances == 45_211
    assert round(bank.mean_balance, 3) == 1362.272
    assert bank.differences == []


def test_a_ranking_that_is_off_by_a_digit_or_a_balance_is_told(bank: bank_marketing.Bank) -> None:
    worse = dataclasses.replace(bank, auc=(bank.auc[0] - 0.0002, bank.auc[1]), balances=bank.balances - 1)
    area, balance = worse.differences
    assert area.startswith("AUC: 0.")
    assert balance == "balance: 45,210 of 45,211 answers say what the file has"


def test_recency_frequency_and_monetary_value_of_every_customer_equal_pandas(retail: online_retail.Retail) -> None:
    assert retail.customers == len(retail.decided) == len(retail.expected) == 4_372 + 3_710
    assert int(retail.decided.index.str.startswith(online_retail.ANONYMOUS).sum()) == 3_710
    assert set(retail.differing) == {
        "last_purchase", "invoices", "lines", "items", "invoices_90d", "paid", "paid_90d", "bought", "cancelled", "bands",
        "offers",
    }  # fmt: skip
    assert retail.differing == dict.fromkeys(retail.differing, 0)
    assert retail.differences == []
    # The busiest customer's history is read whole, and so is the longest invoice of nobody.
    assert retail.decided.loc["17841", "lines"] == 7_983
    assert retail.decided.loc["anon-573585", "lines"] == 1_114
    assert (retail.decided.filter(like=online_retail.ANONYMOUS, axis="index")["invoices"] == 1).all()
    # Nobody bought before the shop's first or after its last invoice, both in London's winter time.
    assert retail.decided["last_purchase"].min() >= "2010-12-01T08:26:00Z"
    assert retail.decided["last_purchase"].max() == "2011-12-09T12:50:00Z"
    # A window leaves lines out for some, and for some everything.
    assert 0 < (retail.decided["invoices_90d"] == 0).sum() < (retail.decided["invoices_90d"] < retail.decided["invoices"]).sum()


def test_cancellations_are_netted(retail: online_retail.Retail) -> None:
    """9,288 lines take back what other lines sold; what a customer paid is both together."""
    found = retail.decided
    assert (found["bought"] + found["cancelled"] == found["paid"]).all()
    assert (found["cancelled"] <= 0).all()
    # 3,654 of the 3,836 cancelled invoices name a customer.
    known = found[~found.index.str.startswith(online_retail.ANONYMOUS)]
    assert int((known["cancelled"] < 0).sum()) == CANCELLING


def test_fifths_of_recency_frequency_and_value_equal_pandas(retail: online_retail.Retail) -> None:
    """Every customer's three digits are in `differing`; here that they say something, and that the store counts by them."""
    bands = retail.decided["bands"]
    assert bands.str.fullmatch("[1-5]{3}").all()
    for digit in range(3):
        assert bands.str[digit].nunique() >= 3
    # Amounts above nothing are nearly all different, so their fifths are even; 2,337 paid nothing or less.
    assert bands.str[2].value_counts().to_dict() == {"1": 2_337, "2": 896, "3": 1_616, "4": 1_616, "5": 1_617}
    assert retail.champions == int((bands.str.startswith("5") & (bands.str[1] >= "4")).sum())
    assert retail.champions == CHAMPIONS


def test_segments_of_recency_frequency_and_value_let_the_right_offers_through(retail: online_retail.Retail) -> None:
    """As they were read from the decisions; that pandas finds the same customers is in `differing`."""
    counted = retail.decided["offers"].value_counts()
    print(counted.to_dict())
    assert all(counted[offer] > 100 for offer in ("", "second_order", "trade_terms", "win_back"))
    assert sum(counted) == 4_372 + 3_710


def test_the_answers_make_up_the_published_totals(retail: online_retail.Retail) -> None:
    """No line is left out: those of the 135,080 that name no customer are decided for by their invoice."""
    assert (retail.imported.rows, retail.imported.skipped, retail.imported.rejected) == (541_909, 0, 0)
    assert int(retail.decided["lines"].sum()) == 541_909
    assert int(retail.decided.filter(like=online_retail.ANONYMOUS, axis="index")["lines"].sum()) == 135_080
    assert retail.total_quantity == 5_176_450
    assert retail.total_value == Decimal("9747747.934")
    # Half a penny a line is the most that rounding may hide; prices with three decimals are few.
    assert abs(retail.rounding) < Decimal("0.10")


def test_one_customer_that_differs_or_is_too_many_is_told(retail: online_retail.Retail) -> None:
    off = retail.decided.copy()
    off["paid"] += off.index == "17850"
    wrong = dataclasses.replace(retail, decided=off, customers=8_083)
    assert wrong.differences == [
        "paid: 1 customers differ from pandas", "the store knows 8,083 customers, the file 8,082"
    ]  # fmt: skip


def test_without_the_data_it_is_said_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAPPORT_SHARED_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="RAPPORT_SHARED_DATA") as told:
        published.data(online_retail.LINES)
    assert str(tmp_path) in str(told.value)
