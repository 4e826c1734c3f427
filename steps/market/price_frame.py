"""Prices that come as a table in memory, such as a request to a served model."""

import pandas as pd
import pyarrow as pa

from steps.market.price_checks import check_together, check_values
from steps.market.price_columns import parse_file
from steps.market.price_headers import find_columns
from steps.market.price_join import join_files
from steps.market.price_report import Problems
from steps.market.price_tables import RawFile


def read_frame(frame: pd.DataFrame, name: str = "the table") -> pd.DataFrame:
    """Check and adjust prices as those of a file are.

    Parameters
    ----------
    frame : DataFrame
        Long: one row per symbol and day, in any order, with the columns ``date, symbol, open,
        high, low, close, volume`` and perhaps ``adj_close``; others are ignored. Cells may be
        texts.
    name : str
        What to call it in the report.

    Returns
    -------
    DataFrame, shape (n_rows, 7)
        As `steps.market.prices.Prices.table`.

    Raises
    ------
    PriceError
        With one report of everything that is wrong, by row, counted from 1.
    """
    problems = Problems()
    found = find_columns([str(title) for title in frame.columns], name, problems)
    if found and not len(frame):
        problems.add(name, "no rows", "the table has columns but no rows — give it some")
    elif found:
        columns = {column: _to_arrow(frame.iloc[:, place]) for column, place in found.items()}
        parsed = parse_file(RawFile(name, lambda row: f"row {row + 1}", columns), problems)
        check_values(parsed, problems)
        check_together([parsed], problems)
    problems.raise_if_any()
    return join_files([parsed])


def _to_arrow(values: pd.Series) -> pa.ChunkedArray:
    """Return a column as Arrow has it; cells of several kinds as texts, to be parsed one by one."""
    mixed = values.dtype == object and _hides_a_bool(values)  # Arrow would take it for 0 or 1
    try:
        column = pa.array(_texts(values) if mixed else values, from_pandas=True)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        column = pa.array(_texts(values), type=pa.string())
    return column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])


def _hides_a_bool(values: pd.Series) -> bool:
    kinds = set(map(type, values))
    return bool in kinds and kinds != {bool}


def _texts(values: pd.Series) -> list[str | None]:
    """Return cells as they would stand in a file; what is no valid Unicode, escaped."""
    missing = values.map(lambda cell: cell is None or cell is pd.NA or cell != cell)
    return [
        None if gone is True else str(cell).encode("utf-8", "backslashreplace").decode()
        for cell, gone in zip(values, missing, strict=True)
    ]
