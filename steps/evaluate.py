"""evaluate: a trained model's test window, scored beside forecasts that need no model."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from steps.entry_point import StepParams, log_resolved, run_step, say
from steps.learning.intervals import AucInterval, auc_interval, verdict
from steps.learning.models import predict_proba_up
from steps.learning.scores import (
    base_rate_scores,
    persistence_forecast,
    persistence_scores,
    score_classifier,
)
from steps.market.snapshot import FeatureSnapshot, SnapshotError
from steps.reporting.figures import (
    calibration_figure,
    confusion_matrix_figure,
    feature_importance_figure,
    precision_recall_figure,
    roc_curve_figure,
    save_figures,
)
from steps.tracking.mlflow_logger import SNAPSHOT_TAG, MLflowLogger
from steps.tracking.model_store import load_model
from steps.tracking.project import StepRun, find_step_run
from steps.tracking.snapshot_store import load_snapshot, resolve_snapshot, snapshot_dataset

AUTO = "auto"


class EvaluateParams(StepParams):
    """Score a training run's model on its test window."""

    train_run_id: str = Field("latest", description="'latest', or the run ID of a training run")
    feature_snapshot_id: str = Field(
        AUTO, description="'auto': the one the model was trained on; or an ID"
    )
    allow_other_snapshot: bool = Field(
        False, description="accept a snapshot the model was not trained on"
    )


def evaluate(params: EvaluateParams, logger: MLflowLogger) -> dict[str, Any]:
    """Score, draw and judge; store it all with this run. Return what ``results.json`` holds."""
    train_run = find_step_run(logger.client, logger.experiment_id, "train", params.train_run_id)
    trained_on = train_run.tags[SNAPSHOT_TAG]
    wanted = trained_on if params.feature_snapshot_id == AUTO else params.feature_snapshot_id
    stored = resolve_snapshot(logger.client, logger.experiment_id, wanted)
    if stored.snapshot_id != trained_on and not params.allow_other_snapshot:
        raise SnapshotError(
            f"the model of run {train_run.run_id} was trained on snapshot {trained_on}, not "
            f"on {stored.snapshot_id}: leave feature_snapshot_id at 'auto', or add "
            "-P allow_other_snapshot=true"
        )
    log_resolved(logger, train_run_id=train_run.run_id, feature_snapshot_id=stored.snapshot_id)
    snapshot = load_snapshot(stored)
    logger.log_dataset(snapshot_dataset(stored, snapshot.manifest))
    model, metadata = load_model(train_run.tags["model_uri"])

    train, test = (window_rows(snapshot, train_run, name) for name in ("train", "test"))
    table = snapshot.table
    y_true = table["direction"][test].to_numpy(np.int8)
    y_proba = predict_proba_up(model, snapshot.features[test])
    threshold = float(metadata["best_threshold"])
    scores = score_classifier(y_true, y_proba, threshold=threshold)
    baselines = baseline_scores(table, train, test, snapshot.horizon)
    interval = auc_interval(
        y_true, y_proba, table["date"][test], block_length=max(10, 2 * snapshot.horizon)
    )
    sentence = verdict(scores, baselines["base_rate"], interval)

    logger.log_metrics(
        **scores, auc_roc_low=interval.low, auc_roc_high=interval.high, best_threshold=threshold
    )
    for name, baseline in baselines.items():
        logger.log_metrics(**{f"{name}/{metric}": value for metric, value in baseline.items()})
    logger.set_tags(verdict=sentence, model_uri=train_run.tags["model_uri"])
    predictions = table.loc[test, ["date", "symbol", "label_known_at", "direction"]].assign(
        probability=y_proba, predicted=(y_proba > threshold).astype(np.int8)
    )
    importance = train_run.read_json("feature_importance.json")
    _log_files(logger, predictions, importance, threshold, interval)
    results = {
        "verdict": sentence,
        "train_run_id": train_run.run_id,
        "feature_snapshot_id": stored.snapshot_id,
        "model_uri": train_run.tags["model_uri"],
        "test_window": {
            "first_date": table["date"][test].min(),
            "last_date": table["date"][test].max(),
            "rows": len(y_true),
        },
        "best_threshold": threshold,
        "metrics": scores,
        "metrics_at_0.5": score_classifier(y_true, y_proba, threshold=0.5),
        "auc_roc_interval": vars(interval),
        "baselines": baselines,
    }
    logger.log_dict_artifact(results, "results.json")
    say(score_table(scores, baselines))
    say(sentence)
    return results


def score_table(scores: Mapping[str, float], baselines: Mapping[str, Mapping[str, float]]) -> str:
    """Set the model's scores beside the baselines', as text."""
    table = pd.DataFrame({"model": scores, **baselines})
    return table.to_string(float_format="{:.4f}".format)


def window_rows(snapshot: FeatureSnapshot, train_run: StepRun, name: str) -> NDArray[np.bool_]:
    """Return which rows lie in a window of the training run: labelled, and between its dates."""
    window = train_run.read_json("split.json")[name]
    table = snapshot.table
    inside = table["direction"].notna() & table["date"].between(
        window["first_date"], window["last_date"]
    )
    if not inside.any():
        raise SnapshotError(
            f"snapshot {snapshot.snapshot_id} has no labelled row in the {name} window of run "
            f"{train_run.run_id} ({window['first_date']} to {window['last_date']})"
        )
    return inside.to_numpy(bool)


def baseline_scores(
    table: pd.DataFrame, train: NDArray[np.bool_], test: NDArray[np.bool_], horizon: int
) -> dict[str, dict[str, float]]:
    """Score the base rate, and 'the coming days like the past ones', on the test rows."""
    y = table["direction"].to_numpy(dtype=np.float64, na_value=np.nan)
    forecast = persistence_forecast(table, horizon)
    return {
        "base_rate": base_rate_scores(y[test], float(y[train].mean())),
        "persistence": persistence_scores(y[train], forecast[train], y[test], forecast[test]),
    }


def _log_files(
    logger: MLflowLogger,
    predictions: pd.DataFrame,
    importance: Mapping[str, float],
    threshold: float,
    interval: AucInterval,
) -> None:
    y_true = predictions["direction"].to_numpy(np.int8)
    y_proba = predictions["probability"].to_numpy()
    shares = pd.DataFrame({"feature": importance.keys(), "importance": importance.values()})
    figures = {
        "confusion_matrix": confusion_matrix_figure(y_true, predictions["predicted"].to_numpy()),
        "roc_curve": roc_curve_figure(y_true, y_proba, interval),
        "precision_recall": precision_recall_figure(y_true, y_proba),
        "calibration": calibration_figure(y_true, y_proba),
        "feature_importance": feature_importance_figure(shares),
    }
    with tempfile.TemporaryDirectory(prefix="candlewick-") as folder:
        plots = Path(folder, "plots")
        plots.mkdir()
        save_figures(figures, plots)
        predictions.to_parquet(Path(folder, "predictions.parquet"), index=False)
        logger.log_artifacts(folder)


if __name__ == "__main__":
    run_step("evaluate", evaluate, EvaluateParams)
