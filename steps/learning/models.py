"""Classifiers of tomorrow's direction: one way to build, fit, ask and explain them all.

xgboost and scikit-learn's ensembles are heavy to import, so each is imported by the model
type that needs it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from steps.learning.boosting import Batched, OnRound, fit_hist_gradient_boosting, fit_xgboost

ModelType = Literal["xgboost", "logistic_regression", "random_forest", "hist_gradient_boosting"]

# What each model type understands: our hyperparameter and the library's word for it.
_XGBOOST = (
    *("learning_rate", "max_depth", "n_estimators", "subsample", "colsample_bytree"),
    *("min_child_weight", "gamma", "reg_alpha", "reg_lambda", "early_stopping_rounds"),
    *("random_state", "n_jobs", "device"),
)
_FOREST = ("max_depth", "n_estimators", "random_state", "n_jobs")
_LIBRARY_NAMES: dict[str, dict[str, str]] = {
    "xgboost": {name: name for name in _XGBOOST},
    "logistic_regression": {"reg_lambda": "C"},
    "random_forest": {name: name for name in _FOREST},
    "hist_gradient_boosting": {
        "learning_rate": "learning_rate",
        "max_depth": "max_depth",
        "n_estimators": "max_iter",
        "reg_lambda": "l2_regularization",
        "early_stopping_rounds": "n_iter_no_change",
        "random_state": "random_state",
    },
}
MODEL_TYPES = get_args(ModelType)
USED_BY: dict[str, tuple[str, ...]] = {
    model_type: tuple(names) for model_type, names in _LIBRARY_NAMES.items()
}
HYPERPARAMETERS = _XGBOOST  # it uses them all


@dataclass(frozen=True)
class FittedModel:
    """A fitted model and the rounds that led to it.

    Attributes
    ----------
    model_type : str
        One of `MODEL_TYPES`.
    model : xgboost.Booster or scikit-learn estimator
        An XGBoost model is its booster, cut to the best round, so that a plain
        `predict(DMatrix)` answers with the probability of a rise.
    best_iteration : int or None
        The round (from 0) with the lowest validation log-loss, kept with those before it;
        None where no round was chosen (no early stopping, or no rounds at all).
    history : dict of str to sequence of float
        Per round `train_log_loss`, `train_auc_roc`, `validation_log_loss` and
        `validation_auc_roc`; empty for models that do not learn in rounds.
    """

    model_type: str
    model: Any
    best_iteration: int | None = None
    history: Mapping[str, Sequence[float]] = field(default_factory=dict)


def build_classifier(model_type: str, **hyperparameters: Any) -> Any:
    """Return an unfitted classifier with scikit-learn's interface.

    Parameters
    ----------
    model_type : {'xgboost', 'logistic_regression', 'random_forest', 'hist_gradient_boosting'}
        Kind of model.
    **hyperparameters
        Any of `HYPERPARAMETERS`. Those that the model type does not use (see `USED_BY`) are
        left aside; those not given keep the library's default. `early_stopping_rounds=0`
        turns early stopping off, `max_depth=0` the limit on depth, `reg_lambda=0` the
        penalty; `n_jobs=0` takes every core.

    Raises
    ------
    ValueError
        On an unknown model type or hyperparameter.
    """
    if model_type not in MODEL_TYPES:
        raise ValueError(f"Unknown model_type {model_type!r}; choose one of {MODEL_TYPES}.")
    unknown = sorted(set(hyperparameters) - set(HYPERPARAMETERS))
    if unknown:
        raise ValueError(f"Unknown hyperparameters {unknown}; there are {HYPERPARAMETERS}.")
    names = _LIBRARY_NAMES[model_type]
    used = {names[name]: value for name, value in hyperparameters.items() if name in names}
    return _BUILDERS[model_type](used)


def fit_classifier(
    model_type: str,
    hyperparameters: Mapping[str, Any],
    X_train: pd.DataFrame,
    y_train: ArrayLike,
    X_validation: pd.DataFrame,
    y_validation: ArrayLike,
    *,
    on_round: OnRound | None = None,
) -> FittedModel:
    """Fit a classifier on the train rows; the validation rows choose where to stop.

    Parameters
    ----------
    model_type, hyperparameters
        As for `build_classifier`.
    X_train, X_validation : DataFrame, shape (n_rows, n_features)
        Finite features; same columns.
    y_train, y_validation : array-like of 0 and 1, shape (n_rows,)
        Directions.
    on_round : callable, optional
        Told the round (from 0) and its scores (see `FittedModel.history`): by XGBoost as it
        goes, by hist_gradient_boosting all at the end, by the others never.

    Raises
    ------
    ValueError
        On missing or infinite features, labels other than 0 and 1, an empty window, or one
        with labels of one class.
    """
    model = build_classifier(model_type, **hyperparameters)
    if list(X_train.columns) != list(X_validation.columns):
        raise ValueError("X_train and X_validation must have the same columns in the same order.")
    y_train = _checked_labels(X_train, y_train, "train")
    y_validation = _checked_labels(X_validation, y_validation, "validation")
    if model_type == "xgboost":
        return fit_booster(
            hyperparameters,
            Batched(lambda: iter([X_train]), y_train),
            Batched(lambda: iter([X_validation]), y_validation),
            on_round=on_round,
        )
    windows = (X_train, y_train, X_validation, y_validation)
    if model_type == "hist_gradient_boosting":
        return FittedModel(model_type, *fit_hist_gradient_boosting(model, windows, on_round))
    if model_type == "logistic_regression":
        # lbfgs works in the type it is given, and single precision is too coarse for it.
        X_train = X_train.astype(np.float64)
    model.fit(X_train, y_train)
    if model_type == "random_forest":
        # Threads add up the trees in the order they finish, and so not to the same last bit.
        model.set_params(n_jobs=1)
    return FittedModel(model_type, model)


def fit_booster(
    hyperparameters: Mapping[str, Any],
    train: Batched,
    validation: Batched,
    *,
    on_round: OnRound | None = None,
    cache: Path | None = None,
) -> FittedModel:
    """Fit XGBoost on features that come batch by batch, and need not be in memory together.

    Parameters
    ----------
    hyperparameters : mapping
        As for `build_classifier`.
    train, validation : Batched
        Finite features, 0 and 1 as labels.
    on_round : callable, optional
        As for `fit_classifier`.
    cache : Path, optional
        A folder: what XGBoost makes of the features, a byte of each, is kept in it rather than in
        memory, which takes longer.

    Returns
    -------
    FittedModel
        The same, to the bit, however the rows are batched, with or without `cache`.

    Raises
    ------
    ValueError
        If labels are other than 0 and 1, missing, or all the same.
    """
    model = build_classifier("xgboost", **hyperparameters)
    for window, name in ((train, "train"), (validation, "validation")):
        check_labels(window.y, name)
    return FittedModel("xgboost", *fit_xgboost(model, train, validation, on_round, cache=cache))


def check_labels(labels: NDArray[Any], window: str) -> None:
    """Make sure that a window can be learnt from.

    Raises
    ------
    ValueError
        If its labels are other than 0 and 1, missing, or all the same.
    """
    if not len(labels):
        raise ValueError(f"The {window} window has no rows.")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"The {window} labels must be 0 and 1; leave rows without a label out.")
    if labels.min() == labels.max():
        raise ValueError(
            f"All {len(labels)} {window} labels are {labels[0]}: there is nothing to tell apart. "
            "Bring a longer price history, or other sizes of the windows."
        )


def feature_importance(
    model: Any,
    names: Sequence[str],
    X_validation: pd.DataFrame,
    y_validation: ArrayLike,
    random_state: int,
) -> pd.DataFrame:
    """Say how much each feature matters to a fitted model, as shares that sum to 1.

    Gain summed over all splits for XGBoost, the coefficients' size on standardised features
    for logistic regression, impurity removed for a random forest, and for histogram boosting
    the rise in validation log-loss when a feature is shuffled (five times; a fall counts
    as 0). Shares of one kind of model do not compare with those of another.

    Parameters
    ----------
    model : xgboost.Booster or scikit-learn classifier
        As in `FittedModel.model`.
    names : sequence of str
        The features, in the order the model was trained on.
    X_validation, y_validation, random_state
        What to shuffle, the labels, and the seed; read for histogram boosting alone.

    Returns
    -------
    DataFrame
        Columns `feature` and `importance`, the most important first. All 0 where no feature
        was of use.
    """
    if hasattr(model, "get_score"):
        gains = model.get_score(importance_type="total_gain")
        values = np.array([gains.get(name, 0.0) for name in names])
    elif hasattr(model, "named_steps"):
        values = np.abs(model[-1].coef_[0])
    elif hasattr(model, "feature_importances_"):
        values = np.asarray(model.feature_importances_)
    else:
        values = _shuffled_loss(model, X_validation[list(names)], y_validation, random_state)
    total = values.sum()
    shares = values / total if total > 0 else np.zeros(len(names))
    order = np.argsort(-shares, kind="stable")
    return pd.DataFrame({"feature": np.array(names)[order], "importance": shares[order]})


def shap_values(model: Any, X: pd.DataFrame) -> pd.DataFrame | None:
    """Say what each feature added to each row's forecast, in log-odds (XGBoost's own TreeSHAP).

    Parameters
    ----------
    model : xgboost.Booster or scikit-learn classifier
        As in `FittedModel.model`.
    X : DataFrame, shape (n_rows, n_features)
        Features by name.

    Returns
    -------
    DataFrame, shape (n_rows, n_features), or None
        Positive pushes the forecast up. None for models that have no such values of their own:
        all but XGBoost's.

    References
    ----------
    S. M. Lundberg et al., "From local explanations to global understanding with explainable AI
    for trees", Nature Machine Intelligence 2 (2020).
    """
    if hasattr(model, "predict_proba"):
        return None
    from xgboost import DMatrix

    names = list(model.feature_names)
    added = model.predict(DMatrix(X[names]), pred_contribs=True)
    # The last column is what the model says of a row it knows nothing of.
    return pd.DataFrame(added[:, :-1], columns=names, index=X.index)


def _build_xgboost(used: dict[str, Any]) -> Any:
    from xgboost import XGBClassifier

    rounds = used.pop("early_stopping_rounds", 0)
    return XGBClassifier(
        objective="binary:logistic",
        tree_method="hist",
        # Early stopping watches the last metric on the last evaluation set.
        eval_metric=["auc", "logloss"],
        early_stopping_rounds=rounds or None,
        **used,
    )


def _build_logistic_regression(used: dict[str, Any]) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    penalty = used.get("C", 1.0)
    strength = 1 / penalty if penalty else np.inf
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))


def _build_random_forest(used: dict[str, Any]) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    used["max_depth"] = used.get("max_depth") or None
    used["n_jobs"] = used.get("n_jobs") or -1
    return RandomForestClassifier(**used)


def _build_hist_gradient_boosting(used: dict[str, Any]) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    used["max_depth"] = used.get("max_depth") or None
    rounds = used.pop("n_iter_no_change", 0)
    patience = {"n_iter_no_change": rounds} if rounds else {}
    return HistGradientBoostingClassifier(early_stopping=rounds > 0, tol=0.0, **patience, **used)


_BUILDERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "xgboost": _build_xgboost,
    "logistic_regression": _build_logistic_regression,
    "random_forest": _build_random_forest,
    "hist_gradient_boosting": _build_hist_gradient_boosting,
}


def _shuffled_loss(
    model: Any, X: pd.DataFrame, y: ArrayLike, random_state: int
) -> NDArray[np.float64]:
    from sklearn.inspection import permutation_importance

    result = permutation_importance(
        model, X, np.asarray(y), scoring="neg_log_loss", n_repeats=5, random_state=random_state
    )
    return np.maximum(np.asarray(result.importances_mean, dtype=np.float64), 0.0)


def _checked_labels(X: pd.DataFrame, y: ArrayLike, window: str) -> NDArray[np.int8]:
    """Return the labels as 0 and 1, after making sure that the window can be learnt from."""
    labels = np.asarray(y)
    if not len(X) or len(X) != len(labels):
        raise ValueError(f"The {window} window has {len(X)} rows and {len(labels)} labels.")
    check_labels(labels, window)
    finite = np.isfinite(X.to_numpy(dtype=np.float32))
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise ValueError(
            f"The {window} features hold {int((~finite).sum())} missing or infinite values, the "
            f"first in row {X.index[row]}, column {X.columns[column]!r}. Features are finite once "
            "the warm-up rows are dropped: check the prices they were computed from."
        )
    return labels.astype(np.int8)
