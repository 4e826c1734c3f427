"""A small booster of many rounds, told by the logger or by `mlflow.xgboost.autolog`: seconds.

Both store what each round scored on two windows. Autologging is kept from storing the model and its
importances, too, which `train` does later.
"""

import json
import sys
import time

import mlflow
import numpy as np
import pandas as pd
import xgboost

from steps.learning.boosting import Batched
from steps.learning.models import build_classifier, fit_booster
from steps.tracking.mlflow_logger import MLflowLogger

rounds, repeats = map(int, sys.argv[1:])
random = np.random.default_rng(0)
X = pd.DataFrame(random.normal(size=(20_000, 23)).astype(np.float32)).add_prefix("feature_")
y = (random.random(len(X)) < 0.5).astype(np.int8)
first, second = slice(None, 15_000), slice(15_000, None)
hyperparameters = {"n_estimators": rounds, "max_depth": 4, "early_stopping_rounds": 0, "n_jobs": 0}


def ours() -> float:
    """Fit, told round by round; return the seconds that takes in a run that is open."""
    windows = [Batched(lambda w=w: iter([X[w]]), y[w]) for w in (first, second)]
    with MLflowLogger(run_name="ours") as logger:
        started = time.perf_counter()
        fit_booster(
            hyperparameters,
            *windows,
            on_round=lambda step, scores: logger.log_step_metrics(step, **scores),
        )
        logger.flush()
        return time.perf_counter() - started


def autologged() -> float:
    """Fit the same with everything left to autologging; return the seconds likewise."""
    with mlflow.start_run(run_name="autologged"):
        started = time.perf_counter()
        learned = xgboost.QuantileDMatrix(X[first], y[first])
        watched = xgboost.QuantileDMatrix(X[second], y[second], ref=learned)
        xgboost.train(
            build_classifier("xgboost", **hyperparameters).get_xgb_params(),
            learned,
            rounds,
            evals=[(learned, "train"), (watched, "validation")],
            verbose_eval=False,
        )
        return time.perf_counter() - started


seconds: dict[str, list[float]] = {"ours": [], "autologged": []}
for _ in range(repeats):
    for fit in (ours, autologged):
        mlflow.xgboost.autolog(
            disable=fit is ours,
            log_models=False,
            log_datasets=False,
            silent=True,
            importance_types=[],
        )
        seconds[fit.__name__].append(fit())
print(json.dumps(seconds))
