"""Whether features are spread otherwise than in the rows a model learned from, beyond chance."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import comb
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from steps.learning.drift import population_stability_index
from steps.learning.scores import Floats
from steps.market.price_report import counted

TIME_OF_YEAR: Final = ("month",)
"""Features that say where in the year a date lies: a part of a year is not spread as years are."""

SHORTEST_BLOCK: Final = 21
"""A trading month: features of the core set look back about 20 days."""

# There are 969 ways to pick 3 of 19 blocks, and at most two, the highest and the lowest, are the
# farthest from the others: 2/969 times 24 features is still below 0.05.
_FEWEST_NEW: Final = 3
_FEWEST_REFERENCE: Final = 16

# The distances are read at this many quantiles of the pooled values.
_GRID: Final = 100

# Shares of counts are compared; equal ones may differ by rounding.
_ROUNDING: Final = 1e-12


def drift_table(
    reference: pd.DataFrame,
    new: pd.DataFrame,
    features: Sequence[str],
    *,
    block_length: int | None = None,
    n_resamples: int = 2000,
    alpha: float = 0.05,
    psi_bound: float = 0.25,
    random_state: int = 0,
    time_of_year: Collection[str] = TIME_OF_YEAR,
) -> pd.DataFrame:
    """Compare each feature's new values with those of the reference.

    A feature has drifted where the difference is significant *and* large: significant by a
    Kolmogorov-Smirnov distance that chance hardly reaches, large by the population stability
    index.

    Rows of one date move together, and so do neighbouring dates; a textbook p-value, which counts
    every row as news, would raise an alarm nearly always. So whole blocks of consecutive dates
    change places between the two samples, at random, and the p-value is the share of such
    permutations whose distance is no smaller than the one found (which counts as one of them).
    Dates that fill no block stay in their sample: each permutation has exactly as many dates of
    both as there are.

    Parameters
    ----------
    reference, new : DataFrame, one row per symbol and date
        `date` and the features, finite. The training rows, and those that came since.
    features : sequence of str
        The columns to compare.
    block_length : int, optional
        Dates per block. By default a third of the new dates, for the longer the blocks the more
        memory they keep; but at most a sixteenth of the reference's dates, and at least 21.
    n_resamples : int
        Permutations drawn; where there are no more than twice that, each is taken once.
    alpha : float
        Of tables without drift, at most about this share has any feature that drifted.
    psi_bound : float
        The largest population stability index that is no drift.
    random_state : int
        Seed of the permutations.
    time_of_year : collection of str
        Features that are not compared, for they follow from the date: three months are not
        spread as whole years are, and nothing has drifted. (Days of the week are the same in any
        three weeks.)

    Returns
    -------
    DataFrame, one row per feature, in order
        `feature`; `psi`; `ks`, the distance, 0 to 1; `p_value`; `p_adjusted`, for the number of
        features (Holm); `drifted`, bool. Where `too_little_data` has a reason, p-values are NaN
        and nothing has drifted. Of a feature not compared all numbers are NaN.

    Raises
    ------
    ValueError
        On no rows, missing columns or dates, values that are not finite, a setting out of its
        range, or too few resamples for any p-value to be significant.

    Notes
    -----
    Distances are read at 100 quantiles of the pooled values, so a million rows take no longer to
    permute than a thousand. Of up to 100 pooled rows they are exact; of more, too small by at most
    0.01.

    A new window is one run of neighbouring blocks, which are still more alike than blocks from
    anywhere. How many times farther runs of the reference stray from the rest of it than as many
    blocks from anywhere do, on average, is known; the permuted distances are multiplied by that
    ratio if it is above 1. It takes none more than half the way to 1, so that values unlike all
    before are told from chance. Memory that is long beside the reference itself, such as years of
    calm, is not made up for.

    The smallest p-value is 1 / (n_resamples + 1), and with the fewest blocks that are allowed, 3
    and 16, it is 2/969, for as many permutations are there, and the lowest blocks may lie as far
    out as the highest. Both are significant among 24 features at alpha = 0.05. More features need
    more dates: 48 features need 21 blocks of the reference.

    References
    ----------
    J. T. Præstgaard, "Permutation and bootstrap Kolmogorov-Smirnov tests for the equality of two
    distributions", Scandinavian Journal of Statistics 22 (1995). B. Phipson and G. K. Smyth,
    "Permutation p-values should never be zero", Statistical Applications in Genetics and
    Molecular Biology 9 (2010). D. N. Politis, J. P. Romano and M. Wolf, *Subsampling*, Springer
    1999, on what runs of a series tell of its spread. See `holm` and
    `population_stability_index`.
    """
    measured = [name for name in features if name not in time_of_year]
    _check_settings(len(measured), n_resamples, alpha)
    table = compare_features(
        reference,
        new,
        features,
        block_length=block_length,
        n_resamples=n_resamples,
        random_state=random_state,
        time_of_year=time_of_year,
    )
    return judge_drift(table, alpha=alpha, psi_bound=psi_bound)


def compare_features(
    reference: pd.DataFrame,
    new: pd.DataFrame,
    features: Sequence[str],
    *,
    block_length: int | None = None,
    n_resamples: int = 2000,
    random_state: int = 0,
    time_of_year: Collection[str] = TIME_OF_YEAR,
) -> pd.DataFrame:
    """Measure how far each feature moved, and how likely chance is to move it so far.

    It is `drift_table` without a verdict, for where features with other references belong to the
    same family of tests. Parameters, errors and the first four columns returned are as there.
    """
    compared = [name for name in features if name not in time_of_year]
    _check(reference, new, compared)
    if block_length is not None and block_length < 1:
        raise ValueError(f"block_length must be 1 or more, not {block_length}.")
    counts = reference["date"].nunique(), new["date"].nunique()
    length = _block_length(*counts) if block_length is None else block_length
    enough = _too_little(*counts, length) is None
    blocks = _Blocks.cut(reference["date"], new["date"], length if enough else max(counts) + 1)
    permutations = _Permutations(blocks, n_resamples, random_state)
    found = pd.DataFrame(np.nan, index=pd.Index(features), columns=["psi", "ks", "p_value"])
    for name in compared:
        then, now = (sample[name].to_numpy() for sample in (reference, new))
        distance, p_value = permutations.test(np.concatenate([then, now]))
        index = population_stability_index(then, now)
        found.loc[name] = index, distance, p_value if enough else np.nan
    return found.rename_axis("feature").reset_index()


def judge_drift(table: pd.DataFrame, *, alpha: float, psi_bound: float) -> pd.DataFrame:
    """Say which features drifted, all of a table being one family of tests.

    Parameters
    ----------
    table : DataFrame, one row per feature
        As `compare_features` returns it.
    alpha, psi_bound : float
        As in `drift_table`.

    Returns
    -------
    DataFrame
        The table with `p_adjusted` and `drifted`.
    """
    adjusted = holm(table["p_value"])
    return table.assign(
        p_adjusted=adjusted, drifted=(adjusted < alpha) & (table["psi"] > psi_bound)
    )


def too_little_data(
    reference_dates: ArrayLike, new_dates: ArrayLike, block_length: int = SHORTEST_BLOCK
) -> str | None:
    """Say why nothing can be said of drift, or return None where something can.

    Parameters
    ----------
    reference_dates, new_dates : array-like, shapes (n_rows,) and (m_rows,)
        Each row's date, in any order, any number of rows per date.
    block_length : int
        Dates per block; at least 3 blocks of new dates and 16 of reference dates are needed.

    Examples
    --------
    >>> too_little_data(np.arange(1000), np.arange(1000, 1012))
    '12 new dates, 63 needed (3 blocks of 21): too few to tell drift from chance'
    """
    n_reference, n_new = (len(np.unique(np.asarray(x))) for x in (reference_dates, new_dates))
    return _too_little(n_reference, n_new, block_length)


def smallest_p_value(
    reference_dates: ArrayLike, new_dates: ArrayLike, n_resamples: int = 2000
) -> float:
    """Return the p-value of the clearest drift there could be, as `drift_table` cuts the dates.

    Of few blocks there are few permutations, of which at most two, the highest and the lowest
    blocks, lie farthest out. Where this, times the number of features, is no smaller than alpha,
    nothing can be found.

    Parameters
    ----------
    reference_dates, new_dates : array-like, shapes (n_rows,) and (m_rows,)
        Each row's date; not `too_little_data`.
    n_resamples : int
        Permutations drawn.

    Examples
    --------
    16 blocks of 21 dates, and 3:

    >>> round(smallest_p_value(np.arange(336), np.arange(336, 399)) * 969, 6)
    2.0
    """
    counts = [len(np.unique(np.asarray(x))) for x in (reference_dates, new_dates)]
    length = _block_length(*counts)
    n_reference, n_new = (n_dates // length for n_dates in counts)
    return max(2 / comb(n_reference + n_new, n_new), 1 / (1 + n_resamples))


def holm(p_values: ArrayLike) -> Floats:
    """Adjust p-values for their number, so that any below alpha is a false alarm in alpha of cases.

    The smallest is multiplied by their number, the next by one less, and so on; none may become
    smaller than one before it. It holds however the tests depend on one another.

    Parameters
    ----------
    p_values : array-like of float, shape (n,)

    Returns
    -------
    ndarray, shape (n,)
        In the order given. NaN stays NaN and does not count.

    References
    ----------
    S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6 (1979).

    Examples
    --------
    >>> holm([0.04, 0.01, 0.03])
    array([0.06, 0.03, 0.06])
    """
    adjusted = np.array(p_values, dtype=np.float64)
    ascending = np.argsort(adjusted)[: np.count_nonzero(~np.isnan(adjusted))]  # NaN comes last
    stepped = adjusted[ascending] * np.arange(len(ascending), 0, -1)
    adjusted[ascending] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return adjusted


@dataclass(frozen=True)
class _Blocks:
    """Which block each row belongs to, those of the reference first.

    Blocks are numbered: the new ones, the reference's, and last the new and the reference's dates
    that fill no block.
    """

    of_row: NDArray[np.intp]
    n_new: int
    n_reference: int

    @classmethod
    def cut(cls, reference_dates: pd.Series, new_dates: pd.Series, length: int) -> _Blocks:
        then, n_reference = _cut(reference_dates, length)
        now, n_new = _cut(new_dates, length)
        n_whole = n_new + n_reference
        of_row = [
            np.where(then < n_reference, n_new + then, n_whole + 1),
            np.where(now < n_new, now, n_whole),
        ]
        return cls(np.concatenate(of_row), n_new, n_reference)

    @property
    def n_blocks(self) -> int:
        return self.n_new + self.n_reference + 2


class _Permutations:
    """Blocks that change places, the same ways for every feature."""

    def __init__(self, blocks: _Blocks, n_resamples: int, random_state: int) -> None:
        self.blocks = blocks
        self.n_resamples = n_resamples
        self.random_state = random_state

    def test(self, values: NDArray[Any]) -> tuple[float, float]:
        """Return the distance between new and reference rows, and its p-value."""
        below = _counts_below(values, self.blocks)
        distances = _distances(self._new, below)
        as_far = self._stretched(distances, below) >= distances[0] - _ROUNDING
        as_far[0] = True
        return float(distances[0]), float(np.mean(as_far))

    def _stretched(self, distances: Floats, below: Floats) -> Floats:
        """Make up for neighbours that are more alike than blocks from anywhere."""
        reference = below[self.blocks.n_new : -2]
        if not len(reference):
            return distances
        runs, anywhere = (
            float(_distances(picks, reference).mean()) for picks in self._reference_picks
        )
        stretch = max(1.0, runs / anywhere) if anywhere > 0 else 1.0
        return np.minimum(stretch * distances, (1 + distances) / 2)

    @cached_property
    def _new(self) -> Floats:
        """Which blocks are new in each permutation, the first being what was found."""
        n_whole = self.blocks.n_new + self.blocks.n_reference
        moved = _picks(n_whole, self.blocks.n_new, self.n_resamples, self.random_state)
        return np.column_stack([moved, np.ones(len(moved)), np.zeros(len(moved))])

    @cached_property
    def _reference_picks(self) -> tuple[Floats, Floats]:
        """As many blocks of the reference as are new: neighbouring ones, and any."""
        n_blocks = self.blocks.n_reference
        size = max(1, min(self.blocks.n_new, n_blocks // 2))
        first = np.arange(n_blocks - size + 1)[:, None]
        blocks = np.arange(n_blocks)
        runs = ((first <= blocks) & (blocks < first + size)).astype(np.float64)
        return runs, _picks(n_blocks, size, self.n_resamples, self.random_state)


def _cut(dates: pd.Series, length: int) -> tuple[NDArray[np.intp], int]:
    """Return the number of each row's block, and how many whole blocks there are."""
    day_of_row, days = pd.factorize(dates, sort=True)
    return day_of_row // length, len(days) // length


