"""Every symbol's history as arrays: its rows, its moves from day to day, its runs of one close."""

from datetime import date
from functools import cached_property
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from steps.market.bars import Array, symbol_runs

Counts: TypeAlias = NDArray[np.int64]
Dates: TypeAlias = NDArray[np.datetime64]


class Histories:
    """A prices table, asked about each of its symbols.

    Parameters
    ----------
    prices : DataFrame, shape (n_rows, 7)
        As `load_prices` returns it: checked, sorted by symbol and date.
    since : date, optional
        Moves, runs and missing days are looked for from this date on only.

    Attributes
    ----------
    symbols : list of str
        Sorted like `prices`, as are all arrays.
    rows : ndarray of int64, one per symbol
    first, last : ndarray of datetime64, one per symbol
        Its first and last date.
    date, close : ndarray, one per row
    of : ndarray of int64, one per row
        The place in `symbols` of the row's symbol.
    ratio, open_ratio : ndarray of float64, one per row
        Close and open over the symbol's close before; NaN where there is none, or before `since`.
    run_first, run_last : ndarray of int64, one per run
        First and last row of every run of equal closes of one symbol, with one row or more.
    run_length : ndarray of int64, one per run
        Its rows; 0 if it ends before `since`.

    Raises
    ------
    ValueError
        If `prices` is not sorted.
    """

    def __init__(self, prices: pd.DataFrame, since: date | None = None) -> None:
        self._starts, self.rows = symbol_runs(prices)
        self.symbols: list[str] = prices["symbol"].iloc[self._starts].tolist()
        self.of = np.repeat(np.arange(self.rows.size), self.rows)
        self.date: Dates = prices["date"].to_numpy()
        self.close: Array = prices["close"].to_numpy()
        self.first = self.date[self._starts]
        self.last = self.date[self._starts + self.rows - 1]
        self._volume: Array = prices["volume"].to_numpy()
        self._recent = np.ones(self.close.size, dtype=bool)
        if since is not None:
            self._recent = self.date >= np.datetime64(since, "s")

        before = np.roll(self.close, 1)  # of another symbol on a symbol's first row
        is_first = np.zeros(self.close.size, dtype=bool)
        is_first[self._starts] = True
        moves = self._recent & ~is_first
        self.ratio = np.where(moves, self.close / before, np.nan)
        self.open_ratio = np.where(moves, prices["open"].to_numpy() / before, np.nan)

        self.run_first = np.flatnonzero(is_first | (self.close != before))
        self.run_last = np.append(self.run_first[1:], self.close.size)[: self.run_first.size] - 1
        lengths = self.run_last - self.run_first + 1
        self.run_length: Counts = np.where(self._recent[self.run_last], lengths, 0)

    def recent_rows(self) -> Counts:
        """Count each symbol's rows from `since` on."""
        return self._count(self._recent)

    def zero_volume_days(self) -> Counts:
        """Count each symbol's rows without volume."""
        return self._count(self._recent & (self._volume == 0.0))

    def longest_unchanged(self) -> Counts:
        """Return the rows of each symbol's longest run; 0 if none reaches `since`."""
        longest = np.zeros(self.rows.size, dtype=np.int64)
        np.maximum.at(longest, self.of[self.run_first], self.run_length)
        return longest

    def largest_moves(self) -> Array:
        """Return each symbol's one-day return of the largest size; NaN if it has none."""
        moves = self.ratio - 1.0
        up, down = np.fmax.reduceat(moves, self._starts), np.fmin.reduceat(moves, self._starts)
        return np.where(up >= -down, up, down)

    def missing_days(self) -> Counts:
        """Count each symbol's days missed: see `days_missed_by`."""
        days = self._market_days
        begin = np.searchsorted(days, self.first)
        end = np.searchsorted(days, self.last, side="right")
        missing: Counts = end - begin - self._count(np.isin(self.date, days))
        return missing

    def days_missed_by(self, symbol: np.intp) -> Dates:
        """Find the dates on which a symbol has no row, but most others have.

        Parameters
        ----------
        symbol : int
            Its place in `symbols`.

        Returns
        -------
        ndarray of datetime64
            Dates between the symbol's first and last without a row of it, on which there is one
            of more than half of the other symbols whose first and last date enclose that date.
        """
        own = self.date[self._starts[symbol] : self._starts[symbol] + self.rows[symbol]]
        days = self._market_days
        within = days[(days >= own[0]) & (days <= own[-1])]
        return np.setdiff1d(within, own, assume_unique=True)

    @cached_property
    def _market_days(self) -> Dates:
        """Dates, from `since` on, that a symbol without a row misses if it encloses them.

        It is then itself one of the symbols that enclose the date, without being present.
        """
        days, present = np.unique(self.date[self._recent], return_counts=True)
        begun = np.searchsorted(np.sort(self.first), days, side="right")
        ended = np.searchsorted(np.sort(self.last), days, side="left")
        others = begun - ended - 1
        return days[2 * present > others]

    def _count(self, flags: NDArray[np.bool_]) -> Counts:
        return np.bincount(self.of[flags], minlength=self.rows.size).astype(np.int64)
