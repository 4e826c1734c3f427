"""What is odd about prices that could be loaded: nothing here is refused, all of it is said."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from steps.market.age import weekdays_old
from steps.market.histories import Counts, Histories
from steps.market.price_report import counted, first_of

OddityKind = Literal[
    "all stale",
    "stale",
    "missing",
    "unknown",
    "too few rows",
    "not settled",
    "gaps",
    "zero volume",
    "unchanged",
    "split",
    "large move",
]

MANY_ZERO_VOLUMES: Final = 0.05
"""Share of a symbol's rows above which days without volume are odd."""

LONG_UNCHANGED: Final = 5
"""Equal closes in a row from which on they are odd."""

LARGE_MOVE: Final = 0.5
"""One-day return above which, up or down, it is odd."""

SPLIT_MOVE: Final = 0.3
"""One-day return above which, up or down, it may be a split."""

SPLIT_TOLERANCE: Final = 0.02
"""Relative distance from the ratio of a split within which a move looks like one."""

_HALVES: Final = (3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 30, 40, 50, 100, 200)  # for two old shares
SPLITS: Final = tuple(sorted(Fraction(n, 2) ** way for n in _HALVES for way in (-1, 1)))
"""New price over old price at the usual splits, both ways."""


@dataclass(frozen=True)
class Oddity:
    """One thing that is odd about the prices.

    Attributes
    ----------
    kind : OddityKind
    symbol : str
        "" if it is said of all prices, or of several symbols, which the text then names.
    text : str
        One line, for people.
    """

    kind: OddityKind
    symbol: str
    text: str


@dataclass(frozen=True)
class PriceQuality:
    """The state of some prices.

    Attributes
    ----------
    symbols : DataFrame, one row per symbol
        Sorted by symbol, and from `since` on where that was given:

        - `symbol`, `first_date`, `last_date`, `rows`: of all rows, whatever `since`;
        - `missing_days`: dates from its first to its last on which it has no row, but more than
          half of the other symbols whose own first and last date enclose that date have one. 0
          for a symbol alone;
        - `zero_volume_days`: rows whose volume is 0;
        - `longest_unchanged`: rows of the longest run of equal closes, at least 1. A run that
          reaches into the time from `since` on counts whole; 0 if the symbol has no row then;
        - `largest_move`: the one-day return of the largest size, with its sign; NaN without one;
        - `age`: weekdays from the last date to `as_of`, see `weekdays_old`.
    oddities : sequence of Oddity
        Kind by kind, in the order of `OddityKind`, and sorted by symbol.
    """

    symbols: pd.DataFrame
    oddities: Sequence[Oddity]


def describe_quality(
    prices: pd.DataFrame,
    *,
    known_symbols: Collection[str],
    needed_rows: int,
    settled_rows: int,
    as_of: date,
    max_age: int,
    since: date | None = None,
) -> PriceQuality:
    """Say what is odd about prices.

    Parameters
    ----------
    prices : DataFrame, shape (n_rows, 7)
        As `load_prices` returns it: checked, sorted by symbol and date.
    known_symbols : collection of str
        Those the model was trained on.
    needed_rows : int
        Rows without which a symbol has no features: `FeatureSet.min_rows`.
    settled_rows : int
        Rows from which on features are those of any longer history: `FeatureSet.settled_rows`.
    as_of : date
        The day on which the prices are looked at.
    max_age : int
        Weekdays a symbol's last date may lie before `as_of`.
    since : date, optional
        Look for gaps, moves, unchanged closes and days without volume from this date on only, and
        for rows that features settle with before it.

    Returns
    -------
    PriceQuality

    Raises
    ------
    ValueError
        If `prices` is not sorted.
    """
    histories = Histories(prices, since)
    missing, zero = histories.missing_days(), histories.zero_volume_days()
    age = weekdays_old(histories.last, as_of)
    symbols = pd.DataFrame(
        {
            "symbol": pd.array(histories.symbols, dtype="str"),
            "first_date": histories.first,
            "last_date": histories.last,
            "rows": histories.rows,
            "missing_days": missing,
            "zero_volume_days": zero,
            "longest_unchanged": histories.longest_unchanged(),
            "largest_move": histories.largest_moves(),
            "age": age,
        }
    )
    oddities = (
        *_stale(histories, age, as_of, max_age),
        *_membership(histories, known_symbols),
        *_short(histories, needed_rows),
        *_not_settled(histories, needed_rows, settled_rows, since),
        *_gaps(histories, missing),
        *_zero_volume(histories, zero),
        *_unchanged(histories),
        *_moves(histories),
    )
    return PriceQuality(symbols, oddities)


def _stale(histories: Histories, age: Counts, as_of: date, max_age: int) -> Iterator[Oddity]:
    stale = np.flatnonzero(age > max_age)
    if stale.size and stale.size == age.size:
        newest = age.argmin()
        yield Oddity(
            "all stale",
            "",
            f"all prices are old: the newest are of {_day(histories.last[newest])}, "
            f"{counted(int(age[newest]), 'weekday')} before {as_of}, where {max_age} are allowed",
        )
        return
    for at in stale:
        symbol = histories.symbols[at]
        yield Oddity(
            "stale",
            symbol,
            f"{symbol} ends on {_day(histories.last[at])}, {counted(int(age[at]), 'weekday')} "
            f"before {as_of}, where {max_age} are allowed",
        )


