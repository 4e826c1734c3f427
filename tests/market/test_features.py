"""Every feature against its textbook definition, written out in loops, without TA-Lib."""

import hashlib
import math
import os
import statistics
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

from steps.market.bars import bars_by_symbol
from steps.market.features import (
    FEATURE_SETS,
    Feature,
    FeatureSet,
    compute_features,
    get_feature_set,
)
from steps.market.indicators import window_mean_and_std

ROOT = Path(__file__).parents[2]
CORE = FEATURE_SETS["core"]
BY_NAME = {feature.name: feature for feature in CORE.features}


def price_table(symbol="AAA", *, open, high, low, close, volume):  # noqa: A002
    rows = len(close)
    return pd.DataFrame(
        {
            "date": pd.bdate_range("2020-01-01", periods=rows).astype("datetime64[s]"),
            "symbol": pd.array([symbol] * rows, dtype="str"),
            "open": np.asarray(open, dtype=float),
            "high": np.asarray(high, dtype=float),
            "low": np.asarray(low, dtype=float),
            "close": np.asarray(close, dtype=float),
            "volume": np.asarray(volume, dtype=float),
        }
    )


def random_prices(seed, rows=120, symbol="AAA"):
    rng = np.random.default_rng(seed)
    close = 50.0 * np.cumprod(1.0 + rng.normal(0.0, 0.02, rows))
    open_ = close * (1.0 + rng.normal(0.0, 0.01, rows))
    return price_table(
        symbol,
        open=open_,
        high=np.maximum(open_, close) * (1.0 + rng.exponential(0.005, rows)),
        low=np.minimum(open_, close) / (1.0 + rng.exponential(0.005, rows)),
        close=close,
        volume=rng.lognormal(14.0, 1.0, rows),
    )


def flat_prices(rows=60, price=10.0, volume=1000.0):
    level = np.full(rows, price)
    return price_table(open=level, high=level, low=level, close=level, volume=[volume] * rows)


def real_prices(symbol="IBM", rows=400):
    """Prices on a grid of cents: they tie, and repeat, as random numbers never do."""
    prices = pd.read_parquet(ROOT / "steps/market/sample/prices.parquet")
    prices = prices[prices["symbol"] == symbol].iloc[:rows].reset_index(drop=True)
    return prices.assign(
        date=pd.to_datetime(prices["date"]).astype("datetime64[s]"),
        volume=prices["volume"].astype(float),
    ).drop(columns="adj_close")


# --- The textbook, in loops. Each takes the table and a row, and may look at rows up to it. ---


def returns_over(days):
    return lambda p, t: p["close"][t] / p["close"][t - days] - 1.0


def rsi(p, t):
    """Wilder (1978): a mean of 14 moves to begin with, then 13/14 old + 1/14 new."""
    close = p["close"]
    moves = [close[i] - close[i - 1] for i in range(1, t + 1)]
    gain = sum(max(move, 0.0) for move in moves[:14]) / 14
    loss = sum(max(-move, 0.0) for move in moves[:14]) / 14
    for move in moves[14:]:
        gain = (13 * gain + max(move, 0.0)) / 14
        loss = (13 * loss + max(-move, 0.0)) / 14
    return 50.0 if gain + loss == 0.0 else 100.0 * gain / (gain + loss)


def ema(values, days, first):
    """Value of the exponential mean at each index from `first`, seeded by a simple mean there."""
    level = sum(values[first - days + 1 : first + 1]) / days
    result = {first: level}
    for i in range(first + 1, len(values)):
        level += 2.0 / (days + 1) * (values[i] - level)
        result[i] = level
    return result


def macd_histogram(p, t):
    """Appel: both means begin on the day the slow one can, the signal nine MACD values later."""
    close = list(p["close"][: t + 1])
    fast, slow = ema(close, 12, 25), ema(close, 26, 25)
    line = [fast[i] - slow[i] for i in range(25, t + 1)]
    return (line[-1] - ema(line, 9, 8)[len(line) - 1]) / close[t]


def mean_and_std(values):
    mean = sum(values) / len(values)
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))


