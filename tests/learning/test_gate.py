"""The gate: each condition by hand, alone and together."""

import math

import pytest

from steps.learning.bootstrap import Interval
from steps.learning.gate import judge_gate
from steps.learning.leaks import Suspicion


def interval(value: float, low: float, high: float = 0.9) -> Interval:
    return Interval(value, low, high, confidence=0.95, block_length=10, n_resamples=1000)


def measured(auc_low: float = 0.51, gain: float = 0.002) -> dict[str, Interval]:
    return {"auc_roc": interval(0.53, auc_low, 0.55), "log_loss_gain": interval(gain, -1.0)}


def test_a_good_model_is_approved_and_told_why() -> None:
    verdict = judge_gate(measured(), [])
    assert verdict.approved
    assert verdict.failed == ()
    assert [each.name for each in verdict.conditions] == ["auc_roc", "log_loss", "no_leak"]
    assert verdict.sentence == (
        "APPROVED: AUC's lower end 0.510 is above 0.5; log-loss gain 0.0020 is above 0; "
        "the leak alarm is silent"
    )


def test_a_rejected_model_is_told_what_failed_and_nothing_else() -> None:
    verdict = judge_gate(measured(auc_low=0.483, gain=-0.0001), [])
    assert not verdict.approved
    assert verdict.failed == ("auc_roc", "log_loss")
    assert verdict.sentence == (
        "REJECTED: AUC's lower end 0.483 is not above 0.5; log-loss gain -0.0001 is not above 0"
    )
    found = verdict.conditions[0]
    assert (found.found, found.wanted) == ("AUC's lower end 0.483", "above 0.5")


@pytest.mark.parametrize(
    ("auc_low", "gain", "failed"),
    [
        (0.51, 0.001, ()),
        (0.5, 0.001, ("auc_roc",)),  # on the bound is not above it
        (0.51, 0.0, ("log_loss",)),
        (math.nan, 0.001, ("auc_roc",)),
        (0.51, math.nan, ("log_loss",)),
        (math.nan, math.nan, ("auc_roc", "log_loss")),
    ],
)
def test_each_condition_fails_alone_and_what_is_unknown_never_passes(
    auc_low: float, gain: float, failed: tuple[str, ...]
) -> None:
    verdict = judge_gate(measured(auc_low, gain), [])
    assert verdict.failed == failed
    assert verdict.approved is not bool(failed)


def test_what_is_unknown_is_called_so() -> None:
    verdict = judge_gate(measured(math.nan, 0.001), [])
    assert verdict.sentence == "REJECTED: AUC's lower end, unknown, is not above 0.5"


def test_any_suspicion_of_a_leak_rejects_a_good_model() -> None:
    suspicions = [Suspicion("feature", "a"), Suspicion("feature", "b"), Suspicion("overlap", "c")]
    verdict = judge_gate(measured(), suspicions)
    assert verdict.failed == ("no_leak",)
    assert verdict.sentence == "REJECTED: the leak alarm (feature, overlap) is not silent"


def test_the_lower_ends_are_those_after_all_looks() -> None:
    # Of many blocks, three looks stretch an arm by 2.388 / 1.960 = 1.2183, from printed tables:
    # 0.53 - 1.2183 * 0.025 = 0.4995.
    once = judge_gate(measured(auc_low=0.505), [])
    thrice = judge_gate(measured(auc_low=0.505), [], looks=3)
    assert once.approved
    assert thrice.failed == ("auc_roc",)
    assert "AUC's lower end after 3 looks 0.4995 is not above 0.5" in thrice.sentence
    sharpe = interval(1.0, 0.1, 1.9)
    assert judge_gate(measured() | {"sharpe": sharpe}, [], sharpe_low=0.0).approved
    strong = measured(auc_low=0.529) | {"sharpe": sharpe}
    assert judge_gate(strong, [], looks=3, sharpe_low=0.0).approved
    assert judge_gate(strong, [], tries=3, sharpe_low=0.0).failed == ("sharpe_low",)


@pytest.mark.parametrize(
    ("sharpe", "passed", "found"),
    [
        (interval(1.0, 0.21, 1.9), True, "Sharpe ratio's lower end 0.210"),
        (interval(1.0, 0.2, 1.9), False, "Sharpe ratio's lower end 0.200"),
        (interval(1.0, math.nan, math.nan), False, "Sharpe ratio's lower end, unknown,"),
        (None, False, "Sharpe ratio's lower end, unknown,"),
    ],
)
def test_the_sharpe_ratio_counts_where_it_is_asked_for(
    sharpe: Interval | None, passed: bool, found: str
) -> None:
    traded = {} if sharpe is None else {"sharpe": sharpe}
    verdict = judge_gate(measured() | traded, [], sharpe_low=0.2)
    assert verdict.approved is passed
    assert (verdict.conditions[-1].name, verdict.conditions[-1].found) == ("sharpe_low", found)
    assert judge_gate(measured() | traded, []).approved


@pytest.mark.parametrize(
    ("gain", "passed", "found"),
    [
        (interval(0.2, -0.3), True, "Sharpe ratio's gain over buy and hold 0.20"),
        (interval(0.0, -0.5), False, "Sharpe ratio's gain over buy and hold 0.00"),
        (interval(-0.1, -0.5), False, "Sharpe ratio's gain over buy and hold -0.10"),
        (interval(math.nan, math.nan), False, "Sharpe ratio's gain over buy and hold, unknown,"),
        (None, False, "Sharpe ratio's gain over buy and hold, unknown,"),
    ],
)
def test_a_forecast_that_does_not_pay_is_rejected_where_that_is_asked_for(
    gain: Interval | None, passed: bool, found: str
) -> None:
    traded = {} if gain is None else {"sharpe_gain": gain}
    verdict = judge_gate(measured() | traded, [], sharpe_gain=0.0)
    assert verdict.approved is passed
    assert (verdict.conditions[-1].name, verdict.conditions[-1].found) == ("sharpe_gain", found)
    assert judge_gate(measured() | traded, []).approved


def test_the_bounds_can_be_set() -> None:
    assert judge_gate(measured(0.48, -0.01), [], auc_low=0.47, log_loss_gain=-0.02).approved
    verdict = judge_gate(measured(), [], auc_low=0.52, log_loss_gain=0.01)
    assert verdict.failed == ("auc_roc", "log_loss")
    assert verdict.sentence.endswith("log-loss gain 0.0020 is not above 0.01")


@pytest.mark.parametrize(
    ("low", "said"),
    [(0.49999, "0.49999 is not"), (0.5, "0.500 is not"), (0.50004, "0.50004 is above")],
)
def test_a_figure_is_written_so_that_it_differs_from_its_bound(low: float, said: str) -> None:
    verdict = judge_gate(measured(auc_low=low), [])
    assert f"AUC's lower end {said}" in verdict.sentence


def test_looks_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="looks"):
        judge_gate(measured(), [], looks=0)
