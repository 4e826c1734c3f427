"""walk_forward: train again and again as time goes on, and judge all test windows together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from steps.command import say
from steps.entry_point import StepParams, as_typed, log_resolved, run_step
from steps.judge import Case, JudgeParams, judge
from steps.learning.bootstrap import block_length
from steps.learning.intervals import auc_interval
from steps.learning.models import feature_importance, shap_values
from steps.learning.predictions import make_predictions, pool_predictions
from steps.learning.proba import predict_proba_up
from steps.learning.scores import base_rate_scores, score_classifier
from steps.learning.splits import checked_dates, window_of
from steps.learning.walk_forward import WalkForwardSplit, purged_holdout
from steps.market.snapshot import FeatureSnapshot
from steps.record import record_judgement
from steps.tracking.mlflow_logger import MLflowLogger
from steps.tracking.project import step_tags
from steps.tracking.snapshot_store import (
    LATEST,
    StoredSnapshot,
    load_snapshot,
    snapshot_dataset,
)
from steps.train import ModelParams, find_or_make_snapshot, fit_rows

Rows = NDArray[np.intp]


class FoldsParams(StepParams):
    """Over which windows to walk."""

    train_dates: int = Field(756, ge=1, description="dates before the first test window")
    test_dates: int = Field(252, ge=1, description="dates of each test window")
    window: Literal["expanding", "sliding"] = Field(
        "expanding", description="'sliding': every fold trains on the last train_dates alone"
    )


class WalkForwardParams(FoldsParams, ModelParams, JudgeParams):
    """Retrain over purged, embargoed windows, and judge all forecasts together."""

    feature_snapshot_id: str = Field(LATEST, description="'latest', or a feature snapshot ID")


@dataclass(frozen=True)
class Fold:
    """What came of one fold."""

    number: int
    run_id: str
    rows: Rows
    windows: dict[str, Any]
    predictions: pd.DataFrame
    scores: dict[str, float]
    importance: pd.DataFrame
    contributions: pd.DataFrame | None


def walk_forward(params: WalkForwardParams, logger: MLflowLogger) -> dict[str, Any]:
    """Train a model per fold, pool their forecasts, judge them as one; return the results."""
    stored = find_or_make_snapshot(params.feature_snapshot_id, logger)
    snapshot = load_snapshot(stored)
    log_resolved(logger, feature_snapshot_id=stored.snapshot_id)
    logger.log_dataset(snapshot_dataset(stored, snapshot.manifest))

    splitter = WalkForwardSplit(
        train_dates=params.train_dates,
        test_dates=params.test_dates,
        embargo=params.embargo,
        window=params.window,
    )
    groups = snapshot.table[["date", "label_known_at"]]
    splits = list(splitter.split(snapshot.features, groups=groups))
    folds = []
    for number, (train, test) in enumerate(splits, 1):
        name = f"fold {number} of {len(splits)}"
        try:
            folds.append(_run_fold(number, train, test, params, snapshot))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        say(f"{name}: {_in_words(folds[-1])}")
    logger.log_metrics(folds=len(folds))
    case = _pool(folds, params, snapshot, stored, logger)
    return record_judgement(case, judge(case, params, logger), params, logger)


def _run_fold(
    number: int, train: Rows, test: Rows, params: WalkForwardParams, snapshot: FeatureSnapshot
) -> Fold:
    """Train on a fold's past, forecast its test window, in a run of its own."""
    table = snapshot.table
    fit, validation = purged_holdout(
        table["date"],
        table["label_known_at"],
        train,
        size=params.validation_size,
        embargo=params.embargo,
    )
    windows = _describe(table, {"train": fit, "validation": validation, "test": test})
    name = f"fold {number:02}: {windows['test']['first_date']} to {windows['test']['last_date']}"
    with MLflowLogger(run_name=name, tags=step_tags("fold", entry_point="walk_forward")) as logger:
        logger.log_params(
            fold=number,
            feature_snapshot_id=snapshot.snapshot_id,
            **params.model_dump(include=set(ModelParams.model_fields)),
        )
        logger.log_dict_artifact(windows, "split.json")
        fitted, threshold = fit_rows(params, snapshot, fit, validation, logger)
        X_test = snapshot.features.iloc[test]
        predictions = make_predictions(
            table,
            _mask(fit, len(table)),
            _mask(test, len(table)),
            predict_proba_up(fitted.model, X_test),
            threshold=threshold,
            horizon=snapshot.horizon,
        )
        importance = feature_importance(
            fitted.model,
            snapshot.feature_names,
            snapshot.features.iloc[validation],
            table["direction"].iloc[validation],
            params.random_state,
        )
        scores = _scores(predictions)
        logger.log_metrics(**scores, best_threshold=threshold)
        if fitted.best_iteration is not None:
            logger.log_metrics(best_iteration=fitted.best_iteration)
    return Fold(
        number=number,
        run_id=logger.run_id,
        rows=test,
        windows=windows,
        predictions=predictions,
        scores=scores,
        importance=importance,
        contributions=shap_values(fitted.model, X_test),
    )


