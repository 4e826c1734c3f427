"""How good a model's forecasts were on rows that came after it, beside its evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from steps.learning.bootstrap import Interval, block_length
from steps.learning.decline import Decline, judge_decline
from steps.learning.intervals import score_intervals
from steps.learning.scores import score_classifier
from steps.market.price_report import counted

FEWEST_DATES: Final = 63
FEWEST_BLOCKS: Final = 6
"""Dates with known labels, and blocks of them, below which there is no verdict."""


@dataclass(frozen=True, kw_only=True)
class Performance:
    """How good the forecasts of new rows were, as far as their labels are known.

    Attributes
    ----------
    labelled : DataFrame
        The rows, as `score_intervals` takes them, without those that the evaluation scored.
    live, then : mapping of str to Interval
        The scores on them, and those of the model's evaluation; either may be empty.
    decline : Decline or None
        None where no verdict is possible.
    unjudged : str
        Why it is not; "" where it is.
    shared : int
        How many labelled rows were left out, for the evaluation scored them, too.
    """

    labelled: pd.DataFrame
    live: Mapping[str, Interval]
    then: Mapping[str, Interval]
    decline: Decline | None
    unjudged: str
    shared: int = 0

    @property
    def note(self) -> str:
        """What the scores rest on, and why they are no verdict where they are none."""
        if self.labelled.empty and not self.shared:
            return "No label is known yet."
        said = [rows_of_dates(self.labelled, "labelled row")]
        if self.shared:
            said.append(self.left_out)
        if self.unjudged:
            said.append(self.unjudged)
        return " ".join(f"{each[0].upper()}{each[1:]}." for each in said)

    @property
    def left_out(self) -> str:
        """How many rows do not count, and why."""
        return f"{counted(self.shared, 'labelled row')} left out: the evaluation scored them"


def judge_performance(
    labelled: pd.DataFrame,
    then: Mapping[str, Interval],
    *,
    horizon: int,
    confidence: float,
    n_resamples: int,
    alpha: float,
    tested: pd.DataFrame,
) -> Performance:
    """Score the forecasts whose labels are known, and hold them against the evaluation's.

    Rows that the evaluation scored, too, would pull the two together, and hide a decline. They are
    left out.

    Parameters
    ----------
    labelled : DataFrame, one row per symbol and date
        As `score_intervals` takes it; perhaps without rows.
    then : mapping of str to Interval
        The scores of the evaluation, empty where there was none.
    horizon : int
        Trading days ahead, as in the label.
    confidence : float
    n_resamples : int
        Of the intervals.
    alpha : float
        The p-value below which the AUC has declined.
    tested : DataFrame
        `date` and `symbol` of the rows that the evaluation scored.
    """
    scored = _rows_among(labelled, tested) if then else np.zeros(len(labelled), dtype=np.bool_)
    labelled = labelled[~scored]
    live: Mapping[str, Interval] = {}
    if len(labelled):
        live = score_intervals(
            labelled, horizon=horizon, confidence=confidence, n_resamples=n_resamples
        )
    unjudged = _too_few_labels(
        labelled, horizon, " that the evaluation has not scored" if any(scored) else ""
    )
    if not unjudged and "auc_roc" not in then:
        unjudged = "no verdict on performance: no evaluation of the model is recorded"
    decline = None
    if not unjudged:
        decline = judge_decline(live["auc_roc"], then["auc_roc"], alpha=alpha)
        if isnan(decline.p_value):
            unjudged = f"no verdict on performance: {decline.sentence}"
            decline = None
    return Performance(
        labelled=labelled,
        live=live,
        then=then,
        decline=decline,
        unjudged=unjudged,
        shared=int(scored.sum()),
    )


def _rows_among(rows: pd.DataFrame, others: pd.DataFrame) -> NDArray[np.bool_]:
    """Tell for each row whether another table has its date and symbol."""
    keys = ["date", "symbol"]
    found = rows[keys].merge(others[keys], how="left", indicator=True)["_merge"]
    return np.asarray(found == "both", dtype=np.bool_)


def _too_few_labels(labelled: pd.DataFrame, horizon: int, which: str) -> str:
    dates = labelled["date"].nunique()
    needed = max(FEWEST_DATES, FEWEST_BLOCKS * block_length(horizon))
    if dates < needed:
        return (
            f"no verdict on performance: {counted(dates, 'date')} with known labels{which}, "
            f"{needed} are needed"
        )
    if labelled["direction"].nunique() < 2:
        came = "up" if labelled["direction"].iloc[0] else "down"
        return f"no verdict on performance: all {len(labelled):,} known labels are {came}"
    return ""


def by_month(labelled: pd.DataFrame) -> pd.DataFrame:
    """Score the forecasts month by month.

    Parameters
    ----------
    labelled : DataFrame, one row per symbol and date
        `date`, `direction` (0 or 1) and `probability`.

    Returns
    -------
    DataFrame, one row per month
        `month` (2013-02), `rows`, `auc_roc` (NaN of one class), `log_loss`, in nats, and
        `base_rate`, the month's share of ups.
    """
    rows = []
    for month, part in labelled.groupby(labelled["date"].dt.strftime("%Y-%m")):
        scores = score_classifier(part["direction"], part["probability"], threshold=0.5)
        rows.append(
            {
                "month": month,
                "rows": len(part),
                "auc_roc": scores["auc_roc"],
                "log_loss": scores["log_loss"],
                "base_rate": float(part["direction"].mean()),
            }
        )
    return pd.DataFrame(rows)


def rows_of_dates(rows: pd.DataFrame, noun: str) -> str:
    """Count rows and their dates, in words."""
    return f"{counted(len(rows), noun)} of {counted(rows['date'].nunique(), 'date')}"
