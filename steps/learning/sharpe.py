"""Return per unit of risk, and how much of it is luck."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from steps.learning.scores import Floats


def sharpe_ratio(returns: ArrayLike) -> float:
    """Return the mean return divided by its standard deviation (ddof=1), per period.

    Parameters
    ----------
    returns : array-like of float, shape (n_periods,)
        Returns in excess of the riskless rate, one per period.

    Returns
    -------
    float
        Not annualised; NaN where it is undefined: fewer than two periods, or all returns
        equal.

    Raises
    ------
    ValueError
        When returns are missing, infinite or not one-dimensional.

    References
    ----------
    W. F. Sharpe, "The Sharpe ratio", Journal of Portfolio Management 21(1) (1994).

    Examples
    --------
    The mean is 0.01, the standard deviation 0.02.

    >>> round(sharpe_ratio([-0.01, 0.01, 0.03]), 6)
    0.5
    """
    sample = _check_returns(returns)
    if _is_constant(sample):
        return math.nan
    return float(sample.mean() / sample.std(ddof=1))


def annualise(sharpe: float, periods: float = 252) -> float:
    """Return a per-period Sharpe ratio per year, as if periods were independent.

    Parameters
    ----------
    sharpe : float
        Per period.
    periods : float
        Periods in a year: 252 trading days.

    Raises
    ------
    ValueError
        When a year has no periods.

    References
    ----------
    A. W. Lo, "The statistics of Sharpe ratios", Financial Analysts Journal 58(4) (2002): the
    square root holds for independent returns, and flatters those that trend.

    Examples
    --------
    >>> annualise(0.1, periods=100)
    1.0
    """
    if not periods > 0:
        raise ValueError(f"A year must have a positive number of periods, not {periods}.")
    return sharpe * math.sqrt(periods)


def probabilistic_sharpe_ratio(returns: ArrayLike, benchmark: float = 0.0) -> float:
    """Return the probability that the true Sharpe ratio is above a benchmark.

    Parameters
    ----------
    returns : array-like of float, shape (n_periods,)
        As in `sharpe_ratio`.
    benchmark : float
        A Sharpe ratio per period.

    Returns
    -------
    float
        Between 0 and 1; NaN where the Sharpe ratio is undefined.

    Raises
    ------
    ValueError
        When returns are missing, infinite or not one-dimensional.

    References
    ----------
    See `probabilistic_sharpe_from_moments`.
    """
    sample = _check_returns(returns)
    if _is_constant(sample):
        return math.nan
    scaled = (sample - sample.mean()) / sample.std()
    return probabilistic_sharpe_from_moments(
        sharpe_ratio(sample),
        len(sample),
        skew=float((scaled**3).mean()),
        kurtosis=float((scaled**4).mean()),
        benchmark=benchmark,
    )


def probabilistic_sharpe_from_moments(
    sharpe: float, n: int, *, skew: float, kurtosis: float, benchmark: float = 0.0
) -> float:
    r"""Return the probability that the true Sharpe ratio is above a benchmark.

    .. math:: \Phi\left(\frac{(S - S^*)\sqrt{n - 1}}
              {\sqrt{1 - \gamma_3 S + \frac{\gamma_4 - 1}{4} S^2}}\right)

    Parameters
    ----------
    sharpe, benchmark : float
        :math:`S` and :math:`S^*`, per period.
    n : int
        Periods.
    skew, kurtosis : float
        :math:`\gamma_3` and :math:`\gamma_4` of the returns; a normal distribution has 0
        and 3.

    Returns
    -------
    float
        NaN below two periods, and where the moments leave the ratio no variance.

    References
    ----------
    D. H. Bailey and M. López de Prado, "The Sharpe ratio efficient frontier", Journal of
    Risk 15(2) (2012).

    Examples
    --------
    Two standard errors above the benchmark.

    >>> found = probabilistic_sharpe_from_moments(0.2, 101, skew=0, kurtosis=1)
    >>> round(found, 4)
    0.9772
    """
    from scipy.special import ndtr  # type: ignore[import-untyped]

    variance = 1 - skew * sharpe + (kurtosis - 1) / 4 * sharpe**2
    if n < 2 or not variance > 0:
        return math.nan
    return float(ndtr((sharpe - benchmark) * math.sqrt((n - 1) / variance)))


def expected_max_sharpe(n_trials: int, variance: float) -> float:
    r"""Return the Sharpe ratio that the best of trials without skill is expected to show.

    .. math:: \sqrt{V} \left((1 - \gamma)\,\Phi^{-1}(1 - 1/N)
              + \gamma\,\Phi^{-1}(1 - 1/(N e))\right)

    with Euler's constant :math:`\gamma`, for N independent trials around a mean of zero.

    Parameters
    ----------
    n_trials : int
        N; the best of one trial is expected to show nothing.
    variance : float
        V, of the trials' Sharpe ratios, per period.

    Raises
    ------
    ValueError
        Below one trial, or when the variance is negative or NaN.

    References
    ----------
    D. H. Bailey and M. López de Prado, "The deflated Sharpe ratio", Journal of Portfolio
    Management 40(5) (2014).

    Examples
    --------
    >>> round(expected_max_sharpe(100, 0.002), 4)
    0.1132
    """
    from scipy.special import ndtri

    if n_trials < 1 or not variance >= 0:
        raise ValueError(
            "At least one trial and a variance of 0 or more are needed, not "
            f"{n_trials} and {variance}."
        )
    if n_trials == 1:
        return 0.0
    best = (1 - np.euler_gamma) * ndtri(1 - 1 / n_trials)
    best += np.euler_gamma * ndtri(1 - 1 / (n_trials * math.e))
    return float(math.sqrt(variance) * best)


def deflated_sharpe_ratio(returns: ArrayLike, trial_sharpes: Sequence[float] | Floats) -> float:
    """Return the probability that the true Sharpe ratio beats the luck of so many trials.

    It is the probabilistic Sharpe ratio against the one that the best of the trials would be
    expected to show without skill. How far trials scatter is seldom known: a few say little,
    and near-copies of one model hardly differ. So, our conservative choice, the variance is
    the larger of the trials' own (ddof=1) and 1 / (n_periods - 1), that of one Sharpe ratio
    without skill.

    Parameters
    ----------
    returns : array-like of float, shape (n_periods,)
        As in `sharpe_ratio`.
    trial_sharpes : sequence of float
        Sharpe ratios per period of all trials so far, this one included. A NaN is a trial
        whose ratio is unknown: it counts as a trial all the same.

    Returns
    -------
    float
        Between 0 and 1; NaN where the Sharpe ratio is undefined. Below two trials there is
        nothing to deflate, and the benchmark is 0.

    Raises
    ------
    ValueError
        When returns are missing, infinite or not one-dimensional.

    References
    ----------
    D. H. Bailey and M. López de Prado, "The deflated Sharpe ratio", Journal of Portfolio
    Management 40(5) (2014).
    """
    sample, trials = _check_returns(returns), np.asarray(trial_sharpes, dtype=np.float64)
    if _is_constant(sample):
        return math.nan
    if len(trials) < 2:
        return probabilistic_sharpe_ratio(sample)
    known = trials[np.isfinite(trials)]
    observed = float(known.var(ddof=1)) if len(known) >= 2 else 0.0
    variance = max(observed, 1 / (len(sample) - 1))
    return probabilistic_sharpe_ratio(sample, expected_max_sharpe(len(trials), variance))


def _check_returns(returns: ArrayLike) -> Floats:
    sample = np.asarray(returns, dtype=np.float64)
    if sample.ndim != 1 or not np.isfinite(sample).all():
        raise ValueError(
            "Returns must be one finite number per period; "
            f"{int((~np.isfinite(sample)).sum())} of {sample.size} are not, and the shape is "
            f"{sample.shape}. A period without a position returns 0."
        )
    return sample


def _is_constant(sample: Floats) -> bool:
    """Tell whether there is no spread beyond rounding, which would make the ratio enormous."""
    return len(sample) < 2 or bool(np.ptp(sample) <= 1e-12 * np.abs(sample).max())