def bollinger_position(p, t):
    mean, std = mean_and_std(p["close"][t - 19 : t + 1])
    lower, upper = mean - 2 * std, mean + 2 * std
    return (p["close"][t] - lower) / (upper - lower)


def stochastic(p, t):
    low, high = min(p["low"][t - 13 : t + 1]), max(p["high"][t - 13 : t + 1])
    return (p["close"][t] - low) / (high - low)


def true_range(p, i):
    previous = p["close"][i - 1]
    return max(
        p["high"][i] - p["low"][i], abs(p["high"][i] - previous), abs(p["low"][i] - previous)
    )


def atr(p, t):
    ranges = [true_range(p, i) for i in range(1, t + 1)]
    level = sum(ranges[:14]) / 14
    for new in ranges[14:]:
        level = (13 * level + new) / 14
    return level / p["close"][t]


def directional_indicators(p, t):
    """+DI and -DI of every row from 14 on: Wilder's sums, begun with the first 13 moves."""
    plus = minus = span = 0.0
    result = []
    for i in range(1, t + 1):
        up, down = p["high"][i] - p["high"][i - 1], p["low"][i - 1] - p["low"][i]
        keep = 1.0 if i < 14 else 13.0 / 14.0
        plus = keep * plus + (up if up > down and up > 0 else 0.0)
        minus = keep * minus + (down if down > up and down > 0 else 0.0)
        span = keep * span + true_range(p, i)
        if i >= 14:
            result.append((100 * plus / span, 100 * minus / span))
    return result


def di_spread(p, t):
    plus, minus = directional_indicators(p, t)[-1]
    return plus - minus


def adx(p, t):
    strength = [100 * abs(a - b) / (a + b) for a, b in directional_indicators(p, t)]
    level = sum(strength[:14]) / 14
    for new in strength[14:]:
        level = (13 * level + new) / 14
    return level


def close_location(p, t):
    high, low, close = p["high"][t], p["low"][t], p["close"][t]
    return 0.0 if high == low else ((close - low) - (high - close)) / (high - low)


def volatility(p, t, days=20):
    return mean_and_std(
        [p["close"][i] / p["close"][i - 1] - 1 for i in range(t - days + 1, t + 1)]
    )[1]


def obv_slope(p, t):
    """On-balance volume from the first row on, then the least-squares line through 20 points."""
    level, path = 0.0, [0.0]
    for i in range(1, t + 1):
        level += np.sign(p["close"][i] - p["close"][i - 1]) * p["volume"][i]
        path.append(level)
    slope = np.polynomial.Polynomial.fit(range(20), path[-20:], 1).convert().coef
    return (slope[1] if len(slope) > 1 else 0.0) / (sum(p["volume"][t - 19 : t + 1]) / 20)


def money_flow(p, t):
    """Quong & Soudack (1989), in fractions, where equal typical prices are equal."""

    def typical(i):
        return sum(Fraction(repr(float(p[name][i]))) for name in ("high", "low", "close")) / 3

    rising = falling = Fraction(0)
    for i in range(t - 13, t + 1):
        flow = typical(i) * Fraction(float(p["volume"][i]))
        if typical(i) > typical(i - 1):
            rising += flow
        elif typical(i) < typical(i - 1):
            falling += flow
    return float(100 * rising / (rising + falling))


TEXTBOOK = {
    **{f"return_{days}d": returns_over(days) for days in (1, 2, 5, 10, 20)},
    "overnight_return": lambda p, t: (p["open"][t] - p["close"][t - 1]) / p["close"][t - 1],
    "intraday_return": lambda p, t: (p["close"][t] - p["open"][t]) / p["open"][t],
    "rsi_14": rsi,
    "macd_histogram": macd_histogram,
    "bollinger_position": bollinger_position,
    "stochastic_k_14": stochastic,
    "adx_14": adx,
    "di_spread_14": di_spread,
    "atr_14_ratio": atr,
    "high_low_range": lambda p, t: (p["high"][t] - p["low"][t]) / p["close"][t],
    "close_location": close_location,
    "volatility_20": volatility,
    "volatility_ratio_5_20": lambda p, t: volatility(p, t, 5) / volatility(p, t, 20),
    "volume_ratio_20": lambda p, t: p["volume"][t] / (sum(p["volume"][t - 19 : t + 1]) / 20),
    "obv_slope_20": obv_slope,
    "money_flow_14": money_flow,
    "day_of_week": lambda p, t: pd.Timestamp(p["date"][t]).weekday(),
    "month": lambda p, t: pd.Timestamp(p["date"][t]).month,
}

