"""Sharpe ratios: by hand, against the papers' printed figures, and under no skill."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steps.learning.sharpe import (
    annualise,
    deflated_sharpe_ratio,
    expected_max_sharpe,
    probabilistic_sharpe_from_moments,
    probabilistic_sharpe_ratio,
    sharpe_ratio,
)


def test_a_sharpe_ratio_by_hand() -> None:
    # The mean is 0.02; the squares around it sum to 0.0014, over 3 less 1: 0.0007.
    assert sharpe_ratio([0.05, 0.01, 0.00]) == pytest.approx(0.02 / math.sqrt(0.0007))
    assert sharpe_ratio([-0.05, -0.01, 0.00]) == pytest.approx(-0.02 / math.sqrt(0.0007))


def test_a_year_of_days() -> None:
    assert annualise(0.1) == pytest.approx(1.5875, abs=1e-4)  # the root of 252 is 15.8745
    assert annualise(0.5, periods=12) == pytest.approx(1.7321, abs=1e-4)
    assert math.isnan(annualise(math.nan))
    with pytest.raises(ValueError, match="positive number of periods, not 0"):
        annualise(0.1, periods=0)


@pytest.mark.parametrize(
    "returns", [[], [0.01], [0.0] * 9, [0.1] * 9, [0.003] * 1000, [0.1 + 0.2, 0.3]]
)
@pytest.mark.parametrize(
    "figure",
    [sharpe_ratio, probabilistic_sharpe_ratio, lambda returns: deflated_sharpe_ratio(returns, [])],
)
def test_without_spread_there_is_no_ratio(
    figure: Callable[[list[float]], float], returns: list[float]
) -> None:
    assert math.isnan(figure(returns))
    assert math.isnan(deflated_sharpe_ratio(returns, [0.1, 0.2]))


@pytest.mark.parametrize("returns", [[0.1, math.nan], [0.1, math.inf], [[0.1, 0.2]]])
def test_returns_that_are_none_are_refused(returns: list[float]) -> None:
    for figure in (
        sharpe_ratio,
        probabilistic_sharpe_ratio,
        lambda returns: deflated_sharpe_ratio(returns, [0.1, 0.2]),
    ):
        with pytest.raises(ValueError, match="one finite number per period"):
            figure(returns)


def test_two_years_of_a_fund_as_printed() -> None:
    # Bailey & López de Prado 2012: 24 months with a ratio of 0.459 a month (1.59 a year) are
    # above 0 with probability 0.982 were returns normal, and 0.913 with the skewness of
    # -2.448 and kurtosis of 10.164 that were observed.
    normal = probabilistic_sharpe_from_moments(0.458, 24, skew=0, kurtosis=3)
    observed = probabilistic_sharpe_from_moments(0.458, 24, skew=-2.448, kurtosis=10.164)
    assert normal == pytest.approx(0.982, abs=0.0006)
    assert observed == pytest.approx(0.913, abs=0.0006)


def test_the_best_of_a_hundred_trials_as_printed() -> None:
    # Bailey & López de Prado 2014: a ratio of 2.5 a year of 250 days, over 1250 of them, the
    # best of 100 trials whose yearly ratios have a variance of 1/2.
    best_by_luck = expected_max_sharpe(100, 0.5 / 250)
    assert best_by_luck == pytest.approx(0.1132, abs=5e-5)
    deflated = probabilistic_sharpe_from_moments(
        2.5 / math.sqrt(250), 1250, skew=-3, kurtosis=10, benchmark=best_by_luck
    )
    assert deflated == pytest.approx(0.9004, abs=5e-5)


@pytest.mark.parametrize(("n_trials", "printed"), [(10, 1.5388), (100, 2.5076), (1000, 3.2414)])
def test_the_expected_maximum_is_near_the_printed_one(n_trials: int, printed: float) -> None:
    # The means of the greatest of n normal numbers, from tables of order statistics. The
    # formula is an approximation for many trials.
    assert expected_max_sharpe(n_trials, 1.0) == pytest.approx(printed, rel=0.03)
    assert expected_max_sharpe(n_trials, 0.04) == pytest.approx(0.2 * printed, rel=0.03)


def test_one_trial_and_trials_that_do_not_differ_show_no_luck() -> None:
    assert expected_max_sharpe(1, 1.0) == 0
    assert expected_max_sharpe(50, 0.0) == 0


@pytest.mark.parametrize(("n_trials", "variance"), [(0, 1.0), (2, -0.1), (2, math.nan)])
def test_trials_that_are_none_are_refused(n_trials: int, variance: float) -> None:
    with pytest.raises(ValueError, match="At least one trial and a variance of 0 or more"):
        expected_max_sharpe(n_trials, variance)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(3, 40), benchmark=st.floats(-0.3, 0.3))
def test_the_moments_are_scipys(seed: int, n: int, benchmark: float) -> None:
    from scipy import stats

    returns = 0.02 * np.random.default_rng(seed).standard_t(4, size=n) + 0.002
    expected = probabilistic_sharpe_from_moments(
        returns.mean() / returns.std(ddof=1),
        n,
        skew=stats.skew(returns),
        kurtosis=stats.kurtosis(returns, fisher=False),
        benchmark=benchmark,
    )
    assert probabilistic_sharpe_ratio(returns, benchmark) == pytest.approx(expected)
    # Scale says nothing, and the other way up is the other probability.
    assert probabilistic_sharpe_ratio(50 * returns, benchmark) == pytest.approx(expected)
    assert probabilistic_sharpe_ratio(-returns, -benchmark) == pytest.approx(1 - expected)
    own = probabilistic_sharpe_ratio(returns, sharpe_ratio(returns))
    assert own == pytest.approx(0.5)


def test_moments_without_variance_say_nothing() -> None:
    # Two outcomes whose loss is as sure as it gets: 1 - 2 + 1 = 0.
    assert math.isnan(probabilistic_sharpe_from_moments(1, 50, skew=2, kurtosis=5))
    assert math.isnan(probabilistic_sharpe_from_moments(0.1, 1, skew=0, kurtosis=3))


RETURNS = 0.01 * np.random.default_rng(8).normal(size=500) + 0.001


def test_one_trial_needs_no_deflating() -> None:
    for trials in ([], [sharpe_ratio(RETURNS)]):
        assert deflated_sharpe_ratio(RETURNS, trials) == probabilistic_sharpe_ratio(RETURNS)


def test_the_more_trials_and_the_wider_they_scatter_the_less_is_left() -> None:
    own = sharpe_ratio(RETURNS)
    found = [
        deflated_sharpe_ratio(RETURNS, trials)
        for trials in ([own], [own, 0.0], [own, 0.0, 0.0], [own, 0.0, -0.3])
    ]
    assert found == sorted(found, reverse=True)
    assert len(set(found)) == 4


def test_trials_that_scatter_less_than_luck_count_as_scattering_by_luck() -> None:
    own = sharpe_ratio(RETURNS)
    copies = deflated_sharpe_ratio(RETURNS, [own] * 10)
    by_luck = expected_max_sharpe(10, 1 / 499)
    assert copies == pytest.approx(probabilistic_sharpe_ratio(RETURNS, by_luck))
    # A trial without a ratio is one more trial.
    assert deflated_sharpe_ratio(RETURNS, [own] * 9 + [math.nan]) == copies
    assert deflated_sharpe_ratio(RETURNS, [own] + [math.nan] * 9) == copies


def test_trials_that_scatter_more_than_luck_count_as_they_are() -> None:
    trials = [sharpe_ratio(RETURNS), 0.4, -0.4, 0.1]
    benchmark = expected_max_sharpe(4, np.var(trials, ddof=1))
    expected = probabilistic_sharpe_ratio(RETURNS, benchmark)
    assert deflated_sharpe_ratio(RETURNS, trials) == pytest.approx(expected)


def test_the_best_of_twenty_models_without_skill_is_seen_through() -> None:
    # Taken by itself the best of twenty looks skilled, at 95 %, in 1 - 0.95**20 = 64 % of
    # 200 samples, with a standard error of 3.4 %. Deflated, it must do so in less than 5 %.
    random = np.random.default_rng(0)
    alone = deflated = 0
    for _ in range(200):
        returns = 0.01 * random.normal(size=(20, 250))
        trials = [sharpe_ratio(of_model) for of_model in returns]
        best = returns[int(np.argmax(trials))]
        alone += probabilistic_sharpe_ratio(best) > 0.95
        deflated += deflated_sharpe_ratio(best, trials) > 0.95
    assert alone / 200 == pytest.approx(1 - 0.95**20, abs=3 * 0.034)
    assert deflated <= 10
