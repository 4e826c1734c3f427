"""Drift of features: against other formulas and by hand, and how often by mistake."""

from itertools import combinations
from math import comb

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from scipy.stats import ks_2samp
from statsmodels.stats.multitest import multipletests

from steps.learning.drift import population_stability_index
from steps.learning.two_sample import drift_table, holm, too_little_data
from steps.market.feature_set import compute_features
from steps.market.features import get_feature_set
from steps.market.prices import load_prices

MANY = 24


def table(values: np.ndarray, first: int = 0, symbols: int = 1) -> pd.DataFrame:
    """One column per feature; rows in the order of dates, so many symbols each."""
    columns = {f"f{number}": column for number, column in enumerate(np.atleast_2d(values.T))}
    return pd.DataFrame({"date": first + np.arange(len(values)) // symbols, **columns})


def noise(seed: int, n_reference: int, n_new: int, features: int = 1, symbols: int = 1) -> tuple:
    random = np.random.default_rng(seed)
    rows = random.normal(size=((n_reference + n_new) * symbols, features))
    cut = n_reference * symbols
    return table(rows[:cut], 0, symbols), table(rows[cut:], n_reference, symbols)


def lasting(seed: int, n_dates: int, features: int, symbols: int, phi: float) -> np.ndarray:
    """AR(1) of unit spread, of which half the variance is common to all symbols."""
    shocks = np.random.default_rng(seed).normal(size=(n_dates + 300, features, 1 + symbols))
    series = lfilter([np.sqrt(1 - phi**2)], [1, -phi], shocks, axis=0)[300:]
    rows = np.sqrt(0.5) * (series[:, :, :1] + series[:, :, 1:])
    return rows.transpose(0, 2, 1).reshape(-1, features)


def names_of(rows: pd.DataFrame) -> list[str]:
    return [name for name in rows if name != "date"]


# --- one feature, one figure -------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(
    then=st.lists(st.integers(-20, 20), min_size=3, max_size=70),
    now=st.lists(st.integers(-20, 20), min_size=3, max_size=30),
)
def test_distances_of_up_to_a_hundred_rows_are_exact(then: list[int], now: list[int]) -> None:
    samples = [table(np.array(rows, dtype=float)) for rows in (then, now)]
    found = drift_table(*samples, ["f0"]).loc[0]
    assert found["ks"] == pytest.approx(ks_2samp(then, now, method="asymp").statistic, abs=1e-12)
    assert found["psi"] == population_stability_index(then, now)


def test_distances_of_many_rows_miss_little() -> None:
    for seed in range(3):
        then, now = noise(seed, 3000, 400)
        now["f0"] += 0.1 * seed
        exact = ks_2samp(then["f0"], now["f0"]).statistic
        assert exact - 0.01 - 1e-12 < drift_table(then, now, ["f0"]).loc[0, "ks"] <= exact + 1e-12


def by_hand(then: np.ndarray, now: np.ndarray, then_block: list[int], now_block: list[int]) -> list:
    """Distance and p-value from the definition: blocks numbered, -1 in none."""
    values, new = np.concatenate([now, then]), max(now_block) + 1
    of_row = np.array(now_block + [block + new if block >= 0 else -2 for block in then_block])
    n_blocks = max(of_row) + 1

    not_above = values <= values[:, None]

    def distance(chosen: np.ndarray, among: np.ndarray) -> float:
        here, others = (not_above[:, which & among].mean(axis=1) for which in (chosen, ~chosen))
        return float(np.abs(here - others).max())

    everything, reference = np.ones(len(values), bool), of_row >= new
    permuted = [
        distance(np.isin(of_row, [*chosen, -1]), everything)
        for chosen in combinations(range(n_blocks), new)
    ]
    anywhere = np.mean(
        [distance(np.isin(of_row, c), reference) for c in combinations(range(new, n_blocks), new)]
    )
    runs = np.mean(
        [
            distance(np.isin(of_row, range(first, first + new)), reference)
            for first in range(new, n_blocks - new + 1)
        ]
    )
    stretched = [min(max(1.0, runs / anywhere) * d, (1 + d) / 2) for d in permuted]
    as_far = sum(d >= permuted[0] - 1e-12 for d in stretched[1:])
    return [permuted[0], (1 + as_far) / len(permuted)]


@pytest.mark.parametrize("trend", [0.0, 0.04])
def test_every_permutation_by_hand(trend: float) -> None:
    # 33 reference dates and 7 new ones in blocks of two, one date of either left over; the dates
    # with an even number have two rows. All 969 permutations and 560 picks are gone through.
    random = np.random.default_rng(3)
    dates = np.sort(np.concatenate([np.arange(40), np.arange(0, 40, 2)]))
    rows = pd.DataFrame({"date": dates, "f0": random.normal(size=60) + trend * dates})
    rows.loc[dates >= 33, "f0"] += 0.5
    then, now = rows[dates < 33], rows[dates >= 33]
    then_block = [date // 2 if date < 32 else -1 for date in then["date"]]
    now_block = [(date - 33) // 2 if date < 39 else -1 for date in now["date"]]
    expected = by_hand(then["f0"].to_numpy(), now["f0"].to_numpy(), then_block, now_block)
    found = drift_table(then, now, ["f0"], block_length=2).loc[0]
    assert [found["ks"], found["p_value"]] == pytest.approx(expected)
    assert 0.01 < found["p_value"] < 0.9


@pytest.mark.slow
def test_without_memory_p_values_are_scipys() -> None:
    found = []
    for seed in range(8):
        then, now = noise(seed, 300, 90)
        now["f0"] += 0.05 * seed
        mine = drift_table(then, now, ["f0"], block_length=1).loc[0, "p_value"]
        found.append((mine, ks_2samp(then["f0"], now["f0"]).pvalue))
    mine, scipys = np.array(found).T
    assert np.abs(mine - scipys).max() < 0.2
    assert np.corrcoef(mine, scipys)[0, 1] > 0.97


# --- a whole table -----------------------------------------------------------------------------


@pytest.mark.slow
def test_holm_is_statsmodels() -> None:
    random = np.random.default_rng(0)
    for number in (1, 2, 7, 24):
        p_values = random.random(number).round(2) ** 3  # some are equal, some small
        found = holm(np.append(p_values, np.nan))
        assert found[:-1] == pytest.approx(multipletests(p_values, method="holm")[1])
        assert np.isnan(found[-1])


def test_the_least_data_can_convict_one_of_24_features() -> None:
    # 16 and 3 blocks of one row. Only the 3 highest and the 3 lowest are as far out.
    then, now = noise(0, 16, 3, MANY)
    now["f5"] = [10.0, 12.0, 11.0]
    found = drift_table(then, now, names_of(then), block_length=1)
    assert found.loc[5, "p_value"] == 2 / comb(19, 3)
    assert found["drifted"].tolist() == [number == 5 for number in range(MANY)]


def test_drift_is_both_significant_and_large() -> None:
    then, now = noise(1, 1200, 400, 3, symbols=3)
    now["f1"] += 0.25
    now["f2"] *= 2
    found = drift_table(then, now, ["f2", "f1", "f0"]).set_index("feature")
    assert found.index.tolist() == ["f2", "f1", "f0"]
    assert (found["p_adjusted"] < 0.05).tolist() == [True, True, False]
    assert found["drifted"].tolist() == [True, False, False]
    bounded = drift_table(then, now, ["f2", "f1", "f0"], psi_bound=0.02)
    assert bounded["drifted"].tolist() == [True, True, False]


def test_the_same_rows_in_any_order_give_the_same_table() -> None:
    then, now = noise(2, 400, 100, 2, symbols=2)
    shuffled = (rows.sample(frac=1, random_state=1) for rows in (then, now))
    expected = drift_table(then, now, ["f0", "f1"])
    pd.testing.assert_frame_equal(drift_table(*shuffled, ["f0", "f1"]), expected)
    other = drift_table(then, now, ["f0", "f1"], random_state=1)
    assert other["p_value"].to_numpy() == pytest.approx(expected["p_value"].to_numpy(), abs=0.05)


def test_a_constant_feature_drifts_only_when_it_moves() -> None:
    then, now = noise(3, 400, 100, 2)
    then[["f0", "f1"]] = 7.0
    now[["f0", "f1"]] = [7.0, 8.0]
    found = drift_table(then, now, ["f0", "f1"])
    assert found["ks"].tolist() == [0.0, 1.0]
    assert found["p_value"].iloc[0] == 1
    assert found["drifted"].tolist() == [False, True]


def test_a_part_of_the_year_is_no_drift() -> None:
    days = pd.bdate_range("2005-01-03", "2012-06-29")
    rows = pd.DataFrame({"date": days, "month": days.month, "day_of_week": days.day_of_week})
    then, now = rows[days < "2012-01-01"], rows[days >= "2012-01-01"]
    found = drift_table(then, now, ["month", "day_of_week"])
    assert found.loc[0, ["psi", "ks", "p_value", "p_adjusted"]].isna().all()
    assert not found["drifted"].any()
    assert found.loc[1, "p_adjusted"] == found.loc[1, "p_value"] > 0.5
    # Were it compared, it would have moved as far as anything can.
    assert drift_table(then, now, ["month"], time_of_year=()).loc[0, "psi"] > 1


# --- too little, and what cannot be ------------------------------------------------------------


def test_too_little_data_says_what_is_lacking() -> None:
    twice = np.repeat(np.arange(1000), 2)
    assert too_little_data(twice[:-126], twice[-126:]) is None
    assert too_little_data(twice[:-124], twice[-124:]) == (
        "62 new dates, 63 needed (3 blocks of 21): too few to tell drift from chance"
    )
    assert too_little_data(twice[:630], twice, block_length=20) == (
        "315 reference dates, 320 needed (16 blocks of 20): too few to tell drift from chance"
    )


def test_of_too_little_data_nothing_has_drifted() -> None:
    then, now = noise(4, 400, 62)
    found = drift_table(then, now + 10, ["f0"]).loc[0]
    assert found["psi"] > 1
    assert found["ks"] > 0.99
    assert np.isnan(found[["p_value", "p_adjusted"]].astype(float)).all()
    assert not found["drifted"]
    then, now = noise(4, 400, 63)
    assert drift_table(then, now + 10, ["f0"]).loc[0, "drifted"]


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ({"f0": np.nan}, {}, "f0 must be finite; 100 of its new values are not"),
        ({"date": np.nan}, {}, "each with its date; there are 100, of which 100 have none"),
        ({}, {"n_resamples": 19}, "19 resamples cannot make any of 1 features.* more than 20"),
        ({}, {"alpha": 5}, "alpha must lie between"),
        ({}, {"block_length": 0}, "block_length must be 1 or more"),
    ],
)
def test_what_cannot_be_compared_is_refused(change: dict, settings: dict, message: str) -> None:
    then, now = noise(5, 400, 100)
    with pytest.raises(ValueError, match=message):
        drift_table(then, now.assign(**change), ["f0"], **settings)


def test_missing_columns_and_rows_are_refused() -> None:
    then, now = noise(5, 400, 100)
    with pytest.raises(ValueError, match="new rows have no column f1"):
        drift_table(then.assign(f1=0.0), now, ["f0", "f1"])
    with pytest.raises(ValueError, match="There must be reference rows"):
        drift_table(then.head(0), now, ["f0"])


# --- how often by mistake, and how often not ---------------------------------------------------


def test_a_moved_mean_and_a_doubled_spread_are_found() -> None:
    for seed in range(4):
        then, now = noise(seed, 500, 63, 3, symbols=5)
        now["f1"] += 1
        now["f2"] *= 2
        assert drift_table(then, now, names_of(then))["drifted"].tolist() == [False, True, True]


def test_values_unlike_all_before_are_found_however_long_the_memory() -> None:
    rows = table(lasting(6, 463, 2, symbols=5, phi=0.98), symbols=5)
    then, now = rows[rows["date"] < 400], rows[rows["date"] >= 400]
    assert not drift_table(then, now, ["f0", "f1"])["drifted"].any()
    found = drift_table(then, now.assign(f1=now["f1"] + 50), ["f0", "f1"])
    assert found["drifted"].tolist() == [False, True]


@pytest.mark.slow
@pytest.mark.parametrize(("phi", "n_new"), [(0.0, 63), (0.95, 63), (0.95, 200)])
def test_tables_without_drift_raise_few_alarms(phi: float, n_new: int) -> None:
    # One table in twenty may; by chance that can be four of 25, and hardly ever more.
    alarms, naive = 0, 0
    for seed in range(25):
        rows = table(lasting(seed, 1200 + n_new, 10, symbols=5, phi=phi), symbols=5)
        then, now = rows[rows["date"] < 1200], rows[rows["date"] >= 1200]
        alarms += (drift_table(then, now, names_of(rows), psi_bound=0)["drifted"]).any()
        if seed < 3:
            naive += min(ks_2samp(then[f], now[f]).pvalue for f in names_of(rows)) < 0.05 / 10
    assert alarms <= 4
    assert naive == 3 or phi == 0


@pytest.mark.slow
def test_real_features_drift_seldom_and_broken_ones_always() -> None:
    core = get_feature_set("core")
    rows = compute_features(load_prices("sample").table, core).drop(columns="symbol")
    days = rows["date"].sort_values().unique()
    cut = int(0.65 * len(days))
    then = rows[rows["date"] < days[cut]]
    alarms = []
    for n_new in (63, 126, 252):
        for first in range(cut, len(days) - n_new + 1, n_new):
            now = rows[rows["date"].isin(days[first : first + n_new])]
            found = drift_table(then, now, names_of(rows), n_resamples=1000)
            alarms.append(found["drifted"].any())
            assert not found.set_index("feature")["drifted"][["month", "day_of_week"]].any()
    assert np.mean(alarms) < 0.15
    broken = now.assign(rsi_14=now["rsi_14"] / 100, volatility_20=100 * now["volatility_20"])
    found = drift_table(then, broken, names_of(rows)).set_index("feature")
    assert found["drifted"][["rsi_14", "volatility_20"]].all()
