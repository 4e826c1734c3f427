"""Two forecasts of the same rows: who wins, how surely, and how often by mistake."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from steps.learning.paired import PairedComparison, compare_losses

Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def weather(random: np.random.Generator, n_days: int, n_symbols: int) -> np.ndarray:
    """Shocks that last for days and hit all symbols alike, and noise of each row's own."""
    shocks = random.normal(size=n_days)
    for day in range(1, n_days):
        shocks[day] = 0.7 * shocks[day - 1] + shocks[day] * math.sqrt(1 - 0.7**2)
    return np.repeat(shocks, n_symbols) + random.normal(size=n_days * n_symbols)


def forecasts(
    seed: int, n_days: int, champion_noise: float = 0.3, challenger_noise: float = 0.3
) -> Rows:
    """Two forecasters who see the same truth, each through noise of their own."""
    random = np.random.default_rng(seed)
    truth = weather(random, n_days, n_symbols=4)
    y = (random.random(len(truth)) < 1 / (1 + np.exp(-0.4 * truth))).astype(np.int8)
    champion, challenger = (
        1 / (1 + np.exp(-0.2 * truth - noise * weather(random, n_days, n_symbols=4)))
        for noise in (champion_noise, challenger_noise)
    )
    return np.repeat(np.arange(n_days), 4), y, champion, challenger


def swapped(rows: Rows) -> Rows:
    return rows[0], rows[1], rows[3], rows[2]


def test_two_rows_by_hand() -> None:
    # Surprises of ln(1 / 0.5) twice against ln(1 / 0.8) and ln(1 / 0.6).
    found = compare_losses([1, 2], [1, 0], [0.5, 0.5], [0.8, 0.4], horizon=1)
    assert (found.rows, found.dates) == (2, 2)
    assert found.champion_log_loss == pytest.approx(math.log(2))
    assert found.challenger_log_loss == pytest.approx((math.log(1.25) + math.log(5 / 3)) / 2)
    assert found.gain.value == found.champion_log_loss - found.challenger_log_loss
    assert math.isnan(found.gain.low)
    assert math.isnan(found.p_value)
    assert found.winner == "undecided"
    assert found.sentence == (
        "Too few dates to tell the challenger (log-loss 0.3670) from the champion (0.6931) on 2 "
        "rows of 2 dates."
    )


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), n_days=st.integers(1, 60), horizon=st.integers(1, 12))
def test_the_gain_is_the_plain_difference_in_any_order_of_rows(
    seed: int, n_days: int, horizon: int
) -> None:
    rows = forecasts(seed, n_days)
    found = compare_losses(*rows, horizon=horizon, n_resamples=40)
    losses = [log_loss(rows[1], proba, labels=[0, 1]) for proba in rows[2:]]
    assert [found.champion_log_loss, found.challenger_log_loss] == pytest.approx(losses)
    assert found.gain.value == pytest.approx(losses[0] - losses[1], abs=1e-12)
    order = np.random.default_rng(seed).permutation(len(rows[1]))
    shuffled = compare_losses(*(column[order] for column in rows), horizon=horizon, n_resamples=40)
    ends = pytest.approx((found.gain.low, found.gain.high), abs=1e-12, nan_ok=True)
    assert (shuffled.gain.low, shuffled.gain.high) == ends
    assert shuffled.p_value == pytest.approx(found.p_value, nan_ok=True)


def test_the_other_way_round_the_other_one_wins() -> None:
    rows = forecasts(1, n_days=200, champion_noise=0.8, challenger_noise=0.1)
    found = compare_losses(*rows, horizon=1)
    reverse = compare_losses(*swapped(rows), horizon=1)
    assert (found.winner, reverse.winner) == ("challenger", "champion")
    ends = pytest.approx((-found.gain.high, -found.gain.low))
    assert (reverse.gain.low, reverse.gain.high) == ends
    assert reverse.p_value == pytest.approx(found.p_value)
    assert found.p_value < 0.05
    assert found.sentence.startswith("The challenger is better than the champion: log-loss 0.")
    assert reverse.sentence.startswith("The challenger is worse than the champion: log-loss 0.")


def test_equal_forecasts_are_equal() -> None:
    dates, y, champion, _ = forecasts(2, n_days=100)
    found = compare_losses(dates, y, champion, champion, horizon=1)
    assert (found.gain.value, found.gain.low, found.gain.high) == (0, 0, 0)
    assert found.p_value == 1
    assert found.winner == "undecided"
    loss = f"{found.champion_log_loss:.4f}"
    assert found.sentence == (
        f"The challenger cannot be told from the champion: log-loss {loss} against {loss} on 400 "
        "rows of 100 dates, gain 0.0000, 95 % interval 0.0000 to 0.0000, p = 1."
    )