# A float32 holds 6e-8 of its value, so every feature is held to 1e-6 of it, plus, where it can be
# near 0 as a difference of larger numbers, the absolute tolerance here (1e-12 if not named).
ABSOLUTE_TOLERANCE = {"di_spread_14": 1e-10, "obv_slope_20": 1e-10}


def test_every_feature_has_a_textbook_definition_here():
    assert set(TEXTBOOK) == set(CORE.names)


@pytest.mark.parametrize("name", CORE.names)
@pytest.mark.parametrize("prices", [random_prices(7), real_prices()], ids=["random", "real"])
def test_feature_agrees_with_its_textbook_definition(name, prices):
    feature = BY_NAME[name]
    found = compute_features(prices, FeatureSet(name="one", version="1", features=(feature,)))
    arrays = {column: prices[column].to_numpy() for column in prices}
    rows = np.unique([feature.lookback, *range(feature.lookback, len(prices), 7), len(prices) - 1])
    expected = [TEXTBOOK[name](arrays, t) for t in rows]
    np.testing.assert_allclose(
        found[name].to_numpy()[rows - feature.lookback],
        expected,
        rtol=1e-6,
        atol=ABSOLUTE_TOLERANCE.get(name, 1e-12),
    )


@pytest.mark.parametrize("feature", CORE.features, ids=CORE.names)
def test_declared_lookback_is_exact(feature):
    (bars,) = bars_by_symbol(random_prices(1), min_rows=1)
    finite = np.isfinite(feature.compute(bars))
    assert finite.size == bars.close.size
    assert not finite[: feature.lookback].any()
    assert finite[feature.lookback :].all()


@pytest.mark.parametrize("feature", CORE.features, ids=CORE.names)
def test_one_row_more_than_the_lookback_is_enough(feature):
    one = FeatureSet(name="one", version="1", features=(feature,))
    prices = random_prices(2, rows=one.min_rows)
    table = compute_features(prices, one)
    assert table["date"].tolist() == [prices["date"].iloc[-1]]
    assert compute_features(prices.iloc[:-1], one).empty


# --- The table ---


def test_table_has_the_contracts_columns_types_and_rows():
    prices = pd.concat(
        [random_prices(1, 60, "AAA"), random_prices(2, 20, "BBB"), random_prices(3, 35, "CCC")],
        ignore_index=True,
    )
    table = compute_features(prices, CORE)
    assert table.columns.tolist() == ["date", "symbol", *CORE.names]
    assert table["date"].dtype == "datetime64[s]"
    assert table["symbol"].dtype == prices["symbol"].dtype
    assert set(table[list(CORE.names)].dtypes) == {np.dtype("float32")}
    assert isinstance(table.index, pd.RangeIndex)
    assert table["symbol"].value_counts().to_dict() == {"AAA": 60 - 33, "CCC": 35 - 33}
    for symbol, rows in table.groupby("symbol"):
        expected = prices.loc[prices["symbol"] == symbol, "date"].iloc[CORE.lookback :]
        assert rows["date"].tolist() == expected.tolist()


def test_set_without_a_row_is_an_empty_table_of_the_same_shape():
    table = compute_features(random_prices(1, rows=CORE.lookback), CORE)
    assert table.shape == (0, 2 + len(CORE.features))
    assert compute_features(random_prices(1).iloc[:0], CORE).shape == table.shape


