"""What a watch over a model found on new data: drift, decline, and the verdict they make."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import pandas as pd

from steps.market.price_quality import PriceQuality
from steps.market.price_report import counted
from steps.watching.drift import Drift, part_forecasts
from steps.watching.live_performance import Performance, rows_of_dates

Status = Literal["stable", "drift", "unknown"]

_MOST_NAMED: Final = 10


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
        found = "decline" if self._declined and self.drift.drifted.empty else self.status
        return f"{found.capitalize()} on {new}: {said}."

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
        features, forecasts = part_forecasts(self.drift.judged)
        drifted, _ = part_forecasts(self.drift.drifted)
        if features.empty:
            said = "too little data to tell whether a feature drifted"
        elif drifted.empty:
            said = f"none of {counted(len(features), 'feature')} drifted"
        else:
            worst = drifted.iloc[0]
            said = (
                f"{len(drifted)} of {counted(len(features), 'feature')} drifted, "
                f"{worst['feature']} furthest (PSI {worst['psi']:.2f})"
            )
        if forecasts.empty:
            return said
        if forecasts["drifted"].iloc[0]:
            did = "but the forecasts did" if drifted.empty else "and so did the forecasts"
            return f"{said}, {did} (PSI {forecasts['psi'].iloc[0]:.2f})"
        return f"{said}, {'nor did' if drifted.empty else 'but not'} the forecasts"

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
            yield (
                f"{each['feature']} drifted: PSI {each['psi']:.2f}, "
                f"adjusted p {each['p_adjusted']:.2g}"
            )
        if len(drifted) > _MOST_NAMED:
            yield f"and {len(drifted) - _MOST_NAMED:,} more drifted"
        if self.drift.too_little:
            yield self.drift.too_little
        elif self.status == "stable":
            worst = self.drift.judged.iloc[0]
            far = worst["psi"] > self.drift.psi_bound
            yield (
                f"nothing drifted: {worst['feature']} moved furthest (PSI {worst['psi']:.2f}, "
                f"adjusted p {worst['p_adjusted']:.2g})"
                + (", no farther than parts of the training window from one another" if far else "")
            )
        if self.drift.too_little_of_forecasts and not self.drift.too_little:
            yield (
                "forecasts not compared with those between the train window and since: "
                f"{self.drift.too_little_of_forecasts}"
            )

    def _reasons_of_performance(self) -> Iterator[str]:
        if self.performance.decline is None:
            yield self.performance.unjudged
        elif self._declined or self.status != "drift":
            yield self.performance.decline.sentence
        if self.performance.shared:
            yield self.performance.left_out
