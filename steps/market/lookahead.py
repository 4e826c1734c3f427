"""Which features of a set look ahead: asked of the prices at hand, not of the formulas.

A feature's value on a day must not depend on the days after it. So the later days are taken away,
and then replaced by others, and every value that should not care is compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from steps.market.bars import Array, Ohlcv, bars_by_symbol, symbol_runs
from steps.market.feature_set import Feature, FeatureSet

LaterRows = Literal["cut off", "changed"]
# The dates of later rows are moved too, by no whole number of weeks.
_DELAY = np.timedelta64(10, "D")


@dataclass(frozen=True, kw_only=True)
class LookAhead:
    """One place where a feature knew what was still to come.

    Attributes
    ----------
    feature, symbol : str
    date : str
        The first day that differs, as 2024-01-31.
    value : float
        The feature's value on that day, computed on all rows.
    value_before : float
        Its value without the later rows, or with the changed ones.
    rows : int
        How many of the symbol's rows differ.
    later_rows : {"cut off", "changed"}
        What was done to the later rows.
    """

    feature: str
    symbol: str
    date: str
    value: float
    value_before: float
    rows: int
    later_rows: LaterRows

    def describe(self) -> dict[str, str | int | float | None]:
        """Return the fields, ready for JSON; a value that is not finite is None."""
        values = {"value": self.value, "value_before": self.value_before}
        known = {name: value if np.isfinite(value) else None for name, value in values.items()}
        return {**vars(self), **known}


def find_lookahead(
    prices: pd.DataFrame,
    feature_set: FeatureSet,
    *,
    cuts: tuple[float, ...] = (0.6, 0.8, 1.0),
    most_symbols: int = 20,
) -> list[LookAhead]:
    """Find the features whose value at t changes when later rows do.

    Each symbol's rows are cut off after a few places, the features computed on what is left, and
    compared with those computed on all rows: the same 32 bits, or the feature looks ahead. At the
    middle place the later rows are also replaced, once by prices and volumes above, once by
    prices and volumes below everything the symbol has seen. That finds what a cut leaves as it
    is: a division by a maximum that came early, or a guess at tomorrow, filled in on the last
    day, that happens to be right.

    Parameters
    ----------
    prices : DataFrame
        As `load_prices` returns it.
    feature_set : FeatureSet
    cuts : tuple of float
        Shares of a symbol's rows to keep, above 0 and up to 1; 1 keeps all rows but the last. A
        place with fewer than `feature_set.min_rows` rows before it is passed over.
    most_symbols : int
        Symbols to look at, at least 1, spread evenly over the table: this bounds the cost.

    Returns
    -------
    list of LookAhead
        One per feature that looks ahead, the first place found; in the order of the set.

    Raises
    ------
    ValueError
        If `prices` is not sorted, or a parameter is out of range.

    Notes
    -----
    A feature that knows the future by heart, from outside of `prices`, is not found.
    """
    if not cuts or not all(0 < cut <= 1 for cut in cuts) or most_symbols < 1:
        raise ValueError(
            "cuts must be one or more shares above 0 and up to 1, and most_symbols at least 1; "
            f"found {cuts} and {most_symbols}"
        )
    found: dict[str, LookAhead] = {}
    for symbol, bars in _spread(prices, feature_set.min_rows + 1, most_symbols):
        unsuspected = [each for each in feature_set.features if each.name not in found]
        for look in _look_at(bars, symbol, unsuspected, feature_set.lookback, cuts):
            found.setdefault(look.feature, look)
    return [found[name] for name in feature_set.names if name in found]


def _spread(prices: pd.DataFrame, min_rows: int, most: int) -> Iterator[tuple[str, Ohlcv]]:
    """Yield at most `most` symbols of at least `min_rows` rows, evenly spread, and their bars."""
    starts, lengths = symbol_runs(prices)
    long_enough = np.flatnonzero(lengths >= min_rows)
    chosen = np.linspace(0, len(long_enough) - 1, min(most, len(long_enough))).round().astype(int)
    for run in long_enough[chosen]:
        part = prices.iloc[starts[run] : starts[run] + lengths[run]]
        (bars,) = bars_by_symbol(part, min_rows=min_rows)
        yield str(part["symbol"].iloc[0]), bars


def _look_at(
    bars: Ohlcv,
    symbol: str,
    features: list[Feature],
    lookback: int,
    cuts: tuple[float, ...],
) -> Iterator[LookAhead]:
    """Yield every place where a feature of one symbol changes with the later rows."""
    whole = {each.name: _values(each, bars) for each in features}
    for kept, later_rows, other in _other_futures(bars, lookback, cuts):
        for feature in features:
            now, before = whole[feature.name], _values(feature, other)
            differ = lookback + np.flatnonzero(_differ(now[lookback:kept], before[lookback:kept]))
            if differ.size:
                row = differ[0]
                yield LookAhead(
                    feature=feature.name,
                    symbol=symbol,
                    date=str(bars.date[row]),
                    value=float(now[row]),
                    value_before=float(before[row]),
                    rows=differ.size,
                    later_rows=later_rows,
                )


def _other_futures(
    bars: Ohlcv, lookback: int, cuts: tuple[float, ...]
) -> Iterator[tuple[int, LaterRows, Ohlcv]]:
    """Yield the bars with other later rows, or none, and how many rows are as they were."""
    rows = bars.close.size
    places = sorted({min(int(cut * rows), rows - 1) for cut in cuts})
    places = [kept for kept in places if kept > lookback]
    for kept in places:
        yield kept, "cut off", _cut_off(bars, kept)
    if places:
        middle = places[len(places) // 2]
        for higher in (True, False):
            yield middle, "changed", _changed(bars, middle, higher=higher)


def _cut_off(bars: Ohlcv, kept: int) -> Ohlcv:
    return Ohlcv(**{name: column[:kept] for name, column in vars(bars).items()})


def _changed(bars: Ohlcv, kept: int, *, higher: bool) -> Ohlcv:
    """Put every later row at a level that no row has, none like another; bars remain bars."""
    later = slice(kept, None)
    stretch = np.random.default_rng(kept).uniform(2.0, 4.0, bars.close.size - kept)
    if higher:
        factor = stretch * bars.high.max() / bars.low[later]
        volume = stretch * (bars.volume.max() + 1.0)
    else:
        factor = bars.low.min() / stretch / bars.high[later]
        volume = bars.volume.min() / stretch
    prices = {
        name: _with_later(column, column[later] * factor)
        for name, column in vars(bars).items()
        if name in ("open", "high", "low", "close")
    }
    return replace(
        bars,
        **prices,
        volume=_with_later(bars.volume, volume),
        date=np.concatenate([bars.date[:kept], bars.date[later] + _DELAY]),
    )


def _with_later(column: Array, later: Array) -> Array:
    return np.concatenate([column[: column.size - later.size], later])


def _values(feature: Feature, bars: Ohlcv) -> NDArray[np.float32]:
    """Compute a feature to the precision of the feature table."""
    with np.errstate(all="ignore"):  # changed rows may lead anywhere, and are not looked at
        return feature.compute(bars).astype(np.float32)


def _differ(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.not_equal(left, right) & ~(np.isnan(left) & np.isnan(right))
