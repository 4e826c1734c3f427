"""The table of predictions: what was forecast, what came, and what needs no model to forecast.

Everything that judges a model reads this table and nothing else, whether its rows come from one
test window or from the many of a walk-forward.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from steps.learning.backtest import forward_returns
from steps.learning.scores import (
    Floats,
    base_rate_scores,
    persistence_forecast,
    persistence_rates,
    persistence_scores,
)

Mask = NDArray[np.bool_]


def make_predictions(
    table: pd.DataFrame,
    train: Mask,
    test: Mask,
    y_proba: ArrayLike,
    *,
    threshold: float,
    horizon: int,
) -> pd.DataFrame:
    """Set a model's forecasts of its test rows beside what came and what it has to beat.

    Parameters
    ----------
    table : DataFrame
        A snapshot's table, by symbol and date.
    train, test : ndarray of bool, shape (len(table),)
        The rows it learned from and the rows to judge; all of them labelled.
    y_proba : array-like of float, shape (test.sum(),)
        Forecast probability of a rise of each test row.
    threshold : float
        Above it, a row is called up.
    horizon : int
        Trading days ahead, as in the label.

    Returns
    -------
    DataFrame, one row per test row
        `date`, `symbol`, `label_known_at`, `direction` (int8), `probability`, `predicted`
        (int8), `threshold`, `base_rate` (the train rows' share of ups), `persistence` (0, 1 or
        NaN: see `persistence_forecast`), `persistence_probability` (the same as a probability)
        and `forward_return` (close to close over the horizon, NaN where the snapshot cannot say).
    """
    y = table["direction"].to_numpy(dtype=np.float64, na_value=np.nan)
    forecast = persistence_forecast(table, horizon)
    proba = np.asarray(y_proba, dtype=np.float64)
    told = table.loc[test, ["date", "symbol", "label_known_at"]].reset_index(drop=True)
    return told.assign(
        direction=y[test].astype(np.int8),
        probability=proba,
        predicted=(proba > threshold).astype(np.int8),
        threshold=threshold,
        base_rate=float(y[train].mean()),
        persistence=forecast[test],
        persistence_probability=_spoken(
            forecast[test], persistence_rates(y[train], forecast[train])
        ),
        forward_return=forward_returns(table, horizon)[test],
    )


def pool_predictions(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put the predictions of several folds into one table, to be judged together.

    Each fold's model has a level of its own: that of the days it was trained on. Ranked by bare
    probability, rows would be told apart by their fold's level, which is no skill, and on a drift
    could look like it. So rows are ranked within their fold.

    Parameters
    ----------
    parts : sequence of DataFrame
        As `make_predictions` returns them, in the order of the folds.

    Returns
    -------
    DataFrame
        The rows of all folds, one after the other, with their `fold`, from 1, and their `score`:
        the share of the fold's rows with no higher probability, which is what AUCs go by.

    Examples
    --------
    >>> parts = [pd.DataFrame({"probability": [0.1, 0.2]}), pd.DataFrame({"probability": [0.9]})]
    >>> pool_predictions(parts)["score"].tolist()
    [0.5, 1.0, 1.0]
    """
    numbered = [part.assign(fold=number) for number, part in enumerate(parts, 1)]
    pooled = pd.concat(numbered, ignore_index=True)
    return pooled.assign(score=pooled.groupby("fold")["probability"].rank(pct=True))


def baseline_scores(predictions: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Score the base rate, and 'the coming days like the past ones', on the same rows."""
    y = predictions["direction"]
    return {
        "base_rate": base_rate_scores(y, predictions["base_rate"]),
        "persistence": persistence_scores(
            y, predictions["persistence"], predictions["persistence_probability"]
        ),
    }


def _spoken(forecast: Floats, rates: tuple[float, float]) -> Floats:
    after_down, after_up = rates
    return np.where(np.isnan(forecast), np.nan, np.where(forecast == 1, after_up, after_down))