def test_another_feature_takes_one_declaration():
    gap = Feature(
        name="gap",
        formula="open - low",
        source="none",
        lookback=0,
        low=0.0,
        high=math.inf,
        compute=lambda bars: (bars.open - bars.low) / bars.close,
    )
    prices = random_prices(1)
    table = compute_features(prices, FeatureSet(name="mine", version="1", features=(gap,)))
    expected = ((prices["open"] - prices["low"]) / prices["close"]).astype("float32")
    np.testing.assert_array_equal(table["gap"], expected)


def test_zero_is_stored_without_a_sign():
    nothing = Feature(
        name="nothing",
        formula="0 from below",
        source="none",
        lookback=0,
        low=0.0,
        high=0.0,
        compute=lambda bars: np.where(bars.close > 50.0, -0.0, -1e-60),
    )
    table = compute_features(
        random_prices(1), FeatureSet(name="0", version="1", features=(nothing,))
    )
    assert not table["nothing"].any()
    assert not np.signbit(table["nothing"]).any()


def test_feature_set_refuses_a_repeated_name():
    with pytest.raises(ValueError, match="declares month more than once"):
        FeatureSet(name="twice", version="1", features=(BY_NAME["month"],) * 2)


def test_unknown_feature_set_names_those_there_are():
    assert get_feature_set("core") is CORE
    with pytest.raises(ValueError, match=r"no feature set 'nope'; choose one of: core"):
        get_feature_set("nope")


def test_registry_key_is_the_sets_name():
    assert all(key == feature_set.name for key, feature_set in FEATURE_SETS.items())


@pytest.mark.parametrize(
    ("order", "row"),
    [([0, 2, 1], 2), ([0, 1, 1], 2)],
    ids=["dates decrease", "date repeated"],
)
def test_unsorted_dates_are_refused(order, row):
    with pytest.raises(ValueError, match=rf"sorted by symbol and date.*row {row} \(AAA, 2020-"):
        compute_features(random_prices(1).iloc[order], CORE)


def test_symbol_in_two_places_is_refused():
    prices = pd.concat([random_prices(1, 3, "AAA"), random_prices(1, 3, "BBB")])
    with pytest.raises(ValueError, match=r"row 5 \(AAA, 2020-01-03\) is out of place"):
        compute_features(prices.iloc[[0, 1, 3, 4, 5, 2]], CORE)


def test_value_that_is_not_finite_is_named():
    prices = random_prices(1)
    prices.loc[50, "close"] = np.nan
    day = f"{prices['date'][50]:%Y-%m-%d}"
    with pytest.raises(ValueError, match=rf"feature return_1d must be finite.*AAA on {day}"):
        compute_features(prices, CORE)


# --- Free of price level ---


def scaled(prices, price=1.0, volume=1.0):
    changed = prices.copy()
    changed[["open", "high", "low", "close"]] *= price
    changed["volume"] *= volume
    return changed


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    price=st.integers(-80, 80),
    volume=st.integers(-80, 80),
)
def test_power_of_two_as_a_unit_changes_no_bit(seed, price, volume):
    prices = random_prices(seed)
    other = compute_features(scaled(prices, 2.0**price, 2.0**volume), CORE)
    assert feature_hash(other) == feature_hash(compute_features(prices, CORE))


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    price=st.floats(1e-6, 1e6),
    volume=st.floats(1e-6, 1e6),
)
def test_any_unit_changes_nothing_beyond_rounding(seed, price, volume):
    prices = random_prices(seed)
    pd.testing.assert_frame_equal(
        compute_features(scaled(prices, price, volume), CORE),
        compute_features(prices, CORE),
        rtol=1e-6,
        atol=1e-9,
    )


@pytest.mark.parametrize("unit", [1.0, 0.1, 3.7e-6, 1.1e6])
def test_equal_typical_prices_are_equal_in_every_unit(unit):
    # Both bars' typical price is 10.00 exactly, but not in binary: 10.02 + 9.98 rounds.
    bars = np.array([[10.02, 9.98, 10.00], [10.07, 9.93, 10.00], [10.01, 9.96, 10.03]])
    high, low, close = unit * np.tile(bars, (20, 1)).T
    prices = price_table(open=close, high=high, low=low, close=close, volume=[1e6] * 60)
    assert set(compute_features(prices, CORE)["money_flow_14"]) == {50.0}


