"""evaluate: a trained model's test window, scored beside forecasts that need no model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from steps.command import say
from steps.entry_point import log_resolved, run_step
from steps.judge import Case, JudgeParams, judge
from steps.learning.models import shap_values
from steps.learning.predictions import make_predictions
from steps.learning.proba import predict_proba_up
from steps.learning.splits import window_rows
from steps.market.snapshot import SnapshotError
from steps.record import record_judgement
from steps.tracking.mlflow_logger import SNAPSHOT_TAG, MLflowLogger
from steps.tracking.model_store import load_model
from steps.tracking.project import StepRun, find_step_run
from steps.tracking.snapshot_store import (
    StoredSnapshot,
    load_snapshot,
    resolve_snapshot,
    snapshot_dataset,
)

AUTO = "auto"


class EvaluateParams(JudgeParams):
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
    stored = _find_snapshot(train_run, params, logger)
    log_resolved(logger, train_run_id=train_run.run_id, feature_snapshot_id=stored.snapshot_id)
    logger.set_tags(
        model_uri=train_run.tags["model_uri"], trained_on_snapshot_id=train_run.tags[SNAPSHOT_TAG]
    )
    snapshot = load_snapshot(stored)
    logger.log_dataset(snapshot_dataset(stored, snapshot.manifest))
    model, metadata = load_model(train_run.tags["model_uri"])
    if snapshot.horizon != metadata["horizon"]:
        raise SnapshotError(
            f"the model forecasts {metadata['horizon']} trading days ahead, snapshot "
            f"{stored.snapshot_id} has labels of {snapshot.horizon}: featurize with "
            f"-P horizon={metadata['horizon']}"
        )

    windows = train_run.read_json("split.json")
    test = window_rows(snapshot.table, windows["test"])
    predictions = make_predictions(
        snapshot.table,
        window_rows(snapshot.table, windows["train"]),
        test,
        predict_proba_up(model, snapshot.features[test]),
        threshold=float(metadata["best_threshold"]),
        horizon=snapshot.horizon,
    )
    importance = pd.Series(train_run.read_json("feature_importance.json"), name="importance")
    case = Case(
        title=f"{metadata['model_type']} on its test window",
        predictions=predictions,
        rows=np.flatnonzero(test),
        snapshot=snapshot,
        stored=stored,
        windows=[windows],
        importance=importance.rename_axis("feature").reset_index(),
        contributions=shap_values(model, snapshot.features[test]),
        lineage={
            "train_run_id": train_run.run_id,
            "model_uri": train_run.tags["model_uri"],
            "git_commit": train_run.tags.get("mlflow.source.git.commit", "not recorded"),
        },
        params=train_run.params,
        again=[
            f"-e evaluate -P train_run_id={train_run.run_id}",
            f"-e reproduce -P run_id={train_run.run_id}",
        ],
    )
    logger.log_metrics(best_threshold=float(metadata["best_threshold"]))
    return record_judgement(case, judge(case, params, logger), params, logger)


def _find_snapshot(
    train_run: StepRun, params: EvaluateParams, logger: MLflowLogger
) -> StoredSnapshot:
    """Find the snapshot the model was trained on, or another one where that is allowed."""
    trained_on = train_run.tags[SNAPSHOT_TAG]
    wanted = trained_on if params.feature_snapshot_id == AUTO else params.feature_snapshot_id
    stored = resolve_snapshot(logger.client, logger.experiment_id, wanted)
    if stored.snapshot_id == trained_on:
        return stored
    if not params.allow_other_snapshot:
        raise SnapshotError(
            f"the model of run {train_run.run_id} was trained on snapshot {trained_on}, not "
            f"on {stored.snapshot_id}: leave feature_snapshot_id at 'auto', or add "
            "-P allow_other_snapshot=true"
        )
    say(f"judged on snapshot {stored.snapshot_id}, trained on another one, {trained_on}")
    return stored


if __name__ == "__main__":
    run_step("evaluate", evaluate, EvaluateParams)
