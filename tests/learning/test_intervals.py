"""Intervals: the weighted AUC against scikit-learn, and how often the truth is inside."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from steps.learning import intervals
from steps.learning.intervals import AucInterval, auc_interval, verdict


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), n_rows=st.integers(2, 60), n_values=st.integers(1, 30))
def test_the_weighted_auc_is_scikit_learns(seed: int, n_rows: int, n_values: int) -> None:
    random = np.random.default_rng(seed)
    y = random.integers(0, 2, n_rows, dtype=np.int8)
    proba = random.integers(0, n_values, n_rows) / n_values  # few values: many ties
    weights = random.integers(0, 4, (5, n_rows)).astype(float)
    for found, weight in zip(intervals._weighted_auc(y, proba)(weights), weights, strict=True):
        if weight[y == 1].sum() and weight[y == 0].sum():
            assert found == pytest.approx(roc_auc_score(y, proba, sample_weight=weight))
        else:
            assert math.isnan(found)


def test_a_resample_is_whole_blocks_of_dates_round_a_circle() -> None:
    draws = intervals._draw_days(n_days=7, n_resamples=200, block_length=3, random_state=1)
    assert draws.shape == (200, 7)
    steps = np.diff(draws, axis=1) % 7
    # Within the blocks 0-2, 3-5 and 6 one day follows another; day 0 follows day 6.
    assert (steps[:, [0, 1, 3, 4]] == 1).all()
    assert len(np.unique(draws[:, 0])) == 7
    counts = intervals._count_days(draws, 7)
    assert (counts.sum(axis=1) == 7).all()
    assert counts[0].tolist() == [draws[0].tolist().count(day) for day in range(7)]


def noisy(seed: int, n_days: int = 80, n_symbols: int = 4) -> tuple[np.ndarray, ...]:
    """Forecasts without skill, in weather that lasts for days and hits all symbols alike."""
    random = np.random.default_rng(seed)

    def weather() -> np.ndarray:
        shocks = random.normal(size=n_days)
        for day in range(1, n_days):
            shocks[day] = 0.7 * shocks[day - 1] + shocks[day] * math.sqrt(1 - 0.7**2)
        return np.repeat(shocks, n_symbols)

    dates = np.repeat(np.arange(n_days), n_symbols)
    noise = random.normal(size=(2, n_days * n_symbols))
    y = (weather() + noise[0] > 0).astype(int)
    return y, 1 / (1 + np.exp(-(weather() + noise[1]))), dates


def test_an_interval_of_date_blocks_holds_the_truth_as_often_as_it_says() -> None:
    # The true AUC is 0.5. Of 200 intervals of 95 %, 190 should hold it, give or take 3 (one
    # standard error); eight blocks are few, so two more errors are allowed for. Resampling
    # the days one by one, as if they were independent, must do clearly worse.
    held = {1: 0, 10: 0}
    for seed in range(200):
        y, proba, dates = noisy(seed)
        for block_length in held:
            found = auc_interval(y, proba, dates, n_resamples=200, block_length=block_length)
            held[block_length] += found.low <= 0.5 <= found.high
    assert 181 <= held[10] <= 199
    assert held[1] <= held[10] - 8


def test_a_thousand_rows_of_the_same_day_are_not_a_thousand_days() -> None:
    y, proba, dates = noisy(1)
    once = auc_interval(y, proba, dates)
    copies = auc_interval(np.tile(y, 5), np.tile(proba, 5), np.tile(dates, 5))
    assert (copies.low, copies.high) == pytest.approx((once.low, once.high))
    assert copies.auc == pytest.approx(once.auc)


def test_few_blocks_leave_less_of_the_tails_out() -> None:
    # Student's 97.5 % quantile is 2.3646 with 7 degrees of freedom; times the root of 8/7 it
    # is 2.5279, beyond which lies 0.00574 of a normal distribution (from printed tables).
    assert intervals._expanded_tail(0.95, 8) == pytest.approx(0.00574, abs=1e-5)
    assert intervals._expanded_tail(0.95, 10**6) == pytest.approx(0.025, abs=1e-5)


def test_neither_chunks_nor_the_order_of_rows_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    y, proba, dates = noisy(2)
    whole = auc_interval(y, proba, dates, n_resamples=50, random_state=3)
    order = np.random.default_rng(0).permutation(len(y))
    shuffled = auc_interval(y[order], proba[order], dates[order], n_resamples=50, random_state=3)
    assert (shuffled.low, shuffled.high) == pytest.approx((whole.low, whole.high))
    monkeypatch.setattr(intervals, "_CHUNK", 1000)
    assert auc_interval(y, proba, dates, n_resamples=50, random_state=3) == whole
    assert auc_interval(y, proba, dates, n_resamples=50, random_state=4) != whole


def test_resamples_of_one_class_are_left_out() -> None:
    y = np.zeros(20, dtype=int)
    y[3] = 1
    found = auc_interval(y, np.arange(20) / 20, np.arange(20), block_length=5, n_resamples=100)
    assert 0 < found.n_resamples < 100
    assert found.low <= found.auc <= found.high


@pytest.mark.parametrize(
    ("y", "n_dates", "auc"), [([0, 1] * 10, 19, 0.5), ([1] * 20, 20, math.nan)]
)
def test_where_nothing_can_be_said_the_ends_are_nan(y: list[int], n_dates: int, auc: float) -> None:
    found = auc_interval(y, [0.5] * 20, np.minimum(np.arange(20), n_dates - 1))
    assert found.auc == pytest.approx(auc, nan_ok=True)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert found.n_resamples == 0


@pytest.mark.parametrize(
    "wrong", [{"confidence": 95}, {"confidence": 0}, {"n_resamples": 0}, {"block_length": 0}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="confidence must lie between 0 and 1"):
        auc_interval([0, 1], [0.5, 0.5], [1, 2], **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("auc", "low", "high", "log_loss", "sentence"),
    [
        (
            0.511,
            0.495,
            0.525,
            0.69,
            "No better than the base rate: AUC 0.511, 95 % interval "
            "0.495 to 0.525, log-loss 0.6900 against 0.6931.",
        ),
        (
            0.53,
            0.51,
            0.549,
            0.69,
            "Better than the base rate: AUC 0.530, 95 % interval "
            "0.510 to 0.549, log-loss 0.6900 against 0.6931.",
        ),
        (
            0.53,
            0.51,
            0.549,
            0.7,
            "No better than the base rate: AUC 0.530, 95 % interval "
            "0.510 to 0.549, log-loss 0.7000 against 0.6931.",
        ),
        (
            0.6,
            0.58,
            0.62,
            0.67,
            "Better than the base rate: AUC 0.600, 95 % interval "
            "0.580 to 0.620, log-loss 0.6700 against 0.6931. "
            "Suspiciously good: look for a leak.",
        ),
        (
            math.nan,
            math.nan,
            math.nan,
            0.7,
            "Too few dates, or one class only, to tell the "
            "model from the base rate: log-loss 0.7000 against 0.6931.",
        ),
    ],
)
def test_verdicts(auc: float, low: float, high: float, log_loss: float, sentence: str) -> None:
    interval = AucInterval(auc, low, high, confidence=0.95, block_length=10, n_resamples=1000)
    assert verdict({"log_loss": log_loss}, {"log_loss": 0.6931}, interval) == sentence
