"""Made-up prices in one Parquet file, by symbol and date: random walks on a grid of cents."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_SYMBOLS_AT_ONCE = 100


def write_prices(path: Path, symbols: int, days: int = 2_500) -> Path:
    """Write the daily prices of some symbols, the same for the same numbers.

    Parameters
    ----------
    path : Path
    symbols, days : int

    Returns
    -------
    Path
        The file.
    """
    dates = np.busday_offset("2005-01-03", np.arange(days), roll="forward")
    schema = pa.schema(
        {
            "date": pa.date32(),
            "symbol": pa.string(),
            **dict.fromkeys(("open", "high", "low", "close"), pa.float64()),
            "volume": pa.int64(),
        }
    )
    random = np.random.default_rng(0)
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, symbols, _SYMBOLS_AT_ONCE):
            count = min(_SYMBOLS_AT_ONCE, symbols - first)
            names = [f"S{number:05}" for number in range(first, first + count)]
            writer.write_table(pa.table(_bars(random, names, dates), schema=schema))
    return path


def _bars(random: np.random.Generator, names: list[str], dates: np.ndarray) -> dict[str, object]:
    shape = len(names), len(dates)
    close = 50 * np.exp(np.cumsum(random.normal(0, 0.015, shape), axis=1))
    open_ = close * np.exp(random.normal(0, 0.005, shape))
    high = np.maximum(open_, close) * np.exp(np.abs(random.normal(0, 0.006, shape)))
    low = np.minimum(open_, close) * np.exp(-np.abs(random.normal(0, 0.006, shape)))
    prices = {"open": open_, "high": high, "low": low, "close": close}
    # A price never rounds to nothing, however far a walk has gone down.
    cents = {name: np.maximum(np.round(each, 2), 0.01).ravel() for name, each in prices.items()}
    return {
        "date": np.tile(dates, len(names)),
        "symbol": np.repeat(names, len(dates)),
        **cents,
        "volume": random.integers(100_000, 5_000_000, shape).ravel(),
    }
