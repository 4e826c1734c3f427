"""Makes the prices table out of files that were parsed and checked."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from steps.market.price_checks import Codes, Days, ParsedFile, merge_symbols

_PRICES = ("open", "high", "low", "close")


def join_files(files: Sequence[ParsedFile]) -> pd.DataFrame:
    """Join the rows of checked files, adjusted and sorted.

    Parameters
    ----------
    files : sequence of ParsedFile
        At least one; all of them with ``adj_close``, or none.

    Returns
    -------
    DataFrame, shape (n_rows, 7)
        As `steps.market.prices.Prices.table`.
    """
    symbols, codes = merge_symbols(files)
    days = np.concatenate([file.days for file in files])
    numbers = {
        column: np.concatenate([file.numbers[column] for file in files])
        for column in files[0].numbers
    }
    if not _is_sorted(codes, days):
        order = np.lexsort((days, codes))
        days, codes = days[order], codes[order]
        numbers = {column: values[order] for column, values in numbers.items()}
    if "adj_close" in numbers:
        factor = numbers.pop("adj_close") / numbers["close"]
        for column in _PRICES:
            numbers[column] = numbers[column] * factor
        numbers["volume"] = numbers["volume"] / factor
    symbol = pd.Series(symbols, dtype="str").take(codes).reset_index(drop=True)
    columns = ("open", "high", "low", "close", "volume")
    return pd.DataFrame(
        {"date": days, "symbol": symbol, **{column: numbers[column] for column in columns}}
    )


def _is_sorted(codes: Codes, days: Days) -> bool:
    """Tell whether rows are where sorting would put them, as most people's are."""
    steps = np.diff(codes)
    return bool(((steps > 0) | ((steps == 0) & (days[1:] >= days[:-1]))).all())
