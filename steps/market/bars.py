"""One symbol's bars as arrays: what every feature is computed from."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Ohlcv:
    """One symbol's daily bars, oldest first, as arrays of one length.

    Attributes
    ----------
    date : ndarray of datetime64[D]
    open, high, low, close : ndarray of float64
        In any unit: a feature may only use ratios of prices.
    volume : ndarray of float64
        In any unit: a feature may only use ratios of volumes.
    """

    date: NDArray[np.datetime64]
    open: Array
    high: Array
    low: Array
    close: Array
    volume: Array


def bars_by_symbol(prices: pd.DataFrame, *, min_rows: int) -> Iterator[Ohlcv]:
    """Cut a prices table into the bars of each symbol that has at least `min_rows` rows.

    Parameters
    ----------
    prices : DataFrame
        Columns `date`, `symbol`, `open`, `high`, `low`, `close`, `volume`, sorted by symbol and
        date.
    min_rows : int

    Yields
    ------
    Ohlcv
        Views of the table's columns, not copies.

    Raises
    ------
    ValueError
        If `prices` is not sorted.
    """
    starts, lengths = symbol_runs(prices)
    date = prices["date"].to_numpy().astype("datetime64[D]")
    # A column may be a stride through a wider block; TA-Lib would then copy every slice of it.
    numbers = {
        name: np.ascontiguousarray(prices[name].to_numpy())
        for name in ("open", "high", "low", "close", "volume")
    }
    for start, length in zip(starts, lengths, strict=True):
        if length >= min_rows:
            rows = slice(start, start + length)
            yield Ohlcv(date=date[rows], **{name: column[rows] for name, column in numbers.items()})


def symbol_runs(prices: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find each symbol's rows in a prices table.

    Returns
    -------
    starts, lengths : ndarray of int64, one element per symbol
        First row and number of rows.

    Raises
    ------
    ValueError
        If `prices` is not sorted: a symbol's rows lie apart, or its dates do not increase.
    """
    symbols, dates = prices["symbol"], prices["date"].to_numpy()
    first = np.ones(len(prices), dtype=bool)
    first[1:] = symbols.ne(symbols.shift()).to_numpy(dtype=bool)[1:]
    starts = np.flatnonzero(first)
    late = np.flatnonzero(~first[1:] & (dates[1:] <= dates[:-1])) + 1
    again = symbols.iloc[starts].duplicated()
    if late.size or again.any():
        row = int(late[0] if late.size else starts[again.to_numpy().argmax()])
        raise ValueError(
            f"prices must be sorted by symbol and date without repeats: row {row} "
            f"({symbols.iloc[row]}, {prices['date'].iloc[row]:%Y-%m-%d}) is out of place; load "
            'them with load_prices, or sort them with prices.sort_values(["symbol", "date"], '
            "ignore_index=True)"
        )
    return starts, np.diff(np.append(starts, len(prices)))
