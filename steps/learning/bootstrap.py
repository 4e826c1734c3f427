"""How far a figure would move on other days: a bootstrap that draws blocks of dates."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from steps.learning.scores import Floats

# Given weights of days, shape (n_resamples, n_days), it answers with shape (n_resamples,).
Statistic = Callable[[Floats], Floats]

# Rows times resamples worked on at once; 32 MB per array.
_CHUNK = 2**22


@dataclass(frozen=True)
class Interval:
    """A figure and the interval it was resampled to; NaN where it cannot be said.

    Attributes
    ----------
    value, low, high : float
        The figure on all rows, and the interval's ends.
    confidence : float
        Share of samples whose interval should hold the truth, such as 0.95.
    block_length : int
        Dates that moved together.
    n_resamples : int
        Resamples that counted: those on which the figure could be said.
    n_blocks : int
        Blocks the dates make; 0 where unknown, which reads as "many".
    """

    value: float
    low: float
    high: float
    confidence: float
    block_length: int
    n_resamples: int
    n_blocks: int = 0

    def widened(self, looks: int) -> "Interval":
        """Return the interval for a figure that is the best of `looks` tries.

        Each arm is stretched by a ratio of Student's quantiles: the one at which `looks`
        independent intervals would all hold the truth with the confidence given (Šidák), to
        the one at which a single interval would. The ends may then lie where the figure
        itself cannot, such as below 0.

        Parameters
        ----------
        looks : int
            Tries so far, this one included; 1 changes nothing.

        Raises
        ------
        ValueError
            Below one look.

        References
        ----------
        Z. Šidák, "Rectangular confidence regions for the means of multivariate normal
        distributions", Journal of the American Statistical Association 62 (1967).

        Examples
        --------
        Of many blocks, three looks stretch 95 % by 2.388 / 1.960, from printed tables.

        >>> wide = Interval(0.51, 0.49, 0.53, 0.95, 10, 1000).widened(3)
        >>> round(wide.low, 4), round(wide.high, 4)
        (0.4856, 0.5344)
        """
        if looks < 1:
            raise ValueError(f"looks counts the tries, this one included: at least 1, not {looks}.")
        if looks == 1:
            return self
        stretch = _student_quantile(self.confidence ** (1 / looks), self.n_blocks)
        stretch /= _student_quantile(self.confidence, self.n_blocks)
        # A skewed interval can leave the value outside; stretching must not move an end inwards.
        return replace(
            self,
            low=min(self.low, self.value - stretch * (self.value - self.low)),
            high=max(self.high, self.value + stretch * (self.high - self.value)),
        )


class DateBootstrap:
    """Resample dates, whole blocks of consecutive ones, to see how far a figure moves.

    Rows of one date move together, and labels over several days overlap. So blocks of
    consecutive dates are drawn with replacement, the last date being followed by the first
    (circular block bootstrap). The draws are made once; every figure sees the same ones.

    Parameters
    ----------
    dates : array-like, shape (n_rows,)
        Each row's date, in any order.
    block_length : int
        Dates per block; `block_length(horizon)` knows how many.
    n_resamples : int
        Number of resamples.
    random_state : int
        Seed.

    Attributes
    ----------
    days : ndarray, shape (n_days,)
        The different dates, ascending.
    day_of_row : ndarray of int, shape (n_rows,)
        Where in `days` each row's date stands.

    Raises
    ------
    ValueError
        Without dates, with missing ones, or with a count below 1.

    References
    ----------
    H. R. Künsch, "The jackknife and the bootstrap for general stationary observations",
    Annals of Statistics 17 (1989). D. N. Politis and J. P. Romano, "A circular
    block-resampling procedure for stationary data", in *Exploring the Limits of Bootstrap*,
    Wiley 1992.

    Examples
    --------
    Two rows a day; the mean of their values, were the days others.

    >>> values = np.arange(80) % 7
    >>> bootstrap = DateBootstrap(np.arange(80) // 2, block_length=5)
    >>> mean = ratio_of_sums(bootstrap.day_sums(values), bootstrap.day_sums(np.ones(80)))
    >>> found = bootstrap.interval(mean)
    >>> bool(found.low < found.value == values.mean() < found.high)
    True
    """

    days: NDArray[Any]
    day_of_row: NDArray[np.intp]

    def __init__(
        self,
        dates: ArrayLike,
        *,
        block_length: int,
        n_resamples: int = 1000,
        random_state: int = 0,
    ) -> None:
        if block_length < 1 or n_resamples < 1:
            raise ValueError(
                "block_length and n_resamples must be 1 or more, not "
                f"{block_length} and {n_resamples}."
            )
        given = np.asarray(dates)
        if given.ndim != 1 or not len(given) or pd.isna(given).any():
            raise ValueError(
                "Each row needs its date, and at least one row is needed; there are "
                f"{int(pd.isna(given).sum())} missing dates, and the shape is {given.shape}."
            )
        self.days, self.day_of_row = np.unique(given, return_inverse=True)
        self.block_length = block_length
        self.n_resamples = n_resamples
        self.random_state = random_state

    @property
    def n_blocks(self) -> int:
        """Whole blocks that the dates make."""
        return len(self.days) // self.block_length

    def day_sums(self, values: ArrayLike) -> Floats:
        """Add up each day's rows; shape (n_rows,) becomes (n_days,).

        Raises
        ------
        ValueError
            When there is not one value per row.
        """
        summands = np.asarray(values, dtype=np.float64)
        if summands.shape != self.day_of_row.shape:
            raise ValueError(
                f"One value for each of the {len(self.day_of_row)} dated rows is needed; the "
                f"shape is {summands.shape}."
            )
        sums = np.bincount(self.day_of_row, weights=summands, minlength=len(self.days))
        return sums.astype(np.float64, copy=False)

    def resample(self, statistic: Statistic) -> Floats:
        """Return the statistic of each resample, shape (n_resamples,); NaN where it has none.

        Below two blocks of dates there is nothing to resample, and the shape is (0,).

        Parameters
        ----------
        statistic : callable
            Given weights of days, shape (n, n_days), it answers with shape (n,).
        """
        if self.n_blocks < 2:
            return np.empty(0)
        # A statistic may spread the weights over the rows.
        chunk = max(1, _CHUNK // max(len(self.day_of_row), len(self.days)))
        return np.concatenate(
            [
                statistic(self._counts[first : first + chunk].astype(np.float64))
                for first in range(0, self.n_resamples, chunk)
            ]
        )

    def interval(self, statistic: Statistic, *, confidence: float = 0.95) -> Interval:
        """Return the statistic with the interval between percentiles of its resamples.

        The fewer blocks there are, the wider ones (expanded percentile interval). Resamples
        on which the statistic is NaN are left out. The ends are NaN, and no resamples
        counted, below two blocks of dates and where the statistic of all rows is NaN.

        Parameters
        ----------
        statistic : callable
            Given weights of days, shape (n, n_days), it answers with shape (n,), NaN where
            it cannot be said. Weights of one are the rows as they are.
        confidence : float
            Above 0 and below 1.

        Raises
        ------
        ValueError
            When the confidence is none.

        References
        ----------
        T. C. Hesterberg, "What teachers should know about the bootstrap", The American
        Statistician 69 (2015), on the expansion.
        """
        _check_confidence(confidence)
        value, resampled = self._ask(statistic)
        if not len(resampled):
            low = high = float("nan")
        else:
            tail = _expanded_tail(confidence, self.n_blocks)
            low, high = (float(end) for end in np.quantile(resampled, [tail, 1 - tail]))
        return Interval(
            value, low, high, confidence, self.block_length, len(resampled), self.n_blocks
        )

    def p_value(self, statistic: Statistic, *, confidence: float = 0.95) -> float:
        """Return how likely so large a statistic, up or down, would be were the true one 0.

        It is the share of resamples that stray from the statistic as far as it is from 0, the
        sample itself counted as one of them, so that no p-value is 0. How far resamples stray
        is stretched as the interval of that confidence is: without it, few blocks make
        p-values far too small. NaN where the interval's ends are.

        Parameters
        ----------
        statistic : callable
            As in `interval`.
        confidence : float
            Of the interval it is read beside: at 0.95, a p-value of 0.05 goes with an interval
            that ends at 0, or nearly.

        Raises
        ------
        ValueError
            When the confidence is none.

        References
        ----------
        A. C. Davison and D. V. Hinkley, *Bootstrap Methods and their Application*, Cambridge
        University Press 1997, section 4.4, on the p-value; `interval`'s on the stretching.
        """
        _check_confidence(confidence)
        value, resampled = self._ask(statistic)
        if not len(resampled):
            return float("nan")
        strayed = np.abs(resampled - value) * _expansion(confidence, self.n_blocks)
        return float((1 + np.count_nonzero(strayed >= abs(value))) / (1 + len(resampled)))

    def _ask(self, statistic: Statistic) -> tuple[float, Floats]:
        """Return the statistic of the rows as they are, and of those resamples that have one."""
        value = float(statistic(np.ones((1, len(self.days))))[0])
        resampled = np.empty(0) if np.isnan(value) else self.resample(statistic)
        return value, resampled[~np.isnan(resampled)]

    @cached_property
    def _counts(self) -> NDArray[np.int32]:
        """How often each resample drew each day; shape (n_resamples, n_days)."""
        n_days = len(self.days)
        generator = np.random.default_rng(self.random_state)
        n_drawn = -(-n_days // self.block_length)
        starts = generator.integers(n_days, size=(self.n_resamples, n_drawn))
        counts = np.empty((self.n_resamples, n_days), dtype=np.int32)
        chunk = max(1, _CHUNK // n_days)
        for first in range(0, self.n_resamples, chunk):
            draws = _draw_days(starts[first : first + chunk], n_days, self.block_length)
            counts[first : first + chunk] = _count_days(draws, n_days)
        return counts


def block_length(horizon: int) -> int:
    """Return how many dates move together when labels look `horizon` trading days ahead.

    Labels overlap over the horizon, so blocks are twice as long; never below ten days, for
    volatility lasts too.

    Raises
    ------
    ValueError
        When the horizon is below one day.

    Examples
    --------
    >>> block_length(1), block_length(20)
    (10, 40)
    """
    if horizon < 1:
        raise ValueError(f"The horizon must be 1 trading day or more, not {horizon}.")
    return max(10, 2 * horizon)


def ratio_of_sums(
    numerator: ArrayLike, denominator: ArrayLike, *, otherwise: float = np.nan
) -> Statistic:
    """Return the statistic that is one weighted sum over days divided by another.

    Parameters
    ----------
    numerator, denominator : array-like of float, shape (n_days,)
        Each day's share of the sums, as `DateBootstrap.day_sums` gives.
    otherwise : float
        What it is where the lower sum is zero.
    """
    above, below = (np.asarray(sums, dtype=np.float64) for sums in (numerator, denominator))

    def statistic(weights: Floats) -> Floats:
        upper, lower = weights @ above, weights @ below
        ratio: Floats = np.full(len(weights), otherwise, dtype=np.float64)
        np.divide(upper, lower, out=ratio, where=lower != 0)
        return ratio

    return statistic


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, such as 0.95, not {confidence}.")


def _student_quantile(confidence: float, n_blocks: int) -> float:
    """Return the two-sided quantile; below two blocks, an unknown number, the normal one."""
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    if n_blocks < 2:
        return _normal_quantile(confidence)
    return float(stdtrit(n_blocks - 1, (1 + confidence) / 2))


def _normal_quantile(confidence: float) -> float:
    from scipy.special import ndtri

    return float(ndtri((1 + confidence) / 2))


def _expansion(confidence: float, n_blocks: int) -> float:
    """Return how much wider than its plain percentiles an interval ought to be.

    Plain percentiles are too narrow for few observations: they know the normal
    distribution's quantile where Student's is due, and a variance that divides by n where
    n - 1 is due. An observation here is a block.
    """
    student = _student_quantile(confidence, n_blocks)
    return student * float(np.sqrt(n_blocks / (n_blocks - 1))) / _normal_quantile(confidence)


def _expanded_tail(confidence: float, n_blocks: int) -> float:
    """Return the share of resamples to leave out at each end of an expanded interval."""
    from scipy.special import ndtr

    return float(ndtr(-_normal_quantile(confidence) * _expansion(confidence, n_blocks)))


def _draw_days(starts: NDArray[np.int64], n_days: int, block_length: int) -> NDArray[np.intp]:
    """Follow each block from its first day; shape (n_resamples, n_days) of days."""
    days = (starts[:, :, None] + np.arange(block_length)) % n_days
    return days.reshape(len(starts), -1)[:, :n_days].astype(np.intp)


def _count_days(draws: NDArray[np.intp], n_days: int) -> NDArray[np.intp]:
    """Count how often each resample drew each day; shape (n_resamples, n_days)."""
    offsets = np.arange(len(draws))[:, None] * n_days
    counts = np.bincount((draws + offsets).ravel(), minlength=len(draws) * n_days)
    return counts.reshape(len(draws), n_days)
