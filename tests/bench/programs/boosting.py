"""XGBoost with every round recorded, and bare: seconds, and whether the models are equal.

The features are those of the newest snapshot, in memory before either starts.
"""

import json
import sys
import time

import numpy as np
import pandas as pd
import xgboost

from steps.entry_point import open_step
from steps.learning.boosting import Batched, cut_to_best
from steps.learning.models import build_classifier, fit_booster
from steps.learning.splits import purged_split
from steps.tracking.snapshot_store import open_snapshot, resolve_snapshot
from steps.train import TrainParams

params = TrainParams(n_estimators=int(sys.argv[1]), early_stopping_rounds=0)
repeats = int(sys.argv[2])
with open_step("train", params) as logger:
    stored = resolve_snapshot(logger.client, logger.experiment_id, "latest")
    with open_snapshot(stored) as snapshot:
        split = purged_split(
            snapshot.table["date"],
            snapshot.table["label_known_at"],
            validation_size=params.validation_size,
            test_size=params.test_size,
            embargo=params.embargo,
        )
        windows = [
            (
                list(snapshot.batches(rows)),
                snapshot.labels_of(rows).to_numpy(np.int8),
            )
            for rows in (split.train, split.validation)
        ]
    tables = [(pd.concat(batches), y) for batches, y in windows]
    model = build_classifier("xgboost", **params.hyperparameters)

    def ours() -> object:
        """Fit as `train` does."""
        train, validation = (Batched(lambda b=b: iter(b), y) for b, y in windows)
        fitted = fit_booster(
            params.hyperparameters,
            train,
            validation,
            on_round=lambda step, scores: logger.log_step_metrics(step, **scores),
        )
        logger.flush()
        return fitted.model

    def bare() -> object:
        """Fit as XGBoost's own guide does."""
        (X_train, y_train), (X_validation, y_validation) = tables
        learned = xgboost.QuantileDMatrix(X_train, y_train)
        watched = xgboost.QuantileDMatrix(X_validation, y_validation, ref=learned)
        booster = xgboost.train(
            model.get_xgb_params(),
            learned,
            params.n_estimators,
            evals=[(learned, "train"), (watched, "validation")],
            verbose_eval=False,
        )
        return cut_to_best(booster, None)[0]

    seconds: dict[str, list[float]] = {"ours": [], "bare": []}
    models = set()
    for _ in range(repeats):
        for fit in (ours, bare):
            started = time.perf_counter()
            booster = fit()
            seconds[fit.__name__].append(time.perf_counter() - started)
            models.add(bytes(booster.save_raw()))
rows = sum(len(y) for _, y in windows)
print(json.dumps({**seconds, "same": len(models) == 1, "rows": rows}))
