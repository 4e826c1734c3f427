"""What a watch over a model found on new data, as its page wants it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, Literal, Protocol

import pandas as pd

from steps.reporting.findings import Estimate

FORECAST: Final = "forecast"
"""The row of `drift` that is no feature: the model's own probability of a rise."""


class Oddity(Protocol):
    """Something about prices to look at, as `steps.market.price_quality` finds it."""

    @property
    def kind(self) -> str:
        """What sort of thing it is; a name that is written as words."""

    @property
    def symbol(self) -> str:
        """The symbol it was found in; "" where it is said of all."""

    @property
    def text(self) -> str:
        """What was found, with symbol, dates and numbers."""


@dataclass(frozen=True, kw_only=True)
class MonitoringFindings:
    """All that the page of a watch tells.

    Any table may be empty, and then needs no columns; what is not known is NaN.

    Attributes
    ----------
    title : str
        Which model is watched, and on which prices.
    status : {"stable", "drift", "unknown"}
        The verdict; unknown where there is too little data to tell.
    sentence : str
        The verdict in a sentence.
    reasons : sequence of str
        What led to it: features that drifted, scores that fell, data that is missing.
    new_dates : tuple of date or None
        First and last date of the rows that are new; None where there are none.
    new_rows : int
        How many there are.
    reference_dates, reference_rows : tuple of date, int
        The same of the rows they are compared with.
    quality_symbols : DataFrame, one row per symbol
        `symbol`, `first_date`, `last_date`, `rows`, `missing_days`, `zero_volume_days`,
        `longest_unchanged` (rows of the longest run of equal closes), `largest_move` (one-day
        return, 0.25 is 25 %) and `age` (weekdays since its last row).
    oddities : sequence of Oddity
        What else is odd about the prices.
    drift : DataFrame, one row per feature
        `feature`, `psi` (population stability index), `ks` (Kolmogorov and Smirnov's distance),
        `p_value`, `p_adjusted` (for the number of features), `drifted` (both bounds are
        passed). A row may be `FORECAST`. A feature without `psi` is not compared.
    psi_bound, alpha : float
        The bounds of `psi` and `p_adjusted`.
    reference, new : DataFrame, shapes (reference_rows, n_features) and (new_rows, n_features)
        The rows that were compared; columns as in `drift`'s `feature`.
    live, then : Estimate or None
        AUC on the new rows, None where no label is known yet; and at the model's evaluation.
    performance : DataFrame, one row per score
        `metric` (`auc_roc`, `log_loss`, ...), `live`, `low`, `high`, `evaluation`,
        `evaluation_low`, `evaluation_high`.
    performance_note : str
        How many labelled rows there are, or why there are none.
    by_month : DataFrame, one row per month
        `month` (2013-02), `rows`, `auc_roc`, `log_loss`, `base_rate`.
    lineage : mapping of str to str
        Model, snapshot IDs, commit, run IDs.
    params : mapping
        How it was compared.
    reproduce : sequence of str
        Commands, one after the other.
    """

    title: str
    status: Literal["stable", "drift", "unknown"]
    sentence: str
    reasons: Sequence[str]
    new_dates: tuple[date, date] | None
    new_rows: int
    reference_dates: tuple[date, date]
    reference_rows: int
    quality_symbols: pd.DataFrame
    oddities: Sequence[Oddity]
    drift: pd.DataFrame
    psi_bound: float
    alpha: float
    reference: pd.DataFrame
    new: pd.DataFrame
    live: Estimate | None
    then: Estimate | None
    performance: pd.DataFrame
    performance_note: str
    by_month: pd.DataFrame
    lineage: Mapping[str, str]
    params: Mapping[str, object]
    reproduce: Sequence[str]