def _membership(histories: Histories, known: Collection[str]) -> Iterator[Oddity]:
    present, trained = set(histories.symbols), set(known)
    if missing := sorted(trained - present):
        text = f"no prices of {counted(len(missing), 'symbol')} that the model was trained on"
        yield Oddity("missing", "", f"{text}: {first_of(missing)}")
    if unknown := sorted(present - trained):
        text = f"{counted(len(unknown), 'symbol')} that the model was not trained on"
        yield Oddity("unknown", "", f"{text}: {first_of(unknown)}")


def _short(histories: Histories, needed: int) -> Iterator[Oddity]:
    rows = histories.rows
    for at in np.flatnonzero(rows < needed):
        symbol = histories.symbols[at]
        yield Oddity(
            "too few rows",
            symbol,
            f"{symbol} has {counted(int(rows[at]), 'row')} of the {needed:,} a forecast needs",
        )


def _not_settled(
    histories: Histories, needed: int, settled: int, since: date | None
) -> Iterator[Oddity]:
    """Yield one oddity: those whose first features asked for would differ, were there more."""
    when, had = "", histories.rows
    if since is not None:
        # The first row from then on is itself one of those that its features are made of.
        when, had, settled = f" before {since}", had - histories.recent_rows(), settled - 1
    short = np.flatnonzero((histories.rows >= needed) & (had < settled))
    if short.size:
        named = (f"{histories.symbols[at]} ({counted(int(had[at]), 'row')})" for at in short)
        yield Oddity(
            "not settled",
            "",
            f"{counted(short.size, 'symbol')} with fewer than {settled:,} rows{when}, so that "
            f"features differ from those of any longer history: {first_of(named)}",
        )


def _gaps(histories: Histories, missing: Counts) -> Iterator[Oddity]:
    for at in np.flatnonzero(missing):
        days = histories.days_missed_by(at)
        symbol = histories.symbols[at]
        yield Oddity(
            "gaps",
            symbol,
            f"{symbol} lacks {counted(days.size, 'day')} on which most other symbols have prices "
            f"({_span(days[0], days[-1])})",
        )


def _zero_volume(histories: Histories, zero: Counts) -> Iterator[Oddity]:
    rows = histories.recent_rows()
    for at in np.flatnonzero(zero > MANY_ZERO_VOLUMES * rows):
        symbol = histories.symbols[at]
        text = f"{symbol} has no volume on {zero[at]:,} of {counted(rows[at], 'day')}"
        yield Oddity("zero volume", symbol, text)


def _unchanged(histories: Histories) -> Iterator[Oddity]:
    of, length = histories.of[histories.run_first], histories.run_length
    runs = np.flatnonzero(length >= LONG_UNCHANGED)
    for run, others in _largest_of_each(runs, of[runs], length[runs]):
        symbol = histories.symbols[of[run]]
        first, last = histories.run_first[run], histories.run_last[run]
        yield Oddity(
            "unchanged",
            symbol,
            f"{symbol} closes at the same price {length[run]:,} days in a row "
            f"({_span(histories.date[first], histories.date[last])})"
            f"{_and_more(others, 'such run')}",
        )


def _moves(histories: Histories) -> Iterator[Oddity]:
    """Yield what looks like a split, then the other large moves."""
    of, size = histories.of, np.abs(histories.ratio - 1.0)
    rows = np.flatnonzero(size > SPLIT_MOVE)
    # A split shows at the open; by the close, the day's own move has come on top of it.
    ratios = np.stack([histories.ratio[rows], histories.open_ratio[rows]])
    distance = np.abs(ratios[:, :, None] / np.array(SPLITS, dtype=np.float64) - 1.0).min(axis=0)
    nearest, is_split = distance.argmin(axis=1), distance.min(axis=1) <= SPLIT_TOLERANCE
    split = {row: SPLITS[at] for row, at in zip(rows[is_split], nearest[is_split], strict=True)}
    for row, others in _largest_of_each(rows[is_split], of[rows[is_split]], size[rows[is_split]]):
        yield Oddity(
            "split",
            histories.symbols[of[row]],
            f"{_describe_move(histories, row)}: near {split[row]}, as at a split that prices are "
            f"not adjusted for{_and_more(others, 'such day')}",
        )
    large = rows[~is_split & (size[rows] > LARGE_MOVE)]
    for row, others in _largest_of_each(large, of[large], size[large]):
        text = _describe_move(histories, row) + _and_more(others, "such day")
        yield Oddity("large move", histories.symbols[of[row]], text)


def _describe_move(histories: Histories, row: np.intp) -> str:
    symbol, ratio = histories.symbols[histories.of[row]], histories.ratio[row]
    return (
        f"{symbol} {'rises' if ratio > 1.0 else 'falls'} {100.0 * abs(ratio - 1.0):.0f} % on "
        f"{_day(histories.date[row])}, from {histories.close[row - 1]:.6g} to "
        f"{histories.close[row]:.6g}"
    )


def _largest_of_each(
    items: NDArray[np.intp], of: NDArray[np.intp], size: NDArray[np.float64] | NDArray[np.int64]
) -> Iterator[tuple[np.intp, int]]:
    """Yield each symbol's largest item, and how many others it has; of equal ones, the last."""
    order = np.lexsort((items, size, of))
    _, first, counts = np.unique(of[order], return_index=True, return_counts=True)
    for item, count in zip(items[order[first + counts - 1]], counts, strict=True):
        yield item, int(count) - 1


def _and_more(others: int, noun: str) -> str:
    return f"; {counted(others, f'more {noun}')}" if others else ""


def _span(first: np.datetime64, last: np.datetime64) -> str:
    return _day(first) if first == last else f"{_day(first)} to {_day(last)}"


def _day(moment: np.datetime64) -> str:
    return str(moment.astype("datetime64[D]"))
