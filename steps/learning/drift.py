"""Whether a feature still looks the way it did when the model learnt from it."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Stands in for an empty bin's share, whose logarithm would be infinite.
_LEAST_SHARE = 1e-4


def population_stability_index(expected: ArrayLike, actual: ArrayLike, bins: int = 10) -> float:
    r"""Return the population stability index between two samples of one feature.

    .. math:: PSI = \sum_i (a_i - e_i) \ln \frac{a_i}{e_i}

    with the shares :math:`e_i` and :math:`a_i` of the expected and the actual sample in bin
    i. By custom, below 0.1 is stable and above 0.25 has shifted.

    The bins are quantiles of `expected`, the outermost open-ended. A feature with no more
    than `bins` different values has one bin for each, and one for all other values. An empty
    bin counts as a share of 0.0001.

    Parameters
    ----------
    expected, actual : array-like of float, shapes (n,) and (m,)
        The feature's values in training and now; finite.
    bins : int
        At least 2.

    Raises
    ------
    ValueError
        On an empty sample, values that are not finite, or fewer than 2 bins.

    References
    ----------
    N. Siddiqi, *Credit Risk Scorecards*, Wiley 2006.

    Examples
    --------
    Half and half became one to three: 0.25 ln(0.75 / 0.5) - 0.25 ln(0.25 / 0.5) = 0.2747.

    >>> round(population_stability_index([0, 0, 1, 1], [0, 1, 1, 1]), 4)
    0.2747
    """
    then, now = (np.asarray(sample, dtype=np.float64) for sample in (expected, actual))
    for name, sample in (("expected", then), ("actual", now)):
        if not sample.size or not np.isfinite(sample).all():
            raise ValueError(f"The {name} sample must hold finite values, and at least one.")
    if bins < 2:
        raise ValueError(f"bins must be 2 or more, not {bins}.")
    values = np.unique(then)
    if len(values) <= bins:
        bin_then, bin_now = (_bin_by_value(sample, values) for sample in (then, now))
        n_bins = len(values) + 1
    else:
        cuts = np.unique(np.quantile(then, np.arange(1, bins) / bins))
        bin_then, bin_now = (np.searchsorted(cuts, sample, side="left") for sample in (then, now))
        n_bins = len(cuts) + 1
    share_then, share_now = (_shares(bin_of, n_bins) for bin_of in (bin_then, bin_now))
    return float(np.sum((share_now - share_then) * np.log(share_now / share_then)))


def _bin_by_value(sample: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Give each row the number of its value; unseen values share the number after the last."""
    nearest = np.minimum(np.searchsorted(values, sample), len(values) - 1)
    return np.where(values[nearest] == sample, nearest, len(values))


def _shares(bin_of: NDArray[np.intp], n_bins: int) -> NDArray[np.float64]:
    return np.maximum(np.bincount(bin_of, minlength=n_bins) / len(bin_of), _LEAST_SHARE)