def _describe(table: pd.DataFrame, windows: Mapping[str, Rows]) -> dict[str, Any]:
    """Say which dates went where, ready for JSON."""
    day, known = checked_dates(table["date"], table["label_known_at"])
    return {name: window_of(day, known, rows).describe() for name, rows in windows.items()}


def _scores(predictions: pd.DataFrame) -> dict[str, float]:
    """Score one fold's forecasts, beside the rate its train rows rose at."""
    y = predictions["direction"]
    calls = predictions["predicted"]
    scores = score_classifier(y, predictions["probability"], threshold=0.5)
    base_rate = base_rate_scores(y, predictions["base_rate"])
    return {
        "accuracy": float((y == calls).mean()),
        "auc_roc": scores["auc_roc"],
        "log_loss": scores["log_loss"],
        "log_loss_gain": base_rate["log_loss"] - scores["log_loss"],
    }


def _in_words(fold: Fold) -> str:
    train, test = fold.windows["train"], fold.windows["test"]
    return (
        f"trained to {train['last_date']}, {test['rows']} rows from {test['first_date']} to "
        f"{test['last_date']}: AUC {fold.scores['auc_roc']:.3f}, log-loss gain "
        f"{fold.scores['log_loss_gain']:+.4f}"
    )


def _pool(
    folds: Sequence[Fold],
    params: WalkForwardParams,
    snapshot: FeatureSnapshot,
    stored: StoredSnapshot,
    logger: MLflowLogger,
) -> Case:
    """Put the folds together, in the order of the snapshot's rows."""
    rows = np.concatenate([fold.rows for fold in folds])
    order = np.argsort(rows)
    predictions = pool_predictions([fold.predictions for fold in folds])
    contributions = [fold.contributions for fold in folds if fold.contributions is not None]
    importance = pd.concat([fold.importance.set_index("feature")["importance"] for fold in folds])
    mean = importance.groupby(level=0).mean().sort_values(ascending=False, kind="stable")
    return Case(
        title=f"Walk-forward of {params.model_type} over {len(folds)} folds",
        predictions=predictions.iloc[order].reset_index(drop=True),
        rows=rows[order],
        snapshot=snapshot,
        stored=stored,
        windows=[fold.windows for fold in folds],
        importance=mean.rename_axis("feature").reset_index(),
        contributions=pd.concat(contributions).iloc[order] if contributions else None,
        lineage={"walk_forward_run_id": logger.run_id},
        params=params.model_dump(),
        again=[f"-e walk_forward {as_typed(params, feature_snapshot_id=stored.snapshot_id)}"],
        folds=_fold_table(folds, snapshot.horizon, params),
    )


def _fold_table(folds: Sequence[Fold], horizon: int, params: WalkForwardParams) -> pd.DataFrame:
    """Set the folds one below the other, each AUC with its interval."""
    rows = []
    for fold in folds:
        auc = auc_interval(
            fold.predictions["direction"],
            fold.predictions["probability"],
            fold.predictions["date"],
            confidence=params.confidence,
            n_resamples=params.n_resamples,
            block_length=block_length(horizon),
        )
        rows.append(
            {
                "fold": fold.number,
                "first_date": fold.windows["test"]["first_date"],
                "last_date": fold.windows["test"]["last_date"],
                "train_rows": fold.windows["train"]["rows"],
                "rows": fold.windows["test"]["rows"],
                **fold.scores,
                "auc_low": auc.low,
                "auc_high": auc.high,
            }
        )
    return pd.DataFrame(rows)


def _mask(rows: Rows, length: int) -> NDArray[np.bool_]:
    mask = np.zeros(length, dtype=bool)
    mask[rows] = True
    return mask


if __name__ == "__main__":
    run_step("walk_forward", walk_forward, WalkForwardParams)
