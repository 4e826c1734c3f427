"""Challenger against champion, on the rows that are new to both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from steps.learning.models import predict_proba_up
from steps.learning.paired import PairedComparison, compare_losses
from steps.market.snapshot import FeatureSnapshot
from steps.tracking.mlflow_logger import SNAPSHOT_TAG, MLflowLogger
from steps.tracking.model_store import load_model
from steps.tracking.project import StepRun, read_run
from steps.tracking.registry import ModelVersion
from steps.tracking.snapshot_store import load_snapshot, resolve_snapshot
from steps.tracking.stores import TrackingError, first_line

SAME_PROBABILITY = 1e-4
"""How far a model's probability may lie from the one recorded when it was evaluated: processors
round differently, but another model is further away."""


class IncomparableError(ValueError):
    """Two models cannot be scored on the same rows; the message says why."""


@dataclass(frozen=True, eq=False)
class ScoredRows:
    """Rows of a snapshot, and what a model says to them.

    Attributes
    ----------
    snapshot : FeatureSnapshot
        Verified.
    positions : ndarray of intp, shape (n_rows,)
        Where in the snapshot's table the rows are.
    probabilities : ndarray of float64, shape (n_rows,)
    """

    snapshot: FeatureSnapshot
    positions: NDArray[np.intp]
    probabilities: NDArray[np.float64]

    @property
    def features(self) -> pd.DataFrame:
        """The model's input, shape (n_rows, n_features)."""
        return self.snapshot.features.iloc[self.positions]

    @property
    def dates(self) -> pd.Series[Any]:
        """The date of each row."""
        return self.snapshot.table["date"].iloc[self.positions]

    @property
    def directions(self) -> NDArray[np.int8]:
        """The label of each row; -1 where there is none."""
        labels = self.snapshot.table["direction"].iloc[self.positions]
        return labels.to_numpy(np.int8, na_value=-1)

    def after(self, date: pd.Timestamp) -> ScoredRows:
        """Return the rows dated after a date."""
        later = (self.dates > date).to_numpy(bool)
        return replace(
            self, positions=self.positions[later], probabilities=self.probabilities[later]
        )


@dataclass(frozen=True)
class Comparison:
    """What came of setting a model beside the champion.

    Attributes
    ----------
    sentence : str
        The finding, or why there is none.
    result : PairedComparison or None
        None where the two could not be compared.
    rows : mapping
        On which rows, JSON-able.
    """

    sentence: str
    result: PairedComparison | None = None
    rows: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_won(self) -> bool:
        """Whether the challenger is better."""
        return self.result is not None and self.result.winner == "challenger"

    @property
    def figures(self) -> str:
        """The finding in figures, where there are any."""
        result = self.result
        if result is None or np.isnan(result.gain.low):
            return self.sentence.rstrip(".")
        p_value = "< 0.001" if result.p_value < 0.001 else f"{result.p_value:.2g}"
        return (
            f"log-loss gain {result.gain.value:.4f}, {100 * result.gain.confidence:g} % interval "
            f"{result.gain.low:.4f} to {result.gain.high:.4f}, p {p_value}, "
            f"{result.rows:,} rows of {result.dates:,} dates"
        )

    def describe(self) -> dict[str, Any]:
        """Return it all, JSON-able."""
        figures = self.result.describe() if self.result else {}
        return {"sentence": self.sentence, "possible": bool(self.result), **self.rows, **figures}


def score_again(judged: StepRun, logger: MLflowLogger) -> ScoredRows:
    """Have the model predict the evaluate run's rows once more, from the verified snapshot.

    Raises
    ------
    TrackingError
        If predictions, snapshot and model do not belong together.
    """
    stored = resolve_snapshot(logger.client, logger.experiment_id, judged.tags[SNAPSHOT_TAG])
    snapshot = load_snapshot(stored)
    predictions = judged.read_table("predictions.parquet")
    known = snapshot.table[["date", "symbol"]]
    try:
        wanted = predictions[["date", "symbol"]].astype(known.dtypes.to_dict())
        recorded = predictions["probability"].to_numpy(np.float64)
        directions = predictions["direction"].to_numpy(np.int8)
    except (KeyError, TypeError, ValueError) as error:
        raise _not_of_a_piece(judged, f"it lacks dates, symbols or figures: {error}") from error
    index = pd.MultiIndex.from_frame(known)
    positions = index.get_indexer(pd.MultiIndex.from_frame(wanted))
    if not len(positions) or (positions < 0).any():
        raise _not_of_a_piece(judged, f"snapshot {stored.snapshot_id} has not all of its rows")
    model, _ = load_model(judged.tags["model_uri"])
    probabilities = predict_proba_up(model, snapshot.features.iloc[positions])
    rows = ScoredRows(snapshot, positions, probabilities)
    if (rows.directions != directions).any():
        raise _not_of_a_piece(judged, f"snapshot {stored.snapshot_id} has other labels")
    difference = float(np.abs(rows.probabilities - recorded).max())
    if not difference <= SAME_PROBABILITY:
        raise _not_of_a_piece(
            judged, f"{judged.tags['model_uri']} gives probabilities up to {difference:.2g} away"
        )
    return rows


