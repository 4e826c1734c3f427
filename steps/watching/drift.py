"""How new rows are spread, beside those that a model learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

import numpy as np
import pandas as pd

from steps.learning.two_sample import (
    TIME_OF_YEAR,
    compare_features,
    judge_drift,
    smallest_p_value,
    too_little_data,
)
from steps.watching.watched_model import FORECAST

# More would be for an alpha below 0.0005; these take 0.7 GB where there are 240 blocks of dates.
_MOST_RESAMPLES: Final = 100_000


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How the new rows are spread, beside those the model learned from.

    Attributes
    ----------
    table : DataFrame, one row per feature
        As `drift_table` returns it; the last row is the model's own probability.
    psi_bound, alpha : float
        The bounds of `psi` and `p_adjusted`.
    too_little : str
        Why there is too little data to tell of features; "" where there is enough.
    too_little_of_forecasts : str
        The same of the model's own probability, which has another reference.
    """

    table: pd.DataFrame
    psi_bound: float
    alpha: float
    too_little: str
    too_little_of_forecasts: str

    @property
    def drifted(self) -> pd.DataFrame:
        """The rows of what drifted, the furthest first."""
        return _furthest_first(self.table[self.table["drifted"].to_numpy(bool)])

    @property
    def judged(self) -> pd.DataFrame:
        """The rows of what could be judged, the furthest first."""
        return _furthest_first(self.table[self.table["p_adjusted"].notna()])


def find_drift(
    learned: pd.DataFrame,
    unlearned: pd.DataFrame,
    new: pd.DataFrame,
    features: Sequence[str],
    *,
    alpha: float,
    psi_bound: float,
) -> Drift:
    """Compare new rows with those the model knows.

    Features are compared with those of the rows the model learned from. Its forecasts of these
    very rows are no reference: fitted to them, a deep forest spreads them three times as wide as
    any later ones. So forecasts are compared with those of rows it did not learn from. All are one
    family of tests: what is to be rare is that any of them goes off by chance.

    Parameters
    ----------
    learned : DataFrame
        `date` and the features; the rows of the train window.
    unlearned : DataFrame
        `date` and `forecast`; rows after that window and before the new ones, perhaps none.
    new : DataFrame
        `date`, the features and `forecast`.
    features : sequence of str
    alpha, psi_bound : float
        Bounds: see `drift_table`.
    """
    family = _Family(1 + len(set(features).difference(TIME_OF_YEAR)), alpha)
    parts, reasons = [], []
    for reference, names in ((learned, list(features)), (unlearned, [FORECAST])):
        reasons.append(family.too_little(reference, new))
        parts.append(family.compare(reference, new, names, untold=bool(reasons[-1])))
    return Drift(
        table=judge_drift(pd.concat(parts, ignore_index=True), alpha=alpha, psi_bound=psi_bound),
        psi_bound=psi_bound,
        alpha=alpha,
        too_little=reasons[0],
        too_little_of_forecasts=reasons[1],
    )


@dataclass(frozen=True)
class _Family:
    """So many tests at once, one in `1 / alpha` families going off by chance."""

    n_tests: int
    alpha: float

    @property
    def n_resamples(self) -> int:
        """How many permutations it takes for a p-value that is small enough."""
        return min(max(2000, ceil(2 * self.n_tests / self.alpha)), _MOST_RESAMPLES)

    def too_little(self, reference: pd.DataFrame, new: pd.DataFrame) -> str:
        """Say why no drift could be found, however clear; "" where it could."""
        if told := too_little_data(reference["date"], new["date"]):
            return told
        smallest = smallest_p_value(reference["date"], new["date"], self.n_resamples)
        if self.n_tests * smallest < self.alpha:
            return ""
        return (
            f"{reference['date'].nunique():,} reference dates make no p-value below "
            f"{self.n_tests * smallest:.2g}, adjusted for {self.n_tests} tests, and alpha is "
            f"{self.alpha:g}: drift cannot be told from chance"
        )

    def compare(
        self, reference: pd.DataFrame, new: pd.DataFrame, names: Sequence[str], *, untold: bool
    ) -> pd.DataFrame:
        """Return the measures of `compare_features`, without p-values where they tell nothing."""
        if reference.empty:
            return pd.DataFrame({"feature": names, "psi": np.nan, "ks": np.nan, "p_value": np.nan})
        if untold:
            return compare_features(reference, new, names, n_resamples=1).assign(p_value=np.nan)
        return compare_features(reference, new, names, n_resamples=self.n_resamples)


def part_forecasts(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a drift table's rows of features, and that of the model's own probability, or none."""
    is_forecast = table["feature"] == FORECAST
    return table[~is_forecast], table[is_forecast]


def _furthest_first(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values("psi", ascending=False, kind="stable")
