"""Models that learn in rounds: when to stop, and how each round did.

Both functions take an unfitted classifier and the windows (X_train, y_train, X_validation,
y_validation), and return the model cut to its best round, that round (None without early
stopping), and per round the log-loss and the AUC on both windows.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from steps.learning.scores import auc_roc

History = dict[str, list[float]]
OnRound = Callable[[int, Mapping[str, float]], None]
Windows = tuple[pd.DataFrame, NDArray[np.int8], pd.DataFrame, NDArray[np.int8]]
Fitted = tuple[Any, int | None, History]


def fit_xgboost(model: Any, windows: Windows, on_round: OnRound | None) -> Fitted:
    """Fit an XGBClassifier; the model returned is its booster."""
    X_train, y_train, X_validation, y_validation = windows
    if on_round is not None:
        model.set_params(callbacks=[_xgboost_callback(on_round)])
    model.fit(
        X_train, y_train, eval_set=[(X_train, y_train), (X_validation, y_validation)], verbose=False
    )
    evals_log = model.evals_result()
    history = {name: list(evals_log[window][metric]) for name, window, metric in _XGBOOST_SCORES}
    booster = model.get_booster()
    if not model.early_stopping_rounds:
        return booster, None, history
    best = int(model.best_iteration)
    # A booster keeps the trees after its best round, and its `predict` uses them all.
    return booster[: best + 1], best, history


def fit_hist_gradient_boosting(model: Any, windows: Windows, on_round: OnRound | None) -> Fitted:
    """Fit a HistGradientBoostingClassifier; `on_round` hears of all rounds at the end."""
    X_train, y_train, X_validation, y_validation = windows
    if not model.early_stopping:
        model.fit(X_train, y_train)
        return model, None, _staged_history(model, windows, on_round)
    model.fit(X_train, y_train, X_val=X_validation, y_val=y_validation)
    history = _staged_history(model, windows, on_round)
    best = int(np.argmin(history["validation_log_loss"]))
    # scikit-learn keeps the rounds after the best one and cannot cut them off; fitting again
    # with fewer rounds gives the same first rounds.
    model.set_params(max_iter=best + 1, early_stopping=False)
    return model.fit(X_train, y_train), best, history


# Our name, and where XGBoost keeps it.
_XGBOOST_SCORES = (
    ("train_log_loss", "validation_0", "logloss"),
    ("train_auc_roc", "validation_0", "auc"),
    ("validation_log_loss", "validation_1", "logloss"),
    ("validation_auc_roc", "validation_1", "auc"),
)


def _xgboost_callback(on_round: OnRound) -> Any:
    from xgboost.callback import TrainingCallback

    class RoundReporter(TrainingCallback):  # type: ignore[misc]  # xgboost is untyped here
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            del model
            scores = {name: evals_log[window][key][-1] for name, window, key in _XGBOOST_SCORES}
            on_round(epoch, scores)
            return False  # never asks to stop

    return RoundReporter()


def _staged_history(model: Any, windows: Windows, on_round: OnRound | None) -> History:
    from sklearn.metrics import log_loss

    X_train, y_train, X_validation, y_validation = windows
    history: History = {}
    stages = zip(
        model.staged_predict_proba(X_train), model.staged_predict_proba(X_validation), strict=True
    )
    for number, (train, validation) in enumerate(stages):
        scores = {}
        for window, y, proba in (
            ("train", y_train, train),
            ("validation", y_validation, validation),
        ):
            scores[f"{window}_log_loss"] = float(log_loss(y, proba))
            scores[f"{window}_auc_roc"] = auc_roc(y, proba[:, 1])
        for name, score in scores.items():
            history.setdefault(name, []).append(score)
        if on_round is not None:
            on_round(number, scores)
    return history
