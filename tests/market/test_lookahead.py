"""Nothing in the feature table may change when the future, or another symbol, does."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from steps.market.features import FEATURE_SETS, compute_features
from steps.market.labels import label_direction

CORE = FEATURE_SETS["core"]
ROWS = 80
COLUMNS = ["open", "high", "low", "close", "volume"]


def prices_of(symbol, rng, rows=ROWS):
    close = np.round(20.0 * np.cumprod(1.0 + rng.normal(0.0, 0.03, rows)), 2)
    open_ = np.round(close * (1.0 + rng.normal(0.0, 0.01, rows)), 2)
    return pd.DataFrame(
        {
            "date": pd.bdate_range("2021-01-01", periods=rows).astype("datetime64[s]"),
            "symbol": pd.array([symbol] * rows, dtype="str"),
            "open": open_,
            "high": np.maximum(open_, close) + np.round(rng.random(rows), 2),
            "low": np.minimum(open_, close) * 0.98,
            "close": close,
            "volume": rng.integers(0, 1_000_000, rows).astype(float),
        }
    )


def table_of(*parts):
    return pd.concat(parts, ignore_index=True)


def assert_same_bits(left, right):
    pd.testing.assert_frame_equal(
        left.reset_index(drop=True), right.reset_index(drop=True), check_exact=True
    )


FUTURES = {
    "seed": st.integers(0, 2**32),
    "last": st.integers(CORE.lookback, ROWS - 2),
    "factor": st.sampled_from([None, 1e-3, 0.5, 7.0, 1e6]),
}


def known_and_other_future(seed, last, factor):
    """Two symbols' prices, the same with the days after row `last` cut off or altered, that day."""
    rng = np.random.default_rng(seed)
    prices = table_of(prices_of("AAA", rng), prices_of("BBB", rng))
    cut = prices["date"].iloc[last]
    later = prices["date"] > cut
    if factor is None:
        return prices, prices[~later].reset_index(drop=True), cut
    other = prices.copy()
    other.loc[later, COLUMNS] *= factor * (1.0 + rng.random((int(later.sum()), 1)))
    return prices, other, cut


@settings(max_examples=40, deadline=None)
@given(**FUTURES)
def test_features_do_not_see_the_future(seed, last, factor):
    prices, other, cut = known_and_other_future(seed, last, factor)
    before, after = compute_features(prices, CORE), compute_features(other, CORE)
    assert (before["date"] <= cut).sum() == 2 * (last - CORE.lookback + 1)
    assert_same_bits(before[before["date"] <= cut], after[after["date"] <= cut])


@settings(max_examples=40, deadline=None)
@given(**FUTURES)
def test_features_do_see_the_present(seed, last, factor):
    # The counterpart: the test above would pass a table that depends on nothing.
    prices, other, cut = known_and_other_future(seed, last, factor or 0.5)
    before, after = compute_features(prices, CORE), compute_features(other, CORE)
    first = before["date"] == before.loc[before["date"] > cut, "date"].min()
    assert (before.loc[first, "return_1d"] != after.loc[first, "return_1d"]).all()


@settings(max_examples=40, deadline=None)
@given(**FUTURES, horizon=st.integers(1, 30))
def test_labels_do_not_see_past_the_day_they_are_known(seed, last, factor, horizon):
    prices, other, cut = known_and_other_future(seed, last, factor)
    before, after = label_direction(prices, horizon), label_direction(other, horizon)
    assert_same_bits(before[before["label_known_at"] <= cut], after[after["label_known_at"] <= cut])
    if factor is None:
        late = before["label_known_at"].isna() | (before["label_known_at"] > cut)
        still_there = before[late & (before["date"] <= cut)]
        unknown = after[after["direction"].isna()]
        pd.testing.assert_frame_equal(
            unknown[["date", "symbol"]].reset_index(drop=True),
            still_there[["date", "symbol"]].reset_index(drop=True),
        )
        assert unknown["label_known_at"].isna().all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), rows=st.integers(1, ROWS))
def test_other_symbols_change_nothing(seed, rows):
    rng = np.random.default_rng(seed)
    alone = prices_of("MMM", rng)
    among = table_of(prices_of("AAA", rng, rows), alone, prices_of("ZZZ", rng, rows))
    for compute in (lambda p: compute_features(p, CORE), lambda p: label_direction(p, 5)):
        together = compute(among)
        assert_same_bits(together[together["symbol"] == "MMM"], compute(alone))