def test_a_better_forecast_every_day_leaves_no_doubt() -> None:
    # Every row's surprise is ln(1 / 0.6) for the one and ln(1 / 0.7) for the other.
    y = np.tile([0, 1], 30)
    found = compare_losses(
        np.arange(60), y, np.where(y, 0.6, 0.4), np.where(y, 0.7, 0.3), horizon=1, n_resamples=999
    )
    expected = math.log(7 / 6)
    assert (found.gain.low, found.gain.high) == pytest.approx((expected, expected))
    assert (found.winner, found.p_value) == ("challenger", 0.001)
    assert found.sentence == (
        "The challenger is better than the champion: log-loss 0.3567 against 0.5108 on 60 rows of "
        "60 dates, gain 0.1542, 95 % interval 0.1542 to 0.1542, p = 0.001."
    )


def test_copies_of_the_same_days_are_no_evidence() -> None:
    rows = forecasts(5, n_days=120, champion_noise=0.4)
    once = compare_losses(*rows, horizon=1)
    often = compare_losses(*(np.tile(column, 20) for column in rows), horizon=1)
    assert (often.rows, often.dates) == (20 * once.rows, once.dates)
    assert (often.gain.low, often.gain.high) == pytest.approx((once.gain.low, once.gain.high))
    assert often.p_value == pytest.approx(once.p_value)


def test_a_longer_horizon_makes_longer_blocks() -> None:
    rows = forecasts(5, n_days=120)
    assert compare_losses(*rows, horizon=1).gain.block_length == 10
    assert compare_losses(*rows, horizon=15).gain.block_length == 30


def test_json_can_hold_the_description() -> None:
    known = compare_losses(*forecasts(3, n_days=50), horizon=1, confidence=0.9)
    for found in (known, compare_losses(*forecasts(3, n_days=5), horizon=1)):
        told = json.loads(json.dumps(found.describe(), allow_nan=False))
        back = {name: math.nan if value is None else value for name, value in told["gain"].items()}
        assert back == pytest.approx(vars(found.gain), nan_ok=True)
        assert told["winner"] == found.winner
        assert set(told) == set(PairedComparison.__dataclass_fields__)
    assert known.describe()["p_value"] == known.p_value


def test_dates_may_be_of_a_table() -> None:
    dates, *rest = forecasts(3, n_days=50)
    named = pd.Series(pd.Timestamp("2024-01-01") + pd.to_timedelta(dates, unit="D"))
    assert compare_losses(named, *rest, horizon=1) == compare_losses(dates, *rest, horizon=1)


@pytest.mark.parametrize(
    ("column", "wrong", "message"),
    [
        (0, np.arange(7), "One value for each of the 7 dated rows"),
        (1, np.full(80, 2), "Labels must be 0 and 1"),
        (2, np.full(80, 1.5), "Probabilities must lie in"),
        (3, np.full(80, math.nan), "Probabilities must lie in"),
        (3, np.full(79, 0.5), "One label and one probability per row"),
    ],
)
def test_rows_that_are_none_are_refused(column: int, wrong: np.ndarray, message: str) -> None:
    rows = list(forecasts(0, n_days=20))
    rows[column] = wrong
    with pytest.raises(ValueError, match=message):
        compare_losses(*rows, horizon=1)


def decided(n_days: int, n_samples: int) -> tuple[float, float]:
    """Return how often equal skill found a winner, and how often a p-value below 5 %."""
    found = [
        compare_losses(*forecasts(seed, n_days), horizon=1, n_resamples=300)
        for seed in range(n_samples)
    ]
    winners = sum(one.winner != "undecided" for one in found)
    return winners / n_samples, sum(one.p_value < 0.05 for one in found) / n_samples


@pytest.mark.slow
@pytest.mark.parametrize("n_days", [60, 200])
def test_equal_skill_finds_a_winner_no_more_often_than_it_may(n_days: int) -> None:
    # 5 % of 800, give or take 0.77 % (one standard error).
    winners, small = decided(n_days, n_samples=800)
    assert winners == pytest.approx(0.05, abs=3 * 0.0077)
    # With six blocks the p-value is on the safe side.
    assert small <= 0.05 + 3 * 0.0077
    assert small >= (0.05 - 3 * 0.0077 if n_days == 200 else 0.01)
