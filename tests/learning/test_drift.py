"""The population stability index, by hand and by its formula's properties."""

import math

import numpy as np
import pytest

from steps.learning.drift import population_stability_index as psi


def test_equal_samples_have_none() -> None:
    sample = np.random.default_rng(0).normal(size=500)
    assert psi(sample, sample) == 0
    assert psi(sample, sample[::-1]) == 0


def test_two_bins_by_hand() -> None:
    # The median of 1 to 12 is 6.5: half and half then, 9 of 12 and 3 of 12 now, of which
    # values beyond anything seen before fall into the outer bins.
    then, now = range(1, 13), [*range(-3, 6), 7, 8, 99]
    expected = 0.25 * math.log(0.75 / 0.5) - 0.25 * math.log(0.25 / 0.5)
    assert psi(then, now, bins=2) == pytest.approx(expected)


def test_between_the_same_bins_it_is_symmetric() -> None:
    then, now = [0] * 7 + [1] * 3, [0] * 4 + [1] * 6
    assert psi(then, now) == pytest.approx(psi(now, then))
    assert psi(then, now) > 0


def test_an_empty_bin_counts_as_a_small_share() -> None:
    expected = 0.5 * math.log(1 / 0.5) + (1e-4 - 0.5) * math.log(1e-4 / 0.5)
    assert psi([0, 0, 1, 1], [0, 0, 0]) == pytest.approx(expected)


def test_a_constant_feature_drifts_only_when_it_moves() -> None:
    assert psi([3.0] * 50, [3.0] * 20) == 0
    assert psi([3.0] * 50, [4.0] * 20) > 1


def test_many_equal_values_share_one_bin() -> None:
    zeros_and_more = np.concatenate([np.zeros(600), np.linspace(1, 2, 400)])
    assert psi(zeros_and_more, zeros_and_more) == 0
    # 60 % zeros became 30 %; every other bin holds 7/4 of what it held. The zeros' bin also
    # takes what is nearest to them: nothing.
    now = np.concatenate([np.zeros(300), np.linspace(1, 2, 700)])
    assert psi(zeros_and_more, now) == pytest.approx(
        -0.3 * math.log(0.3 / 0.6) + 0.3 * math.log(0.7 / 0.4), rel=0.02
    )


def test_a_shift_of_the_whole_distribution_shows() -> None:
    random = np.random.default_rng(1)
    then = random.normal(size=5000)
    assert psi(then, random.normal(size=5000)) < 0.02
    # For unit normals the limit of fine bins is the shift squared (symmetric Kullback-Leibler).
    assert psi(then, random.normal(0.5, 1, size=5000), bins=50) == pytest.approx(0.25, rel=0.2)


@pytest.mark.parametrize(
    ("then", "now", "bins", "message"),
    [
        ([], [1.0], 10, "expected sample"),
        ([1.0], [math.nan], 10, "actual sample"),
        ([1.0], [1.0], 1, "bins must be 2 or more"),
    ],
)
def test_what_has_no_index_is_refused(
    then: list[float], now: list[float], bins: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        psi(then, now, bins)
