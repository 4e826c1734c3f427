"""Where a model is right and where it errs: by symbol, year and volatility, and on which days."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from steps.learning.bootstrap import block_length
from steps.learning.intervals import auc_interval, row_log_losses
from steps.learning.scores import check_forecast, ranking

MOST_SYMBOLS: Final = 30
"""Symbols that get a slice each; of more, those with the most rows."""

_REGIMES: Final = ("calm", "normal", "turbulent")


def slice_scores(
    predictions: pd.DataFrame,
    volatility: ArrayLike | None,
    *,
    horizon: int,
    confidence: float = 0.95,
    n_resamples: int = 500,
    random_state: int = 0,
) -> pd.DataFrame:
    """Score the predictions slice by slice.

    Parameters
    ----------
    predictions : DataFrame, one row per symbol and date
        `date`, `symbol`, `direction` (0 or 1), `probability` and `predicted` (the calls).
    volatility : array-like of float, shape (n_rows,), optional
        Each row's volatility, such as the feature `volatility_20`. Its terciles over these rows
        part calm from normal from turbulent; a row without one is in none of them. Left out, so
        are these slices.
    horizon : int
        Trading days ahead, as in the label; sets the length of the bootstrap's blocks.
    confidence : float
        Of the AUC's interval.
    n_resamples, random_state : int
        Number of resamples per slice, and their seed.

    Returns
    -------
    DataFrame, one row per slice that has rows
        `kind` (symbol, year, volatility), `slice`, `rows`, `dates`, `base_rate` (the slice's
        share of ups), `accuracy`, `auc_roc`, `auc_low`, `auc_high` (NaN where they cannot be
        said) and `log_loss`, in nats. Nothing is widened for the number of slices: that one of
        twenty looks good is to be expected.

    Raises
    ------
    ValueError
        On no rows, labels other than 0 and 1, probabilities outside [0, 1], or where there is
        not one volatility per row.
    """
    check_forecast(predictions["direction"], predictions["probability"])
    scored = [
        {
            "kind": kind,
            "slice": name,
            **_score(
                predictions[inside],
                confidence=confidence,
                n_resamples=n_resamples,
                block_length=block_length(horizon),
                random_state=random_state,
            ),
        }
        for kind, name, inside in _slices(predictions, volatility)
    ]
    return pd.DataFrame(scored)


def worst_days(
    predictions: pd.DataFrame, daily_strategy: pd.Series[Any] | None = None, most: int = 10
) -> pd.DataFrame:
    """Return the days on which the forecasts were worth least.

    Parameters
    ----------
    predictions : DataFrame, one row per symbol and date
        `date`, `direction` (0 or 1) and `probability`.
    daily_strategy : Series of float, indexed by date, optional
        What a strategy that followed the forecasts earned on each date.
    most : int
        Days to return, at most.

    Returns
    -------
    DataFrame, one row per date, the worst first
        `date`, `rows`, `log_loss` (the day's mean, in nats), `share_up`, `mean_probability` and,
        with `daily_strategy`, `strategy_return` (NaN on a date it lacks).

    Raises
    ------
    ValueError
        On no rows, labels other than 0 and 1, or probabilities outside [0, 1].
    """
    losses = row_log_losses(*check_forecast(predictions["direction"], predictions["probability"]))
    daily = (
        predictions.assign(loss=losses)
        .groupby("date", as_index=False)
        .agg(
            rows=("loss", "size"),
            log_loss=("loss", "mean"),
            share_up=("direction", "mean"),
            mean_probability=("probability", "mean"),
        )
    )
    worst = daily.sort_values(["log_loss", "date"], ascending=[False, True], ignore_index=True)
    worst = worst.head(most)
    if daily_strategy is not None:
        earned = daily_strategy.reindex(pd.Index(worst["date"]))
        worst = worst.assign(strategy_return=earned.to_numpy())
    return worst


def _slices(
    predictions: pd.DataFrame, volatility: ArrayLike | None
) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Yield each slice's kind, name and rows."""
    symbols, years = predictions["symbol"], predictions["date"].dt.year
    by_size = symbols.value_counts().sort_index().sort_values(ascending=False, kind="stable")
    for symbol in sorted(by_size.index[:MOST_SYMBOLS]):
        yield "symbol", str(symbol), (symbols == symbol).to_numpy(bool)
    for year in sorted(years.unique()):
        yield "year", str(year), (years == year).to_numpy(bool)
    if volatility is not None:
        regime = _regimes(np.asarray(volatility, dtype=np.float64), len(predictions))
        for number, name in enumerate(_REGIMES):
            if (regime == number).any():
                yield "volatility", name, regime == number


def _regimes(volatility: NDArray[np.float64], n_rows: int) -> NDArray[np.intp]:
    """Return the tercile of each row's volatility, 0 to 2; -1 where it is not known."""
    if volatility.shape != (n_rows,):
        raise ValueError(
            f"one volatility for each of the {n_rows} rows of predictions is needed; the shape is "
            f"{volatility.shape}"
        )
    known = ~np.isnan(volatility)
    if not known.any():
        return np.full(n_rows, -1)
    terciles = np.quantile(volatility[known], [1 / 3, 2 / 3])
    return np.where(known, np.searchsorted(terciles, volatility, side="left"), -1)


def _score(rows: pd.DataFrame, **bootstrap: Any) -> dict[str, float]:
    y, proba = check_forecast(rows["direction"], rows["probability"])
    auc = auc_interval(y, ranking(rows), rows["date"], **bootstrap)
    return {
        "rows": len(rows),
        "dates": rows["date"].nunique(),
        "base_rate": float(y.mean()),
        "accuracy": float((rows["predicted"].to_numpy() == y).mean()),
        "auc_roc": auc.value,
        "auc_low": auc.low,
        "auc_high": auc.high,
        "log_loss": float(row_log_losses(y, proba).mean()),
    }
