"""Slices and worst days: by hand, and with scikit-learn on the same rows."""

import math

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from steps.learning.intervals import auc_interval
from steps.learning.slices import MOST_SYMBOLS, slice_scores, worst_days


def predictions_of(
    n_days: int = 300, symbols: tuple[str, ...] = ("AAA", "BBB"), seed: int = 0
) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    n_rows = n_days * len(symbols)
    probability = random.random(n_rows)
    return pd.DataFrame(
        {
            "date": np.tile(pd.bdate_range("2020-06-01", periods=n_days), len(symbols)),
            "symbol": np.repeat(symbols, n_days),
            "direction": (random.random(n_rows) < 0.5 + 0.2 * (probability - 0.5)).astype(np.int8),
            "probability": probability,
            "predicted": (probability > 0.45).astype(np.int8),
        }
    ).astype({"date": "datetime64[s]"})


def test_every_slice_has_the_scores_of_its_rows() -> None:
    predictions = predictions_of()
    volatility = np.random.default_rng(1).permutation(len(predictions)).astype(float)
    found = slice_scores(predictions, volatility, horizon=1, n_resamples=50, random_state=7)
    thirds = np.array(["calm", "normal", "turbulent"])[(volatility // 200).astype(int)]
    parts = {
        "symbol": predictions["symbol"],
        "year": predictions["date"].dt.year.astype(str),
        "volatility": pd.Series(thirds),
    }
    assert list(zip(found["kind"], found["slice"], strict=True)) == [
        ("symbol", "AAA"),
        ("symbol", "BBB"),
        ("year", "2020"),
        ("year", "2021"),
        ("volatility", "calm"),
        ("volatility", "normal"),
        ("volatility", "turbulent"),
    ]
    for row in found.itertuples():
        inside = predictions[parts[row.kind] == row.slice]
        y, proba = inside["direction"].to_numpy(), inside["probability"].to_numpy()
        assert (row.rows, row.dates) == (len(inside), inside["date"].nunique())
        assert row.base_rate == pytest.approx(inside["direction"].mean())
        assert row.accuracy == pytest.approx(accuracy_score(y, inside["predicted"]))
        assert row.auc_roc == pytest.approx(roc_auc_score(y, proba))
        assert row.log_loss == pytest.approx(log_loss(y, proba))
        interval = auc_interval(y, proba, inside["date"], n_resamples=50, random_state=7)
        assert (row.auc_low, row.auc_high) == (interval.low, interval.high)
        assert row.auc_low < row.auc_roc < row.auc_high


def test_the_blocks_are_as_long_as_the_horizon_asks_for() -> None:
    predictions = predictions_of(n_days=60)  # one block of 60 dates, six of 10
    long = slice_scores(predictions, None, horizon=30, n_resamples=20)
    short = slice_scores(predictions, None, horizon=1, n_resamples=20)
    assert long["auc_low"].isna().all()
    assert short["auc_low"].notna().all()
    assert long["auc_roc"].equals(short["auc_roc"])


def test_without_volatility_there_are_no_such_slices() -> None:
    found = slice_scores(predictions_of(n_days=40), None, horizon=1, n_resamples=20)
    assert set(found["kind"]) == {"symbol", "year"}


def test_rows_without_volatility_are_in_no_regime() -> None:
    predictions = predictions_of(n_days=30)
    volatility = np.where(np.arange(60) < 6, np.arange(60), np.nan)
    found = slice_scores(predictions, volatility, horizon=1, n_resamples=20)
    regimes = found[found["kind"] == "volatility"]
    assert regimes["rows"].tolist() == [2, 2, 2]
    unknown = slice_scores(predictions, np.full(60, np.nan), horizon=1, n_resamples=20)
    assert set(unknown["kind"]) == {"symbol", "year"}


def test_a_regime_without_rows_is_left_out() -> None:
    found = slice_scores(predictions_of(n_days=30), np.ones(60), horizon=1, n_resamples=20)
    regimes = found[found["kind"] == "volatility"]
    assert regimes[["slice", "rows"]].to_numpy().tolist() == [["calm", 60]]


def test_of_many_symbols_the_largest_are_shown_in_order_of_name() -> None:
    names = [f"S{number:02}" for number in range(MOST_SYMBOLS + 5)]
    predictions = predictions_of(n_days=4, symbols=tuple(names))
    first = ~predictions["symbol"].duplicated()
    fewer = predictions[~(first & predictions["symbol"].isin(names[:4]))].reset_index(drop=True)
    found = slice_scores(fewer, None, horizon=1, n_resamples=20)
    # Four have a row less; of the 31 of equal size the last by name gives way.
    assert found.loc[found["kind"] == "symbol", "slice"].tolist() == names[4:-1]


def test_a_slice_of_one_class_has_no_auc() -> None:
    predictions = predictions_of(n_days=40).assign(direction=np.int8(1))
    found = slice_scores(predictions, None, horizon=1, n_resamples=20)
    assert (found["base_rate"] == 1).all()
    assert found[["auc_roc", "auc_low", "auc_high"]].isna().all(axis=None)
    assert np.isfinite(found["log_loss"]).all()


def test_wrong_tables_are_refused() -> None:
    predictions = predictions_of(n_days=5)
    with pytest.raises(ValueError, match="one volatility for each of the 10 rows"):
        slice_scores(predictions, [1.0, 2.0], horizon=1)
    with pytest.raises(ValueError, match="at least one row"):
        slice_scores(predictions[:0], None, horizon=1)
    with pytest.raises(ValueError, match="at least one row"):
        worst_days(predictions[:0])


DAYS = pd.to_datetime(["2024-01-02", "2024-01-03", "2024-01-04"]).astype("datetime64[s]")
BY_HAND = pd.DataFrame(
    {
        "date": DAYS[[0, 1, 2, 0, 1]],
        "symbol": ["AAA", "AAA", "AAA", "BBB", "BBB"],
        "direction": np.array([1, 0, 1, 1, 1], dtype=np.int8),
        "probability": [0.5, 0.8, 0.5, 0.5, 0.2],
    }
)


def test_the_worst_days_by_hand() -> None:
    found = worst_days(BY_HAND)
    # Wrong by 0.8 twice: ln 5. One half is worth ln 2, and the earlier of two such days is first.
    assert found["date"].tolist() == [DAYS[1], DAYS[0], DAYS[2]]
    assert found["rows"].tolist() == [2, 2, 1]
    assert found["log_loss"].tolist() == pytest.approx([math.log(5), math.log(2), math.log(2)])
    assert found["share_up"].tolist() == [0.5, 1.0, 1.0]
    assert found["mean_probability"].tolist() == pytest.approx([0.5, 0.5, 0.5])
    assert list(found) == ["date", "rows", "log_loss", "share_up", "mean_probability"]
    assert worst_days(BY_HAND, most=1)["date"].tolist() == [DAYS[1]]


@pytest.mark.parametrize("unit", ["s", "ns"])
def test_worst_days_show_what_a_strategy_earned_where_it_traded(unit: str) -> None:
    strategy = pd.Series([0.01, -0.02], index=DAYS[[0, 1]].astype(f"datetime64[{unit}]"))
    found = worst_days(BY_HAND, strategy)
    assert found["strategy_return"].tolist() == pytest.approx([-0.02, 0.01, math.nan], nan_ok=True)
