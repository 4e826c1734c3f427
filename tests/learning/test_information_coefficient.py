"""The information coefficient against scipy, date by date, and its intervals."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steps.learning.bootstrap import DateBootstrap
from steps.learning.information_coefficient import daily_ic, ic_intervals


def predictions(seed: int, n_days: int, n_symbols: int, n_values: int = 1000) -> pd.DataFrame:
    """Forecasts and returns with many ties where there are few values; some unknown."""
    random = np.random.default_rng(seed)
    n_rows = n_days * n_symbols
    proba = random.integers(0, n_values, n_rows) / n_values
    returns = (random.integers(0, n_values, n_rows) + n_values * proba) / n_values / 50
    returns[random.random(n_rows) < 0.1] = np.nan
    return pd.DataFrame(
        {
            "date": np.tile(pd.bdate_range("2024-01-01", periods=n_days), n_symbols),
            "symbol": np.repeat([f"S{number}" for number in range(n_symbols)], n_days),
            "probability": proba,
            "forward_return": returns,
        }
    ).astype({"date": "datetime64[s]"})


def date_by_date(table: pd.DataFrame) -> pd.DataFrame:
    from scipy import stats

    found = {}
    for date, rows in table.dropna().groupby("date"):
        if len(rows) >= 3:
            sides = rows["probability"], rows["forward_return"]
            with warnings.catch_warnings():  # constant input
                warnings.simplefilter("ignore", stats.ConstantInputWarning)
                found[date] = (stats.pearsonr(*sides)[0], stats.spearmanr(*sides)[0], len(rows))
    columns = ["ic", "rank_ic", "symbols"]
    return pd.DataFrame.from_dict(found, orient="index", columns=columns, dtype=float)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n_days=st.integers(1, 12),
    n_symbols=st.integers(1, 8),
    n_values=st.sampled_from([1, 2, 3, 1000]),
)
def test_each_date_is_as_scipy_says_in_any_order_of_rows(
    seed: int, n_days: int, n_symbols: int, n_values: int
) -> None:
    table = predictions(seed, n_days, n_symbols, n_values)
    found = daily_ic(table.sample(frac=1, random_state=seed))
    expected = date_by_date(table)
    assert found.index.tolist() == expected.index.tolist()
    assert found.index.dtype == table["date"].dtype
    assert found["symbols"].tolist() == expected["symbols"].tolist()
    for name in ("ic", "rank_ic"):
        assert found[name].to_numpy() == pytest.approx(expected[name], abs=1e-9, nan_ok=True)


def one_day(probability: list[float], forward_return: list[float]) -> pd.DataFrame:
    date = pd.Timestamp("2024-01-02")
    return pd.DataFrame(
        {"date": date, "probability": probability, "forward_return": forward_return}
    )


def test_a_day_by_hand_with_a_tie() -> None:
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: products around 2.5 sum to 4.5, squares to 4.5
    # and 5. The values 1, 2, 2, 3 against 0, 0, 0, 4: products to 4, squares to 2 and 12.
    found = daily_ic(one_day([0.1, 0.2, 0.2, 0.3], [0.00, 0.01, 0.02, 0.03])).iloc[0]
    assert found["rank_ic"] == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    found = daily_ic(one_day([0.1, 0.2, 0.2, 0.3], [0, 0, 0, 0.04])).iloc[0]
    assert found["ic"] == pytest.approx(4 / math.sqrt(2 * 12))


def test_days_that_say_nothing() -> None:
    equal, spread = [0.1, 0.1, 0.1], [0.01, 0.02, 0.03]
    for table in (one_day(equal, spread), one_day(spread, equal)):
        found = daily_ic(table)
        assert found["ic"].isna().tolist() == found["rank_ic"].isna().tolist() == [True]
        assert found["symbols"].tolist() == [3]
    for unknown in (math.nan, math.inf):
        assert daily_ic(one_day(spread, [0.1, 0.2, unknown])).empty
    nothing = daily_ic(one_day([], []))
    assert nothing.columns.tolist() == ["ic", "rank_ic", "symbols"]
    assert nothing.index.name == "date"
    assert ic_intervals(nothing, horizon=1) == {}


def test_returns_of_any_size_correlate_alike() -> None:
    proba, returns = [0.1, 0.5, 0.4, 0.9], np.array([0.01, 0.02, -0.01, 0.03])
    sizes = [daily_ic(one_day(proba, returns * size))["ic"].iloc[0] for size in (1, 1e-100, 1e100)]
    assert sizes == pytest.approx([sizes[0]] * 3)


def daily(coefficients: np.ndarray) -> pd.DataFrame:
    """Give the ranks' coefficients twice the size, to tell the two apart."""
    dates = pd.bdate_range("2024-01-01", periods=len(coefficients), name="date")
    return pd.DataFrame({"ic": coefficients, "rank_ic": 2 * coefficients, "symbols": 9}, dates)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), n_days=st.integers(2, 50), centre=st.floats(-0.4, 0.4))
