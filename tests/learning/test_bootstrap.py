"""The bootstrap by blocks of dates: its draws, its intervals, and how often they are right."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steps.learning import bootstrap
from steps.learning.bootstrap import DateBootstrap, Interval, block_length, ratio_of_sums


def mean_of(resampler: DateBootstrap, values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return ratio_of_sums(resampler.day_sums(values), resampler.day_sums(np.ones(len(values))))


def weather(seed: int, n_days: int, persistence: float) -> np.ndarray:
    """Unit shocks of mean zero, each of which lasts for days."""
    shocks = np.random.default_rng(seed).normal(size=n_days)
    for day in range(1, n_days):
        shocks[day] = persistence * shocks[day - 1] + shocks[day] * math.sqrt(1 - persistence**2)
    return shocks


def test_a_resample_is_whole_blocks_of_dates_round_a_circle() -> None:
    starts = np.random.default_rng(1).integers(7, size=(200, 3))
    draws = bootstrap._draw_days(starts, n_days=7, block_length=3)
    assert draws.shape == (200, 7)
    steps = np.diff(draws, axis=1) % 7
    # Within the blocks 0-2, 3-5 and 6 one day follows another; day 0 follows day 6.
    assert (steps[:, [0, 1, 3, 4]] == 1).all()
    assert len(np.unique(draws[:, 0])) == 7
    counts = bootstrap._count_days(draws, 7)
    assert (counts.sum(axis=1) == 7).all()
    assert counts[0].tolist() == [draws[0].tolist().count(day) for day in range(7)]


def test_every_day_is_as_likely_as_any_other() -> None:
    # 5000 resamples of 20 days in blocks of 4: a day's mean count has a standard error of
    # sqrt(5 * 1/5 * 4/5 / 5000) = 0.0126; twenty of them stay within 4.
    weights = DateBootstrap(range(20), block_length=4, n_resamples=5000).resample(
        lambda weights: np.stack([weights.mean(axis=0)] * len(weights))
    )
    assert np.abs(weights.mean(axis=0) - 1).max() < 4 * 0.0126


def test_days_and_their_rows() -> None:
    dates = pd.to_datetime(["2024-01-03", "2024-01-02", "2024-01-03"]).astype("datetime64[s]")
    found = DateBootstrap(dates, block_length=1)
    assert found.days.tolist() == sorted(set(dates.to_numpy().tolist()))
    assert found.day_of_row.tolist() == [1, 0, 1]
    assert found.day_sums([1, 2, 4]).tolist() == [2, 5]
    assert found.n_blocks == 2


def test_resampled_means_scatter_as_the_theory_of_circular_blocks_says() -> None:
    # When whole blocks fill the sample, the variance of the resampled mean is exactly that
    # of the n circular block means, divided by the number of blocks. The standard deviation
    # of 20,000 resamples errs by 1 / sqrt(2 * 20,000) = 0.5 %.
    values = weather(0, n_days=60, persistence=0.6)
    twice = np.concatenate([values, values])
    block_means = [twice[start : start + 12].mean() for start in range(60)]
    resampler = DateBootstrap(range(60), block_length=12, n_resamples=20_000)
    resampled = resampler.resample(mean_of(resampler, values))
    assert resampled.mean() == pytest.approx(values.mean(), abs=0.01)
    assert resampled.std() == pytest.approx(np.std(block_means) / math.sqrt(5), rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("n_days", "length"), [(200, 10), (203, 10), (90, 25)])
def test_standard_errors_are_those_of_another_library(n_days: int, length: int) -> None:
    from arch.bootstrap import CircularBlockBootstrap

    values = weather(3, n_days, persistence=0.5)
    theirs = CircularBlockBootstrap(length, values, seed=1).apply(np.mean, 8000).std()
    resampler = DateBootstrap(range(n_days), block_length=length, n_resamples=8000)
    ours = resampler.resample(mean_of(resampler, values)).std()
    # Each errs by 1 / sqrt(2 * 8000) = 0.8 %.
    assert ours == pytest.approx(theirs, rel=3 * 0.008 * math.sqrt(2))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), n_rows=st.integers(1, 80), length=st.integers(1, 6))
def test_the_value_is_the_plain_one_and_the_order_of_rows_never_matters(
    seed: int, n_rows: int, length: int
) -> None:
    random = np.random.default_rng(seed)
    dates, values = random.integers(0, 30, n_rows), random.normal(size=n_rows)
    order = random.permutation(n_rows)
    found, shuffled = (
        resampler.interval(mean_of(resampler, numbers))
        for resampler, numbers in (
            (DateBootstrap(dates, block_length=length, n_resamples=30), values),
            (DateBootstrap(dates[order], block_length=length, n_resamples=30), values[order]),
        )
    )
    assert found.value == pytest.approx(values.mean(), abs=1e-12)
    assert (shuffled.low, shuffled.high) == pytest.approx((found.low, found.high), nan_ok=True)
    assert found.n_resamples == (30 if len(np.unique(dates)) >= 2 * length else 0)


def test_neither_chunks_nor_earlier_questions_change_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = weather(2, n_days=60, persistence=0.5)

    def ask(random_state: int) -> list[Interval]:
        resampler = DateBootstrap(
            range(60), block_length=5, n_resamples=50, random_state=random_state
        )
        return [resampler.interval(mean_of(resampler, values)) for _ in range(2)]

    first, second = ask(3)
    assert first == second
    monkeypatch.setattr(bootstrap, "_CHUNK", 130)  # two resamples at once
    chunked = ask(3)[0]
    # Sums over other numbers of rows may be taken in another order.
    assert (chunked.low, chunked.high) == pytest.approx((first.low, first.high), abs=1e-14)
    assert ask(4)[0] != first


def test_no_more_rows_than_a_chunk_holds_are_worked_on_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bootstrap, "_CHUNK", 1000)
    seen = []

    def statistic(weights: np.ndarray) -> np.ndarray:
        seen.append(len(weights))
        return weights[:, 0]

    # 200 rows on 20 days: five resamples of 200 rows are 1000 numbers.
    DateBootstrap(np.arange(200) // 10, block_length=5, n_resamples=12).resample(statistic)
    assert seen == [5, 5, 2]


def test_few_blocks_leave_less_of_the_tails_out() -> None:
    # Student's 97.5 % quantile is 2.3646 with 7 degrees of freedom; times the root of 8/7 it
    # is 2.5279, beyond which lies 0.00574 of a normal distribution (from printed tables).
    assert bootstrap._expanded_tail(0.95, 8) == pytest.approx(0.00574, abs=1e-5)
    assert bootstrap._expanded_tail(0.95, 10**6) == pytest.approx(0.025, abs=1e-5)


def test_resamples_without_an_answer_are_left_out() -> None:
    def if_the_first_day_is_there(weights: np.ndarray) -> np.ndarray:
        return np.where(weights[:, 0] > 0, weights[:, 1], np.nan)

    resampler = DateBootstrap(range(20), block_length=5, n_resamples=200)
    found = resampler.interval(if_the_first_day_is_there)
    assert 0 < found.n_resamples < 200
    assert found.low <= found.value == 1 <= found.high


def test_where_nothing_can_be_said_the_ends_are_nan() -> None:
    short, long = (DateBootstrap(range(n), block_length=10, n_resamples=50) for n in (19, 29))
    few = short.interval(mean_of(short, np.arange(19.0)))
    never = long.interval(lambda weights: np.full(len(weights), np.nan))
    only_as_it_is = long.interval(lambda w: np.where((w == 1).all(axis=1), 1.0, np.nan))
    assert (few.value, only_as_it_is.value) == (9, 1)
    assert math.isnan(never.value)
    for found in (few, never, only_as_it_is):
        assert math.isnan(found.low)
        assert math.isnan(found.high)
        assert found.n_resamples == 0
    assert short.resample(mean_of(short, np.arange(19.0))).shape == (0,)
    assert math.isnan(short.p_value(mean_of(short, np.arange(19.0))))
    assert math.isnan(long.p_value(lambda weights: np.full(len(weights), np.nan)))


def test_a_ratio_without_a_lower_sum() -> None:
    weights = np.array([[1.0, 1.0], [2.0, 0.0]])
    assert ratio_of_sums([1, 2], [0, 4])(weights)[0] == 0.75
    assert math.isnan(ratio_of_sums([1, 2], [0, 4])(weights)[1])
    assert ratio_of_sums([0, 2], [0, 4], otherwise=0)(weights).tolist() == [0.5, 0]


def test_the_p_value_and_the_interval_agree() -> None:
    # Both are asked of values moved beyond the interval's half-width, and short of it. Half
    # the days mirror the other half, so that the arms are of one length. Without stretching,
    # six blocks would find a p-value below 5 % both times.
    half = weather(5, n_days=30, persistence=0.4)
    values = np.concatenate([half, -half])
    resampler = DateBootstrap(range(60), block_length=10, n_resamples=4000)
    reach = resampler.interval(mean_of(resampler, values)).high
    for factor, reject in ((0.8, False), (1.2, True)):
        moved = mean_of(resampler, values + factor * reach)
        assert (resampler.interval(moved).low > 0) == reject
        assert (resampler.p_value(moved) < 0.05) == reject
        down = mean_of(resampler, -values - factor * reach)
        assert resampler.p_value(down) == pytest.approx(resampler.p_value(moved))
    assert resampler.p_value(mean_of(resampler, values)) > 0.99
    assert resampler.p_value(mean_of(resampler, values + 100)) == 1 / 4001


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"block_length": 0}, "must be 1 or more, not 0 and 1000"),
        ({"block_length": 1, "n_resamples": 0}, "must be 1 or more, not 1 and 0"),
    ],
)
def test_counts_below_one_are_refused(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DateBootstrap([1, 2], **wrong)


@pytest.mark.parametrize("confidence", [0, 1, 95, math.nan])
def test_a_confidence_out_of_range_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence must lie between 0 and 1"):
        DateBootstrap([1, 2], block_length=1).interval(lambda w: w[:, 0], confidence=confidence)
    with pytest.raises(ValueError, match="confidence must lie between 0 and 1"):
        DateBootstrap([1, 2], block_length=1).p_value(lambda w: w[:, 0], confidence=confidence)


def test_rows_without_dates_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one row is needed"):
        DateBootstrap([], block_length=1)
    with pytest.raises(ValueError, match="1 missing dates"):
        DateBootstrap(pd.to_datetime(["2024-01-02", None]), block_length=1)
    with pytest.raises(ValueError, match="One value for each of the 2 dated rows"):
        DateBootstrap([1, 2], block_length=1).day_sums([1.0])


@pytest.mark.parametrize(("horizon", "length"), [(1, 10), (5, 10), (6, 12), (20, 40)])
def test_blocks_are_twice_the_horizon_and_ten_days_at_least(horizon: int, length: int) -> None:
    assert block_length(horizon) == length


def test_a_horizon_below_one_day_is_refused() -> None:
    with pytest.raises(ValueError, match="1 trading day or more, not 0"):
        block_length(0)


def test_the_widened_intervals_of_all_tries_hold_the_truth_together() -> None:
    # Three independent tries of eight blocks each, 2000 times over. All three intervals of
    # Student's should hold the truth in 95 %, give or take 0.49 (one standard error).
    random = np.random.default_rng(0)
    held = {1: 0, 3: 0}
    for blocks in random.normal(size=(2000, 3, 8)):
        means, errors = blocks.mean(axis=1), blocks.std(axis=1, ddof=1) / math.sqrt(8)
        reach = 2.3646 * errors  # the printed 97.5 % quantile, 7 degrees of freedom
        plain = [
            Interval(mean, mean - arm, mean + arm, 0.95, 10, 1000, n_blocks=8)
            for mean, arm in zip(means, reach, strict=True)
        ]
        for looks in held:
            wide = [interval.widened(looks) for interval in plain]
            held[looks] += all(interval.low <= 0 <= interval.high for interval in wide)
    assert held[3] / 2000 == pytest.approx(0.95, abs=3 * 0.0049)
    assert held[1] / 2000 == pytest.approx(0.95**3, abs=3 * 0.0079)


def test_widening_stretches_each_arm_alike() -> None:
    plain = Interval(0.5, 0.4, 0.7, 0.95, 10, 1000, n_blocks=20)
    assert plain.widened(1) is plain
    wide, wider = plain.widened(2), plain.widened(10)
    assert wider.low < wide.low < plain.low
    assert (wide.high - 0.5) / (0.5 - wide.low) == pytest.approx(2)
    assert (wide.value, wide.confidence, wide.n_resamples) == (0.5, 0.95, 1000)
    # Fewer blocks have fatter tails.
    assert Interval(0.5, 0.4, 0.7, 0.95, 10, 1000, n_blocks=3).widened(2).low < wide.low


def test_widening_never_moves_an_end_inwards() -> None:
    beside = Interval(0.5, 0.52, 0.6, 0.95, 10, 1000, n_blocks=20).widened(5)
    assert beside.low == 0.52
    assert beside.high > 0.6


def test_widening_what_is_unknown_leaves_it_unknown() -> None:
    wide = Interval(0.5, math.nan, math.nan, 0.95, 10, 0, n_blocks=1).widened(3)
    assert wide.value == 0.5
    assert math.isnan(wide.low)
    assert math.isnan(wide.high)


@pytest.mark.parametrize("looks", [0, -1])
def test_less_than_one_look_is_refused(looks: int) -> None:
    with pytest.raises(ValueError, match="at least 1, not"):
        Interval(0.5, 0.4, 0.6, 0.95, 10, 1000).widened(looks)


def covered(n_samples: int, *, n_days: int, persistence: float, length: int) -> int:
    """Count the 95 % intervals of a mean that hold the true one, zero."""
    held = 0
    for seed in range(n_samples):
        resampler = DateBootstrap(range(n_days), block_length=length, n_resamples=300)
        values = weather(seed, n_days, persistence)
        found = resampler.interval(mean_of(resampler, values))
        held += found.low <= 0 <= found.high
    return held


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    # One standard error is sqrt(200 * 0.95 * 0.05) = 3.1.
    assert abs(covered(200, n_days=80, persistence=0.3, length=10) - 190) <= 3 * 3.1


@pytest.mark.slow
def test_of_a_thousand_intervals_950_hold_the_truth() -> None:
    # One standard error is sqrt(1000 * 0.95 * 0.05) = 6.9. Blocks too short for how long
    # shocks last make intervals too narrow, and so does drawing single days.
    assert abs(covered(1000, n_days=200, persistence=0.5, length=20) - 950) <= 3 * 6.9
    assert covered(1000, n_days=200, persistence=0.5, length=1) < 850
