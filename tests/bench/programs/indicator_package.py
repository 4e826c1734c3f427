"""The same indicators by a package that others use for them: seconds of CPU as JSON.

What the package has no indicator for is pandas, as in `pandas_groupby`.
"""

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from pandas_groupby import with_plain_ones

warnings.simplefilter("ignore")


def by_pandas_ta(bars: pd.DataFrame) -> dict[str, pd.Series]:
    """Ask pandas-ta-classic, whose own formulas are wanted here, not TA-Lib's behind its back."""
    import pandas_ta_classic as ta

    high, low, close, volume = bars["high"], bars["low"], bars["close"], bars["volume"]
    bands = ta.bbands(close, 20, 2.0, ddof=0, talib=False)
    adx = ta.adx(high, low, close, 14, talib=False)
    obv = ta.obv(close, volume, talib=False)
    lowest, highest = low.rolling(14).min(), high.rolling(14).max()
    returns = {f"return_{days}d": ta.percent_return(close, days) for days in (1, 2, 5, 10, 20)}
    over_20 = ta.stdev(returns["return_1d"], 20, ddof=0, talib=False)
    mean_volume = ta.sma(volume, 20, talib=False)
    return {
        **returns,
        "rsi_14": ta.rsi(close, 14, talib=False),
        "macd_histogram": ta.macd(close, 12, 26, 9, talib=False).iloc[:, 1] / close,
        "bollinger_position": (close - bands.iloc[:, 0]) / (bands.iloc[:, 2] - bands.iloc[:, 0]),
        "stochastic_k_14": (close - lowest) / (highest - lowest),
        "adx_14": adx["ADX_14"],
        "di_spread_14": adx["DMP_14"] - adx["DMN_14"],
        "atr_14_ratio": ta.atr(high, low, close, 14, talib=False) / close,
        "volatility_20": over_20,
        "volatility_ratio_5_20": ta.stdev(returns["return_1d"], 5, ddof=0, talib=False) / over_20,
        "volume_ratio_20": volume / mean_volume,
        "obv_slope_20": ta.linreg(obv, 20, slope=True, talib=False) / mean_volume,
        "money_flow_14": ta.mfi(high, low, close, volume, 14, talib=False),
    }


def by_ta(bars: pd.DataFrame) -> dict[str, pd.Series]:
    """Ask ta, which leaves the slope, the volatilities and the mean volume to pandas."""
    from ta import momentum, others, trend, volatility, volume

    high, low, close = bars["high"], bars["low"], bars["close"]
    days = bars["volume"].astype(float)
    bands = volatility.BollingerBands(close, 20, 2)
    adx = trend.ADXIndicator(high, low, close, 14)
    obv = volume.on_balance_volume(close, days)
    at = np.arange(20) - 9.5
    slope = obv.rolling(20).apply(lambda values: at @ values / (at @ at), raw=True)
    returns = others.daily_return(close) / 100
    mean_volume = days.rolling(20).mean()
    return {
        **{f"return_{n}d": momentum.roc(close, n) / 100 for n in (1, 2, 5, 10, 20)},
        "rsi_14": momentum.rsi(close, 14),
        "macd_histogram": trend.macd_diff(close, 26, 12, 9) / close,
        "bollinger_position": bands.bollinger_pband(),
        "stochastic_k_14": momentum.stoch(high, low, close, 14, 1) / 100,
        "adx_14": adx.adx(),
        "di_spread_14": adx.adx_pos() - adx.adx_neg(),
        "atr_14_ratio": volatility.average_true_range(high, low, close, 14) / close,
        "volatility_20": returns.rolling(20).std(ddof=0),
        "volatility_ratio_5_20": returns.rolling(5).std(ddof=0) / returns.rolling(20).std(ddof=0),
        "volume_ratio_20": days / mean_volume,
        "obv_slope_20": slope / mean_volume,
        "money_flow_14": volume.money_flow_index(high, low, close, days, 14),
    }


BY_PACKAGE = {"pandas-ta-classic": by_pandas_ta, "ta": by_ta}


def features_of(bars: pd.DataFrame, package: str) -> pd.DataFrame:
    """Return the features of one symbol's days."""
    return with_plain_ones(bars, BY_PACKAGE[package](bars))


if __name__ == "__main__":
    package, path, out = sys.argv[1:]
    features_of(pd.read_parquet(path).head(200), package)  # imports, and compiles what numba does
    started = time.process_time()
    prices = pd.read_parquet(path)
    each = [features_of(bars, package) for _, bars in prices.groupby("symbol", sort=False)]
    table = pd.concat(each, ignore_index=True)
    table.to_parquet(Path(out, f"{package}.parquet"))
    print(json.dumps({"cpu": time.process_time() - started, "rows": len(table)}))
