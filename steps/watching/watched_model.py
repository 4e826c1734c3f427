"""A model that is watched: what it learned from, how good it was, and what is new to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

import pandas as pd

from steps.learning.bootstrap import Interval, block_length
from steps.learning.proba import predict_proba_up
from steps.learning.splits import window_rows
from steps.market.features import get_feature_set
from steps.market.labels import label_direction
from steps.market.price_quality import PriceQuality, describe_quality
from steps.market.snapshot import FeatureSnapshot
from steps.tracking.mlflow_logger import SNAPSHOT_TAG, MLflowLogger
from steps.tracking.model_store import load_model
from steps.tracking.price_model_store import PriceModelVersion, load_price_model
from steps.tracking.project import StepRun, find_evaluation, read_run
from steps.tracking.snapshot_store import StoredSnapshot, load_snapshot, resolve_snapshot
from steps.tracking.stores import TrackingError

FORECAST = "forecast"
"""The column that holds the model's own probability of a rise."""


@dataclass(frozen=True, kw_only=True)
class WatchedModel:
    """A model with its past.

    Attributes
    ----------
    version : PriceModelVersion
    classifier : xgboost.Booster or scikit-learn classifier
        The same model, as it takes features.
    train_run : StepRun
    windows : mapping
        That run's ``split.json``.
    evaluation : StepRun or None
        The newest one on the snapshot it learned from.
    stored : StoredSnapshot
    snapshot : FeatureSnapshot
        What it learned from, verified.
    """

    version: PriceModelVersion
    classifier: Any
    train_run: StepRun
    windows: Mapping[str, Any]
    evaluation: StepRun | None
    stored: StoredSnapshot
    snapshot: FeatureSnapshot

    @property
    def horizon(self) -> int:
        """Trading days from a row to the close that its forecast is about."""
        return self.snapshot.horizon

    @cached_property
    def learned(self) -> pd.DataFrame:
        """The rows of the snapshot that it learned from."""
        return self.snapshot.table[window_rows(self.snapshot.table, self.windows["train"])]

    @cached_property
    def tested(self) -> pd.DataFrame:
        """The rows of the snapshot that its training run kept for the evaluation."""
        return self.snapshot.table[window_rows(self.snapshot.table, self.windows["test"])]

    def unlearned(self, before: date) -> pd.DataFrame:
        """Return the rows of the snapshot after those and before a date, with their forecasts."""
        table = self.snapshot.table
        later = (table["date"] > self.windows["train"]["last_date"]) & (
            table["date"] < pd.Timestamp(before)
        )
        return self._with_forecasts(table[later])

    def new_rows(self, prices: pd.DataFrame, since: date) -> pd.DataFrame:
        """Return what the model makes of prices from a date on; those before are look-back.

        Parameters
        ----------
        prices : DataFrame, shape (n_rows, 7)
            As `load_prices` returns it.
        since : date

        Returns
        -------
        DataFrame, one row per symbol and date
            As the snapshot's table, with the labels that are known by now, and `forecast`. A
            symbol's rows without their look-back are left out.
        """
        features = self.version.model.features(prices)
        labels = label_direction(prices, self.horizon)
        new = features[features["date"] >= pd.Timestamp(since)]
        return self._with_forecasts(new.merge(labels, on=["symbol", "date"], how="left"))

    def live_predictions(self, new: pd.DataFrame) -> pd.DataFrame:
        """Return the forecasts of new rows as evaluate's, labels missing where not known yet.

        Parameters
        ----------
        new : DataFrame
            As `new_rows` returns it.

        Returns
        -------
        DataFrame
            `date`, `symbol`, `label_known_at`, `direction` (Int8), `probability`, `predicted`
            (int8), `threshold` and `base_rate`, the share of ups the model learned from.
        """
        threshold = float(self.version.metadata["best_threshold"])
        told = new[["date", "symbol", "label_known_at", "direction"]]
        return told.assign(
            probability=new[FORECAST],
            predicted=(new[FORECAST] > threshold).astype("int8"),
            threshold=threshold,
            base_rate=float(self.learned["direction"].mean()),
        )

    def evaluated(self) -> dict[str, Interval]:
        """Return the scores of its evaluation, each with its interval; none where none is."""
        run = self.evaluation
        if run is None:
            return {}
        blocks = block_length(self.horizon)
        return {
            name: Interval(
                value=value,
                low=run.metrics[f"{name}_low"],
                high=run.metrics[f"{name}_high"],
                confidence=float(run.params["confidence"]),
                block_length=blocks,
                n_resamples=int(run.params["n_resamples"]),
                n_blocks=self.tested["date"].nunique() // blocks,
            )
            for name, value in run.metrics.items()
            if f"{name}_low" in run.metrics
        }

    def price_quality(
        self, prices: pd.DataFrame, since: date, *, as_of: date, max_age: int
    ) -> PriceQuality:
        """Say what is odd about prices, for this model; see `describe_quality`."""
        feature_set = get_feature_set(self.version.metadata["feature_set"])
        return describe_quality(
            prices,
            known_symbols=self.snapshot.manifest["symbols"],
            needed_rows=feature_set.min_rows,
            settled_rows=feature_set.settled_rows,
            as_of=as_of,
            max_age=max_age,
            since=since,
        )

    def _with_forecasts(self, rows: pd.DataFrame) -> pd.DataFrame:
        if rows.empty:
            return rows.assign(**{FORECAST: pd.Series(dtype="float64")})
        names = list(self.snapshot.feature_names)
        return rows.assign(**{FORECAST: predict_proba_up(self.classifier, rows[names])})


def find_watched_model(uri: str, logger: MLflowLogger) -> WatchedModel:
    """Load a model, and what is recorded of its training and evaluation.

    Parameters
    ----------
    uri : str
        See `load_price_model`.
    logger : MLflowLogger
        Of the run that asks.

    Raises
    ------
    TrackingError
        If the model, its training run or its snapshot is not to be had.
    SnapshotError
        If the snapshot is not what it was.
    """
    version = load_price_model(logger.client, uri)
    if version.run_id is None:
        raise TrackingError(
            f"model {uri} does not say which run trained it, so nobody knows what it learned from: "
            "watch one that train has stored"
        )
    train_run = read_run(logger.client, version.run_id)
    classifier, _ = load_model(version.uri)
    stored = resolve_snapshot(logger.client, logger.experiment_id, version.metadata[SNAPSHOT_TAG])
    return WatchedModel(
        version=version,
        classifier=classifier,
        train_run=train_run,
        windows=train_run.read_json("split.json"),
        evaluation=find_evaluation(logger.client, train_run.run_id, stored.snapshot_id),
        stored=stored,
        snapshot=load_snapshot(stored),
    )
