"""train: a feature snapshot in, a model that can name its features out."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
import psutil
from numpy.typing import NDArray
from pydantic import Field, model_validator

from steps.command import progress, say
from steps.engines.dask import open_cluster
from steps.engines.dask_xgboost import OpenCluster, fit_on_cluster
from steps.entry_point import StepParams, log_resolved, open_step, run_step
from steps.featurize import EngineParams, FeaturizeParams, featurize
from steps.learning.boosting import Batched
from steps.learning.models import (
    HYPERPARAMETERS,
    USED_BY,
    FittedModel,
    ModelType,
    feature_importance,
    fit_booster,
    fit_classifier,
)
from steps.learning.proba import predict_proba_up
from steps.learning.scores import best_threshold, score_classifier
from steps.learning.splits import DateSplit, purged_split
from steps.market.snapshot import Snapshot
from steps.provenance import code_sha256, environment
from steps.serving.pack import NoPriceModelError, log_price_model, read_code
from steps.tracking.mlflow_logger import MLflowLogger
from steps.tracking.snapshot_store import (
    LATEST,
    SnapshotNotFoundError,
    StoredSnapshot,
    open_snapshot,
    resolve_snapshot,
    snapshot_dataset,
)

WORKERS_TAG: Final = "n_workers"
"""How many workers of a cluster trained the model: with others it is another one."""


class ModelParams(StepParams):
    """Which model to fit, on which windows."""

    model_type: ModelType = Field("xgboost", description="kind of classifier")
    learning_rate: float = Field(0.05, gt=0, le=1, description="shrinkage of each round")
    max_depth: int = Field(4, ge=1, le=64, description="deepest tree")
    n_estimators: int = Field(300, ge=1, le=100_000, description="most rounds, or trees")
    subsample: float = Field(0.8, gt=0, le=1, description="share of rows per round")
    colsample_bytree: float = Field(0.8, gt=0, le=1, description="share of features per tree")
    min_child_weight: float = Field(1.0, ge=0, description="least hessian in a leaf")
    gamma: float = Field(0.0, ge=0, description="least loss reduction of a split")
    reg_alpha: float = Field(0.0, ge=0, description="L1 penalty")
    reg_lambda: float = Field(1.0, ge=0, description="L2 penalty")
    early_stopping_rounds: int = Field(
        30, ge=0, description="stop after so many rounds without gain on validation; 0: never"
    )
    random_state: int = Field(42, ge=0, le=2**31 - 1, description="seed")
    n_jobs: int = Field(0, ge=0, description="threads; 0: every core")
    device: str = Field("cpu", pattern=r"^(cpu|cuda(:\d+)?)$", description="'cpu', 'cuda'")
    validation_size: float = Field(0.15, gt=0, lt=1, description="share of dates for validation")
    embargo: int = Field(5, ge=0, description="dates kept free before validation and test")

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """What the classifier is built with."""
        return self.model_dump(include=set(HYPERPARAMETERS))


class HoldoutParams(ModelParams, EngineParams):
    """Which model to fit, with the last dates held out for the test."""

    test_size: float = Field(0.2, gt=0, lt=1, description="share of dates for the test, the last")
    memory_budget: Annotated[int, Field(ge=0)] | Literal["half"] = Field(
        "half",
        description="MB for the features; larger ones stay on disk; 'half': half of what is free",
    )

    @model_validator(mode="after")
    def _check_engine(self) -> Self:
        if self.engine == "dask" and self.model_type != "xgboost":
            raise ValueError(
                f"engine=dask trains model_type=xgboost, not {self.model_type}: leave engine out"
            )
        return self


class TrainParams(HoldoutParams):
    """Train a classifier of direction on a feature snapshot."""

    feature_snapshot_id: str = Field(LATEST, description="'latest', or a feature snapshot ID")


def train(params: TrainParams, logger: MLflowLogger) -> str:
    """Fit a model on the snapshot's train window and store it. Return its URI."""
    stored = find_or_make_snapshot(params.feature_snapshot_id, logger)
    with open_snapshot(stored) as snapshot:
        return _train(params, snapshot, stored, logger)