# --- Prices that a formula may stumble over ---

FLAT = {
    **dict.fromkeys(CORE.names, 0.0),
    "rsi_14": 50.0,
    "bollinger_position": 0.5,
    "stochastic_k_14": 0.5,
    "volatility_ratio_5_20": 1.0,
    "volume_ratio_20": 1.0,
    "money_flow_14": 50.0,
}


@pytest.mark.parametrize("volume", [0.0, 1.0, 1e12])
@pytest.mark.parametrize("price", [1e-6, 0.1, 1e6])
def test_flat_prices_sit_in_the_middle(price, volume):
    table = compute_features(flat_prices(price=price, volume=volume), CORE)
    for name in set(CORE.names) - {"day_of_week", "month"}:
        assert set(table[name]) == {FLAT[name]}, name


def then_flat(rows):
    """Ordinary days followed by days on which nothing happens, for months."""
    moving = random_prices(5, rows=60)
    level = np.full(rows, moving["close"].iloc[-1])
    return price_table(
        **{
            name: np.append(moving[name], level if name != "volume" else 0.0 * level)
            for name in ("open", "high", "low", "close", "volume")
        }
    )


def test_windows_forget_what_left_them():
    tail = compute_features(then_flat(40), CORE).iloc[-15:]
    smoothed = {"rsi_14", "macd_histogram", "adx_14", "di_spread_14", "atr_14_ratio"}
    for name in set(CORE.names) - smoothed - {"day_of_week", "month"}:
        assert set(tail[name]) == {FLAT[name]}, name


def test_smoothed_features_do_not_jump_in_a_long_calm():
    # After some 450 flat days Wilder's means are below 1e-14, which TA-Lib before 0.8 took for 0.
    tail = compute_features(then_flat(900), CORE).iloc[300:]
    for name in ("rsi_14", "adx_14", "di_spread_14"):
        assert np.ptp(tail[name]) < 0.01, name


def test_huge_volume_leaves_no_residue():
    prices = random_prices(9, rows=200)
    quiet = prices.assign(volume=1.0)
    loud = quiet.assign(volume=np.where(quiet.index < 100, 1e12 / 3.0, 1.0))
    names = ["volume_ratio_20", "obv_slope_20", "money_flow_14"]
    rows = slice(100 + 20 - CORE.lookback, None)
    pd.testing.assert_frame_equal(
        compute_features(loud, CORE)[names].iloc[rows],
        compute_features(quiet, CORE)[names].iloc[rows],
        check_exact=True,
    )


def test_window_deviation_forgets_what_left_it():
    rng = np.random.default_rng(3)
    values = np.concatenate(
        [1e9 * rng.random(40), np.full(40, 0.1), 1e-6 * rng.random(40), 1e6 + 1e-4 * rng.random(40)]
    )
    for days in (5, 14, 20):
        mean, std = window_mean_and_std(values, days)
        windows = [values[i : i + days].tolist() for i in range(values.size - days + 1)]
        size = np.array([max(window) for window in windows])
        np.testing.assert_array_less(
            abs(mean - [statistics.fmean(w) for w in windows]), 1e-15 * size
        )
        np.testing.assert_array_less(
            abs(std - [statistics.pstdev(w) for w in windows]), 1e-15 * size
        )
        flat = np.array([min(window) == max(window) for window in windows])
        assert flat.any()
        assert not std[flat].any()


def test_constant_growth_is_no_change_of_volatility():
    close = 0.1 * 1.01 ** np.arange(80)
    prices = price_table(open=close, high=close, low=close, close=close, volume=[1.0] * 80)
    assert set(compute_features(prices, CORE)["volatility_ratio_5_20"]) == {1.0}


