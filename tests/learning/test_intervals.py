"""Intervals: scores against scikit-learn, and how often the truth is inside."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from steps.learning import bootstrap
from steps.learning.bootstrap import DateBootstrap, Interval, Statistic
from steps.learning.intervals import (
    auc_interval,
    auc_of_days,
    row_log_losses,
    score_intervals,
    verdict,
)
from steps.learning.scores import base_rate_scores, score_classifier


def exact_auc(y: np.ndarray, proba: np.ndarray, days: DateBootstrap) -> Statistic:
    """Rank the rows of every draw anew, by scikit-learn."""

    def statistic(weights: np.ndarray) -> np.ndarray:
        rows = weights[:, days.day_of_row]
        return np.array([roc_auc_score(y, proba, sample_weight=weight) for weight in rows])

    return statistic


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), n_rows=st.integers(2, 60), n_values=st.integers(1, 30))
def test_the_auc_of_all_days_is_scikit_learns(seed: int, n_rows: int, n_values: int) -> None:
    random = np.random.default_rng(seed)
    y = random.integers(0, 2, n_rows, dtype=np.int8)
    proba = random.integers(0, n_values, n_rows) / n_values  # few values: many ties
    days = DateBootstrap(random.integers(0, 9, n_rows), block_length=1)
    (found,) = auc_of_days(proba, y, days)(np.ones((1, len(days.days))))
    if 0 < y.sum() < n_rows:
        assert found == pytest.approx(roc_auc_score(y, proba))
    else:
        assert math.isnan(found)


def test_drawn_days_move_the_auc_as_ranking_anew_does() -> None:
    table = predictions(1, n_days=200, n_symbols=4)
    y, proba = table["direction"].to_numpy(), table["probability"].to_numpy()
    days = DateBootstrap(table["date"], block_length=10, n_resamples=150)
    ranked, summed = (
        days.resample(exact_auc(y, proba, days)),
        days.resample(auc_of_days(proba, y, days)),
    )
    # What is left out is of second order: small beside how far the AUC moves.
    assert np.abs(summed - ranked).mean() < 0.1 * ranked.std()
    assert summed.std() == pytest.approx(ranked.std(), rel=0.05)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_log_losses_are_scikit_learns(seed: int) -> None:
    random = np.random.default_rng(seed)
    y = random.integers(0, 2, 20, dtype=np.int8)
    proba = random.choice([0, 1e-300, 1e-16, 0.3, 0.7, 1 - 1e-16, 1], 20)
    expected = log_loss(y, proba, labels=[0, 1])
    assert row_log_losses(y, proba).mean() == pytest.approx(expected, abs=1e-12)


def predictions(seed: int, n_days: int, n_symbols: int, n_values: int = 50) -> pd.DataFrame:
    """Forecasts with a little skill; some days have no row of some symbols."""
    random = np.random.default_rng(seed)
    n_rows = n_days * n_symbols
    proba = random.integers(0, n_values + 1, n_rows) / n_values
    table = pd.DataFrame(
        {
            "date": np.tile(pd.bdate_range("2024-01-01", periods=n_days), n_symbols),
            "symbol": np.repeat([f"S{number}" for number in range(n_symbols)], n_days),
            "direction": (random.random(n_rows) < 0.4 + 0.2 * proba).astype(np.int8),
            "probability": proba,
            "predicted": (proba > 0.55).astype(np.int8),
            "threshold": 0.55,
            "base_rate": 0.52,
        }
    )
    return table[random.random(n_rows) < 0.8].reset_index(drop=True)


def plain_scores(table: pd.DataFrame) -> dict[str, float]:
    scores = score_classifier(table["direction"], table["probability"], threshold=0.55)
    base_rate = base_rate_scores(table["direction"], 0.52)
    return {**scores, "log_loss_gain": base_rate["log_loss"] - scores["log_loss"]}


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n_days=st.integers(2, 30),
    n_symbols=st.integers(1, 4),
    n_values=st.integers(1, 50),
)
def test_the_values_are_the_plain_scores_in_any_order_of_rows(
    seed: int, n_days: int, n_symbols: int, n_values: int
) -> None:
    table = predictions(seed, n_days, n_symbols, n_values)
    if table.empty:
        return
    found = score_intervals(table, horizon=1, n_resamples=20)
    expected = plain_scores(table)
    assert list(found) == list(expected)
    shuffled = score_intervals(table.sample(frac=1, random_state=1), horizon=1, n_resamples=20)
    for name, interval in found.items():
        assert interval.value == pytest.approx(expected[name], abs=1e-12, nan_ok=True)
        ends = pytest.approx((interval.low, interval.high), abs=1e-12, nan_ok=True)
        assert (shuffled[name].low, shuffled[name].high) == ends


def test_the_ends_are_percentiles_of_scores_of_repeated_rows() -> None:
    # The same days drawn, but their rows written out as often as drawn and scored plainly.
    table = predictions(1, n_days=45, n_symbols=3)
    found = score_intervals(table, horizon=1, n_resamples=15, random_state=5)
    resampler = DateBootstrap(table["date"], block_length=10, n_resamples=15, random_state=5)
    drawn = []
    resampler.resample(lambda weights: drawn.extend(weights.astype(int)) or weights[:, 0])
    scored = pd.DataFrame(
        [plain_scores(table.loc[table.index.repeat(days[resampler.day_of_row])]) for days in drawn]
    )
    # Four blocks: 3.1824, Student's with 3 degrees of freedom, times the root of 4/3 is
    # 3.6747; beyond it lies 0.000119 of a normal distribution.
    for name, interval in found.items():
        ends = scored[name].quantile([0.000119, 1 - 0.000119]).tolist()
        # Of the AUC of drawn days there is the first order only.
        near = 0.01 if name == "auc_roc" else 1e-5
        assert [interval.low, interval.high] == pytest.approx(ends, abs=near)
        assert interval.n_resamples == 15


def test_calls_that_never_come_score_zero() -> None:
    table = predictions(2, n_days=25, n_symbols=2).assign(predicted=0, probability=0.1)
    found = score_intervals(table, horizon=1, n_resamples=50)
    for name in ("precision", "recall", "f1"):
        assert (found[name].value, found[name].low, found[name].high) == (0, 0, 0)
    assert found["auc_roc"].value == 0.5
    never_up = score_intervals(table.assign(direction=0), horizon=1, n_resamples=50)
    assert (never_up["accuracy"].value, never_up["recall"].value) == (1, 0)
    assert math.isnan(never_up["auc_roc"].value)


def test_longer_horizons_make_longer_blocks() -> None:
    table = predictions(3, n_days=90, n_symbols=2)
    for horizon, length in ((1, 10), (20, 40), (50, 100)):
        found = score_intervals(table, horizon=horizon, n_resamples=50)["accuracy"]
        assert found.block_length == length
        assert math.isnan(found.low) == (length == 100)


@pytest.mark.parametrize(
    "wrong",
    [{"direction": 2}, {"predicted": -1}, {"probability": math.nan}, {"base_rate": 1.5}],
)
def test_predictions_that_are_none_are_refused(wrong: dict[str, float]) -> None:
    table = predictions(4, n_days=20, n_symbols=1)
    with pytest.raises(ValueError, match=r"must (be 0 and 1|lie in)"):
        score_intervals(table.assign(**wrong), horizon=1)
    with pytest.raises(ValueError, match="at least one row"):
        score_intervals(table.head(0), horizon=1)


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
    assert copies.value == pytest.approx(once.value)


def test_neither_chunks_nor_the_order_of_rows_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    y, proba, dates = noisy(2)
    whole = auc_interval(y, proba, dates, n_resamples=50, random_state=3)
    order = np.random.default_rng(0).permutation(len(y))
    shuffled = auc_interval(y[order], proba[order], dates[order], n_resamples=50, random_state=3)
    assert (shuffled.low, shuffled.high) == pytest.approx((whole.low, whole.high))
    monkeypatch.setattr(bootstrap, "_CHUNK", 1000)
    assert auc_interval(y, proba, dates, n_resamples=50, random_state=3) == whole
    assert auc_interval(y, proba, dates, n_resamples=50, random_state=4) != whole


def test_resamples_of_one_class_are_left_out() -> None:
    y = np.zeros(20, dtype=int)
    y[3] = 1
    found = auc_interval(y, np.arange(20) / 20, np.arange(20), block_length=5, n_resamples=100)
    assert 0 < found.n_resamples < 100
    assert found.low <= found.value <= found.high


@pytest.mark.parametrize(
    ("y", "n_dates", "auc"), [([0, 1] * 10, 19, 0.5), ([1] * 20, 20, math.nan)]
)
def test_where_nothing_can_be_said_the_ends_are_nan(y: list[int], n_dates: int, auc: float) -> None:
    found = auc_interval(y, [0.5] * 20, np.minimum(np.arange(20), n_dates - 1))
    assert found.value == pytest.approx(auc, nan_ok=True)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert found.n_resamples == 0


@pytest.mark.parametrize(
    "wrong", [{"confidence": 95}, {"confidence": 0}, {"n_resamples": 0}, {"block_length": 0}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must (lie between 0 and 1|be 1 or more)"):
        auc_interval([0, 1], [0.5, 0.5], [1, 2], **wrong)


def test_dates_that_do_not_match_the_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="One value for each of the 3 dated rows"):
        auc_interval([0, 1], [0.5, 0.5], [1, 2, 3])


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
    interval = Interval(auc, low, high, confidence=0.95, block_length=10, n_resamples=1000)
    assert verdict({"log_loss": log_loss}, {"log_loss": 0.6931}, interval) == sentence
    once = verdict({"log_loss": log_loss}, {"log_loss": 0.6931}, interval, looks=1)
    assert once == sentence


def test_from_the_second_look_on_the_bar_is_higher() -> None:
    # Three looks stretch the arms of 0.020 by 2.388 / 1.960 to 0.0244 (printed tables).
    scores, base_rate = {"log_loss": 0.69}, {"log_loss": 0.6931}
    interval = Interval(0.523, 0.503, 0.543, 0.95, 10, 1000)
    assert verdict(scores, base_rate, interval).startswith("Better than the base rate")
    assert verdict(scores, base_rate, interval, looks=3) == (
        "No better than the base rate: AUC 0.523, 95 % interval 0.503 to 0.543 (0.499 to 0.547 "
        "after 3 looks at this test window), log-loss 0.6900 against 0.6931."
    )
    clear = Interval(0.53, 0.51, 0.55, 0.95, 10, 1000)
    assert verdict(scores, base_rate, clear, looks=3) == (
        "Better than the base rate: AUC 0.530, 95 % interval 0.510 to 0.550 (0.506 to 0.554 "
        "after 3 looks at this test window), log-loss 0.6900 against 0.6931."
    )


def test_looks_do_not_help_where_nothing_can_be_said() -> None:
    unknown = Interval(0.5, math.nan, math.nan, 0.95, 10, 0)
    assert verdict({"log_loss": 0.7}, {"log_loss": 0.6931}, unknown, looks=4) == (
        "Too few dates, or one class only, to tell the model from the base rate: "
        "log-loss 0.7000 against 0.6931."
    )
