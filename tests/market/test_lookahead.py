"""Nothing in the feature table may change when the future, or another symbol, does."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steps.market.features import FEATURE_SETS, Feature, FeatureSet, compute_features
from steps.market.labels import label_direction
from steps.market.lookahead import LookAhead, find_lookahead
from steps.market.prices import load_prices

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


@pytest.mark.slow
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


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), rows=st.integers(1, ROWS))
def test_other_symbols_change_nothing(seed, rows):
    rng = np.random.default_rng(seed)
    alone = prices_of("MMM", rng)
    among = table_of(prices_of("AAA", rng, rows), alone, prices_of("ZZZ", rng, rows))
    for compute in (lambda p: compute_features(p, CORE), lambda p: label_direction(p, 5)):
        together = compute(among)
        assert_same_bits(together[together["symbol"] == "MMM"], compute(alone))


# --- The same question, asked by the recipe of the prices it is given ---


def one_feature(compute, name="suspect", lookback=0):
    return Feature(
        name=name,
        formula="planted",
        source="nobody",
        lookback=lookback,
        low=-np.inf,
        high=np.inf,
        compute=compute,
    )


def with_core(*features):
    return FeatureSet(name="planted", version="0", features=(*CORE.features, *features))


def only(*features):
    return FeatureSet(name="planted", version="0", features=features)


def next_return(bars):
    return np.append(bars.close[1:] / bars.close[:-1] - 1.0, 0.0)


def z_score(bars):
    return (bars.close - bars.close.mean()) / bars.close.std()


def centred_mean(bars):
    return pd.Series(bars.close).rolling(5, center=True, min_periods=1).mean().to_numpy()


def filtered_from_both_sides(bars):
    forward = pd.Series(bars.close).ewm(span=5).mean()
    return forward[::-1].ewm(span=5).mean()[::-1].to_numpy()


def next_gap(bars):
    """Days to the next row: on most days 1, which is also what the last row gets."""
    return np.append(np.diff(bars.date).astype(float), 1.0)


def rank_in_all_volumes(bars):
    return bars.volume.argsort().argsort().astype(float)


def share_of_rows(bars):
    return np.arange(bars.close.size) / bars.close.size


LEAKS = [
    next_return,
    z_score,
    centred_mean,
    filtered_from_both_sides,
    next_gap,
    rank_in_all_volumes,
    share_of_rows,
]


@pytest.mark.parametrize("leak", LEAKS)
def test_a_planted_look_ahead_is_found_among_honest_features(leak):
    rng = np.random.default_rng(0)
    prices = table_of(prices_of("AAA", rng), prices_of("BBB", rng))
    (found,) = find_lookahead(prices, with_core(one_feature(leak)))
    assert (found.feature, found.symbol) == ("suspect", "AAA")
    assert found.value != found.value_before


def test_what_is_found_is_said_with_its_place_and_both_values():
    prices = prices_of("AAA", np.random.default_rng(0), rows=10)
    close, day = prices["close"], prices["date"]
    (found,) = find_lookahead(prices, only(one_feature(next_return)), cuts=(0.7,))
    assert found == LookAhead(
        feature="suspect",
        symbol="AAA",
        date=f"{day[6]:%Y-%m-%d}",  # the last of the seven days that are left
        value=float(np.float32(close[7] / close[6] - 1.0)),
        value_before=0.0,
        rows=1,
        later_rows="cut off",
    )
    (found,) = find_lookahead(prices, only(one_feature(share_of_rows)), cuts=(0.7,))
    assert (found.date, found.rows) == (f"{day[1]:%Y-%m-%d}", 6)  # on the first day both are 0


def test_a_maximum_that_came_early_is_found_by_changing_what_came_later():
    prices = prices_of("AAA", np.random.default_rng(0))
    for name in ("open", "high", "low", "close"):
        prices.loc[10, name] *= 10.0
        prices.loc[12, name] /= 10.0
    for extreme in (np.max, np.min):
        share = one_feature(lambda bars, extreme=extreme: bars.close / extreme(bars.close))
        (found,) = find_lookahead(prices, only(share))
        assert (found.later_rows, found.rows) == ("changed", int(0.8 * ROWS))


def test_the_next_date_is_found_by_moving_it():
    prices = prices_of("AAA", np.random.default_rng(0))
    prices["date"] = pd.date_range("2021-01-01", periods=ROWS).astype("datetime64[s]")
    (found,) = find_lookahead(prices, only(one_feature(next_gap)))
    assert (found.value, found.value_before, found.later_rows) == (1.0, 11.0, "changed")


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), kept=st.floats(0.1, 1.0))
def test_tomorrows_direction_is_found_even_where_it_was_guessed_right(seed, kept):
    prices = prices_of("AAA", np.random.default_rng(seed), rows=20)
    for guess in (0.0, 1.0):
        direction = one_feature(
            lambda bars, guess=guess: np.append(bars.close[1:] > bars.close[:-1], guess)
        )
        assert find_lookahead(prices, only(direction), cuts=(kept,))


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    rows=st.lists(st.integers(1, ROWS), min_size=1, max_size=3),
    flat=st.booleans(),
    idle=st.booleans(),
    cuts=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=4),
)
def test_the_honest_features_are_never_suspected(seed, rows, flat, idle, cuts):
    rng = np.random.default_rng(seed)
    prices = table_of(*(prices_of(f"S{i}", rng, count) for i, count in enumerate(rows)))
    if flat:
        still = rng.random(len(prices)) < 0.7
        prices.loc[still, ["open", "high", "low", "close"]] = 20.0
    if idle:
        prices.loc[rng.random(len(prices)) < 0.7, "volume"] = 0.0
    assert find_lookahead(prices, CORE, cuts=tuple(cuts)) == []


def test_the_honest_features_are_not_suspected_on_real_prices():
    assert find_lookahead(load_prices("sample").table, CORE) == []


def test_the_symbols_looked_at_are_spread_over_the_table():
    # Each symbol's first close is its number, by which the feature knows where to cheat.
    def in_symbol(number):
        return one_feature(
            lambda bars: next_return(bars) if bars.close[0] == number else np.zeros(bars.close.size)
        )

    prices = table_of(*(prices_of(f"S{i}", np.random.default_rng(i), 10 + i) for i in range(7)))
    prices["close"] = prices["close"].mask(~prices["symbol"].duplicated(), np.arange(len(prices)))
    firsts = prices.loc[~prices["symbol"].duplicated(), "close"].tolist()

    def caught(most_symbols):
        return [
            number
            for number, first in enumerate(firsts)
            if find_lookahead(prices, only(in_symbol(first)), most_symbols=most_symbols)
        ]

    assert caught(1) == [0]
    assert caught(3) == [0, 3, 6]
    assert caught(7) == caught(20) == [0, 1, 2, 3, 4, 5, 6]


def test_rows_that_do_not_reach_the_table_are_not_looked_at():
    # Only the first 30 rows look ahead, and they lack history, as core's first 33 rows do.
    early = one_feature(lambda bars: np.where(np.arange(bars.close.size) < 30, z_score(bars), 0.0))
    prices = prices_of("AAA", np.random.default_rng(0))
    assert find_lookahead(prices, with_core(early)) == []
    assert len(find_lookahead(prices, only(early))) == 1


@pytest.mark.parametrize("rows", [0, 1, 2, CORE.min_rows])
def test_too_few_rows_say_nothing(rows):
    prices = prices_of("AAA", np.random.default_rng(0), rows=ROWS).iloc[:rows]
    assert find_lookahead(prices, with_core(one_feature(next_return))) == []


def test_the_prices_stay_as_they_are():
    prices = prices_of("AAA", np.random.default_rng(0))
    before = prices.copy(deep=True)
    find_lookahead(prices, with_core(one_feature(z_score)))
    pd.testing.assert_frame_equal(prices, before, check_exact=True)


def test_a_value_that_is_missing_without_later_rows_is_ready_for_json():
    leak = one_feature(lambda bars: pd.Series(bars.close).shift(-1).to_numpy())
    (found,) = find_lookahead(prices_of("AAA", np.random.default_rng(0)), only(leak))
    described = json.loads(json.dumps(found.describe(), allow_nan=False))
    assert described == {**vars(found), "value_before": None}


@pytest.mark.parametrize(
    "wrong", [{"cuts": ()}, {"cuts": (0.0, 0.5)}, {"cuts": (60,)}, {"most_symbols": 0}]
)
def test_where_to_look_must_make_sense(wrong):
    with pytest.raises(ValueError, match="cuts must be one or more shares"):
        find_lookahead(prices_of("AAA", np.random.default_rng(0)), CORE, **wrong)
