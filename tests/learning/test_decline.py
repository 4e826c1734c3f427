"""Live against evaluation: by hand, by simulation, and where nothing is known."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from steps.learning.bootstrap import Interval
from steps.learning.decline import judge_decline


def interval(
    value: float, low: float, high: float, confidence: float = 0.95, n_blocks: int = 0
) -> Interval:
    return Interval(value, low, high, confidence, 10, 1000, n_blocks)


GOOD = interval(0.54, 0.52, 0.56)
NO_ENDS = interval(0.49, math.nan, math.nan)
NOTHING = interval(math.nan, math.nan, math.nan)


def around(value: float, error: float, confidence: float = 0.95) -> Interval:
    arm = float(norm.ppf((1 + confidence) / 2)) * error
    return interval(value, value - arm, value + arm, confidence)


def test_standard_errors_of_three_and_four_make_five() -> None:
    found = judge_decline(around(0.44, 0.03), around(0.54, 0.04))
    assert found.difference == pytest.approx(-0.10)
    assert found.p_value == pytest.approx(0.02275, abs=5e-6)  # printed tables: below -2
    assert found.declined
    assert not judge_decline(found.live, found.then, alpha=0.02).declined


def test_each_interval_is_read_at_its_own_confidence() -> None:
    wide, narrow = around(0.44, 0.03, 0.99), around(0.54, 0.04, 0.5)
    assert judge_decline(wide, narrow).p_value == pytest.approx(0.02275, abs=5e-6)


def test_only_the_width_of_a_skewed_interval_counts() -> None:
    skewed, even = interval(0.44, 0.35, 0.47), interval(0.44, 0.38, 0.50)
    assert judge_decline(skewed, GOOD).p_value == pytest.approx(judge_decline(even, GOOD).p_value)


def test_only_lower_is_a_decline() -> None:
    same = judge_decline(GOOD, GOOD)
    assert (same.difference, same.p_value, same.declined) == (0.0, 0.5, False)
    higher = judge_decline(around(0.64, 0.03), around(0.54, 0.04))
    assert higher.p_value == pytest.approx(0.97725, abs=5e-6)
    assert not higher.declined


def test_sentences_say_both_and_what_follows() -> None:
    assert judge_decline(interval(0.49, 0.44, 0.54), GOOD).sentence == (
        "AUC 0.490 live (0.440 to 0.540) against 0.540 in the evaluation (0.520 to 0.560): lower "
        "than chance explains (p 0.034)"
    )
    assert judge_decline(interval(0.52, 0.44, 0.60), GOOD).sentence.endswith(
        ": no lower than chance explains (p 0.32)"
    )


@pytest.mark.parametrize(
    ("live", "then", "said"),
    [
        (
            NO_ENDS,
            GOOD,
            "AUC 0.490 live against 0.540 in the evaluation (0.520 to 0.560): whether it declined "
            "is not known, for the live one has no interval",
        ),
        (
            GOOD,
            NO_ENDS,
            "AUC 0.540 live (0.520 to 0.560) against 0.490 in the evaluation: whether it declined "
            "is not known, for the evaluation's has no interval",
        ),
        (
            NOTHING,
            NO_ENDS,
            "AUC unknown live against 0.490 in the evaluation: whether it declined is not known, "
            "for neither has an interval",
        ),
    ],
)
def test_what_is_not_known_is_no_decline(live: Interval, then: Interval, said: str) -> None:
    found = judge_decline(live, then)
    assert not found.declined
    assert math.isnan(found.p_value)
    assert math.isnan(found.difference) == math.isnan(live.value)
    assert found.sentence == said


def test_intervals_without_width_are_believed() -> None:
    perfect, worse = interval(1.0, 1.0, 1.0), interval(0.9, 0.9, 0.9)
    assert judge_decline(perfect, perfect).p_value == 0.5
    assert judge_decline(worse, perfect).p_value == 0
    assert judge_decline(perfect, worse).p_value == 1


@pytest.mark.parametrize(
    ("live", "alpha", "message"),
    [
        (GOOD, 1.0, "alpha must lie between"),
        (interval(0.5, 0.6, 0.4), 0.05, "low must not be above its high: 0.6 to 0.4"),
        (interval(0.5, 0.4, 0.6, confidence=95), 0.05, "confidence must lie between"),
    ],
)
def test_what_cannot_be_is_refused(live: Interval, alpha: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        judge_decline(live, GOOD, alpha=alpha)


@pytest.mark.parametrize("n_blocks", [6, 25])
def test_five_of_a_hundred_models_as_good_as_ever_seem_to_decline(n_blocks: int) -> None:
    # Scores of dates, noisy and independent; intervals from Student's t, as few dates ask for.
    random = np.random.default_rng(0)

    def simulated(mean: float, n_dates: int) -> Interval:
        dates = random.normal(mean, 0.2, size=n_dates)
        arm = student(n_dates) * dates.std(ddof=1) / math.sqrt(n_dates)
        return interval(dates.mean(), dates.mean() - arm, dates.mean() + arm, n_blocks=n_dates)

    as_good = [
        judge_decline(simulated(0.54, n_blocks), simulated(0.54, 60)).declined for _ in range(800)
    ]
    assert 0.025 < np.mean(as_good) < 0.075
    # A difference of three standard errors is found in 1 - norm.cdf(1.645 - 3) = 91 of 100 cases
    # where there are many blocks; less often where few make intervals wide.
    error = 0.2 * math.sqrt(1 / n_blocks + 1 / 60)
    worse = [
        judge_decline(simulated(0.54 - 3 * error, n_blocks), simulated(0.54, 60)).declined
        for _ in range(300)
    ]
    assert np.mean(worse) > (0.65 if n_blocks == 6 else 0.82)


def student(n_dates: int) -> float:
    """The two-sided 95 % quantile of n - 1 degrees of freedom, from printed tables."""
    return {6: 2.571, 25: 2.064, 60: 2.001}[n_dates]
