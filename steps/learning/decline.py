"""Whether a model does worse on new prices than it did in its evaluation."""

import math
from dataclasses import dataclass
from statistics import NormalDist

from steps.learning.bootstrap import Interval


@dataclass(frozen=True)
class Decline:
    """The AUC since the evaluation beside the evaluation's own.

    Attributes
    ----------
    live, then : Interval
        The AUC on new prices, and in the evaluation.
    difference : float
        `live` less `then`: below 0 where the model does worse; NaN where either is unknown.
    p_value : float
        One-sided: how likely the live AUC would be so far below the evaluation's were both
        periods alike. NaN where an interval is unknown.
    declined : bool
        Whether that is too unlikely.
    sentence : str
        Both AUCs and what follows, without a full stop.
    """

    live: Interval
    then: Interval
    difference: float
    p_value: float
    declined: bool
    sentence: str


def judge_decline(live: Interval, then: Interval, *, alpha: float = 0.05) -> Decline:
    r"""Judge whether the live AUC is lower than the evaluation's by more than chance.

    .. math:: z = \frac{a - b}{\sqrt{s_a^2 + s_b^2}}

    with the AUCs a (live) and b (then). Each standard error s is half its interval's width,
    divided by the normal distribution's two-sided quantile of its confidence; the p-value is the
    normal distribution's share below z. The two must share no row:
    what both score pulls them together, and hides a decline.

    Parameters
    ----------
    live, then : Interval
        Of the AUC on new prices, and in the evaluation. Only value, ends and confidence count, so
        `then` may be made from recorded numbers. Not widened for looks.
    alpha : float
        Of models that are as good as ever, about this share is said to have declined, each time
        it is asked; fewer where there are few blocks of dates, whose intervals are wider than
        the normal distribution asks for.

    Raises
    ------
    ValueError
        When an interval ends below its beginning, or a confidence or alpha does not lie between 0
        and 1.

    Notes
    -----
    The evaluation's AUC of a model that was chosen for it flatters. What then looks like a
    decline may never have been there.

    References
    ----------
    J. A. Hanley and B. J. McNeil, "The meaning and use of the area under a receiver operating
    characteristic (ROC) curve", Radiology 143 (1982), on the test. D. G. Altman and J. M. Bland,
    "Interaction revisited: the difference between two estimates", BMJ 326 (2003), on standard
    errors from intervals.

    Examples
    --------
    Standard errors of 0.03 and 0.04 make 0.05 of the difference; it is twice that.

    >>> live = Interval(0.44, 0.3812, 0.4988, 0.95, 10, 1000)
    >>> then = Interval(0.54, 0.4616, 0.6184, 0.95, 10, 1000)
    >>> found = judge_decline(live, then)
    >>> found.declined, round(found.p_value, 3)
    (True, 0.023)
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, such as 0.05, not {alpha}.")
    difference = live.value - then.value
    error = math.hypot(_standard_error(live), _standard_error(then))
    p_value = _share_below(difference, error)
    declined = p_value < alpha
    said = f"AUC {_said(live, ' live')} against {_said(then, ' in the evaluation')}"
    if math.isnan(p_value):
        unknown = [name for name, each in (("live", live), ("then", then)) if _unknown(each)]
        finding = _UNKNOWN["both" if len(unknown) == 2 else unknown[0]]
    else:
        finding = (
            f"{'lower than' if declined else 'no lower than'} chance explains (p {p_value:.2g})"
        )
    return Decline(live, then, difference, p_value, declined, f"{said}: {finding}")


_UNKNOWN = {
    "live": "whether it declined is not known, for the live one has no interval",
    "then": "whether it declined is not known, for the evaluation's has no interval",
    "both": "whether it declined is not known, for neither has an interval",
}


def _standard_error(interval: Interval) -> float:
    if not 0 < interval.confidence < 1:
        raise ValueError(
            f"confidence must lie between 0 and 1, such as 0.95, not {interval.confidence}."
        )
    if interval.high < interval.low:
        raise ValueError(
            f"An interval's low must not be above its high: {interval.low} to {interval.high}."
        )
    quantile = NormalDist().inv_cdf((1 + interval.confidence) / 2)
    return (interval.high - interval.low) / (2 * quantile)


def _share_below(difference: float, error: float) -> float:
    """Return the share below it of a normal distribution around 0 with that standard error."""
    if error == 0:  # as where everything is told apart, on every resample
        return 0.5 if difference == 0 else float(difference > 0)
    return NormalDist().cdf(difference / error)


def _unknown(interval: Interval) -> bool:
    return math.isnan(interval.value) or math.isnan(interval.low) or math.isnan(interval.high)


def _said(interval: Interval, where: str) -> str:
    if math.isnan(interval.value):
        return f"unknown{where}"
    if _unknown(interval):
        return f"{interval.value:.3f}{where}"
    return f"{interval.value:.3f}{where} ({interval.low:.3f} to {interval.high:.3f})"