def _not_of_a_piece(judged: StepRun, what: str) -> TrackingError:
    return TrackingError(
        f"predictions.parquet of evaluate run {judged.run_id} is not of this model and snapshot "
        f"({what}): evaluate the model again"
    )


def compare(
    champion: ModelVersion | None, version: ModelVersion, rows: ScoredRows, logger: MLflowLogger
) -> Comparison:
    """Compare a version with the champion, on the rows that are new to both."""
    if champion is None:
        return Comparison("there was no champion to compare it with")
    if champion.number == version.number:
        return Comparison("it is the champion itself")
    try:
        learnt = last_date_learnt(champion, rows.snapshot, logger)
        later = rows.after(learnt)
        champions = _probabilities(champion, later, learnt)
    except (IncomparableError, TrackingError) as error:
        return Comparison(f"comparison not possible: {first_line(error)}")
    result = compare_losses(
        later.dates,
        later.directions,
        champions,
        later.probabilities,
        horizon=rows.snapshot.horizon,
    )
    return Comparison(
        result.sentence,
        result,
        {
            "challenger_version": version.number,
            "champion_version": champion.number,
            SNAPSHOT_TAG: rows.snapshot.snapshot_id,
            "champion_has_learnt_until": learnt.date(),
            "first_date": later.dates.min().date(),
            "last_date": later.dates.max().date(),
            "rows_left_out": len(rows.positions) - len(later.positions),
        },
    )


def last_date_learnt(
    version: ModelVersion, snapshot: FeatureSnapshot, logger: MLflowLogger
) -> pd.Timestamp:
    """Return the date of the last price that a version has learnt from, labels included.

    Parameters
    ----------
    version : ModelVersion
    snapshot : FeatureSnapshot
        Where the training run did not record when its last label became known, the labels that
        this snapshot has on the same dates tell.
    logger : MLflowLogger

    Raises
    ------
    IncomparableError, TrackingError
        If nothing says on which dates the version was trained.
    """
    run_id = version.tags.get("train_run_id") or version.run_id
    if not run_id:
        raise IncomparableError(f"nothing says which run trained version {version.number}")
    split = read_run(logger.client, run_id).read_json("split.json")
    try:
        windows = [split[name] for name in ("train", "validation") if name in split]
        last = max(pd.Timestamp(window["last_date"]) for window in windows)
        known = [pd.Timestamp(window.get("last_label_known_at")) for window in windows]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise IncomparableError(
            f"split.json of run {run_id} does not say on which dates version {version.number} "
            "was trained"
        ) from error
    if any(pd.isna(date) for date in known):
        table = snapshot.table
        known = [table["label_known_at"][table["date"] <= last].max()]
    return max([last, *(date for date in known if not pd.isna(date))])


def _probabilities(
    champion: ModelVersion, rows: ScoredRows, learnt: pd.Timestamp
) -> NDArray[np.float64]:
    snapshot = rows.snapshot
    if not len(rows.positions):
        raise IncomparableError(
            f"version {champion.number} has learnt from prices until {learnt.date()}, and the "
            "evaluation has no later rows"
        )
    model, metadata = load_model(champion.uri)
    horizon = metadata.get("horizon", snapshot.horizon)
    if horizon != snapshot.horizon:
        raise IncomparableError(
            f"version {champion.number} looks {horizon} days ahead, the evaluation "
            f"{snapshot.horizon}"
        )
    try:
        return predict_proba_up(model, rows.features)
    except Exception as error:  # registered by hand, it may be any kind of model
        raise IncomparableError(
            f"version {champion.number} cannot score snapshot {snapshot.snapshot_id}: "
            f"{first_line(error)}"
        ) from error
