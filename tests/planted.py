"""Prices with a signal planted in them: tomorrow's direction depends on today's volume.

`python tests/planted.py` writes the bundled steps/market/sample/planted.parquet.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

BUNDLED = Path(__file__).parents[1] / "steps" / "market" / "sample" / "planted.parquet"


def planted_prices(seed: int, *, drift: float, n_symbols: int, n_days: int) -> pd.DataFrame:
    """Simulate prices of which tomorrow's direction depends on today's volume.

    A day is busy or quiet, by a coin. A busy day has four times the volume, and the return that
    follows it is drawn around +`drift` standard deviations, that after a quiet one around -`drift`.
    """
    random = np.random.default_rng(seed)
    dates = pd.bdate_range("2015-01-01", periods=n_days)
    tables = []
    for number in range(n_symbols):
        busy = random.random(n_days) < 0.5
        mean = np.where(np.roll(busy, 1), drift, -drift)
        close = 100 * np.cumprod(1 + 0.01 * (mean + random.normal(size=n_days)))
        # It opens near where it closed, so that what follows can be traded.
        before = np.concatenate([[100.0], close[:-1]])
        opened = before * (1 + 0.003 * random.normal(size=n_days))
        reach = 1 + 0.005 * random.random((2, n_days))
        tables.append(
            pd.DataFrame(
                {
                    "date": dates,
                    "symbol": f"S{number}",
                    "open": opened,
                    "high": np.maximum(opened, close) * reach[0],
                    "low": np.minimum(opened, close) / reach[1],
                    "close": close,
                    "volume": np.where(busy, 4e6, 1e6) * random.uniform(0.9, 1.1, n_days),
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def bundled_prices() -> pd.DataFrame:
    """Return what is bundled: a signal so faint that it could be a real one."""
    prices = planted_prices(0, drift=0.1, n_symbols=8, n_days=1750)
    columns = ["open", "high", "low", "close"]
    prices[columns] = prices[columns].round(2)
    prices["volume"] = prices["volume"].round(-3)
    return prices


def write_bundled() -> None:
    """Write the bundled file: the same bytes each time."""
    prices = bundled_prices()
    days = pa.array(prices["date"].to_numpy("datetime64[D]"), type=pa.date32())
    table = pa.Table.from_pandas(prices, preserve_index=False)
    table = table.set_column(0, "date", days).replace_schema_metadata(None)
    pq.write_table(table, BUNDLED, compression="zstd", compression_level=19)


if __name__ == "__main__":
    write_bundled()