DAYS = {
    "flat": lambda rng, n: np.ones(n),
    "noise": lambda rng, n: 1.0 + rng.normal(0.0, 0.02, n).clip(-0.5, 0.5),
    "last bits": lambda rng, n: 1.0 + rng.integers(-2, 3, n) * 2.0**-52,
    "crash": lambda rng, n: np.full(min(n, 6), 0.5),
    "rally": lambda rng, n: np.full(min(n, 6), 1.5),
    "whipsaw": lambda rng, n: np.where(np.arange(n) % 2, 0.5, 1.5),
}
SEGMENT = st.tuples(
    st.sampled_from(sorted(DAYS)),
    st.integers(1, 60),
    st.sampled_from([0.0, 1.0, 1e12]),
    st.sampled_from([0.0, 1e-15, 0.01]),
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    start=st.sampled_from([1e-6, 0.1, 1e6]),
    segments=st.lists(SEGMENT, min_size=1, max_size=6),
)
def test_odd_but_valid_prices_give_finite_values_in_range(seed, start, segments):
    rng = np.random.default_rng(seed)
    segments = [("noise", CORE.min_rows, 1.0, 0.01), *segments]
    steps = [DAYS[kind](rng, rows) for kind, rows, _, _ in segments]
    close = start * np.cumprod(np.concatenate(steps))
    width = np.concatenate(
        [np.full(len(s), w) for s, (_, _, _, w) in zip(steps, segments, strict=True)]
    )
    volume = np.concatenate(
        [v * rng.random(len(s)) for s, (_, _, v, _) in zip(steps, segments, strict=True)]
    )
    for order in (slice(None), slice(None, None, -1)):
        table = compute_features(
            price_table(
                open=close[order] * (1.0 + width * rng.uniform(-1.0, 1.0, close.size)),
                high=close[order] * (1.0 + width),
                low=close[order] * (1.0 - width),
                close=close[order],
                volume=volume[order],
            ),
            CORE,
        )
        for feature in CORE.features:
            values = table[feature.name].to_numpy()
            assert np.isfinite(values).all(), feature.name
            assert values.min() >= np.float32(feature.low), feature.name
            assert values.max() <= np.float32(feature.high), feature.name
            assert not np.signbit(values[values == 0.0]).any(), feature.name


# --- Where the history starts ---

WINDOWS = [feature for feature in CORE.features if feature.settles is None]
RECURSIVE = [feature for feature in CORE.features if feature.settles is not None]


def stored(prices, features=CORE.features):
    """Values by name, one per row, as the bits of what a table stores; 0 before the first."""
    (bars,) = bars_by_symbol(prices, min_rows=1)
    bits = {}
    for feature in features:
        values = feature.compute(bars).astype(np.float32) + np.float32(0.0)
        values[: feature.lookback] = 0.0
        bits[feature.name] = values.view(np.int32)
    return bits


def with_jumps(seed, rows):
    """A random walk that now and then halves, doubles or falls by a third overnight."""
    rng = np.random.default_rng(seed)
    jumps = rng.choice([0.5, 0.7, 1.5, 2.0], rows)
    factor = np.cumprod(np.where(rng.random(rows) < 0.01, jumps, 1.0))
    prices = random_prices(seed, rows)
    prices[["open", "high", "low", "close"]] *= factor[:, None]
    return prices


def after_another_level(prices, rows, level):
    """The same prices, but for the first rows, which lie at another level altogether."""
    changed = prices.copy()
    changed.loc[: rows - 1, ["open", "high", "low", "close"]] *= level
    changed.loc[: rows - 1, "volume"] *= 1e6
    return changed


@settings(max_examples=20, deadline=None)
@given(
    seed=st.none() | st.integers(0, 2**32),
    dropped=st.integers(1, 80),
    level=st.sampled_from([1.0, 1e3, 1e-3, 1e9]),
)
def test_window_is_the_same_bits_after_any_history(seed, dropped, level):
    prices = real_prices(rows=120) if seed is None else with_jumps(seed, 120)
    whole = stored(after_another_level(prices, dropped, level), WINDOWS)
    short = stored(prices[dropped:], WINDOWS)
    for feature in WINDOWS:
        first = feature.lookback
        assert (short[feature.name][first:] == whole[feature.name][dropped + first :]).all(), (
            feature.name
        )


def differing(prices, ends, rows):
    """Names of the features whose value on the last of just `rows` rows is another one."""
    whole = stored(prices)
    differ = []
    for end in ends:
        short = stored(prices[end - rows : end])
        differ.append({name for name in CORE.names if short[name][-1] != whole[name][end - 1]})
    return differ


