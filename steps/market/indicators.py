"""Formulas behind the features: TA-Lib's where they are sound, our own elsewhere.

TA-Lib keeps running sums. After a volume of 1e12 followed by zeros, a running sum holds a
rounding residue instead of 0, and a ratio of two such sums is garbage. The windows here are
summed afresh for every row, in a fixed order, by a handful of vector operations. TA-Lib is called
for what is exact (highest, lowest) and for smoothing that only ever adds (Wilder's and MACD's).

Every function takes one symbol's bars and returns one float64 per row, NaN in the first rows that
lack history. None reads a row later than the one it describes.
"""

import numpy as np
import talib

from steps.market.bars import Array, Ohlcv

# Two prices closer than this, relative to their size, are the same price: what lies between them
# is rounding (0.1 + 0.2 against 0.3), and dividing by rounding would make noise look like signal.
FLAT = 1e-12


def aligned(values: Array, rows: int) -> Array:
    """Put `values` at the end of `rows` rows, NaN before them."""
    column = np.full(rows, np.nan)
    column[rows - values.size :] = values
    return column


def ratio(above: Array, below: Array, *, floor: Array | float, otherwise: float) -> Array:
    """Divide `above` by `below` where `below` exceeds `floor`; give `otherwise` elsewhere."""
    quotient: Array = np.full(above.shape, otherwise)
    np.divide(above, below, out=quotient, where=below > floor)
    return quotient


def window_sum(values: Array, days: int) -> Array:
    """Sum every window of `days` consecutive values.

    Windows of 1, 2, 4, 8 … values are built by doubling and put together to `days`, so that each
    sum depends on its own window only.

    Returns
    -------
    ndarray of float64, shape (len(values) - days + 1,)
    """
    rows = values.size - days + 1
    block, size = values, 1
    total, taken = np.zeros(rows), 0
    while True:
        if days & size:
            total = total + block[taken : taken + rows]
            taken += size
        if taken == days:
            return total
        block = block[:-size] + block[size:]
        size *= 2


def window_mean_and_std(values: Array, days: int) -> tuple[Array, Array]:
    """Mean and standard deviation (ddof 0) of every window of `days` consecutive values.

    Windows are doubled as in `window_sum`. Two neighbours' squared deviations add up to those of
    their union plus a term in the squared gap between their means: nothing is subtracted, so equal
    values have a deviation of exactly 0 whatever came before them.

    Returns
    -------
    mean, std : ndarray of float64, shape (len(values) - days + 1,)

    References
    ----------
    Chan, Golub & LeVeque (1983), Algorithms for computing the sample variance, The American
    Statistician 37(3).
    """
    rows = values.size - days + 1
    means, squares, size = values, np.zeros(values.size), 1  # of every window of `size` values
    mean, square, taken = np.zeros(rows), np.zeros(rows), 0  # of the part put together so far
    while True:
        if days & size:
            gap = means[taken : taken + rows] - mean
            share = size / (taken + size)
            mean = mean + gap * share
            square = square + squares[taken : taken + rows] + gap * gap * (taken * share)
            taken += size
        if taken == days:
            return mean, np.sqrt(square / days)
        gap = means[size:] - means[:-size]
        squares = squares[:-size] + squares[size:] + gap * gap * (size / 2)
        means = (means[:-size] + means[size:]) / 2
        size *= 2


def simple_return(bars: Ohlcv, *, days: int) -> Array:
    """Relative change of the close over `days` days."""
    return np.asarray(talib.ROCP(bars.close, days))


def overnight_return(bars: Ohlcv) -> Array:
    """Relative change from the previous close to the open."""
    return aligned(bars.open[1:] / bars.close[:-1] - 1.0, bars.close.size)


def intraday_return(bars: Ohlcv) -> Array:
    """Relative change from the open to the close."""
    return bars.close / bars.open - 1.0


def macd_histogram(bars: Ohlcv, *, fast: int, slow: int, signal: int) -> Array:
    """MACD less its signal line, in units of the close."""
    return np.asarray(talib.MACD(bars.close, fast, slow, signal)[2] / bars.close)


def average_true_range(bars: Ohlcv, *, days: int) -> Array:
    """Wilder's average true range, in units of the close."""
    return np.asarray(talib.ATR(bars.high, bars.low, bars.close, days) / bars.close)


def high_low_range(bars: Ohlcv) -> Array:
    """Range of the day, in units of the close."""
    return (bars.high - bars.low) / bars.close


def relative_strength(bars: Ohlcv, *, days: int) -> Array:
    """Wilder's RSI, from 0 to 100; 50 as long as the close has never moved.

    TA-Lib's own RSI calls flat prices 0, the most oversold value there is. Its CMO smooths gains
    and losses in the same way and is 0, its middle, where both are 0.
    """
    return np.asarray(50.0 + talib.CMO(bars.close, days) / 2.0)


def bollinger_position(bars: Ohlcv, *, days: int) -> Array:
    """Place of the close between the Bollinger bands: 0 on the lower, 1 on the upper one.

    The bands lie two standard deviations from the mean, so that
    (close - lower) / (upper - lower) = 1/2 + (close - mean) / (4 std).
    """
    mean, std = window_mean_and_std(bars.close, days)
    close = bars.close[days - 1 :]
    offset = ratio(close - mean, 4.0 * std, floor=FLAT * close, otherwise=0.0)
    # No value of n lies further than sqrt(n - 1) standard deviations from their mean.
    furthest = np.sqrt(days - 1.0) / 4.0
    return aligned(0.5 + np.clip(offset, -furthest, furthest), bars.close.size)


