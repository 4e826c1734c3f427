"""The 23 features as somebody writes them who has TA-Lib and no more: a loop over symbols.

The bare script, the chain of projects and the TA-Lib loop take them from here. They are those of
the `core` set wherever prices move (a test compares); what `core` makes of prices that stand still,
and of running sums' rounding residues, is left out.
"""

import numpy as np
import pandas as pd
import talib

WARM_UP = 33


def features_of(bars: pd.DataFrame) -> pd.DataFrame:
    """Return the features of one symbol's days."""
    open_, high, low, close = (
        bars[name].to_numpy(np.float64) for name in ("open", "high", "low", "close")
    )
    volume = bars["volume"].to_numpy(np.float64)
    upper, _, lower = talib.BBANDS(close, 20, 2.0, 2.0)
    returns = talib.ROCP(close, 1)
    returns[0] = 0.0
    over_20 = talib.STDDEV(returns, 20)
    over_20[:20] = np.nan
    mean_volume = talib.SMA(volume, 20)
    date = pd.DatetimeIndex(bars["date"])
    lowest, highest = talib.MIN(low, 14), talib.MAX(high, 14)
    obv = talib.OBV(close, volume)
    features = {
        **{f"return_{days}d": talib.ROCP(close, days) for days in (1, 2, 5, 10, 20)},
        "overnight_return": open_ / np.concatenate([[np.nan], close[:-1]]) - 1,
        "intraday_return": close / open_ - 1,
        "rsi_14": talib.RSI(close, 14),
        "macd_histogram": talib.MACD(close, 12, 26, 9)[2] / close,
        "bollinger_position": (close - lower) / (upper - lower),
        "stochastic_k_14": (close - lowest) / (highest - lowest),
        "adx_14": talib.ADX(high, low, close, 14),
        "di_spread_14": talib.PLUS_DI(high, low, close, 14) - talib.MINUS_DI(high, low, close, 14),
        "atr_14_ratio": talib.ATR(high, low, close, 14) / close,
        "high_low_range": (high - low) / close,
        "close_location": ((close - low) - (high - close)) / (high - low),
        "volatility_20": over_20,
        "volatility_ratio_5_20": talib.STDDEV(returns, 5) / over_20,
        "volume_ratio_20": volume / mean_volume,
        "obv_slope_20": talib.LINEARREG_SLOPE(obv, 20) / mean_volume,
        "money_flow_14": talib.MFI(high, low, close, volume, 14),
        "day_of_week": date.day_of_week.to_numpy(np.float64),
        "month": date.month.to_numpy(np.float64),
    }
    table = pd.DataFrame({name: values.astype(np.float32) for name, values in features.items()})
    ahead = np.concatenate([close[1:] > close[:-1], [False]])
    table.insert(0, "date", date)
    table.insert(1, "symbol", bars["symbol"].to_numpy())
    table["direction"] = ahead.astype(np.int8)
    return table.iloc[WARM_UP:-1]


def features_of_all(prices: pd.DataFrame) -> pd.DataFrame:
    """Return the features of every symbol, one below the other."""
    with np.errstate(invalid="ignore"):  # of days without a range
        each = [features_of(bars) for _, bars in prices.groupby("symbol", sort=False)]
    return pd.concat(each, ignore_index=True)