@pytest.mark.parametrize("symbol", ["AAPL", "GOOG"])
def test_settled_row_of_real_prices_is_the_same_bits_as_with_all_history(symbol):
    prices = real_prices(symbol, rows=None)
    ends = range(CORE.settled_rows + 1, len(prices) + 1, 61)
    assert differing(prices, ends, CORE.settled_rows) == [set()] * len(ends)


def test_far_fewer_rows_do_not_settle_a_recursive_feature():
    ends = range(500, 1000, 23)
    expected = {feature.name for feature in RECURSIVE}
    assert differing(real_prices(rows=1000), ends, 60) == [expected] * len(ends)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    before=st.integers(1, 100),
    level=st.sampled_from([1.0, 1e3, 1e-3]),
)
def test_settled_row_is_the_same_bits_after_an_absurd_history(seed, before, level):
    rows = before + CORE.settled_rows
    prices = after_another_level(with_jumps(seed, rows), before, level)
    assert differing(prices, [rows], CORE.settled_rows) == [set()]


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 2e-19, reason="no float wider than 64 bits here")
@pytest.mark.parametrize("feature", RECURSIVE, ids=lambda feature: feature.name)
def test_what_is_left_of_the_start_is_less_than_half_the_last_bit_of_a_float64(feature):
    settled, before = CORE.settled_rows, 40
    prices = after_another_level(random_prices(3, before + settled), before, 1e3)
    whole = {name: prices[name].to_numpy(np.longdouble) for name in ("high", "low", "close")}
    short = {name: column[before:] for name, column in whole.items()}

    def left(row):
        expected = TEXTBOOK[feature.name](whole, before + row)
        return abs(TEXTBOOK[feature.name](short, row) / expected - 1)

    assert left(settled - 1) < 2.0**-53
    assert left(400) > 2.0**-53


def test_price_that_stands_still_forgets_nothing():
    prices = then_flat(2 * CORE.settled_rows)
    (differ,) = differing(prices, [len(prices)], len(prices) - 20)
    assert {"rsi_14", "adx_14", "di_spread_14"} <= differ


def test_set_settles_with_its_slowest_feature():
    def settled_rows(*features):
        return FeatureSet(name="some", version="1", features=features).settled_rows

    assert CORE.settled_rows == 701
    assert settled_rows(BY_NAME["month"], BY_NAME["volatility_20"]) == 21
    assert settled_rows(BY_NAME["volatility_20"], replace(BY_NAME["month"], settles=30)) == 31
    assert settled_rows(replace(BY_NAME["volatility_20"], settles=3)) == 21
    assert settled_rows() == 1


# --- The same bits on every CPU ---


def feature_hash(table):
    digest = hashlib.sha256()
    for name in CORE.names:
        digest.update(table[name].to_numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.slow
def test_cpu_without_vector_instructions_gives_the_same_bits(tmp_path):
    present = [name for name in __cpu_dispatch__ if __cpu_features__[name]]
    if not present:
        pytest.skip("this CPU has none of the instructions that NumPy chooses at run time")
    prices = pd.concat([random_prices(4, 1000), real_prices(rows=1000)], ignore_index=True)
    prices.to_pickle(tmp_path / "prices.pickle")
    script = (
        "import sys, numpy as np, pandas as pd\n"
        "from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__\n"
        "from steps.market.features import FEATURE_SETS, compute_features\n"
        "print([name for name in __cpu_dispatch__ if __cpu_features__[name]])\n"
        "table = compute_features(pd.read_pickle(sys.argv[1]), FEATURE_SETS['core'])\n"
        "np.save(sys.argv[2], table.iloc[:, 2:].to_numpy())\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "prices.pickle", tmp_path / "plain.npy"],
        cwd=ROOT,
        env={**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(present)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "[]\n"
    plain = pd.DataFrame(np.load(tmp_path / "plain.npy"), columns=list(CORE.names))
    assert feature_hash(plain) == feature_hash(compute_features(prices, CORE))
