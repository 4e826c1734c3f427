"""The table of predictions, by hand, and the baselines in it."""

import math

import numpy as np
import pandas as pd
import pytest

from steps.learning.intervals import score_intervals
from steps.learning.predictions import baseline_scores, make_predictions, pool_predictions


@pytest.fixture
def table() -> pd.DataFrame:
    """One symbol, six days, the last one's label not known yet; 10 % up or 10 % down a day."""
    dates = pd.Series(pd.date_range("2024-01-01", periods=6).as_unit("s"))
    return pd.DataFrame(
        {
            "date": dates,
            "symbol": "A",
            "overnight_return": np.float32([0, 0, 0, 0, 0, 0]),
            "intraday_return": np.float32([0, 0.1, 0.1, -0.1, 0.1, -0.1]),
            "direction": pd.array([1, 1, 0, 1, 0, None], dtype="Int8"),
            "label_known_at": dates.shift(-1),
        }
    )


def predict(table: pd.DataFrame) -> pd.DataFrame:
    train = np.array([True, True, True, False, False, False])
    test = np.array([False, False, False, True, True, False])
    return make_predictions(table, train, test, [0.6, 0.55], threshold=0.55, horizon=1)


def test_by_hand(table: pd.DataFrame) -> None:
    found = predict(table)
    assert found.index.tolist() == [0, 1]
    assert found["direction"].tolist() == [1, 0]
    assert found["predicted"].tolist() == [1, 0]  # on the threshold is not above it
    assert found["base_rate"].tolist() == pytest.approx([2 / 3, 2 / 3])
    # Day 4 follows a fall (day 3's label), day 5 a rise.
    assert found["persistence"].tolist() == [0, 1]
    # In training, days 2 and 3 followed rises: one rose, one fell. No day followed a fall, so
    # the share of the rows that have a forecast stands in: one of two as well.
    assert found["persistence_probability"].tolist() == [0.5, 0.5]
    assert found["forward_return"].tolist() == pytest.approx([0.1, -0.1])


def test_baselines_read_their_columns(table: pd.DataFrame) -> None:
    found = baseline_scores(predict(table))
    assert found["base_rate"]["log_loss"] == pytest.approx(-(math.log(2 / 3) + math.log(1 / 3)) / 2)
    assert found["base_rate"]["auc_roc"] == 0.5
    assert found["persistence"]["accuracy"] == 0
    assert found["persistence"]["log_loss"] == pytest.approx(math.log(2))


def test_a_base_rate_of_its_own_for_each_row(table: pd.DataFrame) -> None:
    predictions = predict(table).assign(base_rate=[0.9, 0.2])
    assert baseline_scores(predictions)["base_rate"]["accuracy"] == 1
    # Within its window each tells no row from another.
    assert baseline_scores(predictions)["base_rate"]["auc_roc"] == 0.5


def drifting_folds(skill: float) -> pd.DataFrame:
    """Five folds in which the share of ups rises; the forecasts know the share, and `skill`."""
    random = np.random.default_rng(0)
    parts = []
    for fold, share in enumerate(np.linspace(0.3, 0.7, 5)):
        y = (random.random(400) < share).astype(int)
        known = skill * (y - 0.5) + 0.01 * random.normal(size=400)
        parts.append(
            pd.DataFrame(
                {
                    "date": pd.date_range(f"{2010 + fold}-01-01", periods=400, freq="12h").floor(
                        "D"
                    ),
                    "direction": y,
                    "probability": np.clip(share + known, 0, 1),
                    "predicted": 1,
                    "base_rate": share,
                }
            )
        )
    return pool_predictions(parts)


def test_the_drift_of_the_base_rate_is_no_skill() -> None:
    from sklearn.metrics import roc_auc_score

    pooled = drifting_folds(skill=0.0)
    assert roc_auc_score(pooled["direction"], pooled["probability"]) > 0.6, "this is the trap"
    auc = score_intervals(pooled, horizon=1, n_resamples=200)["auc_roc"]
    assert auc.low < 0.5 < auc.high
    skilled = drifting_folds(skill=0.005)
    assert score_intervals(skilled, horizon=1, n_resamples=200)["auc_roc"].low > 0.5


def test_scores_of_one_fold_are_in_the_order_of_its_probabilities() -> None:
    pooled = drifting_folds(skill=0.1)
    assert pooled["fold"].unique().tolist() == [1, 2, 3, 4, 5]
    for _, rows in pooled.groupby("fold"):
        assert (rows["probability"].rank() == rows["score"].rank()).all()
