"""Whether, on one day, the symbols forecast best did best: the information coefficient."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from steps.learning.bootstrap import DateBootstrap, Interval, Statistic, block_length, ratio_of_sums
from steps.learning.scores import Floats

LEAST_SYMBOLS = 3
# Coefficients lie in [-1, 1]; a spread this small is rounding, not variation.
_NO_SPREAD = 1e-12


def daily_ic(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return each date's correlation between forecast and outcome, across symbols.

    The information coefficient (IC) is Pearson's correlation of `probability` and
    `forward_return`; the rank IC is Spearman's, where ties share the mean of their ranks.

    Parameters
    ----------
    predictions : DataFrame, one row per symbol and date
        `date`, `probability` and `forward_return`; rows without a known return are left out.

    Returns
    -------
    DataFrame
        `ic`, `rank_ic` (both in [-1, 1]; NaN where all forecasts or all returns of the date
        are equal) and `symbols`, their number; index `date`, ascending. Dates with fewer than
        3 known returns are left out.

    References
    ----------
    R. C. Grinold and R. N. Kahn, *Active Portfolio Management*, 2nd ed., McGraw-Hill 2000.

    Examples
    --------
    >>> table = pd.DataFrame({"date": pd.Timestamp("2024-01-02"), "probability": [0.4, 0.5, 0.6],
    ...                       "forward_return": [0.00, 0.03, 0.01]})
    >>> daily_ic(table).round(4).reset_index(drop=True)
           ic  rank_ic  symbols
    0  0.3273      0.5        3
    """
    numbers = predictions[["probability", "forward_return"]].to_numpy(dtype=np.float64)
    table = predictions[np.isfinite(numbers).all(axis=1)].sort_values("date", kind="stable")
    table = table[table.groupby("date")["date"].transform("size") >= LEAST_SYMBOLS]
    days, first_rows, symbols = np.unique(
        table["date"].to_numpy(), return_index=True, return_counts=True
    )
    by_date = table.groupby("date")
    values = table["probability"], table["forward_return"]
    ranks = by_date["probability"].rank(), by_date["forward_return"].rank()
    return pd.DataFrame(
        {
            "ic": _correlations(*values, first_rows, symbols),
            "rank_ic": _correlations(*ranks, first_rows, symbols),
            "symbols": symbols,
        },
        index=pd.Index(days, name="date"),
    )


def ic_intervals(
    daily: pd.DataFrame,
    *,
    horizon: int,
    confidence: float = 0.95,
    n_resamples: int = 1000,
    random_state: int = 0,
) -> dict[str, Interval]:
    """Return the mean IC and the ICIR, and those of ranks, with intervals by blocks of dates.

    The ICIR is the mean of the daily coefficients divided by their standard deviation (that
    of a sample, ddof=1), per day and not annualised. Dates without a coefficient are left out.

    Parameters
    ----------
    daily : DataFrame
        As `daily_ic` gives.
    horizon : int
        Trading days ahead, as in the label; sets the blocks' length.
    confidence : float
        Above 0 and below 1.
    n_resamples, random_state : int
        Number of resamples, and their seed.

    Returns
    -------
    dict of str to Interval
        `ic`, `icir`, `rank_ic`, `rank_icir`; an ICIR is NaN where the coefficients do not
        vary. Empty when fewer than 2 dates have a coefficient.

    References
    ----------
    R. C. Grinold and R. N. Kahn, *Active Portfolio Management*, 2nd ed., McGraw-Hill 2000.
    """
    if daily["ic"].notna().sum() < 2:
        return {}
    bootstrap = DateBootstrap(
        daily.index,
        block_length=block_length(horizon),
        n_resamples=n_resamples,
        random_state=random_state,
    )
    intervals = {}
    for name in ("ic", "rank_ic"):
        coefficients = daily[name].to_numpy(dtype=np.float64)
        known = ~np.isnan(coefficients)
        # Days without a coefficient keep their place, so that blocks are of neighbours.
        present = bootstrap.day_sums(known)
        total = bootstrap.day_sums(np.where(known, coefficients, 0))
        intervals[name] = bootstrap.interval(ratio_of_sums(total, present), confidence=confidence)
        intervals[f"{name}ir"] = bootstrap.interval(
            _mean_to_spread(total, present), confidence=confidence
        )
    return intervals


def _correlations(
    x: ArrayLike, y: ArrayLike, first_rows: NDArray[np.intp], counts: NDArray[np.intp]
) -> Floats:
    """Return Pearson's correlation within each run of rows; NaN where a side is constant."""
    sides = [np.asarray(side, dtype=np.float64) for side in (x, y)]
    varies = np.ones(len(counts), dtype=np.bool_)
    centred = []
    for side in sides:
        # Asked of the values themselves: a computed spread could be rounding and not quite zero.
        varies &= np.minimum.reduceat(side, first_rows) < np.maximum.reduceat(side, first_rows)
        means = np.add.reduceat(side, first_rows) / counts
        centred.append(side - np.repeat(means, counts))
    left, right = centred
    together, left_spread, right_spread = (
        np.add.reduceat(products, first_rows)
        for products in (left * right, left * left, right * right)
    )
    correlations: Floats = np.full(len(counts), np.nan)
    spread = np.sqrt(left_spread) * np.sqrt(right_spread)
    np.divide(together, spread, out=correlations, where=varies & (spread > 0))
    return np.clip(correlations, -1, 1)


def _mean_to_spread(coefficients: Floats, present: Floats) -> Statistic:
    """Return the statistic mean / standard deviation over the days that are present."""
    # Around a centre near the mean, sums of squares lose no digits.
    centre = coefficients.sum() / present.sum()
    offsets = (coefficients - centre) * present

    def statistic(weights: Floats) -> Floats:
        n = weights @ present
        mean = (weights @ offsets) / np.maximum(n, 1)
        squares = weights @ offsets**2 - n * mean**2
        spread = np.sqrt(np.maximum(squares, 0) / np.maximum(n - 1, 1))
        ratio: Floats = np.full(len(weights), np.nan)
        np.divide(centre + mean, spread, out=ratio, where=(n >= 2) & (spread > _NO_SPREAD))
        return ratio

    return statistic
