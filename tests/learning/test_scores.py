"""Scores against numbers worked out by hand, baselines and the threshold likewise."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steps.learning.scores import (
    base_rate_scores,
    best_threshold,
    persistence_forecast,
    persistence_rates,
    persistence_scores,
    score_classifier,
)


def test_scores_by_hand() -> None:
    # Calls above 0.5: up, up, down, down, down. One true up of two called, of three there.
    assert score_classifier([1, 0, 1, 1, 0], [0.9, 0.8, 0.5, 0.3, 0.2], threshold=0.5) == (
        pytest.approx(
            {
                "accuracy": 2 / 5,
                "precision": 1 / 2,
                "recall": 1 / 3,
                "f1": 2 / 5,
                # Up-down pairs in the right order: 2 of 0.9's, 1 of 0.5's, 1 of 0.3's, of 6.
                "auc_roc": 4 / 6,
                "log_loss": -math.log(0.9 * 0.2 * 0.5 * 0.3 * 0.8) / 5,
                "brier_score": (0.1**2 + 0.8**2 + 0.5**2 + 0.7**2 + 0.2**2) / 5,
            }
        )
    )


def test_a_lower_threshold_calls_more_rows_up() -> None:
    scored = score_classifier([1, 0, 1, 1, 0], [0.9, 0.8, 0.5, 0.3, 0.2], threshold=0.25)
    assert scored["recall"] == 1
    assert scored["precision"] == 3 / 4


def test_one_class_and_certain_errors_stay_numbers() -> None:
    scored = score_classifier([1, 1], [0.0, 0.25], threshold=0.5)
    assert math.isnan(scored["auc_roc"])
    assert (scored["precision"], scored["recall"], scored["f1"]) == (0, 0, 0)
    assert math.isfinite(scored["log_loss"])
    assert scored["brier_score"] == (1 + 0.75**2) / 2


@pytest.mark.parametrize(
    ("y_true", "y_proba", "message"),
    [
        ([], [], "at least one row"),
        ([0, 1], [0.5], "one probability per row"),
        ([0, 2], [0.5, 0.5], "Labels must be 0 and 1"),
        ([0, 1], [0.5, 1.5], r"must lie in \[0, 1\]; they run from 0.5 to 1.5"),
        ([0, 1], [0.5, math.nan], r"must lie in \[0, 1\]"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    y_true: list[int], y_proba: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        score_classifier(y_true, y_proba, threshold=0.5)


@pytest.mark.parametrize(("base_rate", "accuracy"), [(0.6, 0.75), (0.4, 0.25), (0.5, 0.25)])
def test_the_base_rate_calls_every_row_alike(base_rate: float, accuracy: float) -> None:
    scored = base_rate_scores([1, 1, 1, 0], base_rate)
    assert scored["accuracy"] == accuracy
    assert scored["auc_roc"] == 0.5
    assert scored["log_loss"] == pytest.approx(
        -(3 * math.log(base_rate) + math.log(1 - base_rate)) / 4
    )


def test_persistence_is_the_label_that_became_known_today() -> None:
    days = pd.to_datetime([f"2024-01-0{day}" for day in range(1, 6)])
    close = {"A": [1.0, 2.0, 1.0, 3.0, 4.0], "B": [5.0, 4.0, 3.0, 4.0, 1.0]}
    table = pd.concat(
        pd.DataFrame({"date": days, "symbol": symbol, "close": close[symbol]}) for symbol in close
    ).reset_index(drop=True)
    for horizon in (1, 2):
        ahead = table.groupby("symbol")["close"].shift(-horizon)
        table["direction"] = (ahead > table["close"]).astype("Int8").where(ahead.notna())
        past = table.groupby("symbol")["close"].shift(horizon)
        expected = (table["close"] > past).astype(float).where(past.notna())
        np.testing.assert_array_equal(persistence_forecast(table, horizon), expected)


def test_persistence_wants_a_sorted_table() -> None:
    table = pd.DataFrame(
        {
            "date": pd.to_datetime(["2024-01-02", "2024-01-01"]),
            "symbol": "A",
            "direction": [0, 1],
        }
    )
    with pytest.raises(ValueError, match=r"row 1 \(A, 2024-01-01\)"):
        persistence_forecast(table, 1)


def test_persistence_scores_by_hand() -> None:
    # In training 3 of 4 rose after an up, 1 of 2 after a down; the row without a forecast
    # counts for nothing.
    y_train, forecast_train = [1, 1, 1, 0, 1, 0, 1], [1, 1, 1, 1, 0, 0, math.nan]
    after_down, after_up = persistence_rates(y_train, forecast_train)
    assert (after_down, after_up) == (0.5, 0.75)
    spoken = [after_up, after_up, after_down, math.nan]
    scored = persistence_scores([1, 0, 0, 1], [1, 1, 0, math.nan], spoken)
    assert scored == pytest.approx(
        {
            "accuracy": 2 / 3,
            "precision": 1 / 2,
            "recall": 1,
            "f1": 2 / 3,
            "auc_roc": 0.75,
            "log_loss": -math.log(0.75 * 0.25 * 0.5) / 3,
            "brier_score": (0.25**2 + 0.75**2 + 0.5**2) / 3,
        }
    )


def test_persistence_without_a_down_in_training_falls_back_on_all_rows() -> None:
    assert persistence_rates([1, 0, 1, 1], [1, 1, 1, 1]) == (0.75, 0.75)


def test_persistence_that_is_never_known_says_what_can_be_said() -> None:
    assert persistence_rates([1, 0, 1, 1], [math.nan] * 4) == (0.75, 0.75)
    scored = persistence_scores([0, 1], [math.nan] * 2, [math.nan] * 2)
    assert scored.keys() == score_classifier([0, 1], [0.4, 0.6], threshold=0.5).keys()
    assert all(math.isnan(score) for score in scored.values())


@pytest.mark.parametrize(
    ("y_true", "y_proba", "threshold"),
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.4, 0.6], 0.3),  # parts the classes, midway
        ([0, 0, 1, 1], [0.1, 0.2, 0.7, 0.8], 0.5),  # 0.5 parts the same rows
        ([0, 1, 0, 1], [0.1, 0.3, 0.4, 0.9], 0.5),  # ties with 0.2, and is nearer
        ([1, 0], [0.2, 0.3], 0.5),  # the wrong way round: nothing beats one call for all
        ([1, 1], [0.2, 0.3], 0.5),  # one class
        ([0, 1], [0.3, 0.3], 0.5),  # one forecast
    ],
)
def test_thresholds_by_hand(y_true: list[int], y_proba: list[float], threshold: float) -> None:
    assert best_threshold(y_true, y_proba) == pytest.approx(threshold)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 20).map(lambda step: step / 20)),
        min_size=1,
        max_size=30,
    )
)
def test_no_threshold_on_a_grid_is_better(rows: list[tuple[int, float]]) -> None:
    y = np.array([label for label, _ in rows])
    proba = np.array([share for _, share in rows])

    def youden(threshold: float) -> float:
        calls = proba > threshold
        return float(calls[y == 1].mean() - calls[y == 0].mean())

    found = best_threshold(y, proba)
    if y.min() == y.max():
        assert found == 0.5
        return
    best = max(youden(cut) for cut in np.arange(-0.025, 1.05, 0.025))
    assert youden(found) == pytest.approx(best) or (best <= 1e-12 and found == 0.5)
