"""How sure one can be that a model knows anything."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from steps.learning.scores import Floats, auc_roc, check_forecast

# Pooled over symbols and dates, daily directions are known to this AUC at best.
SUSPICIOUS_AUC = 0.55
# Rows times resamples worked on at once; 32 MB per array.
_CHUNK = 2**22


@dataclass(frozen=True)
class AucInterval:
    """An AUC and the interval it was resampled to; NaN where it cannot be said.

    Attributes
    ----------
    auc, low, high : float
        The AUC of all rows, and the interval's ends.
    confidence : float
        Share of samples whose interval should hold the true AUC, such as 0.95.
    block_length : int
        Dates that moved together.
    n_resamples : int
        Resamples that counted: those with both classes.
    """

    auc: float
    low: float
    high: float
    confidence: float
    block_length: int
    n_resamples: int


def auc_interval(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    dates: ArrayLike,
    *,
    confidence: float = 0.95,
    n_resamples: int = 1000,
    block_length: int = 10,
    random_state: int = 0,
) -> AucInterval:
    """Return the AUC with an interval that knows neighbouring rows are no news.

    Rows of one date move together, and labels over several days overlap, so whole blocks of
    consecutive dates are drawn with replacement (circular block bootstrap), and the
    interval runs between percentiles of the resampled AUCs, wider ones the fewer blocks
    there are (expanded percentile interval). Below two blocks of dates there is nothing to
    resample, and the ends are NaN.

    Parameters
    ----------
    y_true, y_proba : array-like, shape (n_rows,)
        What came, and the forecast probability of 1.
    dates : array-like, shape (n_rows,)
        Each row's date.
    confidence : float
        Above 0 and below 1.
    n_resamples : int
        Number of resamples.
    block_length : int
        Dates per block; at least the label's horizon, better twice it.
    random_state : int
        Seed.

    References
    ----------
    H. R. Künsch, "The jackknife and the bootstrap for general stationary observations",
    Annals of Statistics 17 (1989). D. N. Politis and J. P. Romano, "A circular
    block-resampling procedure for stationary data", in *Exploring the Limits of Bootstrap*,
    Wiley 1992. T. C. Hesterberg, "What teachers should know about the bootstrap", The
    American Statistician 69 (2015), on the expansion.
    """
    y, proba = check_forecast(y_true, y_proba)
    if not 0 < confidence < 1 or n_resamples < 1 or block_length < 1:
        raise ValueError(
            "confidence must lie between 0 and 1, n_resamples and block_length be 1 or more: "
            f"{confidence}, {n_resamples}, {block_length}."
        )
    days, day_of_row = np.unique(np.asarray(dates), return_inverse=True)
    unknown = AucInterval(auc_roc(y, proba), np.nan, np.nan, confidence, block_length, 0)
    if len(days) < 2 * block_length or np.isnan(unknown.auc):
        return unknown
    draws = _draw_days(len(days), n_resamples, block_length, random_state)
    weighted_auc = _weighted_auc(y, proba)
    chunk = max(1, _CHUNK // max(len(y), len(days)))
    aucs = np.concatenate(
        [
            weighted_auc(_count_days(draws[first : first + chunk], len(days))[:, day_of_row])
            for first in range(0, n_resamples, chunk)
        ]
    )
    aucs = aucs[~np.isnan(aucs)]
    if not len(aucs):
        return unknown
    tail = _expanded_tail(confidence, n_blocks=len(days) // block_length)
    low, high = np.quantile(aucs, [tail, 1 - tail])
    return AucInterval(unknown.auc, float(low), float(high), confidence, block_length, len(aucs))


def verdict(
    scores: Mapping[str, float], base_rate: Mapping[str, float], interval: AucInterval
) -> str:
    """Say in a sentence or two whether the model beats always forecasting the base rate.

    It does only if the whole interval lies above 0.5 *and* its log-loss is the lower one.

    Parameters
    ----------
    scores, base_rate : mapping of str to float
        As `score_classifier` and `base_rate_scores` give, of the same rows.
    interval : AucInterval
        Of the same rows.
    """
    losses = f"log-loss {scores['log_loss']:.4f} against {base_rate['log_loss']:.4f}"
    if np.isnan(interval.low):
        sentence = (
            f"Too few dates, or one class only, to tell the model from the base rate: {losses}."
        )
    else:
        better = interval.low > 0.5 and scores["log_loss"] < base_rate["log_loss"]
        sentence = (
            f"{'Better' if better else 'No better'} than the base rate: AUC {interval.auc:.3f}, "
            f"{100 * interval.confidence:g} % interval {interval.low:.3f} to {interval.high:.3f}, "
            f"{losses}."
        )
    if interval.auc > SUSPICIOUS_AUC:
        sentence += " Suspiciously good: look for a leak."
    return sentence


def _expanded_tail(confidence: float, n_blocks: int) -> float:
    """Return the share of resamples to leave out at each end.

    Plain percentiles are too narrow for few observations: they know the normal
    distribution's quantile where Student's is due, and a variance that divides by n where
    n - 1 is due. An observation here is a block.
    """
    from scipy.special import ndtr, stdtrit  # type: ignore[import-untyped]

    quantile = stdtrit(n_blocks - 1, (1 + confidence) / 2)
    return float(ndtr(-quantile * np.sqrt(n_blocks / (n_blocks - 1))))


def _draw_days(
    n_days: int, n_resamples: int, block_length: int, random_state: int
) -> NDArray[np.intp]:
    """Draw, per resample, the first day of each block; shape (n_resamples, n_days) of days."""
    n_blocks = -(-n_days // block_length)
    generator = np.random.default_rng(random_state)
    starts = generator.integers(n_days, size=(n_resamples, n_blocks, 1))
    days = (starts + np.arange(block_length)) % n_days
    return days.reshape(n_resamples, -1)[:, :n_days].astype(np.intp)


def _count_days(draws: NDArray[np.intp], n_days: int) -> Floats:
    """Count how often each resample drew each day; shape (n_resamples, n_days)."""
    offsets = np.arange(len(draws))[:, None] * n_days
    counts = np.bincount((draws + offsets).ravel(), minlength=len(draws) * n_days)
    return counts.reshape(len(draws), n_days).astype(np.float64)


def _weighted_auc(y: NDArray[np.int8], proba: Floats) -> Callable[[Floats], Floats]:
    """Rank the rows once; the function returned gives the AUC under many sets of weights.

    It takes weights of shape (n_resamples, n_rows) and answers with shape (n_resamples,),
    NaN where one class weighs nothing.
    """
    ups, downs = np.flatnonzero(y == 1), np.flatnonzero(y == 0)
    downs = downs[np.argsort(proba[downs], kind="stable")]
    below = np.searchsorted(proba[downs], proba[ups], side="left")
    not_above = np.searchsorted(proba[downs], proba[ups], side="right")

    def weighted_auc(weights: Floats) -> Floats:
        up, down = weights[:, ups], np.zeros((len(weights), len(downs) + 1))
        np.cumsum(weights[:, downs], axis=1, out=down[:, 1:])
        # Each up beats the downs below it, and half of those it ties with.
        won = (up * (down[:, below] + down[:, not_above])).sum(axis=1) / 2
        pairs = up.sum(axis=1) * down[:, -1]
        aucs: Floats = np.full(len(weights), np.nan)
        np.divide(won, pairs, out=aucs, where=pairs > 0)
        return aucs

    return weighted_auc
