"""What a watch over a model found on new data: drift, decline, and the verdict they make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import pandas as pd

from steps.learning.two_sample import drift_table, holm, too_little_data
from steps.market.price_quality import PriceQuality
from steps.market.price_report import counted
from steps.watching.live_performance import Performance, rows_of_dates
from steps.watching.watched_model import FORECAST

Status = Literal["stable", "drift", "unknown"]

# What `drift_table` says is its smallest p-value with as few blocks of dates as it takes.
_LARGEST_FLOOR: Final = 1 / 816
_MOST_NAMED: Final = 10


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How the new rows are spread, beside those the model learned from.

    Attributes
    ----------
    table : DataFrame, one row per feature
        As `drift_table` returns it; the last row is the model's own probability.
    psi_bound, alpha : float
        The bounds of `psi` and `p_adjusted`.
    too_little : str
        Why there is too little data to tell; "" where there is enough.
    """

    table: pd.DataFrame
    psi_bound: float
    alpha: float
    too_little: str

    @property
    def drifted(self) -> pd.DataFrame:
        """The rows of what drifted, the furthest first."""
        return _furthest_first(self.table[self.table["drifted"].to_numpy(bool)])

    @property
    def judged(self) -> pd.DataFrame:
        """The rows of what could be judged, the furthest first."""
        return _furthest_first(self.table[self.table["p_adjusted"].notna()])


@dataclass(frozen=True, kw_only=True)
class Watch:
    """All that was found of a model on new rows.

    Attributes
    ----------
    new, unlearned : DataFrame
        The rows, and older ones it did not learn from: see `WatchedModel`.
    drift : Drift
    performance : Performance
    quality : PriceQuality
        The state of the prices. It is said, and no part of the verdict.
    """

    new: pd.DataFrame
    unlearned: pd.DataFrame
    drift: Drift
    performance: Performance
    quality: PriceQuality

    @property
    def status(self) -> Status:
        """The verdict; unknown where there is too little data to tell of drift, or of decline."""
        if len(self.drift.drifted) or self._declined:
            return "drift"
        return "unknown" if self.drift.too_little else "stable"

    @property
    def sentence(self) -> str:
        """The verdict in a sentence."""
        new = rows_of_dates(self.new, "new row")
        said = f"{self._drift_clause}; {self._performance_clause}"
        return f"{self.status.capitalize()} on {new}: {said}."

    @property
    def reasons(self) -> list[str]:
        """What the verdict rests on; of a drift, what led to it and what could not be told."""
        return [*self._reasons_of_drift(), *self._reasons_of_performance()]

    @property
    def stale_symbols(self) -> int:
        """How many symbols have no prices as new as they should be."""
        kinds = [oddity.kind for oddity in self.quality.oddities]
        return len(self.quality.symbols) if "all stale" in kinds else kinds.count("stale")

    @property
    def _declined(self) -> bool:
        return self.performance.decline is not None and self.performance.decline.declined

    @property
    def _drift_clause(self) -> str:
        drifted, judged = self.drift.drifted, self.drift.judged
        if drifted.empty and self.drift.too_little:
            return "too little data to tell whether a feature drifted"
        if drifted.empty:
            return f"none of {counted(len(judged), 'feature')} drifted"
        worst = drifted.iloc[0]
        return (
            f"{len(drifted)} of {counted(len(judged), 'feature')} drifted, {worst['feature']} "
            f"furthest (PSI {worst['psi']:.2f})"
        )

    @property
    def _performance_clause(self) -> str:
        if self.performance.decline is None:
            return "no verdict on performance"
        live, then = (
            each["auc_roc"].value for each in (self.performance.live, self.performance.then)
        )
        found = "performance declined" if self._declined else "no decline"
        return f"{found}, AUC {live:.3f} against {then:.3f} at the evaluation"

    def _reasons_of_drift(self) -> Iterator[str]:
        drifted = self.drift.drifted
        for each in drifted.head(_MOST_NAMED).to_dict("records"):
            yield f"{each['feature']} drifted: PSI {each['psi']:.2f}, p {each['p_adjusted']:.2g}"
        if len(drifted) > _MOST_NAMED:
            yield f"and {counted(len(drifted) - _MOST_NAMED, 'more feature')} drifted"
        if self.drift.too_little:
            yield self.drift.too_little
        elif self.status == "stable":
            worst = self.drift.judged.iloc[0]
            yield (
                f"no feature drifted: {worst['feature']} moved furthest (PSI {worst['psi']:.2f}, "
                f"p {worst['p_adjusted']:.2g})"
            )

    def _reasons_of_performance(self) -> Iterator[str]:
        if self.performance.decline is None:
            yield self.performance.unjudged
        elif self._declined or self.status != "drift":
            yield self.performance.decline.sentence


def find_drift(
    learned: pd.DataFrame,
    unlearned: pd.DataFrame,
    new: pd.DataFrame,
    features: Sequence[str],
    *,
    alpha: float,
    psi_bound: float,
) -> Drift:
    """Compare new rows with those the model knows.

    Features are compared with those of the rows the model learned from. Its forecasts of these
    very rows are no reference: fitted to them, a deep forest spreads them three times as wide as
    any later ones. So forecasts are compared with those of rows it did not learn from.

    Parameters
    ----------
    learned : DataFrame
        `date` and the features; the rows of the train window.
    unlearned : DataFrame
        `date` and `forecast`; rows after that window and before the new ones, perhaps none.
    new : DataFrame
        `date`, the features and `forecast`.
    features : sequence of str
    alpha, psi_bound : float
        Bounds: see `drift_table`.

    Raises
    ------
    ValueError
        If alpha is so small that nothing could ever be said to drift.
    """
    tests = len(features) + 1
    if tests * _LARGEST_FLOOR >= alpha:
        raise ValueError(
            f"alpha={alpha:g} is too strict for {tests} tests, the forecast being one: over few "
            f"blocks of dates none could fall below it; take more than {tests * _LARGEST_FLOOR:.3f}"
        )
    table = drift_table(learned, new, features, alpha=alpha)
    forecasts = pd.DataFrame({"feature": [FORECAST]})
    if not unlearned.empty:
        forecasts = drift_table(unlearned, new, [FORECAST], alpha=alpha)
    table = pd.concat([table, forecasts], ignore_index=True)
    # One family of tests: what is to be rare is that any of them goes off by chance.
    table["p_adjusted"] = holm(table["p_value"])
    table["drifted"] = (table["p_adjusted"] < alpha) & (table["psi"] > psi_bound)
    too_little = too_little_data(learned["date"], new["date"]) or ""
    return Drift(table=table, psi_bound=psi_bound, alpha=alpha, too_little=too_little)


def _furthest_first(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values("psi", ascending=False, kind="stable")
