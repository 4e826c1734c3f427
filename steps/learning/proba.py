"""What a fitted model answers: the one way to ask any of them, also where it is served."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def predict_proba_up(model: Any, X: pd.DataFrame) -> NDArray[np.float64]:
    """Return the probability of a rise for each row.

    Parameters
    ----------
    model : xgboost.Booster or scikit-learn classifier
        As fitted here, or loaded from where it was stored.
    X : DataFrame, shape (n_rows, n_features)
        Features by name; order and further columns do not matter.

    Returns
    -------
    ndarray of float64, shape (n_rows,)

    Raises
    ------
    ValueError
        When a feature that the model was trained on is missing.
    """
    is_booster = not hasattr(model, "predict_proba")
    names = list(model.feature_names if is_booster else model.feature_names_in_)
    missing = [name for name in names if name not in X.columns]
    if missing:
        raise ValueError(
            f"The model was trained on features that are missing here: {missing}. "
            "Compute the features with the feature set of the model's snapshot."
        )
    if is_booster:
        from xgboost import DMatrix

        # XGBoost keeps single precision anyway, and reads an array sooner than a table.
        matrix = DMatrix(X[names].to_numpy(np.float32), feature_names=names)
        return np.asarray(model.predict(matrix), dtype=np.float64)
    return np.asarray(model.predict_proba(X[names])[:, 1], dtype=np.float64)