def test_the_values_are_means_and_means_per_spread(seed: int, n_days: int, centre: float) -> None:
    random = np.random.default_rng(seed)
    coefficients = centre + 0.05 * random.normal(size=n_days)
    coefficients[random.random(n_days) < 0.2] = np.nan
    table = daily(coefficients)
    found = ic_intervals(table, horizon=1, n_resamples=20)
    known = table["ic"].dropna()
    if len(known) < 2:
        assert found == {}
        return
    assert list(found) == ["ic", "icir", "rank_ic", "rank_icir"]
    assert found["ic"].value == pytest.approx(known.mean(), abs=1e-12)
    assert found["rank_ic"].value == pytest.approx(2 * known.mean(), abs=1e-12)
    for name in ("icir", "rank_icir"):
        assert found[name].value == pytest.approx(known.mean() / known.std(), rel=1e-9)


def test_the_ends_are_percentiles_over_days_written_out_as_often_as_drawn() -> None:
    random = np.random.default_rng(3)
    coefficients = 0.03 + 0.1 * random.normal(size=80)
    coefficients[[5, 6, 40]] = np.nan
    table = daily(coefficients)
    found = ic_intervals(table, horizon=1, n_resamples=40, random_state=2)
    resampler = DateBootstrap(table.index, block_length=10, n_resamples=40, random_state=2)
    drawn: list[np.ndarray] = []
    resampler.resample(lambda weights: drawn.extend(weights.astype(int)) or weights[:, 0])
    series = [table["ic"].repeat(days).dropna() for days in drawn]
    # Eight blocks leave 0.574 % out at each end, as printed tables say.
    tails = [0.00574, 1 - 0.00574]
    means, ratios = [one.mean() for one in series], [one.mean() / one.std() for one in series]
    for name, resampled in (("ic", means), ("icir", ratios)):
        ends = np.quantile(resampled, tails)
        assert [found[name].low, found[name].high] == pytest.approx(ends, rel=1e-3)


def test_coefficients_that_do_not_vary_have_no_icir() -> None:
    found = ic_intervals(daily(np.full(40, 0.1)), horizon=1, n_resamples=20)
    assert found["ic"].value == pytest.approx(0.1)
    assert math.isnan(found["icir"].value)
    assert math.isnan(found["icir"].low)


def test_two_days_are_enough_for_a_value_and_too_few_for_an_interval() -> None:
    found = ic_intervals(daily(np.array([0.1, 0.3])), horizon=1)
    assert found["ic"].value == pytest.approx(0.2)
    assert found["icir"].value == pytest.approx(0.2 / (0.1 * math.sqrt(2)))
    assert math.isnan(found["ic"].low)
    assert ic_intervals(daily(np.array([0.1, math.nan])), horizon=1) == {}


def test_a_forecast_that_orders_every_day_rightly_has_a_rank_ic_of_one() -> None:
    table = predictions(1, n_days=60, n_symbols=6).dropna()
    knowing = table.assign(probability=1 / (1 + np.exp(-100 * table["forward_return"])))
    found = daily_ic(knowing)
    assert found["rank_ic"].to_numpy() == pytest.approx(np.ones(60))
    assert (found["ic"] < 1).all()


@pytest.mark.slow
def test_of_intervals_of_95_percent_19_in_20_hold_the_truth() -> None:
    # Independent days: the mean is 0.02 and the mean per spread 0.2. One standard error is
    # sqrt(600 * 0.95 * 0.05) = 5.3.
    held = {"ic": 0, "icir": 0}
    for seed in range(600):
        random = np.random.default_rng(seed)
        found = ic_intervals(daily(0.02 + 0.1 * random.normal(size=200)), horizon=1)
        held["ic"] += found["ic"].low <= 0.02 <= found["ic"].high
        held["icir"] += found["icir"].low <= 0.2 <= found["icir"].high
    assert abs(held["ic"] - 570) <= 3 * 5.3
    assert abs(held["icir"] - 570) <= 3 * 5.3
