"""The gate: what a model must show before anybody relies on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from steps.learning.bootstrap import Interval
from steps.learning.leaks import Suspicion


@dataclass(frozen=True)
class Condition:
    """One thing the gate asks for.

    Attributes
    ----------
    name : str
    passed : bool
    found, wanted : str
        Such as "AUC's lower end 0.483" and "above 0.5": with "is" or "is not" between them they
        make a sentence.
    """

    name: str
    passed: bool
    found: str
    wanted: str

    @property
    def sentence(self) -> str:
        """The condition and how it came out, in words."""
        return f"{self.found} {'is' if self.passed else 'is not'} {self.wanted}"


@dataclass(frozen=True)
class GateVerdict:
    """What the gate says, and why.

    Attributes
    ----------
    approved : bool
        Whether every condition passed.
    conditions : tuple of Condition
    """

    approved: bool
    conditions: tuple[Condition, ...]

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the conditions that did not pass."""
        return tuple(each.name for each in self.conditions if not each.passed)

    @property
    def sentence(self) -> str:
        """The verdict with its reasons: what failed or, of an approved model, all that passed."""
        word = "APPROVED" if self.approved else "REJECTED"
        reasons = [each.sentence for each in self.conditions if self.approved or not each.passed]
        return f"{word}: {'; '.join(reasons)}"


def judge_gate(
    intervals: Mapping[str, Interval],
    suspicions: Sequence[Suspicion],
    *,
    looks: int = 1,
    tries: int = 1,
    auc_low: float = 0.5,
    log_loss_gain: float = 0.0,
    sharpe_gain: float | None = None,
    sharpe_low: float | None = None,
) -> GateVerdict:
    """Approve a model, or reject it and say which conditions failed.

    What is not known never passes.

    Parameters
    ----------
    intervals : mapping of str to Interval
        Those of `score_intervals`, of which `auc_roc` and `log_loss_gain` are read, and those of
        `backtest_intervals`, where there was a backtest.
    suspicions : sequence of Suspicion
        All that looks like a leak; any rejects.
    looks, tries : int
        Models scored on these test rows so far, and strategies traded on them, these included.
        The lower ends of AUC and Sharpe ratio are those of intervals widened for the best of that
        many.
    auc_low : float
        What the lower end of the AUC's interval must exceed.
    log_loss_gain : float
        What the base rate's log-loss less the model's must exceed, in nats.
    sharpe_gain : float, optional
        What the strategy's Sharpe ratio less that of buy and hold must exceed, per year.
        A forecast that is better than the base rate and yet does not pay, traded at the next open
        and after costs, is of no use. Without it, this is not asked for.
    sharpe_low : float, optional
        What the lower end of the Sharpe ratio's interval must exceed. Without it, this is not
        asked for.

    Raises
    ------
    ValueError
        Below one look.
    """
    losses, traded = intervals["log_loss_gain"], intervals.get("sharpe_gain")
    conditions = [
        _low_end_above("auc_roc", "AUC", intervals["auc_roc"], auc_low, looks),
        _value_above("log_loss", "log-loss gain", losses, log_loss_gain, digits=4),
        _no_leak(suspicions),
    ]
    if sharpe_gain is not None:
        figure = "Sharpe ratio's gain over buy and hold"
        conditions.append(_value_above("sharpe_gain", figure, traded, sharpe_gain, digits=2))
    if sharpe_low is not None:
        sharpe = intervals.get("sharpe")
        conditions.append(_low_end_above("sharpe_low", "Sharpe ratio", sharpe, sharpe_low, tries))
    return GateVerdict(all(each.passed for each in conditions), tuple(conditions))


def _low_end_above(
    name: str, figure: str, interval: Interval | None, bound: float, looks: int
) -> Condition:
    low = float("nan") if interval is None else interval.widened(looks).low
    after = f" after {looks} looks" if looks > 1 else ""
    return _above(name, f"{figure}'s lower end{after}", low, bound, digits=3)


def _value_above(
    name: str, figure: str, interval: Interval | None, bound: float, *, digits: int
) -> Condition:
    value = float("nan") if interval is None else interval.value
    return _above(name, figure, value, bound, digits=digits)


def _above(name: str, figure: str, value: float, bound: float, *, digits: int) -> Condition:
    found = (
        f"{figure}, unknown," if np.isnan(value) else f"{figure} {_beside(value, bound, digits)}"
    )
    return Condition(name, bool(value > bound), found, f"above {bound:g}")


def _no_leak(suspicions: Sequence[Suspicion]) -> Condition:
    kinds = list(dict.fromkeys(each.kind for each in suspicions))
    found = f"the leak alarm ({', '.join(kinds)})" if kinds else "the leak alarm"
    return Condition("no_leak", not suspicions, found, "silent")


def _beside(value: float, bound: float, digits: int) -> str:
    """Write a value with enough digits to tell it from the bound: no "0.500 is above 0.5"."""
    most = 12
    while digits < most and value != bound and float(f"{value:.{digits}f}") == bound:
        digits += 1
    return f"{value:.{digits}f}"