def _train(
    params: TrainParams, snapshot: Snapshot, stored: StoredSnapshot, logger: MLflowLogger
) -> str:
    code = read_code(stored)  # now: after hours of training the store may be away
    log_resolved(logger, feature_snapshot_id=stored.snapshot_id)
    logger.log_dataset(snapshot_dataset(stored, snapshot.manifest))
    logger.set_tags(code_sha256=code_sha256(), engine=params.engine)
    logger.log_dict_artifact(environment(), "environment.json")

    split = _split(params, snapshot, logger)
    logger.log_dataset_stats(_stats(snapshot, split))

    rows = len(split.train) + len(split.validation)
    cluster = partial(open_cluster, params.scheduler_address, params.n_jobs)
    with _cache(params, 4 * rows * len(snapshot.feature_names)) as cache:
        fitted, threshold = fit_rows(
            params,
            snapshot,
            split.train,
            split.validation,
            logger,
            cache=cache,
            open_cluster=cluster if params.engine == "dask" else None,
        )
    logger.log_metrics(best_threshold=threshold, **_final_scores(fitted, snapshot, split))
    watched = split.validation
    if params.model_type != "hist_gradient_boosting":  # the others know what mattered to them
        watched = watched[:0]
    importance = feature_importance(
        fitted.model,
        snapshot.feature_names,
        snapshot.features_of(watched),
        snapshot.labels_of(watched),
        params.random_state,
    )
    logger.log_dict_artifact(
        dict(zip(importance["feature"], importance["importance"], strict=True)),
        "feature_importance.json",
    )
    model_uri = log_models(fitted, snapshot, stored, threshold, logger, code)
    say(_summary(params, split))
    return model_uri


def _split(params: TrainParams, snapshot: Snapshot, logger: MLflowLogger) -> DateSplit:
    """Deal the rows into windows, and record them."""
    table = snapshot.table
    split = purged_split(
        table["date"],
        table["label_known_at"],
        validation_size=params.validation_size,
        test_size=params.test_size,
        embargo=params.embargo,
    )
    logger.log_dict_artifact(split.describe(table["symbol"]), "split.json")
    return split


@contextmanager
def _cache(params: TrainParams, size: int) -> Iterator[Path | None]:
    """Yield a folder for features of this many bytes, where they are more than memory is for."""
    budget = params.memory_budget
    available = psutil.virtual_memory().available / 2 if budget == "half" else budget * 2**20
    elsewhere = params.engine != "local" or params.device != "cpu"
    if size <= available or params.model_type != "xgboost" or elsewhere:
        yield None
        return
    say(
        f"training out of core: the features take {size / 2**20:,.0f} MB, {available / 2**20:,.0f} "
        "are for them (memory_budget)"
    )
    with tempfile.TemporaryDirectory(prefix="candlewick-") as folder:
        yield Path(folder)


def log_models(
    fitted: FittedModel,
    snapshot: Snapshot,
    stored: StoredSnapshot,
    threshold: float,
    logger: MLflowLogger,
    code: Mapping[str, str] | None = None,
) -> str:
    """Store a model twice: as it is, for features, and with what it takes to ask it about prices.

    Returns
    -------
    str
        The URI of the one that takes prices; where the code stored with the snapshot does not make
        its features, of the plain one.
    """
    metadata = {
        "feature_snapshot_id": stored.snapshot_id,
        "feature_set": snapshot.manifest["feature_set"],
        "feature_set_version": snapshot.manifest["version"],
        "horizon": snapshot.horizon,
        "best_threshold": threshold,
        "model_type": fitted.model_type,
    }
    feature_model_uri = logger.log_model(
        fitted.model,
        model_path="feature_model",
        model_type=fitted.model_type,
        input_example=snapshot.features_of(np.arange(min(5, snapshot.manifest["row_count"]))),
        metadata=metadata,
    )
    logger.set_tags(feature_model_uri=feature_model_uri)
    try:
        return log_price_model(fitted.model, snapshot, stored, metadata, logger, code)
    except NoPriceModelError as error:
        say(
            f"warning: the model takes features only, not prices, for {error}: run featurize and "
            "train again with features that steps/market declares"
        )
        return feature_model_uri