def stochastic_k(bars: Ohlcv, *, days: int) -> Array:
    """Place of the close in the range of the last `days` days: 0 at its low, 1 at its high."""
    lowest = talib.MIN(bars.low, days)[days - 1 :]
    highest = talib.MAX(bars.high, days)[days - 1 :]
    close = bars.close[days - 1 :]
    position = ratio(close - lowest, highest - lowest, floor=FLAT * close, otherwise=0.5)
    return aligned(np.clip(position, 0.0, 1.0), bars.close.size)


def directional_spread(bars: Ohlcv, *, days: int) -> Array:
    """Wilder's +DI less his -DI, from -100 to 100."""
    plus = talib.PLUS_DI(bars.high, bars.low, bars.close, days)
    minus = talib.MINUS_DI(bars.high, bars.low, bars.close, days)
    return np.asarray(np.clip(plus - minus, -100.0, 100.0))


def average_directional_index(bars: Ohlcv, *, days: int) -> Array:
    """Wilder's ADX, from 0 to 100; 0 as long as prices have never moved."""
    return np.asarray(np.clip(talib.ADX(bars.high, bars.low, bars.close, days), 0.0, 100.0))


def close_location(bars: Ohlcv) -> Array:
    """Place of the close in the day's range: -1 at the low, 1 at the high, 0 without a range."""
    excess = (bars.close - bars.low) - (bars.high - bars.close)
    value = ratio(excess, bars.high - bars.low, floor=FLAT * bars.close, otherwise=0.0)
    return np.clip(value, -1.0, 1.0)


def volatility(bars: Ohlcv, *, days: int) -> Array:
    """Volatility: standard deviation (ddof 0) of the last `days` one-day returns."""
    _, std = window_mean_and_std(talib.ROCP(bars.close, 1)[1:], days)
    return aligned(std, bars.close.size)


def volatility_ratio(bars: Ohlcv, *, short: int, long: int) -> Array:
    """Volatility over `short` days in units of that over `long` days; 1 where both are 0."""
    below = volatility(bars, days=long)[long:]
    above = volatility(bars, days=short)[long:]
    # The short window's squared deviations are part of the long one's.
    largest = np.sqrt(long / short)
    value = np.minimum(ratio(above, below, floor=FLAT, otherwise=1.0), largest)
    return aligned(value, bars.close.size)


def volume_ratio(bars: Ohlcv, *, days: int) -> Array:
    """Volume in units of its mean over `days` days; 1 where that mean is 0."""
    total = window_sum(bars.volume, days)
    share = ratio(bars.volume[days - 1 :], total, floor=0.0, otherwise=1.0 / days)
    return aligned(share * days, bars.close.size)


def obv_slope(bars: Ohlcv, *, days: int) -> Array:
    """Slope per day of on-balance volume's regression line, in units of the mean volume.

    On-balance volume adds the day's volume when the close rises and subtracts it when it falls.
    Its level is an accident of where the series starts. Written out over its daily steps, the
    least-squares slope over n days is the sum of 6 k (n - k) / (n (n² - 1)) times step k, for
    k = 1 … n - 1: no level, hence nothing to cancel.
    """
    rows = bars.close.size - days + 1
    steps = np.sign(np.diff(bars.close)) * bars.volume[1:]
    slope = np.zeros(rows)
    for k in range(1, days):
        slope += 6.0 * k * (days - k) / (days * (days**2 - 1)) * steps[k - 1 : k - 1 + rows]
    mean = window_sum(bars.volume, days) / days
    largest = 1.5 * days**2 / (days**2 - 1)  # all volume on the middle day
    value = ratio(slope, mean, floor=0.0, otherwise=0.0)
    return aligned(np.clip(value, -largest, largest), bars.close.size)


def money_flow(bars: Ohlcv, *, days: int) -> Array:
    """Money flow index, from 0 to 100; 50 where no money flowed either way.

    Two typical prices that differ by rounding only are equal here, as on paper, which on a grid of
    cents is common; TA-Lib takes the rounding for a rise or a fall.
    """
    price = bars.high + bars.low + bars.close  # three typical prices: the factor cancels
    change = np.diff(price)
    flow = price[1:] * bars.volume[1:]
    rounding = FLAT * price[1:]
    rising = window_sum(np.where(change > rounding, flow, 0.0), days)
    falling = window_sum(np.where(change < -rounding, flow, 0.0), days)
    value = 100.0 * ratio(rising, rising + falling, floor=0.0, otherwise=0.5)
    return aligned(value, bars.close.size)


def day_of_week(bars: Ohlcv) -> Array:
    """Day of the week, 0 for Monday to 6 for Sunday."""
    days = bars.date.astype(np.int64)
    return ((days + 3) % 7).astype(np.float64)  # day 0, 1 January 1970, was a Thursday


def month(bars: Ohlcv) -> Array:
    """Month of the year, 1 for January to 12 for December."""
    months = bars.date.astype("datetime64[M]").astype(np.int64)
    return (months % 12 + 1).astype(np.float64)
