"""Challenger against champion, on the rows that are new to both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from steps.learning.paired import PairedComparison, Winner, compare_losses
from steps.learning.proba import predict_proba_up
from steps.market.snapshot import FeatureSnapshot
from steps.tracking.mlflow_logger import SNAPSHOT_TAG, MLflowLogger
from steps.tracking.model_store import load_model
from steps.tracking.project import NotRecordedError, StepRun, read_run
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
    judged : StepRun
        The evaluate run they are from.
    metadata : mapping
        What the model was stored with.
    """

    snapshot: FeatureSnapshot
    positions: NDArray[np.intp]
    probabilities: NDArray[np.float64]
    judged: StepRun
    metadata: Mapping[str, Any]

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

    @property
    def looks(self) -> int:
        """How many models had been tried on these dates when this one was evaluated."""
        return int(max(1, self.judged.metrics.get("looks", 1)))

    def after(self, date: pd.Timestamp) -> ScoredRows:
        """Return the rows dated after a date."""
        later = (self.dates > date).to_numpy(bool)
        return replace(
            self, positions=self.positions[later], probabilities=self.probabilities[later]
        )


@dataclass(frozen=True)
class ModelComparison:
    """What came of setting a model beside the champion.

    Attributes
    ----------
    sentence : str
        The finding, or why there is none.
    result : PairedComparison or None
        None where the two could not be compared.
    looks : int
        The tries that the result's interval and p-value allow for.
    rows : mapping
        On which rows, JSON-able.
    """

    sentence: str
    result: PairedComparison | None = None
    looks: int = 1
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
            f"{result.gain.low:.4f} to {result.gain.high:.4f}, p {p_value}"
            f"{_after(self.looks)}, "
            f"{result.rows:,} rows of {result.dates:,} dates"
        )

    def describe(self) -> dict[str, Any]:
        """Return it all, JSON-able."""
        figures = self.result.describe() if self.result else {}
        counted = {"looks": self.looks} if self.result else {}
        possible = {"sentence": self.sentence, "possible": bool(self.result)}
        return {**possible, **counted, **self.rows, **figures}


def _after(looks: int) -> str:
    return f" (after {looks} looks)" if looks > 1 else ""


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
    model, metadata = load_model(judged.tags["model_uri"])
    probabilities = predict_proba_up(model, snapshot.features.iloc[positions])
    rows = ScoredRows(snapshot, positions, probabilities, judged, metadata)
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


def compare_models(
    champion: ModelVersion | None, version: ModelVersion, rows: ScoredRows, logger: MLflowLogger
) -> ModelComparison:
    """Compare a version with the champion, on the rows that are new to both.

    Raises
    ------
    TrackingError
        If the tracking store does not answer: that says nothing about the two.
    """
    if champion is None:
        return ModelComparison("there was no champion to compare it with")
    if champion.number == version.number:
        return ModelComparison("it is the champion itself")
    trained = {
        champion.number: champion.tags.get("train_run_id") or champion.run_id,
        version.number: rows.judged.tags["train_run_id"],
    }
    try:
        learnt = {
            number: last_date_learnt(number, run_id, rows.snapshot, logger)
            for number, run_id in trained.items()
        }
        later = _rows_new_to_all(rows, learnt)
        champions = _probabilities(champion, later)
    except IncomparableError as error:
        return ModelComparison(f"comparison not possible: {first_line(error)}")
    result = compare_losses(
        later.dates,
        later.directions,
        champions,
        later.probabilities,
        horizon=rows.snapshot.horizon,
    )
    result = allow_for_looks(result, rows.looks)
    sentence = result.sentence
    if not np.isnan(result.gain.low):
        sentence = f"{sentence.removesuffix('.')}{_after(rows.looks)}."
    return ModelComparison(
        sentence,
        result,
        rows.looks,
        {
            "challenger_version": version.number,
            "champion_version": champion.number,
            SNAPSHOT_TAG: rows.snapshot.snapshot_id,
            "champion_has_learnt_until": learnt[champion.number].date(),
            "challenger_has_learnt_until": learnt[version.number].date(),
            "first_date": later.dates.min().date(),
            "last_date": later.dates.max().date(),
            "rows_left_out": len(rows.positions) - len(later.positions),
        },
    )


