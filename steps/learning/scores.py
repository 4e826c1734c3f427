"""How good a forecast is, beside forecasts that need no model."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

# What `score_classifier` gives.
SCORES = ("accuracy", "precision", "recall", "f1", "auc_roc", "log_loss", "brier_score")


def score_classifier(
    y_true: ArrayLike, y_proba: ArrayLike, *, threshold: float
) -> dict[str, float]:
    """Score probabilities, and the calls they become: up where above `threshold`.

    Parameters
    ----------
    y_true : array-like of 0 and 1, shape (n_rows,)
        What came.
    y_proba : array-like of float, shape (n_rows,)
        Forecast probability of 1.
    threshold : float
        A row is called up when its probability is above it.

    Returns
    -------
    dict of str to float
        `accuracy`, `precision`, `recall`, `f1` of the calls (0 where nothing was called or
        came up); `auc_roc` (NaN where all rows are of one class), `log_loss`, in nats, and
        `brier_score` of the probabilities.

    Raises
    ------
    ValueError
        On no rows, unequal lengths, labels other than 0 and 1, or probabilities outside
        [0, 1].
    """
    from sklearn.metrics import brier_score_loss, log_loss

    y, proba = check_forecast(y_true, y_proba)
    return {
        **_score_calls(y, proba > threshold),
        "auc_roc": auc_roc(y, proba),
        "log_loss": float(log_loss(y, proba, labels=[0, 1])),
        "brier_score": float(brier_score_loss(y, proba, labels=[0, 1], pos_label=1)),
    }


def base_rate_scores(y_true: ArrayLike, base_rate: ArrayLike) -> dict[str, float]:
    """Score the forecaster who always says `base_rate`, the train rows' share of ups.

    Its calls are all up if the rate is above one half, all down otherwise. It never tells one row
    of a test window from another, so its AUC is one half, whatever the rates of other windows.

    Parameters
    ----------
    y_true : array-like of 0 and 1, shape (n_rows,)
        What came.
    base_rate : float, or array-like of float, shape (n_rows,)
        One for all rows, or one for each where they were trained for on different windows.
    """
    rates = np.broadcast_to(np.asarray(base_rate, dtype=np.float64), np.shape(y_true))
    scored = score_classifier(y_true, rates, threshold=0.5)
    return {**scored, "auc_roc": scored["auc_roc"] * 0 + 0.5}  # NaN stays NaN


def ranking(predictions: pd.DataFrame) -> Floats:
    """Return what AUCs rank the rows of a predictions table by.

    That is its `score` where there is one (see `pool_predictions`), the `probability` otherwise.
    """
    name = "score" if "score" in predictions else "probability"
    return predictions[name].to_numpy(dtype=np.float64)


def persistence_forecast(table: pd.DataFrame, horizon: int) -> Floats:
    """Forecast that the coming days go where the days just past went.

    The forecast of a row is the label of its symbol's row `horizon` rows earlier: the
    direction of the return that ends on the row's own date, and so known on it.

    Parameters
    ----------
    table : DataFrame
        A feature table: `symbol`, `date` and `direction`, by symbol and date.
    horizon : int
        Trading days ahead, as in the label.

    Returns
    -------
    ndarray of float64, shape (n_rows,)
        1 for up, 0 for down, NaN in the first `horizon` rows of each symbol.

    Raises
    ------
    ValueError
        When a symbol's dates do not ascend.

    Examples
    --------
    >>> days = pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-03"])
    >>> table = pd.DataFrame({"symbol": "A", "date": days, "direction": [1, 0, 0]})
    >>> persistence_forecast(table, horizon=1).tolist()
    [nan, 1.0, 0.0]
    """
    steps = table.groupby("symbol", sort=False)["date"].diff()
    backwards = (steps <= pd.Timedelta(0)).to_numpy()
    if backwards.any():
        row = int(np.argmax(backwards))
        raise ValueError(
            f"The table must be sorted by symbol and date, but row {row} "
            f"({table['symbol'].iloc[row]}, {table['date'].iloc[row]:%Y-%m-%d}) is not after its "
            "symbol's row before."
        )
    earlier = table.groupby("symbol", sort=False)["direction"].shift(horizon)
    return earlier.to_numpy(dtype=np.float64, na_value=np.nan)


def persistence_rates(y_train: ArrayLike, forecast_train: ArrayLike) -> tuple[float, float]:
    """Return the train rows' share of ups after a down and after an up.

    It is what persistence says where a probability is asked for. A train window that never
    saw one of the two has its share of all ups instead.

    Parameters
    ----------
    y_train : array-like of 0 and 1, shape (n_rows,)
        Labels of the train rows.
    forecast_train : array-like of 0, 1 and NaN, shape (n_rows,)
        Their `persistence_forecast`.
    """
    y, past = np.asarray(y_train), np.asarray(forecast_train, dtype=np.float64)
    known = ~np.isnan(past)
    overall = y[known].mean() if known.any() else y.mean()
    after_down, after_up = (
        float(y[past == call].mean() if (past == call).any() else overall) for call in (0, 1)
    )
    return after_down, after_up


def persistence_scores(
    y_true: ArrayLike, forecast: ArrayLike, spoken: ArrayLike
) -> dict[str, float]:
    """Score persistence at its fairest; rows without a forecast are left out.

    Its calls, and the AUC, take the forecast as it is, 0 or 1. A certain forecast that errs
    has an infinite log-loss, so log-loss and Brier score let it speak in probabilities.

    Parameters
    ----------
    y_true : array-like of 0 and 1, shape (n_rows,)
        Labels of the rows to score.
    forecast : array-like of 0, 1 and NaN, shape (n_rows,)
        Their `persistence_forecast`.
    spoken : array-like of float, shape (n_rows,)
        The forecast as a probability: see `persistence_rates`.

    Returns
    -------
    dict of str to float
        As `score_classifier`; all NaN where no row has a forecast.
    """
    calls = np.asarray(forecast, dtype=np.float64)
    known = ~np.isnan(calls)
    if not known.any():
        return dict.fromkeys(SCORES, float("nan"))
    y, calls = check_forecast(np.asarray(y_true)[known], calls[known])
    scored = score_classifier(y, np.asarray(spoken, dtype=np.float64)[known], threshold=0.5)
    return {**scored, **_score_calls(y, calls == 1), "auc_roc": auc_roc(y, calls)}


def best_threshold(y_true: ArrayLike, y_proba: ArrayLike) -> float:
    """Return the threshold with the highest balanced accuracy (Youden's J, 1950).

    J is the share of ups called up, less the share of downs called up; a row is called up
    above the threshold. The threshold lies midway between two forecasts, or on 0.5 where 0.5
    parts the same rows. Of equals, the one nearest to 0.5 wins, then the lower. Where none is
    better than calling every row alike, it is 0.5.

    Parameters
    ----------
    y_true, y_proba : array-like, shape (n_rows,)
        Of the validation rows: choosing it on the test rows would flatter the test.
    """
    y, proba = check_forecast(y_true, y_proba)
    values = np.unique(proba)
    if len(values) < 2 or len(np.unique(y)) < 2:
        return 0.5
    middles = (values[:-1] + values[1:]) / 2
    halves = (values[:-1] <= 0.5) & (values[1:] > 0.5)
    cuts = np.where(halves, 0.5, middles)
    ups, downs = np.sort(proba[y == 1]), np.sort(proba[y == 0])
    # In whole numbers (J times both class sizes), so that equals are equal to the last bit.
    ups_above = len(ups) - np.searchsorted(ups, cuts, side="right")
    downs_above = len(downs) - np.searchsorted(downs, cuts, side="right")
    youden = ups_above * len(downs) - downs_above * len(ups)
    if youden.max() <= 0:
        return 0.5
    best = cuts[youden == youden.max()]
    return float(best[np.argmin(np.abs(best - 0.5))])


def check_forecast(y_true: ArrayLike, y_proba: ArrayLike) -> tuple[NDArray[np.int8], Floats]:
    """Return labels and probabilities as arrays, or say what is wrong with them."""
    y, proba = np.asarray(y_true), np.asarray(y_proba, dtype=np.float64)
    if y.ndim != 1 or y.shape != proba.shape or not len(y):
        raise ValueError(
            "One label and one probability per row, and at least one row, are needed; the shapes "
            f"are {y.shape} and {proba.shape}."
        )
    if not np.isin(y, (0, 1)).all():
        raise ValueError("Labels must be 0 and 1; leave rows without a label out.")
    if not ((proba >= 0) & (proba <= 1)).all():
        raise ValueError(
            f"Probabilities must lie in [0, 1]; they run from {proba.min()} to {proba.max()}."
        )
    return y.astype(np.int8), proba


def auc_roc(y: NDArray[np.int8], proba: Floats) -> float:
    """Return the area under the ROC curve; NaN where all rows are of one class."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(y, proba)) if len(np.unique(y)) == 2 else float("nan")


def _score_calls(y: NDArray[np.int8], calls: NDArray[np.bool_]) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    precision, recall, f1, _ = precision_recall_fscore_support(
        y, calls.astype(np.int8), average="binary", pos_label=1, zero_division=0
    )
    return {
        "accuracy": float(accuracy_score(y, calls)),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
    }
