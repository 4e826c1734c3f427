"""Loads daily prices: any number of CSV or Parquet files in, one checked table out."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from steps.market.price_checks import check_together, check_values
from steps.market.price_columns import parse_file
from steps.market.price_files import SAMPLE, PriceFiles, open_prices
from steps.market.price_join import join_files
from steps.market.price_report import PriceError, Problems, counted, first_of
from steps.market.price_tables import read_raw

__all__ = [
    "SAMPLE",
    "PriceError",
    "PriceFiles",
    "Prices",
    "load_prices",
    "open_prices",
    "read_prices",
]


@dataclass(frozen=True)
class Prices:
    """Checked prices.

    Attributes
    ----------
    table : DataFrame, shape (n_rows, 7)
        Columns ``date`` (datetime64[s], midnight, no time zone), ``symbol`` (str) and ``open,
        high, low, close, volume`` (float64), adjusted for splits and dividends where the files
        say how. Sorted by symbol, then date; nothing is missing.
    dropped : mapping of str to int
        Symbols left out because they have too few rows, and how many they have.
    """

    table: pd.DataFrame
    dropped: Mapping[str, int]


def load_prices(source: str | os.PathLike[str], *, min_rows: int = 1) -> Prices:
    """Find, read, check and adjust prices.

    Parameters
    ----------
    source : str or path
        "sample", a file, a folder, a glob or a URL: see `open_prices`.
    min_rows : int, default 1
        Symbols with fewer rows are left out.

    Returns
    -------
    Prices

    Raises
    ------
    PriceError
        With one report of everything that is wrong in all files.
    """
    with open_prices(source) as files:
        return read_prices(files, min_rows=min_rows)


def read_prices(files: PriceFiles, *, min_rows: int = 1) -> Prices:
    """Read, check and adjust prices from files at hand.

    Each file is long: one row per symbol and day, in any order, with the columns ``date, symbol,
    open, high, low, close, volume`` and perhaps ``adj_close``; others are ignored. With
    ``adj_close``, prices are multiplied by ``adj_close / close`` and volume is divided by it;
    without, they are taken to be adjusted already.

    Parameters
    ----------
    files : PriceFiles
    min_rows : int, default 1
        Symbols with fewer rows are left out.

    Returns
    -------
    Prices
        The same for any order of rows, partition into files, and format.

    Raises
    ------
    PriceError
        With one report of everything that is wrong in all files, or if all symbols are too short.
    """
    problems = Problems()
    parsed = []
    for path, name in zip(files.paths, files.names, strict=True):
        raw = read_raw(path, name, problems)
        if raw is not None:
            parsed.append(parse_file(raw, problems))
            check_values(parsed[-1], problems)
    if parsed:
        check_together(parsed, problems)
    problems.raise_if_any()
    return _without_short(join_files(parsed), min_rows)


def _without_short(table: pd.DataFrame, min_rows: int) -> Prices:
    """Leave out the symbols that have fewer rows than `min_rows`."""
    sizes = table["symbol"].value_counts(sort=False).sort_index()
    dropped = too_short({str(symbol): int(rows) for symbol, rows in sizes.items()}, min_rows)
    if dropped:
        table = table[~table["symbol"].isin(list(dropped))].reset_index(drop=True)
    return Prices(table, dropped)


def too_short(sizes: Mapping[str, int], min_rows: int) -> dict[str, int]:
    """Return the symbols with fewer rows than `min_rows`, and how many they have.

    Raises
    ------
    PriceError
        If all of them are too short.
    """
    short = {symbol: rows for symbol, rows in sizes.items() if rows < min_rows}
    if len(short) == len(sizes):
        named = first_of(f"{symbol} has {counted(n, 'row')}" for symbol, n in short.items())
        raise PriceError(
            f"no symbol has the {min_rows:,} rows that are needed: {named} — give longer series"
        )
    return short