def fit_rows(
    params: ModelParams,
    snapshot: Snapshot,
    train: NDArray[np.intp],
    validation: NDArray[np.intp],
    logger: MLflowLogger,
    *,
    cache: Path | None = None,
    open_cluster: OpenCluster | None = None,
) -> tuple[FittedModel, float]:
    """Fit a model on some rows, its curves going into the run; return it with its threshold.

    The validation rows choose where to stop, and above which probability to call a row up. XGBoost
    keeps what it makes of the features in the folder `cache`, if there is one, and is trained by a
    cluster if there is one to open.
    """
    with progress(f"training {params.model_type}", params.n_estimators) as advance:

        def on_round(step: int, scores: Mapping[str, float]) -> None:
            logger.log_step_metrics(step, **scores)
            advance(1)

        if open_cluster is not None:
            fitted, n_workers = fit_on_cluster(
                open_cluster,
                params.hyperparameters,
                _batched(snapshot, train, at_once=False),
                _batched(snapshot, validation, at_once=False),
                on_round=on_round,
                tell=say,
            )
            logger.set_tags(**{WORKERS_TAG: n_workers})
        elif params.model_type == "xgboost":
            fitted = fit_booster(
                params.hyperparameters,
                _batched(snapshot, train, at_once=cache is None),
                _batched(snapshot, validation, at_once=cache is None),
                on_round=on_round,
                cache=cache,
            )
        else:
            fitted = fit_classifier(
                params.model_type,
                params.hyperparameters,
                snapshot.features_of(train),
                snapshot.labels_of(train),
                snapshot.features_of(validation),
                snapshot.labels_of(validation),
                on_round=on_round,
            )
    y_proba = _predict(fitted, snapshot, validation)
    return fitted, best_threshold(snapshot.labels_of(validation), y_proba)


def _batched(snapshot: Snapshot, rows: NDArray[np.intp], *, at_once: bool) -> Batched:
    """Return some rows for XGBoost, which reads them several times: from memory, or from disk."""
    y = snapshot.labels_of(rows).to_numpy(np.int8)
    if not at_once:
        return Batched(lambda: snapshot.batches(rows), y)
    held = list(snapshot.batches(rows))
    return Batched(lambda: iter(held), y)


def _predict(
    fitted: FittedModel, snapshot: Snapshot, rows: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return the probability of a rise in some rows, batch by batch."""
    return np.concatenate(
        [predict_proba_up(fitted.model, X) for X in snapshot.batches(rows)], dtype=np.float64
    )


def _final_scores(fitted: FittedModel, snapshot: Snapshot, split: DateSplit) -> dict[str, float]:
    """Return the best round; or, of a model without rounds, the scores the curves would end in."""
    if fitted.best_iteration is not None:
        return {"best_iteration": fitted.best_iteration}
    if fitted.history:
        return {}
    final: dict[str, float] = {}
    for window, rows in (("train", split.train), ("validation", split.validation)):
        y_proba = _predict(fitted, snapshot, rows)
        scores = score_classifier(snapshot.labels_of(rows), y_proba, threshold=0.5)
        final |= {f"{window}_{name}": scores[name] for name in ("log_loss", "auc_roc")}
    return final


def _summary(params: TrainParams, split: DateSplit) -> str:
    window = split.windows["train"]
    trained = (
        f"trained {params.model_type} on {window.rows} rows "
        f"({window.first_date} to {window.last_date})"
    )
    unused = sorted(set(HYPERPARAMETERS) - set(USED_BY[params.model_type]))
    return f"{trained}; it does not use {', '.join(unused)}" if unused else trained


def find_or_make_snapshot(snapshot_id: str, logger: MLflowLogger) -> StoredSnapshot:
    """Find a snapshot; where none was ever made, make one in a child run."""
    try:
        return resolve_snapshot(logger.client, logger.experiment_id, snapshot_id)
    except SnapshotNotFoundError:
        if snapshot_id != LATEST:
            raise
    defaults = FeaturizeParams()
    say(f"no feature snapshot yet: making one from the {defaults.prices} prices first")
    with open_step("featurize", defaults) as child:
        return featurize(defaults, child)


def _stats(snapshot: Snapshot, split: DateSplit) -> dict[str, Any]:
    y_train, y_validation = map(snapshot.labels_of, (split.train, split.validation))
    return {
        "train_size": len(split.train),
        "val_size": len(split.validation),
        "test_size": len(split.test),
        "purged_size": split.purged,
        "feature_count": len(snapshot.feature_names),
        "target_mean": float(y_train.mean()),
        "target_mean_validation": float(y_validation.mean()),
    }


if __name__ == "__main__":
    run_step("train", train, TrainParams)
