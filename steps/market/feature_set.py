"""What a feature and a set of features are, and how a set is computed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from steps.market.bars import Array, Ohlcv, bars_by_symbol, symbol_runs


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One number per symbol and day, known at that day's close.

    Attributes
    ----------
    name : str
        The column's name.
    formula : str
        The formula, in one line.
    source : str
        The paper or book it comes from.
    lookback : int
        Earlier rows needed: row `lookback` (counted from 0) of a symbol has the first value.
    low, high : float
        The range that no value leaves; may be infinite.
    compute : callable
        From one symbol's bars to one float64 per row, NaN in the first `lookback` rows.
    settles : int, optional
        Rows after which where the history starts no longer shows; None: with the first value.
        A recursive mean never drops its first row, it only forgets it.
    """

    name: str
    formula: str
    source: str
    lookback: int
    low: float
    high: float
    compute: Callable[[Ohlcv], Array]
    settles: int | None = None


@dataclass(frozen=True, kw_only=True)
class FeatureSet:
    """Features that are computed, stored and learned from together.

    Attributes
    ----------
    name : str
    version : str
        Raised whenever a feature is added, removed or means something else.
    features : tuple of Feature
        In the order of the table's columns.
    """

    name: str
    version: str
    features: tuple[Feature, ...]

    def __post_init__(self) -> None:
        repeated = sorted({name for name in self.names if self.names.count(name) > 1})
        if repeated:
            raise ValueError(
                f"feature set {self.name!r} declares {', '.join(repeated)} more than once; "
                "every feature needs a name of its own"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The features' names, in column order."""
        return tuple(feature.name for feature in self.features)

    @property
    def lookback(self) -> int:
        """Rows at the start of every symbol that lack a feature or more."""
        return max((feature.lookback for feature in self.features), default=0)

    @property
    def min_rows(self) -> int:
        """Rows a symbol needs to yield one row of features."""
        return self.lookback + 1

    @property
    def settled_rows(self) -> int:
        """Rows a symbol needs for its last row of features to be that of any longer history.

        To the bit, as stored (float32), if its prices move; `features` says how sure that is.
        """
        return 1 + max((max(each.lookback, each.settles or 0) for each in self.features), default=0)


def compute_features(prices: pd.DataFrame, feature_set: FeatureSet) -> pd.DataFrame:
    """Compute a feature set for every symbol.

    Parameters
    ----------
    prices : DataFrame, one row per symbol and day
        Columns `date` (datetime64), `symbol`, `open`, `high`, `low`, `close`, `volume` (float64),
        validated and sorted by symbol and date, as `load_prices` returns it.
    feature_set : FeatureSet

    Returns
    -------
    DataFrame, shape (rows, 2 + number of features)
        `date`, `symbol` and one float32 column per feature, sorted like `prices`. A symbol's first
        `feature_set.lookback` rows are left out; a symbol with no more rows than that, altogether.

    Raises
    ------
    ValueError
        If `prices` is not sorted, or if a value is not finite: the message names feature, symbol
        and date.

    Notes
    -----
    A row depends on its own symbol's rows up to its date, and on nothing else.
    """
    starts, lengths = symbol_runs(prices)
    lookback = feature_set.lookback
    kept = np.arange(len(prices)) - np.repeat(starts, lengths) >= lookback
    # One row per feature: each column of the resulting table is then contiguous memory.
    values = np.empty((len(feature_set.features), np.count_nonzero(kept)), dtype=np.float32)
    done = 0
    for bars in bars_by_symbol(prices, min_rows=feature_set.min_rows):
        end = done + bars.close.size - lookback
        with np.errstate(all="ignore"):  # what is not finite is told below, with its place
            for row, feature in zip(values, feature_set.features, strict=True):
                row[done:end] = feature.compute(bars)[lookback:]
        done = end
    values += np.float32(0.0)  # -0.0 becomes 0.0: equal features, equal bytes
    table = pd.DataFrame(values.T, columns=list(feature_set.names), copy=False)
    table.insert(0, "date", prices["date"].array[kept])
    table.insert(1, "symbol", prices["symbol"].array[kept])
    _require_finite(table, values, feature_set)
    return table


def _require_finite(
    table: pd.DataFrame, values: NDArray[np.float32], feature_set: FeatureSet
) -> None:
    for name, column in zip(feature_set.names, values, strict=True):
        finite = np.isfinite(column)
        if not finite.all():
            row = int(finite.argmin())
            raise ValueError(
                f"feature {name} must be finite, found {column[row]} for "
                f"{table['symbol'].iloc[row]} on {table['date'].iloc[row]:%Y-%m-%d} "
                f"({np.count_nonzero(~finite)} such rows in all); look for missing, zero or absurd "
                "prices and volumes of that symbol up to that date"
            )
