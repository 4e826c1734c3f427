"""Models that learn in rounds: when to stop, and how each round did.

Both functions take an unfitted classifier and what it is to learn from and to be watched on, and
return the model cut to its best round, that round (None without early stopping), and per round the
log-loss and the AUC on both windows.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from steps.learning.scores import auc_roc

History = dict[str, list[float]]
OnRound = Callable[[int, Mapping[str, float]], None]
Windows = tuple[pd.DataFrame, NDArray[np.int8], pd.DataFrame, NDArray[np.int8]]
Fitted = tuple[Any, int | None, History]


@dataclass(frozen=True, eq=False)
class Batched:
    """A window whose features come batch by batch.

    Attributes
    ----------
    batches : callable
        Returns an iterator over the features, DataFrames of shape (some rows, n_features); called
        several times.
    y : ndarray of int8, shape (n_rows,)
        The labels of all rows.
    """

    batches: Callable[[], Iterator[pd.DataFrame]]
    y: NDArray[np.int8]


def fit_xgboost(
    model: Any,
    train: Batched,
    validation: Batched,
    on_round: OnRound | None,
    *,
    cache: Path | None = None,
) -> Fitted:
    """Fit what an XGBClassifier describes; the model returned is a booster.

    Parameters
    ----------
    model : xgboost.XGBClassifier
    train, validation : Batched
    on_round : callable, optional
    cache : Path, optional
        A folder: what XGBoost makes of the features is kept there rather than in memory.
    """
    import xgboost

    if cache is None:
        learned = xgboost.QuantileDMatrix(_iterate(train))
        watched = xgboost.QuantileDMatrix(_iterate(validation), ref=learned)
    else:
        learned = xgboost.ExtMemQuantileDMatrix(_iterate(train, cache / "train"))
        watched = xgboost.ExtMemQuantileDMatrix(
            _iterate(validation, cache / "validation"), ref=learned
        )
    evals_log: dict[str, dict[str, list[float]]] = {}
    booster = xgboost.train(
        model.get_xgb_params(),
        learned,
        num_boost_round=model.get_num_boosting_rounds(),
        evals=[(learned, "train"), (watched, "validation")],
        early_stopping_rounds=model.early_stopping_rounds,
        evals_result=evals_log,
        verbose_eval=False,
        callbacks=None if on_round is None else [_xgboost_callback(on_round)],
    )
    return *cut_to_best(booster, model.early_stopping_rounds), read_history(evals_log)


def read_history(evals_log: Mapping[str, Mapping[str, Sequence[float]]]) -> History:
    """Return the scores that XGBoost kept, by our names."""
    return {
        name: [float(score) for score in evals_log[window][metric]]
        for name, window, metric in XGBOOST_SCORES
    }


def cut_to_best(booster: Any, early_stopping_rounds: int | None) -> tuple[Any, int | None]:
    """Return a booster without the trees after its best round, and that round if there is one."""
    if not early_stopping_rounds:
        return booster, None
    best = int(booster.best_iteration)
    # A booster keeps the trees after its best round, and its `predict` uses them all.
    return booster[: best + 1], best


def _iterate(window: Batched, cache: Path | None = None) -> Any:
    """Return a window as XGBoost asks for it: several times, from the first batch to the last."""
    from xgboost import DataIter

    class Batches(DataIter):  # type: ignore[misc]  # xgboost is untyped here
        def reset(self) -> None:
            self._batches, self._rows = window.batches(), 0

        def next(self, input_data: Callable[..., None]) -> bool:
            X = next(self._batches, None)
            if X is None:
                return False
            start, self._rows = self._rows, self._rows + len(X)
            input_data(data=X, label=window.y[start : self._rows])
            return True

    return Batches(cache_prefix=None if cache is None else str(cache), release_data=True)


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
XGBOOST_SCORES = (
    ("train_log_loss", "train", "logloss"),
    ("train_auc_roc", "train", "auc"),
    ("validation_log_loss", "validation", "logloss"),
    ("validation_auc_roc", "validation", "auc"),
)


def _xgboost_callback(on_round: OnRound) -> Any:
    from xgboost.callback import TrainingCallback

    class RoundReporter(TrainingCallback):  # type: ignore[misc]  # xgboost is untyped here
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            del model
            scores = {name: evals_log[window][key][-1] for name, window, key in XGBOOST_SCORES}
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