def _picks(n: int, size: int, n_drawn: int, random_state: int) -> Floats:
    """Pick `size` of n, one row of ones and zeros each time, the first of them first.

    All ways there are, or the first and as many random ones as are to be drawn.
    """
    n_ways = comb(n, size)
    if n_ways <= 2 * n_drawn:
        picks = np.zeros((n_ways, n))
        chosen = np.array(list(combinations(range(n), size)), dtype=np.intp)
        np.put_along_axis(picks, chosen, 1.0, axis=1)
        return picks
    picks = np.tile((np.arange(n) < size).astype(np.float64), (1 + n_drawn, 1))
    np.random.default_rng(random_state).permuted(picks[1:], axis=1, out=picks[1:])
    return picks


def _counts_below(values: NDArray[Any], blocks: _Blocks) -> Floats:
    """Count each block's rows up to each point of the grid; shape (n_blocks, n_points)."""
    quantiles = np.unique(-(-len(values) * np.arange(1, _GRID + 1) // _GRID) - 1)
    grid = np.unique(np.partition(values, quantiles)[quantiles])
    cells = blocks.of_row * len(grid) + np.searchsorted(grid, values)
    counts = np.bincount(cells, minlength=blocks.n_blocks * len(grid))
    return counts.reshape(blocks.n_blocks, -1).cumsum(axis=1).astype(np.float64)


def _distances(picks: Floats, below: Floats) -> Floats:
    """Return how far the blocks of each pick lie from all others; shape (n_picks,).

    The grid's last point is the largest value: up to it, there are all rows.
    """
    picked = picks @ below
    others = below.sum(axis=0) - picked
    gaps = picked / picked[:, -1:] - others / others[:, -1:]
    return np.asarray(np.abs(gaps).max(axis=1), dtype=np.float64)


def _block_length(n_reference: int, n_new: int) -> int:
    return max(SHORTEST_BLOCK, min(n_new // _FEWEST_NEW, n_reference // _FEWEST_REFERENCE))


def _too_little(n_reference: int, n_new: int, block_length: int) -> str | None:
    for what, n_dates, fewest in (
        ("new", n_new, _FEWEST_NEW),
        ("reference", n_reference, _FEWEST_REFERENCE),
    ):
        if n_dates < fewest * block_length:
            return (
                f"{counted(n_dates, f'{what} date')}, {fewest * block_length:,} needed "
                f"({fewest} blocks of {block_length}): too few to tell drift from chance"
            )
    return None


def _check(reference: pd.DataFrame, new: pd.DataFrame, features: Iterable[str]) -> None:
    for what, sample in (("reference", reference), ("new", new)):
        missing = [name for name in ("date", *features) if name not in sample]
        if missing:
            raise ValueError(f"The {what} rows have no column {', '.join(missing)}.")
        if sample.empty or sample["date"].isna().any():
            raise ValueError(
                f"There must be {what} rows, each with its date; there are {len(sample)}, of which "
                f"{sample['date'].isna().sum()} have none."
            )
        for name in features:
            if n_bad := np.count_nonzero(~np.isfinite(sample[name])):
                raise ValueError(f"{name} must be finite; {n_bad} of its {what} values are not.")


def _check_settings(n_features: int, n_resamples: int, alpha: float) -> None:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, such as 0.05, not {alpha}.")
    if n_features >= alpha * (1 + n_resamples):
        raise ValueError(
            f"{n_resamples} resamples cannot make any of {n_features} features significant at "
            f"{alpha:g}; take more than {n_features / alpha:.0f}."
        )
