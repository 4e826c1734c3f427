"""How sure one can be that a model knows anything."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from steps.learning.bootstrap import (
    DateBootstrap,
    Interval,
    Statistic,
    block_length,
    ratio_of_sums,
)
from steps.learning.scores import Floats, check_forecast, ranking


def score_intervals(
    predictions: pd.DataFrame,
    *,
    horizon: int,
    confidence: float = 0.95,
    n_resamples: int = 1000,
    random_state: int = 0,
) -> dict[str, Interval]:
    """Return every score of the predictions with its interval, by blocks of dates.

    Parameters
    ----------
    predictions : DataFrame, one row per symbol and date
        `date`, `direction` (0 or 1), `probability` and `predicted` (the calls, 0 or 1), and
        `base_rate`, what a forecaster without a model says; `score` where AUCs go by another
        order than that of the probabilities.
    horizon : int
        Trading days ahead, as in the label; sets the blocks' length.
    confidence : float
        Above 0 and below 1.
    n_resamples, random_state : int
        Number of resamples, and their seed.

    Returns
    -------
    dict of str to Interval
        `accuracy`, `precision`, `recall`, `f1`, `auc_roc`, `log_loss` (nats) and
        `brier_score`, their values as `score_classifier` gives; and `log_loss_gain`, the base
        rate's log-loss less the model's, above 0 where the model is better.

    Raises
    ------
    ValueError
        On no rows, labels or calls other than 0 and 1, or probabilities outside [0, 1].

    References
    ----------
    See `DateBootstrap`.
    """
    y, proba = check_forecast(predictions["direction"], predictions["probability"])
    _, base_rate = check_forecast(y, predictions["base_rate"])
    calls, _ = check_forecast(predictions["predicted"], proba)
    bootstrap = DateBootstrap(
        predictions["date"],
        block_length=block_length(horizon),
        n_resamples=n_resamples,
        random_state=random_state,
    )
    sums = bootstrap.day_sums
    losses, rows = row_log_losses(y, proba), sums(np.ones(len(y)))
    came, called, caught = sums(y), sums(calls), sums(y * calls)
    statistics: dict[str, Statistic] = {
        "accuracy": ratio_of_sums(sums(y == calls), rows),
        "precision": ratio_of_sums(caught, called, otherwise=0.0),
        "recall": ratio_of_sums(caught, came, otherwise=0.0),
        "f1": ratio_of_sums(2 * caught, called + came, otherwise=0.0),
        "auc_roc": auc_of_days(ranking(predictions), y, bootstrap),
        "log_loss": ratio_of_sums(sums(losses), rows),
        "brier_score": ratio_of_sums(sums((proba - y) ** 2), rows),
        "log_loss_gain": ratio_of_sums(sums(row_log_losses(y, base_rate) - losses), rows),
    }
    return {
        name: bootstrap.interval(statistic, confidence=confidence)
        for name, statistic in statistics.items()
    }


def auc_interval(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    dates: ArrayLike,
    *,
    confidence: float = 0.95,
    n_resamples: int = 1000,
    block_length: int = 10,
    random_state: int = 0,
) -> Interval:
    """Return the AUC with an interval that knows neighbouring rows are no news.

    Parameters
    ----------
    y_true, y_proba : array-like, shape (n_rows,)
        What came, and the forecast probability of 1.
    dates : array-like, shape (n_rows,)
        Each row's date.
    confidence : float
        Above 0 and below 1.
    n_resamples : int
        Number of resamples; those with one class only do not count.
    block_length : int
        Dates per block; at least the label's horizon, better twice it.
    random_state : int
        Seed.

    Raises
    ------
    ValueError
        When rows and dates differ in number, or a setting is out of its range.

    References
    ----------
    See `DateBootstrap`.
    """
    y, proba = check_forecast(y_true, y_proba)
    bootstrap = DateBootstrap(
        dates, block_length=block_length, n_resamples=n_resamples, random_state=random_state
    )
    bootstrap.day_sums(y)  # refuses dates that do not match the rows
    return bootstrap.interval(auc_of_days(proba, y, bootstrap), confidence=confidence)


def verdict(
    scores: Mapping[str, float],
    base_rate: Mapping[str, float],
    interval: Interval,
    *,
    looks: int = 1,
) -> str:
    """Say in a sentence whether the model beats always forecasting the base rate.

    It does only if the whole interval lies above 0.5 *and* its log-loss is the lower one.
    From the second look at the same test window on, the interval widened for the best of
    that many tries must lie above 0.5.

    Parameters
    ----------
    scores, base_rate : mapping of str to float
        As `score_classifier` and `base_rate_scores` give, of the same rows.
    interval : Interval
        The AUC's, of the same rows.
    looks : int
        Models scored on this test window so far, this one included.
    """
    losses = f"log-loss {scores['log_loss']:.4f} against {base_rate['log_loss']:.4f}"
    if np.isnan(interval.low):
        return f"Too few dates, or one class only, to tell the model from the base rate: {losses}."
    wide = interval.widened(looks)
    better = wide.low > 0.5 and scores["log_loss"] < base_rate["log_loss"]
    deflated = (
        f" ({wide.low:.3f} to {wide.high:.3f} after {looks} looks at this test window)"
        if looks > 1
        else ""
    )
    return (
        f"{'Better' if better else 'No better'} than the base rate: AUC {interval.value:.3f}, "
        f"{100 * interval.confidence:g} % interval {interval.low:.3f} to {interval.high:.3f}"
        f"{deflated}, {losses}."
    )


def row_log_losses(y: NDArray[np.int8], proba: Floats) -> Floats:
    """Return each row's log-loss in nats, as scikit-learn counts it.

    A forecast of 0 or 1 that errs would lose infinitely much; it counts as wrong by the last
    bit, which costs 36.

    Examples
    --------
    >>> row_log_losses(np.array([1, 0, 0], dtype=np.int8), np.array([0.5, 0.5, 1.0])).round(3)
    array([ 0.693,  0.693, 36.044])
    """
    last_bit = np.finfo(np.float64).eps
    losses: Floats = -np.log(np.clip(np.where(y == 1, proba, 1 - proba), last_bit, 1 - last_bit))
    return losses


def auc_of_days(values: ArrayLike, up: ArrayLike, bootstrap: DateBootstrap) -> Statistic:
    """Return the statistic that gives the AUC of days drawn, to first order.

    The AUC is the mean, over the ups, of the share of downs they beat; and the mean, over the
    downs, of the share of ups that beat them. Drawing days moves either mean, and the AUC by the
    sum of both moves. That takes sums over days only, where ranking the rows of every draw would
    take minutes for a million rows.

    Parameters
    ----------
    values : array-like of float, shape (n_rows,)
        What should be higher for an up: a probability, or any feature.
    up : array-like of bool, shape (n_rows,)
        Whether the row came up.
    bootstrap : DateBootstrap
        Of the rows' dates.

    Returns
    -------
    callable
        NaN where a draw, or all rows, are of one class.

    References
    ----------
    E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson, "Comparing the areas under two or more
    correlated receiver operating characteristic curves", Biometrics 44 (1988).
    """
    value, came = np.asarray(values, dtype=np.float64), np.asarray(up, dtype=bool)
    if came.all() or not came.any():
        return lambda weights: np.full(len(weights), np.nan)
    beaten, beats = np.zeros(came.size), np.zeros(came.size)
    beaten[came] = shares_below(value[came], np.sort(value[~came]))
    beats[~came] = 1 - shares_below(value[~came], np.sort(value[came]))
    auc = beaten[came].mean()
    by_ups = ratio_of_sums(bootstrap.day_sums(beaten), bootstrap.day_sums(came))
    by_downs = ratio_of_sums(bootstrap.day_sums(beats), bootstrap.day_sums(~came))
    return lambda weights: np.clip(by_ups(weights) + by_downs(weights) - auc, 0.0, 1.0)


def shares_below(values: Floats, others: Floats) -> Floats:
    """Return the share of `others`, ascending, that lies below each value; equals count half."""
    below = np.searchsorted(others, values, side="left")
    not_above = np.searchsorted(others, values, side="right")
    return np.asarray((below + not_above) / (2 * others.size), dtype=np.float64)
