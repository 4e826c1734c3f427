"""What an evaluation found, as its report wants it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd

from steps.reporting.figures import Interval


class Estimate(Interval, Protocol):
    """A figure with its interval, as `steps.learning.bootstrap` computes it."""

    @property
    def value(self) -> float:
        """The figure on all rows."""


class Condition(Protocol):
    """One thing the gate asks for, as `steps.learning.gate` judges it."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def passed(self) -> bool:
        """Whether it was met."""

    @property
    def sentence(self) -> str:
        """What was found, and whether it is what was asked for."""


class Suspicion(Protocol):
    """A piece of evidence for a leak, as `steps.learning.leaks` finds it."""

    @property
    def kind(self) -> str:
        """What sort of leak it may be."""

    @property
    def evidence(self) -> str:
        """What was found, with numbers."""


@dataclass(frozen=True, kw_only=True)
class EvaluationFindings:
    """All that the report of an evaluation tells.

    Attributes
    ----------
    title : str
        What was evaluated.
    sentence : str
        The verdict.
    approved : bool
        What the gate said.
    conditions : sequence of Condition
        What the gate asked for.
    suspicions : sequence of Suspicion
        All that looks like a leak.
    looks : int
        How often the test window has been scored in this experiment, this time included.
    deflated : mapping of str to float
        What the looks leave of the headline figures; empty at the first look.
    scores : mapping of str to Estimate
        By score: `accuracy`, `auc_roc`, ...
    baselines : mapping of str to mapping of str to float
        Scores by forecaster: `base_rate`, `persistence`.
    ic : mapping of str to Estimate
        `ic`, `icir`, `rank_ic`, `rank_icir`; empty where too few symbols trade.
    daily_ic : DataFrame or None, indexed by date
        `ic`, `rank_ic`, `symbols`.
    backtest_statistics : mapping of str to float
        By statistic; those of buy and hold begin with `buy_and_hold_`.
    backtest_intervals : mapping of str to Estimate
        By statistic, where there is one.
    style : str
        `long_flat` or `long_short`.
    cost_bps : float
        Cost of a trade in basis points of what is traded.
    daily : DataFrame or None, indexed by date
        Returns `strategy` and `buy_and_hold`; None where there was nothing to trade at.
    predictions : DataFrame, shape (n_rows, ...)
        `date`, `symbol`, `direction`, `probability`, `predicted`.
    importance : DataFrame
        `feature` and `importance`, the most important first.
    contributions, feature_values : DataFrame or None, shape (n_rows, n_features)
        SHAP values in log-odds, and the features themselves.
    slices : DataFrame
        `kind`, `slice`, `auc_roc`, `auc_low`, `auc_high`, and what else there is to tell.
    worst_days : DataFrame
        One row per date, the worst first.
    folds : DataFrame or None
        One row per fold of a walk-forward: `fold`, `first_date`, `last_date`, `auc_roc`,
        `auc_low`, `auc_high`, and what else there is to tell.
    windows : mapping, or sequence of mapping
        A training run's `split.json`, or those of several.
    manifest, provenance : mapping
        What the feature snapshot holds, and how it was made.
    lineage : mapping of str to str
        Snapshot ID, commit, run IDs, model.
    params : mapping
        How the model was trained and judged.
    reproduce : sequence of str
        Commands, one after the other.
    """

    title: str
    sentence: str
    approved: bool
    conditions: Sequence[Condition]
    suspicions: Sequence[Suspicion]
    looks: int
    deflated: Mapping[str, float]
    scores: Mapping[str, Estimate]
    baselines: Mapping[str, Mapping[str, float]]
    ic: Mapping[str, Estimate]
    backtest_statistics: Mapping[str, float]
    backtest_intervals: Mapping[str, Estimate]
    cost_bps: float
    style: str
    predictions: pd.DataFrame
    importance: pd.DataFrame
    slices: pd.DataFrame
    worst_days: pd.DataFrame
    windows: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    manifest: Mapping[str, Any]
    provenance: Mapping[str, Any]
    lineage: Mapping[str, str]
    params: Mapping[str, Any]
    reproduce: Sequence[str]
    daily: pd.DataFrame | None = None
    daily_ic: pd.DataFrame | None = None
    contributions: pd.DataFrame | None = None
    feature_values: pd.DataFrame | None = None
    folds: pd.DataFrame | None = None