def allow_for_looks(result: PairedComparison, looks: int) -> PairedComparison:
    """Return what is left of a comparison where the challenger is the best of `looks` tries.

    Whoever tries often enough on the same dates finds a challenger that wins by luck. The interval
    is widened as `Interval.widened` says, the p-value raised likewise, and the winner is whom the
    wider interval favours.

    References
    ----------
    Z. Šidák, "Rectangular confidence regions for the means of multivariate normal distributions",
    Journal of the American Statistical Association 62 (1967).
    """
    gain = result.gain.widened(looks)
    winner: Winner = "undecided"
    if gain.low > 0:
        winner = "challenger"
    elif gain.high < 0:
        winner = "champion"
    return replace(result, gain=gain, p_value=1 - (1 - result.p_value) ** looks, winner=winner)


def last_date_learnt(
    number: int, run_id: str | None, snapshot: FeatureSnapshot, logger: MLflowLogger
) -> pd.Timestamp:
    """Return the date of the last price that a version has learnt from, labels included.

    Parameters
    ----------
    number : int
        The version's.
    run_id : str or None
        The run that trained it.
    snapshot : FeatureSnapshot
        Where the training run did not record when its last label became known, the labels that
        this snapshot has on the same dates tell.
    logger : MLflowLogger

    Raises
    ------
    IncomparableError
        If nothing says on which dates the version was trained.
    """
    if not run_id:
        raise IncomparableError(f"nothing says which run trained version {number}")
    try:
        split = read_run(logger.client, run_id).read_json("split.json")
    except NotRecordedError as error:
        raise IncomparableError(first_line(error)) from error
    try:
        windows = [split[name] for name in ("train", "validation") if name in split]
        last = max(pd.Timestamp(window["last_date"]) for window in windows)
        known = [pd.Timestamp(window.get("last_label_known_at")) for window in windows]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise IncomparableError(
            f"split.json of run {run_id} does not say on which dates version {number} was trained"
        ) from error
    if any(pd.isna(date) for date in known):
        table = snapshot.table
        known = [table["label_known_at"][table["date"] <= last].max()]
    return max([last, *(date for date in known if not pd.isna(date))])


def _rows_new_to_all(rows: ScoredRows, learnt: Mapping[int, pd.Timestamp]) -> ScoredRows:
    """Return the rows after all that each version, by its number, has learnt from."""
    number, last = max(learnt.items(), key=lambda item: item[1])
    later = rows.after(last)
    if not len(later.positions):
        raise IncomparableError(
            f"version {number} has learnt from prices until {last.date()}, and the evaluation has "
            "no later rows"
        )
    return later


def _probabilities(champion: ModelVersion, rows: ScoredRows) -> NDArray[np.float64]:
    """Have the champion predict rows, if they are of the kind it was made for."""
    snapshot, who = rows.snapshot, f"version {champion.number}"
    try:
        model, metadata = load_model(champion.uri)
    except TrackingError as error:
        raise IncomparableError(first_line(error)) from error
    horizon = metadata.get("horizon", snapshot.horizon)
    if horizon != snapshot.horizon:
        raise IncomparableError(
            f"{who} looks {horizon} days ahead, the evaluation {snapshot.horizon}"
        )
    _check_feature_set(who, metadata, rows.metadata)
    try:
        found = predict_proba_up(model, rows.features)
    except Exception as error:  # registered by hand, it may be any kind of model
        raise IncomparableError(
            f"{who} cannot score snapshot {snapshot.snapshot_id}: {first_line(error)}"
        ) from error
    if found.shape != rows.positions.shape or not ((found >= 0) & (found <= 1)).all():
        raise IncomparableError(
            f"{who} gives something else than one probability per row: shape {found.shape}, from "
            f"{found.min():.4g} to {found.max():.4g}"
        )
    return found


def _check_feature_set(
    who: str, champions: Mapping[str, Any], challengers: Mapping[str, Any]
) -> None:
    """Refuse features that have the same names, but not the same meaning."""
    for name in ("feature_set", "feature_set_version"):
        if name in champions and name in challengers and champions[name] != challengers[name]:
            told = [
                f"{each.get('feature_set', '?')} version {each.get('feature_set_version', '?')}"
                for each in (champions, challengers)
            ]
            raise IncomparableError(
                f"{who} was trained on feature set {told[0]}, the challenger on {told[1]}"
            )
